"""Audits of labels of which a part is wrong: a tenth of the forces are gradients, energies are of two levels."""

from dataclasses import replace

import numpy as np
import pytest

from espalike import units
from espalike.data import mixtures
from espalike.data.audit import Audit
from espalike.data.store import Store

STORES = {"thermal": "sample", "distorted": "sample", "scan": "sample-aimnet2"}


@pytest.fixture(scope="module")
def of_kind():
    return {k: [r for r in Store.open(name).records() if r.kind == k] for k, name in STORES.items()}


def failures(records, change=lambda number, conformers: {}):
    audit = Audit()
    for number, record in enumerate(records):
        audit.add(replace(record, conformers=replace(record.conformers, **change(number, record.conformers))))
    audit = Audit(audit.state())
    return {verdict.audit: verdict.message for verdict in audit.verdicts() if verdict.outcome == "failed"}


def opposite_entries(number, conformers):
    return {"forces": conformers.forces * (1.0 if number % 10 else -1.0)}


def opposite_geometries(number, conformers):
    signs = np.where((np.arange(len(conformers.forces)) + number) % 10, 1.0, -1.0)
    return {"forces": conformers.forces * signs[:, None, None]}


@pytest.mark.parametrize("kind", ["thermal", "distorted"])
@pytest.mark.parametrize("change", [opposite_entries, opposite_geometries])
def test_a_tenth_of_the_forces_are_gradients(of_kind, kind, change):
    assert failures(of_kind[kind]) == {}
    found = failures(of_kind[kind], change)
    assert "the forces push stretched bonds to hydrogen further apart: a part of them are gradients" in found["mixture"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda expected, change: change, ""),
        (lambda expected, change: np.where(np.arange(100) % 10, change, -change), "a part of these are gradients"),
        (lambda expected, change: change + 25.0 * (np.arange(100) % 3 == 0), "the levels of theory within an entry"),
        (lambda expected, change: change + 25.0 * (np.arange(100) % 20 == 0), ""),
    ],
)
def test_pairs_of_near_geometries(fault, message):
    rng, counts = np.random.default_rng(0), [0, 0]
    expected = rng.normal(0.0, 5.0, 100)
    change = fault(expected, expected * rng.normal(1.0, 0.1, 100))
    clear = np.maximum(np.abs(expected), np.abs(change)) > 1.0
    mixtures.count_pairs(counts, expected, change, clear)
    found = mixtures.of_pairs(counts, int(clear.sum()))
    assert message in found
    assert bool(found) == bool(message)


@pytest.mark.parametrize("kind", ["thermal", "scan"])
def test_energies_of_two_levels_within_an_entry(of_kind, kind):
    """0.002 hartree per atom apart, in any order."""
    rng = np.random.default_rng(3)

    def change(number, conformers):
        atoms = conformers.xyz.shape[1]
        other = rng.random(len(conformers.energy)) < 0.5
        return {"energy": conformers.energy + 0.002 * units.HARTREE * atoms * other}

    many = [record for record in of_kind[kind] if len(record.conformers.energy) >= 6]
    assert failures(many) == {}
    found = " ".join(failures(many, change).values())
    assert "two levels of theory" in found or "levels of theory within an entry" in found


@pytest.mark.parametrize("kind", STORES)
def test_forces_that_are_zero_are_none(of_kind, kind):
    found = failures(of_kind[kind], lambda number, conformers: {"forces": np.zeros_like(conformers.forces)})
    assert "scans and displaced geometries have forces of zero" in found["mixture"]


def test_minima_may_have_forces_of_zero(of_kind):
    """As data sets of relaxed geometries without forces, which stand for these."""
    records = [replace(record, kind="relaxed") for record in of_kind["scan"]]
    assert failures(records, lambda number, conformers: {"forces": np.zeros_like(conformers.forces)}) == {}
