"""Checks of units: do forces fit the energies, and are energies the total energies of these atoms?

The audits keep a few sums per source and level while records pass; they keep no data.

*Forces.* Between two geometries of an entry that are close, the energy changes by −½(F₁ + F₂)·Δx, up to third order in
Δx. A line through the origin that is fitted to ΔE against that has slope 1; wrong units or signs give another slope.

*Energies.* A total energy is close to the sum of its free atoms' energies: bonding is below 5 % of it. The ratio of the
two is 1 where the unit is right, 1/27.2 where hartree was read as eV, and so on. Relative energies, and those of
methods without core electrons, have other ratios and are not judged. The verdict also lists the least-squares energies
of the elements, E ≈ Σ n(Z) e(Z).

*Size.* Few geometries have huge forces. They are counted before filters leave them out.

Where forces are there and no audit of them has a verdict, as for relaxed geometries, a warning says that their sign is
not verified. `espalike.data.alone` finds geometries of a molecule that are separate entries.

*Bonds* and *spread* judge forces and energies of independent geometries: `espalike.data.labels`. *Mixture* tells where
a part of the labels is wrong: `espalike.data.mixtures`. *Steps* tells that energies are rounded: `espalike.data.steps`.
*Interaction* judges interaction energies of complexes: `espalike.data.interacting`.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from espalike import units
from espalike.data import interacting, labels, mixtures, steps
from espalike.data.filters import far_energies
from espalike.data.schema import Record

ATOM_ENERGIES = {
    1: -0.5, 2: -2.9037, 3: -7.4781, 4: -14.6674, 5: -24.6539, 6: -37.8450, 7: -54.5892, 8: -75.0673, 9: -99.7339,
    11: -162.2546, 12: -200.053, 13: -242.346, 14: -289.359, 15: -341.259, 16: -398.110, 17: -460.148,
    19: -599.165, 20: -676.758, 30: -1777.848, 35: -2572.441,
}  # fmt: skip
"""Total energies of free atoms [hartree]: to argon non-relativistic exact ones, S. J. Chakravorty, S. R. Gwaltney,
E. R. Davidson, F. A. Parpia, C. Froese Fischer, Phys. Rev. A 47, 3649 (1993); then Hartree-Fock, C. F. Bunge,
J. A. Barrientos, A. V. Bunge, At. Data Nucl. Data Tables 53, 113 (1993). Heavier elements often have core
potentials."""

CLOSE = 0.2
"""Largest displacement of any atom [Å] between two geometries that are compared."""
MOST_PAIRS = 2000
"""Pairs of an entry's geometries whose distance is computed, nearest in order first; consecutive ones always are."""
LEAST_PAIRS, LEAST_MOLECULES = 20, 3
"""Smallest numbers of pairs of geometries and of molecules for a verdict."""
_SLOPE, _CORRELATION, _RATIO = 0.25, 0.5, 0.05
"""Largest accepted deviation of the slope from 1, smallest r² for a verdict, largest deviation of a ratio from that of
a unit."""
_CLEAR, _ALIKE = 1.0, 0.7
"""A change of energy [kcal/mol] above the noise, and the share of such pairs that fit in data without a fault."""
HIGH, _MOST_HIGH = 500.0, 0.3
"""A force component that few geometries have [kcal/mol/Å], and the share of geometries that is a fault."""
_HUGE = "so large forces are rare; check their unit (reader.units)"
_UNRELATED = (
    "no audit tells the unit and the sign of these energies: fewer than three molecules have total energies, and too "
    "few geometries are near each other or comparable with MMFF94; compare an energy with the data's source"
)

_UNVERIFIED = (
    "no audit tells whether these are forces or gradients, nor their unit: too few geometries are near each other, and "
    "too few bonds are stretched; compare a geometry with the data's source"
)

