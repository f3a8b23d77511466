"""MOL records that are well-formed but mean another molecule: refused by name, or a molecule of full valences."""

import re

import numpy as np
import pytest
from hypothesis import strategies as st
from rdkit import Chem

from espalike import chem
from tests.fuzz.guard import amounts, bounded, explore, limited

SMILES = ("CC(=O)Nc1ccc(O)cc1", "C[C@H](N)C(=O)[O-]", "C[NH+](C)CC#N", "O=[N+]([O-])c1ccc[nH]1", "CS(=O)(=O)NC=C")
VALENCES = {
    (1, 0): {1}, (6, 0): {4}, (6, 1): {3}, (6, -1): {3}, (7, 0): {3}, (7, 1): {4}, (7, -1): {2}, (8, 0): {2},
    (8, -1): {1}, (8, 1): {3}, (9, 0): {1}, (16, 0): {2, 4, 6}, (16, -1): {1}, (16, 1): {3, 5},
}  # fmt: skip
"""Numbers of bonds of an element with a formal charge."""


@pytest.fixture(scope="module")
def records():
    """Each molecule's record, cut into its lines before the atoms, of atoms and of bonds."""
    texts = []
    for smiles in SMILES:
        molecule = chem.from_smiles(smiles)
        mol = chem.to_rdkit(molecule, chem.embed(molecule)[0])
        Chem.Kekulize(mol, clearAromaticFlags=True)
        lines = Chem.MolToMolBlock(mol, kekulize=False).split("\n")
        atoms, end = 4 + molecule.n_atoms, 4 + molecule.n_atoms + len(molecule.bonds)
        texts.append((lines[3:4], lines[4:atoms], lines[atoms:end], molecule.charges.tolist()))
    return texts


def written(atoms: list[str], bonds: list[str], charges: list[int]) -> str:
    """A record of these lines, with the charges of all atoms."""
    counts = f"{len(atoms):3d}{len(bonds):3d}  0  0  0  0  0  0  0  0999 V2000"
    charged = [f"M  CHG  1{n:4d}{charge:4d}" for n, charge in enumerate(charges, 1) if charge]
    return "\n".join(["x", "", "", counts, *atoms, *bonds, *charged, "M  END", ""])


def changed(data: st.DataObject, atoms: list[str], bonds: list[str], charges: list[int]):
    """The same lines with another order, charge, element or end of a bond, or a bond or two coordinates exchanged."""
    atoms, bonds, charges = list(atoms), list(bonds), list(charges)
    at, bond = data.draw(st.integers(0, len(atoms) - 1)), data.draw(st.integers(0, len(bonds) - 1))
    other = data.draw(st.integers(0, len(atoms) - 1))
    kind = data.draw(st.sampled_from(["order", "order", "charge", "move", "element", "end", "without", "places"]))
    line = bonds[bond]
    if kind == "order":
        bonds[bond] = f"{line[:6]}{data.draw(st.sampled_from([1, 2, 3, 4, 4])):3d}{line[9:]}"
    elif kind == "charge":
        charges[at] += data.draw(st.sampled_from([-1, 1]))
    elif kind == "move":
        charges[at], charges[other] = charges[other], charges[at]
    elif kind == "element":
        atoms[at] = f"{atoms[at][:31]}{data.draw(st.sampled_from('HCNOFS')):3}{atoms[at][34:]}"
    elif kind == "end":
        bonds[bond] = f"{line[:3]}{other + 1:3d}{line[6:]}"
    elif kind == "without":
        del bonds[bond]
    else:
        atoms[at], atoms[other] = atoms[other][:30] + atoms[at][30:], atoms[at][:30] + atoms[other][30:]
    return atoms, bonds, charges


@amounts(few=60, share=0.1)
def test_records_of_another_meaning(records, tmp_path, examples):
    path = tmp_path / "x.sdf"

    def check(data: st.DataObject) -> None:
        _, *parts = data.draw(st.sampled_from(records))
        for _ in range(data.draw(st.integers(1, 2))):
            parts = changed(data, *parts)
        atoms, bonds, charges = parts
        text = written(atoms, bonds, charges)
        path.write_text(text)
        with limited(), bounded():
            (entry,) = chem.read_molecules(path)
        if entry.molecule is None:
            assert "x.sdf, record 1" in entry.error
            return
        molecule = entry.molecule
        symbols = [Chem.GetPeriodicTable().GetElementSymbol(z) for z in molecule.numbers.tolist()]
        assert symbols == [line[31:34].strip() for line in atoms], text
        assert molecule.net_charge == sum(charges), text
        ends = {tuple(sorted((int(line[:3]), int(line[3:6])))): int(line[6:9]) for line in bonds}
        assert {(i + 1, j + 1) for i, j in molecule.bonds.tolist()} == ends.keys(), text
        drawn = [ends[i + 1, j + 1] for i, j in molecule.bonds.tolist()]
        if not entry.notes and 4 not in drawn:
            assert sorted(molecule.orders.tolist()) == sorted(drawn), text  # up to another Kekulé structure
        sums = np.bincount(molecule.bonds.ravel(), np.repeat(molecule.orders, 2), molecule.n_atoms).astype(int)
        for key, total in zip(
            zip(molecule.numbers.tolist(), molecule.charges.tolist(), strict=True), sums, strict=True
        ):
            assert total in VALENCES.get(key, {total}), text

    explore(check, examples)


@pytest.mark.parametrize(
    ("order", "charge", "message"),
    [
        (4, 0, "bond 1-2 is aromatic, but not in an aromatic ring; draw it as a single or double bond"),
        (1, 1, r"atom 20 is a bonded H of charge \+1; expected a neutral one"),
    ],
)
def test_single_changes(records, tmp_path, order, charge, message):
    """RDKit reads both: as a bond of order one, and as a molecule of charge one."""
    _, atoms, bonds, charges = records[0]
    (tmp_path / "x.sdf").write_text(written(atoms, [f"{bonds[0][:6]}{order:3d}", *bonds[1:]], [*charges[:-1], charge]))
    (entry,) = chem.read_molecules(tmp_path / "x.sdf")
    assert re.search(message, entry.error)
