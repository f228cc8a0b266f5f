"""Presence: who is on a topic, over all processes (``Phoenix.Presence``)."""

from .presence import Presence

__all__ = ["Presence"]
