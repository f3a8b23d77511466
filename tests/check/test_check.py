"""Each check passes a sound force field and fails one with the fault that it looks for."""

import json

import numpy as np
import openmm
import pytest
import torch

import espalike
from espalike.check import dynamics, parameters, structure
from espalike.check.case import Case, Fault, NotApplicable
from espalike.check.fields import Field, field_of, kept_field
from espalike.check.report import rows
from espalike.check.run import CHECKS, Finding, Outcome, Settings, check, findings_of, linear_cost, molecules_of
from espalike.chem import embed, from_smiles
from espalike.cli.main import main
from espalike.qm.sampling.torsions import measured
from tests.test_page import CHROMIUM, opened

PARACETAMOL = from_smiles("CC(=O)Nc1ccc(O)cc1", "paracetamol")
LACTATE = from_smiles("C[C@H](O)C(=O)[O-]", "lactate")
SULFONE = from_smiles("CS(C)(=O)=O", "sulfone")
TOLUENE = from_smiles("Cc1ccccc1", "toluene")
BUTANE = from_smiles("CCCC", "butane")


@pytest.fixture(scope="module")
def model():
    return espalike.load("espalike-small")


@pytest.fixture
def case(model):
    """Makes a case whose system is changed by a function of system and molecule."""

    def make(molecule, change=None, picoseconds=0.5):
        def system(molecule):
            made = espalike.export.to_openmm(model.parametrize(molecule))
            if change:
                change(made, molecule)
            return made

        return Case(molecule, Field("changed", "changed", model.parametrize, system, None), picoseconds)

    return make


def force_of(system, kind):
    return next(force for force in system.getForces() if isinstance(force, kind))


def change_bond(row, length=None, k=None):
    def change(system, molecule):
        bonds = force_of(system, openmm.HarmonicBondForce)
        i, j, r0, k0 = bonds.getBondParameters(row)
        bonds.setBondParameters(row, i, j, length or r0, k0 if k is None else k)

    return change


def change_charge(system, molecule):
    nonbonded = force_of(system, openmm.NonbondedForce)
    charge, *rest = nonbonded.getParticleParameters(0)
    nonbonded.setParticleParameters(0, charge._value + 0.001, *rest)


def change_double_bonds(system, molecule):
    double = {tuple(pair) for pair, order in zip(molecule.bonds.tolist(), molecule.orders, strict=True) if order == 2}
    bonds = force_of(system, openmm.HarmonicBondForce)
    for row in range(bonds.getNumBonds()):
        i, j, r0, k = bonds.getBondParameters(row)
        if (min(i, j), max(i, j)) in double:
            bonds.setBondParameters(row, i, j, r0 * 1.02, k)


def torsion(atoms, periodicity, k):
    def change(system, molecule):
        force_of(system, openmm.PeriodicTorsionForce).addTorsion(*atoms, periodicity, 0.0, k * 4.184)

    return change


def pull(i, j, length):
    """A strong spring between two atoms [Å]."""

    def change(system, molecule):
        force_of(system, openmm.HarmonicBondForce).addBond(i, j, length / 10, 5e5)

    return change


def turn(atoms, shift):
    """A strong pull of a torsion to what it is in a conformer, times −1 plus a shift [rad]."""

    def change(system, molecule):
        angle = shift - np.radians(measured(embed(molecule, 1)[0], atoms))
        force = openmm.CustomTorsionForce(f"5000*(1-cos(theta-({angle})))")
        force.addTorsion(*atoms)
        system.addForce(force)

    return change


def swirl(system, molecule):
    """A force that is no gradient: it turns the molecule faster and faster."""

    def compute(state):
        x = state.getPositions(asNumpy=True)._value
        x = x - x.mean(0)
        return 0.0, 3.0 * np.stack([-x[:, 1], x[:, 0], 0 * x[:, 2]], axis=1)

    system.addForce(openmm.PythonForce(compute))


def collapse(system, molecule):
    force = openmm.CustomBondForce("-0.001/r^13")
    for i in range(molecule.n_atoms):
        for j in range(i):
            force.addBond(i, j)
    system.addForce(force)


