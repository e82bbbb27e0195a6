/* SPDX-License-Identifier: MIT
 * One shard's attributes and tables: read, checked for shape and type, and noted where they lie. The records
 * themselves are not read. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "data/dataset_private.h"

static enum ecg_status read_text(struct h5_file *f, const char *name, char *to, size_t size,
                                 const char *path) {
    char *text;
    bool found;
    TRY(h5_attr_text(f, "/", name, &text, &found));
    if (!found) {
        to[0] = 0;
        return ECG_OK;
    }
    enum ecg_status status = ECG_OK;
    if (strlen(text) >= size)
        status = ecg_fail(ECG_ERR_DATA, "%s: attribute %s is longer than %zu bytes", path, name,
                          size - 1);
    else
        strcpy(to, text);
    free(text);
    return status;
}

static enum ecg_status check_format(struct h5_file *f, const char *path) {
    char format[32];
    double version = 0;
    TRY(read_text(f, "format", format, sizeof format, path));
    if (strcmp(format, "ecg-shard") != 0)
        return ecg_fail(ECG_ERR_DATA,
                        "%s: is no shard: attribute format is \"%s\", \"ecg-shard\" wanted", path,
                        format);
    TRY(h5_attr_number(f, "/", "version", &version, NULL));
    if (version != 1)
        return ecg_fail(ECG_ERR_DATA, "%s: shard version %g, only 1 is known", path, version);
    return ECG_OK;
}

static enum ecg_status read_leads(struct h5_file *f, const char *path, struct leads *leads) {
    char *text;
    TRY(h5_attr_text(f, "/", "leads", &text, NULL));
    for (char *c = text; *c != 0; c++)
        if (*c == '\n') *c = ','; // an array of strings came as lines
    enum ecg_status status = leads_parse(leads, text);
    free(text);
    return status == ECG_OK ? ECG_OK : ecg_fail_prefix(status, "%s: attribute leads: ", path);
}

static enum ecg_status read_attributes(struct h5_file *f, const char *path,
                                       struct shard_schema *schema, bool first) {
    TRY(check_format(f, path));
    TRY(h5_attr_number(f, "/", "sampling_rate", &schema->sampling_rate, NULL));
    if (!(schema->sampling_rate > 0 && schema->sampling_rate <= SHARD_MAX_RATE))
        return ecg_fail(ECG_ERR_DATA, "%s: sampling_rate %g Hz can't be", path,
                        schema->sampling_rate);
    TRY(read_leads(f, path, &schema->leads));
    TRY(read_text(f, "units", schema->units, sizeof schema->units, path));
    TRY(read_text(f, "preprocessing", schema->preprocessing, sizeof schema->preprocessing, path));
    if (schema->units[0] == 0) {
        if (first) log_warn("%s: no attribute units, \"none\" is assumed", path);
        strcpy(schema->units, "none");
    }
    if (schema->preprocessing[0] == 0) {
        if (first) log_warn("%s: no attribute preprocessing, \"none\" (raw) is assumed", path);
        strcpy(schema->preprocessing, "none");
    }
    if (strcmp(schema->units, "mV") != 0 && strcmp(schema->units, "none") != 0)
        return ecg_fail(ECG_ERR_DATA, "%s: units \"%s\", \"mV\" or \"none\" wanted", path,
                        schema->units);
    return ECG_OK;
}

static enum ecg_status read_ecg(struct h5_file *f, struct shard *s, struct shard_schema *schema) {
    struct h5_info *e = &s->ecg;
    char found[32];
    TRY(h5_dataset_info(f, "/ecg", e));
    if (e->type != H5_INT || e->item_bytes != 2 || !e->is_signed)
        return ecg_fail(ECG_ERR_DATA, "%s: /ecg: int16 wanted, found %s", s->path,
                        h5_type_name(e, found));
    if (e->ndim != 3)
        return ecg_fail(ECG_ERR_DATA, "%s: /ecg: 3 axes (records, leads, samples) wanted, found %d",
                        s->path, e->ndim);
    if (e->shape[1] != (uint64_t)schema->leads.n)
        return ecg_fail(ECG_ERR_DATA, "%s: /ecg: has %llu leads, attribute leads names %d", s->path,
                        (unsigned long long)e->shape[1], schema->leads.n);
    if (e->shape[2] < 1 || e->shape[2] > INT_MAX / 2 / LEADS_MAX)
        return ecg_fail(ECG_ERR_DATA, "%s: /ecg: records of %llu samples can't be", s->path,
                        (unsigned long long)e->shape[2]);
    s->n = (size_t)e->shape[0];
    schema->length = (int)e->shape[2];
    bool chunked = e->chunk[0] > 0 && e->little_endian;
    s->layout = e->contiguous && e->native ? ECG_CONTIGUOUS : chunked ? ECG_CHUNKED : ECG_SLOW;
    return ECG_OK;
}

/* A table with a row a record; `what` is "numbers" or "texts". */
static enum ecg_status read_table(struct h5_file *f, const struct shard *s, const char *name,
                                  int ndim, struct h5_info *info) {
    TRY(h5_dataset_info(f, name, info));
    if (info->ndim != ndim)
        return ecg_fail(ECG_ERR_DATA, "%s: %s: %d axes wanted, found %d", s->path, name, ndim,
                        info->ndim);
    if (info->shape[0] != s->n)
        return ecg_fail(ECG_ERR_DATA, "%s: %s: has %llu rows, /ecg %zu", s->path, name,
                        (unsigned long long)info->shape[0], s->n);
    return ECG_OK;
}

