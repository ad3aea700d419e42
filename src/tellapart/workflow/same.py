"""Same: by what two trainings are compared, and the conditions under which their bits are equal."""

import functools
import hashlib
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tellapart.files import read_text
from tellapart.models.bundle import load_bundle
from tellapart.run import Run, environment, json_object, now
from tellapart.training.world import World, here
from tellapart.workflow import devices

TIMES = ("seconds", "pictures_per_second", "waiting", "augmenting")
CONDITIONS = ("device", "processes", "weights", "torch", "instructions", "processor", "cores")


def conditions(device: torch.device, world: World | None = None) -> dict[str, Any]:
    """What environment.json holds: where this runs, and all that may change the last bits of a result."""
    world = world or here()
    exact = {"device": devices.words(device), "processes": world.size, "torch": torch.__version__}
    exact["weights"] = "sharded" if world.sharded else "whole"
    exact |= {"instructions": torch.backends.cpu.get_cpu_capability(), "processor": processor()}
    return {**environment(), **exact, "code": _code()}


def processor() -> str:
    """The kind of processor, with its family and model where the system tells: its name alone may be of several kinds,
    whose sums differ in their last bits.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    numbers = [f"{name} {told[name]}" for name in ("cpu family", "model", "CPU part") if name in told]
    return ", ".join([told.get("model name", platform.machine()), *numbers])


@functools.cache
def _code() -> str:
    """The identity of tellapart's own sources: a version number says too little between two releases."""
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:32]


def conditions_of(run: Run) -> dict[str, Any]:
    """The conditions under which a run began, as far as they are known."""
    path = run.folder / "environment.json"
    return (json_object(read_text(path)) if path.is_file() else None) or {}


def in_words(found: Mapping[str, Any]) -> str:
    """The conditions for a person: 'cpu (1 thread), torch 2.9.1, AVX512, 2 cores'."""
    cores = f"{found['cores']} core{'s' * (found['cores'] != 1)}"
    several = f"{found['processes']} processes, " * (found.get("processes", 1) > 1)
    return f"{several}{found['device']}, torch {found['torch']}, {found['instructions']}, {cores}"


def changed(then: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What differs between two conditions, each as 'device cpu (1 thread) → cuda:0 (…)'. What one lacks is unknown."""
    old, new = ({**{name: of.get(name) for name in CONDITIONS}, **of.get("packages", {})} for of in (then, here))
    old["torch"], new["torch"] = then.get("torch"), here["torch"]  # with its build, which packages do not tell
    found = [f"{name} {old[name]} → {new.get(name)}" for name in old if old[name] not in (None, new.get(name))]
    return found + ["the code of tellapart"] * ("code" in then and then["code"] != here["code"])


def noted_change(run: Run, step: int, device: torch.device, world: World | None = None) -> list[str]:
    """What changed since a run began, written into its status: a run that went on under other conditions says so."""
    found = changed(conditions_of(run), conditions(device, world))
    if found:
        run.set_status(went_on=[*run.status().get("went_on", []), {"step": step, "time": now(), "changed": found}])
    return found


def fingerprint(run: Run) -> dict[str, str]:
    """SHA-256 of what a finished training reached: each file of its last checkpoint (model: the weights as they stood),
    the weights in its model file, and its records without their times.
    """
    from safetensors.torch import save

    manifest = run.folder / "checkpoints" / run.status()["checkpoints"]["last"] / "manifest.json"
    files = {Path(file).stem: entry["sha256"] for file, entry in json.loads(read_text(manifest))["files"].items()}
    records = [{k: v for k, v in record.items() if k not in TIMES} for _, record in run.records()]
    judged = {"model file": save(dict(load_bundle(run.bundle).state)), "records": json.dumps(records).encode()}
    return files | {name: hashlib.sha256(raw).hexdigest() for name, raw in judged.items()}
