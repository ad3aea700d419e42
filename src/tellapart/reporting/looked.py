"""Where the model looked in its mistakes: a row for each, in which only a map that means something is drawn."""

import base64
import io
from collections.abc import Callable, Iterator
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tellapart.evaluation.looks import SLOW, Look
from tellapart.figures.heat import over
from tellapart.figures.inert import inert, short
from tellapart.reporting.evidence import Evidence
from tellapart.reporting.markup import paragraph, sentence
from tellapart.reporting.words import Value, said

COLOURS = 64
"""Of a drawn map: enough for a picture in grey under one scale of colours."""
DRAWN = "heat_drawn"
FAULTS = {
    "": DRAWN,
    "flat": "heat_flat",
    "random": "heat_random",
    "elsewhere": "heat_elsewhere",
    "little": "heat_little",
}
"""What is said of a map, by what is wrong with it."""


def looked(of: Evidence, shot: Callable[[int], str]) -> Iterator[str]:
    """The mistakes of which heat maps were kept; `shot`: the picture of a row with its caption."""
    small, looks = of.shown.thumbnails, of.looks
    if looks is None or small is None:
        return
    if not looks.looks:
        yield from _none(of, looks.why)
        return
    rows = [(row, list(each)) for row, each in groupby(looks.looks, key=lambda one: one.row)]
    good = sum(not one.known["fault"] for one in looks.looks)
    wrong = int((of.shown.logits.argmax(1) != of.shown.labels).sum())
    counts = {"pictures": f"{len(rows):,}", "count": f"{wrong:,}", "good": f"{good}", "all": f"{len(looks.looks)}"}
    yield paragraph("looked", {**counts, "method": looks.method})
    each = (
        f'<div class="look">{shot(row)}{"".join(_tile(one, small[row]) for one in of_row)}</div>'
        for row, of_row in rows
    )
    yield f'<div class="looks">{"".join(each)}</div>'


def _none(of: Evidence, why: str) -> Iterator[str]:
    """Why there is no map, where there could be one."""
    if why == SLOW:
        yield paragraph("looked_slow", {"run": of.name, "part": " --part test" * (of.part == "test")})
    elif why:
        yield paragraph("looked_refused", {"why": short(why, 200)})


def _tile(one: Look, small: NDArray[np.uint8]) -> str:
    """A map with what its test found; of one that means nothing the words alone."""
    key, values = FAULTS[one.known["fault"]], _values(one)
    words = f"<figcaption>{sentence(key, values)}</figcaption>"
    if key != DRAWN:
        return f"<figure>{words}</figure>"
    high, wide = small.shape[:2]
    drawn = over(small, one.heat / 255, one.hottest, (0, 0, high, wide))
    words_alone = said(key, values)[0]
    return f'<figure><img class="warm" alt="{inert(words_alone)}" src="{_address(drawn)}">{words}</figure>'


def _values(one: Look) -> dict[str, Value]:
    """What its sentences name, of the numbers that `tellapart why --json` has."""
    known = one.known
    away, margin = np.array(known["without_elsewhere"]), known["margin"]
    shares = (known["probability"], known["without_hottest"], away.mean(), away.min(), away.max())
    before, after, mean, low, high = (f"{100 * share:.1f} %" for share in shares)
    random = known["random_networks"]
    return {
        **{"name": short(one.name, 40), "before": before, "after": after, "mean": mean, "low": low, "high": high},
        **{"n": f"{len(away)}", "rivals": f"{len(away) - known['moved_maps_beaten']}"},
        **{"alike": f"{max(random['correlation'].values(), default=0.0):.2f}", "networks": f"{random['of_each']}"},
        **{"margin": f"{margin['value']:.2f}", "span": f"[{margin['low']:.2f}, {margin['high']:.2f}]"},
    }


def _address(pixels: NDArray[np.uint8]) -> str:
    """A drawn map (H W 3) as a data address."""
    out = io.BytesIO()
    Image.fromarray(pixels).quantize(COLOURS, dither=Image.Dither.NONE).save(out, "PNG")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
