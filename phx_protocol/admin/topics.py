"""The pages of topics: their list, the page of each, and the actions on one."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import msgspec
from django.contrib import admin, messages
from django.core.handlers.asgi import ASGIRequest
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase

from .. import introspection
from ..api import broadcast, close_topic
from ..exceptions import EncodeError, PhxError
from ..introspection import LatencyInfo, TopicDetails, TopicInfo
from ..models import Topic
from ..wire import json
from . import tail
from .connections import sockets_table
from .forms import BroadcastForm
from .listing import columns, counted, matches, page_of
from .live import LiveAdmin, Page, has_perm, visibility
from .urls import address_of, topic_at

#: the columns and the orders of each: channel classes and presences are known for one page only,
#: so the list cannot be sorted by them
COLUMNS = [
    ("Topic", ["topic", "-topic"]),
    ("Channel class", []),
    ("Subscribers", ["-subscribers", "subscribers"]),
    ("Presences", []),
    ("Messages a second", ["-rate"]),
]
#: the most keys that a page shows
PRESENCES = 100
#: the most characters of a payload in the log
LOGGED = 1000

UNKNOWN = TopicDetails([], 0, 0.0)


@dataclasses.dataclass(frozen=True)
class Row:
    """A topic in the list of topics."""

    topic: str
    address: str
    subscribers: int
    details: TopicDetails
    rate: float


@admin.register(Topic)
class TopicAdmin(LiveAdmin):
    def pages(self) -> list[Page]:
        topic = "<path:object_id>"
        broadcast, close = "broadcast_topic", "close_topic"
        return [
            *super().pages(),
            (f"{topic}/history/", "history", self.history_view, None),
            (f"{topic}/change/", "change", self.change_view, None),
            (f"{topic}/broadcast/", "broadcast", self.broadcast_view, broadcast),
            (f"{topic}/close/", "close", self.close_view, close),
            (f"{topic}/tail/", "tail", self.tail_view, "listen_topic"),
        ]

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Topic:
        """Return any topic, even if it is not joined any more: its log still exists."""
        return Topic(topic=object_id)

    # ---------------------------------------------------------------- the list

    def changelist_view(
        self, request: HttpRequest, extra_context: Any = None
    ) -> HttpResponse:
        query, order = request.GET.get("q", ""), request.GET.get("o", "topic")
        topics = introspection.list_topics()
        rates = introspection.busiest_topics() if order == "-rate" else {}
        chosen = [info for info in topics if matches(query, info.topic)]
        shown = page_of(request, _sorted(chosen, order, rates), "topic")
        context = {
            "title": "Topics",
            "query": query,
            "total": len(topics),
            "columns": columns(order, COLUMNS),
            "rows": self._rows(list(shown["page"]), rates),
            **shown,
            "visibility": visibility(),
        }
        return self.render(request, "topics", context)

    def _rows(self, infos: list[TopicInfo], rates: dict[str, float]) -> list[Row]:
        details = introspection.describe_topics([info.topic for info in infos])
        return [
            Row(
                topic=info.topic,
                address=self._address("change", info.topic),
                subscribers=info.subscribers,
                details=(known := details.get(info.topic, UNKNOWN)),
                # show the rates by which the list is sorted
                rate=rates.get(info.topic, known.messages_per_second),
            )
            for info in infos
        ]

    # ------------------------------------------------------------ a topic's page

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: Any = None,
    ) -> HttpResponse:
        topic = topic_at(object_id)
        presences = introspection.list_presences(topic)
        details = introspection.describe_topics([topic])
        context = {
            **self._about(request, topic),
            "title": topic or "(empty)",
            "details": details.get(topic, UNKNOWN),
            "server": introspection.server_of(topic),
            "presences": [
                _present(key, presences[key]) for key in sorted(presences)[:PRESENCES]
            ],
            "more_presences": max(0, len(presences) - PRESENCES),
            "history": introspection.history(topic),
            "latencies": _times(introspection.latencies(topic)),
        }
        # a WSGI server would wait for the end of the stream
        if has_perm(request, "listen_topic") and isinstance(request, ASGIRequest):
            context["tail_url"] = self._address("tail", topic)
        if has_perm(request, "view_connection"):
            sockets = introspection.list_sockets(topic=topic)
            context |= sockets_table(self, request, sockets, topic=topic)
        return self.render(request, "topic", context)

    def _about(self, request: HttpRequest, topic: str) -> dict[str, Any]:
        """Return the context that all pages of a topic share, with their links."""
        return {
            "topic": topic,
            "subscribers": _subscribers(topic),
            "visibility": visibility(),
            "back": self._address("change", topic),
            "log_url": self._address("history", topic),
            "broadcast_url": has_perm(request, "broadcast_topic")
            and self._address("broadcast", topic),
            "close_url": has_perm(request, "close_topic")
            and self._address("close", topic),
        }

    def _address(self, page: str, topic: str) -> str:
        return self.address(f"topic_{page}", address_of(topic))

    def tail_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """Stream the broadcasts on the topic as they come."""
        topic = topic_at(object_id)
        if not isinstance(request, ASGIRequest):
            return HttpResponse("This needs an ASGI server.", status=501)
        if tail.is_full():
            return HttpResponse("Too many pages listen.", status=503)
        response = StreamingHttpResponse(
            tail.stream(topic), content_type="text/event-stream"
        )
        response["Cache-Control"] = "no-store"
        response["X-Accel-Buffering"] = "no"  # nginx would wait for more
        return response

    # ---------------------------------------------------------------- the actions

    def broadcast_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the form, and then the broadcast, which the user must confirm."""
        topic = topic_at(object_id)
        posted = request.POST if request.method == "POST" else None
        form = BroadcastForm(
            posted, may_disconnect=has_perm(request, "disconnect_connection")
        )
        template = "broadcast"
        if form.is_valid() and "edit" not in request.POST:
            if "confirmed" not in request.POST:
                template = "broadcast_confirmation"
            elif self._broadcast(request, topic, form):
                return HttpResponseRedirect(self._address("change", topic))
        context = {
            **self._about(request, topic),
            "title": f"Broadcast on {topic}",
            "form": form,
        }
        return self.render(request, template, context)

    def _broadcast(self, request: HttpRequest, topic: str, form: BroadcastForm) -> bool:
        """Send the broadcast; return whether it was sent. If not, the form shows the error."""
        event, payload = form.cleaned_data["event"], form.decoded()
        done = f"Broadcast {event}: {json.encode(payload).decode()[:LOGGED]}"
        try:
            broadcast(topic, event, payload)
        except EncodeError as error:
            form.add_error(None, f"{event} was not broadcast: {error}.")
            done = f"{done} But this failed: {error}."
        except (PhxError, TimeoutError) as error:
            form.add_error(None, f"{event} did not reach all processes: {error}.")
            done = f"{done} But this failed: {error}."
        else:
            messages.success(request, f"Broadcast {event} on {topic}.")
        self.log_change(request, Topic(topic=topic), done)
        return form.is_valid()

    def close_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        topic = topic_at(object_id)
        context = self._about(request, topic)
        if request.method == "POST":
            clients = counted(context["subscribers"], "client")
            done = f"Closed {topic}, which {clients} had joined."
            action = functools.partial(close_topic, topic)
            on, then = Topic(topic=topic), context["back"]
            return self.act(request, action, on, done, then)
        return self.render(request, "close", {**context, "title": f"Close {topic}?"})


