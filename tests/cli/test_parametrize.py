"""`espalike parametrize` as users type it: files, messages and the exit status."""

import errno
import importlib
import importlib.util
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import openmm
import pytest
from openmm import app
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from espalike import chem, model
from espalike import files as files_module
from espalike.cli.main import main
from espalike.export import to_topology
from espalike.units import convert
from tests.cli.inputs import CONFIG, geometry, morse_model, save_model
from tests.molecules import SMALL


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "m.espalike")


@pytest.fixture
def call(model_file, tmp_path, monkeypatch, capfd):
    """Runs the command in an empty folder: exit status, report, force-field files written, stdout, stderr.

    Beside the files of each molecule are its SDF and PDB, listed last, which are checked here and left out.
    """
    monkeypatch.chdir(tmp_path)

    def run(*arguments, model=model_file):
        capfd.readouterr()
        status = main(["parametrize", *map(str, arguments), "--model", model, "--out", "out", "--report", "r.json"])
        printed = capfd.readouterr()
        report = json.loads((tmp_path / "r.json").read_text()) if (tmp_path / "r.json").exists() else None
        files = sorted(p.name for p in (tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else []
        files = [name for name in files if not name.endswith((".sdf", ".pdb"))]
        for row in report["inputs"] if report else []:
            structures = [f"out/{row['name']}{ending}" for ending in (".sdf", ".pdb") if row["status"] == "ok"]
            assert [(tmp_path / name).is_file() for name in structures] == [True] * len(structures)
            assert row["files"][len(row["files"]) - len(structures) :] == structures
            row["files"] = row["files"][: len(row["files"]) - len(structures)]
        return status, report, files, printed.out, printed.err

    return run


def charges_in(path):
    system = openmm.XmlSerializer.deserialize(path.read_text())
    (force,) = [f for f in system.getForces() if isinstance(f, openmm.NonbondedForce)]
    return [force.getParticleParameters(i)[0]._value for i in range(system.getNumParticles())]


def test_smiles_to_system_and_ffxml(call, tmp_path):
    status, report, files, out, _ = call("CCO", "CC(=O)[O-]", "--format", "system,ffxml")
    assert status == 0
    assert files == ["molecule-2.system.xml", "molecule-2.xml", "molecule.system.xml", "molecule.xml"]
    assert "wrote 8 files of 2 molecules to out" in out
    for name, smiles in (("molecule", "CCO"), ("molecule-2", "CC(=O)[O-]")):
        molecule = chem.from_smiles(smiles)
        system = openmm.XmlSerializer.deserialize((tmp_path / "out" / f"{name}.system.xml").read_text())
        assert system.getNumConstraints() == 0
        masses = [app.Element.getByAtomicNumber(int(z)).mass._value for z in molecule.numbers]
        assert [system.getParticleMass(i)._value for i in range(system.getNumParticles())] == masses
        assert abs(sum(charges_in(tmp_path / "out" / f"{name}.system.xml")) - molecule.net_charge) < 1e-9
        field = app.ForceField(str(tmp_path / "out" / f"{name}.xml"))
        assert field.createSystem(to_topology(molecule)).getNumParticles() == molecule.n_atoms
    row = report["inputs"][1]
    assert row["status"] == "ok"
    assert row["reason"] is None
    assert row["formal_charge"] == -1
    assert abs(row["summed_charge"] + 1) < 1e-9
    assert row["terms"] == {
        "HarmonicBond": 6,
        "HarmonicAngle": 9,
        "PeriodicProper": 6,
        "PeriodicImproper": 1,
        "LennardJones": 6,
        "Coulomb": 6,
    }
    assert row["domain"] == "inside"
    assert row["charges"] == "model"
    assert row["seconds"] > 0
    assert [file.rpartition("/")[2] for file in row["files"]] == ["molecule-2.system.xml", "molecule-2.xml"]
    assert report["done"] == 2
    assert report["failed"] == 0
    assert not list(tmp_path.rglob("*.tmp"))


def test_torsions_are_native_unless_custom_ones_are_asked_for(call, tmp_path):
    for option, name in (((), "PeriodicTorsionForce"), (("--torsions", "custom"), "CustomTorsionForce")):
        status, _, files, _, _ = call("CCO", "--format", "system,ffxml", *option)
        assert (status, files) == (0, ["molecule.system.xml", "molecule.xml"])
        system = openmm.XmlSerializer.deserialize((tmp_path / "out" / "molecule.system.xml").read_text())
        assert {type(f).__name__ for f in system.getForces()} >= {name, "HarmonicBondForce", "NonbondedForce"}
        assert ("CustomTorsionForce" in {type(f).__name__ for f in system.getForces()}) == bool(option)


def test_all_files_of_a_format_have_the_coordinates_of_the_input(call, tmp_path):
    (tmp_path / "lig.sdf").write_text(geometry("CCO", "ethanol"))
    status, report, files, out, _ = call("lig.sdf", "O", "--format", "gromacs,amber")
    assert status == 0
    endings = ["gro", "inpcrd", "itp", "prmtop", "top"]
    assert files == [f"{name}.{ending}" for name in ("ethanol", "molecule") for ending in endings]
    assert "wrote 14 files of 2 molecules to out" in out
    written = [file.rpartition("/")[2] for file in report["inputs"][0]["files"]]
    assert written == ["ethanol.top", "ethanol.gro", "ethanol.itp", "ethanol.prmtop", "ethanol.inpcrd"]
    (entry,) = chem.read_molecules(tmp_path / "lig.sdf")
    inpcrd = app.AmberInpcrdFile(str(tmp_path / "out" / "ethanol.inpcrd")).getPositions(asNumpy=True)
    np.testing.assert_allclose(inpcrd._value * convert(1.0, "nm", "angstrom"), entry.xyz, atol=1e-6)
    lines = (tmp_path / "out" / "ethanol.gro").read_text().splitlines()[2:-1]
    gro = np.array([line[20:].split() for line in lines], dtype=float)
    np.testing.assert_allclose(gro * convert(1.0, "nm", "angstrom"), entry.xyz, atol=1e-6)
    assert '#include "ethanol.itp"' in (tmp_path / "out" / "ethanol.top").read_text()


def test_a_format_that_lacks_a_form_is_reported_once_and_the_others_are_written(call, tmp_path):
    status, report, files, _, err = call("CCO", "O", "--format", "ffxml,amber,gromacs", model=morse_model(tmp_path))
    assert status == 1
    assert files == [f"{n}.{e}" for n in ("molecule-2", "molecule") for e in ("gro", "itp", "top", "xml")]
    reason = (
        "format 'amber' cannot express MorseBond; formats that can express this force field: "
        "system, ffxml, lammps, gromacs"
    )
    assert err == f"not written: {reason}\n"
    assert report["refused"] == {"amber": reason}
    assert report["formats"] == ["ffxml", "gromacs"]
    assert [row["status"] for row in report["inputs"]] == ["ok", "ok"]


def test_nothing_is_computed_when_no_format_can_express_the_form(call, tmp_path, monkeypatch):
    monkeypatch.setattr(model.ForceFieldModel, "parametrize", lambda *_: pytest.fail("a molecule was parametrized"))
    status, report, files, out, err = call("CCO", "--format", "offxml,amber", model=morse_model(tmp_path))
    assert (status, report, files, out) == (2, None, [], "")
    assert err == (
        "error: format 'offxml' cannot express MorseBond; format 'amber' cannot express MorseBond; "
        "formats that can express this force field: system, ffxml, lammps, gromacs\n"
    )


def test_one_conformer_serves_all_formats(call, monkeypatch):
    embed, seen = chem.embed, []
    for module in ("output", "parts"):
        loaded = importlib.import_module(f"espalike.export.{module}")
        monkeypatch.setattr(loaded, "embed", lambda m, *a: seen.append(m.name) or embed(m, *a), raising=False)
    monkeypatch.setattr(chem, "embed", lambda m, *a: seen.append(m.name) or embed(m, *a))
    assert call("CCO", "O", "--format", "gromacs,amber,lammps,system")[0] == 0
    assert seen == ["molecule", "molecule"]
    assert call("CCO", "--format", "system,ffxml")[0] == 0
    assert len(seen) == 3  # for its SDF and PDB


def test_mixed_is_written_into_the_ffxml(call, tmp_path):
    terms = [
        *CONFIG["terms"][:4],
        {"_target_": "espalike.terms.double_exponential.DoubleExponential"},
        CONFIG["terms"][5],
    ]
    dexp = save_model(tmp_path / "dexp.espalike", {**CONFIG, "terms": terms})
    assert call("O", "--format", "system,ffxml", model=dexp)[0] == 0
    alone = (tmp_path / "out" / "molecule.xml").read_text()
    assert call("O", "--format", "system,ffxml", "--mixed", "lj", model=dexp)[0] == 0
    assert (tmp_path / "out" / "molecule.xml").read_text() != alone


def test_one_bad_molecule_does_not_end_the_batch(call, tmp_path):
    (tmp_path / "mixed.sdf").write_text(
        geometry("CCO", "ethanol")
        + "broken\n\n\n 9 9 what\n$$$$\n"
        + geometry("CCO", hydrogens=False)
        + geometry("[CH3]", "methyl")
        + geometry("O.O")
        + geometry("C[Se]C")
        + geometry("CCCl", "chloride")
        + geometry("O", "ethanol")
    )
    (tmp_path / "empty.sdf").write_text("")
    status, report, files, out, err = call("mixed.sdf", "empty.sdf", "none.sdf", "C1CC", "CC(F)O")
    assert status == 1
    assert files == ["ethanol-2.system.xml", "ethanol.system.xml"]
    reasons = {row["name"]: row["reason"] for row in report["inputs"]}
    assert len(report["inputs"]) == 12
    assert "not a readable MOL record" in reasons["broken"]
    assert "record 3: hydrogens are missing" in reasons["mixed-3"]
    assert "radicals are not supported" in reasons["methyl"]
    assert "2 disconnected fragments" in reasons["mixed-5"]
    assert "atom 2 is Se" in reasons["mixed-6"]
    assert "never trained on Cl" in reasons["chloride"]
    assert reasons["empty"] == "empty.sdf: the file is empty"
    assert reasons["none"] == "none.sdf: no such file"
    assert reasons["molecule"] == "C1CC: 'C1CC' is neither a file nor a valid SMILES"
    assert "never trained on F" in reasons["molecule-2"]
    assert report["done"] == 2
    assert report["failed"] == 10
    for name, reason in reasons.items():
        assert (f"failed: {name}: {reason}" in err) == (reason is not None)
    assert "wrote 6 files of 2 molecules to out, 10 failed" in out
    assert all(line.startswith(("failed: ", "note: ")) for line in err.splitlines())  # nothing from RDKit beside


def test_debug_shows_the_traceback_of_each_failed_molecule(call):
    status, _, _, _, err = call("CCO", "C1CC", "CC(F)O")
    assert status == 1
    assert "Traceback" not in err
    status, report, files, _, err = call("CCO", "C1CC", "CC(F)O", "--debug")
    assert (status, files) == (1, ["molecule.system.xml"])
    assert err.count("Traceback") == 2
    assert report["failed"] == 2
    assert "failed: molecule-2: C1CC: 'C1CC' is neither a file nor a valid SMILES" in err


def test_nothing_done_is_status_two(call, tmp_path):
    (tmp_path / "x.sdf").write_text("")
    status, report, files, _, err = call("x.sdf")
    assert (status, files) == (2, [])
    assert report["failed"] == 1
    assert err == "failed: x: x.sdf: the file is empty\n"


def test_a_report_that_cannot_be_written_does_not_hide_the_files(call, tmp_path, monkeypatch):
    (tmp_path / "r.json").mkdir()
    with pytest.raises(IsADirectoryError):
        call("CCO")  # the fixture reads the report; the command has ended
    (tmp_path / "r.json").rmdir()

    replacing = files_module.replacing

    def full(path, *arguments):
        if str(path) == "r.json":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return replacing(path, *arguments)

    monkeypatch.setattr(files_module, "replacing", full)
    status, report, files, out, err = call("CCO")
    assert (status, report, files) == (1, None, ["molecule.system.xml"])
    assert "failed: the report r.json cannot be written: [Errno 28] No space left on device: 'r.json'" in err
    assert "molecule.system.xml" in out


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full")
def test_a_report_to_a_device_does_not_replace_it(tmp_path, model_file, capsys):
    command = ["parametrize", "CCO", "--out", str(tmp_path), "--model", model_file, "--report"]
    assert main([*command, "/dev/full"]) == 1
    assert "failed: the report /dev/full cannot be written: [Errno 28] No space left on" in capsys.readouterr().err
    assert Path("/dev/full").is_char_device()
    assert main([*command, "/dev/null"]) == 0
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("name", ["in.sdf", "out/para.system.xml", "report"])
def test_a_report_that_could_replace_another_file_is_refused(tmp_path, model_file, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path("in.sdf").write_text("kept")
    assert main(["parametrize", "CCO", "--out", "out", "--model", model_file, "--report", name]) == 2
    assert (
        f"--report {name}: a report is JSON; expected a name that ends with .json or .jsonl" in capsys.readouterr().err
    )
    assert Path("in.sdf").read_text() == "kept"
    assert not Path("out").exists()


@pytest.mark.parametrize("option", ["--charges", "--model"])
def test_a_report_does_not_replace_what_is_read(tmp_path, model_file, capsys, option):
    path = tmp_path / "read.json"
    path.write_bytes(Path(model_file).read_bytes())
    (tmp_path / "link.json").symlink_to(path)
    assert main(["parametrize", "CCO", option, str(path), "--report", str(tmp_path / "link.json")]) == 2
    assert f"would replace {path}, which is read" in capsys.readouterr().err
    assert path.read_bytes() == Path(model_file).read_bytes()


def test_a_full_disk_is_reported_and_the_other_files_stay(call, monkeypatch):
    from espalike import export

    write = export.write

    def full(system, path, *arguments, **settings):
        if "molecule-2.top" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(system, path, *arguments, **settings)

    monkeypatch.setattr(export, "write", full)
    reason = "gromacs not written: OSError: [Errno 28] No space left on device: 'out/molecule-2.top'"
    status, report, files, out, err = call("CCO", "O", "--format", "system,gromacs")
    assert status == 1
    assert [file for file in files if file.startswith("molecule-2")] == ["molecule-2.system.xml"]
    assert [(row["status"], row["reason"]) for row in report["inputs"]] == [("ok", None), ("partial", reason)]
    assert (report["done"], report["partial"], report["failed"]) == (1, 1, 0)
    assert f"failed: molecule-2: {reason}" in err
    assert "molecule-2.system.xml" in out


IMPOSSIBLE = "C1C[C@@H]2C[C@@H]1C2"


def test_without_coordinates_the_formats_that_need_none_are_written(call):
    reason = "distance geometry gives no geometry; is its stereochemistry possible?"
    status, report, files, _, err = call(IMPOSSIBLE, "CCO", "--format", "gromacs,system,ffxml,amber")
    assert status == 1
    assert [file for file in files if "-2" not in file] == ["molecule.system.xml", "molecule.xml"]
    (row, _) = report["inputs"]
    assert row["status"] == "partial"
    assert row["reason"] == f"gromacs, amber, sdf, pdb not written: molecule: {reason}"
    assert f"failed: molecule: {row['reason']}" in err
    status, report, files, _, _ = call(IMPOSSIBLE, "--format", "gromacs,lammps")
    assert (status, report["inputs"][0]["status"], report["inputs"][0]["files"]) == (2, "failed", [])


def test_sdf_and_pdb_are_the_molecule_as_it_was_parametrized(call, tmp_path):
    molecule = chem.from_smiles("C[NH+](C)C[C@H](O)C(=O)[O-]", "zwitterion")
    order = np.random.default_rng(0).permutation(molecule.n_atoms).tolist()
    mol = Chem.RenumberAtoms(chem.to_rdkit(molecule, chem.embed(molecule)[0]), order)
    mol.SetProp("_Name", molecule.name)
    (tmp_path / "lig.sdf").write_text(f"{Chem.MolToMolBlock(mol)}$$$$\n")
    (entry,) = chem.read_molecules(tmp_path / "lig.sdf")
    assert call("lig.sdf", "--residue", "ZW1")[0] == 0
    (again,) = chem.read_molecules(tmp_path / "out" / "zwitterion.sdf")
    assert (again.name, again.molecule.smiles) == ("zwitterion", entry.molecule.smiles)
    np.testing.assert_allclose(again.xyz, entry.xyz, atol=1e-4)
    np.testing.assert_allclose(again.charges, charges_in(tmp_path / "out" / "zwitterion.system.xml"), atol=1e-12)
    (pdb,) = chem.read_molecules(tmp_path / "out" / "zwitterion.pdb", smiles=entry.molecule.smiles)
    np.testing.assert_allclose(pdb.xyz, entry.xyz, atol=1e-3)
    assert pdb.molecule.smiles == entry.molecule.smiles
    assert (pdb.molecule.residue, pdb.molecule.atom_names) == ("ZW1", again.molecule.atom_names)
    topology = app.PDBFile(str(tmp_path / "out" / "zwitterion.pdb")).topology
    assert [a.element.atomic_number for a in topology.atoms()] == entry.molecule.numbers.tolist()
    bonds = {tuple(sorted((bond[0].index, bond[1].index))) for bond in topology.bonds()}
    assert bonds == set(map(tuple, entry.molecule.bonds.tolist()))


def test_coordinates_without_room_in_a_file_cost_that_file_only(call, tmp_path):
    mol = chem.to_rdkit(chem.from_smiles("CO"), chem.embed(chem.from_smiles("CO"))[0] - 2000.0)
    mol.SetProp("_Name", "far")
    (tmp_path / "lig.sdf").write_text(f"{Chem.MolToMolBlock(mol)}$$$$\n")
    status, report, files, _, err = call("lig.sdf", "--format", "system,amber,gromacs")
    (result,) = report["inputs"]
    assert (status, result["status"], files) == (1, "partial", ["far.gro", "far.itp", "far.system.xml", "far.top"])
    assert [name for name in result["files"] if name.endswith((".sdf", ".pdb"))] == ["out/far.sdf"]
    for text in ("amber not written: far: coordinates [Å] of the .inpcrd", "pdb not written: far: coordinates [Å] of"):
        assert text in result["reason"]
        assert text in err


NAMES = ("CB'", "CA", "OXT", "HB1", "1HB", "HX", "HA", "H2", "HO")
GROMACS_NAMES = ("CB'", "CA", "OXT", "HB1", "H1", "HX", "HA", "H2", "HO")
"""`constraints = h-bonds` needs H first, and HB1 is there already."""


def named_input(tmp_path, suffix):
    """A file of ethanol whose atoms have `NAMES` and whose residue is EOH."""
    molecule = chem.from_smiles("CCO", "eoh")
    mol = chem.to_rdkit(molecule, chem.embed(molecule)[0])
    path = tmp_path / f"eoh{suffix}"
    if suffix == ".sdf":
        path.write_text(f"{Chem.MolToMolBlock(mol)}>  <atom.prop.AtomName>\n{' '.join(NAMES)}\n\n$$$$\n")
        return path, ()
    if suffix == ".pdb":
        for atom, name in zip(mol.GetAtoms(), NAMES, strict=True):
            atom.SetMonomerInfo(Chem.AtomPDBResidueInfo(f" {name:3}", residueName="EOH", residueNumber=4))
        path.write_text(Chem.MolToPDBBlock(mol))
        return path, ("--smiles", "CCO")
    lines = ["@<TRIPOS>MOLECULE", "eoh", "9 8 1", "SMALL", "NO_CHARGES", "", "@<TRIPOS>ATOM"]
    types = {6: "C.3", 8: "O.3", 1: "H"}
    for n, (name, number, xyz) in enumerate(zip(NAMES, molecule.numbers, chem.embed(molecule)[0], strict=True), 1):
        lines.append(f"{n} {name} {xyz[0]:.4f} {xyz[1]:.4f} {xyz[2]:.4f} {types[number]} 1 EOH 0.0")
    bonds = [f"{n} {i + 1} {j + 1} 1" for n, (i, j) in enumerate(molecule.bonds.tolist(), 1)]
    path.write_text("\n".join([*lines, "@<TRIPOS>BOND", *bonds, ""]))
    return path, ()


@pytest.mark.parametrize("suffix", [".sdf", ".pdb", ".mol2"])
@pytest.mark.parametrize("residue", [None, "X7"])
def test_names_of_the_input_stand_in_every_format(call, tmp_path, suffix, residue):
    path, options = named_input(tmp_path, suffix)
    options = (*options, "--residue", residue) if residue else options
    status, report, _, _, _ = call(path.name, *options, "--format", "ffxml,gromacs,amber")
    assert status == 0
    stem = report["inputs"][0]["name"]
    expected = residue or ("LIG" if suffix == ".sdf" else "EOH")
    out = {ending: (tmp_path / "out" / f"{stem}.{ending}") for ending in ("xml", "gro", "itp", "prmtop", "pdb", "sdf")}
    named = [atom.get("name") for atom in ET.parse(out["xml"]).iter("Atom") if atom.get("name")]
    assert sorted(named) == sorted(NAMES)  # the order in a template has no meaning: a topology has its own
    gro = out["gro"].read_text().splitlines()[2:-1]
    assert [(line[5:10].strip(), line[10:15].strip()) for line in gro] == [(expected, name) for name in GROMACS_NAMES]
    rows = out["itp"].read_text().partition("[ atoms ]")[2].partition("\n\n")[0].splitlines()[2:]
    assert [tuple(row.split()[3:5]) for row in rows] == [(expected, name) for name in GROMACS_NAMES]
    for topology in (app.AmberPrmtopFile(str(out["prmtop"])).topology, app.PDBFile(str(out["pdb"])).topology):
        assert tuple(atom.name for atom in topology.atoms()) == NAMES
        assert [r.name for r in topology.residues()] == [expected]
    (entry,) = chem.read_molecules(out["sdf"])
    assert entry.molecule.atom_names == NAMES


@pytest.mark.parametrize("name", ["", "TOOLONG", "A B", "a;b", '"'])
def test_a_residue_name_that_formats_have_no_room_for_is_refused(call, name):
    status, _, files, _, err = call("CCO", "--residue", name)
    assert (status, files) == (2, [])
    assert f"error: residue {name!r}: expected one to four letters and digits" in err


def test_a_residue_of_water_is_refused_for_others(call):
    status, report, *_ = call("O", "CC#N", "--residue", "SOL")
    assert (status, [row["status"] for row in report["inputs"]]) == (1, ["ok", "failed"])
    assert "residue 'SOL' is a name of water, whose bonds OpenMM makes rigid" in report["inputs"][1]["reason"]


def test_domain_and_stereo_are_noted(call):
    status, report, _, _, err = call("CC(N)(O)C=O")
    assert status == 0
    (row,) = report["inputs"]
    assert row["domain"] == "outside"
    assert row["warnings"][0] == "undefined stereo: 1 atom, 0 double bonds; parameters do not depend on it"
    assert row["warnings"][1] == "atom 1 (CC(C)(N)O): such surroundings were not in training"
    assert any("atom 2 (C(C)(N)(O)C=O): such surroundings" in warning for warning in row["warnings"])
    assert "note: molecule: undefined stereo" in err


@pytest.mark.parametrize("charge", ["[NH4+]", "[Cl-]", "[Na+]", "[H][H]", "C#N", "O=C=O", "C=C=C"])
def test_small_molecules(call, tmp_path, charge):
    everything = save_model(tmp_path / "all.espalike", trained_on=SMALL)
    status, report, files, _, _ = call(charge, "--format", "system,ffxml", model=everything)
    assert (status, len(files)) == (0, 2)
    assert abs(sum(charges_in(tmp_path / "out" / "molecule.system.xml")) - report["inputs"][0]["formal_charge"]) < 1e-9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["CCO", "--format", "system,charmm"], "--format: unknown format 'charmm'; known formats: system, ffxml"),
        (["CCO", "--mixed", "lj"], "--mixed=lj: belongs to format ffxml, got system"),
        (
            ["CCO", "--format", "amber", "--torsions", "custom"],
            "--torsions=custom: belongs to format system, got amber",
        ),
        (["CCO", "--format", ","], "--format: unknown format ','"),
        (["CCO", "--charges", "amber"], "charges 'amber': no such file, and none of model, input, am1bcc"),
        (["CCO"], "no model 'nothing'"),
    ],
)
def test_bad_usage(call, arguments, message, model_file):
    status, report, files, _, err = call(*arguments, model="nothing" if len(arguments) == 1 else model_file)
    assert (status, report, files) == (2, None, [])
    assert err.startswith("error: ")
    assert message in err


