"""A real QCFractal server for tests: PostgreSQL, `qcfractal-server` and `qcfractal-compute-manager`, each a process.

PostgreSQL refuses to run as root, so there it runs as `postgres` or `nobody`, in a folder that belongs to that user.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import yaml

BIN = Path(sys.executable).parent
SECONDS = 180
"""How long a part may take to come up; a server starts three interpreters."""


def missing() -> str:
    """What a server needs and this machine lacks, or an empty text."""
    for module in ("qcportal", "qcfractal", "qcfractalcompute", "xtb"):
        if find_spec(module) is None:
            return f"needs {module} (bash scripts/install_engines.sh)"
    if _postgres("initdb") is None or _postgres("postgres") is None:
        return "needs PostgreSQL (apt-get install postgresql)"
    if os.geteuid() == 0 and _user() is None:
        return "PostgreSQL does not run as root, and there is no user postgres or nobody"
    return ""


def _postgres(program: str) -> Path | None:
    on_path = shutil.which(program)
    found = [Path(on_path)] if on_path else sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    return found[-1].resolve() if found else None


def _user() -> pwd.struct_passwd | None:
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    return None


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """Database, server and compute manager in a folder of their own; each part can be killed and started again."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="espalike-fractal-"))
        self.folder.chmod(0o755)
        self.ports = {"postgres": _free_port(), "server": _free_port()}
        self.address = f"http://127.0.0.1:{self.ports['server']}"
        self.processes: dict[str, subprocess.Popen] = {}
        self._initdb()
        self.start("postgres")
        self._write_settings()
        self._run("qcfractal-server", "--config", "server.yaml", "init-db")

    def start(self, *names: str) -> None:
        """Start `postgres`, `server` or `manager`, and wait until they work."""
        for name in names:
            getattr(self, f"_start_{name}")()

    def kill(self, name: str) -> None:
        """SIGKILL one part, with everything that it started."""
        process = self.processes.pop(name)
        with suppress(ProcessLookupError):  # a server that lost its database may have ended already
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        """End everything and remove the folder."""
        for name in ("manager", "server", "postgres"):
            if name in self.processes:
                self.kill(name)
        shutil.rmtree(self.folder)

    def client(self):
        """A client of the server."""
        from qcportal import PortalClient

        return PortalClient(self.address, show_motd=False)

    def log(self, name: str) -> str:
        """What a part has printed."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def _initdb(self) -> None:
        data = self.folder / "data"
        data.mkdir(mode=0o700)
        self._as = {"cwd": data}
        if os.geteuid() == 0:
            user = _user()
            os.chown(data, user.pw_uid, user.pw_gid)
            self._as |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        command = [
            _postgres("initdb"),
            "-D",
            data,
            "-U",
            "qcf",
            "--auth=trust",
            "--no-sync",
            "--no-locale",
            "-E",
            "UTF8",
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=SECONDS, **self._as)

    def _start_postgres(self) -> None:
        data, port = self.folder / "data", self.ports["postgres"]
        options = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-p", str(port)]
        self._spawn("postgres", [_postgres("postgres"), "-D", data, *options], **self._as)
        import psycopg2

        def ready() -> None:
            try:  # after a kill it takes connections before it has recovered, and closes them
                psycopg2.connect(host="127.0.0.1", port=port, user="qcf", dbname="postgres").close()
            except psycopg2.OperationalError as error:
                raise OSError("not yet") from error

        self._until("postgres", ready)

    def _start_server(self) -> None:
        self._spawn("server", [BIN / "qcfractal-server", "--config", "server.yaml", "start"])
        self._until("server", lambda: urllib.request.urlopen(f"{self.address}/api/v1/ping", timeout=5).close())

    def _start_manager(self) -> None:
        begin = len(self.log("manager")) if (self.folder / "manager.log").exists() else 0
        self._spawn("manager", [BIN / "qcfractal-compute-manager", "--config", "manager.yaml"])

        def ready() -> None:
            if "successfully started" not in self.log("manager")[begin:]:
                raise OSError("not yet")

        self._until("manager", ready)

    def _spawn(self, name: str, command: list, **options) -> None:
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=self._environment(),
                **({"cwd": self.folder} | options),
            )

    def _run(self, program: str, *arguments: str) -> None:
        command = [BIN / program, *arguments]
        options = {"cwd": self.folder, "env": self._environment(), "capture_output": True, "timeout": SECONDS}
        subprocess.run(command, check=True, **options)

    def _environment(self) -> dict[str, str]:
        # the manager computes with the first python3 on the path
        return os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}

    def _until(self, name: str, ready) -> None:
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                return ready()
            except (OSError, urllib.error.URLError):
                if self.processes[name].poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{name} did not start:\n{self.log(name)[-3000:]}") from None
            time.sleep(0.2)

    def _write_settings(self) -> None:
        database = {"host": "127.0.0.1", "port": self.ports["postgres"], "own": False}
        server = {
            "enable_security": False,
            "service_frequency": 1,  # the default, 60 s, is waited for in each step of a torsion drive
            "heartbeat_frequency": 2,
            "heartbeat_frequency_jitter": 0.0,
            "heartbeat_max_missed": 3,
            "database": database | {"database_name": "qcf", "username": "qcf", "password": "none"},
            "api": {
                "host": "127.0.0.1",
                "port": self.ports["server"],
                "secret_key": "s" * 40,
                "jwt_secret_key": "j" * 40,
                "user_session_cookie_secure": False,
            },
        }
        local = {
            "type": "local",
            "max_workers": 1,
            "cores_per_worker": 1,
            "memory_per_worker": 1,
            "compute_tags": ["*"],
        }
        manager = {
            "cluster": "tests",
            "update_frequency": 1,
            "update_frequency_jitter": 0.0,
            "server": {"fractal_uri": self.address, "verify": False},
            "executors": {"local": local | {"scratch_directory": str(self.folder)}},
        }
        for name, settings in (("server", server), ("manager", manager)):
            (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(settings))
