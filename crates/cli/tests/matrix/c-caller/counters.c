// A resource, how many there are of it, and all that can be done with the one of another component.
#include <stdlib.h>

#include "caller.h"

struct exports_test_matrix_counters_counter_t {
    uint32_t value;
    exports_test_matrix_counters_colour_t colour;
};

static uint32_t live;

static exports_test_matrix_counters_own_counter_t made(uint32_t value, exports_test_matrix_counters_colour_t colour) {
    exports_test_matrix_counters_counter_t *counter = malloc(sizeof *counter);
    counter->value = value;
    counter->colour = colour;
    live++;
    return exports_test_matrix_counters_counter_new(counter);
}

void exports_test_matrix_counters_counter_destructor(exports_test_matrix_counters_counter_t *counter) {
    live--;
    free(counter);
}

exports_test_matrix_counters_own_counter_t
exports_test_matrix_counters_constructor_counter(uint32_t start, exports_test_matrix_counters_colour_t colour) {
    return made(start, colour);
}

uint32_t exports_test_matrix_counters_method_counter_add(exports_test_matrix_counters_borrow_counter_t self,
                                                         exports_test_matrix_counters_step_t *step) {
    self->value += step->by + step->label.len;
    exports_test_matrix_counters_step_free(step);
    return self->value;
}

exports_test_matrix_counters_colour_t
exports_test_matrix_counters_method_counter_colour(exports_test_matrix_counters_borrow_counter_t self) {
    return self->colour;
}

// What is owned is dropped here.
exports_test_matrix_counters_own_counter_t
exports_test_matrix_counters_static_counter_merge(exports_test_matrix_counters_own_counter_t a,
                                                  exports_test_matrix_counters_borrow_counter_t b) {
    uint32_t value = exports_test_matrix_counters_counter_rep(a)->value + b->value;
    exports_test_matrix_counters_counter_drop_own(a);
    return made(value, b->colour);
}

exports_test_matrix_counters_own_counter_t exports_test_matrix_counters_make(uint32_t start) {
    return made(start, TEST_MATRIX_ECHO_COLOUR_GREEN);
}

uint32_t exports_test_matrix_counters_read(exports_test_matrix_counters_borrow_counter_t counter) {
    return counter->value;
}

uint32_t exports_test_matrix_counters_close(exports_test_matrix_counters_own_counter_t counter) {
    uint32_t value = exports_test_matrix_counters_counter_rep(counter)->value;
    exports_test_matrix_counters_counter_drop_own(counter);
    return value;
}

uint32_t exports_test_matrix_counters_live(void) { return live; }

void exports_test_matrix_drive_run(caller_list_u32_t *ret) {
    ret->len = 8;
    ret->ptr = malloc(ret->len * sizeof *ret->ptr);
    test_matrix_asked_own_counter_t a =
        test_matrix_asked_constructor_counter(40, TEST_MATRIX_ECHO_COLOUR_RED);
    test_matrix_asked_step_t step = {.by = 2};
    caller_string_set(&step.label, "two");
    ret->ptr[0] = test_matrix_asked_method_counter_add(test_matrix_asked_borrow_counter(a), &step);
    test_matrix_asked_own_counter_t b = test_matrix_asked_make(7);
    ret->ptr[1] = test_matrix_asked_read(test_matrix_asked_borrow_counter(b));
    ret->ptr[2] = test_matrix_asked_live();
    test_matrix_asked_own_counter_t merged =
        test_matrix_asked_static_counter_merge(a, test_matrix_asked_borrow_counter(b));
    ret->ptr[3] = test_matrix_asked_method_counter_colour(test_matrix_asked_borrow_counter(merged));
    ret->ptr[4] = test_matrix_asked_live();
    ret->ptr[5] = test_matrix_asked_close(merged);
    ret->ptr[6] = test_matrix_asked_live();
    test_matrix_asked_counter_drop_own(b);
    ret->ptr[7] = test_matrix_asked_live();
}
