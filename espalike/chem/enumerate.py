"""Molecules made from molecules: protonation states, tautomers, pieces, and recombined pieces."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from rdkit import Chem, rdBase
from rdkit.Chem import BRICS, Descriptors, rdMolDescriptors
from rdkit.Chem.MolStandardize import rdMolStandardize

from espalike.chem.protonation import protonation_state

_UNLIKELY = [Chem.MolFromSmarts(smarts) for smarts in ("[OX2H1,SX2H1][CX3]=[NX2]", "[NX2H1]=[#6]")]
"""Tautomers of amides and of amino groups that are rare in water."""
_UNCLOSED = [Chem.MolFromSmarts(smarts) for smarts in ("[S,P,Si,Se,B;!X1;!X2;!H0]", "[N+;!H0;$(N-*=[O,S])]")]
"""What becomes of a sulfonyl, a phosphate or an acylammonium when a hydrogen closes a cut bond: not useful."""
_MACROCYCLE = 10
"""Number of atoms from which a ring is a macrocycle here."""


@dataclass(frozen=True)
class Limits:
    """Molecules that are chosen from.

    Attributes:
        elements: symbols of the elements a molecule may have.
        atoms: largest number of atoms, hydrogens included.
        macrocycle_atoms: the same for molecules with a ring of ten or more atoms.
        heavy_atoms: smallest number of atoms that are not hydrogen.
        charge: largest net charge, positive or negative [e].
        rotatable_bonds: largest number of rotatable bonds; macrocycles may have more.
    """

    elements: tuple[str, ...] = ("H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "As", "Se", "Br", "I")
    atoms: int = 45
    macrocycle_atoms: int = 75
    heavy_atoms: int = 1
    charge: int = 2
    rotatable_bonds: int = 10

    def __post_init__(self):
        object.__setattr__(self, "elements", tuple(self.elements))  # a list, where settings are read from YAML

    def reason(self, mol: Chem.Mol) -> str | None:
        """Why a sanitized molecule is outside the limits, or None."""
        elements = {atom.GetSymbol() for atom in mol.GetAtoms()}
        if any(atom.GetTotalNumHs() for atom in mol.GetAtoms()):
            elements.add("H")
        if not elements <= set(self.elements):
            return "element"
        macrocycle = any(len(ring) >= _MACROCYCLE for ring in mol.GetRingInfo().AtomRings())
        atoms = mol.GetNumAtoms(onlyExplicit=False)
        if atoms > (self.macrocycle_atoms if macrocycle else self.atoms):
            return "too many atoms"
        if mol.GetNumHeavyAtoms() < self.heavy_atoms:
            return "too few atoms"
        if abs(Chem.GetFormalCharge(mol)) > self.charge:
            return "charge"
        if Descriptors.NumRadicalElectrons(mol):
            return "radical"
        if not macrocycle and rdMolDescriptors.CalcNumRotatableBonds(mol) > self.rotatable_bonds:
            return "too many rotatable bonds"
        return None


def states(mol: Chem.Mol, ph: float = 7.0, margin: float = 1.0) -> list[Chem.Mol]:
    """Protonation states at this pH (first) and at `margin` below and above it: groups with a pKa nearby occur in both.

    States that are equal occur once. Raises ValueError as `protonation_state`.
    """
    return _unique([protonation_state(mol, value) for value in dict.fromkeys((ph, ph - margin, ph + margin))])


def tautomers(mol: Chem.Mol, most: int = 3) -> list[Chem.Mol]:
    """Tautomers in which hydrogens of N, O and S have moved, those that RDKit ranks best; the molecule is not in it.

    Hydrogens on carbon stay where they are, so that ketones have no enols, and amides do not become imidic acids.
    """
    enumerator = rdMolStandardize.TautomerEnumerator()
    enumerator.SetMaxTautomers(50)
    enumerator.SetMaxTransforms(100)
    enumerator.SetRemoveSp3Stereo(False)
    enumerator.SetRemoveBondStereo(False)
    with rdBase.BlockLogs():
        found = [
            (-enumerator.ScoreTautomer(other), Chem.MolToSmiles(other), other) for other in enumerator.Enumerate(mol)
        ]
    aromatic = max((len(other.GetAromaticAtoms()) for _, _, other in found), default=0)
    own, hydrogens, unlikely = Chem.MolToSmiles(mol), _carbon_hydrogens(mol), _unlikely(mol)
    kept = [
        other
        for _, smiles, other in sorted(found, key=lambda entry: entry[:2])
        if smiles != own and _carbon_hydrogens(other) == hydrogens and _unlikely(other) <= unlikely
        if len(other.GetAromaticAtoms()) == aromatic
    ]
    return kept[:most]


def _unlikely(mol: Chem.Mol) -> int:
    """Number of groups that are an unlikely tautomer."""
    return sum(len(mol.GetSubstructMatches(query)) for query in _UNLIKELY)


def _carbon_hydrogens(mol: Chem.Mol) -> list[int]:
    """Number of hydrogens on each carbon; RDKit's tautomers keep the order of atoms."""
    return [atom.GetTotalNumHs() for atom in mol.GetAtoms() if atom.GetAtomicNum() == 6]


