"""Audits of labels of which a part is wrong: gradients among forces, two levels of theory among energies.

Medians and sums over all data do not show a tenth. What is counted here does not occur in right data: in none of 20,000
thermal and distorted geometries do the forces push stretched bonds to hydrogen further apart, and in 1 of 900 pairs of
near geometries the energies change against the forces.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

STRAINED = 12.0
"""Root mean square of k(r − r̄) [kcal/mol/Å] over the bonds to hydrogen of a geometry that tells its sign."""
_BONDS, _LIKE = 5, 0.8
"""Smallest number of bonds of such a geometry, and smallest magnitude of its correlation."""
_FEW, _SHARE = 2, 0.01
"""Smallest number, and smallest share, of geometries of the opposite sign that are a fault."""
_FEW_PAIRS, _PAIRS, _OPPOSITE, _JUMPS = 20, 5, 0.03, 0.25
"""Pairs that are needed, number and share of pairs of the opposite sign that are a fault, and share of jumps."""
_JUMP = 3.0
"""Difference of a change of energy from that by the forces [kcal/mol], beside half of the latter, that is a jump."""
_GEOMETRIES, _ENTRIES = 6, 3
"""Smallest number of geometries of an entry, and of entries, for a verdict on two groups of energies."""
_APART, _PER_ATOM = 5.0, 0.6
"""Median distance of the two groups, relative to the deviation within a group, and per atom [kcal/mol]: both are 4 and
0.4 at most in DFT data."""


def count_signs(signs: list[int], x: np.ndarray, f: np.ndarray) -> None:
    """Count the geometries of an entry whose bonds to hydrogen pull back, and those whose bonds push apart.

    Args:
        signs: both numbers.
        x: −k(r − r̄) of each geometry and bond [kcal/mol/Å], shape `(K, B)`.
        f: forces along the bonds, about their means [kcal/mol/Å], shape `(K, B)`.
    """
    xx, ff, xf = (x * x).sum(axis=1), (f * f).sum(axis=1), (x * f).sum(axis=1)
    told = (xx >= STRAINED**2 * x.shape[1]) & (ff > 0) & (x.shape[1] >= _BONDS)
    like = xf[told] / np.sqrt(xx[told] * ff[told])
    signs[0] += int((like >= _LIKE).sum())
    signs[1] += int((like <= -_LIKE).sum())


def count_pairs(counts: list[int], expected: np.ndarray, change: np.ndarray, clear: np.ndarray) -> None:
    """Count the pairs of near geometries whose energies change against their forces, and those whose energies jump.

    Args:
        counts: both numbers.
        expected: changes of energy by the forces [kcal/mol], shape `(P,)`.
        change: changes of energy [kcal/mol], shape `(P,)`.
        clear: which of them are larger than noise, shape `(P,)`.
    """
    against = -3.0 * expected * change > np.maximum(expected**2, change**2)
    counts[0] += int((against & clear).sum())
    counts[1] += int(((np.abs(change - expected) > _JUMP + 0.5 * np.abs(expected)) & clear).sum())


def count_zeros(zeros: list[int], forces: np.ndarray, kind: str) -> None:
    """Count the geometries of several atoms that are known to be no minima, and those whose forces are all zero.

    Args:
        zeros: both numbers.
        forces: forces of an entry, shape `(K, A, 3)`.
        kind: kind of its geometries; data sets of minima may have zeros.
    """
    if forces.shape[1] > 1 and kind in ("scan", "thermal", "distorted"):
        zeros[0] += len(forces)
        zeros[1] += int((forces == 0.0).all(axis=(1, 2)).sum())


def add_groups(found: list[list[float]], energy: np.ndarray, expected: np.ndarray, n_atoms: int) -> None:
    """Add how far the energies of an entry, less those by MMFF94, fall into two groups.

    Args:
        found: distances of the two groups so far, relative to the deviation within a group, and per atom [kcal/mol].
        energy: energies [kcal/mol], `(K,)`.
        expected: those by MMFF94 [kcal/mol], `(K,)`.
        n_atoms: number of atoms of the molecule.
    """
    rest = np.sort(energy - expected)
    if len(rest) < _GEOMETRIES:
        return
    parts = [(rest[:k], rest[k:]) for k in range(2, len(rest) - 1)]
    within, distance = min((a.var() * len(a) + b.var() * len(b), b.mean() - a.mean()) for a, b in parts)
    found.append([float(distance / np.sqrt(max(within / (len(rest) - 2), 1e-12))), float(distance / n_atoms)])


def of_signs(signs: Sequence[int]) -> str:
    """What is wrong with the signs of a part of the forces; empty if nothing is, or with most of them."""
    right, wrong = signs
    if wrong < max(_FEW, _SHARE * (right + wrong)) or wrong > right:
        return ""
    return (
        f"in {wrong} of {right + wrong} strained geometries the forces push stretched bonds to hydrogen further apart: "
        "a part of them are gradients, −forces; check their sign entry by entry"
    )


def of_zeros(zeros: Sequence[int]) -> str:
    """What is wrong where the forces of most scans and displaced geometries are zero; empty if they are not."""
    number, zero = zeros
    if zero < max(_FEW, 0.5 * number):
        return ""
    return f"{zero} of {number} scans and displaced geometries have forces of zero; read the data without forces"


def of_pairs(counts: Sequence[int], clear: int) -> str:
    """What is wrong with the changes of energy of pairs of near geometries; empty if nothing is."""
    against, jumps = counts
    if clear < _FEW_PAIRS:
        return ""
    if jumps >= max(_PAIRS, _JUMPS * clear):
        return (
            f"energies of {jumps} of {clear} pairs of near geometries differ from what their forces say by more than "
            f"{_JUMP:g} kcal/mol; compare the levels of theory within an entry, and the order of its geometries"
        )
    if against >= max(_PAIRS, _OPPOSITE * clear):
        return (
            f"energies of {against} of {clear} pairs of near geometries change against their forces: a part of these "
            "are gradients, −forces; check their sign entry by entry"
        )
    return ""


def of_groups(found: Sequence[Sequence[float]], clear: int) -> str:
    """What is wrong where the energies of most entries fall into two groups; empty if they do not.

    Nor is there a verdict where `count_pairs` has one: geometries of an optimisation, the first ones strained and the
    others relaxed, can be two groups.
    """
    if len(found) < _ENTRIES or clear >= _FEW_PAIRS:
        return ""
    apart, per_atom = np.median(np.array(found), axis=0)
    if apart < _APART or per_atom < _PER_ATOM:
        return ""
    return (
        f"energies of an entry, less those by MMFF94, are in two groups {per_atom:.2g} kcal/mol per atom apart (median "
        f"of {len(found)} entries): they are of two levels of theory; give each level its own entries"
    )
