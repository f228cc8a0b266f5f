"""What the tests of the checks share."""

from __future__ import annotations

from typing import Any

from django.core.checks import run_checks
from django.test import override_settings

REDIS = "phx_protocol.layers.RedisLayer"


def layer(backend: str, **config: Any) -> dict[str, Any]:
    return {"CHANNEL_LAYERS": {"default": {"BACKEND": backend, "CONFIG": config}}}


def found_in(phx: Any, django: dict[str, Any]) -> set[str]:
    """The ids of what the checks find, without their prefix; each has a hint, but for two."""
    with override_settings(PHX_PROTOCOL=phx, **{**layer(REDIS), **django}):
        messages = run_checks(tags=["phx_protocol"])
    ids = {str(message.id).removeprefix("phx_protocol.") for message in messages}
    hintless = {str(m.id).removeprefix("phx_protocol.") for m in messages if not m.hint}
    assert hintless <= {"E001", "E011"}
    return ids
