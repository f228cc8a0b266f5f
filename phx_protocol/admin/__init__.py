"""The admin of live topics, connections, users and nodes. Django loads it with its own admin."""

from .connections import ConnectionAdmin
from .nodes import NodeAdmin
from .topics import TopicAdmin
from .users import OnlineUserAdmin

__all__ = ["ConnectionAdmin", "NodeAdmin", "OnlineUserAdmin", "TopicAdmin"]
