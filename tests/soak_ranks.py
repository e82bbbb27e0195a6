#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Two ranks under fire, and how fast they are: 100 kills (SIGKILL of one or both) at random moments of runs that save after every
step, each resumed to the uninterrupted run's weights, metrics and files; two ranks on two cores against one on one core; sums that
run beside the backward pass. SEED=N draws other moments."""
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time

import test_ranks as ranks
from test_ranks import check

KILLS = 100
KILLED = ('train.steps=40', 'train.save_every=1', 'train.eval_every=9', 'model.dropout=0.1', 'train.ema=0.9')


# ------------------------------------------------------------------ kills

def listing(out):
    return sorted(os.path.relpath(os.path.join(d, f), out) for d, _, files in os.walk(out) for f in files)


def links(out):
    return [os.readlink(os.path.join(out, 'checkpoints', name)) for name in ('last', 'best')]


def same_run(a, b):
    """'' or what differs."""
    for name, differs in (('last', ranks.weights_of(a) != ranks.weights_of(b)),
                          ('best', ranks.weights_of(a, 'best') != ranks.weights_of(b, 'best')),
                          ('links', links(a) != links(b)), ('metrics', ranks.journal(a) != ranks.journal(b)),
                          ('files', listing(a) != listing(b))):
        if differs:
            return name
    return ''


def strike(rng, s, out, span):
    """Starts or resumes the run and kills at a random moment: (whether it was hit, whether a checkpoint was being written, what
    went wrong)."""
    # Who is killed before the ranks have met is waited for: not long here.
    job = ranks.train(2, out, s.normed, *KILLED, resume=True, EINTHOVEN_COMM_START='5')
    time.sleep(rng.random() * 0.7 * span)
    victims = rng.choice(((0,), (1,), (0, 1)))
    alive = all(p.poll() is None for p in job.processes)
    for v in victims:
        job.processes[v].send_signal(signal.SIGKILL)
    writing = os.path.exists(os.path.join(out, 'checkpoints', '.writing'))
    codes = job.wait(60)
    if codes == [0, 0]:
        return False, False, ''
    # The second victim may have noticed the first's end, and ended, before it was hit.
    expected = all(codes[r] == -signal.SIGKILL or (codes[r] == 1 and r != victims[0]) for r in (0, 1))
    # A rank that had ended already was not hit.
    wrong = '' if expected or not alive or 0 in codes else 'exit codes %s: %s' % (codes, ' | '.join(job.said)[-600:])
    return True, writing, wrong


def test_kills(s):
    rng = random.Random(int(os.environ.get('SEED', '1')))
    whole, out = os.path.join(s.folder, 'whole'), os.path.join(s.folder, 'killed')
    start = time.monotonic()
    if not ranks.must(ranks.train(2, whole, s.normed, *KILLED), 'whole'):
        return
    span = time.monotonic() - start
    begin, kills, while_writing, runs, wrong = time.monotonic(), 0, 0, 0, []
    while kills < KILLS and runs < 3 * KILLS:
        shutil.rmtree(out, ignore_errors=True)
        hits = 0
        while hits < 12 and kills + hits < KILLS:
            hit, writing, why = strike(rng, s, out, span)
            wrong += [why] if why else []
            hits += hit
            while_writing += writing
            if not hit:
                break
        kills, runs = kills + hits, runs + 1
        job = ranks.train(2, out, s.normed, *KILLED, resume=True)
        codes = job.wait()
        differs = 'exit codes %s: %s' % (codes, ' | '.join(job.said)[-600:]) if codes != [0, 0] else same_run(out, whole)
        wrong += [differs] if differs else []
    check('%d kills of a rank or both, %d while a checkpoint was being written: every resume ends with the same bits' %
          (kills, while_writing), kills >= KILLS and not wrong,
          '; '.join(wrong[:5]) or '%d runs in %.0f s' % (runs, time.monotonic() - begin))
    check('checkpoints were hit', while_writing > 0)


# ------------------------------------------------------------------ speed

MIDDLE = '''model: {base_filters: 64, filters: [64, 128, 256, 512], blocks: [1, 2, 2, 2], in_leads: [I, II, V1]}
data: {train: {path: %s}}
train: {batch_size: 32, steps: 8, threads: 1}
'''


def prepare_speed(s):
    ranks.subprocess.run([ranks.BINARY, '-q', 'synth', '--out', os.path.join(s.folder, 'long'), '--records', '64', '--seed', '6',
                          '--rate', '200', '--length', '10'], check=True)
    s.middle = os.path.join(s.folder, 'middle.yaml')
    with open(s.middle, 'w', encoding='utf-8') as f:
        f.write(MIDDLE % os.path.join(s.folder, 'long'))


def rates(out):
    """ECGs a second of each step but the first two."""
    import json
    with open(os.path.join(out, 'metrics.jsonl'), encoding='utf-8') as f:
        return [json.loads(line)['ecg_per_s'] for line in f][2:]


def measure(s, n, cores, together=1, **more):
    """Median rate of n ranks, each on a core of its own; of so many such runs side by side, all of them."""
    outs, jobs = [], []
    for i in range(together):
        outs.append(os.path.join(s.folder, 'speed%d' % i))
        shutil.rmtree(outs[i], ignore_errors=True)
        jobs.append(ranks.train(n, outs[i], s.middle, cores=cores[i:], **more))
    done = [ranks.must(job, '%d ranks' % n) for job in jobs]
    return sum(statistics.median(rates(out)) for out in outs) if all(done) else 0.0


def test_speed(s):
    """Two single runs side by side tell what two cores of this machine are worth; where that is not two, nothing can be shown.
    Returns whether it is."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        ranks.skip('speed: one core')
        return False
    one, beside, two = [], [], []
    for _ in range(3):
        one.append(measure(s, 1, cores))
        beside.append(measure(s, 1, cores, together=2))
        two.append(measure(s, 2, cores))
    worth = statistics.median(b / a if a > 0 else 0 for a, b in zip(one, beside))
    ratio = statistics.median(b / a if a > 0 else 0 for a, b in zip(one, two))
    note = '%.2f times (%.1f and %.1f ECG/s); two runs side by side %.2f times' % (
        ratio, statistics.median(two), statistics.median(one), worth)
    if ratio < 1.8 and 0 < worth < 1.9:
        ranks.skip('2 ranks on 2 cores: the machine is not free: ' + note)
    else:
        check('2 ranks on 2 cores: 1.8 times one rank on one core', ratio >= 1.8, note)
    return worth >= 1.9


def test_overlap(s, is_free):
    trace = os.path.join(s.folder, 'trace')
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        ranks.skip('overlap: one core')
        return
    measure(s, 2, cores, EINTHOVEN_COMM_TRACE=trace)
    buckets, _ = ranks.read_trace(trace)
    shares = []
    for step in sorted({b['step'] for b in buckets}):
        own = [b for b in buckets if b['step'] == step]
        early = sum(b['bytes'] for b in own if b['finished'] <= b['backward_done'])
        shares.append(early / sum(b['bytes'] for b in own))
    share = statistics.median(shares)
    note = '%.0f %% in the median step, %d buckets' % (100 * share, len(buckets) // len(shares))
    if share < 0.5 and not is_free:
        ranks.skip('overlap: the machine is not free: ' + note)
    else:
        check('half of the bytes or more were summed before backward ended', len(shares) == 8 and share >= 0.5, note)


def main():
    with tempfile.TemporaryDirectory() as folder:
        s = ranks.Set(folder)
        prepare_speed(s)
        test_kills(s)
        test_overlap(s, test_speed(s))
    return ranks.finish()


if __name__ == '__main__':
    sys.exit(main())
