// A block of queries that meets keys from anywhere, without ever holding the probabilities.
//
// FlashAttention's algorithm (Dao et al., 2022): a running maximum and sum of every query rescale
// what was gathered. A vector runs over queries everywhere: scores are [key][query], and what is
// gathered is [D][query], so that no sum goes across lanes and rescaling is part of the product.
// Keys and values are copied KEYS at a time, and read from the copy by all query heads of a block;
// where they stood decides only which queries see them.
//
// T queries, H query heads, D head size (P: padded to whole vectors).
#pragma once

#include "vector.h"
#include "workspace.h"

#include <algorithm>
#include <vector>

namespace {

#if defined(__aarch64__)
constexpr int FR = 4, FV = 6;  // a tile: rows by vectors of queries
#else
constexpr int FR = W == 4 ? 4 : W / 2, FV = 3;
#endif
constexpr int64_t PANEL = FV * W;               // queries of a tile
constexpr int64_t B = W == 16 ? 96 : 48;        // queries of a block
constexpr int64_t KEYS = 2 * B;                 // that are met at a time
static_assert(B % PANEL == 0 && KEYS % FR == 0 && W % FR == 0 && PANEL % 4 == 0);

constexpr float LOG2E = 1.44269504f;  // queries are scaled by it, so that 2^score is needed
constexpr float LOWEST = -1e30f;  // below every score, and finite: a difference of two is 0

thread_local Workspace workspace;  // of the one task that a thread works on

// Copies `count` tokens to [padded count][step], zeros beyond.
template <typename T>
void gather(const T *from, int64_t stride, int64_t count, int64_t size, float scale, float *to,
            int64_t padded, int64_t step) {
    for (int64_t i = 0; i < count; i++) {
        int64_t d = 0;
        for (; i + 8 < count && d < size; d += 16) __builtin_prefetch(from + (i + 8) * stride + d);
        for (d = 0; d + W <= size; d += W) store(to + i * step + d, load(from + i * stride + d) * scale);
        for (; d < size; d++) to[i * step + d] = widen(from[i * stride + d]) * scale;
        for (; d < step; d++) to[i * step + d] = 0;
    }
    std::fill(to + count * step, to + padded * step, 0.f);
}

template <typename T>
void scatter(const float *from, int64_t step, int64_t count, int64_t size, T *to, int64_t stride,
             const float *scale, float every) {
    for (int64_t i = 0; i < count; i++) {
        float by = scale ? scale[i] : every;
        int64_t d = 0;
        for (; d + W <= size; d += W) store(to + i * stride + d, load(from + i * step + d) * by);
        for (; d < size; d++) narrow(from[i * step + d] * by, to + i * stride + d);
    }
}

// [rows][columns] -> [columns][rows], both in fours.
void transpose(const float *from, int64_t step, int64_t rows, int64_t columns, float *to,
               int64_t to_step) {
    for (int64_t i = 0; i < rows; i += 4)
        for (int64_t d = 0; d < columns; d += 4) {
            const float *at = from + i * step + d;
            float *out = to + d * to_step + i;
#ifdef __SSE__
            __m128 a = _mm_loadu_ps(at), b = _mm_loadu_ps(at + step),
                   c = _mm_loadu_ps(at + 2 * step), e = _mm_loadu_ps(at + 3 * step);
            _MM_TRANSPOSE4_PS(a, b, c, e);
            _mm_storeu_ps(out, a), _mm_storeu_ps(out + to_step, b);
            _mm_storeu_ps(out + 2 * to_step, c), _mm_storeu_ps(out + 3 * to_step, e);
#else
            for (int64_t p = 0; p < 4; p++)
                for (int64_t j = 0; j < 4; j++) out[p * to_step + j] = at[j * step + p];
#endif
        }
}

struct Run {
    int64_t first, count;
};

// A block of queries, in panels for every head of a task, and the keys that it meets next.
class Asked {
  public:
    // `place`: of the first query among the keys; query t sees the key at place + t and before.
    Asked(int64_t heads, int64_t queries, int64_t size, int64_t place)
        : queries(queries), size(size), wide(round_up(size, W)), step(wide + 16), place(place),
          panels((queries + PANEL - 1) / PANEL) {
        workspace.reserve(heads * panels * 2 * PANEL * (wide + 1) + 2 * KEYS * step + KEYS * PANEL,
                          4 * heads * panels + 3);
        keys = workspace.take(KEYS * step), values = workspace.take(KEYS * step);
        scores = workspace.take(KEYS * PANEL);
        for (int64_t i = 0; i < heads * panels; i++) {
            asked.push_back({workspace.take(wide * PANEL), workspace.take(wide * PANEL),
                             workspace.take(PANEL), workspace.take(PANEL)});
            std::fill_n(asked[i].out, wide * PANEL, 0.f);
            std::fill_n(asked[i].most, PANEL, LOWEST);
            std::fill_n(asked[i].sums, PANEL, 0.f);
        }
    }

