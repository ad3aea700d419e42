"""The picture of a confusion matrix and the numbers of the curves: by their pixels, by naive loops, by scikit-learn."""

import re

import numpy as np
import pytest
from PIL import Image, ImageDraw, features
from sklearn.metrics import precision_recall_curve

from tellapart.evaluation.predictions import Predictions
from tellapart.evaluation.thresholds import STEPS, at_thresholds, curves, worst_classes
from tellapart.figures import confusion as drawing
from tellapart.figures.confusion import RIGHT, WRONG, confusion_picture, shade
from tellapart.figures.letters import apart, cut, font_for, in_order, length, shortened, write

THRESHOLDS = np.linspace(0, 1, STEPS + 1)


def table(number: int, *, seed: int = 0, most: int = 30) -> np.ndarray:
    """Counts of which three in four are 0, more of them right than wrong."""
    chance = np.random.default_rng(seed)
    counts = chance.integers(0, most, (number, number)) * (chance.random((number, number)) < 0.25)
    return counts + 2 * most * np.eye(number, dtype=np.int64)


def names(number: int) -> list[str]:
    return [f"class {k}" for k in range(number)]


def cells(image: Image.Image, classes: list[str]) -> np.ndarray:
    """The part of a picture that is the matrix, as (K K cell cell 3)."""
    at, number = drawing._layout(classes), len(classes)
    side = number * at.cell
    part = np.asarray(image)[at.top : at.top + side, at.left : at.left + side]
    return part.reshape(number, at.cell, number, at.cell, 3).swapaxes(1, 2)


