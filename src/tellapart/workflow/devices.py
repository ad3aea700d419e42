"""Which device: what was asked for, or the best there is. Imports torch."""

import os

import torch

from tellapart.errors import UsageError
from tellapart.run import sharing


def available() -> list[str]:
    """The devices of this machine, best first: cuda:0, cuda:1, mps, cpu."""
    cuda = [f"cuda:{n}" for n in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return [*cuda, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def choose(asked: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda`, `cuda:1` or `mps`. Raises UsageError that lists what there is."""
    here = available()
    if sharing() > 1 and asked != "cpu" and here[0].startswith("cuda"):
        return _own(asked, len(here) - 1)
    if asked == "auto":
        return torch.device(here[0])
    if asked == "cuda" and any(name.startswith("cuda") for name in here):
        return torch.device("cuda", torch.cuda.current_device())
    if asked not in here:
        raise UsageError(f"The device '{asked}' is not on this machine.", f"Choose one of: auto, {', '.join(here)}.")
    return torch.device(asked)


def _own(asked: str, gpus: int) -> torch.device:
    """The GPU of this process, one of several on this machine."""
    if asked not in ("auto", "cuda") or sharing() > gpus:
        raise UsageError(
            f"{sharing()} processes of this machine share {gpus} GPUs, with --device {asked}.",
            f"Give each process a GPU of its own: --processes {gpus}, --device auto; or use --device cpu.",
        )
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def same_every_time(asked: bool) -> None:
    """Refuse operations that may give another result the next time; on a CPU there is none of them in our loop."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if asked != torch.are_deterministic_algorithms_enabled():  # setting it loads half of a compiler
        torch.use_deterministic_algorithms(asked)


def words(device: torch.device) -> str:
    """The device for a person: 'cpu (2 threads)', 'cuda:0 (NVIDIA H200)'."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"cpu ({threads} thread{'s' * (threads > 1)})" if device.type == "cpu" else str(device)
