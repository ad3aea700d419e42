"""The report: one file that asks for nothing, from the run folder alone; each sentence only where it is true."""

import base64
import io
import json
import re
import shutil
import string
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import process, tellapart, train
from pictures import make_folder
from PIL import Image

from tellapart.evaluation.calibration import Bin
from tellapart.evaluation.intervals import wilson
from tellapart.evaluation.judgement import judged
from tellapart.evaluation.metrics import Figure, proportion
from tellapart.evaluation.predictions import Predictions
from tellapart.evaluation.promises import Answering
from tellapart.figures.curve import Axis
from tellapart.figures.plot import MOST, Layer, plot, smoothed
from tellapart.recipe import Recipe
from tellapart.reporting.drawn import pooled, reliability_layers
from tellapart.reporting.evidence import Evidence
from tellapart.reporting.report import report
from tellapart.reporting.shown import DOUBTFUL, EACH, NUMBERED
from tellapart.reporting.story import chapters, story, unknown
from tellapart.reporting.words import LANGUAGES, table

SRC = Path(__file__).parent.parent / "src" / "tellapart"


class Page(HTMLParser):
    """What a browser would find: tags with their attributes, and the text of each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def every(self, name: str) -> list[str]:
        """The values of one attribute."""
        return [value or "" for _, attrs in self.tags for key, value in attrs.items() if key == name]

    @property
    def words(self) -> str:
        return "".join(text for tag, text in self.texts if tag != "style")


def predicted(
    n: int = 400, k: int = 3, *, right: float = 0.9, part: str = "test", side: int = 8, seed: int = 2, **more: Any
) -> Predictions:
    """Made-up predictions: `right` of them right, with logits that mean what they say."""
    chance = np.random.default_rng(seed)
    labels = np.arange(n) % k
    said = np.where(chance.random(n) < right, labels, (labels + 1 + chance.integers(0, k - 1, n)) % k)
    logits = np.zeros((n, k), np.float32)
    logits[np.arange(n), said] = np.log(right * (k - 1) / (1 - right)) if right < 1 else 9.0
    logits += chance.normal(size=(n, k)).astype(np.float32) * 0.01
    values = {
        "classes": tuple(f"class {one}" for one in range(k)),
        "keys": tuple(f"some/{one:05}.png" for one in range(n)),
        "thumbnails": chance.integers(0, 256, (n, side, side, 3), np.uint8),
    }
    return Predictions(part=part, logits=logits, labels=labels, **{**values, **more})


def epoch(number: int, train_loss: float = 0.5, val_loss: float | None = 0.4) -> dict[str, Any]:
    return {
        **{"kind": "epoch", "epoch": number, "epochs": 9, "train_loss": train_loss, "val_loss": val_loss},
        **{"val_accuracy": 0.9, "val_n": 400, "lr": 0.1, "seconds": 1.0},
    }


def evidence(shown: Predictions | None = None, *, by: Predictions | None = None, **more: Any) -> Evidence:
    """A finished training with nothing odd about it; `more` changes it, `status` and `recipe` in part."""
    shown = shown or predicted()
    validation = shown if shown.part == "validation" else by or predicted(part="validation", seed=22)
    accuracy = [proportion("accuracy", 900, 1000, "validation").to_json()]
    simple = [proportion("accuracy", 40, 100, shown.part, "always class 1").to_json()]
    status = {
        **{"state": "finished", "source": "flowers", "parameters": 1234, "best": {"epoch": 1}, "test_part": "abc"},
        **{"counts": {"train": 800, "validation": 400, "test": 400}, "figures": accuracy, "baselines": simple},
        **{"diagnosis": [], "content": "c0", "split": "5p", **more.pop("status", {})},
    }
    values: dict[str, Any] = {
        **{"name": "first", "recipe_text": '[data]\nsource = "flowers"\n', "origins": {}, "command": "tellapart train"},
        **{"environment": {"packages": {"tellapart": "1.0"}}, "groups": 40, "left_out": (), "remarks": ()},
        **{"counts": {"train": {name: 3 for name in shown.classes}}, "epochs": [epoch(0), epoch(1)]},
        **{"opened_before": [], "siblings": 2, "robustness": [proportion("accuracy", 9, 10, "test")]},
        **{"recipe": Recipe().replaced({"data.test_from": "x", "data.overlay": "y", **more.pop("recipe", {})})},
    }
    judgement = judged(shown, Answering.of(validation))
    return Evidence(status=status, shown=shown, judgement=judgement, **{**values, **more})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a training with an opened test ran in; its run is called r."""
    at = tmp_path_factory.mktemp("at")
    make_folder(at / "pets", per_class=30)
    train(at, "r", "pets", "--epochs", "3")
    return at


