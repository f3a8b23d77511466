"""Labels by way of a QCFractal server, here without one: what is sent, what is made of the answers, what is repeated.

The same against a real server, killed and restarted, is in test_fractal_server.py.
"""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from espalike.chem import embed, from_smiles
from espalike.qm.base import CalculatorError
from espalike.qm.compute import Task
from espalike.qm.labelling import Job, LabelDirectory
from espalike.qm.mmff import MMFFCalculator
from espalike.qm.qcengine import QCEngineCalculator
from espalike.qm.xtb import XTBCalculator
from tests.qm.known import known

fractal = pytest.importorskip("espalike.qm.fractal")
pytest.importorskip("qcportal")
constants = pytest.importorskip("qcelemental").constants

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:qc")


class Frames:
    """Geometries of a molecule in a frame of no symmetry: turned, moved, perturbed."""

    calculator = MMFFCalculator()
    driven = None

    def __init__(self, frames=3):
        self.frames = frames

    def entries(self, molecule):
        return {"": self}

    def __call__(self, molecule, starts=None):
        rng = np.random.default_rng(molecule.n_atoms)
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        turn *= np.linalg.det(turn)
        xyz = embed(molecule, seed=1)[0] @ turn + [5.0, -3.0, 2.0]
        return np.array([xyz + rng.normal(0, 0.05, xyz.shape) for _ in range(self.frames)])


class Harmonic:
    """A calculator that stands for what the server of these tests computes: atoms on springs to their centre."""

    level = program = "harmonic"
    engine, method, basis, keywords = "Springs", "harmonic", None, {"k": 2}

    def __call__(self, molecule, xyz):
        arms = xyz - xyz.mean(0)
        return float((arms**2).sum()), -2 * arms


class Server:
    """The calls of a `PortalClient` that are used, in memory: records by specification and molecule."""

    def __init__(self, fails=(), refuses=()):
        self.records, self.keys, self.computed = {}, {}, Counter()
        self.fails, self.refuses = set(fails), set(refuses)
        self.up = True

    def add_singlepoints(self, molecules, **asked):
        self._answer()
        assert asked["find_existing"]
        what = tuple(str(asked[key]) for key in ("program", "driver", "method", "basis", "keywords"))
        ids, existing, errors = [], [], []
        for i, molecule in enumerate(molecules):
            key = (*what, molecule.get_hash())
            if len(self.keys) in self.refuses and key not in self.keys:
                self.refuses.remove(len(self.keys))
                errors.append((i, "no room"))
                ids.append(None)
                continue
            if key in self.keys:
                existing.append(i)
            ids.append(self.keys.setdefault(key, len(self.keys) + 1))
            self.records.setdefault(
                ids[-1], SimpleNamespace(id=ids[-1], molecule=molecule, status="waiting", asked=asked)
            )
        return SimpleNamespace(existing_idx=existing, errors=errors, error_description=None), ids

    def query_singlepoints(self, record_id, status, include=()):
        self._answer()
        return [self.records[i] for i in record_id if i in self.records and self.records[i].status in status]

    def reset_records(self, ids):
        self._answer()
        for i in ids:
            self.records[i].status = "waiting"

    def compute(self, count=1000):
        """Do so many of the waiting records."""
        for record in [r for r in self.records.values() if r.status == "waiting"][:count]:
            self.computed[record.id] += 1
            record.provenance = SimpleNamespace(creator="springs", version="1")
            if record.id in self.fails:
                record.status = Status("error")
                message = "Traceback ...\n  File ...\nSpringError: too soft\n"
                record.error = {"error_type": "input_error", "error_message": message}
            else:
                arms = record.molecule.geometry - record.molecule.geometry.mean(0)
                record.status = Status("complete")
                record.properties = {"return_energy": (arms**2).sum(), "return_result": (2 * arms).ravel().tolist()}

    def _answer(self):
        if not self.up:
            raise ConnectionRefusedError("nobody there")

    @property
    def server_info(self):
        return {"name": "in memory"}


