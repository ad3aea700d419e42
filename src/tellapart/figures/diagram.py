"""A network as a drawing for a thesis: boxes in the order of execution, framed by module, with every shortcut drawn."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from xml.sax.saxutils import escape, quoteattr

from tellapart.models.table import is_quiet, size_of
from tellapart.models.trace import Step, Trace

WIDE, HIGH, GAP, TOP, EDGE, LANE = 160.0, 8.0, 3.6, 12.0, 5.5, 1.8
"""Millimetres: the page, a box, the room between two, the title, the left of a column, and one lane for a shortcut."""
MOST_BOXES, MOST_LANES, WIDEST = 80, 6, 62.0
"""More boxes, or more shortcuts side by side, and whole modules become boxes. The widest box, in millimetres."""
SHORT = {
    **{"Conv2d": "conv", "conv2d": "conv", "ConvTranspose2d": "transposed conv", "Linear": "linear"},
    **{"BatchNorm2d": "BN", "BatchNorm1d": "BN", "LayerNorm": "LN", "LayerNorm2d": "LN", "relu": "ReLU"},
    **{"MaxPool2d": "max pool", "max_pool2d": "max pool", "AvgPool2d": "average pool", "avg_pool2d": "average pool"},
    **{"AdaptiveAvgPool2d": "average pool", "adaptive_avg_pool2d": "average pool", "amax": "maximum of the map"},
    **{
        "MultiheadAttention": "attention",
        "add": "+",
        "mul": "×",
        "cat": "concatenate",
        "Flatten": "flatten",
        "Dropout": "dropout",
    },
}
FILLS = (
    ("conv", "#dce8f6"),
    ("depthwise", "#dce8f6"),
    ("linear", "#fbe7d0"),
    ("pool", "#e1f0dc"),
    ("attention", "#ece2f5"),
    ("+", "#ffffff"),
)
"""Light enough that text stays readable in grey print; the words say the same."""


@dataclass(frozen=True)
class Box:
    """One box: its two lines, the result's shape, the frame it stands in, and the boxes it takes from (-1: picture)."""

    words: str
    path: str
    shape: str
    frame: str
    sources: tuple[int, ...]


def diagram(seen: Trace, *, title: str) -> str:
    """The network as SVG, 160 mm wide, with text as text. Activations, norms and dropout stand in the box they follow.

    A network of more than 80 boxes, or of more than six shortcuts beside each other, is drawn with whole modules as
    boxes.
    """
    depths = range(max((step.path.count(".") for step in seen.steps), default=0) + 1, 0, -1)
    drafts = (_boxes(seen, depth) for depth in (99, *depths))
    boxes = next((b for b in drafts if len(b) <= MOST_BOXES and _lanes(_shortcuts(b))[1] <= MOST_LANES), None)
    return _drawn(boxes or _boxes(seen, 1), title, f"{seen.trained + seen.frozen:,} parameters")


def _boxes(seen: Trace, depth: int) -> list[Box]:
    """The steps in boxes: each with what follows it, or, where paths are longer than `depth`, by module."""
    groups: list[list[int]] = []
    heads = _visible_sources(seen)
    takers = Counter(source for sources in heads.values() for source in sources)
    for n, sources in heads.items():
        last = groups[-1] if groups else []
        if last and _together(seen, last, n, depth, sources, takers):
            last.append(n)
        else:
            groups.append([n])
    box_of = {n: number for number, group in enumerate(groups, 1) for n in group} | {-1: 0}
    boxes = [Box("picture", "", size_of(seen.picture[1:]), "", ())]
    for number, group in enumerate(groups, 1):
        given = {box_of[source] for n in group for source in heads[n]} - {number}
        boxes.append(_box(seen, group, depth, tuple(sorted(given))))
    return boxes


def _visible_sources(seen: Trace) -> dict[int, tuple[int, ...]]:
    """For each step that is drawn, the drawn steps (-1: the picture) whose results reach it."""
    through: dict[int, tuple[int, ...]] = {-1: (-1,)}
    drawn: dict[int, tuple[int, ...]] = {}
    for n, step in enumerate(seen.steps):
        sources = tuple(dict.fromkeys(one for source in step.sources for one in through[source]))
        hidden = is_quiet(step) or not step.sources
        through[n] = sources if hidden else (n,)
        if not hidden:
            drawn[n] = sources
    return drawn


def _module(step: Step, depth: int) -> str:
    """The module that stands for a step when only `depth` parts of a path are drawn, or ''."""
    parts = step.path.split(".")
    inside = len(parts) > depth or (step.module is None and len(parts) == depth and step.path)
    return ".".join(parts[:depth]) if inside else ""


def _together(
    seen: Trace, group: Sequence[int], n: int, depth: int, sources: tuple[int, ...], takers: Counter[int]
) -> bool:
    """Whether a step belongs into the box before it: of the same drawn module, or, where layers are drawn, because it
    only reworks, number by number, what that box gave to nobody else.
    """
    step, before = seen.steps[n], seen.steps[group[-1]]
    modules = {_module(step, depth), _module(seen.steps[group[0]], depth)}
    if modules != {""}:
        return len(modules) == 1
    light = not step.multiply_adds and step.window is None and step.output == before.output
    return light and sources == (group[-1],) and takers[group[-1]] == 1 and _frame(step) == _frame(before)


