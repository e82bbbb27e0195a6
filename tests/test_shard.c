/* SPDX-License-Identifier: MIT
 * Data sets: what the writer writes the reader reads; each way in which a shard can be wrong is an error that names
 * the file; archives (chunked, shuffle + gzip) read as contiguous ones; a full disk leaves nothing behind. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/file.h"
#include "core/hash.h"
#include "core/json.h"
#include "core/log.h"
#include "core/rng.h"
#include "data/h5.h"
#include "data/shard.h"
#include "tests/support/check.h"
#include "tests/support/shards.h"

/* libhdf5 loses memory when it refuses a damaged file; that is not ours to fix. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:libhdf5";
}

/* A path below the program's folder; four may be in use at once. */
static const char *in_tmp(const char *name) {
    static char paths[4][4096];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", check_tmp(), name);
    return path;
}

/* ------------------------------------------------------------------ writer and reader */

static void write_and_read(void) {
    enum { N = SHARD_MAX_RECORDS + 37 };
    struct dataset *d;
    CHECK_OK(shards_write(in_tmp("two"), N));
    if (!CHECK_OK(dataset_open(&d, in_tmp("two")))) return;
    CHECK(d->n_records == N && d->n_shards == 2);
    CHECK(d->schema.length == SHARDS_L && d->schema.leads.n == SHARDS_C);
    CHECK_STR(d->schema.leads.name[2], "V1");
    CHECK_STR(d->schema.units, "mV");
    CHECK_STR(d->schema.labels.v[1], "mi \xc3\xa4");
    CHECK(names_find(&d->schema.targets, "hr") == 1 && names_find(&d->schema.targets, "x") == -1);
    size_t good = 0, row;
    for (size_t i = 0; i < N; i++) {
        char patient[32];
        snprintf(patient, sizeof patient, "p%zu", i / 3);
        CHECK(d->patient_hash[i] == hash_bytes(patient, strlen(patient)));
        CHECK(d->fold[i] == (int16_t)(i % 10 + 1));
        good += shards_check(d, i);
    }
    CHECK(good == N);
    CHECK_STR(dataset_shard_name(d, SHARD_MAX_RECORDS + 5, &row), "shard-00001.h5");
    CHECK(row == 5);
    dataset_close(d);
    CHECK_OK(dataset_open(&d, in_tmp("two/shard-00001.h5")));
    CHECK(d != NULL && d->n_records == 37);
    dataset_close(d);
}

static void summary(void) {
    char *text, name[64], want[17];
    size_t n;
    struct json *root;
    uint64_t hash;
    CHECK_OK(shards_write(in_tmp("summary"), 8));
    CHECK_OK(file_read(in_tmp("summary/dataset.json"), 1 << 20, &text, &n));
    if (!CHECK_OK(json_parse(&root, text, n, "dataset.json"))) return;
    CHECK(json_integer(json_get(root, "records")) == 8);
    CHECK_STR(json_string(json_get(root, "made_by")), "test");
    const struct json *shard = json_at(json_get(root, "shards"), 0);
    snprintf(name, sizeof name, "summary/%s", json_string(json_get(shard, "file")));
    CHECK_OK(hash_file(in_tmp(name), &hash));
    snprintf(want, sizeof want, "%016llx", (unsigned long long)hash);
    CHECK_STR(json_string(json_get(shard, "xxhash64")), want);
    const struct json *af = json_get(json_get(root, "labels"), "af");
    CHECK(json_integer(json_get(af, "present")) == 2);
    CHECK(json_integer(json_get(af, "absent")) == 4);
    CHECK(json_integer(json_get(af, "unknown")) == 2);
    CHECK(json_integer(json_get(json_get(json_get(root, "targets"), "age"), "known")) == 6);
    json_free(root);
    free(text);
}

static void equal_input_gives_equal_bytes(void) {
    char *a, *b;
    size_t na, nb;
    CHECK_OK(shards_write(in_tmp("equal1"), 11));
    sleep(1); // HDF5 would note the second of making
    CHECK_OK(shards_write(in_tmp("equal2"), 11));
    CHECK_OK(file_read(in_tmp("equal1/shard-00000.h5"), 1 << 24, &a, &na));
    CHECK_OK(file_read(in_tmp("equal2/shard-00000.h5"), 1 << 24, &b, &nb));
    CHECK(na == nb && memcmp(a, b, na) == 0);
    free(a);
    free(b);
}

