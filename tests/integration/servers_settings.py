"""The settings of a process with the lists of servers in the variable PHX_SERVERS."""

from __future__ import annotations

import json
import os

from tests.conformance.settings import *  # noqa: F401,F403
from tests.support import leases

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "phx_protocol.layers.RedisLayer",
        "CONFIG": json.loads(os.environ["PHX_SERVERS"]),
    },
}
PHX_PROTOCOL = {
    "SOCKETS": {"/socket": os.environ["PHX_SOCKET"]},
    "STATE": leases.state(),
}
