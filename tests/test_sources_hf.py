"""Hugging Face data sets as sources: real ones, made here with the library and saved to a folder."""

import http.server
import io
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from commands import process
from pictures import draw, make_folder
from PIL import Image

from tellapart.data.decode import decode
from tellapart.data.index import NO_PART
from tellapart.data.pictures import first_pass
from tellapart.data.sources import open_source
from tellapart.data.sources.huggingface import huggingface
from tellapart.data.sources.labels import Labels
from tellapart.errors import DataError, StorageError, UsageError
from tellapart.preprocess import Preprocess

N = 10
PIXELS = [draw(n % 2, 2, (n,), 8) for n in range(N)]


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def datasets(monkeypatch, tmp_path_factory) -> Any:
    """The library, with its cache in a folder of the test and no way to the net."""
    library = pytest.importorskip("datasets", reason="pip install 'tellapart[huggingface]'")
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", str(cache))
    monkeypatch.setattr(library.config, "HF_DATASETS_OFFLINE", True, raising=False)
    monkeypatch.setattr(library.config, "HF_HUB_OFFLINE", True, raising=False)
    library.disable_progress_bars()
    return library


def made(datasets: Any, *, names: tuple[str, ...] | None = ("zebra", "ant"), rows: int = N, **more: list) -> Any:
    """`rows` pictures as bytes; labels are numbers with `names`, or texts when there are none."""
    kind = datasets.ClassLabel(names=list(names)) if names else datasets.Value("string")
    labels = [n % 2 if names else "ba"[n % 2] for n in range(rows)]
    columns = {"img": [{"bytes": png(PIXELS[n]), "path": None} for n in range(rows)], "label": labels}
    features = {"img": datasets.Image(), "label": kind}
    features |= {name: datasets.Value("string") for name in more}
    return datasets.Dataset.from_dict({**columns, **more}, features=datasets.Features(features))


def saved(data: Any, path: Path) -> str:
    data.save_to_disk(str(path))
    return str(path)


def test_a_saved_data_set_is_known_without_its_prefix(datasets, tmp_path):
    alone, parts = tmp_path / "pets", tmp_path / "parts"
    for path, data in ((alone, made(datasets)), (parts, datasets.DatasetDict(train=made(datasets)))):
        index = open_source(saved(data, path))
        assert list(index.keys) == list(open_source(f"hf:{path}").keys)
        assert index.said[0].startswith("Hugging Face")
    with pytest.raises(UsageError):
        open_source(str(alone), labels=Labels(pattern="(?P<label>.)"))


def test_a_saved_data_set(datasets, tmp_path):
    index = huggingface("hf:" + saved(made(datasets), tmp_path / "pets"))
    assert (index.name, index.classes) == ("pets", ("zebra", "ant"))
    assert index.labels.tolist() == [n % 2 for n in range(N)]
    assert index.keys[3] == "rows/000003"
    assert (index.parts == NO_PART).all()
    assert index.said[0].endswith("pets: pictures from 'img', label from 'label'.")
    assert (index.groups, index.ignored) == (None, ())
    for row in (9, 0, 4):
        assert index.store.read(row) == png(PIXELS[row])
        assert (decode(index.store.read(row)) == PIXELS[row]).all()
    pictures = first_pass(index, Preprocess(size=8, channels=3), skip_bad=False, memory=1 << 20, threads=4)
    assert (pictures.pixels.gather(np.arange(N)) == np.stack(PIXELS)).all()


