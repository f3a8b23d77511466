"""An `MMSystem` as Amber files: `.prmtop` and `.inpcrd`.

Format: https://ambermd.org/prmtop.pdf. Written here, since the format is plain and every number then has all the nine
digits that it can have. Urey–Bradley terms make it a CHARMM-style file (`FORCE_FIELD_TYPE`), which Amber's programs
read.

Charges are written as AmberTools writes them, in units of e/18.2223, so that every program that reads the file recovers
the model's charges. Amber's own programs thereby compute with a Coulomb constant of 18.2223², which is 3.5e-5 of its
value smaller than CODATA's; see docs/exports.md, also for angles near 180°.
"""

from __future__ import annotations

import math
import string
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from espalike.chem.molecule import Molecule
from espalike.export.engine import Cell, Engine, Place, has_charges, shares_wells
from espalike.export.nonbonded import Nonbonded, pair_keys
from espalike.export.parts import Single, distinct
from espalike.export.text import labels_of, one_line, require_room, residue_starts, signed
from espalike.terms.fourier import Fourier
from espalike.terms.primitives import Charges, Harmonic, TwelveSix
from espalike.topology import Topology

Section = tuple[str, str, Sequence]
"""Flag, Fortran format, values."""

CHARGE = 18.2223
"""Factor on charges [e] in the file; its square is the Coulomb constant of Amber's programs [kcal/mol Å e⁻²]."""
_FLOATS, _INTEGERS, _SHORT, _NAMES, _LINE = "5E16.8", "10I8", "20I4", "20a4", "a80"
_WIDTHS = {_FLOATS: (5, "%16.8E"), _INTEGERS: (10, "%8s"), _SHORT: (20, "%4s"), _NAMES: (20, "%-4.4s")}
"""Values in a line, and how each is written."""
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
        (Place.VAN_DER_WAALS, TwelveSix): Cell("LENNARD_JONES; any mixing, one set for all pairs", shares_wells),
        (Place.CHARGES, Charges): Cell("CHARGE", has_charges),
    },
)
_RADII = {1: 1.2, 6: 1.7, 7: 1.55, 8: 1.5, 9: 1.5, 14: 2.1, 15: 1.85, 16: 1.8, 17: 1.7}
_SCREEN = {1: 0.85, 6: 0.72, 7: 0.79, 8: 0.85, 9: 0.88, 15: 0.86, 16: 0.96}
"""Amber's "bondi" radii [Å] and screening for implicit solvent, which every file must have; else 1.5 and 0.8."""
_REMARKED = "RADIUS_SET"
"""Section with the provenance: VMD, PyMOL and NAMD expect the format of others in the next line."""
_ORDER = [
    "TITLE", "CTITLE", "POINTERS", "FORCE_FIELD_TYPE", "ATOM_NAME", "CHARGE", "ATOMIC_NUMBER", "MASS",
    "ATOM_TYPE_INDEX", "NUMBER_EXCLUDED_ATOMS", "NONBONDED_PARM_INDEX", "RESIDUE_LABEL", "RESIDUE_POINTER",
    "BOND_FORCE_CONSTANT", "BOND_EQUIL_VALUE", "ANGLE_FORCE_CONSTANT", "ANGLE_EQUIL_VALUE",
    "DIHEDRAL_FORCE_CONSTANT", "DIHEDRAL_PERIODICITY", "DIHEDRAL_PHASE", "SCEE_SCALE_FACTOR", "SCNB_SCALE_FACTOR",
    "SOLTY", "LENNARD_JONES_ACOEF", "LENNARD_JONES_BCOEF", "BONDS_INC_HYDROGEN", "BONDS_WITHOUT_HYDROGEN",
    "ANGLES_INC_HYDROGEN", "ANGLES_WITHOUT_HYDROGEN", "DIHEDRALS_INC_HYDROGEN", "DIHEDRALS_WITHOUT_HYDROGEN",
    "EXCLUDED_ATOMS_LIST", "HBOND_ACOEF", "HBOND_BCOEF", "HBCUT", "AMBER_ATOM_TYPE", "TREE_CHAIN_CLASSIFICATION",
    "JOIN_ARRAY", "IROTAT", "RADIUS_SET", "RADII", "SCREEN",
]  # fmt: skip
"""Order of sections in tleap's files: NAMD reads them in this order only. Others are at the end."""
_SIGNS = string.ascii_letters + string.digits
"""Signs of the names of atom types."""
_SMALLEST_SCALE = 1e-12
"""1-4 factors stand in the file as divisors; a factor of 0 becomes this one."""


