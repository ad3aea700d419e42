"""Attack a server of `tellapart serve` as a stranger would, and say what it cost whom.

    python scripts/prove/serve.py [--seconds 6] [--json FILE]

A healthy client asks for one small picture after the other. Before and during each attack its latency is measured, and
the memory of the server with all its children. The attackers give way to the server, as if they were elsewhere: what
they take of this machine's processor is not the server's doing. Then 1,000 pictures of 32 clients are answered and
compared with the answers each gets alone, 60 requests are under way when SIGTERM comes and their network begins only
then, and schemathesis asks what the description allows and what it does not (but for two of its checks: bytes that
are no picture are allowed by the description and refused). Exits 1 when a promise does not hold: memory at most 300 MB
above idle; the healthy client's p99 at most twice that before (not where more clients than there are places come back
at once: the flood and the storm); the parent never started again; no answer mixed, none lost; the end within 30 s.
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from planted import encoded, mutants, natural  # pyright: ignore[reportMissingImports]
from served import Served, bombs, drained, memory, planted, png, serving  # pyright: ignore[reportMissingImports]
from watched import Watch, large_png  # pyright: ignore[reportMissingImports]

FORK = multiprocessing.get_context("fork")
"""Attackers are forked, so that nothing of their start is measured."""
PAUSE, GROWTH, WORSE, END = 0.03, 300e6, 2.0, 30
POST = b"POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
TIMES = 3
"""How often quiet and attack follow each other: the machine may have other work meanwhile, so medians are compared."""
WHOLE = "bombs", "broken", "large", "paths", "flood", "heat"
"""Attacks that ask whole requests, of which some have to be answered, or they have shown nothing."""
GOOD = "large", "flood", "heat"
"""Attacks whose pictures are as they should be, so that some have to be answered with 200."""
MANY, LEAST = ("flood", "storm"), 0.1
"""More clients than there are places, who come back at once: what is promised then is that this share of the healthy
client's requests still gets an answer."""


# --- attackers, each in a process of its own --------------------------------------------------------------------------


async def opened(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def dripping(port: int, head: bytes, drop: bytes) -> None:
    """A request that never ends, a few bytes a second."""
    while True:
        try:
            _, line = await opened(port)
            line.write(head)
            while True:
                line.write(drop)
                await line.drain()
                await asyncio.sleep(0.5)
        except OSError:
            await asyncio.sleep(0.1)


async def asking(port: int, bodies: list[bytes], pause: float, what: str = "predict") -> None:
    """Whole requests, one after the other."""
    async with httpx.AsyncClient(timeout=60) as client:
        for n in range(10**9):
            with contextlib.suppress(httpx.HTTPError):
                await client.post(f"http://127.0.0.1:{port}/api/{what}", content=bodies[n % len(bodies)])
            await asyncio.sleep(pause)


async def pouring(port: int, bodies: list[bytes]) -> None:
    """Whole requests without a pause, on one connection; with as little work of its own as may be."""
    while True:
        try:
            reader, line = await opened(port)
            for n in range(10**9):
                line.write(
                    POST + f"Content-Length: {len(bodies[n % len(bodies)])}\r\n\r\n".encode() + bodies[n % len(bodies)]
                )
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError, ValueError):
            await asyncio.sleep(0.05)


async def lying(port: int, requests: list[bytes]) -> None:
    """Requests that are not what they say; the answer is not waited for longer than a second."""
    for n in range(10**9):
        try:
            reader, line = await opened(port)
            line.write(requests[n % len(requests)])
            await asyncio.wait_for(reader.read(400), 1)
            line.close()
        except (OSError, TimeoutError):
            pass
        await asyncio.sleep(0.02)


async def idle(port: int) -> None:
    """Connections that are opened and left."""
    kept: list[Any] = []
    while True:
        try:
            kept.append(await opened(port))
            if len(kept) > 600:
                kept.pop(0)[1].close()
        except OSError:
            pass
        await asyncio.sleep(0.005)


async def leaving(port: int) -> None:
    """Good pictures whose client is gone before the answer."""
    picture = png(1)
    while True:
        _, line = await opened(port)
        line.write(POST + f"Content-Length: {len(picture)}\r\n\r\n".encode() + picture)
        await asyncio.sleep(0.02)
        line.close()


