/* SPDX-License-Identifier: MIT
 * Label maps: reading good and bad ones, the codes of records as data sets write them, imports whose labels come from codes
 * in a CSV, in WFDB headers and in HDF5, the join of columns to outputs against its definition, and columns derived from
 * others. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/rng.h"
#include "data/column_rule.h"
#include "data/h5.h"
#include "data/import.h"
#include "data/label_map.h"
#include "data/readers/codes.h"
#include "data/shard.h"
#include "tests/support/check.h"

#define U SHARD_LABEL_UNKNOWN

/* A path in the test's folder; 64 can be in use at once. */
static const char *at(const char *name) {
    static char paths[64][512];
    static int next;
    char *p = paths[next++ % 64];
    snprintf(p, sizeof paths[0], "%s/%s", check_tmp(), name);
    return p;
}

static void put(const char *name, const void *data, size_t n) {
    FILE *f = fopen(at(name), "wb");
    if (!CHECK(f != NULL)) return;
    CHECK(fwrite(data, 1, n, f) == n);
    fclose(f);
}

static const char *put_text(const char *name, const char *text) {
    put(name, text, strlen(text));
    return at(name);
}

/* ---------------------------------------- the map itself */

static void good_maps(void) {
    struct label_map m;
    if (!CHECK_OK(label_map_read(
            &m, put_text("m.csv", "note,code,label\r\nx,\"PRC(S)\",ectopy\n,SR, sinus \n"
                                  ",PVC,ectopy\n,SR,\"a, b\"\n,I21*,mi\n"))))
        return;
    CHECK(m.n == 5 && m.labels.n == 4);
    CHECK_STR(m.labels.v[0], "ectopy");
    CHECK_STR(m.labels.v[1], "sinus");
    CHECK_STR(m.labels.v[2], "a, b");
    CHECK_STR(m.rows[0].code, "PRC(S)");
    CHECK(m.rows[0].label == m.rows[2].label && m.rows[2].line == 4 && !m.rows[0].present);
    const struct label_map_row *mi = &m.rows[4], *sr = &m.rows[1];
    CHECK(mi->is_prefix && label_map_matches(mi, "I21") && label_map_matches(mi, "I21.4"));
    CHECK(label_map_matches(mi, "I2.14") && label_map_matches(mi, "I214"));
    CHECK(!label_map_matches(mi, "I2") && !label_map_matches(mi, "i21") &&
          !label_map_matches(mi, "XI21"));
    CHECK(label_map_matches(sr, "SR") && !label_map_matches(sr, "SRX") &&
          !label_map_matches(sr, "S") && !label_map_matches(sr, ""));
    uint8_t y[4] = {0};
    CHECK(label_map_add(&m, "SR", true, y) && y[1] == U && y[2] == U && y[0] == 0);
    CHECK(label_map_add(&m, "SR", false, y) && y[1] == 1 && y[2] == 1);
    CHECK(label_map_add(&m, "SR", true, y) && y[1] == 1);
    CHECK(!label_map_add(&m, "ZZ", false, y) && y[0] == 0 && y[3] == 0);
    label_map_free(&m);
    label_map_free(&m);
    /* what an unstated code means */
    CHECK_OK(
        label_map_read(&m, put_text("m.csv", "code,label,unstated\nSR,sr,present\nMI,mi,unknown\n"
                                             "LVH,lvh,\n")));
    uint8_t z[3] = {0};
    label_map_add(&m, "SR", true, z);
    label_map_add(&m, "MI", true, z);
    label_map_add(&m, "LVH", true, z);
    CHECK(z[0] == 1 && z[1] == U && z[2] == U);
    label_map_free(&m);
}