def texts(single: Single) -> dict[str, str]:
    """The two files of one molecule, by ending."""
    molecule, pairs = single.molecule, single.nonbonded
    rows = _interactions(single)
    charmm = len(rows["CHARMM_UREY_BRADLEY"].kind) > 0
    title = one_line(molecule.name)[:60]
    sections = [
        *_atoms(single),
        *_parameters(rows, pairs, charmm),
        *_wells(pairs, charmm),
        *_lists(molecule, rows, charmm),
    ]
    pointers = _pointers({flag: values for flag, _, values in sections}, molecule.n_atoms)
    head: list[Section] = [("CTITLE" if charmm else "TITLE", _LINE, [title]), ("POINTERS", _INTEGERS, pointers)]
    if charmm:
        head.append(("FORCE_FIELD_TYPE", "i2,a78", [" 1CHARMM functional form, parameters by espalike"]))
    lines = ["%VERSION  VERSION_STAMP = V0001.000  DATE = 01/01/00  00:00:00"]  # no clock: equal input, equal file
    place = {flag: n for n, flag in enumerate(_ORDER)}
    for section in sorted(head + sections, key=lambda section: place.get(section[0], len(place))):
        lines += _text(section, single.comment if section[0] == _REMARKED else [])
    return {".prmtop": "\n".join([*lines, ""]), ".inpcrd": _inpcrd(title, molecule.name, single.coordinates)}


@dataclass(frozen=True, eq=False)
class _Rows:
    """Interactions of one bonded form.

    Attributes:
        atoms: as the file writes them, shape `(R, k)`.
        kind: number of each one's parameters, from 0, shape `(R,)`.
        kinds: distinct parameters in the order of `_COLUMNS`, in the order of their first rows, shape `(K, P)`.
    """

    atoms: np.ndarray
    kind: np.ndarray
    kinds: np.ndarray

    @staticmethod
    def of(name: str, parts: list[tuple[np.ndarray, np.ndarray]]) -> _Rows:
        """Rows of atoms and of parameters, one after the other."""
        width = 4 if name == "DIHEDRAL" else 3 if name == "ANGLE" else 2
        atoms = np.concatenate([np.zeros((0, width), dtype=np.int64), *(a for a, _ in parts)])
        values = np.concatenate([np.zeros((0, len(_COLUMNS[name]))), *(v for _, v in parts)])
        first, kind = distinct(values)
        return _Rows(atoms, kind, values[first])


def _interactions(single: Single) -> dict[str, _Rows]:
    """Rows of all bonded parts; k (q − q₀)² in Amber, and a row without energy for every bond without a term."""
    rows: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in _COLUMNS}
    for part in single.parts:
        if isinstance(part.primitive, Harmonic):
            name, ends = _HARMONIC[part.place], part.idx[:, part.coordinates[0].atoms]
            values = np.stack(part.columns(0.5 * part.primitive.k, part.primitive.q0), axis=1)
            rows[name].append((ends + 1 if part.place == Place.ACROSS else 3 * ends, values))
    bare = single.bonds_without(Place.BOND)
    rows["BOND"].append((3 * bare, np.tile([0.0, 1.0], (len(bare), 1))))
    rows["DIHEDRAL"] = _dihedrals(single)
    return {name: _Rows.of(name, parts) for name, parts in rows.items()}


