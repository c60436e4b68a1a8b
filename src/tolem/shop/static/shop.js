// The order page's buttons: give the pay object, which the page carries as JSON, to the gateway's library.
(function () {
  "use strict";
  var block = document.getElementById("pay-object");
  if (!block) return;

  function offer(id, pay) {
    var button = document.getElementById(id);
    button.addEventListener("click", function () {
      // The gateway is down, or something blocks its script: say so instead of doing nothing.
      if (window.halyk) pay(JSON.parse(block.textContent));
      else document.getElementById("no-library").hidden = false;
    });
    // Until now a click would have done nothing, and nobody would have known why.
    button.disabled = false;
  }

  offer("pay", function (order) {
    window.halyk.pay(order);
  });
  offer("pay-widget", function (order) {
    window.halyk.showPaymentWidget(order, function (result) {
      // Where the browser would return to as well. It proves nothing: the shop's own records are asked there.
      if (result.success) location.assign(order.backLink);
      else location.reload();
    });
  });
})();
