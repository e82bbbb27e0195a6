# SPDX-License-Identifier: MIT
"""safetensors files of ours in the format's own library, and files of the library in ours.

    python3 tests/test_safetensors.py [PROGRAM]      PROGRAM: the built test_safetensors, by default the newest;
                                                     "PROGRAM IN OUT" reads a file and writes it again

Without the package from PyPI the files are checked with numpy alone (tests/fixtures/tensors.py).
"""
import glob
import json
import os
import struct
import subprocess
import sys
import tempfile

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures"))
import tensors  # noqa: E402

try:
    import safetensors.numpy as library
    from safetensors import safe_open
except ImportError as error:
    library, reason = None, str(error)

rng = np.random.default_rng(5)
ARRAYS = {
    "first_conv.conv.weight": rng.normal(size=(4, 12, 16)).astype(np.float32),
    "bn.num_batches_tracked": np.array(12345678901, np.int64),
    "empty": np.zeros((3, 0), np.float32),
    "double": np.array([np.pi, -0.0, np.inf]),
    "int": np.arange(5, dtype=np.int32),
    "bytes": np.array([0, 1, 255], np.uint8),
    "a \"quoted\" \u00e9 name": np.float32(1.5).reshape(1, 1),
}
META = {"format": "pt", "einthoven.labels": "AF\nLBBB \"left\"\n\u00e9"}
failed = 0


def check(name, ok):
    global failed
    failed += not ok
    print(f"{'ok' if ok else 'FAILED':<8}{name}")


def same(a, b):
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and a[k].tobytes() == b[k].tobytes() for k in a)


def content(path):
    with open(path, "rb") as f:
        return f.read()


def order(path):
    """The header's members in their order, and the data; not how strings are escaped."""
    raw = content(path)
    n = 8 + struct.unpack("<Q", raw[:8])[0]
    return list(json.loads(raw[8:n]).items()), raw[n:], n % 8


def main(program):
    skipped = 0
    with tempfile.TemporaryDirectory() as tmp:
        ours, theirs, copy = (os.path.join(tmp, n + ".safetensors") for n in ("ours", "theirs", "copy"))
        tensors.save(theirs, ARRAYS, META)
        check("program reads and writes", subprocess.run([program, theirs, ours]).returncode == 0)
        check("numpy reads ours", same(tensors.load(ours), ARRAYS))
        check("order and data are the format's", order(ours) == order(theirs))
        if library is None:
            print(f"skipped the format's own library ({reason})")
            skipped = 1
        else:
            check("library reads ours", same(library.load_file(ours), ARRAYS))
            with safe_open(ours, "np") as f:
                check("library reads our metadata", f.metadata() == META)
            library.save_file(ARRAYS, theirs, META)
            check("program reads the library's", subprocess.run([program, theirs, copy]).returncode == 0)
            check("nothing was lost", same(library.load_file(copy), ARRAYS))
            check("writing again changes no byte", content(copy) == content(ours))
    print(f"{8 - 5 * skipped - failed} passed, {failed} failed, {skipped} skipped")
    return failed != 0


if __name__ == "__main__":
    built = sorted(glob.glob("build/obj-*/tests/test_safetensors"), key=os.path.getmtime)
    if len(sys.argv) < 2 and not built:
        sys.exit("build the tests first")
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else built[-1]))
