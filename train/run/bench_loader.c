/* SPDX-License-Identifier: MIT
 * What the loader hands on, whole epochs in shuffled order after a first one that fills the system's cache: how fast the
 * data path is, not how fast the disk. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/log.h"
#include "core/pool.h"
#include "data/simulator.h"
#include "train/run/bench_private.h"
#include "train/run/config.h"
#include "train/run/source.h"

/* Records a second over at least `seconds`. */
static enum ecg_status read_epochs(const struct source *s, int batch, int workers, double seconds,
                                   double *rate) {
    struct loader_options options = source_loader(s, batch, workers);
    struct loader *loader = NULL;
    struct batch *b = NULL;
    size_t n = 0;
    double start = 0;
    enum ecg_status status;
    options.shuffle = options.repeat = true;
    TRY(loader_open(&loader, s->data, &options));
    do {
        TRY_OUT(loader_next(loader, &b));
        if (start > 0) n += (size_t)b->B;
        if (b->last_of_epoch && start == 0) start = log_clock();
    } while (n == 0 || !b->last_of_epoch || log_clock() - start < seconds);
    *rate = (double)n / (log_clock() - start);
out:
    loader_close(loader);
    return status;
}

static void put_rate(struct bench *b, int workers, double rate, double bytes) {
    if (!b->o->json) {
        printf("  %2d %-8s %9.0f records/s %7.2f GB/s\n", workers,
               workers == 1 ? "worker" : "workers", rate, 1e-9 * rate * bytes);
        return;
    }
    json_begin_object(&b->w);
    json_put_key(&b->w, "workers");
    json_put_integer(&b->w, workers);
    bench_put(b, "records_per_s", rate);
    bench_put(b, "gb_s", 1e-9 * rate * bytes);
    json_end_object(&b->w);
}

static enum ecg_status measure(struct bench *b, struct source *s, const char *what) {
    const struct shard_schema *schema = &s->data->schema;
    const double bytes = (double)sizeof(int16_t) * schema->leads.n * schema->length;
    const int batch = source_batch(s, b->o->batch > 0 ? b->o->batch : 16);
    const int most = b->o->threads > 0 ? b->o->threads : pool_default_threads();
    if (b->o->json) {
        json_put_key(&b->w, "loader");
        json_begin_object(&b->w);
        bench_put_text(b, "data", what);
        json_put_key(&b->w, "records");
        json_put_integer(&b->w, (int64_t)s->n);
        bench_put(b, "bytes_per_record", bytes);
        json_put_key(&b->w, "batch");
        json_put_integer(&b->w, batch);
        json_put_key(&b->w, "rates");
        json_begin_array(&b->w);
    } else {
        printf("\nloader: %zu records of %d x %d (%s), batch %d\n", s->n, schema->leads.n,
               schema->length, what, batch);
    }
    for (int workers = 1; workers <= most; workers = workers < most ? most : most + 1) {
        double rate;
        TRY(read_epochs(s, batch, workers, b->o->quick ? 0 : 1, &rate));
        put_rate(b, workers, rate, bytes);
    }
    if (b->o->json) {
        json_end_array(&b->w);
        json_end_object(&b->w);
    }
    return ECG_OK;
}

static enum ecg_status from(struct bench *b, const char *selection, const char *what) {
    struct selection_spec spec = {0};
    struct source s = {0};
    const struct names all = {0};
    enum ecg_status status;
    TRY(config_selection_text(selection, "--data", &spec));
    TRY_OUT(source_open(&s, &spec, "--data"));
    if (s.data->schema.labels.n > 0) TRY_OUT(source_take_columns(&s, false, &all, "--data"));
    status = measure(b, &s, what);
out:
    source_close(&s);
    config_selection_free(&spec);
    return status;
}

static enum ecg_status from_simulated(struct bench *b) {
    const struct simulator_options o = {
        .seed = 1, .sampling_rate = b->o->quick ? 100 : 500, .seconds = 10, .noise = 1};
    const char *base = getenv("TMPDIR");
    char folder[512], data[520];
    snprintf(folder, sizeof(folder), "%.400s/einthoven-bench-XXXXXX",
             base != NULL && base[0] != 0 ? base : "/tmp");
    if (mkdtemp(folder) == NULL)
        return ecg_fail(ECG_ERR_CREATE, "%s: a temporary folder can't be made", folder);
    snprintf(data, sizeof(data), "%s/ecgs", folder);
    enum ecg_status status =
        simulator_write(&o, data, b->o->quick ? 64 : 512, b->o->threads, "einthoven bench");
    if (status == ECG_OK) status = from(b, data, "simulated");
    if (status != ECG_OK) {
        file_remove_tree(folder); /* the first failure is the one to tell */
        return status;
    }
    return file_remove_tree(folder);
}

enum ecg_status bench_loader(struct bench *b) {
    return b->o->data != NULL ? from(b, b->o->data, b->o->data) : from_simulated(b);
}