def pieces(mol: Chem.Mol, joined: int = 3) -> tuple[list[Chem.Mol], list[str]]:
    """A molecule cut at its BRICS bonds.

    Args:
        mol: a sanitized molecule.
        joined: number of neighbouring pieces that may stay together in a fragment.

    Returns:
        Fragments of up to `joined` neighbouring pieces, open ends closed by hydrogen; and the SMILES of the single
        pieces with their open ends `[n*]`, where n is BRICS' kind of bond, for `recombined`.
    """
    cuts = {tuple(sorted(atoms)) for atoms, _ in BRICS.FindBRICSBonds(mol)}
    if not cuts:
        return [], []
    edit = Chem.RWMol(mol)
    for i, j in cuts:
        edit.RemoveBond(i, j)
    groups = [frozenset(group) for group in Chem.GetMolFrags(edit.GetMol())]
    group_of = {atom: number for number, group in enumerate(groups) for atom in group}
    near: dict[int, set[int]] = {number: set() for number in range(len(groups))}
    for i, j in cuts:
        near[group_of[i]].add(group_of[j])
        near[group_of[j]].add(group_of[i])
    fragments = [
        fragment
        for union in (_connected(near, joined) if joined else ())
        if len(union) < len(groups)
        if (fragment := _cut_out(mol, frozenset().union(*(groups[number] for number in union)))) is not None
    ]
    return _unique(fragments), sorted(set(Chem.MolToSmiles(BRICS.BreakBRICSBonds(mol)).split(".")))


def _connected(near: dict[int, set[int]], size: int) -> list[frozenset[int]]:
    """All connected sets of up to `size` nodes of a graph."""
    found = level = {frozenset([node]) for node in near}
    for _ in range(size - 1):
        level = {nodes | {other} for nodes in level for node in nodes for other in near[node] - nodes}
        found = found | level
    return sorted(found, key=lambda nodes: (len(nodes), sorted(nodes)))


def _cut_out(mol: Chem.Mol, atoms: frozenset[int]) -> Chem.Mol | None:
    """Part of a molecule, a hydrogen for each bond order that is cut; None where that is not usable."""
    edit = Chem.RWMol(mol)
    for atom in edit.GetAtoms():
        if atom.GetIdx() not in atoms:
            continue
        lost = sum(
            int(bond.GetBondTypeAsDouble())
            for bond in atom.GetBonds()
            if bond.GetOtherAtomIdx(atom.GetIdx()) not in atoms
        )
        if lost:
            atom.SetNumExplicitHs(atom.GetTotalNumHs() + lost)
            atom.SetNoImplicit(True)
    edit.BeginBatchEdit()
    for index in set(range(mol.GetNumAtoms())) - atoms:
        edit.RemoveAtom(index)
    edit.CommitBatchEdit()
    return _sanitized(edit)


