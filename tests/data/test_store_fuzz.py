"""A store with changed bytes is refused with the file's name, or has the same content; it never ends the process."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.data.conftest import build_record, with_labels

CHANGES = 150
"""Changed files per store and file."""

PROGRAM = """
import json, sys
from pathlib import Path
from espalike.data.schema import row_digest, to_row
from espalike.data.store import Store, StoreError

def content(folder):
    store = Store.open(folder)
    return [row_digest(to_row(record)).hex() for record in store.records()], store.counts, store.hash

folder, whole = Path(sys.argv[1]), content(sys.argv[1])
for line in Path(sys.argv[2]).read_text().splitlines():
    name, start, bytes_ = json.loads(line)
    path = folder / name
    original = path.read_bytes()
    data = bytearray(original)
    data[start : start + len(bytes_) // 2] = bytes.fromhex(bytes_)
    path.write_bytes(data)
    print(line, flush=True)
    try:
        outcome = "same" if content(folder) == whole else "OTHER CONTENT"
    except StoreError as error:
        named = name in str(error) or "manifest.json" in str(error) or str(folder) in str(error)
        outcome = "refused" if named else f"NOT NAMED: {error}"
    path.write_bytes(original)
    print(outcome, flush=True)
"""


def changes(folder, rng):
    """Bytes anywhere in the files, more of them where Arrow keeps its lengths: at the ends."""
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for i in range(CHANGES):
            at = int(rng.integers(len(whole)))
            if path.suffix == ".arrow" and i % 3 == 0:
                at = len(whole) - 1 - int(rng.integers(min(4000, len(whole))))
            elif path.suffix == ".arrow" and i % 3 == 1:
                at = int(rng.integers(min(6000, len(whole))))
            bytes_ = rng.integers(0, 256, int(rng.integers(1, 9)), dtype=np.uint8).tobytes()
            if i % 2:
                bytes_ = bytes([whole[at] ^ (1 << int(rng.integers(8)))])
            yield path.name, at, bytes_[: len(whole) - at].hex()


@pytest.mark.parametrize("sealed", [True, False])
def test_changed_bytes(store_of, tmp_path, sealed):
    rng = np.random.default_rng(3)
    kinds = [("esp", "dipole"), ("reference", "scan"), ("no forces",), ()]
    store = store_of(
        *(with_labels(build_record(s, 3, seed=i), rng, *kinds[i]) for i, s in enumerate(["CO", "C", "O", "CC"]))
    )
    if not sealed:  # of a version before the checksums
        manifest = {k: v for k, v in store.manifest.items() if k not in ("checksums", "checksum")}
        (store.path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "changes").write_text("".join(json.dumps(change) + "\n" for change in changes(store.path, rng)))
    folder = shutil.copytree(store.path, tmp_path / "copy")
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, folder, tmp_path / "changes"], capture_output=True, text=True, timeout=300
    )
    lines = result.stdout.splitlines()
    assert result.returncode == 0, f"the process ended after {lines[-1:]}: {result.stderr[-2000:]}"
    outcomes = dict(zip(lines[::2], lines[1::2], strict=True))
    assert not {line: outcome for line, outcome in outcomes.items() if outcome not in ("refused", "same")}
    assert len(outcomes) > 250
    assert list(outcomes.values()).count("refused") > 150
