"""Functions that list nodes, topics, sockets, presences and histories of all processes.

Each function has an async twin with an ``a`` before its name. The plain functions are for views,
commands and the shell, and raise RuntimeError on a running event loop. All raise StateError
if the state cannot be reached. With a state in memory they see only this process.
"""

from . import report  # noqa: F401 - adds its part to every node
from .infos import (
    HistoryInfo,
    LatencyInfo,
    NodeInfo,
    SocketInfo,
    TopicDetails,
    TopicInfo,
)
from .queries import (
    abusiest_topics,
    adescribe_topics,
    ahistory,
    alatencies,
    alist_nodes,
    alist_presences,
    alist_sockets,
    alist_topics,
    aserver_of,
    busiest_topics,
    describe_topics,
    history,
    latencies,
    list_nodes,
    list_presences,
    list_sockets,
    list_topics,
    sees_one_process,
    server_of,
)

__all__ = [
    "HistoryInfo",
    "LatencyInfo",
    "NodeInfo",
    "SocketInfo",
    "TopicDetails",
    "TopicInfo",
    "abusiest_topics",
    "adescribe_topics",
    "ahistory",
    "alatencies",
    "alist_nodes",
    "alist_presences",
    "alist_sockets",
    "alist_topics",
    "aserver_of",
    "busiest_topics",
    "describe_topics",
    "history",
    "latencies",
    "list_nodes",
    "list_presences",
    "list_sockets",
    "list_topics",
    "server_of",
    "sees_one_process",
]
