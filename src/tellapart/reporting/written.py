"""Words and tables as LaTeX, Markdown and CSV: names from elsewhere are text in each of them, and nothing else."""

import re
from collections.abc import Iterable, Sequence

from tellapart.data.sources.listing import shown
from tellapart.figures.inert import short
from tellapart.files import csv_text

LONGEST, PAGE = 40, 40
"""Letters of a name that are shown in a table or a sentence; rows of a table that fit on a page."""
MARKS = {
    **{mark: f"\\{mark}" for mark in "&%$#{}"},
    **{"_": r"\_\allowbreak{}", "/": r"/\allowbreak{}", "=": r"=\allowbreak{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", '"': r"\textquotedbl{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "`": r"\textasciigrave{}"},
    **{"'": r"\textquotesingle{}", "–": r"\textendash{}", "[": "{[}", "]": "{]}", "±": r"\(\pm\)", "×": r"\(\times\)"},
}
"""What LaTeX takes for more than a letter, also where two of it stand together, and how the letter is written."""
NUMBER = re.compile(r"[-\d.,% \[\]±/–]+")
"""What our own numbers look like."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


def plain(text: object, most: int = LONGEST) -> str:
    """Any text on one line, without control characters and letters that turn the line around, cut where it is long."""
    return short("".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in shown(text)), most)


def tex(text: object, most: int = LONGEST) -> str:
    """Text for LaTeX, in which every letter is a letter; a number has a minus and not a hyphen."""
    marks = MARKS | ({"-": r"\(-\)", "[": "[", "]": "]", "/": "/"} if NUMBER.fullmatch(str(text)) else {})
    found = "".join(marks.get(letter, letter) for letter in plain(text, most))
    return re.sub("([-,])(?=[-,])", r"\1{}", found)  # two of them would be another mark


def md(text: object, most: int = LONGEST) -> str:
    """Text for Markdown, in which every letter is a letter."""
    marked = re.sub(r"([\\`*_{}\[\]()<>#|~$&!:@^])", r"\\\1", plain(text, most))
    return str(text) if NUMBER.fullmatch(str(text)) else re.sub(r"(?i)(www)\.", r"\1\\.", marked)


def cell(name: object) -> str:
    """A name as a cell of CSV: on one line, and no formula in a spreadsheet."""
    text = plain(name, 10_000)
    return f"'{text}" if text.startswith(FORMULA) and not NUMBER.fullmatch(text) else text


def foreign(text: str) -> list[str]:
    """The letters of a text that pdflatex may not know, each once, in order."""
    return sorted({letter for letter in text if letter > "\xff"})


Row = Sequence[object]
"""The cells of a row: names as they are, numbers as text."""


def tables(head: Row, rows: Iterable[Row], *, note: str, columns: str = "") -> dict[str, str]:
    """A table as LaTeX (for booktabs), as Markdown and as CSV, by the ending of the file; `note` stands below it.

    More rows than fit on a page make a longtable. `columns`: how they are set, names left and numbers right if absent.
    """
    found = [list(row) for row in rows]
    kind, set_as = "longtable" if len(found) > PAGE else "tabular", columns or "l" + "r" * (len(head) - 1)
    body = ["{}" + " & ".join(tex(one) for one in row) + r" \\" for row in found]  # {}: no row begins with [ or *
    lines = [f"% {plain(note, 1000)}", rf"\begin{{{kind}}}{{@{{}}{set_as}@{{}}}}", r"\toprule"]
    lines += [" & ".join(map(tex, head)) + r" \\", r"\midrule" + r"\endhead" * (kind == "longtable"), *body]
    rule = ["---", *(["---:" if not columns else "---"] * (len(head) - 1))]
    marked = [f"| {' | '.join(row)} |" for row in ([*map(md, head)], rule, *([*map(md, row)] for row in found))]
    return {
        "tex": "\n".join([*lines, r"\bottomrule", rf"\end{{{kind}}}"]) + "\n",
        "md": "\n".join([*marked, "", note]) + "\n",
        "csv": csv_text(map(cell, head), ([cell(one) for one in row] for row in found)),
    }
