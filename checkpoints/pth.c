/* SPDX-License-Identifier: MIT
 * From a pickle's tree to tensors. The archive and the pickle have been checked for themselves; here every tensor is
 * checked against the storage that it names: dtype, number of elements, and that no stride leads outside. */
#include "checkpoints/pth.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/pickle.h"
#include "checkpoints/zip.h"
#include "core/log.h"
#include "core/mem.h"

#define MAX_KEY    64 /* bytes of a storage's key; PyTorch's are small numbers */
#define STATE_DICT "state_dict"
#define METADATA   "einthoven"
/* All tensors together may have so many times the file's bytes: tensors that share a storage can't multiply a small file. */
#define MAX_TIMES  4

struct reader {
    struct safetensors *s;
    struct zip zip;
    struct pickle pickle;
    char *member; /* PREFIX/data/KEY: room for any */
    size_t n_prefix;
    char *where;  /* "model.pth: data.pkl" */
    char *names;  /* where the next name goes */
    size_t total; /* bytes of all tensors so far */
};

/* ---- one tensor ---- */

/* A view of a storage, in elements. */
struct view {
    const char *data; /* the storage's */
    uint64_t n, offset;
    uint64_t stride[SAFETENSORS_MAX_NDIM];
};

static enum ecg_status bad_tensor(const struct reader *r, const char *name, const char *what) {
    return ecg_fail(ECG_ERR_DATA, "%s: tensor \"%.100s\": %s", r->s->path, name, what);
}

static bool is_count(const struct pickle_value *v) {
    return v && v->kind == PICKLE_INTEGER && v->integer >= 0;
}

/* The member that holds the bytes of a storage ('storage', type, key, device, number of elements). */
static enum ecg_status read_storage(const struct reader *r, struct safetensors_entry *e,
                                    const struct pickle_value *storage, struct view *v) {
    const struct pickle *p = &r->pickle;
    if (!storage || storage->kind != PICKLE_STORAGE)
        return bad_tensor(r, e->name, "it has no storage");
    const struct pickle_value *key = pickle_item(p, storage, 2), *n = pickle_item(p, storage, 4);
    if (!pickle_storage_dtype(pickle_item(p, storage, 1), &e->dtype))
        return bad_tensor(r, e->name, "a storage of unknown type");
    if (!key || key->kind != PICKLE_STRING || key->n > MAX_KEY || !is_count(n))
        return bad_tensor(r, e->name, "a storage without a key or a size");
    e->dtype_name = safetensors_dtype_name(e->dtype);
    memcpy(r->member + r->n_prefix, "data/", 5);
    memcpy(r->member + r->n_prefix + 5, key->text, key->n);
    struct zip_member *m = zip_find(&r->zip, r->member, r->n_prefix + 5 + key->n);
    if (!m)
        return ecg_fail(ECG_ERR_DATA, "%s: tensor \"%.100s\": the archive has no member \"%.*s\"",
                        r->s->path, e->name, (int)(r->n_prefix + 5 + key->n), r->member);
    TRY(zip_check(&r->zip, m));
    size_t size = safetensors_dtype_bytes(e->dtype);
    v->data = m->data;
    v->n = (uint64_t)n->integer;
    if (v->n == m->bytes / size) return ECG_OK;
    return ecg_fail(
        ECG_ERR_DATA,
        "%s: tensor \"%.100s\": its storage has %lld elements of %s, the archive's member "
        "for it %zu bytes",
        r->s->path, e->name, (long long)n->integer, e->dtype_name, m->bytes);
}

/* Shape and strides, and that the last element still lies in the storage. */
static enum ecg_status read_view(const struct reader *r, struct safetensors_entry *e,
                                 const struct pickle_value *shape,
                                 const struct pickle_value *strides, struct view *v) {
    if (!shape || !strides || shape->kind != PICKLE_TUPLE || strides->kind != PICKLE_TUPLE ||
        shape->n != strides->n)
        return bad_tensor(r, e->name, "shape and strides are no two tuples of one length");
    if (shape->n > SAFETENSORS_MAX_NDIM) return bad_tensor(r, e->name, "it has more than 8 axes");
    uint64_t last = v->offset;
    bool fits = true, inside = true; /* the number of elements fits, the last one lies inside */
    e->ndim = (int)shape->n;
    e->n = 1;
    for (int i = 0; i < e->ndim; i++) {
        const struct pickle_value *extent = pickle_item(&r->pickle, shape, (uint32_t)i),
                                  *stride = pickle_item(&r->pickle, strides, (uint32_t)i);
        if (!is_count(extent) || !is_count(stride))
            return bad_tensor(r, e->name, "its shape or strides hold something other than sizes");
        e->shape[i] = extent->integer;
        v->stride[i] = (uint64_t)stride->integer;
        uint64_t way = 0;
        fits &= !__builtin_mul_overflow(e->n, (size_t)extent->integer, &e->n);
        if (extent->integer > 0)
            inside &= !__builtin_mul_overflow((uint64_t)extent->integer - 1, v->stride[i], &way);
        inside &= !__builtin_add_overflow(last, way, &last);
    }
    fits &= !__builtin_mul_overflow(e->n, safetensors_dtype_bytes(e->dtype), &e->bytes);
    if (fits && (e->n == 0 || (inside && last < v->n))) return ECG_OK;
    return ecg_fail(
        ECG_ERR_DATA,
        "%s: tensor \"%.100s\": with its offset, shape and strides it reaches beyond the "
        "%llu elements of its storage",
        r->s->path, e->name, (unsigned long long)v->n);
}