static void bad_maps(void) {
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"", "m.csv"},
        {"SR,sinus\nAF,af\n", "m.csv:1: no column code: a label map begins with the header"},
        {"code,name\nSR,sinus\n", "m.csv:1: no column label"},
        {"code,label\n", "m.csv: no row"},
        {"code,label\nSR,sinus\nAF,\n", "m.csv:3: no label"},
        {"code,label\n  ,af\n", "m.csv:2: no code"},
        {"code,label\nSR,sinus\nAF,af\nSR,sinus\n",
         "m.csv:4: SR with label sinus stands in line 2"},
        {"code,label\nI2*1,mi\n", "m.csv:2: I2*1: a * may only end a code"},
        {"code,label\n*,mi\n", "m.csv:2: *: a * may only end a code"},
        {"code,label\nSR\n", "m.csv:2"},
        {"code,label\nS\tR,sinus\n", "m.csv:2: the code holds bytes that are no text"},
        {"code,label\nSR,si\xffnus\n", "m.csv:2: the label holds bytes that are no text"},
        {"code,label\nSR,\xc0\xaf\n", "m.csv:2: the label holds bytes that are no text"},
        {"code,label\nSR,\xed\xa0\x80\n", "m.csv:2: the label holds bytes that are no text"},
        {"code,label\nSR,\"two\nlines\"\n", "m.csv:2: the label holds bytes that are no text"},
        {"code,label,unstated\nSR,sinus,maybe\n", "m.csv:2: unstated holds \"maybe\""},
        {"code,label\nSR,\"sinus\n", "m.csv:2"},
    };
    struct label_map m;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_FAILS(label_map_read(&m, put_text("m.csv", bad[i].text)), ECG_ERR_DATA,
                    bad[i].message);
    put("m.csv", "code,label\nS\0R,sinus\n", 21);
    CHECK_FAILS(label_map_read(&m, at("m.csv")), ECG_ERR_DATA, "m.csv:2");
    char line[400];
    snprintf(line, sizeof line, "code,label\nSR,%0250d\n", 1);
    CHECK_FAILS(label_map_read(&m, put_text("m.csv", line)), ECG_ERR_DATA, "m.csv:2: a label of");
    CHECK_FAILS(label_map_read(&m, at("none.csv")), ECG_ERR_NOINPUT, "none.csv");
    CHECK_OK(
        label_map_read(&m, put_text("m.csv", "code,label\nSR,Sinus f\xc3\xbcnf \xe2\x82\xac\n")));
    label_map_free(&m);
}

static void hostile_maps(void) {
    static const char text[] =
        "code,label,unstated\nSR,sinus,present\n\"PRC(S)\",ectopy,\nI21*,mi,unknown\n";
    struct rng g;
    rng_init(&g, 5, RNG_SYNTH, 0, 0);
    int n_read = 0;
    for (int round = 0; round < 2000; round++) {
        char copy[sizeof text];
        memcpy(copy, text, sizeof text);
        size_t n = rng_below(&g, 5) == 0 ? (size_t)rng_below(&g, sizeof text) : sizeof text - 1;
        for (uint64_t flips = rng_below(&g, 4); flips > 0; flips--)
            copy[rng_below(&g, sizeof text - 1)] ^= (char)(1 << rng_below(&g, 8));
        put("hostile.csv", copy, n);
        struct label_map m;
        enum ecg_status status = label_map_read(&m, at("hostile.csv"));
        CHECK(status == ECG_OK || (status == ECG_ERR_DATA && ecg_message()[0]));
        n_read += status == ECG_OK;
        label_map_free(&m);
    }
    CHECK(n_read > 200 && n_read < 1900);
    check_note("%d of 2000 damaged maps were still readable", n_read);
}

/* ---------------------------------------- codes of a record */

/* "A B? " for codes A and unstated B; "!" unknown. */
static const char *listed(const char *text) {
    static char out[512];
    struct codes c;
    *out = '\0';
    if (!CHECK_OK(codes_parse(&c, text))) return out;
    if (!c.known) strcpy(out, "!");
    for (size_t i = 0; i < c.n; i++) {
        size_t n = strlen(out);
        snprintf(out + n, sizeof out - n, "%s%s ", c.v[i].text, c.v[i].is_unstated ? "?" : "");
    }
    codes_free(&c);
    return out;
}

