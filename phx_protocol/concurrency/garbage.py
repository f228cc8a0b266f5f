"""Garbage: how Python's collector behaves in a process that serves sockets.

A full collection looks through every object, also through those of Django and of the project,
which stay anyway: 40 ms in which no client is served.
"""

from __future__ import annotations

import gc
from typing import Any

from ..conf import options

_is_settled = False


def settle_once(scope: dict[str, Any]) -> None:
    """Apply the settings GC_FREEZE and GC_THRESHOLD, when the first client comes to this process.

    By then the project is imported. A test's `scope`, which no ASGI server has made, changes nothing.
    """
    global _is_settled
    if _is_settled or "asgi" not in scope:
        return
    _is_settled = True
    if options().gc_freeze:
        gc.collect()
        gc.freeze()
    if (threshold := options().gc_threshold) is not None:
        gc.set_threshold(threshold, *gc.get_threshold()[1:])
