"""The training pictures nearest to others: the vote beside a verdict, and those of mistakes that a report shows."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import tellapart, train
from pictures import draw, make_folder
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier
from test_report import HOSTILE, Page, evidence, predicted
from test_transfer import NET, body_for
from torch import nn

from tellapart.data.augment import network_input
from tellapart.data.pictures import Pictures
from tellapart.data.seal import open_test
from tellapart.errors import Interrupted, StorageError
from tellapart.evaluation.alikes import Alike, Alikes
from tellapart.evaluation.looks import digest
from tellapart.evaluation.metrics import proportion
from tellapart.evaluation.predictions import Predictions
from tellapart.models.bundle import Bundle, load_bundle
from tellapart.models.zoo import build_torchvision
from tellapart.reporting.report import report
from tellapart.reporting.story import about
from tellapart.run import Run
from tellapart.workflow import alike as beside
from tellapart.workflow.alike import keep_alike
from tellapart.workflow.begin import recipe_of, same_pictures
from tellapart.workflow.heat import shown

OWN, BEGUN = "the 5 nearest by its own features", "the 5 nearest by pretrained features"


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of which some are under a wrong class, `body.pth`, and the runs own (its test is opened), sealed (that
    was not) and fitted (a head, on a body from the file).
    """
    folder = tmp_path_factory.mktemp("alike")
    make_folder(folder / "vague", classes=("a", "b", "c"), per_class=30, size=12)
    for n, path in enumerate(sorted((folder / "vague").rglob("*.png"))):
        if n % 5 == 0:
            Image.fromarray(draw(n % 4 % 3, 3, (5, n), 12)).save(path)
    drawn = np.stack([draw(k, 3, (0, k, n), 12) for k in range(3) for n in range(20)])
    torch.save(body_for(drawn).state_dict(), folder / "body.pth")
    train(folder, "own", "vague", "--model", "small", "--epochs", "3", "--batch-size", "16")
    train(folder, "sealed", "vague", "--model", "small", "--epochs", "3", "--batch-size", "16", "--no-test")
    train(folder, "fitted", "vague", "--weights", "body.pth", "--freeze", "body", "--set", "input.size=64")
    return folder


def naive(model: nn.Module, head: str, pictures: Pictures, part: str) -> tuple[np.ndarray, np.ndarray]:
    """What comes to a layer for every picture of a part, and their labels."""
    seen: list[np.ndarray] = []
    rows = pictures.index.rows(part)
    hook = model.get_submodule(head).register_forward_pre_hook(lambda _, given: seen.append(given[0].numpy()))
    with torch.no_grad():
        model.eval()(network_input(torch.tensor(pictures.pixels.gather(rows)), pictures.preprocess))
    hook.remove()
    return seen[0].reshape(len(rows), -1), pictures.index.labels[rows]


def opened(at: Path, name: str) -> tuple[Run, Pictures]:
    run = Run.open(at / "runs", name)
    return run, open_test(same_pictures(run, recipe_of(run)).pictures)


def told(run: Run) -> dict[tuple[str, str], float]:
    return {(one["about"], one["part"]): one["value"] for one in run.status()["baselines"]}


def voted(model: nn.Module, head: str, pictures: Pictures, part: str) -> float:
    known, labels = naive(model, head, pictures, "train")
    asked, true = naive(model, head, pictures, part)
    return float((KNeighborsClassifier(5, metric="cosine").fit(known, labels).predict(asked) == true).mean())


def test_the_vote_by_its_own_features_is_that_of_scikit_learn(at: Path) -> None:
    for name, part in (("own", "test"), ("sealed", "validation")):
        run, pictures = opened(at, name)
        head = Alikes.load(run.nearest(part), Predictions.load(run.predictions(part)))
        assert head is not None
        share = voted(load_bundle(run.bundle).module(), head.layer, pictures, part)
        assert told(run)[OWN, part] == pytest.approx(share, abs=1.01 / len(pictures.index.rows(part)))  # ties
        assert {part for about, part in told(run) if "features" in about} == {part}


