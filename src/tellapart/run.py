"""Run: one training, on disk: a folder that holds its whole story. No torch here."""

import contextlib
import json
import os
import platform
import re
import shlex
import socket
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from tellapart.errors import StorageError, UsageError, did_you_mean
from tellapart.files import alone, cannot_write, read_text, writable, write_atomically

RUNS = Path("runs")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
MEMBERS = "members.json"
"""Stands in a folder of several trainings of one recipe, whose run folders lie in it."""
VARIABLES = "torchrun and --processes set these variables by themselves; for one process: unset WORLD_SIZE."
PACKAGES = ("tellapart", "torch", "torchvision", "timm", "numpy", "pillow", "simplejpeg", "safetensors")


def fresh_name(about: str) -> str:
    """A name that sorts by time: 20261121-140301-digits-small."""
    words = re.sub(r"[^A-Za-z0-9]+", "-", about).strip("-")[:40]
    return f"{datetime.now():%Y%m%d-%H%M%S}-{words}"


@dataclass(frozen=True)
class Run:
    """One run folder. Paths are absolute."""

    folder: Path

    @classmethod
    def create(cls, runs: Path, name: str, *, about: str = "", source: str = "") -> "Run":
        """A new, empty run folder, outside `source`; an existing one stays. Raises UsageError or StorageError."""
        if name and not NAME.fullmatch(name):
            raise UsageError(f"'{name}' cannot be the name of a run.", "Use letters, digits, '.', '_', '+' and '-'.")
        folder = runs.absolute() / (name or fresh_name(about))
        if source and Path(source).expanduser().resolve() in folder.resolve().parents:
            elsewhere = os.path.normpath(os.path.join(source, "..", "runs"))
            said = f"The run folder {folder} would lie among the pictures, and be read as a class of them."
            raise UsageError(said, f"Say where else: --runs {shlex.quote(elsewhere)}.")
        with writable(folder.parent):
            folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            made = _make_new(folder, numbered=not name)
            (made / "checkpoints").mkdir()
            (made / "predictions").mkdir()
            write_atomically(made / "status.json", json.dumps({"format": 1, "id": uuid.uuid4().hex}))
        except FileExistsError as error:
            raise UsageError(
                f"The run folder {folder} exists already.", f"Choose another name, such as --run {name}-2."
            ) from error
        except OSError as error:
            raise cannot_write(folder, error) from error
        return cls(made)

    @classmethod
    def open(cls, runs: Path, name: str) -> "Run":
        """The training of that name, or at that path. Raises UsageError for a folder of several, and as `find` does."""
        run = cls.find(runs, name)
        if run.several:
            inside = [f"{run.called}/{one.folder.name}" for one in every_run(run.folder)]
            hint = f"Name one of them: {', '.join(inside[:3])}{' …' if len(inside) > 3 else ''}."
            raise UsageError(f"{run.name} holds {len(inside)} trainings.", hint)
        return run

    @classmethod
    def find(cls, runs: Path, name: str) -> "Run":
        """The run of that name, or at that path, or a folder of several. Raises UsageError with the nearest name."""
        for folder in (Path(name), runs / name):
            if (folder / "status.json").is_file():
                return cls(folder.absolute())
        known = [run.name for run in every_run(runs)]
        hint = (
            did_you_mean(name, known)
            if known
            else f"There is no run in {runs.absolute()} yet; `tellapart train` makes one."
        )
        irregular = os.path.exists(name) and not os.path.isfile(name)
        odd = ": that is neither the folder of one nor a regular file" * irregular
        raise UsageError(f"There is no run '{name}'{odd}.", hint)

    @property
    def name(self) -> str:
        """The name of the folder; of one training of several, that of both folders."""
        return self.folder.relative_to(self.home).as_posix()

    @property
    def several(self) -> bool:
        """Whether it is a folder of several trainings."""
        return (self.folder / MEMBERS).is_file()

    @property
    def home(self) -> Path:
        """The folder that all runs lie in, with the ledger of openings."""
        above = Run(self.folder.parent)
        return above.folder.parent if above.several else above.folder

    @property
    def called(self) -> str:
        """What to type for it here: its name where runs are looked for by themselves, else its path."""
        return self.name if self.folder == RUNS.absolute() / self.name else str(self.folder)

    @property
    def bundle(self) -> Path:
        """The model file."""
        return self.folder / "model.safetensors"

    def predictions(self, part: str) -> Path:
        """The stored predictions of one part."""
        return self.folder / "predictions" / f"{part}.safetensors"

    def heat(self, part: str) -> Path:
        """The stored heat maps of some mistakes of one part."""
        return self.folder / f"heat-{part}.safetensors"

    def nearest(self, part: str) -> Path:
        """The stored training pictures nearest to some mistakes of one part."""
        return self.folder / f"nearest-{part}.safetensors"

    def write(self, file: str, content: str | bytes) -> None:
        """Write one file of the run, whole or not at all."""
        write_atomically(self.folder / file, content)

    def append(self, file: str, line: str) -> None:
        """Add one line to a log of the run."""
        path = self.folder / file
        with writable(path), path.open("a", encoding="utf-8", errors="surrogateescape") as log:
            log.write(line + "\n")

    def record(self, values: Mapping[str, Any]) -> None:
        """Add one object to metrics.jsonl."""
        self.append("metrics.jsonl", json.dumps(values))

    def records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The lines of metrics.jsonl with the objects they hold; a line that was torn by a crash is left out.

        None where nothing was recorded yet.
        """
        path = self.folder / "metrics.jsonl"
        for line in read_text(path).splitlines() if path.is_file() else ():
            with contextlib.suppress(ValueError):
                yield line, json.loads(line)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the run while it is written. Raises BusyError when another process holds it. The lock dies with us."""
        with alone(self.folder / ".lock", f"The run {self.name}"):
            if os.name != "nt":
                for left in self.folder.rglob(".*.tmp"):  # what a killed process began to write
                    left.unlink(missing_ok=True)
            yield

    def status(self) -> dict[str, Any]:
        """How the run stands."""
        found = json_object(read_text(self.folder / "status.json"))
        if found is None:
            raise StorageError(f"{self.folder / 'status.json'} is damaged.", "The model file is not.")
        return found

    def set_status(self, **changes: Any) -> dict[str, Any]:
        """Change some entries of status.json and its heartbeat."""
        new = {**self.status(), **changes, "heartbeat": now()}
        self.write("status.json", json.dumps(new, indent=1) + "\n")
        return new


