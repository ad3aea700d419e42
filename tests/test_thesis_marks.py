"""The thesis pack where a picture may have several classes: its numbers, its formulas, its words; and it compiles."""

import json
import re
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from commands import Done, tellapart, train
from marked import SHAPES, make_marked
from test_report_marks import drawn, evidence, right
from test_thesis import FORMULA, compiled, files, keys_of, needs, rows

from tellapart.evaluation.marks import called
from tellapart.evaluation.metrics import binary_entropies
from tellapart.reporting import thesis as thesis_pack
from tellapart.reporting.evidence import Marked
from tellapart.reporting.story import percent
from tellapart.reporting.thesis import pack
from tellapart.reporting.thesis_formulas import titled
from tellapart.reporting.thesis_methods import methods
from tellapart.reporting.thesis_pictures import TILES


@pytest.fixture(autouse=True)
def few_dots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels take most of the time, and say nothing more where there are many of them."""
    monkeypatch.setattr(thesis_pack, "DPI", 40)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The run `a`, its test part opened."""
    at = tmp_path_factory.mktemp("marks")
    make_marked(at / "shapes", 240)
    return train(at, "a", "shapes/labels.csv", "--several", ";", "--epochs", "3", "--set", "model.width=8")


def odd() -> dict[str, Marked]:
    """Evidence of every kind that a pack is made of."""
    names = tuple(FORMULA[n] for n in (0, 9, 13))
    keys = tuple(f"{FORMULA[n % len(FORMULA)]}/{n}" for n in range(300))
    hostile = drawn(classes=names, keys=keys), drawn(classes=names, part="validation")
    counts = {"train": dict.fromkeys(names, 3)}
    return {
        "plain": evidence(),
        "sealed": evidence(drawn(part="validation"), opened_before=None, groups=None),
        "right": evidence(right(), by=drawn(40.0, part="validation")),
        "pictureless": evidence(drawn(thumbnails=None)),
        "few": evidence(drawn(n=30, rare=0.0), by=drawn(n=30, rare=0.0, part="validation"), epochs=[]),
        "hostile": evidence(hostile[0], by=hostile[1], counts=counts, name=FORMULA[7]),
    }


def test_the_pack_of_a_run_has_what_such_pictures_have_and_is_rebuilt_byte_for_byte(
    learned: Done, tmp_path: Path
) -> None:
    done = tellapart(learned.at, "report", "a", "--thesis", "--json")
    assert done.code == 0, done.err
    whole = files(Path(json.loads(done.out)["folder"]))
    names = {path.partition("/")[2].partition(".")[0] for path in whole if "/" in path}
    assert names == {
        *("loss", "average-precision", "rate", "classes", "roc", "precision-recall", "network"),
        *("scores", "ranks", "counts", "recipe"),
        *(["mistakes"] * ("figures/mistakes.csv" in whole)),
    }
    shutil.copytree(learned.at / "runs", tmp_path / "runs")
    assert tellapart(tmp_path, "report", "a", "--thesis").code == 0
    assert files(tmp_path / "runs/a/thesis") == whole
    found = rows(whole["figures/average-precision.csv"])
    records = [one for _, one in learned.run("a").records() if one["kind"] == "epoch"]
    score = "val_mean_average_precision"
    assert [float(row["validation mean average precision"]) for row in found] == [one[score] for one in records]
    _, marks = make_marked(tmp_path / "again", 240)
    counts = {row["class"]: int(row["total"]) for row in rows(whole["tables/counts.csv"])}
    assert [counts[name] for name in SHAPES] == marks.sum(0).tolist()
    assert counts["none of the classes"] == (~marks.any(1)).sum()
    assert counts["pictures"] == 240


def test_the_numbers_below_a_figure_are_those_of_the_judgement() -> None:
    of = evidence()
    found, known = pack(of, width=84), {(one.about, one.name): one for one in of.judgement.by_class}
    for row in rows(found["figures/classes.csv"]):
        one = known[row["class"], row["score"]]
        assert [float(row[key]) for key in ("value", "low", "high", "n")] == [one.value, one.low, one.high, one.n]
    for name in SHAPES:
        lines = [row for row in rows(found["figures/precision-recall.csv"]) if row["class"] == name]
        points = [(float(row["recall"]), float(row["precision"])) for row in lines if row["of"] == "curve"]
        area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points))
        assert area == pytest.approx(known[name, "average precision"].value)
        (dot,) = ((float(row["recall"]), float(row["precision"])) for row in lines if row["of"] == "threshold")
        assert dot == (known[name, "recall"].value, known[name, "precision"].value)
        line = [row for row in rows(found["figures/roc.csv"]) if row["class"] == name]
        points = [(float(row["false positive rate"]), float(row["true positive rate"])) for row in line]
        area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points))
        assert area == pytest.approx(known[name, "ROC area"].value)


