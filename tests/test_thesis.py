"""The thesis pack: from the run folder alone; three writers of one drawing; numbers, names, formulas and citations."""

import csv
import io
import json
import re
import shutil
import subprocess
import zlib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from commands import process, tellapart, train
from pictures import make_folder
from PIL import Image, ImageChops
from test_report import HOSTILE, evidence, of_every_kind, predicted
from test_report_marks import evidence as marked_evidence
from torch import nn

from tellapart.evaluation.metrics import proportion
from tellapart.figures import letters
from tellapart.figures.chart import dashed
from tellapart.figures.pdf import as_pdf
from tellapart.figures.sheet import Mark, Sheet, as_image, as_svg, rounded
from tellapart.names import LOSSES, OPTIMIZERS, SCHEDULES, TORCHVISION_MODELS
from tellapart.preprocess import Preprocess
from tellapart.reporting import thesis as thesis_pack
from tellapart.reporting.evidence import Evidence
from tellapart.reporting.story import percent
from tellapart.reporting.thesis import pack
from tellapart.reporting.thesis_formulas import number, titled
from tellapart.reporting.thesis_methods import FAMILIES, methods
from tellapart.reporting.written import cell, md, tex
from tellapart.run import Run
from tellapart.workflow import thesis
from tellapart.workflow.network import keep_network
from tellapart.workflow.thesis import millimetres

BIB = Path(__file__).parent.parent / "src/tellapart/reporting/references.bib"
FORMULA = (
    *HOSTILE,
    "=1+1",
    "@SUM(A1)",
    r"\input{/etc/passwd}",
    "$x^2$ & 100 % #1_a",
    "--,,``''",
    "[1]",
    "*",
    "中文",
    "Käfer",
)
WEAK = {"latex": "pdflatex", "dots": "pdftoppm"}


@pytest.fixture(autouse=True)
def few_dots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels take most of the time, and say nothing more where there are many of them."""
    if "wide" not in request.fixturenames:
        monkeypatch.setattr(thesis_pack, "DPI", 40)


def needs(what: str) -> None:
    """Skip, with the reason, where a program is not installed."""
    if not shutil.which(WEAK[what]):
        pytest.skip(f"no {WEAK[what]} here: apt-get install texlive-latex-base texlive-latex-recommended poppler-utils")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a training ran in; its run is called r and has its pack."""
    at = tmp_path_factory.mktemp("at")
    make_folder(at / "pets", per_class=30)
    train(at, "r", "pets", "--epochs", "3")
    assert tellapart(at, "report", "r", "--thesis").code == 0
    return at


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(raw: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(raw.decode())))


def hostile() -> Evidence:
    """Predictions of classes, of keys, and of settings, with every name we could think of."""
    n = len(FORMULA)
    keys = tuple(f"{FORMULA[i % n]}/{i}" for i in range(252))
    shown, by = (predicted(252, n, right=0.6, part=part, classes=FORMULA, keys=keys) for part in ("test", "validation"))
    counts = {"train": dict.fromkeys(FORMULA, 3)}
    layer = {"path": FORMULA[0], "layer": FORMULA[9], "name": "Dropout", "inputs": [[1, 4]], "output": [1, 4]}
    layer |= {"window": None, "groups": 1, "parameters": 0, "multiply_adds": 0}
    boxes = [{"words": name, "path": name, "shape": name, "frame": name, "sources": []} for name in FORMULA[:7]]
    more: dict[str, Any] = {"name": FORMULA[7], "origins": {"train.epochs": FORMULA[8]}, "counts": counts}
    more |= {"status": {"source": FORMULA[9]}, "environment": {"system": FORMULA[10], "python": FORMULA[0]}}
    more |= {"recipe": {"train.epochs": 3, "optim.lr": 0.1, "input.size": 8, "model.freeze": FORMULA[9]}}
    return evidence(shown, by=by, network={"boxes": boxes, "parameters": 4, "layers": [layer]}, **more)


# --- the verb ---------------------------------------------------------------------------------------------------------


def test_the_pack_is_rebuilt_byte_for_byte_without_pictures_weights_or_torch(run: Path, tmp_path: Path) -> None:
    whole = files(run / "runs/r/thesis")
    for name in ("loss", "accuracy", "rate", "confusion", "classes", "roc", "reliability", "risk-coverage", "network"):
        assert {f"figures/{name}.{kind}" for kind in ("pdf", "svg", "png", "csv")} <= set(whole)
    for name in ("scores", "comparison", "classes", "ranks", "counts", "recipe"):
        assert {f"tables/{name}.{kind}" for kind in ("tex", "md", "csv")} <= set(whole)
    assert {"README.md", "thesis.tex", "methods.tex", "methods.md", "formulas.tex", "references.bib"} <= set(whole)
    shutil.copytree(run / "runs", tmp_path / "elsewhere" / "runs")
    there = tmp_path / "elsewhere" / "runs" / "r"
    (there / "model.safetensors").unlink()
    shutil.rmtree(there / "checkpoints")
    (there / "thesis/figures/stale.pdf").write_bytes(b"of an older pack")
    (tmp_path / "torch.py").write_text("raise RuntimeError('torch was asked for')")
    words, env = process("report", "r", "--thesis", before=tmp_path)
    again = subprocess.run(words, env=env, cwd=tmp_path / "elsewhere", capture_output=True, text=True, timeout=60)
    assert again.returncode == 0, again.stderr
    assert files(there / "thesis") == whole
    assert again.stderr == ""
    assert "figures/stale.pdf" not in whole
    assert not [path for path in there.iterdir() if path.name.startswith(".thesis")]


