"""Several trainings of one recipe: every fold and several seeds, summed up, resumable, with the test part sealed."""

import csv
import json
import math
import shutil
import statistics
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Done, tellapart, train
from pictures import draw, make_folder
from PIL import Image
from safetensors.torch import load_file

from tellapart.cli.show import Screen
from tellapart.data import pictures
from tellapart.data.given import from_arrays
from tellapart.data.seal import SealBroken
from tellapart.errors import Interrupted, MismatchError, UsageError
from tellapart.evaluation.predictions import Predictions
from tellapart.evaluation.several import pooled
from tellapart.recipe import Recipe
from tellapart.run import Run
from tellapart.workflow import fitting, settle
from tellapart.workflow import train as training
from tellapart.workflow.events import Begun, Epoch, Event, Said, Step, Summary, Verdict
from tellapart.workflow.fitting import Pieces
from tellapart.workflow.many import go_on, train_many
from tellapart.workflow.prepare import Prepared
from tellapart.workflow.train import Asking

SHORT = ("digits", "--limit", "200", "--epochs", "2", "--batch-size", "32")
VALUES = {"data.source": "digits", "data.limit": 200, "train.epochs": 2, "train.batch_size": 32}
PETS = {"data.source": "pets", "train.epochs": 1, "train.batch_size": 8}


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """`train digits --folds 3`: the folder of runs `many`."""
    return train(tmp_path_factory.mktemp("folded"), "many", *SHORT, "--folds", "3")


def summary_of(done: Done, name: str = "many") -> dict[str, Any]:
    return json.loads((done.at / "runs" / name / "summary.json").read_text())


def split_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "split.csv").open() as file:
        return list(csv.DictReader(file))


def copied(done: Done, to: Path) -> Path:
    shutil.copytree(done.at / "runs", to / "runs")
    return to


def same_weights(one: Run, other: Run) -> bool:
    first, second = load_file(one.bundle), load_file(other.bundle)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def changes(one: Run, other: Run) -> set[str]:
    first, second = (Recipe.from_toml((run.folder / "recipe.toml").read_text()).values() for run in (one, other))
    return {path for path in first if first[path] != second[path]}


# --- what comes of it -------------------------------------------------------------------------------------------------


def test_every_picture_that_is_not_sealed_is_judged_once_out_of_fold(folded: Done) -> None:
    said = Predictions.load(folded.at / "runs/many/predictions/out-of-fold.safetensors")
    rows = split_of(folded.at / "runs/many/fold-0")
    assert sorted(said.keys) == sorted(row["key"] for row in rows if row["part"] != "test")
    assert len(set(said.keys)) == len(said.keys) == sum(row["part"] != "test" for row in rows) < len(rows)
    label = {row["key"]: row["class"] for row in rows}
    assert [said.classes[k] for k in said.labels] == [label[key] for key in said.keys]
    for fold in range(3):
        own = Predictions.load(folded.run(f"many/fold-{fold}").predictions("validation"))
        place = [said.keys.index(key) for key in own.keys]
        assert (said.logits[place] == own.logits).all()


def test_the_pooled_accuracy_has_its_wilson_interval(folded: Done) -> None:
    said = Predictions.load(folded.at / "runs/many/predictions/out-of-fold.safetensors")
    n, hits = len(said), sum(int(np.argmax(row)) == label for row, label in zip(said.logits, said.labels, strict=True))
    figure = next(f for f in summary_of(folded)["out_of_fold"] if f["name"] == "accuracy")
    assert (figure["value"], figure["n"], figure["part"]) == (hits / n, n, "out-of-fold")
    for bound in (figure["low"], figure["high"]):  # both solve (p - x)² = z² x (1 - x) / n
        assert math.isclose((hits / n - bound) ** 2, 1.959963984540054**2 * bound * (1 - bound) / n, rel_tol=1e-6)
    shown = f"{100 * hits / n:.1f} % [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]"
    assert f"out of fold accuracy  {shown}  (95 % interval, n = {n})" in folded.out


