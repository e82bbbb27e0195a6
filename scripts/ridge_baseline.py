#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a linear model reaches without a network: ridge regression on log-spectra and lead covariances of each record.

    python3 scripts/ridge_baseline.py DATASET --train 1-8 --test 9 [--labels a,b] [--targets c]

DATASET is a folder of shards with folds. The strength of the ridge is chosen on a fifth of the training part. Prints AUROC per
label and MAE per target on the test folds: what a fine-tuned network has to beat. Needs numpy, h5py, scikit-learn."""
import argparse
import glob
import os

import h5py
import numpy as np
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error, roc_auc_score


def names(dataset):
    n = dataset.attrs['names']
    return (n.decode() if isinstance(n, bytes) else n).split('\n')


def read(folder):
    parts = {}
    columns = {}
    for path in sorted(glob.glob(os.path.join(folder, '*.h5'))):
        with h5py.File(path) as f:
            part = {'ecg': f['ecg'][:].astype(np.float32) * f['scale'][:][:, None, None], 'fold': f['fold'][:]}
            for kind in ('labels', 'targets'):
                if kind in f:
                    columns[kind] = names(f[kind])
                    part[kind] = f[kind][:].astype(np.float32)
            for k, v in part.items():
                parts.setdefault(k, []).append(v)
    return {k: np.concatenate(v) for k, v in parts.items()}, columns


def features(x):
    x = (x - x.mean((1, 2), keepdims=True)) / (x.std((1, 2), keepdims=True) + 1e-8)
    power = np.abs(np.fft.rfft(x, axis=2)) ** 2
    bands = np.array_split(power, 60, axis=2)
    spectra = np.log(np.stack([b.mean(2) for b in bands], 2) + 1e-6).reshape(len(x), -1)
    cov = np.einsum('ncl,nkl->nck', x, x) / x.shape[2]
    upper = np.triu_indices(x.shape[1])
    return np.concatenate([spectra, cov[:, upper[0], upper[1]]], 1)


def folds(text):
    a, _, b = text.partition('-')
    return range(int(a), int(b or a) + 1)


def fit_predict(x, y, train, test, score):
    inner = np.arange(train.sum()) % 5 == 0
    xt, yt = x[train], y[train]
    best = max((score(yt[inner], Ridge(a).fit(xt[~inner], yt[~inner]).predict(xt[inner])), a)
               for a in 10.0 ** np.arange(1, 6))
    return Ridge(best[1]).fit(xt, yt).predict(x[test])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('dataset')
    p.add_argument('--train', default='1-8')
    p.add_argument('--test', default='9')
    p.add_argument('--labels', default='')
    p.add_argument('--targets', default='')
    a = p.parse_args()
    data, columns = read(a.dataset)
    x = features(data['ecg'])
    train, test = np.isin(data['fold'], folds(a.train)), np.isin(data['fold'], folds(a.test))
    x = (x - x[train].mean(0)) / (x[train].std(0) + 1e-8)
    for name in filter(None, a.labels.split(',')):
        y = data['labels'][:, columns['labels'].index(name)]
        known = y != 255
        z = fit_predict(x, y, train & known, test & known, roc_auc_score)
        print('%-24s AUROC %.3f' % (name, roc_auc_score(y[test & known], z)))
    for name in filter(None, a.targets.split(',')):
        y = data['targets'][:, columns['targets'].index(name)]
        known = ~np.isnan(y)
        z = fit_predict(x, y, train & known, test & known, lambda t, v: -mean_absolute_error(t, v))
        print('%-24s MAE   %.3f' % (name, mean_absolute_error(y[test & known], z)))


if __name__ == '__main__':
    main()
