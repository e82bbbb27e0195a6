/* SPDX-License-Identifier: MIT
 * The option table: defaults, files, --set, the dump that must read back to the same values, and every
 * mistake a user can make in a config, with the place and the suggestion it must be answered with. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/conf.h"
#include "core/file.h"
#include "tests/support/check.h"
#include "tests/support/fuzz.h"

struct settings {
    bool shuffle;
    int64_t workers;
    double lr, eps, unbounded;
    char *weights;
    int name;
    struct conf_ints filters;
    struct conf_strings labels;
    struct yaml_node *train;
    int64_t seed;
};

#define AT(member) offsetof(struct settings, member)

static const struct conf_option table[] = {
    {"seed", CONF_INT, AT(seed), "1", NULL, 0, 0, "seed of everything random"},
    {"data.train", CONF_NODE, AT(train), "null", NULL, 0, 0, "training data"},
    {"data.labels", CONF_STRINGS, AT(labels), "null", NULL, 0, 0, "label columns"},
    {"data.shuffle", CONF_BOOL, AT(shuffle), "true", NULL, 0, 0, "shuffle the records"},
    {"data.workers", CONF_INT, AT(workers), "2", NULL, 0, 64, "loader threads"},
    {"optim.name", CONF_CHOICE, AT(name), "adam", "adam adamw sgd", 0, 0, "optimiser"},
    {"optim.lr", CONF_NUMBER, AT(lr), "1e-3", NULL, 0, 10, "learning rate"},
    {"optim.eps", CONF_NUMBER, AT(eps), "1e-8", NULL, 0, INFINITY, "epsilon"},
    {"model.filters", CONF_INTS, AT(filters), "[64, 160]", NULL, 1, 4096, "channels"},
    {"init.weights", CONF_STRING, AT(weights), "null", NULL, 0, 0, "start weights"},
    {"optim.unbounded", CONF_NUMBER, AT(unbounded), "0", NULL, 0, 0, "any number"},
    {NULL, CONF_BOOL, 0, NULL, NULL, 0, 0, NULL}};

static const char *config_path(void) {
    static char path[4200];
    snprintf(path, sizeof path, "%s/c.yaml", check_tmp());
    return path;
}

static enum ecg_status read_text(struct settings *s, const char *text) {
    TRY(file_write(config_path(), text, strlen(text)));
    return conf_read_file(table, s, config_path());
}

static void defaults(void) {
    struct settings s;
    memset(&s, 0xA5, sizeof s); /* what was there must not matter */
    if (!CHECK_OK(conf_defaults(table, &s))) return;
    CHECK(s.shuffle && s.workers == 2 && s.seed == 1 && s.name == 0);
    CHECK_NEAR(s.lr, 1e-3, 0);
    CHECK(s.weights == NULL && s.train == NULL && s.labels.v == NULL && s.labels.n == 0);
    CHECK(s.filters.n == 2 && s.filters.v[1] == 160);
    conf_free(table, &s);
    CHECK(s.filters.v == NULL);
    conf_free(table, &s);
    static const struct conf_option bad[] = {
        {"x", CONF_STRING, AT(weights), "text", NULL, 0, 0, ""},
        {"y", CONF_INT, AT(seed), "five", NULL, 0, 0, ""},
        {NULL, CONF_BOOL, 0, NULL, NULL, 0, 0, NULL}};
    CHECK_FAILS(conf_defaults(bad, &s), ECG_ERR_CONFIG, "default of y: y is 'five'");
}