def test_bins_that_would_lie_on_each_other_are_drawn_as_one() -> None:
    shares = [(10, 0.5, 0.4), (10, 0.90, 1.0), (10, 0.91, 0.8), (20, 0.93, 1.0), (10, 0.99, 1.0)]
    bins = [Bin(n, sure, right, *wilson(round(n * right), n)) for n, sure, right in shares]
    assert pooled(bins, 0.0) == bins
    found = pooled(bins, 0.03)
    assert [(one.n, round(one.sure, 4), round(one.right, 4)) for one in found] == [
        (10, 0.5, 0.4),
        (40, 0.9175, 0.95),
        (10, 0.99, 1.0),
    ]
    assert (found[1].low, found[1].high) == wilson(38, 40)
    layers, axis = reliability_layers(evidence(predicted(900, right=0.97)))
    for dots in (layer for layer in layers if layer.kind == "dots"):
        places = [axis.share(x) for x, _ in dots.points]
        assert min(places) > 0.04
        assert all(later - sooner > 0.03 for sooner, later in pairwise(places))
    assert sum(one.n for one in pooled(bins, 1.0)) == sum(one.n for one in bins)


# --- the verb ---------------------------------------------------------------------------------------------------------


def test_the_page_is_rebuilt_byte_for_byte_without_pictures_weights_or_torch(run: Path, tmp_path: Path) -> None:
    done = tellapart(run, "report", "r")
    assert done.code == 0, done.err
    page = (run / "runs" / "r" / "report.html").read_bytes()
    assert f"report: {run / 'runs' / 'r' / 'report.html'}" in done.out
    shutil.copytree(run / "runs", tmp_path / "elsewhere" / "runs")
    there = tmp_path / "elsewhere" / "runs" / "r"
    for name in ("report.html", "model.safetensors"):
        (there / name).unlink()
    shutil.rmtree(there / "checkpoints")
    (tmp_path / "torch.py").write_text("raise RuntimeError('torch was asked for')")
    words, env = process("report", "r", before=tmp_path)
    again = subprocess.run(words, env=env, cwd=tmp_path / "elsewhere", capture_output=True, text=True, timeout=60)
    assert again.returncode == 0, again.stderr
    assert (there / "report.html").read_bytes() == page


def test_out_names_another_file_and_json_has_the_sentences(run: Path, tmp_path: Path) -> None:
    done = tellapart(run, "report", "r", "--out", str(tmp_path / "x.html"), "--json")
    found = json.loads(done.out)
    assert Path(found["file"]) == tmp_path / "x.html"
    assert found["bytes"] == (tmp_path / "x.html").stat().st_size
    assert any(line.startswith("The pictures are pets: 90 of 3 classes.") for line in found["story"])
    assert any("one training, with seed 0" in line for line in found["unknown"])


def test_what_was_opened_before_is_said_and_a_run_without_its_ledger_does_not_guess(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "at")
    at = tmp_path / "at"
    n = json.loads((at / "runs/r/status.json").read_text())["counts"]["test"]
    said = json.loads(tellapart(at, "report", "r", "--json").out)["unknown"]
    assert not any("opened" in line for line in said)
    train(at, "s", "pets", "--epochs", "1")
    said = json.loads(tellapart(at, "report", "s", "--json").out)["unknown"]
    assert any(line.startswith(f"The test part was opened 1 × before, and {n} of its {n} pictures") for line in said)
    assert "the test part had been opened 1 × before" in (at / "runs/s/report.html").read_text("utf-8")
    (at / "runs" / "openings.jsonl").unlink()
    said = json.loads(tellapart(at, "report", "s", "--json").out)["unknown"]
    assert any(line.startswith("How often the test part was opened before is not known") for line in said)


def test_a_sealed_test_stays_sealed(class_folder: Path) -> None:
    at = class_folder.parent
    train(at, "r", "pets", "--epochs", "1", "--no-test")
    done = tellapart(at, "report", "r")
    assert done.code == 0, done.err
    assert "is still sealed" in done.out
    assert "`tellapart test r` opens it" in done.out
    assert not (at / "runs" / "openings.jsonl").exists()
    assert not (at / "runs/r/predictions/test.safetensors").exists()


