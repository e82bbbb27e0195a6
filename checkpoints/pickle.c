/* SPDX-License-Identifier: MIT
 * One function an opcode, in a table. A value is made by at most one byte of the pickle and a cell by taking a value off the
 * stack, so both are bounded by the pickle's size; nothing here recurses, so depth costs nothing. */
#include "checkpoints/pickle.h"

#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/mem.h"

/* What calling a global means to us. */
enum role { ROLE_DICT, ROLE_TENSOR, ROLE_PARAMETER, ROLE_SIZE, ROLE_OPAQUE, ROLE_STORAGE };

static const struct global {
    const char *module, *name;
    enum role role;
    enum safetensors_dtype dtype; /* of a storage type */
} globals[] = {
    {"collections", "OrderedDict", ROLE_DICT, ST_OTHER},
    {"torch._utils", "_rebuild_tensor_v2", ROLE_TENSOR, ST_OTHER},
    {"torch._utils", "_rebuild_parameter", ROLE_PARAMETER, ST_OTHER},
    {"torch", "Size", ROLE_SIZE, ST_OTHER},
    {"torch", "device", ROLE_OPAQUE, ST_OTHER},
    {"numpy.core.multiarray", "scalar", ROLE_OPAQUE, ST_OTHER},
    {"numpy._core.multiarray", "scalar", ROLE_OPAQUE, ST_OTHER},
    {"numpy", "dtype", ROLE_OPAQUE, ST_OTHER},
    {"_codecs", "encode", ROLE_OPAQUE, ST_OTHER},
    {"torch", "FloatStorage", ROLE_STORAGE, ST_F32},
    {"torch", "DoubleStorage", ROLE_STORAGE, ST_F64},
    {"torch", "HalfStorage", ROLE_STORAGE, ST_F16},
    {"torch", "BFloat16Storage", ROLE_STORAGE, ST_BF16},
    {"torch", "LongStorage", ROLE_STORAGE, ST_I64},
    {"torch", "IntStorage", ROLE_STORAGE, ST_I32},
    {"torch", "ShortStorage", ROLE_STORAGE, ST_I16},
    {"torch", "CharStorage", ROLE_STORAGE, ST_I8},
    {"torch", "ByteStorage", ROLE_STORAGE, ST_U8},
    {"torch", "BoolStorage", ROLE_STORAGE, ST_BOOL},
};
#define N_GLOBALS (sizeof globals / sizeof *globals)

struct machine {
    struct pickle *p;
    const char *where;
    const char *text;
    size_t size, at, op; /* op: where the present opcode stands */
    uint8_t code;
    bool stopped;
    uint32_t *stack; /* values */
    size_t depth, cap_stack;
    size_t *marks; /* depths of the stack */
    size_t n_marks, cap_marks;
    uint32_t *memo; /* values + 1; 0: never put */
    size_t cap_memo;
};

static enum ecg_status bad(const struct machine *m, const char *what) {
    return ecg_fail(ECG_ERR_DATA, "%s, byte %zu: %s", m->where, m->op, what);
}

/* ---- stack ---- */

static enum ecg_status push(struct machine *m, uint32_t value) {
    TRY(mem_grow((void **)&m->stack, &m->cap_stack, m->depth + 1, sizeof *m->stack));
    m->stack[m->depth++] = value;
    return ECG_OK;
}

static enum ecg_status push_new(struct machine *m, struct pickle_value v) {
    struct pickle *p = m->p;
    TRY(mem_grow((void **)&p->values, &p->cap_values, p->n_values + 1, sizeof *p->values));
    p->values[p->n_values] = v;
    return push(m, (uint32_t)p->n_values++);
}

/* Values that the present mark leaves to be taken. */
static size_t available(const struct machine *m) {
    return m->depth - (m->n_marks ? m->marks[m->n_marks - 1] : 0);
}

static enum ecg_status pop(struct machine *m, uint32_t *value) {
    if (!available(m)) return bad(m, "it takes from an empty stack");
    *value = m->stack[--m->depth];
    return ECG_OK;
}

