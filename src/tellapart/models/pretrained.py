"""Which pretrained network there is: a file that is given, or one that torch has fetched before. No torch here."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from tellapart.errors import StorageError, unknown
from tellapart.files import readable
from tellapart.names import TORCHVISION_MODELS
from tellapart.recipe import printable

AT_HAND = {
    "resnet50-0676ba61.pth": ("resnet50", 1_000),
    "resnet50-11ad3fa6.pth": ("resnet50", 1_000),
    "efficientnet_b0_rwightman-7f5810bc.pth": ("efficientnet_b0", 2_000),
    "mobilenet_v2-b0353104.pth": ("mobilenet_v2", 2_500),
    "mobilenet_v2-7ebf99e0.pth": ("mobilenet_v2", 2_500),
    "resnet18-f37072fd.pth": ("resnet18", 2_500),
    "mobilenet_v3_small-047dcff4.pth": ("mobilenet_v3_small", 6_000),
}
"""torchvision's files, the best features first: of which network, and how many pictures it sees without being asked."""


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A file with the weights of a torchvision classifier. `name`: which one; '' when its tensors are to say it."""

    path: Path
    name: str
    digest: str


def given(path: Path, name: str) -> Pretrained:
    """The file of someone who names it, a published one by its bare name: torch's cache is looked at as well.

    Raises StorageError when it cannot be read or is not what its published name says, UsageError for an unknown `name`.
    """
    if name and name not in TORCHVISION_MODELS:
        raise unknown("pretrained model", name, TORCHVISION_MODELS)
    if path.exists() and not path.is_file():  # a pipe or a device would be read for ever
        raise StorageError(f"{printable(str(path))} is not a file.", "Check the path.")
    place = placed(path)
    digest = sha256_of(place)
    if place != path and not digest.startswith(digits_of(path.name)):
        raise StorageError(
            f"{place} is not the published file: its sha256 is {digest[:8]}….", "Move it away; it is fetched again."
        )
    return Pretrained(path=place, name=name, digest=digest)


def placed(path: Path) -> Path:
    """Where a file of weights lies: a bare name that is no file here is looked for in torch's cache."""
    found = cached(path.name) if path == Path(path.name) and not path.exists() else None
    return found or path


def cached(file: str) -> Path | None:
    """Where a published file lies that torch has fetched; None where it has not."""
    path = checkpoints() / file
    return path if path.is_file() else None


def digits_of(file: str) -> str:
    """The first digits of the sha256 of a published file, which its name ends with.

    >>> digits_of("resnet18-f37072fd.pth"), digits_of("shufflenetv2_x1-5666bf0f80.pth")
    ('f37072fd', '5666bf0f80')
    """
    return file.rpartition(".")[0].rpartition("-")[2]


def checkpoints() -> Path:
    """Where torch keeps what it has fetched, as `torch.hub.get_dir` has it."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    return Path(home).expanduser() / "hub" / "checkpoints"


def at_hand(pictures: int) -> tuple[Pretrained | None, tuple[str, ...]]:
    """The best published file that is there, whole, and quick enough for so many pictures; nothing is fetched.

    And what is to be said of better ones that are there and are not used.
    """
    said = []
    for file, (name, most) in AT_HAND.items():
        if (path := cached(file)) is None:
            continue
        if pictures > most:
            said.append(f"{path} is at hand and would take long for {pictures:,} pictures; --weights uses it")
        elif (digest := sha256_of(path)).startswith(digits_of(file)):
            return Pretrained(path=path, name=name, digest=digest), tuple(said)
        else:
            said.append(f"{path} is not the published file: its sha256 is {digest[:8]}…; it is not used")
    return None, tuple(said)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file in hex. Raises StorageError where it cannot be read."""
    with readable(printable(str(path)), "Check the path."), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
