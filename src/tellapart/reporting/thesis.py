"""The thesis pack: every file of it, by name, from plain values; the same evidence gives the same bytes."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from PIL.PngImagePlugin import PngInfo

from tellapart.data.index import NONE
from tellapart.evaluation.metrics import Figure
from tellapart.evaluation.several import Spread
from tellapart.figures.pdf import as_pdf
from tellapart.figures.sheet import Sheet, as_image, as_svg
from tellapart.files import csv_text
from tellapart.names import PARTS
from tellapart.reporting.evidence import Evidence, Facts, Marked, Training
from tellapart.reporting.sections import PLAIN, beside, changed
from tellapart.reporting.thesis_figures import Drawn, figures
from tellapart.reporting.thesis_formulas import formulas
from tellapart.reporting.thesis_methods import methods
from tellapart.reporting.written import cell, foreign, md, plain, tables, tex

DPI = 300
AREAS = (*PLAIN, "ROC area", "average precision", "micro average precision")
"""Scores that are no shares of pictures."""
HEADING = "# Thesis pack of "
"""How README.md begins, by which a folder is known as one of ours."""
HALF, NARROW, TALL = 77.6, 90, 200
"""Millimetres of half a page of thesis.tex; figures up to so wide stand two in a row, unless they are so high."""
NO_NETWORK = (
    "network.json is not in the run folder (it was trained before tellapart kept one), or its network could not be "
    "watched: there is no drawing of the network, and no formula of its layers."
)


@dataclass(frozen=True)
class Table:
    """A table: its name, what stands above it, and its text by the ending of the file."""

    name: str
    caption: str
    text: Mapping[str, str]


@dataclass(frozen=True)
class Seeds:
    """The trainings that differ in their seed or fold: (name, seed, accuracy, n) of each as text, and their spread."""

    members: Sequence[Sequence[str]]
    spreads: Sequence[Spread]


def pack(of: Training, *, width: float, seeds: Seeds | None = None) -> dict[str, bytes]:
    """Every file of the pack by its path, the figures so many millimetres wide."""
    drawn, shown = list(figures(of, width)), list(_tables(of, seeds))
    files: dict[str, bytes] = {}
    for one in drawn:
        files |= {f"figures/{one.name}.{kind}": raw for kind, raw in _written(one)}
    for one in shown:
        files |= {f"tables/{one.name}.{kind}": text.encode() for kind, text in one.text.items()}
    words = {"formulas.tex": formulas(of), **methods(of)}
    words["thesis.tex"] = _document(of, drawn, shown, words)
    words["README.md"] = _readme(of, drawn, shown, width)
    return {**files, **{name: text.encode() for name, text in words.items()}}


def notes(of: Facts) -> list[str]:
    """What the pack lacks, and why."""
    return [NO_NETWORK] * (not of.network.get("boxes"))


def _written(one: Drawn) -> Iterator[tuple[str, bytes]]:
    """A figure as PDF, SVG and PNG, and its numbers as CSV."""
    yield "pdf", as_pdf(one.sheet)
    yield "svg", as_svg(one.sheet).encode()
    yield "png", _png(one.sheet)
    rows = ([cell(part) if isinstance(part, str) else part for part in row] for row in one.rows)
    yield "csv", csv_text(map(cell, one.columns), rows).encode()


def _png(sheet: Sheet) -> bytes:
    out, about = io.BytesIO(), PngInfo()
    about.add_text("Software", "tellapart")
    as_image(sheet, dpi=DPI).save(out, "PNG", dpi=(DPI, DPI), pnginfo=about)
    return out.getvalue()


def _score(one: Figure) -> str:
    """A value with its interval, in percent where it is a share of pictures."""
    scale, digits = (1, 3) if one.name.split(",")[0] in AREAS else (100, 1)
    low, high = (f"{scale * bound:.{digits}f}" if abs(bound) < 1e6 else "–" for bound in (one.low, one.high))
    return f"{scale * one.value:.{digits}f} [{low}, {high}]" if one.n else "–"


def _tables(of: Training, seeds: Seeds | None) -> Iterator[Table]:
    rows = [(one.name, _score(one), f"{one.n:,}") for one in of.judgement.figures]
    caption = f"Scores on the {of.part} part with 95 % intervals; shares in percent"
    yield _table("scores", caption, ("score", "value", "n"), rows)
    if isinstance(of, Evidence):
        rows = [(title[0], _score(one), f"{one.n:,}") for title, one in beside(of)]
        caption = "Accuracy in percent beside that of simple classifiers"
        yield _table("comparison", caption, ("model", "accuracy", "n"), rows)
    yield _of_classes(of, "classes", ("recall", "precision", "F1"))
    yield _of_classes(of, "ranks", ("ROC area", "average precision"))
    yield _counts(of)
    rows = [(path, str(value), why) for path, value, why in changed(of)]
    caption = "The recipe: every setting that is not a default, and where its value is from"
    columns = r"lp{0.25\linewidth}p{0.4\linewidth}"
    yield _table("recipe", caption, ("setting", "value", "from"), rows, columns=columns)
    if seeds is not None:
        yield from _seeds(seeds)


def _table(name: str, caption: str, head: Sequence[str], rows: Sequence[Sequence[object]], columns: str = "") -> Table:
    return Table(name, caption, tables(head, rows, note=f"{caption}.", columns=columns))


def _of_classes(of: Training, name: str, columns: Sequence[str]) -> Table:
    """Some scores of every class, at its threshold where it has one."""
    known = {(one.about, one.name): one for one in of.judgement.by_class}
    least = [f"{one.value:.3f}" for one in of.judgement.thresholds] if isinstance(of, Marked) else []
    least, rows = least if name == "classes" else [], []
    for k, one in enumerate(of.shown.classes):
        each = (known.get((one, column)) for column in columns)
        cells = ("–" if figure is None else _score(figure) for figure in each)
        rows.append((one, f"{known[one, 'recall'].n:,}", *least[k : k + 1], *cells))
    caption = f"The classes on the {of.part} part (n = {of.judgement.n:,}), with 95 % intervals"
    caption += "; shares in percent" * (name == "classes") + ", at the threshold of each" * bool(least)
    return _table(name, caption, ("class", "n", *["threshold"] * bool(least), *columns), rows)


def _counts(of: Facts) -> Table:
    """How many pictures have each class; where they may have several, the last line is no sum."""
    parts, marked = [part for part in PARTS if of.total(part)], of.shown.marks is not None
    classes = [*of.shown.classes, *[NONE] * marked]
    counts = [[of.counts.get(part, {}).get(one, 0) for part in parts] for one in classes]
    rows = [(one, *row, sum(row)) for one, row in zip(classes, counts, strict=True)]
    sums = [of.total(part) for part in parts] if marked else [sum(column) for column in zip(*counts, strict=True)]
    rows.append(("pictures" if marked else "total", *sums, sum(sums)))
    shown = [[one, *(f"{n:,}" for n in row)] for one, *row in rows]
    caption = "The pictures of each class in each part" + "; a picture may have several classes" * marked
    return _table("counts", caption, ("class", *parts, "total"), shown)


def _seeds(seeds: Seeds) -> Iterator[Table]:
    over = ", ".join(sorted({one.over for one in seeds.spreads})) or "seeds"
    yield _table("trainings", f"The trainings over {over}", ("training", "seed", "accuracy", "n"), seeds.members)
    rows = [(one.name, f"{one.mean:.4f} ± {one.sd:.4f}", f"{one.n}") for one in seeds.spreads]
    caption = f"Mean and standard deviation over {over} (n: trainings)"
    yield _table("spread", caption, ("score", "mean ± deviation", "n"), rows)


def _document(of: Training, drawn: Sequence[Drawn], shown: Sequence[Table], words: Mapping[str, str]) -> str:
    """A small document that takes everything in, and compiles."""
    body = [r"\section*{Methods}", r"\input{methods}", r"\section*{Formulas}", r"\input{formulas}"]
    body.append(r"\section*{Tables}")
    for table in shown:
        caption, take = tex(table.caption, 1000), rf"\input{{tables/{table.name}}}"
        if "longtable" in table.text["tex"]:
            body.append(f"{{\\small\\noindent {caption}.\n{take}}}")
        else:
            body.append(f"\\begin{{shown}}{{table}}\\small\\caption{{{caption}.}}\n{take}\\end{{shown}}")
    body += [r"\section*{Figures}", *_paired(drawn)]
    texts = [*words.values(), *(table.text["tex"] for table in shown), *(one.caption for one in drawn)]
    end = [r"\bibliographystyle{plain}", r"\bibliography{references}", r"\end{document}"]
    return "\n".join([*_preamble(of, foreign("".join(texts))), *body, *end]) + "\n"


def _paired(drawn: Sequence[Drawn]) -> Iterator[str]:
    """The figures, two that are narrow side by side."""
    waiting: list[Drawn] = []
    for one in drawn:
        narrow = one.sheet.wide <= NARROW and one.sheet.high <= TALL
        waiting = [*waiting, one] if narrow else waiting
        if not narrow or len(waiting) == 2:
            yield _shown([one] if not narrow else waiting)
            waiting = waiting if not narrow else []
    if waiting:
        yield _shown(waiting)


def _shown(drawn: Sequence[Drawn]) -> str:
    """One figure, or two beside each other, each with its caption."""
    parts = []
    for one in drawn:
        fits = f"[width={min(one.sheet.wide, HALF):g}mm]" * (len(drawn) == 2)
        graphic = rf"\includegraphics{fits}{{figures/{one.name}.pdf}}"
        graphic = rf"\resizebox{{!}}{{0.85\textheight}}{{{graphic}}}" if one.sheet.high > TALL else graphic
        part = f"{graphic}\n\\caption{{{tex(one.caption, 1000)}}}"
        parts.append(f"\\begin{{minipage}}[t]{{{HALF}mm}}\\centering\n{part}\\end{{minipage}}" if fits else part)
    return "\\begin{shown}{figure}\n" + "\\hfill\n".join(parts) + "\\end{shown}"


def _preamble(of: Facts, letters: Sequence[str]) -> Iterator[str]:
    yield f"% {plain(HEADING[2:] + of.name, 200)}: pdflatex thesis, bibtex thesis, pdflatex thesis, pdflatex thesis"
    yield r"\documentclass[a4paper]{article}"
    yield r"\usepackage[margin=25mm]{geometry}"
    yield r"\usepackage{booktabs,longtable,graphicx}"
    yield r"\raggedbottom % what is shown stands where it is named, and pages are filled: nothing floats"
    yield r"\makeatletter\newenvironment{shown}[1]{\par\addvspace{12pt}\noindent\begin{minipage}{\linewidth}"
    yield r"\def\@captype{#1}\centering}{\end{minipage}\par\addvspace{12pt}}\makeatother"
    yield r"\ifdefined\DeclareUnicodeCharacter % pdflatex: a letter that it does not know is shown as its number"
    yield r"\usepackage[T1]{fontenc}\usepackage{textcomp}\IfFileExists{lmodern.sty}{\usepackage{lmodern}}{}"
    for letter in letters:
        shown = f"\\DeclareUnicodeCharacter{{{ord(letter):04X}}}{{{{\\scriptsize U+{ord(letter):04X}}}}}"
        yield rf"\ifcsname u8:\detokenize{{{letter}}}\endcsname\else{shown}\fi"
    yield r"\else\IfFileExists{ctex.sty}{\usepackage[scheme=plain]{ctex}}{}\fi" if letters else r"\fi"
    yield r"\begin{document}"


def _readme(of: Facts, drawn: Sequence[Drawn], shown: Sequence[Table], width: float) -> str:
    """What is what, in Markdown."""
    lines = [
        f"{HEADING}{md(of.name, 200)}",
        "",
        "Made by `tellapart report RUN --thesis` from the run folder alone. A rerun",
    ]
    lines += ["replaces the whole folder: copy what you change. The same run gives the same bytes.", ""]
    lines += ["| file | what it is |", "|---|---|"]
    lines += ["| thesis.tex | a document that takes in everything below: pdflatex, bibtex, pdflatex, pdflatex |"]
    lines += ["| methods.tex, methods.md | what was done, in one paragraph to be shortened; .md cites as pandoc does |"]
    lines += ["| formulas.tex | the formulas this training used, with its numbers |"]
    lines += ["| references.bib | what methods cites, and nothing else |"]
    lines += [f"| figures/{one.name} (.pdf .svg .png .csv) | {_inline(one.caption)} |" for one in drawn]
    lines += [f"| tables/{one.name} (.tex .md .csv) | {_inline(one.caption)}. |" for one in shown]
    lines += [
        "",
        f"Figures are {width:g} mm wide, PNG at {DPI} dots to the inch. Tables need the LaTeX package booktabs,",
    ]
    lines += [
        "long ones longtable. In CSV a name that a spreadsheet would take for a formula begins with an apostrophe."
    ]
    lines += [
        "Letters that the font of the figures lacks are drawn from a font of this machine; where it has none, they"
    ]
    lines += ["are written as their number (U+4E2D). pdflatex does so too; xelatex with ctex sets Chinese names.", ""]
    return "\n".join([*lines, *(f"- {note}" for note in notes(of))]).rstrip() + "\n"


def _inline(caption: str) -> str:
    """A caption in a cell: our own words keep their marks, letters of names do not act."""
    return "".join(rf"\{one}" if one in "|`*_[]<>\\&" else one for one in plain(caption, 1000))
