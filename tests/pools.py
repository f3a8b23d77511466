"""Tasks of worker processes done in this process, where a test is not about processes: one takes seconds to start."""

import pickle
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager


class Here(Executor):
    """Does each task when it is submitted; what a worker process would get and return is pickled as for one."""

    def submit(self, function, /, *args, **options) -> Future:
        done: Future = Future()
        try:
            work, inputs, settings = pickle.loads(pickle.dumps((function, args, options)))
            done.set_result(pickle.loads(pickle.dumps(work(*inputs, **settings))))
        except Exception as error:
            done.set_exception(error)
        return done


@contextmanager
def here(processes: int) -> Iterator[Executor]:
    """What `espalike.workers.pool` is replaced by."""
    assert processes > 0
    yield Here()
