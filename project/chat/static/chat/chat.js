import { Presence, Socket } from "../phoenix/phoenix.mjs";
import { channelWithHistory } from "../phx_protocol/history.js";
import { identify, keepFresh } from "../phx_protocol/session.js";

const $ = (id) => document.getElementById(id);
const { url, token } = $("phx-script").dataset;
const { topic, user, tokenUrl } = $("chat").dataset;
const log = $("log");
const messages = $("messages");

// --- the socket and its channel

const socket = new Socket(url, {
  authToken: token, // not a parameter: URLs end up in logs
  longPollFallbackMs: 3000, // where no WebSocket gets through
});
const channel = channelWithHistory(socket, topic);

channel.on("new_msg", (message) => show(message));
channel.on("typing", ({ name }) => showTyping(name));
channel.onError(reconnecting);

let isNew = true; // the page was made a moment ago

// phoenix.js joins again after every reconnect, and comes here again
channel
  .join()
  .receive("ok", ({ history }) => {
    showStatus("connected", "Connected");
    if (!isNew) showMissed();
    // what came since the last join, or since the page was made, is on its way; or else it is not known
    const isComing = history.recovered || (isNew && history.rewound);
    isNew = false;
    if (!isComing) renew();
  })
  .receive("error", ({ reason }) => refused(reason))
  .receive("timeout", reconnecting);

identify(socket); // the answer to a request of this page does not come as a broadcast too
if (token) keepFresh(socket, newToken, { onDenied: () => refused("unauthorized") });
socket.connect();

/** The page may be open for longer than its token is valid. */
async function newToken() {
  const answer = await fetch(tokenUrl);
  return answer.ok ? answer.text() : null;
}

function refused(reason) {
  if (reason === "join crashed") return reconnecting(); // it may pass: phoenix.js tries again
  socket.disconnect();
  showStatus("refused", "Not connected");
  const anonymous = reason === "unauthorized";
  $("reason").textContent = anonymous
    ? "This room is for people who have signed in (unauthorized)."
    : `You cannot enter: ${reason}.`;
  $("sign-in").hidden = !anonymous;
  $("notice").hidden = false;
  $("compose")?.remove();
}

function reconnecting() {
  showStatus("reconnecting", "Reconnecting…");
}

function showStatus(state, text) {
  $("status").dataset.state = state;
  $("status").textContent = text;
  $("people").classList.toggle("stale", state !== "connected");
}

// --- messages

/** Show the latest messages, which a page of this room has in it. */
function showLatest(page) {
  const latest = page.getElementById("latest");
  if (!latest) return; // the visitor has not signed in
  JSON.parse(latest.textContent).forEach(show);
  $("empty").hidden = messages.childElementCount > 0;
  log.ariaBusy = "false";
}

/** Show the messages that the page would have if it was made now. */
async function renew() {
  try {
    const answer = await fetch(location.href);
    if (!answer.ok) throw new Error(answer.status);
    showLatest(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch {
    setTimeout(renew, 2000);
  }
}

// a line between what was there and what was said while the page was away, if anything was
let wasAway = false;

function showMissed() {
  wasAway = messages.childElementCount > 0;
  setTimeout(() => (wasAway = false), 1000);
}

// what a shell broadcasts is shown and not saved, so it has no id
function show({ id, by = "somebody", author = by, body, created = new Date().toISOString() }) {
  if (id && messages.querySelector(`[data-id="${Number(id)}"]`)) return; // seen before a rejoin
  const item = clone("message-template");
  if (id) item.dataset.id = id;
  item.classList.toggle("mine", author === user);
  const letters = [...author];
  const avatar = item.querySelector(".avatar");
  avatar.textContent = letters[0].toUpperCase();
  avatar.dataset.color = letters.reduce((sum, letter) => sum + letter.codePointAt(0), 0) % 6;
  item.querySelector(".author").textContent = author;
  item.querySelector(".body").textContent = body;
  const time = item.querySelector("time");
  const date = new Date(created);
  time.dateTime = created;
  time.textContent = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  time.title = date.toLocaleString();

  const later = id && [...messages.children].find((other) => Number(other.dataset.id) > id);
  messages.insertBefore(item, later || null);
  if (wasAway) item.before(clone("missed-template"));
  wasAway = false;
  $("empty").hidden = true;
  follow();
  showTyping(null, author);
}

function clone(template) {
  return $(template).content.firstElementChild.cloneNode(true);
}

// follow the conversation, unless somebody has scrolled up to read
let atEnd = true;
log.addEventListener("scroll", () => {
  atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
});
new ResizeObserver(follow).observe(log);

function follow() {
  if (atEnd) log.scrollTop = log.scrollHeight;
}

// --- sending: an item waits in the outbox until the server has acknowledged it

$("message-form")?.addEventListener("submit", (submit) => {
  submit.preventDefault();
  const body = $("message-input").value.trim();
  $("message-input").value = "";
  $("message-input").focus();
  lastTypingAt = 0;
  if (!body) return;
  const item = clone("outgoing-template");
  const payload = { key: crypto.randomUUID(), body }; // sent again, it is stored once
  item.querySelector(".body").textContent = body;
  item.querySelector(".retry").addEventListener("click", () => send(payload, item));
  $("outbox").append(item);
  atEnd = true;
  send(payload, item);
});

function send(payload, item) {
  const state = (failed, text) => {
    item.classList.toggle("failed", failed);
    item.querySelector(".state").textContent = text;
    item.querySelector(".retry").hidden = !failed;
    follow();
  };
  state(false, "Sending…");
  channel
    .push("new_msg", payload, 5000)
    .receive("ok", () => item.remove())
    .receive("error", ({ reason }) => state(true, `Not sent: ${reason}`))
    .receive("timeout", () => state(true, "Not sent: no answer"));
}

$("hello-form")?.addEventListener("submit", async (submit) => {
  submit.preventDefault();
  const form = submit.target;
  const answer = await fetch(form.action, { method: "POST", body: new FormData(form) });
  if (answer.ok) show(await answer.json());
});

// --- who is here

const presence = new Presence(channel);

presence.onSync(() => {
  const people = presence.list((id, { metas }) => [metas[0].name, metas.length]);
  $("people").replaceChildren(
    ...people.map(([name, tabs]) => {
      const item = document.createElement("li");
      item.textContent = tabs > 1 ? `${name} (${tabs} tabs)` : name;
      item.classList.toggle("you", name === user);
      return item;
    }),
  );
});

// --- who is typing

const typists = new Map(); // name -> the timer that forgets it
let lastTypingAt = 0;

$("message-input")?.addEventListener("input", () => {
  if (Date.now() - lastTypingAt < 2000 || channel.state !== "joined") return;
  lastTypingAt = Date.now();
  channel.push("typing", {});
});

/** `name` types, `done` does not any more. */
function showTyping(name, done = name) {
  clearTimeout(typists.get(done));
  typists.delete(done);
  if (name) typists.set(name, setTimeout(() => showTyping(null, name), 4000));
  const names = [...typists.keys()];
  $("typing").textContent = [
    "",
    `${names[0]} is typing…`,
    `${names[0]} and ${names[1]} are typing…`,
    "Several people are typing…",
  ][Math.min(names.length, 3)];
}

// --- the messages of when the page was made

showLatest(document);
