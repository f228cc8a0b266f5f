// node revoked.mjs '{"url": "ws://127.0.0.1:8000", "package": "phoenix", "module": "session.mjs",
//   "transport": "WebSocket", "scenario": "revoked"}'
// Somebody's token is revoked. Prints what her application saw of it; "restart" asks for a restart of everything.

import { writeSync } from "node:fs";
import { Inbox, Stage, ask, load } from "./client.mjs";

const config = JSON.parse(process.argv[2]);
const { Socket, transport } = load(config);
const { keepFresh } = await import(config.module);
const stage = new Stage(Socket, transport, config.url, "staff:1");
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const LONG = 30_000;

const control = await stage.channel(await stage.connect({}, { mount: "/control" }), "control");
const tell = async (event, payload = {}) => {
  const { status, response } = await ask(control, event, payload, LONG);
  if (status !== "ok") throw new Error(`${event} was answered ${status}`);
  return response;
};

// A page of the user `one`, which gets its tokens from `getToken`, and has a channel
async function page(one, getToken) {
  const socket = stage.socket({}, { mount: "/fresh", authToken: one.token });
  const denied = new Inbox("a denial");
  const name = `${config.scenario} ${config.package} ${config.transport} ${process.pid}`;
  keepFresh(socket, getToken, { name, onDenied: (why) => denied.put(why) });
  socket.connect();
  await socket.opens.take();
  return { socket, denied, room: await stage.channel(socket) };
}

// one that is not the old one: a token says in which second it was made
async function another(one) {
  await pause(1100);
  return (await tell("another", one)).token;
}

const scenarios = {
  // it is closed, and back with a fresh token by itself
  async revoked() {
    const one = await tell("prepare");
    const { socket, denied, room } = await page(one, () => another(one));
    await tell("take_away", { how: "revoke", ...one });
    const { code } = await socket.closes.take();
    await room.joins.take(LONG);
    const { status } = await ask(room, "echo");
    return { code, status, denied: denied.items };
  },

  // the site has nothing but the revoked token for it: it stops
  async banned() {
    const one = await tell("prepare");
    const { socket, denied } = await page(one, async () => one.token);
    await tell("take_away", { how: "revoke", ...one });
    const { code } = await socket.closes.take();
    await denied.take(LONG);
    await pause(500);
    return { code, connected: socket.isConnected() };
  },

  // all servers and Redis are new: who has a good token is back, the revoked one is refused still
  async restarted() {
    const [good, bad] = [await tell("prepare"), await tell("prepare")];
    const { socket, denied, room } = await page(good, async () => good.token);
    await tell("take_away", { how: "revoke", ...bad });
    writeSync(1, "restart\n");
    await socket.closes.take(LONG);
    await room.joins.take(LONG);
    const { status } = await ask(room, "echo");
    const intruder = stage.socket({}, { mount: "/fresh", authToken: bad.token });
    intruder.connect();
    for (let refusals = 0; refusals < 2; refusals++) await intruder.errors.take(LONG);
    return { status, denied: denied.items, connected: intruder.isConnected() };
  },
};

writeSync(1, `${JSON.stringify(await scenarios[config.scenario]())}\n`);
process.exit(0);
