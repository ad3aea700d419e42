"""The story of a training: sentences that are true of it, each with the place of its evidence in the report; pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tellapart.evaluation.metrics import Figure, difference
from tellapart.figures.inert import short
from tellapart.reporting.evidence import Evidence, Facts
from tellapart.reporting.words import Value, said, table, word

FEW, WIDE, DULL, NAMED = 20, 0.05, 0.05, 6
"""Fewer pictures of a class than this say little; a wider interval than this, too. What an error of the probabilities
may be by chance before that is worth a word. Settings that are named in one sentence.
"""
TOLD = (
    "train.epochs",
    "optim.name",
    "optim.lr",
    "train.batch_size",
    "input.size",
    "augment.preset",
    "model.name",
)
UNTRAINED = ("input.size", "augment.preset", "model.name")
"""Settings whose automatic choice is told, and those of them that mean something where no epoch is trained."""

GAP = re.compile(r"training (?P<train>.+?), validation (?P<validation>.+?), gap (?P<gap>\S+) points (?P<span>\[.*?\])")
AGAINST = re.compile(r"contradicts (?P<count>[\d,]+) of (?P<n>[\d,]+)")
"""What the diagnosis says in numbers."""
NEAREST, OWN = re.compile(r"the (?P<count>\d+) nearest(?: of (?P<of>[\d,]+))? (?P<by>.+)"), "by its own features"
NEAREST_BY = {"small grey copies": "按缩小灰度图", "by pretrained features": "按预训练特征", OWN: "按网络自身特征"}
"""How the vote of the nearest training pictures is called, and by what they are near."""


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """One sentence: its key in the table of words, what is put into it, and the anchor of its evidence."""

    key: str
    at: str
    values: Mapping[str, Value] = field(default_factory=dict)

    @property
    def text(self) -> tuple[str, str]:
        """The sentence in English and in Chinese, not escaped."""
        return said(self.key, self.values)


def percent(figure: Figure) -> str:
    """A share with its interval: '98.1 % [95.7, 99.2]', from 0 to 100 where nothing is known of it."""
    low, high = max(0.0, figure.low), min(1.0, figure.high)
    return f"{100 * figure.value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def about(figure: Figure) -> Value:
    """What a simple classifier is called: 'always X', or the nearest by something."""
    if figure.about.startswith("always "):
        name = short(figure.about.removeprefix("always "), 60)
        return f"always saying “{name}”", f"总是回答“{name}”"
    found = NEAREST.fullmatch(figure.about)
    if found is None or found["by"] not in NEAREST_BY:
        return figure.about, figure.about
    among = f"{found['of']} 张训练图中" if found["of"] else ""
    return figure.about, f"{among}{NEAREST_BY[found['by']]}最近的 {found['count']} 张投票"


def chapters(of: Evidence) -> list[list[Sentence]]:
    """What may be said of a training, in the order in which it is told: from the data to how sure we are."""
    return [*beginning(of), *(list(found) for found in (_result(of), _confused(of), _sureness(of)))]


def beginning(of: Facts) -> list[list[Sentence]]:
    """The chapters that know of no result: the data, what was decided, and the training."""
    return [list(found) for found in (_data(of), _decided(of), _training(of))]


def story(of: Evidence) -> list[Sentence]:
    """All sentences in order."""
    return [one for chapter in chapters(of) for one in chapter]


def _data(of: Facts) -> Iterator[Sentence]:
    parts = {part: f"{of.total(part):,}" for part in ("train", "validation", "test")}
    kind = "data_test" if of.total("test") else "data"
    total, classes = sum(map(of.total, parts)), f"{len(of.shown.classes):,}"
    source = short(of.status.get("source", ""), 80)
    yield Sentence(key=kind, at="data", values={"source": source, "n": f"{total:,}", "classes": classes, **parts})
    if of.groups is not None:
        yield Sentence(key="groups", at="data", values={"groups": f"{of.groups:,}"})
    if of.left_out:
        yield Sentence(key="left_out", at="data", values={"n": f"{len(of.left_out):,}"})


def _decided(of: Facts) -> Iterator[Sentence]:
    values = of.recipe.values()
    used = TOLD if of.recipe.train.epochs else UNTRAINED
    chosen = [path for path in used if of.origins.get(path, "").startswith("auto: ")]
    if chosen:
        why = "; ".join(f"{path} = {values[path]} ({of.origins[path][6:]})" for path in chosen[:NAMED])
        yield Sentence(key="decided", at="trained", values={"settings": why})


def _training(of: Facts) -> Iterator[Sentence]:
    found = {"model": short(of.recipe.model.name, 60), "parameters": f"{of.status.get('parameters', 0):,}"}
    if of.epochs and (best := of.status.get("best")):
        found |= {"epochs": f"{len(of.epochs):,}", "best": f"{best['epoch'] + 1}"}
        yield Sentence(key="network", at="trained", values=found)
    elif not of.recipe.train.epochs:
        yield Sentence(key="head", at="trained", values=found)
    if of.recipe.model.weights:
        yield Sentence(key="weights", at="trained", values={"file": short(of.recipe.model.weights.rsplit("/")[-1], 80)})
    if parent := of.status.get("parent"):
        values = {"run": short(parent["run"], 100), "step": f"{parent['step']:,}"}
        yield Sentence(key="branched", at="trained", values=values)
    if extended := of.status.get("extended"):
        values = {"times": f"{len(extended)}", "epoch": f"{extended[-1]['epoch']}"}
        yield Sentence(key="extended", at="trained", values=values)
    yield from _fit(of)


def _fit(of: Facts) -> Iterator[Sentence]:
    """How the model fits its pictures, as the diagnosis found it; when over-fitting began, where the curves show it."""
    risen = of.diagnosis.get("over-fitting") or of.diagnosis.get("perhaps over-fitting")
    known = [epoch for epoch in of.epochs if epoch["val_loss"] is not None]
    if risen and "since epoch" in risen["text"] and known:
        low = min(known, key=lambda epoch: epoch["val_loss"])
        spans = {name: f"{one['val_loss']:.3g}" for name, one in (("low", low), ("last", known[-1]))}
        yield Sentence(key="overfit_since", at="curves", values={"epoch": f"{low['epoch'] + 1}", **spans})
    for label, one in of.diagnosis.items():
        numbers = GAP.search(one["text"]) or AGAINST.search(one["text"])
        if (
            (key := f"fit: {label}") in table()["sentences"]
            and numbers
            and (one is not risen or "since epoch" not in one["text"])
        ):
            yield Sentence(key=key, at="curves", values=numbers.groupdict())


def _result(of: Evidence) -> Iterator[Sentence]:
    accuracy = of.accuracy
    right = f"{round(accuracy.value * accuracy.n):,}"
    shown = {"n": f"{accuracy.n:,}", "right": right, "accuracy": percent(accuracy), "part": word(of.part)}
    yield Sentence(key="result", at="summary", values=shown)
    for one in of.baselines:
        low, high = difference(accuracy, one)
        key = "beats" if low > 0 else "loses" if high < 0 else "equals"
        key = "without_head" if one.about.endswith(OWN) else key
        yield Sentence(key=key, at="quote", values={"simple": about(one), "share": percent(one)})
    validation = of.validation
    if validation is not None:
        low, high = difference(validation, accuracy)
        gap = f"{100 * (validation.value - accuracy.value):+.1f} [{100 * low:.1f}, {100 * high:.1f}]"
        key = "test_lower" if low > 0 else "test_higher" if high < 0 else "test_same"
        yield Sentence(key=key, at="quote", values={"gap": gap})


def _confused(of: Evidence) -> Iterator[Sentence]:
    found = of.judgement
    if not found.confused:
        yield Sentence(key="no_mistake", at="confusion", values={"n": f"{found.n:,}"})
    for own, other, count in found.confused[:3]:
        row, column = found.classes.index(own), found.classes.index(other)
        there = (of.shown.labels == row).sum()
        values = {"own": short(own, 60), "said": short(other, 60), "count": f"{count:,}", "n": f"{there:,}"}
        yield Sentence(key="confused", at=cell(row, column), values=values)
    weakest = min((one for one in of.recall() if one.n), key=lambda one: one.value, default=None)
    if weakest is not None and weakest.high < of.accuracy.low:
        values = {"name": short(weakest.about, 60), "recall": percent(weakest), "n": f"{weakest.n:,}"}
        yield Sentence(key="weakest", at="classes", values=values)


def cell(row: int, column: int) -> str:
    """The anchor of the pictures of one class that were said to be of another."""
    return f"cell-{row}-{column}"


def _sureness(of: Evidence) -> Iterator[Sentence]:
    found = of.judgement
    yield Sentence(key="resolves", at="summary", values={"points": f"{100 * found.resolves:.1f}", "n": f"{found.n:,}"})
    one, n = found.calibrated, f"{found.n:,}"
    spans = {"error": f"{100 * one.error:.1f} %", "chance": f"{100 * one.by_chance:.1f} %", "n": n}
    yield Sentence(key="calibrated" if one.calibrated else "off", at="calibration", values=spans)
    for precision, least, answered, right in found.kept[-1:]:
        shares = {"answered": f"{100 * answered / found.n:.1f} %", "right": f"{right:,}", "of": f"{answered:,}"}
        at = {"promise": f"{100 * precision:g} %", "least": f"{least:.3f}"}
        yield Sentence(key="promise", at="risk", values={**at, **shares})
    if of.robustness:
        low, whole = min(of.robustness, key=lambda figure: figure.value), of.robustness[0]
        values = {"way": spoiled(low.about), "share": percent(low), "part": word(whole.part)}
        yield Sentence(key="fragile" if low.high < whole.low else "sturdy", at="robustness", values=values)


def spoiled(name: str) -> tuple[str, str]:
    """'blur 3' in both languages, as far as we have a word for it."""
    kind, _, strength = name.rpartition(" ")
    english, chinese = word(kind)
    return f"{english} {strength}", f"{chinese} {strength}"


def unknown(of: Evidence) -> list[Sentence]:
    """What the number does not say: only what applies to this training."""
    return [*of_the_test(of), *_of_few(of), *of_the_pictures(of)]


def of_the_test(of: Facts) -> Iterator[Sentence]:
    """What is to be known of the part that is judged, and of the training."""
    if of.sealed:
        yield Sentence(key="sealed", at="quote", values={"n": f"{of.total('test'):,}", "run": of.name})
    elif of.part != "test":
        yield Sentence(key="no_test", at="quote")
    elif of.opened_before is None:
        yield Sentence(key="no_ledger", at="quote")
    elif of.opened_before:
        values = {"times": f"{len(of.opened_before):,}", "seen": f"{of.seen_before:,}", "n": f"{len(of.shown):,}"}
        yield Sentence(key="opened_before", at="quote", values=values)
    if not of.siblings:
        yield Sentence(key="one_seed", at="trained", values={"seed": f"{of.recipe.train.seed}"})
    if not of.robustness and of.shown.marks is None:
        yield Sentence(key="no_robustness", at="robustness", values={"run": of.name})


def _of_few(of: Evidence) -> Iterator[Sentence]:
    accuracy, n = of.accuracy, f"{of.judgement.n:,}"
    if accuracy.high - accuracy.low > WIDE:
        points = f"{100 * (accuracy.high - accuracy.low):.1f}"
        yield Sentence(key="wide", at="summary", values={"n": n, "points": points})
    if few := sorted((one for one in of.recall() if 0 < one.n < FEW), key=lambda one: one.n):
        values = {"count": f"{len(few):,}", "few": f"{FEW}", "name": short(few[0].about, 60), "n": f"{few[0].n:,}"}
        yield Sentence(key="few", at="classes", values=values)
    if absent := [one.about for one in of.recall() if not one.n]:
        yield Sentence(key="absent", at="classes", values={"count": f"{len(absent):,}", "name": short(absent[0], 60)})
    if of.judgement.fitted_here:
        yield Sentence(key="fitted_here", at="calibration")
    if of.judgement.calibrated.calibrated and of.judgement.calibrated.by_chance > DULL:
        chance = f"{100 * of.judgement.calibrated.by_chance:.1f} %"
        yield Sentence(key="dull", at="calibration", values={"n": n, "chance": chance})


def of_the_pictures(of: Facts) -> Iterator[Sentence]:
    """What is to be known of the pictures and their labels."""
    data: Any = of.recipe.data
    if of.groups is None:
        yield Sentence(key="no_groups", at="data")
    if not data.test_from:
        yield Sentence(key="one_source", at="data")
    if not data.overlay:
        yield Sentence(key="labels", at="data")
    if data.leaks == "keep":
        yield Sentence(key="leaks", at="data")
