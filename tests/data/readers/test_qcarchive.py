"""QCSchema JSON written and read by qcelemental, versions 1 and 2, through the suite; optimisations, torsion drives."""

import bz2
import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
from rdkit import Chem

from espalike.data.readers.base import ReaderError
from espalike.data.readers.qcarchive import QCArchiveReader
from espalike.data.schema import Record, Rejection
from tests.data.readers.samples import BOHR, HARTREE, Sample, assert_labels, graph_of, rdkit_of, sample, scan
from tests.data.readers.suite import ReaderSuite, cut

v1 = pytest.importorskip("qcelemental.models.v1", reason="needs qcelemental")
GRADIENT = HARTREE / BOHR
MAPPED = "canonical_isomeric_explicit_hydrogen_mapped_smiles"
MODEL = {"method": "b3lyp-d3bj", "basis": "dzvp"}


def molecule(s, k, place="identifiers", **changes):
    """One geometry of a sample as QCElemental has it."""
    table = Chem.GetPeriodicTable()
    fields = {
        "symbols": [table.GetElementSymbol(int(z)) for z in s.numbers],
        "geometry": s.xyz[k] / BOHR,
        "molecular_charge": s.charge,
        "molecular_multiplicity": 1,
        "fix_com": True,
        "fix_orientation": True,
        "connectivity": [
            (b.GetBeginAtomIdx(), b.GetEndAtomIdx(), b.GetBondTypeAsDouble()) for b in rdkit_of(s.smiles).GetBonds()
        ],
    }
    if place:
        fields[place] = {MAPPED: s.smiles}
    return v1.Molecule(**{**fields, **changes})


def atomic(s, k, **changes):
    """One geometry's gradient as QCElemental has it."""
    fields = {
        "id": s.name,
        "molecule": molecule(s, k),
        "driver": "gradient",
        "model": MODEL,
        "properties": {"return_energy": s.energy[k] / HARTREE, "scf_dipole_moment": [0.1, 0.2, 0.3]},
        "return_result": -s.forces[k] / GRADIENT,
        "success": True,
        "provenance": {"creator": "test"},
    }
    return v1.AtomicResult(**{**fields, **changes})


def dump(path, results):
    path.write_text("[" + ",\n".join(result.json() for result in results) + "]")
    return path


def edit(change, count=1):
    """Changes the first results, as dictionaries."""

    def spoil(path):
        results = json.loads(path.read_text())
        for result in results[:count]:
            change(result)
        path.write_text(json.dumps(results))

    return spoil


class TestQCArchive(ReaderSuite):
    reader = QCArchiveReader
    config = "qcarchive"
    filename = "set.json"
    level = "B3LYP-D3BJ/DZVP"
    refused = ("empty", "foreign")
    says = {  # noqa: RUF012
        "truncated": "set.json is cut short or damaged: parse error: premature EOF",
        "empty": "set.json: nothing in it",
        "foreign": "set.json: not QCSchema JSON",
        "missing array": "mol-0: 1 of 3 conformers, no energy; the first: geometry 1 of 3 has no energy",
        "wrong shape": "17 numbers in the gradient, expected 18",
    }
    impossible = dict.fromkeys(("unit unknown", "unit contradicts"), "QCSchema has one set of units")

    def write(self, path, samples):
        dump(path, [atomic(s, k) for s in samples for k in range(len(s.xyz))])

    def read(self, path):
        results: dict[str, list] = {}
        for data in json.loads(path.read_text()):
            result = v1.AtomicResult.parse_obj(data)
            results.setdefault(result.id, []).append(result)
        return [
            Sample(
                name,
                results[0].molecule.identifiers.canonical_isomeric_explicit_hydrogen_mapped_smiles,
                results[0].molecule.atomic_numbers,
                int(results[0].molecule.molecular_charge),
                np.stack([r.molecule.geometry for r in results]) * BOHR,
                np.array([r.properties.return_energy for r in results]) * HARTREE,
                -np.stack([r.return_result for r in results]) * GRADIENT,
                id=name,
            )
            for name, results in results.items()
        ]

    def spoil(self, path, name):
        edits = {
            "nan energy": lambda r: r["properties"].update(return_energy=float("nan")),
            "nan forces": lambda r: r["return_result"].__setitem__(2, float("nan")),
            "nan coordinates": lambda r: r["molecule"]["geometry"].__setitem__(2, float("nan")),
            "missing array": lambda r: r["properties"].pop("return_energy"),
            "wrong shape": lambda r: r["return_result"].pop(),
        }
        if name == "wrong charge":
            edit(lambda r: r["molecule"].update(molecular_charge=1.0), 3)(path)
        elif name in edits:
            edit(edits[name])(path)
        else:
            super().spoil(path, name)


