"""Content of a store: the record, its Arrow schema with units in the field metadata, and its checks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from espalike.chem.complexes import is_complex
from espalike.chem.conformers import Conformers
from espalike.chem.molecule import Molecule

FORMAT = 1
"""Version of the stored layout; a store of another version is refused."""

SPLITS = ("train", "val", "test")
"""Names a record's split may have; an empty string means that none was given."""

KINDS = ("relaxed", "scan", "thermal", "distorted")
"""What the geometries of a record may be; an empty string means that it is not known."""


def check_split(split: str, what: str = "split") -> None:
    """Check that a split exists; an empty one stands for none.

    Args:
        split: its name.
        what: how an error calls it.

    Raises:
        ValueError: for another name: a misspelt split would have no entries.
    """
    if split not in ("", *SPLITS):
        raise ValueError(f"{what} {split!r} is unknown; known: {', '.join(SPLITS)}")


def check_column(name: str) -> None:
    """Check that stores have a column.

    Raises:
        KeyError: for another name, listing the columns.
    """
    if name not in SCHEMA.names:
        raise KeyError(f"a store has no column {name!r}; columns: {', '.join(SCHEMA.names)}")


class RecordError(ValueError):
    """A record that cannot be stored.

    Attributes:
        reason: short and the same for all records with this fault, so that rejections can be counted.
    """

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, eq=False)
class Record:
    """One entry: one molecule or one complex of molecules, one source, one level of theory.

    Attributes:
        id: unique name within its store.
        molecule: the graph.
        conformers: geometries, energies, forces, level, source.
        split: `train`, `val`, `test`, or empty where none was given.
        key: connectivity key (first InChIKey block, stereo-blind); empty = computed when written.
        ref_charge: reference partial charges [e], shape `(A,)`, or None.
        ref_lj: reference Lennard-Jones sigma [Å] and epsilon [kcal/mol], shape `(A, 2)`, or None.
        dihedral: the four atoms of the torsion that was driven, shape `(4,)`, where the geometries are a scan; or None.
        kind: what the geometries are: one of `KINDS`, or empty where it is not known.
        group: kind of interaction of a complex, e.g. `hydrogen bonds`; empty where not known.
        left_out: what is wrong with geometries of the file that the reader left out, one error for each.
    """

    id: str
    molecule: Molecule
    conformers: Conformers
    split: str = ""
    key: str = ""
    ref_charge: np.ndarray | None = None
    ref_lj: np.ndarray | None = None
    dihedral: np.ndarray | None = None
    kind: str = ""
    group: str = ""
    left_out: tuple[RecordError, ...] = ()


@dataclass(frozen=True)
class Rejection:
    """An entry that a reader could not turn into a record.

    Attributes:
        id: what the entry is called in its file.
        reason: short, for counting.
        message: description of the fault.
    """

    id: str
    reason: str
    message: str


def whole(name: str, what: str, values: Any) -> np.ndarray:
    """Numbers of a file as int64, of which a cast would change none.

    Args:
        name: what messages call the entry.
        what: what messages call the numbers.
        values: the numbers, as they were read.

    Raises:
        RecordError: for fractions, truth values, texts, and numbers beyond 2⁵³.
    """
    values = np.asarray(values)
    if values.dtype.kind not in "iuf":
        raise RecordError("not numbers", f"{name}: {what} are {values.dtype}; expected whole numbers")
    if not (np.abs(values.astype(np.float64)) < 2.0**53).all() or (values != np.rint(values)).any():
        raise RecordError(
            "not whole numbers", f"{name}: {what} are {values.ravel()[:8].tolist()}; expected whole numbers"
        )
    return values.astype(np.int64)


def _field(name: str, kind: pa.DataType, unit: str = "", shape: str = "", nullable: bool = False) -> pa.Field:
    metadata = {key: value for key, value in (("unit", unit), ("shape", shape)) if value}
    return pa.field(name, kind, nullable=nullable, metadata=metadata or None)


