"""Named steps, transforms given from Python, presets, and what the commands show of them."""

import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import tellapart, train
from pictures import make_folder
from PIL import Image
from torchvision.transforms import v2

from tellapart import Asking, Recipe
from tellapart import train as trained
from tellapart.data.augment import network_input
from tellapart.data.chance import Purpose, uniform
from tellapart.data.loader import Batch
from tellapart.data.per_sample import chained, per_sample
from tellapart.data.steps import CHAINS, STEPS, made, parsed
from tellapart.errors import UsageError
from tellapart.recipe_augment import COLOURS, OFF, PRESETS
from tellapart.run import Run
from tellapart.workflow import assemble, fitting
from tellapart.workflow.prepare import prepare
from tellapart.workflow.resume import resume
from tellapart.workflow.settle import Settled

NOISE = np.random.default_rng(5).integers(0, 256, (100, 100, 3), np.uint8)
ROOT = Path(__file__).parent.parent


def after(chain: str, picture: Any = NOISE) -> Any:
    value = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    for step in parsed(chain):
        value = made(step)(value)
    return value


def shape(chain: str, picture: Any = NOISE) -> tuple[int, ...]:
    value = after(chain, picture)
    return tuple(value.shape) if isinstance(value, torch.Tensor) else (value.height, value.width)


# --- chains -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        ("center_crop:10,to_tensor", (3, 10, 10)),
        ("to_tensor,resize:32x32", (3, 32, 32)),
        ("center_crop:20x40,resize:16", (16, 32)),
        ("center_crop:20x40,resize:32x32", (32, 32)),
        ("resize:32,pad:1x2", (36, 34)),
        ("resize:32,pad:1x2x3x4", (38, 36)),
        ("resize:32,random_crop:32,padding=4", (32, 32)),
        ("resize:32,random_crop:30,padding=4,fill=255x0x0,mode=constant", (30, 30)),
        ("random_crop:180,pad_if_needed=true", (180, 180)),
        ("notes", (3, 180, 180)),
    ],
)
def test_a_chain_gives_the_size_it_says(chain, expected):
    assert shape(chain) == expected


def test_an_array_is_taken_as_the_picture_it_is():
    (resize,) = map(made, parsed("resize:32x48"))
    assert np.array_equal(np.asarray(resize(NOISE)), np.asarray(resize(Image.fromarray(NOISE))))
    assert resize(NOISE).size == (48, 32)


def test_the_chain_of_the_notes_ends_between_minus_one_and_one():
    tensor = after("notes")
    assert -1 <= float(tensor.min()) < float(tensor.max()) <= 1
    assert after(CHAINS["notes"]).shape == tensor.shape


def test_to_tensor_and_half_give_the_numbers_of_the_notes():
    rows = np.broadcast_to(np.arange(1, 6, dtype=np.uint8)[None, :, None], (5, 5, 3)).copy()
    assert [round(value, 4) for value in after("to_tensor", rows)[0, 0].tolist()] == [
        *(0.0039, 0.0078, 0.0118, 0.0157, 0.0196)
    ]
    ends = np.array([[[0] * 3, [255] * 3]], np.uint8)
    assert after("to_tensor,normalize:half", ends)[0, 0].tolist() == [-1, 1]
    imagenet = after("to_tensor,normalize:imagenet", ends)[:, 0, 0].tolist()
    assert imagenet == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])


@pytest.mark.parametrize(
    ("mode", "expected"), [("reflect", [3, 2, 1, 2, 3, 2, 1]), ("symmetric", [2, 1, 1, 2, 3, 3, 2])]
)
def test_padding_modes_of_the_step_on_a_row_of_three(mode, expected):
    row = np.array([[1, 2, 3]] * 3, np.uint8)
    assert np.asarray(after(f"pad:2,mode={mode}", row))[2].tolist() == expected
    tensor = torch.from_numpy(row)[None]
    assert after(f"pad:2,mode={mode}", tensor)[0, 2].tolist() == expected


