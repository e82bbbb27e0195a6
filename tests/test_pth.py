#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""PyTorch's files in ours, ours in PyTorch: `convert`, `predict` and `inspect` from outside, bit for bit."""
import io
import json
import os
import pickle
import subprocess
import sys
import tempfile
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
BINARY = os.environ.get('EINTHOVEN_BINARY') or os.path.join(ROOT, 'build', 'einthoven')
try:
    import numpy as np
    import torch
except ImportError as e:
    print('test_pth: skipped (%s)' % e)
    print('0 passed, 0 failed, 1 skipped')
    sys.exit(0)

sys.path[:0] = [os.path.join(HERE, 'fixtures'), os.path.join(HERE, 'support')]
import make_net1d  # noqa: E402
import tensors as st  # noqa: E402
import torch2  # noqa: E402

passed = failed = 0
tmp = ''


def check(name, ok, note=''):
    global passed, failed
    passed += bool(ok)
    failed += not ok
    print('%s %s%s' % ('ok     ' if ok else 'FAILED ', name, ': ' + note if note else ''))


def at(name):
    return os.path.join(tmp, name)


def run(*words):
    return subprocess.run([BINARY] + [str(w) for w in words], capture_output=True, text=True)


def network(leads=12, classes=5):
    torch.manual_seed(11)
    return make_net1d.Net1D(dict(in_channels=leads, base_filters=16, filter_list=[16, 32], m_blocks_list=[1, 2],
                                 kernel_size=16, stride=2, group_width=16, bn=False, n_classes=classes, len=500))


def checkpoint(net):
    """As the official notebook saves: an Adam that has made a step, a scheduler, a NumPy scalar."""
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(adam, mode='max')
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    adam.step()
    plateau.step(0.5)
    return {'epoch': 3, 'step': 12345, 'state_dict': net.state_dict(), 'optimizer': adam.state_dict(),
            'scheduler': plateau.state_dict(), 'val_auroc': np.float64(0.97), 'loss': np.float32(0.1)}


def same(a, b):
    return list(a) and set(a) == set(b) and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and
        a[k].contiguous().numpy().tobytes() == b[k].contiguous().numpy().tobytes() for k in a)


def bits(t):
    """bfloat16, which NumPy does not know, as its bits."""
    return t.contiguous().view(torch.int16) if t.dtype == torch.bfloat16 else t


def converted(name, saved, ending='.pth'):
    """What our copy of a saved object holds; None when the program failed."""
    torch.save(saved, at(name + '-in.pth'))
    done = run('convert', at(name + '-in.pth'), at(name + ending))
    if done.returncode:
        print(done.stderr)
        return None
    return at(name + ending)


def test_state_dicts():
    net = network()
    want = net.state_dict()
    for name, saved in (('bare', want), ('checkpoint', checkpoint(net)),
                        ('parallel', {'module.' + k: v for k, v in want.items()}),
                        ('compiled', {'state_dict': {'module._orig_mod.' + k: v for k, v in want.items()}}),
                        ('parameters', {'state_dict': dict(net.named_parameters(), **dict(net.named_buffers()))})):
        out = converted(name, saved)
        for only in (False, True):
            back = out and torch.load(out, weights_only=only)['state_dict']
            check('%s, weights_only=%s' % (name, only), back and same(want, back))
        if out:
            other = network()
            for p in other.parameters():
                p.data.zero_()
            other.load_state_dict(torch.load(out)['state_dict'], strict=True)
            check(name + ' loads strictly', same(want, other.state_dict()))
        out = converted(name, saved, '.safetensors')
        back = out and {k: torch.from_numpy(np.array(v)) for k, v in st.load(out).items()}
        check(name + ' as safetensors', back and same(want, back))
        again = run('convert', at(name + '.safetensors'), at(name + '-again.pth'))
        with open(at(name + '.pth'), 'rb') as a, open(at(name + '-again.pth'), 'rb') as b:
            check(name + ' there and back', again.returncode == 0 and a.read() == b.read())


