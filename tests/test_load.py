"""tellapart.load: one model, asked from Python about pictures of every kind, by several threads."""

import json
import pickle
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from commands import Done, tellapart, train
from pictures import make_folder
from PIL import Image

import tellapart as api
from tellapart.errors import DataError, StorageError, UsageError


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Done:
    at = tmp_path_factory.mktemp("pets")
    make_folder(at / "pets")
    return train(at, "a", "pets", "--epochs", "8", "--batch-size", "8")


def test_a_picture_of_every_kind_gets_the_answer_of_the_command(pets: Done) -> None:
    model = api.load("a", runs=pets.at / "runs")
    assert model.classes == ("cat", "dog", "fox")
    path = pets.at / "pets/fox/03.png"
    told = json.loads(tellapart(pets.at, "predict", "a", "pets/fox/03.png", "--json").out)["predictions"][0]
    image = Image.open(path)
    pixels = np.asarray(image)
    kinds = [str(path), path, path.read_bytes(), image, pixels, torch.tensor(pixels).permute(2, 0, 1)]
    for kind in kinds:
        guess = model.predict(kind)
        assert [(name, number) for name, number, _ in guess.top] == [(t["class"], t["index"]) for t in told["top"]]
        assert [share for *_, share in guess.top] == pytest.approx([t["probability"] for t in told["top"]], abs=1e-6)
    assert [guess.top[0][0] for guess in model.each(kinds, top_k=1)] == ["fox"] * len(kinds)
    grey = Image.fromarray(pixels[:, :, 0])
    assert model.predict(grey).top == model.predict(pixels[:, :, 0]).top


def test_a_model_is_loaded_by_its_file_too(pets: Done) -> None:
    by_file = api.load(pets.run("a").bundle)
    assert by_file.predict(pets.at / "pets/cat/00.png").top[0][0] == "cat"


def test_what_cannot_be_read_has_an_error_and_others_their_answers(pets: Done, tmp_path: Path) -> None:
    model, broken = api.load(pets.run("a").bundle), tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    found = list(model.each([broken, pets.at / "pets/cat/00.png", tmp_path / "absent.png", b""]))
    assert [bool(one.error) for one in found] == [True, False, True, True]
    assert found[0].error == "The bytes are not a picture that can be read."
    assert found[2].error == "There is no such file."


class Camera:
    """What cv2.VideoCapture gives, here of three frames in the order BGR: whether there is one, and it."""

    def __init__(self, _: int) -> None:
        self.left = [np.full((20, 30, 3), (0, 0, 100 + n), np.uint8) for n in range(3)]

    def read(self) -> tuple[bool, np.ndarray | None]:
        return (True, self.left.pop(0)) if self.left else (False, None)


def test_the_guide_judges_the_frames_of_a_camera(
    pets: Done, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    guide = (Path(__file__).parents[1] / "docs" / "predict.md").read_text(encoding="utf-8")
    code = next(part.partition("```")[0] for part in guide.split("```python\n") if part.startswith("import cv2"))
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(VideoCapture=Camera))
    model = api.load(pets.run("a").bundle)
    exec(code, {"model": model})
    alike = list(model.each([np.full((20, 30, 3), (100 + n, 0, 0), np.uint8) for n in range(3)]))
    assert capsys.readouterr().out.splitlines() == [str(guess.top[0]) for guess in alike]


def test_a_path_alone_is_one_picture(pets: Done) -> None:
    model, path = api.load(pets.run("a").bundle), pets.at / "pets/cat/00.png"
    with Image.open(path) as image:
        for one in (path, str(path), path.read_bytes(), image):
            assert [guess.top for guess in model.each(one)] == [model.predict(path).top]


def test_an_opened_image_is_refused_where_its_file_is(pets: Done, tmp_path: Path) -> None:
    model, frames = api.load(pets.run("a").bundle), [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for name, why in (("still.gif", "GIF"), ("moving.png", "holds 2 pictures")):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with Image.open(tmp_path / name) as image:
            by_path, by_image = model.each([tmp_path / name, image])
        assert why in by_path.error
        assert why in by_image.error
    frames[0].save(tmp_path / "still.mpo", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "still.mpo") as image, Image.open(tmp_path / "still.gif") as other:
        assert all(model.predict(one).top for one in (image, other.convert("RGB")))


@pytest.mark.parametrize(
    ("wrong", "kind", "said"),
    [
        (np.zeros((4, 4, 3), np.float32), DataError, "Pixels must be uint8"),
        (np.zeros((4, 4, 2), np.uint8), DataError, "received \\(4, 4, 2\\)"),
        (torch.zeros(3, 4, 4), TypeError, r"float32 of the shape \(3, 4, 4\).*\(255 \* x\)\.round\(\)\.to\("),
        (torch.zeros(4, 4, dtype=torch.uint8), TypeError, r"uint8 of the shape \(4, 4\)\.$"),
        (torch.zeros(40, 50, 3, dtype=torch.uint8), TypeError, "uint8 of the shape \\(40, 50, 3\\)"),
        (torch.zeros(3, 0, 5, dtype=torch.uint8), TypeError, "uint8 of the shape \\(3, 0, 5\\)"),
        (7, TypeError, "received int"),
    ],
)
def test_what_is_no_picture_is_a_mistake_of_the_program(pets: Done, wrong: object, kind: type, said: str) -> None:
    with pytest.raises(kind, match=said):
        api.load(pets.run("a").bundle).predict(wrong)  # type: ignore[arg-type]


def test_a_pickle_an_unknown_run_and_a_promise_it_does_not_make_are_refused(pets: Done, tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(pickle.dumps({"a": 1}, protocol=4))
    with pytest.raises(StorageError, match="is a pickle"):
        api.load(tmp_path / "model.pth")
    with pytest.raises(UsageError, match="There is no run"):
        api.load("b", runs=pets.at / "runs")
    with pytest.raises(UsageError, match=r"received 0\.5"):
        api.load(pets.run("a").bundle).predict(pets.at / "pets/cat/00.png", precision=0.5)


def test_several_threads_ask_one_model(pets: Done) -> None:
    model, said = api.load(pets.run("a").bundle), {}
    files = sorted((pets.at / "pets").rglob("*.png"))

    def ask(own: int) -> None:
        said[own] = [model.predict(file).top for file in files[own::4]]

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    for own, tops in said.items():
        for top, file in zip(tops, files[own::4], strict=True):
            assert [share for *_, share in top] == pytest.approx([s for *_, s in model.predict(file).top], abs=1e-6)
            assert top[0][0] == file.parent.name