# Coordinates and forces are float32: at 100 Å that resolves 4e-6 Å, a force error of some 1e-3 kcal/mol/Å in the
# stiffest bond, far below any QM noise, and it halves what training reads. Energies are float64: near −6e5 kcal/mol
# float32 resolves only 0.06 kcal/mol.
SCHEMA = pa.schema(
    [
        _field("id", pa.string()),
        _field("name", pa.string()),
        _field("smiles", pa.string()),
        _field("key", pa.string()),
        _field("source", pa.string()),
        _field("level", pa.string()),
        _field("split", pa.string()),
        _field("numbers", pa.list_(pa.uint8()), shape="A"),
        _field("charges", pa.list_(pa.int8()), unit="e", shape="A"),
        _field("bonds", pa.list_(pa.int32()), shape="B,2"),
        _field("orders", pa.list_(pa.uint8()), shape="B"),
        _field("xyz", pa.list_(pa.float32()), unit="angstrom", shape="K,A,3"),
        _field("energy", pa.list_(pa.float64()), unit="kcal/mol", shape="K"),
        _field("forces", pa.list_(pa.float32()), unit="kcal/mol/angstrom", shape="K,A,3", nullable=True),
        _field("ref_charge", pa.list_(pa.float64()), unit="e", shape="A", nullable=True),
        _field("ref_sigma", pa.list_(pa.float64()), unit="angstrom", shape="A", nullable=True),
        _field("ref_epsilon", pa.list_(pa.float64()), unit="kcal/mol", shape="A", nullable=True),
        _field("dipole", pa.list_(pa.float64()), unit="e*angstrom", shape="K,3", nullable=True),
        _field("esp_points", pa.list_(pa.float32()), unit="angstrom", shape="G,3", nullable=True),
        _field("esp_values", pa.list_(pa.float32()), unit="kcal/mol/e", shape="G", nullable=True),
        _field("esp_count", pa.list_(pa.int32()), shape="K", nullable=True),
        _field("dihedral", pa.list_(pa.int32()), shape="4", nullable=True),
        _field("interaction", pa.list_(pa.float64()), unit="kcal/mol", shape="K", nullable=True),
        _field("sapt", pa.list_(pa.float64()), unit="kcal/mol", shape="K,4", nullable=True),
        _field("scaling", pa.list_(pa.float64()), shape="K", nullable=True),
        _field("group", pa.string(), nullable=True),
        _field("kind", pa.string(), nullable=True),
    ],
    metadata={"espalike": f"store format {FORMAT}"},
)
"""One row per entry; arrays are flat lists in C order, their shape and unit in the field's metadata."""

LATER = (
    "dipole",
    "esp_points",
    "esp_values",
    "esp_count",
    "dihedral",
    "interaction",
    "sapt",
    "scaling",
    "group",
    "kind",
)
"""Columns that a store may lack; a row without a value has the same digest as in a store without the column."""

_NAMES = tuple(SCHEMA.names)

UNITS = {f.name: f.metadata[b"unit"].decode() for f in SCHEMA if f.metadata and b"unit" in f.metadata}
"""Unit of each column that has one."""


def check_schema(schema: pa.Schema, where: str) -> None:
    """Check that a stored schema has the columns, types and units of this format.

    Raises:
        ValueError: naming the file, the column, the expected and the actual type or unit.
    """
    for expected in SCHEMA:
        if expected.name not in schema.names:
            if expected.name in LATER:
                continue
            raise ValueError(f"{where}: column {expected.name!r} is missing; columns found: {', '.join(schema.names)}")
        stored = schema.field(expected.name)
        if stored.type != expected.type:
            raise ValueError(f"{where}: column {expected.name!r} has type {stored.type}, expected {expected.type}")
        unit = UNITS.get(expected.name)
        given = (stored.metadata or {}).get(b"unit", b"").decode()
        if unit and not given:
            raise ValueError(f"{where}: column {expected.name!r} has no unit, expected {unit!r}; ingest the data again")
        if unit and given != unit:
            raise ValueError(
                f"{where}: column {expected.name!r} is in unit {given!r}, expected {unit!r}; ingest the data again"
            )


