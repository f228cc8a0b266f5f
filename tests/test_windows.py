"""A platform without fork, without most signals, and without the modules that only POSIX has."""

from __future__ import annotations

from tests.support import servers

POSIX = """
import asyncio, concurrent.futures.thread, http.server, logging.handlers, multiprocessing.util
import os, random, signal, socket, ssl, subprocess, sys, tempfile, uuid

for name in ("register_at_fork", "fork", "forkpty", "getuid", "geteuid", "getgid", "getpgid",
             "killpg", "setsid", "uname", "sysconf", "nice", "wait", "getloadavg"):
    delattr(os, name)
for name in dir(signal):
    if name.startswith("SIG") and name[3:].isalpha() or name[3:4] == "U":
        if name not in ("SIGTERM", "SIGINT", "SIGABRT", "SIGFPE", "SIGILL", "SIGSEGV"):
            delattr(signal, name)
for name in ("pthread_sigmask", "sigwait", "alarm", "setitimer", "pause"):
    delattr(signal, name)
del socket.SO_REUSEPORT
for name in ("fcntl", "pwd", "grp", "resource", "termios", "tty", "pty", "syslog"):
    sys.modules[name] = None


class Loop(asyncio.SelectorEventLoop):
    def add_signal_handler(self, *args):
        raise NotImplementedError

    add_reader = add_writer = create_unix_server = add_signal_handler


class Policy(asyncio.DefaultEventLoopPolicy):
    _loop_factory = Loop


asyncio.set_event_loop_policy(Policy())
"""
SERVE = """
import importlib, pkgutil
import django
from django.conf import settings

settings.configure(
    DEBUG=True,
    SECRET_KEY="windows",
    INSTALLED_APPS=[
        *(f"django.contrib.{name}" for name in ("admin", "auth", "contenttypes", "messages")),
        "channels",
        "phx_protocol",
    ],
    CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()
import phx_protocol
from phx_protocol import Channel, Presence, Socket, broadcast, event

for module in pkgutil.walk_packages(phx_protocol.__path__, "phx_protocol."):
    importlib.import_module(module.name)


class Room(Channel):
    presence = Presence

    async def join(self, payload):
        return "ok"

    @event("echo")
    def echo(self, payload):
        return "ok", payload


class Rooms(Socket):
    channels = {"room:*": Room}


async def serve():
    from phx_protocol.testing import connect

    socket = await connect(Rooms)
    room = await socket.join("room:1")
    await room.assert_push("presence_state")
    await room.assert_reply(await room.push("echo", {"a": 1}), "ok", {"a": 1})
    await asyncio.to_thread(broadcast, "room:1", "news", {"b": 2})
    await room.assert_push("news", {"b": 2})
    await socket.close()


asyncio.run(serve())
from phx_protocol.testing import connect_sync

with connect_sync(Rooms) as socket:
    room = socket.join("room:1")
    broadcast("room:1", "news", {"b": 3})
    room.assert_push("news", {"b": 3})
broadcast("room:1", "news", {})  # now that no loop of a server runs
print("served")
"""


def test_it_is_imported_and_serves_where_posix_is_missing() -> None:
    done = servers.python(POSIX + SERVE, {"PYTHONWARNINGS": "ignore"}, timeout=60)
    assert (done.returncode, done.stdout) == (0, "served\n"), done.stderr