def test_mean_and_deviation_are_those_of_the_members(folded: Done) -> None:
    summary = summary_of(folded)
    for spread in summary["spreads"]:
        values = [next(f["value"] for f in one["figures"] if f["name"] == spread["name"]) for one in summary["members"]]
        assert (spread["n"], spread["over"]) == (3, "3 folds")
        assert math.isclose(spread["mean"], statistics.mean(values))
        assert math.isclose(spread["sd"], statistics.stdev(values))
    assert [spread["name"] for spread in summary["spreads"]] == ["accuracy", "top-5 accuracy", "loss"]
    accuracy = summary["spreads"][0]
    assert f"{100 * accuracy['mean']:.2f} ± {100 * accuracy['sd']:.2f} %  mean and standard" in folded.out


def test_the_table_has_every_member_and_its_n_and_the_lines_say_which_fold(folded: Done) -> None:
    for fold, one in enumerate(summary_of(folded)["members"]):
        figure = one["figures"][0]
        assert f"fold-{fold}         0  {100 * figure['value']:.1f} % [" in folded.out
        assert f"fold {fold + 1}/3: many/fold-{fold}\n" in folded.err
        assert f"fold {fold + 1}/3: validation accuracy {100 * figure['value']:.1f} % (n = {figure['n']})" in folded.err
    assert folded.err.count("3/9 network") == 1
    assert folded.err.count("1/9 data") == 3
    assert (folded.at / "runs/many/log.txt").read_text() == folded.err
    assert "Folds differ by their pictures as well" in folded.out
    assert "Seeds differ" not in folded.out


def test_json_is_the_summary(tmp_path: Path) -> None:
    done = train(tmp_path, "a", *SHORT, "--seeds", "2", "--model", "linear", "--json")
    assert json.loads(done.out) == summary_of(done, "a")
    assert [one["seed"] for one in json.loads(done.out)["members"]] == [0, 1]


def test_a_member_is_the_run_that_would_be_trained_alone(folded: Done, tmp_path: Path) -> None:
    alone = train(tmp_path, "alone", *SHORT, "--set", "data.folds=3", "--set", "data.fold=1", "--no-test")
    assert same_weights(folded.run("many/fold-1"), alone.run("alone"))
    assert changes(folded.run("many/fold-1"), alone.run("alone")) == set()
    seeds = train(tmp_path, "seeds", *SHORT, "--seeds", "2", "--seed", "7")
    alone = train(tmp_path, "eight", *SHORT, "--seed", "8", "--no-test")
    assert same_weights(seeds.run("seeds/seed-8"), alone.run("eight"))
    assert not same_weights(seeds.run("seeds/seed-7"), alone.run("eight"))
    assert "Seeds differ by chance in training alone" in seeds.out


def test_runs_show_mean_and_deviation_of_seeds_and_sort_by_the_mean(tmp_path: Path) -> None:
    train(tmp_path, "many", *SHORT, "--seeds", "2", "--model", "linear")
    train(tmp_path, "slow", *SHORT, "--model", "linear", "--lr", "1e-5", "--no-test")
    summary = json.loads((tmp_path / "runs/many/summary.json").read_text())
    each = {
        name: [f["value"] for one in summary["members"] for f in one["figures"] if f["name"] == name]
        for name in ("accuracy", "loss")
    }
    mean, sd = statistics.mean(each["accuracy"]), statistics.stdev(each["accuracy"])
    out = tellapart(tmp_path, "runs").out
    (row,) = [line for line in out.splitlines() if line.startswith("many ")]
    assert f"{100 * mean:.1f} ± {100 * sd:.1f} % (n = 2)" in row
    assert "±" not in "".join(line for line in out.splitlines() if line != row)
    listed = json.loads(tellapart(tmp_path, "runs", "--json").out)["runs"]
    values = {one["name"]: one["spread"]["mean"] if one["spread"] else one["validation"]["value"] for one in listed}
    assert [one["name"] for one in listed] == sorted(values, key=lambda name: (-values[name], name))
    assert next(one for one in listed if one["name"] == "many")["spread"]["sd"] == pytest.approx(sd)
    lines = tellapart(tmp_path, "runs", "--sort", "loss").out.splitlines()
    (row,) = [line for line in lines if line.startswith("many ")]
    assert f"{statistics.mean(each['loss']):.4f} ± {statistics.stdev(each['loss']):.4f}" in row
    (tmp_path / "runs/many/summary.json").unlink()
    (row,) = [line for line in tellapart(tmp_path, "runs").out.splitlines() if line.startswith("many ")]
    assert "±" not in row
    (tmp_path / "runs/many/summary.json").write_text('{"spreads": [{"name": "accuracy"}]}')
    (row,) = [line for line in tellapart(tmp_path, "runs").out.splitlines() if line.startswith("many ")]
    assert "damaged" in row


