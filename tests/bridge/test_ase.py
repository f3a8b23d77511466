import doctest
import importlib

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.fd import calculate_numerical_forces

import espalike
from espalike.ase import Calculator
from espalike.chem import embed, from_smiles
from espalike.energy import energy
from espalike.potential import force_of, potential
from espalike.qm.base import CalculatorError
from tests.bridge.cases import ETHANOL, NMA, mmff94, perturbed


@pytest.fixture(scope="module")
def model():
    return espalike.load("espalike-small")


def test_energies_and_forces_are_the_models(model):
    xyz = perturbed(NMA)
    system = model.parametrize(NMA)
    import torch

    expected = energy(system, torch.from_numpy(xyz))
    for source in ("espalike-small", model, system):
        atoms = Atoms(NMA.numbers, xyz[0], calculator=Calculator(source, NMA))
        assert atoms.get_potential_energy() == pytest.approx(expected.energy.item() * units.kcal / units.mol, rel=1e-8)
        np.testing.assert_allclose(atoms.get_forces(), expected.forces[0] * units.kcal / units.mol, atol=1e-6)


def test_forces_are_slopes():
    atoms = Atoms(NMA.numbers, perturbed(NMA)[0], calculator=Calculator("espalike-small", NMA))
    np.testing.assert_allclose(calculate_numerical_forces(atoms, eps=1e-4), atoms.get_forces(), atol=1e-5)


def test_calculators_by_name():
    xyz = perturbed(ETHANOL)[0]
    value, forces = mmff94(ETHANOL, xyz)
    atoms = Atoms(ETHANOL.numbers, xyz, calculator=Calculator("mmff94", ETHANOL))
    assert atoms.get_potential_energy() == pytest.approx(value * units.kcal / units.mol, rel=1e-8)
    np.testing.assert_allclose(atoms.get_forces(), forces * units.kcal / units.mol, atol=1e-6)
    with pytest.raises(NotImplementedError):
        atoms.get_dipole_moment()


def test_dipoles():
    pytest.importorskip("tblite")
    from espalike.qm.base import labelled
    from espalike.qm.xtb import XTBCalculator

    xyz = perturbed(ETHANOL)[0]
    atoms = Atoms(ETHANOL.numbers, xyz, calculator=Calculator("gfn2-xtb", ETHANOL))
    np.testing.assert_allclose(atoms.get_dipole_moment(), labelled(XTBCalculator(), ETHANOL, xyz).dipole, atol=1e-4)


@pytest.mark.parametrize(
    ("source", "settings", "fault"),
    [
        ("espalike-smal", {}, "espalike-smal"),
        ("mmff94", {"varian": "MMFF94"}, "mmff94: no setting varian"),
        ("espalike-small", {"weights": "x"}, "settings weights belong to a calculator"),
    ],
)
def test_sources_that_do_not_exist(source, settings, fault):
    with pytest.raises((ValueError, FileNotFoundError), match=fault):
        Calculator(source, ETHANOL, **settings)


def test_what_is_no_source_or_no_molecule():
    with pytest.raises(TypeError, match="expected a name, a model, parameters or a calculator, got NoneType"):
        Calculator(None, ETHANOL)
    with pytest.raises(TypeError, match=r"expected an espalike.Molecule or several, got str"):
        Calculator("mmff94", "CCO")


def test_atoms_of_another_molecule_are_refused(model):
    with pytest.raises(ValueError, match="another molecule, or in another atom order"):
        Calculator(model.parametrize(NMA), ETHANOL)
    calculator = Calculator(model, ETHANOL)
    reordered = ETHANOL.numbers[::-1]
    with pytest.raises(ValueError, match="ethanol: expected its atoms in its own order"):
        Atoms(reordered, perturbed(ETHANOL)[0], calculator=calculator).get_potential_energy()
    with pytest.raises(ValueError, match="ethanol: periodic atoms"):
        Atoms(
            ETHANOL.numbers, perturbed(ETHANOL)[0], calculator=calculator, cell=[20, 20, 20], pbc=True
        ).get_potential_energy()


@pytest.mark.parametrize("module", ["espalike.ase", "espalike.hybrid"])
def test_examples_run(module):
    outcome = doctest.testmod(importlib.import_module(module))
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_parameters_of_an_isomer_are_refused(model):
    """Propanol and isopropanol have the same elements in the same order."""
    propanol, isopropanol = from_smiles("OCCC", "propanol"), from_smiles("OC(C)C", "isopropanol")
    assert propanol.numbers.tolist() == isopropanol.numbers.tolist()
    system = model.parametrize(isopropanol)
    with pytest.raises(ValueError, match="propanol: these are the parameters of another molecule"):
        Calculator(system, propanol)
    with pytest.raises(CalculatorError, match="propanol: this force field has the parameters of isopropanol alone"):
        potential(system, isopropanol)(propanol, perturbed(propanol)[0])


def test_an_offxml_file_that_changed_is_read_again(tmp_path):
    pytest.importorskip("openff.toolkit", reason="needs the extra openff")
    from openff.toolkit import ForceField as OpenFF

    path, xyz = tmp_path / "mine.offxml", perturbed(ETHANOL)[0]
    text = OpenFF("openff_unconstrained-2.2.1.offxml").to_string()
    path.write_text(text)
    before = potential(path, ETHANOL)(ETHANOL, xyz)[0]
    changed = OpenFF(text)
    for bond in changed.get_parameter_handler("Bonds").parameters:
        bond.k = bond.k * 2
    path.write_text(changed.to_string())
    assert potential(path, ETHANOL)(ETHANOL, xyz)[0] > before + 0.1


@pytest.mark.parametrize(
    "change", [lambda xyz: xyz + 1j, lambda xyz: np.ma.masked_less(xyz, 0.0)], ids=["complex", "masked"]
)
def test_coordinates_that_are_no_real_numbers_are_refused(change):
    """NumPy would drop the imaginary part, or the mask, without an error."""
    molecule = from_smiles("CO", "methanol")
    xyz = embed(molecule)[0]
    with pytest.raises(CalculatorError, match="methanol: coordinates are complex or masked"):
        potential("mmff94", molecule)(molecule, change(xyz))


def test_particles_are_whole_numbers():
    molecule = from_smiles("O", "water")
    calculator = potential("mmff94", molecule)
    with pytest.raises(ValueError, match=r"water: particles are whole numbers; got \[0, 1, 2.7\]"):
        force_of(calculator, molecule, [0, 1, 2.7])
    assert force_of(calculator, molecule, np.array([2, 0, 1])).getParticles() == (2, 0, 1)
