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
#include "forward.h"

namespace {

static_assert(B % MR == 0 && B % NR == 0);  // a block of the backward pass is whole tiles either way

// One tensor of heads: element (row, token, head, d) is at row * rows + token * tokens + head * D.
template <typename T>
struct Heads {
    T *at;
    int64_t rows, tokens, size;
    T *operator()(int64_t row, int64_t token, int64_t head) const {
        return at + row * rows + token * tokens + head * size;
    }
};

struct Span {
    int64_t row, query, queries, key;
    int64_t trunk, shared;  // first key and keys of the trunk
};

// scores[key][query] = keys[key] . queries[query] for the keys that panels of queries may see;
// `ahead`: how far the first query is after the first key.
void products(const float *keys, int64_t width, const float *turned, int64_t count, int64_t queries,
              int64_t ahead, float *scores) {
    for (int64_t q = 0; q < queries; q += NR) {
        int64_t seen = std::min(count, q + NR + ahead);
        for (int64_t k = 0; k < seen; k += MR)
            tile<false>(keys + k * width, width, turned + q, B, scores + k * B + q, B, width, false);
    }
}

// sums[query] += weights[key][query] * rows[key] over the keys that the query may see.
void gather_rows(const float *weights, const float *rows, int64_t width, int64_t count,
                 int64_t queries, int64_t ahead, float *sums) {
    for (int64_t q = 0; q < queries; q += MR) {
        int64_t seen = std::min(count, q + MR + ahead);
        for (int64_t d = 0; seen > 0 && d < width; d += NR)
            tile<true>(weights + q, B, rows + d, width, sums + q * width + d, width, seen, true);
    }
}

// sums[key] += weights[key][query] * rows[query] over the queries that may see the key.
void spread_rows(const float *weights, const float *rows, int64_t width, int64_t count,
                 int64_t queries, int64_t ahead, float *sums) {
    for (int64_t k = 0; k < count; k += MR) {
        int64_t from = std::max(int64_t(0), k - ahead);
        for (int64_t d = 0; from < queries && d < width; d += NR)
            tile<false>(weights + k * B + from, B, rows + from * width + d, width,
                        sums + k * width + d, width, queries - from, true);
    }
}

// For a vector of queries: the keys before `whole` are seen by all lanes, those from `seen` by none.
struct Sight {
    int64_t whole, seen;
    vi first;  // the last key that each lane sees
    Sight(int64_t query, int64_t count, int64_t ahead)
        : whole(std::clamp(query + ahead + 1, int64_t(0), count)),
          seen(std::clamp(query + W + ahead, int64_t(0), count)),
          first(lanes() + int32_t(query + ahead)) {}
    vi of(int64_t key) const { return first >= int32_t(key) + vi{}; }
};

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

template <typename T>
struct Backward {
    Heads<const T> q, k, v, out, grad;
    Heads<T> grad_q;
    Heads<float> grad_k, grad_v;  // of every query head
    const float *lse;             // [rows, H, T]
    int64_t tokens, heads, groups, size;
    float scale;

    // A trunk and the branches behind it, or a document alone; one query head.
    void run(const Span *spans, int64_t count, int64_t head) const {
        int64_t wide = round_up(size, NR), longest = 0;
        for (int64_t i = 1; i < count; i++) longest = std::max(longest, spans[i].queries);
        int64_t numbers = round_up(spans->queries + longest, B) * wide;
        workspace.reserve(4 * numbers + 5 * B * wide + 2 * B * B + 2 * B, 13);
        Held held{workspace.take(numbers), workspace.take(numbers), workspace.take(numbers),
                  workspace.take(numbers)};
        Block block{wide};
        for (int64_t i = 0; i < count; i++) {
            read(held, spans[i], head);
            for (int64_t first = 0; first < spans[i].queries; first += B)
                ask(block, held, spans[i], first, head);
            if (i) write(held, spans[i], head);
        }
        write(held, *spans, head);
    }

    // The keys of a trunk and behind them those of a branch, padded to whole blocks, and their sums.
    struct Held {
        float *keys, *values, *key_sums, *value_sums;
    };

    void read(const Held &held, const Span &span, int64_t head) const {
        int64_t wide = round_up(size, NR), at = span.shared * wide, group = head / (heads / groups);
        int64_t padded = round_up(span.shared + span.queries, B) - span.shared;
        gather(k(span.row, span.query, group), k.tokens, span.queries, size, 1.f, held.keys + at,
               padded, wide);
        gather(v(span.row, span.query, group), v.tokens, span.queries, size, 1.f, held.values + at,
               padded, wide);
        std::fill_n(held.key_sums + at, padded * wide, 0.f);
        std::fill_n(held.value_sums + at, padded * wide, 0.f);
    }

