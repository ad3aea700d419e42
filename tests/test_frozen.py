"""Doubtful labels by the features of a pretrained network: given, at hand, kept, and only where they know better."""

import hashlib
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import tellapart
from PIL import Image
from safetensors.torch import load_file, save_file
from test_check_findings import barred, facts_of
from test_laws import called, loaded_by
from torchvision.models import get_model, get_model_weights

from tellapart.audit import labels
from tellapart.data.decode import decode
from tellapart.data.square import fitted
from tellapart.errors import DataError, StorageError, UsageError
from tellapart.models import pretrained
from tellapart.models.frozen import GUESSES, PREPROCESS, _shell, frozen
from tellapart.models.pretrained import AT_HAND, at_hand, checkpoints, given
from tellapart.names import TORCHVISION_MODELS

NAME = "squeezenet1_1"
WRONG = ("across/03.png", "down/17.png")
"""Moved to the other class in `spoiled`."""


def network(name: str = NAME) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return get_model(name).eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights: random features are features too."""
    path = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    save_file(network().state_dict(), path)
    return path


@pytest.fixture(autouse=True)
def own_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def stripes(root: Path, *, swapped: tuple[str, ...] = ()) -> Path:
    """Two classes of 32 pictures: fine stripes across or down, which a copy of 32 x 32 pixels does not show."""
    for n in range(64):
        rng, down = np.random.default_rng(n), n % 2
        field = np.kron(rng.integers(60, 160, (4, 4, 3)), np.ones((32, 32, 1))) + rng.integers(-12, 12, (128, 128, 3))
        wave = 45 * (-1) ** np.arange(128)
        field += wave[None, :, None] if down else wave[:, None, None]
        key = f"{('across', 'down')[down]}/{n // 2:02d}.png"
        at = root / (f"{('down', 'across')[down]}/x{n // 2:02d}.png" if key in swapped else key)
        at.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(field.clip(0, 255).astype(np.uint8)).save(at)
    return root


def labels_of(at: Path, *words: str) -> dict:
    done = tellapart(at, "check", "stripes", "--only", "labels", "--json", *words)
    assert done.code == 0, done.err
    return json.loads(done.out)


# --- the network -----------------------------------------------------------------------------------------------------


def test_the_features_are_those_of_the_network_before_its_head(weights):
    name, body = frozen(given(weights, ""))
    x = torch.rand(2, 3, 224, 224)
    whole = network()
    with torch.no_grad():
        expected = whole.get_submodule("features")(x).relu().mean((2, 3))
        assert name == NAME
        assert torch.allclose(body(x), expected, atol=1e-4)


def test_a_head_may_be_missing_or_of_other_classes_and_nothing_else(tmp_path, weights):
    state = load_file(weights)
    cases = {"features only": {k: v for k, v in state.items() if k.startswith("features")}}
    cases["seven classes"] = {**state, "classifier.1.weight": torch.ones(7, 512, 1, 1)}
    for name, changed in cases.items():
        save_file(changed, tmp_path / f"{name}.safetensors")
        assert frozen(given(tmp_path / f"{name}.safetensors", ""))[0] == NAME
    first = "features.0.weight"
    wrong = {
        "features.0.weight is not there": {k: v for k, v in state.items() if k != first},
        r"it has no more\.weight": {**state, "more.weight": torch.ones(2)},
        r"features.0.weight is \(1, 3\) where it has \(64, 3, 3, 3\)": {**state, first: torch.ones(1, 3)},
        "holds numbers that are not finite": {**state, first: state[first] * torch.inf},
        r"features\.0\.weight holds int64 where it has fl": {**state, first: state[first].long()},
        r"features\.0\.weight holds complex64 where it ": {**state, first: state[first].to(torch.complex64)},
    }
    for told, changed in wrong.items():
        save_file(changed, tmp_path / "wrong.safetensors")
        with pytest.raises(DataError, match=told):
            frozen(given(tmp_path / "wrong.safetensors", NAME))


def test_what_fits_no_network_is_asked_for_and_another_name_is_refused(tmp_path, weights):
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors")
    with pytest.raises(DataError, match=r"Of which network .* cannot be told. Name a torchvision classifier"):
        frozen(given(tmp_path / "a.safetensors", ""))
    lost = {key: value for key, value in load_file(weights).items() if key != "features.3.squeeze.bias"}
    save_file(lost, tmp_path / "lost.safetensors")
    with pytest.raises(
        DataError, match=rf"be told\. The nearest is {NAME}, .*: features\.3\.squeeze\.bias is not there"
    ):
        frozen(given(tmp_path / "lost.safetensors", ""))
    told = r"resnet18: it has no \S+, nor \d+ more, and conv1\.weight is not there, nor are \d+ more"
    with pytest.raises(DataError, match=rf"{told}\. It fits {NAME}: give --model {NAME}; without --model"):
        frozen(given(weights, "resnet18"))
    with pytest.raises(DataError, match=r"does not fit resnet18: .*\. Another --model may; without --model"):
        frozen(given(tmp_path / "lost.safetensors", "resnet18"))
    with pytest.raises(UsageError, match=r"Unknown pretrained model 'resnet81'. Did you mean 'resnet18'"):
        given(weights, "resnet81")
    with pytest.raises(StorageError, match=r"none.pth cannot be read: No such file or directory. Check the path."):
        given(tmp_path / "none.pth", "")


def test_no_two_networks_that_are_guessed_have_the_same_tensors():
    assert set(GUESSES) <= set(TORCHVISION_MODELS)
    shapes = {str([(k, v.shape) for k, v in _shell(name)[0].state_dict().items()]) for name in GUESSES}
    assert len(shapes) == len(GUESSES)


@pytest.mark.parametrize(
    ("name", "head"), [("resnet18", "fc."), ("regnet_y_400mf", "fc."), ("vit_b_32", "heads.head.")]
)
def test_the_head_is_the_last_layer_and_the_random_state_is_left_alone(name, head):
    before = torch.random.get_rng_state()
    assert _shell(name)[1] == head
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_pipe_or_a_device_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(StorageError, match=f"{path.name} is not a file. Check the path."):
            given(path, "")


# --- at hand ---------------------------------------------------------------------------------------------------------


def test_the_table_of_published_files_is_torchvisions():
    for file, (name, _) in AT_HAND.items():
        assert file in {Path(one.url).name for one in get_model_weights(name)}


def test_torch_keeps_its_files_where_they_are_looked_for(tmp_path, monkeypatch):
    for home in ({"TORCH_HOME": "/a b"}, {"XDG_CACHE_HOME": str(tmp_path)}, {}):
        for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in home.items():
            monkeypatch.setenv(name, value)
        assert checkpoints() == Path(torch.hub.get_dir()) / "checkpoints"


def published(monkeypatch: pytest.MonkeyPatch, weights: Path, *, most: int = 100, spoiled: bool = False) -> Path:
    """Weights in torch's own folder under a name that tells their digest, as the only published file."""
    raw = weights.read_bytes()
    path = checkpoints() / f"{NAME}-{hashlib.sha256(raw).hexdigest()[:8]}.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(raw + b"\0" * spoiled)
    monkeypatch.setattr(pretrained, "AT_HAND", {path.name: (NAME, most)})
    return path


