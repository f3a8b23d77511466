"""The files: what they hold, what loads beside them, and what is refused."""

import dataclasses
import xml.etree.ElementTree as ET

import numpy as np
import openmm
import pytest
import torch
from openmm import app

from espalike import chem, export
from espalike.energy import energy
from espalike.export.parts import ExportError
from espalike.export.text import atom_names
from espalike.geometry import Distance
from espalike.system import Bound, MMSystem
from espalike.terms.base import PairTerm, Param
from espalike.terms.coulomb import Coulomb
from espalike.tuples import Tuples
from espalike.units import COULOMB
from tests.export.cases import (
    agree,
    case,
    evaluate,
    from_ffxml,
    geometry,
    model,
    plus,
    reference,
    to_ffxml,
    with_equal_phases,
)

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)[O-]"
NICOTINE = "C[NH+]1CCC[C@H]1c1cccnc1"


class Buckingham(PairTerm):
    """A pair form without `combining`."""

    coordinates = (Distance(0, 1),)
    q_names = ("r",)
    params = (Param("c6", "kcal/mol*angstrom**6", 1.0, 1.0, "positive"),)
    expression = "-c6/r^6"

    def combine(self, first, second):
        return (torch.sqrt(first[0] * second[0]),)

    def energy(self, q, p):
        return -p[0] / q[0] ** 6


def replaced(system: MMSystem, name: str, values: torch.Tensor) -> MMSystem:
    terms = tuple(Bound(b.term, b.tuples, values) if b.term.name == name else b for b in system.terms)
    return MMSystem(terms, system.numbers, system.mol, system.molecules)


def test_unknown_pair_terms_are_refused_by_name(tmp_path):
    _, _, system = case(ASPIRIN)
    strange = plus(system, Bound(Buckingham(), system.bound("Coulomb").tuples, torch.ones(len(system.numbers), 1)))
    for format in export.FORMATS:
        with pytest.raises(ExportError, match="Buckingham"):
            export.write(strange, tmp_path / f"x{export.FORMATS[format].endings[0]}", format)
    assert list(tmp_path.iterdir()) == []


def test_written_files_round_trip_to_full_precision(tmp_path):
    molecule, xyz, system = case(NICOTINE)
    expected = energy(system, torch.from_numpy(xyz)[None]).energy.item()
    path = export.write(system, tmp_path / "n.system.xml", info={"model": "a -- b", "charges": "model"})
    actual = openmm.XmlSerializer.deserialize(path.read_text())
    assert evaluate(actual, xyz)[0] == pytest.approx(expected, rel=1e-12)
    assert "charges: model" in path.read_text()
    path = export.write(system, tmp_path / "n.xml", "ffxml", info={"model": "a -- b", "charges": "model"})
    actual = app.ForceField(str(path)).createSystem(export.to_topology(molecule))
    assert evaluate(actual, xyz)[0] == pytest.approx(expected, rel=1e-12)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["n.system.xml", "n.xml"]


def test_the_file_states_its_provenance():
    molecule, _, system = case(NICOTINE)
    root = ET.fromstring(to_ffxml(system, info={"model": "espalike-small <1>", "charges": "from ligand.sdf & co"}))
    facts = {node.attrib["name"]: node.text for node in root.findall("Info/Fact")}
    assert facts["model"] == "espalike-small <1>"
    assert facts["charges"] == "from ligand.sdf & co"
    assert facts["FormalCharge"] == "1"
    assert facts["SMILES"] == molecule.smiles
    assert facts["Template"] == root.find("Residues/Residue").attrib["name"]


TITLES = (
    'a\x01b\x1b[31m\x85c\ufffe', 'quotes """ inside', "line\n\nunits lj\n[ atoms ]", "ends with a backslash \\",
    "goes on &", "[ atoms ]", "#include \"x\"", "%FLAG CHARGE", "a ; b", "-- > <!-- ]]>", "\ud800", "", "x" * 5000,
)  # fmt: skip
"""Titles with control characters, and with what the formats read as their own words."""