class Status(str):
    """A status with a `value`, as qcportal's enumeration has."""

    value = property(str)


@pytest.fixture
def server(monkeypatch):
    server = Server()
    monkeypatch.setattr(fractal.QCFractal, "_connected", lambda self: server)
    monkeypatch.setattr(fractal.time, "sleep", lambda seconds: server.compute(2))
    return server


def tasks_of(path, *smiles, calculator=None, frames=3, retry=False):
    directory, calculator, sampler = LabelDirectory(path, retry=retry), calculator or Harmonic(), Frames(frames)
    made = []
    for text in smiles:
        task = Task(Job(text, from_smiles(text, text)), directory, lambda: (calculator, sampler), "", frames)
        task.prepare()
        made.append(task)
    return made


def labels_of(tasks):
    return [known(task.directory, task.job) for task in tasks]


def test_labels_are_those_of_the_geometries(tmp_path, server):
    tasks = tasks_of(tmp_path, "CO", "C[NH3+]")
    done = list(fractal.QCFractal("http://nowhere")(tasks))
    assert {task.job.name for task in done} == {"CO", "C[NH3+]"}
    for task, labels in zip(tasks, labels_of(tasks), strict=True):
        assert len(labels.energy) == task.done() == 3
        arms = (labels.xyz - labels.xyz.mean(1, keepdims=True)) / constants.bohr2angstroms
        np.testing.assert_allclose(labels.energy, (arms**2).sum((1, 2)) * constants.hartree2kcalmol, rtol=1e-7)
        force = -2 * arms * constants.hartree2kcalmol / constants.bohr2angstroms
        np.testing.assert_allclose(labels.forces, force, rtol=1e-6, atol=1e-5)
        assert labels.dipole is None
    assert tasks[0].directory.programs() == ["springs 1, QCFractal"]
    asked = server.records[1].asked
    assert (asked["program"], asked["method"], asked["driver"]) == ("springs", "harmonic", "gradient")
    assert asked["keywords"] == {"k": 2}


def test_nothing_is_submitted_or_computed_twice(tmp_path, server):
    compute = fractal.QCFractal("http://nowhere", wait=False)
    tasks = tasks_of(tmp_path / "a", "CO", "CN")
    list(compute(tasks))
    assert compute.left == 6
    assert [task.done() for task in tasks] == [0, 0]
    server.compute(4)
    list(compute(tasks))  # as a new program would: the first collects four, submits the same again
    assert compute.left == 2
    assert sum(task.done() for task in tasks) == 4
    list(fractal.QCFractal("http://nowhere")(tasks))
    again = tasks_of(tmp_path / "b", "CO", "CN")
    list(fractal.QCFractal("http://nowhere")(again))
    assert len(server.records) == 6
    assert set(server.computed.values()) == {1}
    for first, second in zip(labels_of(tasks), labels_of(again), strict=True):
        np.testing.assert_array_equal(first.forces, second.forces)


def test_equal_geometries_share_a_record(tmp_path, server):
    tasks = tasks_of(tmp_path, "CO")
    tasks += [Task(Job("twin", tasks[0].job.molecule), tasks[0].directory, tasks[0].tools, "", 3)]
    tasks[-1].prepare()
    list(fractal.QCFractal("http://nowhere")(tasks))
    assert len(server.records) == 3
    assert [len(labels.energy) for labels in labels_of(tasks)] == [3, 3]


