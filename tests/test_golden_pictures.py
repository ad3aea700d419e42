"""One contract: forty pictures of every kind give one hash each of what the network sees, through every entry."""

import ast
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import GOLDEN, OVERWRITE
from forty import COLOUR, FORTY, GREY, HEIGHT, LOSSY, SAME, SAME_LOSS, WIDTH, turned
from PIL import Image, features
from test_script import exported
from torch import Tensor, nn
from torchvision import transforms

from tellapart import Recipe, from_arrays, from_dataset
from tellapart.data import decode as decoding
from tellapart.data import pictures
from tellapart.data.augment import network_input
from tellapart.data.cache import Room
from tellapart.data.decode import decode
from tellapart.data.index import Index
from tellapart.data.loader import Loader
from tellapart.data.pictures import MemoryPixels, StreamedPixels, first_pass
from tellapart.data.sources import open_source
from tellapart.data.square import coloured, fitted
from tellapart.preprocess import Preprocess
from tellapart.web import reader
from tellapart.workflow import judge, predict

TO = Preprocess(size=16, channels=3, short=20, mean=(0.0,) * 3, std=(1.0,) * 3)
"""A square with a margin, so that both the cut and the resizing are seen; (0, 1) so that its bytes can be read back."""

CLASSES = {name: "grey" if n % 2 else "colour" for n, name in enumerate(FORTY)}
Hashes = dict[str, str]


def hashed(squares: dict[str, np.ndarray]) -> Hashes:
    """The hash of each square (16, 16, 3)."""
    assert {(square.shape, square.dtype) for square in squares.values()} == {((16, 16, 3), np.dtype("u1"))}
    return {name: hashlib.sha256(square.tobytes()).hexdigest()[:16] for name, square in squares.items()}


