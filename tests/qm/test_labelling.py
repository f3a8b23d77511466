"""The label directory: what is done is kept and never repeated, what fails is told, settings are not mixed."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from espalike.chem import from_smiles
from espalike.model import find
from espalike.qm.base import CalculatorError, Label, labelled
from espalike.qm.label_index import index_of
from espalike.qm.labelling import Job, LabelDirectory, conformers_of
from espalike.qm.models import ModelCalculator
from tests.qm.known import known


class Counting:
    """A calculator that counts its calls and fails on request."""

    level = program = "counting"

    def __init__(self, fails_on=()):
        self.calls = 0
        self.fails_on = set(fails_on)

    def __call__(self, molecule, xyz):
        self.calls += 1
        if self.calls in self.fails_on:
            raise CalculatorError("not converged", f"{molecule.name}: call {self.calls}")
        return float(xyz.sum()), -xyz


class Electrostatic(Counting):
    """Gives dipoles, and potentials at as many points as the first coordinate says."""

    properties = frozenset({"dipole", "esp"})

    def label(self, molecule, xyz, esp=False):
        energy, forces = self(molecule, xyz)
        if not esp:
            return Label(energy, forces, xyz.sum(0))
        points = np.arange(3.0 * (1 + self.calls)).reshape(-1, 3)
        return Label(energy, forces, xyz.sum(0), points, points.sum(1))


def sample(molecule, starts):
    rng = np.random.default_rng(molecule.n_atoms)
    return rng.normal(size=(5, molecule.n_atoms, 3)).astype(np.float32).astype(np.float64)


@pytest.fixture
def job():
    return Job("water", from_smiles("O", "water"))


def test_labels_belong_to_their_geometries(tmp_path, job):
    directory, calculator = LabelDirectory(tmp_path), Counting()
    directory.work(job, calculator, sample, 3)
    labels = known(directory, job)
    assert labels.xyz.shape == (3, 3, 3)
    np.testing.assert_array_equal(labels.energy, labels.xyz.sum((1, 2)))
    np.testing.assert_array_equal(labels.forces, -labels.xyz)
    assert directory.done(job, 5) == 3


@pytest.mark.parametrize("of_others", ["records-0.bin", "records-1.bin"])
def test_labels_of_other_geometries_do_not_count(tmp_path, job, of_others):
    """Two processes that made the geometries of a molecule at the same time, or the record files of two folders."""
    LabelDirectory(tmp_path / "one").work(job, Counting(), sample, 2)
    LabelDirectory(tmp_path / "other").work(job, Counting(), lambda *given: sample(*given) + 1.0, 4)
    (tmp_path / "both").mkdir()
    own = "records-0.bin" if of_others == "records-1.bin" else "records-1.bin"
    shutil.copy(tmp_path / "one" / "records-0.bin", tmp_path / "both" / own)
    shutil.copy(tmp_path / "other" / "records-0.bin", tmp_path / "both" / of_others)
    both, calculator = LabelDirectory(tmp_path / "both"), Counting()
    for expected in (2 if own == "records-0.bin" else 4, 5):
        labels = known(both, job)
        assert len(labels.energy) == expected
        np.testing.assert_array_equal(labels.energy, labels.xyz.sum((1, 2)))
        both.work(job, calculator, sample, 5)
    assert calculator.calls == 5 - (2 if own == "records-0.bin" else 4)


def test_nothing_is_computed_twice(tmp_path, job):
    calculator = Counting()
    LabelDirectory(tmp_path).work(job, calculator, sample, 2)
    LabelDirectory(tmp_path).work(job, calculator, sample, 5)
    LabelDirectory(tmp_path).work(job, calculator, sample, 5)
    assert calculator.calls == 5
    assert len(LabelDirectory(tmp_path).labels(job)) == 5


def test_a_half_written_file_does_not_count(tmp_path, job):
    directory, calculator = LabelDirectory(tmp_path), Counting()
    directory.work(job, calculator, sample, 1)
    (path,) = tmp_path.glob("records-*.bin")
    whole = path.read_bytes()
    index_of(tmp_path, again=True)
    path.write_bytes(whole + whole[: len(whole) // 3])
    directory.claim({})
    assert directory.done(job, 5) == 1
    directory.work(job, calculator, sample, 2)
    assert calculator.calls == 2
    assert len(directory.labels(job)) == 2


class Batches(Counting):
    """Computes batches; fails where the first coordinate is negative; members disagree by the geometry's number."""

    properties = frozenset({"dipole", "disagreement"})

    def label(self, molecule, xyz, esp=False):
        return self.labels(molecule, xyz[None])[0]

    def batch(self, molecule, xyz):
        labels = self.labels(molecule, xyz)
        return np.array([label.energy for label in labels]), np.array([label.forces for label in labels])

    def labels(self, molecule, xyz):
        self.calls += 1
        if (xyz[:, 0, 0] < 0).any():
            raise CalculatorError("negative", f"{molecule.name}: negative")
        return [Label(float(one.sum()), -one, one.sum(0), disagreement=one[:, 1]) for one in xyz]