def _frame(step: Step) -> str:
    """The module of the network that a step stands in; a layer directly in the network has none."""
    first, dot, _ = step.path.partition(".")
    return first if dot or (step.module is None and first) else ""


def _box(seen: Trace, group: Sequence[int], depth: int, sources: tuple[int, ...]) -> Box:
    first, last = seen.steps[group[0]], seen.steps[group[-1]]
    module = _module(first, depth)
    words = " · ".join(dict.fromkeys(_words(seen.steps[n]) for n in group))
    if module:
        layers = sum(seen.steps[n].weight_layers for n in group)
        words = f"{seen.kinds.get(module, module).lstrip('_')}, {layers} weight layer{'s' * (layers != 1)}"
    frame = _frame(first) if not module or "." in module else ""
    return Box(words, module or first.path, size_of(last.output[1:]), frame, sources)


def _words(step: Step) -> str:
    """A step as one writes it into a box: `conv 3x3, 64, /2`."""
    word, window = SHORT.get(step.name, step.name), step.window
    if word == "conv" and window:
        groups = getattr(step.module, "groups", 1)
        word = "depthwise" if groups > 1 and groups == step.inputs[0][1] else word
        parts = f"{word} {size_of(window.kernel)}, {step.output[1]}"
        return parts + (f", {groups} groups" if 1 < groups < step.inputs[0][1] else "") + _stride(window.stride)
    if window and "Adaptive" not in step.name and "adaptive" not in step.name:
        return f"{word} {size_of(window.kernel)}{_stride(window.stride)}"
    return f"linear {step.output[-1]}" if word == "linear" else word


def _stride(stride: tuple[int, int]) -> str:
    return "" if stride == (1, 1) else f", /{stride[0]}" if stride[0] == stride[1] else f", /{size_of(stride)}"


Edge = tuple[int, int]


def _shortcuts(boxes: Sequence[Box]) -> list[Edge]:
    return [(source, n) for n, box in enumerate(boxes) for source in box.sources if source != n - 1]


def _lanes(edges: Sequence[Edge]) -> tuple[dict[Edge, int], int]:
    """A lane for each shortcut, the short ones inside, so that no two lie on each other; and how many lanes."""
    lanes: dict[Edge, int] = {}
    for one in sorted(edges, key=lambda edge: edge[1] - edge[0]):
        taken = {lane for other, lane in lanes.items() if other[0] < one[1] and one[0] < other[1]}
        lanes[one] = next(n for n in range(len(edges)) if n not in taken)
    return lanes, max(lanes.values(), default=-1) + 1


def _columns(boxes: Sequence[Box]) -> list[list[int]]:
    """The boxes in up to four columns, cut where only the result of one box goes on."""
    count = min(4, -(-len(boxes) // 10))
    crossed = {n for a, b in _shortcuts(boxes) for n in range(a + 1, b)}
    cuts = [n for n in range(len(boxes) - 1) if n not in crossed and n in boxes[n + 1].sources]
    columns, start = [], 0
    for left in range(count, 1, -1):
        wanted = start + (len(boxes) - start) / left - 1
        cut = min((n for n in cuts if n >= start), key=lambda n: abs(n - wanted), default=None)
        if cut is not None:
            columns.append(list(range(start, cut + 1)))
            start = cut + 1
    return [column for column in (*columns, list(range(start, len(boxes)))) if column]


@dataclass(frozen=True)
class _Place:
    """Where a box lies, in millimetres: its left, top and width."""

    x: float
    y: float
    wide: float

    @property
    def middle(self) -> float:
        return self.x + self.wide / 2

    @property
    def bottom(self) -> float:
        return self.y + HIGH


def _drawn(boxes: Sequence[Box], title: str, under: str) -> str:
    columns, (lanes, count) = _columns(boxes), _lanes(_shortcuts(boxes))
    step = WIDE / len(columns)
    wide = min(WIDEST, step - EDGE - LANE * (count + 1) - 1.5)
    inset = (step - EDGE - wide - LANE * (count + 1)) / 2
    places = {
        n: _Place(c * step + inset + EDGE, TOP + row * (HIGH + GAP), wide)
        for c, column in enumerate(columns)
        for row, n in enumerate(column)
    }
    high = max(place.bottom for place in places.values()) + GAP
    parts = [
        *_frames(boxes, columns, places, wide + LANE * (count + 0.6)),
        *_arrows(boxes, columns, places),
        *(_shortcut(places, edge, LANE * (lane + 1), columns) for edge, lane in lanes.items()),
        *(part for n, box in enumerate(boxes) for part in _boxed(box, places[n])),
    ]
    return "\n".join([*_opened(title, under, high), *parts, "</svg>\n"])


def _opened(title: str, under: str, high: float) -> list[str]:
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDE:g}mm" height="{high:.2f}mm" '
        f'viewBox="0 0 {WIDE:g} {high:.2f}" font-family="Helvetica, Arial, sans-serif">',
        f"<title>{escape(title)}</title>",
        '<defs><marker id="tip" viewBox="0 0 6 6" refX="5.5" refY="3" markerWidth="5" markerHeight="5" orient="auto">'
        '<path d="M0,0.8 L6,3 L0,5.2 z" fill="#333"/></marker></defs>',
        f'<rect width="{WIDE:g}" height="{high:.2f}" fill="#fff"/>',
        _text(2, 5, title, 3.2, room=100, weight="bold"),
        _text(WIDE - 2, 5, under, 2.4, room=55, anchor="end"),
    ]


