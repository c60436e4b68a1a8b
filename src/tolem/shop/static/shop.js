// The order page's button: gives the pay object, which the page carries as JSON, to the gateway's library.
(function () {
  "use strict";
  var button = document.getElementById("pay");
  var block = document.getElementById("pay-object");
  if (!button || !block) return;
  button.addEventListener("click", function () {
    // The gateway is down, or something blocks its script: say so instead of doing nothing.
    if (!window.halyk) {
      document.getElementById("no-library").hidden = false;
      return;
    }
    window.halyk.pay(JSON.parse(block.textContent));
  });
  // Until now a click would have done nothing, and nobody would have known why.
  button.disabled = false;
})();
