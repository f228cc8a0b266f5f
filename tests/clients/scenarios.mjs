// node scenarios.mjs '{"url": "ws://127.0.0.1:8000", "package": "phoenix"}'
// Runs every scenario with that phoenix.js; prints one JSON line {name, ok, detail} for each.

import assert from "node:assert/strict";
import { writeSync } from "node:fs";
import { createRequire } from "node:module";
import { Inbox, Stage, ask, join, listen } from "./client.mjs";

const require = createRequire(import.meta.url);
const WebSocket = require("ws");
const config = JSON.parse(process.argv[2]);

// what phoenix.js 1.2.1 expects of a browser
global.window = { WebSocket };
const { Socket } = require(config.package);
delete global.window; // the others would take Node for one
const isV1 = config.package === "phoenix-1.2.1";

const bytes = (...numbers) => new Uint8Array(numbers).buffer;
const numbers = (buffer) => {
  assert.ok(buffer instanceof ArrayBuffer, `no ArrayBuffer: ${JSON.stringify(buffer)}`);
  return [...new Uint8Array(buffer)];
};

const scenarios = {
  "connects": async (stage) => {
    const socket = await stage.connect();
    assert.equal(socket.connectionState(), "open");
  },

  "is refused by connect": async (stage) => {
    const socket = stage.socket({ deny: "1" });
    socket.connect();
    assert.match((await socket.errors.take()).message, /403/);
    assert.equal(socket.opens.items.length, 0);
  },

  "has its heartbeats answered": async (stage) => {
    const socket = await stage.connect({}, { heartbeatIntervalMs: 20 });
    const beats = new Inbox("a heartbeat's reply");
    socket.onMessage((message) => message.topic === "phoenix" && beats.put(message));
    for (const _ of [1, 2, 3]) {
      const { event, payload } = await beats.take();
      assert.deepEqual([event, payload], ["phx_reply", { status: "ok", response: {} }]);
    }
    assert.equal(socket.closes.items.length, 0);
  },

  "joins": async (stage) => {
    const socket = await stage.connect();
    const channel = socket.channel(stage.topic, { welcome: "hello ❤" });
    const answer = await join(channel).take();
    assert.deepEqual(answer, { status: "ok", response: { welcome: "hello ❤" } });
    assert.equal(channel.state, "joined");
  },

  "is denied a join": async (stage) => {
    const socket = await stage.connect();
    const channel = socket.channel(stage.topic, { deny: true });
    const answer = await join(channel).take();
    assert.deepEqual(answer, { status: "error", response: { reason: "unauthorized" } });
    assert.notEqual(channel.state, "joined");
  },

  "is told that no channel matches the topic": async (stage) => {
    const socket = await stage.connect();
    const answer = await join(socket.channel("nowhere:1", {})).take();
    assert.deepEqual(answer, { status: "error", response: { reason: "unmatched topic" } });
  },

  "gets a push just after the join": async (stage) => {
    const socket = await stage.connect();
    const channel = socket.channel(stage.topic, { push_on_join: [1, 2] });
    const pushed = listen(channel, "joined");
    join(channel);
    assert.deepEqual(await pushed.take(), { v: [1, 2] });
  },

  "gets a reply to a push": async (stage) => {
    const channel = await stage.channel();
    const payload = { a: [1, null, "ü", { b: 0.5 }] };
    assert.deepEqual(await ask(channel, "echo", payload), { status: "ok", response: payload });
  },

  "gets an error reply to a push": async (stage) => {
    const channel = await stage.channel();
    const answer = await ask(channel, "echo_error", { reason: "no" });
    assert.deepEqual(answer, { status: "error", response: { reason: "no" } });
  },

  "sees a push that nobody answers time out": async (stage) => {
    const channel = await stage.channel();
    assert.equal((await ask(channel, "noreply", {}, 50)).status, "timeout");
    assert.equal((await ask(channel, "ok")).status, "ok");
  },

  "chats with another client": async (stage) => {
    const [alice, bob] = [await stage.channel(), await stage.channel()];
    const [toAlice, toBob] = [listen(alice, "shout"), listen(bob, "shout")];
    alice.push("shout", { from: "alice" });
    for (const inbox of [toAlice, toBob]) {
      assert.deepEqual(await inbox.take(), { from: "alice" });
    }
    bob.push("shout", { from: "bob" });
    for (const inbox of [toAlice, toBob]) {
      assert.deepEqual(await inbox.take(), { from: "bob" });
    }
  },

  "whispers to the others only": async (stage) => {
    const [alice, bob] = [await stage.channel(), await stage.channel()];
    const [toAlice, toBob] = [listen(alice, "shout"), listen(bob, "shout")];
    alice.push("whisper", { v: "psst" });
    alice.push("shout", { v: "all" });
    assert.deepEqual(await toBob.take(), { v: "psst" });
    assert.deepEqual(await toBob.take(), { v: "all" });
    assert.deepEqual(await toAlice.take(), { v: "all" });
  },

  "leaves and joins again": async (stage) => {
    const bob = await stage.channel();
    const socket = await stage.connect();
    const alice = await stage.channel(socket);
    const [closes, heard] = [new Inbox("phx_close"), new Inbox("a shout")];
    socket.onMessage(({ event, payload }) => {
      if (event === "phx_close") closes.put(payload);
      if (event === "shout") heard.put(payload);
    });
    assert.deepEqual((await ask(alice, "count")).response, { count: 1 });
    alice.leave();
    assert.equal(alice.state, "closed");
    await closes.take();
    await ask(bob, "shout_ack", { v: "while away" });
    const again = await stage.channel(socket);
    assert.deepEqual((await ask(again, "count")).response, { count: 1 });
    await ask(bob, "shout_ack", { v: "back" });
    assert.deepEqual(await heard.take(), { v: "back" });
    assert.equal(again.state, "joined");
  },

  "joins again by itself when the channel crashed": async (stage) => {
    const channel = await stage.channel();
    const errors = new Inbox("phx_error");
    channel.onError(() => errors.put(true));
    assert.deepEqual((await ask(channel, "count")).response, { count: 1 });
    channel.push("crash", {});
    await errors.take();
    assert.equal((await channel.joins.take()).status, "ok");
    assert.deepEqual((await ask(channel, "count")).response, { count: 1 });
    assert.equal(channel.socket.closes.items.length, 0);
  },

  "stays away when the channel stopped": async (stage) => {
    const socket = await stage.connect();
    const [channel, clock] = [await stage.channel(socket), await stage.channel(socket, "room:clock")];
    const closes = new Inbox("phx_close");
    channel.onClose(() => closes.put(true));
    channel.push("stop", {});
    await closes.take();
    assert.equal(channel.state, "closed");
    await ask(clock, "later", { ms: 150, v: "long after a rejoin would have come" });
    assert.equal(channel.joins.items.length, 0);
    assert.equal(channel.state, "closed");
  },

  "reconnects and joins again when the server disconnects it": async (stage) => {
    const admin = await stage.channel(null, "room:admin");
    const socket = await stage.connect({ user_id: stage.topic });
    const channel = await stage.channel(socket);
    assert.equal((await ask(admin, "disconnect_user", { user_id: stage.topic })).status, "ok");
    assert.equal((await socket.closes.take()).code, 1001);
    await socket.opens.take();
    assert.equal((await channel.joins.take()).status, "ok");
    assert.deepEqual((await ask(channel, "assigns")).response, { user_id: stage.topic });
    assert.equal(admin.socket.closes.items.length, 0);
  },
};