_ENERGY_UNITS = ("hartree", "eV", "kcal/mol", "kJ/mol")
_FORCE_UNITS = tuple(f"{e}/{length}" for e in _ENERGY_UNITS for length in ("angstrom", "bohr", "nm"))


class AuditError(ValueError):
    """Energies or forces cannot be in their declared units."""


@dataclass
class Sums:
    """Sums for one source and level.

    Attributes:
        pairs: close geometries.
        xx, xy, yy: sums over them of (F·Δx)², −(F·Δx)ΔE and ΔE² [kcal²/mol²].
        clear, alike: of them, those with a change above `_CLEAR`, and those of these that fit within a factor of 3.
        molecules: records with energies and known atoms.
        classes: their number by the look of their energy: `right`, `A read as B`, `wrong sign`, or `other`.
        examples: a few of their identifiers, by the same classes.
        normal: the normal equations of the atomic energies, `(1 + elements)²` numbers by pairs of names.
        forces: whether a record had forces.
        near: changes of energy of a few pairs that are rather close, see `labels.add_near`.
        bonds: see `labels.Sums`.
        signs, odd, zeros, groups: see `mixtures.count_signs`, `count_pairs`, `count_zeros` and `add_groups`.
        entries: number of entries whose energies can be compared with those of MMFF94.
        spreads: of those that were, the logarithm of the ratio of spreads, and the correlation.
        steps: of some entries, the step of their energies, see `steps.step`.
        waiting: deviations of energies and of those of MMFF94 from their means, of entries of two or three geometries.
        seen, high: number of geometries with forces before filters, and of those with a force above `HIGH`.
        complexes: of each complex, see `interacting.summary`.
        labelled, far: number of geometries with energies before filters, and of those far from the others of the entry.
    """

    pairs: int = 0
    xx: float = 0.0
    xy: float = 0.0
    yy: float = 0.0
    clear: int = 0
    alike: int = 0
    molecules: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    normal: dict[str, float] = field(default_factory=dict)
    forces: bool = False
    near: list[list[float]] = field(default_factory=list)
    bonds: labels.Sums = field(default_factory=dict)
    signs: list[int] = field(default_factory=lambda: [0, 0])
    odd: list[int] = field(default_factory=lambda: [0, 0])
    zeros: list[int] = field(default_factory=lambda: [0, 0])
    groups: list[list[float]] = field(default_factory=list)
    entries: int = 0
    spreads: list[list[float]] = field(default_factory=list)
    waiting: list[list[list[float]]] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    complexes: list[list[float]] = field(default_factory=list)
    seen: int = 0
    high: int = 0
    labelled: int = 0
    far: int = 0


class Counts(NamedTuple):
    """Of an entry before filters: source and level, and the last four numbers of `Sums`."""

    where: str
    seen: int
    high: int
    labelled: int
    far: int


@dataclass(frozen=True)
class Verdict:
    """Outcome of one audit for one source and level.

    Attributes:
        audit: `forces`, `energies`, `bonds`, `spread`, `sign`, `size`, `unit`, `mixture`, `steps`, `interaction` or
            `entries`.
        where: source and level.
        outcome: `passed`, `failed`, `skipped`, or `warning` where something cannot be verified or will not be used.
        message: the figures, and what to do.
    """

    audit: str
    where: str
    outcome: str
    message: str


