"""What `espalike molecules` reads: SMILES of files and stores, and of collections that come with installed packages."""

from __future__ import annotations

import csv
import io
import os
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Named = tuple[str, str]
"""Name and SMILES of a molecule; the SMILES is empty where it could not be read."""


@dataclass(frozen=True)
class Collection:
    """Molecules that come with an installed package.

    Attributes:
        paths: where they may be, relative to the folders that Python imports from.
        licence: of the molecules, or of the package.
        package: what to install to have it.
        columns: columns of the SMILES, for CSV files; None = all that are named EX1, EX2, ...
    """

    paths: tuple[str, ...]
    licence: str
    package: str
    columns: tuple[int, ...] | None = (0,)


_OPENFF = "openff/toolkit/data/molecules"
_RDKIT = "RDKit: BSD-3-Clause"
COLLECTIONS = {
    "groups": Collection(("espalike/chem/groups.smi",), "espalike: MIT", "espalike"),
    "minidrugbank": Collection(
        ("openmmforcefields/data/minidrugbank/MiniDrugBank.sdf", f"{_OPENFF}/MiniDrugBank.sdf"),
        "OpenFF toolkit, openmmforcefields: MIT; the molecules are DrugBank's",
        "acellera-openff-toolkit or acellera-openmmforcefields",
    ),
    "freesolv": Collection((f"{_OPENFF}/FreeSolv.tar.gz",), "FreeSolv: CC BY 4.0", "acellera-openff-toolkit"),
    "nci": Collection(("rdkit/Data/NCI/first_5K.smi",), "NCI: public domain", "rdkit"),
    "wehi": Collection(("rdkit/Data/Pains/test_data/wehi_mols.csv",), _RDKIT, "rdkit"),
    "pains": Collection(("rdkit/Data/Pains/test_data/test_set3.txt",), _RDKIT, "rdkit", (2,)),
    "nibr": Collection(
        ("rdkit/Contrib/NIBRSubstructureFilters/SubstructureFilter_HitTriaging_wPubChemExamples.csv",),
        f"{_RDKIT}; the molecules are PubChem's",
        "rdkit",
        None,
    ),
    "zinc": Collection(("rdkit/Contrib/SA_Score/data/zim.100.txt",), _RDKIT, "rdkit"),
    "freewilson": Collection(("rdkit/Contrib/FreeWilson/data/CHEMBL2321810.smi",), "ChEMBL: CC BY-SA 3.0", "rdkit"),
    "cdk2": Collection(("rdkit/Contrib/Fastcluster/testdata/cdk2.sdf",), _RDKIT, "rdkit"),
    "egfr": Collection(("rdkit/Contrib/PBF/testData/egfr.sdf",), _RDKIT, "rdkit"),
}
"""Collections by name."""
GROUPED = {"rdkit": ("nci", "wehi", "pains", "nibr", "zinc", "freewilson", "cdk2", "egfr")}
"""Several collections under one name."""


def listed(value) -> list[str]:
    """A setting that is one text, a list of texts, or null."""
    return [value] if isinstance(value, str) else [str(text) for text in value or []]


def expand(sources: list[str]) -> list[str]:
    """The sources, with each name of several collections replaced by theirs."""
    return [name for source in sources for name in GROUPED.get(source, (source,))]


def read_source(source: str, splits: list[str] | None = None) -> Iterator[Named]:
    """Molecules of a collection, a file or a store; mixtures and salts as they are written.

    Raises:
        ValueError: if there is no such collection here or file, the file is of an unknown kind or damaged, or a split
            is unknown: a misspelt one would exclude nothing.
    """
    from espalike.data.schema import check_split
    from espalike.data.store import EMBEDDED

    for split in splits or ():
        check_split(split)
    if source in COLLECTIONS and not Path(source).exists():
        return _collection(source)
    path = Path(source)
    if path.suffix.lower() in {".smi", ".smiles"}:
        if not path.is_file():
            raise ValueError(f"{source}: no such file")
        return _lines(path.read_text(encoding="utf-8-sig", errors="replace"), f"{path.stem}-")
    if not path.suffix and not os.path.exists(path) and source not in EMBEDDED:
        known = ", ".join([*GROUPED, *COLLECTIONS, *EMBEDDED])
        raise ValueError(f"{source}: neither a file, nor a store, nor a collection; collections are {known}")
    return _entries(source, splits)


