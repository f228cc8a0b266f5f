"""The admin of live topics, connections and nodes. Django loads it with its own admin."""

from .connections import ConnectionAdmin
from .nodes import NodeAdmin
from .topics import TopicAdmin

__all__ = ["ConnectionAdmin", "NodeAdmin", "TopicAdmin"]
