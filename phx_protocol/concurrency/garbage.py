"""Garbage: how Python's collector behaves in a process that serves sockets.

A full collection looks through every object, also through those of Django and of the project,
which stay anyway: 40 ms in which no client is served.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator

from ..conf import options

_is_settled = False


def settle() -> None:
    """Apply the settings GC_FREEZE and GC_THRESHOLD, once a process, before it serves a client.

    The project is imported by then. Objects of a client that is there would stay for ever, if they
    refer to each other.
    """
    global _is_settled
    if _is_settled:
        return
    _is_settled = True
    if options().gc_freeze:
        gc.collect()
        gc.freeze()
        # Python makes the next full collection when the new objects are a quarter of those that the
        # last one has examined. This one examines nothing, so garbage does not pile up.
        gc.collect()
    if (threshold := options().gc_threshold) is not None:
        gc.set_threshold(threshold, *gc.get_threshold()[1:])


_lock = threading.Lock()
_resting = 0  # how many blocks are run now
_was_on = True


@contextlib.contextmanager
def no_collection() -> Iterator[bool]:
    """Keep the collector from running in the block; give it whether it runs otherwise.

    The block makes many lists and objects that are needed. The collector would run for each 700 of
    them, and take more time than making them; afterwards it looks at them once.
    """
    global _resting, _was_on
    with _lock:
        if not _resting:
            _was_on = gc.isenabled()
            gc.disable()
        _resting += 1
    try:
        yield _was_on
    finally:
        with _lock:
            _resting -= 1
            if not _resting and _was_on:
                gc.enable()
