/* SPDX-License-Identifier: MIT
 * The plan of a study: modes are lists of assignments, a cell is a choice of mode, fraction, fold and seed, and all of it
 * ends in --set assignments of a finetune run. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "core/mem.h"
#include "train/run/study_private.h"

/* ------------------------------------------------------------------ the built-in modes */

#define PREVIEW_EPOCHS 10 /* of lp-ft where CONFIG leaves finetune.probe_epochs 0 */
#define TEXT_OF(x)     #x
#define AS_TEXT(x)     TEXT_OF(x)

/* How much of the network a mode trains. */
enum reach { HEAD_ALONE, HEAD_THEN_ALL, ALL };

static const struct built_in {
    const char *name;
    enum reach reach;
    bool random;
    const char *help;
} built_ins[] = {
    {"probe", HEAD_ALONE, false, "the head alone on the frozen network (linear probe)"},
    {"full", ALL, false, "head and backbone together"},
    {"lp-ft", HEAD_THEN_ALL, false, "the head alone first, then all"},
    {"random", ALL, true, "baseline: as full, from random weights"},
    {"random-probe", HEAD_ALONE, true, "baseline: as probe, on a random network"},
};
#define N_BUILT_INS (int)(sizeof(built_ins) / sizeof(*built_ins))

/* What a reach sets; what CONFIG's own keys give, in words. All keys in which the modes differ are set, so that a mode is what
 * its name says whatever CONFIG has. */
static const char *const reach_help[] = {
    "head.freeze=true, optim.lr=finetune.probe_lr",
    "head.freeze=false, finetune.probe_epochs: CONFIG's, " AS_TEXT(
        PREVIEW_EPOCHS) " where that is 0",
    "head.freeze=false",
};

/* ------------------------------------------------------------------ lists */

__attribute__((format(printf, 2, 3))) static enum ecg_status add(struct study_sets *s,
                                                                 const char *format, ...) {
    va_list args;
    TRY(mem_grow((void **)&s->v, &s->cap, (size_t)s->n + 1, sizeof *s->v));
    va_start(args, format);
    int n = vasprintf(&s->v[s->n], format, args);
    va_end(args);
    if (n < 0) return ecg_fail(ECG_ERR_NOMEM, "out of memory");
    s->n++;
    return ECG_OK;
}

void study_sets_free(struct study_sets *s) {
    for (int i = 0; i < s->n; i++) free(s->v[i]);
    free(s->v);
    *s = (struct study_sets){0};
}

/* Words of "a,b,c"; an empty one is an error. */
static enum ecg_status split(const char *text, const char *option, struct study_sets *words) {
    for (const char *at = text;; at++) {
        size_t n = strcspn(at, ",");
        if (n == 0)
            return ecg_fail(ECG_ERR_USAGE, "%s: a name or number is empty in \"%s\"", option, text);
        TRY(add(words, "%.*s", (int)n, at));
        at += n;
        if (*at == 0) return ECG_OK;
    }
}

/* ------------------------------------------------------------------ modes */

enum ecg_status study_modes_help(char **text) {
    struct study_sets lines = {0};
    size_t size = 1;
    char *out = NULL;
    enum ecg_status status;
    TRY_OUT(add(&lines, "modes (--mode-set NAME:KEY=VALUE adds to one, or defines a new one):\n"));
    for (int i = 0; i < N_BUILT_INS; i++)
        TRY_OUT(add(&lines, "  %-14s %s:\n  %-14s     %s%s\n", built_ins[i].name, built_ins[i].help,
                    "", reach_help[built_ins[i].reach],
                    built_ins[i].random ? ", finetune.init=random" : ""));
    for (int i = 0; i < lines.n; i++) size += strlen(lines.v[i]);
    TRY_OUT(mem_alloc((void **)&out, size, 1));
    for (int i = 0; i < lines.n; i++) strcat(out, lines.v[i]);
    *text = out;
out:
    study_sets_free(&lines);
    return status;
}

