"""A payer's browser at the issuer: follows the forms of a challenge as a browser does, over the same connection."""

import html
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.gateway import ORIGIN, Answer, Caller
from tolem.sandbox.cards import build_number

CHALLENGED_CARD = build_number(0, "1")
SCRIPT = '{"d":24,"w":1920,"h":1080,"z":-300,"l":"ru-KZ","j":false,"x":1280,"y":900}'
"""What the page's script says of a browser."""
CODE = "123456"

_FORM = re.compile(r"<form([^>]*)>(.*?)</form>", re.DOTALL)
_ATTRIBUTE = re.compile(r'([a-z-]+)="([^"]*)"')
_INPUT = re.compile(r"<input([^>]*)>")


class Form(NamedTuple):
    """A form of a page."""

    action: str
    fields: dict[str, str]


def read_form(page: Answer, field: str) -> Form:
    """The first form of a page that has a field of this name."""
    for head, inside in _FORM.findall(page.text):
        inputs = [dict(_ATTRIBUTE.findall(found)) for found in _INPUT.findall(inside)]
        fields = {one["name"]: html.unescape(one.get("value", "")) for one in inputs if "name" in one}
        if field in fields:
            return Form(html.unescape(dict(_ATTRIBUTE.findall(head))["action"]), fields)
    raise AssertionError(f"no form with {field} in {page.text[:2000]}")


async def follow(caller: Caller, answer: Answer, headers: dict[str, str]) -> Answer:
    """The page to which a redirect leads, as a browser opens it."""
    return await caller.call("GET", answer.headers["location"], headers=headers) if answer.status == 303 else answer


class Issuer:
    """The way of one payer through a challenge."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self._host = ""
        """Of the page that is shown."""

    async def post(self, form: Form, **changes: str) -> Answer:
        """Posts a form to whichever host it names, with other fields if asked."""
        parts = urlsplit(form.action)
        if parts.path.startswith("/pay/"):
            headers = {"origin": ORIGIN}
        else:
            headers = {"host": parts.netloc or self._host}
            if not parts.path.startswith("/3ds/"):
                self._host = headers["host"]
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        answer = await self.caller.form(target, form.fields | changes, headers)
        if parts.path.startswith("/pay/"):
            return answer
        return await follow(self.caller, answer, headers)

    async def start(self, path: str, number: str = CHALLENGED_CARD, **fields: str) -> Answer:
        """Types a card, and goes through the look at the browser if there is one. The page then."""
        await self.caller.submit(path, number, **({"browser": SCRIPT} | fields))
        page = await self.caller.get(path)
        if 'data-step="device"' in page.text:
            await self.be_looked_at(page)
            page = await self.caller.get(path)
        return page

    async def be_looked_at(self, page: Answer) -> None:
        """The hidden frame goes to the issuer and back, and the page goes on."""
        looked = await self.post(read_form(page, "threeDSMethodData"))
        assert (await self.post(read_form(looked, "threeDSMethodData"))).status == 200
        await self.post(read_form(page, "done"), done="Y", browser=SCRIPT)

    async def finish(self, page: Answer, code: str) -> None:
        """From the challenge's page to the end, with as many codes as the issuer asks for."""
        asked = await self.arrive(page)
        while 'data-acs="challenge"' in asked.text:
            asked = await self.answer(asked, code)
        await self.come_back(asked)

    async def arrive(self, page: Answer) -> Answer:
        """From the challenge's page to the issuer's."""
        return await self.post(read_form(page, "creq"))

    async def answer(self, asked: Answer, code: str = CODE) -> Answer:
        """Types a code on the issuer's page."""
        return await self.post(read_form(asked, "code"), code=code)

    async def cancel(self, asked: Answer) -> Answer:
        """Presses the issuer's other button."""
        form = read_form(asked, "code")
        return await self.post(Form(form.action, {k: v for k, v in form.fields.items() if k != "code"}), cancel="yes")

    async def come_back(self, done: Answer) -> Answer:
        """From the issuer to the return address."""
        return await self.post(read_form(done, "cres"))

    async def pass_challenge(self, path: str, number: str = CHALLENGED_CARD) -> Answer:
        """A whole challenge, the right code at once. The page at its end."""
        return await self.pass_challenge_at(await self.start(path, number), path)

    async def pass_challenge_at(self, page: Answer, path: str) -> Answer:
        """The same from the challenge's page on."""
        await self.come_back(await self.answer(await self.arrive(page)))
        return await self.caller.get(path)
