"""payment-api.js as shops load it, run by node in a page that is faked as far as the library looks at it.

What a real browser does with a form and a Content-Security-Policy belongs to the browser suite.
"""

import gzip
import json
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright._impl._driver import compute_driver_executable

from tolem.web.assets import read_lean
from tolem.wire.pay_object import parse_address, parse_posted

SERVED = read_lean("payment-api.js")
VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "wire" / "vectors" / "pay_object.json").read_text()
)["vectors"]
PAY = "halyk.pay({invoiceId: '000001', amount: 100, auth: {access_token: 'T'}});"
BLOCKED = (
    "fire('securitypolicyviolation',"
    " {effectiveDirective: 'form-action', disposition: 'enforce', blockedURI: 'https://pay.example/payform/'});"
)

PAGE = """
const input = JSON.parse(require("fs").readFileSync(0, "utf8"));
const record = {posts: [], moves: [], errors: []};
const listeners = [];
const timers = new Map();
let timer = 0;

class Element {
  constructor(tag) { this.tag = tag; this.children = []; this.parentNode = null; }
  appendChild(child) { child.parentNode = this; this.children.push(child); return child; }
  removeChild(child) { this.children.splice(this.children.indexOf(child), 1); child.parentNode = null; }
  submit() {
    if (!this.parentNode) throw new Error("a form outside the document is not sent");
    const {action, method, target, acceptCharset, hidden} = this;
    const fields = this.children.map(({type, name, value}) => [type, name, value]);
    record.posts.push({action, method, target, acceptCharset, hidden, parent: this.parentNode.tag, fields});
  }
}
const listen = {
  addEventListener: (type, listener) => listeners.push([type, listener]),
  removeEventListener: (type, listener) => {
    const at = listeners.findIndex(([t, l]) => t === type && l === listener);
    if (at >= 0) listeners.splice(at, 1);
  },
};
const root = new Element("html");
const body = new Element("body");
const script = {src: input.src};
const context = {
  ...listen,
  console: {error: (...words) => record.errors.push(words.join(" "))},
  location: {assign: (address) => record.moves.push(address)},
  setTimeout: (run, delay) => (timers.set(++timer, [run, delay]), timer),
  clearTimeout: (id) => timers.delete(id),
  document: {
    ...listen,
    documentElement: root,
    body: input.has_body ? body : null,
    currentScript: input.script_is === "current" ? script : null,
    querySelector: () => (input.script_is === "found" ? script : null),
    createElement: (tag) => new Element(tag),
  },
  record,
  fire: (type, event) => listeners.filter(([t]) => t === type).forEach(([, listener]) => listener(event)),
  wait: (milliseconds) => {
    for (const [id, [run, delay]] of timers) if (delay <= milliseconds) { timers.delete(id); run(); }
  },
};
context.window = context;
const vm = require("vm");
vm.createContext(context);
vm.runInContext(input.library, context, {filename: "payment-api.js"});
vm.runInContext(input.scenario, context, {filename: "shop.js"});
record.forms_left = root.children.length + body.children.length;
record.timers_left = timers.size;
record.listeners_left = listeners.map(([type]) => type);
console.log(JSON.stringify(record));
"""


def run_page(
    scenario: str,
    *,
    src: str = "https://pay.example/payform/payment-api.js",
    has_body: bool = True,
    script_is: str = "current",
    strict: bool = True,
) -> dict[str, Any]:
    """What the page did: forms posted, addresses opened, errors written to the console."""
    node, _ = compute_driver_executable()  # the one that Playwright brings along
    directive = '"use strict";\n' if strict else ""
    page = {
        "library": directive + SERVED.decode(),
        "scenario": directive + scenario,
        "src": src,
        "has_body": has_body,
        "script_is": script_is,
    }
    done = subprocess.run(
        [node, "-e", PAGE], input=json.dumps(page), capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def address_parameters(address: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(address).query, strict_parsing=True).items()}


def test_size() -> None:
    assert len(gzip.compress(SERVED, mtime=0)) <= 4096


@pytest.mark.parametrize("strict", (True, False))
def test_pay_posts_the_object(strict: bool) -> None:
    record = run_page(PAY, strict=strict)
    [post] = record["posts"]
    [[kind, name, value]] = post.pop("fields")
    assert post == {
        "action": "https://pay.example/payform/",
        "method": "post",
        "target": "_self",
        "acceptCharset": "UTF-8",
        "hidden": True,
        "parent": "body",
    }
    assert (kind, name) == ("hidden", "params")
    assert json.loads(value) == {"invoiceId": "000001", "amount": 100, "auth": {"access_token": "T"}}
    assert (record["moves"], record["errors"]) == ([], [])


