#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What nvcc made of each kernel of the CUDA backend.

    scripts/cuda_report.py FILE...     ptxas's logs (.log, by -Xptxas -v) and PTX (.ptx), one of each a source

One row a kernel: threads of a block, blocks an SM that its __launch_bounds__ ask for, shared memory (static bytes; "+" where
the launch adds dynamic memory, which is not known here), and for each architecture registers a thread and the share of an
SM's warps that threads, registers and static shared memory leave room for: an upper bound where there is a "+". Kernels that keep
arrays in local memory are named below.

Exit 1 when a kernel spills, when one that should use the tensor cores has no mma.sync, or when logs and PTX don't hold
the same kernels.
"""
import re
import subprocess
import sys

# Of the gemm_* and gconv_* kernels those that only pack or add up.
NO_PRODUCTS = re.compile(r'_(pack|stats|means|splits|sample_mean|sum_weights)_kernel')
# An SM: warps, blocks, kilobytes of shared memory (CUDA programming guide, "Technical specifications"); registers are handed
# out to warps in units of 256, from four files of 16384; each block takes 1 KB of shared memory beside its own.
SM = {'sm_80': (64, 32, 164), 'sm_86': (48, 16, 100), 'sm_89': (48, 24, 100), 'sm_90': (64, 32, 228), 'sm_100': (64, 32, 228)}


def read_logs(files):
    """{kernel: {architecture: (registers, static shared bytes)}}, the lines that spill, and those with local memory."""
    used, spills, local = {}, [], []
    for name in files:
        entry = arch = None
        with open(name, encoding='utf-8') as f:
            for line in f:
                if m := re.search(r"Compiling entry function '(\S+)' for '(\w+)'", line):
                    entry, arch = m.groups()
                elif (m := re.search(r'(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads', line)) and m.groups() != ('0', '0', '0'):
                    (local if m.groups()[1:] == ('0', '0') else spills).append('%s on %s: %s' % (entry, arch, line.strip()))
                elif m := re.search(r'Used (\d+) registers', line):
                    shared = re.search(r'(\d+) bytes smem', line)
                    used.setdefault(entry, {})[arch] = int(m[1]), int(shared[1]) if shared else 0
    return used, spills, local


def read_ptx(files):
    """{kernel: (threads, blocks asked for, has dynamic shared memory, number of mma.sync)}"""
    kernels = {}
    for name in files:
        with open(name, encoding='utf-8') as f:
            text = f.read()
        dynamic = re.findall(r'^\.extern \.shared .*?(\w+)\[\];', text, re.M)
        for m in re.finditer(r'\.entry (\w+)\(.*?\)(.*?)\{(.*?)^\}', text, re.M | re.S):
            entry, head, body = m.groups()
            threads = re.search(r'\.maxntid (\d+)(?:, (\d+), (\d+))?', head)
            blocks = re.search(r'\.minnctapersm (\d+)', head)
            n = 1
            for part in threads.groups() if threads else ():
                n *= int(part or 1)
            kernels[entry] = (n if threads else 0, int(blocks[1]) if blocks else 0,
                              any(re.search(r'\b%s\b' % d, body) for d in dynamic), body.count('mma.sync'))
    return kernels


def occupancy(arch, threads, registers, shared):
    """Share of an SM's warps, in percent; None where the architecture or the block is not known."""
    if arch not in SM or threads == 0:
        return None
    most_warps, most_blocks, kilobytes = SM[arch]
    warps = (threads + 31) // 32
    room = 4 * (16384 // ((registers * 32 + 255) // 256 * 256))
    blocks = min(most_blocks, most_warps // warps, room // warps, kilobytes * 1024 // (shared + 1024))
    return 100 * blocks * warps // most_warps


def demangled(names):
    out = subprocess.run(['c++filt', '-p'], input='\n'.join(names), text=True, check=True, capture_output=True).stdout
    return dict(zip(names, out.splitlines()))


def main(files):
    used, wrong, local = read_logs([f for f in files if f.endswith('.log')])
    ptx = read_ptx([f for f in files if f.endswith('.ptx')])
    if not used or set(used) != set(ptx):
        wrong.append('logs and PTX hold different kernels: %s' % (sorted(set(used) ^ set(ptx))[:5] or 'none at all'))
    archs = sorted({a for row in used.values() for a in row}, key=lambda a: int(a[3:]))
    label = demangled(sorted(used))
    print('%-70s %7s %6s %7s %3s' % ('kernel', 'threads', 'blocks', 'shared', 'mma') + ''.join('%14s' % a for a in archs))
    for entry in sorted(used, key=lambda e: label[e]):
        threads, blocks, dynamic, mma = ptx.get(entry, (0, 0, False, 0))
        shared = max(s for _, s in used[entry].values())
        cells = ''
        for a in archs:
            registers, static = used[entry].get(a, (None, 0))
            if registers is None:
                wrong.append('%s is missing on %s' % (label[entry], a))
                continue
            share = occupancy(a, threads, registers, static)
            cells += '%8d %5s' % (registers, '-' if share is None else '%d%%' % share)
        print('%-70.70s %7s %6s %6d%s %3d%s' % (label[entry], threads or '-', blocks or '-', shared, '+' if dynamic else ' ', mma, cells))
        if re.match(r'(gemm|gconv)_', label[entry]) and not NO_PRODUCTS.search(label[entry]) and mma == 0:
            wrong.append('%s has no mma.sync' % label[entry])
    for line in local:
        print('local memory: %s' % line)
    print('%d kernels, %d architectures, %d with mma.sync, %d lines with spills' % (
        len(used), len(archs), sum(k[3] > 0 for k in ptx.values()), sum('spill' in w for w in wrong)))
    for line in wrong:
        print('cuda_report: %s' % line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
