// payment-api.js: opens the payment page for a shop's order. A shop includes it from tolem's host and calls
// halyk.pay(object); the page's address is the folder that this script came from.
//
// The object travels in a form's POST, so that its token stays out of addresses, histories and logs. Where
// the shop's Content-Security-Policy blocks the form, it goes the bank's way, compressed into ?params=.
// ES5 and without a build step on purpose: it runs as it stands in any browser and in any shop's page.
(function () {
  "use strict";

  // A payer who stopped a slow navigation may try again after this time; a double click does nothing.
  var GUARD_MS = 10000;
  var ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-";

  // currentScript is null in a module; it must be read now, while the script runs.
  var script = document.currentScript || document.querySelector('script[src*="payment-api.js"]');
  var page = ((script && script.src) || "").replace(/[?#].*$/, "").replace(/[^/]*$/, "");
  var origin = (/^https?:\/\/[^/]+/.exec(page) || [""])[0];
  var guard = 0;
  var giveUp = null;

  function complain(text) {
    console.error("payment-api.js: " + text);
  }

  function mistakeIn(object) {
    if (!origin) {
      return 'the page\'s address is unknown: load this file with <script src="https://…/payment-api.js">';
    }
    if (!object || typeof object !== "object") {
      return "pass the payment object, for example halyk.pay({invoiceId: …, amount: …, auth: …})";
    }
    if (!object.auth) {
      return "the payment object has no auth: set it to the answer of the token endpoint";
    }
    if (typeof object.auth === "object" && !object.auth.access_token) {
      return "auth has no access_token: set it to the token endpoint's answer (is it a promise, or an error?)";
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

  function open(object, flag) {
    var mistake = mistakeIn(object);
    if (mistake) return complain(mistake);
    if (guard) return;
    var json;
    try {
      json = JSON.stringify(object, plain);
    } catch (error) {
      return complain("the payment object can't be written as JSON: " + error.message);
    }

    var form = document.createElement("form");
    form.method = "post";
    form.action = page;
    form.target = "_self"; // whatever <base target> the shop's page has
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
    if (flag) add(flag, "true");

    // Only the browser's own word that the form was blocked opens the page the other way: a timer can't tell
    // a blocked form from a slow network, and would open the page twice.
    function onViolation(event) {
      var isOurs = !event.blockedURI || event.blockedURI.indexOf(origin) === 0;
      if (event.effectiveDirective !== "form-action" || event.disposition === "report" || !isOurs) return;
      clean();
      try {
        var invoice = plain("", object.invoiceId);
        var tail = flag ? flag + "=true" : "oid=" + encodeURIComponent(encode(invoice));
        window.location.assign(page + "?params=" + compress(encode(JSON.parse(json))) + "&" + tail);
      } catch (error) {
        complain("the payment object can't be put into an address: " + error.message);
        giveUp();
      }
    }
    function clean() {
      document.removeEventListener("securitypolicyviolation", onViolation);
      if (form.parentNode) form.parentNode.removeChild(form);
    }
    giveUp = function () {
      clearTimeout(guard);
      guard = 0;
      clean();
    };

    guard = setTimeout(function () { giveUp(); }, GUARD_MS);
    document.addEventListener("securitypolicyviolation", onViolation);
    (document.body || document.documentElement).appendChild(form);
    form.submit();
  }

  // Back from the payment page, the browser may show the shop's page as it was left.
  window.addEventListener("pageshow", function (event) {
    if (event.persisted && giveUp) giveUp();
  });

  var halyk = window.halyk || {};
  halyk.pay = function pay(object) { open(object); };
  halyk.cardverification = function cardverification(object) { open(object); };
  halyk.p2p = function p2p(object) { open(object, "isTransfer"); };
  halyk.aft = function aft(object) { open(object, "isAFT"); };
  halyk.oct = function oct(object) { open(object, "isOCT"); };
  halyk.Config = function Config() {
    var root = page.slice(origin.length).replace(/\/([^/]+\/)?$/, "/");
    return {
      pageUrL: page,
      origin: origin,
      TokenAPIConfig: { url: origin + root + "epay2/oauth2/token", clientId: "test" }
    };
  };
  window.halyk = halyk;
})();
