"""Any stored picture to uint8 pixels, one way for everyone: orientation, colour, transparency, 16 bit.

No torch here, so that worker processes and the start of a command stay light; the network's square is in `square.py`.
"""

import functools
import io
import re
from importlib import import_module
from types import ModuleType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tellapart.errors import DataError

MAX_PIXELS = 89_478_485
"""Pillow's own bound: a quarter of a gigabyte of RGB. A larger picture may be a decompression bomb."""

LARGE = 1024
"""A JPEG whose shorter side is at least twice this is decoded at 1/2, 1/4 or 1/8, so that this much is left at least.

libjpeg then leaves out work instead of doing it: 3 to 7 times as fast. It depends on nothing but the picture, so that
its identity is the same whatever network looks at it.
"""

STRIP = 1 << 20
"""Pixels that are taken from Pillow at once."""
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")
TURNING = (b"Exif\0", b"eXIf", b"EXIF", b"tiff:Orientation", b"XML:com.adobe.xmp", b"Raw profile type exif")
"""One of these is in the bytes of every JPEG, PNG and WebP file that says how it is to be turned."""

FOREIGN = {
    rb"version https://git-lfs": ("pointer", "a git-LFS pointer, not the picture itself"),
    rb"\s*(<!doctype html|<html)": ("page", "an HTML page, not a picture"),
    rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!doctype svg|<svg)": ("foreign", "an SVG drawing; only pixels are read"),
    rb"GIF8": ("foreign", "a GIF; it is not among the formats that are read"),
    rb"%PDF": ("foreign", "a PDF document"),
    rb"8BPS": ("foreign", "a Photoshop file"),
    rb"PK\x03\x04": ("foreign", "a zip archive"),
    rb"....ftyp(heic|heix|hevc|mif1|msf1)": ("foreign", "a HEIC photo; convert it to JPEG first"),
    rb"....ftypavi[fs]": ("foreign", "an AVIF picture; it is not among the formats that are read"),
    rb"[\t\n\r\x20-\x7e]{16,}\Z": ("text", "text, not a picture"),
}
"""How the first bytes of what is no picture begin: its fault, and what it is in words."""
BEGINS = (
    rb"(?P<JPEG>\xff\xd8\xff)|(?P<PNG>\x89PNG\r\n\x1a\n)|(?P<PPM>P[1-6]\s+[0-9#])|(?P<BMP>BM.{4}\0{4})|"
    rb"(?P<TIFF>II\*\0|MM\0\*)|(?P<WEBP>RIFF....WEBP)"
)
"""How files of FORMATS begin; those of some cameras, too, begin like a TIFF."""

Pixels = NDArray[np.uint8]


def decode(raw: bytes | Pixels) -> Pixels:
    """The pixels of one picture: (H, W, 1) when it is grey in every container, else (H, W, 3) RGB.

    A colour picture whose three channels are equal is grey: so a picture has one identity whatever file holds it.
    A JPEG of twice `LARGE` or more is decoded at 1/2, 1/4 or 1/8 of its size, everything else at full size.
    Raises DataError with the reason when the bytes are not a whole picture.
    """
    return decoded(raw)[0]


def decoded(raw: bytes | Pixels) -> tuple[Pixels, str]:
    """`decode`, and what decoded it: "simplejpeg", "pillow", "pillow, a JPEG", or "" for what came as an array."""
    pixels, by = (_of_array(raw), "") if isinstance(raw, np.ndarray) else _of_bytes(raw)
    if pixels.shape[2] == 3 and _is_grey(pixels):
        return np.ascontiguousarray(pixels[:, :, :1]), by
    return pixels, by


