"""The page: findings with thumbnails as one HTML file that loads nothing, runs nothing, and can be printed."""

import base64
import io
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources

import numpy as np
from PIL import Image

from tellapart.audit.facts import Facts
from tellapart.audit.findings import SEVERITIES, Finding
from tellapart.data.decode import decode
from tellapart.errors import DataError, StorageError
from tellapart.figures.inert import inert

SHOWN, NAMED, SIDE = 24, 500, 128
"""Pictures drawn and files named for each finding, and the longest side of a drawing in pixels."""


def page(title: str, said: Iterable[str], findings: list[Finding], facts: Facts) -> str:
    """The whole page as text. `said`: lines under the title."""
    rows = {key: row for row, key in enumerate(facts.index.keys)}
    counts = {severity: sum(one.severity == severity for one in findings) for severity in SEVERITIES}
    body = [
        f"<header><h1>{inert(title)}</h1>",
        *(f'<p class="soft">{inert(line)}</p>' for line in said),
        '<ul class="counts">',
        *(f'<li class="{name}"><span class="tag">{name}</span> {count}</li>' for name, count in counts.items()),
        "</ul></header><main>",
        *(line for one in findings for line in _article(one, facts, rows)),
        "" if findings else "<p>Nothing was found.</p>",
        "</main>",
    ]
    style = "\n" + resources.files("tellapart.audit").joinpath("page.css").read_text(encoding="utf-8")
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{inert(title)}</title><style>{style}</style></head><body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _article(one: Finding, facts: Facts, rows: Mapping[str, int]) -> Iterator[str]:
    yield f'<article class="{one.severity}"><span class="tag">{one.severity} · {inert(one.kind)}</span>'
    yield f"<h2>{inert(one.title)}</h2>"
    if one.detail:
        yield f'<p class="soft">{inert(one.detail)}</p>'
    if one.fix:
        yield f"<p>→ {inert(one.fix)}</p>"
    pictured = [(key, note) for key, note in one.files if key in rows and facts.table["fault"][rows[key]] == b""]
    if pictured:
        yield '<div class="shots">'
        yield from (_figure(facts, rows[key], key, note) for key, note in pictured[:SHOWN])
        yield "</div>"
    if len(one.files) > len(pictured[:SHOWN]):
        yield from _names(one.files)
    yield "</article>"


def _names(files: tuple[tuple[str, str], ...]) -> Iterator[str]:
    more = f", the first {NAMED} of them" if len(files) > NAMED else ""
    yield f"<details{' open' if len(files) <= 12 else ''}><summary>{len(files):,} files{more}</summary><table>"
    yield from (f"<tr><td><code>{inert(key)}</code></td><td>{inert(note)}</td></tr>" for key, note in files[:NAMED])
    yield "</table></details>"


def _figure(facts: Facts, row: int, key: str, note: str) -> str:
    drawn, small = _drawn(facts, row)
    style = ' class="dots"' if small else ""
    caption = f"<figcaption>{inert(key)}<br>{inert(note)}</figcaption>"
    return f'<figure><div><img alt="" src="{drawn}"{style}></div>{caption}</figure>'


def _drawn(facts: Facts, row: int) -> tuple[str, bool]:
    """A picture as a data address, and whether it is so small that its dots should be seen."""
    try:
        pixels = decode(facts.index.store.read(row))
    except (DataError, StorageError, OSError):  # it was there when it was checked; the small copy still is
        pixels = facts.table["thumb"][row]
    image = Image.fromarray(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels)
    image.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    small = max(pixels.shape[:2]) <= SIDE // 2
    image.save(out, "PNG") if small else image.save(out, "JPEG", quality=80)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}", small
