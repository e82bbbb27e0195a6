# SPDX-License-Identifier: MIT
"""A test of PyTorch's files once more under another PyTorch: the interpreter in EINTHOVEN_TORCH2_PYTHON (of a virtual
environment with PyTorch 2, which Debian 12 does not have)."""
import os
import subprocess

NAME = 'EINTHOVEN_TORCH2_PYTHON'


def counts(lines):
    """(passed, failed, skipped) of a closing line; None: there is none."""
    words = lines[-1].split() if lines else []
    if words[1:6:2] != ['passed,', 'failed,', 'skipped']:
        return None
    return tuple(int(w) for w in words[0:6:2])


def finish(passed, failed, script, skipped=0):
    """Runs the script there, prints the closing line of both, returns the exit code."""
    python = os.environ.get(NAME)
    if python:
        print('under %s:' % python, flush=True)
        done = subprocess.run([python, script], stdout=subprocess.PIPE, text=True, env=dict(os.environ, **{NAME: ''}))
        lines = done.stdout.strip().split('\n')
        print('\n'.join(lines[:-1]))
        there = counts(lines)
        if there is None or (done.returncode == 0) != (there[1] == 0):
            print('FAILED  %s: %s, exit %d' % (python, lines[-1], done.returncode))
            there = (0, 1, 0)
        passed, failed, skipped = passed + there[0], failed + there[1], skipped + there[2]
    elif python is None:  # not the run under the other one
        print('skipped PyTorch 2 (%s names no interpreter that has it)' % NAME)
        skipped += 1
    print('%d passed, %d failed, %d skipped' % (passed, failed, skipped))
    return failed != 0
