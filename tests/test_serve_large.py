"""Large pictures: they cost a server a bounded piece of memory, and nobody waits for another's."""

import asyncio
import gc
import struct
import sys
import weakref
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from commands import train
from PIL import Image
from planted import encoded, natural
from served import inside, memory, needed, png, serving
from watched import Watch, large_png

needed("starlette", "uvicorn")
import httpx  # noqa: E402 - only where it is there

from tellapart.models.bundle import load_bundle  # noqa: E402 - only where it is there
from tellapart.web import reader, site  # noqa: E402 - only where it is there
from tellapart.web.readers import WAITING, Bounds, Readers  # noqa: E402 - only where it is there
from tellapart.web.refusal import Refusal  # noqa: E402 - only where it is there

HELD = """
import os, sys, time
from tellapart.web import reader
plain, gate = reader.decode, {gate!r}

def decode(raw):
    while len(raw) > 100_000 and not os.path.exists(gate):
        time.sleep(0.01)
    return plain(raw)

reader.decode = decode
reader.main(*map(int, sys.argv[1:]))
"""
"""A decoder that decodes what is large only when a file is there."""


@pytest.mark.parametrize(("kind", "status"), [("WEBP", b"413"), ("PNG", b"")])
def test_a_pixel_of_a_webp_counts_twice_for_it_takes_twice_the_memory(kind: str, status: bytes) -> None:
    raw = encoded(Image.new("RGB", (2900, 2900)), kind)
    first, *more = reader.answer(raw, reader.MOST)
    assert (first == b"-", b"".join(map(bytes, more))[:3] if first == b"-" else b"") == (bool(status), status)
    assert reader.answer(raw, 4_000_000)[0] in (b"-", b">")


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="this system does not say what memory is used")
def test_large_pictures_of_four_clients_cost_at_most_300_mb(tmp_path: Path) -> None:
    run = train(tmp_path, "a", "digits", "--epochs", "1").run("a")
    with serving(tmp_path, str(run.bundle)) as served:
        ask = httpx.Client(base_url=served.url, timeout=60)
        assert ask.post("/api/predict", content=png(1)).status_code == 200
        idle, watch = memory(served.process.pid), Watch(served.process.pid, pause=0.02)
        with ThreadPoolExecutor(4) as pool:
            doors = ["/api/predict"] * 8 + ["/api/heat"]
            asked = [pool.submit(ask.post, door, content=large_png()) for door in reversed(doors)]
            codes = [one.result().status_code for one in asked]
        most = watch.end()
        ask.close()
    assert set(codes) <= {200, 408, 422, 429}  # those for whom there is no room, or no time, are told so
    assert 200 in codes
    assert most - idle < 300e6


def answered(work: Callable[[Readers], Awaitable[None]], **bounds: object) -> None:
    """Work with children that decode."""
    readers = Readers(Bounds(processes=1, **bounds), died=lambda: None)  # type: ignore[arg-type]
    readers.start()
    try:
        asyncio.run(asyncio.wait_for(work(readers), 60))  # type: ignore[arg-type]
    finally:
        readers.close()