def one(path, **options):
    (results,) = QCArchiveReader(path, **options)
    return results


def version2(result):
    """The result as version 2 of QCSchema, by qcelemental."""
    pytest.importorskip("qcelemental.models.v2")
    return result.convert_v(2)


def as_text(result):
    return result.json() if ".v1" in type(result).__module__ else result.model_dump_json()


def optimisation(s, **changes):
    """A trajectory whose first geometry carries the SMILES, as QCArchive has it."""
    steps = [atomic(s, k, id=None, molecule=molecule(s, k, None)) for k in range(len(s.xyz))]
    fields = {
        "id": s.name,
        "input_specification": {"driver": "gradient", "model": MODEL},
        "initial_molecule": molecule(s, 0, "extras"),
        "final_molecule": molecule(s, -1, None),
        "trajectory": steps,
        "energies": (s.energy / HARTREE).tolist(),
        "success": True,
        "provenance": {"creator": "test"},
        "keywords": {"program": "psi4"},
    }
    return v1.OptimizationResult(**{**fields, **changes})


@pytest.mark.parametrize("version", [1, 2])
def test_optimisations_with_their_trajectories(tmp_path, version):
    samples = [sample("CO", 3), replace(sample("CC(=O)[O-]", 4), name="other")]
    results = [optimisation(s) for s in samples]
    if version == 2:
        results = [version2(r) for r in results]
    path = tmp_path / "a.json"
    path.write_text("[" + ",".join(as_text(r) for r in results) + "]")
    results = list(QCArchiveReader(path))
    assert [r.id for r in results] == ["mol-0", "other"]
    for record, s in zip(results, samples, strict=True):
        conf = record.conformers
        assert conf.level == "B3LYP-D3BJ/DZVP"
        assert_labels(record, s)
        np.testing.assert_allclose(conf.dipole, np.tile([0.1 * BOHR, 0.2 * BOHR, 0.3 * BOHR], (len(s.xyz), 1)))
    last = list(QCArchiveReader(path, trajectory=False))
    np.testing.assert_array_equal(last[0].conformers.forces, results[0].conformers.forces[-1:])


def test_optimisations_that_kept_no_trajectory(tmp_path):
    s = sample("CO")
    path = tmp_path / "a.json"
    path.write_text(optimisation(s, trajectory=[], protocols={"trajectory": "none"}).json())
    conf = one(path).conformers
    np.testing.assert_allclose(conf.xyz, s.xyz[-1:], atol=1e-8)
    np.testing.assert_allclose(conf.energy, s.energy[-1:], rtol=1e-10)
    assert conf.forces is None


ANGLES = [-120, -60, 0, 60, 180]


@pytest.fixture(scope="module")
def ethanol():
    """A torsion scan of ethanol: geometries, driven atoms, angles."""
    return *scan("CCO", "[H]OCC", ANGLES), ANGLES


def torsion_drive(ethanol, key="{}", history=True):
    s, atoms, angles = ethanol
    keys = [key.format(angle) for angle in angles]
    optimised = [
        optimisation(s, trajectory=[atomic(s, k, molecule=molecule(s, k, None))], energies=[s.energy[k] / HARTREE])
        for k in range(len(angles))
    ]
    order = [3, 0, 4, 2, 1]  # as they were finished
    return v1.TorsionDriveResult(
        keywords={"dihedrals": [tuple(atoms)], "grid_spacing": [60]},
        input_specification={"driver": "gradient", "model": MODEL},
        initial_molecule=[molecule(s, 0, "extras")],
        optimization_spec={"procedure": "geometric", "keywords": {"program": "psi4"}},
        final_energies={keys[k]: s.energy[k] / HARTREE for k in order},
        final_molecules={keys[k]: molecule(s, k, None) for k in order},
        optimization_history={keys[k]: [optimised[k]] for k in order} if history else {},
        success=True,
        provenance={"creator": "test"},
    )


@pytest.mark.parametrize("key", ["{}", "[{}]", "({},)"])
def test_torsion_drives(tmp_path, ethanol, key):
    s, atoms, _ = ethanol
    path = tmp_path / "a.json"
    path.write_text('{"drive of ethanol": ' + torsion_drive(ethanol, key).json() + "}")
    record = one(path)
    assert record.id == "drive of ethanol"
    assert record.dihedral.tolist() == atoms
    assert_labels(record, s)


