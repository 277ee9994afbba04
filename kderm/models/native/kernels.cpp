/* What torch's CPU operators do in several passes over memory, in one each; float32.
 *
 * Feature maps are rows of channels: (n, places, c), contiguous. A pass reads what it needs, computes
 * in registers and writes once; activations are computed again where they would have to be stored.
 * Compiled for the machine at hand by compiled.py; kernels.py says how to call these.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH 16
#define BLOCK 2 /* rows whose sums stay in registers: few, so that memory is read in order */
#define AHEAD 1024 /* floats; rows in turns confuse the processor's own foresight */
#define INLINE static inline __attribute__((always_inline))

/* Sixteen floats; the compiler splits them where registers are narrower. */
typedef float lanes __attribute__((vector_size(4 * WIDTH), aligned(4)));
typedef int whole __attribute__((vector_size(4 * WIDTH), aligned(4)));

extern "C" {

enum activation { LINEAR, SILU, RELU, RELU6 };

INLINE lanes load(const float *from, long left) {
    if (left >= WIDTH) return *(const lanes *)from;
    lanes found = {0};
    memcpy(&found, from, 4 * left);
    return found;
}

INLINE void store(float *to, lanes value, long left) {
    if (left >= WIDTH) *(lanes *)to = value;
    else memcpy(to, &value, 4 * left);
}

INLINE lanes all(float value) { return value - (lanes){0}; }
INLINE lanes least(lanes a, lanes b) { return a < b ? a : b; } /* b where a is NaN */
INLINE lanes most(lanes a, lanes b) { return a > b ? a : b; }

/* 1 / (1 + exp(-y)) to about two units in the last place; NaN stays with whoever multiplies by y. */
INLINE lanes sigmoid(lanes y) {
    lanes t = least(most(y * -1.44269504f, all(-126.0f)), all(126.0f));
    lanes shifted = t + 12582912.0f; /* 1.5 * 2^23: the nearest whole number is in the low bits */
    lanes f = t - (shifted - 12582912.0f);
    lanes power = 1.5403530e-4f * f + 1.3333558e-3f; /* 2^f on [-1/2, 1/2] */
    power = power * f + 9.6181291e-3f;
    power = power * f + 5.5504109e-2f;
    power = power * f + 2.4022651e-1f;
    power = power * f + 6.9314718e-1f;
    power = power * f + 1.0f;
    power = (lanes)((whole)power + ((whole)shifted << 23));
    return 1.0f / (1.0f + power);
}

INLINE lanes activated(lanes y, int activation) {
    lanes zero = {0};
    if (activation == SILU) return y * sigmoid(y);
    if (activation == RELU) return y < zero ? zero : y;
    if (activation == RELU6) return least(all(6.0f), y < zero ? zero : y);
    return y;
}

/* Gradient by y of a value whose gradient by activated(y) is g. */
INLINE lanes returned(lanes g, lanes y, int activation) {
    lanes zero = {0};
    if (activation == SILU) {
        lanes s = sigmoid(y);
        return g * (s * (1.0f + y * (1.0f - s)));
    }
    if (activation == RELU) return y > zero ? g : zero;
    if (activation == RELU6) return (y > zero) & (y < all(6.0f)) ? g : zero;
    return g;
}

#define CHOOSE(function, ...)                                   \
    switch (activation) {                                       \
    case SILU: function(__VA_ARGS__, SILU); break;              \
    case RELU: function(__VA_ARGS__, RELU); break;              \
    case RELU6: function(__VA_ARGS__, RELU6); break;            \
    default: function(__VA_ARGS__, LINEAR);                     \
    }

#define SPAN 512 /* rows whose sums are kept in float before they go to double */

INLINE long smaller(long a, long b) { return a < b ? a : b; }

/* Add (2, c) sums of a span to those of double, and begin anew. */
INLINE void flush(float *span, double *sums, long c) {
    for (long k = 0; k < 2 * c; k++) sums[k] += span[k];
    memset(span, 0, 8 * c);
}

/* Sums (2, c) of parts (parts, 2, c) of double. */
static void join(const double *parts, long count, long c, double *sums) {
    memset(sums, 0, 16 * c);
    for (long part = 0; part < count; part++)
        for (long k = 0; k < 2 * c; k++) sums[k] += parts[part * 2 * c + k];
}

/* === Statistics of a batch === */

/* found (5, c): mean, biased variance, 1 / deviation, and the scale and shift that normalise x.
 * x: (rows, c); gamma and beta (c,) may be missing. fold: rows that fill the lanes together.
 * Sums are of the distance to the first row. */
int statistics(const float *x, long rows, long c, long fold, const float *gamma,
               const float *beta, double epsilon, float *found, long threads) {
    long wide = c * fold, lines = rows / fold, parts = smaller(threads, (lines + 255) / 256);
    double *sums = (double *)calloc((parts + 1) * 2 * wide, 8);
    float *origins = (float *)malloc(4 * wide);
    if (!sums || !origins) return 1;
    for (long k = 0; k < wide; k++) origins[k] = x[k % c];
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long part = 0; part < parts; part++) {
        long first = lines * part / parts, end = lines * (part + 1) / parts;
        double *mine = sums + part * 2 * wide;
        float *span = (float *)calloc(2 * wide, 4);
        for (long row = first; row < end; row += BLOCK) {
            long count = smaller(BLOCK, end - row);
            if ((row - first) % SPAN == 0) flush(span, mine, wide);
            for (long k = 0; k < wide; k += WIDTH) {
                long left = wide - k;
                lanes origin = load(origins + k, left), one = {0}, two = {0};
                for (long r = 0; r < count; r++) {
                    const float *at = x + (row + r) * wide + k;
                    __builtin_prefetch(at + AHEAD);
                    lanes d = load(at, left) - origin;
                    one += d;
                    two += d * d;
                }
                store(span + k, load(span + k, left) + one, left);
                store(span + wide + k, load(span + wide + k, left) + two, left);
            }
        }
        flush(span, mine, wide);
        free(span);
    }
    double *total = sums + parts * 2 * wide;
    join(sums, parts, wide, total);
    for (long k = 0; k < c; k++) {
        double one = 0, two = 0;
        for (long i = k; i < wide; i += c) {
            one += total[i];
            two += total[wide + i];
        }
        double distance = one / rows, spread = two / rows - distance * distance;
        double mean = x[k] + distance, variance = spread > 0 || isnan(spread) ? spread : 0;
        double inverse = 1 / sqrt(variance + epsilon), scale = gamma ? inverse * gamma[k] : inverse;
        found[k] = mean;
        found[c + k] = variance;
        found[2 * c + k] = inverse;
        found[3 * c + k] = scale;
        found[4 * c + k] = (beta ? beta[k] : 0) - mean * scale;
    }
    free(sums);
    free(origins);
    return 0;
}

