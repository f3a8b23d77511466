"""The ingest: shards, resuming after kill -9, no-op, rejections, duplicates across records, audits that stop it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from espalike import units
from espalike.cli.main import main
from espalike.data import ingest as module
from espalike.data.audit import AuditError
from espalike.data.describe import rejections
from espalike.data.filters import Filters
from espalike.data.ingest import run
from espalike.data.shards import StoreError
from espalike.data.store import Store
from tests.data.conftest import build_molecule
from tests.data.ingest_job import job

SMILES = ("CCO", "CO", "CCOC", "CC(=O)N", "C1CCC1", "CC#N", "CS", "CCCl", "OCCO", "CCOCC", "c1ccncc1", "CN")


def write(path, n=60, scale=1.0, sign=1.0):
    """A file of `n` entries with some of every fault; energies are total ones, forces those of a harmonic well."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.attrs.update(
            units="coords angstrom; energies hartree; forces hartree/bohr", license="MIT", source="made up"
        )
        file.attrs["level_of_theory"] = "B3LYP-D3BJ/DZVP"
        for i in range(n):
            molecule, x0 = build_molecule(SMILES[i % len(SMILES)])
            group = file.create_group(f"e{i:03d}")
            group.attrs["smiles"] = "C1CC" if i % 13 == 5 else molecule.smiles
            step = np.cumsum(rng.normal(0, 0.03, (8, *x0.shape)), axis=0)
            xyz = x0 + step
            total = sum({1: -0.6, 6: -38.1, 7: -54.7, 8: -75.2, 16: -398.2, 17: -460.2}[z] for z in molecule.numbers)
            energy = total + 0.15 * (step**2).sum(axis=(1, 2)) / units.BOHR**2
            forces = -0.3 * step / units.BOHR
            if i % 7 == 3:
                xyz[2, -1] += 5.0  # a broken bond
            if i % 11 == 4:
                energy[1] = np.nan
            if i % 9 == 8:  # what an earlier entry of the molecule has
                earlier = file[f"e{i - len(SMILES):03d}"] if i >= len(SMILES) else None
                if earlier is not None and len(earlier["coords"]) == 8:
                    xyz[5:] = earlier["coords"][5:]
            group["atomic_numbers"] = molecule.numbers
            group["coords"] = xyz
            group["energies"] = energy * scale
            group["forces"] = sign * forces
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write(tmp_path_factory.mktemp("source") / "set.h5")


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """The store of an unbroken run."""
    return run(job(source, tmp_path_factory.mktemp("whole") / "store")).store


def content(path):
    """Every file of a store by its name."""
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def test_the_store_has_several_shards_and_all_records(source, whole):
    names = whole.manifest["data"]
    assert len(names) > 7
    assert sorted(content(whole.path)) == sorted([*names, "manifest.json", whole.manifest["rejections"]])
    assert whole.manifest["ingest"]["entries"] == 60
    whole.verify()
    one = run(job(source, whole.path.parent / "one", shard=100)).store
    assert isinstance(one.manifest["data"], str)
    assert one.manifest["data"] == f"entries-{one.hash[:12]}.arrow"
    assert one.hash == whole.hash
    assert one.column("id") == whole.column("id")
    of_files = ("data", "ingest", "checksums", "checksum")
    assert {k: v for k, v in one.manifest.items() if k not in of_files} == {
        k: v for k, v in whole.manifest.items() if k not in of_files
    }
    for i in (0, 7, len(one) - 1):
        np.testing.assert_array_equal(one.array(i, "xyz"), whole.array(i, "xyz"))


