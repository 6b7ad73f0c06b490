// Linears for inference over weights of 12, 8, 6 or 4 bits, and embeddings from them (codes.h).
#pragma once
#include "narrow.h"
#include "wide.h"

namespace {

template <int BITS>
void linear(const float *x, int64_t x_stride, int64_t rows, int64_t inputs, const int16_t *packed,
            const float *bias, float *out, int64_t outputs) {
    thread_local Activations<BITS> taken;
    const int64_t most = NARROW<BITS> ? BAND : rows <= FEW ? FEW : PART;
    taken.take(x, x_stride, rows, inputs, most);
    if constexpr (NARROW<BITS>)
        narrow<BITS>(taken, packed, bias, out, outputs);
    else
        wide<BITS>(taken, packed, bias, out, outputs);
}

// Row `id` of the weights, as fp32.
template <int BITS>
void look_up(const int16_t *packed, int64_t id, int64_t inputs, float *out) {
    const int64_t groups = (inputs + GROUP - 1) / GROUP, row = id % PANEL;
    packed += id / PANEL * groups * WORDS<BITS>;
    for (int64_t k = 0; k < inputs; ++k) {
        const int16_t *group = packed + k / GROUP * WORDS<BITS>, *scales = group + CODES<BITS>;
        const auto value = [](int16_t bf16) {
            const uint32_t bits = uint32_t(uint16_t(bf16)) << 16;
            return read<float>(&bits);
        };
        const float least = BITS == 4 ? value(scales[PANEL + row]) : 0.f;
        out[k] = float(code<BITS>(group, row, k % GROUP)) * value(scales[row]) + least;
    }
}

inline void linear(int bits, const float *x, int64_t x_stride, int64_t rows, int64_t inputs,
                   const void *packed, const float *bias, float *out, int64_t outputs) {
    const auto *codes = static_cast<const int16_t *>(packed);
    with_bits(bits, [&](auto b) {
        linear<b>(x, x_stride, rows, inputs, codes, bias, out, outputs);
    });
}

}  // namespace