static void file_and_set(void) {
    struct settings s;
    CHECK_OK(conf_defaults(table, &s));
    const char *text = "# a recipe\n"
                       "optim: {lr: 0.5}\n"
                       "optim.name: adamw\n"
                       "data:\n"
                       "  train: {path: /data/x, fold: 1-8}\n"
                       "  labels: [NORM, \"ST/T change\"]\n"
                       "  shuffle: false\n"
                       "model.filters: 32\n"
                       "init:\n"; /* a section with nothing in it */
    CHECK_OK(read_text(&s, text));
    CHECK_NEAR(s.lr, 0.5, 0);
    CHECK(s.name == 1 && !s.shuffle && s.workers == 2);
    CHECK(s.filters.n == 1 && s.filters.v[0] == 32);
    if (CHECK(s.labels.n == 2)) CHECK_STR(s.labels.v[1], "ST/T change");
    CHECK_STR(yaml_get(s.train, "path")->text, "/data/x");

    CHECK_OK(conf_set(table, &s, "optim.lr=1e-4"));
    CHECK_NEAR(s.lr, 1e-4, 0);
    CHECK_OK(conf_set(table, &s, "data.labels=null"));
    CHECK(s.labels.v == NULL);
    CHECK_OK(conf_set(table, &s, "data.labels=[]"));
    CHECK(s.labels.v != NULL && s.labels.n == 0);
    CHECK_OK(conf_set(table, &s, "data.labels=AF"));
    CHECK(s.labels.n == 1);
    CHECK_OK(conf_set(table, &s, "model.filters=[1, 2, 3]"));
    CHECK(s.filters.n == 3 && s.filters.v[2] == 3);
    CHECK_OK(conf_set(table, &s, "data.train={path: DIR, fold: [1, 2]}"));
    CHECK(yaml_get(s.train, "fold")->n == 2);
    CHECK_OK(conf_set(table, &s, "data.train=DIR"));
    CHECK_STR(s.train->text, "DIR");
    CHECK_OK(conf_set(table, &s, "init.weights=a=b.pth"));
    CHECK_STR(s.weights, "a=b.pth");
    CHECK_OK(conf_set(table, &s, "init.weights="));
    CHECK(s.weights == NULL);
    CHECK_OK(conf_set(table, &s, "optim={lr: 2, name: sgd}"));
    CHECK(s.lr == 2 && s.name == 2);
    CHECK_STR(conf_choice_name(table, "optim.name", s.name), "sgd");
    CHECK(conf_choice_name(table, "optim.name", 3) == NULL);
    CHECK(conf_choice_name(table, "optim.lr", 0) == NULL);
    CHECK_OK(read_text(&s, "# only a comment\n"));
    conf_free(table, &s);
}

static void mistakes_in_files(void) {
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"optim:\n  lrr: 1\n", "c.yaml:2:3: unknown key optim.lrr; did you mean optim.lr?"},
        {"optim.lrr: 1\n", "c.yaml:1:1: unknown key optim.lrr; did you mean optim.lr?"},
        {"optm:\n  lr: 1\n", "c.yaml:1:1: unknown key optm; did you mean optim?"},
        {"train:\n  lr: 1\n", "unknown key train"},
        {"workers: 3\n", "unknown key workers; did you mean data.workers?"},
        {"qqqqqqqq: 3\n", "c.yaml:1:1: unknown key qqqqqqqq"},
        {"optim:\n  lr: abc\n", "c.yaml:2:7: optim.lr is 'abc'; must be a number from 0 to 10"},
        {"optim:\n  lr: 11\n", "optim.lr is '11'; must be a number from 0 to 10"},
        {"optim:\n  lr: nan\n", "optim.lr is 'nan'"},
        {"optim:\n  lr: \n", "optim.lr is ''"},
        {"optim:\n  eps: -1\n", "must be a number, at least 0"},
        {"optim:\n  lr: {a: 1}\n", "optim.lr is a map"},
        {"optim:\n  name: adamx\n",
         "optim.name is 'adamx'; must be one of adam, adamw, sgd; did you "
         "mean adam?"},
        {"optim:\n  name: zzzzzzz\n", "must be one of adam, adamw, sgd"},
        {"optim: 5\n", "c.yaml:1:1: optim is a section"},
        {"data:\n  workers: 2.5\n", "data.workers is '2.5'; must be an integer from 0 to 64"},
        {"data:\n  workers: 65\n", "must be an integer from 0 to 64"},
        {"data:\n  workers: 99999999999999999999\n", "must be an integer"},
        {"data:\n  shuffle: yes\n", "c.yaml:2:12: data.shuffle is 'yes'; must be true or false"},
        {"data:\n  labels: [a, ~]\n", "must be a list of texts"},
        {"data:\n  labels: {a: 1}\n", "data.labels is a map"},
        {"model:\n  filters: [1, x]\n",
         "model.filters is 'x'; must be a list of integers each from 1 to 4096"},
        {"model:\n  filters: [0]\n", "from 1 to 4096"},
        {"init:\n  weights: [a]\n", "init.weights is a list"},
        {"optim.lr: 1\noptim: {lr: 2}\n", "c.yaml:2:9: key optim.lr is given twice"},
        {"- 1\n", "c.yaml:1:1: a config must be a map"},
        {"optim: {lr: 1\n", "c.yaml:"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct settings s;
        CHECK_OK(conf_defaults(table, &s));
        CHECK_FAILS(read_text(&s, bad[i].text), ECG_ERR_CONFIG, bad[i].message);
        conf_free(table, &s);
    }
    struct settings s;
    CHECK_OK(conf_defaults(table, &s));
    CHECK_FAILS(conf_read_file(table, &s, "/no/c.yaml"), ECG_ERR_NOINPUT, "/no/c.yaml");
    conf_free(table, &s);
}

