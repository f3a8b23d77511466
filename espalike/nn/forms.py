"""Checks of functional forms that are not espalike's own: what a form states of itself has to agree.

The tests of this package check its own forms in the same way. A form of a plug-in is checked when a network is built
for it: a slope of the wrong sign, or a parameter in kJ/mol, would train, and give wrong numbers.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor

from espalike.nn.links import find
from espalike.terms.base import OUTER_3, REVERSAL_2, REVERSAL_3, REVERSAL_4, REVERSAL_5, Op, PairTerm, Param, Term
from espalike.tuples import Kind
from espalike.units import factor

_SAMPLES = 16
_LISTED = {
    Kind.BOND: REVERSAL_2, Kind.ANGLE: REVERSAL_3, Kind.PROPER: REVERSAL_4, Kind.PROPER_PAIR: REVERSAL_5,
    Kind.IMPROPER: OUTER_3, Kind.ANGLE_PAIR: (Op((0, 1, 2, 3)), Op((3, 1, 2, 0))),
}  # fmt: skip
"""Operations that a form on these tuples must have: each tuple is listed once, in an order given by atom numbers."""


class Sample(NamedTuple):
    """Random tuples of a form: coordinates `(T, 1)`, parameters `(T, 1)`, and parameters by name.

    Those of a pair term are by the names that its combining rule has, with the suffixes 1 and 2.
    """

    q: tuple[Tensor, ...]
    p: tuple[Tensor, ...]
    named: dict[str, Tensor]


def is_foreign(term: Term) -> bool:
    """Whether a form is defined outside of espalike."""
    return not type(term).__module__.startswith("espalike.")


def check_form(term: Term) -> None:
    """Check that units, symmetry, energy and slopes of a form agree.

    Raises:
        ValueError: naming the form, what was expected, and what it has.
    """
    for param in term.params:
        if factor(param.unit) != 1.0:
            raise ValueError(
                f"{term.name}: parameter {param.name} is in {param.unit}; expected internal units: kcal/mol, angstrom, "
                "radian, e, and products of them"
            )
    atoms = {op.atoms for op in term.symmetry}
    if missing := [op.atoms for op in _LISTED.get(term.kind, ()) if op.atoms not in atoms]:
        raise ValueError(
            f"{term.name}: its symmetry lacks {', '.join(map(str, missing))}. Each {term.kind.value} is listed once, "
            "in the order of atom numbers: without all orders, parameters would depend on these"
        )
    here = sample(term)
    energy = term.energy(here.q, here.p)
    if energy.shape != here.q[0].shape:
        raise ValueError(f"{term.name}: energies have shape {tuple(energy.shape)}, expected one number per tuple")
    for op in (Op((0, 1)), Op((1, 0))) if isinstance(term, PairTerm) else term.symmetry:
        other = sample(term, op)
        _compare(term, f"the energy of the order of atoms {op.atoms}", term.energy(other.q, other.p), energy)
    closed, slopes = term.slopes(here.q, here.p)
    _, expected = Term.slopes(term, here.q, here.p)
    _compare(term, "the energy that slopes gives", closed, energy)
    if len(slopes) != len(expected):
        raise ValueError(f"{term.name}: {len(slopes)} slopes, expected one for each of {', '.join(term.q_names)}")
    for name, slope, derivative in zip(term.q_names, slopes, expected, strict=True):
        _compare(term, f"the slope by {name}", slope, derivative)


def _compare(term: Term, what: str, actual: Tensor, expected: Tensor) -> None:
    known = expected.isfinite()
    if not known.any():
        raise ValueError(
            f"{term.name}: {what} is not compared: the energy or its slopes are not finite at any geometry"
        )
    actual, expected = actual[known].detach(), expected[known].detach()
    far = (actual - expected).abs() > 1e-5 * (expected.abs() + expected.abs().max(dim=0, keepdim=True)[0] + 1e-6)
    far |= ~actual.isfinite()
    if far.any():
        first = int(far.int().argmax())
        raise ValueError(f"{term.name}: {what} is {actual[first]:.6g} where {expected[first]:.6g} is expected")


def sample(term: Term, op: Op | None = None) -> Sample:
    """Random tuples; with an operation the same ones, in its order of atoms and of parameters."""
    generator = torch.Generator().manual_seed(0)
    i = torch.arange(5.0, dtype=torch.float64)
    x = torch.stack([torch.cos(1.7 * i), torch.sin(1.7 * i), 0.8 * i], dim=-1)[:, None]
    x = x + 0.15 * torch.randn(5, _SAMPLES, 3, generator=generator, dtype=torch.float64)
    pairs = isinstance(term, PairTerm)
    x = 2.5 * x if pairs else x
    order = list(range(len(x))) if op is None else [*op.atoms, *range(len(op.atoms), len(x))]
    q = tuple(c(tuple(x[order[a]] for a in c.atoms))[0][:, None] for c in term.coordinates)
    sides = [[_values(term, param, generator) for param in term.params] for _ in range(2 if pairs else 1)]
    if not isinstance(term, PairTerm):
        columns = range(len(term.params)) if op is None or op.columns is None else op.columns
        signs = [1] * len(term.params) if op is None or op.signs is None else op.signs
        p = tuple(sign * sides[0][c] for c, sign in zip(columns, signs, strict=True))
        return Sample(q, p, {param.name: value for param, value in zip(term.params, p, strict=True)})
    for c, param in enumerate(term.params):
        if param.universal:
            sides[1][c] = sides[0][c]
    if op is not None and op.atoms == (1, 0):
        sides.reverse()
    first, second = (tuple(side[: term.n_combined]) for side in sides)
    names = [param.name for param in term.params[: term.n_combined]]
    named = {f"{name}{n + 1}": side[c] for n, side in enumerate((first, second)) for c, name in enumerate(names)}
    return Sample(q, term.combine(first, second), named)


def _values(term: Term, param: Param, generator: torch.Generator) -> Tensor:
    """Values of a parameter as a network may give them, shape `(T, 1)`."""
    raw = torch.randn(_SAMPLES, generator=generator, dtype=torch.float64).clamp(-2.0, 2.0)
    if param.link == "charge":
        return 0.5 * raw[:, None]
    mean = torch.full_like(raw, float(param.mean)) if not callable(param.mean) else None
    if mean is None:
        size = len(param.borrows.atoms) if param.borrows else term.param_kind.size
        elements = list(itertools.islice(itertools.cycle((6, 7, 8, 16)), _SAMPLES))
        numbers = torch.tensor(elements)[:, None].expand(-1, size)
        mean = param.mean(numbers, torch.full_like(numbers, 3)).to(raw)  # type: ignore[operator]
    return find(param.link)(raw, mean, param.std)[:, None]
