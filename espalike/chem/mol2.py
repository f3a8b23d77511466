"""MOL2 records. Atom types are SYBYL's, GAFF's (antechamber's default) or AMBER's.

Records of SYBYL types are read by RDKit, unless types and bond orders disagree, as in files of antechamber, or RDKit
charges aromatic nitrogens of a neutral ring (N.ar-N.ar, as Open Babel writes indazolones). GAFF's and
AMBER's types give the elements. The bond orders that antechamber writes are not a Lewis structure (both
bonds of a carboxylate, or of a nitro group, are single), so orders and formal charges are those of the best Lewis
structure of the bonds and the total charge, which is the sum of the partial charges. Among equally good structures it
is the one next to the orders in the file.
"""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
from rdkit import Chem

from espalike.chem.errors import ChemistryError
from espalike.chem.graphs import ends_of, numbers_of
from espalike.chem.lewis import STATES, cost, lewis
from espalike.chem.sanitize import BOND_TYPES
from espalike.tables import counted

_GAFF = {
    1: "h1 h2 h3 h4 h5 ha hb hc hn ho hp hs hw hx",
    6: "c c1 c2 c3 c5 c6 ca cc cd ce cf cg ch cp cq cs cu cv cx cy cz",
    7: "n n1 n2 n3 n4 n5 n6 n7 n8 n9 n+ na nb nc nd ne nf nh ni nj nk nl nm nn no np nq ns nt nu nv nx ny nz",
    8: "o o2 oh op oq os ow",
    9: "f",
    15: "p2 p3 p4 p5 pb pc pd pe pf px py",
    16: "s s2 s3 s4 s6 sh sp sq ss sx sy",
    17: "cl",
    35: "br",
    53: "i",
}
_AMBER = {
    1: "H H0 H1 H2 H3 H4 H5 HA HC HO HP HS HW HZ hA hB hE hL hN hO hX Ha Hc Ho Hp",
    6: "C C* C4 C5 C8 CA CB CC CD CI CJ CK CM CN CO CP CQ CR CS CT CV CW CX CY CZ 2C 3C XC"
    " C1 C2 C7 CE CF CG CH cA cB cC cD Cg Cj Ck Cp Cy",
    7: "N N* N1 N2 N3 NA NB NC NO NP NQ NT NY nA nN Ng",
    8: "O O2 OH OP OQ OR OS OT OV OW OX OZ oC oH oO oP oS oT Oh Os Oy",
    9: "F",
    15: "P pA",
    16: "S SH SO Sm",
    17: "Cl CL",
    35: "Br BR",
    53: "I",
}
_ELEMENTS = {kind: z for table in (_GAFF, _AMBER) for z, kinds in table.items() for kind in kinds.split()}
"""Atomic numbers of types of GAFF and GAFF2, and of Amber's proteins, nucleic acids (parm10, OL15, bsc1),
phosphorylated residues (phosaa), lipids (Lipid21) and sugars (GLYCAM)."""
_SYBYL = {"H", "F", "Cl", "Br", "I", "Si", "Li", "Na", "Mg", "Al", "K", "Ca", "Zn", "N", "C", "O", "S", "P", "B"}
_SYMBOLS = {Chem.GetPeriodicTable().GetElementSymbol(z): z for z in STATES}
_BONDS = {"1": 1.0, "2": 2.0, "3": 3.0, "am": 1.0, "ar": 1.5}
_WHOLE = 0.1
"""Largest distance of a sum of partial charges from a whole number [e]."""
_WORSE = 1.5
"""A Lewis structure is refused whose cost is this much above that of the best one of any charge."""
_ABOUT = 0.5
"""Lewis structures whose costs differ by less are equally likely."""
_NEIGHBOURS = {"C.3": 4, "c3": 4, "CT": 4, "C.2": 3, "C.ar": 3, "C.cat": 3, "ca": 3, "CA": 3, "C.1": 2}
"""Number of neighbours of carbons that have all their hydrogens, by type."""
_AMMONIUM = {"N.4", "n4", "n+", "nx", "ny", "nz"}
"""Types of nitrogens with four neighbours."""
_VALENCE = 4.0
"""Sum of the bond orders of a carbon, or of such a nitrogen."""
_ABSURD = -2
"""Formal charge of an atom that lacks hydrogens, as the nitrogen of an amine without both of its own."""
_LARGEST = 6
"""Largest total charge that is tried where no partial charges say it."""

Read = tuple[Chem.Mol, np.ndarray | None, tuple[str, ...]]
"""A molecule, its partial charges [e] `(A,)` if it has any, and remarks."""


