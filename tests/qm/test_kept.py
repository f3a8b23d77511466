"""What calculators keep between calls: threads do not share it, and copies begin without it."""

import copy
import pickle

import numpy as np
import openmm
import pytest

import espalike
from espalike.chem import embed, from_smiles
from espalike.evaluation.baselines import calculator
from espalike.potential import ForceFieldCalculator
from espalike.qm.base import Kept
from espalike.qm.openmm_xml import OpenMMXMLCalculator

ETHANOL = from_smiles("CCO", "ethanol")


@pytest.fixture
def of_openmm(tmp_path):
    """Makes calculators that keep a context of OpenMM."""
    system = espalike.load("espalike-small").parametrize(ETHANOL)
    path = espalike.export.write(system, tmp_path / "ethanol.system.xml")
    return {"system": lambda: ForceFieldCalculator(system, ETHANOL), "xml": lambda: OpenMMXMLCalculator(path)}


@pytest.mark.parametrize("kind", ["system", "xml"])
def test_a_call_of_another_thread_in_the_middle_changes_nothing(kind, of_openmm, monkeypatch):
    """OpenMM lets other threads run while it computes: here another geometry comes before the energy is read."""
    one, other = embed(ETHANOL, 2)
    expected = [of_openmm[kind]()(ETHANOL, xyz) for xyz in (one, other)]
    shared = of_openmm[kind]()
    shared(ETHANOL, other)  # so that there is something to share
    results, positions = {}, openmm.Context.setPositions

    def interrupted(context, values):
        positions(context, values)
        if not results:
            results["other"] = None
            results["other"] = shared(ETHANOL, other)

    monkeypatch.setattr(openmm.Context, "setPositions", interrupted)
    results["one"] = shared(ETHANOL, one)
    for name, (energy, forces) in zip(("one", "other"), expected, strict=True):
        assert results[name][0] == pytest.approx(energy, abs=1e-9)
        np.testing.assert_allclose(results[name][1], forces, atol=1e-9)


@pytest.mark.parametrize("name", ["mmff94", "uff", "gfn2-xtb", "espalike"])
def test_a_calculator_in_use_can_be_copied_and_pickled(name):
    """For processes, and for systems of OpenMM that hold it."""
    if name == "gfn2-xtb":
        pytest.importorskip("tblite", reason="needs the extra qm")
    used, xyz = calculator(name, {}), embed(ETHANOL, 1)[0]
    energy, forces = used(ETHANOL, xyz)
    for again in (copy.deepcopy(used), pickle.loads(pickle.dumps(used))):
        assert again(ETHANOL, xyz)[0] == pytest.approx(energy, abs=1e-6)
        np.testing.assert_allclose(again(ETHANOL, xyz)[1], forces, atol=1e-2)  # xTB begins from another wavefunction


def test_what_is_kept_belongs_to_one_molecule_and_one_call():
    kept, other = Kept(), from_smiles("CCO", "ethanol")
    kept.put(ETHANOL, "context")
    assert kept.take(ETHANOL) == "context"
    assert kept.take(ETHANOL) is None
    kept.put(ETHANOL, "context")
    assert kept.take(other) is None