def _expect(condition: bool, reason: str, message: str) -> None:
    if not condition:
        raise RecordError(reason, message)


def complete(record: Record) -> dict[str, np.ndarray]:
    """Which conformers have finite numbers, by quantity, shape `(K,)`, bool; energies may be NaN for all of them."""
    conf = record.conformers
    quantities = {
        "coordinates": conf.xyz,
        "energies": None if np.isnan(conf.energy).all() else conf.energy,
        "forces": conf.forces,
        "interaction energies": conf.interaction,
    }
    return {
        name: np.isfinite(values).reshape(len(values), -1).all(axis=1)
        for name, values in quantities.items()
        if values is not None and len(values)
    }


def check(record: Record, gaps: bool = False) -> None:
    """Check one record: shapes that agree, finite numbers, a known split, a source and a level.

    With `gaps`, some conformers may have numbers that are not finite; the filters of an ingest drop these.

    Energies are all finite, or all NaN where the level gives none. A complex has interaction energies, and nothing else
    has.

    Raises:
        RecordError: with the reason and a message that names the record.
    """
    mol, conf, name = record.molecule, record.conformers, record.id
    a, k = mol.n_atoms, len(conf.xyz)
    _expect(bool(name), "no identifier", "a record has no identifier")
    _expect(record.split in ("", *SPLITS), "unknown split", f"{name}: split {record.split!r}; known: {SPLITS}")
    _expect(record.kind in ("", *KINDS), "unknown kind", f"{name}: kind of geometries {record.kind!r}; known: {KINDS}")
    _expect(bool(conf.level), "level of theory unknown", f"{name}: the level of theory is missing")
    _expect(bool(conf.source), "source unknown", f"{name}: the source is missing")
    _expect(a > 0 and k > 0, "empty", f"{name}: {a} atoms and {k} conformers")
    shapes = [
        ("charges", mol.charges, (a,)),
        ("bonds", mol.bonds, (len(mol.orders), 2)),
        ("coordinates", conf.xyz, (k, a, 3)),
        ("energies", conf.energy, (k,)),
        ("forces", conf.forces, (k, a, 3)),
        ("reference charges", record.ref_charge, (a,)),
        ("reference Lennard-Jones parameters", record.ref_lj, (a, 2)),
        ("dipoles", conf.dipole, (k, 3)),
        ("driven atoms", record.dihedral, (4,)),
        ("interaction energies", conf.interaction, (k,)),
        ("components of interaction energies", conf.sapt, (k, 4)),
        ("scalings of distances", conf.scaling, (k,)),
    ]
    if conf.esp is not None:
        g = int(np.sum(conf.esp.count))
        shapes += [
            ("numbers of potential points", conf.esp.count, (k,)),
            ("potential points", conf.esp.points, (g, 3)),
            ("potentials", conf.esp.values, (g,)),
        ]
    whole = complete(record) if gaps and not _misfits(shapes) else {}
    for what, array, shape in shapes:
        if array is None:
            continue
        actual = np.shape(array)
        if actual != shape:
            raise RecordError("shapes disagree", f"{name}: {what} have shape {actual}, expected {shape}")
        if what in ("dipoles", "components of interaction energies"):
            array = array[~np.isnan(array).all(axis=1)]  # a row of NaN: not known of this geometry
        if what == "scalings of distances":
            array = array[~np.isnan(array)]
        if gaps and what in whole and np.all([*whole.values()], axis=0).any():
            continue
        # NaN for every energy means that the level of theory gives none
        if not np.isfinite(array).all() and not (what == "energies" and np.isnan(array).all()):
            raise RecordError(f"{what} not finite", f"{name}: {what} hold NaN or infinite values")
    if len(mol.bonds) and not (mol.bonds.min() >= 0 and mol.bonds.max() < a):
        raise RecordError("shapes disagree", f"{name}: a bond names atom {mol.bonds.max()} of {a} atoms")
    _check_complex(record)


