"""`espalike train` from a model: fine-tuning, one molecule's scans; and ensembles."""

import numpy as np
import pytest
import torch

from espalike.chem import connectivity_key, embed, from_smiles
from espalike.chem.conformers import Conformers
from espalike.cli.main import main
from espalike.data.schema import Record
from espalike.data.store import write_store
from espalike.energy import energy
from espalike.model import ChemicalDomain, describe, from_config, load
from espalike.qm.mmff import MMFFCalculator
from espalike.qm.sampling.constrained import turned
from tests.training.common import CONFIG

QUIET = ["trainer.enable_progress_bar=false", "threads=1"]
MOLECULE, DIHEDRAL = from_smiles("CCCO", "propanol"), (0, 1, 2, 3)
MANIFEST = {"licence": "CC0", "origin": "test", "command": "test"}


def record(molecule, xyz, id, split="train", dihedral=None):
    label = MMFFCalculator()
    energies, forces = zip(*(label(molecule, x) for x in xyz), strict=True)
    conformers = Conformers(xyz, np.array(energies), np.array(forces), "MMFF94", "made")
    return Record(id, molecule, conformers, split, connectivity_key(molecule), dihedral=dihedral)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """A store of one molecule: a rigid scan, labelled by MMFF94, on no split in particular."""
    start = embed(MOLECULE, 1, seed=0)[0]
    xyz = np.array([turned(MOLECULE, start, {DIHEDRAL: float(angle)}) for angle in range(-180, 180, 30)])
    path = tmp_path_factory.mktemp("store") / "scan"
    write_store(path, [record(MOLECULE, xyz, "propanol-scan", "", np.array(DIHEDRAL))], manifest=MANIFEST)
    return path


@pytest.fixture(scope="module")
def general(tmp_path_factory):
    """The file of a model to start from."""
    torch.manual_seed(0)
    model = from_config({**CONFIG, "levels": ["DFT"]})
    model.provenance.domain = ChemicalDomain((1, 6, 7, 8), ("C(CHHH)",), (0, 0))
    model.provenance.split = {"train": ["SEEN"], "val": []}
    path = tmp_path_factory.mktemp("model") / "general.espalike"
    model.save(path)
    return path


def train(*overrides):
    return main(["train", *QUIET, *overrides])


def profile_error(model, store):
    """Root mean square error of a profile [kcal/mol]."""
    from espalike.data.store import Store

    conformers = Store.open(store).record(0).conformers
    predicted = energy(model.parametrize(MOLECULE), torch.from_numpy(np.array(conformers.xyz, np.float64))).energy[:, 0]
    error = predicted.numpy() - conformers.energy
    return np.sqrt(np.mean((error - error.mean()) ** 2))


def test_bespoke_fits_the_scan_and_leaves_nonbonded_parameters_alone(scans, general, tmp_path, capfd):
    out = tmp_path / "run"
    settings = ["experiment=bespoke", f"start={general}", f"data.stores=[{scans}]", f"out={out}"]
    assert train(*settings, "trainer.max_epochs=60", "optimizer.lr=1e-2") == 0
    printed = capfd.readouterr().out
    assert f"from {general}" in printed
    assert "folded into the labels: LennardJones, Coulomb" in printed
    before, after = load(general), load(out / "model.espalike")
    assert profile_error(after, scans) < 0.5 * profile_error(before, scans)
    ours, other = after.parametrize(MOLECULE), before.parametrize(MOLECULE)
    same = {a.term.name for a, b in zip(ours.terms, other.terms, strict=True) if torch.equal(a.values, b.values)}
    assert same - {"PeriodicImproper"} == {"LennardJones", "Coulomb"}  # it has no impropers
    header = describe(out / "model.espalike")
    assert header["notes"]["start"]["model"] == str(general)
    assert header["split"] == {"train": sorted(["SEEN", connectivity_key(MOLECULE)]), "val": []}
    assert header["domain"]["elements"] == [1, 6, 7, 8]
    assert header["config"]["width"] == CONFIG["width"]
    assert header["config"]["levels"] == ["MMFF94"]


