"""Doctor: what is installed, what works, what is missing, and whether torch and torchvision belong together."""

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tellapart.run import cores

REQUIRED = ("torch", "torchvision", "numpy", "pillow", "simplejpeg", "safetensors", "tensorboard", "click", "rich")


@dataclass(frozen=True)
class Finding:
    """One thing the doctor looked at. `trouble` is empty when it is well, else says what to do."""

    name: str
    value: str
    trouble: str = ""


def examine() -> list[Finding]:
    """Everything the doctor looks at, in order. Imports torch last, and only if it is installed."""
    versions = {package: _version(package) for package in REQUIRED}
    return [*_system(), *_packages(versions), *pair(versions["torch"], _wanted_torch()), *_devices(), *_places()]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _system() -> list[Finding]:
    conda = os.environ.get("CONDA_DEFAULT_ENV")
    return [
        Finding("system", platform.platform()),
        Finding(
            "python",
            platform.python_version(),
            "" if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed.",
        ),
        Finding("executable", sys.executable),
        Finding("environment", f"{sys.prefix}" + (f" (conda: {conda})" if conda else "")),
    ]


def _packages(versions: dict[str, str]) -> list[Finding]:
    return [
        Finding(package, version or "missing", "" if version else f"Install it: python3 -m pip install {package}")
        for package, version in versions.items()
    ]


def _wanted_torch() -> str:
    """What the installed torchvision says of torch in its own metadata: '==2.11.0' or '>=2.14.0'; '' when unknown."""
    try:
        needs = metadata.requires("torchvision") or []
    except metadata.PackageNotFoundError:
        return ""
    found = [re.match(r"torch\s*\(?((?:==|>=)\s*[0-9.]+)", need) for need in needs]
    return next((match.group(1).replace(" ", "") for match in found if match), "")


def pair(torch_version: str, wanted: str) -> list[Finding]:
    """Whether torch is one that torchvision was built for: `wanted` is '==2.11.0', '>=2.14.0', or '' when unknown."""
    if not torch_version or not wanted:
        return []
    plain = torch_version.split("+")[0]
    here, there = (tuple(int(n) for n in re.findall(r"\d+", v)[:3]) for v in (plain, wanted))
    fits = here == there if wanted.startswith("==") else here >= there
    trouble = f"torch {plain} is installed, this torchvision needs torch {wanted}: install them together."
    return [Finding("torch and torchvision", *(("belong together", "") if fits else ("mismatched", trouble)))]


def _devices() -> list[Finding]:
    try:
        import torch
    except ImportError:
        return []
    from tellapart.workflow import devices

    found = devices.available()
    cuda = torch.version.cuda or "none (a build for the CPU)"
    rows = [
        Finding("cuda available", str(torch.cuda.is_available())),
        Finding("cuda runtime of torch", cuda),
        Finding("driver", _driver()),
    ]
    for name in (name for name in found if name.startswith("cuda")):
        memory = torch.cuda.get_device_properties(name).total_memory / 1024**3
        rows.append(Finding(name, f"{torch.cuda.get_device_name(name)}, {memory:.0f} GiB"))
    return [*rows, Finding("cpu cores", str(cores())), Finding("device used", found[0])]


def _driver() -> str:
    """The NVIDIA driver's version, as nvidia-smi says it."""
    if shutil.which("nvidia-smi") is None:
        return "no NVIDIA driver: no GPU is used"
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return f"nvidia-smi failed: {error}"
    return said.splitlines()[0].strip() if said.strip() else "no GPU found"


def _places() -> list[Finding]:
    from tellapart.data.download import default_root

    free = shutil.disk_usage(Path.cwd()).free / 1024**3
    unwritten = "PYTHONDONTWRITEBYTECODE" in os.environ
    stale = "PYTHONDONTWRITEBYTECODE is set: every start compiles torch anew. Unset it."
    return [
        Finding("data folder", str(default_root())),
        Finding("free disk here", f"{free:.1f} GiB", "" if free > 1 else "Less than 1 GiB is free."),
        Finding("bytecode", *(("not written", stale) if unwritten else ("written", ""))),
    ]
