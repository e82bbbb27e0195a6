/* SPDX-License-Identifier: MIT
 * Selection, sampler and loader: patients stay on one side, every record comes once an epoch, the sequence of batches
 * does not depend on the number of workers, and a resumed loader goes on where the other stopped. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/h5.h"
#include "data/loader.h"
#include "tests/support/check.h"
#include "tests/support/shards.h"

enum { N = 203 };

static const char *in_tmp(const char *name) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", check_tmp(), name);
    return path;
}

static struct dataset *open_data(void) {
    static bool written;
    struct dataset *d = NULL;
    if (!written) CHECK_OK(shards_write(in_tmp("data"), N));
    written = true;
    CHECK_OK(dataset_open(&d, in_tmp("data")));
    return d;
}

/* ------------------------------------------------------------------ selection */

static void selection_by_fold_and_part(void) {
    struct dataset *d = open_data();
    size_t *index, n, *rest, n_rest;
    int folds[2] = {3, 10};
    struct selection_spec spec = {.folds = folds, .n_folds = 2};
    CHECK_OK(selection_make(d, &spec, &index, &n));
    CHECK(n == 41); // i % 10 is 2 (21 times) or 9 (20 times)
    for (size_t i = 0; i < n; i++) CHECK(index[i] % 10 == 2 || index[i] % 10 == 9);
    free(index);

    struct selection_spec first = {.has_part = true, .part = {0, 0.7}};
    struct selection_spec second = {.has_part = true, .part = {0.7, 1}};
    CHECK_OK(selection_make(d, &first, &index, &n));
    CHECK_OK(selection_make(d, &second, &rest, &n_rest));
    CHECK(n + n_rest == N && n > N / 2 && n_rest > N / 10);
    for (size_t i = 1; i < n; i++) CHECK(index[i] > index[i - 1]);
    size_t n_shared;
    char *example;
    CHECK_OK(selection_overlap(d, index, n, d, rest, n_rest, &n_shared, &example));
    CHECK(n_shared == 0 && example == NULL);
    check_note("%zu + %zu records, no patient in both", n, n_rest);
    free(index);
    free(rest);

    first.folds = folds;
    first.n_folds = 2;
    CHECK_OK(selection_make(d, &first, &index, &n));
    for (size_t i = 0; i < n; i++) CHECK(d->fold[index[i]] == 3 || d->fold[index[i]] == 10);
    CHECK(n > 0 && n < 41);
    free(index);
    dataset_close(d);
}

static void part_wraps_around(void) {
    struct dataset *d = open_data();
    enum { FOLDS = 5 };
    unsigned char times[N] = {0};
    for (int k = 0; k < FOLDS; k++) {
        double a = k / (double)FOLDS, b = (k + 1) / (double)FOLDS;
        size_t *in, *out, n_in, n_out, n_both;
        char *example;
        struct selection_spec inside = {.has_part = true, .part = {a, b}};
        struct selection_spec outside = {.has_part = true, .part = {b, a}};
        CHECK_OK(selection_make(d, &inside, &in, &n_in));
        CHECK_OK(selection_make(d, &outside, &out, &n_out));
        CHECK(n_in + n_out == N && n_in > 0);
        CHECK_OK(selection_overlap(d, in, n_in, d, out, n_out, &n_both, &example));
        CHECK(n_both == 0);
        for (size_t i = 0; i < n_in; i++) times[in[i]]++;
        free(in);
        free(out);
    }
    for (size_t i = 0; i < N; i++) CHECK(times[i] == 1);
    size_t *index, n;
    struct selection_spec nothing = {.has_part = true, .part = {1, 0}};
    CHECK_FAILS(selection_make(d, &nothing, &index, &n), ECG_ERR_CONFIG, "no record is left");
    dataset_close(d);
}

