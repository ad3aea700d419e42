"""Before and around a training: dry run, smoke run, schedule, rate finder, time budget, lack of memory."""

import csv
import json
import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import tellapart, train
from PIL import Image
from safetensors.numpy import load_file
from torch import nn

from tellapart.data import seal
from tellapart.errors import UsageError
from tellapart.models.build import BUILDERS
from tellapart.models.plain import build_quick
from tellapart.recipe_values import seconds_of
from tellapart.run import Run
from tellapart.training.finder import Rise, rising
from tellapart.workflow import clock, pace
from tellapart.workflow.curves import in_letters
from tellapart.workflow.fitting import drawn_by_part

FEW = ("digits", "--limit", "200", "--no-test")


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "SECONDS", 0.05)


def left(at: Path) -> list[str]:
    return sorted(path.name for path in at.iterdir())


# --- dry run ----------------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_it_takes_and_leaves_nothing(tmp_path: Path) -> None:
    done = tellapart(tmp_path, "train", "digits", "--dry-run")
    assert (done.code, left(tmp_path)) == (0, [])
    assert "steps   560 in 28 epochs" in done.out
    assert "train.epochs = 28  (auto: for 1,259 training pictures)" in done.out
    assert "augment.shear" not in done.out  # one line for the preset is enough


def test_a_dry_run_as_json_has_every_number(tmp_path: Path) -> None:
    done = tellapart(tmp_path, "train", *FEW, "--epochs", "3", "--set", "train.save_every=1", "--dry-run", "--json")
    found = json.loads(done.out)
    assert (found["steps"], found["epochs"], len(found["rates"])) == (9, 3, 9)
    assert found["between"][0] <= found["seconds"] <= found["between"][1] * 1.01
    assert found["pace"]["low"] <= found["pace"]["high"]
    assert found["memory"] > 10**7
    assert found["settled"]["optim.lr"].startswith("0.1  (auto:")
    run = train(tmp_path, "real", *FEW, "--epochs", "3", "--set", "train.save_every=1")
    real = sum(path.stat().st_size for path in (run.at / "runs/real/checkpoints").rglob("*.*"))
    assert 0.7 * real < found["disk"]["of it checkpoints"] < 3 * real
    assert found["disk"]["run folder"] > found["disk"]["of it checkpoints"]


def test_a_dry_run_opens_no_sealed_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object) -> None:
        raise AssertionError("the seal was opened")

    monkeypatch.setattr(seal, "open_test", opened)
    for way in ("--dry-run", "--smoke", "--find-lr"):
        assert tellapart(tmp_path, "train", "digits", "--limit", "200", way).code == 0
    assert left(tmp_path) == []


def test_a_dry_run_names_every_file_that_is_left_out(class_folder: Path, tmp_path: Path) -> None:
    for n in range(7):
        (class_folder / "cat" / f"bad{n}.png").write_bytes(b"no picture")
    done = tellapart(tmp_path, "train", str(class_folder), "--on-bad", "skip", "--dry-run")
    assert done.code == 0
    assert sum("left out: " in line for line in done.err.splitlines()) == 7


@pytest.mark.parametrize(("values", "last"), [([0.0, 1.0], "       0  █"), ([1.0, 0.5, 0.0], "       0 ██")])
def test_a_curve_in_letters_is_as_high_as_its_values(values: list[float], last: str) -> None:
    lines = in_letters(values)
    assert (len(lines), lines[-1]) == (4, last)
    assert max(map(len, in_letters([1.0] * 1000))) == 9 + 60


# --- smoke ------------------------------------------------------------------------------------------------------------


def test_a_smoke_run_goes_through_everything_and_leaves_nothing(tmp_path: Path) -> None:
    done = tellapart(tmp_path, "train", *FEW, "--smoke")
    assert (done.code, left(tmp_path)) == (0, [])
    assert done.out.startswith("it works: step, validation, checkpoint")
    assert "tellapart-" not in done.out + done.err  # no word of the temporary place
    assert json.loads(tellapart(tmp_path, "train", *FEW, "--smoke", "--json").out)["works"] is True


def test_a_smoke_run_ends_with_the_error_a_training_would_have(tmp_path: Path) -> None:
    planted = tellapart(tmp_path, "train", *FEW, "--smoke", "--batch-size", "4000")
    assert (planted.code, "The batch of 4000 is larger" in planted.err) == (2, True)
    assert left(tmp_path) == []


def test_what_a_smoke_run_says_names_no_place_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cross_entropy = nn.functional.cross_entropy

    def diverged(*args: Any, **named: Any) -> torch.Tensor:
        return cross_entropy(*args, **named) * math.nan

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", diverged)
    done = tellapart(tmp_path, "train", *FEW, "--smoke")
    assert (done.code, left(tmp_path)) == (5, [])
    assert "Try a lower learning rate" in done.err
    assert "tellapart-" not in done.err