def _dihedrals(single: Single) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows of propers and impropers. A 1-4 pair is scaled where a row carries it: the first, or one without energy."""
    waiting, rows = pair_keys(single.topology.pairs14, single.molecule.n_atoms), []
    for part in single.parts:
        if not isinstance(part.primitive, Fourier):
            continue
        improper = part.place == Place.IMPROPER
        atoms, waves = part.dihedrals
        carries = np.zeros(len(atoms), dtype=bool)
        if not improper:
            keys, first = np.unique(pair_keys(atoms[:, [0, 3]], single.molecule.n_atoms), return_index=True)
            carries[first[np.isin(keys, waiting)]] = True
            waiting = np.setdiff1d(waiting, keys)
        rows.append((_signed(atoms, carries, improper), np.stack([waves.k, waves.n, waves.phase], axis=1)))
    ends = np.stack(np.divmod(waiting, single.molecule.n_atoms), axis=1)
    atoms = np.array([(i, *_between(single.topology, i, j), j) for i, j in ends.tolist()], dtype=np.int64)
    bare = np.tile([0.0, 1.0, 0.0], (len(ends), 1))
    return [*rows, (_signed(atoms.reshape(-1, 4), np.ones(len(ends), dtype=bool), False), bare)]


def _signed(atoms: np.ndarray, carries: np.ndarray, improper: bool) -> np.ndarray:
    """Atoms as Amber writes them: a negative third one carries no 1-4 pair, a negative fourth one is an improper."""
    zero = (atoms[:, 2:] == 0).any(axis=1)  # zero has no sign
    signed = 3 * np.where(zero[:, None], atoms[:, ::-1], atoms)
    signed[~carries, 2] *= -1
    signed[:, 3] *= -1 if improper else 1
    return signed


def _between(graph: Topology, i: int, j: int) -> tuple[int, int]:
    """The two atoms on a path of three bonds."""

    def near(atom: int) -> list[int]:
        return graph.target[graph.starts[atom] : graph.starts[atom + 1]].tolist()

    last = near(j)
    paths = [(a, b) for a in near(i) for b in near(a) if b in last]
    return min(paths, key=lambda path: (path[0] > path[1], sorted(path)))


def _atoms(single: Single) -> list[Section]:
    """Sections of one row per atom, and the exclusions."""
    molecule, pairs, graph = single.molecule, single.nonbonded, single.topology
    kinds, _, kind = _kinds(pairs)
    n = len(kinds)
    i, j = np.divmod(np.arange(n * n), n)
    low, high = np.minimum(i, j), np.maximum(i, j)
    keys = pair_keys(np.concatenate([graph.excluded, graph.pairs14]), molecule.n_atoms)
    first, second = np.divmod(np.sort(keys), molecule.n_atoms)
    alone = np.setdiff1d(np.arange(molecule.n_atoms), first)  # an atom without exclusions lists one of number 0
    order = np.argsort(np.concatenate([first, alone]), kind="stable")
    excluded = np.concatenate([second + 1, np.zeros_like(alone)])[order]
    counts = np.maximum(np.bincount(first, minlength=molecule.n_atoms), 1)
    labels = labels_of(molecule, 4)
    starts = residue_starts(labels)
    return [
        ("ATOM_NAME", _NAMES, [label.name for label in labels]),
        ("CHARGE", _FLOATS, (pairs.charges * CHARGE).tolist()),
        ("ATOMIC_NUMBER", _INTEGERS, molecule.numbers.tolist()),
        ("MASS", _FLOATS, molecule.masses()),
        ("ATOM_TYPE_INDEX", _INTEGERS, (kind + 1).tolist()),
        ("NUMBER_EXCLUDED_ATOMS", _INTEGERS, counts.tolist()),
        ("EXCLUDED_ATOMS_LIST", _INTEGERS, excluded.tolist()),
        ("NONBONDED_PARM_INDEX", _INTEGERS, (high * (high + 1) // 2 + low + 1).tolist()),
        ("RESIDUE_LABEL", _NAMES, [labels[atom].residue[:4] for atom in starts]),
        ("RESIDUE_POINTER", _INTEGERS, [atom + 1 for atom in starts]),
        *_numbered(molecule, starts),
        ("AMBER_ATOM_TYPE", _NAMES, _type_names(single)),
        ("TREE_CHAIN_CLASSIFICATION", _NAMES, ["BLA"] * molecule.n_atoms),
        (_REMARKED, _LINE, ["Bondi radii (bondi)"]),
        ("RADII", _FLOATS, [_RADII.get(number, 1.5) for number in molecule.numbers.tolist()]),
        ("SCREEN", _FLOATS, [_SCREEN.get(number, 0.8) for number in molecule.numbers.tolist()]),
        ("JOIN_ARRAY", _INTEGERS, [0] * molecule.n_atoms),
        ("IROTAT", _INTEGERS, [0] * molecule.n_atoms),
    ]


def _numbered(molecule: Molecule, starts: list[int]) -> list[Section]:
    """Number, chain and insertion code of the residues of an input that has several, in the sections of ParmEd."""
    labels = [molecule.labels[atom] for atom in starts if molecule.labels]
    if not all(-1000 < label.number < 10000 for label in labels) or not labels:  # four characters
        return []
    sections: list[Section] = [("RESIDUE_NUMBER", _SHORT, [label.number for label in labels])]
    if all(label.chain for label in labels):  # ParmEd does not count blank ones at the end of a line
        sections.append(("RESIDUE_CHAINID", _NAMES, [label.chain[:4] for label in labels]))
    return [*sections, ("RESIDUE_ICODE", _NAMES, [label.insertion[:4] for label in labels])]


def _type_names(single: Single) -> list[str]:
    """Names of atom types, one per atom: a letter and three letters or digits, counted from a hash of the parameters.

    Programs that write other formats join types by name, those of other molecules and force fields too.
    """
    start = int(single.name[1:], 16)
    names = []
    for number in range(start, start + single.molecule.n_atoms):
        rest, places = number, ""
        for base in (_SIGNS, _SIGNS, _SIGNS, _SIGNS[:52]):
            rest, place = divmod(rest, len(base))
            places = base[place] + places
        names.append(places)
    return names


@lru_cache(maxsize=1)  # of the same molecule, for its atoms and its wells
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


def _parameters(rows: dict[str, _Rows], pairs: Nonbonded, charmm: bool) -> list[Section]:
    """Distinct parameters of each bonded form, and the 1-4 divisors, one per dihedral."""
    sections: list[Section] = []
    for name, columns in _COLUMNS.items():
        if charmm or not name.startswith("CHARMM"):
            values = rows[name].kinds.T.tolist()
            sections += [(f"{name}_{column}", _FLOATS, list(v)) for column, v in zip(columns, values, strict=True)]
    n = len(rows["DIHEDRAL"].kinds)
    sections.append(("SCEE_SCALE_FACTOR", _FLOATS, [1.0 / max(pairs.scale_charge, _SMALLEST_SCALE)] * n))
    sections.append(("SCNB_SCALE_FACTOR", _FLOATS, [1.0 / max(pairs.scale_lj, _SMALLEST_SCALE)] * n))
    sections.append(("SOLTY", _FLOATS, [0.0]))
    return [*sections, *((flag, _FLOATS, []) for flag in ("HBOND_ACOEF", "HBOND_BCOEF", "HBCUT"))]


def _lists(molecule: Molecule, rows: dict[str, _Rows], charmm: bool) -> list[Section]:
    """Atoms and parameter number of every row; Amber lists those with a hydrogen separately."""
    sections: list[Section] = []
    for name in ("BOND", "ANGLE", "DIHEDRAL"):
        hydrogen = (molecule.numbers[abs(rows[name].atoms) // 3] == 1).any(axis=1)
        numbered = np.column_stack([rows[name].atoms, rows[name].kind + 1])
        for half, chosen in (("INC", hydrogen), ("WITHOUT", ~hydrogen)):
            sections.append((f"{name}S_{half}_HYDROGEN", _INTEGERS, numbered[chosen].ravel().tolist()))
    if not charmm:
        return sections
    across = rows["CHARMM_UREY_BRADLEY"]
    numbered = np.column_stack([across.atoms, across.kind + 1])
    return [
        *sections,
        ("CHARMM_UREY_BRADLEY_COUNT", "2I8", [len(across.kind), len(across.kinds)]),
        ("CHARMM_UREY_BRADLEY", _INTEGERS, numbered.ravel().tolist()),
        ("CHARMM_NUM_IMPROPERS", _INTEGERS, [0]),  # ours are periodic: they stand among the dihedrals
        ("CHARMM_IMPROPERS", _INTEGERS, []),
        ("CHARMM_NUM_IMPR_TYPES", "I8", [0]),
        ("CHARMM_IMPROPER_FORCE_CONSTANT", _FLOATS, []),
        ("CHARMM_IMPROPER_PHASE", _FLOATS, []),
    ]


def _pointers(sections: dict[str, Sequence], n_atoms: int) -> list[int]:
    """The numbers that begin the file."""
    size = {flag: len(values) for flag, values in sections.items()}

    def rows(name: str, width: int) -> tuple[int, int]:
        return size[f"{name}_INC_HYDROGEN"] // width, size[f"{name}_WITHOUT_HYDROGEN"] // width

    (bonds_h, bonds), (angles_h, angles), (dihedrals_h, dihedrals) = (
        rows("BONDS", 3),
        rows("ANGLES", 4),
        rows("DIHEDRALS", 5),
    )
    n_kinds, largest = (
        math.isqrt(size["NONBONDED_PARM_INDEX"]),
        int(np.diff([*sections["RESIDUE_POINTER"], n_atoms + 1]).max()),
    )
    return [
        *(n_atoms, n_kinds, bonds_h, bonds, angles_h, angles, dihedrals_h, dihedrals, 0, 0),
        *(size["EXCLUDED_ATOMS_LIST"], size["RESIDUE_LABEL"], bonds, angles, dihedrals, size["BOND_FORCE_CONSTANT"]),
        *(size["ANGLE_FORCE_CONSTANT"], size["DIHEDRAL_FORCE_CONSTANT"], 1, 0),
        *(0, 0, 0, 0, 0, 0, 0, 0, largest, 0, 0),
    ]


def _text(section: Section, remarks: Sequence[str]) -> list[str]:
    flag, form, values = section
    remarks = [line for remark in remarks for line in textwrap.wrap(remark, 68)]
    lines = [f"%FLAG {flag}", *(f"%COMMENT {line}" for line in remarks), f"%FORMAT({form})"]
    count, write = _WIDTHS.get(form, (10, "%8s" if form.endswith("I8") else "%s"))
    full = len(values) // count * count
    text = (f"{write * count}\n" * (full // count) + write * (len(values) - full)) % tuple(values)
    return [*lines, text.removesuffix("\n")]  # an empty section has an empty line


def _inpcrd(title: str, name: str, xyz: np.ndarray) -> str:
    require_room(xyz, 12, 7, f"{name}: coordinates [Å] of the .inpcrd")
    numbers = [f"{x:12.7f}" for x in xyz.ravel().tolist()]
    rows = ["".join(numbers[n : n + 6]) for n in range(0, len(numbers), 6)]
    return "\n".join([signed(title), f"{len(xyz):6d}", *rows, ""])