/* === Forward === */

INLINE void forward(const float *x, long places, long c, const float *scale, const float *shift,
                    const float *gate, float *y, float *sums, const int activation) {
    for (long row = 0; row < places; row += BLOCK) {
        long count = smaller(BLOCK, places - row);
        for (long k = 0; k < c; k += WIDTH) {
            long left = c - k;
            lanes a = load(scale + k, left), b = load(shift + k, left), sum = {0};
            lanes factor = gate ? load(gate + k, left) : all(1.0f);
            for (long r = 0; r < count; r++) {
                long at = (row + r) * c + k;
                __builtin_prefetch(x + at + AHEAD);
                lanes z = activated(load(x + at, left) * a + b, activation);
                if (sums) sum += z;
                if (y) store(y + at, gate ? z * factor : z, left);
            }
            if (sums) store(sums + k, load(sums + k, left) + sum, left);
        }
    }
}

/* y = activation(x * scale + shift) * gate, and the sums of the activation over an image's places.
 * x, y: (n, places, c); gate and sums: (n, c); y, gate and sums may be missing. */
void normalize(const float *x, long n, long places, long c, const float *scale, const float *shift,
               const float *gate, float *y, float *sums, long activation, long threads) {
    long parts = sums ? 1 : smaller((4 * threads + n - 1) / n, (places + 63) / 64);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long task = 0; task < n * parts; task++) {
        long image = task / parts, part = task % parts;
        long first = places * part / parts, count = places * (part + 1) / parts - first;
        long at = (image * places + first) * c;
        const float *factor = gate ? gate + image * c : NULL;
        float *sum = sums ? sums + image * c : NULL;
        if (sum) memset(sum, 0, 4 * c);
        CHOOSE(forward, x + at, count, c, scale, shift, factor, y ? y + at : NULL, sum)
    }
}

/* === Backward === */

INLINE void gate_sums(const float *g, const float *x, long places, long c, const float *scale,
                      const float *shift, float *sums, const int activation) {
    memset(sums, 0, 4 * c);
    for (long row = 0; row < places; row += BLOCK) {
        long count = smaller(BLOCK, places - row);
        for (long k = 0; k < c; k += WIDTH) {
            long left = c - k;
            lanes a = load(scale + k, left), b = load(shift + k, left), sum = {0};
            for (long r = 0; r < count; r++) {
                long at = (row + r) * c + k;
                __builtin_prefetch(x + at + AHEAD);
                __builtin_prefetch(g + at + AHEAD);
                lanes z = activated(load(x + at, left) * a + b, activation);
                sum += load(g + at, left) * z;
            }
            store(sums + k, load(sums + k, left) + sum, left);
        }
    }
}

