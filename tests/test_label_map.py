#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Label maps from outside: the facts of the maps in configs/maps, `evaluate --label-map` of a network with ECGFounder's 150
outputs on a data set of SCP columns against a recomputation with scikit-learn, and what bad maps end in."""
import csv
import json
import os
import subprocess
import sys
import tempfile

import h5py
import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BINARY = os.environ.get('EINTHOVEN_BINARY') or os.path.join(ROOT, 'build', 'einthoven')
SHARED = os.environ.get('EINTHOVEN_SHARED') or os.path.join(ROOT, '..', 'shared')
MAPS = os.path.join(ROOT, 'configs', 'maps')
SMALL = ['--set', 'model.base_filters=16', '--set', 'model.filters=[16, 32]', '--set', 'model.blocks=[1, 1]',
         '--set', 'train.batch_size=8', '--set', 'train.steps=3', '--set', 'data.valid=null', '--set', 'train.threads=2']
UNKNOWN = 255
passed = failed = skipped = 0


def check(name, ok, note=''):
    global passed, failed
    passed += bool(ok)
    failed += not ok
    print('%s %s%s%s' % ('ok     ' if ok else 'FAILED ', name, ': ' if note else '', note))


def run(*words, code=0):
    done = subprocess.run([BINARY] + [str(w) for w in words], capture_output=True, text=True)
    if done.returncode != code:
        sys.exit('%s: exit %d (wanted %d): %s' % (' '.join(map(str, words)), done.returncode, code, done.stderr))
    return done.stderr


def read_map(name):
    with open(os.path.join(MAPS, name), newline='') as f:
        return list(csv.DictReader(f))


def counts():
    """Of scp_statements.csv: 71 statements, 44 diagnostic in 23 subclasses of 5 superclasses, 19 form, 12 rhythm; four are
    diagnostic and form. Of the challenge: 30 codes, 26 classes."""
    wanted = {'ptbxl_statements': (71, 71), 'ptbxl_superclass': (44, 5), 'ptbxl_subclass': (44, 23), 'ptbxl_form': (19, 19),
              'ptbxl_rhythm': (12, 12), 'snomed_cinc2021': (30, 26)}
    codes = {}
    for name, (n_codes, n_labels) in wanted.items():
        rows = read_map(name + '.csv')
        codes[name] = {r['code'] for r in rows}
        check(name, len(codes[name]) == len(rows) == n_codes and len({r['label'] for r in rows}) == n_labels,
              '%d codes, %d labels' % (len(rows), len({r['label'] for r in rows})))
    diagnostic, form, rhythm = (codes['ptbxl_' + n] for n in ('superclass', 'form', 'rhythm'))
    check('the three kinds of statements make up all', diagnostic | form | rhythm == codes['ptbxl_statements'])
    check('four statements are diagnostic and form', diagnostic & form == {'NDT', 'NST_', 'DIG', 'LNGQT'}
          and not rhythm & (diagnostic | form))
    check('subclasses are of the same codes', codes['ptbxl_subclass'] == diagnostic)
    unstated = {r['code']: r['unstated'] for r in read_map('ptbxl_statements.csv')}
    check('a likelihood of 0 is unknown for diagnostic statements only',
          all((unstated[c] == 'unknown') == (c in diagnostic) for c in unstated))
    with open(os.path.join(MAPS, 'ecgfounder_labels.txt')) as f:
        names = f.read().splitlines()
    rows = read_map('ptbxl_ecgfounder.csv')
    check('150 names, and the map uses only those', len(names) == len(set(names)) == 150
          and {r['label'] for r in rows} <= set(names))
    check('the map uses only PTB-XL\'s codes', {r['code'] for r in rows} <= codes['ptbxl_statements'],
          '%d codes to %d of 150 outputs' % (len({r['code'] for r in rows}), len({r['label'] for r in rows})))
    scp = os.path.join(SHARED, 'ecg', 'ptbxl', 'scp_statements.csv')
    if not os.path.exists(scp):
        return names
    with open(scp, newline='') as f:
        facts = {r['']: r for r in csv.DictReader(f)}
    check('super- and subclasses as published',
          all(facts[r['code']]['diagnostic_class'] == r['label'] for r in read_map('ptbxl_superclass.csv'))
          and all(facts[r['code']]['diagnostic_subclass'] == r['label'] for r in read_map('ptbxl_subclass.csv'))
          and all(({c for c in facts if facts[c][kind]} == codes['ptbxl_' + name])
                  for kind, name in (('diagnostic', 'superclass'), ('form', 'form'), ('rhythm', 'rhythm'))))
    return names


def relabel(folder, names, rng, values=(0, 1, UNKNOWN), shares=(0.7, 0.2, 0.1)):
    """Gives the simulated records other label columns."""
    with h5py.File(os.path.join(folder, 'shard-00000.h5'), 'r+') as f:
        n = len(f['labels'])
        del f['labels']
        f['labels'] = rng.choice(values, size=(n, len(names)), p=shares).astype('u1')
        f['labels'].attrs['names'] = '\n'.join(names)
    os.remove(os.path.join(folder, 'dataset.json'))


def read(folder):
    with h5py.File(os.path.join(folder, 'shard-00000.h5')) as f:
        names = f['labels'].attrs['names']
        return (names.decode() if isinstance(names, bytes) else names).split('\n'), f['labels'][:]


def recompute(rows, outputs, columns, labels, logits):
    """{output: (n, positives, auroc, auprc)} by the map's definition."""
    result = {}
    for k, output in enumerate(outputs):
        mine = [columns.index(r['code']) for r in rows if r['label'] == output and r['code'] in columns]
        if not mine:
            continue
        y = labels[:, mine]
        truth = np.where((y == 1).any(1), 1, np.where((y == UNKNOWN).any(1), UNKNOWN, 0))
        known = truth != UNKNOWN
        t, z = truth[known], logits[known, k].astype('f8')
        both = len(set(t)) == 2
        result[output] = (int(known.sum()), int(t.sum()), roc_auc_score(t, z) if both else None,
                          average_precision_score(t, z) if both else None)
    return result


