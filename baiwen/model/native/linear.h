// Linears for inference over weights of 16, 8 or 4 bits: integers in groups of 64 with one scale.
//
// A weight of output row n and input k is  scale * code (+ least, with 4 bits),  scale and least per
// row and group of 64 inputs. Activations become 16-bit integers with a scale per row and group as
// they come, so every group is an exact integer dot product (vpmaddwd: two products a lane, twice
// the rate of fp32 multiply-adds), and only the sums over groups are rounded, always in the same
// order. A row's result is therefore the same bits whatever else is in the batch, and on any number
// of threads.
//
// Layout (`codes.py` writes it): panels of 16 output rows; in a panel, group after group; in a
// group the codes, then 16 bf16 scales, then with 4 bits 16 bf16 least weights. Codes lie as two
// vectors of 8 rows x 2 inputs of 16 bits; a 16-bit lane holds 16/BITS codes of one row, those of
// the inputs k, k + 2, k + 4 ... from its lowest bits up.

#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>
#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace {

constexpr int64_t GROUP = 64, PANEL = 16;
constexpr int64_t FEW = 12;      // rows of activations that read the weights in one pass
constexpr int64_t PART = 6;      // rows at once of more, which compute faster than they read
constexpr int64_t AHEAD = 2048;  // words from what is used to what is fetched from memory

typedef int16_t Halves __attribute__((vector_size(32)));
typedef int32_t Ints __attribute__((vector_size(32)));
typedef float Floats __attribute__((vector_size(32)));

// The largest code of an activation: products of a group of 64 must add up within 32 bits, with
// weights of at most 4095 (16 bits), 127 (8 bits), 15 (4 bits).
template <int BITS> constexpr float LIMIT = BITS == 16 ? 8191.f : 32767.f;
// 16-bit words of a group in a panel.
template <int BITS> constexpr int64_t CODES = GROUP * PANEL * BITS / 16;
template <int BITS> constexpr int64_t WORDS = CODES<BITS> + (BITS == 4 ? 2 : 1) * PANEL;

