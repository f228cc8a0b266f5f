"""The node: what one event loop of one process is among the others."""
