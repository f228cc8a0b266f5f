// node session.mjs '{"url": "ws://127.0.0.1:8000", "package": "phoenix", "module": "session.mjs",
//   "transport": "WebSocket", "scenario": "renewed"}'
// Ada's tokens end soon. Prints what her application saw of it.

import { writeSync } from "node:fs";
import { Inbox, Stage, ask, listen, load } from "./client.mjs";

const config = JSON.parse(process.argv[2]);
const { Socket, transport } = load(config);
const { identify, keepFresh } = await import(config.module);
const stage = new Stage(Socket, transport, config.url, `room:${config.scenario}`);
const site = config.url.replace("ws://", "http://");
const text = async (path) => (await fetch(site + path)).text();
const token = (seconds, user = "ada") => text(`/token/${user}/${seconds}`);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// A socket with the token; the tabs of this scenario share with no other one
function tab(given, getToken, options = {}) {
  const socket = stage.socket({}, { authToken: given });
  const denied = new Inbox("a denial");
  const name = `${config.scenario} ${config.package} ${config.transport} ${process.pid}`;
  const session = keepFresh(socket, getToken, { name, onDenied: (why) => denied.put(why), ...options });
  return { socket, denied, session };
}

const scenarios = {
  // requests name the connection that the page has now, and only those to its own site
  async identified() {
    globalThis.location = new URL(site);
    const elsewhere = site.replace("127.0.0.1", "localhost");
    const original = globalThis.fetch;
    const socket = stage.socket({}, { authToken: await token(60) });
    const page = identify(socket);
    const before = [page.id(), page.headers(), await text("/connection")];
    socket.connect();
    await socket.opens.take();
    const room = await stage.channel(socket);
    await ask(room, "echo", {});
    const first = page.id();
    const named = (await text("/connection")) === first && page.headers()["X-Phx-Connection"] === first;
    const posted = await fetch(`${site}/connection`, { method: "POST", body: "x", headers: { a: "b" } });
    const foreign = await (await original(`${elsewhere}/connection`)).text();
    const leaked = await (await fetch(`${elsewhere}/connection`)).text();
    socket.disconnect();
    await socket.closes.take();
    const gone = page.id();
    socket.connect();
    await room.joins.take();
    await ask(room, "echo", {});
    const second = page.id();
    page.stop();
    return {
      before,
      named: named && (await posted.text()) === first,
      foreign,
      leaked,
      gone,
      isNew: second !== null && second !== first,
      stopped: globalThis.fetch === original && page.id() === null,
    };
  },

  // messages flow meanwhile: none is lost, no connection ends, nothing is joined again
  async renewed() {
    let asked = 0;
    const getToken = () => (asked++, token(2));
    const { socket } = tab(await token(2), getToken);
    socket.connect();
    await socket.opens.take();
    const room = await stage.channel(socket);
    const end = Date.now() + 5000;
    let lost = 0;
    while (Date.now() < end) {
      const { status } = await ask(room, "echo", {});
      if (status !== "ok") lost += 1;
      await pause(20);
    }
    return { lost, closes: socket.closes.items.length, asked: asked >= 2 && asked <= 4 };
  },

  // the site gives no token in time: the connection ends, and is back when it does
  async expired() {
    let isAway = true;
    const getToken = async () => {
      if (isAway) throw new Error("the site is away");
      return token(60);
    };
    const { socket } = tab(await token(1.5), getToken);
    socket.connect();
    await socket.opens.take();
    const room = await stage.channel(socket);
    const { code } = await socket.closes.take();
    isAway = false;
    await room.joins.take(10_000); // it has asked already, and asks again after five seconds
    const { status } = await ask(room, "echo", {});
    return { code, status };
  },

  // the first token is of no use: it asks for another one by itself
  async useless() {
    const { socket } = tab("nonsense", () => token(60));
    socket.connect();
    await socket.opens.take();
    const room = await stage.channel(socket);
    return { status: (await ask(room, "echo", {})).status };
  },

  // nothing but useless tokens: it stops
  async denied() {
    let asked = 0;
    const { socket, denied } = tab("nonsense", async () => (asked++, "nonsense"));
    socket.connect();
    const why = await denied.take();
    await pause(500);
    return { why, asked: asked > 0, connected: socket.isConnected(), again: denied.items };
  },

  // the visitor may not have one any more
  async unwelcome() {
    const { socket, denied } = tab(await token(1.5), () => null);
    socket.connect();
    await socket.opens.take();
    return { why: await denied.take(), connected: socket.isConnected() };
  },

  // somebody else's: the connection ends, and the next one is that of the other user
  async another() {
    const { socket, session } = tab(await token(60), () => token(60, "bob"));
    socket.connect();
    await socket.opens.take();
    await session.renew();
    const { code } = await socket.closes.take();
    await socket.opens.take();
    return { code };
  },

  // two tabs, which one token serves
  async tabs() {
    let asked = 0;
    const first = await token(2);
    const getToken = async () => (asked++, token(60));
    const tabs = [tab(first, getToken), tab(first, getToken)];
    for (const { socket } of tabs) socket.connect();
    for (const { socket } of tabs) await socket.opens.take();
    const rooms = [await stage.channel(tabs[0].socket), await stage.channel(tabs[1].socket)];
    await pause(2500);
    const statuses = [];
    for (const room of rooms) statuses.push((await ask(room, "echo", {})).status);
    const closes = tabs.map(({ socket }) => socket.closes.items.length);
    return { asked: asked <= 2, statuses, closes };
  },

  // a hundred channels bring the same token: each is asked once more, not a hundred times
  async channels() {
    const { socket } = tab(await token(60), () => token(60));
    socket.connect();
    await socket.opens.take();
    const rooms = [];
    for (let n = 0; n < 100; n++) rooms.push(await stage.channel(socket, `room:many-${n}`));
    const before = Number(await text("/authorizations"));
    const fresh = await token(90);
    const answers = await Promise.all(rooms.map((room) => ask(room, "access_token", { access_token: fresh })));
    const after = Number(await text("/authorizations"));
    return { asked: after - before, statuses: [...new Set(answers.map(({ status }) => status))] };
  },

  // a laptop that sleeps: its timers stand still, its clock does not
  async asleep() {
    const { socket, session } = tab(await token(60), () => token(60));
    socket.connect();
    await socket.opens.take();
    const room = await stage.channel(socket);
    const bring = listen(room, "shout");
    const [now, before] = [Date.now, socket.authToken()];
    await pause(200); // the server has said when it ends
    Date.now = () => now() + 3_600_000;
    globalThis.window?.dispatchEvent?.(new Event("online"));
    session.look();
    await pause(500);
    Date.now = now;
    await ask(room, "shout", { n: 1 });
    return { heard: await bring.take(), renewed: socket.authToken() !== before };
  },
};

writeSync(1, `${JSON.stringify(await scenarios[config.scenario]())}\n`);
process.exit(0);
