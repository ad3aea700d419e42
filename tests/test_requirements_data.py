"""Promises of docs/requirements.csv on pictures, their labels and their parts that no other file shows."""

import csv
import doctest
import io
import json
import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Done, tellapart, train
from pictures import draw, make_folder
from PIL import Image
from test_requirements import pieces_on
from torchvision.transforms import ToTensor

from tellapart import Recipe, from_arrays
from tellapart.data.augment import network_input
from tellapart.data.decode import decode
from tellapart.data.given import picture_of
from tellapart.data.square import coloured, fitted
from tellapart.errors import DataError
from tellapart.models.bundle import load_bundle
from tellapart.preprocess import Preprocess
from tellapart.training.checkpoint import Position
from tellapart.training.fit import Epoch, fit
from tellapart.training.losses import make_loss
from tellapart.workflow.predict import Classifier, probabilities

ROOT = Path(__file__).parent.parent
BREEDS = ("beagle", "chow", "pug")
QUICK = ("--model", "linear", "--epochs", "1", "--batch-size", "8")


def counts(done: Done) -> dict[str, int]:
    """The classes that `data show` prints, with their numbers of pictures."""
    assert done.code == 0, done.err
    return {name: int(n) for name, n in re.findall(r"^ +\d  (\S+) +(\d+)$", done.out, re.M)}


def save(path: Path, k: int, n: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw(k, 3, (k, n), 12)).save(path)


