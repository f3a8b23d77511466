import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from espalike.chem.conformers import EspGrid
from espalike.data.schema import LATER, SCHEMA, UNITS, RecordError, check
from espalike.data.shards import file_checksum, manifest_checksum
from espalike.data.store import Store, StoreError, open_stores, write_store
from espalike.files import only_one
from tests.data.common import assert_same


def records(record_of):
    rng = np.random.default_rng(1)
    n = record_of("CCO").molecule.n_atoms
    return [
        record_of("CCO", 3, ref_charge=rng.normal(size=n), ref_lj=rng.uniform(0.1, 3, (n, 2))),
        record_of("[Na+]", 1, split="test", forces=None),
        record_of("c1ccccc1[O-]", 5, split="", energy=np.full(5, np.nan)),
        record_of("CC#N", 2, split="val", source="other", level="GFN2-xTB"),
        with_properties(record_of("OO", 3), rng),
    ]


def with_properties(record, rng):
    """Dipoles (one unknown), potentials (none of one geometry) and the driven torsion."""
    dipole = rng.normal(size=(3, 3))
    dipole[1] = np.nan
    points, values = (rng.normal(size=shape).astype(np.float32).astype(np.float64) for shape in ((9, 3), 9))
    esp = EspGrid(points, values, np.array([4, 0, 5]))
    return replace(
        record, conformers=replace(record.conformers, dipole=dipole, esp=esp), dihedral=np.array([2, 0, 1, 3])
    )


def test_round_trip_is_exact(record_of, store_of):
    expected = records(record_of)
    store = store_of(*expected)
    assert len(store) == 5
    for i, record in enumerate(expected):
        assert_same(store.record(i), record)
    assert [r.id for r in store.records("val")] == ["CC#N-0"]
    store.verify()
    with pytest.raises(IndexError):
        store.record(5)


def test_isotopes_are_stored(record_of, store_of):
    """In the SMILES, so that rows of molecules without isotopes are what they were."""
    isotopes = store_of(record_of("[2H]O[13CH3]", 2), record_of("CO", 2)).record(0).molecule.isotopes
    assert isotopes.tolist() == [2, 0, 13, 0, 0, 0]


def test_several_batches_of_rows(record_of, store_of, monkeypatch):
    monkeypatch.setattr("espalike.data.shards._CHUNK", 1500)
    expected = [record_of("CCO", 2, seed=i) for i in range(7)]
    store = store_of(*expected)
    assert store.table.column("id").num_chunks > 2
    for i, record in enumerate(expected):
        assert_same(store.record(i), record)


def test_flat_columns_are_views_of_the_file(record_of, store_of):
    store = store_of(*records(record_of))
    xyz = store.array(0, "xyz")
    assert xyz.shape == (3, 9, 3)
    assert xyz.dtype == np.float32
    assert not xyz.flags.writeable
    assert not xyz.flags.owndata
    assert np.shares_memory(xyz, store.array(0, "xyz"))


def test_manifest_counts_and_units(record_of, store_of):
    store = store_of(*records(record_of), note="kept")
    m = store.manifest
    assert (m["entries"], m["conformers"], m["molecules"]) == (5, 14, 5)
    assert m["splits"]["none"] == {"molecules": 1, "connectivities": 1, "entries": 1, "conformers": 5}
    assert m["sources"]["other"] == {"entries": 1, "conformers": 2, "levels": ["GFN2-xTB"]}
    assert m["levels"] == ["B3LYP-D3BJ/DZVP", "GFN2-xTB"]
    assert m["units"]["forces"] == "kcal/mol/angstrom"
    assert m["note"] == "kept"
    assert m["licence"] == "MIT"


def test_hash_depends_on_content_only(record_of, store_of):
    expected = records(record_of)
    first = store_of(*expected, name="a")
    assert store_of(*reversed(expected), name="b", note="other").hash == first.hash
    moved = expected[0].conformers.xyz.copy()
    moved[0, 0, 0] += 1e-3
    changes = [
        replace(expected[0], conformers=replace(expected[0].conformers, xyz=moved)),
        replace(expected[0], split="val"),
        replace(expected[0], ref_charge=None),
        replace(expected[0], conformers=replace(expected[0].conformers, level="HF/STO-3G")),
    ]
    hashes = {store_of(change, *expected[1:], name=f"c{i}").hash for i, change in enumerate(changes)}
    assert len(hashes | {first.hash}) == 5


