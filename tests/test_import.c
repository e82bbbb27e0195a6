/* SPDX-License-Identifier: MIT
 * Import end to end: recordings on disk to a data set that is read back; what is rejected and why;
 * labels joined from a CSV or a map; and that a failure leaves nothing behind. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/log.h"
#include "core/rng.h"
#include "data/h5.h"
#include "data/import.h"
#include "data/import_sources.h"
#include "data/readers/array_map.h"
#include "data/shard.h"
#include "tests/support/check.h"

/* A path in the test's folder; a few can be in use at once. */
static const char *at(const char *name) {
    static char paths[8][4096];
    static int next;
    char *p = paths[next++ % 8];
    snprintf(p, sizeof paths[0], "%s/%s", check_tmp(), name);
    return p;
}

static void put(const char *name, const void *data, size_t n) {
    FILE *f = fopen(at(name), "wb");
    if (!CHECK(f != NULL)) return;
    CHECK(fwrite(data, 1, n, f) == n);
    fclose(f);
}

static void put_text(const char *name, const char *text) {
    put(name, text, strlen(text));
}

/* Sample t of signal c of a made record. */
static int16_t value(int seed, int c, int t) {
    return (int16_t)((seed * 131 + c * 37 + t * t * 7) % 2001 - 1000);
}

/* A record of these leads ("I,II") in format 16 with all checks in its header. */
static void put_record(const char *name, int seed, const char *lead_names, double rate, int length,
                       double gain) {
    struct leads leads;
    char path[256], header[4096];
    const char *slash = strrchr(name, '/');
    int16_t *data;
    if (!CHECK_OK(leads_parse(&leads, lead_names))) return;
    data = calloc((size_t)(leads.n * length), sizeof *data);
    int n = snprintf(header, sizeof header, "x %d %g %d\n", leads.n, rate, length);
    for (int c = 0; c < leads.n; c++) {
        int32_t sum = 0;
        for (int t = 0; t < length; t++) {
            data[t * leads.n + c] = value(seed, c, t);
            sum += value(seed, c, t);
        }
        n += snprintf(header + n, sizeof header - (size_t)n, "%s.dat 16 %g/mV 16 0 %d %d 0 %s\n",
                      slash ? slash + 1 : name, gain, value(seed, c, 0), (int16_t)sum,
                      leads.name[c]);
    }
    snprintf(path, sizeof path, "%s.hea", name);
    put_text(path, header);
    snprintf(path, sizeof path, "%s.dat", name);
    put(path, data, (size_t)(leads.n * length) * sizeof *data);
    free(data);
}

static void fresh(const char *name) {
    CHECK_OK(file_remove_tree(at(name)));
}

static void fresh_dir(const char *name) {
    fresh(name);
    CHECK_OK(file_mkdirs(at(name)));
}

static char *text_of(const char *name) {
    char *text = NULL;
    size_t n;
    CHECK_OK(file_read(at(name), 1 << 20, &text, &n));
    return text;
}

static enum ecg_status run(struct import_options o, const char *source, const char *out) {
    char *sources[] = {(char *)source};
    o.sources = sources;
    o.n_sources = 1;
    o.out = out;
    o.made_by = "test_import";
    return import_run(&o);
}

static void check_id(struct dataset *d, size_t i, const char *wanted) {
    char *id = NULL;
    CHECK_OK(dataset_record_id(d, i, &id));
    CHECK_STR(id, wanted);
    free(id);
}

/* ---------------------------------------- WFDB */

static const char *const standard = "I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6";

/* Good and bad recordings in nested folders, the first one fixing rate, length and leads. */
static void put_cohort(void) {
    fresh_dir("cohort");
    CHECK_OK(file_mkdirs(at("cohort/b")));
    put_record("cohort/a1", 1, standard, 100, 50, 1000);
    put_record("cohort/b/r2", 2, "V6,V5,V4,V3,V2,V1,avf,avl,avr,DIII,DII,DI", 100, 50, 1000);
    put_record("cohort/b/r3", 3, "I,II,V1,V2,V3,V4,V5,V6,X", 100, 50, 500);
    put_record("cohort/c_rate", 4, standard, 250, 50, 1000);
    put_record("cohort/c_length", 5, standard, 100, 60, 1000);
    put_record("cohort/c_lead", 6, "I,II,V1,V2,V4,V5,V6", 100, 50, 1000);
    put_record("cohort/c_cut", 7, standard, 100, 50, 1000);
    CHECK(truncate(at("cohort/c_cut.dat"), 100) == 0);
    put_text("cohort/c_flat.hea", "f 1 100 50\nc_flat.dat 80 100/mV\n");
    put("cohort/c_flat.dat", "11111111111111111111111111111111111111111111111111", 50);
    put_text("cohort/c_none.hea", "");
}

