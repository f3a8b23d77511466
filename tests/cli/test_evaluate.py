"""`espalike evaluate` as it is typed, and the function behind it: on a store, on HDF5, on any reader's files."""

import csv
import json
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from rdkit import Chem

from espalike import evaluate as evaluate_in_python
from espalike.batch import batch_of
from espalike.chem import from_smiles, to_rdkit
from espalike.cli.label_input import read_jobs
from espalike.cli.main import main
from espalike.data.store import Store, write_store
from espalike.domain import ChemicalDomain
from espalike.energy import energy
from espalike.evaluation.run import evaluate, read_records
from espalike.model import from_config, load
from espalike.qm.mmff import MMFFCalculator
from espalike.settings import compose
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
    assert "mine was trained on 1 of these 2 connectivities" in shown
    assert f"wrote {out}/table.csv" in shown


def test_models_of_folders_with_equal_names_have_their_paths(store, model, tmp_path):
    others = [tmp_path / sweep / "0" / "model.espalike" for sweep in ("first", "second")]
    for path in others:
        path.parent.mkdir(parents=True)
        path.write_bytes(model.read_bytes())
    paths = ",".join(map(str, [*others, model]))
    assert main(["evaluate", f"model=[{paths}]", f"data.path={store}", f"out={tmp_path / 'out'}", "resamples=0"]) == 0
    with (tmp_path / "out" / "table.csv").open() as file:
        assert {line["method"] for line in csv.DictReader(file)} == {*map(str, others), "mine"}


def test_what_terms_contribute(store, model, tmp_path, capsys):
    settings = [f"model={model}", f"data.path={store}", "baselines=[zero]", "terms=true", f"out={tmp_path / 'out'}"]
    assert main(["evaluate", *settings]) == 0
    assert "terms.csv" in capsys.readouterr().out
    with (tmp_path / "out" / "terms.csv").open() as file:
        lines = {(line["source"], line["term"]): line for line in csv.DictReader(file)}
    assert set(lines) == {
        (source, term) for source in ("made-up", "other") for term in ("HarmonicBond", "HarmonicAngle")
    }
    (record,) = (r for r in Store.open(store).records("test") if r.conformers.source == "other")
    system = load(model).parametrize(record.molecule)
    for term in ("HarmonicBond", "HarmonicAngle"):
        alone = replace(system, terms=(system.bound(term),))
        prediction = energy(alone, torch.from_numpy(record.conformers.xyz))
        line = lines["other", term]
        assert line["method"] == "mine"
        assert float(line["energy_rms"]) == pytest.approx(prediction.energy.std(correction=0).item(), abs=1e-4)
        assert float(line["force_rms"]) == pytest.approx(prediction.forces.square().mean().sqrt().item(), abs=1e-4)


@pytest.fixture
def two_levels(tmp_path):
    """A model whose second level has other equilibrium bonds and angles, and its file."""
    torch.manual_seed(0)
    made = from_config({**CONFIG, "levels": ["HF", "B3LYP-D3BJ/DZVP"]})
    made.save(tmp_path / "two.espalike")
    return made, tmp_path / "two.espalike"


def test_a_model_is_scored_at_the_level_that_is_chosen(store, two_levels, tmp_path):
    model, path = two_levels
    (record,) = (r for r in Store.open(store).records("test") if r.molecule.name == "CCO")
    errors = {}
    for number, level in enumerate(model.levels):
        batch = batch_of([record.molecule], torch.float64)
        with torch.no_grad():
            system = model.in_float64()(replace(batch, level=torch.full_like(batch.level, number)))
        by_hand = energy(system, torch.from_numpy(record.conformers.xyz)).forces.numpy()
        result = evaluate_in_python(path, store, out=tmp_path / "out", level=level, resamples=0)
        np.testing.assert_allclose(result.scores.results["two"][record.id].forces, by_hand, atol=1e-10)
        settings = [f"model={path}", f"data.path={store}", "resamples=0", f"out={tmp_path / 'typed'}"]
        assert main(["evaluate", *settings, f"level={level}"]) == 0
        summary = json.loads((tmp_path / "typed" / "summary.json").read_text())
        assert summary["settings"]["level"] == level
        errors[level] = summary["rows"][0]["force_rmse"]
    assert main(["evaluate", *settings]) == 0
    at_target = json.loads((tmp_path / "typed" / "summary.json").read_text())["rows"][0]["force_rmse"]
    assert errors["HF"] == at_target != errors["B3LYP-D3BJ/DZVP"]


