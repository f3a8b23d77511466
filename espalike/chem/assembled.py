"""The molecules of a PDB or mmCIF file, as RDKit's molecules with bond orders and charges."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from rdkit import Chem

from espalike.chem import coordinates
from espalike.chem import sanitize as rd
from espalike.chem.errors import ChemistryError
from espalike.chem.graphs import formula, numbers_of
from espalike.chem.residue_smiles import assign, template_of
from espalike.chem.residues import MISSING, VALENCE, WATER, Graph, is_onium, template
from espalike.chem.structures import Residue, Structure, read_mmcif, read_pdb
from espalike.topology import components

PDB, MMCIF = (".pdb", ".ent"), (".cif", ".mmcif")
"""Suffixes of the files."""
_PARTS_OF_MOLECULES = {0, 1, 5, 6, 7, 14, 15, 16}
"""Elements whose single atoms are not ions but atoms that lost their bonds; 0 is an unknown one."""
_NUMBER = re.compile(r"(-?[0-9]{1,6})?(.*)", re.DOTALL)
"""Number of a residue, and its insertion code."""
_WHOLE = "A molecule is not cut at the border of a periodic box (gmx trjconv -pbc whole makes it whole)"
_SHOWN = 5
"""Number of faults that a message lists."""
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
    notes, metals = structure.notes, _metals(structure, kept, solvent)
    if metals:
        listed = ", ".join(f"{structure.atoms[n].name} of {structure.atoms[n].residue}" for n in metals)
        notes = (*notes, f"{listed}: left out with the bonds to it; metals have no parameters")
        solvent = [group for group in solvent if group[0] not in metals]
    if solvent:
        found = Counter(formula(graph.numbers[n] for n in group) for group in solvent)
        listed = ", ".join(f"{count} {name}" for name, count in found.items())
        notes = (*notes, f"water and ions are left out ({listed}): they have the parameters of a water model")
    return [partial(_molecule, structure, graph, group, smiles, len(kept) == 1, kind, notes) for group in kept]


def _metals(structure: Structure, kept: Sequence[np.ndarray], solvent: Sequence[np.ndarray]) -> list[int]:
    """Single atoms of residues that have other atoms, such as the iron of a haem."""
    alone = [int(group[0]) for group in solvent if len(group) == 1]
    residues = {structure.atoms[n].residue for group in kept for n in group} if alone else set()
    return [n for n in alone if structure.atoms[n].residue in residues]


def _is_solvent(graph: Graph, group: np.ndarray) -> bool:
    numbers = sorted(graph.numbers[n] for n in group)
    named = all(graph.atoms[n].residue.name in WATER and graph.numbers[n] in (0, 1, 8) for n in group)
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
        found = list(dict.fromkeys(structure.atoms[n].residue for n in unknown))
        raise ChemistryError(f"{name}: {_without_smiles(found, len(unknown) == len(inside), kind)}")
    _check(structure, graph, sorted(set(inside).difference(unknown)), name)
    mol = Chem.RWMol()
    for n in inside:
        mol.AddAtom(_atom(structure, graph, n))
    for i in inside:
        for j in graph.near[i]:
            if i < j:
                mol.AddBond(place[i], place[j], rd.BOND_TYPES[graph.order(i, j)])
    if unknown:
        assign(mol, [place[n] for n in unknown], [structure.atoms[n].residue for n in inside], str(smiles), name, kind)
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


def _without_smiles(residues: Sequence[Residue], whole: bool, kind: str) -> str:
    """Why residues need a SMILES; `whole`: whether they are the whole molecule."""
    listed = ", ".join(map(str, residues[:_SHOWN])) + (f" and {n} more" if (n := len(residues) - _SHOWN) > 0 else "")
    be = "are not standard residues" if len(residues) > 1 else "is not a standard residue"
    if others := sorted({residue.name for residue in residues if template(residue.name)}):
        be += f" (the atoms are not those of {', '.join(others)})"
    give = "the molecule's SMILES with --smiles"
    if not whole:
        give = "its SMILES with --smiles, in which * stands for each atom of a standard residue"
    if len(residues) > 1:
        give = "their SMILES with --smiles, one for each kind, separated by dots, in which * stands for each atom of "
        give += "another residue"
    return f"{'an' if kind == 'mmCIF' else 'a'} {kind} holds no bond orders, and {listed} {be}; give {give}"


def _other_stereo(mol: Chem.Mol, smiles: str, name: str) -> tuple[str, ...]:
    """A note if the coordinates are those of another stereoisomer than a SMILES with the same stereo elements."""
    mol = Chem.Mol(mol)
    rd.sanitize(mol, name)
    if coordinates.fault(mol, mol.GetConformer().GetPositions()):  # they are not used
        return ()
    rd.take_stereo_of_coordinates(mol)
    rd.restore_isotopes(mol)
    found = _isomer(mol)
    wanted = [_isomer(template_of(part, name)) for part in smiles.split(".")]
    alike = [isomer for isomer in wanted if re.sub(r"[@/\\]+", "@", isomer) == re.sub(r"[@/\\]+", "@", found)]
    if found in wanted or not alike:
        return ()
    return (
        f"the coordinates are those of the stereoisomer {found}, the SMILES is that of {alike[0]}; it is the former",
    )


def _isomer(mol: Chem.Mol) -> str:
    """Canonical SMILES; isotopes are left out unless there is stereo with them alone."""
    text = Chem.MolToSmiles(Chem.RemoveHs(mol))
    mol = Chem.Mol(mol)
    for atom in mol.GetAtoms():
        atom.SetIsotope(0)
    Chem.AssignStereochemistry(mol, cleanIt=True, force=True)
    plain = Chem.MolToSmiles(Chem.RemoveHs(mol))
    return plain if sum(map(plain.count, "@/\\")) == sum(map(text.count, "@/\\")) else text


def _is_whole(graph: Graph, atoms: Sequence[int], smiles: str, name: str) -> bool:
    """Whether a SMILES has the atoms of a molecule, standard residues included."""
    return np.array_equal(np.sort(numbers_of(template_of(smiles, name))), sorted(graph.numbers[n] for n in atoms))


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
