/*
 * Fuzz the cutter's C core under sanitizers; run by hand, from the root of the project:
 *
 *     mkdir -p build && cc -std=c11 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all \
 *         -o build/fuzz-jpc tests/fuzz/jpc.c && build/fuzz-jpc 20000 1
 *
 * Arguments: the number of cases, and the seed. Every case draws data and parameters,
 * cuts with each kernel of this processor from a heap block of exactly the data's
 * length (one byte too many read is caught), in one piece and in pieces, and compares
 * with the rule done one window at a time. Exit status 0: all agreed. Each kernel's
 * digest of all its cuts is the same on every processor for the same arguments.
 * 20000 cases take about a minute and a half.
 */

#define JPC_CORE_ONLY
#include "../../src/loopbackup/vault/content/chunker/_jpc.c"

#include <stdio.h>
#include <stdlib.h>

#define MOST_LENGTH 6000

static uint64_t state;

/* splitmix64 */
static uint64_t draw(void) {
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static size_t draw_between(size_t low, size_t high) {
    return low + draw() % (high - low + 1);
}

/* Noise, one byte only, few symbols, a repeated record, or noise with runs in it. */
static void fill(uint8_t *data, size_t length) {
    uint64_t style = draw() % 5;
    size_t period = draw_between(1, 200);
    for (size_t i = 0; i < length; i++) {
        data[i] = (uint8_t)draw();
        if (style == 1) data[i] = 7;
        if (style == 2) data[i] &= 1;
        if (style == 3 && i >= period) data[i] = data[i - period];
    }
    if (style == 4) {
        for (size_t i = 0; i < length; i += draw_between(1, 300)) {
            size_t run = draw_between(1, 120);
            memset(data + i, 0, run < length - i ? run : length - i);
        }
    }
}

static size_t naive_next_cut(const cutter *c, const uint8_t *data, size_t start, size_t length) {
    size_t end = length - start > c->max_size ? start + c->max_size : length;
    uint64_t jumped[TABLE] = {0};
    for (size_t i = start + c->min_size; i < end;) {
        uint8_t padded[MOST_LANES + WINDOW - 1] = {0};
        uint64_t y[MOST_LANES];
        memcpy(padded, data + i - WINDOW, WINDOW);
        c->kernel->values(&c->keys, padded, y);
        if (y[0] < c->t_cut) {
            return i;
        }
        if (y[0] < c->t_jump && jumped[y[0] & 255] != y[0]) {
            jumped[y[0] & 255] = y[0];
            i += c->jump;
        } else {
            i++;
        }
    }
    return end;
}

static void draw_cutter(cutter *c) {
    /* Density of cuts and of jumps from all to none, so that every path is taken. */
    c->min_size = draw_between(WINDOW, 400);
    c->max_size = draw_between(c->min_size, 3000);
    c->jump = draw_between(1, c->min_size);
    c->t_cut = draw();
    c->t_cut = (c->t_cut >> draw_between(0, 40)) | 1;
    c->t_jump = c->t_cut + (UINT64_MAX - c->t_cut) / draw_between(1, 64);
}

/* Cuts in one call, or in calls that see more of the data each time. */
static size_t cut_in_pieces(const cutter *c, const uint8_t *data, size_t length, size_t *ends,
                            int one_shot) {
    size_t begin = 0, seen = one_shot ? length : 0, n = 0;
    for (;;) {
        size_t start = 0, most = draw_between(1, 9), got;
        uint8_t *block = malloc(seen - begin); /* exact, so that the sanitizer guards it */
        if (seen > begin) {
            memcpy(block, data + begin, seen - begin);
        }
        do {
            got = next_cuts(c, block, seen - begin, seen == length, &start, ends + n, most);
            for (size_t k = 0; k < got; k++) {
                ends[n++] += begin;
            }
        } while (got == most);
        free(block);
        begin += start;
        if (seen == length) {
            return n;
        }
        seen += draw_between(1, length - seen);
    }
}

/* FNV-1a, by numbers instead of bytes */
static uint64_t mix(uint64_t digest, size_t number) {
    return (digest ^ number) * 0x100000001b3u;
}

static int check(const cutter *c, const uint8_t *data, size_t length, uint64_t *digest) {
    static size_t ends[MOST_LENGTH + 16];
    for (int one_shot = 0; one_shot < 2; one_shot++) {
        size_t n = cut_in_pieces(c, data, length, ends, one_shot), start = 0;
        for (size_t k = 0; k < n; k++) {
            size_t expected = naive_next_cut(c, data, start, length);
            if (ends[k] != expected) {
                fprintf(stderr, "%s: chunk %zu ends at %zu, not at %zu\n", c->kernel->name, k,
                        expected, ends[k]);
                return 0;
            }
            start = expected;
            *digest = mix(*digest, expected);
        }
        if (start != length) {
            fprintf(stderr, "%s: %zu of %zu bytes cut\n", c->kernel->name, start, length);
            return 0;
        }
    }
    return 1;
}

int main(int argc, char **argv) {
    unsigned long cases = argc > 1 ? strtoul(argv[1], NULL, 10) : 20000;
    static uint8_t data[MOST_LENGTH];
    uint8_t key[32];
    uint64_t digests[sizeof KERNELS / sizeof *KERNELS] = {0};
    cutter c;

    state = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    for (unsigned long n = 0; n < cases; n++) {
        size_t length = draw_between(0, draw() % 8 ? MOST_LENGTH : 100);
        fill(data, length);
        draw_cutter(&c);
        for (size_t k = 0; k < sizeof key; k++) {
            key[k] = (uint8_t)draw();
        }
        const uint64_t state_before = state;
        for (const kernel *k = KERNELS; k->name != NULL; k++) {
            if (!k->is_supported()) {
                continue;
            }
            state = state_before;
            c.kernel = k;
            expand_key(&c.keys, k->sub_word, key);
            if (!check(&c, data, length, &digests[k - KERNELS])) {
                fprintf(stderr, "case %lu\n", n);
                return 1;
            }
        }
    }
    for (const kernel *k = KERNELS; k->name != NULL; k++) {
        if (k->is_supported()) {
            printf("%s: %lu cases agreed, digest %016llx\n", k->name, cases,
                   (unsigned long long)digests[k - KERNELS]);
        }
    }
    return 0;
}