static bool is_contiguous(const struct safetensors_entry *e, const struct view *v) {
    uint64_t step = 1;
    for (int i = e->ndim; i-- > 0;) {
        if (e->shape[i] != 1 && v->stride[i] != step) return false;
        step *= (uint64_t)e->shape[i];
    }
    return true;
}

/* Elements in the order of their indices, the last axis fastest. */
static void gather(const struct safetensors_entry *e, const struct view *v, char *to) {
    size_t size = safetensors_dtype_bytes(e->dtype);
    int64_t index[SAFETENSORS_MAX_NDIM] = {0};
    uint64_t at = v->offset;
    for (size_t done = 0; done < e->n; done++) {
        memcpy(to + done * size, v->data + at * size, size);
        for (int i = e->ndim; i-- > 0;) {
            at += v->stride[i];
            if (++index[i] < e->shape[i]) break;
            at -= v->stride[i] * (uint64_t)e->shape[i];
            index[i] = 0;
        }
    }
}

static enum ecg_status read_tensor(struct reader *r, struct safetensors_entry *e,
                                   const struct pickle_value *tensor) {
    const struct pickle *p = &r->pickle;
    struct safetensors *s = r->s;
    struct view v = {0};
    if (tensor->kind != PICKLE_TENSOR)
        return bad_tensor(r, e->name, "the state_dict holds something else under this name");
    const struct pickle_value *offset = pickle_item(p, tensor, 1);
    if (!is_count(offset)) return bad_tensor(r, e->name, "its offset is no size");
    v.offset = (uint64_t)offset->integer;
    TRY(read_storage(r, e, pickle_item(p, tensor, 0), &v));
    TRY(read_view(r, e, pickle_item(p, tensor, 2), pickle_item(p, tensor, 3), &v));
    if (e->bytes > MAX_TIMES * s->map.size - r->total)
        return bad_tensor(r, e->name,
                          "it and those before it have more than four times the "
                          "file's bytes");
    r->total += e->bytes;
    e->data = v.data;
    if (e->n == 0) return ECG_OK;
    if (is_contiguous(e, &v)) {
        e->data = v.data + v.offset * safetensors_dtype_bytes(e->dtype);
        return ECG_OK;
    }
    char *data;
    TRY(MEM_NEW(&data, e->bytes));
    s->owned[s->n_owned++] = data;
    gather(e, &v, data);
    e->data = data;
    return ECG_OK;
}

/* ---- the dicts ---- */

/* Copies a name. */
static enum ecg_status read_name(struct reader *r, struct safetensors_entry *e,
                                 const struct pickle_value *key) {
    bool fits = key->kind == PICKLE_STRING && key->n <= PICKLE_MAX_NAME;
    if (fits) memcpy(r->names, key->text, key->n);
    if (!fits || strlen(r->names) != key->n || !pickle_is_name(r->names))
        return ecg_fail(ECG_ERR_DATA, "%s: the state_dict has a key that is no name", r->where);
    e->name = r->names;
    r->names += key->n + 1;
    return ECG_OK;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct safetensors_entry *)a)->name,
                  ((const struct safetensors_entry *)b)->name);
}

