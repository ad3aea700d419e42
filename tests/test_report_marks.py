"""The report where a picture may have several classes: its numbers, its pictures, each sentence where it is true."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Done, tellapart, train
from marked import SHAPES, make_marked
from test_laws import called as words_of
from test_laws import loaded_by
from test_report import HOSTILE, Page, well_made

from tellapart.evaluation.marks import called, judged_marks, thresholds
from tellapart.evaluation.metrics import binary_entropies
from tellapart.evaluation.predictions import Predictions
from tellapart.recipe import Recipe
from tellapart.reporting.evidence import Marked
from tellapart.reporting.marked import WORST, chapters, unknown
from tellapart.reporting.report import report_marked


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The run `a`, its test part opened."""
    at = tmp_path_factory.mktemp("marks")
    make_marked(at / "shapes", 240)
    return train(at, "a", "shapes/labels.csv", "--several", ";", "--epochs", "8", "--set", "model.width=8")


def drawn(far: float = 2.0, *, n: int = 300, rare: float = 0.3, **more: Any) -> Predictions:
    """What a model says of n pictures with three classes; the logits of those that are there lie `far` higher."""
    chance = np.random.default_rng(6)
    marks = chance.random((n, 3)) < (0.5, 0.4, rare)
    logits = (chance.normal(0, 1, (n, 3)) + far * marks - far / 2).astype(np.float32)
    small = chance.integers(0, 255, (n, 8, 8, 3), np.uint8)
    labels, keys = np.where(marks.any(1), marks.argmax(1), 3), tuple(f"{row}.png" for row in range(n))
    values = {"part": "test", "classes": SHAPES, "keys": keys, "logits": logits, "labels": labels, "marks": marks}
    return Predictions(**{**values, "thumbnails": small, **more})


def evidence(shown: Predictions | None = None, *, by: Predictions | None = None, **more: Any) -> Marked:
    """A finished training with nothing odd about it; `more` changes it."""
    shown = shown or drawn()
    validation = shown if shown.part == "validation" else by or drawn(part="validation")
    status = {
        **{"state": "finished", "source": "shapes", "parameters": 123, "best": {"epoch": 1}, "test_part": "abc"},
        **{"counts": {"train": 800, "validation": 300, "test": 300}, "diagnosis": [], "content": "c0", "split": "5p"},
    }
    epochs = [
        {"epoch": n, "train_loss": 0.5, "val_loss": 0.4, "val_mean_average_precision": 0.8, "val_n": 300, "lr": 0.1}
        for n in range(2)
    ]
    values: dict[str, Any] = {
        **{"name": "first", "recipe_text": "", "origins": {}, "command": "tellapart train", "environment": {}},
        **{"counts": {"train": {name: 9 for name in shown.classes}}, "groups": 40, "left_out": (), "remarks": ()},
        **{"epochs": epochs, "opened_before": [], "siblings": 2, "status": status},
        "recipe": Recipe().replaced({"data.test_from": "x", "data.overlay": "y", "data.several": ";"}),
    }
    found = judged_marks(shown, thresholds(validation), fitted_here=shown is validation)
    return Marked(shown=shown, judgement=found, **{**values, **more})


def test_the_page_has_every_number_of_the_test(learned: Done) -> None:
    judgement = json.loads(tellapart(learned.at, "test", "a", "--json").out)["judgement"]
    done = tellapart(learned.at, "report", "a", "--json")
    assert done.code == 0, done.err
    text = (learned.run("a").folder / "report.html").read_text(encoding="utf-8")
    well_made(text)
    page = Page(text)
    for one in judgement["figures"]:
        shown = f"{one['value']:.3f}" if one["name"] in ("loss", "mean ROC area") else f"{100 * one['value']:.1f}"
        assert shown in page.words, one["name"]
    for name, one in zip(SHAPES, judgement["thresholds"], strict=True):
        assert re.search(rf"{name}\s*{100 * one['value']:.1f} %", page.words), name
    stored = Predictions.load(learned.run("a").predictions("test"))
    said = called(stored.logits, [one["value"] for one in judgement["thresholds"]])
    right = int((said == stored.marks).all(1).sum())
    story = json.loads(done.out)["story"]
    assert any(f"Of {len(stored)} test pictures {right} have every class right" in line for line in story)
    counts = {row[0]: sum(row[1:]) for row in counts_of(page)}
    _, marks = make_marked(learned.at / "again", 240)
    assert [counts[name] / 2 for name in SHAPES] == marks.sum(0).tolist()  # the parts, and their sum
    parts = [learned.run("a").status()["counts"][part] for part in ("train", "validation", "test")]
    assert f"pictures图片数{''.join(map(str, parts))}240" in page.words  # not the sum of the lines above