def test_flips_are_what_they_say():
    assert np.array_equal(np.asarray(after("flip:1")), NOISE[:, ::-1])
    assert np.array_equal(np.asarray(after("flip_vertical,p=1")), NOISE[::-1])
    assert np.array_equal(np.asarray(after("flip:0")), NOISE)


@pytest.mark.parametrize("name", STEPS)
def test_every_step_works_on_its_example(name):
    kind = STEPS[name]
    before = "to_tensor," if kind.needs == "tensor" else ""
    chance = "" if kind.options.keys() != {"p"} else ":1"
    torch.manual_seed(2)
    value = after(before + name + (f":{kind.example}" if kind.example else chance))
    assert value is not None
    if name in ("translate", "brightness", "noise", "rotate", "flip", "scale"):
        plain = after("to_tensor")
        changed = value if isinstance(value, torch.Tensor) else after("to_tensor", value)
        assert changed.shape == plain.shape
        assert not torch.equal(changed, plain)


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        ("normalize:half,to_tensor", "normalize stands before to_tensor.*Put to_tensor before normalize"),
        ("resize:8,noise", "noise stands before to_tensor"),
        ("to_tensor,normalize:half,brightness:0.2", "brightness stands after normalize.*before normalize"),
        ("resiz:8", "Unknown step 'resiz'. Did you mean 'resize'"),
        ("", "Unknown step ''"),
        ("flip,,flip", "Unknown step ''"),
        ("padding=3", "Unknown step 'padding=3'"),
        ("pad", "The step pad needs a value. For example pad:4"),
        ("resize:big", "resize: size takes numbers such as 32 or 32x48. Received: 'big'"),
        ("pad:2,mode=mirror", "pad: padding_mode takes one of constant, edge, reflect, symmetric. Received: 'mirror'"),
        ("random_crop:8,pad_if_needed=maybe", "takes true or false"),
        ("to_tensor,normalize:full", "normalize: by takes half .* or imagenet. Received: 'full'"),
        ("flip:often", "flip: p takes a number"),
        ("random_crop:8,paddin=4", "The step random_crop has no option 'paddin'. Did you mean 'padding'"),
        ("pad:2,padding=3", "given twice"),
        ("to_tensor:3", "The step to_tensor takes no value"),
        ("trivial_augment,p=3", "has no option 'p'"),
        ("brightness:-1", "The step brightness:-1 cannot be made: .*non negative"),
        (
            "random_crop:180",
            r"The step random_crop:180 cannot take this picture: Required crop size.*pad_if_needed=true",
        ),
    ],
)
def test_a_chain_that_cannot_work_is_refused_with_a_way_out(chain, message):
    with pytest.raises(UsageError) as error:
        after(chain)
    assert re.search(message, str(error.value))


# --- one picture at a time --------------------------------------------------------------------------------------------


def batch_of(number: int = 6, side: int = 8, channels: int = 3) -> Batch:
    rows = 50 + np.arange(number)
    images = np.random.default_rng(1).integers(0, 256, (number, side, side, channels), np.uint8)
    chance = uniform(1, Purpose.AUGMENT, 2, rows)
    return Batch(torch.from_numpy(images), torch.arange(number), rows, chance, 1, 2)


def shaky(picture: torch.Tensor) -> torch.Tensor:
    """A transform that draws from all three generators."""
    value = picture.float() / 255 * random.random() * np.random.random() * torch.rand(())
    return value.clamp(0, 1)


