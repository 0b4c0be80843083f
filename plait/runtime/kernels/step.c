/* One step of decoding: new tokens, one of each of several streams, through a stack of pre-norm layers.

   Weights are read once for all tokens, in bfloat16 or in groups of 32 with a scale each; sums are in float32. Vectors are those of GCC
   and Clang, which make of them what the processor has. plait/runtime/kernels/__init__.py compiles this file and describes its structures. */

#include <math.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif
#ifdef _OPENMP
#include <omp.h>
#endif

#define LANES 16
#define GROUP 32
#define AHEAD 2048 /* bytes that are asked for before they are needed: the processor's own foresight ends with a page */
#define PATIENCE 2000 /* looks at the others before the processor is given away */
#define MOST 16 /* tokens of a step */

typedef float floats __attribute__((vector_size(64), aligned(4)));
typedef uint32_t words __attribute__((vector_size(64), aligned(4)));
typedef uint16_t halves __attribute__((vector_size(32), aligned(2)));
typedef int8_t bytes __attribute__((vector_size(16), aligned(1)));
typedef uint8_t nibbles __attribute__((vector_size(16), aligned(1)));
typedef int32_t ints __attribute__((vector_size(64), aligned(4)));

typedef struct { /* [rows, columns]; columns are a multiple of GROUP */
    const void *weights; /* bfloat16, int8, or 4 bits: element j of a group in the low ones of byte j, element j + 16 in the high ones */
    const uint16_t *scales, *least; /* float16 [rows, columns / GROUP] of a group: what its weights are times, and of 4 bits what is added */
    const float *bias;   /* [rows] or NULL */
    int64_t rows, columns, bits;
} Matrix;

typedef struct {
    const float *weight, *bias; /* bias or NULL */
} Norm;

typedef struct {
    Matrix project, out, up, down;
    Norm attention, feed_forward, queries, keys; /* weight NULL: none */
    int64_t turns; /* whether positions rotate queries and keys */
    int64_t number; /* of the cache's layer */
} Layer;

typedef struct {
    Matrix enter, leave; /* weights NULL: none */
    const Layer *layers;
    Norm last;
    int64_t count, width, inside, heads, kv_heads, head_width, activation, gated, is_rms;
    float eps;
} Stack;

typedef struct { /* where the keys and values of a token's stream lie */
    void *data;
    int64_t layer_stride, value_stride; /* in numbers, from layer to layer and from keys to values */
    int64_t capacity, length;
    const uint8_t *const *hidden; /* by number of the cache's layer: [length] keys that are not seen, or NULL */
} Stream;

typedef struct {
    const float *cosines, *sines; /* [tokens, head_width], as plait.model.rope.rotary_table gives them */
    const Stream *streams;
    int64_t tokens, is_bfloat16;
} Step;

static inline float sum_of(floats v) {
    float total = 0.0f;
    for (int i = 0; i < LANES; i++) total += v[i];
    return total;
}

#ifdef __AVX512F__ /* what GCC 12 makes of __builtin_convertvector here takes twice as many instructions */
static inline floats from_halves(const uint16_t *p) {
    return (floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)p)), 16);
}

static inline floats from_bytes(bytes v) { return (floats)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32((__m128i)v)); }
#else
static inline floats from_halves(const uint16_t *p) {
    return (floats)(__builtin_convertvector(*(const halves *)p, words) << 16);
}

static inline floats from_bytes(bytes v) { return __builtin_convertvector(__builtin_convertvector(v, ints), floats); }
#endif

static inline float from_float16(uint16_t v) {
#ifdef __F16C__ /* GCC 12 calls a function for it */
    return _cvtsh_ss(v);
#else
    union { uint16_t i; _Float16 f; } u = {v};
    return (float)u.f;
#endif
}

static inline float from_half(uint16_t v) {
    union { uint32_t i; float f; } u = {(uint32_t)v << 16};
    return u.f;
}

static inline uint16_t to_half(float v) {
    union { float f; uint32_t i; } u = {v};
    return (uint16_t)((u.i + 0x7fff + ((u.i >> 16) & 1)) >> 16);
}

static inline void from_float16s(const uint16_t *from, float *to, int64_t count) {
    int64_t i = 0;
#ifdef __AVX512F__
    for (; i + LANES <= count; i += LANES) _mm512_storeu_ps(to + i, _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(from + i))));
#endif
    for (; i < count; i++) to[i] = from_float16(from[i]);
}

/* [first, last) of the rows that this thread computes */
static void share(int64_t count, int64_t *first, int64_t *last) {
#ifdef _OPENMP
    int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
#else
    int64_t threads = 1, thread = 0;
#endif
    *first = count * thread / threads;
    *last = count * (thread + 1) / threads;
}

typedef struct { /* the threads of a step, who wait for each other some ten times a layer */
    atomic_int waiting, round;
} Team;

