"""Units and conversion factors.

Internal units everywhere in espalike: length Å, energy kcal/mol, charge e, angle rad, mass dalton.
Constants are CODATA 2018, as used by OpenMM and QCElemental.
"""

import re
from functools import lru_cache
from typing import Any

HARTREE = 627.5094740630558
"""One hartree in kcal/mol."""
BOHR = 0.529177210903
"""One bohr in Å."""
DEBYE = 0.20819433270935594
"""One debye in e Å."""
KJ_PER_KCAL = 4.184
"""One thermochemical kilocalorie in kJ."""
COULOMB = 138.93545764438198 / KJ_PER_KCAL * 10.0
"""1/(4 π ε₀) in kcal/mol Å e⁻², from the value OpenMM's kernels use (ONE_4PI_EPS0, kJ/mol nm e⁻²)."""
BOLTZMANN = 8.31446261815324e-3 / KJ_PER_KCAL
"""Boltzmann's constant in kcal/mol/K."""

# Factor that brings one of the unit to internal units.
_FACTORS = {
    "1": 1.0,
    "dimensionless": 1.0,
    "angstrom": 1.0,
    "nanometer": 10.0,
    "nm": 10.0,
    "bohr": BOHR,
    "kcal/mol": 1.0,
    "kj/mol": 1.0 / KJ_PER_KCAL,
    "hartree": HARTREE,
    "ev": HARTREE / 27.211386245988,
    "cm^-1": HARTREE / 219474.6313632,
    "e": 1.0,
    "debye": DEBYE,
    "radian": 1.0,
    "degree": 3.141592653589793 / 180.0,
    "dalton": 1.0,
}
_ALIASES = {
    "å": "angstrom",
    "angstroms": "angstrom",
    "nanometers": "nanometer",
    "a0": "bohr",
    "eh": "hartree",
    "hartrees": "hartree",
    "rad": "radian",
    "deg": "degree",
    "electronvolt": "ev",
    "elementary_charge": "e",
}


@lru_cache(maxsize=256)
def factor(unit: str) -> float:
    """Factor that turns a number in `unit` into internal units.

    `unit` is a product of the names above with `*`, `/` and `**`, for example
    `kcal/mol/angstrom**2`, `kJ/mol/nm`, `hartree/bohr`, `e`. Case is ignored.

    Raises:
        ValueError: for an unknown unit, naming it and the known ones.
    """
    text = unit.strip().lower().replace(" ", "").replace("kcal/mol", "_kcal_").replace("kj/mol", "_kj_")
    result, sign = 1.0, 1
    for token in re.split(r"((?<!\*)\*(?!\*)|/)", text):
        if token in {"*", "/"}:
            sign = 1 if token == "*" else -1
            continue
        name, _, power = token.partition("**")
        name = {"_kcal_": "kcal/mol", "_kj_": "kj/mol"}.get(name, _ALIASES.get(name, name))
        if name not in _FACTORS or not re.fullmatch(r"-?\d*", power):
            raise ValueError(f"unknown unit {token!r} in {unit!r}; known units: {', '.join(sorted(_FACTORS))}")
        result *= _FACTORS[name] ** (sign * int(power or 1))
    return result


def magnitude(value: Any, unit: str) -> Any:
    """A value as plain numbers in a unit: that of a quantity of OpenMM or OpenFF, or what is a plain number already.

    Args:
        value: numbers, or a quantity, for instance positions of an OpenMM context.
        unit: as both programs name it: `angstrom`, `elementary_charge`, `kelvin`, `femtosecond`, `1/picosecond`.

    Raises:
        ValueError: for a quantity of another dimension.
    """
    try:
        if hasattr(value, "value_in_unit"):
            import openmm.unit

            one = getattr(openmm.unit, unit.removeprefix("1/"))
            return value.value_in_unit(one**-1 if unit.startswith("1/") else one)
        return value.m_as(unit) if hasattr(value, "m_as") else value
    except TypeError as error:  # also what OpenFF's quantities raise
        raise ValueError(f"expected a quantity that can be given in {unit}: {error}") from error


def convert(value, source: str, target: str):
    """`value` (a number or array) in unit `source`, expressed in unit `target`."""
    return value * (factor(source) / factor(target))