@pytest.mark.parametrize("transform", [shaky, chained("random_crop:8,padding=2,mode=reflect,flip,rotate:20")])
def test_a_transform_depends_on_the_picture_and_not_on_its_batch(transform):
    change, batch = per_sample(transform), batch_of()
    whole = change(batch).images
    assert torch.equal(torch.cat([change(part).images for part in reversed(batch.parts(6))]).flip(0), whole)
    assert (whole.dtype, whole.shape) == (torch.uint8, batch.images.shape)
    assert not torch.equal(whole, batch.images)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transform_that_does_nothing_changes_nothing(channels):
    batch = batch_of(channels=channels)
    for transform in (lambda picture: picture, v2.ToDtype(torch.float32, scale=True), chained("to_tensor")):
        assert torch.equal(per_sample(transform)(batch).images, batch.images)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (v2.CenterCrop(6), r"gives \(3, 6, 6\); expected a tensor of \(3, 8, 8\).*random_crop:8"),
        (lambda picture: picture.numpy(), "gives ndarray; expected a tensor"),
        (v2.Normalize, "fails: TypeError: Normalize.* a class has to be made first"),
        (lambda picture: picture[:, 99], r"fails: IndexError: index 99 .* called with a tensor of uint8 \(3, 8, 8\)"),
        (lambda picture: picture.float(), r"gives torch.float32 from 2 to 255; expected uint8, or floats from 0 to 1"),
        (lambda picture: picture.long(), "gives torch.int64"),
        (lambda picture: picture.float() / 0, "expected uint8, or floats from 0 to 1.*input.normalize"),
    ],
)
def test_what_a_transform_gives_back_is_checked(transform, message):
    with pytest.raises(UsageError) as error:
        per_sample(transform)(batch_of())
    assert re.search(message, str(error.value))


# --- in training ------------------------------------------------------------------------------------------------------

QUICK = ("--epochs", "2", "--model", "linear", "--no-test", "--batch-size", "6")


def losses(at: Path, name: str) -> list[tuple[float, float]]:
    lines = (at / "runs" / name / "metrics.jsonl").read_text().splitlines()
    return [(r["train_loss"], r["val_loss"]) for r in map(json.loads, lines) if r["kind"] == "epoch"]


@pytest.mark.parametrize(
    "asked",
    [
        ("--augment", "strong"),
        (
            "--augment",
            "strong",
            "--set",
            "augment.mixup=0.2",
            "--set",
            "augment.cutmix=1",
            "--set",
            "augment.policy=rand",
        ),
        ("--set", "augment.steps=random_crop:12,padding=2,mode=edge,flip"),
    ],
)
def test_training_is_the_same_for_any_number_of_workers_and_parts(class_folder, tmp_path, asked):
    train(tmp_path, "one", "./pets", *QUICK, *asked)
    more = ("--batch-size", "3", "--set", "train.accumulate=2", "--set", "machine.workers=2")
    train(tmp_path, "two", "./pets", *QUICK, *asked, *more)
    assert np.allclose(losses(tmp_path, "one"), losses(tmp_path, "two"), rtol=1e-4)
    train(tmp_path, "none", "./pets", *QUICK, "--augment", "none")
    assert not np.allclose(losses(tmp_path, "one"), losses(tmp_path, "none"), rtol=1e-3)


def test_pictures_that_judge_are_never_augmented(class_folder):
    recipe = Recipe.from_values({"data.source": str(class_folder), "augment.preset": "strong", "model.name": "linear"})
    pieces = assemble.put_together(prepare(Settled(recipe, {})), torch.device("cpu"))
    seen: list[torch.Tensor] = []
    pieces.model.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    for _ in range(2):
        fitting.validated(pieces.model, pieces)
    pictures = pieces.prepared.pictures
    raw = torch.from_numpy(pictures.pixels.gather(pictures.index.rows("validation")))
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], network_input(raw, pictures.preprocess))