def recombined(fragments: Sequence[str], number: int, seed: int, limits: Limits) -> Iterator[str]:
    """SMILES of new molecules, each of two pieces bonded at open ends that BRICS allows to be bonded.

    Other open ends are closed by hydrogen. Every kind of piece is as likely as any other, so rare ones are not rare
    here. The same arguments give the same molecules.

    Args:
        fragments: SMILES of pieces, as `pieces` gives them.
        number: how many to try; fewer come out, because molecules repeat or are outside the limits.
        seed: of the choice.
        limits: that the molecules are within.
    """
    usable = sorted(set(fragments))
    ends: dict[int, list[int]] = {}  # pieces by kind of open end
    mols = [Chem.MolFromSmiles(smiles) for smiles in usable]
    for number_of, mol in enumerate(mols):
        for kind in sorted({atom.GetIsotope() for atom in mol.GetAtoms() if not atom.GetAtomicNum()}):
            ends.setdefault(kind, []).append(number_of)
    if not ends:
        return
    draw = random.Random(seed)
    seen: set[str] = set()
    for _ in range(number):
        first = draw.randrange(len(mols))
        kinds = sorted({atom.GetIsotope() for atom in mols[first].GetAtoms() if not atom.GetAtomicNum()})
        kind = draw.choice(kinds)
        partners = [other for other in sorted(_allowed().get(kind, ())) if other in ends]
        if not partners:
            continue
        partner = draw.choice(partners)
        second = draw.choice(ends[partner])
        new = _bonded(mols[first], mols[second], kind, partner, draw)
        if new is None or limits.reason(new):
            continue
        smiles = Chem.MolToSmiles(new)
        if smiles not in seen:
            seen.add(smiles)
            yield smiles


_DOUBLE = 7
"""BRICS' kind of the ends of a double bond, which it writes as single ones."""


@cache
def _allowed() -> dict[int, frozenset[int]]:
    """Kinds of open ends that BRICS bonds to each kind."""
    pairs = {(int(a.rstrip("ab")), int(b.rstrip("ab"))) for rule in BRICS.reactionDefs for a, b, _ in rule}
    both = pairs | {(b, a) for a, b in pairs}
    return {kind: frozenset(b for a, b in both if a == kind) for kind in {a for a, _ in both}}


def _bonded(first: Chem.Mol, second: Chem.Mol, kind: int, partner: int, draw: random.Random) -> Chem.Mol | None:
    """Two pieces bonded at an open end each; None where the result is not usable."""
    shift = first.GetNumAtoms()
    edit = Chem.RWMol(Chem.CombineMols(first, second))
    open_ends = [atom.GetIdx() for atom in edit.GetAtoms() if not atom.GetAtomicNum()]
    here = draw.choice([i for i in open_ends if i < shift and edit.GetAtomWithIdx(i).GetIsotope() == kind])
    there = draw.choice([i for i in open_ends if i >= shift and edit.GetAtomWithIdx(i).GetIsotope() == partner])
    (a,), (b,) = (edit.GetAtomWithIdx(i).GetNeighbors() for i in (here, there))
    edit.AddBond(a.GetIdx(), b.GetIdx(), Chem.BondType.DOUBLE if kind == _DOUBLE else Chem.BondType.SINGLE)
    edit.BeginBatchEdit()
    for i in open_ends:
        (atom,) = edit.GetAtomWithIdx(i).GetNeighbors()
        bond = edit.GetBondBetweenAtoms(i, atom.GetIdx())
        if i not in (here, there) and (atom.GetNoImplicit() or atom.GetIsAromatic()):
            atom.SetNumExplicitHs(atom.GetNumExplicitHs() + int(bond.GetBondTypeAsDouble()))
        edit.RemoveAtom(i)
    edit.CommitBatchEdit()
    return _sanitized(edit)


def _sanitized(edit: Chem.RWMol) -> Chem.Mol | None:
    """The molecule of an edit, without stereochemistry that no longer is; None where that is not usable."""
    mol = edit.GetMol()
    with rdBase.BlockLogs():
        try:
            Chem.SanitizeMol(mol)
            Chem.AssignStereochemistry(mol, cleanIt=True, force=True)
        except (Chem.MolSanitizeException, ValueError, RuntimeError):
            return None
    return None if any(mol.HasSubstructMatch(query) for query in _UNCLOSED) else mol


def _unique(mols: Sequence[Chem.Mol]) -> list[Chem.Mol]:
    """Molecules with equal SMILES once, the first one."""
    found: dict[str, Chem.Mol] = {}
    for mol in mols:
        found.setdefault(Chem.MolToSmiles(mol), mol)
    return list(found.values())
