"""Forms of a plug-in folder, trained for an epoch: exported to every engine that has their primitives."""

import importlib
import sys
from pathlib import Path

import openmm
import pytest

import espalike
from espalike import export
from espalike.cli.main import main
from tests.export.cases import geometry
from tests.export.programs import PROGRAMS, needs
from tests.export.test_forms import assert_exact

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
FORMS = '''
"""A harmonic bond with other priors, a cubic bond, a quartic angle."""

from espalike.terms.angle import HarmonicAngle
from espalike.terms.base import Param
from espalike.terms.bond import HarmonicBond
from espalike.terms.primitives import Polynomial

R0, THETA0 = HarmonicBond.params[1], HarmonicAngle.params[1]


class StiffBond(HarmonicBond):
    """A harmonic bond with other priors."""

    params = (Param("k", "kcal/mol/angstrom**2", mean=900.0, std=0.2, link="positive"), R0)


class CubicBond(HarmonicBond):
    """k/2 d^2 + g d^3."""

    params = (*HarmonicBond.params, Param("g", "kcal/mol/angstrom**3", mean=-700.0, std=100.0, link="free"))

    def primitives(self, p):
        k, r0, g = p
        return (Polynomial(0, r0, 0.5 * k, g),)


class QuarticAngle(HarmonicAngle):
    """k/2 d^2 + g d^3 + h d^4."""

    params = (
        *HarmonicAngle.params,
        Param("g", "kcal/mol", mean=-10.0, std=5.0, link="free"),
        Param("h", "kcal/mol", mean=20.0, std=0.3, link="positive"),
    )

    def primitives(self, p):
        k, theta0, g, h = p
        return (Polynomial(0, theta0, 0.5 * k, g, h),)
'''
REST = "periodic_proper, periodic_improper, lennard_jones, coulomb"
FIELDS = {"stiff": f"stiff_bond, harmonic_angle, {REST}", "anharmonic": f"cubic_bond, quartic_angle, {REST}"}
REFUSED = {"stiff": set(), "anharmonic": {"offxml", "amber"}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Model files of the two force fields, of a plug-in that is installed as a folder on the path."""
    root = tmp_path_factory.mktemp("plugin")
    (root / "own_forms.py").write_text(FORMS)
    (root / "own_forms-0.1.dist-info").mkdir()
    (root / "own_forms-0.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: own-forms\nVersion: 0.1\n")
    (root / "own_forms-0.1.dist-info" / "entry_points.txt").write_text("[espalike.plugins]\nown = own_forms\n")
    for folder in ("term", "forcefield"):
        (root / "configs" / folder).mkdir(parents=True)
    for name, target in (("stiff_bond", "StiffBond"), ("cubic_bond", "CubicBond"), ("quartic_angle", "QuarticAngle")):
        text = f"{name}:\n  _target_: own_forms.{target}\n"
        (root / "configs" / "term" / f"{name}.yaml").write_text(text)
    for name, terms in FIELDS.items():
        text = f"defaults:\n  - /term: [{terms}]\n\nname: {name}\n"
        (root / "configs" / "forcefield" / f"{name}.yaml").write_text(text)
    sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    try:
        for name in FIELDS:
            settings = [
                "experiment=quickstart",
                "model=tiny",
                "trainer.max_epochs=1",
                "trainer.enable_progress_bar=false",
            ]
            arguments = ["train", "--config-dir", str(root / "configs"), f"forcefield={name}", *settings]
            assert main([*arguments, f"out={root / name}"]) == 0
        yield root
    finally:
        sys.path.remove(str(root))
        sys.modules.pop("own_forms", None)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in PROGRAMS])
def test_trained_forms_of_a_plugin_are_exact_in_every_engine_that_has_them(field, name, trained, tmp_path):
    model = espalike.load(trained / field / "model.espalike").double()
    assert {term.name for term in model.terms} > ({"StiffBond"} if field == "stiff" else {"CubicBond", "QuarticAngle"})
    refused = export.refusals(model.terms, list(export.FORMATS))
    assert set(refused) == REFUSED[field]
    molecule, xyz = geometry("Cc1ncc([N+](=O)[O-])n1CCO")
    if PROGRAMS[name].format in refused:
        assert "cannot express CubicBond, QuarticAngle; formats that can" in refused[PROGRAMS[name].format]
        return
    assert_exact(name, model.parametrize(molecule), xyz, tmp_path)


def test_a_subclass_with_other_priors_is_native_in_openmm(trained):
    model = espalike.load(trained / "stiff" / "model.espalike").double()
    built = export.to_openmm(model.parametrize(geometry("CC#CC(=O)N")[0]))
    assert isinstance(built.getForce(0), openmm.HarmonicBondForce)
    assert built.getForce(0).getName() == "StiffBond"
    assert not any("Custom" in type(force).__name__ for force in built.getForces())
    assert Path(trained / "stiff" / "model.espalike").exists()