def test_a_sealed_test_stays_sealed(class_folder: Path) -> None:
    at = class_folder.parent
    train(at, "r", "pets", "--epochs", "1", "--no-test")
    assert tellapart(at, "report", "r", "--thesis").code == 0
    said = (at / "runs/r/thesis/methods.tex").read_text()
    assert "on the validation part, by which the model was chosen, is" in said
    assert "was opened" not in said
    assert not (at / "runs" / "openings.jsonl").exists()
    assert not (at / "runs/r/predictions/test.safetensors").exists()


@pytest.mark.parametrize(("width", "wide"), [("84mm", 84.0), ("2in", 50.8)])
def test_every_figure_is_as_wide_as_was_asked(run: Path, tmp_path: Path, width: str, wide: float) -> None:
    done = tellapart(run, "report", "r", "--thesis", "--width", width, "--out", str(tmp_path / "pack"), "--json")
    found = json.loads(done.out)
    assert (found["folder"], found["files"], found["lacks"]) == (
        str(tmp_path / "pack"),
        len(files(tmp_path / "pack")),
        [],
    )
    assert found["bytes"] == sum(map(len, files(tmp_path / "pack").values()))
    for pdf in (tmp_path / "pack/figures").glob("*.pdf"):
        box = re.search(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf.read_bytes())
        root = ElementTree.fromstring(pdf.with_suffix(".svg").read_text("utf-8"))
        with Image.open(pdf.with_suffix(".png")) as image:
            size, dpi = image.size, image.info["dpi"]
        assert box
        high = float(root.get("height", "").removesuffix("mm"))
        assert [float(side) * 25.4 / 72 for side in box.groups()] == pytest.approx([wide, high], abs=0.01)
        assert float(root.get("width", "").removesuffix("mm")) == pytest.approx(wide, abs=0.01)
        assert dpi == pytest.approx((300, 300), abs=0.1)
        assert [side / 300 * 25.4 for side in size] == pytest.approx([wide, high], abs=0.05)


def test_a_length_is_told_in_millimetres() -> None:
    assert [millimetres(one) for one in ("84mm", " 8.4 cm ", "3.3in")] == [84, 84, 83.82]
    assert millimetres("240pt") == pytest.approx(240 / 72.27 * 25.4, abs=0.001)


@pytest.mark.parametrize("width", ["84", "wide", "mm", "-84mm", "1e2mm", "84 px", "84mm;", ""])
def test_what_is_no_length_is_refused(run: Path, width: str) -> None:
    done = tellapart(run, "report", "r", "--thesis", "--width", width)
    assert done.code == 2
    assert f"--width: expected a number with mm, cm, in or pt. Received: {width!r}." in done.err


@pytest.mark.parametrize(("width", "said"), [("49mm", "is 49 mm"), ("4m", "expected"), ("20in", "is 508 mm")])
def test_a_width_that_no_column_has_is_refused(run: Path, width: str, said: str) -> None:
    done = tellapart(run, "report", "r", "--thesis", "--width", width)
    assert (done.code, said in done.err) == (2, True)


def test_a_width_without_a_thesis_and_a_folder_that_is_not_ours_are_refused(run: Path, tmp_path: Path) -> None:
    done = tellapart(run, "report", "r", "--width", "84mm")
    assert (done.code, "--width is the width of the figures of --thesis." in done.err) == (2, True)
    (tmp_path / "mine").mkdir()
    assert tellapart(run, "report", "r", "--thesis", "--out", str(tmp_path / "mine")).code == 0  # empty
    assert tellapart(run, "report", "r", "--thesis", "--out", str(tmp_path / "mine")).code == 0  # a pack
    (tmp_path / "mine/README.md").write_text("# My own notes")
    for path in (tmp_path / "mine", tmp_path / "mine/README.md"):
        done = tellapart(run, "report", "r", "--thesis", "--out", str(path))
        assert (done.code, f"{path} exists, and is no thesis pack." in done.err) == (2, True)
    assert (tmp_path / "mine/README.md").read_text() == "# My own notes"


