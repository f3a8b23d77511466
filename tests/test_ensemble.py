"""Ensembles: the mean of their members' parameters, how far those lie apart, their file."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from espalike.chem import embed, from_smiles
from espalike.cli.main import main
from espalike.model import Ensemble, ModelFileError, describe, from_config, load
from tests.training.common import CONFIG

MOLECULE = "CC(=O)[O-]"


def member(seed, **config):
    torch.manual_seed(seed)
    return from_config({**CONFIG, **config})


@pytest.fixture(scope="module")
def ensemble():
    made = Ensemble([member(seed) for seed in range(3)])
    made.provenance.figures["spread"] = {"HarmonicBond.k": 3.0}
    made.provenance.notes["members"] = [{"seed": s, "validation": {"val/x/energy_rmse": s + 0.25}} for s in range(3)]
    return made


@pytest.fixture(scope="module")
def path(ensemble, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "e.espalike"
    ensemble.save(path)
    return path


def test_parameters_are_the_mean_of_the_members_and_the_spread_their_deviation(ensemble):
    molecule = from_smiles(MOLECULE)
    mean, spread = ensemble.parametrize(molecule), ensemble.spread(molecule)
    assert mean.molecules == (molecule,)
    each = [m.parametrize(molecule) for m in ensemble.members]
    for t, bound in enumerate(mean.terms):
        values = np.stack([system.terms[t].values.numpy() for system in each])
        np.testing.assert_allclose(bound.values.numpy(), np.mean(values, 0), rtol=1e-12)
        np.testing.assert_allclose(spread.terms[t].values.numpy(), np.std(values, 0, ddof=1), rtol=1e-9, atol=1e-15)
    assert float(spread.bound("HarmonicBond").values.min()) > 0
    assert float(mean.bound("Coulomb").values.sum()) == pytest.approx(-1.0, abs=1e-12)


def test_molecules_without_torsions_have_a_spread_too(ensemble):
    spread = ensemble.spread(from_smiles("O"))
    assert spread.bound("PeriodicProper").values.shape == (0, 6)
    assert float(spread.bound("HarmonicBond").values.min()) > 0


def test_one_file_holds_them_all(ensemble, path):
    assert describe(path)["members"] == 3
    molecule, loaded = from_smiles(MOLECULE), load(path)
    assert len(loaded.members) == 3
    assert all(single.provenance.figures == ensemble.provenance.figures for single in loaded.members)
    for first, second in zip(ensemble.parametrize(molecule).terms, loaded.parametrize(molecule).terms, strict=True):
        assert torch.equal(first.values, second.values)


@pytest.mark.parametrize(
    "changes", [{"members": "3"}, {"members": 10**9}, {"format_version": 1}, {"format_version": 2, "members": 1}]
)
def test_a_damaged_count_is_refused(path, tmp_path, changes):
    header = {**describe(path), **changes}
    save_file(load_file(path), tmp_path / "bad.espalike", metadata={"espalike": json.dumps(header)})
    with pytest.raises(ModelFileError, match=r"bad\.espalike: of format .* members"):
        load(tmp_path / "bad.espalike")
    header = {**describe(path), "members": 1}
    save_file(load_file(path), tmp_path / "bad.espalike", metadata={"espalike": json.dumps(header)})
    with pytest.raises(ModelFileError, match=r"bad\.espalike: weights do not fit"):
        load(tmp_path / "bad.espalike")


def test_members_have_to_fit():
    with pytest.raises(ValueError, match="two or more members; got 1"):
        Ensemble([member(0)])
    with pytest.raises(ValueError, match="the same configuration"):
        Ensemble([member(0), member(1, width=8)])


def test_its_members_disagree_as_a_calculator(ensemble, path, tmp_path):
    from espalike.qm.models import EnsembleCalculator

    paths = [tmp_path / f"{number}.espalike" for number in range(3)]
    for single, file in zip(ensemble.members, paths, strict=True):
        single.save(file)
    molecule = from_smiles(MOLECULE)
    xyz = embed(molecule, 2, seed=1)
    one, several = EnsembleCalculator([path]), EnsembleCalculator(paths)
    np.testing.assert_allclose(one.disagreement(molecule, xyz), several.disagreement(molecule, xyz), rtol=1e-12)


def test_the_report_has_the_spread(ensemble, path, tmp_path, capfd):
    report = tmp_path / "report.json"
    assert main(["parametrize", MOLECULE, "--model", str(path), "--out", str(tmp_path), "--report", str(report)]) == 0
    content = json.loads(report.read_text())
    spread = ensemble.spread(from_smiles(MOLECULE)).bound("HarmonicBond").values[:, 0].numpy()
    spread_of_k = content["inputs"][0]["spread"]["HarmonicBond"]["k"]
    assert spread_of_k["rms"] == pytest.approx(np.sqrt((spread**2).mean()), rel=1e-3)
    assert spread_of_k["max"] == pytest.approx(spread.max(), rel=1e-3)
    assert content["units"]["spread"]["HarmonicBond"]["k"] == "kcal/mol/angstrom**2"
    assert set(content["inputs"][0]["spread"]) == {
        bound.term.name for bound in ensemble.parametrize(from_smiles("CC(=O)[O-]")).terms
    }


def test_a_single_model_has_no_spread_in_its_report(tmp_path):
    member(0).save(tmp_path / "one.espalike")
    report = tmp_path / "report.json"
    arguments = ["parametrize", "O", "--model", str(tmp_path / "one.espalike"), "--out", str(tmp_path)]
    assert main([*arguments, "--report", str(report)]) == 0
    assert json.loads(report.read_text())["inputs"][0]["spread"] is None


def test_info_says_how_many_and_how_far_apart(path, capfd):
    assert main(["info", str(path)]) == 0
    out = capfd.readouterr().out
    assert "3 members, each SAGE, 2 layers, width 16" in out
    assert re.search(r"HarmonicBond\.k +3\b", out)
    assert re.search(r"validation, seed 2 +x +2\.25\b", out)
    assert main(["info", str(path), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["members"] == 3