static void record_codes(void) {
    CHECK_STR(listed("{'NORM': 100.0, 'LVOLT': 0.0, 'SR': 0.0}"), "NORM LVOLT? SR? ");
    CHECK_STR(listed(" { \"LAO/LAE\" : 1e2 , 'PRC(S)':0 , } "), "LAO/LAE PRC(S)? ");
    CHECK_STR(listed("{}"), "");
    CHECK_STR(listed("[]"), "");
    CHECK_STR(listed("['I21.4', \"N18.3\", 585]"), "I21.4 N18.3 585 ");
    CHECK_STR(listed("426783006,164889003"), "426783006 164889003 ");
    CHECK_STR(listed("I21.4; N18.3 ;;E11"), "I21.4 N18.3 E11 ");
    CHECK_STR(listed("I21.4|N18.3|"), "I21.4 N18.3 ");
    CHECK_STR(listed("Normal"), "Normal ");
    CHECK_STR(listed(""), "!");
    CHECK_STR(listed("  "), "!");
    CHECK_STR(listed("nan"), "!");
    CHECK_STR(listed("Unknown "), "!");
    static const char *const bad[] = {
        "{",          "{'A'",       "{'A': ",       "{'A': 1",   "{'A': x}", "{'A': -1}",
        "{'A': 1]}",  "{'A': 1} x", "['A'",         "['A' 'B']", "['A",      "{'A': 1 'B': 2}",
        "{'A': inf}", "{'A': nan}", "{'a\\'b': 1}", "['A']]",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct codes c;
        CHECK_FAILS(codes_parse(&c, bad[i]), ECG_ERR_DATA, "");
        codes_free(&c);
    }
    static const char text[] = "{'NORM': 100.0, 'LVOLT': 0.0, \"SR\": 0.0}";
    struct rng g;
    rng_init(&g, 6, RNG_SYNTH, 0, 0);
    for (int round = 0; round < 5000; round++) {
        char copy[sizeof text];
        memcpy(copy, text, sizeof text);
        for (uint64_t flips = rng_below(&g, 5); flips > 0; flips--)
            copy[rng_below(&g, sizeof text - 1)] ^= (char)(1 << rng_below(&g, 7));
        struct codes c;
        enum ecg_status status = codes_parse(&c, copy);
        CHECK(status == ECG_OK || status == ECG_ERR_DATA);
        codes_free(&c);
    }
}

/* ---------------------------------------- imports */

/* A record of two leads; `comments` end its header. */
static void put_record(const char *name, const char *comments) {
    char path[256], header[1024];
    int16_t data[100];
    for (int i = 0; i < 100; i++) data[i] = (int16_t)(i * 7 % 31);
    const char *slash = strrchr(name, '/');
    snprintf(header, sizeof header, "x 2 100 50\n%s.dat 16\n%s.dat 16\n%s", slash + 1, slash + 1,
             comments);
    snprintf(path, sizeof path, "%s.hea", name);
    put_text(path, header);
    snprintf(path, sizeof path, "%s.dat", name);
    put(path, data, sizeof data);
}

static enum ecg_status run(struct import_options o, const char *source) {
    char *sources[] = {(char *)source};
    CHECK_OK(file_remove_tree(at("out")));
    o.sources = sources;
    o.n_sources = 1;
    o.out = at("out");
    o.made_by = "test_label_map";
    return import_run(&o);
}

/* The labels of the data set made last: names, and n rows. */
static void check_labels(const char *names, size_t n, const uint8_t *rows) {
    struct dataset *d;
    char *joined = NULL;
    if (!CHECK_OK(dataset_open(&d, at("out")))) return;
    CHECK_OK(names_join(&d->schema.labels, &joined));
    CHECK_STR(joined, names);
    CHECK(d->n_records == n);
    size_t k = (size_t)d->schema.labels.n;
    uint8_t row[128];
    for (size_t i = 0; i < n && i < d->n_records; i++) {
        CHECK_OK(dataset_labels(d, i, row));
        if (!CHECK(memcmp(row, rows + i * k, k) == 0))
            for (size_t c = 0; c < k; c++)
                if (row[c] != rows[i * k + c])
                    printf("record %zu, label %zu: %d, wanted %d\n", i, c, row[c], rows[i * k + c]);
    }
    free(joined);
    dataset_close(d);
}

