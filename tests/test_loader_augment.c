/* SPDX-License-Identifier: MIT
 * The loader with augmentation, mixup and balanced epochs: the same batches for any number of workers and from any batch
 * on, records drawn as their weights say, labels left alone. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash.h"
#include "core/rng.h"
#include "data/loader.h"
#include "tests/support/check.h"
#include "tests/support/shards.h"
#include "train/run/balance.h"

enum { N = 101, BATCH = 15, BATCHES = 7, VALUES = SHARDS_C * SHARDS_L };
static const int every_lead[SHARDS_C] = {0, 1, 2};

static struct dataset *data;
static size_t every_record[N];
static double weights[N]; /* of every third record 5, else 1 */

static void open_data(void) {
    char path[4096];
    snprintf(path, sizeof path, "%s/data", check_tmp());
    CHECK_OK(shards_write(path, N));
    CHECK_OK(dataset_open(&data, path));
    for (size_t i = 0; i < N; i++) {
        every_record[i] = i;
        weights[i] = i % 3 == 0 ? 5 : 1;
    }
}

static struct augment set_up(double mixup, unsigned ops) {
    struct augment_options o = {.ops = ops,
                                .n = ops == 0 ? 1 : __builtin_popcount(ops) / 2,
                                .magnitude = 1,
                                .probability = 0.8,
                                .mixup = mixup};
    struct augment a;
    CHECK_OK(augment_init(&a, &o, &data->schema, every_lead, SHARDS_C));
    return a;
}

static const unsigned all_ops = (1u << AUGMENT_N_OPS) - 1;

static struct loader_options options(const struct augment *a, const double *weight, int workers) {
    static const int labels[] = {1, 0}, targets[] = {1};
    return (struct loader_options){.index = every_record,
                                   .n = N,
                                   .label_columns = labels,
                                   .n_labels = 2,
                                   .target_columns = targets,
                                   .n_targets = 1,
                                   .batch_size = BATCH,
                                   .shuffle = true,
                                   .weight = weight,
                                   .augment = a,
                                   .seed = 9,
                                   .workers = workers,
                                   .repeat = true};
}

/* All that a batch holds. */
static uint64_t digest(const struct batch *b) {
    size_t n = (size_t)b->B;
    uint64_t parts[7] = {hash_bytes(b->ecg, n * VALUES * sizeof *b->ecg),
                         hash_bytes(b->scale, n * sizeof *b->scale),
                         hash_bytes(b->labels, n * 2),
                         hash_bytes(b->targets, n * sizeof *b->targets),
                         hash_bytes(b->record, n * sizeof *b->record),
                         b->mix != NULL ? hash_bytes(b->mix, n * sizeof *b->mix) : 0,
                         b->mix != NULL ? hash_bytes(b->partner, n * sizeof *b->partner) : 0};
    return hash_bytes(parts, sizeof parts);
}

static void digests(struct loader_options o, size_t n, uint64_t *out) {
    struct loader *l;
    struct batch *b;
    if (!CHECK_OK(loader_open(&l, data, &o))) return;
    for (size_t i = 0; i < n; i++) {
        if (!CHECK_OK(loader_next(l, &b))) break;
        out[i] = digest(b);
    }
    loader_close(l);
}

static void workers_and_resume_change_nothing(void) {
    enum { TOTAL = 3 * BATCHES };
    for (int kind = 0; kind < 4; kind++) {
        struct augment a = set_up(kind == 1 || kind == 3 ? 0.3 : 0, kind == 1 ? 0 : all_ops);
        const double *weight = kind >= 2 ? weights : NULL;
        uint64_t one[TOTAL], other[TOTAL];
        digests(options(&a, weight, 1), TOTAL, one);
        for (int i = 1; i < TOTAL; i++) CHECK(one[i] != one[i - 1]);
        for (int workers = 2; workers <= 7; workers += workers == 2 ? 2 : 3) { /* 2, 4, 7 */
            digests(options(&a, weight, workers), TOTAL, other);
            CHECK(memcmp(one, other, sizeof one) == 0);
        }
        for (size_t done = 1; done < TOTAL; done += 4) {
            struct loader_options o = options(&a, weight, 3);
            o.epoch = (uint32_t)(done / BATCHES);
            o.first_batch = done % BATCHES;
            digests(o, TOTAL - done, other);
            CHECK(memcmp(one + done, other, (TOTAL - done) * sizeof *one) == 0);
        }
    }
}

