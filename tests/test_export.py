"""Export with a certificate: what is written answers as the model does, and what does not is caught and named."""

import errno
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import onnxscript  # noqa: F401  # without any of the three nothing here would run, and that is a failure
import pytest
import torch
from commands import Done, tellapart, train
from PIL import Image, ImageOps
from torch.nn.functional import interpolate

from tellapart.data.square import fitted
from tellapart.models.build import Architecture, build
from tellapart.models.bundle import Bundle, load_bundle, save_bundle
from tellapart.preprocess import Preprocess
from tellapart.shipping import faults, foreign
from tellapart.shipping.network_file import network_text
from tellapart.shipping.onnx_file import program
from tellapart.shipping.parity import Sample, compared, given, parity, probabilities
from tellapart.shipping.predict_onnx import opened
from tellapart.shipping.shipped import Shipped, Square
from tellapart.workflow import export as exporting

HOSTILE = "\x1b[2J<script>'\"; rm -rf $(x) `y`"
SIDE = 16
EXIF = (6, 8, 1, 1)


def picture(k: int, n: int) -> Image.Image:
    """A noisy picture, wider than high, with a faint square of a colour that tells class `k`, left of the middle."""
    chance = np.random.default_rng((k, n))
    pixels = chance.integers(0, 200, (36, 52, 3))
    pixels[8:24, 12:26, k] += int(chance.integers(20, 56))
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The run `a` on three colours, PNG and JPEG, some turned by their EXIF data; one class has a hostile name."""
    at = tmp_path_factory.mktemp("pets")
    for k, name in enumerate(("fox", "gnu", HOSTILE)):
        folder = at / "pets" / name
        folder.mkdir(parents=True)
        for n in range(40):
            exif = Image.Exif()
            exif[0x0112] = EXIF[n % 4]
            turned = picture(k, n) if EXIF[n % 4] == 1 else picture(k, n).rotate(90, expand=True)
            kind = ("png", "jpg")[n % 2]
            turned.save(folder / f"{n}.{kind}", exif=exif, quality=90)
    words = ("--epochs", "4", "--batch-size", "8", "--set", f"input.size={SIDE}", "--set", "data.validation=0.3")
    return train(at, "a", "pets", "--no-test", *words)


@pytest.fixture(scope="module")
def bundle(pets: Done) -> Bundle:
    return load_bundle(pets.run("a").bundle)


@pytest.fixture(scope="module")
def samples(pets: Done) -> list[Sample]:
    pictures, why = exporting._pictures(pets.at / "runs", "a")
    assert pictures is not None, why
    return exporting._samples(pictures, "validation", 256)


@pytest.fixture(scope="module")
def shipped(pets: Done) -> tuple[Done, Path]:
    done = tellapart(pets.at, "export", "onnx", "a")
    assert done.code == 0, done.err
    return done, pets.at / "a-onnx"


def test_the_way_in_gives_the_same_squares_for_every_size_filter_and_fit() -> None:
    chance, different, every = np.random.default_rng(0), 0, 0
    for fit, short in (("crop", 0), ("crop", 21), ("pad", 0), ("squash", 0)):
        for kind in ("bilinear", "bicubic", "nearest"):
            for channels, shape in ((3, (50, 33)), (1, (33, 50)), (3, (9, 7)), (3, (18, 18)), (3, (200, 311))):
                to = Preprocess(size=18, channels=channels, fit=fit, filter=kind, short=short)
                pixels = chance.integers(0, 256, (*shape, channels), np.uint8)
                ours = fitted(pixels, to).astype(int)
                theirs = Square(to)(torch.from_numpy(pixels)[None])[0].permute(1, 2, 0).numpy()
                assert np.abs(ours - theirs).max() <= 1
                different, every = different + int((ours != theirs).sum()), every + ours.size
    assert different / every < 1e-3


def test_an_onnx_file_brings_everything_and_answers_as_the_model(shipped: tuple[Done, Path], bundle: Bundle) -> None:
    done, folder = shipped
    names = {"model.onnx", "model.json", "parity.json", "predict.cpp", "predict.mjs", "predict.py"}
    assert {path.name for path in folder.iterdir()} == names
    assert done.out.splitlines()[0].startswith(f"wrote {Path('a-onnx/model.onnx')} (0.")
    assert done.out.splitlines()[1].startswith("parity passed: ")
    assert "accuracy " in done.out
    model = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version >= 18
    said = {one.key: one.value for one in model.metadata_props}
    about = json.loads(said["tellapart"])
    assert (tuple(about["classes"]), about["preprocess"]) == (bundle.classes, bundle.preprocess.to_json())
    assert (about["temperature"], about["known"]) == (bundle.temperature, bundle.known)
    assert about["origin"]["split"] == bundle.origin["split"]
    assert json.loads((folder / "model.json").read_text()) == about
    assert said["class.0"] == HOSTILE.replace("\x1b", " ")
    raw = (folder / "model.onnx").read_bytes()
    assert str(Path(torch.__file__).parent).encode() not in raw
    assert b"shipped.py" not in raw
    certificate = json.loads((folder / "parity.json").read_text())
    assert (certificate["sound"], certificate["n"], certificate["fault"]) == (True, 102, "")
    assert (certificate["about"], certificate["judged"]) == ("validation and training pictures", 36)
    assert certificate["largest"] < 1e-5
    assert len(certificate["worst"]) == 5


def test_it_takes_pictures_of_any_size_and_number_and_naive_arithmetic_agrees(
    shipped: tuple[Done, Path], bundle: Bundle
) -> None:
    session = ort.InferenceSession(str(shipped[1] / "model.onnx"))
    network, to = bundle.module(), bundle.preprocess
    for shape in ((1, 16, 16, 3), (3, 90, 31, 3), (2, 16, 200, 3)):
        pictures = np.random.default_rng(5).integers(0, 256, shape, np.uint8)
        shares, logits = session.run(None, {"pictures": pictures})
        squares = np.stack([fitted(one, to) for one in pictures])
        given = torch.from_numpy(((squares / 255.0 - to.mean) / to.std).astype(np.float32)).permute(0, 3, 1, 2)
        with torch.inference_mode():
            said = network(given).numpy()
        assert np.abs(said - logits).max() < 1e-4
        soft = np.exp(said / bundle.temperature - (said / bundle.temperature).max(1, keepdims=True))
        assert np.abs(soft / soft.sum(1, keepdims=True) - shares).max() < 1e-5


@pytest.fixture(scope="module")
def program_of(bundle: Bundle) -> Callable[[np.ndarray], Any]:
    """The exported answers, by torch itself: quick to make."""
    network = Shipped(bundle, Square(bundle.preprocess)).eval()

    def answers(pictures: np.ndarray) -> Any:
        with torch.inference_mode():
            shares, logits = network(torch.tensor(pictures))
        return shares.numpy(), logits.numpy()

    return answers


def planted_faults(bundle: Bundle) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """What others do to a picture (1 H W 3) before the network, each made without our resizing."""
    side = bundle.preprocess.size

    def middle(pixels: np.ndarray) -> np.ndarray:
        _, height, width, _ = pixels.shape
        cut = min(height, width)
        top, left = (height - cut) // 2, (width - cut) // 2
        return pixels[:, top : top + cut, left : left + cut]

    def by_pillow(kind: Image.Resampling) -> Callable[[np.ndarray], np.ndarray]:
        return lambda x: np.asarray(Image.fromarray(middle(x)[0]).resize((side, side), kind))[None]

    def blind(pixels: np.ndarray) -> np.ndarray:
        image = torch.tensor(middle(pixels)).permute(0, 3, 1, 2).float()
        small = interpolate(image, (side, side), mode="bilinear", antialias=False)
        return small.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()

    return {
        "the colours come in the order BGR": lambda x: x[..., ::-1].copy(),
        "rows and columns are swapped": lambda x: x.swapaxes(1, 2).copy(),
        "pictures are resized by the filter bicubic": by_pillow(Image.Resampling.BICUBIC),
        "pictures are resized without antialiasing": blind,
        "the pictures are squashed": lambda x: np.asarray(
            Image.fromarray(x[0]).resize((side, side), Image.Resampling.BILINEAR)
        )[None],
        "the pictures are padded": lambda x: np.asarray(ImageOps.pad(Image.fromarray(x[0]), (side, side), 2))[None],
    }


FAULTS = [
    "the colours come in the order BGR",
    "rows and columns are swapped",
    "pictures are resized by the filter bicubic",
    "pictures are resized without antialiasing",
    "the pictures are squashed",
    "the pictures are padded",
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_before_the_network_is_caught_and_named(
    fault: str, bundle: Bundle, samples: list[Sample], program_of: Callable[[np.ndarray], Any]
) -> None:
    wrong = planted_faults(bundle)[fault]
    options = {"front": "picture", "arithmetic": "float32", "about": "pictures"}
    found, theirs = parity(bundle, samples, lambda x: program_of(wrong(x)), **options)
    assert not found.sound
    assert faults.named(bundle, samples, theirs).startswith(fault)
    twin, theirs = parity(bundle, samples, program_of, **options)
    assert twin.sound
    assert twin.largest < 1e-5


def test_what_decides_unknown_is_compared_too(
    bundle: Bundle, samples: list[Sample], program_of: Callable[[np.ndarray], Any]
) -> None:
    """Logits that are all higher leave every probability as it was, and no picture unknown."""
    options = {"front": "picture", "arithmetic": "float32", "about": "pictures"}
    assert parity(bundle, samples, program_of, **options)[0].unknown is None
    scores = np.array([program_of(given(bundle.preprocess, one, "picture")[None])[1].max() for one in samples])
    strict = replace(bundle, known=float(np.sort(scores)[len(scores) // 4]))
    found, _ = parity(strict, samples, program_of, **options)
    assert found.sound
    assert found.unknown is not None
    assert (found.unknown.n, found.unknown.agreed) == (len(samples), found.unknown.clear)
    assert found.unknown.largest < 1e-4
    for shift in (100.0, -100.0):
        found, _ = parity(strict, samples, lambda x, by=shift: (program_of(x)[0], program_of(x)[1] + by), **options)
        assert (found.sound, found.near, found.same) == (False, True, len(samples))
        assert found.unknown is not None
        unknown = int((scores < strict.known).sum())
        assert abs(found.unknown.same - (len(samples) - unknown if shift > 0 else unknown)) <= 1
        assert found.unknown.share == found.unknown.same / len(samples)
        assert found.unknown.largest == pytest.approx(100.0, abs=1e-3)
    sick, _ = parity(strict, samples, lambda x: (program_of(x)[0], program_of(x)[1] * np.nan), **options)
    assert (sick.sound, sick.to_json()["unknown"]["largest"]) == (False, None)


@pytest.mark.parametrize("more", [0.5, 1000.0, np.inf, np.nan])
def test_scores_that_are_all_higher_are_not_those_of_the_model_though_no_picture_is_unknown(
    bundle: Bundle, samples: list[Sample], program_of: Callable[[np.ndarray], Any], more: float
) -> None:
    options = {"front": "picture", "arithmetic": "float32", "about": "pictures"}
    never = replace(bundle, known=-1000.0)
    assert parity(never, samples, program_of, **options)[0].sound
    found, _ = parity(never, samples, lambda x: (program_of(x)[0], program_of(x)[1] + more), **options)
    assert (found.sound, found.near) == (False, True)
    json.loads(json.dumps(found.to_json(), allow_nan=False))


@pytest.mark.parametrize(
    ("fault", "change"),
    [
        ("mean and deviation are left out", {"mean": (0.0,) * 3, "std": (1.0,) * 3}),
        ("mean and deviation are those of ImageNet", {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}),
        ("the mean is not subtracted", {"mean": (0.0,) * 3}),
        ("values go from 0 to 255 instead of to 1", {"mean": (0.0,) * 3, "std": (1 / 255,) * 3}),
    ],
)
def test_a_wrong_mean_is_caught_and_named(
    fault: str, change: dict[str, Any], bundle: Bundle, samples: list[Sample]
) -> None:
    wrong = replace(bundle, preprocess=replace(bundle.preprocess, **change))
    theirs = probabilities(wrong, samples)
    assert not compared(bundle, samples, probabilities(bundle, samples), theirs, arithmetic="float32", about="x").sound
    assert faults.named(bundle, samples, theirs).startswith(f"{fault} (so done")


def test_a_mean_that_nobody_uses_is_fitted_and_named(bundle: Bundle, samples: list[Sample]) -> None:
    change = {"mean": (0.62, 0.41, 0.3), "std": (0.2, 0.31, 0.25)}
    theirs = probabilities(replace(bundle, preprocess=replace(bundle.preprocess, **change)), samples)
    said = faults.named(bundle, samples, theirs)
    words = re.match(r"the mean is about (.+) and the deviation (.+) \(so done, .* by (\S+) instead of", said)
    assert words, said
    for found, planted in zip(words.groups(), change.values(), strict=False):
        assert np.allclose([float(one) for one in found.split(", ")], planted, atol=0.1), said
    assert float(words[3]) < 0.005


def test_of_a_few_pictures_only_what_explains_all_of_the_difference_is_named(
    bundle: Bundle, samples: list[Sample], program_of: Callable[[np.ndarray], Any]
) -> None:
    """Among so many faults one halves the difference of two pictures by chance, and six numbers fit any four."""
    two = [next(one for one in samples if one.label == k) for k in (0, 1)]
    odd = {"mean": (0.62, 0.41, 0.3), "std": (0.2, 0.31, 0.25)}
    planted = (
        ({"preprocess": replace(bundle.preprocess, **odd)}, ""),
        ({"temperature": 5.0}, f"the logits are divided by 5 instead of the temperature {bundle.temperature:.3g}"),
    )
    for change, said in planted:
        theirs = probabilities(replace(bundle, **change), two)
        for rounded in (False, True):
            assert faults.named(bundle, two, theirs, rounded=rounded).partition(" (so done")[0] == said
    inverted = {"about": "x", "front": "picture", "arithmetic": "float32"}
    assert exporting.certified(bundle, lambda x: program_of(255 - x), two, **inverted).fault == exporting.FEWER
    assert exporting.certified(bundle, lambda x: program_of(255 - x), samples, **inverted).fault != exporting.FEWER
    ours = probabilities(bundle, samples)
    assert faults.named(bundle, samples, ours + 1e-8) == ""  # where logits alone are others
    same = np.tile(ours[:1], (len(ours), 1))
    assert faults._unrelated(bundle, same, same) == ""


def fresh(bundle: Bundle) -> Bundle:
    """The same network before any training: what is left where weights were not loaded."""
    return replace(bundle, state=build(bundle.architecture, seed=7).state_dict())


def test_other_answers_are_named(bundle: Bundle, samples: list[Sample]) -> None:
    ours = probabilities(bundle, samples)
    order = [2, 0, 1]
    said = "the classes are in another order: its number 0 is 'gnu', our number 2"
    assert faults.named(bundle, samples, ours[:, order]).startswith(said)
    cold = np.log(ours) * bundle.temperature
    assert faults.named(bundle, samples, cold).startswith("it gives logits, or other numbers")
    lost = probabilities(fresh(bundle), samples)
    assert faults.named(bundle, samples, lost).startswith("its weights are not those of this model")
    sick = ours.copy()
    sick[0] = np.nan
    assert faults.named(bundle, samples, sick) == "its answers are no finite numbers"
    found = compared(bundle, samples, ours, sick, arithmetic="float32", about="x")
    assert (found.sound, found.finite, found.change) == (False, False, None)
    assert "not finite" in found.words()
    warm = replace(bundle, temperature=3.0)
    plain = probabilities(replace(bundle, temperature=1.0), samples)
    assert faults.named(warm, samples, plain).startswith("the logits are not divided by the temperature")
    still = np.full_like(ours, 1 / 3)
    assert faults.named(bundle, samples, still).endswith("or other weights: its answers are the same for all pictures")
    noise = np.random.default_rng(1).dirichlet((8.0,) * 3, len(ours)) * 0.3 + ours * 0.7
    assert faults.named(bundle, samples, noise) == ""


def test_pictures_sorted_by_class_do_not_make_other_weights_another_order(bundle: Bundle) -> None:
    """64 pictures of one class come first, and weights that answer by chance say another class of them."""
    every = [
        Sample(key=f"{k}/{n}", file=saved(picture(k, n)), label=k)
        for k, many in ((0, 80), (1, 20))
        for n in range(many)
    ]
    ours = probabilities(bundle, every)
    chance = np.random.default_rng(5).uniform(0, 0.1, (len(every), 3)) + ours[:, [1, 0, 2]].mean(0)
    theirs = np.where(np.arange(len(every))[:, None] < 80, ours[:, [1, 0, 2]], chance / chance.sum(1, keepdims=True))
    assert "another order" not in faults.named(bundle, every, theirs)
    sure = np.array([[0.9, 0.1, 0.0]] * 9 + [[0.2, 0.8, 0.0]])
    order = sure[:, [1, 0, 2]]
    assert faults._of_two(sure, order, order)
    assert not faults._of_two(sure, order, np.tile(order[0], (10, 1)))
    assert faults.named(bundle, every, ours[:, [1, 0, 2]]).startswith("the classes are in another order")


def saved(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_another_temperature_is_fitted_and_named(bundle: Bundle, samples: list[Sample]) -> None:
    theirs = probabilities(replace(bundle, temperature=5.0), samples)
    assert faults.named(bundle, samples, theirs).startswith("the logits are divided by 5 instead of the temperature")


def test_pictures_that_are_not_turned_are_named(
    bundle: Bundle, samples: list[Sample], program_of: Callable[[np.ndarray], Any]
) -> None:
    raw = [np.asarray(Image.open(io.BytesIO(one.file)).convert("RGB"))[None] for one in samples]
    theirs = np.stack([program_of(one)[0][0] for one in raw]).astype(np.float64)
    assert faults.named(bundle, samples, theirs).startswith("pictures are not turned as their EXIF data say")


def edited(source: Path, to: Path, change: Callable[[Any], None]) -> None:
    model = onnx.load(source)
    change(model)
    onnx.save(model, to)


def bgr(model: Any) -> None:
    for node in model.graph.node:
        node.input[:] = ["turned" if name == "pictures" and node.op_type != "Shape" else name for name in node.input]
    order = onnx.helper.make_tensor("order", onnx.TensorProto.INT64, [3], [2, 1, 0])
    model.graph.initializer.append(order)
    model.graph.node.insert(0, onnx.helper.make_node("Gather", ["pictures", "order"], ["turned"], axis=3))


def unloaded(model: Any) -> None:
    chance = np.random.default_rng(3)
    for one in model.graph.initializer:
        values = onnx.numpy_helper.to_array(one)
        if values.ndim > 1 and values.dtype == np.float32:
            other = chance.normal(0, values.std() + 1e-3, values.shape).astype(np.float32)
            one.CopyFrom(onnx.numpy_helper.from_array(other, one.name))


def renamed(model: Any, most: int = 9) -> None:
    for one in model.metadata_props:
        if one.key == "tellapart":
            about = json.loads(one.value)
            one.value = json.dumps({**about, "classes": about["classes"][::-1][:most]})


def reworded(model: Any) -> None:
    for one in model.metadata_props:
        if one.key == "tellapart":
            about = json.loads(one.value)
            one.value = json.dumps({**about, "preprocess": {**about["preprocess"], "filter": "nearest"}})


def test_check_names_what_the_file_says_otherwise_beside_what_it_does(shipped: tuple[Done, Path], pets: Done) -> None:
    def both(model: Any) -> None:
        bgr(model)
        reworded(model)

    told = (
        "other words on how pictures are prepared in the file than in the model (filter: nearest instead of bilinear)"
    )
    for change, words in (
        (reworded, f"fault: {told}"),
        (both, "the colours come in the order BGR"),
        (both, f"; and {told}"),
    ):
        edited(shipped[1] / "model.onnx", pets.at / "reworded.onnx", change)
        done = tellapart(pets.at, "export", "check", "a", "reworded.onnx")
        assert (done.code, words in done.out) == (1, True), done.out


def test_check_compares_any_file_and_names_what_is_planted_in_it(shipped: tuple[Done, Path], pets: Done) -> None:
    good = shipped[1] / "model.onnx"
    done = tellapart(pets.at, "export", "check", "a", str(good))
    assert (done.code, done.out.splitlines()[0].startswith("parity passed: ")) == (0, True)
    told = {bgr: "the colours come in the order BGR", unloaded: "its weights are not those of this model"}
    for change, words in told.items():
        edited(good, pets.at / "planted.onnx", change)
        done = tellapart(pets.at, "export", "check", "a", "planted.onnx")
        assert done.code == 1
        assert "parity FAILED: " in done.out
        assert f"fault: {words}" in done.out
        assert done.out.count("; off by ") == 5
        found = json.loads(tellapart(pets.at, "export", "check", "a", "planted.onnx", "--json").out)
        assert (found["sound"], found["fault"].startswith(words)) == (False, True)
    edited(good, pets.at / "planted.onnx", renamed)
    done = tellapart(pets.at, "export", "check", "a", "planted.onnx")
    assert (done.code, "parity FAILED: " in done.out) == (1, True)
    assert "fault: other names of the classes, or another order of them, in the file than in the model" in done.out
    edited(good, pets.at / "planted.onnx", lambda model: renamed(model, most=2))
    done = tellapart(pets.at, "export", "check", "a", "planted.onnx")
    assert (done.code, "planted.onnx knows 2 classes, a 3." in done.err) == (2, True)
    done = tellapart(pets.at, "export", "check", "a", "no.onnx")
    assert (done.code, "There is no file 'no.onnx'" in done.err) == (2, True)
    done = tellapart(pets.at, "export", "check", "a", ".")
    assert (done.code, "'.' is a folder." in done.err, ".onnx file in it" in done.err) == (2, True, True)
    (pets.at / "other.onnx").write_bytes(b"no model")
    done = tellapart(pets.at, "export", "check", "a", "other.onnx")
    assert (done.code, "other.onnx cannot be opened as a file of `export onnx`: " in done.err) == (4, True)
    kind, shape = onnx.TensorProto.FLOAT, [1, 3, 8, 8]
    ends = [onnx.helper.make_tensor_value_info(name, kind, shape) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    opset = [onnx.helper.make_opsetid("", 20)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10), pets.at / "other.onnx")
    done = tellapart(pets.at, "export", "check", "a", "other.onnx")
    assert (done.code, "it does not say what it is" in done.err) == (4, True)


def claims_int8(model: Any) -> None:
    """The file says that it is int8, whose probabilities have no bound; its graph is what it was."""
    for one in model.metadata_props:
        if one.key == "tellapart":
            one.value = json.dumps({**json.loads(one.value), "precision": "int8"})


def one_quantiser(model: Any) -> None:
    """A node that quantises a number, and nothing else does."""
    make, tables = onnx.helper.make_node, {"one": np.float32(1), "step": np.float32(0.1), "zero": np.int8(0)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in tables.items())
    model.graph.node.append(make("QuantizeLinear", ["one", "step", "zero"], ["unused"]))


def softened(model: Any, by: float = 4.0) -> None:
    """Probabilities of another temperature."""
    end = next(one for one in model.graph.node if "probabilities" in one.output)
    factor = onnx.numpy_helper.from_array(np.array(1 / by, np.float32), "softer")
    model.graph.initializer.append(factor)
    scaled = onnx.helper.make_node("Mul", [end.input[0], "softer"], ["softened"])
    end.input[0] = "softened"
    model.graph.node.insert(list(model.graph.node).index(end), scaled)


def test_a_precision_that_the_graph_does_not_bear_out_is_not_believed(
    shipped: tuple[Done, Path], pets: Done, tmp_path: Path
) -> None:
    def checked(*changes: Callable[[Any], None]) -> Any:
        shutil.copy(shipped[1] / "model.onnx", tmp_path / "claim.onnx")
        for change in changes:
            edited(tmp_path / "claim.onnx", tmp_path / "claim.onnx", change)
        return json.loads(tellapart(pets.at, "export", "check", "a", str(tmp_path / "claim.onnx"), "--json").out)

    found = checked(claims_int8)
    assert (found["sound"], found["bound"]) == (True, 0.01)
    found = checked(claims_int8, one_quantiser)
    assert (found["sound"], found["bound"]) == (True, 0.01)
    found = checked(claims_int8, softened)
    assert (found["sound"], found["bound"]) == (False, 0.01)
    assert found["fault"].startswith("the logits are divided by ")


def test_a_known_fault_in_a_file_of_8_bits_is_named_and_fails(pets: Done, tmp_path: Path) -> None:
    words = ("a", "--precision", "int8", "--out", str(tmp_path / "out"))
    assert tellapart(pets.at, "export", "onnx", *words).code == 0
    edited(tmp_path / "out" / "model.onnx", tmp_path / "soft.onnx", softened)
    done = tellapart(pets.at, "export", "check", "a", str(tmp_path / "soft.onnx"))
    assert (done.code, "bound 1" in done.out) == (1, True), done.out
    assert "fault: the logits are divided by " in done.out


def elsewhere(model: Any, inside: bool = False) -> None:
    """The largest table of weights is kept outside of the folder; or a table of a node of a graph inside a node."""
    kept = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    if inside:
        value = onnx.helper.make_tensor("v", onnx.TensorProto.FLOAT, [1], [0.0])
        leaf = onnx.helper.make_node("Constant", [], ["c"], value=value)
        info = onnx.helper.make_tensor_value_info("c", onnx.TensorProto.FLOAT, [1])
        graph = onnx.helper.make_graph([leaf], "g", [], [info])
        always = onnx.helper.make_tensor("always", onnx.TensorProto.BOOL, [], [True])
        model.graph.initializer.append(always)
        branch = onnx.helper.make_node("If", ["always"], ["unused"], then_branch=graph, else_branch=graph)
        model.graph.node.append(branch)
        kept = model.graph.node[-1].attribute[0].g.node[0].attribute[0].t
    kept.ClearField("raw_data")
    kept.ClearField("float_data")
    kept.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": "../secret.bin", "offset": "0"}.items():
        kept.external_data.add(key=key, value=value)


def before_logits(model: Any, *nodes: Any, **tables: Any) -> None:
    """What `nodes` make of `tables`, called "more", is added to the logits."""
    for node in model.graph.node:
        node.output[:] = ["plain" if name == "logits" else name for name in node.output]
        node.input[:] = ["plain" if name == "logits" else name for name in node.input]
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(one), key) for key, one in tables.items())
    model.graph.node.extend([*nodes, onnx.helper.make_node("Add", ["plain", "more"], ["logits"])])


def wide(model: Any) -> None:
    """256 GB of ones, summed."""
    ones = onnx.helper.make_tensor("v", onnx.TensorProto.FLOAT, [1], [1.0])
    many = onnx.helper.make_node("ConstantOfShape", ["shape"], ["ones"], value=ones)
    before_logits(model, many, onnx.helper.make_node("ReduceSum", ["ones"], ["more"], keepdims=0), shape=[1 << 36])


def endless(model: Any) -> None:
    """A loop that does not end while the program lives."""
    kinds, make = onnx.TensorProto, onnx.helper.make_tensor_value_info
    ends = [make("n", kinds.INT64, []), make("go", kinds.BOOL, []), make("x", kinds.FLOAT, [])]
    steps = [onnx.helper.make_node("Identity", ["go"], ["on"]), onnx.helper.make_node("Sin", ["x"], ["y"])]
    body = onnx.helper.make_graph(steps, "b", ends, [make("on", kinds.BOOL, []), make("y", kinds.FLOAT, [])])
    loop = onnx.helper.make_node("Loop", ["most", "go0", "x0"], ["more"], body=body)
    before_logits(model, loop, most=np.int64(2**62), go0=np.bool_(True), x0=np.float32(0))


def test_a_foreign_file_is_bounded(
    shipped: tuple[Done, Path], pets: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, at = shipped[1] / "model.onnx", tmp_path / "inner"
    at.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(1 << 20))

    def said(change: Callable[[Any], None]) -> Done:
        edited(good, at / "bad.onnx", change)
        return tellapart(pets.at, "export", "check", "a", str(at / "bad.onnx"))

    for change in (elsewhere, lambda model: elsewhere(model, inside=True)):
        done = said(change)
        assert (done.code, "it keeps numbers in other files, which are not opened" in done.err) == (4, True)
    done = said(wide)
    assert (done.code, "bad.onnx does not take the pictures of a: " in done.err) == (2, True), done.err
    monkeypatch.setattr(foreign, "SECONDS", 9)
    done = said(endless)
    assert (done.code, "the process that runs it takes longer than 9 s" in done.err) == (2, True), done.err
    with (at / "sparse.onnx").open("wb") as file:
        file.truncate(3 << 30)
    done = tellapart(pets.at, "export", "check", "a", str(at / "sparse.onnx"))
    assert (done.code, "sparse.onnx has 3,221,225,472 bytes; a file of this model has at most " in done.err) == (
        4,
        True,
    )


@pytest.mark.parametrize("about", ["[]", "3", '{"classes": 3}', '{"classes": ["a"]}', "no JSON", "[" * 100_000])
def test_a_file_that_says_something_odd_of_itself_is_refused(
    about: str, shipped: tuple[Done, Path], pets: Done, tmp_path: Path
) -> None:
    def odd(model: Any) -> None:
        next(one for one in model.metadata_props if one.key == "tellapart").value = about

    edited(shipped[1] / "model.onnx", tmp_path / "odd.onnx", odd)
    done = tellapart(pets.at, "export", "check", "a", str(tmp_path / "odd.onnx"))
    assert (done.code, "odd.onnx cannot be opened as a file of `export onnx`: " in done.err) == (4, True), done.err


def test_what_fails_is_left_under_a_name_that_says_so(
    pets: Done, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert tellapart(pets.at, "export", "state-dict", "a", "--out", str(out)).code == 0
    assert {path.name for path in out.iterdir()} == {"weights.pth", "classes.json", "network.py", "parity.json"}
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    real = exporting.write

    def spoilt(way: str, bundle: Bundle, *rest: Any, **options: Any) -> None:
        real(way, fresh(bundle), *rest, **options)

    monkeypatch.setattr(exporting, "write", spoilt)
    done = tellapart(pets.at, "export", "state-dict", "a", "--out", str(out), "--force")
    assert done.code == 1
    assert "error: weights.failed.pth does not answer as a does." in done.err
    assert "fault: its weights are not those of this model" in done.out
    assert "earlier files are as they were" in done.err
    beside = {"weights.failed.pth", "parity.failed.json"}
    assert {path.name for path in out.iterdir()} == {*before, *beside}
    assert {name: (out / name).read_bytes() for name in before} == before
    certificate = json.loads((out / "parity.failed.json").read_text())
    assert (certificate["artefact"], certificate["sound"]) == ("weights.failed.pth", False)
    monkeypatch.undo()
    (out / "thresholds.json").write_text("[]")  # of a model of several classes, exported before
    (out / "notes.txt").write_text("mine")
    assert tellapart(pets.at, "export", "state-dict", "a", "--out", str(out), "--force").code == 0
    assert {path.name for path in out.iterdir()} == {*before, "notes.txt"}


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_an_export_that_breaks_off_leaves_everything_as_it_was(
    nth: int, pets: Done, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out, real, left = tmp_path / "out", os.replace, [nth]
    assert tellapart(pets.at, "export", "state-dict", "a", "--out", str(out)).code == 0
    names = {"weights.pth", "classes.json", "network.py", "parity.json", "thresholds.json", "notes.txt"}
    for name in names:
        (out / name).write_text(f"an older {name}")

    def full(source: Any, to: Any) -> None:
        left[0] -= Path(to).parent == out
        if left[0] == 0 and Path(to).parent == out:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, to)

    monkeypatch.setattr("os.replace", full)
    done = tellapart(pets.at, "export", "state-dict", "a", "--out", str(out), "--force")
    assert (done.code, f"{out} is as it was" in done.err) == (4, True), done.err
    assert {path.name: path.read_text() for path in out.iterdir()} == {name: f"an older {name}" for name in names}
    left[0] = nth
    done = tellapart(pets.at, "export", "state-dict", "a", "--out", str(tmp_path / "fresh"))
    assert done.code == 0  # the clean twin: another folder
    out, left[0] = tmp_path / "new", nth
    done = tellapart(pets.at, "export", "state-dict", "a", "--out", str(out))
    assert (done.code, "is as it was" in done.err) == (4, False), done.err
    assert {path.name for path in tmp_path.iterdir()} == {"out", "fresh"}


@pytest.mark.parametrize("file", ["network", "script"])
def test_the_state_dict_is_for_the_network_beside_it_and_of_the_script(file: str, pets: Done, tmp_path: Path) -> None:
    assert tellapart(pets.at, "export", "state-dict", "a", "--out", str(tmp_path / "out")).code == 0
    assert tellapart(pets.at, "export", "script", "a", "--out", str(tmp_path / "out" / "script.py")).code == 0
    rows = f"import sys, torch; sys.path.insert(0, 'out'); from {file} import CHANNELS, SIZE, make_network\n"
    rows += "assert not any('tellapart' in name for name in sys.modules)\nnetwork = make_network()\n"
    rows += "network.load_state_dict(torch.load('out/weights.pth', weights_only=True))\n"
    rows += "print(network.eval()(torch.ones(1, CHANNELS, SIZE, SIZE)).tolist())\n"
    (tmp_path / "alone.py").write_text(rows, encoding="utf-8")
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [sys.executable, "-I", "alone.py"]
    done = subprocess.run(words, cwd=tmp_path, env=bare, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    bundle = load_bundle(pets.run("a").bundle)
    with torch.inference_mode():
        ours = bundle.module()(torch.ones(1, 3, SIDE, SIDE))
    assert np.abs(np.subtract(json.loads(done.stdout), ours.numpy())).max() < 1e-5
    assert json.loads((tmp_path / "out" / "classes.json").read_text()) == list(bundle.classes)


@pytest.mark.parametrize("name", ["linear", "small", "resnet18", "mobilenet_v2", "squeezenet1_1", "vit_b_32"])
def test_the_network_beside_a_state_dict_is_that_of_the_model(name: str, tmp_path: Path) -> None:
    size, channels = (224, 3) if name == "vit_b_32" else (32, 1 if name == "resnet18" else 3)
    made = Architecture(name=name, num_classes=2, channels=channels, size=size)
    to = Preprocess(size=size, channels=channels, mean=(0.5,) * channels, std=(0.25,) * channels)
    of = Bundle(architecture=made, preprocess=to, classes=("a", "b"), state={})
    (tmp_path / "network.py").write_text(network_text(of), encoding="utf-8")
    (tmp_path / "classes.json").write_text('["a", "b"]')
    spoken = runpy.run_path(str(tmp_path / "network.py"))
    ours, theirs = build(made).eval(), spoken["make_network"]().eval()
    theirs.load_state_dict(ours.state_dict())
    x = torch.rand(2, channels, size, size)
    assert torch.equal(ours(x), theirs(x))
    assert (spoken["SIZE"], spoken["CHANNELS"], spoken["MEAN"], spoken["STD"]) == (size, channels, to.mean, to.std)


PLACES = (str(Path(torch.__file__).parent).encode(), str(Path(exporting.__file__).parent).encode())
"""Folders of this machine, which are nobody else's business."""