@pytest.mark.parametrize("number", [2, 3, 10, 37, 100, 101, 300])
def test_every_cell_has_the_colour_of_its_share(number: int) -> None:
    counts = table(number)
    tiles = cells(confusion_picture(counts, names(number), title="t"), names(number))
    for row in range(0, number, max(1, number // 20)):
        for column in range(0, number, max(1, number // 20)):
            deep = np.array(RIGHT if row == column else WRONG) - 255.0
            wanted = np.round(255 + (counts[row, column] / counts[row].sum()) ** 0.5 * deep)
            colours, often = np.unique(tiles[row, column].reshape(-1, 3), axis=0, return_counts=True)
            assert (colours[often.argmax()] == wanted).all(), (row, column)


def test_a_class_without_pictures_is_a_white_row() -> None:
    counts = table(4)
    counts[2] = 0
    tiles = cells(confusion_picture(counts, names(4), title="t"), names(4))
    assert (tiles[2] == 255).all()
    assert not (tiles[1] == 255).all()


@pytest.mark.parametrize(("number", "written"), [(2, True), (40, True), (100, True), (101, False)])
def test_counts_are_written_up_to_a_hundred_classes(number: int, written: bool) -> None:
    counts = 50 * np.eye(number, dtype=np.int64)
    counts[0, 1] = 7
    tiles = cells(confusion_picture(counts, names(number), title="t"), names(number))
    plain = [len(np.unique(tiles[at].reshape(-1, 3), axis=0)) == 1 for at in ((0, 0), (0, 1), (1, 0))]
    assert plain == [not written, not written, True]


@pytest.mark.parametrize("number", [2, 12, 60, 1000])
def test_the_picture_has_a_bounded_size_and_room_for_its_legend(number: int) -> None:
    long = ["a very long name of a class " * 9 + str(k) for k in range(number)]
    image = confusion_picture(table(number), long, title="t")
    assert 680 <= image.width <= 2800
    assert image.height <= 2800
    assert image.mode == "RGB"


def test_names_of_any_letters_are_drawn_and_long_ones_lose_their_middle() -> None:
    image = confusion_picture(table(3), ["短靴", "", "<b>né\\n</b>"], title="验证: n = 5")
    assert image.size[0] >= 680
    font = font_for("abc", 12)
    assert shortened("abc", font, 200) == "abc"
    short = shortened("abc" * 40 + "xyz", font, 60)
    assert re.fullmatch("abca?b?…[a-c]*xyz", short), short
    assert font.getlength(short) <= 60


def test_names_that_begin_alike_are_told_apart_in_rows_and_columns() -> None:
    long = [f"a butterfly of the family nymphalidae, {end}" for end in ("aglais", "apatura")]
    odd = [f"{k} of a family of butterflies {'and so on ' * 9}of the end" for k in ("one", "two")]
    odd = [f"the very same beginning of all {name}" for name in odd]
    for names_ in (long, odd):
        image = np.asarray(confusion_picture(table(2), names_, title="t"))
        at = drawing._layout(names_)
        rows = [image[at.top + k * at.cell : at.top + (k + 1) * at.cell, : at.left - 1] for k in range(2)]
        above = [image[: at.top - 1, at.left + k * at.cell : at.left + (k + 1) * at.cell] for k in range(2)]
        assert (rows[0] != rows[1]).any()
        assert (above[0][20:] != above[1][20:]).any()


def test_names_that_would_look_alike_have_their_number_in_front() -> None:
    def short(name: str) -> str:
        return cut(name, len, 9)

    assert [short(one) for one in ("cat", "exactly 9", "ten letter")] == ["cat", "exactly 9", "ten …tter"]
    found = apart(["begin and the end", "begin but the end", "other"], short)
    assert found == ["0 be… end", "1 be… end", "other"]
    assert apart([f"the same {k} the same" for k in range(300)], short)[299] == "299 …same"


def dark_columns(text: str) -> np.ndarray:
    """Where the letters of a line stand, in pixels from its left."""
    image = Image.new("L", (400, 60), 0)
    write(ImageDraw.Draw(image), (10, 10), text, font=font_for(text, 30), fill=255)
    return np.asarray(image).max(axis=0) > 128


@pytest.mark.parametrize("name", ["כלב גדול", "قطة سوداء", "ארנב"])
def test_a_number_stands_behind_a_name_that_runs_from_right_to_left(name: str) -> None:
    """What is drawn of the name alone is drawn first, also where a number follows."""
    if not features.check("raqm"):
        pytest.skip("Pillow without Raqm draws letters as they come")
    font = font_for(name, 30)
    alone = round(length(name, font))
    assert length(f"{name} 98 %", font) > alone + 40
    both, first = dark_columns(f"{name} 98 %"), dark_columns(name)
    assert (both[: 10 + alone] == first[: 10 + alone]).mean() > 0.98
    assert not first[12 + alone :].any()
    assert both[12 + alone :].any()
    assert in_order(f"is {name} (12)") == f"is {name}\u200e (12)"
    assert in_order("cat 98 %") == "cat 98 %"


def test_a_name_that_was_cut_runs_as_one() -> None:
    assert in_order("קטה…לבן 2") == "קטה…לבן\u200e 2"


def test_another_shape_is_refused() -> None:
    for counts, classes in ((table(3), names(4)), (table(1), names(1)), (np.zeros((2, 3), np.int64), names(2))):
        with pytest.raises(ValueError, match="Expected K K counts of K >= 2 classes"):
            confusion_picture(counts, classes, title="t")


def test_right_and_wrong_differ_in_blue_and_in_depth_for_people_who_confuse_red_and_green() -> None:
    for share in (0.05, 0.3, 1.0):
        blue, orange = (shade(np.array(share), colour).astype(int) for colour in (RIGHT, WRONG))
        assert blue[2] - orange[2] > 20 * share
    greys = [np.array(RIGHT) @ (0.299, 0.587, 0.114), np.array(WRONG) @ (0.299, 0.587, 0.114)]
    assert max(greys) < 110


# --- curves -----------------------------------------------------------------------------------------------------------


def predictions(n: int, classes: int, *, seed: int = 0, spread: float = 2.0) -> Predictions:
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, classes, n)
    logits = chance.normal(0, spread, (n, classes)).astype(np.float32)
    logits[np.arange(n), labels] += spread
    return Predictions(
        part="validation", classes=tuple(names(classes)), keys=tuple(map(str, range(n))), logits=logits, labels=labels
    )


def naive(chances: np.ndarray, own: np.ndarray, threshold: float) -> list[float]:
    tp = sum(c >= threshold and o for c, o in zip(chances, own, strict=True))
    fp = sum(c >= threshold and not o for c, o in zip(chances, own, strict=True))
    tn = sum(c < threshold and not o for c, o in zip(chances, own, strict=True))
    fn = sum(c < threshold and o for c, o in zip(chances, own, strict=True))
    return [tp, fp, tn, fn, tp / (tp + fp) if tp + fp else 0, tp / (tp + fn) if tp + fn else 0]


ADVERSARIAL = {
    "ties": (np.array([0.5, 0.5, 0.5, 0.5]), np.array([True, False, True, False])),
    "on thresholds": (np.array([0.0, 0.29, 0.57, 0.58, 1.0]), np.array([False, True, True, False, True])),
    "all of it": (np.array([0.2, 0.9]), np.array([True, True])),
    "none of it": (np.array([0.2, 0.9]), np.array([False, False])),
    "one": (np.array([0.7]), np.array([True])),
    "all wrong": (np.array([0.9, 0.8, 0.1, 0.2]), np.array([False, False, True, True])),
}


@pytest.mark.parametrize("case", ADVERSARIAL)
def test_a_curve_is_that_of_a_naive_loop(case: str) -> None:
    chances, own = ADVERSARIAL[case]
    found = at_thresholds(chances, own)
    assert found.T.tolist() == [naive(chances, own, threshold) for threshold in THRESHOLDS]


@pytest.mark.parametrize(("n", "classes", "spread"), [(300, 3, 0.5), (200, 5, 3.0), (40, 2, 12.0)])
def test_curves_are_those_of_scikit_learn(n: int, classes: int, spread: float) -> None:
    judged = predictions(n, classes, spread=spread)
    chances = np.exp(judged.logits.astype(float))
    chances /= chances.sum(axis=1, keepdims=True)
    found = curves(judged, most=100)
    assert sorted(found) == list(range(classes))
    for k, made in found.items():
        precision, recall, scores = precision_recall_curve(judged.labels == k, chances[:, k])
        places = np.searchsorted(scores, THRESHOLDS)  # the first score that is at least the threshold
        called = places < len(scores)
        assert made[4, called] == pytest.approx(precision[places[called]], abs=1e-12)
        assert made[5, called] == pytest.approx(recall[places[called]], abs=1e-12)
        assert not made[:2, ~called].any()
        assert (made[:4].sum(axis=0) == n).all()


def test_the_worst_classes_are_those_with_the_lowest_f1_and_pictures() -> None:
    judged = predictions(400, 12, spread=1.0)
    judged = Predictions(**{**vars(judged), "labels": np.where(judged.labels == 3, 4, judged.labels)})
    said, f1 = judged.logits.argmax(axis=1), {}
    for k in range(12):
        hits = int(((said == k) & (judged.labels == k)).sum())
        f1[k] = 2 * hits / (int((said == k).sum()) + int((judged.labels == k).sum()))
    wanted = [k for k in sorted(f1, key=lambda k: f1[k]) if k != 3]
    assert worst_classes(judged, 99) == wanted
    assert worst_classes(judged, 4) == wanted[:4]
    assert list(curves(judged, most=4)) == wanted[:4]
