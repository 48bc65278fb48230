#include "provider.h"

// What is passed in belongs to the function, which hands it on.
#define SAME(name, type) void exports_test_matrix_echo_##name(type *v, type *ret) { *ret = *v; }
#define SAME_SCALAR(name, type) type exports_test_matrix_echo_##name(type v) { return v; }

SAME(scalars_of, exports_test_matrix_echo_scalars_t)
SAME_SCALAR(truth, bool)
SAME_SCALAR(unsigned, uint64_t)
SAME_SCALAR(signed, int64_t)
SAME_SCALAR(single, float)
SAME_SCALAR(double, double)
SAME_SCALAR(letter, uint32_t)
SAME(text, provider_string_t)
SAME(bytes, provider_list_u8_t)
SAME(nested, provider_list_list_string_t)
SAME(pair, provider_tuple2_u32_string_t)
SAME(people, exports_test_matrix_echo_list_person_t)
SAME(shape_of, exports_test_matrix_echo_shape_t)
SAME_SCALAR(colour_of, exports_test_matrix_echo_colour_t)
SAME_SCALAR(perms_of, exports_test_matrix_echo_perms_t)

bool exports_test_matrix_echo_maybe(provider_string_t *maybe_v, provider_string_t *ret) {
    if (maybe_v) *ret = *maybe_v;
    return maybe_v != 0;
}

bool exports_test_matrix_echo_outcome(bool fails, uint32_t number, provider_string_t *reason, uint32_t *ret,
                                      provider_string_t *err) {
    if (fails) {
        *err = *reason;
    } else {
        provider_string_free(reason);
        *ret = number;
    }
    return !fails;
}
