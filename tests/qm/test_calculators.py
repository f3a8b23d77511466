"""Calculators: forces are derivatives of the energies, levels are named, failures name the molecule."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from rdkit import Chem
from scipy.spatial.transform import Rotation

from espalike.chem import embed, from_rdkit, from_smiles, to_rdkit
from espalike.qm.base import CalculatorError, gives, labelled
from espalike.qm.mmff import MMFFCalculator, UFFCalculator
from espalike.qm.pyscf import PySCFCalculator
from espalike.qm.xtb import XTBCalculator
from espalike.units import BOHR

SHARED = Path(__file__).parents[3] / "shared" / "data"


def perturbed(smiles, seed=0, size=0.05):
    molecule = from_smiles(smiles)
    xyz = embed(molecule, seed=7)[0]
    return molecule, xyz + np.random.default_rng(seed).normal(0, size, xyz.shape)


def slope(calculator, molecule, xyz, direction, step):
    up, down = (calculator(molecule, xyz + sign * step * direction)[0] for sign in (1, -1))
    return (up - down) / (2 * step)


@pytest.mark.parametrize(
    ("calculator", "smiles", "step", "tolerance"),
    [
        (XTBCalculator("GFN2-xTB", accuracy=0.01), "CC(=O)NC", 1e-3, 2e-3),
        (XTBCalculator("GFN1-xTB", accuracy=0.01), "CS(=O)(=O)[O-]", 1e-3, 2e-3),
        (MMFFCalculator(), "CC(=O)NC", 1e-5, 1e-5),
        (MMFFCalculator("MMFF94s"), "c1ccncc1", 1e-5, 1e-5),
        (UFFCalculator(), "CS(=O)(=O)NC", 1e-5, 1e-4),
        (PySCFCalculator(grid=4, scf_grid=4, conv_tol=1e-10), "O", 2e-3, 0.02),
        (PySCFCalculator(), "[O-]O", 5e-3, 0.1),
    ],
    ids=["gfn2", "gfn1", "mmff94", "mmff94s", "uff", "dft-fine", "dft"],
)
def test_forces_are_the_negative_slope_of_the_energy(calculator, smiles, step, tolerance):
    molecule, xyz = perturbed(smiles)
    _, forces = calculator(molecule, xyz)
    rng = np.random.default_rng(3)
    for _ in range(2):
        direction = rng.normal(size=xyz.shape)
        direction /= np.linalg.norm(direction)
        expected = -slope(calculator, molecule, xyz, direction, step)
        assert abs(expected) > 0.1
        assert np.vdot(forces, direction) == pytest.approx(expected, abs=tolerance)


def test_the_gradient_holds_the_dispersion_correction():
    molecule, xyz = perturbed("CC")
    plain, corrected = (PySCFCalculator(basis="sto-3g", disp=disp, grid=0, scf_grid=0) for disp in ("", "d3bj"))
    direction = np.zeros_like(xyz)
    direction[0] = (xyz[0] - xyz[1]) / np.linalg.norm(xyz[0] - xyz[1])
    step = 5e-3
    difference = slope(corrected, molecule, xyz, direction, step) - slope(plain, molecule, xyz, direction, step)
    forces = corrected(molecule, xyz)[1] - plain(molecule, xyz)[1]
    assert abs(difference) > 0.05
    assert np.vdot(forces, direction) == pytest.approx(-difference, abs=2e-3)


def test_levels_are_named():
    assert PySCFCalculator().level == "B3LYP-D3BJ/DZVP"
    assert PySCFCalculator(xc="pbe", basis="def2-svp", disp="").level == "PBE/DEF2-SVP"
    assert XTBCalculator().level == "GFN2-xTB"
    assert XTBCalculator("GFN1-xTB").level == "GFN1-xTB"
    assert MMFFCalculator().level == "MMFF94"
    assert PySCFCalculator().program.startswith("pyscf 2")


@pytest.mark.parametrize("make", [XTBCalculator, MMFFCalculator])
def test_unknown_methods_are_refused_with_the_known_ones(make):
    with pytest.raises(ValueError, match="choose"):
        make("PM3")


@pytest.mark.parametrize(
    ("calculator", "tolerance"),
    [(PySCFCalculator(), 0.01), (XTBCalculator(accuracy=0.01), 1e-4), (MMFFCalculator(), 0)],
)
def test_the_result_does_not_depend_on_what_was_computed_before(calculator, tolerance):
    molecule, xyz = perturbed("O")
    other, other_xyz = perturbed("CO", seed=1)
    energy, forces = calculator(molecule, xyz)
    calculator(molecule, xyz + np.random.default_rng(1).normal(0, 0.1, xyz.shape))
    calculator(other, other_xyz)
    again, forces_again = calculator(molecule, xyz)
    assert again == pytest.approx(energy, abs=tolerance)
    np.testing.assert_allclose(forces_again, forces, atol=10 * tolerance)


def test_xtb_labels_do_not_depend_on_what_was_computed_before():
    molecule, xyz = perturbed("CO")
    fresh = XTBCalculator().label(molecule, xyz)
    calculator = XTBCalculator()
    calculator(molecule, xyz + np.random.default_rng(1).normal(0, 0.05, xyz.shape))
    label = calculator.label(molecule, xyz)
    assert label.energy == fresh.energy
    np.testing.assert_array_equal(label.forces, fresh.forces)
    np.testing.assert_array_equal(label.dipole, fresh.dipole)


def test_xtb_ends_without_a_word(tmp_path):
    """tblite's objects are freed before Python ends; workers printed tracebacks of them."""
    command = ["espalike", "label", "calculator=gfn2-xtb", "input=CO", "sampler.frames=2", "out=store"]
    done = subprocess.run([sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    assert "Exception ignored" not in done.stderr


def test_a_single_atom_feels_no_force():
    ion = from_smiles("[Na+]")
    for calculator in (PySCFCalculator(), XTBCalculator()):
        energy, forces = calculator(ion, np.zeros((1, 3)))
        assert np.isfinite(energy)
        np.testing.assert_allclose(forces, 0, atol=1e-6)


def test_xtb_prints_nothing(capfd):
    molecule, xyz = perturbed("CO")
    XTBCalculator()(molecule, xyz)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("calculator", [PySCFCalculator(), XTBCalculator(), MMFFCalculator()])
def test_bad_coordinates_are_refused_naming_the_molecule(calculator):
    water = from_smiles("O", "my-water")
    with pytest.raises(CalculatorError, match=r"my-water.*\(3, 3\).*\(2, 3\)"):
        calculator(water, np.zeros((2, 3)))
    with pytest.raises(CalculatorError, match=r"my-water.*finite"):
        calculator(water, np.full((3, 3), np.nan))


def test_failures_name_the_molecule_and_a_reason():
    water, xyz = perturbed("O")
    with pytest.raises(CalculatorError, match="no-such-basis") as caught:
        PySCFCalculator(basis="no-such-basis")(water, xyz)
    assert caught.value.reason == "basis"
    with pytest.raises(CalculatorError, match=water.name) as caught:
        MMFFCalculator()(*perturbed("OB(O)O"))
    assert caught.value.reason == "no parameters"
    with pytest.raises(CalculatorError) as caught:
        XTBCalculator()(water, np.zeros((3, 3)))
    assert caught.value.reason in {"failed", "nan"}


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared data")
def test_openff_points_are_reproduced():
    """Two points of the smallest torsion drive, recomputed: relative energy and forces of the published level."""
    with h5py.File(SHARED / "openff_torsiondrives_forces.h5") as file:
        group = min(file.values(), key=lambda g: (len(g["atomic_numbers"]), g.name))
        molecule = from_smiles(str(group.attrs["smiles"]))
        first, last = 0, int(np.argmax(group["energies"][:]))
        xyz, energy, forces = (group[name][[first, last]] for name in ("coords", "energies", "forces"))
    calculator = PySCFCalculator()
    results = [calculator(molecule, x) for x in xyz]
    assert results[1][0] - results[0][0] == pytest.approx(energy[1] - energy[0], abs=0.05)
    for (_, ours), theirs in zip(results, forces, strict=True):
        assert np.sqrt(np.mean((ours - theirs) ** 2)) < 0.1


@pytest.mark.parametrize("method", ["GFN2-xTB", "GFN1-xTB"])
def test_the_dipole_of_an_ion_follows_the_origin(method):
    calculator = XTBCalculator(method, accuracy=0.01)
    assert gives(calculator, "dipole")
    assert not gives(calculator, "esp")
    molecule, xyz = perturbed("CC(=O)[O-]")
    shift = np.array([0.7, -0.2, 0.4])
    before, after = (calculator.label(molecule, at).dipole for at in (xyz, xyz + shift))
    np.testing.assert_allclose(after - before, -shift, atol=1e-6)


@pytest.mark.parametrize("method", ["GFN2-xTB", "GFN1-xTB"])
def test_the_dipole_is_the_slope_of_the_energy_in_a_field(method):
    from tblite.interface import Calculator
    from tblite.library import ffi

    molecule, xyz = perturbed("CO")
    expected = []
    step = 1e-4
    for axis in np.eye(3):
        energies = []
        for sign in (1, -1):
            engine = Calculator(method, molecule.numbers, xyz / BOHR)
            engine.set("verbosity", 0)
            engine.set("accuracy", 1e-3)
            engine.add("electric-field", ffi.new("double[3]", list(sign * step * axis)))
            energies.append(engine.singlepoint().get("energy"))
        expected.append(-(energies[0] - energies[1]) / (2 * step) * BOHR)
    dipole = XTBCalculator(method, accuracy=1e-3).label(molecule, xyz).dipole
    np.testing.assert_allclose(dipole, expected, atol=1e-4)
    assert np.linalg.norm(dipole) > 0.1


def test_calculators_without_a_potential_say_so():
    molecule, xyz = perturbed("O")
    for calculator in (XTBCalculator(), MMFFCalculator()):
        with pytest.raises(CalculatorError, match="no electrostatic potential"):
            labelled(calculator, molecule, xyz, esp=True)
    label = labelled(MMFFCalculator(), molecule, xyz)
    assert label.dipole is None
    assert label.energy == MMFFCalculator()(molecule, xyz)[0]


@pytest.mark.parametrize(
    ("calculator", "tolerance"),
    [(XTBCalculator(accuracy=0.01), 1e-4), (XTBCalculator("GFN1-xTB", accuracy=0.01), 1e-4), (MMFFCalculator(), 1e-8)],
    ids=["gfn2", "gfn1", "mmff94"],
)
def test_frame_and_numbering_change_nothing(calculator, tolerance):
    molecule, xyz = perturbed("CC(=O)NC")
    energy, forces = calculator(molecule, xyz)
    turn = Rotation.from_rotvec([0.3, -1.0, 0.5]).as_matrix()
    turned, turned_forces = calculator(molecule, xyz @ turn.T + [5.0, -3.0, 2.0])
    assert turned == pytest.approx(energy, abs=tolerance)
    np.testing.assert_allclose(turned_forces, forces @ turn.T, atol=100 * tolerance)
    order = np.random.default_rng(1).permutation(molecule.n_atoms)
    renumbered = from_rdkit(Chem.RenumberAtoms(to_rdkit(molecule, xyz), order.tolist()))
    again, forces_again = calculator(renumbered, xyz[order])
    assert again == pytest.approx(energy, abs=tolerance)
    np.testing.assert_allclose(forces_again, forces[order], atol=100 * tolerance)
