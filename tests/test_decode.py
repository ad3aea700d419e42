"""Every container, mode and trap to the same pixels; broken files to words."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from tellapart.data import decode as decoding
from tellapart.data.decode import decode, decoded, header, of_image
from tellapart.data.identity import digest
from tellapart.data.index import Index, Strings
from tellapart.data.pictures import HEAD, sizes
from tellapart.data.sources.folder import FileStore
from tellapart.errors import DataError

COLOUR = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
GREY = np.random.default_rng(2).integers(0, 256, (5, 7), np.uint8)


def saved(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png(array: np.ndarray, **options) -> bytes:
    return saved(Image.fromarray(array), **options)


def refused(raw: bytes | np.ndarray, *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        decode(raw)
    for part in parts:
        assert part in caught.value.message


def over_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The textbook blend over white, in real numbers."""
    share = alpha[:, :, None] / 255
    return rgb * share + 255 * (1 - share)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_colour_and_grey_come_back_from_every_lossless_container(kind):
    assert np.array_equal(decode(saved(Image.fromarray(COLOUR), kind)), COLOUR)
    assert np.array_equal(decode(saved(Image.fromarray(GREY), kind)), GREY[:, :, None])


def test_webp_without_loss_comes_back():
    assert np.array_equal(decode(saved(Image.fromarray(COLOUR), "WEBP", lossless=True)), COLOUR)


def test_a_jpeg_is_what_pillow_makes_of_it():
    raw = saved(Image.fromarray(COLOUR), "JPEG", quality=90)
    assert np.array_equal(decode(raw), np.asarray(Image.open(io.BytesIO(raw))))


def test_grey_has_one_identity_in_every_container():
    stored = [
        png(GREY),
        png(np.repeat(GREY[:, :, None], 3, axis=2)),
        saved(Image.fromarray(GREY), "TIFF"),
        saved(Image.fromarray(GREY).convert("P")),
        saved(Image.fromarray(GREY).convert("LA")),
        png(GREY.astype(np.uint16) * 257),
        GREY,
        GREY[:, :, None],
        np.repeat(GREY[:, :, None], 3, axis=2),
    ]
    decoded = [decode(one) for one in stored]
    assert all(np.array_equal(pixels, GREY[:, :, None]) for pixels in decoded)
    assert len({digest(pixels) for pixels in decoded}) == 1


def test_one_coloured_pixel_makes_a_picture_coloured():
    nearly = np.repeat(GREY[:, :, None], 3, axis=2)
    nearly[0, 0] = (1, 2, 3)
    assert np.array_equal(decode(png(nearly)), nearly)


def test_transparency_is_laid_over_white():
    alpha = np.arange(35, dtype=np.uint8).reshape(5, 7) * 7
    alpha[0, :2] = (0, 255)
    pixels = decode(png(np.dstack([COLOUR, alpha])))
    assert pixels[0, 0].tolist() == [255] * (1 if pixels.shape[2] == 1 else 3)
    assert pixels[0, 1].tolist() == COLOUR[0, 1].tolist()
    assert np.abs(pixels - over_white(COLOUR, alpha)).max() <= 1


def test_grey_with_transparency_is_laid_over_white():
    alpha = np.full((5, 7), 51, np.uint8)
    expected = over_white(GREY[:, :, None], alpha)
    pixels = decode(png(np.dstack([GREY, alpha])))
    assert pixels.shape == (5, 7, 1)
    assert np.abs(pixels - expected).max() <= 1


def test_a_palette_with_a_transparent_colour_is_laid_over_white():
    image = Image.new("P", (2, 2))
    image.putpalette([10, 20, 30, 200, 0, 0, 0, 0, 250])
    image.putdata([0, 1, 2, 0])
    pixels = decode(saved(image, transparency=1))
    assert pixels.tolist() == [[[10, 20, 30], [255, 255, 255]], [[0, 0, 250], [10, 20, 30]]]


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(np.array([[0, 100]], np.uint8)),
        Image.fromarray(np.array([[0, 100 * 257]], np.uint16)),
        Image.fromarray(np.array([[[0] * 3, [100] * 3]], np.uint8)),
    ],
    ids=["8 bits", "16 bits", "RGB"],
)
def test_a_grey_that_is_named_transparent_is_laid_over_white(image):
    transparent = 0 if image.mode != "RGB" else (0, 0, 0)
    assert decode(saved(image, transparency=transparent)).tolist() == [[[255], [100]]]


def test_one_bit_is_black_and_white():
    bits = GREY > 127
    assert np.array_equal(decode(png(bits)), bits[:, :, None] * np.uint8(255))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK", "1"])
