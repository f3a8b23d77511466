"""An `MMSystem` as LAMMPS files: a data file (`.lmp`) with all parameters, and the input script (`.in`) that reads it.

Formats: https://docs.lammps.org/read_data.html and the pages of the styles; units `real` (Å, kcal/mol, degrees, fs).
LAMMPS must be built with the package MOLECULE, and CLASS2 where the force field has class II terms. A type is a set of
coefficients; several interactions may act on the same atoms, so a term may be a sum of rows of several styles. The
bonded styles are in `espalike.export.lammps_styles`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from espalike.chem.complexes import is_complex
from espalike.export.engine import Cell, Engine, Place, has_charges, rule_of
from espalike.export.lammps_styles import CELLS, SECTIONS, Row, bonded, styles
from espalike.export.parts import ExportError, Single
from espalike.export.text import STEM
from espalike.terms.base import Term
from espalike.terms.primitives import Charges, Primitive, TwelveSix
from espalike.units import COULOMB

QQR2E = 332.06371
"""LAMMPS's Coulomb constant in units `real` [kcal/mol Å e⁻²] (src/update.cpp)."""
CUTOFF = 10_000.0
"""Cut-off [Å] beyond the size of any molecule."""
_MIX = {"lorentz-berthelot": "arithmetic", "geometric": "geometric", "waldman-hagler": "sixthpower"}


def _is_mixed(term: Term, primitive: Primitive) -> bool:
    return rule_of(term) in _MIX


ENGINE = Engine(
    "lammps",
    CELLS
    | {
        (Place.VAN_DER_WAALS, TwelveSix): Cell("lj/cut; the three mixing rules", _is_mixed),
        (Place.CHARGES, Charges): Cell("coul/cut", has_charges),
    },
)
_MARGIN = 5.0
_TITLE = 200
"""Older LAMMPS reads no more than 255 characters of a line."""

_SCRIPT = """\
{head}
units           real
atom_style      full
boundary        m m m
# LAMMPS's Coulomb constant is {qqr2e}; this factor makes it the one of the force field, {coulomb!r}
dielectric      {dielectric!r}
pair_style      lj/cut/coul/cut {cutoff!r}
pair_modify     mix {mix}
special_bonds   lj 0.0 0.0 {lj14!r} coul 0.0 0.0 {coulomb14!r}
{styles}read_data       "{stem}.lmp"
neighbor        2.0 nsq
neigh_modify    one {neighbours} page {page}

thermo_style    custom step pe ebond eangle edihed eimp evdwl ecoul
thermo_modify   norm no format float %.10g
run             0

# The molecule alone in vacuum, every pair counted. To go on, e.g.:
# minimize        0.0 1.0e-6 1000 10000
# velocity        all create 300.0 4928459 mom yes rot yes
# fix             1 all langevin 300.0 300.0 1000.0 48279
# fix             2 all nve
# timestep        0.5
# thermo          1000
# run             100000
{between}"""
_OWN = """\

# The Lennard-Jones parameters of the data file are those of pairs of one molecule; pairs of different molecules have
# others. For several molecules, in LAMMPS of 2023 or later, put these lines below all read_data commands. The last two
# numbers are epsilon and sigma, 1 is within a molecule, 2 between molecules. Types of a second molecule are counted on.
# pair_style hybrid/molecular lj/cut/coul/cut {cutoff!r} lj/cut/coul/cut {cutoff!r}
# pair_modify mix arithmetic"""


def texts(single: Single) -> dict[str, str]:
    """The two files of one molecule, by ending.

    Raises:
        ExportError: for a complex, where pairs of one molecule have separate parameters.
    """
    molecule, pairs = single.molecule, single.nonbonded
    if pairs.has_own and is_complex(molecule):
        raise ExportError(
            f"{molecule.name}: several molecules in one graph, and pairs of one molecule have separate parameters; "
            "format 'lammps' has one set for all pairs; formats 'system' and 'ffxml' can express that"
        )
    rows = bonded(single)
    named = styles(single, rows)
    neighbours = max(2000, molecule.n_atoms)
    script = _SCRIPT.format(
        head="\n".join(f"# {line}" for line in single.comment),
        qqr2e=QQR2E,
        coulomb=COULOMB,
        dielectric=QQR2E / COULOMB,
        cutoff=CUTOFF,
        mix=_MIX[pairs.rule or ""],
        lj14=pairs.scale_lj,
        coulomb14=pairs.scale_charge,
        styles="".join(f"{name.lower() + '_style':15} {' '.join(words)}\n" for name, words in named.items()),
        stem=STEM,
        neighbours=neighbours,
        between=_between(single),
        page=10 * neighbours,
    )
    return {".lmp": _data(single, rows, named, "; ".join(single.comment)[:_TITLE]), ".in": script}


