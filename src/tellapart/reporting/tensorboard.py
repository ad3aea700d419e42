"""Write a run's TensorBoard event file: every panel but the projector.

It rests on tensorboard's own record writer and protobufs: slightly quicker to import than torch.utils.tensorboard, free
of torch, and without a thread of its own, so that a full disk is an error here and not a traceback from elsewhere.
"""

import importlib.util
import os
import socket
import time
from collections.abc import Mapping
from importlib import import_module
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias, final

import numpy as np
from PIL import Image, ImageDraw

from tellapart.figures.letters import cut, font_for, length, write
from tellapart.files import writable

GraphDef: TypeAlias = Any  # of tensorboard.compat.proto.graph_pb2: protobuf makes its classes at run time

_SMALLEST = 64  # px; TensorBoard shows pictures at their own size, and a 28 px digit with a caption is unreadable
_BINS = 60  # of a histogram
_CAPTION = 13  # px, height of the letters
_LONGEST = 48  # letters of a class name that fit under a picture


def open_board(folder: Path, after: Path | None = None) -> "Board | None":
    """A `Board` on `folder`, or None when tensorboard is not installed (say so, and train on)."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    return Board(folder, after)


@final
class Board:
    """One event file in `folder`; a context manager. `flush` and `close` may be called any number of times.

    Args:
        folder: made when missing; TensorBoard takes each folder with an event file for one run.
        after: an event file in it, now closed, that is gone on with; a new one when None.

    >>> import tempfile
    >>> with Board(Path(tempfile.mkdtemp())) as board:
    ...     board.scalars(0, {"train/loss": 2.3, "train/rate": 0.1})
    """

    def __init__(self, folder: Path, after: Path | None = None) -> None:
        record_writer = import_module("tensorboard.summary.writer.record_writer")
        self._event: Any = import_module("tensorboard.compat.proto.event_pb2").Event
        self._summary: Any = import_module("tensorboard.compat.proto.summary_pb2")
        self._folder = folder
        self._described: set[str] = set()
        self._has_graph = False
        self._closed = False
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"  # TensorBoard looks for it
        with writable(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (after or folder / name).open("ab" if after else "wb")
        self._records = record_writer.RecordWriter(self._file)
        if after is None:
            self._write(self._event(file_version="brain.Event:2"))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """One point per tag at `step`; kept as float32. NaN and infinity are kept too, TensorBoard marks them."""
        points = [self._value(tag, plugin="scalars", content={"simple_value": float(y)}) for tag, y in values.items()]
        self._values(step, points)

    def histograms(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """The distribution of the numbers under each tag; those that are not finite are left out of it."""
        made = []
        for tag, numbers in values.items():
            flat = numbers[np.isfinite(numbers)].astype(np.float64)
            counts, edges = np.histogram(flat, bins=_BINS)
            sums = {"num": flat.size, "sum": flat.sum(), "sum_squares": np.square(flat).sum()}
            bars = {"min": edges[0], "max": edges[-1], "bucket_limit": edges[1:], "bucket": counts}
            made.append(
                self._value(tag, plugin="histograms", content={"histo": self._summary.HistogramProto(**sums, **bars)})
            )
        self._values(step, made)

    def pictures(self, tag: str, images: np.ndarray, names: list[str], *, step: int = 0) -> None:
        """One captioned picture per step, so that a slider leafs through them: picture i is at `step + i`.

        Args:
            tag: the heading they share.
            images: uint8 N H W C with C = 1, 3 or 4; small ones are enlarged without smoothing to 64 px or more.
            names: N class names, drawn below; Chinese and the like need such a font on this machine.
            step: that of the first picture.

        Raises:
            ValueError: other than four dimensions, or not as many names as pictures.
        """
        if images.ndim != 4 or len(images) != len(names):
            raise ValueError(f"pictures '{tag}' need N H W C and N names, got {images.shape} and {len(names)} names")
        for i, (pixels, name) in enumerate(zip(images, names, strict=True)):
            self._picture(tag, _captioned(_picture(pixels), name), step=step + i)

    def image(self, tag: str, picture_array_hwc_uint8: np.ndarray, step: int) -> None:
        """One picture as it is: uint8 H W C with C = 1 (grey), 3 (RGB) or 4 (RGBA); ValueError for any other."""
        self._picture(tag, _picture(picture_array_hwc_uint8), step=step)

    def text(self, tag: str, markdown: str, *, step: int = 0) -> None:
        """A page of markdown."""
        page = self._tensor("DT_STRING", string_val=[markdown.encode("utf-8", "replace")])
        self._values(step, [self._value(tag, plugin="text", content={"tensor": page})])

    def pr_curve(self, step: int, tag: str, table: np.ndarray, *, about: str) -> None:
        """A precision-recall curve: the table (6 T) of `at_thresholds`, at T evenly spaced thresholds from 0 to 1.

        `about` is markdown, shown beside the curve.
        """
        rows, number = table.shape
        shape = {"dim": [{"size": rows}, {"size": number}]}
        drawn = self._tensor("DT_FLOAT", tensor_shape=shape, tensor_content=table.astype("<f4").tobytes())
        made = import_module("tensorboard.plugins.pr_curve.plugin_data_pb2").PrCurvePluginData
        data = made(num_thresholds=number).SerializeToString()
        self._values(step, [self._value(tag, plugin="pr_curves", content={"tensor": drawn}, data=data, about=about)])

    def began(self, settings: Mapping[str, bool | float | str]) -> None:
        """The settings of this training for the panel HParams, which takes every scalar of its folder for a result."""
        made = import_module("tensorboard.plugins.hparams.plugin_data_pb2").SessionStartInfo
        session = made(start_time_secs=time.time())
        for name, value in settings.items():
            kind = "bool" if isinstance(value, bool) else "string" if isinstance(value, str) else "number"
            setattr(session.hparams[name], f"{kind}_value", value)
        self._hparams("session_start_info", session)

    def ended(self) -> None:
        """The training came to its end, as the panel HParams shows it."""
        status = import_module("tensorboard.plugins.hparams.api_pb2").STATUS_SUCCESS
        made = import_module("tensorboard.plugins.hparams.plugin_data_pb2").SessionEndInfo
        self._hparams("session_end_info", made(status=status, end_time_secs=time.time()))

    def graph(self, graph_def: GraphDef) -> None:
        """The model graph of `trace_graph`, once: TensorBoard shows only a run's last and warns of the others."""
        if self._has_graph:
            raise ValueError(f"board {self._folder} has its graph; a run has one")
        self._write(self._event(graph_def=graph_def.SerializeToString()))
        self._has_graph = True

    def flush(self) -> None:
        """Everything so far is in the file on return; nothing happens on a closed board."""
        if not self._closed:
            with writable(self._folder):
                self._file.flush()

    def close(self) -> None:
        """Flush and close the file; nothing happens on a closed board."""
        if not self._closed:
            self._closed = True
            with writable(self._folder):
                self._file.close()

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _picture(self, tag: str, picture: Image.Image, *, step: int) -> None:
        png = BytesIO()
        picture.save(png, format="PNG")
        kept = self._summary.Summary.Image(
            height=picture.height,
            width=picture.width,
            colorspace=len(picture.getbands()),
            encoded_image_string=png.getvalue(),
        )
        self._values(step, [self._value(tag, plugin="images", content={"image": kept})])

    def _hparams(self, name: str, session: Any) -> None:
        made = import_module("tensorboard.plugins.hparams.plugin_data_pb2").HParamsPluginData
        nothing = self._tensor("DT_FLOAT", tensor_shape={"dim": [{"size": 0}]})
        data = made(**{name: session}).SerializeToString()
        self._values(0, [self._value(f"_hparams_/{name}", plugin="hparams", content={"tensor": nothing}, data=data)])

    def _tensor(self, kind: str, **content: Any) -> Any:
        types = import_module("tensorboard.compat.proto.types_pb2")
        made = import_module("tensorboard.compat.proto.tensor_pb2").TensorProto
        return made(dtype=getattr(types, kind), **content)

    def _value(self, tag: str, *, plugin: str, content: dict[str, Any], data: bytes = b"", about: str = "") -> Any:
        """A summary value; its metadata (which plugin shows it) goes with a tag's first one, where readers look."""
        if tag in self._described:
            return self._summary.Summary.Value(tag=tag, **content)
        self._described.add(tag)
        metadata = self._summary.SummaryMetadata(summary_description=about)
        metadata.plugin_data.plugin_name, metadata.plugin_data.content = plugin, data
        return self._summary.Summary.Value(tag=tag, metadata=metadata, **content)

    def _write(self, event: Any) -> None:
        if self._closed:
            raise ValueError(f"board {self._folder} is closed; open another one to write more")
        event.wall_time = time.time()
        with writable(self._folder):
            self._records.write(event.SerializeToString())
            self._file.flush()

    def _values(self, step: int, values: list[Any]) -> None:
        self._write(self._event(step=step, summary=self._summary.Summary(value=values)))


def _picture(pixels: np.ndarray) -> Image.Image:
    """uint8 H W C as a PIL picture; other types are refused, for guessing their range would repaint them."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        raise ValueError(f"a picture is uint8 H W C with C = 1, 3 or 4, got {pixels.dtype} {pixels.shape}")
    return Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))


def _captioned(picture: Image.Image, name: str) -> Image.Image:
    """The picture, enlarged by a whole factor, above its name; the canvas is as wide as the wider of the two."""
    factor = max(1, -(-_SMALLEST // min(picture.size)))
    large = picture.convert("RGB").resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    name = cut(name, len, _LONGEST)
    font = font_for(name, _CAPTION)
    canvas = Image.new("RGB", (max(large.width, round(length(name, font)) + 8), large.height + _CAPTION + 9), "white")
    canvas.paste(large, ((canvas.width - large.width) // 2, 0))
    write(ImageDraw.Draw(canvas), (canvas.width / 2, large.height + 3), name, fill="black", font=font, anchor="ma")
    return canvas