/* Of patients p0 .. p67 with three records each, the last with two. */
static size_t patients_taken(struct dataset *d, double fraction, uint64_t seed, bool taken[N]) {
    size_t *index, n, patients = 0;
    struct selection_spec spec = {
        .has_fraction = true, .fraction = fraction, .fraction_seed = seed};
    CHECK_OK(selection_make(d, &spec, &index, &n));
    memset(taken, 0, N * sizeof *taken);
    for (size_t i = 0; i < n; i++) {
        CHECK(i == 0 || index[i] > index[i - 1]);
        taken[index[i]] = true;
    }
    for (size_t i = 0; i < N; i++) {
        CHECK(taken[i] == taken[i - i % 3]);
        patients += i % 3 == 0 && taken[i];
    }
    free(index);
    return patients;
}

static void fractions_lie_inside_each_other(void) {
    static const double fractions[] = {0.02, 0.1, 0.25, 0.5, 0.9999, 1};
    static const size_t expected[] = {2, 7, 17, 34, 68, 68}; // ceil(fraction * 68)
    struct dataset *d = open_data();
    bool before[N] = {false}, now[N], other[N];
    for (size_t f = 0; f < sizeof fractions / sizeof *fractions; f++) {
        CHECK(patients_taken(d, fractions[f], 7, now) == expected[f]);
        for (size_t i = 0; i < N; i++) CHECK(now[i] || !before[i]);
        memcpy(before, now, sizeof now);
    }
    patients_taken(d, 0.5, 7, now);
    patients_taken(d, 0.5, 8, other);
    size_t differ = 0;
    for (size_t i = 0; i < N; i++) differ += now[i] != other[i];
    check_note("half the patients by two seeds: %zu of %d records differ", differ, N);
    CHECK(differ > N / 5);
    dataset_close(d);
}

/* A fraction counts the patients that fold and part leave. */
static void fraction_of_a_part(void) {
    struct dataset *d = open_data();
    struct selection_spec spec = {.has_part = true, .part = {0.8, 0.3}};
    size_t *all, n_all, *half, n_half, at = 0;
    CHECK_OK(selection_make(d, &spec, &all, &n_all));
    spec.has_fraction = true;
    spec.fraction = 0.5;
    CHECK_OK(selection_make(d, &spec, &half, &n_half));
    for (size_t i = 0; i < n_all && at < n_half; i++) at += all[i] == half[at];
    CHECK(at == n_half && n_half < n_all && n_half + 4 > n_all / 2);
    free(all);
    free(half);
    size_t *index, n;
    spec = (struct selection_spec){.has_fraction = true, .fraction = 0.01};
    CHECK_FAILS(selection_make(d, &spec, &index, &n), ECG_ERR_CONFIG,
                "fraction 0.01 of 68 patients leaves 1");
    spec.fraction = 0;
    CHECK_FAILS(selection_make(d, &spec, &index, &n), ECG_ERR_CONFIG, "fraction 0");
    spec.fraction = NAN;
    CHECK_FAILS(selection_make(d, &spec, &index, &n), ECG_ERR_CONFIG, "fraction nan");
    dataset_close(d);
}

static void selection_errors(void) {
    struct dataset *d = open_data();
    size_t *index, n;
    int fold = 11;
    struct selection_spec spec = {.folds = &fold, .n_folds = 1};
    CHECK_FAILS(selection_make(d, &spec, &index, &n), ECG_ERR_CONFIG, "no record is left of 203");
    spec = (struct selection_spec){.has_part = true, .part = {0.5, 0.5}};
    CHECK_FAILS(selection_make(d, &spec, &index, &n), ECG_ERR_CONFIG, "no interval");
    spec.part[1] = NAN;
    CHECK_FAILS(selection_make(d, &spec, &index, &n), ECG_ERR_CONFIG, "no interval");
    free(d->fold);
    d->fold = NULL;
    spec = (struct selection_spec){.folds = &fold, .n_folds = 1};
    CHECK_FAILS(selection_make(d, &spec, &index, &n), ECG_ERR_CONFIG, "has no folds");
    dataset_close(d);
}