class Watching(nn.Module):
    """A network that keeps what it is shown, and answers nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append((images * 255).round().to(torch.uint8))
        return torch.zeros(len(images), 2)

    def squares(self) -> np.ndarray:
        """(N 16 16 3): all that was shown, as bytes again."""
        return torch.cat(self.seen).permute(0, 2, 3, 1).contiguous().numpy()


class Model:
    """What stands for a model file: its preprocessing and classes, and a network that watches."""

    preprocess, classes, temperature, origin, known = TO, ("colour", "grey"), 1.0, {}, None
    promises, thresholds = {}, ()

    def __init__(self) -> None:
        self.network = Watching()

    def module(self, device: torch.device) -> nn.Module:
        return self.network


def through(index: Index, **more: Any) -> Hashes:
    """Through the first pass and the loader, as the network of a training meets them."""
    made = first_pass(index, TO, skip_bad=False, **{"memory": 10**9, **more})
    network, rows = Watching(), np.arange(len(index))
    loader = Loader(pictures=made, rows=rows, batch_size=7, device=torch.device("cpu"), shuffle=True, seed=3)
    met = []
    for batch in loader.epoch(0):
        network(network_input(batch.images, TO))
        met += batch.rows.tolist()
    return hashed({names_of(index)[row]: square for row, square in zip(met, network.squares(), strict=True)})


def names_of(index: Index) -> list[str]:
    """The file name of each row: of its key, or in order where the key is a number."""
    found = [key.rsplit("/", 1)[-1] for key in index.keys]
    return found if set(found) == set(FORTY) else list(FORTY)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("forty") / "pictures"
    for name, raw in FORTY.items():
        (at / CLASSES[name]).mkdir(parents=True, exist_ok=True)
        (at / CLASSES[name] / name).write_bytes(raw)
    return at


@pytest.fixture(scope="module")
def expected(root: Path) -> Hashes:
    return through(open_source(str(root)))


# --- the ways in ------------------------------------------------------------------------------------------------------


def from_the_cache(root: Path, at: Path, patch: pytest.MonkeyPatch) -> Hashes:
    index, room = open_source(str(root)), Room(at / "cache", 10**9)
    fresh = through(index, room=room, memory=0)
    patch.setattr(pictures, "decoded", lambda raw: pytest.fail("decoded again"))
    assert isinstance(first_pass(index, TO, skip_bad=False, memory=0, room=room).pixels, MemoryPixels)
    assert through(index, room=room, memory=0) == fresh
    return fresh


def streamed(root: Path, at: Path, patch: pytest.MonkeyPatch) -> Hashes:
    assert isinstance(first_pass(open_source(str(root)), TO, skip_bad=False, memory=0).pixels, StreamedPixels)
    return through(open_source(str(root)), memory=0)


def by_threads(root: Path, at: Path, patch: pytest.MonkeyPatch) -> Hashes:
    return through(open_source(str(root)), threads=3)


def without_the_fast_decoder(root: Path, at: Path, patch: pytest.MonkeyPatch) -> Hashes:
    patch.setattr(decoding, "_simplejpeg", lambda: None)
    return through(open_source(str(root)))


def judged(root: Path, at: Path, patch: pytest.MonkeyPatch) -> Hashes:
    model, asked = Model(), Recipe.from_values({"data.source": str(root)})
    said = judge.judge_elsewhere(model, asked, run=None, device=torch.device("cpu"))  # type: ignore[arg-type]
    names = [key.rsplit("/", 1)[-1] for key in said.predictions.keys]
    return hashed(dict(zip(names, model.network.squares(), strict=True)))


def predicted(root: Path, at: Path, patch: pytest.MonkeyPatch) -> Hashes:
    model, paths = Model(), predict.files_of([str(root)])
    said = list(predict.Classifier(model).each(paths))  # type: ignore[arg-type]
    assert [guess.error for guess in said] == [""] * len(FORTY)
    return hashed(dict(zip([path.name for path in paths], model.network.squares(), strict=True)))


def opened_by_pillow(root: Path, at: Path, patch: pytest.MonkeyPatch) -> Hashes:
    pairs = [(Image.open(io.BytesIO(raw)), n % 2) for n, raw in enumerate(FORTY.values())]
    return through(from_dataset(pairs))


def in_arrays(root: Path, at: Path, patch: pytest.MonkeyPatch) -> Hashes:
    arrays = [decode(raw) for raw in FORTY.values()]
    found = through(from_arrays(arrays, [n % 2 for n in range(len(arrays))]))
    bgr = [coloured(array, 3)[:, :, ::-1].transpose(2, 0, 1) for array in arrays]
    assert through(from_arrays(bgr, [n % 2 for n in range(len(arrays))], layout="CHW", bgr=True)) == found
    return found


def in_a_shard(root: Path, at: Path, patch: pytest.MonkeyPatch) -> Hashes:
    with tarfile.open(at / "forty.tar", "w") as archive:
        for name, raw in FORTY.items():
            info = tarfile.TarInfo(f"{CLASSES[name]}/{name}")
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    return through(open_source(str(at / "forty.tar")))


def in_a_table(root: Path, at: Path, patch: pytest.MonkeyPatch) -> Hashes:
    lines = ["path,label", *(f"{CLASSES[name]}/{name},{CLASSES[name]}" for name in FORTY)]
    (root / "table.csv").write_text("\n".join(lines))
    try:
        return through(open_source(str(root / "table.csv")))
    finally:
        (root / "table.csv").unlink()


def in_parquet(root: Path, at: Path, patch: pytest.MonkeyPatch) -> Hashes:
    arrow = pytest.importorskip("pyarrow", reason="Parquet is read with pyarrow: pip install 'tellapart[parquet]'")
    cells = [{"bytes": raw, "path": None} for raw in FORTY.values()]
    table = arrow.table({"image": cells, "label": [CLASSES[name] for name in FORTY]})
    pytest.importorskip("pyarrow.parquet").write_table(table, at / "forty.parquet", row_group_size=9)
    return through(open_source(str(at / "forty.parquet")))


def in_hugging_face(root: Path, at: Path, patch: pytest.MonkeyPatch) -> Hashes:
    datasets = pytest.importorskip("datasets", reason="Hugging Face sets are read with datasets")
    cells = [{"bytes": raw, "path": None} for raw in FORTY.values()]
    names = datasets.ClassLabel(names=["colour", "grey"])
    kinds = datasets.Features({"image": datasets.Image(), "label": names})
    labels = [names.str2int(CLASSES[name]) for name in FORTY]
    datasets.Dataset.from_dict({"image": cells, "label": labels}, kinds).save_to_disk(str(at / "forty"))
    return through(open_source(f"hf:{at / 'forty'}"))


def served(root: Path, at: Path, patch: pytest.MonkeyPatch) -> Hashes:
    """What the child of a server gives back, as the server makes its square of it."""
    squares = {}
    for name, raw in FORTY.items():
        kind, head, pixels = reader.answer(raw, reader.MOST)
        height, width, channels, *_ = reader.SIZE.unpack(head)
        assert kind == b"+"
        squares[name] = fitted(np.frombuffer(pixels, np.uint8).reshape(height, width, channels).copy(), TO)
    return hashed(squares)


def in_the_script(root: Path, at: Path, patch: pytest.MonkeyPatch) -> Hashes:
    """The `square` of an exported script, which needs no tellapart."""
    body = ast.parse(exported(preprocess=TO)).body
    own = [node for node in body if isinstance(node, ast.FunctionDef) and node.name in ("resized", "square")]
    known: dict[str, Any] = {"nn": nn, "SIZE": TO.size}
    exec(ast.unparse(ast.Module([*own], [])), known)
    as_tensor = transforms.PILToTensor()
    images = {name: Image.fromarray(coloured(decode(raw), 3)) for name, raw in FORTY.items()}
    squares = {name: known["square"](as_tensor(image)) for name, image in images.items()}
    return hashed({name: square.permute(1, 2, 0).contiguous().numpy() for name, square in squares.items()})


WAYS: dict[str, Callable[[Path, Path, pytest.MonkeyPatch], Hashes]] = {
    "written to the cache and read from it": from_the_cache,
    "decoded each time": streamed,
    "decoded by threads": by_threads,
    "decoded by Pillow alone": without_the_fast_decoder,
    "judged elsewhere": judged,
    "predicted": predicted,
    "opened by Pillow": opened_by_pillow,
    "arrays": in_arrays,
    "a tar shard": in_a_shard,
    "a table": in_a_table,
    "Parquet": in_parquet,
    "Hugging Face": in_hugging_face,
    "served": served,
    "the exported script": in_the_script,
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_in_shows_the_network_the_same(
    way: str, root: Path, expected: Hashes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = WAYS[way](root, tmp_path, monkeypatch)
    assert {name for name in FORTY if found.get(name) != expected[name]} == set()


# --- against what is known --------------------------------------------------------------------------------------------


def test_there_are_forty_and_containers_do_not_count(expected: Hashes) -> None:
    assert (len(FORTY), len(expected)) == (40, 40)
    for same in (*SAME, SAME_LOSS):
        assert len({expected[name] for name in same}) == 1
    assert len(set(expected.values())) == 40 - sum(len(same) - 1 for same in (*SAME, SAME_LOSS))
    assert np.array_equal(decode(FORTY["rgb.png"]), COLOUR)
    assert np.array_equal(decode(FORTY["8-bit.png"])[:, :, 0], GREY)
    assert decode(FORTY["large.jpg"]).shape == (1025, 1450, 3)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_each_orientation_is_undone(orientation: int) -> None:
    stored = np.asarray(Image.open(io.BytesIO(FORTY[f"turned-{orientation}.jpg"])))
    assert np.array_equal(turned(decode(FORTY[f"turned-{orientation}.jpg"]), orientation), stored)


def test_the_hashes_are_the_recorded_ones(expected: Hashes) -> None:
    """OVERWRITE=1 records them anew. Lossy ones are compared only with the libraries they were recorded with."""
    libraries = {name: features.version(name) for name in ("pil", "libjpeg_turbo", "webp")}
    here = {**libraries, "simplejpeg": metadata.version("simplejpeg")}
    kept = {
        "lossless": {name: expected[name] for name in FORTY if name not in LOSSY},
        "lossy": {name: expected[name] for name in FORTY if name in LOSSY},
    }
    if OVERWRITE:
        (GOLDEN / "pictures.json").write_text(json.dumps({"build": here, **kept}, indent=1) + "\n")
    recorded = json.loads((GOLDEN / "pictures.json").read_text())
    assert kept["lossless"] == recorded["lossless"]
    assert recorded["build"] != here or kept["lossy"] == recorded["lossy"]


def test_the_square_is_the_middle_resized() -> None:
    """An oracle of its own: red grows evenly to the right and green downwards, and resizing keeps their places."""
    square = fitted(COLOUR, TO)
    lengths = (np.arange(16) + 2.5) * HEIGHT / 20 - 0.5  # of the window of 16 in 20, in stored pixels
    assert np.abs(square[..., 0] - 6 * (lengths + (WIDTH - HEIGHT) / 2)).max() <= 1
    assert np.abs(square[..., 1] - 9 * lengths[:, None]).max() <= 1
