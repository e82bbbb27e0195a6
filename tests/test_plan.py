#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`einthoven plan` against the runs themselves: peak memory within 5 %, checkpoints to the byte, steps; and that weights
are in memory once when a record is predicted. soak_plan.py does the same with the published network."""
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BINARY = os.environ.get('EINTHOVEN_BINARY') or os.path.join(ROOT, 'build', 'einthoven')
MIB = 1 << 20
with open(BINARY, 'rb') as program:
    text = program.read()
    SANITIZED = b'__asan_init' in text or b'__tsan_init' in text
passed = failed = skipped = 0


def check(name, ok, note=''):
    global passed, failed
    passed += bool(ok)
    failed += not ok
    print('%s %s%s%s' % ('ok     ' if ok else 'FAILED ', name, ': ' if note else '', note))


def finish():
    print('%d passed, %d failed, %d skipped' % (passed, failed, skipped))
    return failed != 0


def run(*words, ok=True):
    """(peak of resident memory in bytes, exit code, standard error)"""
    process = subprocess.Popen([BINARY, '-q'] + [str(w) for w in words], stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True)
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    process.returncode = code
    if ok and code != 0:
        sys.exit('%s: exit %d: %s' % (' '.join(map(str, words)), code, error))
    return usage.ru_maxrss * 1024, code, error


def plan(*words):
    out = subprocess.run([BINARY, 'plan', *map(str, words), '--json'], capture_output=True, text=True, check=True).stdout
    return json.loads(out)


def sets(**pairs):
    """model__length=5 is --set model.length=5"""
    return [w for k, v in pairs.items() for w in ('--set', '%s=%s' % (k.replace('__', '.'), v))]


def compare(name, folder, words, same_size=True, weights=None):
    """Plans a run, runs it, and holds the peaks and the files against each other."""
    global skipped
    out = os.path.join(folder, name.replace(' ', '-'))
    start = ['--weights', weights] if weights else []
    p = plan(*words, *start, '--no-time')
    peak, _, _ = run('finetune' if weights else 'pretrain', *words, *start, '--out', out)
    wanted = p['memory']['peak_rss']
    if SANITIZED:
        skipped += 1
        print('skipped %s: a sanitizer has memory of its own' % name)
    else:
        check(name, abs(wanted / peak - 1) < 0.05,
              'planned %.1f MiB, was %.1f (%+.1f %%)' % (wanted / MIB, peak / MIB, 100 * (wanted / peak - 1)))
    last = os.path.join(out, 'checkpoints', 'last')
    size = sum(os.path.getsize(os.path.join(last, f + '.safetensors')) for f in ('model', 'state'))
    difference = p['disk']['checkpoint'] - size  # thresholds are chosen numbers, of some digits each
    check(name + ', its checkpoint', difference == 0 if same_size else abs(difference) < 2000, '%d bytes' % size)
    with open(os.path.join(out, 'metrics.jsonl'), encoding='utf-8') as f:
        steps = sum('"train"' in line for line in f)
    check(name + ', its steps', steps == p['steps']['total'], steps)
    return p


def write_record(path, leads, length):
    """A WFDB record in format 16: a sawtooth of each lead's own."""
    name = os.path.basename(path)
    value = [[(t * (c + 3)) % 401 - 200 for t in range(length)] for c in range(len(leads))]
    with open(path + '.hea', 'w', encoding='ascii') as f:
        print(name, len(leads), 100, length, file=f)
        for c, lead in enumerate(leads):
            total = (sum(value[c]) + 32768) % 65536 - 32768
            print('%s.dat 16 1000/mV 16 0 %d %d 0 %s' % (name, value[c][0], total, lead), file=f)
    with open(path + '.dat', 'wb') as f:
        for t in range(length):
            for c in range(len(leads)):
                f.write(value[c][t].to_bytes(2, 'little', signed=True))