def test_a_run_that_kept_no_network_says_so(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "runs", tmp_path / "runs")
    (tmp_path / "runs/r/network.json").unlink()
    done = tellapart(tmp_path, "report", "r", "--thesis")
    assert done.code == 0
    assert "note: network.json is not in the run folder" in done.err
    assert "network.json is not in the run folder" in (tmp_path / "runs/r/thesis/README.md").read_text()
    found = files(tmp_path / "runs/r/thesis")
    assert not [name for name in found if "network" in name]
    assert b"after a convolution" not in found["formulas.tex"]
    assert b"after a convolution" in files(run / "runs/r/thesis")["formulas.tex"]


def test_a_folder_of_trainings_is_refused_and_each_has_the_spread_of_all(run: Path, tmp_path: Path) -> None:
    many = tmp_path / "runs/many"
    shutil.copytree(run / "runs/r", many / "seed-0")
    accuracy = proportion("accuracy", 9, 10, "validation").to_json()
    members = [{"run": f"seed-{n}", "seed": n, "fold": None, "figures": [accuracy]} for n in (0, 1)]
    spread = {"name": "accuracy", "over": "seeds", "n": 2, "mean": 0.91234, "sd": 0.01}
    (many / "status.json").write_text('{"state": "finished"}')
    (many / "members.json").write_text("{}")
    (many / "summary.json").write_text(json.dumps({"members": members, "spreads": [spread], "out_of_fold": []}))
    done = tellapart(tmp_path, "report", "many", "--thesis")
    assert done.code == 2
    assert "many holds 1 trainings, and a thesis pack is of one." in done.err
    assert "`tellapart report many/seed-0 --thesis`" in done.err
    assert tellapart(tmp_path, "report", "many/seed-0", "--thesis").code == 0
    found = files(many / "seed-0/thesis")
    assert "accuracy | 0.9123 ± 0.0100 | 2" in found["tables/spread.md"].decode()
    assert [row["training"] for row in rows(found["tables/trainings.csv"])] == ["seed-0", "seed-1"]
    assert "tables/spread.md" not in files(run / "runs/r/thesis")
    (many / "summary.json").write_text("{}")
    done = tellapart(tmp_path, "report", "many/seed-0", "--thesis")
    assert (done.code, "summary.json is damaged" in done.err) == (4, True)


def test_a_full_disk_leaves_the_old_pack(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(run / "runs", tmp_path / "runs")
    before, written = files(tmp_path / "runs/r/thesis"), []

    def full(path: Path, raw: bytes) -> None:
        written.append(path)
        if len(written) > 20:
            raise OSError(28, "No space left on device")
        path.write_bytes(raw)

    monkeypatch.setattr(thesis, "write_flushed", full)
    done = tellapart(tmp_path, "report", "r", "--thesis", "--width", "60mm")
    assert (done.code, "The disk is full" in done.err) == (4, True)
    assert files(tmp_path / "runs/r/thesis") == before
    assert [path.name for path in (tmp_path / "runs/r").iterdir() if path.name.startswith(".")] == []


# --- the numbers ------------------------------------------------------------------------------------------------------


def test_the_numbers_below_a_figure_are_those_of_the_judgement() -> None:
    of = evidence()
    found = pack(of, width=84)
    said, own = of.shown.logits.argmax(1), of.shown.labels
    counts = [[int(((own == r) & (said == c)).sum()) for c in range(3)] for r in range(3)]
    table = rows(found["figures/confusion.csv"])
    assert [[int(row[f"class {c}"]) for c in range(3)] for row in table] == counts
    assert [row["true class"] for row in table] == list(of.shown.classes)
    known = {(one.about, one.name): one for one in of.judgement.by_class}
    for row in rows(found["figures/classes.csv"]):
        one = known[row["class"], row["score"]]
        assert [float(row[key]) for key in ("value", "low", "high", "n")] == [one.value, one.low, one.high, one.n]
    risk = [[float(value) for value in row.values()] for row in rows(found["figures/risk-coverage.csv"])]
    assert risk == [list(one) for one in of.judgement.risk]
    for k in range(3):
        line = [row for row in rows(found["figures/roc.csv"]) if row["class"] == f"class {k}"]
        points = [(float(row["false positive rate"]), float(row["true positive rate"])) for row in line]
        area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points))
        assert area == pytest.approx(known[f"class {k}", "ROC area"].value)
        line = [row for row in rows(found["figures/precision-recall.csv"]) if row["class"] == f"class {k}"]
        points = [(float(row["recall"]), float(row["precision"])) for row in line]
        area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points))
        assert points[0][0] == 0
        assert area == pytest.approx(known[f"class {k}", "average precision"].value)
    bins = [row for row in rows(found["figures/reliability.csv"]) if row["probabilities"] == "calibrated"]
    assert sum(int(row["n"]) for row in bins) == len(own)
    error = sum(int(row["n"]) * abs(float(row["mean probability"]) - float(row["right"])) for row in bins) / len(own)
    assert error == pytest.approx(of.judgement.calibrated.error)


