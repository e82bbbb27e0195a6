# SPDX-License-Identifier: MIT
"""The WFDB reader against wfdb-python: physical values equal in double, bit for bit.

    python3 tests/test_import_wfdb.py [PROGRAM]      PROGRAM: the built test_wfdb, for its --dump

Compares every record below $EINTHOVEN_SHARED/ecg (or ../shared/ecg) whose format the reader takes, and records that this
script writes. What wfdb-python can't open, or reads with several samples per frame averaged, must be refused, apart from
headers whose only sin is the record's name.
"""
import glob
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import wfdb
except ImportError as error:
    wfdb, reason = None, str(error)

FORMATS = {"16", "80", "212"}
UNITS = {"mv": 1, "uv": 1000, "v": 1e-3}


def ours(program, record, folder):
    """(rate, lead names, (L, C) values) or the reader's message."""
    out = os.path.join(folder, "dump")
    run = subprocess.run([program, "--dump", record, out], capture_output=True, text=True, check=False)
    if run.returncode == 65:
        return run.stderr.strip()
    assert run.returncode == 0, (record, run)
    with open(out, "rb") as f:
        rate, length, leads = f.readline().decode().rstrip("\n").split(" ", 2)
        leads = leads.split(",")
        return float(rate), leads, np.frombuffer(f.read()).reshape(len(leads), int(length)).T


def theirs(record):
    """The same from wfdb-python, voltages only and in mV; None where the reader must refuse, with why."""
    try:
        header = wfdb.rdheader(record)
        if not hasattr(header, "fmt") or header.fmt is None:
            return None, "segments"
        if not set(header.fmt) <= FORMATS:
            return None, "format"
        if set(header.samps_per_frame) != {1}:
            return None, "frames"
        r = wfdb.rdrecord(record)
    except (ValueError, FileNotFoundError) as e:
        return None, type(e).__name__
    keep = [i for i, u in enumerate(r.units) if u.lower() in UNITS]
    if not keep:
        return None, "no voltage"
    values = r.p_signal[:, keep]
    factor = np.array([UNITS[r.units[i].lower()] for i in keep])
    return (float(r.fs), [r.sig_name[i] for i in keep], np.where(factor == 1, values, values / factor)), ""


def compare(program, record, folder):
    """'equal', or why it was refused; an AssertionError else."""
    mine, (reference, why) = ours(program, record, folder), theirs(record)
    if reference is None:
        if why == "HeaderSyntaxError" and not isinstance(mine, str):
            return "read by us alone"
        assert isinstance(mine, str), f"{record}: read, though wfdb-python says {why}"
        return f"refused: {why}"
    assert not isinstance(mine, str), f"{record}: {mine}"
    assert mine[0] == reference[0], f"{record}: rate {mine[0]}, wfdb-python {reference[0]}"
    assert [x.lower() for x in mine[1]] == [x.strip().lower() for x in reference[1]], f"{record}: {mine[1]}"
    assert mine[2].shape == reference[2].shape, f"{record}: {mine[2].shape}, wfdb-python {reference[2].shape}"
    same = (mine[2] == reference[2]) | (np.isnan(mine[2]) & np.isnan(reference[2]))
    assert same.all(), f"{record}: {int((~same).sum())} values differ"
    return "equal"


def write_records(folder):
    """Records in every format that the reader takes, with wfdb-python's own writer."""
    rng = np.random.default_rng(1)
    for fmt, low, high in (("16", -32768, 32768), ("212", -2048, 2048), ("80", -128, 128)):
        for n in (1, 2, 7, 500):
            d = rng.integers(low, high, (n, 3))
            wfdb.wrsamp(f"made_{fmt}_{n}", fs=360, units=["mV", "uV", "mV"], sig_name=["I", "II", "V1"],
                        d_signal=d, fmt=[fmt] * 3, adc_gain=[200.0, 1716.0, 1000.5], baseline=[0, -7, 1024],
                        write_dir=folder)


def records_below(folder):
    for at, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if name.endswith(".hea"):
                yield os.path.join(at, name[:-4])


def main(program):
    shared = os.environ.get("EINTHOVEN_SHARED", "../shared")
    counts, failed = {}, 0
    with tempfile.TemporaryDirectory() as folder:
        write_records(folder)
        for record in [*records_below(folder), *records_below(os.path.join(shared, "ecg"))]:
            try:
                result = compare(program, record, folder)
            except AssertionError as e:
                result = "different"
                failed += 1
                print(f"FAILED {e}")
            counts[result] = counts.get(result, 0) + 1
    for result, n in sorted(counts.items()):
        print(f"{n:4d} {result}")
    print(f"{sum(counts.values()) - failed} passed, {failed} failed, 0 skipped")
    return failed != 0 or counts.get("equal", 0) < 12


def built():
    folders = [os.environ["EINTHOVEN_TESTS"]] if "EINTHOVEN_TESTS" in os.environ else glob.glob("build/obj-*/tests")
    programs = [p for p in (os.path.join(f, "test_wfdb") for f in folders) if os.path.exists(p)]
    return max(programs, key=os.path.getmtime) if programs else sys.exit("build the tests first")


if __name__ == "__main__":
    if wfdb is None:
        print(f"skipped wfdb-python ({reason})\n0 passed, 0 failed, 1 skipped")
        sys.exit(0)
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else built()))
