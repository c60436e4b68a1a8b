// The payment page's one script. Everything works without it. It makes typing a card pleasant, says what is wrong
// before anything is sent, changes the language without losing what was typed, and never leaves a payer in doubt: it
// asks for the outcome while the bank is being asked, and after the connection broke.
(() => {
  "use strict";
  const WARN_SECONDS = 120; // before the deadline
  const ANSWER_MS = 30000; // the gateway answers a card form within a few seconds
  const SURE_MS = 5000; // connection back, and nothing arrived for so long: the form comes back
  const LATE_MS = 300000; // what was sent may still arrive: a proxy can hold it for minutes

  const byId = (id) => document.getElementById(id);
  const main = () => document.querySelector("main");
  const card = () => byId("card");
  const reopen = () => location.replace(main().dataset.page);
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  let isSent = false;
  let lateUntil = 0;

  // Whoever has pressed a button and not yet let it go misses it if the page moves: what moves it awaits `pressed`.
  // A finger is told of as a mouse too, and fields are left at that (not at its pointer events).
  let pressed, release;
  addEventListener("mousedown", () => (pressed ||= new Promise((done) => (release = done))), true);
  for (const end of ["mouseup", "contextmenu", "dragend", "keydown"]) {
    addEventListener(end, () => setTimeout(() => (pressed = release?.())), true); // the click comes first
  }

  // A page that comes back from the browser's memory may tell an old state.
  addEventListener("pageshow", (event) => event.persisted && location.reload());
  document.addEventListener("visibilitychange", () => !document.hidden && card() && !isSent && look());

  function start() {
    const { state, version, page } = main().dataset;
    if (location.search && page) history.replaceState(null, "", page); // what it brought along is told by now
    if (["checking", "maintenance"].includes(state) || version === "busy") watch(1000);
    if ("away" in main().dataset) location.replace(byId("return").href);
    document.querySelectorAll(".fill, .tools").forEach((each) => (each.hidden = false));
    if (!navigator.clipboard) document.querySelectorAll("[data-do=copy]").forEach((each) => each.remove());
    if (!card()) return;
    const first = document.querySelector("[name=saved-card]");
    if (first && !document.querySelector("[name=saved-card]:checked")) first.checked = true;
    recognize();
    countdown();
  }

  // What the page would show now; nothing while there is no answer.
  async function ask() {
    try {
      const answer = await request(main().dataset.page + "/state", { cache: "no-store" }, 10000);
      if (answer.ok || answer.status === 404) return await answer.json();
    } catch {
      // The network is away: the callers ask again.
    }
  }

  // In maintenance a form stays: what is typed is not lost, and whoever sends it is told. An attempt moves it on.
  function hasMoved(now) {
    const { version } = main().dataset;
    return now && now.version !== version && now.version !== version.replace(/^(form|declined)/, "maintenance");
  }

  async function look() {
    const now = await ask();
    if (!isSent && hasMoved(now)) reopen();
    return now;
  }

  async function watch(wait) {
    await pause(wait);
    await look();
    watch(Math.min(wait * 1.3, /slow|maint/.test(main().dataset.version) ? 15000 : 5000));
  }

  function request(address, options, ms = ANSWER_MS) {
    const control = new AbortController();
    setTimeout(() => control.abort(), ms);
    return fetch(address, { ...options, signal: control.signal });
  }

  // ---- Buttons and forms

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (card() && button.form === card() && button.hasAttribute("formaction")) {
      event.preventDefault(); // it would send what is typed along
      change(button);
    } else if (button.dataset.do === "print") print();
    else if (button.dataset.do === "copy") copy(button);
    else if (button.dataset.number) fill(button.dataset);
  });

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (isSent) return event.preventDefault();
    if (form === card()) {
      event.preventDefault();
      if (!isComplete()) return;
      pay(form);
    }
    isSent = true;
    press(form.querySelector("[data-busy]"));
  });

  // What 3-D Secure asks of the payer's browser goes along with the card (web/browser.py).
  document.addEventListener("submit", ({ target }) => {
    if (!target.elements.browser) return;
    const { colorDepth: d, width: w, height: h } = screen;
    const z = new Date().getTimezoneOffset();
    const j = !!navigator.javaEnabled?.();
    target.elements.browser.value = JSON.stringify({ d, w, h, z, l: navigator.language, j, x: innerWidth, y: innerHeight });
  }, true);

  // A button that was pressed says so, until it is let go.
  function press(button, isDown = true) {
    if (!button) return;
    const words = button.firstElementChild;
    button.dataset.ready ||= words.textContent;
    button.toggleAttribute("aria-disabled", isDown);
    words.textContent = isDown ? button.dataset.busy : button.dataset.ready;
  }

  // Sent once and never again by itself. A redirect leads to the page, which shows the truth.
  async function pay(form) {
    try {
      const body = new URLSearchParams(new FormData(form));
      const answer = await request(form.action, { method: "POST", body, redirect: "manual" });
      if (answer.type === "opaqueredirect") return reopen();
      if (answer.status === 409) return location.replace(form.action + "?other");
      const markup = await answer.text();
      const isAnswer = answer.status < 500 || markup.includes('id="card"');
      if (!isAnswer || !(await adopt(markup))) return lost(form);
      isSent = false;
      const first = document.querySelector("[aria-invalid]") || document.querySelector("h1");
      if (first.tabIndex < 0) first.tabIndex = -1;
      first.focus();
    } catch {
      lost(form);
    }
  }

  // The connection broke while the card was on its way: nobody here knows whether it arrived, so the gateway is asked.
  async function lost(form) {
    const shown = main();
    const { className } = shown;
    const parts = [...shown.childNodes];
    const languages = document.querySelector(".languages");
    languages.hidden = true; // they belong to the form
    shown.replaceChildren(byId("lost").content.cloneNode(true));
    shown.className = "status";
    shown.dataset.state = "checking";
    let since = 0;
    for (let wait = 1000; !since || Date.now() - since < SURE_MS; wait = Math.min(wait * 1.3, 5000)) {
      await pause(wait);
      const now = await ask();
      if (hasMoved(now)) return reopen();
      since = now ? since || Date.now() : 0;
    }
    await pressed;
    shown.replaceChildren(...parts);
    shown.className = className;
    languages.hidden = false;
    shown.dataset.state = shown.dataset.version.split("-")[0];
    isSent = false;
    const button = form.querySelector("[data-busy]");
    press(button, false);
    notify(form.dataset.unsent);
    button.focus();
    start();
    expectLate();
  }

  // The form stands again, but what was lost may still arrive: then the page moves on to what became of it.
  async function expectLate() {
    const isAsking = lateUntil > Date.now();
    const { dataset } = document.documentElement;
    lateUntil = Date.now() + LATE_MS;
    if (isAsking) return;
    dataset.late = ""; // for frame.js
    while (Date.now() < lateUntil) {
      await pause(3000);
      if (!isSent) await look();
    }
    delete dataset.late;
  }

  // A button that changes the page, not the payment: its answer takes the page's place around what is typed.
  async function change(button) {
    try {
      const body = new URLSearchParams(button.name ? [[button.name, button.value]] : []);
      const answer = await request(button.formAction, { method: "POST", body });
      if (answer.status === 404) return reopen();
      if (!answer.ok || !(await adopt(await answer.text()))) return notify(card().dataset.offline);
      const hurry = document.querySelector(".hurry p");
      const next = document.querySelector(".ask button, [name=saved-card]:checked") || byId("cc-number");
      if (button.name === "card") next.focus();
      else if (button.name === "language") document.querySelector("[aria-current]").focus();
      else {
        if (hurry) notify(hurry.textContent);
        next.focus(); // the button that gave more time is gone
      }
    } catch {
      notify(card().dataset.offline);
    }
  }

  // Shows another rendering of the page. Every field stays the field it is, with what was typed and what is wrong
  // with it; only its words are the new page's.
  async function adopt(markup) {
    await pressed;
    const next = new DOMParser().parseFromString(markup, "text/html");
    if (!next.querySelector("main[data-state]")) return false;
    const focused = document.activeElement;
    const caret = focused.selectionStart;
    const isJudged = next.querySelector("[data-problem]");
    for (const twin of next.querySelectorAll("form input")) {
      const field = byId(twin.id);
      if (!field) continue;
      const { problem } = isJudged ? twin.dataset : field.dataset;
      for (const { name, value } of twin.attributes) if (name !== "value") field.setAttribute(name, value);
      twin.replaceWith(field);
      tell(field, problem, next);
    }
    document.documentElement.lang = next.documentElement.lang;
    document.title = next.title;
    document.body.replaceWith(document.adoptNode(next.body));
    if (focused.isConnected && focused !== document.body) {
      focused.focus();
      if (caret !== null && caret !== undefined) focused.setSelectionRange(caret, caret);
    }
    start();
    return true;
  }

  async function notify(text) {
    await pressed;
    const notice = document.createElement("p");
    notice.className = "notice";
    notice.setAttribute("role", "alert");
    notice.textContent = text;
    byId("notices").replaceChildren(notice);
  }

  async function copy(button) {
    const rows = [...document.querySelectorAll(".receipt div")].map((row) => [...row.children].map((c) => c.textContent));
    const head = document.querySelectorAll(".ribbon, h1, main .amount");
    const lines = [...[...head].map((each) => each.textContent), ...rows.map((row) => row.join(": "))];
    try {
      await navigator.clipboard.writeText(lines.join("\n"));
      button.textContent = button.dataset.done;
    } catch {
      // The browser does not let this page write there: in the shop's frame, or because the payer said so.
      const receipt = document.querySelector(".receipt");
      getSelection().setBaseAndExtent(document.querySelector("h1"), 0, receipt, receipt.childNodes.length);
      button.textContent = button.dataset.selected;
    }
  }

  // ---- The deadline

  // Warns two minutes before it. Another tab may have moved it, so the gateway is asked before anything is said.
  async function countdown() {
    const hurry = document.querySelector(".hurry");
    if (!hurry) return;
    hurry.end ||= Date.now() + hurry.dataset.left * 1000;
    let left = Infinity;
    while (hurry.isConnected) {
      const before = left;
      left = Math.ceil((hurry.end - Date.now()) / 1000);
      if ((left <= WARN_SECONDS && before > WARN_SECONDS) || left <= 0) {
        const now = await look();
        if (now?.seconds_left) hurry.end = Date.now() + now.seconds_left * 1000;
        left = Math.ceil((hurry.end - Date.now()) / 1000);
      }
      await pressed;
      hurry.classList.toggle("due", left <= WARN_SECONDS);
      const shown = Math.max(left, 0);
      hurry.querySelector("b").textContent = Math.floor(shown / 60) + ":" + String(shown % 60).padStart(2, "0");
      await pause(left > WARN_SECONDS + 1 ? Math.min(left - WARN_SECONDS, 60) * 1000 : 1000);
    }
  }

  // ---- The card

  const BETWEEN = /[\s\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff-]/g; // as in domain/card.py
  const DATE = /\b\d{1,2}\s?\/\s?(?:20)?\d\d\b/; // beside a card number
  const chosen = () => document.querySelector("[name=saved-card]:checked:not([value=new])");
  // What is typed, with full-width digits and long dashes as the usual ones.
  const read = (field) => field.value.normalize("NFKC").replace(/[\u2010-\u2015]/g, "-");

  // The table of schemes is the server's, in the form; the first match counts.
  function brandOf(number) {
    for (const row of card().dataset.brands.split(";")) {
      const [code, name, ranges, lengths, cvc, gaps] = row.split("|");
      const isIt = ranges.split(",").some((range) => {
        const [low, high] = range.split("-");
        const head = number.slice(0, low.length);
        return head.length === low.length && head >= low && head <= high;
      });
      if (isIt) return { code, name, lengths: lengths.split(",").map(Number), cvc: +cvc, gaps: gaps.split(",").map(Number) };
    }
  }

  // The digits that were typed, or of a text that was pasted the one number that can be a card's (domain/card.py).
  function numberOf(text) {
    const all = text.replace(BETWEEN, "");
    const found = /\D/.test(all) && text.replace(DATE, "/").replace(BETWEEN, "").match(/\d{12,}/g);
    return found?.length === 1 && !numberProblem(found[0]) ? found[0] : all;
  }

  // Of the security code; nothing while the scheme is not known.
  function codeLength() {
    const saved = chosen();
    return saved ? +saved.dataset.cvc : brandOf(numberOf(read(byId("cc-number"))))?.cvc;
  }

  function passesLuhn(number) {
    let sum = 0;
    for (let at = 0; at < number.length; at++) {
      const digit = +number[number.length - 1 - at];
      sum += at % 2 ? (digit * 2) % 10 + (digit > 4) : digit;
    }
    return sum % 10 === 0;
  }

  // 1/27, 01/2027, 0127, 012027, 2027-01, exp 01/27 → 01/27; nothing for what is no month.
  function parseExpiry(text) {
    const typed = text.replace(/^\P{Nd}+|\P{Nd}+$/gu, "");
    const [, year, month] = /^20(\d\d)\s*[/\-. ]\s*(\d{1,2})$/.exec(typed) || [];
    const found = month ? [0, month, year] : /^(\d{1,2}(?=\D)|\d\d)\s*[/\-.]?\s*(?:20)?(\d\d)$/.exec(typed);
    return found && found[1] > 0 && found[1] < 13 ? found[1].padStart(2, "0") + "/" + found[2] : "";
  }

  function numberProblem(number) {
    if (!number) return "number_missing";
    if (/\D/.test(number)) return "number_letters";
    const brand = brandOf(number);
    if (number.length > 19 || (brand && number.length > Math.max(...brand.lengths))) return "number_long";
    if (number.length < 12 || (brand && !brand.lengths.includes(number.length))) return "number_short";
    if (!passesLuhn(number)) return "number_check";
    return brand ? "" : "number_brand";
  }

  // What is wrong with a field: the server's own judgement (domain/card.py), only earlier.
  const CHECKS = {
    "cc-number": (text) => numberProblem(numberOf(text)),
    "cc-exp"(text) {
      const expiry = parseExpiry(text);
      if (!expiry) return text.trim() ? "expiry_format" : "expiry_missing";
      const { month, printed } = card().dataset; // the gateway's month; dates of the bank's own test cards
      const isPast = "20" + expiry.slice(3) + "-" + expiry.slice(0, 2) < month;
      return isPast && !printed?.includes(expiry) ? "expiry_past" : "";
    },
    "cc-csc"(text) {
      const code = text.trim();
      if (!code) return "cvc_missing";
      const length = codeLength();
      if (/^\d+$/.test(code) && (length ? code.length === length : /^.{3,4}$/.test(code))) return "";
      return length ? "cvc_length_" + length : "cvc_format";
    },
    "cc-name"(text) {
      const name = text.trim().replace(/\s+/g, " ");
      if (!name) return "name_missing";
      return name.length > 45 || !/^[A-Za-z][A-Za-z .'\-/]*$/.test(name) ? "name_format" : "";
    },
  };

  // Says what is wrong beside a field, in the words that the page has for it.
  function tell(field, problem, page = document) {
    const text = problem ? field.dataset[problem] : "";
    const line = page.getElementById(field.id + "-error");
    if (!line) return;
    line.replaceChildren();
    if (text) {
      const mark = page.createElement("span");
      mark.className = "unseen";
      mark.textContent = page.getElementById("card").dataset.error;
      line.append(mark, " " + text);
      field.dataset.problem = problem;
      field.setAttribute("aria-invalid", "true");
    } else {
      delete field.dataset.problem;
      field.removeAttribute("aria-invalid");
    }
  }

  const judge = (field) => tell(field, CHECKS[field.id](read(field)));

  function isComplete() {
    const names = chosen() ? ["cc-csc"] : Object.keys(CHECKS);
    const fields = names.map(byId).filter(Boolean);
    fields.forEach(judge);
    const wrong = fields.find((field) => field.dataset.problem);
    if (wrong) wrong.focus();
    return !wrong;
  }

  document.addEventListener("focusout", async ({ target }) => {
    if (!CHECKS[target.id] || !target.isConnected) return;
    if (target.id === "cc-exp") target.value = parseExpiry(read(target)) || target.value;
    await pressed;
    if (!isSent && (target.value || target.dataset.problem)) judge(target);
  });

  document.addEventListener("input", ({ target, inputType = "" }) => {
    if (!CHECKS[target.id]) return;
    if (target.id === "cc-number") group(target, inputType);
    if (target.id === "cc-exp") slash(target, inputType);
    if (target.id === "cc-csc") cut(target);
    if (target.id === "cc-number") recognize();
    if (target.dataset.problem && !CHECKS[target.id](read(target))) tell(target);
  });

  document.addEventListener("change", async ({ target }) => {
    if (target.name !== "saved-card") return;
    await pressed; // a security code that was left for it is judged by then
    tell(byId("cc-csc"));
    recognize();
  });

  // Groups as printed on the card. The caret stays behind the digit it stood behind.
  function group(number, how) {
    const typed = read(number);
    let all = numberOf(typed);
    if (/\D/.test(all)) return;
    let caret = typed.slice(0, number.selectionStart).replace(/\D/g, "").length;
    const expiry = byId("cc-exp");
    if (!expiry.value) {
      expiry.value = parseExpiry(DATE.exec(typed)?.[0] || "");
      if (expiry.value) judge(expiry);
    }
    if (all === number.dataset.digits && how.startsWith("deleteContent")) {
      // Only a space was deleted: what was meant is the digit beside it.
      if (how === "deleteContentBackward") caret--;
      if (caret >= 0) all = all.slice(0, caret) + all.slice(caret + 1);
      caret = Math.max(caret, 0);
    }
    number.dataset.digits = all;
    const gaps = brandOf(all)?.gaps || [4, 8, 12, 16];
    number.value = [...all].map((digit, at) => (gaps.includes(at) ? " " : "") + digit).join("");
    caret += gaps.filter((gap) => gap < caret).length;
    number.setSelectionRange(caret, caret);
  }

  function recognize() {
    const brand = brandOf(numberOf(read(byId("cc-number"))));
    const code = byId("cc-csc");
    document.querySelectorAll(".brands li").forEach((mark) => {
      mark.classList.toggle("other", brand !== undefined && mark.dataset.brand !== brand.code);
    });
    byId("brand").textContent = brand ? brand.name : "";
    const length = codeLength();
    byId("cc-csc-hint").textContent = code.dataset["hint" + (length || 3)];
  }

  // Never longer than the code is, of `CVC 123` the digits. A maxlength would cut what is pasted before.
  function cut(code) {
    const caret = code.selectionStart;
    const typed = read(code);
    code.value = (typed.replace(/\D/g, "") || typed).slice(0, codeLength() || 4);
    code.setSelectionRange(caret, caret);
  }

  // 9 → 09/, 1/27 → 01/27, 01/2027 → 01/27. Never while something is deleted, nor in the middle of the text; 12 may go on
  // as 12/27 or 1/27, so it waits for a fourth digit or for the field to be left.
  function slash(expiry, how) {
    const typed = read(expiry);
    if (how.startsWith("delete") || expiry.selectionStart !== typed.length || /^20\d\d[-/. ]/.test(typed)) return;
    const parts = /^\s*(\d{1,2})[/.\- ]+(\d*)\s*$/.exec(typed) || /^\s*(\d\d)(\d*)\s*$/.exec(typed);
    if (parts?.[1] > 12) return; // a wrong month is told, not mended
    if (parts) expiry.value = parts[1].padStart(2, "0") + "/" + parts[2].replace(/^20(?=\d\d$)/, "").slice(0, 4);
    else if (/^[2-9]$/.test(typed)) expiry.value = "0" + typed + "/";
  }

  // One of the sandbox's test cards.
  function fill({ number, cvc = "123" }) {
    byId("card-new")?.click();
    byId("cc-number").value = number;
    byId("cc-exp").value = "12/" + ((+card().dataset.month.slice(0, 4) + 2) % 100);
    byId("cc-csc").value = cvc;
    byId("cc-name").value = "TEST CARD";
    group(byId("cc-number"), "");
    recognize();
    Object.keys(CHECKS).map(byId).forEach(judge);
    card().querySelector(".primary").focus();
  }

  start();
})();