def test_every_entry_is_stored_or_reported(whole):
    stored, lines = set(whole.column("id")), list(rejections(whole))
    whole_entries = {line.id for line in lines if not line.reason.startswith(("conformer:", "reference:"))}
    assert not stored & whole_entries
    assert stored | whole_entries == {f"e{i:03d}" for i in range(60)}
    counted = whole.manifest["rejected"]
    assert sum(line.count for line in lines) == sum(counted.values())
    assert counted["chemistry"] == len([i for i in range(60) if i % 13 == 5])
    assert counted["conformer: in an earlier record"] > 0
    assert counted["conformer: bonds differ from the graph (broken)"] > 0
    assert counted["reference: not covered"] == 2  # CCOC and CCOCC, each reported once
    assert counted["conformer: energies not finite"] > 0
    assert {line.message for line in rejections(whole, "e005")} == {line.message for line in lines if line.id == "e005"}
    assert "C1CC" in next(rejections(whole, "e005")).message


class Killed(BaseException):
    """Stands for a process that ends at once."""


def interrupted(monkeypatch, source, out, entries):
    """A run that ends after so many entries, leaving all files as they are then."""
    work = job(source, out)
    taken = work.reader.entries

    def some(start=0):
        for k, entry in enumerate(taken(start)):
            if k == entries:
                raise Killed
            yield entry

    monkeypatch.setattr(work.reader, "entries", some)
    with pytest.raises(Killed):
        run(work)


def test_goes_on_behind_the_last_shard(monkeypatch, source, whole, tmp_path):
    out = tmp_path / "store"
    interrupted(monkeypatch, source, out, 25)
    assert not (out / "manifest.json").exists()
    asked = []
    again = job(source, out)
    entries = again.reader.entries
    monkeypatch.setattr(again.reader, "entries", lambda start=0: asked.append(start) or entries(start))
    interrupted(monkeypatch, source, out, 25)
    result = run(again)
    assert asked == [result.resumed]
    assert 25 <= result.resumed < 60
    assert content(out) == content(whole.path)


def test_a_run_that_has_finished_no_shard_leaves_nothing(monkeypatch, source, tmp_path):
    interrupted(monkeypatch, source, tmp_path / "store", 1)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("calls", range(1, 12))
def test_a_commit_cut_off_anywhere_is_completed(monkeypatch, source, whole, tmp_path, calls):
    """The process ends at each of the renames of the commit in turn; the old store is whole until the new one is."""
    out = tmp_path / "store"
    old = run(job(source, out, shard=100, filters=Filters(force_ceiling=30.0))).store.hash
    replace, count = os.replace, 0

    def some(*names):
        nonlocal count
        if out in (Path(names[1]).parent, Path(names[1]).parent.parent) and (work_done or "commit" in str(names[1])):
            count += 1
            if count == calls:
                raise Killed
        return replace(*names)

    work_done = False
    commit = module.commit

    def begun(*args):
        nonlocal work_done
        work_done = True
        commit(*args)

    monkeypatch.setattr(module, "commit", begun)
    monkeypatch.setattr(os, "replace", some)
    try:
        run(job(source, out))
    except Killed:
        assert Store.open(out).hash in (old, whole.hash)
        Store.open(out).verify()
    monkeypatch.undo()
    run(job(source, out))
    assert content(out) == content(whole.path)


def test_unchanged_input_is_a_no_op(source, whole, tmp_path):
    out = tmp_path / "store"
    shutil.copytree(whole.path, out)
    before = {p.name: p.stat().st_mtime_ns for p in out.iterdir()}
    copied = tmp_path / "set.h5"
    shutil.copy(source, copied)  # wherever it lies
    result = run(job(copied, out))
    assert result.unchanged
    assert result.faults == whole.manifest["ingest"]["faults"] > 0
    assert {p.name: p.stat().st_mtime_ns for p in out.iterdir()} == before
    assert not run(job(source, out, force=True)).unchanged
    assert content(out) == content(whole.path)
    assert not run(job(source, out, settings={"any": 2})).unchanged
    with h5py.File(copied, "a") as file:
        file["e000/coords"][0, 0, 0] += 0.01
    changed = run(job(copied, out))
    assert not changed.unchanged
    assert changed.store.hash != whole.hash


