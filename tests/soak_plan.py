#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`einthoven plan` of the published Net1D (30.8 million parameters, 12 leads of 10 s at 500 Hz) against its runs: peak memory
within 5 % each, and the bound on the peak at batch 16: 62 % of the 1.6 GiB that PyTorch takes; and the time of an epoch within
15 % of a run of at least 30 s, of one rank and of two. Times want a machine that does nothing else."""
import json
import os
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import test_plan as t  # noqa: E402

SECONDS = 30
BOUND = 0.62 * 1.6 * (1 << 30)


def planned(config, ranks):
    p = t.plan(config, '--ranks', ranks)
    return p['time']['step'], p['steps']['per_epoch']


def epoch_time(tmp, config, ranks):
    """Plans before the run and after it, the median of them against the median of the run's own steps."""
    out = os.path.join(tmp, 'timed-%d' % ranks)
    plans = [planned(config, ranks) for _ in range(3)]
    steps = int(SECONDS / statistics.median(p[0] for p in plans)) + 3
    command = [t.BINARY, '-q', 'pretrain', config, '--out', out, *t.sets(train__steps=steps, train__epochs=0)]
    if ranks > 1:
        command = [os.path.join(t.ROOT, 'scripts', 'launch_local.sh'), str(ranks), *command]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        t.check('a run of %d ranks' % ranks, False, (done.stdout + done.stderr)[-500:])
        return
    plans += [planned(config, ranks) for _ in range(3)]
    with open(os.path.join(out, 'metrics.jsonl'), encoding='utf-8') as f:
        rates = [json.loads(line)['ecg_per_s'] for line in f]
    step, per_epoch = statistics.median(p[0] for p in plans), plans[0][1]
    measured = 16 / statistics.median(rates[2:])
    t.check('time of an epoch, %d rank%s' % (ranks, 's' if ranks > 1 else ''),
            0.85 <= step / measured <= 1.15 and measured * steps > 0.8 * SECONDS,
            'planned %.2f s, measured %.2f s over %d steps: ratio %.3f' % (step * per_epoch, measured * per_epoch, steps,
                                                                          step / measured))


def main(tmp):
    data, config = os.path.join(tmp, 'ecgs'), os.path.join(tmp, 'published.yaml')
    t.run('synth', '--out', data, '--records', 64, '--seed', 1, '--rate', 500)
    with open(config, 'w', encoding='utf-8') as f:
        print('data: {train: {path: %s, part: [0, 0.8]}}\ntrain: {batch_size: 16, steps: 2}' % data, file=f)
    valid = {'data__valid': '{path: %s, part: [0.8, 1]}' % data, 'train__eval_every': 1, 'train__save_every': 1}
    plain = t.compare('batch 16', tmp, [config])
    t.check('batch 16 in %.0f MiB' % (BOUND / t.MIB), plain['memory']['peak_rss'] <= BOUND)
    for name, same_size, keys in [('batch 8', True, {'train__batch_size': 8}),
                                  ('batch 1', True, {'train__batch_size': 1}),
                                  ('micro-batches', True, {'train__batch_size': 32, 'train__accumulate': 8}),
                                  ('batch norm', True, {'model__batch_norm': 'true'}),
                                  ('dropout', True, {'model__dropout': 0.2, 'model__drop_path': 0.2}),
                                  ('recompute', True, {'train__recompute': 'true'}),
                                  ('plain sgd', True, {'optim__name': 'sgd'}),
                                  ('validation and checkpoints', False, valid)]:
        t.compare(name, tmp, [config, *t.sets(**keys)], same_size)
    weights = os.path.join(tmp, 'batch-16')
    for name, freeze in [('fine-tuning', 'false'), ('linear probe', 'true')]:
        t.compare(name, tmp, [config, *t.sets(head__labels='[lbbb]', head__freeze=freeze)], True, weights)
    if t.SANITIZED:
        t.skipped += 1
        print('skipped the time of an epoch: a sanitizer is slow')
        return
    for ranks in (1, 2) if os.cpu_count() > 1 else (1,):
        epoch_time(tmp, config, ranks)


if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as folder:
        main(folder)
    sys.exit(t.finish())
