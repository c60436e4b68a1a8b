"""uvicorn inside our own process, and the supervisor of several such processes.

Called by cli. Invariant: a SIGTERM ends with exit status 0 after what runs is finished; a process that loses its
supervisor, even by kill -9, ends too and leaves nobody on the port.
"""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Generator, Sequence

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from tolem.telemetry import log

GRACE_SECONDS = 8
"""Running requests get this long after SIGTERM; the rest of the 10 s is for storing and closing."""
KEEP_ALIVE_SECONDS = 15
REQUEST_SECONDS_MAX = 30.0
"""Head and body of a request are here by then, or its connection is closed: uvicorn waits for both without an end. The
edge answers a body that it waits for sooner (web/http.py)."""
RESTART_SECONDS = 1.0
"""A worker that dies sooner after its start than this is started again with a pause."""
FD_VARIABLE = "TOLEM_WORKER_FDS"
"""Inside a worker: the descriptors of the listening socket and of the supervisor's pipe."""


class _Server(uvicorn.Server):
    """Leaves signals to us: uvicorn would raise them again at its end, and the exit status would not be 0. Closes the
    connections of clients that never finish a request."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self._owing: dict[HttpToolsProtocol, tuple[object, float]] = {}
        """Clients that owed the rest of a request at the last look: after which request, and since when."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # once a second, so that it costs requests nothing
            self._close_owing(time.monotonic())
        return await super().on_tick(counter)

    def _close_owing(self, now: float) -> None:
        owing: dict[HttpToolsProtocol, tuple[object, float]] = {}
        closed = 0
        for connection in self.server_state.connections:
            assert isinstance(connection, HttpToolsProtocol)  # noqa: S101 - as configured below
            if connection.transport.is_closing() or not _owes(connection):
                continue
            cycle, since = self._owing.get(connection, (None, now))
            if cycle is not connection.cycle:
                since = now
            if now - since < REQUEST_SECONDS_MAX:
                owing[connection] = connection.cycle, since
            else:
                connection.transport.close()
                closed += 1
        self._owing = owing
        if closed:
            log.info("unfinished_requests_closed", connections=closed, seconds=REQUEST_SECONDS_MAX)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError if the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


async def serve_apps(
    apps: Sequence[tuple[ASGIApp, socket.socket]],
    stopping: asyncio.Event,
    *,
    trusted_proxies: str = "",
    on_started: Callable[[], Awaitable[None]] | None = None,
    on_stopping: Callable[[], None] = lambda: None,
) -> None:
    """Serves each application on its socket until `stopping` is set, then finishes what runs.

    `on_stopping` ends the answers that would never end: nobody waits for their grace then.
    """
    servers = [_Server(_configure(app, trusted_proxies)) for app, _ in apps]
    running = [
        asyncio.create_task(server.serve(sockets=[listener]))
        for server, (_, listener) in zip(servers, apps, strict=True)
    ]
    await asyncio.gather(*(server.listening.wait() for server in servers))
    if on_started is not None:
        await on_started()
    stop = asyncio.create_task(stopping.wait())
    await asyncio.wait([stop, *running], return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    on_stopping()
    for server in servers:
        server.should_exit = True
    await asyncio.gather(*running)


def settle_memory() -> None:
    """What is loaded by now stays: the collector need not walk it again and again for the garbage of requests, of which
    reference counting frees nearly all anyway."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def stop_on_signals(stopping: asyncio.Event) -> None:
    """SIGTERM and Ctrl-C set `stopping`; a second Ctrl-C ends at once."""
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        if stopping.is_set():
            os._exit(130)
        stopping.set()

    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_signal_handler(signal.SIGINT, interrupted)


def is_worker() -> bool:
    """This process was started by `supervise`."""
    return FD_VARIABLE in os.environ


def inherited() -> tuple[socket.socket, int] | None:
    """In a worker of `supervise`: the listening socket and the descriptor of the supervisor's pipe."""
    value = os.environ.get(FD_VARIABLE)
    if value is None:
        return None
    listener, pipe = (int(part) for part in value.split(","))
    return socket.socket(fileno=listener), pipe


def stop_without_supervisor(pipe: int, stopping: asyncio.Event) -> None:
    """The pipe's other end closes when the supervisor ends, however it does."""
    loop = asyncio.get_running_loop()

    def closed() -> None:
        loop.remove_reader(pipe)
        stopping.set()

    loop.add_reader(pipe, closed)


def supervise(listener: socket.socket, command: Sequence[str], workers: int, environment: dict[str, str]) -> int:
    """Runs `workers` processes of `command` on one socket, starts again what dies, ends all on SIGTERM. Exit status."""
    is_stopping = False

    def stop(signum: int, frame: object) -> None:
        nonlocal is_stopping
        is_stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    reader, writer = os.pipe()  # only this process holds the writing end: its death closes it
    environment = {**environment, FD_VARIABLE: f"{listener.fileno()},{reader}"}

    def start() -> tuple[subprocess.Popen[bytes], float]:
        process = subprocess.Popen(  # noqa: S603 - our own command line
            command, env=environment, pass_fds=(listener.fileno(), reader), start_new_session=True
        )
        return process, time.monotonic()

    running = [start() for _ in range(workers)]
    while not is_stopping:
        time.sleep(0.1)
        for index, (process, started) in enumerate(running):
            if process.poll() is None or is_stopping:
                continue
            log.error("worker_died", pid=process.pid, status=process.returncode)
            if time.monotonic() - started < RESTART_SECONDS:
                time.sleep(RESTART_SECONDS)
            running[index] = start()
    for process, _ in running:
        if process.poll() is None:
            process.terminate()
    statuses = [process.wait() for process, _ in running]
    os.close(writer)
    # Our own SIGTERM, met before the worker was ready for it, is an end in order.
    return 0 if all(status in (0, -signal.SIGTERM) for status in statuses) else 1


def worker_command(arguments: Sequence[str]) -> list[str]:
    """The command line of one worker of this program."""
    return [sys.executable, "-m", "tolem.cli", *arguments]


def _owes(connection: HttpToolsProtocol) -> bool:
    """It is the client's turn: the rest of a body or a head. Between two requests uvicorn has a limit of its own."""
    cycle: RequestResponseCycle | None = connection.cycle
    if cycle is None or cycle.response_complete:
        return connection.timeout_keep_alive_task is None
    return cycle.more_body and not connection.pipeline


def _configure(app: ASGIApp, trusted_proxies: str) -> uvicorn.Config:
    proxies = [proxy.strip() for proxy in trusted_proxies.split(",") if proxy.strip()]
    return uvicorn.Config(
        app,
        http=HttpToolsProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
