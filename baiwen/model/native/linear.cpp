// What packed models call: a linear, an embedding, and the two halves of a block around attention.
#include "block.h"
#include "linear.h"

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
    with_bits(bits, [&](auto b) {
#pragma omp parallel for if (count * inputs > SMALL)
        for (int64_t n = 0; n < count; ++n) look_up<b>(codes, ids[n], inputs, out + n * inputs);
    });
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
    before(x, rows, hidden, weight, eps, outputs, {queries, key_heads, size}, cosine, sine, slots,
           {keys, values, key_scales, value_scales, bytes}, q,
           [&](const float *normed, int64_t count, float *wide) {
               linear(bits, normed, hidden, count, hidden, qkv, bias, wide, outputs);
           });
}

// The second half, in place: x += o(attended), then x += down(silu(gate(norm(x))) * up(norm(x))).
// attended [rows, wide]; `width` is the feed-forward's; sizes are multiples of 16.
extern "C" void block_rest(int bits, const float *attended, int64_t wide, float *x, int64_t rows,
                           int64_t hidden, const void *o, const float *weight, float eps,
                           const void *gate_up, int64_t width, const void *down) {
    thread_local std::vector<float> held;
    const auto project = [&](const float *from, int64_t count, float *to) {
        linear(bits, from, wide, count, wide, o, nullptr, to, hidden);
    };
    after(attended, wide, x, rows, hidden, weight, eps, project, [&](float *normed, int64_t count) {
        float *both = room(held, count * 3 * width), *product = both + count * 2 * width;
        linear(bits, normed, hidden, count, hidden, gate_up, nullptr, both, 2 * width);
#pragma omp parallel for if (count * width > SMALL)
        for (int64_t n = 0; n < count; ++n) {
            const float *gate = both + n * 2 * width;
            swiglu(gate, gate + width, width, product + n * width);
        }
        linear(bits, product, width, count, width, down, nullptr, normed, hidden);
    });
}
