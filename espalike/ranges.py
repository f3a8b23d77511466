"""Ranges of parameters that physics allows, wide enough for every molecule."""

from __future__ import annotations

import math
import re

import torch

from espalike.system import Bound, MMSystem
from espalike.terms.base import Param
from espalike.tuples import Kind

_BOND = (0.5, 4.0)
_RANGES: dict[tuple[str, str], tuple[float, float]] = {
    ("r0", "angstrom"): _BOND,
    ("theta0", "radian"): (0.0, math.pi),
    ("k", "kcal/mol/angstrom**2"): (0.0, 20_000.0),
    ("k", "kcal/mol"): (0.0, 10_000.0),
    ("sigma", "angstrom"): (0.01, 10.0),
    ("epsilon", "kcal/mol"): (0.0, 20.0),
    ("scale14", "1"): (0.0, 1.0),
}
"""By name and unit of a parameter: its smallest and largest value. Triple bonds have k of about 3,000 kcal/mol/Å²."""
_DISTANCE_13 = (0.8, 7.0)
_LARGEST_COEFFICIENT = 1000.0
"""Largest magnitude of a coefficient of either sign that is an energy, as in torsions [kcal/mol]."""
_BEYOND_FORMAL = 4.0
"""How far a partial charge may be outside the range from zero to the atom's formal charge [e]."""


class ParameterError(ValueError):
    """A model gives a molecule a parameter that no molecule has."""


def range_of(param: Param, kind: Kind) -> tuple[float, float]:
    """Smallest and largest value of a parameter [its unit], over all molecules.

    Args:
        param: the parameter.
        kind: the tuples that its term is summed over.
    """
    bounded = re.fullmatch(r"range\(([^,]+),([^,]+)\)", param.link)
    if bounded:
        return float(bounded[1]), float(bounded[2])
    if param.name == "r0" and kind is Kind.ANGLE:
        return _DISTANCE_13
    if param.unit == "angstrom" and param.name.startswith("r"):
        return _BOND
    if param.link == "free":
        limit = _LARGEST_COEFFICIENT if param.unit == "kcal/mol" else math.inf
        return -limit, limit
    return _RANGES.get((param.name, param.unit), (0.0 if param.link == "positive" else -math.inf, math.inf))


def check_ranges(system: MMSystem) -> None:
    """Check that every parameter of a system is a finite number in the range that physics allows.

    Raises:
        ParameterError: naming the molecule, the term, the parameter and the atoms.
    """
    for bound in system.terms:
        for c, param in enumerate(bound.term.params):
            values = bound.values[:, c].double()
            lo, hi = range_of(param, bound.term.kind)
            low, high = torch.full_like(values, lo), torch.full_like(values, hi)
            if param.link == "charge":
                formal = torch.cat([torch.from_numpy(m.charges) for m in system.molecules]).to(values)
                low, high = formal.clamp(max=0.0) - _BEYOND_FORMAL, formal.clamp(min=0.0) + _BEYOND_FORMAL
            wrong = ~(values.isfinite() & (values >= low) & (values <= high))
            if wrong.any():
                row = int(wrong.nonzero()[0, 0])
                raise ParameterError(_refusal(system, bound, param, row, float(low[row]), float(high[row])))


def _refusal(system: MMSystem, bound: Bound, param: Param, row: int, low: float, high: float) -> str:
    """What is wrong with the parameter of one tuple (of one atom for a pair term)."""
    pairs = bound.term.param_kind is Kind.ATOM
    atoms = [row] if pairs else bound.tuples.idx[row].tolist()
    number = int(system.mol[atoms[0]])
    first = int((system.mol < number).sum())
    value = float(bound.values[row, bound.term.params.index(param)])
    return (
        f"{system.molecules[number].name}: {bound.term.name} {param.name} of atom{'s' * (len(atoms) > 1)} "
        f"{'-'.join(str(a - first + 1) for a in atoms)} is {value:.6g} {param.unit}; expected {low:.6g} to {high:.6g}. "
        "The model cannot be used for this molecule; if it gives such values for common molecules, its file is damaged"
    )
