"""Large pictures: they cost a server a bounded piece of memory, and nobody waits for another's."""

import asyncio
import struct
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from commands import train
from planted import encoded, natural
from served import memory, needed, png, serving
from watched import Watch, large_png

needed("starlette", "uvicorn")
import httpx  # noqa: E402 - only where it is there

from tellapart.web.readers import Bounds, Readers  # noqa: E402 - only where it is there

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


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="this system does not say what memory is used")
def test_large_pictures_of_four_clients_cost_at_most_300_mb(tmp_path: Path) -> None:
    run = train(tmp_path, "a", "digits", "--epochs", "1").run("a")
    with serving(tmp_path, str(run.bundle)) as served:
        ask = httpx.Client(base_url=served.url, timeout=60)
        assert ask.post("/api/predict", content=png(1)).status_code == 200
        idle, watch = memory(served.process.pid), Watch(served.process.pid, pause=0.02)
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(ask.post, "/api/predict", content=large_png()) for _ in range(8)]
            codes = [one.result().status_code for one in asked]
        most = watch.end()
        ask.close()
    assert set(codes) <= {200, 408, 429}  # those for whom there is no room are told so
    assert codes.count(200) >= 2
    assert most - idle < 300e6


def answered(work: Callable[[Readers], Awaitable[None]], **bounds: object) -> None:
    """Work with children that decode."""
    readers = Readers(Bounds(processes=1, **bounds), died=lambda: None)  # type: ignore[arg-type]
    readers.start()
    try:
        asyncio.run(asyncio.wait_for(work(readers), 60))  # type: ignore[arg-type]
    finally:
        readers.close()


def sized(readers: Readers, raw: bytes) -> "asyncio.Task[tuple[int, ...]]":
    return asyncio.ensure_future(readers.read(raw, lambda pixels, _: pixels.shape))


def test_a_small_picture_neither_waits_for_a_large_one_nor_for_company(tmp_path: Path) -> None:
    gate, large = tmp_path / "gate", encoded(natural(1, width=2100, height=2000), "JPEG")

    async def work(readers: Readers) -> None:
        slow = sized(readers, large)
        while readers.under_way or not readers._began:  # until the child for large ones has it
            await asyncio.sleep(0.01)
        assert await sized(readers, png(1)) == (8, 8, 1)
        assert (slow.done(), readers.under_way) == (False, 0)
        gate.touch()
        assert await slow == (2000, 2100, 3)

    answered(work, command=(sys.executable, "-P", "-c", HELD.format(gate=str(gate))), small=1_000_000)


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
