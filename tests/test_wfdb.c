/* SPDX-License-Identifier: MIT
 * The WFDB reader: formats, header variants of real data sets, checks, and what it must refuse.
 * With arguments
 *     test_wfdb --dump RECORD OUT
 * it writes a record's physical values for tests/test_import_wfdb.py: a line "RATE LENGTH
 * LEAD,LEAD,...", then doubles (C, L). */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/rng.h"
#include "data/readers/wfdb.h"
#include "data/readers/wfdb_header.h"
#include "tests/support/check.h"

static void put(const char *name, const void *data, size_t n) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", check_tmp(), name);
    FILE *f = fopen(path, "wb");
    if (!CHECK(f != NULL)) return;
    CHECK(fwrite(data, 1, n, f) == n);
    fclose(f);
}

static void put_text(const char *name, const char *text) {
    put(name, text, strlen(text));
}

/* Reads the record of that name in the test's folder. */
static enum ecg_status read_tmp(struct record *r, const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", check_tmp(), name);
    return wfdb_read(r, path);
}

/* The header "r.hea" is refused with this text. */
static void refuse(const char *header, const char *text) {
    struct record r;
    put_text("r.hea", header);
    CHECK_FAILS(read_tmp(&r, "r"), ECG_ERR_DATA, text);
    CHECK(r.signal == NULL && r.leads.n == 0);
}

/* Two signals, four samples: 1 -2, 300 NaN, -32767 4, 0 5. */
static const int16_t two[] = {1, -2, 300, -32768, -32767, 4, 0, 5};

static void put_two(void) {
    put("two.dat", two, sizeof two);
}

static void format_16(void) {
    struct record r;
    char data[24 + sizeof two] = "a MATLAB v4 header";
    memcpy(data + 24, two, sizeof two);
    put("e.mat", data, sizeof data);
    put_text("e.hea", "other.mat 2 500 4 05-May-2020 09:49:17\r\n"
                      "e.mat 16x1+24 1000.0(-3)/mv 16 0 1 -32466 0 avl\r\n"
                      "e.mat 16+24 250(2)/uV 16 0 -2 -32761 0 v1 \r\n#Age: 58\r\n");
    if (!CHECK_OK(read_tmp(&r, "e"))) return;
    CHECK(r.sampling_rate == 500 && r.length == 4 && r.leads.n == 2 && !r.has_adc);
    CHECK_STR(r.leads.name[0], "aVL");
    CHECK_STR(r.leads.name[1], "V1");
    CHECK_STR(r.units, "mV");
    CHECK(r.signal[0] == 4 / 1000.0 && r.signal[2] == -32764 / 1000.0);
    CHECK(r.signal[4] == -4 / 250.0 / 1000 && isnan(r.signal[5]) &&
          r.signal[7] == 3 / 250.0 / 1000);
    record_free(&r);
    CHECK_OK(read_tmp(&r, "e.hea"));
    record_free(&r);
}

static void one_gain(void) {
    struct record r;
    put_two();
    put_text("r.hea", "r 2 100 4\ntwo.dat 16 200/V 16 0 1\ntwo.dat 16 0.2/mV\n");
    if (!CHECK_OK(read_tmp(&r, "r"))) return;
    CHECK(r.has_adc && r.gain == 0.2); /* the same gain, said in V and in mV */
    CHECK_STR(r.leads.name[0], "signal1");
    CHECK(r.signal[1] == 300 / 200.0 / 1e-3);
    record_free(&r);
    put_text("r.hea", "r 2 100 4\ntwo.dat 16 200(9000)/mV\ntwo.dat 16 200(9000)/mV\n");
    CHECK_OK(read_tmp(&r, "r"));
    CHECK(!r.has_adc); /* -32767 - 9000 is no int16 */
    record_free(&r);
}

static void format_212_and_80(void) {
    struct record r;
    const uint8_t packed[] = {0xff, 0x07, 0x01, 0x00, 0xf8, 0xff, 0x34, 0x02};
    /* 2047 1 | -2048 (invalid) -1 | 0x234 */
    put("p.dat", packed, sizeof packed);
    put_text("r.hea", "r 1 360\np.dat 212 200 12 0 2047 2047 0 MLII\n");
    if (!CHECK_FAILS(read_tmp(&r, "r"), ECG_ERR_DATA, "checksum 563")) return;
    put_text("r.hea", "r 1 360\np.dat 212 200 12 0 2047 563 0 MLII\n");
    if (!CHECK_OK(read_tmp(&r, "r"))) return;
    CHECK(r.length == 5); /* from the size of the file */
    CHECK(r.signal[0] == 2047 / 200.0 && r.signal[1] == 1 / 200.0 && isnan(r.signal[2]) &&
          r.signal[3] == -1 / 200.0 && r.signal[4] == 0x234 / 200.0);
    record_free(&r);
    const uint8_t offset_binary[] = {128, 0, 255, 1};
    put("b.dat", offset_binary, sizeof offset_binary);
    put_text("r.hea", "r 1 360 4\nb.dat 80 100 8 5 0 -128 0 II\n");
    if (!CHECK_OK(read_tmp(&r, "r"))) return;
    CHECK(r.signal[0] == -5 / 100.0 && isnan(r.signal[1]) && r.signal[2] == 122 / 100.0 &&
          r.signal[3] == -132 / 100.0);
    record_free(&r);
}