def _entries(source: str, splits: list[str] | None) -> Iterator[Named]:
    from espalike.data.store import Store, embedded

    path = Path(source)
    if path.is_dir() or embedded(source):
        store = Store.open(path)
        rows = zip(store.column("id"), store.column("smiles"), store.column("split"), strict=True)
        yield from ((name, smiles) for name, smiles, split in rows if not splits or split in splits)
    elif path.suffix in {".h5", ".hdf5"}:
        yield from _hdf5(path, splits)
    elif path.suffix.lower() in {".sdf", ".sd", ".mol"}:
        yield from _sdf(path)
    else:
        raise ValueError(f"{path}: unknown kind of file; expected .smi, .sdf, .h5, or the folder of a store")


def _sdf(path: Path) -> Iterator[Named]:
    """Records of an SDF; hydrogens may be missing, because only the graph is read."""
    from rdkit import Chem, rdBase

    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    with rdBase.BlockLogs():
        for number, mol in enumerate(Chem.SDMolSupplier(str(path)), start=1):
            title = mol.GetProp("_Name").strip() if mol is not None and mol.HasProp("_Name") else ""
            yield title or f"{path.stem}-{number}", "" if mol is None else Chem.MolToSmiles(mol)


def _hdf5(path: Path, splits: list[str] | None) -> Iterator[Named]:
    """Attributes `smiles` and `split` of the groups; their geometries may be of any kind."""
    from espalike.data.readers.containers import open_hdf5, text
    from espalike.data.schema import check_split

    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    with open_hdf5(path) as file:
        for name, group in file.items():
            if "smiles" not in group.attrs:
                raise ValueError(f"{path}, {name}: no attribute smiles; expected one group per molecule that has it")
            split = text(group.attrs.get("split", ""))
            if splits:
                check_split(split, f"{path}, {name}: split")
            if not splits or split in splits:
                yield name, text(group.attrs["smiles"])


def _lines(text: str, prefix: str) -> Iterator[Named]:
    """Lines of a SMILES file: SMILES, and a name that may be missing."""
    from espalike.chem.records import smi_columns, smi_lines

    for number, line in enumerate(smi_lines(text.split("\n")), start=1):
        smiles, name = smi_columns(line)
        yield name or f"{prefix}{number}", smiles


def _collection(name: str) -> Iterator[Named]:
    collection = COLLECTIONS[name]
    here = Path(__file__).parents[2]
    folders = [here, *map(Path, sys.path)]
    found = [folder / path for path in collection.paths for folder in folders if (folder / path).is_file()]
    if not found:
        raise ValueError(f"input={name}: not installed; it comes with the package {collection.package}")
    path = found[0]
    if path.name.endswith(".tar.gz"):
        return _archive(path, name)
    if path.suffix == ".sdf":
        return ((f"{name}-{number}", smiles) for number, (_, smiles) in enumerate(_entries(str(path), None), start=1))
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".smi":
        named = name == "groups"
        return ((own if named else f"{name}-{own}", smiles) for own, smiles in _lines(text, ""))
    return _table(text, collection.columns, name)


def _table(text: str, columns: tuple[int, ...] | None, name: str) -> Iterator[Named]:
    """SMILES in some columns of a table, separated by commas or tabs; heads and remarks are not SMILES and left out."""
    separator = "\t" if text.splitlines()[-1].count("\t") else ","
    rows = csv.reader(io.StringIO(text), delimiter=separator)
    if columns is None:
        head = next(rows)
        columns = tuple(i for i, title in enumerate(head) if title.startswith("EX"))
    for number, row in enumerate(rows, start=1):
        for column in columns:
            if column < len(row) and row[column] and not row[0].startswith("#") and row[column] != "smiles":
                yield f"{name}-{number}" + (f".{column}" if len(columns) > 1 else ""), row[column]


def _archive(path: Path, name: str) -> Iterator[Named]:
    """The MOL2 files of an archive, by file name."""
    from rdkit import Chem, rdBase

    with tarfile.open(path) as archive, rdBase.BlockLogs():
        members = [m for m in archive.getmembers() if m.name.endswith(".mol2") and "/._" not in m.name]
        for member in sorted(members, key=lambda m: m.name):
            file = archive.extractfile(member)
            mol = Chem.MolFromMol2Block(file.read().decode(errors="replace")) if file else None
            yield f"{name}-{Path(member.name).stem}", Chem.MolToSmiles(mol) if mol is not None else ""
