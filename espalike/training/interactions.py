"""Losses on interaction energies of complexes, and on their components by symmetry-adapted perturbation theory (SAPT).

An error z is in units of √(scale² + (relative E)²) with the reference energy E [kcal/mol]: at short distance energies
are large, and a form that fits well elsewhere is off by a share of them. It counts as 2 (√(1 + z²) − 1): as its square
while it is small, linearly when it is large (pseudo-Huber; P. Charbonnier et al., IEEE Trans. Image Process. 6 (1997)
298). Before training, walls at the shortest distances are off by up to hundreds of kcal/mol, whose squares would be all
of the loss.
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
    """Mean loss of interaction energies; `coulomb` and `rest` are the results of `interaction_energies`."""
    return _error(coulomb + rest, batch.interaction, batch, factors, scale, relative)


def sapt_loss(
    coulomb: Tensor, rest: Tensor, batch: LabelledBatch, factors: Tensor, scale: float, relative: float
) -> Tensor:
    """Mean loss of the Coulomb energy against electrostatics, plus that of the rest against the other components."""
    sapt = batch.sapt
    electrostatics, others = (None, None) if sapt is None else (sapt[..., 0], sapt[..., 1:].sum(-1))
    return sum(
        (_error(u, label, batch, factors, scale, relative) for u, label in ((coulomb, electrostatics), (rest, others))),
        coulomb.new_zeros(()),
    )


def _error(
    predicted: Tensor, reference: Tensor | None, batch: LabelledBatch, factors: Tensor, scale: float, relative: float
) -> Tensor:
    """Mean loss over the points that have a reference; zero where `reference` is None."""
    reference = torch.full_like(predicted, torch.nan) if reference is None else reference
    known = batch.mask & reference.isfinite()
    label = torch.where(known, reference, 0.0)
    squares = (predicted - label) ** 2 / (scale**2 + (relative * label) ** 2)
    return shared_mean(2.0 * ((1.0 + squares).sqrt() - 1.0) * factors, known)
