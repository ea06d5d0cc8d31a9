/*
 * The cutter with the AES instructions of the processor.
 *
 * The rule, for a chunk that begins at `start` of a stream that ends at `len`:
 *
 *     end = min(start + max, len); jumped = {}; i = start + min
 *     while i < end:
 *         y = F(data[i-32 : i])
 *         if y < t_cut:                                     return i
 *         if y < t_jump and jumped.get(y & 255) != y:       jumped[y & 255] = y; i += jump
 *         else:                                             i += 1
 *     return end
 *
 * where F(w) = LE64(AES256(k, AES256(k, w[0:16]) xor w[16:32])[0:8]).
 *
 * A kernel values several neighbouring windows at once. Their values are then
 * judged one by one in order, and those behind a cut or a jump are thrown away,
 * so the number of lanes never shows in the result. twin.py is the same in Python.
 *
 * With JPC_CORE_ONLY defined the file does without Python, for the fuzz harness.
 */

#ifndef JPC_CORE_ONLY
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#endif

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define WINDOW 32
#define ROUNDS 14
#define MOST_LANES 16
#define TABLE 256

/* Unrolled, the lanes stay in registers and their latencies overlap. */
#define EACH(k, n) _Pragma("GCC unroll 8") for (int k = 0; k < (n); k++)

/* ---------------------------------------------------------------- kernels */

typedef struct {
    _Alignas(16) uint8_t round_key[ROUNDS + 1][16];
} schedule;

/* Puts F of the `lanes` windows that begin at data, data + 1, ... into `y`; reads
 * lanes + WINDOW - 1 bytes, so the caller answers for the end of the buffer. */
typedef void window_values(const schedule *keys, const uint8_t *data, uint64_t *y);

typedef struct {
    const char *name;
    size_t lanes;
    int (*is_supported)(void);
    uint32_t (*sub_word)(uint32_t word);
    window_values *values;
} kernel;

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#include <immintrin.h>

#define AESNI __attribute__((target("aes,sse4.1")))
#define VAES __attribute__((target("vaes,avx2,aes")))

static int aesni_is_supported(void) {
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("sse4.1");
}

static int vaes_is_supported(void) {
    /* Clang 14 knows no "vaes" here. That of avx2 asks the system for wide registers. */
    unsigned int a, b, c, d;
    return aesni_is_supported() && __builtin_cpu_supports("avx2")
        && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c & bit_VAES) != 0;
}

AESNI static uint32_t aesni_sub_word(uint32_t word) {
    __m128i x = _mm_aeskeygenassist_si128(_mm_set1_epi32((int)word), 0);
    return (uint32_t)_mm_cvtsi128_si32(x);
}

AESNI static inline void aesni_encrypt(const schedule *keys, __m128i x[8]) {
    const __m128i *rk = (const __m128i *)keys->round_key;
    EACH(k, 8) x[k] = _mm_xor_si128(x[k], rk[0]);
    for (int r = 1; r < ROUNDS; r++) {
        EACH(k, 8) x[k] = _mm_aesenc_si128(x[k], rk[r]);
    }
    EACH(k, 8) x[k] = _mm_aesenclast_si128(x[k], rk[ROUNDS]);
}

AESNI static void aesni_values(const schedule *keys, const uint8_t *data, uint64_t *y) {
    __m128i x[8];
    EACH(k, 8) x[k] = _mm_loadu_si128((const __m128i *)(data + k));
    aesni_encrypt(keys, x);
    EACH(k, 8) x[k] = _mm_xor_si128(x[k], _mm_loadu_si128((const __m128i *)(data + 16 + k)));
    aesni_encrypt(keys, x);
    EACH(k, 8) _mm_storel_epi64((__m128i *)(y + k), x[k]);
}

/* Two windows to a register, neighbours in its halves. */
VAES static inline __m256i vaes_load(const uint8_t *data) {
    return _mm256_inserti128_si256(
        _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)data)),
        _mm_loadu_si128((const __m128i *)(data + 1)), 1);
}

