"""The molecules of a PDB or mmCIF file, as RDKit's molecules with bond orders and charges."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from rdkit import Chem

from espalike.chem import coordinates
from espalike.chem import sanitize as rd
from espalike.chem.errors import ChemistryError
from espalike.chem.graphs import ends_of, formula, numbers_of, skeleton
from espalike.chem.residues import MISSING, VALENCE, Graph, is_onium
from espalike.chem.structures import Residue, Structure, read_mmcif, read_pdb
from espalike.topology import components

PDB, MMCIF = (".pdb", ".ent"), (".cif", ".mmcif")
"""Suffixes of the files."""
_WATER = {
    "HOH", "WAT", "H2O", "DOD", "SOL", "SPC", "TIP", "TIP3", "TIP4", "TIP5", "TP3", "TP4", "TP5", "T3P", "T4P", "T5P",
    "HO4", "HO5", "OPC", "SWM4",
}  # fmt: skip
"""Names of water, which may have virtual sites."""
_PARTS_OF_MOLECULES = {0, 1, 5, 6, 7, 14, 15, 16}
"""Elements whose single atoms are not ions but atoms that lost their bonds; 0 is an unknown one."""
_NUMBER = re.compile(r"(-?[0-9]{1,6})?(.*)", re.DOTALL)
"""Number of a residue, and its insertion code."""
_WHOLE = "A molecule is not cut at the border of a periodic box (gmx trjconv -pbc whole makes it whole)"
_SHOWN = 5
"""Number of faults that a message lists."""

_RELATIVE = {Chem.BondStereo.STEREOE: Chem.BondStereo.STEREOTRANS, Chem.BondStereo.STEREOZ: Chem.BondStereo.STEREOCIS}
"""The stereo of a double bond by the priorities of its neighbours, and relative to two of them."""
Assembled = tuple[Chem.Mol, tuple[str, ...]]
"""A molecule with its coordinates, and remarks."""


def molecules(text: str, suffix: str, smiles: str | None) -> list[Callable[[str], Assembled]]:
    """The molecules of a file in the order of their first atoms, each as a function of the name for its messages.

    Water and ions are left out, unless a SMILES is given and there is nothing else.

    Args:
        text: the file.
        suffix: its suffix.
        smiles: SMILES, with dots between several, of what is not a standard residue; `*` is an atom of a standard
            residue that it is bonded to. It is that of the whole molecule if there is one only.

    Raises:
        ChemistryError: for a file that cannot be read, or holds water and ions only. The functions raise it too.
    """
    kind = "PDB" if suffix in PDB else "mmCIF"
    structure = read_pdb(text) if suffix in PDB else read_mmcif(text)
    graph = Graph(structure)
    label = components(len(structure.atoms), np.array([*graph.orders, *graph.together], dtype=np.int64))
    order = np.argsort(label, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
    kept, solvent = list[np.ndarray](), list[np.ndarray]()
    for group in groups:
        (solvent if _is_solvent(graph, group) else kept).append(group)
    if not kept and smiles is not None:
        kept, solvent = solvent, []
    if not kept:
        raise ChemistryError("holds water and ions only; they have the parameters of a water model")
    if smiles is not None and len(kept) > 1 and all(graph.standard[n] for group in kept for n in group):
        raise ChemistryError("all residues are standard ones; leave the SMILES out")
    notes = structure.notes
    if solvent:
        found = Counter(formula(graph.numbers[n] for n in group) for group in solvent)
        listed = ", ".join(f"{count} {name}" for name, count in found.items())
        notes = (*notes, f"water and ions are left out ({listed}): they have the parameters of a water model")
    return [partial(_molecule, structure, graph, group, smiles, len(kept) == 1, kind, notes) for group in kept]


def _is_solvent(graph: Graph, group: np.ndarray) -> bool:
    numbers = sorted(graph.numbers[n] for n in group)
    named = all(graph.atoms[n].residue.name in _WATER and graph.numbers[n] in (0, 1, 8) for n in group)
    return named or numbers == [1, 1, 8] or (len(group) == 1 and numbers[0] not in _PARTS_OF_MOLECULES)


def _molecule(
    structure: Structure,
    graph: Graph,
    group: np.ndarray,
    smiles: str | None,
    only: bool,
    kind: str,
    notes: tuple[str, ...],
    name: str,
) -> Assembled:
    """One molecule.

    Raises:
        ChemistryError: for missing atoms, and where the SMILES is missing or another one.
    """
    inside = group.tolist()
    for n in inside:
        if not graph.numbers[n]:
            atom = structure.atoms[n]
            raise ChemistryError(f"{name}: the element of atom {atom.name} of residue {atom.residue} is unknown")
    place = {n: row for row, n in enumerate(inside)}
    unknown = [n for n in inside if graph.standard[n] is None]
    if only and smiles is not None and (not unknown or _is_whole(graph, inside, smiles, name)):
        unknown = inside
    if unknown and smiles is None:
        residue = structure.atoms[unknown[0]].residue
        whose = "the molecule's SMILES" if len(unknown) == len(inside) else "its SMILES"
        ends = "" if len(unknown) == len(inside) else ", in which * stands for each atom of a standard residue"
        raise ChemistryError(
            f"{name}: {'an' if kind == 'mmCIF' else 'a'} {kind} holds no bond orders, and {residue} is not a standard "
            f"residue; give {whose} with --smiles{ends}"
        )
    _check(structure, graph, sorted(set(inside).difference(unknown)), name)
    mol = Chem.RWMol()
    for n in inside:
        mol.AddAtom(_atom(structure, graph, n))
    for i in inside:
        for j in graph.near[i]:
            if i < j:
                mol.AddBond(place[i], place[j], rd.BOND_TYPES[graph.order(i, j)])
    if unknown:
        _assign(mol, [place[n] for n in unknown], str(smiles), name, kind)
        _charge_ends(mol, structure, {n: place[n] for n in graph.ends if n in place and n not in unknown}, name)
    conformer = Chem.Conformer(len(inside))
    conformer.SetPositions(np.array([structure.atoms[n].xyz for n in inside]))
    mol.AddConformer(conformer, assignId=True)
    if len(unknown) < len(inside):  # bonds follow from the coordinates of standard residues
        if fault := coordinates.fault(mol, conformer.GetPositions()):
            raise ChemistryError(f"{name}: coordinates cannot be used: {fault}. {_WHOLE}")
    else:
        notes = (*notes, *_other_stereo(mol.GetMol(), str(smiles), name))
    return mol.GetMol(), notes


def _other_stereo(mol: Chem.Mol, smiles: str, name: str) -> tuple[str, ...]:
    """A note if the coordinates are those of another stereoisomer than a SMILES with the same stereo elements."""
    mol = Chem.Mol(mol)
    rd.sanitize(mol, name)
    if coordinates.fault(mol, mol.GetConformer().GetPositions()):  # they are not used
        return ()
    Chem.AssignStereochemistryFrom3D(mol)
    found = _isomer(mol)
    wanted = [_isomer(_template(part, name)) for part in smiles.split(".")]
    alike = [isomer for isomer in wanted if re.sub(r"[@/\\]+", "@", isomer) == re.sub(r"[@/\\]+", "@", found)]
    if found in wanted or not alike:
        return ()
    return (
        f"the coordinates are those of the stereoisomer {found}, the SMILES is that of {alike[0]}; it is the former",
    )


def _isomer(mol: Chem.Mol) -> str:
    """Canonical SMILES without isotopes."""
    mol = Chem.RemoveHs(mol)
    for atom in mol.GetAtoms():
        atom.SetIsotope(0)
    return Chem.MolToSmiles(Chem.RemoveHs(mol))


def _is_whole(graph: Graph, atoms: Sequence[int], smiles: str, name: str) -> bool:
    """Whether a SMILES has the atoms of a molecule, standard residues included."""
    return np.array_equal(np.sort(numbers_of(_template(smiles, name))), sorted(graph.numbers[n] for n in atoms))


def _check(structure: Structure, graph: Graph, atoms: Sequence[int], name: str) -> None:
    residues = dict.fromkeys(structure.atoms[n].residue for n in atoms)
    _refuse({residue: graph.faults[residue] for residue in residues if residue in graph.faults}, name)


def _refuse(found: dict[Residue, str], name: str) -> None:
    faults = [f"{residue}: {fault}" for residue, fault in found.items()]
    if faults:
        more = f"; and {len(faults) - _SHOWN} residues more" if len(faults) > _SHOWN else ""
        raise ChemistryError(
            f"{name}: {'; '.join(faults[:_SHOWN])}{more}. Complete the structure, for example with PDBFixer or "
            f"OpenMM's Modeller.addHydrogens; termini have their hydrogens and OXT, or caps. {_WHOLE}. A thiolate is "
            "named CYM, a phenolate TYM"
        )


def _charge_ends(mol: Chem.RWMol, structure: Structure, place: dict[int, int], name: str) -> None:
    """Formal charges of the atoms of standard residues that are bonded to others, now that all orders are known.

    Args:
        mol: the molecule.
        structure: the structure.
        place: atoms of the molecule by those of the structure.
        name: name for messages.
    """
    faults = {}
    for n, row in place.items():
        atom = mol.GetAtomWithIdx(row)
        missing = VALENCE[atom.GetAtomicNum()] - int(sum(bond.GetBondTypeAsDouble() for bond in atom.GetBonds()))
        atom.SetFormalCharge(int(is_onium(atom.GetAtomicNum(), missing)))
        if missing > 0:
            faults[structure.atoms[n].residue] = f"{MISSING}: {structure.atoms[n].name} lacks {missing}"
    _refuse(faults, name)


def _atom(structure: Structure, graph: Graph, n: int) -> Chem.Atom:
    source = structure.atoms[n]
    atom = Chem.Atom(graph.numbers[n])
    atom.SetIsotope(source.isotope)
    atom.SetFormalCharge(graph.charges[n])
    atom.SetNoImplicit(True)
    number, code = _NUMBER.fullmatch(source.residue.number).groups()  # type: ignore[union-attr] # matches everything
    info = Chem.AtomPDBResidueInfo(source.name, residueName=source.residue.name, residueNumber=int(number or 0))
    info.SetInsertionCode(code)
    info.SetChainId(source.residue.chain)
    info.SetSegmentNumber(source.residue.part)
    info.SetIsHeteroAtom(graph.standard[n] is None)
    atom.SetMonomerInfo(info)
    return atom


def _assign(mol: Chem.RWMol, atoms: Sequence[int], smiles: str, name: str, kind: str) -> None:
    """Give atoms of a molecule the bond orders, charges and isotopes of a SMILES; parts are assigned one by one."""
    chosen = set(atoms)
    bonds = np.array([pair for pair in ends_of(mol) if chosen.issuperset(pair)], dtype=np.int64).reshape(-1, 2)
    label = components(mol.GetNumAtoms(), bonds)
    templates = [_template(part, name) for part in smiles.split(".")]
    for part in dict.fromkeys(label[n] for n in atoms):
        inside = [n for n in atoms if label[n] == part]
        outside = {
            other.GetIdx(): n
            for n in inside
            for other in mol.GetAtomWithIdx(n).GetNeighbors()
            if other.GetIdx() not in chosen
        }
        _assign_part(mol, inside, outside, templates, name, kind)


def _template(smiles: str, name: str) -> Chem.Mol:
    """The molecule of a SMILES with hydrogens and Kekulé bonds; it may have open ends, written `*`."""
    if "*" not in smiles:
        mol = rd.from_smiles(smiles, f"{name} (--smiles)")
        Chem.Kekulize(mol, clearAromaticFlags=True)
        rd.restore_isotopes(mol)
        return mol
    mol = Chem.MolFromSmiles(smiles)
    if mol is None:
        raise ChemistryError(f"{name} (--smiles): {rd.shorten(smiles)!r} is not a valid SMILES")
    mol = Chem.AddHs(mol)
    Chem.Kekulize(mol, clearAromaticFlags=True)
    return mol


def _assign_part(
    mol: Chem.RWMol, inside: list[int], outside: dict[int, int], templates: list[Chem.Mol], name: str, kind: str
) -> None:
    """One connected part: `outside` are the atoms of standard residues that it is bonded to, with their neighbours."""
    where = {n: row for row, n in enumerate([*inside, *outside])}
    numbers = np.array([*(mol.GetAtomWithIdx(n).GetAtomicNum() for n in inside), *[0] * len(outside)])
    pairs = [(where[i], where[j]) for i, j in ends_of(mol) if i in where and j in where and {i, j} & set(inside)]
    alike = [t for t in templates if np.array_equal(np.sort(numbers_of(t)), np.sort(numbers))]
    if not alike:
        ends = "".join(" and a bond to a standard residue" for _ in outside)
        offered = ", ".join(formula(z for z in numbers_of(t) if z) for t in templates)
        raise ChemistryError(
            f"{name}: the {kind} has {formula(z for z in numbers if z)}{ends}, the SMILES with its hydrogens "
            f"{offered}; they must be the same molecule, hydrogens included"
            + (", with * for each such bond" if outside else "")
        )
    for template in alike:
        match = skeleton(numbers, pairs).GetSubstructMatch(skeleton(numbers_of(template), ends_of(template)))
        if match and len(pairs) == template.GetNumBonds():
            break
    else:
        raise ChemistryError(f"{name}: the bonds of the {kind} and of the SMILES are not those of the same molecule")
    back = [*inside, *outside]
    for bond in template.GetBonds():
        i, j = (back[match[end]] for end in (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))
        mol.GetBondBetweenAtoms(i, j).SetBondType(bond.GetBondType())
    for atom, row in zip(template.GetAtoms(), match, strict=True):
        if atom.GetAtomicNum():
            mol.GetAtomWithIdx(back[row]).SetFormalCharge(atom.GetFormalCharge())
        if atom.GetIsotope():
            mol.GetAtomWithIdx(back[row]).SetIsotope(atom.GetIsotope())
    _take_stereo(mol, template, [back[row] for row in match])


def _take_stereo(mol: Chem.RWMol, template: Chem.Mol, place: Sequence[int]) -> None:
    """Give atoms the stereo of a SMILES, for coordinates that show none; those of a geometry replace it.

    Args:
        mol: the molecule.
        template: the molecule of the SMILES.
        place: atoms of the molecule that are the template's.
    """
    for atom in template.GetAtoms():
        if atom.GetChiralTag() == Chem.ChiralType.CHI_UNSPECIFIED:
            continue
        ours = mol.GetAtomWithIdx(place[atom.GetIdx()])
        order = [place[bond.GetOtherAtomIdx(atom.GetIdx())] for bond in atom.GetBonds()]
        turned = [order.index(bond.GetOtherAtomIdx(ours.GetIdx())) for bond in ours.GetBonds()]
        ours.SetChiralTag(atom.GetChiralTag())
        if sum(a > b for a, b in itertools.combinations(turned, 2)) % 2:
            ours.InvertChirality()
    for bond in template.GetBonds():
        if ends := [place[atom] for atom in bond.GetStereoAtoms()]:
            ours = mol.GetBondBetweenAtoms(place[bond.GetBeginAtomIdx()], place[bond.GetEndAtomIdx()])
            if ours.GetBeginAtomIdx() != place[bond.GetBeginAtomIdx()]:
                ends = ends[::-1]
            ours.SetStereoAtoms(*ends)
            ours.SetStereo(_RELATIVE.get(bond.GetStereo(), bond.GetStereo()))
    Chem.SetDoubleBondNeighborDirections(mol)  # from these, sanitization finds the stereo anew
