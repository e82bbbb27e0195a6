#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""einthoven beside PyTorch on this machine: the published Net1D, the same batch, threads and records, side by side.

    scripts/bench_torch.py [--batch 16] [--threads 2] [--bn 0|1] [--rounds 5] [--steps 3] [--json FILE]

Training step = forward, BCE with logits, backward, Adam; inference = eval mode without gradients. PyTorch runs as
    eager  fp32, as the official code: x * sigmoid(x), a padding copy before each convolution
    tuned  fp32, F.silu, copies only where there is something to pad, glibc told to keep its memory
    bf16   the same under autocast to bfloat16
in a process each, so that each has its own peak memory. In every round each variant and einthoven take one turn: a step to
warm up, then `steps` timed ones, of which the median counts; the table shows medians over rounds and their ratios. First
all variants must give the logits that `einthoven predict` gives for the same weights and records. The network is tests/fixtures/make_net1d.py's; needs torch, numpy and h5py.
"""
import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BINARY = os.environ.get('EINTHOVEN_BINARY') or os.path.join(ROOT, 'build', 'einthoven')
sys.path.insert(0, os.path.join(ROOT, 'tests', 'fixtures'))

LEADS = 'I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6'
CONFIG = dict(in_channels=12, len=5000, base_filters=64, filter_list=[64, 160, 160, 400, 400, 1024, 1024],
              m_blocks_list=[2, 2, 2, 3, 3, 4, 4], kernel_size=16, stride=2, group_width=16, n_classes=150)
SCALE = 1e-3  # physical value of one step of the samples
VARIANTS = {'eager': 'torch fp32, eager', 'tuned': 'torch fp32, tuned', 'bf16': 'torch bf16 autocast'}
OURS = {'fp32': 'einthoven fp32', 'bf16': 'einthoven bf16'}
# Largest difference of a logit from einthoven's fp32, over the largest logit.
BOUNDS = {'fp32': 1e-4, 'bf16': 3e-2}
KEEP_MEMORY = {'MALLOC_MMAP_THRESHOLD_': '4294967296', 'MALLOC_TRIM_THRESHOLD_': '4294967296', 'MALLOC_TOP_PAD_': '67108864'}


def samples(batch):
    """The records of `einthoven bench`: the upper 16 bits of splitmix64's numbers from seed 0."""
    import numpy as np
    n = batch * CONFIG['in_channels'] * CONFIG['len']
    with np.errstate(over='ignore'):
        z = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = (z ^ (z >> np.uint64(31))) >> np.uint64(48)
    return z.astype(np.uint16).view(np.int16).reshape(batch, CONFIG['in_channels'], CONFIG['len'])


def peak_rss_mib():
    with open('/proc/self/status') as f:
        return next(int(line.split()[1]) for line in f if line.startswith('VmHWM')) / 1024


# ---------------------------------------------------------------- one variant of PyTorch, in a process of its own

class Worker:
    """Answers the commands that come as lines: save, load, logits, train, infer, memory."""

    def __init__(self, variant, batch, threads, bn):
        import numpy as np
        import torch
        import make_net1d
        torch.set_num_threads(threads)
        torch.set_flush_denormal(True)
        if variant != 'eager':
            make_net1d.swish = torch.nn.functional.silu
            make_net1d.SameConv.always_pad = False
        torch.manual_seed(1)
        self.torch, self.np, self.bn = torch, np, bn
        self.net = make_net1d.Net1D(dict(CONFIG, bn=bn))
        self.adam = torch.optim.Adam(self.net.parameters(), lr=1e-3)
        self.amp, self.keep_grads = variant == 'bf16', variant == 'eager'
        v = samples(batch) * SCALE
        x = (v - v.mean((1, 2), keepdims=True)) / (v.std((1, 2), keepdims=True) + 1e-8)
        self.x = torch.from_numpy(x.astype(np.float32))
        self.y = torch.zeros(batch, CONFIG['n_classes'])

    def forward(self):
        with self.torch.autocast('cpu', self.torch.bfloat16, enabled=self.amp):
            return self.net(self.x)[0].float()

    def step(self):
        self.adam.zero_grad(set_to_none=not self.keep_grads)
        loss = self.torch.nn.functional.binary_cross_entropy_with_logits(self.forward(), self.y)
        loss.backward()
        self.adam.step()

    def timed(self, run, n):
        run()
        seconds = []
        for _ in range(n):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds)

    def train(self, n):
        self.net.train()
        return self.timed(self.step, n)

    def infer(self, n):
        self.net.eval()
        with self.torch.no_grad():
            return self.timed(self.forward, n)

    def logits(self):
        self.net.eval()
        with self.torch.no_grad():
            return self.forward().tolist()

    def save(self, path):
        import tensors
        model = dict(batch_norm=self.bn, dropout=0, drop_path=0, stride=CONFIG['stride'], length=CONFIG['len'])
        tensors.save(path, {k: v.numpy() for k, v in self.net.state_dict().items()},
                     {'format': 'pt', 'einthoven.model': json.dumps(model)})

    def load(self, path):
        import tensors
        state = {k: self.torch.from_numpy(self.np.array(v)) for k, v in tensors.load(path).items()}
        self.net.load_state_dict(state, strict=True)

    def memory(self):
        return peak_rss_mib()

    def serve(self):
        for line in sys.stdin:
            name, *words = json.loads(line)
            print(json.dumps(getattr(self, name)(*words)), flush=True)


