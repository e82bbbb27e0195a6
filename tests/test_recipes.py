#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every recipe in configs/ as it stands, on simulated data of its shape under the path that it names: `plan` passes with the
widths as written, a short run with small ones trains (and tests, where the recipe does), and the pretraining recipes' loss
falls. What a recipe predicts is what its label map makes."""
import csv
import glob
import json
import math
import os
import re
import subprocess
import sys
import tempfile

import h5py
import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BINARY = os.environ.get('EINTHOVEN_BINARY') or os.path.join(ROOT, 'build', 'einthoven')
SHARED = os.environ.get('EINTHOVEN_SHARED') or os.path.join(ROOT, '..', 'shared')
SMALL = ['--set', 'model.base_filters=16', '--set', 'model.filters=[16, 32]', '--set', 'model.blocks=[1, 1]']
RATE, SECONDS, RECORDS, STEPS, BATCH = 100, 4, 120, 6, 16
passed = failed = skipped = 0


def check(name, ok, note=''):
    global passed, failed
    passed += bool(ok)
    failed += not ok
    print('%s %s%s%s' % ('ok     ' if ok else 'FAILED ', name, ': ' if note else '', note))
    return ok


def run(folder, *words):
    """(exit code, what it said); in `folder`, where the recipes' paths lead."""
    done = subprocess.run([BINARY, '-q'] + [str(w) for w in words], cwd=folder, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True)
    return done.returncode, done.stderr.strip()[-300:]


def must(folder, *words):
    code, said = run(folder, *words)
    if code != 0:
        sys.exit('%s: exit %d: %s' % (' '.join(map(str, words)), code, said))


class Recipe:
    """What a test must know of a recipe, from its text."""

    def __init__(self, path):
        self.name = os.path.basename(path)[:-5]
        self.path = path
        with open(path) as f:
            text = f.read()
        self.comment = '\n'.join(line for line in text.split('\n') if line.startswith('#'))
        text = '\n'.join(line for line in text.split('\n') if not line.startswith('#'))
        lists = {kind: [re.sub(r'["\s]', '', item) for found in re.findall(r'\b%s:\s*\[(.*?)\]' % kind, text, re.S)
                        for item in found.split(',')] for kind in ('labels', 'targets', 'in_leads')}
        self.labels = lists['labels'] + re.findall(r'\bevent: (\w+)', text)
        self.targets = lists['targets'] + re.findall(r'\btime: (\w+)', text)
        self.leads = lists['in_leads']
        self.softmax = 'softmax' in text
        self.finetunes = bool(re.search(r'^heads?:', text, re.M)) or self.name == 'finetune'
        self.paths = sorted(set(re.findall(r'\bpath: (\w+)', text)))
        self.tests = bool(re.search(r'^\s+test:', text, re.M))
        self.length = 'length:' in text
        if self.name == 'finetune':  # says itself that the head must be given
            self.labels, self.given = ['low_lvef'], ['--set', 'head.labels=[low_lvef]']
        else:
            self.given = []


def make_data(folder, recipe):
    """Simulated records where the recipe looks for them, with its columns and leads: labels of which all are present and absent
    in every part, targets that are sometimes unknown, times above 0."""
    rng = np.random.default_rng(11)
    for path in recipe.paths:
        data = os.path.join(folder, path)
        must(folder, 'synth', '--out', data, '--records', RECORDS, '--seed', 5, '--rate', RATE, '--length', SECONDS)
        with h5py.File(os.path.join(data, 'shard-00000.h5'), 'r+') as f:
            # each record its own patient, folds in turn
            f['fold'][:] = np.arange(RECORDS) % 10 + 1
            del f['patient_id']
            f['patient_id'] = f['record_id'][:]
            if recipe.labels:
                k = len(recipe.labels)
                y = rng.choice([0, 1, 255], size=(RECORDS, k), p=(0.5, 0.45, 0.05)).astype('u1')
                if recipe.softmax:
                    y = np.eye(k, dtype='u1')[rng.integers(0, k, RECORDS)]
                del f['labels']
                f['labels'] = y
                f['labels'].attrs['names'] = '\n'.join(recipe.labels)
            if recipe.targets:
                y = rng.gamma(4, 10, size=(RECORDS, len(recipe.targets))).astype('f4')
                if not recipe.labels:
                    y[rng.random(y.shape) < 0.1] = np.nan
                del f['targets']
                f['targets'] = y
                f['targets'].attrs['names'] = '\n'.join(recipe.targets)
            if len(recipe.leads) == 1 and recipe.leads[0] not in ('I', 'II'):  # another channel than an ECG's lead
                one = f['ecg'][:, :1]
                del f['ecg']
                f['ecg'] = one
                f.attrs['leads'] = recipe.leads[0]
        os.remove(os.path.join(data, 'dataset.json'))


def losses(out):
    with open(os.path.join(out, 'metrics.jsonl')) as f:
        return [json.loads(line)['loss'] for line in f if '"kind":"train"' in line]