def test_the_hash_of_a_record_never_changes(store_of):
    """A stored hash must keep its meaning: checkpoints carry it."""
    from espalike.chem.conformers import Conformers
    from espalike.chem.molecule import Molecule
    from espalike.data.schema import Record

    water = Molecule(
        "water",
        "[O:1]([H:2])[H:3]",
        np.array([8, 1, 1]),
        np.zeros(3, np.int64),
        np.array([[0, 1], [0, 2]]),
        np.ones(2, np.int64),
    )
    conf = Conformers(np.arange(9.0).reshape(1, 3, 3), np.array([-47000.5]), None, "PBE/def2-SVP", "made-up")
    store = store_of(Record("w", water, conf, "train", "XLYOFNOQVPJJNP"))
    assert store.hash.startswith("3ff8f217a681600d")


def test_replacing_a_store_leaves_one_data_file(record_of, store_of):
    first = store_of(record_of("CCO"))
    (first.path / "__init__.py").write_text("")
    second = store_of(record_of("CO"))
    assert first.path == second.path
    assert sorted(p.name for p in second.path.iterdir()) == ["__init__.py", second.manifest["data"], "manifest.json"]
    assert first.manifest["data"] != second.manifest["data"]
    assert first.record(0).molecule.name == "CCO"  # still mapped


def test_two_processes_do_not_write_one_store(record_of, store_of, manifest):
    store = store_of(record_of("CCO"))
    with only_one(store.path, "job"), pytest.raises(StoreError, match="another job is writing to it"):
        write_store(store.path, [record_of("CCN")], manifest=manifest)
    assert Store.open(store.path).hash == store.hash
    assert not list(store.path.glob(".write-*"))


def test_failure_leaves_the_old_store_and_nothing_else(record_of, store_of, tmp_path, manifest):
    old = store_of(record_of("CCO"))

    def broken():
        yield record_of("CO")
        raise RuntimeError("the disk is on fire")

    for path in (old.path, tmp_path / "new"):
        with pytest.raises(RuntimeError, match="fire"):
            write_store(path, broken(), manifest=manifest)
    assert Store.open(old.path).hash == old.hash
    assert len(list(old.path.iterdir())) == 2
    assert not (tmp_path / "new").exists()


def test_refusals_on_writing(record_of, tmp_path, manifest):
    with pytest.raises(StoreError, match="licence"):
        write_store(tmp_path / "s", [record_of("CO")], manifest={"origin": "x", "command": "y"})
    with pytest.raises(StoreError, match="no record is left"):
        write_store(tmp_path / "s", [], manifest=manifest)
    with pytest.raises(RecordError, match="occurs twice"):
        write_store(tmp_path / "s", [record_of("CO"), record_of("CO")], manifest=manifest)


def seal(folder, **changes):
    """Give a store whose files were changed the checksums of these."""
    path = folder / "manifest.json"
    manifest = {**json.loads(path.read_text()), **changes}
    manifest["checksums"] = {name: file_checksum(folder / name) for name in manifest["checksums"]}
    path.write_text(json.dumps({**manifest, "checksum": manifest_checksum(manifest)}))