def zero_shot(name, weights, data, outputs, folder):
    """Evaluates through the map and holds every figure against the recomputation."""
    run('-q', 'predict', '--weights', weights, '--data', data, '--out', os.path.join(folder, name + '.h5'))
    with h5py.File(os.path.join(folder, name + '.h5')) as f:
        logits = f['logits'][:]
    columns, labels = read(data)
    wanted = recompute(read_map('ptbxl_ecgfounder.csv'), outputs, columns, labels, logits)
    out = os.path.join(folder, name)
    log = run('evaluate', '--weights', weights, '--data', data, '--out', out, '--label-map',
              os.path.join(MAPS, 'ptbxl_ecgfounder.csv'))
    with open(os.path.join(out, 'metrics.json')) as f:
        got = json.load(f)
    check(name + ': the outputs with columns are evaluated, no others', list(got['labels']) == list(wanted),
          '%d of %d' % (len(wanted), len(outputs)))
    check(name + ': and their number is said', '%d of %d outputs have columns' % (len(wanted), len(outputs)) in log)
    check(name + ': as many known records and positives',
          all((got['labels'][k]['n'], got['labels'][k]['positives']) == v[:2] for k, v in wanted.items()))
    worst = 0.0
    for k, (_, _, auroc, auprc) in wanted.items():
        for ours, theirs in ((got['labels'][k]['auroc'], auroc), (got['labels'][k]['auprc'], auprc)):
            if (ours is None) != (theirs is None):
                worst = float('inf')
            elif ours is not None:
                worst = max(worst, abs(ours - theirs))
    check(name + ': AUROC and AUPRC as scikit-learn has them', worst <= 1e-12, 'largest difference %.1e' % worst)
    macro = float(np.mean([v[2] for v in wanted.values() if v[2] is not None]))
    check(name + ': macro AUROC', abs(got['macro']['auroc'] - macro) <= 1e-12, '%.6f' % macro)
    # the same from a file of predict, and for a part of the outputs
    again = os.path.join(folder, name + '-again')
    run('-q', 'evaluate', '--weights', weights, '--data', data, '--out', again, '--label-map',
        os.path.join(MAPS, 'ptbxl_ecgfounder.csv'), '--predictions', os.path.join(folder, name + '.h5'))
    with open(os.path.join(out, 'metrics.json'), 'rb') as a, open(os.path.join(again, 'metrics.json'), 'rb') as b:
        check(name + ': the same from predictions', a.read() == b.read())
    part = os.path.join(folder, name + '-part')
    run('-q', 'evaluate', '--weights', weights, '--data', data, '--out', part, '--label-map',
        os.path.join(MAPS, 'ptbxl_ecgfounder.csv'), '--labels', 'MULTIFOCAL ATRIAL TACHYCARDIA,ATRIAL FIBRILLATION')
    with open(os.path.join(part, 'metrics.json')) as f:
        labels = json.load(f)['labels']
    check(name + ': a part of the outputs', list(labels) == ['ATRIAL FIBRILLATION'] and
          labels['ATRIAL FIBRILLATION']['auroc'] == got['labels']['ATRIAL FIBRILLATION']['auroc'])