class Audit:
    """Sums of the audits by source and level.

    Args:
        state: a result of `state`, to continue from.
    """

    def __init__(self, state: Mapping[str, Mapping] | None = None):
        self._sums = {where: Sums(**copy.deepcopy(dict(sums))) for where, sums in (state or {}).items()}

    def state(self) -> dict[str, dict]:
        """All sums, as plain values for JSON."""
        return {where: copy.deepcopy(vars(sums)) for where, sums in self._sums.items()}

    def see(self, counts: Counts | None) -> None:
        """Count the geometries of an entry that filters leave out, a result of `counts_of`."""
        if counts is not None:
            sums = self._sums.setdefault(counts.where, Sums())
            sums.seen, sums.high = sums.seen + counts.seen, sums.high + counts.high
            sums.labelled, sums.far = sums.labelled + counts.labelled, sums.far + counts.far

    def add(self, record: Record) -> None:
        """Add a record, as it passed the filters, to the sums."""
        conf = record.conformers
        sums = self._sums.setdefault(f"{conf.source}, {conf.level}", Sums())
        if conf.interaction is not None:
            sums.complexes.append(interacting.summary(record))
            return
        if conf.forces is not None:
            sums.forces = True
            mixtures.count_zeros(sums.zeros, conf.forces, record.kind)
            labels.add_bonds(sums.bonds, sums.signs, record)
        if np.isnan(conf.energy).any():
            return
        steps.add(sums.steps, conf.energy)
        if conf.forces is not None:
            _add_pairs(sums, conf.xyz, conf.energy, conf.forces)
            labels.add_near(sums.near, conf.xyz, conf.energy, conf.forces)
        sums.entries = labels.add_spread(sums.spreads, sums.waiting, sums.groups, sums.entries, record)
        _add_energy(sums, record)

    def verdicts(self) -> list[Verdict]:
        """The verdicts on the records so far."""
        found = []
        for where, sums in sorted(self._sums.items()):
            if sums.complexes:
                found.append(Verdict("interaction", where, *interacting.judge(sums.complexes)))
                if not sums.entries + sums.molecules + sums.seen:
                    continue
            forces = _judge_forces(where, sums)
            fit = forces.outcome == "passed" and sums.pairs >= LEAST_PAIRS
            bonds = Verdict("bonds", where, *labels.judge_bonds(sums.bonds, fit))
            found += [forces, _judge_energy(where, sums), bonds]
            if sums.high >= _MOST_HIGH * sums.seen > 0:
                text = f"{sums.high} of {sums.seen} geometries have a force above {HIGH:g} kcal/mol/Å; " + _HUGE
                found.append(Verdict("size", where, "failed", text))
            if sums.far >= _MOST_HIGH * sums.labelled > 0:
                text = f"{sums.far} of {sums.labelled} geometries have energies far from the others of their entry; "
                found.append(Verdict("size", where, "failed", text + labels.UNRELATED_ENERGIES))
            if sums.forces and forces.outcome == bonds.outcome == "skipped":
                found.append(Verdict("sign", where, "warning", _UNVERIFIED))
            found.append(Verdict("spread", where, *labels.judge_spread(sums.spreads)))
            judged = {v.audit: v.outcome for v in found if v.where == where}
            texts = [mixtures.of_signs(sums.signs), mixtures.of_zeros(sums.zeros)]
            if "failed" not in judged.values():  # else the part can be most of the data
                texts += [mixtures.of_pairs(sums.odd, sums.clear), mixtures.of_groups(sums.groups, sums.clear)]
            found += [Verdict("mixture", where, "failed", text) for text in texts if text]
            if rounded := steps.judge(sums.steps):
                found.append(Verdict("steps", where, *rounded))
            if sums.entries and judged["forces"] == judged["energies"] == judged["spread"] == "skipped":
                found.append(Verdict("unit", where, "warning", _UNRELATED))
        return found


def counts_of(record: Record) -> Counts | None:
    """Numbers of geometries with forces and with energies, and of implausible ones; None for complexes."""
    conf = record.conformers
    if conf.interaction is not None:
        return None
    forces = conf.forces if conf.forces is not None and conf.forces.size else np.zeros((0, 1, 3))
    high = np.abs(forces).max(axis=(1, 2), initial=0.0) > HIGH
    known = int(np.isfinite(conf.energy).sum())
    return Counts(f"{conf.source}, {conf.level}", len(high), int(high.sum()), known, int(far_energies(record).sum()))


