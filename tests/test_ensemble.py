"""Ensembles: the mean of their members' parameters, how far those lie apart, their file."""

import json
import re
from dataclasses import replace

import ase
import numpy as np
import pytest
import torch
from openmm import XmlSerializer
from safetensors.torch import load_file, save_file

from espalike import modelfile
from espalike.ase import Calculator
from espalike.check.fields import field_of
from espalike.chem import embed, from_smiles
from espalike.cli.main import main
from espalike.data.store import Store
from espalike.domain import ChemicalDomain
from espalike.energy import energy
from espalike.export import to_openmm
from espalike.hybrid import overlap
from espalike.model import Ensemble, ModelFileError, describe, from_config, load
from espalike.potential import potential
from espalike.qm.base import gives
from espalike.qm.models import ModelCalculator
from espalike.terms.bond import HarmonicBond
from espalike.units import factor
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
        plain = [c for c, param in enumerate(bound.term.params) if not param.weight]
        np.testing.assert_allclose(bound.values.numpy()[:, plain], np.mean(values, 0)[:, plain], rtol=1e-12)
        np.testing.assert_allclose(spread.terms[t].values.numpy(), np.std(values, 0, ddof=1), rtol=1e-9, atol=1e-15)
    assert float(spread.bound("HarmonicBond").values.min()) > 0
    assert float(mean.bound("Coulomb").values.sum()) == pytest.approx(-1.0, abs=1e-12)


def test_mean_and_spread_take_one_pass_of_each_member(ensemble):
    molecules = [from_smiles(MOLECULE), from_smiles("CCO")]
    passes = []
    hooks = [member.register_forward_hook(lambda *_: passes.append(1)) for member in ensemble.in_float64().members]
    mean, spread = ensemble.parametrize_with_spread(molecules, [None, np.linspace(-0.4, 0.4, 9)])
    for hook in hooks:
        hook.remove()
    assert len(passes) == 3
    wanted = ensemble.parametrize(molecules, [None, np.linspace(-0.4, 0.4, 9)]), ensemble.spread(molecules)
    assert mean.molecules == tuple(molecules)
    for made, expected in zip((mean, spread), wanted, strict=True):
        for one, other in zip(made.terms, expected.terms, strict=True):
            torch.testing.assert_close(one.values, other.values, rtol=0, atol=1e-12)


def term(name):
    return {"_target_": f"espalike.terms.{name}"}


def far_apart(terms, count=3):
    """An ensemble whose members differ by much."""
    members = [member(seed, terms=terms) for seed in range(count)]
    with torch.no_grad():
        for weights in (w for single in members for w in single.heads.parameters()):
            weights += 0.1 * torch.randn_like(weights)
    return Ensemble(members)


@pytest.mark.parametrize("smiles", [MOLECULE, "c1cc(F)cnc1N"])
def test_bonded_energies_of_class_one_are_the_mean_of_the_members(smiles):
    bonded = [*CONFIG["terms"][:4], term("angle.UreyBradley")]
    ensemble, molecule = far_apart(bonded), from_smiles(smiles)
    xyz = torch.from_numpy(embed(molecule, 1, seed=0)) + 0.1 * torch.randn(4, molecule.n_atoms, 3, dtype=torch.float64)
    each = [energy(single.parametrize(molecule), xyz) for single in ensemble.members]
    both = energy(ensemble.parametrize(molecule), xyz)
    spread = torch.stack([one.forces for one in each]).std(0).max()
    assert spread > 10.0
    torch.testing.assert_close(both.forces, torch.stack([one.forces for one in each]).mean(0), rtol=0, atol=1e-10)
    apart = both.energy - torch.stack([one.energy for one in each]).mean(0)
    torch.testing.assert_close(apart, apart[:1].expand_as(apart), rtol=0, atol=1e-10)


