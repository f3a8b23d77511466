"""OpenMM XML as a calculator: systems and force-field files give what our own terms give; unfit ones are refused."""

import re
from dataclasses import replace

import numpy as np
import openmm
import pytest
import torch
from openmm import unit
from rdkit import Chem

from espalike import export
from espalike.chem import embed, from_rdkit, from_smiles, to_rdkit
from espalike.energy import energy
from espalike.model import load
from espalike.qm.base import CalculatorError
from espalike.qm.openmm_xml import OpenMMXMLCalculator
from espalike.units import KJ_PER_KCAL


def perturbed(smiles, name=None):
    molecule = from_smiles(smiles, name)
    return molecule, embed(molecule, seed=7)[0] + np.random.default_rng(0).normal(0, 0.05, (molecule.n_atoms, 3))


def ours(system, xyz):
    prediction = energy(system, torch.from_numpy(xyz)[None])
    return prediction.energy.item(), prediction.forces[0].numpy()


@pytest.mark.parametrize("name", ["espalike-small", "espalike-class2"])
@pytest.mark.parametrize("form", ["system", "ffxml"])
def test_energy_and_forces_are_those_of_our_terms(tmp_path, name, form):
    molecule, xyz = perturbed("CC(=O)NC")
    system = load(name).parametrize(molecule)
    path = export.write(system, tmp_path / f"mine{export.FORMATS[form].endings[0]}")
    calculator = OpenMMXMLCalculator(path, scripts=True)
    assert calculator.level == f"OpenMM:{path.stem}"
    found, forces = calculator(molecule, xyz)
    expected, expected_forces = ours(system, xyz)
    assert found == pytest.approx(expected, abs=1e-4), path
    np.testing.assert_allclose(forces, expected_forces, atol=1e-3)


@pytest.fixture
def ethanol(tmp_path):
    molecule, xyz = perturbed("CCO", "my-ethanol")
    system = load("espalike-small").parametrize(molecule)
    export.write(system, tmp_path / "a.system.xml")
    export.write(system, tmp_path / "f.xml")
    return molecule, xyz, tmp_path


@pytest.mark.parametrize("file", ["a.system.xml", "f.xml"])
def test_forces_are_the_negative_slope_of_the_energy(ethanol, file):
    molecule, xyz, folder = ethanol
    calculator = OpenMMXMLCalculator(folder / file, scripts=True)
    direction = np.random.default_rng(2).normal(size=xyz.shape)
    up, down = (calculator(molecule, xyz + sign * 1e-4 * direction)[0] for sign in (1, -1))
    assert np.vdot(calculator(molecule, xyz)[1], direction) == pytest.approx((down - up) / 2e-4, rel=1e-5)


def test_templates_match_whatever_the_numbering(ethanol):
    molecule, xyz, folder = ethanol
    calculator = OpenMMXMLCalculator(folder / "f.xml", scripts=True)
    value, forces = calculator(molecule, xyz)
    order = np.random.default_rng(1).permutation(molecule.n_atoms)
    other = from_rdkit(Chem.RenumberAtoms(to_rdkit(molecule, xyz), order.tolist()))
    again, forces_again = calculator(other, xyz[order])
    assert again == pytest.approx(value, abs=1e-6)
    np.testing.assert_allclose(forces_again, forces[order], atol=1e-6)


def test_several_files_and_those_that_openmm_ships():
    water, xyz = perturbed("O")
    calculator = OpenMMXMLCalculator(["amber14-all.xml", "amber14/spce.xml"])
    assert calculator.level == "OpenMM:amber14-all+spce"
    value, forces = calculator(water, xyz)
    bonds = np.linalg.norm(xyz[0] - xyz[1:], axis=1)
    cosine = (xyz[1] - xyz[0]) @ (xyz[2] - xyz[0]) / bonds.prod()
    # SPC/E as amber14/spce.xml writes it: k 462750.4 kJ/mol/nm², r 1.0 Å; k 836.8 kJ/mol/rad², 109.47°
    expected = 0.5 * 4627.504 * ((bonds - 1.0) ** 2).sum() + 0.5 * 836.8 * (np.arccos(cosine) - 1.91061193216) ** 2
    assert value == pytest.approx(expected / KJ_PER_KCAL, rel=1e-6)
    assert forces.shape == (3, 3)


