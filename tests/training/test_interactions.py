"""Interaction energies of complexes: against engines, the losses' values, gradients and their place in training."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from espalike.batch import batch_of, featurized
from espalike.chem import embed, from_smiles
from espalike.chem.complexes import complex_from_smiles, joined, monomers
from espalike.data.store import write_store
from espalike.energy import energy
from espalike.export import to_openmm
from espalike.geometry import Distance
from espalike.model import from_config
from espalike.training import interactions
from espalike.training.objective import Objective, Scales
from espalike.training.prepare import prepare
from espalike.training.run import train
from tests.batches import Item, collate
from tests.data.conftest import build_record
from tests.data.test_complexes import MANIFEST, dimer
from tests.export.cases import evaluate_all
from tests.nn.common import F64, model
from tests.training import common

PAIRS = ("CC(=O)[O-].NC(=[NH2+])N", "O.CC(=O)NC")


def geometry(molecule, distances, seed=0):
    """Rigid molecules along a line [Å], shape `(K, A, 3)`."""
    xyz = np.zeros((len(distances), molecule.n_atoms, 3))
    for i, (monomer, atoms) in enumerate(monomers(molecule)):
        own = embed(from_smiles(monomer.smiles), seed=seed)[0]
        for k, distance in enumerate(distances):
            xyz[k, atoms] = own - own.mean(axis=0) + [0.0, 0.0, i * distance]
    return xyz


@pytest.mark.parametrize(
    ("forcefield", "pair"),
    [
        ("class1", PAIRS[0]), ("class1", PAIRS[1]), ("dexp", PAIRS[0]), ("dexp", PAIRS[1]), ("class2", PAIRS[1]),
        # OpenMM compiles couplings for seconds, and they cancel
        pytest.param("class2", PAIRS[0], marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_energy_between_components_is_that_of_openmm(forcefield, pair):
    """E(AB) − E(A) − E(B) of three exported systems; the monomers were parametrized on their own."""
    made, molecule = model(forcefield), complex_from_smiles(pair)
    xyz = geometry(molecule, (5.0, 7.0))
    between = made.parametrize(molecule).between_components(batch_of([molecule]).component)
    predicted = energy(between, torch.from_numpy(xyz)).energy[:, 0].tolist()
    expected = np.array([u for u, _ in evaluate_all(to_openmm(made.parametrize(molecule)), xyz)])
    for monomer, atoms in monomers(molecule):
        expected -= [u for u, _ in evaluate_all(to_openmm(made.parametrize(monomer)), xyz[:, atoms])]
    assert predicted == pytest.approx(expected, abs=1e-6)
    assert min(map(abs, predicted)) > 1e-2


def test_three_molecules_interact_pairwise():
    made, three = model("class1"), joined([from_smiles(s) for s in ("O", "C", "[Na+]")])
    xyz = torch.from_numpy(geometry(three, (4.0,)))
    system = made.parametrize(three)
    component = batch_of([three]).component
    parts = []
    for chosen in ((0, 1), (0, 2), (1, 2)):
        atoms = np.concatenate([monomers(three)[i][1] for i in chosen])
        pair = joined([monomers(three)[i][0] for i in chosen])
        between = made.parametrize(pair).between_components(batch_of([pair]).component)
        parts.append(energy(between, xyz[:, torch.from_numpy(atoms)]).energy)
    torch.testing.assert_close(energy(system.between_components(component), xyz).energy, sum(parts))


def test_distances_are_computed_once_for_all_terms():
    molecule = complex_from_smiles(PAIRS[1])
    between = model("class1").parametrize(molecule).between_components(batch_of([molecule]).component)
    first, second = between.terms
    assert first.tuples is second.tuples
    assert first.term.coordinates == (Distance(0, 1),)
    sizes = [m.n_atoms for m, _ in monomers(molecule)]
    assert len(first.tuples.idx) == sizes[0] * sizes[1]
    assert not first.tuples.is14.any()


def complex_item(pair, distances, interaction, sapt=None, **labels):
    molecule = complex_from_smiles(pair)
    unknown = {"energy": np.full(len(distances), np.nan), "forces": None}
    labels = {"interaction": np.array(interaction), "sapt": sapt, **unknown, **labels}
    return Item(graph=featurized(molecule), xyz=geometry(molecule, distances), **labels)


@pytest.fixture(scope="module")
def batch():
    """An ordinary molecule between two complexes of two and one points; components of the first point only."""
    sapt = np.array([[-9.0, 6.0, -2.0, -3.0], [np.nan] * 4])
    items = [
        complex_item(PAIRS[0], (5.0, 7.0), [-60.0, -20.0], sapt),
        common.item("CCO", 3),
        complex_item(PAIRS[1], (4.5,), [-2.0], source=1),
    ]
    return collate(items, dtype=F64)


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    return from_config(common.CONFIG).double()


def huber(squares):
    return 2.0 * (np.sqrt(1.0 + squares) - 1.0)


def test_loss_is_that_of_errors_in_units_of_scale_and_share(trained, batch):
    with torch.no_grad():
        coulomb, rest = interactions.interaction_energies(trained(batch), batch)
    predicted = (coulomb + rest).numpy()
    assert (predicted[:, 1] == 0.0).all()
    labels = np.array([-60.0, -20.0, -2.0])
    errors = (np.array([predicted[0, 0], predicted[1, 0], predicted[0, 2]]) - labels) ** 2
    expected = (np.array([1.0, 1.0, 0.5]) * huber(errors / (0.3**2 + (0.2 * labels) ** 2))).mean()
    factors = torch.tensor([1.0, 1.0, 0.5], dtype=F64)
    loss = interactions.interaction_loss(coulomb, rest, batch, factors, 0.3, 0.2)
    assert float(loss) == pytest.approx(expected, rel=1e-12)
    loss = interactions.sapt_loss(coulomb, rest, batch, factors, 0.3, 0.2)
    first = huber((float(coulomb[0, 0]) + 9.0) ** 2 / (0.09 + 1.8**2))
    first += huber((float(rest[0, 0]) - 1.0) ** 2 / (0.09 + 0.2**2))
    assert float(loss) == pytest.approx(first, rel=1e-12)
    assert huber(1e-8) == pytest.approx(1e-8)  # a small error counts as its square
    assert huber(1e8) == pytest.approx(2e4, rel=1e-3)  # a large one linearly


def test_a_batch_without_complexes_has_no_such_loss(trained):
    batch = collate([common.item("CCO", 3)], dtype=F64)
    with torch.no_grad():
        coulomb, rest = interactions.interaction_energies(trained(batch), batch)
    one = torch.ones(1, dtype=F64)
    assert float(interactions.interaction_loss(coulomb, rest, batch, one, 0.5, 0.1)) == 0.0
    assert float(interactions.sapt_loss(coulomb, rest, batch, one, 0.5, 0.1)) == 0.0


@pytest.mark.parametrize("name", ["interaction", "sapt"])
def test_gradient_by_finite_differences(trained, batch, name):
    """The derivative by the weights, along a random direction."""
    zero = dict.fromkeys(("energy", "forces", "charge", "lj", "torsion", "coupling"), 0.0)
    objective = Objective(**zero, **{name: 1.0}, scales=Scales(interaction=0.3, interaction_relative=0.2))
    weights = list(trained.parameters())
    generator = torch.Generator().manual_seed(1)
    direction = [torch.randn(w.shape, generator=generator, dtype=F64) for w in weights]

    def total():
        system = trained(batch)
        losses = objective.losses(
            system, energy(system, batch.xyz, create_graph=True), batch, objective.source_factors(["a", "b"])
        )
        assert list(losses) == [name]
        return objective.total(losses)

    slopes = torch.autograd.grad(total(), weights, allow_unused=True)
    expected = sum((s * d).sum() for s, d in zip(slopes, direction, strict=True) if s is not None)
    step, values = 1e-6, []
    for sign in (1.0, -2.0, 1.0):
        with torch.no_grad():
            for w, d in zip(weights, direction, strict=True):
                w.add_(sign * step * d)
            values.append(total().item())
    assert float(expected) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)
    assert abs(float(expected)) > 1e-3


def test_other_losses_are_those_without_the_complexes(trained, batch):
    """Energies and forces of complexes are unknown, so that they add nothing to the other losses."""
    alone = collate([common.item("CCO", 3)], dtype=F64)
    objective = Objective(torsion=0.0, coupling=0.0, interaction=1.0)

    def losses(batch):
        system = trained(batch)
        prediction = energy(system, batch.xyz, create_graph=True)
        return objective.losses(system, prediction, batch, objective.source_factors(["a", "b"]))

    both, one = losses(batch), losses(alone)
    assert set(both) == {"energy", "forces", "charge", "lj", "interaction"}
    for name in ("energy", "forces", "charge", "lj"):
        torch.testing.assert_close(both[name], one[name])
    assert both["interaction"].item() > 0.0
    slopes = torch.autograd.grad(objective.total(both), list(trained.parameters()), allow_unused=True)
    assert all(s.isfinite().all() for s in slopes if s is not None)


def test_the_weight_follows_the_data(tmp_path):
    """`objective.interaction=null` is 1 where the data has complexes."""
    ordinary = [build_record("CCO", 3, split="train"), build_record("CO", 3, split="val")]
    dimers = [dimer("O.O", (3.5,), split="train"), dimer("O.CO", (4.0,), split="val")]
    write_store(tmp_path / "plain", ordinary, manifest=MANIFEST)
    write_store(tmp_path / "both", [*ordinary, *dimers], manifest=MANIFEST)
    with initialize_config_module("espalike.configs", version_base="1.3"):
        composed = compose("train", ["model=tiny", "trainer.max_epochs=2", "diagnosis=false"])
    settings = OmegaConf.to_container(composed, resolve=True)
    for name, weight in (("plain", 0.0), ("both", 1.0)):
        settings["data"]["stores"] = [str(tmp_path / name)]
        notes: list[str] = []
        module, *_ = prepare(settings, notes.append)
        assert module.objective.interaction == weight
        assert sum("1 complex without reference charges" in note for note in notes) == weight
    result = train({**settings, "out": str(tmp_path / "run")}, say=lambda message: None)
    assert set(result.errors) == {"made-up"}
    assert set(result.interaction) == {"dimers"}
    assert "of interaction energies" in result.summary


def test_frozen_pair_terms_are_folded_into_the_other_labels_only(tmp_path):
    """Interaction energies are compared with all pair terms, frozen or not."""
    records = [build_record("CCO", 3, split="train"), dimer("O.O", (3.5,), split="train")]
    records += [build_record("CO", 3, split="val"), dimer("O.CO", (4.0,), split="val")]
    store = write_store(tmp_path / "store", records, manifest=MANIFEST)
    with initialize_config_module("espalike.configs", version_base="1.3"):
        composed = compose("train", ["model=tiny", "freeze=[encoder,pair]", "data.bucketed=false"])
    settings = OmegaConf.to_container(composed, resolve=True)
    settings["data"] |= {"stores": [str(store.path)], "labels_dir": str(tmp_path / "labels")}
    module, training, _ = prepare(settings, lambda message: None)
    assert set(module.folded) >= {"LennardJones", "Coulomb"}
    (batch,) = training
    assert batch.interaction.isfinite().sum() == 1
    losses = module.losses(*module.predict(batch), batch)
    coulomb, rest = interactions.interaction_energies(module.model(batch), batch)
    expected = interactions.interaction_loss(coulomb, rest, batch, torch.ones(2), 0.3, 0.05)
    torch.testing.assert_close(losses["interaction"], expected)
    assert all(loss.isfinite() for loss in losses.values())


def test_scales_are_checked():
    assert Scales(interaction_relative=0.0).interaction == 0.3
    with pytest.raises(ValueError, match=r"objective\.scales\.interaction=0: losses are divided by it"):
        Scales(interaction=0.0)
    with pytest.raises(ValueError, match=r"objective\.scales\.interaction_relative"):
        Scales(interaction_relative=-0.1)
    assert replace(Objective(), interaction=2.0, schedules={"interaction": [[0, 0], [1, 1]]}).weight(
        "interaction", 0.25
    ) == pytest.approx(0.5)