def several_heads(folder, data):
    """A network whose labels stand behind a target's head and in two heads: truth and outputs stay together."""
    config = os.path.join(folder, 'heads.yaml')
    with open(config, 'w') as f:
        f.write('data: {train: %s}\nheads:\n  - {name: age, targets: [age]}\n  - {name: one, labels: [pvc, lbbb, rbbb]}\n'
                '  - {name: kind, labels: [sinus_rhythm, atrial_fibrillation], loss: softmax}\n'
                '  - {name: two, labels: [lvh, pac]}\n' % data)
    weights = os.path.join(folder, 'heads')
    start = os.path.join(folder, 'start')
    run('-q', 'pretrain', os.path.join(ROOT, 'configs', 'demo_pretrain.yaml'), '--set', 'data.train=' + data, *SMALL, '--out',
        start)
    run('-q', 'finetune', config, '--weights', start, '--set', 'train.steps=4', '--set', 'train.threads=2', '--out', weights)
    run('-q', 'predict', '--weights', weights, '--data', data, '--out', os.path.join(folder, 'heads.h5'))
    with h5py.File(os.path.join(folder, 'heads.h5')) as f:
        logits = f['logits'][:]
    columns, labels = read(data)
    rows = [('low_voltage', 'pac'), ('long_qt', 'rbbb'), ('first_degree_av_block', 'rbbb'), ('nope', 'pvc')]
    path = os.path.join(folder, 'heads.csv')
    with open(path, 'w') as f:
        f.write('code,label\n' + ''.join('%s,%s\n' % row for row in rows))
    outputs = ['age', 'pvc', 'lbbb', 'rbbb', 'sinus_rhythm', 'atrial_fibrillation', 'lvh', 'pac']
    wanted = recompute([{'code': c, 'label': l} for c, l in rows], outputs, columns, labels, logits)
    out = os.path.join(folder, 'heads-out')
    log = run('evaluate', '--weights', weights, '--data', data, '--out', out, '--label-map', path)
    with open(os.path.join(out, 'metrics.json')) as f:
        got = json.load(f)
    check('several heads: labels of both heads, nothing else', list(got['labels']) == ['rbbb', 'pac'] and not got.get('targets')
          and '2 of 8 outputs have columns' in log)
    check('several heads: AUROC as scikit-learn has it', all(abs(got['labels'][k]['auroc'] - wanted[k][2]) <= 1e-12
                                                            for k in ('rbbb', 'pac')), '%.4f, %.4f' % tuple(
                                                                wanted[k][2] for k in ('rbbb', 'pac')))
    run('-q', 'finetune', os.path.join(ROOT, 'configs', 'finetune.yaml'), '--weights', start, '--set', 'head.targets=[age]',
        '--set', 'data.train=' + data, '--set', 'data.valid=null', '--set', 'data.test=null', '--set', 'train.steps=2', '--out',
        os.path.join(folder, 'age'))
    log = run('evaluate', '--weights', os.path.join(folder, 'age'), '--data', data, '--out', os.path.join(folder, 'none'),
              '--label-map', path, code=78)
    check('a network of targets: exit 78', 'predicts none' in log)


def refuse(name, code, text, map_text, weights, data, folder):
    path = os.path.join(folder, 'bad.csv')
    with open(path, 'w') as f:
        f.write(map_text)
    out = os.path.join(folder, 'refused')
    log = run('evaluate', '--weights', weights, '--data', data, '--out', out, '--label-map', path, code=code)
    check('%s: exit %d' % (name, code), text in log and not os.path.exists(out), log.strip().split('error: ')[-1][-120:])


