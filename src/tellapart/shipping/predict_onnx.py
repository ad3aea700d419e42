"""Says what is on pictures, by the model.onnx beside this file: python predict.py PICTURE ...

Needs onnxruntime, Pillow and NumPy, nothing else. Everything about the model stands in its file.
"""

import json
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageOps


def opened(file: str | Path | IO[bytes], channels: int) -> np.ndarray:
    """The pixels (H, W, channels) uint8 of a picture, as the model was trained to see them: upright, over white."""
    image = Image.open(file)
    by = max([1, *(n for n in (2, 4, 8) if min(image.size) >= 1024 * n)])
    if image.format in ("JPEG", "MPO") and by > 1:  # a large photograph is made smaller while it is decoded
        image.draft(None, (image.width // by, image.height // by))
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits a pixel
        image = Image.fromarray(((np.asarray(image).astype(np.int64) + 128) // 257).astype(np.uint8))
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

    def __init__(self, file: str | Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # threads without work rest
        self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        said = self.session.get_modelmeta().custom_metadata_map
        self.about: dict[str, Any] = json.loads(said["tellapart"])
        self.classes: list[str] = self.about["classes"]
        self.thresholds: list[float] = self.about.get("thresholds", [])
        self.channels: int = self.about["preprocess"]["channels"]

    def answers(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities (N, K) and logits (N, K) of pictures (N, H, W, channels) uint8 of one size."""
        probabilities, logits = self.session.run(["probabilities", "logits"], {"pictures": pixels})
        return np.asarray(probabilities), np.asarray(logits)


def main() -> None:
    """Print the three likeliest classes of each picture and, where it may have several, all that it is said to have;
    names are quoted, so that they cannot command a terminal.
    """
    model = Model(Path(__file__).with_name("model.onnx"))
    for file in sys.argv[1:]:
        probabilities, logits = (one[0] for one in model.answers(opened(file, model.channels)[None]))
        best = [int(k) for k in np.argsort(-probabilities, kind="stable")]
        known = model.about["known"]
        every = [[model.classes[k], round(float(probabilities[k]), 6)] for k in best]
        unknown = known is not None and float(logits.max()) < known
        least = model.thresholds
        more = {"said": [every[n] for n, k in enumerate(best) if float(probabilities[k]) >= least[k]]} if least else {}
        sys.stdout.write(json.dumps({"file": file, "top": every[:3], "unknown": unknown, **more}) + "\n")


if __name__ == "__main__":
    main()