def _kinds(single: Single) -> list[tuple[float, ...]]:
    """Of each atom, what its type has: the mass, sigma and epsilon in its molecule, and those between molecules."""
    pairs = single.nonbonded
    rows = np.column_stack([single.molecule.masses(), pairs.wells_within, pairs.wells])
    return [tuple(row) for row in rows.tolist()]


def _between(single: Single) -> str:
    """Commands, as comments, with the wells within and between molecules, where these differ."""
    if not single.nonbonded.has_own:
        return ""
    rows = []
    for n, (_, *within, sigma, epsilon) in enumerate(dict.fromkeys(_kinds(single)), 1):
        for number, (s, e) in enumerate((within, (sigma, epsilon)), 1):
            rows.append(f"# pair_coeff {n} {n} lj/cut/coul/cut {number} {e!r} {s!r}")
    return "\n".join([_OWN.format(cutoff=CUTOFF), *rows, ""])


def _data(single: Single, rows: dict[str, list[Row]], named: dict[str, list[str]], title: str) -> str:
    """The data file; its first line is free text."""
    molecule, xyz, charges = single.molecule, single.coordinates, single.nonbonded.charges
    kinds = _kinds(single)
    known = {kind: n for n, kind in enumerate(dict.fromkeys(kinds), 1)}
    types = {name: _types(category) for name, category in rows.items()}
    low, high = xyz.min(axis=0) - _MARGIN, xyz.max(axis=0) + _MARGIN
    lines = [
        title,
        "",
        f"{molecule.n_atoms} atoms",
        *(f"{len(category)} {name.lower()}s" for name, category in rows.items()),
        f"{len(known)} atom types",
        *(f"{len(every)} {name.lower()} types" for name, every in types.items()),
        *(f"{a!r} {b!r} {axis}lo {axis}hi" for a, b, axis in zip(low.tolist(), high.tolist(), "xyz", strict=True)),
        *_section("Masses", (f"{n} {mass!r}" for (mass, *_), n in known.items())),
        *_section("Pair Coeffs # lj/cut/coul/cut", (f"{n} {e!r} {s!r}" for (_, s, e, *_), n in known.items())),
    ]
    for name, (label, *_) in named.items():
        lines += _coefficients(name, types[name], label)
    places = zip(kinds, charges.tolist(), xyz.tolist(), strict=True)
    lines += _section(
        "Atoms # full",
        (f"{n} 1 {known[kind]} {q!r} {x!r} {y!r} {z!r}" for n, (kind, q, (x, y, z)) in enumerate(places, 1)),
    )
    for name, category in rows.items():
        lines += _section(
            f"{name}s", (f"{n} {types[name][row.type]} {_ids(row.atoms)}" for n, row in enumerate(category, 1))
        )
    return "\n".join(lines) + "\n"


def _types(rows: list[Row]) -> dict[tuple, int]:
    """Sets of coefficients, numbered from 1."""
    return {kind: n for n, kind in enumerate(dict.fromkeys(row.type for row in rows), 1)}


def _coefficients(name: str, types: dict[tuple, int], label: str) -> list[str]:
    """Coefficient sections; where styles are mixed, each line names its style, or `skip` if that has no such part."""
    hybrid, lines = label == "hybrid", list[str]()
    for part, title in enumerate((f"{name} Coeffs", *SECTIONS[name])):
        having = {style for style, parts in types if len(parts) > part}
        if having:
            rows = (
                " ".join([str(n), *([style] if hybrid else []), *map(repr, parts[part])])
                if style in having
                else f"{n} skip"
                for (style, parts), n in types.items()
            )
            lines += _section(f"{title} # {label}", rows)
    return lines


def _section(title: str, rows: Iterable[str]) -> list[str]:
    rows = list(rows)
    return ["", title, "", *rows] if rows else []


def _ids(atoms: tuple[int, ...]) -> str:
    return " ".join(str(a + 1) for a in atoms)