def unseal(folder):
    """Make a store one of before there were checksums."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in manifest.items() if k not in ("checksums", "checksum")}))


def rewrite(store, schema):
    """The store's data file again under another schema."""
    path = store.path / store.manifest["data"]
    table = pa.ipc.open_file(str(path)).read_all()
    with pa.OSFile(str(path) + "2", "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_table(pa.table(table.columns, schema=schema))
    (store.path / (path.name + "2")).replace(path)
    seal(store.path)


@pytest.mark.parametrize("column", sorted(UNITS))
def test_missing_or_other_unit_is_an_error_that_names_the_column(record_of, store_of, column):
    store = store_of(record_of("CO"))
    i = SCHEMA.get_field_index(column)
    rewrite(store, SCHEMA.set(i, SCHEMA.field(i).remove_metadata()))
    with pytest.raises(StoreError, match=f"'{column}' has no unit"):
        Store.open(store.path)
    rewrite(store, SCHEMA.set(i, SCHEMA.field(i).with_metadata({"unit": "furlong"})))
    with pytest.raises(StoreError, match=f"'{column}' is in unit 'furlong'"):
        Store.open(store.path)


def test_damaged_stores(record_of, store_of, tmp_path):
    store = store_of(record_of("CO", 50))
    with pytest.raises(StoreError, match="not a store"):
        Store.open(tmp_path / "nowhere")
    data = store.path / store.manifest["data"]
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match="cut short"):
        Store.open(store.path)
    data.write_bytes(whole)
    path = store.path / "manifest.json"
    text = path.read_text()
    path.write_text(text.replace('"format": 1', '"format": 99'))
    with pytest.raises(StoreError, match="store format 99"):
        Store.open(store.path)
    for damaged in ("{", "[" * 100_000, '{"format": ' + "9" * 5000 + "}"):
        path.write_text(damaged)
        with pytest.raises(StoreError, match="cannot be read"):
            Store.open(store.path)
    path.write_text(json.dumps({**json.loads(text), "data": "../elsewhere.arrow"}))
    with pytest.raises(StoreError, match="valid file name"):
        Store.open(store.path)


@pytest.mark.parametrize("sealed", [True, False])
def test_a_changed_bit_is_noticed_when_the_store_is_opened(record_of, store_of, sealed):
    store = store_of(record_of("CO", 50))
    if not sealed:
        unseal(store.path)
    data = store.path / store.manifest["data"]
    whole = bytearray(data.read_bytes())
    at = bytes(whole).index(store.array(0, "xyz").tobytes())
    whole[at + 2] ^= 1
    data.write_bytes(whole)
    with pytest.raises(StoreError, match=f"{data.name}.*{'SHA-256' if sealed else 'hash'}"):
        Store.open(store.path)


@pytest.mark.parametrize(("name", "value"), [("conformers", 51), ("hash", "0" * 64), ("levels", ["HF"])])
def test_a_changed_manifest_is_noticed(record_of, store_of, name, value):
    store = store_of(record_of("CO", 50))
    path = store.path / "manifest.json"
    path.write_text(json.dumps({**store.manifest, name: value}))
    with pytest.raises(StoreError, match="does not have the checksum"):
        Store.open(store.path)
    path.write_text(json.dumps({**store.manifest, "licence": "CC0"}))  # what people write themselves
    assert Store.open(store.path).manifest["licence"] == "CC0"


def test_checksums_that_are_no_table_are_refused(record_of, store_of):
    store = store_of(record_of("CO", 50))
    seal(store.path)
    path = store.path / "manifest.json"
    manifest = {**json.loads(path.read_text()), "checksums": [1]}
    path.write_text(json.dumps({**manifest, "checksum": manifest_checksum(manifest)}))
    with pytest.raises(StoreError, match=r"manifest\.json is damaged \(no checksums\)"):
        Store.open(store.path)


def test_a_manifest_without_the_checksums_of_the_files_is_noticed(record_of, store_of):
    store = store_of(record_of("CO"))
    (store.path / "manifest.json").write_text(json.dumps({k: v for k, v in store.manifest.items() if k != "checksums"}))
    with pytest.raises(StoreError, match=r"manifest\.json does not have the checksum that it states"):
        Store.open(store.path)


@pytest.mark.parametrize("units", [{"xyz": "nanometer"}, {"position": "angstrom"}, "angstrom"])
def test_other_units_in_a_manifest_without_checksums(record_of, store_of, units):
    store = store_of(record_of("CO"))
    unseal(store.path)
    path = store.path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "units": units}))
    with pytest.raises(StoreError, match=r"manifest\.json (states units .* this version has|is damaged \(no units\))"):
        Store.open(store.path)


def test_a_folder_in_place_of_the_manifest(tmp_path):
    (tmp_path / "odd" / "manifest.json").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"odd: not a store, manifest\.json cannot be read"):
        Store.open(tmp_path / "odd")


