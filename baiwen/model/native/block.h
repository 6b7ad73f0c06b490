// A block of the transformer for the tokens of a step over a paged cache: its two halves, before and
// after attention. What multiplies with its weights is the caller's.
#pragma once

#include "slab.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace {

constexpr int64_t PIECE = 256;      // rows whose wide activations stay in the cache
constexpr int64_t SMALL = 1 << 14;  // numbers for which waking threads costs more than they save

float *room(std::vector<float> &held, int64_t count) {
    if (int64_t(held.size()) < count) held.resize(count);
    return held.data();
}

// x / rms(x) * weight
void norm(const float *x, const float *weight, float eps, int64_t size, float *out) {
    vf squares = {};
    for (int64_t i = 0; i < size; i += W) {
        const vf here = load(x + i, size - i);
        squares += here * here;
    }
    const float inverse = 1 / std::sqrt(sum(squares) / float(size) + eps);
    for (int64_t i = 0; i < size; i += W)
        store(out + i, load(x + i, size - i) * inverse * load(weight + i, size - i), size - i);
}

void add(float *x, const float *y, int64_t count) {
    for (int64_t i = 0; i < count; i++) x[i] += y[i];
}

// silu(gate) * up
void swiglu(const float *gate, const float *up, int64_t size, float *out) {
    for (int64_t i = 0; i < size; i += W) {
        const vf x = load(gate + i, size - i);
        store(out + i, x * sigmoid(x) * load(up + i, size - i), size - i);
    }
}

// x * cosine + (x with its halves swapped) * sine, which may take the place of x
void turn(const float *x, const float *cosine, const float *sine, int64_t size, float *out) {
    const int64_t half = size / 2;
    for (int64_t i = 0; i < half; i++) {
        const float one = x[i], other = x[i + half];
        out[i] = one * cosine[i] + other * sine[i];
        out[i + half] = other * cosine[i + half] + one * sine[i + half];
    }
}

struct Heads {
    int64_t queries, keys, size;
};

// Where keys and values are kept, `bytes` a number.
struct Cache {
    void *keys, *values;
    float *key_scales, *value_scales;
    int64_t bytes;
};

// One token's heads: q to `out`, k, turned where it is, and v to its slot of the cache.
template <typename T>
void place(float *qkv, const Heads &heads, const float *cosine, const float *sine, int64_t slot,
           const Cache &cache, float *out) {
    const int64_t size = heads.size;
    for (int64_t h = 0; h < heads.queries; h++)
        turn(qkv + h * size, cosine, sine, size, out + h * size);
    float *k = qkv + heads.queries * size, *v = k + heads.keys * size;
    T *keys = static_cast<T *>(cache.keys), *values = static_cast<T *>(cache.values);
    for (int64_t h = 0; h < heads.keys; h++, k += size, v += size) {
        const int64_t row = slot * heads.keys + h;
        turn(k, cosine, sine, size, k);
        keep(k, size, keys + row * size, cache.key_scales + row);
        keep(v, size, values + row * size, cache.value_scales + row);
    }
}

// The first half: x [rows, hidden] through its norm and `project`, which makes q, k and v side by
// side of it, [rows, outputs]; q, turned by cosine and sine [rows, size], to [rows, queries, size],
// k, turned, and v into the slots [rows] of the cache.
template <class Project>
void before(const float *x, int64_t rows, int64_t hidden, const float *weight, float eps,
            int64_t outputs, const Heads &heads, const float *cosine, const float *sine,
            const int64_t *slots, const Cache &cache, float *q, const Project &project) {
    thread_local std::vector<float> held;
    float *normed = room(held, rows * (hidden + outputs)), *wide = normed + rows * hidden;
    auto *put = cache.bytes == 4   ? place<float>
                : cache.bytes == 2 ? place<bf16>
                                   : place<int8_t>;
#pragma omp parallel for if (rows * hidden > SMALL)
    for (int64_t n = 0; n < rows; ++n)
        norm(x + n * hidden, weight, eps, hidden, normed + n * hidden);
    project(normed, rows, wide);
#pragma omp parallel for if (rows * outputs > SMALL)
    for (int64_t n = 0; n < rows; ++n) {
        const float *c = cosine + n * heads.size, *s = sine + n * heads.size;
        put(wide + n * outputs, heads, c, s, slots[n], cache, q + n * heads.queries * heads.size);
    }
}

// The second half, in place: x += o(attended), then x += feed(norm(x)); attended [rows, wide].
// `o` writes to another place; `feed` puts what it gives where its tokens were.
template <class O, class Feed>
void after(const float *attended, int64_t wide, float *x, int64_t rows, int64_t hidden,
           const float *weight, float eps, const O &o, const Feed &feed) {
    thread_local std::vector<float> held;
    for (int64_t first = 0; first < rows; first += PIECE) {
        const int64_t count = std::min(PIECE, rows - first);
        float *here = x + first * hidden, *normed = room(held, count * hidden);
        o(attended + first * wide, count, normed);
#pragma omp parallel for if (count * hidden > SMALL)
        for (int64_t n = 0; n < count; ++n) {
            add(here + n * hidden, normed + n * hidden, hidden);
            norm(here + n * hidden, weight, eps, hidden, normed + n * hidden);
        }
        feed(normed, count);
        add(here, normed, count * hidden);
    }
}

}  // namespace
