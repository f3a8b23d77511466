"""Results of a fit: errors before and after at labelled geometries, torsion profiles, and changed parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from espalike.data.schema import Record
from espalike.evaluation.predictors import ForceField
from espalike.model import ForceFieldModel
from espalike.qm.sampling.torsions import measured
from espalike.system import Bound, MMSystem
from espalike.training.losses import apart

_RELATIVE, _ABSOLUTE = 1.05, 0.05
"""An error counts as worse above 1.05 × the error before + 0.05 kcal/mol (kcal/mol/Å)."""
_CHARGE_SCALE = 0.02


@dataclass(frozen=True, eq=False)
class Profile:
    """A torsion scan: energies [kcal/mol] relative to their mean, at ascending angles.

    Attributes:
        molecule: name.
        torsion: its four atoms, counted from 0.
        geometries: `start` or `fitted`: the model on which they are relaxed.
        angles: [degree], shape `(K,)`.
        teacher, before, after: energies of the teacher, the start model and the fitted model, shape `(K,)`.
    """

    molecule: str
    torsion: tuple[int, ...]
    geometries: str
    angles: np.ndarray
    teacher: np.ndarray
    before: np.ndarray
    after: np.ndarray

    @property
    def errors(self) -> tuple[float, float]:
        """Root mean square errors before and after [kcal/mol]."""
        return _rms(self.before - self.teacher), _rms(self.after - self.teacher)


@dataclass(frozen=True)
class Score:
    """Root mean square errors of a molecule on geometries of one kind, before and after.

    Attributes:
        molecule: name.
        kind: `scan`, `relaxed` or `thermal`; `own scan`: scans that each model relaxed by itself.
        geometries: their number.
        energy: of energies relative to the mean of their entry [kcal/mol].
        forces: of force components [kcal/mol/Å].
    """

    molecule: str
    kind: str
    geometries: int
    energy: tuple[float, float]
    forces: tuple[float, float]

    @property
    def worse(self) -> list[str]:
        """What is worse after the fit, with the figures."""
        rows = (("energies", self.energy, "kcal/mol"), ("forces", self.forces, "kcal/mol/Å"))
        return [
            f"{self.molecule}: {what} of {self.kind} geometries, {before:.2f} → {after:.2f} {unit}"
            for what, (before, after), unit in rows
            if _is_worse(before, after)
        ]


@dataclass(frozen=True)
class Moved:
    """A parameter that the fit changed, once for tuples that are alike by symmetry.

    Attributes:
        term: functional form.
        parameter: its name.
        unit: of the values.
        atoms: of the first such tuple, counted from 0.
        tuples: number of tuples with these values.
        before, after: the values.
        spreads: size of the change in units of the parameter's spread, as the pull of the fit measures it.
    """

    term: str
    parameter: str
    unit: str
    atoms: tuple[int, ...]
    tuples: int
    before: float
    after: float
    spreads: float


def compared(
    records: Iterable[Record], start: ForceFieldModel, fitted: ForceFieldModel, geometries: str
) -> tuple[list[Score], list[Profile]]:
    """Errors by molecule and kind of geometry, and the torsion profiles, of two models against labels."""
    predictors = [ForceField(model.parametrize) for model in (start, fitted)]
    groups: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = {}
    profiles = []
    for record in records:
        conformers = record.conformers
        assert conformers.forces is not None
        predictions = [predict(record) for predict in predictors]
        energies = np.array([conformers.energy, *(energy for energy, _ in predictions)])
        energies -= energies.mean(axis=1, keepdims=True)
        forces = np.array([forces - conformers.forces for _, forces in predictions])
        groups.setdefault((record.molecule.name, record.kind), []).append((energies[1:] - energies[0], forces))
        if record.dihedral is not None:
            torsion = tuple(map(int, record.dihedral))
            angles = np.array([measured(xyz, torsion) for xyz in conformers.xyz])
            order = np.argsort(angles)
            profiles.append(Profile(record.molecule.name, torsion, geometries, angles[order], *energies[:, order]))
    return [_score(*key, group) for key, group in groups.items()], profiles


def own_scans(start: Sequence[Score], fitted: Sequence[Score]) -> list[Score]:
    """Errors of each model on the scans that it relaxed by itself.

    Args:
        start: errors on geometries of the start model.
        fitted: errors on geometries of the fitted model.
    """
    after = {(score.molecule, score.kind): score for score in fitted}
    return [
        Score(
            score.molecule,
            "own scan",
            other.geometries,
            (score.energy[0], other.energy[1]),
            (score.forces[0], other.forces[1]),
        )
        for score in start
        if (other := after.get((score.molecule, score.kind))) is not None
    ]


def worse_torsions(profiles: Sequence[Profile]) -> list[tuple[str, str]]:
    """Torsions whose own scan is farther from the teacher after the fit: molecule, and what to say of it.

    A fit is kept by the errors of all scans of a molecule together, which can hide one of them.
    """
    scans = {(each.molecule, each.torsion, each.geometries): each.errors for each in profiles}
    found = []
    for (molecule, torsion, geometries), (before, _) in scans.items():
        after = scans.get((molecule, torsion, "fitted"), (0.0, 0.0))[1]
        if geometries == "start" and _is_worse(before, after):
            atoms = "-".join(str(atom + 1) for atom in torsion)
            figures = f"{before:.2f} → {after:.2f} kcal/mol"
            found.append((molecule, f"the scan of torsion {atoms} is worse after the fit, {figures}"))
    return found


def _is_worse(before: float, after: float) -> bool:
    return after > _RELATIVE * before + _ABSOLUTE


def _score(molecule: str, kind: str, group: Sequence[tuple[np.ndarray, np.ndarray]]) -> Score:
    """Errors of several entries together; energies and forces have the models in the first axis."""
    before, after = (
        tuple(_rms(np.concatenate([part[which][model].ravel() for part in group])) for which in (0, 1))
        for model in (0, 1)
    )
    count = sum(energies.shape[1] for energies, _ in group)
    return Score(molecule, kind, count, (before[0], after[0]), (before[1], after[1]))


def _rms(errors: np.ndarray) -> float:
    return float(np.sqrt(np.mean(errors**2)))


def moved(before: MMSystem, after: MMSystem, most: int = 12) -> list[Moved]:
    """The parameters of a molecule that changed most."""
    rows: dict[tuple[str, str, float, float], Moved] = {}
    for old, new in zip(before.terms, after.terms, strict=True):
        for column, param in enumerate(new.term.params):
            if param.borrows is not None:  # it is listed where it comes from
                continue
            pair = (old.values[:, column], new.values[:, column])
            spreads = apart(param, pair[1], pair[0], _CHARGE_SCALE).abs()
            for row in torch.nonzero(spreads > 1e-6)[:, 0].tolist():
                first, last = (float(values[row]) for values in pair)
                key = (new.term.name, param.name, round(first, 6), round(last, 6))
                known = rows.get(key)
                atoms = known.atoms if known else _atoms(new, row)
                count = known.tuples + 1 if known else 1
                rows[key] = Moved(*key[:2], param.unit, atoms, count, first, last, float(spreads[row]))
    return sorted(rows.values(), key=lambda row: -row.spreads)[:most]


def _atoms(bound: Bound, row: int) -> tuple[int, ...]:
    of_tuples = bound.term.kind is bound.term.param_kind  # else of atoms, as of pair terms
    return tuple(bound.tuples.idx[row].tolist()) if of_tuples else (row,)
