"""Distorted and normal-mode geometries and conformers, measured by RDKit and ASE."""

import numpy as np
import pytest
from rdkit.Chem import rdMolTransforms

from espalike.chem import embed, from_smiles, to_rdkit
from espalike.qm.base import CalculatorError
from espalike.qm.mmff import MMFFCalculator
from espalike.qm.sampling import ETKDG, Distort, Modes, intact, minimised, normal_modes
from espalike.qm.xtb import XTBCalculator
from espalike.topology import enumerate_tuples
from espalike.units import BOLTZMANN

SMILES = ["CC(=O)NC", "C1CC1C#N", "c1ccncc1", "OO", "C=C=C", "O=C=O", "[NH3+]CC(=O)[O-]"]


def bonds(molecule, xyz):
    i, j = molecule.bonds.T
    return np.linalg.norm(xyz[i] - xyz[j], axis=1)


def angles(molecule, xyz):
    conformer = to_rdkit(molecule, xyz).GetConformer()
    rows = enumerate_tuples(molecule.numbers, molecule.bonds, molecule.orders, molecule.charges).angles
    return np.array([rdMolTransforms.GetAngleDeg(conformer, *map(int, row)) for row in rows])


def torsions(molecule, xyz):
    conformer = to_rdkit(molecule, xyz).GetConformer()
    rows = enumerate_tuples(molecule.numbers, molecule.bonds, molecule.orders, molecule.charges).propers
    return np.array([rdMolTransforms.GetDihedralDeg(conformer, *map(int, row)) for row in rows])


@pytest.mark.parametrize("smiles", SMILES)
def test_distortions_are_as_large_as_asked(smiles):
    molecule = from_smiles(smiles)
    start = minimised(MMFFCalculator(), molecule, embed(molecule, seed=3)[0])
    frames = Distort(MMFFCalculator(), frames=12, starts=1, minimise=0)(molecule, start[None])
    assert frames.shape == (12, molecule.n_atoms, 3)
    assert all(intact(molecule, xyz) for xyz in frames)
    np.testing.assert_array_equal(frames, frames.astype(np.float32))
    stretch = np.array([bonds(molecule, xyz) - bonds(molecule, start) for xyz in frames])
    assert np.abs(stretch).max() < 0.15 + 0.03  # what neighbours pull comes on top
    assert stretch.std() > 0.03
    assert abs(stretch.mean()) < 0.03
    bend = np.array([angles(molecule, xyz) - angles(molecule, start) for xyz in frames])
    if bend.size and smiles != "C=C=C":
        assert np.abs(bend).max() < 15 + 6
        assert 1.5 < bend.std() < 9
    turn = np.array([torsions(molecule, xyz) - torsions(molecule, start) for xyz in frames])
    if turn.size:
        assert np.sqrt(np.mean(((turn + 180) % 360 - 180) ** 2)) < 15


def test_distortions_take_their_sizes_from_the_settings():
    molecule = from_smiles("CCO")
    start = minimised(MMFFCalculator(), molecule, embed(molecule, seed=3)[0])
    frames = Distort(MMFFCalculator(), frames=6, bond=0.02, angle=0.0, starts=1, minimise=0)(molecule, start[None])
    assert 0.004 < max(np.abs(bonds(molecule, xyz) - bonds(molecule, start)).max() for xyz in frames) < 0.025
    assert max(np.abs(angles(molecule, xyz) - angles(molecule, start)).max() for xyz in frames) < 1.5


@pytest.mark.parametrize("sampler", [Distort, Modes, ETKDG])
def test_equal_settings_give_equal_geometries(sampler):
    make = sampler(MMFFCalculator(), frames=3)
    frames = make(from_smiles("CCO"))
    make(from_smiles("CN"))
    np.testing.assert_array_equal(frames, make(from_smiles("CCO")))
    other = sampler(MMFFCalculator(), frames=3, seed=1)(from_smiles("CCO"))
    assert other.shape != frames.shape or np.abs(other - frames).max() > 1e-3
    assert make(from_smiles("[Na+]")).shape == (1, 1, 3)


def test_a_distortion_that_always_breaks_bonds_is_an_error():
    with pytest.raises(CalculatorError, match="my-ethane: bonds break"):
        Distort(MMFFCalculator(), bond=6.0)(from_smiles("CC", "my-ethane"))


