"""Views of qcportal data sets: written offline by qcportal itself; in a slow test, made by a real QCFractal server."""

from __future__ import annotations

import datetime
import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
from rdkit import Chem

from espalike.data.readers.base import ReaderError
from espalike.data.readers.qcarchive import QCArchiveReader
from espalike.data.schema import Record, Rejection
from tests.data.readers.samples import BOHR, HARTREE, assert_labels, graph_of, rdkit_of, sample, scan
from tests.data.readers.suite import cut

pytest.importorskip("qcportal", reason="needs the extra fractal")
from qcportal import optimization, singlepoint, torsiondrive
from qcportal.cache import DatasetCache
from qcportal.dataset_models import load_dataset_view
from qcportal.molecules import Molecule

GRADIENT = HARTREE / BOHR
MAPPED = "canonical_isomeric_explicit_hydrogen_mapped_smiles"
QC = {"program": "psi4", "driver": "gradient", "method": "b3lyp-d3bj", "basis": "dzvp", "keywords": {}}
GEOMETRIC = {"program": "geometric", "qc_specification": QC | {"driver": "deferred"}, "keywords": {}}

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:qc")


def molecule(s, k, number=None, smiles=True):
    table = Chem.GetPeriodicTable()
    return Molecule(
        symbols=[table.GetElementSymbol(int(z)) for z in s.numbers],
        geometry=s.xyz[k] / BOHR,
        molecular_charge=s.charge,
        molecular_multiplicity=1,
        fix_com=True,
        fix_orientation=True,
        id=number,
        identifiers={MAPPED: s.smiles} if smiles else None,
    )


class View:
    """A view that is being written."""

    def __init__(self, path, dataset, specification, several=False):
        path.unlink(missing_ok=True)
        self.path, self._number = path, itertools.count(1)
        self._cache = DatasetCache(f"file:{path}", False, dataset)
        names = ["default", "other"] if several else ["default"]
        self._cache.update_specifications(
            [dataset._specification_type(name=name, specification=specification) for name in names]
        )
        self._cache.update_metadata(
            "dataset_metadata",
            {
                "id": 1,
                "dataset_type": dataset.model_fields["dataset_type"].default,
                **dict.fromkeys(("name", "description", "tagline", "default_compute_tag"), "made up"),
                "tags": [],
                "provenance": {},
                "extras": {},
                "default_compute_priority": "normal",
                "owner_user": None,
            },
        )

    def record(self, kind, **fields):
        """A record in the view."""
        now = datetime.datetime.now(datetime.UTC)
        common = {"is_service": False, "status": "complete", "manager_name": "m", "created_on": now, "modified_on": now}
        made = kind(id=next(self._number), **{"owner_user": None, "properties": {}, **common, **fields})
        self._cache.update_records([made])
        return made

    def entry(self, entry, record, specification="default"):
        """An entry of the data set and its record."""
        if not self._cache.entry_exists(entry.name):
            self._cache.update_entries([entry])
        self._cache.update_dataset_records([(entry.name, specification, record.id)])

    def point(self, s, k, smiles=True, **fields):
        """A single point's record."""
        gradient = (-s.forces[k] / GRADIENT).ravel().tolist()
        energy = s.energy[k] / HARTREE
        return self.record(
            singlepoint.SinglepointRecord,
            specification=QC,
            molecule_id=1,
            **{
                "molecule": molecule(s, k, 1, smiles),
                "properties": {"return_energy": energy, "return_gradient": gradient, "return_result": gradient},
                **fields,
            },
        )

    def optimised(self, s, frames, steps=True):
        """An optimisation's record, with its steps or without."""
        points = [self.point(s, k, smiles=False) for k in frames] if steps else []
        return self.record(
            optimization.OptimizationRecord,
            specification=GEOMETRIC,
            initial_molecule_id=1,
            initial_molecule=molecule(s, frames[0], 1),
            final_molecule_id=2,
            final_molecule=molecule(s, frames[-1], 2, smiles=False),
            energies=[s.energy[k] / HARTREE for k in frames],
            trajectory_ids=[point.id for point in points] if steps else None,
        )

    def close(self):
        """The file, written."""
        self._cache._conn.close()
        return self.path