/* OpenMP's own barrier sleeps where OMP_WAIT_POLICY is passive, as beside other work it should be: here that takes as long as a layer */
static inline void barrier(Team *team) {
#ifdef _OPENMP
    int threads = omp_get_num_threads(), round = atomic_load(&team->round);
    if (threads == 1) return;
    if (atomic_fetch_add(&team->waiting, 1) + 1 == threads) {
        atomic_store(&team->waiting, 0);
        atomic_store(&team->round, round + 1);
        return;
    }
    for (int looks = 0; atomic_load_explicit(&team->round, memory_order_acquire) == round;) {
        if (looks < PATIENCE) {
            looks++;
#ifdef __x86_64__
            _mm_pause();
#endif
        } else {
            sched_yield();
        }
    }
#else
    (void)team;
#endif
}

/* the products of one row with N tokens; N is known to the compiler, so that the sums stay in registers */
#define ROW_PRODUCT(N)                                                                                                                \
    static inline void row_##N(const Matrix *m, int64_t row, const float *x, int64_t stride, const float *group_sums, float *sums) {  \
        floats total[N][2];                                                                                                           \
        memset(total, 0, sizeof total);                                                                                               \
        int64_t columns = m->columns, groups = columns / GROUP;                                                                       \
        if (m->bits == 16) {                                                                                                          \
            const uint16_t *w = (const uint16_t *)m->weights + row * columns;                                                         \
            for (int64_t j = 0; j < columns; j += GROUP) {                                                                            \
                __builtin_prefetch((const char *)(w + j) + AHEAD);                                                                    \
                floats a = from_halves(w + j), b = from_halves(w + j + LANES);                                                        \
                for (int n = 0; n < N; n++) {                                                                                         \
                    total[n][0] += a * *(const floats *)(x + n * stride + j);                                                         \
                    total[n][1] += b * *(const floats *)(x + n * stride + j + LANES);                                                 \
                }                                                                                                                     \
            }                                                                                                                         \
        } else {                                                                                                                      \
            const uint8_t *w = (const uint8_t *)m->weights + row * columns * m->bits / 8;                                             \
            float scales[groups];                                                                                                     \
            from_float16s(m->scales + row * groups, scales, groups);                                                                  \
            for (int64_t g = 0; g < groups; g++) {                                                                                    \
                const uint8_t *of_group = w + g * GROUP * m->bits / 8;                                                                \
                floats a, b;                                                                                                          \
                __builtin_prefetch(of_group + AHEAD);                                                                                 \
                if (m->bits == 8) {                                                                                                   \
                    a = from_bytes(*(const bytes *)of_group), b = from_bytes(*(const bytes *)(of_group + LANES));                     \
                } else {                                                                                                              \
                    nibbles both = *(const nibbles *)of_group;                                                                        \
                    a = from_bytes((bytes)(both & 15)), b = from_bytes((bytes)(both >> 4));                                           \
                }                                                                                                                     \
                a *= scales[g], b *= scales[g];                                                                                       \
                for (int n = 0; n < N; n++) {                                                                                         \
                    const float *in = x + n * stride + g * GROUP;                                                                     \
                    total[n][0] += a * *(const floats *)in;                                                                           \
                    total[n][1] += b * *(const floats *)(in + LANES);                                                                 \
                }                                                                                                                     \
            }                                                                                                                         \
        }                                                                                                                             \
        float least[m->bits == 4 ? groups : 1];                                                                                       \
        if (m->bits == 4) from_float16s(m->least + row * groups, least, groups);                                                      \
        for (int n = 0; n < N; n++) {                                                                                                 \
            sums[n] = sum_of(total[n][0] + total[n][1]);                                                                              \
            if (m->bits == 4) {                                                                                                       \
                float added = 0.0f;                                                                                                   \
                for (int64_t g = 0; g < groups; g++) added += least[g] * group_sums[n * groups + g];                                  \
                sums[n] += added;                                                                                                     \
            }                                                                                                                         \
        }                                                                                                                             \
    }
ROW_PRODUCT(1)
ROW_PRODUCT(2)
ROW_PRODUCT(4)
ROW_PRODUCT(8)