def smoke(folder, recipe, weights):
    """A short run of the recipe."""
    out = os.path.join(folder, 'run')
    steps = STEPS if recipe.finetunes else 5 * STEPS
    words = ['--set', 'train.batch_size=%d' % BATCH, '--set', 'train.accumulate=2', '--set', 'train.steps=%d' % steps,
             '--set', 'train.epochs=100', '--set', 'train.eval_every=%d' % steps, '--set', 'train.threads=2', '--out', out]
    if recipe.finetunes:
        words = ['finetune', recipe.path, '--weights', weights] + recipe.given + words
    else:
        length = ['--set', 'model.length=%d' % (RATE * SECONDS)] if recipe.length else []
        words = ['pretrain', recipe.path] + SMALL + length + words
    code, said = run(folder, *words)
    if not check(recipe.name + ': runs', code == 0, said if code else ''):
        return
    values = losses(out)
    check(recipe.name + ': trains', len(values) == steps and all(math.isfinite(v) for v in values),
          'loss %.4f to %.4f' % (values[0], values[-1]))
    check(recipe.name + ': saves', os.path.exists(os.path.join(out, 'checkpoints', 'last', 'model.safetensors')))
    if recipe.tests:
        check(recipe.name + ': tests', os.path.exists(os.path.join(out, 'test', 'metrics.json')))
    if not recipe.finetunes:
        first, last = np.mean(values[:STEPS]), np.mean(values[-STEPS:])
        check(recipe.name + ': the loss falls', last < first, 'mean of %d steps %.4f to %.4f' % (STEPS, first, last))


def plan(folder, recipe, weights):
    words = ['plan', recipe.path, '--no-time', '--set', 'train.threads=2']
    words += ['--weights', weights] + recipe.given if recipe.finetunes else []
    if recipe.length:  # as published: without the data, whose length is the test's
        words += ['--set', 'data.train=absent', '--set', 'data.valid=absent']
    code, said = run(folder, *words)
    check(recipe.name + ': plan', code == 0, said if code else '')


def same_as_map(recipe):
    """The labels that the recipe names are those that the map named in its comment makes, in its order."""
    columns = re.search(r'--label-columns (\S+)', recipe.comment)
    found = re.search(r'--label-map configs/maps/(\w+\.csv)', recipe.comment)
    if not found or not recipe.finetunes:
        return
    with open(os.path.join(ROOT, 'configs', 'maps', found.group(1)), newline='') as f:
        made = list(dict.fromkeys(row['label'] for row in csv.DictReader(f)))
    derived = re.search(r'--map configs/maps/(\w+\.yaml)', recipe.comment)
    before = columns.group(1).split(',') if columns else []
    if derived:
        with open(os.path.join(ROOT, 'configs', 'maps', derived.group(1))) as f:
            before += re.findall(r'^  (\w+): \{column: \w+, (?:above|below)', f.read(), re.M)
    check(recipe.name + ': predicts what its map makes', recipe.labels == before + made, '%d labels' % len(recipe.labels))


def chagas(folder, weights):
    """CODE-15's and SaMi-Trop's real headers to a Chagas head: import, fine-tune, evaluate."""
    global skipped
    sample = os.path.join(SHARED, 'ecg', 'code15')
    if not os.path.isdir(sample):
        skipped += 1
        print('skipped Chagas (no shared recordings here)')
        return
    must(folder, 'import', 'wfdb', sample, '--out', 'code15', '--rate', RATE, '--length', SECONDS, '--label-map',
         os.path.join(ROOT, 'configs', 'maps', 'chagas.csv'), '--code-field', 'Chagas label')
    with h5py.File(os.path.join(folder, 'code15', 'shard-00000.h5')) as f:
        known = f['labels'][:, 0]
    check('Chagas: labels from the headers', (known == 1).sum() == 5 and (known == 0).sum() == 4,
          '%d present, %d absent' % ((known == 1).sum(), (known == 0).sum()))
    must(folder, 'finetune', os.path.join(ROOT, 'configs', 'finetune.yaml'), '--weights', weights, '--set',
         'head.labels=[chagas]', '--set', 'data.train=code15', '--set', 'data.valid=null', '--set', 'data.test=null', '--set',
         'train.steps=20', '--set', 'train.threads=2', '--out', 'chagas')
    must(folder, 'evaluate', '--weights', 'chagas', '--data', 'code15', '--out', 'figures')
    with open(os.path.join(folder, 'figures', 'metrics.json')) as f:
        auroc = json.load(f)['labels']['chagas']['auroc']
    values = losses(os.path.join(folder, 'chagas'))
    check('Chagas: a head trains', values[-1] < values[0], 'loss %.3f to %.3f, AUROC on the same 9 records %.2f' % (
        values[0], values[-1], auroc))


def main():
    with tempfile.TemporaryDirectory() as top:
        must(top, 'synth', '--out', 'pre', '--records', 40, '--rate', RATE, '--length', SECONDS)
        for name, leads in (('twelve', []), ('one', ['--set', 'model.in_leads=[I]'])):
            must(top, 'pretrain', os.path.join(ROOT, 'configs', 'demo_pretrain.yaml'), '--set', 'data.train=pre', '--set',
                 'data.valid=null', '--set', 'train.steps=2', *SMALL, *leads, '--out', name)
        for path in sorted(glob.glob(os.path.join(ROOT, 'configs', '*.yaml'))):
            recipe = Recipe(path)
            same_as_map(recipe)
            folder = os.path.join(top, 'in-' + recipe.name)
            os.mkdir(folder)
            make_data(folder, recipe)
            weights = os.path.join(top, 'one' if len(recipe.leads) == 1 else 'twelve')
            plan(folder, recipe, weights)
            smoke(folder, recipe, weights)
        chagas(top, os.path.join(top, 'twelve'))
    print('%d passed, %d failed, %d skipped' % (passed, failed, skipped))
    return failed != 0


if __name__ == '__main__':
    sys.exit(main())
