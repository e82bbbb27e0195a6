#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The ways to fine-tune against a plain second computation in PyTorch: rates by stage, gradual unfreezing, LP-FT, frozen batch
norm, the moving average; and weights of other leads, random backbones, which tensors moved.

The network is the torch Net1D of tests/fixtures/make_net1d.py, on records of `einthoven synth`."""
import glob
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
    print('test_finetune: skipped (%s)' % e)
    print('0 passed, 0 failed, 1 skipped')
    sys.exit(0)

sys.path.insert(0, os.path.join(HERE, 'fixtures'))
import make_net1d  # noqa: E402
import tensors as st  # noqa: E402

LEADS = 'I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6'.split(',')
LABELS = ['sinus_rhythm', 'pvc']
LENGTH, BATCH, RECORDS = 200, 6, 21
STEPS = -(-RECORDS // BATCH)  # an epoch
passed = failed = 0


def check(name, ok, note):
    global passed, failed
    passed += bool(ok)
    failed += not ok
    print('%s %s: %s' % ('ok     ' if ok else 'FAILED ', name, note))


def run(*words):
    r = subprocess.run([BINARY] + [str(w) for w in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if r.returncode != 0:
        raise SystemExit('%s: exit %d\n%s' % (' '.join(map(str, words)), r.returncode, r.stderr))
    return r.stderr


def read(folder):
    with h5py.File(glob.glob(os.path.join(folder, '*.h5'))[0], 'r') as f:
        names = f['labels'].attrs['names']
        names = (names.decode() if isinstance(names, bytes) else names).split('\n')
        x = f['ecg'][:].astype(np.float64) * f['scale'][:][:, None, None].astype(np.float64)
        y = f['labels'][:][:, [names.index(n) for n in LABELS]].astype(np.float32)
    x = (x - x.mean(axis=(1, 2), keepdims=True)) / (x.std(axis=(1, 2), keepdims=True) + 1e-8)
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y)


class Bench:
    """Weights and data of one kind of network."""

    def __init__(self, tmp, bn):
        self.tmp, self.bn, self.n_runs = tmp, bn, 0
        self.data = os.path.join(tmp, 'data')
        self.x, self.y = read(self.data)
        torch.manual_seed(5)
        net = self.network()
        if bn:
            with torch.no_grad():
                for _ in range(20):
                    net(self.x)
        self.weights = os.path.join(tmp, 'w%d.safetensors' % bn)
        model = json.dumps(dict(batch_norm=bn, dropout=0, drop_path=0, stride=2, length=LENGTH))
        st.save(self.weights, {k: v.numpy() for k, v in net.state_dict().items()},
                {'format': 'pt', 'einthoven.model': model})

    def network(self):
        return make_net1d.Net1D(dict(in_channels=12, base_filters=16, filter_list=[16, 32], m_blocks_list=[1, 2],
                                     kernel_size=16, stride=2, group_width=16, bn=self.bn, n_classes=2, len=LENGTH))

    def finetune(self, epochs, *sets):
        """Returns the folder of the last checkpoint, and the log."""
        self.n_runs += 1
        out = os.path.join(self.tmp, 'run%d-%d' % (self.bn, self.n_runs))
        config = os.path.join(self.tmp, 'c.yaml')
        with open(config, 'w') as f:
            f.write('data: {train: %s, shuffle: false}\nhead: {labels: [%s]}\noptim: {lr: 3e-3, backbone_lr: 1e-3}\n'
                    'train: {batch_size: %d, epochs: %d}\n' % (self.data, ', '.join(LABELS), BATCH, epochs))
        words = [w for s in sets for w in ('--set', s)]
        log = run('finetune', config, '--weights', self.weights, '--out', out, *words)
        return os.path.join(out, 'checkpoints', 'last'), log

    def trained(self):
        """Parameters that are: the official class has BN weights that no forward pass reads."""
        return {n for n, _ in self.network().named_parameters()
                if 'bn' not in n or self.bn and 'stage_list.0.block_list.0.bn1' not in n}

    def head(self):
        """The new head, as every run with this seed begins: of one that learns nothing."""
        last, _ = self.finetune(1, 'optim.lr=0', 'optim.backbone_lr=0', 'optim.weight_decay=0')
        return {k: v for k, v in model(last).items() if k.startswith('dense.')}


def model(last):
    return st.load(os.path.join(last, 'model.safetensors'))


def layer(name):
    """0 the stem, 1 + i stage i, 3 the head."""
    if name.startswith('dense.'):
        return 3
    return 1 + int(name.split('.')[1]) if name.startswith('stage_list.') else 0


def by_layer(net, rates, decay=0.01):
    groups = [dict(params=[p for n, p in net.named_parameters() if layer(n) == i], lr=rates[i]) for i in range(4)]
    return torch.optim.AdamW([g for g in groups if g['lr'] is not None], weight_decay=decay)


def freeze_norms(net):
    for m in net.modules():
        if isinstance(m, torch.nn.BatchNorm1d):
            m.eval()
            for p in m.parameters():
                p.requires_grad_(False)


def torch_epoch(net, optimiser, b, lowest=0, after=None):
    for n, p in net.named_parameters():
        p.requires_grad_(layer(n) >= lowest and p.requires_grad)
    for s in range(0, RECORDS, BATCH):
        net.zero_grad(set_to_none=True)
        F.binary_cross_entropy_with_logits(net(b.x[s:s + BATCH])[0], b.y[s:s + BATCH]).backward()
        optimiser.step()
        if after:
            after()


def start(b):
    net = b.network()
    state = dict(st.load(b.weights))
    state.update(b.head())
    net.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in state.items()})
    net.train()
    return net


def worst(got, net, norms=True):
    """Largest difference of a parameter; of networks with batch norm without the biases before one: their gradients are zero
    but for rounding, which AdamW turns into steps."""
    skip = ('first_conv.conv.bias', 'conv1.conv.bias', 'conv2.conv.bias') if norms else ()
    return max((np.abs(got[n] - p.detach().numpy()).max(), n) for n, p in net.named_parameters()
               if not n.endswith(skip))


def compare(name, got, net, b):
    error = worst(got, net, b.bn)
    check(name, error[0] <= 1e-4, 'weights against PyTorch, largest difference %.2g in %s (bound 1e-4)' % error)


def test_stage_factors(b):
    sets = ['optim.stage_factors=[0.01, 0.1, 0.5]']
    last, _ = b.finetune(3, *sets)
    net = start(b)
    optimiser = by_layer(net, [1e-5, 1e-4, 5e-4, 3e-3])
    for _ in range(3):
        torch_epoch(net, optimiser, b)
    compare('stage factors bn=%d' % b.bn, model(last), net, b)
    plain, _ = b.finetune(3)
    apart = worst(model(plain), net, b.bn)[0]
    check('stage factors count bn=%d' % b.bn, apart > 1e-3, 'without them %.2g away' % apart)


def test_ema(b):
    last, _ = b.finetune(3, 'train.ema=0.8')
    plain, _ = b.finetune(3)
    net = start(b)
    average = {n: p.detach().clone() for n, p in net.named_parameters()}
    updates = [0]

    def after():
        updates[0] += 1
        d = min(0.8, (1 + updates[0]) / (10 + updates[0]))
        for n, p in net.named_parameters():
            average[n] = d * average[n] + (1 - d) * p.detach()

    optimiser = by_layer(net, [1e-3, 1e-3, 1e-3, 3e-3])
    for _ in range(3):
        torch_epoch(net, optimiser, b, after=after)
    got, raw = model(last), model(plain)
    apart = worst(got, net, b.bn)[0]
    for n, p in net.named_parameters():
        p.data = average[n]
    compare('ema bn=%d' % b.bn, got, net, b)
    check('ema counts bn=%d' % b.bn, apart > 1e-3, 'the weights themselves are %.2g away' % apart)
    flat = st.load(os.path.join(last, 'state.safetensors'))['weights']
    rows = {flat[i:i + 8].tobytes() for i in range(0, len(flat), 16)}  # every tensor begins at a 16th float
    same = all(raw[n].ravel()[:8].tobytes() in rows for n in b.trained() if raw[n].size >= 8)
    check('ema keeps the weights bn=%d' % b.bn, same, "state.safetensors has the plain run's, bit for bit")
    buffers = all((got[k] == raw[k]).all() for k in got if 'running' in k)
    check('ema and running statistics bn=%d' % b.bn, buffers, 'the current ones')


def moved(a, b):
    return {k for k in a if not np.array_equal(a[k], b[k])}


def test_unfreeze(b):
    after = [dict(st.load(b.weights), **b.head())]
    sets = ['finetune.unfreeze_epochs=1', 'train.clip_norm=100']
    for epochs in range(1, 6):
        last, log = b.finetune(epochs, *sets)
        after.append(model(last))
    for i in range(5):
        got, lowest = moved(after[i], after[i + 1]), max(3 - i, 0)
        below = {n for n in got if layer(n) < lowest}
        missing = {n for n in b.trained() if layer(n) >= lowest} - got
        check('unfreeze epoch %d bn=%d' % (i + 1, b.bn), not below and not missing,
              '%d tensors moved; below layer %d: %s; not moved from it on: %s'
              % (len(got), lowest, sorted(below) or 'none', sorted(missing) or 'none'))
    net = start(b)
    optimiser = by_layer(net, [1e-3, 1e-3, 1e-3, 3e-3])
    for i in range(5):
        lowest = max(3 - i, 0)
        for n, p in net.named_parameters():
            p.requires_grad_(True)
        for n, m in net.named_modules():  # closed layers leave their statistics
            if isinstance(m, torch.nn.BatchNorm1d):
                m.train(layer(n + '.') >= lowest)
        torch_epoch(net, optimiser, b, lowest)
    compare('unfreeze bn=%d' % b.bn, after[5], net, b)


def test_lp_ft(b):
    sets = ['finetune.probe_epochs=4', 'finetune.probe_lr=1e-2']
    last, _ = b.finetune(2, *sets)
    net = start(b)
    net.eval()
    optimiser = by_layer(net, [None, None, None, 1e-2])
    for _ in range(4):
        torch_epoch(net, optimiser, b, 3)
    for p in net.parameters():
        p.requires_grad_(True)
    net.train()
    optimiser = by_layer(net, [1e-3, 1e-3, 1e-3, 3e-3])
    for _ in range(2):
        torch_epoch(net, optimiser, b)
    compare('LP-FT bn=%d' % b.bn, model(last), net, b)
    uncached, _ = b.finetune(2, 'head.cache=false', *sets)
    check('LP-FT uncached bn=%d' % b.bn, not moved(model(last), model(uncached)), 'the same weights bit for bit')


def test_freeze_norm(b):
    last, _ = b.finetune(3, 'finetune.freeze_norm=true')
    net = start(b)
    freeze_norms(net)
    optimiser = by_layer(net, [1e-3, 1e-3, 1e-3, 3e-3])
    for _ in range(3):
        torch_epoch(net, optimiser, b)
    got = model(last)
    error = worst(got, net, False)
    check('frozen norm', error[0] <= 1e-4, 'largest difference %.2g in %s (bound 1e-4)' % error)
    before = dict(st.load(b.weights))
    norms = {n for n in moved(before, got) if 'bn' in n}
    check('frozen norm stays', not norms, 'no tensor of batch norm moved %s' % (norms or ''))


def test_leads(b):
    still = ['optim.lr=0', 'optim.backbone_lr=0', 'optim.weight_decay=0']
    key = 'first_conv.conv.weight'
    w = st.load(b.weights)[key].astype(np.float64)
    for how, leads in (('sum', ['II']), ('sum', ['V2', 'aVR']), ('select', ['V5']), ('select', ['V1', 'I', 'II'])):
        last, log = b.finetune(1, 'finetune.leads=' + how, 'model.in_leads=[%s]' % ', '.join(leads), *still)
        own = np.stack([w[:, LEADS.index(n)] for n in leads], 1)
        if how == 'sum':
            own = own + (w.sum(1, keepdims=True) - own.sum(1, keepdims=True)) / len(leads)
        error = np.abs(model(last)[key] - own).max()
        check('leads %s of %s' % (how, ','.join(leads)), error <= 1e-6 and 'finetune.leads ' + how in log,
              'stem against numpy %.2g (bound 1e-6)' % error)
    base = st.load(b.weights)
    rest = {n for n in moved({k: v for k, v in base.items() if k != key and 'dense' not in k}, model(last))}
    check('leads leave the rest', not rest, 'other tensors as in the weights')


def test_random(b):
    still = ['optim.lr=0', 'optim.backbone_lr=0', 'optim.weight_decay=0']
    last, log = b.finetune(1, 'finetune.init=random', *still)
    other, _ = b.finetune(1, 'finetune.init=random', 'init.seed=9', *still)
    out, config = os.path.join(b.tmp, 'pre'), os.path.join(b.tmp, 'p.yaml')
    with open(config, 'w') as f:
        f.write('model: {base_filters: 16, filters: [16, 32], blocks: [1, 2]}\ndata: {train: %s, labels: [%s]}\n'
                'optim: {lr: 0, weight_decay: 0}\ntrain: {batch_size: 6, epochs: 1}\n' % (b.data, ', '.join(LABELS)))
    run('pretrain', config, '--out', out)
    fresh = model(os.path.join(out, 'checkpoints', 'last'))
    check('random backbone', not moved(fresh, model(last)) and moved(fresh, model(other)),
          "a fresh network's weights, by init.seed")


with tempfile.TemporaryDirectory() as folder:
    run('-q', 'synth', '--out', os.path.join(folder, 'data'), '--records', RECORDS, '--seed', 5, '--rate', 100, '--length', 2)
    for bn in (False, True):
        bench = Bench(folder, bn)
        test_stage_factors(bench)
        test_ema(bench)
        test_unfreeze(bench)
        test_lp_ft(bench)
        if bn:
            test_freeze_norm(bench)
        else:
            test_leads(bench)
            test_random(bench)
print('%d passed, %d failed, 0 skipped' % (passed, failed))
sys.exit(failed > 0)
