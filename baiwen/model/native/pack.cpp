// Packing: weights as integers of 12, 8, 6 or 4 bits in the layout of codes.h. The
// plain form is `_encode` in codes.py, which says what is computed.
#include "codes.h"
#include "vector.h"

namespace {

constexpr int V = GROUP / W;  // vectors of a group
constexpr float SHRINK[] = {1.f, .93f, .86f, .78f};
constexpr int FITS = 3;
constexpr float TINY = 0x1p-100f;

struct Coded {
    vf codes[V];
    float scale, least;
};

float as_bf16(float x) {
    bf16 narrowed;
    narrow(x, &narrowed);
    return widen(narrowed);
}

vf nearest(vf x) {  // ties to even, below 2^22
    const vf magic = all(12582912.f);
    return (x + magic) - magic;
}

vf within(vf x, float low, float high) {
    const vf raised = x < low ? all(low) : x;
    return raised > high ? all(high) : raised;
}

float whole(const vf *x) {
    vf total = {};
    for (int i = 0; i < V; i++) total += x[i];
    return sum(total);
}

template <int BITS> Coded symmetric(const vf *x, float low, float high) {
    constexpr float largest = BITS == 12 ? 2047.f : BITS == 8 ? 127.f : 31.f;
    const float wanted = std::max(-low, high) / largest;
    Coded made = {};
    if (BITS == 12) {
        int exponent;
        const float mantissa = std::frexp(wanted, &exponent);
        made.scale = std::ldexp(1.f, exponent - (mantissa == .5f));
    } else {
        made.scale = as_bf16(wanted * (1 + 0x1p-8f));
    }
    made.scale = std::max(made.scale, TINY);
    for (int i = 0; i < V; i++) made.codes[i] = within(nearest(x[i] / made.scale), -largest, largest);
    return made;
}

// Codes of weights that lie on the line scale * code + least.
void onto(const vf *x, Coded &line) {
    for (int i = 0; i < V; i++)
        line.codes[i] = within(nearest((x[i] - line.least) / line.scale), 0.f, 15.f);
}

// The line of least squares through (code, weight).
void fit(const vf *x, float mean, Coded &line) {
    const float centre = whole(line.codes) / GROUP;
    vf square = {}, product = {};
    for (int i = 0; i < V; i++) {
        const vf from = line.codes[i] - centre;
        square += from * from;
        product += from * x[i];
    }
    const float slope = sum(product) / std::max(sum(square), 1e-6f);
    line.scale = as_bf16(std::max(slope, TINY));
    line.least = as_bf16(mean - line.scale * centre);
}

Coded least_squares(const vf *x, float low, float high) {
    const float middle = (high + low) / 2, width = std::max(high - low, TINY);
    const float mean = whole(x) / GROUP;
    Coded best = {};
    float smallest = INFINITY;
    for (const float &shrink : SHRINK) {
        Coded tried = {{}, width * (shrink / 15), middle - width * (shrink / 2)};
        for (int time = 0; time < FITS; ++time) {
            onto(x, tried);
            fit(x, mean, tried);
        }
        onto(x, tried);
        vf errors[V];
        for (int i = 0; i < V; i++) {
            const vf error = tried.codes[i] * tried.scale + tried.least - x[i];
            errors[i] = error * error;
        }
        const float error = whole(errors);
        if (&shrink == SHRINK || error < smallest) smallest = error, best = tried;
    }
    return best;
}

template <int BITS> Coded coded(const float *values) {
    vf x[V], low = load(values), high = low, broken = {};  // NaN where one is NaN or infinite
    for (int i = 0; i < V; i++) {
        x[i] = load(values + i * W);
        broken += x[i] * 0.f;
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    if (const float lost = sum(broken); lost != 0) return {{}, lost, lost};
    float least = low[0], most = high[0];
    for (int i = 1; i < W; i++) least = std::min(least, low[i]), most = std::max(most, high[i]);
    if constexpr (BITS == 4) return least_squares(x, least, most);
    return symmetric<BITS>(x, least, most);
}

// The code of a row and an input into its place in a group, whose bits are zero.
template <int BITS> void put(int code, int16_t *group, int64_t row, int64_t k) {
    if constexpr (!NARROW<BITS>) {
        const int64_t step = k / 2, first = step / 4 * 3;
        const auto add = [&](int64_t line, int bits) {
            group[line * 32 + row * 2 + k % 2] |= int16_t(bits);
        };
        if (BITS == 8) return add(step / 2, (code & 255) << 8 * (step % 2));
        if (step % 4 < 3) return add(first + step % 4, code << 4);
        for (int part = 0; part < 3; ++part) add(first + part, code >> 4 * part & 15);
        return;
    }
    const int64_t step = k / 4;
    const auto add = [&](int64_t line, int bits) {
        reinterpret_cast<uint8_t *>(group)[line * 64 + row * 4 + k % 4] |= uint8_t(bits);
    };
    if (BITS == 4) return add(step / 2, code << 4 * (step % 2));
    const int64_t first = step / 4 * 3;
    if (step % 4 < 3) return add(first + step % 4, code + 32);
    for (int part = 0; part < 3; ++part) add(first + part, (code + 32) >> 2 * part << 6);
}

// The codes of a row and what follows them into a group.
template <int BITS> void lay(const Coded &from, int64_t row, int16_t *group) {
    float codes[GROUP];
    std::memcpy(codes, from.codes, sizeof codes);
    for (int64_t k = 0; k < GROUP; ++k) put<BITS>(int(codes[k]), group, row, k);
    narrow(from.scale, (bf16 *)group + CODES<BITS> + row);
    if (BITS == 4) narrow(from.least, (bf16 *)group + CODES<BITS> + PANEL + row);
}

template <int BITS, typename T>
void encode(const T *weight, int64_t outputs, int64_t inputs, int16_t *out) {
    const int64_t groups = (inputs + GROUP - 1) / GROUP, panels = (outputs + PANEL - 1) / PANEL;
    std::memset(out, 0, sizeof(int16_t) * panels * groups * WORDS<BITS>);
#pragma omp parallel for
    for (int64_t panel = 0; panel < panels; ++panel)
        for (int64_t group = 0; group < groups; ++group)
            for (int64_t row = 0; row < PANEL; ++row) {
                const int64_t n = panel * PANEL + row, begin = group * GROUP;
                const int64_t count = n < outputs ? std::min(GROUP, inputs - begin) : 0;
                float values[GROUP] = {};
                for (int64_t k = 0; k < count; ++k) values[k] = widen(weight[n * inputs + begin + k]);
                lay<BITS>(coded<BITS>(values), row, out + (panel * groups + group) * WORDS<BITS>);
            }
}

template <typename T>
void encode(int bits, const void *weight, int64_t outputs, int64_t inputs, void *out) {
    with_bits(bits, [&](auto b) {
        encode<b>(static_cast<const T *>(weight), outputs, inputs, static_cast<int16_t *>(out));
    });
}

}  // namespace

// weight [outputs, inputs] fp32 or bf16 (`half`) -> out [panels, groups, words].
extern "C" void packed_encode(int bits, const void *weight, bool half, int64_t outputs,
                              int64_t inputs, void *out) {
    (half ? encode<bf16> : encode<float>)(bits, weight, outputs, inputs, out);
}