def _text(
    x: float, y: float, words: str, size: float, *, room: float, anchor: str = "start", weight: str = "normal"
) -> str:
    """Words that are made smaller where they would not fit into `room` millimetres."""
    size = min(size, room / (0.54 * max(1, len(words))))
    style = f'font-size="{size:.2f}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x:.2f}" y="{y:.2f}" {style} fill="#111">{escape(words)}</text>'


def _boxed(box: Box, at: _Place) -> Iterator[str]:
    fill = next((colour for word, colour in FILLS if word in box.words), "#f2f2f2")
    drawn = f'x="{at.x:.2f}" y="{at.y:.2f}" width="{at.wide:.2f}" height="{HIGH:g}" rx="0.9" fill="{fill}"'
    yield f'<rect {drawn} stroke="#333" stroke-width="0.2"/>'
    yield _text(at.middle, at.y + 3.4, box.words, 2.4, room=at.wide - 2, anchor="middle")
    most = int((at.wide - 3) / 0.85) - len(box.shape)  # the end of a path says more than its beginning
    path = box.path if len(box.path) <= most else f"…{box.path[1 - most :]}"
    share = (at.wide - 3) / max(1, len(path) + len(box.shape))
    yield _text(at.x + 1, at.y + 6.8, path, 2.0, room=share * len(path))
    yield _text(at.x + at.wide - 1, at.y + 6.8, box.shape, 2.0, room=share * len(box.shape), anchor="end")


def _line(path: str) -> str:
    return f'<path d="{path}" fill="none" stroke="#333" stroke-width="0.25" marker-end="url(#tip)"/>'


def _arrows(boxes: Sequence[Box], columns: Sequence[Sequence[int]], places: dict[int, _Place]) -> Iterator[str]:
    """From each box to the next where it takes from it, also from the end of a column to the next one's top."""
    firsts = {column[0] for column in columns}
    for n in range(1, len(boxes)):
        a, b = places[n - 1], places[n]
        if n - 1 not in boxes[n].sources:
            continue
        if n in firsts:
            between = b.x - EDGE - 0.4
            turn = f"V{a.bottom + 1.8:.2f} H{between:.2f} V{b.y - 2.6:.2f} H{b.middle:.2f} V{b.y:.2f}"
            yield _line(f"M{a.middle:.2f},{a.bottom:.2f} {turn}")
        else:
            yield _line(f"M{a.middle:.2f},{a.bottom:.2f} V{b.y:.2f}")


def _shortcut(places: dict[int, _Place], edge: Edge, out: float, columns: Sequence[Sequence[int]]) -> str:
    """From the side of one box to that of another; from another column it branches off the line into this one."""
    a, b = places[edge[0]], places[edge[1]]
    right, end, r = b.x + b.wide, b.y + HIGH * 0.35, 1.0
    start = f"M{right:.2f},{a.y + HIGH * 0.65:.2f}"
    if a.x != b.x:
        first = places[next(column[0] for column in columns if edge[1] in column)]
        start = f"M{first.middle:.2f},{first.y - 2.6:.2f}"
    turn = f"H{right + out - r:.2f} q{r},0 {r},{r} V{end - r:.2f} q0,{r} {-r},{r} H{right:.2f}"
    return _line(f"{start} {turn}")


def _frames(
    boxes: Sequence[Box], columns: Sequence[Sequence[int]], places: dict[int, _Place], wide: float
) -> Iterator[str]:
    """One frame around the boxes of a top-level module in a column, with its name upright on the left."""
    for column in columns:
        for name, run in groupby(column, key=lambda n: boxes[n].frame):
            inside = list(run)
            if not name:
                continue
            a, b = places[inside[0]], places[inside[-1]]
            x, y, high = a.x - EDGE + 1, a.y - 1.3, b.bottom - a.y + 2.6
            size = f'width="{wide + EDGE - 1:.2f}" height="{high:.2f}"'
            yield f'<rect x="{x:.2f}" y="{y:.2f}" {size} rx="1.2" fill="#f8f8f8" stroke="#999" stroke-width="0.2"/>'
            turn = quoteattr(f"translate({x + 2.9:.2f} {y + high / 2:.2f}) rotate(-90)")
            yield f"<g transform={turn}>{_text(0, 0, name, 2.3, room=high - 1, anchor='middle')}</g>"