def test_a_large_picture_that_is_taken_strip_by_strip_is_the_same(monkeypatch, mode):
    image = Image.fromarray(np.random.default_rng(2).integers(0, 256, (203, 97, 3), np.uint8)).convert(mode)
    whole = of_image(image)
    monkeypatch.setattr(decoding, "STRIP", 1000)  # eleven rows at a time, and a rest
    assert whole.shape == (203, 97, 1 if mode in ("L", "1") else 3)
    assert (of_image(image) == whole).all()
    assert (whole == np.asarray(image.convert("L" if mode in ("L", "1") else "RGB")).reshape(whole.shape)).all()


def test_cmyk_becomes_rgb():
    image = Image.fromarray(np.full((8, 8, 3), (200, 40, 90), np.uint8)).convert("CMYK")
    pixels = decode(saved(image, "JPEG", quality=100))
    assert pixels.shape == (8, 8, 3)
    assert np.abs(pixels.astype(int) - (200, 40, 90)).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_cut_off(kind):
    values = np.array([[0, 128, 129, 257, 32768], [65535, 65407, 65406, 1000, 40000]], np.uint16)
    expected = np.floor(values / 257 + 0.5).astype(np.uint8)
    assert np.array_equal(decode(saved(Image.fromarray(values), kind))[:, :, 0], expected)
    assert (expected[1, 0], expected[0, 0]) == (255, 0)


def test_whole_numbers_of_32_bits_are_read_when_they_fit_16():
    assert decode(saved(Image.fromarray(np.array([[0, 65535]], np.int32)), "TIFF")).tolist() == [[[0], [255]]]


def test_what_does_not_fit_16_bits_is_refused():
    refused(saved(Image.fromarray(np.array([[0, 65536]], np.int32)), "TIFF"), "more than 16 bits")
    refused(saved(Image.fromarray(np.array([[0, -1]], np.int32)), "TIFF"), "more than 16 bits")


def test_floating_point_pixels_are_refused():
    refused(saved(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "floating-point", "8 or 16 bits")


def turned(upright: np.ndarray, orientation: int) -> np.ndarray:
    """How a camera that writes this EXIF orientation stores an upright picture (TIFF 6.0, tag 274)."""
    return {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: np.swapaxes(a, 0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.swapaxes(a, 0, 1)[::-1, ::-1],
        8: lambda a: np.rot90(a, -1),
    }[orientation](upright).copy()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("upright", [COLOUR, GREY], ids=["colour", "grey"])
def test_a_picture_is_turned_upright(upright, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    pixels = decode(png(turned(upright, orientation), exif=exif.tobytes()))
    assert np.array_equal(pixels, upright.reshape(5, 7, -1))


def test_an_orientation_that_does_not_exist_changes_nothing():
    exif = Image.Exif()
    exif[274] = 9
    assert np.array_equal(decode(png(COLOUR, exif=exif.tobytes())), COLOUR)


def test_exif_data_that_cannot_be_read_is_said():
    with pytest.raises(DataError, match="Its EXIF data, which may say how to turn it, cannot be read: Not a TIFF file"):
        decode(png(COLOUR, exif=b"Exif\0\0garbage"))


def test_no_bytes_are_refused():
    refused(b"", "The file is empty.")


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"hello, I am a text\n" * 20, "It is text, not a picture."),
        (b"<svg/>", "It is an SVG drawing; only pixels are read."),
        (b"<!DOCTYPE html><p>", "It is an HTML page, not a picture."),
        (b"version https://git-lfs.github.com/spec/v1\n", "It is a git-LFS pointer, not the picture itself."),
        (b"\0\0\0\x18ftypheic\0\0", "It is a HEIC photo; convert it to JPEG first."),
        (b"\x89PNG\r\n\x1a\n", "The bytes are not a picture that can be read."),
        (b"\x00" * 100, "The bytes are not a picture that can be read."),
    ],
)
def test_what_is_no_picture_is_refused(raw, why):
    refused(raw, why)


def test_gif_is_refused():
    refused(saved(Image.fromarray(GREY), "GIF"), "It is a GIF; it is not among the formats that are read")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_cut_off_file_is_refused(kind, share):
    picture = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)
    raw = saved(Image.fromarray(picture), kind)
    with pytest.raises(DataError):
        decode(raw[: int(len(raw) * share)])


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_a_decompression_bomb_is_refused_fast():
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    began = time.monotonic()
    refused(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b""), "bomb")
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    "array",
    [GREY.astype(np.float32), np.zeros((2, 2, 4), np.uint8), np.zeros(4, np.uint8), np.zeros((2, 2, 2, 3), "u1")],
)
def test_an_array_that_is_no_picture_is_refused(array):
    refused(array, "received")


@pytest.mark.parametrize(
    ("image", "channels"),
    [
        (Image.fromarray(GREY), 1),
        (Image.fromarray(COLOUR), 3),
        (Image.fromarray(GREY > 9), 1),
        (Image.fromarray(GREY.astype(np.uint16)), 1),
        (Image.fromarray(COLOUR).convert("P"), 3),
        (Image.fromarray(COLOUR).convert("RGBA"), 3),
    ],
)
def test_a_header_tells_the_size_without_decoding(image, channels):
    raw = saved(image)
    assert header(raw) == (5, 7, channels)
    assert header(raw[: raw.index(b"IDAT") + 8]) == (5, 7, channels)


