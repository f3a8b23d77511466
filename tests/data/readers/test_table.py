"""Tables, written and read by pyarrow: conformers or molecules as rows, flat or nested."""

from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import yaml

from espalike.data.filters import Filters
from espalike.data.readers.base import ReaderError
from espalike.data.readers.table import TableReader
from espalike.data.schema import Record
from tests.data.readers.samples import BOHR, HARTREE, KJ, Sample, graph_of, sample, samples
from tests.data.readers.suite import CONFIGS, ReaderSuite

LEVEL = "B3LYP-D3BJ/DZVP"
LEVELS = (("CO", "A/B"), ("CC", "C/D"))
FLAT = pa.list_(pa.float64())
NESTED = pa.list_(pa.list_(pa.list_(pa.float64())))


def with_units(schema, units):
    for name, unit in units.items():
        i = schema.get_field_index(name)
        schema = schema.set(i, schema.field(i).with_metadata({"unit": unit}))
    return schema


class Suite(ReaderSuite):
    """What all layouts have in common: rows of a sample, a schema, and a writer."""

    reader = TableReader
    config = "table"
    level = LEVEL
    refused = ("truncated", "empty", "foreign", "unit unknown", "unit contradicts", "missing array")
    says: ClassVar = {
        "truncated": "it is cut short, damaged, or neither parquet nor Arrow",
        "foreign": "neither parquet nor Arrow; get the file again",
        "unit unknown": "coords are in unit 'furlong'",
        "unit contradicts": "energies are in 'eV', but the option units says '(hartree|kJ/mol)'",
        "duplicated ids": r"mol-0, row \d: row 0 has the same name",
        "missing array": r"column 'energy' is missing; .*; give its name, 'reader\.columns={energy: NAME}'",
        "wrong shape": r"mol-0: forces of its row 1 are \d+ numbers, expected \d+",
    }
    units: ClassVar[dict[str, str]]
    schema: ClassVar[pa.Schema]

    def rows(self, s):
        raise NotImplementedError

    def save(self, table, path):
        raise NotImplementedError

    def load(self, path):
        raise NotImplementedError

    def write(self, path, samples):
        self.put(path, [row for s in samples for row in self.rows(s)])

    def put(self, path, rows, **units):
        schema = with_units(self.schema, {**self.units, **units})
        self.save(pa.Table.from_pylist(rows, schema=schema), path)

    def spoil(self, path, name):
        rows = self.load(path).to_pylist()
        if name.startswith("unit "):
            self.put(path, rows, **{"unit unknown": {"coords": "furlong"}, "unit contradicts": {"energy": "eV"}}[name])
        elif name == "missing array":
            self.save(self.load(path).drop_columns(["energy"]), path)
        elif name == "duplicated ids":
            self.put(path, [{**row, "id": row["id"].replace("mol-1", "mol-0")} for row in rows])
        elif name == "wrong shape":
            rows[0]["forces"] = rows[0]["forces"][:-1]
            self.put(path, rows)
        else:
            super().spoil(path, name)


class TestParquetOfConformers(Suite):
    filename = "set.parquet"
    corruption_options: ClassVar = {"unit contradicts": {"units": "energies hartree"}}
    options: ClassVar = {"level": LEVEL}
    units: ClassVar = {"coords": "bohr", "energy": "hartree", "forces": "hartree/bohr"}
    schema = pa.schema(
        {
            "id": pa.string(), "smiles": pa.string(), "charge": pa.int8(), "atomic_numbers": pa.list_(pa.uint8()),
            "coords": FLAT, "energy": pa.float64(), "forces": FLAT,
        }
    )  # fmt: skip

    def rows(self, s):
        common = {"id": s.name, "smiles": s.smiles, "charge": s.charge, "atomic_numbers": s.numbers.tolist()}
        for xyz, energy, forces in zip(s.xyz / BOHR, s.energy / HARTREE, s.forces / (HARTREE / BOHR), strict=True):
            yield {**common, "coords": xyz.ravel().tolist(), "energy": energy, "forces": forces.ravel().tolist()}

    def save(self, table, path):
        pq.write_table(table, path, row_group_size=2)

    def load(self, path):
        return pq.read_table(path)

    def read(self, path):
        groups = {}
        for row in self.load(path).to_pylist():
            groups.setdefault(row["id"], []).append(row)
        results = []
        for name, rows in groups.items():
            shape = (len(rows), len(rows[0]["atomic_numbers"]), 3)
            xyz, energy, forces = (np.array([row[key] for row in rows]) for key in ("coords", "energy", "forces"))
            first, numbers = rows[0], np.array(rows[0]["atomic_numbers"])
            xyz, energy, forces = xyz.reshape(shape) * BOHR, energy * HARTREE, forces.reshape(shape) * (HARTREE / BOHR)
            results.append(Sample(name, first["smiles"], numbers, first["charge"], xyz, energy, forces, id=name))
        return results