const sinceV2 = {
  "connects with an auth token": async (stage) => {
    const socket = await stage.connect({}, { authToken: "t-1" });
    assert.equal(socket.conn.protocol, "phoenix");
    assert.equal((await ask(await stage.channel(socket), "ok")).status, "ok");
  },

  "has bytes echoed": async (stage) => {
    const channel = await stage.channel();
    const { status, response } = await ask(channel, "echo", bytes(0, 1, 127, 128, 255));
    assert.equal(status, "ok");
    assert.deepEqual(numbers(response), [0, 1, 127, 128, 255]);
  },

  "gets bytes pushed": async (stage) => {
    const channel = await stage.channel();
    const pushed = listen(channel, "pushed");
    channel.push("push_me", bytes(1, 0, 2));
    assert.deepEqual(numbers(await pushed.take()), [1, 0, 2]);
  },

  "gets bytes broadcast": async (stage) => {
    const [alice, bob] = [await stage.channel(), await stage.channel()];
    const [toAlice, toBob] = [listen(alice, "shout"), listen(bob, "shout")];
    alice.push("shout", bytes(255, 0));
    for (const inbox of [toAlice, toBob]) {
      assert.deepEqual(numbers(await inbox.take()), [255, 0]);
    }
  },
};

let count = 0;
for (const [name, scenario] of Object.entries({ ...scenarios, ...(isV1 ? {} : sinceV2) })) {
  const stage = new Stage(Socket, WebSocket, config.url, `room:${count++}`);
  let result = { name, ok: true, detail: "" };
  try {
    await scenario(stage);
  } catch (error) {
    result = { name, ok: false, detail: error.stack ?? String(error) };
  }
  stage.strike();
  writeSync(1, `${JSON.stringify(result)}\n`);
}
process.exit(0); // 1.2.1 never stops its heartbeat
