"""The body of a pretrained torchvision classifier: its weights without the head; pictures in, features out."""

from pathlib import Path

import torch
from torch import Tensor, nn

from tellapart.errors import DataError
from tellapart.models.pretrained import Pretrained
from tellapart.models.weights import read
from tellapart.models.zoo import build_torchvision
from tellapart.names import TORCHVISION_MODELS
from tellapart.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from tellapart.recipe import printable

PREPROCESS = Preprocess(size=224, channels=3, short=256, mean=IMAGENET_MEAN, std=IMAGENET_STD)
"""How these networks were taught to see."""
GUESSES = tuple(
    """
    mobilenet_v2 mobilenet_v3_small mobilenet_v3_large resnet18 resnet34 resnet50 resnet101 efficientnet_b0
    squeezenet1_0 squeezenet1_1 shufflenet_v2_x1_0 densenet121 convnext_tiny vit_b_16 swin_t
    """.split()  # noqa: SIM905 - names read better as words
)
"""Networks that are told from the names and shapes of their tensors; no two of them have the same."""


def frozen(pretrained: Pretrained) -> tuple[str, nn.Module]:
    """The name of the network and, in eval mode and without gradients, its body: (B 3 224 224) -> (B F).

    Its head, the last layer with weights, is left out, and may be missing in the file or made for other classes;
    everything else must agree. Raises DataError that says what does not, or that no network is known to fit.
    """
    name, body = body_of(pretrained)
    network, _ = _shell(name)
    network.load_state_dict(body, strict=False, assign=True)
    network.requires_grad_(False).eval()
    return name, network.to(memory_format=torch.channels_last)  # twice as fast on a CPU


def body_of(pretrained: Pretrained) -> tuple[str, dict[str, Tensor]]:
    """The name of the network, and the tensors of all but its head. Raises DataError as `frozen` does."""
    state, path = read(pretrained.path), pretrained.path
    name = pretrained.name or _guess(state, path)
    network, head = _shell(name)
    if misfit := _misfit(network, state, head):
        own = _fitting(state, path)
        hint = f"It fits {own}: give --model {own}" if own else "Another --model may"
        hint += "; without --model, the network is told from the tensors."
        raise DataError(f"{printable(str(path))} does not fit {name}: {misfit}.", hint)
    body = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    if not all(bool(torch.isfinite(value).all()) for value in body.values()):
        raise DataError(f"{printable(str(path))} holds numbers that are not finite.", "Take another file.")
    return name, {key: body[key] for key in network.state_dict() if key in body}


def head_of(network: nn.Module) -> str:
    """The path of the last layer with weights, which names the classes."""
    return [place for place, one in network.named_modules() if isinstance(one, nn.Linear | nn.Conv2d)][-1]


def _shell(name: str) -> tuple[nn.Module, str]:
    """The network without its head and without values, and what every name in the head begins with."""
    place = "cpu" if name.startswith("regnet") else "meta"  # a RegNet finds its widths with tensors
    with torch.random.fork_rng(devices=[]), torch.device(place):
        network = build_torchvision(name, 1000)
    head = head_of(network)
    network.set_submodule(head, nn.Identity())
    return network, f"{head}."


def _misfit(network: nn.Module, state: dict[str, Tensor], head: str) -> str:
    """The first way in which the tensors are not those of the network; '' when they fit."""
    own = network.state_dict()
    more = [key for key in state if key not in own and not key.startswith(head)]
    lost = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    if more or lost:
        said = [f"it has no {printable(min(more))}" + f", nor {len(more) - 1:,} more" * (len(more) > 1)] if more else []
        said += [f"{lost[0]} is not there" + f", nor are {len(lost) - 1:,} more" * (len(lost) > 1)] if lost else []
        return ", and ".join(said)
    odd = next((key for key in own if own[key].is_floating_point() and not state[key].is_floating_point()), "")
    if odd:
        return f"{odd} holds {str(state[odd].dtype).removeprefix('torch.')} where it has floating-point numbers"
    odd = next((key for key in own if key in state and state[key].shape != own[key].shape), "")
    return f"{odd} is {tuple(state[odd].shape)} where it has {tuple(own[odd].shape)}" if odd else ""


def _misfit_of(name: str, state: dict[str, Tensor]) -> str:
    network, head = _shell(name)
    return _misfit(network, state, head)


def _fitting(state: dict[str, Tensor], path: Path) -> str:
    """The network that the tensors fit, of those that are guessed and the one that the file is called after; or ''."""
    called = path.name.partition("-")[0]
    names = [called] * (called in TORCHVISION_MODELS) + [name for name in GUESSES if name != called]
    return next((name for name in names if not _misfit_of(name, state)), "")


def _guess(state: dict[str, Tensor], path: Path) -> str:
    """The one network that the tensors fit."""
    nearest, why = 0.5, ""
    for name in GUESSES:
        network, head = _shell(name)
        misfit, own = _misfit(network, state, head), network.state_dict()
        if not misfit:
            return name
        share = sum(key in state and state[key].shape == own[key].shape for key in own) / max(len(own), len(state))
        if share > nearest:
            nearest, why = share, f" The nearest is {name}, and it does not fit: {misfit}."
    raise DataError(
        f"Of which network the weights in {printable(str(path))} are cannot be told.{why}",
        f"Name a torchvision classifier with --model. Tried: {', '.join(GUESSES)}.",
    )
