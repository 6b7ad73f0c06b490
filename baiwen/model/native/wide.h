// Panels of 12 and 8 bits by activations of 16: vpmaddwd, two products a lane, twice the rate of
// fp32 multiply-adds.
#pragma once
#include "codes.h"

namespace {

constexpr int64_t FEW = 12;  // rows of activations that read the weights in one pass
constexpr int64_t PART = 6;  // rows at once of more, which compute faster than they read

// sum + the products of each lane's two codes with a pair of activations.
inline Ints dot(Ints sum, Halves codes, Halves pair) {
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    return (Ints)_mm256_dpwssd_epi32((__m256i)sum, (__m256i)codes, (__m256i)pair);
#elif defined(__AVXVNNI__)
    return (Ints)_mm256_dpwssd_avx_epi32((__m256i)sum, (__m256i)codes, (__m256i)pair);
#elif defined(__AVX2__)
    return sum + (Ints)_mm256_madd_epi16((__m256i)codes, (__m256i)pair);
#else
    Ints a = (Ints)codes, b = (Ints)pair;
    return sum + (a << 16 >> 16) * (b << 16 >> 16) + (a >> 16) * (b >> 16);
#endif
}

// Steps of 2 inputs whose codes lie together, and the lines of 32 words that hold them.
template <int BITS> constexpr int STEPS = BITS == 12 ? 4 : 16 / BITS;
template <int BITS> constexpr int LINES = STEPS<BITS> * BITS / 16;

// The codes of the step number `place` of those, of eight rows.
template <int BITS> inline Halves pairs(const int16_t *packed, int place) {
    const auto line = [&](int number) { return read<Halves>(packed + 2 * PANEL * number); };
    if constexpr (BITS == 16) return line(0);
    if constexpr (BITS == 8) return place ? line(0) >> 8 : line(0) << 8 >> 8;
    if (place < 3) return line(place) >> 4;
    return line(2) << 12 >> 4 | (line(1) & 15) << 4 | (line(0) & 15);
}

// 16 outputs of M rows of activations. The accumulators must fit into 16 registers: up to 6 rows
// take both vectors of a panel at once, more rows one after the other. What lies `ahead` words on is
// fetched.
template <int BITS, int M>
inline void wide_rows(const int16_t *packed, const Part &x, int64_t groups, const float *bias,
                      float *out, int64_t stride, int64_t ahead) {
    constexpr int ABREAST = M <= 6 ? 2 : 1;
    constexpr int64_t SIZE = 2 * PANEL * LINES<BITS>;
    Floats total[M][2];
    for (int half = 0; half < 2; ++half)
        for (int m = 0; m < M; ++m) total[m][half] = bias ? read<Floats>(bias + 8 * half) : Floats{};
    for (int64_t group = 0; group < groups; ++group, packed += WORDS<BITS>) {
        const float *x_scales = x.scales + group * M;
        for (int first = 0; first < 2; first += ABREAST) {
            const int32_t *lanes = x.lanes + group * GROUP / 2 * M;
            Ints sum[M][ABREAST] = {};
            for (int64_t word = 0; word < CODES<BITS>; word += SIZE, lanes += STEPS<BITS> * M) {
                for (int64_t line = 0; first == 0 && line < SIZE; line += 2 * PANEL)
                    __builtin_prefetch(packed + word + line + ahead);
#pragma GCC unroll 4
                for (int place = 0; place < STEPS<BITS>; ++place) {
                    Halves codes[ABREAST];
                    for (int half = 0; half < ABREAST; ++half)
                        codes[half] = pairs<BITS>(packed + word + PANEL * (first + half), place);
#pragma GCC unroll 12
                    for (int m = 0; m < M; ++m) {
                        const Halves pair = (Halves)(Ints{} + lanes[place * M + m]);
                        for (int half = 0; half < ABREAST; ++half)
                            sum[m][half] = dot(sum[m][half], codes[half], pair);
                    }
                }
            }
            for (int half = 0; half < ABREAST; ++half) {
                const Floats scale = from_bf16(packed + CODES<BITS> + 8 * (first + half));
                for (int m = 0; m < M; ++m) {
                    const Floats inner = __builtin_convertvector(sum[m][half], Floats);
                    total[m][first + half] += inner * x_scales[m] * scale;
                }
            }
        }
    }
    for (int m = 0; m < M; ++m) std::memcpy(out + m * stride, total[m], sizeof total[m]);
}

template <int BITS>
inline void wide_rows(const int16_t *packed, const Part &x, int64_t groups, const float *bias,
                      float *out, int64_t stride, int64_t ahead) {
    switch (x.count) {
#define CASE(M) \
    case M: return wide_rows<BITS, M>(packed, x, groups, bias, out, stride, ahead)
        CASE(1); CASE(2); CASE(3); CASE(4); CASE(5); CASE(6);
        CASE(7); CASE(8); CASE(9); CASE(10); CASE(11); CASE(12);
#undef CASE
    }
}

// A panel with its codes widened to 16 bits, for many rows of activations.
template <int BITS> void unfold(const int16_t *packed, int64_t groups, int16_t *into) {
    constexpr int64_t SIZE = 2 * PANEL * LINES<BITS>, TAIL = WORDS<BITS> - CODES<BITS>;
    for (int64_t group = 0; group < groups; ++group, packed += WORDS<BITS>) {
        for (int64_t word = 0; word < CODES<BITS>; word += SIZE)
#pragma GCC unroll 4
            for (int place = 0; place < STEPS<BITS>; ++place, into += 2 * PANEL)
                for (int half = 0; half < 2; ++half) {
                    const Halves codes = pairs<BITS>(packed + word + PANEL * half, place);
                    std::memcpy(into + PANEL * half, &codes, sizeof codes);
                }
        std::memcpy(into, packed + CODES<BITS>, sizeof(int16_t) * TAIL);
        into += TAIL;
    }
}

// Rows of activations by all panels; bias may be null.
template <int BITS>
void wide(const Activations<BITS> &x, const int16_t *packed, const float *bias, float *out,
          int64_t outputs) {
    const int64_t panels = outputs / PANEL, size = x.groups * WORDS<BITS>;
    const bool unfolded = x.parts > 1;
#pragma omp parallel
    {
        std::vector<int16_t> unpacked(unfolded ? x.groups * WORDS<16> : 0);
#pragma omp for schedule(dynamic, chunk(panels))
        for (int64_t panel = 0; panel < panels; ++panel) {
            const int16_t *codes = packed + panel * size;
            if (unfolded) unfold<BITS>(codes, x.groups, unpacked.data());
            for (int64_t p = 0; p < x.parts; ++p) {
                const Part part = x.part(p);
                const float *added = bias ? bias + panel * PANEL : nullptr;
                float *to = out + part.first * outputs + panel * PANEL;
                if (unfolded)
                    wide_rows<16>(unpacked.data(), part, x.groups, added, to, outputs, 0);
                else
                    wide_rows<BITS>(codes, part, x.groups, added, to, outputs, AHEAD);
            }
        }
    }
}

}  // namespace