class TestArrowOfMolecules(Suite):
    """A molecule a row, nested lists, the level in a column, units partly in the fields."""

    filename = "set.arrow"
    first_id = f"mol-0/{LEVEL}"
    corruption_options: ClassVar = {"unit contradicts": {"units": "coords angstrom; energies kJ/mol"}}
    options: ClassVar = {"units": "coords angstrom"}
    units: ClassVar = {"energy": "kJ/mol", "forces": "kJ/mol/angstrom"}
    schema = pa.schema(
        {
            "id": pa.string(), "smiles": pa.string(), "charge": pa.int8(), "atomic_numbers": pa.list_(pa.uint8()),
            "coords": NESTED, "energy": FLAT, "forces": NESTED, "level": pa.string(), "split": pa.string(),
        }
    )  # fmt: skip

    def rows(self, s):
        common = {"id": s.name, "smiles": s.smiles, "charge": s.charge, "atomic_numbers": s.numbers.tolist()}
        arrays = {"coords": s.xyz, "energy": s.energy / KJ, "forces": s.forces / KJ}
        yield {**common, **{k: v.tolist() for k, v in arrays.items()}, "level": LEVEL, "split": "val"}

    def save(self, table, path):
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table, max_chunksize=2)

    def load(self, path):
        return pa.ipc.open_file(path.read_bytes()).read_all()

    def read(self, path):
        results = []
        for row in self.load(path).to_pylist():
            numbers, xyz, energy, forces = (
                np.array(row[key]) for key in ("atomic_numbers", "coords", "energy", "forces")
            )
            name = f"{row['id']}/{LEVEL}"
            results.append(
                Sample(row["id"], row["smiles"], numbers, row["charge"], xyz, energy * KJ, forces * KJ, id=name)
            )
        return results

    def test_splits(self, path):
        assert {record.split for record in self.records(path)} == {"val"}


def descent_rows(s, sign=1.0):
    arrays = {"coords": s.xyz, "energy": s.energy - s.energy.mean(), "forces": sign * s.forces}
    return {"smiles": s.smiles, **{key: value.ravel().tolist() for key, value in arrays.items()}}


DESCENT = pa.schema({"smiles": pa.string(), "coords": FLAT, "energy": FLAT, "forces": FLAT})


def options_of(name):
    return {
        key: value for key, value in yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()).items() if key != "defaults"
    }


@pytest.mark.parametrize("named", ["entries", "no", "rows"])
@pytest.mark.parametrize("rows_of_a_file", [3, 20_000])
def test_rows_of_a_molecule_may_stand_apart(tmp_path, monkeypatch, named, rows_of_a_file):
    """A shuffled table has the records of a sorted one; without that, every entry would have one conformer."""
    monkeypatch.setattr("espalike.data.readers.gather._ROWS", rows_of_a_file)
    suite = TestParquetOfConformers()
    rows = [row for s in samples() for row in suite.rows(s)]
    schema = with_units(suite.schema, suite.units)
    orders = {"sorted": np.arange(len(rows)), "shuffled": np.random.default_rng(1).permutation(len(rows))}
    records = {}
    for kind, order in orders.items():
        table = pa.Table.from_pylist([rows[i] for i in order], schema=schema)
        path = tmp_path / f"{kind}.parquet"
        if named != "entries":
            table = table.drop_columns(["id"])
        if named == "rows":
            table = table.append_column("id", pa.array([f"conformer-{i}" for i in order]))
        pq.write_table(table, path, row_group_size=2)
        records[kind] = {r.molecule.smiles: r for r in TableReader(path, **suite.options)}
    assert len(records["sorted"]) == len(samples()) > 1
    assert max(len(record.conformers.xyz) for record in records["sorted"].values()) > 2
    assert records["shuffled"].keys() == records["sorted"].keys()
    for smiles, record in records["sorted"].items():
        other = records["shuffled"][smiles]
        assert len(other.conformers.xyz) == len(record.conformers.xyz)
        where = [np.flatnonzero((other.conformers.xyz == xyz).all((1, 2)))[0] for xyz in record.conformers.xyz]
        np.testing.assert_array_equal(other.conformers.energy[where], record.conformers.energy)
        np.testing.assert_array_equal(other.conformers.forces[where], record.conformers.forces)