@pytest.mark.parametrize("script_is", ("current", "found"))
@pytest.mark.parametrize(
    ("src", "page", "token"),
    (
        ("https://pay.example/payform/payment-api.js", "https://pay.example/payform/", "/epay2/oauth2/token"),
        (
            "http://127.0.0.1:8700/redesign-payform/payment-api.js?v=1/2#x",
            "http://127.0.0.1:8700/redesign-payform/",
            "/epay2/oauth2/token",
        ),
        ("https://pay.example/a/payform/payment-api.js", "https://pay.example/a/payform/", "/a/epay2/oauth2/token"),
        ("https://pay.example/payment-api.js", "https://pay.example/", "/epay2/oauth2/token"),
    ),
)
def test_addresses_come_from_the_scripts_own(script_is: str, src: str, page: str, token: str) -> None:
    record = run_page(PAY + "record.config = halyk.Config();", src=src, script_is=script_is)
    origin = "/".join(src.split("/")[:3])
    assert record["posts"][0]["action"] == page
    assert record["config"] == {
        "pageUrL": page,
        "origin": origin,
        "TokenAPIConfig": {"url": origin + token, "clientId": "test"},
    }


def test_config_is_a_copy() -> None:
    record = run_page("halyk.Config().pageUrL = 'https://evil.example/'; record.config = halyk.Config();" + PAY)
    assert record["config"]["pageUrL"] == record["posts"][0]["action"] == "https://pay.example/payform/"


def test_a_page_whose_body_is_not_there_yet() -> None:
    assert run_page(PAY, has_body=False)["posts"][0]["parent"] == "html"


@pytest.mark.parametrize(
    ("method", "flag"),
    (
        ("pay", None),
        ("cardverification", None),
        ("p2p", "isTransfer"),
        ("aft", "isAFT"),
        ("oct", "isOCT"),
    ),
)
def test_the_other_methods_add_their_flag(method: str, flag: str | None) -> None:
    record = run_page(f"halyk.{method}({{invoiceId: '7&', auth: 'T'}});" + BLOCKED)
    names = [name for _, name, _ in record["posts"][0]["fields"]]
    assert names == ["params", *([flag] if flag else [])]
    [address] = record["moves"]
    assert urlsplit(address)._replace(query="").geturl() == "https://pay.example/payform/"
    parameters = address_parameters(address)
    parameters.pop("params")
    assert parameters == ({flag: "true"} if flag else {"oid": "7&"})


def test_what_the_library_offers() -> None:
    names = ["Config", "aft", "cardverification", "oct", "p2p", "pay", "showPaymentWidget"]
    assert run_page("record.names = Object.keys(halyk).sort();")["names"] == names


def test_a_browser_without_dialogs_opens_the_page_instead_of_the_widget() -> None:
    """What the widget does elsewhere is told by tests/browser/test_widget.py."""
    widget = PAY.replace("pay(", "showPaymentWidget(")
    record, paid = run_page(widget + widget), run_page(PAY)
    assert record["posts"] == paid["posts"]
    assert "no access_token" in run_page("halyk.showPaymentWidget({auth: {}});")["errors"][0]


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_a_blocked_form_goes_the_banks_way(vector: dict[str, Any]) -> None:
    """Both ways say the same, and the compressed one is byte for byte what the original library makes."""
    scenario = f"halyk.pay({vector['posted']});{BLOCKED}{BLOCKED}"
    record = run_page(scenario)
    [post], [address] = record["posts"], record["moves"]
    parameters = address_parameters(address)
    assert set(parameters) == {"params", "oid"}
    assert post["fields"][0][2] == vector["posted"]
    assert f"?params={vector['address']}&" in address
    posted = parse_posted(post["fields"][0][2], {})
    assert parse_address(parameters["params"], parameters) == posted
    assert posted.invoice_id == parameters["oid"]
    assert (record["forms_left"], record["errors"]) == (0, [])
    assert record["listeners_left"] == ["pageshow"]