/* The value that an opcode works on, which stays on the stack. */
static enum ecg_status top(const struct machine *m, struct pickle_value **v) {
    if (!available(m)) return bad(m, "it takes from an empty stack");
    *v = &m->p->values[m->stack[m->depth - 1]];
    return ECG_OK;
}

/* Removes the mark; the values behind it are the stack's last `n`. */
static enum ecg_status pop_mark(struct machine *m, size_t *n) {
    if (!m->n_marks) return bad(m, "it takes a mark that was never set");
    *n = available(m);
    m->n_marks--;
    return ECG_OK;
}

static enum ecg_status append(struct machine *m, struct pickle_value *to, uint32_t value) {
    struct pickle *p = m->p;
    TRY(mem_grow((void **)&p->cells, &p->cap_cells, p->n_cells + 1, sizeof *p->cells));
    uint32_t cell = (uint32_t)p->n_cells++;
    p->cells[cell] = (struct pickle_cell){.value = value, .next = PICKLE_NONE};
    if (to->n++)
        p->cells[to->cells.last].next = cell;
    else
        to->cells.first = cell;
    to->cells.last = cell;
    return ECG_OK;
}

/* Moves the stack's last n values to the end of a container. */
static enum ecg_status append_last(struct machine *m, struct pickle_value *to, size_t n) {
    for (size_t i = m->depth - n; i < m->depth; i++) TRY(append(m, to, m->stack[i]));
    m->depth -= n;
    return ECG_OK;
}

/* ---- operands ---- */

static enum ecg_status take(struct machine *m, size_t n, const char **bytes) {
    *bytes = m->text + m->at;
    if (n > m->size - m->at) return bad(m, "the pickle ends in the middle of this opcode");
    m->at += n;
    return ECG_OK;
}

/* Little-endian, without a sign. */
static enum ecg_status take_number(struct machine *m, size_t bytes, uint64_t *v) {
    const char *p;
    *v = 0;
    TRY(take(m, bytes, &p));
    memcpy(v, p, bytes);
    return ECG_OK;
}

static enum ecg_status take_line(struct machine *m, const char **text, size_t *n) {
    const char *end = memchr(m->text + m->at, '\n', m->size - m->at);
    *text = m->text + m->at;
    *n = 0;
    if (!end) return bad(m, "the pickle ends in the middle of this opcode");
    *n = (size_t)(end - *text);
    m->at += *n + 1;
    return ECG_OK;
}

/* ---- opcodes: values ---- */

static enum ecg_status op_proto(struct machine *m) {
    uint64_t version;
    TRY(take_number(m, 1, &version));
    return version == 2 ? ECG_OK
                        : bad(m, "not pickle protocol 2, which torch.save writes by default");
}

static enum ecg_status op_opaque(struct machine *m) {
    return push_new(m, (struct pickle_value){.kind = PICKLE_OPAQUE});
}

static enum ecg_status op_float(struct machine *m) {
    const char *bytes;
    TRY(take(m, 8, &bytes));
    return op_opaque(m);
}

static enum ecg_status op_bool(struct machine *m) {
    return push_new(m, (struct pickle_value){.kind = PICKLE_BOOL, .integer = m->code == 0x88});
}

static enum ecg_status push_integer(struct machine *m, int64_t v) {
    return push_new(m, (struct pickle_value){.kind = PICKLE_INTEGER, .integer = v});
}

static enum ecg_status op_int(struct machine *m) {
    uint64_t v;
    TRY(take_number(m, m->code == 'J' ? 4 : m->code == 'M' ? 2 : 1, &v));
    return push_integer(m, m->code == 'J' ? (int32_t)(uint32_t)v : (int64_t)v);
}