static enum ecg_status add_built_in(struct study_sets *sets, const struct built_in *b,
                                    const struct config *base) {
    bool head_alone = b->reach == HEAD_ALONE;
    int64_t preview =
        base->finetune.probe_epochs > 0 ? base->finetune.probe_epochs : PREVIEW_EPOCHS;
    TRY(add(sets, "head.freeze=%s", head_alone ? "true" : "false"));
    TRY(add(sets, "finetune.init=%s", b->random ? "random" : "weights"));
    TRY(add(sets, "finetune.probe_epochs=%lld",
            b->reach == HEAD_THEN_ALL ? (long long)preview : 0LL));
    if (!head_alone) return ECG_OK;
    TRY(add(sets, "finetune.unfreeze_epochs=0"));
    return add(sets, "optim.lr=%.17g", base->finetune.probe_lr);
}

static const struct built_in *find_built_in(const char *name) {
    for (int i = 0; i < N_BUILT_INS; i++)
        if (strcmp(built_ins[i].name, name) == 0) return &built_ins[i];
    return NULL;
}

static struct study_mode *find_mode(const struct study *s, const char *name, size_t n) {
    for (int i = 0; i < s->n_modes; i++)
        if (strlen(s->modes[i].name) == n && memcmp(s->modes[i].name, name, n) == 0)
            return &s->modes[i];
    return NULL;
}

/* The name becomes a folder's. */
static bool is_plain_name(const char *name) {
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    return name[strspn(name, letters)] == 0 && strlen(name) < 64;
}

static enum ecg_status make_modes(struct study *s, const struct study_sets *names,
                                  const struct config *base) {
    TRY(MEM_NEW(&s->modes, (size_t)names->n));
    for (int i = 0; i < names->n; i++) {
        const char *name = names->v[i];
        if (!is_plain_name(name))
            return ecg_fail(ECG_ERR_USAGE, "--modes: \"%s\" is no name: letters, digits, - and _",
                            name);
        if (find_mode(s, name, strlen(name)) != NULL)
            return ecg_fail(ECG_ERR_USAGE, "--modes: %s stands there twice", name);
        struct study_mode *m = &s->modes[s->n_modes];
        TRY(mem_strdup(&m->name, name));
        s->n_modes++;
        const struct built_in *b = find_built_in(name);
        if (b != NULL) TRY(add_built_in(&m->sets, b, base));
    }
    return ECG_OK;
}

static enum ecg_status add_mode_sets(struct study *s) {
    for (int i = 0; i < s->o->n_mode_sets; i++) {
        const char *text = s->o->mode_sets[i];
        size_t n = strcspn(text, ":=");
        if (text[n] != ':')
            return ecg_fail(ECG_ERR_USAGE, "--mode-set: \"%s\" is not MODE:KEY=VALUE", text);
        struct study_mode *m = find_mode(s, text, n);
        if (m == NULL)
            return ecg_fail(ECG_ERR_USAGE, "--mode-set: %.*s is none of --modes (%s)", (int)n, text,
                            s->o->modes);
        TRY(add(&m->sets, "%s", text + n + 1));
    }
    return ECG_OK;
}

static enum ecg_status check_known(const struct study *s) {
    const char *names[N_BUILT_INS];
    for (int i = 0; i < N_BUILT_INS; i++) names[i] = built_ins[i].name;
    for (int i = 0; i < s->n_modes; i++) {
        const struct study_mode *m = &s->modes[i];
        char hint[CONF_HINT_MAX];
        if (m->sets.n == 0)
            return ecg_fail(ECG_ERR_USAGE,
                            "--modes: unknown mode %s%s (--mode-set %s:KEY=VALUE defines one)",
                            m->name, conf_did_you_mean(hint, m->name, names, N_BUILT_INS), m->name);
    }
    return ECG_OK;
}