def test_folds_and_seeds_together(tmp_path: Path) -> None:
    done = train(tmp_path, "both", *SHORT, "--folds", "2", "--seeds", "2", "--model", "linear")
    summary = summary_of(done, "both")
    assert [(one["run"], one["seed"], one["fold"]) for one in summary["members"]] == [
        (f"fold-{fold}-seed-{seed}", seed, fold) for seed in range(2) for fold in range(2)
    ]
    by_seed = [figure for figure in summary["out_of_fold"] if figure["name"] == "accuracy"]
    assert [figure["about"] for figure in by_seed] == ["seed 0", "seed 1"]
    last = next(one for one in summary["spreads"] if one["over"] == "2 seeds, out of fold")
    assert math.isclose(last["sd"], statistics.stdev(figure["value"] for figure in by_seed))
    assert "fold 2/2, seed 2/2: validation accuracy" in done.err


def test_what_the_first_finds_out_holds_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle, "default_epochs", lambda num_train: 1 + num_train % 3)
    done = train(tmp_path, "many", "digits", "--limit", "200", "--folds", "3", "--model", "linear")
    assert len({len([row for row in split_of(run.folder) if row["part"] == "train"]) for run in runs_in(done)}) > 1
    first, *others = runs_in(done)
    assert [changes(first, other) for other in others] == [{"data.fold"}] * 2
    text = (others[0].folder / "recipe.toml").read_text()
    assert "# auto: as in fold-0" in text
    assert "fold = 1  # --folds" in text


def runs_in(done: Done, name: str = "many") -> list[Run]:
    return [done.run(f"{name}/fold-{fold}") for fold in range(3)]


def test_pictures_are_decoded_once_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path / "pets")
    calls: list[int] = []
    decoded = pictures.decoded
    monkeypatch.setattr(pictures, "decoded", lambda raw: calls.append(1) or decoded(raw))
    train(tmp_path, "many", "./pets", "--epochs", "1", "--batch-size", "8", "--folds", "3")
    assert len(calls) == 36


# --- the seal ---------------------------------------------------------------------------------------------------------


def test_the_test_part_stays_sealed_until_one_of_them_is_tested(folded: Done, tmp_path: Path) -> None:
    assert summary_of(folded)["test"] == "sealed"
    assert "still sealed in all of them; `tellapart test many/fold-0` opens it" in folded.out
    assert not list(folded.at.rglob("test.safetensors")) + list(folded.at.rglob("openings.jsonl"))
    at = copied(folded, tmp_path)
    assert "never opened before" in tellapart(at, "test", "many/fold-1").out
    assert "opened once before, last by many/fold-1" in tellapart(at, "test", "many/fold-0").out
    assert (at / "runs/openings.jsonl").is_file()
    shutil.rmtree(at / "runs/many/fold-0")
    alone = train(at, "alone", *SHORT)
    assert "opened 2 times before, last by many/fold-1, many/fold-0" in alone.out


def test_a_planted_read_of_the_test_part_stops_every_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fitting.logits_of_rows
    test = lambda pictures: pictures.index.rows("test")[:9]  # noqa: E731
    monkeypatch.setattr(fitting, "logits_of_rows", lambda model, of, _, **more: real(model, of, test(of), **more))
    with pytest.raises(SealBroken):
        list(train_many(Recipe.from_values(VALUES), Asking(runs=tmp_path), folds=2))


def test_one_member_resumed_alone_stays_sealed(tmp_path: Path) -> None:
    asking = Asking(runs=tmp_path, name="many")
    stopped(train_many(Recipe.from_values(VALUES), asking, seeds=2), "seed-1")
    last = list(go_on(Run.open(tmp_path, "many/seed-1"), asking))[-1]
    assert isinstance(last, Verdict)
    assert last.test == "sealed"
    assert isinstance(list(go_on(Run.find(tmp_path, "many"), asking))[-1], Summary)


def test_data_without_a_test_part_say_so(tmp_path: Path) -> None:
    make_folder(tmp_path / "pets", parts=("train", "val"))
    done = train(tmp_path, "many", "./pets", "--epochs", "1", "--seeds", "2", "--batch-size", "8")
    assert "There is no sealed test" in done.out


# --- one of them diverges ---------------------------------------------------------------------------------------------