/* Two's complement of any length; what 64 bits don't hold is no size or place of ours. */
static enum ecg_status op_long(struct machine *m) {
    uint64_t n, v = 0;
    const char *bytes;
    TRY(take_number(m, 1, &n));
    TRY(take(m, n, &bytes));
    if (n > sizeof v) return op_opaque(m);
    if (n && bytes[n - 1] < 0) v = UINT64_MAX;
    memcpy(&v, bytes, n);
    return push_integer(m, (int64_t)v);
}

static enum ecg_status op_string(struct machine *m) {
    uint64_t n;
    const char *text;
    TRY(take_number(m, m->code == 'U' ? 1 : 4, &n));
    TRY(take(m, n, &text));
    return push_new(m,
                    (struct pickle_value){.kind = PICKLE_STRING, .n = (uint32_t)n, .text = text});
}

static enum ecg_status op_global(struct machine *m) {
    const char *module, *name;
    size_t n_module, n_name;
    TRY(take_line(m, &module, &n_module));
    TRY(take_line(m, &name, &n_name));
    for (uint32_t i = 0; i < N_GLOBALS; i++)
        if (strlen(globals[i].module) == n_module && strlen(globals[i].name) == n_name &&
            !memcmp(globals[i].module, module, n_module) && !memcmp(globals[i].name, name, n_name))
            return push_new(m, (struct pickle_value){.kind = PICKLE_GLOBAL, .n = i});
    return ecg_fail(
        ECG_ERR_DATA,
        "%s, byte %zu: it asks for Python's \"%.*s.%.*s\", which weights don't need and "
        "which is not allowed here; nothing was run (save model.state_dict(), not the "
        "model)",
        m->where, m->op, n_module < 60 ? (int)n_module : 60, module, n_name < 60 ? (int)n_name : 60,
        name);
}

/* ---- opcodes: containers ---- */

static enum ecg_status op_mark(struct machine *m) {
    TRY(mem_grow((void **)&m->marks, &m->cap_marks, m->n_marks + 1, sizeof *m->marks));
    m->marks[m->n_marks++] = m->depth;
    return ECG_OK;
}

static enum ecg_status op_empty(struct machine *m) {
    enum pickle_kind kind = m->code == '}'   ? PICKLE_DICT
                            : m->code == ']' ? PICKLE_LIST
                                             : PICKLE_TUPLE;
    return push_new(m, (struct pickle_value){.kind = kind});
}

static enum ecg_status push_tuple(struct machine *m, size_t n) {
    struct pickle_value tuple = {.kind = PICKLE_TUPLE};
    TRY(append_last(m, &tuple, n));
    return push_new(m, tuple);
}

static enum ecg_status op_tuple(struct machine *m) {
    size_t n = m->code - 0x84u; /* TUPLE1 to TUPLE3 */
    if (m->code == 't')
        TRY(pop_mark(m, &n));
    else if (available(m) < n)
        return bad(m, "it takes from an empty stack");
    return push_tuple(m, n);
}

static enum ecg_status op_append(struct machine *m) {
    size_t n = 1;
    struct pickle_value *list;
    if (m->code == 'e') TRY(pop_mark(m, &n));
    if (available(m) < n + 1) return bad(m, "it takes from an empty stack");
    list = &m->p->values[m->stack[m->depth - n - 1]];
    if (list->kind != PICKLE_LIST) return bad(m, "it appends to something that is no list");
    return append_last(m, list, n);
}

static enum ecg_status op_set_items(struct machine *m) {
    size_t n = 2;
    struct pickle_value *dict;
    if (m->code == 'u') TRY(pop_mark(m, &n));
    if (available(m) < n + 1) return bad(m, "it takes from an empty stack");
    dict = &m->p->values[m->stack[m->depth - n - 1]];
    if (dict->kind != PICKLE_DICT || n % 2) return bad(m, "it sets items of what is no dict");
    return append_last(m, dict, n);
}

/* ---- opcodes: memo, objects ---- */

