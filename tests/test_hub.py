"""hub:FOLDER:ENTRY, a network that a repository makes: only where its code is allowed, and only what trained it."""

import subprocess
from pathlib import Path

import pytest
import torch
from commands import process, tellapart, train

from tellapart.models.allowed import ALLOWED, allow_code
from tellapart.models.bundle import load_bundle
from tellapart.models.hub import build_hub

CONF = """\
from pathlib import Path
Path("ran").touch()
from parts_of_this_repository import Net as _Net
dependencies = ["torch"]
def net(num_classes=10, channels=3, pretrained=True):
    assert not pretrained
    return _Net(channels, num_classes)
def open_ended(**more):
    return _Net(1, more["num_classes"])
def no_network(num_classes):
    return num_classes
def broken():
    from parts_of_this_repository import absent
"""
PARTS = """\
from torch import nn
class Net(nn.Sequential):
    def __init__(self, channels, classes):
        body = nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        super().__init__(*body, nn.Linear(16, classes))
"""


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(ALLOWED, "")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    repository(tmp_path / "repo")
    return tmp_path


def repository(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "hubconf.py").write_text(CONF)
    (folder / "parts_of_this_repository.py").write_text(PARTS)


WORDS = ("digits", "--limit", "120", "--epochs", "1", "--model")
ALLOW = ("--code", "repo/hubconf.py")


def test_to_name_it_is_not_to_allow_it(at: Path) -> None:
    done = tellapart(at, "train", *WORDS, "hub:repo:net")
    assert done.code == 2
    assert "hub:repo:net is made by a Python file, and such a file runs only when you name it yourself." in done.err
    assert "tellapart --code " in done.err
    assert not (at / "ran").exists()


def test_it_trains_is_used_and_its_code_is_asked_for_each_time(at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = tellapart(at, *ALLOW, "train", *WORDS, "hub:repo:net", "--run", "a")
    assert done.code == 0, done.err
    assert tellapart(at, *ALLOW, "verify", "a").code == 0
    monkeypatch.setenv(ALLOWED, "")
    (at / "ran").unlink()
    refused = tellapart(at, "verify", "a")
    assert (refused.code, "runs only when you name it yourself" in refused.err) == (2, True)
    bundle = load_bundle(at / "runs/a/model.safetensors")
    assert len(bundle.architecture.sha256) == 64
    (at / "repo/parts_of_this_repository.py").write_text(PARTS + "\n# changed\n")
    words, environment = process(*ALLOW, "verify", "a")  # this process has run the old code, and keeps it
    other = subprocess.run(words, cwd=at, env=environment, capture_output=True, text=True, check=False)
    assert other.returncode == 2
    assert "is not the file that hub:repo:net was trained with" in other.stderr
    assert not (at / "ran").exists()


def test_what_torch_hub_has_fetched_is_found_by_owner_and_name(at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = at / "torch/hub/someone_nets_main"
    repository(fetched)
    monkeypatch.chdir(at)
    allow_code(fetched / "hubconf.py")
    network = build_hub("hub:someone/nets:open_ended", "", {"channels": 1, "num_classes": 7, "size": 8})
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 7)


def test_two_repositories_whose_files_have_one_name_do_not_mix(at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(at / "other")
    (at / "other/parts_of_this_repository.py").write_text(
        PARTS.replace("4, 3", "8, 3").replace("16, classes", "32, classes")
    )
    monkeypatch.chdir(at)
    counts = []
    for folder in ("repo", "other"):
        allow_code(at / folder / "hubconf.py")
        network = build_hub(f"hub:{folder}:net", "", {"channels": 1, "num_classes": 2, "size": 8})
        counts.append(sum(weights.numel() for weights in network.parameters()))
    assert counts == [4 * 9 + 4 + 16 * 2 + 2, 8 * 9 + 8 + 32 * 2 + 2]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hub:someone/absent:net", "git clone https://github.com/someone/absent"),
        ("hub:nowhere:net", "There is no hubconf.py in nowhere."),
        ("hub:repo", "hub:repo names no repository, or none of its entries; expected hub:FOLDER:ENTRY."),
        ("hub:repo:nett", "has no entry nett.\nhint: Did you mean 'net'?"),
        ("hub:repo:_Net", "has no entry _Net."),
        ("hub:repo:no_network", "gives a int; expected a torch.nn.Module."),
        ("hub:repo:broken", "fails: ImportError: cannot import name 'absent'"),
    ],
)
def test_what_cannot_be_is_said(at: Path, name: str, said: str) -> None:
    done = tellapart(at, *ALLOW, "train", *WORDS, name)
    assert (done.code, said in done.err) == (2, True), done.err
    assert "Traceback" not in done.err


def test_a_folder_is_no_file_and_the_hint_names_its_hubconf(at: Path) -> None:
    done = tellapart(at, "--code", "repo", "train", *WORDS, "hub:repo:net")
    assert done.code == 2
    assert "It is a folder. For hub:FOLDER:ENTRY name its hubconf.py: --code repo/hubconf.py." in done.err
    (at / "empty").mkdir()
    done = tellapart(at, "--code", "empty", "train", *WORDS, "hub:repo:net")
    assert (done.code, "It is a folder, and has no hubconf.py; name a file in it." in done.err) == (2, True)
    assert not (at / "ran").exists()


def test_a_network_of_ones_own_still_runs_because_it_was_named(at: Path) -> None:
    (at / "net.py").write_text(
        PARTS.replace("channels, classes", "channels, num_classes").replace("16, classes", "16, num_classes")
    )
    assert train(at, "b", *WORDS, "net.py:Net").code == 0