def test_torch_export_opens_without_tellapart(pets: Done, tmp_path: Path) -> None:
    done = tellapart(pets.at, "export", "torch-export", "a", "--out", str(tmp_path / "out"))
    assert (done.code, "parity passed: " in done.out) == (0, True), done.err
    with zipfile.ZipFile(tmp_path / "out" / "model.pt2") as archive:
        assert not any(place in archive.read(name) for name in archive.namelist() for place in PLACES)
    code = "import torch, warnings; warnings.simplefilter('ignore'); extra = {'tellapart': ''}; "
    code += "made = torch.export.load('out/model.pt2', extra_files=extra).module(); "
    code += "print(made(torch.zeros(3, 40, 30, 3, dtype=torch.uint8))[0].shape, len(extra['tellapart']) > 9)"
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, env=bare, capture_output=True, text=True, timeout=120
    )
    assert ran.stdout == "torch.Size([3, 3]) True\n", ran.stderr


def test_openvino_answers_as_the_model(pets: Done, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    done = tellapart(pets.at, "export", "openvino", "a", "--out", str(tmp_path / "out"))
    assert (done.code, "parity passed: " in done.out) == (0, True), done.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "model.xml",
        "model.bin",
        "model.json",
        "parity.json",
    }


def test_one_way_out_is_not_written_over_another(pets: Done, tmp_path: Path) -> None:
    for name in ("model.onnx", "parity.json"):
        (tmp_path / name).write_text("mine", encoding="utf-8")
    done = tellapart(pets.at, "export", "state-dict", "a", "--out", str(tmp_path), "--force")
    assert (done.code, f"{tmp_path} holds model.onnx, whose parity.json is another." in done.err) == (2, True)
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == {
        "model.onnx": "mine",
        "parity.json": "mine",
    }


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_smaller_numbers_come_with_the_change_of_accuracy(precision: str, pets: Done, tmp_path: Path) -> None:
    words = ("a", "--precision", precision, "--out", str(tmp_path / "out"), "--input", "square")
    done = tellapart(pets.at, "export", "onnx", *words)
    assert done.code == 0, done.out + done.err
    certificate = json.loads((tmp_path / "out" / "parity.json").read_text())
    assert certificate["change"]["n"] == 36
    assert certificate["change"]["low"] <= certificate["change"]["difference"] <= certificate["change"]["high"]
    assert 1e-7 < certificate["largest"] < 0.2
    kinds = {node.op_type for node in onnx.load(tmp_path / "out" / "model.onnx").graph.node}
    assert ("QuantizeLinear" in kinds) == (precision == "int8")
    done = tellapart(pets.at, "export", "check", "a", str(tmp_path / "out" / "model.onnx"))
    assert (done.code, done.out.startswith("parity passed: ")) == (0, True), done.out + done.err


