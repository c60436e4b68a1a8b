"""What can go wrong between shop, gateway and acquirer: operation × fault of the line × kill, and what must come of it.

Pure tables for test_faults; the theatre that plays them is fault_stage.
"""

from enum import StrEnum
from typing import NamedTuple

from tolem.domain.payment import CARD_KINDS, OperationKind
from tolem.sandbox.cards import build_number

AUTHORIZE, PURCHASE = OperationKind.AUTHORIZE, OperationKind.PURCHASE
CAPTURE, VOID, REFUND = OperationKind.CAPTURE, OperationKind.VOID, OperationKind.REFUND


class Step(StrEnum):
    """The moment at which everything stops, and somebody is killed."""

    BEFORE = "before"  # prepared on disk, nothing sent
    DURING = (
        "during"  # the acquirer has committed what it will (line 3 and 5: has lost or delayed it), nothing came back
    )
    ANSWERED = "answered"  # the answer, or its absence, is known in memory only
    RECORDED = "recorded"  # committed; neither payer nor shop has heard of it


class Who(StrEnum):
    """Who is killed."""

    NOBODY = "nobody"
    TOLEM = "tolem"
    SIMULATOR = "simulator"
    BOTH = "both"


class Scene(NamedTuple):
    """One kill."""

    who: Who
    step: Step | None = None
    is_long: bool = False
    """Recovery tries in vain before the simulator is back."""

    @property
    def name(self) -> str:
        """For test ids."""
        return "-".join((self.who, *([self.step] if self.step else []), *(["long"] if self.is_long else [])))

    @property
    def kills_tolem(self) -> bool:
        return self.who in (Who.TOLEM, Who.BOTH)

    @property
    def kills_simulator(self) -> bool:
        return self.who in (Who.SIMULATOR, Who.BOTH)


class Row(NamedTuple):
    """One operation with its fault."""

    kind: OperationKind
    fault: str
    card: str
    """What the payer types."""
    order_amount: str
    amount: str = ""
    """Of the capture or refund; empty for the others."""

    @property
    def name(self) -> str:
        """For test ids."""
        return f"{self.kind}-{self.fault}"

    @property
    def is_card(self) -> bool:
        """An authorize or purchase."""
        return self.kind in CARD_KINDS


FRACTIONS = {"prompt": "00", "unknown": "54", "lost": "58", "declined": "66"}
"""Of an amount: what becomes of a capture, void or refund."""


def _card_rows(kind: OperationKind) -> list[Row]:
    lines = {f"line{digit}": build_number(0, line=digit) for digit in "012345"}
    codes = {f"code{code}": build_number(code) for code in (454, 459, 460, 484)}
    return [Row(kind, fault, card, "200") for fault, card in (lines | codes).items()]


def _follow_up_rows(kind: OperationKind) -> list[Row]:
    """A void is about the whole hold, captures and refunds are about a part."""
    card = build_number(0)
    amounts = {fault: f"100.{fraction}" for fault, fraction in FRACTIONS.items()}
    if kind is VOID:
        return [Row(kind, fault, card, amount) for fault, amount in amounts.items()]
    return [Row(kind, fault, card, "200", amount) for fault, amount in amounts.items()]


ROWS = (
    *_card_rows(AUTHORIZE),
    *_card_rows(PURCHASE),
    *(row for kind in (CAPTURE, VOID, REFUND) for row in _follow_up_rows(kind)),
)

SCENES = (
    Scene(Who.NOBODY),
    *(Scene(who, step) for who in (Who.TOLEM, Who.SIMULATOR, Who.BOTH) for step in Step),
    # Away for longer: before the call nothing more can differ, and once certain answers are recorded neither.
    *(Scene(Who.SIMULATOR, step, is_long=True) for step in (Step.DURING, Step.ANSWERED)),
    Scene(Who.BOTH, Step.DURING, is_long=True),
)

_NEVER_DONE = ("line3", "line5", "code459")
"""Nothing under their first key stands at the acquirer by the time it is asked."""
_NEVER_TOLD = "code460"
"""Done, and nobody will ever say so."""
_CERTAIN = ("line0", "line1", "code484", "prompt", "declined")
"""The first answer settles it, if it comes."""


def happens(row: Row, scene: Scene) -> bool:
    """What must become of it: True: money moved and everybody knows; False: nothing moved, or all was undone."""
    if row.fault in ("code484", "declined"):
        return False
    if not row.is_card:
        return True  # the same exchange is sent until it is done
    if row.fault in (*_NEVER_DONE, _NEVER_TOLD) or scene.step is Step.BEFORE:
        return False
    if not scene.is_long:
        return True
    # Once recovery has decided to reverse what it could not ask about, it is reversed.
    is_known = row.fault in _CERTAIN and scene.step is Step.ANSWERED and not scene.kills_tolem
    return is_known
