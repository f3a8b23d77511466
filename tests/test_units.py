import numpy as np
import pytest
from openmm import Vec3, unit

import espalike
from espalike.chem import embed, from_smiles, to_rdkit
from espalike.potential import potential
from espalike.units import BOLTZMANN, convert, factor, magnitude

PAIRS = [
    ("kJ/mol", unit.kilojoule_per_mole, unit.kilocalorie_per_mole),
    ("kJ/mol/nm**2", unit.kilojoule_per_mole / unit.nanometer**2, unit.kilocalorie_per_mole / unit.angstrom**2),
    ("kJ/mol/nm", unit.kilojoule_per_mole / unit.nanometer, unit.kilocalorie_per_mole / unit.angstrom),
    ("hartree/bohr", unit.hartree * unit.AVOGADRO_CONSTANT_NA / unit.bohr, unit.kilocalorie_per_mole / unit.angstrom),
    ("degree", unit.degree, unit.radian),
    ("bohr", unit.bohr, unit.angstrom),
]


@pytest.mark.parametrize(("name", "source", "target"), PAIRS, ids=[p[0] for p in PAIRS])
def test_factors_are_openmms(name, source, target):
    assert factor(name) == pytest.approx(
        (1.0 * source).value_in_unit(target), rel=2e-6
    )  # OpenMM's hartree is CODATA 2006's


def test_electronvolt_and_wavenumber():
    assert factor("eV") == pytest.approx(23.060547830618307, rel=1e-9)
    assert factor("cm^-1") == pytest.approx(2.8591435e-3, rel=1e-6)


def test_boltzmann():
    assert pytest.approx(0.59616, rel=1e-4) == BOLTZMANN * 300


def test_round_trip():
    assert convert(
        convert(1.7, "kJ/mol/nm**2", "kcal/mol/angstrom**2"), "kcal/mol/angstrom**2", "kJ/mol/nm**2"
    ) == pytest.approx(1.7, rel=1e-15)


@pytest.mark.parametrize("bad", ["kcal", "furlong", "angstrom**x", ""])
def test_unknown_units_are_named(bad):
    with pytest.raises(ValueError, match="unknown unit"):
        factor(bad)


@pytest.mark.parametrize("kind", ["array", "vectors", "openff"])
def test_quantities_are_coordinates_in_their_own_unit(kind, tmp_path):
    """Positions of OpenMM are in nanometres; they were taken for angstroms."""
    molecule = from_smiles("CCO", "ethanol")
    xyz = embed(molecule, 1)[0]
    if kind == "openff":
        positions = pytest.importorskip("openff.units").Quantity(xyz / 10, "nanometer")
    else:
        positions = unit.Quantity(xyz / 10 if kind == "array" else [Vec3(*row) for row in xyz / 10], unit.nanometer)
    np.testing.assert_allclose(to_rdkit(molecule, positions).GetConformer().GetPositions(), xyz, atol=1e-12)
    system = espalike.load("espalike-small").parametrize(molecule)
    for source in ("mmff94", "espalike", system):
        calculator = potential(source, molecule)
        (energy, forces), (expected, slopes) = calculator(molecule, positions), calculator(molecule, xyz)
        assert energy == pytest.approx(expected, abs=1e-8)
        np.testing.assert_allclose(forces, slopes, atol=1e-8)
    for name, given in (("one", positions), ("other", xyz)):
        (tmp_path / name).mkdir()
        espalike.export.write(system, tmp_path / name / "ethanol.gro", xyz=given)
    assert (tmp_path / "one" / "ethanol.gro").read_text() == (tmp_path / "other" / "ethanol.gro").read_text()
    with pytest.raises(ValueError, match="expected a quantity that can be given in angstrom"):
        to_rdkit(molecule, xyz * unit.kelvin)


def test_quantities_in_numbers():
    assert magnitude(2.0, "femtosecond") == 2.0
    assert magnitude(0.002 * unit.picosecond, "femtosecond") == pytest.approx(2.0)
    assert magnitude(1.0 / unit.femtosecond, "1/picosecond") == pytest.approx(1000.0)
