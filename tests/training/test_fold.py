"""Frozen terms subtracted from the labels: loss and gradients equal those with the terms in every step."""

import copy

import numpy as np
import pytest
import torch

from espalike.data.batches import Batches
from espalike.data.sampler import Picks
from espalike.energy import energy
from espalike.training.fold import constant_terms, folded_labels
from espalike.training.lightning import TrainingModule
from espalike.training.objective import Objective
from espalike.training.start import freeze
from tests.nn.common import F64, config, loud, model

SMILES = ("CC(=O)Nc1ccccc1", "[Cl-]", "C#CCO", "O", "C1CC1[NH3+]", "CCO")
COUNTS = (5, 3, 1, 4, 2, 6)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    from espalike.data.dataset import StoreDataset
    from espalike.data.store import Store, write_store
    from tests.data.conftest import MANIFEST, build_record

    folder = tmp_path_factory.mktemp("store")
    records = [
        build_record(smiles, count, seed=number)
        for number, (smiles, count) in enumerate(zip(SMILES, COUNTS, strict=True))
    ]
    write_store(folder / "s", records, manifest=MANIFEST)
    store = Store.open(folder / "s")
    return StoreDataset([store], None, store.manifest["levels"])


def picks():
    """Some conformers of some entries, not in order, one entry twice."""
    chosen = [(5, [1, 3, 5]), (0, [0, 4]), (1, [2]), (2, [0]), (4, [0, 1]), (5, [0, 2])]
    entries, parts = zip(*chosen, strict=True)
    return Picks(np.array(entries), np.array([len(p) for p in parts]), np.concatenate(parts))


PAIRS = ("LennardJones", "Coulomb")


def frozen(names, forcefield="class1"):
    made = copy.deepcopy(model(forcefield))
    freeze(made, names)
    return made


def module_of(made, folded=()):
    objective = Objective(half_weight_at=1.0)  # by stored energies, also where folded ones replace them
    return TrainingModule(made, objective, torch.optim.Adam, ["made-up"], folded=folded).double()


@pytest.mark.parametrize("forcefield", ["class1", "class2"])
def test_loss_and_gradients_are_the_same(dataset, tmp_path, forcefield):
    made = frozen(["encoder", "pair"], forcefield)
    names = constant_terms(made)
    assert names == PAIRS
    labels = folded_labels(dataset, made, names, tmp_path)
    weights = [p for p in made.parameters() if p.requires_grad]
    outcomes = []
    for folded, instead in ((), None), (names, labels):
        module, batch = module_of(made, folded), Batches(dataset, F64, instead=instead).__getitems__(picks())
        system, prediction = module.predict(batch)
        losses = module.losses(system, prediction, batch)
        assert len(prediction.by_term) == len(system.terms)
        gradients = torch.autograd.grad(module.objective.total(losses), weights, allow_unused=True)
        outcomes.append([losses["energy"], losses["forces"], *(g for g in gradients if g is not None)])
    assert float(outcomes[0][0].detach()) > 0.1
    for one, other in zip(*outcomes, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-10 * max(1.0, float(one.detach().abs().max())))


def test_constant_terms():
    from espalike.model import from_config

    assert constant_terms(frozen(["pair"])) == ()  # the encoder moves what the heads see
    assert constant_terms(frozen(["encoder"])) == ()
    assert constant_terms(frozen(["encoder", "bond"])) == ("HarmonicBond",)
    assert constant_terms(frozen(["encoder", "LennardJones"])) == ("LennardJones",)
    shifting = loud(from_config({**config("class1"), "levels": ["a", "b"]}))
    freeze(shifting, ["encoder", "bond", "pair"])
    assert constant_terms(shifting) == PAIRS  # another level shifts bonds


def test_a_geometry_without_finite_energies_is_named(dataset, tmp_path, monkeypatch):
    made = frozen(["encoder", "pair"])
    monkeypatch.setattr(
        "espalike.training.fold.energy", lambda system, xyz: energy(system, torch.where(xyz > 0, 0.0, xyz))
    )
    with pytest.raises(
        ValueError, match=r"^s: CC.*-0: conformer 0 has no finite energy or forces of LennardJones, Coulomb"
    ):
        folded_labels(dataset, made, PAIRS, tmp_path)


@pytest.mark.parametrize("setting", ["lennard_jones.mixing=geometric", "lennard_jones.scale14=0.9"])
def test_labels_of_other_settings_of_a_term_are_not_taken(dataset, tmp_path, setting):
    """Both models have the same weights, and the files are in the same folder."""
    from espalike.model import from_config

    made = frozen(["encoder", "pair"])
    other = from_config(config("class1", f"forcefield.term.{setting}")).double().eval()
    other.load_state_dict(made.state_dict())
    freeze(other, ["encoder", "pair"])
    folded_labels(dataset, made, PAIRS, tmp_path)
    labels = folded_labels(dataset, other, PAIRS, tmp_path)["energy"]
    values = np.load(labels.path)
    for entry in range(len(dataset)):
        record = dataset.record(entry)
        system = other.parametrize(record.molecule)
        parts = energy(system, torch.from_numpy(np.float64(record.conformers.xyz))).by_term
        pairs = [part for bound, part in zip(system.terms, parts, strict=True) if bound.term.name in PAIRS]
        expected = record.conformers.energy - sum(pairs)[:, 0].detach().numpy()
        start = labels.start[entry]
        np.testing.assert_allclose(values[start : start + len(expected)], expected, rtol=1e-9, atol=1e-6)


def test_a_folder_that_cannot_be_made_is_named(dataset, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file/labels, for labels .* cannot be made .*: data.labels_dir=FOLDER"):
        folded_labels(dataset, frozen(["encoder", "pair"]), PAIRS, tmp_path / "file" / "labels")


def test_labels_are_computed_once_and_again_for_other_weights_and_code(dataset, tmp_path, monkeypatch):
    made, calls = frozen(["encoder", "pair"]), []

    def counted(entries):
        calls.append(1)
        return entries

    first = folded_labels(dataset, made, PAIRS, tmp_path, counted)
    assert folded_labels(dataset, made, PAIRS, tmp_path, counted)["energy"].path == first["energy"].path
    assert len(calls) == 1
    with torch.no_grad():
        made.heads[-1].head.atom.weight.add_(0.1)  # charges
    assert folded_labels(dataset, made, PAIRS, tmp_path, counted)["energy"].path != first["energy"].path
    assert len(calls) == 2
    monkeypatch.setattr("espalike.training.fold.files.digest_of", lambda *modules: "other code")
    folded_labels(dataset, made, PAIRS, tmp_path, counted)
    assert len(calls) == 3


@pytest.mark.parametrize("change", ["bit", "shorter", "another", "record"])
def test_changed_files_are_computed_again(dataset, tmp_path, change):
    """A changed bit would have been a wrong label, and a shorter file an error of NumPy amid training."""
    made = frozen(["encoder", "pair"])
    whole = {
        name: column.open().files[0].copy() for name, column in folded_labels(dataset, made, PAIRS, tmp_path).items()
    }
    energy_file, forces_file = sorted(tmp_path.glob("*.npy"))
    if change == "bit":
        content = bytearray(forces_file.read_bytes())
        content[-2] ^= 16
        forces_file.write_bytes(content)
    elif change == "record":
        next(tmp_path.glob("*.json")).write_text("{}")
    else:
        np.save(energy_file, whole["energy"][:-1] if change == "shorter" else -whole["energy"])
    for _ in range(2):
        labels = folded_labels(dataset, made, PAIRS, tmp_path)
        assert all(np.array_equal(labels[name].open().files[0], whole[name]) for name in whole)
