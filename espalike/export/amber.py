"""An `MMSystem` as Amber files: `.prmtop` and `.inpcrd`.

Format: https://ambermd.org/prmtop.pdf. Written here, since the format is plain and every number then has all the nine
digits that it can have. Urey–Bradley terms make it a CHARMM-style file (`FORCE_FIELD_TYPE`), which Amber's programs
read.

Charges are written as AmberTools writes them, in units of e/18.2223, so that every program that reads the file recovers
the model's charges. Amber's own programs thereby compute with a Coulomb constant of 18.2223², which is 3.5e-5 of its
value smaller than CODATA's; see docs/exports.md, also for angles near 180°.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Sequence

import numpy as np

from espalike.chem.molecule import Molecule
from espalike.export.engine import Cell, Engine, Place, has_charges
from espalike.export.parts import Nonbonded, Single, atom_names, one_line, residue_name
from espalike.terms.fourier import Fourier
from espalike.terms.primitives import Charges, Harmonic, TwelveSix

Row = tuple[tuple[int, ...], tuple[float, ...]]
"""Atoms as the file writes them, and parameters in the order of `_COLUMNS`."""
Section = tuple[str, str, Sequence]
"""Flag, Fortran format, values."""

CHARGE = 18.2223
"""Factor on charges [e] in the file; its square is the Coulomb constant of Amber's programs [kcal/mol Å e⁻²]."""
_FLOATS, _INTEGERS, _NAMES, _LINE = "5E16.8", "10I8", "20a4", "a80"
_COLUMNS = {
    "BOND": ("FORCE_CONSTANT", "EQUIL_VALUE"),
    "ANGLE": ("FORCE_CONSTANT", "EQUIL_VALUE"),
    "CHARMM_UREY_BRADLEY": ("FORCE_CONSTANT", "EQUIL_VALUE"),
    "DIHEDRAL": ("FORCE_CONSTANT", "PERIODICITY", "PHASE"),
}
_HARMONIC = {Place.BOND: "BOND", Place.ANGLE: "ANGLE", Place.ACROSS: "CHARMM_UREY_BRADLEY"}
ENGINE = Engine(
    "amber",
    {(place, Harmonic): Cell(flag) for place, flag in _HARMONIC.items()}
    | {
        (Place.PROPER, Fourier): Cell("DIHEDRAL"),
        (Place.IMPROPER, Fourier): Cell("DIHEDRAL"),
        (Place.VAN_DER_WAALS, TwelveSix): Cell("LENNARD_JONES; any mixing"),
        (Place.CHARGES, Charges): Cell("CHARGE", has_charges),
    },
)
_RADII = {1: 1.2, 6: 1.7, 7: 1.55, 8: 1.5, 9: 1.5, 14: 2.1, 15: 1.85, 16: 1.8, 17: 1.7}
_SCREEN = {1: 0.85, 6: 0.72, 7: 0.79, 8: 0.85, 9: 0.88, 15: 0.86, 16: 0.96}
"""Amber's "bondi" radii [Å] and screening for implicit solvent, which every file must have; else 1.5 and 0.8."""
_SMALLEST_SCALE = 1e-12
"""1-4 factors stand in the file as divisors; a factor of 0 becomes this one."""


def texts(single: Single) -> dict[str, str]:
    """The two files of one molecule, by ending."""
    molecule, pairs = single.molecule, single.nonbonded
    rows = _harmonic(single) | {"DIHEDRAL": _dihedrals(single)}
    kinds = {name: list(dict.fromkeys(parameters for _, parameters in every)) for name, every in rows.items()}
    charmm = bool(rows["CHARMM_UREY_BRADLEY"])
    title = one_line(molecule.name)[:72]
    sections = [
        *_atoms(single),
        *_parameters(kinds, pairs, charmm),
        *_wells(pairs, charmm),
        *_lists(molecule, rows, kinds, charmm),
    ]
    pointers = _pointers({flag: len(values) for flag, _, values in sections}, molecule)
    head: list[Section] = [("CTITLE" if charmm else "TITLE", _LINE, [title]), ("POINTERS", _INTEGERS, pointers)]
    if charmm:
        head.append(("FORCE_FIELD_TYPE", "i2,a78", [" 1CHARMM functional form, parameters by espalike"]))
    lines = ["%VERSION  VERSION_STAMP = V0001.000  DATE = 01/01/00  00:00:00"]  # no clock: equal input, equal file
    for n, section in enumerate(head + sections):
        lines += _text(section, single.comment if n == 0 else [])
    return {".prmtop": "\n".join([*lines, ""]), ".inpcrd": _inpcrd(title, single.coordinates)}


