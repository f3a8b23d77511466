"""Terms as rows of LAMMPS's bonded styles.

Energies of the styles, from https://docs.lammps.org: bond `harmonic` K (r − r₀)², `class2` K₂ d² + K₃ d³ + K₄ d⁴,
`morse` D (1 − e^(−α d))²; angle likewise, `cosine/squared` K (cos θ − cos θ₀)², `charmm` K d² + K_UB (r₁₃ − r_UB)²;
dihedral `charmm` K (1 + cos(nφ − d)), n ≥ 0 and d whole degrees; improper `class2` K χ². The class II couplings go into
the sections of `class2`, which has them in the forms of `espalike.terms.cross`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from espalike.export.classical import Series, series
from espalike.export.single import ExportError
from espalike.system import Bound, MMSystem
from espalike.terms.angle import CosineAngle, HarmonicAngle, LinearMixtureAngle, QuarticAngle, UreyBradley
from espalike.terms.base import PairTerm
from espalike.terms.bond import HarmonicBond, LinearMixtureBond, MorseBond, QuarticBond
from espalike.terms.cross import (
    AngleAngle,
    AngleAngleTorsion,
    AngleTorsion,
    BondAngle,
    BondBond,
    BondBond13,
    EndBondTorsion,
    MiddleBondTorsion,
)
from espalike.terms.torsion import WilsonImproper
from espalike.units import convert

SECTIONS: dict[str, tuple[str, ...]] = {
    "Bond": (),
    "Angle": ("BondBond Coeffs", "BondAngle Coeffs"),
    "Dihedral": (
        "MiddleBondTorsion Coeffs",
        "EndBondTorsion Coeffs",
        "AngleTorsion Coeffs",
        "AngleAngleTorsion Coeffs",
        "BondBond13 Coeffs",
    ),
    "Improper": ("AngleAngle Coeffs",),
}
"""Further coefficient sections of the `class2` styles."""

_Atoms = tuple[int, ...]
_Numbers = tuple[float, ...]
_ZERO = 1e-12
"""Energies [kcal/mol] and angles [°] below this are rounding."""


@dataclass(frozen=True)
class Row:
    """One interaction.

    Attributes:
        style: LAMMPS's style.
        atoms: atoms, counted from 0.
        parts: coefficients of the style, then those of its further sections.
    """

    style: str
    atoms: _Atoms
    parts: tuple[_Numbers, ...]

    @property
    def type(self) -> tuple[str, tuple[_Numbers, ...]]:
        """What makes the LAMMPS type."""
        return self.style, self.parts


def bonded(one: MMSystem) -> dict[str, list[Row]]:
    """All bonded interactions of a one-molecule system, by the category that LAMMPS has them in.

    Raises:
        ExportError: for a term that no style has.
    """
    terms = [bound for bound in one.terms if not isinstance(bound.term, PairTerm)]
    for bound in terms:
        if type(bound.term) not in _KNOWN and series(bound) is None:
            raise ExportError(
                f"{one.molecules[0].name}: format 'lammps' cannot express {bound.term!r}; formats 'system', 'ffxml' can"
            )
    bonds = [row for bound in terms if type(bound.term) in _BONDS for row in _plain(bound, _BONDS)]
    listed = {frozenset(row.atoms) for row in bonds}
    missing = [bond for bond in one.molecules[0].bonds.tolist() if frozenset(bond) not in listed]
    bonds += [Row("harmonic", tuple(bond), ((0.0, 1.0),)) for bond in missing]  # exclusions follow from bonds
    return {
        "Bond": bonds,
        "Angle": [*_angles(terms), *_class2_angles(terms)],
        "Dihedral": [*_dihedrals(terms), *_class2_dihedrals(terms)],
        "Improper": _class2_impropers(terms),
    }


def _degrees(angle: float) -> float:
    return convert(angle, "radian", "degree")


def _rows(bound: Bound) -> Iterator[tuple[_Atoms, list[float]]]:
    for atoms, values in zip(bound.tuples.idx.tolist(), bound.values.tolist(), strict=True):
        yield tuple(atoms), values


_BONDS = {
    HarmonicBond: lambda term, k, r0: [("harmonic", (k / 2, r0))],
    QuarticBond: lambda term, k, r0, a: [("class2", (r0, k / 2, -k * a / 2, 7 / 24 * k * a * a))],
    MorseBond: lambda term, k, r0, depth: [("morse", (depth, math.sqrt(k / (2 * depth)), r0))],
    LinearMixtureBond: lambda term, *k: [("harmonic", (k / 2, c)) for k, c in zip(k, term.centres, strict=True)],
}
_ANGLES = {
    HarmonicAngle: lambda term, k, t0: [("harmonic", (k / 2, _degrees(t0)))],
    CosineAngle: lambda term, k, t0: [("cosine/squared", (k / 2, _degrees(t0)))],
    LinearMixtureAngle: lambda term, *k: [
        ("harmonic", (k / 2, _degrees(c))) for k, c in zip(k, term.centres, strict=True)
    ],
    UreyBradley: lambda term, k, r0: [("charmm", (0.0, 90.0, k / 2, r0))],
}
"""Style and coefficients of terms that are one row or several, from the term and its parameters."""


def _plain(bound: Bound, styles) -> list[Row]:
    make = styles[type(bound.term)]
    return [Row(s, atoms, (numbers,)) for atoms, values in _rows(bound) for s, numbers in make(bound.term, *values)]


def _angles(terms: list[Bound]) -> list[Row]:
    """Angles without couplings; a harmonic angle and a Urey–Bradley term on it are one row of `charmm`."""
    rows = [row for bound in terms if type(bound.term) in _ANGLES for row in _plain(bound, _ANGLES)]
    across = {row.atoms: row for row in rows if row.style == "charmm"}
    merged, used = [], set()
    for row in rows:
        partner = across.get(row.atoms) if row.style == "harmonic" and row.atoms not in used else None
        if partner is not None:
            used.add(row.atoms)
            row = Row("charmm", row.atoms, ((*row.parts[0], *partner.parts[0][2:]),))
        merged.append(row)
    return [row for row in merged if not (row.atoms in used and row is across[row.atoms])]


def _dihedrals(terms: list[Bound]) -> list[Row]:
    """Fourier series, those of impropers included (three dihedrals each), equal ones on the same atoms added up."""
    found: dict[tuple[_Atoms, int, int], float] = {}
    for bound in terms:
        for (atoms, _), row in zip(_rows(bound), series(bound) or [], strict=False):
            for dihedral in bound.term.coordinates:
                for n, phase, k in _whole_degrees(row):
                    key = (tuple(atoms[a] for a in dihedral.atoms), n, phase)
                    found[key] = found.get(key, 0.0) + k
    return [Row("charmm", atoms, ((k, n, phase, 0.0),)) for (atoms, n, phase), k in found.items() if abs(k) > _ZERO]


def _whole_degrees(row: Series) -> Iterator[tuple[int, int, float]]:
    """A series with phases of whole degrees, as `charmm` wants: cos(nφ − δ) = cos δ cos nφ + sin δ cos(nφ − 90°).

    What that leaves of the constant is a term of n = 0, K (1 + cos 0).
    """
    for n, phase, k in row:
        degrees = _degrees(phase)
        if abs(degrees - round(degrees)) < _ZERO:
            yield n, round(degrees), k
        else:
            c, s = k * math.cos(phase), k * math.sin(phase)
            yield from ((n, 0, c), (n, 90, s), (0, 0, (k - c - s) / 2))


class _Class2:
    """Rows of a `class2` style: terms on the same atoms that agree about equilibrium values are one row.

    LAMMPS of 29 Sep 2021 takes the bond lengths of the bond-angle part from the bond-bond part: these must agree, too.
    """

    def __init__(self):
        self._found: dict[_Atoms, list[tuple[dict[str, float], dict[str, float]]]] = {}

    def add(self, atoms: _Atoms, shared: dict[str, float], constants: dict[str, float]) -> None:
        """Adds force constants to the first row whose equilibrium values are, or may become, the given ones."""
        rows = self._found.setdefault(atoms, [])
        row = next((r for r in rows if all(r[0].get(name, v) == v for name, v in shared.items())), None)
        if row is None:
            row = ({}, {})
            rows.append(row)
        row[0].update(shared)
        for name, k in constants.items():
            row[1][name] = row[1].get(name, 0.0) + k

    def rows(self, *layout: str) -> list[Row]:
        """The rows; `layout` has the names of the coefficients of each part, those of angles beginning with θ."""
        return [
            Row("class2", atoms, tuple(tuple(self._value(name, *row) for name in part.split()) for part in layout))
            for atoms, rows in self._found.items()
            for row in rows
        ]

    def _value(self, name: str, shared: dict[str, float], constants: dict[str, float]) -> float:
        value = shared.get(name, constants.get(name, 0.0))
        return _degrees(value) if name.startswith("θ") else value


_ANGLE_PARTS = {
    QuarticAngle: lambda k, t, c: ({"θ": t}, {"K2": k / 2, "K3": k * c / 2, "K4": 7 / 24 * k * c * c}),
    BondBond: lambda k, ra, rb: ({"r1": ra, "r2": rb}, {"M": k}),
    BondAngle: lambda ka, kb, ra, rb, t: ({"r1": ra, "r2": rb, "θ": t}, {"N1": ka, "N2": kb}),
}
_DIHEDRAL_PARTS = {
    MiddleBondTorsion: lambda *v: ({"r2": v[3]}, _named("A1 A2 A3", v)),
    EndBondTorsion: lambda *v: ({"r1": v[6], "r3": v[7]}, _named("B1 B2 B3 C1 C2 C3", v)),
    AngleTorsion: lambda *v: ({"θ1": v[6], "θ2": v[7]}, _named("D1 D2 D3 E1 E2 E3", v)),
    AngleAngleTorsion: lambda k, ta, tb: ({"θ1": ta, "θ2": tb}, {"M": k}),
    BondBond13: lambda k, ra, rb: ({"r1": ra, "r3": rb}, {"N": k}),
}
"""Equilibrium values and force constants in the letters of LAMMPS's pages, from the parameters of the term."""


