"""The sections of the report that are words and tables: the story, what to report, the pictures, how it was made."""

from collections.abc import Iterable, Iterator, Sequence

from tellapart.evaluation.metrics import Figure
from tellapart.figures.inert import inert, short
from tellapart.names import PARTS
from tellapart.recipe import Recipe
from tellapart.reporting.evidence import Evidence, Facts, Marked
from tellapart.reporting.markup import both, code, folded, interval, name, paragraph, sentence, shares, table, words
from tellapart.reporting.story import Sentence, about, chapters, percent
from tellapart.reporting.words import Value, said, word

PLAIN = ("loss", "Brier", "Cohen's kappa", "MCC", "mean ROC area", "mean average precision")
"""Scores that are no shares of pictures."""
MOST = 500
"""Rows of a list of files."""


def told(one: Sentence) -> str:
    """A sentence with a link to its evidence."""
    return f'{both(one.text)}<a class="to" href="#{one.at}" aria-label="→ {one.at}">→</a> '


def summary(of: Evidence) -> Iterator[str]:
    """The story, and the accuracy beside that of simple classifiers."""
    one = of.accuracy
    yield f'<p class="headline"><strong>{100 * one.value:.1f} %</strong> <span>{words("accuracy")}, '
    yield f"{words(of.part)}, 95 % [{100 * one.low:.1f}, {100 * one.high:.1f}], n = {one.n:,}</span></p>"
    yield table(
        [words("what"), words("accuracy"), words("line"), words("interval"), "n"],
        [[both(title), *shares(one)] for title, one in beside(of)],
        named_by="summary-title",
        look="shares",
    )
    for chapter in chapters(of):
        yield f'<p class="told">{"".join(map(told, chapter))}</p>'


def beside(of: Evidence) -> Iterator[tuple[tuple[str, str], Figure]]:
    """This model and what it is to be compared with."""
    (english, chinese), part = word("this"), word(of.part)
    yield (f"{english}, {part[0]}", f"{chinese}，{part[1]}"), of.accuracy
    if (other := of.validation) is not None:
        part = word("validation")
        yield (f"{english}, {part[0]}", f"{chinese}，{part[1]}"), other
    for one in of.baselines:
        simple = about(one)
        yield (simple, simple) if isinstance(simple, str) else simple, one


def quote(of: Evidence) -> Iterator[str]:
    """One sentence that may be copied, and every score it is taken from."""
    one, n = of.accuracy, f"{of.judgement.n:,}"
    balanced = next(figure for figure in of.judgement.figures if figure.name == "balanced accuracy")
    simple = [said("simple", {"simple": about(base), "share": percent(base)}) for base in of.baselines]
    simple = simple or [said("nothing_simple", {})]
    values: dict[str, Value] = {
        **{"n": n, "part": word(of.part), "classes": f"{len(of.shown.classes):,}", "model": of.recipe.model.name},
        **{"accuracy": f"{100 * one.value:.1f}", "low": f"{100 * one.low:.1f}", "high": f"{100 * one.high:.1f}"},
        **{"balanced": percent(balanced), **made_by(of)},
        "simple": (", ".join(a for a, _ in simple), "，".join(b for _, b in simple)),
    }
    yield f"<blockquote><p>{sentence('quote', values)}</p></blockquote>"
    yield folded(words("scores"), scores(of.judgement.figures, "quote-title"))


def made_by(of: Facts) -> dict[str, Value]:
    """What is said of any training that is quoted: how often its test was opened, its seed, and the version."""
    times, ours = of.opened_before, of.environment.get("packages", {}).get("tellapart", "")
    again = "opened_unknown" if times is None else "opened_again" if times else "opened_first"
    opened = said("not_opened" if of.part != "test" else again, {"times": f"{len(times or ())}"})
    return {"opened": opened, "seed": f"{of.recipe.train.seed}", "version": f"tellapart {ours}".strip()}


def scores(figures: Iterable[Figure], named_by: str) -> str:
    """Every score with its interval and n."""
    rows = [[name(figure.name), _score(figure), f"{figure.n:,}"] for figure in figures]
    return table([words("score"), words("value"), "n"], rows, named_by=named_by)


def _score(figure: Figure) -> str:
    plain = figure.name.split(",")[0] in PLAIN
    return interval(figure, scale=1, digits=3) if plain else interval(figure)


