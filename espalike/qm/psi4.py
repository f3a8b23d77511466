"""Psi4 before version 1.4 (as Debian has it) through QCEngine, which no longer writes the input that it reads."""

from __future__ import annotations

import json
import subprocess
from functools import lru_cache
from pathlib import Path

import qcelemental
import qcengine
from qcelemental.util import parse_version, which
from qcengine.exceptions import UnknownError
from qcengine.programs.psi4 import Psi4Harness
from qcengine.util import execute, temporary_directory

_OLD = "psi4-before-1.4"


class OldPsi4Harness(Psi4Harness):
    """QCSchema version 1 as JSON, to `psi4 --json`."""

    @staticmethod
    def found(raise_error: bool = False) -> bool:
        """Whether there is a psi4; QCEngine's own check starts it at every calculation, and it leaves a file behind."""
        return which("psi4", return_bool=True, raise_error=raise_error)

    def get_version(self) -> str:
        """What `psi4 --version` says."""
        return version()

    def compute(self, input_model, config):
        """Run the program in a separate scratch directory.

        Raises:
            UnknownError: with what the program says.
        """
        first = input_model.convert_v(1)
        task = json.loads(first.json())
        task |= {"schema_name": "qc_schema_input", "nthreads": config.ncores, "memory": int(config.memory * 2**30)}
        with temporary_directory(parent=config.scratch_directory, suffix="_psi_scratch") as scratch:
            file = Path(scratch) / "data.json"  # named in full: a failed correction can leave the program elsewhere
            file.write_text(json.dumps(task))
            _, output = execute([which("psi4"), "--scratch", scratch, "--json", str(file)], scratch_directory=scratch)
            data = json.loads(file.read_text())
        if not data.get("success"):
            error = data.get("error", output.get("stderr") or "psi4 ended without a result")
            raise UnknownError(error if isinstance(error, str) else error["error_message"])
        data = {key: data[key] for key in ("properties", "return_result", "success", "provenance")}
        model = first.dict(include={"molecule", "driver", "model", "keywords", "extras"}) | data
        return qcelemental.models.v1.AtomicResult(**model).convert_v(2, external_input_data=input_model)


@lru_cache(maxsize=1)
def version() -> str:
    """What `psi4 --version` says; run once, in a separate folder, since old versions leave a file there.

    Raises:
        ModuleNotFoundError: when there is no psi4.
    """
    path = which("psi4", raise_error=True)
    with temporary_directory(suffix="_psi_version") as folder:
        return subprocess.run([path, "--version"], cwd=folder, capture_output=True, text=True).stdout.split()[-1]


def harness() -> str:
    """QCEngine's name of the installed Psi4; a version before 1.4 gets a separate harness.

    Raises:
        ModuleNotFoundError: when there is no psi4.
    """
    if parse_version(version()) >= parse_version("1.4a2.dev160"):
        return "psi4"
    if _OLD not in qcengine.list_all_programs():
        qcengine.register_program(OldPsi4Harness(name=_OLD))
    return _OLD
