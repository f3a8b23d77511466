"""RDKit molecules, read and sanitized once, and checked; every error names the molecule and the atom."""

from __future__ import annotations

from collections.abc import Callable

from rdkit import Chem, rdBase
from rdkit.Chem import rdqueries

from espalike.chem.errors import ChemistryError
from espalike.chem.names import residue_notes
from espalike.chem.stereo import assign_from_coordinates
from espalike.tables import counted

COVALENT = {1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 35, 53}
"""Elements whose bonds have parameters."""
_METAL_IONS = {3: 1, 11: 1, 19: 1, 12: 2, 20: 2, 30: 2}
BOND_TYPES = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}
"""RDKit's bond types by Kekulé bond order."""

# Queries are answered in one call, where a loop asks each atom in several: most molecules have none of these
_ODD_ATOM = Chem.MolFromSmarts(f"[{''.join(f'!#{number}' for number in sorted(COVALENT))}]")
_ODD_BOND = Chem.MolFromSmarts("*!-;!=;!#;!:*")
_ISOTOPE = Chem.MolFromSmarts("[!0*]")
_MASS_NUMBER = "_espalike_mass_number"
_IS_MAPPED = rdqueries.HasPropQueryAtom("molAtomMapNumber")
_IS_NOTED = rdqueries.HasPropQueryAtom(_MASS_NUMBER)
_POLYMERS = ("SRU", "MON", "MER", "COP", "CRO", "MOD", "GRA")
"""Types of groups of atoms that are parts of a polymer, in MOL records."""
_WAVY = "_UnknownStereo"
_AROMATIC_ALONE = Chem.MolFromSmarts("[A]:*")
_ODD_HYDROGEN = Chem.MolFromSmarts("[#1;!D0;!D1,!+0]")
_RADICAL = rdqueries.NumRadicalElectronsGreaterQueryAtom(0)

_ONE_ISOMER = [
    Chem.MolFromSmarts(text)
    for text in (
        "[*]=[$(*(=*)=*)]",  # of a cumulene or an azide
        "[*]=[#7X2;$([#7][#1]),$([#7H1]),$([#7X1])]",  # an imine that has a hydrogen
        "[*]=[#7X3+;$([#7]([#1])[#1]),$([#7H2])]",
        "[$([PX4,SX4](=O)[O-]),$([PX4](=O)[OX2][#1]),$([PX4](=O)[OX2H1])]",  # oxygens of resonance and exchange
    )
]
"""What has one isomer only: bonds, and atoms."""
_ATTEMPTS, _INVERSIONS = 5, 30
"""Attempts of one embedding, and the number of embeddings of one molecule that are tried."""
_SMALL = 40
"""Number of atoms up to which these embeddings take a moment."""
_TWO_MULTIPLE_BONDS = Chem.MolFromSmarts("[#7,#15,#17,#35,#53;+0;$(*(=,#*)=,#*),$([#17,#35,#53]=*)]")
_REWRITTEN = "_espalike_rewritten"
_WAS_REWRITTEN = rdqueries.HasPropQueryAtom(_REWRITTEN)

_AS_WRITTEN = Chem.SmilesParserParams()
_AS_WRITTEN.removeHs = False  # type: ignore[assignment]  # RDKit's stubs take the parameter for the property's type
_AS_WRITTEN.sanitize = False  # type: ignore[assignment]


def shorten(text: str, length: int = 80) -> str:
    """The beginning of a text, for names and messages."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def atoms_of(mol: Chem.Mol) -> list[Chem.Atom]:
    """The atoms; RDKit's own iterator asks for the number of atoms at each step."""
    return [mol.GetAtomWithIdx(i) for i in range(mol.GetNumAtoms())]


def plain_name(mol: Chem.Mol) -> str:
    """Name of a molecule without a name: its SMILES."""
    return shorten(Chem.MolToSmiles(Chem.RemoveHs(mol)))


def parse_smiles(smiles: str) -> Chem.Mol | None:
    """The molecule exactly as a SMILES writes it, not sanitized; None where it is not a SMILES."""
    return Chem.MolFromSmiles(smiles, _AS_WRITTEN)