@pytest.fixture(scope="module")
def breeds(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A model of three breeds, whose names stand in a CSV file."""
    at = tmp_path_factory.mktemp("breeds")
    cells = [(f"{name}-{n}", k, n, name) for k, name in enumerate(BREEDS) for n in range(12)]
    for key, k, n, _ in cells:
        save(at / "train" / f"{key}.png", k, n)
    lines = ["id,breed", *(f"{key},{name}" for key, _, _, name in reversed(cells))]
    (at / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    return train(at, "breeds", "labels.csv", *QUICK, "--no-test")


# --- labels -----------------------------------------------------------------------------------------------------------


def test_a_missing_label_file_is_the_one_that_is_named(tmp_path: Path) -> None:
    """S025: four pictures and three labels."""
    for n in range(4):
        save(tmp_path / f"pets/ants_image/{n}.jpg", n % 2, n)
    (tmp_path / "pets/ants_label").mkdir()
    for n in range(3):
        (tmp_path / f"pets/ants_label/{n}.txt").write_text(("ant", "bee")[n % 2])
    done = tellapart(tmp_path, "data", "show", "pets")
    assert (done.code, re.findall(r"\d\.jpg", done.err)) == (3, ["3.jpg"])
    (tmp_path / "pets/ants_label/3.txt").write_text("bee")
    assert counts(tellapart(tmp_path, "data", "show", "pets")) == {"ant": 2, "bee": 2}


def test_a_pattern_reads_the_class_from_each_name(tmp_path: Path) -> None:
    """S026: `cat.001.jpg` and `3_007.png` by one pattern."""
    for n in range(5):
        save(tmp_path / "pets" / (f"cat.{n:03d}.jpg" if n % 2 else f"3_{n:03d}.png"), n % 2, n)
    words = ("data", "show", "pets", "--labels", "filename", "--pattern", "(?P<label>[^._]+)")
    assert counts(tellapart(tmp_path, *words)) == {"3": 3, "cat": 2}


def test_labels_that_are_drawn_into_the_pixels_are_said_to_be_out_of_reach(tmp_path: Path) -> None:
    """S027: one line says what cannot be read, one what would work."""
    for n, name in enumerate(("ab", "cd", "ef", "gh")):
        save(tmp_path / "pets" / f"{name}.png", n % 2, n)
    for words in (("data", "show", "pets"), ("train", "pets")):
        done = tellapart(tmp_path, *words)
        assert (done.code, done.err.count("\n")) == (3, 2)
        assert "labels that are drawn into the pixels, or kept elsewhere, cannot be read" in done.err
        assert "list file and label in a CSV" in done.err


def test_both_maps_between_classes_and_numbers_of_a_table_are_kept(breeds: Done) -> None:
    """S028: number to name and back, in the model, in the split and in every answer."""
    bundle = load_bundle(breeds.run("breeds").bundle)
    assert bundle.classes == BREEDS
    with (breeds.run("breeds").folder / "split.csv").open(newline="") as file:
        assert {Path(row["key"]).name[:-4]: row["class"] for row in csv.DictReader(file)} == {
            f"{name}-{n}": name for name in BREEDS for n in range(12)
        }
    (said,) = json.loads(tellapart(breeds.at, "predict", "breeds", "train/pug-0.png", "--json").out)["predictions"]
    assert {(top["class"], top["index"]) for top in said["top"]} == {(name, k) for k, name in enumerate(BREEDS)}


def test_merging_two_of_three_classes_leaves_two(tmp_path: Path, class_folder: Path) -> None:
    """S045."""
    words = ("data", "show", str(class_folder), "--label-map", "cat=pet,dog=pet")
    assert counts(tellapart(tmp_path, *words)) == {"pet": 24, "fox": 12}
    assert len(counts(tellapart(tmp_path, *words[:3]))) == 3


# --- pixels and tensors -----------------------------------------------------------------------------------------------


def opened_by_opencv(path: Path) -> np.ndarray:
    """The array that `cv2.imread` gives, by OpenCV itself where it is installed."""
    try:
        return import_module("cv2").imread(str(path))
    except ImportError:
        return np.asarray(Image.open(path).convert("RGB"))[:, :, ::-1]


def test_a_red_picture_is_red_whoever_opened_it(tmp_path: Path, breeds: Done) -> None:
    """S052, S072: the array in BGR order gives the tensor, and the answer, of the file."""
    pixels = draw(1, 3, (1, 2), 12)
    pixels[..., 0] = 255
    Image.fromarray(pixels).save(tmp_path / "red.png")
    array = opened_by_opencv(tmp_path / "red.png")
    assert array[0, 0].tolist() == pixels[0, 0, ::-1].tolist()
    plain = Preprocess(size=12, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
    turned = picture_of(array, bgr=True).copy()
    made = network_input(torch.from_numpy(turned)[None], plain)[0]
    assert torch.allclose(made, ToTensor()(Image.open(tmp_path / "red.png")), atol=1e-6)
    assert not torch.allclose(made, ToTensor()(array.copy()), atol=0.1)
    index = from_arrays([array, array[:, ::-1]], [0, 1], bgr=True)
    assert np.array_equal(coloured(decode(index.store.read(0)), 3), pixels)
    bundle = load_bundle(breeds.run("breeds").bundle)
    guess = Classifier(bundle).predict(tmp_path / "red.png")
    shares = probabilities(bundle, ToTensor()(turned))
    assert {number: share for _, number, share in guess.top} == pytest.approx(dict(enumerate(shares.tolist())))


def test_a_model_takes_one_tensor_or_a_batch_and_says_what_it_cannot_take(breeds: Done) -> None:
    """S058, S064, S065."""
    bundle = load_bundle(breeds.run("breeds").bundle)
    images = [Image.fromarray(draw(k, 3, (5, k), 12)) for k in range(3)]
    batch = torch.stack([ToTensor()(image) for image in images])
    shares = probabilities(bundle, batch)
    assert (shares.shape, shares.sum(dim=1).tolist()) == ((3, 3), pytest.approx([1.0] * 3))
    assert probabilities(bundle, batch[0]).shape == (3,)
    assert torch.allclose(torch.stack([probabilities(bundle, one) for one in batch]), shares, atol=1e-6)
    for wrong, named in ((images[0], "an Image"), (np.asarray(images[0]), "a ndarray"), ("cat.png", "a str")):
        with pytest.raises(TypeError, match=r"Expected a float32 tensor .* as ToTensor gives; received a") as caught:
            probabilities(bundle, wrong)  # type: ignore[arg-type]
        assert str(caught.value).endswith(f"{named.replace('an', 'a')}.")
    with pytest.raises(TypeError, match=r"float32 tensor .* received a tensor of torch\.int64"):
        probabilities(bundle, (batch * 255).to(torch.int64))
    for wrong, said in (
        (batch[:, :1], r"Expected a picture \(3, 12, 12\), or a batch of such; received the shape \(3, 1, 12, 12\)"),
        (batch * 255, r"Expected values from 0 to 1; received .* to 2\d\d.*Leave Normalize out"),
        (batch * torch.nan, "received nan to nan"),
        (batch[0, 0], r"received the shape \(12, 12\)"),
    ):
        with pytest.raises(DataError, match=said):
            probabilities(bundle, wrong)


def test_the_examples_of_the_questions_are_true() -> None:
    """S057, S061, S062, S088, M018, M019, M090 …: every >>> of docs/faq.md is run."""
    found = doctest.testfile(str(ROOT / "docs" / "faq.md"), module_relative=False)
    assert (found.failed, found.attempted > 15) == (0, True)


def test_mean_and_deviation_are_measured_on_training_pictures_and_kept(tmp_path: Path) -> None:
    """S076: against a naive second opinion over the files of the training part; an even channel is left as it is."""
    root = make_folder(tmp_path / "pets", parts=("train", "val"))
    for path in root.rglob("*.png"):
        pixels = np.array(Image.open(path))
        pixels[..., 2] = 51
        Image.fromarray(pixels).save(path)
    bundle = load_bundle(train(tmp_path, "a", "pets", *QUICK, "--no-test").run("a").bundle)
    learned = np.stack([np.asarray(Image.open(path)) for path in (root / "train").rglob("*.png")]) / 255
    assert bundle.preprocess.mean == pytest.approx(learned.mean(axis=(0, 1, 2)), abs=1e-5)
    assert bundle.preprocess.std[:2] == pytest.approx(learned.std(axis=(0, 1, 2))[:2], abs=1e-5)
    assert (bundle.preprocess.mean[2], bundle.preprocess.std[2]) == (0.2, 1.0)
    said = json.loads(tellapart(tmp_path, "check", "pets", "--only", "statistics", "--json").out)
    (finding,) = [one for one in said["findings"] if one["kind"] == "statistics"]
    assert finding["numbers"]["mean"] == pytest.approx(bundle.preprocess.mean, abs=1e-3)
    assert finding["numbers"]["std"][2] == 0


@pytest.mark.parametrize(
    ("without", "with_it"),
    [
        (("--set", "input.normalize=none"), ("--set", "input.normalize=data")),
        (("--augment", "none"), ("--augment", "medium")),
    ],
    ids=["normalising", "augmentation"],
)
def test_runs_with_and_without_stand_beside_each_other(
    tmp_path: Path, class_folder: Path, without: tuple[str, ...], with_it: tuple[str, ...]
) -> None:
    """S077, S086: one table holds the score and the gap of both."""
    for name, more in (("without", without), ("with", with_it)):
        train(tmp_path, name, str(class_folder), *QUICK, *more, "--no-test")
    rows = json.loads(tellapart(tmp_path, "runs", "--json").out)["runs"]
    table = tellapart(tmp_path, "runs").out
    assert {row["name"] for row in rows} == {"with", "without"}
    assert len({row["gap"] for row in rows}) == 2
    assert all(re.search(rf"^{row['name']} .*{re.escape(format(row['gap'], '+.3f'))}", table, re.M) for row in rows)
    beside = tellapart(tmp_path, "compare", "without", "with").out.partition("how each fits:")[2]
    for row in rows:
        gap = r"training .* % \(n = \d+\), validation .* % \(n = \d+\), gap -?\d+\.\d points \[.*\]"
        assert re.search(rf"^  {row['name']} .*{gap}", beside, re.M), beside


def test_all_of_a_wide_picture_is_seen_when_it_is_padded(tmp_path: Path) -> None:
    """S088: two to one becomes the square with black bars above and below it."""
    for n in range(16):
        path = tmp_path / "wide" / "ab"[n % 2] / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 12, 3), 100 + n, np.uint8)).save(path)
    words = ("--set", "input.fit=pad", "--set", "input.size=12", "--no-test")
    bundle = load_bundle(train(tmp_path, "a", "wide", *QUICK, *words).run("a").bundle)
    square = fitted(decode((tmp_path / "wide/a/0.png").read_bytes()), bundle.preprocess)
    assert [row.max() for row in square] == [0] * 3 + [100] * 6 + [0] * 3
    assert (square[3:9] == 100).all()


# --- parts ------------------------------------------------------------------------------------------------------------


def test_the_split_is_three_lists_without_a_common_picture_and_of_every_class(tmp_path: Path) -> None:
    """S290: with shares and a seed; the same seed gives the same lists."""
    make_folder(tmp_path / "pets", per_class=40)
    shares = ("--set", "data.validation=0.1", "--set", "data.test=0.1")
    texts = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        words = ("split", "pets", *shares, "--set", f"data.split_seed={seed}", "--out", f"{name}.csv")
        assert tellapart(tmp_path, *words).code == 0
        texts.append((tmp_path / f"{name}.csv").read_text())
    assert (texts[0] == texts[1], texts[0] == texts[2]) == (True, False)
    rows = list(csv.DictReader(io.StringIO(texts[0])))
    parts = {part: {row["key"] for row in rows if row["part"] == part} for part in ("train", "validation", "test")}
    assert sorted(map(len, parts.values())) == [12, 12, 96]
    assert len(set.union(*parts.values())) == 120
    for part, share in (("train", 32), ("validation", 4), ("test", 4)):
        classes = [row["class"] for row in rows if row["part"] == part]
        assert {name: classes.count(name) for name in ("cat", "dog", "fox")} == dict.fromkeys(
            ("cat", "dog", "fox"), share
        )


def test_training_stops_when_the_loss_only_rises_and_keeps_its_minimum() -> None:
    """S291: a curve that falls and then rises while as many are right: patience 2 ends it after four epochs."""
    losses, offered = [0.9, 0.5, 0.7, 0.8, 0.4], []
    pieces = pieces_on()
    curve = iter(losses)
    records = fit(
        pieces.model,
        pieces.train,
        loss_function=make_loss(Recipe().loss),
        optimiser=pieces.optimiser,
        precision=pieces.precision,
        average=pieces.average,
        rate=lambda step: 0.01,
        judge=lambda model: (next(curve), 0.5, 10),
        plan=replace(pieces.plan, epochs=5, patience=2),
        keep=lambda kind, make: offered.append((kind, make().position)),
        asked=lambda: None,
        start=Position(),
    )
    epochs = [record for record in records if isinstance(record, Epoch)]
    assert [(one.val_loss, one.best) for one in epochs] == [(0.9, True), (0.5, True), (0.7, False), (0.8, False)]
    best = [position for kind, position in offered if kind == "best"][-1]
    assert (best.best_epoch, best.best_loss) == (1, min(losses[:4]))
