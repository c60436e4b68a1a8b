"""What a story of an order is made of: facts in their order, each with what to do about it.

order_story.py and delivery_story.py tell it, i18n/story.py has a text for every fact and every advice. A story is for
shops' developers and operators. Nothing in it is a secret: no token, no page address, no full card number.
"""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from tolem.domain.history import Event
from tolem.domain.message import Attempt, Message
from tolem.domain.order import Order
from tolem.domain.payment import Operation, Payment


class Step(StrEnum):
    """A link of the chain."""

    TOKEN = "token"  # noqa: S105 - a name, not a secret
    PAGE = "page"
    CARD = "card"
    AUTHENTICATION = "authentication"
    AUTHORIZATION = "authorization"
    MONEY = "money"  # what was captured, voided, refunded later
    ORDER = "order"
    MESSAGE = "message"
    TRY = "try"


class Mark(StrEnum):
    """How a link stands."""

    DONE = "done"
    OPEN = "open"  # something is waited for
    BAD = "bad"  # the chain ends here, or had to be taken up anew


class Fact(StrEnum):
    """What happened, or did not."""

    ORDER_OPEN = "order_open"  # the headlines
    ORDER_PAID = "order_paid"
    ORDER_PAID_UNTOLD = "order_paid_untold"
    ORDER_FAILED = "order_failed"
    ORDER_FAILED_UNTOLD = "order_failed_untold"

    TOKEN_ISSUED = "token_issued"  # noqa: S105 - names, not secrets
    TOKEN_FIRST = "token_first"  # noqa: S105 - of an order that was opened anew later
    TOKEN_ANEW = "token_anew"  # noqa: S105
    PAGE_OPENED = "page_opened"
    PAGE_NOT_OPENED = "page_not_opened"
    PAGE_REFUSED = "page_refused"
    CARD_ENTERED = "card_entered"
    AUTHENTICATED = "authenticated"
    AUTHENTICATION_TRIED = "authentication_tried"
    NOT_ENROLLED = "not_enrolled"
    CHALLENGED = "challenged"
    NOT_AUTHENTICATED = "not_authenticated"
    CHALLENGE_ABANDONED = "challenge_abandoned"
    AUTHENTICATION_UNAVAILABLE = "authentication_unavailable"
    ISSUER_DECIDED_NOTHING = "issuer_decided_nothing"
    TAKEN = "taken"
    HELD = "held"
    VERIFIED = "verified"
    DECLINED = "declined"
    REVERSED = "reversed"
    ASKED = "asked"
    UNKNOWN = "unknown"
    GIVEN_UP = "given_up"
    MOVED = "moved"
    NOT_MOVED = "not_moved"
    PAID = "paid"
    LEFT = "left"
    TIME_IS_UP = "time_is_up"
    ATTEMPTS_USED = "attempts_used"
    OVERDUE = "overdue"
    NO_CARD = "no_card"
    MAY_TRY_AGAIN = "may_try_again"
    NO_ADDRESS = "no_address"
    COMPOSED = "composed"
    TRY_DELIVERED = "try_delivered"
    TRY_ANSWERED = "try_answered"
    TRY_FAILED = "try_failed"
    TRIES_LEFT_OUT = "tries_left_out"
    SENT_AGAIN = "sent_again"
    TRY_INTERRUPTED = "try_interrupted"
    WAITS_FOR_EARLIER = "waits_for_earlier"
    FIRST_TRY_DUE = "first_try_due"
    NEXT_TRY_DUE = "next_try_due"
    BEING_SENT = "being_sent"
    DELIVERED = "delivered"
    ENDED_BY_SHOP = "ended_by_shop"
    DEAD = "dead"
    WITHDRAWN = "withdrawn"


class Advice(StrEnum):
    """What to do next."""

    ALL_DONE = "all_done"
    CALL_PAY = "call_pay"
    MEND_PAGE = "mend_page"
    WAIT_FOR_PAYER = "wait_for_payer"
    WAIT_FOR_BANK = "wait_for_bank"
    WAIT_FOR_RECOVERY = "wait_for_recovery"
    WAIT_A_MOMENT = "wait_a_moment"
    RESOLVE = "resolve"
    OTHER_CARD = "other_card"
    NEW_TOKEN = "new_token"  # noqa: S105 - a name, not a secret
    NAME_ADDRESS = "name_address"
    DELIVER_EARLIER = "deliver_earlier"
    SEND_AGAIN = "send_again"
    START_SHOP = "start_shop"
    CHECK_NAME = "check_name"
    CHECK_NETWORK = "check_network"
    CHECK_ADDRESS = "check_address"
    MEND_CERTIFICATE = "mend_certificate"
    MEND_TLS = "mend_tls"
    KEEP_CONNECTION = "keep_connection"
    ANSWER_FIRST = "answer_first"
    SPEAK_HTTP = "speak_http"
    REMOVE_FAULT = "remove_fault"
    VERIFY_CHANGED = "verify_changed"
    ASK_US = "ask_us"
    NAME_FINAL_ADDRESS = "name_final_address"
    LET_IN = "let_in"
    CHECK_PATH = "check_path"
    CHECK_VERIFICATION = "check_verification"
    MEND_SHOP = "mend_shop"
    MAKE_ROOM = "make_room"
    ANSWER_2XX = "answer_2xx"
    CHECK_CATCH_ALL = "check_catch_all"


class Money(NamedTuple):
    """An amount in a line."""

    amount: int
    """Minor units."""
    currency: str


Value = str | int | datetime | Money | StrEnum
Values = dict[str, Value]
"""What a text is filled with, by name."""


class Line(NamedTuple):
    """One fact."""

    step: Step
    mark: Mark
    fact: Fact
    at: datetime | None
    """When it happened, business time; None: it has not, or is no event."""
    values: Values
    """For the fact's text and the advice's."""
    advice: Advice | None = None
    quote: str = ""
    """What somebody else wrote, word for word; one line."""


class Story(NamedTuple):
    """An order's story."""

    headline: Line
    """How it stands, and what to do next."""
    lines: tuple[Line, ...]
    """In the order of the chain."""


class Delivery(NamedTuple):
    """A message with its tries, the first one first."""

    message: Message
    attempts: tuple[Attempt, ...]


class Trace(NamedTuple):
    """All that is stored of an order; every list oldest first."""

    order: Order
    payments: tuple[Payment, ...]
    operations: tuple[Operation, ...]
    events: tuple[Event, ...]
    deliveries: tuple[Delivery, ...]
    attempts_max: int
    """Card attempts that the terminal allows in a round."""
