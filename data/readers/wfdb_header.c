/* SPDX-License-Identifier: MIT
 * The parser works on one line at a time: a cursor takes fields off its front, and every failure
 * names file, line and field. Numbers are read strictly, since every byte may be hostile. */
#include "data/readers/wfdb_header.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

/* One line being read. */
struct line {
    const char *where;
    int number;
    char *at;
};

static enum ecg_status bad(const struct line *l, const char *what, const char *text) {
    return ecg_fail(ECG_ERR_DATA, "%s:%d: %s \"%.60s\"", l->where, l->number, what, text);
}

/* The next word, 0-terminated in place; NULL at the end of the line. */
static char *word(struct line *l) {
    while (isspace((unsigned char)*l->at)) l->at++;
    if (!*l->at) return NULL;
    char *start = l->at;
    while (*l->at && !isspace((unsigned char)*l->at)) l->at++;
    if (*l->at) *l->at++ = '\0';
    return start;
}

/* Reads digits (and a sign) at *p as an integer within [min, max] and moves past them. */
static bool take_integer(char **p, int64_t min, int64_t max, int64_t *out) {
    if (!isdigit((unsigned char)(**p == '-' ? (*p)[1] : **p))) return false;
    char *end;
    errno = 0;
    long long v = strtoll(*p, &end, 10);
    if (errno || v < min || v > max) return false;
    *out = v;
    *p = end;
    return true;
}

/* The same for a decimal number; no hex, no inf, no nan. */
static bool take_number(char **p, double *out) {
    size_t n = strspn(*p, "+-.0123456789eE");
    if (strcspn(*p, "0123456789") >= n) return false;
    char *end;
    double v = strtod(*p, &end);
    if (end != *p + n || !isfinite(v)) return false;
    *out = v;
    *p = end;
    return true;
}

/* A whole word as an integer; a missing word leaves *out and *has as they are. */
static enum ecg_status integer_field(struct line *l, const char *what, int64_t *out, bool *has) {
    char *w = word(l), *p = w;
    if (!w) return ECG_OK;
    if (!take_integer(&p, INT64_MIN, INT64_MAX, out) || *p) return bad(l, what, w);
    if (has) *has = true;
    return ECG_OK;
}

/* NAME[/SEGMENTS] SIGNALS [RATE[/COUNTER[(BASE)]] [SAMPLES [TIME [DATE]]]] */
static enum ecg_status record_line(struct line *l, struct wfdb_header *h) {
    char *name = word(l), *count = word(l), *rate = word(l), *p = count;
    int64_t v = 0;
    if (!name || !count) return bad(l, "no record line:", name ? name : "");
    if (strchr(name, '/'))
        return bad(
            l, "a record of several segments can't be read, only each segment by itself:", name);
    if (!take_integer(&p, 1, LEADS_MAX, &v) || *p)
        return bad(l, "not a number of signals from 1 to 64:", count);
    h->n_signals = (int)v;
    h->rate = 250;
    if (rate) {
        p = rate;
        if (!take_number(&p, &h->rate) || (*p && *p != '/') || !(h->rate > 0))
            return bad(l, "not a sampling rate above 0 Hz:", rate);
    }
    v = 0;
    TRY(integer_field(l, "not a number of samples:", &v, NULL));
    if (v < 0)
        return ecg_fail(ECG_ERR_DATA, "%s:%d: a negative number of samples", l->where, l->number);
    h->has_length = v > 0; /* 0 means unknown */
    h->length = (uint64_t)v;
    return ECG_OK;
}

/* FORMAT[xFRAME][:SKEW][+OFFSET] */
static enum ecg_status format_field(struct line *l, struct wfdb_signal *s) {
    char *w = word(l), *p = w;
    int64_t format, frame = 1, skew = 0, offset = 0;
    if (!w) return bad(l, "no format for the file", s->file);
    bool ok = take_integer(&p, 0, 100000, &format);
    if (ok && *p == 'x') p++, ok = take_integer(&p, 1, INT32_MAX, &frame);
    if (ok && *p == ':') p++, ok = take_integer(&p, 0, INT32_MAX, &skew);
    if (ok && *p == '+') p++, ok = take_integer(&p, 0, INT64_MAX, &offset);
    if (!ok || *p) return bad(l, "not a format:", w);
    if (frame > 1) return bad(l, "several samples per frame can't be read:", w);
    s->format = (int)format;
    s->skew = (uint64_t)skew;
    s->offset = (uint64_t)offset;
    return ECG_OK;
}

