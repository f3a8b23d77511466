"""The benchmarks run and say what they measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_md_step(tmp_path):
    pytest.importorskip("openff.toolkit", reason="needs the extra openff")
    command = [sys.executable, str(ROOT / "benchmarks/md_step.py"), "--forcefields", "class1", "--molecules", "1"]
    options = ["--waters", "0", "--rounds", "3", "--platform", "Reference", "--json", str(tmp_path / "cost.json")]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "cost.json").read_text())
    rows = result["forms"]["class1"]["interactions"]
    assert (rows["HarmonicBond"], rows["HarmonicAngle"]) == (45, 83)
    assert result["forms"]["class1"]["formats"]["ffxml"] == "yes"
    (gas,) = result["gas"].values()
    assert gas["class1"]["/class1"] == 1.0
    assert 0.2 < gas["class1"]["/openff-2.2.1"] < 5.0
    assert gas["openff-2.2.1"]["/class1"] == pytest.approx(1.0 / gas["class1"]["/openff-2.2.1"], rel=1e-6)
    for name in gas:
        assert name.split(",")[0] in done.stdout
