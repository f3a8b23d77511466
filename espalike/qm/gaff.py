"""GAFF2, the general Amber force field, as a calculator to compare with.

Atom types by antechamber, missing parameters by parmchk2, the topology by tleap, all of AmberTools. J. Wang,
R. M. Wolf, J. W. Caldwell, P. A. Kollman, D. A. Case, J. Comput. Chem. 2004, 25, 1157; parameters of version 2.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rdkit import Chem

from espalike.chem import embed, to_rdkit
from espalike.chem.errors import ChemistryError
from espalike.chem.molecule import Molecule
from espalike.qm.base import CalculatorError
from espalike.qm.openmm_xml import SystemCalculator

if TYPE_CHECKING:
    import openmm

_PROGRAMS = ("antechamber", "parmchk2", "tleap")
_LEAP = """source leaprc.gaff2
molecule = loadmol2 typed.mol2
loadamberparams more.frcmod
saveamberparm molecule molecule.prmtop molecule.inpcrd
quit
"""
_SECONDS = 600
"""Longest run of a program."""
_CHECKOUT = Path(__file__).resolve().parents[2]
"""The folder of the repository, where `scripts/install_engines.sh` installs AmberTools."""


class GAFFCalculator(SystemCalculator):
    """Energy and forces of GAFF2 without cut-off and constraints.

    Args:
        charges: `nagl`, the network for AM1-BCC charges that `openff-2.2.1` has here; or `bcc`, AM1-BCC by sqm.
        programs: the folder of antechamber, parmchk2 and tleap; None: they are looked for on the path, in
            `$AMBERHOME/bin`, and in `.engines/bin`.

    Raises:
        ValueError: for other charges.
        FileNotFoundError: when the programs are missing.
        ImportError: when OpenFF's packages are, which bring the charges `nagl`.
    """

    def __init__(self, charges: str = "nagl", programs: str | Path | None = None):
        if charges not in ("nagl", "bcc"):
            raise ValueError(f"GAFF2: charges={charges}; expected nagl or bcc")
        self._programs, self._charges = _folder(programs), charges
        super().__init__("GAFF2", f"AmberTools in {self._programs}, charges {charges}")
        if charges == "nagl":
            self._assigner  # noqa: B018 - what it needs is missing now, not at the first molecule

    @cached_property
    def _assigner(self):
        from espalike.assigners.openff import OpenFFAssigner

        return OpenFFAssigner()

    def system(self, molecule: Molecule) -> openmm.System:
        """See `SystemCalculator.system`."""
        from openmm import app

        with tempfile.TemporaryDirectory(prefix="espalike-gaff-") as folder:
            topology = app.AmberPrmtopFile(str(self.prmtop(molecule, Path(folder))))
        elements = [atom.element.atomic_number for atom in topology.topology.atoms()]
        if elements != molecule.numbers.tolist():
            raise CalculatorError("no parameters", f"{molecule.name}: GAFF2: tleap changed the order of the atoms")
        return topology.createSystem(nonbondedMethod=app.NoCutoff, constraints=None, rigidWater=False)

    def prmtop(self, molecule: Molecule, folder: Path) -> Path:
        """Write Amber's topology of a molecule, `molecule.prmtop`, and what leads to it.

        Raises:
            CalculatorError: when a program fails, or GAFF2 has no parameters.
        """
        _write_sdf(molecule, folder / "molecule.sdf")
        options = ["-i", "molecule.sdf", "-fi", "sdf", "-o", "typed.mol2", "-fo", "mol2", "-at", "gaff2"]
        options += ["-nc", str(molecule.net_charge), "-dr", "n", "-pf", "y", *self._charge_options(molecule, folder)]
        self._run(molecule, folder, "antechamber", *options)
        self._run(molecule, folder, "parmchk2", "-i", "typed.mol2", "-f", "mol2", "-o", "more.frcmod", "-s", "2")
        lines = (folder / "more.frcmod").read_text().splitlines()
        if missing := next((line for line in lines if "ATTN" in line), ""):
            raise CalculatorError(
                "no parameters", f"{molecule.name}: GAFF2 has no parameters for {missing.partition('  ')[0]}"
            )
        (folder / "leap.in").write_text(_LEAP)
        self._run(molecule, folder, "tleap", "-f", "leap.in")
        return folder / "molecule.prmtop"

    def _charge_options(self, molecule: Molecule, folder: Path) -> list[str]:
        from espalike.assigners import AssignerError

        if self._charges == "bcc":
            return ["-c", "bcc"]
        try:
            charges = self._assigner.reference(molecule)[0]
        except AssignerError as error:
            raise CalculatorError("no charges", str(error)) from error
        np.savetxt(folder / "charges.txt", charges, fmt="%.6f")
        return ["-c", "rc", "-cf", "charges.txt"]

    def _run(self, molecule: Molecule, folder: Path, program: str, *options: str) -> None:
        """Run a program in the folder.

        Raises:
            CalculatorError: with the end of what it printed, when it fails.
        """
        command = [str(self._programs / program), *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise CalculatorError("too slow", f"{molecule.name}: GAFF2: {program} took over {_SECONDS} s") from error
        made = {"antechamber": "typed.mol2", "parmchk2": "more.frcmod", "tleap": "molecule.prmtop"}[program]
        if done.returncode or not (folder / made).is_file() or not (folder / made).stat().st_size:
            lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            reason = "; ".join(lines[-3:]) or f"exit status {done.returncode}"
            raise CalculatorError("no parameters", f"{molecule.name}: GAFF2: {program} failed: {reason}")


def _folder(given: str | Path | None) -> Path:
    """The folder that holds the programs.

    Raises:
        FileNotFoundError: when there is none.
    """
    found = shutil.which("antechamber")
    places = [Path(found).parent] if found else []
    if home := os.environ.get("AMBERHOME"):
        places.append(Path(home) / "bin")
    places = [Path(given)] if given is not None else [*places, Path(".engines/bin"), _CHECKOUT / ".engines" / "bin"]
    for place in places:
        if all((place / program).is_file() for program in _PROGRAMS):
            return place.resolve()
    raise FileNotFoundError(
        f"GAFF2 needs {', '.join(_PROGRAMS)} of AmberTools, not found in {given or 'the path, $AMBERHOME and .engines'}"
        "; install it with: bash scripts/install_engines.sh, or conda install -c conda-forge ambertools"
    )


def _write_sdf(molecule: Molecule, path: Path) -> None:
    """Write a molecule with a geometry, which antechamber takes for its bonds only.

    Raises:
        CalculatorError: when it cannot be embedded.
    """
    try:
        xyz = embed(molecule, 1)[0]
    except ChemistryError as error:
        raise CalculatorError("no geometry", str(error)) from error
    mol = to_rdkit(molecule, xyz)
    Chem.Kekulize(mol, clearAromaticFlags=True)
    with Chem.SDWriter(str(path)) as writer:
        writer.write(mol)
