"""The model card: what a model is, what it was made from and how good it is, in Markdown, from its file alone.

Its head is what hubs read (YAML; each value a JSON string, which is YAML too); its figures have n and interval.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tellapart.figures.inert import inert, short
from tellapart.models.bundle import Bundle
from tellapart.recipe import Recipe

PLAIN = ("loss", "Brier", "Cohen's kappa", "MCC")
"""Scores that are no shares: they are shown as they are, not in percent."""
NAMED = 40
"""Classes that are listed by name."""


def card(bundle: Bundle, name: str) -> str:
    """The card of a model that is called `name`."""
    title = f"# {_text(name)}\n\n{_lead(bundle)}"
    sections = {
        "What it tells apart": _classes(bundle),
        "How good it is": _scores(bundle),
        "How sure it is": _sure(bundle),
        "What it was made from": _origin(bundle),
        "How it was trained": _recipe(bundle),
        "How to use it": _use(bundle),
        "What is not known": _not_known(bundle),
    }
    body = [f"## {head}\n\n{text}" for head, lines in sections.items() if (text := "\n".join(lines))]
    return "\n\n".join([_head(bundle, name), title, *body]) + "\n"


def _head(bundle: Bundle, name: str) -> str:
    values = {
        "library_name": "tellapart",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", *["multi-label"] * bool(bundle.thresholds), bundle.architecture.name],
        "model-index": [{"name": name, "results": [_result(bundle, every)]}] if (every := _overall(bundle)) else [],
    }
    lines = (f"{key}: {json.dumps(value, ensure_ascii=True)}" for key, value in values.items())
    return "\n".join(["---", *lines, "---"])


def _result(bundle: Bundle, every: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "task": {"type": "image-classification"},
        "dataset": {"name": str(bundle.origin.get("source", "")), "type": "other", "split": every[0]["part"]},
        "metrics": [{"type": score["name"], "value": score["value"]} for score in every],
    }


def _overall(bundle: Bundle) -> list[Mapping[str, Any]]:
    """The scores of all classes: of the test part where it was opened, else of validation."""
    parts = {score["part"] for score in bundle.scores}
    part = "test" if "test" in parts else "validation"
    return [score for score in bundle.scores if score["part"] == part and not score["about"]]


def _lead(bundle: Bundle) -> str:
    network, takes = bundle.architecture.name, bundle.preprocess.words()
    what = f"A classifier of pictures into {len(bundle.classes)} classes"
    if bundle.thresholds:
        what = f"It finds in a picture any of {len(bundle.classes)} classes, several or none"
    return f"{what}. Network: {_text(network)}; it takes {takes}."


def _classes(bundle: Bundle) -> Iterator[str]:
    named = ", ".join(_text(short(one, 60)) for one in bundle.classes[:NAMED])
    more = f", and {len(bundle.classes) - NAMED:,} more" * (len(bundle.classes) > NAMED)
    yield f"Classes: {named}{more}."
    if bundle.known is not None:
        yield ""
        yield "A picture of anything else is called *unknown* when its largest logit is below that of 98 of 100"
        yield f"validation pictures ({bundle.known:.3g}). That is a doorkeeper, not a proof."


def _scores(bundle: Bundle) -> Iterator[str]:
    every = _overall(bundle)
    if not every:
        yield "No score is stored with it."
        return
    part = every[0]["part"]
    chosen = "which nothing was chosen by" if part == "test" else "which it was chosen by"
    chosen += ", and its thresholds fitted to" * bool(bundle.thresholds and part != "test")
    yield f"On {every[0]['n']:,} {part} pictures, {chosen}. Intervals are of 95 %."
    yield from ["", "| score | value | interval | n |", "|---|---|---|---|"]
    yield from (_row(score["name"], score) for score in every)
    yield from _marked_classes(bundle, part) if bundle.thresholds else _by_class(bundle, part)


def _marked_classes(bundle: Bundle, part: str) -> Iterator[str]:
    """The worst classes by F1 where a picture may have several, each with its threshold."""
    own = {(one["name"], one["about"]): one for one in bundle.scores if one["part"] == part and one["about"]}
    found = [name for name in bundle.classes if ("F1", name) in own]
    if not found:
        return
    least = dict(zip(bundle.classes, bundle.thresholds, strict=True))
    names = ("F1", "recall", "precision", "average precision")
    yield from ["", f"| class | said from | {' | '.join(names)} | pictures |", "|---|---|---|---|---|---|---|"]
    order = sorted(found, key=lambda name: own["F1", name]["value"] if own["F1", name]["value"] is not None else 2)
    for name in order[:NAMED]:
        cells = [_span(own.get((what, name))) for what in names]
        n = own["recall", name]["n"] if ("recall", name) in own else 0
        yield f"| {_text(short(name, 60))} | {100 * least[name]:.1f} % | {' | '.join(cells)} | {n:,} |"
    if len(found) > NAMED:
        yield from ["", f"The {NAMED} worst of {len(found):,} classes are listed."]


def _span(score: Mapping[str, Any] | None) -> str:
    """'83.1 % (70.2 % to 91.0 %)'."""
    if score is None or score["value"] is None:
        return "–"
    value, low, high = (_number(score["name"], score[key]) for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _by_class(bundle: Bundle, part: str) -> Iterator[str]:
    recalls = [one for one in bundle.scores if one["part"] == part and one["about"] and one["name"] == "recall"]
    if not recalls:
        return
    yield from ["", "| class | found (recall) | interval | n |", "|---|---|---|---|"]
    worst = sorted(recalls, key=lambda one: one["value"] if one["value"] is not None else 2)
    yield from (_row(short(one["about"], 60), one) for one in worst[:NAMED])
    if len(worst) > NAMED:
        yield from ["", f"The {NAMED} worst of {len(worst):,} classes are listed."]


def _row(name: str, score: Mapping[str, Any]) -> str:
    value, low, high = (_number(score["name"], score[key]) for key in ("value", "low", "high"))
    return f"| {_text(name)} | {value} | {low} to {high} | {score['n']:,} |"


def _number(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if name in PLAIN else f"{100 * value:.1f} %"


def _sure(bundle: Bundle) -> Iterator[str]:
    if bundle.thresholds:
        yield "- A picture may have several classes, or none: each is said from its own threshold on, fitted to"
        yield "  validation, by the sigmoid of its logit."
        return
    yield f"- Logits are divided by the temperature {bundle.temperature:.3g}, fitted to validation, before the softmax."
    for precision, least in sorted(bundle.promises.items()):
        share = f"at least {100 * precision:g} % of answers to pictures of its classes are right"
        yield f"- From probability {least:.3f} on, {share}."
    if not bundle.promises:
        yield "- Validation is too small, or wrong too often, for a promise of 90 % right answers."


def _origin(bundle: Bundle) -> Iterator[str]:
    origin = bundle.origin
    counts = origin.get("counts") or {}
    parts = ", ".join(f"{n:,} {_text(part)}" for part, n in counts.items())
    yield f"- pictures: {_text(short(origin.get('source', 'not said'), 80))} ({parts})"
    for key, what in (("content", "identity of the pictures"), ("split", "identity of the split")):
        if origin.get(key):
            yield f"- {what}: `{_plain(origin[key])}`"
    if isinstance(weights := origin.get("weights"), Mapping):
        file = str(weights.get("file", "")).replace("\\", "/").rpartition("/")[2]
        licence, sha256 = _text(weights.get("licence") or "not stated"), _plain(weights.get("sha256", ""))
        yield f"- weights it began from: {_text(file)}, sha256 `{sha256}`; licence: {licence}"
    versions = ", ".join(f"{_text(name)} {_text(one)}" for name, one in (origin.get("packages") or {}).items())
    yield f"- made {_text(origin.get('time', 'at an unknown time'))} with {versions}"


def _recipe(bundle: Bundle) -> Iterator[str]:
    if not isinstance(text := bundle.origin.get("recipe"), str):
        return
    usual, recipe = Recipe().values(), Recipe.from_toml(text, where="the recipe in the model").values()
    own = {path: value for path, value in recipe.items() if value != usual[path] and not path.startswith("data.")}
    used = {path: value for path, value in own.items() if value and (path, value) != ("augment.crop", 1.0)}
    yield "Every setting that is not a default, but those that do nothing:"
    yield ""
    used |= {path: Path(used[path]).name for path in ("model.weights",) if path in used}
    yield from (f"- `{path}` = {_text(value)}" for path, value in used.items())


def _use(bundle: Bundle) -> Iterator[str]:
    yield "```console"
    yield "$ tellapart verify model.safetensors"
    yield "$ tellapart predict model.safetensors PICTURE"
    yield "```"
    if bundle.goldens:
        yield ""
        yield f"`verify` replays its {len(bundle.goldens)} golden samples: small copies of validation pictures."


def _not_known(bundle: Bundle) -> Iterator[str]:
    if not any(score["part"] == "test" for score in bundle.scores):
        yield "- how good it is on pictures that nothing was chosen by: no test part was opened"
    yield "- how it does on pictures from another source, camera, place or time"
    yield "- whether the labels it learned from are right"
    weights = bundle.origin.get("weights")
    if isinstance(weights, Mapping) and weights.get("licence") in (None, "", "not stated"):
        yield "- under which licence the weights are that it began from: it is not stated"


def _plain(value: object) -> str:
    """A text of letters and digits: what a hash may be."""
    return re.sub(r"[^0-9A-Za-z]", "", str(value))[:128]


def _text(value: object) -> str:
    """Any text as Markdown shows it: no markup, no line or cell of its own, no link."""
    marked = re.sub(r"([\\`*_{}\[\]|~$])", r"\\\1", inert(value))
    return re.sub(r"(?i)(://|www\.|@)", lambda found: f"&#{ord(found[0][0])};{found[0][1:]}", marked)
