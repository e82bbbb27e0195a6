#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every kind of head learns simulated data to the figure that the simulation allows.

`synth --outcomes` states the laws that its outcomes are drawn by, so the best score of any model is known: the truth's own
(AUROC and Brier score of P(low_lvef), C-index of log_hazard, error and likelihood of lvef around its mean). What the signal
was made from, such as a rhythm, is there to be seen: 1 at best. Each head is fine-tuned on a backbone that was
pretrained on findings and heart rate, then scored on records of other patients. Printed are the figure, what the
simulation allows, what needs no ECG at all (chance), and the share of the way between these two that the head went."""
import csv
import glob
import json
import math
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BINARY = os.environ.get('EINTHOVEN_BINARY') or os.path.join(ROOT, 'build', 'einthoven')
RHYTHMS = ['sinus_rhythm', 'sinus_bradycardia', 'sinus_tachycardia', 'atrial_fibrillation', 'atrial_flutter']
FINDINGS = ['lbbb', 'rbbb', 'lvh', 'long_qt', 'pvc', 'anterior_st_elevation', 'inferior_st_elevation']
MIXED = ['lbbb', 'rbbb', 'pvc', 'atrial_fibrillation', 'low_lvef']
EARLY, LATE = 730, 1825  # days
TIMES = [180, 365, EARLY, 1095, 1460, LATE, 2555, 3650]
CUTS = [40, 50, 60]
passed = failed = 0


def check(name, ok, note):
    global passed, failed
    passed += bool(ok)
    failed += not ok
    print('%s %s: %s' % ('ok     ' if ok else 'FAILED ', name, note), flush=True)


def run(*words):
    r = subprocess.run([BINARY, '-q'] + [str(w) for w in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if r.returncode != 0:
        raise SystemExit('%s: exit %d\n%s' % (' '.join(map(str, words)), r.returncode, r.stderr))


# ------------------------------------------------------------------ truth

def read_truth(folder):
    """record id -> its columns by name."""
    rows = {}
    for path in sorted(glob.glob(os.path.join(folder, '*.h5'))):
        with h5py.File(path, 'r') as f:
            names = [n for key in ('labels', 'targets') for n in f[key].attrs['names'].split('\n')]
            values = np.concatenate([f['labels'][:].astype(float), f['targets'][:].astype(float)], axis=1)
            rows.update((i.decode(), dict(zip(names, v))) for i, v in zip(f['record_id'][:], values))
    return rows


class Scored:
    """Predictions of a run on its test part, beside the truth of these records."""

    def __init__(self, out, rows, data):
        with open(os.path.join(out, 'test', 'predictions.csv'), encoding='utf-8') as f:
            lines = list(csv.DictReader(f))
        with open(os.path.join(out, 'test', 'metrics.json'), encoding='utf-8') as f:
            self.metrics = json.load(f)
        self.out, self.data, self.lines, self.ids = out, data, lines, [line['record_id'] for line in lines]
        self.truth = {k: np.array([rows[i][k] for i in self.ids]) for k in rows[self.ids[0]]}

    def numbers(self, column):
        return np.array([float(line[column]) for line in self.lines])

    def texts(self, column):
        return np.array([line[column] for line in self.lines])


def normal_below(x, mean, sd):
    return np.array([0.5 * math.erfc((m - x) / (s * math.sqrt(2))) for m, s in zip(mean, sd)])


def auroc(score, y):
    order = np.argsort(score, kind='mergesort')
    values, first, n = np.unique(score[order], return_index=True, return_counts=True)
    rank = dict(zip(values, first + (n + 1) / 2))
    positive = y == 1
    n1, n0 = positive.sum(), (~positive).sum()
    return (sum(rank[s] for s in score[positive]) - n1 * (n1 + 1) / 2) / (n1 * n0)


def concordance(risk, event, time):
    """Harrell's, over pairs in which the earlier time is an event's; one censored on that day lived longer."""
    good = pairs = 0
    for i in np.flatnonzero(event == 1):
        later = (time > time[i]) | ((time == time[i]) & (event == 0))
        pairs += later.sum()
        good += (risk[later] < risk[i]).sum() + 0.5 * (risk[later] == risk[i]).sum()
    return good / pairs


def nll(x, mean, sd):
    return np.mean(0.5 * np.log(2 * np.pi * sd ** 2) + 0.5 * ((x - mean) / sd) ** 2)


# ------------------------------------------------------------------ figures: (name, got, allowed, chance)

def same(name, got, program):
    """Our figure of the program's predictions is the program's own."""
    if not abs(got - program) <= 1e-5:
        check(name, False, '%.7f here, %.7f in metrics.json' % (got, program))


def low_lvef_best(s):
    return normal_below(50, s.truth['lvef_mean'], s.truth['lvef_sd'])


def of_labels(s, names):
    got = [auroc(s.numbers(n + '_prob'), s.truth[n]) for n in names]
    for n, a in zip(names, got):
        same('AUROC of ' + n, a, s.metrics['labels'][n]['auroc'])
    best = [auroc(low_lvef_best(s), s.truth[n]) if n == 'low_lvef' else 1 for n in names]
    return [('AUROC', np.mean(got), np.mean(best), 0.5)]


def of_mixed(s):
    return of_labels(s, MIXED)


def of_low_lvef(s):
    p, y, best = s.numbers('low_lvef_prob'), s.truth['low_lvef'], low_lvef_best(s)
    same('Brier score', np.mean((p - y) ** 2), s.metrics['labels']['low_lvef']['brier'])
    return of_labels(s, ['low_lvef']) + [('Brier', np.mean((p - y) ** 2), np.mean((best - y) ** 2), np.var(y))]


def of_classes(s, name, truth):
    """Accuracy over the records whose class is known."""
    called, known = s.texts(name + '_called'), np.array([t is not None for t in truth])
    truth = np.array([t or '' for t in truth])
    got = np.mean(called[known] == truth[known])
    same('accuracy', got, s.metrics['classes'][name]['accuracy'])
    usual = max(np.mean(truth[known] == t) for t in set(truth[known]))
    return [('accuracy', got, 1, usual)]


def present(s, names):
    return [next((n for n in names if s.truth[n][i] == 1), None) for i in range(len(s.ids))]


def of_rhythm(s):
    return of_classes(s, 'rhythm', present(s, RHYTHMS))


def of_rates(s):
    return of_classes(s, 'rate', present(s, ['sinus_bradycardia', 'sinus_rhythm', 'sinus_tachycardia']))


def of_grade(s):
    """Log score of a class that chance decides; the best probabilities are the normal law's."""
    names = ['lvef<40', '40<=lvef<50', '50<=lvef<60', 'lvef>=60']
    at = np.digitize(s.truth['lvef'], CUTS)
    below = [normal_below(c, s.truth['lvef_mean'], s.truth['lvef_sd']) for c in CUTS]
    best = np.diff(np.stack([np.zeros(len(at))] + below + [np.ones(len(at))]), axis=0)
    got = np.stack([s.numbers('grade_%s_prob' % n) for n in names])
    usual = np.bincount(at, minlength=4) / len(at)
    rows = np.arange(len(at))
    called = [names[k] for k in got.argmax(axis=0)]
    if list(s.texts('grade_called')) != called:
        check('grade', False, 'the class called is not the most probable one')
    return [('log score', -np.mean(np.log(got[at, rows])), -np.mean(np.log(best[at, rows])), -np.mean(np.log(usual[at]))),
            ('accuracy', np.mean(got.argmax(axis=0) == at), np.mean(best.argmax(axis=0) == at), usual.max())]