FAULTS = [
    (parameters.charges, LACTATE, change_charge, "charges add up to -0.999"),
    (parameters.symmetry, TOLUENE, change_bond(-1 + 15, k=2e5), "equivalent atoms differ"),
    (parameters.renumbering, BUTANE, change_bond(0, length=0.16), "in another order of atoms"),
    (parameters.resonance, LACTATE, change_double_bonds, "in another resonance form"),
    (parameters.barriers, BUTANE, torsion((0, 1, 2, 3), 2, 35.0), "barrier of 7"),
    (structure.bonds, BUTANE, change_bond(0, length=0.3), "minimisation: broken"),
    (structure.stereochemistry, LACTATE, turn((0, 1, 3, 2), 0.0), "minimisation turns"),
    (structure.aromatic_rings, TOLUENE, turn((1, 2, 3, 4), 0.8), "off its plane"),
    (structure.amides, PARACETAMOL, torsion((0, 1, 3, 4), 2, 60.0), "twisted by"),
    (structure.tetrahedral, SULFONE, pull(3, 4, 1.6), "an angle at S is"),
    (dynamics.compressed, BUTANE, collapse, "the energy falls"),
    (dynamics.energy_kept, BUTANE, swirl, "energy drifts by"),
    (dynamics.stable_300, BUTANE, change_bond(0, k=300.0), "a bond reaches"),
    (dynamics.stable_500, BUTANE, change_bond(0, k=300.0), "a bond reaches"),
]


@pytest.mark.parametrize(
    ("function", "molecule", "change", "message"), FAULTS, ids=lambda x: getattr(x, "__name__", "")
)
def test_each_check_finds_its_fault(case, function, molecule, change, message):
    function(case(molecule))
    with pytest.raises(Fault, match=message):
        function(case(molecule, change))


def test_every_check_has_a_fault_that_it_finds():
    assert {function for function, *_ in FAULTS} | {parameters.ranges} == set(CHECKS.values())


def test_values_of_checks(case):
    """What a check measures; a ring and an amide with a known distortion, and a torsion with a known barrier."""
    assert 1.0 < dynamics.stable_300(case(BUTANE)) < dynamics.stable_500(case(BUTANE)) < 1.3
    assert abs(dynamics.energy_kept(case(BUTANE))) < 0.2
    assert parameters.barriers(case(BUTANE, torsion((0, 1, 2, 3), 1, 20.0))) == pytest.approx(40.0, abs=6.0)
    bent = case(TOLUENE)
    bent.__dict__["relaxed"] = np.array(bent.start)
    bent.relaxed[1] += 0.06 * np.cross(bent.start[1] - bent.start[2], bent.start[1] - bent.start[3]) / 2.0
    flat = structure.aromatic_rings(case(TOLUENE))
    assert 0.0 <= flat < 0.01 < structure.aromatic_rings(bent) < 0.1
    assert 0.0 <= structure.amides(case(PARACETAMOL)) < 10.0


def test_sizes_in_the_table():
    findings = [
        Finding("energy kept", name, "C", "passed", value=drift)
        for name, drift in (("a", 0.01), ("b", -0.15), ("c", 0.02))
    ]
    (row,) = rows(Outcome([*findings, Finding("energy kept", "d", "C", "failed")]))
    assert row[2:] == (3, 1, 0, "0.02", "0.15 b")


def test_ranges(model):
    def wrong(molecule):
        system = model.parametrize(molecule)
        system.bound("HarmonicBond").values[0, 1] = 30.0
        return system

    field = Field("wrong", "wrong", wrong, lambda molecule: espalike.export.to_openmm(wrong(molecule)), None)
    with pytest.raises(Fault, match="HarmonicBond r0 of atoms 1-2 is 30 angstrom"):
        parameters.ranges(Case(BUTANE, field))
    with pytest.raises(NotApplicable, match="systems only"):
        parameters.ranges(Case(BUTANE, Field("xml", "xml", None, field.system, None)))