static void put_cohort(void) {
    CHECK_OK(file_remove_tree(at("cohort")));
    CHECK_OK(file_mkdirs(at("cohort")));
    put_record("cohort/a", "#Age: 55\n#Dx: 164889003,59118001\n");
    put_record("cohort/b", "# Age: 61\n# Dx: 426783006 \r\n# Rx: Unknown\n");
    put_record("cohort/c", "#dx : 713427006\n");
    put_record("cohort/d", "#Dx: Unknown\n");
    put_record("cohort/e", "# Age: 3\n");
    put_record("cohort/f", "#Dxx: 164889003\n#Dx: Normal\n");
}

static void header_codes(void) {
    put_cohort();
    put_text("snomed.csv",
             "code,label\n59118001,RBBB\n713427006,RBBB\n164889003,AF\n426783006,NSR\n");
    struct import_options o = {.label_map = at("snomed.csv"), .code_field = "Dx"};
    if (!CHECK_OK(run(o, at("cohort")))) return;
    check_labels("RBBB\nAF\nNSR", 6,
                 (uint8_t[]){1, 1, 0, 0, 0, 1, 1, 0, 0, U, U, U, U, U, U, 0, 0, 0});
    o.code_field = "Chagas";
    CHECK_FAILS(run(o, at("cohort")), ECG_ERR_DATA,
                "none of the 6 headers has a line \"#Chagas:\"");
    CHECK(!file_exists(at("out")));
    put_text("snomed.csv", "code,label\n59118001,RBBB\n59118001,RBBB\n");
    o.code_field = "Dx";
    CHECK_FAILS(run(o, at("cohort")), ECG_ERR_DATA, "snomed.csv:3");
}

