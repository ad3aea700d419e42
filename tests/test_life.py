"""The life of a run: it goes on, is extended, branched and repeated; what it was is neither lost nor passed off."""

import json
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Done, tellapart, train
from pictures import make_folder
from safetensors.torch import load_file

from tellapart.errors import Interrupted
from tellapart.models.bundle import load_bundle
from tellapart.recipe import Recipe
from tellapart.recipe_values import origins_of
from tellapart.run import Run
from tellapart.workflow import prove
from tellapart.workflow.begin import recipe_of
from tellapart.workflow.branch import branch
from tellapart.workflow.events import Step
from tellapart.workflow.extend import extend
from tellapart.workflow.resume import newest
from tellapart.workflow.same import changed, conditions, fingerprint
from tellapart.workflow.train import Asking
from tellapart.workflow.train import train as trained

FEW = ("digits", "--limit", "180", "--model", "linear", "--batch-size", "32", "--set", "train.log_every=1")
STEPS = 4
"""Steps of an epoch of FEW."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs `a` (two epochs, test opened) and `s` (the same, schedule step, sealed)."""
    at = tmp_path_factory.mktemp("life")
    train(at, "a", *FEW, "--epochs", "2")
    train(at, "s", *FEW, "--epochs", "2", "--no-test", "--set", "optim.schedule=step", "--set", "optim.step_every=1")
    return at


@pytest.fixture
def at(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def done(at: Path, *words: str, code: int = 0) -> Done:
    ended = tellapart(at, *words)
    assert ended.code == code, ended.err
    return ended


def records(run: Run, kind: str, name: str) -> list[Any]:
    return [record[name] for _, record in run.records() if record["kind"] == kind]


def stopped(begin: Callable[[Asking], Iterable[Any]], steps: int, **more: Any) -> None:
    """Begin a training in this process and stop it after so many steps."""
    endings: list[Interrupted] = []
    asking = Asking(**{"open_test": False, "asked": lambda: endings[0] if endings else None, **more})

    def go() -> None:
        seen = 0
        for event in begin(asking):
            seen += isinstance(event, Step)
            if seen == steps:
                endings.append(Interrupted("stopped"))

    with pytest.raises(Interrupted):
        go()


def read_board(run: Run) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(run.folder / "tensorboard"))
    board.Reload()
    return board


# --- extend -----------------------------------------------------------------------------------------------------------


def test_a_schedule_at_rest_falls_once_more_over_the_added_epochs(at: Path) -> None:
    ended = done(at, "extend", "a", "--epochs", "5", "--no-test")
    assert "extended from 2 to 5 epochs: the schedule one-cycle had come to rest" in ended.err
    assert "the rate falls once more, from 0.001 to 0" in ended.err
    rates = records(ended.run("a"), "step", "lr")
    added = 3 * STEPS
    assert rates[2 * STEPS :] == pytest.approx([0.001 * (1 - n / added) for n in range(added)])
    assert max(rates[: 2 * STEPS]) > 0.009
    again = done(at, "extend", "a", "--epochs", "6", "--no-test").run("a")
    assert records(again, "step", "lr")[5 * STEPS] == pytest.approx(0.001)
    assert done(at, "extend", "a", "--epochs", "7", "--lr", "0.5", "--no-test").err.count("from 0.5 to 0") == 1
    assert recipe_of(again).train.patience == 7


@pytest.mark.parametrize("schedule", ["constant", "step", "plateau"])
def test_a_schedule_without_rest_goes_on_as_in_one_long_run(tmp_path: Path, schedule: str) -> None:
    words = (*FEW, "--no-test", "--set", f"optim.schedule={schedule}", "--set", "optim.warmup=0")
    words += ("--set", "optim.step_every=1") if schedule == "step" else ()
    train(tmp_path, "short", *words, "--epochs", "2")
    long = train(tmp_path, "long", *words, "--epochs", "4").run("long")
    ended = done(tmp_path, "extend", "short", "--epochs", "4", "--no-test")
    assert f"the schedule {schedule} goes on as it was" in ended.err
    first, second = fingerprint(long), fingerprint(ended.run("short"))
    assert {name for name in first if first[name] != second[name]} == {"records"}  # they say "epoch 1 of 2"
    assert records(long, "step", "loss") == records(ended.run("short"), "step", "loss")