static void mistakes_in_set(void) {
    struct settings s;
    CHECK_OK(conf_defaults(table, &s));
    CHECK_FAILS(conf_set(table, &s, "optim.lr"), ECG_ERR_USAGE, "must be key=value");
    CHECK_FAILS(conf_set(table, &s, "=1"), ECG_ERR_USAGE, "must be key=value");
    CHECK_FAILS(conf_set(table, &s, "optim.lrr=1"), ECG_ERR_CONFIG,
                "--set: unknown key optim.lrr; did you mean optim.lr?");
    CHECK_FAILS(conf_set(table, &s, "optim.lr=x"), ECG_ERR_CONFIG, "--set: optim.lr is 'x'");
    CHECK_FAILS(conf_set(table, &s, "optim.lr=[1"), ECG_ERR_CONFIG, "--set optim.lr=[1");
    CHECK_FAILS(conf_set(table, &s, "optim={lrr: 1}"), ECG_ERR_CONFIG, "unknown key optim.lrr");
    CHECK_FAILS(conf_set(table, &s, "optim=1"), ECG_ERR_CONFIG, "optim is a section");
    char *large = malloc(100001);
    memset(large, 'k', 100000);
    memcpy(large + 99998, "=1", 3);
    CHECK_FAILS(conf_set(table, &s, large), ECG_ERR_CONFIG, "unknown key of 99998 characters");
    memset(large, '9', 100000);
    memcpy(large, "optim.lr=", 9);
    CHECK_FAILS(conf_set(table, &s, large), ECG_ERR_CONFIG,
                "999...'; must be a number from 0 to 10");
    memcpy(large, "seed=9999", 9);
    CHECK_FAILS(conf_set(table, &s, large), ECG_ERR_CONFIG, "999...'; must be an integer");
    CHECK_FAILS(conf_set(table, &s, "seed=0xff"), ECG_ERR_CONFIG,
                "seed is '0xff'; must be an integer");
    CHECK_FAILS(conf_set(table, &s, "seed=9223372036854775808"), ECG_ERR_CONFIG,
                "must be an integer");
    CHECK_FAILS(conf_set(table, &s, "optim.eps=1e309"), ECG_ERR_CONFIG, "must be a number");
    CHECK_FAILS(conf_set(table, &s, "optim.eps=.inf"), ECG_ERR_CONFIG, "must be a number");
    free(large);
    conf_free(table, &s);
}

/* Dumps, reads the dump over fresh defaults and dumps again: the texts must be one. */
static void dump_reads_back(void) {
    struct settings s, again;
    char *first, *second;
    static const char *const sets[] = {
        "optim.lr=0.30000000000000004",
        "optim.eps=4.9e-324",
        "optim.unbounded=-1.7976931348623157e308",
        "seed=-9223372036854775808",
        "data.labels=[\"a, b\", 'null', \"\", \"x: y\", \"\\u00e9\\u2028\\n\\\"\\\\\", \"#h\", \"- d\","
        " \"-\", ' sp ', '~', '1', 'a}b']",
        "init.weights='null'",
        "data.train={path: \"/a b/c\", fold: 1-8, parts: [0.5, '1', ~, {x: []}], \"k: k\": {}}",
    };
    CHECK_OK(conf_defaults(table, &s));
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) CHECK_OK(conf_set(table, &s, sets[i]));
    CHECK_OK(conf_dump(table, &s, &first));
    CHECK_OK(conf_defaults(table, &again));
    CHECK_OK(read_text(&again, first));
    CHECK_OK(conf_dump(table, &again, &second));
    CHECK_STR(second, first);
    CHECK(again.lr == s.lr && again.eps == s.eps && again.unbounded == s.unbounded);
    CHECK(again.seed == INT64_MIN);
    CHECK_STR(again.weights, "null");
    if (CHECK(again.labels.n == s.labels.n && s.labels.n == 12))
        for (size_t i = 0; i < s.labels.n; i++) CHECK_STR(again.labels.v[i], s.labels.v[i]);
    const struct yaml_node *parts = yaml_get(again.train, "parts");
    double half = 0, one = 0;
    CHECK(yaml_number(parts->items[0], &half) && half == 0.5);
    CHECK(!yaml_number(parts->items[1], &one)); /* '1' stays a text */
    CHECK(yaml_is_null(parts->items[2]));
    free(first);
    free(second);
    conf_free(table, &s);
    conf_free(table, &again);
}