VAES static inline void vaes_encrypt(const schedule *keys, __m256i x[8]) {
    const __m128i *rk = (const __m128i *)keys->round_key;
    __m256i key = _mm256_broadcastsi128_si256(rk[0]);
    EACH(k, 8) x[k] = _mm256_xor_si256(x[k], key);
    for (int r = 1; r < ROUNDS; r++) {
        key = _mm256_broadcastsi128_si256(rk[r]);
        EACH(k, 8) x[k] = _mm256_aesenc_epi128(x[k], key);
    }
    key = _mm256_broadcastsi128_si256(rk[ROUNDS]);
    EACH(k, 8) x[k] = _mm256_aesenclast_epi128(x[k], key);
}

VAES static void vaes_values(const schedule *keys, const uint8_t *data, uint64_t *y) {
    __m256i x[8];
    EACH(k, 8) x[k] = vaes_load(data + 2 * k);
    vaes_encrypt(keys, x);
    EACH(k, 8) x[k] = _mm256_xor_si256(x[k], vaes_load(data + 16 + 2 * k));
    vaes_encrypt(keys, x);
    EACH(k, 8) {
        _mm_storel_epi64((__m128i *)(y + 2 * k), _mm256_castsi256_si128(x[k]));
        _mm_storel_epi64((__m128i *)(y + 2 * k + 1), _mm256_extracti128_si256(x[k], 1));
    }
}

static const kernel KERNELS[] = {
    {"vaes", 16, vaes_is_supported, aesni_sub_word, vaes_values},
    {"aesni", 8, aesni_is_supported, aesni_sub_word, aesni_values},
    {NULL, 0, NULL, NULL, NULL},
};

#elif defined(__aarch64__) && defined(__AARCH64EL__) && defined(__GNUC__)
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif

#if defined(__ARM_FEATURE_AES)
#define NEON_AES
#elif defined(__clang__)
#define NEON_AES __attribute__((target("aes")))
#else
#define NEON_AES __attribute__((target("+crypto")))
#endif

static int neon_is_supported(void) {
#if defined(__APPLE__)
    return 1; /* Every 64-bit Apple processor has them. */
#elif defined(__linux__)
    return (getauxval(AT_HWCAP) & (1UL << 3)) != 0; /* HWCAP_AES */
#else
    return 0;
#endif
}

/* All columns are equal, so ShiftRows changes nothing and SubBytes is left. */
NEON_AES static uint32_t neon_sub_word(uint32_t word) {
    uint8x16_t x = vaeseq_u8(vreinterpretq_u8_u32(vdupq_n_u32(word)), vdupq_n_u8(0));
    return vgetq_lane_u32(vreinterpretq_u32_u8(x), 0);
}

NEON_AES static inline void neon_encrypt(const schedule *keys, uint8x16_t x[8]) {
    uint8x16_t key;
    for (int r = 0; r < ROUNDS - 1; r++) {
        key = vld1q_u8(keys->round_key[r]);
        EACH(k, 8) x[k] = vaesmcq_u8(vaeseq_u8(x[k], key));
    }
    key = vld1q_u8(keys->round_key[ROUNDS - 1]);
    EACH(k, 8) x[k] = vaeseq_u8(x[k], key);
    key = vld1q_u8(keys->round_key[ROUNDS]);
    EACH(k, 8) x[k] = veorq_u8(x[k], key);
}

NEON_AES static void neon_values(const schedule *keys, const uint8_t *data, uint64_t *y) {
    uint8x16_t x[8];
    EACH(k, 8) x[k] = vld1q_u8(data + k);
    neon_encrypt(keys, x);
    EACH(k, 8) x[k] = veorq_u8(x[k], vld1q_u8(data + 16 + k));
    neon_encrypt(keys, x);
    EACH(k, 8) y[k] = vgetq_lane_u64(vreinterpretq_u64_u8(x[k]), 0);
}

static const kernel KERNELS[] = {
    {"neon", 8, neon_is_supported, neon_sub_word, neon_values},
    {NULL, 0, NULL, NULL, NULL},
};

#else

