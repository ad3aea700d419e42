"""Which Python files may be run: those that a person has named, for this process and those it begins. No torch here."""

import hashlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tellapart.errors import UsageError, nearest
from tellapart.files import readable
from tellapart.names import HUB, hub_entry, is_code, own_class
from tellapart.recipe import printable

ALLOWED = "TELLAPART_CODE"
"""The variable that carries the allowed files to child processes: absolute paths, one a line."""


CONF = "hubconf.py"
"""The file of a repository that makes its networks."""


@dataclass(frozen=True)
class Source:
    """A Python file as it was read once: what is run, what is kept and what the digest is of are the same bytes.

    Of a repository, `path` is its hubconf.py, and `text` all its Python files with their names, one after the other.
    """

    path: Path
    text: bytes

    @property
    def sha256(self) -> str:
        """The digest of the bytes, in hexadecimal."""
        return hashlib.sha256(self.text).hexdigest()


def allow_code(path: str | Path) -> None:
    """Let this Python file be run from now on. Raises UsageError where there is none."""
    place = Path(path).absolute()
    if place.suffix != ".py" or not place.is_file():
        raise UsageError(f"There is no Python file {printable(str(path))}.", _instead(Path(path)))
    os.environ[ALLOWED] = "\n".join(dict.fromkeys([*map(str, _allowed()), str(place)]))


def _instead(path: Path) -> str:
    """What to name in place of a path that is no Python file."""
    if (path / CONF).is_file():
        return f"It is a folder. For hub:FOLDER:ENTRY name its {CONF}: --code {printable(str(path / CONF))}."
    if path.is_dir():
        return f"It is a folder, and has no {CONF}; name a file in it."
    guess = nearest(path.name, (one.name for one in path.absolute().parent.glob("*.py")))
    return f"Did you mean {printable(guess)}?" if guess else "A network of your own is FILE.py:CLASS."


def allow_class(name: str) -> None:
    """Let the file of `my_net.py:MyNet` be run, because a person named it; nothing happens for other networks."""
    if own := own_class(name):
        allow_code(own[0])


def hub_folder(name: str) -> Path | None:
    """The folder of `hub:FOLDER:ENTRY`: as it is named, or where torch.hub has put OWNER/REPO; None where it is not."""
    repository, entry = hub_entry(name)
    home = os.environ.get("TORCH_HOME", os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch"))
    fetched = sorted((Path(home).expanduser() / "hub").glob(f"{repository.replace('/', '_')}_*")) if repository else []
    return next((one.absolute() for one in (Path(repository), *fetched) if entry and (one / CONF).is_file()), None)


def source(name: str, sha256: str = "") -> Source:
    """The file of `my_net.py:MyNet`; with a digest, that of the allowed files which has it, wherever it lies. Of
    `hub:FOLDER:ENTRY` all Python files of the repository.

    Raises UsageError when it is not allowed, or another than it was.
    """
    path, _ = own_class(name) or (str((hub_folder(name) or Path(hub_entry(name)[0])) / CONF), "")
    if not sha256 and Path(path).absolute() in _allowed():
        return _read(Path(path).absolute())
    for place in _allowed() if sha256 else ():
        if found := _as_it_was(place, sha256):
            return found
    if sha256 and (others := [place for place in _allowed() if place.is_file()]):
        raise UsageError(
            f"{printable(str(others[-1]))} is not the file that {printable(name)} was trained with, or it changed since"
            f": its sha256 is {_read(others[-1]).sha256[:8]}…, expected {sha256[:8]}….",
            "Give the repository as it was then; its history has it."
            if name.startswith(HUB)
            else "A run keeps the file as it was: tellapart --code RUN/network.py VERB …",
        )
    raise UsageError(
        f"{printable(name)} is {'made by' if name.startswith(HUB) else 'a class in'} a Python file, and such a file "
        "runs only when you name it yourself.",
        f"If you trust it: tellapart --code {printable(path)} VERB …",
    )


def digest_of(name: str, sha256: str) -> str:
    """The sha256 of the file of a class; '' for any other network. Raises UsageError as `source` does."""
    return source(name, sha256).sha256 if is_code(name) else ""


def _allowed() -> list[Path]:
    return [Path(line) for line in os.environ.get(ALLOWED, "").split("\n") if line]


def _read(place: Path) -> Source:
    with readable(printable(str(place)), "Check the path."):
        if place.name != CONF:
            return Source(place, place.read_bytes())
        files = {os.fsencode(one.relative_to(place.parent)): one for one in place.parent.rglob("*.py")}
        return Source(place, b"".join(b"\n# %s\n%s" % (name, files[name].read_bytes()) for name in sorted(files)))


@cache
def _kept(place: Path, sha256: str) -> list[Source]:
    """Room for what was read of a file with that digest: to edit the file while it trains changes nothing."""
    return []


def _as_it_was(place: Path, sha256: str) -> Source | None:
    kept = _kept(place, sha256)
    if not kept and place.is_file() and (found := _read(place)).sha256 == sha256:
        kept.append(found)
    return kept[0] if kept else None