static void import_folder(void) {
    put_cohort();
    fresh("out");
    if (!CHECK_OK(run((struct import_options){0}, at("cohort"), at("out")))) return;
    struct dataset *d;
    if (!CHECK_OK(dataset_open(&d, at("out")))) return;
    const struct shard_schema *s = &d->schema;
    CHECK(d->n_records == 3 && s->length == 50 && s->sampling_rate == 100 && s->leads.n == 12);
    CHECK(memcmp(&s->leads, &leads_standard12, sizeof s->leads) == 0);
    CHECK_STR(s->preprocessing, "none");
    CHECK_STR(s->units, "mV");
    check_id(d, 0, "a1");
    check_id(d, 1, "b/r2");
    check_id(d, 2, "b/r3");
    int16_t ecg[600];
    float scale;
    CHECK_OK(dataset_read(d, 0, ecg, &scale)); /* the source's own integers */
    CHECK(scale == 0.001f);
    for (int c = 0; c < 12; c++)
        for (int t = 0; t < 50; t++) CHECK(ecg[c * 50 + t] == value(1, c, t));
    CHECK_OK(dataset_read(d, 1, ecg, &scale)); /* by name, not by position */
    for (int c = 0; c < 12; c++)
        for (int t = 0; t < 50; t++) CHECK(ecg[c * 50 + t] == value(2, 11 - c, t));
    CHECK_OK(dataset_read(d, 2, ecg, &scale)); /* aVF derived */
    double worst = 0;
    for (int t = 0; t < 50; t++)
        worst = fmax(worst, fabs(ecg[5 * 50 + t] * (double)scale -
                                 (value(3, 1, t) - value(3, 0, t) / 2.0) / 500));
    CHECK_NEAR(worst, 0, 4 * 1.6e-5);
    dataset_close(d);
    char *text = text_of("out/rejected.csv");
    const char *wanted[] = {"record_id,reason\n",
                            "\nc_cut,c_cut.dat: truncated",
                            "\nc_flat,",
                            "\nc_lead,",
                            "lead V3 is not",
                            "\nc_length,",
                            "needs --length: 60 samples",
                            "\nc_none,",
                            "empty header",
                            "\nc_rate,",
                            "needs --rate: 250 Hz"};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (!CHECK(text && strstr(text, wanted[i])))
            printf("    \"%s\" is not in:\n%s", wanted[i], text);
    free(text);
}

/* The same data set, record by record, whatever the number of threads. */
static void threads_do_not_matter(void) {
    fresh_dir("many");
    char name[64];
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "many/r%03d", i);
        put_record(name, i, "I,II", i % 7 == 3 ? 250 : 500, 300, 1000);
    }
    struct dataset *d[2];
    const int jobs[] = {1, 3};
    const char *out[] = {"out1", "out3"};
    for (int i = 0; i < 2; i++) {
        fresh(out[i]);
        struct import_options o = {.jobs = jobs[i], .prep = {.preset = PREP_OFFICIAL}};
        if (!CHECK_OK(run(o, at("many"), at(out[i])))) return;
        if (!CHECK_OK(dataset_open(&d[i], at(out[i])))) return;
    }
    CHECK(d[0]->n_records == 300 - 43 && d[1]->n_records == d[0]->n_records);
    CHECK_STR(d[0]->schema.preprocessing, "official");
    for (size_t i = 0; i < d[0]->n_records; i++) {
        int16_t a[600], b[600];
        float sa, sb;
        char *ia, *ib;
        CHECK_OK(dataset_read(d[0], i, a, &sa));
        CHECK_OK(dataset_read(d[1], i, b, &sb));
        CHECK(memcmp(a, b, sizeof a) == 0 && sa == sb);
        CHECK_OK(dataset_record_id(d[0], i, &ia));
        CHECK_OK(dataset_record_id(d[1], i, &ib));
        CHECK_STR(ia, ib);
        free(ia);
        free(ib);
    }
    char *ra = text_of("out1/rejected.csv"), *rb = text_of("out3/rejected.csv");
    CHECK_STR(ra, rb);
    free(ra);
    free(rb);
    dataset_close(d[0]);
    dataset_close(d[1]);
}