def small_runs(tmp):
    data = os.path.join(tmp, 'ecgs')
    run('synth', '--out', data, '--records', 300, '--seed', 1, '--rate', 100)
    train = sets(data__train='{path: %s, part: [0, 0.7]}' % data, train__steps=3, train__batch_size=64)
    valid = sets(data__valid='{path: %s, part: [0.7, 1]}' % data)
    config = os.path.join(ROOT, 'configs', 'ptbxl_superclass.yaml')
    wide = sets(model__filters='[32, 64, 64, 512, 512]')
    plain = compare('plain', tmp, [config, *train, *sets(data__valid='null')])
    again = compare('recompute', tmp, [config, *train, *sets(data__valid='null', train__recompute='true')])
    check('recompute needs less', again['memory']['activations'] < 0.6 * plain['memory']['activations'])
    with open(os.path.join(tmp, 'plain/checkpoints/last/model.safetensors'), 'rb') as a, \
            open(os.path.join(tmp, 'recompute/checkpoints/last/model.safetensors'), 'rb') as b:
        check('recompute gives the same weights', a.read() == b.read())
    compare('all switches', tmp, [config, *train, *valid, *wide,
                                  *sets(model__batch_norm='true', model__dropout=0.1, model__drop_path=0.1,
                                        train__accumulate=2, train__save_every=1, train__eval_every=2)], False)
    weights = os.path.join(tmp, 'all-switches')
    tune = os.path.join(ROOT, 'configs', 'finetune.yaml')
    head = [*sets(head__targets='[age]', data__test='null'), *train, *valid]
    mean = compare('fine-tuning', tmp, [tune, *head], False, weights)
    compare('linear probe', tmp, [tune, *head, *sets(head__freeze='true')], False, weights)
    compare('kept embeddings', tmp, [tune, *head, *sets(head__freeze='true', model__dropout=0)], False, weights)
    compare('average after LP-FT', tmp, [tune, *head, *sets(train__ema=0.9, finetune__probe_epochs=1)], False, weights)
    attention = sets(model__pool='attention')
    p = compare('fine-tuning, attention', tmp, [tune, *head, *attention], False, weights)
    check('attention has a parameter a feature', p['network']['parameters'] == mean['network']['parameters'] + 512)
    compare('linear probe, attention', tmp, [tune, *head, *attention, *sets(head__freeze='true')], False, weights)
    # evaluating 32 records at once takes more than training on two
    compare('test', tmp, [tune, *sets(head__targets='[age]', head__freeze='true', train__steps=3, train__batch_size=2,
                                      data__train='{path: %s, part: [0, 0.7]}' % data, data__valid='null',
                                      data__test='{path: %s, part: [0.7, 1]}' % data)], True, weights)


def one_record(tmp):
    """Weights of 32 MiB: the program, once the weights, and little else."""
    config = os.path.join(tmp, 'large.yaml')
    with open(config, 'w', encoding='utf-8') as f:
        print('model: {base_filters: 64, filters: [1024], blocks: [3]}\ndata: {train: %s/ecgs}' % tmp, file=f)
    run('pretrain', config, '--out', tmp + '/large', *sets(train__steps=1, train__batch_size=2, model__length=1000))
    write_record(tmp + '/record', 'I II III aVR aVL aVF V1 V2 V3 V4 V5 V6'.split(), 1000)
    weights = os.path.getsize(tmp + '/large/checkpoints/last/model.safetensors')
    little, _, _ = run('--version')
    peak, _, _ = run('predict', '--weights', tmp + '/large', '--data', tmp + '/record.hea', '--out', tmp + '/p.csv')
    with open(tmp + '/p.csv', encoding='utf-8') as f:
        check('a record is predicted', len(f.readlines()) == 2)
    if not SANITIZED:
        check('weights are in memory once', peak < little + 1.6 * weights,
              '%.1f MiB of weights, peak %.1f, program alone %.1f' % (weights / MIB, peak / MIB, little / MIB))


