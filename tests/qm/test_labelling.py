"""The label directory: what is done is kept and never repeated, what fails is told, settings are not mixed."""

import json

import numpy as np
import pytest

from espalike.chem import from_smiles
from espalike.qm.base import CalculatorError
from espalike.qm.labelling import Job, LabelDirectory


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


def sample(molecule, starts):
    rng = np.random.default_rng(molecule.n_atoms)
    return rng.normal(size=(5, molecule.n_atoms, 3)).astype(np.float32).astype(np.float64)


@pytest.fixture
def job():
    return Job("water", from_smiles("O", "water"))


def test_labels_belong_to_their_geometries(tmp_path, job):
    directory, calculator = LabelDirectory(tmp_path), Counting()
    directory.work(job, calculator, sample, 3)
    labels = directory.labels(job)
    assert labels.xyz.shape == (3, 3, 3)
    np.testing.assert_array_equal(labels.energy, labels.xyz.sum((1, 2)))
    np.testing.assert_array_equal(labels.forces, -labels.xyz)
    assert directory.done(job, 5) == 3


def test_nothing_is_computed_twice(tmp_path, job):
    calculator = Counting()
    LabelDirectory(tmp_path).work(job, calculator, sample, 2)
    LabelDirectory(tmp_path).work(job, calculator, sample, 5)
    LabelDirectory(tmp_path).work(job, calculator, sample, 5)
    assert calculator.calls == 5
    assert len(LabelDirectory(tmp_path).labels(job).energy) == 5


def test_a_half_written_file_does_not_count(tmp_path, job):
    directory, calculator = LabelDirectory(tmp_path), Counting()
    directory.work(job, calculator, sample, 1)
    (tmp_path / "water" / "1.npz.999.tmp").write_bytes(b"PK\x03\x04 half a fi")
    directory.work(job, calculator, sample, 2)
    assert calculator.calls == 2
    assert len(directory.labels(job).energy) == 2


def test_failures_are_counted_kept_and_tried_again_on_request(tmp_path, job):
    directory, calculator = LabelDirectory(tmp_path), Counting(fails_on=[2])
    directory.work(job, calculator, sample, 5)
    labels = directory.labels(job)
    assert len(labels.energy) == 4
    assert labels.failed == {"not converged": 1}
    assert labels.messages == ("water: call 2",)
    assert directory.done(job, 5) == 5
    directory.work(job, calculator, sample, 5)
    assert calculator.calls == 5
    again = LabelDirectory(tmp_path, retry=True)
    assert again.done(job, 5) == 4
    again.work(job, calculator, sample, 5)
    assert calculator.calls == 6
    assert again.labels(job).failed == {}


def test_a_molecule_that_cannot_be_sampled_is_one_failure(tmp_path, job):
    def fails(molecule, starts):
        raise CalculatorError("bonds broken", f"{molecule.name}: apart")

    directory, calculator = LabelDirectory(tmp_path), Counting()
    directory.work(job, calculator, fails, 5)
    assert calculator.calls == 0
    assert directory.labels(job).failed == {"bonds broken": 1}
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


def test_another_molecule_under_the_same_name_is_refused(tmp_path, job):
    directory = LabelDirectory(tmp_path)
    directory.work(job, Counting(), sample, 1)
    with pytest.raises(ValueError, match="rename the molecule"):
        directory.work(Job("water", from_smiles("CO", "water")), Counting(), sample, 1)
