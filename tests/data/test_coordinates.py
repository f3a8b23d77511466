"""Stored internal coordinates are those that a step would compute, whatever is chosen, in whatever process."""

import pickle

import numpy as np
import pytest
import torch

from espalike.data.batches import Batches
from espalike.data.coordinates import Coordinates, default_folder
from espalike.data.sampler import Picks
from espalike.energy import energy
from espalike.tuples import Kind
from tests.nn.common import F64, model

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


@pytest.mark.parametrize("form", ["stored", "slim"])
@pytest.mark.parametrize("forcefield", ["class1_ub", "max"])
def test_energies_forces_and_gradients_are_those_of_computed_coordinates(dataset, tmp_path, forcefield, form):
    made = model(forcefield)
    stored = Coordinates.of(dataset, made.terms, form, tmp_path, F64)
    batch = Batches(dataset, F64, coordinates=stored).__getitems__(picks())
    assert (Kind.PAIR in {kind for kind, _ in batch.coordinates}) == (form == "stored")
    weights = list(made.parameters())
    outcomes = []
    for given in (batch.coordinates, None):
        found = energy(made(batch), batch.xyz, create_graph=True, stored=given)
        loss = (found.energy**2).sum() + (found.forces**2).sum()
        outcomes.append([found.energy, found.forces, *torch.autograd.grad(loss, weights, allow_unused=True)])
    for one, other in zip(*outcomes, strict=True):
        if other is not None:
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10 * max(1.0, float(other.detach().abs().max())))


def test_what_is_stored_is_found_again_and_travels_to_other_processes(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    terms, seen = model("class1").terms, []
    first = Coordinates.of(dataset, terms, "stored", progress=lambda entries: seen.append(1) or entries)
    again = Coordinates.of(dataset, terms, "stored", progress=lambda entries: seen.append(2) or entries)
    assert seen == [1]
    assert first.path == again.path
    assert first.path.parent == default_folder() == tmp_path / "espalike" / "coordinates"
    assert not list(first.path.parent.glob("*.tmp"))
    there = pickle.loads(pickle.dumps(Batches(dataset, coordinates=again)))
    for one, other in zip(
        there.__getitems__(picks()).coordinates.values(),
        Batches(dataset, coordinates=first).__getitems__(picks()).coordinates.values(),
        strict=True,
    ):
        assert torch.equal(one.q, other.q)
        assert all(map(torch.equal, one.rows, other.rows))
    others = [
        Coordinates.of(dataset, terms, "slim", tmp_path).path.name,
        Coordinates.of(dataset, terms, "stored", tmp_path, F64).path.name,
        Coordinates.of(dataset, model("class1_ub").terms, "stored", tmp_path).path.name,
    ]
    assert len({first.path.name, *others}) == 4  # a name says what it was made of


def test_an_interrupted_measurement_leaves_nothing(dataset, tmp_path):
    def stop(entries):
        yield next(iter(entries))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Coordinates.of(dataset, model("class1").terms, "stored", tmp_path, progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == [*(p.name for p in tmp_path.glob("*.tuples.npy"))]
    assert Coordinates.of(dataset, model("class1").terms, "stored", tmp_path).nbytes > 0


def test_other_forms_are_refused(dataset, tmp_path):
    assert Coordinates.of(dataset, model("class1").terms, "computed", tmp_path) is None
    with pytest.raises(ValueError, match=r"data.coordinates='disk': expected computed, stored, slim"):
        Coordinates.of(dataset, model("class1").terms, "disk", tmp_path)


def test_coordinates_do_not_outlive_a_change_of_the_code(dataset, tmp_path, monkeypatch):
    before = Coordinates.of(dataset, model("class1").terms, "stored", tmp_path).path
    monkeypatch.setattr("espalike.data.coordinates.code_digest", lambda: "other code")
    assert Coordinates.of(dataset, model("class1").terms, "stored", tmp_path).path != before