def test_splits_are_parts_and_texts_are_classes(datasets, tmp_path):
    whole = made(datasets, names=None, patient=[str(n // 2) for n in range(N)])
    extra = made(datasets, names=None, patient=[str(n) for n in range(N)]).select([0, 1, 2])
    splits = {"train": whole, "validation": whole.select([3, 2]), "test": whole.select([5]), "extra": extra}
    index = huggingface(saved(datasets.DatasetDict(splits), tmp_path / "pets"))
    assert index.classes == ("a", "b")
    assert index.parts.tolist() == [0] * 10 + [1] * 2 + [2]
    assert index.keys[9:12] == ["train/000009", "validation/000000", "validation/000001"]
    assert index.store.read(10) == png(PIXELS[3])  # through the choice of rows
    assert index.labels.tolist()[9:] == [0, 0, 1, 0]
    assert index.groups is not None
    assert index.groups.tolist()[:4] == [0, 0, 1, 1]
    assert [(one.key, one.reason) for one in index.ignored] == [
        ("extra/", "a split of 3 rows that is not called as a part")
    ]


def test_a_split_without_labels_is_left_out_and_named(datasets, tmp_path):
    whole, hidden = made(datasets), made(datasets).remove_columns("label").add_column("label", [-1] * N)
    splits = datasets.DatasetDict({"train": whole, "test": hidden.cast(whole.features)})
    index = huggingface(saved(splits, tmp_path / "pets"))
    assert (len(index), (index.parts == NO_PART).all()) == (N, True)
    assert [(one.key, one.reason) for one in index.ignored] == [("test/", "a split of 10 rows without labels")]
    half = made(datasets).remove_columns("label").add_column("label", [-1, 0] * 5).cast(whole.features)
    with pytest.raises(DataError, match=r"rows/000000 \(and 4 more\): '-1' is none of the class numbers 0 to 1"):
        huggingface(saved(half, tmp_path / "half"))


def test_a_folder_of_pictures_and_one_of_parquet_files(datasets, tmp_path):
    make_folder(tmp_path / "pets", per_class=3, parts=("train", "test"))
    index = huggingface(str(tmp_path / "pets"))
    assert index.classes == ("cat", "dog", "fox")
    assert index.parts.tolist() == [0] * 9 + [2] * 9
    files = [path.read_bytes() for path in (tmp_path / "pets").rglob("*.png")]
    assert sorted(bytes(index.store.read(row)) for row in range(18)) == sorted(files)
    (tmp_path / "pq").mkdir()
    made(datasets).to_parquet(tmp_path / "pq" / "train-00000-of-00001.parquet")
    index = huggingface(str(tmp_path / "pq"))
    assert (index.classes, index.store.read(7)) == (("zebra", "ant"), png(PIXELS[7]))


def test_what_is_no_classification_of_pictures(datasets, tmp_path):
    with pytest.raises(DataError, match=r"no columns of pictures among label"):
        huggingface(saved(made(datasets).remove_columns("img"), tmp_path / "a"))
    with pytest.raises(DataError, match=r"No column of .* can be told to be the label. Its columns are: none."):
        huggingface(saved(made(datasets).remove_columns("label"), tmp_path / "b"))
    two = made(datasets).add_column("coarse", [0] * N).cast_column("coarse", datasets.ClassLabel(names=["x"]))
    two = two.rename_column("label", "fine")
    with pytest.raises(DataError, match=r"Its columns are: 'fine', 'coarse'\."):
        huggingface(saved(two, tmp_path / "c"))
    assert huggingface(str(tmp_path / "c"), {"label": "fine"}).classes == ("zebra", "ant")
    with pytest.raises(UsageError, match="Did you mean 'fine'"):
        huggingface(str(tmp_path / "c"), {"label": "fin"})
    with pytest.raises(DataError, match="no labelled split called train"):
        huggingface(saved(datasets.DatasetDict({"all": made(datasets)}), tmp_path / "d"))


def test_rows_without_a_picture(datasets, tmp_path):
    make_folder(tmp_path / "pets", per_class=2)
    index = huggingface(str(tmp_path / "pets"))
    (tmp_path / "pets" / "cat" / "00.png").unlink()
    with pytest.raises(StorageError, match=r"00.png cannot be read"):
        [index.store.read(row) for row in range(len(index))]
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    data = datasets.Dataset.from_dict({"img": [None, None], "label": [0, 1]}, features=features)
    with pytest.raises(DataError, match="holds no picture"):
        huggingface(saved(data, tmp_path / "none")).store.read(1)


def test_names_that_cannot_be_opened_end_in_a_sentence(datasets, tmp_path):
    with pytest.raises(DataError, match=r"There is no folder .*nowhere"):
        huggingface(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"The Hugging Face data set some/name:config cannot be opened: .*connection"):
        huggingface("hf:some/name:config")
    for name in ("hf:", "hf: ", "hf::config"):
        with pytest.raises(DataError, match=r"hf: is without the name of a data set\. For example"):
            huggingface(name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"cannot be opened: "):
        huggingface(str(tmp_path / "empty"))


def test_a_folder_with_code_runs_none_of_it(datasets, tmp_path):
    """Law 7: a script beside the data, as data sets once had, is not run."""
    make_folder(tmp_path / "pets", per_class=2)
    (tmp_path / "pets" / "pets.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(DataError, match="cannot be opened"):
        huggingface(str(tmp_path / "pets"))
    assert not (tmp_path / "ran").exists()


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"not installed. .*tellapart\[huggingface\]"):
        huggingface("mnist")


# --- from a Hub on this machine -------------------------------------------------------------------------------------


class Hub(http.server.BaseHTTPRequestHandler):
    """What the Hub answers about the data set me/pets, which holds `FILES`; there is no other."""

    FILES: ClassVar[dict[str, bytes]] = {}
    HOME, COMMIT = "/api/datasets/me/pets", "0" * 39 + "1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        about = {"id": "me/pets", "sha": self.COMMIT, "siblings": [{"rfilename": name} for name in self.FILES]}
        tree = [{"type": "file", "path": name, "size": len(raw), "oid": "a" * 40} for name, raw in self.FILES.items()]
        if path.startswith(self.HOME):
            self.answer(200, json.dumps(tree if path.startswith(self.HOME + "/tree") else about).encode())
        elif path.startswith("/datasets/me/pets/resolve/") and (name := path.split("/")[-1]) in self.FILES:
            self.answer(200, self.FILES[name], ETag=f'"{name}"', X_Repo_Commit=self.COMMIT)
        else:
            self.answer(404, b"{}", X_Error_Code="EntryNotFound" if "me/pets" in path else "RepoNotFound")

    do_HEAD = do_GET

    def answer(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content_Length": str(len(body))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *words: object) -> None:
        pass


ASKING = """
import sys
from tellapart.data.sources.huggingface import huggingface
from tellapart.errors import DataError
for name in sys.stdin:
    try:
        found = huggingface(name.strip())
        print(len(found), *found.classes, len(found.store.read(3)), flush=True)
    except DataError as error:
        print(error.message, flush=True)
"""


def test_a_data_set_of_the_hub_by_name_and_what_is_said_when_it_does_not_answer(datasets, tmp_path):
    """In a process of its own: the library reads the Hub's address when it is imported."""
    made(datasets).to_parquet(tmp_path / "train-00000-of-00001.parquet")
    Hub.FILES = {"train-00000-of-00001.parquet": (tmp_path / "train-00000-of-00001.parquet").read_bytes()}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        _, environment = process()
        environment |= {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
        environment |= {"HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
        words, pipe = [sys.executable, "-c", ASKING], subprocess.PIPE
        with subprocess.Popen(words, env=environment, stdin=pipe, stdout=pipe, cwd=tmp_path, text=True) as child:
            asks, answers = child.stdin, child.stdout
            assert asks
            assert answers

            def said(name: str) -> str:
                asks.write(f"{name}\n")
                asks.flush()
                return answers.readline()

            whole = f"10 zebra ant {len(png(PIXELS[3]))}\n"
            assert said("hf:me/pets") == whole
            assert "me/none cannot be opened: Dataset 'me/none' doesn't exist on the Hub" in said("hf:me/none")
            server.shutdown()
            server.socket.close()
            began = time.monotonic()
            assert "me/none cannot be opened: Couldn't reach 'me/none' on the Hub" in said("hf:me/none")
            assert said("hf:me/pets") == whole, "what was fetched before is opened without the Hub"
            assert time.monotonic() - began < 12, "it took 25 s for each before"
            asks.close()


def test_lists_of_classes_are_several_of_a_picture(datasets: Any, tmp_path: Path) -> None:
    cells = [[0, 1], [], [1]]
    columns = {"img": [{"bytes": png(PIXELS[n]), "path": None} for n in range(3)], "labels": cells}
    kinds = datasets.Sequence(datasets.ClassLabel(names=["zebra", "ant"]))
    data = datasets.Dataset.from_dict(columns, features=datasets.Features({"img": datasets.Image(), "labels": kinds}))
    index = huggingface(saved(data, tmp_path / "d"), several=";")
    assert [index.called(row) for row in range(3)] == ["zebra + ant", "none of the classes", "ant"]
    with pytest.raises(DataError, match="the label is a list"):
        huggingface(str(tmp_path / "d"))
