/* SPDX-License-Identifier: MIT
 * Signals that share a data file are interleaved sample by sample. Each run of signal lines with
 * one file name is read as a group: file, bounds, samples, checks. Only then are samples turned
 * into millivolts. */
#include "data/readers/wfdb.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/file.h"
#include "core/mem.h"
#include "data/readers/wfdb_header.h"

static const size_t max_header_bytes = (size_t)1 << 20;
static const size_t max_data_bytes = (size_t)1 << 31;

/* What a format number means. */
struct format {
    int number;
    int samples, bytes;                              /* in how many bytes how many samples lie */
    int32_t invalid;                                 /* the value that marks a missing sample */
    int32_t (*get)(const uint8_t *data, uint64_t i); /* sample i */
};

static int32_t get16(const uint8_t *d, uint64_t i) {
    return (int16_t)(uint16_t)(d[2 * i] | d[2 * i + 1] << 8);
}

static int32_t get80(const uint8_t *d, uint64_t i) {
    return d[i] - 128;
}

/* Two 12-bit samples in three bytes: the middle byte's low half belongs to the first, its high
 * half to the second. */
static int32_t get212(const uint8_t *d, uint64_t i) {
    const uint8_t *p = d + i / 2 * 3;
    int32_t v = i % 2 == 0 ? (p[1] & 0x0f) << 8 | p[0] : (p[1] & 0xf0) << 4 | p[2];
    return v >= 2048 ? v - 4096 : v;
}

static const struct format formats[] = {
    {16, 1, 2, -32768, get16}, {80, 1, 1, -128, get80}, {212, 2, 3, -2048, get212}};

static const struct format *find_format(int number) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (formats[i].number == number) return &formats[i];
    return NULL;
}

/* Signals [first, first + n) share one file. */
struct group {
    int first, n;
    const struct format *format;
    uint8_t *data; /* from the first sample on */
    size_t size;
    char *owned; /* the whole file */
};

/* A record being read. */
struct reading {
    const char *where; /* header's path */
    char *folder;
    struct wfdb_header header;
    struct group groups[LEADS_MAX];
    int n_groups;
};

static void reading_free(struct reading *g) {
    for (int i = 0; i < g->n_groups; i++) free(g->groups[i].owned);
    wfdb_header_free(&g->header);
    free(g->folder);
}

/* Bytes that n samples need; a last 212 pair may be cut after its first sample. */
static uint64_t bytes_needed(const struct format *f, uint64_t n) {
    return f->samples == 1 ? n * (uint64_t)f->bytes : n / 2 * 3 + n % 2 * 2;
}

static uint64_t samples_held(const struct format *f, uint64_t size) {
    uint64_t bytes = (uint64_t)f->bytes, whole = size / bytes * (uint64_t)f->samples;
    return f->samples == 2 && size % bytes == 2 ? whole + 1 : whole;
}

/* Finds which signals share a file, and that they agree on how it is stored. */
static enum ecg_status find_groups(struct reading *g) {
    const struct wfdb_signal *s = g->header.signals;
    for (int i = 0; i < g->header.n_signals; i++) {
        struct group *last = g->n_groups ? &g->groups[g->n_groups - 1] : NULL;
        if (last && strcmp(s[i].file, s[i - 1].file) == 0) {
            if (s[i].format != s[i - 1].format || s[i].offset != s[i - 1].offset)
                return ecg_fail(ECG_ERR_DATA, "%s: signals of %s disagree on its format", g->where,
                                s[i].file);
            last->n++;
            continue;
        }
        for (int k = 0; k + 1 < i; k++)
            if (strcmp(s[k].file, s[i].file) == 0)
                return ecg_fail(ECG_ERR_DATA, "%s: signals of %s don't stand together", g->where,
                                s[i].file);
        const struct format *f = find_format(s[i].format);
        if (!f)
            return ecg_fail(ECG_ERR_DATA, "%s: format %d of %s can't be read (16, 80 and 212 can)",
                            g->where, s[i].format, s[i].file);
        g->groups[g->n_groups++] = (struct group){.first = i, .n = 1, .format = f};
    }
    return ECG_OK;
}