def test_the_curves_are_those_of_the_records_smoothed_as_told(run: Path) -> None:
    found = rows(files(run / "runs/r/thesis")["figures/loss.csv"])
    records = [one for _, one in Run(run / "runs/r").records() if one["kind"] == "epoch"]
    assert [float(row["training loss"]) for row in found] == [one["train_loss"] for one in records]
    assert [float(row["validation accuracy"]) for row in found] == [one["val_accuracy"] for one in records]
    for row, one in zip(found, records, strict=True):
        one_of = proportion("", round(one["val_accuracy"] * one["val_n"]), one["val_n"], "")
        assert [float(row[f"accuracy, {end}"]) for end in ("low", "high")] == pytest.approx([one_of.low, one_of.high])
    last, calm = 0.0, []
    for n, one in enumerate(records, 1):
        last = 0.6 * last + 0.4 * one["val_loss"]
        calm.append(last / (1 - 0.6**n))
    assert [float(row["validation loss, smoothed"]) for row in found] == pytest.approx(calm)


def test_tables_have_each_value_with_its_interval_and_n() -> None:
    of = evidence()
    found = pack(of, width=84)
    low, high = 100 * of.accuracy.low, 100 * of.accuracy.high
    span = f"{100 * of.accuracy.value:.1f} [{low:.1f}, {high:.1f}]"
    assert f"| accuracy | {span} | 400 |" in found["tables/scores.md"].decode()
    assert f"{{}}accuracy & {span} & 400 \\\\" in found["tables/scores.tex"].decode()
    assert {"score": "accuracy", "value": span, "n": "400"} in rows(found["tables/scores.csv"])
    loss = next(one for one in of.judgement.figures if one.name == "loss")
    assert f"| loss | {loss.value:.3f} [{loss.low:.3f}, {loss.high:.3f}] | 400 |" in found["tables/scores.md"].decode()
    assert f"is {percent(of.accuracy)} (95 % interval, n = 400)" in found["methods.md"].decode()
    long = evidence(predicted(900, 45), by=predicted(900, 45, part="validation"))
    assert b"longtable" in pack(long, width=84)["tables/classes.tex"]
    assert b"longtable" not in found["tables/classes.tex"]


@pytest.mark.parametrize("kind", ["plain", "many", "sealed", "pictureless", "grey", "right", "one", "two"])
def test_every_kind_of_training_has_a_pack_without_what_is_no_number(kind: str) -> None:
    of = asked(of_every_kind()[kind], {"augment.crop": 1.0})
    found = pack(of, width=84)
    assert found == pack(asked(of_every_kind()[kind], {"augment.crop": 1.0}), width=84)
    for name, raw in found.items():
        if not name.endswith(("pdf", "png", "csv")):
            assert not re.search(r"\b(nan|inf|None)\b", raw.decode()), name
    assert ("figures/mistakes.pdf" in found) == (kind not in ("pictureless", "right", "one", "two"))
    assert ("figures/loss.pdf" in found) == (kind != "one")


# --- formulas and citations -------------------------------------------------------------------------------------------


@cache
def base() -> Evidence:
    """A training of which nothing but the recipe matters."""
    return evidence(predicted(60), by=predicted(60, part="validation"))


def asked(of: Evidence, recipe: Mapping[str, Any], **more: Any) -> Evidence:
    """The same training with another recipe."""
    whole = {"train.epochs": 3, "optim.lr": 0.1, "input.size": 8, "input.channels": 3, **recipe}
    return replace(of, recipe=of.recipe.replaced(whole), **more)


def formulas_of(**recipe: Any) -> str:
    return "\n".join("\n".join(pair) for pair in titled(asked(base(), recipe)))


def recipe_with(**more: Any) -> dict[str, Any]:
    return {"optim.lr": 0.1, "optim.warmup": 0.2, **more}


def test_only_formulas_that_were_used_are_there() -> None:
    plain = formulas_of(**recipe_with())
    assert "Nesterov" in plain
    assert r"\epsilon = 0.1" in plain
    assert r"\omega = 0.2" in plain
    for word in ("Adam", "Hinge", "Focal", "shortened", "moving average", r"\cos"):
        assert word not in plain
    for change, word in (
        ({"optim.clip": 2.5}, "C = 2.5"),
        ({"train.ema": 0.99}, r"\min \left( 0.99"),
        ({"train.swa": 0.25}, r"25\,\%"),
        ({"loss.l1": 0.0001}, r"\alpha = 0.0001"),
        ({"augment.cutmix": 1.0}, "t^{(a)}"),
        ({"optim.layer_decay": 0.75}, r"\cdot 0.75^d"),
        ({"loss.weights": "balanced"}, "w_k t_k"),
        ({"loss.name": "huber", "loss.delta": 0.5}, r"\delta = 0.5"),
        ({"optim.momentum": 0.0}, "w \\leftarrow w - \\eta g\n"),
        ({"optim.nesterov": False}, r"w \leftarrow w - \eta v"),
        ({"optim.dampening": 0.1}, r"v \leftarrow \mu v + 0.9 g"),
    ):
        text = formulas_of(**recipe_with(**change))
        assert word in text, change
    assert "L = " not in formulas_of(**recipe_with(**{"train.epochs": 0}))
    assert number(5e-4) == "0.0005"
    assert number(1e-5) == r"1 \cdot 10^{-5}"


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_optimiser_and_schedule_has_a_formula(name: str, schedule: str) -> None:
    for warmup in (0.0, 0.1):
        made = {"optim.name": name, "optim.schedule": schedule, "optim.lr": 0.01, "optim.warmup": warmup}
        text = formulas_of(**made)
        assert text.count("{") == text.count("}")
        assert len(re.findall(r"\\left[^a]", text)) == text.count(r"\right")
        assert not re.search(r"<\w+>", text)
        assert "0.01" in text
        assert (r"\omega" in text) == bool(warmup)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_has_a_formula(name: str) -> None:
    for weights in ("none", "balanced"):
        text = formulas_of(**recipe_with(**{"loss.name": name, "loss.weights": weights}))
        assert r"\ell = " in text
        assert ("w_{c_i}" in text) == (weights == "balanced")