@pytest.mark.parametrize(
    "event",
    (
        "{effectiveDirective: 'img-src', disposition: 'enforce', blockedURI: 'https://pay.example/'}",
        "{effectiveDirective: 'form-action', disposition: 'report', blockedURI: 'https://pay.example/payform/'}",
        "{effectiveDirective: 'form-action', disposition: 'enforce', blockedURI: 'https://other.example/'}",
    ),
)
def test_other_violations_open_nothing(event: str) -> None:
    record = run_page(PAY + f"fire('securitypolicyviolation', {event});")
    assert (len(record["posts"]), record["moves"]) == (1, [])
    assert record["forms_left"] == 1, "a form taken out of the document would lose its violation event"


def test_a_policy_violation_before_pay_opens_nothing() -> None:
    record = run_page(BLOCKED + PAY)
    assert (len(record["posts"]), record["moves"]) == (1, [])


@pytest.mark.parametrize("between", ("", BLOCKED, "wait(9999);", "fire('pageshow', {persisted: false});"))
def test_a_double_call_opens_the_page_once(between: str) -> None:
    record = run_page(PAY + between + PAY + "halyk.p2p({auth: 'T'});")
    assert len(record["posts"]) == 1
    assert len(record["moves"]) == (1 if between == BLOCKED else 0)


@pytest.mark.parametrize("between", ("wait(10000);", "fire('pageshow', {persisted: true});"))
@pytest.mark.parametrize("fate", ("", BLOCKED))
def test_the_payer_may_try_again(fate: str, between: str) -> None:
    """After the browser's Stop button, or back from the payment page."""
    record = run_page(PAY + fate + between + PAY + BLOCKED)
    assert len(record["posts"]) == 2
    assert len(record["moves"]) == (2 if fate else 1)
    assert record["forms_left"] == 0


def test_an_old_guard_does_not_end_a_new_call() -> None:
    record = run_page(PAY + "fire('pageshow', {persisted: true});" + PAY + PAY)
    assert (len(record["posts"]), record["timers_left"]) == (2, 1)


def test_the_object_is_taken_when_pay_is_called() -> None:
    record = run_page(
        "const o = {invoiceId: '1', amount: 1, auth: 'T'}; halyk.pay(o); o.amount = 2; o.auth = 'U';" + BLOCKED
    )
    parsed = parse_address(address_parameters(record["moves"][0])["params"], {})
    assert (parsed.amount, parsed.access_token) == ("1", "T")


@pytest.mark.parametrize(
    ("value", "amount"),
    (
        ("100", "100"),
        ("0.1", "0.1"),
        ("1e21", "1e+21"),
        ("NaN", "NaN"),
        ("10n", "10"),
        ("'1.50'", "1.50"),
        ("null", ""),
    ),
)
def test_odd_amounts_reach_the_page_as_they_are(value: str, amount: str) -> None:
    record = run_page(f"halyk.pay({{invoiceId: '1', amount: {value}, auth: 'T'}});" + BLOCKED)
    posted = parse_posted(record["posts"][0]["fields"][0][2], {})
    assert posted.amount == amount
    assert parse_address(address_parameters(record["moves"][0])["params"], {}) == posted


@pytest.mark.parametrize(
    ("call", "words"),
    (
        ("halyk.pay()", "pass the payment object"),
        ("halyk.pay(null)", "pass the payment object"),
        ("halyk.pay('T')", "pass the payment object"),
        ("halyk.pay({invoiceId: '1'})", "has no auth"),
        ("halyk.pay({auth: ''})", "has no auth"),
        ("halyk.pay({auth: {error: 'invalid_client'}})", "no access_token"),
        ("halyk.pay({auth: Promise.resolve({access_token: 'T'})})", "no access_token"),
        ("const o = {auth: 'T'}; o.self = o; halyk.pay(o)", "can't be written as JSON"),
        ("halyk.p2p()", "pass the payment object"),
    ),
)
def test_a_mistake_is_told_in_the_console(call: str, words: str) -> None:
    record = run_page(f"{call};")
    assert (record["posts"], record["moves"]) == ([], [])
    [error] = record["errors"]
    assert error.startswith("payment-api.js: ")
    assert words in error
    assert len(run_page(f"{call};" + PAY)["posts"]) == 1, "a mistake leaves no guard behind"


def test_a_copy_without_an_address_says_so() -> None:
    record = run_page(PAY, script_is="inline")
    assert record["posts"] == []
    assert "load this file" in record["errors"][0]


def test_text_that_no_address_can_carry() -> None:
    record = run_page("halyk.pay({invoiceId: '1', name: '\\ud83d', auth: 'T'});" + BLOCKED + PAY)
    assert record["moves"] == []
    assert "can't be written as an address" in record["errors"][0]
    assert len(record["posts"]) == 2
