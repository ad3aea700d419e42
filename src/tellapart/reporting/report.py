"""The report: one HTML file from plain values, that asks for nothing, runs nothing, and can be printed.

Language and theme are chosen by radio buttons and the style alone; the pictures of a cell are shown by its link.
"""

from collections.abc import Callable, Iterator, Mapping
from importlib import resources

from tellapart.evaluation.several import Spread
from tellapart.figures.inert import inert, short
from tellapart.reporting import drawn, marked, sections, shown
from tellapart.reporting.album import Album
from tellapart.reporting.evidence import Evidence, Facts, Marked
from tellapart.reporting.markup import name, paragraph, sentence, table, words
from tellapart.reporting.story import unknown

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def report(of: Evidence) -> str:
    """The page of one training; the same evidence gives the same text."""
    album = Album(of.shown)
    body = {
        "summary": sections.summary(of),
        "quote": sections.quote(of),
        "data": sections.data(of),
        "curves": drawn.curves(of),
        "confusion": shown.confusion(of, album),
        "classes": sections.classes(of),
        "ranks": drawn.ranks(of),
        "calibration": drawn.calibration(of),
        "risk": drawn.risk(of),
        "mistakes": shown.mistakes(of, album),
        "doubtful": shown.doubtful(of, album),
        "robustness": drawn.robustness(of),
        "trained": sections.trained(of),
        "repeat": sections.repeat(of),
        "unknown": sections.not_known(unknown(of)),
    }
    return page(of.name, lead(of), {key: "".join(lines) for key, lines in body.items()}, album.pictures)


def report_marked(of: Marked) -> str:
    """The page of a training on pictures that may have several classes each."""
    album = Album(of.shown)
    body = {
        "summary": marked.summary(of),
        "quote": marked.quote(of),
        "data": [*marked.counted(of), *sections.data(of)],
        "curves": drawn.curves(of),
        "classes": sections.classes(of, [f"{100 * one.value:.1f} %" for one in of.judgement.thresholds]),
        "ranks": drawn.ranks(of),
        "mistakes": marked.mistakes(of, album),
        "trained": sections.trained(of),
        "repeat": sections.repeat(of),
        "unknown": sections.not_known(marked.unknown(of)),
    }
    return page(of.name, lead(of), {key: "".join(lines) for key, lines in body.items()}, album.pictures)


def lead(of: Facts) -> str:
    """Which network, on which pictures."""
    values = {"model": short(of.recipe.model.name, 60), "source": short(of.status.get("source", ""), 80)}
    return sentence("lead", values)


def report_of_several(called: str, members: list[list[str]], pooled: list[list[str]], spreads: list[Spread]) -> str:
    """The page of several trainings of one recipe: (name, seed, accuracy, n) of each, as text, and of those of all
    folds `pooled`; and their spread.
    """
    over = sorted({one.over for one in spreads})
    rows = [[name(one[0], 100), *map(inert, one[1:])] for one in [*members, *pooled]]
    head = [words("run"), words("seed"), words("accuracy"), "n"]
    means = [[name(one.name), f"{one.mean:.4f} ± {one.sd:.4f}", f"{one.n}"] for one in spreads]
    note = paragraph("members", {"n": f"{len(members)}", "over": ", ".join(over) or "–"})
    note += paragraph("folds_note") * any("fold" in one for one in over)
    body = table(head, rows, named_by="members-title") + note
    body += table([words("score"), words("mean"), "n"], means, named_by="members-title") if means else ""
    return page(called, "", {"members": body}, str)


def page(title: str, lead: str, sections: Mapping[str, str], hidden: Callable[[], str]) -> str:
    """The whole file: its head, its controls, its contents, each section under its heading, what is `hidden` last."""
    style = "\n" + resources.files("tellapart.reporting").joinpath("report.css").read_text(encoding="utf-8")
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<title>{inert(short(title))}</title><style>{style}</style></head><body>",
            *_top(title, lead, sections),
            *(line for key, body in sections.items() for line in _section(key, body)),
            f"</main>{hidden()}</body></html>\n",
        ]
    )


def _top(title: str, lead: str, sections: Mapping[str, str]) -> Iterator[str]:
    yield '<header><div class="choose">'
    yield _choice("language", (("en", "English"), ("zh", "中文")))
    yield _choice("theme", tuple((key, words(key)) for key in ("auto", "light", "dark"))) + "</div>"
    yield f'<h1>{words("report")}: {name(title, 100)}</h1><p class="soft">{lead}</p></header>'
    links = "".join(f'<li><a href="#{key}">{words(key)}</a></li>' for key in sections)
    yield f'<nav aria-labelledby="contents"><h2 id="contents">{words("contents")}</h2><ul>{links}</ul></nav><main>'


def _choice(what: str, ways: tuple[tuple[str, str], ...]) -> str:
    """Radio buttons, the first of them chosen."""
    buttons = "".join(
        f'<label><input type="radio" name="{what}" id="{key}"{" checked" * (not n)}><span>{text}</span></label>'
        for n, (key, text) in enumerate(ways)
    )
    return f"<fieldset><legend>{words(what)}</legend>{buttons}</fieldset>"


def _section(key: str, body: str) -> Iterator[str]:
    yield f'<section id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">{words(key)}</h2>'
    yield f"{body}</section>"