static void csv_codes(void) {
    put_cohort();
    const char *csv = "record,age,codes\n"
                      "a,40,\"{'NORM': 100.0, 'SR': 0.0}\"\n"
                      "b,70,\"{'IMI': 0.0, 'ASMI': 50.0, 'SR': 0.0}\"\n"
                      "c,300,\"{'IMI': 0.0}\"\n"
                      "d,,{}\n"
                      "e,65,\n";
    put_text("labels.csv", csv);
    put_text("scp.csv",
             "code,label,unstated\nIMI,MI,\nASMI,MI,\nNORM,NORM,\nSR,SR,present\nIMI,inferior,\n");
    put_text("derived.yaml",
             "labels:\n  old: {column: age, above: 65}\n  young: {column: age, below: 65, "
             "unknown: [300]}\ntargets:\n  years: {column: age, unknown: [300]}\n"
             "  log_age: {column: age, log10: true}\n");
    struct import_options o = {.label_map = at("scp.csv"),
                               .table = {.path = at("labels.csv"), .code_column = "codes"}};
    if (!CHECK_OK(column_rules_read(&o.table.derived_labels, &o.table.derived_targets,
                                    at("derived.yaml"))))
        return;
    CHECK_OK(run(o, at("cohort")));
    check_labels("old\nyoung\nMI\nNORM\nSR\ninferior", 6,
                 (uint8_t[]){0, 1, 0, 1, 1, 0,   /* a */
                             1, 0, 1, 0, 1, U,   /* b: ASMI is stated */
                             1, U, U, 0, 0, U,   /* c: 300 is over 65 */
                             U, U, 0, 0, 0, 0,   /* d: {} states nothing but that */
                             0, 0, U, U, U, U,   /* e: blank */
                             U, U, U, U, U, U}); /* f: no row */
    struct dataset *d;
    if (CHECK_OK(dataset_open(&d, at("out")))) {
        const double wanted[][2] = {
            {40, log10(40)}, {70, log10(70)}, {NAN, log10(300)}, {NAN, NAN}};
        for (size_t i = 0; i < 4; i++) {
            float v[2];
            CHECK_OK(dataset_targets(d, i, v));
            for (int k = 0; k < 2; k++)
                CHECK(isnan(wanted[i][k]) ? isnan(v[k]) : v[k] == (float)wanted[i][k]);
        }
        dataset_close(d);
    }
    put_text("labels.csv", "record,age,codes\na,40,\"{'NORM': 1\"\n");
    CHECK_FAILS(run(o, at("cohort")), ECG_ERR_DATA, "labels.csv: record a: \"{'NORM': 1\": ");
    CHECK(!file_exists(at("out")));
    put_text("labels.csv", "record,age,codes\na,40 years,{}\n");
    CHECK_FAILS(run(o, at("cohort")), ECG_ERR_DATA,
                "labels.csv:2: column age holds \"40 years\": a number");
    put_text("labels.csv", "record,codes\na,{}\n");
    CHECK_FAILS(run(o, at("cohort")), ECG_ERR_CONFIG, "no column age");
    column_rules_free(&o.table.derived_labels);
    column_rules_free(&o.table.derived_targets);
    o.table.code_column = "code";
    CHECK_FAILS(run(o, at("cohort")), ECG_ERR_CONFIG, "no column code; did you mean codes?");
    o.table.code_column = "codes";
    char *columns[] = {"MI"};
    put_text("labels.csv", "record,MI,codes\na,1,{}\n");
    o.table.label_columns = columns;
    o.table.n_labels = 1;
    CHECK_FAILS(run(o, at("cohort")), ECG_ERR_CONFIG, "scp.csv: the column MI stands twice");
    /* ICD: dots and prefixes, separators */
    put_text("labels.csv",
             "record,icd\na,I21.4;E785\nb,N183|I10\nc,\"['585.9', 'I2510']\"\nd,Z00\n");
    put_text("icd.csv", "code,label\nN18*,ckd\n585*,ckd\nI21*,chd\nI25.1*,chd\n");
    o = (struct import_options){.label_map = at("icd.csv"),
                                .table = {.path = at("labels.csv"), .code_column = "icd"}};
    if (!CHECK_OK(run(o, at("cohort")))) return;
    check_labels("ckd\nchd", 6, (uint8_t[]){0, 1, 1, 0, 1, 1, 0, 0, U, U, U, U});
}

static void array_codes(void) {
    enum { N = 4, L = 30 };
    struct h5_file *f;
    int16_t ecg[N * L];
    float lvef[N] = {35, 60, NAN, 50};
    char *codes[N] = {"{'SR': 0.0}", "{'IMI': 15.0}", "", "{'IMI': 0.0}"};
    for (int i = 0; i < N * L; i++) ecg[i] = (int16_t)(i * i % 97);
    CHECK_OK(file_remove_tree(at("a.h5")));
    if (!CHECK_OK(h5_create(&f, at("a.h5")))) return;
    CHECK_OK(h5_put_i16(f, "ecg", 2, (uint64_t[]){N, L}, ecg));
    CHECK_OK(h5_put_f32(f, "lvef", 1, (uint64_t[]){N}, lvef));
    CHECK_OK(h5_put_strings(f, "scp", N, codes));
    CHECK_OK(h5_close(f));
    put_text("m.csv", "code,label,unstated\nIMI,MI,\nSR,SR,present\n");
    const char *base = "signal: ecg\nleads: [I]\nsampling_rate: 100\n"
                       "labels: {low: {dataset: lvef, below: 50}}\ntargets: {lvef: lvef}\n";
    char map[512];
    snprintf(map, sizeof map, "%scodes: scp\n", base);
    put_text("map.yaml", map);
    struct import_options o = {
        .format = IMPORT_HDF5, .map = at("map.yaml"), .label_map = at("m.csv")};
    if (!CHECK_OK(run(o, at("a.h5")))) return;
    check_labels("low\nMI\nSR", N, (uint8_t[]){1, 0, 1, 0, 1, 0, U, U, U, 0, U, 0});
    put_text("map.yaml", base);
    CHECK_FAILS(run(o, at("a.h5")), ECG_ERR_CONFIG, "map.yaml: no key codes");
    snprintf(map, sizeof map, "%scodes: nope\n", base);
    put_text("map.yaml", map);
    CHECK_FAILS(run(o, at("a.h5")), ECG_ERR_CONFIG, "no dataset nope");
}

