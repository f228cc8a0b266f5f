"""The state that processes share: live nodes, topics, presences and histories.

One small interface (``base.State``) with two implementations: ``memory`` for a project of one
process, ``redis`` for several. When the lease of a dead process ends, what it owned is removed.
"""

from .base import (
    NOWHERE,
    STEP,
    Entries,
    Had,
    Item,
    Kept,
    Position,
    Row,
    State,
    is_behind,
)
from .factory import backend, get_state, get_states

__all__ = [
    "NOWHERE",
    "STEP",
    "Entries",
    "Had",
    "Item",
    "Kept",
    "Position",
    "Row",
    "State",
    "backend",
    "get_state",
    "get_states",
    "is_behind",
]
