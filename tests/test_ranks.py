#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Several ranks that train one model: the same batches and, but for rounding, the same losses as one rank; the same bits from run
to run and by every backend; stopped, killed and hung ranks; other numbers of ranks at a resume; errors that are told once.

A case is a run by 1, 2 and 4 ranks. With optim.lr 0 the weights stay, and a step's loss tells which records, in which places
(dropout, mixup), its batch had: there the bound is a sum's rounding in double."""
import glob
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

try:
    import h5py
except ImportError:
    h5py = None

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BINARY = os.environ.get('EINTHOVEN_BINARY') or os.path.join(ROOT, 'build', 'einthoven')
PLUGIN = os.path.join(ROOT, 'build', 'libeinthoven_mpi.so')
LAUNCHERS = ('SLURM_', 'OMPI_', 'PMI', 'PMIX_', 'TORCHELASTIC_')
TIMEOUT = 3  # seconds of silence that a rank may keep
passed = failed = skipped = 0
ports = itertools.count(21000 + os.getpid() % 9000)


def check(name, ok, note=''):
    global passed, failed
    passed += bool(ok)
    failed += not ok
    print('%s %s%s%s' % ('ok     ' if ok else 'FAILED ', name, ': ' if note else '', note), flush=True)


def skip(name):
    global skipped
    skipped += 1
    print('skipped ' + name, flush=True)


def finish():
    print('%d passed, %d failed, %d skipped' % (passed, failed, skipped))
    return failed != 0


# ------------------------------------------------------------------ launching

