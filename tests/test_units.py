import pytest
from openmm import unit

from espalike.units import BOLTZMANN, convert, factor

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
