#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The published Net1D in full (30.8 million parameters, 12 leads of 10 s at 500 Hz), against PyTorch: two steps of the
published recipe at batch 4 from the same weights, the checkpoint's 509 tensors under strict loading, and predict."""
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
BINARY = os.environ.get('EINTHOVEN_BINARY') or os.path.join(ROOT, 'build', 'einthoven')
try:
    import h5py
    import numpy as np
    import torch
    import torch.nn.functional as F
except ImportError as e:
    print('soak_full: skipped (%s)' % e)
    print('0 passed, 0 failed, 1 skipped')
    sys.exit(0)

sys.path.insert(0, os.path.join(HERE, 'fixtures'))
import make_net1d  # noqa: E402
import tensors as st  # noqa: E402

SHAPE = dict(in_channels=12, base_filters=64, filter_list=[64, 160, 160, 400, 400, 1024, 1024],
             m_blocks_list=[2, 2, 2, 3, 3, 4, 4], kernel_size=16, stride=2, group_width=16, bn=False)
LENGTH, BATCH, STEPS = 5000, 4, 2
passed = failed = 0


def check(name, ok, note):
    global passed, failed
    passed += bool(ok)
    failed += not ok
    print('%s %s: %s' % ('ok     ' if ok else 'FAILED ', name, note))


def run(*words):
    subprocess.run([BINARY, '-q'] + [str(w) for w in words], check=True)


def records(folder):
    """Normalised signals and labels, in the order of the shards."""
    x, y = [], []
    for name in sorted(n for n in os.listdir(folder) if n.endswith('.h5')):
        with h5py.File(os.path.join(folder, name)) as f:
            x.append(f['ecg'][:].astype(np.float64) * f['scale'][:][:, None, None])
            y.append(f['labels'][:])
    x, y = np.concatenate(x), np.concatenate(y)
    x = (x - x.mean(axis=(1, 2), keepdims=True)) / (x.std(axis=(1, 2), keepdims=True) + 1e-8)
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y)


def hill(z, y):
    """Hill loss with lambda 1.5 for the negatives, -log p for the positives; 255 is unknown."""
    p = torch.sigmoid(z)
    return torch.where(y == 1, -F.logsigmoid(z), (1.5 - p) * p * p)[y != 255].mean()


def torch_losses(net, x, y):
    adamw = torch.optim.AdamW(net.parameters(), lr=1e-3)
    losses = []
    for i in range(STEPS):
        part = slice(i * BATCH, (i + 1) * BATCH)
        adamw.zero_grad()
        loss = hill(net(x[part])[0], y[part])
        loss.backward()
        adamw.step()
        losses.append(loss.item())
    return np.array(losses)


def main(tmp):
    data, out, start = (os.path.join(tmp, n) for n in ('ecgs', 'run', 'start.safetensors'))
    run('synth', '--out', data, '--records', STEPS * BATCH, '--seed', 9, '--rate', 500)
    x, y = records(data)
    torch.manual_seed(5)
    shape = dict(SHAPE, n_classes=y.shape[1], len=LENGTH)
    net = make_net1d.Net1D(shape)
    model = json.dumps(dict(batch_norm=False, dropout=0, drop_path=0, stride=2, length=LENGTH))
    st.save(start, {k: v.numpy() for k, v in net.state_dict().items()}, {'format': 'pt', 'einthoven.model': model})
    sets = ['data.train=' + data, 'data.valid=null', 'data.shuffle=false', 'init.weights=' + start, 'train.early_stop=0',
            'train.batch_size=%d' % BATCH, 'train.accumulate=1', 'train.steps=%d' % STEPS]
    run('pretrain', os.path.join(ROOT, 'configs', 'pretrain_12lead.yaml'), '--out', out,
        *[w for s in sets for w in ('--set', s)])
    with open(os.path.join(out, 'metrics.jsonl')) as f:
        got = np.array([json.loads(line)['loss'] for line in f])
    want = torch_losses(net, x, y)
    error = np.abs(got - want).max() if got.shape == want.shape else np.inf
    check('losses of %d steps' % STEPS, error <= 1e-5, '%s, largest error %.2g (bound 1e-5)' % (got, error))

    weights = os.path.join(out, 'checkpoints', 'last', 'model.safetensors')
    saved = st.load(weights)
    check('tensors', len(saved) == 509, '%d (509 wanted)' % len(saved))
    fresh = make_net1d.Net1D(shape)
    fresh.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in saved.items()}, strict=True)
    n = sum(p.numel() for k, p in fresh.named_parameters() if 'bn' not in k)
    check('strict loading', 30.5e6 < n < 31e6, '%d parameters without the unused batch norms' % n)
    h5 = os.path.join(tmp, 'p.h5')
    run('predict', '--weights', out, '--data', data, '--out', h5, '--batch', 3)
    with torch.no_grad():
        want = fresh.eval()(x)[0].numpy()
    with h5py.File(h5) as f:
        got = f['logits'][:]
    error = np.abs(got - want).max() / np.abs(want).max() if got.shape == want.shape else np.inf
    check('predict', error <= 1e-4, 'largest error over largest logit %.2g (bound 1e-4)' % error)
    run('predict', '--weights', out, '--data', data, '--out', h5, '--precision', 'bf16')
    with h5py.File(h5) as f:
        got = f['logits'][:]
    error = np.abs(got - want).max() / np.ptp(want) if got.shape == want.shape else np.inf
    check('predict in bf16', error <= 0.02, "largest error over the logits' range %.2g (bound 0.02)" % error)


with tempfile.TemporaryDirectory() as folder:
    main(folder)
print('%d passed, %d failed, 0 skipped' % (passed, failed))
sys.exit(failed > 0)
