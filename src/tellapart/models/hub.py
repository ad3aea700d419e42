"""`hub:FOLDER:ENTRY`: a network that a repository's hubconf.py makes, as torch.hub has it, where its code is allowed.

Nothing is fetched here: FOLDER is a copy of the repository, or OWNER/REPO where torch.hub has fetched it before.
"""

import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any

from torch import nn

from tellapart.errors import UsageError, did_you_mean
from tellapart.models.allowed import CONF, hub_folder, source
from tellapart.names import hub_entry
from tellapart.recipe import printable

TAKES = "It gets those of num_classes, channels, size, in_chans and pretrained (False) that it has an argument for."


def build_hub(name: str, sha256: str, given: Mapping[str, int]) -> nn.Module:
    """The network of an entry, given what it takes. Raises UsageError for code that is not allowed, or not there."""
    code, (_, word) = source(name, sha256), hub_entry(name)
    with _first_on_the_path(code.path.parent):
        made = _entry(code.path, word)(**_arguments(code.path, word, given))
    if not isinstance(made, nn.Module):
        raise UsageError(f"{printable(name)} gives a {type(made).__name__}; expected a torch.nn.Module.", TAKES)
    return made


def _arguments(conf: Path, word: str, given: Mapping[str, int]) -> dict[str, Any]:
    """Those that the entry names; where it takes any, the number of classes, as torchvision's do."""
    takes = inspect.signature(_entry(conf, word)).parameters
    every = {**given, "in_chans": given["channels"], "pretrained": False}
    named = {key: value for key, value in every.items() if key in takes}
    open_ended = any(one.kind is one.VAR_KEYWORD for one in takes.values())
    return {"num_classes": given["num_classes"], **named} if open_ended else named


def _entry(conf: Path, word: str) -> Any:
    module = _conf(conf)
    found = vars(module).get(word)
    entries = [key for key, one in vars(module).items() if callable(one) and not key.startswith("_")]
    if word.startswith("_") or not callable(found):
        raise UsageError(f"{printable(str(conf))} has no entry {printable(word)}.", did_you_mean(word, entries))
    return found


@cache
def _conf(conf: Path) -> Any:
    """What hubconf.py defines, run once in this process."""
    spec = util.spec_from_file_location(f"hubconf_of_{conf.parent.name}", conf)
    if spec is None or spec.loader is None:
        raise UsageError(f"{printable(str(conf))} is not a Python file.")
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def _first_on_the_path(folder: Path) -> Iterator[None]:
    """What the repository imports from itself is found, here and by no other one; what it raises is a sentence."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        said = printable(str(error)).strip().removesuffix(".") or "it says no more"
        what = f"The code in {printable(str(folder))} fails: {type(error).__name__}: {said}."
        raise UsageError(what, TAKES) from error
    finally:
        sys.path.remove(str(folder))
        for key in set(sys.modules) - before:
            if str(getattr(sys.modules[key], "__file__", None) or "").startswith(f"{folder}{os.sep}"):
                del sys.modules[key]


def refuse_absent_hub(name: str) -> None:
    """Refuse a repository that is not here, in words that say how to have it. Raises UsageError."""
    if hub_folder(name) is not None:
        return
    repository, entry = hub_entry(name)
    if not repository or not entry:
        said = f"{printable(name)} names no repository, or none of its entries; expected hub:FOLDER:ENTRY."
        raise UsageError(said, f"Entries are the functions in its {CONF}.")
    owner = repository.count("/") == 1 and not os.path.isabs(repository)
    clone = f"git clone https://github.com/{repository}, then " * owner
    hint = f"Fetch it and look at it: {printable(clone)}--model hub:FOLDER:ENTRY."
    raise UsageError(f"There is no {CONF} in {printable(repository)}.", hint)