@pytest.fixture
def points(tmp_path):
    """Two molecules' single points, one of them without a SMILES of its own."""
    view = View(tmp_path / "set.sqlite", singlepoint.SinglepointDataset, QC)
    samples = [sample("CC(=O)[O-]", 3), sample("CO", 2)]
    for name, s in zip(("acetate", "methanol"), samples, strict=True):
        for k in range(len(s.xyz)):
            attributes = {MAPPED: s.smiles} if name == "methanol" else {}
            entry = singlepoint.SinglepointDatasetEntry(
                name=f"{name}-{k}", molecule=molecule(s, k), attributes=attributes
            )
            view.entry(entry, view.point(s, k, smiles=name == "acetate"))
    return view.close(), samples


def test_single_points_of_the_same_molecule_are_one_record(points):
    path, samples = points
    results = list(QCArchiveReader(path))
    assert [r.id for r in results] == ["acetate-0", "methanol-0"]
    for record, s in zip(results, samples, strict=True):
        conf = record.conformers
        assert (conf.level, conf.source) == ("B3LYP-D3BJ/DZVP", "set")
        assert_labels(record, s)


def test_records_equal_what_qcportal_reads(points):
    path, _ = points
    dataset = load_dataset_view(str(path))
    theirs = {name: record for name, _, record in dataset.iterate_records()}
    first, second = QCArchiveReader(path)
    for record, prefix in ((first, "acetate"), (second, "methanol")):
        for k, (xyz, energy, forces) in enumerate(
            zip(record.conformers.xyz, record.conformers.energy, record.conformers.forces, strict=True)
        ):
            want = theirs[f"{prefix}-{k}"]
            np.testing.assert_allclose(xyz, want.molecule.geometry * BOHR, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(energy, want.properties["return_energy"] * HARTREE, rtol=1e-10)
            np.testing.assert_allclose(
                forces.ravel(), -np.array(want.properties["return_gradient"]) * GRADIENT, rtol=1e-9
            )


def test_length_order_and_resuming(points):
    reader = QCArchiveReader(points[0])
    ids = [r.id for r in reader]
    assert len(reader) == len(ids) == 2
    assert [r.id for r in reader.entries(1)] == ids[1:]
    assert reader.fingerprint() == QCArchiveReader(points[0]).fingerprint()


def test_optimisations(tmp_path):
    s = sample("CO", 4)
    view = View(tmp_path / "set.sqlite", optimization.OptimizationDataset, GEOMETRIC)
    for name, steps in (("whole", True), ("ends", False)):
        entry = optimization.OptimizationDatasetEntry(name=name, initial_molecule=molecule(s, 0))
        view.entry(entry, view.optimised(s, range(4), steps))
    ends, whole = QCArchiveReader(view.close())
    assert (ends.id, whole.id) == ("ends", "whole")
    np.testing.assert_allclose(whole.conformers.energy, s.energy, rtol=1e-10)
    np.testing.assert_allclose(whole.conformers.forces, s.forces, atol=1e-9)
    np.testing.assert_allclose(ends.conformers.xyz, s.xyz[-1:], atol=1e-8)
    np.testing.assert_allclose(ends.conformers.energy, s.energy[-1:], rtol=1e-10)
    assert ends.conformers.forces is None
    (_, last) = QCArchiveReader(view.path, trajectory=False)
    np.testing.assert_allclose(last.conformers.forces, s.forces[-1:], atol=1e-9)


def test_torsion_drives(tmp_path):
    angles = [-90, 0, 90, 180]
    s, atoms = scan("CCO", "[H]OCC", angles)
    keywords = {"dihedrals": [atoms], "grid_spacing": [90]}
    specification = {"program": "torsiondrive", "optimization_specification": GEOMETRIC, "keywords": keywords}
    view = View(tmp_path / "set.sqlite", torsiondrive.TorsiondriveDataset, specification)
    best = {angle: view.optimised(s, [(k + 1) % 4, k]) for k, angle in enumerate(angles)}
    worse = {angle: view.optimised(s, [k]) for k, angle in enumerate(angles)}
    entry = torsiondrive.TorsiondriveDatasetEntry(
        name="drive", initial_molecules=[molecule(s, 0)], additional_keywords=keywords
    )
    order = [90, -90, 180, 0]
    record = view.record(
        torsiondrive.TorsiondriveRecord,
        specification=specification,
        initial_molecules_ids=[1],
        initial_molecules=[molecule(s, 0, 1)],
        optimizations=[
            {"optimization_id": made.id, "key": f"[{angle}]", "position": i, "energy": -1.0}
            for angle in order
            for i, made in enumerate((worse[angle], best[angle]))
        ],
        minimum_optimizations={f"[{angle}]": best[angle].id for angle in order},
    )
    view.entry(entry, record)
    (results,) = QCArchiveReader(view.close())
    assert isinstance(results, Record), results
    assert results.dihedral.tolist() == list(atoms)
    assert_labels(results, s)


def test_specifications(tmp_path):
    s = sample("CO", 2)
    view = View(tmp_path / "set.sqlite", singlepoint.SinglepointDataset, QC, several=True)
    for name in ("default", "other"):
        for k in range(2):
            entry = singlepoint.SinglepointDatasetEntry(name=f"m-{k}", molecule=molecule(s, k))
            view.entry(entry, view.point(s, k), name)
    view.close()
    assert [r.id for r in QCArchiveReader(view.path, specification="other")] == ["m-0"]
    results = list(QCArchiveReader(view.path))
    assert sum(len(r.conformers.xyz) for r in results) == 4
    with pytest.raises(ReaderError, match="no specification 'third'; there are: default, other"):
        list(QCArchiveReader(view.path, specification="third"))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"status": "error"}, "computation not complete"),
        ({"properties": {"return_energy": float("nan")}}, "energies not finite"),
        ({"properties": {"return_energy": -1.0, "return_gradient": [0.0]}}, "shapes disagree"),
    ],
)
def test_what_is_refused(tmp_path, fields, reason):
    s = sample("CO", 1)
    view = View(tmp_path / "set.sqlite", singlepoint.SinglepointDataset, QC)
    view.entry(singlepoint.SinglepointDatasetEntry(name="m", molecule=molecule(s, 0)), view.point(s, 0, **fields))
    (results,) = QCArchiveReader(view.close())
    assert isinstance(results, Rejection)
    assert results.reason == reason
    assert results.message.startswith("m: ")


