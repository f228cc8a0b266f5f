"""The admin of what is live: topics, connections, nodes. Django loads it with its own admin."""

from .connections import ConnectionAdmin
from .nodes import NodeAdmin
from .topics import TopicAdmin

__all__ = ["ConnectionAdmin", "NodeAdmin", "TopicAdmin"]
