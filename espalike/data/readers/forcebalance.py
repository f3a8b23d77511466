"""Reader of ForceBalance targets: folders with `qdata.txt`, `scan.xyz`, `metadata.json` and a structure.

`qdata.txt` holds blocks of `JOB n`, `COORDS` [Å], `ENERGY` [hartree] and `GRADIENT` [hartree/bohr]. Older files call
the gradient `FORCES`; it is the gradient all the same ("a misnomer because the gradient and atomistic forces differ by
a sign", github.com/leeping/geomeTRIC/pull/89), and is read so. Without `qdata.txt`, energies are those in the comments
of `scan.xyz`, `Dihedral (…) Energy …` [hartree], as torsiondrive writes them. A torsion-profile target's
`metadata.json` says in `dihedrals` which torsion was driven and in `torsion_grid_ids` to which angles.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rdkit import Chem, rdBase

from espalike.chem import connectivity_key, from_smiles, read_molecules
from espalike.chem.conformers import Conformers
from espalike.chem.molecule import Molecule
from espalike.data.readers.base import Reader, ReaderError, Units, first_finite, some_finite
from espalike.data.readers.structure import SmilesOption, check_numbers, driven_torsion, molecule_of
from espalike.data.schema import Record, RecordError

FORMAT_UNITS = {"coords": "angstrom", "energies": "hartree", "forces": "hartree/bohr"}
_STRUCTURES = (".sdf", ".mol", ".mol2")
_MAPPED = "canonical_isomeric_explicit_hydrogen_mapped_smiles"
_SAME = 1e-3
"""Å between `scan.xyz`, of few decimals, and `qdata.txt`."""


@dataclass(eq=False)
class Frames:
    """Geometries of a target, in the file's units; lists of the same length, or empty."""

    xyz: list[np.ndarray] = field(default_factory=list)
    energy: list[float] = field(default_factory=list)
    gradient: list[np.ndarray] = field(default_factory=list)


class ForceBalanceReader(Reader):
    """Each target folder is an entry, named by its path below `path`.

    Args:
        path: a target's folder, or one with target folders at any depth.
        source: name of the data source in tables; None = the folder's name.
        level: level of theory of all targets; the files do not say it.
        smiles: of the one target, or a CSV file with columns `name` and `smiles`; None = an SDF, MOL or MOL2 in the
            folder, then the mapped SMILES in `metadata.json`, then bonds perceived from `scan.xyz` or the PDB.
        charge: total charge of all targets, where bonds are perceived.
        units: may repeat the format's units; it cannot change them.

    Raises:
        ReaderError: when there is no target, or `units` contradicts the format.
    """

    def __init__(
        self,
        path: str | Path,
        source: str | None = None,
        level: str | None = None,
        smiles: str | Mapping[str, str] | None = None,
        charge: int | None = None,
        units: str | None = None,
    ):
        super().__init__(path, source)
        self.level = level or ""
        self.smiles = SmilesOption(smiles)
        self.charge = charge
        self._units = Units(self.path, FORMAT_UNITS, units)
        folders = {p.parent for name in ("qdata.txt", "scan.xyz") for p in self.path.rglob(name)}
        self.targets = sorted(folders)
        if not self.targets:
            raise ReaderError(f"{self.path}: no target in it; expected folders with qdata.txt or scan.xyz")

    def __len__(self) -> int:
        return len(self.targets)

    def _raw(self) -> Iterator[tuple[str, Any]]:
        for folder in self.targets:
            inside = folder.relative_to(self.path).as_posix()
            yield self.path.name if inside == "." else inside, folder

    def _record(self, name: str, raw: Any) -> Record:
        qdata, scan = raw / "qdata.txt", raw / "scan.xyz"
        numbers, drawn = read_scan(name, scan) if scan.exists() else (None, Frames())
        frames = read_qdata(name, qdata) if qdata.exists() else drawn
        if not frames.xyz:
            raise RecordError("empty", f"{name}: no geometry in {qdata.name if qdata.exists() else scan.name}")
        xyz = self._units.internal(name, "coords", np.stack(frames.xyz))
        some_finite(name, "coordinates", xyz)
        if qdata.exists() and scan.exists():
            _same_geometries(name, xyz, self._units.internal(name, "coords", np.stack(drawn.xyz)))
        metadata = _metadata(name, raw / "metadata.json")
        molecule = self._molecule(name, raw, xyz, numbers, metadata)
        forces = None
        if frames.gradient:
            forces = -self._units.internal(name, "forces", np.stack(frames.gradient))
        conformers = Conformers(
            xyz=xyz,
            energy=self._units.internal(name, "energies", some_finite(name, "energies", np.array(frames.energy))),
            forces=forces,
            level=self.level,
            source=self.source,
        )
        dihedral = None
        if metadata.get("dihedrals"):
            dihedral = driven_torsion(name, xyz, metadata["dihedrals"], _grid(metadata))
        return Record(name, molecule, conformers, key=connectivity_key(molecule), dihedral=dihedral)

    def _molecule(
        self, name: str, folder: Path, xyz: np.ndarray, numbers: np.ndarray | None, metadata: dict
    ) -> Molecule:
        given = self.smiles.of(name)
        structures = [p for suffix in _STRUCTURES for p in sorted(folder.glob(f"*{suffix}"))]
        drawn = _structure(name, structures) if structures and not given else None
        if drawn is None and not given and isinstance(metadata.get("attributes"), dict):
            given = metadata["attributes"].get(_MAPPED)
        if numbers is None:
            numbers = drawn.numbers if drawn else _elements(name, folder, given)
        if len(numbers) != xyz.shape[1]:
            raise RecordError(
                "shapes disagree",
                f"{name}: {len(numbers)} atoms in the structure, coordinates of {xyz.shape[1]} atoms in qdata.txt",
            )
        if drawn is None:
            return molecule_of(name, numbers, xyz[first_finite(xyz)], given, self.charge)
        check_numbers(name, drawn, numbers)
        return drawn