def test_views_made_without_molecules(tmp_path):
    """As `create_dataset_view` makes them by default: single points take their entries' geometry."""
    s = sample("CO", 2)
    view = View(tmp_path / "points.sqlite", singlepoint.SinglepointDataset, QC)
    for k in range(2):
        entry = singlepoint.SinglepointDatasetEntry(name=f"m-{k}", molecule=molecule(s, k))
        view.entry(entry, view.point(s, k, molecule=None))
    (results,) = QCArchiveReader(view.close())
    np.testing.assert_allclose(results.conformers.xyz, s.xyz, atol=1e-8)
    view = View(tmp_path / "opt.sqlite", optimization.OptimizationDataset, GEOMETRIC)
    entry = optimization.OptimizationDatasetEntry(name="m", initial_molecule=molecule(s, 0))
    made = view.optimised(s, range(2))
    made.initial_molecule_ = None
    view._cache.update_records([made])
    view.entry(entry, made)
    (results,) = QCArchiveReader(view.close())
    assert results.reason == "view incomplete"
    assert "include=['**']" in results.message


def test_permuted_atoms_and_wrong_charge(tmp_path):
    s = sample("CO", 1)
    view = View(tmp_path / "set.sqlite", singlepoint.SinglepointDataset, QC)
    for name, changed in (("a", s.permuted()), ("b", replace(s, charge=2))):
        entry = singlepoint.SinglepointDatasetEntry(name=name, molecule=molecule(changed, 0))
        view.entry(entry, view.point(changed, 0))
    assert [r.reason for r in QCArchiveReader(view.close())] == [
        "atomic numbers differ from SMILES",
        "charge differs from SMILES",
    ]