def _sorted(
    infos: list[TopicInfo], order: str, rates: dict[str, float]
) -> list[TopicInfo]:
    """Sort `infos`, which are in the order of names, by `order`; equal ones stay in that order."""
    if order == "-rate":
        return sorted(infos, key=lambda info: -rates.get(info.topic, 0.0))
    if order == "-topic":
        return infos[::-1]
    if order in ("subscribers", "-subscribers"):
        sign = -1 if order.startswith("-") else 1
        return sorted(infos, key=lambda info: sign * info.subscribers)
    return infos


def _subscribers(topic: str) -> int:
    return sum(
        info.subscribers for info in introspection.list_topics() if info.topic == topic
    )


def _present(key: str, presence: dict[str, Any]) -> dict[str, Any]:
    metas = presence["metas"]
    lines = [msgspec.json.format(json.encode(meta), indent=0) for meta in metas]
    return {"key": key, "count": len(metas), "metas": b"\n".join(lines).decode()}


def _times(found: LatencyInfo | None) -> list[tuple[str, str]]:
    """Return percentiles of `found`, and the milliseconds of each."""
    if found is None:
        return []
    times = {"median": found.p50, "95 %": found.p95, "99 %": found.p99}
    return [(name, f"{seconds * 1000:.0f} ms") for name, seconds in times.items()]
