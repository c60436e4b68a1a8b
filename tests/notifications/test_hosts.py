"""Slots: what may run to whom, and what is worth a claim."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tolem.notifications import hosts as module
from tolem.notifications.hosts import LIMITS, SHARES, SLOW_SECONDS, TIMEOUTS_MAX, Hosts, Pace, Slot

TOTAL = 64
PER_HOST = 16
QUICKLY, SLOWLY = 0.1, SLOW_SECONDS + 1


def take(hosts: Hosts, host: str, count: int = 1, now: float = 0) -> list[Slot]:
    """All that it gives of so many."""
    return [slot for _ in range(count) if (slot := hosts.take(host, now))]


def settle(hosts: Hosts, slots: list[Slot], seconds: float = QUICKLY, *, is_answered: bool = True) -> None:
    """Tries that end."""
    for slot in slots:
        hosts.judge(slot, seconds, is_answered=is_answered)
        hosts.give_back(slot)


def meet(hosts: Hosts, host: str, pace: Pace) -> None:
    """Makes the host known for a pace."""
    for _ in range(TIMEOUTS_MAX):
        seconds = QUICKLY if pace is Pace.QUICK else SLOWLY
        settle(hosts, take(hosts, host), seconds, is_answered=pace is not Pace.STUCK)
    assert hosts.pace_of(host) is pace


@pytest.mark.parametrize("pace", Pace)
def test_what_may_run_to_one_host(pace: Pace) -> None:
    hosts = Hosts(TOTAL, PER_HOST)
    if pace is not Pace.NEW:
        meet(hosts, "a", pace)
    expected = LIMITS.get(pace, PER_HOST)
    assert hosts.plan(("a",), 0, 100).quotas == {"a": expected}
    assert len(take(hosts, "a", 100)) == expected
    assert hosts.plan(("a",), 0, 100).quotas == {}
    assert hosts.free == TOTAL - expected


@pytest.mark.parametrize("pace", Pace)
def test_what_may_run_to_all_hosts_of_a_pace(pace: Pace) -> None:
    hosts = Hosts(TOTAL, PER_HOST)
    names = [str(number) for number in range(TOTAL)]
    for name in names:
        if pace is not Pace.NEW:
            meet(hosts, name, pace)
    expected = int(TOTAL * SHARES[Pace.SLOW if pace is Pace.STUCK else pace])
    assert sum(hosts.plan(names, 0, 1000).quotas.values()) == expected
    assert sum(len(take(hosts, name, 100)) for name in names) == expected


def test_many_that_are_stuck_or_slow_leave_room_for_those_that_answer_and_for_strangers() -> None:
    hosts = Hosts(TOTAL, PER_HOST)
    for number in range(TOTAL):
        meet(hosts, f"stuck {number}", Pace.STUCK)
        meet(hosts, f"slow {number}", Pace.SLOW)
    meet(hosts, "known", Pace.QUICK)
    for number in range(TOTAL):
        take(hosts, f"stuck {number}", 100)
        take(hosts, f"slow {number}", 100)
    for number in range(TOTAL):
        take(hosts, f"new and dead {number}", 100)
    assert len(take(hosts, "known", 100)) == PER_HOST
    hosts = Hosts(TOTAL, PER_HOST)
    for number in range(TOTAL):
        meet(hosts, f"known {number}", Pace.QUICK)
        take(hosts, f"known {number}", 100)
    assert len(take(hosts, "stranger", 100)) == LIMITS[Pace.NEW]


def test_a_try_that_takes_long_is_slow_before_it_ends() -> None:
    hosts = Hosts(TOTAL, PER_HOST)
    running = [slot for number in range(TOTAL) for slot in take(hosts, f"new and dead {number}", 100)]
    assert len(running) == TOTAL * SHARES[Pace.NEW]
    assert take(hosts, "stranger") == []
    assert len(take(hosts, "stranger", now=SLOW_SECONDS)) == 1  # they count as slow, and the share of strangers is free
    assert {hosts.pace_of(slot.host) for slot in running} == {Pace.SLOW}
    settle(hosts, running, SLOWLY, is_answered=False)


def test_a_host_that_only_times_out_is_stuck_until_it_answers() -> None:
    hosts = Hosts(TOTAL, PER_HOST)
    for timeouts in range(1, TIMEOUTS_MAX + 1):
        settle(hosts, take(hosts, "a"), SLOWLY, is_answered=False)
        assert hosts.pace_of("a") is (Pace.STUCK if timeouts == TIMEOUTS_MAX else Pace.SLOW)
    settle(hosts, take(hosts, "a"), SLOWLY, is_answered=False)
    assert hosts.pace_of("a") is Pace.STUCK
    (trial,) = take(hosts, "a", 100)
    settle(hosts, [trial], QUICKLY)
    assert hosts.pace_of("a") is Pace.QUICK
    assert len(take(hosts, "a", 100)) == PER_HOST


def test_a_host_that_refuses_at_once_costs_nobody_anything() -> None:
    hosts = Hosts(TOTAL, PER_HOST)
    settle(hosts, take(hosts, "a", 4), QUICKLY, is_answered=False)
    assert hosts.pace_of("a") is Pace.QUICK


def test_a_plan_is_no_more_than_asked_and_goes_on_with_the_rest() -> None:
    hosts = Hosts(TOTAL, PER_HOST)
    plan = hosts.plan(("a", "b", "c"), 0, 6)
    assert (plan.quotas, plan.rest) == ({"a": 4, "b": 2}, ("c",))
    for host, quota in plan.quotas.items():
        take(hosts, host, quota)
    assert hosts.plan(plan.rest, 0, 6) == ({"c": 4}, ())


@pytest.mark.parametrize(("running", "is_worth"), ((PER_HOST, False), (9, False), (8, True), (0, True)))
def test_a_claim_takes_several_at_once(running: int, is_worth: bool) -> None:
    hosts = Hosts(TOTAL, PER_HOST)
    meet(hosts, "a", Pace.QUICK)
    slots = take(hosts, "a", PER_HOST)
    hosts.begin_round()
    hosts.plan(("a",), 0, 100)  # there is more, for which there is no slot
    settle(hosts, slots[running:])
    assert hosts.is_worth_a_claim("a") is is_worth
    assert not hosts.is_worth_a_claim("b")


def test_nothing_is_claimed_for_a_host_with_nothing_left() -> None:
    hosts = Hosts(TOTAL, PER_HOST)
    meet(hosts, "a", Pace.QUICK)
    hosts.begin_round()
    plan = hosts.plan(("a",), 0, 100)
    slots = take(hosts, "a", 3)
    hosts.note_claimed({"a": 3}, plan)
    settle(hosts, slots)
    assert not hosts.is_worth_a_claim("a")
    hosts.note_left("a")
    assert hosts.is_worth_a_claim("a")


def test_what_a_full_share_leaves_is_claimed_when_it_has_room() -> None:
    hosts = Hosts(TOTAL, PER_HOST)
    running = [slot for number in range(TOTAL) for slot in take(hosts, f"new {number}")]
    hosts.begin_round()
    hosts.plan(("another",), 0, 100)
    settle(hosts, running[:1])
    assert not hosts.is_worth_a_claim(running[0].host)  # one slot of many
    settle(hosts, running[1:4])
    assert hosts.pace_of(running[0].host) is Pace.QUICK
    assert hosts.is_worth_a_claim(running[0].host)
    hosts.begin_round()
    assert not hosts.is_worth_a_claim(running[0].host)


def test_a_host_met_while_its_share_was_full_is_not_forgotten() -> None:
    hosts = Hosts(4, 4)
    slots = take(hosts, "a", 4)
    hosts.begin_round()
    assert hosts.plan(("a",), 0, 100).quotas == {}
    settle(hosts, slots)
    assert hosts.pace_of("a") is Pace.QUICK
    assert hosts.is_worth_a_claim("a")


def test_only_so_many_idle_hosts_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HOSTS_MAX", 3)
    hosts = Hosts(TOTAL, PER_HOST)
    (busy,) = take(hosts, "busy")
    for name in "abcd":
        meet(hosts, name, Pace.QUICK)
    settle(hosts, take(hosts, "b"))
    meet(hosts, "e", Pace.QUICK)
    assert [name for name in "abcde" if hosts.pace_of(name) is Pace.QUICK] == ["b", "e"]
    settle(hosts, [busy])
    strangers = [take(hosts, f"stranger {number}") for number in range(10)]
    for slots in strangers:
        for slot in slots:
            hosts.give_back(slot)  # without a try
    assert len(hosts._hosts) <= 3


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(("take", "quick", "slow", "dead", "give back")))))
def test_every_slot_comes_back(steps: list[tuple[int, str]]) -> None:
    hosts, now = Hosts(8, 4), 0.0
    running: list[Slot] = []
    for host, step in steps:
        now += 0.7
        if step == "take":
            running += take(hosts, str(host), now=now)
        elif running:
            slot = running.pop(host % len(running))
            if step != "give back":
                hosts.judge(slot, QUICKLY if step == "quick" else SLOWLY, is_answered=step != "dead")
            hosts.give_back(slot)
        assert hosts.free == 8 - len(running) >= 0
        assert sum(hosts._used.values()) == len(running)
        assert all(used >= 0 for used in hosts._used.values())
    for slot in running:
        hosts.give_back(slot)
    assert hosts.free == 8
    assert not any(hosts._used.values())
