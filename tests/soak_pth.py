#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""PyTorch's files in their real size: a checkpoint of the published network as the official notebook saves it, and a file of
more than 4 GiB (ZIP64)."""
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
BINARY = os.environ.get('EINTHOVEN_BINARY') or os.path.join(ROOT, 'build', 'einthoven')
try:
    import numpy as np
    import torch
except ImportError as e:
    print('soak_pth: skipped (%s)' % e)
    print('0 passed, 0 failed, 1 skipped')
    sys.exit(0)

sys.path[:0] = [os.path.join(HERE, 'fixtures'), os.path.join(HERE, 'support')]
import make_net1d  # noqa: E402
import tensors as st  # noqa: E402
import torch2  # noqa: E402

SHAPE = dict(in_channels=12, base_filters=64, filter_list=[64, 160, 160, 400, 400, 1024, 1024],
             m_blocks_list=[2, 2, 2, 3, 3, 4, 4], kernel_size=16, stride=2, group_width=16, bn=False, n_classes=150, len=5000)
GIB = 1 << 30
passed = failed = 0


def check(name, ok, note=''):
    global passed, failed
    passed += bool(ok)
    failed += not ok
    print('%s %s%s' % ('ok     ' if ok else 'FAILED ', name, ': ' + note if note else ''))


def convert(a, b):
    done = subprocess.run([BINARY, 'convert', a, b], capture_output=True, text=True)
    return done.returncode == 0, done.stderr.strip()[-300:]


def same(a, b):
    return set(a) == set(b) and all(a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and
                                    a[k].numpy().tobytes() == b[k].numpy().tobytes() for k in a)


def test_published(tmp):
    torch.manual_seed(1)
    net = make_net1d.Net1D(SHAPE)
    adam = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=1e-5)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(adam, mode='max', factor=0.1, patience=10)
    for n, p in net.named_parameters():
        p.grad = None if 'bn' in n else torch.ones_like(p)
    adam.step()
    plateau.step(0.5)
    a, b, c = (os.path.join(tmp, n) for n in ('official.pth', 'ours.safetensors', 'ours.pth'))
    torch.save({'epoch': 3, 'step': 10000, 'state_dict': net.state_dict(), 'optimizer': adam.state_dict(),
                'scheduler': plateau.state_dict(), 'val_auroc': np.mean([0.92, 0.93])}, a)
    want, size = net.state_dict(), os.path.getsize(a)
    check('a checkpoint of 509 tensors, an Adam, a scheduler', *convert(a, b))
    back = {k: torch.from_numpy(np.array(v)) for k, v in st.load(b).items()}
    check('bit for bit', len(want) == 509 and same(want, back), '%d tensors, a file of %d MB' % (len(back), size // 1000000))
    try:
        from safetensors.torch import load_file
        check('the safetensors package reads ours', same(want, load_file(b)))
    except ImportError:
        pass
    check('and to a .pth', *convert(b, c))
    back = torch.load(c, weights_only=True)['state_dict']
    other = make_net1d.Net1D(SHAPE)
    other.load_state_dict(back, strict=True)
    check('which loads by weights_only=True, strict=True', same(want, other.state_dict()))
    live = {k: v.numpy() for k, v in want.items() if 'bn' not in k}
    st.save(b, live, {'format': 'pt'})
    convert(b, c)
    back = torch.load(c, weights_only=True)['state_dict']
    check('204 live tensors become 509', len(live) == 204 and same(dict(make_net1d.Net1D(SHAPE).state_dict(), **{
        k: want[k] for k in live}), back))


def memory():
    return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')


def test_large(tmp):
    if shutil.disk_usage(tmp).free < 12 * GIB or memory() < 16 * GIB:
        return 'a file of more than 4 GiB: needs 12 GiB of disk, 16 GiB of memory'
    n = 2 * GIB // 4 + 5
    want = {'a': torch.arange(n, dtype=torch.int32), 'b': torch.zeros(n), 'c': torch.arange(7.), 'd': torch.tensor(5)}
    want['b'][::1000] = 1.5
    a, b, c = (os.path.join(tmp, x) for x in ('large.pth', 'ours.safetensors', 'ours.pth'))
    torch.save(want, a)
    check('more than 4 GiB of torch.save', os.path.getsize(a) > 4 * GIB and convert(a, b)[0])
    os.remove(a)
    check('and back', convert(b, c)[0] and os.path.getsize(c) > 4 * GIB)
    os.remove(b)
    back = torch.load(c, weights_only=True)['state_dict']
    check('bit for bit', set(back) == set(want) and all(torch.equal(back[k], want[k]) for k in want))
    return None


def main():
    print('PyTorch ' + torch.__version__)
    with tempfile.TemporaryDirectory() as tmp:
        test_published(tmp)
    with tempfile.TemporaryDirectory() as tmp:
        why = test_large(tmp)
    if why:
        print('skipped ' + why)
    return torch2.finish(passed, failed, __file__, bool(why))


if __name__ == '__main__':
    sys.exit(main())
