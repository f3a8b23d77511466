"""OpenFF as an `MMSystem` equals the OpenFF toolkit's own system, and reproduces the published baseline row."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from espalike import chem
from espalike.assigners import AssignerError
from espalike.energy import energy
from espalike.export import to_openmm
from tests.export.cases import evaluate

pytest.importorskip("openff.nagl_models", reason="needs the extra openff")

SHARED = Path(__file__).parents[3] / "shared" / "data" / "openff_torsiondrives_forces.h5"

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
    found = energy(system, torch.from_numpy(xyz)[None])
    built = toolkit_system(assigner, molecule, system.bound("Coulomb").values[:, 0].numpy())
    expected, forces = evaluate(built, xyz)
    assert found.energy.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)
    np.testing.assert_allclose(found.forces[0], forces, rtol=1e-9, atol=1e-8)
    exported, forces = evaluate(to_openmm(system), xyz)
    assert exported == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_several_molecules_are_each_themselves(assigner):
    molecules = [chem.from_smiles(s) for s in ("CCO", "[Na+]", "CC(=O)[O-]")]
    together = assigner(molecules)
    xyz = np.concatenate([chem.embed(m, 1, seed=1)[0] for m in molecules])
    found = energy(together, torch.from_numpy(xyz)[None])
    start = 0
    for i, molecule in enumerate(molecules):
        part = xyz[start : start + molecule.n_atoms]
        start += molecule.n_atoms
        alone = energy(assigner([molecule]), torch.from_numpy(part)[None])
        assert found.energy[0, i].item() == pytest.approx(alone.energy.item(), rel=1e-12, abs=1e-12)


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
def test_what_it_does_not_cover_is_named(assigner, smiles, reason):
    molecule = chem.from_smiles(smiles, "odd-one")
    for call in (assigner.reference, lambda m: assigner([m])):
        with pytest.raises(AssignerError, match=f"odd-one: .*({reason}|no Bonds parameters)"):
            call(molecule)


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


@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared torsion drives")
def test_reproduces_the_published_baseline_row(assigner):
    """Test split, energies centred per entry, all conformers pooled: 2.53 kcal/mol and 14.73 kcal/mol/Å."""
    energy_errors, force_errors = [], []
    with h5py.File(SHARED) as file:
        for name, group in file.items():
            if group.attrs["split"] != "test":
                continue
            system = assigner([chem.from_smiles(group.attrs["smiles"], name)])
            found = energy(system, torch.from_numpy(group["coords"][:].astype(np.float64)))
            error = found.energy[:, 0].numpy() - group["energies"][:]
            energy_errors.append(error - error.mean())
            force_errors.append((found.forces.numpy() - group["forces"][:]).ravel())
    errors = np.concatenate(energy_errors)
    assert len(errors) == 1392
    assert np.sqrt((errors**2).mean()) == pytest.approx(2.53, abs=0.03)
    assert np.sqrt((np.concatenate(force_errors) ** 2).mean()) == pytest.approx(14.73, abs=0.1)