static void several_files_and_skew(void) {
    struct record r;
    const int16_t one[] = {10, 20, 30, 40};
    put_two();
    put("one.dat", one, sizeof one);
    put_text(
        "r.hea",
        "# a comment\n\nr 3 62.4725/999.56(0) 4 12:00:00.5 01/01/1990\n\ntwo.dat 16 1\n# another\n"
        "two.dat 16:1 1(0)/mV 16 0 -2 -32761 0 a lead of three words\none.dat 16 1 16 0 10 100 0 V1");
    if (!CHECK_OK(read_tmp(&r, "r"))) return;
    CHECK(r.leads.n == 3 && r.sampling_rate == 62.4725);
    CHECK_STR(r.leads.name[1], "a lead of three words");
    CHECK(r.signal[2] == -32767 && r.signal[8] == 10 && r.signal[11] == 40);
    CHECK(isnan(r.signal[4]) && r.signal[5] == 4 && r.signal[6] == 5 &&
          isnan(r.signal[7])); /* one sample early */
    record_free(&r);
}

static void signals_that_are_no_ecg(void) {
    struct record r;
    put_two();
    refuse("r 2 100 4\ntwo.dat 16 1/mmHg 16 0 1 2 0 ABP\ntwo.dat 16 1 16 0 -2 -32761 0 II\n",
           "signal ABP has checksum");
    put_text(
        "r.hea",
        "r 2 100 4\ntwo.dat 16 1/mmHg 16 0 1 -32466 0 ABP\ntwo.dat 16 1 16 0 -2 -32761 0 II\n");
    if (!CHECK_OK(read_tmp(&r, "r"))) return;
    CHECK(r.leads.n == 1 && r.signal[0] == -2);
    record_free(&r);
    refuse("r 2 100 4\ntwo.dat 16 1/mmHg 16 0 1 -32466 0 V1\ntwo.dat 16 1\n",
           "lead V1 is in \"mmHg\"");
    refuse("r 2 100 4\ntwo.dat 16 1/NU\ntwo.dat 16 1/NU\n", "no signal in mV, uV or V");
    refuse("r 2 100 4\ntwo.dat 16 1 1 1 1 -32466 0 V1\ntwo.dat 16 1 1 1 -2 -32761 0 v1\n",
           "lead V1 stands twice");
}

