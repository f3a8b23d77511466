"""Records built with rdkit alone, so that these tests do not lean on the chemistry room."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem

from espalike.chem.conformers import Conformers, EspGrid
from espalike.chem.molecule import Molecule
from espalike.data.schema import Record

DFT, XTB = "B3LYP-D3BJ/DZVP", "GFN2-xTB"
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
    options = {"level": DFT, "source": "made-up"}
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


def with_labels(record, rng, *kinds):
    """The record with labels that few records have."""
    conf, n = record.conformers, record.molecule.n_atoms
    k = len(conf.xyz)
    if "esp" in kinds:
        count = rng.integers(0, 5, k)
        g = int(count.sum())
        esp = EspGrid(rng.normal(size=(g, 3)).astype("f4"), rng.normal(size=g).astype("f4"), count)
        conf = replace(conf, esp=esp)
    if "dipole" in kinds:
        dipole = rng.normal(size=(k, 3))
        dipole[1:2] = np.nan  # not known of the second conformer
        conf = replace(conf, dipole=dipole)
    if "no forces" in kinds:
        conf = replace(conf, forces=None)
    if "no energy" in kinds:
        conf = replace(conf, energy=np.full(k, np.nan))
    record = replace(record, conformers=conf)
    if "reference" in kinds:
        record = replace(record, ref_charge=rng.normal(size=n), ref_lj=rng.uniform(size=(n, 2)))
    return replace(record, dihedral=np.arange(4)) if "scan" in kinds else record


def drop_columns(store, names):
    """The store as it would be if it were from before these columns."""
    for path in store.path.glob("*.arrow"):
        table = pa.ipc.open_file(path.read_bytes()).read_all().drop_columns(names)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    manifest = {k: v for k, v in store.manifest.items() if k not in ("checksums", "checksum")}  # it had none, too
    (store.path / "manifest.json").write_text(json.dumps(manifest))
    return type(store).open(store.path)


@pytest.fixture(scope="session")
def varied(tmp_path_factory):
    """Stores of several files or record batches; entries of 1 to 9 conformers with all kinds of labels and gaps."""
    from espalike.data.dataset import StoreDataset
    from espalike.data.store import write_store

    smiles = ["CC(=O)Nc1ccccc1", "[Cl-]", "C#CCO", "O", "C1CC1[NH3+]", "[H][H]", "CCO", "CO"]

    rng, folder, stores = np.random.default_rng(0), tmp_path_factory.mktemp("batches"), []
    kinds = [(), ("esp",), ("dipole", "reference"), ("no forces", "scan"), ("no energy",), ("esp", "dipole", "scan")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("espalike.data.shards._CHUNK", 3000)
        for n in range(3):
            source = {"source": "ab"[n % 2], "level": [DFT, XTB][n % 2], "split": "train"}
            records = []
            for i in range(14):
                record = build_record(smiles[(3 * n + i) % 8], int(rng.integers(1, 10)), seed=100 * n + i, **source)
                records.append(with_labels(record, rng, *(kinds[i % 6] if n < 2 else ())))
            store = write_store(folder / f"{n}", records, manifest=MANIFEST, shard=0.004 if n == 1 else 128)
            stores.append(store if n < 2 else drop_columns(store, ["dipole", "esp_points", "esp_values", "esp_count"]))
    assert len(list((folder / "1").glob("*.arrow"))) > 2
    assert len(stores[0].table.column("id").chunks) > 2
    return StoreDataset(stores, "train", [DFT, XTB])
