"""A store with changed bytes is refused with the file's name, or has the same content; it never ends the process."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import strategies as st

from espalike.data.schema import row_digest, to_row
from espalike.data.shards import manifest_checksum
from espalike.data.store import Store, StoreError, write_store
from tests.data.conftest import MANIFEST, build_record, with_labels
from tests.fuzz.changes import changed_values
from tests.fuzz.guard import amounts, explore, limited

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


def changes(folder, rng, count):
    """Bytes anywhere in each file, more of them where Arrow keeps its lengths: at the ends."""
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for i in range(count):
            at = int(rng.integers(len(whole)))
            if path.suffix == ".arrow" and i % 3 == 0:
                at = len(whole) - 1 - int(rng.integers(min(4000, len(whole))))
            elif path.suffix == ".arrow" and i % 3 == 1:
                at = int(rng.integers(min(6000, len(whole))))
            bytes_ = rng.integers(0, 256, int(rng.integers(1, 9)), dtype=np.uint8).tobytes()
            if i % 2:
                bytes_ = bytes([whole[at] ^ (1 << int(rng.integers(8)))])
            yield path.name, at, bytes_[: len(whole) - at].hex()


@amounts(few=60, share=0.05)
@pytest.mark.parametrize("sealed", [True, False])
def test_changed_bytes(tmp_path, sealed, examples):
    rng = np.random.default_rng(3 if examples < 200 else None)
    kinds = [("esp", "dipole"), ("reference", "scan"), ("no forces",), ()]
    records = (with_labels(build_record(s, 3, seed=i), rng, *kinds[i]) for i, s in enumerate(["CO", "C", "O", "CC"]))
    store = write_store(tmp_path / "store", records, manifest=MANIFEST)
    if not sealed:  # of a version before the checksums
        manifest = {k: v for k, v in store.manifest.items() if k not in ("checksums", "checksum")}
        (store.path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "changes").write_text(
        "".join(json.dumps(change) + "\n" for change in changes(store.path, rng, examples))
    )
    folder = shutil.copytree(store.path, tmp_path / "copy")
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, folder, tmp_path / "changes"], capture_output=True, text=True, timeout=3000
    )
    lines = result.stdout.splitlines()
    assert result.returncode == 0, f"the process ended after {lines[-1:]}: {result.stderr[-2000:]}"
    outcomes = dict(zip(lines[::2], lines[1::2], strict=True))
    assert not {line: outcome for line, outcome in outcomes.items() if outcome not in ("refused", "same")}
    assert len(outcomes) > 1.7 * examples
    assert list(outcomes.values()).count("refused") > examples


@amounts(few=40, share=0.03)
def test_changed_values_of_the_manifest(tmp_path, examples):
    """Also with the checksum of a manifest that was changed on purpose; `espalike info` names the store."""
    store = write_store(tmp_path / "store", [build_record("CO", 3), build_record("C", 2)], manifest=MANIFEST)
    path, original = store.path / "manifest.json", store.manifest
    content = [row_digest(to_row(record)) for record in store.records()]

    def check(data: st.DataObject) -> None:
        manifest = changed_values(data, original)
        if isinstance(manifest, dict) and data.draw(st.booleans()):
            manifest = {**manifest, "checksum": manifest_checksum(manifest)}
        path.write_text(json.dumps(manifest))
        try:
            with limited():
                found = Store.open(store.path)
                assert [row_digest(to_row(record)) for record in found.records()] == content
                found.verify()
                assert repr(found)
                assert found._repr_html_()
        except StoreError as error:
            assert str(store.path) in str(error), error

    explore(check, examples)