def read(text: str, name: str) -> Read:
    """The molecule of one record.

    Raises:
        ChemistryError: for a record that cannot be read, an unknown atom type, or bonds without a Lewis structure.
    """
    _check_counts(text, name)
    rows = _rows(text, "ATOM")
    found = _read(text, name, rows)
    _check_hydrogens(text, rows, name)
    for atom in found[0].GetAtoms():
        if atom.GetFormalCharge() <= _ABSURD:
            raise ChemistryError(
                f"{name}: hydrogens are missing: atom {atom.GetIdx() + 1} ({atom.GetSymbol()}) has "
                f"{counted(atom.GetDegree(), 'neighbour')} and would have the charge {atom.GetFormalCharge():+d}; "
                "give all atoms explicitly"
            )
    return found


def _read(text: str, name: str, rows: list[list[str]]) -> Read:
    """See `read`; hydrogens may be missing."""
    kinds = [row[5] for row in rows if len(row) > 5]
    if rows and len(kinds) == len(rows) and not all(kind in _SYBYL or "." in kind for kind in kinds):
        return _from_types(text, name, rows)
    known = text.startswith("@<TRIPOS>MOLECULE") and rows and len(kinds) == len(rows)
    known = known and {_element(kind) for kind in kinds} <= STATES.keys()
    if known and _disagree(kinds, text, rows):
        return _from_types(text, name, rows)
    mol = Chem.MolFromMol2Block(text, sanitize=False, removeHs=False)
    if known and (mol is None or not _is_closed(mol) or _is_overcharged(mol, kinds) or _is_split(mol, kinds)):
        return _from_types(text, name, rows)
    if mol is None:
        raise ChemistryError(f"{name}: not a readable MOL2 record; expected tables ATOM and BOND, and known atom types")
    _name_residues(mol, rows)
    if _has_charges(text) and mol.GetAtomWithIdx(0).HasProp("_TriposPartialCharge"):
        charges = np.array([float(atom.GetProp("_TriposPartialCharge")) for atom in mol.GetAtoms()])
        return mol, charges, _other_sum(charges, mol)
    return mol, None, _unsaid(mol)


def _other_sum(charges: np.ndarray, mol: Chem.Mol) -> tuple[str, ...]:
    """A note if the partial charges sum to another whole number than the formal charges."""
    total, summed = Chem.GetFormalCharge(mol), float(charges.sum())
    if not charges.any():
        return _unsaid(mol)
    if round(summed) == total or abs(summed - round(summed)) > _WHOLE:
        return ()
    return (f"the partial charges sum to {summed:+.2f} e, the formal charges to {total:+d} e; the latter are used",)


def _unsaid(mol: Chem.Mol) -> tuple[str, ...]:
    """A note on a charge that no partial charges say: that of a phenolate may be a phenol whose hydrogen is missing."""
    total = Chem.GetFormalCharge(mol)
    return (
        (f"no partial charges say the total charge; {total:+d} e is that of the bonds and hydrogens",) if total else ()
    )


def _orders(text: str, rows: list[list[str]]) -> dict[str, list[tuple[str, str]]]:
    """Types of the bonds of each atom, with the atoms that they lead to."""
    orders: dict[str, list[tuple[str, str]]] = {row[0]: [] for row in rows}
    for bond in _rows(text, "BOND"):
        for first, second in (bond[1:3], bond[2:0:-1]):
            orders.get(first, []).append((bond[3] if len(bond) > 3 else "", second))
    return orders


def _check_hydrogens(text: str, rows: list[list[str]], name: str) -> None:
    """Check that carbons and ammonium nitrogens have the neighbours that their types say.

    Carbons without hydrogens would be carbanions, an ammonium ion without one an amine.

    Raises:
        ChemistryError: where one lacks a neighbour; a carbon also where it lacks two if partial charges say the total
            charge, unless it may be that of a carbonyl, an isocyanide or an ylide.
    """
    most = 1 if _says_charge(text, rows) else 0  # of hydrogens of a carbon that may be missing
    kind_of, orders = {row[0]: row[5] for row in rows if len(row) > 5}, _orders(text, rows)
    for atom, kind in kind_of.items():
        bonds, ammonium = orders[atom], kind in _AMMONIUM
        wanted = 4 if ammonium else _NEIGHBOURS.get(kind, 0)
        if (
            wanted - len(bonds) <= (0 if ammonium else most)
            or sum(_BONDS.get(bond, _VALENCE) for bond, _ in bonds) >= _VALENCE
        ):
            continue
        ends = [(_element(kind_of.get(end, "")), len(orders.get(end, ()))) for _, end in bonds]
        shares = any(z in (15, 16) or (z == 7 and near == 4) or (z in (7, 8) and near == 1) for z, near in ends)
        if ammonium or (not shares and not (len(ends) == 1 and ends[0][0] in (7, 8))):
            raise ChemistryError(
                f"{name}: hydrogens are missing: atom {atom} has the type {kind}, which has {wanted} neighbours, and "
                f"{len(bonds)} in the file; give all atoms explicitly"
            )