async def wandering(port: int) -> None:
    """Paths, hosts and origins that are none of the server's."""
    chance = random.Random(0)
    pieces = ["..", "%2e%2e", "%252e", "/", "%2f", "\\", "etc/passwd", "api", "page.js", "%00", "~", "file:", "//", "é"]
    async with httpx.AsyncClient(timeout=30) as client:
        for _ in range(10**9):
            path = "/" + "".join(chance.choices(pieces, k=chance.randint(1, 6)))
            host = chance.choice(["127.0.0.1", "evil.example", "127.0.0.1.evil.example", "localhost:1@x", "[::2]"])
            with contextlib.suppress(httpx.HTTPError, httpx.InvalidURL, UnicodeError):
                await client.get(f"http://127.0.0.1:{port}{path}", headers={"host": host, "range": "bytes=0-,0-,0-"})
            await asyncio.sleep(0.01)


@cache
def broken() -> list[bytes]:
    """Files of six formats that are cut, changed or mixed."""
    return [raw for _, raw in mutants(400)]


def attacks(port: int) -> dict[str, list[Any]]:
    """What each attack does at once."""
    chunk = b"4000\r\n" + bytes(0x4000) + b"\r\n"
    lies = [
        POST + b"Content-Length: 99999999999\r\n\r\n" + bytes(1000),
        POST + b"Content-Length: 10\r\n\r\nabc",
        POST + b"Content-Length: -1\r\n\r\nabc",
        POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 60,
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 60_000 + b"\r\n\r\n",
        os.urandom(4000),
    ]
    fuzz, large, some = broken(), [large_png()], [png(n) for n in range(50)]
    longer, bomb = [large_png() + bytes(20_000_000)], list(bombs().values())
    return {
        "bombs of six formats": [lambda: asking(port, bomb, 0.01) for _ in range(4)],
        "slow heads (300)": [lambda: dripping(port, b"GET / HTTP/1.1\r\n", b"X: y\r\n") for _ in range(300)],
        "slow bodies (200)": [
            lambda: dripping(port, POST + b"Content-Length: 1900000\r\n\r\n" + bytes(200_000), b"0") for _ in range(200)
        ],
        "storm of slow bodies (600)": [
            lambda: dripping(port, POST + b"Content-Length: 1900000\r\n\r\n" + bytes(200_000), b"0") for _ in range(600)
        ],
        "heat maps (2)": [lambda: asking(port, some, 0.05, "heat") for _ in range(2)],
        "idle connections (3 x 600)": [lambda: idle(port) for _ in range(3)],
        "lies about length, and no HTTP": [lambda: lying(port, lies) for _ in range(4)],
        "broken pictures (400 kinds)": [lambda: asking(port, fuzz, 0.02) for _ in range(2)],
        "large honest pictures": [lambda: asking(port, large, 0.2) for _ in range(4)],
        "bodies of 36 MB": [lambda: asking(port, longer, 0.2) for _ in range(4)],
        "clients that leave (4)": [lambda: leaving(port) for _ in range(4)],
        "paths, hosts and origins": [lambda: wandering(port) for _ in range(3)],
        "decoders that hang or die": [lambda: asking(port, [png(1) + b"HANG", png(2) + b"CRASH"], 0.2)],
        "flood (200 clients)": [lambda: pouring(port, some) for _ in range(200)],
    }


def attack(name: str, port: int) -> None:
    """Attack until killed."""
    os.nice(5)

    async def work() -> None:
        await asyncio.gather(*(one() for one in attacks(port)[name]))

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    asyncio.run(work())


# --- measuring --------------------------------------------------------------------------------------------------------


def healthy(client: httpx.Client, seconds: float) -> tuple[list[float], int]:
    """Seconds of each answer, and how many were refused."""
    picture, found, refused, end = png(7), [], 0, time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        try:
            status = client.post("/api/predict", content=picture).status_code
        except httpx.HTTPError:
            status = 0
        found.append(time.perf_counter() - began)
        refused += status != 200
        time.sleep(PAUSE)
    return found, refused


def requests(client: httpx.Client) -> np.ndarray:
    """How many requests the server has answered, and how many of them with 200."""
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith("tellapart_requests_total{")]
    return np.array([sum(int(one.split()[-1]) for one in lines if has in one) for has in ("", 'status="200"')])


