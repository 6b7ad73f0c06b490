// Causal attention by blocks, forward and backward, without ever holding the probabilities.
//
// FlashAttention's algorithm (Dao et al., 2022; Dao, 2023): a running maximum and sum of every
// query rescale what was gathered, the logarithm of the sum is kept, and the backward pass computes
// the probabilities again. Scores are held as [key, query], so that a vector runs over queries:
// the softmax needs no sums across lanes, and of all operands only a block of queries is transposed.
//
// A span is a run of queries and the first key they may see: a document, or the new tokens of a
// sequence. It may see a trunk too, keys that stand elsewhere in the row, as if they stood before its
// first key. Forward a task is a block of its queries with a key head, backward a trunk and all who
// see it with a query head: no two tasks add to the same number, so results do not depend on the
// threads.
//
// T queries, S keys, H query heads, K key heads, D head size (P: padded to whole vectors).
#include "backward.h"

namespace {

// The keys of a span and a key head, as `Asked` reads them; those before the first are its trunk's.
template <typename T>
struct Keys {
    const Heads<const T> &k, &v;
    const Span &span;
    int64_t group;

    void operator()(Run run, float *key, float *value, int64_t step) const {
        int64_t before = span.shared ? std::clamp(span.key - run.first, int64_t(0), run.count) : 0;
        int64_t trunk = run.first + span.trunk + span.shared - span.key, own = run.first + before;
        part(k, trunk, before, key, step), part(v, trunk, before, value, step);
        part(k, own, run.count - before, key + before * step, step);
        part(v, own, run.count - before, value + before * step, step);
    }

    void part(const Heads<const T> &from, int64_t token, int64_t count, float *to,
              int64_t step) const {
        gather(from(span.row, token, group), from.tokens, count, from.size, 1.f, to, count, step);
    }
};

template <typename T>
struct Forward {
    Heads<const T> q, k, v;
    Heads<T> out;
    float *lse;  // [rows, H, T]
    int64_t queries, keys, heads, groups, size;
    float scale;

    void run(const Span &task, int64_t group) const {
        int64_t shared = heads / groups, place = task.query + keys - queries;
        int64_t first = task.key - task.shared, last = place + task.queries;
        Keys<T> read{k, v, task, group};
        Asked asked(shared, task.queries, size, place);
        for (int64_t i = 0; i < shared; i++)
            asked.take(i, q(task.row, task.query, group * shared + i), q.tokens, scale);
        if (first < last) asked.meet({{first, last - first}}, read);
        for (int64_t i = 0; i < shared; i++) {
            int64_t head = group * shared + i;
            asked.give(i, out(task.row, task.query, head), out.tokens,
                       lse + (task.row * heads + head) * queries + task.query);
        }
    }
};

// Each span in pieces of at most `most` queries.
std::vector<Span> pieces(const int32_t *spans, int64_t count, int64_t most) {
    std::vector<Span> found;
    for (const int32_t *at = spans; at < spans + 6 * count; at += 6)
        for (int64_t q = 0; q < at[2]; q += most)
            found.push_back({at[0], at[1] + q, std::min(most, at[2] - q), at[3], at[4], at[5]});
    return found;
}

template <typename T>
void forward(const Forward<T> &job, const int32_t *spans, int64_t count) {
    std::vector<Span> tasks = pieces(spans, count, B);
    int64_t last = int64_t(tasks.size()) - 1;
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t number = last; number >= 0; number--)  // the last of a span have most to do
        for (int64_t group = 0; group < job.groups; group++) job.run(tasks[number], group);
}

template <typename T>
void backward(const Backward<T> &job, const int32_t *spans, int64_t count) {
    std::vector<Span> all = pieces(spans, count, INT32_MAX);  // whole, but for empty ones
    std::vector<int64_t> trees;  // where they begin, and the end of the last
    for (size_t i = 0; i < all.size(); i++)
        if (!all[i].shared) trees.push_back(i);
    trees.push_back(all.size());
    int64_t number = int64_t(trees.size()) - 1;
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t tree = 0; tree < number; tree++)
        for (int64_t head = 0; head < job.heads; head++)
            job.run(&all[trees[tree]], trees[tree + 1] - trees[tree], head);
}

template <typename T>
Heads<T> view(const void *at, const int64_t *strides, int64_t size) {
    return {static_cast<T *>(const_cast<void *>(at)), strides[0], strides[1], size};
}

template <typename T>
void attend(const void *q, const void *k, const void *v, void *out, float *lse,
            const int64_t *strides, const int64_t *shape, const int32_t *spans, int64_t count,
            float scale) {
    int64_t size = shape[4];
    forward<T>({view<const T>(q, strides, size), view<const T>(k, strides + 2, size),
                view<const T>(v, strides + 4, size), view<T>(out, strides + 6, size), lse, shape[0],
                shape[1], shape[2], shape[3], size, scale},
               spans, count);
}

template <typename T>
void differentiate(const void *q, const void *k, const void *v, const void *out, const void *grad,
                   const float *lse, void *grad_q, float *grad_k, float *grad_v,
                   const int64_t *strides, const int64_t *shape, const int32_t *spans,
                   int64_t count, float scale) {
    int64_t size = shape[4];
    backward<T>({view<const T>(q, strides, size), view<const T>(k, strides + 2, size),
                 view<const T>(v, strides + 4, size), view<const T>(out, strides + 6, size),
                 view<const T>(grad, strides + 8, size), view<T>(grad_q, strides + 10, size),
                 view<float>(grad_k, strides + 12, size), view<float>(grad_v, strides + 14, size),
                 lse, shape[0], shape[2], shape[3], size, scale},
                spans, count);
}

}  // namespace

// q, out [rows, T, H, D], k, v [rows, S, K, D], lse [rows, H, T]; query t stands at key t + S - T.
// shape: T, S, H, K, D. strides: of row and token of q, k, v, out. spans [count, 6]: row, first
// query, queries, first key; first key and keys of the trunk. Its queries see the trunk and the keys
// from the first up to their own.
extern "C" void attention_forward(const void *q, const void *k, const void *v, void *out, float *lse,
                                  const int64_t *strides, const int64_t *shape, const int32_t *spans,
                                  int64_t count, float scale, bool half) {
    (half ? attend<bf16> : attend<float>)(q, k, v, out, lse, strides, shape, spans, count, scale);
}

// The gradients where T = S; grad_k and grad_v [rows, T, H, D] are those of every query head.
// strides: of row and token of q, k, v, out, grad, grad_q, grad_k, grad_v. spans [count, 6]: row,
// first token, tokens, first token; first token and tokens of the trunk, which stands before the
// spans that see it, with no others between.
extern "C" void attention_backward(const void *q, const void *k, const void *v, const void *out,
                                   const void *grad, const float *lse, void *grad_q, float *grad_k,
                                   float *grad_v, const int64_t *strides, const int64_t *shape,
                                   const int32_t *spans, int64_t count, float scale, bool half) {
    (half ? differentiate<bf16> : differentiate<float>)(q, k, v, out, grad, lse, grad_q, grad_k,
                                                        grad_v, strides, shape, spans, count,
                                                        scale);
}
