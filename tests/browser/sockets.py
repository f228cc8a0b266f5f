from __future__ import annotations

import os

from tests.clients.sockets import ClientSocket


class PageSocket(ClientSocket):
    """The clients' socket for pages of one origin. Its requests are logged."""

    check_origin = os.environ.get("PHX_PAGE_ORIGIN", "").split()
    transport_log = "WARNING"  # the lowest that the settings let through