def read_qdata(name: str, path: Path) -> Frames:
    """The blocks of a `qdata.txt`.

    Raises:
        RecordError: for blocks that are incomplete, not alike or twice there.
    """
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    blocks: list[dict[str, np.ndarray]] = []
    jobs: set[str] = set()
    for number, line in enumerate(text.split("\n"), start=1):
        word, *values = line.split() or [""]
        if word == "JOB":
            job = " ".join(values)
            if job in jobs:
                raise RecordError("identifier repeated", f"{name}: {path.name} holds JOB {job} twice")
            jobs.add(job)
            blocks.append({})
        elif word in ("COORDS", "ENERGY", "GRADIENT", "FORCES"):
            if not blocks:
                raise RecordError("not this format", f"{name}: {path.name}, line {number}: {word} before any JOB")
            try:
                blocks[-1]["GRADIENT" if word == "FORCES" else word] = np.array(values, dtype=np.float64)
            except ValueError as error:
                raise RecordError(
                    "number unreadable", f"{name}: {path.name}, line {number}: {word} is not a row of numbers ({error})"
                ) from error
    if not blocks:
        raise RecordError(
            "not this format", f"{name}: {path.name} holds no JOB; expected blocks of JOB, COORDS, ENERGY"
        )
    if not text.endswith("\n"):
        raise RecordError("cut short", f"{name}: {path.name} is cut short: its last line does not end; get it again")
    return _frames_of(name, path, blocks)


def _frames_of(name: str, path: Path, blocks: list[dict[str, np.ndarray]]) -> Frames:
    frames = Frames()
    has_gradient = any("GRADIENT" in block for block in blocks)
    size = len(blocks[0].get("COORDS", ()))
    sizes = {"COORDS": size, "ENERGY": 1, **({"GRADIENT": size} if has_gradient else {})}
    for k, block in enumerate(blocks, start=1):
        for word, expected in sizes.items():
            if word not in block:
                if word != "COORDS" and 2 * sum(word in other for other in blocks) >= len(blocks):
                    block[word] = np.full(expected, np.nan)  # a geometry without them is left out
                    continue
                raise RecordError(f"{word} missing", f"{name}: block {k} of {len(blocks)} of {path.name} has no {word}")
            if len(block[word]) != expected or (expected % 3 and word != "ENERGY"):
                raise RecordError(
                    "shapes disagree",
                    f"{name}: block {k} of {path.name}: {word} has {len(block[word])} numbers, expected {expected}, "
                    "three per atom",
                )
        frames.xyz.append(block["COORDS"].reshape(-1, 3))
        frames.energy.append(float(block["ENERGY"][0]))
        if has_gradient:
            frames.gradient.append(block["GRADIENT"].reshape(-1, 3))
    return frames