def test_a_store_of_an_earlier_pipeline_is_made_again(source, tmp_path, monkeypatch):
    """As one whose complexes were split by pairs of molecules."""
    out = tmp_path / "store"
    with monkeypatch.context() as earlier:
        earlier.setattr(module, "PIPELINE", module.PIPELINE - 1)
        run(job(source, out))
        assert run(job(source, out)).unchanged
    assert not run(job(source, out)).unchanged
    assert run(job(source, out)).unchanged


def test_a_damaged_store_is_made_again(source, whole, tmp_path):
    out = tmp_path / "store"
    shutil.copytree(whole.path, out)
    (out / whole.manifest["data"][3]).unlink()
    with pytest.raises(StoreError, match="lists this file, but it is missing"):
        Store.open(out)
    assert not run(job(source, out)).unchanged
    assert content(out) == content(whole.path)


def test_one_ingest_at_a_time(source, tmp_path):
    fcntl = pytest.importorskip("fcntl")
    out = tmp_path / "store"
    out.mkdir()
    handle = os.open(out, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(StoreError, match="another ingest is writing"):
        run(job(source, out))
    os.close(handle)
    run(job(source, out))


def test_other_stores_geometries_are_left_out(source, whole, tmp_path):
    with pytest.raises(StoreError, match="no record is left"):
        run(job(source, tmp_path / "a", against=[whole]))
    part = write(tmp_path / "part.h5", 5)
    first = run(job(part, tmp_path / "part")).store
    rest = run(job(source, tmp_path / "rest", against=[first])).store
    assert set(first.column("id")).isdisjoint(rest.column("id"))
    kept = {record.id: record.conformers.xyz for record in rest.records()}
    for record in first.records():
        for xyz in kept.values():
            if xyz.shape[1:] == record.conformers.xyz.shape[1:]:
                assert np.abs(xyz[:, None] - record.conformers.xyz).max(axis=(2, 3)).min() > 1e-3


def test_an_identifier_twice_is_a_rejection(source, tmp_path, monkeypatch):
    twice = job(source, tmp_path / "store", filters=Filters(duplicates=None), shard=100)
    entries = list(twice.reader)
    monkeypatch.setattr(twice.reader, "entries", lambda start=0: iter([*entries, entries[0]][start:]))
    store = run(twice).store
    assert store.manifest["rejected"]["identifier twice"] == 1
    assert [line.reason for line in rejections(store, "e000")] == ["identifier twice"]


def test_levels_and_sources_stay_apart(source, tmp_path, monkeypatch):
    """The same geometries at two levels: two records, none a duplicate of the other."""
    from dataclasses import replace

    both = job(source, tmp_path / "store")
    high = [entry for entry in both.reader if hasattr(entry, "conformers")][:6]
    low = [replace(r, id=f"{r.id}-low", conformers=replace(r.conformers, level="GFN2-xTB")) for r in high]
    monkeypatch.setattr(both.reader, "entries", lambda start=0: iter([*high, *low][start:]))
    store = run(both).store
    assert store.manifest["levels"] == ["B3LYP-D3BJ/DZVP", "GFN2-xTB"]
    assert store.column("level") == ["B3LYP-D3BJ/DZVP"] * 6 + ["GFN2-xTB"] * 6


@pytest.mark.parametrize(
    ("fault", "message"), [({"scale": 27.2114}, "look like eV read as hartree"), ({"sign": -1.0}, "opposite sign")]
)
def test_wrong_units_stop_the_ingest_unless_the_job_allows_them(tmp_path, fault, message):
    wrong, out = write(tmp_path / "wrong.h5", **fault), tmp_path / "store"
    with pytest.raises(AuditError, match=f"{message}.*audit=warn"):
        run(job(wrong, out))
    assert not (out / "manifest.json").exists()
    result = run(job(wrong, out, audit="warn"))
    assert result.resumed > 0  # what was done is not done again
    assert "failed" in {verdict.outcome for verdict in result.verdicts}
    assert "failed" in {verdict["outcome"] for verdict in result.store.manifest["audits"]}
    assert run(job(wrong, tmp_path / "off", audit="off")).store.manifest["audits"] == []


def killed_after(source, out, seconds):
    """Start an ingest, kill it so many seconds after its work folder is there; whether it was still at it."""
    command = [sys.executable, str(Path(__file__).parent / "ingest_job.py"), str(source), str(out), "0.01"]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    end = time.monotonic() + 60
    while not list(out.glob(".ingest-*")) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def kill_at_random_times(source, out, whole, times, seed):
    rng = np.random.default_rng(seed)
    hit = 0
    for _ in range(times):
        hit += killed_after(source, out, rng.uniform(0.0, 0.25))
        if (out / "manifest.json").exists():
            assert content(out) == content(whole.path) or list(out.glob(".ingest-*"))
            Store.open(out).verify()
            shutil.rmtree(out)
    run(job(source, out))
    assert content(out) == content(whole.path)
    return hit


def test_killed_and_started_again_the_store_is_the_same(source, whole, tmp_path):
    assert kill_at_random_times(source, tmp_path / "store", whole, 3, seed=1) > 0


@pytest.mark.slow
def test_killed_twenty_times_the_store_is_the_same(tmp_path, source, whole):
    assert kill_at_random_times(source, tmp_path / "store", whole, 20, seed=2) >= 10


def test_a_store_of_one_file_opens(tmp_path):
    """`data` as a single name, without the keys that came later."""
    sample = Store.open("sample")
    assert isinstance(sample.manifest["data"], str)
    sample.verify()
    assert json.loads((sample.path / "manifest.json").read_text()).keys().isdisjoint({"ingest", "audits", "rejections"})
    assert list(rejections(sample)) == []


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("of zero"), TypeError("no number"), IndexError("9"), MemoryError()]
)
def test_whatever_one_entry_raises_is_its_rejection(source, tmp_path, monkeypatch, error):
    from espalike.data.readers.hdf5 import Hdf5Reader

    read, check = Hdf5Reader._record, Filters._check_molecule

    def broken_record(self, name, raw):
        if name == "e003":
            raise error
        return read(self, name, raw)

    def broken_filter(self, record):
        if record.id == "e006":
            raise error
        return check(self, record)

    monkeypatch.setattr(Hdf5Reader, "_record", broken_record)
    monkeypatch.setattr(Filters, "_check_molecule", broken_filter)
    result = run(job(source, tmp_path / "store", shard=100))
    lines = {line.id: line.message for line in rejections(result.store) if line.id in ("e003", "e006")}
    assert "e003: cannot be read from set.h5" in lines["e003"]
    assert "e006: cannot be checked" in lines["e006"]
    assert type(error).__name__ in lines["e003"]
    assert type(error).__name__ in lines["e006"]


def test_one_group_per_conformer_is_refused_with_a_count(tmp_path, capsys):
    """With `audit=warn`, the store keeps the entries; `train` says so again."""
    from tests.data.readers.samples import sample
    from tests.data.readers.test_hdf5 import TestHdf5 as Suite

    s = sample("CO", 4)
    rows = [replace(s, name=f"conformer-{k}", **{n: getattr(s, n)[k : k + 1] for n in ROWS}) for k in range(4)]
    Suite().write(tmp_path / "a.h5", [*rows, sample("C", 3, 1)])
    out = tmp_path / "store"
    command = ["ingest", "reader=hdf5", f"reader.path={tmp_path / 'a.h5'}", f"out={out}", "origin=x"]
    assert main(command) == 2
    printed = " ".join(capsys.readouterr().err.split())
    assert "4 entries of one geometry are of 1 molecule" in printed
    assert main([*command, "audit=warn"]) == 0
    printed = " ".join(capsys.readouterr().err.split())
    assert "4 entries of one geometry are of 1 molecule" in printed
    assert "failed" in {verdict["outcome"] for verdict in Store.open(out).manifest["audits"]}


ROWS = ("xyz", "energy", "forces")
