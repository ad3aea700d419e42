"""The small pictures of a page: each is in it once, however often it is shown."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tellapart.evaluation.predictions import Predictions
from tellapart.figures.inert import inert, short

SMALL, QUALITY = 32, 80
"""Pictures up to this side keep every dot, as PNG; larger ones are JPEG of this quality."""


class Album:
    """Remembers which pictures of some predictions are shown."""

    def __init__(self, predictions: Predictions) -> None:
        self.predictions = predictions
        self.rows: dict[int, None] = {}

    def __bool__(self) -> bool:
        return self.predictions.thumbnails is not None

    def figure(self, row: int, caption: str) -> str:
        """One picture with a caption (HTML) and its key below; without small copies the words alone."""
        key = str(self.predictions.keys[row])
        words = f'<figcaption>{caption}<small><bdi title="{inert(short(key))}">{inert(end(key))}</bdi></small>'
        if not self:
            return f"<figure>{words}</figcaption></figure>"
        self.rows[row] = None
        shot = f'<svg class="shot" viewBox="0 0 1 1" role="img" aria-label="{inert(end(key))}"><use href="#p{row}"/>'
        return f"<figure>{shot}</svg>{words}</figcaption></figure>"

    def pictures(self) -> str:
        """Every picture that is shown, once, where nothing is seen of it; the figures point here."""
        small = self.predictions.thumbnails
        every = () if small is None else ((row, address(small[row])) for row in self.rows)
        drawn = "".join(f'<image id="p{row}" width="1" height="1" href="{address}"/>' for row, address in every)
        return f'<svg class="album" width="0" height="0" aria-hidden="true"><defs>{drawn}</defs></svg>'


def address(pixels: NDArray[np.uint8]) -> str:
    """A picture (T T C) as a data address."""
    grey = pixels.shape[2] == 1
    image = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if grey else pixels))
    image = image if grey else image.convert("RGB")
    out, small = io.BytesIO(), max(image.size) <= SMALL
    image.save(out, "PNG") if small else image.save(out, "JPEG", quality=QUALITY)
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(out.getvalue()).decode()}"


def end(key: str) -> str:
    """The end of a path, which tells pictures apart."""
    return key if len(key) <= 40 else "…" + key[-39:]