def test_several_trainings_have_one_table(tmp_path: Path) -> None:
    train(tmp_path, "many", "digits", "--limit", "100", "--epochs", "1", "--seeds", "2", "--folds", "2")
    done = tellapart(tmp_path, "report", "many")
    assert done.code == 0, done.err
    summary = json.loads((tmp_path / "runs/many/summary.json").read_text())
    spread = summary["spreads"][0]
    page = Page((tmp_path / "runs/many/report.html").read_text("utf-8"))
    assert f"{spread['mean']:.4f} ± {spread['sd']:.4f}" in page.words
    assert all(one["run"] in page.words for one in summary["members"])
    assert "4 trainings of one recipe" in page.words
    whole = next(one for one in summary["out_of_fold"] if one["name"] == "accuracy")
    assert f"out of fold {whole['about']}" in page.words
    assert f"{100 * whole['value']:.1f} % [{100 * whole['low']:.1f}, {100 * whole['high']:.1f}]" in page.words
    one = f"many/{summary['members'][0]['run']}"
    assert "one training, with seed" not in tellapart(tmp_path, "report", one, "--json").out
    alike = {**summary, "members": [{**member, "seed": 0} for member in summary["members"]]}
    (tmp_path / "runs/many/summary.json").write_text(json.dumps(alike))
    assert "one training, with seed" in tellapart(tmp_path, "report", one, "--json").out
    (tmp_path / "runs/many/summary.json").write_text("{}")
    assert "summary.json is damaged" in tellapart(tmp_path, "report", "many").err
    (tmp_path / "runs/many/summary.json").unlink()
    assert "The trainings in many are not finished." in tellapart(tmp_path, "report", "many").err


def test_mistakes_of_the_asker_are_told(run: Path, tmp_path: Path) -> None:
    done = tellapart(run, "report", "q")
    assert (done.code, "There is no run 'q'." in done.err) == (2, True)
    done = tellapart(run, "report", "r", "--out", str(tmp_path / "no" / "x.html"))
    assert done.code == 4
    assert "x.html cannot be written" in done.err
    shutil.copytree(run / "runs", tmp_path / "runs")
    folder = tmp_path / "runs" / "r"
    (folder / "robustness.json").write_text('{"format": 1, "figures": [{"value": 1}]}')
    assert "robustness.json is damaged" in tellapart(tmp_path, "report", "r").err
    measured = [
        proportion("accuracy", hits, 20, "validation", name).to_json() for name, hits in (("", 19), ("blur 3", 4))
    ]
    (folder / "robustness.json").write_text(json.dumps({"format": 1, "part": "validation", "figures": measured}))
    done = tellapart(tmp_path, "report", "r")
    assert "on validation pictures spoiled on purpose (blur 3 of 5), the accuracy is 20.0 %" in done.out
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps({**status, "state": "interrupted"}))
    done = tellapart(tmp_path, "report", "r")
    assert (done.code, "The run r is interrupted, so there is nothing to report yet." in done.err) == (2, True)
    (folder / "status.json").write_text(json.dumps(status))
    (folder / "recipe.toml").write_text("[data]\n")
    assert "recipe.toml is not as the run wrote it" in tellapart(tmp_path, "report", "r").err


def test_files_that_were_left_out_and_groups_are_counted(tmp_path: Path) -> None:
    make_folder(tmp_path / "pets", per_class=60)
    (tmp_path / "pets" / "cat" / "03.png").write_bytes(b"no picture")
    train(tmp_path, "r", "pets", "--epochs", "1", "--on-bad", "skip", "--group-by", "([a-z]+/[0-9])")
    done = tellapart(tmp_path, "report", "r")
    assert "Left out: 1 files" in done.out
    assert "They belong to 18 groups" in done.out
    page = Page((tmp_path / "runs/r/report.html").read_text("utf-8"))
    assert "cat/03.png" in page.words


# --- the page ---------------------------------------------------------------------------------------------------------


@cache
def of_every_kind() -> dict[str, Evidence]:
    """Evidence that draws every section in each of its ways."""
    robust = [
        proportion("accuracy", hits, 100, "test", name) for name, hits in (("", 90), ("blur 1", 60), ("dust 2", 50))
    ]
    many = predicted(900, 30, seed=3)
    return {
        "plain": evidence(),
        "robust": evidence(robustness=robust),
        "many": evidence(many, by=predicted(900, 30, part="validation", seed=4)),
        "sealed": evidence(predicted(part="validation"), opened_before=None, groups=None, robustness=()),
        "pictureless": evidence(predicted(thumbnails=None), left_out=[("a.png", "no picture")], remarks=["read"]),
        "grey": evidence(predicted(thumbnails=np.zeros((400, 40, 40, 1), np.uint8))),
        "right": evidence(predicted(right=1.0)),
        "one": evidence(predicted(1), epochs=[]),
        "two": evidence(predicted(2, 2), epochs=[epoch(0)]),
    }


@pytest.mark.parametrize("kind", ["plain", "robust", "many", "sealed", "pictureless", "grey", "right", "one", "two"])
def test_the_page_asks_for_nothing_runs_nothing_and_can_be_heard(kind: str) -> None:
    text = report(of_every_kind()[kind])
    well_made(text)
    assert report(of_every_kind()[kind]) == text