def test_nothing_is_at_hand_in_an_empty_folder():
    assert at_hand(100) == (None, ())


def test_a_published_file_is_taken_when_it_is_whole_and_quick_enough(monkeypatch, weights):
    path = published(monkeypatch, weights)
    found, said = at_hand(100)
    assert (found and (found.path, found.name), said) == ((path, NAME), ())
    assert at_hand(101) == (
        None,
        (f"{path} is at hand and would take long for 101 pictures; --weights uses it",),
    )
    path.write_bytes(path.read_bytes() + b"\0")
    found, (said,) = at_hand(100)
    assert found is None
    assert f"{path} is not the published file" in said


# --- the check -------------------------------------------------------------------------------------------------------


def test_planted_swaps_are_found_by_frozen_features_and_clean_pictures_are_not_doubted(tmp_path, weights):
    stripes(tmp_path / "stripes")
    clean = labels_of(tmp_path, "--weights", str(weights))
    assert clean["findings"] == []
    judged = r"labels are judged by a classifier on frozen features of squeezenet1_1, right for (9\d|100)\."
    assert re.match(judged, clean["said"][1])
    assert "a small classifier: " in clean["said"][1]
    stripes(tmp_path / "again" / "stripes", swapped=WRONG)
    (finding,) = labels_of(tmp_path / "again", "--weights", str(weights))["findings"]
    assert {key for key, _ in finding["files"]} == {"down/x03.png", "across/x17.png"}
    assert "2 of 64 labels contradicted by a classifier on frozen features of squeezenet1_1" in finding["title"]
    assert "n = 64 (a small classifier: " in finding["detail"]
    alone = labels_of(tmp_path / "again")["findings"]
    assert [one["kind"] for one in alone] == ["not-judged"]  # the small one knows nothing of fine stripes


def test_weights_that_too_few_pictures_leave_unused_are_not_passed_over_in_silence(tmp_path, weights):
    stripes(tmp_path / "stripes")
    for n in range(10, 32):
        (tmp_path / f"stripes/down/{n:02d}.png").unlink()
    told = f"labels are not judged, and {weights} is not used: that takes 50 whole pictures, 5 of each class"
    for _ in ("read", "read before"):
        assert labels_of(tmp_path, "--weights", str(weights))["said"][1].startswith(told)
    assert len(labels_of(tmp_path)["said"]) == 1


