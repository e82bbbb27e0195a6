#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`einthoven study`: its table against the runs' own files, folds that test every patient once, a study that is killed,
stopped and resumed, runs that fail, and what it refuses before the first run."""
import csv
import glob
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

try:
    import h5py
except ImportError:
    h5py = None

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BINARY = os.environ.get('EINTHOVEN_BINARY') or os.path.join(ROOT, 'build', 'einthoven')
RECORDS = 240
passed = failed = skipped = 0


def check(name, ok, note=''):
    global passed, failed
    passed += bool(ok)
    failed += not ok
    print('%s %s%s%s' % ('ok     ' if ok else 'FAILED ', name, ': ' if note else '', note))


def finish():
    print('%d passed, %d failed, %d skipped' % (passed, failed, skipped))
    return failed != 0


def run(*words, code=0):
    """(standard output, standard error); another exit code than `code` is a failed check."""
    p = subprocess.run([BINARY, *map(str, words)], capture_output=True, text=True)
    if p.returncode != code:
        check(' '.join(map(str, words)), False, 'exit %d, wanted %d: %s' % (p.returncode, code, p.stderr[-1000:]))
    return p.stdout, p.stderr


def read_json(path):
    with open(path) as f:
        return json.load(f)


def read_bytes(path):
    with open(path, 'rb') as f:
        return f.read()


def read_csv(path):
    with open(path, newline='') as f:
        return list(csv.DictReader(f))


class Setting:
    """Two simulated cohorts, weights pretrained on the first, a config for the second."""

    def __init__(self, tmp):
        self.tmp, self.weights, self.config = tmp, tmp + '/weights', tmp + '/finetune.yaml'
        run('-q', 'synth', '--out', tmp + '/a', '--records', 100, '--seed', 1, '--rate', 100, '--length', 5)
        run('-q', 'synth', '--out', tmp + '/b', '--records', RECORDS, '--seed', 2, '--rate', 100, '--length', 5)
        with open(tmp + '/pretrain.yaml', 'w') as f:
            f.write('model: {base_filters: 16, filters: [16, 32], blocks: [1, 1]}\n'
                    'data: {train: %s/a}\ntrain: {batch_size: 16, epochs: 1}\n' % tmp)
        with open(self.config, 'w') as f:
            f.write('data:\n  allow_absent: true\n  train: {path: %s/b, part: [0, 0.6]}\n  test: {path: %s/b, part: [0.6, 1]}\n'
                    'head: {labels: [normal_ecg, atrial_fibrillation]}\nfinetune: {probe_lr: 1e-2}\n'
                    'train: {batch_size: 16, epochs: 2, save_every: 2}\n' % (tmp, tmp))
        run('-q', 'pretrain', tmp + '/pretrain.yaml', '--out', self.weights)

    def words(self, out, *more):
        return ['study', self.config, '--weights', self.weights, '--out', self.tmp + '/' + out, *more]


GRID = ('--fractions', '0.1,1', '--seeds', '2', '--mode-set', 'lp-ft:finetune.probe_epochs=2')
# What a run's config.yaml must say, by mode.
MODES = {'probe': ('freeze: true', 'init: weights', 'probe_epochs: 0', 'lr: 0.01'),
         'full': ('freeze: false', 'init: weights', 'probe_epochs: 0', 'lr: 0.001'),
         'lp-ft': ('freeze: false', 'init: weights', 'probe_epochs: 2', 'lr: 0.001'),
         'random': ('freeze: false', 'init: random', 'probe_epochs: 0', 'lr: 0.001'),
         'random-probe': ('freeze: true', 'init: random', 'probe_epochs: 0', 'lr: 0.01')}


def table_of(text):
    """{(fraction, mode): [runs, mean, sd, min, max]} of the printed table."""
    rows = {}
    for line in text.splitlines()[2:]:
        words = line.split()
        rows[float(words[0]), words[1]] = [float('nan') if w == '-' else float(w) for w in words[2:7]]
    return rows


def same_line(row, values):
    sd = statistics.stdev(values) if len(values) > 1 else float('nan')
    wanted = [len(values), statistics.mean(values), sd, min(values), max(values)]
    return all(abs(a - b) <= 5.1e-5 or (a != a and b != b) for a, b in zip(row, wanted))


def figures_are_the_runs(s):
    out, error = run(*s.words('grid', *GRID))
    folder = s.tmp + '/grid'
    study, lines = read_json(folder + '/study.json'), read_csv(folder + '/study.csv')
    check('a run a combination', len(study['runs']) == len(lines) == 20
          and list(study['modes']) == list(MODES))
    values = {}
    for r in study['runs']:
        auroc = read_json('%s/%s/test/metrics.json' % (folder, r['run']))['main']['value']
        values.setdefault((r['fraction'], r['mode']), []).append(auroc)
        with open('%s/%s/config.yaml' % (folder, r['run'])) as f:
            config = [line.strip() for line in f]
        wanted = ('seed: %d' % r['seed'], 'fraction_seed: %d' % r['seed'], 'fraction: %g' % r['fraction'])
        check(r['run'], r['value'] == auroc and all(line in config for line in wanted + MODES[r['mode']]))
    rows = table_of(out)
    check('mean, sd, min and max of the table', rows.keys() == values.keys()
          and all(same_line(rows[k], v) for k, v in values.items()))
    summary = {(l['fraction'], l['mode']): l for l in study['summary']}
    check('and of study.json', all(abs(summary[k]['mean'] - statistics.mean(v)) < 1e-12 and
                                   abs(summary[k]['sd'] - statistics.stdev(v)) < 1e-12 and
                                   (summary[k]['runs'], summary[k]['failed']) == (2, 0) for k, v in values.items()))
    check('study.csv has the same figures', [float(l['value']) for l in lines] == [r['value'] for r in study['runs']]
          and {l['metric'] for l in lines} == {study['metric']} == {'macro_auroc'})
    by_seed = {}
    for r in study['runs']:
        by_seed.setdefault((r['fraction'], r['seed']), set()).add(r['records'])
    check('modes of a seed see the same patients', all(len(v) == 1 for v in by_seed.values()))
    check('a tenth of the patients', all(0 < max(by_seed[0.1, k]) < 0.25 * max(by_seed[1.0, k]) for k in (1, 2)))
    check('no weights are left', not glob.glob(folder + '/**/*.safetensors', recursive=True))
    check('progress goes to stderr', '20/20  random-probe/fraction-1/seed-2' in error)


def more_at_resume(s):
    """Also --json and --keep-weights; done runs are skipped, so their files stay."""
    folder = s.tmp + '/grid'
    before = {p: os.stat(p).st_mtime_ns for p in glob.glob(folder + '/*/*/seed-*/metrics.jsonl')}
    out, error = run(*s.words('grid', *GRID[:2], '--seeds', 3, *GRID[4:], '--resume', '--json', '--keep-weights'))
    study = json.loads(out)
    check('a seed more', len(study['runs']) == 30 and study['summary'][0]['runs'] == 3
          and '20 runs were done already' in error)
    check('done runs are not touched', all(os.stat(p).st_mtime_ns == t for p, t in before.items()))
    kept = sorted(glob.glob(folder + '/*/*/*/checkpoints/best/model.safetensors'))
    check('--keep-weights', len(kept) == 10 and all('seed-3' in p for p in kept))
    run(*s.words('grid', *GRID), code=73)
    _, error = run(*s.words('grid', *GRID[:4], '--mode-set', 'probe:optim.lr=2e-2',
                             *GRID[4:], '--resume'), code=78)
    check('another config is refused', 'lr: 0.01' in error and 'lr: 0.02' in error)
    words = s.words('grid', *GRID, '--resume')
    words[words.index('--weights') + 1] = s.weights + '/checkpoints/last'
    _, error = run(*words, code=78)
    check('other weights are refused', 'other weights' in error)


def killed_and_stopped(s):
    wanted = read_bytes(s.tmp + '/whole/study.json')
    for how, name in ((signal.SIGKILL, 'killed'), (signal.SIGTERM, 'stopped')):
        codes = []
        for delay in (0.1, 0.4, 0.25):
            p = subprocess.Popen([BINARY, '-q', *map(str, s.words(name, *GRID, '--resume'))], stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
            while not os.path.exists('%s/%s' % (s.tmp, name)) and p.poll() is None:
                time.sleep(0.01)
            time.sleep(delay)
            p.send_signal(how)
            codes.append(p.wait())
        check('%s three times' % name, all(c in (-9, 75, 0) for c in codes), str(codes))
        run('-q', *s.words(name, *GRID, '--resume'))
        check('%s and resumed: the same study.json' % name, read_bytes('%s/%s/study.json' % (s.tmp, name)) == wanted)
        check('and no weights left', not glob.glob('%s/%s/**/*.safetensors' % (s.tmp, name), recursive=True))


def folds(s):
    k = 4
    more = ('--folds', k, '--seeds', 1, '--set', 'data.train=%s/b' % s.tmp)
    _, error = run(*s.words('folds', *more), code=78)
    check('--folds refuses a test part of its own', 'data.test is set' in error)
    run(*s.words('folds', *more[:4], '--set', 'data.test=null'), code=78)
    run(*s.words('folds', *more, '--set', 'data.test=null', '--modes', 'probe'))
    study = read_json(s.tmp + '/folds/study.json')
    tested, fold_of, trained = [], {}, []
    for r in study['runs']:
        rows = read_csv('%s/folds/%s/test/predictions.csv' % (s.tmp, r['run']))
        tested += [row['record_id'] for row in rows]
        fold_of.update((row['record_id'], r['fold']) for row in rows)
        trained.append(r['records'] + len(rows))
    check('every record is tested once', len(tested) == len(set(tested)) == RECORDS)
    check('and trained on by the other folds', trained == [RECORDS] * k)
    if h5py is None:
        global skipped
        skipped += 1
        print('skipped a patient is in one fold (no h5py)')
        return
    folds_of = {}
    for path in glob.glob(s.tmp + '/b/*.h5'):
        with h5py.File(path, 'r') as f:
            for record, patient in zip(f['record_id'][()], f['patient_id'][()]):
                folds_of.setdefault(patient, set()).add(fold_of[record.decode()])
    check('a patient is in one fold', all(len(v) == 1 for v in folds_of.values()) and len(folds_of) < RECORDS,
          '%d patients' % len(folds_of))


def failing_runs(s):
    bad = ('--modes', 'probe,bad', '--seeds', 2, '--mode-set', 'bad:optim.name=sgd', '--mode-set', 'bad:optim.lr=1000')
    out, error = run(*s.words('bad', *bad), code=1)
    rows, study = table_of(out), read_json(s.tmp + '/bad/study.json')
    check('a run that diverges does not stop the others', rows[1, 'probe'][0] == 2 and rows[1, 'bad'][0] == 0)
    check('and is named with its message', '2 of 4 runs failed' in error and 'bad/fraction-1/seed-2 failed' in error
          and 'diverged' in error)
    errors = [r.get('error') for r in study['runs']]
    check('also in study.json and study.csv', [bool(e) for e in errors] == [False, True, False, True]
          and all(r['value'] is None for r in study['runs'] if 'error' in r)
          and ['diverged' in l['error'] for l in read_csv(s.tmp + '/bad/study.csv')] == [False, True, False, True]
          and [l['failed'] for l in study['summary']] == [0, 2])


def other_figures(s):
    out, _ = run(*s.words('age', '--seeds', 2, '--modes', 'probe', '--set', 'head.labels=null',
                          '--set', 'head.targets=[age]'))
    values = [read_json(p)['targets']['age']['mae'] for p in glob.glob(s.tmp + '/age/*/*/*/test/metrics.json')]
    check('MAE of a target', out.startswith('mae on data.test') and same_line(table_of(out)[1, 'probe'], values))
    out, _ = run(*s.words('valid', '--seeds', 1, '--modes', 'full', '--set', 'data.test=null',
                          '--set', 'data.valid={path: %s/b, part: [0.6, 1]}' % s.tmp))
    row = table_of(out)[1, 'full']
    lines = [json.loads(l) for l in open(s.tmp + '/valid/full/fraction-1/seed-1/metrics.jsonl')]
    last = [l for l in lines if l['kind'] == 'valid'][-1]['macro_auroc']
    check('without a test part the last validation', out.startswith('valid macro_auroc')
          and abs(row[1] - last) <= 5.1e-5 and row[2] != row[2])


def refusals(s):
    for code, wanted, *more in (
            (2, 'did you mean probe', '--modes', 'prob'),
            (2, 'twice', '--modes', 'probe,probe'),
            (2, 'is no name', '--modes', '../probe'),
            (2, 'is none of --modes', '--mode-set', 'half:optim.lr=1'),
            (2, 'is not MODE:KEY=VALUE', '--mode-set', 'optim.lr=1'),
            (2, '(0, 1]', '--fractions', '0.1,2'),
            (2, '(0, 1]', '--fractions', 'nan'),
            (2, 'empty', '--fractions', '0.1,'),
            (2, '1 fold', '--folds', 1, '--set', 'data.test=null'),
            (2, '--seeds', '--seeds', 0),
            (78, 'mode full: --set: unknown key optim.lrr', '--mode-set', 'full:optim.lrr=1'),
            (78, 'data.test and data.valid are not set', '--set', 'data.test=null'),
            (78, 'at least 2', '--fractions', '0.001'),
            (78, 'lbbc', '--set', 'head.labels=[lbbc]')):
        _, error = run(*s.words('refused', *more), code=code)
        check('refuses ' + ' '.join(map(str, more)), wanted in error, '' if wanted in error else error)
    check('and leaves no folder', not os.path.exists(s.tmp + '/refused'))


if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(folder)
        figures_are_the_runs(setting)
        os.mkdir(folder + '/whole')
        with open(folder + '/whole/study.json', 'wb') as whole:
            whole.write(read_bytes(folder + '/grid/study.json'))
        more_at_resume(setting)
        killed_and_stopped(setting)
        folds(setting)
        failing_runs(setting)
        other_figures(setting)
        refusals(setting)
    sys.exit(finish())
