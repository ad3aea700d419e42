"""Pretrained weights by name: fetched once into torch's cache and proved by their hash, or a clear word; then used."""

import hashlib
import http.server
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import torch
from bodies import NET, write_body
from commands import tellapart, train
from pictures import make_folder
from safetensors.torch import load_file
from serving import serving

from tellapart.errors import StorageError
from tellapart.models import catalogue
from tellapart.models.bundle import load_bundle
from tellapart.models.pretrained import given
from tellapart.training.checkpoint import load_checkpoint

SMALL = ("pets", "--set", "input.size=32", "--no-test")
HEADED = (*SMALL, "--freeze", "body")


class Server(http.server.ThreadingHTTPServer):
    """Serves the file of weights; remembers what it was asked for."""

    raw, asked = b"", 0


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = cast(Server, self.server)
        server.asked += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(server.raw)))
        self.end_headers()
        self.wfile.write(server.raw)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `pets` of pictures and weights of a network, published as NET-HASH.safetensors below `mirror`."""
    at = tmp_path_factory.mktemp("named")
    make_folder(at / "pets")
    (at / "mirror").mkdir()
    write_body(at / "weights")
    name = f"{NET}-{hashlib.sha256((at / 'weights').read_bytes()).hexdigest()[:8]}.safetensors"
    (at / "weights").rename(at / "mirror" / name)
    return at


@pytest.fixture(scope="module")
def file(place: Path) -> Path:
    return next((place / "mirror").iterdir())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torch keeps what it fetches: empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def server(file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that is where the weights are published."""
    made = Server(("127.0.0.1", 0), Handler)
    made.raw = file.read_bytes()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    address = f"http://127.0.0.1:{made.server_address[1]}/{file.name}"
    monkeypatch.setattr(catalogue, "files", lambda: {file.name: (NET, address)})
    monkeypatch.setattr(catalogue, "default_file", lambda _: file.name)
    with serving(made):
        yield made


def test_weights_by_name_are_fetched_once_proved_and_recorded(
    place: Path, file: Path, cache: Path, server: Server
) -> None:
    done = train(place, "first", *HEADED, "--model", NET, "--weights", "default")
    assert (cache / file.name).read_bytes() == file.read_bytes()
    assert [path.name for path in cache.iterdir()] == [file.name]
    assert f"weights: {cache / file.name}" in done.err
    run = done.run("first")
    assert f'weights = "{file.name}"  # --weights: published by torchvision' in (run.folder / "recipe.toml").read_text()
    told = {"file": file.name, "sha256": hashlib.sha256(server.raw).hexdigest(), "licence": "not stated"}
    assert run.status()["weights"] == told
    assert load_bundle(run.bundle).origin["weights"] == run.status()["weights"]
    train(place, "second", *HEADED, "--weights", file.name)
    assert f'name = "{NET}"  # told from the weights' in (place / "runs/second/recipe.toml").read_text()
    assert server.asked == 1
    one, two = (load_bundle(place / "runs" / name / "model.safetensors").state for name in ("first", "second"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_file_that_is_not_the_published_one_is_refused(place: Path, file: Path, cache: Path, server: Server) -> None:
    server.raw = b"half" + server.raw[4:]
    done = tellapart(place, "train", *HEADED, "--model", NET, "--weights", "default")
    assert done.code == 3
    begins = hashlib.sha256(server.raw).hexdigest()[:8]
    assert f"is not the official file of the weights of {NET}: its sha256 begins with {begins}" in done.err
    assert list(cache.iterdir()) == []
    (cache / file.name).write_bytes(b"mine")
    done = tellapart(place, "train", *HEADED, "--model", NET, "--weights", "default")
    assert (done.code, "Move it away; it is fetched again." in done.err) == (3, True)
    assert (cache / file.name).read_bytes() == b"mine"
    with pytest.raises(StorageError, match="is not the published file: its sha256 is "):
        given(Path(file.name), "")
    shutil.copy(file, cache)
    assert given(Path(file.name), "").path == cache / file.name


def test_a_file_here_of_a_published_name_has_to_be_that_file(
    place: Path, file: Path, cache: Path, server: Server
) -> None:
    shutil.copy(file, place)
    train(place, "here", *HEADED, "--weights", "default", "--model", NET)
    assert (server.asked, cache.exists()) == (0, False)
    (place / file.name).write_bytes(b"other")
    for words in (("--weights", file.name), ("--weights", "default", "--model", NET)):
        done = tellapart(place, "train", *HEADED, *words)
        assert (done.code, f"--weights ./{file.name} takes one here as a file of yours" in done.err) == (3, True)
    done = tellapart(place, "train", *HEADED, "--weights", f"./{file.name}")
    assert (done.code, "is not a file of weights" in done.err) == (3, True)
    (place / file.name).unlink()


def test_without_a_network_it_says_which_file_to_put_where(
    place: Path, file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "files", lambda: {file.name: (NET, f"http://127.0.0.1:9/{file.name}")})
    done = tellapart(place, "train", *HEADED, "--weights", file.name, "--run", "offline")
    assert done.code == 3
    assert f"{file.name} could not be fetched. http://127.0.0.1:9/{file.name} cannot be reached: " in done.err
    assert f"put {file.name} into {cache} by hand: it is checked and used from there" in " ".join(done.err.split())
    assert "--weights FILE begins with any file at hand" in done.err
    assert not (place / "runs" / "offline").exists()
    shutil.copy(file, cache)
    train(place, "by-hand", *HEADED, "--weights", file.name)


def test_a_cache_that_cannot_be_written_is_said(place: Path, server: Server, cache: Path) -> None:
    cache.parent.parent.write_text("a file where the folder should be")
    done = tellapart(place, "train", *HEADED, "--model", NET, "--weights", "default")
    assert (done.code, "TORCH_HOME names another folder" in done.err) == (4, True)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--model", "small", "--weights", "default"), 2, "There are no published weights for small."),
        (("--weights", "resnet18"), 4, "`--model resnet18 --weights default` takes resnet18-f37072fd.pth."),
        (("--weights", "resnet34-333f7ec4.pth"), 4, "Published for resnet34: resnet34-b627a593.pth"),
        (("--weights", "defalt"), 4, "Did you mean default?"),
        (("--weights", "none", "--freeze", "body", "--epochs", "0"), 2, "0 epochs train nothing."),
    ],
)
def test_names_that_no_weights_have(place: Path, cache: Path, words: tuple[str, ...], code: int, said: str) -> None:
    done = tellapart(place, "train", *SMALL, *words, "--run", "wrong")
    assert (done.code, said in done.err) == (code, True), done.err
    assert not cache.exists()