def _harmonic(single: Single) -> dict[str, list[Row]]:
    """Rows of the harmonic parts, k (q − q₀)² in Amber, and a row without energy for every other bond."""
    rows: dict[str, list[Row]] = {name: [] for name in _HARMONIC.values()}
    for part in single.parts:
        if isinstance(part.primitive, Harmonic):
            name, ends = _HARMONIC[part.place], part.coordinates[0].atoms
            for atoms, values in zip(part.atoms, part.rows(0.5 * part.primitive.k, part.primitive.q0), strict=True):
                written = tuple(atoms[a] + 1 if part.place == Place.ACROSS else 3 * atoms[a] for a in ends)
                rows[name].append((written, values))
    rows["BOND"] += [((3 * i, 3 * j), (0.0, 1.0)) for i, j in single.bonds_without(Place.BOND)]
    return rows


def _dihedrals(single: Single) -> list[Row]:
    """Rows of propers and impropers. A 1-4 pair is scaled where a row carries it: the first, or one without energy."""
    graph = single.topology
    waiting = {(i, j) for i, j in graph.pairs[graph.is14].tolist()}
    rows: list[Row] = []
    for part in single.parts:
        if not isinstance(part.primitive, Fourier):
            continue
        improper = part.place == Place.IMPROPER
        for atoms, series in zip(part.atoms, part.series(), strict=True):
            for dihedral, (n, phase, k) in itertools.product(part.coordinates, series):
                four = tuple(atoms[a] for a in dihedral.atoms)
                ends = (min(four[0], four[3]), max(four[0], four[3]))
                carries = not improper and ends in waiting
                waiting -= {ends} if carries else set()
                rows.append((_signed(four, carries, improper), (k, float(n), phase)))
    for i, j in sorted(waiting):
        rows.append((_signed((i, *_between(single.molecule, i, j), j), True, False), (0.0, 1.0, 0.0)))
    return rows


def _signed(atoms: tuple[int, ...], carries: bool, improper: bool) -> tuple[int, ...]:
    """Atoms as Amber writes them: a negative third one carries no 1-4 pair, a negative fourth one is an improper."""
    i, j, k, l = atoms if 0 not in atoms[2:] else atoms[::-1]  # noqa: E741 - and zero has no sign
    return 3 * i, 3 * j, 3 * k if carries else -3 * k, -3 * l if improper else 3 * l


def _between(molecule: Molecule, i: int, j: int) -> tuple[int, int]:
    """The two atoms on a path of three bonds."""
    bonds = molecule.bonds.tolist()
    bonds += [bond[::-1] for bond in bonds]
    first, last = {b for a, b in bonds if a == i}, {b for a, b in bonds if a == j}
    return next((a, b) for a, b in bonds if a in first and b in last)