/* Gradient (n, c) by the gate of `normalize`, given g by its y. */
void gate_gradient(const float *g, const float *x, long n, long places, long c, const float *scale,
                   const float *shift, float *sums, long activation, long threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long image = 0; image < n; image++) {
        long at = image * places * c;
        CHOOSE(gate_sums, g + at, x + at, places, c, scale, shift, sums + image * c)
    }
}

INLINE void channel_sums(const float *g, const float *x, long places, long c, const float *scale,
                         const float *shift, const float *mean, const float *gate,
                         const float *pooled, double *sums, const int activation) {
    float *span = (float *)calloc(2 * c, 4);
    for (long row = 0; row < places; row += BLOCK) {
        long count = smaller(BLOCK, places - row);
        if (row % SPAN == 0) flush(span, sums, c);
        for (long k = 0; k < c; k += WIDTH) {
            long left = c - k;
            lanes a = load(scale + k, left), b = load(shift + k, left), m = load(mean + k, left);
            lanes factor = gate ? load(gate + k, left) : all(1.0f);
            lanes more = pooled ? load(pooled + k, left) : all(0.0f), one = {0}, two = {0};
            for (long r = 0; r < count; r++) {
                long at = (row + r) * c + k;
                __builtin_prefetch(x + at + AHEAD);
                __builtin_prefetch(g + at + AHEAD);
                lanes value = load(x + at, left), incoming = load(g + at, left);
                if (gate) incoming = incoming * factor + more;
                incoming = returned(incoming, value * a + b, activation);
                one += incoming;
                two += incoming * (value - m);
            }
            store(span + k, load(span + k, left) + one, left);
            store(span + c + k, load(span + c + k, left) + two, left);
        }
    }
    flush(span, sums, c);
    free(span);
}

INLINE void backward(const float *g, const float *x, long places, long c, const float *scale,
                     const float *shift, const float *gate, const float *pooled,
                     const float *slope, const float *offset, float *out, const int activation) {
    for (long row = 0; row < places; row += BLOCK) {
        long count = smaller(BLOCK, places - row);
        for (long k = 0; k < c; k += WIDTH) {
            long left = c - k;
            lanes a = load(scale + k, left), b = load(shift + k, left);
            lanes s = load(slope + k, left), o = load(offset + k, left);
            lanes factor = gate ? load(gate + k, left) : all(1.0f);
            lanes more = pooled ? load(pooled + k, left) : all(0.0f);
            for (long r = 0; r < count; r++) {
                long at = (row + r) * c + k;
                __builtin_prefetch(x + at + AHEAD);
                __builtin_prefetch(g + at + AHEAD);
                lanes value = load(x + at, left), incoming = load(g + at, left);
                if (gate) incoming = incoming * factor + more;
                incoming = returned(incoming, value * a + b, activation);
                store(out + at, incoming * a + (value * s + o), left);
            }
        }
    }
}

/* Gradients of `normalize` with the statistics of the batch: out (n, places, c) by x, and
 * found (2, c) by the scale (times the deviation) and the shift.
 * g: by y; pooled: (n, c), what is added to the gradient of each place before the activation, with
 * a gate only; scale, shift, mean: (c,), inverse: 1 / deviation. Channels are fold times their own
 * number, see `statistics`. With h the gradient by x * scale + shift, the gradient by x is
 * scale * (h - mean of h - (x - mean) * inverse^2 * mean of h * (x - mean)). */
