"""Connections over WebSocket."""

from .consumer import PhoenixConsumer

__all__ = ["PhoenixConsumer"]
