"""What each term of a force field contributes to the energies and forces that are scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from espalike.contributions import root_mean_squares, sums, term_forces
from espalike.energy import energy
from espalike.evaluation.predictors import ForceField, Predictor
from espalike.evaluation.table import Scores


@dataclass(frozen=True)
class Contribution:
    """Root mean square contribution of a term, over the conformers of a source.

    Attributes:
        method: the force field.
        source: whose entries.
        term: the term's name.
        energy_rms: of energies relative to their mean over an entry's conformers [kcal/mol].
        force_rms: of force components [kcal/mol/Å].
    """

    method: str
    source: str
    term: str
    energy_rms: float
    force_rms: float


def contributions(scores: Scores, predictors: Mapping[str, Predictor]) -> list[Contribution]:
    """Contributions of every term of every method that is a force field, by source, on the entries that it covers."""
    rows = []
    for method in scores.methods:
        predictor = predictors[method]
        if not isinstance(predictor, ForceField):
            continue
        total: dict[str, dict[str, torch.Tensor]] = {}
        for record in scores.covered(method):
            system = predictor.system(record)
            xyz = torch.from_numpy(np.array(record.conformers.xyz, np.float64))
            by_term = energy(system, xyz, forces=False).by_term
            squares = sums(by_term, torch.ones(len(xyz), 1, dtype=torch.bool), term_forces(system, xyz))
            of_source = total.setdefault(record.conformers.source, {})
            for bound, of_term in zip(system.terms, squares, strict=True):
                of_source[bound.term.name] = of_source.get(bound.term.name, 0.0) + of_term
        for source, terms in sorted(total.items()):
            figures = root_mean_squares(torch.stack(list(terms.values()))).tolist()
            rows += [Contribution(method, source, term, *rms) for term, rms in zip(terms, figures, strict=True)]
    return rows