def _says_charge(text: str, rows: list[list[str]]) -> bool:
    """Whether there are partial charges, whose sum is the total charge."""
    return _has_charges(text) and any(len(row) > 8 and row[8].strip("+-0.") for row in rows)


def _disagree(kinds: list[str], text: str, rows: list[list[str]]) -> bool:
    """Whether SYBYL types and orders disagree: O.2 or S.2 without a double bond, C.2 or N.2 with several of them."""
    kind_of = {row[0]: kind for row, kind in zip(rows, kinds, strict=True)}
    orders = {atom: [order for order, _ in bonds] for atom, bonds in _orders(text, rows).items()}
    return any(
        (kind in ("O.2", "S.2") and set(orders[atom]) <= {"1", "am"})
        or (kind in ("C.2", "N.2") and orders[atom].count("2") > 1)
        for atom, kind in kind_of.items()
    )


def _is_closed(mol: Chem.Mol) -> bool:
    """Whether a molecule has a structure without unpaired electrons."""
    mol = Chem.Mol(mol)
    if Chem.SanitizeMol(mol, catchErrors=True):
        return False
    return not any(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())


def _is_overcharged(mol: Chem.Mol, kinds: list[str]) -> bool:
    """Whether RDKit has charged aromatic nitrogens of a ring that is neutral, as N-N of a pyrazolone, an indazolone."""
    atoms = zip(mol.GetAtoms(), kinds, strict=True)
    if not any(kind == "N.ar" and atom.GetFormalCharge() > 0 for atom, kind in atoms):
        return False
    best = lewis(numbers_of(mol), np.array(ends_of(mol), dtype=np.int64).reshape(-1, 2), None)
    return best is not None and int(best[1].sum()) != Chem.GetFormalCharge(mol)


def _is_split(mol: Chem.Mol, kinds: list[str]) -> bool:
    """Whether RDKit has given a C.cat both a cationic and an anionic nitrogen, where a guanidine is neutral."""
    for atom, kind in zip(mol.GetAtoms(), kinds, strict=True):
        if kind == "C.cat" and {-1, 1} <= {n.GetFormalCharge() for n in atom.GetNeighbors() if n.GetAtomicNum() == 7}:
            return True
    return False


def _element(kind: str) -> int:
    """Atomic number of a type of GAFF, AMBER or SYBYL; 0 if it is unknown."""
    return _ELEMENTS.get(kind) or _SYMBOLS.get(kind.partition(".")[0], 0)


def _mixed(kinds: list[str]) -> tuple[str, ...]:
    """A type of SYBYL (C.3) and one of GAFF or AMBER (n) that are in the same record; no program writes both."""
    sybyl = [kind for kind in kinds if "." in kind]
    others = [kind for kind in kinds if kind in _ELEMENTS and kind not in _SYBYL]
    return (sybyl[0], others[0]) if sybyl and others else ()


def _rows(text: str, table: str) -> list[list[str]]:
    _, *lines = text.partition(f"@<TRIPOS>{table}")[2].partition("@<TRIPOS>")[0].split("\n")
    return [row for row in map(str.split, lines) if row and not row[0].startswith("#")]


def _check_counts(text: str, name: str) -> None:
    """Refuse a record with another number of atoms or bonds than its head says, which RDKit reads, or a bond twice."""
    if (tables := text.count("@<TRIPOS>ATOM")) > 1:
        raise ChemistryError(f"{name}: it has {tables} tables ATOM; expected @<TRIPOS>MOLECULE before each")
    head = [*text.split("\n"), "", ""][2].split()
    for table, word in zip(("ATOM", "BOND"), head, strict=False):
        if word.isdecimal() and int(word) != (rows := len(_rows(text, table))):
            raise ChemistryError(f"{name}: table {table} has {rows} lines, the record's head says {word}")
    pairs = [tuple(sorted(row[1:3])) for row in _rows(text, "BOND")]
    if twice := next((pair for pair, count in Counter(pairs).items() if count > 1), ()):
        raise ChemistryError(f"{name}: the bond between atoms {' and '.join(twice)} is listed twice")


def _has_charges(text: str) -> bool:
    lines = text.split("\n")
    return len(lines) > 4 and lines[4].strip().upper() != "NO_CHARGES"


def _name_residues(mol: Chem.Mol, rows: list[list[str]]) -> None:
    """Keep the names of atoms and substructures, where each atom has both."""
    if len(rows) == mol.GetNumAtoms() and all(len(row) > 7 and row[6].isdigit() for row in rows):
        for atom, row in zip(mol.GetAtoms(), rows, strict=True):
            atom.SetMonomerInfo(Chem.AtomPDBResidueInfo(row[1], residueName=row[7], residueNumber=int(row[6])))


