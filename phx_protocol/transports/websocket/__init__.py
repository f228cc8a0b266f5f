"""WebSocket: connections over an ASGI server's WebSockets."""

from .consumer import PhoenixConsumer

__all__ = ["PhoenixConsumer"]