static void rates_lengths_windows(void) {
    put_cohort();
    fresh("out");
    struct import_options o = {
        .prep = {.rate = 200, .length = PREP_LENGTH_WINDOWS, .seconds = 0.2}};
    CHECK_OK(leads_parse(&o.prep.leads, "V1,II"));
    if (!CHECK_OK(run(o, at("cohort"), at("out")))) return;
    struct dataset *d;
    if (!CHECK_OK(dataset_open(&d, at("out")))) return;
    /* 100 samples: 3 windows of 40 each for three records; 40 samples; 120 samples */
    CHECK(d->n_records == 3 * 3 + 3 + 3 + 1 && d->schema.length == 40 &&
          d->schema.sampling_rate == 200);
    CHECK(d->schema.leads.n == 2 && leads_find(&d->schema.leads, "V1") == 0);
    check_id(d, 0, "a1/0");
    check_id(d, 2, "a1/2");
    check_id(d, 3, "b/r2/0");
    CHECK(d->patient_hash[0] == d->patient_hash[2] && d->patient_hash[2] != d->patient_hash[3]);
    int16_t ecg[80];
    float scale;
    CHECK_OK(dataset_read(d, 2, ecg, &scale));
    CHECK(ecg[20] == 0 && ecg[39] == 0 && ecg[79] == 0); /* zeros behind the end */
    dataset_close(d);

    fresh("out");
    o.prep.length = PREP_LENGTH_CROP;
    o.prep.seconds = 1;
    CHECK_OK(run(o, at("cohort"), at("out")));
    if (!CHECK_OK(dataset_open(&d, at("out")))) return;
    CHECK(d->n_records == 6 && d->schema.length == 200);
    dataset_close(d);
}

static void nothing_left(void) {
    fresh_dir("bad");
    put_text("bad/a.hea", "");
    put_text("bad/b.hea", "x 1 100 4\nnone.dat 16\n");
    fresh("out");
    CHECK_FAILS(run((struct import_options){0}, at("bad"), at("out")), ECG_ERR_DATA,
                "none of the 2 records");
    CHECK(!file_exists(at("out")));
    put_cohort();
    struct import_options o = {.prep = {.preset = PREP_OFFICIAL, .rate = 500}};
    CHECK_OK(leads_parse(&o.prep.leads, "V9"));
    CHECK_FAILS(run(o, at("cohort"), at("out")), ECG_ERR_DATA, "lead V9 is not there");
    CHECK(!file_exists(at("out")));
    fresh_dir("out");
    put_text("out/mine.txt", "keep");
    CHECK_FAILS(run((struct import_options){0}, at("cohort"), at("out")), ECG_ERR_CREATE,
                "in the way");
    char *text = text_of("out/mine.txt");
    CHECK_STR(text, "keep");
    free(text);
    CHECK_FAILS(run((struct import_options){.prep = {.rate = -5}}, at("cohort"), at("new")),
                ECG_ERR_CONFIG, "rate -5");
    CHECK_FAILS(run((struct import_options){0}, at("nowhere"), at("new")), ECG_ERR_NOINPUT,
                "nowhere");
    fresh_dir("empty");
    CHECK_FAILS(run((struct import_options){0}, at("empty"), at("new")), ECG_ERR_NOINPUT,
                "no WFDB record");
    put_text("file", "");
    CHECK_FAILS(run((struct import_options){0}, at("cohort"), at("file/new")), ECG_ERR_CREATE,
                "file: can't create the folder");
    CHECK(!file_exists(at("new")));
}

