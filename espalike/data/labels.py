"""Audits of forces and energies of few or of independent geometries.

*Near.* Where there are too few pairs for the audit of forces, geometries are laid on each other, and pairs that are
rather close are judged by the median: the change of energy is near −½(F₁ + F₂)·Δx, and of the same sign.

*Bonds.* A stretched bond pulls its atoms together. A hydrogen atom has one bond, so the force on it along the bond is
that of the bond alone: −k(r − r̄) about the bond's mean over the entry. A line through the origin that is fitted to the
forces against −k(r − r̄), with usual force constants k, has a slope near 1 (0.9 to 1.2 in DFT data of displaced
geometries); gradients have a negative one, and forces in another unit one that differs by the unit's factor.

*Spread.* Energies of an entry's geometries spread as those of MMFF94 do: the ratio of their standard deviations is
0.7 to 1.1 in the median over the entries of DFT data, of relaxed conformers and of thermal frames. Energies in another
unit have another ratio, and energies of the opposite sign go down where those of MMFF94 go up.

All keep a few numbers per source and level. Relaxed geometries do not tell forces from gradients, and MMFF94 lacks
parameters for some molecules; then there is no verdict. Where bonds are stretched and energies spread as in thermal
frames, r² is 0.95 and the correlation 0.6 to 0.99; labels without a relation there are those of other geometries,
atoms or axes, of several levels of theory, or partly gradients, and fail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from espalike import units
from espalike.chem.molecule import Molecule, to_rdkit
from espalike.data import mixtures
from espalike.data.schema import Record

CONSTANTS = {6: 680.0, 7: 920.0, 8: 1080.0, 14: 400.0, 15: 450.0, 16: 560.0}
"""Usual force constants of bonds to hydrogen, by the other atom's element, E = ½k(r − r₀)² [kcal/mol/Å²]."""
LEAST_BONDS, FEW_BONDS, LEAST_ENTRIES = 10, 30, 3
"""Smallest number of bond lengths for a verdict, the number below which they are few, and the smallest of entries."""
_TOGETHER = 3
"""Entries of two or three geometries whose deviations from their means are judged as those of one entry."""
_RATHER_CLOSE, _LEAST_CHANGE = 0.4, 0.5
"""Largest displacement of an atom [Å] between two geometries of `add_near`; smallest change of energy [kcal/mol]."""
MOST_NEAR, _FEW_FOR_SIGN, _FEW_FOR_UNIT = 20, 2, 5
"""Pairs that are kept, and the smallest numbers for a verdict on the sign of forces, and on their unit."""
_ALIKE, _OTHER_UNIT = 0.5, 3.0
"""Smallest magnitude of the median likeness for a verdict, and the smallest factor that tells another unit."""
_STIFF = 5.0
"""Smallest root mean square of k(r − r̄) [kcal/mol/Å]; below it, geometries are as good as relaxed."""
_STRAINED = 12.0
"""Root mean square of k(r − r̄) [kcal/mol/Å] from which on forces must fit the bonds: it is 20 to 32 in thermal and
distorted frames, and 1 to 7 in relaxed ones."""
_SIGN, _UNIT, _SURE = 0.5, 0.7, 0.8
"""Smallest r² of forces for a verdict on their sign, and on their unit; and on both, of few bonds."""
_SLOPES, _WIDE_SLOPES = (0.68, 1.6), (0.5, 2.2)
"""Accepted slopes of the forces, and those that are accepted where there are few bonds."""
_SPREADS, _FEW_SPREADS = 2.5, 6.0
"""Largest accepted ratio of spreads, either way: for five entries or more, and for fewer."""
_RELATED, _OPPOSITE = 0.3, -0.5
"""Smallest median correlation of energies with those of MMFF94 for a verdict; from there down, their sign is wrong."""
_WIDE, _MANY = 2.0, 8
"""Standard deviation by MMFF94 [kcal/mol] of the entries whose energies must be related to it, and their smallest
number."""
_UNLIKE, _PAIRS_FOR_RELATION, _COMPARABLE = 0.25, 10, 10.0
"""Magnitude of the median likeness below which changes of energy are not those of the forces, the smallest number of
pairs, and the largest factor between their sizes, for a verdict on it: projected forces of scans are smaller."""
_EQUAL = 1e-6
"""Standard deviation of energies that are all the same [kcal/mol]."""
_GEOMETRIES, _ATOMS = 12, 200
"""Geometries of an entry, and atoms of a molecule, for which MMFF94 is computed at most."""
_ALL, _EVERY = 200, 20
"""Entries of which each is compared with MMFF94; of later ones, each of this number."""
_NEAR = 0.15
"""Distance in the logarithm within which a slope does not tell two units apart."""
_ENERGIES = ("hartree", "eV", "kcal/mol", "kJ/mol")
_FORCES = tuple(f"{energy}/{length}" for energy in _ENERGIES for length in ("angstrom", "bohr"))

