#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes README's tables of speed, between its two marker comments, from `einthoven bench --json`.

    scripts/bench_readme.py [--bench FILE] [--torch FILE]... [--force]

Without --bench it runs build/einthoven bench --ops --train --loader --json, a minute or two on a quiet machine. --torch takes
what scripts/bench_torch.py --json wrote. A machine that was busy while the peaks were measured is refused without --force.
"""
import argparse
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BEGIN, END = '<!-- bench: begin -->', '<!-- bench: end -->'


def number(value, digits=0):
    return '–' if value is None else '{:,.{}f}'.format(value, digits)


def share(rate, unit, digits=0):
    """"196 (84 %)" of a rate as the bench tells it."""
    if rate is None:
        return '–'
    percent = rate.get('percent_of_peak', rate.get('percent_of_roofline'))
    return '%s (%s %%)' % (number(rate[unit], digits), number(percent))


def table(head, rows):
    lines = [head, ['---'] + ['---:'] * (len(head) - 1)] + rows
    return ['| %s |' % ' | '.join(line) for line in lines] + ['']


def train_rows(bench):
    for r in bench['train']:
        t, i = r['training'], r['inference']
        speed_up = [number(p.get('speed_up'), 2) for p in (t, i)]
        yield ['%s, %s%s, batch %d' % (r['model'], r['precision'], ', BN' if r['batch_norm'] else '', r['batch']),
               share(t, 'ecg_per_s', 1), share(i, 'ecg_per_s', 1), number(r['training_peak_rss_mib']),
               '–' if 'speed_up' not in t else ' / '.join(speed_up)]


def conv_rows(ops):
    for precision in ('fp32', 'bf16'):
        mean = ops.get(precision, {}).get('convolutions', {}).get('mean')
        for kind in mean or ():
            passes = ('forward', 'data_gradient', 'weight_gradient', 'all')
            yield ['%s, %s' % (kind, precision)] + [share(mean[kind][p], 'gflops') for p in passes]


def torch_rows(files):
    for f in files:
        for r in f['ratios']:
            keys = ('training_ecg_per_s', 'inference_ecg_per_s', 'training_peak_rss_mib')
            yield ['%s%s, batch %d' % (r['name'], ', BN' if f['batch_norm'] else '', f['batch'])] + [number(r[k], 2) for k in keys]


def render(bench, torch):
    peaks, ops = bench['peaks'], bench['ops']
    bf16 = '' if peaks['bf16_gflops'] is None else '%s GFLOP/s bf16, ' % number(peaks['bf16_gflops'])
    out = ['%s, %d threads, level %s; peaks measured by the same command: %s GFLOP/s fp32, %s%s GB/s memory. Shares are of '
           'the roofline (peak / FLOP of a record) and of the peak.' % (
               bench['processor'] or 'This processor', bench['threads'], bench['level'], number(peaks['fp32_gflops']), bf16,
               number(peaks['memory_gb_s'])), '']
    out += table(['whole steps', 'training, ECG/s', 'inference, ECG/s', 'training, peak MiB', 'threads gain'],
                 list(train_rows(bench)))
    out += table(['convolutions of %s, batch %d, GFLOP/s' % (ops['model'], ops['batch']), 'forward', 'data gradient',
                  'weight gradient', 'all'], list(conv_rows(ops)))
    if 'loader' in bench:
        best = max(bench['loader']['rates'], key=lambda r: r['records_per_s'])
        out += ['The loader hands on %s records a second (%s GB/s, warm files, %d worker%s).' % (
            number(best['records_per_s']), number(best['gb_s'], 1), best['workers'], 's' * (best['workers'] > 1)), '']
    if torch:
        out += table(['beside PyTorch (`scripts/bench_torch.py`), ratio of medians', 'training', 'inference', 'peak memory'],
                     list(torch_rows(torch)))
    return '\n'.join(out).rstrip() + '\n'


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--bench', metavar='FILE', help='JSON of einthoven bench --ops --train --json')
    p.add_argument('--torch', metavar='FILE', action='append', default=[], help='JSON of scripts/bench_torch.py')
    p.add_argument('--force', action='store_true', help='also from a busy machine')
    p.add_argument('--readme', default=os.path.join(ROOT, 'README.md'), help=argparse.SUPPRESS)
    o = p.parse_args()
    if o.bench:
        with open(o.bench) as f:
            bench = json.load(f)
    else:
        words = [os.path.join(ROOT, 'build', 'einthoven'), '-q', 'bench', '--ops', '--train', '--loader', '--json']
        bench = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout)
    torch = []
    for path in o.torch:
        with open(path) as f:
            torch.append(json.load(f))
    busy = bench['peaks']['processor_share']
    if not o.force and busy is not None and busy < 0.9:
        raise SystemExit('bench_readme: the threads got %.0f %% of the processor: the machine was busy; README is unchanged '
                         '(--force writes it all the same)' % (100 * busy))
    with open(o.readme) as f:
        text = f.read()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise SystemExit('bench_readme: %s must hold %s and then %s, once each' % (o.readme, BEGIN, END))
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    with open(o.readme, 'w') as f:
        f.write(before + BEGIN + '\n' + render(bench, torch) + END + after)


if __name__ == '__main__':
    sys.exit(main())
