"""What formats of fixed functional forms share: any torsion as a Fourier series, and pairs that follow from bonds."""

from __future__ import annotations

import math

import numpy as np
from numpy.polynomial import chebyshev

from espalike.chem.molecule import Molecule
from espalike.export.single import ExportError, fourier, pair_scales
from espalike.system import Bound, MMSystem
from espalike.terms.coulomb import Coulomb
from espalike.terms.lennard_jones import LennardJones
from espalike.terms.torsion import PERIODS, PeriodicProperOdd, RyckaertBellemans
from espalike.topology import enumerate_tuples

Series = list[tuple[int, float, float]]
"""(periodicity n, phase δ [rad], k [kcal/mol]) of each k (1 + cos(nφ − δ)) of one dihedral."""


def series(bound: Bound) -> list[Series] | None:
    """`fourier`, and the torsions that are a Fourier series after some algebra, constants included."""
    kind = type(bound.term)
    if kind is PeriodicProperOdd:
        return [_odd(row[: len(PERIODS)], row[len(PERIODS) :]) for row in bound.values.tolist()]
    if kind is RyckaertBellemans:
        return [_powers(row) for row in bound.values.tolist()]
    return fourier(bound)


def _odd(cosines: list[float], sines: list[float]) -> Series:
    """s sin nφ is s/2 (1 + cos(nφ − 90°)) − s/2 (1 + cos(nφ + 90°))."""
    found = [(n, 0.0, k) for n, k in zip(PERIODS, cosines, strict=True) if k]
    for n, s in zip(PERIODS, sines, strict=True):
        found += [(n, math.pi / 2, s / 2), (n, -math.pi / 2, -s / 2)] if s else []
    return found


def _powers(coefficients: list[float]) -> Series:
    """Powers of cos(φ − π) = −cos φ as cosines of multiples of φ; a constant c is c/2 (1 + cos φ) + c/2 (1 − cos φ)."""
    zero, *cosines = chebyshev.poly2cheb([c * (-1) ** n for n, c in enumerate(coefficients)]).tolist()
    rest = (zero - sum(cosines)) / 2
    return [(n, 0.0, k) for n, k in enumerate(cosines, 1) if k] + [(1, 0.0, rest), (1, math.pi, rest)]


def coefficients(found: Series, periods: int) -> tuple[float, np.ndarray, np.ndarray]:
    """A series as constant, cosine and sine coefficients of periodicities 1 to `periods`, each `(periods,)`."""
    constant, cosine, sine = 0.0, np.zeros(periods + 1), np.zeros(periods + 1)
    for n, phase, k in found:
        constant += k
        cosine[n] += k * math.cos(phase)
        sine[n] += k * math.sin(phase)
    return constant + float(cosine[0]), cosine[1:], sine[1:]


def charges_and_wells(one: MMSystem) -> tuple[np.ndarray, np.ndarray]:
    """Charges [e] `(A,)`, and sigma [Å] and epsilon [kcal/mol] `(A, 2)`, without effect where there is no such term."""
    found = {type(bound.term): bound.values for bound in one.terms}
    charges, wells = np.zeros(len(one.numbers)), np.tile([1.0, 0.0], (len(one.numbers), 1))
    if Coulomb in found:
        charges = found[Coulomb][:, 0].numpy()
    if LennardJones in found:
        wells = found[LennardJones][:, :2].numpy()
    return charges, wells


def scales14(one: MMSystem) -> tuple[float, float]:
    """Factors on 1-4 pairs of Lennard-Jones and of Coulomb; the usual ones where there is no such term."""
    found = {type(bound.term): float(bound.scale14) for bound in one.terms}
    return found.get(LennardJones, LennardJones.usual14), found.get(Coulomb, Coulomb.usual14)


def follow_from_bonds(molecule: Molecule, bound: Bound, format: str) -> None:
    """Checks that pairs and 1-4 pairs of a pair term are those an engine derives from the bonds.

    Raises:
        ExportError: if not, naming the term and the format.
    """
    graph = enumerate_tuples(molecule.numbers, molecule.bonds, molecule.orders)
    expected = np.zeros((molecule.n_atoms, molecule.n_atoms))
    expected[graph.pairs[:, 0], graph.pairs[:, 1]] = np.where(graph.is14, float(bound.scale14), 1.0)
    if not np.array_equal(expected, pair_scales(bound, molecule.n_atoms)):
        raise ExportError(
            f"{molecule.name}: pairs of {bound.term.name} do not follow from the bonds; format '{format}' cannot "
            "express that; format 'system' can"
        )