static void sources(void) {
    put_cohort();
    put_text("RECORDS", "# two ways\n\ncohort/a1\n./cohort/b/r2.hea\r\ncohort/b\nmissing\n");
    char *given[] = {(char *)at("RECORDS"), (char *)at("cohort/a1"), (char *)at("cohort/a1.hea"),
                     (char *)at("cohort/b/")};
    struct source_list l;
    if (!CHECK_OK(source_list_find(&l, given, 4))) return;
    const char *wanted[] = {"cohort/a1", "cohort/b/r2", "cohort/b/r2", "cohort/b/r3", "missing",
                            "a1",        "a1",          "r2",          "r3"};
    CHECK(l.n == 9);
    for (size_t i = 0; i < l.n && i < 9; i++) CHECK_STR(l.ids[i], wanted[i]);
    source_list_free(&l);
    put("binary", "\0\1\2", 3);
    given[0] = (char *)at("binary");
    CHECK_FAILS(source_list_find(&l, given, 1), ECG_ERR_DATA, "neither");
    given[0] = (char *)at("none.hea");
    CHECK_FAILS(source_list_find(&l, given, 1), ECG_ERR_NOINPUT, "none.hea");
    fresh("out");
    CHECK_OK(run((struct import_options){0}, at("RECORDS"), at("out")));
    char *text = text_of("out/rejected.csv");
    CHECK(text && strstr(text, "cohort/b/r2,") && strstr(text, "missing,"));
    free(text);
}

/* ---------------------------------------- labels from a CSV */

static enum ecg_status labelled(const char *csv, const char *id, const char *label,
                                const char *target) {
    put_text("labels.csv", csv);
    fresh("out");
    char *labels[] = {(char *)label}, *targets[] = {(char *)target};
    struct import_options o = {.table = {.path = at("labels.csv"),
                                         .id_column = id,
                                         .label_columns = labels,
                                         .n_labels = label != NULL,
                                         .target_columns = targets,
                                         .n_targets = target != NULL,
                                         .patient_column = "who",
                                         .fold_column = "fold"}};
    return run(o, at("cohort"), at("out"));
}

static void label_table(void) {
    put_cohort();
    /* a1 by its whole id, r2 by its last component, r3 without a row, r9 without a record */
    const char *csv =
        "name,AF,age,who,fold,note\na1,1,41.5,15709.0,3,\"a, b\"\nx/r2,False,,p2,,\nr9,,7,,1,\n";
    if (!CHECK_OK(labelled(csv, "name", "AF", "age"))) return;
    struct dataset *d;
    if (!CHECK_OK(dataset_open(&d, at("out")))) return;
    const uint8_t wanted[] = {1, 0, SHARD_LABEL_UNKNOWN};
    const char *patients[] = {"15709", "p2", "b/r3"};
    for (size_t i = 0; i < 3 && CHECK(d->n_records == 3); i++) {
        uint8_t label;
        float target;
        char *patient;
        CHECK_OK(dataset_labels(d, i, &label));
        CHECK_OK(dataset_targets(d, i, &target));
        CHECK_OK(dataset_patient_id(d, i, &patient));
        CHECK(label == wanted[i] && (i == 0 ? target == 41.5f : isnan(target)));
        CHECK_STR(patient, patients[i]);
        free(patient);
    }
    CHECK(d->fold && d->fold[0] == 3 && d->fold[1] == -1);
    CHECK_STR(d->schema.labels.v[0], "AF");
    CHECK_STR(d->schema.targets.v[0], "age");
    dataset_close(d);
    /* the id column is the first by default */
    CHECK_OK(labelled(csv, NULL, "AF", NULL));

    CHECK_FAILS(labelled(csv, "name", "AFF", NULL), ECG_ERR_CONFIG,
                "no column AFF; did you mean AF?");
    CHECK_FAILS(labelled(csv, "id", "AF", NULL), ECG_ERR_CONFIG, "no column id");
    CHECK_FAILS(labelled(csv, "name", "age", NULL), ECG_ERR_DATA,
                "labels.csv:2: column age holds \"41.5\"");
    CHECK_FAILS(labelled(csv, "name", "AF", "note"), ECG_ERR_DATA,
                "column note holds \"a, b\": a number");
    CHECK_FAILS(labelled("name,AF,who,fold\na1,,p,1\n", "name", "AF", NULL), ECG_ERR_DATA,
                "label AF is unknown for every");
    CHECK_FAILS(labelled("name,AF,who,fold\nz,1,p,1\n", "name", "AF", NULL), ECG_ERR_DATA,
                "no record's id stands in");
    CHECK_FAILS(labelled("name,AF,who,fold\na1,1,p,1\nb,1,,\na1,0,p,1\n", "name", "AF", NULL),
                ECG_ERR_DATA, "labels.csv:4: the id \"a1\" stands in line 2");
    CHECK_FAILS(labelled("name,AF,who,fold\na1,1,p,one\n", "name", "AF", NULL), ECG_ERR_DATA,
                "column fold");
    CHECK_FAILS(labelled("name,AF,who,fold\na1,1\n", "name", "AF", NULL), ECG_ERR_DATA,
                "labels.csv:2");
    CHECK(!file_exists(at("out")));
    put_text("labels.csv", csv);
    struct import_options o = {.table = {.path = at("no.csv")}};
    CHECK_FAILS(run(o, at("cohort"), at("out")), ECG_ERR_NOINPUT, "no.csv");
}