def of_lvef(s):
    y, mean = s.truth['lvef'], s.truth['lvef_mean']
    got = np.mean(np.abs(s.numbers('lvef_pred') - y))
    same('MAE', got, s.metrics['targets']['lvef']['mae'])
    return [('MAE', got, np.mean(np.abs(y - mean)), np.mean(np.abs(y - np.median(y))))]


def of_gaussian(s):
    y, sd, af = s.truth['lvef'], s.numbers('lvef_sd'), s.truth['atrial_fibrillation'] == 1
    got = nll(y, s.numbers('lvef_pred'), sd)
    same('NLL', got, s.metrics['targets']['lvef']['nll'])
    covered = s.metrics['targets']['lvef']['coverage']
    check('gaussian', 0.89 <= covered <= 0.98, '%.3f of the records within their 95 %% (0.89 .. 0.98)' % covered)
    ratio = sd[af].mean() / sd[~af].mean()
    check('gaussian', ratio > 1.25, 'sd in atrial fibrillation %.2f, else %.2f (true: 8 and 4)' % (sd[af].mean(), sd[~af].mean()))
    return of_lvef(s) + [('NLL', got, nll(y, s.truth['lvef_mean'], s.truth['lvef_sd']), nll(y, y.mean(), y.std()))]


def of_death(s):
    t = s.truth
    got = concordance(s.numbers('death_risk'), t['death'], t['follow_up_days'])
    same('C-index', got, s.metrics['survivals']['death']['c_index'])
    return [('C-index', got, concordance(t['log_hazard'], t['death'], t['follow_up_days']), 0.5)]


