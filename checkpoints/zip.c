/* SPDX-License-Identifier: MIT
 * The directory at the archive's end is what counts: where a member's own header has sizes at all, they must be the same.
 * Every number is checked before it becomes an address, and members, sorted by place, must not touch each other, so that no
 * byte of the file is handed out twice (a small archive can't pretend to hold more than its own size). */
#include "checkpoints/zip.h"

#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"

#define END_BYTES       22
#define END64_BYTES     56
#define LOCATOR_BYTES   20
#define CENTRAL_BYTES   46
#define LOCAL_BYTES     30
#define MAX_COMMENT     65535
#define SIGN_END        0x06054b50u
#define SIGN_END64      0x06064b50u
#define SIGN_LOCATOR    0x07064b50u
#define SIGN_CENTRAL    0x02014b50u
#define SIGN_LOCAL      0x04034b50u
#define EXTRA_ZIP64     1
#define FLAG_ENCRYPTED  1
#define FLAG_DESCRIPTOR 8 /* sizes and CRC stand behind the data */
#define SATURATED16     0xffffu
#define SATURATED32     0xffffffffu

static uint16_t get16(const char *p) {
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint32_t get32(const char *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint64_t get64(const char *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* ---- reading ---- */

/* The archive on its way in; the directory lies at [begin, end). */
struct reader {
    const char *path;
    const char *data;
    size_t size;
    uint64_t n, begin, end;
};

static enum ecg_status bad(const struct reader *r, uint64_t at, const char *what) {
    return ecg_fail(ECG_ERR_DATA, "%s: byte %llu: %s", r->path, (unsigned long long)at, what);
}

/* n bytes at `at` lie before `limit`. */
static bool fits(uint64_t at, uint64_t n, uint64_t limit) {
    return at <= limit && n <= limit - at;
}

/* The end record stands at the file's end, in front of a comment of the length that it tells. */
static enum ecg_status find_end(const struct reader *r, size_t *at) {
    size_t least = r->size > END_BYTES + MAX_COMMENT ? r->size - END_BYTES - MAX_COMMENT : 0;
    if (r->size >= END_BYTES)
        for (size_t i = r->size - END_BYTES + 1; i-- > least;)
            if (get32(r->data + i) == SIGN_END &&
                get16(r->data + i + 20) == r->size - i - END_BYTES) {
                *at = i;
                return ECG_OK;
            }
    return ecg_fail(ECG_ERR_DATA,
                    "%s: a zip archive without a directory at its end (is the file truncated? it "
                    "has %zu bytes)",
                    r->path, r->size);
}

/* The ZIP64 end record, by its locator in front of the end record at `end`. */
static enum ecg_status read_end64(struct reader *r, size_t end) {
    if (end < LOCATOR_BYTES || get32(r->data + end - LOCATOR_BYTES) != SIGN_LOCATOR)
        return bad(r, end, "the zip directory needs a ZIP64 record, which is not there");
    size_t locator = end - LOCATOR_BYTES;
    uint64_t at = get64(r->data + locator + 8);
    if (!fits(at, END64_BYTES, locator) || get32(r->data + at) != SIGN_END64)
        return bad(r, locator, "the ZIP64 record is not where its locator says");
    const char *p = r->data + at;
    if (get32(p + 16) || get32(p + 20) || get64(p + 24) != get64(p + 32))
        return bad(r, at, "a zip archive in several parts");
    r->n = get64(p + 32);
    r->begin = get64(p + 48);
    r->end = get64(p + 40);
    return fits(r->begin, r->end, at) ? ECG_OK
                                      : bad(r, at, "the zip directory lies outside the file");
}

static enum ecg_status read_end(struct reader *r) {
    size_t at = 0;
    TRY(find_end(r, &at));
    const char *p = r->data + at;
    r->n = get16(p + 10);
    r->end = get32(p + 12); /* its size, so far */
    r->begin = get32(p + 16);
    if (r->n == SATURATED16 || r->end == SATURATED32 || r->begin == SATURATED32)
        TRY(read_end64(r, at));
    else if (get16(p + 4) || get16(p + 6) || get16(p + 8) != r->n)
        return bad(r, at, "a zip archive in several parts");
    else if (!fits(r->begin, r->end, at))
        return bad(r, at, "the zip directory lies outside the file");
    r->end += r->begin;
    if (r->n > (r->end - r->begin) / CENTRAL_BYTES)
        return bad(r, at, "the zip directory is too short for its number of members");
    return ECG_OK;
}

/* Sizes and place that don't fit into 32 bits stand in the ZIP64 field, in this order. */
static enum ecg_status read_extra(const struct reader *r, uint64_t at, size_t n,
                                  uint64_t *const wide[3]) {
    const char *p = r->data + at, *end = p + n;
    bool needed = false;
    for (int i = 0; i < 3; i++) needed |= *wide[i] == SATURATED32;
    if (!needed) return ECG_OK;
    while (end - p >= 4) {
        size_t bytes = get16(p + 2);
        const char *field = p + 4;
        if (bytes > (size_t)(end - field)) break;
        p = field + bytes;
        if (get16(field - 4) != EXTRA_ZIP64) continue;
        for (int i = 0; i < 3; i++) {
            if (*wide[i] != SATURATED32) continue;
            if (p - field < 8) return bad(r, at, "a ZIP64 field that is too short");
            *wide[i] = get64(field);
            field += 8;
        }
        return ECG_OK;
    }
    return bad(r, at, "a member of 4 GiB or more without a ZIP64 field");
}

/* Bytes of a name in a message. */
static int shown(const struct zip_member *m) {
    return m->name_bytes < 100 ? (int)m->name_bytes : 100;
}

static enum ecg_status bad_member(const struct reader *r, const struct zip_member *m,
                                  const char *what) {
    return ecg_fail(ECG_ERR_DATA, "%s: byte %zu: member \"%.*s\": %s", r->path, m->at, shown(m),
                    m->name, what);
}

/* The member's own header, behind which its data lie. */
static enum ecg_status read_local(const struct reader *r, struct zip_member *m) {
    if (!fits(m->at, LOCAL_BYTES, r->begin) || get32(r->data + m->at) != SIGN_LOCAL)
        return bad_member(r, m, "its header is not where the directory says");
    const char *p = r->data + m->at;
    size_t name_bytes = get16(p + 26), skip = LOCAL_BYTES + name_bytes + get16(p + 28);
    if (!fits(m->at, skip, r->begin) || !fits(m->at + skip, m->bytes, r->begin))
        return bad_member(r, m, "its data reach beyond the directory");
    if (name_bytes != m->name_bytes || memcmp(p + LOCAL_BYTES, m->name, name_bytes) != 0)
        return bad_member(r, m, "its header has another name");
    uint32_t packed = get32(p + 18), plain = get32(p + 22);
    bool told = !(get16(p + 6) & FLAG_DESCRIPTOR);
    if (told && packed != SATURATED32 && (packed != m->bytes || plain != m->bytes))
        return bad_member(r, m, "its header has another size than the directory");
    if (told && get32(p + 14) != m->crc)
        return bad_member(r, m, "its header has another CRC-32 than the directory");
    if (get16(p + 8) != 0) return bad_member(r, m, "its header says that it is compressed");
    m->data = p + skip;
    return ECG_OK;
}

static enum ecg_status read_central(const struct reader *r, uint64_t *at, struct zip_member *m) {
    if (!fits(*at, CENTRAL_BYTES, r->end) || get32(r->data + *at) != SIGN_CENTRAL)
        return bad(r, *at, "the zip directory is damaged");
    const char *p = r->data + *at;
    size_t name_bytes = get16(p + 28), extra_bytes = get16(p + 30), comment = get16(p + 32);
    uint64_t packed = get32(p + 20), plain = get32(p + 24), local = get32(p + 42);
    uint64_t extra = *at + CENTRAL_BYTES + name_bytes;
    if (!fits(*at, CENTRAL_BYTES + name_bytes + extra_bytes + comment, r->end))
        return bad(r, *at, "an entry of the zip directory reaches beyond it");
    TRY(read_extra(r, extra, extra_bytes, (uint64_t *const[3]){&plain, &packed, &local}));
    *at = extra + extra_bytes + comment;
    *m = (struct zip_member){.name = p + CENTRAL_BYTES,
                             .name_bytes = name_bytes,
                             .bytes = plain,
                             .at = local,
                             .crc = get32(p + 16)};
    if (get16(p + 8) & FLAG_ENCRYPTED) return bad_member(r, m, "it is encrypted");
    if (get16(p + 10) != 0)
        return bad_member(r, m, "it is compressed; torch.save stores (zip -0 does, too)");
    if (packed != plain) return bad_member(r, m, "it is stored, yet has two sizes");
    return read_local(r, m);
}

static int by_place(const void *a, const void *b) {
    const struct zip_member *x = a, *y = b;
    return (x->at > y->at) - (x->at < y->at);
}

static int by_name(const void *a, const void *b) {
    const struct zip_member *x = a, *y = b;
    size_t least = x->name_bytes < y->name_bytes ? x->name_bytes : y->name_bytes;
    int order = memcmp(x->name, y->name, least);
    return order ? order : (x->name_bytes > y->name_bytes) - (x->name_bytes < y->name_bytes);
}

static enum ecg_status read_all(const struct reader *r, struct zip *z) {
    uint64_t at = r->begin;
    TRY(MEM_NEW(&z->members, r->n));
    for (; z->n < r->n; z->n++) {
        TRY(read_central(r, &at, &z->members[z->n]));
        z->has_crc |= z->members[z->n].crc != 0;
    }
    if (at != r->end) return bad(r, at, "bytes behind the last entry of the zip directory");
    qsort(z->members, z->n, sizeof *z->members, by_place);
    for (size_t i = 1; i < z->n; i++) {
        const struct zip_member *m = &z->members[i - 1];
        if (m->data + m->bytes > r->data + m[1].at)
            return bad_member(r, &m[1], "it overlaps another member");
    }
    qsort(z->members, z->n, sizeof *z->members, by_name);
    for (size_t i = 1; i < z->n; i++)
        if (by_name(&z->members[i - 1], &z->members[i]) == 0)
            return bad_member(r, &z->members[i], "there are two of this name");
    return ECG_OK;
}

enum ecg_status zip_open(struct zip *z, const char *path, const char *data, size_t size) {
    struct reader r = {.path = path, .data = data, .size = size};
    *z = (struct zip){.path = path};
    enum ecg_status status = read_end(&r);
    if (status == ECG_OK) status = read_all(&r, z);
    if (status != ECG_OK) zip_close(z);
    return status;
}

void zip_close(struct zip *z) {
    free(z->members);
    *z = (struct zip){0};
}

struct zip_member *zip_find(const struct zip *z, const char *name, size_t name_bytes) {
    struct zip_member key = {.name = name, .name_bytes = name_bytes};
    if (!z->n) return NULL;
    return bsearch(&key, z->members, z->n, sizeof *z->members, by_name);
}

enum ecg_status zip_check(const struct zip *z, struct zip_member *m) {
    m->checked |= !z->has_crc;
    if (m->checked) return ECG_OK;
    uint32_t crc = libdeflate_crc32(0, m->data, m->bytes);
    m->checked = crc == m->crc;
    if (m->checked) return ECG_OK;
    return ecg_fail(ECG_ERR_DATA,
                    "%s: byte %zu: member \"%.*s\" is damaged: its CRC-32 is %08x, not %08x",
                    z->path, m->at, shown(m), m->name, (unsigned)crc, (unsigned)m->crc);
}

/* ---- writing ---- */

#define ALIGNMENT     64
#define PADDING_ID    0x4246 /* "FB", as torch.save pads */
#define EPOCH         0x21   /* 1980-01-01, the first day that a zip archive knows */
#define MAX_NAME      255
#define VERSION_ZIP   20 /* 2.0 */
#define VERSION_ZIP64 45 /* 4.5 */
#define MAX_EXTRA64   28 /* id, length, two sizes, place */

struct zip_written {
    char name[MAX_NAME + 1];
    uint64_t bytes, at;
    uint32_t crc;
};

static enum ecg_status put(struct zip_out *z, const void *data, size_t n) {
    if (n && fwrite(data, 1, n, z->file->stream) != n)
        return ecg_fail(ECG_ERR_IO, "%s: writing failed (is the disk full?)", z->file->path);
    z->at += n;
    return ECG_OK;
}

static char *set16(char *p, uint16_t v) {
    memcpy(p, &v, sizeof v);
    return p + sizeof v;
}

static char *set32(char *p, uint32_t v) {
    memcpy(p, &v, sizeof v);
    return p + sizeof v;
}

static char *set64(char *p, uint64_t v) {
    memcpy(p, &v, sizeof v);
    return p + sizeof v;
}

/* A number where it has 32 bits: itself, or what sends the reader to the ZIP64 field. */
static uint32_t narrow(uint64_t v) {
    return v < SATURATED32 ? (uint32_t)v : SATURATED32;
}

/* The ZIP64 field: what narrow() could not hold of the sizes and, in the directory, the place. */
static char *set_extra64(char *p, const struct zip_written *w, bool with_place) {
    bool sizes = w->bytes >= SATURATED32, place = with_place && w->at >= SATURATED32;
    if (!sizes && !place) return p;
    p = set16(p, EXTRA_ZIP64);
    p = set16(p, (uint16_t)(16 * sizes + 8 * place));
    if (sizes) p = set64(set64(p, w->bytes), w->bytes);
    return place ? set64(p, w->at) : p;
}

/* What the local and the central header have in common, from "version needed" to "extra field length". */
static char *set_common(char *p, const struct zip_written *w, size_t extra) {
    bool is_large = w->bytes >= SATURATED32 || w->at >= SATURATED32;
    p = set16(p, is_large ? VERSION_ZIP64 : VERSION_ZIP);
    p = set16(p, 0); /* flags */
    p = set16(p, 0); /* stored */
    p = set16(p, 0); /* time */
    p = set16(p, EPOCH);
    p = set32(p, w->crc);
    p = set32(p, narrow(w->bytes));
    p = set32(p, narrow(w->bytes));
    p = set16(p, (uint16_t)strlen(w->name));
    return set16(p, (uint16_t)extra);
}

/* Local header, name, ZIP64 field, a padding field that ends at a multiple of ALIGNMENT, data. */
enum ecg_status zip_put(struct zip_out *z, const char *name, const void *data, size_t n) {
    size_t name_bytes = strlen(name);
    if (name_bytes > MAX_NAME)
        return ecg_fail(ECG_ERR_FAIL, "%s: a name too long for a zip archive: %.40s...",
                        z->file->path, name);
    TRY(mem_grow((void **)&z->written, &z->cap, z->n + 1, sizeof *z->written));
    struct zip_written *w = &z->written[z->n++];
    memcpy(w->name, name, name_bytes + 1);
    w->bytes = n;
    w->crc = n ? libdeflate_crc32(0, data, n) : 0;
    w->at = z->at;

    char extra[MAX_EXTRA64], head[LOCAL_BYTES + MAX_NAME + MAX_EXTRA64 + 4 + ALIGNMENT] = {0};
    size_t wide = (size_t)(set_extra64(extra, w, false) - extra);
    size_t least = z->at + LOCAL_BYTES + name_bytes + wide + 4;
    size_t padding = (ALIGNMENT - least % ALIGNMENT) % ALIGNMENT;
    char *p = set_common(set32(head, SIGN_LOCAL), w, wide + 4 + padding);
    memcpy(p, name, name_bytes);
    memcpy(p + name_bytes, extra, wide);
    p = set16(p + name_bytes + wide, PADDING_ID);
    p = set16(p, (uint16_t)padding);
    TRY(put(z, head, (size_t)(p - head) + padding));
    return put(z, data, n);
}

/* The ZIP64 end record and its locator. */
static enum ecg_status put_end64(struct zip_out *z, uint64_t begin) {
    char end[END64_BYTES + LOCATOR_BYTES] = {0};
    uint64_t at = z->at;
    char *p = set64(set32(end, SIGN_END64), END64_BYTES - 12);
    p = set16(set16(p, VERSION_ZIP64), VERSION_ZIP64);
    p = set64(set64(p + 8, z->n), z->n);
    p = set64(set64(p, at - begin), begin);
    p = set64(set32(p, SIGN_LOCATOR) + 4, at);
    set32(p, 1);
    return put(z, end, sizeof end);
}

enum ecg_status zip_finish(struct zip_out *z) {
    uint64_t begin = z->at;
    for (size_t i = 0; i < z->n; i++) {
        const struct zip_written *w = &z->written[i];
        char entry[CENTRAL_BYTES] = {0}, extra[MAX_EXTRA64]; /* comment, part, attributes: 0 */
        size_t wide = (size_t)(set_extra64(extra, w, true) - extra);
        set_common(set16(set32(entry, SIGN_CENTRAL), wide ? VERSION_ZIP64 : VERSION_ZIP), w, wide);
        set32(entry + CENTRAL_BYTES - 4, narrow(w->at));
        TRY(put(z, entry, sizeof entry));
        TRY(put(z, w->name, strlen(w->name)));
        TRY(put(z, extra, wide));
    }
    uint64_t bytes = z->at - begin;
    uint16_t n = z->n < SATURATED16 ? (uint16_t)z->n : SATURATED16;
    if (n == SATURATED16 || begin >= SATURATED32 || bytes >= SATURATED32) TRY(put_end64(z, begin));
    char end[END_BYTES] = {0};
    char *p = set32(end, SIGN_END);
    p = set16(set16(p + 4, n), n);
    set32(set32(p, narrow(bytes)), narrow(begin));
    return put(z, end, sizeof end);
}

void zip_out_free(struct zip_out *z) {
    free(z->written);
    *z = (struct zip_out){0};
}