@pytest.mark.parametrize("title", TITLES)
def test_no_title_changes_what_a_file_says(title, tmp_path):
    """The same text as for a harmless title, but for comments and titles: nothing else follows from the name."""
    molecule, xyz = geometry("CO")
    files = {}
    for name in (title, "harmless"):
        named = dataclasses.replace(molecule, name=name)
        for format, known in export.FORMATS.items():
            system = with_equal_phases(named)
            path = tmp_path / f"m{known.endings[0]}"
            export.write(system, path, xyz=xyz, info={"Model": name})
            files[name, format] = [p.read_text(encoding="utf-8") for p in known.paths(path)]
    for format in export.FORMATS:
        for text, expected in zip(files[title, format], files["harmless", format], strict=True):
            assert max(map(len, text.splitlines())) < 4095 or "xml" in export.FORMATS[format].endings[0]
            assert content(format, text) == content(format, expected)


def content(format: str, text: str) -> list[str]:
    """A file without its comments and title."""
    if format in ("system", "ffxml", "offxml"):
        root = ET.fromstring(text)
        for info in root.findall("Info"):
            root.remove(info)
        for script in root.iter("Script"):
            script.text = "".join(line for line in script.text.splitlines() if "'molecule'" not in line)
        return ET.tostring(root, encoding="unicode").split()
    if format == "gromacs" and "\n[ " not in text:
        return text.split("\n")[1:]  # .gro
    if format == "gromacs":
        head, _, tail = text.partition("[ system ]\n")
        return [line for line in head.split("\n") if not line.startswith(";")] + tail.split("\n")[1:]
    if format == "amber":
        lines = text.split("\n")
        title = 0 if not text.startswith("%VERSION") else lines.index("%FORMAT(a80)") + 1
        return [line for n, line in enumerate(lines) if n != title and not line.startswith("%COMMENT")]
    lines = text.split("\n")
    assert '"""' not in text
    assert not [line for line in lines if line.startswith("#") and line.endswith(("&", "\\"))]
    return [line for line in (lines[1:] if "Masses" in text else lines) if not line.startswith("#")]


def test_unknown_formats_are_refused(tmp_path):
    _, _, system = case(ASPIRIN)
    with pytest.raises(ValueError, match="unknown format 'pdb'; known formats: system, ffxml"):
        export.write(system, tmp_path / "x", "pdb")
    with pytest.raises(ValueError, match="unknown format 'pdb'; known formats: system, ffxml"):
        export.texts(system, "pdb")


def test_options_of_another_format_are_refused(tmp_path):
    _, _, system = case(ASPIRIN)
    with pytest.raises(ValueError, match="mixed='lj' belongs to format 'ffxml'; got format 'system'"):
        export.write(system, tmp_path / "x.system.xml", mixed="lj")
    with pytest.raises(ValueError, match="torsions='custom' belongs to format 'system'; got format 'amber'"):
        export.write(system, tmp_path / "x.prmtop", torsions="custom")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("x.system.xml", "system"), ("x.xml", "ffxml"), ("x.offxml", "offxml"), ("a.b.top", "gromacs"),
        ("x.gro", "gromacs"), ("x.itp", "gromacs"), ("x.prmtop", "amber"), ("x.inpcrd", "amber"), ("x.lmp", "lammps"),
        ("x.in", "lammps"),
    ],
)  # fmt: skip
def test_the_suffix_says_the_format(name, format, tmp_path):
    system = model().parametrize(chem.from_smiles("CO"))
    assert export.format_of(name) == format
    assert export.write(system, tmp_path / name) == tmp_path / name
    stem = "a.b" if name.startswith("a") else "x"
    assert {p.name for p in tmp_path.iterdir()} == {stem + ending for ending in export.FORMATS[format].endings}
    other = "amber" if format != "amber" else "lammps"
    with pytest.raises(ValueError, match=f"stands for format '{format}', but format='{other}' was given"):
        export.write(system, tmp_path / name, other)
    with pytest.raises(ValueError, match=r"stands for no known format; known suffixes: system: \.system\.xml; ffxml"):
        export.write(system, tmp_path / "x.pdb")


