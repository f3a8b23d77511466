"""Whether the expression of a form, which OpenMM computes, is its energy, which training computes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache

from torch import Tensor

from espalike.export.parts import ExportError
from espalike.nn.forms import is_foreign, sample
from espalike.terms.base import PairTerm, Term
from espalike.terms.primitives import Expression

_TOLERANCE = 1e-5


@lru_cache(maxsize=64)
def check_expression(term: Term) -> None:
    """Compare the expressions of a form that is not espalike's own with its energies, at random tuples.

    Raises:
        ExportError: naming the form, when OpenMM cannot compute an expression, or gives another number.
    """
    if not is_foreign(term):
        return
    q, p, named = sample(term)
    for primitive in term.primitives(p):
        if not isinstance(primitive, Expression):
            continue
        variables = dict(zip(primitive.names, q, strict=True)) | (named if isinstance(term, PairTerm) else {})
        variables |= {name: value for name, value in primitive.columns().items() if isinstance(value, Tensor)}
        text = "; ".join([primitive.expression, *([term.combining] if isinstance(term, PairTerm) else [])])
        if unknown := _names(text) - variables.keys():
            raise ExportError(
                f"{term.name}: its expression has {', '.join(sorted(unknown))}; its coordinates and parameters are "
                f"{', '.join(variables)}"
            )
        expected = primitive.energy(q).detach().ravel().tolist()
        largest = max((abs(energy) for energy in expected if math.isfinite(energy)), default=0.0)
        columns = {name: value.detach().expand_as(q[0]).ravel().tolist() for name, value in variables.items()}
        for row, energy in enumerate(expected):
            values = {name: column[row] for name, column in columns.items()}
            actual = _computed(term, text, values)
            near = abs(actual - energy) <= _TOLERANCE * (abs(energy) + largest)  # false for nan
            if math.isfinite(energy) and not near:
                where = ", ".join(f"{name} = {value:.6g}" for name, value in values.items())
                raise ExportError(
                    f"{term.name}: at {where} its energy is {energy:.6g} kcal/mol, but its expression gives "
                    f"{actual:.6g}. The exported force field would be another one than the trained one; correct it"
                )


def _names(text: str) -> set[str]:
    """The variables of an expression that it does not define itself."""
    without_numbers = re.sub(r"(?<![\w.])(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", "", text)
    names = set(re.findall(r"\b[A-Za-z_]\w*\b(?!\s*\()", without_numbers))
    return names - set(re.findall(r"(\w+)\s*=", text))


def _computed(term: Term, text: str, values: Mapping[str, float]) -> float:
    """The value of an expression by OpenMM."""
    import openmm

    system = openmm.System()
    system.addParticle(1.0)
    force = openmm.CustomCVForce(text)
    for name, value in values.items():
        force.addGlobalParameter(name, value)
    system.addForce(force)
    try:
        platform = openmm.Platform.getPlatform("Reference")
        context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
        context.setPositions([(0, 0, 0)])
        return context.getState(energy=True).getPotentialEnergy()._value
    except openmm.OpenMMException as error:
        raise ExportError(f"{term.name}: OpenMM cannot compute its expression {text!r}: {error}") from error