@pytest.mark.parametrize("more", [(), ("train.swa=0.6",), ("train.ema=0.9", "optim.name=adam")])
def test_an_extension_that_is_stopped_goes_on_to_the_same_bits(tmp_path: Path, more: tuple[str, ...]) -> None:
    words = [word for setting in more for word in ("--set", setting)]
    train(tmp_path, "whole", *FEW, *words, "--epochs", "2", "--no-test")
    shutil.copytree(tmp_path / "runs/whole", tmp_path / "runs/cut")
    whole = done(tmp_path, "extend", "whole", "--epochs", "4", "--no-test").run("whole")
    cut = Run.open(tmp_path / "runs", "cut")
    stopped(lambda asking: extend(cut, 4, asking), 5)
    assert cut.status()["state"] == "interrupted"
    done(tmp_path, "resume", "cut", "--no-test")
    assert fingerprint(cut) == fingerprint(whole)
    assert load_bundle(cut.bundle).state.keys() == newest(cut.folder / "checkpoints")[1].model.keys()  # type: ignore[union-attr]
    best = newest(cut.folder / "checkpoints")[1]
    assert best is not None
    assert all(torch.equal(best.model[name], w) for name, w in load_bundle(cut.bundle).state.items())


def test_a_run_that_was_told_no_test_keeps_it_sealed_when_it_is_resumed_or_extended(tmp_path: Path) -> None:
    values = {"data.source": "digits", "data.limit": 180, "model.name": "linear", "train.epochs": 3}
    for name, told in (("trying", False), ("final", True)):
        how = {"runs": tmp_path / "runs", "name": name, "open_test": told}
        stopped(lambda asking: trained(Recipe.from_values(values), asking), 3, **how)
    said = done(tmp_path, "resume", "trying").out
    assert "the test part is still sealed" in said
    assert not (tmp_path / "runs/openings.jsonl").exists()
    said = done(tmp_path, "extend", "trying", "--epochs", "4").out
    assert "the test part is still sealed" in said
    assert not (tmp_path / "runs/openings.jsonl").exists()
    assert "never opened before" in done(tmp_path, "resume", "final").out
    assert len((tmp_path / "runs/openings.jsonl").read_text().splitlines()) == 1
    assert "opened" in done(tmp_path, "test", "trying").out


def test_no_test_that_is_said_at_a_resume_holds_for_the_next(tmp_path: Path) -> None:
    train(tmp_path, "a", *FEW, "--epochs", "1")
    run = Run.open(tmp_path / "runs", "a")
    stopped(lambda asking: extend(run, 3, asking), 2)  # it tells no_test
    assert "still sealed" in done(tmp_path, "resume", "a").out


def test_curves_join_without_overlap(at: Path) -> None:
    pytest.importorskip("tensorboard")
    run = Run.open(at / "runs", "a")
    stopped(lambda asking: extend(run, 4, asking), 2)
    with run.folder.joinpath("metrics.jsonl").open("a") as torn:
        torn.write('{"kind": "step", "step": 11, "epoch": 2, "loss": 1.0, "lr": 1.0, "grad_norm": 1.0}\n{"kind": "st')
    done(at, "resume", "a", "--no-test")
    assert records(run, "step", "step") == [*range(1, 4 * STEPS + 1)]
    assert records(run, "epoch", "epoch") == [0, 1, 2, 3]
    board = read_board(run)
    assert [event.step for event in board.Scalars("train/loss")] == [*range(1, 4 * STEPS + 1)]
    assert [event.step for event in board.Scalars("epoch/val_loss")] == [1, 2, 3, 4]


def test_what_a_run_was_is_kept_and_the_second_opening_counts(at: Path) -> None:
    run = Run.open(at / "runs", "a")
    recipe, test, figures = (
        (run.folder / "recipe.toml").read_text(),
        run.predictions("test").read_bytes(),
        run.status()["figures"],
    )
    said = done(at, "extend", "a", "--epochs", "3").out
    assert "opened once before, last by a: the more often" in said
    assert (run.folder / "recipe-1.toml").read_text() == recipe
    assert run.predictions("test-1").read_bytes() == test
    entry = run.status()["extended"][0]
    assert (entry["epoch"], entry["step"], entry["figures"]) == (2, 2 * STEPS, figures)
    assert load_bundle(run.bundle).origin["extended"][0]["epoch"] == 2
    assert "extended at epoch 2" in done(at, "runs").out
    origins = origins_of((run.folder / "recipe.toml").read_text())
    assert (origins["train.epochs"], origins["train.log_every"]) == ("tellapart extend", "--set")
    ledger = (at / "runs/openings.jsonl").read_text().splitlines()
    assert [json.loads(line)["extended"] for line in ledger] == [0, 1]
    assert "opened once before, last by a" in done(at, "test", "a").out  # judged again, and not opened again
    assert (at / "runs/openings.jsonl").read_text().splitlines() == ledger