def of_hazard(s):
    """Also P(death within two and five years) beside the true one; without the ECG, its average."""
    path = os.path.join(s.out, 'values.h5')
    run('predict', '--weights', s.out, '--data', test_part(s.data), '--out', path)
    with h5py.File(path, 'r') as f:
        names = f['values'].attrs['names'].split('\n')
        values = dict(zip((i.decode() for i in f['record_id'][:]), f['values'][:].astype(float)))
    figures = of_death(s)
    for day in (EARLY, LATE):
        p = np.array([values[i][[k for k, n in enumerate(names) if n.endswith('%d' % day)][0]] for i in s.ids])
        best = 1 - np.exp(-np.exp(s.truth['log_hazard']) * day)
        figures.append(('P(%d d) error' % day, np.mean(np.abs(p - best)), 0, np.mean(np.abs(best - best.mean()))))
    return figures


def of_several(s):
    rate = np.mean(np.abs(s.numbers('heart_rate_pred') - s.truth['heart_rate']))
    usual = np.mean(np.abs(s.truth['heart_rate'] - np.median(s.truth['heart_rate'])))
    return of_rhythm(s) + of_low_lvef(s) + of_lvef(s) + of_death(s) + [('rate MAE', rate, 0, usual)]


def one(columns, name, more=''):
    return '[{%s, loss: {name: %s%s}}]' % (columns, name, ', ' + more if more else '')


LABELS = 'labels: [%s]' % ', '.join(MIXED)
SURVIVAL = 'name: death, event: death, time: follow_up_days'
SEVERAL = ('[{name: rhythm, labels: [%s], loss: softmax}, {labels: [low_lvef], weight: 0.5}, {targets: [lvef], loss: huber}, '
           '{%s, loss: cox, weight: 0.5}, {targets: [heart_rate]}]' % (', '.join(RHYTHMS), SURVIVAL))
# name, heads, figures, least share of each on the quick way (of 5 seeds the worst, and a margin) and on the long one (of 2)
HEADS = [
    ('softmax', one('name: rhythm, labels: [%s]' % ', '.join(RHYTHMS), 'softmax'), of_rhythm, [0.8], [0.93]),
    ('ordinal', one('name: rate, labels: [sinus_bradycardia, sinus_rhythm, sinus_tachycardia]', 'ordinal'), of_rates, [0.85], [0.93]),
    ('bce', one(LABELS, 'bce'), of_mixed, [0.93], [0.97]),
    ('bce, pos_weight inverse', one(LABELS, 'bce', 'pos_weight: inverse'), of_mixed, [0.93], [0.97]),
    ('hill', one(LABELS, 'hill'), of_mixed, [0.93], [0.97]),
    ('hill, focal_margin', one(LABELS, 'hill', 'positive: focal_margin'), of_mixed, [0.93], [0.97]),
    ('focal', one(LABELS, 'focal'), of_mixed, [0.93], [0.97]),
    ('asl', one(LABELS, 'asl'), of_mixed, [0.93], [0.97]),
    ('event', one('labels: [low_lvef]', 'bce'), of_low_lvef, [0.8, 0.55], [0.93, 0.75]),
    ('ordinal, bins', one('name: grade, targets: [lvef]', 'ordinal', 'bins: %s' % CUTS), of_grade, [0.42, 0.55], [0.77, 0.78]),
    ('mse', one('targets: [lvef]', 'mse'), of_lvef, [0.65], [0.8]),
    ('huber', one('targets: [lvef]', 'huber'), of_lvef, [0.65], [0.8]),
    ('gaussian', one('targets: [lvef]', 'gaussian'), of_gaussian, [0.65, 0.58], [0.78, 0.72]),
    ('cox', one(SURVIVAL, 'cox'), of_death, [0.75], [0.86]),
    ('hazard', one(SURVIVAL, 'hazard', 'bins: %s' % TIMES), of_hazard, [0.75, 0.42, 0.42], [0.88, 0.6, 0.6]),
    ('several', SEVERAL, of_several, [0.8, 0.83, 0.6, 0.62, 0.78, 0.75], [0.92, 0.93, 0.8, 0.78, 0.85, 0.82]),
]
PROBES = 8  # so many of the first are linear probes on the quick way
BACKBONE = ('[{name: rhythm, labels: [%s], loss: softmax}, {name: findings, labels: [%s]}, {targets: [heart_rate]}]'
            % (', '.join(RHYTHMS), ', '.join(FINDINGS)))