def _make_new(folder: Path, *, numbered: bool) -> Path:
    """Make the folder; when two fresh names meet in one second, number the later one."""
    for n in range(100):
        candidate = folder if n == 0 else folder.with_name(f"{folder.name}-{n + 1}")
        try:
            candidate.mkdir()
            return candidate
        except FileExistsError:
            if not numbered:
                raise
    raise FileExistsError(folder)


def every_run(runs: Path) -> list[Run]:
    """All runs in a folder, by name; behind one that holds several come those."""
    if not runs.is_dir():
        return []
    found = [Run(f.absolute()) for f in sorted(runs.iterdir()) if (f / "status.json").is_file()]
    return [one for run in found for one in (run, *(every_run(run.folder) if run.several else ()))]


def now() -> str:
    """The time, to the second, with its zone."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def environment() -> dict[str, Any]:
    """Where this runs: versions, system, machine. Without importing the libraries it names."""
    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {
        "time": now(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "cores": cores(),
        "packages": versions,
    }


def cores() -> int:
    """Processor cores this process may use: what the system and a container's quota allow."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(allowed, int(quota) // int(period)))
    except (OSError, ValueError):
        return allowed


def place() -> tuple[int, int]:
    """Which process of one training this is, and of how many, as torchrun says: (0, 1) where there is one.

    Raises UsageError for variables that say it in part, or wrongly.
    """
    size = variable("WORLD_SIZE", "1", least=1)
    if size == 1:
        return 0, 1
    if missing := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]:
        said = f"WORLD_SIZE={size}: this is one of several processes, but without {', '.join(missing)}."
        raise UsageError(said, VARIABLES)
    if (rank := variable("RANK")) >= size:
        raise UsageError(f"RANK={rank}: expected less than WORLD_SIZE={size}.", VARIABLES)
    return rank, size


def sharing() -> int:
    """The processes of one training that share this machine, as torchrun says."""
    return 1 if place()[1] == 1 else variable("LOCAL_WORLD_SIZE", "1", least=1)


def refuse_several(what: str, processes: int = 1) -> None:
    """Raises UsageError, where several processes are asked for or this is one of them, for what one process does."""
    if max(place()[1], processes) > 1:
        raise UsageError(f"{what} is done by one process.", "Give --processes 1, and start it without torchrun.")


def variable(name: str, default: str = "", *, least: int = 0) -> int:
    """The number in an environment variable. Raises UsageError where there is none so large."""
    text = os.environ.get(name) or default
    if not text.isdecimal() or int(text) < least:
        said = f"{name}: expected a whole number, at least {least}. Received: {text!r}."
        raise UsageError(said, f"Give such a number, or `unset {name}`.")
    return int(text)


def json_object(text: str) -> dict[str, Any] | None:
    """The JSON object of a text, or None when it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