def test_predictions_of_the_model_before_are_not_judged_as_its_own(at: Path) -> None:
    assert "never opened before" in done(at, "test", "a").out
    said = done(at, "extend", "a", "--epochs", "3", "--no-test").out
    assert "the test part is still sealed" in said
    assert not Run.open(at / "runs", "a").predictions("test").exists()
    assert "opened once before, last by a" in done(at, "test", "a").out


def test_what_ended_the_run_no_longer_ends_it(tmp_path: Path) -> None:
    train(tmp_path, "a", *FEW, "--no-test", "--epochs", "3", "--set", "train.max_steps=6", "--set", "train.target=1")
    ended = done(tmp_path, "extend", "a", "--epochs", "4", "--no-test")
    assert "train.max_steps and train.target no longer end it" in ended.err
    assert records(ended.run("a"), "step", "step")[-1] == 6 + 2 * STEPS
    assert records(ended.run("a"), "step", "lr")[-1] == pytest.approx(0.001 / (2 * STEPS))


def test_a_kill_between_the_recipe_and_the_status_leaves_the_run_as_it_was(at: Path) -> None:
    run = Run.open(at / "runs", "a")
    text = (run.folder / "recipe.toml").read_text()
    run.write("recipe-1.toml", text)
    run.write("recipe.toml", text.replace("epochs = 2 ", "epochs = 9 "))
    assert recipe_of(run).train.epochs == 2
    assert done(at, "extend", "a", "--epochs", "3", "--no-test").run("a").status()["epoch"] == 3
    run.write("recipe.toml", text.replace("epochs = 2 ", "epochs = 9 "))
    assert "recipe.toml is not as the run wrote it" in done(at, "reproduce", "a", code=7).err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nope", "--epochs", "3"), "There is no run 'nope'"),
        (("a", "--epochs", "2"), "has trained 2 epochs, and --epochs 2 is the number in all"),
        (("s", "--epochs", "3", "--lr", "0.1"), "The schedule step goes on by itself, so --lr means nothing here"),
        (("a", "--epochs", "3", "--lr", "0"), "not in the range x>0"),
        (("a",), "Missing option '--epochs'"),
    ],
)
def test_an_extension_that_cannot_be_is_refused(finished: Path, words: tuple[str, ...], said: str) -> None:
    before = (finished / "runs/a/status.json").read_text()
    assert said in done(finished, "extend", *words, code=2).err
    assert (finished / "runs/a/status.json").read_text() == before


@pytest.mark.parametrize("state", ["interrupted", "running"])
def test_only_a_finished_run_is_extended_or_repeated(at: Path, state: str) -> None:
    Run.open(at / "runs", "a").set_status(state=state)
    for verb, more in (("extend", ("--epochs", "3")), ("reproduce", ())):
        ended = done(at, verb, "a", *more, code=2)
        assert f"The run a is {state}, not finished" in ended.err
        assert "`tellapart resume a`" in ended.err


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_a_run_that_is_being_written_is_not_extended(at: Path) -> None:
    with Run.open(at / "runs", "a").alone():
        assert "being written by process" in done(at, "extend", "a", "--epochs", "3", code=6).err


def test_without_its_last_checkpoint_a_run_is_not_extended_nor_its_extension_resumed(at: Path) -> None:
    run = Run.open(at / "runs", "a")
    stopped(lambda asking: extend(run, 4, asking), 2)
    for folder in (run.folder / "checkpoints").glob("step-*"):
        (folder / "optimiser.safetensors").write_bytes(b"torn")
    lost = done(at, "resume", "a", code=4).err
    assert f"began this part after step {2 * STEPS}, and no whole checkpoint is left since then" in lost
    shutil.rmtree(at / "runs/s/checkpoints")
    assert "no whole checkpoint with the optimiser's state" in done(at, "extend", "s", "--epochs", "3", code=2).err


# --- resume -----------------------------------------------------------------------------------------------------------


def changed_environment(run: Run, **other: Any) -> None:
    path = run.folder / "environment.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **other}))


