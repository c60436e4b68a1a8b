// The script of the pages around a challenge of 3-D Secure. What the issuer's frame brings back is only a knock: the
// page then asks the gateway what became of the payment, and asks now and then anyway.
(() => {
  "use strict";
  const main = document.querySelector("main");
  const { path, step, returned, version } = main.dataset;
  const LOOK_MS_MAX = 10000; // the issuer's look at the browser takes no longer (EMV 3-D Secure)
  const ANSWER_MS = 10000; // the gateway's, without a network that holds it up
  const LOAD_MS = 10000; // the bank's page takes no longer, or it is said
  const RETRY_MS = 5000; // then it is loaded again, with growing pauses
  const RETRY_MS_MAX = 40000;
  const byId = (id) => document.getElementById(id);
  let heard = () => {}; // is told whether the gateway answers

  addEventListener("pageshow", (event) => event.persisted && location.reload());
  if (returned) back();
  else {
    if (location.search) history.replaceState(null, "", path); // what it brought along is told by now
    watch(1000);
    if (step === "device") look();
    if (step === "challenge") challenge();
  }

  // In our own frame: knock at the page around it. Else this is the whole page, and leads on.
  function back() {
    let isFramed = false;
    try {
      isFramed = parent !== self && parent.location.origin === location.origin;
    } catch {
      // Somebody else's frame, such as a shop's around the payment page.
    }
    if (isFramed) parent.postMessage("tolem:" + returned, location.origin);
    else if (path) location.replace(path);
  }

  // A browser lets the timers of a window sleep that nobody sees: whoever comes back to it is not kept waiting, nor is
  // whose network comes back.
  function watch(wait) {
    const again = async (seen) => {
      if (seen && document.hidden) return;
      document.removeEventListener("visibilitychange", again);
      removeEventListener("online", again);
      clearTimeout(timer);
      await ask();
      watch(Math.min(wait * 1.3, 5000));
    };
    const timer = setTimeout(again, wait);
    document.addEventListener("visibilitychange", again);
    addEventListener("online", again);
  }

  // Moves on to what the gateway knows. False: the network is away.
  async function ask() {
    let isThere = false;
    try {
      const answer = await fetch(path + "/state", { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
      isThere = true;
      if ((answer.ok || answer.status === 404) && (await answer.json()).version !== version) {
        location.replace(path);
        return true;
      }
    } catch {
      // It is asked again.
    }
    heard(isThere);
    return isThere;
  }

  function open(place, post) {
    const frame = document.createElement("iframe");
    frame.name = "bank";
    frame.title = place.dataset.title || "";
    place.append(frame);
    const { target } = post;
    post.target = frame.name;
    post.submit();
    post.target = target;
    return frame;
  }

  function knocks(findFrame, act) {
    addEventListener("message", (event) => {
      const isOurs = event.origin === location.origin && event.source === findFrame()?.contentWindow;
      if (isOurs && event.data === "tolem:" + step) act();
    });
  }

  function look() {
    const go = document.getElementById("go");
    const post = document.getElementById("ask");
    go.hidden = true;
    const frame = open(post, post);
    const onwards = (done) => {
      if (go.elements.done.value) return;
      go.elements.done.value = done;
      go.elements.browser.value = describe();
      go.submit();
    };
    knocks(() => frame, () => onwards("Y"));
    setTimeout(() => onwards("N"), LOOK_MS_MAX);
  }

  function challenge() {
    let frame;
    let isLoaded = false;
    let trouble = ""; // lost: the network; away: the bank
    let retry, late;
    let wait = RETRY_MS;

    function say(words) {
      const text = byId("lost").dataset[words] || "";
      byId("lost").hidden = !text;
      if (byId("lost").textContent !== text) byId("lost").textContent = text; // said once
    }

    function worry(about) {
      clearTimeout(late);
      clearTimeout(retry);
      say((trouble = about));
      if (about !== "away") return;
      retry = setTimeout(tryAgain, wait);
      wait = Math.min(wait * 2, RETRY_MS_MAX);
    }

    // Not while the payer is in the frame: then there is something to see in it.
    async function tryAgain() {
      const missed = frame;
      const isBack = await answers();
      if (missed !== frame || trouble !== "away") return;
      isBack && document.activeElement !== frame ? load() : worry("away");
    }

    // Nobody may look into the bank's frame, nor sees whether it shows the browser's own error. But whether the bank can
    // be reached can be asked: without a cookie or our address, and any answer counts. One that keeps its answers for
    // its own pages (CORP) can't be told from one that is away. So the words say "if", and only an answer loads anew.
    async function answers(pause = 0) {
      await new Promise((after) => setTimeout(after, pause));
      try {
        const asked = { method: "HEAD", mode: "no-cors", credentials: "omit", referrerPolicy: "no-referrer" };
        await fetch(byId("ask").action, { ...asked, cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS / 2) });
        return true;
      } catch {
        return false;
      }
    }

    // The same request as before: the bank shows the challenge as it stands.
    function load() {
      frame?.remove();
      isLoaded = false;
      worry("");
      const loading = (frame = open(byId("frame"), byId("ask")));
      late = setTimeout(worry, LOAD_MS, "away");
      loading.addEventListener("load", async () => {
        clearTimeout(late);
        const isThere = await ask();
        const isBank = isThere && ((await answers()) || (await answers(1000)));
        if (loading !== frame) return;
        isLoaded = isBank;
        if (isBank) wait = RETRY_MS;
        worry(isBank ? "" : isThere ? "away" : "lost");
      });
    }

    heard = (isThere) => {
      if (!frame) return; // the bank is in a window of its own
      if (!isThere) isLoaded || worry("lost");
      else trouble === "lost" ? load() : say(trouble);
    };

    // The words beside a frame, at the start and in another language.
    function dress() {
      const post = byId("ask");
      const hint = post.querySelector("p");
      const beside = hint.textContent;
      const leave = () => {
        hint.textContent = beside;
        hint.className = "lead";
        post.className = "";
      };
      document.querySelectorAll("[data-framed]").forEach((each) => (each.textContent = each.dataset.framed));
      post.className = "beside";
      post.querySelector("button").className = "quiet";
      byId("again").hidden = false;
      byId("again").addEventListener("click", load);
      if (!frame) leave();
      post.addEventListener("submit", () => {
        if (!post.target) return; // the bank takes this window
        frame?.remove();
        frame = null;
        worry("");
        leave();
      });
    }

    // The page's words change around the frame, which can't be moved without loading it anew: what is typed there stays.
    async function speak(button) {
      try {
        const body = new URLSearchParams([[button.name, button.value]]);
        const answer = await fetch(button.formAction, { method: "POST", body, signal: AbortSignal.timeout(ANSWER_MS) });
        const next = new DOMParser().parseFromString(await answer.text(), "text/html");
        let twin = next.getElementById("frame");
        if (!twin || next.querySelector("main").dataset.version !== version) return location.replace(path);
        for (let kept = byId("frame"); kept !== document.body; kept = kept.parentNode, twin = twin.parentNode) {
          for (const other of [...kept.parentNode.childNodes]) if (other !== kept) other.remove();
          const others = [...twin.parentNode.childNodes];
          kept.before(...others.slice(0, others.indexOf(twin)));
          kept.after(...others.slice(others.indexOf(twin) + 1));
          for (const { name, value } of twin.attributes) kept.setAttribute(name, value);
        }
        document.documentElement.lang = next.documentElement.lang;
        document.title = next.title;
        if (frame) frame.title = byId("frame").dataset.title;
        dress();
        say(trouble);
        document.querySelector("[aria-current]").focus();
      } catch {
        say("offline");
      }
    }

    document.addEventListener("click", (event) => {
      const button = event.target.closest("[name=language]");
      if (!button) return;
      event.preventDefault();
      speak(button);
    });
    load();
    dress();
    knocks(() => frame, () => location.replace(path));
  }

  // As in page.js.
  function describe() {
    const { colorDepth: d, width: w, height: h } = screen;
    const z = new Date().getTimezoneOffset();
    const j = !!navigator.javaEnabled?.();
    return JSON.stringify({ d, w, h, z, l: navigator.language, j, x: innerWidth, y: innerHeight });
  }
})();