def from_smiles(smiles: str, name: str) -> Chem.Mol:
    """The sanitized molecule of a SMILES, hydrogens explicit, in the order of its map numbers if it has them.

    Raises:
        ChemistryError: for what cannot be read or is not supported, naming the molecule.
    """
    with rdBase.BlockLogs():
        mol = parse_smiles(smiles.strip()) if smiles.strip() else None
        if mol is None:
            raise ChemistryError(f"{name}: {shorten(smiles)!r} is not a valid SMILES")
        maps = [atom.GetAtomMapNum() for atom in atoms_of(mol)]
        sanitize(mol, name)
        if not any(maps):
            mol = Chem.AddHs(mol)
        else:
            implicit = _lacks_hydrogens(mol)
            if implicit or sorted(maps) != list(range(1, len(maps) + 1)):
                raise ChemistryError(
                    f"{name}: a mapped SMILES must number every atom, hydrogens included, 1…{len(maps)} once; "
                    f"got {sorted(maps)}{' and implicit hydrogens' if implicit else ''}. Remove or complete them"
                )
            mol = Chem.RenumberAtoms(mol, sorted(range(len(maps)), key=maps.__getitem__))
        check_structure(mol, name)
    return mol


def sanitize(mol: Chem.Mol, name: str, drawn: bool = False) -> None:
    """RDKit's sanitization in place, once map numbers and isotopes are removed: like atoms are alike.

    Isotopes are noted in a property of the atoms, see `restore_isotopes`. Stereo is that of the molecule with them.

    Args:
        mol: the molecule.
        name: its name in messages.
        drawn: stereo of its double bonds is that of its coordinates, as in a MOL record.

    Raises:
        ChemistryError: for unsupported elements and bonds, and where RDKit complains; atom numbers begin at 1.
    """
    for atom in mol.GetAtomsMatchingQuery(_IS_MAPPED):
        atom.SetAtomMapNum(0)
    isotopes = [mol.GetAtomWithIdx(i) for (i,) in mol.GetSubstructMatches(_ISOTOPE)]
    for atom in isotopes:
        atom.SetIntProp(_MASS_NUMBER, atom.GetIsotope())
        atom.SetIsotope(0)
        mol.SetBoolProp(_MASS_NUMBER, True)  # quicker to ask for than the atoms
    _check_elements(mol, name)
    if mol.HasProp("_molLinkNodes") or any(
        group.GetProp("TYPE") in _POLYMERS for group in Chem.GetMolSubstanceGroups(mol)
    ):
        raise ChemistryError(f"{name}: has a repeating unit, as a polymer; expected all atoms, write each of the units")
    for atom in isotopes:
        if not Chem.GetPeriodicTable().GetMassForIsotope(atom.GetAtomicNum(), atom.GetIntProp(_MASS_NUMBER)):
            raise ChemistryError(
                f"{name}: atom {atom.GetIdx() + 1} is {atom.GetSymbol()} of mass number "
                f"{atom.GetIntProp(_MASS_NUMBER)}; no such isotope is known"
            )
    expanded = [mol.GetAtomWithIdx(i) for (i,) in mol.GetSubstructMatches(_TWO_MULTIPLE_BONDS)]
    try:
        Chem.SanitizeMol(mol)
        for atom in expanded:
            if atom.GetFormalCharge():
                atom.SetBoolProp(_REWRITTEN, True)
        if drawn:
            Chem.DetectBondStereochemistry(mol)
        _with_isotopes(mol, lambda one: Chem.AssignStereochemistry(one, cleanIt=True, force=True))
    except Chem.AtomValenceException as error:
        atom = mol.GetAtomWithIdx(error.cause.GetAtomIdx())  # type: ignore[attr-defined]
        charge = f" of charge {atom.GetFormalCharge():+d}" if atom.GetFormalCharge() else ""
        raise ChemistryError(
            f"{name}: atom {atom.GetIdx() + 1} ({atom.GetSymbol()}{charge}) has more bonds than its valence allows; "
            "check bond orders and formal charges"
        ) from error
    except (Chem.MolSanitizeException, ValueError, RuntimeError) as error:
        raise ChemistryError(f"{name}: not a valid structure ({str(error).strip()})") from error
    if match := mol.GetSubstructMatch(_AROMATIC_ALONE):  # its order would be that of a single bond
        raise ChemistryError(
            f"{name}: bond {min(match) + 1}-{max(match) + 1} is aromatic, but not in an aromatic ring; draw it as a "
            "single or double bond, and the ends of a carboxylate as =O and -O with charge -1"
        )


def take_stereo_of_coordinates(mol: Chem.Mol) -> None:
    """Give a molecule the stereo of its coordinates, also where a bond is marked as wavy, or as either cis or trans."""
    Chem.RemoveStereochemistry(mol)
    for n in range(mol.GetNumBonds()):
        mol.GetBondWithIdx(n).ClearProp(_WAVY)
    _with_isotopes(mol, assign_from_coordinates)


