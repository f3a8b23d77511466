"""The scripts: dynamics from an XML alone, and shell that parses."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from espalike import export
from espalike.chem import from_file
from espalike.model import Ensemble, from_config
from tests.training.common import CONFIG

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import dynamics as script  # noqa: E402 - a script, found by path

TERMS = ("bond.HarmonicBond", "angle.HarmonicAngle", "torsion.PeriodicProper", "lennard_jones.LennardJones")


@pytest.fixture(scope="module")
def xml(tmp_path_factory):
    """The ligand's XML from an untrained model: priors make it a sane force field."""
    torch.manual_seed(0)
    config = {
        "terms": [{"_target_": f"espalike.terms.{name}"} for name in (*TERMS, "coulomb.Coulomb")],
        "conv": {"_target_": "espalike.nn.convs.SAGE", "_partial_": True},
        "width": 8,
        "layers": 2,
        "hidden": 8,
    }
    path = tmp_path_factory.mktemp("xml") / "ligand.xml"
    export.write(from_config(config).parametrize(from_file(ROOT / "data/paracetamol.sdf")), path, format="ffxml")
    return path


def dynamics(*arguments):
    command = [sys.executable, str(ROOT / "scripts/dynamics.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_dynamics_reports_temperature_and_bonds(xml, tmp_path):
    done = dynamics(xml, ROOT / "data/paracetamol.sdf", "--ps", 5, "--trajectory", tmp_path / "run.pdb")
    assert done.returncode == 0, done.stderr
    mean, spread = map(float, re.search(r"temperature ([\d.]+) ± ([\d.]+) K", done.stdout).groups())
    assert mean == pytest.approx(300, abs=30)
    assert spread == pytest.approx(300 * (2 / 60) ** 0.5, rel=0.35)  # canonical, 60 degrees of freedom
    assert 0.01 < float(re.search(r"largest bond deviation ([\d.]+) Å", done.stdout)[1]) < 0.5
    assert (tmp_path / "run.pdb").read_text().count("ENDMDL") == 100


def test_dynamics_says_when_a_run_is_not_stable(xml, tmp_path):
    soft = tmp_path / "soft.xml"
    text = re.sub(r'(<Bond [^>]*\bk=")[^"]*', r"\g<1>50.0", xml.read_text())
    assert text != xml.read_text()
    soft.write_text(text)
    done = dynamics(soft, ROOT / "data/paracetamol.sdf", "--ps", 2, "--temperature", 600)
    assert done.returncode == 1
    assert "not stable" in done.stderr


def test_a_short_run_at_its_temperature_is_stable(xml):
    done = dynamics(xml, ROOT / "data/paracetamol.sdf", "--ps", 2)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("oscillators", "free", "ps"), [(40, 20, 20.0), (20, 10, 80.0)])
def test_standard_error_of_the_mean_temperature(oscillators, free, ps):
    """As among many Langevin runs (BAOAB, mass and kT of one) of oscillators and free particles."""
    rng, step, friction, runs = np.random.default_rng(0), 0.005, 1.0, 300
    frequency = np.concatenate([rng.uniform(20, 80, oscillators), np.zeros(free)])  # rad/ps
    v, x, total = rng.normal(size=(runs, len(frequency))), np.zeros((runs, len(frequency))), np.zeros(runs)
    x[:, :oscillators] = rng.normal(size=(runs, oscillators)) / frequency[:oscillators]
    decay, steps = np.exp(-friction * step), round(ps / step)
    for _ in range(steps):
        v -= 0.5 * step * frequency**2 * x
        x += 0.5 * step * v
        v = decay * v + np.sqrt(1 - decay**2) * rng.normal(size=v.shape)
        x += 0.5 * step * v
        v -= 0.5 * step * frequency**2 * x
        total += np.square(v).mean(1)
    assert script.standard_error(len(frequency), ps, friction) == pytest.approx((total / steps).std(), rel=0.15)


def test_the_limit_of_the_temperature_scales_with_the_statistical_error():
    assert script.standard_error(60, 0.01, 5.0) == pytest.approx((2 / 60) ** 0.5)  # one sample
    for ps, atoms, mean, accepted in (
        (2, 20, 330, True),
        (20, 20, 330, False),
        (2, 2000, 330, False),
        (1000, 20, 310, True),  # 5 % is always accepted
        (1000, 20, 320, False),
    ):
        assert script.is_at_temperature(mean, 300, 3 * atoms, ps, friction=5.0) is accepted, (ps, atoms, mean)
    assert script.equilibration(2, 5.0) == 1.0
    assert script.equilibration(100, 1.0) == 10.0


SHELL = [*sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("scripts/*.sh")), ".ci/run", ".ci/minimal"]


@pytest.mark.parametrize("name", SHELL)
def test_shell_parses(name):
    assert subprocess.run(["bash", "-n", str(ROOT / name)]).returncode == 0