def refuse_failed(verdicts: Iterable[Verdict], remedy: str) -> None:
    """Refuse data that failed an audit.

    Args:
        verdicts: of all sources and levels.
        remedy: what to do to use the data in spite of this, for the message.

    Raises:
        AuditError: naming every source that failed, and why.
    """
    failed = [f"{verdict.where}: {verdict.message}" for verdict in verdicts if verdict.outcome == "failed"]
    if failed:
        raise AuditError(f"{'; '.join(failed)}. {remedy}")


def _add_pairs(sums: Sums, xyz: np.ndarray, energy: np.ndarray, forces: np.ndarray) -> None:
    done = 0
    for lag in range(1, len(xyz)):
        if lag > 1 and done + len(xyz) - lag > MOST_PAIRS:
            return
        done += len(xyz) - lag
        _add_lag(sums, lag, xyz, energy, forces)


def _add_lag(sums: Sums, lag: int, xyz: np.ndarray, energy: np.ndarray, forces: np.ndarray) -> None:
    """Add the close pairs of geometries that are so far apart in the order."""
    step = xyz[lag:] - xyz[:-lag]
    squares = step * step
    close = (squares[:, :, 0] + squares[:, :, 1] + squares[:, :, 2]).max(axis=1) <= CLOSE**2
    if not close.any():
        return
    step = step[close]
    mean = 0.5 * (forces[lag:][close] + forces[:-lag][close])
    expected = -np.einsum("kx,kx->k", mean.reshape(len(step), -1), step.reshape(len(step), -1))
    change = (energy[lag:] - energy[:-lag])[close]
    moved = expected != 0.0  # two equal geometries have no slope
    sums.pairs += int(moved.sum())
    sums.xx += float(expected[moved] @ expected[moved])
    sums.xy += float(expected[moved] @ change[moved])
    sums.yy += float(change[moved] @ change[moved])
    clear = np.maximum(np.abs(expected), np.abs(change)) > _CLEAR
    sums.clear += int(clear.sum())
    mixtures.count_pairs(sums.odd, expected, change, clear)
    sums.alike += int((3.0 * expected * change > np.maximum(expected**2, change**2))[clear].sum())


def _add_energy(sums: Sums, record: Record) -> None:
    counts = sorted(Counter(record.molecule.numbers.tolist()).items())
    if any(z not in ATOM_ENERGIES for z, _ in counts) or counts[-1][0] < 3:
        return
    mean = float(record.conformers.energy.mean())
    atoms = sum(ATOM_ENERGIES[z] * n for z, n in counts) * units.HARTREE
    name = _class(mean / atoms)
    sums.molecules += 1
    sums.classes[name] = sums.classes.get(name, 0) + 1
    examples = sums.examples.setdefault(name, [])
    if len(examples) < 3:
        examples.append(record.id)
    columns = [*((str(z), float(n)) for z, n in counts), ("E", mean)]
    for a, x in columns:
        for b, y in columns:
            key = f"{a} {b}"
            sums.normal[key] = sums.normal.get(key, 0.0) + x * y


def _class(ratio: float) -> str:
    """Class of an energy that is `ratio` times the sum of the free atoms' energies."""
    if abs(ratio - 1.0) <= _RATIO:
        return "right"
    for true in _ENERGY_UNITS:
        for read in _ENERGY_UNITS:
            if abs(ratio * units.factor(true) / units.factor(read) - 1.0) <= _RATIO:
                return f"{true} read as {read}"
    return "wrong sign" if abs(ratio + 1.0) <= _RATIO else "other"