class Peer:
    """A worker's other end."""
    def __init__(self, variant, o):
        env = dict(os.environ, OMP_WAIT_POLICY='passive', OMP_NUM_THREADS=str(o.threads))
        if variant != 'eager':
            env.update(KEEP_MEMORY)
        words = [sys.executable, os.path.abspath(__file__), '--worker', variant, '--batch', str(o.batch),
                 '--threads', str(o.threads), '--bn', str(o.bn)]
        self.name = VARIANTS[variant]
        self.process = subprocess.Popen(words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, *words):
        self.process.stdin.write(json.dumps(words) + '\n')
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit('bench_torch: %s ended while asked to %s' % (self.name, words[0]))
        return json.loads(line)

    def turn(self, steps):
        return dict(training=self.ask('train', steps), inference=self.ask('infer', steps), memory=self.ask('memory'))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


# ---------------------------------------------------------------- einthoven

def einthoven(*words):
    return subprocess.run([BINARY, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class Einthoven:
    """The bench command with one configuration."""

    def __init__(self, precision, o):
        self.name = OURS[precision]
        self.words = ['bench', '--train', '--quick', '--json', '--model', 'published', '--precision', precision,
                      '--batch', o.batch, '--threads', o.threads] + ['--batch-norm'] * o.bn

    def turn(self, steps):
        r = einthoven(*self.words, '--runs', steps)
        if r.returncode:
            raise SystemExit('bench_torch: %s: %s' % (self.name, r.stderr))
        train = json.loads(r.stdout)['train'][0]
        return dict(training=train['training']['seconds'], inference=train['inference']['seconds'],
                    memory=train['training_peak_rss_mib'])


def predict(tmp, weights, precision, o):
    """Logits of the records by einthoven."""
    import h5py
    import numpy as np
    data, out = os.path.join(tmp, 'data'), os.path.join(tmp, precision + '.h5')
    if not os.path.isdir(data):
        os.mkdir(data)
        with h5py.File(os.path.join(data, 'records.h5'), 'w') as f:
            f.attrs.update(format='ecg-shard', version=1, sampling_rate=500.0, units='mV', preprocessing='none', leads=LEADS)
            f['ecg'] = samples(o.batch)
            f['scale'] = np.full(o.batch, SCALE, np.float32)
            f['labels'] = np.zeros((o.batch, CONFIG['n_classes']), np.uint8)
            f['labels'].attrs['names'] = '\n'.join('label%d' % i for i in range(CONFIG['n_classes']))
            f['record_id'] = ['r%d' % i for i in range(o.batch)]
    r = einthoven('predict', '--weights', weights, '--data', data, '--out', out, '--precision', precision,
                  '--threads', o.threads)
    if r.returncode:
        raise SystemExit('bench_torch: %s' % r.stderr)
    with h5py.File(out) as f:
        return f['logits'][:]


def check_equal(peers, o):
    """All take the first one's weights and must agree on the logits."""
    import numpy as np
    with tempfile.TemporaryDirectory() as tmp:
        weights = os.path.join(tmp, 'weights.safetensors')
        peers['eager'].ask('save', weights)
        want = predict(tmp, weights, 'fp32', o)
        found = [(OURS['bf16'], 'bf16', predict(tmp, weights, 'bf16', o))]
        for variant, peer in peers.items():
            peer.ask('load', weights)
            found.append((peer.name, 'bf16' if variant == 'bf16' else 'fp32', np.array(peer.ask('logits'))))
    print('logits beside einthoven fp32, largest difference over largest logit:')
    bad = False
    for name, precision, logits in found:
        error = np.abs(logits - want).max() / np.abs(want).max()
        bad |= not error <= BOUNDS[precision]
        print('  %-22s %.1e (bound %g)' % (name, error, BOUNDS[precision]))
    if bad:
        raise SystemExit('bench_torch: the networks differ; nothing was timed')


# ---------------------------------------------------------------- rounds and tables

def run_rounds(runners, o):
    turns = {r.name: [] for r in runners}
    for i in range(o.rounds):
        first = i % len(runners)
        for r in runners[first:] + runners[:first]:
            turn = r.turn(o.steps)
            turns[r.name].append(turn)
            print('  round %d  %-22s training %7.1f  inference %7.1f ECG/s' % (
                i + 1, r.name, o.batch / turn['training'], o.batch / turn['inference']), file=sys.stderr)
    rows = []
    for r in runners:
        row = dict(name=r.name)
        for part in ('training', 'inference'):
            row[part + '_ecg_per_s'] = o.batch / statistics.median(t[part] for t in turns[r.name])
        row['training_peak_rss_mib'] = statistics.median(t['memory'] for t in turns[r.name])
        rows.append(row)
    return rows


def ratios(rows):
    by_name = {r['name']: r for r in rows}
    out = []
    for ours, theirs in ((OURS['fp32'], VARIANTS['eager']), (OURS['fp32'], VARIANTS['tuned']),
                         (OURS['bf16'], VARIANTS['tuned']), (OURS['bf16'], VARIANTS['bf16'])):
        a, b = by_name[ours], by_name[theirs]
        out.append(dict(name='%s / %s' % (ours, theirs), **{
            k: a[k] / b[k] for k in ('training_ecg_per_s', 'inference_ecg_per_s', 'training_peak_rss_mib')}))
    return out


def print_table(rows, quotients):
    print('\n%-44s %16s %16s %10s' % ('medians', 'training ECG/s', 'inference ECG/s', 'peak MiB'))
    for r in rows:
        print('%-44s %16.1f %16.1f %10.0f' % (r['name'], r['training_ecg_per_s'], r['inference_ecg_per_s'],
                                              r['training_peak_rss_mib']))
    print('\n%-44s %16s %16s %10s' % ('ratios of medians', 'training', 'inference', 'memory'))
    for r in quotients:
        print('%-44s %16.2f %16.2f %10.2f' % (r['name'], r['training_ecg_per_s'], r['inference_ecg_per_s'],
                                              r['training_peak_rss_mib']))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--batch', type=int, default=16)
    p.add_argument('--threads', type=int, default=2)
    p.add_argument('--bn', type=int, choices=(0, 1), default=0, help='batch normalisation')
    p.add_argument('--rounds', type=int, default=5)
    p.add_argument('--steps', type=int, default=3, help='timed steps of a turn')
    p.add_argument('--json', metavar='FILE', help='the figures, for scripts/bench_readme.py')
    p.add_argument('--worker', choices=list(VARIANTS), help=argparse.SUPPRESS)
    o = p.parse_args()
    if min(o.batch, o.threads, o.rounds, o.steps) < 1:
        p.error('--batch, --threads, --rounds and --steps must be at least 1')
    if o.worker:
        Worker(o.worker, o.batch, o.threads, bool(o.bn)).serve()
        return
    missing = [m for m in ('torch', 'numpy', 'h5py') if importlib.util.find_spec(m) is None]
    if missing:
        raise SystemExit('bench_torch: %s has no %s; scripts/setup.sh test installs them for /usr/bin/python3' % (
            sys.executable, ', '.join(missing)))
    peers = {v: Peer(v, o) for v in VARIANTS}
    try:
        check_equal(peers, o)
        rows = run_rounds([*peers.values(), *(Einthoven(p, o) for p in OURS)], o)
    finally:
        for peer in peers.values():
            peer.close()
    quotients = ratios(rows)
    print_table(rows, quotients)
    if o.json:
        with open(o.json, 'w') as f:
            json.dump(dict(batch=o.batch, threads=o.threads, batch_norm=bool(o.bn), rounds=o.rounds, rows=rows,
                           ratios=quotients), f, indent=2)


if __name__ == '__main__':
    main()