def test_a_smaller_file_that_is_surely_worse_fails(bundle: Bundle) -> None:
    every = [Sample(key=str(n), file=b"", label=0) for n in range(200)]
    ours = np.tile([0.9, 0.05, 0.05], (200, 1))
    for lost, sound in ((3, True), (30, False)):
        theirs = ours.copy()
        theirs[:lost] = [0.05, 0.9, 0.05]
        found = compared(bundle, every, ours, theirs, arithmetic="int8", about="x")
        assert (found.sound, found.accuracy) == (sound, (1.0, 1 - lost / 200))
        assert "n = 200" in found.change_words()


def test_without_its_pictures_the_golden_samples_prove_it_and_without_those_nothing(
    pets: Done, bundle: Bundle, tmp_path: Path
) -> None:
    file = tmp_path / "alone.safetensors"
    save_bundle(bundle, file)
    done = tellapart(tmp_path, "export", "state-dict", "alone.safetensors")
    assert (done.code, (tmp_path / "alone-state-dict" / "weights.pth").exists()) == (0, True)
    n = len(bundle.goldens)
    assert f"of all {n} golden samples, because a model file comes without its run" in done.out
    assert "; too few pictures to prove it" in done.out
    assert f"n = {n} proves little: where all agree, up to " in done.out
    assert "Give 200 or more: --pictures FOLDER." in done.out
    assert json.loads((tmp_path / "alone-state-dict" / "parity.json").read_text())["few"] in done.out
    (tmp_path / "own" / "deep").mkdir(parents=True)
    (tmp_path / "own" / "notes.txt").write_text("no picture")
    words = ("export", "state-dict", "alone.safetensors", "--pictures", "own", "--out", "more")
    done = tellapart(tmp_path, *words)
    assert (done.code, "None of the files in own is a picture." in done.err) == (3, True), done.err
    for k in range(2):
        for n in range(100):
            picture(k, n).save(tmp_path / "own" / "deep" / f"{k}-{n}.png")
    done = tellapart(tmp_path, *words)
    assert (done.code, "too few" in done.out, "proves little" in done.out) == (0, False, False), done.out + done.err
    assert "of all 200 pictures of own, without 1 that cannot be read, such as own" in done.out
    certificate = json.loads((tmp_path / "more" / "parity.json").read_text())
    assert (certificate["n"], certificate["few"], certificate["accuracy"]) == (200, "", None)
    for n in range(300):  # more than are compared, so that pictures in between have to make up for them
        (tmp_path / "own" / "deep" / f"{n}.txt").write_text("no picture")
    done = tellapart(tmp_path, "export", "state-dict", "alone.safetensors", "--pictures", "own", "--out", "much")
    assert (done.code, "of all 200 pictures of own, without 301 that" in done.out) == (0, True), done.out + done.err
    eight = ("export", "onnx", "alone.safetensors", "--precision", "int8", "--out", "small")
    done = tellapart(tmp_path, *eight, "--pictures", "own")
    assert (done.code, "of all 160 pictures of own" in done.out) == (0, True), done.out + done.err
    done = tellapart(tmp_path, "export", "state-dict", "alone.safetensors", "--pictures", "no", "--out", "un")
    assert (done.code, "There is no file or folder 'no'." in done.err) == (2, True), done.err
    save_bundle(replace(bundle, goldens=()), file)
    done = tellapart(tmp_path, "export", "state-dict", "alone.safetensors", "--out", "none")
    assert (done.code, "nothing is proved: there is no picture to compare on" in done.out) == (1, True)
    done = tellapart(tmp_path, "export", "onnx", "alone.safetensors", "--precision", "int8", "--out", "eight")
    assert (done.code, "int8 has to see training pictures, and a model file comes without" in done.err) == (2, True)
    assert "give --pictures FOLDER, or choose fp16" in done.err


