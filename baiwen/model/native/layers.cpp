// The layers between the matmuls, each in one pass over memory: RMSNorm with the addition before
// it, rotation, SwiGLU, sums of rows; forward and backward, of fp32 and bf16, with fp32 arithmetic.
//
// Every row is computed by one thread in one order, so results do not depend on their number.
#include "vector.h"

#include <algorithm>

namespace {

constexpr int64_t ROWS = 64;       // whose gradients of a weight are added up together
constexpr int64_t SMALL = 1 << 14;  // numbers for which waking threads costs more than they save

// total = x + y (y may be null), out = total / rms(total) * weight; rows [count][size].
template <typename X, typename Y>
void norm(const X *x, const Y *y, const float *weight, X *total, Y *out, float *inverse,
          int64_t count, int64_t size, float eps) {
#pragma omp parallel for if (count * size > SMALL)
    for (int64_t row = 0; row < count; row++) {
        int64_t at = row * size;
        vf squares = vf{};
        for (int64_t d = 0; d < size; d += W) {
            vf here = load(x + at + d, size - d);
            if (y) {
                here += load(y + at + d, size - d);
                store(total + at + d, here, size - d);
            }
            squares += here * here;
        }
        float by = inverse[row] = 1 / std::sqrt(sum(squares) / size + eps);
        const X *from = y ? total : x;
        for (int64_t d = 0; d < size; d += W)
            store(out + at + d, load(from + at + d, size - d) * by * load(weight + d, size - d),
                  size - d);
    }
}

// With n = x / rms(x) and p = grad * n: grad_x = beside + (grad w - n mean(p w)) / rms(x), and
// grad_weight gets sum(p) of every ROWS rows; `beside` (may be null) came to x by another way.
template <typename X, typename Y>
void norm_gradient(const Y *grad, const X *beside, const X *x, const float *weight,
                   const float *inverse, X *grad_x, float *grad_weight, int64_t count,
                   int64_t size) {
#pragma omp parallel for if (count * size > SMALL)
    for (int64_t block = 0; block < (count + ROWS - 1) / ROWS; block++) {
        float *sums = grad_weight + block * size;
        std::fill_n(sums, size, 0.f);
        for (int64_t row = block * ROWS; row < std::min(count, (block + 1) * ROWS); row++) {
            int64_t at = row * size;
            float by = inverse[row];
            vf products = vf{};
            for (int64_t d = 0; d < size; d += W) {
                vf p = load(grad + at + d, size - d) * load(x + at + d, size - d) * by;
                products += p * load(weight + d, size - d);
                store(sums + d, load(sums + d, size - d) + p, size - d);
            }
            float mean = sum(products) / size * by;
            for (int64_t d = 0; d < size; d += W) {
                vf slope = load(grad + at + d, size - d) * load(weight + d, size - d);
                slope = (slope - load(x + at + d, size - d) * mean) * by;
                if (beside) slope += load(beside + at + d, size - d);
                store(grad_x + at + d, slope, size - d);
            }
        }
    }
}

// x [count][heads][size], tokens `stride` apart, turned by tables [count][size] into `out`.
template <typename T>
void turn(const T *x, int64_t stride, const float *cosine, const float *sine, float sign, T *out,
          int64_t count, int64_t heads, int64_t size) {
    int64_t half = size / 2;
#pragma omp parallel for if (count * heads * size > SMALL)
    for (int64_t token = 0; token < count; token++) {
        const float *c = cosine + token * size, *s = sine + token * size;
        for (int64_t head = 0; head < heads; head++) {
            const T *from = x + token * stride + head * size;
            T *to = out + (token * heads + head) * size;
            for (int64_t d = 0; d < half; d += W) {
                int64_t lanes = half - d;
                vf first = load(from + d, lanes), second = load(from + half + d, lanes);
                vf left = load(s + d, lanes) * sign, right = load(s + half + d, lanes) * sign;
                store(to + d, first * load(c + d, lanes) + second * left, lanes);
                store(to + half + d, second * load(c + half + d, lanes) + first * right, lanes);
            }
        }
    }
}

// Rows of gate and up [count][size] are `stride` apart, those of out side by side; each row is
// multiplied with its weight (weights may be null: 1).
template <typename T>
void gated(const T *gate, const T *up, int64_t stride, const float *weights, T *out, int64_t count,
           int64_t size) {
#pragma omp parallel for if (count * size > SMALL)
    for (int64_t row = 0; row < count; row++) {
        float weight = weights ? weights[row] : 1.f;
        for (int64_t d = 0; d < size; d += W) {
            vf x = load(gate + row * stride + d, size - d);
            vf y = x * sigmoid(x) * load(up + row * stride + d, size - d);
            store(out + row * size + d, y * weight, size - d);
        }
    }
}

// Rows of the two gradients are `stride` apart too; grad_weights is null where weights is.
template <typename T>
void gated_gradient(const T *grad, const T *gate, const T *up, int64_t stride,
                    const float *weights, T *grad_gate, T *grad_up, float *grad_weights,
                    int64_t count, int64_t size) {
#pragma omp parallel for if (count * size > SMALL)
    for (int64_t row = 0; row < count; row++) {
        float weight = weights ? weights[row] : 1.f;
        vf products = vf{};
        for (int64_t d = 0; d < size; d += W) {
            int64_t at = row * stride + d;
            vf slope = load(grad + row * size + d, size - d), x = load(gate + at, size - d);
            vf s = sigmoid(x), y = load(up + at, size - d);
            products += slope * x * s * y;
            slope *= weight;
            store(grad_up + at, slope * x * s, size - d);
            store(grad_gate + at, slope * y * s * (1.f + x * (1.f - s)), size - d);
        }
        if (grad_weights) grad_weights[row] = sum(products);
    }
}

// out[n] is the sum of the k rows of x that stand at its places [count][k].
template <typename T>
void summed(const T *x, const int64_t *places, T *out, int64_t count, int64_t k, int64_t size) {
#pragma omp parallel for if (count * k * size > SMALL)
    for (int64_t n = 0; n < count; n++)
        for (int64_t d = 0; d < size; d += W) {
            vf total = vf{};
            for (int64_t j = 0; j < k; j++)
                total += load(x + places[n * k + j] * size + d, size - d);
            store(out + n * size + d, total, size - d);
        }
}

// Calls f with null pointers of the types of x (fp32, or bf16 too) and of what is beside it.
template <typename F>
void typed(bool half_x, bool half, F f) {
    if (half_x)
        f(static_cast<bf16 *>(nullptr), static_cast<bf16 *>(nullptr));
    else if (half)
        f(static_cast<float *>(nullptr), static_cast<bf16 *>(nullptr));
    else
        f(static_cast<float *>(nullptr), static_cast<float *>(nullptr));
}

}  // namespace