def _with_isotopes(mol: Chem.Mol, assign: Callable[[Chem.Mol], object]) -> None:
    """Assign stereo to a sanitized molecule while it has its isotopes, which make stereocentres: `[2H][C@H](C)O`."""
    noted = mol.GetAtomsMatchingQuery(_IS_NOTED) if mol.HasProp(_MASS_NUMBER) else ()
    isotopes = [(atom, atom.GetIntProp(_MASS_NUMBER)) for atom in noted]
    for atom, mass_number in isotopes:
        atom.SetIsotope(mass_number)
    assign(mol)
    for atom, _ in isotopes:
        atom.SetIsotope(0)


def restore_isotopes(mol: Chem.Mol) -> None:
    """Give the atoms of a sanitized molecule the isotopes that they had before."""
    for atom in mol.GetAtomsMatchingQuery(_IS_NOTED):
        atom.SetIsotope(atom.GetIntProp(_MASS_NUMBER))
        atom.ClearProp(_MASS_NUMBER)


def _check_elements(mol: Chem.Mol, name: str) -> None:
    if mol.HasSubstructMatch(_ODD_BOND):
        odd = next(b for b in mol.GetBonds() if b.GetBondType() not in (*BOND_TYPES.values(), Chem.BondType.AROMATIC))
        ends = odd.GetBeginAtomIdx() + 1, odd.GetEndAtomIdx() + 1
        raise ChemistryError(
            f"{name}: bond {ends[0]}-{ends[1]} is of type {odd.GetBondType().name.lower()}; supported are single, "
            "double, triple and aromatic bonds. Draw a dative bond as a single one between formal charges"
        )
    for i in sorted(i for (i,) in mol.GetSubstructMatches(_ODD_ATOM)):
        atom = mol.GetAtomWithIdx(i)
        number, charge, label = atom.GetAtomicNum(), atom.GetFormalCharge(), f"atom {i + 1}"
        if number not in _METAL_IONS:
            what = atom.GetSymbol() if number else "no element (a query or dummy atom)"
            raise ChemistryError(
                f"{name}: {label} is {what}; supported are H B C N O F Si P S Cl Br I "
                "and the ions Li+ Na+ K+ Mg2+ Ca2+ Zn2+"
            )
        if atom.GetDegree() or charge != _METAL_IONS[number]:
            raise ChemistryError(
                f"{name}: {label} is {atom.GetSymbol()} with charge {charge:+d} and {atom.GetDegree()} bonds; "
                f"it is supported as a free ion of charge {_METAL_IONS[number]:+d} only"
            )


def _lacks_hydrogens(mol: Chem.Mol) -> bool:
    return mol.GetNumAtoms(onlyExplicit=False) > mol.GetNumAtoms()


def check_structure(mol: Chem.Mol, name: str) -> None:
    """Check that a sanitized molecule is one molecule, without radicals and bridging hydrogens, its hydrogens explicit.

    Raises:
        ChemistryError: where it is not.
    """
    if _lacks_hydrogens(mol):
        missing = [atom.GetIdx() for atom in atoms_of(mol) if atom.GetTotalNumHs()]
        count = sum(mol.GetAtomWithIdx(i).GetTotalNumHs() for i in missing)
        raise ChemistryError(
            f"{name}: hydrogens are missing ({count} of them, first on atom {missing[0] + 1}); give all atoms "
            "explicitly, for example with RDKit's `Chem.AddHs(mol, addCoords=True)`, or give a SMILES"
        )
    for atom in mol.GetAtomsMatchingQuery(_RADICAL):
        raise ChemistryError(
            f"{name}: atom {atom.GetIdx() + 1} ({atom.GetSymbol()}) has {atom.GetNumRadicalElectrons()} unpaired "
            "electron(s); radicals are not supported. Check formal charges and missing hydrogens"
        )
    for (i,) in mol.GetSubstructMatches(_ODD_HYDROGEN):
        atom = mol.GetAtomWithIdx(i)
        if atom.GetDegree() == 1:
            raise ChemistryError(
                f"{name}: atom {i + 1} is a bonded H of charge {atom.GetFormalCharge():+d}; expected a neutral one "
                "with a single bond. Check bond orders and formal charges"
            )
        raise ChemistryError(
            f"{name}: atom {i + 1} (H) has {atom.GetDegree()} bonds; expected one. Remove the "
            "hydrogen bond, and give the molecules that it joins separate records"
        )
    fragments = Chem.GetMolFrags(mol)
    if len(fragments) > 1:
        raise ChemistryError(
            f"{name}: {len(fragments)} disconnected fragments of {', '.join(str(len(f)) for f in fragments)} atoms; "
            "expected one molecule. Give each a separate record"
        )


