# SPDX-License-Identifier: MIT
"""Data sets between h5py and Einthoven: hand-made shards of every kind in our reader, and our shards in h5py.

    python3 tests/test_shard_h5py.py [PROGRAM]      PROGRAM: the built test_shard, by default that of
                                                    $EINTHOVEN_TESTS, else the newest; "PROGRAM --dump PATH" prints
                                                    what the reader sees as JSON, "PROGRAM --write DIR N" writes
"""
import glob
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

try:
    import h5py
except ImportError as error:
    h5py, reason = None, str(error)

N, C, L = 13, 3, 40
rng = np.random.default_rng(3)
ECG = rng.integers(-32768, 32768, (N, C, L)).astype(np.int16)
ECG[5:9] = 7  # compresses well
SCALE = rng.uniform(1e-4, 1e-2, N).astype(np.float32)
LABELS = rng.choice([0, 1, 255], (N, 2)).astype(np.uint8)
TARGETS = rng.normal(50, 20, (N, 2)).astype(np.float32)
TARGETS[3, 1] = np.nan
IDS = [f"rec{'x' * (i % 4)}/{i}\u00e4" for i in range(N)]
PATIENTS = [f"p{i // 2}" for i in range(N)]
FOLD = np.arange(N) % 10 + 1
failed = passed = 0


def check(name, ok, said=""):
    global failed, passed
    failed += not ok
    passed += bool(ok)
    print(f"{'ok' if ok else 'FAILED':<8}{name}{'' if ok else ' ' + str(said)[:300]}")


def dump(program, path):
    """What our reader sees, or its message and exit code."""
    run = subprocess.run([program, "--dump", path], capture_output=True, check=False)
    if run.returncode != 0:
        return run.stderr.decode(errors="replace").strip(), run.returncode
    return json.loads(run.stdout.decode(errors="replace")), 0


def floats(rows):
    return np.array([[np.nan if v is None else v for v in row] for row in rows], np.float32)


def difference(seen, n, labels, targets, patients, fold):
    """What our reader saw differently; "" when all is equal."""
    records = seen["records"]
    if len(records) != n:
        return f"{len(records)} records"
    if [r["record_id"] for r in records] != IDS[:n]:
        return "record_id"
    if [r["patient_id"] for r in records] != (PATIENTS if patients else IDS)[:n]:
        return "patient_id"
    if [r["fold"] for r in records] != ([int(v) for v in FOLD[:n]] if fold else [-1] * n):
        return "fold"
    if not np.array_equal(np.array([r["ecg"] for r in records]).reshape(n, C, L), ECG[:n]):
        return "ecg"
    if not np.array_equal(np.float32([r["scale"] for r in records]), SCALE[:n]):
        return "scale"
    if labels and not np.array_equal([r["labels"] for r in records], LABELS[:n]):
        return "labels"
    if targets and not np.array_equal(floats([r["targets"] for r in records]), TARGETS[:n], equal_nan=True):
        return "targets"
    return ""


def attributes(f, kind="str"):
    """The root's attributes as Python text, as fixed-length bytes, or as arrays and odd number types."""
    text = np.bytes_ if kind == "bytes" else str
    f.attrs["format"] = text("ecg-shard")
    f.attrs["version"] = np.int8(1) if kind == "arrays" else 1
    f.attrs["sampling_rate"] = np.float32(500) if kind == "arrays" else 500
    f.attrs["leads"] = ["I", "II", "V1"] if kind == "arrays" else text("I,II,V1")
    f.attrs["units"] = np.array(["mV"], "S2") if kind == "arrays" else text("mV")
    f.attrs["preprocessing"] = text("none")


def minimal(f, n=N, ecg=None, **options):
    """The five lines: /ecg with the given storage, /scale and /record_id."""
    f.create_dataset("ecg", data=ECG[:n] if ecg is None else ecg, **options)
    f["scale"] = SCALE[:n]
    f.create_dataset("record_id", data=IDS[:n], dtype=h5py.string_dtype())


def tables(f, label_type="u1", target_type="f4", names=None, **options):
    f.create_dataset("labels", data=LABELS.astype(label_type), **options)
    f.create_dataset("targets", data=TARGETS.astype(target_type), **options)
    f["labels"].attrs["names"] = names or "af\nmi"
    f["targets"].attrs["names"] = names or "age\nhr"


