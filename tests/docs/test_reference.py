"""The reference says what the code has: each setting, check, signal, and the layer's message."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import phx_protocol
from phx_protocol import Channel, Socket, signals
from phx_protocol.checks.values import TYPES
from phx_protocol.conf import DRAINER, LONGPOLL, OUTBOUND, STATE, WEBSOCKET, Options
from phx_protocol.pubsub import group_name
from phx_protocol.testing import connect
from tests.docs.blocks import Block, of
from tests.support.tables import names, rows

PACKAGE = Path(phx_protocol.__file__).parent
NAMES = {Mapping: "dict", type(None): "None"}


# ---------------------------------------------------------------------- settings


def defaults_of(heading: str) -> dict[str, Any]:
    """The first column of a table of settings, with the third one's value."""
    return {
        names(row[0])[0]: ast.literal_eval(names(row[2])[0])
        for row in rows("settings.md", heading)
    }


def test_every_setting_is_there_with_its_default_and_no_other() -> None:
    said = defaults_of("All settings")
    said["FILTER_PARAMETERS"] = tuple(said["FILTER_PARAMETERS"])
    options = Options()
    assert said == {
        name.upper(): getattr(options, name) for name in Options.__dataclass_fields__
    }


@pytest.mark.parametrize(
    ("name", "default"),
    {
        "WEBSOCKET": WEBSOCKET,
        "LONGPOLL": LONGPOLL,
        "OUTBOUND": OUTBOUND,
        "DRAINER": DRAINER,
        "STATE": STATE,
    }.items(),
)
def test_every_part_of_a_setting_is_there_with_its_default(
    name: str, default: dict[str, Any]
) -> None:
    assert defaults_of(name) == default


def test_the_types_of_settings_are_those_that_are_checked() -> None:
    said = {names(row[0])[0]: row[1] for row in rows("settings.md", "All settings")}
    del said["CHECK_ORIGIN"]  # which has a check of its own
    assert {name: set(types.split(" or ")) for name, types in said.items()} == {
        name: set(spelled(types)) for name, types in TYPES.items()
    }


def spelled(types: tuple[type, ...]) -> Iterator[str]:
    for kind in types:
        if float in types and kind in (int, float):
            yield "number"
        elif kind in (list, tuple, set, frozenset):
            yield "list"
        else:
            yield NAMES.get(kind, kind.__name__)


def test_every_number_has_a_unit_and_every_setting_says_what_phoenix_calls_it() -> None:
    for heading in ("All settings", "LONGPOLL", "OUTBOUND", "DRAINER", "STATE"):
        for name, kind, _, unit, in_phoenix, *_ in rows("settings.md", heading):
            assert unit or not {"int", "number"} & set(kind.split(" or ")), name
            assert in_phoenix, name


def test_the_attributes_of_classes_that_are_named_exist() -> None:
    page = (PACKAGE.parent / "docs/settings.md").read_text()
    own = [n for n in names(page.split("## On the classes")[1]) if n.islower()]
    assert own and all(hasattr(Socket, n) or hasattr(Channel, n) for n in own)


# ------------------------------------------------------------------------ checks


def test_every_check_is_explained_and_no_other() -> None:
    said = []
    for row in [
        row
        for part in ("Errors", "Warnings", "Advice")
        for row in rows("checks.md", part)
    ]:
        said += names(row[0])
        assert all(row), "what it found, and what to do"
    places = [*PACKAGE.glob("checks/*.py"), *PACKAGE.glob("*/checks.py")]
    source = "".join(path.read_text() for path in places)
    assert sorted(said) == sorted(set(re.findall(r"phx_protocol\.[EWI]\d{3}", source)))


# ----------------------------------------------------------------------- signals


def emitted() -> dict[str, set[str]]:
    """The arguments with which each signal is emitted somewhere."""
    outages = {
        "_failed": ("layer_failed", "state_failed"),
        "_recovered": ("layer_recovered", "state_recovered"),
    }
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            function = getattr(node, "func", None)
            if not isinstance(node, ast.Call) or not isinstance(
                function, ast.Attribute
            ):
                continue
            if function.attr == "emit":
                said = ast.unparse(function.value).split(".")[-1]
                arguments = {k.arg or "..." for k in node.keywords}
                for name in outages.get(said, (said,)):
                    found.setdefault(name, set()).update(arguments)
    return found


def test_every_signal_is_there_with_its_arguments_and_no_other() -> None:
    said = {
        names(row[0])[0]: set(names(row[2])) for row in rows("metrics.md", "Signals")
    }
    made = {
        n for n, value in vars(signals).items() if isinstance(value, signals.Signal)
    }
    assert set(said) == made
    for name, arguments in emitted().items():
        if "..." in arguments:  # some are in a dict
            assert arguments - {"..."} <= said[name], name
        else:
            assert arguments == said[name], name


def test_every_signal_that_is_sent_once_is_there_and_no_other() -> None:
    said = rows("users.md", "When somebody comes or goes")
    made = [
        n
        for n, value in vars(signals).items()
        if isinstance(value, signals.AwaitedSignal)
    ]
    assert [names(row[0])[0] for row in said] == made
    for row in said:
        about = names(row[0])[0].partition("_")[0]
        assert names(row[1]) == [about, "id", "at"]


# ------------------------------------------------------------- the layer's message


def on_the_layer() -> list[Block]:
    return [block for block in of("python") if block.page == "layer-message.md"]


async def test_what_foreign_code_sends_reaches_the_clients() -> None:
    class RoomChannel(Channel):
        async def join(self, payload: Any) -> str:
            return "ok"

    class RoomSocket(Socket):
        channels = {"room:*": RoomChannel}

    made: dict[str, Any] = {}
    exec(on_the_layer()[0].code, made)
    socket = await connect(RoomSocket)
    room = await socket.join("room:lobby")
    await made["say_hello"]()
    await room.assert_push("new_msg", {"body": "hello"})
    await socket.close()


@pytest.mark.parametrize(
    "topic", ["room:lobby", "room.lobby", "a b/ü:1", "x" * 100, "", "Ä" * 50]
)
def test_a_group_is_named_as_the_page_says(topic: str) -> None:
    made: dict[str, Any] = {}
    exec(on_the_layer()[1].code, made)
    assert made["group_name"](topic) == group_name(topic)
