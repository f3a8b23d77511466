import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from espalike.cli.main import main
from espalike.data.filters import Filters
from espalike.data.ingest import Ingest
from espalike.data.readers.hdf5 import Hdf5Reader
from espalike.data.split import hash_split
from espalike.data.store import Store, open_stores
from tests.data.test_ingest import write as write_file
from tests.pools import here

UNITS = "coords Angstrom; energies kcal/mol; forces kcal/mol/Angstrom"
METHANOL = "[C:1]([O:2][H:6])([H:3])([H:4])[H:5]"
GEOMETRY = np.array(
    [[0.0, 0, 0], [1.41, 0, 0], [-0.36, 1.02, 0], [-0.36, -0.51, 0.89], [-0.36, -0.51, -0.89], [1.73, 0.9, 0.1]]
)


@pytest.fixture
def source(tmp_path):
    """A file with two good entries, one of them with a stretched conformer, and one bad."""
    rng = np.random.default_rng(0)
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        file.attrs.update(units=UNITS, level_of_theory="PBE/def2-SVP", license="MIT", source="made up")
        for name in ("bad", "good", "stretched"):
            group = file.create_group(name)
            group.attrs.update(smiles=METHANOL, split="val")
            xyz = GEOMETRY + rng.normal(0, 0.02, (4, 6, 3))
            if name == "stretched":
                xyz[2, 5] += 4.0
            group["atomic_numbers"] = np.array([6, 8, 1, 1, 1, 1])
            group["coords"] = xyz
            group["energies"] = np.full(4, np.nan) if name == "bad" else rng.normal(size=4)
            group["forces"] = rng.normal(size=xyz.shape)
    return path


def test_ingest_writes_a_store_and_says_what_it_left_out(source, tmp_path, capsys):
    assert main(["ingest", "reader=hdf5", f"reader.path={source}", f"out={tmp_path / 'store'}"]) == 1
    shown = capsys.readouterr()
    assert "bad: energies hold NaN or infinite values (4 of 4)" in shown.err
    assert "bonds differ from the graph" in shown.out
    store = Store.open(tmp_path / "store")
    assert store.column("id") == ["good", "stretched"]
    assert [len(r.conformers.energy) for r in store.records()] == [4, 3]
    assert store.column("split") == ["val", "val"]
    m = store.manifest
    assert m["rejected"] == {"conformer: bonds differ from the graph (broken)": 1, "energies not finite": 1}
    assert (m["licence"], m["origin"], m["levels"]) == ("MIT", "made up", ["PBE/def2-SVP"])
    assert m["command"] == f"espalike ingest reader=hdf5 reader.path={source} out={tmp_path / 'store'}"
    assert m["split"]["rule"] == "keep"
    assert store.hash[:12] in shown.out


def test_all_good_is_status_0_and_options_reach_their_place(source, tmp_path):
    with h5py.File(source, "a") as file:
        del file["bad"]
    args = [f"reader.path={source}", f"out={tmp_path / 's'}", "split=hash", "seed=3", "filters.connectivity=false"]
    args += ["reader.level=HF", "reader.source=mine", "licence=CC0", "fractions={train: 0.1, val: 0.1, test: 0.8}"]
    args.append("audit=warn")  # the stretched bond has no force to match
    assert main(["ingest", *args]) == 0
    store = Store.open(tmp_path / "s")
    expected = hash_split("OKKJLVBELUTLKV", 3, {"train": 0.1, "val": 0.1, "test": 0.8})
    assert expected != "val"
    assert store.column("split") == [expected] * 2
    assert store.manifest["conformers"] == 8
    assert store.manifest["licence"] == "CC0"
    assert list(store.manifest["sources"]) == ["mine"]
    assert store.manifest["levels"] == ["HF"]


def forget(path, attribute):
    with h5py.File(path, "a") as file:
        del file.attrs[attribute]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path, args: path.write_bytes(path.read_bytes()[:3000]), "set.h5: it is cut short"),
        (lambda path, args: path.unlink(), "no such file"),
        (lambda path, args: forget(path, "units"), "nothing says the unit of 'coords'"),
        (lambda path, args: forget(path, "license"), "a store states its licence: give licence=…"),
        (lambda path, args: args.append("split=random"), "expected keep or hash"),
        (lambda path, args: args.append("reference=gaff"), "expected none or openff"),
        (lambda path, args: args.append("fractions.train=0.5"), "sum to 1"),
        (lambda path, args: args.append("filters.force_ceiling=1e-9"), "no record is left"),
        (lambda path, args: args.append("audit=no"), "expected error or warn or off"),
        (lambda path, args: args.append("filters.elements=[H,Cx]"), "'Cx' is not an element symbol"),
        (lambda path, args: args.append("against=[nowhere]"), "nowhere: not a store"),
        (lambda path, args: args.append("against=nowhere"), "nowhere: not a store"),
    ],
)
def test_nothing_can_be_done_is_status_2_with_a_reason(source, tmp_path, capsys, change, message):
    args = [f"reader.path={source}", f"out={tmp_path / 'store'}"]
    change(source, args)
    assert main(["ingest", *args]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_no_stores_to_compare_with_may_be_null(source, tmp_path):
    assert main(["ingest", f"reader.path={source}", f"out={tmp_path / 'store'}", "against=null"]) == 1


def test_runs_as_a_program(source, tmp_path):
    command = [sys.executable, "-m", "espalike", "ingest", f"reader.path={source}", "out=store"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert json.loads((tmp_path / "store" / "manifest.json").read_text())["entries"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set.h5", "store"]  # hydra leaves nothing behind


def test_given_again_it_does_nothing_and_says_so(source, tmp_path, capsys):
    args = [f"reader.path={source}", f"out={tmp_path / 'store'}"]
    assert main(["ingest", *args]) == 1
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "store").iterdir()}
    capsys.readouterr()
    assert main(["ingest", *args]) == 1  # as when it was made: an entry is bad
    assert "unchanged input and settings, nothing to do" in capsys.readouterr().out
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "store").iterdir()} == before
    for change in ("force=true", "licence=CC0", "filters.energy_window=50", "reader.source=other", "shard=0.001"):
        assert main(["ingest", *args, change]) == 1
        assert "nothing to do" not in capsys.readouterr().out


