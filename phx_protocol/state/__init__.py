"""What processes share: live nodes, topics, presences and history.

One small interface (``base.State``) with two homes: ``memory`` for a project of one process,
``redis`` for one of several. What a dead process owned goes when its lease ends.
"""

from .base import NOWHERE, Entries, Item, Kept, Position, State, is_behind
from .factory import backend, get_state

__all__ = [
    "NOWHERE",
    "Entries",
    "Item",
    "Kept",
    "Position",
    "State",
    "backend",
    "get_state",
    "is_behind",
]
