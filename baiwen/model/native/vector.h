// Vectors of fp32 as wide as the CPU has them, and the tile of a matrix product in registers.
//
// GCC's vector extensions: operators work lane by lane, so one text serves AVX-512, AVX2 and NEON.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __SSE__
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int W = 16;           // lanes
constexpr int MR = 12, NV = 2;  // a tile is MR rows by NV vectors: 24 of 32 registers
#elif defined(__AVX__)
constexpr int W = 8;
constexpr int MR = 6, NV = 2;  // 12 of 16
#elif defined(__aarch64__)
constexpr int W = 4;
constexpr int MR = 6, NV = 4;  // 24 of 32
#else
constexpr int W = 4;
constexpr int MR = 6, NV = 2;
#endif
constexpr int NR = NV * W;

typedef float vf __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));
typedef uint32_t vu __attribute__((vector_size(4 * W)));
typedef uint16_t vh __attribute__((vector_size(2 * W)));
typedef int8_t vb __attribute__((vector_size(W)));

struct bf16 {
    uint16_t bits;
};

static inline vf all(float x) { return x - vf{}; }

static inline vf load(const float *p) {
    vf x;
    memcpy(&x, p, sizeof x);
    return x;
}

static inline vf load(const bf16 *p) {
    vh bits;
    memcpy(&bits, p, sizeof bits);
    return (vf)(__builtin_convertvector(bits, vu) << 16);
}

static inline vf load(const int8_t *p) {
    vb codes;
    memcpy(&codes, p, sizeof codes);
#if defined(__AVX512F__)  // GCC converts lane by lane
    return (vf)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32((__m128i)codes));
#elif defined(__AVX2__)
    return (vf)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_set1_epi64x((int64_t)codes)));
#else
    return __builtin_convertvector(codes, vf);
#endif
}

static inline void store(float *p, vf x) { memcpy(p, &x, sizeof x); }

// Rounds to nearest, ties to even; NaN stays NaN.
static inline void store(bf16 *p, vf x) {
    vu bits = (vu)x;
    vu rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    vu quiet = (bits >> 16) | 0x40;
    vh kept = __builtin_convertvector(x == x ? rounded : quiet, vh);
    memcpy(p, &kept, sizeof kept);
}

// Rounds numbers between -128 and 127 to nearest, ties to even.
static inline void store(int8_t *p, vf x) {
    const vi whole = (vi)(x + 12582912.f) - 0x4b400000;  // + 1.5 * 2^23: the integer in the last bits
    vb codes = __builtin_convertvector(whole, vb);
    memcpy(p, &codes, sizeof codes);
}

// The first `count` lanes.
template <typename T>
static inline vf load(const T *p, int64_t count) {
    if (count >= W) return load(p);
    T part[W] = {};
    memcpy(part, p, count * sizeof(T));
    return load(part);
}

template <typename T>
static inline void store(T *p, vf x, int64_t count) {
    if (count >= W) return store(p, x);
    T part[W];
    store(part, x);
    memcpy(p, part, count * sizeof(T));
}

static inline float widen(float x) { return x; }

static inline float widen(int8_t x) { return x; }

static inline float widen(bf16 x) {
    uint32_t bits = uint32_t(x.bits) << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

static inline void narrow(float x, float *p) { *p = x; }

static inline void narrow(float x, bf16 *p) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    p->bits = x == x ? (bits + 0x7fff + ((bits >> 16) & 1)) >> 16 : (bits >> 16) | 0x40;
}

static inline vi lanes() {
    vi x;
    for (int i = 0; i < W; i++) x[i] = i;
    return x;
}

// The upper half onto the lower one until one number is left.
static inline float sum(vf x) {
#if defined(__AVX__)
#if defined(__AVX512F__)
    const __m256 upper = _mm256_castpd_ps(_mm512_extractf64x4_pd((__m512d)x, 1));
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256((__m512)x), upper);
#else
    const __m256 eight = (__m256)x;
#endif
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
#else
    float lanes[W];
    store(lanes, x);
    for (int width = W / 2; width; width /= 2)
        for (int i = 0; i < width; i++) lanes[i] += lanes[i + width];
    return lanes[0];
#endif
}

// The larger of two; NaN where x is NaN.
static inline vf larger(vf y, vf x) {
#if defined(__AVX512F__)
    return (vf)_mm512_max_ps((__m512)y, (__m512)x);  // the second where the two do not compare
#elif defined(__AVX__)
    return (vf)_mm256_max_ps((__m256)y, (__m256)x);
#else
    return y > x ? y : x;
#endif
}

