"""Bonded primitives as rows of LAMMPS's styles.

Energies of the styles, from https://docs.lammps.org: bond `harmonic` K (r − r₀)², `class2` K₂ d² + K₃ d³ + K₄ d⁴,
`morse` D (1 − e^(−α d))²; angle likewise, `cosine/squared` K (cos θ − cos θ₀)², `charmm` K d² + K_UB (r₁₃ − r_UB)²;
dihedral `charmm` K (1 + cos(nφ − d)), n ≥ 0 and d whole degrees; improper `class2` K χ². Couplings go into the
sections of `class2`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from espalike.export.engine import Cell, Place
from espalike.export.parts import DEGREE, Part, Series, Single
from espalike.terms.base import Term
from espalike.terms.fourier import Coupling, Fourier
from espalike.terms.primitives import CosineHarmonic, Harmonic, Morse, OutOfPlane, Polynomial, Primitive

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
        """Style and coefficients, which identify a LAMMPS type."""
        return self.style, self.parts


_PLAIN: dict[tuple[Place, type[Primitive]], tuple[str, Callable[[Any], tuple]]] = {
    (Place.BOND, Harmonic): ("harmonic", lambda p: (p.k / 2, p.q0)),
    (Place.BOND, Morse): ("morse", lambda p: (p.depth, p.a, p.q0)),
    (Place.BOND, Polynomial): ("class2", lambda p: (p.q0, *(p.powers.get(n, 0.0) for n in (2, 3, 4)))),
    (Place.ANGLE, Harmonic): ("harmonic", lambda p: (p.k / 2, p.q0 * DEGREE)),
    (Place.ANGLE, CosineHarmonic): ("cosine/squared", lambda p: (p.k / 2, p.q0 * DEGREE)),
    (Place.ACROSS, Harmonic): ("charmm", lambda p: (0.0, 90.0, p.k / 2, p.q0)),
}
"""Style and coefficients of primitives that are one row each."""
_COUPLINGS = {
    Place.BOND_BOND: ("Angle", "M", "r1 r2"),
    Place.BOND_ANGLE: ("Angle", "N1", "r1 θ"),
    Place.ANGLE_BOND: ("Angle", "N2", "r2 θ"),
    Place.MIDDLE_BOND_TORSION: ("Dihedral", "A", "r2"),
    Place.FIRST_BOND_TORSION: ("Dihedral", "B", "r1"),
    Place.LAST_BOND_TORSION: ("Dihedral", "C", "r3"),
    Place.FIRST_ANGLE_TORSION: ("Dihedral", "D", "θ1"),
    Place.SECOND_ANGLE_TORSION: ("Dihedral", "E", "θ2"),
    Place.ANGLE_ANGLE_TORSION: ("Dihedral", "M", "θ1 θ2"),
    Place.BOND_BOND_13: ("Dihedral", "N", "r1 r3"),
}
"""Category of `class2`, its letter for the coupling constant (a series: A1, A2, A3) and for the equilibrium values."""
_SERIES = "ABCDE"


def _is_class2(term: Term, primitive: Primitive) -> bool:
    """Periodicities that `class2` has: 1, 2, 3 with one bond or angle, 1 with two angles."""
    return isinstance(primitive, Coupling) and set(primitive.n) <= ({1, 2, 3} if len(primitive.q) == 1 else {1})


CELLS: dict[tuple[Place, type[Primitive]], Cell] = {
    **{key: Cell(f"{'bond' if key[0] == Place.BOND else 'angle'} {style}") for key, (style, _) in _PLAIN.items()},
    (Place.ANGLE, Polynomial): Cell("angle class2"),
    (Place.PROPER, Fourier): Cell("dihedral charmm"),
    (Place.IMPROPER, Fourier): Cell("dihedral charmm"),
    (Place.WILSON, OutOfPlane): Cell("improper class2"),
    **{(place, Coupling): Cell(f"{kind.lower()} class2", _is_class2) for place, (kind, *_) in _COUPLINGS.items()},
    (Place.ANGLE_ANGLE, Coupling): Cell("improper class2", _is_class2),
}


def bonded(single: Single) -> dict[str, list[Row]]:
    """All bonded interactions of a molecule, by LAMMPS's category."""
    bonds = [row for part in single.parts if part.place == Place.BOND for row in _plain(part)]
    # exclusions follow from bonds
    bonds += [Row("harmonic", bond, ((0.0, 1.0),)) for bond in map(tuple, single.bonds_without(Place.BOND).tolist())]
    return {
        "Bond": bonds,
        "Angle": [*_angles(single.parts), *_class2_angles(single.parts)],
        "Dihedral": [*_dihedrals(single.parts), *_class2_dihedrals(single.parts)],
        "Improper": _class2_impropers(single.parts),
    }