static enum ecg_status read_modes(struct study *s, const struct config *base) {
    struct study_sets names = {0};
    enum ecg_status status = split(s->o->modes, "--modes", &names);
    if (status == ECG_OK) status = make_modes(s, &names, base);
    study_sets_free(&names);
    if (status == ECG_OK) status = add_mode_sets(s);
    return status == ECG_OK ? check_known(s) : status;
}

/* ------------------------------------------------------------------ fractions */

static enum ecg_status read_fraction(struct study *s, const char *word) {
    char *end = NULL;
    double v = strtod(word, &end);
    if (*end != 0 || !(v > 0 && v <= 1))
        return ecg_fail(ECG_ERR_USAGE, "--fractions: %s does not lie in (0, 1]", word);
    for (int i = 0; i < s->n_fractions; i++)
        if (s->fractions[i] == v)
            return ecg_fail(ECG_ERR_USAGE, "--fractions: %s stands there twice", word);
    s->fractions[s->n_fractions++] = v;
    return ECG_OK;
}

static enum ecg_status read_fractions(struct study *s) {
    struct study_sets words = {0};
    enum ecg_status status = split(s->o->fractions, "--fractions", &words);
    if (status == ECG_OK) status = MEM_NEW(&s->fractions, (size_t)words.n);
    for (int i = 0; i < words.n && status == ECG_OK; i++) status = read_fraction(s, words.v[i]);
    study_sets_free(&words);
    return status;
}

/* ------------------------------------------------------------------ cells */

static enum ecg_status name_cell(const struct study *s, struct study_cell *c) {
    char fold[32] = "";
    if (s->o->folds > 0) snprintf(fold, sizeof fold, "/fold-%d", c->fold + 1);
    if (asprintf(&c->run, "%s/fraction-%.9g%s/seed-%d", s->modes[c->mode].name,
                 s->fractions[c->fraction], fold, c->seed) >= 0)
        return ECG_OK;
    c->run = NULL;
    return ecg_fail(ECG_ERR_NOMEM, "out of memory");
}

static enum ecg_status make_cells(struct study *s) {
    int folds = s->o->folds > 0 ? s->o->folds : 1;
    size_t n = (size_t)s->n_modes * (size_t)s->n_fractions * (size_t)folds * (size_t)s->o->seeds;
    if (n > 100000) return ecg_fail(ECG_ERR_USAGE, "a study of %zu runs: 100000 at most", n);
    TRY(MEM_NEW(&s->cells, n));
    for (int seed = 1; seed <= s->o->seeds; seed++)
        for (int fold = 0; fold < folds; fold++)
            for (int fraction = 0; fraction < s->n_fractions; fraction++)
                for (int mode = 0; mode < s->n_modes; mode++) {
                    struct study_cell *c = &s->cells[s->n_cells++];
                    *c = (struct study_cell){mode, fraction, fold,       seed,
                                             NULL, false,    {"", 0, 0}, NULL};
                    TRY(name_cell(s, c));
                }
    return ECG_OK;
}

/* data.train's or data.test's value of a fold: the same data set and folds, patients of [from, to). JSON is YAML. */
static enum ecg_status add_part(struct study_sets *sets, const char *key,
                                const struct selection_spec *spec, double from, double to) {
    struct json_writer w = {0};
    char *text = NULL;
    json_begin_object(&w);
    json_put_key(&w, "path");
    json_put_string(&w, spec->path);
    if (spec->n_folds > 0) {
        json_put_key(&w, "fold");
        json_begin_array(&w);
        for (int i = 0; i < spec->n_folds; i++) json_put_integer(&w, spec->folds[i]);
        json_end_array(&w);
    }
    json_put_key(&w, "part");
    json_begin_array(&w);
    json_put_number(&w, from);
    json_put_number(&w, to);
    json_end_array(&w);
    json_end_object(&w);
    TRY(json_writer_take(&w, &text));
    enum ecg_status status = add(sets, "%s=%s", key, text);
    free(text);
    return status;
}

