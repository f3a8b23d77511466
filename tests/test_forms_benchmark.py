"""The table of trained forms: its figures are those of `espalike evaluate`, its differences are paired."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from espalike.data.store import Store
from espalike.evaluation.metrics import estimates
from espalike.evaluation.predictors import ForceField
from espalike.evaluation.table import predict, table
from espalike.model import load

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import forms  # noqa: E402 - a script, found by path


def test_scores_are_those_of_evaluate():
    model, store = load("espalike-small").double(), Store.open("sample")
    with torch.no_grad():
        values, keys = forms.score(model, "sample", "val")
    own = estimates(values, keys, resamples=0)
    (row,) = table(predict(store.records("val"), {"model": ForceField(model.parametrize)}), resamples=0)
    for estimate, other in zip(own, (row.energy_rmse, row.energy_mae, row.force_rmse), strict=True):
        assert estimate.value == pytest.approx(other.value, rel=1e-6)


def test_differences_are_paired():
    """Two models that differ by the same factor on every molecule: molecules differ widely, the difference hardly."""
    rng = np.random.default_rng(0)
    squares = rng.uniform(1.0, 100.0, 40)
    one = np.stack([np.ones(40), squares, squares, np.ones(40), squares], axis=1)
    other = one * [1.0, 1.21, 1.21, 1.0, 1.21]
    keys = [str(i) for i in range(40)]
    value, low, high = forms.difference((other, keys), (one, keys), 2)
    assert value == pytest.approx(0.1 * np.sqrt(squares.mean()))
    assert low < value < high
    assert high - low < 0.3 * value


def test_the_plane_is_drawn(tmp_path):
    of = {"DFT test": {"force_rmse": {"value": 5.0, "low": 4.0, "high": 6.0}}}
    ratio = {"class1": {"/openff-2.2.1": 1.0}, "class2": {"/openff-2.2.1": 4.0}}
    files = {"forms": {"class1": of, "class2": of}, "cost": {"forms": ratio, "gas": {"a": ratio}, "solvated": ratio}}
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    arguments = [tmp_path / "forms.json", tmp_path / "cost.json", tmp_path / "plane.png"]
    subprocess.run([sys.executable, BENCHMARKS / "plane.py", *arguments], check=True, capture_output=True)
    assert (tmp_path / "plane.png").stat().st_size > 10_000
