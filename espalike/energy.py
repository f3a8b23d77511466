"""Energy and forces of an `MMSystem`: the one place where terms meet coordinates.

Forces are −Bᵀ ∂u/∂q with the Wilson B rows of `espalike.geometry`, so a loss on forces needs no double
backward through geometry. Inside, tuples lead and conformers follow: gathers and scatters move whole rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from espalike.geometry import Coordinate
from espalike.terms.base import PairTerm
from espalike.types import Bound, Kind, MMSystem, Prediction


@dataclass(frozen=True, eq=False)
class _Values:
    """One internal coordinate over many atom tuples.

    Attributes:
        coordinate: what it is.
        idx: the atoms of each, shape `(T, n)`.
        q: values, shape `(T, K)`; what energies are differentiated by.
        rows: Wilson B rows, one an atom, each `(T, K, 3)`.
    """

    coordinate: Coordinate
    idx: Tensor
    q: Tensor
    rows: tuple[Tensor, ...]


_Key = tuple[int, Coordinate]
_MOST_ATOMS = 50_000
"""Up to so many, four atom indices fit into one 64-bit integer, which sorts faster than rows."""


def _distinct(idx: Tensor, n_atoms: int) -> tuple[Tensor, Tensor]:
    """Atom tuples, read in one direction, without repetition; and where each of `idx` is among them."""
    idx = torch.where((idx[:, 0] > idx[:, -1]).unsqueeze(-1), idx.flip(1), idx)
    if n_atoms > _MOST_ATOMS:
        return torch.unique(idx, dim=0, return_inverse=True)
    power = n_atoms ** torch.arange(idx.shape[1], device=idx.device)
    keys, inverse = torch.unique((idx * power).sum(-1), return_inverse=True)
    return keys.unsqueeze(-1) // power % n_atoms, inverse


def _coordinates(system: MMSystem, x: Tensor) -> tuple[list[_Values], dict[_Key, tuple[int, Tensor | None]]]:
    """Every internal coordinate, computed once however many terms and tuples use it.

    A bond's length is also in its angles' and torsions' couplings: coordinates of one type over bonded tuples are
    pooled. Returns the pools and, for each coordinate of a term's tuples, its pool and its rows there (None: all).
    """
    users: dict[object, dict[_Key, Tensor]] = {}
    for bound in system.terms:
        for coordinate in bound.term.coordinates:
            key = (id(bound.tuples.idx), coordinate)
            pool = key if bound.term.kind is Kind.PAIR else type(coordinate)
            users.setdefault(pool, {})[key] = bound.tuples.idx[:, coordinate.atoms]
    pools: list[_Values] = []
    places: dict[_Key, tuple[int, Tensor | None]] = {}
    for members in users.values():
        idx, inverse = torch.cat(list(members.values())), None
        if len(members) > 1:
            idx, inverse = _distinct(idx, len(x))
        coordinate = next(iter(members))[1]
        q, rows = coordinate(tuple(x[atoms] for atoms in idx.unbind(-1)))
        start = 0
        for key, own in members.items():
            places[key] = (len(pools), None if inverse is None else inverse[start : start + len(own)])
            start += len(own)
        pools.append(_Values(coordinate, idx, q, rows))
    return pools, places


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


def _term_energy(bound: Bound, q: tuple[Tensor, ...], n_mols: int) -> Tensor:
    """Energy of one term [kcal/mol], shape `(M, K)`."""
    u = bound.term.energy(q, _parameters(bound, q[0].dtype))
    if bound.tuples.is14 is not None:
        u = u * torch.where(bound.tuples.is14, bound.scale14.to(u.dtype), 1.0).unsqueeze(-1)
    return u.new_zeros(n_mols, u.shape[1]).index_add(0, bound.tuples.mol, u)


def energy(system: MMSystem, xyz: Tensor, forces: bool = True, create_graph: bool = False) -> Prediction:
    """Energies and forces of molecules at coordinates, in the dtype of the coordinates.

    Args:
        system: parametrized molecules.
        xyz: coordinates [Å], shape `(K, N, 3)`.
        forces: whether forces are wanted.
        create_graph: whether energies and forces will be differentiated by the parameters (training); without
            forces, energies are differentiable whenever gradients are enabled.

    Returns:
        Energies [kcal/mol] `(K, M)` in total and per term, forces [kcal/mol/Å] `(K, N, 3)`.

    Raises:
        ValueError: when the coordinates do not fit the system's atoms.
    """
    if xyz.ndim != 3 or xyz.shape[1:] != (len(system.numbers), 3):
        raise ValueError(f"coordinates must have shape (K, {len(system.numbers)}, 3); got {tuple(xyz.shape)}")
    x = xyz.transpose(0, 1).contiguous()
    pools, places = _coordinates(system, x.detach())
    with torch.set_grad_enabled(torch.is_grad_enabled() or forces):
        leaves = [pool.q.requires_grad_(forces) for pool in pools]

        def value(bound: Bound, coordinate: Coordinate) -> Tensor:
            pool, rows = places[id(bound.tuples.idx), coordinate]
            return leaves[pool] if rows is None else leaves[pool][rows]

        by_term = tuple(
            _term_energy(bound, tuple(value(bound, c) for c in bound.term.coordinates), system.n_mols)
            for bound in system.terms
        )
        total = torch.stack(by_term).sum(0) if by_term else x.new_zeros(system.n_mols, x.shape[1])
        force = None
        if forces:
            force = torch.zeros_like(x)
            if by_term:
                slopes = torch.autograd.grad(total.sum(), leaves, create_graph=create_graph, retain_graph=True)
                for slope, pool in zip(slopes, pools, strict=True):
                    for atoms, row in zip(pool.idx.unbind(-1), pool.rows, strict=True):
                        force = force.index_add(0, atoms, -slope.unsqueeze(-1) * row)
            force = force.transpose(0, 1)
    if forces and not create_graph:  # the graph is spent
        total, by_term = total.detach(), tuple(u.detach() for u in by_term)
    return Prediction(total.transpose(0, 1), force, tuple(u.transpose(0, 1) for u in by_term))