def test_a_broken_header_is_refused():
    with pytest.raises(DataError, match="not a picture"):
        header(b"nonsense")


# --- two decoders, one picture ----------------------------------------------------------------------------------------


def jpeg(pixels: np.ndarray, **options) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", **options)
    return out.getvalue()


def smooth(height: int, width: int, channels: int = 3) -> np.ndarray:
    small = np.random.default_rng(height + width).integers(0, 256, (height // 40 + 2, width // 40 + 2, 3), np.uint8)
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image.convert("L") if channels == 1 else image)


@pytest.fixture
def pillow_only(monkeypatch):
    pytest.importorskip("simplejpeg", reason="only Pillow is here, so there are no two decoders to compare")
    return lambda raw: _with(monkeypatch, raw)


def _with(monkeypatch, raw: bytes) -> tuple[np.ndarray, str]:
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "_simplejpeg", lambda: None)
        return decoded(raw)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "options", [{"quality": 50}, {"quality": 95, "progressive": True}], ids=["plain", "progressive"]
)
def test_simplejpeg_and_pillow_see_the_same_pixels(pillow_only, orientation, channels, options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = jpeg(smooth(61, 43, channels), exif=exif, **options)
    (fast, by), (slow, by_pillow) = decoded(raw), pillow_only(raw)
    assert (by, by_pillow) == ("simplejpeg", "pillow, a JPEG")
    assert fast.flags.c_contiguous
    assert np.array_equal(fast, slow)


@pytest.mark.parametrize("size", [(2047, 2500), (2048, 2048), (2049, 3001), (4100, 4111)])
@pytest.mark.parametrize("channels", [1, 3])
def test_large_jpegs_are_decoded_small_and_alike(pillow_only, size, channels):
    raw = jpeg(smooth(size[0], size[1], channels))
    fast, slow = decoded(raw)[0], pillow_only(raw)[0]
    assert np.array_equal(fast, slow)
    by = decoding.reduction(size[1], size[0])
    assert fast.shape == (-(-size[0] // by), -(-size[1] // by), channels)
    whole = np.asarray(Image.open(io.BytesIO(raw)).reduce(by)).reshape(fast.shape).astype(int)
    assert np.abs(whole - fast).mean() < 3


def test_what_is_not_a_plain_jpeg_is_left_to_pillow(pillow_only):
    cmyk = io.BytesIO()
    Image.fromarray(smooth(30, 30)).convert("CMYK").save(cmyk, "JPEG")
    cut = jpeg(smooth(80, 80))[:-300]
    assert decoded(cmyk.getvalue())[1] == "pillow, a JPEG"
    assert decoded(png(COLOUR))[1] == "pillow"
    for read in (decoded, pillow_only):
        with pytest.raises(DataError, match="truncated"):
            read(cut)


def test_without_simplejpeg_nothing_is_missing(monkeypatch):
    def absent(name: str):
        raise ImportError(name)

    decoding._simplejpeg.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "import_module", absent)
        assert decoded(jpeg(smooth(30, 30)))[1] == "pillow, a JPEG"
    decoding._simplejpeg.cache_clear()


def test_only_what_stands_before_the_pixels_can_turn_a_jpeg():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, plain = jpeg(smooth(20, 30), exif=exif), jpeg(smooth(20, 30))
    assert decoding._may_turn(turned)
    assert not decoding._may_turn(plain)
    assert not decoding._may_turn(plain + b"Exif\0")
    assert decoding._may_turn(plain[:2] + b"\xff\xe1\xff\xffExif\0")  # a segment that is longer than the file
    assert decode(turned).shape == (30, 20, 3)
    assert not decoding._may_turn(b"\xff\xd8")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP"])
def test_sizes_need_the_first_bytes_only_or_all_where_the_header_is_at_the_end(tmp_path, kind):
    """A picture of noise is larger than what is read at first; each format gives its size all the same."""
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    (tmp_path / "1.png").write_bytes(saved(Image.fromarray(noise), kind, quality=100, lossless=True))
    assert (tmp_path / "1.png").stat().st_size > HEAD
    asked = []

    class Counting(FileStore):
        def read(self, row: int, most: int = -1) -> bytes:
            raw = super().read(row, most)
            asked.append(len(raw))
            return raw

    keys, zero = Strings.of(["1.png"]), np.zeros(1, np.int64)
    store = Counting(str(tmp_path), keys)
    index = Index(name="x", classes=("a", "b"), keys=keys, labels=zero, parts=zero.astype(np.uint8), store=store)
    assert sizes(index).tolist() == [[200, 300, 3]]
    assert asked[0] == HEAD
    assert len(asked) == 1 or kind in ("TIFF", "WEBP")
