"""The lock file: every dependency pinned and hashed, no address in it."""

import re
import tomllib
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[1]
LOCK = HERE / "requirements" / "lock.txt"
PIN = re.compile(r"(?P<name>[a-z0-9.-]+)==(?P<version>[^ ;]+)(?P<rest>.*)")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def plain(requirement: str) -> str:
    """The name of a requirement, as the index spells it: `pyright[nodejs]>=1.1` is `pyright`."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None, requirement
    return re.sub(r"[-_.]+", "-", name.group()).lower()


def wanted() -> list[str]:
    project = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))
    return [plain(entry) for entry in [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]]


@pytest.fixture(scope="module")
def pins() -> list[re.Match[str]]:
    """One match for each pinned version: a requirement with its hashes on continued lines."""
    entries = LOCK.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    found = [PIN.fullmatch(entry) for entry in entries]
    assert None not in found, "a line that is no pin"
    return [match for match in found if match is not None]


def test_it_holds_no_address_and_no_option():
    text = LOCK.read_text(encoding="utf-8")
    assert "://" not in text
    assert "@" not in text
    assert not re.search(r"\b[a-z0-9-]+\.(org|com|net|io|cn|dev)\b", text)
    assert not [line for line in text.splitlines() if line.startswith("-")]
    assert LOCK.stat().st_size < 600_000


def test_every_pin_has_hashes_and_nothing_else(pins):
    for pin in pins:
        hashes = HASH.findall(pin["rest"])
        assert hashes, pin["name"]
        marker = HASH.sub("", pin["rest"]).strip()
        assert not marker or marker.startswith(";"), pin["name"]


@pytest.mark.parametrize("name", wanted())
def test_a_dependency_of_the_project_is_pinned(pins, name):
    assert name in {pin["name"] for pin in pins}


@pytest.mark.parametrize("name", ["torch", "torchvision"])
def test_torch_and_torchvision_have_one_version_for_all_systems(pins, name):
    assert [";" in pin["rest"] for pin in pins if pin["name"] == name] == [False]
