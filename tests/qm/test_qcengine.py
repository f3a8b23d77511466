"""QCEngine: other programs' energies and forces in our units, failures by their essential line."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("qcengine")

import qcelemental
import qcengine

from espalike.chem import embed, from_smiles
from espalike.qm.base import CalculatorError
from espalike.qm.mmff import MMFFCalculator
from espalike.qm.qcengine import QCEngineCalculator, _available, essential, qcschema
from espalike.units import BOHR, HARTREE, KJ_PER_KCAL


def needs(program):
    return pytest.mark.skipif(program not in _available(), reason=f"needs {program}")


needs_torchani = pytest.mark.skipif(find_spec("torchani") is None, reason="needs torchani")
PSI4 = {"scf_type": "pk", "e_convergence": 1e-9, "d_convergence": 1e-8}


def perturbed(smiles, name=None):
    molecule = from_smiles(smiles, name)
    xyz = embed(molecule, seed=7)[0]
    return molecule, xyz + np.random.default_rng(0).normal(0, 0.05, xyz.shape)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Programs must not leave files where the user is."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(Path(tmp_path).iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "keywords"),
    [
        pytest.param("psi4", PSI4, marks=needs("psi4")),
        pytest.param("nwchem", {"scf__thresh": 1e-7}, marks=needs("nwchem")),
    ],
)
@pytest.mark.parametrize("smiles", ["O", "[OH-]"])
def test_hartree_fock_is_that_of_pyscf(program, keywords, smiles, elsewhere):
    gto = pytest.importorskip("pyscf.gto")
    import pyscf.grad
    import pyscf.scf

    molecule, xyz = perturbed(smiles)
    calculator = QCEngineCalculator(program, "hf", "6-31g*", keywords)
    assert calculator.level == "HF/6-31G*"
    assert calculator.program.startswith(program)
    energy, forces = calculator(molecule, xyz)
    # spherical or Cartesian d functions: the programs' own choice of this basis
    atoms = list(zip("OHH", xyz.tolist(), strict=False))
    mole = gto.M(atom=atoms, basis="6-31g*", charge=molecule.net_charge, verbose=0, cart=True)
    field = pyscf.scf.RHF(mole).run(conv_tol=1e-11)
    gradient = pyscf.grad.RHF(field).run().de
    assert energy == pytest.approx(field.e_tot * HARTREE, abs=2e-3)
    np.testing.assert_allclose(forces, -gradient * HARTREE / BOHR, atol=0.02)


@needs("xtb")
def test_xtb_is_that_of_tblite(elsewhere):
    from espalike.qm.xtb import XTBCalculator

    molecule, xyz = perturbed("CC(=O)NC")
    calculator = QCEngineCalculator("xtb", "GFN2-xTB")
    assert calculator.level == "GFN2-XTB"
    energy, forces = calculator(molecule, xyz)
    expected, expected_forces = XTBCalculator(accuracy=0.1)(molecule, xyz)
    assert energy == pytest.approx(expected, abs=1e-3)
    np.testing.assert_allclose(forces, expected_forces, atol=0.01)


def test_the_schema_says_what_the_molecule_is():
    molecule, xyz = perturbed("CC(=O)[O-]", "acetate")
    told = qcengine.util.model_wrapper(qcschema(molecule, xyz), qcelemental.models.v1.Molecule)
    np.testing.assert_allclose(np.asarray(told.geometry) * BOHR, xyz, atol=1e-7)
    np.testing.assert_array_equal(told.atomic_numbers, molecule.numbers)
    assert (told.molecular_charge, told.molecular_multiplicity, told.name) == (-1, 1, "acetate")
    assert [bond[2] for bond in told.connectivity] == molecule.orders.tolist()


def test_why_rdkit_is_refused():
    """QCEngine's harness converts from kJ/mol what RDKit gives in kcal/mol; when this fails, it may be allowed."""
    with pytest.raises(ValueError, match=r"kJ/mol.*calculator=mmff94"):
        QCEngineCalculator("rdkit", "mmff94")
    molecule, xyz = perturbed("CO")
    task = {"molecule": qcschema(molecule, xyz), "driver": "energy", "model": {"method": "mmff94", "basis": None}}
    energy = qcengine.compute(task, "rdkit", raise_error=True, return_dict=True)["return_result"] * HARTREE
    assert energy * KJ_PER_KCAL == pytest.approx(MMFFCalculator()(molecule, xyz)[0], rel=1e-6)


@needs_torchani
@pytest.mark.filterwarnings("ignore:cuaev", "ignore:pkg_resources", "ignore:module .sre_:DeprecationWarning")
def test_why_torchani_is_refused(monkeypatch, elsewhere):
    """The gradient of the energy ½ Σ x² (hartree, Å) is not that of QCEngine; when this fails, it may be allowed."""
    from qcengine.programs.torchani import TorchANIHarness

    class Springs:
        species = ("H", "C", "N", "O")

        def to(self, device):
            return self

        def __call__(self, given):
            return given[0], 0.5 * (given[1] ** 2).sum((1, 2))

    with pytest.raises(ValueError, match=r"gradient.*calculator=ani2x"):
        QCEngineCalculator("torchani", "ani2x")
    monkeypatch.setattr(TorchANIHarness, "get_model", lambda self, name: Springs())
    molecule, xyz = perturbed("CO")
    task = {"molecule": qcschema(molecule, xyz), "driver": "gradient", "model": {"method": "ani2x", "basis": None}}
    gradient = qcengine.compute(task, "torchani", raise_error=True, return_dict=True)["return_result"]
    right = xyz * BOHR  # hartree/bohr
    np.testing.assert_allclose(np.reshape(gradient, (-1, 3)), right / BOHR**2, rtol=1e-5)


def test_programs_that_are_not_there_are_named_with_those_that_are(elsewhere):
    calculator = QCEngineCalculator("gamess-fortran", "hf", "sto-3g")  # a server may have it
    for use in (lambda: calculator.program, lambda: calculator(*perturbed("O"))):
        with pytest.raises(ValueError, match=r"no program 'gamess-fortran'.*it finds"):
            use()


@needs("psi4")
def test_failures_name_the_molecule_and_the_essential_line(elsewhere):
    molecule, xyz = perturbed("O", "my-water")
    with pytest.raises(CalculatorError, match=r"my-water: HF/STO-3G.*Could not converge SCF") as caught:
        QCEngineCalculator("psi4", "hf", "sto-3g", {"maxiter": 2})(molecule, xyz)
    assert caught.value.reason == "failed"
    assert "\n" not in str(caught.value)
    with pytest.raises(CalculatorError, match=r"\(3, 3\)"):
        QCEngineCalculator("psi4", "hf", "sto-3g")(molecule, xyz[:2])


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (
            'Traceback (most recent call last):\n  File "a", line 1\npackage.SCFError: not converged\n\n',
            "not converged",
        ),
        ("package.BasisSetNotFound: no basis among:\n  Sets: x\n  Blocks:\n", "no basis among"),
        (
            "[0] ARMCI Error: failed opening basis file\nwith errorcode -1.\nNOTE: that is all\n",
            "failed opening basis file",
        ),
        ("killed\n", "killed"),
        ("", "no message"),
    ],
)
def test_the_line_that_matters(message, line):
    assert line in essential(message)
    assert len(essential("ValueError: " + "x" * 5000)) < 400
