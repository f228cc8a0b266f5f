"""A site as a project has it: an Origin that is checked, long-poll with a window that a test can wait for."""

from __future__ import annotations

from tests.conformance.settings import *  # noqa: F401,F403

PHX_PROTOCOL = {"LONGPOLL": {"WINDOW": 2.0}}