def test_weights_that_make_no_finite_numbers_of_pictures_are_refused(tmp_path, weights):
    stripes(tmp_path / "stripes")
    state = {key: value * 1e30 for key, value in load_file(weights).items()}
    save_file(state, tmp_path / "huge.safetensors")
    done = tellapart(tmp_path, "check", "stripes", "--only", "labels", "--weights", "huge.safetensors")
    assert (done.code, "huge.safetensors as squeezenet1_1 gives no finite numbers." in done.err) == (3, True)


def test_where_the_small_classifier_knows_better_it_is_used():
    images = [barred(n % 3, n) for n in range(60)]
    facts, units = facts_of(images, np.arange(60) % 3), np.arange(60)
    rng = np.random.default_rng(0)
    cases = {labels.SMALL: rng.random((60, 40)), f"{labels.FROZEN} net": np.eye(3)[np.arange(60) % 3]}
    for by, values in cases.items():
        doubts = labels.doubts(facts, units, lambda rows, v=values: ("net", v[rows].astype(np.float32)))
        assert doubts
        assert (doubts.by, doubts.hits, len(doubts.rows), len(doubts.others)) == (by, 60, 0, 1)
        assert list(labels.doubtful_labels(facts, doubts)) == []


def test_a_file_at_hand_is_used_without_a_flag_and_a_second_check_needs_no_torch(tmp_path, monkeypatch, weights):
    stripes(tmp_path / "stripes")
    path = published(monkeypatch, weights)
    first = labels_of(tmp_path)
    assert first["said"][1].endswith(f"the network's file is {path}")
    monkeypatch.setattr("tellapart.audit.frozen._made", lambda *_: pytest.fail("made again"))
    assert labels_of(tmp_path)["said"][1:] == first["said"][1:]
    monkeypatch.setattr(pretrained, "AT_HAND", {path.name: (NAME, 63)})
    assert labels_of(tmp_path)["said"][1:] == [
        f"{path} is at hand and would take long for 64 pictures; --weights uses it"
    ]
    assert "features                     1" in tellapart(tmp_path, "cache", "show").out
    assert "and sets of features removed." in tellapart(tmp_path, "cache", "clear", "--yes").out
    assert "features                     0" in tellapart(tmp_path, "cache", "show").out


def test_a_check_without_a_network_loads_no_torch(tmp_path):
    stripes(tmp_path / "stripes")
    code, modules = loaded_by(called("check", "stripes"), tmp_path)
    assert code == 0
    assert modules & {"torch", "torchvision"} == set()


def test_the_network_sees_what_any_network_sees(tmp_path, monkeypatch, weights):
    stripes(tmp_path / "stripes")
    seen = []
    blind = lambda x: seen.append(x) or x.mean((2, 3))  # noqa: E731 - one line says it
    monkeypatch.setattr("tellapart.models.frozen.frozen", lambda by: (NAME, blind))
    labels_of(tmp_path, "--weights", str(weights))
    raw = fitted(decode((tmp_path / "stripes" / "across" / "00.png").read_bytes()), PREPROCESS)
    expected = (raw / 255 - np.array(PREPROCESS.mean)) / np.array(PREPROCESS.std)
    assert np.allclose(seen[0][0].permute(1, 2, 0), expected, atol=1e-5)
    assert (sum(len(x) for x in seen), seen[0].shape[1:]) == (64, (3, 224, 224))


def test_flags_that_do_nothing_and_files_that_are_no_weights_are_refused_before_anything_is_read(tmp_path, monkeypatch):
    stripes(tmp_path / "stripes")
    (tmp_path / "w.pth").write_bytes(b"not weights")
    monkeypatch.setattr("tellapart.workflow.check.scan", lambda *_, **__: pytest.fail("read"))
    for words, code, told in (
        (("--model", "resnet18"), 2, "--model resnet18 says of which network --weights is, and there is none."),
        (("--weights", "w.pth", "--only", "files"), 2, "--weights judges labels, which --only leaves out."),
        (("--weights", "w.pth", "--model", "resnet81"), 2, "Did you mean 'resnet18'?"),
        (("--weights", "none.pth"), 4, "none.pth cannot be read: No such file or directory."),
        (("--weights", "w.pth"), 3, "w.pth is not a file of weights: it begins with 6e 6f 74 20 77 65 69 67."),
    ):
        done = tellapart(tmp_path, "check", "stripes", *words)
        assert (done.code, told in done.err) == (code, True), done.err


def test_a_picture_that_changed_since_it_was_read_is_an_error(tmp_path, monkeypatch, weights):
    stripes(tmp_path / "stripes")
    monkeypatch.setattr("tellapart.audit.labels.judged", lambda facts, most: np.arange(64))
    from tellapart.audit import frozen as looking

    made = looking._made

    def changed(*words):
        Image.new("RGB", (9, 9)).save(tmp_path / "stripes" / "across" / "00.png")
        return made(*words)

    monkeypatch.setattr(looking, "_made", changed)
    done = tellapart(tmp_path, "check", "stripes", "--weights", str(weights))
    assert (done.code, "across/00.png has changed since it was first read" in done.err) == (3, True)