def test_a_run_with_a_transform_goes_on_only_with_a_transform(class_folder, tmp_path):
    values = {"data.source": str(class_folder), "model.name": "linear", "train.epochs": 3, "machine.device": "cpu"}

    def asking(name: str, **more: Any) -> Asking:
        return Asking(runs=tmp_path / "runs", name=name, open_test=False, **more)

    flip = v2.RandomHorizontalFlip(1.0)
    stopped: Any = trained(Recipe.from_values(values), asking("half", transform=flip))
    for event in stopped:
        if type(event).__name__ == "Epoch":
            stopped.close()  # as if the program had ended here
    run = Run.open(tmp_path / "runs", "half")
    assert 'preset = "none"' in (run.folder / "recipe.toml").read_text()
    with pytest.raises(UsageError, match="was trained with a transform from Python"):
        resume(run, asking("half"))
    assert list(resume(run, asking("half", transform=flip)))
    list(trained(Recipe.from_values(values), asking("whole", transform=flip)))
    list(trained(Recipe.from_values(values), asking("plain")))
    assert losses(tmp_path, "half") == losses(tmp_path, "whole")
    assert losses(tmp_path, "plain") != losses(tmp_path, "whole")
    run.set_status(state="interrupted", transform=False)
    with pytest.raises(UsageError, match="was not trained with a transform"):
        resume(run, asking("half", transform=flip))
    with pytest.raises(UsageError, match=r"a transform and for augment\.rotate together"):
        list(trained(Recipe.from_values({**values, "augment.rotate": 5}), asking("both", transform=flip)))
    with pytest.raises(UsageError, match=r"a transform and for augment\.steps together"):
        list(trained(Recipe.from_values({**values, "augment.steps": "flip"}), asking("both", transform=flip)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "augment.steps=flip", "--augment", "light"), "Asked for steps and for preset light together"),
        (
            ("--set", "augment.steps=flip", "--set", "augment.rotate=5"),
            "Asked for steps and for augment.rotate together",
        ),
        (("--set", "augment.steps=flpi"), "Unknown step 'flpi'. Did you mean 'flip'?"),
        (("--set", "augment.steps=to_tensor,normalize:half"), "augment.steps cannot hold normalize"),
        (("--set", "augment.steps=center_crop:6"), "expected a tensor of (3, 12, 12)"),
        (("--set", "augment.steps=random_crop:99"), "cannot take this picture"),
        (
            ("--set", "input.channels=1", "--set", "augment.hue=0.1"),
            "augment.hue means nothing here: the pictures are grey",
        ),
        (("--augment", "storng"), "Did you mean 'strong'?"),
        (("--set", "input.flip=true"), "Did you mean 'augment.flip'?"),
        (("--set", "augment.crop=0"), "augment.crop: expected a number, above 0, at most 1, or auto"),
    ],
)
def test_what_cannot_be_honoured_is_refused(class_folder, tmp_path, words, message):
    done = tellapart(tmp_path, "train", "./pets", *QUICK, *words)
    assert done.code == 2
    assert message in " ".join(done.err.replace("hint: ", "").split())


# --- presets ----------------------------------------------------------------------------------------------------------


def settled(folder: Path, **values: Any) -> dict[str, Any]:
    recipe = Recipe.from_values({"data.source": str(folder), **{f"augment.{k}": v for k, v in values.items()}})
    found = prepare(Settled(recipe, {})).recipe.values()
    return {path.removeprefix("augment."): value for path, value in found.items() if path.startswith("augment.")}


def test_colour_pictures_are_changed_lightly_and_grey_ones_not_at_all(class_folder, tmp_path):
    colour = settled(class_folder)
    assert (colour["preset"], colour["shift"], colour["flip"]) == ("light", 0.1, True)
    assert {key: value for key, value in colour.items() if key in OFF} == PRESETS["light"]
    mixed = settled(class_folder, preset="medium", rotate=3)
    assert {key: mixed[key] for key in OFF} == {**PRESETS["medium"], "rotate": 3.0}
    for path in class_folder.rglob("*.png"):
        Image.open(path).convert("L").save(path)
    grey = settled(class_folder)
    assert grey["preset"] == "none"
    assert {key: grey[key] for key in OFF} == PRESETS["none"]
    strong = settled(class_folder, preset="strong")
    assert {key: strong[key] for key in OFF} == {**PRESETS["strong"], "flip": False, **dict.fromkeys(COLOURS, 0.0)}
    assert settled(class_folder, preset="light", flip=True)["flip"] is True