def counts_of(page: Page) -> list[tuple[str, int, int, int, int]]:
    """The rows of the table of pictures by class and part."""
    cells = r"\s*(\d+)" * 4
    at = page.words.index("Pictures by class and part")
    rows = [re.search(rf"({name}){cells}", page.words[at:].replace("\n", " ")) for name in SHAPES]
    texts = [text for tag, text in page.texts if tag in ("td", "bdi")]
    found = []
    for name in SHAPES:
        at = texts.index(name)
        found.append((name, *(int(cell) for cell in texts[at + 1 : at + 5])))
    assert rows
    return found


def test_the_worst_pictures_come_first_with_what_they_have_and_what_is_said() -> None:
    of = evidence()
    own, named = of.shown.marks, called(of.shown.logits, [one.value for one in of.judgement.thresholds])
    assert own is not None
    wrong = np.flatnonzero((own != named).any(1))
    order = wrong[np.argsort(-binary_entropies(of.shown.logits[wrong], own[wrong]))][:WORST]
    text = report_marked(of)
    captions = re.findall(r'<figcaption><span lang="en">(.*?); said: (.*?)</span>', text)

    def words(row: np.ndarray) -> str:
        return " + ".join(name for name, has in zip(SHAPES, row, strict=True) if has) or "nothing"

    assert captions == [(words(own[row]), words(named[row])) for row in order]
    assert f"{len(wrong)} of 300 pictures have a wrong class" in Page(text).words


def right() -> Predictions:
    return drawn(40.0)


@pytest.mark.parametrize(
    "of",
    [
        evidence(),
        evidence(drawn(part="validation"), opened_before=None, groups=None),
        evidence(right(), by=drawn(40.0, part="validation")),
        evidence(drawn(thumbnails=None)),
        evidence(drawn(n=30, rare=0.0), by=drawn(n=30, rare=0.0, part="validation"), epochs=[]),
    ],
    ids=["plain", "sealed", "right", "pictureless", "few"],
)
def test_the_page_asks_for_nothing_runs_nothing_and_can_be_heard(of: Marked) -> None:
    well_made(report_marked(of))


def test_hostile_names_are_text() -> None:
    classes = tuple(HOSTILE[n] for n in (0, 2, 5))
    keys = tuple(HOSTILE[n % len(HOSTILE)] + str(n) for n in range(300))
    text = report_marked(evidence(drawn(classes=classes, keys=keys), by=drawn(classes=classes, part="validation")))
    well_made(text)
    assert "<script>" not in text
    assert "\u202e" not in text


def keys_of(of: Marked) -> set[str]:
    return {one.key for one in [*(one for each in chapters(of) for one in each), *unknown(of)]}


def test_each_sentence_is_said_where_it_is_true_and_its_twin_is_silent() -> None:
    plain, strong = keys_of(evidence()), keys_of(evidence(right(), by=drawn(40.0, part="validation")))
    assert "result_marked" in plain & strong
    told = {
        "thresholds_here": (evidence(drawn(part="validation")), plain),
        "halves": (evidence(by=drawn(rare=0.01, part="validation")), plain),
        "few": (evidence(drawn(rare=0.02)), plain),
        "weakest_marked": (evidence(weak()), strong),
        "sealed": (evidence(drawn(part="validation")), plain),
    }
    for key, (of, twin) in told.items():
        assert key in keys_of(of), key
        assert key not in twin, key
    assert "no_robustness" not in plain


def weak() -> Predictions:
    """One class is told no better than by chance."""
    said = drawn(4.0)
    logits = said.logits.copy()
    logits[:, 1] = np.random.default_rng(0).normal(0, 1, len(logits))
    return replace(said, logits=logits)


def test_no_torch_is_loaded_and_the_page_is_rebuilt_byte_for_byte(learned: Done, tmp_path: Path) -> None:
    first = tmp_path / "first.html"
    shutil.copytree(learned.at / "runs", tmp_path / "runs")
    code, modules = loaded_by(words_of("report", "a", "--out", str(first)), tmp_path)
    assert (code, "torch" in modules) == (0, False)
    assert tellapart(tmp_path, "report", "a").code == 0
    assert first.read_bytes() == (tmp_path / "runs" / "a" / "report.html").read_bytes()
