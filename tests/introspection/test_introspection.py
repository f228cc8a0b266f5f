"""The front of introspection."""

from __future__ import annotations

import inspect

from phx_protocol import introspection


def test_every_function_that_asks_others_has_a_twin_for_the_event_loop() -> None:
    functions = {
        name: found
        for name in introspection.__all__
        if inspect.isfunction(found := getattr(introspection, name))
    }
    waiting = {n for n, f in functions.items() if inspect.iscoroutinefunction(f)}
    assert waiting == {
        f"a{name}" for name in functions.keys() - waiting - {"sees_one_process"}
    }