def data(of: Facts) -> Iterator[str]:
    """The pictures: how many of which class in which part, what was left out, and by what they are known again."""
    parts = [part for part in PARTS if of.total(part)]
    counts = [[of.counts.get(part, {}).get(one, 0) for part in parts] for one in of.shown.classes]
    rows = [
        [name(one), *(f"{n:,}" for n in row), f"{sum(row):,}"]
        for one, row in zip(of.shown.classes, counts, strict=True)
    ]
    several = of.shown.marks is not None  # then a picture may stand in several lines
    sums = [of.total(part) for part in parts] if several else [sum(column) for column in zip(*counts, strict=True)]
    rows.append([words("pictures" if several else "total"), *(f"{n:,}" for n in sums), f"{sum(sums):,}"])
    head = [words("class"), *(words(part) for part in parts), words("total")]
    known = [("source", of.status.get("source", "")), ("groups", "–" if of.groups is None else f"{of.groups:,}")]
    known += [(key, of.status.get(key) or "–") for key in ("content", "split", "test_part")]
    yield _facts(known, "data-title")
    whole = f'<h3 id="counts">{words("all_pictures")}</h3>{table(head, rows, named_by="counts")}'
    yield whole if len(rows) <= 26 else folded(words("all_pictures"), table(head, rows, named_by="data-title"))
    if of.remarks:
        yield f'<h3>{words("remarks")}</h3><ul lang="en">'
        yield "".join(f"<li>{inert(short(line, 300))}</li>" for line in of.remarks[:40]) + "</ul>"
    if of.left_out:
        gone = [[name(key, 160), _english(short(reason, 300))] for key, reason in of.left_out[:MOST]]
        found = table([words("file"), words("reason")], gone, named_by="left", look="words")
        yield f'<h3 id="left">{words("left")} ({len(of.left_out):,})</h3>{found}'


def _english(text: object) -> str:
    """What is stored in English alone, and shown in both languages."""
    return f'<bdi lang="en">{inert(text)}</bdi>'


def _facts(facts: Iterable[tuple[str, object]], named_by: str) -> str:
    rows = [[words(key), f"<bdi>{inert(value)}</bdi>"] for key, value in facts]
    return table([words("what"), ""], rows, named_by=named_by, look="words facts")


def classes(of: Evidence | Marked, least: Sequence[str] = ()) -> Iterator[str]:
    """Every class with its own numbers; `least`: the threshold of each, where it has one."""
    names = ("recall", "precision", "F1", "ROC area", "average precision")
    found = {(one.about, one.name): one for one in of.judgement.by_class}
    yield paragraph("classes_note")
    rows = []
    for k, one in enumerate(of.shown.classes):
        each = [found.get((one, what)) for what in names]
        cells = ["–" if figure is None else _of_class(figure) for figure in each]
        n, called = (f"{found[one, what].n:,}" for what in ("recall", "precision"))
        rows.append([name(one), *least[k : k + 1], n, cells[0], called, *cells[1:]])
    head = [words("class"), *[words("least")] * bool(least), "n", words("recall"), words("called")]
    head += [words(what) for what in names[1:]]
    yield table(head, rows, named_by="classes-title")


def _of_class(figure: Figure) -> str:
    shares = ("recall", "precision", "F1")
    return interval(figure) if figure.name in shares else interval(figure, scale=1, digits=3)


def trained(of: Facts) -> Iterator[str]:
    """What the training was: network, machine, versions, and every setting that is not a default."""
    machine, status = of.environment, of.status
    packages = ", ".join(f"{package} {version}" for package, version in machine.get("packages", {}).items())
    yield _facts(
        [
            ("model", of.recipe.model.name),
            ("parameters", f"{status.get('parameters', 0):,}"),
            ("seed", of.recipe.train.seed),
            ("seconds", f"{sum(epoch.get('seconds', 0.0) for epoch in of.epochs):,.1f}"),
            ("device", machine.get("device", "–")),
            ("system", machine.get("system", "–")),
            ("python", machine.get("python", "–")),
            ("versions", packages),
        ],
        "trained-title",
    )
    rows = [[f"<code>{path}</code>", f"<code>{inert(value)}</code>", _english(why)] for path, value, why in changed(of)]
    yield f'<p class="soft" id="changed">{sentence("changed")}</p>'
    yield table([words("setting"), words("set"), words("from")], rows, named_by="changed", look="words")
    yield folded(words("recipe"), code(of.recipe_text))


def changed(of: Facts) -> list[tuple[str, object, str]]:
    """Every setting that is not a default, with its value and where that is from."""
    plain = {**Recipe().values(), "augment.crop": 1.0}  # what is left as it is says nothing
    return [
        (path, value, of.origins.get(path, ""))
        for path, value in of.recipe.values().items()
        if value != plain[path] and (value or not of.origins.get(path, "").startswith("auto: "))
    ]


def repeat(of: Facts) -> Iterator[str]:
    """The commands that repeat it."""
    yield paragraph("repeat") + code(f"tellapart reproduce {of.name}")
    yield paragraph("asked_as") + code(of.command)
    yield paragraph("rebuilt") + code(f"tellapart report {of.name}")


def not_known(sentences: Iterable[Sentence]) -> Iterator[str]:
    """What the numbers do not say."""
    yield f'<ul class="told">{"".join(f"<li>{told(one)}</li>" for one in sentences)}</ul>'