def kept(model: nn.Module, run: Path, *, size: int = 29) -> tuple[dict[str, Any], list[str]]:
    said = [
        one.text
        for one in keep_network(Run(run), model, Preprocess(size=size, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3))
    ]
    return json.loads((run / "network.json").read_text()), said


def test_sizes_are_worked_with_the_numbers_of_the_network(tmp_path: Path) -> None:
    layers = [
        nn.Conv2d(3, 8, 5, stride=2, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.Conv2d(8, 8, 5, stride=2, padding=1),
    ]
    model = nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 3))
    network, said = kept(model, tmp_path)
    assert said == []
    shapes = []
    x = torch.zeros(1, 3, 29, 29)
    for layer in model:
        x = layer(x)
        shapes.append(list(x.shape))
    assert [one["output"] for one in network["layers"]] == shapes
    found = list(titled(evidence(network=network)))
    worked = [formula for title, formula in found if title.startswith("In the layer")]
    assert sum(formula.endswith(f"= {side}") for formula in worked for side in (14, 7)) == 2
    assert len([title for title, _ in found if title == "In the layer \\texttt{0}"]) >= 1
    assert not [title for title, _ in found if title == "In the layer \\texttt{3}"]  # a window that was worked
    titles = " ".join(title for title, _ in found)
    assert "that keeps a partial window" in titles
    assert "Linear layer" in titles
    assert "Batch normalisation" not in titles
    assert "m = (0.5000, 0.5000, 0.5000)" in " ".join(formula for _, formula in found)


def test_a_network_that_cannot_be_watched_ends_nothing(tmp_path: Path) -> None:
    network, said = kept(nn.Sequential(nn.Flatten(), nn.Linear(7, 2)), tmp_path)
    assert set(network) == {"format", "preprocess"}
    assert "the network cannot be drawn" in said[0]


def keys_of(found: Mapping[str, str]) -> tuple[set[str], set[str], set[str]]:
    """The keys that the LaTeX cites, that the Markdown cites, and that the BibTeX has."""
    cited = {key for keys in re.findall(r"\\cite\{([^}]*)\}", found["methods.tex"]) for key in keys.split(",")}
    marked = set(re.findall(r"(?<=[\[ ])@(\w+)", found["methods.md"]))
    return cited, marked, set(re.findall(r"^@\w+\{([^,]+),", found["references.bib"], re.M))


def test_what_is_cited_is_in_the_bibliography_and_nothing_else_and_every_entry_is_cited_by_someone() -> None:
    changes: list[dict[str, Any]] = [{"model.name": name} for name in (*TORCHVISION_MODELS, "small", "timm:vit_tiny")]
    changes += [{"optim.name": name} for name in OPTIMIZERS] + [{"loss.name": name} for name in LOSSES]
    changes += [{"optim.schedule": name} for name in SCHEDULES] + [
        {"augment.policy": "rand"},
        {"augment.policy": "trivial"},
    ]
    changes += [
        {"augment.mixup": 0.2, "augment.cutmix": 1.0, "augment.erase": 0.1},
        {"train.ema": 0.9, "train.swa": 0.2},
    ]
    changes += [{"input.normalize": "imagenet", "model.weights": "a/resnet18-f37072fd.pth"}]
    sources = ("digits", "mnist", "fashion-mnist", "kmnist", "cifar10")
    layers = [{"name": name} for name in ("BatchNorm2d", "LayerNorm", "Dropout")]
    every = set()
    for n, change in enumerate(changes):
        status = {**base().status, "source": sources[n % len(sources)]}
        of = asked(base(), change, status=status, network={"layers": layers})
        cited, marked, known = keys_of(methods(of))
        assert cited == marked == known, change
        every |= known
    every |= keys_of(methods(marked_evidence()))[2]
    assert "he2016" not in keys_of(methods(asked(base(), {})))[0]
    listed = [re.match(r"@\w+\{(\w+),", line) for line in BIB.read_text().splitlines()]
    assert {found[1] for found in listed if found} | {"tellapart"} == every
    for line in BIB.read_text().splitlines():
        assert line.count("{") == line.count("}")
        assert re.search(r"title = \{.+\}, ", line)
        assert re.search(r"author = \{.+\}, ", line)
        assert re.search(r"year = \{\d{4}\}\}$", line)


