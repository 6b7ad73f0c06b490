// Panels of 6 and 4 bits by activations of 8: four products a lane at once.
#pragma once
#include "codes.h"

namespace {

constexpr int64_t BAND = 8;  // rows of activations at once

#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
typedef Ints Partial;
inline Partial meet(Partial sum, Ints codes, Ints x) {
    return (Ints)_mm256_dpbusd_epi32((__m256i)sum, (__m256i)codes, (__m256i)x);
}
#elif defined(__AVXVNNI__)
typedef Ints Partial;
inline Partial meet(Partial sum, Ints codes, Ints x) {
    return (Ints)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)codes, (__m256i)x);
}
#elif defined(__AVX2__)
typedef Halves Partial;  // two products in each half of a lane
inline Partial meet(Partial sum, Ints codes, Ints x) {
    return sum + (Halves)_mm256_maddubs_epi16((__m256i)codes, (__m256i)x);
}
inline Ints whole(Halves sums) {
    return (Ints)_mm256_madd_epi16((__m256i)sums, _mm256_set1_epi16(1));
}
#else
typedef Ints Partial;
inline Partial meet(Partial sum, Ints codes, Ints x) {
    for (int byte = 0; byte < 32; byte += 8)
        sum += (codes >> byte & 255) * (x << (24 - byte) >> 24);
    return sum;
}
#endif
inline Ints whole(Ints sums) { return sums; }

// Codes of four inputs each that add up within 16 bits: 8 * 2 * 15 * 127, 2 * 2 * 63 * 127.
template <int BITS> constexpr int DEPTH = BITS == 4 ? 8 : 2;

// The codes of the inputs 4 * step ... 4 * step + 3 of eight rows.
template <int BITS> inline Ints unpack(const int16_t *group, int step) {
    const auto line = [&](int number) { return read<Ints>(group + 2 * PANEL * number); };
    if constexpr (BITS == 4) return (step % 2 ? line(step / 2) >> 4 : line(step / 2)) & 0x0f0f0f0f;
    const int first = step / 4 * 3;
    if (step % 4 < 3) return line(first + step % 4) & 0x3f3f3f3f;
    return (line(first) >> 6 & 0x03030303) | (line(first + 1) >> 4 & 0x0c0c0c0c) |
           (line(first + 2) >> 2 & 0x30303030);
}

// 16 outputs of M rows of activations, which meet both vectors of a panel at once where the sums
// fit into 16 registers. What lies `ahead` words on is fetched.
template <int BITS, int M>
inline void narrow_rows(const int16_t *packed, const Part &x, int64_t groups, const float *bias,
                        float *out, int64_t stride, int64_t ahead) {
    constexpr int ABREAST = M <= 2 ? 2 : 1, DEEP = DEPTH<BITS>;
    Floats total[M][2];
    for (int half = 0; half < 2; ++half)
        for (int m = 0; m < M; ++m) total[m][half] = bias ? read<Floats>(bias + 8 * half) : Floats{};
    for (int64_t group = 0; group < groups; ++group, packed += WORDS<BITS>) {
        for (int64_t word = 0; word < WORDS<BITS>; word += 32)
            __builtin_prefetch(packed + word + ahead);
        const int32_t *lanes = x.lanes + group * GROUP / 4 * M;
        const float *x_scales = x.scales + group * M, *x_sums = x.sums + group * M;
        for (int first = 0; first < 2; first += ABREAST) {
            asm("" : "+r"(lanes));  // else the lanes of one half are kept in memory for the other
            Ints sum[M][ABREAST] = {};
#pragma GCC unroll 8
            for (int begin = 0; begin < GROUP / 4; begin += DEEP) {
                Partial part[M][ABREAST] = {};
#pragma GCC unroll 8
                for (int step = begin; step < begin + DEEP; ++step) {
                    Ints codes[ABREAST];
                    for (int half = 0; half < ABREAST; ++half)
                        codes[half] = unpack<BITS>(packed + PANEL * (first + half), step);
#pragma GCC unroll 8
                    for (int m = 0; m < M; ++m) {
                        const Ints four = Ints{} + lanes[step * M + m];
                        for (int half = 0; half < ABREAST; ++half)
                            part[m][half] = meet(part[m][half], codes[half], four);
                    }
                }
                for (int m = 0; m < M; ++m)
                    for (int half = 0; half < ABREAST; ++half) sum[m][half] += whole(part[m][half]);
            }
            for (int half = 0; half < ABREAST; ++half) {
                const int16_t *scales = packed + CODES<BITS> + 8 * (first + half);
                const Floats scale = from_bf16(scales);
                const Floats least = BITS == 4 ? from_bf16(scales + PANEL) : scale * -32.f;
                for (int m = 0; m < M; ++m) {
                    const Floats inner = __builtin_convertvector(sum[m][half], Floats);
                    Floats &sums = total[m][first + half];
                    sums += inner * x_scales[m] * scale;
                    sums += least * x_sums[m];
                }
            }
        }
    }
    for (int m = 0; m < M; ++m) std::memcpy(out + m * stride, total[m], sizeof total[m]);
}

template <int BITS>
inline void narrow_rows(const int16_t *packed, const Part &x, int64_t groups, const float *bias,
                        float *out, int64_t stride, int64_t ahead) {
    switch (x.count) {
#define CASE(M) \
    case M: return narrow_rows<BITS, M>(packed, x, groups, bias, out, stride, ahead)
        CASE(1); CASE(2); CASE(3); CASE(4); CASE(5); CASE(6); CASE(7); CASE(8);
#undef CASE
    }
}

// Rows of activations by all panels; bias may be null.
template <int BITS>
void narrow(const Activations<BITS> &x, const int16_t *packed, const float *bias, float *out,
            int64_t outputs) {
    const int64_t panels = outputs / PANEL, size = x.groups * WORDS<BITS>;
#pragma omp parallel for schedule(dynamic, chunk(panels))
    for (int64_t panel = 0; panel < panels; ++panel)
        for (int64_t p = 0; p < x.parts; ++p) {
            const Part part = x.part(p);
            narrow_rows<BITS>(packed + panel * size, part, x.groups,
                              bias ? bias + panel * PANEL : nullptr,
                              out + part.first * outputs + panel * PANEL, outputs, p ? 0 : AHEAD);
        }
}

}  // namespace
