"""Frozen terms subtracted from the labels: loss and gradients equal those with the terms in every step."""

import copy

import pytest
import torch

from espalike.data.batches import Batches
from espalike.energy import energy
from espalike.training.fold import constant_terms, folded_labels
from espalike.training.lightning import TrainingModule
from espalike.training.objective import Objective
from espalike.training.start import freeze
from tests.data.test_coordinates import dataset, picks  # noqa: F401 - a fixture
from tests.nn.common import F64, config, loud, model

PAIRS = ("LennardJones", "Coulomb")


def frozen(names, forcefield="class1"):
    made = copy.deepcopy(model(forcefield))
    freeze(made, names)
    return made


def module_of(made, folded=()):
    return TrainingModule(made, Objective(), torch.optim.Adam, ["made-up"], folded=folded).double()


@pytest.mark.parametrize("forcefield", ["class1", "class2"])
def test_loss_and_gradients_are_the_same(dataset, tmp_path, forcefield):  # noqa: F811
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


def test_a_geometry_without_finite_energies_is_named(dataset, tmp_path, monkeypatch):  # noqa: F811
    made = frozen(["encoder", "pair"])
    monkeypatch.setattr(
        "espalike.training.fold.energy", lambda system, xyz: energy(system, torch.where(xyz > 0, 0.0, xyz))
    )
    with pytest.raises(
        ValueError, match=r"^s: CC.*-0: conformer 0 has no finite energy or forces of LennardJones, Coulomb"
    ):
        folded_labels(dataset, made, PAIRS, tmp_path)


def test_labels_are_computed_once_and_again_for_other_weights_and_code(dataset, tmp_path, monkeypatch):  # noqa: F811
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