def test_a_calculator_of_batches_is_called_once(tmp_path, job):
    def positive(molecule, starts):
        return np.abs(sample(molecule, starts))

    directory, calculator = LabelDirectory(tmp_path), Batches()
    directory.work(job, calculator, positive, 3)
    directory.work(job, calculator, positive, 5)
    assert calculator.calls == 2
    labels = known(directory, job)
    np.testing.assert_array_equal(labels.xyz, positive(job.molecule, None))
    np.testing.assert_array_equal(labels.energy, labels.xyz.sum((1, 2)))
    np.testing.assert_array_equal(labels.dipole, labels.xyz.sum(1))
    np.testing.assert_array_equal(
        [label.disagreement for _, label in directory.labels(job).values()], labels.xyz[:, :, 1]
    )


def test_one_bad_geometry_does_not_fail_its_batch(tmp_path, job):
    directory, calculator = LabelDirectory(tmp_path), Batches()
    directory.work(job, calculator, sample, 5)
    bad = (sample(job.molecule, None)[:, 0, 0] < 0).sum()
    assert 0 < bad < 5
    labels = known(directory, job)
    assert known(directory, job).failed == {"negative": bad}
    assert len(labels.energy) == 5 - bad
    assert (labels.xyz[:, 0, 0] > 0).all()


def test_labels_in_a_file_each_are_taken_over(tmp_path, job):
    """The layout of earlier versions: a folder per molecule with frames.npz and a file per label or failure."""
    xyz = sample(job.molecule, None)
    home = tmp_path / "water"
    home.mkdir()
    np.savez(home / "frames.npz", xyz=xyz, smiles=np.array(job.molecule.smiles))
    for k in (0, 2):
        points = np.ones((4, 3)) if k else np.zeros((2, 3))
        esp = {"esp_points": points, "esp_values": np.arange(float(len(points)))}
        np.savez(home / f"{k}.npz", energy=xyz[k].sum(), forces=-xyz[k], dipole=xyz[k].sum(0), **esp)
    (home / "3.json").write_text(json.dumps({"reason": "not converged", "message": "water: geometry 3"}))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "frames.json").write_text(json.dumps({"reason": "bonds broken", "message": "broken: apart"}))
    (tmp_path / "settings.json").write_text(json.dumps({"calculator": 1}))
    broken = Job("broken", from_smiles("CO", "broken"))
    for _ in range(2):  # the second time there is nothing to take over
        directory, calculator = LabelDirectory(tmp_path), Counting()
        directory.claim({"calculator": 1})
        assert (directory.done(job, 5), directory.done(broken, 5)) == (3, 5)
        size = sum(path.stat().st_size for path in tmp_path.glob("records-*"))
    directory.claim({"calculator": 1})
    assert sum(path.stat().st_size for path in tmp_path.glob("records-*")) == size
    directory.work(job, calculator, sample, 5)
    assert calculator.calls == 2
    labels = known(directory, job)
    np.testing.assert_array_equal(labels.energy, labels.xyz.sum((1, 2)))
    np.testing.assert_array_equal(labels.esp.count, [2, 0, 4, 0])
    assert known(directory, job).failed == {"not converged": 1}
    assert known(directory, broken).failed == {"bonds broken": 1}
    LabelDirectory(tmp_path, retry=True).work(job, calculator, sample, 5)
    assert len(directory.labels(job)) == 5


def test_failures_are_counted_kept_and_tried_again_on_request(tmp_path, job):
    directory, calculator = LabelDirectory(tmp_path), Counting(fails_on=[2])
    directory.work(job, calculator, sample, 5)
    labels = known(directory, job)
    assert len(labels.energy) == 4
    assert known(directory, job).failed == {"not converged": 1}
    assert labels.messages == ("water: call 2",)
    assert directory.done(job, 5) == 5
    directory.work(job, calculator, sample, 5)
    assert calculator.calls == 5
    again = LabelDirectory(tmp_path, retry=True)
    assert again.done(job, 5) == 4
    again.work(job, calculator, sample, 5)
    assert calculator.calls == 6
    assert known(again, job).failed == {}