def diverging(patch: pytest.MonkeyPatch, *, fold: int, seed: int = 0) -> None:
    """Blow up the weights of one member before its first step."""
    put_together = training.put_together

    def planted(prepared: Prepared, device: torch.device, **more: Any) -> Pieces:
        pieces, recipe = put_together(prepared, device, **more), prepared.recipe
        if (recipe.data.fold, recipe.train.seed) == (fold, seed):
            with torch.no_grad():
                for weight in pieces.model.parameters():
                    weight.mul_(1e20)
        return pieces

    patch.setattr(training, "put_together", planted)


@pytest.mark.parametrize("fold", [0, 1])
def test_a_member_that_diverges_is_named_and_not_counted(
    folded: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fold: int
) -> None:
    with monkeypatch.context() as patch:
        diverging(patch, fold=fold)
        done = tellapart(tmp_path, "train", *SHORT, "--folds", "3", "--run", "many")
    assert done.code == 5
    assert f"note: fold {fold + 1}/3: The training diverged at step 1: " in done.err
    assert f"error: 1 of 3 trainings diverged: fold-{fold}. No number above counts what diverged.\nhint: " in done.err
    assert f"fold-{fold}         0  – (diverged)                              –\n" in done.out
    assert "mean and standard deviation over 2 of 3 folds\n" in done.out
    assert "out of fold" not in done.out
    whole, summary = summary_of(folded), summary_of(done)
    assert [one["run"] for one in summary["members"] if one["why"]] == [f"fold-{fold}"]
    assert str(tmp_path) not in json.dumps(summary)
    for n in {0, 1, 2} - {fold}:
        assert summary["members"][n] == whole["members"][n]
        assert same_weights(done.run(f"many/fold-{n}"), folded.run(f"many/fold-{n}"))
    assert [(one["n"], one["over"]) for one in summary["spreads"]] == [(2, "2 of 3 folds")] * 3
    assert summary["out_of_fold"] == []
    assert f"tellapart test many/fold-{1 - fold if fold == 0 else 0}" in done.out
    assert Run.find(tmp_path / "runs", "many").status()["state"] == "diverged"
    again = tellapart(tmp_path, "resume", "many")  # it says the same and trains nothing
    assert (again.code, again.out) == (5, done.out)
    assert f"fold {fold + 1}/3: many/fold-{fold} has diverged\n" in again.err
    assert "9 training" not in again.err
    assert tellapart(tmp_path, "resume", f"many/fold-{fold}").code == 0  # what made it diverge is gone
    mended = tellapart(tmp_path, "resume", "many")
    assert mended.code == 0, mended.err
    assert summary_of(mended) == whole


def test_a_stop_after_one_that_diverged_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    diverging(monkeypatch, fold=0)
    ways = []
    for name in ("whole", "cut"):
        asking = Asking(runs=tmp_path / name, name="many")
        events = train_many(Recipe.from_values(VALUES | {"model.name": "linear"}), asking, folds=3)
        if name == "cut":
            stopped(events, "fold-1", epochs=1)
            events = go_on(Run.find(asking.runs, "many"), asking)
        ways.append(list(events)[-1])
    assert all(isinstance(one, Summary) for one in ways)
    assert ways[0].to_json() == ways[1].to_json()
    assert [one.run for one in ways[0].diverged] == ["fold-0"]


def test_a_seed_with_a_fold_that_diverged_has_no_out_of_fold_figure(tmp_path: Path, monkeypatch) -> None:
    diverging(monkeypatch, fold=1, seed=1)
    words = (*SHORT, "--model", "linear", "--folds", "2", "--seeds", "3", "--run", "both")
    done = tellapart(tmp_path, "train", *words)
    assert done.code == 5
    summary = summary_of(done, "both")
    assert [one["about"] for one in summary["out_of_fold"] if one["name"] == "accuracy"] == ["seed 0", "seed 2"]
    assert {(one["n"], one["over"]) for one in summary["spreads"]} == {
        (5, "5 of 6 trainings: 2 folds x 3 seeds"),
        (2, "2 of 3 seeds, out of fold"),
    }


