"""Throughput and latency of `tellapart serve` with 1, 8 and 64 clients, beside the same network called in a loop.

    python benchmarks/serve.py MODEL PICTURES [--seconds 5] [--device cpu] [--json FILE]

MODEL is a run or a model file, PICTURES a folder. The bare loop decodes, prepares and judges the same files in one
process: one at a time, and in batches as large as the server's. Clients are one process that writes requests and reads
answers; server and clients share this machine.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line has it: before torch is loaded

import numpy as np
import torch

from tellapart.data.augment import network_input
from tellapart.data.decode import decode
from tellapart.data.square import fitted
from tellapart.evaluation.metrics import softmax
from tellapart.evaluation.predict import AT_ONCE
from tellapart.workflow import devices
from tellapart.workflow.models import find_model

CLIENTS = (1, 8, 64)


def bare(model: str, files: list[bytes], device: torch.device, batch: int, seconds: float) -> dict[str, Any]:
    """Pictures a second from bytes to probabilities, and seconds of each batch."""
    bundle, _ = find_model(Path("runs"), model)
    network = bundle.module(device).to(memory_format=torch.channels_last)
    taken, n, end = [], 0, time.monotonic() + seconds + 1
    while time.monotonic() < end:
        began = time.perf_counter()
        squares = np.stack([fitted(decode(files[(n + k) % len(files)]), bundle.preprocess) for k in range(batch)])
        with torch.inference_mode():
            logits = network(network_input(torch.from_numpy(squares).to(device), bundle.preprocess)).float().cpu()
        softmax(logits.numpy() / bundle.temperature)
        taken.append(time.perf_counter() - began)
        n += batch
    taken = taken[len(taken) // 6 :]  # the first ones warm up
    return {"batch": batch, "pictures_per_second": round(batch / float(np.mean(taken)), 1), **latency(taken)}


def latency(seconds: list[float]) -> dict[str, float]:
    """Median and the 99th percentile in milliseconds."""
    return {f"p{at}_ms": round(1000 * float(np.percentile(seconds, at)), 1) for at in (50, 99)}


async def client(port: int, files: list[bytes], first: int, end: float, taken: list[float]) -> None:
    """One client: a connection that is kept, a request as soon as the answer before is there."""
    reader, line = await asyncio.open_connection("127.0.0.1", port)
    head = "POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n\r\n"
    n = first
    while time.monotonic() < end:
        file = files[n % len(files)]
        began = time.perf_counter()
        line.write(head.format(len(file)).encode() + file)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"content-length: (\d+)", answer)
        assert answer.startswith(b"http/1.1 200"), answer
        assert length
        await reader.readexactly(int(length[1]))
        taken.append(time.perf_counter() - began)
        n += 1
    line.close()


async def asked(port: int, files: list[bytes], clients: int, seconds: float) -> dict[str, Any]:
    """So many clients at once."""
    taken: list[float] = []
    for span in (1.0, seconds):  # the first second warms up
        taken.clear()
        began = time.monotonic()
        await asyncio.gather(*(client(port, files, k, began + span, taken) for k in range(clients)))
        spent = time.monotonic() - began
    return {"clients": clients, "pictures_per_second": round(len(taken) / spent, 1), **latency(taken)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    files = [path.read_bytes() for path in sorted(given.pictures.rglob("*")) if path.is_file()][:200]
    device = devices.choose(given.device)
    size = find_model(Path("runs"), given.model)[0].preprocess.size
    most = max(1, min(64, AT_ONCE // size**2 if device.type == "cpu" else 64))
    loops = [bare(given.model, files, device, batch, given.seconds) for batch in (1, most)]
    command = [sys.executable, "-m", "tellapart", "serve", given.model, "--port", "0", "--device", given.device]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout
    port = int(server.stdout.readline().rpartition("/  (")[0].rpartition(":")[2])
    served = [asyncio.run(asked(port, files, clients, given.seconds)) for clients in CLIENTS]
    server.terminate()
    server.wait()
    for one in served:
        one["of_the_best_bare_loop"] = round(
            one["pictures_per_second"] / max(loop["pictures_per_second"] for loop in loops), 2
        )
    words = devices.words(device)
    result = {"device": words, "processors": os.cpu_count(), "pictures": len(files), "bare": loops, "served": served}
    print(json.dumps(result, indent=1))
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