def under(name: str, served: Served, seconds: float) -> dict[str, Any]:
    """Quiet and attack by turns."""
    quiet, loud, warm, refused, children = (
        [],
        [],
        0,
        0,
        {one.pid for one in psutil.Process(served.process.pid).children()},
    )
    with httpx.Client(base_url=served.url, timeout=60) as client:
        healthy(client, 1)
        before = requests(client)
        watch = Watch(served.process.pid)
        for _ in range(TIMES):
            quiet.append(healthy(client, seconds)[0])
            attacker = FORK.Process(target=attack, args=(name, served.port), daemon=True)
            attacker.start()
            warm += len(healthy(client, 1.5)[0])  # the attacker gets ready
            more = healthy(client, seconds)
            loud, refused = [*loud, more[0]], refused + more[1]
            attacker.kill()
            attacker.join()
            time.sleep(0.5)
        most, asked = watch.end(), requests(client) - before - sum(map(len, quiet + loud)) - warm
    after = {one.pid for one in psutil.Process(served.process.pid).children()}
    return {
        "p50_ms": [_ms(quiet, 50), _ms(loud, 50)],
        "p99_ms": [_ms(quiet, 99), _ms(loud, 99)],
        "p99_ms_of_all": [_ms([[*chain(*several)]], 99) for several in (quiet, loud)],
        "answers": [sum(map(len, quiet)), sum(map(len, loud))],
        "refused": refused,
        "requests_of_attackers": int(asked[0]),
        "of_them_answered": int(asked[1]),
        "memory_mb": round(most / 1e6),
        "children_started_again": len(after - children),
        "parent_alive": served.process.poll() is None,
    }


def _ms(slices: list[list[float]], at: float) -> float:
    """The median over the slices of a percentile, in milliseconds."""
    return round(1000 * float(np.median([np.percentile(one, at) for one in slices])), 1)


def tagged(served: Served, count: int = 1000, clients: int = 32) -> dict[str, Any]:
    """Every picture alone, then all by many clients at once."""
    files = [png(n) for n in range(count)]
    with httpx.Client(base_url=served.url, timeout=60, limits=httpx.Limits(max_connections=clients)) as client:

        def shares(file: bytes) -> list[float]:
            top = client.post("/api/predict?top=100", content=file).json()["top"]
            return [one["probability"] for one in sorted(top, key=lambda one: one["index"])]

        alone = np.array([shares(file) for file in files])
        with ThreadPoolExecutor(clients) as pool:
            together = np.array(list(pool.map(shares, files)))
    nearest = np.abs(together[:, None] - alone[None]).max(-1).argmin(1)
    return {"pictures": count, "clients": clients, "mixed": int((nearest != np.arange(count)).sum()),
            "largest_difference": float(np.abs(alone - together).max())}  # fmt: skip


def described(served: Served) -> dict[str, Any]:
    """schemathesis: what the description allows, and what it does not."""
    program = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    if program is None:
        return {"passed": False, "said": "schemathesis is not installed"}
    words = ["run", f"{served.url}openapi.json", "--checks", "all", "--max-examples", "60", "--seed", "1"]
    words += ["--exclude-checks", "positive_data_acceptance,negative_data_rejection", "--request-timeout", "60"]
    done = subprocess.run([program, *words, "--no-color"], capture_output=True, text=True, cwd=tempfile.gettempdir())
    return {"passed": done.returncode == 0, "said": done.stdout.strip().splitlines()[-14:]}


def wide(at: Path) -> dict[str, Any]:
    """What a network for 224 pixels costs: its memory when it answers, and when it draws heat maps; and its end."""
    photos = [encoded(natural(n, width=500, height=375), "JPEG") for n in range(96)]
    with serving(at, "wide") as served, httpx.Client(base_url=served.url, timeout=120) as client:
        client.post("/api/predict", content=photos[0])
        time.sleep(1)
        idle, watch = memory(served.process.pid), Watch(served.process.pid)
        with ThreadPoolExecutor(32) as pool:
            answers = [
                one.status_code for one in pool.map(lambda one: client.post("/api/predict", content=one), photos)
            ]
        after = watch.most
        began = time.monotonic()
        maps = [client.post("/api/heat", content=photo).status_code for photo in photos[:2]]
        seconds, alone = (time.monotonic() - began) / len(maps), watch.most
        with ThreadPoolExecutor(4) as pool:
            doors = ["/api/heat", *["/api/predict"] * 3]
            large = [pool.submit(client.post, door, content=large_png()) for door in doors]
        heavy = watch.most
        with ThreadPoolExecutor(1) as pool:
            last = pool.submit(client.post, "/api/heat", content=photos[2])
            time.sleep(seconds / 3)
            most, began = watch.end(), time.monotonic()
            served.process.send_signal(signal.SIGTERM)
            ended = served.process.wait(4 * END)
            return {
                "idle_mb": round(idle / 1e6),
                "growth_mb": {
                    "96 photos": round((after - idle) / 1e6),
                    "and heat maps": round((alone - idle) / 1e6),
                    "and one of a large picture beside three large ones": round((max(most, heavy) - idle) / 1e6),
                },
                "answered": answers.count(200),
                "large": [one.result().status_code for one in large],
                "heat_maps": maps,
                "seconds_of_a_map": round(seconds, 1),
                "sigterm": {
                    "heat_map": last.result().status_code,
                    "exit": ended,
                    "seconds": round(time.monotonic() - began, 1),
                },
            }


