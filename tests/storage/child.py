"""A process of its own for tests of this room: `python -m tests.storage.child <what> <address>`.

pay      pays the same 200 invoices as its sibling, four times each, 24 callers; prints errors and failed batches
insert   makes the same 300 new invoices as its sibling, in its own order
capture  captures 200 stored payments, two callers each under one key and two under another; prints who got what
write    stores changes one after the other and prints each invoice as soon as it is answered, until it is killed
hold     opens the store and says so

Siblings begin when they are told to by a line.
"""

import asyncio
import json
import os
import random
import sys
from collections.abc import Awaitable, Callable

from tests.storage.build import IDS, TERMINAL_ID, capture_once, open_order, pay
from tolem.storage import keys
from tolem.storage.open import open_store
from tolem.storage.schema import tolem_schema
from tolem.storage.store import Store

CALLERS = 24


async def main(what: str, url: str) -> None:
    store = await open_store(url, schema=tolem_schema, instance=IDS.instance())
    print("open", flush=True)
    if what == "pay":
        await share(store, [f"{i:09d}" for i in range(200)] * 4, lambda invoice_id: pay(store, invoice_id))
    elif what == "insert":
        await share(store, [f"{i:09d}" for i in range(300)], lambda invoice_id: insert(store, invoice_id))
    elif what == "capture":
        told: dict[str, set[str]] = {}

        async def capture(call: str) -> None:
            invoice_id, name = call.split()
            told.setdefault(call, set()).add(str(await capture_once(store, invoice_id, name)))

        await share(store, [f"{i:09d} {name}" for i in range(200) for name in "abab"], capture, in_order=True)
        print(json.dumps({call: sorted(answers) for call, answers in told.items()}), flush=True)
    elif what == "write":
        number = 0
        while True:
            number += 1
            await insert(store, f"{number:09d}")
            print(f"{number:09d}", flush=True)
    else:
        await asyncio.sleep(60)
    await store.close()


async def share(
    store: Store, invoices: list[str], work: Callable[[str], Awaitable[object]], *, in_order: bool = False
) -> None:
    """Begins when a line comes in. `in_order`: so that siblings meet at the same invoices."""
    await asyncio.to_thread(sys.stdin.readline)
    if not in_order:
        random.Random(os.getpid()).shuffle(invoices)
    remaining = iter(invoices)
    errors: list[str] = []

    async def call() -> None:
        for invoice_id in remaining:
            try:
                await work(invoice_id)
            except Exception as error:
                errors.append(f"{type(error).__name__}: {error}")

    await asyncio.gather(*[call() for _ in range(CALLERS)])
    print(f"errors {len(errors)} {errors[:3]}", flush=True)


async def insert(store: Store, invoice_id: str) -> None:
    await store.change((keys.order_by_invoice(TERMINAL_ID, invoice_id),), open_order(invoice_id))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
