"""Look at what TensorBoard shows of a log folder: every panel must have data, and is photographed, one PNG each.

    python scripts/look_board.py LOGDIR OUTPUT_FOLDER [PANEL ...]

Exit code 0: every panel has data and a picture. 2: chromium or tensorboard is missing. 1: a panel has no data, or the
server or a picture failed; each is named. The data are asked for as the page asks for them.
"""

import argparse
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from chromium import browsing, installed

PATIENCE = 15
"""Seconds until a panel must have its data: the server reads the files while it serves."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Look at what TensorBoard shows of a log folder, panel by panel.")
    parser.add_argument("logdir", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("panels", nargs="*", metavar="PANEL", help=f"of {', '.join(PANELS)} (all)")
    options = parser.parse_args()
    if unknown := set(options.panels) - set(PANELS):
        parser.error(f"no panel: {', '.join(sorted(unknown))}")
    program = installed()
    if program is None or find_spec("tensorboard") is None:
        print("needs chromium (Debian: apt-get install -y chromium) and tensorboard (pip install tensorboard)")
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    names, every = options.panels or list(PANELS), []
    with serving(options.logdir) as url, browsing(program) as browser:
        every += [has_data(url, name) for name in names]
        for view, words in ((view, words) for name in names for view, words in VIEWS[name].items()):
            file = options.output / f"{view.replace('&tagFilter=', '-')}.png"
            lacking = browser.photographed(f"{url}/#{view}", words, file)
            print(f"{file}{f': THE PAGE LACKS {lacking}' if lacking else ''}")
            every.append(not lacking)
    return 0 if all([*every, options.panels or traced(options.logdir)]) else 1


def has_data(url: str, name: str) -> bool:
    """Whether a panel has data; says what it has, or what it lacks."""
    end, found, problem = time.monotonic() + PATIENCE, "", "nothing in it"
    while not found and time.monotonic() < end:
        try:
            found = PANELS[name](partial(ask, url, name))
        except (OSError, KeyError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"
        time.sleep(0 if found else 0.5)
    print(f"{name}: {found}" if found else f"{name}: NO DATA ({problem})")
    return bool(found)


Ask = Callable[..., Any]
"""Gets a route of the panel's plugin: JSON as what it says, else bytes."""


