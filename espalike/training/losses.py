"""Losses: dimensionless numbers from a prediction and the labels of a batch.

Each is a `shared_mean`, even when the batch lacks the reference: the batch of another process may have it.
`factors (M,)` are factors on molecules, from their data sources.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from espalike.batch import LabelledBatch
from espalike.system import Bound, MMSystem, Prediction
from espalike.terms.base import PairTerm, Param
from espalike.training.processes import shared_mean, shared_ratio
from espalike.tuples import Kind
from espalike.units import BOLTZMANN, COULOMB

_TINY = 1e-12
"""A positive parameter below this counts as zero."""
_NEAREST, _FARTHEST = 0.02, 0.5
"""Range of displacements [Å] for Hessians: smaller ones are lost in single precision, larger ones not harmonic."""


def centred(energy: Tensor, mask: Tensor) -> Tensor:
    """Energies `(K, M)` relative to the mean over each molecule's conformers; zero where `mask` is false."""
    count = mask.sum(0).clamp_min(1)
    mean = torch.where(mask, energy, 0.0).sum(0) / count
    return torch.where(mask, energy - mean, 0.0)


def comparable(batch: LabelledBatch) -> Tensor:
    """Conformers whose energies can be compared, shape `(K, M)`, bool: labelled, two or more of one molecule."""
    known = batch.mask & batch.energy.isfinite()
    return known & (known.sum(0) > 1)


def weights_of(batch: LabelledBatch, half_at: float | None) -> Tensor | None:
    """Weights 1/(1 + ΔE/half_at) of conformers, shape `(K, M)`; None, for one each, where `half_at` is None.

    ΔE is the reference energy above the lowest of the entry [kcal/mol]. Where energies are unknown, the weight is 1.

    Raises:
        ValueError: when the batch does not say how far its energies are above the lowest.
    """
    if half_at is None:
        return None
    if batch.above is None:
        raise ValueError("objective.half_weight_at needs batches with `above`, such as those of data.batches.Batches")
    return 1.0 / (1.0 + torch.nan_to_num(batch.above) / half_at)


def energy_loss(
    energy: Tensor, batch: LabelledBatch, factors: Tensor, scale: float, weights: Tensor | None = None
) -> Tensor:
    """Mean squared error of energies relative to their molecule's mean, in units of `scale` [kcal/mol].

    With weights `(K, M)`, squares are weighted, and prediction and reference are aligned by their weighted means.
    `energy` is the prediction [kcal/mol], shape `(K, M)`.
    """
    known = comparable(batch)
    error = centred(energy, known) - torch.where(known, batch.energy, 0.0)
    if weights is not None:
        weights = torch.where(known, weights, 0.0)
        error = error - (weights * error).sum(0) / weights.sum(0).clamp_min(_TINY)
    squares = (error / scale) ** 2 * factors
    return shared_mean(squares if weights is None else weights * squares, known)


def force_loss(
    prediction: Prediction, batch: LabelledBatch, factors: Tensor, scale: float, weights: Tensor | None = None
) -> Tensor:
    """Mean squared error of force components, in units of `scale` [kcal/mol/Å], with `weights` `(K, M)` or without."""
    assert prediction.forces is not None
    known = batch.mask[:, batch.mol].unsqueeze(-1) & batch.forces.isfinite()
    error = torch.where(known, prediction.forces - batch.forces, 0.0)
    squares = error.square() if weights is None else error.square() * weights[:, batch.mol].unsqueeze(-1)
    of_atoms = squares.sum((0, 2)) / scale**2  # sum first: there are fewer factors than components
    return shared_ratio((of_atoms * factors[batch.mol]).sum(), known.sum())


def profile_loss(energy: Tensor, batch: LabelledBatch, factors: Tensor, temperature: float, scale: float) -> Tensor:
    """Mean over torsion drives of the Boltzmann-weighted mean squared error along the profile.

    Points are weighted by exp(−ΔE/kT), with ΔE the reference energy above the lowest one. Predicted and reference
    energies are aligned by their weighted means. So minima and the paths between them count more than maxima.
    `energy` is the prediction [kcal/mol], shape `(K, M)`; `temperature` in K, `scale` in kcal/mol.
    """
    known = comparable(batch) & batch.scan
    reference = torch.where(known, batch.energy, 0.0)
    weights = torch.softmax(torch.where(known, -reference / (BOLTZMANN * temperature), -torch.inf), dim=0)
    weights = torch.where(known, weights, 0.0)  # the softmax of a molecule without known energies is NaN
    error = torch.where(known, energy - reference, 0.0)
    error = error - (weights * error).sum(0)
    return shared_mean(factors * (weights * (error / scale) ** 2).sum(0), known.any(0))