def test_storages():
    base = torch.arange(60, dtype=torch.float32).reshape(3, 4, 5)
    long = torch.arange(7)
    views = {'base': base, 'transposed': base.transpose(0, 2), 'slice': base[1:, ::2, 3], 'scalar': base[1, 2, 3],
             'one': base[:, 1:2], 'last': long[3:], 'empty': base[:0], 'expanded': base[0, 0, :3].expand(4, 3),
             'bool': torch.tensor([True, False]), 'half': torch.tensor([1.5, -6e-8], dtype=torch.float16),
             'brain': torch.tensor([[1.5, 3e38]], dtype=torch.bfloat16).t(), 'double': torch.tensor([1e300, -0.0]).double(),
             'byte': torch.arange(3, dtype=torch.uint8), 'int': torch.arange(3, dtype=torch.int32)[1:]}
    out = converted('views', views)
    back = out and torch.load(out, weights_only=True)['state_dict']
    want = {k: bits(v) for k, v in views.items()}
    check('shared and strided storages, all dtypes', back and same(want, {k: bits(v) for k, v in back.items()}))
    check('each view has a storage of its own', back and all(
        v.storage().size() == v.numel() for v in back.values()))
    check('no Net1D is said to be none', 'no Net1D' in run('convert', at('views.pth'), at('v.pth')).stderr)


def test_metadata():
    text = 'AF\nLBBB "left"\n\u00e9'
    want = {k: v.numpy() for k, v in network().state_dict().items()}
    st.save(at('m.safetensors'), want, {'format': 'pt', 'einthoven.labels': 'a\nb\nc\nd\n\u00e9', 'note': text})
    run('convert', at('m.safetensors'), at('m.pth'))
    check('metadata in a .pth', torch.load(at('m.pth'), weights_only=True)['einthoven'].get('note') == text)
    run('convert', at('m.pth'), at('m2.safetensors'))
    with open(at('m.safetensors'), 'rb') as a, open(at('m2.safetensors'), 'rb') as b:
        check('metadata there and back', json.loads(a.read()[8:].split(b'}}')[0] + b'}}')['__metadata__'] ==
              json.loads(b.read()[8:].split(b'}}')[0] + b'}}')['__metadata__'])


def test_completion():
    """A file of the live tensors alone becomes one that the official class loads strictly."""
    net = network()
    want = {k: v for k, v in net.state_dict().items() if '.bn' not in k and 'first_bn' not in k}
    fresh = network().state_dict()  # BN at its defaults
    st.save(at('live.safetensors'), {k: v.numpy() for k, v in want.items()}, {'format': 'pt'})
    done = run('convert', at('live.safetensors'), at('live.pth'))
    back = torch.load(at('live.pth'), weights_only=True)['state_dict']
    check('the BN tensors that are missing', same(back, dict(fresh, **want)) and len(want) == 34 and len(back) == 84 and
          '50 of them are BN tensors' in done.stderr, done.stderr.strip()[-300:])
    network().load_state_dict(back, strict=True)
    run('convert', at('live.pth'), at('live2.safetensors'))
    check('and then none is', st.load(at('live2.safetensors')).keys() == back.keys())
    want['mine'] = torch.ones(2)
    torch.save(want, at('mine.pth'))
    run('convert', at('mine.pth'), at('mine2.pth'))
    back = torch.load(at('mine2.pth'), weights_only=True)['state_dict']
    check('a tensor of the user stays', len(back) == 85 and torch.equal(back['mine'], want['mine']))


