"""The subscribers of this process, and the fan-out to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ..exceptions import EncodeError
from ..logs import get_logger
from ..wire.messages import Broadcast

logger = get_logger("phx_protocol.pubsub")


class Fastlane(Protocol):
    """How a broadcast becomes what a subscriber's ``write`` takes; see ``socket.Fastlane``."""

    @property
    def serializer(self) -> Any: ...
    @property
    def prepare(self) -> Callable[[Any], Any]: ...
    @property
    def intercepts(self) -> frozenset[str]: ...
    @property
    def offsets(self) -> bool: ...
    def frame(self, broadcast: Broadcast) -> Any: ...


class Subscriber(Protocol):
    """Who gets the broadcasts of a topic.

    With a `fastlane` the finished frame goes to ``write``; without one, and for events that
    it intercepts, the broadcast goes to ``deliver_broadcast``. Neither ever waits.
    """

    @property
    def fastlane(self) -> Any: ...
    def deliver_broadcast(self, broadcast: Broadcast) -> None: ...


class Registry:
    """topic -> its subscribers, those with equal fastlanes together."""

    def __init__(self) -> None:
        self._topics: dict[
            str, dict[Any, dict[Subscriber, Callable[[Any], None] | None]]
        ] = {}
        self.changed: set[str] = set()  # topics where somebody came or went

    def __contains__(self, topic: str) -> bool:
        return topic in self._topics

    def __len__(self) -> int:
        return len(self._topics)

    def add(self, topic: str, subscriber: Subscriber) -> None:
        self.changed.add(topic)
        lanes = self._topics.setdefault(topic, {})
        lanes.setdefault(subscriber.fastlane, {})[subscriber] = getattr(
            subscriber, "write", None
        )

    def discard(self, topic: str, subscriber: Subscriber) -> None:
        self.changed.add(topic)
        lanes = self._topics.get(topic, {})
        members = lanes.get(subscriber.fastlane, {})
        members.pop(subscriber, None)
        if not members:
            lanes.pop(subscriber.fastlane, None)
        if not lanes:
            self._topics.pop(topic, None)

    def subscribers(self, topic: str) -> list[Subscriber]:
        return [s for members in self._topics.get(topic, {}).values() for s in members]

    def one_of_each_lane(self, topic: str) -> list[Subscriber]:
        """Of the channels that have joined `topic` one for each fastlane."""
        lanes = self._topics.get(topic, {})
        return [next(iter(members)) for lane, members in lanes.items() if lane]

    def count_joined(self, topic: str) -> int:
        """The channels that have joined `topic`: a fastlane is what they have."""
        lanes = self._topics.get(topic, {})
        return sum(len(members) for lane, members in lanes.items() if lane)

    def all_changed(self) -> None:
        """Have all topics counted (again)."""
        self.changed |= self._topics.keys()

    def deliver(
        self,
        broadcast: Broadcast,
        sender: Subscriber | None = None,
        from_id: str | None = None,
        strict: bool = True,
    ) -> int:
        """Hand `broadcast` to every subscriber but `sender`, or the channels of the client
        that is known as `from_id`; returns how many those are.

        Every frame is made before the first is written. One that cannot be made raises
        EncodeError, and nobody gets anything; if not `strict`, it is logged and only those
        who speak that version get nothing.
        """
        lanes = self._topics.get(broadcast.topic)
        if lanes is None:
            return 0
        excluded: set[Any] = set()
        if from_id is not None:
            excluded = self._known_as(lanes, from_id)
        elif sender is not None:
            excluded = {sender}
        delivered = 0
        for frame, members in self._frames(lanes, broadcast, strict):
            left_out = len(excluded & members.keys()) if excluded else 0
            if frame is None:
                for subscriber in tuple(members):
                    if subscriber not in excluded:
                        subscriber.deliver_broadcast(broadcast)
            elif left_out:
                for subscriber, write in tuple(members.items()):
                    if subscriber not in excluded:
                        write(frame)
            else:
                for write in tuple(members.values()):
                    write(frame)
            delivered += len(members) - left_out
        return delivered

    def _frames(self, lanes: dict[Any, Any], broadcast: Broadcast, strict: bool) -> Any:
        """Pairs of a frame (None: the broadcast itself) and those who get it."""
        made: dict[Any, Any] = {}
        pairs = []
        for lane, members in lanes.items():
            if lane is None or broadcast.event in lane.intercepts:
                pairs.append((None, members))
                continue
            offsets = broadcast.offset is not None and lane.offsets
            key = (lane.serializer, lane.prepare, offsets)
            if key not in made:
                try:
                    made[key] = lane.prepare(lane.frame(broadcast))
                except EncodeError as error:
                    if strict:
                        raise
                    logger.error(
                        "%s: %r cannot be sent: %s",
                        broadcast.topic,
                        broadcast.event,
                        error,
                    )
                    made[key] = None
            if made[key] is not None:
                pairs.append((made[key], members))
        return pairs

    @staticmethod
    def _known_as(lanes: dict[Any, Any], channel_id: str) -> set[Any]:
        """The channels of the client that has sent as `channel_id`."""
        return {
            subscriber
            for members in lanes.values()
            for subscriber in members
            if getattr(subscriber, "is_known_as", _never)(channel_id)
        }


def _never(channel_id: str) -> bool:
    return False