UNRELATED_FORCES = (
    "these are not the forces of these geometries; compare the order of geometries, atoms and axes, and sign and unit "
    "of all of them, with the data's source"
)
"""What to check where forces have no relation to geometries."""
UNRELATED_ENERGIES = (
    "these are not the energies of these geometries; compare their order, and the levels of theory within an entry, "
    "with the data's source"
)
"""What to check where energies have no relation to geometries."""

Sums = dict[str, list[float]]
"""Sums over bonds to hydrogen: number, Σx, Σf, Σx², Σxf, Σf²; x = −k·r [kcal/mol/Å], f is the force along the bond.
The key `entries` has those about each bond's mean over its entry, the others, by element, those of single geometries.
"""


def add_bonds(sums: Sums, signs: list[int], record: Record) -> None:
    """Add the bonds to hydrogen of a record with forces, and count the signs of its geometries."""
    numbers, bonds = record.molecule.numbers, record.molecule.bonds
    if not len(bonds):
        return
    ends = np.concatenate([bonds, bonds[:, ::-1]])  # of each bond the hydrogen last, once
    ends = ends[(numbers[ends[:, 1]] == 1) & np.isin(numbers[ends[:, 0]], list(CONSTANTS))]
    if not len(ends):
        return
    xyz, forces = record.conformers.xyz, record.conformers.forces
    assert forces is not None
    bond = xyz[:, ends[:, 1]] - xyz[:, ends[:, 0]]
    length = np.linalg.norm(bond, axis=2)
    along = (forces[:, ends[:, 1]] * bond).sum(axis=2) / np.maximum(length, 1e-6)
    elements = numbers[ends[:, 0]]
    x = -np.array([CONSTANTS[int(z)] for z in elements]) * length
    if len(xyz) > 1:
        x, along = x - x.mean(axis=0), along - along.mean(axis=0)
        _add(sums, "entries", x.ravel(), along.ravel())
        mixtures.count_signs(signs, x, along)
        return
    for z in np.unique(elements):
        _add(sums, str(int(z)), x[0, elements == z], along[0, elements == z])


def _add(sums: Sums, key: str, x: np.ndarray, f: np.ndarray) -> None:
    new = [len(x), x.sum(), f.sum(), x @ x, x @ f, f @ f]
    sums[key] = [a + float(b) for a, b in zip(sums.get(key, [0.0] * 6), new, strict=True)]


def judge_bonds(sums: Mapping[str, Sequence[float]], fit: bool = False) -> tuple[str, str]:
    """Outcome, `passed`, `failed` or `skipped`, and the figures with what to do.

    Args:
        sums: of bonds to hydrogen.
        fit: whether many changes of energy fit the forces, so that these are right however odd the bonds.
    """
    n, xx, xf, ff = 0.0, 0.0, 0.0, 0.0
    for count, x, f, x2, x_f, f2 in sums.values():
        n, xx, xf, ff = n + count, xx + x2 - x * x / count, xf + x_f - x * f / count, ff + f2 - f * f / count
    if n < LEAST_BONDS:
        return "skipped", f"{n:.0f} lengths of bonds to hydrogen, {LEAST_BONDS} are needed"
    if xx / n < _STIFF**2:
        return "skipped", "bonds to hydrogen are hardly stretched: relaxed geometries say nothing about forces"
    slope, correlation = xf / xx, xf**2 / (xx * ff) if ff > 0 else 0.0
    figures = f"slope of forces on -k(r - mean) of bonds to hydrogen is {slope:.4g} (r² {correlation:.3f}, {n:.0f})"
    if correlation < (_SURE if n < FEW_BONDS else _SIGN if slope < 0 else _UNIT):
        if n >= FEW_BONDS and xx / n >= _STRAINED**2 and not fit:
            return "failed", f"{figures}, expected 1 (r² 0.95): {UNRELATED_FORCES}"
        return "skipped", f"{figures}: forces and bond lengths are hardly related; check their source"
    sign = "the forces have the opposite sign: gradients, −forces, were read as forces" if slope < 0 else ""
    if _SLOPES[0] <= abs(slope) <= _SLOPES[1]:
        return ("failed", f"{figures}, expected near 1; {sign}") if sign else ("passed", figures)
    if n < FEW_BONDS and _WIDE_SLOPES[0] <= abs(slope) <= _WIDE_SLOPES[1]:
        return "skipped", f"{figures}: too few for a verdict on so small a deviation from 1"
    guess = _guess(abs(slope), _FORCES)
    also = f"; {sign}" if sign else ""
    return "failed", f"{figures}, expected near 1{also}; forces are in another unit{guess}: check reader.units"