def test_torsion_drives_of_version_2(tmp_path, ethanol):
    s, atoms, _ = ethanol
    path = tmp_path / "a.json"
    path.write_text(version2(torsion_drive(ethanol)).model_dump_json())
    record = one(path)
    assert record.dihedral.tolist() == atoms
    np.testing.assert_allclose(record.conformers.energy, s.energy, rtol=1e-10)
    np.testing.assert_allclose(record.conformers.forces, s.forces, atol=1e-9)


def test_torsion_drives_without_history_have_no_forces(tmp_path, ethanol):
    path = tmp_path / "a.json"
    path.write_text(torsion_drive(ethanol, history=False).json())
    record = one(path)
    assert record.conformers.forces is None
    np.testing.assert_allclose(record.conformers.energy, ethanol[0].energy, rtol=1e-10)


def test_a_driven_torsion_that_is_not_at_its_grid_point(tmp_path, ethanol):
    data = json.loads(torsion_drive(ethanol).json())
    data["keywords"]["dihedrals"] = [[ethanol[1][i] for i in (1, 0, 2, 3)]]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(data))
    assert one(path).reason == "driven torsion differs from the grid"


@pytest.mark.parametrize("form", ["list", "lines", "object", "object of lists", "gz", "bz2", "folder", "version 2"])
def test_forms_of_json(tmp_path, form):
    samples = [sample("CO", 3), replace(sample("CCO", 2), name="other")]
    texts = {s.name: [atomic(s, k).json() for k in range(len(s.xyz))] for s in samples}
    flat = [text for group in texts.values() for text in group]
    path, written = tmp_path / "a.json", "[" + ",".join(flat) + "]"
    if form == "lines":
        path, written = tmp_path / "a.jsonl", "\n".join(flat)
    if form == "object":
        written = "{" + ",".join(f'"{name}": {group[0]}' for name, group in texts.items()) + "}"
    if form == "object of lists":
        written = "{" + ",".join(f'"{name}": [{",".join(group)}]' for name, group in texts.items()) + "}"
    if form == "version 2":
        models = [version2(atomic(s, k)).model_dump_json() for s in samples for k in range(len(s.xyz))]
        written = "[" + ",".join(models) + "]"
    if form in ("gz", "bz2"):
        path = tmp_path / f"a.json.{form}"
        path.write_bytes({"gz": gzip, "bz2": bz2}[form].compress(written.encode()))
    elif form == "folder":
        path = tmp_path / "set"
        path.mkdir()
        (path / "notes.txt").write_text("not read")
        for i, text in enumerate(flat):
            (path / f"{i}.json").write_text(text)
    else:
        path.write_text(written)
    results = list(QCArchiveReader(path))
    assert [r.id for r in results] == ["mol-0", "other"]
    assert [len(r.conformers.xyz) for r in results] == ([1, 1] if form == "object" else [3, 2])
    for record, s in zip(results, samples, strict=True):
        n = len(record.conformers.xyz)
        np.testing.assert_allclose(record.conformers.energy, s.energy[:n], rtol=1e-10)
        np.testing.assert_allclose(record.conformers.forces, s.forces[:n], atol=1e-9)


def test_long_files_are_read_a_piece_at_a_time(tmp_path, monkeypatch):
    """Items longer and shorter than what is read at once, cut anywhere."""
    samples = [sample("CO", 3), replace(sample("CCO", 2), name="other")]
    path = dump(tmp_path / "a.json", [atomic(s, k) for s in samples for k in range(len(s.xyz))])
    expected = [r.conformers.energy.tolist() for r in QCArchiveReader(path)]
    for size in (1, 7, 100, 5000):
        monkeypatch.setattr("espalike.data.readers.json_items._CHUNK", size)
        assert [r.conformers.energy.tolist() for r in QCArchiveReader(path)] == expected


@pytest.mark.parametrize("kind", ["gz", "bz2"])
@pytest.mark.parametrize("damage", [cut, lambda path: path.write_bytes(path.read_bytes()[:-40] + b"x" * 40)])
def test_damaged_archives(tmp_path, kind, damage):
    text = "[" + ",".join(atomic(sample("CO", 3), k, id=None).json() for k in range(3)) + "]"
    path = tmp_path / f"a.json.{kind}"
    path.write_bytes({"gz": gzip, "bz2": bz2}[kind].compress(text.encode()))
    damage(path)
    with pytest.raises(ReaderError, match="cut short or damaged"):
        list(QCArchiveReader(path))


