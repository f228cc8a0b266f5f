"""The subscribers of this process, and the fan-out to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from ..exceptions import EncodeError
from ..logs import get_logger
from ..logs.printable import in_words
from ..wire.messages import Broadcast
from ..wire.serializers import V2JSONSerializer

logger = get_logger("phx_protocol.pubsub")

NEWEST = V2JSONSerializer()


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
        pairs, errors, refusal = self._frames(lanes, broadcast, excluded)
        if strict and refusal and (exclude is not None or not is_carried(broadcast)):
            raise refusal
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

    def _frames(
        self, lanes: dict[Any, Any], broadcast: Broadcast, excluded: set[Any]
    ) -> tuple[list[Any], list[Exception], EncodeError | None]:
        """Pairs of a frame (None: the broadcast itself) and those who get it; why others do not;
        and why no client can be sent it, if that is so."""
        made: dict[Any, Any] = {}
        pairs = []
        has_clients = False
        for lane, members in lanes.items():
            if excluded and excluded >= members.keys():
                continue
            if lane is None or broadcast.event in lane.intercepts:
                pairs.append((None, members))
                has_clients |= lane is not None
                continue
            offsets = broadcast.offset is not None and lane.offsets
            key = (lane.serializer, lane.prepare, offsets)
            if key not in made:
                made[key] = _made(lane, broadcast)
            if not isinstance(made[key], Exception):
                pairs.append((made[key], members))
                has_clients = True
        errors = [each for each in made.values() if isinstance(each, Exception)]
        refused = (e for e in errors if isinstance(e, EncodeError))
        return pairs, errors, None if has_clients else next(refused, None)

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


def _made(lane: Any, broadcast: Broadcast) -> Any:
    """Make what ``write`` of those in `lane` takes; returns the exception where that fails."""
    try:
        return lane.prepare(lane.frame(broadcast))
    except Exception as error:
        return error


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
