"""Any stored picture to uint8 pixels, one way for everyone: orientation, colour, transparency, 16 bit, then the square.

No torch here, so that worker processes and the start of a command stay light.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tellapart.errors import DataError
from tellapart.preprocess import Preprocess

MAX_PIXELS = 89_478_485
"""Pillow's own bound: a quarter of a gigabyte of RGB. A larger picture may be a decompression bomb."""

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
}

Pixels = NDArray[np.uint8]


def decode(raw: bytes | Pixels) -> Pixels:
    """The pixels of one picture at full size: (H, W, 1) when it is grey in every container, else (H, W, 3) RGB.

    A colour picture whose three channels are equal is grey: so a picture has one identity whatever file holds it.
    Raises DataError with the reason when the bytes are not a whole picture.
    """
    pixels = _of_array(raw) if isinstance(raw, np.ndarray) else _of_bytes(raw)
    if pixels.shape[2] == 3 and _is_grey(pixels):
        return np.ascontiguousarray(pixels[:, :, :1])
    return pixels


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
    if shaped.ndim != 3 or shaped.shape[2] not in (1, 3):
        raise DataError(f"A picture must be (H, W), (H, W, 1) or (H, W, 3), received {array.shape}.")
    return shaped


def _of_bytes(raw: bytes) -> Pixels:
    if not raw:
        raise DataError("The file is empty.")
    try:
        return of_image(open_image(raw))
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly every built-in error on broken bytes
        raise DataError(f"{_plain(error)}.") from error


def _plain(error: Exception) -> str:
    text = str(error) or type(error).__name__
    if "cannot identify" in text:
        return "The bytes are not a picture that can be read"
    return text[0].upper() + text[1:].rstrip(".")


def open_image(raw: bytes) -> Image.Image:
    """The opened, not yet decoded image of these bytes. Raises DataError when it moves, or is far too large."""
    image = Image.open(io.BytesIO(raw), formats=FORMATS)
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
        raise DataError(f"{_plain(error)}.") from error
    return image.height, image.width, 1 if image.mode in ("1", "L", "LA", "I") or image.mode.startswith("I;16") else 3


def of_image(image: Image.Image) -> Pixels:
    """Upright, opaque, eight bits: grey stays grey, everything else becomes RGB."""
    image = _upright(image)
    if image.mode.startswith("I;16") or image.mode == "I":
        image = _eight_bits(image)
    if image.mode == "F":
        raise DataError("The picture holds floating-point numbers of unknown range. Save it with 8 or 16 bits.")
    if image.has_transparency_data:
        image = _over_white(image.convert("RGBA"))
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))[:, :, None]
    return np.asarray(image.convert("RGB"))


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says. Pixels are decoded first, so that errors name what is broken."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:  # as in _of_bytes: the EXIF block is as foreign as the pixels
        raise DataError(f"Its EXIF data, which may say how to turn it, cannot be read: {_plain(error)}.") from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey scaled to 8 bits: 65535 becomes 255."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise DataError("The picture holds more than 16 bits a pixel. Save it with 8 or 16 bits.")
    eight = ((values + 128) // 257).astype(np.uint8)
    eight[values == image.info.get("transparency")] = 255  # as white as what is laid under transparent pixels
    return Image.fromarray(eight)


def _over_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image)


def fitted(pixels: Pixels, to: Preprocess) -> Pixels:
    """Full-size pixels (H, W, C) to the network's square (size, size, channels), by `to` and nothing else."""
    pixels = _coloured(pixels, to.channels)
    if pixels.shape[:2] == (to.size, to.size) and to.short in (0, to.size):
        return pixels
    image = Image.fromarray(pixels[:, :, 0] if to.channels == 1 else pixels)
    return _coloured(np.asarray(_square(image, to)), to.channels)


def _coloured(pixels: Pixels, channels: int) -> Pixels:
    """The same picture with 1 or 3 channels; grey by the luma of ITU-R 601, as Pillow has it."""
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    return np.asarray(Image.fromarray(pixels).convert("L"))[:, :, None]


def _square(image: Image.Image, to: Preprocess) -> Image.Image:
    filter, side = FILTERS[to.filter], (to.size, to.size)
    if to.fit == "squash":
        return image.resize(side, filter)
    width, height = image.size
    if to.fit == "pad":
        scale = to.size / max(width, height)
        inner = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), filter)
        canvas = Image.new(image.mode, side)
        canvas.paste(inner, ((to.size - inner.width) // 2, (to.size - inner.height) // 2))
        return canvas
    return image.resize(side, filter, box=crop_box(width, height, to))


def crop_box(width: int, height: int, to: Preprocess) -> tuple[float, float, float, float]:
    """The centre square of the original that is kept: its side is min(W, H) x size / short.

    >>> crop_box(400, 200, Preprocess(size=224, channels=3, short=256))
    (112.5, 12.5, 287.5, 187.5)
    """
    side = min(width, height) * to.size / (to.short or to.size)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side
