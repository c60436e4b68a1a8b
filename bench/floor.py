"""The floor: a bare Starlette application on uvicorn that answers the exchanges of a payment with canned bytes.

`python -m bench.floor ANSWERS PORT`, started by bench/contenders.py. ANSWERS is a file of real answers of the
gateway: their bytes and headers come back as they were. It reads each body and parses none, stores nothing, notifies
nobody. What the gateway does beyond this is what a payment costs.
"""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

HEADERS_OF_SERVER = frozenset(("date", "server"))
"""uvicorn adds them itself."""


class CannedAnswer(msgspec.Struct, frozen=True):
    """One answer of the gateway."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def build_floor(answers: dict[str, CannedAnswer]) -> Starlette:
    """`answers` by the exchange's name (bench/exchanges.py).

    It remembers no state, so the page before and after the card have addresses of their own, as long as a real one.
    """
    length = len(dict(answers["payform"].headers)["location"].removeprefix("/pay/"))
    form_id, result_id = "f" * length, "r" * length
    return Starlette(
        routes=[
            Route("/epay2/oauth2/token", _answer_post(answers["token"]), methods=["POST"]),
            Route("/payform/", _answer_post(_lead_to(answers["payform"], form_id)), methods=["POST"]),
            Route("/pay/{page_id}", _answer_page(answers["form"], answers["result"], result_id), methods=["GET"]),
            Route("/pay/{page_id}", _answer_post(_lead_to(answers["card"], result_id)), methods=["POST"]),
        ]
    )


def _answer_post(canned: CannedAnswer) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        await request.body()
        return _render(canned)

    return answer


def _answer_page(form: CannedAnswer, result: CannedAnswer, result_id: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return _render(result if request.path_params["page_id"] == result_id else form)

    return answer


def _render(canned: CannedAnswer) -> Response:
    return Response(canned.body, canned.status, dict(canned.headers))


def _lead_to(canned: CannedAnswer, page_id: str) -> CannedAnswer:
    headers = [(name, f"/pay/{page_id}" if name == "location" else value) for name, value in canned.headers]
    return msgspec.structs.replace(canned, headers=headers)


def main() -> None:
    """Serves until it is terminated, with the settings that the gateway gives uvicorn."""
    answers = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=dict[str, CannedAnswer])
    uvicorn.run(
        build_floor(answers),
        host="127.0.0.1",
        port=int(sys.argv[2]),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=15,
    )


if __name__ == "__main__":
    main()