/* A record's second time in an epoch, and its next epoch, look different; its labels don't. */
static void each_time_is_new(void) {
    struct augment a = set_up(0, 1u << AUGMENT_NOISE | 1u << AUGMENT_WANDER);
    struct loader_options o = options(&a, weights, 2);
    struct loader *l;
    struct batch *b;
    uint64_t seen[2 * N];
    size_t record[2 * N], n = 0, again = 0;
    a.o.probability = 1;
    CHECK_OK(loader_open(&l, data, &o));
    for (int i = 0; i < 2 * BATCHES; i++) {
        CHECK_OK(loader_next(l, &b));
        for (int k = 0; k < b->B; k++, n++) {
            record[n] = b->record[k];
            seen[n] = hash_bytes(b->ecg + k * VALUES, VALUES * sizeof *b->ecg);
            CHECK(b->labels[2 * k] == shards_label(record[n], 1));
            CHECK(b->labels[2 * k + 1] == shards_label(record[n], 0));
            CHECK(b->mix == NULL && b->partner == NULL);
            for (size_t j = 0; j < n; j++) {
                if (record[j] != record[n]) continue;
                again++;
                CHECK(seen[j] != seen[n]);
            }
        }
    }
    loader_close(l);
    CHECK(n == 2 * N && again > N);
}

/* Mixup without other operations, from the records as they are stored. */
static void mixup_is_of_neighbours(void) {
    struct augment a = set_up(0.4, 0);
    struct loader_options o = options(&a, NULL, 2);
    struct loader *l;
    struct batch *b;
    double worst = 0, sum = 0;
    size_t n = 0;
    CHECK_OK(loader_open(&l, data, &o));
    for (int i = 0; i < BATCHES; i++) {
        CHECK_OK(loader_next(l, &b));
        for (int k = 0; k < b->B; k++) {
            bool alone = k == b->B - 1 && b->B % 2 == 1;
            struct augment_place at = {9, 0, (uint32_t)(i * BATCH + k)};
            CHECK(b->partner[k] == (alone ? k : k ^ 1));
            CHECK(b->mix[k] == (alone ? 1 : augment_lambda(&a, &at)));
            CHECK(b->labels[2 * k] == shards_label(b->record[k], 1));
            size_t own = b->record[k], other = b->record[b->partner[k]];
            for (int v = 0; v < VALUES; v++) {
                double x = shards_sample(own, v / SHARDS_L, v % SHARDS_L) * shards_scale(own);
                double y = shards_sample(other, v / SHARDS_L, v % SHARDS_L) * shards_scale(other);
                double want = b->mix[k] * x + (1 - (double)b->mix[k]) * y;
                double d = fabs(b->ecg[k * VALUES + v] - want / b->scale[k]);
                if (!(d <= worst)) worst = d;
            }
            sum += alone ? 0 : b->mix[k];
            n += !alone;
        }
    }
    loader_close(l);
    check_note("largest error %.3f steps, mean share %.3f of %zu", worst, sum / (double)n, n);
    CHECK(worst <= 0.51);
    CHECK(n == N - BATCHES); /* every batch is odd: six of 15 and one of 11 */
}