def test_refusals_need_only_the_terms():
    from espalike.terms.bond import HarmonicBond, MorseBond
    from espalike.terms.double_exponential import DoubleExponential
    from espalike.terms.lennard_jones import LennardJones

    assert export.refusals([HarmonicBond(), LennardJones(), Coulomb()], list(export.FORMATS)) == {}
    assert export.refusals([MorseBond(), Coulomb()], ["system", "amber", "lammps"]) == {
        "amber": "format 'amber' cannot express MorseBond; formats that can express this force field: system, ffxml, "
        "lammps, gromacs"
    }
    actual = export.refusals([MorseBond(), DoubleExponential()], ["amber", "gromacs"])
    assert actual["amber"].startswith("format 'amber' cannot express MorseBond, DoubleExponential; formats that can")
    assert actual["gromacs"].endswith("express this force field: system, ffxml")
    with pytest.raises(ValueError, match="unknown format 'pdb'"):
        export.refusals([], ["pdb"])


def test_a_failed_write_leaves_the_old_file(tmp_path):
    _, _, system = case(ASPIRIN)
    path = tmp_path / "a.xml"
    path.write_text("old")
    strange = plus(system, Bound(Buckingham(), system.bound("Coulomb").tuples, torch.ones(len(system.numbers), 1)))
    with pytest.raises(ExportError):
        export.write(strange, path, "ffxml")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.xml"]


@pytest.mark.parametrize("smiles", [ASPIRIN, NICOTINE, "[Na+]", "NC(=[NH2+])c1ccc(OCCCCCOc2ccc(cc2)C(N)=[NH2+])cc1"])
def test_exported_charges_sum_to_the_formal_charge(smiles):
    molecule, _, system = case(smiles)
    single = system.to(dtype=torch.float32)  # rounding that must not reach a file
    charges = [float(a.attrib["charge"]) for a in ET.fromstring(to_ffxml(single)).findall("NonbondedForce/Atom")]
    assert sum(charges) == pytest.approx(molecule.net_charge, abs=1e-9)
    built = export.to_openmm(single)
    (force,) = (f for f in built.getForces() if isinstance(f, openmm.NonbondedForce))
    charges = [force.getParticleParameters(i)[0]._value for i in range(molecule.n_atoms)]
    assert sum(charges) == pytest.approx(molecule.net_charge, abs=1e-9)


def test_charges_of_another_protonation_state_are_refused():
    _, _, system = case(ASPIRIN)
    values = system.bound("Coulomb").values
    with pytest.raises(ValueError, match="formal charge is -1"):
        export.to_openmm(replaced(system, "Coulomb", values - values.mean()))


def test_given_charges_land_on_their_own_atoms():
    """Also where the graph cannot tell atoms apart and the charges can."""
    for smiles in (ASPIRIN, "CC(C)(C)[Si](C)(C)OC1CC1", "C12C3C4C1C5C2C3C45"):
        molecule, _, _ = case(smiles)
        given = np.random.default_rng(3).normal(0.0, 0.3, molecule.n_atoms)
        given += (molecule.net_charge - given.sum()) / molecule.n_atoms
        built = from_ffxml(model().parametrize(molecule, charges=given), molecule)
        (force,) = (f for f in built.getForces() if isinstance(f, openmm.NonbondedForce))
        actual = [force.getParticleParameters(i)[0]._value for i in range(molecule.n_atoms)]
        np.testing.assert_allclose(actual, given, atol=1e-12)


def test_parameters_that_are_not_numbers_are_refused():
    _, _, system = case(ASPIRIN)
    values = system.bound("HarmonicAngle").values.clone()
    values[2, 1] = float("nan")
    with pytest.raises(ExportError, match="HarmonicAngle are not all finite"):
        export.to_openmm(replaced(system, "HarmonicAngle", values))