def well_made(text: str) -> None:
    """Nothing is fetched or run, every link and name leads somewhere, and no number is missing."""
    page = Page(text)
    names = Counter(tag for tag, _ in page.tags)
    assert not {"script", "link", "iframe", "object", "embed", "form", "base", "video", "audio"} & set(names)
    assert all(
        value.startswith(("data:image/", "#")) for name in ("src", "href", "srcset") for value in page.every(name)
    )
    assert not [key for _, attrs in page.tags for key in attrs if key.startswith("on")]
    assert "default-src 'none'" in page.every("content")[0]
    style = next(text for tag, text in page.texts if tag == "style")
    assert not re.search(r"url\(|@import|@font-face|expression", style)
    assert not re.search(r"https?://", page.words + style)
    ids = page.every("id")
    assert len(ids) == len(set(ids))
    links = [value[1:] for value in page.every("href") if value.startswith("#")]
    assert set(links) | set(page.every("aria-labelledby")) <= set(ids)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(attrs.get("scope") for tag, attrs in page.tags if tag == "th")
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")
    for tag, attrs in page.tags:
        if tag == "svg":
            assert attrs.get("aria-hidden") or (
                attrs["role"] == "img" and (attrs.get("aria-label") or attrs["aria-labelledby"])
            )
    assert not re.search(r"\bnan\b", re.sub(r'(href|src)="data:[^"]*"', "", text))


HOSTILE = (
    "<script>alert(1)</script>",
    "\"' onmouseover='x",
    "\u202egnp.exe",
    "a\nb\r\x1b[31m",
    "\udcff\udc80 bytes",
    "{0} %s {own}",
    "L" * 10_000,
)


def test_hostile_names_are_text_and_no_more() -> None:
    n = len(HOSTILE)
    shown = predicted(210, n, right=0.6, classes=HOSTILE, keys=tuple(f"{HOSTILE[i % n]}/{i}" for i in range(210)))
    by = predicted(210, n, right=0.6, part="validation", classes=HOSTILE)
    status = {
        "source": HOSTILE[0],
        "baselines": [proportion("accuracy", 9, 210, "test", f"always {name}").to_json() for name in HOSTILE],
        "parent": {"run": HOSTILE[1], "step": 4},
    }
    counts = {"train": dict.fromkeys(HOSTILE, 3)}
    more = {"left_out": [(one, one) for one in HOSTILE], "remarks": HOSTILE, "command": "\n".join(HOSTILE[:-1])}
    more |= {"recipe_text": HOSTILE[0], "origins": {"train.epochs": f"auto: {HOSTILE[0]}"}, "counts": counts}
    of = evidence(shown, by=by, status=status, environment={"system": HOSTILE[0]}, **more)
    text = report(of)
    page, plain = (
        Page(text),
        Page(report(evidence(predicted(210, n, right=0.6), by=predicted(210, n, part="validation")))),
    )
    assert text.encode("utf-8")
    assert {tag for tag, _ in page.tags} == {tag for tag, _ in plain.tags} | {"h3", "ul", "li"}
    assert {key for _, attrs in page.tags for key in attrs} == {key for _, attrs in plain.tags for key in attrs} | {
        "lang"
    }
    assert "<script" not in text
    assert "<script>alert(1)</script>" in page.words
    assert not [letter for letter in page.words if not letter.isprintable() and letter not in "\n\xa0"]
    assert len(text) < 3_000_000
    assert "L" * 301 not in page.words
    for one in [*story(of), *unknown(of)]:
        assert len(one.text[0]) < 1000


def test_each_cell_says_its_count_and_shows_its_pictures_once_in_the_file() -> None:
    of = evidence(predicted(300, 3, right=0.7))
    text, said = report(of), of.shown.logits.argmax(1)
    for row in range(3):
        for column in range(3):
            there = [i for i in range(300) if of.shown.labels[i] == row and said[i] == column]
            cell = re.search(rf'<a href="#cell-{row}-{column}"[^>]*>([\d,]+)<small>(\d+) %</small>', text)
            assert cell is not None
            assert (int(cell[1]), int(cell[2])) == (len(there), round(len(there)))  # of 100 pictures each
            section = re.search(rf'<section class="cell" id="cell-{row}-{column}">.*?</section>', text, re.S)
            assert section is not None
            shown = [int(one) for one in re.findall(r'<use href="#p(\d+)"/>', section[0])]
            assert set(shown) <= set(there)
            assert len(shown) == min(len(there), EACH if row != column else EACH // 2)
    drawn = re.findall(r'<image id="p(\d+)" width="1" height="1" href="data:image/png;base64,([^"]+)"/>', text)
    assert len(drawn) == len({row for row, _ in drawn}) == len(set(re.findall(r'<use href="#p(\d+)"/>', text)))
    row, data = drawn[0]
    assert of.shown.thumbnails is not None
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), of.shown.thumbnails[int(row)])