@pytest.mark.parametrize("other", [{}, {"torch": "2.0.0", "device": "cpu (7 threads)"}])
def test_resume_says_under_which_conditions_the_bits_are_equal(at: Path, other: dict[str, str]) -> None:
    run = Run.open(at / "runs", "s")
    run.set_status(state="interrupted")
    changed_environment(run, **other)
    said = done(at, "resume", "s", "--no-test").err
    assert ("as if never stopped, to the last bit: still cpu (1 thread), torch" in said) == (not other)
    assert ("changed since the run began: device cpu (7 threads) → cpu" in said) == bool(other)
    assert ("torch 2.0.0 → " in said) == bool(other)
    assert [entry["step"] for entry in run.status().get("went_on", [])] == [2 * STEPS] * bool(other)


def test_what_differs_between_two_conditions_is_named() -> None:
    here = conditions(torch.device("cpu"))
    assert changed(here, here) == []
    assert changed({}, here) == []  # of an older run nothing is known
    other = {**here, "cores": 99, "code": "0", "packages": {**here["packages"], "numpy": "1.0", "gone": "2"}}
    numpy = here["packages"]["numpy"]
    said = [f"cores 99 → {here['cores']}", f"numpy 1.0 → {numpy}", "gone 2 → None", "the code of tellapart"]
    assert changed(other, here) == said


# --- branch -----------------------------------------------------------------------------------------------------------


def test_a_branch_starts_from_the_weights_it_names(at: Path) -> None:
    said = done(at, "branch", "a", "--run", "b", "--epochs", "1", "--lr", "1e-9", "--from", "last")
    assert "b starts from step-000008 of a: its weights and the state of its optimiser" in said.err
    assert "opened once before, last by a" in said.out
    parent, run = said.run("a"), said.run("b")
    first, last = run.folder / "checkpoints/step-000000", parent.folder / "checkpoints/step-000008"
    for name in ("model.safetensors", "optimiser.safetensors"):
        assert (first / name).read_bytes() == (last / name).read_bytes()
    assert records(run, "epoch", "val_loss")[-1] == pytest.approx(records(parent, "epoch", "val_loss")[-1], abs=1e-5)
    lineage = run.status()["parent"]
    assert (lineage["run"], lineage["id"], lineage["step"]) == ("a", parent.status()["id"], 8)
    assert lineage == load_bundle(run.bundle).origin["parent"]
    assert lineage["sha256"] == fingerprint(parent)["model"]
    assert "from step 8 of a" in done(at, "runs").out
    rows = json.loads(done(at, "runs", "--json").out)["runs"]
    assert {row["name"]: row["lineage"] for row in rows}["b"] == "from step 8 of a"


def test_what_was_found_out_is_found_out_again_and_what_was_asked_stays(at: Path) -> None:
    said = done(at, "branch", "a", "--run", "b", "--epochs", "1", "--optimizer", "adam", "--no-test")
    assert "with a fresh optimiser" in said.err
    recipe = recipe_of(said.run("b"))
    assert (recipe.optim.lr, recipe.train.log_every, recipe.train.patience) == (pytest.approx(3e-4), 1, 1)
    assert origins_of((said.run("b").folder / "recipe.toml").read_text())["train.log_every"] == "run a: --set"


def test_a_branch_of_an_extended_run_has_the_settings_it_began_with(at: Path) -> None:
    done(at, "extend", "a", "--epochs", "3", "--no-test")
    recipe = recipe_of(done(at, "branch", "a", "--run", "b", "--no-test").run("b"))
    assert (recipe.train.epochs, recipe.optim.warmup, recipe.optim.lr) == (2, 0.2, 0.01)


def test_the_best_weights_are_those_that_were_judged(tmp_path: Path) -> None:
    train(tmp_path, "a", *FEW, "--epochs", "1", "--no-test", "--set", "train.ema=0.9")
    parent = Run.open(tmp_path / "runs", "a")
    list(branch(parent, {"train.epochs": 1}, Asking(runs=tmp_path / "runs", name="b", open_test=False)))
    first = load_file(tmp_path / "runs/b/checkpoints/step-000000/model.safetensors")
    judged = load_bundle(parent.bundle).state
    live = load_file(parent.folder / "checkpoints/step-000004/model.safetensors")
    assert all(torch.equal(first[name], judged[name]) for name in first)
    assert not all(torch.equal(first[name], live[name]) for name in first)
    average = load_file(tmp_path / "runs/b/checkpoints/step-000000/average.safetensors")
    assert int(average.pop("count")) == 0
    assert all(torch.equal(average[name], first[name]) for name in average)