def misuse():
    """Options that go together, without anything being read."""
    for text, words in (('need --label-map', ['wfdb', 'x', '--code-field', 'Dx']),
                        ('need --label-map', ['wfdb', 'x', '--labels', 'y', '--code-column', 'z']),
                        ('not both', ['wfdb', 'x', '--labels', 'y', '--label-map', 'm', '--code-column', 'z', '--code-field', 'Dx']),
                        ('need --labels CSV', ['wfdb', 'x', '--label-map', 'm', '--code-column', 'z']),
                        ('needs --labels CSV', ['wfdb', 'x', '--map', 'm']),
                        ("the map's key codes", ['hdf5', 'x', '--map', 'm', '--label-map', 'm', '--code-field', 'Dx'])):
        log = run('import', *words, '--out', 'nowhere', code=2)
        check('import %s: exit 2' % ' '.join(words), text in log and not os.path.exists('nowhere'), text)


def main():
    global skipped
    outputs = counts()
    misuse()
    rng = np.random.default_rng(7)
    with tempfile.TemporaryDirectory() as folder:
        train, scp = os.path.join(folder, 'train'), os.path.join(folder, 'scp')
        run('-q', 'synth', '--out', train, '--records', 24, '--rate', 100, '--length', 4)
        relabel(train, outputs, rng)
        weights = os.path.join(folder, 'run')
        run('-q', 'pretrain', os.path.join(ROOT, 'configs', 'demo_pretrain.yaml'), '--set', 'data.train=' + train, *SMALL,
            '--out', weights)
        run('-q', 'synth', '--out', scp, '--records', 300, '--seed', 3, '--rate', 100, '--length', 4)
        codes = [r['code'] for r in read_map('ptbxl_statements.csv')]
        # some codes no column, columns in another order, some that no map knows
        columns = ['X1'] + [c for c in reversed(codes) if c not in ('SBRAD', 'IMI')] + ['X2']
        relabel(scp, columns, rng, shares=(0.9, 0.05, 0.05))
        zero_shot('simulated', weights, scp, outputs, folder)
        sample = os.path.join(SHARED, 'ecg', 'ptbxl_1625_100hz.h5')
        if os.path.exists(sample):
            with h5py.File(sample) as f:
                names = f['scp'].attrs['codes']
            names = (names.decode() if isinstance(names, bytes) else names).split(',')
            with open(os.path.join(folder, 'map.yaml'), 'w') as f:
                f.write('signal: tracings\nlayout: NLC\nsampling_rate: 100\nscale: 0.001\nunits: none\n'
                        'leads: [I, II, III, aVR, aVL, aVF, V1, V2, V3, V4, V5, V6]\nrecord_id: ecg_id\n'
                        'labels: {scp: %s}\npatient_id: patient_id\n' % json.dumps(names))
            ptbxl = os.path.join(folder, 'ptbxl')
            run('-q', 'import', 'hdf5', sample, '--map', os.path.join(folder, 'map.yaml'), '--length', 4, '--out', ptbxl)
            zero_shot('PTB-XL', weights, ptbxl, outputs, folder)
        else:
            skipped += 1
            print('skipped PTB-XL (no shared recordings here)')
        cohort = os.path.join(folder, 'cohort')
        run('-q', 'synth', '--out', cohort, '--records', 200, '--seed', 5, '--rate', 100, '--length', 4)
        several_heads(folder, cohort)
        refuse('an unknown label', 78, 'bad.csv:3: the network has no output SINUS RYTHM; did you mean SINUS RHYTHM?',
               'code,label\nAFIB,ATRIAL FIBRILLATION\nSR,SINUS RYTHM\n', weights, scp, folder)
        refuse('no code is a column', 78, 'is a label column of the data', 'code,label\n99,SINUS RHYTHM\n', weights, scp, folder)
        refuse('no header', 65, 'bad.csv:1: no column code', 'SR,SINUS RHYTHM\n', weights, scp, folder)
        refuse('a pair twice', 65, 'bad.csv:3: SR with label SINUS RHYTHM stands in line 2',
               'code,label\nSR,SINUS RHYTHM\nSR,SINUS RHYTHM\n', weights, scp, folder)
    print('%d passed, %d failed, %d skipped' % (passed, failed, skipped))
    return failed != 0


if __name__ == '__main__':
    sys.exit(main())
