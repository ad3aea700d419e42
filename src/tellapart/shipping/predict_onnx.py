"""Says what is on pictures, by the model.onnx beside this file: python predict.py PICTURE ...

Needs onnxruntime, Pillow and NumPy, nothing else. Everything about the model stands in its file.
"""

import json
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageOps

FORMATS, MOST_PIXELS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP"), 89_478_485


def opened(file: str | Path | IO[bytes], channels: int) -> np.ndarray:
    """The pixels (H, W, channels) uint8 of a picture, as the model was trained to see them: upright, over white.

    Raises ValueError for what it was never shown, such as pictures that move, and what Pillow raises for broken files.
    """
    image = Image.open(file, formats=FORMATS)
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # an MPO is a photo with previews behind it
        raise ValueError(f"The file holds {frames} pictures; only still pictures are read.")
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"The picture is {image.width} x {image.height}; at most {MOST_PIXELS:,} pixels are read.")
    by = max([1, *(n for n in (2, 4, 8) if min(image.size) >= 1024 * n)])
    if image.format in ("JPEG", "MPO") and by > 1:  # a large photograph is made smaller while it is decoded
        image.draft(None, (image.width // by, image.height // by))
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits a pixel
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("The picture holds more than 16 bits a pixel. Save it with 8 or 16 bits.")
        eight = ((values + 128) // 257).astype(np.uint8)
        eight[values == image.info.get("transparency")] = 255
        image = Image.fromarray(eight)
    if image.mode == "F":
        raise ValueError("The picture holds floating-point numbers of unknown range. Save it with 8 or 16 bits.")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image.convert("RGBA"))
    if image.mode not in ("1", "L"):
        image = image.convert("RGB")
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


class Model:
    """A model in an .onnx file: `classes`, what is said of it (`about`), and its answers. Where a picture may have
    several classes, it is said to have those whose probability reaches the one of `thresholds`.
    """

    def __init__(self, file: str | Path | bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads without work rest
        given = file if isinstance(file, bytes) else str(file)
        self.session = onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
        said = self.session.get_modelmeta().custom_metadata_map
        self.about: dict[str, Any] = json.loads(said["tellapart"])
        self.classes: list[str] = self.about["classes"]
        self.thresholds: list[float] = self.about.get("thresholds", [])
        self.channels: int = self.about["preprocess"]["channels"]

    def answers(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (N, K) and logits (N, K) of pictures (N, H, W, channels) uint8 of one size."""
        probabilities, logits = self.session.run(["probabilities", "logits"], {"pictures": pixels})
        return np.asarray(probabilities), np.asarray(logits)


def main() -> int:
    """Print the three likeliest classes of each picture and, where it may have several, all that it is said to have;
    names are quoted, so that they cannot command a terminal. The exit code is 3 when one could not be read, 2 when none
    was named, 4 when the model cannot be opened.
    """
    if len(sys.argv) < 2:
        sys.stderr.write("usage: python predict.py PICTURE ...\n")
        return 2
    try:
        model, code = Model(Path(__file__).with_name("model.onnx")), 0
    except Exception as error:  # onnxruntime raises errors of its own, one kind for each reason
        sys.stderr.write(f"the model cannot be opened: {str(error).splitlines()[0]}\n")
        return 4
    for file in sys.argv[1:]:
        try:
            pixels = opened(file, model.channels)
        except Exception as error:  # Pillow's decoders raise nearly every built-in error on broken files
            why, code = str(error) or type(error).__name__, 3
            why = "The bytes are not a picture that can be read" if "cannot identify" in why else why.rstrip(".")
            sys.stdout.write(json.dumps({"file": file, "error": f"{why[0].upper()}{why[1:]}."}) + "\n")
            continue
        probabilities, logits = (one[0] for one in model.answers(pixels[None]))
        best = [int(k) for k in np.argsort(-probabilities, kind="stable")]
        known = model.about["known"]
        every = [[model.classes[k], round(float(probabilities[k]), 6)] for k in best]
        unknown = known is not None and float(logits.max()) < known
        least = model.thresholds
        more = {"said": [every[n] for n, k in enumerate(best) if float(probabilities[k]) >= least[k]]} if least else {}
        sys.stdout.write(json.dumps({"file": file, "top": every[:3], "unknown": unknown, **more}) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
