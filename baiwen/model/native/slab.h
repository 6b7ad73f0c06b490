// Keys or values in a cache: fp32, bf16, or int8 codes with what they are times.
#pragma once

#include "vector.h"

#include <algorithm>
#include <type_traits>

template <typename T>
constexpr bool coded = std::is_same_v<std::remove_const_t<T>, int8_t>;

template <typename T>
struct Slab {
    T *at;  // [slots][K][D]
    std::conditional_t<std::is_const_v<T>, const float, float> *scales;  // [slots][K], of codes
};

// The numbers of a token and head into a cache.
static inline void keep(const float *x, int64_t size, float *to, float *) {
    memcpy(to, x, size * sizeof *x);
}

static inline void keep(const float *x, int64_t size, bf16 *to, float *) {
    for (int64_t d = 0; d < size; d++) narrow(x[d], to + d);
}

// Codes of -127 ... 127; a scale that is NaN where a number is not finite.
static inline void keep(const float *x, int64_t size, int8_t *to, float *scale) {
    vf most = {}, spoiled = {};
    for (int64_t d = 0; d < size; d += W) {
        const vf here = load(x + d, size - d);
        most = larger(here < 0 ? -here : here, most);
        spoiled += here - here;
    }
    float top = 0;
    for (int i = 0; i < W; i++) top = std::max(top, most[i]);
    const float factor = 127 / std::max(top, 1e-30f);
    for (int64_t d = 0; d < size; d += W) store(to + d, load(x + d, size - d) * factor, size - d);
    *scale = top / 127 + sum(spoiled);
}