static void bad_headers(void) {
    put_two();
    const char *cases[][2] = {
        {"", "r.hea: an empty header"},
        {"# only a comment", "an empty header"},
        {"r", "r.hea:1: no record line"},
        {"r 0 100 4", "r.hea:1: not a number of signals"},
        {"r 65 100 4", "number of signals"},
        {"r 99999999999999999999 100 4", "number of signals"},
        {"r -1", "number of signals"},
        {"r 2x 100", "number of signals"},
        {"r 2 0 4", "sampling rate"},
        {"r 2 -5 4", "sampling rate"},
        {"r 2 nan 4", "sampling rate"},
        {"r 2 0x10 4", "sampling rate"},
        {"r 2 1e999 4", "sampling rate"},
        {"r 2 100 -4", "negative number of samples"},
        {"r 2 100 4.5", "number of samples"},
        {"r 2 100 99999999999999999999", "number of samples"},
        {"r/3 2 100 4", "several segments"},
        {"r 2 100 4\ntwo.dat 16 1", "1 signal lines, the record line says 2"},
        {"r 1 100 4\ntwo.dat 16 1\ntwo.dat 16 1", "r.hea:3: more signal lines"},
        {"r 1 100 4\n../../etc/passwd 16 1", "plain name"},
        {"r 1 100 4\n/etc/passwd 16 1", "plain name"},
        {"r 1 100 4\n- 16 1", "plain name"},
        {"r 1 100 4\n~ 0 1", "plain name"},
        {"r 1 100 4\ntwo.dat", "r.hea:2: no format"},
        {"r 1 100 4\ntwo.dat x16", "format:"},
        {"r 1 100 4\ntwo.dat 16+", "format:"},
        {"r 1 100 4\ntwo.dat 16+-3", "format:"},
        {"r 1 100 4\ntwo.dat 16x4 1", "several samples per frame"},
        {"r 1 100 4\ntwo.dat 311 1", "format 311 of two.dat can't be read"},
        {"r 1 100 4\ntwo.dat 0 1", "format 0"},
        {"r 1 100 4\ntwo.dat 16 abc", "gain:"},
        {"r 1 100 4\ntwo.dat 16 1(x)/mV", "baseline:"},
        {"r 1 100 4\ntwo.dat 16 1(99999999999)/mV", "baseline:"},
        {"r 1 100 4\ntwo.dat 16 1(3/mV", "baseline:"},
        {"r 1 100 4\ntwo.dat 16 1/", "units:"},
        {"r 1 100 4\ntwo.dat 16 1/averyveryverylongunit", "units:"},
        {"r 1 100 4\ntwo.dat 16 1 MLII", "ADC resolution"},
        {"r 1 100 4\ntwo.dat 16 1 16 99999999999", "ADC zero"},
        {"r 1 100 4\ntwo.dat 16 1 16 0 7", "signal signal1 starts with 1"},
        {"r 1 100 4\ntwo.dat 16 1 16 0 1 7", "checksum"},
        {"r 1 100 9\ntwo.dat 16 1", "truncated: 16 bytes"},
        {"r 1 100 9223372036854775807\ntwo.dat 16 1", "truncated"},
        {"r 1 100 4\ntwo.dat 16+17 1", "17"},
        {"r 1 100\ntwo.dat 16+16 1", "truncated"},
        {"r 2 100 4\ntwo.dat 16 1\ntwo.dat 80 1", "disagree"},
        {"r 3 100 2\ntwo.dat 16 1\nr.hea 80 1\ntwo.dat 16 1", "don't stand together"},
        {"r 1 100 4\nmissing.dat 16 1", "data file missing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) refuse(cases[i][0], cases[i][1]);
    struct record r;
    put("r.hea", "r 1 100 4\n\0two.dat 16 1", 22);
    CHECK_FAILS(read_tmp(&r, "r"), ECG_ERR_DATA, "NUL byte");
    CHECK_FAILS(read_tmp(&r, "nobody"), ECG_ERR_NOINPUT, "nobody.hea");
    put_text("r.hea", "r 1\ntwo.dat 16\n"); /* as little as a header can say: 250 Hz, 200 per mV */
    if (!CHECK_OK(read_tmp(&r, "r"))) return;
    CHECK(r.sampling_rate == 250 && r.length == 8 && r.signal[0] == 1 / 200.0);
    record_free(&r);
}

/* Damaged headers and data: any answer but a crash, and what is read must be whole. */
static void hostile_bytes(void) {
    char header[400];
    uint8_t data[600];
    struct rng g;
    rng_init(&g, 11, RNG_SYNTH, 0, 0);
    size_t n_read = 0;
    for (int round = 0; round < 1500; round++) {
        const char *format = round % 3 == 0 ? "212" : round % 3 == 1 ? "16+24" : "80:2";
        int n = snprintf(header, sizeof header,
                         "h 3 500/1000(5) 50 10:00:00\nh.dat %s 200(3)/mV 12 0\n"
                         "h.dat %s 1e2/uV 12 5\n# c\nh.dat %s 200/V 12\n",
                         format, format, format);
        for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)rng_u32(&g);
        size_t n_bytes = rng_below(&g, 8) == 0 ? (size_t)rng_below(&g, sizeof data) : sizeof data;
        for (uint64_t flips = rng_below(&g, 4); flips > 0; flips--) {
            int at = (int)rng_below(&g, (uint64_t)n);
            header[at] =
                rng_below(&g, 2) ? (char)rng_u32(&g) : (char)(header[at] ^ 1 << rng_below(&g, 8));
        }
        if (rng_below(&g, 10) == 0) n = (int)rng_below(&g, (uint64_t)n);
        put("h.hea", header, (size_t)n);
        put("h.dat", data, n_bytes);
        struct record r;
        enum ecg_status status = read_tmp(&r, "h");
        if (status == ECG_OK) {
            volatile double touched = 0;
            for (size_t i = 0; i < (size_t)r.leads.n * r.length; i++) touched = r.signal[i];
            (void)touched;
            CHECK(r.leads.n > 0 && r.length > 0 && r.sampling_rate > 0);
            n_read++;
        } else {
            CHECK(status == ECG_ERR_DATA && ecg_message()[0] && !r.signal);
        }
        record_free(&r);
    }
    CHECK(n_read > 150 && n_read < 1350);
    check_note("%zu of 1500 damaged records were still readable", n_read);
}

static int dump(const char *path, const char *out) {
    struct record r;
    if (wfdb_read(&r, path) != ECG_OK) {
        fprintf(stderr, "%s\n", ecg_message());
        return 65;
    }
    FILE *f = fopen(out, "wb");
    char *leads = NULL;
    if (!f || leads_format(&r.leads, &leads) != ECG_OK) return 1;
    size_t n = (size_t)r.leads.n * r.length;
    fprintf(f, "%.17g %zu %s\n", r.sampling_rate, r.length, leads);
    bool ok = fwrite(r.signal, sizeof *r.signal, n, f) == n;
    free(leads);
    record_free(&r);
    return fclose(f) == 0 && ok ? 0 : 1;
}

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "--dump") == 0) return dump(argv[2], argv[3]);
    CASE(format_16);
    CASE(one_gain);
    CASE(format_212_and_80);
    CASE(several_files_and_skew);
    CASE(signals_that_are_no_ecg);
    CASE(bad_headers);
    CASE(hostile_bytes);
    return check_finish();
}