# --- the schedule -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "first", "last"),
    [
        ("one-cycle", 0.02, 0.0),
        ("cosine", 0.2, 0.0),
        ("linear", 0.2, 0.0),
        ("constant", 0.2, 0.2),
        ("plateau", 0.2, 0.2),
    ],
)
def test_the_schedule_is_listed_step_by_step(tmp_path: Path, schedule: str, first: float, last: float) -> None:
    words = ("--set", f"optim.schedule={schedule}", "--lr", "0.2", "--epochs", "50", "--plot-schedule", "rate.csv")
    done = tellapart(tmp_path, "train", *FEW, *words, "--dry-run")
    assert done.code == 0
    with (tmp_path / "rate.csv").open() as file:
        rows = list(csv.DictReader(file))
    rates = [float(row["lr"]) for row in rows]
    assert (len(rows), rows[0]["step"], rows[-1]["step"], rows[-1]["epoch"]) == (150, "1", "150", "50")
    assert (rates[0], max(rates)) == (pytest.approx(first), pytest.approx(0.2, rel=0.02))
    assert rates[-1] == pytest.approx(last, abs=0.003)
    assert ("when validation stops improving, which is not drawn" in done.err) == (schedule == "plateau")


def test_the_schedule_is_drawn_beside_a_training(tmp_path: Path) -> None:
    train(tmp_path, "a", *FEW, "--epochs", "2", "--plot-schedule", "rate.png")
    with Image.open(tmp_path / "rate.png") as image:
        assert image.size == (960, 540)
    logged = [one["lr"] for _, one in Run.open(tmp_path / "runs", "a").records() if one["kind"] == "epoch"]
    tellapart(tmp_path, "train", *FEW, "--epochs", "2", "--plot-schedule", "rate.csv", "--dry-run")
    with (tmp_path / "rate.csv").open() as file:
        assert float(list(csv.DictReader(file))[-1]["lr"]) == logged[-1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--plot-schedule x.jpg", "Expected --plot-schedule FILE, the file ending in .png or .csv. Received: 'x.jpg'."),
        ("--find-lr digits", "Expected SOURCE --find-lr FILE, the file ending in .png. Received: 'digits'."),
        ("--plot-schedule=", "Expected --plot-schedule FILE, the file ending in .png or .csv. Received: '.'."),
        ("--dry-run --smoke", "Asked for --dry-run and --smoke together."),
        ("--dry-run --folds 3", "Asked for --dry-run and --folds together."),
        ("--smoke --seeds 3", "Asked for --smoke and --seeds together."),
        ("--dry-run --debug", "Asked for --dry-run and --debug together."),
        ("--smoke --plot-schedule x.png", "Asked for --smoke and --plot-schedule together."),
        ("digits --find-lr --lr 0.1", "Asked for --find-lr and for a learning rate together."),
        ("--budget tomorrow", "train.budget: expected a time above 0, such as 90s, 10m or 2h. Received: 'tomorrow'."),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_done(tmp_path: Path, words: str, said: str) -> None:
    done = tellapart(tmp_path, "train", *words.split())
    assert (done.code, said in done.err, left(tmp_path)) == (2, True, [])


@pytest.mark.parametrize("flag", ["--plot-schedule", "--find-lr"])
def test_a_place_that_cannot_be_written_is_said_before_anything_is_done(tmp_path: Path, flag: str) -> None:
    (tmp_path / "folder.png").mkdir()
    for file, why in (("nowhere/x.png", "there is no folder nowhere"), ("folder.png", "it is a folder")):
        done = tellapart(tmp_path, "train", "digits", flag, file)
        assert done.code == 4
        assert f"error: {file} cannot be written: {why}." in done.err
    assert left(tmp_path) == ["folder.png"]


# --- the learning rate ------------------------------------------------------------------------------------------------


def test_a_rate_is_found_drawn_and_the_same_again(tmp_path: Path) -> None:
    done = tellapart(tmp_path, "train", "digits", "--find-lr", "found.png")
    assert (done.code, left(tmp_path)) == (0, ["found.csv", "found.png"])
    assert "next: tellapart train digits --lr 0." in done.out
    assert "training pictures only" in done.out
    again = json.loads(tellapart(tmp_path, "train", "digits", "--find-lr", "--json").out)
    with (tmp_path / "found.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["lr"]) for row in rows] == again["rise"]["rates"]
    assert [float(row["loss"]) for row in rows] == again["rise"]["losses"]
    smooth = [float(row["smoothed"]) for row in rows]
    assert again["rate"] == pytest.approx(float(rows[int(np.argmin(smooth))]["lr"]) / 3, rel=0.05)
    assert (again["diverged"], 0.03 < again["rate"] < 0.5) == (True, True)  # 0.03 to 0.5 are good ones for digits
    assert again["command"] == f"tellapart train digits --lr {again['rate']:g}"


def test_looking_for_a_rate_leaves_no_trace_in_a_training_after_it(tmp_path: Path) -> None:
    weights = []
    for name in ("before", "after"):
        train(tmp_path, name, *FEW, "--epochs", "1")
        weights.append(load_file(tmp_path / f"runs/{name}/model.safetensors"))
        assert tellapart(tmp_path, "train", *FEW, "--find-lr").code == 0
    assert all(np.array_equal(weights[0][name], tensor) for name, tensor in weights[1].items())


def test_the_loss_runs_off_when_its_mean_is_four_times_the_least() -> None:
    rates = rising(1e-5, 10.0, 120)
    np.testing.assert_allclose(np.diff(np.log(rates)), np.log(1e6) / 119)
    losses = [2.3] * 30 + [1.0] * 30
    by_hand = [float(np.average(losses[: n + 1], weights=0.9 ** np.arange(n, -1, -1))) for n in range(60)]
    assert Rise(rates=rates, losses=losses).smooth == pytest.approx(by_hand)
    assert not Rise(rates=rates, losses=losses).diverged
    assert Rise(rates=rates, losses=[*losses, *[30.0] * 3]).diverged


# --- the budget -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["10 minutes", "-1s", "0", "0s", "0.0m", "s", "", "1e3s", "nan", "10", "9" * 400 + "h"]
)
def test_a_budget_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"train\.budget: expected a time above 0"):
        seconds_of(text)