/* ---------------------------------------- HDF5 arrays */

enum { N = 5, L = 30, C = 2 };

/* stored values: record n, lead c, sample t */
static int stored(int n, int c, int t) {
    return (n * 71 + c * 13 + t * t) % 401 - 200;
}

static void put_arrays(void) {
    struct h5_file *f;
    int16_t ecg[N * L * C];
    float mv[N * C * L], age[N] = {41, 300, 25, NAN, 17}, rate = 100;
    uint8_t labels[N * 2] = {1, 0, 0, 1, 255, 0, 1, 1, 0, 0}, sex[N] = {0, 1, 1, 0, 1};
    char *ids[N] = {"e1", "e2", "e3", "e4", "e2"};
    for (int n = 0; n < N; n++)
        for (int c = 0; c < C; c++)
            for (int t = 0; t < L; t++) {
                ecg[(n * L + t) * C + c] = (int16_t)stored(n, c, t);
                mv[(n * C + c) * L + t] = (float)stored(n, c, t) / 7;
            }
    mv[3] = NAN;
    for (int i = 0; i < C * L; i++) mv[2 * C * L + i] = 1;
    fresh("arrays.h5");
    if (!CHECK_OK(h5_create(&f, at("arrays.h5")))) return;
    CHECK_OK(h5_put_i16(f, "tracings", 3, (uint64_t[]){N, L, C}, ecg));
    CHECK_OK(h5_put_f32(f, "mv", 3, (uint64_t[]){N, C, L}, mv));
    CHECK_OK(h5_put_f32(f, "age", 1, (uint64_t[]){N}, age));
    CHECK_OK(h5_put_f32(f, "rate", 1, (uint64_t[]){1}, &rate));
    CHECK_OK(h5_put_f32(f, "short", 1, (uint64_t[]){N - 1}, age));
    CHECK_OK(h5_put_u8(f, "classes", 2, (uint64_t[]){N, 2}, labels));
    CHECK_OK(h5_put_u8(f, "sex", 1, (uint64_t[]){N}, sex));
    CHECK_OK(h5_put_strings(f, "ids", N, ids));
    CHECK_OK(h5_put_attr_number(f, "tracings", "hz", 250));
    CHECK_OK(h5_close(f));
}

static enum ecg_status mapped(const char *map) {
    put_text("map.yaml", map);
    fresh("out");
    return run((struct import_options){.format = IMPORT_HDF5, .map = at("map.yaml")},
               at("arrays.h5"), at("out"));
}

#define MAP "signal: tracings\nleads: [I, V1]\n"

