"""espalike: a graph neural network predicts the parameters of a force field from the molecular graph.

    load         a model by name or path
    Molecule     a molecule from SMILES or a file
    parametrize  molecules → parameters, and files for simulation programs
    train        train a model
    bespoke      fit a force field to one molecule, or to a few
    evaluate     score models and other methods against QM
    Store        QM data
    export       write parameters to files: OpenMM, OpenFF, GROMACS, Amber, LAMMPS

Modules are imported when they are first used: `import espalike` is fast. Commands without a function here (check,
ingest, label, landscape, …): `espalike --help`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from espalike import export as export
    from espalike.api import evaluate as evaluate
    from espalike.api import parametrize as parametrize
    from espalike.api import train as train
    from espalike.chem.molecule import Molecule as Molecule
    from espalike.data.store import Store as Store
    from espalike.fitting.run import bespoke as bespoke
    from espalike.model import load as load

    __version__: str

__all__ = ["Molecule", "Store", "__version__", "bespoke", "evaluate", "export", "load", "parametrize", "train"]

_MODULES = {
    "Molecule": "espalike.chem.molecule",
    "Store": "espalike.data.store",
    "bespoke": "espalike.fitting.run",
    "evaluate": "espalike.api",
    "load": "espalike.model",
    "parametrize": "espalike.api",
    "train": "espalike.api",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("espalike")
    if name == "export":
        return importlib.import_module("espalike.export")
    if name not in _MODULES:
        known = f"it has {', '.join(__all__)}; `espalike --help` lists commands, some of which have no function"
        raise AttributeError(f"module 'espalike' has no attribute {name!r}; {known}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
