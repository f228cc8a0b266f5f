"""Hidden servers: middleware that wraps ``send`` so that the server's object is not found."""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping
from typing import Any

from ...logs import get_logger
from ...node.part import PARTS, Call, Part
from .wrappers import below

logger = get_logger("phx_protocol.transport")

#: modules of servers and tests behind whose ``send`` there is no object that we could use
SILENT = ("hypercorn.", "granian.", "phx_protocol.testing.")
#: the same if no server made the scope: then the queue of a communicator counts too
COMMUNICATOR = (*SILENT, "asyncio.queues.")
#: the name of the call by which a node learns which middleware hides another node's server
HIDDEN = "hidden_server"

#: the warnings of this process about middleware that hides its server
hidden_by: list[str] = []


def note_hidden(scope: dict[str, Any], send: Any, missing: str) -> None:
    """Log once that the server behind `send` was not found, and what is `missing` for that reason."""
    silent = SILENT if "asgi" in scope else COMMUNICATOR
    is_silent = any(_name(inner).startswith(silent) for inner in below(send))
    _say_once(_name(send), missing, is_silent)


def _name(send: Any) -> str:
    """Return the dotted name of the object or function that a ``send`` belongs to."""
    if isinstance(send, functools.partial):
        send = send.func
    if isinstance(send, types.BuiltinMethodType | types.MethodType):
        owner = type(send.__self__)
        return f"{owner.__module__}.{owner.__qualname__}"
    kind = send if hasattr(send, "__qualname__") else type(send)
    return f"{kind.__module__}.{kind.__qualname__}"


@functools.lru_cache(maxsize=32)
def _say_once(name: str, missing: str, is_silent: bool) -> None:
    if is_silent:
        logger.info("of the ASGI server nothing is known but ASGI: %s", missing)
        return
    hides = f"middleware hides the ASGI server ({name}): {missing}"
    hidden_by.append(hides)
    logger.warning("%s", hides)


class HiddenServer(Part):
    """The part of a node that answers which middleware hides its ASGI server.

    Other nodes and ``phx_doctor`` call it.
    """

    @property
    def calls(self) -> Mapping[str, Call]:
        return {HIDDEN: self._answer}

    async def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"hidden_by": hidden_by}


PARTS.append(HiddenServer)
