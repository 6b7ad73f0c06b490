// What packed models call: a linear, an embedding, and the two halves of a block around attention.
#include "linear.h"
#include "slab.h"

namespace {

constexpr int64_t PIECE = 256;  // rows whose wide activations stay in the cache
constexpr int64_t MANY = 8;     // rows that are worth more than one thread in a small layer

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

}  // namespace

// x [rows, inputs] fp32, rows `x_stride` apart -> out [rows, outputs], outputs a multiple of 16.
extern "C" void packed_linear(int bits, const float *x, int64_t x_stride, int64_t rows,
                              int64_t inputs, const void *packed, const float *bias, float *out,
                              int64_t outputs) {
    linear(bits, x, x_stride, rows, inputs, packed, bias, out, outputs);
}

// The rows `ids` of packed weights: out [count, inputs] fp32. False if there is no such row.
extern "C" bool packed_rows(int bits, const int64_t *ids, int64_t count, int64_t rows,
                            int64_t inputs, const void *packed, float *out) {
    if (!std::all_of(ids, ids + count, [&](int64_t id) { return 0 <= id && id < rows; })) return false;
    const auto *codes = static_cast<const int16_t *>(packed);
    const auto row = bits == 16 ? look_up<16> : bits == 8 ? look_up<8> : look_up<4>;
#pragma omp parallel for if (count > MANY)
    for (int64_t n = 0; n < count; ++n) row(codes, ids[n], inputs, out + n * inputs);
    return true;
}

// The first half of a block: x [rows, hidden] through norm and q, k, v; q [rows, queries, size]
// turned by cosine and sine [rows, size]; k, turned, and v into the slots [rows] of the cache, which
// has `bytes` a number (fp32, bf16, or int8 with scales). `outputs` are those of the packed qkv,
// padded.
extern "C" void block_heads(int bits, const float *x, int64_t rows, int64_t hidden,
                            const float *weight, float eps, const void *qkv, const float *bias,
                            int64_t outputs, int64_t queries, int64_t key_heads, int64_t size,
                            const float *cosine, const float *sine, const int64_t *slots,
                            void *keys, void *values, float *key_scales, float *value_scales,
                            int64_t bytes, float *q) {
    thread_local std::vector<float> held;
    float *normed = room(held, rows * (hidden + outputs)), *wide = normed + rows * hidden;
    const Heads heads{queries, key_heads, size};
    const Cache cache{keys, values, key_scales, value_scales, bytes};
    auto *put = bytes == 4 ? place<float> : bytes == 2 ? place<bf16> : place<int8_t>;
#pragma omp parallel for if (rows > MANY)
    for (int64_t n = 0; n < rows; ++n)
        norm(x + n * hidden, weight, eps, hidden, normed + n * hidden);
    linear(bits, normed, hidden, rows, hidden, qkv, bias, wide, outputs);
#pragma omp parallel for if (rows > MANY)
    for (int64_t n = 0; n < rows; ++n) {
        const float *c = cosine + n * size, *s = sine + n * size;
        put(wide + n * outputs, heads, c, s, slots[n], cache, q + n * queries * size);
    }
}

// The second half, in place: x += o(attended), then x += down(silu(gate(norm(x))) * up(norm(x))).
// attended [rows, wide]; `width` is the feed-forward's; sizes are multiples of 16.
extern "C" void block_rest(int bits, const float *attended, int64_t wide, float *x, int64_t rows,
                           int64_t hidden, const void *o, const float *weight, float eps,
                           const void *gate_up, int64_t width, const void *down) {
    thread_local std::vector<float> held;
    for (int64_t first = 0; first < rows; first += PIECE) {
        const int64_t count = std::min(PIECE, rows - first);
        float *here = x + first * hidden;
        float *normed = room(held, count * (hidden + 3 * width)), *both = normed + count * hidden;
        float *product = both + count * 2 * width;
        linear(bits, attended + first * wide, wide, count, wide, o, nullptr, normed, hidden);
#pragma omp parallel for if (count > MANY)
        for (int64_t n = 0; n < count; ++n) {
            add(here + n * hidden, normed + n * hidden, hidden);
            norm(here + n * hidden, weight, eps, hidden, normed + n * hidden);
        }
        linear(bits, normed, hidden, count, hidden, gate_up, nullptr, both, 2 * width);
#pragma omp parallel for if (count > MANY)
        for (int64_t n = 0; n < count; ++n) {
            const float *gate = both + n * 2 * width;
            swiglu(gate, gate + width, width, product + n * width);
        }
        linear(bits, product, width, count, width, down, nullptr, normed, hidden);
        add(here, normed, count * hidden);
    }
}
