#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Steps of training with every kind of head at once against PyTorch: its own losses where it has them (cross_entropy with
weights, binary_cross_entropy_with_logits with pos_weight, huber_loss, mse_loss, GaussianNLLLoss), else the likelihoods
written down plainly and left to autograd. Labels and targets are partly unknown.

The network is the torch Net1D of tests/fixtures/make_net1d.py. Targets are learnt standardised there; their rows are
translated into the targets' units at the end."""
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
    print('test_heads_torch: skipped (%s)' % e)
    print('0 passed, 0 failed, 1 skipped')
    sys.exit(0)

sys.path.insert(0, os.path.join(HERE, 'fixtures'))
import make_net1d  # noqa: E402
import tensors as st  # noqa: E402

LENGTH, BATCH, RECORDS, EPOCHS = 200, 16, 48, 4
RHYTHM = ['sinus_rhythm', 'sinus_bradycardia', 'sinus_tachycardia', 'atrial_fibrillation']
RHYTHM_WEIGHT = [0.5, 2, 1.5, 3]
FINDINGS, FINDING_WEIGHT = ['lbbb', 'rbbb', 'low_lvef'], [3, 0.7, 2]
RATE = ['sinus_bradycardia', 'sinus_rhythm', 'sinus_tachycardia']
ENDS = [365, 1095, 1825]
HEADS = '''heads:
  - {name: rhythm, labels: %s, loss: {name: softmax, pos_weight: %s}, weight: 2}
  - {name: findings, labels: %s, loss: {name: bce, pos_weight: %s}}
  - {name: rate, labels: %s, loss: ordinal, weight: 0.5}
  - {name: grade, targets: [lvef], loss: {name: ordinal, bins: [50, 60]}}
  - {targets: [age, pr_ms], loss: {name: huber, delta: 0.8}, weight: 0.7}
  - {targets: [qt_ms], loss: mse}
  - {name: shape, targets: [heart_rate, qrs_ms], loss: gaussian, weight: 1.5}
  - {name: death, event: death, time: follow_up_days, loss: cox, weight: 0.3}
  - {name: years, event: death, time: follow_up_days, loss: {name: hazard, bins: %s}}
''' % (RHYTHM, RHYTHM_WEIGHT, FINDINGS, FINDING_WEIGHT, RATE, ENDS)
# Outputs: 4 + 3 + 2 + 2 + 2 + 1 + (2 + 2) + 1 + 3; those of standardised targets, and what they are.
N_OUTPUTS = 22
UNITS = {11: 'age', 12: 'pr_ms', 13: 'qt_ms', 14: 'heart_rate', 15: 'qrs_ms'}
LOG_VARIANCES = {16: 'heart_rate', 17: 'qrs_ms'}
COX = 18
passed = failed = 0


def check(name, ok, note):
    global passed, failed
    passed += bool(ok)
    failed += not ok
    print('%s %s: %s' % ('ok     ' if ok else 'FAILED ', name, note))


