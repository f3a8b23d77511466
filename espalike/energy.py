"""Energy and forces of an `MMSystem`: the one place where terms meet coordinates.

Forces are −Bᵀ ∂u/∂q with the Wilson B rows of `espalike.geometry`, so a loss on forces needs no double
backward through geometry. Inside, tuples lead and conformers follow: gathers and scatters move whole rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from espalike.geometry import Coordinate
from espalike.terms.base import PairTerm
from espalike.types import Bound, MMSystem, Prediction, Tuples

_Key = tuple[int, Coordinate]


def _coordinates(system: MMSystem, x: Tensor) -> dict[_Key, tuple[Tensor, tuple[Tensor, ...], Tuples]]:
    """q, B rows and tuples of every internal coordinate, each computed once however many terms use it."""
    found: dict[_Key, tuple[Tensor, tuple[Tensor, ...], Tuples]] = {}
    for bound in system.terms:
        for coordinate in bound.term.coordinates:
            key = (id(bound.tuples.idx), coordinate)
            if key not in found:
                q, rows = coordinate(tuple(x[bound.tuples.idx[:, a]] for a in coordinate.atoms))
                found[key] = (q, rows, bound.tuples)
    return found


def _parameters(bound: Bound, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Parameter columns, each `(T, 1)`; those of pair terms combined from their two atoms."""
    values, idx = bound.values.to(dtype), bound.tuples.idx
    if isinstance(bound.term, PairTerm):
        first, second = values[idx[:, 0]], values[idx[:, 1]]
        columns = bound.term.combine(first.unbind(-1), second.unbind(-1))
    else:
        columns = values.unbind(-1)
    return tuple(column.unsqueeze(-1) for column in columns)


def _term_energy(bound: Bound, q: tuple[Tensor, ...], n_mols: int) -> Tensor:
    """Energy of one term [kcal/mol], shape `(M, K)`."""
    u = bound.term.energy(q, _parameters(bound, q[0].dtype))
    if bound.tuples.is14 is not None and bound.term.scale14 != 1.0:
        scale = u.new_tensor([1.0, bound.term.scale14])  # in the dtype of the energy: float32 would cost 1e-8 of it
        u = u * scale[bound.tuples.is14.long()].unsqueeze(-1)
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
    coordinates = _coordinates(system, x.detach())
    with torch.set_grad_enabled(torch.is_grad_enabled() or forces):
        leaves = {key: q.requires_grad_(forces) for key, (q, _, _) in coordinates.items()}
        by_term = tuple(
            _term_energy(
                bound,
                tuple(leaves[id(bound.tuples.idx), c] for c in bound.term.coordinates),
                system.n_mols,
            )
            for bound in system.terms
        )
        total = torch.stack(by_term).sum(0) if by_term else x.new_zeros(system.n_mols, x.shape[1])
        force = None
        if forces:
            force = torch.zeros_like(x)
            if by_term:
                slopes = torch.autograd.grad(
                    total.sum(), list(leaves.values()), create_graph=create_graph, retain_graph=True
                )
                for slope, (_, rows, tuples), (_, coordinate) in zip(
                    slopes, coordinates.values(), coordinates, strict=True
                ):
                    for atom, row in zip(coordinate.atoms, rows, strict=True):
                        force = force.index_add(0, tuples.idx[:, atom], -slope.unsqueeze(-1) * row)
            force = force.transpose(0, 1)
    if forces and not create_graph:  # the graph is spent
        total, by_term = total.detach(), tuple(u.detach() for u in by_term)
    return Prediction(total.transpose(0, 1), force, tuple(u.transpose(0, 1) for u in by_term))
