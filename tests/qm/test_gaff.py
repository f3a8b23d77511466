"""GAFF2 through AmberTools: energies are sander's; what is missing is named."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from espalike.chem import from_smiles
from espalike.evaluation.baselines import NotInstalled, baseline
from espalike.landscape.cost import FORCE_FIELD, cost
from espalike.qm.base import CalculatorError
from espalike.qm.gaff import GAFFCalculator
from espalike.units import COULOMB
from tests.export.programs import SANDER, SANDER_INPUT
from tests.qm.test_calculators import perturbed, slope

AMBER_COULOMB = 18.2223**2
"""Amber's constant [kcal/mol Å e⁻²]."""


@pytest.fixture(scope="module")
def gaff():
    pytest.importorskip("openff.toolkit", reason="needs the extra openff")
    try:
        return GAFFCalculator()
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.skipif(not SANDER, reason="needs sander: scripts/install_engines.sh")
@pytest.mark.parametrize("smiles", ["CC(=O)Nc1ccc(O)cc1", "C[N+](C)(C)CC(=O)[O-]", "CS(=O)(=O)Nc1ccccc1", "CC(=O)[O-]"])
def test_energies_are_sanders(gaff, smiles, tmp_path):
    molecule, xyz = perturbed(smiles)
    gaff.prmtop(molecule, tmp_path)
    numbers = "".join(f"{x:12.7f}" + ("\n" if i % 6 == 5 else "") for i, x in enumerate(np.ravel(xyz)))
    (tmp_path / "m.inpcrd").write_text(f"molecule\n{molecule.n_atoms:5d}\n{numbers}\n")
    (tmp_path / "m.in").write_text(SANDER_INPUT)
    files = ["-i", "m.in", "-p", "molecule.prmtop", "-c", "m.inpcrd", "-o", "m.out", "-r", "m.rst", "-inf", "m.inf"]
    subprocess.run([SANDER, "-O", *files], cwd=tmp_path, check=True, capture_output=True)
    first = Path(tmp_path / "m.out").read_text().partition("NSTEP")[2].partition("NSTEP")[0]
    parts = {name.strip(): float(u) for name, u in re.findall(r"([A-Z1][-A-Z0-9 ]*?) *= *(-?\d+\.\d{4})", first)}
    for name in ("EEL", "1-4 EEL"):
        parts[name] *= COULOMB / AMBER_COULOMB
    assert gaff(molecule, xyz)[0] == pytest.approx(sum(parts.values()), abs=2e-3)


def test_forces_are_the_negative_slope_of_the_energy(gaff):
    molecule, xyz = perturbed("CC(=O)Nc1ccc(O)cc1")
    direction = np.random.default_rng(3).normal(size=xyz.shape)
    expected = -slope(gaff, molecule, xyz, direction, 1e-5)
    assert np.vdot(gaff(molecule, xyz)[1], direction) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("smiles", "name"), [("C[Si](C)(C)C", "silane"), ("CB(O)O", "borane")])
def test_what_it_does_not_know_is_refused(gaff, smiles, name):
    molecule = from_smiles(smiles, name)
    with pytest.raises(CalculatorError, match=name):
        gaff(molecule, np.random.default_rng(0).normal(size=(molecule.n_atoms, 3)))


def test_charges_of_sqm(gaff):
    """AM1-BCC of antechamber is near the network's, and the total is exact."""
    import openmm

    def charges(calculator):
        system = calculator.system(molecule)
        force = next(force for force in system.getForces() if isinstance(force, openmm.NonbondedForce))
        return np.array([force.getParticleParameters(i)[0]._value for i in range(molecule.n_atoms)])

    molecule = from_smiles("CC(=O)[O-]", "acetate")
    network, bcc = charges(gaff), charges(GAFFCalculator("bcc"))
    assert network == pytest.approx(bcc, abs=0.05)
    assert bcc.sum() == pytest.approx(-1.0, abs=2e-3)
    assert network.sum() == pytest.approx(-1.0, abs=1e-4)


def test_its_cost_is_that_of_a_step(gaff):
    measured = cost("gaff2", 1, sizes=(1,))
    assert measured.kind == FORCE_FIELD
    assert measured.ms[22] > 0


def test_without_antechamber_the_message_says_what_to_install(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"antechamber.*install_engines\.sh"):
        GAFFCalculator(programs=tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("AMBERHOME", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("espalike.qm.gaff._CHECKOUT", tmp_path)
    with pytest.raises(NotInstalled, match=r"gaff2: .*ambertools"):
        baseline("gaff2")


def test_charges_that_do_not_exist():
    with pytest.raises(ValueError, match="expected nagl or bcc"):
        GAFFCalculator("resp")