def test_shapes():
    """What is no Net1D is said with the tensor, its shape and the one that is wanted."""
    good = network().state_dict()
    for name, value, text in (
            ('first_conv.conv.weight', torch.zeros(16, 12), 'first_conv.conv.weight is [16, 12], not [filters, channels, kernel]'),
            ('first_conv.conv.weight', torch.zeros(16, 0, 16), 'first_conv.conv.weight is [16, 0, 16], not [filters, '),
            ('dense.weight', torch.zeros(()), 'dense.weight is [], not [outputs, features]'),
            ('stage_list.0.block_list.0.conv2.conv.weight', torch.zeros(1, 2, 3, 4),
             'stage_list.0.block_list.0.conv2.conv.weight is [1, 2, 3, 4], not [filters, channels, kernel]'),
            ('dense.weight', None, 'it holds no tensor dense.weight')):
        bad = {k: v for k, v in dict(good, **{name: value}).items() if v is not None}
        torch.save(bad, at('shape.pth'))
        done = run('embed', '--data', at('.'), '--weights', at('shape.pth'), '--out', at('shape.h5'))
        check('no Net1D: ' + text, done.returncode == 65 and 'shape.pth: no Net1D: ' in done.stderr and text in done.stderr,
              done.stderr.strip()[-200:])


def test_without_checksums():
    if not hasattr(torch.serialization, 'set_crc32_options'):
        return
    want = network().state_dict()
    torch.serialization.set_crc32_options(False)
    torch.save(want, at('bare.pth'))
    torch.serialization.set_crc32_options(True)
    done = run('convert', at('bare.pth'), at('bare-out.pth'))
    check('a file without checksums', done.returncode == 0 and 'saved without checksums' in done.stderr and
          same(want, torch.load(at('bare-out.pth'), weights_only=True)['state_dict']), done.stderr.strip()[-300:])


def test_library():
    """The safetensors package and our files; a file of its own with all that it can hold."""
    try:
        import safetensors.torch as library
    except ImportError:
        return
    want = network().state_dict()
    torch.save(want, at('lib.pth'))
    run('convert', at('lib.pth'), at('lib.safetensors'))
    check('the safetensors package reads ours', same(want, library.load_file(at('lib.safetensors'))))
    want = {k: v.to(d) for k, v, d in (('a', torch.arange(6.).reshape(2, 3), torch.bfloat16), ('b', torch.ones(3), torch.half),
                                       ('c', torch.ones(0, 4), torch.double), ('d\u00e9"', torch.tensor(7), torch.int64))}
    library.save_file(want, at('lib2.safetensors'))
    run('convert', at('lib2.safetensors'), at('lib2.pth'))
    back = torch.load(at('lib2.pth'), weights_only=True)['state_dict'] if os.path.exists(at('lib2.pth')) else {}
    check('and we read its files', same({k: bits(v) for k, v in want.items()}, {k: bits(v) for k, v in back.items()}))


def test_zip64():
    """The same members, with every size and place in ZIP64 fields."""
    out = converted('small', checkpoint(network()))
    limit, count = zipfile.ZIP64_LIMIT, zipfile.ZIP_FILECOUNT_LIMIT
    zipfile.ZIP64_LIMIT, zipfile.ZIP_FILECOUNT_LIMIT = 1, 1
    try:
        with zipfile.ZipFile(at('small-in.pth')) as a, zipfile.ZipFile(at('large.pth'), 'w') as b:
            for name in a.namelist():
                b.writestr(name, a.read(name))
    finally:
        zipfile.ZIP64_LIMIT, zipfile.ZIP_FILECOUNT_LIMIT = limit, count
    done = run('convert', at('large.pth'), at('large-out.pth'))
    with open(out, 'rb') as a, open(at('large-out.pth'), 'rb') as b:
        check('ZIP64', done.returncode == 0 and a.read() == b.read(), done.stderr.strip()[:200])
    with zipfile.ZipFile(at('small-in.pth')) as a, zipfile.ZipFile(at('packed.pth'), 'w', zipfile.ZIP_DEFLATED) as b:
        for name in a.namelist():
            b.writestr(name, a.read(name))
    refused('compressed', at('packed.pth'), 'it is compressed')
    check('our archive is one', zipfile.ZipFile(out).testzip() is None)