def styles(single: Single, rows: dict[str, list[Row]]) -> dict[str, list[str]]:
    """Words of the `_style` command of each category that has rows.

    It is `hybrid` if the force field has several styles, also where this molecule has rows of one alone: coefficients
    in the data file then have the same form for all molecules of the force field, so that their files can be joined.
    """
    found = {name: {row.style for row in category} for name, category in rows.items() if category}
    known = {name: set(used) for name, used in found.items()}
    for part in single.parts:
        name, style = CELLS[part.place, type(part.primitive)].label.split()
        known.get(name.capitalize(), set()).add(style)
    return {name: [*["hybrid"] * (len(known[name]) > 1), *sorted(used)] for name, used in found.items()}


def _plain(part: Part) -> list[Row]:
    style, columns = _PLAIN[part.place, type(part.primitive)]
    rows = part.rows(*columns(part.primitive))
    return [Row(style, atoms, (numbers,)) for atoms, numbers in zip(part.atoms, rows, strict=True)]


def _angles(parts: Sequence[Part]) -> list[Row]:
    """Angles without couplings; a harmonic angle and a Urey–Bradley distance across it are one row of `charmm`."""
    mine = [
        part
        for part in parts
        if part.place in (Place.ANGLE, Place.ACROSS) and (part.place, type(part.primitive)) in _PLAIN
    ]
    rows = [row for part in mine for row in _plain(part)]
    across = {row.atoms: row for row in rows if row.style == "charmm"}
    merged, used = [], set()
    for row in rows:
        partner = across.get(row.atoms) if row.style == "harmonic" and row.atoms not in used else None
        if partner is not None:
            used.add(row.atoms)
            row = Row("charmm", row.atoms, ((*row.parts[0], *partner.parts[0][2:]),))
        merged.append(row)
    return [row for row in merged if not (row.atoms in used and row is across[row.atoms])]


def _dihedrals(parts: Sequence[Part]) -> list[Row]:
    """Fourier series, those of impropers included (three dihedrals each), equal ones on the same atoms added up."""
    waves: dict[tuple[_Atoms, int, int], float] = {}
    for part in parts:
        if isinstance(part.primitive, Fourier):
            for atoms, series in zip(part.atoms, part.series, strict=True):
                for dihedral in part.coordinates:
                    for n, phase, k in _whole_degrees(series):
                        key = (tuple(atoms[a] for a in dihedral.atoms), n, phase)
                        waves[key] = waves.get(key, 0.0) + k
    return [Row("charmm", atoms, ((k, n, phase, 0.0),)) for (atoms, n, phase), k in waves.items() if abs(k) > _ZERO]


