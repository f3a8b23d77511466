"""`espalike evaluate` as it is typed, on a store and on HDF5."""

import csv
import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from espalike.cli.evaluate import read_records
from espalike.cli.main import main
from espalike.data.store import write_store
from espalike.energy import energy
from espalike.model import from_config, load
from tests.data.conftest import MANIFEST, build_record

CONFIG = {
    "terms": [{"_target_": "espalike.terms.bond.HarmonicBond"}, {"_target_": "espalike.terms.angle.HarmonicAngle"}],
    "conv": {"_target_": "espalike.nn.convs.SAGE", "_partial_": True},
    "width": 8,
    "layers": 2,
    "hidden": 8,
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "store"
    records = [
        build_record("CCO", split="test"),
        build_record("CC=O", split="test", source="other"),
        build_record("OB(O)C", split="val"),  # MMFF94 has no boron
        build_record("CCC", split="train", level="GFN2-xTB"),
    ]
    write_store(path, records, manifest=MANIFEST)
    return path


@pytest.fixture
def model(tmp_path):
    made = from_config(CONFIG)
    made.provenance.split = {"train": ["KEY-CCO"]}
    (tmp_path / "mine").mkdir()
    made.save(tmp_path / "mine" / "model.espalike")
    return tmp_path / "mine" / "model.espalike"


def test_writes_table_summary_and_picture(store, model, tmp_path, capsys):
    out = tmp_path / "out"
    settings = [f"model={model}", f"data.path={store}", "data.split=test", "baselines=[zero,mmff94]", f"out={out}"]
    assert main(["evaluate", *settings, "resamples=50"]) == 0
    assert {p.name for p in out.iterdir()} == {"table.csv", "summary.json", "parity.png"}
    with (out / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["method"] for line in lines[:3]] == ["mine", "zero", "mmff94"]
    assert {line["source"] for line in lines} == {"made-up", "other", "all"}
    summary = json.loads((out / "summary.json").read_text())
    assert summary["entries_compared"] == 2
    assert summary["molecules_seen_in_training"] == {"mine": 1}
    assert summary["units"]["force"] == "kcal/mol/angstrom"
    shown = capsys.readouterr().out
    assert "mmff94" in shown
    assert "mine was trained on 1 of these 2 molecules" in shown
    assert f"wrote {out}/table.csv" in shown


def test_what_terms_contribute(store, model, tmp_path, capsys):
    settings = [f"model={model}", f"data.path={store}", "baselines=[zero]", "terms=true", f"out={tmp_path / 'out'}"]
    assert main(["evaluate", *settings]) == 0
    assert "terms.csv" in capsys.readouterr().out
    with (tmp_path / "out" / "terms.csv").open() as file:
        lines = {(line["source"], line["term"]): line for line in csv.DictReader(file)}
    assert set(lines) == {
        (source, term) for source in ("made-up", "other") for term in ("HarmonicBond", "HarmonicAngle")
    }
    (record,) = (r for r in read_records([str(store)], "test", None)[0] if r.conformers.source == "other")
    system = load(model).parametrize(record.molecule)
    for term in ("HarmonicBond", "HarmonicAngle"):
        alone = replace(system, terms=(system.bound(term),))
        found = energy(alone, torch.from_numpy(record.conformers.xyz))
        line = lines["other", term]
        assert line["method"] == "mine"
        assert float(line["energy_rms"]) == pytest.approx(found.energy.std(correction=0).item(), abs=1e-4)
        assert float(line["force_rms"]) == pytest.approx(found.forces.square().mean().sqrt().item(), abs=1e-4)


def test_same_seed_same_intervals(store, tmp_path):
    for name in ("a", "b"):
        main(["evaluate", f"data.path={store}", "data.split=null", "baselines=[zero]", f"out={tmp_path / name}"])
    assert (tmp_path / "a/table.csv").read_bytes() == (tmp_path / "b/table.csv").read_bytes()


def test_a_molecule_a_baseline_cannot_type_is_reported_and_the_rest_goes_on(store, tmp_path, capsys):
    settings = [f"data.path={store}", "data.split=null", "baselines=[mmff94,zero]", f"out={tmp_path / 'out'}"]
    assert main(["evaluate", *settings]) == 1
    (failure,) = json.loads((tmp_path / "out" / "summary.json").read_text())["failures"]
    assert failure["method"] == "mmff94"
    assert "no parameters" in failure["reason"]
    assert "failed: mmff94 on OB(O)C" in capsys.readouterr().out


def test_hdf5_scores_as_the_store_does(tmp_path):
    record = build_record("CCO", split="test")
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file.attrs["units"] = "coords Angstrom; energies kcal/mol; forces kcal/mol/Angstrom"
        file.attrs["level_of_theory"] = "B3LYP-D3BJ/DZVP"
        for name, split in (("x", "test"), ("y", "train")):
            group = file.create_group(name)
            group.attrs.update({"smiles": record.molecule.smiles, "split": split})
            group["atomic_numbers"] = record.molecule.numbers
            group["coords"], group["energies"] = record.conformers.xyz, record.conformers.energy
            group["forces"] = record.conformers.forces
        broken = file.create_group("z")
        broken.attrs["smiles"] = "not a smiles"
    write_store(tmp_path / "store", [replace(record, id="x")], manifest=MANIFEST)
    status = [
        main(["evaluate", f"data.path={tmp_path / name}", "baselines=[mmff94]", f"out={tmp_path / 'out' / name}"])
        for name in ("data.h5", "store")
    ]
    assert status == [1, 0]  # one entry of the HDF5 cannot be read, and that is told
    texts = [(tmp_path / "out" / name / "table.csv").read_text() for name in ("data.h5", "store")]
    tables = [list(csv.DictReader(text.splitlines())) for text in texts]
    for key in ("energy_rmse", "energy_mae", "force_rmse", "conformers"):
        assert float(tables[0][0][key]) == pytest.approx(float(tables[1][0][key]), abs=2e-4)


def test_level_and_several_files(store):
    records, rejected = read_records([str(store)], None, "GFN2-xTB")
    assert [r.molecule.name for r in records] == ["CCC"]
    assert not rejected
    twice, _ = read_records([str(store), str(store)], "test", None)
    assert len(twice) == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["baselines=[]"], "nothing to score"),
        (["baselines=[uff]"], "no baseline 'uff'"),
        (["baselines=[zero]", "data.split=holdout"], "no entries with split 'holdout'"),
        (["baselines=[zero]", "data.path=nowhere"], "not a store"),
        (["baselines=[zero]", "data.path=nowhere.h5"], "no such file"),
        (["model=nothing.espalike"], "no model 'nothing.espalike'"),
        (["modle=x"], "Could not override 'modle'"),
    ],
)
def test_bad_settings(store, tmp_path, capsys, settings, message):
    assert main(["evaluate", f"data.path={store}", f"out={tmp_path / 'out'}", *settings]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert not (tmp_path / "out").exists()


def test_a_conformer_alone_has_no_relative_energy(tmp_path):
    write_store(tmp_path / "s", [build_record("CCO", 1, split="test")], manifest=MANIFEST)
    assert main(["evaluate", f"data.path={tmp_path / 's'}", "baselines=[zero]", f"out={tmp_path / 'out'}"]) == 0
    (row,) = json.loads((tmp_path / "out" / "summary.json").read_text())["rows"]
    assert row["energy_rmse"] is None
    assert np.isfinite(row["force_rmse"])
