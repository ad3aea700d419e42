"""A sheet as a PDF of one page: vector lines, text as text in an embedded font, no date; the same bytes every time.

Letters that the font lacks, such as Chinese ones, are filled from a stencil of this machine's font, and can be copied
and searched all the same.
"""

import functools
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tellapart.data.sources.listing import shown
from tellapart.errors import UsageError
from tellapart.figures.letters import FINE, drawable, font_for, in_plain, length, write
from tellapart.figures.sheet import Mark, Point, Sheet, full, outline, rounded, text_of, tip, wide
from tellapart.recipe import printable

POINTS = 72 / 25.4
"""Points in a millimetre."""
STENCIL = 160
"""Dots of a stencil for the size of its letters: 1,440 to the inch at 8 points."""
NAME, BOUNDS = "Aileron-Regular", "-150 -230 950 810"
"""The font that Pillow carries (public domain), and what its letters fill, in thousandths of their size."""


class _Page:
    """The content of the page while it is written, and the pictures and shades it names."""

    def __init__(self, sheet: Sheet) -> None:
        self.high = sheet.high
        self.content: list[str] = []
        self.pictures: list[bytes] = []
        self.shades: set[float] = set()

    def at(self, points: Sequence[Point]) -> list[str]:
        """Points of the sheet as the page has them, from below."""
        return [f"{x * POINTS:.3f} {(self.high - y) * POINTS:.3f}" for x, y in points]

    def path(self, points: Sequence[Point], paint: str) -> None:
        """A line through points, painted."""
        first, *rest = self.at(points)
        self.content.append(" ".join([first, "m", *(f"{point} l" for point in rest), paint]))

    def put(self, mark: Mark) -> None:
        """One mark."""
        self.shades.add(mark.solid)
        self.content.append(f"q /S{round(100 * mark.solid)} gs 1 j {mark.width * POINTS:.3f} w")
        self.content.append(f"{_colour(mark.colour)} rg {_colour(mark.edge or mark.colour)} RG")
        if mark.kind == "words":
            self.write(mark)
        elif mark.pixels is not None:
            self.picture(mark)
        elif mark.kind == "box":
            self.path(outline(mark), "b" if mark.edge else "f")
        elif mark.kind == "area":
            self.path(mark.points, "f")
        else:
            self.path(rounded(mark.points, mark.round) if mark.round else mark.points, "S")
            if mark.kind == "arrow":
                self.path(tip(mark.points), "f")
        self.content.append("Q")

    def write(self, mark: Mark) -> None:
        """Words, as text where the font has all of their letters."""
        words, size = drawable(text_of(mark)), mark.width * POINTS
        ((x, y),) = mark.points
        back = {"start": 0.0, "middle": 0.5, "end": 1.0}[mark.anchor] * wide(words, mark.width)
        (where,) = self.at([(x, y + back) if mark.turned else (x - back, y)])
        turn = "0 1 -1 0" if mark.turned else "1 0 0 1"
        if all(letter in _letters() for letter in words):
            raw = words.encode("cp1252").hex()
            self.content.append(f"BT /F1 {size:.3f} Tf {turn} {where} Tm <{raw}> Tj ET")
            return
        image = _stencil(words)
        self.pictures.append(
            _stream(image.tobytes(), f"{_image(image)} /ImageMask true /Decode [1 0] /BitsPerComponent 1")
        )
        side = size / STENCIL
        fit = f"{image.width * side:.3f} 0 0 {image.height * side:.3f} 0 {-size / 2:.3f} cm"
        said = ("\ufeff" + words).encode("utf-16-be").hex()
        self.content.append(f"/Span <</ActualText <{said}>>> BDC {turn} {where} cm {fit} /I{len(self.pictures)} Do EMC")

    def picture(self, mark: Mark) -> None:
        """Pixels, as they are."""
        assert mark.pixels is not None  # noqa: S101 - for the type checker
        image = Image.fromarray(np.ascontiguousarray(mark.pixels)).convert("RGB")
        self.pictures.append(
            _stream(image.tobytes(), f"{_image(image)} /ColorSpace /DeviceRGB /BitsPerComponent 8 /Interpolate false")
        )
        (left, top), (right, bottom) = mark.points
        (corner,) = self.at([(left, bottom)])
        size = f"{(right - left) * POINTS:.3f} 0 0 {(bottom - top) * POINTS:.3f}"
        self.content.append(f"{size} {corner} cm /I{len(self.pictures)} Do")