def _misfits(shapes: list[tuple]) -> bool:
    """Whether any array has another shape than expected."""
    return any(array is not None and np.shape(array) != shape for _, array, shape in shapes)


def _check_complex(record: Record) -> None:
    """Check that a complex, and nothing else, has interaction energies."""
    complexes, conf = is_complex(record.molecule), record.conformers
    _expect(
        complexes or conf.interaction is None,
        "no complex",
        f"{record.id}: interaction energies of one molecule; expected two or more, separated by dots in the SMILES",
    )
    _expect(
        not complexes or conf.interaction is not None,
        "interaction energies missing",
        f"{record.id}: several molecules without interaction energies; give each molecule its own record, or give "
        "interaction energies",
    )


def to_row(record: Record) -> dict:
    """The record as one row of `SCHEMA`: flat arrays in storage precision."""
    mol, conf = record.molecule, record.conformers
    lj = None if record.ref_lj is None else np.asarray(record.ref_lj, np.float64)
    esp = conf.esp
    return {
        "id": record.id,
        "name": mol.name,
        "smiles": mol.smiles,
        "key": record.key,
        "source": conf.source,
        "level": conf.level,
        "split": record.split,
        "numbers": mol.numbers.astype(np.uint8),
        "charges": mol.charges.astype(np.int8),
        "bonds": mol.bonds.astype(np.int32).ravel(),
        "orders": mol.orders.astype(np.uint8),
        "xyz": np.asarray(conf.xyz, np.float32).ravel(),
        "energy": np.asarray(conf.energy, np.float64),
        "forces": None if conf.forces is None else np.asarray(conf.forces, np.float32).ravel(),
        "ref_charge": None if record.ref_charge is None else np.asarray(record.ref_charge, np.float64),
        "ref_sigma": None if lj is None else lj[:, 0].copy(),
        "ref_epsilon": None if lj is None else lj[:, 1].copy(),
        "dipole": None if conf.dipole is None else np.asarray(conf.dipole, np.float64).ravel(),
        "esp_points": None if esp is None else np.asarray(esp.points, np.float32).ravel(),
        "esp_values": None if esp is None else np.asarray(esp.values, np.float32),
        "esp_count": None if esp is None else np.asarray(esp.count, np.int32),
        "dihedral": None if record.dihedral is None else np.asarray(record.dihedral, np.int32),
        "interaction": None if conf.interaction is None else np.asarray(conf.interaction, np.float64),
        "sapt": None if conf.sapt is None else np.asarray(conf.sapt, np.float64).ravel(),
        "scaling": None if conf.scaling is None else np.asarray(conf.scaling, np.float64),
        "group": record.group or None,
        "kind": record.kind or None,
    }


def _bytes(value: np.ndarray) -> memoryview:
    """A flat array as little-endian bytes, every NaN the same one."""
    value = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
    if value.dtype.kind == "f" and np.isnan(value).any():
        value = np.where(np.isnan(value), value.dtype.type(np.nan), value)
    return value.data.cast("B") if value.size else memoryview(b"")


def row_digest(row: dict) -> bytes:
    """SHA-256 of a row in storage precision: the same on every machine and for every version of Arrow."""
    digest = hashlib.sha256()
    for name in _NAMES:
        value = row[name]
        if value is None and name in LATER:
            continue
        payload = b"" if value is None else value.encode() if isinstance(value, str) else _bytes(value)
        digest.update(f"{name}:{value is not None}:{len(payload)};".encode())
        digest.update(payload)
    return digest.digest()


def content_hash(digests: list[bytes]) -> str:
    """Hash of a store's content from its rows' digests; independent of their order."""
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()
