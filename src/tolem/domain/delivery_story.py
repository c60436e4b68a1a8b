"""The end of the chain: a message, each try to deliver it, what the shop answered, and what its developer should do.

Called by order_story.py for every message of an order, and by the inspector for one. Pure.
"""

from collections.abc import Iterable, Iterator
from uuid import UUID

from tolem.domain.history import Event
from tolem.domain.message import UNDELIVERED, Attempt, Fault, Message, MessageState
from tolem.domain.story import Advice, Delivery, Fact, Line, Mark, Step, Values

SENT_AGAIN = "message_sent_again"
"""Kind of the event; its detail begins with the message's id."""
TRY_INTERRUPTED = "message_try_interrupted"
"""Kind of the event; its detail: the message's id and the number that the try would have had."""
QUOTE_CHARS_MAX = 200
FIRST_TRIES_SHOWN, LAST_TRIES_SHOWN = 2, 9
GONE = 410

FAULT_ADVICE = {
    Fault.ADDRESS: Advice.CHECK_ADDRESS,
    Fault.NAME: Advice.CHECK_NAME,
    Fault.REFUSED: Advice.START_SHOP,
    Fault.UNREACHABLE: Advice.CHECK_NETWORK,
    Fault.CERTIFICATE: Advice.MEND_CERTIFICATE,
    Fault.TLS: Advice.MEND_TLS,
    Fault.CUT: Advice.KEEP_CONNECTION,
    Fault.TIMED_OUT: Advice.ANSWER_FIRST,
    Fault.GARBLED: Advice.SPEAK_HTTP,
    Fault.SANDBOX: Advice.REMOVE_FAULT,
    Fault.OTHER: Advice.ASK_US,
}
STATUS_ADVICE = {
    400: Advice.CHECK_VERIFICATION,
    401: Advice.LET_IN,
    403: Advice.LET_IN,
    404: Advice.CHECK_PATH,
    405: Advice.CHECK_PATH,
    408: Advice.ANSWER_FIRST,
    409: Advice.ANSWER_2XX,
    419: Advice.LET_IN,  # some frameworks' answer to a form without their own token
    422: Advice.CHECK_VERIFICATION,
    429: Advice.MAKE_ROOM,
    503: Advice.MAKE_ROOM,
}
"""Of statuses with a meaning of their own; the others by their hundreds."""


def tell_delivery(one: Delivery, messages: Iterable[Message], events: Iterable[Event]) -> Iterator[Line]:
    """A message's lines. `messages`: those of its order."""
    message, attempts = one
    values: Values = {"kind": message.kind, "url": message.url, "message": str(message.id)}
    yield Line(Step.MESSAGE, Mark.DONE, Fact.COMPOSED, message.created_at, values)
    own = [event for event in events if event.detail.startswith(str(message.id))]
    first, last = attempts[:FIRST_TRIES_SHOWN], attempts[FIRST_TRIES_SHOWN:]
    left_out = last[:-LAST_TRIES_SHOWN]
    lines = [_tell_try(attempt) for attempt in first]
    if left_out:
        lines.append(Line(Step.TRY, Mark.BAD, Fact.TRIES_LEFT_OUT, left_out[0].at, {"count": len(left_out)}))
    lines += [_tell_try(attempt) for attempt in last[-LAST_TRIES_SHOWN:]]
    lines += [_tell_again(event) for event in own if event.kind == SENT_AGAIN]
    lines += [_tell_interrupted(event) for event in own if event.kind == TRY_INTERRUPTED]
    yield from sorted(lines, key=lambda line: line.at or message.created_at)
    if message.state is not MessageState.DELIVERED:  # the last try says it
        yield tell_end(one, messages)


