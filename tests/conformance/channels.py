"""The application of app.md, written only with what users of the package use."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any, ClassVar

from phx_protocol import (
    Channel,
    ConnectionRefused,
    History,
    Presence,
    Reason,
    Socket,
    abroadcast,
    adisconnect,
    event,
    reply,
)

_tasks: set[asyncio.Task[None]] = set()


class RoomChannel(Channel):
    intercepts = {"secret"}

    async def join(self, payload: Any) -> Any:
        if not isinstance(payload, dict):
            return "ok"
        if payload.get("deny") is True:
            return "error", {"reason": "unauthorized"}
        if payload.get("crash") is True:
            raise RuntimeError("crash in join")
        if "welcome" in payload:
            return "ok", {"welcome": payload["welcome"]}
        if "push_on_join" in payload:
            self.assigns["push_on_join"] = payload["push_on_join"]
        return "ok"

    async def after_join(self) -> None:
        if "push_on_join" in self.assigns:
            await self.push("joined", {"v": self.assigns["push_on_join"]})

    @event("echo")
    async def echo(self, payload: Any) -> Any:
        return "ok", payload

    @event("echo_error")
    async def echo_error(self, payload: Any) -> Any:
        return "error", payload

    @event("ok")
    async def ok(self, payload: Any) -> Any:
        return "ok"

    @event("error")
    async def error(self, payload: Any) -> Any:
        return "error"

    @event("noreply")
    async def noreply(self, payload: Any) -> Any:
        return None

    @event("custom")
    async def custom(self, payload: Any) -> Any:
        return "custom_status", payload

    @event("push_me")
    async def push_me(self, payload: Any) -> Any:
        await self.push("pushed", payload)

    @event("push_then_reply")
    async def push_then_reply(self, payload: Any) -> Any:
        await self.push("pushed", payload)
        return "ok"

    @event("shout")
    async def shout(self, payload: Any) -> Any:
        await self.broadcast("shout", payload)

    @event("shout_ack")
    async def shout_ack(self, payload: Any) -> Any:
        await self.broadcast("shout", payload)
        return "ok"

    @event("whisper")
    async def whisper(self, payload: Any) -> Any:
        await self.broadcast_from("shout", payload)

    @event("tell")
    async def tell(self, payload: Any) -> Any:
        await abroadcast(payload["topic"], payload["event"], payload["payload"])
        return "ok"

    @event("later")
    async def later(self, payload: Any) -> Any:
        ref, delay, value = self.reply_ref(), payload["ms"] / 1000, payload["v"]

        async def answer() -> None:
            await asyncio.sleep(delay)
            await reply(ref, "ok", {"v": value})

        task = asyncio.create_task(answer())
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)

    @event("ref")
    async def ref(self, payload: Any) -> None:
        await self.push("ref", dataclasses.asdict(self.reply_ref()))

    @event("slow")
    async def slow(self, payload: Any) -> Any:
        await asyncio.sleep(payload["ms"] / 1000)
        return "ok", {"slept": payload["ms"]}

    @event("count")
    async def count(self, payload: Any) -> Any:
        self.assigns["count"] = self.assigns.get("count", 0) + 1
        return "ok", {"count": self.assigns["count"]}

    @event("assigns")
    async def show_assigns(self, payload: Any) -> Any:
        return "ok", {"user_id": self.assigns["user_id"]}

    @event("topic")
    async def show_topic(self, payload: Any) -> Any:
        return "ok", {"topic": self.topic, "join_ref": self.join_ref}

    @event("secret")
    async def secret(self, payload: Any) -> Any:
        await self.broadcast("secret", payload)

    async def handle_out(self, event: str, payload: Any) -> None:
        if self.assigns["user_id"] != "blocked":
            await self.push(event, {**payload, "for": self.assigns["user_id"]})

    @event("stop")
    async def stop_normally(self, payload: Any) -> Any:
        await self.stop()

    @event("stop_reply")
    async def stop_reply(self, payload: Any) -> Any:
        await self.stop()
        return "ok", payload

    @event("stop_shutdown")
    async def stop_shutdown(self, payload: Any) -> Any:
        await self.stop("shutdown")

    @event("stop_error")
    async def stop_error(self, payload: Any) -> Any:
        await self.stop("boom")

    @event("crash")
    async def crash(self, payload: Any) -> Any:
        raise RuntimeError("crash")

    @event("info_push")
    async def info_push(self, payload: Any) -> Any:
        self.send_info(payload)

    async def handle_info(self, message: Any) -> None:
        await self.push("info", message)

    @event("disconnect_user")
    async def disconnect_user(self, payload: Any) -> Any:
        await adisconnect(f"users:{payload['user_id']}")
        return "ok"

    async def handle_in(self, event: str, payload: Any) -> Any:
        raise LookupError(f"no clause for {event!r}")

    async def terminate(self, reason: Reason) -> None:
        if reason is Reason.DUPLICATE_JOIN:
            return
        gone = (Reason.DISCONNECTED, Reason.DRAINING)
        shown = Reason.CLOSED if reason in gone else reason
        left = {"user_id": self.assigns["user_id"], "reason": shown}
        await abroadcast("audit:log", "left", left)


class AuditChannel(Channel):
    async def join(self, payload: Any) -> Any:
        return "ok"

    async def handle_in(self, event: str, payload: Any) -> Any:
        raise LookupError(f"no clause for {event!r}")


class ExactChannel(AuditChannel):
    @event("echo")
    async def echo(self, payload: Any) -> Any:
        return "ok", payload


class Present(Presence):
    diff_interval = 0


class PresenceChannel(AuditChannel):
    presence = Present

    async def join(self, payload: Any) -> Any:
        device = payload.get("device") if isinstance(payload, dict) else None
        self.assigns["device"] = device
        return "ok"

    def presence_key(self) -> str:
        return str(self.assigns["user_id"])

    def presence_meta(self) -> dict[str, Any]:
        return {"device": self.assigns["device"], "online_at": 1}

    @event("update")
    async def update(self, payload: Any) -> Any:
        device = payload["device"]
        await Present.update(
            self, self.presence_key(), lambda m: {**m, "device": device}
        )
        return "ok"

    @event("untrack")
    async def untrack(self, payload: Any) -> Any:
        await Present.untrack(self, self.presence_key())
        return "ok"

    @event("list")
    async def list(self, payload: Any) -> Any:
        return "ok", await Present.list(self)


class BenchChannel(ExactChannel):
    @event("shout")
    async def shout(self, payload: Any) -> Any:
        await self.broadcast("shout", payload)

    @event("blast")
    async def blast(self, payload: Any) -> Any:
        for i in range(payload["count"]):
            await self.broadcast("m", {"i": i, "p": payload["payload"]})
        return "ok"


class RewoundChannel(BenchChannel):
    """For benchmarks alone: Phoenix has no histories."""

    history = History(ttl=3600, rewind=50)


class ConformanceSocket(Socket):
    channels = {
        "room:*": RoomChannel,
        "audit:log": AuditChannel,
        "exact": ExactChannel,
        "bench:*": BenchChannel,
        "presence:*": PresenceChannel,
        "rewound:*": RewoundChannel,
    }
    check_origin: Any = False
    # Phoenix has none of these limits, or a larger one: its recordings have frames of such sizes
    max_frame_size = 10_000_000
    max_topic_length = 8192
    inbound_bytes = 64 * 1024 * 1024
    outbound = {"hard_bytes": 32 * 1024 * 1024}
    longpoll: ClassVar[Any] = {"MAX_BODY_SIZE": 8_000_000}

    async def connect(self, params: dict[str, Any]) -> None:
        if params.get("deny") == "1":
            raise ConnectionRefused
        self.assigns["user_id"] = params.get("user_id", "anonymous")

    def id(self) -> str | None:
        return f"users:{self.params['user_id']}" if "user_id" in self.params else None


class StrictSocket(ConformanceSocket):
    check_origin = ["http://allowed.test"]


class BriefSocket(ConformanceSocket):
    timeout = 2
    longpoll = False