def _named(names: str, values: tuple[float, ...]) -> dict[str, float]:
    return dict(zip(names.split(), values, strict=False))


def _class2(terms: list[Bound], parts) -> _Class2:
    rows = _Class2()
    for bound in terms:
        if type(bound.term) in parts:
            for atoms, values in _rows(bound):
                rows.add(atoms, *parts[type(bound.term)](*values))
    return rows


def _class2_angles(terms: list[Bound]) -> list[Row]:
    return _class2(terms, _ANGLE_PARTS).rows("θ K2 K3 K4", "M r1 r2", "N1 N2 r1 r2")


def _class2_dihedrals(terms: list[Bound]) -> list[Row]:
    return _class2(terms, _DIHEDRAL_PARTS).rows(
        "K1 φ1 K2 φ2 K3 φ3", "A1 A2 A3 r2", "B1 B2 B3 C1 C2 C3 r1 r3", "D1 D2 D3 E1 E2 E3 θ1 θ2", "M θ1 θ2", "N r1 r3"
    )


def _class2_impropers(terms: list[Bound]) -> list[Row]:
    """Out-of-plane terms and couplings of angles.

    A row has a centre j and outer atoms i < k < l, its angles are θ1 = ijk, θ2 = ijl, θ3 = kjl, and M1, M2, M3 belong
    to the two angles that share bond j-k, j-i, j-l. A centre with four neighbours has four such rows.
    """
    rows = _Class2()
    for bound in terms:
        if type(bound.term) is WilsonImproper:
            for (a, j, b, c), (k,) in _rows(bound):
                i, m, n = sorted((a, b, c))
                rows.add((i, j, m, n), {}, {"K": k / 2})
        elif type(bound.term) is AngleAngle:
            for (a, j, shared, b), (k, ta, tb) in _rows(bound):
                i, m, n = outer = sorted((a, shared, b))
                names = {(i, m): "θ1", (i, n): "θ2", (m, n): "θ3"}
                angles = {names[min(e, shared), max(e, shared)]: t for e, t in ((a, ta), (b, tb))}
                rows.add((i, j, m, n), angles, {("M2", "M1", "M3")[outer.index(shared)]: k})
    return rows.rows("K χ0", "M1 M2 M3 θ1 θ2 θ3")


_KNOWN = {*_BONDS, *_ANGLES, *_ANGLE_PARTS, *_DIHEDRAL_PARTS, WilsonImproper, AngleAngle}