def _atoms(single: Single) -> list[Section]:
    """Sections of one row per atom, and the exclusions."""
    molecule, pairs, graph = single.molecule, single.nonbonded, single.topology
    kinds, _, kind = _kinds(pairs)
    n = len(kinds)
    i, j = np.divmod(np.arange(n * n), n)
    low, high = np.minimum(i, j), np.maximum(i, j)
    free = np.zeros((molecule.n_atoms, molecule.n_atoms), dtype=bool)
    beyond = graph.pairs[~graph.is14]
    free[beyond[:, 0], beyond[:, 1]] = True
    excluded = [(np.flatnonzero(~row[a + 1 :]) + a + 2).tolist() or [0] for a, row in enumerate(free)]
    return [
        ("ATOM_NAME", _NAMES, atom_names(molecule, 4)),
        ("CHARGE", _FLOATS, (pairs.charges * CHARGE).tolist()),
        ("ATOMIC_NUMBER", _INTEGERS, molecule.numbers.tolist()),
        ("MASS", _FLOATS, molecule.masses()),
        ("ATOM_TYPE_INDEX", _INTEGERS, (kind + 1).tolist()),
        ("NUMBER_EXCLUDED_ATOMS", _INTEGERS, [len(atoms) for atoms in excluded]),
        ("EXCLUDED_ATOMS_LIST", _INTEGERS, list(itertools.chain(*excluded))),
        ("NONBONDED_PARM_INDEX", _INTEGERS, (high * (high + 1) // 2 + low + 1).tolist()),
        ("RESIDUE_LABEL", _NAMES, [residue_name(molecule)]),
        ("RESIDUE_POINTER", _INTEGERS, [1]),
        ("AMBER_ATOM_TYPE", _NAMES, atom_names(molecule, 4)),
        ("TREE_CHAIN_CLASSIFICATION", _NAMES, ["BLA"] * molecule.n_atoms),
        ("RADIUS_SET", _LINE, ["Bondi radii (bondi)"]),
        ("RADII", _FLOATS, [_RADII.get(number, 1.5) for number in molecule.numbers.tolist()]),
        ("SCREEN", _FLOATS, [_SCREEN.get(number, 0.8) for number in molecule.numbers.tolist()]),
        ("JOIN_ARRAY", _INTEGERS, [0] * molecule.n_atoms),
        ("IROTAT", _INTEGERS, [0] * molecule.n_atoms),
    ]


def _kinds(pairs: Nonbonded) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct Lennard-Jones parameters, an atom that has each, and each atom's kind."""
    kinds, atoms, kind = np.unique(pairs.wells, axis=0, return_index=True, return_inverse=True)
    return kinds, atoms, kind.ravel()


def _wells(pairs: Nonbonded, charmm: bool) -> list[Section]:
    """A/r¹² − B/r⁶ of each two kinds of atoms: a table, so that any mixing rule fits."""
    _, atoms, _ = _kinds(pairs)
    i, j = np.tril_indices(len(atoms))
    sigma, epsilon = pairs.pairs(np.stack([atoms[i], atoms[j]], axis=1)).T
    tables = [("ACOEF", (4.0 * epsilon * sigma**12).tolist()), ("BCOEF", (4.0 * epsilon * sigma**6).tolist())]
    stems = ("LENNARD_JONES_", "LENNARD_JONES_14_") if charmm else ("LENNARD_JONES_",)
    return [(stem + name, _FLOATS, values) for stem in stems for name, values in tables]


def _parameters(kinds: dict[str, list[tuple[float, ...]]], pairs: Nonbonded, charmm: bool) -> list[Section]:
    """Distinct parameters of each bonded form, and the 1-4 divisors, one per dihedral."""
    sections: list[Section] = []
    for name, columns in _COLUMNS.items():
        if charmm or not name.startswith("CHARMM"):
            values = [list(column) for column in zip(*kinds[name], strict=True)] or [[] for _ in columns]
            sections += [(f"{name}_{column}", _FLOATS, rows) for column, rows in zip(columns, values, strict=True)]
    n = len(kinds["DIHEDRAL"])
    sections.append(("SCEE_SCALE_FACTOR", _FLOATS, [1.0 / max(pairs.scale_charge, _SMALLEST_SCALE)] * n))
    sections.append(("SCNB_SCALE_FACTOR", _FLOATS, [1.0 / max(pairs.scale_lj, _SMALLEST_SCALE)] * n))
    sections.append(("SOLTY", _FLOATS, [0.0]))
    return [*sections, *((flag, _FLOATS, []) for flag in ("HBOND_ACOEF", "HBOND_BCOEF", "HBCUT"))]


def _lists(molecule: Molecule, rows: dict[str, list[Row]], kinds: dict[str, list], charmm: bool) -> list[Section]:
    """Atoms and parameter number of every row; Amber lists those with a hydrogen separately."""
    sections: list[Section] = []
    for name in ("BOND", "ANGLE", "DIHEDRAL"):
        number = {parameters: n for n, parameters in enumerate(kinds[name], 1)}
        halves: tuple[list[int], list[int]] = ([], [])
        for atoms, parameters in rows[name]:
            hydrogen = any(molecule.numbers[abs(a) // 3] == 1 for a in atoms)
            halves[not hydrogen].extend([*atoms, number[parameters]])
        for half, numbers in zip(("INC", "WITHOUT"), halves, strict=True):
            sections.append((f"{name}S_{half}_HYDROGEN", _INTEGERS, numbers))
    if not charmm:
        return sections
    number = {parameters: n for n, parameters in enumerate(kinds["CHARMM_UREY_BRADLEY"], 1)}
    across = [n for atoms, parameters in rows["CHARMM_UREY_BRADLEY"] for n in (*atoms, number[parameters])]
    return [
        *sections,
        ("CHARMM_UREY_BRADLEY_COUNT", "2I8", [len(rows["CHARMM_UREY_BRADLEY"]), len(number)]),
        ("CHARMM_UREY_BRADLEY", _INTEGERS, across),
        ("CHARMM_NUM_IMPROPERS", _INTEGERS, [0]),  # ours are periodic: they stand among the dihedrals
        ("CHARMM_IMPROPERS", _INTEGERS, []),
        ("CHARMM_NUM_IMPR_TYPES", "I8", [0]),
        ("CHARMM_IMPROPER_FORCE_CONSTANT", _FLOATS, []),
        ("CHARMM_IMPROPER_PHASE", _FLOATS, []),
    ]


def _pointers(size: dict[str, int], molecule: Molecule) -> list[int]:
    """The numbers that begin the file, from the lengths of its sections."""

    def rows(name: str, width: int) -> tuple[int, int]:
        return size[f"{name}_INC_HYDROGEN"] // width, size[f"{name}_WITHOUT_HYDROGEN"] // width

    (bonds_h, bonds), (angles_h, angles), (dihedrals_h, dihedrals) = (
        rows("BONDS", 3),
        rows("ANGLES", 4),
        rows("DIHEDRALS", 5),
    )
    n_atoms, n_kinds = molecule.n_atoms, math.isqrt(size["NONBONDED_PARM_INDEX"])
    return [
        *(n_atoms, n_kinds, bonds_h, bonds, angles_h, angles, dihedrals_h, dihedrals, 0, 0),
        *(size["EXCLUDED_ATOMS_LIST"], 1, bonds, angles, dihedrals, size["BOND_FORCE_CONSTANT"]),
        *(size["ANGLE_FORCE_CONSTANT"], size["DIHEDRAL_FORCE_CONSTANT"], 1, 0),
        *(0, 0, 0, 0, 0, 0, 0, 0, n_atoms, 0, 0),
    ]


def _text(section: Section, remarks: Sequence[str]) -> list[str]:
    flag, form, values = section
    remarks = [line for remark in remarks for line in textwrap.wrap(remark, 68)]
    lines = [f"%FLAG {flag}", *(f"%COMMENT {line}" for line in remarks), f"%FORMAT({form})"]
    count, write = {
        _FLOATS: (5, "{:16.8E}".format),
        _INTEGERS: (10, "{:8d}".format),
        _NAMES: (20, "{:<4.4}".format),
    }.get(form, (10, "{:8d}".format if form.endswith("I8") else str))
    chunks = [values[n : n + count] for n in range(0, len(values), count)] or [[]]  # an empty section has an empty line
    return [*lines, *("".join(write(value) for value in chunk) for chunk in chunks)]


def _inpcrd(title: str, xyz: np.ndarray) -> str:
    numbers = [f"{x:12.7f}" for x in xyz.ravel()]
    rows = ["".join(numbers[n : n + 6]) for n in range(0, len(numbers), 6)]
    return "\n".join([title, f"{len(xyz):6d}", *rows, ""])
