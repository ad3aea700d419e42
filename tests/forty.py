"""Forty small pictures, one of each kind of file that tellapart reads, made from two of arithmetic: colour and grey.

Files without loss that hold the same picture must become the same pixels, whatever holds it and however it is turned.
"""

import io
import struct
import zlib

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 28, 40
Y, X = np.mgrid[:HEIGHT, :WIDTH]
COLOUR = np.stack([6 * X, 9 * Y, (7 * X + 11 * Y) % 256], axis=2).astype(np.uint8)
GREY = ((5 * X + 3 * Y) % 256).astype(np.uint8)
ALPHA = ((13 * X + 17 * Y) % 256).astype(np.uint8)
ORIENTATION = 0x0112
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Adam7: first column, first row, step of columns, step of rows."""


def saved(image: Image.Image, kind: str, **options) -> bytes:
    """The bytes of a file of this kind."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """What is stored so that the orientation turns it into `pixels`: the table of the EXIF standard, undone."""
    stored = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.swapaxes(0, 1),
        6: np.rot90(pixels),
        7: pixels[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(pixels, -1),
    }
    return np.ascontiguousarray(stored[orientation])


def oriented(pixels: np.ndarray, orientation: int, kind: str, **options) -> bytes:
    """A file that holds turned pixels and says how to turn them back."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return saved(Image.fromarray(turned(pixels, orientation)), kind, exif=exif.tobytes(), **options)


def png(samples: np.ndarray, depth: int, *, interlaced: bool = False, **chunks: bytes) -> bytes:
    """A PNG of grey (H W) or RGB (H W 3) samples of 1 to 16 bits, written by hand, with `chunks` before its data."""
    height, width = samples.shape[:2]
    kind = 0 if samples.ndim == 2 else 2
    passes = [samples[y::dy, x::dx] for x, y, dx, dy in PASSES] if interlaced else [samples]
    raw = b"".join(b"\0" + packed(row, depth) for part in passes if part.size for row in part)
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)
    body = [(b"IHDR", head), *((name.encode(), data) for name, data in chunks.items()), (b"IDAT", zlib.compress(raw))]
    made = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in [*body, (b"IEND", b"")]
    )
    return b"\x89PNG\r\n\x1a\n" + made


def packed(row: np.ndarray, depth: int) -> bytes:
    """One row of samples, the highest bits first."""
    if depth == 16:
        return row.astype(">u2").tobytes()
    bits = np.unpackbits(row.astype(np.uint8).reshape(-1, 1), axis=1)[:, 8 - depth :]
    return np.packbits(bits).tobytes()


def _jpegs() -> dict[str, bytes]:
    colour, grey, large = Image.fromarray(COLOUR), Image.fromarray(GREY), Image.fromarray(COLOUR).resize((2900, 2050))
    ways = {f"turned-{n}.jpg": oriented(COLOUR, n, "JPEG", quality=90) for n in range(2, 9)}
    return {
        "baseline-420.jpg": saved(colour, "JPEG", subsampling="4:2:0"),
        "baseline-422.jpg": saved(colour, "JPEG", subsampling="4:2:2"),
        "baseline-444.jpg": saved(colour, "JPEG", subsampling="4:4:4", quality=95),
        "progressive.jpg": saved(colour, "JPEG", progressive=True),
        "grey.jpg": saved(grey, "JPEG"),
        "cmyk.jpg": saved(colour.convert("CMYK"), "JPEG"),
        "large.jpg": saved(large, "JPEG", quality=60),  # decoded at half its size
        **ways,
    }


def _pngs() -> dict[str, bytes]:
    colour, palette = Image.fromarray(COLOUR), Image.fromarray(GREY).convert("P")
    return {
        "1-bit.png": png(GREY >> 7, 1),
        "2-bit.png": png(GREY >> 6, 2),
        "4-bit.png": png(GREY >> 4, 4),
        "8-bit.png": png(GREY, 8),
        "16-bit.png": png(GREY.astype(np.uint16) * 257, 16),
        "rgb.png": saved(colour, "PNG"),
        "rgb-16-bit.png": png(COLOUR.astype(np.uint16) * 257, 16),
        "interlaced.png": png(COLOUR, 8, interlaced=True),
        "rgba.png": saved(Image.fromarray(np.dstack([COLOUR, ALPHA])), "PNG"),
        "grey-alpha.png": saved(Image.fromarray(np.dstack([GREY, ALPHA])), "PNG"),
        "palette.png": saved(palette, "PNG"),
        "palette-transparent.png": saved(palette, "PNG", transparency=ALPHA.tobytes()[:256]),
        "grey-transparent.png": png(GREY, 8, tRNS=struct.pack(">H", 100)),
        "turned-6.png": oriented(COLOUR, 6, "PNG"),
    }


def _others() -> dict[str, bytes]:
    colour, grey, clear = Image.fromarray(COLOUR), Image.fromarray(GREY), np.dstack([COLOUR, ALPHA])
    return {
        "rgb.bmp": saved(colour, "BMP"),
        "rgb.ppm": saved(colour, "PPM"),
        "16-bit.pgm": b"P5 40 28 65535\n" + (GREY.astype(np.uint16) * 257).astype(">u2").tobytes(),
        "1-bit.pbm": saved(Image.fromarray(GREY > 127), "PPM"),
        "lzw.tiff": saved(colour, "TIFF", compression="tiff_lzw"),
        "16-bit.tiff": saved(Image.fromarray(GREY.astype(np.uint16) * 257), "TIFF"),
        "turned-8.tif": oriented(COLOUR, 8, "TIFF"),
        "grey.tif": saved(grey, "TIFF", compression="tiff_adobe_deflate"),
        "lossy.webp": saved(colour, "WEBP", quality=80),
        "lossless.webp": saved(colour, "WEBP", lossless=True),
        "alpha.webp": saved(Image.fromarray(clear), "WEBP", lossless=True, exact=True),
        "turned-5.webp": oriented(COLOUR, 5, "WEBP", lossless=True),
    }


FORTY = {**_jpegs(), **_pngs(), **_others()}
"""The bytes of each, by file name."""

LOSSY = {name for name in FORTY if name.endswith(".jpg")} | {"lossy.webp"}
"""What these hold depends on the versions of the libraries that write and read them."""

SAME_COLOUR = (
    *("rgb.png", "rgb-16-bit.png", "interlaced.png", "turned-6.png", "rgb.bmp", "rgb.ppm", "lzw.tiff"),
    *("turned-8.tif", "lossless.webp", "turned-5.webp"),
)
SAME_GREY = ("8-bit.png", "16-bit.png", "palette.png", "16-bit.pgm", "16-bit.tiff", "grey.tif")
SAME = (SAME_COLOUR, SAME_GREY, ("1-bit.png", "1-bit.pbm"), ("rgba.png", "alpha.webp"))
"""Files that hold the same picture without loss, and"""

SAME_LOSS = ("baseline-420.jpg", "progressive.jpg")
"""those that hold the same one with the same loss: all others differ."""
