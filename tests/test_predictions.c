/* SPDX-License-Identifier: MIT
 * Files of predict and embed: what was added is in them, in order; until commit nothing is; foreign HDF5 is read or refused
 * with a reason. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/csv.h"
#include "core/file.h"
#include "data/h5.h"
#include "tests/support/check.h"
#include "train/report/evaluation.h"
#include "train/report/predictions.h"

#define N 3
#define K 2

static char *name_list[] = {"AF", "a, \"b\""};
static const struct names names = {2, name_list};
static const char *const ids[N] = {"r/0", "r,1", "\xc3\xa9"};
static const float values[N][K] = {{0, -1.5f}, {3.25f, 100}, {-100, 1e-20f}};
static char path[4200];

static const char *in_tmp(const char *name) {
    snprintf(path, sizeof path, "%s/%s", check_tmp(), name);
    return path;
}

static size_t files_in_tmp(void) {
    struct file_list l;
    if (!CHECK_OK(file_list_dir(&l, check_tmp(), "", false))) return 0;
    size_t n = l.n;
    file_list_free(&l);
    return n;
}

static enum ecg_status write_rows(const char *name, enum predictions_kind kind,
                                  const struct names *columns, size_t rows, bool commit) {
    struct predictions_out p;
    TRY(predictions_open(&p, in_tmp(name), kind, columns, K, NULL));
    enum ecg_status status = ECG_OK;
    for (size_t i = 0; i < rows && status == ECG_OK; i++)
        status = predictions_add(&p, ids[i], values[i], NULL);
    if (status == ECG_OK && commit) return predictions_commit(&p);
    predictions_close(&p);
    predictions_close(&p);
    return status;
}

static void csv_of_labels_and_targets(void) {
    struct csv c;
    if (CHECK_OK(write_rows("labels.csv", PREDICTIONS_LABELS, &names, N, true)) &&
        CHECK_OK(csv_read(&c, path))) {
        CHECK(c.n_rows == N && c.n_columns == 1 + K);
        CHECK_STR(c.header[2], names.v[1]);
        for (size_t i = 0; i < N; i++) {
            CHECK_STR(c.cells[i * 3], ids[i]);
            for (size_t k = 0; k < K; k++) {
                double p = evaluation_prob((double)values[i][k]);
                CHECK_NEAR(strtod(c.cells[i * 3 + 1 + k], NULL), p, 5e-9 * p);
            }
        }
        csv_free(&c);
    }
    if (CHECK_OK(write_rows("targets.CSV", PREDICTIONS_TARGETS, &names, N, true)) &&
        CHECK_OK(csv_read(&c, path))) {
        CHECK(strtof(c.cells[5], NULL) == 100 && strtof(c.cells[8], NULL) == 1e-20f);
        csv_free(&c);
    }
}

static void h5_reads_back(void) {
    struct predictions p;
    struct h5_file *f;
    if (!CHECK_OK(write_rows("labels.h5", PREDICTIONS_LABELS, &names, N, true))) return;
    if (CHECK_OK(predictions_read(&p, path))) {
        CHECK(p.n == N && p.n_columns == K && !memcmp(p.logits, values, sizeof values));
        for (size_t i = 0; i < N; i++) CHECK_STR(p.ids[i], ids[i]);
        CHECK_STR(p.names, "AF\na, \"b\"");
        predictions_free(&p);
        predictions_free(&p);
    }
    float prob[N * K];
    if (CHECK_OK(h5_open(&f, path))) {
        CHECK_OK(h5_read_f32(f, "prob", 0, N, prob));
        for (size_t i = 0; i < N * K; i++)
            CHECK(prob[i] == (float)evaluation_prob((double)(&values[0][0])[i]));
        CHECK_OK(h5_close(f));
    }
    if (CHECK_OK(write_rows("targets.hdf5", PREDICTIONS_TARGETS, &names, N, true)) &&
        CHECK_OK(h5_open(&f, path))) {
        CHECK(h5_has(f, "logits") && !h5_has(f, "prob"));
        CHECK_OK(h5_close(f));
    }
}

static void embeddings(void) {
    struct h5_file *f;
    struct h5_info info;
    float read[N][K];
    if (CHECK_OK(write_rows("e.h5", PREDICTIONS_EMBEDDING, NULL, N, true)) &&
        CHECK_OK(h5_open(&f, path))) {
        CHECK_OK(h5_dataset_info(f, "embedding", &info));
        CHECK(info.ndim == 2 && info.shape[0] == N && info.shape[1] == K && info.item_bytes == 4);
        CHECK_OK(h5_read_f32(f, "embedding", 0, N, &read[0][0]));
        CHECK(!memcmp(read, values, sizeof values) && !h5_has(f, "logits") &&
              h5_has(f, "record_id"));
        CHECK_OK(h5_close(f));
    }
    struct predictions p;
    CHECK_FAILS(predictions_read(&p, path), ECG_ERR_DATA, "logits");
    CHECK_FAILS(write_rows("e.csv", PREDICTIONS_EMBEDDING, NULL, N, true), ECG_ERR_USAGE, ".h5");
    CHECK_FAILS(write_rows("e.txt", PREDICTIONS_LABELS, &names, N, true), ECG_ERR_USAGE,
                ".csv or .h5");
    CHECK_FAILS(write_rows("absent/e.h5", PREDICTIONS_LABELS, &names, N, true), ECG_ERR_CREATE,
                "absent");
}

static void whole_or_not_there(void) {
    size_t before = files_in_tmp();
    CHECK_OK(write_rows("half.h5", PREDICTIONS_LABELS, &names, 2, false));
    CHECK_OK(write_rows("half.csv", PREDICTIONS_LABELS, &names, 2, false));
    CHECK(files_in_tmp() == before); /* neither the file nor what waited beside it */
    CHECK_OK(write_rows("whole.h5", PREDICTIONS_LABELS, &names, 1, true));
    CHECK_OK(write_rows("whole.h5", PREDICTIONS_LABELS, &names, 2, false)); /* the old one stays */
    CHECK(files_in_tmp() == before + 1);
    struct predictions p;
    if (CHECK_OK(predictions_read(&p, in_tmp("whole.h5")))) CHECK(p.n == 1);
    predictions_free(&p);
}