/* [GAIN[(BASELINE)][/UNITS]] */
static enum ecg_status gain_field(struct line *l, struct wfdb_signal *s, bool *has_baseline) {
    char *w = word(l), *p = w;
    int64_t v;
    s->gain = 200;
    strcpy(s->units, "mV");
    if (!w) return ECG_OK;
    if (!take_number(&p, &s->gain)) return bad(l, "not a gain:", w);
    if (s->gain == 0) s->gain = 200;
    if (*p == '(') {
        p++;
        if (!take_integer(&p, INT32_MIN, INT32_MAX, &v) || *p++ != ')')
            return bad(l, "not a baseline:", w);
        s->baseline = (int32_t)v;
        *has_baseline = true;
    }
    if (*p == '/') {
        if (!p[1] || strlen(p + 1) >= sizeof s->units) return bad(l, "not units:", w);
        strcpy(s->units, p + 1);
    } else if (*p) {
        return bad(l, "not a gain:", w);
    }
    return ECG_OK;
}

/* Only a file beside the header: no path, no standard input ("-"), no placeholder ("~"). */
static bool plain_name(const char *name) {
    return !strchr(name, '/') && !strchr(name, '\\') && name[0] != '.' && strcmp(name, "-") != 0 &&
           name[0] != '~';
}

/* FILE FORMAT [GAIN [RESOLUTION [ZERO [INIT [CHECKSUM [BLOCK [NAME]]]]]]] */
static enum ecg_status signal_line(struct line *l, struct wfdb_signal *s, int index) {
    char *file = word(l);
    if (!file || !plain_name(file))
        return bad(l, "the file of a signal must be a plain name in the header's folder, not",
                   file ? file : "");
    TRY(mem_strdup(&s->file, file));
    TRY(format_field(l, s));
    bool has_baseline = false;
    TRY(gain_field(l, s, &has_baseline));
    int64_t resolution, zero = 0, block;
    TRY(integer_field(l, "ADC resolution:", &resolution, NULL));
    TRY(integer_field(l, "ADC zero:", &zero, NULL));
    TRY(integer_field(l, "initial value:", &s->init, &s->has_init));
    TRY(integer_field(l, "checksum:", &s->checksum, &s->has_checksum));
    TRY(integer_field(l, "block size:", &block, NULL));
    if (zero < INT32_MIN || zero > INT32_MAX)
        return ecg_fail(ECG_ERR_DATA, "%s:%d: an ADC zero of %lld", l->where, l->number,
                        (long long)zero);
    if (!has_baseline) s->baseline = (int32_t)zero;
    leads_canonical(l->at, s->name);
    if (!s->name[0]) snprintf(s->name, sizeof s->name, "signal%d", index + 1);
    return ECG_OK;
}

/* Reads one line that is no comment. */
static enum ecg_status content_line(struct line *l, struct wfdb_header *h, int *n_read) {
    if (!h->signals) {
        TRY(record_line(l, h));
        return MEM_NEW(&h->signals, (size_t)h->n_signals);
    }
    if (*n_read == h->n_signals)
        return ecg_fail(ECG_ERR_DATA, "%s:%d: more signal lines than the %d of the record line",
                        l->where, l->number, h->n_signals);
    TRY(signal_line(l, &h->signals[*n_read], *n_read));
    ++*n_read;
    return ECG_OK;
}

static enum ecg_status parse_lines(struct wfdb_header *h, char *text, const char *where) {
    int n_read = 0;
    struct line l = {.where = where};
    while (*text) {
        char *end = strchr(text, '\n');
        if (end) *end = '\0';
        l.number++;
        l.at = text;
        while (isspace((unsigned char)*l.at)) l.at++;
        if (*l.at && *l.at != '#') TRY(content_line(&l, h, &n_read));
        if (!end) break;
        text = end + 1;
    }
    if (!h->signals) return ecg_fail(ECG_ERR_DATA, "%s: an empty header", where);
    if (n_read < h->n_signals)
        return ecg_fail(ECG_ERR_DATA, "%s: %d signal lines, the record line says %d", where, n_read,
                        h->n_signals);
    return ECG_OK;
}

enum ecg_status wfdb_header_parse(struct wfdb_header *h, const char *text, size_t size,
                                  const char *where) {
    *h = (struct wfdb_header){0};
    if (memchr(text, '\0', size))
        return ecg_fail(ECG_ERR_DATA, "%s: no header: it holds a NUL byte", where);
    char *copy;
    TRY(mem_strdup(&copy, text));
    enum ecg_status status = parse_lines(h, copy, where);
    free(copy);
    if (status != ECG_OK) wfdb_header_free(h);
    return status;
}

void wfdb_header_free(struct wfdb_header *h) {
    for (int i = 0; h->signals && i < h->n_signals; i++) free(h->signals[i].file);
    free(h->signals);
    *h = (struct wfdb_header){0};
}
