// What the scenarios need around phoenix.js: waiting for events, always with an end.

import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const TIMEOUT = 4000;
// ms until phoenix.js reconnects or joins again; 1.2.1 gives up an answer that takes longer
const AGAIN = 50;

export const WebSocket = require("ws");

// phoenix.js of before it could do without a browser
const FOR_BROWSERS = ["phoenix-1.2.1", "phoenix-1.6"];

// The Socket of an npm package, and the transport of that name
export function load({ package: name, transport }) {
  if (FOR_BROWSERS.includes(name)) {
    global.window = { WebSocket, XMLHttpRequest: require("xhr2") }; // the others have fetch
  }
  const { Socket, LongPoll } = require(name);
  return { Socket, transport: { WebSocket, LongPoll }[transport] };
}

// Things that happened and were not taken yet. take() waits for the next one.
export class Inbox {
  constructor(what) {
    this.what = what;
    this.items = [];
    this.takers = [];
  }

  put(item) {
    const taker = this.takers.shift();
    taker ? taker(item) : this.items.push(item);
  }

  take(timeout = TIMEOUT) {
    if (this.items.length) return Promise.resolve(this.items.shift());
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`waited in vain for ${this.what}`)), timeout);
      this.takers.push((item) => {
        clearTimeout(timer);
        resolve(item);
      });
    });
  }
}

// The answers to a Push, one after another: phoenix.js repeats a join's hooks at every rejoin.
export function answers(push, what) {
  const inbox = new Inbox(`an answer to ${what}`);
  for (const status of ["ok", "error", "timeout"]) {
    push.receive(status, (response) => inbox.put({ status, response }));
  }
  return inbox;
}

export const join = (channel) => answers(channel.join(), `the join of ${channel.topic}`);

export const ask = (channel, event, payload = {}, timeout = undefined) =>
  answers(channel.push(event, payload, timeout), event).take();

// Payloads of `event` as `channel` gets them
export function listen(channel, event) {
  const inbox = new Inbox(`${event} on ${channel.topic}`);
  channel.on(event, (payload) => inbox.put(payload));
  return inbox;
}

// What one scenario has open, and a topic of its own
export class Stage {
  constructor(Socket, transport, url, topic) {
    Object.assign(this, { Socket, transport, url, topic, sockets: [] });
  }

  socket(params = {}, { mount = "/socket", ...options } = {}) {
    const again = () => AGAIN;
    const { transport } = this;
    const socket = new this.Socket(`${this.url}${mount}`, {
      transport, params, reconnectAfterMs: again, rejoinAfterMs: again, ...options,
    });
    socket.opens = new Inbox("an open connection");
    socket.closes = new Inbox("the end of the connection");
    socket.errors = new Inbox("an error of the connection");
    socket.onOpen(() => socket.opens.put(true));
    socket.onClose((event) => socket.closes.put(event));
    socket.onError((error) => socket.errors.put(error));
    this.sockets.push(socket);
    return socket;
  }

  async connect(params, options) {
    const socket = this.socket(params, options);
    socket.connect();
    await socket.opens.take();
    return socket;
  }

  // A joined channel on `socket`, or on a connection of its own
  async channel(socket = null, topic = this.topic) {
    const channel = (socket ?? (await this.connect())).channel(topic, {});
    channel.joins = join(channel);
    const { status } = await channel.joins.take();
    if (status !== "ok") throw new Error(`the join of ${topic} was answered ${status}`);
    return channel;
  }

  strike() {
    for (const socket of this.sockets) socket.disconnect();
  }
}
