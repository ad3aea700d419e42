"""Networks that are not ours: a class in a person's own file, the one place where such a file is run, and timm's."""

import inspect
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tellapart.errors import UsageError, did_you_mean, unknown
from tellapart.models.allowed import Source, source
from tellapart.models.hub import refuse_absent_hub
from tellapart.models.sizes import Shape
from tellapart.models.trace import Uncounted, trace
from tellapart.names import HUB, TIMM, own_class
from tellapart.recipe import printable

MODULE = "network_of_your_own_"
"""What the module of such a file is called in this process, before the first digits of its sha256."""
TAKES = "Its __init__ gets those of channels, num_classes and size that it has an argument for, and nothing else."


def refuse_absent(name: str, sha256: str) -> None:
    """Refuse a class or network that is not there, or whose file may not run, before anything is begun.

    Raises UsageError.
    """
    if own_class(name):
        _class_of(name, sha256)
    elif name.startswith(TIMM):
        _of_timm(name)
    elif name.startswith(HUB):
        refuse_absent_hub(name)
        source(name, sha256)


def build_own(name: str, sha256: str, given: Mapping[str, int]) -> nn.Module:
    """The network of `my_net.py:MyNet`, given what its __init__ takes. Raises UsageError for what is wrong with it."""
    found = _class_of(name, sha256)
    with _told(name, f"{found.__name__}() cannot be made", TAKES):
        takes = inspect.signature(found).parameters
        return found(**{key: value for key, value in given.items() if key in takes})


def build_timm(name: str, num_classes: int, channels: int) -> nn.Module:
    """The network of `timm:NAME` with fresh weights. Raises UsageError where timm is not installed or has none such."""
    timm, word = _of_timm(name)
    return timm.create_model(word, num_classes=num_classes, in_chans=channels)


def _of_timm(name: str) -> tuple[Any, str]:
    """The library, and its own name of the network."""
    try:
        timm = import_module("timm")
    except ImportError as error:
        raise UsageError(f"{printable(name)} needs timm.", "python3 -m pip install 'tellapart[timm]'") from error
    word = name.removeprefix(TIMM)
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", word) or not timm.is_model(word):  # hf-hub:… would be fetched
        raise unknown("network of timm", printable(word), timm.list_models())
    return timm, word


def prove(network: nn.Module, name: str, picture: Shape, classes: int | None) -> None:
    """Send two blank pictures (2 C S S) through a network that nobody here wrote, and look at what it would keep.

    Raises UsageError when it cannot take them, gives anything else than (2, classes), or could not be saved and loaded.
    """
    given, called = "2 x " + " x ".join(map(str, picture)), printable(name)
    hint = "Give it other pictures: model check and model show have --size and --channels; "
    hint += "all else takes --set input.size=N and --set input.channels=3."
    with _told(name, f"{called} cannot take {given}", hint), torch.no_grad():
        first = _passed(network.eval(), torch.zeros(2, *picture), called)
        kept = {key: buffer.clone() for key, buffer in network.named_buffers()}  # training changes statistics
        second = functional_call(network.train(), kept, (torch.zeros(2, *picture),))
    for output, mode in ((first, ""), (second, " in training")):
        kind = tuple(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
        if not isinstance(output, Tensor) or (classes and kind != (2, classes)):
            raise UsageError(
                f"{called} gives {kind} for two pictures{mode}; expected the shape (2, {classes or 'classes'}).",
                "Let its __init__ take num_classes, and its forward give a number for each class, without softmax.",
            )
    if not any(isinstance(one, nn.Linear | nn.Conv2d) for one in network.modules()):
        raise UsageError(f"{called} has no nn.Linear and no nn.Conv2d.", "The last of them is the head of a network.")
    if odd := _unsavable(network):
        raise UsageError(f"The weights of {called} cannot be saved: {odd}.")


def _passed(network: nn.Module, pictures: Tensor, called: str) -> Any:
    """What comes out. Raises UsageError with the layer and the numbers that do not match, where a layer is to blame."""
    try:
        return network(pictures)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1].filename
        if f"{os.sep}torch{os.sep}nn{os.sep}" in last:  # a layer refused what it was given
            trace(network, pictures, name=called, counter=Uncounted())
        raise


def _unsavable(network: nn.Module) -> str:
    """Why the weights cannot stand in a model file, or ''."""
    seen: dict[int, str] = {}
    for key, value in network.state_dict().items():
        if not isinstance(value, Tensor):
            return f"{key} is a {type(value).__name__}, not a tensor"
        if value.dtype not in (torch.float32, torch.int64):
            return f"{key} is {value.dtype}, where float32 and int64 are kept"
        if value.numel() and (other := seen.setdefault(value.untyped_storage().data_ptr(), key)) != key:
            return f"{other} and {key} are one tensor. Register it once, and use it twice in forward"
    return ""


def _class_of(name: str, sha256: str) -> type[nn.Module]:
    path, word = own_class(name) or (name, "")
    module, shown = _module(source(name, sha256)), printable(path)
    found = vars(module).get(word)
    here = [key for key, one in vars(module).items() if _is_network(one) and one.__module__ == module.__name__]
    if not word or found is None:
        hint = did_you_mean(word, here) if here else "It has no class that is a torch.nn.Module."
        missing = f"has no class {printable(word)}" if word else "is a file, and the network is a class in it"
        raise UsageError(
            f"{shown} {missing}.", hint if word else f"Name it too, such as {shown}:{(*here, 'MyNet')[0]}."
        )
    if not _is_network(found):
        what = "another class" if isinstance(found, type) else f"of the type {type(found).__name__}"
        raise UsageError(f"{word} in {shown} is {what}; expected a torch.nn.Module.", f"class {word}(nn.Module): …")
    return found


def _is_network(one: object) -> bool:
    return isinstance(one, type) and issubclass(one, nn.Module)


@cache
def _module(code: Source) -> ModuleType:
    """What the file defines. It is run here, once, from the very bytes whose digest was compared."""
    module = ModuleType(MODULE + code.sha256[:12])
    module.__file__ = str(code.path)
    shown = printable(str(code.path))
    try:
        program = compile(code.text, str(code.path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        line = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else error
        raise UsageError(f"{shown} is not Python: {line}.", f"`python {shown}` says more.") from error
    sys.modules[module.__name__] = module  # where dataclasses and torch.compile look for it
    with _told(str(code.path), f"{shown} cannot be run", "It is one file: it can import what is installed."):
        exec(program, module.__dict__)
    return module


@contextmanager
def _told(name: str, what: str, hint: str) -> Iterator[None]:
    """What a file or network raises inside, as a sentence with its line in that file."""
    file = (own_class(name) or (name, ""))[0]
    try:
        yield
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f", line {one.lineno}" for one in frames if one.filename.endswith(file)]
        said = (printable(str(error)).strip() or "it says no more").removesuffix(".")
        raise UsageError(f"{what}: {type(error).__name__}{(lines or [''])[-1]}: {said}.", hint) from error
