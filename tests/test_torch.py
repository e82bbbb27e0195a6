#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The program from outside, against PyTorch: predict, ten steps of pretrain, strict loading of what was saved.

Data are shards made by hand with h5py, the network is the torch Net1D of tests/fixtures/make_net1d.py."""
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
    print('test_torch: skipped (%s)' % e)
    print('0 passed, 0 failed, 1 skipped')
    sys.exit(0)

sys.path.insert(0, os.path.join(HERE, 'fixtures'))
import make_net1d  # noqa: E402
import tensors as st  # noqa: E402

LEADS = 'I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6'.split(',')
CLASSES = ['a', 'b', 'c']
passed = failed = 0


def check(name, ok, note):
    global passed, failed
    passed += bool(ok)
    failed += not ok
    print('%s %s: %s' % ('ok     ' if ok else 'FAILED ', name, note))


def run(*words, expect=0):
    r = subprocess.run([BINARY] + [str(w) for w in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if r.returncode != expect:
        raise SystemExit('%s: exit %d\n%s' % (' '.join(map(str, words)), r.returncode, r.stderr))
    return r


def shards(folder, counts, length, seed):
    """Shards whose leads stand in an order of their own; returns ecg in physical units by standard lead order."""
    os.makedirs(folder)
    g = np.random.default_rng(seed)
    order = list(g.permutation(12))
    out, labels, targets = [], [], []
    for i, n in enumerate(counts):
        ecg = g.integers(-3000, 3000, (n, 12, length), dtype=np.int16)
        scale = g.uniform(1e-4, 1e-2, n).astype(np.float32)
        y = g.integers(0, 2, (n, 3)).astype(np.uint8)
        y[g.uniform(size=y.shape) < 0.2] = 255
        t = g.normal(size=(n, 2)).astype(np.float32)
        t[g.uniform(size=t.shape) < 0.2] = np.nan
        with h5py.File(os.path.join(folder, 'part%d.h5' % i), 'w') as f:
            f.attrs.update(format='ecg-shard', version=1, sampling_rate=100.0, units='mV', preprocessing='none',
                           leads=','.join(LEADS[j].upper() for j in order))
            f['ecg'] = ecg
            f['scale'] = scale
            f['labels'] = y
            f['labels'].attrs['names'] = '\n'.join(CLASSES)
            f['targets'] = t
            f['targets'].attrs['names'] = 'age\nheight'
            f['record_id'] = ['r%d-%d' % (i, k) for k in range(n)]
        back = np.argsort(order)
        out.append(ecg[:, back].astype(np.float64) * scale[:, None, None])
        labels.append(y)
        targets.append(t)
    return np.concatenate(out), np.concatenate(labels), np.concatenate(targets)


def zscore(x):
    mean = x.mean(axis=(1, 2), keepdims=True)
    sd = x.std(axis=(1, 2), keepdims=True)
    return torch.from_numpy(((x - mean) / (sd + 1e-8)).astype(np.float32))


class Attentive(make_net1d.Net1D):
    """model.pool: attention."""

    def __init__(self, c):
        super().__init__(c)
        self.pool = torch.nn.Linear(self.dense.in_features, 1, bias=False)

    def pooled(self, h):
        return (torch.softmax(self.pool(h.transpose(1, 2)), 1) * h.transpose(1, 2)).sum(1)


def network(bn, length, classes=3, pool='mean'):
    kind = Attentive if pool == 'attention' else make_net1d.Net1D
    return kind(dict(in_channels=12, base_filters=16, filter_list=[16, 32], m_blocks_list=[1, 2],
                     kernel_size=16, stride=2, group_width=16, bn=bn, n_classes=classes, len=length))


def weights(path, net, bn, length):
    model = json.dumps(dict(batch_norm=bn, dropout=0, drop_path=0, stride=2, length=length))
    st.save(path, {k: v.numpy() for k, v in net.state_dict().items()}, {'format': 'pt', 'einthoven.model': model})


def model_sets(bn, pool):
    return ['model.base_filters=16', 'model.filters=[16, 32]', 'model.blocks=[1, 2]', 'model.batch_norm=%s' % str(bn).lower(),
            'model.pool=' + pool]


def sets(items):
    return [w for i in items for w in ('--set', i)]


def test_predict(tmp, data, x, bn, length, pool='mean'):
    torch.manual_seed(3)
    net = network(bn, length, pool=pool)
    if pool == 'attention':  # far from even weights
        torch.nn.init.uniform_(net.pool.weight, -3, 3)
    if bn:
        net.train()
        with torch.no_grad():
            for _ in range(3):
                net(zscore(x))
    net.eval()
    kind = '%s bn=%d' % (pool, bn)
    path, out = os.path.join(tmp, 'w%d.safetensors' % bn), os.path.join(tmp, 'p-%s%d.h5' % (pool, bn))
    weights(path, net, bn, length)
    run('predict', '--data', data, '--weights', path, '--out', out, '--batch', 5)
    with torch.no_grad():
        want, features = (v.numpy() for v in net(zscore(x)))
    with h5py.File(out) as f:
        got, prob, ids = f['logits'][:], f['prob'][:], [s.decode() for s in f['record_id'][:]]
    error = np.abs(got - want).max() / np.abs(want).max()
    check('predict ' + kind, error <= 1e-4 and ids[0] == 'r0-0' and len(ids) == len(x),
          'logits, largest error over largest logit %.2g (bound 1e-4)' % error)
    error = np.abs(prob - 1 / (1 + np.exp(-want.astype(np.float64)))).max()
    check('prob ' + kind, error <= 1e-5, 'largest error %.2g (bound 1e-5)' % error)
    one = os.path.join(tmp, 'q-%s%d.h5' % (pool, bn))
    run('predict', '--data', data, '--weights', path, '--out', one, '--batch', 1, '--threads', 1)
    with h5py.File(one) as f:
        check('batch independence ' + kind, (f['logits'][:] == got).all(), 'batches of 1 and 5 give equal bits')
    emb = os.path.join(tmp, 'e-%s%d.h5' % (pool, bn))
    run('embed', '--data', data, '--weights', path, '--out', emb)
    with h5py.File(emb) as f:
        error = np.abs(f['embedding'][:] - features).max() / np.abs(features).max()
    check('embed ' + kind, error <= 1e-4, 'largest error over largest feature %.2g (bound 1e-4)' % error)
    if pool == 'attention' and not bn:
        test_pth(tmp, data, net, path, want)


def test_pth(tmp, data, net, path, want):
    """Attention's tensor through .pth, both ways."""
    ours, theirs, out = (os.path.join(tmp, n) for n in ('ours.pth', 'theirs.pth', 'pth.h5'))
    run('convert', path, ours)
    state = torch.load(ours)
    state = state.get('state_dict', state)
    net.load_state_dict(state, strict=True)
    check('pth written', (state['pool.weight'] == net.pool.weight).all(), 'strict load, %d tensors' % len(state))
    torch.save({'state_dict': net.state_dict()}, theirs)
    run('predict', '--data', data, '--weights', theirs, '--out', out)
    with h5py.File(out) as f:
        error = np.abs(f['logits'][:] - want).max() / np.abs(want).max()
    check('pth read', error <= 1e-4, 'logits, largest error over largest logit %.2g (bound 1e-4)' % error)