static void bad_rules(void) {
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"labels: {old: {column: age}}\n", "d.yaml:1: labels.old: {column: NAME, above: LIMIT}"},
        {"labels: {old: age}\n", "labels.old: {column: NAME, above"},
        {"labels: {old: {column: age, above: x}}\n", "labels.old: a number wanted"},
        {"labels: {old: {column: age, above: 5, below: 9}}\n", "either above or below"},
        {"labels: {old: {column: age, abov: 5}}\n", "unknown key abov; did you mean above?"},
        {"labels: {old: {column: age, log10: true}}\n", "labels.old: unknown key log10"},
        {"labels: {old: {above: 5}}\n", "labels.old: column: NAME wanted"},
        {"targets: {a: {column: age, above: 5}}\n", "targets.a: unknown key above"},
        {"targets: {a: {column: age, log10: 2}}\n", "log10: true or false"},
        {"targets: {a: {column: age, dataset: b}}\n", "one column: NAME"},
        {"targets: {a: {column: age, unknown: 3}}\n", "unknown: [values]"},
        {"targets: {a: [age]}\n", "targets.a: one column: NAME"},
        {"labels: [a]\n", "d.yaml:1: labels: {name:"},
        {"label: {}\n", "unknown key label; did you mean labels?"},
        {"- 1\n", "d.yaml: a map with labels and targets"},
    };
    struct column_rules labels, targets;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_FAILS(column_rules_read(&labels, &targets, put_text("d.yaml", bad[i].text)),
                    ECG_ERR_CONFIG, bad[i].message);
        column_rules_free(&labels);
        column_rules_free(&targets);
    }
    /* 0.1 is no float: limits hold in double */
    CHECK_OK(
        column_rules_read(&labels, &targets,
                          put_text("d.yaml", "labels: {a: {column: x, above: 0.1}}\n"
                                             "targets: {l: {column: x, log10: true}, x: x}\n")));
    CHECK(column_rule_apply_label(labels.v, 0.1) == 0 &&
          column_rule_apply_label(labels.v, 0.1000001) == 1);
    CHECK(column_rule_apply_label(labels.v, NAN) == U &&
          column_rule_apply_label(labels.v, INFINITY) == U);
    CHECK(isnan(column_rule_apply(targets.v, 0)) && isnan(column_rule_apply(targets.v, -3)) &&
          column_rule_apply(targets.v, 1000) == 3.0f);
    CHECK(isnan(column_rule_apply(targets.v + 1, 1e39)) &&
          column_rule_apply(targets.v + 1, -2) == -2);
    column_rules_free(&labels);
    column_rules_free(&targets);
}

/* ---------------------------------------- the join */