def test_charge_file(call, tmp_path):
    given = [-0.834, 0.417, 0.417]
    (tmp_path / "q.txt").write_text("# TIP3P\n-0.834\n0.417\n0.417\n")
    status, report, _, _, _ = call("O", "--charges", "q.txt")
    assert status == 0
    assert np.allclose(charges_in(tmp_path / "out" / "molecule.system.xml"), given, atol=1e-12)
    assert report["inputs"][0]["charges"] == "q.txt"
    assert report["inputs"][0]["warnings"] == []


def test_charge_file_with_rounding_is_corrected_and_noted(call, tmp_path):
    (tmp_path / "q.txt").write_text("-0.834 0.417 0.420")
    status, report, _, _, err = call("O", "--charges", "q.txt")
    assert status == 0
    assert abs(sum(charges_in(tmp_path / "out" / "molecule.system.xml"))) < 1e-9
    note = "charges of q.txt summed to +0.003000 e, not +0; -1.0e-03 e was added to each atom"
    assert report["inputs"][0]["warnings"] == [note]
    assert report["inputs"][0]["charges"] == "q.txt, corrected by -1.0e-03 e per atom"
    assert note in err
    assert "corrected" in (tmp_path / "out" / "molecule.system.xml").read_text()


def test_charges_in_another_order_are_noted(call, tmp_path):
    """Their number and sum are right."""
    for text, notes in (("-0.8 0.4 0.4", []), ("0.4 -0.8 0.4", ["atom 2 has -0.80 e, the model's is +0.36 e"])):
        (tmp_path / "q.txt").write_text(text)
        status, report, _, _, err = call("O", "--charges", "q.txt", model="espalike-1")
        assert status == 0
        assert [note in err for note in notes] == [True] * len(report["inputs"][0]["warnings"])
        assert ("charges of q.txt are unlike the model's (correlation -0.50)" in err) == bool(notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-0.8 0.4 0.5", "charges sum to +0.1000 e, but the molecule's formal charge is +0"),
        ("-0.8 0.8", "expected 3 charges, one per atom; got 2"),
        ("0 0 0", "all given charges are zero"),
    ],
)
def test_wrong_charge_file(call, tmp_path, text, message):
    (tmp_path / "q.txt").write_text(text)
    status, report, files, _, err = call("O", "--charges", "q.txt")
    assert (status, files) == (2, [])
    assert report["inputs"][0]["reason"].startswith("charges of q.txt: molecule: ")
    assert message in err