def test_the_vote_by_the_features_that_training_began_with_stands_beside_the_test_too(at: Path) -> None:
    run, pictures = opened(at, "fitted")
    begun = build_torchvision(NET, 1000)
    begun.load_state_dict(torch.load(at / "body.pth", weights_only=True))
    n = len(pictures.index.rows("test"))
    assert told(run)[BEGUN, "test"] == pytest.approx(voted(begun, "classifier.3", pictures, "test"), abs=1.01 / n)
    assert (OWN, "test") not in told(run)  # its features are still those it began with


def moved(at: Path, tmp_path: Path) -> tuple[Run, Bundle, Pictures, Predictions]:
    """A copy of the fitted run whose body has moved since."""
    run, pictures = opened(at, "fitted")
    copy = Run(Path(shutil.copytree(run.folder, tmp_path / "runs" / "fitted")))
    bundle, said = load_bundle(run.bundle), Predictions.load(run.predictions("test"))
    state = {name: value * 1.5 if name == "features.0.0.weight" else value for name, value in bundle.state.items()}
    return copy, replace(bundle, state=state), pictures, said


def test_a_body_that_moved_is_asked_beside_the_one_it_began_as(
    at: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(at)  # the weights are named from here
    monkeypatch.setattr(beside, "_untouched", lambda run: False)
    run, bundle, pictures, said = moved(at, tmp_path)
    cpu = torch.device("cpu")
    found = {one.about: one for one in keep_alike(run, bundle, bundle.module(), pictures, said, cpu)}
    assert list(found) == [OWN, BEGUN]
    assert found[BEGUN].value == told(run)[BEGUN, "test"]
    share = voted(bundle.module(), "classifier.3", pictures, "test")
    assert found[OWN].value == pytest.approx(share, abs=1.01 / len(said))
    assert [one.about for one in keep_alike(run, bundle, bundle.module(), pictures, said, cpu, told=[OWN])] == [BEGUN]


@pytest.mark.parametrize("what", ["gone", "another"])
def test_weights_that_are_gone_or_others_are_not_asked(
    at: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(beside, "_untouched", lambda run: False)
    run, bundle, pictures, said = moved(at, tmp_path)
    assert run.status()["weights"]["sha256"] == hashlib.sha256((at / "body.pth").read_bytes()).hexdigest()
    if what == "another":
        torch.save(build_torchvision(NET, 1000).state_dict(), tmp_path / "body.pth")
    found = keep_alike(run, bundle, bundle.module(), pictures, said, torch.device("cpu"))
    assert [one.about for one in found] == [OWN]


def test_a_body_that_was_never_touched_needs_no_file_to_be_called_pretrained(
    at: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run, pictures = opened(at, "fitted")
    bundle, said = load_bundle(run.bundle), Predictions.load(run.predictions("test"))
    (found,) = keep_alike(run, bundle, bundle.module(), pictures, said, torch.device("cpu"))
    assert (found.about, found.value) == (BEGUN, told(run)[BEGUN, "test"])


def test_a_network_without_a_body_has_learned_no_features(at: Path) -> None:
    train(at, "linear", "vague", "--model", "linear", "--epochs", "1")
    assert not [about for about, _ in told(Run.open(at / "runs", "linear")) if "features" in about]
    assert not Run.open(at / "runs", "linear").nearest("test").exists()


def test_what_is_nearest_to_each_mistake_is_kept(at: Path) -> None:
    run, pictures = opened(at, "own")
    said = Predictions.load(run.predictions("test"))
    kept = Alikes.load(run.nearest("test"), said)
    assert kept is not None
    model, index = load_bundle(run.bundle).module(), pictures.index
    known, _ = naive(model, kept.layer, pictures, "train")
    asked, _ = naive(model, kept.layer, pictures, "test")
    rows = index.rows("train")
    assert (kept.compared, kept.train, kept.of) == (len(rows), len(rows), digest(said))
    assert shown(said)
    assert list(dict.fromkeys(one.row for one in kept.each)) == shown(said)
    for row in shown(said):
        mine = [one for one in kept.each if one.row == row]
        away = 1 - known @ asked[row] / np.linalg.norm(known, axis=1) / np.linalg.norm(asked[row])
        assert [one.distance for one in mine] == pytest.approx(sorted(away)[:5], abs=2e-3)  # halves of floats are kept
        for one in mine:
            at_row = list(index.keys).index(one.key)
            assert at_row in rows
            assert one.name == index.classes[index.labels[at_row]]
            (square,) = pictures.pixels.gather(np.array([at_row]))
            assert np.isin(one.small, square).all()


def test_few_are_compared_where_that_would_take_long_and_it_is_said(at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, pictures = opened(at, "own")
    bundle, said = load_bundle(run.bundle), Predictions.load(run.predictions("test"))
    monkeypatch.setattr(beside, "FEW", 0)
    monkeypatch.setattr(beside, "PART", 10)
    trained = run.status()["step"] * 16
    train = len(pictures.index.rows("train"))
    expected = len(range(0, train, -(-train // (trained // 10))))
    assert 5 < expected < train
    (found,) = keep_alike(run, bundle, bundle.module(), pictures, said, torch.device("cpu"))
    assert found.about == f"the 5 nearest of {expected} by its own features"
    again = Alikes.load(run.nearest("test"), said)
    assert again is not None
    assert (again.compared, again.train) == (expected, train)
    monkeypatch.undo()
    keep_alike(run, bundle, bundle.module(), pictures, said, torch.device("cpu"))


class Refusing(nn.Module):
    """A network that has a last layer, and answers one picture at a time only."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 3, 1)
        self.head = nn.Linear(3 * 12 * 12, 3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        if len(pixels) > 1:
            raise RuntimeError("one at a time")
        return self.head(self.body(pixels).flatten(1))


def test_a_network_that_refuses_costs_nothing_and_a_stop_is_obeyed(at: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(at / "runs/own", tmp_path / "runs/own"))
    _, pictures = opened(at, "own")
    run = Run(folder)
    run.nearest("test").unlink()
    bundle, said, cpu = load_bundle(run.bundle), Predictions.load(run.predictions("test")), torch.device("cpu")
    assert keep_alike(run, bundle, Refusing(), pictures, said, cpu) == []
    assert keep_alike(run, bundle, nn.Flatten(), pictures, said, cpu) == []
    assert not run.nearest("test").exists()
    state = {
        name: value * 1.01 if value.is_floating_point() else value for name, value in bundle.state.items()
    }  # whose features are not kept yet
    with pytest.raises(Interrupted):
        keep_alike(
            run, bundle, replace(bundle, state=state).module(), pictures, said, cpu, asked=lambda: Interrupted("x")
        )


# --- what is stored, and what a report makes of it --------------------------------------------------------------------


def some(shown: Predictions, names: tuple[str, ...] = ("class 0", "class 1")) -> Alikes:
    chance = np.random.default_rng(3)
    wrong = np.flatnonzero(shown.logits.argmax(1) != shown.labels)[:2].tolist()
    each = tuple(
        Alike(
            row=row,
            key=f"{names[n % len(names)]}/{n}.png",
            name=names[n % len(names)],
            distance=0.125 * n,
            small=chance.integers(0, 256, (8, 8, 3), np.uint8),
        )
        for row in wrong
        for n in range(len(names))
    )
    return Alikes(of=digest(shown), layer="classifier", compared=20, train=1_040, each=each)


def test_a_file_is_read_back_as_it_was_written_and_belongs_to_its_predictions(tmp_path: Path) -> None:
    said = predicted()
    mine = some(said)
    mine.save(tmp_path / "x")
    again = Alikes.load(tmp_path / "x", said)
    assert again is not None
    assert (again.of, again.layer, again.compared, again.train) == (mine.of, "classifier", 20, 1_040)
    for one, other in zip(mine.each, again.each, strict=True):
        assert (one.row, one.key, one.name, one.distance) == (other.row, other.key, other.name, other.distance)
        assert np.array_equal(one.small, other.small)
    assert Alikes.load(tmp_path / "x", predicted(seed=9)) is None
    assert Alikes.load(tmp_path / "nothing", said) is None
    for wrong in ({"row": 400}, {"row": -1}, {"distance": float("nan")}, {"small": np.zeros((8, 8), np.uint8)}):
        replace(mine, each=[replace(one, **wrong) for one in mine.each]).save(tmp_path / "y")
        with pytest.raises(StorageError, match="does not hold pictures that are alike"):
            Alikes.load(tmp_path / "y", said)
    (tmp_path / "x").write_bytes((tmp_path / "x").read_bytes()[:200])
    with pytest.raises(StorageError, match="does not hold pictures that are alike"):
        Alikes.load(tmp_path / "x", said)


def test_no_mistake_is_a_file_without_pictures(tmp_path: Path) -> None:
    said = predicted(right=1.0)
    replace(some(said), each=()).save(tmp_path / "x")
    again = Alikes.load(tmp_path / "x", said)
    assert again is not None
    assert again.each == ()
    assert "most like" not in report(evidence(said, alikes=again))


def test_the_report_shows_them_beside_the_mistake(tmp_path: Path) -> None:
    said = predicted()
    page = report(evidence(said, alikes=some(said)))
    part = page.split('<section id="mistakes"')[1].split("</section>")[0]
    assert part.count('class="alike"') == 2
    assert "20 of 1,040 training pictures were compared" in part
    assert "比较了 1,040 张训练图片中的 20 张" in part
    assert "class 1</bdi> 0.12<small>" in part or "class 1 0.12<small>" in part
    assert 'class="alike"' not in report(evidence(said))


def test_hostile_names_of_training_pictures_are_text(tmp_path: Path) -> None:
    said = predicted(210, len(HOSTILE), right=0.6, classes=HOSTILE)
    text = report(evidence(said, by=replace(said, part="validation"), alikes=some(said, HOSTILE)))
    assert text.encode("utf-8")
    assert "<script" not in text
    page = Page(text)
    assert not [key for _, attrs in page.tags for key in attrs if key.startswith("on")]


def test_a_vote_has_a_name_in_both_languages() -> None:
    named = {OWN: "按网络自身特征最近的 5 张投票", BEGUN: "按预训练特征最近的 5 张投票"}
    named["the 5 nearest small grey copies"] = "按缩小灰度图最近的 5 张投票"
    named["the 5 nearest of 1,234 by its own features"] = "1,234 张训练图中按网络自身特征最近的 5 张投票"
    for english, chinese in named.items():
        assert about(proportion("accuracy", 1, 2, "test", english)) == (english, chinese)


def test_the_story_says_what_the_features_alone_are_worth() -> None:
    simple = [proportion("accuracy", 390, 400, "test", OWN).to_json()]
    text = report(evidence(status={"baselines": simple}))
    assert f"the vote of {OWN} is right for 97.5\xa0%" in Page(text).words
    assert "不用最后一层" in text


def test_a_report_of_a_run_has_them_without_pictures_or_weights(at: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(at, tmp_path / "copy"))
    shutil.rmtree(copy / "vague")
    (copy / "runs/own/model.safetensors").unlink()
    done = tellapart(copy, "report", "own")
    assert done.code == 0, done.err
    text = (copy / "runs/own/report.html").read_text("utf-8")
    assert 'class="alike"' in text
    assert OWN in text