static void join(void) {
    struct label_map m;
    struct label_join j;
    char *outputs[] = {"AF", "MI", "SINUS", "none"},
         *columns[] = {"IMI", "AFIB", "SR", "ASMI", "X"};
    const struct names o = {4, outputs}, c = {5, columns}, one = {1, outputs};
    put_text("m.csv", "code,label\nASMI,MI\nIMI,MI\nAFIB,AF\nSR,SINUS\nAFIB,SINUS\nAFLT,AF\n");
    if (!CHECK_OK(label_map_read(&m, at("m.csv")))) return;
    if (!CHECK_OK(label_join_make(&j, &m, &o, &c, &o))) return;
    CHECK(j.n == 3 && j.n_absent == 1 && j.output[0] == 0 && j.output[1] == 1 && j.output[2] == 2);
    static const int members[3][2] = {{1, 1}, {0, 3}, {1, 2}}; /* columns of each output */
    static const uint8_t values[] = {0, 1, U};
    for (int code = 0; code < 81; code++) {
        uint8_t y[5] = {values[code % 3], values[code / 3 % 3], values[code / 9 % 3],
                        values[code / 27], 1};
        for (int i = 0; i < 3; i++) {
            uint8_t a = y[members[i][0]], b = y[members[i][1]];
            uint8_t wanted = a == 1 || b == 1 ? 1 : a == U || b == U ? U : 0;
            CHECK(label_join_truth(&j, i, y) == wanted);
        }
    }
    label_join_free(&j);
    /* a part of the outputs: the rest of the map's labels are outputs all the same */
    CHECK_OK(label_join_make(&j, &m, &one, &c, &o));
    CHECK(j.n == 1 && j.output[0] == 0);
    label_join_free(&j);
    CHECK_FAILS(label_join_make(&j, &m, &one, &c, &one), ECG_ERR_CONFIG,
                "m.csv:2: the network has no output MI");
    char *close[] = {"AF", "MI", "SINUSS"};
    CHECK_FAILS(label_join_make(&j, &m, &(struct names){3, close}, &c, &(struct names){3, close}),
                ECG_ERR_CONFIG, "m.csv:5: the network has no output SINUS; did you mean SINUSS?");
    CHECK_FAILS(label_join_make(&j, &m, &o, &(struct names){1, columns + 4}, &o), ECG_ERR_CONFIG,
                "no output has a code (ASMI, ...) that is a label column of the data (X, ...)");
    CHECK_FAILS(label_join_make(&j, &m, &o, &(struct names){0, NULL}, &o), ECG_ERR_CONFIG,
                "it has none");
    label_map_free(&m);
}

/* ---------------------------------------- real data */

static void public_codes(void) {
    if (!check_shared()) {
        check_skip("no shared recordings here");
        return;
    }
    char path[4096], csv[4096];
    snprintf(path, sizeof path, "%s/ecg/ptbxl/records100", check_shared());
    snprintf(csv, sizeof csv, "%s/ecg/ptbxl/ptbxl_database.csv", check_shared());
    struct import_options o = {
        .label_map = "configs/maps/ptbxl_superclass.csv",
        .table = {.path = csv, .id_column = "filename_lr", .code_column = "scp_codes"}};
    if (!CHECK_OK(run(o, path))) return;
    struct dataset *d;
    uint8_t row[128];
    if (!CHECK_OK(dataset_open(&d, at("out")))) return;
    CHECK(d->n_records == 22 && d->schema.labels.n == 5);
    CHECK_OK(dataset_labels(d, 0, row)); /* {'NORM': 100.0, 'LVOLT': 0.0, 'SR': 0.0} */
    CHECK(row[0] == 1 && row[1] == 0 && row[2] == 0 && row[3] == 0 && row[4] == 0);
    dataset_close(d);
    /* the headers of five sources spell #Dx in three ways */
    snprintf(path, sizeof path, "%s/ecg/cinc", check_shared());
    o = (struct import_options){.label_map = "configs/maps/snomed_cinc2021.csv",
                                .code_field = "Dx",
                                .prep = {.length = PREP_LENGTH_CROP, .seconds = 10}};
    if (!CHECK_OK(run(o, path))) return;
    if (!CHECK_OK(dataset_open(&d, at("out")))) return;
    int sinus = names_find(&d->schema.labels, "NSR"), n_sinus = 0, n_unknown = 0;
    CHECK(d->n_records == 12 && d->schema.labels.n == 26 && sinus >= 0);
    for (size_t i = 0; i < d->n_records && sinus >= 0; i++) {
        CHECK_OK(dataset_labels(d, i, row));
        n_sinus += row[sinus] == 1;
        n_unknown += row[sinus] == U;
    }
    CHECK(n_sinus == 4 && n_unknown == 0);
    dataset_close(d);
}

int main(void) {
    CASE(good_maps);
    CASE(bad_maps);
    CASE(hostile_maps);
    CASE(record_codes);
    CASE(header_codes);
    CASE(csv_codes);
    CASE(array_codes);
    CASE(bad_rules);
    CASE(join);
    CASE(public_codes);
    return check_finish();
}
