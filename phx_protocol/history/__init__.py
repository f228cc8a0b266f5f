"""History: broadcasts that are kept, for clients that come back."""

from . import streams  # noqa: F401 - every node has them
from .policy import History

__all__ = ["History"]
