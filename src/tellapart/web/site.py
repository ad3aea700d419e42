"""The HTTP core: a fixed table of paths, bodies with bounds, and answers that say nothing of the inside.

There is no path parameter, no address that is fetched, no form: a picture is the body of a request.
"""

import asyncio
import contextlib
import io
import mmap
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tellapart.web.counts import Counts
from tellapart.web.guard import Guard
from tellapart.web.refusal import Refusal, busy

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(self), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
RAW_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
LET_OUT, HEAD_BYTES = 2.0, 16_384
"""Seconds that a body which is too long is still taken; bytes of the head of a request."""
LONG, PAUSE = 1 << 20, 0.002
"""Bytes of a body after which others are answered between its pieces, and for how many seconds."""
TYPES = ("application/octet-stream", "image/")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What may come in: bytes of a body, seconds until it is there, bytes of all bodies together, requests that are
    worked on at once, and seconds that one of them may take.
    """

    bytes: int = 20_000_000
    body_seconds: float = 20.0
    all_bytes: int = 64_000_000
    requests: int = 64
    seconds: float = 110.0


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request that was let in: its query, its body, and the request itself."""

    query: Mapping[str, str]
    body: bytes | memoryview
    request: Request


@dataclass(frozen=True, kw_only=True)
class Door:
    """One way in: the method, who answers, the names its query may have; open without a token; takes a body."""

    method: str
    answer: Callable[[Asked], Awaitable[Response]]
    query: tuple[str, ...] = ()
    open: bool = False
    body: bool = False


class Gone(Exception):
    """The client went away."""


@dataclass(kw_only=True)
class Site:
    """The application (ASGI): what is asked at each path of the table, by those who may ask."""

    doors: Mapping[str, Door]
    guard: Guard
    counts: Counts
    limits: Limits = field(default_factory=Limits)
    under_way: set[asyncio.Future[Response]] = field(default_factory=set)
    _held: int = 0
    _uploads: dict[asyncio.Timeout, None] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request, began = Request(scope, receive), time.perf_counter()
        try:
            response = await self._answered(request)
        except Refusal as refusal:
            response = refusal.response()
            if refusal.code == "too_many_bytes":  # the other bodies are there
                await _let_out(request)
        except Gone:
            self.counts.named["gone"] += 1
            return
        except Exception as error:
            response = _failed(error)
        response.raw_headers.extend(RAW_HEADERS)
        path = scope["path"] if scope["path"] in self.doors else "other"
        self.counts.record(path, response.status_code, time.perf_counter() - began)
        await response(scope, receive, send)

    async def _answered(self, request: Request) -> Response:
        if sum(len(name) + len(value) for name, value in request.scope["headers"]) > HEAD_BYTES:
            raise Refusal(431, "head_too_long", f"The head of the request has more than {HEAD_BYTES:,} bytes.")
        self.guard.check(request)
        door = self.doors.get(request.scope["path"])
        if door is None:
            raise Refusal(
                404, "not_found", "There is nothing at this address.", "GET /openapi.json lists what there is."
            )
        if request.method not in (door.method, "HEAD" if door.method == "GET" else door.method):
            raise Refusal(405, "wrong_method", f"This address takes {door.method}.", Allow=_allowed(door))
        if not door.open:
            self.guard.admit(request)
        query = _query(request, door)
        if not door.body:
            return await door.answer(Asked(query=query, body=b"", request=request))
        async with self._body(request) as body:
            return await self._worked(door, Asked(query=query, body=body, request=request))

    async def _worked(self, door: Door, asked: Asked) -> Response:
        """The answer, unless there is too much to do, the client goes away, or it takes too long."""
        if len(self.under_way) >= self.limits.requests:
            raise busy(f"{len(self.under_way)} requests are being worked on; more are not taken.")
        work = asyncio.ensure_future(door.answer(asked))
        gone = asyncio.ensure_future(_gone(asked.request))
        self.under_way.add(work)
        try:
            await asyncio.wait({work, gone}, timeout=self.limits.seconds, return_when=asyncio.FIRST_COMPLETED)
            if work.cancelled():
                raise Refusal(503, "stopping", "The server is being stopped.", "Ask again in a while.")
            if work.done():
                return work.result()
            if gone.done():
                raise Gone
            raise Refusal(
                503, "too_slow", f"There was no answer within {self.limits.seconds:g} seconds.", Retry_After="5"
            )
        finally:
            self.under_way.discard(work)
            work.cancel()
            gone.cancel()
            del work, gone  # an error would keep itself by them, and the body

    def refuse(self) -> None:
        """Give up what is being worked on."""
        for work in self.under_way:
            work.cancel()

    @asynccontextmanager
    async def _body(self, request: Request) -> AsyncIterator[memoryview]:
        """The body, whose bytes count as held until the end of the block."""
        kind = request.headers.get("content-type", TYPES[0]).lower()
        if not kind.startswith(TYPES):
            said = "The picture itself is the body; there is no form."
            raise Refusal(415, "wrong_type", said, "curl -H 'Content-Type: image/jpeg' --data-binary @picture.jpg …")
        most = self.limits.bytes
        announced = str(most)
        if "transfer-encoding" not in request.headers:  # which wins where both are there
            announced = request.headers.get("content-length", announced)
        if not announced.isdecimal() or int(announced[:20]) > most:
            raise _too_long(most)
        # pages of its own, which cost nothing until they are filled: bytes that grow are copied while others wait
        body = io.BytesIO() if int(announced) <= LONG else mmap.mmap(-1, int(announced))
        try:
            await self._received(request, body)
            yield (body.getbuffer() if isinstance(body, io.BytesIO) else memoryview(body))[: body.tell()]
        finally:
            self._held -= body.tell()

    async def _received(self, request: Request, body: io.BytesIO | mmap.mmap) -> None:
        timer = asyncio.timeout(self.limits.body_seconds)
        try:
            async with timer:
                self._uploads[timer] = None
                while True:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise Gone
                    piece = message.get("body", b"")
                    if body.tell() + len(piece) > self.limits.bytes:
                        raise _too_long(self.limits.bytes)
                    self._held += body.write(piece)
                    if not message.get("more_body"):
                        break
                    if self._held > self.limits.all_bytes:
                        self._make_room(timer)
                    if body.tell() > LONG:
                        await asyncio.sleep(PAUSE)
        except TimeoutError as error:
            if timer not in self._uploads:
                raise _no_room() from error
            said = "The picture did not arrive in time."
            raise Refusal(408, "too_slow_to_send", said, "Send it again.", Connection="close") from error
        finally:
            self._uploads.pop(timer, None)
        if not body.tell():
            raise Refusal(422, "not_a_picture", "The body is empty.", "Send the bytes of a picture as the body.")

    def _make_room(self, own: asyncio.Timeout) -> None:
        """Give up the oldest body that is still arriving: a slow client does not keep the others out."""
        oldest = next(iter(self._uploads))
        if oldest is own:
            raise _no_room()
        self._uploads.pop(oldest)
        oldest.reschedule(asyncio.get_running_loop().time())