static void writer_refuses(void) {
    struct shard_schema schema;
    struct shard_writer *w;
    int16_t ecg[SHARDS_C * SHARDS_L] = {0};
    uint8_t labels[SHARDS_K] = {0, 1};
    float targets[SHARDS_T] = {1, 2};
    struct shard_record r = {
        .record_id = "a", .ecg = ecg, .scale = 1, .labels = labels, .targets = targets};
    shards_schema(&schema);
    CHECK_OK(shard_writer_open(&w, in_tmp("refuse"), &schema));
    CHECK_FAILS(shard_writer_finish(w, "test"), ECG_ERR_DATA, "no record");
    CHECK_OK(shard_writer_add(w, &r));
    CHECK_FAILS(shard_writer_add(w, &r), ECG_ERR_DATA, "\"a\" stands twice");
    r.record_id = "";
    CHECK_FAILS(shard_writer_add(w, &r), ECG_ERR_DATA, "no record_id");
    r.record_id = "b";
    labels[1] = 2;
    CHECK_FAILS(shard_writer_add(w, &r), ECG_ERR_DATA, "label mi \xc3\xa4 is 2");
    labels[1] = 255;
    r.scale = NAN;
    CHECK_FAILS(shard_writer_add(w, &r), ECG_ERR_DATA, "\"b\": scale nan");
    r.scale = 1;
    targets[0] = INFINITY;
    CHECK_FAILS(shard_writer_add(w, &r), ECG_ERR_DATA, "target age is infinite");
    targets[0] = NAN;
    CHECK_OK(shard_writer_add(w, &r));
    CHECK(shard_writer_count(w) == 2);
    CHECK_FAILS(shard_writer_open(&(struct shard_writer *){NULL}, in_tmp("refuse"), &schema),
                ECG_ERR_CREATE, "not an empty folder");
    shard_writer_close(w);
    CHECK(!file_exists(in_tmp("refuse")));
    shard_schema_free(&schema);
}

