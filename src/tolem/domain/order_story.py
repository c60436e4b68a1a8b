"""Why an order stands as it stands: the chain token → page → card → authentication → authorization → message → tries.

Called by the inspector's flow. Pure: the same records tell the same story.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from uuid import UUID

from tolem.domain import delivery_story
from tolem.domain.authentication import ABANDONED, NOT_ENROLLED_REASONS, TransStatus
from tolem.domain.message import Message
from tolem.domain.order import OrderStatus
from tolem.domain.payment import (
    CARD_KINDS,
    MONEY_KINDS,
    OPEN_STATUSES,
    Operation,
    OperationKind,
    OperationStatus,
    Payment,
    PaymentStatus,
)
from tolem.domain.story import Advice, Delivery, Fact, Line, Mark, Money, Step, Story, Trace, Values

ROUND_OPENED = "round_opened"
"""Kind of the event of a round after the first."""
OUTCOME_UNKNOWN = "outcome_unknown"
"""Kind of the event of an exchange without a certain answer; its detail says why."""

_NOT_SAID = "–"
_AUTHENTICATIONS: dict[TransStatus | None, Fact] = {
    TransStatus.AUTHENTICATED: Fact.AUTHENTICATED,
    TransStatus.ATTEMPTED: Fact.AUTHENTICATION_TRIED,
    TransStatus.UNAVAILABLE: Fact.AUTHENTICATION_UNAVAILABLE,
    TransStatus.INFORMATION: Fact.ISSUER_DECIDED_NOTHING,
}


def tell_story(trace: Trace, now: datetime, reason_text: Callable[[int], str]) -> Story:
    """The story of an order as it stands at `now` (business time). `reason_text`: the wire's words for a code."""
    return _Teller(trace, now, reason_text).tell()


