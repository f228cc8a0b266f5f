"""phoenix.js's Presence, line by line, in Python: the list that a browser's tab shows."""

from __future__ import annotations

import copy
from typing import Any

State = dict[str, dict[str, Any]]


def sync_state(current: State, new: State) -> State:
    """``Presence.syncState``."""
    state, new = copy.deepcopy(current), copy.deepcopy(new)
    leaves = {key: presence for key, presence in state.items() if key not in new}
    joins = {}
    for key, newer in new.items():
        if key not in state:
            joins[key] = newer
            continue
        came = _without(newer["metas"], _refs(state[key]))
        left = _without(state[key]["metas"], _refs(newer))
        if came:
            joins[key] = {**newer, "metas": came}
        if left:
            leaves[key] = {**state[key], "metas": left}
    return sync_diff(state, {"joins": joins, "leaves": leaves})


def sync_diff(state: State, diff: dict[str, State]) -> State:
    """``Presence.syncDiff``."""
    diff = copy.deepcopy(diff)
    for key, came in diff["joins"].items():
        old = state.get(key)
        state[key] = came
        if old is not None:
            came["metas"][:0] = _without(old["metas"], _refs(came))
    for key, left in diff["leaves"].items():
        now = state.get(key)
        if now is None:
            continue
        now["metas"] = _without(now["metas"], _refs(left))
        if not now["metas"]:
            del state[key]
    return state


def _refs(presence: dict[str, Any]) -> list[str]:
    return [meta["phx_ref"] for meta in presence["metas"]]


def _without(metas: list[Any], refs: list[str]) -> list[Any]:
    return [meta for meta in metas if meta["phx_ref"] not in refs]


class Shown:
    """``new Presence(channel)``, and a note of all that came."""

    def __init__(self) -> None:
        self.state: State = {}
        self.states: list[State] = []
        self.diffs: list[dict[str, State]] = []
        self._pending: list[dict[str, State]] = []
        self._is_synced = False

    def joins(self) -> None:
        """The channel joins (again): what counts is the next state."""
        self._is_synced = False

    def take_state(self, new: State) -> None:
        self.states.append(new)
        self._is_synced = True
        self.state = sync_state(self.state, new)
        for diff in self._pending:
            self.state = sync_diff(self.state, diff)
        self._pending.clear()

    def take_diff(self, diff: dict[str, State]) -> None:
        self.diffs.append(diff)
        if self._is_synced:
            self.state = sync_diff(self.state, diff)
        else:
            self._pending.append(diff)

    def refs(self) -> dict[str, set[str]]:
        return {key: set(_refs(presence)) for key, presence in self.state.items()}

    def metas(self, name: str) -> dict[str, list[Any]]:
        """key -> what its metas say under `name`, sorted."""
        return {
            key: sorted(meta[name] for meta in presence["metas"])
            for key, presence in self.state.items()
        }