def _from_types(text: str, name: str, rows: list[list[str]]) -> Read:
    """A record whose types are those of GAFF or AMBER."""
    for row in rows:
        if not _element(row[5]):
            raise ChemistryError(
                f"{name}: atom {row[0]} ({row[1]}) has the type {row[5]!r}; known are the types of SYBYL (C.3), GAFF "
                "and GAFF2 (c3), and AMBER (CT). Write an SDF"
            )
    if mixed := _mixed([row[5] for row in rows]):
        raise ChemistryError(f"{name}: its types are of two kinds, {' and '.join(mixed)}: one of them may be damaged")
    place = {row[0]: n for n, row in enumerate(rows)}
    numbers = np.array([_element(row[5]) for row in rows])
    try:
        bonds = np.array([sorted((place[row[1]], place[row[2]])) for row in _rows(text, "BOND")], np.int64).reshape(
            -1, 2
        )
        kinds = [row[3] for row in _rows(text, "BOND")]
        xyz = np.array([[float(value) for value in row[2:5]] for row in rows])
        given = np.array([float(row[8]) for row in rows]) if all(len(row) > 8 for row in rows) else None
    except (KeyError, IndexError, ValueError) as error:
        raise ChemistryError(f"{name}: not a readable MOL2 record ({error})") from error
    if odd := sorted(set(kinds) - _BONDS.keys()):
        raise ChemistryError(f"{name}: bonds of type {', '.join(odd)}; expected {', '.join(_BONDS)}")
    given = given if _has_charges(text) else None
    drawn = np.array([_BONDS[kind] for kind in kinds])
    orders, charges, notes = _lewis(numbers, bonds, drawn, given, name)
    mol = Chem.RWMol()
    for z, charge in zip(numbers.tolist(), charges.tolist(), strict=True):
        atom = Chem.Atom(z)
        atom.SetFormalCharge(charge)
        atom.SetNoImplicit(True)
        mol.AddAtom(atom)
    for (i, j), order in zip(bonds.tolist(), orders.tolist(), strict=True):
        mol.AddBond(i, j, BOND_TYPES[order])
    conformer = Chem.Conformer(len(rows))
    conformer.SetPositions(xyz)
    mol.AddConformer(conformer)
    for atom, row in zip(mol.GetAtoms(), rows, strict=True):
        atom.SetProp("_TriposAtomName", row[1])
    _name_residues(mol, rows)
    return mol.GetMol(), given, notes


def _like_charges(bonds: np.ndarray, charges: np.ndarray) -> int:
    """Number of pairs of equal charges at neighbours of one atom: none in a nitro group, one in N(-O)(-O)."""
    near: dict[int, list[int]] = {}
    for i, j in bonds.tolist():
        near.setdefault(i, []).append(int(charges[j]))
        near.setdefault(j, []).append(int(charges[i]))
    return sum(a == b != 0 for around in near.values() for a, b in itertools.combinations(around, 2))


def _lewis(
    numbers: np.ndarray, bonds: np.ndarray, drawn: np.ndarray, given: np.ndarray | None, name: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Bond orders, formal charges, and a note where no partial charges say the total charge.

    Raises:
        ChemistryError: where there is no such structure, or the partial charges have another sum than it.
    """
    best = lewis(numbers, bonds, None)
    if best is None:
        raise ChemistryError(
            f"{name}: the bonds have no Lewis structure without unpaired electrons; are all hydrogens there?"
        )
    least = cost(numbers, bonds, *best)
    if given is not None and given.any():
        total = round(float(given.sum()))
        found = lewis(numbers, bonds, total, drawn)
        if abs(given.sum() - total) > _WHOLE or found is None or cost(numbers, bonds, *found) > least + _WORSE:
            raise ChemistryError(
                f"{name}: the partial charges sum to {given.sum():+.3f} e, but the bonds are those of a molecule of "
                f"charge {best[1].sum():+d}. Compute charges that sum to the total charge (antechamber -nc), or write "
                "an SDF"
            )
        return *found, ()
    for size in range(_LARGEST + 1):
        totals = {total: lewis(numbers, bonds, total, drawn) for total in {size, -size}}
        good = {q: f for q, f in totals.items() if f and cost(numbers, bonds, *f) < least + _ABOUT}
        fewest = min((_like_charges(bonds, charges) for _, charges in good.values()), default=0)
        good = {q: f for q, f in good.items() if _like_charges(bonds, f[1]) == fewest}
        if len(good) == 1:
            ((total, found),) = good.items()
            note = f"no partial charges say the total charge; {total:+d} e is that of the best Lewis structure"
            return *found, (note,)
        if good:
            break
    raise ChemistryError(
        f"{name}: no partial charges say the total charge, and the bonds fit several; give partial charges, or an SDF"
    )