/* Python numbers its memo 0, 1, 2 ..., so a place beyond the pickle's size is never honest. */
static enum ecg_status op_put(struct machine *m) {
    uint64_t place;
    struct pickle_value *v;
    TRY(take_number(m, m->code == 'q' ? 1 : 4, &place));
    if (place >= m->size) return bad(m, "its memo's place is larger than the pickle");
    TRY(top(m, &v));
    TRY(mem_grow((void **)&m->memo, &m->cap_memo, place + 1, sizeof *m->memo));
    m->memo[place] = (uint32_t)(v - m->p->values) + 1;
    return ECG_OK;
}

static enum ecg_status op_get(struct machine *m) {
    uint64_t place;
    TRY(take_number(m, m->code == 'h' ? 1 : 4, &place));
    if (place >= m->cap_memo || !m->memo[place])
        return bad(m, "it gets what was never put into the memo");
    return push(m, m->memo[place] - 1);
}

static enum ecg_status op_persistent_id(struct machine *m) {
    uint32_t id = 0;
    TRY(pop(m, &id));
    struct pickle_value storage = m->p->values[id];
    const struct pickle_value *what = pickle_item(m->p, &storage, 0);
    if (storage.kind != PICKLE_TUPLE || !pickle_is_string(what, "storage"))
        return bad(m, "a persistent id that names no storage");
    storage.kind = PICKLE_STORAGE;
    return push_new(m, storage);
}

/* The call of a global, which is not made: its arguments become the value that they describe. */
static enum ecg_status op_reduce(struct machine *m) {
    uint32_t arguments = 0, callable = 0;
    TRY(pop(m, &arguments));
    TRY(pop(m, &callable));
    struct pickle_value f = m->p->values[callable], v = m->p->values[arguments];
    if (f.kind != PICKLE_GLOBAL) return bad(m, "it calls something that is no function");
    if (v.kind != PICKLE_TUPLE) return bad(m, "a call whose arguments are no tuple");
    const struct pickle_value *first = pickle_item(m->p, &v, 0);
    switch (globals[f.n].role) {
    case ROLE_DICT:
        if (v.n) return bad(m, "an OrderedDict with arguments");
        v.kind = PICKLE_DICT;
        return push_new(m, v);
    case ROLE_TENSOR:
        v.kind = PICKLE_TENSOR;
        return push_new(m, v);
    case ROLE_PARAMETER:
        if (!first || first->kind != PICKLE_TENSOR) return bad(m, "a parameter without a tensor");
        return push_new(m, *first);
    case ROLE_SIZE:
        if (!first || (first->kind != PICKLE_TUPLE && first->kind != PICKLE_LIST))
            return bad(m, "a torch.Size without sizes");
        v = *first;
        v.kind = PICKLE_TUPLE;
        return push_new(m, v);
    case ROLE_OPAQUE:
        return op_opaque(m);
    case ROLE_STORAGE:
        break;
    }
    return bad(m, "it calls a storage type");
}

/* An object's attributes: a state_dict has its _metadata there, a numpy dtype its byte order. Nobody asks. */
static enum ecg_status op_build(struct machine *m) {
    uint32_t state = 0;
    struct pickle_value *v;
    TRY(pop(m, &state));
    TRY(top(m, &v));
    if (v->kind == PICKLE_DICT || v->kind == PICKLE_OPAQUE) return ECG_OK;
    return bad(m, "it sets attributes of what has none");
}

static enum ecg_status op_stop(struct machine *m) {
    if (m->depth != 1 || m->n_marks)
        return bad(m, "the pickle ends with more or less than a value");
    m->p->root = m->stack[0];
    m->stopped = true;
    return ECG_OK;
}

static const struct opcode {
    uint8_t code;
    enum ecg_status (*run)(struct machine *m);
} opcodes[] = {
    {0x80, op_proto},    {'N', op_opaque},        {'G', op_float},  {0x88, op_bool},
    {0x89, op_bool},     {'J', op_int},           {'K', op_int},    {'M', op_int},
    {0x8a, op_long},     {'X', op_string},        {'T', op_string}, {'U', op_string},
    {'c', op_global},    {'(', op_mark},          {'}', op_empty},  {']', op_empty},
    {')', op_empty},     {'t', op_tuple},         {0x85, op_tuple}, {0x86, op_tuple},
    {0x87, op_tuple},    {'a', op_append},        {'e', op_append}, {'s', op_set_items},
    {'u', op_set_items}, {'q', op_put},           {'r', op_put},    {'h', op_get},
    {'j', op_get},       {'Q', op_persistent_id}, {'R', op_reduce}, {0x81, op_reduce},
    {'b', op_build},     {'.', op_stop},
};
#define N_OPCODES (sizeof opcodes / sizeof *opcodes)