def test_part(data):
    return '{path: %s, part: [0.7, 1]}' % data


def write_config(path, data, heads, rate, epochs, seed):
    with open(path, 'w', encoding='utf-8') as f:
        f.write('model: {base_filters: 16, filters: [16, 32, 32, 64, 64], blocks: [1, 1, 1, 2, 2]}\n'
                'data:\n  train: {path: %s, part: [0, 0.6]}\n  valid: {path: %s, part: [0.6, 0.7]}\n'
                'heads: %s\noptim: {name: adamw, lr: %g, weight_decay: 1e-2}\nschedule: {name: onecycle}\n'
                'train: {batch_size: 64, epochs: %d, seed: %d, threads: 1}\n' % (data, data, heads, rate, epochs, seed))


def fine_tune(tmp, data, n, heads, epochs, seed, is_probe):
    config, out = os.path.join(tmp, 'c%d.yaml' % n), os.path.join(tmp, 'run%d' % n)
    write_config(config, data, heads, *((2e-2, 40) if is_probe else (3e-3, epochs)), seed)
    run('finetune', config, '--weights', os.path.join(tmp, 'backbone'), '--set', 'data.test=' + test_part(data),
        '--set', 'head.freeze=%s' % str(is_probe).lower(), '--out', out)
    return out


def main(tmp, records, pretraining, epochs, seed, is_long):
    data, config = os.path.join(tmp, 'ecgs'), os.path.join(tmp, 'c.yaml')
    run('synth', '--out', data, '--records', records, '--seed', seed, '--rate', 100, '--length', 5, '--noise', 0.3, '--outcomes')
    rows = read_truth(data)
    write_config(config, data, BACKBONE, 6e-3, pretraining, seed)
    run('pretrain', config, '--out', os.path.join(tmp, 'backbone'), '--set', 'train.threads=0')
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:  # one thread each: such networks gain little by more
        runs = [pool.submit(fine_tune, tmp, data, n, head[1], epochs, seed, not is_long and n < PROBES)
                for n, head in enumerate(HEADS)]
        for (name, _, figures, quick, long), done in zip(HEADS, runs):
            scored = Scored(done.result(), rows, data)
            for (what, got, allowed, chance), bound in zip(figures(scored), long if is_long else quick):
                share = (got - chance) / (allowed - chance)
                check(name, share >= bound, '%s %.4f, allowed %.4f, chance %.4f: %.3f of the way (at least %.2f)'
                      % (what, got, allowed, chance, share, bound))


def is_sanitized():
    with open(BINARY, 'rb') as f:
        text = f.read()
    return b'__asan_init' in text or b'__tsan_init' in text


if __name__ == '__main__':
    if is_sanitized():
        print('test_heads: skipped (with a sanitizer it takes long, and learns the same)\n0 passed, 0 failed, 1 skipped')
        sys.exit(0)
    with tempfile.TemporaryDirectory() as folder:
        main(folder, 2400, 12, 4, 1, False)
    print('%d passed, %d failed, 0 skipped' % (passed, failed))
    sys.exit(failed > 0)