def test_charge_file_that_cannot_be_used(call, tmp_path):
    for text, odd in (("a b c", "a"), ("-0.8 nan 0.8", "nan")):
        (tmp_path / "q.txt").write_text(text)
        status, report, _, _, err = call("O", "--charges", "q.txt")
        assert (status, report) == (2, None)
        assert err == f"error: q.txt, line 1: expected plain numbers, one charge per atom in input order, got {odd!r}\n"
    (tmp_path / "q.txt").write_text("-0.8 0.4 0.4")
    status, _, _, _, err = call("O", "O", "--charges", "q.txt")
    assert status == 2
    assert "a charge file belongs to one molecule, got 2" in err


def test_strict_refuses_what_was_not_in_training(call, tmp_path):
    status, report, files, _, err = call("CCO", "C[C+](C)C", "--strict", model="espalike-small")
    assert status == 1
    assert [row["status"] for row in report["inputs"]] == ["ok", "failed"]
    assert "outside the model's domain: atom 1 (C[C+](C)C): such surroundings were not in training" in err
    assert len(files) == 1
    assert call("C[C+](C)C", model="espalike-small")[1]["inputs"][0]["domain"] == "outside"


def test_coordinates_that_are_all_zero_are_embedded_anew(call, tmp_path):
    molecule = chem.from_smiles("CCO", "ethanol")
    Chem.MolToMolFile(chem.to_rdkit(molecule, np.zeros((9, 3))), str(tmp_path / "zero.sdf"))
    block = (tmp_path / "zero.sdf").read_text().replace("2D", "3D")
    (tmp_path / "zero.sdf").write_text(block + "$$$$\n")
    status, _, _, _, err = call("zero.sdf", "--format", "gromacs")
    assert status == 0
    assert "ethanol: coordinates of the input are not used: 8 of 8 bonds are of no possible length" in err
    rows = (tmp_path / "out" / "ethanol.gro").read_text().splitlines()[2:4]
    carbons = np.array([row.split()[-3:] for row in rows], dtype=float)  # [nm]
    assert np.linalg.norm(carbons[0] - carbons[1]) == pytest.approx(0.15, abs=0.02)