static void overlap_is_found(void) {
    struct dataset *d = open_data(); // patients of three records each
    const size_t a[] = {0, 1, 2, 3, 9, 10}, b[] = {4, 5, 11, 50};
    size_t n;
    char *example;
    CHECK_OK(selection_overlap(d, a, 6, d, b, 4, &n, &example));
    CHECK(n == 2);
    CHECK(example != NULL && (strcmp(example, "p1") == 0 || strcmp(example, "p3") == 0));
    free(example);
    dataset_close(d);
}

/* ------------------------------------------------------------------ sampler */

static void order_is_a_permutation(void) {
    enum { M = 5000 };
    static size_t a[M], b[M], c[M];
    static bool seen[M];
    sampler_order(M, true, 5, 0, a);
    sampler_order(M, true, 5, 0, b);
    sampler_order(M, true, 5, 1, c);
    size_t fixed = 0, same = 0;
    for (size_t i = 0; i < M; i++) {
        CHECK(a[i] < M && !seen[a[i]]);
        seen[a[i]] = true;
        fixed += a[i] == i;
        same += a[i] == c[i];
    }
    CHECK(memcmp(a, b, sizeof a) == 0);
    CHECK(fixed < 10 && same < 10); // about 1 each by chance
    sampler_order(M, false, 5, 1, c);
    for (size_t i = 0; i < M; i++) CHECK(c[i] == i);
    sampler_order(0, true, 5, 0, a);
    sampler_order(1, true, 5, 0, a);
    CHECK(a[0] == 0);
}

/* ------------------------------------------------------------------ loader */

static struct loader_options options(const size_t *index, size_t n) {
    static const int labels[] = {1}, targets[] = {1, 0};
    return (struct loader_options){.index = index,
                                   .n = n,
                                   .label_columns = labels,
                                   .n_labels = 1,
                                   .target_columns = targets,
                                   .n_targets = 2,
                                   .batch_size = 16,
                                   .shuffle = true,
                                   .seed = 9,
                                   .workers = 2};
}

static bool same_float(float a, float b) {
    return a == b || (isnan(a) && isnan(b));
}

/* Whether a batch holds what its record numbers say, label column 1 and target columns 1, 0. */
static bool batch_is_right(const struct batch *b) {
    for (int i = 0; i < b->B; i++) {
        size_t r = b->record[i];
        const int16_t *ecg = b->ecg + (size_t)i * SHARDS_C * SHARDS_L;
        for (int c = 0; c < SHARDS_C; c++)
            for (int l = 0; l < SHARDS_L; l++)
                if (ecg[c * SHARDS_L + l] != shards_sample(r, c, l)) return false;
        if (b->scale[i] != shards_scale(r) || b->labels[i] != shards_label(r, 1)) return false;
        if (!same_float(b->targets[2 * i], shards_target(r, 1))) return false;
        if (!same_float(b->targets[2 * i + 1], shards_target(r, 0))) return false;
    }
    return true;
}

/* Records of the next n_batches batches (fewer at the end), one after the other; every batch is checked. */
static size_t take(struct loader *l, size_t n_batches, size_t *records) {
    size_t n = 0;
    for (size_t i = 0; i < n_batches; i++) {
        struct batch *b;
        if (!CHECK_OK(loader_next(l, &b)) || b == NULL) break;
        CHECK(batch_is_right(b));
        CHECK(b->last_of_epoch == (b->number + 1 == loader_batches_per_epoch(l)));
        memcpy(records + n, b->record, (size_t)b->B * sizeof *records);
        n += (size_t)b->B;
    }
    return n;
}