def test_wrong_units_end_it(tmp_path, capsys):
    path = write_file(tmp_path / "wrong.h5", 20, scale=27.2114)
    args = [f"reader.path={path}", f"out={tmp_path / 'store'}"]
    assert main(["ingest", *args]) == 2
    err = capsys.readouterr().err
    assert "look like eV read as hartree" in err
    assert "audit=warn" in err
    assert main(["ingest", *args, "audit=warn"]) == 1
    assert "audit of energies, wrong, B3LYP-D3BJ/DZVP: failed" in capsys.readouterr().err.replace("\n", " ")


def test_help_names_every_option_and_layout(capsys):
    assert main(["ingest", "--help"]) == 0
    shown = capsys.readouterr().out
    configs = Path(__file__).parents[2] / "configs"
    settings = yaml.safe_load((configs / "ingest.yaml").read_text())
    for name in settings.keys() - {"defaults", "filters"}:
        assert f"{name}=" in shown, name
    for name in settings["filters"].keys() - {"_target_"}:
        assert f"filters.{name}=" in shown, name
    for path in (configs / "reader").glob("*.yaml"):
        assert path.stem in shown.replace(",", " ").split(), path.stem


def outcomes(entries, reference=None):
    results = list(Ingest(entries, Filters(), lambda record: "train", reference))
    return [o.record for o in results if o.record], [line for o in results for line in o.rejected], results


def test_reference_is_added_to_each_record(source):
    def reference(molecule):
        return np.linspace(-1, 1, 6), np.ones((6, 2))

    records, _, results = outcomes(Hdf5Reader(source), reference)
    assert sum(o.fault for o in results) == 1
    assert [r.id for r in records] == ["good", "stretched"]
    for record in records:
        np.testing.assert_array_equal(record.ref_charge, np.linspace(-1, 1, 6))
        assert record.ref_lj.shape == (6, 2)


def test_failing_reference_is_counted_and_the_entry_kept(source):
    calls = []

    def reference(molecule):
        calls.append(molecule.name)
        raise ValueError(f"{molecule.name}: no parameters")

    records, lines, results = outcomes(Hdf5Reader(source), reference)
    assert [r.id for r in records] == ["good", "stretched"]
    assert all(r.ref_charge is None and r.ref_lj is None for r in records)
    assert calls == ["good"]  # the same molecule again: not computed, not reported twice
    (line,) = (line for line in lines if line.reason == "reference: not covered")
    assert line.message == "good: no parameters"
    assert sum(o.fault for o in results) == 1


def test_entries_without_labels_are_left_out(source):
    def unlabelled():
        for record in Hdf5Reader(source):
            conformers = getattr(record, "conformers", None)
            if conformers is not None:
                yield replace(record, conformers=replace(conformers, forces=None, energy=conformers.energy * np.nan))

    records, lines, results = outcomes(unlabelled())
    assert records == []
    assert [line.reason for line in lines if not line.reason.startswith("conformer")] == ["nothing to learn from"] * 2
    assert not any(o.fault for o in results)


@pytest.mark.skipif(importlib.util.find_spec("openff") is None, reason="needs the OpenFF packages")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_openff_reference_ends_up_in_the_store(source, tmp_path, monkeypatch):
    """In this process, which imports OpenFF for other tests, too."""
    from espalike.assigners import reference

    monkeypatch.setattr(reference, "pool", here)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert main(["ingest", f"reader.path={source}", "out=store", "reference=openff"]) == 1
    assert len(list((tmp_path / "cache" / "espalike" / "references").rglob("*.npz"))) == 1
    store = Store.open(tmp_path / "store")
    charge, lj = store.reference(0)
    assert abs(charge.sum()) < 1e-9
    assert charge[1] < -0.4  # the oxygen of methanol
    assert (lj[:, 0] > 0.5).all()
    assert (lj[:, 0] < 4).all()
    assert "openff_unconstrained-2.2.1" in store.manifest["reference"]


def test_the_users_folder_and_a_folder_with_a_comma(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    source.rename(tmp_path / "home" / "set.h5")
    assert main(["ingest", "reader.path=~/set.h5", "out='~/a, b'"]) == 1
    assert not (tmp_path / "~").exists()
    monkeypatch.chdir(tmp_path / "home")
    assert len(open_stores("a, b")[0]) == 2
