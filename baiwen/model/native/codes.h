// What linears over weights of few bits share: the layout of codes, and activations as integers.
//
// A weight of output row n and input k is
//
//     scale * code             12 and 8 bits, signed codes
//     scale * (code - 32)      6 bits
//     scale * code + least     4 bits
//
// with a scale (and a least weight) per row and group of 64 inputs. Activations become integers with
// a scale per row and group as they come, of 16 bits (15 beside weights of 12), or of 8 where
// weights have 6 or 4: so every group is an exact integer dot product, and only the sums over groups
// are rounded, always in the same order. A row's result is therefore the same bits whatever else is
// in the batch, and on any number of threads.
//
// Layout (`codes.py` writes it): panels of 16 output rows; in a panel, group after group; in a
// group the codes, then 16 bf16 scales, then with 4 bits 16 bf16 least weights. Codes lie as two
// vectors of 8 rows, a 32-bit lane each:
//
//     8        2 inputs in 16 bits each, which hold the codes of k and k + 2
//     12       the same in threes: their upper 12 bits are the codes of k, k + 2 and k + 4, the lower
//              bits from the first to the third those of k + 6 from the lowest up
//     4        4 inputs in 8 bits each, which hold the codes of k and k + 4
//     6        the same in threes: their lower 6 bits are the codes of k, k + 4 and k + 8, the upper
//              bits from the first to the third those of k + 12 from the lowest up
//
// Of many rows of activations a panel is widened first: 16 bits, 2 inputs of one code each.

#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>
#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace {

constexpr int64_t GROUP = 64, PANEL = 16;
constexpr int64_t AHEAD = 2048;  // words from what is used to what is fetched from memory

typedef int16_t Halves __attribute__((vector_size(32)));
typedef int32_t Ints __attribute__((vector_size(32)));
typedef float Floats __attribute__((vector_size(32)));

template <int BITS> constexpr bool NARROW = BITS < 8;
// 16-bit words of a group in a panel.
template <int BITS> constexpr int64_t CODES = GROUP * PANEL * BITS / 16;
template <int BITS> constexpr int64_t WORDS = CODES<BITS> + (BITS == 4 ? 2 : 1) * PANEL;

// The codes of activations, and the largest: products of a group of 64 must add up within 32 bits,
// with weights of at most 2047 (12 bits) and 127 (8 bits).
template <int BITS> using Code = std::conditional_t<NARROW<BITS>, int8_t, int16_t>;
template <int BITS> constexpr float LIMIT = BITS == 12 ? 16383.f : BITS == 8 ? 32767.f : 127.f;

template <class V> inline V read(const void *from) {
    V value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

inline Floats from_bf16(const int16_t *bf16) {  // eight bf16 as fp32
    uint16_t narrow __attribute__((vector_size(16)));
    std::memcpy(&narrow, bf16, sizeof narrow);
#ifdef __AVX2__  // GCC widens in halves
    return (Floats)_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)narrow), 16);
#else
    return (Floats)(__builtin_convertvector(narrow, Ints) << 16);
#endif
}

// The code of a row and an input of a group.
template <int BITS> inline int code(const int16_t *group, int64_t row, int64_t k) {
    if constexpr (!NARROW<BITS>) {
        const int64_t step = k / 2, first = step / 4 * 3;
        const auto lane = [&](int64_t number) { return group[number * 32 + row * 2 + k % 2]; };
        if (BITS == 8) return int8_t(lane(step / 2) >> 8 * (step % 2));
        if (step % 4 < 3) return lane(first + step % 4) >> 4;
        const int upper = int16_t(lane(first + 2) << 12) >> 4;
        return upper | (lane(first + 1) & 15) << 4 | (lane(first) & 15);
    }
    const int64_t step = k / 4;
    const auto line = [&](int64_t number) {
        return reinterpret_cast<const uint8_t *>(group)[number * 64 + row * 4 + k % 4];
    };
    if (BITS == 4) return line(step / 2) >> 4 * (step % 2) & 15;
    const int64_t first = step / 4 * 3;
    if (step % 4 < 3) return (line(first + step % 4) & 63) - 32;
    return (line(first) >> 6 | line(first + 1) >> 6 << 2 | line(first + 2) >> 6 << 4) - 32;
}

// Rows of activations that meet weights together, `count` of them: lanes of what meets a lane of
// codes [groups, lanes of a group, count]; of each row and group the scale and the sum [groups,
// count].
struct Part {
    int64_t first, count;
    const int32_t *lanes;
    const float *scales, *sums;
};

