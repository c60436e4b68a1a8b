"""Sending again: the same message, a new schedule, an audited event; and what must not be sent any more."""

from collections import defaultdict
from datetime import timedelta
from uuid import UUID

import pytest
from msgspec.structs import replace

from tests.flows.test_inspection import Scene, opened
from tests.gateway import eventually
from tests.storage.build import AT, build_message, build_order, put
from tolem.clock import SystemClock
from tolem.domain.delivery_story import SENT_AGAIN
from tolem.domain.errors import Refusal, Refused
from tolem.domain.message import UNDELIVERED, Message, MessageKind, MessageState
from tolem.domain.story import Fact
from tolem.flows.redelivery import Redelivery, Resent
from tolem.flows.replay import Replay, Way
from tolem.ids import Ids
from tolem.notifications.guard import host_of
from tolem.storage import inspection, keys

REDELIVERABLE = (MessageState.WAITING, MessageState.DELIVERED, MessageState.DEAD)


def redelivery_of(scene: Scene) -> Redelivery:
    return Redelivery(scene.gateway.store, SystemClock(), Ids(), scene.gateway.notifier.wake)


async def message_of(scene: Scene, message_id: UUID) -> Message:
    found = await scene.gateway.store.find(keys.message_by_id(message_id))
    assert found is not None
    return found.record


async def paid_message(scene: Scene, invoice: str, state: MessageState) -> Message:
    """The message of a new paid order, once it is in that state."""
    await scene.caller.pay(await scene.caller.page(invoice))
    order = await scene.inspection.get_order(invoice)

    async def is_there() -> bool:
        (message,) = (await scene.inspection.page_of_order(order)).messages
        return message.state is state and message.tries == 1

    await eventually(is_there)
    (message,) = (await scene.inspection.page_of_order(order)).messages
    return message


async def test_a_delivered_message_is_sent_again(database_url: str) -> None:
    async with opened(database_url) as scene:
        message = await paid_message(scene, "000000001", MessageState.DELIVERED)
        again = (await redelivery_of(scene).redeliver(message.id, "by aigerim")).message
        assert (again.state, again.tries_before) == (MessageState.WAITING, 1)
        await scene.shop.wait(2)
        assert scene.shop.bodies[0] == scene.shop.bodies[1] == message.body
        await eventually(lambda: is_tried(scene, message.id, 2))
        assert (await message_of(scene, message.id)).state is MessageState.DELIVERED
        (event,) = [
            one for one in await inspection.list_events(scene.gateway.store, message.order_id) if one.kind == SENT_AGAIN
        ]
        assert event.detail == f"{message.id} by aigerim"
        story = await scene.tell("000000001")
        assert [line.fact for line in story.lines[-3:]] == [Fact.TRY_DELIVERED, Fact.SENT_AGAIN, Fact.TRY_DELIVERED]


async def is_tried(scene: Scene, message_id: UUID, tries: int) -> bool:
    message = await message_of(scene, message_id)
    return message.tries == tries and message.state not in UNDELIVERED


async def test_a_dead_letter_gets_a_new_schedule(database_url: str) -> None:
    async with opened(database_url) as scene:
        scene.shop.status = 410
        message = await paid_message(scene, "000000002", MessageState.DEAD)
        scene.shop.status = 500
        await redelivery_of(scene).redeliver(message.id, "by aigerim")
        await scene.shop.wait(2)

        async def waits() -> bool:
            now = await message_of(scene, message.id)
            return now.state is MessageState.WAITING and now.tries == 2

        await eventually(waits)
        waiting = await message_of(scene, message.id)
        second = (await inspection.list_attempts(scene.gateway.store, message.id))[1]
        assert waiting.due_at is not None
        gap = timedelta(seconds=5)  # the second of the schedule
        assert gap <= waiting.due_at - second.at < gap * 1.1 + timedelta(seconds=5)
        scene.shop.status = 200
        await redelivery_of(scene).redeliver(message.id, "by aigerim")  # it need not wait for its next try
        await eventually(lambda: is_tried(scene, message.id, 3))


async def test_later_is_not_now(database_url: str) -> None:
    async with opened(database_url) as scene:
        message = await paid_message(scene, "000000003", MessageState.DELIVERED)
        again = (await redelivery_of(scene).redeliver(message.id, "by aigerim", after=timedelta(hours=1))).message
        assert again.due_at is not None
        assert timedelta(minutes=59) < again.due_at - SystemClock().now() <= timedelta(hours=1)
        story = await scene.tell("000000003")
        assert story.lines[-1].fact is Fact.FIRST_TRY_DUE


