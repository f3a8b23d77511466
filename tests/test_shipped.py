"""The model that comes with the package: it is there, sane, and as good as its card says."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rdkit import Chem

import espalike
from espalike.chem import ChemistryError, embed, from_rdkit, from_smiles
from espalike.cli.main import main
from espalike.data.store import Store, write_store
from espalike.energy import energy
from espalike.model import DEFAULT, DomainError, describe, load, shipped
from espalike.modelfile import SUPERSEDED
from espalike.tuples import Kind
from tests.molecules import DRUGLIKE, SMALL

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="module")
def model():
    return load().double()


def in_domain(model, smiles):
    try:
        model.domain.check(from_smiles(smiles))
    except DomainError:
        return False
    return True


def test_five_lines_of_python(tmp_path):
    model = espalike.load("espalike-1")
    ligand = espalike.Molecule.from_file(Path(__file__).parents[1] / "data" / "paracetamol.sdf")
    system = model.parametrize(ligand)
    assert espalike.export.to_openmm(system).getNumParticles() == 20
    espalike.export.write(system, tmp_path / "ligand.xml", format="ffxml")
    assert "NonbondedForce" in (tmp_path / "ligand.xml").read_text()


@pytest.mark.parametrize("name", shipped())
def test_every_model_is_shipped_with_figures_and_a_card(name):
    assert DEFAULT in shipped()
    header = describe(shipped()[name])
    superseded = {"torsiondrives", "thermal"}
    present = {"td", "hutchison", "pepconf", "sample", "complexes"}
    assert header["figures"]["test"].keys() == (superseded if name in SUPERSEDED else present)
    assert shipped()[name].with_suffix(".md").is_file()
    assert not set(header["split"]["train"]) & set(header["split"]["val"])


def relaxations():
    """Shipped models and molecules; most are slow tests where OpenMM compiles couplings for seconds."""
    for name in shipped():
        for i, smiles in enumerate(DRUGLIKE[::8]):
            is_slow = name in SUPERSEDED or (name == "espalike-2" and i % 3)
            yield pytest.param(name, smiles, marks=[pytest.mark.slow] * bool(is_slow))


@pytest.mark.parametrize(("name", "smiles"), list(relaxations()))
def test_relaxed_molecules_keep_their_bonds(name, smiles):
    """A distorted molecule relaxes in OpenMM to bonds near their equilibrium lengths: no coupling pulls it apart."""
    import openmm

    model = load(name)
    if not in_domain(model, smiles):
        pytest.skip("an element outside the model's domain")
    molecule = from_smiles(smiles)
    system = model.parametrize(molecule)
    xyz = embed(molecule, 1, seed=0)[0] + np.random.default_rng(0).normal(0.0, 0.05, (molecule.n_atoms, 3))
    platform = openmm.Platform.getPlatform("Reference")
    context = openmm.Context(espalike.export.to_openmm(system), openmm.VerletIntegrator(0.001), platform)
    context.setPositions(xyz / 10.0)
    openmm.LocalEnergyMinimizer.minimize(context, 10.0, 300)
    relaxed = context.getState(positions=True).getPositions(asNumpy=True)._value * 10.0
    bond = next(b for b in system.terms if b.term.kind is Kind.BOND)
    column = [p.name for p in bond.term.params].index("r0")
    i, j = bond.tuples.idx.T.numpy()
    stretch = np.linalg.norm(relaxed[i] - relaxed[j], axis=1) / bond.values[:, column].numpy()
    assert stretch.max() < 1.15
    assert stretch.min() > 0.85


@pytest.mark.parametrize("smiles", ["Ic1ccc(CN)cc1", "CC(=O)Br"])
def test_a_stretched_bond_pulls_back(smiles):
    """The energy of class II rises up to 1.8 times the length of a weak bond while all else relaxes."""
    import openmm

    molecule = from_smiles(smiles)
    system = espalike.export.to_openmm(load("espalike-2").parametrize(molecule))
    (i,) = np.flatnonzero(np.isin(molecule.numbers, (35, 53)))
    (j,) = [int(a + b - i) for a, b in molecule.bonds if i in (a, b)]
    spring = openmm.CustomBondForce("500000 * (r - length)^2")  # kJ/mol/nm²
    spring.addGlobalParameter("length", 0.2)
    spring.addBond(int(i), j)
    spring.setForceGroup(1)
    system.addForce(spring)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(embed(molecule, 1, seed=0)[0] / 10)
    energies = []
    for length in np.arange(0.23, 0.39, 0.02):
        context.setParameter("length", length)
        openmm.LocalEnergyMinimizer.minimize(context, 0.1, 3000)
        energies.append(context.getState(energy=True, groups={0}).getPotentialEnergy()._value)
    assert (np.diff(energies) > 0).all()


@pytest.mark.parametrize("smiles", DRUGLIKE)
def test_parameters_are_sane(model, smiles):
    """Springs and lengths of every bond and angle within what chemistry knows, forces finite at a thermal geometry."""
    if not in_domain(model, smiles):
        with pytest.raises(DomainError, match=r"never trained on|cannot hold"):
            model.parametrize(from_smiles(smiles))
        return
    molecule = from_smiles(smiles)
    system = model.parametrize(molecule)
    k, r0 = system.bound("HarmonicBond").values.T
    assert ((r0 > 0.85) & (r0 < 2.6)).all()
    assert ((k > 50) & (k < 3500)).all()
    k, theta0 = system.bound("HarmonicAngle").values.T
    assert ((theta0 > 0.9) & (theta0 < 3.142)).all()
    assert ((k > 5) & (k < 500)).all()
    sigma, epsilon = system.bound("LennardJones").values[:, :2].T
    assert ((sigma > 0.3) & (sigma < 5.5)).all()
    assert ((epsilon > 0) & (epsilon < 1.5)).all()
    assert system.bound("Coulomb").values[:, 0].abs().max() < 3.0
    assert (system.bound("PeriodicProper").values.abs() < 30).all()
    forces = energy(system, torch.from_numpy(embed(molecule, 1, seed=0))).forces
    assert forces.abs().max() < 500


UNUSUAL = {
    "tert-butyl cation": "C[C+](C)C",
    "benzyl cation": "[CH2+]c1ccccc1",
    "phenyl anion": "[c-]1ccccc1",
    "C60": "c12c3c4c5c1c1c6c7c2c2c8c3c3c9c4c4c%10c5c5c1c1c6c6c%11c7c2c2c7c8c3c3c8c9c4c4c9c%10c5c5c1c1c6c6c%11c2c2c7c3"
    "c3c8c4c4c9c5c1c1c6c2c3c41",
    "corannulene": "c1cc2ccc3ccc4ccc5ccc1c1c2c3c4c51",
    "propellane": "C1C23CC12C3",
    "[2.2.2]propellane": "C1CC23CCC12CC3",
    "cubane": "C12C3C4C1C5C2C3C45",
    "carbene-like ylide": "C[S+](C)[CH-]C",
}
ODD = {
    "triphenylmethyl cation": "c1ccccc1[C+](c1ccccc1)c1ccccc1",
    "adamantyl cation": "C1C2CC3CC1C[C+](C2)C3",
    "acetyl cation": "C[C+]=O",
    "methanide": "[CH3-]",
    "prismane": "C12C3C1C4C2C34",
    "tetrahedrane": "C12C3C1C23",
    "bicyclobutane": "C1C2C1C2",
    "benzyne": "C1=CC=CC#C1",
    "cyclopentyne": "C1CCC#C1",
    "Bredt's rule": "C1CC2=CC1C2",
    "chloronium": "C[Cl+]C",
    "white phosphorus": "P12P3P1P23",
    "cyclooctasulfur": "S1SSSSSSS1",
    "borane cluster": "[BH]1[BH][BH]1",
    "proton": "[H+]",
    "hydride": "[H-]",
    "oxide": "[O-2]",
    "dioxygen": "O=O",
    "ozone": "[O-][O+]=O",
}
REFUSED = {
    "radical": ("[CH3]", "unpaired"),
    "carbene": ("CN1C=CN(C)[C]1", "unpaired"),
    "nitrene": ("C[N]", "unpaired"),
    "silylene": ("[SiH2]", "unpaired"),
    "SF6": ("FS(F)(F)(F)(F)F", "6 neighbours"),
    "hexafluorophosphate": ("F[P-](F)(F)(F)(F)F", "6 neighbours"),
    "phosphorane": ("CP(C)(C)(C)C", "5 neighbours"),
    "Dess-Martin periodinane": ("CC(=O)OI1(OC(C)=O)(OC(C)=O)OC(=O)c2ccccc12", "5 neighbours"),
    "sulfur tetrafluoride": ("FS(F)(F)F", "4 neighbours"),
    "sulfurane": ("CS(C)(F)F", "4 neighbours and lone pairs"),
    "iodine trichloride": ("ClI(Cl)Cl", "3 neighbours"),
    "diacetoxyiodobenzene": ("CC(=O)OI(OC(C)=O)c1ccccc1", "3 neighbours and lone pairs"),
    "triiodide": ("I[I-]I", "2 neighbours and lone pairs"),
    "ferrocene": ("[Fe+2].[cH-]1cccc1.[cH-]1cccc1", "is Fe"),
    "xenon difluoride": ("F[Xe]F", "is Xe"),
    "methyllithium": ("[Li]C", "free ion"),
    "diborane": ("[BH2]1[H][BH2][H]1", "more bonds than its valence"),
    "carbonium": ("C[CH4+]", "more bonds than its valence"),
    "bifluoride": ("F[H-]F", "2 bonds"),
    "catenane": ("C1CCCCCCCCCCCCCCCCCCC1.C1CCCCCCCCCCCCCCCCCCC1", "2 disconnected fragments"),
}
"""SMILES, and what the message says."""
RESONANCE_FORMS = [
    ("CN=[N+]=[N-]", "C[N-][N+]#N", "C[N+]#[N+][N-2]"),
    ("CC(=O)C=[N+]=[N-]", "CC(=O)[CH-][N+]#N", "CC([O-])=C[N+]#N"),
    ("CC#[N+][O-]", "C[C-]=[N+]=O"),
    ("CC(=O)N(C)C", "CC([O-])=[N+](C)C"),
    ("CS(C)=O", "C[S+](C)[O-]"),
    ("CS(C)(=O)=O", "C[S+2](C)([O-])[O-]"),
    ("CS(=O)(=O)[O-]", "C[S+2]([O-])([O-])[O-]"),
    ("CS(=O)(=O)[N-]C", "CN=S(C)(=O)[O-]", "C[S+](=NC)([O-])[O-]"),
    ("CNC(N)=[NH2+]", "CN[C+](N)N"),
    ("C=[N+]=[N-]", "[CH2-][N+]#N", "[CH2+]N=[N-]"),
    ("CC(C)=NO", "C[C+](C)[N-]O"),
    ("C[n+]1ccccc1C=NO", "C[n+]1ccccc1[CH+][N-]O"),
    ("N#[N+]c1ccccc1[O-]", "[N-]=[N+]=C1C=CC=CC1=O"),
    ("CS(C)=N", "C[S+](C)[NH-]"),
    ("CS(C)(=O)=N", "C[S+](C)(=O)[NH-]", "C[S+2](C)([O-])[NH-]"),
    ("CN=S=O", "C[N-][S+]=O", "CN=[S+][O-]"),
    ("C=S=O", "C=[S+][O-]", "[CH2-][S+]=O"),
    ("C[S+](C)[CH-]C(C)=O", "CS(C)=CC(C)=O", "C[S+](C)C=C(C)[O-]"),
    ("C[S+](C)(=O)[CH2-]", "CS(C)(=O)=C", "C[S+2](C)([O-])[CH2-]"),
    ("ClP1(Cl)=NP(Cl)(Cl)=NP(Cl)(Cl)=N1", "Cl[P+]1(Cl)[N-][P+](Cl)(Cl)[N-][P+](Cl)(Cl)[N-]1"),
    ("CB(O)O", "C[B-](O)=[OH+]"),
]
USUAL = ["CC(=O)Oc1ccccc1C(=O)O", "CC(=O)Nc1ccc(O)cc1", "CC(C)Cc1ccc(cc1)C(C)C(=O)O", "CC(=O)[O-]", "O", "CCO"]


@pytest.mark.parametrize("name", shipped())
def test_the_domain_is_that_of_chemistry_not_of_elements(name):
    domain = load(name).domain
    assert [title for title, smiles in UNUSUAL.items() if not domain.check(from_smiles(smiles))] == []
    assert [smiles for smiles in USUAL if domain.check(from_smiles(smiles))] == []


@pytest.mark.parametrize("name", [name for name in shipped() if name not in SUPERSEDED])
def test_odd_chemistry_is_outside(name):
    domain = load(name).domain
    assert [title for title, smiles in ODD.items() if not domain.check(from_smiles(smiles))] == []


@pytest.mark.parametrize("title", REFUSED)
def test_odd_chemistry_is_refused(model, title):
    smiles, message = REFUSED[title]
    with pytest.raises((ChemistryError, DomainError), match=f"^{title}: .*{message}"):
        model.domain.check(from_smiles(smiles, title))


@pytest.mark.parametrize("forms", RESONANCE_FORMS)
def test_the_domain_does_not_depend_on_the_resonance_form(model, forms):
    assert [smiles for smiles in forms if not in_domain(model, smiles)] == []
    assert [smiles for smiles in forms if model.domain.check(from_smiles(smiles))] == []


@pytest.mark.parametrize("smiles", ["[CH2-]c1ccccc1", "Cl[P+]1(Cl)[N-][P+](Cl)(Cl)[N-][P+](Cl)(Cl)[N-]1"])
def test_the_domain_does_not_depend_on_the_order_of_atoms(smiles):
    domain, mol = load().domain, Chem.AddHs(Chem.MolFromSmiles(smiles))
    orders = [np.random.default_rng(seed).permutation(mol.GetNumAtoms()).tolist() for seed in range(12)]
    assert not any(domain.check(from_rdkit(Chem.RenumberAtoms(mol, order))) for order in orders)


@pytest.mark.parametrize(
    ("usual", "drawn", "rare"),
    [
        ("C=[N+]=[N-]", "[CH2-][N+]#N", ["atom 1"]),
        ("CP(C)(C)=O", "C[P+](C)(C)[O-]", []),
        ("CC(=O)N(C)C", "CC([O-])=[N+](C)C", []),
        ("CP(C)(C)=CC(C)=O", "C[P+](C)(C)[CH-]C(C)=O", []),
        ("CP(C)(C)=NC", "C[P+](C)(C)[N-]C", []),
        ("N#C[N-]C#N", "[N-]=C=NC#N", [f"atom {n}" for n in range(1, 6)]),
    ],
)
def test_rare_surroundings_do_not_depend_on_the_resonance_form(usual, drawn, rare):
    domain = load().domain
    for smiles in (usual, drawn):
        assert [note.split(" (")[0] for note in domain.remarks(from_smiles(smiles))] == rare


@pytest.mark.parametrize("smiles", SMALL)
def test_small_molecules_and_ions(model, smiles):
    molecule = from_smiles(smiles)
    if not in_domain(model, smiles):
        pytest.skip("an element outside the model's domain")
    total = float(model.parametrize(molecule).bound("Coulomb").values[:, 0].sum())
    assert total == pytest.approx(molecule.net_charge, abs=1e-9)


def test_charges_and_van_der_waals_follow_the_references():
    """On held-out molecules of the embedded set: AM1-BCC charges, OpenFF Lennard-Jones."""
    model, errors, wells = load().double(), [], []
    for record in Store.open("sample").records("test"):
        if record.ref_charge is None or record.molecule.n_atoms == 1:
            continue
        system = model.parametrize(record.molecule)
        errors.append(system.bound("Coulomb").values[:, 0].numpy() - record.ref_charge)
        wells.append(np.sqrt(system.bound("LennardJones").values[:, 1].numpy()) - np.sqrt(record.ref_lj[:, 1]))
    assert np.sqrt(np.mean(np.concatenate(errors) ** 2)) < 0.08
    assert np.sqrt(np.mean(np.concatenate(wells) ** 2)) < 0.05


def thermal_frames_of_the_cards(path):
    """The part of the embedded set on which the cards were computed: it has gained molecules and geometries since.

    These are the relaxed geometry and eleven thermal frames, as one entry, of the test molecules that have so many, but
    not of propiolamide, which came later, and dimethylsilane, which OpenFF 2.2.1 does not cover.
    """
    entries = {record.id: record for record in Store.open("sample").records("test")}
    records = []
    for name, thermal in entries.items():
        molecule = name.removesuffix("-thermal")
        if len(thermal.conformers.energy) == 11 and molecule not in {"propiolamide", "dimethylsilane"}:
            frames = (entries[f"{molecule}-relaxed"].conformers, thermal.conformers)
            arrays = {
                label: np.concatenate([getattr(part, label) for part in frames])
                for label in ("xyz", "energy", "forces")
            }
            together = dataclasses.replace(thermal.conformers, **arrays, dipole=None, esp=None)
            records.append(dataclasses.replace(thermal, id=molecule, conformers=together, kind=""))
    write_store(path, records, manifest={"licence": "CC0-1.0", "origin": "sample", "command": "test"})
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("data", "column"), [("openff_torsiondrives_forces.h5", 1), ("sample", 2)])
def test_scores_are_those_of_the_readme(data, column, tmp_path):
    path = data if data == "sample" else SHARED / data
    if path != "sample" and not path.is_file():
        pytest.skip("needs the shared data")
    arguments = [f"model={DEFAULT}", "baselines=openff-2.2.1", f"data.path={path}", "data.split=test"]
    assert main(["evaluate", *arguments, f"out={tmp_path}"]) == 0
    row = json.loads((tmp_path / "summary.json").read_text())["common"][0]  # OpenFF has no silicon
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    cells = next(line for line in readme.splitlines() if line.startswith(f"| `{DEFAULT}` |")).strip("|").split("|")
    for metric, figure in zip(("energy_rmse", "force_rmse"), cells[column].split("/"), strict=True):
        assert row[metric] == pytest.approx(float(figure.split()[0]), abs=6e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "data"),
    [
        *((name, data) for name in SUPERSEDED for data in ("torsiondrives", "thermal")),
        *((name, data) for name in SUPERSEDED.values() for data in ("td", "sample")),
    ],
)
def test_scores_are_those_of_the_card(name, data, tmp_path):
    torsiondrives = SHARED / "openff_torsiondrives_forces.h5"
    if data in {"torsiondrives", "td"} and not torsiondrives.is_file():
        pytest.skip("needs the shared data")
    path = thermal_frames_of_the_cards(tmp_path / "store") if data == "thermal" else torsiondrives
    path, out = "sample" if data == "sample" else path, tmp_path / "out"
    arguments = [f"model={name}", "baselines=openff-2.2.1", f"data.path={path}", "data.split=test", f"out={out}"]
    assert main(["evaluate", *arguments]) == 0
    row = json.loads((out / "summary.json").read_text())["common"][0]  # OpenFF has no silicon
    figures = describe(shipped()[name])["figures"]["test"][data]
    assert row["conformers"] == figures["conformers"]
    for metric in ("energy_rmse", "force_rmse"):
        assert row[metric] == pytest.approx(figures[metric], abs=2e-3)
