"""MOL2 of GAFF's and AMBER's atom types: elements, bond orders and charges; unknown types are refused by name."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem

from espalike import chem
from espalike.chem.molecule import Molecule

STORED = Path(__file__).parent / "stored" / "mol2"  # of antechamber: gaff, gaff2 and amber types, bcc and gas charges
FILES = {
    "aspirin": "CC(=O)Oc1ccccc1C(=O)[O-]",
    "benzamidinium": "NC(=[NH2+])c1ccccc1",
    "nitro": "O=[N+]([O-])c1ccncc1Cl",
    "phosphate": "COP(=O)([O-])OC",
    "sulfonamide": "CS(=O)(=O)NC#C",
}
TYPES = {1: "hc", 6: "c3", 7: "n", 8: "o", 9: "f", 15: "p5", 16: "s", 17: "cl", 35: "br", 53: "i"}


def canonical(molecule: Molecule) -> str:
    return Chem.MolToSmiles(Chem.RemoveHs(chem.to_rdkit(molecule)), isomericSmiles=False)


def inchi(molecule: Molecule) -> str:
    """The same for all resonance forms."""
    return Chem.MolToInchi(chem.to_rdkit(molecule), options="/SNon")


def written(molecule: Molecule, charged: bool = True) -> str:
    """A MOL2 whose types say the elements."""
    xyz, charges = chem.embed(molecule)[0], molecule.charges.astype(float)
    head = (
        f"@<TRIPOS>MOLECULE\nm\n{molecule.n_atoms} {len(molecule.bonds)}\nSMALL\n{'bcc' if charged else 'NO_CHARGES'}\n"
    )
    rows = [
        f"{n} X{n} {x:.4f} {y:.4f} {z:.4f} {TYPES[number]} 1 LIG {charge:.4f}"
        for n, (number, charge, (x, y, z)) in enumerate(zip(molecule.numbers.tolist(), charges, xyz, strict=True), 1)
    ]
    orders = zip(molecule.bonds.tolist(), molecule.orders.tolist(), strict=True)
    bonds = [f"{n} {i + 1} {j + 1} {order}" for n, ((i, j), order) in enumerate(orders, 1)]
    return "\n".join([f"{head}@<TRIPOS>ATOM", *rows, "@<TRIPOS>BOND", *bonds, ""])


def read(tmp_path: Path, text: str) -> chem.Entry:
    (tmp_path / "x.mol2").write_text(text)
    (entry,) = chem.read_molecules(tmp_path / "x.mol2")
    return entry


@pytest.mark.parametrize("name", FILES)
def test_files_of_antechamber(name):
    (entry,) = chem.read_molecules(STORED / f"{name}.mol2")
    assert (entry.error, entry.notes) == (None, ())
    assert canonical(entry.molecule) == Chem.CanonSmiles(FILES[name])
    assert entry.charges.sum() == pytest.approx(entry.molecule.net_charge, abs=1e-2)
    assert entry.molecule.residue == "LIG"
    assert entry.molecule.atom_names[0].endswith("1")
    rows = (STORED / f"{name}.mol2").read_text().partition("ATOM\n")[2].splitlines()
    np.testing.assert_allclose(entry.xyz[0], [float(value) for value in rows[0].split()[2:5]])


@pytest.mark.parametrize(
    "smiles",
    [
        "C[N+](C)(C)C",
        "CN=[N+]=[N-]",
        "C[n+]1ccccc1",
        "[O-][n+]1ccccc1",
        "C[N+]#[C-]",
        "[NH3+]CC(=O)[O-]",
        "c1c[nH]c[nH+]1",
        "CC(=O)[N-]S(C)(=O)=O",
        "COS(=O)(=O)[O-]",
        "C[S+](C)C",
        "c1nnn[n-]1",
        "Cn1cnc2c1c(=O)n(C)c(=O)n2C",
        "O=P([O-])([O-])OC",
        "C=C=C",
        "CP(C)C",
        "FC(Cl)(Br)I",
    ],
)
def test_orders_and_charges_follow_from_bonds_and_the_total_charge(smiles, tmp_path):
    molecule = chem.from_smiles(smiles)
    text = written(molecule)
    entry = read(tmp_path, text)
    assert entry.error is None
    assert inchi(entry.molecule) == inchi(molecule)
    text = written(molecule, charged=False)
    entry = read(tmp_path, text)
    if smiles == "c1nnn[n-]1":  # or a cation
        assert "no partial charges say the total charge, and the bonds fit several" in entry.error
        return
    assert inchi(entry.molecule) == inchi(molecule)
    assert entry.molecule.net_charge == molecule.net_charge
    assert f"no partial charges say the total charge; {molecule.net_charge:+d} e is that" in entry.notes[0]


def test_bonds_of_no_lewis_structure(tmp_path):
    """All single, as antechamber draws carboxylates."""
    for smiles in ("CC(=O)[O-]", "O=[N+]([O-])c1ccccc1", "NC(=[NH2+])N", "CN=[N+]=[N-]"):
        molecule = chem.from_smiles(smiles)
        head, mark, bonds = written(molecule).partition("@<TRIPOS>BOND\n")
        single = "".join(f"{row.rsplit(maxsplit=1)[0]} 1\n" for row in bonds.splitlines())
        assert canonical(read(tmp_path, head + mark + single).molecule) == Chem.CanonSmiles(smiles)


def test_another_total_charge_is_refused(tmp_path):
    text = written(chem.from_smiles("CC(=O)[O-]")).replace("-1.0000", "0.0000")
    assert read(tmp_path, text).error is None  # all charges are zero: there are none
    for charges in ("0.5000", "1.0000", "-2.0000", "-3.0000"):
        entry = read(tmp_path, text.replace("LIG 0.0000", f"LIG {charges}", 1))
        assert f"the partial charges sum to {float(charges):+.3f} e, but the bonds are those of a" in entry.error
    diamine = written(chem.from_smiles("[NH3+]CC[NH3+]")).replace("1.0000", "0.0000")
    assert "molecule of charge +2" in read(tmp_path, diamine.replace("LIG 0.0000", "LIG 1e-4", 1)).error


def test_unknown_types_and_bonds_are_refused_by_name(tmp_path):
    text = written(chem.from_smiles("CO"))
    assert (
        "atom 2 (X2) has the type 'DU'; known are the types of SYBYL"
        in read(tmp_path, text.replace(" o ", " DU ")).error
    )
    assert "has the type 'xq'" in read(tmp_path, text.replace(" o ", " xq ")).error
    assert "bonds of type un; expected 1, 2" in read(tmp_path, text.replace("1 1 2 1", "1 1 2 un")).error
    assert "not a readable MOL2 record" in read(tmp_path, text.replace("1 1 2 1", "1 1 99 1")).error
    assert "no Lewis structure" in read(tmp_path, text.replace("c3", "hc")).error
    assert "its types are of two kinds, C.3 and o: one" in read(tmp_path, text.replace(" c3 ", " C.3 ")).error
    known = [*itertools.chain(TYPES.values()), "n+", "2C", "C*"]
    for kind in known:
        assert "known are the types" not in (read(tmp_path, text.replace(" o ", f" {kind} ")).error or "")


PHOSPHATES = {
    "OL15": ("CI", "OS", "P", "O2", "H1"),
    "OL15, a base": ("C7", "OS", "P", "O2", "H1"),
    "phosaa": ("CG", "OV", "P", "OX", "H1"),
    "Lipid21": ("cA", "oS", "pA", "oO", "hX"),
    "GLYCAM": ("Cg", "Os", "P", "O2", "Hc"),
}
"""Types of carbon, of oxygen between carbon and phosphorus, of phosphorus, of terminal oxygen, and of hydrogen."""


@pytest.mark.parametrize("field", PHOSPHATES)
def test_types_of_ambers_other_force_fields(field, tmp_path):
    """Without formal charges, and with all bonds single, as cpptraj and ParmEd write them."""
    dimethyl = chem.from_smiles("COP(=O)([O-])OC")
    text = written(dimethyl).replace("LIG -1.0000", "LIG -0.5000").replace("LIG 0.0000", "LIG -0.5000", 1)
    text = re.sub(r"(?m)^(\d+ \d+ \d+) 2$", r"\1 1", text)
    carbon, between, phosphorus, end, hydrogen = PHOSPHATES[field]
    bridges = {n + 1 for n in range(dimethyl.n_atoms) if (dimethyl.bonds == n).sum() == 2}
    lines = []
    for line in text.split("\n"):
        row = line.split()
        if len(row) == 9:
            oxygen = between if int(row[0]) in bridges else end
            row[5] = {"c3": carbon, "o": oxygen, "p5": phosphorus, "hc": hydrogen}[row[5]]
        lines.append(" ".join(row))
    entry = read(tmp_path, "\n".join(lines))
    assert (entry.error, entry.notes) == (None, ())
    assert inchi(entry.molecule) == inchi(dimethyl)


SYBYL = {
    "C[N+](=O)[O-]": ("N.pl3", "O.2", "1"),  # as antechamber -at sybyl writes it: RDKit reads a dianion
    "C[N+](C)(C)CC[N+](=O)[O-]": ("N.pl3", "O.2", "1"),
    "CS(=O)(=O)[O-]": ("S.3", "O.2", "1"),
    "CS(=O)(=O)O[CH3]": ("S.o2", "O.3", "2"),
    "COS(=O)(=O)[O-]": ("S.3", "O.co2", "ar"),
    "CC(=O)[O-]": ("N.3", "O.2", "1"),
    "CP(=O)([O-])[O-]": ("P.3", "O.co2", "ar"),
}


def sybyl(smiles: str, charged: bool) -> str:
    """A MOL2 of SYBYL types, whose oxygens at a nitrogen, sulfur, phosphorus or carboxylate have one type and order."""
    molecule = chem.from_smiles(smiles)
    centre, oxygen, order = SYBYL[smiles]
    text = written(molecule, charged)
    near = np.bincount(molecule.bonds.ravel(), minlength=molecule.n_atoms)
    single = {n + 1 for n in range(molecule.n_atoms) if molecule.numbers[n] == 8 and near[n] == 1}
    rows = []
    for row in text.splitlines():
        words = row.split()
        if len(words) == 9:
            z = int(molecule.numbers[int(words[0]) - 1])
            kind = {1: "H", 6: "C.3", 7: centre, 15: centre, 16: centre, 8: "O.3"}[z]
            words[5] = oxygen if int(words[0]) in single else kind
        elif len(words) == 4 and words[0].isdigit() and single & {int(words[1]), int(words[2])}:
            words[3] = order
        rows.append(" ".join(words))
    return "\n".join([*rows, ""])


@pytest.mark.parametrize("charged", [True, False])
@pytest.mark.parametrize("smiles", SYBYL)
def test_sybyl_types_with_orders_of_no_lewis_structure(smiles, charged, tmp_path):
    entry = read(tmp_path, sybyl(smiles, charged))
    assert entry.error is None
    assert canonical(entry.molecule) == Chem.CanonSmiles(smiles)


@pytest.mark.parametrize("charges", ["0.0 0.0 0.0", "0.03 0.15 -0.18"])
@pytest.mark.parametrize("kinds", ["C.3 C.3 O.3", "c3 c3 oh", "C.2 C.3 O.3", "CT CT OH"])
def test_carbons_without_their_hydrogens_are_refused(kinds, charges, tmp_path):
    """Ethanol without hydrogens was read as an anion of ethynol, or with partial charges as its zwitterion."""
    rows = [
        f"{n} X{n} {1.4 * n} 0.0 {n % 2} {kind} 1 LIG {charge}"
        for n, (kind, charge) in enumerate(zip(kinds.split(), charges.split(), strict=True), 1)
    ]
    lines = ["@<TRIPOS>MOLECULE", "m", "3 2", "SMALL", "GASTEIGER", "@<TRIPOS>ATOM", *rows]
    entry = read(tmp_path, "\n".join([*lines, "@<TRIPOS>BOND", "1 1 2 1", "2 2 3 1", ""]))
    assert f"hydrogens are missing: atom 1 has the type {kinds.split()[0]}, which has" in entry.error


@pytest.mark.parametrize("charge", ["0.0", "0.1"])
@pytest.mark.parametrize("kind", ["N.3", "P.3", "Si"])
def test_an_atom_without_two_hydrogens_is_refused(kind, charge, tmp_path):
    """Methylamine without the two of its nitrogen, which had a charge of -2."""
    kinds = ["C.3", kind, "H", "H", "H"]
    rows = [f"{n} X{n} {1.1 * n} {n % 2} {n % 3} {each} 1 LIG {charge}" for n, each in enumerate(kinds, 1)]
    lines = ["@<TRIPOS>MOLECULE", "m", "5 4", "SMALL", "GASTEIGER", "@<TRIPOS>ATOM", *rows, "@<TRIPOS>BOND"]
    entry = read(tmp_path, "\n".join([*lines, *(f"{n} 1 {n + 1} 1" for n in range(1, 5)), ""]))
    assert f"hydrogens are missing: atom 2 ({kind.partition('.')[0]}) has 1 neighbour and" in entry.error


@pytest.mark.parametrize(("carbon", "nitrogen"), [("C.3", "N.4"), ("c3", "nz")])
def test_an_ammonium_ion_without_a_hydrogen_is_refused(carbon, nitrogen, tmp_path):
    """Methylammonium without one of the three of its nitrogen, which was read as methylamine."""
    kinds = [carbon, nitrogen, *("H" if carbon == "C.3" else "hc" for _ in range(5))]
    rows = [f"{n} X{n} {1.1 * n} {n % 2} {n % 3} {each} 1 LIG 0.0" for n, each in enumerate(kinds, 1)]
    bonds = ((1, 2), (1, 3), (1, 4), (1, 5), (2, 6), (2, 7))
    lines = ["@<TRIPOS>MOLECULE", "m", "7 6", "SMALL", "GASTEIGER", "@<TRIPOS>ATOM", *rows, "@<TRIPOS>BOND"]
    entry = read(tmp_path, "\n".join([*lines, *(f"{n} {i} {j} 1" for n, (i, j) in enumerate(bonds, 1)), ""]))
    assert f"hydrogens are missing: atom 2 has the type {nitrogen}, which has 4 neighbours, and 3" in entry.error


def test_a_charge_that_only_the_hydrogens_say_is_noted(tmp_path):
    text = written(chem.from_smiles("C[O-]"), charged=False)
    for kind, other in (("c3", "C.3"), (" o ", " O.3 "), ("hc", "H")):
        text = text.replace(kind, other)
    entry = read(tmp_path, text)
    assert entry.molecule.net_charge == -1
    assert entry.notes == ("no partial charges say the total charge; -1 e is that of the bonds and hydrogens",)


@pytest.mark.parametrize("kind", ["N.2", "C.2"])
def test_two_double_bonds_at_an_atom_of_one(kind, tmp_path):
    """1,2,3-triazolate as antechamber draws it, a cation for RDKit; without partial charges it may be one."""
    molecule = chem.from_smiles("c1cn[n-]n1")
    drawn = {
        frozenset(pair): order for pair, order in [((0, 1), 2), ((1, 2), 1), ((2, 3), 2), ((3, 4), 2), ((4, 0), 1)]
    }
    for charged in (True, False):
        rows = []
        for row in written(molecule, charged).splitlines():
            words = row.split()
            if len(words) == 9:
                words[5] = {1: "H", 6: kind if kind[0] == "C" else "C.2", 7: "N.2"}[molecule.numbers[int(words[0]) - 1]]
            elif len(words) == 4 and words[0].isdigit():
                words[3] = str(drawn.get(frozenset((int(words[1]) - 1, int(words[2]) - 1)), 1))
            rows.append(" ".join(words))
        entry = read(tmp_path, "\n".join([*rows, ""]))
        if charged:
            assert inchi(entry.molecule) == inchi(molecule)
        else:
            assert "the bonds fit several; give partial charges" in entry.error


def test_partial_charges_of_another_sum_are_noted(tmp_path):
    text = sybyl("CC(=O)[O-]", charged=True).replace("O.2", "O.co2")
    text = "\n".join(
        f"{row.rsplit(maxsplit=1)[0]} ar" if row.split()[1:3] in (["2", "3"], ["2", "4"]) and len(row.split()) == 4
        else row.replace("C.3", "C.2") if row.startswith("2 X2") else row
        for row in text.splitlines()
    )  # fmt: skip
    entry = read(tmp_path, text + "\n")
    assert (entry.error, entry.molecule.net_charge, entry.notes) == (None, -1, ())
    entry = read(tmp_path, text.replace("-1.0000", "0.5000") + "\n")
    assert entry.notes == ()  # no whole number
    entry = read(tmp_path, text.replace("-1.0000", "1.0000") + "\n")
    assert entry.notes == ("the partial charges sum to +1.00 e, the formal charges to -1 e; the latter are used",)


@pytest.mark.parametrize("charged", [True, False])
@pytest.mark.parametrize("smiles", ["O=c1[nH][nH]c2ccccc12", "Cn1n(C)ccc1=O", "Cn1cc[n+](C)c1", "c1cc[nH+]cc1"])
def test_aromatic_nitrogens_of_three_bonds(smiles, charged, tmp_path):
    """As Open Babel writes them. RDKit reads the two of a pyrazolone, which are neutral, as cations."""
    molecule = chem.from_smiles(smiles)
    aromatic = {atom.GetIdx() + 1 for atom in chem.to_rdkit(molecule).GetAtoms() if atom.GetIsAromatic()}
    kinds = {1: "H", 6: "C.3", 8: "O.2", -6: "C.ar", -7: "N.ar"}
    rows = []
    for row in written(molecule, charged).splitlines():
        words = row.split()
        if len(words) == 9:
            z = int(molecule.numbers[int(words[0]) - 1])
            words[5] = kinds[-z if int(words[0]) in aromatic else z]
        elif len(words) == 4 and words[0].isdigit() and {int(words[1]), int(words[2])} <= aromatic:
            words[3] = "ar"
        rows.append(" ".join(words))
    entry = read(tmp_path, "\n".join([*rows, ""]))
    assert entry.error is None
    assert inchi(entry.molecule) == inchi(molecule)


@pytest.mark.parametrize("total", [None, 0.0, 1.0])
@pytest.mark.parametrize("smiles", ["CN=C(N)N", "CN=C(C)N"])
def test_neutral_guanidines_with_types_of_cations(smiles, total, tmp_path):
    """RDKit reads [N-]-C=[NH2+]. Without charges it may be a cation that lacks a hydrogen, and has a note."""
    molecule = chem.from_smiles(smiles)
    nitrogens = np.flatnonzero(molecule.numbers == 7)
    bonded = np.isin(molecule.bonds, nitrogens)
    ends = np.bincount(molecule.bonds[bonded[:, ::-1] & (molecule.numbers[molecule.bonds] == 6)])
    centre = int(ends.argmax())
    rows = []
    for row in written(molecule, total is not None).splitlines():
        words = row.split()
        if len(words) == 9:
            n = int(words[0]) - 1
            words[5] = "C.cat" if n == centre else {1: "H", 6: "C.3", 7: "N.pl3"}[molecule.numbers[n]]
            words[8] = {None: "0.0", 0.0: f"{0.3 * (n == 0) - 0.3 * (n == 1):.1f}"}.get(total, f"{float(n == 0)}")
        rows.append(" ".join(words))
    entry = read(tmp_path, "\n".join([*rows, ""]))
    if total:
        assert "sum to +1.000 e, but the bonds are those of a molecule of charge +0" in str(entry.error)
        return
    assert canonical(entry.molecule) == Chem.CanonSmiles(smiles)
    unsaid = "no partial charges say the total charge; +0 e is that of the best Lewis structure"
    assert entry.notes[:1] == ((unsaid,) if total is None else ())
