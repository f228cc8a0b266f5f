"""Long-poll: connections over plain HTTP requests, to which phoenix.js falls back."""

from .consumer import LongPollConsumer

__all__ = ["LongPollConsumer"]
