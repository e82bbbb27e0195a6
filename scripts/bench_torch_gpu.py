#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""einthoven beside PyTorch on this machine's GPU: the published Net1D, the same batch, training steps and inference.

    scripts/bench_torch_gpu.py [--batch 256] [--bn 0|1] [--steps 10] [--json FILE] [--markdown]

Training step = forward, BCE with logits, backward, Adam (fused); inference = eval mode without gradients. PyTorch runs as
    fp32      as the official code, TF32 off
    bf16      F.silu, copies only where there is something to pad, autocast to bfloat16
    last      bf16 with every convolution as a 2-d one of height 1 in channels-last memory
    compiled  bf16 through torch.compile (its compilation is not timed)
one after the other in this process; each figure is the median of `steps` after three steps to warm up, the GPU waited for.
einthoven is timed by `einthoven bench --device cuda`, before PyTorch takes memory; auto is kernels.conv: auto, with NVIDIA's
libraries where they are faster. A variant that fails is named and left out. --markdown prints the table once more for a README. GiB are of training: what PyTorch has
allocated at most, and what einthoven has added to the GPU's memory in use. The network is tests/fixtures/make_net1d.py's;
needs torch and numpy.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import bench_torch

sys.path.insert(0, os.path.join(bench_torch.ROOT, 'tests', 'fixtures'))
WARM_UP = 3


def lifted(torch, make_net1d):
    """SameConv as a 2-d convolution of height 1 on channels-last memory."""
    class Lifted(make_net1d.SameConv):
        def __init__(self, cin, cout, k, stride=1, groups=1):
            torch.nn.Module.__init__(self)
            self.conv = torch.nn.Conv2d(cin, cout, (1, k), (1, stride), groups=groups).to(memory_format=torch.channels_last)

        def forward(self, x):
            k, s, n = self.conv.kernel_size[1], self.conv.stride[1], x.shape[-1]
            zeros = max(0, (-(-n // s) - 1) * s + k - n)
            if zeros:
                x = torch.nn.functional.pad(x, (zeros // 2, zeros - zeros // 2))
            return self.conv(x.unsqueeze(2).contiguous(memory_format=torch.channels_last)).squeeze(2)
    return Lifted


def build(torch, make_net1d, variant, bn):
    official = variant == 'fp32'
    make_net1d.swish = (lambda x: x * torch.sigmoid(x)) if official else torch.nn.functional.silu
    make_net1d.SameConv.always_pad = official
    plain = make_net1d.SameConv
    if variant == 'last':
        make_net1d.SameConv = lifted(torch, make_net1d)
    torch.manual_seed(1)
    net = make_net1d.Net1D(dict(bench_torch.CONFIG, bn=bn)).cuda()
    make_net1d.SameConv = plain
    return torch.compile(net) if variant == 'compiled' else net


def timed(torch, run, n):
    seconds = []
    for i in range(WARM_UP + n):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[WARM_UP:])


def measure(torch, make_net1d, variant, o):
    """ECG/s of training and of inference, and the peak of allocated memory in GiB."""
    net = build(torch, make_net1d, variant, o.bn)
    adam = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    v = torch.from_numpy(bench_torch.samples(o.batch)).cuda().float() * bench_torch.SCALE
    x = (v - v.mean((1, 2), keepdim=True)) / (v.std((1, 2), keepdim=True, unbiased=False) + 1e-8)
    y = torch.zeros(o.batch, bench_torch.CONFIG['n_classes'], device='cuda')

    def forward():
        with torch.autocast('cuda', torch.bfloat16, enabled=variant != 'fp32'):
            return net(x)[0].float()

    def train():
        adam.zero_grad(set_to_none=True)
        torch.nn.functional.binary_cross_entropy_with_logits(forward(), y).backward()
        adam.step()

    def infer():
        with torch.no_grad():
            forward()
    torch.cuda.reset_peak_memory_stats()
    net.train()
    training = o.batch / timed(torch, train, o.steps)
    memory = torch.cuda.max_memory_allocated() / 2**30
    net.eval()
    return {'training': training, 'inference': o.batch / timed(torch, infer, o.steps), 'memory_gib': memory}


def ours(precision, conv, o):
    words = [bench_torch.BINARY, '-q', 'bench', '--device', 'cuda', '--train', '--model', 'published', '--precision', precision,
             '--batch', str(o.batch), '--runs', str(o.steps), '--json'] + ['--batch-norm'] * o.bn
    env = dict(os.environ, EINTHOVEN_CUDA_CONV=conv)
    r = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, env=env).stdout)['train'][0]
    return {'training': r['training']['ecg_per_s'], 'inference': r['inference']['ecg_per_s'],
            'memory_gib': r['training_gpu_mib'] / 1024}


def variants(torch, make_net1d, o):
    for precision, conv in (('fp32', 'custom'), ('bf16', 'custom'), ('bf16', 'auto')):
        yield 'einthoven %s, %s' % (precision, conv), lambda p=precision, c=conv: ours(p, c, o)
    for v in ('fp32', 'bf16', 'last', 'compiled'):
        yield 'torch %s' % v, lambda v=v: measure(torch, make_net1d, v, o)


def table(results):
    """Markdown; the last column is training over that of the fastest PyTorch."""
    best = max(r['training'] for name, r in results.items() if name.startswith('torch'))
    yield '| | training, ECG/s | inference, ECG/s | training, GiB | training / fastest PyTorch |'
    yield '| --- | ---: | ---: | ---: | ---: |'
    for name, r in results.items():
        yield '| %s | %s | %s | %.1f | %.2f |' % (name, '{:,.0f}'.format(r['training']), '{:,.0f}'.format(r['inference']),
                                               r['memory_gib'], r['training'] / best)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--batch', type=int, default=256)
    p.add_argument('--bn', type=int, choices=(0, 1), default=1)
    p.add_argument('--steps', type=int, default=10)
    p.add_argument('--json', metavar='FILE')
    p.add_argument('--markdown', action='store_true')
    o = p.parse_args()
    import torch
    import make_net1d
    if not torch.cuda.is_available():
        raise SystemExit('bench_torch_gpu: PyTorch finds no GPU')
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    results = {}
    title = '%s, torch %s, batch %d, BN %s' % (torch.cuda.get_device_name(), torch.__version__, o.batch, 'on' if o.bn else 'off')
    print(title)
    for name, run in variants(torch, make_net1d, o):
        try:
            results[name] = r = run()
        except Exception as e:  # of whatever kind: it is told, and the others go on
            print('  %-22s %s' % (name, str(e).strip().split('\n')[0]), flush=True)
            continue
        print('  %-22s training %9.1f ECG/s   inference %9.1f ECG/s %7.1f GiB' % (
            name, r['training'], r['inference'], r['memory_gib']), flush=True)
        torch.cuda.empty_cache()
    if o.markdown:
        print('\n'.join([title, ''] + list(table(results))))
    if o.json:
        with open(o.json, 'w') as f:
            json.dump({'title': title, 'batch': o.batch, 'batch_norm': bool(o.bn), 'results': results}, f, indent=1)


if __name__ == '__main__':
    main()