def test_charges_of_the_input(call, tmp_path):
    (tmp_path / "waters.sdf").write_text(
        geometry("O", "good", "-0.8 0.4 0.4") + geometry("O", "none") + geometry("O", "off", "-0.8 0.4 0.6")
    )
    status, report, files, _, _ = call("waters.sdf", "--charges", "input")
    assert (status, files) == (1, ["good.system.xml"])
    assert np.allclose(charges_in(tmp_path / "out" / "good.system.xml"), [-0.8, 0.4, 0.4])
    reasons = {row["name"]: row["reason"] for row in report["inputs"]}
    assert "the input holds no partial charges; expected <atom.dprop.PartialCharge>" in reasons["none"]
    assert "charges of input: off: charges sum to +0.2000 e" in reasons["off"]


def test_charges_need_a_charge_term(call, tmp_path):
    bare = save_model(tmp_path / "bare.espalike", {**CONFIG, "terms": CONFIG["terms"][:4]})
    (tmp_path / "q.txt").write_text("-0.8 0.4 0.4")
    status, _, _, _, err = call("O", "--charges", "q.txt", model=bare)
    assert status == 2
    assert "the model's force field has no charge term" in err
    status, report, files, _, _ = call("O", model=bare)
    assert (status, files) == (0, ["molecule.system.xml"])
    assert report["inputs"][0]["summed_charge"] is None