def test_the_pictures_of_the_largest_loss_are_shown_with_what_is_wrong_of_them() -> None:
    of = evidence()
    own, said = of.shown.marks, called(of.shown.logits, [one.value for one in of.judgement.thresholds])
    assert own is not None
    losses = np.where((said != own).any(1), binary_entropies(of.shown.logits, own), -1)
    found = rows(pack(of, width=84)["figures/mistakes.csv"])
    assert len(found) == TILES
    for row, at in zip(found, np.argsort(-losses), strict=False):
        assert row["picture"] == of.shown.keys[at]
        assert float(row["loss"]) == pytest.approx(losses[at])
        sets = {"classes": own[at], "missed": own[at] & ~said[at], "wrongly said": said[at] & ~own[at]}
        for column, marks in sets.items():
            names = {name for name, has in zip(SHAPES, marks, strict=True) if has}
            assert set(filter(None, row[column].split("; "))) == names, column


def test_tables_have_each_class_with_its_threshold_its_interval_and_n() -> None:
    of = evidence()
    found, known = pack(of, width=84), {(one.about, one.name): one for one in of.judgement.by_class}
    for row, least in zip(rows(found["tables/classes.csv"]), of.judgement.thresholds, strict=True):
        assert (row["threshold"], row["n"]) == (f"{least.value:.3f}", f"{known[row['class'], 'recall'].n}")
        for what in ("recall", "precision", "F1"):
            one = known[row["class"], what]
            assert row[what] == f"{100 * one.value:.1f} [{100 * one.low:.1f}, {100 * one.high:.1f}]"
    for row in rows(found["tables/ranks.csv"]):
        one = known[row["class"], "average precision"]
        assert row["average precision"] == f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"
    scores = {row["score"]: row["value"] for row in rows(found["tables/scores.csv"])}
    assert list(scores) == [one.name for one in of.judgement.figures]
    for one in of.judgement.figures:
        plain = one.name in ("mean average precision", "micro average precision", "mean ROC area", "loss")
        assert scores[one.name].startswith(f"{one.value:.3f} [" if plain else f"{100 * one.value:.1f} ["), one.name


def test_formulas_are_those_of_such_a_training() -> None:
    text = "\n".join("\n".join(pair) for pair in titled(trained(evidence())))
    for word in (r"\sigma(z_k)", r"p_k \ge \tau_k", r"t_k = [k \in C]", r"\ln (1 - \sigma(z_k))", r"\mathrm{mAP}"):
        assert word in text, word
    for word in (r"\sum_{j=1}^{K} \exp z_j", r"\kappa", "Brier", "calibration", "[k = c]", "n_{kk}"):
        assert word not in text, word
    assert text.count("{") == text.count("}")


def trained(of: Marked) -> Marked:
    """With a recipe that trained something."""
    values = {
        "train.epochs": 3,
        "loss.label_smoothing": 0.0,
        "optim.lr": 0.1,
        "input.size": 16,
        "input.channels": 3,
        "loss.name": "bce",
        "augment.crop": 1.0,
    }
    return replace(of, recipe=of.recipe.replaced(values))


def test_the_methods_say_what_is_true_of_it_and_cite_what_is_listed() -> None:
    of = trained(evidence())
    found, figures = methods(of), {one.name: one for one in of.judgement.figures}
    cited, marked, known = keys_of(found)
    assert cited == marked == known
    text = found["methods.md"]
    assert {"sechidis2011", "rao1992", "delong1988"} <= cited
    assert not {"brier1950", "cohen1960", "guo2017"} & cited
    for name in ("mean average precision", "micro F1", "macro F1", "exact match"):
        assert percent(figures[name]) in text, name
    assert "of which a picture may have several, or none" in text
    assert "The loss is bce (binary cross-entropy), a yes or no for each class" in text
    assert "accuracy" not in text


def test_a_sentence_is_there_only_where_it_is_true() -> None:
    plain = methods(evidence())["methods.md"]
    told = {
        "The thresholds were fitted to these very pictures": evidence(drawn(part="validation")),
        "0.5 for the 1 of 3 that fewer than 10 pictures of it have, or lack": evidence(
            by=drawn(rare=0.01, part="validation")
        ),
        "which is still under seal": evidence(drawn(part="validation")),
        "The test part had been opened once before.": evidence(opened_before=["b"]),
    }
    for sentence, of in told.items():
        assert sentence in methods(of)["methods.md"], sentence
        assert sentence not in plain, sentence


@pytest.mark.parametrize("kind", odd())
def test_every_kind_of_pack_holds_only_numbers_and_compiles(kind: str, tmp_path: Path) -> None:
    found = pack(trained(odd()[kind]), width=84)
    for name, raw in found.items():
        if not name.endswith(("pdf", "png", "csv")):
            assert not re.search(r"\b(nan|inf|None)\b", raw.decode()), name
    assert ("figures/mistakes.pdf" in found) == (kind not in ("pictureless", "right"))
    assert ("figures/loss.pdf" in found) == (kind != "few")
    needs("latex")
    for name, raw in found.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(raw)
    log = compiled(tmp_path)
    assert "undefined" not in log
    if kind != "hostile":
        assert "Missing character" not in log
        assert [float(far) for far in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log) if float(far) > 20] == []
