"""Masses of isotopes in every format that holds masses; parameters do not depend on them."""

import pytest
import torch
from openmm import app

from espalike import export
from espalike.chem import embed, from_smiles
from espalike.chem.records import Entry
from espalike.export.formats import texts, to_topology
from espalike.export.ligands import Output, parametrize
from espalike.export.template import EspalikeTemplateGenerator
from tests.export.cases import from_ffxml, model, reordered

HEAVY = from_smiles("[2H]OC([13CH3])[18OH]", "heavy")
LIGHT = from_smiles("[H]OC(C)O", "light")
MASSES = [2.01410, 15.999, 12.011, 13.00335, 17.99916, *5 * [1.008]]


def masses(system):
    return [system.getParticleMass(i)._value for i in range(system.getNumParticles())]


@pytest.fixture(scope="module")
def system():
    return model().parametrize(HEAVY)


@pytest.fixture(scope="module")
def written(system):
    """The texts of a format's files, by ending."""
    return lambda format: texts(system, format, xyz=embed(HEAVY)[0])


def test_parameters_are_those_of_the_elements(system):
    for heavy, light in zip(system.terms, model().parametrize(LIGHT).terms, strict=True):
        assert torch.equal(heavy.values, light.values)


def test_openmm(system):
    assert masses(export.to_openmm(system)) == pytest.approx(MASSES, abs=1e-3)
    assert masses(from_ffxml(system, HEAVY)) == pytest.approx(MASSES, abs=1e-3)


@pytest.mark.parametrize("smiles", ["[2H]c1ccccc1", "[13CH3]CC", "[2H]C1CCC([2H])CC1", "CC([2H])([2H])[2H]"])
@pytest.mark.parametrize("seed", range(2))
def test_openmm_where_only_isotopes_distinguish_atoms(smiles, seed):
    molecule = reordered(from_smiles(smiles), seed)
    built = from_ffxml(model().parametrize(molecule), molecule)
    assert masses(built) == pytest.approx(molecule.masses(), abs=1e-3)


def test_gromacs(written):
    (itp,) = (text for ending, text in written("gromacs").items() if ending.endswith("itp"))
    rows = itp.split("[ atoms ]")[1].split("\n[")[0].splitlines()
    found = [float(row.split()[7]) for row in rows if row.strip() and not row.strip().startswith((";", "#"))]
    assert found == pytest.approx(MASSES, abs=1e-4)


def test_amber(written):
    (prmtop,) = (text for ending, text in written("amber").items() if "prmtop" in ending or "parm7" in ending)
    rows = prmtop.split("%FLAG MASS")[1].split("%FLAG")[0].splitlines()[2:]
    assert [float(mass) for row in rows for mass in row.split()] == pytest.approx(MASSES, abs=1e-4)


def test_lammps(written):
    (data,) = (text for text in written("lammps").values() if "\nMasses" in text)
    of_type = dict(row.split() for row in data.split("\nMasses")[1].split("\nPair")[0].split("\n") if row.strip())
    types = [row.split()[2] for row in data.split("\nAtoms")[1].split("\n\n")[1].splitlines()]
    assert [float(of_type[kind]) for kind in types] == pytest.approx(MASSES, abs=1e-4)


def test_templates():
    generator = EspalikeTemplateGenerator(HEAVY, model=model())
    forcefield = app.ForceField()
    forcefield.registerTemplateGenerator(generator.generator)
    assert masses(forcefield.createSystem(to_topology(HEAVY))) == pytest.approx(MASSES, abs=1e-3)
    with pytest.raises(ValueError, match="light"):
        generator.add_molecules(LIGHT)


def test_offxml_holds_no_masses_and_the_user_reads_so(tmp_path):
    def charges(entry):
        return None, "model", ()

    for molecule, count in ((HEAVY, 1), (LIGHT, 0)):
        (done,) = parametrize(
            [("x", Entry(molecule.name, molecule))], model(), "m", charges, Output(tmp_path, ("offxml",))
        )
        assert done.result.status == "ok", done.result.reason
        assert sum("offxml holds no masses" in text for text in done.result.warnings) == count