def test_the_present_names_of_the_weights_are_known_and_old_ones_are_not() -> None:
    files = catalogue.files()
    for name, file in {
        "vgg16": "vgg16-397923af.pth",
        "resnet18": "resnet18-f37072fd.pth",
        "resnet34": "resnet34-b627a593.pth",
        "resnet50": "resnet50-11ad3fa6.pth",
        "resnet101": "resnet101-cd907fc2.pth",
    }.items():
        assert files[file][0] == name
        assert files[file][1].endswith(f"/{file}")
        assert catalogue.default_file(name) == file
    assert {"resnet50-0676ba61.pth", "resnet101-63fe2227.pth"} < set(files)
    old = ("resnet50-19c8e357.pth", "resnet34-333f7ec4.pth", "resnet101-5d3b4d8f.pth")
    assert not files.keys() & {*old, "vgg16_features-amdegroot-88682ab5.pth"}


def test_fine_tuning_begins_with_the_present_weights(place: Path, file: Path) -> None:
    begun = load_file(file)
    train(
        place, "all", *SMALL, "--weights", str(file), "--epochs", "1", "--lr", "1e-30", "--set", "augment.preset=none"
    )
    last = load_checkpoint(sorted((place / "runs/all/checkpoints").glob("step-*"))[-1]).model
    body = [name for name in begun if name.endswith((".weight", ".bias")) and not name.startswith("classifier.3.")]
    assert len(body) > 100
    assert all(torch.allclose(last[name], begun[name], rtol=0, atol=1e-20) for name in body)
    train(place, "fresh", *SMALL, "--model", NET, "--weights", "none", "--epochs", "1", "--lr", "1e-30")
    fresh = load_checkpoint(sorted((place / "runs/fresh/checkpoints").glob("step-*"))[-1]).model
    assert not torch.equal(fresh[body[0]], begun[body[0]])
    assert json.loads((place / "runs/fresh/status.json").read_text()).get("weights") is None
