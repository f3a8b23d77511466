"""Records built with rdkit alone, so that these tests do not lean on the chemistry room."""

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem

from espalike.chem.conformers import Conformers
from espalike.chem.molecule import Molecule
from espalike.data.schema import Record

MANIFEST = {"licence": "MIT", "origin": "made up", "command": "pytest"}


def build_molecule(smiles: str) -> tuple[Molecule, np.ndarray]:
    """Molecule and one embedded geometry."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=7) == 0
    for atom in mol.GetAtoms():
        atom.SetAtomMapNum(atom.GetIdx() + 1)
    Chem.Kekulize(mol, clearAromaticFlags=True)
    rows = sorted(
        (*sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx())), int(b.GetBondTypeAsDouble())) for b in mol.GetBonds()
    )
    bonds = np.array(rows, dtype=np.int64).reshape(-1, 3)
    molecule = Molecule(
        name=smiles,
        smiles=Chem.MolToSmiles(mol),
        numbers=np.array([a.GetAtomicNum() for a in mol.GetAtoms()], dtype=np.int64),
        charges=np.array([a.GetFormalCharge() for a in mol.GetAtoms()], dtype=np.int64),
        bonds=bonds[:, :2].copy(),
        orders=bonds[:, 2].copy(),
    )
    return molecule, mol.GetConformer().GetPositions()


def build_record(
    smiles: str, n: int = 4, *, split: str = "train", offset: float = -6e5, seed: int = 0, **kwargs
) -> Record:
    """A record with `n` perturbed geometries, energies near `offset`, forces."""
    rng = np.random.default_rng(seed)
    molecule, xyz0 = build_molecule(smiles)
    xyz = xyz0 + rng.normal(0, 0.05, (n, *xyz0.shape))
    options = {"level": "B3LYP-D3BJ/DZVP", "source": "made-up"}
    options.update({k: kwargs.pop(k) for k in ("level", "source") if k in kwargs})
    conformers = Conformers(
        xyz=xyz.astype(np.float32).astype(np.float64),
        energy=kwargs.pop("energy", offset + rng.normal(0, 2, n)),
        forces=kwargs.pop("forces", rng.normal(0, 20, xyz.shape).astype(np.float32).astype(np.float64)),
        **options,
    )
    return Record(
        id=kwargs.pop("id", f"{smiles}-{seed}"),
        molecule=molecule,
        conformers=conformers,
        split=split,
        key=kwargs.pop("key", f"KEY-{smiles}"),
        **kwargs,
    )


@pytest.fixture
def molecule_of():
    return build_molecule


@pytest.fixture
def record_of():
    return build_record


@pytest.fixture
def manifest():
    return dict(MANIFEST)


@pytest.fixture
def store_of(tmp_path):
    """Writes records to a fresh store."""
    from espalike.data.store import write_store

    def write(*records, name="store", **extra):
        return write_store(tmp_path / name, records, manifest={**MANIFEST, **extra})

    return write