# --- names from elsewhere ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "status", "more", "said"),
    [
        ({"train.epochs": 0}, {}, {}, "its head alone was fitted, at once"),
        ({"train.batch_size": 0}, {}, {}, "with batches of 800 pictures"),
        ({"model.weights": "a/b.pth"}, {}, {}, "It began with the pretrained weights b.pth; its head was new."),
        ({"data.folds": 5, "data.fold": 2}, {}, {}, "Fold 2 of 5 is the validation part."),
        ({"machine.precision": "bf16"}, {}, {}, "The forward pass was computed in bf16."),
        ({"loss.ignore": "class 1"}, {}, {}, "Also set: loss.ignore = class 1."),
        ({"optim.rates": "head.*=0.1"}, {}, {}, "Also set: optim.rates = head.\\*=0.1."),
        ({}, {"extended": [{}]}, {}, "The training was extended 1 time; rate and schedule are those of its last part."),
        ({}, {"parent": {"run": "old", "step": 4000}}, {}, "It went on from step 4,000 of the run old."),
        ({}, {}, {"opened_before": ["a"]}, "The test part had been opened once before."),
        ({}, {}, {"opened_before": ["a", "b"]}, "The test part had been opened 2 times before."),
        ({}, {}, {"left_out": [("a", "b")]}, "Files that were left out, each for a reason that is logged: 1."),
        ({}, {}, {"groups": 40}, "Pictures that belong together (40 groups) stayed in one part."),
    ],
)
def test_a_sentence_is_there_only_where_it_is_true(
    change: dict[str, Any], status: dict[str, Any], more: dict[str, Any], said: str
) -> None:
    of = replace(base(), groups=None, opened_before=[])
    text, plain = (
        methods(asked(replace(of, status={**of.status, **facts}, **given), recipe))["methods.md"]
        for recipe, facts, given in ((change, status, more), ({}, {}, {}))
    )
    assert said in text
    assert said not in plain


def test_a_seal_is_only_called_kept_where_nobody_looked_before() -> None:
    of, kept = replace(base(), opened_before=[]), "kept under seal until everything was chosen"
    assert of.part == "test"
    assert kept in methods(of)["methods.md"]
    for odd in (
        replace(of, opened_before=["a"]),
        replace(of, opened_before=None),
        replace(of, status={**of.status, "extended": [{}]}),
    ):
        assert kept not in methods(odd)["methods.md"]
    sealed = evidence(predicted(part="validation"))
    assert " a test part, which is still under seal." in methods(sealed)["methods.md"]


def test_a_name_that_only_begins_like_a_family_is_not_called_one() -> None:
    for name in ("timm:efficientnetv2_s", "resnet_mine.py:Net", "vgg/x.py:Net"):
        cited = keys_of(methods(asked(base(), {"model.name": name})))[0]
        assert cited & set(FAMILIES.values()) == {"szegedy2016"}, name  # for label smoothing
    assert "tan2021" in keys_of(methods(asked(base(), {"model.name": "efficientnet_v2_s"})))[0]