/* An augmented batch is the stored one through augment_record at its places. */
static void batches_are_what_augment_makes(void) {
    struct augment a = set_up(0, all_ops);
    struct loader_options o = options(&a, NULL, 3);
    struct loader *l;
    struct batch *b;
    struct arena arena = {0};
    struct augment_scratch s;
    augment_carve(&a, &arena, &s);
    CHECK_OK(arena_commit(&arena));
    augment_carve(&a, &arena, &s);
    CHECK_OK(loader_open(&l, data, &o));
    for (int i = 0; i < 2 * BATCHES; i++) {
        CHECK_OK(loader_next(l, &b));
        for (int k = 0; k < b->B; k++) {
            struct augment_place at = {9, (uint32_t)(i / BATCHES),
                                       (uint32_t)(i % BATCHES * BATCH + k)};
            int16_t ecg[VALUES];
            float scale;
            CHECK_OK(dataset_read(data, b->record[k], ecg, &scale));
            augment_record(&a, &at, &s, ecg, &scale);
            CHECK(memcmp(ecg, b->ecg + k * VALUES, sizeof ecg) == 0 && scale == b->scale[k]);
        }
    }
    loader_close(l);
    arena_free(&arena);
}

/* ------------------------------------------------------------------ balance */

static void draws_follow_the_weights(void) {
    enum { M = 50, EPOCHS = 2000 };
    double weight[M], upto[M], sum = 0;
    size_t order[M], count[M] = {0}, before[M];
    for (int i = 0; i < M; i++) sum += weight[i] = i % 7 == 3 ? 0 : 0.01 * (i + 1);
    sampler_cumulate(M, weight, upto);
    for (uint32_t epoch = 0; epoch < EPOCHS; epoch++) {
        sampler_draw(M, upto, 4, epoch, order);
        CHECK(epoch == 0 || memcmp(order, before, sizeof order) != 0);
        memcpy(before, order, sizeof order);
        for (int i = 0; i < M; i++)
            if (CHECK(order[i] < M)) count[order[i]]++;
    }
    for (int i = 0; i < M; i++) {
        double p = weight[i] / sum, draws = (double)M * EPOCHS;
        CHECK_NEAR((double)count[i], p * draws, 5 * sqrt(draws * p * (1 - p)));
        CHECK(weight[i] > 0 || count[i] == 0);
    }
    sampler_draw(M, upto, 4, EPOCHS - 1, order);
    CHECK(memcmp(order, before, sizeof order) == 0);
    upto[0] = 3;
    sampler_draw(1, upto, 4, 0, order);
    CHECK(order[0] == 0);
}

enum { LABELS = 3, LABELLED = 80 };

static uint8_t label_of(size_t i, int k) {
    static const size_t every[LABELS] = {2, 5,
                                         3}; /* so 0 and 1 in one of ten, all in one of thirty */
    return i % 11 == 4 ? SHARD_LABEL_UNKNOWN : i % every[k] == 0;
}

static struct dataset *labelled_data(void) {
    struct shard_schema schema = {
        .sampling_rate = 500, .length = 1, .units = "mV", .preprocessing = "none"};
    struct shard_writer *w = NULL;
    struct dataset *d = NULL;
    char path[4096], id[32];
    const int16_t ecg[1] = {1};
    snprintf(path, sizeof path, "%s/labelled", check_tmp());
    CHECK_OK(leads_parse(&schema.leads, "I"));
    CHECK_OK(names_parse(&schema.labels, "often\nseldom\nthird", "labels"));
    CHECK_OK(shard_writer_open(&w, path, &schema));
    for (size_t i = 0; i < LABELLED; i++) {
        const uint8_t labels[LABELS] = {label_of(i, 0), label_of(i, 1), label_of(i, 2)};
        struct shard_record r = {
            .record_id = id, .patient_id = id, .ecg = ecg, .scale = 1, .labels = labels};
        snprintf(id, sizeof id, "%zu", i);
        CHECK_OK(shard_writer_add(w, &r));
    }
    CHECK_OK(shard_writer_finish(w, "test"));
    shard_writer_close(w);
    shard_schema_free(&schema);
    CHECK_OK(dataset_open(&d, path));
    return d;
}

