// payment-api.js: opens the payment page for a shop's order. A shop includes it from tolem's host and calls
// halyk.pay(object), or halyk.showPaymentWidget(object, callback) for the page in a frame over its own. The page's
// address is the folder that this script came from.
//
// The object travels in a form's POST, so that its token stays out of addresses, histories and logs. Where
// the shop's Content-Security-Policy blocks the form, it goes the bank's way, compressed into ?params=.
// ES5 and without a build step on purpose: it runs in any browser and in any shop's page.
(function () {
  "use strict";

  // A payer who stopped a slow navigation may try again after this time; a double click does nothing.
  var GUARD_MS = 10000;
  // A page in the widget that does not answer for so long is asked for no more: the payer is.
  var SILENCE_MS = 2000;
  var WORDS = {
    en: ["Payment", "Close", "Wait", "The payment page does not answer. If you have sent the card, the payment may " +
      "go through even if you close."],
    kk: ["Төлем", "Жабу", "Күту", "Төлем беті жауап бермей тұр. Карта деректерін жіберген болсаңыз, жапқаннан кейін де " +
      "төлем өтуі мүмкін."],
    ru: ["Оплата", "Закрыть", "Подождать", "Страница оплаты не отвечает. Если данные карты уже отправлены, оплата " +
      "может пройти и после закрытия."]
  };
  var ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-";

  // currentScript is null in a module; it must be read now, while the script runs.
  var script = document.currentScript || document.querySelector('script[src*="payment-api.js"]');
  var page = ((script && script.src) || "").replace(/[^/]*([?#].*)?$/, "");
  var origin = (/^https?:\/\/[^/]+/.exec(page) || [""])[0];
  var guard = 0;
  var giveUp = null;
  var widget = null;

  function complain(text) {
    console.error("payment-api.js: " + text);
  }

  function mistakeIn(object) {
    if (!origin) {
      return 'load this file with <script src="https://…/payment-api.js">: it tells the page\'s address';
    }
    if (!object || typeof object !== "object") {
      return "pass the payment object: halyk.pay({invoiceId: …, auth: …})";
    }
    if (!object.auth) {
      return "the payment object has no auth: set it to the token endpoint's answer";
    }
    if (typeof object.auth === "object" && !object.auth.access_token) {
      return "auth has no access_token: set it to the token endpoint's answer (a promise?)";
    }
    return "";
  }

  // JSON would turn NaN into null and refuse a BigInt: as text the page can say what is wrong with them.
  function plain(name, value) {
    var isOdd = typeof value === "bigint" || (typeof value === "number" && !isFinite(value));
    return isOdd ? "" + value : value;
  }

  // The bank's encoding: key=value&…, each value URI-encoded, a nested object the same way inside its value.
  function encode(value) {
    if (value === null || value === undefined) return "";
    if (typeof value !== "object") return "" + value;
    return Object.keys(value).filter(Boolean).map(function (name) {
      return name + "=" + encodeURIComponent(encode(value[name]));
    }).join("&");
  }

  // LZString's compressToEncodedURIComponent: LZ78 over UTF-16 units; codes of growing width, low bit first,
  // packed six bits a character, high bit first. Codes 0 and 1 announce a new unit of 8 or 16 bits, 2 ends.
  function compress(text) {
    var codes = Object.create(null);
    var unsent = Object.create(null);
    var next = 3;
    var width = 2;
    var room = 2;
    var phrase = "";
    var out = "";
    var sextet = 0;
    var filled = 0;

    function put(value, bits) {
      for (; bits > 0; bits--, value >>= 1) {
        sextet = (sextet << 1) | (value & 1);
        if (++filled === 6) {
          out += ALPHABET.charAt(sextet);
          sextet = filled = 0;
        }
      }
    }

    function grow() {
      if (--room === 0) room = 1 << width++;
    }

    function send(known) {
      if (unsent[known]) {
        var unit = known.charCodeAt(0);
        var isWide = unit > 255;
        put(isWide ? 1 : 0, width);
        put(unit, isWide ? 16 : 8);
        delete unsent[known];
        grow();
      } else {
        put(codes[known], width);
      }
      grow();
    }

    for (var i = 0; i < text.length; i++) {
      var unit = text.charAt(i);
      if (!codes[unit]) {
        codes[unit] = next++;
        unsent[unit] = true;
      }
      if (codes[phrase + unit]) {
        phrase += unit;
      } else {
        send(phrase);
        codes[phrase + unit] = next++;
        phrase = unit;
      }
    }
    if (phrase) send(phrase);
    put(2, width);
    put(0, 6 - filled);
    return out;
  }

  // The object as JSON; empty where nothing is to open: it has a mistake, which is told, or a page opens already.
  function write(object) {
    var mistake = mistakeIn(object);
    try {
      if (!mistake) return guard || widget ? "" : JSON.stringify(object, plain);
    } catch (error) {
      mistake = "the payment object can't be written as JSON: " + error.message;
    }
    complain(mistake);
    return "";
  }

  // True where a policy of the shop's page keeps ours from it, by the browser's own word.
  function isBlocked(event, directive) {
    return event.effectiveDirective === directive && event.disposition !== "report" &&
      (event.blockedURI || origin).indexOf(origin) === 0;
  }

  // Posts the object to the window of that name. Where the form is blocked, `go` opens an address there instead;
  // `fail` is told of what can't be done. Returns what takes all of it back.
  function send(json, flags, target, go, fail) {
    var form = document.createElement("form");
    form.method = "post";
    form.action = page;
    form.target = target; // whatever <base target> the shop's page has
    form.acceptCharset = "UTF-8"; // whatever encoding the shop's page has
    form.hidden = true;
    function add(name, value) {
      var input = document.createElement("input");
      input.type = "hidden";
      input.name = name;
      input.value = value;
      form.appendChild(input);
    }
    add("params", json);
    for (var flag in flags) add(flag, flags[flag]);

    // Only the browser's own word that the form was blocked opens the page the other way: a timer can't tell
    // a blocked form from a slow network, and would open the page twice.
    function onViolation(event) {
      if (!isBlocked(event, "form-action")) return;
      clean();
      try {
        var object = JSON.parse(json);
        go(page + "?params=" + compress(encode(object)) + "&" + encode(flags || { oid: object.invoiceId }));
      } catch (error) {
        fail("the payment object can't be written as an address: " + error.message);
      }
    }
    function clean() {
      document.removeEventListener("securitypolicyviolation", onViolation);
      if (form.parentNode) form.parentNode.removeChild(form);
    }
    document.addEventListener("securitypolicyviolation", onViolation);
    (document.body || document.documentElement).appendChild(form);
    form.submit();
    return clean;
  }

  function open(object, flag) {
    var json = write(object);
    if (!json) return;
    var flags;
    if (flag) (flags = {})[flag] = "true";
    giveUp = function (mistake) {
      if (mistake) complain(mistake);
      clearTimeout(guard);
      guard = 0;
      clean();
    };
    guard = setTimeout(function () { giveUp(); }, GUARD_MS);
    var clean = send(json, flags, "_self", function (address) { window.location.assign(address); }, giveUp);
  }

  // The page in a frame over the shop's. A modal <dialog> keeps the focus in, puts it back at the end and stands above
  // all that the shop's page has; a browser without it (before 2022) opens the page itself. Styles are set by script,
  // which no policy forbids, and begin from nothing, whatever the shop's own say of a button.
  function show(object, callback) {
    if (!window.HTMLDialogElement) return open(object);
    var json = write(object);
    if (!json) return;
    var root = document.documentElement;
    var overflow = root.style.overflow;
    var language = object.language || root.lang;
    var words = /^en/i.test(language) ? WORDS.en : /^k[kza]/i.test(language) ? WORDS.kk : WORDS.ru;
    var closing = 0;
    var question = null;
    function make(tag, label, style) {
      var element = document.createElement(tag);
      element.name = "halyk-widget"; // a frame's counts only before it is in the page
      element.setAttribute("aria-label", label);
      element.style.cssText = "all:initial;color-scheme:light dark;position:absolute;" + style;
      (question || widget || document.body || root).appendChild(element);
      return element;
    }
    function say(word) {
      frame.contentWindow.postMessage('{"' + word + '":true}', origin);
    }
    var dialog = widget = make("dialog", words[0], "position:fixed;inset:0;margin:auto;width:min(480px,100%);" +
      "height:min(780px,100%);overflow:hidden;border-radius:clamp(0px,100vw - 480px,16px);" +
      "background:Canvas;box-shadow:0 0 0 100vmax #0a141999");
    var progress = make("progress", words[0], "inset:0;margin:auto;width:10em;height:1em;appearance:revert");
    var frame = make("iframe", words[0], "width:100%;height:100%");
    var cross = make("button", words[1], "right:0;padding:0 14px;background:Canvas;" +
      "background:light-dark(#fff,#172024);color:CanvasText;font:28px/44px sans-serif;cursor:pointer;outline:revert");
    frame.allow = "clipboard-write";
    cross.textContent = "\u00d7";

    // The page knows what closing would interrupt: it asks its payer and says so, or tells how it ended. Where it is
    // silent, nobody knows what is under way, and the payer is asked here. Closing an open question is a no.
    function close(event) {
      event.preventDefault();
      if (event.repeat) return;
      if (question) return stay();
      if (closing) return ask();
      closing = setTimeout(ask, SILENCE_MS);
      say("close");
    }
    function ask() {
      stay();
      question = make("dialog", words[3], "position:fixed;inset:0;margin:auto;width:min(20em,80%);" +
        "height:fit-content;padding:20px;border-radius:16px;background:Canvas;color:CanvasText;" +
        "font:16px/24px sans-serif;text-align:center;box-shadow:0 0 0 100vmax #0a141999");
      question.role = "alertdialog";
      question.textContent = words[3];
      question.addEventListener("close", stay); // Android's Back
      answer(words[2], "background:CanvasText;color:Canvas", stay);
      answer(words[1], "", function () { finish(false); });
      question.showModal();
    }
    function answer(word, style, act) {
      var button = make("button", word, "position:static;display:block;width:100%;margin:12px 0 0;" +
        "border-radius:16px;text-align:center;font:16px/44px sans-serif;cursor:pointer;outline:revert;" + style);
      button.textContent = word;
      button.addEventListener("click", act);
    }
    function stay() {
      clearTimeout(closing);
      closing = 0;
      var asked = question;
      question = null;
      if (!asked) return;
      asked.close();
      asked.remove();
    }
    function hear(event) {
      if (event.source !== frame.contentWindow || event.origin !== origin) return;
      var said = JSON.parse(event.data);
      if (said.language) words = WORDS[said.language];
      else stay();
      if (document.activeElement === dialog) frame.focus(); // it listens by now
      if ("success" in said) finish(said.success === true);
    }
    function onViolation(event) {
      if (isBlocked(event, "frame-src")) openAlone("frame-src must name " + origin);
    }
    function openAlone(mistake) {
      complain(mistake);
      finish();
      open(object);
    }
    function finish(success) {
      if (widget !== dialog) return;
      stay();
      window.removeEventListener("message", hear);
      document.removeEventListener("securitypolicyviolation", onViolation);
      clean();
      root.style.overflow = overflow;
      dialog.close();
      dialog.remove();
      widget = null;
      if (callback && success !== undefined) callback({ success: success });
    }
    window.addEventListener("message", hear);
    document.addEventListener("securitypolicyviolation", onViolation);
    frame.addEventListener("load", function () {
      progress.remove();
      say("hello");
      if (closing) say("close"); // nobody heard it before
    });
    dialog.addEventListener("keydown", function (event) { if (event.key === "Escape") close(event); });
    dialog.addEventListener("cancel", close); // Android's Back
    dialog.addEventListener("close", function (event) { // Android's second Back does not ask
      if (widget !== dialog) return;
      dialog.showModal();
      close(event);
    });
    cross.addEventListener("click", close);
    root.style.overflow = "hidden";
    dialog.tabIndex = -1;
    dialog.showModal();
    dialog.focus(); // keys in a frame that never becomes our page would be lost
    var clean = send(json, { isShortForm: true, origin: location.origin }, frame.name, function (address) {
      frame.src = address;
    }, openAlone);
  }

  // Back from the payment page, the browser may show the shop's page as it was left.
  window.addEventListener("pageshow", function (event) {
    if (event.persisted && giveUp) giveUp();
  });

  var halyk = window.halyk || {};
  halyk.pay = halyk.cardverification = function (object) { open(object); };
  halyk.showPaymentWidget = show;
  halyk.p2p = function (object) { open(object, "isTransfer"); };
  halyk.aft = function (object) { open(object, "isAFT"); };
  halyk.oct = function (object) { open(object, "isOCT"); };
  halyk.Config = function () {
    var root = page.slice(origin.length).replace(/\/([^/]+\/)?$/, "/");
    return {
      pageUrL: page,
      origin: origin,
      TokenAPIConfig: { url: origin + root + "epay2/oauth2/token", clientId: "test" }
    };
  };
  window.halyk = halyk;
})();