static void every_record_once(void) {
    struct dataset *d = open_data();
    struct selection_spec all = {0};
    size_t *index, n, records[N + 16];
    int seen[N] = {0};
    CHECK_OK(selection_make(d, &all, &index, &n));
    struct loader_options o = options(index, n);
    struct loader *l;
    if (!CHECK_OK(loader_open(&l, d, &o))) return;
    CHECK(loader_batches_per_epoch(l) == 13);
    CHECK(take(l, 100, records) == N);
    for (size_t i = 0; i < N; i++) seen[records[i]]++;
    for (size_t i = 0; i < N; i++) CHECK(seen[i] == 1);
    struct batch *b;
    CHECK_OK(loader_next(l, &b)); // the end stays the end
    CHECK(b == NULL);
    loader_close(l);
    free(index);
    dataset_close(d);
}

static void workers_do_not_matter(void) {
    enum { EPOCHS = 3 };
    static size_t first[EPOCHS * N], other[EPOCHS * N];
    struct dataset *d = open_data();
    struct selection_spec all = {0};
    size_t *index, n;
    CHECK_OK(selection_make(d, &all, &index, &n));
    for (int workers = 0; workers <= 7; workers = workers * 2 + 1) { // 0, 1, 3, 7
        struct loader_options o = options(index, n);
        struct loader *l;
        o.workers = workers;
        o.repeat = true;
        if (!CHECK_OK(loader_open(&l, d, &o))) break;
        CHECK(take(l, EPOCHS * 13, workers == 0 ? first : other) == EPOCHS * N);
        if (workers > 0) CHECK(memcmp(first, other, sizeof first) == 0);
        loader_close(l);
    }
    CHECK(memcmp(first, first + N, N * sizeof *first) != 0); // epochs differ
    free(index);
    dataset_close(d);
}

static void resume_goes_on(void) {
    enum { BATCHES = 30 };
    static size_t whole[3 * N], tail[3 * N];
    struct dataset *d = open_data();
    struct selection_spec all = {0};
    size_t *index, n;
    CHECK_OK(selection_make(d, &all, &index, &n));
    struct loader_options o = options(index, n);
    struct loader *l;
    o.repeat = true;
    CHECK_OK(loader_open(&l, d, &o));
    size_t total = take(l, BATCHES, whole);
    loader_close(l);
    for (size_t done = 0; done < BATCHES; done += 5) {
        size_t before = done / 13 * N + done % 13 * 16;
        o.epoch = (uint32_t)(done / 13);
        o.first_batch = done % 13;
        CHECK_OK(loader_open(&l, d, &o));
        size_t left = take(l, BATCHES - done, tail);
        CHECK(before + left == total && memcmp(whole + before, tail, left * sizeof *tail) == 0);
        loader_close(l);
    }
    o.epoch = 0;
    o.first_batch = 13; // the end of an epoch is the start of the next
    CHECK_OK(loader_open(&l, d, &o));
    size_t left = take(l, 2, tail);
    CHECK(memcmp(whole + N, tail, left * sizeof *tail) == 0);
    loader_close(l);
    o.repeat = false;
    CHECK_OK(loader_open(&l, d, &o));
    CHECK(take(l, 2, tail) == 0);
    loader_close(l);
    free(index);
    dataset_close(d);
}

static void in_order_without_shuffle(void) {
    struct dataset *d = open_data();
    const size_t index[] = {5, 7, 100, 202, 3};
    size_t records[5];
    struct loader_options o = options(index, 5);
    struct loader *l;
    o.shuffle = false;
    o.batch_size = 2;
    CHECK_OK(loader_open(&l, d, &o));
    CHECK(take(l, 10, records) == 5 && memcmp(index, records, sizeof records) == 0);
    loader_close(l);
    o.batch_size = 1000;
    CHECK_OK(loader_open(&l, d, &o));
    CHECK(take(l, 10, records) == 5);
    loader_close(l);
    dataset_close(d);
}

