"""Atoms and explicit bonds of PDB and mmCIF files: the first model, the first alternative location of each atom.

PDB format: https://www.wwpdb.org/documentation/file-format (version 3.3), with hybrid-36 and hexadecimal serial numbers
as text. mmCIF is read by OpenMM's reader.
"""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from rdkit import Chem

from espalike.chem.errors import ChemistryError
from espalike.tables import counted

_SYMBOLS = {Chem.GetPeriodicTable().GetElementSymbol(z).upper(): z for z in range(1, 104)}
_IONS = {
    "SOD": "NA", "CLA": "CL", "POT": "K", "CAL": "CA", "CES": "CS", "LIT": "LI", "RUB": "RB", "BAR": "BA", "CAD": "CD",
}  # fmt: skip
"""Symbols of ions by CHARMM's names."""
_COVALENT = re.compile("covale.*|disulf|modres")
"""Kinds of `struct_conn` that are bonds, in lower case; the others are contacts, and bonds to metals."""
_NEAREST = 1.0
"""Heavy atoms that are nearer [Å] are one at two locations; the shortest bond between two is 1.10 Å long."""


@dataclass(frozen=True)
class Residue:
    """A residue of a file.

    Attributes:
        part: number of its chain by TER and END records and by residues that come again, so that chains without
            letters are told apart.
        chain: letter of its chain.
        number: its number with its insertion code, as text.
        name: its name.
    """

    part: int
    chain: str
    number: str
    name: str

    def __str__(self) -> str:
        return f"{self.name} {self.number}" + (f" of chain {self.chain}" if self.chain else "")


@dataclass(frozen=True)
class Atom:
    """An atom of a file.

    Attributes:
        name: its name, without blanks.
        number: atomic number; 0 if the file does not say it.
        isotope: mass number of deuterium, else 0.
        residue: its residue.
        xyz: coordinates [Å].
    """

    name: str
    number: int
    isotope: int
    residue: Residue
    xyz: tuple[float, float, float]


_Row = tuple[str, str, Atom]
"""Serial number and letter of the alternative location of an atom, and the atom."""


@dataclass(frozen=True)
class Structure:
    """Atoms and explicit bonds of a file.

    Attributes:
        atoms: the atoms.
        bonds: pairs of atoms that the file says are bonded, `i < j`.
        notes: remarks on what was left out or derived.
    """

    atoms: tuple[Atom, ...]
    bonds: frozenset[tuple[int, int]]
    notes: tuple[str, ...]


def read_pdb(text: str) -> Structure:
    """The atoms of a PDB file, with the bonds of its CONECT records.

    Raises:
        ChemistryError: for a line that cannot be read, by its number, or a file without atoms.
    """
    rows: list[_Row] = []
    derived, part, models = list[int](), 0, 0
    seen: set[tuple[Residue, str, str]] = set()
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        record = line[:6].strip()
        models += record == "MODEL"
        part += record in ("TER", "END", "ENDMDL")
        if record not in ("ATOM", "HETATM") or models > 1:
            continue
        xyz = _coordinates([line[30:38], line[38:46], line[46:54]])
        if xyz is None:
            raise ChemistryError(f"line {number}: expected coordinates in columns 31 to 54, got {line[30:54]!r}")
        symbol = line[76:78].strip().upper()
        known = symbol in _SYMBOLS or symbol == "D"
        derived += [] if known else [len(rows)]
        z, isotope = _element(symbol if known else _symbol_by_columns(line[12:16]))
        name, where = line[12:16].strip(), (line[21].strip(), line[22:27].strip(), line[17:21].strip())
        residue = Residue(part, *where)
        if rows and rows[-1][2].residue != residue and (residue, name, line[16]) in seen:  # another chain has begun
            part += 1
            residue = Residue(part, *where)
        seen.add((residue, name, line[16]))
        rows.append((line[6:11], line[16], Atom(name, z, isotope, residue, xyz)))
    if not rows:
        raise ChemistryError("holds no atoms; expected ATOM or HETATM lines")
    notes = []
    if derived:
        rows = _with_ions(rows, derived)
        many = counted(len(derived), "atom")
        notes.append(f"elements of {many}, which the PDB does not name, are derived from columns 13-14")
    if models > 1:
        notes.append(f"the first of {models} models is read")
    rows, more = _one_location(rows)
    bonds, odd = _connected([serial for serial, _, _ in rows], lines)
    return Structure(tuple(atom for _, _, atom in rows), bonds, (*notes, *more, *odd))


def _coordinates(words: Iterable[str]) -> tuple[float, float, float] | None:
    """Three numbers; None where one is none, or not finite."""
    try:
        x, y, z = map(float, words)
    except ValueError:
        return None
    return (x, y, z) if np.isfinite([x, y, z]).all() else None