static enum ecg_status read_state_dict(struct reader *r, const struct pickle_value *dict) {
    const struct pickle *p = &r->pickle;
    struct safetensors *s = r->s;
    size_t n = dict->n / 2, room = 1;
    uint32_t c = dict->cells.first;
    if (n == 0) return ecg_fail(ECG_ERR_DATA, "%s: the state_dict is empty", r->where);
    for (size_t i = 0; i < n; i++, c = p->cells[p->cells[c].next].next) {
        const struct pickle_value *key = pickle_at(p, p->cells[c].value);
        room += key->kind == PICKLE_STRING && key->n <= PICKLE_MAX_NAME ? key->n + 1 : 0;
    }
    if (room > s->map.size) /* so some are the same */
        return ecg_fail(ECG_ERR_DATA, "%s: the state_dict has tensors twice", r->where);
    TRY(MEM_NEW(&s->entries, n));
    TRY(MEM_NEW(&s->owned, n + 1));
    TRY(MEM_NEW(&r->names, room));
    s->owned[s->n_owned++] = r->names;
    c = dict->cells.first;
    for (size_t i = 0; i < n; i++) {
        struct safetensors_entry *e = &s->entries[s->n_entries];
        uint32_t value = p->cells[c].next;
        TRY(read_name(r, e, pickle_at(p, p->cells[c].value)));
        TRY(read_tensor(r, e, pickle_at(p, p->cells[value].value)));
        c = p->cells[value].next;
        s->n_entries++;
    }
    qsort(s->entries, n, sizeof *s->entries, by_name);
    for (size_t i = 1; i < n; i++)
        if (!strcmp(s->entries[i - 1].name, s->entries[i].name))
            return bad_tensor(r, s->entries[i].name, "the state_dict has it twice");
    return ECG_OK;
}

static enum ecg_status copy_string(const struct reader *r, const struct pickle_value *v,
                                   char **out) {
    if (v->kind != PICKLE_STRING || memchr(v->text, 0, v->n))
        return ecg_fail(ECG_ERR_DATA, "%s: \"" METADATA "\" holds something other than text",
                        r->where);
    TRY(MEM_NEW(out, (size_t)v->n + 1));
    memcpy(*out, v->text, v->n);
    return ECG_OK;
}

static enum ecg_status read_metadata(struct reader *r, const struct pickle_value *dict) {
    const struct pickle *p = &r->pickle;
    struct safetensors *s = r->s;
    size_t n = dict->n / 2, bytes = 0;
    uint32_t c = dict->cells.first;
    TRY(MEM_NEW(&s->meta_keys, n));
    TRY(MEM_NEW(&s->meta_values, n));
    for (size_t i = 0; i < n; i++) {
        uint32_t value = p->cells[c].next;
        const struct pickle_value *k = pickle_at(p, p->cells[c].value),
                                  *v = pickle_at(p, p->cells[value].value);
        bytes += (size_t)k->n + v->n;
        if (bytes > s->map.size)
            return ecg_fail(ECG_ERR_DATA, "%s: \"" METADATA "\" is larger than the file", r->where);
        s->n_meta = i + 1;
        TRY(copy_string(r, k, &s->meta_keys[i]));
        TRY(copy_string(r, v, &s->meta_values[i]));
        c = p->cells[value].next;
    }
    return ECG_OK;
}

static enum ecg_status read_root(struct reader *r) {
    const struct pickle_value *root = pickle_at(&r->pickle, r->pickle.root), *state, *meta;
    if (root->kind != PICKLE_DICT)
        return ecg_fail(ECG_ERR_DATA,
                        "%s: neither a state_dict nor a dict with a \"" STATE_DICT "\"", r->where);
    state = pickle_get(&r->pickle, root, STATE_DICT);
    if (!state) return read_state_dict(r, root);
    if (state->kind != PICKLE_DICT)
        return ecg_fail(ECG_ERR_DATA, "%s: its \"" STATE_DICT "\" is no dict", r->where);
    TRY(read_state_dict(r, state));
    meta = pickle_get(&r->pickle, root, METADATA);
    return meta && meta->kind == PICKLE_DICT ? read_metadata(r, meta) : ECG_OK;
}

/* ---- the archive ---- */

static bool ends_with(const struct zip_member *m, const char *suffix) {
    size_t n = strlen(suffix);
    return m->name_bytes >= n && !memcmp(m->name + m->name_bytes - n, suffix, n);
}

/* All members stand in one folder, whose name is free: the one that holds data.pkl. */
static enum ecg_status find_pickle(struct reader *r, struct zip_member **found) {
    *found = NULL;
    for (size_t i = 0; i < r->zip.n; i++) {
        struct zip_member *m = &r->zip.members[i];
        if (!ends_with(m, "/data.pkl")) continue;
        if (memchr(m->name, '/', m->name_bytes) != m->name + m->name_bytes - 9) continue;
        if (*found) return ecg_fail(ECG_ERR_DATA, "%s: it holds several data.pkl", r->s->path);
        *found = m;
    }
    if (!*found)
        return ecg_fail(ECG_ERR_DATA,
                        "%s: a zip archive, but none of torch.save: it holds no NAME/data.pkl",
                        r->s->path);
    r->n_prefix = (*found)->name_bytes - 8;
    TRY(MEM_NEW(&r->member, (*found)->name_bytes + MAX_KEY));
    memcpy(r->member, (*found)->name, r->n_prefix);
    return ECG_OK;
}

