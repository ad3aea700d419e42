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
    """The file of someone who names it. Raises StorageError when it cannot be read, UsageError for an unknown name."""
    if name and name not in TORCHVISION_MODELS:
        raise unknown("pretrained model", name, TORCHVISION_MODELS)
    if path.exists() and not path.is_file():  # a pipe or a device would be read for ever
        raise StorageError(f"{printable(str(path))} is not a file.", "Check the path.")
    return Pretrained(path=path, name=name, digest=_sha256(path))


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
        path = checkpoints() / file
        if not path.is_file():
            continue
        if pictures > most:
            said.append(f"{path} is at hand and would take long for {pictures:,} pictures; --weights uses it")
        elif (digest := _sha256(path)).startswith(path.stem.rpartition("-")[2]):
            return Pretrained(path=path, name=name, digest=digest), tuple(said)
        else:
            said.append(f"{path} is not the published file: its sha256 is {digest[:8]}…; it is not used")
    return None, tuple(said)


def _sha256(path: Path) -> str:
    with readable(printable(str(path)), "Check the path."), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