def test_the_page_shows_the_presets_as_they_are():
    page = (ROOT / "docs" / "augmentation.md").read_text(encoding="utf-8")
    header, *lines = re.findall(r"^\| (\w+) \| (.*?) \| (.*?) \| (.*?) \| (.*?) \|$", page, re.M)
    assert header == ("setting", *PRESETS)
    assert [line[0] for line in lines if line[0] in OFF] == list(OFF)
    for name, *shown in lines:
        assert shown == [str(preset[name]).lower() for preset in PRESETS.values()], name
    assert "```mermaid" in page


def test_each_preset_holds_every_setting_and_more_than_the_one_before():
    for preset in PRESETS.values():
        assert list(preset) == list(OFF)
    sizes = [sum(preset[key] != OFF[key] for key in OFF) for preset in PRESETS.values()]
    assert sizes == sorted(set(sizes))
    assert {"rotate", "flip", "scale", "crop"} <= {key for key in OFF if PRESETS["strong"][key] != OFF[key]}


def test_a_script_of_a_run_says_what_it_has_no_words_for(class_folder, tmp_path):
    train(tmp_path, "medium", "./pets", *QUICK, "--augment", "medium")
    done = tellapart(tmp_path, "export", "script", "medium")
    assert done.code == 2
    assert "has no words for augment.rotate" in done.err
    train(tmp_path, "light", "./pets", *QUICK, "--augment", "light")
    assert tellapart(tmp_path, "export", "script", "light").code == 0


def test_runs_show_the_gap_of_the_best_epoch(class_folder, tmp_path):
    train(tmp_path, "r", "./pets", *QUICK)
    (row,) = json.loads(tellapart(tmp_path, "runs", "--json").out)["runs"]
    records = map(json.loads, (tmp_path / "runs/r/metrics.jsonl").read_text().splitlines())
    best = [r for r in records if r["kind"] == "epoch" and r["best"]][-1]
    assert row["gap"] == pytest.approx(best["val_loss"] - best["train_loss"])
    assert f"{row['gap']:+.3f}" in tellapart(tmp_path, "runs").out
    (tmp_path / "runs/r/metrics.jsonl").unlink()
    assert json.loads(tellapart(tmp_path, "runs", "--json").out)["runs"][0]["gap"] is None


# --- what the commands show -------------------------------------------------------------------------------------------


def test_steps_are_shown_one_tile_and_one_line_each(tmp_path):
    Image.fromarray(NOISE[:20, :40]).save(tmp_path / "p.png")
    chain = "resize:16,center_crop:10,to_tensor,normalize:half"
    done = tellapart(tmp_path, "data", "show", "p.png", "--steps", chain, "--out", "strip.png")
    assert done.code == 0, done.err
    lines = [re.split(r"\s{2,}", line) for line in done.out.splitlines()]
    assert [line[0] for line in lines] == ["p.png", *chain.split(",")]
    assert [line[1].split(",")[0] for line in lines] == [
        *("20 x 40 x 3 uint8", "16 x 32 x 3 uint8", "10 x 10 x 3 uint8", "3 x 10 x 10 float32", "3 x 10 x 10 float32")
    ]
    with Image.open(tmp_path / "strip.png") as strip:
        assert strip.width == 6 + 5 * 102
    again = tellapart(tmp_path, "data", "show", "p.png", "--steps", "notes")
    assert "3 x 180 x 180" in again.out
    assert tellapart(tmp_path, "data", "show", "p.png", "--steps", "notes").out == again.out  # chance has a seed