@pytest.mark.parametrize(
    ("function", "molecule"),
    [
        (structure.stereochemistry, BUTANE),
        (structure.aromatic_rings, BUTANE),
        (structure.amides, BUTANE),
        (structure.tetrahedral, BUTANE),
        (parameters.resonance, BUTANE),
        (parameters.barriers, from_smiles("C")),
    ],
)
def test_what_does_not_apply_is_said(case, function, molecule):
    with pytest.raises(NotApplicable):
        function(case(molecule))


def test_strained_molecules_are_not_judged_by_planarity(case):
    """The rings of [2.2]paracyclophane are bent."""
    with pytest.raises(NotApplicable, match="no planar aromatic ring"):
        structure.aromatic_rings(case(from_smiles("C1Cc2ccc(cc2)CCc2ccc1cc2")))


def test_a_molecule_without_parameters_and_one_outside_the_domain():
    (finding,) = findings_of(Settings("tip3p.xml"), BUTANE)
    assert (finding.check, finding.status) == ("parametrized", "failed")
    assert "no parameters" in finding.message
    (finding,) = findings_of(Settings("espalike-small"), from_smiles("[Zn+2]"))
    assert finding.status == "outside"


def test_a_smiles_typed_in_place_is_its_own_name():
    long = "C" * 300  # longer than the name of a file may be
    molecules, unread = molecules_of(["CCO", "CC(=O)N", long, "C1CC"])
    assert [molecule.name for molecule in molecules] == ["CCO", "CC(=O)N", long]
    assert len(unread) == 1


def test_molecules_of_the_program():
    molecules, unread = molecules_of([])
    assert (len(molecules), unread) == (200, [])
    assert len({molecule.name for molecule in molecules}) == 200


def test_findings_are_kept_and_not_computed_again(tmp_path, monkeypatch):
    record, settings = tmp_path / "findings.jsonl", Settings("espalike-small", 0.1)
    first = check(settings, [BUTANE], record)
    with record.open("a") as file:
        file.write('{"key": "torn", "find')  # a process that was killed here
    monkeypatch.setattr("espalike.check.run.findings_of", lambda *arguments: pytest.fail("computed again"))
    assert check(settings, [BUTANE], record) == first
    with pytest.raises(pytest.fail.Exception):
        check(settings, [TOLUENE], record)
    monkeypatch.setattr("espalike.check.run.version", lambda package: "of another version")
    with pytest.raises(pytest.fail.Exception):
        check(settings, [BUTANE], record)


def test_cost():
    finding = linear_cost("espalike-small")
    assert finding.status in ("passed", "failed")  # a time, which a busy machine may spoil
    assert "times as long as" in finding.message
    assert linear_cost("tip3p.xml") is None


def test_the_command(tmp_path, capsys):
    inputs = ["CC(=O)N", "C[C@H](O)C(=O)[O-]", "not a molecule"]
    out = tmp_path / "out"
    assert main(["check", "espalike-small", *inputs, "--picoseconds", "0.2", "--out", str(out), "--jobs", "2"]) == 1
    printed = capsys.readouterr().out
    assert "not read: not a molecule" in printed
    found = json.loads((out / "findings.json").read_text())["findings"]
    assert {one["status"] for one in found} <= {"passed", "not applicable"}
    assert len(found) == 2 * (1 + len(CHECKS)) + 1
    if CHROMIUM:
        document, _ = opened(out / "report.html")
        assert "2 molecules; 0 faults" in document


def test_gaff2_is_checked(tmp_path):
    """A force field that makes systems of molecules, and has no parameters of boron."""
    pytest.importorskip("openff.toolkit", reason="needs the extra openff")
    try:
        field = field_of("gaff2")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert field.parameters is None
    assert field.system(PARACETAMOL).getNumParticles() == PARACETAMOL.n_atoms
    with pytest.raises(ValueError, match="methylboronic"):
        field.system(from_smiles("CB(O)O", "methylboronic acid"))
    with pytest.raises(ValueError, match="gaff2 cannot be checked with liquids"):
        field.forcefield(PARACETAMOL)