def test_failures_are_counted_with_reasons_and_retried_on_request(tmp_path, server):
    server.fails, server.refuses = {2}, {3}
    tasks = tasks_of(tmp_path, "CO", "CN")
    list(fractal.QCFractal("http://nowhere")(tasks))
    first, second = labels_of(tasks)
    assert first.failed == {"input error": 1}
    assert first.messages == ("CO: springs harmonic, record 2: SpringError: too soft",)
    assert second.failed == {"refused": 1}
    assert "no room" in second.messages[0]
    assert len(first.energy) == len(second.energy) == 2
    list(fractal.QCFractal("http://nowhere")(tasks))
    assert server.computed[2] == 1  # a failure stays one
    server.fails = set()
    list(fractal.QCFractal("http://nowhere")(tasks_of(tmp_path, "CO", "CN", retry=True)))
    assert [len(labels.energy) for labels in labels_of(tasks)] == [3, 3]
    assert [labels.failed.total() for labels in labels_of(tasks)] == [0, 0]
    assert server.computed[2] == 2


def test_a_server_that_is_away_is_waited_for(tmp_path, server, monkeypatch):
    tasks = tasks_of(tmp_path, "CO")
    server.up = False
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        server.up = len(slept) > 3
        server.compute(1)

    monkeypatch.setattr(fractal.time, "sleep", sleep)
    list(fractal.QCFractal("http://nowhere")(tasks))
    assert tasks[0].done() == 3
    assert len(slept) > 3


def test_a_server_that_stays_away_is_an_error_that_says_so(tmp_path, server):
    server.up = False
    with pytest.raises(ConnectionError, match=r"http://nowhere.*no answer.*nobody there.*kept"):
        list(fractal.QCFractal("http://nowhere", patience=0.0)(tasks_of(tmp_path, "CO")))


def test_a_server_that_never_answers_is_told_before_geometries_are_made(tmp_path, monkeypatch):
    def absent(self):
        raise ConnectionRefusedError("nobody there")

    monkeypatch.setattr(fractal.QCFractal, "_connected", absent)
    task = tasks_of(tmp_path / "made", "CO")[0]
    unmade = Task(task.job, LabelDirectory(tmp_path / "unmade"), task.tools, "", 3)
    with pytest.raises(ConnectionError, match=r"http://nowhere.*is the address right"):
        list(fractal.QCFractal("http://nowhere")([unmade]))
    assert not (tmp_path / "unmade").exists()


def test_a_user_without_password_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("QCFRACTAL_PASSWORD", raising=False)
    with pytest.raises(ValueError, match="QCFRACTAL_PASSWORD"):
        list(fractal.QCFractal("http://nowhere", username="me")(tasks_of(tmp_path, "O")))


def test_a_refused_user_is_told_at_once(tmp_path, server, monkeypatch):
    from qcportal.exceptions import AuthenticationFailure

    def refused(self):
        raise AuthenticationFailure("wrong password")

    monkeypatch.setattr(fractal.QCFractal, "_connected", refused)
    with pytest.raises(ValueError, match=r"http://nowhere: wrong password.*username=me"):
        list(fractal.QCFractal("http://nowhere", username="me")(tasks_of(tmp_path, "O")))


def test_potentials_are_refused(tmp_path):
    task = tasks_of(tmp_path, "O")[0]
    with pytest.raises(ValueError, match="potentials"):
        list(fractal.QCFractal("http://nowhere")([Task(task.job, task.directory, task.tools, "", 3, esp=1)]))


def test_what_a_server_computes():
    xtb = fractal.specification(XTBCalculator("GFN1-xTB", accuracy=0.5))
    assert (xtb.program, xtb.method, xtb.basis, xtb.keywords) == ("xtb", "GFN1-xTB", None, {"accuracy": 0.5})
    with pytest.raises(ValueError, match=r"MMFF94.*calculator=psi4"):
        fractal.specification(MMFFCalculator())
    dft = fractal.specification(QCEngineCalculator("Psi4", "b3lyp-d3bj", "dzvp", {"scf_type": "df"}))
    assert (dft.program, dft.method, dft.basis, dft.keywords) == ("psi4", "b3lyp-d3bj", "dzvp", {"scf_type": "df"})


