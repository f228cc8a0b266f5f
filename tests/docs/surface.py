"""What is public: the names that a project may import, and what their classes have for users.

It is written to surface.txt, so that a change of it is seen in review::

    DJANGO_SETTINGS_MODULE=tests.settings python -m tests.docs.surface
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any

import django

PINNED = Path(__file__).parent / "surface.txt"

#: module -> its public names, or None: those in its ``__all__``
MODULES: dict[str, list[str] | None] = {
    "phx_protocol": None,
    "phx_protocol.admin": None,
    "phx_protocol.asgi": ["get_phoenix_application"],
    "phx_protocol.connect_info": ["ConnectInfo"],
    "phx_protocol.contrib.access_logs": ["FilterParameters", "install"],
    "phx_protocol.contrib.opentelemetry": ["instrument", "uninstrument"],
    "phx_protocol.contrib.prometheus": None,
    "phx_protocol.contrib.uvicorn": ["PhoenixWebSocketProtocol"],
    "phx_protocol.exceptions": [
        "DecodeError",
        "InvalidPayload",
        "InvalidTopicPattern",
        "StateRefused",
    ],
    "phx_protocol.introspection": None,
    "phx_protocol.limits": ["refusals"],
    "phx_protocol.models": ["Connection", "Node", "Topic"],
    "phx_protocol.pubsub": ["group_name"],
    "phx_protocol.routing": ["patterns"],
    "phx_protocol.server": ["Info", "ReplyRef"],
    "phx_protocol.signals": [
        "broadcast_delivered",
        "broadcast_sent",
        "channel_crashed",
        "channel_handled_in",
        "channel_joined",
        "channel_left",
        "layer_failed",
        "layer_recovered",
        "messages_dropped",
        "presence_changed",
        "refused",
        "socket_connected",
        "socket_disconnected",
        "socket_drain",
        "state_failed",
        "state_recovered",
    ],
    "phx_protocol.templatetags.phx_protocol": ["phx_token"],
    "phx_protocol.testing": None,
    "phx_protocol.tokens": [
        "SessionEnded",
        "TokenSocket",
        "sign",
        "user_of",
        "user_token",
        "verify",
    ],
    "phx_protocol.wire.messages": ["Broadcast", "Frame", "Message", "Reply"],
    "phx_protocol.wire.reasons": ["CloseCode", "Refusal"],
    "phx_protocol.wire.serializers": [
        "Serializer",
        "V1JSONSerializer",
        "V2JSONSerializer",
    ],
}
#: what stands in a class between what is for users and what is not
MARK = "- the implementation"
#: attributes without an underscore, in classes without the mark, that are for us all the same
OURS = [
    "*Admin.*",
    "Connection.*",
    "FilterParameters.*",
    "History.keeps",
    "LongPollConsumer.name",
    "Node.*",
    "PhoenixConsumer.close",
    "PhoenixConsumer.last_seen",
    "PhoenixConsumer.name",
    "PhoenixConsumer.pending_bytes",
    "PhoenixWebSocketProtocol.*",
    "TestChannel.deliver_broadcast",
    "TestChannel.fastlane",
    "TokenSocket.authorize",
    "Topic.*",
    "V?JSONSerializer.*",
]


def public() -> Iterator[tuple[str, Any]]:
    for module, names in MODULES.items():
        home = import_module(module)
        for name in home.__all__ if names is None else names:
            yield f"{module}.{name}", getattr(home, name)


def surface() -> Iterator[tuple[str, str]]:
    """Every public name, and how it is called."""
    for name, value in public():
        value = inspect.unwrap(value) if callable(value) else value
        if inspect.isclass(value):
            cls = parsed(value, MARK)
            assert isinstance(cls, ast.ClassDef)
            # other classes than exceptions are made by us, or are dataclasses
            made = cls.body if issubclass(value, Exception) else []
            yield name, "".join(called(n) for n in made if named(n) == ["__init__"])
            yield from attributes(name, cls)
        else:
            yield name, called(parsed(value)) if inspect.isfunction(value) else ""


def attributes(name: str, cls: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for node in cls.body:
        for attribute in named(node):
            is_ours = any(fnmatch(f"{cls.name}.{attribute}", ours) for ours in OURS)
            if not attribute.startswith("_") and not is_ours:
                yield f"{name}.{attribute}", called(node)


def parsed(value: Any, end: str = "\0") -> ast.stmt:
    """The definition of a class or function, up to the line with `end`."""
    source = textwrap.dedent(inspect.getsource(value))
    (node,) = ast.parse(re.split(f"\n.*{end}", source)[0]).body
    return node


def named(node: ast.stmt) -> list[str]:
    """What a statement in a class defines."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
    return [target.id for target in targets if isinstance(target, ast.Name)]


def called(node: ast.stmt) -> str:
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return ""
    if any(ast.unparse(made).endswith("property") for made in node.decorator_list):
        return ""
    return f"({ast.unparse(node.args)})"


def written() -> str:
    return "".join(f"{name}{how}\n" for name, how in surface())


if __name__ == "__main__":
    django.setup()
    PINNED.write_text(written())