/* y [tokens, rows] = x [tokens, columns] W^T + bias, or added to y; every thread its share of the rows */
static void product(const Matrix *m, const float *x, float *y, int64_t tokens, int is_added) {
    int64_t first, last, columns = m->columns, groups = columns / GROUP, n = 0;
    float group_sums[m->bits == 4 ? tokens * groups : 1];
    if (m->bits == 4) {
        for (int64_t i = 0; i < tokens * groups; i++) {
            const floats *in = (const floats *)(x + i * GROUP);
            group_sums[i] = sum_of(in[0] + in[1]);
        }
    }
    share(m->rows, &first, &last);
    for (int64_t row = first; row < last; row++) {
        float sums[MOST];
        for (n = 0; n + 8 <= tokens; n += 8) row_8(m, row, x + n * columns, columns, group_sums + n * groups, sums + n);
        if (n + 4 <= tokens) row_4(m, row, x + n * columns, columns, group_sums + n * groups, sums + n), n += 4;
        if (n + 2 <= tokens) row_2(m, row, x + n * columns, columns, group_sums + n * groups, sums + n), n += 2;
        if (n < tokens) row_1(m, row, x + n * columns, columns, group_sums + n * groups, sums + n);
        float bias = m->bias ? m->bias[row] : 0.0f;
        for (n = 0; n < tokens; n++) {
            float *to = y + n * m->rows + row;
            *to = sums[n] + bias + (is_added ? *to : 0.0f);
        }
    }
}

static void normalise(const Norm *norm, int is_rms, float eps, const float *x, float *y, int64_t width) {
    float mean = 0.0f, squares = 0.0f;
    if (!is_rms) {
        for (int64_t i = 0; i < width; i++) mean += x[i];
        mean /= width;
    }
    for (int64_t i = 0; i < width; i++) squares += (x[i] - mean) * (x[i] - mean);
    float scale = 1.0f / sqrtf(squares / width + eps);
    for (int64_t i = 0; i < width; i++) y[i] = (x[i] - mean) * scale * norm->weight[i] + (norm->bias ? norm->bias[i] : 0.0f);
}

static void rotate(float *x, const float *cosines, const float *sines, int64_t width) {
    int64_t half = width / 2;
    for (int64_t i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = a * cosines[i] + b * sines[i];
        x[i + half] = b * cosines[i + half] + a * sines[i + half];
    }
}

/* the heads' queries, keys and values of a token: normalised, turned, and the latter two kept */
static void prepare(const Stack *s, const Layer *layer, const Step *step, int64_t token, float *projected) {
    int64_t K = s->head_width;
    const Stream *stream = step->streams + token;
    for (int64_t h = 0; h < s->heads + s->kv_heads; h++) {
        float *x = projected + h * K;
        const Norm *norm = h < s->heads ? &layer->queries : &layer->keys;
        if (norm->weight) normalise(norm, s->is_rms, s->eps, x, x, K);
        if (layer->turns) rotate(x, step->cosines + token * K, step->sines + token * K, K);
    }
    const float *keys = projected + s->heads * K, *values = keys + s->kv_heads * K;
    for (int64_t h = 0; h < s->kv_heads; h++) {
        int64_t at = layer->number * stream->layer_stride + (h * stream->capacity + stream->length) * K;
        for (int64_t i = 0; i < K; i++) {
            float k = keys[h * K + i], v = values[h * K + i];
            if (step->is_bfloat16) {
                uint16_t *to = (uint16_t *)stream->data + at;
                to[i] = to_half(k), to[stream->value_stride + i] = to_half(v);
            } else {
                float *to = (float *)stream->data + at;
                to[i] = k, to[stream->value_stride + i] = v;
            }
        }
    }
}

/* what a head of a token finds, [head_width], in keys and values; `scores` has room for length + 1 numbers */
static void attend(const Stack *s, const Layer *layer, const Step *step, int64_t token, int64_t head, const float *queries,
                   float *mixed, float *scores) {
    int64_t K = s->head_width, group = s->heads / s->kv_heads;
    const Stream *stream = step->streams + token;
    const uint8_t *hidden = stream->hidden ? stream->hidden[layer->number] : NULL;
    int64_t at = layer->number * stream->layer_stride + head / group * stream->capacity * K, length = stream->length + 1;
    const float *query = queries + head * K;
    float scale = 1.0f / sqrtf((float)K), most = -INFINITY, total = 0.0f;
    for (int64_t t = 0; t < length; t++) {
        float dot = 0.0f;
        if (step->is_bfloat16) {
            const uint16_t *key = (const uint16_t *)stream->data + at + t * K;
            for (int64_t i = 0; i < K; i++) dot += from_half(key[i]) * query[i];
        } else {
            const float *key = (const float *)stream->data + at + t * K;
            for (int64_t i = 0; i < K; i++) dot += key[i] * query[i];
        }
        scores[t] = hidden && t < length - 1 && hidden[t] ? -INFINITY : dot * scale;
        most = scores[t] > most ? scores[t] : most;
    }
    for (int64_t t = 0; t < length; t++) scores[t] = expf(scores[t] - most);
    for (int64_t t = 0; t < length; t++) total += scores[t];
    memset(mixed, 0, K * sizeof *mixed);
    for (int64_t t = 0; t < length; t++) {
        float share = scores[t] / total;
        if (step->is_bfloat16) {
            const uint16_t *value = (const uint16_t *)stream->data + stream->value_stride + at + t * K;
            for (int64_t i = 0; i < K; i++) mixed[i] += share * from_half(value[i]);
        } else {
            const float *value = (const float *)stream->data + stream->value_stride + at + t * K;
            for (int64_t i = 0; i < K; i++) mixed[i] += share * value[i];
        }
    }
}