async def test_what_must_not_be_sent(database_url: str) -> None:
    async with opened(database_url) as scene:
        order = build_order("000000004", opened_at=SystemClock().now())
        lease = {"lease_owner": scene.gateway.store.instance, "leased_until": SystemClock().now() + timedelta(hours=1)}
        sending = build_message(order, state=MessageState.SENDING, **lease)
        withdrawn = build_message(order, state=MessageState.WITHDRAWN, due_at=None, kind=MessageKind.FAILURE)
        overtaken = build_message(
            order, state=MessageState.DELIVERED, due_at=None, kind=MessageKind.FAILURE, round_id=Ids().new()
        )
        await put(scene.gateway.store, order, sending, withdrawn, overtaken)
        for message, words in ((sending, "on its way"), (withdrawn, "overtaken"), (overtaken, "overtaken")):
            with pytest.raises(Refused, match=words) as caught:
                await redelivery_of(scene).redeliver(message.id, "by aigerim")
            assert caught.value.refusal is Refusal.WRONG_STATE
        for terminals in ((), (UUID(int=1),)):
            with pytest.raises(Refused, match="no message") as caught:
                await redelivery_of(scene).redeliver(overtaken.id, "by aigerim", terminals=terminals)
            assert caught.value.refusal is Refusal.NOT_FOUND
        assert [e for e in await inspection.list_events(scene.gateway.store, order.id) if e.kind == SENT_AGAIN] == []


async def test_what_waits_behind_an_earlier_message_says_so(database_url: str) -> None:
    async with opened(database_url) as scene:
        order = build_order("000000005", post_link=scene.shop.url)
        later = SystemClock().now() + timedelta(hours=1)
        first = build_message(order, url=scene.shop.url, host=host_of(scene.shop.url), due_at=later)
        second = replace(first, id=Ids().new(), kind=MessageKind.REFUND)
        await put(scene.gateway.store, order, first, second)
        replay = Replay(scene.inspection, redelivery_of(scene))
        again = await redelivery_of(scene).redeliver(second.id, "by aigerim")
        # it must not be due before what it waits for, or it would stand at the head of its queue in vain
        assert (again.waits_for, again.message.due_at) == (first.id, first.due_at)
        assert await replay.play(second.id, Way.LATE, "by aigerim") == ((second.id,), first.id)
        with pytest.raises(Refused, match=f"{second.id} waits until its order's earlier message {first.id}"):
            await replay.play(second.id, Way.TWICE, "by aigerim")
        much_later = await redelivery_of(scene).redeliver(first.id, "by aigerim", after=timedelta(hours=2))
        assert much_later.waits_for is None
        assert (await message_of(scene, second.id)).due_at == much_later.message.due_at
        assert (await replay.play(first.id, Way.TWICE, "by aigerim")).sent == (first.id, first.id)
        await eventually(lambda: is_tried(scene, second.id, 1))
        await eventually(lambda: is_tried(scene, first.id, 2))


async def test_many_that_wait_behind_earlier_ones_are_counted(database_url: str) -> None:
    async with opened(database_url) as scene:
        later = SystemClock().now() + timedelta(hours=1)
        for invoice in ("000000006", "000000007"):
            order = build_order(invoice, post_link=scene.shop.url)
            first = build_message(order, url=scene.shop.url, host=host_of(scene.shop.url), due_at=later)
            dead = replace(first, id=Ids().new(), kind=MessageKind.REFUND, state=MessageState.DEAD, due_at=None)
            await put(scene.gateway.store, order, *((first, dead) if invoice.endswith("6") else (dead,)))
        resent = await redelivery_of(scene).redeliver_all(scene.inspection, "by aigerim", states=(MessageState.DEAD,))
        assert resent == Resent(2, 0, 1)


async def test_many_are_sent_again_each_orders_in_their_order(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tolem.flows.redelivery.PAGE", 7)
    async with opened(database_url) as scene:
        orders = [build_order(f"00000010{number}", post_link=scene.shop.url) for number in range(5)]
        host = scene.shop.url.split("/")[2]
        dead = [
            build_message(
                orders[number % 5],
                state=MessageState.DEAD,
                due_at=None,
                url=scene.shop.url,
                host=host,
                body=b'{"order": %d, "number": %d}' % (number % 5, number),
                created_at=AT + timedelta(minutes=number),
            )
            for number in range(40)
        ]
        delivered = replace(dead[0], id=Ids().new(), state=MessageState.DELIVERED, created_at=AT + timedelta(hours=1))
        withdrawn = replace(delivered, id=Ids().new(), state=MessageState.WITHDRAWN)
        await put(scene.gateway.store, *orders, *dead, delivered, withdrawn)
        redelivery = redelivery_of(scene)
        seen: list[Resent] = []
        since = AT + timedelta(minutes=10)
        resent = await redelivery.redeliver_all(
            scene.inspection, "by aigerim", states=(MessageState.DEAD,), since=since, on_progress=seen.append
        )
        assert resent[:2] == (30, 0)
        assert 0 <= resent.waiting <= 25  # the first of each order waits for nobody
        assert resent == seen[-1]
        await scene.shop.wait(30, seconds=30)
        arrived = defaultdict(list)
        for told in scene.shop.received:
            arrived[told["order"]].append(told["number"])
        assert arrived == {order: [n for n in range(10, 40) if n % 5 == order] for order in range(5)}
        states = (*REDELIVERABLE, MessageState.WITHDRAWN)
        late = await redelivery.redeliver_all(
            scene.inspection, "by aigerim", states=states, since=AT + timedelta(minutes=50)
        )
        assert late == Resent(1, 1)