def test_the_server_gets_the_molecule_as_it_is():
    acetate = from_smiles("CC(=O)[O-]")
    xyz = Frames(1)(acetate)[0]
    sent = fractal.server_molecule(acetate, xyz)
    np.testing.assert_allclose(sent.geometry * constants.bohr2angstroms, xyz, atol=1e-8)  # neither moved nor turned
    assert sent.fix_com
    assert sent.fix_orientation
    assert (sent.molecular_charge, sent.molecular_multiplicity) == (-1, 1)
    np.testing.assert_array_equal(sent.atomic_numbers, acetate.numbers)
    assert [(i, j) for i, j, _ in sent.connectivity] == [tuple(bond) for bond in acetate.bonds.tolist()]
    smiles = "canonical_isomeric_explicit_hydrogen_mapped_smiles"
    again = from_smiles(getattr(sent.identifiers, smiles))
    np.testing.assert_array_equal(again.bonds, acetate.bonds)
    assert sent.extras[smiles] == acetate.smiles
    assert fractal.server_molecule(from_smiles("[Na+]"), np.zeros((1, 3))).connectivity is None


def test_a_molecule_that_cannot_be_sent_is_told():
    water = from_smiles("O", "my-water")
    with pytest.raises(CalculatorError, match=r"my-water.*finite"):
        fractal.server_molecule(water, np.full((3, 3), np.nan))
    with pytest.raises(CalculatorError, match="my-water") as caught:
        fractal.server_molecule(water, np.zeros((3, 3)))
    assert caught.value.reason == "molecule"


def answer(molecule, xyz, **more):
    energy, forces = MMFFCalculator()(molecule, xyz)
    gradient = -forces / constants.hartree2kcalmol * constants.bohr2angstroms
    return {"return_energy": energy / constants.hartree2kcalmol, "return_result": gradient.ravel().tolist()} | more


def test_answers_are_converted():
    molecule = from_smiles("CC(=O)NC")
    xyz = Frames(1)(molecule)[0]
    energy, forces = MMFFCalculator()(molecule, xyz)
    label = fractal.label(molecule, xyz, answer(molecule, xyz, scf_dipole_moment=[0.5, 0.0, -1.0]), "x")
    assert label.energy == pytest.approx(energy, rel=1e-8)
    np.testing.assert_allclose(label.forces, forces, rtol=1e-7)
    debye = np.linalg.norm(label.dipole) / 0.2081943
    assert debye == pytest.approx(np.sqrt(1.25) * constants.conversion_factor("bohr * e", "debye"), rel=1e-5)


def test_a_dipole_of_another_level_is_left_out():
    molecule = from_smiles("CO")
    xyz = Frames(1)(molecule)[0]
    made = answer(molecule, xyz, scf_dipole_moment=[0.5, 0.0, -1.0])
    assert fractal.label(molecule, xyz, made | {"scf_total_energy": made["return_energy"]}, "x").dipole is not None
    assert fractal.label(molecule, xyz, made | {"scf_total_energy": made["return_energy"] + 0.3}, "x").dipole is None


def test_forces_of_another_frame_are_caught():
    molecule = from_smiles("CCO")
    xyz = Frames(1)(molecule)[0]
    made = answer(molecule, xyz)
    turned = np.array(made["return_result"]).reshape(-1, 3)[:, [1, 2, 0]]
    with pytest.raises(CalculatorError, match="coordinates") as caught:
        fractal.label(molecule, xyz, made | {"return_result": turned}, "x")
    assert caught.value.reason == "frame"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"return_result": None}, "incomplete"),
        ({"return_energy": None}, "incomplete"),
        ({"return_result": [0.0, 0.0, 0.0]}, "incomplete"),
        ({"return_energy": float("nan")}, "nan"),
    ],
)
def test_answers_without_numbers_are_failures(wrong, reason):
    molecule = from_smiles("CO", "my-methanol")
    xyz = Frames(1)(molecule)[0]
    with pytest.raises(CalculatorError) as caught:
        fractal.label(molecule, xyz, answer(molecule, xyz) | wrong, "my-methanol")
    assert "my-methanol" in str(caught.value)
    assert caught.value.reason == reason
