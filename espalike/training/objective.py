"""The objective of training: a weighted sum of losses, each divided by the scale of its unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from torch import Tensor

from espalike.batch import LabelledBatch
from espalike.bounds import check_number
from espalike.data.schema import KINDS
from espalike.system import MMSystem, Prediction
from espalike.training import interactions
from espalike.training import losses as parts
from espalike.training.fold import only

BY_SOURCE = ("energy", "forces", "hessian", "profile", "dipole", "esp", "interaction", "sapt", "charge", "lj")
"""Losses that may have a factor for each data source and each kind of geometries."""
LOSSES = (*BY_SOURCE, "torsion", "sparse", "coupling", "pull")
"""Losses that an `Objective` has a weight for."""


@dataclass(frozen=True)
class Scales:
    """Errors that count as one, to compare losses of different units.

    Attributes:
        energy: [kcal/mol].
        forces: [kcal/mol/Å].
        charge: [e].
        sigma: [Å].
        sqrt_epsilon: square root of a well depth [(kcal/mol)^½], the quantity that combining rules use.
        torsion: torsion coefficient [kcal/mol].
        dipole: component of a dipole moment [e Å].
        esp: electrostatic potential [kcal/mol/e].
        hessian: Hessian times a unit vector [kcal/mol/Å²].
        interaction: interaction energy of a complex, and its components [kcal/mol].
        interaction_relative: share of an interaction energy that is added to its scale, see `training.interactions`.

    Raises:
        ValueError: when a scale is not a positive number.
    """

    energy: float = 1.0
    forces: float = 3.0
    charge: float = 0.02
    sigma: float = 0.03
    sqrt_epsilon: float = 0.02
    torsion: float = 1.0
    dipole: float = 0.05
    esp: float = 1.0
    hessian: float = 30.0
    interaction: float = 0.3
    interaction_relative: float = 0.05

    def __post_init__(self):
        for name, scale in vars(self).items():
            check_number(f"objective.scales.{name}", scale, 0)
            if not scale and name != "interaction_relative":
                raise ValueError(f"objective.scales.{name}=0: losses are divided by it; expected a number above 0")


@dataclass(frozen=True)
class Objective:
    """Weighted sum of mean squared errors and of regularizing losses.

    A loss of weight zero is not computed.

    Attributes:
        energy: weight of energies, relative to each molecule's mean.
        forces: weight of forces.
        hessian: weight of the Hessian along small displacements; see `losses.hessian_loss`.
        profile: weight of torsion drives, their points Boltzmann-weighted; they count in `energy` as well.
        dipole: weight of the dipole moments of the partial charges.
        esp: weight of the electrostatic potential of the partial charges.
        interaction: weight of interaction energies of complexes.
        sapt: weight of their components: electrostatics against the Coulomb term, the others against van der Waals.
        charge: weight of reference charges.
        lj: weight of reference Lennard-Jones parameters.
        torsion: weight of the squares of torsion coefficients.
        sparse: weight of the absolute values of coefficients that are left out where small (`Param.smallest`).
        coupling: weight of the squares of couplings, in units of their spread.
        pull: weight of the squared distance from the parameters of the model that training starts from, in units of
            their spread.
        temperature: temperature of the Boltzmann weights of torsion drives [K].
        half_weight_at: energy above the lowest of its entry [kcal/mol] at which a geometry has half its weight in the
            energy and force losses, 1/(1 + ΔE/half_weight_at); None: all geometries have the same weight.
        scales: errors that count as one.
        sources: factors on the losses of a data source, e.g. `{"xtb": {"energy": 0.1}}`; 1 otherwise. See `BY_SOURCE`.
        kinds: factors on the losses of a kind of geometries (`relaxed`, `scan`, `thermal`, `distorted`), which multiply
            those of the source, e.g. `{"thermal": {"energy": 0.1}}`; 1 otherwise.
        schedules: factors on a weight over training, as points `(share of training done, factor)` joined by straight
            lines, e.g. `{"forces": [[0, 0.1], [0.5, 1]]}`; 1 otherwise.

    Raises:
        ValueError: when a weight is negative, all weights are zero, a schedule names an unknown loss, or the points of
            a schedule are not in order within 0 to 1.
    """

    energy: float = 1.0
    forces: float = 1.0
    hessian: float = 0.0
    profile: float = 0.0
    dipole: float = 0.0
    esp: float = 0.0
    interaction: float = 0.0
    sapt: float = 0.0
    charge: float = 0.5
    lj: float = 0.1
    torsion: float = 1e-3
    sparse: float = 0.0
    coupling: float = 1e-3
    pull: float = 0.0
    temperature: float = 1000.0
    half_weight_at: float | None = None
    scales: Scales = field(default_factory=Scales)
    sources: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    kinds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    schedules: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)

    def __post_init__(self):
        for name in (*LOSSES, "temperature"):
            check_number(f"objective.{name}", getattr(self, name), 0)
        if not any(getattr(self, name) for name in LOSSES):
            raise ValueError(f"objective: all weights are zero; one of {', '.join(LOSSES)} must be positive")
        check_number("objective.half_weight_at", self.half_weight_at, 0)
        if self.half_weight_at == 0:
            raise ValueError(
                "objective.half_weight_at=0: energies are divided by it; expected a number above 0, or null"
            )
        _check_factors("kinds", self.kinds, KINDS)
        unknown = sorted(set(self.schedules) - set(LOSSES))
        if unknown:
            raise ValueError(f"objective.schedules: unknown {', '.join(unknown)}; losses are {', '.join(LOSSES)}")
        for name, points in self.schedules.items():
            done = [point[0] for point in points if len(point) == 2]
            if not points or len(done) < len(points) or done != sorted(done) or done[0] < 0.0 or done[-1] > 1.0:
                raise ValueError(
                    f"objective.schedules.{name}: expected points [share of training, factor], shares ascending from "
                    f"0 to 1, e.g. [[0, 0.1], [0.5, 1]]; got {points}"
                )

    def weight(self, name: str, progress: float = 1.0) -> float:
        """Weight of a loss when the share `progress` of training is done."""
        points = self.schedules.get(name)
        factor = np.interp(progress, [p for p, _ in points], [f for _, f in points]) if points else 1.0
        return float(getattr(self, name) * factor)

    def source_factors(self, sources: Sequence[str]) -> Tensor:
        """Factors on the losses of `BY_SOURCE` by index of the source, shape `(S, L)`.

        Raises:
            ValueError: when a factor is given for a source that the data does not have, or for another loss.
        """
        _check_factors("sources", self.sources, sources)
        return torch.tensor([[self.sources.get(s, {}).get(name, 1.0) for name in BY_SOURCE] for s in sources])

    def _factors(self, factors: Tensor, batch: LabelledBatch) -> Tensor:
        """Factors on the losses of `BY_SOURCE` of each molecule, shape `(M, L)`."""
        of_source = factors[batch.source]
        if not self.kinds:
            return of_source
        rows = [[self.kinds.get(kind, {}).get(name, 1.0) for name in BY_SOURCE] for kind in (*KINDS, "")]
        return of_source * of_source.new_tensor(rows)[batch.kind]  # the last row is that of an unknown kind, −1

    def losses(
        self,
        system: MMSystem,
        prediction: Prediction,
        batch: LabelledBatch,
        factors: Tensor,
        start: MMSystem | None = None,
    ) -> dict[str, Tensor]:
        """Unweighted, dimensionless losses of a labelled batch, without those of weight zero.

        A loss is zero when the batch lacks such references. A loss on parameters that the force field does not have is
        left out.

        Args:
            system: the parameters.
            prediction: energies and forces.
            batch: the labels.
            factors: the result of `source_factors`.
            start: the same molecules with the parameters of the model that training starts from, without the terms that
                are not pulled; needed for `pull`.
        """
        factors = self._factors(factors.to(prediction.energy), batch)
        factor = dict(zip(BY_SOURCE, factors.unbind(-1), strict=True))
        zero, scales, charges = prediction.energy.new_zeros(()), self.scales, parts.charges_of(system)
        weights = parts.weights_of(batch, self.half_weight_at)
        losses: dict[str, Callable[[], Tensor]] = {
            "energy": lambda: parts.energy_loss(prediction.energy, batch, factor["energy"], scales.energy, weights),
            "forces": lambda: parts.force_loss(prediction, batch, factor["forces"], scales.forces, weights),
            "hessian": lambda: parts.hessian_loss(prediction, batch, factor["hessian"], scales.hessian),
            "profile": lambda: parts.profile_loss(
                prediction.energy, batch, factor["profile"], self.temperature, scales.energy
            ),
            "torsion": lambda: parts.squares(system, zero, lambda p: p.link == "free", lambda p: scales.torsion),
            "sparse": lambda: parts.sizes(system, zero, scales.torsion),
            "coupling": lambda: parts.squares(
                system, zero, lambda p: p.link.startswith("range") and p.mean == 0.0, lambda p: p.std
            ),
        }
        if charges is not None:
            losses |= {
                "charge": lambda: parts.charge_loss(charges, batch, factor["charge"], scales.charge),
                "dipole": lambda: parts.dipole_loss(charges, batch, factor["dipole"], scales.dipole),
                "esp": lambda: parts.esp_loss(charges, batch, factor["esp"], scales.esp),
            }
        if (bound := parts.lennard_jones(system)) is not None:
            losses["lj"] = lambda: parts.lj_loss(bound.values, batch, factor["lj"], scales.sigma, scales.sqrt_epsilon)
        between = cache(lambda: interactions.interaction_energies(system, batch))
        scale = (scales.interaction, scales.interaction_relative)
        losses |= {
            "interaction": lambda: interactions.interaction_loss(*between(), batch, factor["interaction"], *scale),
            "sapt": lambda: interactions.sapt_loss(*between(), batch, factor["sapt"], *scale),
        }
        if start is not None:
            pulled = only(system, [bound.term.name for bound in start.terms])
            losses["pull"] = lambda: parts.pull_loss(pulled, start, scales.charge)
        return {name: loss() for name, loss in losses.items() if getattr(self, name)}

    def total(self, losses: Mapping[str, Tensor], progress: float = 1.0) -> Tensor:
        """The weighted sum of losses when the share `progress` of training is done."""
        return torch.stack([self.weight(name, progress) * loss for name, loss in losses.items()]).sum()


def _check_factors(setting: str, given: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> None:
    """Refuse factors for a name that is not in `names`, or on a loss that is not in `BY_SOURCE`."""
    if unknown := sorted(set(given) - set(names)):
        raise ValueError(f"objective.{setting}: unknown {', '.join(unknown)}; the data has {', '.join(names)}")
    for name, factors in given.items():
        if set(factors) - set(BY_SOURCE):
            raise ValueError(f"objective.{setting}.{name} takes {', '.join(BY_SOURCE)}; got {', '.join(factors)}")