static void weights_are_of_the_rarest_label(void) {
    enum { M = LABELLED / 2 };
    struct dataset *d = labelled_data();
    const int columns[2][2] = {{1, 0}, {2, 2}};
    size_t index[M];
    double weight[M];
    int n_both = 0, n_none = 0;
    for (size_t i = 0; i < M; i++)
        index[i] = i < 5 ? 7 : 2 * i + i % 2; /* some stand there twice */
    for (int set = 0; set < 2; set++) {
        const int *column = columns[set], n_columns = 2 - set;
        CHECK_OK(balance_weights(d, index, M, column, n_columns, weight));
        for (size_t i = 0; i < M; i++) {
            size_t least = 0, n = 0;
            for (int k = 0; k < n_columns; k++) {
                if (label_of(index[i], column[k]) != 1) continue;
                n = 0;
                for (size_t j = 0; j < M; j++) n += label_of(index[j], column[k]) == 1;
                n_both += least > 0 && least != n;
                if (least == 0 || n < least) least = n;
            }
            n_none += least == 0;
            for (size_t j = 0; j < M && n == 0; j++) /* it has none: those without */
                least += !(label_of(index[j], column[0]) == 1 ||
                           (n_columns == 2 && label_of(index[j], column[1]) == 1));
            CHECK(weight[i] == 1.0 / (double)least);
        }
    }
    CHECK(n_both > 0 && n_none > 0);
    CHECK_FAILS(balance_weights(d, index, M, columns[0], 0, weight), ECG_ERR_CONFIG,
                "data.balance");
    dataset_close(d);
}

/* One record in a hundred has the label: half of a balanced epoch. */
static void balanced_epochs_are_balanced(void) {
    enum { EPOCHS = 40 };
    size_t index[N], with = 0, n = 0;
    double weight[N];
    const int column[] = {0};
    for (size_t i = 0; i < N; i++) index[i] = i == 0 ? 0 : 1; /* labels: 1 and 0 */
    CHECK(shards_label(0, 0) == 1 && shards_label(1, 0) == 0);
    CHECK_OK(balance_weights(data, index, N, column, 1, weight));
    struct loader_options o = options(NULL, weight, 2);
    struct loader *l;
    struct batch *b;
    o.index = index;
    CHECK_OK(loader_open(&l, data, &o));
    CHECK(loader_batches_per_epoch(l) == BATCHES);
    for (int i = 0; i < EPOCHS * BATCHES; i++) {
        CHECK_OK(loader_next(l, &b));
        for (int k = 0; k < b->B; k++, n++) with += b->labels[2 * k + 1] == 1;
    }
    loader_close(l);
    check_note("%zu of %zu have the label that 1 of %d has", with, n, N);
    CHECK(n == EPOCHS * N);
    CHECK_NEAR((double)with, 0.5 * (double)n, 5 * sqrt((double)n / 4));
}

static void wrong_weights(void) {
    double weight[N] = {0};
    struct loader_options o = options(NULL, weight, 1);
    struct loader *l;
    CHECK_FAILS(loader_open(&l, data, &o), ECG_ERR_CONFIG, "add up to 0");
    weight[3] = -1;
    CHECK_FAILS(loader_open(&l, data, &o), ECG_ERR_CONFIG, "weight -1 of record 3");
    weight[3] = NAN;
    CHECK_FAILS(loader_open(&l, data, &o), ECG_ERR_CONFIG, "of record 3");
    weight[3] = INFINITY;
    CHECK_FAILS(loader_open(&l, data, &o), ECG_ERR_CONFIG, "add up to inf");
}

int main(void) {
    open_data();
    CASE(workers_and_resume_change_nothing);
    CASE(each_time_is_new);
    CASE(mixup_is_of_neighbours);
    CASE(batches_are_what_augment_makes);
    CASE(draws_follow_the_weights);
    CASE(weights_are_of_the_rarest_label);
    CASE(balanced_epochs_are_balanced);
    CASE(wrong_weights);
    dataset_close(data);
    return check_finish();
}
