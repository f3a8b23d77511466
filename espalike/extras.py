"""Which extra of the package brings a module that a plain install lacks."""

from __future__ import annotations

EXTRAS = {
    "tblite": "qm",
    "pyscf": "qm",
    "ase": "qm",
    "qcengine": "qm",
    "qcelemental": "qm",
    "geometric": "qm",
    "torsiondrive": "qm",
    "torchani": "ani",
    "openmmml": "ml",
    "garnetff": "garnet",
    "qcportal": "fractal",
    "openff": "openff",
    "dgl": "dgl",
}
"""Extras by the module they bring."""


def missing(error: ImportError) -> str:
    """The message of a failed import, with the command that installs the module."""
    extra = EXTRAS.get((error.name or "").split(".")[0])
    return f"{error}; install it with: pip install 'espalike[{extra}]'" if extra else str(error)
