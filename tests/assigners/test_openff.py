"""OpenFF as an `MMSystem` equals the OpenFF toolkit's own system; names of force fields and of what is missing."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from espalike import chem
from espalike.assigners import AssignerError
from espalike.energy import energy
from espalike.export import to_openmm
from tests.export.cases import evaluate

pytest.importorskip("openff.nagl_models", reason="needs the extra openff")

MOLECULES = (
    "CC(=O)Nc1ccccc1C#N",
    "CC#CC=C=O",
    "[NH3+]CC(=O)[O-]",
    "C1CC1C1CCC1",
    "CS(=O)(=O)Nc1ncccc1Cl",
    "COP(=O)(O)O",
    "C[N+](=O)[O-]",
    "O",
    "[Cl-]",
    "CN=[N+]=[N-]",
    "C1CN1C1CC1",
    "CCNC(N)=[NH2+]",
    "c1ccc2[nH]ccc2c1",
    "CSSCBr",
)


@pytest.fixture(scope="module")
def assigner():
    from espalike.assigners.openff import OpenFFAssigner

    return OpenFFAssigner()


def toolkit_system(assigner, molecule, charges):
    """The OpenFF toolkit's own `openmm.System` with given charges."""
    from openff.toolkit import ForceField, Molecule
    from openff.units import Quantity

    field = ForceField(assigner.force_field)
    field.deregister_parameter_handler("Constraints")  # rigid water
    copy = Molecule.from_mapped_smiles(molecule.smiles, allow_undefined_stereo=True)
    copy.partial_charges = Quantity(charges, "elementary_charge")
    return field.create_openmm_system(copy.to_topology(), charge_from_molecules=[copy])


@pytest.mark.filterwarnings("ignore:`torch.distributed.reduce_op` is deprecated:FutureWarning")
@pytest.mark.parametrize("smiles", MOLECULES)
def test_equals_the_toolkit(assigner, smiles):
    molecule = chem.from_smiles(smiles)
    xyz = chem.embed(molecule, 1, seed=5)[0]
    xyz = xyz + np.random.default_rng(5).normal(0.0, 0.08, xyz.shape)
    system = assigner([molecule])
    prediction = energy(system, torch.from_numpy(xyz)[None])
    built = toolkit_system(assigner, molecule, system.bound("Coulomb").values[:, 0].numpy())
    expected, forces = evaluate(built, xyz)
    assert prediction.energy.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    np.testing.assert_allclose(prediction.forces[0], forces, rtol=1e-9, atol=1e-8)
    exported, forces = evaluate(to_openmm(system), xyz)
    assert exported == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_several_molecules_in_one_system_have_their_own_parameters(assigner):
    molecules = [chem.from_smiles(s) for s in ("CCO", "[Na+]", "CC(=O)[O-]")]
    together = assigner(molecules)
    xyz = np.concatenate([chem.embed(m, 1, seed=1)[0] for m in molecules])
    prediction = energy(together, torch.from_numpy(xyz)[None])
    start = 0
    for i, molecule in enumerate(molecules):
        part = xyz[start : start + molecule.n_atoms]
        start += molecule.n_atoms
        alone = energy(assigner([molecule]), torch.from_numpy(part)[None])
        assert prediction.energy[0, i].item() == pytest.approx(alone.energy.item(), rel=1e-12, abs=1e-12)


def test_reference_values(assigner):
    """Charges sum to the formal charge; water is TIP3P as published (Jorgensen 1983)."""
    for smiles in (*MOLECULES, "[Na+]"):
        molecule = chem.from_smiles(smiles)
        charge, lj = assigner.reference(molecule)
        assert charge.dtype == lj.dtype == np.float64
        assert charge.sum() == pytest.approx(molecule.net_charge, abs=1e-12)
        assert lj.shape == (molecule.n_atoms, 2)
    water = assigner([chem.from_smiles("O")])
    np.testing.assert_allclose(water.bound("Coulomb").values[:, 0], [-0.834, 0.417, 0.417], atol=1e-12)
    charge, lj = assigner.reference(chem.from_smiles("O"))
    assert -0.83 < charge[0] < -0.6  # the charge model's, not the library's
    np.testing.assert_allclose(lj[0], [3.1507, 0.1521], atol=1e-12)
    assert lj[1, 1] == 0.0


@pytest.mark.filterwarnings("ignore:`torch.distributed.reduce_op` is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:unclosed file .*openff-gnn:ResourceWarning")  # the wrapper's own
def test_charges_are_those_of_the_toolkit(assigner):
    """The model is loaded once and called directly; the toolkit's own wrapper gives the same charges."""
    from openff.toolkit import Molecule
    from openff.toolkit.utils.nagl_wrapper import NAGLToolkitWrapper

    molecule = chem.from_smiles("CS(=O)(=O)Nc1ncccc1Cl")
    copy = Molecule.from_mapped_smiles(molecule.smiles)
    copy.assign_partial_charges(assigner.nagl, toolkit_registry=NAGLToolkitWrapper())
    np.testing.assert_allclose(assigner.reference(molecule)[0], copy.partial_charges.magnitude, atol=1e-6)


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("CB(O)O", "element 5"),
        ("C[SiH3]", "element 14"),
        ("[Mg+2]", "has no vdW parameters for 1 of its atom groups, first Mg1"),
    ],
)
def test_molecules_that_it_does_not_cover_are_named(assigner, smiles, reason):
    molecule = chem.from_smiles(smiles, "odd-one")
    for call in (assigner.reference, lambda m: assigner([m])):
        with pytest.raises(AssignerError, match=f"odd-one: .*({reason}|no Bonds parameters)"):
            call(molecule)


def test_names_of_installed_force_fields():
    from espalike.assigners.openff import OpenFFAssigner, installed_file

    assert installed_file("openff-2.2.1") == "openff_unconstrained-2.2.1.offxml"
    assert installed_file("mine.offxml") == "mine.offxml"
    with pytest.raises(
        ValueError, match=r"no OpenFF force field 'openff-9\.9\.9' is installed; installed: .*openff-2\.2\.1"
    ):
        installed_file("openff-9.9.9")
    newer = OpenFFAssigner(installed_file("openff-2.3.0"))
    assert newer.nagl == newer._ff["NAGLCharges"].model_file


def test_missing_packages_are_named_with_the_extra():
    """Importing the module needs no OpenFF; using it says what to install."""
    code = (
        "import sys; sys.modules['openff'] = None\n"
        "from espalike.assigners.openff import OpenFFAssigner\n"
        "assert not any(m.startswith('openff.') for m in sys.modules)\n"
        "try:\n    OpenFFAssigner()\n"
        "except ImportError as e:\n    assert \"pip install 'espalike[openff]'\" in str(e), e\n"
        "else:\n    raise SystemExit('no error')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