def without_data(tmp):
    config = os.path.join(ROOT, 'configs', 'pretrain_12lead.yaml')
    before = sorted(os.listdir(tmp))
    p = plan(config, '--no-time', *sets(data__train=tmp + '/nowhere'))
    check('the published recipe without its data', p['network']['parameters'] == 30599921
          and p['steps']['per_epoch'] is None and p['steps']['total'] is None and 'not there' in p['data']['note']
          and p['steps']['at_once'] == 16
          and 2**30 * 1.35 < p['memory']['peak_rss'] - p['memory']['program'] < 2**30 * 1.55
          and abs(p['memory']['saving'] - p['disk']['checkpoint']) < 2**16)
    named = plan(config, '--no-time', *sets(data__train=tmp + '/nowhere', data__labels='[a, b, c]', train__steps=7,
                                            train__epochs=0))
    check('outputs and steps that the config knows', named['network']['outputs'] == 3 and named['steps']['total'] == 7)
    half = plan(config, '--no-time', *sets(data__train=tmp + '/nowhere', train__precision='bf16'))
    check('bf16 takes half the activations',
          0.45 < half['memory']['activations'] / p['memory']['activations'] < 0.55)
    check('nothing is written', sorted(os.listdir(tmp)) == before)
    for code, wanted, words in [
            (78, 'model.length=5000', [*sets(data__train=tmp + '/nowhere', model__length=0)]),
            (78, 'train.recompute', [*sets(train__recompute='perhaps')]),
            (66, 'data.valid: ' + tmp + '/nowhere', [*sets(data__train=tmp + '/ecgs', data__valid=tmp + '/nowhere')]),
            (66, 'nowhere: No such file', ['--weights', tmp + '/nowhere'])]:
        _, status, error = run('plan', config, *words, ok=False)
        check('plan refuses: ' + wanted, status == code and wanted in error, '' if status == code else error)


def time_is_measured(tmp):
    config = os.path.join(ROOT, 'configs', 'demo_pretrain.yaml')
    p = plan(config, *sets(data__train='{path: %s/ecgs, part: [0, 0.8]}' % tmp,
                           data__valid='{path: %s/ecgs, part: [0.8, 1]}' % tmp, train__epochs=2))
    t, s = p['time'], p['steps']
    check('time of all steps', s['total'] == 2 * s['per_epoch'] and 0 < t['step'] < 60
          and abs(t['step'] * s['total'] + 2 * t['validation'] - t['total']) < 1e-6 * t['total'])


# What an H200 was measured at, published network, batch 256 (README.md): precision, kernels.conv, BN, ECG/s, GiB, how near.
MEASURED = (('fp32', 'custom', 'false', 1421, 5.9, 0.02), ('bf16', 'custom', 'false', 11087, 3.4, 0.02),
            ('bf16', 'auto', 'false', 15334, None, 0.02), ('bf16', 'custom', 'true', 9123, None, 0.1),
            ('bf16', 'auto', 'true', 11390, None, 0.1))