def _symbol_by_columns(name: str) -> str:
    """Element of an atom name of four columns: the symbol ends in the second, except in names of hydrogens.

    ` CA ` is carbon, `CA  ` calcium; `HG21` and `1HB ` are hydrogens.
    """
    letters = name.upper()
    if len(letters.strip()) == 4 and letters[0] in "HD":
        return letters[0]
    first = letters[:2].strip().lstrip("0123456789")
    if first in _SYMBOLS or first == "D":
        return first
    return next((letter for letter in letters if letter.isalpha()), "")


def _with_ions(rows: list[_Row], derived: Iterable[int]) -> list[_Row]:
    """The rows, in which the elements of ions are those of their names; `derived` are rows without an element.

    An ion has the name of its residue and is alone there; where names begin in column 14, ` NA ` is sodium then.
    """
    names: dict[Residue, set[str]] = {}
    for _, _, atom in rows:
        names.setdefault(atom.residue, set()).add(atom.name)
    rows = list(rows)
    for n in derived:
        serial, letter, atom = rows[n]
        symbol = _ion(atom.name)
        if symbol in _SYMBOLS and symbol == _ion(atom.residue.name) and len(names[atom.residue]) == 1:
            rows[n] = serial, letter, replace(atom, number=_SYMBOLS[symbol], isotope=0)
    return rows


def _ion(name: str) -> str:
    """The symbol that the name of an ion means: NA, Na+, SOD."""
    bare = name.upper().rstrip("0123456789+-")
    return _IONS.get(bare, bare)


def _element(symbol: str) -> tuple[int, int]:
    return (1, 2) if symbol == "D" else (_SYMBOLS.get(symbol, 0), 0)


def _one_location(rows: list[_Row]) -> tuple[list[_Row], tuple[str, ...]]:
    """The rows of one location per residue: those without a letter, and those of the letter that comes first.

    Groups of a residue may be disordered separately: a letter is kept, too, if its heavy atoms have other names than
    those of the letters before it, and none of them is in the place of another one.
    """
    found: dict[tuple[int, str, str], dict[tuple[str, str], list[Atom]]] = {}
    for _, letter, atom in rows:
        if letter.strip():
            residue = atom.residue
            letters = found.setdefault((residue.part, residue.chain, residue.number), {})
            letters.setdefault((residue.name, letter), []).extend([atom] if atom.number != 1 else [])
    if not found:
        return rows, ()
    kept = {place: _together(letters) for place, letters in found.items()}
    chosen = []
    for row in rows:
        residue = row[2].residue
        if not row[1].strip() or (residue.name, row[1]) in kept[residue.part, residue.chain, residue.number]:
            chosen.append(row)
    left = len(rows) - len(chosen)
    return chosen, (f"{counted(left, 'atom')} of other alternative locations left out",) if left else ()


def _together(letters: Mapping[tuple[str, str], list[Atom]]) -> set[tuple[str, str]]:
    """The first of some locations, by name of the residue and letter, and those of other groups of the residue."""
    (first, before), *others = letters.items()
    kept, taken = {first}, list(before)
    for location, atoms in others:
        if location[0] == first[0] and atoms and not any(_same_place(a, b) for a in atoms for b in taken):
            kept.add(location)
            taken += atoms
    return kept


def _same_place(first: Atom, second: Atom) -> bool:
    """Whether two heavy atoms are one at two locations: by name, or nearer than any bond is long."""
    return first.name == second.name or math.dist(first.xyz, second.xyz) < _NEAREST


def _connected(serials: list[str], lines: list[str]) -> tuple[frozenset[tuple[int, int]], tuple[str, ...]]:
    """Pairs of atoms in CONECT records, and a note if they cannot be told apart."""
    records = [line for line in lines if line.startswith("CONECT")]
    if not records:
        return frozenset(), ()
    twice = [serial for serial, count in Counter(serials).items() if count > 1]
    place = {serial.strip(): n for n, serial in enumerate(serials)}
    for serial in twice:
        place.pop(serial.strip(), None)
    bonds, doubtful = set(), 0
    for line in records:
        ends = [line[n : n + 5].strip() for n in range(6, 31, 5)]
        source, targets = place.get(ends[0]), [end for end in ends[1:] if end]
        doubtful += any(end.rjust(5) in twice for end in ends if end)
        bonds |= {
            (min(source, place[end]), max(source, place[end]))
            for end in targets
            if source is not None and end in place and place[end] != source
        }
    note = f"{doubtful} CONECT records are left out: several atoms have the same serial number"
    return frozenset(bonds), (note,) if doubtful else ()