// 2^x for x <= 0, to 2 ulp; 2^-125 below -125, NaN for NaN. The polynomial is that of exp2f in
// S. Moshier's Cephes library.
static inline vf power_of_two(vf x) {
    const vf magic = all(12582912.f);  // 1.5 * 2^23
    vf y = larger(all(-125.f), x);
    vf shifted = y + magic;  // the nearest integer in its last bits
    y -= shifted - magic;
    vf p = all(1.535336188319500e-4f);
    p = p * y + 1.339887440266574e-3f;
    p = p * y + 9.618437357674640e-3f;
    p = p * y + 5.550332471162809e-2f;
    p = p * y + 2.402264791363012e-1f;
    p = p * y + 6.931472028550421e-1f;
    p = p * y + 1.f;
    return p * (vf)(((vu)shifted << 23) + 0x3f800000);  // 2^n: n + 127 where the exponent lies
}

// e^x to 2 ulp; 0 below -87.3 and for -inf, e^88.3 above it, NaN for NaN. The polynomial and the
// split of ln 2 are those of expf in S. Moshier's Cephes library.
static inline vf exponential(vf x) {
    const vf low = all(-87.33f), high = all(88.3f), magic = all(12582912.f);  // 1.5 * 2^23
    vf y = x < low ? low : x > high ? high : x;
    vf shifted = y * 1.44269504f + magic;  // the integer nearest y / ln 2 in its last bits
    vf n = shifted - magic;
    y = y - n * 0.693359375f + n * 2.12194440e-4f;
    vf p = all(1.9875691500e-4f);
    p = p * y + 1.3981999507e-3f;
    p = p * y + 8.3334519073e-3f;
    p = p * y + 4.1665795894e-2f;
    p = p * y + 1.6666665459e-1f;
    p = p * y + 5.0000001201e-1f;
    p = p * (y * y) + y + 1.f;
    vf power = (vf)(((vu)shifted - (vu)magic + 127) << 23);
    return x < low ? vf{} : p * power;
}

static inline vf sigmoid(vf x) { return 1.f / (1.f + exponential(-x)); }

constexpr int64_t round_up(int64_t x, int64_t step) { return (x + step - 1) / step * step; }

// The same, in a register: else a compiler may load an operand anew for each of its uses.
static inline vf held(vf x) {
#if defined(__AVX__)
    asm("" : "+v"(x));
#endif
    return x;
}

// sum + a * b, rounded once where the CPU can: a compiler's choice depends on the code around it.
static inline vf plus_product(vf sum, vf a, vf b) {
#if defined(__AVX512F__)
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
#elif defined(__AVX__) && defined(__FMA__)
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)sum);
#else
    return sum + a * b;
#endif
}

// sums[M][N vectors] = a[M][depth] * b[depth][N vectors]; `across`: a is stored [depth][M].
template <bool across, int M, int N>
[[gnu::always_inline]] static inline void multiply(const float *a, int64_t lda, const float *b,
                                                   int64_t ldb, int64_t depth, vf (&sums)[M][N]) {
#pragma GCC unroll 16
    for (int i = 0; i < M; i++)
#pragma GCC unroll 4
        for (int j = 0; j < N; j++) sums[i][j] = vf{};
    for (int64_t p = 0; p < depth; p++) {
        vf right[N];
#pragma GCC unroll 4
        for (int j = 0; j < N; j++) right[j] = held(load(b + p * ldb + j * W));
#pragma GCC unroll 16
        for (int i = 0; i < M; i++) {
            vf left = all(across ? a[p * lda + i] : a[i * lda + p]);
#pragma GCC unroll 4
            for (int j = 0; j < N; j++) sums[i][j] += left * right[j];
        }
    }
}

// c[M][N vectors] (+)= a[M][depth] * b[depth][N vectors].
template <bool across, int M = MR, int N = NV>
static inline void tile(const float *a, int64_t lda, const float *b, int64_t ldb, float *c,
                        int64_t ldc, int64_t depth, bool add) {
    vf sums[M][N];
    multiply<across>(a, lda, b, ldb, depth, sums);
#pragma GCC unroll 16
    for (int i = 0; i < M; i++)
#pragma GCC unroll 4
        for (int j = 0; j < N; j++) {
            float *at = c + i * ldc + j * W;
            store(at, add ? load(at) + sums[i][j] : sums[i][j]);
        }
}
