// The payment page in a frame of the shop's page (halyk.showPaymentWidget): tells that page how the payment ended, and
// asks before a payer closes what would be lost. It speaks with one origin, the one that the page was opened for, and
// says nothing but {success} unless it is asked: old copies of the bank's library close the frame at any other word.
(() => {
  "use strict";
  const { shop, over } = document.currentScript.dataset;
  if (parent === window) return; // opened by its address alone

  const main = () => document.querySelector("main");
  const question = () => document.getElementById("stop");
  const say = (words) => parent.postMessage(JSON.stringify(words), shop);
  const end = () => say({ success: ["approved", "paid"].includes(main().dataset.state) });
  let isSent = false;

  // What closing would interrupt, as the question names it; empty: nothing.
  function atStake() {
    const { state } = main().dataset;
    const isOnItsWay = isSent || document.querySelector(".primary[aria-disabled], #go [name=done]:not([value=''])");
    if (isOnItsWay || "late" in document.documentElement.dataset) return "checking";
    if (["device", "challenge", "checking"].includes(state)) return state;
    const isTyped = [...document.querySelectorAll("#card input[type=text]")].some((field) => field.value);
    return isTyped ? "form" : "";
  }

  function close() {
    const reason = atStake();
    if (!reason) return end();
    const box = question();
    box.querySelectorAll("[data-when]").forEach((each) => (each.hidden = each.dataset.when !== reason));
    if (!box.open) box.showModal();
  }

  addEventListener("message", (event) => {
    if (event.source !== parent || event.origin !== shop) return;
    if (event.data === '{"hello":true}') greet();
    if (event.data !== '{"close":true}') return;
    close();
    if (question().open) say({ open: true });
  });

  // Where this page falls silent, the one around it asks in its stead, in the language that was read last.
  function greet() {
    const root = document.documentElement;
    const speak = () => say({ language: root.lang });
    new MutationObserver(speak).observe(root, { attributeFilter: ["lang"] });
    speak();
  }

  // A form that the page's own script does not send: the browser does, and waits.
  addEventListener("submit", (event) => {
    if (event.target.elements.browser && !event.defaultPrevented) isSent = true;
  });

  addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.defaultPrevented || question().open) return; // an open question: a no
    event.preventDefault(); // the same press would close the question again
    if (!event.repeat) close();
  });

  addEventListener("click", (event) => {
    const pressed = event.target.closest("#return, [data-do]");
    if (pressed?.dataset.do === "stay") question().close();
    else if (pressed?.dataset.do === "stop") end();
    else if (pressed?.id === "return") {
      event.preventDefault();
      end();
      setTimeout(() => open(pressed.href, "_top"), 1000); // nobody has closed the frame
    }
  });

  // A new page in a frame is announced by no title: whoever hears this one is told what it says.
  if (main().dataset.state !== "form" && document.hasFocus()) {
    const title = document.querySelector("h1");
    title.tabIndex = -1;
    title.focus();
  }
  if (over !== undefined) end();
})();