def ask(url: str, plugin: str, route: str, *, post: object = None, **query: str) -> Any:
    address = f"{url}/data/plugin/{plugin}/{route}?{urlencode(query)}"
    sent, kind = (None, {}) if post is None else (json.dumps(post).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(urllib.request.Request(address, sent, kind), timeout=20) as answer:
        raw = answer.read()
        return json.loads(raw) if "json" in answer.headers["Content-Type"] else raw


def series(route: str, get: Ask) -> str:
    """A panel of tags: there are some, and behind each of them are values."""
    tags = [(run, tag) for run, found in get("tags").items() for tag in found]
    for run, tag in tags:
        if not get(route, run=run, tag=tag):
            raise ValueError(f"no values for {tag} of {run}")
    return f"{len(tags)} tags, each with values" if tags else ""


def images(get: Ask) -> str:
    """Every picture of the panel is one."""
    tags, count = [(run, tag) for run, found in get("tags").items() for tag in found], 0
    for run, tag in tags:
        for one in get("images", run=run, tag=tag):
            count += get(f"individualImage?{one['query']}&").startswith(b"\x89PNG")
    return f"{len(tags)} tags, {count} pictures" if count else ""


def curves(get: Ask) -> str:
    """Precision and recall of every class are numbers from 0 to 1, and start with a recall of 1."""
    tags = [(run, tag) for run, found in get("tags").items() for tag in found]
    for run, tag in tags:
        for one in get("pr_curves", run=run, tag=tag)[run]:
            if one["recall"][0] != 1 or not all(0 <= value <= 1 for value in one["precision"]):
                raise ValueError(f"{tag} of {run} is no curve")
    return f"{len(tags)} curves" if tags else ""


def graphs(get: Ask) -> str:
    runs = [run for run, found in get("info").items() if found.get("run_graph")]
    nodes = [get("graph", run=run).count(b"node {") for run in runs]
    return f"{len(runs)} graphs, of {min(nodes)} nodes or more" if runs and min(nodes) else ""


def hparams(get: Ask) -> str:
    """Every run has settings and results."""
    known = get("experiment", post={"includeMetrics": True})
    columns = [{"hparam": one["name"], "includeInResult": True} for one in known["hparamInfos"]]
    wanted = {"allowedStatuses": ["STATUS_SUCCESS"], "colParams": columns, "startIndex": 0, "sliceSize": 1000}
    groups = get("session_groups", post=wanted)["sessionGroups"]
    settings, results = (min((len(one[of]) for one in groups), default=0) for of in ("hparams", "metricValues"))
    judged = all(any(v["name"]["tag"].startswith("best_model/") for v in one["metricValues"]) for one in groups)
    return f"{len(groups)} runs, of {settings} settings and {results} metrics or more" if settings and judged else ""


def projector(get: Ask) -> str:
    """Points, their names and their thumbnails."""
    runs, points = get("runs"), 0
    for run in runs:
        (one,) = get("info", run=run)["embeddings"]
        points += len(get("tensor", run=run, name=one["tensorName"])) // 4 // one["tensorShape"][1]
        if b"class\tpicture" not in get("metadata", run=run, name=one["tensorName"]):
            raise ValueError(f"no names for {run}")
        if not get("sprite_image", run=run, name=one["tensorName"]).startswith(b"\x89PNG"):
            raise ValueError(f"no thumbnails for {run}")
    return f"{len(runs)} runs, {points} points with names and thumbnails" if points else ""


def timeseries(get: Ask) -> str:
    """Scalars, histograms and pictures."""
    found = {name: kind.get("runTagInfo") or kind.get("tagRunSampledInfo") for name, kind in get("tags").items()}
    return ", ".join(found) if all(found.values()) else ""


PANELS: dict[str, Callable[[Ask], str]] = {
    "timeseries": timeseries,
    "scalars": partial(series, "scalars"),
    "images": images,
    "graphs": graphs,
    "distributions": partial(series, "distributions"),
    "histograms": partial(series, "histograms"),
    "text": partial(series, "text"),
    "pr_curves": curves,
    "hparams": hparams,
    "projector": projector,
}
"""The panels by their names in the page's address, each with what looks at its data."""
VIEWS: dict[str, dict[str, tuple[str, ...]]] = {
    "timeseries": {"timeseries": ("best_model/confusion_matrix", "cards")},
    "scalars": {"scalars": ("best_model/validation_accuracy", "epoch/val_accuracy")},
    "images": {
        "images": ("best_model/confusion_matrix", "data/augmented_batch"),
        "images&tagFilter=best_model": ("best_model/confusion_matrix", "best_model/mistakes"),
        "images&tagFilter=inside": ("inside/kernels_of", "inside/maps_of"),
    },
    "graphs": {"graphs": ("Main Graph", "input", "output")},
    "distributions": {"distributions": ("gradients/", "weights/")},
    "histograms": {"histograms": ("gradients/", "weights/")},
    "text": {"text": ("This command made the run", "[optim]"), "text&tagFilter=story": ("95 % interval", "n = ")},
    "pr_curves": {"pr_curves": ("classes/", "is at step")},
    "hparams": {"hparams": ("train.epochs", "best_model/", "tensorboard")},
    "projector": {"projector": ("Points: ", "Dimension: ", "Total variance described")},
}
"""What is photographed of each panel, and the words that must stand there; an empty panel has none of them."""


def traced(logdir: Path) -> bool:
    """The profiler's trace has steps. No panel shows it: TensorBoard's plugin for it is no longer kept up."""
    files = sorted(logdir.rglob("*.pt.trace.json"))
    steps = [file.read_text().count('"ProfilerStep#') for file in files]
    print(f"profiler: {files[0]}, for ui.perfetto.dev (no plugin shows it)" if files else "profiler: NO DATA")
    return bool(files) and min(steps) > 0


@contextmanager
def serving(logdir: Path) -> Iterator[str]:
    """TensorBoard on a free loopback port, its data loaded; stopped on the way out."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--host", "127.0.0.1"]
    server = subprocess.Popen([*words, "--port", str(port)], stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for_data(f"{url}/data/runs", server)
        yield url
    finally:
        server.terminate()
        server.wait()


def wait_for_data(address: str, server: "subprocess.Popen[bytes]", *, seconds: float = 60) -> None:
    """Return when a run is listed: an empty list only means that the folder is still being read."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            if urllib.request.urlopen(address, timeout=5).read().strip() not in (b"", b"[]"):
                return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.3)
    raise SystemExit(f"TensorBoard listed no run at {address}")


if __name__ == "__main__":
    sys.exit(main())