def environment(**more):
    names = {k: v for k, v in os.environ.items()
             if not k.startswith(LAUNCHERS) and k not in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')}
    names.update({'EINTHOVEN_COMM_START': '60', 'EINTHOVEN_COMM_TIMEOUT': str(TIMEOUT)}, **more)
    return names


class Job:
    """Ranks by RANK and WORLD_SIZE, over TCP; one process for one rank. early: a signal that the last rank gets while it still
    waits for rank 0."""

    def __init__(self, ranks, *words, cores=None, early=None, **more):
        port = next(ports)
        words = [BINARY, '-q'] + [str(w) for w in words]
        self.ranks, self.processes = ranks, [None] * ranks
        for r in reversed(range(ranks)):
            env = environment(**more)
            if ranks > 1:
                env.update(RANK=str(r), WORLD_SIZE=str(ranks), LOCAL_RANK=str(r), MASTER_ADDR='127.0.0.1',
                           MASTER_PORT=str(port))
            bound = ['taskset', '-c', str(cores[r])] + words if cores else words
            if r == 0 and early is not None:
                time.sleep(0.5)
                self.processes[-1].send_signal(early)
            self.processes[r] = subprocess.Popen(bound, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def wait(self, seconds=120, but=None):
        """Exit codes; None for a rank that had to be killed. What they said is in self.said."""
        end, codes = time.monotonic() + seconds, [None] * self.ranks
        self.said = [''] * self.ranks
        for r, p in enumerate(self.processes):
            if r == but:
                continue
            try:
                self.said[r] = p.communicate(timeout=max(0.1, end - time.monotonic()))[1]
                codes[r] = p.returncode
            except subprocess.TimeoutExpired:
                p.kill()
                self.said[r] = p.communicate()[1]
        return codes


def train(ranks, out, config, *sets, command='pretrain', weights=None, resume=False, **more):
    words = [command, config, '--out', out] + [w for s in sets for w in ('--set', s)]
    words += ['--weights', weights] if weights else []
    return Job(ranks, *words, *(['--resume'] if resume else []), **more)


def must(job, *name):
    codes = job.wait()
    if codes != [0] * job.ranks:
        check(' '.join(map(str, name)), False, 'exit codes %s: %s' % (codes, ' | '.join(job.said)[-1500:]))
    return codes == [0] * job.ranks


def journal(out):
    lines = []
    try:
        with open(os.path.join(out, 'metrics.jsonl'), encoding='utf-8') as f:
            for line in f:
                try:
                    lines.append(json.loads(line))
                except json.JSONDecodeError:
                    break  # being written
    except OSError:
        pass
    for line in lines:
        line.pop('ecg_per_s', None)
    return lines


def weights_of(out, which='last'):
    with open(os.path.join(out, 'checkpoints', which, 'model.safetensors'), 'rb') as f:
        return f.read()


def furthest(a, b, first, rest, fields=('loss', 'grad_norm')):
    """(the largest difference, what is wrong or '') of two journals: `first` bounds the first step, `rest` the others. Gradient
    norms and losses above 1 are compared as a share."""
    worst = 0.0
    if [(x['kind'], x['step'], x['epoch'], x.get('lr')) for x in a] != [(x['kind'], x['step'], x['epoch'], x.get('lr')) for x in b]:
        return worst, 'other steps (%d and %d lines)' % (len(a), len(b))
    if not a:
        return worst, 'no lines'
    for x, y in zip(a, b):
        for key in fields + ('macro_auroc',):
            if x.get(key) is None and y.get(key) is None:
                continue
            if x.get(key) is None or y.get(key) is None:
                return worst, 'step %d: %s %s and %s' % (x['step'], key, x.get(key), y.get(key))
            d = abs(x[key] - y[key]) / max(1.0, abs(y[key]))
            worst = max(worst, d)
            # AUROC is a step function of the weights: two records that change places are one step of it
            bound = first if x['step'] == 1 else 0.02 if key == 'macro_auroc' and rest > 1e-9 else rest
            if not d <= bound:
                return worst, 'step %d: %s %.12g and %.12g' % (x['step'], key, x[key], y[key])
    return worst, ''


# ------------------------------------------------------------------ the same as one rank

class Set:
    """Data, configs and weights to start from."""

    def __init__(self, folder):
        self.folder = folder
        self.data = os.path.join(folder, 'ecgs')
        self.holes = os.path.join(folder, 'holes')
        subprocess.run([BINARY, '-q', 'synth', '--out', self.data, '--records', '150', '--seed', '5', '--rate', '100', '--length',
                        '3'], check=True)
        self.config = self.write('c', 'batch_norm: false')
        self.normed = self.write('bn', 'batch_norm: true')
        self.base = os.path.join(folder, 'base')
        self.normed_base = os.path.join(folder, 'normed_base')
        must(train(1, self.base, self.config, 'train.steps=3'), 'base')
        must(train(1, self.normed_base, self.normed, 'train.steps=3'), 'base with batch norm')

    def write(self, name, model):
        path = os.path.join(self.folder, name + '.yaml')
        with open(path, 'w', encoding='utf-8') as f:
            f.write('''model: {base_filters: 8, filters: [8, 16], blocks: [1, 2], kernel_size: 7, group_width: 8, %s}
data:
  train: {path: %s, part: [0, 0.7]}
  valid: {path: %s, part: [0.7, 1]}
train: {batch_size: 16, steps: 21, clip_norm: 1, threads: 1, eval_every: 10}
''' % (model, self.data, self.data))
        return path

    def finetuning(self, name='f'):
        path = os.path.join(self.folder, name + '.yaml')
        with open(path, 'w', encoding='utf-8') as f:
            f.write('''data:
  train: {path: %s, part: [0, 0.7]}
  valid: {path: %s, part: [0.7, 1]}
head: {labels: [sinus_rhythm, pvc]}
train: {batch_size: 16, steps: 21, clip_norm: 1, threads: 1, eval_every: 10}
''' % (self.data, self.data))
        return path

    def make_holes(self):
        """Labels that only one record in five has, and not all of them."""
        shutil.copytree(self.data, self.holes)
        for path in glob.glob(os.path.join(self.holes, '*.h5')):
            with h5py.File(path, 'r+') as f:
                labels = f['labels'][:]
                for i in range(len(labels)):
                    labels[i, :(i // 5) % 7 if i % 5 == 0 else None] = 255
                f['labels'][:] = labels


STILL = 'optim.lr=0'
SYNCED = 'model.sync_batch_norm=true'
TWO_HEADS = ('heads=[{name: a, labels: [sinus_rhythm, pvc], loss: hill}, '
             '{name: b, targets: [pr_ms, age], loss: huber, weight: 0.5}, '
             '{name: c, labels: [sinus_bradycardia, sinus_tachycardia, atrial_fibrillation], loss: softmax}]')
AUGMENT = 'augment.ops=[scaling, noise, shift, cutout, lead_drop]'
SURVIVAL = ('heads=[{name: s, event: sinus_rhythm, time: heart_rate, loss: cox}, {name: q, labels: [pvc], loss: bce}]')


BUCKETS = ('model.base_filters=64', 'model.filters=[256, 640, 640]', 'model.blocks=[1, 1, 3]', 'model.group_width=64')


def cases(s):
    """(name, command, config, weights, settings)"""
    def pre(name, *sets):
        return (name, 'pretrain', s.config, None, sets)

    def fine(name, *sets, weights=None):
        return (name, 'finetune', s.finetuning(), weights or s.base, sets)
    yield pre('plain, the last batch smaller')
    yield pre('bf16', 'train.precision=bf16')
    yield pre('accumulate 2', 'train.accumulate=2')
    yield pre('accumulate 3, bf16', 'train.accumulate=3', 'train.precision=bf16')
    yield pre('ranks without a record', 'train.batch_size=3')
    yield pre('several buckets, ranks without a record', *BUCKETS, 'train.batch_size=3', 'train.steps=3', 'train.clip_norm=0')
    yield pre('one record a batch', 'train.batch_size=1', 'train.steps=10')
    yield pre('without shuffle, sgd', 'data.shuffle=false', 'optim.name=sgd', 'optim.momentum=0.9')
    yield pre('order', STILL, 'train.steps=17')
    yield pre('places', STILL, 'model.dropout=0.3', 'model.drop_path=0.2', 'train.steps=17')
    yield pre('pairs', STILL, 'train.mixup=0.4', AUGMENT, 'train.steps=17')
    yield pre('draws', STILL, 'data.balance=true', 'train.batch_size=7', 'train.steps=33')
    yield pre('dropout and drop-path', 'model.dropout=0.3', 'model.drop_path=0.2')
    yield pre('mixup and augmentation', 'train.mixup=0.4', AUGMENT, 'augment.n=2')
    yield pre('mixup, odd batches', 'train.mixup=0.4', 'train.batch_size=7')
    yield pre('balanced', 'data.balance=true')
    yield pre('average, onecycle', 'train.ema=0.9', 'schedule.name=onecycle')
    yield pre('attention', 'model.pool=attention')
    yield pre('recompute, hill', 'train.recompute=true', 'loss.name=hill')
    yield pre('several heads, three losses', TWO_HEADS)
    yield pre('several heads, mixup', TWO_HEADS, 'train.mixup=0.4')
    yield pre('cox beside labels', SURVIVAL)
    yield pre('cox, accumulate 2', SURVIVAL, 'train.accumulate=2')
    yield pre('cox, ranks without a record', SURVIVAL, 'train.batch_size=5')
    yield fine('targets, some unknown', 'head.labels=null', 'head.targets=[pr_ms, age]')
    yield fine('softmax', 'loss.name=softmax',
               'head.labels=[sinus_bradycardia, sinus_rhythm, sinus_tachycardia, atrial_fibrillation, atrial_flutter]')
    yield fine('linear probe on kept embeddings', 'head.freeze=true')
    yield fine('linear probe without them', 'head.freeze=true', 'head.cache=false')
    yield fine('linear probe, batch norm', 'head.freeze=true', weights=s.normed_base)
    yield fine('head first', 'finetune.probe_epochs=2')
    yield fine('frozen batch norm', 'finetune.freeze_norm=true', weights=s.normed_base)
    for name, sets in (('batch norm synchronised', ()), ('bf16', ('train.precision=bf16',)),
                       ('ranks without a record', ('train.batch_size=3',)),
                       ('several buckets', BUCKETS + ('train.batch_size=9', 'train.steps=4')),
                       ('recompute, dropout', ('train.recompute=true', 'model.dropout=0.2'))):
        yield (name + (', batch norm synchronised' if sets else ''), 'pretrain', s.normed, None, (SYNCED, STILL) + sets)
    yield ('batch norm synchronised, trained', 'pretrain', s.normed, None, (SYNCED, 'optim.lr=1e-4'))
    yield fine('stage by stage, batch norm synchronised', SYNCED, STILL, 'finetune.unfreeze_epochs=1', weights=s.normed_base)
    yield fine('stage by stage', 'finetune.unfreeze_epochs=1', 'optim.stage_factors=[0.1, 0.3, 0.5]')
    if h5py is not None:
        holes = 'data.train={path: %s, part: [0, 0.7]}' % s.holes
        yield pre('labels unknown, unevenly', holes, 'train.batch_size=8')
        yield pre('labels unknown, most batches of a rank without any', holes, 'train.batch_size=3', STILL)
        yield pre('labels unknown, mixup, accumulate', holes, 'train.mixup=0.4', 'train.accumulate=2')


def compare_case(s, case):
    """One line for each number of ranks: (name, ok, note)."""
    name, command, config, weights, sets = case
    outs, lines = {}, []
    for ranks in (1, 2, 4):
        outs[ranks] = os.path.join(s.folder, 'case', name.replace(' ', '_').replace(',', ''), str(ranks))
        job = train(ranks, outs[ranks], config, *sets, command=command, weights=weights)
        codes = job.wait()
        if codes != [0] * ranks:
            return [(name, False, 'exit codes %s: %s' % (codes, ' | '.join(job.said)[-1500:]))]
    for ranks in (2, 4):
        worst, wrong = 0.0, ''
        for field, first, rest in bounds(sets):
            off, why = furthest(journal(outs[ranks]), journal(outs[1]), first, rest, (field,))
            worst, wrong = max(worst, off), wrong or why
        lines.append(('%d ranks, %s' % (ranks, name), not wrong, wrong or 'off by %.1e at most' % worst))
    if name == 'batch norm synchronised':
        # What would fail: each rank by its own statistics.
        out = outs[2] + '-apart'
        must(train(2, out, config, *[x for x in sets if x != SYNCED], command=command), name)
        apart = furthest(journal(out), journal(outs[1]), 1e-6, 1e-5, ('loss',))[1]
        lines.append(('2 ranks, batch norm by rank is something else', bool(apart), apart))
    return lines


def bounds(sets):
    """(field, bound at the first step, at the others). Statistics summed in another order round otherwise, which their
    normalisation makes larger, and bf16 larger still."""
    if SYNCED in sets and STILL in sets:
        bound = 2e-5 if 'train.precision=bf16' in sets else 1e-6
        return [('loss', bound, bound), ('grad_norm', bound, bound)]
    if SYNCED in sets:
        return [('loss', 1e-6, 1e-5)]
    if STILL in sets:
        return [('loss', 1e-12, 1e-12)]
    return [('loss', 1e-6, 1e-5), ('grad_norm', 1e-6, 1e-5)]


def test_cases(s):
    if h5py is None:
        skip('unknown labels: no Python module h5py')
    else:
        s.make_holes()
    with ThreadPoolExecutor(4) as pool:
        for lines in pool.map(lambda case: compare_case(s, case), cases(s)):
            for line in lines:
                check(*line)


# ------------------------------------------------------------------ bits

def test_bits(s):
    """Dropout, batch norm by rank, an average: all that could differ."""
    sets = ('model.dropout=0.2', 'train.ema=0.9', 'train.mixup=0.2')
    first, again = os.path.join(s.folder, 'bits'), os.path.join(s.folder, 'again')
    if must(train(3, first, s.normed, *sets), 'bits') and must(train(3, again, s.normed, *sets, 'train.threads=2'), 'bits'):
        check('3 ranks twice: the same weights and journal', weights_of(first) == weights_of(again) and
              journal(first) == journal(again))
    reason = mpi_missing()
    if reason:
        skip('MPI: ' + reason)
        return
    out = os.path.join(s.folder, 'mpi')
    codes, said = mpirun(3, 'pretrain', s.normed, '--out', out, *[w for x in sets for w in ('--set', x)])
    check('3 ranks by MPI: TCP\'s bits', codes == 0 and weights_of(out) == weights_of(first) and journal(out) == journal(first),
          said[-500:])
    codes, said = mpirun(3, 'pretrain', s.normed, '--out', out, '--set', 'train.bach_size=3', '--resume')
    check('a config error under mpirun: exit code and one message', codes == 78 and said.count('error: ') == 1,
          '' if codes == 78 else 'exit %d: %s' % (codes, said[-1000:]))


def state_of(out):
    with open(os.path.join(out, 'checkpoints', 'last', 'state.safetensors'), 'rb') as f:
        return f.read()


def test_zero(s):
    """optim.zero: moments by parts give the same bits, and checkpoints that go on with and without."""
    sets = ('train.ema=0.9', 'train.clip_norm=0.5', 'train.steps=12', 'train.save_every=6', 'train.keep=9')
    plain, parts = os.path.join(s.folder, 'plain'), os.path.join(s.folder, 'parts')
    if not (must(train(3, plain, s.normed, *sets), 'plain') and
            must(train(3, parts, s.normed, *sets, 'optim.zero=true'), 'parts')):
        return
    check('3 ranks, optim.zero: the same weights, moments and journal', weights_of(parts) == weights_of(plain) and
          state_of(parts) == state_of(plain) and journal(parts) == journal(plain))
    for name, start, zero in (('without', parts, 'false'), ('with', plain, 'true')):
        out = os.path.join(s.folder, 'on-' + name)
        shutil.copytree(start, out, symlinks=True)
        checkpoints = os.path.join(out, 'checkpoints')
        for path in glob.glob(checkpoints + '/step-*12'):
            shutil.rmtree(path)
        for link in ('last', 'best'):
            os.remove(os.path.join(checkpoints, link))
            os.symlink('step-00000006', os.path.join(checkpoints, link))
        if must(train(3, out, s.normed, *sets, 'optim.zero=' + zero, resume=True), 'resumed ' + name):
            check('resumed from step 6 %s optim.zero: the same weights and moments' % name,
                  weights_of(out) == weights_of(plain) and state_of(out) == state_of(plain))
    job = train(2, os.path.join(s.folder, 'sgd'), s.config, 'train.steps=3', 'optim.name=sgd', 'optim.zero=true')
    check('plain SGD keeps no moments and takes it', job.wait() == [0, 0], ' | '.join(job.said)[-300:])


def read_trace(path):
    """The lines of buckets, and the last, of the whole run."""
    with open(path, encoding='utf-8') as f:
        lines = [json.loads(line) for line in f]
    return lines[:-1], lines[-1]


def test_wire(s):
    """What a rank sends is 2 (R - 1) / R of the gradients, and little else."""
    for ranks in (2, 3, 4):
        trace = os.path.join(s.folder, 'trace%d' % ranks)
        sets = [w for x in BUCKETS + ('train.batch_size=8', 'train.steps=3', 'data.valid=null') for w in ('--set', x)]
        job = Job(ranks, 'pretrain', s.config, '--out', os.path.join(s.folder, 'wire%d' % ranks), *sets, EINTHOVEN_COMM_TRACE=trace)
        if not must(job, 'wire'):
            continue
        buckets, end = read_trace(trace)
        planned = 2 * (ranks - 1) / ranks * 4 * end['summed']
        check('%d ranks: bytes on the wire as planned' % ranks,
              sum(b['bytes'] for b in buckets) == 4 * end['summed'] and len(buckets) >= 3 * 3 and
              abs(end['sent'] / planned - 1) <= 1e-3, '%d sent, %.0f planned' % (end['sent'], planned))


def mpi_missing():
    if shutil.which('mpirun') is None:
        return 'no mpirun (openmpi-bin)'
    if not os.path.exists(PLUGIN):
        return 'build/libeinthoven_mpi.so is not built (libopenmpi-dev)'
    p = subprocess.run(mpi_words(1) + ['true'], env=mpi_environment(), capture_output=True, text=True, check=False)
    return 'mpirun does not run here: ' + ' '.join(p.stderr.split())[:200] if p.returncode != 0 else ''


def mpi_words(ranks):
    return ['mpirun', '--oversubscribe'] + (['--allow-run-as-root'] if os.getuid() == 0 else []) + ['-np', str(ranks)]


def mpi_environment():
    return environment(OMPI_MCA_rmaps_base_oversubscribe='1', OMPI_MCA_btl_vader_single_copy_mechanism='none',
                       EINTHOVEN_MPI_LIB=PLUGIN)


def mpirun(ranks, *words):
    p = subprocess.run(mpi_words(ranks) + [BINARY, '-q'] + list(words), env=mpi_environment(), capture_output=True, text=True,
                       check=False, timeout=120)
    return p.returncode, p.stderr


FEW = 'data.valid={path: %s, part: [0.97, 0.99]}'


def test_validation(s):
    """The weights stay: figures and thresholds of the validation part are the records', however they were split."""
    for name, config, sets in (('labels', s.config, ()), ('heads and targets', s.config, (TWO_HEADS,)),
                               ('cox', s.config, (SURVIVAL,)), ('fewer records than ranks', s.config, (FEW % s.data,)),
                               ('batch norm, one record', s.normed, ('train.batch_size=1',))):
        outs = [os.path.join(s.folder, 'valid', name.replace(' ', '_'), str(n)) for n in (1, 3)]
        for ranks, out in zip((1, 3), outs):
            must(train(ranks, out, config, STILL, 'optim.weight_decay=0', 'train.steps=2', 'train.eval_every=1', *sets), name)
        valid = [[x for x in journal(out) if x['kind'] == 'valid'] for out in outs]
        if name.startswith('batch norm'):
            # Each rank's statistics are its own: rank 0's count. Of one record that is another rank's it has seen nothing.
            check('batch norm: rank 0\'s statistics are saved', len(valid[1]) == 2 and weights_of(outs[0]) != weights_of(outs[1]))
            continue
        worst, wrong = furthest(valid[1], valid[0], 1e-12, 1e-12)
        check('validation by 3 ranks, ' + name, not wrong and len(valid[0]) == 2, wrong or 'off by %.1e at most' % worst)
        check('and weights, thresholds and what else is saved', weights_of(outs[0]) == weights_of(outs[1]))


# ------------------------------------------------------------------ GPUs

def test_gpus(s):
    """The emulated CUDA device with NCCL's stand-in."""
    plugin = os.path.join(ROOT, 'build', 'emu', 'libeinthoven_cuda.so')
    if not os.path.exists(plugin) or is_sanitized():
        skip('GPUs: the emulated CUDA backend is not built for this program: make emu')
        return
    sets = ('train.device=cuda', 'train.batch_size=6', 'train.steps=3', 'train.eval_every=3', 'model.base_filters=16',
            'model.filters=[16, 32]', 'model.group_width=16')
    jobs = [(precision, extra, ranks) for precision, extra in (('fp32', ()), ('bf16', ('train.accumulate=2',)))
            for ranks in (1, 2, 4)]

    def run(job, name='gpu'):
        precision, extra, ranks = job
        out = os.path.join(s.folder, name, precision, str(ranks))
        must(train(ranks, out, s.config, *sets, *extra, 'train.precision=' + precision, EINTHOVEN_CUDA_LIB=plugin), 'gpu', job)
        return out
    with ThreadPoolExecutor(2) as pool:
        outs = dict(zip([(p, n) for p, _, n in jobs], pool.map(run, jobs)))
    for precision in ('fp32', 'bf16'):
        for ranks in (2, 4):
            worst, wrong = furthest(journal(outs[precision, ranks]), journal(outs[precision, 1]), 1e-6, 1e-5)
            check('%d GPUs, %s' % (ranks, precision), not wrong, wrong or 'off by %.1e at most' % worst)
    again = run(('fp32', (), 2), 'again')
    check('2 GPUs twice: the same weights', weights_of(again) == weights_of(outs['fp32', 2]))


def is_sanitized():
    with open(BINARY, 'rb') as f:
        text = f.read()
    return b'__asan_init' in text or b'__tsan_init' in text


# ------------------------------------------------------------------ stops and failures

LONG = ('train.steps=400', 'train.save_every=7', 'train.eval_every=50', 'model.dropout=0.1')


def wait_for(out, lines, seconds=60):
    """Until the journal has so many lines."""
    end = time.monotonic() + seconds
    while len(journal(out)) < lines and time.monotonic() < end:
        time.sleep(0.01)
    return len(journal(out)) >= lines


def test_stop(s, whole):
    """SIGTERM to one rank: all stop at one step; any number of ranks goes on."""
    stopped = os.path.join(s.folder, 'stopped')
    job = train(2, stopped, s.config, *LONG)
    ready = wait_for(stopped, 40)
    job.processes[1].send_signal(signal.SIGTERM)
    codes = job.wait()
    steps = max((x['step'] for x in journal(stopped)), default=0)
    check('SIGTERM to rank 1: both ranks save and end with 75', ready and codes == [75, 75] and 40 <= steps < 400,
          'exit codes %s at step %d: %s' % (codes, steps, ' | '.join(job.said)[-500:]))
    check('and one message', ''.join(job.said).count('error: ') == 1, ''.join(job.said).strip()[-200:])
    for name, command, weights, sets in (('training', 'pretrain', None, ()),
                                         ('embeddings', 'finetune', s.base, ('head.freeze=true',)),
                                         ('the head first', 'finetune', s.base, ('finetune.probe_epochs=1',))):
        config = s.config if command == 'pretrain' else s.finetuning()
        job = train(3, os.path.join(s.folder, 'early-' + name.replace(' ', '-')), config, *sets, command=command,
                    weights=weights, early=signal.SIGTERM)
        codes = job.wait()
        check('SIGTERM to rank 2 before the start, %s: all end with 75, one message' % name,
              codes == [75] * 3 and ''.join(job.said).count('error: ') == 1,
              ''.join(job.said).strip()[-200:] if codes == [75] * 3 else 'exit codes %s: %s' % (codes, ''.join(job.said)[-600:]))
    for ranks in (1, 2, 4):
        out = os.path.join(s.folder, 'resumed%d' % ranks)
        shutil.copytree(stopped, out, symlinks=True)
        if not must(train(ranks, out, s.config, *LONG, resume=True), 'resumed by %d ranks' % ranks):
            continue
        worst, wrong = furthest(journal(out), journal(whole), 1e-6, 1e-5, ('loss',))
        check('resumed by %d ranks: every loss is the uninterrupted run\'s' % ranks, not wrong,
              wrong or 'off by %.1e at most' % worst)
        if ranks == 2:
            check('and the same bits', weights_of(out) == weights_of(whole) and journal(out) == journal(whole))


def test_failure(s, whole, ranks, victim, by):
    """A rank is killed, or hangs: the others end and name it, and the run goes on from there."""
    name = 'rank %d of %d, %s' % (victim, ranks, by.name)
    out = os.path.join(s.folder, 'failed-%d-%d-%s' % (ranks, victim, by.name))
    job = train(ranks, out, s.config, *LONG)
    ready = wait_for(out, 40)
    start = time.monotonic()
    job.processes[victim].send_signal(by)
    codes = job.wait(seconds=40, but=victim)
    took = time.monotonic() - start
    others = [r for r in range(ranks) if r != victim]
    named = all('rank %d' % victim in job.said[r] for r in others)
    check(name + ': the others end with 1 and name it', ready and all(codes[r] == 1 for r in others) and named,
          'after %.1f s' % took if named else 'exit codes %s: %s' % (codes, ' | '.join(job.said)[-800:]))
    check(name + ': in time', took <= 3 * TIMEOUT + 5, '%.1f s' % took)
    if by == signal.SIGSTOP:
        job.processes[victim].send_signal(signal.SIGCONT)
    try:
        job.processes[victim].communicate(timeout=20)
    except subprocess.TimeoutExpired:
        job.processes[victim].kill()
        job.processes[victim].communicate()
    code = job.processes[victim].returncode
    check(name + ': it is gone itself', code == (1 if by == signal.SIGSTOP else -signal.SIGKILL), 'exit code %s' % code)
    if must(train(ranks, out, s.config, *LONG, resume=True), name + ', resumed'):
        check(name + ': resumed to the same bits', weights_of(out) == weights_of(whole) and journal(out) == journal(whole))


def test_errors(s):
    job = train(2, os.path.join(s.folder, 'e'), s.normed, SYNCED, 'train.accumulate=2')
    check('synchronised batch norm of micro-batches is refused', job.wait() == [78, 78] and 'sync_batch_norm' in job.said[0])
    for code, name, words in (
            (78, 'a key that is unknown', [s.config, '--out', 'e', '--set', 'train.bach_size=3']),
            (78, 'a value that can\'t be', [s.config, '--out', 'e', '--set', 'schedule.name=plateau', '--set', 'data.valid=null']),
            (66, 'no data set', [s.config, '--out', 'e', '--set', 'data.train=' + os.path.join(s.folder, 'none')]),
            (66, 'no config', [os.path.join(s.folder, 'none.yaml'), '--out', 'e']),
            (73, 'a run folder that can\'t be', [s.config, '--out', os.path.join(s.config, 'e')]),
            (73, 'a run folder in use', [s.config, '--out', s.base])):
        words = [os.path.join(s.folder, w) if w == 'e' else w for w in words]
        start = time.monotonic()
        job = Job(3, 'pretrain', *words)
        codes, took = job.wait(60), time.monotonic() - start
        said = ''.join(job.said)
        check('%s: exit code %d of all ranks, one message' % (name, code),
              codes == [code] * 3 and said.count('error: ') == 1 and took < 30,
              said.strip()[-200:] if codes == [code] * 3 else 'exit codes %s: %s' % (codes, said[-800:]))
    job = Job(3, 'pretrain', s.config, '--out', os.path.join(s.folder, 'e'))
    check('none of them has left a run folder', job.wait() == [0] * 3)


def main():
    with tempfile.TemporaryDirectory() as folder:
        s = Set(folder)
        test_cases(s)
        test_bits(s)
        test_zero(s)
        test_wire(s)
        test_validation(s)
        test_errors(s)
        test_gpus(s)
        whole = os.path.join(folder, 'whole')
        if must(train(2, whole, s.config, *LONG), 'whole'):
            test_stop(s, whole)
            test_failure(s, whole, 2, 1, signal.SIGKILL)
            test_failure(s, whole, 2, 0, signal.SIGKILL)
            test_failure(s, whole, 2, 1, signal.SIGSTOP)
        whole3 = os.path.join(folder, 'whole3')
        if must(train(3, whole3, s.config, *LONG), 'whole'):
            test_failure(s, whole3, 3, 0, signal.SIGSTOP)
    return finish()


if __name__ == '__main__':
    sys.exit(main())