def test_couplings_take_the_equilibrium_values_of_bonds_and_angles():
    terms = [term("bond.QuarticBond"), term("angle.QuarticAngle"), term("cross.BondBond"), term("cross.BondAngle")]
    ensemble, molecule = far_apart(terms), from_smiles("CCO")
    system = ensemble.parametrize(molecule)
    r0 = {frozenset(i): v for i, v in zip(*_column(system, "QuarticBond", "r0"), strict=True)}
    for (a, b, c), first in zip(*_column(system, "BondBond", "ra0"), strict=True):
        assert first == r0[frozenset((a, b))], (a, b, c)
    theta0 = dict(zip(*_column(system, "QuarticAngle", "theta0"), strict=True))
    assert theta0 == dict(zip(*_column(system, "BondAngle", "theta0"), strict=True))


def _column(system, name, parameter):
    bound = system.bound(name)
    column = [param.name for param in bound.term.params].index(parameter)
    return [tuple(idx) for idx in bound.tuples.idx.tolist()], bound.values[:, column].tolist()


@pytest.mark.parametrize("name", ["bond.QuarticBond", "bond.MorseBond", "angle.QuarticAngle", "angle.CosineAngle"])
def test_weighted_equilibrium_values_are_closest_to_the_mean_of_other_bonds_and_angles(name):
    ensemble, molecule = far_apart([term(name)]), from_smiles("CCO")
    xyz = torch.from_numpy(embed(molecule, 1, seed=0)) + 0.05 * torch.randn(50, 9, 3, dtype=torch.float64)
    systems = [single.parametrize(molecule) for single in ensemble.members]
    mean = torch.stack([energy(system, xyz).forces for system in systems]).mean(0)
    (bound,) = (weighted := ensemble.parametrize(molecule)).terms
    values = torch.stack([system.terms[0].values for system in systems]).mean(0)
    plain = replace(weighted, terms=(replace(bound, values=values),))
    errors = [(energy(system, xyz).forces - mean).square().mean().sqrt() for system in (weighted, plain)]
    assert errors[0] < errors[1]


def test_the_weight_of_a_parameter_is_one_of_the_term():
    with pytest.raises(TypeError, match="Odd: weights of r0 are not among its parameters"):

        class Odd(HarmonicBond):
            params = (replace(HarmonicBond.params[1], weight="stiffness"),)


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
    header["sha256"] = modelfile._digest(header, load_file(path))  # as if it was written so
    save_file(load_file(path), tmp_path / "bad.espalike", metadata={"espalike": json.dumps(header)})
    with pytest.raises(ModelFileError, match=r"bad\.espalike: weights do not fit"):
        load(tmp_path / "bad.espalike")


def test_members_have_to_fit():
    with pytest.raises(ValueError, match="two or more members; got 1"):
        Ensemble([member(0)])
    with pytest.raises(ValueError, match="the same configuration"):
        Ensemble([member(0), member(1, width=8)])
    with pytest.raises(TypeError, match="made of models"):
        Ensemble(["espalike-1", "espalike-2"])


def trained(seed, *smiles, **splits):
    """A member as if it were trained on these molecules."""
    model = member(seed)
    model.provenance.domain = ChemicalDomain.of([from_smiles(text) for text in smiles])
    model.provenance.split, model.provenance.figures = splits, {"validation": {"energy_rmse": 1.0 + seed}}
    model.provenance.data = [{"name": f"set-{seed}", "hash": f"{seed}"}]
    return model


