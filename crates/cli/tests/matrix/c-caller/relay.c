// Asks another component and hands on what it says. What is passed in belongs to us, and what we ask with stays ours.
#include "caller.h"

#define RELAY(name, type, release)                                         \
    void exports_test_matrix_relay_##name(type *v, type *ret) {            \
        test_matrix_echo_##name(v, ret);                                   \
        release(v);                                                        \
    }
#define RELAY_SCALAR(name, type) \
    type exports_test_matrix_relay_##name(type v) { return test_matrix_echo_##name(v); }

static void nothing(void *v) { (void)v; }

RELAY(scalars_of, test_matrix_echo_scalars_t, nothing)
RELAY_SCALAR(truth, bool)
RELAY_SCALAR(unsigned, uint64_t)
RELAY_SCALAR(signed, int64_t)
RELAY_SCALAR(single, float)
RELAY_SCALAR(double, double)
RELAY_SCALAR(letter, uint32_t)
RELAY(text, caller_string_t, caller_string_free)
RELAY(bytes, caller_list_u8_t, caller_list_u8_free)
RELAY(nested, caller_list_list_string_t, caller_list_list_string_free)
RELAY(pair, caller_tuple2_u32_string_t, caller_tuple2_u32_string_free)
RELAY(shape_of, test_matrix_echo_shape_t, test_matrix_echo_shape_free)
RELAY_SCALAR(colour_of, test_matrix_echo_colour_t)
RELAY_SCALAR(perms_of, test_matrix_echo_perms_t)
RELAY(results, test_matrix_echo_list_result_u32_string_t, test_matrix_echo_list_result_u32_string_free)

// The list of the interface that is exported is a type of its own, of the same form.
void exports_test_matrix_relay_people(exports_test_matrix_relay_list_person_t *v,
                                      exports_test_matrix_relay_list_person_t *ret) {
    test_matrix_echo_list_person_t asked = {v->ptr, v->len}, answered;
    test_matrix_echo_people(&asked, &answered);
    ret->ptr = answered.ptr;
    ret->len = answered.len;
    exports_test_matrix_relay_list_person_free(v);
}

bool exports_test_matrix_relay_maybe(caller_string_t *maybe_v, caller_string_t *ret) {
    bool is_some = test_matrix_echo_maybe(maybe_v, ret);
    if (maybe_v) caller_string_free(maybe_v);
    return is_some;
}

bool exports_test_matrix_relay_deep(caller_option_u32_t *maybe_v, caller_option_u32_t *ret) {
    return test_matrix_echo_deep(maybe_v, ret);
}

void exports_test_matrix_relay_small(uint8_t a, int8_t b, uint16_t c, int16_t d, uint32_t e, int32_t f,
                                     caller_tuple6_u8_s8_u16_s16_u32_s32_t *ret) {
    test_matrix_echo_small(a, b, c, d, e, f, ret);
}

bool exports_test_matrix_relay_outcome(bool fails, uint32_t number, caller_string_t *reason, uint32_t *ret,
                                       caller_string_t *err) {
    bool is_ok = test_matrix_echo_outcome(fails, number, reason, ret, err);
    caller_string_free(reason);
    return is_ok;
}
