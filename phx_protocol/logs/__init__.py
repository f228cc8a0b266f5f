"""Logs: loggers that hold back what repeats itself, and what of a client's text may be written."""

from .loggers import get_logger

__all__ = ["get_logger"]
