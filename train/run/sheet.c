/* SPDX-License-Identifier: MIT
 * The text goes out line by line, the JSON at the end. */
#include "train/run/sheet.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define MIB 1048576.0

void sheet_begin(struct sheet *s, bool json) {
    *s = (struct sheet){.json = json, .w = {.pretty = true}};
    if (json) json_begin_object(&s->w);
}

static void print_key(const struct sheet *s, const char *key) {
    printf("%*s%s:", 2 * s->depth, "", key);
}

void sheet_section(struct sheet *s, const char *key) {
    if (s->json) {
        json_put_key(&s->w, key);
        json_begin_object(&s->w);
    } else {
        print_key(s, key);
        printf("\n");
    }
    s->depth++;
}

void sheet_end_section(struct sheet *s) {
    s->depth--;
    if (s->json) json_end_object(&s->w);
}

void sheet_text(struct sheet *s, const char *key, const char *value) {
    if (!s->json) {
        print_key(s, key);
        putchar(' ');
        for (const char *c = value != NULL ? value : "-"; *c != 0; c++)
            fputs(*c == '\n' ? ", " : (char[2]){*c, 0}, stdout);
        putchar('\n');
        return;
    }
    json_put_key(&s->w, key);
    if (value != NULL)
        json_put_string(&s->w, value);
    else
        json_put_null(&s->w);
}

void sheet_integer(struct sheet *s, const char *key, int64_t value) {
    if (!s->json) {
        print_key(s, key);
        printf(" %lld\n", (long long)value);
        return;
    }
    json_put_key(&s->w, key);
    json_put_integer(&s->w, value);
}

void sheet_number(struct sheet *s, const char *key, double value) {
    if (!s->json) {
        print_key(s, key);
        if (isnan(value))
            printf(" -\n");
        else
            printf(" %.6g\n", value);
        return;
    }
    json_put_key(&s->w, key);
    json_put_number(&s->w, value);
}

void sheet_bytes(struct sheet *s, const char *key, uint64_t bytes) {
    char text[40];
    if (s->json) {
        sheet_integer(s, key, (int64_t)bytes);
        return;
    }
    snprintf(text, sizeof(text), "%.1f MiB", (double)bytes / MIB);
    sheet_text(s, key, text);
}

void sheet_seconds(struct sheet *s, const char *key, double seconds) {
    char text[60];
    long minutes = (long)(seconds / 60 + 0.5);
    if (s->json) {
        sheet_number(s, key, seconds);
        return;
    }
    if (seconds < 100)
        snprintf(text, sizeof(text), "%.3g s", seconds);
    else if (minutes < 100)
        snprintf(text, sizeof(text), "%ld min", minutes);
    else if (minutes < 48 * 60)
        snprintf(text, sizeof(text), "%ld h %ld min", minutes / 60, minutes % 60);
    else
        snprintf(text, sizeof(text), "%ld d %ld h", minutes / 1440, minutes % 1440 / 60);
    sheet_text(s, key, text);
}

enum ecg_status sheet_finish(struct sheet *s) {
    if (!s->json) return ECG_OK;
    char *text = NULL;
    json_end_object(&s->w);
    TRY(json_writer_take(&s->w, &text));
    fputs(text, stdout);
    free(text);
    return ECG_OK;
}