@pytest.mark.parametrize("kind", ["stream", "feather", "folder"])
def test_tables_of_descent_in_every_container(tmp_path, kind):
    chosen = samples()
    table = pa.Table.from_pylist([descent_rows(s) for s in chosen], schema=DESCENT)
    path = tmp_path / "train"
    if kind == "stream":
        with pa.ipc.new_stream(path, table.schema) as file:
            file.write_table(table, max_chunksize=2)
    elif kind == "feather":
        pyarrow.feather.write_feather(table, path)
    else:
        path.mkdir()
        for i in range(len(table)):
            pq.write_table(table.slice(i, 1), path / f"data-{i}.parquet")
    reader = TableReader(path, level=LEVEL, **options_of("descent"))
    assert len(reader) == len(chosen)
    assert [r.id for r in reader] == [f"train-{i}" for i in range(len(chosen))]
    for record, s in zip(reader, chosen, strict=True):
        np.testing.assert_allclose(record.conformers.xyz, s.xyz)
        np.testing.assert_allclose(record.conformers.forces, s.forces)
        np.testing.assert_allclose(record.conformers.energy, s.energy - s.energy.mean(), atol=1e-9)


def test_units_must_be_said(tmp_path):
    pq.write_table(pa.Table.from_pylist([descent_rows(sample("CO"))], schema=DESCENT), tmp_path / "a.parquet")
    with pytest.raises(ReaderError, match="nothing says the unit of 'energy'"):
        list(TableReader(tmp_path / "a.parquet", level=LEVEL))
    with pytest.raises(ReaderError, match=r"give reader\.level"):
        TableReader(tmp_path / "a.parquet", **options_of("descent"))


def test_a_column_of_gradients(tmp_path):
    s = sample("CO")
    pq.write_table(pa.Table.from_pylist([descent_rows(s, -1.0)], schema=DESCENT), tmp_path / "a.parquet")
    options = {"level": LEVEL, **options_of("descent")}
    (record,) = TableReader(tmp_path / "a.parquet", columns={"gradient": "forces"}, **options)
    np.testing.assert_allclose(record.conformers.forces, s.forces)
    with pytest.raises(ReaderError, match="names gradients; known: smiles, coords"):
        TableReader(tmp_path / "a.parquet", columns={"gradients": "forces"}, **options)
    table = pq.read_table(tmp_path / "a.parquet")
    pq.write_table(table.append_column("gradient", table["forces"]), tmp_path / "b.parquet")
    with pytest.raises(ReaderError, match=r"both forces and gradients; say reader\.columns="):
        TableReader(tmp_path / "b.parquet", **options)


def test_a_column_that_is_not_to_be_read(tmp_path):
    row = {**descent_rows(sample("CO")), "split": "validation"}
    schema = DESCENT.append(pa.field("split", pa.string()))
    pq.write_table(pa.Table.from_pylist([row], schema=schema), tmp_path / "a.parquet")
    options = {"level": LEVEL, **options_of("descent")}
    (results,) = TableReader(tmp_path / "a.parquet", **options)
    assert results.reason == "unknown split"
    (record,) = TableReader(tmp_path / "a.parquet", columns={"split": None}, **options)
    assert record.split == ""
    with pytest.raises(ReaderError, match="column None is missing"):
        TableReader(tmp_path / "a.parquet", columns={"coords": None}, **options)


def test_energies_in_single_precision(tmp_path):
    s = sample("CO")
    row = {**descent_rows(s), "energy": (s.energy * 10).tolist()}
    schema = DESCENT.set(2, pa.field("energy", pa.list_(pa.float32())))
    pq.write_table(pa.Table.from_pylist([row], schema=schema), tmp_path / "a.parquet")
    options = {"level": LEVEL, **options_of("descent")}
    (results,) = TableReader(tmp_path / "a.parquet", **options)
    assert results.reason == "energies too coarse"
    step = np.spacing(np.float32(np.abs(s.energy).max() * 10))
    assert f"steps of {step:.2g} kcal/mol" in results.message
    (record,) = TableReader(tmp_path / "a.parquet", resolution=0.1, **options)
    assert isinstance(record, Record)


def test_smiles_without_numbers_need_atomic_numbers(tmp_path):
    s = sample("CC(=O)[O-]")
    row = {**descent_rows(s), "smiles": "CC(=O)[O-]"}
    pq.write_table(pa.Table.from_pylist([row], schema=DESCENT), tmp_path / "a.parquet")
    options = {"level": LEVEL, **options_of("descent")}
    (results,) = TableReader(tmp_path / "a.parquet", **options)
    assert results.reason == "SMILES not mapped"
    schema = DESCENT.append(pa.field("z", pa.list_(pa.int64())))
    pq.write_table(pa.Table.from_pylist([{**row, "z": s.numbers.tolist()}], schema=schema), tmp_path / "a.parquet")
    (record,) = TableReader(tmp_path / "a.parquet", columns={"numbers": "z"}, **options)
    assert graph_of(record.molecule.smiles) == graph_of(s.smiles)


