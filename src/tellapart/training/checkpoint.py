"""Checkpoints: a folder that exists whole and verified, or not at all. safetensors and JSON only."""

import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tellapart.errors import StorageError
from tellapart.files import cannot_write, flush, read_text, writable, write_flushed

Tensors = Mapping[str, Tensor]
TENSORS = ("model", "optimiser", "average", "scale")
OURS = re.compile(r"(step|best)-(\d{6,})(-mid)?")
"""Names of checkpoints: `step-` to go on from, with `-mid` inside an epoch; `best-` the best epoch's weights alone."""


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a training stands. Plain numbers.

    epoch, step: the next to take, counted from 0. step_in_epoch, seen, loss_total: steps, pictures and summed loss of
    this epoch so far. train_loss: the mean of the epoch before. best_*: the best validation so far; stale_epochs:
    epochs since then; waited: epochs since then or since the rate dropped; drops: how often it did (schedule plateau).
    """

    epoch: int = 0
    step: int = 0
    step_in_epoch: int = 0
    seen: int = 0
    loss_total: float = 0.0
    train_loss: float = float("inf")
    best_step: int = -1
    best_epoch: int = -1
    best_accuracy: float = -1.0
    best_loss: float = float("inf")
    stale_epochs: int = 0
    waited: int = 0
    drops: int = 0

    @property
    def name(self) -> str:
        """That of its checkpoint. The last step of an epoch has two: before the validation, and after it."""
        return f"step-{self.step:06d}{'-mid' * (self.step_in_epoch > 0)}"

    @property
    def best_name(self) -> str:
        """That of the best model so far; '' when there is none."""
        return f"best-{self.best_step:06d}" if self.best_step >= 0 else ""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What is saved: the position, the weights, and what else a training remembers: the optimiser's buffers, `average`
    and `scale`, where there are. A best model has its weights alone.
    """

    position: Position
    model: Tensors
    optimiser: Tensors = field(default_factory=dict)
    average: Tensors = field(default_factory=dict)
    scale: Tensors = field(default_factory=dict)


def save_checkpoint(folder: Path, checkpoint: Checkpoint, name: str = "") -> Path:
    """Write `folder/step-000123`, or of another name: staged beside it, flushed, hashed, renamed, and read back.

    A whole one that is there is left as it is, a damaged one is replaced. Raises StorageError; what was saved before
    then still stands.
    """
    target = folder / (name or checkpoint.position.name)
    if not (target / "manifest.json").is_file() or not is_whole(target):
        _commit(target, _files_of(checkpoint))
        _verified(target)
    return target


def _files_of(checkpoint: Checkpoint) -> dict[str, bytes]:
    """The content of each file, the manifest last."""
    from safetensors.torch import save

    tensors = {name: getattr(checkpoint, name) for name in TENSORS}
    files = {f"{name}.safetensors": save(_plain(values)) for name, values in tensors.items() if values}
    files["position.json"] = json.dumps(asdict(checkpoint.position)).encode()
    manifest = {name: _seal(raw) for name, raw in files.items()}
    return {**files, "manifest.json": json.dumps({"format": 1, "files": manifest}).encode()}


def _seal(raw: bytes) -> dict[str, Any]:
    return {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}


def _plain(tensors: Tensors) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _commit(target: Path, files: Mapping[str, bytes]) -> None:
    """Let a folder with these files appear at once."""
    staged = target.with_name(f".tmp-{uuid.uuid4().hex}")
    try:
        staged.mkdir()
        for name, raw in files.items():
            write_flushed(staged / name, raw)
        flush(staged)
        if target.exists():
            _out_of_the_way(target)
        staged.rename(target)
        flush(target.parent)
    except OSError as error:
        shutil.rmtree(staged, ignore_errors=True)
        raise cannot_write(target, error, needed=sum(map(len, files.values()))) from error


def _out_of_the_way(folder: Path) -> None:
    folder.rename(folder.with_name(f".trash-{uuid.uuid4().hex}"))


def packed(checkpoint: Checkpoint) -> bytes:
    """A checkpoint as bytes, for another process."""
    from safetensors.torch import save

    position = torch.frombuffer(bytearray(json.dumps(asdict(checkpoint.position)), "ascii"), dtype=torch.uint8)
    tensors = {f"{kind}/{name}": t for kind in TENSORS for name, t in getattr(checkpoint, kind).items()}
    return save(_plain({"position": position, **tensors}))


def unpacked(raw: bytes) -> Checkpoint:
    """The checkpoint that `packed` made these bytes of."""
    from safetensors.torch import load

    tensors = load(raw)
    position = Position(**json.loads(tensors.pop("position").numpy().tobytes()))
    kinds: dict[str, dict[str, Tensor]] = {kind: {} for kind in TENSORS}
    for name, tensor in tensors.items():
        kind, _, own = name.partition("/")
        kinds[kind][own] = tensor
    return Checkpoint(position=position, **kinds)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read and verify one checkpoint. Raises StorageError when a byte differs from its manifest."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    files = _verified(folder)
    try:
        position = Position(**json.loads(files.pop("position.json")))
        return Checkpoint(position=position, **{Path(name).stem: load(raw) for name, raw in files.items()})
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"The checkpoint {folder} cannot be read: {error}.") from error


def is_whole(folder: Path) -> bool:
    """Whether a checkpoint is there and every byte of it is as its manifest says."""
    try:
        return bool(_verified(folder))
    except StorageError:
        return False


def _verified(folder: Path) -> dict[str, bytes]:
    try:
        manifest: dict[str, Any] = json.loads(read_text(folder / "manifest.json"))["files"]
        files = {name: (folder / name).read_bytes() for name in manifest}
    except (OSError, ValueError, KeyError, TypeError, StorageError) as error:
        raise StorageError(f"The checkpoint {folder} is incomplete: {error}.") from error
    for name, raw in files.items():
        if manifest[name] != _seal(raw):
            raise StorageError(f"The checkpoint {folder} is damaged: {name} differs from its manifest.")
    return files


def newest_first(folder: Path) -> list[Path]:
    """The checkpoints to go on from, those of later steps first. They may be damaged."""
    names = [found for one in folder.glob("step-*") if (found := OURS.fullmatch(one.name))]
    return [folder / found[0] for found in sorted(names, key=lambda f: (int(f[2]), not f[3]), reverse=True)]


def keep_only(folder: Path, names: set[str]) -> None:
    """Remove our checkpoints that are not named, and what a killed process left. Each is renamed away first, so that
    none is ever half there. Raises StorageError.
    """
    with writable(folder):
        for old in list(folder.iterdir()):
            if OURS.fullmatch(old.name) and old.name not in names:
                _out_of_the_way(old)
        for left in [*folder.glob(".trash-*"), *folder.glob(".tmp-*")]:
            shutil.rmtree(left, ignore_errors=True)
