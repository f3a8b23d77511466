"""Worker processes end with the program, however it ends, and leave nothing behind."""

import signal
import subprocess
import sys
import time

import pytest

from espalike.workers import pool

PROGRAM = """
import os, signal, sys, time
from espalike.workers import pool

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background jobs ignore it
    with pool(2) as workers:
        print(workers.submit(os.getenv, "OMP_NUM_THREADS").result(), flush=True)
        tasks = [workers.submit(time.sleep, 60) for _ in range(4)]
        time.sleep(0.5)
        print(*workers._processes, flush=True)
        tasks[0].result()
"""


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 1), (signal.SIGKILL, -9)])
def test_a_stop_ends_the_workers(sent, status, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout.readline() == "1\n"
        numbers = program.stdout.readline().split()
        assert len(numbers) == 2
        program.send_signal(sent)
        _, err = program.communicate(timeout=30)
    assert program.returncode in (status, -sent)
    if sent != signal.SIGKILL:  # nothing can be freed after that one
        assert "leaked" not in err
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(alive(number) for number in numbers):
        time.sleep(0.1)
    assert not any(alive(number) for number in numbers)


@pytest.mark.parametrize("stop", [SystemExit(143), KeyboardInterrupt()])
def test_a_stop_while_a_lock_is_released_is_that_stop(stop):
    """Python's lock then says that it is not held, and the program ended with status 1 and a traceback."""

    def wait():
        try:
            raise stop
        finally:
            raise RuntimeError("cannot release un-acquired lock")

    with pytest.raises(type(stop)) as caught, pool(1):
        wait()
    assert caught.value is stop


def alive(number):
    """Whether a process runs; one that has ended and waits for its parent does not count."""
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
