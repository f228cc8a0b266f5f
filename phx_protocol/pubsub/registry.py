"""The subscribers of this process, and the fan-out to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import msgspec

from ..exceptions import EncodeError
from ..logs import get_logger
from ..logs.printable import describe
from ..wire.messages import Broadcast, Frame
from ..wire.serializers import Serializer, V2JSONSerializer

logger = get_logger("phx_protocol.pubsub")

NEWEST = V2JSONSerializer()


class Fastlane(NamedTuple):
    """The encoding of a broadcast as a frame; events in `intercepts` are not encoded.

    Subscribers with equal fastlanes get the same frame, made once. Without `offsets` its ref is
    null: some clients take a broadcast that has a ref for a reply.
    """

    serializer: Serializer
    prepare: Callable[[Frame], Any]
    intercepts: frozenset[str]
    offsets: bool = True

    def frame(self, broadcast: Broadcast) -> Frame:
        """Encode `broadcast` for these subscribers. Raises EncodeError."""
        if broadcast.offset is not None and not self.offsets:
            broadcast = msgspec.structs.replace(broadcast, offset=None)
        return self.serializer.fastlane(broadcast)


class Subscriber(Protocol):
    """An object that gets the broadcasts of a topic.

    If it has a `fastlane`, its ``write`` gets the encoded frame. If it has none, or intercepts the
    event, its ``deliver_broadcast`` gets the broadcast. Neither method blocks.
    """

    @property
    def fastlane(self) -> Any: ...
    def deliver_broadcast(self, broadcast: Broadcast) -> None: ...


def _all(topic: str) -> bool:
    return True


class Registry:
    """The subscribers of each topic, grouped by their fastlane."""

    def __init__(self) -> None:
        self._topics: dict[
            str, dict[Any, dict[Subscriber, Callable[[Any], None] | None]]
        ] = {}
        # topics whose count must be reported to the state, and those that it may already know
        self._changed: set[str] = set()
        self._reported: set[str] = set()

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
            if topic not in self._reported:  # the state never knew of it
                self._changed.discard(topic)

    def subscribers(self, topic: str) -> list[Subscriber]:
        return [s for members in self._topics.get(topic, {}).values() for s in members]

    def one_of_each_lane(self, topic: str) -> list[Subscriber]:
        """Return one of the channels that have joined `topic` for each fastlane."""
        lanes = self._topics.get(topic, {})
        return [next(iter(members)) for lane, members in lanes.items() if lane]

    def count_joined(self, topic: str) -> int:
        """Return how many channels have joined `topic`: they are the subscribers with a fastlane."""
        lanes = self._topics.get(topic, {})
        return sum(len(members) for lane, members in lanes.items() if lane)

    def take_changed(self, has: Callable[[str], bool] = _all) -> dict[str, int]:
        """Return topic -> number of joined channels, for topics that changed since the last call.

        Only topics for which `has` returns True: those of one server of the state.
        """
        changed = {topic for topic in self._changed if has(topic)}
        counts = {topic: self.count_joined(topic) for topic in changed}
        self._changed -= changed
        for topic, count in counts.items():
            (self._reported.add if count else self._reported.discard)(topic)
        return counts

    @property
    def reported(self) -> set[str]:
        """The topics whose count the state may know."""
        return self._reported

    def report_again(self, counts: dict[str, int]) -> None:
        """Return `counts` again at the next ``take_changed``: the state may not have got them."""
        self._changed |= counts.keys()
        self._reported |= counts.keys()

    def all_changed(self, has: Callable[[str], bool] = _all) -> None:
        """Return all topics at the next ``take_changed``: the state has lost their counts."""
        gone = (self._changed | self._reported) - self._topics.keys()
        lost = {topic for topic in gone if has(topic)}
        self._changed -= lost
        self._changed |= {topic for topic in self._topics if has(topic)}
        self._reported = {topic for topic in self._reported if not has(topic)}

    def fan_out(
        self,
        broadcast: Broadcast,
        exclude: Subscriber | None = None,
        strict: bool = True,
    ) -> int:
        """Pass `broadcast` to every subscriber of its topic. Return how many these are.

        The channels of the client that sent it (found by its `sender`) are left out; without a
        `sender`, the subscriber `exclude` is. Every frame is made before the first is written. If it
        cannot be encoded for a subscriber, or the subscriber raises an error, that is logged and the
        others get it. If `strict`, raises EncodeError if it can be encoded neither for any client
        here nor for one elsewhere (see ``is_carried``); with `exclude`, when a channel sends, the
        former is enough, as in Phoenix.
        """
        lanes = self._topics.get(broadcast.topic)
        if lanes is None:
            return 0
        excluded: set[Any] = set()
        if broadcast.sender is not None:
            excluded = self._with_id(lanes, broadcast.sender)
        elif exclude is not None:
            excluded = {exclude}
        delivered = 0
        pairs, errors, has_clients = self._frames(lanes, broadcast, excluded)
        if errors:
            if strict and not has_clients:
                _refuse(broadcast, errors, exclude is not None)
            for error in errors:
                _log(broadcast, "cannot be encoded for some clients", error)
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
        """Encode the broadcast for each lane.

        Return pairs of a frame (None: the broadcast itself) and the subscribers that get it; the
        errors of encoding; and True if any client gets it.
        """
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
    def _with_id(lanes: dict[Any, Any], channel_id: str) -> set[Any]:
        """Return the channels of the client that had the channel `channel_id` when it sent."""
        return {
            subscriber
            for members in lanes.values()
            for subscriber in members
            if getattr(subscriber, "has_id", _never)(channel_id)
        }


def is_carried(broadcast: Broadcast) -> bool:
    """Return True if at least the newest version of the protocol can carry `broadcast`."""
    try:
        NEWEST.fastlane(broadcast)
    except EncodeError:
        return False
    return True


def _refuse(broadcast: Broadcast, errors: list[Exception], by_channel: bool) -> None:
    """Raise the first EncodeError, unless clients of other processes may be able to get `broadcast`."""
    refusal = next((e for e in errors if isinstance(e, EncodeError)), None)
    if refusal is not None and (by_channel or not is_carried(broadcast)):
        raise refusal


def _hand(what: Any, takers: Iterable[Callable[[Any], None]], of: Broadcast) -> None:
    """Call all of `takers`. An error of one is logged and does not stop the others."""
    left = iter(takers)
    while True:
        try:
            for take in left:
                take(what)
            return
        except Exception as error:
            _log(of, "was not delivered to a subscriber", error)


def _offer(
    broadcast: Broadcast, members: Iterable[Subscriber], excluded: set[Any]
) -> None:
    """Pass `broadcast` to all `members` that are not `excluded`. An error of one is only logged."""
    left = iter(members)
    while True:
        try:
            for subscriber in left:
                if subscriber not in excluded:
                    subscriber.deliver_broadcast(broadcast)
            return
        except Exception as error:
            _log(broadcast, "was not delivered to a subscriber", error)


def _log(broadcast: Broadcast, what: str, error: Exception) -> None:
    # an EncodeError needs no traceback; any other error is a bug
    logger.error(
        f"%.100r on %.100r {what}: %s",
        broadcast.event,
        broadcast.topic,
        describe(error),
        exc_info=None if isinstance(error, EncodeError) else error,
    )


def _never(channel_id: str) -> bool:
    return False
