"""The page: findings with thumbnails as one HTML file that loads nothing, runs nothing, and can be printed."""

import base64
import io
from collections.abc import Iterable, Iterator, Mapping
from html import escape

import numpy as np
from PIL import Image

from tellapart.audit.facts import Facts
from tellapart.audit.findings import SEVERITIES, Finding
from tellapart.data.decode import decode
from tellapart.data.sources.listing import shown
from tellapart.errors import DataError, StorageError

SHOWN, NAMED, SIDE = 24, 500, 128
"""Pictures drawn and files named for each finding, and the longest side of a drawing in pixels."""

STYLE = """
:root{color-scheme:light dark;--ink:#1d2126;--soft:#59636e;--line:#d8dde3;--back:#fff;--card:#f6f7f9;
--serious:#b3261e;--warning:#8a5a00;--info:#2b5f9e}
@media(prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#a0a8b1;--line:#3a4048;--back:#16181b;--card:#1f2226;
--serious:#ff8a80;--warning:#f0b756;--info:#8ab8f0}}
*{box-sizing:border-box}
body{margin:0 auto;padding:2rem 1rem 4rem;max-width:64rem;background:var(--back);color:var(--ink);
font:1rem/1.5 system-ui,sans-serif}
h1{font-size:1.5rem;margin:0;overflow-wrap:anywhere}
h2{font-size:1.05rem;line-height:1.35;margin:.15rem 0 .4rem;overflow-wrap:anywhere}
p{margin:.3rem 0}.soft{color:var(--soft)}
.counts{display:flex;flex-wrap:wrap;gap:.5rem;padding:0;margin:1rem 0 2rem;list-style:none}
.counts li{border:1px solid var(--line);border-radius:.4rem;padding:.2rem .7rem}
article{border:1px solid var(--line);border-left:.3rem solid var(--tone);border-radius:.4rem;padding:.8rem 1rem;
margin:0 0 1rem;background:var(--card);break-inside:avoid}
.serious{--tone:var(--serious)}.warning{--tone:var(--warning)}.info{--tone:var(--info)}
.tag{color:var(--tone);font-size:.8rem;font-weight:600;letter-spacing:.03em}
code{font:.9em/1.4 ui-monospace,monospace;overflow-wrap:anywhere}
.shots{display:grid;grid-template-columns:repeat(auto-fill,minmax(7rem,1fr));gap:.6rem;margin:.8rem 0 .3rem}
figure{margin:0;min-width:0}
figure div{background:var(--back);border:1px solid var(--line);border-radius:.25rem;aspect-ratio:1;display:flex}
figure img{width:100%;height:100%;object-fit:contain;border-radius:.25rem}
.dots{image-rendering:pixelated}
figcaption{font-size:.72rem;line-height:1.3;color:var(--soft);overflow-wrap:anywhere;margin-top:.2rem}
details{margin-top:.4rem}summary{cursor:pointer;color:var(--soft)}
table{border-collapse:collapse;width:100%;font-size:.85rem}
td{border-top:1px solid var(--line);padding:.2rem .6rem .2rem 0;vertical-align:top;overflow-wrap:anywhere}
@media print{body{max-width:none;padding:0}summary{list-style:none}}
"""


def page(title: str, said: Iterable[str], findings: list[Finding], facts: Facts) -> str:
    """The whole page as text. `said`: lines under the title."""
    rows = {key: row for row, key in enumerate(facts.index.keys)}
    counts = {severity: sum(one.severity == severity for one in findings) for severity in SEVERITIES}
    body = [
        f"<header><h1>{_text(title)}</h1>",
        *(f'<p class="soft">{_text(line)}</p>' for line in said),
        '<ul class="counts">',
        *(f'<li class="{name}"><span class="tag">{name}</span> {count}</li>' for name, count in counts.items()),
        "</ul></header><main>",
        *(line for one in findings for line in _article(one, facts, rows)),
        "" if findings else "<p>Nothing was found.</p>",
        "</main>",
    ]
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{_text(title)}</title><style>{STYLE}</style></head><body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _text(text: object) -> str:
    """Any text as it may stand in the page: no markup, no control characters, no letters that turn the line around."""
    return escape("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in shown(text)))


def _article(one: Finding, facts: Facts, rows: Mapping[str, int]) -> Iterator[str]:
    yield f'<article class="{one.severity}"><span class="tag">{one.severity} · {_text(one.kind)}</span>'
    yield f"<h2>{_text(one.title)}</h2>"
    if one.detail:
        yield f'<p class="soft">{_text(one.detail)}</p>'
    if one.fix:
        yield f"<p>→ {_text(one.fix)}</p>"
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
    yield from (f"<tr><td><code>{_text(key)}</code></td><td>{_text(note)}</td></tr>" for key, note in files[:NAMED])
    yield "</table></details>"


def _figure(facts: Facts, row: int, key: str, note: str) -> str:
    drawn, small = _drawn(facts, row)
    style = ' class="dots"' if small else ""
    name = _text(key)
    return (
        f'<figure><div><img alt="" src="{drawn}"{style}></div><figcaption>{name}<br>{_text(note)}</figcaption></figure>'
    )


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
