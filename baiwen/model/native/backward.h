// The gradients of causal attention by blocks: the probabilities are computed again, from the
// logarithms of their sums that the forward pass has kept (Dao, 2023).
//
// Scores are [key][query], as forward. A task is one query head and a trunk with all branches that
// see it, so no two tasks add to the same number.
//
// T queries, S keys, H query heads, K key heads, D head size.
#pragma once

#include "forward.h"

namespace {

static_assert(B % MR == 0 && B % NR == 0);  // a block is whole tiles either way

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

}  // namespace
