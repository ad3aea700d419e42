"""Promises of docs/requirements.csv that no other file shows: commands as typed, and the loop under a watch."""

import json
import re
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from commands import Done, process, tellapart, train
from pictures import make_folder
from PIL import Image
from safetensors.torch import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from tellapart.data.augment import network_input
from tellapart.data.loader import Loader
from tellapart.data.pictures import MemoryPixels, Pictures
from tellapart.data.sources import SOURCES, cifar, idx, open_source
from tellapart.data.square import fitted
from tellapart.evaluation import predict as predicting
from tellapart.models.build import Architecture, build
from tellapart.models.bundle import load_bundle
from tellapart.preprocess import Preprocess
from tellapart.recipe import Recipe
from tellapart.training.losses import make_loss
from tellapart.training.optim import Sgd
from tellapart.workflow import assemble as path_of
from tellapart.workflow import devices, fitting, models, prepare, settle

ONE_STEP = ("--set", "train.max_steps=1", "--no-test")


def pieces_on(device: str = "cpu") -> fitting.Pieces:
    prepared = prepare.prepare(settle.Settled(Recipe(), {}), progress=lambda done, total: None)
    return path_of.put_together(prepared, torch.device(device))


def curves_of(done: Done, name: str) -> dict[str, list[int]]:
    (file,) = (done.run(name).folder / "tensorboard").glob("events.out.tfevents*")
    events: Any = EventAccumulator(str(file), size_guidance={"scalars": 0}).Reload()
    return {tag: [event.step for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Done:
    at = tmp_path_factory.mktemp("digits")
    train(at, "first", "digits", "--epochs", "3", "--no-test")
    long = ("--epochs", "4", "--batch-size", "8", "--set", "train.max_steps=500")
    return train(at, "second", "digits", "--model", "linear", *long, "--no-test")


def test_the_doctor_says_where_it_runs_and_ends_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDA_DEFAULT_ENV", "notes")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    done = tellapart(tmp_path, "doctor")
    said = dict(re.findall(r"^(\S+(?: \S+)*)  +(.*)$", done.out, re.M))
    assert done.code == 0, done.out
    assert (said["executable"], said["python"]) == (sys.executable, ".".join(map(str, sys.version_info[:3])))
    assert said["environment"] == f"{sys.prefix} (conda: notes)"
    assert said["torch"].split("+")[0] == torch.__version__.split("+")[0]  # a build's own suffix is not always recorded
    assert said["cuda runtime of torch"].startswith(torch.version.cuda or "none")
    assert [said["driver"][:16], said["cuda available"]] == ["no NVIDIA driver", str(torch.cuda.is_available())]
    assert (said["device used"], bool(said["system"])) == (devices.available()[0], True)


def test_the_cache_is_one_folder_that_can_be_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLAPART_DATA", str(tmp_path / "kept"))
    assert tellapart(tmp_path, "cache", "path").out == f"{tmp_path / 'kept'}\n"
    file = tmp_path / "kept" / "mnist" / idx.MNIST.files[0].name
    file.parent.mkdir(parents=True)
    file.touch()
    assert (tellapart(tmp_path, "cache", "clear").code, file.exists()) == (2, True)
    assert (tellapart(tmp_path, "cache", "clear", "--yes").code, file.exists()) == (0, False)


def test_neither_opencv_nor_tensorflow_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cv2", "tensorflow"):
        monkeypatch.setitem(sys.modules, name, None)
    done = train(tmp_path, "a", "digits", "--model", "linear", "--device", "cpu", *ONE_STEP)
    assert ("on cpu (" in done.err, curves_of(done, "a")["epoch/val_loss"]) == (True, [1])
    assert tellapart(tmp_path, "train", "--help").code == 0


def test_an_unguarded_script_trains_with_spawn_and_workers_where_no_gpu_is_seen(tmp_path: Path) -> None:
    words = ["train", "digits", "--model", "linear", "--run", "a", "--set", "machine.workers=2", *ONE_STEP]
    lines = "import multiprocessing\nmultiprocessing.set_start_method('spawn')\nfrom tellapart.cli import main\n"
    (tmp_path / "unguarded.py").write_text(f"{lines}main({words!r})\n")
    hidden = {**process()[1], "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "unguarded.py"], cwd=tmp_path, env=hidden, capture_output=True, text=True)
    assert (done.returncode, "on cpu (" in done.stderr) == (0, True), done.stderr


def test_files_and_folders_are_described_and_a_folder_needs_no_settings(tmp_path: Path) -> None:
    make_folder(tmp_path / "insects", classes=("bees", "ants"), parts=("train", "valid"))
    one_part = tellapart(tmp_path, "data", "show", "insects/train").out
    assert re.findall(r"^ +(\d)  (\w+) +(\d+)$", one_part, re.M) == [("0", "ants", "12"), ("1", "bees", "12")]
    both = json.loads(tellapart(tmp_path, "data", "show", "insects", "--json").out)
    assert both["parts"] == {"train": [12, 12], "validation": [12, 12]}
    batch = tellapart(tmp_path, "data", "batch", "insects", "--batch-size", "8").out
    assert all(shape in batch for shape in ("(8, 12, 12, 3) torch.uint8", "(8, 3, 12, 12) torch.float32"))
    for value in (0, 255):
        Image.new("RGB", (7, 5), (value,) * 3).save(tmp_path / "plain.png")
        assert f" values {value} to {value}\n" in tellapart(tmp_path, "data", "show", "plain.png").out
    done = tellapart(tmp_path, "train", "insects")
    assert (done.code, "network: small" in done.err) == (0, True)


def test_cifar10_names_its_classes_and_first_test_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    what, chance = replace(cifar.CIFAR10, rows=(10,) * 6), np.random.default_rng(0)
    (tmp_path / what.binary_folder).mkdir()
    for file in what.binary_files:
        raw = b"".join(bytes([(3 + n) % 10]) + chance.bytes(3072) for n in range(10))
        (tmp_path / what.binary_folder / file).write_bytes(raw)
    monkeypatch.setitem(SOURCES, "cifar10", lambda root: cifar.read(root, what))
    show = ("data", "show", "cifar10", "--root", str(tmp_path))
    shown = re.findall(r"^ +\d  ([a-z]+) ", tellapart(tmp_path, *show).out, re.M)
    assert " ".join([*shown, shown[5]]) == "airplane automobile bird cat deer dog frog horse ship truck dog"
    first = tellapart(tmp_path, *show, "--part", "test", "--index", "0").out
    assert re.fullmatch(r"picture 0: test/0, 32 x 32 RGB, values \d+ to \d+, class 3 cat\n", first)


@pytest.mark.parametrize("model", ["small", "mlp:256"])
def test_mnist_trains_in_one_channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    small, chance = replace(idx.MNIST, counts=(300, 60)), np.random.default_rng(0)
    for file, count in zip(small.files, (300, 300, 60, 60), strict=True):
        labels = np.arange(count, dtype=np.uint8) % 10
        values = chance.integers(0, 256, (count, 28, 28), np.uint8) if "images" in file.name else labels
        header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
        (tmp_path / file.name.removesuffix(".gz")).write_bytes(header + values.tobytes())
    monkeypatch.setitem(SOURCES, "mnist", lambda root: idx.read(root, small))
    words = ("--root", str(tmp_path), "--epochs", "1", "--limit", "256", "--model", model)
    bundle = load_bundle(train(tmp_path, "a", "mnist", *words).run("a").bundle)
    assert (bundle.preprocess.channels, bundle.classes) == (1, tuple("0123456789"))


def test_rows_of_pixels_become_planes_of_float32_of_the_range_asked_for() -> None:
    planes = torch.arange(12).reshape(3, 2, 2)  # R11 R12 R21 R22, then G, then B
    assert planes.flatten().tolist() == list(range(12))
    for kind in (torch.uint8, torch.int64):
        raw = Preprocess(size=4, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
        made = network_input(planes.permute(1, 2, 0)[None].to(kind), raw)
        assert (made.dtype, (made * 255).round().flatten().tolist()) == (torch.float32, list(range(12)))
    half = Preprocess(size=180, channels=3, mean=(0.5,) * 3, std=(0.5,) * 3)
    square = fitted(np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8), half)
    made = network_input(torch.from_numpy(square.copy())[None], half)
    assert made.shape == (1, 3, 180, 180)
    assert -1.000001 <= float(made.min()) < 0 < float(made.max()) <= 1.000001


def test_batches_are_shuffled_by_the_seed_and_the_last_may_be_short_or_left_out() -> None:
    index = open_source("digits")
    pixels = np.stack([np.asarray(index.store.read(row)) for row in range(10)])
    pictures = Pictures(index, Preprocess(size=8, channels=1), MemoryPixels(pixels))

    def loader(**more: Any) -> Loader:
        return Loader(pictures=pictures, rows=np.arange(10), batch_size=4, device=torch.device("cpu"), **more)

    def order(epoch: int = 0, **more: Any) -> tuple[int, ...]:
        return tuple(int(row) for batch in loader(**more).epoch(epoch) for row in batch.rows)

    assert [len(batch) for batch in loader().epoch(0)] == [4, 4, 2]
    assert [len(batch) for batch in loader(drop_last=True).epoch(0)] == [4, 4]
    assert len({order(seed=1), order(seed=1), order(seed=2), order(1, seed=1), tuple(range(10))}) == 4
    assert (order(seed=1, shuffle=False), Recipe().train.shuffle) == (tuple(range(10)), True)
    with pytest.raises(TypeError):
        cast(Any, loader())[0]


def test_figures_do_not_depend_on_the_size_of_the_validation_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces, found = pieces_on(), []
    for size in (64, 100, 7):
        monkeypatch.setattr(predicting, "BATCH", size)
        found.append(fitting.validated(pieces.model, pieces))
    assert {(accuracy, n) for _, accuracy, n in found} == {(found[0][1], 269)}
    assert [loss for loss, _, _ in found] == pytest.approx([found[0][0]] * 3, abs=1e-6)


def test_the_order_in_memory_does_not_change_the_loss(tmp_path: Path) -> None:
    found = []
    for way in ("true", "false"):
        words = ("--set", f"machine.channels_last={way}", "--set", "train.log_every=1", "--set", "train.max_steps=2")
        records = train(tmp_path, way, "digits", *words, "--no-test").run(way).records()
        found.append([record["loss"] for _, record in records if record["kind"] == "step"])
    assert (len(found[0]), found[1]) == (2, pytest.approx(found[0], abs=1e-3))


def test_the_loop_goes_in_order_and_keeps_no_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order, alive = [], weakref.WeakSet()
    step, zero_grad, plain = Sgd.step, Sgd.zero_grad, make_loss(Recipe().loss)

    def entered(model: nn.Module, _: object) -> None:
        assert torch.is_grad_enabled() == model.training
        order.append("forward" if all(module.training for module in model.modules()) else "judged")

    def built(*words: Any, **more: Any) -> nn.Module:
        model = build(*words, **more)
        model.register_forward_pre_hook(entered)
        next(model.parameters()).register_hook(lambda grad: order.append("backward"))
        return model

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        def lives_as_long_as_the_graph(grad: Tensor) -> None: ...

        logits.register_hook(lives_as_long_as_the_graph)
        alive.add(lives_as_long_as_the_graph)
        assert len(alive) <= 3
        order.append("loss")
        return plain.losses(logits, labels)

    monkeypatch.setattr(models, "build", built)
    monkeypatch.setattr(path_of, "make_loss", lambda *_, **__: replace(plain, losses=loss))
    monkeypatch.setattr(Sgd, "zero_grad", lambda self: order.append("zero_grad") or zero_grad(self))
    monkeypatch.setattr(Sgd, "step", lambda self, lr, **more: order.append("step") or step(self, lr, **more))
    train(tmp_path, "a", "digits", "--limit", "200", "--batch-size", "2", "--epochs", "3")
    epoch = ["zero_grad", "forward", "loss", "backward", "step"] * 70 + ["judged"]
    assert order[1:-1] == epoch * 3  # before it the network is looked at, after it its graph is drawn


def test_the_network_is_on_its_device_before_the_optimiser_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, make = [], path_of.make_optimiser
    kinds = lambda model: {param.device.type for param in model.parameters()}  # noqa: E731
    monkeypatch.setattr(path_of, "make_optimiser", lambda model, optim: seen.append(kinds(model)) or make(model, optim))
    pieces_on("meta")
    assert seen == [{"meta"}]


def test_only_a_network_with_a_norm_differs_in_training_and_none_ends_in_a_softmax() -> None:
    images = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for name, same in (("quick", True), ("linear", True), ("mlp:16", True), ("small", False), ("resnet18", False)):
        model = build(Architecture(name=name, num_classes=10, channels=3, size=32))
        assert torch.equal(model.train()(images), model.eval()(images)) == same
        kinds = {type(module) for module in model.modules()}
        assert (nn.Softmax in kinds, nn.Conv2d in kinds) == (False, name in ("quick", "small", "resnet18"))


def test_a_larger_weight_decay_is_a_stronger_penalty(tmp_path: Path) -> None:
    norms = []
    for decay in ("0", "0.5", "5"):
        words = ("--model", "linear", "--epochs", "1", "--set", f"optim.weight_decay={decay}", "--no-test")
        state = load_bundle(train(tmp_path, decay, "digits", *words).run(decay).bundle).state
        norms.append(max(float(tensor.norm()) for tensor in state.values()))
    assert norms[0] > 1.1 * norms[1] > 1.1 * norms[2] > 0


def test_each_run_has_its_own_curves_and_500_steps_give_five_points(digits: Done) -> None:
    for name in ("first", "second"):
        curves = curves_of(digits, name)
        assert {"epoch/train_loss", "epoch/val_loss", "epoch/val_accuracy", "epoch/lr"} <= set(curves)
        assert all(steps == sorted(set(steps)) for steps in curves.values())
    assert [curves[tag] for tag in ("train/loss", "epoch/val_loss")] == [[100, 200, 300, 400, 500], [1, 2, 3, 4]]


def test_predict_names_each_picture_once_and_the_same_way_twice(digits: Done) -> None:
    index, folder = open_source("digits"), digits.at / "ones"
    folder.mkdir()
    for row in np.flatnonzero(index.labels == 1)[:40]:
        Image.fromarray(np.asarray(index.store.read(int(row)))[:, :, 0]).save(folder / f"{row:04d}.png")
    one = min(folder.iterdir())
    Image.open(one).resize((40, 20)).convert("RGBA").save(digits.at / "wide.png")
    words = ("predict", "first", str(one), "wide.png", "ones", "--verbose")
    done = tellapart(digits.at, *words)
    lines = done.out.splitlines()
    assert (done.code, len(lines), "size (40, 20), input (1, 1, 8, 8)" in lines[1]) == (0, 42, True)
    assert all(re.search(r"\.png  \d \(\d\) \d+\.\d %  ", line) for line in lines)
    assert sum("  1 (1) " in line.split("%")[0] for line in lines[2:]) > 30
    bundle = load_bundle(digits.run("first").bundle)
    assert {tensor.device.type for tensor in [*bundle.state.values(), *bundle.module().parameters()]} == {"cpu"}
    assert tellapart(digits.at, *words, "--json").out == tellapart(digits.at, *words, "--json").out


def test_foreign_model_files_are_refused_with_the_reason(tmp_path: Path) -> None:
    model = build(Architecture(name="linear", num_classes=2, channels=1, size=4))
    torch.save(model, tmp_path / "whole.pth")
    save_file(model.state_dict(), tmp_path / "state.safetensors")
    whole, state = (tellapart(tmp_path, "predict", name, ".") for name in ("whole.pth", "state.safetensors"))
    assert (whole.code, state.code) == (4, 4)
    assert "is a pickle, as torch.save writes them: loading one can run any code" in whole.err
    assert "holds weights, but not of which network, for which classes" in state.err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_model_trained_on_the_gpu_predicts_where_no_gpu_is_seen(tmp_path: Path) -> None:
    pieces = pieces_on(str(devices.choose("auto")))
    assert (next(pieces.model.parameters()).is_cuda, next(pieces.train.epoch(0)).images.is_cuda) == (True, True)
    done = train(tmp_path, "a", "digits", "--device", "cuda", "--set", "train.max_steps=2", "--no-test")
    assert "on cuda:0 (" in done.err
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    words, environment = process("predict", "a", "a.png")
    hidden = {**environment, "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(words, cwd=tmp_path, env=hidden, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout[:7]) == (0, "a.png  "), ended.stderr
