// The payment page's one script. Everything works without it; it only makes typing a card number pleasant, sends a
// form once, and asks for the outcome while the bank is being asked.
(() => {
  "use strict";
  const main = document.querySelector("main");
  const byId = (id) => document.getElementById(id);
  const digits = (text) => text.replace(/\D/g, "");

  // As BRAND_RULES in domain/card.py (a test compares them); the first match counts.
  const BRANDS = [
    ["MIR", /^220[0-4]/],
    ["MASTERCARD", /^(5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720)/],
    ["AMEX", /^3[47]/],
    ["VISA", /^4/],
    ["UNIONPAY", /^(62|81)/],
    ["MAESTRO", /^(5[0678]|6[013-9])/],
  ];

  // A page that comes back from the browser's memory may tell an old state.
  addEventListener("pageshow", (event) => event.persisted && location.reload());

  if (main.dataset.page) poll(main.dataset.page, 1000);
  if (byId("cc-number")) form();

  // What 3-D Secure asks of the payer's browser goes along with the card (web/browser.py).
  document.addEventListener("submit", ({ target }) => {
    if (!target.elements.browser) return;
    const { colorDepth: d, width: w, height: h } = screen;
    const z = new Date().getTimezoneOffset();
    const j = !!navigator.javaEnabled?.();
    target.elements.browser.value = JSON.stringify({ d, w, h, z, l: navigator.language, j, x: innerWidth, y: innerHeight });
  }, true);

  function poll(page, wait) {
    setTimeout(async () => {
      try {
        const answer = await fetch(page + "/state", { cache: "no-store" });
        if (answer.status === 404) return location.replace(page);
        if (answer.ok && (await answer.json()).state !== main.dataset.state) return location.replace(page);
      } catch {
        // The network is away: ask again.
      }
      poll(page, Math.min(wait * 1.3, 5000));
    }, wait);
  }

  function form() {
    const number = byId("cc-number");
    const expiry = byId("cc-exp");
    const code = byId("cc-csc");
    const brands = document.querySelectorAll(".brands li");

    number.addEventListener("input", (event) => {
      group(event.inputType || "");
      recognize();
    });
    expiry.addEventListener("input", (event) => slash(event.inputType || ""));
    recognize();

    // Groups as printed on the card. The caret stays behind the digit it stood behind.
    function group(how) {
      const typed = number.value;
      if (/[^\d\s-]/.test(typed)) return;
      let caret = digits(typed.slice(0, number.selectionStart)).length;
      let all = digits(typed);
      if (how === "deleteContentBackward" && all === number.dataset.digits && caret > 0) {
        // Only a space was deleted: what was meant is the digit before it.
        all = all.slice(0, caret - 1) + all.slice(caret);
        caret--;
      }
      number.dataset.digits = all;
      const gaps = /^3[47]/.test(all) ? [4, 10] : [4, 8, 12, 16];
      const spaces = (count) => gaps.filter((gap) => gap < count).length;
      number.value = [...all].map((digit, at) => (gaps.includes(at) ? " " : "") + digit).join("");
      caret += spaces(caret);
      number.setSelectionRange(caret, caret);
    }

    function recognize() {
      const brand = (BRANDS.find((rule) => rule[1].test(digits(number.value))) || [""])[0];
      brands.forEach((mark) => mark.classList.toggle("other", brand !== "" && mark.dataset.brand !== brand));
      const length = brand === "AMEX" ? 4 : 3;
      code.maxLength = brand ? length : 4;
      byId("cc-csc-hint").textContent = code.dataset["hint" + length];
    }

    // 9 → 09/, 1/27 → 01/27, 01/2027 → 01/27. Never while something is deleted, nor in the middle of the text.
    function slash(how) {
      const typed = expiry.value;
      if (how.startsWith("delete") || expiry.selectionStart !== typed.length) return;
      const parts = /^\s*(\d{1,2})[/.\- ]+(\d*)\s*$/.exec(typed) || /^\s*(\d\d)(\d*)\s*$/.exec(typed);
      if (parts) expiry.value = parts[1].padStart(2, "0") + "/" + parts[2].replace(/^20(?=\d\d$)/, "").slice(0, 4);
      else if (/^[2-9]$/.test(typed)) expiry.value = "0" + typed + "/";
    }

    // Sent once, however often the button is pressed.
    document.querySelectorAll("form").forEach((each) => {
      each.addEventListener("submit", (event) => {
        if (main.dataset.sent) return event.preventDefault();
        main.dataset.sent = "yes";
        const button = each.querySelector("button");
        button.setAttribute("aria-disabled", "true");
        if (button.dataset.busy) button.querySelector("span").textContent = button.dataset.busy;
      });
    });

    // The sandbox's test cards.
    document.querySelectorAll(".fill").forEach((button) => {
      button.hidden = false;
      button.addEventListener("click", () => {
        number.value = button.dataset.number;
        expiry.value = "12/" + ((new Date().getFullYear() + 2) % 100);
        code.value = button.dataset.cvc;
        byId("cc-name").value = "TEST CARD";
        group("");
        recognize();
        document.querySelector(".primary").focus();
      });
    });
  }
})();