def test_when_all_diverge_there_is_no_number(tmp_path: Path) -> None:
    words = (*SHORT, "--model", "linear", "--lr", "1e30", "--set", "optim.clip=0", "--seeds", "2", "--run", "many")
    done = tellapart(tmp_path, "train", *words)
    assert done.code == 5
    assert "2 of 2 trainings diverged: seed-0, seed-1." in done.err
    assert "Try a lower learning rate" in done.err
    assert "±" not in done.out
    assert "tellapart test" not in done.out


# --- going on ---------------------------------------------------------------------------------------------------------


def stopped(events: Iterator, inside: str, *, epochs: int = 1) -> None:
    """Follow events until so many epochs of one member are done, then leave, as a process does that is ended."""
    seen = False
    with closing(events):  # type: ignore[type-var]
        for event in events:
            seen = seen or (isinstance(event, Said) and event.text.endswith(inside))
            epochs -= seen and isinstance(event, Epoch)
            if seen and epochs <= 0:
                return
    raise AssertionError(f"{inside} never came")


def noted(events: Iterator[Event], inside: str, where: list[Event]) -> None:
    """Follow events, and note those from the beginning of one member on."""
    for event in events:
        if where or (isinstance(event, Said) and event.text.endswith(inside)):
            where.append(event)


def test_a_stop_in_the_second_member_changes_no_bit(folded: Done, tmp_path: Path) -> None:
    inside: list[Event] = []
    asked = lambda: Interrupted("Stopped.") if len(inside) > 4 else None  # noqa: E731
    asking = Asking(runs=tmp_path / "runs", name="many", asked=asked)
    with pytest.raises(Interrupted, match=r"`tellapart resume \S+/many` goes on from here") as ended:
        noted(train_many(Recipe.from_values(VALUES), asking, folds=3), "many/fold-1", inside)
    assert ended.value.hint.count("tellapart resume") == 1
    assert Run.find(tmp_path / "runs", "many").status()["state"] == "interrupted"
    first = Run(tmp_path / "runs/many/fold-0")
    before = first.bundle.stat().st_mtime_ns, first.status()
    done = tellapart(tmp_path, "resume", "many")
    assert done.code == 0, done.err
    assert "fold 1/3: many/fold-0 is finished" in done.err
    assert "training goes on after step" in done.err
    assert (first.bundle.stat().st_mtime_ns, first.status()) == before
    assert all(same_weights(one, other) for one, other in zip(runs_in(folded), runs_in(done), strict=True))
    assert summary_of(done) == summary_of(folded)
    assert done.out == folded.out.replace(str(folded.at), str(tmp_path))
    again = tellapart(tmp_path, "resume", "many")
    assert (again.code, "The trainings in many are finished." in again.err) == (2, True)


def test_a_stop_while_pictures_are_read_is_resumable(tmp_path: Path) -> None:
    make_folder(tmp_path / "pets")
    recipe = Recipe.from_values(PETS | {"data.source": str(tmp_path / "pets")})
    asking = Asking(runs=tmp_path / "runs", name="many")
    with pytest.raises(Interrupted, match="many` goes on from here"):
        list(train_many(recipe, replace(asking, asked=lambda: Interrupted("Stopped.")), folds=2))
    (tmp_path / "runs/many/fold-0").mkdir()  # a member that was killed before it wrote anything
    assert isinstance(list(go_on(Run.find(tmp_path / "runs", "many"), asking))[-1], Summary)


def test_the_rest_is_found_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path / "pets")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    stopped(train_many(Recipe.from_values(PETS | {"data.source": "./pets"}), Asking(name="many"), folds=2), "fold-0")
    done = tellapart(tmp_path / "elsewhere", "resume", "../runs/many")
    assert done.code == 0, done.err


def test_other_pictures_than_those_of_the_first_stop_the_rest(tmp_path: Path) -> None:
    make_folder(tmp_path / "pets")
    recipe = Recipe.from_values(PETS | {"data.source": str(tmp_path / "pets")})
    asking = Asking(runs=tmp_path / "runs", name="many")
    stopped(train_many(recipe, asking, folds=3), "fold-1", epochs=0)
    more = tmp_path / "pets/cat/more.png"
    Image.fromarray(draw(0, 3, (9, 9, 9), 12)).save(more)
    run = Run.find(tmp_path / "runs", "many")
    with pytest.raises(MismatchError, match="no longer those that many/fold-0 was trained with"):
        list(go_on(run, asking))
    more.unlink()
    assert isinstance(list(go_on(run, asking))[-1], Summary)


