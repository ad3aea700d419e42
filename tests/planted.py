"""Pictures with a fault on purpose: natural-looking ones, copies of them that were changed, and broken files."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "TIFF": "tif", "PPM": "ppm"}


def natural(seed: int, *, width: int = 96, height: int = 72) -> Image.Image:
    """A picture with the spectrum of a photo (amplitude falls as 1 / frequency) and random colours."""
    rng = np.random.default_rng(seed)
    down = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width)[None] * width)
    waves = np.fft.rfft2(rng.standard_normal((height, width, 3)), axes=(0, 1)) / np.maximum(down, 1)[:, :, None]
    field = np.fft.irfft2(waves, (height, width), axes=(0, 1)) @ (np.full((3, 3), 0.25) + 0.25 * np.eye(3))
    field = (field - field.mean()) / field.std() * rng.uniform(35, 60) + rng.uniform(90, 165)
    return Image.fromarray(np.clip(field, 0, 255).astype(np.uint8))


def compressed(image: Image.Image, quality: int) -> Image.Image:
    """The picture after a JPEG of this quality."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Image.open(io.BytesIO(out.getvalue())).convert(image.mode)


def scaled(image: Image.Image, factor: float, how: Image.Resampling = Image.Resampling.LANCZOS) -> Image.Image:
    """The picture in another size."""
    return image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))), how)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "quality 30": lambda i: compressed(i, 30),
    "quality 60": lambda i: compressed(i, 60),
    "quality 95": lambda i: compressed(i, 95),
    "half size": lambda i: scaled(i, 0.5),
    "half size, bilinear": lambda i: scaled(i, 0.5, Image.Resampling.BILINEAR),
    "three quarters": lambda i: scaled(i, 0.75),
    "double size": lambda i: scaled(i, 2),
    "grey": lambda i: i.convert("L").convert(i.mode),
    "mirrored": ImageOps.mirror,
    "mirrored, quality 60": lambda i: compressed(ImageOps.mirror(i), 60),
    "mirrored, half size": lambda i: scaled(ImageOps.mirror(i), 0.5),
}
"""Ways in which a copy may differ from its original."""


def encoded(image: Image.Image, kind: str) -> bytes:
    """The file of a picture."""
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


TURNED = Image.Exif()
TURNED[0x0112] = 6  # by a quarter
KINDS: dict[str, dict[str, dict]] = {
    "JPEG": {"CMYK": {}, "L": {"progressive": True}, "RGB": {"exif": TURNED}},
    "PNG": {"I;16": {}, "P": {"transparency": 3}, "1": {}, "LA": {}},
    "WEBP": {"RGBA": {"lossless": True}, "RGB": {"exif": TURNED}},
    "BMP": {"P": {}, "1": {}},
    "TIFF": {"I;16": {}, "CMYK": {}, "RGB": {"compression": "tiff_lzw"}, "1": {}},
    "PPM": {"L": {}, "1": {}},
}
"""How each format keeps other numbers than three colours of 8 bits, and what is asked of it then."""


def wholes(kind: str) -> list[bytes]:
    """Files of a format: three sizes in colour, and one of each other kind of numbers it has."""
    plain = [encoded(natural(n, width=24 + 7 * n, height=20), kind) for n in range(3)]
    for mode, more in KINDS[kind].items():
        image, out = natural(3, width=26, height=20), io.BytesIO()
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        image.convert(mode).save(out, kind, **more)
        plain.append(out.getvalue())
    return plain


def mutants(count: int, *, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """File names and bytes: pictures of six formats, cut, with flipped bits, with bytes lost or overwritten."""
    kinds = list(FORMATS)
    whole = {kind: wholes(kind) for kind in kinds}
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        kind = kinds[number % len(kinds)]
        raw = bytearray(whole[kind][int(rng.integers(len(whole[kind])))])
        for _ in range(int(rng.integers(1, 4))):
            raw = _mutated(raw, rng)
        yield f"{number:05d}.{FORMATS[kind]}", bytes(raw)


def _mutated(raw: bytearray, rng: np.random.Generator) -> bytearray:
    """One change; half of them hit the first bytes, where the headers are."""
    if not raw:
        return raw
    at = int(rng.integers(min(len(raw), 64) if rng.random() < 0.5 else len(raw)))
    way = int(rng.integers(5))
    if way == 0:
        return raw[:at]
    if way == 1:
        raw[at] ^= 1 << int(rng.integers(8))
        return raw
    if way == 2:
        return raw[:at] + raw[at + int(rng.integers(1, 40)) :]
    if way == 3:
        return raw[:at] + raw[at : at + 50] + raw[at:]
    raw[at : at + 4] = b"\xff\xff\xff\x7f" if rng.random() < 0.5 else rng.bytes(4)
    return raw


def save_classes(root: Path, classes: dict[str, list[Image.Image]], *, ending: str = "png") -> Path:
    """Write `root/class/000.png` …; gives `root`."""
    for name, images in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for n, image in enumerate(images):
            image.save(root / name / f"{n * 7:04d}.{ending}")  # no consecutive numbers
    return root