def test_a_force_field_that_fails(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["check", "tip3p.xml", "CCO", "O", "--picoseconds", "0.1", "--out", str(out)]) == 1
    printed = capsys.readouterr().out
    assert "failed: molecule-1: parametrized: no parameters" in printed or "parametrized: no parameters" in printed
    page = (out / "report.html").read_text()
    assert "class='card'" in page
    assert main(["check", "espalike-small", "nonsense", "--out", str(out)]) == 2
    assert main(["check", "espalike-small", "CCO", "--jobs", "0", "--out", str(out)]) == 2


def test_openff(case):
    pytest.importorskip("openff.toolkit", reason="needs the extra openff")
    found = findings_of(Settings("openff-2.2.1", 0.1), BUTANE)
    assert {one.check for one in found if one.status == "failed"} == set()


def test_files_with_foreign_code_are_refused(tmp_path):
    """OpenMM runs scripts of a ForceField file; espalike's own are known."""
    own = tmp_path / "own.xml"
    espalike.export.write(espalike.load("espalike-class2").parametrize(BUTANE), own, format="ffxml")
    assert field_of(str(own)).system(BUTANE).getNumParticles() == BUTANE.n_atoms
    for text in (
        "<ForceField><Script>raise SystemExit</Script></ForceField>",
        "<ForceField><InitializationScript>raise SystemExit</InitializationScript></ForceField>",
        "<ForceField><Include file='/etc/passwd'/></ForceField>",
    ):
        other = tmp_path / "other.xml"
        other.write_text(text)
        with pytest.raises(ValueError, match="is not espalike's, and OpenMM would run it"):
            field_of(f"{own}+{other}")
    other.write_text("<System/>")
    with pytest.raises(ValueError, match="expected OpenMM's ForceField XML, found <System>"):
        field_of(str(other))


@pytest.mark.slow
def test_a_resonance_form_without_parameters_fails_and_the_next_molecule_is_checked(tmp_path):
    pytest.importorskip("openff.toolkit", reason="needs the extra openff")
    nitramine = "CN(C)[N+](=O)[O-]"  # OpenFF 2.3.0 has parameters for this form only
    out = tmp_path / "out"
    assert main(["check", "openff-2.3.0", nitramine, "CCO", "--picoseconds", "0.1", "--out", str(out)]) == 1
    found = json.loads((out / "findings.json").read_text())["findings"]
    (resonance,) = [one for one in found if one["check"] == "resonance" and one["status"] == "failed"]
    assert "no parameters in another resonance form" in resonance["message"]
    assert sum(one["check"] == "charges" for one in found) == 2


def test_a_model_file_that_changed_is_another_force_field(tmp_path):
    """In one process: a notebook, for instance, in which the model is trained again."""
    path, record = tmp_path / "mine.espalike", tmp_path / "findings.jsonl"
    settings = Settings(str(path), 0.1)
    model = espalike.load("espalike-small")
    model.save(path)
    assert {one.status for one in check(settings, [BUTANE], record)} <= {"passed", "not applicable"}
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(100.0)  # nonsense
    model.save(path)
    assert "failed" in {one.status for one in check(settings, [BUTANE], record)}


def test_an_offxml_file_that_changed_is_another_force_field(tmp_path):
    pytest.importorskip("openff.toolkit", reason="needs the extra openff")
    from openff.toolkit import ForceField as OpenFF

    path = tmp_path / "mine.offxml"
    text = OpenFF("openff_unconstrained-2.2.1.offxml").to_string()
    path.write_text(text)
    before = kept_field(str(path))
    changed = OpenFF(text)
    for bond in changed.get_parameter_handler("Bonds").parameters:
        bond.k = bond.k * 2
    path.write_text(changed.to_string())
    after = kept_field(str(path))
    assert after.identity != before.identity  # names the findings that are kept
    k = [field.parameters(BUTANE).bound("HarmonicBond").values[:, 0] for field in (before, after)]
    np.testing.assert_allclose(k[1], 2 * k[0])
    assert field_of("openff-2.2.1").identity == "openff_unconstrained-2.2.1.offxml"