    // The queries of a head, `stride` apart; `scale` as in softmax(scale * q . k).
    template <typename T>
    void take(int64_t head, const T *q, int64_t stride, float scale) {
        gather(q, stride, queries, size, scale * LOG2E, keys, B, step);
        for (int64_t i = 0; i < panels; i++)
            transpose(keys + i * PANEL * step, step, PANEL, wide, asked[head * panels + i].turned,
                      PANEL);
    }

    // The queries meet these runs of keys, those that not all of them see last;
    // read(run, keys, values, step) copies keys and values, `step` numbers apart.
    template <class Read>
    void meet(const std::vector<Run> &runs, const Read &read) {
        for (Run run : runs)
            while (run.count) {
                int64_t count = std::min(run.count, KEYS - held);
                read(Run{run.first, count}, keys + held * step, values + held * step, step);
                for (int64_t i = 0; i < count; i++) from[held++] = int32_t(run.first + i - place);
                run.first += count, run.count -= count;
                if (held == KEYS) meet();
            }
        meet();
    }

    // Outputs of a head, `stride` apart, and logarithms of sums.
    template <typename T>
    void give(int64_t head, T *out, int64_t stride, float *lse) {
        for (int64_t i = 0; i < panels; i++) {
            const Panel &panel = asked[head * panels + i];
            int64_t count = std::min(PANEL, queries - i * PANEL);
            for (int64_t q = 0; q < count; q++) {
                float total = panel.sums[q];
                lse[i * PANEL + q] = total == 0 ? -INFINITY : (panel.most[q] + std::log2(total)) / LOG2E;
                panel.sums[q] = total == 0 ? 0 : 1 / total;
            }
            transpose(panel.out, PANEL, wide, PANEL, keys, step);
            scatter(keys, step, count, size, out + i * PANEL * stride, stride, panel.sums, 1.f);
        }
    }

  private:
    struct Panel {
        float *turned, *out;  // [P][PANEL], the first scaled
        float *most, *sums;   // [PANEL]
    };

    void meet() {
        for (size_t i = 0; held && i < asked.size(); i++)
            meet(asked[i], int32_t(i % panels * PANEL));
        held = 0;
    }

    // A panel whose first query is number `query` of the block, and the keys that it sees.
    void meet(const Panel &panel, int32_t query) {
        int64_t whole = std::upper_bound(from, from + held, query) - from;  // seen by all of them
        int64_t seen = std::upper_bound(from + whole, from + held, query + int32_t(PANEL) - 1) - from;
        for (int64_t k = 0; k < seen; k += FR)
            tile<false, FR, FV>(keys + k * step, step, panel.turned, PANEL, scores + k * PANEL, PANEL,
                                wide, false);
        vf shrink[FV];
        soften(panel, query, whole, seen, shrink);
        for (int64_t d = 0; seen && d < wide; d += FR) {
            vf sums[FR][FV];
            multiply<true>(values + d, step, scores, PANEL, seen, sums);
#pragma GCC unroll 8
            for (int i = 0; i < FR; i++)
#pragma GCC unroll 4
                for (int j = 0; j < FV; j++) {
                    float *at = panel.out + (d + i) * PANEL + j * W;
                    store(at, load(at) * shrink[j] + sums[i][j]);
                }
        }
    }

    // Scores become 2^(score - running maximum), or 0 where a query does not see the key; what was
    // gathered is to shrink.
    void soften(const Panel &panel, int32_t query, int64_t whole, int64_t seen, vf *shrink) const {
        for (int j = 0; j < FV; j++) {
            float *column = scores + j * W;
            vi numbers = lanes() + (query + j * W);
            auto sees = [&](int64_t k) { return numbers >= from[k] + vi{}; };
            vf before = load(panel.most + j * W), most = before, total = vf{};
            for (int64_t k = 0; k < whole; k++) most = larger(load(column + k * PANEL), most);
            for (int64_t k = whole; k < seen; k++)
                most = sees(k) ? larger(load(column + k * PANEL), most) : most;
            for (int64_t k = 0; k < whole; k++) {
                vf x = power_of_two(load(column + k * PANEL) - most);
                store(column + k * PANEL, x);
                total += x;
            }
            for (int64_t k = whole; k < seen; k++) {
                vf x = power_of_two(load(column + k * PANEL) - most);
                x = sees(k) ? x : vf{};
                store(column + k * PANEL, x);
                total += x;
            }
            shrink[j] = power_of_two(before - most);
            store(panel.sums + j * W, load(panel.sums + j * W) * shrink[j] + total);
            store(panel.most + j * W, most);
        }
    }

    const int64_t queries, size, wide, step, place, panels;
    std::vector<Panel> asked;  // [head][panel]
    float *keys, *values;      // [KEYS][step]
    float *scores;             // [KEYS][PANEL]
    int64_t held = 0;          // keys in the copy
    int32_t from[KEYS];        // the first query that sees each of them, by its number
};

}  // namespace