def test_one_molecule_out_of_several():
    first, xyz, alone = case(NICOTINE)
    several = model().parametrize([case(ASPIRIN)[0], first, case("[Na+]")[0]])
    with pytest.raises(ExportError, match="holds 3 molecules; say which one"):
        export.to_openmm(several)
    with pytest.raises(ExportError, match="no molecule 3: the system holds 3 molecules"):
        export.to_openmm(several, 3)
    alone = model().parametrize(first)
    expected = energy(alone, torch.from_numpy(xyz)[None]).energy.item()
    assert evaluate(export.to_openmm(several, 1), xyz)[0] == pytest.approx(expected, rel=1e-9)
    assert to_ffxml(several, 1).count("<Type ") == first.n_atoms
    assert export.to_openmm(several, 2).getNumParticles() == 1
    with pytest.raises(ExportError, match="carries no molecules"):
        export.to_openmm(MMSystem(alone.terms, alone.numbers, alone.mol))


def test_pairs_that_do_not_follow_from_bonds_need_the_system_format():
    _, xyz, system = case(ASPIRIN)
    bound = system.bound("Coulomb")
    fewer = Tuples(bound.tuples.idx[1:], bound.tuples.mol[1:], bound.tuples.is14[1:])
    terms = tuple(Bound(b.term, fewer, b.values) if b.term.name == "Coulomb" else b for b in system.terms)
    odd = MMSystem(terms, system.numbers, system.mol, system.molecules)
    expected = energy(odd, torch.from_numpy(xyz)[None]).energy.item()
    assert evaluate(export.to_openmm(odd), xyz)[0] == pytest.approx(expected, rel=1e-10)
    with pytest.raises(ExportError, match="do not follow from the bonds"):
        to_ffxml(odd)


def test_names_are_unique_to_the_atom_and_to_the_molecule():
    names = atom_names(case(ASPIRIN)[0])
    assert len(set(names)) == len(names)
    kinds = [
        {t.attrib["name"] for t in ET.fromstring(to_ffxml(case(s)[2])).findall("AtomTypes/Type")}
        for s in (ASPIRIN, NICOTINE)
    ]
    assert not kinds[0] & kinds[1]
    molecule = case(ASPIRIN)[0]
    plain = model().parametrize(molecule)
    given = model().parametrize(molecule, charges=plain.bound("Coulomb").values[:, 0].numpy()[::-1].copy())
    names = [
        ET.fromstring(to_ffxml(s)).find("Residues/Residue").attrib["name"]
        for s in (plain, given, model().parametrize(molecule))
    ]
    assert names[0] == names[2] != names[1]


def test_renamed_terms_are_not_mistaken_for_known_ones():
    """A subclass may change the form, so only the class itself is native."""

    class Screened(Coulomb):
        """Another energy with the parameters of its parent."""

        expression = f"{COULOMB!r}*qq*exp(-0.3*r)/r"

        def energy(self, q, p):
            return super().energy(q, p) * torch.exp(-0.3 * q[0])

    _, xyz, system = case(ASPIRIN)
    bound = system.bound("Coulomb")
    terms = tuple(Bound(Screened(), b.tuples, b.values) if b is bound else b for b in system.terms)
    screened = MMSystem(terms, system.numbers, system.mol, system.molecules)
    agree(evaluate(export.to_openmm(screened), xyz), reference(screened, xyz))
    with pytest.raises(ExportError, match="format 'ffxml' cannot express LennardJones, Screened"):
        to_ffxml(screened)


def test_topology_follows_the_molecule():
    molecule = chem.from_smiles("CC#N")
    topology = export.to_topology(molecule)
    assert [a.element.atomic_number for a in topology.atoms()] == molecule.numbers.tolist()
    bonds = sorted([min(b[0].index, b[1].index), max(b[0].index, b[1].index)] for b in topology.bonds())
    assert bonds == molecule.bonds.tolist()