def whole(f, **options):
    attributes(f)
    minimal(f, **options)


# name -> (how to write it, {what differs from a minimal shard})
def good():
    archive = {"shuffle": True, "compression": "gzip"}

    def everything(f):
        attributes(f, "bytes")
        minimal(f, chunks=(5, C, L), **archive)
        tables(f, "i8", "f8")
        f["patient_id"] = np.array(PATIENTS, "S8")
        f["fold"] = FOLD.astype("i8")

    def odd_types(f):
        attributes(f, "arrays")
        f["ecg"] = ECG
        f["scale"] = SCALE.astype(">f8")
        f["record_id"] = np.array([i.encode() for i in IDS])
        tables(f, "f8", ">f4", names=["x", "y"])

    def compressed_tables(f):
        whole(f)
        tables(f, "i2", "f8", compression="gzip", chunks=(4, 2))
        f.create_dataset("patient_id", data=PATIENTS, compression="gzip", chunks=(4,))
        f.create_dataset("fold", data=FOLD.astype("f4"), compression="gzip", chunks=(4,))

    def unsigned_tables(f):
        whole(f)
        tables(f, "u8", "f8")

    def late(f):
        whole(f, n=N, ecg=np.zeros((0, C, L), np.int16), maxshape=(None, C, L), chunks=(64, C, L))
        f["ecg"].resize(N, 0)
        f["ecg"][:] = ECG

    def linked(f):
        whole(f)
        f["elsewhere"] = f["ecg"]
        del f["ecg"]
        f["ecg"] = h5py.SoftLink("/elsewhere")

    return {
        "contiguous": (whole, {}),
        "everything, chunked by 5 with shuffle and gzip": (
            everything, {"labels": True, "targets": True, "patients": True, "fold": True}),
        "odd types and arrays of strings": (odd_types, {"labels": True, "targets": True}),
        "compressed tables": (
            compressed_tables, {"labels": True, "targets": True, "patients": True, "fold": True}),
        "uint64 labels, float64 targets": (unsigned_tables, {"labels": True, "targets": True}),
        "gzip, a record a chunk": (lambda f: whole(f, chunks=(1, C, L), compression="gzip"), {}),
        "shuffle only": (lambda f: whole(f, chunks=(4, C, L), shuffle=True), {}),
        "chunked, no filter": (lambda f: whole(f, chunks=(4, C, L)), {}),
        "grown later, a chunk larger than the data": (late, {}),
        "shuffle, gzip and a checksum": (lambda f: whole(f, chunks=(4, C, L), fletcher32=True, **archive), {}),
        "chunks of pieces of records": (lambda f: whole(f, chunks=(4, 1, 16), **archive), {}),
        "big-endian": (lambda f: whole(f, ecg=ECG.astype(">i2")), {}),
        "big-endian, chunked": (lambda f: whole(f, ecg=ECG.astype(">i2"), chunks=(4, C, L), **archive), {}),
        "a soft link": (linked, {}),
    }