def test_hostile_names_are_text_in_every_file() -> None:
    plain, found = pack(evidence(network=hostile().network), width=84), pack(hostile(), width=84)
    assert set(plain) <= set(found)
    for name, raw in found.items():
        if name.endswith(".svg"):
            tags = {one.tag.partition("}")[2] for one in ElementTree.fromstring(raw.decode()).iter()}
            assert tags <= {"svg", "title", "defs", "marker", "path", "rect", "polyline", "polygon", "text", "image"}
        elif name.endswith(".csv"):
            cells = [one for row in csv.reader(io.StringIO(raw.decode("utf-8"))) for one in row]
            assert not [one for one in cells if one.startswith(("=", "+", "@")) or re.match(r"-[^\d]", one)]
        elif name.endswith(".md"):
            text = raw.decode()
            assert not re.search(r"(?<!\\)<script", text)
            bars = [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")]
            assert len(set(bars)) <= 1
        elif name.endswith((".tex", ".bib")):
            assert not re.search(r"\\input\{/|\x1b|\u202e", raw.decode())
        if not name.endswith(("pdf", "png")):
            assert not [one for one in raw.decode() if not one.isprintable() and one != "\n"], name
    assert b"S/JavaScript" not in b"".join(found.values())


@pytest.mark.parametrize(
    ("name", "latex", "marked"),
    [
        (r"\input{a}", r"\textbackslash{}input\{a\}", r"\\input\{a\}"),
        ("a_b&c%d#e$f", r"a\_\allowbreak{}b\&c\%d\#e\$f", r"a\_b\&c%d\#e\$f"),
        ("x--y,,z", "x-{}-y,{},z", "x--y,,z"),
        ("-0.5 [1.0, 2.0]", r"\(-\)0.5 [1.0, 2.0]", "-0.5 [1.0, 2.0]"),
        ("a|b<c>[d](e)", r"a\textbar{}b\textless{}c\textgreater{}{[}d{]}(e)", r"a\|b\<c\>\[d\]\(e\)"),
        ("https://www.a.b", r"https:/\allowbreak{}/\allowbreak{}www.a.b", r"https\://www\.a.b"),
        ("a\nb\x1b\u202e", "a\N{REPLACEMENT CHARACTER}b" + 2 * "\N{REPLACEMENT CHARACTER}", "a�b��"),
    ],
)
def test_a_name_is_only_letters(name: str, latex: str, marked: str) -> None:
    assert (tex(name), md(name)) == (latex, marked)


def test_a_cell_is_no_formula_and_a_number_is_a_number() -> None:
    assert [cell(one) for one in ("=1+1", "@a", "+b", "-x", "-0.5", "cat")] == [
        "'=1+1",
        "'@a",
        "'+b",
        "'-x",
        "-0.5",
        "cat",
    ]


# --- LaTeX ------------------------------------------------------------------------------------------------------------


def compiled(folder: Path) -> str:
    """What pdflatex says of thesis.tex after it ran three times, with bibtex between."""
    latex = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "thesis"]
    for words in (latex, ["bibtex", "thesis"], latex, latex):
        done = subprocess.run(words, cwd=folder, capture_output=True, timeout=120)
        assert done.returncode == 0, done.stdout.decode("utf-8", "replace")[-3000:]
    assert (folder / "thesis.pdf").read_bytes().startswith(b"%PDF")
    assert "Warning--" not in (folder / "thesis.blg").read_text()
    return (folder / "thesis.log").read_text(encoding="latin-1")


def test_the_document_compiles_and_nothing_is_undefined_or_juts_out(run: Path, tmp_path: Path) -> None:
    needs("latex")
    shutil.copytree(run / "runs/r/thesis", tmp_path / "pack")
    log = compiled(tmp_path / "pack")
    assert "undefined" not in log
    assert "Missing character" not in log
    assert [float(far) for far in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log) if float(far) > 20] == []


def test_no_page_but_the_last_is_half_empty(run: Path, tmp_path: Path) -> None:
    needs("latex")
    needs("dots")
    shutil.copytree(run / "runs/r/thesis", tmp_path / "pack")
    compiled(tmp_path / "pack")
    words = ["pdftoppm", "-r", "20", "-gray", "-png", "thesis.pdf", "page"]
    assert subprocess.run(words, cwd=tmp_path / "pack", capture_output=True, timeout=60).returncode == 0
    pages = [np.asarray(Image.open(page)) for page in sorted((tmp_path / "pack").glob("page-*.png"))]
    body = [page[: int(0.9 * len(page))] for page in pages]  # without its number
    ends = [np.flatnonzero((page < 200).any(axis=1)).max() / len(page) for page in body]
    assert len(ends) > 3
    assert min(ends[:-1]) > 0.6, ends


def test_narrow_figures_stand_two_in_a_row_and_wide_ones_alone() -> None:
    narrow, wide_ = (pack(evidence(), width=width)["thesis.tex"].decode() for width in (84, 150))
    drawn = narrow.count(r"\includegraphics")
    assert drawn == wide_.count(r"\includegraphics") > 6
    assert narrow.count(r"\includegraphics[width=77.6mm]") == narrow.count(r"\begin{minipage}[t]") == drawn - drawn % 2
    assert r"\begin{minipage}[t]" not in wide_
    for text in (narrow, wide_):
        assert text.count(r"\caption{") == drawn + text.count(r"\begin{shown}{table}")
        assert [name for name in re.findall(r"\\includegraphics.*?\{(.*?)\}", text) if text.count(name) != 1] == []


@pytest.mark.parametrize("kind", ["hostile", "many", "one"])
def test_odd_packs_compile_too(tmp_path: Path, kind: str) -> None:
    needs("latex")
    for name, raw in pack(hostile() if kind == "hostile" else of_every_kind()[kind], width=84).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(raw)
    log = compiled(tmp_path)
    assert "undefined" not in log
    if kind == "hostile":
        assert "passwd" not in re.sub(r"\s", "", log.partition("Output written")[0])


def test_every_formula_compiles(tmp_path: Path) -> None:
    needs("latex")
    every = {}
    for change in [{"optim.name": name} for name in OPTIMIZERS] + [{"loss.name": name} for name in LOSSES]:
        for schedule in SCHEDULES:
            more = {"optim.schedule": schedule, "optim.warmup": 0.1, "optim.clip": 1.0, "train.ema": 0.9}
            of = asked(base(), {**more, "loss.l1": 1e-5, **change})
            every |= {formula: title for title, formula in titled(of)}
    body = "\n".join(f"{title}: \\[ {formula} \\]" for formula, title in every.items())
    (tmp_path / "thesis.tex").write_text(f"\\documentclass{{article}}\\begin{{document}}\n{body}\n\\end{{document}}")
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "thesis"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout.decode("latin-1")[-2000:]