def test_files_that_are_no_views(points, tmp_path):
    path, _ = points
    cut(path)
    with pytest.raises(ReaderError, match=r"set.sqlite: not a data set view, or damaged"):
        list(QCArchiveReader(path))
    import sqlite3

    other = tmp_path / "other.sqlite"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE t (x)")
    connection.commit()
    connection.close()
    with pytest.raises(ReaderError, match=r"other.sqlite: not a data set view, or damaged"):
        list(QCArchiveReader(other))


@pytest.fixture(scope="module")
def server_views(tmp_path_factory):
    """Views of small data sets that a real server has computed with GFN2-xTB, and the client's records."""
    from qcportal.dataset_models import create_dataset_view

    from tests.qm.fractal_server import Server, missing

    if why := missing():
        pytest.skip(why)
    qc = {"program": "xtb", "driver": "gradient", "method": "GFN2-xTB", "basis": None, "keywords": {"accuracy": 0.1}}
    geometric = {"program": "geometric", "qc_specification": qc | {"driver": "deferred"}, "keywords": {}}
    scans = {"program": "torsiondrive", "optimization_specification": geometric, "keywords": {}}
    methanol, peroxide = sample("CO", 3), sample("OO", 1)
    atoms = rdkit_of(peroxide.smiles).GetSubstructMatch(Chem.MolFromSmarts("[H]OO[H]"))
    folder = tmp_path_factory.mktemp("views")
    server = Server()
    try:
        server.start("server", "manager")
        client = server.client()
        sets = [client.add_dataset(kind, kind) for kind in ("singlepoint", "optimization", "torsiondrive")]
        for dataset, specification in zip(sets, (qc, geometric, scans), strict=True):
            dataset.add_specification("default", specification)
        for k in range(3):
            sets[0].add_entry(f"methanol-{k}", molecule(methanol, k))
        sets[1].add_entry("peroxide", molecule(peroxide, 0))
        keywords = {"dihedrals": [atoms], "grid_spacing": [90]}
        sets[2].add_entry("peroxide", [molecule(peroxide, 0)], additional_keywords=keywords)
        for dataset in sets:
            dataset.submit()
        end = time.monotonic() + 900
        while any(set(dataset.status()["default"]) - {"complete", "error"} for dataset in sets):
            assert time.monotonic() < end, [dataset.status() for dataset in sets]
            time.sleep(5)
        for dataset in sets:
            create_dataset_view(client, dataset.id, str(folder / f"{dataset.name}.sqlite"), include=["**"])
    finally:
        server.close()
    return folder, methanol, peroxide, atoms


@pytest.mark.slow
def test_views_of_a_real_server(server_views):
    """Energies and forces of each record are those of tblite, called here, at its geometries: units and signs."""
    pytest.importorskip("tblite")
    from espalike.qm.xtb import XTBCalculator

    folder, methanol, peroxide, atoms = server_views
    (points,) = QCArchiveReader(folder / "singlepoint.sqlite")
    (optimised,) = QCArchiveReader(folder / "optimization.sqlite")
    (scan,) = QCArchiveReader(folder / "torsiondrive.sqlite")
    np.testing.assert_allclose(points.conformers.xyz, methanol.xyz, atol=1e-7)
    assert len(optimised.conformers.xyz) > 2
    assert scan.dihedral.tolist() == list(atoms)
    assert len(scan.conformers.xyz) == 4
    calculator = XTBCalculator()
    for record in (points, optimised, scan):
        assert record.conformers.level == calculator.level
        for k, xyz in enumerate(record.conformers.xyz):
            energy, forces = calculator(record.molecule, xyz)
            np.testing.assert_allclose(record.conformers.energy[k], energy, atol=1e-3)
            np.testing.assert_allclose(record.conformers.forces[k], forces, atol=1e-2)
    assert graph_of(scan.molecule.smiles) == graph_of(peroxide.smiles)