/* Reads a group's file; the first one's size gives the length where the header has none. */
static enum ecg_status load_group(struct reading *g, struct group *group) {
    struct wfdb_header *h = &g->header;
    const struct wfdb_signal *s = &h->signals[group->first];
    char *path;
    size_t size;
    TRY(file_join(&path, g->folder, s->file));
    enum ecg_status status = file_read(path, max_data_bytes, &group->owned, &size);
    free(path);
    if (status == ECG_ERR_NOINPUT) return ecg_fail_prefix(ECG_ERR_DATA, "data file missing: ");
    TRY(status);
    if (s->offset > size)
        return ecg_fail(ECG_ERR_DATA, "%s: %zu bytes, the samples should start at byte %llu",
                        s->file, size, (unsigned long long)s->offset);
    group->data = (uint8_t *)group->owned + s->offset;
    group->size = size - (size_t)s->offset;
    if (!h->has_length) {
        h->length = samples_held(group->format, group->size) / (uint64_t)group->n;
        h->has_length = h->length > 0;
    }
    uint64_t n;
    if (!h->has_length || __builtin_mul_overflow(h->length, (uint64_t)group->n, &n) ||
        n > UINT64_MAX / 4 || bytes_needed(group->format, n) > group->size)
        return ecg_fail(
            ECG_ERR_DATA,
            "%s: truncated: %zu bytes hold fewer samples than the header's %d signals of %llu",
            s->file, group->size, group->n, (unsigned long long)h->length);
    return ECG_OK;
}

/* Compares initial value and checksum as they stand in the file, before any skew is undone. */
static enum ecg_status verify(const struct reading *g, const struct group *group, int k) {
    const struct wfdb_signal *s = &g->header.signals[group->first + k];
    int32_t first = group->format->get(group->data, (uint64_t)k);
    if (s->has_init && s->init != first)
        return ecg_fail(ECG_ERR_DATA, "%s: signal %s starts with %d, its header says %lld", s->file,
                        s->name, first, (long long)s->init);
    if (!s->has_checksum) return ECG_OK;
    uint32_t sum = 0;
    for (uint64_t t = 0; t < g->header.length; t++)
        sum += (uint32_t)group->format->get(group->data, t * (uint64_t)group->n + (uint64_t)k);
    if ((uint16_t)sum != (uint16_t)s->checksum)
        return ecg_fail(ECG_ERR_DATA,
                        "%s: signal %s has checksum %d, its header says %lld: the data are damaged",
                        s->file, s->name, (int16_t)sum, (long long)s->checksum);
    return ECG_OK;
}

/* Physical units per mV; 0 for a unit that is no voltage. */
static double units_per_mv(const char *units) {
    if (strcasecmp(units, "mV") == 0) return 1;
    if (strcasecmp(units, "uV") == 0 || strcmp(units, "\xc2\xb5V") == 0) return 1000;
    if (strcasecmp(units, "V") == 0) return 1e-3;
    return 0;
}

/* One signal in mV, NaN where there is no sample. `fits`: all adc - baseline are int16. */
static void convert(const struct reading *g, const struct group *group, int k, double *out,
                    bool *fits) {
    const struct wfdb_signal *s = &g->header.signals[group->first + k];
    double per_mv = units_per_mv(s->units);
    uint64_t length = g->header.length;
    for (uint64_t t = 0; t < length; t++) {
        int32_t adc = group->format->invalid;
        if (s->skew < length - t)
            adc = group->format->get(group->data, (t + s->skew) * (uint64_t)group->n + (uint64_t)k);
        if (adc == group->format->invalid) {
            out[t] = NAN;
            continue;
        }
        double v = (double)adc - (double)s->baseline;
        if (!(v >= INT16_MIN && v <= INT16_MAX)) *fits = false;
        out[t] = v / s->gain;
        if (per_mv != 1) out[t] /= per_mv;
    }
}

