"""Linear terms as matrices: the same losses, gradients and training as from energies and forces of all conformers."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from espalike.data.batches import Batches
from espalike.data.sampler import EpochSampler, Picks
from espalike.training.faults import find_fault
from espalike.training.fold import constant_terms, folded_labels
from espalike.training.gram import Gram, check, factors, packed
from espalike.training.lightning import TrainingModule
from espalike.training.losses import FITTED
from espalike.training.objective import Objective
from espalike.tuples import Kind
from tests.data.test_coordinates import dataset  # noqa: F401 - a fixture
from tests.nn.common import F64, model
from tests.training.test_fold import PAIRS, frozen

ENTRIES = [5, 0, 3, 1, 2, 4, 0]


def chosen(counts, entries=ENTRIES):
    """So many conformers, the first ones, of entries."""
    return Picks(np.array(entries), np.array(counts), np.concatenate([np.arange(c) for c in counts]))


@pytest.fixture
def both(dataset, tmp_path):  # noqa: F811
    """Makes what trains a force field with pairs off the labels, from all conformers and from matrices."""

    def make(forcefield, objective):
        made = frozen(["encoder", "pair"], forcefield)
        names = constant_terms(made)
        assert names == PAIRS
        labels = folded_labels(dataset, made, names, tmp_path)
        terms = [term for term in made.terms if term.name not in names]
        gram = Gram.of(dataset, terms, folder=tmp_path, dtype=F64, labels=labels)
        modules = [
            TrainingModule(copy.deepcopy(made), objective, torch.optim.Adam, ["made-up"], folded=names, gram=g).double()
            for g in (None, gram)
        ]
        return modules, Batches(dataset, F64, instead=labels)

    return make


def outcome(module, batch):
    """Energy and force loss, and the gradients of each by all weights."""
    losses = module.losses(*module.predict(batch), batch)
    weights = [p for p in module.parameters() if p.requires_grad]
    found = [losses["energy"], losses["forces"]]
    for loss in list(found):
        found += torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True, materialize_grads=True)
    return [value.detach() for value in found]


def assert_close(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10 * float(other.abs().max()))


@pytest.mark.parametrize("forcefield", ["class1", "class2", "class1_ub"])
def test_losses_and_gradients_are_those_of_all_conformers(dataset, both, forcefield):  # noqa: F811
    (plain, fitted), batches = both(forcefield, Objective(sources={"made-up": {"energy": 0.3, "forces": 2.0}}))
    expected = outcome(plain, batches.__getitems__(chosen(dataset.counts[ENTRIES])))
    found = outcome(fitted, batches.__getitems__(chosen([1] * 7)))
    assert float(expected[0]) > 0.1
    assert float(expected[1]) > 0.1
    assert_close(found, expected)


@pytest.mark.parametrize("known", ["no forces of some", "no energies", "half the forces of a molecule"])
def test_unknown_labels_do_not_count(dataset, both, monkeypatch, known):  # noqa: F811
    """Labels are made unknown entry by entry, where batches come from, so that both see the same."""
    whole = Batches.__getitems__

    def some_unknown(self, picks):
        batch = whole(self, picks)
        if known == "no energies":
            return replace(batch, energy=batch.energy.where(batch.entry != 0, torch.nan))
        entry, own = batch.entry[batch.mol], torch.arange(len(batch.mol)) - torch.searchsorted(batch.mol, batch.mol)
        hidden = entry >= 3 if known == "no forces of some" else (entry == 0) & (own % 2 == 0)
        return replace(batch, forces=batch.forces.where(~hidden[:, None], torch.nan))

    monkeypatch.setattr(Batches, "__getitems__", some_unknown)
    monkeypatch.setattr("espalike.training.gram.code_digest", lambda: known)
    (plain, fitted), batches = both("class1", Objective())
    expected = outcome(plain, batches.__getitems__(chosen(dataset.counts[ENTRIES])))
    assert_close(outcome(fitted, batches.__getitems__(chosen([1] * 7))), expected)


def test_training_goes_the_same_way(dataset, both):  # noqa: F811
    (plain, fitted), batches = both("class1", Objective(charge=0.0, lj=0.0))
    losses = []
    for module, most in ((plain, None), (fitted, 1)):
        optimizer, seen = torch.optim.Adam(module.parameters(), lr=1e-2), []
        sampler = EpochSampler(dataset.counts, 3, most, seed=1)
        for epoch in range(10):
            sampler.set_epoch(epoch)
            for picks in sampler:
                optimizer.zero_grad()
                batch = batches.__getitems__(picks)
                loss = module.objective.total(module.losses(*module.predict(batch), batch))
                loss.backward()
                optimizer.step()
                seen.append(float(loss.detach()))
        losses.append(seen)
    assert len(losses[0]) == 20
    assert np.mean(losses[0][-4:]) < 0.9 * np.mean(losses[0][:4])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-8)


def test_conformers_add_no_rows(dataset):  # noqa: F811
    """A matrix has as many rows as coefficients, or as geometries can tell apart."""
    terms, batches = model("class1").terms[:4], Batches(dataset, F64)
    found = {}
    for count in (1, 2, 6):
        found[count] = factors(batches.__getitems__(chosen([count], [5])), terms, FITTED, 1e-15)  # ethanol
    columns = {tuple(factor[name].matrix.shape)[1] - 1 for factor in found.values() for name in FITTED}
    assert len(columns) == 1
    assert columns == {2 * 5 + 2 * 7 + 6 * 4}  # kinds of bonds and angles, two each, and of torsions, six each
    assert [found[count]["energy"].matrix.shape[0] for count in (1, 2, 6)] == [0, 1, 5]
    assert [found[count]["forces"].count for count in (1, 2, 6)] == [27, 54, 162]
    assert found[2]["forces"].matrix.shape[0] <= 2 * (27 - 6)  # what moves neither the molecule as a whole
    assert found[6]["forces"].matrix.shape[0] == 48  # of 6 × 21
    assert len(packed(batches.__getitems__(chosen([6], [5])), terms, FITTED, torch.float32)[0]) <= (48 + 5) * 50


def test_what_is_made_is_found_again_and_left_whole(dataset, tmp_path):  # noqa: F811
    terms, seen = model("class1").terms[:4], []

    def stop(entries):
        yield next(iter(entries))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Gram.of(dataset, terms, folder=tmp_path, progress=stop)
    assert not list(tmp_path.iterdir())
    first, again = (Gram.of(dataset, terms, folder=tmp_path, progress=lambda e: seen.append(1) or e) for _ in "ab")
    assert seen == [1]
    assert (first.words == again.words).all()
    for change in ({"losses": ["forces"]}, {"dtype": F64}, {"terms": terms[:3]}):
        Gram.of(dataset, folder=tmp_path, progress=lambda e: seen.append(1) or e, **{"terms": terms} | change)
    assert len(seen) == 4


def test_single_precision_is_enough(dataset, tmp_path):  # noqa: F811
    made = frozen(["encoder", "pair"])
    labels = folded_labels(dataset, made, PAIRS, tmp_path)
    gram = Gram.of(dataset, made.terms[:4], folder=tmp_path, labels=labels)
    plain, fitted = (
        TrainingModule(made, Objective(), torch.optim.Adam, ["made-up"], folded=PAIRS, gram=g) for g in (None, gram)
    )
    double, single = (Batches(dataset, dtype, instead=labels) for dtype in (F64, torch.float32))
    expected = outcome(plain.double(), double.__getitems__(chosen(dataset.counts[ENTRIES])))
    found = outcome(fitted.float(), single.__getitems__(chosen([1] * 7)))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


def test_a_fault_is_found(dataset, both):  # noqa: F811
    (_, fitted), batches = both("class1", Objective())
    batch = batches.__getitems__(chosen([1] * 7))
    assert find_fault(fitted, batch) is None
    with torch.no_grad():
        head = next(h for h in fitted.model.heads if getattr(h, "kind", None) is Kind.ANGLE)
        next(head.parameters()).fill_(torch.nan)
    fault = find_fault(fitted, batch)
    assert (fault.stage, fault.parts) == ("parameters", ("HarmonicAngle",))


@pytest.mark.parametrize(
    ("forcefield", "folded", "objective", "message"),
    [
        ("class1", (), {}, r"LennardJones, Coulomb cannot be .* start=MODEL 'freeze=\[encoder,pair\]'"),
        ("morse", PAIRS, {}, "MorseBond cannot be"),
        ("class1", PAIRS, {"profile": 1.0, "esp": 1.0}, "set objective.profile=0 objective.esp=0, or leave"),
        ("class1", PAIRS, {"energy": 0.0, "forces": 0.0}, "both zero"),
    ],
)
def test_what_needs_geometries_is_named(forcefield, folded, objective, message):
    with pytest.raises(ValueError, match=message):
        check(model(forcefield).terms, folded, Objective(**objective))


def test_linear_terms_and_losses_without_geometries_pass():
    for forcefield in ("class1", "class2", "class1_ub"):
        check(model(forcefield).terms, PAIRS, Objective(pull=1.0, torsion=1.0))