def bad():
    def without(name):
        def write(f):
            whole(f)
            del f[name]
        return write

    def external(f):
        attributes(f)
        minimal(f)
        del f["ecg"]
        with open(os.path.join(os.path.dirname(f.filename), "raw"), "wb") as raw:
            raw.write(ECG.tobytes())
        f.create_dataset("ecg", ECG.shape, ECG.dtype, external="raw")

    def virtual(f):
        whole(f)
        f.move("ecg", "source")
        layout = h5py.VirtualLayout(ECG.shape, ECG.dtype)
        layout[:] = h5py.VirtualSource(f["source"])
        f.create_virtual_dataset("ecg", layout)

    def label(value, kind):
        def write(f):
            whole(f)
            f["labels"] = np.full((N, 1), value, kind)
            f["labels"].attrs["names"] = "af"
        return write

    def huge(f):
        whole(f)
        del f["ecg"]
        f.create_dataset("ecg", (1 << 40, C, L), "i2", chunks=(1, C, L), compression="gzip")

    def compound(f):
        whole(f)
        del f["scale"]
        f["scale"] = np.zeros(N, [("a", "f4"), ("b", "i4")])

    def infinite(f):
        whole(f)
        f["scale"][3] = np.inf

    def rank(f):
        whole(f)
        f["labels"] = LABELS[:, 0]

    return {
        "no record_id": (without("record_id"), "/record_id"),
        "no scale": (without("scale"), "/scale"),
        "external data": (external, "other files"),
        "virtual data": (virtual, "other files"),
        "label 2": (label(2, "u1"), "label"),
        "label -1": (label(-1, "i1"), "label"),
        "label 0.5": (label(0.5, "f8"), "label"),
        "label NaN": (label(np.nan, "f4"), "label"),
        "float ecg": (lambda f: whole(f, ecg=ECG.astype("f4")), "int16 wanted, found float32"),
        "uint16 ecg": (lambda f: whole(f, ecg=ECG.view("u2")), "int16 wanted, found uint16"),
        "two axes": (lambda f: whole(f, ecg=ECG[:, 0]), "3 axes"),
        "a size no file can hold": (huge, "than the file can hold"),
        "compound scale": (compound, "/scale: numbers wanted"),
        "infinite scale": (infinite, "/scale: record 3"),
        "a filter that is not there": (
            lambda f: whole(f, chunks=(4, C, L), compression="lzf"), '/ecg: is compressed by "lzf"'),
        "labels of one axis": (rank, "/labels: 2 axes wanted"),
    }


def write(path, how, **options):
    with h5py.File(path, "w", **options) as f:
        how(f)


def read_theirs(program, tmp):
    for name, (how, differs) in good().items():
        wanted = dict({"n": N, "labels": False, "targets": False, "patients": False, "fold": False}, **differs)
        for options in ({}, {"libver": ("v110", "v110")}, {"userblock_size": 1024}):
            path = os.path.join(tmp, "hand.h5")
            write(path, how, **options)
            seen, code = dump(program, path)
            said = seen if code else difference(seen, **wanted)
            check(f"{name}{' ' + str(options) if options else ''}", said == "", said)


def refuse_theirs(program, tmp):
    for name, (how, text) in bad().items():
        path = os.path.join(tmp, "bad.h5")
        write(path, how)
        said, code = dump(program, path)
        check(f"refused: {name}", code == 65 and text in str(said) and "bad.h5" in str(said), (code, said))


def damaged_chunks(program, tmp):
    path = os.path.join(tmp, "chunk.h5")
    write(path, lambda f: whole(f, chunks=(5, C, L), shuffle=True, compression="gzip"))
    with h5py.File(path) as f:
        place = f["ecg"].id.get_chunk_info(1).byte_offset
    with open(path, "r+b") as f:
        f.seek(place + 100)
        byte = f.read(1)[0]
        f.seek(place + 100)
        f.write(bytes([byte ^ 4]))
    said, code = dump(program, path)
    check("refused: a damaged chunk", code == 65 and "is damaged" in str(said), (code, said))


def changed_bytes(program, tmp):
    """One byte changed anywhere: read or refused, never a crash (the old format has no checksums)."""
    path = os.path.join(tmp, "changed.h5")

    def how(f):
        whole(f)
        tables(f)
        f["patient_id"] = PATIENTS

    write(path, how)
    with open(path, "rb") as f:
        raw = bytearray(f.read())
    codes = []
    for _ in range(150):
        at = int(rng.integers(len(raw)))
        old, raw[at] = raw[at], int(rng.integers(256))
        with open(path, "wb") as f:
            f.write(raw)
        raw[at] = old
        codes.append(dump(program, path)[1])
    check(f"{len(codes)} changed files, {codes.count(65)} refused", set(codes) <= {0, 65}, set(codes))


def folders(program, tmp):
    folder = os.path.join(tmp, "folder")
    os.mkdir(folder)
    write(os.path.join(folder, "a.h5"), lambda f: whole(f, n=0, ecg=ECG[:0]))
    write(os.path.join(folder, "b.h5"), whole)
    seen, code = dump(program, folder)
    said = seen if code else difference(seen, N, False, False, False, False)
    check("an empty shard and a full one", said == "", said)


