// The order page: gives the pay object, which the page carries as JSON, to the gateway's library, and shows what the
// shop's records say after the widget closed.
(function () {
  "use strict";
  var WAIT_MS = 1000;
  var WAIT_MS_MAX = 10000;
  var following = 0;

  function offer(id, pay) {
    var button = document.getElementById(id);
    if (!button) return;
    button.addEventListener("click", function () {
      clearTimeout(following);
      // The gateway is down, or something blocks its script: say so instead of doing nothing.
      if (window.halyk) pay(JSON.parse(document.getElementById("pay-object").textContent));
      else document.getElementById("no-library").hidden = false;
    });
    // Until now a click would have done nothing, and nobody would have known why.
    button.disabled = false;
  }

  function start() {
    offer("pay", function (order) {
      window.halyk.pay(order);
    });
    offer("pay-widget", function (order) {
      window.halyk.showPaymentWidget(order, function (result) {
        // Where the browser would return to as well. It proves nothing: the shop's own records are asked there.
        if (result.success) location.assign(order.backLink);
        else follow(WAIT_MS);
      });
    });
  }

  // The widget has put the focus back on its button, so the page stays. What the records say is said below the button;
  // once they say something else, the order is shown anew; where the focus was in it, its heading gets it.
  function follow(wait) {
    fetch(location.href).then(function (answer) {
      return answer.ok ? answer.text() : "";
    }).catch(function () {
      return ""; // the network is away: look again
    }).then(function (text) {
      if (document.querySelector("dialog[open]")) return; // the widget is open again
      var main = document.querySelector("main");
      var next = new DOMParser().parseFromString(text, "text/html").querySelector("main[data-order]");
      if (next && next.dataset.orderStatus !== main.dataset.orderStatus) {
        var hasFocus = main.contains(document.activeElement);
        main.replaceWith(next);
        start();
        if (hasFocus) next.querySelector("h1").focus();
      } else {
        var news = document.getElementById("news");
        if (next) news.textContent = news.dataset.open;
        following = setTimeout(follow, wait, Math.min(wait * 1.3, WAIT_MS_MAX));
      }
    });
  }

  start();
})();