// Activations as integers, in parts of rows.
template <int BITS> class Activations {
  public:
    static constexpr int64_t LANES = GROUP / (4 / sizeof(Code<BITS>));  // of a group

    int64_t groups, parts;

    void take(const float *x, int64_t stride, int64_t count, int64_t inputs, int64_t most) {
        rows = count, groups = (inputs + GROUP - 1) / GROUP, parts = (rows + most - 1) / most;
        lanes.resize(rows * groups * LANES);
        scales.resize(rows * groups);
        sums.resize(rows * groups);
#pragma omp parallel for if (parts > 1)
        for (int64_t p = 0; p < parts; ++p)
            for (int64_t row = first(p); row < first(p + 1); ++row)
                for (int64_t group = 0; group < groups; ++group) {
                    const int64_t begin = group * GROUP;
                    const float *from = x + row * stride + begin;
                    put(rounded(from, std::min(GROUP, inputs - begin)), p, row, group);
                }
    }

    Part part(int64_t p) const {
        const int64_t before = first(p) * groups;
        return {first(p), first(p + 1) - first(p), &lanes[before * LANES], &scales[before],
                &sums[before]};
    }

  private:
    struct Rounded {
        Code<BITS> codes[GROUP];
        float scale;
        int32_t sum;
    };

    int64_t rows;
    std::vector<int32_t> lanes;
    std::vector<float> scales, sums;

    // Parts are as equal as can be: 14 rows are 4, 5 and 5, not 6, 6 and 2.
    int64_t first(int64_t p) const { return rows * p / parts; }

    void put(const Rounded &from, int64_t p, int64_t row, int64_t group) {
        const int64_t count = first(p + 1) - first(p), begin = first(p) * groups + group * count;
        const int64_t place = begin + row - first(p);
        scales[place] = from.scale;
        sums[place] = from.scale * float(from.sum);
        int32_t *to = &lanes[begin * LANES + row - first(p)];
        for (int64_t lane = 0; lane < LANES; ++lane)
            to[lane * count] = read<int32_t>(from.codes + lane * GROUP / LANES);
    }

    // `count` numbers, the rest of the group 0.
    static Rounded rounded(const float *from, int64_t count) {
        constexpr int WIDE = 8;
        float values[GROUP] = {};
        std::memcpy(values, from, sizeof(float) * count);
        Floats tops = {}, broken = {};  // NaN where a value is NaN or infinite
        for (int64_t k = 0; k < GROUP; k += WIDE) {
            const Floats x = read<Floats>(values + k), size = x < 0.f ? -x : x;
            tops = size > tops ? size : tops;
            broken += x * 0.f;
        }
        float largest = 0, sound = 0;
        for (int i = 0; i < WIDE; ++i) largest = std::max(largest, tops[i]), sound += broken[i];
        const bool nothing = !(largest > 1e-30f) || sound != 0;
        const float inverse = nothing ? 0.f : LIMIT<BITS> / largest;
        Rounded found;
        Ints sums = {};
        for (int64_t k = 0; k < GROUP; k += WIDE) {
            const Floats scaled = nothing ? Floats{} : read<Floats>(values + k) * inverse;
            const Floats half = scaled < 0.f ? Floats{} - .5f : Floats{} + .5f;
            const Ints codes = __builtin_convertvector(scaled + half, Ints);
            Code<BITS> narrow __attribute__((vector_size(WIDE * sizeof(Code<BITS>))));
            narrow = __builtin_convertvector(codes, decltype(narrow));
            std::memcpy(found.codes + k, &narrow, sizeof narrow);
            sums += codes;
        }
        found.sum = 0;
        for (int i = 0; i < WIDE; ++i) found.sum += sums[i];
        found.scale = (nothing ? 0.f : largest / LIMIT<BITS>) + sound;
        return found;
    }
};

// Panels that a thread takes at a time.
inline int64_t chunk(int64_t panels) { return std::clamp<int64_t>(panels / 32, 1, 16); }

// Calls f with the number of bits as a constant.
template <typename F> auto with_bits(int bits, F f) {
    switch (bits) {
    case 12: return f(std::integral_constant<int, 12>{});
    case 8: return f(std::integral_constant<int, 8>{});
    case 6: return f(std::integral_constant<int, 6>{});
    default: return f(std::integral_constant<int, 4>{});
    }
}

}  // namespace