static enum ecg_status read_numbers(struct h5_file *f, const struct shard *s, const char *name,
                                    int ndim, struct h5_info *info) {
    char found[32];
    TRY(read_table(f, s, name, ndim, info));
    if (info->type != H5_INT && info->type != H5_FLOAT)
        return ecg_fail(ECG_ERR_DATA, "%s: %s: numbers wanted, found %s", s->path, name,
                        h5_type_name(info, found));
    return ECG_OK;
}

static enum ecg_status read_texts(struct h5_file *f, const struct shard *s, const char *name,
                                  struct h5_info *info) {
    char found[32];
    TRY(read_table(f, s, name, 1, info));
    if (info->type != H5_TEXT && info->type != H5_INT)
        return ecg_fail(ECG_ERR_DATA, "%s: %s: texts wanted, found %s", s->path, name,
                        h5_type_name(info, found));
    return ECG_OK;
}

/* /labels or /targets with its attribute names; none is fine. */
static enum ecg_status read_named(struct h5_file *f, struct shard *s, const char *name,
                                  struct table *t, struct names *names) {
    t->there = h5_has(f, name);
    if (!t->there) return ECG_OK;
    TRY(read_numbers(f, s, name, 2, &t->info));
    char *text, where[64];
    bool found;
    TRY(h5_attr_text(f, name, "names", &text, &found));
    if (!found && t->info.shape[1] > 0)
        return ecg_fail(ECG_ERR_DATA, "%s: %s: attribute names is missing (a name a line)", s->path,
                        name);
    enum ecg_status status = ECG_OK;
    if (t->info.shape[1] > 0) {
        snprintf(where, sizeof where, "%s: attribute names", name);
        status = names_parse(names, text, where);
    }
    free(text);
    if (status != ECG_OK) return ecg_fail_prefix(status, "%s: ", s->path);
    if (t->info.shape[1] != (uint64_t)names->n)
        return ecg_fail(ECG_ERR_DATA, "%s: %s: has %llu columns and %d names", s->path, name,
                        (unsigned long long)t->info.shape[1], names->n);
    t->width = names->n;
    return ECG_OK;
}

enum ecg_status dataset_header_read(struct shard *s, struct shard_schema *schema, bool first,
                                    struct h5_file **file) {
    struct h5_file *f;
    struct h5_info fold;
    *file = NULL;
    TRY(h5_open_guarded(&f, s->path));
    enum ecg_status status;
    TRY_OUT(read_attributes(f, s->path, schema, first));
    TRY_OUT(read_ecg(f, s, schema));

    struct table *scale = &s->columns[COLUMN_SCALE];
    scale->there = true;
    scale->width = 1;
    TRY_OUT(read_numbers(f, s, "/scale", 1, &scale->info));
    TRY_OUT(read_named(f, s, "/labels", &s->columns[COLUMN_LABELS], &schema->labels));
    TRY_OUT(read_named(f, s, "/targets", &s->columns[COLUMN_TARGETS], &schema->targets));
    TRY_OUT(read_texts(f, s, "/record_id", &s->record_id));
    s->has_patient_id = h5_has(f, "/patient_id");
    if (s->has_patient_id) TRY_OUT(read_texts(f, s, "/patient_id", &s->patient_id));
    schema->has_fold = h5_has(f, "/fold");
    if (schema->has_fold) TRY_OUT(read_numbers(f, s, "/fold", 1, &fold));
    *file = f;
    return ECG_OK;
out:
    h5_close(f);
    return status;
}
