"""Garnet as a calculator; its wheel is not part of the tests' environment unless somebody installs it."""

import sys

import numpy as np
import pytest

from espalike.evaluation.baselines import NotInstalled, baseline
from espalike.landscape.cost import FORCE_FIELD, cost
from espalike.qm.base import CalculatorError
from tests.qm.test_calculators import from_smiles, perturbed, slope


@pytest.fixture
def garnet():
    pytest.importorskip("garnetff", reason="needs the extra garnet", exc_type=ImportError)
    from espalike.qm.garnet import GarnetCalculator

    return GarnetCalculator()


def test_forces_are_the_negative_slope_of_the_energy(garnet):
    molecule, xyz = perturbed("CC(=O)Nc1ccc(O)cc1")
    direction = np.random.default_rng(3).normal(size=xyz.shape)
    expected = -slope(garnet, molecule, xyz, direction, 1e-5)
    assert np.vdot(garnet(molecule, xyz)[1], direction) == pytest.approx(expected, rel=1e-5)


def test_linear_angles_are_taken_though_single_precision_rounds_them_up(garnet):
    molecule, xyz = perturbed("C#CC(N)=O")
    assert np.isfinite(garnet(molecule, xyz)[0]).all()


def test_what_it_does_not_know_is_refused(garnet):
    with pytest.raises(CalculatorError, match=r"zinc: Garnet has no parameters for this molecule: .*not supported"):
        garnet(from_smiles("[Zn+2]", "zinc"), np.zeros((1, 3)))


def test_its_cost_is_that_of_a_step(garnet):
    measured = cost("garnet", 1, sizes=(1,))
    assert measured.kind == FORCE_FIELD
    assert measured.ms[22] > 0


def test_without_its_wheel_the_message_says_what_to_install(monkeypatch):
    pytest.importorskip("openff.toolkit", reason="needs the extra openff")
    monkeypatch.setitem(sys.modules, "garnetff", None)
    with pytest.raises(NotInstalled, match=r"garnet: .*pip install 'espalike\[garnet\]'"):
        baseline("garnet")