static void no_record_at_all(void) {
    struct predictions p;
    if (!CHECK_OK(write_rows("none.h5", PREDICTIONS_LABELS, &names, 0, true))) return;
    if (CHECK_OK(predictions_read(&p, path))) CHECK(p.n == 0 && p.n_columns == K);
    predictions_free(&p);
}

/* Files that others wrote. */
static void foreign_files(void) {
    struct predictions p;
    struct h5_file *f;
    uint64_t shape[2] = {N, K}, flat[1] = {N * K};
    CHECK_FAILS(predictions_read(&p, in_tmp("nowhere.h5")), ECG_ERR_NOINPUT, "nowhere");
    CHECK_OK(file_write(in_tmp("text.h5"), "no HDF5", 7));
    CHECK_FAILS(predictions_read(&p, path), ECG_ERR_DATA, "text.h5");

    CHECK_OK(h5_create(&f, in_tmp("plain.h5")));
    CHECK_OK(h5_put_strings(f, "record_id", N, (char *const *)ids));
    CHECK_OK(h5_put_f32(f, "logits", 2, shape, &values[0][0]));
    CHECK_OK(h5_close(f));
    if (CHECK_OK(predictions_read(&p, path))) CHECK(p.n == N && p.names == NULL);
    predictions_free(&p);

    CHECK_OK(h5_create(&f, in_tmp("flat.h5")));
    CHECK_OK(h5_put_strings(f, "record_id", N, (char *const *)ids));
    CHECK_OK(h5_put_f32(f, "logits", 1, flat, &values[0][0]));
    CHECK_OK(h5_close(f));
    CHECK_FAILS(predictions_read(&p, path), ECG_ERR_DATA, "logits");

    CHECK_OK(h5_create(&f, in_tmp("short.h5")));
    CHECK_OK(h5_put_strings(f, "record_id", N - 1, (char *const *)ids));
    CHECK_OK(h5_put_f32(f, "logits", 2, shape, &values[0][0]));
    CHECK_OK(h5_close(f));
    CHECK_FAILS(predictions_read(&p, path), ECG_ERR_DATA, "2 record_ids, but 3 rows");
}

int main(void) {
    CASE(csv_of_labels_and_targets);
    CASE(h5_reads_back);
    CASE(embeddings);
    CASE(whole_or_not_there);
    CASE(no_record_at_all);
    CASE(foreign_files);
    return check_finish();
}