def test_of_many_classes_the_matrix_is_a_picture_and_the_worst_pairs_are_listed() -> None:
    of = of_every_kind()["many"]
    text = report(of)
    assert len(of.shown.classes) > NUMBERED
    data = re.search(r'class="heat" alt="30 × 30" src="data:image/png;base64,([^"]+)"', text)
    assert data is not None
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data[1]))))
    said, counts = of.shown.logits.argmax(1), Counter[tuple[int, int]]()
    counts.update((int(own), int(one)) for own, one in zip(of.shown.labels, said, strict=True))
    assert {(r, c) for r in range(30) for c in range(30) if pixels[r, c, 3]} == set(counts)
    most = max(count for (row, column), count in counts.items() if row != column)
    first = re.search(
        r'<a href="#cell-(\d+)-(\d+)"><bdi>class \d+</bdi> → <bdi>class \d+</bdi></a></th><td>(\d+)<', text
    )
    assert first is not None
    assert int(first[3]) == most == counts[int(first[1]), int(first[2])]
    assert "Drawn: the 10 classes with the smallest area" in text
    assert "Drawn: the" not in report(evidence())


def test_the_most_doubtful_have_the_largest_entropy() -> None:
    of = evidence(predicted(60, 3, right=0.6))
    section = report(of).split('id="doubtful"')[1].split("</section>")[0]
    shown = [int(one) for one in re.findall(r'<use href="#p(\d+)"/>', section)]

    def entropy(row: int) -> float:
        heights = [np.exp(float(x) / of.judgement.answering.temperature) for x in of.shown.logits[row]]
        return -sum(h / sum(heights) * np.log2(h / sum(heights)) for h in heights)

    assert shown == sorted(range(60), key=lambda row: -entropy(row))[:DOUBTFUL]


def test_every_number_of_a_class_stands_with_its_interval_and_n() -> None:
    of = evidence()
    section = Page(report(of).split('<section id="classes"')[1].split("</section>")[0]).words
    for one in of.judgement.by_class:
        scale, digits = (100, 1) if one.name in ("recall", "precision", "F1") else (1, 3)
        value, low, high = (f"{scale * number:.{digits}f}" for number in (one.value, one.low, one.high))
        assert f"{value} [{low}, {high}]" in section


def test_a_page_of_ten_thousand_pictures_is_small_and_soon_made() -> None:
    for classes in (10, 100):
        shown = predicted(10_000, classes, side=64)
        began = time.process_time()
        text = report(evidence(shown, by=predicted(2000, classes, part="validation")))
        assert time.process_time() - began < 5
        assert len(text.encode()) < 15e6


# --- plots and style --------------------------------------------------------------------------------------------------


def test_smoothing_is_that_of_tensorboard_and_both_lines_are_drawn() -> None:
    values = [3.0, 1.0, 4.0, 1.0, 5.0]
    naive = [
        sum(0.6 ** (n - m) * values[m] for m in range(n + 1)) / sum(0.6 ** (n - m) for m in range(n + 1))
        for n in range(5)
    ]
    assert smoothed(values) == pytest.approx(naive)
    assert smoothed([]) == []
    text = report(evidence(epochs=[epoch(n, 1 / (n + 1), 1 / (n + 1)) for n in range(6)]))
    section = text.split('<section id="curves"')[1].split("</section>")[0]
    lines = {look: points for look, points in re.findall(r'<polyline class="([^"]+)" points="([^"]+)"', section)[:5]}
    assert {"main faint", "main", "other faint", "other"} <= set(lines)
    assert lines["main faint"] != lines["main"]
    assert "smoothed (0.6)" in section
    assert "as measured" in section


def test_a_plot_stays_in_its_frame_and_a_long_line_keeps_its_ends() -> None:
    points = [(n / 9999, (n % 7) / 3 - 0.5) for n in range(10_000)]
    drawn = plot(
        [Layer(points=points, look="x")], across=Axis("", 0, 1), up=Axis("", 0, 1), named_by="n", size=(200, 100)
    )
    found = re.search(r'class="x" points="([^"]+)"', drawn)
    assert found is not None
    places = [tuple(map(float, one.split(","))) for one in found[1].split()]
    assert len(places) == MOST
    assert (places[0][0], places[-1][0]) == (44.0, 188.0)
    assert all(44 <= x <= 188 and 8 <= y <= 78 for x, y in places)