/* RLIMIT_FSIZE makes writes fail as a full disk does. */
static void full_disk(void) {
    struct rlimit limit, small;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    for (rlim_t bytes = 500; bytes < 600000; bytes *= 3) {
        small = (struct rlimit){bytes, limit.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        enum ecg_status status = shards_write(in_tmp("full"), 4000);
        setrlimit(RLIMIT_FSIZE, &limit);
        CHECK_FAILS(status, ECG_ERR_IO, "full/");
        CHECK(!file_exists(in_tmp("full")));
    }
    CHECK_OK(shards_write(in_tmp("full"), 40));
}

static void unwritable_folder(void) {
    CHECK_OK(file_write(in_tmp("file"), "x", 1));
    CHECK_FAILS(shards_write(in_tmp("file"), 3), ECG_ERR_CREATE, "file");
    CHECK_FAILS(shards_write(in_tmp("file/below"), 3), ECG_ERR_CREATE, "file");
}

/* ------------------------------------------------------------------ shards made by hand */

/* What one hand-made shard has wrong; the default is right. */
struct hand {
    const char *format, *leads, *units, *names;
    double version, rate;
    uint64_t n_scale, n_leads;
    bool no_scale, no_id, no_ecg, float_ecg;
    uint8_t label;
    float scale;
};

static struct hand right(void) {
    return (struct hand){.format = "ecg-shard",
                         .leads = "I,II",
                         .units = "mV",
                         .names = "af",
                         .version = 1,
                         .rate = 100,
                         .n_scale = 2,
                         .n_leads = 2,
                         .scale = 0.5f};
}

static void write_hand(const char *path, struct hand h) {
    struct h5_file *f;
    const int16_t ecg[16] = {1, 2, 3};
    const float values[16] = {0}, scale[4] = {1, h.scale, 1, 1};
    const uint8_t labels[2] = {1, h.label};
    char *const id[2] = {"a", "b"};
    const uint64_t shape[3] = {2, h.n_leads, 4}, two[2] = {2, 1};
    if (!CHECK_OK(h5_create(&f, path))) return;
    if (h.format != NULL) CHECK_OK(h5_put_attr_text(f, "/", "format", h.format));
    if (h.version != 0) CHECK_OK(h5_put_attr_number(f, "/", "version", h.version));
    CHECK_OK(h5_put_attr_number(f, "/", "sampling_rate", h.rate));
    if (h.leads != NULL) CHECK_OK(h5_put_attr_text(f, "/", "leads", h.leads));
    if (h.units != NULL) CHECK_OK(h5_put_attr_text(f, "/", "units", h.units));
    CHECK_OK(h5_put_attr_text(f, "/", "preprocessing", "none"));
    if (h.float_ecg)
        CHECK_OK(h5_put_f32(f, "/ecg", 3, shape, values));
    else if (!h.no_ecg)
        CHECK_OK(h5_put_i16(f, "/ecg", 3, shape, ecg));
    if (!h.no_scale) CHECK_OK(h5_put_f32(f, "/scale", 1, &h.n_scale, scale));
    if (!h.no_id) CHECK_OK(h5_put_strings(f, "/record_id", 2, id));
    CHECK_OK(h5_put_u8(f, "/labels", 2, two, labels));
    if (h.names != NULL) CHECK_OK(h5_put_attr_text(f, "/labels", "names", h.names));
    CHECK_OK(h5_close(f));
}

static enum ecg_status open_hand(struct hand h) {
    struct dataset *d;
    write_hand(in_tmp("hand.h5"), h);
    enum ecg_status status = dataset_open(&d, in_tmp("hand.h5"));
    dataset_close(d);
    return status;
}

#define CHECK_HAND(field, value, text)                                                             \
    do {                                                                                           \
        struct hand h = right();                                                                   \
        h.field = (value);                                                                         \
        CHECK_FAILS(open_hand(h), ECG_ERR_DATA, text);                                             \
        CHECK_FAILS(open_hand(h), ECG_ERR_DATA, "hand.h5");                                        \
    } while (0)

static void wrong_shards(void) {
    CHECK_OK(open_hand(right()));
    CHECK_HAND(format, NULL, "is no shard");
    CHECK_HAND(format, "ecg-shart", "is no shard");
    CHECK_HAND(version, 0, "version is missing");
    CHECK_HAND(version, 2, "shard version 2");
    CHECK_HAND(rate, 0, "sampling_rate 0");
    CHECK_HAND(rate, NAN, "sampling_rate nan");
    CHECK_HAND(leads, NULL, "leads is missing");
    CHECK_HAND(leads, "I,I", "leads");
    CHECK_HAND(leads, "I", "has 2 leads, attribute leads names 1");
    CHECK_HAND(n_leads, 1, "has 1 leads");
    CHECK_HAND(units, "uV", "units \"uV\"");
    CHECK_HAND(names, NULL, "names is missing");
    CHECK_HAND(names, "af\nmi", "1 columns and 2 names");
    CHECK_HAND(names, "", "is empty");
    CHECK_HAND(n_scale, 3, "/scale: has 3 rows, /ecg 2");
    CHECK_HAND(no_scale, true, "/scale: is not there");
    CHECK_HAND(no_id, true, "/record_id: is not there");
    CHECK_HAND(no_ecg, true, "/ecg: is not there");
    CHECK_HAND(float_ecg, true, "int16 wanted, found float32");
}

static void wrong_values(void) {
    struct hand h = right();
    struct dataset *d;
    int16_t ecg[8];
    uint8_t label;
    float scale;
    h.label = 2;
    h.scale = INFINITY;
    h.units = NULL; // a default, with a warning
    log_set_level(LOG_ERROR);
    write_hand(in_tmp("values.h5"), h);
    if (!CHECK_OK(dataset_open(&d, in_tmp("values.h5")))) return;
    log_set_level(LOG_INFO);
    CHECK_STR(d->schema.units, "none");
    CHECK(d->fold == NULL && d->schema.targets.n == 0);
    CHECK_OK(dataset_labels(d, 0, &label));
    CHECK(label == 1);
    CHECK_FAILS(dataset_labels(d, 1, &label), ECG_ERR_DATA, "values.h5: /labels: record 1");
    CHECK_OK(dataset_read(d, 0, ecg, &scale));
    CHECK_FAILS(dataset_read(d, 1, ecg, &scale), ECG_ERR_DATA, "values.h5: /scale: record 1");
    CHECK(d->patient_hash[1] == hash_bytes("b", 1)); // no patient_id: the record's own
    dataset_close(d);
}

static void folders(void) {
    struct dataset *d;
    CHECK_FAILS(dataset_open(&d, in_tmp("nowhere")), ECG_ERR_NOINPUT, "nowhere");
    CHECK_OK(file_mkdirs(in_tmp("folder")));
    CHECK_OK(file_write(in_tmp("folder/notes.csv"), "x", 1));
    CHECK_FAILS(dataset_open(&d, in_tmp("folder")), ECG_ERR_NOINPUT, "holds no shard");
    write_hand(in_tmp("folder/b.h5"), right());
    write_hand(in_tmp("folder/a.hdf5"), right());
    CHECK_OK(dataset_open(&d, in_tmp("folder")));
    size_t row;
    CHECK(d->n_records == 4 && d->n_shards == 2);
    CHECK_STR(dataset_shard_name(d, 0, &row), "a.hdf5");
    dataset_close(d);
    struct hand other = right();
    other.rate = 250;
    write_hand(in_tmp("folder/c.h5"), other);
    CHECK_FAILS(dataset_open(&d, in_tmp("folder")), ECG_ERR_DATA,
                "c.h5: its sampling_rate differs from that of a.hdf5");
    CHECK_OK(file_write(in_tmp("folder/c.h5"), "no hdf5", 7));
    CHECK_FAILS(dataset_open(&d, in_tmp("folder")), ECG_ERR_DATA, "c.h5");
}

/* ------------------------------------------------------------------ damaged files */

static bool read_everything(const char *path) {
    struct dataset *d;
    if (dataset_open(&d, path) != ECG_OK) return false;
    bool ok = d->n_records <= 1000 && d->p != NULL;
    size_t values = (size_t)d->schema.leads.n * (size_t)d->schema.length;
    ok = ok && values <= 1000 && d->schema.labels.n <= 100 && d->schema.targets.n <= 100;
    for (size_t i = 0; ok && i < d->n_records; i++) {
        int16_t ecg[1000];
        float scale, targets[100];
        uint8_t labels[100];
        char *id = NULL;
        ok = dataset_read(d, i, ecg, &scale) == ECG_OK && dataset_labels(d, i, labels) == ECG_OK &&
             dataset_targets(d, i, targets) == ECG_OK && dataset_patient_id(d, i, &id) == ECG_OK;
        free(id);
    }
    dataset_close(d);
    return ok;
}

static void truncated_shards(void) {
    char *bytes;
    size_t n, tried = 0, refused = 0;
    CHECK_OK(shards_write(in_tmp("cut"), 20));
    CHECK_OK(file_read(in_tmp("cut/shard-00000.h5"), 1 << 24, &bytes, &n));
    CHECK(read_everything(in_tmp("cut/shard-00000.h5")));
    for (size_t length = 0; length < n; length += 1 + length % 149, tried++) {
        CHECK_OK(file_write(in_tmp("cut/short.h5"), bytes, length));
        refused += !read_everything(in_tmp("cut/short.h5"));
    }
    CHECK(refused == tried);
    check_note("%zu lengths of %zu bytes, all refused", tried, n);
    free(bytes);
}

/* Shrunk after it was opened: the read itself must notice. */
static void truncated_while_open(void) {
    struct dataset *d;
    int16_t ecg[SHARDS_C * SHARDS_L];
    float scale;
    CHECK_OK(shards_write(in_tmp("shrink"), 5));
    CHECK_OK(dataset_open(&d, in_tmp("shrink")));
    CHECK(truncate(in_tmp("shrink/shard-00000.h5"), 300) == 0);
    CHECK_FAILS(dataset_read(d, 4, ecg, &scale), ECG_ERR_DATA, "shard-00000.h5: is truncated");
    dataset_close(d);
}

static void flipped_bytes(void) {
    char *bytes;
    size_t n, refused = 0, tried = 0;
    struct rng r;
    rng_init(&r, 11, RNG_SYNTH, 0, 0);
    CHECK_OK(shards_write(in_tmp("flip"), 20));
    CHECK_OK(file_read(in_tmp("flip/shard-00000.h5"), 1 << 24, &bytes, &n));
    while (tried < 200) {
        size_t at = rng_below(&r, n);
        char old = bytes[at];
        bytes[at] = (char)(old ^ (1 << rng_below(&r, 8)));
        CHECK_OK(file_write(in_tmp("flip/changed.h5"), bytes, n));
        refused += !read_everything(in_tmp("flip/changed.h5"));
        tried++;
        bytes[at] = old;
    }
    check_note("%zu of %zu changed files refused, none crashed", refused, tried);
    free(bytes);
}

/* ------------------------------------------------------------------ for the comparison with h5py */

static void put_text(struct json_writer *w, const char *key, const char *text) {
    json_put_key(w, key);
    json_put_string(w, text);
}

static void put_schema(struct json_writer *w, const struct dataset *d) {
    char *leads = NULL, *labels = NULL, *targets = NULL;
    if (leads_format(&d->schema.leads, &leads) == ECG_OK) put_text(w, "leads", leads);
    if (names_join(&d->schema.labels, &labels) == ECG_OK) put_text(w, "labels", labels);
    if (names_join(&d->schema.targets, &targets) == ECG_OK) put_text(w, "targets", targets);
    put_text(w, "units", d->schema.units);
    put_text(w, "preprocessing", d->schema.preprocessing);
    json_put_key(w, "sampling_rate");
    json_put_number(w, d->schema.sampling_rate);
    free(leads);
    free(labels);
    free(targets);
}

static enum ecg_status put_record(struct json_writer *w, struct dataset *d, size_t i) {
    size_t n = (size_t)d->schema.leads.n * (size_t)d->schema.length;
    int16_t ecg[4096];
    float scale, targets[16];
    uint8_t labels[16];
    char *record_id = NULL, *patient_id = NULL;
    if (n > 4096 || d->schema.labels.n > 16 || d->schema.targets.n > 16)
        return ecg_fail(ECG_ERR_DATA, "too large for this test");
    TRY(dataset_read(d, i, ecg, &scale));
    TRY(dataset_labels(d, i, labels));
    TRY(dataset_targets(d, i, targets));
    TRY(dataset_record_id(d, i, &record_id));
    enum ecg_status status = dataset_patient_id(d, i, &patient_id);
    json_begin_object(w);
    put_text(w, "record_id", record_id);
    put_text(w, "patient_id", status == ECG_OK ? patient_id : "");
    json_put_key(w, "scale");
    json_put_number(w, scale);
    json_put_key(w, "fold");
    json_put_integer(w, d->fold != NULL ? d->fold[i] : -1);
    json_put_key(w, "ecg");
    json_begin_array(w);
    for (size_t k = 0; k < n; k++) json_put_integer(w, ecg[k]);
    json_end_array(w);
    json_put_key(w, "labels");
    json_begin_array(w);
    for (int k = 0; k < d->schema.labels.n; k++) json_put_integer(w, labels[k]);
    json_end_array(w);
    json_put_key(w, "targets");
    json_begin_array(w);
    for (int k = 0; k < d->schema.targets.n; k++) json_put_number(w, targets[k]);
    json_end_array(w);
    json_end_object(w);
    free(record_id);
    free(patient_id);
    return status;
}

/* All that a data set holds as JSON on stdout; exit code as the command line's. */
static int dump(const char *path) {
    struct json_writer w = {0};
    struct dataset *d = NULL;
    char *text = NULL;
    enum ecg_status status;
    TRY_OUT(dataset_open(&d, path));
    json_begin_object(&w);
    put_schema(&w, d);
    json_put_key(&w, "records");
    json_begin_array(&w);
    for (size_t i = 0; i < d->n_records; i++) TRY_OUT(put_record(&w, d, i));
    json_end_array(&w);
    json_end_object(&w);
    TRY_OUT(json_writer_take(&w, &text));
    puts(text);
out:
    if (status != ECG_OK) fprintf(stderr, "%s\n", ecg_message());
    free(text);
    json_writer_free(&w);
    dataset_close(d);
    return ecg_exit_code(status);
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--dump") == 0) return dump(argv[2]);
    if (argc == 4 && strcmp(argv[1], "--write") == 0)
        return ecg_exit_code(shards_write(argv[2], strtoul(argv[3], NULL, 10)));
    CASE(write_and_read);
    CASE(summary);
    CASE(equal_input_gives_equal_bytes);
    CASE(writer_refuses);
    CASE(full_disk);
    CASE(unwritable_folder);
    CASE(wrong_shards);
    CASE(wrong_values);
    CASE(folders);
    CASE(truncated_shards);
    CASE(truncated_while_open);
    CASE(flipped_bytes);
    return check_finish();
}
