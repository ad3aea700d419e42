"""Serving: what a model answers over HTTP: pictures, where it looks, its golden samples, its card; and the page."""

import asyncio
import base64
import gc
import io
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import resources
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from starlette.responses import JSONResponse, Response

from tellapart.data.augment import network_input
from tellapart.data.decode import Pixels
from tellapart.data.pictures import Pictures
from tellapart.data.square import covered, fitted
from tellapart.evaluation.predict import AT_ONCE, calibrated
from tellapart.figures.heat import over, sized
from tellapart.memory import trim_memory
from tellapart.models.bundle import Bundle
from tellapart.shipping.card import card
from tellapart.web.batches import Batches, Square
from tellapart.web.counts import Counts
from tellapart.web.guard import Guard
from tellapart.web.readers import Bounds, Readers, Size
from tellapart.web.refusal import Refusal, busy
from tellapart.web.server import serve
from tellapart.web.site import Asked, Door, Limits, Site
from tellapart.workflow.looking import Eye, Heat, Subject, explain
from tellapart.workflow.nearest import nearest_of
from tellapart.workflow.serve_words import TOP, described, heat_entry

BATCH, WAITING, SIDE, NEAREST = 64, 4, 448, 6
"""Pictures that go through the network together; slow answers that may wait; a map's side; training pictures shown."""
POLITE = 10
"""By how much a slow answer gives way to the others."""
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/openapi.json": ("openapi.json", "application/json"),
}
Said = tuple[NDArray[np.float64], float]
"""Probabilities (K), and the largest logit."""


class Stopped(Exception):
    """Nobody waits for the answer any more."""


