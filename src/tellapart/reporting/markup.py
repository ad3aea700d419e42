"""The page's own HTML: words in both languages, of which the style shows one, and tables. All text is escaped here."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tellapart.evaluation.metrics import Figure
from tellapart.figures.inert import inert, short
from tellapart.figures.plot import strip
from tellapart.reporting.words import LANGUAGES, Value, said, word


def both(pair: tuple[str, str]) -> str:
    """A text in both languages, escaped; once where they are equal."""
    if pair[0] == pair[1]:
        return _held(pair[0])
    return "".join(
        f'<span lang="{language}">{_held(text)}</span>' for language, text in zip(LANGUAGES, pair, strict=True)
    )


def _held(text: str) -> str:
    """Text, escaped, in which a number and its % stay on one line."""
    return inert(text).replace(" %", "&nbsp;%").replace("n = ", "n&nbsp;=&nbsp;")


def words(name: str) -> str:
    """A word of the table."""
    return both(word(name))


def sentence(key: str, values: Mapping[str, Value] | None = None) -> str:
    """A sentence of the table with its values."""
    return both(said(key, values or {}))


def paragraph(key: str, values: Mapping[str, Value] | None = None, *, look: str = "soft") -> str:
    """A sentence of the table as a paragraph."""
    return f'<p class="{look}">{sentence(key, values)}</p>'


def name(text: object, most: int = 60) -> str:
    """A name from elsewhere, whichever way it is written, cut where it is too long to read."""
    return f"<bdi>{inert(short(text, most))}</bdi>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, named_by: str, look: str = "numbers") -> str:
    """A table of HTML cells; the first of each row names it. It scrolls by itself where it is too wide."""
    return "".join(_table(head, rows, named_by, look))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], named_by: str, look: str) -> Iterator[str]:
    yield f'<div class="wide" role="region" tabindex="0" aria-labelledby="{named_by}"><table class="{look}"><thead><tr>'
    yield from (f'<th scope="col">{cell}</th>' for cell in head)
    yield "</tr></thead><tbody>"
    for first, *rest in rows:
        yield f'<tr><th scope="row">{first}</th>'
        yield from (f"<td>{cell}</td>" for cell in rest)
        yield "</tr>\n"
    yield "</tbody></table></div>"


def interval(figure: Figure, *, scale: float = 100, digits: int = 1) -> str:
    """A number with its interval beside it, quieter."""
    if not figure.n:
        return "–"
    low, high = (f"{scale * one:.{digits}f}" if math.isfinite(one) else "–" for one in (figure.low, figure.high))
    return f'{scale * figure.value:.{digits}f} <span class="span">[{low}, {high}]</span>'


def shares(one: Figure) -> tuple[str, ...]:
    """A share, its interval drawn and in numbers, and its n."""
    drawn = strip(one.value, one.low, one.high)
    return f"{100 * one.value:.1f} %", drawn, f"[{100 * one.low:.1f}, {100 * one.high:.1f}]", f"{one.n:,}"


def drawing(caption: str, plot: str, identity: str, *, legend: Sequence[tuple[str, str]] = ()) -> str:
    """A plot with its caption, which names it, and its legend of (look, words)."""
    keys = "".join(f'<span class="key"><i class="{look}"></i>{text}</span>' for look, text in legend)
    below = f'<figcaption><span id="{identity}">{caption}</span> {keys}</figcaption>'
    return f'<figure class="drawing">{plot}{below}</figure>'


def folded(title: str, body: str) -> str:
    """Something that is opened when it is wanted."""
    return f"<details><summary>{title}</summary>{body}</details>"


def code(text: str) -> str:
    """Text as it is typed or stored, on its own lines."""
    return "<pre>" + "\n".join(map(inert, text.splitlines())) + "</pre>"