def test_a_run_whose_pictures_are_gone_says_so(pets: Done, tmp_path: Path) -> None:
    shutil.copytree(pets.at / "runs", tmp_path / "runs")
    shutil.move(pets.at / "pets", pets.at / "away")
    try:
        done = tellapart(tmp_path, "export", "state-dict", "a")
    finally:
        shutil.move(pets.at / "away", pets.at / "pets")
    assert (done.code, "golden samples, because the pictures of a are not there: " in done.out) == (0, True)


@pytest.mark.parametrize(
    ("words", "library", "extra"),
    [
        (("onnx", "a"), "onnxscript", "onnx"),
        (("onnx", "a"), "onnxruntime", "onnx"),
        (("openvino", "a"), "openvino", "openvino"),
        (("check", "a", "x.onnx"), "onnxruntime", "onnx"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    words: tuple[str, ...], library: str, extra: str, pets: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pets.at / "x.onnx").touch()
    monkeypatch.setitem(sys.modules, library, None)
    done = tellapart(pets.at, "export", *words, *(("--out", "none") if words[0] != "check" else ()))
    assert (done.code, f"needs {library}" in done.err) == (2, True)
    assert f"pip install 'tellapart[{extra}]'" in done.err
    assert not (pets.at / "none").exists()


def test_wrong_words_are_answered(shipped: tuple[Done, Path], pets: Done) -> None:
    done = tellapart(pets.at, "export", "onnx", "a")
    assert (done.code, "a-onnx exists already" in done.err, "--force" in done.err) == (2, True, True)
    (pets.at / "file").touch()
    done = tellapart(pets.at, "export", "onnx", "a", "--out", "file", "--force")
    assert (done.code, "file exists already" in done.err) == (2, True)
    done = tellapart(pets.at, "export", "onnx", "nobody")
    assert (done.code, "There is no run 'nobody'" in done.err) == (2, True)
    done = tellapart(pets.at, "export", "onxx", "a")
    assert (done.code, "Did you mean 'onnx'?" in done.err) == (2, True)
    for words in (("a", "--to", "onnx"), ("a", "--to=onnx"), ("a", "onnx", "--force")):
        done = tellapart(pets.at, "export", *words)
        assert (done.code, "The verb comes first: tellapart export onnx a\n" in done.err) == (2, True), done.err
    done = tellapart(pets.at, "export", "onnx", "aa")
    assert (done.code, "Did you mean 'a'?" in done.err) == (2, True), done.err
    done = tellapart(pets.at, "export", "onnx", "a", "--precision", "int4", "--out", "x")
    assert (done.code, "int4" in done.err) == (2, True)


def test_a_network_that_cannot_be_exported_says_why(bundle: Bundle) -> None:
    class Odd(torch.nn.Module):
        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return pictures if pictures.float().sum() > 3 else -pictures

    from tellapart.errors import UsageError

    with pytest.raises(UsageError, match="This network cannot be exported: "):
        program(Odd(), bundle, "picture")


@pytest.fixture(scope="module")
def goldens(shipped: tuple[Done, Path], bundle: Bundle) -> list[tuple[Path, Path, tuple[float, ...]]]:
    """The golden samples as .png and .ppm files in the folder of the export, with what is to come out."""
    found = []
    for n, one in enumerate(bundle.goldens):
        (shipped[1] / f"{n}.png").write_bytes(one.file)
        Image.open(io.BytesIO(one.file)).convert("RGB").save(shipped[1] / f"{n}.ppm")
        found.append((shipped[1] / f"{n}.png", shipped[1] / f"{n}.ppm", one.shares))
    assert found
    return found


def ended(words: list[str], at: Path) -> subprocess.CompletedProcess[str]:
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(words, cwd=at, env=bare, capture_output=True, text=True, timeout=120)


def ran(words: list[str], at: Path) -> str:
    done = ended(words, at)
    assert done.returncode == 0, done.stderr
    return done.stdout


def agree(text: str, goldens: list[tuple[Path, Path, tuple[float, ...]]], classes: tuple[str, ...]) -> None:
    rows = [json.loads(line) for line in text.splitlines()]
    assert len(rows) == len(goldens)
    for row, (*_, shares) in zip(rows, goldens, strict=True):
        assert row["top"][0][0] == classes[int(np.argmax(shares))]
        assert abs(row["top"][0][1] - max(shares)) < 1e-4
    assert "\x1b" not in text


def test_the_python_program_answers_the_golden_samples_alone(shipped, goldens, bundle) -> None:
    text = ran([sys.executable, "-I", "predict.py", *(png.name for png, *_ in goldens)], shipped[1])
    agree(text, goldens, bundle.classes)


def modules(at: Path) -> str:
    """The program node, with onnxruntime-web beside the exported files; the test is skipped without them."""
    node, there = shutil.which("node"), os.environ.get("NODE_PATH", "")
    if node is None or not (Path(there) / "onnxruntime-web").is_dir():
        pytest.skip("node is not installed, or NODE_PATH leads to no onnxruntime-web")
    if not (at / "node_modules").exists():
        (at / "node_modules").symlink_to(Path(there).absolute())
    return node


def built(at: Path) -> None:
    """Compile predict.cpp beside the exported files; the test is skipped without what that takes."""
    compiler, include = shutil.which("g++"), os.environ.get("ONNXRUNTIME_INCLUDE", "")
    library = next((Path(ort.__file__).parent / "capi").glob("libonnxruntime.so.*"), None)
    if compiler is None or library is None or not (Path(include) / "onnxruntime_cxx_api.h").is_file():
        pytest.skip("no g++, no libonnxruntime.so, or ONNXRUNTIME_INCLUDE leads to no onnxruntime_cxx_api.h")
    if (at / "predict").exists():
        return
    (at / "libonnxruntime.so.1").symlink_to(library)
    words = ["-std=c++17", "-O0", "predict.cpp", "-I", include, "./libonnxruntime.so.1", f"-Wl,-rpath,{at}"]
    ran([compiler, *words, "-o", "predict"], at)


PROGRAMS = {
    "py": ([sys.executable, "-I", "predict.py"], "usage: python predict.py PICTURE ...\n"),
    "mjs": (["node", "predict.mjs"], "usage: node predict.mjs PICTURE.ppm ...\n"),
    "cpp": (["./predict", "model.onnx"], "usage: predict model.onnx PICTURE.ppm ...\n"),
}
"""How each of the three is called, and what it says when it is called with nothing."""


def ready(kind: str, at: Path) -> list[str]:
    """The words that call a program; the test is skipped where its runtime is missing."""
    {"py": lambda at: None, "mjs": modules, "cpp": built}[kind](at)
    return PROGRAMS[kind][0]


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_program_without_a_picture_or_with_one_that_is_missing_says_so(kind: str, shipped, goldens) -> None:
    words, usage = ready(kind, shipped[1]), PROGRAMS[kind][1]
    done = ended(words, shipped[1])
    assert (done.returncode, done.stdout, done.stderr) == (2, "", usage)
    done = ended([*words, "missing.ppm", goldens[0][1].name], shipped[1])
    assert (done.returncode, goldens[0][1].name in done.stdout) == (3, True), done.stderr
    said = next(line for line in (done.stdout + done.stderr).splitlines() if "missing.ppm" in line)
    assert any(why in said for why in ("annot be opened", "No such file")), said
    assert len(done.stderr.splitlines()) == (kind == "cpp")


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_program_without_its_model_says_so(kind: str, shipped, goldens, tmp_path: Path) -> None:
    words, name = ready(kind, shipped[1]), goldens[0][1].name
    shutil.copytree(shipped[1], tmp_path / "moved", symlinks=True)
    (tmp_path / "moved" / "model.onnx").unlink()
    done = ended([*words, name], tmp_path / "moved")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (4, "", 1), done.stderr
    assert done.stderr.startswith("the model cannot be opened: ")


@pytest.fixture(scope="module")
def strange(pets: Done, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a model with a bound, and a picture on both sides of it, by torch: known.ppm and unknown.ppm."""
    at, one = tmp_path_factory.mktemp("strange"), load_bundle(pets.run("a").bundle)
    network, noise = Shipped(one, Square(one.preprocess)).eval(), np.random.default_rng(6)
    pictures = [noise.integers(0, 256, (20, 20, 3), np.uint8) // n for n in (1, 2, 4, 8, 60)]
    with torch.inference_mode():
        scores = [float(network(torch.tensor(picture[None]))[1].max()) for picture in pictures]
    low, high = int(np.argmin(scores)), int(np.argmax(scores))
    assert scores[high] - scores[low] > 0.1
    save_bundle(replace(one, known=(scores[low] + scores[high]) / 2), at / "a.safetensors")
    assert tellapart(at, "export", "onnx", "a.safetensors", "--out", "out").code == 0
    for name, k in (("known.ppm", high), ("unknown.ppm", low)):
        Image.fromarray(pictures[k]).save(at / "out" / name)
    return at / "out"


@pytest.mark.parametrize("kind", PROGRAMS)
def test_every_program_says_unknown(kind: str, strange: Path) -> None:
    text = ran([*ready(kind, strange), "known.ppm", "unknown.ppm"], strange)
    if kind == "cpp":
        rows = [line.split("\t") for line in text.splitlines()]
        assert [row[0] for row in rows if row[1:] == ["-", "-", "unknown"]] == ["unknown.ppm"]
        assert [row[0] for row in rows] == ["known.ppm"] * 3 + ["unknown.ppm"] * 4
    else:
        assert [json.loads(line)["unknown"] for line in text.splitlines()] == [False, True]


def test_the_javascript_program_answers_the_golden_samples(shipped, goldens, bundle) -> None:
    node = modules(shipped[1])
    agree(ran([node, "predict.mjs", *(ppm.name for _, ppm, _ in goldens)], shipped[1]), goldens, bundle.classes)


@pytest.mark.parametrize(
    "text", [b"", b"P6", b"P6 4 4 255\n123", b"P6 # no end", b"P6 20000 20000 255\n", b"P6 0 4 255\n"]
)
def test_the_javascript_program_refuses_what_is_no_whole_picture(shipped, tmp_path: Path, text: bytes) -> None:
    node, at = shutil.which("node"), shipped[1]
    if node is None:
        pytest.skip("node is not installed")
    program = (at / "predict.mjs").read_text().partition("if (typeof process")[0] + "export { ppm };\n"
    (tmp_path / "program.mjs").write_text(program)
    (tmp_path / "broken.ppm").write_bytes(text)
    script = "import { ppm } from './program.mjs'; import { readFileSync } from 'node:fs';"
    script += "try { ppm(readFileSync('broken.ppm')); } catch (error) { console.log(error.message); }"
    done = ran([node, "--input-type=module", "-e", script], tmp_path)
    assert done.strip() in ("the file is cut short", "expected a binary PPM or PGM file of 8 bits")


def test_the_cpp_program_answers_the_golden_samples(shipped, goldens, bundle) -> None:
    at = shipped[1]
    built(at)
    text = ran(["./predict", "model.onnx", *(ppm.name for _, ppm, _ in goldens)], at)
    rows = [row for row in (line.split("\t") for line in text.splitlines()) if row[1] != "-"]
    for (*_, shares), best in zip(goldens, rows[::3], strict=True):
        k = int(np.argmax(shares))
        assert (int(best[1]), best[3]) == (k, bundle.classes[k].replace("\x1b", " "))
        assert abs(float(best[2]) - shares[k]) < 1e-4


def test_the_programs_hold_no_name_of_a_class(shipped: tuple[Done, Path]) -> None:
    for name in ("predict.py", "predict.mjs", "predict.cpp"):
        text = (shipped[1] / name).read_text(encoding="utf-8")
        assert not any(word in text for word in ("gnu", "rm -rf"))


def test_the_shipped_reading_of_files_is_ours(tmp_path: Path) -> None:
    """16 bits, transparency, palettes, grey, turned: pixels as `decode` gives them."""
    from tellapart.data.decode import decode
    from tellapart.data.square import coloured

    noise = np.random.default_rng(0).integers(0, 256, (9, 14, 4), np.uint8)
    grey16 = np.random.default_rng(1).integers(0, 65536, (9, 14), np.uint16)
    turned = Image.Exif()
    turned[0x0112] = 5
    made = {
        "rgba.png": Image.fromarray(noise),
        "deep.png": Image.fromarray(grey16),
        "palette.png": Image.fromarray(noise[..., :3]).quantize(16),
        "grey.png": Image.fromarray(noise[..., 0]),
        "one.png": Image.fromarray(noise[..., 0] > 128),
        "la.png": Image.fromarray(noise).convert("LA"),
        "cmyk.jpg": Image.fromarray(noise[..., :3]).convert("CMYK"),
        "turned.jpg": Image.fromarray(noise[..., :3]),
    }
    for name, image in made.items():
        image.save(tmp_path / name)
    made["turned.jpg"].save(tmp_path / "turned.jpg", exif=turned)
    made["clear.png"] = made["deep.png"]  # one of its 65,536 greys is transparent
    made["clear.png"].save(tmp_path / "clear.png", transparency=int(grey16[4, 4]))
    large = Image.fromarray(np.random.default_rng(2).integers(0, 256, (70, 60, 3), np.uint8)).resize((2100, 2600))
    large.save(tmp_path / "large.jpg")
    for name in (*made, "large.jpg"):
        for channels in (1, 3):
            ours = coloured(decode((tmp_path / name).read_bytes()), channels)
            theirs = opened(tmp_path / name, channels)
            assert theirs.shape == ours.shape, name
            assert np.abs(theirs.astype(int) - ours).max() <= (1 if name == "large.jpg" else 0), name


NO_PICTURE = "The bytes are not a picture that can be read."


def test_the_shipped_program_refuses_what_we_refuse_in_the_same_words(shipped: tuple[Done, Path], pets: Done) -> None:
    at, noise = shipped[1], np.random.default_rng(4).integers(0, 256, (3, 9, 14, 3), np.uint8)
    first, *more = (Image.fromarray(one) for one in noise)
    for name in ("moving.gif", "moving.png", "moving.webp", "moving.tif"):
        first.save(at / name, save_all=True, append_images=more)
    first.save(at / "still.gif")
    Image.fromarray(noise[0, ..., 0].astype(np.float32)).save(at / "float.tif")
    Image.fromarray(noise[0, ..., 0].astype(np.int32) << 12).save(at / "deep.tif")
    Image.new("1", (10_000, 9_000)).save(at / "vast.png")
    (at / "text.png").write_text("no picture")
    first.save(at / "fine.png")
    bad = ["moving.gif", "moving.png", "moving.webp", "moving.tif", "still.gif", "float.tif", "deep.tif", "vast.png"]
    bad.append("text.png")
    ours = json.loads(tellapart(at, "predict", "a", *bad, "--runs", str(pets.at / "runs"), "--json").out)["predictions"]
    words = [sys.executable, "-I", "predict.py", *bad, "fine.png"]
    done = subprocess.run(words, cwd=at, capture_output=True, text=True, timeout=120)
    *theirs, fine = (json.loads(line) for line in done.stdout.splitlines())
    assert (done.returncode, "top" in fine, len(theirs)) == (3, True, len(bad)), done.stderr
    gif = "It is a GIF; it is not among the formats that are read."
    assert [one["error"] for one in ours].count(gif) == 2
    assert [one["error"] for one in theirs] == [NO_PICTURE if one["error"] == gif else one["error"] for one in ours]
    assert theirs[1]["error"] == "The file holds 3 pictures; only still pictures are read."


def test_a_network_that_asks_for_the_version_of_its_weights_is_read_back() -> None:
    """mnasnet: torch keeps the version beside the weights, and a model file has none."""
    to = Preprocess(size=64, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    architecture = Architecture(name="mnasnet0_5", num_classes=2, channels=3, size=64)
    network = build(architecture)
    made = Bundle(architecture=architecture, preprocess=to, classes=("a", "b"), state=dict(network.state_dict()))
    given = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(made.module()(given), network.eval()(given))
