"""An order's story in words: a text for every fact, advice and name that domain/story.py has.

Called by the command line, the merchant API and the sandbox's inspector. Its texts have a catalogue of their own
(`story.po`): they are for shops' developers and operators, and no payer reads them. What others wrote (reason texts of
the wire, a refusal, a shop's answer) stays word for word.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from tolem.domain.message import Fault, MessageKind
from tolem.domain.payment import OperationKind
from tolem.domain.story import Advice, Fact, Line, Money, Step, Story, Value
from tolem.i18n.formats import ALMATY, format_amount
from tolem.i18n.translator import Translator, mark

CATALOGUE = "story"

STEPS = {
    Step.TOKEN: mark("token"),
    Step.PAGE: mark("page"),
    Step.CARD: mark("card"),
    Step.AUTHENTICATION: mark("3-D Secure"),
    Step.AUTHORIZATION: mark("bank"),
    Step.MONEY: mark("money"),
    Step.ORDER: mark("order"),
    Step.MESSAGE: mark("message"),
    Step.TRY: mark("try"),
}

FACTS = {
    Fact.ORDER_OPEN: mark("Order %(invoice)s for %(asked)s is not paid."),
    Fact.ORDER_PAID: mark("Order %(invoice)s for %(asked)s is paid, and the shop has confirmed that it knows."),
    Fact.ORDER_PAID_UNTOLD: mark(
        "Order %(invoice)s for %(asked)s is paid, but the shop has not confirmed that it knows."
    ),
    Fact.ORDER_FAILED: mark("Order %(invoice)s for %(asked)s was not paid, and the shop has confirmed that it knows."),
    Fact.ORDER_FAILED_UNTOLD: mark(
        "Order %(invoice)s for %(asked)s was not paid, and the shop has not confirmed that it knows."
    ),
    Fact.TOKEN_ISSUED: mark("The shop's server was given a token for %(amount)s."),
    Fact.TOKEN_FIRST: mark("The shop's server was given a first token."),
    Fact.TOKEN_ANEW: mark("The shop's server was given a new token, which opened the order anew for %(amount)s."),
    Fact.PAGE_OPENED: mark("The payment page was opened; it takes cards until %(deadline)s."),
    Fact.PAGE_NOT_OPENED: mark("Nobody has opened the payment page."),
    Fact.PAGE_REFUSED: mark("The payment page did not open. It said:"),
    Fact.CARD_ENTERED: mark("Attempt %(number)s: %(brand)s %(card)s was entered."),
    Fact.AUTHENTICATED: mark("The issuer vouches for the payer (ECI %(eci)s)."),
    Fact.AUTHENTICATION_TRIED: mark("Authentication was attempted; the issuer took no part in it (ECI %(eci)s)."),
    Fact.NOT_ENROLLED: mark("The card takes no part in 3-D Secure (ECI %(eci)s)."),
    Fact.CHALLENGED: mark("The payer is at the issuer's confirmation."),
    Fact.NOT_AUTHENTICATED: mark(
        "The issuer did not confirm the payer: %(code)s, %(reason)s (transStatus %(status)s)."
    ),
    Fact.CHALLENGE_ABANDONED: mark("The payer did not finish the issuer's confirmation."),
    Fact.AUTHENTICATION_UNAVAILABLE: mark(
        "The issuer could not be asked; the terminal goes on without it (ECI %(eci)s)."
    ),
    Fact.ISSUER_DECIDED_NOTHING: mark("The issuer took note and decided nothing (ECI %(eci)s)."),
    Fact.TAKEN: mark("%(amount)s was taken (approval code %(approval)s, reference %(rrn)s)."),
    Fact.HELD: mark("%(amount)s is held (approval code %(approval)s, reference %(rrn)s)."),
    Fact.VERIFIED: mark("The card was verified (approval code %(approval)s, reference %(rrn)s)."),
    Fact.DECLINED: mark("Declined: %(code)s, %(reason)s."),
    Fact.REVERSED: mark("No certain answer came, and the bank has confirmed that nothing is taken."),
    Fact.ASKED: mark("The bank has been asked; its answer is not there yet."),
    Fact.UNKNOWN: mark("The bank gave no certain answer; tolem is finding out."),
    Fact.GIVEN_UP: mark("The outcome could not be found out in %(tries)s tries; it waits for a person."),
    Fact.MOVED: mark("%(kind)s of %(amount)s: done."),
    Fact.NOT_MOVED: mark("%(kind)s of %(amount)s: declined with %(code)s, %(reason)s."),
    Fact.PAID: mark("The order is paid."),
    Fact.LEFT: mark("The payer left without paying."),
    Fact.TIME_IS_UP: mark("The time to pay ran out."),
    Fact.ATTEMPTS_USED: mark("All attempts were used up; the last one ended with %(code)s, %(reason)s."),
    Fact.OVERDUE: mark("The time to pay is over; the order is about to end."),
    Fact.NO_CARD: mark("No card has been entered yet; there is time until %(deadline)s."),
    Fact.MAY_TRY_AGAIN: mark("The payer may try again until %(deadline)s. Attempts left: %(left)s."),
    Fact.NO_ADDRESS: mark("Nobody is told: the order names no address."),
    Fact.COMPOSED: mark("To be told: %(kind)s, to %(url)s"),
    Fact.TRY_DELIVERED: mark("Try %(number)s: %(address)s answered %(status)s after %(milliseconds)s ms. Delivered."),
    Fact.TRY_ANSWERED: mark("Try %(number)s: %(address)s answered %(status)s after %(milliseconds)s ms."),
    Fact.TRY_FAILED: mark("Try %(number)s, %(milliseconds)s ms: %(fault)s."),
    Fact.TRIES_LEFT_OUT: mark("Further tries without success: %(count)s."),
    Fact.TRY_INTERRUPTED: mark(
        "Try %(number)s was interrupted: the process that sent it ended. It may have arrived; it is made again."
    ),
    Fact.SENT_AGAIN: mark("Sent again by hand (%(who)s)."),
    Fact.WAITS_FOR_EARLIER: mark("It waits until this order's earlier message %(earlier)s has been delivered."),
    Fact.FIRST_TRY_DUE: mark("It is to be sent at %(due)s."),
    Fact.NEXT_TRY_DUE: mark("Try %(number)s comes at %(due)s."),
    Fact.BEING_SENT: mark("It is being sent."),
    Fact.DELIVERED: mark("The shop has confirmed it."),
    Fact.ENDED_BY_SHOP: mark("The shop answered 410: it wants no more of this message."),
    Fact.DEAD: mark("Given up after %(tries)s tries."),
    Fact.WITHDRAWN: mark("Withdrawn: a new token opened the order anew before it was delivered."),
}

ADVICES = {
    Advice.ALL_DONE: mark(
        "Nothing. If the shop still shows it as unpaid, look in the shop's log for webhook-id %(message)s"
    ),
    Advice.CALL_PAY: mark(
        "See that the shop's page loads payment-api.js and calls halyk.pay() with this token. Until the page has been "
        "opened, the shop is told nothing."
    ),
    Advice.MEND_PAGE: mark(
        "Correct what the shop's page gives to halyk.pay(), or what its server says when it asks for the token: both "
        "must say the same."
    ),
    Advice.WAIT_FOR_PAYER: mark("Wait for the payer. When the time is over the order fails, and the shop is told."),
    Advice.WAIT_FOR_BANK: mark("Wait: what the bank answers is recorded at once."),
    Advice.WAIT_FOR_RECOVERY: mark(
        "Wait: tolem asks the bank until it knows. Deliver nothing, and do not let the payer pay again."
    ),
    Advice.WAIT_A_MOMENT: mark("Wait a moment and look again."),
    Advice.RESOLVE: mark("Ask the bank. Then: tolem resolve %(operation)s --happened (or --did-not-happen) --reason …"),
    Advice.OTHER_CARD: mark("The payer may use another card."),
    Advice.NEW_TOKEN: mark("To let the payer try again, request a new token for the same order."),
    Advice.NAME_ADDRESS: mark("Name postLink in the token request, or in the object given to halyk.pay()."),
    Advice.DELIVER_EARLIER: mark("See what the earlier one waits for: tolem messages show %(earlier)s"),
    Advice.SEND_AGAIN: mark("Once the shop is ready for it: tolem redeliver %(message)s"),
    Advice.START_SHOP: mark("Start the shop's server, or correct host and port in postLink."),
    Advice.CHECK_NAME: mark(
        "Correct the host in postLink, or its DNS entry. In a container, use a name that this machine knows."
    ),
    Advice.CHECK_NETWORK: mark("See that this machine reaches the shop: firewall, route, port."),
    Advice.CHECK_ADDRESS: mark(
        "Name an address that may be notified: https, a public host, no user name (a sandbox takes http and private "
        "hosts, too)."
    ),
    Advice.MEND_CERTIFICATE: mark("Renew the shop's certificate, and let its server send the whole chain."),
    Advice.MEND_TLS: mark("See that TLS 1.2 or newer is spoken at this port, or name the port where it is."),
    Advice.KEEP_CONNECTION: mark(
        "The shop's server closed the connection: look in its log for a crash or a limit at that time."
    ),
    Advice.ANSWER_FIRST: mark("Answer first, work later: put the message into a queue and answer 200 at once."),
    Advice.SPEAK_HTTP: mark("What answers at this port is no web server: correct postLink."),
    Advice.REMOVE_FAULT: mark(
        "The sandbox did this on purpose: tolem faults lists what it was asked to do, tolem faults remove --all ends "
        "it (or name the fault that the try tells of)."
    ),
    Advice.VERIFY_CHANGED: mark(
        "The sandbox changed this message on its way, as it was asked to, and the shop took it all the same: verify "
        "the signature."
    ),
    Advice.ASK_US: mark("Look in tolem's own log for this message."),
    Advice.NAME_FINAL_ADDRESS: mark(
        "Redirects are not followed: name the final address in postLink. Often only https:// or a slash at the end is "
        "missing."
    ),
    Advice.LET_IN: mark(
        "Let this request in without login or CSRF token, and verify secret_hash and the signature instead."
    ),
    Advice.CHECK_PATH: mark("Correct the path of postLink, and see that it takes POST."),
    Advice.CHECK_VERIFICATION: mark(
        "The shop refused the message: see what it wrote. Mostly secret_hash, amount or invoice are not what it "
        "expects."
    ),
    Advice.MEND_SHOP: mark("The shop failed while it handled the message: look in its log at that time."),
    Advice.MAKE_ROOM: mark("The shop is busy or asked to wait. It is tried again later."),
    Advice.ANSWER_2XX: mark("Only 200 to 299 count as delivered: answer 200 once the message is stored."),
    Advice.CHECK_CATCH_ALL: mark(
        "The shop answered with a web page: see that postLink names the path that handles notifications. Some sites "
        "answer every address like this, and read nothing."
    ),
}

FAULTS = {
    Fault.ADDRESS: mark("the address may not be notified"),
    Fault.NAME: mark("the name of the host is unknown"),
    Fault.REFUSED: mark("nobody listens there"),
    Fault.UNREACHABLE: mark("there is no way to the host"),
    Fault.CERTIFICATE: mark("the certificate is not accepted"),
    Fault.TLS: mark("no encryption could be agreed on"),
    Fault.CUT: mark("the connection was closed without an answer"),
    Fault.TIMED_OUT: mark("no answer in time"),
    Fault.GARBLED: mark("what came back is not HTTP"),
    Fault.SANDBOX: mark("the sandbox lost it, as it was asked to"),
    Fault.OTHER: mark("it could not be sent"),
}

KINDS = {
    MessageKind.SUCCESS: mark("success"),
    MessageKind.FAILURE: mark("failure"),
    MessageKind.CAPTURE: mark("capture"),
    MessageKind.VOID: mark("void"),
    MessageKind.REFUND: mark("refund"),
}
OPERATIONS = {
    OperationKind.AUTHORIZE: mark("Hold"),
    OperationKind.PURCHASE: mark("Payment"),
    OperationKind.CAPTURE: mark("Capture"),
    OperationKind.VOID: mark("Release of the hold"),
    OperationKind.REFUND: mark("Refund"),
}

NEXT = mark("What to do")
TIMES = mark("Times are Kazakhstan's, UTC+5.")

# By type first: members of two StrEnums with the same text are equal.
_NAMES: Mapping[type[StrEnum], Mapping[Any, str]] = {Fault: FAULTS, MessageKind: KINDS, OperationKind: OPERATIONS}


class ToldLine(NamedTuple):
    """A line in words."""

    step: str
    mark: str
    """`done`, `open`, `bad`."""
    fact: str
    """Its name, the same in every language."""
    at: datetime | None
    text: str
    quote: str
    """What somebody else wrote, word for word."""
    advice: str
    """What to do about it; empty: nothing."""


def tell_line(translator: Translator, language: str, line: Line) -> ToldLine:
    """A line in a language that the catalogue has."""
    shown = {name: _show(translator, language, value) for name, value in line.values.items()}
    return ToldLine(
        step=translator.text(language, STEPS[line.step]),
        mark=line.mark.value,
        fact=line.fact.value,
        at=line.at,
        text=_fill(translator.text(language, FACTS[line.fact]), shown),
        quote=line.quote,
        advice=_fill(translator.text(language, ADVICES[line.advice]), shown) if line.advice else "",
    )


def tell_lines(translator: Translator, language: str, story: Story) -> tuple[ToldLine, list[ToldLine]]:
    """Headline and lines. The same advice is given once: by the headline, else by the last line that has it."""
    headline = tell_line(translator, language, story.headline)
    given, lines = {headline.advice}, []
    for line in reversed(story.lines):
        told = tell_line(translator, language, line)
        lines.append(told._replace(advice="") if told.advice in given else told)
        given.add(told.advice)
    return headline, lines[::-1]


def describe_story(translator: Translator, language: str, story: Story) -> dict[str, Any]:
    """The story for programs: `summary`, `advice`, `lines` with the same names whatever the language."""
    headline, lines = tell_lines(translator, language, story)
    return {
        "summary": headline.text,
        "state": headline.fact,
        "mark": headline.mark,
        "quote": headline.quote,
        "advice": headline.advice,
        "language": language,
        "lines": [line._asdict() for line in lines],
    }


def format_moment(at: datetime) -> str:
    """An aware instant → `2026-11-24 14:05:12`, Kazakhstan's time."""
    return at.astimezone(ALMATY).strftime("%Y-%m-%d %H:%M:%S")


def _fill(text: str, shown: Mapping[str, str]) -> str:
    return text % shown


def _show(translator: Translator, language: str, value: Value) -> str:
    if isinstance(value, Money):
        return format_amount(value.amount, value.currency)
    if isinstance(value, datetime):
        return format_moment(value)
    if isinstance(value, StrEnum) and type(value) in _NAMES:
        return translator.text(language, _NAMES[type(value)][value])
    return str(value)
