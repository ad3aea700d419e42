"""A server of tellapart as a process of its own, bombs and other pictures to throw at it, and raw sockets to do it."""

import asyncio
import io
import json
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from commands import process
from PIL import Image

from tellapart.models.bundle import Bundle

CHILD = """
import os, sys, time
from tellapart.web import reader
plain = reader.decode

def decode(raw):
    if b"HANG" in raw:
        time.sleep(60)
    if b"CRASH" in raw:
        os.kill(os.getpid(), 11)
    return plain(raw)

reader.decode = decode
reader.main(*map(int, sys.argv[1:]))
"""
"""A decoder with two faults: files that hold these words make it hang, or die."""

PLANTED = """
import asyncio, json, sys
from functools import cache
from pathlib import Path
import torch
from tellapart.models.bundle import load_bundle
from tellapart.web import server
from tellapart.web.guard import Guard
from tellapart.web.readers import Bounds
from tellapart.web.server import address, bound
from tellapart.web.site import Limits
from tellapart.workflow.serve import Service

asked = json.loads(sys.argv[2])
server.DRAIN, server.REFUSED = asked["drain"]
here = bound("127.0.0.1", 0)
child = (sys.executable, "-P", "-c", asked["child"])
service = Service(
    load_bundle(Path(sys.argv[1])),
    "planted",
    device=torch.device("cpu"),
    guard=Guard(token=asked["token"]),
    bounds=Bounds(command=child),
    limits=Limits(**asked["limits"]),
)
import time
slow, gate, said = asked["slow"], asked["gate"], service.batches.answer

def late(squares):
    time.sleep(slow)
    while gate and not Path(gate).exists():
        time.sleep(0.01)
    return said(squares)

service.batches.answer = late
service.start()
here.listen()
print(address(here), flush=True)
sys.exit(0 if asyncio.run(service.run(here)) else 1)
"""


class Served(NamedTuple):
    """A server: its address, and its process. `said`: the line it began with."""

    url: str
    process: "subprocess.Popen[str]"
    said: str

    @property
    def port(self) -> int:
        return int(self.url.rstrip("/").rpartition(":")[2])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)


@contextmanager
def serving(at: Path, *words: str, env: Mapping[str, str] = {}) -> Iterator[Served]:
    """`tellapart serve WORDS… --port 0` in the folder `at`."""
    command, environment = process("serve", *words, "--port", "0")
    with _running(command, {**environment, **env}, at) as served:
        yield served


@contextmanager
def planted(
    model: Path,
    *,
    slow: float = 0,
    gate: Path | None = None,
    token: str = "",
    drain: tuple[float, float] = (30, 6),
    **limits: Any,
) -> Iterator[Served]:
    """A server with the decoder CHILD, a network that takes `slow` seconds more, or waits until there is a file at
    `gate`, other seconds for its end, and other limits.
    """
    asked = {"child": CHILD, "slow": slow, "gate": str(gate or ""), "token": token, "drain": drain, "limits": limits}
    command = [sys.executable, "-P", "-c", PLANTED, str(model), json.dumps(asked)]
    with _running(command, process()[1], model.parent) as served:
        yield served


@asynccontextmanager
async def inside(
    bundle: Bundle, *, child: str = "", token: str = "", pictures: Any = None, **values: Any
) -> AsyncIterator[Any]:
    """A client of a server without a socket, in this process; `values` are other bounds of decoding."""
    import httpx

    from tellapart.web.guard import Guard
    from tellapart.web.readers import Bounds
    from tellapart.web.site import Limits
    from tellapart.workflow.serve import Service

    if child:
        values["command"] = (sys.executable, "-P", "-c", child)
    bounds, device = Bounds(**{"processes": 1, **values}), torch.device("cpu")
    more = {"bounds": bounds, "limits": Limits(), "pictures": pictures}
    service = Service(bundle, "inside", device=device, guard=Guard(token=token), **more)
    service.start()
    batching = asyncio.create_task(service.batches.run())
    transport = httpx.ASGITransport(app=service.site)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as client:
        yield client
    batching.cancel()
    service.close()


@contextmanager
def _running(command: list[str], environment: Mapping[str, str], at: Path) -> Iterator[Served]:
    pipe = subprocess.PIPE
    child = subprocess.Popen(command, cwd=at, env={**environment}, stdout=pipe, stderr=pipe, text=True)
    assert child.stdout
    assert child.stderr
    try:
        said = child.stdout.readline()
        found = re.search(r"http://\S+", said)
        assert found, said + child.stderr.read()
        yield Served(found.group(), child, said)
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
        child.wait(30)
        child.stdout.close()
        child.stderr.close()


