"""Checkpoints: a folder that exists whole and verified, or not at all. safetensors and JSON only."""

import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from tellapart.errors import StorageError
from tellapart.files import cannot_write, read_text, sync_folder, write_flushed

Tensors = Mapping[str, Tensor]
TENSORS = ("model", "optimiser", "average", "scale")


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a training stands. Plain numbers.

    epoch, step: the next to take, counted from 0. step_in_epoch, seen, loss_total: steps, pictures and summed loss of
    this epoch so far. best_*: the best validation so far; stale_epochs: epochs since then; waited: epochs since then or
    since the rate dropped; drops: how often it did (schedule plateau).
    """

    epoch: int = 0
    step: int = 0
    step_in_epoch: int = 0
    seen: int = 0
    loss_total: float = 0.0
    best_step: int = -1
    best_epoch: int = -1
    best_accuracy: float = -1.0
    best_loss: float = float("inf")
    stale_epochs: int = 0
    waited: int = 0
    drops: int = 0


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What is saved: the position, the weights, the optimiser's buffers (empty for a best model), and what else a
    training remembers: `average` and `scale` (fp16), where there are.
    """

    position: Position
    model: Tensors
    optimiser: Tensors
    average: Tensors = field(default_factory=dict)
    scale: Tensors = field(default_factory=dict)


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write `folder/step-000123`: staged beside it, flushed, hashed, renamed. An existing one is left as it is."""
    from safetensors.torch import save

    target = folder / f"step-{checkpoint.position.step:06d}"
    if (target / "manifest.json").is_file():
        return target
    tensors = {name: getattr(checkpoint, name) for name in TENSORS}
    files = {f"{name}.safetensors": save(_plain(values)) for name, values in tensors.items() if values}
    files["position.json"] = json.dumps(asdict(checkpoint.position)).encode()
    manifest = {name: {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()} for name, raw in files.items()}
    staged = folder / f".tmp-{uuid.uuid4().hex}"
    try:
        staged.mkdir()
        for name, raw in {**files, "manifest.json": json.dumps({"format": 1, "files": manifest}).encode()}.items():
            write_flushed(staged / name, raw)
        sync_folder(staged)
        staged.rename(target)
        sync_folder(folder)
    except OSError as error:
        shutil.rmtree(staged, ignore_errors=True)
        raise cannot_write(target, error, needed=sum(len(raw) for raw in files.values())) from error
    return target


def _plain(tensors: Tensors) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read and verify one checkpoint. Raises StorageError when a byte differs from its manifest."""
    from safetensors.torch import load

    files = _verified(folder)
    try:
        position = Position(**json.loads(files.pop("position.json")))
        return Checkpoint(position=position, **{Path(name).stem: load(raw) for name, raw in files.items()})
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"The checkpoint {folder} cannot be read: {error}.") from error


def _verified(folder: Path) -> dict[str, bytes]:
    try:
        manifest: dict[str, Any] = json.loads(read_text(folder / "manifest.json"))["files"]
        files = {name: (folder / name).read_bytes() for name in manifest}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(f"The checkpoint {folder} is incomplete: {error}.") from error
    for name, raw in files.items():
        if hashlib.sha256(raw).hexdigest() != manifest[name]["sha256"]:
            raise StorageError(f"The checkpoint {folder} is damaged: {name} differs from its manifest.")
    return files


def keep_only(folder: Path, names: set[str]) -> None:
    """Remove checkpoints that are not named; each is renamed away first, so that none is ever half there."""
    for old in folder.glob("step-*"):
        if old.name not in names:
            trash = old.with_name(f".trash-{old.name}-{uuid.uuid4().hex[:6]}")
            old.rename(trash)
            shutil.rmtree(trash, ignore_errors=True)
