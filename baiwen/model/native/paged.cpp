// Attention of single queries over a paged cache of keys and values, for decoding.
//
// A task is one query with the query heads of one key head, and SPLIT of its keys: so a lone long
// sequence keeps every thread busy, and the keys of a group of heads are read once. Tasks leave a
// maximum, a sum and a weighted sum of values (FlashDecoding; Dao et al., 2023), which are merged in
// the order of the keys. A query's result depends on its own sequence alone, to the bit.
//
// With dual chunk attention (dca.py) a query is turned further for the keys of older chunks: tasks
// end where chunks do, and each turns its query as its keys want it.
//
// N queries, H query heads, K key heads, G = H / K, D head size.
#include "slab.h"

#include <algorithm>
#include <vector>

namespace {

constexpr int64_t SPLIT = 512;  // keys of a task
constexpr int64_t KEYS = 64;    // whose scores are held at a time
constexpr int MOST = 8;         // query heads at a time
constexpr float LOG2E = 1.44269504f;
constexpr float LOWEST = -1e30f;

// By how much queries turn further: cosines and sines, [N][D] each; the first half of the sines
// is negated. Null: not at all.
struct Turn {
    const float *cosine = nullptr, *sine = nullptr;
};

// For keys of the query's own chunk of `length` tokens, of the one before, and of older ones.
struct Turns {
    int64_t length;  // 0: all keys are of one chunk
    Turn of[3];
};

// Keys or values of a head that are met together, and what codes are times.
template <typename T>
struct Rows {
    const T *at[KEYS];
    float scales[KEYS];

    void take(int64_t i, const Slab<const T> &from, int64_t row, int64_t size) {
        at[i] = from.at + row * size;
        if constexpr (coded<T>) scales[i] = from.scales[row];
    }
};

struct Task {
    int64_t query, head, first, last;  // keys first ... last - 1
    const int32_t *table;
    const Turn *turn;
};

struct Shape {
    int64_t heads, key_heads, size, block_size;
    int64_t group() const { return heads / key_heads; }
};

// What a task knows of one query head: sum_i 2^(s_i - top) and the same of values.
struct State {
    float top = LOWEST, total = 0;
};

// R query heads meet `count` keys: q [R][D], out [R][D].
template <typename T, int R>
void meet(const float *q, const Rows<T> &keys, const Rows<T> &values, int64_t count, int64_t size,
          State *states, float *out) {
    float scores[R][KEYS], factors[R];
    for (int64_t i = 0; i < count; i++) {
        vf sums[R] = {};
        for (int64_t d = 0; d < size; d += W) {
            const vf key = load(keys.at[i] + d);
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) sums[r] += key * load(q + r * size + d);
        }
        for (int r = 0; r < R; r++) {
            scores[r][i] = sum(sums[r]);
            if constexpr (coded<T>) scores[r][i] *= keys.scales[i];
        }
    }
    const int64_t padded = round_up(count, W);
    for (int r = 0; r < R; r++) {
        float top = states[r].top;
        for (int64_t i = 0; i < count; i++) top = std::max(top, scores[r][i]);
        for (int64_t i = count; i < padded; i++) scores[r][i] = LOWEST;
        factors[r] = power_of_two(all(states[r].top - top))[0];
        vf total = {};
        for (int64_t i = 0; i < padded; i += W) {
            const vf p = power_of_two(load(scores[r] + i) - top);
            store(scores[r] + i, p);
            total += p;
        }
        states[r] = {top, states[r].total * factors[r] + sum(total)};
        if constexpr (coded<T>)
            for (int64_t i = 0; i < count; i++) scores[r][i] *= values.scales[i];
    }
    for (int64_t d = 0; d < size; d += W) {
        vf sums[R];
        for (int r = 0; r < R; r++) sums[r] = load(out + r * size + d) * factors[r];
        for (int64_t i = 0; i < count; i++) {
            const vf value = load(values.at[i] + d);
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) sums[r] += value * scores[r][i];
        }
        for (int r = 0; r < R; r++) store(out + r * size + d, sums[r]);
    }
}