def test_a_molecule_that_cannot_be_sampled_is_one_failure(tmp_path, job):
    def fails(molecule, starts):
        raise CalculatorError("bonds broken", f"{molecule.name}: apart")

    directory, calculator = LabelDirectory(tmp_path), Counting()
    directory.work(job, calculator, fails, 5)
    assert calculator.calls == 0
    assert known(directory, job).failed == {"bonds broken": 1}
    assert directory.done(job, 5) == 5


def test_molecules_with_fewer_geometries_are_done_too(tmp_path):
    job, directory = Job("ion", from_smiles("[Na+]")), LabelDirectory(tmp_path)
    directory.work(job, Counting(), lambda molecule, starts: np.zeros((1, 1, 3)), 12)
    assert directory.done(job, 12) == 12


def test_other_settings_are_refused(tmp_path):
    LabelDirectory(tmp_path / "new").claim({"calculator": {"grid": 2}, "sampler": {"seed": 0}})
    LabelDirectory(tmp_path / "new").claim({"calculator": {"grid": 2}, "sampler": {"seed": 0}})
    with pytest.raises(ValueError, match=r"other settings.*calculator"):
        LabelDirectory(tmp_path / "new").claim({"calculator": {"grid": 3}, "sampler": {"seed": 0}})
    assert json.loads((tmp_path / "new" / "settings.json").read_text())["calculator"] == {"grid": 2}


def test_labels_without_their_settings_are_refused(tmp_path, job):
    directory = LabelDirectory(tmp_path)
    directory.claim({"calculator": {"convergence": 1e-6}})
    directory.work(job, Counting(), sample, 2)
    (tmp_path / "settings.json").unlink()
    with pytest.raises(ValueError, match=r"settings.json is missing, which says how the labels beside it were made"):
        directory.claim({"calculator": {"convergence": 1e-7}})


def test_labels_of_another_model_file_of_the_same_name_are_refused(tmp_path):
    """Half of the labels would be those of the earlier file."""

    def claim(model):
        copy = tmp_path / "model.espalike"
        copy.write_bytes(find(model).read_bytes())
        LabelDirectory(tmp_path / "labels").claim({"calculator": str(copy)}, ModelCalculator(copy))

    claim("espalike-1")
    claim("espalike-1")
    with pytest.raises(ValueError, match=r"labels made with other content of model\.espalike"):
        claim("espalike-2")
    settings = tmp_path / "labels" / "settings.json"
    settings.write_text(json.dumps({"calculator": str(tmp_path / "model.espalike")}))  # of an earlier version
    claim("espalike-2")


def test_settings_that_came_later_count_as_their_defaults(tmp_path):
    directory = LabelDirectory(tmp_path)
    target = "espalike.qm.sampling.Sampler"
    directory.claim({"sampler": {"_target_": target, "frames": 12, "calculator": {"_target_": "x.Y", "a": 1}}})
    directory.claim(
        {"sampler": {"_target_": target, "frames": 12, "seed": 0, "calculator": {"_target_": "x.Y", "a": 1}}}
    )
    renamed = "espalike.qm.sampling.Thermal"  # the class has this name now
    directory.claim({"sampler": {"_target_": renamed, "frames": 12, "calculator": {"_target_": "x.Y", "a": 1}}})
    for other in ({"frames": 12, "seed": 1}, {"frames": 9, "seed": 0}, {"seed": 0}):
        with pytest.raises(ValueError, match=r"other settings.*sampler"):
            directory.claim({"sampler": {"_target_": target, "calculator": {"_target_": "x.Y", "a": 1}, **other}})
    with pytest.raises(ValueError, match=r"other settings.*sampler"):
        directory.claim({"sampler": {"_target_": target, "frames": 12, "calculator": {"_target_": "x.Y", "a": 2}}})


def test_another_molecule_under_the_same_name_is_refused(tmp_path, job):
    directory = LabelDirectory(tmp_path)
    directory.work(job, Counting(), sample, 1)
    with pytest.raises(ValueError, match="rename the molecule"):
        directory.work(Job("water", from_smiles("CO", "water")), Counting(), sample, 1)


def test_dipoles_and_potentials_belong_to_their_geometries(tmp_path, job):
    directory, calculator = LabelDirectory(tmp_path), Electrostatic()
    directory.work(job, calculator, sample, 4, esp=2)
    labels = known(directory, job)
    np.testing.assert_array_equal(labels.dipole, labels.xyz.sum(1))
    np.testing.assert_array_equal(labels.esp.count, [2, 3, 0, 0])
    np.testing.assert_array_equal(labels.esp.values, labels.esp.points.sum(1))
    np.testing.assert_array_equal(labels.esp.points[2:], np.arange(9.0).reshape(3, 3))
    assert directory.done(job, 4, esp=2) == 4
    assert directory.done(job, 4, esp=3) == 3


