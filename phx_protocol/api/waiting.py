"""run(): synchronous code waits for a coroutine of the API."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from ..exceptions import BroadcastError
from ..node import blocking


def run(coroutine: Coroutine[Any, Any, None], name: str) -> None:
    try:
        blocking.run(coroutine, name[1:], f"await {name}(...)")
    except TimeoutError as error:
        raise BroadcastError(f"the channel layer did not answer: {error}") from error
