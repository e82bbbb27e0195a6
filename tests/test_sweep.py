#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`einthoven sweep`: its table against the runs' own files; the same trials for any --jobs and any job array; halving keeps the
best and its survivors are the runs that they would be alone; killed and stopped sweeps resumed; what it refuses."""
import csv
import glob
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BINARY = os.environ.get('EINTHOVEN_BINARY') or os.path.join(ROOT, 'build', 'einthoven')
SPACE = '''optim.lr: {log: [1e-4, 1e-1]}
train: {batch_size: [16, 32]}
model.dropout: {uniform: [0, 0.5]}
augment.n: {int: [1, 3]}
'''
KEYS = ['optim.lr', 'train.batch_size', 'model.dropout', 'augment.n']
passed = failed = 0


def check(name, ok, note=''):
    global passed, failed
    passed += bool(ok)
    failed += not ok
    print('%s %s%s%s' % ('ok     ' if ok else 'FAILED ', name, ': ' if note else '', note))


def run(*words, code=0, env=None):
    """(standard output, standard error); another exit code than `code` is a failed check."""
    p = subprocess.run([BINARY, *map(str, words)], capture_output=True, text=True, env=dict(os.environ, **(env or {})))
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


def validations(folder):
    with open(folder + '/metrics.jsonl') as f:
        return [line for line in map(json.loads, f) if line['kind'] == 'valid']


def config_lines(path):
    with open(path) as f:
        return [line.strip() for line in f]


class Setting:
    def __init__(self, tmp):
        self.tmp, self.config, self.space = tmp, tmp + '/pretrain.yaml', tmp + '/space.yaml'
        run('-q', 'synth', '--out', tmp + '/a', '--records', 160, '--seed', 1, '--rate', 100, '--length', 4)
        with open(self.config, 'w') as f:
            f.write('model: {base_filters: 16, filters: [16, 32], blocks: [1, 1]}\n'
                    'data: {labels: [normal_ecg, atrial_fibrillation], train: {path: %s/a, part: [0, 0.6]}, '
                    'valid: {path: %s/a, part: [0.6, 0.8]}, test: {path: %s/a, part: [0.8, 1]}}\n'
                    'augment: {ops: [noise, shift, wander]}\nschedule: {name: cosine}\n'
                    'train: {epochs: 4}\n' % (tmp, tmp, tmp))
        self.write_space(SPACE)

    def write_space(self, text):
        with open(self.space, 'w') as f:
            f.write(text)

    def words(self, out, *more):
        return ['sweep', self.config, '--space', self.space, '--out', self.tmp + '/' + out, *more]


def table_is_the_runs(s):
    out, error = run(*s.words('random', '--trials', 6, '--keep-weights', '--seed', 7, '--jobs', 2))
    folder = s.tmp + '/random'
    sweep, lines = read_json(folder + '/sweep.json'), read_csv(folder + '/sweep.csv')
    trials = sweep['trials']
    check('a run a trial', sorted(t['trial'] for t in trials) == ['trial-%04d' % i for i in range(1, 7)]
          and sweep['metric'] == 'macro_auroc' and list(trials[0]['values']) == KEYS)
    for t in trials:
        v = validations('%s/%s' % (folder, t['trial']))
        best = max(v, key=lambda line: line['macro_auroc'])
        lines_of_config = config_lines('%s/%s/config.yaml' % (folder, t['trial']))
        check(t['trial'], len(v) == 4 and t['value'] == best['macro_auroc'] and t['step'] == best['step']
              and all(float(next(l for l in lines_of_config if l.startswith(k.split('.')[1] + ': ')).split()[1]) ==
                      float(t['values'][k]) for k in KEYS if k != 'augment.n')
              and 'test: null' in lines_of_config)
    values = [t['value'] for t in trials]
    check('the best first', values == sorted(values, reverse=True) and sweep['best'] == trials[0]['trial'])
    check('sweep.csv is the same', [(l['trial'], float(l['value'])) for l in lines] == [(t['trial'], t['value']) for t in trials]
          and all(l[k] == t['values'][k] for l, t in zip(lines, trials) for k in KEYS))
    rows = [line.split() for line in out.splitlines()[2:]]
    check('and the table', [r[0] for r in rows] == [t['trial'] for t in trials]
          and all(abs(float(r[2]) - t['value']) <= 5.1e-5 for r, t in zip(rows, trials)))
    best = config_lines(folder + '/best.yaml')
    check('best.yaml', 'test: {path: %s/a, part: [0.8, 1]}' % s.tmp in best and 'threads: 0' in best
          and 'lr: ' + '%g' % float(trials[0]['values']['optim.lr']) in ['lr: %g' % float(l[4:]) for l in best if l.startswith('lr: ')])
    check('nothing was tested', not glob.glob(folder + '/*/test'))
    check('draws lie in their ranges', all(1e-4 <= float(t['values']['optim.lr']) <= 1e-1
                                           and t['values']['train.batch_size'] in ('16', '32')
                                           and 0 <= float(t['values']['model.dropout']) <= 0.5
                                           and t['values']['augment.n'] in ('1', '2', '3') for t in trials))
    check('progress goes to stderr', '6/6' in error)
    return {t['trial']: t for t in trials}


def any_layout(s, wanted):
    """A job array of three tasks, two of them at once; fewer jobs; another order of keys, and one key less."""
    tasks = [subprocess.Popen([BINARY, *map(str, s.words('array', '--trials', 6, '--seed', 7))], stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True, env=dict(os.environ, SLURM_ARRAY_TASK_ID=str(k)))
             for k in (4, 2)]
    said = [p.communicate()[1] for p in tasks]
    check('two tasks of an array', all(p.returncode == 0 for p in tasks), ' '.join(said)[-300:] if any(p.returncode for p in tasks) else '')
    ran = [sum('(' in line and '/6' in line for line in text.splitlines()) for text in said]
    check('each trial is run once', sum(ran) == 6 and all(ran), str(ran))
    got = read_json(s.tmp + '/array/sweep.json')
    check('the same trials and figures', {t['trial']: t for t in got['trials']} == wanted)
    check('and the best alone has weights left', [p.split('/')[-3] for p in glob.glob(s.tmp + '/array/*/checkpoints/best')] ==
          [got['best']])
    out, _ = run(*s.words('array', '--trials', 6, '--seed', 7, '--json'), env={'SLURM_ARRAY_TASK_ID': '9'})
    check('a task that comes too late only tells', json.loads(out) == got)
    s.write_space('augment.n: {int: [1, 3]}\noptim: {lr: {log: [1e-4, 1e-1]}}\n')
    run('-q', *s.words('fewer', '--trials', 2, '--seed', 7, '--set', 'train.epochs=1'))
    fewer = {t['trial']: t['values'] for t in read_json(s.tmp + '/fewer/sweep.json')['trials']}
    s.write_space(SPACE)
    check('a key is drawn by its name', all(v == {k: wanted[t]['values'][k] for k in v} and len(v) == 2
                                            for t, v in fewer.items()) and len(fewer) == 2)


HALVING = ('--trials', 9, '--halving', '--seed', 7, '--set', 'train.epochs=9', '--set', 'train.batch_size=32',
           '--set', 'data.fraction=0.5')


def halving(s):
    s.write_space('optim.lr: {log: [1e-4, 1e-1]}\nmodel.dropout: {uniform: [0, 0.5]}\n')
    run('-q', *s.words('halving', *HALVING, '--keep-weights'))
    folder = s.tmp + '/halving'
    sweep = read_json(folder + '/sweep.json')
    check('rungs', sweep['rungs'] == [{'trials': 9, 'until_epoch': 1}, {'trials': 3, 'until_epoch': 3},
                                      {'trials': 1, 'until_epoch': None}])
    runs = {t['trial']: [v['macro_auroc'] for v in validations('%s/%s' % (folder, t['trial']))] for t in sweep['trials']}
    order = sorted(runs)
    for epochs, keep in ((1, 3), (3, 1)):
        order = sorted(order, key=lambda t: (-max(runs[t][:epochs]), t))[:keep]
        check('the best %d after %d epochs go on' % (keep, epochs), order == sorted(
            [t for t in runs if len(runs[t]) > epochs], key=lambda t: (-max(runs[t][:epochs]), t)))
    check('epochs that were trained', sorted(map(len, runs.values())) == [1] * 6 + [3] * 2 + [9])
    check('who got further stands first', [t['rung'] for t in sweep['trials']] == [3, 2, 2] + [1] * 6 and
          sweep['best'] == order[0])
    values = sweep['trials'][0]['values']
    run('-q', 'pretrain', s.config, '--out', s.tmp + '/alone', *HALVING[5:], '--set', 'data.test=null',
        *[w for k in values for w in ('--set', '%s=%s' % (k, values[k]))])
    check('the best is the run that it would be alone',
          all(read_bytes('%s/alone/checkpoints/%s/model.safetensors' % (s.tmp, name)) ==
              read_bytes('%s/%s/checkpoints/%s/model.safetensors' % (folder, order[0], name)) for name in ('last', 'best')))
    array = [subprocess.Popen([BINARY, '-q', *map(str, s.words('halving-array', *HALVING))], stdout=subprocess.DEVNULL,
                              env=dict(os.environ, SLURM_ARRAY_TASK_ID=str(k))) for k in range(2)]
    check('halving across an array', [p.wait() for p in array] == [0, 0] and
          read_json(s.tmp + '/halving-array/sweep.json') == sweep)
    return read_bytes(folder + '/sweep.json')


def killed_and_stopped(s, wanted):
    for how, name in ((signal.SIGKILL, 'killed'), (signal.SIGTERM, 'stopped')):
        codes = []
        for delay in (0.05, 0.3, 0.15):
            p = subprocess.Popen([BINARY, '-q', *map(str, s.words(name, *HALVING, '--resume', '--jobs', 2))],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while not os.path.exists('%s/%s' % (s.tmp, name)) and p.poll() is None:
                time.sleep(0.01)
            time.sleep(delay)
            p.send_signal(how)
            codes.append(p.wait())
        check('%s three times' % name, all(c in (-9, 75, 0) for c in codes), str(codes))
        time.sleep(0.1)
        run('-q', *s.words(name, *HALVING, '--resume'))
        check('%s and resumed: the same sweep.json' % name, read_bytes('%s/%s/sweep.json' % (s.tmp, name)) == wanted)
    before = {p: os.stat(p).st_mtime_ns for p in glob.glob(s.tmp + '/killed/*/metrics.jsonl')}
    run('-q', *s.words('killed', *HALVING, '--resume'))
    check('what is done is not touched', all(os.stat(p).st_mtime_ns == t for p, t in before.items()))
    run('-q', *s.words('killed', *HALVING), code=73)
    _, error = run('-q', *s.words('killed', *HALVING, '--resume', '--seed', 8), code=78)
    check('another seed is refused', 'another sweep: optim.lr differs' in error)
    _, error = run('-q', *s.words('killed', *HALVING, '--resume', '--set', 'optim.beta2=0.9'), code=78)
    check('another config is refused', 'another sweep: its config differs' in error)
    s.write_space(SPACE)


def failing(s):
    s.write_space('optim.lr: [1e-3, 1000]\noptim.name: [sgd]\n')
    out, error = run(*s.words('failing', '--trials', 6, '--set', 'train.epochs=1', '--set', 'data.labels=[normal_ecg]'))
    sweep = read_json(s.tmp + '/failing/sweep.json')
    bad = [t for t in sweep['trials'] if float(t['values']['optim.lr']) > 1]
    check('trials that diverge rank last', 0 < len(bad) < 6 and sweep['trials'][-len(bad):] == bad
          and all('diverged' in t['error'] and t['value'] is None for t in bad))
    check('are named, and are not fatal', '%d of 6 trials failed' % len(bad) in error and bad[0]['trial'] + ' failed' in error
          and out.count(' failed') == len(bad))
    s.write_space('optim.lr: [1000]\noptim.name: [sgd]\n')
    _, error = run('-q', *s.words('all', '--trials', 2, '--set', 'train.epochs=1'), code=1)
    check('all that fail are', 'all 2 trials failed' in error and not os.path.exists(s.tmp + '/all/best.yaml'))


def fine_tuning(s):
    s.write_space('optim.lr: {log: [1e-3, 1e-1]}\nhead.freeze: [true]\n')
    more = ('--weights', s.tmp + '/alone', '--trials', 2, '--set', 'head.targets=[age]', '--set', 'data.labels=null',
            '--set', 'train.epochs=2')
    run('-q', *s.words('tuned', *more))
    sweep = read_json(s.tmp + '/tuned/sweep.json')
    losses = {t['trial']: min(v['loss'] for v in validations('%s/tuned/%s' % (s.tmp, t['trial']))) for t in sweep['trials']}
    check('fine-tuning by the loss', sweep['metric'] == 'loss' and [t['value'] for t in sweep['trials']] == sorted(losses.values())
          and all(t['value'] == losses[t['trial']] for t in sweep['trials']))
    s.write_space('loss.name: [mse, huber]\n')
    _, error = run('-q', *s.words('losses', *more), code=78)
    check('losses of two kinds are not compared', 'loss.name' in error and 'changes what it means' in error)


def refusals(s):
    for text, wanted, *more in (
            ('optim.lrr: [1]', 'unknown key optim.lrr; did you mean optim.lr'),
            ('optim: {lrr: [1]}', 'unknown key optim.lrr'),
            ('optim: 1', 'unknown key optim'),
            ('optim.lr: 1', 'optim.lr: a list of values or a range'),
            ('optim.lr: []', 'optim.lr: the list is empty'),
            ('optim.lr: {lin: [1, 2]}', 'optim.lr: a range is'),
            ('optim.lr: {log: [0, 2]}', 'optim.lr: log: both'),
            ('optim.lr: {log: [1, 2, 3]}', 'optim.lr: a range has two'),
            ('optim.lr: {uniform: [2, 1]}', 'optim.lr: a range\'s first'),
            ('optim.lr: {uniform: [0, .inf]}', 'optim.lr: a range has two'),
            ('train.batch_size: {int: [1.5, 3]}', 'train.batch_size: int'),
            ('train.batch_size: {uniform: [1, 100]}', 'train.batch_size'),
            ('optim.lr: [1e-3]\noptim: {lr: [1e-2]}', 'optim.lr: stands there twice'),
            ('optim.name: [adamm]', 'optim.name'),
            ('data.valid: [a, b]', 'data.valid: trials are compared by it'),
            ('[1]', 'no key to search'),
            ('', 'no key to search'),
            ('optim.lr: [1', 'space.yaml:'),
            ('train.epochs: [1, 2]', 'train.epochs: with --halving', '--halving', '--set', 'train.epochs=9'),
            ('optim.lr: [1]', 'one rung', '--halving', '--trials', 2),
            ('optim.lr: [1]', 'train.steps: --halving', '--halving', '--set', 'train.steps=9'),
            ('optim.lr: [1]', 'data.valid is not set', '--set', 'data.valid=null')):
        s.write_space(text + '\n')
        _, error = run(*s.words('refused', *more), code=78)
        check('refuses ' + (text or 'nothing').replace('\n', ', '), wanted in error, '' if wanted in error else error)
    for more in (('--trials', 0), ('--jobs', 0), ('--halving', '--eta', 1)):
        run(*s.words('refused', *more), code=2)
    s.write_space('optim.lr: [1]\n')
    _, error = run(*s.words('refused', '--weights', s.tmp + '/nowhere', '--set', 'head.labels=[normal_ecg]'), code=66)
    check('what would stop every trial stops the sweep', 'nowhere' in error)
    run('sweep', s.config, '--space', s.tmp + '/nowhere', '--out', s.tmp + '/refused', code=66)


if __name__ == '__main__':
    os.environ.pop('SLURM_ARRAY_TASK_ID', None)
    with tempfile.TemporaryDirectory() as tmp:
        setting = Setting(tmp)
        any_layout(setting, table_is_the_runs(setting))
        killed_and_stopped(setting, halving(setting))
        failing(setting)
        fine_tuning(setting)
        refusals(setting)
    print('%d passed, %d failed, 0 skipped' % (passed, failed))
    sys.exit(failed != 0)
