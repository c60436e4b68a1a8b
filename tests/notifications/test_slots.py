"""Slots: what may run, and what is worth a claim."""

import pytest

from tolem.notifications.slots import Slots


def test_a_host_has_its_own_slots() -> None:
    slots = Slots(total=3, per_host=2)
    assert [slots.take("a"), slots.take("a"), slots.take("a"), slots.take("b"), slots.take("b")] == [
        True,
        True,
        False,  # the host's are used up
        True,
        False,  # all are
    ]
    assert slots.free == 0
    slots.give_back("a")
    assert slots.take("b")


@pytest.mark.parametrize(
    ("per_host", "taken", "is_busy", "claimable"),
    ((8, 0, False, 8), (8, 4, False, 4), (8, 5, True, 8), (8, 8, True, 8), (1, 1, True, 1), (2, 1, False, 1)),
)
def test_a_claim_never_takes_more_than_can_begin(per_host: int, taken: int, is_busy: bool, claimable: int) -> None:
    slots = Slots(total=100, per_host=per_host)
    for _ in range(taken):
        assert slots.take("a")
    assert slots.busy_hosts() == (("a",) if is_busy else ())
    assert slots.may_claim("a") is not is_busy
    assert slots.free_per_host() == claimable


def test_a_claim_for_a_single_slot_of_many_is_not_worth_it() -> None:
    slots = Slots(total=16, per_host=1)
    for number in range(16):
        assert slots.take(str(number))
    slots.give_back("0")
    assert not slots.may_claim("0")
    slots.give_back("1")
    assert slots.may_claim("0")


def test_nothing_is_remembered_of_hosts_without_a_try() -> None:
    slots = Slots(total=2, per_host=2)
    for number in range(100):
        slots.take(str(number))
        slots.give_back(str(number))
    assert slots._taken == {}