def read_mmcif(text: str) -> Structure:
    """The atoms of an mmCIF file, with the bonds of `struct_conn` and `chem_comp_bond`.

    Raises:
        ChemistryError: for a file that cannot be read or holds no atoms.
    """
    from openmm.app.internal.pdbx.reader.PdbxReader import PdbxReader

    if "_atom_site_fract_" in text and "_atom_site." not in text:
        raise ChemistryError(
            "holds fractional coordinates of a crystal (core CIF), and is not an mmCIF file; write its molecule as an "
            "SDF or MOL2"
        )
    blocks: list = []
    try:
        PdbxReader(io.StringIO(text)).read(blocks)
    except Exception as error:
        raise ChemistryError(f"not a readable mmCIF file ({error})") from error
    full = [block for block in blocks if block.getObj("atom_site") is not None]
    if not full:
        of = "defines a residue and " if any(block.getObj("chem_comp_atom") is not None for block in blocks) else ""
        raise ChemistryError(f"{of}holds no atoms; expected a table atom_site" + (", or give an SDF" if of else ""))
    tables = full[0]
    rows, models = [], dict[str, None]()
    for row in _rows(tables, "atom_site"):
        model = _value(row, "pdbx_PDB_model_num")
        models.setdefault(model)
        if model != next(iter(models)):
            continue
        letter = _value(row, "label_alt_id") or " "
        rows.append(("", letter, _mmcif_atom(row)))
    notes = (f"the first of {len(models)} models is read",) if len(models) > 1 else ()
    if len(full) > 1:
        notes = (*notes, f"the first of {len(full)} data blocks with atoms is read")
    chosen, more = _one_location(rows)
    atoms = tuple(atom for _, _, atom in chosen)
    bonds = frozenset(_within(atoms, _rows(tables, "chem_comp_bond")) | _between(atoms, _rows(tables, "struct_conn")))
    return Structure(atoms, bonds, (*notes, *more))


def _mmcif_atom(row: Mapping[str, str]) -> Atom:
    name = _value(row, "auth_atom_id", "label_atom_id")
    number = _value(row, "auth_seq_id", "label_seq_id") + _value(row, "pdbx_PDB_ins_code")
    chain, residue = _value(row, "auth_asym_id", "label_asym_id"), _value(row, "auth_comp_id", "label_comp_id")
    z, isotope = _element(_value(row, "type_symbol").upper())
    xyz = _coordinates([row.get(f"Cartn_{axis}", "") for axis in "xyz"])
    if xyz is None:
        where = f"atom {name} of {residue} {number}"
        raise ChemistryError(f"{where}: expected numbers in Cartn_x, Cartn_y and Cartn_z")
    return Atom(name, z, isotope, Residue(0, chain, number, residue), xyz)


def _rows(tables, name: str) -> list[dict[str, str]]:
    table = tables.getObj(name)
    if table is None:
        return []
    names = table.getAttributeList()
    for number, row in enumerate(table.getRowList(), start=1):
        if len(row) != len(names):
            raise ChemistryError(f"table {name}, row {number}: expected {len(names)} values, got {len(row)}")
    return [dict(zip(names, row, strict=True)) for row in table.getRowList()]


def _value(row: Mapping[str, str], *names: str) -> str:
    """The first of some columns that has a value; empty if none has."""
    return next((row[name] for name in names if row.get(name, "?") not in ("?", ".")), "")


def _within(atoms: Iterable[Atom], rows: list[dict[str, str]]) -> set[tuple[int, int]]:
    place: dict[Residue, dict[str, int]] = {}
    for n, atom in enumerate(atoms):
        place.setdefault(atom.residue, {})[atom.name] = n
    by_name: dict[str, list[dict[str, int]]] = {}
    for residue, names in place.items():
        by_name.setdefault(residue.name, []).append(names)
    bonds = set()
    for row in rows:
        ends = _value(row, "atom_id_1"), _value(row, "atom_id_2")
        for names in by_name.get(_value(row, "comp_id"), ()):
            if ends[0] in names and ends[1] in names:
                bonds.add((min(names[end] for end in ends), max(names[end] for end in ends)))
    return bonds


def _between(atoms: Iterable[Atom], rows: list[dict[str, str]]) -> set[tuple[int, int]]:
    place = {(atom.residue.chain, atom.residue.number, atom.name): n for n, atom in enumerate(atoms)}
    bonds = set()
    for row in rows:
        places = {_value(row, f"{end}_symmetry") for end in ("ptnr1", "ptnr2")} - {""}
        if not _COVALENT.fullmatch(_value(row, "conn_type_id").lower()) or len(places) > 1:  # of a copy in the crystal
            continue
        ends = []
        for end in ("ptnr1", "ptnr2"):
            number = _value(row, f"{end}_auth_seq_id", f"{end}_label_seq_id")
            number += _value(row, f"pdbx_{end}_PDB_ins_code")
            chain = _value(row, f"{end}_auth_asym_id", f"{end}_label_asym_id")
            ends.append(place.get((chain, number, _value(row, f"{end}_label_atom_id"))))
        first, second = ends
        if first is not None and second is not None and first != second:
            bonds.add((min(first, second), max(first, second)))
    return bonds


def positions(atoms: Iterable[Atom]) -> np.ndarray:
    """Coordinates [Å] `(A, 3)`."""
    return np.array([atom.xyz for atom in atoms], dtype=np.float64).reshape(-1, 3)
