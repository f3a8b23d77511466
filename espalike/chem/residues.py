"""Molecules of PDB and mmCIF structures: standard residues by name, other residues by a SMILES.

Bonds between heavy atoms of a standard residue, and their orders, are those of RDKit's residues of the same name. A
hydrogen belongs to the atom of its residue that has room for it at the usual distance. Atoms that lack a bond and are
near are bonded: peptide bonds, nucleotides, disulfides. Formal charges follow from bonds and hydrogens. So names of
hydrogens do not matter, and histidine, aspartate and the like are what their hydrogens say. Bonds that the file lists
are added; in other residues they are the bonds, and atoms without any have those by distance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence, Set
from functools import cache

import numpy as np
from rdkit import Chem

from espalike.chem.graphs import RADII
from espalike.chem.structures import Residue, Structure, positions

_CODES = {
    "ALA": "A", "ARG": "R", "ASN": "N", "ASP": "D", "CYS": "C", "GLN": "Q", "GLU": "E", "GLY": "G", "HIS": "H",
    "ILE": "I", "LEU": "L", "LYS": "K", "MET": "M", "PHE": "F", "PRO": "P", "SER": "S", "THR": "T", "TRP": "W",
    "TYR": "Y", "VAL": "V",
}  # fmt: skip
"""One-letter codes of amino acids."""
_NUCLEOTIDES = ("A", "C", "G", "U", "DA", "DC", "DG", "DT")
_CAPS: dict[str, dict[tuple[str, str], int]] = {
    "ACE": {("CH3", "C"): 1, ("C", "O"): 2},
    "FOR": {("C", "O"): 2},
    "NME": {("N", "C"): 1},
    "NH2": {("N", "N"): 0},
}
"""Bonds of caps by order."""
_SAME = {
    other: name
    for name, others in {
        "ALA": "DAL", "ARG": "ARN ARGN DAR", "ASN": "DSG", "ASP": "ASH ASPH ASPP DAS", "CYS": "CYX CYM CYS2 CYSH DCY",
        "GLN": "DGN", "GLU": "GLH GLUH GLUP DGL",
        "HIS": "HID HIE HIP HSD HSE HSP HISA HISB HISD HISE HISH HISP HIS1 HIS2 DHI",
        "ILE": "DIL", "LEU": "DLE", "LYS": "LYN LYSH LYSN LSN DLY", "MET": "MED", "PHE": "DPN", "PRO": "DPR",
        "SER": "DSN", "THR": "DTH", "TRP": "DTR", "TYR": "TYM DTY", "VAL": "DVA", "NME": "NMA NAC CT3", "NH2": "NHE",
        "A": "RA ADE", "C": "RC CYT", "G": "RG GUA", "U": "RU URA", "T": "THY",
    }.items()
    for other in others.split()
}  # fmt: skip
"""Names of protonation states, of mirror images, and those of other programs: Amber, CHARMM, GROMACS."""
_ANIONS = {("CYM", "SG"), ("TYM", "OH")}
"""Atoms whose negative charge the name of the residue says, beside carboxylates and phosphates."""
_ATOM_NAMES = {
    "O1P": "OP1", "O2P": "OP2", "O3P": "OP3", "OT1": "O", "OT2": "OXT", "OC1": "O", "OC2": "OXT", "OT": "OXT",
}  # fmt: skip
_RESIDUE_ATOM_NAMES = {
    ("ILE", "CD"): "CD1", ("NME", "CH3"): "C", ("NME", "CA"): "C", ("DT", "C5M"): "C7",
    **{(name, other): atom for name in _CODES for other, atom in (("O1", "O"), ("O2", "OXT"))},
}  # fmt: skip
"""Other names of heavy atoms."""
_INNER_CAPS = {
    "CY": {("CAY", "CY"): 1, ("CY", "OY"): 2, ("CY", "N"): 1},
    "NT": {("C", "NT"): 1},
    "CAT": {("NT", "CAT"): 1},
}
"""Bonds of caps that are parts of an amino acid, as CHARMM has them, by an atom that they have."""
WATER = {
    "HOH", "WAT", "H2O", "DOD", "SOL", "SPC", "TIP", "TIP3", "TIP4", "TIP5", "TP3", "TP4", "TP5", "T3P", "T4P", "T5P",
    "HO4", "HO5", "OPC", "SWM4",
}  # fmt: skip
"""Names of water, which may have virtual sites."""
_ELEMENTS = {"H": 1, "C": 6, "N": 7, "O": 8, "P": 15, "S": 16}
_OPTIONAL = {"OXT", "OP3"}
_PHOSPHATE = {"P", "OP1", "OP2", "OP3"}
REACH = 1.25
"""Atoms nearer than this times the sum of their covalent radii are bonded."""
_HYDROGEN = 1.45
"""The same for hydrogens of a standard residue: PDBFixer leaves some O-H bonds of 1.23 Å, 1.27 times the sum."""
_SURE = 1.1
"""Nearer than this times the sum, no two atoms are that are not bonded."""
_BONDED = {1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 34, 35, 53}
"""Elements that are bonded by distance; metals are ions."""
_METALS = {*range(3, 5), *range(11, 14), *range(19, 32), *range(37, 51), *range(55, 84), *range(87, 104)}
VALENCE = {1: 1, 6: 4, 7: 3, 8: 2, 15: 5, 16: 2}
"""Number of bonds of the neutral elements of standard residues."""
_ONIUM = {7, 16}
"""Elements that have a bond more where they are charged."""
MISSING = "hydrogens or neighbours are missing"


@cache
def template(name: str) -> dict[tuple[str, str], int] | None:
    """Bonds of the heavy atoms of a standard residue by their names, with Kekulé orders; None for other residues."""
    if name in _CAPS:
        return _CAPS[name]
    if name in _CODES:
        mol = Chem.MolFromSequence(_CODES[name], sanitize=False)
    elif name in _NUCLEOTIDES[:4]:
        mol = Chem.MolFromSequence(name, sanitize=False, flavor=3)  # RNA that begins with a phosphate
    elif name in _NUCLEOTIDES:
        mol = Chem.MolFromSequence(name[1], sanitize=False, flavor=7)
    else:
        return None
    names = [atom.GetPDBResidueInfo().GetName().strip() for atom in mol.GetAtoms()]
    if name == "ILE":  # RDKit bonds CD1 to CG2
        names = [{"CG1": "CG2", "CG2": "CG1"}.get(atom, atom) for atom in names]
    return {
        (names[bond.GetBeginAtomIdx()], names[bond.GetEndAtomIdx()]): int(bond.GetBondTypeAsDouble())
        for bond in mol.GetBonds()
    }


def standard_name(name: str, atoms: Set[str]) -> str | None:
    """Name of the standard residue that a name means; None if there is none.

    Args:
        name: the name.
        atoms: names of the residue's atoms. DNA may have the names of RNA, a base those of its nucleotide, and other
            residues have the names of protonation states and caps: NHE is a buffer, HSE homoserine. A ligand that
            is called ALA or A has other atoms.

    Examples:
        >>> [standard_name(name, {"CA"}) for name in ("HID", "NALA", "LIG", "ADE")], standard_name("HSE", {"CA", "OG"})
        (['HIS', 'ALA', None, None], None)
        >>> [standard_name(name, {"C1'", "O2'"}) for name in ("A", "ADE", "RA5", "A3")], standard_name("A", {"C1'"})
        (['A', 'A', 'A', 'A'], 'DA')
        >>> [standard_name(name, {"C1", "C2", "N1", "O1"}) for name in ("ALA", "A", "U", "DA")]
        [None, None, None, None]
    """
    for known in (name, name[1:] if len(name) == 4 and name[0] in "NC" else "", name[:-1] if name[-1:] in "35" else ""):
        other = _SAME.get(known, known)
        sugar = "C1'" in atoms or "C1*" in atoms
        if other in ("A", "C", "G", "T") and sugar and not ("O2'" in atoms or "O2*" in atoms):
            other = f"D{other}"
        if not other or template(other) is None:
            continue
        heavy, expected = _heavy(other, atoms), {atom for pair in _bonds(other, atoms) for atom in pair}
        if other in _NUCLEOTIDES and not any(atom.endswith("'") for atom in heavy):
            continue
        if heavy <= expected or (name == other and 2 * len(heavy & expected) >= len(heavy)):
            return other
    return None


def _bonds(residue: str, atoms: Set[str]) -> dict[tuple[str, str], int]:
    """Bonds of the heavy atoms of a standard residue, with those of the caps that are in it."""
    bonds = dict(template(residue) or {})
    for atom in _INNER_CAPS.keys() & atoms if residue in _CODES else ():
        bonds |= _INNER_CAPS[atom]
    return bonds


def _heavy(residue: str, atoms: Set[str]) -> set[str]:
    """Standard names of the atoms other than hydrogen."""
    return {_standard_atom(residue, atom) for atom in atoms if not _is_hydrogen(atom)}


def _is_hydrogen(name: str) -> bool:
    """Whether a name is that of a hydrogen in a standard residue."""
    return name.lstrip("0123456789")[:1] in ("H", "D")


def _standard_atom(residue: str, name: str) -> str:
    name = _ATOM_NAMES.get(name, name).replace("*", "'")
    return _RESIDUE_ATOM_NAMES.get((residue, name), name)


def is_onium(number: int, missing: int) -> bool:
    """Whether an atom that lacks a number of bonds, negative if it has more than a neutral atom, is an onium's."""
    return number in _ONIUM and missing == -1