@pytest.mark.parametrize(("smiles", "count"), [("O", 3), ("O=C=O", 4), ("C=O", 6), ("[H]Cl", 1)])
def test_wave_numbers_are_those_of_ase(smiles, count, tmp_path):
    from ase import Atoms
    from ase.vibrations import Vibrations
    from tblite.ase import TBLite

    molecule, calculator = from_smiles(smiles), XTBCalculator(accuracy=0.01)
    xyz = minimised(calculator, molecule, embed(molecule, seed=1)[0])
    numbers, modes = normal_modes(calculator, molecule, xyz)
    assert modes.shape == (count, molecule.n_atoms, 3)
    system = Atoms(numbers=molecule.numbers, positions=xyz)
    system.calc = TBLite(method="GFN2-xTB", verbosity=0, accuracy=0.01)
    vibrations = Vibrations(system, name=str(tmp_path / "vib"), delta=0.005)
    vibrations.run()
    expected = np.sort(vibrations.get_frequencies().real)[-count:]
    np.testing.assert_allclose(numbers, expected, atol=2.0)


class Springs:
    """½ k (r − r₀)² of every bond of a chain, and a weaker spring between atoms two bonds apart."""

    level = program = "springs"

    def __init__(self, pairs):
        self.pairs = pairs  # (i, j, k, r0)

    def __call__(self, molecule, xyz):
        energy, forces = 0.0, np.zeros_like(xyz)
        for i, j, k, r0 in self.pairs:
            delta = xyz[i] - xyz[j]
            r = np.linalg.norm(delta)
            energy += 0.5 * k * (r - r0) ** 2
            forces[i] -= k * (r - r0) * delta / r
            forces[j] += k * (r - r0) * delta / r
        return energy, forces


def test_modes_hold_half_of_kt_each():
    molecule = from_smiles("O")
    springs = Springs([(0, 1, 800.0, 1.0), (0, 2, 800.0, 1.0), (1, 2, 150.0, 1.6)])
    start = np.array([[0.0, 0, 0], [0.8, 0.6, 0], [-0.8, 0.6, 0]])
    temperature = 30.0  # small amplitudes, where the surface is harmonic
    frames = Modes(springs, frames=800, temperature=temperature, floor=1.0, minimise=0)(molecule, start[None])
    energies = np.array([springs(molecule, xyz)[0] for xyz in frames])
    assert energies.mean() == pytest.approx(1.5 * BOLTZMANN * temperature, rel=0.1)
    stretch = bonds(molecule, start)[0] - np.array([bonds(molecule, xyz)[0] for xyz in frames])
    hessian = np.array([[800.0, 0.0, 0.0], [0.0, 800.0, 0.0], [0.0, 0.0, 150.0]])  # of r1, r2 and the third side
    expected = np.sqrt(BOLTZMANN * temperature * np.linalg.inv(hessian)[0, 0])
    assert stretch.std() == pytest.approx(expected, rel=0.1)


def test_soft_modes_are_displaced_as_if_they_were_stiffer():
    molecule = from_smiles("CCCC")
    reach = []
    for floor in (20.0, 2000.0):
        sampler = Modes(MMFFCalculator(), frames=10, floor=floor, temperature=300.0)
        reach.append(sampler(molecule).std(0).mean())
    assert reach[0] > 2 * reach[1]


def test_conformers_are_minima_and_differ():
    molecule, calculator = from_smiles("OCCO"), MMFFCalculator()
    frames = ETKDG(calculator, frames=8)(molecule)
    assert 3 <= len(frames) <= 8
    assert max(np.abs(calculator(molecule, xyz)[1]).max() for xyz in frames) < 0.2
    distances = [np.sort(np.linalg.norm(xyz[:, None] - xyz[None], axis=-1), axis=None) for xyz in frames]
    assert min(np.abs(a - b).max() for k, a in enumerate(distances) for b in distances[:k]) > 0.05
    raw = ETKDG(calculator, frames=8, minimise=0)(molecule)
    assert len(raw) == 8
    assert np.abs(calculator(molecule, raw[0])[1]).max() > 1
