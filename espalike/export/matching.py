"""Which molecule a residue of an OpenMM topology is, by elements and bonds; or why it is not one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rdkit import Chem
from rdkit.Chem import rdqueries

from espalike.chem.graphs import formula, numbers_of, skeleton
from espalike.export.border import REACH, distances_from

if TYPE_CHECKING:
    from openmm.app.topology import Atom, Residue


def skeleton_of(residue: Residue) -> Chem.Mol | None:
    """Elements and bonds of a residue; None for a part of a molecule, or a residue with virtual sites or deuterium."""
    atoms = list(residue.atoms())
    if not all(map(_has_element, atoms)) or any(True for _ in residue.external_bonds()):
        return None
    place = {atom: i for i, atom in enumerate(atoms)}
    bonds = {(min(place[a], place[b]), max(place[a], place[b])) for a, b in residue.internal_bonds()}
    return skeleton([atom.element.atomic_number for atom in atoms], sorted(bonds))


def is_isomorphic(first: Chem.Mol, second: Chem.Mol) -> bool:
    """Whether two skeletons are the same."""
    if first.GetNumAtoms() != second.GetNumAtoms() or first.GetNumBonds() != second.GetNumBonds():
        return False
    if sorted(numbers_of(first)) != sorted(numbers_of(second)):
        return False
    return first.GetNumBonds() == 0 or first.HasSubstructMatch(second)


def part_of(residue: Residue, molecule: Chem.Mol) -> tuple[int, ...] | None:
    """Atoms of a skeleton that are a residue which is bonded to others, if the other atoms are its neighbours.

    Neighbours, each with its number of bonds, are compared to a distance of three bonds, the reach of a torsion.

    Returns:
        The atoms in ascending order, or None.
    """
    atoms = list(residue.atoms())
    if not all(map(_has_element, atoms)) or len(atoms) >= molecule.GetNumAtoms():
        return None
    theirs = Counter(numbers_of(molecule).tolist())
    if _counts(residue) - theirs or sum(map(_counts, _bonded_residues(residue)), Counter()) == theirs:
        return None  # other elements, or the whole molecule in several residues
    near: dict = {}
    for home in _residues_near(residue):
        for a, b in home.bonds():
            near.setdefault(a, {})[b] = None
            near.setdefault(b, {})[a] = None
    index = {atom: [*others] for atom, others in near.items()}
    outside = distances_from(atoms, lambda atom: index.get(atom, []), REACH)
    query, place = Chem.RWMol(), dict[object, int]()
    for atom in [*atoms, *outside]:
        if atom.element is None:
            return None
        one = rdqueries.AtomNumEqualsQueryAtom(atom.element.atomic_number)
        one.ExpandQuery(rdqueries.ExplicitDegreeEqualsQueryAtom(len(index.get(atom, ()))))
        place[atom] = query.AddAtom(one)
    for atom, row in place.items():
        for other in index.get(atom, ()):
            if place.get(other, -1) > row:
                query.AddBond(row, place[other], Chem.BondType.SINGLE)
    match = molecule.GetSubstructMatch(query.GetMol())
    return tuple(sorted(match[: len(atoms)])) if match else None


def _has_element(atom: Atom) -> bool:
    """Whether an atom has an element of the templates: for OpenMM, deuterium is not hydrogen."""
    return atom.element is not None and atom.element.symbol != "D"


def _residues_near(residue: Residue) -> list[Residue]:
    """A residue and those that are at most `REACH` bonds away from it."""
    found = [residue]
    for _ in range(REACH):
        for home in list(found):
            for pair in home.external_bonds():
                found += [atom.residue for atom in pair if atom.residue not in found]
    return found


def explanation(residue: Residue, known: Sequence[tuple[str, Chem.Mol]]) -> str:
    """Why a residue that looks like one of some molecules, given by names and skeletons, is not; empty otherwise."""
    mine = _counts(residue)
    label = f"residue {residue.name} {residue.id}"
    ends = [(a, b) if a.residue is residue else (b, a) for a, b in residue.external_bonds()]
    n_bonds = sum(1 for _ in residue.internal_bonds())
    together = _bonded_residues(residue) if ends else [residue]
    for name, mol in known:
        theirs = Counter(numbers_of(mol).tolist())
        if mine == theirs and not all(map(_has_element, residue.atoms())):
            return (
                f"{label} has the atoms of {name}, but the element of some is D, which OpenMM does not take for H: "
                "make it H; the masses are those of the molecule's isotopes"
            )
        if mine == theirs and ends:
            own, other = ends[0]
            return (
                f"{label} has the atoms of {name}, but its atom {own.name} is bonded to atom {other.name} of residue "
                f"{other.residue.name} {other.residue.id}. Remove the bond, or, for a ligand that is bound covalently, "
                "give the molecule with the nearest atoms of its neighbour as caps"
            )
        if mine == theirs and not n_bonds and mol.GetNumBonds():
            return (
                f"{label} has the atoms of {name}, but the topology has no bonds between them: a PDB needs CONECT "
                "records, other topologies `addBond`"
            )
        if mine == theirs:
            return (
                f"{label} has the atoms of {name}, but other bonds ({n_bonds} of them, expected {mol.GetNumBonds()}): "
                "it is an isomer, or bonds are wrong"
            )
        if len(together) > 1 and sum(map(_counts, together), Counter()) == theirs:
            listed = ", ".join(f"{each.name} {each.id}" for each in sorted(together, key=lambda r: r.index))
            return f"{name} is split over the residues {listed}; a template needs it in one residue"
        if (heavy := _heavy(mine)) == _heavy(theirs) and heavy and not ends:
            return f"{label} has the heavy atoms of {name}, but {mine[1]} hydrogens instead of {theirs[1]}"
        if ends and 2 * sum(heavy.values()) >= sum(_heavy(theirs).values()) and not mine - theirs:
            return (
                f"{label} ({formula(mine.elements())}) may be the part of {name} without its caps, but its neighbours "
                f"to a distance of {REACH} bonds are not those in {name}: the caps must have these atoms, each "
                "with as many bonds"
            )
    return ""


def _counts(residue: Residue) -> Counter[int]:
    return Counter(atom.element.atomic_number for atom in residue.atoms() if atom.element is not None)


def _heavy(counts: Counter[int]) -> Counter[int]:
    return Counter({z: count for z, count in counts.items() if z > 1})


def _bonded_residues(residue: Residue, most: int = 20) -> list[Residue]:
    """Residues that are bonded to a residue, directly or through others; at most some of them."""
    found = [residue]
    for home in found:
        for pair in home.external_bonds():
            found += [atom.residue for atom in pair if atom.residue not in found and len(found) < most]
    return found