def drained(model: Path, requests: int, at: Path) -> dict[str, int]:
    """How many requests were under way when SIGTERM came, how many were answered though the network began only a
    second after no new client was taken any more, and how the server ended. `at`: an empty folder.
    """
    import httpx

    def closed() -> bool:
        try:
            served.connect().close()
        except OSError:
            return True
        return False

    with planted(model, gate=at / "open") as served, ThreadPoolExecutor(requests) as pool:
        url = f"{served.url}api/predict"
        every = [pool.submit(httpx.post, url, content=png(n), timeout=100) for n in range(requests)]
        under_way = f"requests_under_way {requests}\n"
        waited = wait_until(lambda: under_way in httpx.get(f"{served.url}metrics", timeout=60).text, seconds=100)
        served.process.send_signal(signal.SIGTERM)
        refused = wait_until(closed, seconds=20)
        time.sleep(1)  # one that ends at once has ended; one that waits does so for half a minute
        (at / "open").touch()
        answers = [one.result().status_code for one in every]
        ended = served.process.wait(60)
    answered = answers.count(200) * (waited and refused)
    return {"requests": requests, "answered": answered, "exit": ended}


def raw(served: Served, request: bytes, *, seconds: float = 10) -> bytes:
    """What comes back for the bytes of a request until the server closes, or nothing comes for a while."""
    with served.connect() as line:
        line.settimeout(seconds)
        found = b""
        try:
            line.sendall(request)
            while piece := line.recv(65536):
                found += piece
        except OSError:
            pass
        return found


def png(seed: int, *, side: int = 8, grey: bool = True) -> bytes:
    """A picture of noise, no two alike."""
    shape = (side, side) if grey else (side, side, 3)
    return file_of(Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8)))


def file_of(image: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@cache
def bombs(side: int = 30_000) -> dict[str, bytes]:
    """Small files that would become gigabytes, one for each format."""
    packed = zlib.compressobj(9)
    lines = b"".join(packed.compress(bytes(side * 8)) for _ in range(20)) + packed.flush()
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    jpeg = bytearray(file_of(Image.new("RGB", (16, 16)), "JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    bmp = bytearray(file_of(Image.new("L", (16, 16)), "BMP"))
    bmp[18:26] = struct.pack("<ii", side, side)
    tiff = bytearray(file_of(Image.new("L", (16, 16)), "TIFF"))
    _widened(tiff, side)
    return {
        "PNG": b"\x89PNG\r\n\x1a\n" + head + _chunk(b"IDAT", lines) + _chunk(b"IEND", b""),
        "JPEG": bytes(jpeg),
        "BMP": bytes(bmp),
        "WEBP": file_of(Image.new("RGB", (4100, 4000)), "WEBP", lossless=True, quality=0, method=0),
        "TIFF": bytes(tiff),
        "PPM": f"P5 {side} {side} 255\n".encode() + bytes(100),
        "one line": file_of(Image.new("L", (20_000, 1))),
    }


def _widened(tiff: bytearray, side: int) -> None:
    """Write another width and height (tags 256 and 257) into the first directory of a little-endian TIFF."""
    at = int.from_bytes(tiff[4:8], "little")
    for n in range(int.from_bytes(tiff[at : at + 2], "little")):
        entry = at + 2 + 12 * n
        if int.from_bytes(tiff[entry : entry + 2], "little") in (256, 257):
            tiff[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, side)


def memory(pid: int) -> int:
    """Bytes of a process and all below it (proportional set size, where the system says it)."""
    found = 0
    for one in (pid, *below(pid)):
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            continue
        found += 1024 * sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return found


def below(pid: int) -> list[int]:
    """The processes that a process has started."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        own = [int(one) for task in tasks for one in (task / "children").read_text().split()]
    except OSError:
        return []
    return [each for one in own for each in (one, *below(one))]


def needed(*names: str) -> None:
    """Skip, with the reason, where an optional library is missing."""
    for name in names:
        pytest.importorskip(name, reason=f"{name} is not installed")


def wait_until(true: Any, *, seconds: float = 10) -> bool:
    """Whether something became true in time."""
    end = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < end:
        time.sleep(0.02)
    return bool(found)
