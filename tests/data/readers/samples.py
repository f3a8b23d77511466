"""Molecules with energies and forces that the reader tests write and expect to read, and independent units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase.units import create_units
from rdkit import Chem
from rdkit.Chem import AllChem, rdMolTransforms

from espalike.data.schema import Record

ASE = create_units("2018")
"""An independent source of units; the default of ase is CODATA 2014, which differs in the ninth digit."""
HARTREE = ASE["Hartree"] / (ASE["kcal"] / ASE["mol"])
"""One hartree in kcal/mol."""
BOHR = ASE["Bohr"] / ASE["Angstrom"]
"""One bohr in Å."""
EV = ASE["eV"] / (ASE["kcal"] / ASE["mol"])
"""One electronvolt in kcal/mol."""
KJ = ASE["kJ"] / ASE["kcal"]
"""One kJ/mol in kcal/mol."""
DEBYE = ASE["Debye"] / (ASE["Angstrom"])
"""One debye in e Å."""

_ATOM_ENERGY = {1: -0.6, 6: -38.0, 7: -54.7, 8: -75.2, 9: -99.8, 15: -341.3, 16: -398.1, 17: -460.2}  # hartree, roughly


@dataclass(frozen=True, eq=False)
class Sample:
    """One molecule with conformers, in internal units: what is written, and what the format's own library reads back.

    Attributes:
        name: identifier in the file, where the format has one.
        smiles: mapped SMILES; map number i+1 is atom i. Heavy atoms do not come first.
        numbers: atomic numbers, shape `(A,)`.
        charge: total charge [e].
        xyz: coordinates [Å], shape `(K, A, 3)`.
        energy: total energies [kcal/mol], shape `(K,)`.
        forces: −dE/dx [kcal/mol/Å], shape `(K, A, 3)`; None where the format has none.
        id: identifier that the record must have, where the format has one; None = not compared.
    """

    name: str
    smiles: str
    numbers: np.ndarray
    charge: int
    xyz: np.ndarray
    energy: np.ndarray | None
    forces: np.ndarray | None
    id: str | None = None

    def swapped(self, equal: bool = False) -> tuple[int, int]:
        """Two atoms whose exchange is wrong: of different elements, or two hydrogens of different neighbours."""
        mol = rdkit_of(self.smiles)
        hydrogens = [a for a in mol.GetAtoms() if a.GetAtomicNum() == 1]
        if not equal:
            return hydrogens[0].GetIdx(), next(a.GetIdx() for a in mol.GetAtoms() if a.GetAtomicNum() > 1)
        first = hydrogens[0]
        other = next(h for h in hydrogens if h.GetNeighbors()[0].GetIdx() != first.GetNeighbors()[0].GetIdx())
        return first.GetIdx(), other.GetIdx()

    def permuted(self, equal: bool = False, numbers: bool = True) -> Sample:
        """The sample with the rows of two atoms exchanged (`numbers`: of atomic numbers too), the SMILES as it was."""
        order = np.arange(len(self.numbers))
        i, j = self.swapped(equal)
        order[[i, j]] = order[[j, i]]
        return replace(
            self,
            numbers=self.numbers[order] if numbers else self.numbers,
            xyz=self.xyz[:, order],
            forces=None if self.forces is None else self.forces[:, order],
        )


def sample(smiles: str, n: int = 3, seed: int = 0) -> Sample:
    """A molecule of `n` shaken geometries, its atoms in random order, energies of realistic absolute size."""
    rng = np.random.default_rng(seed)
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    mol = Chem.RenumberAtoms(mol, rng.permutation(mol.GetNumAtoms()).tolist())
    assert AllChem.EmbedMolecule(mol, randomSeed=7) == 0
    numbers = np.array([a.GetAtomicNum() for a in mol.GetAtoms()])
    rest = mol.GetConformer().GetPositions()
    # float32 numbers, so that formats of that precision keep them
    xyz = (rest + rng.normal(0, 0.03, (n, *rest.shape))).astype(np.float32).astype(np.float64)
    spring = rng.uniform(100, 500, rest.shape)
    for atom in mol.GetAtoms():
        atom.SetAtomMapNum(atom.GetIdx() + 1)
    return Sample(
        name=f"mol-{seed}",
        smiles=Chem.MolToSmiles(mol),
        numbers=numbers,
        charge=Chem.GetFormalCharge(mol),
        xyz=xyz,
        energy=HARTREE * sum(_ATOM_ENERGY[z] for z in numbers.tolist())
        + 0.5 * (spring * (xyz - rest) ** 2).sum((1, 2)),
        forces=-spring * (xyz - rest),
    )


def samples() -> list[Sample]:
    """Methanol (the one that corruptions spoil), a cation, an anion, an aromatic, a nitrile; neighbours differ."""
    chosen = [("CO", 3), ("C[NH3+]", 2), ("CC(=O)[O-]", 4), ("c1ccoc1", 2), ("CSCC#N", 1)]
    return [sample(smiles, n, seed) for seed, (smiles, n) in enumerate(chosen)]


def rdkit_of(smiles: str) -> Chem.Mol:
    """The molecule of a mapped SMILES in map order, by RDKit alone."""
    params = Chem.SmilesParserParams()
    params.removeHs = False
    mol = Chem.MolFromSmiles(smiles, params)
    order = np.argsort([a.GetAtomMapNum() for a in mol.GetAtoms()]).tolist()
    mol = Chem.RenumberAtoms(mol, order)
    for atom in mol.GetAtoms():
        atom.SetAtomMapNum(0)
    return mol


def graph_of(smiles: str) -> tuple:
    """Elements, bonded pairs, net charge, and the unmapped SMILES: the same for all resonance forms drawn alike."""
    mol = rdkit_of(smiles)
    bonds = sorted(tuple(sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx()))) for b in mol.GetBonds())
    plain = Chem.MolToSmiles(Chem.RemoveHs(mol), isomericSmiles=False)
    return [a.GetAtomicNum() for a in mol.GetAtoms()], bonds, Chem.GetFormalCharge(mol), plain


def scan(smiles: str, pattern: str, angles: Sequence[float]) -> tuple[Sample, list[int]]:
    """A sample whose geometries have the first match of a SMARTS pattern at these torsion angles; the four atoms."""
    s = sample(smiles, len(angles))
    mol = rdkit_of(s.smiles)
    assert AllChem.EmbedMolecule(mol, randomSeed=1) == 0
    atoms = [int(i) for i in mol.GetSubstructMatch(Chem.MolFromSmarts(pattern))]
    xyz = []
    for angle in angles:
        rdMolTransforms.SetDihedralDeg(mol.GetConformer(), *atoms, float(angle))
        xyz.append(mol.GetConformer().GetPositions())
    return replace(s, xyz=np.stack(xyz)), atoms


def assert_labels(record: Record, s: Sample, xyz: float = 1e-8, energy: float = 1e-10, forces: float = 1e-9) -> None:
    """A record has a sample's graph, coordinates (to `xyz` Å), energies (relative) and forces (absolute)."""
    assert graph_of(record.molecule.smiles) == graph_of(s.smiles)
    np.testing.assert_allclose(record.conformers.xyz, s.xyz, atol=xyz)
    np.testing.assert_allclose(record.conformers.energy, s.energy, rtol=energy)
    np.testing.assert_allclose(record.conformers.forces, s.forces, atol=forces)
