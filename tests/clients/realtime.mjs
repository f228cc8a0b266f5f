// node realtime.mjs '{"url": "ws://127.0.0.1:8000", "scenario": "renewed"}'
// supabase-js's client: it sends new tokens by itself. Prints what its application saw.

import { createRequire } from "node:module";
import { writeSync } from "node:fs";
import { Inbox, WebSocket } from "./client.mjs";

const { RealtimeClient } = createRequire(import.meta.url)("@supabase/realtime-js");
const { url, scenario, vsn = "1.0.0" } = JSON.parse(process.argv[2]);
const site = url.replace("ws://", "http://");
const text = async (path) => (await fetch(site + path)).text();
const token = (seconds, user = "ada") => text(`/token/${user}/${seconds}`);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const opened = [];

async function client(seconds, options = {}) {
  const params = { apikey: await token(seconds) };
  const made = new RealtimeClient(`${url}/socket`, { params, vsn, timeout: 5000, transport: WebSocket, ...options });
  made.closed = new Inbox("a close");
  made.socketAdapter.onClose((event) => made.closed.put(event.code));
  made.connect();
  opened.push(made);
  return made;
}

async function channel(made, name) {
  const joined = made.channel(name, { config: { broadcast: { ack: true, self: true } } });
  joined.statuses = new Inbox("a status");
  joined.heard = [];
  joined.on("broadcast", { event: "shout" }, ({ payload }) => joined.heard.push(payload.n));
  joined.subscribe((status) => joined.statuses.put(status));
  const status = await joined.statuses.take();
  if (status !== "SUBSCRIBED") throw new Error(`${name}: ${status}`);
  return joined;
}

const scenarios = {
  // its callback gives a new token with each heartbeat; messages flow meanwhile
  async renewed() {
    const made = await client(4, { accessToken: () => token(4), heartbeatIntervalMs: 700 });
    const room = await channel(made, "renewed");
    let sent = 0;
    for (const end = Date.now() + 5000; Date.now() < end; await pause(20)) {
      const answer = await room.send({ type: "broadcast", event: "shout", payload: { n: sent } });
      if (answer !== "ok") throw new Error(answer);
      sent += 1;
    }
    await pause(200);
    return { lost: sent - room.heard.length, closes: made.closed.items.length, rejoins: room.statuses.items };
  },

  // setAuth on a hundred channels
  async channels() {
    const made = await client(60);
    await Promise.all([...Array(100).keys()].map((n) => channel(made, `many:${n}`)));
    const before = Number(await text("/authorizations"));
    await made.setAuth(await token(90));
    await pause(1500);
    return { asked: Number(await text("/authorizations")) - before, closes: made.closed.items };
  },

  async another() {
    const made = await client(60);
    await channel(made, "another");
    await made.setAuth(await token(60, "bob"));
    return { code: await made.closed.take() };
  },

  // without a new token the connection ends with the one it has
  async expired() {
    const made = await client(1.5);
    await channel(made, "expired");
    return { code: await made.closed.take() };
  },

  async nonsense() {
    const made = await client(60);
    const room = await channel(made, "nonsense");
    await made.setAuth("nonsense");
    await pause(1500);
    const answer = await room.send({ type: "broadcast", event: "shout", payload: { n: 1 } });
    return { answer, closes: made.closed.items };
  },
};

const result = await scenarios[scenario]();
writeSync(1, JSON.stringify(result));
process.exit(0);