    void write(const Held &held, const Span &span, int64_t head) const {
        int64_t wide = round_up(size, NR), at = span.shared * wide;
        scatter(held.key_sums + at, wide, span.queries, size, grad_k(span.row, span.query, head),
                grad_k.tokens, nullptr, 1 / LOG2E);  // of the scale in the queries
        scatter(held.value_sums + at, wide, span.queries, size, grad_v(span.row, span.query, head),
                grad_v.tokens, nullptr, 1.f);
    }

    // A block of queries: itself and the gradient of its output, both ways round, and what it sums.
    struct Block {
        int64_t wide;
        float *rows = workspace.take(B * wide), *turned = workspace.take(B * wide);
        float *slopes = workspace.take(B * wide), *slopes_turned = workspace.take(B * wide);
        float *sums = workspace.take(B * wide);
        float *probs = workspace.take(B * B), *scores = workspace.take(B * B);
        float *logs = workspace.take(B), *means = workspace.take(B);
    };

    // A block of queries and all keys that they see.
    void ask(const Block &block, const Held &held, const Span &span, int64_t first,
             int64_t head) const {
        int64_t asked = std::min(B, span.queries - first), place = span.shared + first;
        start(block, span.row, span.query + first, head, asked);
        for (int64_t key = 0; key < place + asked; key += B) {
            int64_t at = key * block.wide;
            pair(block, std::min(B, place + asked - key), asked, place - key, held.keys + at,
                 held.values + at, held.key_sums + at, held.value_sums + at);
        }
        scatter(block.sums, block.wide, asked, size, grad_q(span.row, span.query + first, head),
                grad_q.tokens, nullptr, scale);
    }

    void start(const Block &block, int64_t row, int64_t query, int64_t head, int64_t asked) const {
        // The softmax subtracts sum(p * dp) over the keys, which is sum(out * grad) over D.
        gather(out(row, query, head), out.tokens, asked, size, 1.f, block.rows, B, block.wide);
        gather(grad(row, query, head), grad.tokens, asked, size, 1.f, block.slopes, B, block.wide);
        const float *logs = lse + (row * heads + head) * tokens + query;
        for (int64_t i = 0; i < B; i++) {
            vf total = vf{};
            for (int64_t at = i * block.wide; at < (i + 1) * block.wide; at += W)
                total += load(block.rows + at) * load(block.slopes + at);
            block.means[i] = sum(total);
            block.logs[i] = i < asked ? logs[i] * LOG2E : 0;
        }
        gather(q(row, query, head), q.tokens, asked, size, scale * LOG2E, block.rows, B, block.wide);
        transpose(block.rows, block.wide, B, block.wide, block.turned, B);
        transpose(block.slopes, block.wide, B, block.wide, block.slopes_turned, B);
        std::fill_n(block.sums, B * block.wide, 0.f);
    }

    // A block of queries and a block of keys.
    static void pair(const Block &block, int64_t count, int64_t asked, int64_t ahead,
                     const float *keys, const float *values, float *key_sums, float *value_sums) {
        int64_t wide = block.wide;
        products(keys, wide, block.turned, count, asked, ahead, block.probs);
        products(values, wide, block.slopes_turned, count, asked, ahead, block.scores);
        for (int64_t q = 0; q < asked; q += W) {
            Sight sight(q, count, ahead);
            vf logs = load(block.logs + q), means = load(block.means + q);
            for (int64_t k = 0; k < sight.seen; k++) {
                float *prob = block.probs + k * B + q, *score = block.scores + k * B + q;
                vf p = power_of_two(load(prob) - logs);
                if (k >= sight.whole) p = sight.of(k) ? p : vf{};
                store(prob, p);
                store(score, p * (load(score) - means));
            }
            for (int64_t k = sight.seen; k < round_up(count, MR); k++) {
                store(block.probs + k * B + q, vf{});
                store(block.scores + k * B + q, vf{});
            }
        }
        spread_rows(block.probs, block.slopes, wide, count, asked, ahead, value_sums);
        spread_rows(block.scores, block.rows, wide, count, asked, ahead, key_sums);
        gather_rows(block.scores, keys, wide, count, asked, ahead, block.sums);
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