def blank_patients(program, tmp):
    path = os.path.join(tmp, "blank.h5")

    def how(f):
        whole(f)
        f["patient_id"] = ["", "a"] + [""] * (N - 2)

    write(path, how)
    seen, code = dump(program, path)
    ids = [r["patient_id"] for r in seen["records"]] if code == 0 else seen
    check("an empty patient_id stands for the record", ids == IDS[:1] + ["a"] + IDS[2:], ids)


def number_ids(program, tmp):
    path = os.path.join(tmp, "numbers.h5")

    def how(f):
        whole(f)
        del f["record_id"]
        f["record_id"] = np.arange(N) - 3

    write(path, how)
    seen, code = dump(program, path)
    ids = [r["record_id"] for r in seen["records"]] if code == 0 else seen
    check("ids that are numbers", ids == [str(i - 3) for i in range(N)], ids)


def bool_labels(program, tmp):
    for options in ({}, {"compression": "gzip", "chunks": (4, 1)}):
        path = os.path.join(tmp, "bool.h5")

        def how(f):
            whole(f)
            f.create_dataset("labels", data=np.arange(N)[:, None] % 3 == 0, **options)
            f["labels"].attrs["names"] = "third"

        write(path, how)
        seen, code = dump(program, path)
        labels = [r["labels"][0] for r in seen["records"]] if code == 0 else seen
        check(f"labels of bool {options}", labels == [int(i % 3 == 0) for i in range(N)], labels)


def read_ours(program, tmp):
    folder = os.path.join(tmp, "ours")
    n = 10
    check("writer", subprocess.run([program, "--write", folder, str(n)], check=False).returncode == 0)
    seen, _ = dump(program, folder)
    with h5py.File(os.path.join(folder, "shard-00000.h5")) as f:
        a = f.attrs
        check("h5py: attributes", (a["format"], a["version"], a["sampling_rate"], a["leads"], a["units"],
                                   a["preprocessing"]) == ("ecg-shard", 1, 500, "I,II,V1", "mV", "none"))
        check("h5py: names", f["labels"].attrs["names"] == "af\nmi \u00e4" and f["targets"].attrs["names"] == "age\nhr")
        e = f["ecg"]
        check("h5py: /ecg int16 in one piece", e.dtype == "<i2" and e.chunks is None and e.id.get_offset() > 0)
        records = seen["records"]
        check("h5py: ecg", np.array_equal(e[:].reshape(n, -1), [r["ecg"] for r in records]))
        check("h5py: scale", f["scale"].dtype == "<f4" and
              np.array_equal(f["scale"][:], np.float32([r["scale"] for r in records])))
        check("h5py: labels", f["labels"].dtype == "u1" and
              np.array_equal(f["labels"][:], [r["labels"] for r in records]))
        check("h5py: targets", f["targets"].dtype == "<f4" and
              np.array_equal(f["targets"][:], floats([r["targets"] for r in records]), equal_nan=True))
        check("h5py: fold", f["fold"].dtype == "<i2" and list(f["fold"]) == [r["fold"] for r in records])
        for key in ("record_id", "patient_id"):
            check(f"h5py: {key}", [v.decode() for v in f[key]] == [r[key] for r in records])
            info = h5py.check_string_dtype(f[key].dtype)
            check(f"h5py: {key} is fixed-length UTF-8", info.encoding == "utf-8" and info.length is not None)


def main(program):
    if h5py is None:
        print(f"skipped h5py ({reason})")
        print("0 passed, 0 failed, 1 skipped")
        return 0
    with tempfile.TemporaryDirectory() as tmp:
        for part in (read_theirs, refuse_theirs, damaged_chunks, changed_bytes, folders, blank_patients, number_ids,
                     bool_labels, read_ours):
            part(program, tmp)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return failed != 0


if __name__ == "__main__":
    built = [os.path.join(os.environ["EINTHOVEN_TESTS"], "test_shard")] if "EINTHOVEN_TESTS" in os.environ else \
        sorted(glob.glob("build/obj-*/tests/test_shard"), key=os.path.getmtime)
    if len(sys.argv) < 2 and not built:
        sys.exit("build the tests first")
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else built[-1]))
