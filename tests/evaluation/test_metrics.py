"""Pooled errors and intervals against plain formulas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from espalike.evaluation import metrics


@pytest.fixture
def entries():
    """Predictions and references of entries of unequal size, far from zero as QM energies are."""
    rng = np.random.default_rng(3)
    made = []
    for k, a in ((4, 3), (7, 5), (2, 2), (12, 9)):
        reference = -4e5 + rng.normal(0, 5, k)
        forces = rng.normal(0, 20, (k, a, 3))
        made.append((reference + rng.normal(7, 2, k), reference, forces + rng.normal(0, 4, forces.shape), forces))
    return made


def _sums(entry):
    e_pred, e_ref, f_pred, f_ref = entry
    return metrics.sums(metrics.energy_errors(e_pred, e_ref), metrics.force_errors(f_pred, f_ref))


def test_pooling_is_over_conformers_and_components_of_centred_entries(entries):
    errors = metrics.pooled(sum(_sums(e) for e in entries))
    energy = np.concatenate([(p - p.mean()) - (r - r.mean()) for p, r, _, _ in entries])
    force = np.concatenate([(p - r).ravel() for _, _, p, r in entries])
    expected = [np.sqrt(np.mean(energy**2)), np.mean(np.abs(energy)), np.sqrt(np.mean(force**2))]
    assert errors == pytest.approx(expected, rel=1e-12)


def test_centring_keeps_float64_far_from_zero():
    energy = -6e5 + np.array([0.0, 0.01, 0.02])
    assert metrics.centred(energy) == pytest.approx([-0.01, 0.0, 0.01], abs=1e-9)


@given(st.floats(-1e6, 1e6))
def test_a_constant_offset_of_the_prediction_does_not_count(shift):
    reference = np.array([0.0, 3.0, 1.5, -2.0])
    predicted = np.array([0.5, 2.0, 1.0, -2.5])
    errors = metrics.energy_errors(predicted + shift, reference)
    assert errors == pytest.approx(metrics.energy_errors(predicted, reference), abs=1e-8)


def test_nothing_to_compare_is_nan_not_zero():
    single = metrics.energy_errors(np.array([3.0]), np.array([-5.0]))
    unknown = metrics.energy_errors(np.array([1.0, 2.0]), np.array([np.nan, np.nan]))
    no_forces = metrics.force_errors(np.zeros((2, 3, 3)), None)
    assert len(single) == len(unknown) == len(no_forces) == 0
    assert np.isnan(metrics.pooled(metrics.sums(single, no_forces))).all()


def test_interval_agrees_with_scipy_percentile_bootstrap():
    rng = np.random.default_rng(0)
    per_molecule = np.stack([_sums((*rng.normal(0, 3, (2, 6)), *rng.normal(0, 9, (2, 6, 4, 3)))) for _ in range(40)])
    estimates = metrics.estimates(per_molecule, [str(i) for i in range(40)], resamples=4000, seed=1)

    def statistic(index, column):
        return metrics.pooled(per_molecule[index.astype(int)].sum(0))[column]

    for column, estimate in enumerate(estimates):
        expected = stats.bootstrap(
            (np.arange(40),),
            lambda index, column=column: statistic(index, column),
            method="percentile",
            n_resamples=4000,
            vectorized=False,
            rng=np.random.default_rng(2),
        ).confidence_interval
        width = expected.high - expected.low
        assert estimate.low == pytest.approx(expected.low, abs=0.08 * width)
        assert estimate.high == pytest.approx(expected.high, abs=0.08 * width)
        assert estimate.low < estimate.value < estimate.high


def test_entries_of_one_molecule_are_resampled_together(entries):
    per_entry = np.stack([_sums(e) for e in entries])
    merged = np.stack([per_entry[0] + per_entry[2], per_entry[1], per_entry[3]])
    apart = metrics.estimates(per_entry, ["a", "b", "a", "c"], resamples=500, seed=5)
    together = metrics.estimates(merged, ["a", "b", "c"], resamples=500, seed=5)
    for one, other in zip(apart, together, strict=True):
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), rel=1e-12)


def test_one_molecule_has_no_interval(entries):
    """Resampling one molecule says nothing about others."""
    one = metrics.estimates(np.stack([_sums(entries[0])] * 2), ["a", "a"])
    assert all(np.isfinite(e.value) and np.isnan(e.low) and np.isnan(e.high) for e in one)
    energies_only = _sums(entries[1]) * np.array([1, 1, 1, 0, 0])
    energy, _, force = metrics.estimates(np.stack([_sums(entries[0]), energies_only]), ["a", "b"])
    assert np.isfinite(energy.low)
    assert np.isnan(force.low)
