// A connection that outlives its token: before the token ends, your site is asked for a new one, which
// goes to the server over the living connection, and into the next one. The socket class on the server
// is a TokenSocket; phoenix.js is as it is.
//
//   const socket = new Socket("/socket", { authToken: token })
//   keepFresh(socket, async () => (await fetch("/token/")).text())
//   socket.connect()
//
// And a page whose requests say which connection it has: see `identify`.

const EVENT = "access_token";
const HEADER = "X-Phx-Connection";
/** ms: the timers of a sleeping laptop stand still, so the clock is looked at again and again */
const LOOK_EVERY = 15_000;
/** ms between two questions for a token, if the last one was of no use */
const PAUSE = 5_000;
/** ms that the answer to it may take */
const PATIENCE = 30_000;
/** close codes: the token has ended; no new connection helps; the user has opened too many others;
 * phoenix.js has got a 403 over long-poll */
const [EXPIRED, DENIED, REPLACED, FORBIDDEN] = [4401, 4403, 4429, 1008];
/** how many new tokens in a row are tried */
const TRIES = 3;

/**
 * Keep the token of a phoenix.js socket fresh, from now until `stop()`.
 *
 * `getToken` returns a new token, or a promise of one; null if the visitor may not have one any more.
 * Tabs with the same `name` (default: the socket's URL) share what one of them was given. `onDenied` is
 * called when the server, or `getToken`, has refused for good; then the socket is disconnected.
 * `param` is the connect parameter that has the token, for phoenix.js before 1.8.
 *
 * @param {any} socket
 * @param {() => string | null | Promise<string | null>} getToken
 * @param {{ name?: string, onDenied?: (reason: string) => void, param?: string }} [options]
 */
export function keepFresh(socket, getToken, options = {}) {
  const { name, onDenied = () => {}, param } = options;
  let token = socket.authToken?.() ?? null;
  let renewAt = Infinity; // by this machine's clock
  let asking = null;
  let stopped = false;
  let timer = null;
  let refused = 0; // tokens in a row
  let useless = null; // the token that the server has refused for good
  let failures = 0; // tries to connect in a row
  let ended = null; // a promise, while there is no connection because its token is of no use
  const pending = new Map(); // ref of a push -> the token that it brings
  const tabs = new Tabs(name ?? socket.endPoint, (shared) => use(shared));

  const hand = param ? handInParams(socket, param) : (fresh) => (socket.authToken = () => fresh);

  function use(fresh) {
    if (stopped || fresh === token) return;
    token = fresh;
    hand(fresh);
    send();
    resume();
  }

  // never into the buffer of a closed socket: it would bring an old token to a new connection
  function send() {
    if (token === null || !socket.isConnected()) return;
    const ref = socket.makeRef();
    pending.set(ref, token);
    socket.push({ topic: "phoenix", event: EVENT, payload: { [EVENT]: token }, ref });
  }

  function answered({ topic, event, ref, payload }) {
    if (topic !== "phoenix" || event !== "phx_reply" || !pending.has(ref)) return;
    const brought = pending.get(ref);
    pending.delete(ref);
    const { status, response } = payload;
    if (brought !== token) return; // a newer one is under way
    if (status === "ok") {
      refused = 0;
      renewIn(timeUntilRenewal(response.expires_in));
    } else if (response.permanent) deny(response.reason);
    else renewIn(PAUSE);
  }

  function renewIn(ms) {
    if (stopped) return;
    renewAt = Date.now() + ms;
    clearTimeout(timer);
    timer = setTimeout(look, Math.min(ms, LOOK_EVERY));
  }

  function look() {
    if (stopped) return;
    if (Date.now() >= renewAt) renew();
    else renewIn(renewAt - Date.now());
  }

  /** Ask for a new token, and let it count; one question at a time. */
  function renew() {
    asking ??= tabs
      .once(() => within(PATIENCE, getToken))
      .then(
        (fresh) => {
          if (!fresh) return deny("no token");
          if (fresh === useless) return deny("no other token");
          use(fresh);
          resume();
          // the server says when it ends; without a connection it does so when there is one
          renewIn(socket.isConnected() ? PAUSE : Infinity);
        },
        () => renewIn(PAUSE), // the site is away
      )
      .finally(() => (asking = null));
    return asking;
  }

  function lost({ code }) {
    pending.clear();
    if (stopped) return;
    if (code === REPLACED) return deny(`closed with ${code}`); // else it would close the next one
    const isRefused = code === DENIED || code === FORBIDDEN;
    if (isRefused && token !== useless) [refused, useless] = [refused + 1, token];
    if (refused > TRIES) deny(`closed with ${code}`);
    else if (isRefused || code === EXPIRED) pause();
    else if (Date.now() > renewAt) renew();
  }

  // no connection until there is another token: phoenix.js would bring the old one, again and again
  function pause() {
    ended = new Promise((resolve) => socket.disconnect(resolve));
    renew();
  }

  async function resume() {
    const pausing = ended;
    if (pausing === null) return;
    await pausing;
    if (ended !== pausing) return; // stopped, or paused again
    ended = null;
    socket.connect();
  }

  // a handshake that was refused looks like a server that is away: the token may be to blame
  function failed() {
    if (stopped || socket.isConnected()) return;
    failures += 1;
    if (Number.isInteger(Math.log2(failures / TRIES))) renew(); // at the 3rd, 6th, 12th ...
  }

  function opened() {
    failures = 0;
    send();
  }

  function deny(reason) {
    if (stopped) return;
    stop();
    socket.disconnect();
    onDenied(reason);
  }

  const endVisible = listenTo(globalThis.document, "visibilitychange", look);
  const endOnline = listenTo(globalThis.window, "online", look);
  const refs = [
    socket.onOpen(opened),
    socket.onMessage(answered),
    socket.onClose(lost),
    socket.onError(failed),
  ];
  if (socket.isConnected()) send();

  function stop() {
    stopped = true;
    ended = null;
    clearTimeout(timer);
    endVisible();
    endOnline();
    tabs.close();
    socket.off?.(refs);
  }

  return { renew, look, stop };
}

