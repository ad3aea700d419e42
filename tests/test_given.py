"""Pictures given in Python: one identity however they come, every refusal in words, and a training end to end."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from commands import tellapart
from hypothesis import given
from hypothesis import strategies as st
from pictures import draw
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset
from torchvision.transforms import ToTensor

from tellapart import Asking, Recipe, from_arrays, from_dataset, train
from tellapart.data.given import picture_of
from tellapart.data.identity import digest
from tellapart.data.index import NO_PART
from tellapart.data.loader import Loader
from tellapart.data.pictures import first_pass
from tellapart.errors import DataError, Interrupted, UsageError
from tellapart.evaluation.metrics import judge
from tellapart.preprocess import Preprocess
from tellapart.run import Run
from tellapart.workflow.judge import judge_run
from tellapart.workflow.resume import resume

PICTURE = draw(1, 3, (1, 2, 3), 9)[:, :6]


class Bars(Dataset):
    """Two methods are enough: eight pictures of two classes."""

    def __len__(self):
        return 8

    def __getitem__(self, row) -> tuple[Any, int]:
        return Image.fromarray(draw(row % 2, 2, (3, row), 12)), row % 2


class Endless(IterableDataset):
    """A stream has no size."""

    def __iter__(self):
        yield PICTURE, 0


# --- one picture ------------------------------------------------------------------------------------------------------

SAME = {
    "PIL": Image.fromarray(PICTURE),
    "HWC": PICTURE,
    "CHW": PICTURE.transpose(2, 0, 1),
    "int64": PICTURE.astype(np.int64),
    "float32": PICTURE.astype(np.float32) / 255,
    "float64 CHW": PICTURE.transpose(2, 0, 1) / 255,
    "uint8 tensor": torch.from_numpy(PICTURE),
    "ToTensor of PIL": ToTensor()(Image.fromarray(PICTURE)),
    "ToTensor of array": ToTensor()(PICTURE),
    "half": torch.from_numpy(PICTURE / 255).double(),
}


@pytest.mark.parametrize("kind", SAME)
def test_a_picture_has_one_identity_however_it_comes(kind):
    found = picture_of(SAME[kind])
    assert (found.dtype, found.shape, found.flags.c_contiguous) == (np.uint8, (9, 6, 3), True)
    assert np.array_equal(found, PICTURE)
    assert digest(found) == digest(PICTURE)


def test_opencv_arrays_say_that_they_are_bgr():
    assert np.array_equal(picture_of(PICTURE[:, :, ::-1], bgr=True), PICTURE)
    assert np.array_equal(picture_of(PICTURE[:, :, ::-1].transpose(2, 0, 1), bgr=True), PICTURE)
    assert not np.array_equal(picture_of(PICTURE[:, :, ::-1]), PICTURE)
    grey = PICTURE[:, :, :1]
    assert np.array_equal(picture_of(grey, bgr=True), picture_of(grey[:, :, 0]))
    assert np.array_equal(picture_of(Image.fromarray(PICTURE), bgr=True), PICTURE)


def test_totensor_of_both_kinds_is_what_the_network_would_see():
    """S053, S056: (256, 256, 3) in gives (3, 256, 256), and PIL and its array give the same tensor."""
    big = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    one, other = picture_of(Image.fromarray(big)), picture_of(np.asarray(Image.fromarray(big)))
    assert np.array_equal(one, other)
    assert torch.equal(ToTensor()(one.copy()), ToTensor()(Image.fromarray(big)))
    assert ToTensor()(one.copy()).shape == (3, 256, 256)


@given(st.lists(st.integers(0, 255), min_size=256, max_size=256), st.sampled_from([np.float16, np.float32, np.float64]))
def test_every_level_survives_the_way_through_floating_point(levels, kind):
    pixels = np.array(levels, np.uint8).reshape(16, 16)
    assert np.array_equal(picture_of((pixels / 255).astype(kind))[:, :, 0], pixels)


def test_an_upright_photo():
    image = Image.fromarray(PICTURE)
    exif = image.getexif()
    exif[274] = 6
    image.info["exif"] = exif.tobytes()
    assert picture_of(image).shape[:2] in ((6, 9), (9, 6))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (PICTURE / 255 - 0.5, "float64 has values from -0.5 .* from 0 to 1.*Leave Normalize out"),
        (PICTURE.astype(np.float32), "float32 has values from .* from 0 to 1.*ToTensor"),
        (np.full((4, 4), np.nan), "has values from nan"),
        (np.full((4, 4), 256), "int64 has values from 256 to 256; they should be from 0 to 255"),
        (np.full((4, 4), -1, np.int8), "values from -1"),
        (np.zeros((4, 4), np.uint16), "of uint16 and shape .* is not a picture.*uint8"),
        (np.zeros((4, 4), bool), "of bool"),
        (np.zeros((0, 4)), r"shape \(0, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"shape \(4, 4, 4\) is not HWC or CHW"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"shape \(2, 4, 4, 3\) is not"),
        (np.zeros((3, 8, 3), np.uint8), r"shape \(3, 8, 3\) may be read as HWC and as CHW.*layout='HWC'"),
        (np.zeros(9, np.uint8), r"shape \(9,\)"),
        ("cat.jpg", "A str of <U7"),
        (None, "A NoneType of object"),
        ({"image": 1}, "A dict of object"),
        (torch.zeros(3, 4, 4, requires_grad=True), "A Tensor is not a picture"),
    ],
)
def test_what_is_no_picture_is_refused_in_words(value, words):
    with pytest.raises(DataError) as caught:
        picture_of(value)
    assert re.search(words, str(caught.value)), str(caught.value)


def test_a_layout_settles_what_can_be_read_in_two_ways():
    both = np.arange(3 * 8 * 3, dtype=np.uint8).reshape(3, 8, 3)
    assert np.array_equal(picture_of(both, layout="HWC"), both)
    assert np.array_equal(picture_of(both, layout="CHW"), both.transpose(1, 2, 0))
    with pytest.raises(DataError, match="is not HWC with 1 or 3 channels"):
        picture_of(PICTURE.transpose(2, 0, 1), layout="HWC")
    with pytest.raises(UsageError, match=r"Unknown layout 'NHWC'\. Choose one of: HWC, CHW"):
        picture_of(both, layout="NHWC")


# --- a dataset --------------------------------------------------------------------------------------------------------


def test_a_dataset_of_two_methods():
    index = from_dataset(Bars())
    assert (index.classes, index.labels.tolist()) == (("0", "1"), [0, 1] * 4)
    assert (index.name, index.keys[0], index.said) == (
        "dataset",
        "dataset/0",
        ("Labels: as the dataset 'dataset' gives them.",),
    )
    assert (index.parts == NO_PART).all()
    assert np.array_equal(np.asarray(index.store.read(3)), np.asarray(Bars()[3][0]))
    assert from_dataset(Subset(Bars(), [4, 3]), name="few").keys[:] == ["few/0", "few/1"]


def test_where_class_names_come_from():
    named = Bars()
    named.classes = ["low", "high"]  # type: ignore[attr-defined]
    assert from_dataset(named).classes == ("low", "high")
    assert from_dataset(named, classes=("a", "b", "c")).classes == ("a", "b", "c")
    words = [(PICTURE, "wolf"), (PICTURE, "fox"), (PICTURE, "wolf")]
    assert (from_dataset(words).classes, from_dataset(words).labels.tolist()) == (("fox", "wolf"), [1, 0, 1])
    assert from_dataset(words, classes=("wolf", "fox")).labels.tolist() == [0, 1, 0]
    several = [(PICTURE, np.int64(7)), (PICTURE, torch.tensor(3)), (PICTURE, np.uint8(7))]
    assert (from_dataset(several).classes, from_dataset(several).labels.tolist()) == (("3", "7"), [1, 0, 1])


@pytest.mark.parametrize(
    ("items", "classes", "words"),
    [
        ([], (), "is empty"),
        ([(PICTURE, 0)], (), "has the classes 0.*two or more"),
        ([(PICTURE, 0), (PICTURE, 1)], ("a", "a"), "has the classes a, a.*of different names"),
        (Endless(), (), "is empty, or does not say its size"),
        ([(PICTURE, 0), PICTURE], (), "Item 1 of the dataset is a ndarray, not a pair.*picture, label"),
        ([{"image": PICTURE, "label": 0}], (), "Item 0 of the dataset is a dict, not a pair"),
        ([(PICTURE, 0), (PICTURE, 0.5)], (), "Item 1 of the dataset has the label 0.5, a float"),
        ([(PICTURE, [0, 1])], (), r"the label \[0, 1\], a list"),
        ([(PICTURE, 0), (PICTURE, 2)], ("a", "b"), "has the label 2, and 2 classes are named"),
        ([(PICTURE, 0), (PICTURE, -1)], ("a", "b"), "has the label -1"),
        ([(PICTURE, "a"), (PICTURE, "c")], ("a", "b"), "has the label 'c'"),
        ([(PICTURE, "a"), (PICTURE, 1)], ("a", "b"), "has the label 'a'"),
        ([(PICTURE.astype(np.float32), 0)], (), "from 0 to 1"),
    ],
)
def test_datasets_that_are_refused(items, classes, words):
    with pytest.raises(DataError) as caught:
        from_dataset(items, classes=classes)
    assert re.search(words, str(caught.value)), str(caught.value)


def test_a_dataset_with_random_transforms_is_refused():
    class Shaky(Bars):
        def __getitem__(self, row):
            return np.random.default_rng(time.perf_counter_ns()).integers(0, 256, (4, 4, 3), np.uint8), row % 2

    with pytest.raises(DataError, match=r"gives item 0 another picture each time\. Leave its random transforms out"):
        from_dataset(Shaky())


def test_a_dataset_that_fails_says_where_and_may_be_skipped_when_it_fails_late():
    class Broken(Bars):
        good = True

        def __getitem__(self, row):
            if row == 5 and not self.good:
                raise KeyError("lost")
            return super().__getitem__(row)

    data = Broken()
    index = from_dataset(data)
    data.good = False
    made = first_pass(index, Preprocess(size=12, channels=3, mean=(0,) * 3, std=(1,) * 3), skip_bad=True, memory=10**6)
    assert [(one.key, one.reason) for one in made.index.ignored] == [
        ("dataset/5", "Item 5 of the dataset cannot be read: KeyError: 'lost'.")
    ]
    with pytest.raises(DataError, match="Item 5 of the dataset cannot be read: KeyError"):
        from_dataset(data)


def test_a_dataset_is_read_by_one_thread_at_a_time():
    class Counting(Bars):
        inside, most = 0, 0
        lock = threading.Lock()

        def __getitem__(self, row):
            with self.lock:
                self.inside += 1
                self.most = max(self.most, self.inside)
            time.sleep(0.002)
            with self.lock:
                self.inside -= 1
            return super().__getitem__(row)

    data = Counting()
    index = from_dataset(data)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(index.store.read, range(8)))
    assert data.most == 1


@pytest.mark.parametrize("layout", ["HWC", "CHW"])
def test_arrays(layout):
    pixels = np.stack([draw(n % 2, 2, (n,), 8) for n in range(6)])
    given_ = pixels if layout == "HWC" else pixels.transpose(0, 3, 1, 2)
    index = from_arrays(given_, [n % 2 for n in range(6)], classes=("top", "low"), layout=layout)
    assert (index.name, index.classes, len(index)) == ("arrays", ("top", "low"), 6)
    assert all(np.array_equal(np.asarray(index.store.read(n)), pixels[n]) for n in range(6))
    turned = from_arrays(torch.from_numpy(pixels[..., ::-1].copy()), torch.arange(6) % 2, bgr=True)  # type: ignore[arg-type]
    assert np.array_equal(np.asarray(turned.store.read(2)), pixels[2])
    with pytest.raises(DataError, match="There are 6 pictures and 5 labels"):
        from_arrays(pixels, [0] * 5)


# --- end to end -------------------------------------------------------------------------------------------------------

QUICK = {"train.epochs": 1, "train.batch_size": 2, "machine.device": "cpu", "data.test": 0.25, "data.validation": 0.25}


def test_a_dataset_of_eight_trains_an_epoch_and_its_test_is_judged_again(tmp_path):
    index = from_dataset(Bars(), classes=("top", "low"), name="bars")
    asking = Asking(runs=tmp_path / "runs", name="bars", index=index, open_test=False)
    events = list(train(Recipe.from_values(QUICK), asking))
    assert any(
        "8 pictures of 2 classes (4 train, 2 validation, 2 test)" in getattr(event, "text", "") for event in events
    )
    run = Run.open(tmp_path / "runs", "bars")
    assert 'source = "python:bars"' in (run.folder / "recipe.toml").read_text(encoding="utf-8")
    done = tellapart(tmp_path, "test", "bars")
    assert (done.code, "The data set 'bars' was given in Python" in done.err) == (2, True)
    judged = judge_run(run, device=torch.device("cpu"), index=from_dataset(Bars(), classes=("top", "low"), name="bars"))
    assert judged.verdict.test == "opened"
    assert judge(judged.predictions)[0].n == 2
    assert tellapart(tmp_path, "test", "bars").code == 0


@pytest.mark.parametrize("asked", [{"data.source": "mnist"}, {"data.labels": "filename"}, {"data.columns": "label=x"}])
def test_a_source_beside_pictures_from_python_is_refused(tmp_path, asked):
    index = from_dataset(Bars(), name="bars")
    (key, value) = next(iter(asked.items()))
    with pytest.raises(UsageError, match=rf"{key} = {value} says nothing beside Asking\(index=…\)"):
        list(train(Recipe.from_values({**QUICK, **asked}), Asking(runs=tmp_path, index=index)))
    named = Recipe.from_values({**QUICK, "data.source": "python:bars"})
    assert list(train(named, Asking(runs=tmp_path, name="same", index=index, open_test=False)))


def test_a_stopped_training_on_a_dataset_goes_on_with_the_same_one_only(tmp_path):
    index = from_dataset(Bars(), name="bars")
    told = iter([None] * 5 + [Interrupted("stop")] + [None] * 99)
    values = {**QUICK, "train.epochs": 4}
    with pytest.raises(Interrupted):
        list(train(Recipe.from_values(values), Asking(runs=tmp_path, name="b", index=index, asked=lambda: next(told))))
    run = Run.open(tmp_path, "b")
    with pytest.raises(UsageError, match="was given in Python and cannot be opened by name"):
        list(resume(run, Asking(runs=tmp_path)))
    list(resume(run, Asking(runs=tmp_path, index=index)))
    assert run.status()["state"] == "finished"


def test_what_the_loader_gives_is_what_the_dataset_holds():
    """S023: the Dataset gives an index its data and label, the loader hands them on in batches."""
    index = from_dataset(Bars())
    pictures = first_pass(
        index, Preprocess(size=12, channels=3, mean=(0,) * 3, std=(1,) * 3), skip_bad=False, memory=10**6
    )
    loader = Loader(
        pictures=pictures, rows=np.arange(8), batch_size=3, seed=0, device=torch.device("cpu"), shuffle=False
    )
    batches = list(loader.epoch(0))
    assert [len(batch.labels) for batch in batches] == [3, 3, 2]
    assert torch.cat([batch.labels for batch in batches]).tolist() == [0, 1] * 4
    seen = torch.cat([batch.images for batch in batches])
    assert all(np.array_equal(seen[n].numpy(), np.asarray(Bars()[n][0])) for n in range(8))