@contextmanager
def no_collection() -> Iterator[None]:
    """What nobody holds is gone at once, or it is kept by a ring."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def sized(readers: Readers, raw: Any) -> "asyncio.Task[tuple[int, ...]]":
    return asyncio.ensure_future(readers.read(raw, lambda pixels, _: pixels.shape))


def test_a_small_picture_neither_waits_for_a_large_one_nor_for_company(tmp_path: Path) -> None:
    gate, large = tmp_path / "gate", encoded(natural(1, width=2100, height=2000), "JPEG")

    async def work(readers: Readers) -> None:
        slow = sized(readers, large)
        while readers.under_way or not readers._until:  # until the child for large ones has it
            await asyncio.sleep(0.01)
        assert await sized(readers, png(1)) == (8, 8, 1)
        assert (slow.done(), readers.under_way) == (False, 0)
        gate.touch()
        assert await slow == (2000, 2100, 3)

    answered(work, command=(sys.executable, "-P", "-c", HELD.format(gate=str(gate))), small=1_000_000)


class Body(bytearray):
    """Bytes of which it can be seen when nobody holds them any more."""


def test_who_waits_with_a_large_picture_and_leaves_takes_it_along_and_few_may_wait(tmp_path: Path) -> None:
    gate, large = tmp_path / "gate", encoded(natural(1, width=2100, height=2000), "JPEG")

    async def work(readers: Readers) -> None:
        first = sized(readers, large)
        while readers.under_way or not readers._until:
            await asyncio.sleep(0.01)
        body = Body(large)
        held, waiting = weakref.ref(body), [sized(readers, body), *(sized(readers, large) for _ in range(WAITING - 1))]
        del body
        while readers._waiting < WAITING:
            await asyncio.sleep(0.01)
        with pytest.raises(Refusal, match="Several large pictures wait") as refused:
            await sized(readers, large)
        assert refused.value.status == 429
        waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        del waiting[0], refused
        assert held() is None
        gate.touch()
        assert {await one for one in (first, *waiting)} == {(2000, 2100, 3)}

    with no_collection():
        answered(work, command=(sys.executable, "-P", "-c", HELD.format(gate=str(gate))), small=1_000_000)


@pytest.mark.parametrize("size", [(60, 40), (2400, 1800)])
def test_what_is_refused_is_not_kept(size: tuple[int, int]) -> None:
    broken = encoded(natural(1, width=60, height=40).resize(size), "PNG")[:-400]

    async def work(readers: Readers) -> None:
        body = Body(broken)
        held = weakref.ref(body)
        with pytest.raises(Refusal) as refused:
            await sized(readers, body)
        assert refused.value.status == 422
        del body, refused
        await asyncio.sleep(0.3)  # until the thread has let go of it
        assert held() is None

    with no_collection():
        answered(work)


def test_a_request_that_is_refused_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = load_bundle(train(tmp_path, "a", "digits", "--epochs", "1").run("a").bundle)
    made, plain = list[weakref.ref](), site.Asked

    def asked(**values: object) -> site.Asked:
        made.append(weakref.ref(one := plain(**values)))  # type: ignore[arg-type]
        return one

    async def work() -> None:
        async with inside(bundle) as client:
            for body, status in ((png(1), 200), (b"no picture", 422), (large_png()[:2_000_000], 422)):
                assert (await client.post("/api/predict", content=body)).status_code == status
                await asyncio.sleep(0.3)  # until the thread has let go of it
                assert made.pop()() is None, status

    monkeypatch.setattr(site, "Asked", asked)
    with no_collection():
        asyncio.run(work())


def test_a_child_that_answers_what_was_not_asked_is_ended() -> None:
    code = "from tellapart.web import reader; reader.answer = lambda raw, most: (b'<',); import sys; "
    code += "reader.main(*map(int, sys.argv[1:]))"

    async def work(readers: Readers) -> None:
        with pytest.raises(Refusal, match="died of it"):
            await sized(readers, png(1))

    answered(work, command=(sys.executable, "-P", "-c", code))


def test_a_body_in_chunks_may_be_longer_than_the_length_beside_it_says(tmp_path: Path) -> None:
    run = train(tmp_path, "a", "digits", "--epochs", "1").run("a")
    body = encoded(natural(1, width=1000, height=600), "BMP")
    head = "POST /api/predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
    for length in (5, 1_048_577):
        with serving(tmp_path, str(run.bundle)) as served, served.connect() as line:
            line.sendall(f"{head}Content-Length: {length}\r\n\r\n{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")
            said = line.makefile("rb").readline()
        assert said.split()[1] in (b"200", b"400")


def padded(jpeg: bytes, segments: int) -> bytes:
    """The same picture behind so many long comments."""
    comment = b"\xff\xfe" + struct.pack(">H", 65_000) + bytes(64_998)
    return jpeg[:2] + comment * segments + jpeg[2:]


def test_a_long_file_is_sent_once_where_its_head_says_how_large_it_is() -> None:
    """A long file is looked at by its head; one whose head says nothing is decoded all the same."""
    photo = natural(2, width=640, height=480)
    bitmap, jpeg, large = (encoded(one, kind) for one, kind in (
        (photo.resize((800, 600)), "BMP"), (photo, "JPEG"), (photo.resize((2400, 1800)), "PNG")))  # fmt: skip
    sent: list[int] = []

    async def work(readers: Readers) -> None:
        asked = readers._asked
        readers._asked = lambda raw, way, most: (sent.append(len(raw)), asked(raw, way, most))[1]
        for raw, shape, pieces in (
            (bitmap, (600, 800, 3), [65536, len(bitmap)]),
            (padded(jpeg, 30), (480, 640, 3), [65536, len(padded(jpeg, 30))]),
            (jpeg, (480, 640, 3), [len(jpeg)]),
            (large, (1800, 2400, 3), [65536, len(large)]),
        ):
            sent.clear()
            assert await sized(readers, raw) == shape
            assert sent == pieces

    answered(work)


def test_what_is_long_and_no_picture_is_refused() -> None:
    async def work(readers: Readers) -> None:
        for raw in (bytes(2_000_000), large_png()[:3_000_000], b"\x89PNG\r\n\x1a\n" + bytes(2_000_000)):
            with pytest.raises(Exception, match=r"picture|broken|truncated|whole") as refused:
                await sized(readers, raw)
            assert getattr(refused.value, "status", 0) in (413, 422)

    answered(work)