template <class V> inline V read(const void *from) {
    V value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

inline Floats wide(const int16_t *bf16) {  // eight bf16 as fp32
    uint16_t narrow __attribute__((vector_size(16)));
    std::memcpy(&narrow, bf16, sizeof narrow);
    return (Floats)(__builtin_convertvector(narrow, Ints) << 16);
}

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

// The codes number `place` of all lanes.
template <int BITS> inline Halves unpack(Halves packed, int place) {
    if constexpr (BITS == 16) return packed;
    if constexpr (BITS == 8) return place ? packed >> 8 : packed << 8 >> 8;
    return packed >> (4 * place) & 15;
}

inline Halves pair(const int16_t *from) {
    int32_t both;
    std::memcpy(&both, from, sizeof both);
    return (Halves)(Ints{} + both);
}

// Activations as integers: codes [M, groups * 64], and of each row and group the scale and the sum.
struct Activations {
    std::vector<int16_t> codes;
    std::vector<float> scales, sums;

    template <int BITS> void take(const float *x, int64_t stride, int64_t m, int64_t inputs) {
        const int64_t groups = (inputs + GROUP - 1) / GROUP;
        codes.resize(m * groups * GROUP);
        scales.resize(m * groups);
        sums.resize(m * groups);
#pragma omp parallel for if (m > 8)
        for (int64_t row = 0; row < m; ++row)
            for (int64_t group = 0; group < groups; ++group) {
                const int64_t place = row * groups + group, begin = group * GROUP;
                float values[GROUP] = {};
                std::memcpy(values, x + row * stride + begin,
                            sizeof(float) * std::min(GROUP, inputs - begin));
                round<BITS>(values, place);
            }
    }

    template <int BITS> void round(const float *values, int64_t place) {
        constexpr int LANES = 8;
        Floats tops = {}, broken = {};  // NaN where a value is NaN or infinite
        for (int64_t k = 0; k < GROUP; k += LANES) {
            const Floats x = read<Floats>(values + k), size = x < 0.f ? -x : x;
            tops = size > tops ? size : tops;
            broken += x * 0.f;
        }
        float largest = 0, sound = 0;
        for (int i = 0; i < LANES; ++i) largest = std::max(largest, tops[i]), sound += broken[i];
        const bool nothing = !(largest > 1e-30f) || sound != 0;
        const float inverse = nothing ? 0.f : LIMIT<BITS> / largest;
        Ints sums_of_lanes = {};
        for (int64_t k = 0; k < GROUP; k += LANES) {
            const Floats scaled = nothing ? Floats{} : read<Floats>(values + k) * inverse;
            const Floats half = scaled < 0.f ? Floats{} - .5f : Floats{} + .5f;
            const Ints code = __builtin_convertvector(scaled + half, Ints);
            int16_t narrow __attribute__((vector_size(16)));
            narrow = __builtin_convertvector(code, decltype(narrow));
            std::memcpy(&codes[place * GROUP + k], &narrow, sizeof narrow);
            sums_of_lanes += code;
        }
        int32_t sum = 0;
        for (int i = 0; i < LANES; ++i) sum += sums_of_lanes[i];
        scales[place] = (nothing ? 0.f : largest / LIMIT<BITS>) + sound;
        sums[place] = scales[place] * float(sum);
    }
};

// 16 outputs of M rows of activations. `packed` steps from group to group; with `LEAST` the least
// weights follow the scales. The accumulators must fit into 16 registers: up to 6 rows take both
// vectors of a panel at once, more rows one after the other. What lies `ahead` words on is fetched.
template <int BITS, bool LEAST, int M>
inline void multiply(const int16_t *packed, const Activations &x, int64_t row, int64_t groups,
                     const float *bias, float *out, int64_t stride, int64_t ahead) {
    constexpr int FIELDS = 16 / BITS, ABREAST = M <= 6 ? 2 : 1;
    constexpr int64_t SIZE = CODES<BITS> + (LEAST ? 2 : 1) * PANEL;
    Floats total[M][2];
    for (int half = 0; half < 2; ++half)
        for (int m = 0; m < M; ++m) total[m][half] = bias ? read<Floats>(bias + 8 * half) : Floats{};
    for (int64_t group = 0; group < groups; ++group, packed += SIZE) {
        const int16_t *from = &x.codes[(row * groups + group) * GROUP];
        const int64_t next = groups * GROUP;  // row
        for (int first = 0; first < 2; first += ABREAST) {
            Ints sum[M][ABREAST] = {};
            for (int64_t word = 0; word < CODES<BITS>; word += 32) {
                if (first == 0) __builtin_prefetch(packed + word + ahead);
                Halves codes[ABREAST];
                for (int half = 0; half < ABREAST; ++half)
                    codes[half] = read<Halves>(packed + word + 16 * (first + half));
#pragma GCC unroll 4
                for (int field = 0; field < FIELDS; ++field)
#pragma GCC unroll 12
                    for (int m = 0; m < M; ++m) {
                        const Halves both = pair(from + m * next + word / 16 * FIELDS + 2 * field);
                        for (int half = 0; half < ABREAST; ++half)
                            sum[m][half] = dot(sum[m][half], unpack<BITS>(codes[half], field), both);
                    }
            }
            for (int half = 0; half < ABREAST; ++half) {
                const int16_t *scales = packed + CODES<BITS> + 8 * (first + half);
                const Floats scale = wide(scales), least = LEAST ? wide(scales + PANEL) : Floats{};
                for (int m = 0; m < M; ++m) {
                    const int64_t place = (row + m) * groups + group;
                    const Floats inner = __builtin_convertvector(sum[m][half], Floats);
                    Floats &sums = total[m][first + half];
                    sums += inner * x.scales[place] * scale;
                    if (LEAST) sums += least * x.sums[place];
                }
            }
        }
    }
    for (int m = 0; m < M; ++m) std::memcpy(out + m * stride, total[m], sizeof total[m]);
}

template <int BITS, bool LEAST>
inline void multiply(int64_t m, const int16_t *packed, const Activations &x, int64_t row,
                     int64_t groups, const float *bias, float *out, int64_t stride, int64_t ahead) {
    switch (m) {
#define CASE(M) \
    case M: return multiply<BITS, LEAST, M>(packed, x, row, groups, bias, out, stride, ahead)
        CASE(1); CASE(2); CASE(3); CASE(4); CASE(5); CASE(6);
        CASE(7); CASE(8); CASE(9); CASE(10); CASE(11); CASE(12);
#undef CASE
    }
}

// A panel with its codes widened to 16 bits, for many rows of activations.
template <int BITS> void unfold(const int16_t *packed, int64_t groups, int16_t *into) {
    constexpr int FIELDS = 16 / BITS;
    constexpr int64_t TAIL = WORDS<BITS> - CODES<BITS>;
    for (int64_t group = 0; group < groups; ++group, packed += WORDS<BITS>) {
        for (int64_t word = 0; word < CODES<BITS>; word += 32)
            for (int field = 0; field < FIELDS; ++field, into += 32)
                for (int half = 0; half < 2; ++half) {
                    const Halves codes = unpack<BITS>(read<Halves>(packed + word + 16 * half), field);
                    std::memcpy(into + 16 * half, &codes, sizeof codes);
                }
        std::memcpy(into, packed + CODES<BITS>, sizeof(int16_t) * TAIL);
        into += TAIL;
    }
}

template <int BITS>
void linear(const float *x, int64_t x_stride, int64_t rows, int64_t inputs, const int16_t *packed,
            const float *bias, float *out, int64_t outputs) {
    constexpr bool LEAST = BITS == 4;
    thread_local Activations taken;
    Activations &given = taken;  // a thread_local of its own in each thread of the team otherwise
    given.take<BITS>(x, x_stride, rows, inputs);
    const int64_t groups = (inputs + GROUP - 1) / GROUP, panels = outputs / PANEL;
    const int64_t size = groups * WORDS<BITS>;
    const int64_t chunk = std::clamp<int64_t>(panels / 32, 1, 16);
    if (rows <= FEW) {
#pragma omp parallel for schedule(dynamic, chunk)
        for (int64_t panel = 0; panel < panels; ++panel)
            multiply<BITS, LEAST>(rows, packed + panel * size, given, 0, groups,
                                  bias ? bias + panel * PANEL : nullptr, out + panel * PANEL, outputs,
                                  AHEAD);
        return;
    }
    const int64_t parts = (rows + PART - 1) / PART;
#pragma omp parallel
    {
        std::vector<int16_t> unpacked(BITS == 16 ? 0 : groups * (CODES<16> + WORDS<BITS> - CODES<BITS>));
#pragma omp for schedule(dynamic, chunk)
        for (int64_t panel = 0; panel < panels; ++panel) {
            const int16_t *codes = packed + panel * size;
            if constexpr (BITS != 16) {
                unfold<BITS>(codes, groups, unpacked.data());
                codes = unpacked.data();
            }
            for (int64_t part = 0; part < parts; ++part) {
                // Parts as equal as can be: 14 rows are 4, 5 and 5, not 6, 6 and 2.
                const int64_t row = rows * part / parts, end = rows * (part + 1) / parts;
                const bool last = BITS == 16 && part + 1 == parts;
                multiply<16, LEAST>(end - row, codes, given, row, groups,
                                    bias ? bias + panel * PANEL : nullptr,
                                    out + row * outputs + panel * PANEL, outputs, last ? size : 0);
            }
        }
    }
}

inline void linear(int bits, const float *x, int64_t x_stride, int64_t rows, int64_t inputs,
                   const void *packed, const float *bias, float *out, int64_t outputs) {
    const auto run = bits == 16 ? linear<16> : bits == 8 ? linear<8> : linear<4>;
    run(x, x_stride, rows, inputs, static_cast<const int16_t *>(packed), bias, out, outputs);
}

// Row `id` of the weights, as fp32.
template <int BITS>
void look_up(const int16_t *packed, int64_t id, int64_t inputs, float *out) {
    constexpr int FIELDS = 16 / BITS;
    const int64_t groups = (inputs + GROUP - 1) / GROUP, row = id % PANEL;
    packed += id / PANEL * groups * WORDS<BITS>;
    for (int64_t k = 0; k < inputs; ++k) {
        const int64_t within = k % GROUP, step = within / (2 * FIELDS), field = within % (2 * FIELDS) / 2;
        const int16_t *group = packed + k / GROUP * WORDS<BITS>, *scales = group + CODES<BITS>;
        const int16_t lane = group[step * 32 + row * 2 + within % 2];
        int code = lane;
        if (BITS == 8) code = int8_t(lane >> 8 * field);
        if (BITS == 4) code = lane >> 4 * field & 15;
        const auto value = [](int16_t bf16) {
            const uint32_t bits = uint32_t(uint16_t(bf16)) << 16;
            float wide;
            std::memcpy(&wide, &bits, sizeof wide);
            return wide;
        };
        out[k] = float(code) * value(scales[row]) + (BITS == 4 ? value(scales[PANEL + row]) : 0.f);
    }
}

}  // namespace