def read_scan(name: str, path: Path) -> tuple[np.ndarray, Frames]:
    """Atomic numbers `(A,)` and the geometries of a `scan.xyz`, with energies where its comments have them.

    Raises:
        RecordError: when it is not an XYZ file of one molecule.
    """
    table = Chem.GetPeriodicTable()
    lines = path.read_text(encoding="utf-8-sig", errors="replace").split("\n")
    frames = Frames()
    symbols: list[str] = []
    start = 0
    try:
        while start < len(lines) and lines[start].strip():
            n = int(lines[start])
            rows = [line.split() for line in lines[start + 2 : start + 2 + n]]
            if len(rows) < n or (symbols and [row[0] for row in rows] != symbols):
                raise ValueError(f"frame {len(frames.xyz) + 1} is cut short or of other atoms than the first")
            symbols = [row[0] for row in rows]
            frames.xyz.append(np.array([row[1:4] for row in rows], dtype=np.float64))
            if match := re.search(r"Energy\s+(\S+)", lines[start + 1]):
                frames.energy.append(float(match[1]))
            start += n + 2
        with rdBase.BlockLogs():
            numbers = np.array([table.GetAtomicNumber(symbol.capitalize()) for symbol in symbols])
    except (ValueError, IndexError, RuntimeError) as error:
        raise RecordError("scan.xyz unreadable", f"{name}: {path.name} is not an XYZ file ({error})") from error
    if len(frames.energy) not in (0, len(frames.xyz)) or (
        not frames.energy and not path.with_name("qdata.txt").exists()
    ):
        raise RecordError(
            "no energies", f"{name}: comments of {path.name} do not all say `Energy …`, and there is no qdata.txt"
        )
    return numbers, frames


def _same_geometries(name: str, xyz: np.ndarray, scan: np.ndarray) -> None:
    if xyz.shape != scan.shape or not np.abs(xyz - scan)[np.isfinite(xyz)].max() <= _SAME:
        raise RecordError(
            "scan.xyz differs from qdata.txt",
            f"{name}: the geometries of scan.xyz {scan.shape} are not those of qdata.txt {xyz.shape}; "
            "they belong to different calculations, or their atoms are in different orders",
        )


def _structure(name: str, paths: list[Path]) -> Molecule:
    if len(paths) > 1 and paths[0].suffix == paths[1].suffix:
        raise RecordError("several structures", f"{name}: both {paths[0].name} and {paths[1].name}; expected one")
    (entry, *others) = read_molecules(paths[0])
    if entry.molecule is None or others:
        raise RecordError(
            "structure unreadable", f"{name}: {entry.error or f'{paths[0].name} holds several molecules'}"
        )
    return entry.molecule


def _elements(name: str, folder: Path, smiles: str | None) -> np.ndarray:
    """Atomic numbers from a PDB, shape `(A,)`; from the mapped SMILES where there is none."""
    for path in sorted(folder.glob("*.pdb")):
        with rdBase.BlockLogs():
            mol = Chem.MolFromPDBBlock(
                path.read_text(encoding="utf-8-sig", errors="replace"), sanitize=False, removeHs=False
            )
        if mol is not None:
            return np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])
    if smiles and re.search(r":\d+\]", smiles):
        return from_smiles(smiles, name).numbers
    raise RecordError(
        "no structure", f"{name}: no SDF, MOL2, PDB or scan.xyz says the elements; give a mapped SMILES (option smiles)"
    )


def _metadata(name: str, path: Path) -> dict:
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise RecordError("metadata unreadable", f"{name}: {path.name} is not JSON ({error})") from error
    return content if isinstance(content, dict) else {}


def _grid(metadata: dict) -> list | None:
    grid = metadata.get("torsion_grid_ids")
    return grid if grid and all(np.size(angles) == 1 for angles in grid) else None