class _Teller:
    """Tells one story."""

    def __init__(self, trace: Trace, now: datetime, reason_text: Callable[[int], str]) -> None:
        self._trace = trace
        self._order = trace.order
        self._now = now
        self._reason_text = reason_text
        self._messages: list[Message] = [one.message for one in trace.deliveries]
        self._is_paying = any(payment.status in OPEN_STATUSES for payment in self._payments(trace.order.round_id))

    def tell(self) -> Story:
        round_id = self._order.round_id
        earlier = {p.round_id for p in self._trace.payments} | {m.round_id for m in self._messages}
        lines = [self._token()]
        for other_id in sorted(earlier - {round_id}):
            lines += self._attempts(other_id)
            lines += self._told(other_id)
        lines += self._new_round()
        lines += self._page()
        lines += self._attempts(round_id)
        lines += self._outcome()
        end = len(lines)
        lines += self._told(round_id)
        return Story(self._headline(lines[:end]), tuple(lines))

    # The chain -------------------------------------------------------------------------------------------------------

    def _token(self) -> Line:
        order = self._order
        if any(event.kind == ROUND_OPENED for event in self._trace.events):
            return Line(Step.TOKEN, Mark.DONE, Fact.TOKEN_FIRST, order.created_at, {})
        return Line(Step.TOKEN, Mark.DONE, Fact.TOKEN_ISSUED, order.created_at, {"amount": self._asked()})

    def _new_round(self) -> Iterator[Line]:
        opened = [event.at for event in self._trace.events if event.kind == ROUND_OPENED]
        if opened:
            yield Line(Step.TOKEN, Mark.DONE, Fact.TOKEN_ANEW, opened[-1], {"amount": self._asked()})

    def _page(self) -> Iterator[Line]:
        order = self._order
        if order.opened_at is not None:
            deadline: Values = {"deadline": order.deadline_at or order.opened_at}
            yield Line(Step.PAGE, Mark.DONE, Fact.PAGE_OPENED, order.opened_at, deadline)
        if order.page_refused_at is not None:
            yield Line(
                Step.PAGE,
                Mark.BAD,
                Fact.PAGE_REFUSED,
                order.page_refused_at,
                {},
                Advice.MEND_PAGE,
                order.page_refusal,
            )
        elif order.opened_at is None:
            yield Line(Step.PAGE, Mark.OPEN, Fact.PAGE_NOT_OPENED, None, {}, Advice.CALL_PAY)

    def _attempts(self, round_id: UUID) -> Iterator[Line]:
        for number, payment in enumerate(self._payments(round_id), 1):
            entered: Values = {"number": number, "brand": payment.brand, "card": payment.masked_pan}
            yield Line(Step.CARD, Mark.DONE, Fact.CARD_ENTERED, payment.created_at, entered)
            operations = [o for o in self._trace.operations if o.payment_id == payment.id]
            attempt = next((o for o in operations if o.kind in CARD_KINDS), None)
            yield self._authentication(payment, attempt)
            if attempt is not None:
                yield self._authorization(payment, attempt)
            for operation in operations:
                if operation.kind in MONEY_KINDS and operation.kind not in CARD_KINDS:
                    yield self._money(payment, operation)

    def _authentication(self, payment: Payment, attempt: Operation | None) -> Line:
        step = Step.AUTHENTICATION
        if attempt is None:
            if payment.status in (PaymentStatus.NEW, PaymentStatus.AUTHENTICATING):
                return Line(step, Mark.OPEN, Fact.CHALLENGED, payment.updated_at, {}, Advice.WAIT_FOR_PAYER)
            if payment.reason_code == ABANDONED:
                return Line(step, Mark.BAD, Fact.CHALLENGE_ABANDONED, payment.updated_at, {}, Advice.OTHER_CARD)
            said = f"{payment.trans_status or _NOT_SAID} {payment.trans_status_reason}".strip()
            values = self._reason(payment.reason_code) | {"status": said}
            return Line(step, Mark.BAD, Fact.NOT_AUTHENTICATED, payment.updated_at, values, Advice.OTHER_CARD)
        fact = _AUTHENTICATIONS.get(payment.trans_status, Fact.NOT_ENROLLED)
        if fact is Fact.AUTHENTICATION_UNAVAILABLE and payment.trans_status_reason in NOT_ENROLLED_REASONS:
            fact = Fact.NOT_ENROLLED
        return Line(step, Mark.DONE, fact, attempt.created_at, {"eci": payment.eci or _NOT_SAID})

    def _authorization(self, payment: Payment, attempt: Operation) -> Line:
        step, at = Step.AUTHORIZATION, attempt.finished_at
        values: Values = {"amount": Money(attempt.amount, payment.currency)}
        match attempt.status:
            case OperationStatus.APPROVED:
                is_hold = attempt.kind is OperationKind.AUTHORIZE
                fact = Fact.VERIFIED if attempt.amount == 0 else Fact.HELD if is_hold else Fact.TAKEN
                values |= {"approval": payment.approval_code or _NOT_SAID, "rrn": payment.rrn}
                return Line(step, Mark.DONE, fact, at, values)
            case OperationStatus.DECLINED:
                reason = self._reason(attempt.reason_code)
                return Line(step, Mark.BAD, Fact.DECLINED, at, reason, Advice.OTHER_CARD)
            case OperationStatus.REVERSED:
                return Line(step, Mark.BAD, Fact.REVERSED, at, {}, Advice.OTHER_CARD)
            case _:
                return self._unsettled(step, attempt, values)

    def _money(self, payment: Payment, operation: Operation) -> Line:
        """A capture, void or refund."""
        values: Values = {"kind": operation.kind, "amount": Money(operation.amount, payment.currency)}
        match operation.status:
            case OperationStatus.APPROVED:
                return Line(Step.MONEY, Mark.DONE, Fact.MOVED, operation.finished_at, values)
            case OperationStatus.DECLINED:
                values |= self._reason(operation.reason_code)
                return Line(Step.MONEY, Mark.BAD, Fact.NOT_MOVED, operation.finished_at, values)
            case _:
                return self._unsettled(Step.MONEY, operation, values)

    def _unsettled(self, step: Step, operation: Operation, values: Values) -> Line:
        """An exchange without a known outcome."""
        values |= {"kind": operation.kind, "operation": str(operation.id), "tries": operation.tries}
        if operation.alerted_at is not None:
            return Line(step, Mark.BAD, Fact.GIVEN_UP, operation.alerted_at, values, Advice.RESOLVE)
        if operation.status is OperationStatus.PREPARED:
            return Line(step, Mark.OPEN, Fact.ASKED, operation.created_at, values, Advice.WAIT_FOR_BANK)
        doubts = [e for e in self._trace.events if e.kind == OUTCOME_UNKNOWN and e.payment_id == operation.payment_id]
        at, why = (doubts[-1].at, doubts[-1].detail) if doubts else (operation.created_at, "")
        return Line(step, Mark.OPEN, Fact.UNKNOWN, at, values, Advice.WAIT_FOR_RECOVERY, why)

    def _outcome(self) -> Iterator[Line]:
        order, step = self._order, Step.ORDER
        match order.status:
            case OrderStatus.PAID:
                yield Line(step, Mark.DONE, Fact.PAID, order.updated_at, {})
            case OrderStatus.FAILED:
                reason = self._reason(order.reason_code)
                yield Line(step, Mark.BAD, self._failure(), order.updated_at, reason, Advice.NEW_TOKEN)
            case OrderStatus.OPEN if order.deadline_at is not None and not self._is_paying:
                if self._now >= order.deadline_at:
                    yield Line(step, Mark.OPEN, Fact.OVERDUE, order.deadline_at, {}, Advice.WAIT_A_MOMENT)
                    return
                made = len(self._payments(order.round_id))
                values: Values = {"left": max(0, self._trace.attempts_max - made), "deadline": order.deadline_at}
                fact = Fact.MAY_TRY_AGAIN if made else Fact.NO_CARD
                yield Line(step, Mark.OPEN, fact, None, values, Advice.WAIT_FOR_PAYER)

    def _failure(self) -> Fact:
        order = self._order
        if order.has_left:
            return Fact.LEFT
        is_late = order.deadline_at is not None and order.updated_at >= order.deadline_at
        return Fact.TIME_IS_UP if is_late else Fact.ATTEMPTS_USED

    def _told(self, round_id: UUID) -> Iterator[Line]:
        deliveries = self._deliveries(round_id)
        for one in deliveries:
            yield from delivery_story.tell_delivery(one, self._messages, self._trace.events)
        order = self._order
        if not deliveries and round_id == order.round_id and order.status is not OrderStatus.OPEN:
            yield Line(Step.MESSAGE, Mark.BAD, Fact.NO_ADDRESS, None, {}, Advice.NAME_ADDRESS)

    # The headline ----------------------------------------------------------------------------------------------------

    def _headline(self, lines: list[Line]) -> Line:
        """One sentence, and the advice of the link at which the chain ends. `lines`: those before the messages."""
        order = self._order
        if order.status is OrderStatus.OPEN:
            return self._sum_up(Fact.ORDER_OPEN, self._last_link(lines))
        is_paid = order.status is OrderStatus.PAID
        deliveries = self._deliveries(order.round_id)
        ends = [delivery_story.tell_end(one, self._messages) for one in deliveries]
        unsettled = next((end for end in ends if end.mark is not Mark.DONE), None)
        if unsettled is None and not ends:
            unsettled = Line(Step.MESSAGE, Mark.BAD, Fact.NO_ADDRESS, None, {}, Advice.NAME_ADDRESS)
        if unsettled is not None:
            return self._sum_up(Fact.ORDER_PAID_UNTOLD if is_paid else Fact.ORDER_FAILED_UNTOLD, unsettled)
        if not is_paid:
            return self._sum_up(Fact.ORDER_FAILED, lines[-1])
        moving = next((line for line in lines if line.step is Step.MONEY and line.advice is not None), None)
        told = ends[0]._replace(advice=ends[0].advice or Advice.ALL_DONE)
        return self._sum_up(Fact.ORDER_PAID, moving or told)

    def _last_link(self, lines: list[Line]) -> Line:
        """Where the chain of an open order ends: at what is waited for, or what went wrong."""
        if self._is_paying:
            steps = (Step.AUTHENTICATION, Step.AUTHORIZATION)
            open_links = (line for line in reversed(lines) if line.step in steps and line.mark is not Mark.DONE)
            return next(open_links, lines[-1])  # its records may have been read a moment apart
        return next((line for line in lines if line.fact is Fact.PAGE_REFUSED), lines[-1])

    def _sum_up(self, fact: Fact, end: Line) -> Line:
        values = end.values | {"invoice": self._order.invoice_id, "asked": self._asked()}
        return Line(Step.ORDER, end.mark, fact, None, values, end.advice, end.quote)

    # Records ---------------------------------------------------------------------------------------------------------

    def _asked(self) -> Money:
        return Money(self._order.amount, self._order.currency)

    def _payments(self, round_id: UUID) -> list[Payment]:
        return [payment for payment in self._trace.payments if payment.round_id == round_id]

    def _deliveries(self, round_id: UUID) -> list[Delivery]:
        return [one for one in self._trace.deliveries if one.message.round_id == round_id]

    def _reason(self, code: int) -> Values:
        return {"code": code, "reason": self._reason_text(code)}
