"""The wheel: built twice it has one hash; importing it opens no file, socket or process of its own."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BUILD = (".gitignore", "LICENSE", "README.md", "pyproject.toml")
LIBRARIES = "import click, numpy, PIL.Image, rich, safetensors.torch, simplejpeg, torch, torchvision"
"""What these do when they are loaded is theirs: torch reads its memory map, and for CUDA it may ask ldconfig."""

WATCHING = """
import json, os, runpy, sys
{before}
seen = []
ours = tuple(os.path.join(place, "") for place in (sys.prefix, sys.base_prefix, {site!r}))
refused = "socket.", "subprocess.", "shutil.", "tempfile.", "urllib.", "http."
refused += "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.remove", "os.rename", "os.mkdir"

def watch(event, args):
    if event == "open":
        path, _, flags = args
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        if writes or not str(path).startswith(ours):
            seen.append("open " + str(path))
    elif event.startswith(refused):
        seen.append(event)

sys.addaudithook(watch)
code = 0
try:
    {work}
except SystemExit as end:
    code = end.code
found = list(seen)
print("\\n" + json.dumps([code, found, sys.modules["tellapart"].__file__, "torch" in sys.modules]))
"""


def copied(to: Path, *, mask: int, at: int) -> Path:
    """The source tree as someone else has it: other permissions, other times, another folder."""
    to.mkdir(parents=True)
    for name in BUILD:
        shutil.copyfile(ROOT / name, to / name)
    shutil.copytree(ROOT / "src", to / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for path in [to, *to.rglob("*")]:
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)
        os.utime(path, (at, at))
    return to


def built(tree: Path, out: Path, **environment: str) -> Path:
    """The wheel of a tree, built without a network."""
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    env = {key: value for key, value in os.environ.items() if key != "SOURCE_DATE_EPOCH"} | environment
    done = subprocess.run(words, cwd=tree, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("wheel")
    return built(copied(at / "tree", mask=0o022, at=1_700_000_000), at / "out")


def test_built_twice_it_has_one_hash(wheel: Path, tmp_path: Path) -> None:
    other = built(copied(tmp_path / "a" / "deeper tree", mask=0o077, at=1_000_000_000), tmp_path / "out")
    assert hashlib.sha256(other.read_bytes()).digest() == hashlib.sha256(wheel.read_bytes()).digest()
    dated = [built(tmp_path / "a/deeper tree", tmp_path / name, SOURCE_DATE_EPOCH="1700000000") for name in "bc"]
    assert dated[0].read_bytes() == dated[1].read_bytes() != wheel.read_bytes()  # the date that is asked for


def test_it_holds_the_sources_and_nothing_else(wheel: Path) -> None:
    tracked = subprocess.run(["git", "ls-files", "src"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    with zipfile.ZipFile(wheel) as opened:
        held = {name for name in opened.namelist() if not name.startswith("tellapart-")}
    here = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*") if path.is_file()}
    assert held == {name for name in here if "__pycache__" not in name}
    assert {name.removeprefix("src/") for name in tracked.split()} <= held


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the wheel is installed: as an installer unpacks it."""
    at = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(at)
    return at


def watched(site: Path, cwd: Path, work: str, before: str = "") -> tuple[int, list[str], bool]:
    """The exit code of some work with the wheel in a fresh process, what it opened, and whether torch was loaded."""
    text = WATCHING.format(work=work, before=before, site=str(site))
    env = {**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", text], cwd=cwd, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    code, seen, file, torch = json.loads(done.stdout.splitlines()[-1])
    assert Path(file).is_relative_to(site)
    assert list(cwd.iterdir()) == []
    return code or 0, seen, torch


def command(word: str) -> str:
    return f"sys.argv[1:] = [{word!r}]; runpy.run_module('tellapart', run_name='__main__')"


VERBS = "from tellapart.cli import VERBS, group; [group.get_command(None, verb).params for verb in VERBS]"
NAMES = "import tellapart; [getattr(tellapart, name) for name in tellapart.__all__]"
EVERY = (
    "import importlib, pkgutil, tellapart; [importlib.import_module(one.name) for one in "
    "pkgutil.walk_packages(tellapart.__path__, 'tellapart.') if not one.name.endswith('__main__')]"
)


@pytest.mark.parametrize("work", ["import tellapart", command("--version"), command("--help"), VERBS])
def test_a_start_opens_nothing_and_needs_no_torch(site: Path, tmp_path: Path, work: str) -> None:
    assert watched(site, tmp_path, work) == (0, [], False)


@pytest.mark.parametrize("work", [NAMES, EVERY])
def test_importing_opens_nothing_beside_what_libraries_do(site: Path, tmp_path: Path, work: str) -> None:
    assert watched(site, tmp_path, work, before=LIBRARIES) == (0, [], True)


@pytest.mark.parametrize(
    ("planted", "told"),
    [
        ("import tellapart; open(os.devnull, 'w')", "open /dev/null"),
        ("import tellapart; open('/etc/hosts')", "open /etc/hosts"),
        ("import tellapart, socket; socket.socket().close()", "socket.__new__"),
        ("import tellapart, subprocess; subprocess.run(['true'])", "subprocess.Popen"),
        ("import tellapart; os.system('true')", "os.system"),
        ("import tellapart; os.waitpid(os.fork() or os._exit(0), 0)", "os.fork"),
    ],
)
def test_what_is_planted_is_caught(site: Path, tmp_path: Path, planted: str, told: str) -> None:
    assert told in watched(site, tmp_path, planted)[1]