def add_near(pairs: list[list[float]], xyz: np.ndarray, energy: np.ndarray, forces: np.ndarray) -> None:
    """Add the changes of energy of pairs of geometries that are rather close, by the forces and by the energies.

    Args:
        pairs: at most `MOST_NEAR` pairs so far [kcal/mol].
        xyz: geometries [Å], `(K, A, 3)`.
        energy: energies [kcal/mol], `(K,)`.
        forces: forces [kcal/mol/Å], `(K, A, 3)`.
    """
    for i in range(1, len(xyz)):
        for j in range(i):
            if len(pairs) >= MOST_NEAR:
                return
            first, second, turn = _laid_on(xyz[i], xyz[j])
            step = first - second
            if (step * step).sum(axis=1).max() > _RATHER_CLOSE**2:
                continue
            expected = -0.5 * float(((forces[i] + forces[j] @ turn) * step).sum())
            change = float(energy[i] - energy[j])
            if max(abs(expected), abs(change)) > _LEAST_CHANGE:
                pairs.append([expected, change])


def _laid_on(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two geometries `(A, 3)` about their centres, the second one turned onto the first, and the rotation `(3, 3)`.

    W. Kabsch, Acta Cryst. A32, 922 (1976).
    """
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    u, _, vt = np.linalg.svd(second.T @ first)
    turn = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
    return first, second @ turn, turn


def judge_near(pairs: Sequence[Sequence[float]]) -> tuple[str, str]:
    """Outcome, `passed`, `failed` or `skipped`, and the figures with what to do, of few pairs of geometries.

    A pair whose energies and forces fit has a likeness near 1, the product of both changes over the square of the
    larger one; gradients have one near −1, and a wrong unit one near 0. Of pairs that fit, 1 in 100 has one below −½,
    and 1 in 20 differs by a factor of 3.
    """
    n = len(pairs)
    if n < _FEW_FOR_SIGN:
        return "skipped", f"{n} pairs of geometries within {_RATHER_CLOSE} Å, {_FEW_FOR_SIGN} are needed"
    expected, change = np.array(pairs).T
    likeness = float(np.median(expected * change / np.maximum(expected**2, change**2)))
    ratios = np.log(np.maximum(np.abs(expected), 1e-12) / np.maximum(np.abs(change), 1e-12))
    factor = float(np.exp(np.median(ratios)))
    norms = float((expected @ expected) * (change @ change))
    squared = float(expected @ change) ** 2 / norms if norms else 0.0
    related = abs(np.sign(expected * change).sum()) == n and squared >= _SURE
    sizes = float(np.sqrt((expected @ expected) / (change @ change))) if change.any() else 0.0
    comparable = 1.0 / _COMPARABLE < sizes < _COMPARABLE
    figures = f"of {n} pairs of geometries, -F·Δx is {factor:.3g} times ΔE (likeness {likeness:.2f}, expected near 1)"
    if likeness <= -_ALIKE:
        return "failed", f"{figures}; the forces have the opposite sign: gradients, −forces, were read as forces"
    if likeness >= _ALIKE:
        return "passed", figures
    if related and n >= _FEW_FOR_UNIT and not 1.0 / _OTHER_UNIT < factor < _OTHER_UNIT:
        guess = _guess(factor, _FORCES) if factor > 1.0 else ""
        return "failed", f"{figures}; forces or energies are in another unit{guess}: check reader.units"
    if n >= _PAIRS_FOR_RELATION and abs(likeness) < _UNLIKE and comparable:
        return "failed", f"{figures}: {UNRELATED_ENERGIES}"
    return "skipped", f"{figures}: energies and forces are hardly related; check their source"


def add_spread(
    found: list[list[float]],
    waiting: list[list[list[float]]],
    groups: list[list[float]],
    entries: int,
    record: Record,
) -> int:
    """Add the logarithm of the ratio of spreads and the correlation with MMFF94; the number of entries that could be.

    Args:
        found: pairs so far, with the standard deviation by MMFF94; one is added at most.
        waiting: of entries of two or three geometries, energies and those of MMFF94, each less their mean; a few of
            these entries together give a pair.
        groups: see `mixtures.add_groups`.
        entries: number of earlier entries that could be compared.
        record: an entry with energies.
    """
    energy, molecule = record.conformers.energy, record.molecule
    if len(energy) < 2 or molecule.n_atoms > _ATOMS:
        return entries
    if entries < _ALL or entries % _EVERY == 0:
        chosen = np.linspace(0, len(energy) - 1, min(len(energy), _GEOMETRIES)).astype(int)
        expected = _mmff(molecule, record.conformers.xyz[chosen])
        if expected is not None:
            mixtures.add_groups(groups, energy[chosen], expected, molecule.n_atoms)
            waiting.append([(values - values.mean()).tolist() for values in (energy[chosen], expected)])
            if len(energy) >= 4:
                _compare(found, *waiting.pop())
            elif len(waiting) == _TOGETHER:
                _compare(found, *([d for entry in waiting for d in entry[which]] for which in (0, 1)))
                waiting.clear()
    return entries + 1


def _compare(found: list[list[float]], energy: list[float], expected: list[float]) -> None:
    """Add the pair of energies and those of MMFF94, less their means [kcal/mol]."""
    spread, usual = float(np.std(energy)), float(np.std(expected))
    if min(spread, usual) > _EQUAL:
        found.append([float(np.log(spread / usual)), float(np.corrcoef(energy, expected)[0, 1]), usual])
    elif usual > _WIDE:  # all energies are the same
        found.append([float(np.log(_EQUAL / usual)), 0.0, usual])


def _mmff(molecule: Molecule, xyz: np.ndarray) -> np.ndarray | None:
    """Energies by MMFF94 [kcal/mol], shape `(K,)`; None where it has no parameters."""
    from rdkit import rdBase
    from rdkit.Chem import rdForceFieldHelpers

    with rdBase.BlockLogs():
        try:
            mol = to_rdkit(molecule, xyz[0])
            properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
            if properties is None:
                return None
            field = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties, ignoreInterfragInteractions=False)
            if field is None:
                return None
            field.Initialize()
            return np.array([field.CalcEnergy(frame.ravel().tolist()) for frame in xyz])
        except (ValueError, RuntimeError):  # RDKit has no such molecule
            return None


def judge_spread(found: Sequence[Sequence[float]]) -> tuple[str, str]:
    """Outcome, `passed`, `failed` or `skipped`, and the figures with what to do."""
    n = len(found)
    if n < LEAST_ENTRIES:
        return (
            "skipped",
            f"{n} entries of four geometries, or groups of smaller ones, that MMFF94 knows; {LEAST_ENTRIES} are needed",
        )
    logarithm, correlation = np.median(np.array([pair[:2] for pair in found]), axis=0)
    ratio = float(np.exp(logarithm))
    figures = f"energies spread {ratio:.3g} times as far as by MMFF94 (correlation {correlation:.2f}, {n} entries)"
    if correlation <= _OPPOSITE:
        return "failed", f"{figures}: the energies have the opposite sign; check the reader's columns"
    if correlation < _RELATED and _of_wide_entries(found) < _RELATED:
        return "failed", f"{figures}: {UNRELATED_ENERGIES}"
    if correlation < _RELATED:
        return "skipped", f"{figures}: hardly related; check their source"
    if abs(logarithm) <= np.log(_SPREADS if n >= 5 else _FEW_SPREADS):
        return "passed", figures
    return "failed", f"{figures}: they are in another unit{_guess(ratio, _ENERGIES)}: check reader.units"


def _of_wide_entries(found: Sequence[Sequence[float]]) -> float:
    """Correlation of the energies of all entries that spread far by MMFF94, about their means; 1 if they are few."""
    wide = [row for row in found if row[2] >= _WIDE]
    if len(wide) < _MANY:
        return 1.0
    logarithm, correlation, usual = np.array(wide).T
    spread = usual * np.exp(logarithm)
    return float((correlation * spread * usual).sum() / np.sqrt((spread @ spread) * (usual @ usual)))


def _guess(ratio: float, known: Sequence[str]) -> str:
    """Units that would give numbers too large by this ratio; empty where none are near.

    Some pairs have nearly the same ratio: those with the number read as it is, in internal units, go first.
    """
    found = []
    for true in known:
        for read in known:
            distance = abs(np.log(ratio * units.factor(true) / units.factor(read)))
            internal = read.startswith("kcal/mol") and "bohr" not in read
            if distance < np.log(1.7):
                found.append((distance > _NEAR or not internal, distance, f"{true} read as {read}"))
    return f", such as {min(found)[2]}" if found else ""
