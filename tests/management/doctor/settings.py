"""A site as a project has it, with a poll window that a test can wait for."""

from __future__ import annotations

from tests.conformance.settings import *  # noqa: F401,F403

PHX_PROTOCOL = {
    "SOCKETS": {
        "/socket": "phx_protocol.Socket",
        "/open": "tests.management.doctor.sockets.OpenSocket",
        "/guarded": "tests.management.doctor.sockets.GuardedSocket",
        "/new": "tests.management.doctor.sockets.NewSocket",
    },
    "LONGPOLL": {"WINDOW": 3.0},
}