def test_what_rows_of_one_molecule_must_share(tmp_path):
    s = sample("CO", 2)
    rows = [{**descent_rows(s), "charge": 0, "atomic_numbers": s.numbers.tolist()} for _ in range(2)]
    schema = DESCENT.append(pa.field("charge", pa.int8())).append(pa.field("atomic_numbers", pa.list_(pa.int8())))
    options = {"level": LEVEL, **options_of("descent")}

    def only(**changes):
        pq.write_table(pa.Table.from_pylist([rows[0], {**rows[1], **changes}], schema=schema), tmp_path / "a.parquet")
        (results,) = TableReader(tmp_path / "a.parquet", **options)
        return results

    assert len(only().conformers.xyz) == 4
    assert only(charge=1).reason == "several values of charge"
    assert only(atomic_numbers=s.numbers[::-1].tolist()).reason == "several orders of atoms"
    assert only(energy=[1.0]).reason == "shapes disagree"


def test_files_of_a_folder_must_agree(tmp_path):
    table = pa.Table.from_pylist([descent_rows(sample("CO"))], schema=DESCENT)
    pq.write_table(table.cast(with_units(DESCENT, {"energy": "hartree"})), tmp_path / "a.parquet")
    pq.write_table(table.cast(with_units(DESCENT, {"energy": "kcal/mol"})), tmp_path / "b.parquet")
    with pytest.raises(ReaderError, match=r"b\.parquet: columns or units differ from those of a\.parquet"):
        TableReader(tmp_path, level=LEVEL)
    pq.write_table(table.slice(0, 0), tmp_path / "b.parquet")
    with pytest.raises(ReaderError, match=r"b\.parquet: no rows in it"):
        len(TableReader(tmp_path / "b.parquet", level=LEVEL))
    (tmp_path / "c").mkdir()
    with pytest.raises(ReaderError, match="c: nothing in it; expected files"):
        TableReader(tmp_path / "c", level=LEVEL)


@pytest.mark.parametrize("name", ["force", "dft_total_gradient"])
def test_forces_of_another_name_are_not_lost(tmp_path, name):
    s = sample("CO")
    table = pa.Table.from_pylist([descent_rows(s)], schema=DESCENT)
    names = [name if column == "forces" else column for column in table.column_names]
    pq.write_table(table.rename_columns(names), tmp_path / "a.parquet")
    options = {"level": LEVEL, **options_of("descent")}
    with pytest.raises(ReaderError, match=rf"but {name}; say 'reader\.columns={{forces: {name}}}'"):
        TableReader(tmp_path / "a.parquet", **options)
    (record,) = TableReader(tmp_path / "a.parquet", columns={"forces": name}, **options)
    np.testing.assert_allclose(record.conformers.forces, s.forces)
    (record,) = TableReader(tmp_path / "a.parquet", columns={"forces": None}, **options)
    assert record.conformers.forces is None


def test_a_row_without_forces_is_left_out_alone(tmp_path):
    s = sample("CO", 3)
    rows = [
        {"smiles": s.smiles, "coords": x.ravel().tolist(), "energy": e, "forces": f.ravel().tolist()}
        for x, e, f in zip(s.xyz, s.energy, s.forces, strict=True)
    ]
    rows[1]["forces"] = None
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    (record,) = TableReader(tmp_path / "a.parquet", level=LEVEL, **options_of("descent"))
    kept, dropped = Filters()(record)
    np.testing.assert_allclose(kept.conformers.energy, s.energy[[0, 2]])
    np.testing.assert_allclose(kept.conformers.forces, s.forces[[0, 2]])
    assert dropped == {"conformer: forces not finite": 1}


def test_one_level_is_not_made_of_several(tmp_path):
    rows = [{**descent_rows(sample(smiles, seed=seed)), "level": level} for seed, (smiles, level) in enumerate(LEVELS)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    options = options_of("descent")
    assert [record.conformers.level for record in TableReader(tmp_path / "a.parquet", **options)] == ["A/B", "C/D"]
    with pytest.raises(ReaderError, match="column 'level' has 2 levels of theory, A/B, C/D, which"):
        list(TableReader(tmp_path / "a.parquet", level=LEVEL, **options))
    whole = TableReader(tmp_path / "a.parquet", level=LEVEL, columns={"level": None}, **options)
    assert [record.conformers.level for record in whole] == [LEVEL, LEVEL]