template <typename T>
void meet(int64_t rows, const float *q, const Rows<T> &keys, const Rows<T> &values, int64_t count,
          int64_t size, State *states, float *out) {
    switch (rows) {
#define CASE(R) case R: return meet<T, R>(q, keys, values, count, size, states, out)
        CASE(1); CASE(2); CASE(3); CASE(4); CASE(5); CASE(6); CASE(7); CASE(8);
#undef CASE
    }
}

// One task: states [G], out [G][D], from q [G][D] that is scaled by LOG2E / sqrt(D).
template <typename T>
void attend(const Task &task, const Shape &shape, const float *q, const Slab<const T> &keys,
            const Slab<const T> &values, State *states, float *out) {
    Rows<T> key, value;
    const int64_t group = shape.group(), size = shape.size;
    for (int64_t first = task.first; first < task.last; first += KEYS) {
        const int64_t count = std::min(KEYS, task.last - first);
        for (int64_t i = 0; i < count; i++) {
            const int64_t at = first + i, block = task.table[at / shape.block_size];
            const int64_t place = block * shape.block_size + at % shape.block_size;
            const int64_t row = place * shape.key_heads + task.head;
            key.take(i, keys, row, size);
            value.take(i, values, row, size);
        }
        for (int64_t r = 0; r < group; r += MOST)
            meet<T>(std::min<int64_t>(MOST, group - r), q + r * size, key, value, count, size,
                    states + r, out + r * size);
    }
}

// The tasks of all queries of the sequences with at most `few` of them.
std::vector<Task> tasks(const Shape &shape, const int32_t *tables, int64_t width,
                        const int32_t *starts, const int32_t *lengths, int64_t sequences,
                        int64_t few, const Turns &turns) {
    std::vector<Task> made;
    for (int64_t s = 0; s < sequences; s++) {
        const int64_t count = starts[s + 1] - starts[s];
        for (int64_t t = 0; t < count && count <= few; t++) {
            const int64_t keys = lengths[s] - count + t + 1;
            const int64_t own = turns.length ? (keys - 1) / turns.length * turns.length : 0;
            const int64_t before = std::max<int64_t>(own - turns.length, 0);
            const int64_t ends[] = {before, own, keys};  // of keys that the query asks alike
            for (int64_t head = 0; head < shape.key_heads; head++)
                for (int64_t i = 0, first = 0; i < 3; i++)
                    for (int64_t last; first < ends[i]; first = last) {
                        last = std::min(first + SPLIT, ends[i]);
                        made.push_back({starts[s] + t, head, first, last, tables + s * width,
                                        &turns.of[2 - i]});
                    }
        }
    }
    return made;
}

// The tasks from `begin` on that belong to one query and key head, as one: out [G][D].
size_t merge(const std::vector<Task> &made, size_t begin, const Shape &shape,
             const std::vector<State> &states, const std::vector<float> &sums, float *out) {
    const int64_t group = shape.group(), size = shape.size;
    size_t end = begin + 1;
    while (end < made.size() && made[end].first > 0) end++;
    for (int64_t r = 0; r < group; r++) {
        float top = LOWEST, total = 0;
        for (size_t i = begin; i < end; i++) top = std::max(top, states[i * group + r].top);
        for (int64_t d = 0; d < size; d++) out[r * size + d] = 0;
        for (size_t i = begin; i < end; i++) {
            const State &state = states[i * group + r];
            const float weight = power_of_two(all(state.top - top))[0];
            total += weight * state.total;
            for (int64_t d = 0; d < size; d++)
                out[r * size + d] += weight * sums[(i * group + r) * size + d];
        }
        for (int64_t d = 0; d < size; d++) out[r * size + d] /= total;
    }
    return end;
}

