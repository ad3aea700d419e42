"""A socket, uvicorn on it, and its end: connections have bounds on time and number, and a stop lets answers out."""

import asyncio
import contextlib
import errno
import ipaddress
import signal
import socket
import sys
from collections.abc import Callable, Iterator

import h11
from starlette.types import ASGIApp
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from tellapart.errors import UsageError
from tellapart.web.refusal import Refusal
from tellapart.web.site import HEAD_BYTES, HEADERS

CONNECTIONS, QUEUE, TAKEN = 512, 1024, 16
"""Connections at once; those that may wait to be taken; and how many are taken before others are heard again."""
HEAD, WHOLE, IDLE, DRAIN, REFUSED = 10.0, 120.0, 15.0, 30.0, 6.0
"""Seconds: until a new connection has asked; for a request with its answer; until the next one, in which an answer must
have been taken too; for all that is under way when the server is stopped; and those of them for saying that it is not
answered.
"""


class Clients(ServerState):
    """What the connections of a server share; those that wait for their client in a row, the longest first."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: dict[Bounded, None] = {}


class Bounded(H11Protocol):
    """HTTP/1.1 in which every wait for a client ends, and a new client is never kept out by those that are waited for:
    idle ones, and ones that are slow to send what they ask.
    """

    server_state: Clients
    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client came; when there are too many, the one that was waited for the longest goes."""
        super().connection_made(transport)
        self._ends_in(HEAD)
        waiting = self.server_state.waiting
        waiting[self] = None
        if len(self.connections) > CONNECTIONS:
            longest = next(iter(waiting))
            del waiting[longest]
            longest.transport.abort()

    def is_idle(self) -> bool:
        """Whether nothing is being answered here."""
        return self.cycle is None or self.cycle.response_complete

    def handle_events(self) -> None:
        """What has arrived; a new request has its own time."""
        before, waiting = self.cycle, self.server_state.waiting
        super().handle_events()
        if self.is_idle():
            return
        if self.cycle is not before:
            self._ends_in(WHOLE)
            if self in waiting:  # it has its own place in the row, and pieces of its body bring it no later one
                del waiting[self]
                waiting[self] = None
        if not self.cycle.more_body:
            waiting.pop(self, None)

    def on_response_complete(self) -> None:
        """An answer was given."""
        if self in self.connections:  # still there
            self.server_state.waiting[self] = None
        self._ends_in(IDLE)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self.server_state.waiting.pop(self, None)
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is told so, as everything else is refused."""
        refused = Refusal(400, "not_http", "This is not a request of HTTP/1.1.").response()
        refused.headers.update({**HEADERS, "connection": "close"})
        with contextlib.suppress(h11.LocalProtocolError):  # an answer had begun
            for event in (
                h11.Response(status_code=400, headers=refused.raw_headers, reason=b"Bad Request"),
                h11.Data(data=bytes(refused.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _ends_in(self, seconds: float) -> None:
        if self._end is not None:
            self._end.cancel()
        self._end = self.loop.call_later(seconds, self.transport.abort)


class Quiet(Server):
    """uvicorn's server, whose signals mean: no new clients, finish, and let the program say how it ended."""

    def __init__(self, config: Config, refuse: Callable[[], None]) -> None:
        super().__init__(config)
        self.server_state, self.refuse = Clients(), refuse

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin; the queue is longer than what asyncio, which has one number for both, takes from it at a time."""
        await super().startup(sockets)
        for one in sockets or ():
            one.listen(QUEUE)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGINT, SIGTERM and SIGHUP stop it; a second one does not wait."""
        self.stopped_by = 0
        numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if sys.platform != "win32" else [])]
        before = {one: signal.signal(one, self.handle_exit) for one in numbers}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def handle_exit(self, sig: int, frame: object) -> None:
        """What a signal does."""
        self.force_exit = self.should_exit
        self.should_exit, self.stopped_by = True, sig

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """No new clients; what takes too long is refused in time for the refusal to arrive."""
        late = asyncio.get_running_loop().call_later(DRAIN - REFUSED, self.refuse)
        await super().shutdown(sockets)
        late.cancel()


def bound(host: str, port: int) -> socket.socket:
    """A socket with this address that does not listen yet. Raises UsageError when it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        here = socket.socket(family, kind, protocol)  # asyncio turns off Nagle's delay only where it sees TCP named
        with contextlib.ExitStack() as ends:
            ends.callback(here.close)
            if sys.platform != "win32":
                here.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            here.bind(address)
            ends.pop_all()
    except socket.gaierror as error:
        raise UsageError(
            f"There is no address called '{host}' on this machine.", "--host 127.0.0.1 is usual."
        ) from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"Port {port} is taken by another program.", "--port 0 picks a free one.") from error
        raise UsageError(
            f"{host}, port {port}, cannot be used: {error.strerror}.", "--port 0 picks a free one."
        ) from error
    return here


def is_local(here: socket.socket) -> bool:
    """Whether only this machine can reach the socket."""
    return ipaddress.ip_address(here.getsockname()[0].partition("%")[0]).is_loopback


def address(here: socket.socket) -> str:
    """How to open it in a browser on this machine."""
    name, port = str(here.getsockname()[0]), here.getsockname()[1]
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/"


async def serve(app: ASGIApp, here: socket.socket, refuse: Callable[[], None] = lambda: None) -> int:
    """Answer on a socket until a signal comes; which one. What is being answered then is answered, or given up by
    `refuse` a little before the end of DRAIN.
    """
    config = Config(
        app,
        http=Bounded,
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=HEAD_BYTES,
        backlog=TAKEN,
        timeout_graceful_shutdown=int(DRAIN),
    )
    server = Quiet(config, refuse)
    await server.serve([here])
    return server.stopped_by
