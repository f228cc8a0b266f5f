"""Receivers: what happens when Django, or this package, sends a signal."""
