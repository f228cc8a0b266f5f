"""Rooms that are kept, and a loud one."""

from __future__ import annotations

from phx_protocol import History, Presence, Socket
from tests.support.rooms import OpenRoom


class Room(OpenRoom):
    history = History()
    presence = Presence


class RoomSocket(Socket):
    channels = {"kept:*": Room, "kept.loud": OpenRoom, "*": OpenRoom}