/* Where the dump needs more than the text that was read: escapes in a long key, two levels more, and at last too many bytes. */
static void dump_of_large_nodes(void) {
    struct settings s, again;
    char *text = NULL, *large = malloc(4u << 20);
    size_t n = 0;
    CHECK_OK(conf_defaults(table, &s));
    CHECK_OK(conf_defaults(table, &again));
    n += (size_t)sprintf(large, "data.train={? \"");
    for (int i = 0; i < 700; i++) n += (size_t)sprintf(large + n, "\\t");
    sprintf(large + n, "\" : 1}");
    CHECK_OK(conf_set(table, &s, large));
    CHECK_OK(conf_dump(table, &s, &text));
    CHECK_OK(read_text(&again, text));
    CHECK(again.train && again.train->n == 1 && strlen(again.train->keys[0]) == 700);
    free(text);

    for (int levels = 62; levels < 65; levels++) {
        n = (size_t)sprintf(large, "data.train=");
        for (int i = 0; i < 2 * levels; i++) large[n++] = i < levels ? '[' : ']';
        large[n] = 0;
        if (levels > 62) {
            CHECK_FAILS(conf_set(table, &s, large), ECG_ERR_CONFIG,
                        "--set: data.train is nested deeper than 62 levels");
            continue;
        }
        CHECK_OK(conf_set(table, &s, large));
        CHECK_OK(conf_dump(table, &s, &text));
        CHECK_OK(read_text(&again, text));
        free(text);
    }

    n = (size_t)sprintf(large, "data.labels=\"");
    memset(large + n, '\t', 2u << 20);
    strcpy(large + n + (2u << 20), "\"");
    CHECK_OK(conf_set(table, &s, large));
    CHECK_FAILS(conf_dump(table, &s, &text), ECG_ERR_CONFIG, "at most 8388608 can be read again");
    CHECK(text == NULL);
    free(large);
    conf_free(table, &s);
    conf_free(table, &again);
}

/* tests/soak_fuzz_config.c goes on for a minute, with the program's own table. */
static void random_damage(void) {
    fuzz_some(&fuzz_config, 1500);
}

static void dump_text(void) {
    struct settings s;
    char *text, *help;
    CHECK_OK(conf_defaults(table, &s));
    CHECK_OK(conf_set(table, &s, "data.train={path: DIR, fold: 1-8}"));
    CHECK_OK(conf_set(table, &s, "optim.unbounded=300000"));
    CHECK_OK(conf_dump(table, &s, &text));
    CHECK_STR(text, "seed: 1\n"
                    "data:\n"
                    "  train: {path: DIR, fold: 1-8}\n"
                    "  labels: null\n"
                    "  shuffle: true\n"
                    "  workers: 2\n"
                    "optim:\n"
                    "  name: adam\n"
                    "  lr: 0.001\n"
                    "  eps: 1e-8\n"
                    "  unbounded: 300000\n"
                    "model:\n"
                    "  filters: [64, 160]\n"
                    "init:\n"
                    "  weights: null\n");
    CHECK_OK(conf_help(table, &help));
    for (const struct conf_option *o = table; o->key; o++) CHECK(strstr(help, o->key) != NULL);
    CHECK(strstr(help, "one of adam, adamw, sgd") != NULL);
    free(text);
    free(help);
    conf_free(table, &s);
}

static void nearest_names(void) {
    static const char *const names[] = {"NORM", "MI", "STTC", "CD", "HYP", NULL};
    CHECK_STR(conf_nearest("norm", names, -1), "NORM");
    CHECK_STR(conf_nearest("NROM", names, -1), "NORM");
    CHECK_STR(conf_nearest("STT", names, 5), "STTC");
    CHECK(conf_nearest("STT", names, 2) == NULL);
    CHECK(conf_nearest("xyzxyz", names, -1) == NULL);
    CHECK(conf_nearest("QQ", names, -1) == NULL);
    CHECK(conf_nearest("", names, -1) == NULL);
    CHECK(conf_nearest("x", names, 0) == NULL);
    char large[1000];
    memset(large, 'a', sizeof large - 1);
    large[sizeof large - 1] = 0;
    CHECK(conf_nearest(large, names, -1) == NULL);
}

int main(void) {
    CASE(defaults);
    CASE(file_and_set);
    CASE(mistakes_in_files);
    CASE(mistakes_in_set);
    CASE(dump_reads_back);
    CASE(dump_of_large_nodes);
    CASE(random_damage);
    CASE(dump_text);
    CASE(nearest_names);
    return check_finish();
}
