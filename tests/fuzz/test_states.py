"""What stopped jobs leave: a changed file is refused by name, or the job gives what it gives with the whole one."""

import csv
import io
import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import strategies as st

from espalike.check import liquids
from espalike.check import run as checks
from espalike.chem import from_smiles
from espalike.cli.label_input import _splits
from espalike.cli.main import main
from espalike.data.ingest import run as ingest
from espalike.qm.labelling import Job, LabelDirectory
from espalike.qm.sampling import torsions
from tests.cli.inputs import save_model
from tests.data.ingest_job import job
from tests.data.test_ingest import content, interrupted, write
from tests.fuzz.changes import changed_bytes, changed_text, changed_values
from tests.fuzz.guard import amounts, bounded, explore, limited

MOLECULE = from_smiles("CO", "methanol")


def changed_lines(data: st.DataObject, original: bytes) -> bytes:
    """JSON lines with one other value, lines in another order, or changes of bytes and words."""
    lines = original.decode().splitlines()
    kind = data.draw(st.sampled_from(["value", "value", "lines", "text", "bytes"]))
    if kind == "value":
        at = data.draw(st.integers(0, len(lines) - 1))
        lines[at] = json.dumps(changed_values(data, json.loads(lines[at])))
    elif kind == "lines":
        lines = [lines[i] for i in data.draw(st.lists(st.integers(0, len(lines) - 1), max_size=len(lines) + 1))]
    else:
        return (changed_text if kind == "text" else changed_bytes)(data, original)
    return "".join(f"{line}\n" for line in lines).encode()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small model file."""
    return save_model(tmp_path_factory.mktemp("model") / "model.espalike", trained_on=("C", "CO"))


@amounts(few=15, share=0.02)
@pytest.mark.parametrize("name", ["report.jsonl", "report.json"])
def test_reports(model, tmp_path, monkeypatch, name, examples):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.smi").write_text("C a\nC1CC broken\nO b\nCO c\n")
    lines = tmp_path / ("report.json.unfinished" if name == "report.json" else name)

    def rows():
        text = (tmp_path / name).read_text()
        found = [json.loads(line) for line in text.splitlines()] if lines.name == name else [json.loads(text)]
        inputs = found[0].pop("inputs", None) or [row for row in found if "input" in row]
        return [{k: v for k, v in row.items() if k not in ("seconds", "crc32")} for row in inputs], found[-1]

    command = ["parametrize", "x.smi", "--model", model, "--out", "out", "--report"]
    assert main([*command, "whole.jsonl"]) == 1
    original = b"".join((tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)[:-1])
    assert main([*command, name]) == 1
    expected = rows()

    def check(data: st.DataObject) -> None:
        (tmp_path / name).unlink(missing_ok=True)
        lines.write_bytes(changed_lines(data, original))
        with limited(), bounded():
            status = main([*command, name])
        if status == 2:  # it does not begin as a report does
            assert lines.name == name
            return
        assert (status, rows()) == (1, expected)

    explore(check, examples)


@amounts(few=30, share=0.02)
def test_findings(tmp_path, monkeypatch, examples):
    """Of a check; each molecule is checked again whose line is not what was written."""
    settings, record = checks.Settings("espalike-small", 0.1), tmp_path / "findings.jsonl"
    molecules = [from_smiles(smiles, smiles) for smiles in ("C", "CO", "CC")]

    def findings_of(settings, molecule):
        one = checks.Finding("bonds", molecule.name, molecule.smiles, "failed", "long", (0,), 1.0, 0.5)
        return [one, replace(one, check="charges", status="passed", message="", atoms=())]

    monkeypatch.setattr(checks, "findings_of", findings_of)
    expected = checks.check(settings, molecules, record)
    original = record.read_bytes()

    def check(data: st.DataObject) -> None:
        record.write_bytes(changed_lines(data, original))
        with limited(), bounded():
            assert checks.check(settings, molecules, record) == expected
            monkeypatch.setattr(checks, "findings_of", lambda *arguments: pytest.fail("computed again"))
            assert checks.check(settings, molecules, record) == expected
        monkeypatch.setattr(checks, "findings_of", findings_of)

    explore(check, examples)


@amounts(few=30, share=0.02)
def test_liquids(tmp_path, monkeypatch, examples):
    """The state of a box; of a changed file nothing is used."""
    run = liquids._Run("x", next(iter(liquids.LIQUIDS.values())), liquids.Protocol(1), tmp_path / "water-1.json")
    made = {"positions": [[0.0, 0.1, 0.2]], "velocities": [[0.5, 0.5, 0.5]], "edge": 2.5}
    monkeypatch.setattr(liquids, "_systems", lambda *arguments: (None, None))
    monkeypatch.setattr(liquids, "kept_field", lambda source: None)
    monkeypatch.setattr(liquids, "_packed", lambda *arguments: made)
    monkeypatch.setattr(liquids, "_liquid", lambda box, state, run, number: (1.0, -9.5, made))
    monkeypatch.setattr(liquids, "_gas", lambda *arguments: 0.25)
    nothing = liquids._read(run.file)
    liquids._next_block(run)
    original, expected = run.file.read_bytes(), liquids._read(run.file)
    assert expected["blocks"] == [[1.0, -9.5, 0.25]]

    def check(data: st.DataObject) -> None:
        run.file.write_bytes(changed_lines(data, original))
        with limited(), bounded():
            assert liquids._read(run.file) in (nothing, expected)

    explore(check, examples)


LABELS = {"calculator": {"_target_": "espalike.qm.mmff.RDKitCalculator"}}


@amounts(few=40, share=0.03)
@pytest.mark.parametrize("name", ["settings.json", "programs.json", "a/frames.npz", "a/0.npz", "a/1.json"])
def test_label_directories(tmp_path, name, examples):
    """Settings, programs, and labels one per file; labels are those that the files say."""
    kept, root, xyz = tmp_path / "kept", tmp_path / "labels", np.arange(36.0).reshape(2, 6, 3)
    before = LabelDirectory(kept)
    before.claim(LABELS)
    before.note("program 1.0")
    (kept / "a").mkdir()
    np.savez(kept / "a" / "frames.npz", xyz=xyz, smiles=MOLECULE.smiles)
    np.savez(kept / "a" / "0.npz", energy=-1.5, forces=xyz[1])
    (kept / "a" / "1.json").write_text('{"reason": "scf", "message": "a: no convergence"}')
    original = (kept / name).read_bytes()

    def check(data: st.DataObject) -> None:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(kept, root)
        if name.endswith(".npz"):
            (root / name).write_bytes(changed_bytes(data, original))
        elif data.draw(st.booleans()):
            (root / name).write_text(json.dumps(changed_values(data, json.loads(original))))
        else:
            (root / name).write_bytes(changed_text(data, original))
        try:
            with limited(), bounded():
                directory = LabelDirectory(root)
                directory.claim(LABELS)
                programs, labels = directory.programs(), directory.labels(Job("a", MOLECULE))
                failures = directory.failures(Job("a", MOLECULE))
        except ValueError as error:
            assert str(root) in str(error), error
            return
        assert name == "programs.json" or programs == ["program 1.0"]
        for geometry, label in labels.values():
            assert np.array_equal(geometry, xyz[0])
            assert (label.energy, label.forces.tolist()) == (-1.5, xyz[1].tolist())
        assert name == "a/1.json" or [one.message for one in failures] == ["a: no convergence"]

    explore(check, examples)


@amounts(few=40, share=0.03)
def test_tables_of_splits_and_torsions(tmp_path, examples):
    """Tables that people write: refused by name, or what Python's own reader reads."""
    path = tmp_path / "table.csv"
    original = b"name,split,dihedral\nmethanol,train,2 0 1 5\nethane,val,2 0 1 5\nwater,,0 1 2 3\n"

    def check(data: st.DataObject) -> None:
        path.write_bytes(changed_text(data, original))
        for read, column in ((_splits, "split"), (torsions.named, "dihedral")):
            torsions._table.cache_clear()
            try:
                with limited(), bounded():
                    found = read(str(path))
            except ValueError as error:
                assert path.name in str(error), error
                continue
            rows = list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))
            assert set(found) == {row["name"] for row in rows}
            if column == "split":
                assert all(found[row["name"]] == row["split"] for row in rows)
                assert set(found.values()) <= {"", "train", "val", "test"}

    explore(check, examples)


@amounts(few=15, share=0.03)
def test_an_unfinished_ingest(tmp_path, monkeypatch, examples):
    """Shards, their rejections and sidecars: the store is that of an unbroken run."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
    source = write(tmp_path / "set.h5", n=14)
    expected = content(ingest(job(source, tmp_path / "whole")).store.path)
    out, kept = tmp_path / "store", tmp_path / "kept"
    interrupted(monkeypatch, source, out, 12)
    shutil.copytree(out, kept)
    paths = sorted(path.relative_to(kept) for path in kept.rglob("shard-*") if path.stat().st_size)
    assert len(paths) > 4

    def check(data: st.DataObject) -> None:
        shutil.rmtree(out)
        shutil.copytree(kept, out)
        for _ in range(data.draw(st.integers(1, 2))):
            path = out / data.draw(st.sampled_from(paths))
            change = changed_bytes if path.suffix == ".arrow" else changed_lines
            if data.draw(st.integers(0, 9)) == 0:
                path.unlink(missing_ok=True)
            elif path.exists():
                path.write_bytes(change(data, (kept / path.relative_to(out)).read_bytes()))
        with limited(), bounded():
            ingest(job(source, out))
        assert content(out) == expected

    explore(check, examples)