def test_labels_of_another_level_are_noted(store, two_levels, tmp_path, capsys):
    _, path = two_levels
    settings = [f"model={path}", f"data.path={store}", "data.split=null", "resamples=0", f"out={tmp_path / 'out'}"]
    assert main(["evaluate", *settings]) == 0
    printed = capsys.readouterr().out
    both = "B3LYP-D3BJ/DZVP (12 conformers), GFN2-xTB (4 conformers); data.level=LEVEL takes one"
    assert f"note: labels of several levels of theory are scored together: {both}" in printed
    other = "the labels have 12 conformers of B3LYP-D3BJ/DZVP, which it was trained with, too"
    assert f"note: two is scored at HF; {other}" in printed
    assert main(["evaluate", *settings, "level=B3LYP-D3BJ/DZVP", "data.level=B3LYP-D3BJ/DZVP"]) == 0
    assert "note: " not in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(store, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr("espalike.evaluation.table.predict", lambda *given: pytest.fail("something was computed"))
    with pytest.raises(NotADirectoryError, match="file/out"):
        evaluate_in_python(data=store, baselines="zero", out=tmp_path / "file" / "out")


def test_conformers_that_two_stores_hold_are_noted(store, tmp_path, capsys):
    copy = shutil.copytree(store, tmp_path / "copy")
    settings = ["baselines=[zero]", "data.split=null", "resamples=0", f"out={tmp_path / 'out'}"]
    assert main(["evaluate", *settings, f"data.path=[{store},{copy}]"]) == 0
    assert "note: 16 conformers with the same energy as in another entry, so that they count twice: " in (
        capsys.readouterr().out
    )


def test_every_model_needs_the_level(store, model, two_levels, tmp_path, capsys):
    _, path = two_levels
    settings = [f"model=[{path},{model}]", f"data.path={store}", f"out={tmp_path / 'out'}"]
    for level, message in (
        ("MP2", f"{path}: level 'MP2': the model was not trained with it; levels, the target first: HF, B3LYP"),
        ("HF", f"{model}: level 'HF': the model was not trained with it; levels, the target first: one without a name"),
    ):
        assert main(["evaluate", *settings, f"level={level}"]) == 2
        assert message in capsys.readouterr().err


def test_same_seed_same_intervals(store, tmp_path):
    for name in ("a", "b"):
        main(["evaluate", f"data.path={store}", "data.split=null", "baselines=[zero]", f"out={tmp_path / name}"])
    assert (tmp_path / "a/table.csv").read_bytes() == (tmp_path / "b/table.csv").read_bytes()


def test_a_molecule_that_a_baseline_lacks_is_noted_and_changes_nothing_else(store, tmp_path, capsys):
    settings = [f"data.path={store}", "data.split=null", "baselines=[mmff94,zero]", f"out={tmp_path / 'out'}"]
    assert main(["evaluate", *settings]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    (failure,) = summary["failures"]
    assert failure["method"] == "mmff94"
    assert "no parameters" in failure["reason"]
    assert {row["method"]: row["molecules"] for row in summary["rows"]} == {"mmff94": 3, "zero": 4}
    assert {row["method"]: row["molecules"] for row in summary["common"]} == {"mmff94": 3, "zero": 3}
    assert (summary["entries"], summary["entries_compared"]) == (4, 3)
    with (tmp_path / "out" / "common.csv").open() as file:
        assert [line["molecules"] for line in csv.DictReader(file) if line["source"] == "all"] == ["3", "3"]
    shown = capsys.readouterr().out
    assert "mmff94 failed on 1 of 4 entries (1 molecule):\n  OB(O)C-0: " in shown
    assert "entries of all methods: 3 molecules" in shown
    assert main(["evaluate", *settings, "data.split=train"]) == 0
    assert not (tmp_path / "out" / "common.csv").exists()


def test_an_entry_that_a_model_lacks_makes_the_status_one(store, tmp_path):
    made = from_config(CONFIG)
    made.provenance.domain = ChemicalDomain.of([from_smiles("CCO")])
    made.save(tmp_path / "narrow.espalike")
    settings = [f"data.path={store}", "data.split=null", "baselines=[zero]", f"out={tmp_path / 'out'}"]
    assert main(["evaluate", f"model={tmp_path / 'narrow.espalike'}", *settings]) == 1
    rows = json.loads((tmp_path / "out" / "summary.json").read_text())["rows"]
    assert {row["method"]: row["failed"] for row in rows} == {"narrow": 1, "zero": 0}


def test_a_baseline_that_is_not_installed_is_skipped(store, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "openff.toolkit", None)
    settings = [f"data.path={store}", f"out={tmp_path / 'out'}"]
    assert main(["evaluate", *settings, "baselines=[openff-2.2.1,zero]"]) == 0
    assert "skipped openff-2.2.1: " in capsys.readouterr().out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert "espalike[openff]" in summary["skipped"]["openff-2.2.1"]
    assert {row["method"] for row in summary["rows"]} == {"zero"}
    assert main(["evaluate", *settings, "baselines=[openff-2.2.1]"]) == 2
    assert "nothing to score" in capsys.readouterr().err


def test_baselines_with_settings_and_of_ones_own(store, tmp_path, capsys):
    (tmp_path / "conf" / "calculator").mkdir(parents=True)
    (tmp_path / "conf" / "calculator" / "mine.yaml").write_text(
        "_target_: espalike.qm.mmff.MMFFCalculator\nvariant: MMFF94\n"
    )
    chosen = "baselines=[mmff94,mine,{calculator:mmff94,variant:MMFF94s,label:static},{calculator:mine,label:again}]"
    settings = [f"data.path={store}", chosen, f"out={tmp_path / 'out'}"]
    assert main(["evaluate", "--config-dir", str(tmp_path / "conf"), *settings]) == 0
    rows = json.loads((tmp_path / "out" / "summary.json").read_text())["rows"]
    overall = {row["method"]: row["energy_rmse"] for row in rows if row["source"] == "all"}
    assert list(overall) == ["mmff94", "mine", "static", "again"]
    assert overall["mmff94"] == overall["mine"] == overall["again"]
    assert main(["evaluate", *settings[:1], "baselines=[mmff94,mmff94]"]) == 2
    assert "two methods are called mmff94" in capsys.readouterr().err


def test_files_of_a_reader_score_as_the_store_that_they_become(tmp_path):
    record = build_record("CCO", 3, split="test")
    with Chem.SDWriter(str(tmp_path / "drive.sdf")) as file:
        for xyz, value in zip(record.conformers.xyz, record.conformers.energy, strict=True):
            mol = to_rdkit(record.molecule, xyz.astype(np.float64))
            mol.SetDoubleProp("energy", float(value))
            mol.SetProp("_Name", "ethanol")
            file.write(mol)
    options = ["reader=sdf", "reader.level=B3LYP", "reader.units='energies kcal/mol'"]
    ingested = [*options, f"reader.path={tmp_path / 'drive.sdf'}", "audit=off", "origin=here", "licence=MIT"]
    assert main(["ingest", *ingested, f"out={tmp_path / 'store'}"]) == 0
    layout = {"_target_": "espalike.data.readers.sdf.SdfReader", "level": "B3LYP", "units": "energies kcal/mol"}
    inputs = compose("label", [f"input={tmp_path / 'drive.sdf'}", "out=labels"]) | {"reader": layout}
    (job,) = read_jobs(OmegaConf.create(inputs), Counter(), [])
    assert job.starts.shape == record.conformers.xyz.shape  # `label` reads the same file
    for name, more in (("drive.sdf", options), ("store", [])):
        settings = [f"data.path={tmp_path / name}", "data.split=null", "baselines=[mmff94]", *more]
        assert main(["evaluate", *settings, f"out={tmp_path / 'out' / name}"]) == 0
    one, other = (
        json.loads((tmp_path / "out" / name / "summary.json").read_text())["rows"][0] for name in ("drive.sdf", "store")
    )
    assert one["conformers"] == other["conformers"] == 3
    assert one["energy_rmse"] == pytest.approx(other["energy_rmse"], abs=1e-3)


def test_the_result_shows_itself(store, model, tmp_path):
    settings = {
        "models": [str(model)], "baselines": ["mmff94"], "terms": False, "out": str(tmp_path / "out"),
        "data": {"path": str(store), "split": None, "level": None}, "resamples": 10, "seed": 0, "worst": 1,
    }  # fmt: skip
    said = []
    result = evaluate(settings, said.append)
    assert said[-1] == f"wrote {tmp_path / 'out'}/table.csv, common.csv, summary.json, parity.png"
    assert result.models == ("mine",)
    assert not result.failures
    assert [failure.entry for failure in result.scores.failures] == ["OB(O)C-0"]
    text = repr(result)
    assert "mmff94" in text
    assert "entries of all methods: 3 molecules" in text
    page = result._repr_html_()
    assert page.count("<tr>") == len(result.rows) + len(result.common) + 2
    assert "<td>mine</td>" in page


def test_molecules_inside_the_domain_of_every_model_have_a_table(store, model, tmp_path, capsys):
    """Ethanol is in the domains of both models, acetaldehyde in that of one: the table has ethanol alone."""
    for name, smiles in (("wide", ["CCO", "CC=O"]), ("narrow", ["CCO"])):
        made = load(model)
        made.provenance.domain = ChemicalDomain.of([from_smiles(text) for text in smiles])
        (tmp_path / name).mkdir()
        made.save(tmp_path / name / "model.espalike")
    both = f"model=[{tmp_path}/wide/model.espalike,{tmp_path}/narrow/model.espalike]"
    more = [f"data.path={store}", "baselines=[mmff94]", f"out={tmp_path / 'out'}", "resamples=20"]
    assert main(["evaluate", both, *more]) == 0
    shown = capsys.readouterr().out
    assert "made-up, inside the domain of every model: 1 molecule," in shown
    assert "CC=O  (CC=O), outside the domain" in shown
    assert "CCO  (CCO), outside" not in shown
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["outside_domain"] == ["CC=O-0"]
    ethanol = [line for line in summary["rows"] if line["source"] == "made-up"]  # the other entry's source is `other`
    assert summary["inside"] == ethanol
    with (tmp_path / "out" / "inside.csv").open() as file:
        assert [line["method"] for line in csv.DictReader(file)] == ["wide", "narrow", "mmff94"]
    wide = evaluate_in_python(tmp_path / "wide" / "model.espalike", store, out=tmp_path / "out", resamples=0)
    assert (wide.inside, wide.outside) == ((), ())
    assert not (tmp_path / "out" / "inside.csv").exists()


def test_hdf5_scores_as_the_store_does(tmp_path):
    record = build_record("CCO", split="test")
    labels = [MMFFCalculator("MMFF94s")(record.molecule, xyz) for xyz in record.conformers.xyz]
    energy, forces = (np.stack(values) for values in zip(*labels, strict=True))
    record = replace(record, conformers=replace(record.conformers, energy=energy, forces=forces))
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
    assert status == [1, 0]  # one entry of the HDF5 cannot be read
    texts = [(tmp_path / "out" / name / "table.csv").read_text() for name in ("data.h5", "store")]
    tables = [list(csv.DictReader(text.splitlines())) for text in texts]
    for key in ("energy_rmse", "energy_mae", "force_rmse", "conformers"):
        assert float(tables[0][0][key]) == pytest.approx(float(tables[1][0][key]), abs=2e-4)


def test_level_and_several_files(store, tmp_path):
    records, rejected = read_records({"path": str(store), "split": None, "level": "GFN2-xTB"})
    assert [r.molecule.name for r in records] == ["CCC"]
    assert not rejected
    copy = shutil.copytree(store, tmp_path / Path(store).name)
    both, _ = read_records({"path": [str(store), str(copy)], "split": "test", "level": None})
    assert len({record.id for record in both}) == 4
    with pytest.raises(ValueError, match="twice, and its entries would count twice"):
        read_records({"path": [str(store), str(store)], "split": "test", "level": None})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["baselines=[]"], "nothing to score"),
        (["baselines=[charmm]"], "no baseline 'charmm'"),
        (["baselines=[zero]", "data.split=holdout"], "no entries with split 'holdout'"),
        (["baselines=[zero]", "data.path=nowhere"], "no such file or store"),
        (["baselines=[zero]", "data.path=nowhere.h5"], "no such file"),
        (["baselines=[zero]", f"data.path={__file__}"], "for the layout of another file: reader=NAME"),
        (["baselines=[zero]", f"data.path={Path(__file__).parent}"], "not a store"),
        (["baselines=[zero]", "reader=sdf", "reader.path=a.sdf"], "give the file as data.path=FILE"),
        (["baselines=[zero]", "resamples=-1"], "resamples=-1: expected a number, 0 or more"),
        (["model=nothing.espalike"], "no model 'nothing.espalike'"),
        (["modle=x"], "modle: evaluate has no such setting; nearest: models"),
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
