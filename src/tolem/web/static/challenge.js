// The script of the pages around a challenge of 3-D Secure. What the issuer's frame brings back is only a knock: the
// page then asks the gateway what became of the payment, and asks now and then anyway.
(() => {
  "use strict";
  const main = document.querySelector("main");
  const { path, step, returned, version } = main.dataset;
  const LOOK_MS_MAX = 10000; // the issuer's look at the browser takes no longer (EMV 3-D Secure)

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

  // A browser lets the timers of a window sleep that nobody sees: whoever comes back to it is not kept waiting.
  function watch(wait) {
    const again = (seen) => {
      if (seen && document.hidden) return;
      document.removeEventListener("visibilitychange", again);
      clearTimeout(timer);
      ask(wait);
    };
    const timer = setTimeout(again, wait);
    document.addEventListener("visibilitychange", again);
  }

  async function ask(wait) {
    try {
      const answer = await fetch(path + "/state", { cache: "no-store" });
      if ((answer.ok || answer.status === 404) && (await answer.json()).version !== version) return location.replace(path);
    } catch {
      // The network is away: ask again.
    }
    watch(Math.min(wait * 1.3, 5000));
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

  function knocks(frame, act) {
    addEventListener("message", (event) => {
      const isOurs = event.origin === location.origin && event.source === frame.contentWindow;
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
    knocks(frame, () => onwards("Y"));
    setTimeout(() => onwards("N"), LOOK_MS_MAX);
  }

  function challenge() {
    const post = document.getElementById("ask");
    const hint = post.querySelector("p");
    const beside = hint.textContent;
    document.querySelectorAll("[data-framed]").forEach((each) => (each.textContent = each.dataset.framed));
    post.querySelector("button").className = "quiet";
    const frame = open(document.getElementById("frame"), post);
    knocks(frame, () => location.replace(path));
    post.addEventListener("submit", () => {
      if (!post.target) return; // the bank takes this window
      frame.remove();
      hint.textContent = beside;
      hint.className = "lead";
    });
  }

  // As in page.js.
  function describe() {
    const { colorDepth: d, width: w, height: h } = screen;
    const z = new Date().getTimezoneOffset();
    const j = !!navigator.javaEnabled?.();
    return JSON.stringify({ d, w, h, z, l: navigator.language, j, x: innerWidth, y: innerHeight });
  }
})();