def test_untrained_model_is_noted(call, tmp_path):
    untrained = save_model(tmp_path / "new.espalike", trained_on=())
    status, report, _, _, err = call("CCO", model=untrained)
    assert status == 0
    assert report["inputs"][0]["domain"] == "unknown"
    assert "the model does not say what it was trained on" in err


def test_pdb_needs_its_smiles(call, tmp_path):
    mol = Chem.AddHs(Chem.MolFromSmiles("CC(=O)[O-]"))
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    (tmp_path / "ligand.pdb").write_text(Chem.MolToPDBBlock(mol))
    status, _, _, _, err = call("ligand.pdb")
    assert status == 2
    assert "give the molecule's SMILES with --smiles" in err
    status, report, files, _, _ = call("ligand.pdb", "--smiles", "CC(=O)[O-]")
    assert (status, files) == (0, ["ligand-1.system.xml"])
    assert report["inputs"][0]["formal_charge"] == -1


def test_am1bcc_without_the_extra(call, monkeypatch):
    from espalike.assigners import openff

    def missing(*arguments):
        raise ImportError("the OpenFF assigner needs the OpenFF packages: pip install 'espalike[openff]'")

    monkeypatch.setattr(openff, "_load", missing)
    status, _, files, _, err = call("CCO", "--charges", "am1bcc")
    assert (status, files) == (2, [])
    assert "pip install 'espalike[openff]'" in err


