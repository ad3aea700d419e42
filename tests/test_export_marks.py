"""Export where a picture may have several classes: the end is a sigmoid, and every class at its threshold is said."""

import io
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from commands import Done, tellapart, train
from marked import make_marked
from PIL import Image
from test_export import built, modules, ran

from tellapart.models.build import build
from tellapart.models.bundle import Bundle, load_bundle, save_bundle
from tellapart.shipping import faults
from tellapart.shipping.parity import Sample, compared, probabilities
from tellapart.workflow import export as exporting

NAMES = ("<b>&x'</b>", "green cross", "red square")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The run `a` on pictures of no to three shapes, whose test stays sealed."""
    at = tmp_path_factory.mktemp("shapes")
    make_marked(at / "shapes", 240, names=NAMES)
    words = ("--several", ";", "--epochs", "20", "--set", "model.width=8", "--no-test")
    return train(at, "a", "shapes/labels.csv", *words)


@pytest.fixture(scope="module")
def bundle(shapes: Done) -> Bundle:
    return load_bundle(shapes.run("a").bundle)


@pytest.fixture(scope="module")
def samples(shapes: Done) -> list[Sample]:
    pictures, why = exporting._pictures(shapes.at / "runs", "a")
    assert pictures is not None, why
    return exporting._samples(pictures, "validation", 256)


@pytest.fixture(scope="module")
def shipped(shapes: Done) -> Path:
    """The folder of the export, with the golden samples and a picture of nothing as .png and .ppm files."""
    done = tellapart(shapes.at, "export", "onnx", "a")
    assert done.code == 0, done.err
    folder = shapes.at / "a-onnx"
    dark = np.random.default_rng(9).integers(0, 40, (16, 16, 3), np.uint8)
    Image.fromarray(dark).save(folder / "dark.png")
    for n, one in enumerate(load_bundle(shapes.run("a").bundle).goldens):
        (folder / f"{n}.png").write_bytes(one.file)
    for file in list(folder.glob("*.png")):
        Image.open(file).convert("RGB").save(file.with_suffix(".ppm"))
    return folder


def expected(bundle: Bundle, shares: Sequence[float]) -> dict[str, float]:
    """What a picture is said to have."""
    every = zip(bundle.classes, shares, bundle.thresholds, strict=True)
    return {name: share for name, share, least in every if share >= least}


def test_the_samples_that_travel_are_right_by_the_thresholds_and_verify_replays_them(shapes: Done) -> None:
    bundle = load_bundle(shapes.run("a").bundle)
    _, marks = make_marked(shapes.at / "again", 240, names=NAMES)
    seen = {
        tuple(np.asarray(Image.open(path)).ravel()[:200].tolist()): int(path.stem)
        for path in (shapes.at / "shapes" / "img").glob("*.png")
    }
    assert bundle.goldens
    for one in bundle.goldens:
        pixels = np.asarray(Image.open(io.BytesIO(one.file)))
        row = seen[tuple(pixels.ravel()[:200].tolist())]
        assert set(expected(bundle, one.shares)) == {n for n, has in zip(NAMES, marks[row], strict=True) if has}
    done = tellapart(shapes.at, "verify", "a")
    assert (done.code, f"on all {len(bundle.goldens)} golden samples" in done.out) == (0, True)


def test_the_file_ends_in_a_sigmoid_and_brings_the_thresholds(shipped: Path, bundle: Bundle) -> None:
    said = {one.key: one.value for one in onnx.load(shipped / "model.onnx").metadata_props}
    about = json.loads(said["tellapart"])
    assert (tuple(about["classes"]), tuple(about["thresholds"])) == (bundle.classes, bundle.thresholds)
    assert tuple(float(said[f"threshold.{k}"]) for k in range(3)) == bundle.thresholds
    session = ort.InferenceSession(str(shipped / "model.onnx"))
    pictures = np.random.default_rng(5).integers(0, 256, (3, 30, 21, 3), np.uint8)
    shares, logits = map(np.asarray, session.run(None, {"pictures": pictures}))
    assert np.abs(1 / (1 + np.exp(-logits.astype(np.float64))) - shares).max() < 1e-6
    certificate = json.loads((shipped / "parity.json").read_text())
    assert (certificate["sound"], certificate["several"], certificate["same"]) == (True, True, certificate["n"])


def test_the_certificate_counts_the_exact_matches(shapes: Done, shipped: Path, bundle: Bundle, samples) -> None:
    done = tellapart(shapes.at, "export", "check", "a", str(shipped / "model.onnx"))
    assert (done.code, "clear pictures get the same classes (" in done.out) == (0, True)
    shares = probabilities(bundle, samples)
    matches = [
        set(expected(bundle, row)) == {n for n, has in zip(NAMES, one.marks, strict=True) if has}
        for row, one in zip(shares, samples, strict=True)
    ]
    assert f"exact match {100 * np.mean(matches):.1f} % before" in done.out


def test_one_class_too_many_is_another_answer(bundle: Bundle, samples: list[Sample]) -> None:
    ours = probabilities(bundle, samples)
    theirs = ours.copy()
    theirs[3, 1] = 1 - ours[3, 1]  # and the likeliest class may well stay the same
    found = compared(bundle, samples, ours, theirs, arithmetic="int8", about="x")
    assert (found.same, found.agreed) == (len(samples) - 1, found.clear - 1)
    assert found.worst[0].key == samples[3].key
    assert found.worst[0].ours.startswith(f"{NAMES[1]} ")
    lost = ours.copy()
    lost[::3] = 1 - ours[::3]
    assert not compared(bundle, samples, ours, lost, arithmetic="int8", about="x").sound
    for nothing in (np.nan, np.inf):
        sick = ours.copy()
        sick[0, 0] = nothing
        assert not compared(bundle, samples, ours, sick, arithmetic="float32", about="x").sound


def test_faults_are_named(bundle: Bundle, samples: list[Sample]) -> None:
    ours = probabilities(bundle, samples)
    logits = np.log(ours / (1 - ours))
    soft = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert faults.named(bundle, samples, soft).startswith("its probabilities are of a softmax over all classes instead")
    said = "it gives logits, or other numbers that are no probabilities; they agree with ours after a sigmoid"
    assert faults.named(bundle, samples, logits) == said
    order = faults.named(bundle, samples, ours[:, [2, 0, 1]])
    assert order.startswith("the classes are in another order: its number 0 is 'red square', our number 2")
    wrong = replace(bundle, preprocess=replace(bundle.preprocess, mean=(0.0,) * 3))
    assert faults.named(bundle, samples, probabilities(wrong, samples)).startswith(
        "the mean is not subtracted (so done"
    )
    other = replace(bundle, state=build(bundle.architecture, seed=7).state_dict())
    assert "other weights" in (lost := faults.named(bundle, samples, probabilities(other, samples))) or "kappa" in lost


@pytest.mark.parametrize("way", ["state-dict", "torch-export", "openvino"])
def test_every_way_out_answers_as_the_model(way: str, shapes: Done, bundle: Bundle, tmp_path: Path) -> None:
    if way == "openvino":
        pytest.importorskip("openvino", reason="openvino is not installed")
    done = tellapart(shapes.at, "export", way, "a", "--out", str(tmp_path / "out"))
    assert (done.code, "parity passed: " in done.out) == (0, True), done.err
    file = tmp_path / "out" / ("thresholds.json" if way == "state-dict" else "model.json")
    found: Any = json.loads(file.read_text())
    assert tuple(found if way == "state-dict" else found["thresholds"]) == bundle.thresholds


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_smaller_numbers_come_with_the_change_of_exact_matches(precision: str, shapes: Done, tmp_path: Path) -> None:
    words = ("a", "--precision", precision, "--out", str(tmp_path / "out"), "--input", "square")
    done = tellapart(shapes.at, "export", "onnx", *words)
    assert (done.code, "exact match " in done.out) == (0, True), done.out + done.err


def test_a_model_file_alone_is_proved_by_its_samples(bundle: Bundle, tmp_path: Path) -> None:
    save_bundle(bundle, tmp_path / "alone.safetensors")
    done = tellapart(tmp_path, "export", "state-dict", "alone.safetensors")
    assert (done.code, f"of all {len(bundle.goldens)} golden samples" in done.out) == (0, True), done.err
    assert "exact match" not in done.out  # which classes they have is not kept


def test_the_python_program_says_every_class_at_its_threshold(shipped: Path, bundle: Bundle) -> None:
    pngs = [f"{n}.png" for n in range(len(bundle.goldens))]
    rows = [
        json.loads(line) for line in ran([sys.executable, "-I", "predict.py", *pngs, "dark.png"], shipped).splitlines()
    ]
    agree(rows, bundle)


def test_the_javascript_program_says_every_class_at_its_threshold(shipped: Path, bundle: Bundle) -> None:
    node = modules(shipped)
    ppms = [f"{n}.ppm" for n in range(len(bundle.goldens))]
    agree([json.loads(line) for line in ran([node, "predict.mjs", *ppms, "dark.ppm"], shipped).splitlines()], bundle)


def agree(rows: Sequence[dict[str, Any]], bundle: Bundle) -> None:
    """The golden samples have their classes, and the dark picture none."""
    *known, dark = rows
    assert dark["said"] == []
    assert len(known) == len(bundle.goldens)
    for row, golden in zip(known, bundle.goldens, strict=True):
        assert dict(row["said"]) == pytest.approx(expected(bundle, golden.shares), abs=1e-4)


def test_the_cpp_program_says_every_class_at_its_threshold(shipped: Path, bundle: Bundle) -> None:
    built(shipped)
    ppms = [f"{n}.ppm" for n in range(len(bundle.goldens))]
    found: dict[str, dict[str, float]] = {name: {} for name in ppms}
    *rows, last = (
        line.split("\t") for line in ran(["./predict", "model.onnx", *ppms, "dark.ppm"], shipped).splitlines()
    )
    for file, k, share, name in rows:
        assert name == bundle.classes[int(k)]
        found[file][name] = float(share)
    assert last == ["dark.ppm", "-", "-", "none of the classes"]
    for name, golden in zip(ppms, bundle.goldens, strict=True):
        assert found[name] == pytest.approx(expected(bundle, golden.shares), abs=1e-4)
