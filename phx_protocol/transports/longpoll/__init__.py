"""Connections over HTTP requests, which phoenix.js falls back to."""

from .consumer import LongPollConsumer

__all__ = ["LongPollConsumer"]
