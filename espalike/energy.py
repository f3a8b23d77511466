"""Energy and forces of an `MMSystem` at given coordinates.

Forces are −Bᵀ ∂u/∂q with the Wilson B rows of `espalike.geometry`, so a loss on forces needs no double backward through
geometry; with the analytic ∂u/∂q of a term it needs no double backward at all. Inside, tuples lead and conformers
follow, as in `espalike.internal`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from espalike.internal import CoordinateValues, InternalCoordinate, coordinate_values, pooled_coordinates
from espalike.system import Bound, MMSystem, Prediction, check_system
from espalike.terms.base import PairTerm
from espalike.tuples import Tuples


def _parameters(bound: Bound, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Parameter columns, each `(T, 1)`; those of pair terms combined from their two atoms."""
    values = bound.values.to(dtype)
    if values.is_inference():  # autograd, which some terms need, takes none
        values = values.clone()
    columns = values.unbind(-1)
    if isinstance(bound.term, PairTerm):
        columns = _combined(bound.term, bound.tuples, values)
    return tuple(column.unsqueeze(-1) for column in columns)


def _combined(term: PairTerm, tuples: Tuples, values: Tensor) -> tuple[Tensor, ...]:
    """Parameters of pairs, from those of their atoms `(N, P)`."""
    i, j = tuples.idx.unbind(-1)

    def of(atoms: Tensor) -> tuple[Tensor, ...]:
        return term.combine(atoms[i].unbind(-1), atoms[j].unbind(-1))

    between = values[:, : term.n_combined]
    if not term.has_own:
        return of(between)
    within = of(torch.stack(term.within(values.unbind(-1)), dim=-1))
    if tuples.across is None:
        return within
    return tuple(torch.where(tuples.across, b, w) for b, w in zip(of(between), within, strict=True))


def _scaled(bound: Bound, u: Tensor) -> Tensor:
    """Values of each tuple; those of 1-4 pairs are scaled."""
    if bound.tuples.is14 is None:
        return u
    return u * torch.where(bound.tuples.is14, bound.scale14.to(u.dtype), 1.0).unsqueeze(-1)


class _Forces(torch.autograd.Function):
    """−Bᵀ ∂u/∂q, shape `(N, 3, K)`, with its derivative by ∂u/∂q, −B, written out: autograd would copy each part."""

    @staticmethod
    def forward(
        ctx, needed: Sequence[InternalCoordinate], values: Sequence[CoordinateValues], x: Tensor, *slopes: Tensor
    ) -> Tensor:
        """Forces on the atoms."""
        ctx.needed, ctx.values = needed, values
        force = torch.zeros_like(x, memory_format=torch.contiguous_format)
        for coordinate, value, slope in zip(needed, values, slopes, strict=True):
            *atoms, last = coordinate.idx.unbind(-1)
            pulls = [slope.unsqueeze(1) * row for row in value.rows]
            for i, pull in zip(atoms, pulls, strict=True):
                force.index_add_(0, i, pull, alpha=-1)
            force.index_add_(0, last, sum(pulls[1:], pulls[0]))
        return force

    @staticmethod
    @once_differentiable
    def backward(ctx, slope: Tensor):
        """A loss's derivatives by each ∂u/∂q from those by the forces."""
        slope = slope.contiguous()
        return None, None, None, *(_along(slope, w.idx, v.rows) for w, v in zip(ctx.needed, ctx.values, strict=True))


def _along(g: Tensor, idx: Tensor, rows: tuple[Tensor, ...]) -> Tensor:
    """−B g, shape `(T, K)`: vectors on the atoms projected on the coordinates' rows."""
    *atoms, last = idx.unbind(-1)
    away = g.index_select(0, last)
    return torch.stack([((away - g.index_select(0, i)) * row).sum(1) for i, row in zip(atoms, rows, strict=True)]).sum(
        0
    )


def energy(system: MMSystem, xyz: Tensor, forces: bool = True, create_graph: bool = False) -> Prediction:
    """Energies and forces of molecules at coordinates, in the dtype of the coordinates.

    Args:
        system: parametrized molecules.
        xyz: coordinates [Å], shape `(K, N, 3)`, by which energies cannot be differentiated: take the forces.
        forces: whether to compute forces.
        create_graph: whether energies and forces will be differentiated by the parameters (training); without
            forces, energies are differentiable whenever gradients are enabled.

    Returns:
        Energies [kcal/mol] `(K, M)` in total and per term, forces [kcal/mol/Å] `(K, N, 3)`.

    Raises:
        ValueError: when the coordinates do not fit the system's atoms, or are not a tensor of floating-point numbers.
        TypeError: for what is not a system.
    """
    check_system(system)
    if not isinstance(xyz, Tensor) or not xyz.is_floating_point():
        kind = xyz.dtype if isinstance(xyz, Tensor) else type(xyz).__name__
        raise ValueError(f"coordinates must be a tensor of floating-point numbers, torch.as_tensor(xyz); got {kind}")
    if xyz.ndim != 3 or xyz.shape[1:] != (len(system.numbers), 3):
        raise ValueError(f"coordinates must have shape (K, {len(system.numbers)}, 3); got {tuple(xyz.shape)}")
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False), torch.no_grad():
            return energy(system, xyz.clone(), forces)
    needed, places = pooled_coordinates(system.terms, len(system.numbers))
    x = xyz.detach().permute(1, 2, 0).contiguous()
    values = [coordinate_values(w.coordinate, w.idx, x) for w in needed]
    slopes: list[Tensor | None] = [None] * len(needed)  # each belongs to a term
    by_term = []
    with torch.set_grad_enabled(torch.is_grad_enabled() and (create_graph or not forces)):
        for bound in system.terms:
            where = [places[id(bound.tuples.idx), c] for c in bound.term.coordinates]
            q = tuple(values[n].q if rows is None else values[n].q.index_select(0, rows) for n, rows in where)
            p = _parameters(bound, x.dtype)
            if forces:
                u, by_coordinate = bound.term.slopes(q, p)
                for (n, rows), slope in zip(where, by_coordinate, strict=True):
                    slopes[n] = _added(slopes[n], _scaled(bound, slope), rows, values[n].q)
            else:
                u = bound.term.energy(q, p)
            u = _scaled(bound, u)
            by_term.append(u.new_zeros(system.n_mols, u.shape[1]).index_add(0, bound.tuples.mol, u))
        total = torch.stack(by_term).sum(0) if by_term else x.new_zeros(system.n_mols, x.shape[2])
        force = _Forces.apply(needed, values, x, *slopes).permute(2, 0, 1).contiguous() if forces else None
    return Prediction(total.transpose(0, 1), force, tuple(u.transpose(0, 1) for u in by_term))


def _added(total: Tensor | None, slope: Tensor, rows: Tensor | None, like: Tensor) -> Tensor:
    """Slopes of one more term, added to those of the tuples of its coordinate."""
    if rows is not None:
        return (torch.zeros_like(like) if total is None else total).index_add(0, rows, slope)
    return slope if total is None else total + slope
