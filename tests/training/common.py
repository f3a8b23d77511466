"""A small model, and entries with random labels, for tests of training."""

import numpy as np

from espalike.batch import featurized
from espalike.chem import embed, from_smiles
from tests.batches import Item


def _term(name):
    return {"_target_": f"espalike.terms.{name}"}


CONFIG = {
    "terms": [
        _term("bond.HarmonicBond"),
        _term("angle.HarmonicAngle"),
        _term("torsion.PeriodicProper"),
        _term("torsion.PeriodicImproper"),
        _term("lennard_jones.LennardJones"),
        _term("coulomb.Coulomb"),
    ],
    "conv": {"_target_": "espalike.nn.convs.SAGE", "_partial_": True},
    "width": 16,
    "layers": 2,
    "hidden": 16,
}
"""Class I force field on a network that trains in seconds."""


def item(smiles, n=3, seed=0, **labels):
    """An entry of `n` shaken geometries with random energies and forces; `labels` replace or add some."""
    molecule, rng = from_smiles(smiles), np.random.default_rng(seed)
    xyz = embed(molecule, n, seed=seed) + 0.03 * rng.standard_normal((n, molecule.n_atoms, 3))
    fields = {"xyz": xyz, "energy": 3.0 * rng.standard_normal(n), "forces": 20.0 * rng.standard_normal(xyz.shape)}
    fields |= {"ref_charge": None, "ref_lj": None, "level": 0, "source": 0}
    return Item(graph=featurized(molecule), **{**fields, **labels})
