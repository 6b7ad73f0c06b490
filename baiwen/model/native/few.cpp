// Linears of fp32 weights where they lie, [outputs][inputs], for the few tokens of a decoding step,
// and the two halves of a block around attention made of them.
//
// A general product of so few rows spends its time on rearranging the weights. Here a tile is ROWS
// tokens by OUTS outputs, whose sums run along the inputs, W at a time, so both operands are read
// as they lie; the first rows that meet a block of weights fetch the next one from memory. A
// token's result is the same bits whatever else is in the batch, and on any number of threads.
#include "block.h"

namespace {

constexpr int ROWS = 4, OUTS = 3;  // 12 sums, which with the operands fill 16 registers
constexpr int64_t BLOCK = 12;      // outputs that meet all tokens before the next ones
constexpr int64_t GATED = 3 * W;   // the same of a gate, which is applied by whole vectors
constexpr int64_t LITTLE = 1 << 18;  // multiplications for which no thread is woken

// Tokens x [M][depth] by weights [N][depth]: out [M], rows `stride` apart; fetches what lies `ahead`.
template <int M, int N>
void meet(const float *x, const float *weights, int64_t depth, int64_t ahead, float *out,
          int64_t stride) {
    vf sums[M][N] = {};
    const auto step = [&](int64_t k, auto... lanes) {
        vf right[N];
#pragma GCC unroll 4
        for (int j = 0; j < N; j++) right[j] = held(load(weights + j * depth + k, lanes...));
#pragma GCC unroll 4
        for (int i = 0; i < M; i++) {
            const vf left = held(load(x + i * depth + k, lanes...));
#pragma GCC unroll 4
            for (int j = 0; j < N; j++) sums[i][j] = plus_product(sums[i][j], left, right[j]);
        }
    };
    int64_t k = 0;
    for (; k + W <= depth; k += W) {
        if (ahead)
#pragma GCC unroll 4
            for (int j = 0; j < N; j++) __builtin_prefetch(weights + j * depth + k + ahead, 0, 2);
        step(k);
    }
    if (k < depth) step(k, depth - k);
#pragma GCC unroll 4
    for (int i = 0; i < M; i++)
#pragma GCC unroll 4
        for (int j = 0; j < N; j++) out[i * stride + j] = sum(sums[i][j]);
}

// M tokens by `count` outputs.
template <int M>
void across(const float *x, const float *weights, int64_t count, int64_t depth, int64_t ahead,
            float *out, int64_t stride) {
    int64_t j = 0;
    for (; j + OUTS <= count; j += OUTS)
        meet<M, OUTS>(x, weights + j * depth, depth, ahead, out + j, stride);
    for (; j < count; j++) meet<M, 1>(x, weights + j * depth, depth, ahead, out + j, stride);
}

struct Tokens {
    const float *x;  // [rows][depth]
    int64_t rows, depth;
    bool many(int64_t outputs) const { return rows * depth * outputs > LITTLE; }
};

// Of all tokens `count` outputs from `first` on: out [rows], `stride` apart.
void some(const Tokens &tokens, const float *weights, const float *bias, int64_t first,
          int64_t count, float *out, int64_t stride) {
    weights += first * tokens.depth;
    int64_t ahead = count * tokens.depth;
    for (int64_t row = 0; row < tokens.rows; row += ROWS, ahead = 0) {
        const float *x = tokens.x + row * tokens.depth;
        float *to = out + row * stride;
        switch (std::min<int64_t>(ROWS, tokens.rows - row)) {
#define CASE(M) case M: across<M>(x, weights, count, tokens.depth, ahead, to, stride); break
            CASE(1); CASE(2); CASE(3); CASE(4);
#undef CASE
        }
    }
    for (int64_t row = 0; bias && row < tokens.rows; row++)
        add(out + row * stride, bias + first, count);
}

// All outputs, by the threads of a team, who do not wait for each other.
void shared(const Tokens &tokens, const float *weights, const float *bias, int64_t outputs,
            float *out, int64_t stride) {
#pragma omp for schedule(dynamic, 2) nowait
    for (int64_t first = 0; first < outputs; first += BLOCK)
        some(tokens, weights, bias, first, std::min(BLOCK, outputs - first), out + first, stride);
}

void linear(const Tokens &tokens, const float *weights, const float *bias, int64_t outputs,
            float *out) {
#pragma omp parallel if (tokens.many(outputs))
    shared(tokens, weights, bias, outputs, out, outputs);
}

// silu(gate x) * up x, to out [rows][width].
void gate_up(const Tokens &tokens, const float *gate, const float *up, int64_t width, float *out) {
#pragma omp parallel if (tokens.many(width))
    {
        std::vector<float> ups(tokens.rows * GATED);
#pragma omp for schedule(dynamic, 2)
        for (int64_t first = 0; first < width; first += GATED) {
            const int64_t count = std::min(GATED, width - first);
            some(tokens, gate, nullptr, first, count, out + first, width);
            some(tokens, up, nullptr, first, count, ups.data(), GATED);
            for (int64_t n = 0; n < tokens.rows; n++) {
                float *here = out + n * width + first;
                swiglu(here, &ups[n * GATED], count, here);
            }
        }
    }
}

}  // namespace

// x [rows, inputs] by weights [outputs, inputs] -> out [rows, outputs].
extern "C" void few_linear(const float *x, int64_t rows, int64_t inputs, const float *weights,
                           const float *bias, int64_t outputs, float *out) {
    linear({x, rows, inputs}, weights, bias, outputs, out);
}

// As `block_heads` of linear.cpp.
extern "C" void few_heads(const float *x, int64_t rows, int64_t hidden, const float *weight,
                          float eps, const float *q_weights, const float *q_bias,
                          const float *k_weights, const float *k_bias, const float *v_weights,
                          const float *v_bias, int64_t queries, int64_t key_heads, int64_t size,
                          const float *cosine, const float *sine, const int64_t *slots, void *keys,
                          void *values, float *key_scales, float *value_scales, int64_t bytes,
                          float *q) {
    const int64_t wide = queries * size, few = key_heads * size, outputs = wide + 2 * few;
    before(x, rows, hidden, weight, eps, outputs, {queries, key_heads, size}, cosine, sine, slots,
           {keys, values, key_scales, value_scales, bytes}, q,
           [&](const float *normed, int64_t count, float *out) {
               const Tokens tokens{normed, count, hidden};
#pragma omp parallel if (tokens.many(outputs))
               {
                   shared(tokens, q_weights, q_bias, wide, out, outputs);
                   shared(tokens, k_weights, k_bias, few, out + wide, outputs);
                   shared(tokens, v_weights, v_bias, few, out + wide + few, outputs);
               }
           });
}

// As `block_rest` of linear.cpp, for any sizes.
extern "C" void few_rest(const float *attended, int64_t wide, float *x, int64_t rows,
                         int64_t hidden, const float *o, const float *weight, float eps,
                         const float *gate, const float *up, int64_t width, const float *down) {
    after(
        attended, wide, x, rows, hidden, weight, eps, width,
        [&](const float *from, int64_t count, float *to) {
            linear({from, count, wide}, o, nullptr, hidden, to);
        },
        [&](const float *from, int64_t count, float *to) {
            gate_up({from, count, hidden}, gate, up, width, to);
        },
        [&](const float *from, int64_t count, float *to) {
            linear({from, count, width}, down, nullptr, hidden, to);
        });
}