def hessian_loss(prediction: Prediction, batch: LabelledBatch, factors: Tensor, scale: float) -> Tensor:
    """Mean squared error of the Hessian along displacements, in units of `scale` [kcal/mol/Å²].

    Geometries of an entry within 0.02 to 0.5 Å of their mean (norm over all atoms) count as displacements from it:
    (F − F̄)/|x − x̄| is −H d̂, the Hessian times the direction. The error is summed over atoms and averaged over
    displacements.
    """
    assert prediction.forces is not None
    unknown = batch.forces.isnan().any(-1).to(batch.xyz.dtype)
    known = batch.mask & (_per_molecule(unknown, batch) == 0.0)
    of_atom = known[:, batch.mol].unsqueeze(-1)

    def displaced(values: Tensor) -> Tensor:
        values = torch.where(of_atom, values, 0.0)
        return torch.where(of_atom, values - values.sum(0) / of_atom.sum(0).clamp_min(1), 0.0)

    squares = _per_molecule(displaced(batch.xyz - batch.xyz[:1]).square().sum(-1), batch)
    near = known & (squares > _NEAREST**2) & (squares < _FARTHEST**2)
    error = _per_molecule(displaced(prediction.forces - batch.forces).square().sum(-1), batch)
    return shared_mean(error / torch.where(near, squares, 1.0) / scale**2 * factors, near)


def _per_molecule(values: Tensor, batch: LabelledBatch) -> Tensor:
    """Sums over the atoms of each molecule, shape `(K, M)`."""
    return values.new_zeros(len(values), batch.n_mols).index_add(1, batch.mol, values)


def charges_of(system: MMSystem) -> Tensor | None:
    """Partial charges [e], shape `(N,)`; None when the force field has none."""
    for bound in system.terms:
        if bound.term.params[0].link == "charge":
            return bound.values[:, 0]
    return None


def charge_loss(charges: Tensor, batch: LabelledBatch, factors: Tensor, scale: float) -> Tensor:
    """Mean squared error of partial charges, shape `(N,)`, in units of `scale` [e]."""
    error = (charges.to(batch.ref_charge.dtype) - torch.nan_to_num(batch.ref_charge)) / scale
    return shared_mean(error**2 * factors[batch.mol], batch.ref_charge.isfinite())


def dipoles(charges: Tensor, batch: LabelledBatch) -> Tensor:
    """Dipole moments Σ qᵢ xᵢ about the origin of the coordinates [e Å], shape `(K, M, 3)`."""
    moments = charges.unsqueeze(-1) * batch.xyz.to(charges.dtype)
    return moments.new_zeros(len(batch.xyz), batch.n_mols, 3).index_add(1, batch.mol, moments)


def dipole_loss(charges: Tensor, batch: LabelledBatch, factors: Tensor, scale: float) -> Tensor:
    """Mean squared error of the components of dipole moments, in units of `scale` [e Å]."""
    predicted = dipoles(charges, batch)
    reference = torch.full_like(predicted, torch.nan) if batch.dipole is None else batch.dipole.to(predicted)
    known = reference.isfinite()
    error = (predicted - torch.where(known, reference, 0.0)) / scale
    return shared_mean(error**2 * factors.unsqueeze(-1), known)


def potentials(charges: Tensor, batch: LabelledBatch) -> Tensor:
    """Electrostatic potential of partial charges at the batch's points [kcal/mol/e], shape `(G,)`.

    V(p) = Σ qᵢ / (4 π ε₀ |p − xᵢ|), summed over the atoms of the point's molecule.
    """
    if batch.esp is None:
        return charges[:0]
    atoms = torch.bincount(batch.mol, minlength=batch.n_mols).cumsum(0).tolist()
    stops = torch.bincount(batch.esp.mol, minlength=batch.n_mols).cumsum(0).tolist()
    parts = []
    for mol, stop in enumerate(stops):
        start, first = (stops[mol - 1], atoms[mol - 1]) if mol else (0, 0)
        if stop > start:
            xyz = batch.xyz[:, first : atoms[mol]][batch.esp.conformer[start:stop]]
            distance = (batch.esp.points[start:stop].unsqueeze(1) - xyz).norm(dim=-1)
            parts.append((COULOMB / distance) @ charges[first : atoms[mol]].to(distance.dtype))
    return torch.cat(parts)


