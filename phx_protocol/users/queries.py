"""The functions that say who is online, and when others were."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Iterable
from typing import Any, TypeVar

from django.core.exceptions import ImproperlyConfigured

from ..conf import options
from ..exceptions import StateMoved
from ..node.blocking import sync
from ..node.heartbeat import Heartbeat
from ..node.node import get_node
from ..state.occupancy import USER, Seen

User = TypeVar("User")


async def aonline(users: Iterable[User]) -> set[User]:
    """Return those of `users` that have a connection to any process.

    `users` are users, or their primary keys. One who left less than OFFLINE_AFTER seconds ago is still
    online; one who came less than a second ago may not be yet. It is one round trip to the state, for
    hundreds of users. Raises StateError, and ImproperlyConfigured without TRACK_USERS.
    """
    return {user for user, seen in await _look(users) if seen.is_here}


async def alast_seen(users: Iterable[User]) -> dict[User, datetime.datetime | None]:
    """Return when each of `users` had a connection last: now for one who has, None if it is not known.

    It is known for 30 days, if the state does not lose its data. As ``aonline`` otherwise.
    """
    return {user: _time(seen.at) for user, seen in await _look(users)}


async def _look(users: Iterable[User]) -> list[tuple[User, Seen]]:
    if not options().track_users:
        raise ImproperlyConfigured(
            "PHX_PROTOCOL['TRACK_USERS'] is off: nobody knows who is online."
        )
    users = list(users)
    try:
        return await _ask_all(users)
    except StateMoved:
        await get_node().placement.settled()
        return await _ask_all(users)


async def _ask_all(users: list[User]) -> list[tuple[User, Seen]]:
    node, by_server = get_node(), dict[Heartbeat, list[User]]()
    for user in users:
        by_server.setdefault(node.heartbeat_of(_key_of(user)), []).append(user)
    asked = (_ask(beat, some) for beat, some in by_server.items())
    return [pair for answer in await asyncio.gather(*asked) for pair in answer]


async def _ask(beat: Heartbeat, users: list[User]) -> list[tuple[User, Seen]]:
    names = [_key_of(user) for user in users]
    with beat.state_call(reads=True):
        occupancy = beat.state.occupancy(USER)
        return list(zip(users, await occupancy.look(names, options().offline_after)))


def _key_of(user: Any) -> str:
    return str(getattr(user, "pk", user))


def _time(seconds: float | None) -> datetime.datetime | None:
    if seconds is None:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)


online = sync(aonline)
last_seen = sync(alast_seen)