// x, total in fp32, or bf16 if half_x; y and out in bf16 if half. A null y adds nothing.
extern "C" void norm_forward(const void *x, const void *y, const float *weight, void *total,
                             void *out, float *inverse, int64_t count, int64_t size, float eps,
                             bool half_x, bool half) {
    typed(half_x, half, [&]<typename X, typename Y>(X *, Y *) {
        norm((const X *)x, (const Y *)y, weight, (X *)total, (Y *)out, inverse, count, size, eps);
    });
}

// grad_weight [ceil(count / 64)][size]; beside may be null.
extern "C" void norm_backward(const void *grad, const void *beside, const void *x,
                              const float *weight, const float *inverse, void *grad_x,
                              float *grad_weight, int64_t count, int64_t size, bool half_x,
                              bool half) {
    typed(half_x, half, [&]<typename X, typename Y>(X *, Y *) {
        norm_gradient((const Y *)grad, (const X *)beside, (const X *)x, weight, inverse,
                      (X *)grad_x, grad_weight, count, size);
    });
}

// sign: 1 turns forth, -1 back.
extern "C" void rotate(const void *x, int64_t stride, const float *cosine, const float *sine,
                       float sign, void *out, int64_t count, int64_t heads, int64_t size,
                       bool half) {
    typed(half, half, [&]<typename X, typename Y>(X *, Y *) {
        turn((const X *)x, stride, cosine, sine, sign, (X *)out, count, heads, size);
    });
}

// weights [count] may be null.
extern "C" void swiglu_forward(const void *gate, const void *up, int64_t stride,
                               const float *weights, void *out, int64_t count, int64_t size,
                               bool half) {
    typed(half, half, [&]<typename X, typename Y>(X *, Y *) {
        gated((const X *)gate, (const X *)up, stride, weights, (X *)out, count, size);
    });
}

extern "C" void swiglu_backward(const void *grad, const void *gate, const void *up, int64_t stride,
                                const float *weights, void *grad_gate, void *grad_up,
                                float *grad_weights, int64_t count, int64_t size, bool half) {
    typed(half, half, [&]<typename X, typename Y>(X *, Y *) {
        gated_gradient((const X *)grad, (const X *)gate, (const X *)up, stride, weights,
                       (X *)grad_gate, (X *)grad_up, grad_weights, count, size);
    });
}

// x [any][size], places [count][k], out [count][size].
extern "C" void sum_rows(const void *x, const int64_t *places, void *out, int64_t count, int64_t k,
                         int64_t size, bool half) {
    typed(half, half, [&]<typename X, typename Y>(X *, Y *) {
        summed((const X *)x, places, (X *)out, count, k, size);
    });
}