@pytest.mark.skipif(importlib.util.find_spec("openff") is None, reason="needs the extra openff")
def test_am1bcc(call, tmp_path):
    status, report, files, _, _ = call("CC(=O)[O-]", "--charges", "am1bcc")
    assert (status, files) == (0, ["molecule.system.xml"])
    charges = charges_in(tmp_path / "out" / "molecule.system.xml")
    assert abs(sum(charges) + 1) < 1e-9
    assert charges[2] == pytest.approx(charges[3], abs=1e-4)
    assert -0.95 < charges[2] < -0.75  # AM1-BCC's carboxylate oxygen
    assert report["inputs"][0]["charges"].startswith("AM1-BCC by openff-gnn-am1bcc")


def test_renumbered_input_keeps_its_order(call, tmp_path):
    molecule = chem.from_smiles("CC(=O)Nc1ccccc1")
    new = np.random.default_rng(0).permutation(molecule.n_atoms)
    mol = Chem.RenumberAtoms(chem.to_rdkit(molecule, chem.embed(molecule)[0]), new.tolist())
    (tmp_path / "a.sdf").write_text(Chem.MolToMolBlock(chem.to_rdkit(molecule)) + "$$$$\n")
    (tmp_path / "b.sdf").write_text(Chem.MolToMolBlock(mol) + "$$$$\n")
    status, _, files, _, _ = call("a.sdf", "b.sdf")
    assert status == 0
    one, two = (np.array(charges_in(tmp_path / "out" / name)) for name in files)
    assert np.allclose(one[new], two, atol=1e-10)


def test_help_has_an_example(capsys):
    assert main(["parametrize", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "espalike parametrize 'CC(=O)Nc1ccc(O)cc1' --out out" in printed
    assert "gromacs: NAME.top, NAME.gro, NAME.itp" in " ".join(printed.split())
    assert main(["parametrize"]) == 2


def test_a_protein_needs_no_smiles(call):
    protein = Path(__file__).parents[1] / "chem" / "stored" / "dna.pdb"
    status, report, files, _, _ = call(protein, "--format", "system,gromacs", model="espalike-small")
    assert (status, files) == (0, ["dna-1.gro", "dna-1.itp", "dna-1.system.xml", "dna-1.top"])
    assert (report["inputs"][0]["atoms"], report["inputs"][0]["formal_charge"]) == (126, -3)