static enum ecg_status check_byte_order(const struct reader *r) {
    memcpy(r->member + r->n_prefix, "byteorder", 9);
    struct zip_member *m = zip_find(&r->zip, r->member, r->n_prefix + 9);
    if (!m) return ECG_OK; /* before PyTorch 2.1 */
    TRY(zip_check(&r->zip, m));
    if (m->bytes >= 6 && !memcmp(m->data, "little", 6)) return ECG_OK;
    return ecg_fail(ECG_ERR_DATA, "%s: its numbers are not little-endian", r->s->path);
}

static enum ecg_status read_archive(struct reader *r) {
    struct safetensors *s = r->s;
    struct zip_member *m;
    TRY(zip_open(&r->zip, s->path, s->map.data, s->map.size));
    TRY(find_pickle(r, &m));
    TRY(check_byte_order(r));
    TRY(zip_check(&r->zip, m));
    TRY(MEM_NEW(&r->where, strlen(s->path) + 16));
    strcat(strcpy(r->where, s->path), ": data.pkl");
    TRY(pickle_read(&r->pickle, r->where, m->data, m->bytes));
    TRY(read_root(r));
    if (!r->zip.has_crc)
        log_warn("%s: saved without checksums, so damage to its numbers could not be seen",
                 s->path);
    return ECG_OK;
}

static enum ecg_status read_file(struct safetensors *s) {
    struct reader r = {.s = s};
    enum ecg_status status = read_archive(&r);
    pickle_free(&r.pickle);
    zip_close(&r.zip);
    free(r.member);
    free(r.where);
    return status;
}

/* ---- which format ---- */

/* safetensors have no magic number: their header's length may look like anything, but then comes a '{', which is no method of
 * compression in a zip archive, nor part of the old formats. */
static bool has_brace(const struct file_map *m) {
    return m->size > 8 && m->data[8] == '{';
}

static bool starts_with(const struct file_map *m, size_t at, const char *bytes, size_t n) {
    return m->size >= at + n && !memcmp(m->data + at, bytes, n);
}

/* It starts with a member or, empty, with its end. */
static bool is_zip(const struct file_map *m) {
    return starts_with(m, 0, "PK\5\6", 4) || starts_with(m, 0, "PK\3\4", 4);
}

/* What torch.save wrote before 1.6: a pickle that starts with a magic number, before that a tar archive. */
static bool is_legacy(const struct file_map *m) {
    return starts_with(m, 0, "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 14) ||
           starts_with(m, 257, "ustar", 5);
}

static bool is_pickle(const struct file_map *m) {
    return m->size > 2 && m->data[0] == '\x80' && m->data[1] >= 2 && m->data[1] <= 5;
}

/* ---- prefixes ---- */

/* Whether all names start with the prefix and go on behind it. */
static bool all_have(const struct safetensors *s, const char *prefix) {
    size_t n = strlen(prefix);
    for (size_t i = 0; i < s->n_entries; i++)
        if (strncmp(s->entries[i].name, prefix, n) != 0 || !s->entries[i].name[n]) return false;
    return s->n_entries > 0;
}

/* What DataParallel and torch.compile put before all names. */
static void strip_prefixes(struct safetensors *s) {
    static const char *const prefixes[] = {"module.", "_orig_mod."};
    for (size_t k = 0; k < 2;) {
        if (!all_have(s, prefixes[k])) {
            k++;
            continue;
        }
        for (size_t i = 0; i < s->n_entries; i++) s->entries[i].name += strlen(prefixes[k]);
        k = 0;
    }
}

enum ecg_status pth_or_safetensors_open(struct safetensors *s, const char *path) {
    *s = (struct safetensors){0};
    enum ecg_status status = ECG_OK;
    TRY_OUT(file_map_open(&s->map, path));
    if (!has_brace(&s->map) && is_legacy(&s->map))
        TRY_OUT(ecg_fail(ECG_ERR_DATA,
                         "%s: a file of PyTorch before 1.6, which is not read: load it in PyTorch "
                         "1.6 or later and torch.save it again",
                         path));
    if (!has_brace(&s->map) && is_pickle(&s->map))
        TRY_OUT(ecg_fail(ECG_ERR_DATA, "%s: a Python pickle that torch.save did not write", path));
    if (has_brace(&s->map) || !is_zip(&s->map)) {
        file_map_close(&s->map);
        TRY(safetensors_open(s, path));
    } else {
        TRY_OUT(mem_strdup(&s->path, path));
        TRY_OUT(read_file(s));
    }
    strip_prefixes(s);
out:
    if (status != ECG_OK) safetensors_close(s);
    return status;
}
