from dataclasses import replace

import numpy as np
import pytest

from espalike.data.filters import Filters, useful
from espalike.data.schema import RecordError


def kept(record, **filters):
    """Which conformers pass these filters alone; what belongs to a conformer stays with it."""
    off = {"connectivity": False, "force_ceiling": None, "outliers": False, "energy_window": None, "duplicates": None}
    before, after = record.conformers, Filters(**{**off, **filters})(record)[0].conformers
    numbers = [int(np.flatnonzero((before.xyz == x).all((1, 2)))[0]) for x in after.xyz]
    np.testing.assert_array_equal(after.energy, before.energy[numbers])
    assert (after.forces is None) == (before.forces is None)
    if before.forces is not None:
        np.testing.assert_array_equal(after.forces, before.forces[numbers])
    return numbers


def test_energy_window(record_of):
    record = record_of("CO", 4, energy=np.array([-5e5, -5e5 + 62, -5e5 + 63, -5e5 - 1]))
    assert kept(record, energy_window=62.5) == [0, 3]
    assert kept(record_of("CO", 2, energy=np.full(2, np.nan)), energy_window=1.0) == [0, 1]


@pytest.mark.parametrize(
    ("energy", "expected"),
    [
        ([-5e5, -5e5 + 3, -5e5 + 2e7], [0, 1]),  # 10^6 eV
        ([-5e5, -5e5 + 3, 0.0], [0, 1]),  # a value that was left out
        ([0.0, 5.0, 400.0], [0, 1, 2]),  # a hot molecule
        ([0.0, 1.0, 2.0, 3.0, 1.5, 90.0], [0, 1, 2, 3, 4]),
        ([0.0, 10.0, 20.0, 30.0, 15.0, 90.0], [0, 1, 2, 3, 4, 5]),
        ([np.nan] * 3, [0, 1, 2]),
    ],
)
def test_energies_far_from_the_others(record_of, energy, expected):
    assert kept(record_of("CO", len(energy), energy=np.array(energy)), outliers=True) == expected


def test_of_two_energies_far_apart_neither_is_kept(record_of):
    with pytest.raises(RecordError, match="energy far from the others") as info:
        Filters(connectivity=False)(record_of("CO", 2, energy=np.array([-5e5, 0.0])))
    assert info.value.reason == "no conformer left, energy far from the others"


def test_force_ceiling(record_of):
    record = record_of("CO", 3)
    record.conformers.forces[1, 2, 0] = -501.0
    assert kept(record, force_ceiling=500.0) == [0, 2]
    assert kept(record_of("CO", 2, forces=None), force_ceiling=1.0) == [0, 1]


def test_repeated_geometries_are_seen(record_of):
    record = record_of("CO", 5)
    xyz = record.conformers.xyz.copy()
    xyz[3] = xyz[1]
    assert kept(replace(record, conformers=replace(record.conformers, xyz=xyz)), duplicates=1e-3) == [0, 1, 2, 4]


def test_filters_count_by_reason(record_of):
    record = record_of("CCO", 6, energy=np.array([0.0, 1, 2, 3, 4, 99]))
    xyz, forces = record.conformers.xyz.copy(), record.conformers.forces.copy()
    xyz[1, -1] += 5.0
    forces[2] = 600.0
    xyz[4] = xyz[3]
    record = replace(record, conformers=replace(record.conformers, xyz=xyz, forces=forces))
    result, dropped = Filters(energy_window=50.0)(record)
    assert result.conformers.energy.tolist() == [0.0, 3.0]
    assert dropped == {
        "conformer: bonds differ from the graph (broken)": 1,
        "conformer: force above 500.0 kcal/mol/Å": 1,
        "conformer: energy above 50.0 kcal/mol": 1,
        "conformer: repeated": 1,
    }
    off = Filters(connectivity=False, force_ceiling=None, outliers=False, energy_window=None, duplicates=None)
    assert off(record) == (record, {})
    with pytest.raises(RecordError, match="no conformer is left; the last 5: force") as info:
        Filters(force_ceiling=1e-3)(replace(record, conformers=replace(record.conformers, forces=forces + 1)))
    assert info.value.reason == "no conformer left, force above 0.001 kcal/mol/Å"


def test_useful(record_of):
    assert useful(record_of("CO", 1))
    assert useful(record_of("CO", 2, forces=None))
    assert not useful(record_of("CO", 1, forces=None))
    assert not useful(record_of("CO", 3, forces=None, energy=np.full(3, np.nan)))
    assert useful(record_of("CO", 1, forces=None, ref_charge=np.zeros(6)))
