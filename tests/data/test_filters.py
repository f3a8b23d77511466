from dataclasses import replace

import numpy as np
import pytest

from espalike.data.filters import (
    Filters,
    below_force_ceiling,
    connected_as_drawn,
    select,
    useful,
    within_energy_window,
)
from espalike.data.schema import RecordError
from espalike.data.similar import first_of_each


def with_xyz(record, xyz):
    return replace(record, conformers=replace(record.conformers, xyz=xyz))


def test_energy_window(record_of):
    record = record_of("CO", 4, energy=np.array([-5e5, -5e5 + 62, -5e5 + 63, -5e5 - 1]))
    assert within_energy_window(record, 62.5).tolist() == [True, False, False, True]
    assert within_energy_window(record_of("CO", 2, energy=np.full(2, np.nan)), 1.0).all()


def test_force_ceiling(record_of):
    record = record_of("CO", 3)
    record.conformers.forces[1, 2, 0] = -501.0
    assert below_force_ceiling(record, 500.0).tolist() == [True, False, True]
    assert below_force_ceiling(record_of("CO", 2, forces=None), 1.0).all()


@pytest.mark.parametrize("smiles", ["CC(=O)Nc1ccccc1", "C1CC1", "C12CC(C1)C2", "O", "[H][H]", "[Na+]", "FS(=O)(=O)C#N"])
def test_perturbed_geometries_are_connected_as_drawn(record_of, smiles):
    assert connected_as_drawn(record_of(smiles, 20)).all()


def test_broken_and_fused_geometries_are_seen(record_of):
    record = record_of("CCO", 4)
    xyz = record.conformers.xyz.copy()
    hydrogen = int(np.flatnonzero(record.molecule.numbers == 1)[0])
    xyz[1, hydrogen] += 5.0
    xyz[2, -1] = xyz[2, hydrogen] + 0.1  # two hydrogens of different carbons on each other
    bond = record.molecule.bonds[0]
    xyz[3, bond[1]] = xyz[3, bond[0]] + 0.3
    assert connected_as_drawn(with_xyz(record, xyz)).tolist() == [True, False, False, False]


def test_repeated_geometries_are_seen(record_of):
    record = record_of("CO", 5)
    xyz = record.conformers.xyz.copy()
    xyz[3] = xyz[1]
    assert first_of_each(with_xyz(record, xyz), 1e-3).tolist() == [True, True, True, False, True]


def test_select_keeps_what_belongs_together(record_of):
    record = record_of("CO", 4)
    result = select(record, np.array([False, True, False, True])).conformers
    np.testing.assert_array_equal(result.energy, record.conformers.energy[[1, 3]])
    np.testing.assert_array_equal(result.xyz, record.conformers.xyz[[1, 3]])
    np.testing.assert_array_equal(result.forces, record.conformers.forces[[1, 3]])
    assert select(record_of("CO", 2, forces=None), np.array([True, False])).conformers.forces is None


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
    off = Filters(connectivity=False, force_ceiling=None, energy_window=None, duplicates=None)
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
