"""The settings of the conformance application, with a lease that a test can wait for."""

from __future__ import annotations

from tests.conformance.settings import *  # noqa: F401,F403

PHX_PROTOCOL = {"STATE": {"LEASE": 2.0}}