@pytest.mark.parametrize("stop", [1, 6])
def test_a_branch_that_is_stopped_goes_on_to_the_same_bits(at: Path, stop: int) -> None:
    whole = done(at, "branch", "a", "--run", "whole", "--seed", "5", "--no-test").run("whole")
    parent = Run.open(at / "runs", "a")
    stopped(lambda asking: branch(parent, {"train.seed": 5}, asking), stop, runs=at / "runs", name="cut")
    if stop == 1:  # killed before anything but its first weights was saved
        shutil.rmtree(at / "runs/cut/checkpoints/step-000001-mid")
    done(at, "resume", "cut", "--no-test")
    cut = Run.open(at / "runs", "cut")
    assert fingerprint(cut) == fingerprint(whole)
    cut.set_status(state="interrupted")
    for folder in (cut.folder / "checkpoints").glob("step-*"):
        (folder / "model.safetensors").write_bytes(b"")
    assert "began this part after step 0" in done(at, "resume", "cut", code=4).err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--set", "data.split_seed=1"), "data.split_seed cannot change in a branch"),
        (("--set", "data.source=digits"), "data.source cannot change in a branch"),
        (("--model", "mlp:8"), "The weights of a do not fit this network"),
        (("--from", "step-8"), "The run a keeps no checkpoint 'step-8'. Did you mean"),
        (("--from", "../../s/checkpoints/step-000008"), "keeps no checkpoint '../"),
        (("--set", "optim.momentum=0.5", "--optimizer", "adam"), "optim.momentum means nothing with optim.name = adam"),
        (("--model", "resnet81"), "Unknown model 'resnet81'"),
        (("digits",), "Got unexpected extra argument (digits)"),
        (("--run", "a"), "exists already"),
    ],
)
def test_a_branch_that_cannot_be_is_refused_and_leaves_nothing(
    finished: Path, words: tuple[str, ...], said: str
) -> None:
    ended = done(finished, "branch", "a", *words, code=2)
    assert said in ended.err.replace("\nhint: ", " ")
    assert sorted(path.name for path in (finished / "runs").iterdir() if path.name[0] != ".") == [
        "a",
        "openings.jsonl",
        "s",
    ]


def test_a_branch_needs_a_checkpoint(at: Path) -> None:
    shutil.rmtree(at / "runs/a/checkpoints")
    assert "stopped before the first one" in done(at, "branch", "a", code=2).err


@pytest.mark.parametrize("verb", ["branch", "reproduce"])
def test_other_pictures_are_refused(tmp_path: Path, verb: str) -> None:
    make_folder(tmp_path / "pets")
    train(tmp_path, "a", "./pets", "--model", "linear", "--epochs", "1", "--batch-size", "8", "--no-test")
    (tmp_path / "elsewhere").mkdir()
    there = tellapart(tmp_path / "elsewhere", verb, str(tmp_path / "runs/a"), "--run", "b")
    assert there.code == 0, there.err  # a relative path is meant from where the run began
    assert done(tmp_path / "elsewhere", "reproduce", "b", "--run", "c").code == 0
    picture = next((tmp_path / "pets/cat").iterdir())
    picture.unlink()
    assert "are no longer those that a was trained with" in done(tmp_path, verb, "a", "--run", "d", code=7).err
    assert not (tmp_path / "runs/d").exists()


# --- reproduce --------------------------------------------------------------------------------------------------------


def test_a_run_repeats_to_the_last_bit_with_its_branches_and_extensions(at: Path) -> None:
    done(at, "branch", "a", "--run", "b", "--optimizer", "adam", "--no-test")
    done(at, "extend", "b", "--epochs", "3", "--lr", "0.002", "--no-test")
    ledger = (at / "runs/openings.jsonl").read_text()
    for name in ("a", "b"):
        again = done(at, "reproduce", name, "--run", f"{name}2")
        assert "bit-equal: the same to the last bit" in again.out
        assert "different" not in again.out
    assert (at / "runs/openings.jsonl").read_text() == ledger
    assert "again b, extended at epoch 2" in done(at, "runs").out
    found = json.loads(done(at, "reproduce", "a", "--open-test", "--json").out)
    assert (found["found"], found["reasons"], set(found["equal"].values())) == ("bit-equal", [], {True})
    assert len((at / "runs/openings.jsonl").read_text().splitlines()) == len(ledger.splitlines()) + 1


def other_weights(run: Run) -> None:
    folder = run.folder / "checkpoints/step-000008"
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["model.safetensors"]["sha256"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))


