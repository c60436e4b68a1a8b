// The sandbox's live page. Everything from outside is written as text, never as markup.
(() => {
  "use strict";
  const BASE = "/sandbox";
  const ORDERS_MAX = 200;
  const ZONE = "Etc/GMT-5"; // Kazakhstan, UTC+5
  const SAID = {
    order_open: "not paid yet",
    order_paid: "paid, shop told",
    order_paid_untold: "paid, shop not told",
    order_failed: "failed, shop told",
    order_failed_untold: "failed, shop not told",
  };
  // Where the chain of an order that is not paid yet ends.
  const ENDS = {
    page_not_opened: "page not opened",
    page_refused: "page did not open",
    no_card: "no card yet",
    may_try_again: "declined, may try again",
    overdue: "time is over",
    challenged: "at the issuer",
    asked: "asking the bank",
    unknown: "outcome unknown",
    given_up: "outcome waits for a person",
  };
  const byId = (id) => document.getElementById(id);
  const orders = new Map();
  const rows = new Map();
  let chosen = "";
  let filter = "all";
  let shown = "";
  let asked = 0;
  let ahead = 0; // milliseconds between the sandbox's clock and this machine's

  const timeOf = new Intl.DateTimeFormat("en-GB", { timeZone: ZONE, timeStyle: "medium" });
  const dayOf = new Intl.DateTimeFormat("en-GB", { timeZone: ZONE, day: "numeric", month: "short" });
  const time = (text) => timeOf.format(new Date(text));
  const day = (text) => dayOf.format(new Date(text));
  const moment = (text) => day(text) + ", " + time(text);
  const clone = (id) => byId(id).content.firstElementChild.cloneNode(true);

  // Puts a text where the selector says; hides the element if there is none.
  function put(root, selector, text) {
    const element = root.querySelector(selector);
    element.textContent = text || "";
    element.hidden = !text;
    return element;
  }

  // `hasDay`: it is not of the day that one would think of.
  function when(element, text, hasDay = false) {
    element.dateTime = text || "";
    element.textContent = text ? (hasDay ? moment : time)(text) : "";
    element.title = text ? moment(text) : "";
    element.hidden = !text;
  }

  // The stream ------------------------------------------------------------------------------------------------------

  function live(state, words) {
    const element = byId("live");
    if (element.dataset.live === state) return;
    element.dataset.live = state;
    element.textContent = words;
  }

  function listen() {
    const stream = new EventSource(BASE + "/feed");
    stream.addEventListener("open", () => live("on", "live"));
    stream.addEventListener("all", (event) => {
      orders.clear();
      take(JSON.parse(event.data), false);
    });
    stream.addEventListener("changed", (event) => take(JSON.parse(event.data), true));
    stream.addEventListener("error", () => {
      live("off", "reconnecting");
      // A refused stream (a full or restarting gateway) is closed for good by the browser: ask anew.
      if (stream.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
    });
    addEventListener("pagehide", () => stream.close(), { once: true });
    addEventListener("pageshow", (event) => event.persisted && location.reload(), { once: true });
  }

  function take(changed, isNews) {
    for (const order of changed) orders.set(order.id, order);
    drawList(isNews ? new Set(changed.map((order) => order.id)) : new Set());
    if (chosen && changed.some((order) => order.id === chosen)) load();
  }

  // The list --------------------------------------------------------------------------------------------------------

  function isWanted(order) {
    const text = byId("find").value.trim().toLowerCase();
    const all = [order.invoice, order.shop, order.card, order.amount].join(" ").toLowerCase();
    if (text && !all.includes(text)) return false;
    if (filter === "all") return true;
    return filter === "untold" ? order.state.endsWith("_untold") : order.status === filter;
  }

  function drawList(news) {
    const sorted = [...orders.values()].sort((a, b) => (a.at < b.at ? 1 : a.at > b.at ? -1 : a.id < b.id ? 1 : -1));
    for (const old of sorted.splice(ORDERS_MAX)) orders.delete(old.id);
    const wanted = sorted.filter(isWanted);
    const list = byId("orders");
    for (const [id, row] of rows) {
      if (wanted.some((order) => order.id === id)) continue;
      row.remove();
      rows.delete(id);
    }
    wanted.forEach((order, index) => {
      let row = rows.get(order.id);
      if (!row) {
        row = clone("order-row");
        row.querySelector("button").addEventListener("click", () => choose(order.id));
        rows.set(order.id, row);
      }
      drawRow(row, order);
      if (list.children[index] !== row) list.insertBefore(row, list.children[index] || null);
      if (news.has(order.id)) flash(row);
    });
    byId("empty").hidden = orders.size > 0;
    byId("none").hidden = orders.size === 0 || wanted.length > 0;
  }

  function drawRow(row, order) {
    const button = row.querySelector("button");
    row.dataset.mark = order.mark;
    row.dataset.order = order.id;
    row.dataset.state = order.state;
    button.setAttribute("aria-current", String(order.id === chosen));
    put(row, ".invoice", order.invoice);
    put(row, ".amount", order.amount);
    put(row, ".said", (order.status === "open" && ENDS[order.end]) || SAID[order.state]);
    put(row, ".card", order.card);
    const last = order.messages[order.messages.length - 1];
    put(row, ".mail", last ? `${last.kind}: ${last.state}, ${last.tries} ${last.tries === 1 ? "try" : "tries"}` : "");
    when(row.querySelector("time"), order.at, day(order.at) !== day(Date.now() + ahead));
  }

  function flash(element) {
    element.classList.remove("news");
    void element.offsetWidth; // begins the animation anew
    element.classList.add("news");
  }

  // One order -------------------------------------------------------------------------------------------------------

  function choose(id, isByHand = true) {
    chosen = id;
    shown = "";
    document.body.dataset.view = id ? "order" : "list";
    if (isByHand) history.pushState(null, "", id ? "#" + id : location.pathname);
    drawList(new Set());
    byId("hint").hidden = Boolean(id);
    byId("order").hidden = true;
    if (id) load(true);
  }

  async function load(isNew = false) {
    const id = chosen;
    const turn = ++asked;
    const language = byId("language").value;
    const answer = await fetch(`${BASE}/orders/${id}?language=${language}`, { cache: "no-store" }).catch(() => null);
    if (turn !== asked || id !== chosen) return; // a newer question is on its way
    if (!answer) return setTimeout(() => turn === asked && load(isNew), 2000);
    const text = await answer.text();
    if (turn !== asked || id !== chosen) return;
    if (!answer.ok) {
      byId("hint").hidden = false;
      byId("hint").textContent = JSON.parse(text).message;
      return;
    }
    const order = JSON.parse(text);
    const known = JSON.stringify([order.story, order.deliveries, order.amount]);
    byId("order").hidden = false;
    if (known !== shown) {
      shown = known;
      drawOrder(order);
    }
    if (isNew) {
      scrollTo({ top: 0 });
      byId("detail").scrollTop = 0;
      byId("detail").focus({ preventScroll: true });
    }
  }

  function drawOrder(order) {
    byId("invoice").textContent = order.invoice;
    byId("amount").textContent = order.amount;
    byId("shop").textContent = order.shop;
    const verdict = byId("verdict");
    verdict.dataset.mark = order.story.mark;
    verdict.lang = byId("story").lang = order.story.language;
    put(verdict, "#summary", order.story.summary);
    put(verdict, "#said", order.story.quote);
    put(verdict, "#advice", order.story.advice);
    let today = order.story.lines.length ? day(order.story.lines[0].at) : "";
    const lines = order.story.lines.map((line) => {
      const isNewDay = Boolean(line.at) && day(line.at) !== today;
      if (isNewDay) today = day(line.at);
      return drawLine(line, isNewDay);
    });
    byId("story").replaceChildren(...lines);
    const open = new Set([...byId("messages").querySelectorAll("details[open]")].map((each) => each.dataset.key));
    const results = new Map(
      [...byId("messages").children].map((each) => [each.dataset.message, each.querySelector(".result").textContent]),
    );
    byId("messages").replaceChildren(...order.deliveries.map((each) => drawMessage(each, open, results.get(each.id))));
    byId("no-messages").hidden = order.deliveries.length > 0;
  }

  function drawLine(line, isNewDay) {
    const item = clone("story-line");
    item.dataset.mark = line.mark;
    item.dataset.fact = line.fact;
    when(item.querySelector("time"), line.at, isNewDay);
    put(item, ".step", line.step);
    put(item, ".text", line.text);
    put(item, "blockquote", line.quote);
    put(item, ".advice", line.advice);
    return item;
  }

  function drawMessage(message, open, result) {
    const item = clone("message");
    item.dataset.message = message.id;
    item.dataset.state = message.state;
    put(item, "h4", message.kind);
    put(item, ".state", message.state);
    put(item, ".to", message.url);
    put(item, ".next", message.next_try_at ? "next try " + moment(message.next_try_at) : "");
    put(item, ".result", result);
    item.querySelector(".ways").setAttribute("aria-label", "Send this message again");
    for (const button of item.querySelectorAll("[data-way]")) {
      button.addEventListener("click", () => send(item, message.id, button));
    }
    const body = item.querySelector("[data-part=body]");
    keep(body, message.id + " body", open);
    paint(body.querySelector("pre"), message.body);
    item.querySelector(".tries").replaceChildren(
      ...[...message.attempts].reverse().map((attempt) => drawTry(attempt, message.id, open)),
    );
    return item;
  }

  function drawTry(attempt, messageId, open) {
    const item = clone("try");
    const isDelivered = attempt.status >= 200 && attempt.status <= 299;
    item.dataset.mark = isDelivered ? "done" : "bad";
    keep(item.querySelector("details"), `${messageId} ${attempt.number}`, open);
    put(item, ".number", "try " + attempt.number);
    const note = attempt.status !== null && attempt.error ? ` (${attempt.error})` : "";
    put(item, ".answer", (attempt.status ?? attempt.error) + note);
    put(item, ".took", attempt.duration_ms + " ms");
    when(item.querySelector("time"), attempt.at, day(attempt.at) !== day(Date.now() + ahead));
    put(item, ".from", attempt.address ? "to " + attempt.address : "");
    const headers = attempt.headers.map(([name, value]) => `${name}: ${value}`).join("\n");
    put(item, ".headers", headers || "nothing: it never came to that");
    put(item, ".response", attempt.response || (attempt.status === null ? "nothing" : "a status, and no text"));
    return item;
  }

  function keep(details, key, open) {
    details.dataset.key = key;
    details.open = open.has(key);
  }

  // JSON with a line for each field, and a colour for each kind of value.
  function paint(element, body) {
    let parsed;
    try {
      parsed = JSON.parse(body);
    } catch {
      element.textContent = body;
      return;
    }
    const parts = JSON.stringify(parsed, null, 2).split(/("(?:[^"\\]|\\.)*"(?:\s*:)?|-?\d+(?:\.\d+)?)/);
    element.replaceChildren(
      ...parts.map((part, index) => {
        if (index % 2 === 0) return document.createTextNode(part);
        const span = document.createElement("span");
        span.className = part.endsWith(":") ? "key" : part.startsWith('"') ? "string" : "number";
        span.textContent = part;
        return span;
      }),
    );
  }

  const DONE = {
    again: "It is on its way again.",
    twice: "It was sent, and is on its way once more.",
    swapped: "It was sent, and the one before it is on its way now.",
    late: "It will be sent later, by the sandbox's clock.",
  };

  async function send(item, id, button) {
    const buttons = item.querySelectorAll("[data-way]");
    const way = button.dataset.way;
    const seconds = Number(item.querySelector("select").value);
    if (item.dataset.busy) return;
    item.dataset.busy = "yes";
    buttons.forEach((each) => each.setAttribute("aria-disabled", "true"));
    const done = (told) =>
      told.waits_for ? `It waits until its order's earlier message ${told.waits_for} is delivered or ends.` : DONE[way];
    const words = await post(`${BASE}/messages/${id}/send`, way === "late" ? { way, seconds } : { way }, done);
    delete item.dataset.busy;
    buttons.forEach((each) => each.removeAttribute("aria-disabled"));
    // The list of messages may have been drawn anew meanwhile.
    const now = byId("messages").querySelector(`[data-message="${id}"]`);
    if (now) put(now, ".result", words);
    load();
  }

  // What to tell of a request that changes something.
  async function post(path, body, done) {
    try {
      const answer = await fetch(path, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      });
      const told = await answer.json();
      return answer.ok ? done(told) : told.message;
    } catch {
      return "The gateway does not answer.";
    }
  }

  // The clock -------------------------------------------------------------------------------------------------------

  async function readClock() {
    try {
      const answer = await fetch(BASE + "/clock", { cache: "no-store" });
      if (!answer.ok) return;
      const told = await answer.json();
      ahead = new Date(told.now) - Date.now();
      byId("ahead").textContent = lead(told.offset_seconds);
      byId("clock").hidden = false;
      tick();
    } catch {
      // The gateway is away; the stream says so.
    }
  }

  function lead(seconds) {
    const days = Math.floor(seconds / 86400);
    const hours = Math.floor((seconds % 86400) / 3600);
    const minutes = Math.floor((seconds % 3600) / 60);
    const parts = [days && days + " d", hours && hours + " h", minutes && minutes + " min"].filter(Boolean);
    return parts.length ? "+" + parts.join(" ") : "";
  }

  function tick() {
    byId("now").textContent = moment(Date.now() + ahead);
  }

  async function advance(button) {
    const clock = byId("clock");
    if (clock.dataset.busy) return;
    clock.dataset.busy = "yes";
    const words = await post(BASE + "/clock", { advance_seconds: Number(button.dataset.advance) }, () => "");
    delete clock.dataset.busy;
    await readClock();
    if (words) byId("ahead").textContent = words;
  }

  // ------------------------------------------------------------------------------------------------------------------

  byId("orders").addEventListener("keydown", (event) => {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const next = step && event.target.closest("li")[step];
    if (!next) return;
    event.preventDefault();
    next.querySelector("button").focus();
  });
  byId("find").addEventListener("input", () => drawList(new Set()));
  document.querySelectorAll("[data-filter]").forEach((button) => {
    button.addEventListener("click", () => {
      filter = button.dataset.filter;
      document.querySelectorAll("[data-filter]").forEach((each) => {
        each.setAttribute("aria-pressed", String(each === button));
      });
      drawList(new Set());
    });
  });
  document.querySelectorAll("[data-advance]").forEach((button) => {
    button.addEventListener("click", () => advance(button));
  });
  byId("language").addEventListener("change", () => load());
  byId("back").addEventListener("click", () => {
    const row = rows.get(chosen);
    choose("");
    if (row) row.querySelector("button").focus();
  });
  addEventListener("popstate", () => choose(location.hash.slice(1), false));
  setInterval(tick, 1000);
  setInterval(() => document.visibilityState === "visible" && readClock(), 10000);
  readClock();
  choose(location.hash.slice(1), false);
  listen();
})();