static enum ecg_status step(struct machine *m) {
    m->op = m->at;
    if (m->at >= m->size) return bad(m, "the pickle ends without a STOP (is it truncated?)");
    m->code = (uint8_t)m->text[m->at++];
    for (size_t i = 0; i < N_OPCODES; i++)
        if (opcodes[i].code == m->code) return opcodes[i].run(m);
    return ecg_fail(ECG_ERR_DATA, "%s, byte %zu: opcode 0x%02x has no place in weights", m->where,
                    m->op, m->code);
}

enum ecg_status pickle_read(struct pickle *p, const char *where, const char *text, size_t size) {
    struct machine m = {.p = p, .where = where, .text = text, .size = size};
    enum ecg_status status = ECG_OK;
    *p = (struct pickle){0};
    if (size > PICKLE_MAX_BYTES)
        return ecg_fail(ECG_ERR_DATA, "%s: %zu bytes, more than weights need (at most %zu)", where,
                        size, PICKLE_MAX_BYTES);
    while (status == ECG_OK && !m.stopped) status = step(&m);
    free(m.stack);
    free(m.marks);
    free(m.memo);
    if (status != ECG_OK) pickle_free(p);
    return status;
}

void pickle_free(struct pickle *p) {
    free(p->values);
    free(p->cells);
    *p = (struct pickle){0};
}

/* ---- looking at it ---- */

const struct pickle_value *pickle_at(const struct pickle *p, uint32_t value) {
    return &p->values[value];
}

const struct pickle_value *pickle_item(const struct pickle *p, const struct pickle_value *v,
                                       uint32_t i) {
    if (v->kind < PICKLE_TUPLE || v->kind == PICKLE_GLOBAL || i >= v->n) return NULL;
    uint32_t cell = v->cells.first;
    while (i--) cell = p->cells[cell].next;
    return &p->values[p->cells[cell].value];
}

bool pickle_is_string(const struct pickle_value *v, const char *text) {
    return v && v->kind == PICKLE_STRING && v->n == strlen(text) && !memcmp(v->text, text, v->n);
}

const struct pickle_value *pickle_get(const struct pickle *p, const struct pickle_value *v,
                                      const char *key) {
    const struct pickle_value *found = NULL;
    if (v->kind != PICKLE_DICT || !v->n) return NULL;
    for (uint32_t c = v->cells.first; c != PICKLE_NONE; c = p->cells[p->cells[c].next].next)
        if (pickle_is_string(&p->values[p->cells[c].value], key))
            found = &p->values[p->cells[p->cells[c].next].value];
    return found;
}

bool pickle_is_name(const char *text) {
    const char *end = text;
    for (size_t n = 1; *end; end += n) {
        n = json_utf8_length(end);
        if (!n || (unsigned char)*end < ' ' || *end == 0x7f) return false;
    }
    return end > text && end - text <= PICKLE_MAX_NAME;
}

bool pickle_storage_dtype(const struct pickle_value *v, enum safetensors_dtype *dtype) {
    if (!v || v->kind != PICKLE_GLOBAL || globals[v->n].role != ROLE_STORAGE) return false;
    *dtype = globals[v->n].dtype;
    return true;
}

const char *pickle_storage_name(enum safetensors_dtype dtype) {
    for (size_t i = 0; i < N_GLOBALS; i++)
        if (globals[i].role == ROLE_STORAGE && globals[i].dtype == dtype) return globals[i].name;
    return NULL;
}
