"""SIGTERM and SIGINT: a process drains its sockets before its server handles the signal.

uvicorn closes every socket before it sends ``lifespan.shutdown``, and Daphne has no lifespan. So
with the first socket we replace the server's own signal handlers by one that drains, and then
calls them. A second signal goes to the server at once.

hypercorn stops its workers by an event, and granian by a handler of the event loop, which we
cannot replace: there the operator runs ``phx_drain`` before the signal.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import functools
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from ..concurrency.callbacks import start_threads
from ..concurrency.tasks import begin
from ..conf import options
from ..logs import get_logger

if TYPE_CHECKING:
    from .node import Node

logger = get_logger("phx_protocol.socket")

# the signals that the platform has: only Windows has SIGBREAK (Ctrl-Break)
NAMES = ("SIGTERM", "SIGINT", "SIGBREAK")
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))

#: seconds that a development server waits for its sockets before it reloads code
RELOAD_TIMEOUT = 1.0

Handler = Callable[[int, FrameType | None], Any]


class DrainOnSignal:
    """The signal handler that drains the sockets, and then calls the server's handlers."""

    def __init__(self, node: Node, servers: dict[int, Handler]) -> None:
        self._node = node
        self._servers = servers
        self._task: asyncio.Task[None] | None = None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Handle a signal. Python may call this at any point of the main thread."""
        if self._task is None and self._node.loop.is_running():
            self._node.loop.call_soon_threadsafe(self._begin, signum)
        else:
            self._hand_on(signum)

    def _begin(self, signum: int) -> None:
        if self._task is None:
            self._task = begin(self._run(signum))
        else:
            self._hand_on(signum)

    async def _run(self, signum: int) -> None:
        try:
            await self._node.drainer.run()
            await self._node.close()  # so that its data is removed before its lease is over
        except Exception:
            logger.exception("draining the sockets failed")
        finally:
            self._hand_on(signum)

    def _hand_on(self, signum: int) -> None:
        """Install the server's handlers again, and call the one for `signum`."""
        for number, handler in self._servers.items():
            if signal.getsignal(number) is self:
                signal.signal(number, handler)
        self._servers[signum](signum, None)


def install_signal_handlers(node: Node) -> None:
    """Drain the sockets of `node` before the server of this process goes down."""
    if threading.current_thread() is not threading.main_thread():
        return  # the development server with reload: see close_sockets_at_exit
    if not options().drainer:
        return
    found: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    handlers = {n: handler for n, handler in found.items() if _is_of_a_server(handler)}
    if handlers:
        drain = DrainOnSignal(node, handlers)
        for number in handlers:
            signal.signal(number, drain)


def _is_of_a_server(handler: Any) -> bool:
    """Return True for a handler that a server installed; those of Python and asyncio need no call."""
    if not callable(handler) or handler is signal.default_int_handler:
        return False
    if isinstance(handler, functools.partial):
        handler = handler.func  # asyncio.Runner's
    module = getattr(handler, "__module__", None) or ""
    return not module.startswith(("asyncio", "uvloop", "signal", __name__))


def close_sockets_at_exit() -> None:
    """Close all sockets when this process exits, so that the clients connect again at once.

    This is for Django's development server: it runs in a thread, which no signal reaches, and the
    process exits to start again with the changed code. It waits RELOAD_TIMEOUT at most.
    """
    start_threads()
    # earlier than atexit, when sync handlers have no threads any more
    register = getattr(threading, "_register_atexit", atexit.register)
    register(_close_sockets)


def _close_sockets() -> None:
    from .node import all_nodes

    closing = [
        asyncio.run_coroutine_threadsafe(node.drainer.drain_now(), node.loop)
        for node in all_nodes()
    ]
    concurrent.futures.wait(closing, timeout=RELOAD_TIMEOUT)
