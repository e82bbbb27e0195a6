#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""model.pool: attention through the program: fine-tuning in full and as a linear probe from weights that pool by the mean,
interrupted and resumed, and what reads the weights afterwards."""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BINARY = os.environ.get('EINTHOVEN_BINARY') or os.path.join(os.path.dirname(HERE), 'build', 'einthoven')
try:
    import h5py
    import numpy as np
except ImportError as e:
    print('test_pooling: skipped (%s)' % e)
    print('0 passed, 0 failed, 1 skipped')
    sys.exit(0)

sys.path.insert(0, os.path.join(HERE, 'fixtures'))
import tensors as st  # noqa: E402

passed = failed = 0


def check(name, ok, note=''):
    global passed, failed
    passed += bool(ok)
    failed += not ok
    print('%s %s %s' % ('ok     ' if ok else 'FAILED ', name, note))


def run(*words, expect=0):
    r = subprocess.run([BINARY, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if r.returncode != expect:
        raise SystemExit('%s: exit %d\n%s' % (' '.join(words), r.returncode, r.stderr))
    return r.stderr


def losses(out):
    with open(os.path.join(out, 'metrics.jsonl'), encoding='utf-8') as f:
        return [line['loss'] for line in map(json.loads, f) if line['kind'] == 'train']


def saved(out, which='last'):
    return os.path.join(out, 'checkpoints', which, 'model.safetensors')


def content(path):
    with open(path, 'rb') as f:
        return f.read()


def is_head(name):
    return name.startswith(('dense.', 'pool.'))


class Runs:
    def __init__(self, tmp):
        self.tmp = tmp
        self.data, self.config = self.at('ecgs'), self.at('c.yaml')
        run('-q', 'synth', '--out', self.data, '--records', '150', '--seed', '5', '--rate', '100')
        with open(self.config, 'w', encoding='utf-8') as f:
            f.write('model: {base_filters: 16, filters: [16, 32], blocks: [1, 2]}\n'
                    'data: {train: {path: %s, part: [0, 0.7]}, valid: {path: %s, part: [0.7, 1]}}\n'
                    'optim: {lr: 0.003}\ntrain: {batch_size: 16, epochs: 8, save_every: 3}\n' % (self.data, self.data))
        self.base = self.at('base')
        run('-q', 'pretrain', self.config, '--out', self.base, '--set', 'train.epochs=2')

    def at(self, name):
        return os.path.join(self.tmp, name)

    def words(self, name, *settings):
        """Fine-tuning `base` to one label."""
        out = ['--set', 'head.labels=[sinus_rhythm]']
        for s in settings:
            out += ['--set', s]
        return ['-q', 'finetune', self.config, '--weights', self.base, '--out', self.at(name), *out]

    def finetune(self, name, *settings):
        run(*self.words(name, *settings))
        return losses(self.at(name)), st.load(saved(self.at(name)))

    def backbone_is_base(self, tensors):
        return all((tensors[k] == v).all() for k, v in st.load(saved(self.base, 'best')).items() if not is_head(k))


ATTENTION = 'model.pool=attention'


def probe(runs):
    mean, _ = runs.finetune('probe-mean', 'head.freeze=true')
    got, tensors = runs.finetune('probe', ATTENTION, 'head.freeze=true')
    check('a probe starts as the mean', abs(got[0] - mean[0]) <= 1e-6 * mean[0], '%.7g and %.7g' % (got[0], mean[0]))
    check('and learns another way', abs(got[-1] - mean[-1]) > 1e-4 * mean[-1], '%.7g and %.7g' % (got[-1], mean[-1]))
    check('its attention is trained', tensors['pool.weight'].shape == (1, 32) and (tensors['pool.weight'] != 0).all())
    check('its backbone is not', runs.backbone_is_base(tensors))


def full(runs):
    got, tensors = runs.finetune('full', ATTENTION)
    check('fine-tuning lowers the loss', np.mean(got[-7:]) < np.mean(got[:7]),
          'from %.3f to %.3f' % (np.mean(got[:7]), np.mean(got[-7:])))
    check('attention and backbone are trained', (tensors['pool.weight'] != 0).all() and not runs.backbone_is_base(tensors))
    runs.finetune('again', ATTENTION, 'train.recompute=true', 'train.threads=1')
    check('recompute on one thread gives the same weights', content(saved(runs.at('again'))) == content(saved(runs.at('full'))))
    half, _ = runs.finetune('bf16', ATTENTION, 'train.precision=bf16')
    check('bf16 follows', max(abs(a - b) for a, b in zip(half, got)) <= 0.1 and len(half) == len(got))


def resumed(runs, name, *settings):
    """Killed once a few steps and a checkpoint are there, then finished: the weights of the run that was not."""
    whole, cut = runs.at(name), runs.at(name + '-cut')
    settings += ('train.epochs=60',)
    runs.finetune(name, *settings)
    child = subprocess.Popen([BINARY, *runs.words(name + '-cut', *settings)], stderr=subprocess.DEVNULL)
    while child.poll() is None and not os.path.exists(saved(cut)):
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    check(name + ' is killed on its way', child.wait() == -signal.SIGKILL)
    run(*runs.words(name + '-cut', *settings), '--resume')
    check(name + ', killed and resumed, gives the same weights', content(saved(cut)) == content(saved(whole)))


def readers(runs):
    full_run, base = runs.at('full'), runs.base
    for name, weights in (('full', full_run), ('base', base)):
        run('-q', 'embed', '--weights', weights, '--data', runs.data, '--out', runs.at(name + '.h5'))
    run('-q', 'predict', '--weights', full_run, '--data', runs.data, '--out', runs.at('p.h5'))
    run('-q', 'evaluate', '--weights', full_run, '--data', runs.data, '--out', runs.at('evaluation'))
    dense = st.load(saved(full_run, 'best'))
    with h5py.File(runs.at('full.h5')) as f, h5py.File(runs.at('base.h5')) as g, h5py.File(runs.at('p.h5')) as p:
        features, logits = f['embedding'][:], p['logits'][:]
        check('embed gives the pooled features', features.shape == g['embedding'].shape == (150, 32))
    error = np.abs(features @ dense['dense.weight'].T + dense['dense.bias'] - logits).max()
    check('the logits are theirs', error <= 1e-5 * np.abs(logits).max(), '%.2g' % error)
    text = run('finetune', runs.config, '--weights', full_run, '--out', runs.at('back'), '--set', 'head.targets=[age]')
    check('a new head without attention', 'head replaced' in text and 'pool.weight' not in st.load(saved(runs.at('back'))))


def refusals(runs):
    text = run(*runs.words('no', 'model.pool=max'), expect=78)
    check('another pooling is refused', 'must be one of mean, attention' in text)
    text = run('pretrain', runs.config, '--out', runs.at('no'), '--set', ATTENTION, '--set', 'init.weights=' + runs.base,
               expect=65)
    check('a head that lacks it is no start', 'missing: pool.weight' in text)


with tempfile.TemporaryDirectory() as folder:
    r = Runs(folder)
    probe(r)
    full(r)
    resumed(r, 'in full', ATTENTION, 'model.dropout=0.2')
    resumed(r, 'probed', ATTENTION, 'head.freeze=true')
    readers(r)
    refusals(r)
print('%d passed, %d failed, 0 skipped' % (passed, failed))
sys.exit(failed > 0)