def wrong(result: dict[str, Any]) -> list[str]:
    """The promises that do not hold."""
    found = []
    for name, one in result["attacks"].items():
        before, during = one["p99_ms"]
        if one["memory_mb"] * 1e6 > result["idle_mb"] * 1e6 + GROWTH:
            found.append(f"{name}: memory {one['memory_mb']} MB, idle {result['idle_mb']} MB")
        if one["answers"][1] < LEAST * one["answers"][0]:
            found.append(f"{name}: the healthy client got {one['answers'][1]} answers, before {one['answers'][0]}")
        if not name.startswith(MANY) and (during > WORSE * before or one["refused"]):
            found.append(f"{name}: p99 {during} ms, before {before} ms, {one['refused']} refused")
        if name.startswith(WHOLE) and one["requests_of_attackers"] < TIMES:
            found.append(f"{name}: the attackers got no request through, so nothing is shown")
        if name.startswith(GOOD) and one["of_them_answered"] < TIMES:
            found.append(f"{name}: no good picture of the attackers was answered")
        if name.startswith("decoders") and not one["children_started_again"]:
            found.append(f"{name}: no decoder was lost, so nothing is shown")
        if not one["parent_alive"]:
            found.append(f"{name}: the server has ended")
    found += [f"mixed: {result['tagged']}"] * (result["tagged"]["mixed"] > 0)
    drained = result["drained"]
    found += [f"drained: {drained}"] * (drained["answered"] < drained["requests"] or drained["exit"] != 0)
    large = result["wide"]
    if max(large["growth_mb"].values()) * 1e6 > GROWTH or large["answered"] < 96 or set(large["heat_maps"]) != {200}:
        found.append(f"224 pixels: {large}")
    end = large["sigterm"]
    if end["heat_map"] != 200 or end["exit"] != 0 or end["seconds"] > END:
        found.append(f"224 pixels, SIGTERM during a heat map: {end}")
    return found + [f"schemathesis: {result['described']['said']}"] * (not result["described"]["passed"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="", help="Attacks whose name holds this.")
    asked = parser.parse_args()
    with contextlib.suppress(PermissionError):  # other work of this machine is not what is measured
        os.nice(-5)
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        trained(at, "a", "--epochs", "3")
        trained(at, "wide", "--epochs", "1", "--limit", "90", "--model", "mobilenet_v2", "--set", "input.size=224")
        result = proved(at, asked.seconds, asked.only)
    result["wrong"] = wrong(result)
    print(json.dumps(result, indent=1))
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 1 if result["wrong"] else 0


def trained(at: Path, name: str, *words: str) -> None:
    command = [sys.executable, "-m", "tellapart", "train", "digits", "--run", name, "--set", "machine.device=cpu"]
    subprocess.run([*command, *words], cwd=at, check=True, capture_output=True)


def proved(at: Path, seconds: float, only: str) -> dict[str, Any]:
    """All of it, on the model in a folder."""
    model = at / "runs" / "a" / "model.safetensors"
    result: dict[str, Any] = {
        "date": datetime.now().date().isoformat(),
        "machine": f"{os.cpu_count()} processors, {platform.machine()}, Python {platform.python_version()}",
        "healthy": f"a picture of 8 x 8 every {1000 * PAUSE:g} ms; quiet and attack {TIMES} times by turns",
        "attacks": {},
    }
    with serving(at, "a") as served, httpx.Client(base_url=served.url) as client:
        healthy(client, 2)
        time.sleep(1)
        result["idle_mb"] = round(memory(served.process.pid) / 1e6)
        for name in [one for one in attacks(0) if only in one and "hang" not in one]:
            result["attacks"][name] = under(name, served, seconds)
            print(name, result["attacks"][name], file=sys.stderr, flush=True)
        ours = {one.laddr.port for one in psutil.Process(served.process.pid).net_connections() if one.raddr}
        result["ports_it_spoke_from"] = "only its own" if ours <= {served.port} else sorted(ours)
        result["tagged"] = tagged(served)
        result["described"] = described(served)
        result["memory_in_the_end_mb"] = round(memory(served.process.pid) / 1e6)
    result["wide"] = wide(at)
    print("wide", result["wide"], file=sys.stderr, flush=True)
    with planted(model) as served:
        name = "decoders that hang or die"
        if only in name:
            result["attacks"][name] = under(name, served, seconds)
    with tempfile.TemporaryDirectory() as gate:
        result["drained"] = drained(model, 60, Path(gate))
    return result


if __name__ == "__main__":
    sys.exit(main())