def test_the_pull_holds_parameters_back(scans, general, tmp_path):
    def distance(pull):
        out = tmp_path / f"{pull}"
        settings = ["experiment=bespoke", f"start={general}", f"data.stores=[{scans}]", f"out={out}"]
        assert train(*settings, "trainer.max_epochs=10", "optimizer.lr=1e-2", f"objective.pull={pull}") == 0
        ours, other = (
            load(path).parametrize(MOLECULE).bound("HarmonicAngle") for path in (out / "model.espalike", general)
        )
        return float((ours.values - other.values).abs().mean())

    assert distance(1e3) < 0.2 * distance(0.0)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store of a few molecules with a validation split."""
    records = []
    for smiles, split in (("CCO", "train"), ("CC(=O)N", "train"), ("CCN", "val")):
        molecule, rng = from_smiles(smiles, smiles), np.random.default_rng(0)
        xyz = embed(molecule, 3, seed=0)
        records.append(record(molecule, xyz + 0.03 * rng.standard_normal(xyz.shape), smiles, split))
    path = tmp_path_factory.mktemp("store") / "mmff"
    write_store(path, records, manifest=MANIFEST)
    return path


def test_fine_tuning_begins_where_the_model_stands(store, general, tmp_path):
    out = tmp_path / "run"
    settings = [f"start={general}", f"data.stores=[{store}]", f"out={out}", "data.level=MMFF94"]
    assert train("experiment=finetune", *settings, "trainer.max_epochs=1", "optimizer.lr=1e-9") == 0
    ours, other = (load(path).state_dict() for path in (out / "model.espalike", general))
    assert set(ours) == set(other)
    for name in ours:
        torch.testing.assert_close(ours[name], other[name], rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("forcefield=morse", "it has no MorseBond; it has HarmonicBond."),
        ("conv=gin", "it has SAGE, not GIN."),
        ("~forcefield.term.coulomb", "it has Coulomb."),
        ("model.width=64", "its model.width is 16, not 64."),
    ],
)
def test_a_chosen_setting_is_not_silently_replaced(store, general, tmp_path, capfd, choice, message):
    settings = [f"start={general}", f"data.stores=[{store}]", f"out={tmp_path}", "data.level=MMFF94"]
    assert train("experiment=finetune", *settings, choice) == 2
    assert f"differ from these settings: {message} Leave these settings out" in capfd.readouterr().err


def test_a_pull_needs_a_model(store, tmp_path, capfd):
    assert train(f"data.stores=[{store}]", f"out={tmp_path}", "data.level=MMFF94", "objective.pull=1") == 2
    assert "give start=MODEL" in capfd.readouterr().err


SMALL = ["model.width=16", "model.layers=2", "model.hidden=16", "data.level=MMFF94"]


@pytest.fixture(scope="module")
def ensemble(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("ensemble")
    assert train(f"data.stores=[{store}]", f"out={out}", *SMALL, "ensemble=2", "trainer.max_epochs=2") == 0
    return out


def test_an_ensemble_is_trained_in_one_command(ensemble, store):
    model = load(ensemble / "model.espalike")
    members = [load(ensemble / f"member-{number}" / "model.espalike") for number in (1, 2)]
    molecule = from_smiles("CCN")
    ours, *theirs = (m.parametrize(molecule).bound("HarmonicBond").values for m in (model, *members))
    torch.testing.assert_close(ours[:, 0], (theirs[0] + theirs[1])[:, 0] / 2)
    assert not torch.equal(*theirs)
    figures = model.provenance.figures
    spread = (theirs[0] - theirs[1]).abs()[:, 0] / 2**0.5
    assert figures["spread"]["HarmonicBond.k"] == pytest.approx(float(spread.square().mean().sqrt()), rel=1e-2)
    assert {"val/loss", "val/made/energy_rmse", "val/made/forces_rmse"} <= set(figures["validation"])
    notes = model.provenance.notes
    assert [member["seed"] for member in notes["members"]] == [0, 1]
    assert notes["training"]["ensemble"] == 2


def test_validation_figures_are_those_of_the_mean(ensemble, store):
    from espalike.data.store import Store

    records = [Store.open(store).record(i) for i in range(3)]
    (held,) = [r for r in records if r.split == "val"]
    predicted = energy(
        load(ensemble / "model.espalike").parametrize(held.molecule),
        torch.from_numpy(np.array(held.conformers.xyz, np.float64)),
    )
    expected = float(np.sqrt(np.mean((predicted.forces.numpy() - held.conformers.forces) ** 2)))
    result = load(ensemble / "model.espalike").provenance.figures["validation"]["val/made/forces_rmse"]
    assert result == pytest.approx(expected, rel=1e-3)


def test_an_ensemble_whose_forces_need_autograd(store, tmp_path):
    settings = [*SMALL, "forcefield=class2", "ensemble=2", "trainer.max_epochs=1"]
    assert train(f"data.stores=[{store}]", f"out={tmp_path}", *settings) == 0
    assert load(tmp_path / "model.espalike").provenance.figures["validation"]["val/made/forces_rmse"] > 0.0


def test_a_stopped_ensemble_goes_on(ensemble, store, capfd):
    """Finished members are kept; missing ones are trained."""
    import shutil

    kept = (ensemble / "member-1" / "model.espalike").read_bytes()
    before = (ensemble / "member-2" / "model.espalike").read_bytes()
    shutil.rmtree(ensemble / "member-2")
    settings = [f"data.stores=[{store}]", f"out={ensemble}", *SMALL, "ensemble=2", "trainer.max_epochs=2"]
    assert train(*settings, "resume=true") == 0
    assert (ensemble / "member-1" / "model.espalike").read_bytes() == kept
    ours, other = load(ensemble / "member-2" / "model.espalike"), before
    path = ensemble / "before.espalike"
    path.write_bytes(other)
    assert all(torch.equal(v, load(path).state_dict()[name]) for name, v in ours.state_dict().items())


def test_each_model_of_an_ensemble_is_trained_from_its_counterpart(ensemble, store, tmp_path, capfd):
    start, out = ensemble / "model.espalike", tmp_path / "run"
    settings = ["experiment=finetune", f"start={start}", f"data.stores=[{store}]", f"out={out}", "data.level=MMFF94"]
    assert train(*settings, "trainer.max_epochs=1", "optimizer.lr=1e-9", "objective.pull=1e9") == 0
    printed = capfd.readouterr().out
    assert f"{start} is an ensemble: each of its 2 models is trained further" in printed
    assert f"from model 2 of {start}" in printed
    before, after = load(start), load(out / "model.espalike")
    for old, new in zip(before.members, after.members, strict=True):
        for name, weights in new.state_dict().items():
            torch.testing.assert_close(weights, old.state_dict()[name], rtol=0, atol=1e-7)
    assert after.provenance.notes["start"]["model"] == str(start)
    # the pull of the ensemble is from the ensemble, not from one of its models
    assert after.provenance.figures["validation"]["val/loss"] < 1e4


def test_one_model_of_an_ensemble_is_trained_if_it_is_chosen(ensemble, general, store, tmp_path, capfd):
    start, out = ensemble / "model.espalike", tmp_path / "run"
    settings = ["experiment=finetune", f"start={start}", f"data.stores=[{store}]", f"out={out}", "data.level=MMFF94"]
    assert train(*settings, "member=2", "trainer.max_epochs=1", "optimizer.lr=1e-9") == 0
    weights = load(start).members[1].state_dict()
    for name, ours in load(out / "model.espalike").state_dict().items():
        torch.testing.assert_close(ours, weights[name], rtol=0, atol=1e-7)
    capfd.readouterr()
    for choice, message in (
        ("ensemble=3", f"ensemble=3, but start={start} is an ensemble of 2 models. Leave ensemble out to train each"),
        ("ensemble=1", "or train one of them: member=1 (to 2)"),
        ("member=3", "member=3: expected the number of a model of an ensemble"),
        (f"start={general} member=1", f"start={general} holds 1 model"),
    ):
        assert train(*settings, "overwrite=true", *choice.split()) == 2
        assert message in capfd.readouterr().err