static void wrong_options(void) {
    struct dataset *d = open_data();
    const size_t index[] = {0, N};
    const int column = 2;
    struct loader *l;
    struct loader_options o = options(index, 2);
    CHECK_FAILS(loader_open(&l, d, &o), ECG_ERR_CONFIG, "record 203 of 203");
    o = options(index, 0);
    CHECK_FAILS(loader_open(&l, d, &o), ECG_ERR_CONFIG, "no record");
    o = options(index, 1);
    o.batch_size = 0;
    CHECK_FAILS(loader_open(&l, d, &o), ECG_ERR_CONFIG, "batch size 0");
    o = options(index, 1);
    o.label_columns = &column;
    CHECK_FAILS(loader_open(&l, d, &o), ECG_ERR_CONFIG, "label column 2 of 2");
    o = options(index, 1);
    o.target_columns = &column;
    o.n_targets = 1;
    CHECK_FAILS(loader_open(&l, d, &o), ECG_ERR_CONFIG, "target column 2 of 2");
    o = options(index, 1);
    o.first_batch = 2;
    CHECK_FAILS(loader_open(&l, d, &o), ECG_ERR_CONFIG, "batch 2 of an epoch of 1");
    dataset_close(d);
}

/* A file cut after it was opened: the batches before the cut come, the others fail with shard and record, always
 * the same one, and the loader can be closed at any moment. */
static void errors_come_in_order(void) {
    CHECK_OK(shards_write(in_tmp("cut"), N));
    struct dataset *d;
    struct h5_file *f;
    struct h5_info info;
    size_t index[N];
    for (size_t i = 0; i < N; i++) index[i] = i;
    CHECK_OK(h5_open(&f, in_tmp("cut/shard-00000.h5")));
    CHECK_OK(h5_dataset_info(f, "/ecg", &info));
    CHECK_OK(h5_close(f));
    CHECK_OK(dataset_open(&d, in_tmp("cut")));
    // Only the scales, which lie behind /ecg, are out of reach for every record: cut inside them at record 40.
    struct h5_info scale;
    CHECK_OK(h5_open(&f, in_tmp("cut/shard-00000.h5")));
    CHECK_OK(h5_dataset_info(f, "/scale", &scale));
    CHECK_OK(h5_close(f));
    CHECK(scale.offset > info.offset);
    CHECK(truncate(in_tmp("cut/shard-00000.h5"), (off_t)(scale.offset + 40 * sizeof(float))) == 0);
    for (int workers = 1; workers <= 4; workers++) {
        struct loader_options o = options(index, N);
        struct loader *l;
        struct batch *b;
        o.shuffle = false;
        o.workers = workers;
        o.n_labels = o.n_targets = 0;
        CHECK_OK(loader_open(&l, d, &o));
        CHECK_OK(loader_next(l, &b));
        CHECK_OK(loader_next(l, &b));
        CHECK_FAILS(loader_next(l, &b), ECG_ERR_DATA, "shard-00000.h5, record 40: ");
        CHECK(b == NULL);
        CHECK_FAILS(loader_next(l, &b), ECG_ERR_DATA, "record 48: ");
        loader_close(l);
    }
    dataset_close(d);
}

static void closes_at_any_moment(void) {
    struct dataset *d = open_data();
    struct selection_spec all = {0};
    size_t *index, n;
    CHECK_OK(selection_make(d, &all, &index, &n));
    for (size_t batches = 0; batches < 16; batches++) {
        size_t records[2 * N];
        struct loader_options o = options(index, n);
        struct loader *l;
        o.workers = 4;
        o.repeat = true;
        CHECK_OK(loader_open(&l, d, &o));
        take(l, batches, records);
        loader_close(l);
    }
    loader_close(NULL);
    free(index);
    dataset_close(d);
}

int main(void) {
    CASE(selection_by_fold_and_part);
    CASE(part_wraps_around);
    CASE(fractions_lie_inside_each_other);
    CASE(fraction_of_a_part);
    CASE(selection_errors);
    CASE(overlap_is_found);
    CASE(order_is_a_permutation);
    CASE(every_record_once);
    CASE(workers_do_not_matter);
    CASE(resume_goes_on);
    CASE(in_order_without_shuffle);
    CASE(wrong_options);
    CASE(errors_come_in_order);
    CASE(closes_at_any_moment);
    return check_finish();
}