def remarks(mol: Chem.Mol) -> tuple[str, ...]:
    """What was accepted: atoms of too many bonds that were rewritten with charges, names of water, undefined stereo."""
    notes = tuple(
        f"atom {atom.GetIdx() + 1} ({atom.GetSymbol()}) had more bonds than its valence allows and is written with "
        f"charge {atom.GetFormalCharge():+d}"
        for atom in mol.GetAtomsMatchingQuery(_WAS_REWRITTEN)
    )
    return notes + residue_notes(mol) + stereo_notes(mol)


def mixture_notes(mol: Chem.Mol) -> tuple[str, ...]:
    """A note if stereocentres are those of a mixture of isomers (&1), or of one that is not known (o1).

    The molecule is as it was read: stereo that is read off coordinates has no such groups.
    """
    absolute = Chem.StereoGroupType.STEREO_ABSOLUTE
    groups = [group for group in mol.GetStereoGroups() if group.GetGroupType() != absolute]
    count = sum(len(group.GetAtoms()) + len(group.GetBonds()) for group in groups)
    if not count:
        return ()
    return (
        f"{counted(count, 'stereocentre')} of a mixture or of unknown configuration (& or o): one isomer is written",
    )


def stereo_notes(mol: Chem.Mol) -> tuple[str, ...]:
    """A note if stereocentres or stereo bonds are undefined, which is accepted: parameters do not depend on them.

    Left out are what RDKit lists although there is one isomer only: ends of cumulenes and azides, imines whose nitrogen
    has a hydrogen, phosphates and sulfonates of resonance, and bridgeheads that a cage holds in place.
    """
    centres = Chem.FindPotentialStereo(Chem.Mol(mol), cleanIt=True)  # it removes marks where there is no stereo
    undefined = [s for s in centres if s.specified != Chem.StereoSpecified.Specified]
    if not undefined:
        return ()
    fixed = {match for pattern in _ONE_ISOMER for match in mol.GetSubstructMatches(pattern)}
    bonds = [s.centeredOn for s in undefined if s.type == Chem.StereoType.Bond_Double]
    bonds = [b for b in bonds if not {ends := _ends(mol, b), ends[::-1]} & fixed]
    atoms = [s.centeredOn for s in undefined if s.type == Chem.StereoType.Atom_Tetrahedral]
    atoms = [a for a in atoms if (a,) not in fixed]
    heads = [a for a in atoms if _is_bridgehead(mol, a)]
    # if others are undefined, too, there is a note in any case, and embeddings of a large molecule take seconds
    alone = not bonds and len(heads) == len(atoms)
    if heads and (alone or mol.GetNumAtoms() <= _SMALL) and not _have_isomers(mol, heads):
        atoms = [a for a in atoms if a not in heads]
    if not atoms and not bonds:
        return ()
    places = f"{counted(len(atoms), 'atom')}, {counted(len(bonds), 'double bond')}"
    return (f"undefined stereo: {places}; parameters do not depend on it",)


def _ends(mol: Chem.Mol, bond: int) -> tuple[int, int]:
    return mol.GetBondWithIdx(bond).GetBeginAtomIdx(), mol.GetBondWithIdx(bond).GetEndAtomIdx()


def _is_bridgehead(mol: Chem.Mol, atom: int) -> bool:
    return sum(bond.IsInRing() for bond in mol.GetAtomWithIdx(atom).GetBonds()) > 2


def _have_isomers(mol: Chem.Mol, atoms: list[int]) -> bool:
    """Whether some of these atoms, one, two neighbours or all of them, can be inverted in space to give an isomer."""
    from rdkit.Chem import rdDistGeom

    one = Chem.Mol(mol)
    if rdDistGeom.EmbedMolecule(one, randomSeed=1) < 0:
        return True
    assign_from_coordinates(one)
    known = Chem.MolToSmiles(one)
    pairs = [[a, b] for a in atoms for b in atoms if a < b and mol.GetBondBetweenAtoms(a, b) is not None]
    for inverted in [atoms, *([a] for a in atoms), *pairs][:_INVERSIONS]:
        other = Chem.Mol(one)
        other.RemoveAllConformers()
        for a in inverted:
            other.GetAtomWithIdx(a).InvertChirality()
        if rdDistGeom.EmbedMolecule(other, randomSeed=1, maxAttempts=_ATTEMPTS) >= 0:
            assign_from_coordinates(other)
            if Chem.MolToSmiles(other) != known:
                return True
    return False