/* No AES by tables here: its timing would tell the key. The twin takes over. */
static const kernel KERNELS[] = {{NULL, 0, NULL, NULL, NULL}};

#endif

/* ---------------------------------------------------------------- cutting */

typedef struct {
    const kernel *kernel;
    size_t min_size, max_size, jump;
    uint64_t t_cut, t_jump;
    schedule keys;
} cutter;

/* FIPS 197, section 5.2, for 256-bit keys; words are little-endian, as both
 * processors keep them, so the rotation goes to the right. */
static void expand_key(schedule *keys, uint32_t (*sub_word)(uint32_t), const uint8_t *key) {
    uint32_t w[4 * (ROUNDS + 1)];
    uint32_t round_constant = 1;
    memcpy(w, key, 32);
    for (size_t i = 8; i < sizeof w / sizeof *w; i++) {
        uint32_t t = w[i - 1];
        if (i % 8 == 0) {
            t = sub_word((t >> 8) | (t << 24)) ^ round_constant;
            round_constant <<= 1;
        } else if (i % 8 == 4) {
            t = sub_word(t);
        }
        w[i] = w[i - 8] ^ t;
    }
    memcpy(keys->round_key, w, sizeof w);
}

/* Returns the next place to look at when place i - 1 said "one byte on". If the
 * window there is one byte repeated, every further window inside the run has the
 * same value and therefore says the same, so the run is skipped. */
static size_t after_run(const uint8_t *data, size_t i, size_t end) {
    const uint8_t *window = data + i - 1 - WINDOW;
    if (memcmp(window, window + 1, WINDOW - 1) != 0) {
        return i;
    }
    size_t run = i - 1;
    while (end - run >= 8 && memcmp(data + run, window, 8) == 0) {
        run += 8;
    }
    while (run < end && data[run] == *window) {
        run++;
    }
    return run + 1;
}

/* Returns the first cut after `start`, or `end` if there is none before it. */
static size_t next_cut(const cutter *c, const uint8_t *data, size_t start, size_t end) {
    const size_t most = c->kernel->lanes;
    uint64_t jumped[TABLE] = {0}; /* 0 means free: a value of 0 is always a cut. */
    uint64_t y[MOST_LANES];
    uint8_t tail[MOST_LANES + WINDOW - 1];
    size_t i = end - start > c->min_size ? start + c->min_size : end;

    while (i < end) {
        const uint8_t *window = data + i - WINDOW;
        size_t lanes = most;
        if (end - i < most) {
            /* Full lanes would read past the end: value a copy, judge what is real. */
            lanes = end - i;
            memset(tail, 0, sizeof tail);
            memcpy(tail, window, lanes + WINDOW - 1);
            window = tail;
        }
        c->kernel->values(&c->keys, window, y);

        size_t lane = 0;
        for (; lane < lanes; lane++) {
            if (y[lane] < c->t_jump) {
                if (y[lane] < c->t_cut) {
                    return i + lane;
                }
                uint64_t *seen = &jumped[y[lane] % TABLE];
                if (*seen != y[lane]) {
                    *seen = y[lane];
                    break;
                }
            }
        }
        i = lane < lanes ? i + lane + c->jump : after_run(data, i + lanes, end);
    }
    return end;
}

/* Puts at most `most` ends of decided chunks into `ends` and returns how many;
 * fewer than `most` means that no more are decided. `*start` moves along. */
static size_t next_cuts(const cutter *c, const uint8_t *data, size_t length, int final,
                        size_t *start, size_t *ends, size_t most) {
    size_t n = 0;
    while (n < most && *start < length) {
        int is_whole = length - *start >= c->max_size;
        size_t end = is_whole ? *start + c->max_size : length;
        size_t found = next_cut(c, data, *start, end);
        if (found == end && !is_whole && !final) {
            break;
        }
        ends[n++] = *start = found;
    }
    return n;
}

/* ----------------------------------------------------------------- Python */
#ifndef JPC_CORE_ONLY

#define BATCH 256

