"""What training minimises: separately weighted losses, each divided by its unit's natural scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from espalike.terms.base import Param
from espalike.train.processes import shared_mean
from espalike.types import Batch, Kind, MMSystem, Prediction

LOSSES = ("energy", "forces", "charge", "lj", "torsion", "coupling")
"""Losses that an `Objective` weights."""


@dataclass(frozen=True)
class Scales:
    """Errors that count as one: what makes losses of different units comparable.

    Attributes:
        energy: [kcal/mol].
        forces: [kcal/mol/Å].
        charge: [e].
        sigma: [Å].
        sqrt_epsilon: square root of a well depth [(kcal/mol)^½], which is what mixes.
        torsion: torsion coefficient [kcal/mol].
    """

    energy: float = 1.0
    forces: float = 3.0
    charge: float = 0.02
    sigma: float = 0.03
    sqrt_epsilon: float = 0.02
    torsion: float = 1.0


def centred(energy: Tensor, mask: Tensor) -> Tensor:
    """Energies minus each molecule's mean over its real conformers, shape `(K, M)`; zero where masked."""
    count = mask.sum(0).clamp_min(1)
    mean = torch.where(mask, energy, 0.0).sum(0) / count
    return torch.where(mask, energy - mean, 0.0)


def _squares(
    system: MMSystem, zero: Tensor, chosen: Callable[[Param], bool], scale: Callable[[Param], float]
) -> Tensor:
    """Sum of squares, in units of a scale, of the chosen parameters, averaged over tuples; impropers do not count."""
    total = zero
    for bound in system.terms:
        columns = [c for c, p in enumerate(bound.term.params) if chosen(p)]
        if columns and bound.term.kind is not Kind.IMPROPER:  # also without such tuples: other processes have some
            scales = zero.new_tensor([scale(bound.term.params[c]) for c in columns])
            squares = ((bound.values[:, columns] / scales) ** 2).sum(-1)
            total = total + shared_mean(squares, torch.ones_like(squares, dtype=torch.bool))
    return total


@dataclass(frozen=True)
class Objective:
    """Weighted sum of mean squared errors: energies (centred per molecule), forces, charges, Lennard-Jones
    parameters, and L2 terms that keep torsion coefficients and couplings small.

    Attributes:
        energy, forces, charge, lj, torsion, coupling: weights.
        scales: errors that count as one.
        sources: factors on the energy and force losses of a source, e.g. `{"xtb": {"energy": 0.1}}`; 1 otherwise.
        schedules: factors on a weight over training, as points `(share of training done, factor)` that are joined by
            straight lines, e.g. `{"forces": [[0, 0.1], [0.5, 1]]}`; 1 otherwise.

    Raises:
        ValueError: when a schedule is of no loss, or its points are not in order within 0 to 1.
    """

    energy: float = 1.0
    forces: float = 1.0
    charge: float = 0.5
    lj: float = 0.1
    torsion: float = 1e-3
    coupling: float = 1e-3
    scales: Scales = field(default_factory=Scales)
    sources: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    schedules: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)

    def __post_init__(self):
        unknown = sorted(set(self.schedules) - set(LOSSES))
        if unknown:
            raise ValueError(f"objective.schedules names {', '.join(unknown)}; losses: {', '.join(LOSSES)}")
        for name, points in self.schedules.items():
            done = [point[0] for point in points if len(point) == 2]
            if not points or len(done) < len(points) or done != sorted(done) or done[0] < 0.0 or done[-1] > 1.0:
                raise ValueError(
                    f"objective.schedules.{name}: expected points [share of training, factor], shares ascending from "
                    f"0 to 1, e.g. [[0, 0.1], [0.5, 1]]; got {points}"
                )

    def weight(self, name: str, progress: float = 1.0) -> float:
        """Weight of a loss when a share of training, `progress`, is done."""
        points = self.schedules.get(name)
        factor = np.interp(progress, [p for p, _ in points], [f for _, f in points]) if points else 1.0
        return float(getattr(self, name) * factor)

    def source_factors(self, sources: Sequence[str]) -> Tensor:
        """Factors on energy and forces by source index, shape `(S, 2)`.

        Raises:
            ValueError: when a factor is given for a source that the data does not hold, or for another loss.
        """
        unknown = sorted(set(self.sources) - set(sources))
        if unknown:
            raise ValueError(f"objective.sources names {', '.join(unknown)}; the data holds {', '.join(sources)}")
        for source, factors in self.sources.items():
            if set(factors) - {"energy", "forces"}:
                raise ValueError(f"objective.sources.{source} takes energy and forces; got {', '.join(factors)}")
        rows = [[self.sources.get(s, {}).get(name, 1.0) for name in ("energy", "forces")] for s in sources]
        return torch.tensor(rows)

    def losses(self, system: MMSystem, prediction: Prediction, batch: Batch, factors: Tensor) -> dict[str, Tensor]:
        """Unweighted, dimensionless losses of a batch with labels; zero where it has no such reference.

        `factors` are those of `source_factors`.
        """
        assert batch.energy is not None
        assert batch.forces is not None
        assert batch.mask is not None
        assert batch.source is not None
        assert prediction.forces is not None
        assert batch.ref_charge is not None
        assert batch.ref_lj is not None
        weight = factors.to(prediction.energy)[batch.source]
        known = batch.mask & batch.energy.isfinite()
        error = (centred(prediction.energy, known) - torch.where(known, batch.energy, 0.0)) / self.scales.energy
        force_known = batch.mask[:, batch.mol].unsqueeze(-1) & batch.forces.isfinite()
        force_error = (prediction.forces - torch.where(force_known, batch.forces, 0.0)) / self.scales.forces
        zero = prediction.energy.new_zeros(())
        return {
            "energy": shared_mean(error**2 * weight[:, 0], known),
            "forces": shared_mean(force_error**2 * weight[batch.mol, 1].unsqueeze(-1), force_known),
            "charge": self._charge(system, batch.ref_charge, zero),
            "lj": self._lj(system, batch.ref_lj, zero),
            "torsion": _squares(system, zero, lambda p: p.link == "free", lambda p: self.scales.torsion),
            "coupling": _squares(system, zero, lambda p: p.link.startswith("range") and p.mean == 0.0, lambda p: p.std),
        }

    def _charge(self, system: MMSystem, reference: Tensor, zero: Tensor) -> Tensor:
        for bound in system.terms:
            if bound.term.params[0].link == "charge":
                error = (bound.values[:, 0].to(reference.dtype) - torch.nan_to_num(reference)) / self.scales.charge
                return shared_mean(error**2, reference.isfinite())
        return zero

    def _lj(self, system: MMSystem, reference: Tensor, zero: Tensor) -> Tensor:
        for bound in system.terms:
            if tuple(p.name for p in bound.term.params) == ("sigma", "epsilon"):
                known = reference.isfinite().all(-1)
                sigma, epsilon = torch.where(known.unsqueeze(-1), reference, 1.0).unbind(-1)
                size = (bound.values[:, 0] - sigma) / self.scales.sigma * (epsilon > 0.0)  # no well has no size
                depth = (bound.values[:, 1].sqrt() - epsilon.sqrt()) / self.scales.sqrt_epsilon
                return shared_mean(size**2 + depth**2, known)
        return zero

    def total(self, losses: Mapping[str, Tensor], progress: float = 1.0) -> Tensor:
        """The weighted sum when a share of training, `progress`, is done."""
        return torch.stack([self.weight(name, progress) * loss for name, loss in losses.items()]).sum()
