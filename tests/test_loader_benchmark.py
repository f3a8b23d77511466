"""The benchmark of loading runs and writes its figures."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[1] / "benchmarks/loader.py"


def test_the_table(tmp_path):
    options = ["--conformers", "1200", "--work", str(tmp_path), "--shared", str(tmp_path), "--batch", "4"]
    options += ["--rounds", "1", "--most", "3", "--json", str(tmp_path / "figures.json")]
    done = subprocess.run([sys.executable, str(BENCHMARK), *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert set(figures) == {"embedded", "drug-like"}
    assert figures["drug-like"]["conformers"] == 1200
    for data_set in figures.values():
        assert 0.0 < data_set["batch_ms"] < data_set["new_molecules_ms"] * 1.5
        for shares in data_set["masked"].values():
            assert 0.0 <= shares["bucketed"] <= shares["plain"] + 0.02
    assert figures["embedded"]["masked"]["entries"]["plain"] > 0.0
    assert "drug-like" in done.stdout