static void integer_arrays(void) {
    put_arrays();
    if (!CHECK_OK(mapped(MAP
                         "layout: NLC\nsampling_rate: hz\nscale: 0.001\nunits: none\n"
                         "labels: {classes: [NORM, MI], sex: [female]}\npatient_id: sex\n"
                         "targets: {age: {dataset: age, unknown: [300]}, sex: sex}\nfold: sex\n")))
        return;
    struct dataset *d;
    if (!CHECK_OK(dataset_open(&d, at("out")))) return;
    CHECK(d->n_records == N && d->schema.length == L && d->schema.sampling_rate == 250);
    CHECK_STR(d->schema.units, "none");
    CHECK_STR(d->schema.labels.v[2], "female");
    const float ages[] = {41, NAN, 25, NAN, 17};
    for (int n = 0; n < N && d->n_records == N; n++) {
        int16_t ecg[C * L];
        float scale, target[2];
        uint8_t label[3];
        CHECK_OK(dataset_read(d, (size_t)n, ecg, &scale));
        for (int c = 0; c < C; c++)
            for (int t = 0; t < L; t++) CHECK(ecg[c * L + t] == stored(n, c, t));
        CHECK(scale == 0.001f);
        CHECK_OK(dataset_labels(d, (size_t)n, label));
        CHECK_OK(dataset_targets(d, (size_t)n, target));
        CHECK(label[2] == (uint8_t)target[1] && d->fold[n] == label[2]);
        CHECK(isnan(ages[n]) ? isnan(target[0]) : target[0] == ages[n]);
        if (n == 2) CHECK(label[0] == SHARD_LABEL_UNKNOWN && label[1] == 0);
    }
    check_id(d, 3, "3"); /* rows are numbered when there is no id */
    dataset_close(d);
}

static void float_arrays(void) {
    put_arrays();
    if (!CHECK_OK(mapped(
            "signal: mv\nlayout: NCL\nleads: [I, V1]\nsampling_rate: rate\nunits: uV\nscale: 2\nrecord_id: ids\n")))
        return;
    struct dataset *d;
    if (!CHECK_OK(dataset_open(&d, at("out")))) return;
    CHECK(d->n_records == 3 && d->schema.sampling_rate == 100 && d->schema.labels.n == 0);
    int16_t ecg[C * L];
    float scale;
    CHECK_OK(dataset_read(d, 1, ecg, &scale));
    double worst = 0;
    for (int c = 0; c < C; c++)
        for (int t = 0; t < L; t++)
            worst = fmax(worst,
                         fabs(ecg[c * L + t] * (double)scale - stored(1, c, t) / 7.0 * 2 / 1000));
    CHECK_NEAR(worst, 0, 1.6e-5 * 200 / 7.0 * 2 / 1000);
    CHECK_OK(dataset_read(d, 0, ecg, &scale));
    CHECK(ecg[3] == 0 && ecg[4] != 0); /* NaN became 0 */
    dataset_close(d);
    char *text = text_of("out/rejected.csv");
    CHECK(text && strstr(text, "\ne3,flat") && strstr(text, "\ne2,"));
    free(text);
}