def test_verify_compares_rows_and_counts(record_of, store_of):
    store = store_of(record_of("CO", 50))
    seal(store.path, conformers=49)
    with pytest.raises(StoreError, match="conformers 49, the content has 50"):
        Store.open(store.path).verify()
    seal(store.path, conformers=50, hash="0" * 64)
    with pytest.raises(StoreError, match="content of hash"):
        Store.open(store.path).verify()


def test_open_several(record_of, store_of):
    a, b = store_of(record_of("CO"), name="a"), store_of(record_of("CC"), name="b")
    assert [s.hash for s in open_stores(f"{a.path}, {b.path}")] == [a.hash, b.hash]
    assert open_stores([a, str(b.path)])[0] is a
    assert len(open_stores(a.path)) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: replace(c, energy=np.array([0.0, np.nan, 1.0])), "energies not finite"),
        (lambda c: replace(c, energy=np.array([0.0, np.inf, 1.0])), "energies not finite"),
        (lambda c: replace(c, energy=c.energy[:2]), "shapes disagree"),
        (lambda c: replace(c, forces=c.forces[:, 1:]), "shapes disagree"),
        (lambda c: replace(c, forces=c.forces * np.nan), "forces not finite"),
        (lambda c: replace(c, xyz=c.xyz * np.nan), "coordinates not finite"),
        (lambda c: replace(c, xyz=c.xyz[:, :, :2]), "shapes disagree"),
        (lambda c: replace(c, level=""), "level of theory unknown"),
        (lambda c: replace(c, source=""), "source unknown"),
    ],
)
def test_check_names_record_and_reason(record_of, change, reason):
    record = record_of("CO", 3, id="the-one")
    check(record)
    with pytest.raises(RecordError, match="the-one") as info:
        check(replace(record, conformers=change(record.conformers)))
    assert info.value.reason == reason


def test_check_split_and_reference_shapes(record_of):
    with pytest.raises(RecordError, match="'validation'"):
        check(record_of("CO", split="validation"))
    with pytest.raises(RecordError, match="reference charges have shape"):
        check(record_of("CO", ref_charge=np.zeros(3)))


def test_geometries_are_taken_with_all_their_properties(record_of):
    record = with_properties(record_of("OO", 3), np.random.default_rng(5))
    kept = record.conformers.take(np.array([True, False, True]))
    np.testing.assert_array_equal(kept.dipole, record.conformers.dipole[[0, 2]])
    last = record.conformers.take(np.array([False, False, True]))
    np.testing.assert_array_equal(last.esp.points, record.conformers.esp.points[4:])
    np.testing.assert_array_equal(last.esp.values, record.conformers.esp.values[4:])
    assert last.esp.count.tolist() == [5]


@pytest.mark.parametrize("fault", ["dipole", "count", "values"])
def test_properties_that_do_not_fit_are_refused(record_of, fault):
    record = with_properties(record_of("OO", 3), np.random.default_rng(5))
    esp = record.conformers.esp
    broken = {
        "dipole": {"dipole": record.conformers.dipole[:2]},
        "count": {"esp": replace(esp, count=np.array([4, 0, 4]))},
        "values": {"esp": replace(esp, values=np.where(np.arange(9) == 3, np.nan, esp.values))},
    }[fault]
    with pytest.raises(RecordError, match=r"potential|dipoles"):
        check(replace(record, conformers=replace(record.conformers, **broken)))


def test_a_store_without_the_later_columns_is_read(record_of, store_of):
    """The layout of stores from before dipoles, potentials and driven torsions: `cut` has what those had."""
    store = store_of(record_of("CCO"), record_of("CC"))
    (path,) = store.path.glob("*.arrow")
    with pa.ipc.open_file(path) as file:
        table = file.read_all()
    cut = table.drop_columns(list(LATER))
    path.unlink()  # the open store goes on with the file it has
    with pa.ipc.new_file(path, cut.schema) as file:
        file.write_table(cut)
    seal(store.path)
    old = Store.open(store.path)
    assert [old.record(i).conformers.energy.tolist() for i in range(2)] == [
        store.record(i).conformers.energy.tolist() for i in range(2)
    ]
    assert old.record(0).conformers.dipole is None
    assert old.record(0).dihedral is None
