"""Labels computed by a QCFractal server: geometries are submitted as gradients, finished ones are collected.

The server tells computations apart by specification and molecule; one that is submitted again finds the record that is
there. So the client keeps no list of submissions: a client or a server that was killed continues where it was. Lengths
and energies are bohr and hartree in messages; https://docs.qcarchive.molssi.org describes server and records.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from espalike.chem.molecule import Molecule
from espalike.qm.base import Calculator, CalculatorError, Label, checked, finite
from espalike.qm.compute import Local, Task
from espalike.qm.qcengine import essential, qcschema
from espalike.qm.xtb import XTBCalculator
from espalike.units import BOHR, HARTREE

if TYPE_CHECKING:
    from qcportal import PortalClient

SMILES = "canonical_isomeric_explicit_hydrogen_mapped_smiles"
"""Where QCArchive keeps the mapped SMILES of a molecule, among its identifiers and extras."""

_ENDED = ("complete", "error", "invalid", "cancelled", "deleted")
_BATCH = 200
"""Geometries in one submission; servers take 500 by default."""
_QUERY = 2000
"""Records asked about in one request."""


@dataclass(frozen=True)
class Specification:
    """What is computed, in QCEngine's words.

    Attributes:
        program: QCEngine's name of the program.
        method: method in the program's names.
        basis: basis set in the program's names, or None.
        keywords: further settings of the program.
    """

    program: str
    method: str
    basis: str | None = None
    keywords: Mapping[str, Any] = field(default_factory=dict)


def specification(calculator: Calculator) -> Specification:
    """What a server has to compute to stand in for a calculator.

    Args:
        calculator: of GFN-xTB, or one that QCEngine runs: it has attributes `engine` (QCEngine's name of the program),
            `method`, `basis` and `keywords`.

    Raises:
        ValueError: when QCEngine does not run the calculator's program.
    """
    if isinstance(calculator, XTBCalculator):
        return Specification("xtb", calculator.level, None, {"accuracy": calculator.accuracy})
    engine = getattr(calculator, "engine", None)
    if engine is None:
        raise ValueError(
            f"{calculator.level} of {type(calculator).__name__} does not run on a QCFractal server, which computes "
            "with the programs of QCEngine: choose calculator=psi4, qcengine, gfn2-xtb or gfn1-xtb, or compute=local"
        )
    runs: Any = calculator
    return Specification(engine.lower(), runs.method, runs.basis, runs.keywords)


@dataclass(frozen=True, eq=False)
class _Geometry:
    task: Task
    k: int
    xyz: np.ndarray

    def fail(self, error: CalculatorError) -> None:
        self.task.directory.fail(self.task.job, self.k, error)


class QCFractal:
    """Labels computed by a QCFractal server; geometries are still made by worker processes here.

    Args:
        address: where the server listens, `http://host:port`.
        username: who submits, or None for a server without users.
        password_variable: environment variable that holds the password.
        tag: compute managers that serve this tag, or all tags, take the work.
        priority: `low`, `normal` or `high`.
        wait: wait until everything is computed; False submits, collects what is finished, and leaves.
        poll: time between two looks at the server [s].
        patience: how long the server may be away, once it has answered, before the job gives up [s].
        verify: check the server's TLS certificate.
        workers: processes that make geometries.

    Attributes:
        left: geometries that were still being computed at the end of the last call.
    """

    def __init__(
        self,
        address: str,
        username: str | None = None,
        password_variable: str = "QCFRACTAL_PASSWORD",
        tag: str = "*",
        priority: str = "normal",
        wait: bool = True,
        poll: float = 10.0,
        patience: float = 600.0,
        verify: bool = True,
        workers: int = 1,
    ):
        self.address = address
        self.username = username
        self.password_variable = password_variable
        self.tag = tag
        self.priority = priority
        self.wait = wait
        self.poll = poll
        self.patience = patience
        self.verify = verify
        self.workers = workers
        self.left = 0
        self._client: PortalClient | None = None
        self._met = False

    def __call__(self, tasks: Sequence[Task]) -> Iterator[Task]:
        """Do the tasks; see `espalike.qm.compute.Compute`. Each is submitted as soon as its geometries are made.

        Raises:
            ConnectionError: when the server does not answer, or was away for longer than `patience`.
            ValueError: when QCEngine cannot run the calculator, or the server refuses the user or the request.
        """
        if any(task.esp for task in tasks):
            raise ValueError("a QCFractal server returns no electrostatic potentials: esp=0, or compute=local")
        for task in tasks:
            specification(task.tools()[0])
        self._ask(lambda client: client.server_info)  # a wrong address or user is reported before geometries are made
        self.left = 0
        pending: dict[int, list[_Geometry]] = {}
        looked = time.monotonic()
        for task in self._prepared(tasks):
            self._submit(task, pending)
            yield task
            if time.monotonic() - looked > self.poll:
                yield from self._collect(pending)
                looked = time.monotonic()
        while pending:
            yield from self._collect(pending)
            self.left = sum(map(len, pending.values()))
            if not (pending and self.wait):
                return
            time.sleep(self.poll)

    def _prepared(self, tasks: Sequence[Task]) -> Iterator[Task]:
        """The tasks, those with geometries first, the others when their geometries are made."""
        missing = []
        for task in tasks:
            if task.directory.prepared(task.job):
                yield task
            else:
                missing.append(task)
        if missing:
            named = {(task.directory.root, task.job.name): task for task in missing}
            for made in Local(self.workers)([replace(task, frames=0) for task in missing]):
                yield named[made.directory.root, made.job.name]

    def _submit(self, task: Task, pending: dict[int, list[_Geometry]]) -> None:
        """Add the task's geometries without label to the server, and their records to `pending`."""
        unlabelled = task.directory.unlabelled(task.job, task.frames)
        what = specification(task.tools()[0])
        while batch := list(islice(unlabelled, _BATCH)):
            sent, molecules = [], []
            for geometry in (_Geometry(task, k, xyz) for k, xyz in batch):
                try:
                    molecules.append(server_molecule(task.job.molecule, geometry.xyz))
                    sent.append(geometry)
                except CalculatorError as error:
                    geometry.fail(error)
            meta, records = self._ask(partial(_add, molecules, what, {"tag": self.tag, "priority": self.priority}))
            if task.directory.retry and meta.existing_idx:
                self._ask(partial(_reset, [records[i] for i in meta.existing_idx]))
            refused = dict(meta.errors)
            for i, (geometry, record) in enumerate(zip(sent, records, strict=True)):
                if record is None:
                    why = f"{task.job.molecule.name}: not accepted: {refused.get(i, meta.error_description)}"
                    geometry.fail(CalculatorError("refused", why))
                else:
                    pending.setdefault(record, []).append(geometry)

    def _collect(self, pending: dict[int, list[_Geometry]]) -> Iterator[Task]:
        """Write what finished records say; they leave `pending`. Yields the tasks concerned, each once a request."""
        waiting = list(pending)
        for begin in range(0, len(waiting), _QUERY):
            concerned = {}
            for record in self._ask(partial(_ended, waiting[begin : begin + _QUERY])):
                for geometry in pending[record.id]:
                    self._keep(geometry, record)
                    concerned[id(geometry.task)] = geometry.task
                del pending[record.id]
            yield from concerned.values()

    def _keep(self, geometry: _Geometry, record) -> None:
        task = geometry.task
        what = specification(task.tools()[0])
        name = f"{task.job.molecule.name}: {what.program} {what.method}, record {record.id}"
        try:
            if record.status != "complete":
                raise _failure(name, record.status.value, self._ask(lambda client: record.error) or {})
            made = label(task.job.molecule, geometry.xyz, record.properties or {}, name)
        except CalculatorError as error:
            geometry.fail(error)
            return
        if record.provenance is not None:
            task.directory.note(f"{record.provenance.creator} {record.provenance.version}, QCFractal")
        task.directory.keep(task.job, {geometry.k: made})

    def _ask(self, request: Callable[[PortalClient], Any]) -> Any:
        """The answer to a request; a server that has been there before is waited for, as long as `patience` says."""
        from qcportal.client_base import PortalRequestError
        from qcportal.exceptions import AuthenticationFailure

        away = None
        while True:
            try:
                if self._client is None:
                    self._client, self._met = self._connected(), True
                return request(self._client)
            except PortalRequestError as error:
                if error.status_code < 500:
                    raise ValueError(f"{self.address}: {error.msg}") from error
                problem: Exception = error
            except AuthenticationFailure as error:
                raise ValueError(f"{self.address}: {error} (compute.username={self.username})") from error
            except ConnectionError as error:
                problem = error
            self._client = None  # it may have to log in again
            away = away or time.monotonic()
            if not self._met:
                raise ConnectionError(
                    f"{self.address}: no answer; is the address right, and the server up?"
                ) from problem
            if time.monotonic() - away > self.patience:
                raise ConnectionError(
                    f"{self.address}: no answer for {self.patience:g} s ({str(problem).strip()}). "
                    "Finished labels are kept; the same command continues from there"
                ) from problem
            time.sleep(min(self.poll, 5.0))

    def _connected(self) -> PortalClient:
        from qcportal import PortalClient

        password = os.environ.get(self.password_variable) if self.username else None
        if self.username and not password:
            raise ValueError(
                f"compute.username={self.username}: the environment variable {self.password_variable} holds no password"
            )
        return PortalClient(self.address, self.username, password, verify=self.verify, show_motd=False)


def _add(molecules: list, what: Specification, where: dict[str, str], client: PortalClient) -> tuple[Any, list]:
    return client.add_singlepoints(
        molecules,
        program=what.program,
        driver="gradient",
        method=what.method,
        basis=what.basis,
        keywords=dict(what.keywords),
        compute_tag=where["tag"],
        compute_priority=where["priority"],
        find_existing=True,
    )


def _reset(records: list[int], client: PortalClient) -> None:
    """Have those records that failed computed again."""
    if failed := [record.id for record in client.query_singlepoints(record_id=records, status=["error"])]:
        client.reset_records(failed)


def _ended(records: list[int], client: PortalClient) -> list:
    return list(client.query_singlepoints(record_id=records, status=_ENDED, include=["compute_history"]))


def _failure(name: str, status: str, error: Mapping[str, Any]) -> CalculatorError:
    reason = str(error.get("error_type", status)).replace("_", " ")
    message = str(error.get("error_message") or f"the server says {status}")
    return CalculatorError(reason, f"{name}: {essential(message)}")


def server_molecule(molecule: Molecule, xyz: np.ndarray) -> Any:
    """A geometry as the server takes it, a `qcportal.molecules.Molecule` in the frame of `xyz` [Å], shape `(A, 3)`.

    Raises:
        CalculatorError: when coordinates are not finite, or QCElemental refuses the molecule.
    """
    from qcportal.molecules import Molecule as ServerMolecule

    schema = qcschema(molecule, checked(molecule, xyz))
    try:
        return ServerMolecule(**schema, identifiers={SMILES: molecule.smiles}, extras={SMILES: molecule.smiles})
    except Exception as error:  # QCElemental's own errors share no type
        raise CalculatorError("molecule", f"{molecule.name}: QCElemental: {error}") from error


def label(molecule: Molecule, xyz: np.ndarray, properties: Mapping[str, Any], name: str) -> Label:
    """What the properties of a finished gradient computation say, in internal units.

    Args:
        molecule: the graph.
        xyz: the geometry that was submitted [Å], shape `(A, 3)`.
        properties: QCSchema's, in atomic units.
        name: what messages call it.

    Raises:
        CalculatorError: when energy or gradient are missing or not finite, or belong to another frame than `xyz`.
    """
    energy, gradient = properties.get("return_energy"), properties.get("return_result")
    if energy is None or gradient is None or np.size(gradient) != 3 * molecule.n_atoms:
        raise CalculatorError("incomplete", f"{name}: expected an energy and a gradient of {molecule.n_atoms} atoms")
    forces = -np.array(gradient, dtype=np.float64).reshape(-1, 3) * (HARTREE / BOHR)
    finite(molecule, name, energy, forces)
    arms = xyz - xyz.mean(0)
    torque = np.abs(np.cross(arms, forces).sum(0)).max()
    # 0.1 kcal/mol/Å per atom: what grids and unconverged orbitals leave
    allowed = (np.linalg.norm(arms, axis=1) * (0.05 * np.linalg.norm(forces, axis=1) + 0.1)).sum()
    if torque > allowed:
        raise CalculatorError(
            "frame", f"{name}: forces do not belong to these coordinates (torque {torque:.3g} kcal/mol)"
        )
    dipole = properties.get("scf_dipole_moment")
    scf = properties.get("scf_total_energy", energy)
    if dipole is not None and abs(scf - energy) < 1e-6:  # else it is not of this level
        return Label(energy * HARTREE, forces, np.array(dipole, dtype=np.float64).reshape(3) * BOHR)
    return Label(energy * HARTREE, forces)
