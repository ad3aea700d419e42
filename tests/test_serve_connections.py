"""The connections of a server: when there are too many, the one that was waited for the longest makes room, and
nobody who is answered.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from served import needed

needed("starlette", "uvicorn")
from starlette.types import Receive, Scope, Send  # noqa: E402 - only where it is there

from tellapart.web import server  # noqa: E402 - only where it is there

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Running:
    """A server; it answers "ok", at /wait only when `go` is set. `arrived`: one for each request there."""

    def __init__(self) -> None:
        self.go, self.arrived = asyncio.Event(), asyncio.Semaphore(0)
        self.here, self.lines = server.bound("127.0.0.1", 0), list[Streams]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/wait":
            self.arrived.release()
            await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def opened(self) -> Streams:
        for _ in range(200):
            with suppress(ConnectionRefusedError):
                self.lines.append(await asyncio.open_connection(*self.here.getsockname()))
                return self.lines[-1]
            await asyncio.sleep(0.05)
        raise AssertionError("it never listened")

    async def run(self, scenario: Callable[["Running"], Awaitable[None]]) -> None:
        task = asyncio.create_task(server.serve(self, self.here))
        try:
            await scenario(self)
        finally:
            for _, writer in self.lines:
                writer.close()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self.here.close()


async def answered(one: Streams) -> bool:
    one[1].write(ASK)
    return (await asyncio.wait_for(one[0].read(1000), 10)).startswith(b"HTTP/1.1 200")


async def closed(one: Streams) -> bool:
    try:
        return await asyncio.wait_for(one[0].read(1), 10) == b""
    except ConnectionResetError:
        return True


async def room_is_made(at: Running) -> None:
    first, second, third = [await at.opened() for _ in range(3)]
    assert await answered(second)
    assert await answered(first)  # so that third, which never asked, is idle the longest
    fourth = await at.opened()
    assert await closed(third)
    fifth = await at.opened()
    assert await closed(second)
    assert [await answered(one) for one in (first, fourth, fifth)] == [True] * 3


async def all_are_answered(at: Running) -> None:
    waiting = [await at.opened() for _ in range(2)]
    for _, writer in waiting:
        writer.write(ASK.replace(b"GET /", b"GET /wait"))
        await asyncio.wait_for(at.arrived.acquire(), 10)
    assert await closed(await at.opened())  # there is no idle one but itself
    at.go.set()
    for reader, _ in waiting:
        assert (await asyncio.wait_for(reader.read(1000), 10)).startswith(b"HTTP/1.1 200")
    assert await answered(await at.opened())


async def slow_senders_make_room(at: Running) -> None:
    senders = [await at.opened() for _ in range(2)]
    for _, writer in senders:
        writer.write(b"POST /wait HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nno")
        await asyncio.wait_for(at.arrived.acquire(), 10)
    senders[0][1].write(b"t")  # a piece more does not make it wait for less long
    third = await at.opened()
    assert await closed(senders[0])
    assert await answered(third)
    senders[1][1].write(b"t whole")  # with which it is
    await asyncio.sleep(0.2)
    fourth = await at.opened()
    assert await closed(third)
    at.go.set()
    assert (await asyncio.wait_for(senders[1][0].read(1000), 10)).startswith(b"HTTP/1.1 200")
    assert await answered(fourth)


@pytest.mark.parametrize(("scenario", "most"), [(room_is_made, 3), (all_are_answered, 2), (slow_senders_make_room, 2)])
def test_too_many_connections_send_away_only_those_that_are_waited_for(
    scenario: Callable[[Running], Awaitable[None]], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTIONS", most)

    async def run() -> None:
        await Running().run(scenario)

    asyncio.run(run())
