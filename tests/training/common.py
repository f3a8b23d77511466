"""A small model for tests of training."""


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