/* Keeps the voltages; a standard lead in another unit is refused, other signals are left out. */
static enum ecg_status choose_signals(const struct reading *g, bool *keep, int *n_kept) {
    *n_kept = 0;
    for (int i = 0; i < g->header.n_signals; i++) {
        const struct wfdb_signal *s = &g->header.signals[i];
        keep[i] = units_per_mv(s->units) > 0;
        *n_kept += keep[i];
        if (!keep[i] && leads_find(&leads_standard12, s->name) >= 0)
            return ecg_fail(ECG_ERR_DATA, "%s: lead %s is in \"%s\": mV, uV and V can be read",
                            g->where, s->name, s->units);
    }
    if (*n_kept == 0) return ecg_fail(ECG_ERR_DATA, "%s: no signal in mV, uV or V", g->where);
    return ECG_OK;
}

static enum ecg_status add_lead(struct record *r, const struct reading *g,
                                const struct wfdb_signal *s) {
    if (leads_find(&r->leads, s->name) >= 0)
        return ecg_fail(ECG_ERR_DATA, "%s: lead %s stands twice", g->where, s->name);
    strcpy(r->leads.name[r->leads.n++], s->name);
    double gain = s->gain * units_per_mv(s->units);
    if (r->leads.n == 1) r->gain = gain;
    if (gain != r->gain || !(gain > 0)) r->has_adc = false;
    return ECG_OK;
}

static enum ecg_status build(const struct reading *g, struct record *r) {
    bool keep[LEADS_MAX];
    int n_kept;
    TRY(choose_signals(g, keep, &n_kept));
    r->sampling_rate = g->header.rate;
    r->length = (size_t)g->header.length;
    r->has_adc = true;
    strcpy(r->units, "mV");
    TRY(MEM_NEW(&r->signal, (size_t)n_kept * r->length));
    for (int i = 0; i < g->n_groups; i++) {
        const struct group *group = &g->groups[i];
        for (int k = 0; k < group->n; k++) {
            TRY(verify(g, group, k));
            if (!keep[group->first + k]) continue;
            double *out = r->signal + (size_t)r->leads.n * r->length;
            TRY(add_lead(r, g, &g->header.signals[group->first + k]));
            convert(g, group, k, out, &r->has_adc);
        }
    }
    return ECG_OK;
}

/* "a/b" or "a/b.hea" to the header's path and its folder. */
static enum ecg_status header_path(const char *path, char **header, char **folder) {
    size_t n = strlen(path);
    bool has_ending = n > 4 && strcmp(path + n - 4, ".hea") == 0;
    TRY(MEM_NEW(header, n + 5));
    strcpy(*header, path);
    if (!has_ending) strcat(*header, ".hea");
    const char *slash = strrchr(path, '/');
    *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    if (!*folder) return ecg_fail(ECG_ERR_NOMEM, "out of memory");
    return ECG_OK;
}

enum ecg_status wfdb_read_header(char **text, const char *path) {
    char *header, *folder = NULL;
    size_t size;
    enum ecg_status status = header_path(path, &header, &folder);
    if (status == ECG_OK) status = file_read(header, max_header_bytes, text, &size);
    free(header);
    free(folder);
    return status;
}

enum ecg_status wfdb_read(struct record *r, const char *path) {
    *r = (struct record){0};
    struct reading g = {0};
    char *header = NULL, *text = NULL;
    size_t size;
    enum ecg_status status;
    TRY_OUT(header_path(path, &header, &g.folder));
    g.where = header;
    TRY_OUT(file_read(header, max_header_bytes, &text, &size));
    TRY_OUT(wfdb_header_parse(&g.header, text, size, header));
    TRY_OUT(find_groups(&g));
    for (int i = 0; i < g.n_groups; i++) TRY_OUT(load_group(&g, &g.groups[i]));
    TRY_OUT(build(&g, r));
out:
    free(text);
    reading_free(&g);
    free(header);
    if (status != ECG_OK) record_free(r);
    return status;
}