def test_labels_without_anything_more_have_none(tmp_path, job):
    directory = LabelDirectory(tmp_path)
    directory.work(job, Counting(), sample, 2)
    labels = known(directory, job)
    assert labels.dipole is None
    assert labels.esp is None


def test_what_lacks_the_potential_now_asked_for_is_labelled_again(tmp_path, job):
    """The first labels are of the layout before there were dipoles: energy and forces only."""
    directory = LabelDirectory(tmp_path)
    directory.work(job, Counting(), sample, 3)
    assert (directory.done(job, 3), directory.done(job, 3, esp=2)) == (3, 1)
    calculator = Electrostatic()
    directory.work(job, calculator, sample, 4, esp=2)
    assert calculator.calls == 3  # geometries 0 and 1 again, 3 for the first time
    labels = known(directory, job)
    np.testing.assert_array_equal(labels.energy, labels.xyz.sum((1, 2)))
    assert np.isnan(labels.dipole).all(1).tolist() == [False, False, True, False]
    assert (labels.esp.count > 0).tolist() == [True, True, False, False]
    directory.work(job, calculator, sample, 4, esp=2)
    assert calculator.calls == 3


def test_a_potential_that_fails_is_told_and_the_energy_stays(tmp_path, job):
    directory, calculator = LabelDirectory(tmp_path), Electrostatic(fails_on=[1])
    directory.work(job, Counting(), sample, 3)
    directory.work(job, calculator, sample, 3, esp=2)
    labels = known(directory, job)
    assert len(labels.energy) == 3
    assert labels.esp.count.tolist() == [0, 3, 0]
    assert known(directory, job).failed == {"not converged": 1}
    assert directory.done(job, 3, esp=2) == 3
    directory.work(job, calculator, sample, 3, esp=2)
    assert calculator.calls == 2
    again = LabelDirectory(tmp_path, retry=True)
    assert again.done(job, 3, esp=2) == 2
    again.work(job, calculator, sample, 3, esp=2)
    assert known(again, job).failed == {}
    assert (known(LabelDirectory(tmp_path), job).esp.count > 0).tolist() == [True, True, False]


def test_a_calculator_without_a_potential_is_refused_before_any_work(tmp_path, job):
    calculator = Counting()
    with pytest.raises(ValueError, match="counting gives no electrostatic potential"):
        LabelDirectory(tmp_path).work(job, calculator, sample, 3, esp=1)
    assert calculator.calls == 0
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CalculatorError, match="water: counting"):
        labelled(calculator, job.molecule, np.zeros((3, 3)), esp=True)


def test_geometries_made_in_a_second_attempt_are_labelled_by_the_next_run(tmp_path, job):
    def fails(molecule, starts):
        raise CalculatorError("bonds broken", f"{molecule.name}: apart")

    LabelDirectory(tmp_path).work(job, Counting(), fails, 5)
    LabelDirectory(tmp_path, retry=True).work(job, Counting(), sample, 2)
    directory = LabelDirectory(tmp_path)
    assert directory.done(job, 5) == 2
    assert known(directory, job).failed == {}


def test_labels_with_and_without_a_property_make_one_set_of_conformers():
    xyz = np.arange(3)[:, None, None] * np.ones((1, 2, 3))
    labels = [Label(float(k), -xyz[k]) for k in range(3)]
    bare = conformers_of(list(zip(xyz, labels, strict=True)), "level", "source")
    np.testing.assert_array_equal(bare.energy, [0, 1, 2])
    np.testing.assert_array_equal(bare.xyz[:, 0, 0], bare.energy)
    np.testing.assert_array_equal(bare.forces, -bare.xyz)
    assert (bare.level, bare.source, bare.dipole, bare.esp) == ("level", "source", None, None)
    labels[1] = replace(labels[1], dipole=np.ones(3), esp_points=np.ones((5, 3)), esp_values=np.arange(5.0))
    labels[2] = replace(labels[2], esp_points=np.zeros((1, 3)), esp_values=np.array([7.0]))
    mixed = conformers_of(list(zip(xyz, labels, strict=True)), "level", "source")
    np.testing.assert_array_equal(np.isnan(mixed.dipole[:, 0]), [True, False, True])
    np.testing.assert_array_equal(mixed.esp.count, [0, 5, 1])
    np.testing.assert_array_equal(mixed.esp.values, [0, 1, 2, 3, 4, 7])
