"""espalike: force fields whose parameters a graph neural network reads off the molecular graph.

Heavy modules are imported when first used, so that `import espalike` stays fast.
"""

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

__version__ = version("espalike")

if TYPE_CHECKING:
    from espalike import export as export
    from espalike.chem.molecule import Molecule as Molecule
    from espalike.model import load as load

_WHERE = {
    "Molecule": ("espalike.chem.molecule", "Molecule"),
    "load": ("espalike.model", "load"),
    "export": ("espalike.export", None),
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'espalike' has no attribute {name!r}")
    module, attribute = _WHERE[name]
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found