def loss_of(kind, z, y, t):
    if kind == 'mse':
        return ((z - t)[~torch.isnan(t)] ** 2).mean()
    known = y != 255
    if kind == 'hill':
        p = torch.sigmoid(z)
        per = torch.where(y == 1, -F.logsigmoid(z), (1.5 - p) * p * p)
        return per[known].mean()
    return F.binary_cross_entropy_with_logits(z[known], y[known].float())


def test_steps(tmp, data, x, y, t, bn, kind, decay, length, accumulate=1, pool='mean'):
    torch.manual_seed(4)
    name = '%s %s bn=%d wd=%g acc=%d' % (kind, pool, bn, decay, accumulate)
    net = network(bn, length, 2 if kind == 'mse' else 3, pool)
    path = os.path.join(tmp, 'init.safetensors')
    weights(path, net, bn, length)
    run_dir = os.path.join(tmp, 'run-%s' % name.replace(' ', '-').replace('=', ''))
    config = os.path.join(tmp, 'c.yaml')
    with open(config, 'w') as f:
        f.write('train: {batch_size: 6, steps: 10, epochs: 0}\ndata: {shuffle: false}\n')
    run('pretrain', config, '--out', run_dir, *sets(model_sets(bn, pool) + [
        'data.train=%s' % data, 'loss.name=%s' % kind, 'init.weights=%s' % path, 'optim.weight_decay=%g' % decay,
        'train.accumulate=%d' % accumulate]))
    with open(os.path.join(run_dir, 'metrics.jsonl')) as f:
        got = [json.loads(line)['loss'] for line in f]
    adamw = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=decay)
    net.train()
    xs, ys, ts = zscore(x), torch.from_numpy(y), torch.from_numpy(t)
    starts = [s for _ in range(10) for s in range(0, len(x), 6)][:10]
    want = []
    for s in starts:
        adamw.zero_grad()
        loss = loss_of(kind, net(xs[s:s + 6])[0], ys[s:s + 6], ts[s:s + 6])
        loss.backward()
        adamw.step()
        want.append(loss.item())
    error, bound = np.abs(np.array(got) - want).max(), 1e-4 if bn else 1e-5
    check('10 steps ' + name, len(got) == 10 and error <= bound, 'largest loss error %.2g (bound %g)' % (error, bound))
    saved = os.path.join(run_dir, 'checkpoints', 'last', 'model.safetensors')
    fresh = network(bn, length, 2 if kind == 'mse' else 3, pool)
    fresh.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in st.load(saved).items()}, strict=True)
    # AdamW turns the rounding noise of gradients that are exactly zero (biases before a BN) into steps: left out.
    skip = ('first_conv.conv.bias', 'conv1.conv.bias', 'conv2.conv.bias') if bn else ()
    worst = max(((p.detach() - q.detach()).abs().max().item(), n) for (n, p), q in
                zip(fresh.named_parameters(), net.parameters()) if not n.endswith(skip))
    check('weights after ' + name, worst[0] <= 1e-4, 'strict load; largest difference %.2g in %s' % worst)


with tempfile.TemporaryDirectory() as tmp:
    LENGTH = 203
    data = os.path.join(tmp, 'data')
    x, y, t = shards(data, [13, 8], LENGTH, 1)
    for bn in (False, True):
        test_predict(tmp, data, x, bn, LENGTH)
        test_predict(tmp, data, x, bn, LENGTH, 'attention')
    for kind, bn, decay, accumulate in (('bce', False, 1e-2, 1), ('bce', False, 1.0, 3), ('hill', False, 1e-2, 1),
                                        ('mse', False, 1e-2, 1), ('bce', True, 1e-2, 1)):
        test_steps(tmp, data, x, y, t, bn, kind, decay, LENGTH, accumulate)
    test_steps(tmp, data, x, y, t, False, 'bce', 1e-2, LENGTH, 3, 'attention')
    test_steps(tmp, data, x, y, t, True, 'bce', 1e-2, LENGTH, 1, 'attention')
print('%d passed, %d failed, 0 skipped' % (passed, failed))
sys.exit(failed > 0)
