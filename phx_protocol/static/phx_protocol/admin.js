// Keeps a page as it is on the server: asks for it again every few seconds and changes what differs.
// Tables ([data-rows]) change row by row, other parts ([data-live]) as a whole. What has the focus is
// neither moved nor replaced; while text is selected or the tab is hidden nothing is asked.

const bar = document.querySelector("[data-refresh]");
if (bar) keep(bar);

const tail = document.querySelector("[data-tail]");
if (tail) follow(tail);

function keep(bar) {
  const every = 1000 * bar.dataset.refresh;
  const button = bar.querySelector("button");
  const said = bar.querySelector("span");
  const news = document.querySelector("[data-news]");
  let timer = null;
  let isPaused = false;
  let isAsking = false;
  let awaySince = null;

  async function refresh() {
    clearTimeout(timer);
    if (isAsking || isPaused || document.hidden) return;
    isAsking = true;
    const wait = AbortSignal.timeout(20_000);
    try {
      if (getSelection().isCollapsed) {
        const response = await fetch(location.href, { cache: "no-store", signal: wait });
        if (response.redirected || response.status === 403) return end();
        if (!response.ok) throw new Error(`status ${response.status}`);
        show(new DOMParser().parseFromString(await response.text(), "text/html"));
      }
    } catch {
      miss();
    } finally {
      isAsking = false;
    }
    timer = setTimeout(refresh, every);
  }

  function show(fresh) {
    if (isPaused || !getSelection().isCollapsed) return; // meanwhile
    const changes = change(fresh);
    if (awaySince) changes.unshift("The server is back.");
    awaySince = null;
    bar.classList.remove("phx-away");
    said.textContent = `Updated at ${time()}.`;
    if (changes.length) news.textContent = changes.join(" ");
  }

  function miss() {
    if (awaySince) return;
    awaySince = time();
    bar.classList.add("phx-away");
    said.textContent = `The server has not answered since ${awaySince}. Trying again.`;
    news.textContent = said.textContent;
  }

  function end() {
    bar.classList.add("phx-away");
    said.textContent = "You may not see this any longer. Load the page again.";
    news.textContent = said.textContent;
  }

  button.addEventListener("click", () => {
    isPaused = !isPaused;
    button.setAttribute("aria-pressed", String(isPaused));
    refresh();
  });
  document.addEventListener("visibilitychange", refresh);
  said.textContent = `Updated at ${time()}.`;
  bar.hidden = false;
  timer = setTimeout(refresh, every);
}

/** Show the messages of a topic as they come, the newest first. A hidden or paused page asks for none. */
function follow(tail) {
  const most = 200;
  const button = tail.querySelector("button");
  const said = tail.querySelector("span");
  const body = tail.querySelector("tbody");
  const template = tail.querySelector("template");
  let source = null;
  let isPaused = false;

  function listen() {
    if (source || isPaused || document.hidden) return;
    source = new EventSource(tail.dataset.tail);
    source.onopen = () => (said.textContent = "Listening.");
    source.onmessage = ({ data }) => show(JSON.parse(data));
    source.onerror = () => {
      const isOver = source.readyState === EventSource.CLOSED;
      said.textContent = isOver ? "The server refuses. Load the page again." : "Connecting again.";
    };
  }

  function stop() {
    source?.close();
    source = null;
    said.textContent = "";
  }

  function show({ messages, left_out }) {
    for (const { at, event, payload } of messages) {
      const row = template.content.firstElementChild.cloneNode(true);
      row.cells[0].textContent = new Date(at).toLocaleTimeString();
      row.querySelector("bdi").textContent = event;
      row.querySelector("pre").textContent = payload;
      body.prepend(row);
    }
    while (body.rows.length > most) body.lastElementChild.remove();
    if (left_out) said.textContent = `Listening. ${left_out} more came at ${time()}, too many to show.`;
  }

  button.addEventListener("click", () => {
    isPaused = !isPaused;
    button.setAttribute("aria-pressed", String(isPaused));
    isPaused ? stop() : listen();
  });
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : listen()));
  tail.hidden = false;
  listen();
}

/** Make the live parts what they are in `fresh`; returns what there is to say of it. */
function change(fresh) {
  for (const old of document.querySelectorAll("[data-live]")) {
    const part = fresh.querySelector(`[data-live="${old.dataset.live}"]`);
    if (part) changeInside(old, part);
  }
  const changes = [];
  for (const old of document.querySelectorAll("[data-rows]")) {
    const rows = fresh.querySelector(`[data-rows="${old.dataset.rows}"]`);
    if (rows) changes.push(...changeRows(old, rows));
  }
  return changes;
}

function changeInside(old, fresh) {
  if (old.innerHTML === fresh.innerHTML || holdsFocus(old)) return;
  old.replaceChildren(...document.importNode(fresh, true).childNodes);
}

function changeRows(old, fresh) {
  const left = new Map([...old.rows].map((row) => [row.dataset.key, row]));
  const came = [];
  const wanted = [...fresh.rows].map((next) => {
    const row = left.get(next.dataset.key);
    if (!left.delete(next.dataset.key)) came.push(next);
    return row ? changeRow(row, next) : document.importNode(next, true);
  });
  for (const row of left.values()) {
    if (holdsFocus(row)) row.classList.add("phx-gone"); // until the focus is elsewhere
    else row.remove();
  }
  place(old, wanted);
  return [...summary("New", came), ...summary("Gone", [...left.values()])];
}

function changeRow(row, next) {
  row.className = next.className;
  [...next.cells].forEach((cell, i) => changeInside(row.cells[i], cell));
  return row;
}

/** Bring `rows` into their order without moving the one that has the focus: it would lose it. */
function place(body, rows) {
  let at = body.firstElementChild;
  for (const row of rows) {
    if (row !== at && holdsFocus(row)) {
      for (let next; at !== row; at = next) {
        next = at.nextElementSibling;
        body.append(at);
      }
    }
    if (row === at) at = at.nextElementSibling;
    else body.insertBefore(row, at);
  }
}

function summary(what, rows) {
  if (!rows.length) return [];
  const names = rows.slice(0, 3).map((row) => row.dataset.name ?? row.dataset.key);
  const more = rows.length > 3 ? ` and ${rows.length - 3} more` : "";
  return [`${what}: ${names.join(", ")}${more}.`];
}

function holdsFocus(element) {
  return element.contains(document.activeElement);
}

function time() {
  return new Date().toLocaleTimeString();
}
