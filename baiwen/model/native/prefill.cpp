// Attention of a chunk of one sequence's queries over its pages: over all keys, or those in lists.
//
// A task is a block of queries with query heads that share a key head. Keys are read where they lie,
// once for all heads of a task; blocks and single keys of a list are met as one stream. Each query
// meets its keys in an order of its own list, so results depend neither on the threads nor, where
// there are no lists, on how a prompt is cut into chunks.
//
// T queries, H query heads, K key heads, D head size.
#include "forward.h"
#include "slab.h"

namespace {

struct Shape {
    int64_t queries, heads, groups, size, block_size, q_stride, place, first, last;
};

// The keys and values of a key head, as `Asked` reads them.
template <typename T>
struct Pages {
    Slab<const T> keys, values;
    const int32_t *table;
    const Shape &shape;
    int64_t group;

    void operator()(Run run, float *key, float *value, int64_t step) const {
        for (int64_t i = 0, here; i < run.count; i += here) {
            int64_t at = run.first + i, within = at % shape.block_size;
            int64_t slot = table[at / shape.block_size] * shape.block_size + within;
            here = std::min(run.count - i, shape.block_size - within);
            copy(keys, slot, here, key + i * step, step);
            copy(values, slot, here, value + i * step, step);
        }
    }

    void copy(const Slab<const T> &from, int64_t slot, int64_t count, float *to, int64_t step) const {
        int64_t stride = shape.groups * shape.size;
        const T *at = from.at + slot * stride + group * shape.size;
        if (!coded<T>) return gather(at, stride, count, shape.size, 1.f, to, count, step);
        for (int64_t i = 0; i < count; i++)
            gather(at + i * stride, stride, 1, shape.size,
                   from.scales[(slot + i) * shape.groups + group], to + i * step, 1, step);
    }
};

struct Lists {
    int64_t heads;
    const int32_t *firsts, *columns;
    const int64_t *ends, *column_ends;
    int64_t count(int64_t list) const {
        int64_t alone = column_ends ? column_ends[list + 1] - column_ends[list] : 0;
        return (ends[list + 1] - ends[list]) * B + alone;
    }
};

struct Task {
    int64_t query, head, heads;
    int64_t list, work;
};

template <typename T>
struct Job {
    const float *q;
    Slab<const T> keys, values;
    const int32_t *table;
    Shape shape;
    Lists lists;
    float scale;
    float *out, *lse;

    void run(const Task &task) const {
        int64_t queries = std::min(B, shape.queries - task.query), place = shape.place + task.query;
        Pages<T> pages{keys, values, table, shape, task.head / (shape.heads / shape.groups)};
        Asked asked(task.heads, queries, shape.size, place);
        for (int64_t i = 0; i < task.heads; i++)
            asked.take(i, q + task.query * shape.q_stride + (task.head + i) * shape.size,
                       shape.q_stride, scale);
        asked.meet(runs(task.list, std::min(shape.last, place + queries)), pages);
        for (int64_t i = 0; i < task.heads; i++) {
            int64_t head = task.head + i;
            asked.give(i, out + (task.query * shape.heads + head) * shape.size,
                       shape.heads * shape.size, lse + head * shape.queries + task.query);
        }
    }

    // The keys of a list, or all, before `last`.
    std::vector<Run> runs(int64_t list, int64_t last) const {
        std::vector<Run> found;
        auto add = [&](int64_t first, int64_t end) {
            first = std::max(first, shape.first), end = std::min(end, last);
            if (first < end) found.push_back({first, end - first});
        };
        if (!lists.ends) add(shape.first, last);
        if (lists.column_ends)
            for (int64_t i = lists.column_ends[list]; i < lists.column_ends[list + 1]; i++)
                add(lists.columns[i], lists.columns[i] + 1);
        if (lists.ends)
            for (int64_t i = lists.ends[list]; i < lists.ends[list + 1]; i++)
                add(lists.firsts[i], lists.firsts[i] + B);
        return found;
    }
};

// Long tasks first. A group's heads part where there would be less than FULL tasks for a thread.
std::vector<Task> tasks(const Shape &shape, const Lists &lists, int64_t threads) {
    constexpr int64_t FULL = 4;
    int64_t shared = shape.heads / (lists.ends ? lists.heads : shape.groups);
    int64_t blocks = (shape.queries + B - 1) / B, whole = blocks * (shape.heads / shared);
    if (!whole) return {};
    int64_t parts = std::min(shared, (FULL * threads + whole - 1) / whole);
    int64_t most = (shared + parts - 1) / parts;
    std::vector<Task> made;
    for (int64_t block = 0; block < blocks; block++)
        for (int64_t head = 0; head < shape.heads; head += shared) {
            int64_t list = block * (shape.heads / shared) + head / shared;
            int64_t work = lists.ends ? lists.count(list) : block;
            for (int64_t part = 0; part < shared; part += most)
                made.push_back({block * B, head + part, std::min(most, shared - part), list, work});
        }
    std::stable_sort(made.begin(), made.end(),
                     [](const Task &one, const Task &other) { return one.work > other.work; });
    return made;
}

template <typename T>
void attend(const float *q, const void *keys, const void *values, const float *key_scales,
            const float *value_scales, const int32_t *table, const Shape &shape, const Lists &lists,
            float scale, int64_t threads, float *out, float *lse) {
    const Job<T> job{q,     {static_cast<const T *>(keys), key_scales},
                     {static_cast<const T *>(values), value_scales},
                     table, shape, lists, scale, out, lse};
    const std::vector<Task> made = tasks(shape, lists, threads);
#pragma omp parallel for schedule(dynamic)
    for (size_t i = 0; i < made.size(); i++) job.run(made[i]);
}

}  // namespace

// Queries of a block, and keys of a block in a list.
extern "C" int64_t prefill_block() { return B; }

// q [T, H, D]; keys and values [blocks, block_size, K, D] of `bytes` a number (fp32, bf16, or int8
// with scales [blocks, block_size, K]); table [m]. shape: T, H, K, D, block_size, numbers from query
// to query, place of the first query, first key, and behind the last. Lists as in pages.py, or none
// -> out [T, H, D], lse [H, T].
extern "C" void prefill(const float *q, const void *keys, const void *values,
                        const float *key_scales, const float *value_scales, int64_t bytes,
                        const int32_t *table, const int64_t *shape, int64_t list_heads,
                        const int32_t *firsts, const int64_t *ends, const int32_t *columns,
                        const int64_t *column_ends, float scale, int64_t threads, float *out,
                        float *lse) {
    Shape all;
    memcpy(&all, shape, sizeof all);
    auto *run = bytes == 4 ? attend<float> : bytes == 2 ? attend<bf16> : attend<int8_t>;
    run(q, keys, values, key_scales, value_scales, table, all,
        {list_heads, firsts, columns, ends, column_ends}, scale, threads, out, lse);
}