def gpus_are_modelled(tmp):
    config = os.path.join(ROOT, 'configs', 'pretrain_12lead.yaml')
    whole = sets(data__train=tmp + '/nowhere', train__accumulate=1, train__epochs=1)

    def model(*words, batch=256, precision='bf16', **keys):
        return plan(config, *whole, *sets(train__batch_size=batch, train__precision=precision, **keys), '--gpu', *words)

    for precision, conv, norm, speed, size, near in MEASURED:
        p = model('h200', precision=precision, kernels__conv=conv, model__batch_norm=norm)
        check('an H200, %s %s%s' % (precision, conv, ' with BN' if norm == 'true' else ''),
              abs(p['time']['ecg_per_s'] / speed - 1) < near and
              (size is None or abs(p['gpu_memory']['peak'] / 2**30 / size - 1) < 0.1),
              'modelled %.0f ECG/s and %.2f GiB, measured %d' % (p['time']['ecg_per_s'], p['gpu_memory']['peak'] / 2**30, speed))
    one, node, many = model('h100'), model('h100', '--ranks', 8, '--disk', 50, batch=2048), model(
        'h100', '--ranks', 64, '--nodes', 8, '--disk', 50, batch=16384)
    for p, ranks in ((one, 1), (node, 8), (many, 64)):
        g, t = p['gpu'], p['time']
        check('%d GPUs' % ranks, p['steps']['at_once'] == 256 == g['records_per_rank'] and p['gpu_memory'] == one['gpu_memory']
              and g['sum_bytes'] == int(2 * (ranks - 1) / ranks * 4 * p['network']['parameters'])
              and abs(g['compute'] + g['update'] + g['sums_not_hidden'] - t['step']) < 1e-12
              and abs(g['scaling_efficiency'] - one['time']['step'] / t['step']) < 1e-9
              and g['sums_not_hidden'] <= g['sums'] and t['epoch_records'] == 7500000
              and abs(t['epoch'] / (-(-7500000 // (256 * ranks)) * t['step']) - 1) < 1e-9)
    check('sums take time', 0 == one['gpu']['sums'] < node['gpu']['sums'] < many['gpu']['sums'] and
          many['gpu']['scaling_efficiency'] < 1 == one['gpu']['scaling_efficiency'])
    slow = model('h100', '--ranks', 16, '--nodes', 2, '--network', 0.1, batch=4096)['gpu']
    check('a slow network binds', slow['binds'] == 'sums of gradients' and slow['scaling_efficiency'] < 0.5)
    p = model('h100', '--ranks', 8, '--disk', 0.5, batch=2048)
    check('a slow disk binds', p['gpu']['binds'] == 'reading' and abs(p['time']['step'] - 2048 * 120000 / 0.5e9) < 1e-9)
    check('a roofline has two sides', one['gpu']['binds'] == 'memory bandwidth' and
          model('h100', precision='fp32')['gpu']['binds'] == 'arithmetic')
    check('more bandwidth is faster', model('a100')['time']['step'] > one['time']['step'] > model('h200')['time']['step'] >
          model('b200')['time']['step'])
    check('what does not fit is said', 'more than the GPU has' in model('l40s', batch=8192)['gpu_memory']['note'])
    own = plan(os.path.join(ROOT, 'configs', 'ptbxl_superclass.yaml'), '--gpu', 'h100', *sets(
        data__train='{path: %s/ecgs, part: [0, 0.7]}' % tmp, data__valid='null', data__test='null'))
    check("the data set's own records", own['time']['epoch_records'] == own['data']['records_to_train'] and
          abs(own['time']['total'] / (own['steps']['total'] * own['time']['step']) - 1) < 1e-9)
    for words, wanted in (('--gpu h1000', 'none of a100, h100'), ('--ranks 3 --nodes 2', 'a multiple of --nodes'),
                          ('--ranks 0', 'at least 1'), ('--gpu h100 --disk 0', '--disk'), ('--network -1', '--network')):
        _, status, error = run('plan', config, *whole, *words.split(), ok=False)
        check('plan refuses: ' + words, status == 2 and wanted in error, '' if status == 2 else error)


def cpu_ranks_are_planned(tmp):
    config = os.path.join(ROOT, 'configs', 'demo_pretrain.yaml')
    keys = sets(data__train=tmp + '/ecgs', data__valid='null', train__batch_size=32)
    one, two = plan(config, *keys), plan(config, *keys, '--ranks', 2)
    check('two CPU ranks', two['steps']['at_once'] == 16 == one['steps']['at_once'] / 2 and two['time']['sums'] > 0
          and 'sums' not in one['time'] and two['time']['step'] > two['time']['sums']
          and two['memory']['activations'] < one['memory']['activations'])


if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as folder:
        small_runs(folder)
        one_record(folder)
        without_data(folder)
        time_is_measured(folder)
        gpus_are_modelled(folder)
        cpu_ranks_are_planned(folder)
    sys.exit(finish())
