"""The settings of the conformance application, for rooms that are traced."""

from __future__ import annotations

from tests.conformance.settings import *  # noqa: F401,F403

PHX_PROTOCOL = {"SOCKETS": {"/socket": "tests.contrib.rooms.Doors"}}