static inline float activate(float x, int64_t kind) {
    switch (kind) {
    case 0: return x / (1.0f + expf(-x));                                                        /* silu */
    case 1: return 0.5f * x * (1.0f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));      /* gelu, by tanh */
    case 2: return 0.5f * x * (1.0f + erff(x * 0.7071067812f));                                  /* gelu */
    default: return x > 0.0f ? x : 0.0f;                                                         /* relu */
    }
}

static int64_t widest(const Stack *s, int64_t length) {
    int64_t K = s->head_width, most = (s->heads + 2 * s->kv_heads) * K, up = s->inside * (s->gated ? 2 : 1);
    most = up > most ? up : most;
    most = s->width > most ? s->width : most;
    return length > most ? length : most;
}

/* numbers of scratch that `step` needs, for streams of at most `length` tokens */
int64_t scratch(const Stack *s, int64_t tokens, int64_t length, int64_t threads) {
    return tokens * (s->width * 2 + widest(s, 0) * 2) + threads * (length + 1 + LANES);
}

/* x [tokens, dim of the trunk] -> the same after the stack. Returns 0, or 1 for more tokens than MOST. */
int step(const Stack *s, const Step *step, float *x, float *room, int64_t threads) {
    int64_t N = step->tokens, D = s->width, K = s->head_width, wide = widest(s, 0), longest = 0;
    int64_t projected = (s->heads + 2 * s->kv_heads) * K;
    if (N > MOST) return 1;
    for (int64_t n = 0; n < N; n++) longest = step->streams[n].length > longest ? step->streams[n].length : longest;
    Team team = {0, 0};
    float *stream = room, *normed = stream + N * D, *first = normed + N * D, *second = first + N * wide, *scores = second + N * wide;
#ifdef _OPENMP
#pragma omp parallel num_threads((int)threads)
#endif
    {
        int64_t a, b, thread = 0;
#ifdef _OPENMP
        thread = omp_get_thread_num();
#endif
        if (s->enter.weights) {
            product(&s->enter, x, stream, N, 0);
        } else {
            share(N * D, &a, &b);
            memcpy(stream + a, x + a, (b - a) * sizeof *x);
        }
        barrier(&team);
        for (int64_t l = 0; l < s->count; l++) {
            const Layer *layer = s->layers + l;
            share(N, &a, &b);
            for (int64_t n = a; n < b; n++) normalise(&layer->attention, s->is_rms, s->eps, stream + n * D, normed + n * D, D);
            barrier(&team);
            product(&layer->project, normed, first, N, 0);
            barrier(&team);
            for (int64_t n = a; n < b; n++) prepare(s, layer, step, n, first + n * projected);
            barrier(&team);
            int64_t from, to;
            share(N * s->heads, &from, &to);
            for (int64_t i = from; i < to; i++) {
                int64_t n = i / s->heads, head = i % s->heads;
                attend(s, layer, step, n, head, first + n * projected, second + n * s->heads * K + head * K,
                       scores + thread * (longest + 1 + LANES));
            }
            barrier(&team);
            product(&layer->out, second, stream, N, 1);
            barrier(&team);
            for (int64_t n = a; n < b; n++) normalise(&layer->feed_forward, s->is_rms, s->eps, stream + n * D, normed + n * D, D);
            barrier(&team);
            product(&layer->up, normed, first, N, 0);
            barrier(&team);
            share(N * s->inside, &from, &to);
            for (int64_t i = from; i < to; i++) {
                int64_t n = i / s->inside, j = i % s->inside;
                const float *up = first + n * s->inside * (s->gated ? 2 : 1);
                second[i] = activate(up[j], s->activation) * (s->gated ? up[s->inside + j] : 1.0f);
            }
            barrier(&team);
            product(&layer->down, second, stream, N, 1);
            barrier(&team);
        }
        share(N, &a, &b);
        for (int64_t n = a; n < b; n++)
            normalise(&s->last, s->is_rms, s->eps, stream + n * D, (s->leave.weights ? normed : x) + n * D, D);
        if (s->leave.weights) {
            barrier(&team);
            product(&s->leave, normed, x, N, 0);
        }
    }
    return 0;
}

/* y [tokens, rows] = x [tokens, columns] W^T + bias */
int multiply(const Matrix *m, const float *x, float *y, int64_t tokens, int64_t threads) {
    if (tokens > MOST) return 1;
#ifdef _OPENMP
#pragma omp parallel num_threads((int)threads)
#endif
    product(m, x, y, tokens, 0);
    return 0;
}