enum ecg_status study_cell_sets(const struct study *s, const struct study_cell *cell,
                                struct study_sets *sets) {
    const struct study_mode *mode = &s->modes[cell->mode];
    for (int i = 0; i < s->o->n_sets; i++) TRY(add(sets, "%s", s->o->sets[i]));
    for (int i = 0; i < mode->sets.n; i++) TRY(add(sets, "%s", mode->sets.v[i]));
    TRY(add(sets, "train.seed=%d", cell->seed));
    TRY(add(sets, "init.seed=%d", cell->seed));
    TRY(add(sets, "data.fraction=%.17g", s->fractions[cell->fraction]));
    TRY(add(sets, "data.fraction_seed=%d", cell->seed));
    if (s->o->folds == 0) return ECG_OK;
    double from = cell->fold / (double)s->o->folds, to = (cell->fold + 1) / (double)s->o->folds;
    TRY(add_part(sets, "data.train", &s->train, to, from));
    return add_part(sets, "data.test", &s->train, from, to);
}

/* ------------------------------------------------------------------ the whole */

static enum ecg_status check_folds(struct study *s, const struct config *c) {
    if (s->o->folds == 1)
        return ecg_fail(ECG_ERR_USAGE, "--folds: 1 fold leaves no patient to train on: 2 or more");
    if (c->data.valid != NULL || c->data.test != NULL)
        return ecg_fail(
            ECG_ERR_CONFIG,
            "--folds: %s is set; every patient of data.train is tested once by a run that has not seen "
            "him, and nothing else is: --set data.valid=null --set data.test=null",
            c->data.valid != NULL ? "data.valid" : "data.test");
    TRY(config_selection(c->data.train, "data.train", &s->train));
    if (s->train.has_part)
        return ecg_fail(
            ECG_ERR_CONFIG,
            "--folds: data.train has a part already: name the data set, or folds of it");
    s->has_test = true;
    return ECG_OK;
}

static enum ecg_status check_base(struct study *s, const struct config *c) {
    if (s->o->folds > 0) return check_folds(s, c);
    s->has_test = c->data.test != NULL;
    if (c->data.test != NULL || c->data.valid != NULL) return ECG_OK;
    return ecg_fail(ECG_ERR_CONFIG,
                    "data.test and data.valid are not set: a study compares by a figure on one of "
                    "them, or on --folds K");
}

/* Mistakes in any mode's assignments are found before the first run. */
static enum ecg_status check_cells(const struct study *s) {
    for (int i = 0; i < s->n_cells; i++) {
        struct config c = {0};
        struct study_sets sets = {0};
        enum ecg_status status = study_cell_sets(s, &s->cells[i], &sets);
        if (status == ECG_OK) status = config_load(&c, s->o->config, sets.v, sets.n);
        config_free(&c);
        study_sets_free(&sets);
        if (status != ECG_OK)
            return ecg_fail_prefix(status, "mode %s: ", s->modes[s->cells[i].mode].name);
        if (s->cells[i].seed > 1) return ECG_OK; /* seeds differ in numbers only */
    }
    return ECG_OK;
}

enum ecg_status study_make(struct study *s, const struct study_options *o) {
    struct config base = {0};
    *s = (struct study){.o = o};
    if (o->seeds < 1) return ecg_fail(ECG_ERR_USAGE, "--seeds must be at least 1");
    enum ecg_status status = config_load(&base, o->config, o->sets, o->n_sets);
    if (status == ECG_OK) status = check_base(s, &base);
    if (status == ECG_OK) status = read_modes(s, &base);
    config_free(&base);
    TRY(status);
    TRY(read_fractions(s));
    TRY(make_cells(s));
    return check_cells(s);
}

void study_free(struct study *s) {
    for (int i = 0; i < s->n_modes; i++) {
        free(s->modes[i].name);
        study_sets_free(&s->modes[i].sets);
    }
    for (int i = 0; i < s->n_cells; i++) {
        free(s->cells[i].run);
        free(s->cells[i].error);
    }
    free(s->modes);
    free(s->fractions);
    free(s->cells);
    config_selection_free(&s->train);
    *s = (struct study){0};
}