def _whole_degrees(series: Series) -> Iterator[tuple[int, int, float]]:
    """A series with phases of whole degrees, which `charmm` requires: cos(nφ − δ) = cos δ cos nφ + sin δ cos(nφ − 90°).

    The rest of the constant is a term of n = 0, K (1 + cos 0).
    """
    for n, phase, k in series:
        degrees = phase * DEGREE
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
        self._rows: dict[_Atoms, list[tuple[dict[str, float], dict[str, float]]]] = {}

    def add(self, atoms: _Atoms, shared: dict[str, float], constants: dict[str, float]) -> None:
        """Adds force constants to the first row whose equilibrium values are, or may become, the given ones."""
        rows = self._rows.setdefault(atoms, [])
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
            for atoms, rows in self._rows.items()
            for row in rows
        ]

    def _value(self, name: str, shared: dict[str, float], constants: dict[str, float]) -> float:
        value = shared.get(name, constants.get(name, 0.0))
        return value * DEGREE if name.startswith("θ") else value


def _coupled(rows: _Class2, part: Part) -> None:
    """Adds a coupling to the rows of a `class2` style."""
    p = part.primitive
    assert isinstance(p, Coupling)
    _, letter, zeros = _COUPLINGS[part.place]
    names = [f"{letter}{n}" for n in p.n] if letter in _SERIES else [letter]
    for atoms, k, q0 in zip(part.atoms, part.rows(*p.k), part.rows(*p.q0), strict=True):
        rows.add(atoms, dict(zip(zeros.split(), q0, strict=True)), dict(zip(names, k, strict=True)))


def _class2_angles(parts: Sequence[Part]) -> list[Row]:
    rows = _Class2()
    for part in parts:
        p = part.primitive
        if isinstance(p, Polynomial) and part.place == Place.ANGLE:
            columns = part.rows(p.q0, *(p.powers.get(n, 0.0) for n in (2, 3, 4)))
            for atoms, (zero, *k) in zip(part.atoms, columns, strict=True):
                rows.add(atoms, {"θ": zero}, dict(zip(("K2", "K3", "K4"), k, strict=True)))
        elif _COUPLINGS.get(part.place, ("",))[0] == "Angle":
            _coupled(rows, part)
    return rows.rows("θ K2 K3 K4", "M r1 r2", "N1 N2 r1 r2")


def _class2_dihedrals(parts: Sequence[Part]) -> list[Row]:
    rows = _Class2()
    for part in parts:
        if _COUPLINGS.get(part.place, ("",))[0] == "Dihedral":
            _coupled(rows, part)
    return rows.rows(
        "K1 φ1 K2 φ2 K3 φ3", "A1 A2 A3 r2", "B1 B2 B3 C1 C2 C3 r1 r3", "D1 D2 D3 E1 E2 E3 θ1 θ2", "M θ1 θ2", "N r1 r3"
    )


def _class2_impropers(parts: Sequence[Part]) -> list[Row]:
    """Out-of-plane bends and couplings of angles.

    A row has a centre j and outer atoms i < k < l, its angles are θ1 = ijk, θ2 = ijl, θ3 = kjl, and M1, M2, M3 belong
    to the two angles that share bond j-k, j-i, j-l. A centre with four neighbours has four such rows.
    """
    rows = _Class2()
    for part in parts:
        p = part.primitive
        if isinstance(p, OutOfPlane):
            for (a, j, b, c), (k,) in zip(part.atoms, part.rows(p.k / 2), strict=True):
                i, m, n = sorted((a, b, c))
                rows.add((i, j, m, n), {}, {"K": k})
        elif part.place == Place.ANGLE_ANGLE and isinstance(p, Coupling):
            for (a, j, shared, b), (k, ta, tb) in zip(part.atoms, part.rows(*p.k, *p.q0), strict=True):
                i, m, n = outer = sorted((a, shared, b))
                names = {(i, m): "θ1", (i, n): "θ2", (m, n): "θ3"}
                angles = {names[min(e, shared), max(e, shared)]: t for e, t in ((a, ta), (b, tb))}
                rows.add((i, j, m, n), angles, {("M2", "M1", "M3")[outer.index(shared)]: k})
    return rows.rows("K χ0", "M1 M2 M3 θ1 θ2 θ3")