// The query heads q [G][D] of a task, turned as its keys want them and scaled: to [G][D].
void prepare(const Task &task, const Shape &shape, const float *q, float scale, float *to) {
    const int64_t size = shape.size, half = size / 2, group = shape.group();
    if (!task.turn->cosine) {
        for (int64_t d = 0; d < group * size; d++) to[d] = q[d] * scale;
        return;
    }
    const float *cosine = task.turn->cosine + task.query * size;
    const float *sine = task.turn->sine + task.query * size;
    for (int64_t r = 0; r < group; r++, q += size, to += size)
        for (int64_t d = 0; d < half; d++) {
            const float one = q[d], other = q[d + half];
            to[d] = (one * cosine[d] + other * sine[d]) * scale;
            to[d + half] = (other * cosine[d + half] + one * sine[d + half]) * scale;
        }
}

template <typename T>
void decode(const float *q, int64_t q_stride, const void *keys, const void *values,
            const float *key_scales, const float *value_scales, const Shape &shape,
            const std::vector<Task> &made, float scale, float *out) {
    const Slab<const T> all_keys{static_cast<const T *>(keys), key_scales};
    const Slab<const T> all_values{static_cast<const T *>(values), value_scales};
    const int64_t group = shape.group(), size = shape.size, count = int64_t(made.size());
    std::vector<State> states(count * group);
    std::vector<float> sums(count * group * size);
#pragma omp parallel
    {
        std::vector<float> scaled(group * size);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < count; i++) {
            const float *from = q + made[i].query * q_stride + made[i].head * group * size;
            prepare(made[i], shape, from, scale * LOG2E, scaled.data());
            attend<T>(made[i], shape, scaled.data(), all_keys, all_values, &states[i * group],
                      &sums[i * group * size]);
        }
    }
    for (size_t i = 0; i < made.size();) {
        const Task &task = made[i];
        i = merge(made, i, shape, states, sums,
                  out + (task.query * shape.heads + task.head * group) * size);
    }
}

template <typename T>
void put(const float *from, int64_t stride, const int64_t *slots, int64_t count, int64_t heads,
         int64_t size, void *slab, float *scales) {
    T *to = static_cast<T *>(slab);
    for (int64_t n = 0; n < count; n++)
        for (int64_t h = 0; h < heads; h++) {
            const int64_t row = slots[n] * heads + h;
            keep(from + n * stride + h * size, size, to + row * size, scales + row);
        }
}

}  // namespace

// Lanes of a vector: the head size must be a multiple of it.
extern "C" int64_t paged_lanes() { return W; }

// q [N, H, D] (tokens q_stride apart), keys and values [blocks, block_size, K, D] of `bytes` a
// number (fp32, bf16, or int8 with scales [blocks, block_size, K]); tables [sequences, width],
// starts [sequences + 1], lengths [sequences] as in layout.py -> out [N, H, D], of those sequences
// that have at most `few` queries. Where `length` is not 0, it is that of chunks; cosines and sines
// [N, D] turn queries further.
extern "C" void paged_decode(const float *q, int64_t q_stride, const void *keys,
                             const void *values, const float *key_scales,
                             const float *value_scales, int64_t bytes, const int32_t *tables,
                             int64_t width, const int32_t *starts, const int32_t *lengths,
                             int64_t sequences, int64_t few, int64_t heads, int64_t key_heads,
                             int64_t size, int64_t block_size, int64_t length,
                             const float *succ_cosine, const float *succ_sine,
                             const float *inter_cosine, const float *inter_sine, float scale,
                             float *out) {
    const Shape shape{heads, key_heads, size, block_size};
    const Turns turns{length, {{}, {succ_cosine, succ_sine}, {inter_cosine, inter_sine}}};
    const auto made = tasks(shape, tables, width, starts, lengths, sequences, few, turns);
    auto *run = bytes == 4 ? decode<float> : bytes == 2 ? decode<bf16> : decode<int8_t>;
    run(q, q_stride, keys, values, key_scales, value_scales, shape, made, scale, out);
}

// Rows [heads, size], `stride` apart, into the slots [count] of a slab of `bytes` a number.
extern "C" void paged_store(const float *from, int64_t stride, const int64_t *slots, int64_t count,
                            int64_t heads, int64_t size, void *slab, float *scales,
                            int64_t bytes) {
    auto *run = bytes == 4 ? put<float> : bytes == 2 ? put<bf16> : put<int8_t>;
    run(from, stride, slots, count, heads, size, slab, scales);
}
