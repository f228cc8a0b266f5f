"""The system checks: each misconfiguration has an id and a hint."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import WARNING, CheckMessage, Error, register

from ..conf import DRAINER, options
from ..logs import get_logger
from ..socket.socket import Socket
from .channels import check_channels, check_sockets
from .layer import check_layer, check_state
from .users import check_tracking
from .values import check_keys, check_parts, check_types, check_values

logger = get_logger("phx_protocol.checks")
# True if this process has shown the results, by a command of manage.py or by report()
_is_shown = False


@register("phx_protocol")
def check_settings(app_configs: Any = None, **kwargs: Any) -> list[CheckMessage]:
    global _is_shown
    _is_shown = True
    project = getattr(settings, "PHX_PROTOCOL", {})
    if not isinstance(project, dict):
        return [Error("PHX_PROTOCOL must be a dict.", id="phx_protocol.E001")]
    errors = [*check_keys(project), *check_types(project)]
    if errors:
        return errors  # the other checks need valid settings
    layer = [*check_layer()]
    return [
        *check_channels(options().channels, "CHANNELS"),
        *check_sockets(),
        *check_values(Socket),
        *check_tracking(),
        *check_parts("DRAINER", options().drainer, DRAINER),
        *layer,
        *(() if any(isinstance(found, Error) for found in layer) else check_state()),
    ]


def report() -> None:
    """Log the errors and warnings that ``manage.py check`` shows, once a process; never raise.

    Log nothing if a command of manage.py, such as runserver, has shown them before.
    """
    if _is_shown:
        return
    try:
        for found in check_settings():
            if found.is_serious(WARNING) and not found.is_silenced():
                logger.log(
                    found.level, "%s: %s %s", found.id, found.msg, found.hint or ""
                )
    except Exception:
        logger.exception("the system checks crashed")