# --- one drawing, three writers ---------------------------------------------------------------------------------------


def sheet() -> Sheet:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    marks = [
        Mark("box", [(5, 5), (35, 15)], "#dce8f6", 0.4, edge="#333", round=1.0),
        Mark("area", [(40, 5), (70, 5), (55, 25)], "#D55E00", solid=0.4),
        Mark("line", [(5, 40), (30, 20), (70, 40)], "#0072B2", 1.0),
        Mark("arrow", [(10, 16), (10, 30), (40, 30), (40, 38)], "#333", 0.4, round=2.0),
        Mark("picture", [(50, 42), (70, 62)], pixels=pixels),
        Mark("words", [(37, 50)], width=4, words="middle", anchor="middle"),
        Mark("words", [(6, 60)], width=4, words="up", turned=True),
        Mark("words", [(10, 60)], width=4, words="Käfer 中"),
    ]
    return Sheet(75, 65, marks, "mm", "a <sheet>")


def streams(raw: bytes) -> list[bytes]:
    """The streams of a PDF, unpacked."""
    found = re.finditer(rb"/Length (\d+)>>\nstream\n", raw)
    return [zlib.decompress(raw[one.end() : one.end() + int(one[1])]) for one in found]


def test_the_table_of_a_pdf_points_at_its_objects_and_its_font_is_inside() -> None:
    raw = as_pdf(sheet())
    assert raw == as_pdf(sheet())
    start = int(re.findall(rb"startxref\n(\d+)", raw)[0])
    places = [int(one) for one in re.findall(rb"^(\d{10}) 00000 n", raw[start:], re.M)]
    assert [raw[at:].split(b" ", 1)[0] for at in places] == [str(n).encode() for n in range(1, len(places) + 1)]
    assert streams(raw)[1][:4] == b"\x00\x01\x00\x00"  # a TrueType font
    assert b"/CreationDate" not in raw
    assert b"<6d6964646c65> Tj" in streams(raw)[0]  # "middle", as text


def test_words_whose_letters_the_font_lacks_are_drawn_and_can_be_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    letters._best.cache_clear()
    found = [file for file in letters.FONTS if letters._there(file) and letters._in("中", file)]
    content = streams(as_pdf(sheet()))[0]
    said = "\ufeffKäfer 中" if found else letters.drawable("\ufeffKäfer 中")
    if found:
        assert f"ActualText <{said.encode('utf-16-be').hex()}>".encode() in content
    monkeypatch.setattr(letters, "_there", lambda file: not file)
    letters._best.cache_clear()
    try:
        assert letters.drawable("Käfer 中 cat") == "KU+00E4fer U+4E2D cat"
        assert "KU+00E4fer U+4E2D".encode("cp1252").hex().encode() in streams(as_pdf(sheet()))[0]
        assert "Käfer 中" in as_svg(sheet())  # text as text, whatever this machine has
    finally:
        letters._best.cache_clear()


def test_dots_of_the_pdf_and_of_the_png_are_alike(tmp_path: Path) -> None:
    needs("dots")
    (tmp_path / "a.pdf").write_bytes(as_pdf(sheet()))
    words = ["pdftoppm", "-r", "150", "-png", "-singlefile", "a.pdf", "a"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    ours, theirs = as_image(sheet(), dpi=150), Image.open(tmp_path / "a.png").convert("RGB")
    assert abs(ours.width - theirs.width) <= 1
    assert abs(ours.height - theirs.height) <= 1
    apart = np.asarray(ImageChops.difference(ours, theirs.resize(ours.size)))
    assert apart.mean() < 3
    blank = np.asarray(ImageChops.difference(ours, Image.new("RGB", ours.size, "white")))
    assert blank.mean() > 15  # the same of no drawing


def test_a_round_corner_leaves_the_line_where_it_was_and_dashes_are_as_long_as_told() -> None:
    line = [(0.0, 0.0), (10.0, 0.0), (10.0, 10.0)]
    found = rounded(line, 2.0)
    assert (found[0], found[-1]) == (line[0], line[-1])
    assert (8.0, 0.0) in found
    assert (10.0, 2.0) in found
    assert max(x for x, _ in found) == 10
    parts = dashed(line, (3.0, 1.0))
    lengths = [sum(abs(b[0] - a[0]) + abs(b[1] - a[1]) for a, b in pairwise(part)) for part in parts]
    assert lengths == pytest.approx([3.0, 3.0, 3.0, 3.0, 3.0])
    assert parts[2] == [(8.0, 0.0), (10.0, 0.0), (10.0, 1.0)]