def test_json_that_is_nested_without_end(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ReaderError, match=r"a.json: not QCSchema JSON"):
        list(QCArchiveReader(path))


def test_graphs_without_a_mapped_smiles(tmp_path):
    """From the bonds that the molecule says, else from the option, else from the distances."""
    s = sample("CC(=O)[O-]")
    path = tmp_path / "a.json"
    for changes, options in [
        ({}, {}),
        ({"connectivity": None}, {}),
        ({"connectivity": None}, {"smiles": "CC([O-])=O"}),
        ({"connectivity": None}, {"smiles": {"mol-0": s.smiles}}),
    ]:
        dump(path, [atomic(s, k, molecule=molecule(s, k, None, **changes)) for k in range(3)])
        assert graph_of(one(path, **options).molecule.smiles) == graph_of(s.smiles)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: r.update(success=False, error={"error_type": "x", "error_message": "SCF"}), "computation failed"),
        (lambda r: r["molecule"].update(molecular_multiplicity=3), "open shell"),
        (lambda r: r["molecule"].update(molecular_charge=0.5), "charge unreadable"),
        (lambda r: r["molecule"].update(real=[False] * 6), "ghost atoms"),
        (lambda r: r["molecule"].update(symbols=["X"] * 6), "element unknown"),
        (lambda r: r.pop("model"), "QCSchema unreadable"),
        (lambda r: r.pop("return_result"), "no QCSchema result"),
        (lambda r: r["molecule"]["geometry"].pop(), "shapes disagree"),
    ],
)
def test_what_is_refused(tmp_path, change, reason):
    path = dump(tmp_path / "a.json", [atomic(sample("CO", 1), 0)])
    edit(change)(path)
    results = one(path)
    assert isinstance(results, Rejection)
    assert results.reason == reason
    assert results.message.startswith("mol-0: ")


def test_other_drivers(tmp_path):
    """An energy alone; a Hessian, whose gradient stands among the properties."""
    s = sample("CO", 2)
    path = tmp_path / "a.json"
    dump(path, [atomic(s, k, driver="energy", return_result=s.energy[k] / HARTREE, properties={}) for k in range(2)])
    conf = one(path).conformers
    assert conf.forces is None
    np.testing.assert_allclose(conf.energy, s.energy, rtol=1e-10)
    properties = [
        {"return_energy": s.energy[k] / HARTREE, "return_gradient": -s.forces[k] / GRADIENT, "calcinfo_natom": 6}
        for k in range(2)
    ]
    dump(path, [atomic(s, k, driver="hessian", return_result=np.eye(18), properties=properties[k]) for k in range(2)])
    np.testing.assert_allclose(one(path).conformers.forces, s.forces, atol=1e-9)


def test_levels_are_not_mixed(tmp_path):
    s = sample("CO", 4)
    path = dump(
        tmp_path / "a.json",
        [atomic(s, k, id=None, model=MODEL if k < 2 else {"method": "pbe0", "basis": "def2-svp"}) for k in range(4)],
    )
    results = list(QCArchiveReader(path))
    assert [(r.conformers.level, len(r.conformers.xyz)) for r in results] == [
        ("B3LYP-D3BJ/DZVP", 2),
        ("PBE0/def2-SVP", 2),
    ]


def test_an_empty_folder_and_units(tmp_path):
    with pytest.raises(ReaderError, match="no file in it"):
        QCArchiveReader(tmp_path)
    path = dump(tmp_path / "a.json", [atomic(sample("CO", 1), 0)])
    assert isinstance(one(path, units="coords bohr; energies hartree"), Record)
    with pytest.raises(ReaderError, match="coords are in 'bohr', but the option units says 'angstrom'"):
        QCArchiveReader(path, units="coords angstrom")


@pytest.mark.parametrize(
    "content", [{"entries": {"https://a": []}, "provenance": {}}, {"dataset_name": "a", "dataset": {}}]
)
def test_files_without_results(tmp_path, content):
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(ReaderError, match=r"a\.json: a file of openff-qcsubmit holds inputs .* create_view"):
        list(QCArchiveReader(tmp_path / "a.json"))


def test_records_of_qcportal_say_how_to_write_them(tmp_path):
    record = {"id": 1, "method": "b3lyp-d3bj", "basis": "dzvp", "molecule": "123", "return_result": -1.0}
    (tmp_path / "a.json").write_text(json.dumps([record]))
    assert "write json.loads(record.to_qcschema_result().json())" in one(tmp_path / "a.json").message