static const kernel *find_kernel(const char *name) {
    for (const kernel *k = KERNELS; k->name != NULL; k++) {
        if (strcmp(k->name, name) == 0 && k->is_supported()) {
            return k;
        }
    }
    return NULL;
}

/* Takes over the reference to `item`, which may be NULL after an error. */
static int append(PyObject *list, PyObject *item) {
    int failed = item == NULL || PyList_Append(list, item) < 0;
    Py_XDECREF(item);
    return failed ? -1 : 0;
}

static PyObject *cut_all(const cutter *c, const Py_buffer *data, int final) {
    size_t ends[BATCH], start = 0, n;
    PyObject *list = PyList_New(0);
    if (list == NULL) {
        return NULL;
    }
    do {
        Py_BEGIN_ALLOW_THREADS
        n = next_cuts(c, data->buf, (size_t)data->len, final, &start, ends, BATCH);
        Py_END_ALLOW_THREADS
        for (size_t k = 0; k < n; k++) {
            if (append(list, PyLong_FromSize_t(ends[k])) < 0) {
                Py_DECREF(list);
                return NULL;
            }
        }
    } while (n == BATCH);
    return list;
}

PyDoc_STRVAR(cut_doc,
"cut(kernel, key, data, min_size, max_size, jump, t_cut, t_jump, final)\n--\n\n"
"Return the ends of all chunks that data decides, valued by the named kernel.\n\n"
"The global interpreter lock is released; data must not change meanwhile.");

static PyObject *jpc_cut(PyObject *Py_UNUSED(module), PyObject *args) {
    const char *name;
    Py_buffer key, data;
    Py_ssize_t min_size, max_size, jump;
    unsigned long long t_cut, t_jump;
    int final;
    cutter c;
    PyObject *ends = NULL;

    if (!PyArg_ParseTuple(args, "sy*y*nnnKKp:cut", &name, &key, &data, &min_size, &max_size,
                          &jump, &t_cut, &t_jump, &final)) {
        return NULL;
    }
    /* Only what memory safety and progress need; ChunkerParams checks the rest. */
    if (key.len != 32 || min_size < WINDOW || max_size < min_size || jump < 1
        || jump > min_size || t_cut < 1) {
        PyErr_SetString(PyExc_ValueError, "key or parameters out of bounds");
    } else if ((c.kernel = find_kernel(name)) == NULL) {
        PyErr_Format(PyExc_ValueError, "this processor has no kernel %s", name);
    } else {
        c.min_size = (size_t)min_size;
        c.max_size = (size_t)max_size;
        c.jump = (size_t)jump;
        c.t_cut = t_cut;
        c.t_jump = t_jump;
        expand_key(&c.keys, c.kernel->sub_word, key.buf);
        ends = cut_all(&c, &data, final);
    }
    PyBuffer_Release(&key);
    PyBuffer_Release(&data);
    return ends;
}

static int jpc_exec(PyObject *module) {
    PyObject *names = PyList_New(0);
    if (names == NULL) {
        return -1;
    }
    for (const kernel *k = KERNELS; k->name != NULL; k++) {
        if (k->is_supported() && append(names, PyUnicode_FromString(k->name)) < 0) {
            Py_DECREF(names);
            return -1;
        }
    }
    PyObject *kernels = PyList_AsTuple(names);
    Py_DECREF(names);
    int failed = kernels == NULL || PyModule_AddObjectRef(module, "KERNELS", kernels) < 0;
    Py_XDECREF(kernels);
    return failed ? -1 : 0;
}

static PyMethodDef jpc_methods[] = {
    {"cut", jpc_cut, METH_VARARGS, cut_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot jpc_slots[] = {
    {Py_mod_exec, (void *)jpc_exec},
    {0, NULL},
};

static struct PyModuleDef jpc_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_jpc",
    .m_doc = "The cutter with the processor's AES instructions; KERNELS names those it has.",
    .m_size = 0,
    .m_methods = jpc_methods,
    .m_slots = jpc_slots,
};

PyMODINIT_FUNC PyInit__jpc(void) {
    return PyModuleDef_Init(&jpc_module);
}

#endif