def test_outside_data_are_named_with_source_and_hash(tmp_path):
    """A missing file stops the recipe before it starts; one with another hash is listed as such."""
    (tmp_path / "pepconf.h5").write_text("another packing")
    command = ["bash", str(ROOT / "scripts/outside_data.sh"), str(tmp_path), "pepconf.h5"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    source = r"pepconf.h5: present, with another SHA-256\n +https://\S+ .*\n +SHA-256 [0-9a-f]{64}\n"
    assert re.search(source, done.stdout)
    done = subprocess.run([*command, "nci_atlas_dimers.h5"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "nci_atlas_dimers.h5: missing" in done.stdout
    done = subprocess.run(["bash", str(ROOT / "scripts/train_small.sh"), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "openff_torsiondrives_forces.h5: missing" in done.stdout


@pytest.mark.slow
def test_molecules_are_checked_and_results_kept(tmp_path):
    """Two molecules of a collection of RDKit; the second run finds all done, and prints the same."""
    options = ["zinc", "--most=2", "--every=1000", "--minimise=1", f"--out={tmp_path / 'check.jsonl'}"]
    command = [sys.executable, str(ROOT / "scripts/check_molecules.py"), *options]
    first, second = (subprocess.run(command, capture_output=True, text=True) for _ in range(2))
    assert first.returncode == 0, first.stdout + first.stderr
    assert "2 molecules, 0 not supported, 2 checked" in first.stdout
    assert re.search(r"ffxml, OpenMM +2 +0 ", first.stdout)
    assert re.search(r"minimum: stereo +1 +0 ", first.stdout)
    assert second.stdout == first.stdout
    lines = (tmp_path / "check.jsonl").read_text().splitlines()
    assert len(lines) == 2
    bad = json.loads(lines[0])
    bad["checks"]["system, OpenMM"] = [0.5, "energy 1.5, expected 1 kcal/mol"]
    (tmp_path / "check.jsonl").write_text("\n".join([json.dumps(bad), *lines[1:]]) + "\n")
    third = subprocess.run(command, capture_output=True, text=True)
    assert third.returncode == 1
    assert "failed 1: system, OpenMM: energy N, expected N kcal/mol; first zinc 1" in third.stdout


def test_measured_tables_are_written_into_the_pages(tmp_path):
    """Twice, so that the second run replaces what the first wrote."""
    error = dict.fromkeys(("force_rmse", "force_rmse_low", "force_rmse_high"), 1.234)
    row = {
        "method": "a",
        "source": "all",
        "molecules": 3,
        "conformers": 9,
        "ms_52": 0.5,
        "water_ms_5000": None,
        **error,
    }
    row |= {"energy_rmse": 0.5, "energy_rmse_low": 0.4, "energy_rmse_high": None}
    moved = {"a": {"rmsd": 0.25, "tfd": float("nan")}}
    result = {"rows": [row], "costs": {"a": {"parametrize": 7.0}}, "geometries": moved, "electrostatics": {}}
    folder, docs = tmp_path / "measured", tmp_path / "docs"
    for path in (folder / "landscape", folder / "check" / "a", docs):
        path.mkdir(parents=True)
    (folder / "landscape" / "landscape.json").write_text(json.dumps(result))
    (folder / "landscape" / "plane.png").write_bytes(b"picture")
    for report in (folder / "landscape", folder / "check" / "a"):
        (report / "report.html").write_text(f"report of {report.name}")
    findings = [
        {"check": "charges", "molecule": "x", "status": "failed"},
        {"check": "charges", "molecule": "y", "status": "passed"},
        {"check": "symmetry", "molecule": "y", "status": "not applicable"},
        {"check": "parametrized", "molecule": "z", "status": "outside"},
    ]
    (folder / "check" / "a" / "findings.json").write_text(json.dumps({"force_field": "a", "findings": findings}))
    (folder / "bespoke.md").write_text("| molecule |\n")
    for name in ("landscape", "check", "bespoke"):
        (docs / f"{name}.md").write_text(f"before\n<!-- measured: {name} -->\n<!-- end of measured -->\nafter\n")
    command = [sys.executable, str(ROOT / "scripts" / "measured.py"), str(folder), "--docs", str(docs)]
    for _ in range(2):
        subprocess.run(command, check=True, capture_output=True)
    page = (docs / "landscape.md").read_text()
    assert "3 molecules, 9 geometries" in page
    assert "| a | 0.5 [0.4, –] | 1.23 [1.23, 1.23] | 0.5 | 7 |" in page  # no column of the water, which has no value
    assert "| a | 0.25 |\n" in page
    assert page.count("| a |") == 2
    assert page.endswith("<!-- end of measured -->\nafter\n")
    page = (docs / "check.md").read_text()
    assert "| charges | 1 of 2 |" in page
    assert "| symmetry | – |" in page
    assert "| outside the domain | 1 |" in page
    assert "Not tried yet: `espalike-1`, `espalike-2`, `openff-2.3.0`." in page
    assert "`a` ([report](reports/check-a.html)): charges: x." in page
    assert "-->\n\n| molecule |\n\n<!--" in (docs / "bespoke.md").read_text()
    kept = {path.name: path.read_text() for path in (docs / "reports").iterdir()}
    assert kept == {"landscape.html": "report of landscape", "check-a.html": "report of a"}
    assert (docs / "plane.png").read_bytes() == b"picture"


def test_the_mean_of_weights():
    from mean_weights import averaged

    def ensemble(*seeds):
        made = []
        for seed in seeds:
            torch.manual_seed(seed)
            made.append(from_config({**CONFIG, "levels": ["dft"]}))
        return Ensemble(made)

    first, last = ensemble(0, 1), ensemble(2, 3)
    sums = {name: first.state_dict()[name] + value for name, value in last.state_dict().items()}
    mean = averaged([first, last]).state_dict()
    torch.testing.assert_close(mean, {name: value / 2 for name, value in sums.items()})
