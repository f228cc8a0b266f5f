"""Logs: loggers that suppress repeated records, and functions that make a client's text safe to log."""

from .loggers import get_logger

__all__ = ["get_logger"]