def test_an_overlay_that_is_edited_meanwhile_changes_nothing(tmp_path: Path) -> None:
    make_folder(tmp_path / "pets")
    assert tellapart(tmp_path, "split", "./pets", "--out", "split.csv").code == 0
    row = next(row for row in split_of(tmp_path) if row["part"] == "train")
    overlay = f"key,digest,given,suggested,score,decision\n{row['key']},{row['digest']},{row['class']},,,drop\n"
    (tmp_path / "labels.csv").write_text(overlay)
    recipe = {"data.source": str(tmp_path / "pets"), "data.overlay": str(tmp_path / "labels.csv")}
    asking = Asking(runs=tmp_path / "runs", name="many")
    stopped(train_many(Recipe.from_values(PETS | recipe), asking, folds=2), "fold-1", epochs=0)
    (tmp_path / "labels.csv").write_text("nonsense")
    last = list(go_on(Run.find(tmp_path / "runs", "many"), asking))[-1]
    assert isinstance(last, Summary)
    assert last.pooled[0].n == sum(row["part"] != "test" for row in split_of(tmp_path))  # dropped from training alone
    for fold in range(2):
        assert (tmp_path / f"runs/many/fold-{fold}/overlay.csv").read_text() == overlay


def test_a_transform_must_be_there_again(tmp_path: Path) -> None:
    asking = Asking(runs=tmp_path, name="many", transform=lambda picture: picture)
    stopped(train_many(Recipe.from_values(VALUES), asking, seeds=2), "seed-1", epochs=0)
    run = Run.find(tmp_path, "many")
    with pytest.raises(UsageError, match="many was trained with a transform from Python"):
        go_on(run, replace(asking, transform=None))
    assert isinstance(list(go_on(run, asking))[-1], Summary)


def test_pictures_given_in_python(tmp_path: Path) -> None:
    arrays = np.stack([draw(n % 3, 3, (0, n % 3, n), 12) for n in range(60)])
    index = from_arrays(arrays, [f"c{n % 3}" for n in range(60)], name="made")
    recipe = Recipe.from_values({key: value for key, value in PETS.items() if key != "data.source"})
    last = list(train_many(recipe, Asking(runs=tmp_path, name="many", index=index), folds=2))[-1]
    assert isinstance(last, Summary)
    assert Run.find(tmp_path, "many").status()["source"] == "python:made"


def test_damaged_or_altered_files_are_said(folded: Done, tmp_path: Path) -> None:
    at = copied(folded, tmp_path)
    run = Run.find(at / "runs", "many")
    run.set_status(state="interrupted")
    path = run.folder / "fold-1/predictions/validation.safetensors"
    said = Predictions.load(path)
    replace(said, keys=(said.keys[1], *said.keys[1:])).save(path)
    done = tellapart(at, "resume", "many")
    assert (done.code, "2 of 170 pictures are not judged exactly once" in done.err) == (7, True), done.err
    (run.folder / "members.json").write_text("{}")
    done = tellapart(at, "resume", "many")
    assert (done.code, "members.json is damaged" in done.err) == (4, True)


def test_pooling_wants_every_key_once() -> None:
    def of(*keys: str) -> Predictions:
        logits, labels = np.zeros((len(keys), 2), np.float32), np.zeros(len(keys), np.int64)
        return Predictions(part="validation", classes=("a", "b"), keys=keys, logits=logits, labels=labels)

    assert pooled([of("x"), of("y", "z")], "xyz").keys == ("x", "y", "z")
    wrong = {"x is judged 2": [of("x"), of("x", "y")], "y is judged 0": [of("x")], "w is judged 1": [of("x", "y", "w")]}
    for told, folds in wrong.items():
        with pytest.raises(MismatchError, match=told):
            pooled(folds, "xy")


