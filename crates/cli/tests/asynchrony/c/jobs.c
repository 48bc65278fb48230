// Waits for another component and hands on what it says, by the callbacks of the component's ABI: a function that has to
// wait leaves what it will need in the task's context, and says what it waits for.
#include <stdlib.h>
#include <string.h>

#include "link.h"

// What is needed when the answer is there. The answer is written into it, so it stays where it is until then.
typedef struct {
    link_waitable_set_t set;
    link_string_t text;
    union {
        uint32_t number;
        link_string_t text;
        test_later_jobs_result_u32_string_t outcome;
    } answer;
} waiting_t;

static link_callback_code_t wait_for(waiting_t *waiting, link_subtask_status_t status) {
    waiting->set = link_waitable_set_new();
    link_waitable_join(LINK_SUBTASK_HANDLE(status), waiting->set);
    link_context_set_0(waiting);
    return LINK_CALLBACK_CODE_WAIT(waiting->set);
}

static bool is_there(link_subtask_status_t status) { return LINK_SUBTASK_STATE(status) == LINK_SUBTASK_RETURNED; }

// What waited, once the answer is there; nothing while it is not.
static waiting_t *woken(link_event_t *event) {
    waiting_t *waiting = link_context_get_0();
    if (event->event != LINK_EVENT_SUBTASK || event->code != LINK_SUBTASK_RETURNED) return NULL;
    link_waitable_join(event->waitable, 0);
    link_subtask_drop(event->waitable);
    link_waitable_set_drop(waiting->set);
    return waiting;
}

static link_callback_code_t still(void) {
    waiting_t *waiting = link_context_get_0();
    return LINK_CALLBACK_CODE_WAIT(waiting->set);
}

static link_callback_code_t doubled(waiting_t *waiting) {
    exports_test_later_jobs_double_return(waiting->answer.number);
    free(waiting);
    return LINK_CALLBACK_CODE_EXIT;
}

link_callback_code_t exports_test_later_jobs_double(uint32_t value) {
    waiting_t *waiting = calloc(1, sizeof *waiting);
    link_subtask_status_t status = test_later_jobs_double(value, &waiting->answer.number);
    return is_there(status) ? doubled(waiting) : wait_for(waiting, status);
}

link_callback_code_t exports_test_later_jobs_double_callback(link_event_t *event) {
    waiting_t *waiting = woken(event);
    return waiting ? doubled(waiting) : still();
}

static link_callback_code_t followed(waiting_t *waiting) {
    link_string_free(&waiting->text);
    exports_test_later_jobs_follow_return(waiting->answer.text);
    free(waiting);
    return LINK_CALLBACK_CODE_EXIT;
}

link_callback_code_t exports_test_later_jobs_follow(link_string_t *trail) {
    waiting_t *waiting = calloc(1, sizeof *waiting);
    waiting->text.len = trail->len + 2;
    waiting->text.ptr = malloc(waiting->text.len);
    memcpy(waiting->text.ptr, trail->ptr, trail->len);
    memcpy(waiting->text.ptr + trail->len, " c", 2);
    link_string_free(trail);
    link_subtask_status_t status = test_later_jobs_follow(waiting->text, &waiting->answer.text);
    return is_there(status) ? followed(waiting) : wait_for(waiting, status);
}

link_callback_code_t exports_test_later_jobs_follow_callback(link_event_t *event) {
    waiting_t *waiting = woken(event);
    return waiting ? followed(waiting) : still();
}

static link_callback_code_t refused(waiting_t *waiting) {
    link_string_free(&waiting->text);
    exports_test_later_jobs_result_u32_string_t outcome;
    memcpy(&outcome, &waiting->answer.outcome, sizeof outcome);
    exports_test_later_jobs_refuse_return(outcome);
    free(waiting);
    return LINK_CALLBACK_CODE_EXIT;
}

link_callback_code_t exports_test_later_jobs_refuse(link_string_t *why) {
    waiting_t *waiting = calloc(1, sizeof *waiting);
    waiting->text = *why;
    link_subtask_status_t status = test_later_jobs_refuse(waiting->text, &waiting->answer.outcome);
    return is_there(status) ? refused(waiting) : wait_for(waiting, status);
}

link_callback_code_t exports_test_later_jobs_refuse_callback(link_event_t *event) {
    waiting_t *waiting = woken(event);
    return waiting ? refused(waiting) : still();
}
