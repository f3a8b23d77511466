"""Liquids: the box, its energies, what is averaged, what is kept, and the verdict."""

import json
import math
import warnings

import numpy as np
import openmm
import pytest

import espalike
from espalike.check import liquids, liquids_report
from espalike.check.fields import field_of, kept_field
from espalike.check.liquids import LIQUIDS, Protocol, Result, measure, verdict
from espalike.chem import from_smiles
from espalike.cli.main import main
from espalike.files import sealed, unsealed
from espalike.units import BOLTZMANN
from tests.test_page import CHROMIUM, in_browser

CHLOROFORM = LIQUIDS["chloroform"]
PROTOCOL = Protocol(64, 1.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    file = tmp_path_factory.mktemp("liquid") / "chloroform.json"
    return liquids._Run("espalike-small", CHLOROFORM, PROTOCOL, file)


@pytest.fixture(scope="module")
def box(run):
    return liquids._systems(kept_field(run.source), run.liquid, run.protocol.molecules)[0]


@pytest.fixture(scope="module")
def packed(box, run):
    return liquids._packed(box, run)


def test_the_packed_box_has_the_measured_density_and_whole_molecules(run, packed):
    xyz = np.array(packed["positions"]).reshape(64, 5, 3)
    grams = 64 * sum(from_smiles(CHLOROFORM.smiles).masses()) / 6.02214076e23
    assert grams / (packed["edge"] * 1e-7) ** 3 == pytest.approx(CHLOROFORM.density, rel=1e-5)
    lengths = np.linalg.norm(xyz[:, 1:2] - xyz[:, [0, 2, 3, 4]], axis=2)  # from carbon
    assert lengths.min() > 0.1
    assert lengths.max() < 0.19
    centres = xyz.mean(1)
    apart = centres[:, None] - centres[None]
    apart = np.linalg.norm(apart - packed["edge"] * np.round(apart / packed["edge"]), axis=2)
    assert apart[np.triu_indices(64, 1)].min() > 0.3


def test_the_system_of_the_box(box):
    (nonbonded,) = (force for force in box.getForces() if isinstance(force, openmm.NonbondedForce))
    assert nonbonded.getNonbondedMethod() == openmm.NonbondedForce.PME
    assert nonbonded.getCutoffDistance()._value == 0.9
    assert nonbonded.getUseSwitchingFunction()
    assert nonbonded.getSwitchingDistance()._value == 0.8
    assert nonbonded.getUseDispersionCorrection()
    assert box.getNumConstraints() == 0
    assert liquids._mass(box) == pytest.approx(64 * 119.378, rel=1e-4)  # heavy hydrogens change no total


def test_molecules_far_apart_have_the_energy_of_single_ones(box):
    """So that the difference of the energies of liquid and gas is the interaction alone."""
    molecule = from_smiles(CHLOROFORM.smiles, "chloroform")
    field = field_of("espalike-small")
    one = liquids.embed(molecule, 1)[0] / 10
    sites = 4.0 * np.stack(np.meshgrid(*[np.arange(4)] * 3), -1).reshape(-1, 1, 3)
    context = liquids._context(box, openmm.VerletIntegrator(0.001), 16.0)
    context.setPositions((one + sites).reshape(-1, 3))
    together = context.getState(energy=True).getPotentialEnergy()._value / 4.184 / 64
    alone = liquids.Engine(field.system(molecule)).energy(one * 10)
    assert together == pytest.approx(alone, abs=0.02)


def test_a_force_field_in_xml_makes_the_same_box(tmp_path, box, packed):
    molecule, file = from_smiles(CHLOROFORM.smiles, "chloroform"), tmp_path / "chloroform.xml"
    espalike.export.write(espalike.load("espalike-small").double().parametrize(molecule), file, format="ffxml")
    energies = []
    for system in (box, liquids._systems(kept_field(str(file)), CHLOROFORM, 64)[0]):
        context = liquids._context(system, openmm.VerletIntegrator(0.001), packed["edge"])
        context.setPositions(packed["positions"])
        energies.append(context.getState(energy=True).getPotentialEnergy()._value)
    assert energies[1] == pytest.approx(energies[0], rel=1e-5)


def test_the_energy_of_a_gas_molecule_is_that_of_half_a_kt_per_vibration(run):
    """Chloroform is stiff, and its vibrations are harmonic: 9/2 kT above the minimum."""
    single = liquids._systems(kept_field(run.source), run.liquid, 64)[1]
    engine = liquids.Engine(single)
    minimum = engine.energy(engine.minimised(liquids.embed(from_smiles(CHLOROFORM.smiles), 1)[0]))
    mean = np.mean([liquids._gas(single, run, number) for number in range(4)])
    assert mean - minimum == pytest.approx(4.5 * BOLTZMANN * liquids.TEMPERATURE, rel=0.15)


def test_density_and_heat_are_means_of_the_last_blocks(run):
    blocks = [(9.9, 99.0, 0.0)] * liquids.EQUILIBRATION + [(1.4, -6.0, 1.0), (1.6, -7.0, 1.5)] * (liquids.BLOCKS // 2)
    result = liquids._result(run, {"blocks": blocks, "message": ""})
    assert result.density == pytest.approx((1.5, 0.1 / 3))  # standard deviation of ±0.1 over ten, by the root of ten
    assert result.heat == pytest.approx((7.75 + 0.0019872 * 298.15, 0.75 / 3), rel=1e-4)
    assert result.deviation("density") == pytest.approx((100 * (1.5 / 1.4797 - 1), 100 / 30 / 1.4797))


@pytest.mark.parametrize(
    ("own", "reference", "allowed", "error", "expected"),
    [
        (-3.9, 1.0, 3.0, 0.01, "passed"),
        (4.1, -1.0, 3.0, 0.01, "failed"),
        (-4.1, 1.0, 3.0, 0.2, "undecided"),
        (1.0, 1.0, 3.0, math.nan, "undecided"),
    ],
)
def test_verdict(own, reference, allowed, error, expected):
    assert verdict(own, reference, allowed, error) == expected


def test_a_liquid_without_parameters_fails():
    good, bad = Result("x", CHLOROFORM, (1.48, 0.001), (7.5, 0.01)), Result("y", CHLOROFORM, message="no parameters")
    assert {row[-1] for row in liquids_report.rows([bad], [good])} == {"failed"}
    assert {row[-1] for row in liquids_report.rows([good], [good])} == {"passed"}
    assert len(liquids_report.rows([good], [])[0]) == len(liquids_report.header(liquids.REFERENCE)) == 4


def test_a_run_is_continued_and_not_repeated(tmp_path):
    """A second call starts no dynamics; after the last blocks are gone, only those are run again."""
    protocol, steps = Protocol(64, 0.1), []
    (first,) = measure(["espalike-small"], [CHLOROFORM], protocol, tmp_path, 1, lambda: steps.append(1))
    assert len(steps) == liquids.EQUILIBRATION + liquids.BLOCKS
    assert 0.9 < first.density[0] / CHLOROFORM.density < 1.1
    assert 3 < first.heat[0] < 15
    (file,) = tmp_path.iterdir()
    before = file.stat().st_mtime_ns
    assert measure(["espalike-small"], [CHLOROFORM], protocol, tmp_path) == [first]
    assert file.stat().st_mtime_ns == before
    record = unsealed(file.read_bytes(), file.name)
    kept = record["blocks"][:13]
    file.write_text(json.dumps(sealed({**record, "blocks": kept}, file.name)))
    measure(["espalike-small"], [CHLOROFORM], protocol, tmp_path)
    blocks = json.loads(file.read_text())["blocks"]
    assert (blocks[:13], len(blocks)) == (kept, 15)


def test_a_box_smaller_than_the_cutoff_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"ethanol: a box of 50 molecules is too small .* expected 80 or more"):
        measure(["espalike-small"], [LIQUIDS["ethanol"]], Protocol(50, 1.0), tmp_path)


def test_a_force_field_without_parameters(tmp_path):
    (result,) = measure(["tip3p.xml"], [CHLOROFORM], PROTOCOL, tmp_path)
    assert "no parameters: No template found" in result.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command(tmp_path, capsys):
    pytest.importorskip("openff.toolkit", reason="needs the extra openff")
    options = ["--liquids", "--picoseconds", "0.1", "--box", "64", "--jobs", "2", "--out", str(tmp_path)]
    status = main(["check", "espalike-small", "chloroform", *options])
    printed = " ".join(capsys.readouterr().out.split())
    rows = json.loads((tmp_path / "liquids.json").read_text())["results"]
    assert [row["field"] for row in rows] == ["espalike-small", "openff-2.3.0"]
    assert status == int("failed" in printed)
    assert "64 molecules, 0.1 ps" in printed
    assert "[g/mL]" in printed
    if CHROMIUM:
        document, console = in_browser(tmp_path / "liquids.html")
        assert console == []
        assert "vaporisation [kcal/mol]" in document
    assert main(["check", "espalike-small", "mercury", "--liquids", "--out", str(tmp_path)]) == 2
    assert "unknown liquids mercury; known: ethanol," in capsys.readouterr().err


def test_a_box_has_the_energy_that_the_openff_toolkit_gives_it():
    """The toolkit makes the whole system, with the cut-off, switch and correction of the force field."""
    toolkit = pytest.importorskip("openff.toolkit", reason="needs the extra openff")
    molecule = from_smiles(CHLOROFORM.smiles, "chloroform")
    run = liquids._Run("openff-2.3.0", CHLOROFORM, PROTOCOL, None)
    box, _ = liquids._systems(kept_field(run.source), run.liquid, 64)
    packed = liquids._packed(box, run)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = toolkit.Molecule.from_mapped_smiles(molecule.smiles)
        topology = toolkit.Topology.from_molecules([one] * 64)
        topology.box_vectors = toolkit.Quantity(np.diag([packed["edge"]] * 3), "nanometer")
        other = toolkit.ForceField("openff_unconstrained-2.3.0.offxml").create_openmm_system(topology)
    (nonbonded,) = (force for force in other.getForces() if isinstance(force, openmm.NonbondedForce))
    assert nonbonded.getCutoffDistance()._value == pytest.approx(liquids._CUTOFF / 10)
    assert nonbonded.getSwitchingDistance()._value == pytest.approx(liquids._SWITCH / 10)
    energies = []
    for system in (box, other):
        for force in system.getForces():
            if isinstance(force, openmm.NonbondedForce):
                force.setEwaldErrorTolerance(1e-5)
        context = liquids._context(system, openmm.VerletIntegrator(0.001), packed["edge"])
        context.setPositions(packed["positions"])
        energies.append(context.getState(energy=True).getPotentialEnergy()._value / 4.184 / 64)
    assert energies[0] == pytest.approx(energies[1], abs=1e-3)


@pytest.mark.slow
def test_a_short_run_of_a_smaller_box_agrees_with_a_longer_one(tmp_path):
    """OpenFF 2.3.0's chloroform as docs/check.md has it, from 125 molecules and 50 ps."""
    pytest.importorskip("openff.toolkit", reason="needs the extra openff")
    (result,) = measure([liquids.REFERENCE], [CHLOROFORM], Protocol(64, 20.0), tmp_path)
    assert result.density[0] == pytest.approx(1.54, abs=0.04)
    assert result.heat[0] == pytest.approx(6.1, abs=0.3)
    assert 0 < result.density[1] < 0.02
