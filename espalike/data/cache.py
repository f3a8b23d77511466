"""A cache that forgets what was not used for longest once it holds too many bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """A value that knows how much memory it takes."""

    @property
    def nbytes(self) -> int:
        """Memory [byte]."""


V = TypeVar("V", bound=Sized)


class ByteCache(Generic[V]):
    """Values by key, at most `limit` bytes of them. A copy that travels to another process starts empty.

    Attributes:
        limit: most bytes that are kept.
        nbytes: bytes that are kept now.
    """

    def __init__(self, limit: int):
        self.limit, self.nbytes = limit, 0
        self._values: OrderedDict[Hashable, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def __reduce__(self):
        return ByteCache, (self.limit,)

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """The value kept under a key, made now if there is none. One larger than the limit is not kept."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        value = make()
        if value.nbytes <= self.limit:
            self._values[key] = value
            self.nbytes += value.nbytes
            while self.nbytes > self.limit:
                self.nbytes -= self._values.popitem(last=False)[1].nbytes
        return value