int norm_gradient(const float *g, const float *x, long n, long places, long c, long fold,
                  const float *scale, const float *shift, const float *mean,
                  const float *inverse, const float *gate, const float *pooled, float *found,
                  float *out, long activation, long threads) {
    long parts = smaller((threads + n - 1) / n, (places + 63) / 64), tasks = n * parts;
    double *sums = (double *)calloc((tasks + 1) * 2 * c, 8);
    float *slope = (float *)malloc(8 * c), *offset = slope + c;
    if (!sums || !slope) return 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long task = 0; task < tasks; task++) {
        long image = task / parts, part = task % parts;
        long first = places * part / parts, count = places * (part + 1) / parts - first;
        long at = (image * places + first) * c;
        const float *factor = gate ? gate + image * c : NULL;
        const float *more = gate ? pooled + image * c : NULL;
        CHOOSE(channel_sums, g + at, x + at, count, c, scale, shift, mean, factor, more,
               sums + task * 2 * c)
    }
    double *total = sums + tasks * 2 * c;
    join(sums, tasks, c, total);
    long own = c / fold;
    for (long k = 0; k < own; k++) {
        double one = 0, two = 0, rows = (double)n * places * fold;
        for (long i = k; i < c; i += own) {
            one += total[i];
            two += total[c + i];
        }
        found[k] = two * inverse[k];
        found[own + k] = one;
        double steep = -scale[k] * (double)inverse[k] * inverse[k] * two / rows;
        for (long i = k; i < c; i += own) {
            slope[i] = steep;
            offset[i] = -scale[k] * one / rows - steep * mean[k];
        }
    }
    parts = smaller((4 * threads + n - 1) / n, (places + 63) / 64);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long task = 0; task < n * parts; task++) {
        long image = task / parts, part = task % parts;
        long first = places * part / parts, count = places * (part + 1) / parts - first;
        long at = (image * places + first) * c;
        const float *factor = gate ? gate + image * c : NULL;
        const float *more = gate ? pooled + image * c : NULL;
        CHOOSE(backward, g + at, x + at, count, c, scale, shift, factor, more, slope, offset,
               out + at)
    }
    free(sums);
    free(slope);
    return 0;
}

/* === Depthwise convolution of 5 x 5: gradient by the kernel === */

#define SIZE 5

/* One row of the kernel, sixteen channels, one image: sums[j] += x(.., j) * g over all places. */
INLINE void kernel_row(const float *x, const float *g, long height, long width, long c, long out_h,
                       long out_w, long row, long top, long left_pad, long channels, lanes *sums,
                       const int stride) {
    const int size = SIZE;
    lanes even[SIZE] = {{0}}, odd[SIZE] = {{0}};
    long low = smaller(out_w, (left_pad + stride - 1) / stride);
    long fit = width - size + left_pad;
    long high = fit < 0 ? 0 : smaller(out_w, fit / stride + 1);
    for (long i = 0; i < out_h; i++) {
        long from = i * stride - top + row;
        if (from < 0 || from >= height) continue;
        const float *line = x + from * width * c - left_pad * c, *given = g + i * out_w * c;
        long j = 0;
        for (; j < out_w; j++) {
            if (j == low && high - low > 1) { /* where the whole kernel lies within the map */
                for (; j + 1 < high; j += 2) {
                    lanes one = load(given + j * c, channels);
                    lanes two = load(given + (j + 1) * c, channels);
                    for (int t = 0; t < size; t++) {
                        even[t] += one * load(line + (j * stride + t) * c, channels);
                        odd[t] += two * load(line + ((j + 1) * stride + t) * c, channels);
                    }
                }
                if (j >= out_w) break;
            }
            lanes one = load(given + j * c, channels);
            for (int t = 0; t < size; t++) {
                long at = j * stride + t - left_pad;
                if (at >= 0 && at < width) even[t] += one * load(line + (at + left_pad) * c, channels);
            }
        }
    }
    for (int t = 0; t < size; t++) sums[t] += even[t] + odd[t];
}

#define KERNEL_ROW(stride, channels)                                                            \
    kernel_row(x + image * height * width * c + k, g + image * out_h * out_w * c + k, height,   \
               width, c, out_h, out_w, row, top, left_pad, channels, sums, stride)

/* found (groups of images, 5, 5, c): the gradient by a depthwise kernel of 5 x 5, in parts to add.
 * x: (n, height, width, c); g: (n, out_h, out_w, c), by the output. */
void depthwise_kernel_gradient(const float *x, const float *g, long n, long height, long width,
                               long c, long out_h, long out_w, long stride, long top,
                               long left_pad, long groups, float *found, long threads) {
    long blocks = (c + WIDTH - 1) / WIDTH;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (long task = 0; task < groups * blocks; task++) {
        long group = task / blocks, k = task % blocks * WIDTH, left = c - k;
        for (long row = 0; row < SIZE; row++) {
            lanes sums[SIZE] = {{0}};
            for (long image = n * group / groups; image < n * (group + 1) / groups; image++) {
                if (left < WIDTH) KERNEL_ROW(stride, left);
                else if (stride == 1) KERNEL_ROW(1, WIDTH);
                else KERNEL_ROW(stride, WIDTH);
            }
            for (long j = 0; j < SIZE; j++)
                store(found + ((group * SIZE + row) * SIZE + j) * c + k, sums[j], left);
        }
    }
}

} // extern "C"
