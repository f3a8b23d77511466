"""Energy and forces of an `MMSystem`: the one place where terms meet coordinates.

Forces are −Bᵀ ∂u/∂q with the Wilson B rows of `espalike.geometry`, so a loss on forces needs no double backward through
geometry; with the analytic ∂u/∂q of a term it needs no double backward at all. Inside, tuples lead and conformers
follow, as in `espalike.internal`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

from espalike.internal import Stored, Values, Wanted, measured, wanted
from espalike.terms.base import PairTerm, Term
from espalike.types import Bound, MMSystem, Prediction


def _parameters(bound: Bound, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Parameter columns, each `(T, 1)`; those of pair terms combined from their two atoms."""
    values, idx = bound.values.to(dtype), bound.tuples.idx
    if isinstance(bound.term, PairTerm):
        values = values[:, : bound.term.n_combined]
        first, second = values[idx[:, 0]], values[idx[:, 1]]
        columns = bound.term.combine(first.unbind(-1), second.unbind(-1))
    else:
        columns = values.unbind(-1)
    return tuple(column.unsqueeze(-1) for column in columns)


def _scaled(bound: Bound, u: Tensor) -> Tensor:
    """Values of each tuple, those of 1-4 pairs scaled."""
    if bound.tuples.is14 is None:
        return u
    return u * torch.where(bound.tuples.is14, bound.scale14.to(u.dtype), 1.0).unsqueeze(-1)


def _forces(needed: Sequence[Wanted], values: Sequence[Values], slopes: Sequence[Tensor | None], x: Tensor) -> Tensor:
    """−Bᵀ ∂u/∂q, shape `(N, 3, K)`."""
    force = torch.zeros_like(x)
    for coordinate, measure, slope in zip(needed, values, slopes, strict=True):
        if slope is None:
            continue
        atoms = coordinate.idx.unbind(-1)
        last: Tensor | None = None
        for i, row in zip(atoms, measure.rows, strict=False):
            pull = slope.unsqueeze(1) * row
            force.index_add_(0, i, pull, alpha=-1)
            last = pull if last is None else last + pull
        assert last is not None
        force.index_add_(0, atoms[-1], last)
    return force


@cache
def _fused(term: type[Term]) -> Callable[..., tuple[Tensor, tuple[Tensor, ...]]]:
    """A form's slopes as one kernel; as they are where they come from autograd, which torch.compile cannot take."""
    return term.slopes if term.slopes is Term.slopes else torch.compile(term.slopes, dynamic=True)


def energy(
    system: MMSystem,
    xyz: Tensor,
    forces: bool = True,
    create_graph: bool = False,
    stored: Stored | None = None,
    fused: bool = False,
) -> Prediction:
    """Energies and forces of molecules at coordinates, in the dtype of the coordinates.

    Args:
        system: parametrized molecules.
        xyz: coordinates [Å], shape `(K, N, 3)`.
        forces: whether forces are wanted.
        create_graph: whether energies and forces will be differentiated by the parameters (training); without
            forces, energies are differentiable whenever gradients are enabled.
        stored: internal coordinates at `xyz` of the system's tuples by kind, as far as they are known; the others are
            measured.
        fused: whether the terms' slopes are compiled, which takes half a minute once and a C++ compiler.

    Returns:
        Energies [kcal/mol] `(K, M)` in total and per term, forces [kcal/mol/Å] `(K, N, 3)`.

    Raises:
        ValueError: when the coordinates do not fit the system's atoms.
    """
    if xyz.ndim != 3 or xyz.shape[1:] != (len(system.numbers), 3):
        raise ValueError(f"coordinates must have shape (K, {len(system.numbers)}, 3); got {tuple(xyz.shape)}")
    x = xyz.detach().permute(1, 2, 0).contiguous()
    needed, places = wanted(system.terms, len(x))
    values = [(stored or {}).get((w.kind, w.coordinate)) or measured(w.coordinate, w.idx, x) for w in needed]
    slopes: list[Tensor | None] = [None] * len(needed)
    by_term = []
    with torch.set_grad_enabled(torch.is_grad_enabled() and (create_graph or not forces)):
        for bound in system.terms:
            where = [places[id(bound.tuples.idx), c] for c in bound.term.coordinates]
            q = tuple(values[n].q if rows is None else values[n].q.index_select(0, rows) for n, rows in where)
            p = _parameters(bound, x.dtype)
            if forces:
                u, own = _fused(type(bound.term))(bound.term, q, p) if fused else bound.term.slopes(q, p)
                for (n, rows), slope in zip(where, own, strict=True):
                    slopes[n] = _added(slopes[n], _scaled(bound, slope), rows, values[n].q)
            else:
                u = bound.term.energy(q, p)
            u = _scaled(bound, u)
            by_term.append(u.new_zeros(system.n_mols, u.shape[1]).index_add(0, bound.tuples.mol, u))
        total = torch.stack(by_term).sum(0) if by_term else x.new_zeros(system.n_mols, x.shape[2])
        force = _forces(needed, values, slopes, x).permute(2, 0, 1) if forces else None
    return Prediction(total.transpose(0, 1), force, tuple(u.transpose(0, 1) for u in by_term))


def _added(total: Tensor | None, slope: Tensor, rows: Tensor | None, like: Tensor) -> Tensor:
    """Slopes of one more term added to those of its coordinate's tuples."""
    if rows is not None:
        return (torch.zeros_like(like) if total is None else total).index_add(0, rows, slope)
    return slope if total is None else total + slope
