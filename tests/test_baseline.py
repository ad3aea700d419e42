"""`tellapart baseline`: each classifier against scikit-learn, what the features are, and that the test is sealed."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from bodies import NET, write_body
from commands import Done, tellapart
from pictures import make_folder
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from tellapart.evaluation.intervals import wilson
from tellapart.models import pretrained
from tellapart.workflow.baseline import linear, nearest, nearest_mean

WAYS = {"majority", "nearest mean", "5 nearest", "linear probe"}


def some(seed: int, *, n: int = 240, width: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (n width) of three classes that overlap, and their labels."""
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, 3, n)
    centres = np.random.default_rng(9).normal(size=(3, width)) * 0.5
    return torch.from_numpy((centres[labels] + chance.normal(size=(n, width))).astype("f4")), torch.from_numpy(labels)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_classifiers_are_those_of_scikit_learn(seed: int) -> None:
    (known, labels), (asked, _) = some(seed), some(100 + seed, n=1300)
    neighbours = KNeighborsClassifier(5, metric="cosine", algorithm="brute").fit(known.double(), labels)
    assert nearest(known, labels, asked, classes=3).tolist() == neighbours.predict(asked.double()).tolist()
    centroid = NearestCentroid().fit(known.double(), labels)
    assert nearest_mean(known, labels, asked, classes=3).tolist() == centroid.predict(asked.double()).tolist()
    guesses = linear(known, labels, asked, None, classes=3).numpy()
    shallow = LogisticRegression(C=1.0, max_iter=1000).fit(known, labels)
    assert (guesses == shallow.predict(asked)).mean() > 0.97  # another penalty, nearly the same line


def test_with_fewer_pictures_than_neighbours_all_of_them_vote() -> None:
    known, labels = torch.eye(3), torch.tensor([1, 0, 1])
    assert nearest(known, labels, torch.eye(3)[:1], classes=2).tolist() == [1]


def baseline(at: Path, *words: str) -> dict:
    done = tellapart(at, "baseline", *words, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def parted(at: Path, name: str) -> Path:
    return make_folder(at / name, parts=("train", "val", "test"), per_class=10)


def test_every_classifier_has_its_accuracy_with_n_and_interval_and_the_best_is_first(tmp_path: Path) -> None:
    parted(tmp_path, "pets")
    found = baseline(tmp_path, "pets")
    assert {one["about"] for one in found["figures"]} == WAYS == set(found["seconds"])
    values = [one["value"] for one in found["figures"]]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.9
    by_name = {one["about"]: one for one in found["figures"]}
    assert by_name["majority"]["value"] == pytest.approx(1 / 3)
    for one in found["figures"]:
        assert (one["part"], one["n"]) == ("validation", 30)
        assert (one["low"], one["high"]) == wilson(round(one["value"] * 30), 30)
    assert found["features"].startswith("the grey values of a copy of 12 x 12 pixels: no pretrained weights are here")
    assert not (tmp_path / "runs").exists()


def test_test_pictures_have_no_say(tmp_path: Path) -> None:
    parted(tmp_path, "pets")
    before = baseline(tmp_path, "pets")
    (tmp_path / "pets/test/cat").rename(tmp_path / "pets/test/away")
    (tmp_path / "pets/test/dog").rename(tmp_path / "pets/test/cat")
    (tmp_path / "pets/test/away").rename(tmp_path / "pets/test/dog")
    assert baseline(tmp_path, "pets")["figures"] == before["figures"]
    (tmp_path / "pets/val/cat").rename(tmp_path / "pets/val/away")
    (tmp_path / "pets/val/dog").rename(tmp_path / "pets/val/cat")
    (tmp_path / "pets/val/away").rename(tmp_path / "pets/val/dog")
    assert baseline(tmp_path, "pets")["figures"] != before["figures"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_body(tmp_path_factory.mktemp("weights") / "body.safetensors")


def small(at: Path, *words: str) -> Done:
    return tellapart(at, "baseline", "pets", "--set", "input.size=32", *words)


def test_features_are_those_of_the_weights_given_or_at_hand(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parted(tmp_path, "pets")
    given = small(tmp_path, "--weights", str(weights))
    assert given.code == 0, given.err
    assert given.out.startswith(
        f"features: 1,024 numbers a picture, of {NET}, body.safetensors; of 30 training pictures\n"
    )
    assert given.out.splitlines()[-1].startswith("what training has to beat: ")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:8]
    monkeypatch.setattr(pretrained, "AT_HAND", {f"{NET}-{digest}.safetensors": (NET, 100)})
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert "no pretrained weights are here" in small(tmp_path).out
    pretrained.checkpoints().mkdir(parents=True)
    (pretrained.checkpoints() / f"{NET}-{digest}.safetensors").write_bytes(weights.read_bytes())
    found = small(tmp_path)
    assert f"of {NET}, {NET}-{digest}.safetensors; of 30" in found.out
    assert figures_of(found) == figures_of(given)


def figures_of(done: Done) -> list[str]:
    return sorted(line.rpartition(")")[0] for line in done.out.splitlines() if "(n = " in line)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--model", NET), 2, f"--model {NET} says of which network --weights is, and there is none."),
        (("--weights", "none.pth"), 4, "There is no file none.pth"),
        (("--weights", "default", "--model", "small"), 2, "There are no published weights for small."),
    ],
)
def test_mistakes_of_the_hand(tmp_path: Path, words: tuple[str, ...], code: int, said: str) -> None:
    parted(tmp_path, "pets")
    done = small(tmp_path, *words)
    assert (done.code, said in done.err) == (code, True), done.err