class Graph:
    """The bonds of a structure.

    Attributes:
        numbers: atomic numbers of the atoms.
        standard: standard name of each atom's residue, or None.
        orders: order of each bond, by its atoms `i < j`; of standard residues Kekulé's, else 1.
        charges: formal charges [e] of the atoms of standard residues.
        together: pairs of atoms of standard residues that are in one molecule, bonded or not.
        ends: atoms of standard residues that are bonded to other residues.
        faults: what is wrong with standard residues.
    """

    def __init__(self, structure: Structure):
        self.atoms = structure.atoms
        self.numbers = [atom.number for atom in self.atoms]
        self.orders: dict[tuple[int, int], int] = {}
        self.near: list[list[int]] = [[] for _ in self.atoms]
        self.charges = [0] * len(self.atoms)
        self.ends: list[int] = []
        self.faults: dict[Residue, str] = {}
        self._xyz = positions(self.atoms)
        members: dict[Residue, list[int]] = defaultdict(list)
        for n, atom in enumerate(self.atoms):
            members[atom.residue].append(n)
        names = {r: standard_name(r.name, {self.atoms[n].name for n in inside}) for r, inside in members.items()}
        self.standard = [names[atom.residue] for atom in self.atoms]
        self.together = [(inside[0], n) for r, inside in members.items() if names[r] is not None for n in inside[1:]]
        bonds = [pair for pair in structure.bonds if not self._is_contact(*pair)]
        for i, j in bonds:
            self._bond(i, j)
        for residue, inside in members.items():
            if names[residue] is not None:
                self._place(residue, inside)
        self._join({i for pair in bonds for i in pair})
        self._resonance()
        self._link()
        for residue, inside in members.items():
            if names[residue] is not None:
                self._charge(residue, inside)

    def _is_contact(self, i: int, j: int) -> bool:
        """Whether a listed bond is one of a metal ion with another residue, which CONECT records hold as well."""
        return self.atoms[i].residue != self.atoms[j].residue and bool({self.numbers[i], self.numbers[j]} & _METALS)

    def _bond(self, i: int, j: int, order: int = 1) -> None:
        pair = (min(i, j), max(i, j))
        if pair not in self.orders:
            self.near[i].append(j)
            self.near[j].append(i)
        self.orders[pair] = order

    def order(self, i: int, j: int) -> int:
        """Order of a bond."""
        return self.orders[min(i, j), max(i, j)]

    def _open(self, n: int) -> int:
        """Number of bonds that an atom lacks; negative if it has more than a neutral atom."""
        return VALENCE.get(self.numbers[n], 0) - sum(self.order(n, other) for other in self.near[n])

    def _place(self, residue: Residue, members: list[int]) -> None:
        """Bonds of a standard residue."""
        name = self.standard[members[0]]
        assert name is not None
        bonds = _bonds(name, {self.atoms[n].name for n in members})
        elements = {atom: _ELEMENTS[atom[0]] for pair in bonds for atom in pair}
        place: dict[str, int] = {}
        for n in members:
            atom = _standard_atom(name, self.atoms[n].name)
            if atom in elements:
                if atom in place:
                    self.faults[residue] = f"atom {self.atoms[n].name} is there twice"
                place[atom] = n
                self.numbers[n] = elements[atom]
            elif _is_hydrogen(self.atoms[n].name):
                self.numbers[n] = 1  # where names begin in column 13, HG is mercury elsewhere
            elif self.numbers[n] != 1:
                self.faults[residue] = f"{name} has no atom {self.atoms[n].name}, it has {' '.join(elements)}"
        optional = _OPTIONAL if place.keys() & _PHOSPHATE else _OPTIONAL | _PHOSPHATE
        if missing := [atom for atom in elements if atom not in place and atom not in optional]:
            self.faults[residue] = f"heavy atoms are missing: {' '.join(missing)}"
        for (a, b), order in bonds.items():
            if a in place and b in place and order:
                self._bond(place[a], place[b], order)
        for i, j in self._pairs(members, _HYDROGEN):
            hydrogen, heavy = (i, j) if self.numbers[i] == 1 else (j, i)
            if self.numbers[hydrogen] == 1 != self.numbers[heavy] and not self.near[hydrogen] and self._takes(heavy):
                self._bond(hydrogen, heavy)

    def _takes(self, n: int) -> bool:
        """Whether a heavy atom of a standard residue has room for a hydrogen."""
        double = any(self.order(n, other) == 2 for other in self.near[n])
        return self._open(n) > (-1 if self.numbers[n] == 7 or (self.numbers[n] == 8 and double) else 0)

    def _pairs(self, atoms: Sequence[int], reach: float = REACH) -> list[tuple[int, int]]:
        """Pairs of atoms at the distance of a bond, those of the usual length first."""
        from scipy.spatial import cKDTree  # slow to import

        atoms = [n for n in atoms if self.numbers[n] in _BONDED]
        radius = RADII[np.array([self.numbers[n] for n in atoms], dtype=np.int64)]
        xyz = self._xyz[atoms]
        i, j = cKDTree(xyz).query_pairs(2.0 * reach * radius.max(initial=0.0), output_type="ndarray").T
        ratio = np.maximum(np.linalg.norm(xyz[i] - xyz[j], axis=1), 0.01) / (radius[i] + radius[j])
        rows = np.argsort(np.abs(np.log(ratio)), kind="stable")
        return [(atoms[i[row]], atoms[j[row]]) for row in rows if ratio[row] < reach]

    def _join(self, listed: set[int]) -> None:
        """Bonds by distance of residues that are not standard, where the file lists none."""
        for i, j in self._pairs([n for n, name in enumerate(self.standard) if name is None]):
            hydrogens = [n for n in (i, j) if self.numbers[n] == 1]
            lone = len(hydrogens) < 2 and not any(self.near[n] for n in hydrogens)
            if lone and not (i in listed and j in listed) and not self._is_at_water(i, j):
                self._bond(i, j)

    def _is_at_water(self, i: int, j: int) -> bool:
        """Whether atoms are of two residues of which one is water; other locations of a ligand may be in its place."""
        first, second = self.atoms[i].residue, self.atoms[j].residue
        return first != second and bool({first.name, second.name} & WATER)

    def _resonance(self) -> None:
        """Move double bonds away from atoms that have hydrogens instead: histidine, acids, guanidine."""
        for pair, order in list(self.orders.items()):
            for full in pair:
                if order == 2 and self.standard[full] is not None and self._open(full) < 0:
                    self._shift(full)

    def _shift(self, full: int) -> bool:
        """Give the double bond of an atom to an equal atom two bonds away that lacks a bond; False if there is none."""
        for centre in [n for n in self.near[full] if self.order(full, n) == 2]:
            for other in self.near[centre]:
                if self.numbers[other] == self.numbers[full] and self._open(other) > 0:
                    self._bond(centre, full, 1)
                    self._bond(centre, other, 2)
                    return True
        return False

    def _link(self) -> None:
        """Bonds between residues: of atoms that lack a bond, and of these with residues that are not standard."""
        lacking = {n for n, name in enumerate(self.standard) if name and self.numbers[n] != 1 and self._open(n) > 0}
        others = {n for n, name in enumerate(self.standard) if name is None and self.numbers[n] > 1}
        for i, j in self._pairs(sorted(lacking | others)):
            ends = [n for n in (i, j) if n in lacking]
            foreign = self.atoms[i].residue != self.atoms[j].residue
            if ends and foreign and all(self._open(n) > 0 for n in ends) and not self._is_at_water(i, j):
                self._bond(i, j)
        heavy = [n for n, name in enumerate(self.standard) if name and self.numbers[n] > 1]
        for pair in self._pairs(sorted({*heavy, *others}), _SURE):
            ends = [n for n in pair if self.standard[n]]
            if len(ends) == 1 and pair[0] not in self.near[pair[1]] and not self._is_at_water(*pair):
                self._late(ends[0], sum(pair) - ends[0])

    def _late(self, n: int, other: int) -> None:
        """Bond an atom of a standard residue that lacks no bond to one of another residue.

        A double bond gives way, as in an ester of the oxygen that has it; else the atom is an onium's.
        """
        if self._shift(n) or (self.numbers[n] in _ONIUM and self._open(n) == 0):
            self._bond(n, other)
            return
        residue = self.atoms[other].residue
        distance = np.linalg.norm(self._xyz[n] - self._xyz[other])
        self.faults.setdefault(
            self.atoms[n].residue,
            f"{self.atoms[n].name} has all its bonds, but atom {self.atoms[other].name} of {residue} is only "
            f"{distance:.2f} Å away",
        )

    def _charge(self, residue: Residue, members: list[int]) -> None:
        """Formal charges of a residue; what lacks hydrogens is a fault.

        Atoms that are bonded to other residues than standard ones are left out: the order of that bond is not known.
        """
        lacking = []
        for n in members:
            missing = self._open(n)
            if any(self.standard[other] is None for other in self.near[n]):
                self.ends.append(n)
            elif is_onium(self.numbers[n], missing):
                self.charges[n] = 1
            elif missing > 0 and (self._is_acid(n) or (residue.name, self.atoms[n].name) in _ANIONS):
                self.charges[n] = -1
            elif missing > 0:
                lacking.append(f"{self.atoms[n].name} lacks {missing}")
        if lacking and residue not in self.faults:
            self.faults[residue] = f"{MISSING}: {', '.join(lacking)}"

    def _is_acid(self, n: int) -> bool:
        """Whether an atom is the oxygen of a carboxylate or a phosphate that has no double bond."""
        if self.numbers[n] != 8 or len(self.near[n]) != 1:
            return False
        (centre,) = self.near[n]
        return any(self.numbers[m] == 8 and self.order(centre, m) == 2 for m in self.near[centre])
