from __future__ import annotations

import functools
import itertools
import os
import signal
from collections.abc import Callable
from typing import Any

from django.apps import AppConfig
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

_steps = itertools.count(1)
_last = float(os.environ.get("PHX_TEST_DIE_AT", "inf"))


def _step() -> None:
    if next(_steps) == _last:
        os.kill(os.getpid(), signal.SIGKILL)


def _dying(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    def dies(*args: Any, **kwargs: Any) -> Any:
        _step()
        result = call(*args, **kwargs)
        _step()
        return result

    return dies


def _dying_later(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    async def dies(*args: Any, **kwargs: Any) -> Any:
        _step()
        result = await call(*args, **kwargs)
        _step()
        return result

    return dies


def _execute(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
) -> Any:
    return _dying(execute)(sql, params, many, context)


def _created(connection: Any, **kwargs: Any) -> None:
    connection.execute_wrappers.append(_execute)


class DyingConfig(AppConfig):
    name = "tests.integration.dying"
    label = "dying"

    def ready(self) -> None:
        from phx_protocol.pubsub.pubsub import PubSub
        from phx_protocol.state.redis import RedisState

        if _last == float("inf"):
            return
        connection_created.connect(_created, weak=False)
        wrapper: Any = BaseDatabaseWrapper
        wrapper._commit = _dying(wrapper._commit)
        pubsub, state = PubSub, RedisState
        pubsub.publish_rows = _dying_later(pubsub.publish_rows)  # type: ignore[method-assign]
        state.append = _dying_later(state.append)  # type: ignore[method-assign]
