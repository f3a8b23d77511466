"""Model files of earlier versions, and the shipped models, give the energies that were recorded when they were written.

`stored_models/` holds a class I model in a file of version 1, an ensemble of two in files of version 2, 3 and 4, and
`energies.json`: geometries [Å] of three molecules and the energies [kJ/mol] of their exported OpenMM systems, computed
by the espalike version that wrote the files; that of version 2 by the first one that weighted equilibrium bonds and
angles of an ensemble by force constants.
"""

import json
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch

from espalike import export
from espalike.chem import from_smiles
from espalike.model import describe, load, shipped
from espalike.modelfile import VERSION, find, migrate

FOLDER = Path(__file__).parent / "stored_models"
RECORDED = json.loads((FOLDER / "energies.json").read_text())


@pytest.mark.parametrize("name", RECORDED["energies"])
def test_energies_are_those_that_were_recorded(name, tmp_path):
    stored = FOLDER / f"{name}.espalike"
    model = load(stored if stored.exists() else name)
    model.save(tmp_path / "again.espalike")
    again = load(tmp_path / "again.espalike")
    for smiles, xyz, expected in zip(RECORDED["smiles"], RECORDED["xyz"], RECORDED["energies"][name], strict=True):
        system, same = (one.parametrize(from_smiles(smiles)) for one in (model, again))
        assert all(torch.equal(a.values, b.values) for a, b in zip(system.terms, same.terms, strict=True))
        platform = openmm.Platform.getPlatform("Reference")
        context = openmm.Context(export.to_openmm(same), openmm.VerletIntegrator(0.001), platform)
        context.setPositions(np.array(xyz) / 10.0)
        energy = context.getState(energy=True).getPotentialEnergy()._value
        assert energy == pytest.approx(expected, rel=1e-9)


def test_every_version_and_every_shipped_model_is_recorded():
    files = {f"version{version}" for version in range(1, VERSION)}
    assert set(RECORDED["energies"]) == files | set(shipped())


@pytest.mark.parametrize(("version", "members"), [(1, 1), (2, 2), (3, 2), (4, 2)])
def test_a_description_is_migrated(version, members):
    header = describe(FOLDER / f"version{version}.espalike")
    assert (header["format_version"], header["members"]) == (VERSION, members)
    assert migrate(header, {}) == (header, {})


@pytest.mark.parametrize("name", ["espalike-1", "espalike-2"])
def test_released_models_have_at_most_10_mb_and_are_of_single_precision(name):
    assert find(name).stat().st_size <= 10_000_000
    assert {weight.dtype for weight in load(name).state_dict().values()} == {torch.float32}
