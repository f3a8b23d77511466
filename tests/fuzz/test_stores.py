"""A store with changed bytes is refused with the file's name, or has the same content; it never ends the process."""

import contextlib
import json
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import strategies as st

from espalike.data.schema import RecordError, check, row_digest, to_row
from espalike.data.shards import file_checksum, manifest_checksum, summarise
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


def written(folder, table):
    """A store with a shard that someone wrote, and its checksums."""
    manifest = json.loads((folder / "manifest.json").read_text())
    with pa.OSFile(str(folder / manifest["data"]), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    manifest["checksums"] = {manifest["data"]: file_checksum(folder / manifest["data"])}
    with contextlib.suppress(pa.ArrowException, KeyError, AttributeError, TypeError, ValueError, IndexError):
        manifest |= summarise([table])
    manifest["checksum"] = manifest_checksum(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def changed_table(data: st.DataObject, table: pa.Table) -> pa.Table:
    """A table with other lists in one row, other rows, or other columns."""
    kind = data.draw(st.sampled_from(["lists", "lists", "lists", "rows", "without", "twice", "type"]))
    rows = st.integers(0, table.num_rows - 1)
    if kind == "rows":
        return table.take(data.draw(st.lists(rows, min_size=1, max_size=6)))
    name = data.draw(st.sampled_from(table.column_names))
    place, field = table.column_names.index(name), table.schema.field(name)
    if kind == "without":
        return table.drop_columns([name])
    if kind == "twice":
        return table.append_column(field, table.column(name))
    if kind == "type":
        column = table.column(name).combine_chunks()
        return table.set_column(place, name, column.dictionary_encode() if field.type == pa.string() else column)
    values = table.column(name).to_pylist()
    row, other = data.draw(rows), data.draw(rows)
    if values[row] and pa.types.is_list(field.type):
        whole = list(values[row])
        end, number = data.draw(st.integers(0, len(whole))), data.draw(st.sampled_from([-1, 0, 7, 99]))
        values[row] = data.draw(
            st.sampled_from([whole[:end], whole + whole[:end], [], [number, *whole[1:]], values[other]])
        )
    else:
        values[row] = data.draw(st.sampled_from([None, "", "x", values[other]]))
    try:
        return table.set_column(place, field, pa.array(values, type=field.type))
    except (pa.ArrowException, TypeError, OverflowError):  # the type has no such value
        return table


@amounts(few=60, share=0.05)
def test_shards_that_someone_wrote(tmp_path, examples):
    """A table of other rows, lists or columns, with its checksums: refused by name, or records that can be stored."""
    rng = np.random.default_rng(0)
    kinds = [("esp", "dipole"), ("reference", "scan"), ("no forces",), ()]
    records = [with_labels(build_record(s, 3, seed=i), rng, *kinds[i]) for i, s in enumerate(["CO", "C", "O", "CC"])]
    store = write_store(tmp_path / "store", records, manifest=MANIFEST)
    shard = store.path / store.manifest["data"]
    original, manifest = shard.read_bytes(), (store.path / "manifest.json").read_bytes()
    table = pa.ipc.open_file(pa.py_buffer(original)).read_all()

    def check_one(data: st.DataObject) -> None:
        (store.path / "manifest.json").write_bytes(manifest)
        changed = changed_table(data, table)
        written(store.path, changed)
        try:
            with limited():
                found = list(Store.open(store.path).records())
        except StoreError as error:
            assert shard.name in str(error) or str(store.path) in str(error), error
            return
        assert len(found) == changed.num_rows
        for record in found:
            try:
                check(record)
            except RecordError as error:
                assert error.reason in ("level of theory unknown", "source unknown", "no identifier", "unknown kind")

    explore(check_one, examples)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("energy", lambda v: v[:-1], r"entry 'CO-0': its 54 xyz do not fit the shape \(K, A, 3\)"),
        ("xyz", lambda v: v[:-1], r"entry 'CO-0': its 53 xyz do not fit the shape \(K, A, 3\)"),
        ("charges", lambda v: v[:-1], r"entry 'CO-0': its 5 charges do not fit the shape \(A\)"),
        ("numbers", lambda v: [0, *v[1:]], "entry 'CO-0': its 6 numbers are no atomic numbers"),
        ("orders", lambda v: [4, *v[1:]], "entry 'CO-0': its 5 orders are not 1, 2 and 3"),
        ("bonds", lambda v: [*v[:-1], 6], "entry 'CO-0': its 10 bonds name atoms that it lacks"),
        ("split", lambda v: "holdout", "split 'holdout'; expected train, val, test, or none"),
        ("id", lambda v: "C-0", "2 entries have 1 identifiers"),
    ],
)
def test_rows_that_are_no_records(tmp_path, name, change, message):
    store = write_store(tmp_path / "store", [build_record("CO", 3), build_record("C", 2)], manifest=MANIFEST)
    table = pa.ipc.open_file(pa.py_buffer((store.path / store.manifest["data"]).read_bytes())).read_all()
    field, values = table.schema.field(name), table.column(name).to_pylist()
    column = pa.array([change(values[0]), *values[1:]], type=field.type)
    written(store.path, table.set_column(table.column_names.index(name), field, column))
    with pytest.raises(StoreError, match=message):
        Store.open(store.path)
