"""Lava 0.10.0, the last one, made importable: on Python from 3.11 on, and where forking is the start method already.

Two lines of Lava's fail at import. `x: ByteEncoder = ByteEncoder()` in magma/compiler/var_model.py has a default
without a hash, which dataclasses refuse from Python 3.11 on; and `set_start_method("fork")` in
magma/runtime/message_infrastructure/multiprocessing.py may be called once only. Both are helped while Lava is
imported, and no longer; no installed file is changed.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

FORK = "fork"


@contextmanager
def importable() -> Iterator[None]:
    """Within it, Lava imports. Raises RuntimeError where processes are started in another way than by forking, which
    Lava cannot do without."""
    dataclass, start = dataclasses.dataclass, multiprocessing.set_start_method

    def hashable(cls: Any = None, /, **options: Any) -> Any:
        if cls is not None and cls.__name__ == "ByteEncoder" and cls.__module__.startswith("lava."):
            options["unsafe_hash"] = True
        return dataclass(cls, **options)

    def fork(method: str | None, force: bool = False) -> None:
        current = multiprocessing.get_start_method(allow_none=True)
        if current not in (None, FORK):
            raise RuntimeError(
                f"Lava forks its processes, and this program starts them by {current!r}: "
                "leave out multiprocessing.set_start_method, or call it with 'fork'"
            )
        start(method, force=True)

    dataclasses.dataclass = hashable
    multiprocessing.set_start_method = fork
    try:
        yield
    finally:
        dataclasses.dataclass = dataclass
        multiprocessing.set_start_method = start