class Service:
    """A model and all that answers for it; with training pictures, also which of them are most like one that is sent.
    Nothing that comes in is written anywhere.
    """

    def __init__(
        self,
        bundle: Bundle,
        name: str,
        *,
        device: torch.device,
        guard: Guard,
        bounds: Bounds,
        limits: Limits,
        pictures: Pictures | None = None,
    ) -> None:
        self.bundle, self.name, self.device, self.limits, self.pictures = bundle, name, device, limits, pictures
        self.model, watched = (bundle.module(device).to(memory_format=torch.channels_last) for _ in range(2))
        for layer in watched.modules():
            layer.register_forward_pre_hook(lambda *_: self._go_on())  # a method would be copied with all that it is of
        self._eye = Eye(bundle=bundle, model=watched, device=device, progress=lambda *_: None)
        once = AT_ONCE // bundle.preprocess.size**2 if device.type == "cpu" else BATCH
        self.counts = Counts()
        self.readers = Readers(bounds, died=partial(self._count, "readers_died"))
        self.batches: Batches[Said] = Batches(
            self.said, most=max(1, min(BATCH, once)), coming=lambda: self.readers.under_way
        )
        self.site = Site(doors=self._doors(), guard=guard, counts=self.counts, limits=limits)
        self._alone, self._waiting, self._left = asyncio.Semaphore(1), 0, threading.Event()
        self._slow = ThreadPoolExecutor(1, thread_name_prefix="slow", initializer=_give_way)

    def _doors(self) -> Mapping[str, Door]:
        files = {path: Door(method="GET", answer=_file(*of), open=True) for path, of in FILES.items()}
        near = Door(method="POST", answer=self._nearest, body=True)
        return (
            files
            | ({"/api/nearest": near} if self.pictures else {})
            | {
                "/health": Door(method="GET", answer=self._health, open=True),
                "/metrics": Door(method="GET", answer=self._metrics),
                "/api/enter": Door(method="POST", answer=self._enter),
                "/api/model": Door(method="GET", answer=self._model),
                "/api/card": Door(method="GET", answer=self._card),
                "/api/golden": Door(method="GET", answer=self._golden, query=("n",)),
                "/api/predict": Door(method="POST", answer=self._predict, query=("top",), body=True),
                "/api/nearest": Door(method="POST", answer=self._nearest, body=True),
                "/api/heat": Door(method="POST", answer=self._heat, query=("class", "index"), body=True),
            }
        )

    def start(self) -> None:
        """Start what decodes, and let the network run once, so that the first client does not wait for it."""
        self.readers.start()
        size, channels = self.bundle.preprocess.size, self.bundle.preprocess.channels
        for count in (1, self.batches.most):
            self.said([np.zeros((size, size, channels), np.uint8)] * count)
        if self.pictures:
            self._alike(Subject(name="picture", pixels=np.zeros((size, size, channels), np.uint8)))

    async def run(self, here: socket.socket) -> int:
        """Answer on a socket until a signal comes; which one."""
        batching = asyncio.create_task(self.batches.run())
        gc.freeze()  # what is there stays: to look through it all again and again held every client up, 0.1 s each time
        try:
            return await serve(self.site, here, self.site.refuse)
        finally:
            gc.unfreeze()  # or libraries complain, at the end, of what was never freed
            batching.cancel()
            self.close()

    def close(self) -> None:
        """End the children and the threads."""
        self._left.set()
        self.readers.close()
        self.batches.close()
        self._slow.shutdown(cancel_futures=True)

    def said(self, squares: Sequence[Square]) -> list[Said]:
        """What the network says of each of some squares (S S C)."""
        batch = torch.from_numpy(np.stack(squares)).to(self.device)
        with torch.inference_mode():
            logits = self.model(network_input(batch, self.bundle.preprocess)).float().cpu().numpy().astype(np.float64)
        return list(zip(calibrated(self.bundle, logits), logits.max(1).tolist(), strict=True))

    async def _predict(self, asked: Asked) -> Response:
        top = _number(asked.query.get("top", "5"), 1, TOP, "top")
        try:
            read = self.readers.read(asked.body, lambda pixels, size: (size, fitted(pixels, self.bundle.preprocess)))
            (width, height), square = await read
        finally:
            self.batches.look()
        shares, score = await self.batches.ask(square)
        if not np.isfinite(shares).all():
            raise Refusal(422, "no_number", "The network's answer for this picture is not a finite number.")
        return JSONResponse(self._answer(shares, score, top) | {"width": width, "height": height})

    def _answer(self, shares: NDArray[np.float64], score: float, top: int) -> dict[str, Any]:
        """The answer; where a picture may have several classes, all that are said stand in `said`, not in `answer`."""
        bundle, sure = self.bundle, float(shares.max())
        unknown = bundle.known is not None and score < bundle.known
        held = [precision for precision, least in bundle.promises.items() if sure >= least and not unknown]
        best, least = np.argsort(-shares, kind="stable").tolist(), bundle.thresholds
        return {
            "answer": None if unknown or least else bundle.classes[best[0]],
            "unknown": unknown,
            "promise": max(held, default=None),
            "top": [{"class": bundle.classes[k], "index": k, "probability": float(shares[k])} for k in best[:top]],
            "score": score,
            **({"said": [bundle.classes[k] for k in best if shares[k] >= least[k]]} if least else {}),
        }

    async def _heat(self, asked: Asked) -> Response:
        return JSONResponse(await self._slowly(asked.body, partial(self._looked, self._wanted(asked.query))))

    def _wanted(self, query: Mapping[str, str]) -> str:
        """The class that is asked for, by its name, or by its number where a name is too long for an address."""
        classes, wanted = self.bundle.classes, query.get("class", "")
        if "index" in query:
            if wanted:
                raise Refusal(400, "wrong_query", "class and index say the same: give one of them.")
            return classes[_number(query["index"], 0, len(classes) - 1, "index")]
        if wanted and wanted not in classes:
            raise Refusal(422, "unknown_class", "The model does not know this class.", "GET /api/model lists them.")
        return wanted

    async def _nearest(self, asked: Asked) -> Response:
        if self.pictures is None:
            raise Refusal(
                404, "not_offered", "This server does not show training pictures.", "Start it with --nearest."
            )
        return JSONResponse(await self._slowly(asked.body, self._alike))

    async def _slowly(self, body: bytes | memoryview, work: Callable[[Subject], Any]) -> Any:
        """What takes long, one after the other; it ends where nobody waits for it any more."""
        if self._waiting >= WAITING:
            raise busy("Several slow answers are waited for already.")
        self._waiting, left = self._waiting + 1, threading.Event()
        try:
            async with self._alone:
                one = await self.readers.read(body, self._subject)
                async with self.readers.turn:  # it takes as much memory as a large picture does
                    return await asyncio.get_running_loop().run_in_executor(self._slow, self._worked, work, one, left)
        finally:
            self._waiting -= 1
            left.set()

    def _subject(self, pixels: Pixels, size: Size) -> Subject:
        """What is kept of a picture: its square, and itself as small as it is drawn."""
        return Subject(name="picture", pixels=sized(pixels, SIDE), square=fitted(pixels, self.bundle.preprocess))

    def _worked(self, work: Callable[[Subject], Any], subject: Subject, left: threading.Event) -> Any:
        self._left = left
        try:
            return work(subject)
        finally:
            trim_memory()

    def _go_on(self) -> None:
        """Before each layer of the network that is looked into: not the one that answers meanwhile. Raises Stopped."""
        if self._left.is_set():
            raise Stopped

    def _alike(self, subject: Subject) -> dict[str, Any]:
        assert self.pictures  # noqa: S101 - else there is no door to here
        (near,), among = nearest_of(self._eye, [subject], self.pictures, NEAREST)
        found = [{"class": n.name, "distance": n.distance, "picture": _png(sized(n.square))} for n in near]
        return {"nearest": found, "among": among}

    def _looked(self, wanted: str, subject: Subject) -> dict[str, Any]:
        (seen,), way = explain(self._eye, [subject], wanted=wanted)
        return heat_entry(seen.heats[0], way.method) | {"picture": self._drawn(seen.heats[0], subject.pixels)}

    def _drawn(self, heat: Heat, pixels: Pixels) -> str:
        """The heat over the picture, as a data address."""
        box = covered(pixels.shape[1], pixels.shape[0], self.bundle.preprocess)
        return _png(over(pixels, *heat.drawn(), box, side=SIDE))

    async def _model(self, asked: Asked) -> Response:
        return JSONResponse(described(self.bundle, self.name, self.limits) | {"nearest": self.pictures is not None})

    async def _card(self, asked: Asked) -> Response:
        return Response(card(self.bundle, self.name), media_type="text/markdown; charset=utf-8")

    async def _golden(self, asked: Asked) -> Response:
        goldens = self.bundle.goldens
        n = _number(asked.query.get("n", "0"), 0, max(0, len(goldens) - 1), "n")
        if not goldens or not goldens[n].file.startswith(b"\x89PNG\r\n"):
            raise Refusal(404, "not_found", "The model carries no such sample.", "GET /api/model lists them.")
        return Response(goldens[n].file, media_type="image/png")

    async def _enter(self, asked: Asked) -> Response:
        return Response(status_code=204, headers={"set-cookie": self.site.guard.cookie(asked.request)})

    async def _health(self, asked: Asked) -> Response:
        return JSONResponse({"status": "ok"})

    async def _metrics(self, asked: Asked) -> Response:
        gauges = {
            "requests_under_way": len(self.site.under_way),
            "pictures_answered_total": self.batches.answered,
            "batches_total": self.batches.batches,
            "slow_answers_waiting": self._waiting,
            "start_time_seconds": self.counts.began,
        }
        return Response(self.counts.text(gauges), media_type="text/plain; version=0.0.4; charset=utf-8")

    def _count(self, name: str) -> None:
        self.counts.named[name] += 1


def _png(pixels: Pixels) -> str:
    """A picture as a data address."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _number(text: str, low: int, high: int, name: str) -> int:
    """A whole number of the query. Raises Refusal for anything else."""
    if not (text.isascii() and text.isdecimal() and len(text) < 8 and low <= int(text) <= high):
        raise Refusal(400, "wrong_query", f"{name} must be a whole number from {low} to {high}.")
    return int(text)


def _file(name: str, kind: str) -> Any:
    """The answer with a file of the page, which is read once."""
    body = resources.files("tellapart.web").joinpath("page", name).read_bytes()

    async def answer(asked: Asked) -> Response:
        return Response(body, media_type=kind)

    return answer


def _give_way() -> None:
    """On Linux a thread has a priority of its own."""
    if sys.platform == "linux":
        os.nice(POLITE)