def as_pdf(sheet: Sheet) -> bytes:
    """The sheet, in millimetres, as one page of its size."""
    page = _Page(sheet)
    for mark in sheet.marks:
        page.put(mark)
    shades = " ".join(f"/S{round(100 * s)} <</ca {s:g} /CA {s:g}>>" for s in sorted(page.shades))
    named = " ".join(f"/I{n} {n + 8} 0 R" for n in range(1, len(page.pictures) + 1))
    means = f"<</Font <</F1 4 0 R>> /ExtGState <<{shades}>> /XObject <<{named}>>>>"
    size = f"[0 0 {sheet.wide * POINTS:.3f} {sheet.high * POINTS:.3f}]"
    title = ("\ufeff" + printable(shown(sheet.title))).encode("utf-16-be").hex()
    return _file(
        [
            b"<</Type /Catalog /Pages 2 0 R>>",
            b"<</Type /Pages /Kids [3 0 R] /Count 1>>",
            f"<</Type /Page /Parent 2 0 R /MediaBox {size} /Resources {means} /Contents 5 0 R>>".encode(),
            _font(),
            _stream("\n".join(page.content).encode("ascii")),
            f"<</Title <{title}> /Producer (tellapart)>>".encode(),
            f"<</Type /FontDescriptor /FontName /{NAME} /Flags 32 /FontBBox [{BOUNDS}] /ItalicAngle 0 /Ascent 810 "
            "/Descent -230 /CapHeight 700 /StemV 80 /FontFile2 8 0 R>>".encode(),
            _stream(_plain().font_bytes, f"/Length1 {len(_plain().font_bytes)}"),
            *page.pictures,
        ]
    )


def _file(objects: list[bytes]) -> bytes:
    """The objects, numbered from 1, with the table of where each begins."""
    out, starts = bytearray(b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n"), []
    for n, one in enumerate(objects, 1):
        starts.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (n, one)
    rows = b"".join(b"%010d 00000 n \n" % start for start in starts)
    head, count = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1), len(objects) + 1
    end = b"trailer\n<</Size %d /Root 1 0 R /Info 6 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (count, len(out))
    return bytes(out + head + rows + end)


def _stream(raw: bytes, about: str = "") -> bytes:
    packed = zlib.compress(raw, 9)
    return f"<<{about} /Filter /FlateDecode /Length {len(packed)}>>\nstream\n".encode() + packed + b"\nendstream"


def _image(image: Image.Image) -> str:
    return f"/Type /XObject /Subtype /Image /Width {image.width} /Height {image.height}"


def _stencil(words: str) -> Image.Image:
    """Words as black dots, the line on which they stand a third above the lower edge."""
    font = font_for(words, STENCIL)
    image = Image.new("1", (max(1, round(length(words, font))), round(1.5 * STENCIL)), 0)
    write(ImageDraw.Draw(image), (0, STENCIL), words, fill=1, font=font, anchor="ls")
    return image


def _plain() -> ImageFont.FreeTypeFont:
    font = font_for("", FINE)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise UsageError("This Pillow has no FreeType, and a PDF needs its letters.", "Install Pillow from a wheel.")
    return font


@functools.cache
def _letters() -> Mapping[str, int]:
    """The letters of the font that a PDF can name by one byte, each with its width in thousandths."""
    plain, found = _plain(), {}
    for code in range(32, 256):
        letter = bytes([code]).decode("cp1252", "ignore")
        if letter and in_plain(letter):
            found[letter] = round(plain.getlength(letter))
    return found


def _font() -> bytes:
    known = _letters()
    every = (bytes([code]).decode("cp1252", "ignore") for code in range(32, 256))
    widths = " ".join(str(known.get(letter, 0)) for letter in every)
    return (
        f"<</Type /Font /Subtype /TrueType /BaseFont /{NAME} /FirstChar 32 /LastChar 255 /Widths [{widths}] "
        "/Encoding /WinAnsiEncoding /FontDescriptor 7 0 R>>".encode()
    )


def _colour(colour: str) -> str:
    """Three numbers from 0 to 1."""
    digits = full(colour)[1:]
    return " ".join(f"{int(digits[n : n + 2], 16) / 255:.3f}" for n in (0, 2, 4))
