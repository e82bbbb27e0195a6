#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`einthoven plan` of the published Net1D (30.8 million parameters, 12 leads of 10 s at 500 Hz) against its runs: peak memory
within 5 % each, and the bound on the peak at batch 16: 62 % of the 1.6 GiB that PyTorch takes."""
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import test_plan as t  # noqa: E402

BOUND = 0.62 * 1.6 * (1 << 30)


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


if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as folder:
        main(folder)
    sys.exit(t.finish())