# --- typed wrong ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--folds", "30"), 3, "With 30 folds: Class '0' has no picture in the validation part"),
        (("--folds", "1"), 2, "1 is not in the range"),
        (("--folds", "3", "--set", "data.folds=4"), 2, "data.folds and data.fold are for one"),
        (("--folds", "3", "--set", "data.fold=1"), 2, "data.folds and data.fold are for one"),
        (("--folds", "3", "--validation-from", "digits"), 2, "Leave --validation-from out."),
        (("--seeds", "2", "--seed", str(2**63 - 1)), 2, "at most 9223372036854775807"),
        (("--folds", "3", "--model", "resent"), 2, "Unknown model 'resent'"),
        (("--folds", "3", "--split", "f.csv"), 2, "f.csv deals 2 folds, and data.folds is 3"),
    ],
)
def test_what_cannot_be_is_said_and_leaves_no_folder(
    tmp_path: Path, words: tuple[str, ...], code: int, told: str
) -> None:
    if "f.csv" in words:
        assert tellapart(tmp_path, "split", "digits", "--limit", "200", "--folds", "2", "--out", "f.csv").code == 0
    done = tellapart(tmp_path, "train", *SHORT, *words, "--run", "many")
    assert (done.code, told in done.err) == (code, True), done.err
    assert not (tmp_path / "runs/many").exists()


@pytest.mark.parametrize(("folds", "seeds"), [(1, 1), (0, 1), (0, 0), (-2, 1)])
def test_python_says_what_is_needed(tmp_path: Path, folds: int, seeds: int) -> None:
    with pytest.raises(UsageError, match="Two folds or more are needed, or two seeds"):
        train_many(Recipe(), Asking(runs=tmp_path), folds=folds, seeds=seeds)


def test_a_validation_part_of_the_data_is_dealt_only_by_a_split_file(tmp_path: Path) -> None:
    make_folder(tmp_path / "pets", parts=("train", "val"))
    words = ("train", "./pets", "--epochs", "1", "--batch-size", "8", "--folds", "2", "--run", "many")
    done = tellapart(tmp_path, *words)
    assert (done.code, "the data bring a part of 36 for that" in done.err) == (2, True)
    assert "write `tellapart split ./pets --folds 2 --out split.csv` and add --split split.csv" in done.err
    assert tellapart(tmp_path, "split", "./pets", "--folds", "2", "--out", "split.csv").code == 0
    assert "n = 72" in tellapart(tmp_path, *words, "--split", "split.csv").out


@pytest.mark.parametrize("verb", [("test",), ("predict",), ("export", "script"), ("config", "show", "--run")])
def test_a_folder_of_several_is_no_run(folded: Done, verb: tuple[str, ...]) -> None:
    done = tellapart(folded.at, *verb, "many", *(["digits"] if verb == ("predict",) else []))
    assert (done.code, "many holds 3 trainings." in done.err) == (2, True)
    assert "Name one of them: many/fold-0, many/fold-1, many/fold-2." in done.err


def test_the_other_verbs_know_the_folder_and_its_runs(folded: Done, tmp_path: Path) -> None:
    at = copied(folded, tmp_path)
    listed = json.loads(tellapart(at, "runs", "--json").out)["runs"]
    assert sorted(row["name"] for row in listed) == ["many", "many/fold-0", "many/fold-1", "many/fold-2"]
    assert next(row["validation"]["n"] for row in listed if row["name"] == "many") == 170
    assert f"--logdir {at}/runs/many " in tellapart(at, "board", "many", "--dry-run").out
    assert tellapart(at, "test", "many/fold-9").err.startswith("error: There is no run 'many/fold-9'")


def test_a_script_of_one_of_several_is_a_file_here(tmp_path: Path) -> None:
    train(tmp_path, "many", "digits", "--epochs", "1", "--model", "linear", "--seeds", "2")
    assert "wrote train-many-seed-1.py" in tellapart(tmp_path, "export", "script", "many/seed-1").out
    assert (tmp_path / "train-many-seed-1.py").is_file()


class Bar:
    """What is asked of a bar."""

    console = None

    def __init__(self) -> None:
        self.said: list[tuple[int, str]] = []
        self.hidden: list[int] = []

    def add_task(self, *_: object, **__: object) -> int:
        return len(self.said)

    def update(self, task: int, *, description: str = "", visible: bool = True, **_: object) -> None:
        if visible:
            self.said.append((task, description))
        else:
            self.hidden.append(task)


def test_the_bar_says_which_fold() -> None:
    screen, bar = Screen(), Bar()
    screen.bar = bar  # type: ignore[assignment]
    for fold in (1, 2):
        screen.show(Begun(run="many", total_steps=2, epochs=4, of=f"fold {fold}/2"))
        screen.drawn = 0.0
        screen.show(Step(step=1, epoch=0, pictures=8))
    assert bar.said == [(0, "fold 1/2, epoch 1/4"), (1, "fold 2/2, epoch 1/4")]
    assert bar.hidden == [0]