def known_pace(monkeypatch: pytest.MonkeyPatch, step: float, judging: float = 0.0, saving: float = 0.0) -> None:
    one = pace.Pace(first=step, step=step, low=step, high=step, steps=9, judging=judging, saving=saving, checkpoint=1)
    monkeypatch.setattr(pace, "measured", lambda _: one)


def test_a_budget_is_spent_on_steps_validation_and_saving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known_pace(monkeypatch, 0.5, judging=0.01, saving=3.0)
    done = tellapart(tmp_path, "train", "digits", "--budget", "10m", "--dry-run", "--json")
    found = json.loads(done.out)
    judged, each = 2.69, 20 * 0.5
    rest = 540 - 2.69 - 2.69 - 6.0  # nine tenths, less the last judgements and two checkpoints
    epochs = (found["steps"] + 19) // 20
    spent = found["steps"] * 0.5 + epochs * judged + 3.0 * (found["steps"] * 0.5 // 60)
    assert rest - each < spent <= rest
    assert found["settled"]["train.max_steps"] == f"{found['steps']}  (auto: 10m at 500 ms a step)"
    assert found["rates"][-1] < 0.001  # the schedule comes to rest within it
    assert found["settled"]["train.patience"].startswith(str(found["epochs"]))


def test_a_budget_does_not_exceed_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known_pace(monkeypatch, 0.001)
    for words, steps in ((("--epochs", "2"), 6), (("--set", "train.max_steps=5"), 5), ((), 300)):
        done = tellapart(tmp_path, "train", *FEW, "--budget", "2h", *words, "--dry-run", "--json")
        assert json.loads(done.out)["steps"] == steps


def test_a_budget_without_room_for_a_step_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known_pace(monkeypatch, 30.0)
    done = tellapart(tmp_path, "train", *FEW, "--budget", "20s")
    assert (done.code, "The budget of 20s has no room for one step" in done.err) == (2, True)
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_settled_budget_is_written_and_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known_pace(monkeypatch, 0.5)
    done = train(tmp_path, "a", *FEW, "--budget", "10s")
    recipe = (tmp_path / "runs/a/recipe.toml").read_text()
    values = tomllib.loads(recipe)["train"]
    assert f"max_steps = {values['max_steps']}  # auto: 10s at 500 ms a step" in recipe
    assert 8 <= values["max_steps"] <= 17
    assert done.run("a").status()["step"] == values["max_steps"]
    assert "budget of" not in done.err  # the clock had no need to step in


def test_the_clock_ends_a_training_politely_and_counts_over_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known_pace(monkeypatch, 1e-5)  # far too hopeful
    monkeypatch.setattr(clock.Clock, "seconds", lambda self: 0.0)
    words = (*FEW, "--budget", "50s", "--epochs", "4")
    train(tmp_path, "whole", *words)
    calls: list[float] = []

    def passing(self: clock.Clock) -> float:
        calls.append(self.before)
        return self.before + 10.0 * len(calls)

    monkeypatch.setattr(clock.Clock, "seconds", passing)
    done = train(tmp_path, "late", *words)
    assert "note: the budget of 50s was spent after step 4 of 12, before the learning rate had come to rest" in done.err
    status = done.run("late").status()
    assert (status["state"], status["step"], status["spent"] >= 50) == ("finished", 4, True)
    assert "validation accuracy" in done.out
    resumed = clock.Clock(done.run("late"), 50.0)
    assert resumed.spent()


def test_the_clock_goes_on_where_a_stopped_run_was(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "a")
    first = clock.Clock(run, 100.0)
    first.began -= 30.0
    first.note()
    second = clock.Clock(run, 100.0)
    assert second.seconds() == pytest.approx(30.0, abs=1.0)
    second.began -= 69.0
    assert not second.spent()
    second.began -= 2.0
    second.noted -= 2 * clock.NOTED_EVERY
    assert second.spent()
    assert run.status()["spent"] == pytest.approx(101.0, abs=1.0)


# --- lack of memory ---------------------------------------------------------------------------------------------------


def lacking(monkeypatch: pytest.MonkeyPatch, *, most: int, after: int = 0) -> None:
    """From the call `after` on, the network `quick` has no memory for more than `most` training pictures."""
    calls = []

    def full(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        calls.append(len(args[0]))
        if module.training and len(calls) > after and len(args[0]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    def built(a: Any) -> nn.Module:
        made = build_quick(a.channels, a.num_classes, a.size)
        made.register_forward_pre_hook(full)
        return made

    monkeypatch.setitem(BUILDERS, "quick", built)


QUICK = (*FEW, "--model", "quick", "--epochs", "2", "--batch-size", "32", "--set", "input.size=16", "--lr", "0.01")


def weights(at: Path, name: str) -> dict[str, np.ndarray]:
    return load_file(at / f"runs/{name}/model.safetensors")


@pytest.mark.parametrize("after", [1, 6])
def test_without_memory_a_step_is_taken_in_parts_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    train(tmp_path, "whole", *QUICK)
    with monkeypatch.context() as planted:
        lacking(planted, most=16, after=after)
        done = train(tmp_path, "parts", *QUICK)
    step = after  # the first call is the look at the network, then come the steps
    said = f"note: cpu has too little memory; from step {step} on a step is 2 parts (the same result up to rounding)"
    assert said in done.err
    for name, tensor in weights(tmp_path, "whole").items():
        np.testing.assert_allclose(tensor, weights(tmp_path, "parts")[name], atol=1e-4)
    logs = [[one["train_loss"] for _, one in Run.open(tmp_path / "runs", n).records()] for n in ("whole", "parts")]
    assert logs[0] == pytest.approx(logs[1], abs=1e-5)
    if after == 1:
        parts = ("--batch-size", "16", "--set", "train.accumulate=2")
        train(tmp_path, "asked", *(word for word in QUICK if word not in ("--batch-size", "32")), *parts)
        for name, tensor in weights(tmp_path, "asked").items():
            assert np.array_equal(tensor, weights(tmp_path, "parts")[name])


def test_without_memory_for_one_picture_the_training_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lacking(monkeypatch, most=0, after=1)
    done = tellapart(tmp_path, "train", *QUICK)
    assert (done.code, "too little memory for a batch of 1 pictures. " in done.err.replace("\nhint:", "")) == (2, True)
    assert "smaller --set input.size" in done.err


def test_a_retry_can_be_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lacking(monkeypatch, most=16, after=1)
    done = tellapart(tmp_path, "train", *QUICK, "--set", "machine.retry=never")
    assert (done.code, "Use --batch-size 16, with --set train.accumulate=2" in done.err) == (2, True)
    assert "from step" not in done.err


def test_a_network_that_normalises_over_the_batch_is_retried_when_asked_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backward, fails = torch.Tensor.backward, [1, 1]

    def full(self: torch.Tensor) -> None:
        if fails and fails.pop():
            raise torch.OutOfMemoryError("CUDA out of memory")
        backward(self)

    monkeypatch.setattr(torch.Tensor, "backward", full)
    done = tellapart(tmp_path, "train", *FEW, "--epochs", "1")
    assert done.code == 2
    assert "with --set machine.retry=always only, as the network normalises over each part" in done.err
    done = train(tmp_path, "asked", *FEW, "--epochs", "1", "--set", "machine.retry=always")
    assert "2 parts (not the same result, as the network normalises over each part)" in done.err


def test_what_of_a_network_depends_on_the_parts() -> None:
    assert drawn_by_part(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Dropout(0.0))) == ""
    assert drawn_by_part(nn.Sequential(nn.Dropout(0.5))) == "draws its dropout for each part"
    assert drawn_by_part(nn.Sequential(nn.BatchNorm2d(2))) == "normalises over each part"
    assert drawn_by_part(nn.Sequential(nn.BatchNorm2d(2)).eval()) == ""


def test_another_runtime_error_is_not_taken_for_a_lack_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(torch.Tensor, "backward", broken)
    done = tellapart(tmp_path, "train", *FEW)
    assert (done.code, "something else" in done.err) == (1, True)