def far_away(run: Run) -> None:
    figures = [{**figure, "low": 0.0, "high": 0.01} for figure in run.status()["figures"]]
    run.set_status(figures=figures)


@pytest.mark.parametrize(
    ("plants", "torch_version", "code", "said"),
    [
        ([other_weights], "2.0.0", 0, "within what chance explains"),
        ([other_weights], "2.0.0", 0, "because of: torch 2.0.0 → "),
        ([other_weights], "", 1, "because of: nothing that is known"),
        ([other_weights, far_away], "2.0.0", 1, "lies outside the 95 % interval"),
        ([far_away], "2.0.0", 0, "changed all the same: torch 2.0.0"),
    ],
)
def test_what_is_not_the_same_is_said_with_its_reasons(
    at: Path, plants: list[Callable[[Run], None]], torch_version: str, code: int, said: str
) -> None:
    run = Run.open(at / "runs", "s")
    for plant in plants:
        plant(run)
    changed_environment(run, **({"torch": torch_version} if torch_version else {}))
    ended = done(at, "reproduce", "s", "--run", "t", code=code)
    assert said in ended.out
    assert ("t is not what s was" in ended.err) == (code == 1)


def test_conditions_that_changed_on_the_way_are_a_reason(at: Path) -> None:
    run = Run.open(at / "runs", "s")
    other_weights(run)
    run.set_status(went_on=[{"step": 3, "time": "", "changed": ["cores 2 → 4"]}])
    assert "because of: after step 3 it went on with cores 2 → 4" in done(at, "reproduce", "s").out


# --- prove-resume -----------------------------------------------------------------------------------------------------

PROVE = ("prove-resume", "digits", "--limit", "180", "--model", "linear", "--batch-size", "32", "--steps", "6")


def test_a_resume_that_forgets_the_optimiser_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here in one process, to be spoiled; that an honest one passes in several is shown by docs/life.md."""
    monkeypatch.setattr(prove, "_in_another_process", prove.leg)
    assert "different" not in done(tmp_path, *PROVE, "--at", "2,4").out
    monkeypatch.setattr("tellapart.training.own._Own.load", lambda self, state: None)
    ended = done(tmp_path, *PROVE, "--at", "4", code=1)
    assert "Resuming is not exact here: model, optimiser" in ended.err
    assert "different" in ended.out
    assert not (tmp_path / "runs").exists()


def test_a_process_that_fails_is_told_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove, "COMMAND", (sys.executable, "-c", "raise SystemExit('out of paper')"))
    assert "ended with code 1: out of paper" in done(tmp_path, *PROVE, code=8).err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("digits", "--at", "3,x"), "--at takes numbers of steps. Received: '3,x'"),
        (("digits", "--at", "30"), "one is stopped after 1 to 29"),
        (("digits", "--at", "0"), "one is stopped after 1 to 29"),
        (("digits", "--set", "train.max_steps=1"), "The training takes 1 step; one is stopped"),
        (("digits", "--steps", "1"), "not in the range x>=2"),
    ],
)
def test_a_proof_that_cannot_be_is_refused(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    assert said in done(tmp_path, "prove-resume", *words, code=2).err


def test_stops_are_drawn_between_the_first_step_and_the_last() -> None:
    drawn = [prove._stops([], 5) for _ in range(50)]
    assert {stop for stops in drawn for stop in stops} == {1, 2, 3, 4}
    assert all(len(set(stops)) == 3 and stops == sorted(stops) for stops in drawn)
    assert prove._stops([], 2) == [1]


def test_no_command_makes_a_run_among_its_pictures(tmp_path: Path) -> None:
    pets = make_folder(tmp_path / "pets")
    train(tmp_path, "a", "pets", "--model", "linear", "--epochs", "1", "--no-test")
    before, old = sorted(pets.rglob("*")), str(tmp_path / "runs" / "a")
    several = (("train", ".", "--folds", "2"), ("search", ".", "--trials", "2", "--try", "optim.lr=1e-4..1e-1"))
    for words in (("train", "."), *several, ("branch", old, "--runs", "runs"), ("reproduce", old, "--runs", "runs")):
        done = tellapart(pets, *words)
        assert done.code == 2, done.err
        assert "would lie among the pictures" in done.err
        assert f"--runs {'../runs' if '.' in words else tmp_path / 'runs'}." in done.err
        assert sorted(pets.rglob("*")) == before