async def _gone(request: Request) -> None:
    """Returns when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _let_out(request: Request) -> None:
    """Take what a client is still sending, for a while: one whose connection is closed over it never reads why."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LET_OUT):
            while (message := await request.receive())["type"] != "http.disconnect" and message.get("more_body"):
                await asyncio.sleep(PAUSE)


def _query(request: Request, door: Door) -> dict[str, str]:
    """The query. Raises Refusal for a name that is not the door's, or one that is given twice."""
    try:
        text = request.scope["query_string"].decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=8, errors="strict")
    except ValueError as error:
        raise Refusal(400, "wrong_query", "The part behind the question mark cannot be read.") from error
    found = dict(pairs)
    if len(found) < len(pairs) or not set(found) <= set(door.query):
        takes = " and ".join(door.query) or "nothing"
        raise Refusal(400, "wrong_query", f"Behind the question mark this address takes {takes}, each once.")
    return found


def _allowed(door: Door) -> str:
    return "GET, HEAD" if door.method == "GET" else door.method


def _too_long(most: int) -> Refusal:
    said = f"The picture has more than {most:,} bytes."
    return Refusal(
        413, "too_many_bytes", said, "Make it smaller: the network sees a small square of it.", Connection="close"
    )


def _no_room() -> Refusal:
    return busy("Too many pictures arrive at once.", Connection="close")


def _failed(error: Exception) -> Response:
    """The answer to what should not happen: a number that stands on the server's screen too, with what it was."""
    number = secrets.token_hex(4)
    with contextlib.suppress(OSError, ValueError):  # a full disk behind the log does not end the service
        print(f"error {number}: {type(error).__name__}: {str(error)[:200]!r}", file=sys.stderr, flush=True)  # noqa: T201
    said = f"Something unexpected happened, number {number}."
    return Refusal(
        500, "unexpected", said, "The person who runs this server finds the number on its screen."
    ).response()
