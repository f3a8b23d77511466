"""Which terms a format cannot express, from the terms alone."""

from __future__ import annotations

from collections.abc import Sequence

from espalike.export.gromacs import _FORMS
from espalike.export.lammps_styles import _KNOWN
from espalike.terms.angle import HarmonicAngle, UreyBradley
from espalike.terms.base import PairTerm, Term
from espalike.terms.bond import HarmonicBond
from espalike.terms.coulomb import Coulomb
from espalike.terms.lennard_jones import LennardJones
from espalike.terms.torsion import (
    PeriodicImproper,
    PeriodicProper,
    PeriodicProperOdd,
    PeriodicProperPhase,
    RyckaertBellemans,
)

_FOURIER: set[type] = {PeriodicProper, PeriodicProperPhase, PeriodicImproper, PeriodicProperOdd, RyckaertBellemans}
_PAIRS: set[type] = {LennardJones, Coulomb}
_EXPRESSED: dict[str, set[type]] = {
    "gromacs": {*_FORMS, *_FOURIER, *_PAIRS},
    "amber": {HarmonicBond, HarmonicAngle, UreyBradley, *_FOURIER, *_PAIRS},
    "lammps": {*_KNOWN, *_FOURIER, *_PAIRS},
    "offxml": {HarmonicBond, HarmonicAngle, *_FOURIER, *_PAIRS},
}


def unsupported(format: str, terms: Sequence[Term]) -> list[str]:
    """Names of the terms that a format cannot express."""
    pairs = [term for term in terms if isinstance(term, PairTerm)]
    names = [term.name for term in pairs if not hasattr(term, "combining")]
    if format in _EXPRESSED:
        names += [term.name for term in terms if type(term) not in _EXPRESSED[format]]
    if format == "offxml":
        names += [repr(t) for t in terms if type(t) is LennardJones and t.mixing != "lorentz-berthelot"]
    walls = [term.name for term in pairs if type(term) is not Coulomb]
    if format != "system" and len(walls) > 1:
        names += walls
    return list(dict.fromkeys(names))