def esp_loss(charges: Tensor, batch: LabelledBatch, factors: Tensor, scale: float) -> Tensor:
    """Mean squared error of the electrostatic potential over points, in units of `scale` [kcal/mol/e]."""
    predicted = potentials(charges, batch)
    if batch.esp is None:
        return shared_mean(predicted, torch.zeros_like(predicted, dtype=torch.bool))
    error = (predicted - batch.esp.values) / scale
    return shared_mean(error**2 * factors[batch.esp.mol], torch.ones_like(error, dtype=torch.bool))


def lennard_jones(system: MMSystem) -> Bound | None:
    """The term with sigma and epsilon, and no other parameter, of pairs of molecules; None when there is none.

    Beside them it may have a learned 1-4 factor, and separate parameters for pairs of one molecule.
    """
    names = ["sigma", "epsilon"]
    return next(
        (
            bound
            for bound in system.terms
            if isinstance(bound.term, PairTerm) and [p.name for p in type(bound.term).params] == names
        ),
        None,
    )


def lj_loss(values: Tensor, batch: LabelledBatch, factors: Tensor, sigma_scale: float, depth_scale: float) -> Tensor:
    """Mean squared error of σ [Å] and √ε [(kcal/mol)^½] in units of their scales; `values` are σ and ε, `(N, 2)`."""
    known = batch.ref_lj.isfinite().all(-1)
    sigma, epsilon = torch.where(known.unsqueeze(-1), batch.ref_lj, 1.0).unbind(-1)
    size = (values[:, 0] - sigma) / sigma_scale * (epsilon > 0.0)  # without a well, σ means nothing
    depth = (values[:, 1].sqrt() - epsilon.sqrt()) / depth_scale
    return shared_mean((size**2 + depth**2) * factors[batch.mol], known)


def squares(system: MMSystem, zero: Tensor, chosen: Callable[[Param], bool], scale: Callable[[Param], float]) -> Tensor:
    """Squares of the chosen parameters in units of a scale, summed, averaged over tuples; impropers do not count."""
    total = zero
    for bound in system.terms:
        columns = [c for c, p in enumerate(bound.term.params) if chosen(p)]
        if columns and bound.term.kind is not Kind.IMPROPER:  # even without tuples: other processes may have some
            scales = zero.new_tensor([scale(bound.term.params[c]) for c in columns])
            values = ((bound.values[:, columns] / scales) ** 2).sum(-1)
            total = total + shared_mean(values, torch.ones_like(values, dtype=torch.bool))
    return total


def sizes(system: MMSystem, zero: Tensor, scale: float) -> Tensor:
    """Absolute values of parameters with a `smallest` in units of a scale, summed, averaged over tuples.

    Their slope is the same at every value, so that those that gain little end near zero (R. Tibshirani, J. R. Stat.
    Soc. B 58 (1996) 267).
    """
    total = zero
    for bound in system.terms:
        columns = [c for c, p in enumerate(bound.term.params) if p.smallest]
        if columns:  # even without tuples: other processes may have some
            values = bound.values[:, columns].abs().sum(-1) / scale
            total = total + shared_mean(values, torch.ones_like(values, dtype=torch.bool))
    return total


def pull_loss(system: MMSystem, start: MMSystem, charge_scale: float) -> Tensor:
    """Squared distance of parameters from those of another system with the same terms and tuples.

    Distances are in units of each parameter's spread (`Param.std`; relative for positive parameters, `charge_scale` [e]
    for charges), summed over a term's parameters, averaged over its tuples, and summed over terms.
    """
    losses = []
    for bound, first in zip(system.terms, start.terms, strict=True):
        columns = zip(bound.term.params, bound.values.unbind(-1), first.values.unbind(-1), strict=True)
        distance = (torch.stack([apart(*column, charge_scale) for column in columns], dim=-1) ** 2).sum(-1)
        losses.append(shared_mean(distance, torch.ones_like(distance, dtype=torch.bool)))
    return torch.stack(losses).sum()


def apart(param: Param, value: Tensor, before: Tensor, charge_scale: float) -> Tensor:
    """Distance of a parameter's values from earlier ones in units of its spread; see `pull_loss`."""
    if param.link == "positive":  # compare logarithms; zeros stay equal
        return (value.clamp_min(_TINY).log() - before.to(value).clamp_min(_TINY).log()) / param.std
    return (value - before.to(value)) / (charge_scale if param.link == "charge" else param.std)