def test_another_molecule_is_refused(ethanol):
    molecule, xyz, folder = ethanol
    calculator = OpenMMXMLCalculator(folder / "a.system.xml")
    other, other_xyz = perturbed("CCS", "my-thiol")
    with pytest.raises(
        CalculatorError, match=r"my-thiol: OpenMM:a\.system has 9 particles of 46\.1 dalton.*62\.1"
    ) as caught:
        calculator(other, other_xyz)
    assert caught.value.reason == "another molecule"
    order = [0, 2, 1, *range(3, 9)]
    swapped = replace(molecule, bonds=np.array([[0, 2], [1, 2]]), orders=np.array([1, 1]))
    with pytest.raises(CalculatorError, match=r"my-ethanol.*no bond between atoms 1 and 3"):
        calculator(swapped, xyz[order])
    with pytest.raises(CalculatorError, match=r"my-thiol.*has no parameters") as caught:
        OpenMMXMLCalculator(folder / "f.xml", scripts=True)(other, other_xyz)
    assert caught.value.reason == "no parameters"


def test_scripts_do_not_run_unless_allowed(ethanol, tmp_path):
    *_, folder = ethanol
    marker = tmp_path / "ran"
    for tag in ("Script", "InitializationScript"):
        (folder / "evil.xml").write_text(f"<ForceField><{tag}>open({str(marker)!r}, 'w')</{tag}></ForceField>")
        (folder / "outer.xml").write_text('<ForceField><Include file="evil.xml"/></ForceField>')
        for name in ("evil.xml", "outer.xml"):
            with pytest.raises(ValueError, match=r"evil\.xml holds a script.*scripts=true"):
                OpenMMXMLCalculator(folder / name)
    assert not marker.exists()


def changed(folder, change):
    system = openmm.XmlSerializer.deserialize((folder / "a.system.xml").read_text())
    change(system)
    (folder / "b.xml").write_text(openmm.XmlSerializer.serialize(system))
    return OpenMMXMLCalculator(folder / "b.xml")


def periodic(system):
    force = next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    force.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)


def virtual(system):
    system.setParticleMass(8, 0)
    system.setParticleMass(2, 17.007)
    system.setVirtualSite(8, openmm.TwoParticleAverageSite(0, 1, 0.5, 0.5))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda system: system.addConstraint(0, 1, 0.15), "1 constraints"),
        (periodic, "a periodic box"),
        (virtual, "particles that are not atoms"),
    ],
    ids=["constraint", "periodic", "virtual"],
)
def test_unsuitable_systems_are_refused(ethanol, change, told):
    molecule, xyz, folder = ethanol
    with pytest.raises(CalculatorError, match=re.escape(told)) as caught:
        changed(folder, change)(molecule, xyz)
    assert caught.value.reason == "unsuitable system"
    assert "my-ethanol" in str(caught.value)


def test_repartitioned_masses_are_the_same_molecule(ethanol):
    molecule, xyz, folder = ethanol

    def repartition(system):
        system.setParticleMass(3, 4.0 * unit.dalton)
        system.setParticleMass(0, (12.011 - (4.0 - 1.008)) * unit.dalton)

    assert (
        changed(folder, repartition)(molecule, xyz)[0] == OpenMMXMLCalculator(folder / "a.system.xml")(molecule, xyz)[0]
    )


def test_files_that_are_neither_are_refused(ethanol):
    *_, folder = ethanol
    with pytest.raises(FileNotFoundError, match=r"nowhere\.xml"):
        OpenMMXMLCalculator(folder / "nowhere.xml")
    (folder / "text.xml").write_text("no tags")
    with pytest.raises(ValueError, match=r"text\.xml is not XML"):
        OpenMMXMLCalculator(folder / "text.xml")
    (folder / "state.xml").write_text("<State/>")
    with pytest.raises(ValueError, match="found State"):
        OpenMMXMLCalculator(folder / "state.xml")
    with pytest.raises(ValueError, match="one serialized"):
        OpenMMXMLCalculator([folder / "a.system.xml", folder / "a.system.xml"])


@pytest.mark.parametrize(
    ("file", "old", "new"), [("a.system.xml", ' q="', ' k="'), ("f.xml", "periodicity2", "periodicity9")]
)
def test_a_damaged_file_is_named(ethanol, file, old, new):
    path = ethanol[2] / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=rf"{re.escape(file)}: OpenMM cannot read it \("):
        OpenMMXMLCalculator(path)


def test_systems_with_python_forces_are_refused(tmp_path):
    """OpenMM unpickles such a force."""
    import openmm

    system = openmm.System()
    system.addParticle(1.0)
    system.addForce(openmm.PythonForce(print))
    path = tmp_path / "system.xml"
    path.write_text(openmm.XmlSerializer.serialize(system))
    with pytest.raises(ValueError, match="holds a PythonForce: Python code"):
        OpenMMXMLCalculator(str(path))
    assert OpenMMXMLCalculator(str(path), scripts=True).level == "OpenMM:system"