static void bad_maps(void) {
    put_arrays();
    const struct {
        const char *map;
        enum ecg_status status;
        const char *text;
    } cases[] = {
        {"signl: tracings\n", ECG_ERR_CONFIG,
         "map.yaml:1: unknown key signl; did you mean signal?"},
        {"signal: tracings\n", ECG_ERR_CONFIG, "key sampling_rate is missing"},
        {"- signal\n", ECG_ERR_CONFIG, "a map of keys"},
        {"signal: [a]\n", ECG_ERR_CONFIG, "map.yaml:1: signal: a name wanted"},
        {MAP "sampling_rate: 100\nlayout: LCN\n", ECG_ERR_CONFIG, "layout: NLC or NCL"},
        {MAP "sampling_rate: 0\n", ECG_ERR_CONFIG, "above 0 Hz"},
        {MAP "sampling_rate: hertz\n", ECG_ERR_CONFIG, "no dataset or attribute hertz"},
        {MAP "sampling_rate: 100\nscale: x\n", ECG_ERR_CONFIG, "scale: a number"},
        {MAP "sampling_rate: 100\nunits: mmHg\n", ECG_ERR_CONFIG, "units: mV, uV, V or none"},
        {MAP "sampling_rate: 100\nfold: folds\n", ECG_ERR_CONFIG, "no dataset folds"},
        {MAP "sampling_rate: 100\ntargets: {a: {datset: age}}\n", ECG_ERR_CONFIG,
         "unknown key datset; did you mean dataset?"},
        {MAP "sampling_rate: 100\ntargets: {a: short}\n", ECG_ERR_DATA,
         "short has 4 rows, the signal has 5"},
        {MAP "sampling_rate: 100\nlabels: {classes: [a]}\n", ECG_ERR_CONFIG,
         "classes has 2 columns, the map names 1"},
        {MAP "sampling_rate: 100\nlabels: {age: [a]}\n", ECG_ERR_DATA,
         "label a (age), row 0: 41 is not 0, 1"},
        {MAP "sampling_rate: 100\nlabels: {sex: [a], classes: [a, b]}\n", ECG_ERR_CONFIG,
         "column a stands twice"},
        {MAP "sampling_rate: 100\nrecord_id: age\n", ECG_ERR_DATA, "age, row 3"},
        {"signal: tracings\nsampling_rate: 100\nleads: [I]\n", ECG_ERR_CONFIG,
         "2 channels in layout NLC, the map names 1"},
        {"signal: tracings\nsampling_rate: 100\nleads: [I, DI]\n", ECG_ERR_CONFIG,
         "lead DI stands twice"},
        {"signal: nothing\nsampling_rate: 100\nleads: [I]\n", ECG_ERR_CONFIG, "no dataset nothing"},
        {"signal: ids\nsampling_rate: 100\nleads: [I]\n", ECG_ERR_DATA, "ids holds no numbers"},
        {"signal: age\nsampling_rate: 100\nleads: [I]\n", ECG_ERR_DATA, "1 axes, 3 wanted"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_FAILS(mapped(cases[i].map), cases[i].status, cases[i].text);
    CHECK(!file_exists(at("out")));
    put_text("arrays.h5", "no HDF5 at all");
    CHECK_FAILS(mapped(MAP "sampling_rate: 100\n"), ECG_ERR_DATA, "arrays.h5");
    struct import_options o = {.format = IMPORT_HDF5};
    CHECK_FAILS(run(o, at("arrays.h5"), at("out")), ECG_ERR_USAGE, "--map");
}

/* Damaged maps end in a message. */
static void hostile_maps(void) {
    static const char map[] =
        "signal: tracings\nlayout: NLC\nsampling_rate: 100\nscale: 0.001\nunits: none\n"
        "leads: [I, II]\nlabels: {superclass: [NORM, MI]}\n"
        "targets: {age: {dataset: age, unknown: [300]}, sex: sex}\n";
    struct rng g;
    rng_init(&g, 5, RNG_SYNTH, 0, 0);
    int n_read = 0;
    for (int round = 0; round < 1000; round++) {
        char text[sizeof map];
        memcpy(text, map, sizeof map);
        size_t n = rng_below(&g, 5) == 0 ? (size_t)rng_below(&g, sizeof map) : sizeof map - 1;
        for (uint64_t flips = rng_below(&g, 3); flips > 0; flips--)
            text[rng_below(&g, sizeof map - 1)] ^= (char)(1 << rng_below(&g, 8));
        put("hostile.yaml", text, n);
        struct array_map m;
        enum ecg_status status = array_map_read(&m, at("hostile.yaml"));
        CHECK(status == ECG_OK ||
              ((status == ECG_ERR_CONFIG || status == ECG_ERR_DATA) && ecg_message()[0]));
        n_read += status == ECG_OK;
        array_map_free(&m);
    }
    check_note("%d of 1000 damaged maps were still readable", n_read);
}

/* ---------------------------------------- single records and real data */

static void one_record(void) {
    put_cohort();
    struct record r;
    struct prep p = {
        .rate = 50, .length = PREP_LENGTH_CROP, .seconds = 2, .leads = {2, {"V6", "I"}}};
    if (!CHECK_OK(import_read_record(at("cohort/b/r2"), &p, &r))) return;
    CHECK(r.length == 100 && r.sampling_rate == 50 && r.leads.n == 2 &&
          strstr(r.id, "cohort/b/r2"));
    record_free(&r);
    CHECK_FAILS(import_read_record(at("cohort/c_flat"), &(struct prep){0}, &r), ECG_ERR_DATA,
                "c_flat: flat");
    CHECK_FAILS(import_read_record(at("cohort/zz"), &p, &r), ECG_ERR_NOINPUT, "zz");
}

static void public_arrays(void) {
    if (!check_shared()) {
        check_skip("no shared recordings here");
        return;
    }
    char path[4096];
    snprintf(path, sizeof path, "%s/ecg/ptbxl_1625_100hz.h5", check_shared());
    put_text("map.yaml",
             "signal: tracings\nlayout: NLC\nsampling_rate: 100\nscale: 0.001\nunits: none\n"
             "leads: [I, II, III, aVR, aVL, aVF, V1, V2, V3, V4, V5, V6]\nrecord_id: ecg_id\n"
             "labels: {superclass: [NORM, MI, STTC, CD, HYP]}\npatient_id: patient_id\n"
             "targets: {age: {dataset: age, unknown: [300]}, sex: sex}\nfold: strat_fold\n");
    fresh("out");
    double start = log_clock();
    if (!CHECK_OK(run((struct import_options){.format = IMPORT_HDF5, .map = at("map.yaml")}, path,
                      at("out"))))
        return;
    double seconds = log_clock() - start;
    struct dataset *d;
    struct h5_file *f;
    if (!CHECK_OK(dataset_open(&d, at("out"))) || !CHECK_OK(h5_open(&f, path))) return;
    CHECK(d->n_records == 1625);
    int16_t stored_row[12000], ecg[12000];
    size_t n_different = 0;
    for (size_t i = 0; i < d->n_records; i++) {
        float scale;
        CHECK_OK(h5_read_i16(f, "tracings", i, 1, stored_row));
        CHECK_OK(dataset_read(d, i, ecg, &scale));
        for (int j = 0; j < 12000; j++) n_different += stored_row[j] != ecg[j % 12 * 1000 + j / 12];
        n_different += scale != 0.001f;
    }
    CHECK(n_different == 0);
    check_note("1625 records, integers unchanged, %.0f records/s", 1625 / seconds);
    CHECK_OK(h5_close(f));
    dataset_close(d);
}

static void public_records(void) {
    if (!check_shared()) {
        check_skip("no shared recordings here");
        return;
    }
    char path[4096], csv[4096];
    snprintf(path, sizeof path, "%s/ecg/ptbxl/records500", check_shared());
    snprintf(csv, sizeof csv, "%s/ecg/ptbxl/ptbxl_database.csv", check_shared());
    char *targets[] = {"age", "sex"};
    struct import_options o = {.table = {.path = csv,
                                         .id_column = "filename_hr",
                                         .target_columns = targets,
                                         .n_targets = 2,
                                         .patient_column = "patient_id",
                                         .fold_column = "strat_fold"}};
    fresh("out");
    if (!CHECK_OK(run(o, path, at("out")))) return;
    struct dataset *d;
    if (!CHECK_OK(dataset_open(&d, at("out")))) return;
    CHECK(d->n_records == 22 && d->schema.length == 5000);
    check_id(d, 0, "00000/00001_hr");
    float target[2];
    char *patient;
    CHECK_OK(dataset_targets(d, 0, target));
    CHECK_OK(dataset_patient_id(d, 0, &patient));
    CHECK(target[0] == 56 && target[1] == 1 && d->fold[0] == 3);
    CHECK_STR(patient, "15709");
    free(patient);
    dataset_close(d);
    /* a flat record, another rate and lengths: only what fits the first is taken */
    snprintf(path, sizeof path, "%s/ecg/code15", check_shared());
    fresh("out");
    o = (struct import_options){.prep = {.rate = 500, .length = PREP_LENGTH_CROP, .seconds = 10}};
    if (!CHECK_OK(run(o, path, at("out")))) return;
    if (!CHECK_OK(dataset_open(&d, at("out")))) return;
    CHECK(d->n_records == 9);
    dataset_close(d);
    char *text = text_of("out/rejected.csv");
    CHECK(text && strstr(text, "\n9190_all_data_is_zero,flat") &&
          strstr(text, "\n9190_low_sample_rate,data file missing"));
    free(text);
}

int main(void) {
    log_set_level(LOG_ERROR - 1);
    CASE(import_folder);
    CASE(threads_do_not_matter);
    CASE(rates_lengths_windows);
    CASE(nothing_left);
    CASE(sources);
    CASE(label_table);
    CASE(integer_arrays);
    CASE(float_arrays);
    CASE(bad_maps);
    CASE(hostile_maps);
    CASE(one_record);
    CASE(public_arrays);
    CASE(public_records);
    return check_finish();
}