/**
 * Know the id of a phoenix.js socket's connection, so that a request of this page can name it: then
 * `broadcast(..., exclude=request)` on the server leaves this page out.
 *
 * With `fetches` (the default) each `fetch` of this page to its own site has the header. For other
 * requests: `headers()`, which is empty while there is no connection, and `id()`.
 *
 * @param {any} socket
 * @param {{ fetches?: boolean }} [options]
 */
export function identify(socket, { fetches = true } = {}) {
  let id = null;
  let asked = null; // the ref of the question

  function ask() {
    asked = socket.makeRef();
    socket.push({ topic: "phoenix", event: "connection_id", payload: {}, ref: asked });
  }

  function answered({ topic, event, ref, payload }) {
    if (topic === "phoenix" && event === "phx_reply" && ref === asked) id = payload.response.id ?? null;
  }

  const refs = [socket.onOpen(ask), socket.onMessage(answered), socket.onClose(() => (id = null))];
  if (socket.isConnected()) ask();
  const headers = () => (id === null ? {} : { [HEADER]: id });
  const end = fetches ? writeInto(headers) : () => {};

  function stop() {
    id = null;
    end();
    socket.off?.(refs);
  }

  return { id: () => id, headers, stop };
}

/** Let each `fetch` to this page's own site have these headers; returns what ends that. */
function writeInto(headers) {
  const original = globalThis.fetch;
  const fetch = async (input, init) => {
    const request = new Request(input, init);
    const isOwn = new URL(request.url).origin === globalThis.location?.origin;
    if (isOwn) for (const [name, value] of Object.entries(headers())) request.headers.set(name, value);
    return original.call(globalThis, request);
  };
  globalThis.fetch = fetch;
  return () => {
    if (globalThis.fetch === fetch) globalThis.fetch = original;
  };
}

/** What `ask` returns, or resolves to; rejected if that takes longer than `ms`. */
function within(ms, ask) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("no answer in time")), ms);
    const answer = Promise.resolve().then(ask);
    answer.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

/** ms: a fifth of the token's time before its end, a minute at the most; Infinity if it has no end */
function timeUntilRenewal(seconds) {
  return seconds === null ? Infinity : (seconds - Math.min(seconds / 5, 60)) * 1000;
}

function handInParams(socket, param) {
  const given = socket.params;
  return (fresh) => (socket.params = () => ({ ...given.call(socket), [param]: fresh }));
}

function listenTo(target, event, callback) {
  target?.addEventListener?.(event, callback);
  return () => target?.removeEventListener?.(event, callback);
}

/** The tabs of one browser: they ask one after the other, and tell each other what they were given. */
class Tabs {
  constructor(name, given) {
    this.lock = `phx_protocol ${name}`;
    this.last = { token: null, at: -Infinity };
    this.channel = globalThis.BroadcastChannel ? new BroadcastChannel(this.lock) : null;
    this.channel?.["unref"]?.(); // Node
    if (this.channel) {
      this.channel.onmessage = ({ data }) => {
        this.last = { token: data, at: Date.now() };
        given(data);
      };
    }
  }

  /** Call `ask`, unless another tab has asked since; resolves to the token. */
  async once(ask) {
    const since = Date.now();
    const locks = globalThis.navigator?.locks;
    const answer = async () => {
      if (this.last.at >= since) return this.last.token;
      const token = await ask();
      if (token) this.channel?.postMessage(token);
      return token;
    };
    return locks ? locks.request(this.lock, answer) : answer();
  }

  close() {
    this.channel?.close();
  }
}
