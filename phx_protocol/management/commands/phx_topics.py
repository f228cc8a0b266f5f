"""manage.py phx_topics: list the topics that clients have joined."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from django.core.management.base import CommandParser

from phx_protocol.introspection import TopicDetails, describe_topics, list_topics
from phx_protocol.management.operators import ListCommand


@dataclasses.dataclass(frozen=True)
class Topic:
    """A topic as ``--json`` prints it."""

    topic: str
    channels: list[str]
    subscribers: int
    presences: int
    messages_per_second: float
    nodes: dict[str, int]


class Command(ListCommand):
    help = "Lists the topics that clients have joined, over all processes."
    columns = ("TOPIC", "SUBSCRIBERS", "PRESENCES", "MESSAGES/S", "CHANNEL")
    empty = "No topic is joined."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "pattern", nargs="?", default="*", help='only those like it: "room:*"'
        )
        super().add_arguments(parser)

    def rows(self, **options: Any) -> Iterable[tuple[Any, Sequence[Any]]]:
        pattern = options["pattern"]
        topics = [t for t in list_topics() if fnmatchcase(t.topic, pattern)]
        described = describe_topics(t.topic for t in topics)
        for info in topics:
            more = described.get(info.topic, TopicDetails([], 0, 0.0))
            counts = (info.subscribers, more.presences, more.messages_per_second)
            topic = Topic(info.topic, more.channels, *counts, info.nodes)
            yield topic, (info.topic, *counts, ", ".join(more.channels))