def test_members_of_different_data_have_the_chemistry_of_all_and_the_training_molecules_of_any(tmp_path):
    """The ensemble had the domain, the split and the errors of its first member."""
    one = trained(0, "CCO", "CC(=O)[O-]", train=["A", "B"], val=["C"])
    other = trained(1, "CCN", "CCO", train=["A", "C"], val=["D"])
    Ensemble([one, other]).save(tmp_path / "two.espalike")
    made = load(tmp_path / "two.espalike")
    assert made.domain.symbols == ["H", "C", "O"]
    assert made.domain.charges == (0, 0)
    assert set(made.domain.counts) == set(one.domain.counts) & set(other.domain.counts)
    assert made.provenance.split == {"train": ["A", "B", "C"], "val": ["D"]}
    assert [store["name"] for store in made.provenance.data] == ["set-0", "set-1"]
    assert made.provenance.figures == {}
    assert not made.domain.check(from_smiles("CCO"))
    assert made.domain.check(from_smiles("CC(=O)[O-]"))
    with pytest.raises(ValueError, match="no element or no net charge of training molecules in common"):
        Ensemble([trained(0, "[Na+]"), trained(1, "CCO")])


def test_an_ensemble_counts_as_its_members(ensemble):
    assert len(Ensemble([ensemble, member(7)]).members) == 4


def test_its_members_disagree_as_a_calculator(ensemble, path, tmp_path):
    from espalike.qm.models import EnsembleCalculator

    paths = [tmp_path / f"{number}.espalike" for number in range(3)]
    for single, file in zip(ensemble.members, paths, strict=True):
        single.save(file)
    molecule = from_smiles(MOLECULE)
    xyz = embed(molecule, 2, seed=1)
    one, several = EnsembleCalculator([path]), EnsembleCalculator(paths)
    np.testing.assert_allclose(one.disagreement(molecule, xyz), several.disagreement(molecule, xyz), rtol=1e-12)


def test_all_that_takes_a_model_computes_with_the_mean_parameters(ensemble, path):
    molecule = from_smiles("CCO", "ethanol")
    xyz = embed(molecule, 1, seed=1)
    system = ensemble.parametrize(molecule)
    expected = energy(system, torch.from_numpy(xyz)).forces[0].numpy()
    atoms = ase.Atoms(molecule.numbers, xyz[0], calculator=Calculator(str(path), molecule))
    label = ModelCalculator(path)
    np.testing.assert_allclose(label(molecule, xyz[0])[1], expected, atol=1e-9)
    assert not gives(label, "disagreement")
    np.testing.assert_allclose(potential(path, molecule)(molecule, xyz[0])[1], expected, atol=1e-3)
    np.testing.assert_allclose(atoms.get_forces() * factor("eV"), expected, atol=1e-3)
    checked = XmlSerializer.serialize(field_of(str(path)).system(molecule))
    assert checked == XmlSerializer.serialize(to_openmm(system))
    assert overlap(system, path, xyz).effective == pytest.approx(1.0)


@pytest.mark.slow
def test_the_commands_take_an_ensemble(path, tmp_path, capfd):
    driven = ["sampler=thermal", "calculator@sampler.calculator=espalike", f"sampler.calculator.model={path}"]
    settings = ["calculator=espalike", f"calculator.model={path}", "input=CCO", *driven, "sampler.frames=3"]
    assert main(["label", *settings, "sampler.starts=1", f"out={tmp_path / 'store'}"]) == 0
    assert Store.open(tmp_path / "store").manifest["levels"] == ["espalike:e"]
    scored = [f"data.path={tmp_path / 'store'}", "data.split=null"]
    assert main(["evaluate", f"model={path}", *scored, f"out={tmp_path / 'scores'}"]) == 0
    summary = json.loads((tmp_path / "scores" / "summary.json").read_text())
    assert summary["rows"][0]["force_rmse"] == pytest.approx(0.0, abs=1e-3)
    few = ["geometries=1", "rounds=1", "resamples=20", "labels=null"]
    assert main(["landscape", f"methods=[{path},mmff94]", *few, *scored, f"out={tmp_path / 'plane'}"]) == 0
    assert main(["check", str(path), "CCO", "--picoseconds", "0.1", "--out", str(tmp_path / "check")]) in (0, 1)
    assert (tmp_path / "check" / "report.html").is_file()
    assert "Traceback" not in capfd.readouterr().err


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