def test_grey_pictures_and_odd_names_are_walked_through(tmp_path):
    Image.fromarray(NOISE[:, :, 0]).save(tmp_path / "a\nb.png")
    done = tellapart(
        tmp_path, "data", "show", "a\nb.png", "--steps", "resize:9,to_tensor,normalize:half", "--out", "o.png"
    )
    assert done.code == 0, done.err
    assert "1 x 9 x 9 float32" in done.out
    assert done.out.startswith("a b.png  ")


def test_data_steps_names_every_step(tmp_path):
    said = tellapart(tmp_path, "data", "steps").out
    assert [line.split()[0].split(":")[0] for line in said.splitlines()] == [*STEPS, *CHAINS]
    assert {"rotate", "flip", "scale", "random_crop", "translate", "brightness", "noise"} <= set(
        re.findall(r"^\w+", said, re.M)
    )


def test_what_the_network_sees_is_drawn_class_by_class(class_folder, tmp_path):
    words = ("--augment", "none", "--set", "augment.shift=0.2")
    done = tellapart(tmp_path, "data", "show", "./pets", "--sees", "sees.png", *words)
    assert done.code == 0, done.err
    with Image.open(tmp_path / "sees.png") as sheet:
        pixels = np.asarray(sheet)
    tile = lambda row, column: pixels[6 + row * 120 :, 6 + column * 102 :][:96, :96]  # noqa: E731
    assert (pixels.shape[1] - 6) // 102 == 6
    for row in range(3):
        assert np.array_equal(tile(row, 0), tile(row, 1))  # 12 x 12 already: judged as it is
        shown = {tile(row, column).tobytes() for column in range(2, 6)}
        assert len(shown) >= 3


def test_steps_can_be_seen_too(class_folder, tmp_path):
    words = ("--set", "augment.steps=flip:1")
    assert tellapart(tmp_path, "data", "show", "./pets", "--sees", "sees.png", *words).code == 0
    pixels = np.asarray(Image.open(tmp_path / "sees.png"))
    assert np.array_equal(pixels[6:102, 108:204], pixels[6:102, 210:306][:, ::-1])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("./pets", "--steps", "flip"), "--steps takes one picture file. Received: ./pets."),
        (("./pets", "--augment", "strong"), "--augment and --set say what --sees FILE.png draws."),
        (("./pets", "--sees", "s.png", "--steps", "flip"), "--steps goes with --out alone"),
        (("./pets", "--sees", "s.png", "--augment", "medum"), "Did you mean 'medium'?"),
        (("./pets", "--sees", "s.png", "--set", "augment.steps=flpi"), "Unknown step 'flpi'"),
        (("./pets", "--sees", "s.png", "--set", "augment"), "--set takes SECTION.KEY=VALUE"),
        (("./pets", "--sees", "s.png", "--part", "train"), "--sees with flags that choose pictures"),
        (("./pets", "--sees", "s.png", "--out", "t.png"), "--out is for other sheets."),
        (("./pets/cat/00.png", "--steps", "random_crop:40"), "Give pad_if_needed=true"),
    ],
)
def test_what_cannot_be_shown_is_said(class_folder, tmp_path, words, message):
    done = tellapart(tmp_path, "data", "show", *words)
    assert done.code == 2
    assert message in done.err
    assert not list(tmp_path.glob("*.png"))


def test_the_sheet_keeps_the_test_sealed(tmp_path):
    make_folder(tmp_path / "parts", parts=("train", "val", "test"), per_class=3)
    for path in (tmp_path / "parts/test").rglob("*.png"):
        Image.new("RGB", (12, 12), (255, 0, 255)).save(path)
    tellapart(tmp_path, "data", "show", "./parts", "--sees", "s.png", "--augment", "none")
    pixels = np.asarray(Image.open(tmp_path / "s.png")).reshape(-1, 3)
    assert not (pixels == (255, 0, 255)).all(1).any()