def run(*words):
    r = subprocess.run([BINARY, '-q'] + [str(w) for w in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if r.returncode != 0:
        raise SystemExit('%s: exit %d\n%s' % (' '.join(map(str, words)), r.returncode, r.stderr))


def forget(path):
    """A part of the labels and targets becomes unknown."""
    g = np.random.RandomState(3)
    with h5py.File(path, 'r+') as f:
        y, t = f['labels'][:], f['targets'][:]
        y[g.uniform(size=y.shape) < 0.1] = 255
        t[g.uniform(size=t.shape) < 0.1] = np.nan
        f['labels'][...], f['targets'][...] = y, t


def read(path):
    with h5py.File(path, 'r') as f:
        x = f['ecg'][:].astype(np.float64) * f['scale'][:][:, None, None].astype(np.float64)
        columns = {}
        for key in ('labels', 'targets'):
            columns.update(zip(f[key].attrs['names'].split('\n'), torch.from_numpy(f[key][:].T.astype(np.float64))))
    x = (x - x.mean(axis=(1, 2), keepdims=True)) / (x.std(axis=(1, 2), keepdims=True) + 1e-8)
    return torch.from_numpy(x.astype(np.float32)), columns


# ------------------------------------------------------------------ losses: z the head's outputs, c the batch's columns

def classes(c, names):
    y = torch.stack([c[n] == 1 for n in names], 1)
    return torch.where(y.sum(1) == 1, y.double().argmax(1), torch.full((len(y),), -1))


def softmax(z, c):
    y = classes(c, RHYTHM)
    known = y >= 0
    w = torch.tensor(RHYTHM_WEIGHT, dtype=torch.float64)
    return F.cross_entropy(z[known], y[known], weight=w, reduction='sum') / known.sum()


def bce(z, c):
    y = torch.stack([c[n] for n in FINDINGS], 1)
    known = y != 255
    w = torch.tensor(FINDING_WEIGHT, dtype=torch.float64)
    each = F.binary_cross_entropy_with_logits(z, y.clamp(max=1), pos_weight=w, reduction='none')
    return each[known].mean()


def steps(z, passed_steps, stops):
    """-log of the chance to go past so many steps and, where it stops, to stop at the next (sigmoid: stop)."""
    total = 0
    for row, n, s in zip(z, passed_steps, stops):
        for k in range(n):
            total = total - torch.log(1 - torch.sigmoid(row[k]))
        if s:
            total = total - torch.log(torch.sigmoid(row[n]))
    return total / len(z)


def ordinal(z, y):
    known = y >= 0
    return steps(z[known], y[known].tolist(), (y[known] < z.shape[1]).tolist())


def grade(z, c):
    t = c['lvef']
    y = (t >= 50).long() + (t >= 60).long()
    return ordinal(z, torch.where(torch.isnan(t), torch.full_like(y, -1), y))


def of_targets(loss, names):
    def value(z, c):
        t = torch.stack([c[n] for n in names], 1)
        known = ~torch.isnan(t)
        return loss(z[known], t[known])
    return value


def gaussian(z, c):
    t = torch.stack([c['heart_rate'], c['qrs_ms']], 1)
    known = ~torch.isnan(t)
    return torch.nn.GaussianNLLLoss(eps=1e-6)(z[:, :2][known], t[known], torch.exp(z[:, 2:])[known])


def cox(z, c):
    event, time = c['death'], c['follow_up_days']
    known = (event != 255) & ~torch.isnan(time)
    z, event, time = z[known, 0], event[known], time[known]
    return sum(torch.log(torch.exp(z[time >= time[i]]).sum()) - z[i] for i in torch.nonzero(event == 1)[:, 0]) / (event == 1).sum()


def hazard(z, c):
    event, time = c['death'], c['follow_up_days']
    known = (event != 255) & ~torch.isnan(time)
    z, event, time = z[known], event[known] == 1, time[known]
    n = [sum(t > e if died else t >= e for e in ENDS) for t, died in zip(time.tolist(), event.tolist())]
    return steps(z, n, [died and k < len(ENDS) for k, died in zip(n, event.tolist())])


PARTS = [(2, 4, softmax), (1, 3, bce), (0.5, 2, lambda z, c: ordinal(z, classes(c, RATE))), (1, 2, grade),
         (0.7, 2, of_targets(lambda z, t: F.huber_loss(z, t, delta=0.8), ['age', 'pr_ms'])),
         (1, 1, of_targets(F.mse_loss, ['qt_ms'])), (1.5, 4, gaussian), (0.3, 1, cox), (1, 3, hazard)]


def total(z, c):
    value, at = 0, 0
    for weight, n, loss in PARTS:
        value = value + weight * loss(z[:, at:at + n], c)
        at += n
    return value


# ------------------------------------------------------------------ training

def pretrain(tmp, name, *sets):
    config, out = os.path.join(tmp, 'c.yaml'), os.path.join(tmp, name)
    with open(config, 'w', encoding='utf-8') as f:
        f.write('model: {base_filters: 16, filters: [16, 32], blocks: [1, 2]}\ndata: {train: %s, shuffle: false}\n'
                'optim: {name: adam, lr: 1e-3}\ntrain: {batch_size: %d, epochs: %d}\n%s'
                % (os.path.join(tmp, 'data'), BATCH, EPOCHS, HEADS))
    run('pretrain', config, '--out', out, *[w for s in sets for w in ('--set', s)])
    with open(os.path.join(out, 'metrics.jsonl'), encoding='utf-8') as f:
        losses = [json.loads(line)['loss'] for line in f]
    return st.load(os.path.join(out, 'checkpoints', 'last', 'model.safetensors')), np.array(losses)


def standard(columns):
    mean, sd = {}, {}
    for name in UNITS.values():
        t = columns[name][~torch.isnan(columns[name])]
        mean[name], sd[name] = float(t.mean()), float(t.std(unbiased=False))
    return mean, sd


def translate(weight, bias, mean, sd, back):
    """The head's rows of targets from their units to standard deviations, or back."""
    for k, name in UNITS.items():
        weight[k] = weight[k] * sd[name] if back else weight[k] / sd[name]
        bias[k] = bias[k] * sd[name] + mean[name] if back else (bias[k] - mean[name]) / sd[name]
    for k, name in LOG_VARIANCES.items():
        bias[k] += 2 * np.log(sd[name]) * (1 if back else -1)


def torch_train(x, columns, state, mean, sd):
    net = make_net1d.Net1D(dict(in_channels=12, base_filters=16, filter_list=[16, 32], m_blocks_list=[1, 2], kernel_size=16,
                                stride=2, group_width=16, bn=False, n_classes=N_OUTPUTS, len=LENGTH))
    net.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in state.items()})
    net.train()
    with torch.no_grad():
        translate(net.dense.weight, net.dense.bias, mean, sd, False)
    scaled = {k: (v - mean[k]) / sd[k] if k in mean else v for k, v in columns.items()}
    optimiser, losses = torch.optim.Adam(net.parameters(), lr=1e-3), []
    for _ in range(EPOCHS):
        for s in range(0, RECORDS, BATCH):
            optimiser.zero_grad(set_to_none=True)
            loss = total(net(x[s:s + BATCH])[0].double(), {k: v[s:s + BATCH] for k, v in scaled.items()})
            loss.backward()
            optimiser.step()
            losses.append(float(loss))
    with torch.no_grad():
        translate(net.dense.weight, net.dense.bias, mean, sd, True)
    return net, np.array(losses)