def tell_end(one: Delivery, messages: Iterable[Message]) -> Line:
    """How a message stands, with what to do next. `messages`: those of its order."""
    message, attempts = one
    last = attempts[-1] if attempts else None
    values: Values = {"message": str(message.id), "tries": message.tries, "kind": message.kind}
    if message.due_at is not None:
        values["due"] = message.due_at
    match message.state:
        case MessageState.WAITING:
            earlier_id = find_waited_for(message, messages)
            if earlier_id is not None:
                values["earlier"] = str(earlier_id)
                return Line(Step.MESSAGE, Mark.OPEN, Fact.WAITS_FOR_EARLIER, None, values, Advice.DELIVER_EARLIER)
            values["number"] = message.tries + 1
            if last is None or message.tries == message.tries_before:
                return Line(Step.MESSAGE, Mark.OPEN, Fact.FIRST_TRY_DUE, None, values, Advice.WAIT_A_MOMENT)
            return Line(Step.MESSAGE, Mark.OPEN, Fact.NEXT_TRY_DUE, None, values, advise(last))
        case MessageState.SENDING:
            return Line(Step.MESSAGE, Mark.OPEN, Fact.BEING_SENT, None, values, Advice.WAIT_A_MOMENT)
        case MessageState.DEAD:
            is_gone = last is not None and last.status == GONE
            fact = Fact.ENDED_BY_SHOP if is_gone else Fact.DEAD
            return Line(Step.MESSAGE, Mark.BAD, fact, None, values, Advice.SEND_AGAIN)
        case MessageState.WITHDRAWN:
            return Line(Step.MESSAGE, Mark.DONE, Fact.WITHDRAWN, None, values)
        case MessageState.DELIVERED:
            doubt = advise(last) if last else None
            return Line(Step.MESSAGE, Mark.DONE, Fact.DELIVERED, last.at if last else None, values, doubt)


def find_waited_for(message: Message, messages: Iterable[Message]) -> UUID | None:
    """The message that has to be delivered or to end before this one is sent. `messages`: those of its order."""
    if message.state is not MessageState.WAITING:
        return None
    return min((m.id for m in messages if m.id < message.id and m.state in UNDELIVERED), default=None)


def advise(attempt: Attempt) -> Advice | None:
    """What a shop's developer should do after this try; None: nothing."""
    status = attempt.status
    if status is None:
        return FAULT_ADVICE[attempt.fault or Fault.OTHER]
    if 200 <= status <= 299:
        if attempt.fault is Fault.SANDBOX:
            return Advice.VERIFY_CHANGED
        # A site that answers every address with its start page takes a message without reading it.
        return Advice.CHECK_CATCH_ALL if _quote(attempt.response).lower().startswith(("<!doctype", "<html")) else None
    if attempt.fault is Fault.SANDBOX:
        return Advice.REMOVE_FAULT
    if status in STATUS_ADVICE:
        return STATUS_ADVICE[status]
    if status == GONE:
        return None
    by_hundreds = {3: Advice.NAME_FINAL_ADDRESS, 5: Advice.MEND_SHOP}
    return by_hundreds.get(status // 100, Advice.ANSWER_2XX)


def _tell_try(attempt: Attempt) -> Line:
    """One try: what it met, and what the shop wrote."""
    values: Values = {
        "number": attempt.number,
        "milliseconds": attempt.duration_ms,
        "status": attempt.status or 0,
        "address": attempt.address or "–",
    }
    advice = advise(attempt)
    if attempt.status is None:
        fault = attempt.fault or Fault.OTHER
        values["fault"] = fault
        return Line(Step.TRY, Mark.BAD, Fact.TRY_FAILED, attempt.at, values, advice, attempt.error)
    is_delivered = 200 <= attempt.status <= 299
    fact, mark = (Fact.TRY_DELIVERED, Mark.DONE) if is_delivered else (Fact.TRY_ANSWERED, Mark.BAD)
    quote = "; ".join(text for text in (attempt.error, _quote(attempt.response)) if text)
    return Line(Step.TRY, mark, fact, attempt.at, values, advice, quote)


def _tell_again(event: Event) -> Line:
    who = event.detail.partition(" ")[2]
    return Line(Step.MESSAGE, Mark.DONE, Fact.SENT_AGAIN, event.at, {"who": who})


def _tell_interrupted(event: Event) -> Line:
    number = event.detail.partition(" ")[2]
    return Line(Step.TRY, Mark.BAD, Fact.TRY_INTERRUPTED, event.at, {"number": number})


def _quote(response: bytes) -> str:
    """The beginning of an answer as one line of text."""
    text = " ".join(response.decode("utf-8", "replace").split())
    clean = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return clean if len(clean) <= QUOTE_CHARS_MAX else clean[: QUOTE_CHARS_MAX - 1] + "…"
