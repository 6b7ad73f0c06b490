// Linears of fp32 weights where they lie, [outputs][inputs], for the few tokens of a decoding step,
// and the two halves of a block around attention made of them, dense or a mixture of experts.
//
// A general product of so few rows spends its time on rearranging the weights. Here a tile is ROWS
// tokens by OUTS outputs, whose sums run along the inputs, W at a time, so both operands are read
// as they lie; the first rows that meet a block of weights fetch the next one from memory. A
// token's result is the same bits whatever else is in the batch, and on any number of threads.
#include "block.h"

#include <numeric>

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

// down(silu(gate x) * up x): gate and up [width][depth], down [depth][width].
struct FeedForward {
    const float *gate, *up, *down;
    int64_t width;
};

// To out [rows][depth], which may be where the tokens are.
void feed_forward(const Tokens &tokens, const FeedForward &by, float *out) {
    thread_local std::vector<float> held;
    float *inner = room(held, tokens.rows * by.width);
    gate_up(tokens, by.gate, by.up, by.width, inner);
    linear({inner, tokens.rows, by.width}, by.down, nullptr, tokens.depth, out);
}

// A layer of experts, of which a token takes `k`, and one that sees all tokens.
struct Mixture {
    const float *router;  // [experts][depth]
    int64_t experts, k;
    bool normalised;            // the weights of a token's experts add up to 1
    FeedForward first;          // the others follow each other
    const float *shared_gate;   // [depth]
    FeedForward shared;

    FeedForward expert(int64_t number, int64_t depth) const {
        const int64_t at = number * first.width * depth;
        return {first.gate + at, first.up + at, first.down + at, first.width};
    }
};

// A token's k likeliest experts, of equals the first, and their weights; spoils the logits.
void choose(const Mixture &by, float *logits, int64_t *chosen, float *weights) {
    const float top = *std::max_element(logits, logits + by.experts);
    float total = 0, taken = 0;
    for (int64_t e = 0; e < by.experts; e++) total += logits[e] = std::exp(logits[e] - top);
    for (int64_t j = 0; j < by.k; j++) {
        float *likeliest = std::max_element(logits, logits + by.experts);
        chosen[j] = likeliest - logits;
        taken += weights[j] = *likeliest;
        *likeliest = -1;
    }
    for (int64_t j = 0; j < by.k; j++) weights[j] /= by.normalised ? taken : total;
}

// All tokens through their experts, each of which meets its tokens at once, and the shared one, to
// where they were; chosen [rows][k]. What a token's experts give is added in their order.
void mix(const Mixture &by, const Tokens &tokens, int64_t *chosen, float *out) {
    const int64_t rows = tokens.rows, depth = tokens.depth, pairs = rows * by.k;
    thread_local std::vector<float> held;
    float *logits = room(held, rows * (by.experts + 1) + pairs + (rows + pairs) * depth);
    float *gates = logits + rows * by.experts, *weights = gates + rows;
    float *shared = weights + pairs, *sent = shared + rows * depth;
    linear(tokens, by.router, nullptr, by.experts, logits);
    linear(tokens, by.shared_gate, nullptr, 1, gates);
    for (int64_t n = 0; n < rows; n++)
        choose(by, logits + n * by.experts, chosen + n * by.k, weights + n * by.k);
    std::vector<int64_t> order(pairs);  // of pairs (token, choice), by expert
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t one, int64_t other) { return chosen[one] < chosen[other]; });
    for (int64_t i = 0; i < pairs; i++)
        std::copy_n(tokens.x + order[i] / by.k * depth, depth, sent + i * depth);
    for (int64_t begin = 0, end; begin < pairs; begin = end) {
        const int64_t expert = chosen[order[begin]];
        for (end = begin; end < pairs && chosen[order[end]] == expert;) end++;
        float *here = sent + begin * depth;
        feed_forward({here, end - begin, depth}, by.expert(expert, depth), here);
    }
    feed_forward(tokens, by.shared, shared);
    for (int64_t n = 0; n < rows; n++) {
        const float open = 1 / (1 + std::exp(-gates[n]));
        for (int64_t d = n * depth; d < (n + 1) * depth; d++) out[d] = open * shared[d];
    }
    for (int64_t i = 0; i < pairs; i++) {
        float *to = out + order[i] / by.k * depth;
        for (int64_t d = 0; d < depth; d++) to[d] += weights[order[i]] * sent[i * depth + d];
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
                         const float *gate, const float *up, const float *down, int64_t width) {
    const auto project = [&](const float *from, int64_t count, float *to) {
        linear({from, count, wide}, o, nullptr, hidden, to);
    };
    after(attended, wide, x, rows, hidden, weight, eps, project, [&](float *normed, int64_t count) {
        feed_forward({normed, count, hidden}, {gate, up, down, width}, normed);
    });
}

// The same with a mixture: gate, up and down of all `experts`, then those of the shared one; `chosen`
// [rows, k] tells which experts each token took.
extern "C" void few_mixture(const float *attended, int64_t wide, float *x, int64_t rows,
                            int64_t hidden, const float *o, const float *weight, float eps,
                            const float *router, int64_t experts, int64_t k, bool normalised,
                            const float *gate, const float *up, const float *down, int64_t width,
                            const float *shared_gate, const float *gate_all, const float *up_all,
                            const float *down_all, int64_t width_all, int64_t *chosen) {
    const Mixture by{router, experts, k, normalised, {gate, up, down, width},
                     shared_gate, {gate_all, up_all, down_all, width_all}};
    const auto project = [&](const float *from, int64_t count, float *to) {
        linear({from, count, wide}, o, nullptr, hidden, to);
    };
    after(attended, wide, x, rows, hidden, weight, eps, project, [&](float *normed, int64_t count) {
        mix(by, {normed, count, hidden}, chosen, normed);
        chosen += count * k;
    });
}
