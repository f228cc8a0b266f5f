"""The node: one event loop of one process, and its connection to the other nodes."""