def _is_grey(pixels: Pixels) -> bool:
    """Whether all channels agree; a look at one row decides for nearly every colour picture."""
    first = pixels[pixels.shape[0] // 2]
    if (first[:, :1] != first).any():
        return False
    return bool((pixels[:, :, :1] == pixels).all())


def _of_array(array: Pixels) -> Pixels:
    if array.dtype != np.uint8:
        raise DataError(f"Pixels must be uint8 from 0 to 255, received {array.dtype}.")
    shaped = array[:, :, None] if array.ndim == 2 else array
    if shaped.ndim != 3 or shaped.shape[2] not in (1, 3) or not shaped.size:
        raise DataError(f"A picture must be (H, W), (H, W, 1) or (H, W, 3), received {array.shape}.")
    return shaped


def _of_bytes(raw: bytes) -> tuple[Pixels, str]:
    if not raw:
        raise DataError("The file is empty.")
    jpeg = raw[:2] == b"\xff\xd8"
    pixels = _jpeg(raw) if jpeg else None
    if pixels is not None:
        return pixels, "simplejpeg"
    try:
        return of_image(open_image(raw), turned=_may_turn(raw)), "pillow, a JPEG" if jpeg else "pillow"
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly every built-in error on broken bytes
        raise DataError(f"{_plain(error, raw)}.") from error


def _jpeg(raw: bytes) -> Pixels | None:
    """A grey or RGB JPEG by libjpeg-turbo directly: equal to Pillow's to the bit, in 0.7 of its time.

    None when the library is not there, and for every file that is not plain and whole: Pillow has to look at it.
    """
    library = _simplejpeg()
    if library is None:
        return None
    try:
        height, width, colours, _ = library.decode_jpeg_header(raw)
        if colours not in ("Gray", "YCbCr") or height * width > MAX_PIXELS:
            return None
        turn = Image.open(io.BytesIO(raw), formats=("JPEG",)).getexif().get(0x0112, 1) if _may_turn(raw) else 1
        least, colours = reduction(width, height), "GRAY" if colours == "Gray" else "RGB"
        # 0 is no bound; with one, the smallest size that libjpeg can make and that is not below it
        bounds = (0, 0) if least == 1 else (-(-height // least), -(-width // least))
        return _turned(library.decode_jpeg(raw, colours, min_height=bounds[0], min_width=bounds[1]), turn)
    except Exception:  # simplejpeg raises several kinds; what is wrong with the file is for Pillow to say
        return None


def _may_turn(raw: bytes) -> bool:
    """Whether the file may say how it is to be turned. Of a JPEG only what stands before its pixels is searched."""
    end = len(raw)
    if raw[:2] == b"\xff\xd8":
        end = 2
        while raw[end : end + 1] == b"\xff" and raw[end + 1 : end + 2] != b"\xda":  # segment by segment to the scan
            end += 2 + int.from_bytes(raw[end + 2 : end + 4])
    return any(raw.find(mark, 0, end) >= 0 for mark in TURNING)


@functools.cache
def _simplejpeg() -> ModuleType | None:
    try:
        return import_module("simplejpeg")
    except ImportError:
        return None


def reduction(width: int, height: int) -> int:
    """By how much a JPEG of this size is made smaller while it is decoded.

    >>> reduction(640, 480), reduction(4000, 3000), reduction(8192, 8192)
    (1, 2, 8)
    """
    return max(by for by in (1, 2, 4, 8) if by == 1 or min(width, height) >= by * LARGE)


def _turned(pixels: Pixels, orientation: int) -> Pixels:
    """The pixels as an EXIF orientation from 1 to 8 says they are to be seen; others say nothing."""
    if orientation not in range(2, 9):
        return pixels
    turned = pixels.swapaxes(0, 1) if orientation >= 5 else pixels
    upside, mirrored = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(turned[:: -1 if upside else 1, :: -1 if mirrored else 1])


def foreign(raw: bytes) -> tuple[str, str]:
    """What is no picture, by its first bytes: its fault, and what it is in words; "", "" for others."""
    found = (told for pattern, told in FOREIGN.items() if re.match(pattern, raw[:512], re.I | re.S))
    return next(found, ("", ""))


def pictured(raw: bytes) -> str:
    """What picture a file is by its first bytes, in words, be its format one of FORMATS or not; '' when it is none."""
    known, other = re.match(BEGINS, raw, re.S), foreign(raw)[1]
    return f"{known.lastgroup} by its first bytes" if known else other * bool(re.search("GIF|HEIC|AVIF", other))


def _plain(error: Exception, raw: bytes = b"") -> str:
    text = str(error) or type(error).__name__
    if "cannot identify" in text:
        words = foreign(raw)[1]
        return f"It is {words}" if words else "The bytes are not a picture that can be read"
    return text[0].upper() + text[1:].rstrip(".")


def open_image(raw: bytes) -> Image.Image:
    """The opened, not yet decoded image of these bytes. Raises DataError when it moves, or is far too large."""
    return still(Image.open(io.BytesIO(raw), formats=FORMATS))


def still(image: Image.Image) -> Image.Image:
    """The same image. Raises DataError where its file is not read: another format, one that moves, far too large."""
    if image.format not in (None, "MPO", *FORMATS):  # none: it was made, not opened
        raise DataError(f"It is a picture of the format {image.format}, which is not read.")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # an MPO is a photo with previews behind it
        raise DataError(f"The file holds {frames} pictures; only still pictures are read.")
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"The picture is {image.width} x {image.height}; at most {MAX_PIXELS:,} pixels are read.")
    return image


def header(raw: bytes) -> tuple[int, int, int]:
    """Height, width and channels that the header of a file promises, without decoding a pixel."""
    try:
        image = open_image(raw)
    except Exception as error:  # as in _of_bytes
        raise DataError(f"{_plain(error, raw)}.") from error
    return image.height, image.width, 1 if image.mode in ("1", "L", "LA", "I") or image.mode.startswith("I;16") else 3


def of_image(image: Image.Image, *, turned: bool = True) -> Pixels:
    """Upright, opaque, eight bits: grey stays grey, everything else becomes RGB."""
    if image.format in ("JPEG", "MPO") and reduction(*image.size) > 1:
        by = reduction(*image.size)
        image.draft(None, (image.width // by, image.height // by))
    image.load()  # before its EXIF block is read, so that errors name what is broken
    image = _upright(image) if turned or image.format == "TIFF" else image
    if image.mode.startswith("I;16") or image.mode == "I":
        image = _eight_bits(image)
    if image.mode == "F":
        raise DataError("The picture holds floating-point numbers of unknown range. Save it with 8 or 16 bits.")
    return _array(image, "L" if image.mode in ("1", "L") and not image.has_transparency_data else "RGB")


def _array(image: Image.Image, mode: str) -> Pixels:
    """The pixels (H, W, C) in a mode, over white. Of a large picture strip by strip, for Pillow has them several times
    on the way.
    """
    (width, height), bands = image.size, len(mode)
    if width * height <= STRIP:
        return np.asarray(_opaque(image, mode)).reshape(height, width, bands)
    pixels, rows = np.empty((height, width, bands), np.uint8), -(-STRIP // width)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        pixels[top : top + rows] = np.asarray(_opaque(strip, mode)).reshape(-1, width, bands)
    return pixels


def _opaque(image: Image.Image, mode: str) -> Image.Image:
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image if image.mode == mode else image.convert(mode)  # which copies where there is nothing to convert


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:  # as in _of_bytes: the EXIF block is as foreign as the pixels
        raise DataError(f"Its EXIF data, which may say how to turn it, cannot be read: {_plain(error)}.") from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey scaled to 8 bits: 65535 becomes 255."""
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise DataError("The picture holds more than 16 bits a pixel. Save it with 8 or 16 bits.")
    eight = np.empty(values.shape, np.uint8)
    for some, own in zip(values, eight, strict=True):  # a row at a time: the sum takes eight bytes a pixel
        own[:] = (some.astype(np.int64) + 128) // 257
    eight[values == image.info.get("transparency")] = 255  # as white as what is laid under transparent pixels
    return Image.fromarray(eight)


def stored_size(raw: bytes | Pixels, pixels: Pixels) -> tuple[int, int]:
    """Width and height of a picture as it is stored, upright: a large JPEG is decoded smaller than it is."""
    high, wide = pixels.shape[:2]
    if isinstance(raw, np.ndarray) or raw[:2] != b"\xff\xd8" or min(high, wide) < LARGE:
        return wide, high
    with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
        across, down = image.size
        turn = image.getexif().get(0x0112, 1) if _may_turn(raw) else 1
    return (down, across) if turn in range(5, 9) else (across, down)
