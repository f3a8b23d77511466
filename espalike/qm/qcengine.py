"""Any quantum chemistry program that QCEngine drives: Psi4, NWChem, CFOUR, MOPAC, TurboMole, xtb, ..."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from espalike.chem.molecule import Molecule
from espalike.qm.base import CalculatorError, checked, finite
from espalike.units import BOHR, HARTREE

_WRONG = {
    "rdkit": "takes RDKit's energies, which are in kcal/mol, for kJ/mol, so they come out 4.184 times too small; "
    "use calculator=mmff94 or calculator=mmff94s",
    "torchani": "multiplies TorchANI's gradient by Å/bohr where it has to divide, so it comes out 3.57 times too big; "
    "use calculator=ani2x or calculator=ani1ccx",
}
"""Programs whose numbers QCEngine (0.52) converts wrongly."""
_LONGEST = 300
_EXCEPTION = r"^[\w.]*(Error|Exception|NotFound)\b.*:"
_ERROR = r"(?i)\berror\b"


class QCEngineCalculator:
    """Energy and gradient of a program found by QCEngine, through QCSchema.

    Args:
        program: QCEngine's name of it, e.g. `psi4`.
        method: as the program names it, e.g. `b3lyp-d3bj`.
        basis: as the program names it; None for methods without one.
        keywords: the program's own options.
        cores: threads of the program.
        memory: what the program may use [GiB].

    The program is looked for when it is first used, or its version is read: where a server computes, it need not be
    installed here. Both raise a ValueError when QCEngine does not know the program, or cannot find it; the message
    lists the programs that it finds.

    Attributes:
        engine: QCEngine's name of the program, as given.

    Raises:
        ValueError: for RDKit and TorchANI, whose units QCEngine gets wrong.
    """

    def __init__(
        self,
        program: str,
        method: str,
        basis: str | None = None,
        keywords: Mapping[str, Any] | None = None,
        cores: int = 1,
        memory: float = 2.0,
    ):
        if program.lower() in _WRONG:
            raise ValueError(f"calculator.program={program}: QCEngine {_WRONG[program.lower()]}")
        self.engine = program
        self.method, self.basis, self.keywords = method, basis, dict(keywords or {})
        self._task = {"ncores": cores, "memory": memory}
        self.level = "/".join(part.upper() for part in (method, basis) if part)

    @cached_property
    def program(self) -> str:
        """Name and version of what computes it."""
        return f"{self.engine} {_version(self._name)} by QCEngine {_version_of_qcengine()}"

    @cached_property
    def _name(self) -> str:
        return _found(self.engine)

    def __call__(self, molecule: Molecule, xyz: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy [kcal/mol] and forces [kcal/mol/Å], shape `(A, 3)`; see `espalike.qm.base.Calculator`."""
        import qcengine

        task = {
            "schema_name": "qcschema_input",
            "schema_version": 1,
            "molecule": qcschema(molecule, checked(molecule, xyz)),
            "driver": "gradient",
            "model": {"method": self.method, "basis": self.basis},
            "keywords": self.keywords,
        }
        result = qcengine.compute(task, self._name, task_config=self._task, return_dict=True)
        if not result["success"]:
            message = essential(result["error"]["error_message"])
            raise CalculatorError("failed", f"{molecule.name}: {self.level} by {self._name}: {message}")
        energy = (result["properties"].get("return_energy") or np.nan) * HARTREE
        gradient = np.array(result["return_result"], dtype=np.float64).reshape(-1, 3)
        return finite(molecule, self.level, energy, -gradient * (HARTREE / BOHR))


def qcschema(molecule: Molecule, xyz: np.ndarray) -> dict[str, Any]:
    """The molecule at coordinates [Å], shape `(A, 3)`, as QCSchema: a closed shell, in the frame it is in."""
    from qcelemental import periodictable

    bonds = zip(molecule.bonds.tolist(), molecule.orders.tolist(), strict=True)
    return {
        "schema_name": "qcschema_molecule",
        "schema_version": 2,
        "name": molecule.name,
        "symbols": [periodictable.to_E(int(number)) for number in molecule.numbers],
        "geometry": (xyz / BOHR).ravel().tolist(),
        "molecular_charge": molecule.net_charge,
        "molecular_multiplicity": 1,
        "connectivity": [(i, j, order) for (i, j), order in bonds] or None,
        "fix_com": True,
        "fix_orientation": True,
    }


def _found(program: str) -> str:
    """The program's name in QCEngine, once it is known to be there."""
    import qcengine
    from qcengine.exceptions import InputError, ResourceError

    try:
        if program == "psi4":
            from espalike.qm.psi4 import harness

            return harness()
        qcengine.get_program(program)
    except (InputError, ResourceError, ModuleNotFoundError) as error:
        installed = ", ".join(_available()) or "none"
        message = f"QCEngine finds no program {program!r} ({essential(str(error))}); it finds: {installed}"
        raise ValueError(message) from error
    return program


def _available() -> list[str]:
    """Installed programs; Psi4 by its executable, since QCEngine would start it, and it leaves a file behind."""
    import qcengine
    from qcelemental.util import which

    names = sorted(qcengine.list_all_programs() - {*_WRONG, "psi4", "psi4-before-1.4"})
    installed = [name for name in names if qcengine.get_program(name, check=False).found()]
    return installed + (["psi4"] if which("psi4") else [])


def _version(program: str) -> str:
    import qcengine

    return qcengine.get_program(program).get_version()


def _version_of_qcengine() -> str:
    import qcengine

    return qcengine.__version__


def essential(message: str) -> str:
    """What went wrong, of a traceback or a log: the last line with an exception, else with an error, else the last."""
    lines = [line.strip() for line in message.splitlines() if line.strip() and "Traceback" not in line]
    for pattern in (_EXCEPTION, _ERROR, ""):
        matching = [line for line in lines if re.search(pattern, line)]
        if matching:
            return matching[-1] if len(matching[-1]) <= _LONGEST else matching[-1][:_LONGEST] + " ..."
    return "no message"
