"""The checks of TRACK_USERS and TRACK_TOPICS."""

from __future__ import annotations

import math
from collections.abc import Iterator

from django.core.checks import CheckMessage, Error, Warning

from .. import signals
from ..conf import options
from ..exceptions import InvalidTopicPattern
from ..wire.topics import check_pattern

#: setting -> the signals that need it
NEEDED = {
    "TRACK_USERS": ("user_online", "user_offline"),
    "TRACK_TOPICS": ("topic_occupied", "topic_vacated"),
}


def check_tracking() -> Iterator[CheckMessage]:
    for pattern in options().track_topics:
        try:
            check_pattern(pattern)
        except InvalidTopicPattern as error:
            yield Error(
                f"TRACK_TOPICS: {error}",
                hint='Write topics and beginnings of topics: ["room:lobby", "game:*"].',
                id="phx_protocol.E019",
            )
    if not math.isfinite(options().offline_after):
        yield Error(
            "OFFLINE_AFTER must have an end.",
            hint="Write a number of seconds, such as 5.",
            id="phx_protocol.E019",
        )
    for setting, names in NEEDED.items():
        heard = [name for name in names if getattr(signals, name).receivers]
        if heard and not getattr(options(), setting.lower()):
            yield Warning(
                f"{' and '.join(heard)} will never be sent: {setting} is off.",
                hint=f"Set PHX_PROTOCOL[{setting!r}], or disconnect the receivers.",
                id="phx_protocol.W009",
            )
