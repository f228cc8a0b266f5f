"""The subscribers of this process, and the fan-out to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import msgspec

from ..exceptions import EncodeError
from ..logs import get_logger
from ..logs.printable import in_words
from ..wire.messages import Broadcast, Frame
from ..wire.serializers import Serializer, V2JSONSerializer

logger = get_logger("phx_protocol.pubsub")

NEWEST = V2JSONSerializer()


class Fastlane(NamedTuple):
    """How a broadcast becomes a frame, and for which events it does not.

    Subscribers with equal ones get the very same frame, made once. Without `offsets` its ref is
    null: some clients take a broadcast that has one for a reply.
    """

    serializer: Serializer
    prepare: Callable[[Frame], Any]
    intercepts: frozenset[str]
    offsets: bool = True

    def frame(self, broadcast: Broadcast) -> Frame:
        """Make the frame that these subscribers get. Raises EncodeError."""
        if broadcast.offset is not None and not self.offsets:
            broadcast = msgspec.structs.replace(broadcast, offset=None)
        return self.serializer.fastlane(broadcast)


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
        # topics whose count others are to be told, and those that they may know of by now
        self._changed: set[str] = set()
        self._told: set[str] = set()

    def __contains__(self, topic: str) -> bool:
        return topic in self._topics

    def __len__(self) -> int:
        return len(self._topics)

    def add(self, topic: str, subscriber: Subscriber) -> None:
        self._changed.add(topic)
        lanes = self._topics.setdefault(topic, {})
        lanes.setdefault(subscriber.fastlane, {})[subscriber] = getattr(
            subscriber, "write", None
        )

    def discard(self, topic: str, subscriber: Subscriber) -> None:
        self._changed.add(topic)
        lanes = self._topics.get(topic, {})
        members = lanes.get(subscriber.fastlane, {})
        members.pop(subscriber, None)
        if not members:
            lanes.pop(subscriber.fastlane, None)
        if not lanes:
            self._topics.pop(topic, None)
            if topic not in self._told:  # nobody heard that it was there
                self._changed.discard(topic)

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

    def take_changed(self) -> dict[str, int]:
        """topic -> channels that have joined it, where that is not what was taken before."""
        counts = {topic: self.count_joined(topic) for topic in self._changed}
        self._changed = set()
        for topic, count in counts.items():
            (self._told.add if count else self._told.discard)(topic)
        return counts

    def not_told(self, counts: dict[str, int]) -> None:
        """Have counts that were taken told again: they may not have arrived."""
        self._changed |= counts.keys()
        self._told |= counts.keys()

    def all_changed(self) -> None:
        """Nothing of what was told counts any more: all topics are to be told again."""
        self._changed = set(self._topics)
        self._told = set()

    def fan_out(
        self,
        broadcast: Broadcast,
        exclude: Subscriber | None = None,
        strict: bool = True,
    ) -> int:
        """Hand `broadcast` to every subscriber but the channels of the client that is known as its
        `sender`, or else but `exclude`; returns how many those are.

        Every frame is made before the first is written. Who cannot be sent it is left out, with
        a line in the log, and so is who does not take it. If `strict`, raises EncodeError when
        no client here can be sent it and none elsewhere could (see ``is_carried``); where a
        channel sends, as `exclude`, the first is enough, as in Phoenix.
        """
        lanes = self._topics.get(broadcast.topic)
        if lanes is None:
            return 0
        excluded: set[Any] = set()
        if broadcast.sender is not None:
            excluded = self._known_as(lanes, broadcast.sender)
        elif exclude is not None:
            excluded = {exclude}
        delivered = 0
        pairs, errors, has_clients = self._frames(lanes, broadcast, excluded)
        if errors:
            if strict and not has_clients:
                _refuse(broadcast, errors, exclude is not None)
            for error in errors:
                _log(broadcast, "cannot be sent to some", error)
        for frame, members in pairs:
            left_out = len(excluded & members.keys()) if excluded else 0
            if frame is None:
                _offer(broadcast, tuple(members), excluded)
            elif left_out:
                writes = [w for s, w in members.items() if s not in excluded]
                _hand(frame, writes, broadcast)
            else:
                _hand(frame, tuple(members.values()), broadcast)
            delivered += len(members) - left_out
        return delivered

    @staticmethod
    def _frames(
        lanes: dict[Any, Any], broadcast: Broadcast, excluded: set[Any]
    ) -> tuple[list[Any], list[Exception], bool]:
        """Make the frames: pairs of one (None: the broadcast itself) and those who get it; why others
        do not; and whether any client does."""
        made: dict[Any, Any] = {}
        pairs: list[Any] = []
        errors: list[Exception] = []
        has_clients = False
        event, has_offset = broadcast.event, broadcast.offset is not None
        for lane, members in lanes.items():
            if excluded and excluded >= members.keys():
                continue
            if lane is None or event in lane.intercepts:
                pairs.append((None, members))
                has_clients |= lane is not None
                continue
            key = (lane.serializer, lane.prepare, has_offset and lane.offsets)
            if key not in made:
                try:
                    made[key] = lane.prepare(lane.frame(broadcast))
                except Exception as error:
                    made[key] = None
                    errors.append(error)
            if made[key] is not None:
                pairs.append((made[key], members))
                has_clients = True
        return pairs, errors, has_clients

    @staticmethod
    def _known_as(lanes: dict[Any, Any], channel_id: str) -> set[Any]:
        """The channels of the client that has sent as `channel_id`."""
        return {
            subscriber
            for members in lanes.values()
            for subscriber in members
            if getattr(subscriber, "is_known_as", _never)(channel_id)
        }


def is_carried(broadcast: Broadcast) -> bool:
    """Whether the newest version of the protocol carries `broadcast`, if not all of them do."""
    try:
        NEWEST.fastlane(broadcast)
    except EncodeError:
        return False
    return True


def _refuse(broadcast: Broadcast, errors: list[Exception], by_channel: bool) -> None:
    """Raise the first EncodeError, unless clients of other processes can be sent `broadcast`."""
    refusal = next((e for e in errors if isinstance(e, EncodeError)), None)
    if refusal is not None and (by_channel or not is_carried(broadcast)):
        raise refusal


def _hand(what: Any, takers: Iterable[Callable[[Any], None]], of: Broadcast) -> None:
    """Call all of `takers`, whatever one of them raises."""
    left = iter(takers)
    while True:
        try:
            for take in left:
                take(what)
            return
        except Exception as error:
            _log(of, "was not taken by one", error)


def _offer(
    broadcast: Broadcast, members: Iterable[Subscriber], excluded: set[Any]
) -> None:
    """Have all `members` that are not `excluded` take `broadcast`, whatever one of them raises."""
    left = iter(members)
    while True:
        try:
            for subscriber in left:
                if subscriber not in excluded:
                    subscriber.deliver_broadcast(broadcast)
            return
        except Exception as error:
            _log(broadcast, "was not taken by one", error)


def _log(broadcast: Broadcast, what: str, error: Exception) -> None:
    # a serializer says what it cannot carry; anything else is a bug somewhere
    logger.error(
        f"%.100r on %.100r {what}: %s",
        broadcast.event,
        broadcast.topic,
        in_words(error),
        exc_info=None if isinstance(error, EncodeError) else error,
    )


def _never(channel_id: str) -> bool:
    return False