def refused(name, path, text):
    done = run('convert', path, at('never.safetensors'))
    check(name + ' is refused', done.returncode == 65 and text in done.stderr and os.path.basename(path) in done.stderr and
          not os.path.exists(at('never.safetensors')), done.stderr.strip()[:250])


class Command:
    def __reduce__(self):
        return os.system, ('touch ' + at('it-ran'),)


def test_refusals():
    net = network()
    torch.save({'state_dict': net.state_dict(), 'extra': Command()}, at('hostile.pth'))
    refused('a command', at('hostile.pth'), 'system"')
    check('and it did not run', not os.path.exists(at('it-ran')))
    torch.load(at('hostile.pth'), weights_only=False)
    check('though it would have', os.path.exists(at('it-ran')))
    torch.save(net, at('whole.pth'))
    refused('a whole model', at('whole.pth'), 'state_dict()')
    torch.save(net.state_dict(), at('legacy.pth'), _use_new_zipfile_serialization=False)
    refused('the old format', at('legacy.pth'), 'before 1.6')
    with open(at('plain.pth'), 'wb') as f:
        pickle.dump({'a': 1}, f, protocol=2)
    refused('a plain pickle', at('plain.pth'), 'did not write')
    saved = io.BytesIO()
    torch.save(net.state_dict(), saved)
    with open(at('cut.pth'), 'wb') as f:
        f.write(saved.getvalue()[:-1000])
    refused('a cut file', at('cut.pth'), 'truncated')
    damaged = bytearray(saved.getvalue())
    damaged[len(damaged) // 2] ^= 1
    with open(at('damaged.pth'), 'wb') as f:
        f.write(damaged)
    refused('a damaged file', at('damaged.pth'), 'CRC-32')
    check('another ending is a wrong usage', run('convert', at('hostile.pth'), at('x.bin')).returncode == 2)


def test_network():
    """A file without a config or metadata is enough to predict, and says what does not fit."""
    net = network(classes=3)
    torch.save(checkpoint(net), at('net.pth'))
    net.eval()
    run('synth', '--out', at('data'), '--records', 4, '--seed', 1)
    done = run('inspect', '--json', at('net.pth'))
    shape = json.loads(done.stdout).get('net1d', {}) if done.returncode == 0 else {}
    check('the shape comes from the tensors',
          (shape.get('leads'), shape.get('outputs'), shape.get('base_filters')) == (12, 3, 16), str(shape))
    run('convert', at('net.pth'), at('net.safetensors'))
    files = [at('net.pth'), at('net.safetensors')]
    for i, path in enumerate(files):
        done = run('embed', '--data', at('data'), '--weights', path, '--out', at('e%d.csv' % i).replace('csv', 'h5'))
        check('embed by ' + os.path.basename(path), done.returncode == 0, done.stderr.strip()[-200:])
    with open(at('e0.h5'), 'rb') as a, open(at('e1.h5'), 'rb') as b:
        check('both give the same bytes', a.read() == b.read())
    for dtype in torch.float16, torch.bfloat16, torch.float64:
        torch.save({k: v.to(dtype) if v.is_floating_point() else v for k, v in net.state_dict().items()}, at('other.pth'))
        done = run('embed', '--data', at('data'), '--weights', at('other.pth'), '--out', at('other.h5'))
        with open(at('e0.h5'), 'rb') as a, open(at('other.h5'), 'rb') as b:
            equal = a.read() == b.read()
        check('weights as %s' % dtype, done.returncode == 0 and equal == (dtype == torch.float64), done.stderr.strip()[-200:])
    wrong = net.state_dict()
    names = at('names.txt')
    with open(names, 'w') as f:
        f.write('sinus rhythm\nAF\nLBBB\n')
    done = run('convert', at('net.pth'), at('named.pth'), '--label-names', names)
    check('names of the outputs', done.returncode == 0 and torch.load(at('named.pth'), weights_only=True)['einthoven'] ==
          {'format': 'pt', 'einthoven.labels': 'sinus rhythm\nAF\nLBBB'}, done.stderr.strip()[:200])
    run('predict', '--data', at('data'), '--weights', at('named.pth'), '--out', at('p.csv'))
    with open(at('p.csv')) as f:
        check('stand above the predictions', f.readline().strip() == 'record_id,sinus rhythm,AF,LBBB')
    with open(names, 'a') as f:
        f.write('PAC\n')
    done = run('convert', at('net.pth'), at('named.pth'), '--label-names', names)
    check('one name too many', done.returncode == 65 and '4 names' in done.stderr and '3 outputs' in done.stderr)
    name = 'stage_list.1.block_list.0.se_fc1.weight'
    wrong[name] = torch.zeros(3, 4)
    torch.save(wrong, at('wrong.pth'))
    done = run('embed', '--data', at('data'), '--weights', at('wrong.pth'), '--out', at('w.h5'))
    check('a shape that does not fit', done.returncode == 65 and name + ' is [3, 4], not [16, 32]' in done.stderr,
          done.stderr.strip()[:300])


def test_everywhere():
    """Where a command takes weights, a .pth and its safetensors copy do the same."""
    net = network()
    torch.save(net.state_dict(), at('w.pth'))
    run('convert', at('w.pth'), at('w.safetensors'))
    run('synth', '--out', at('ecgs'), '--records', 24, '--seed', 2, '--rate', 50)
    with open(at('c.yaml'), 'w') as f:
        f.write('model: {base_filters: 16, filters: [16, 32], blocks: [1, 2]}\n'
                'data: {train: "%s", valid: null}\n'
                'train: {steps: 2, batch_size: 8}\n' % at('ecgs'))
    with open(at('names.txt'), 'w') as f:
        f.write('\n'.join(json.loads(run('inspect', '--json', at('ecgs')).stdout)['labels']))
    results = []
    for kind in 'pth', 'safetensors':
        weights = at('w.' + kind)
        for name, words in (
                ('finetune', ('finetune', at('c.yaml'), '--weights', weights, '--set', 'head.targets=[age]')),
                ('plan', ('plan', at('c.yaml'), '--weights', weights, '--set', 'head.targets=[age]', '--json'))):
            out = at('%s-%s' % (name, kind))
            done = run(*words, *(('--out', out) if name == 'finetune' else ()))
            check('%s by .%s' % (name, kind), done.returncode == 0, done.stderr.strip()[-200:] if done.returncode else '')
        last = at('finetune-%s/checkpoints/last/model.safetensors' % kind)
        results.append(open(last, 'rb').read() if os.path.exists(last) else kind)
    check('fine-tuning gives the same bytes', results[0] == results[1])
    K = len(open(at('names.txt')).read().split('\n'))
    torch.save(network(classes=K).state_dict(), at('k.pth'))
    run('convert', at('k.pth'), at('k-named.pth'), '--label-names', at('names.txt'))
    done = run('evaluate', '--weights', at('k-named.pth'), '--data', at('ecgs'), '--out', at('eval'))
    check('evaluate', done.returncode == 0 and os.path.exists(at('eval/metrics.json')), done.stderr.strip()[-200:])
    done = run('pretrain', at('c.yaml'), '--set', 'init.weights=' + at('k-named.pth'), '--out', at('init'))
    check('init.weights', done.returncode == 0, done.stderr.strip()[-200:])


def main():
    global tmp
    with tempfile.TemporaryDirectory() as tmp:
        print('PyTorch ' + torch.__version__)
        for test in (test_state_dicts, test_storages, test_metadata, test_completion, test_shapes, test_without_checksums,
                     test_library, test_zip64, test_refusals, test_network, test_everywhere):
            test()
    return torch2.finish(passed, failed, __file__)


if __name__ == '__main__':
    sys.exit(main())
