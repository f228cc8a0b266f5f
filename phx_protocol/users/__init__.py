"""Who is online, when somebody was last online, and signals for users and topics that come and go.

This needs the setting TRACK_USERS; topics need TRACK_TOPICS. Each function has an async twin with an
``a`` before its name. The plain ones are for views, commands and the shell, and raise RuntimeError on
a running event loop. All raise StateError if the state cannot be reached.
"""

from . import occupants  # noqa: F401 - adds its part to every node
from .queries import alast_seen, aonline, last_seen, online

__all__ = ["alast_seen", "aonline", "last_seen", "online"]
