#!/usr/bin/env python3
"""Replay recorded Phoenix Channels wire transcripts ("vectors") against a server.

    replay.py --base ws://127.0.0.1:4000 --vectors DIR [--only GROUP/NAME] [--json OUT]

A vector is one JSON document: input steps plus what the reference server answered.
Text frames are compared as parsed JSON (object key order ignored, 1 and 1.0 and true
kept apart), binary frames as bytes.  Depends on `websockets` and `httpx` only.

Step kinds ("do"):
  open         open connection; result = {status, subprotocol, extensions} or {status, body}
  send         one frame: "json" (dumped compactly) | "text" (verbatim) | "hex" (binary frame)
               | "text_hex" (bytes sent in a TEXT frame) | "fragments" (list of texts, one message)
  expect       wait for "count" frames on one connection -> "frames"; "unordered" compares as a set
  expect_any   like expect, but the answer is any one of "alternatives" (racy in the reference)
  expect_none  no frame and no close within "within" seconds
  expect_close server closes -> {code, reason}; optional "frames" that come before it; optional min_s/max_s
  close        client closes with "code" -> code echoed by the server
  drop         client aborts the TCP connection
  ping         -> pong with the same payload
  sleep        "s" seconds
  http         a plain HTTP request -> "response"; "save" keeps JSON fields as ${VAR}; "async" starts it only
  await        result of an async http step
  lp_recv      long-poll GETs until "count" messages have arrived -> "frames"
  raw          a hand-made WebSocket client: handshake, the bytes of "send" (hex), then every frame the
               server sends within "wait" seconds -> "result" {frames: [{op, ...}], eof}; eof is not compared
A connection's "optional_frames" are dropped wherever they arrive (racy in the reference); "only_left_of"
drops audit:log messages about other users.
JSON values {"$repeat": [s, n]} stand for the string s repeated n times.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import hashlib
import json
import os
import sys
import time
from urllib.parse import urlencode

import httpx
from websockets.asyncio.client import connect as ws_connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

DRAIN_S = 0.15
REF_KEYS = ("phx_ref", "phx_ref_prev")
REF_MASK = "<phx_ref>"


class Mismatch(Exception):
    """The server did not do what the vector says."""


# ------------------------------------------------------------------ values


def expand(v):
    """Replace {"$repeat": [s, n]} by the string."""
    if isinstance(v, dict):
        if set(v) == {"$repeat"}:
            return v["$repeat"][0] * v["$repeat"][1]
        return {k: expand(x) for k, x in v.items()}
    if isinstance(v, list):
        return [expand(x) for x in v]
    return v


def shrink(v):
    """Replace long strings by {"$repeat": [s, n]} or a digest."""
    if isinstance(v, dict):
        return {k: shrink(x) for k, x in v.items()}
    if isinstance(v, list):
        return [shrink(x) for x in v]
    if isinstance(v, str) and len(v) > 300:
        for w in (1, 2, 3, 4):
            if len(v) % w == 0 and v == v[:w] * (len(v) // w):
                return {"$repeat": [v[:w], len(v) // w]}
        return {"$sha256": hashlib.sha256(v.encode()).hexdigest(), "len": len(v)}
    return v


def strict_loads(text):
    return json.loads(text, parse_constant=lambda c: {"$constant": c})


def same(a, b):
    if isinstance(a, bool) or isinstance(b, bool):
        return isinstance(a, bool) and isinstance(b, bool) and a == b
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    return a == b


def mask_refs(v, seen):
    """Mask presence refs; `seen` collects them (in a fixed order of traversal) for equality checks."""
    if isinstance(v, dict):
        out = {}
        for k in sorted(v):
            x = v[k]
            if k in REF_KEYS and isinstance(x, str):
                seen.append(x)
                out[k] = REF_MASK
            else:
                out[k] = mask_refs(x, seen)
        return out
    if isinstance(v, list):
        return [mask_refs(x, seen) for x in v]
    return v


def text_frame(text, seen, raw=False):
    try:
        v = strict_loads(text)
    except ValueError:
        return {"text": shrink(text)}
    f = {"json": shrink(mask_refs(v, seen))}
    if raw:
        f["raw"] = text
    return f


def frame_of(msg, seen, raw=False):
    if isinstance(msg, str):
        return text_frame(msg, seen, raw)
    if len(msg) > 2048:
        return {
            "hex_head": msg[:64].hex(),
            "len": len(msg),
            "sha256": hashlib.sha256(msg).hexdigest(),
        }
    return {"hex": msg.hex()}


def strip_raw(frame):
    return {k: v for k, v in frame.items() if k != "raw"}


def frames_same(want, got):
    return len(want) == len(got) and all(
        same(strip_raw(w), strip_raw(g)) for w, g in zip(want, got)
    )


def frames_same_unordered(want, got):
    if len(want) != len(got):
        return False
    left = [strip_raw(g) for g in got]
    for w in want:
        w = strip_raw(w)
        for i, g in enumerate(left):
            if same(w, g):
                del left[i]
                break
        else:
            return False
    return True


def short(v, n=700):
    s = json.dumps(v, ensure_ascii=False)
    return s if len(s) <= n else s[:n] + "…(%d)" % len(s)


# ------------------------------------------------------------------ connections


class Conn:
    def __init__(self, spec):
        self.spec = spec
        self.ws = None
        self.q = asyncio.Queue()
        self.closed = asyncio.Event()
        self.code = None
        self.reason = None
        self.closed_at = None
        self.last_io = time.monotonic()
        self.task = None
        self.by_client = False

    def ignored(self, msg):
        """Frames the vector does not count: audit messages of other cases, frames that may or may not come."""
        keep, optional = self.spec.get("only_left_of"), self.spec.get("optional_frames")
        if not (keep or optional) or not isinstance(msg, str):
            return False
        try:
            v = json.loads(msg)
        except ValueError:
            return False
        if optional and any(same(mask_refs(v, []), o) for o in optional):
            return True
        if not keep:
            return False
        if (
            isinstance(v, list)
            and len(v) == 5
            and v[2] == "audit:log"
            and v[3] == "left"
        ):
            return v[4].get("user_id") not in keep
        return False

    async def open(self, base):
        spec = self.spec
        params = spec.get("params", {})
        query = spec.get("query")
        if query is None:
            query = urlencode(params)
        url = (
            base
            + spec.get("path", spec.get("mount", "/socket") + "/websocket")
            + ("?" + query if query else "")
        )
        kw = dict(
            compression="deflate" if spec.get("deflate") else None,
            max_size=None,
            max_queue=None,
            ping_interval=None,
            open_timeout=15,
            close_timeout=3,
            additional_headers=spec.get("headers"),
            proxy=None,
            user_agent_header="phx-replay",
        )
        if spec.get("subprotocols"):
            kw["subprotocols"] = spec["subprotocols"]
        try:
            self.ws = await ws_connect(url, **kw)
        except InvalidStatus as e:
            body = e.response.body
            return {
                "status": e.response.status_code,
                "body": (body or b"").decode("utf-8", "replace"),
            }
        except (InvalidHandshake, OSError, EOFError) as e:
            return {"error": type(e).__name__}
        self.last_io = time.monotonic()
        self.task = asyncio.create_task(self.reader())
        h = self.ws.response.headers
        return {
            "status": self.ws.response.status_code,
            "subprotocol": h.get("sec-websocket-protocol"),
            "extensions": h.get("sec-websocket-extensions"),
        }

    async def reader(self):
        try:
            while True:
                msg = await self.ws.recv()
                if not self.ignored(msg):
                    self.q.put_nowait(msg)
        except ConnectionClosed:
            pass
        self.closed_at = time.monotonic()
        r = self.ws.protocol.close_rcvd
        self.code, self.reason = (r.code, r.reason) if r else (1006, "")
        self.closed.set()

    async def get(self, timeout):
        """Next frame; TimeoutError, or ConnectionError when closed and drained."""
        if not self.q.empty():
            return self.q.get_nowait()
        get = asyncio.ensure_future(self.q.get())
        closed = asyncio.ensure_future(self.closed.wait())
        try:
            await asyncio.wait(
                {get, closed}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
            if get.done():
                return get.result()
            if closed.done():
                if not self.q.empty():
                    return self.q.get_nowait()
                raise ConnectionError("closed with code %s" % self.code)
            raise TimeoutError
        finally:
            get.cancel()
            closed.cancel()

    async def finish(self):
        if self.ws is not None:
            try:
                await asyncio.wait_for(self.ws.close(), 3)
            except Exception:
                pass
        if self.task:
            self.task.cancel()


# ------------------------------------------------------------------ engine


class Engine:
    """Runs one vector.  record=True fills the outcomes in; otherwise they are compared."""

    def __init__(self, base, vector, record=False, slack=1.0):
        self.base = base.rstrip("/")
        self.http_base = (
            "http" + self.base[2:] if self.base.startswith("ws") else self.base
        )
        self.v = copy.deepcopy(vector)
        self.record = record
        self.slack = slack
        self.conns = {}
        self.vars = {}
        self.refs = {}
        self.async_http = {}
        self.client = None
        self.problems = []

    # -- outcome handling
    def outcome(self, step, key, got, eq=same):
        if self.record:
            step[key] = got
            return
        want = step.get(key)
        if not eq(want, got):
            raise Mismatch("%s: expected %s got %s" % (key, short(want), short(got)))

    def ref_ids(self, seen):
        return [self.refs.setdefault(r, len(self.refs)) for r in seen]

    def frames_outcome(self, step, frames, seen):
        eq = frames_same_unordered if step.get("unordered") else frames_same
        self.outcome(step, "frames", frames, eq)
        if seen and not step.get("unordered"):
            self.outcome(step, "refs", self.ref_ids(seen))

    def subst(self, v):
        if isinstance(v, str):
            for k, x in self.vars.items():
                v = v.replace("${%s}" % k, x)
            return v
        if isinstance(v, dict):
            return {k: self.subst(x) for k, x in v.items()}
        if isinstance(v, list):
            return [self.subst(x) for x in v]
        return v

    async def run(self):
        self.client = httpx.AsyncClient(
            base_url=self.http_base,
            timeout=40,
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        n = -1
        try:
            for n, step in enumerate(self.v["steps"]):
                await getattr(self, "do_" + step["do"])(step)
            n = "end"
            await self.drain()
        except Mismatch as e:
            self.problems.append(
                "step %s (%s): %s"
                % (n, self.v["steps"][n]["do"] if n != "end" else "drain", e)
            )
        except (
            ConnectionError,
            TimeoutError,
            asyncio.TimeoutError,
            httpx.HTTPError,
            ConnectionClosed,
        ) as e:
            self.problems.append("step %s: %s %s" % (n, type(e).__name__, e))
        finally:
            for c in self.conns.values():
                await c.finish()
            for t in self.async_http.values():
                t.cancel()
            await self.client.aclose()
        return self.problems

    async def drain(self):
        await asyncio.sleep(DRAIN_S)
        for name, c in self.conns.items():
            extra = []
            while not c.q.empty():
                extra.append(frame_of(c.q.get_nowait(), []))
            if extra:
                raise Mismatch(
                    "unexpected extra frames on %s: %s" % (name, short(extra))
                )
            if c.ws is not None and c.closed.is_set() and not c.by_client:
                raise Mismatch("%s was closed by the server, code %s" % (name, c.code))

    # -- steps
    async def do_open(self, step):
        c = Conn(self.subst(self.v["connections"][step["conn"]]))
        self.conns[step["conn"]] = c
        res = await c.open(self.base)
        if step.get("compare"):
            eq = lambda w, g: all(same(w.get(k), g.get(k)) for k in step["compare"])
        else:
            eq = same
        self.outcome(step, "result", res, eq)

    async def do_send(self, step):
        c = self.conns[step["conn"]]
        try:
            if "json" in step:
                await c.ws.send(
                    json.dumps(
                        expand(step["json"]), separators=(",", ":"), ensure_ascii=False
                    )
                )
            elif "text" in step:
                await c.ws.send(expand(step["text"]))
            elif "text_parts" in step:
                await c.ws.send("".join(expand(step["text_parts"])))
            elif "hex" in step:
                await c.ws.send(bytes.fromhex(step["hex"]))
            elif "hex_parts" in step:
                await c.ws.send(
                    b"".join(
                        (
                            bytes.fromhex(x)
                            if isinstance(x, str)
                            else bytes.fromhex(x[0]) * x[1]
                        )
                        for x in step["hex_parts"]
                    )
                )
            elif "text_hex" in step:
                await c.ws.send(bytes.fromhex(step["text_hex"]), text=True)
            elif "fragments" in step:
                await c.ws.send(list(step["fragments"]))
            else:
                raise Mismatch("bad send step")
        except ConnectionClosed:
            if not step.get("may_fail"):
                raise
        c.last_io = time.monotonic()

    async def collect(self, step, count, timeout):
        c = self.conns[step["conn"]]
        frames, seen = [], []
        end = time.monotonic() + timeout
        while len(frames) < count:
            try:
                msg = await c.get(max(0.0, end - time.monotonic()))
            except TimeoutError:
                raise Mismatch(
                    "timeout: %d of %d frames: %s; expected %s"
                    % (len(frames), count, short(frames), short(step.get("frames")))
                )
            except ConnectionError as e:
                raise Mismatch(
                    "%s after %d of %d frames: %s; expected %s"
                    % (e, len(frames), count, short(frames), short(step.get("frames")))
                )
            frames.append(frame_of(msg, seen, step.get("raw")))
        return frames, seen

    async def do_expect(self, step):
        frames, seen = await self.collect(
            step, step["count"], step.get("timeout", 3.0) * self.slack
        )
        self.frames_outcome(step, frames, seen)

    async def do_expect_any(self, step):
        c = self.conns[step["conn"]]
        frames = []
        end = time.monotonic() + step.get("within", 0.5)
        while time.monotonic() < end:
            try:
                frames.append(
                    frame_of(await c.get(max(0.0, end - time.monotonic())), [])
                )
            except (TimeoutError, ConnectionError):
                break
        alts = step.setdefault("alternatives", [])
        if any(frames_same(a, frames) for a in alts):
            return
        if self.record:
            alts.append(frames)
            return
        raise Mismatch("none of %d alternatives: %s" % (len(alts), short(frames)))

    async def do_expect_none(self, step):
        c = self.conns[step["conn"]]
        try:
            msg = await c.get(step["within"])
        except TimeoutError:
            return
        except ConnectionError as e:
            raise Mismatch("expected silence, but %s" % e)
        raise Mismatch("expected silence, got %s" % short(frame_of(msg, [])))

    async def do_expect_close(self, step):
        c = self.conns[step["conn"]]
        frames, seen = await self.collect(
            step, step.get("count", 0), step.get("timeout", 5.0) * self.slack
        )
        if step.get("count"):
            self.frames_outcome(step, frames, seen)
        try:
            await asyncio.wait_for(
                c.closed.wait(), step.get("timeout", 5.0) * self.slack
            )
        except asyncio.TimeoutError:
            raise Mismatch("not closed within %s s" % step.get("timeout", 5.0))
        took = c.closed_at - c.last_io
        extra = []
        while not c.q.empty():
            extra.append(frame_of(c.q.get_nowait(), []))
        if extra:
            raise Mismatch("frames before the close: %s" % short(extra))
        c.by_client = True
        self.outcome(step, "close", {"code": c.code, "reason": c.reason})
        if "min_s" in step and not (
            step["min_s"] <= took <= step["max_s"] * self.slack
        ):
            raise Mismatch(
                "closed %.2f s after the last frame sent, expected %s..%s"
                % (took, step["min_s"], step["max_s"])
            )
        if self.record and "min_s" in step:
            step["observed_s"] = round(took, 2)

    async def do_close(self, step):
        c = self.conns[step["conn"]]
        c.by_client = True
        await c.ws.close(step.get("code", 1000), step.get("reason", ""))
        try:
            await asyncio.wait_for(c.closed.wait(), 3)
        except asyncio.TimeoutError:
            raise Mismatch("server did not finish the close handshake")
        self.outcome(step, "close", {"code": c.code, "reason": c.reason})

    async def do_drop(self, step):
        c = self.conns[step["conn"]]
        c.by_client = True
        c.ws.transport.abort()

    async def do_ping(self, step):
        c = self.conns[step["conn"]]
        waiter = await c.ws.ping(step.get("payload", "hi"))
        c.last_io = time.monotonic()
        try:
            await asyncio.wait_for(waiter, step.get("timeout", 2.0))
        except (asyncio.TimeoutError, ConnectionClosed):
            raise Mismatch("no pong")

    async def do_pong(self, step):
        await self.conns[step["conn"]].ws.pong(step.get("payload", ""))

    async def do_sleep(self, step):
        await asyncio.sleep(step["s"])

    async def do_raw(self, step):
        spec = step["spec"]
        host, _, port = self.base.split("://", 1)[1].partition("/")[0].partition(":")
        path = (
            spec.get("mount", "/socket")
            + "/websocket?"
            + urlencode(spec.get("params", {}))
        )
        r, w = await asyncio.open_connection(host, int(port or 80))
        seen, buf, eof = [], b"", False
        try:
            w.write(
                (
                    "GET %s HTTP/1.1\r\nHost: %s:%s\r\nConnection: %s\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                    % (path, host, port, spec.get("connection", "Upgrade"))
                ).encode()
            )
            head = await asyncio.wait_for(r.readuntil(b"\r\n\r\n"), 5)
            if b" 101 " not in head.split(b"\r\n")[0]:
                raise Mismatch("handshake: %r" % head[:60])
            for part in step["send"]:
                try:
                    w.write(bytes.fromhex(part))
                    await w.drain()
                except OSError:
                    break
                await asyncio.sleep(0.03)
            end = time.monotonic() + step.get("wait", 0.6)
            while True:
                left = end - time.monotonic()
                if left <= 0:
                    break
                try:
                    data = await asyncio.wait_for(r.read(65536), left)
                except asyncio.TimeoutError:
                    break
                except OSError:
                    eof = True
                    break
                if not data:
                    eof = True
                    break
                buf += data
        finally:
            w.close()
        frames = []
        while len(buf) >= 2:
            n, at = buf[1] & 127, 2
            if n == 126:
                n, at = int.from_bytes(buf[2:4], "big"), 4
            elif n == 127:
                n, at = int.from_bytes(buf[2:10], "big"), 10
            op, data, buf = buf[0] & 15, buf[at : at + n], buf[at + n :]
            if op == 1:
                frames.append(
                    {"op": "text", **text_frame(data.decode("utf-8", "replace"), seen)}
                )
            elif op == 8:
                frames.append(
                    {
                        "op": "close",
                        "code": int.from_bytes(data[:2], "big") if n >= 2 else None,
                        "reason": data[2:].decode("utf-8", "replace"),
                    }
                )
            else:
                frames.append(
                    {
                        "op": {2: "binary", 9: "ping", 10: "pong"}.get(op, str(op)),
                        "hex": data.hex(),
                    }
                )
        self.outcome(
            step,
            "result",
            {"frames": frames, "eof": eof},
            lambda want, got: same(want["frames"], got["frames"]),
        )

    # -- http
    async def request(self, step):
        headers = self.subst(step.get("headers", {}))
        params = self.subst(step.get("params", {}))
        path = self.subst(step["path"])
        if params:
            path += ("&" if "?" in path else "?") + urlencode(params)
        body = None
        if "body" in step:
            body = self.subst(expand(step["body"])).encode()
        elif "body_parts" in step:
            body = self.subst("".join(expand(step["body_parts"]))).encode()
        elif "body_hex" in step:
            body = bytes.fromhex(step["body_hex"])
        req = self.client.build_request(
            step["method"], path, content=body, headers=headers
        )
        t = time.monotonic()
        r = await self.client.send(req)
        return r, time.monotonic() - t

    def http_outcome(self, step, r, took):
        seen = []
        res = {"status": r.status_code}
        try:
            v = strict_loads(r.text)
        except ValueError:
            v = None
        if isinstance(v, dict):
            for var, key in step.get("save", {}).items():
                if not isinstance(v.get(key), str):
                    raise Mismatch("no %s in %s" % (key, short(v)))
                self.vars[var] = v[key]
            if isinstance(v.get("token"), str):
                v["token"] = "<token>"
            if isinstance(v.get("messages"), list):
                v["messages"] = [
                    text_frame(m, seen) if isinstance(m, str) else {"value": m}
                    for m in v["messages"]
                ]
            res["json"] = v
        else:
            res["body"] = r.text
        hs = {k: r.headers.get(k) for k in step.get("headers_compare", [])}
        if hs:
            res["headers"] = hs
        keys = step.get("compare")
        eq = (
            (lambda w, g: all(same(w.get(k), g.get(k)) for k in keys)) if keys else same
        )
        self.outcome(step, "response", res, eq)
        if seen:
            self.outcome(step, "refs", self.ref_ids(seen))
        if "min_s" in step and not (
            step["min_s"] <= took <= step["max_s"] * self.slack
        ):
            raise Mismatch(
                "took %.2f s, expected %s..%s" % (took, step["min_s"], step["max_s"])
            )
        if self.record and "min_s" in step:
            step["observed_s"] = round(took, 2)

    async def do_http(self, step):
        if step.get("async"):
            self.async_http[step["async"]] = asyncio.create_task(self.request(step))
            await asyncio.sleep(0.05)
            return
        r, took = await self.request(step)
        self.http_outcome(step, r, took)

    async def do_await(self, step):
        r, took = await asyncio.wait_for(
            self.async_http.pop(step["id"]), step.get("timeout", 15)
        )
        self.http_outcome(step, r, took)

    async def do_lp_recv(self, step):
        frames, seen = [], []
        end = time.monotonic() + step.get("timeout", 12.0)
        while len(frames) < step["count"]:
            if time.monotonic() > end:
                raise Mismatch(
                    "timeout: %d of %d messages: %s"
                    % (len(frames), step["count"], short(frames))
                )
            r, _ = await self.request(
                {"method": "GET", "path": step["path"], "params": step["params"]}
            )
            v = strict_loads(r.text)
            if r.status_code != 200 or v.get("status") not in (200, 204):
                raise Mismatch("poll answered %s %s" % (r.status_code, short(v)))
            for m in v["messages"]:
                frames.append(text_frame(m, seen))
        if len(frames) > step["count"]:
            raise Mismatch("more than %d messages: %s" % (step["count"], short(frames)))
        self.frames_outcome(step, frames, seen)


# ------------------------------------------------------------------ command line


def load(directory, only=None, portable=False):
    out = []
    for root, _, files in sorted(os.walk(directory)):
        for f in sorted(files):
            if not f.endswith(".json"):
                continue
            with open(os.path.join(root, f), encoding="utf-8") as fh:
                v = json.load(fh)
            if "steps" not in v:
                continue
            ident = v["group"] + "/" + v["name"]
            if only and not any(
                ident == o
                or v["group"] == o
                or (o.endswith("*") and ident.startswith(o[:-1]))
                for o in only
            ):
                continue
            if portable and "adapter_dependent" in v:
                continue
            out.append(v)
    return out


async def run_one(base, v, slack, sem, limit=90):
    async with sem:
        t = time.monotonic()
        e = Engine(base, v, slack=slack)
        try:
            problems = await asyncio.wait_for(e.run(), limit)
        except asyncio.TimeoutError:
            problems = ["the case took more than %d s" % limit]
        except (
            Exception
        ) as exc:  # a broken vector or a bug here is a failure, not an abort
            problems = ["%s: %s" % (type(exc).__name__, exc)]
        return (
            v["group"] + "/" + v["name"],
            problems,
            round(time.monotonic() - t, 2),
            v["shows"],
        )


async def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--base", default="ws://127.0.0.1:4000")
    ap.add_argument("--vectors", required=True)
    ap.add_argument(
        "--only",
        action="append",
        help="GROUP, GROUP/NAME or GROUP/PREFIX*; may be repeated",
    )
    ap.add_argument("--json", help="write the results to this file")
    ap.add_argument("--jobs", type=int, default=4, help="cases run at once (default 4)")
    ap.add_argument(
        "--slack", type=float, default=1.0, help="multiply upper time limits"
    )
    ap.add_argument(
        "--portable",
        action="store_true",
        help="skip vectors whose outcome differs between Phoenix's two HTTP adapters (Bandit, Cowboy)",
    )
    ap.add_argument(
        "-q", "--quiet", action="store_true", help="print failures and the total only"
    )
    a = ap.parse_args()
    vectors = load(a.vectors, a.only, a.portable)
    sem = asyncio.Semaphore(a.jobs)
    # slow cases first, so that they overlap with the rest
    vectors.sort(key=lambda v: -v.get("seconds", 0))
    # cases with time bounds run first, apart from the ones that keep this process busy (megabyte frames)
    timed = [v for v in vectors if any("max_s" in s for s in v["steps"])]
    results = []
    for batch in (timed, [v for v in vectors if v not in timed]):
        for fut in asyncio.as_completed(
            [run_one(a.base, v, a.slack, sem) for v in batch]
        ):
            ident, problems, took, shows = await fut
            results.append(
                {
                    "case": ident,
                    "pass": not problems,
                    "problems": problems,
                    "seconds": took,
                }
            )
            if problems:
                print("FAIL %s  (%s)" % (ident, shows))
                for p in problems:
                    print("     " + p)
            elif not a.quiet:
                print("PASS %s" % ident)
            sys.stdout.flush()
    results.sort(key=lambda r: r["case"])
    ok = sum(r["pass"] for r in results)
    print("%d passed, %d failed" % (ok, len(results) - ok))
    if a.json:
        with open(a.json, "w", encoding="utf-8") as fh:
            json.dump(
                {
                    "base": a.base,
                    "passed": ok,
                    "failed": len(results) - ok,
                    "cases": results,
                },
                fh,
                indent=1,
            )
    return 0 if ok == len(results) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