def luminance(colour: tuple[float, ...]) -> float:
    """WCAG 2.2: relative luminance."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_can_be_read_in_both_themes() -> None:
    style = (SRC / "reporting" / "report.css").read_text()
    pairs = re.findall(r"--(\w+):light-dark\(#(\w+),#(\w+)\)", style)
    assert len(pairs) == 7
    for theme in (1, 2):
        colours = {pair[0]: rgb(pair[theme]) for pair in pairs}
        for text in ("ink", "soft", "accent", "quiet"):
            assert contrast(colours[text], colours["back"]) >= 4.5, (text, theme)
        for text in ("ink", "soft"):
            assert contrast(colours[text], colours["card"]) >= 4.5
        for tint, tone in ((0.45, "accent"), (0.08, "quiet")):
            mixed = tuple(tint * a + (1 - tint) * b for a, b in zip(colours[tone], colours["back"], strict=True))
            assert contrast(colours["ink"], mixed) >= 4.5


def rgb(colour: str) -> tuple[float, ...]:
    colour = colour if len(colour) == 6 else "".join(2 * letter for letter in colour)
    return tuple(int(colour[n : n + 2], 16) / 255 for n in (0, 2, 4))


# --- two languages ----------------------------------------------------------------------------------------------------


def test_every_sentence_is_there_in_both_languages_with_the_same_places() -> None:
    names = {"JPEG", "F1", "python", "lead", "said_right", "simple"}
    han = re.compile("[\u4e00-\u9fff]")
    for pairs in table().values():
        for key, pair in pairs.items():
            english, chinese = ([name for _, name, _, _ in string.Formatter().parse(text) if name] for text in pair)
            assert sorted(english) == sorted(chinese), key
            assert key in names or han.search(pair[1]), key
            assert not han.search(pair[0]), key


def test_every_word_of_the_table_is_used() -> None:
    code = "\n".join(path.read_text("utf-8") for path in (SRC / "reporting").glob("*.py"))
    labels = (SRC / "reporting" / "diagnosis.py").read_text("utf-8")
    measured = {"blur", "noise", "darker", "brighter", "JPEG", "rotation"}
    for pairs in table().values():
        for key in pairs:
            label = key.removeprefix("fit: ")
            assert f'"{key}"' in code or key in measured or (label != key and f'"{label}"' in labels), key


def test_every_word_that_is_asked_for_is_in_the_table() -> None:
    code = "\n".join(path.read_text("utf-8") for path in (SRC / "reporting").glob("*.py"))
    for function, kind in (("words?", "words"), ("(?:sentence|paragraph|said)", "sentences")):
        asked = set(re.findall(rf'\b{function}\("([^"{{]+)"', code))
        assert len(asked) > 20
        assert asked - set(table()[kind]) == set()


def test_both_languages_are_in_the_page_and_one_is_shown_at_a_time() -> None:
    text = report(evidence())
    page = Page(text)
    spans = [attrs["lang"] for tag, attrs in page.tags if tag == "span" and "lang" in attrs]
    assert Counter(spans)["en"] == Counter(spans)["zh-Hans"] > 60
    assert set(spans) == set(LANGUAGES)
    assert "准确率" in page.words
    radios = [attrs for tag, attrs in page.tags if tag == "input"]
    assert {attrs["type"] for attrs in radios} == {"radio"}
    assert [attrs["id"] for attrs in radios] == ["en", "zh", "auto", "light", "dark"]


# --- the story --------------------------------------------------------------------------------------------------------


def found(label: str, text: str) -> dict[str, Any]:
    return {"status": {"diagnosis": [{"label": label, "text": text, "remedies": []}]}}


GAP = "training 99.0 % (n = 500), validation 80.0 % (n = 400), gap 19.0 points [15.0, 23.1]"
RISES = f"{GAP}; since epoch 2 the validation loss rises (0.3 → 0.9) while the training loss falls (0.4 → 0.1)"
EPOCHS = [epoch(0, 0.5, 0.5), epoch(1, 0.4, 0.3), epoch(2, 0.2, 0.6), epoch(3, 0.1, 0.9)]
OWN = predicted(part="validation")
LARGE = predicted(3000)
SURE = replace(predicted(), logits=predicted().logits * 5)


def simple(share: float) -> dict[str, Any]:
    return {"status": {"baselines": [proportion("accuracy", round(400 * share), 400, "test", "always x").to_json()]}}


def by_own_features() -> dict[str, Any]:
    about = "the 5 nearest by its own features"
    return {"status": {"baselines": [proportion("accuracy", 390, 400, "test", about).to_json()]}}


def validated(share: float) -> dict[str, Any]:
    return {"status": {"figures": [proportion("accuracy", round(400 * share), 400, "validation").to_json()]}}


def robust(*hits: int) -> dict[str, Any]:
    ways = ("", "blur 1", "noise 5")
    return {"robustness": [proportion("accuracy", n, 200, "test", way) for n, way in zip(hits, ways, strict=False)]}


def weak() -> Predictions:
    """One class is seldom found."""
    one = predicted(400, 4, right=0.97)
    logits = one.logits.copy()
    rows = np.flatnonzero(one.labels == 2)[:60]
    logits[rows] = np.roll(logits[rows], 1, axis=1)
    return replace(one, logits=logits)


def absent() -> Predictions:
    one = predicted(90, 3)
    return replace(
        one, classes=(*one.classes, "nobody"), logits=np.pad(one.logits, ((0, 0), (0, 1)), constant_values=-9)
    )


TWINS: dict[str, tuple[Callable[[], Evidence], Callable[[], Evidence]]] = {
    "data": (lambda: evidence(OWN, status={"counts": {"train": 9, "validation": 9}}), evidence),
    "data_test": (evidence, lambda: evidence(OWN, status={"counts": {"train": 9, "validation": 9}})),
    "groups": (evidence, lambda: evidence(groups=None)),
    "left_out": (lambda: evidence(left_out=[("a", "b")]), evidence),
    "decided": (
        lambda: evidence(origins={"train.epochs": "auto: for few pictures"}, recipe={"train.epochs": 30}),
        lambda: evidence(origins={"train.epochs": "--epochs"}, recipe={"train.epochs": 30}),
    ),
    "network": (evidence, lambda: evidence(epochs=[], recipe={"train.epochs": 0})),
    "head": (lambda: evidence(epochs=[], recipe={"train.epochs": 0}), evidence),
    "weights": (lambda: evidence(recipe={"model.weights": "a/b.pth"}), evidence),
    "branched": (lambda: evidence(status={"parent": {"run": "old", "step": 40}}), evidence),
    "extended": (lambda: evidence(status={"extended": [{"epoch": 4}]}), evidence),
    "overfit_since": (
        lambda: evidence(epochs=EPOCHS, **found("over-fitting", RISES)),
        lambda: evidence(epochs=EPOCHS, **found("over-fitting", GAP)),
    ),
    "fit: over-fitting": (
        lambda: evidence(**found("over-fitting", GAP)),
        lambda: evidence(**found("over-fitting", RISES)),
    ),
    **{
        f"fit: {label}": (
            lambda label=label: evidence(**found(label, GAP)),
            lambda: evidence(**found("fits so so", GAP)),
        )
        for label in (
            *("perhaps over-fitting", "under-fitting", "not converging"),
            *("fits well", "fits, with room to learn more"),
        )
    },
    "fit: label noise suspected": (
        lambda: evidence(**found("label noise suspected", "it contradicts 90 of 1,500 training labels as surely as")),
        evidence,
    ),
    "result": (evidence, lambda: evidence(robustness=())),
    "beats": (lambda: evidence(**simple(0.5)), lambda: evidence(**simple(0.9))),
    "equals": (lambda: evidence(**simple(0.9)), lambda: evidence(**simple(0.5))),
    "without_head": (lambda: evidence(**by_own_features()), lambda: evidence(**simple(0.9))),
    "loses": (lambda: evidence(**simple(0.99)), lambda: evidence(**simple(0.9))),
    "test_same": (lambda: evidence(**validated(0.9)), lambda: evidence(**validated(0.99))),
    "test_lower": (lambda: evidence(**validated(0.99)), lambda: evidence(**validated(0.9))),
    "test_higher": (lambda: evidence(**validated(0.7)), lambda: evidence(**validated(0.9))),
    "no_mistake": (lambda: evidence(predicted(right=1.0)), evidence),
    "confused": (evidence, lambda: evidence(predicted(right=1.0))),
    "weakest": (lambda: evidence(weak(), by=predicted(400, 4, part="validation")), evidence),
    "resolves": (evidence, evidence),
    "calibrated": (evidence, lambda: evidence(SURE, by=predicted(part="validation"))),
    "off": (lambda: evidence(SURE, by=predicted(part="validation")), evidence),
    "promise": (
        lambda: evidence(predicted(right=0.97), by=predicted(right=0.97, part="validation")),
        lambda: evidence(by=predicted(60, right=0.4, part="validation")),
    ),
    "fragile": (lambda: evidence(**robust(180, 170, 90)), lambda: evidence(**robust(180, 170))),
    "sturdy": (lambda: evidence(**robust(180, 170)), lambda: evidence(**robust(180, 90))),
    "sealed": (lambda: evidence(OWN), lambda: evidence(OWN, status={"test_part": None})),
    "no_test": (lambda: evidence(OWN, status={"test_part": None}), evidence),
    "opened_before": (lambda: evidence(opened_before=["a"], seen_before=7), evidence),
    "no_ledger": (lambda: evidence(opened_before=None), evidence),
    "one_seed": (lambda: evidence(siblings=0), evidence),
    "no_robustness": (lambda: evidence(robustness=()), evidence),
    "wide": (lambda: evidence(predicted(100)), lambda: evidence(LARGE)),
    "few": (lambda: evidence(predicted(45, 3)), lambda: evidence(predicted(60, 3))),
    "absent": (lambda: evidence(absent(), by=replace(absent(), part="validation")), evidence),
    "fitted_here": (lambda: evidence(OWN), evidence),
    "dull": (lambda: evidence(predicted(100)), lambda: evidence(LARGE)),
    "no_groups": (lambda: evidence(groups=None), evidence),
    "one_source": (lambda: evidence(recipe={"data.test_from": ""}), evidence),
    "labels": (lambda: evidence(recipe={"data.overlay": ""}), evidence),
    "leaks": (lambda: evidence(recipe={"data.leaks": "keep"}), evidence),
}
ALWAYS = {"result", "resolves"}


@pytest.mark.parametrize("key", TWINS)
def test_a_sentence_is_said_where_it_is_true_and_its_twin_is_silent(key: str) -> None:
    true, twin = (make() for make in TWINS[key])
    said = {one.key: one for one in (*story(true), *unknown(true))}
    assert key in said
    assert (key in {one.key for one in (*story(twin), *unknown(twin))}) == (key in ALWAYS)
    assert all(not re.search(r"[{}]", text) for text in said[key].text)
    assert f'id="{said[key].at}"' in report(true)


def test_every_sentence_of_story_and_limits_has_its_twin() -> None:
    keys = list(table()["sentences"])
    told = keys[: keys.index("quote")]
    assert set(told) == set(TWINS)


def test_the_clean_training_says_no_ill_and_knows_no_limit_but_its_own() -> None:
    of = evidence(
        predicted(3000, right=0.97, seed=0),
        by=predicted(1000, right=0.97, part="validation", seed=20),
        **validated(0.97),
    )
    assert [one.key for one in unknown(of)] == []
    assert {one.key for one in story(of)} == {
        *("data_test", "groups", "network", "result", "beats", "test_same", "confused"),
        *("resolves", "calibrated", "promise", "sturdy"),
    }
    assert len(chapters(of)) == 6


def test_the_numbers_of_the_sentences_are_those_of_the_predictions() -> None:
    of = evidence(predicted(400, 3, right=0.7), epochs=EPOCHS, **found("over-fitting", RISES))
    said = {one.key: one for one in story(of)}
    right = sum(int(row.argmax()) == own for row, own in zip(of.shown.logits, of.shown.labels, strict=True))
    assert (
        f"Of 400 test pictures {right} are answered rightly: accuracy {100 * right / 400:.1f} %"
        in said["result"].text[0]
    )
    assert "since epoch 2 the validation loss rises (0.3 → 0.9)" in said["overfit_since"].text[0]
    assert "从第 2 轮起，验证损失上升（0.3 → 0.9）" in said["overfit_since"].text[1]
    first = next(one for one in story(of) if one.key == "confused")
    own, other = (re.findall(r"class (\d)", first.text[0]))[:2]
    count = sum(
        of.shown.labels[n] == int(own) and of.shown.logits[n].argmax() == int(other) for n in range(len(of.shown))
    )
    assert f": {count} of {(of.shown.labels == int(own)).sum()} pictures" in first.text[0]
    assert first.at == f"cell-{own}-{other}"


def test_what_to_report_has_n_interval_openings_and_what_it_is_compared_with() -> None:
    of = evidence()
    quote = re.search(r'<blockquote><p><span lang="en">(.*?)</span>', report(of))
    assert quote is not None
    said, one = quote[1].replace("&nbsp;", " "), of.accuracy
    assert f"accuracy of {100 * one.value:.1f} % (95 % interval {100 * one.low:.1f} to {100 * one.high:.1f} %)" in said
    assert "On 400 test pictures of 3 classes, the network small" in said
    assert "the test part was opened for the first time" in said
    assert "always saying “class 1”: 40.0 %" in said
    assert said.endswith("seed 0, tellapart 1.0.")
    assert "choices were made by the same pictures" in report(evidence(OWN))
    assert "no simple classifier was judged beside it" in report(evidence(status={"baselines": []}))
    assert "had been opened 2 × before" in report(evidence(opened_before=["a", "b"]))
    assert "opened before is not known" in report(evidence(opened_before=None))


def test_figures_of_robustness_are_drawn_by_way_and_strength() -> None:
    of = of_every_kind()["robust"]
    section = report(of).split('<section id="robustness"')[1].split("</section>")[0]
    assert section.count('class="plot"') == 2
    assert section.count("<circle") == 2 * 2 + 3  # each way with the whole pictures before it; a strip for each row
    assert "dust 2" in section
    assert isinstance(of.robustness[0], Figure)