def _judge_forces(where: str, sums: Sums) -> Verdict:
    if sums.pairs < LEAST_PAIRS:
        return Verdict("forces", where, *labels.judge_near(sums.near))
    slope = sums.xy / sums.xx
    correlation = sums.xy**2 / (sums.xx * sums.yy) if sums.yy else 0.0
    figures = f"slope of ΔE on -F·Δx is {slope:.4g} (r² {correlation:.3f}, {sums.pairs} pairs)"
    if correlation < _CORRELATION and sums.clear >= LEAST_PAIRS and sums.alike < _ALIKE * sums.clear:
        return Verdict("forces", where, "failed", f"{figures}, expected 1: {labels.UNRELATED_ENERGIES}")
    if correlation < _CORRELATION:
        return Verdict(
            "forces", where, "skipped", f"{figures}: energies and forces are hardly related; check their source"
        )
    if abs(slope - 1.0) <= _SLOPE:
        return Verdict("forces", where, "passed", figures)
    advice = f"expected 1; {_force_guess(slope)}"
    return Verdict("forces", where, "failed", f"{figures}, {advice}")


def _force_guess(slope: float) -> str:
    """A wrong unit or sign of forces, lengths or energies that gives such a slope."""
    sign = " and have the opposite sign (gradients are −forces)" if slope < 0 else ""
    if abs(abs(slope) - 1.0) <= _SLOPE:
        return "the forces have the opposite sign: gradients, −forces, were read as forces"
    for read in _FORCE_UNITS:
        for true in _FORCE_UNITS:
            if abs(abs(slope) * units.factor(read) / units.factor(true) - 1.0) <= _RATIO:
                return (
                    f"a wrong unit gives this number, e.g. forces in {true} read as {read}{sign}; check the units of "
                    "forces, energies and coordinates (reader.units)"
                )
    return f"the units of forces, energies or coordinates are wrong{sign} (reader.units)"


def _judge_energy(where: str, sums: Sums) -> Verdict:
    if sums.molecules < LEAST_MOLECULES:
        text = f"{sums.molecules} molecules of atoms with known energies, {LEAST_MOLECULES} are needed"
        return Verdict("energies", where, "skipped", text)
    wrong = {name: n for name, n in sums.classes.items() if name not in ("right", "other")}
    right, other = sums.classes.get("right", 0), sums.classes.get("other", 0)
    n = sums.molecules
    atoms = atom_energies(sums.normal)
    fitted = "; atomic energies " + ", ".join(f"{s} {e:.4g}" for s, e in atoms.items()) + " hartree" if atoms else ""
    if wrong and (right >= n / 2 or sum(wrong.values()) >= 0.9 * n):
        worst = max(wrong, key=lambda name: wrong[name])
        ids = ", ".join(sums.examples[worst])
        text = (
            f"{wrong[worst]} of {n} molecules have energies that look like {worst} against the total energies of their "
            f"atoms, e.g. {ids}; check the unit of energies (reader.units){fitted}"
        )
        return Verdict("energies", where, "failed", text)
    if right >= n / 2:
        odd = f"; {other} of {n} do not fit, e.g. {', '.join(sums.examples['other'])}" if other else ""
        return Verdict(
            "energies", where, "passed", f"{right} of {n} molecules are within 5 % of their atoms{odd}{fitted}"
        )
    text = f"no total energies of all electrons ({other} of {n} molecules): relative, or of another zero"
    return Verdict("energies", where, "skipped", text + fitted)


def atom_energies(normal: Mapping[str, float]) -> dict[str, float]:
    """Least-squares energy of each element [hartree] by symbol; empty where the molecules do not determine them."""
    from rdkit.Chem import GetPeriodicTable

    elements = sorted({int(key.split()[0]) for key in normal if key[0] != "E"})
    if not elements:
        return {}
    a = np.array([[normal.get(f"{x} {y}", 0.0) for y in elements] for x in elements])
    scale = np.sqrt(np.diag(a))
    if np.linalg.cond(a / np.outer(scale, scale)) > 1e8:
        return {}
    energies = np.linalg.solve(a, [normal[f"{x} E"] for x in elements]) / units.HARTREE
    symbol = GetPeriodicTable().GetElementSymbol
    return {symbol(z): float(e) for z, e in zip(elements, energies, strict=True)}