def difference(got, net, sd):
    """Largest of all parameters, rows of targets in standard deviations; and its name. Without cox' bias: its gradient is zero
    but for rounding, which Adam turns into steps."""
    worst = (0.0, '')
    for name, p in net.named_parameters():
        if 'bn' in name:
            continue
        d = np.abs(got[name].astype(np.float64) - p.detach().numpy())
        if name.startswith('dense.'):
            for k, unit in UNITS.items():
                d[k] /= sd[unit]
        if name == 'dense.bias':
            d[COX] = 0
        worst = max(worst, (float(d.max()), name))
    return worst


def main(tmp):
    run('synth', '--out', os.path.join(tmp, 'data'), '--records', RECORDS, '--seed', 5, '--rate', 100, '--length', 2, '--outcomes')
    os.remove(os.path.join(tmp, 'data', 'dataset.json'))
    path, = glob.glob(os.path.join(tmp, 'data', '*.h5'))
    forget(path)
    x, columns = read(path)
    start, _ = pretrain(tmp, 'start', 'optim.lr=0')
    mean, sd = standard(columns)
    first = max(np.abs(start['dense.bias'][k] - mean[n]) / sd[n] for k, n in UNITS.items())
    first = max([first] + [abs(start['dense.bias'][k] - 2 * np.log(sd[n])) for k, n in LOG_VARIANCES.items()])
    check('start', first <= 1e-5, 'targets begin at mean and sd of data.train: off by %.1e (bound 1e-5)' % first)
    net, expected = torch_train(x, columns, start, mean, sd)
    for parts in (1, 4):
        got, losses = pretrain(tmp, 'run%d' % parts, 'train.accumulate=%d' % parts)
        worst = np.abs(losses / expected - 1).max() if losses.shape == expected.shape else np.inf
        check('losses in %d parts' % parts, worst <= 1e-5,
              '%d steps, largest relative difference %.1e (bound 1e-5), from %.4f to %.4f'
              % (len(losses), worst, losses[0], losses[-1]))
        error = difference(got, net, sd)
        check('weights in %d parts' % parts, error[0] <= 1e-4, 'largest difference %.1e in %s (bound 1e-4)' % error)
    moved = difference(start, net, sd)[0]
    check('training counts', moved > 1e-3, 'the start is %.1e away' % moved)


with tempfile.TemporaryDirectory() as folder:
    main(folder)
print('%d passed, %d failed, 0 skipped' % (passed, failed))
sys.exit(failed > 0)
