"""The contribution of each term of a force field to energies and forces."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from espalike.energy import energy
from espalike.system import MMSystem


def term_forces(system: MMSystem, xyz: Tensor) -> Tensor:
    """Forces of each term [kcal/mol/Å], shape `(terms, K, N, 3)`, not differentiable; they sum to the total's.

    Args:
        system: parametrized molecules.
        xyz: coordinates [Å], shape `(K, N, 3)`.
    """
    parts = [energy(MMSystem((bound,), system.numbers, system.mol), xyz).forces for bound in system.terms]
    return torch.stack([part for part in parts if part is not None]) if parts else xyz.new_zeros((0, *xyz.shape))


def sums(by_term: Sequence[Tensor], mask: Tensor, forces: Tensor) -> Tensor:
    """Sums for root mean square contributions, shape `(terms, 4)`, float64: Σu², number of u, ΣF², number of F.

    An energy u is relative to its mean over the molecule's conformers, which is how training and scores treat energies;
    a molecule with a single conformer is left out.

    Args:
        by_term: energies of each term [kcal/mol], each `(K, M)`.
        mask: which of them are conformers and no padding, shape `(K, M)`.
        forces: force components of each term [kcal/mol/Å], shape `(terms, ...)`.
    """
    mask = mask & (mask.sum(0) > 1)
    u = torch.where(mask, torch.stack(tuple(by_term)).double(), 0.0)
    u = torch.where(mask, u - u.sum(1, keepdim=True) / mask.sum(0).clamp_min(1), 0.0)
    f = forces.flatten(1).double()
    n, n_forces = mask.sum().expand(len(u)), torch.full((len(u),), f.shape[1], device=u.device)
    return torch.stack([(u**2).sum((1, 2)), n, (f**2).sum(1), n_forces], dim=1)


def root_mean_squares(total: Tensor) -> Tensor:
    """Contributions to energies [kcal/mol] and forces [kcal/mol/Å], shape `(terms, 2)`, of added `sums`."""
    return (total[:, 0::2] / total[:, 1::2]).sqrt()
