#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""tests/test_heads.py with more records and epochs, all heads fine-tuned in full, and two seeds: nearer to what the simulation
allows."""
import os
import sys
import tempfile

import h5py  # noqa: F401
import numpy  # noqa: F401

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import test_heads as t  # noqa: E402

for seed in (1, 2):
    print('seed %d' % seed)
    with tempfile.TemporaryDirectory() as folder:
        t.main(folder, 8000, 16, 10, seed, True)
print('%d passed, %d failed, 0 skipped' % (t.passed, t.failed))
sys.exit(t.failed > 0)
