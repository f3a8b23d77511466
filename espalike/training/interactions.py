"""Losses on interaction energies of complexes, and on their components by symmetry-adapted perturbation theory (SAPT).

An error counts as one at √(scale² + (relative E)²) with the reference energy E [kcal/mol]: at short distance energies
are large, and a form that fits well elsewhere is off by a share of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from espalike.batch import LabelledBatch
from espalike.energy import energy
from espalike.system import MMSystem
from espalike.training.processes import shared_mean


def interaction_energies(system: MMSystem, batch: LabelledBatch) -> tuple[Tensor, Tensor]:
    """Coulomb energies, and those of all other pair terms, between the molecules of each complex [kcal/mol].

    Both have shape `(K, M)` and are zero for single molecules. They are differentiable where gradients are enabled.
    """
    between = system.between_components(batch.component)
    coulomb, rest = (batch.xyz.new_zeros(batch.mask.shape) for _ in range(2))
    for bound, u in zip(between.terms, energy(between, batch.xyz, forces=False).by_term, strict=True):
        if bound.term.params[0].link == "charge":
            coulomb = coulomb + u
        else:
            rest = rest + u
    return coulomb, rest


def interaction_loss(
    coulomb: Tensor, rest: Tensor, batch: LabelledBatch, factors: Tensor, scale: float, relative: float
) -> Tensor:
    """Mean squared error of interaction energies; `coulomb` and `rest` are the results of `interaction_energies`."""
    return _error(coulomb + rest, batch.interaction, batch, factors, scale, relative)


def sapt_loss(
    coulomb: Tensor, rest: Tensor, batch: LabelledBatch, factors: Tensor, scale: float, relative: float
) -> Tensor:
    """Mean squared error of the Coulomb energy from electrostatics, plus that of the rest from the other components."""
    sapt = batch.sapt
    electrostatics, others = (None, None) if sapt is None else (sapt[..., 0], sapt[..., 1:].sum(-1))
    return sum(
        (_error(u, label, batch, factors, scale, relative) for u, label in ((coulomb, electrostatics), (rest, others))),
        coulomb.new_zeros(()),
    )


def _error(
    predicted: Tensor, reference: Tensor | None, batch: LabelledBatch, factors: Tensor, scale: float, relative: float
) -> Tensor:
    """Mean squared error over the points that have a reference; zero where `reference` is None."""
    reference = torch.full_like(predicted, torch.nan) if reference is None else reference
    known = batch.mask & reference.isfinite()
    label = torch.where(known, reference, 0.0)
    squares = (predicted - label) ** 2 / (scale**2 + (relative * label) ** 2)
    return shared_mean(squares * factors, known)
