"""`tellapart search`: what may be varied, what is tried, what is said of the best, and going on after a stop."""

import csv
import json
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from commands import Done, process, tellapart, train
from pictures import make_folder
from PIL import Image
from safetensors.torch import load_file

from tellapart.errors import Interrupted, StorageError
from tellapart.figures.panels import FAINT, POINT, Panel, panels
from tellapart.recipe import Recipe
from tellapart.run import Run
from tellapart.workflow import final, search_database, search_store
from tellapart.workflow import search as searching
from tellapart.workflow.search import Asking, Found, search, search_again
from tellapart.workflow.search_database import database
from tellapart.workflow.search_space import Field, combinations, fields_of
from tellapart.workflow.search_store import Claim, Store, held

LR, WIDTH = "optim.lr=0.001..0.3", "model.width=4,8"
TINY = (
    "--epochs",
    "2",
    "--set",
    "train.max_steps=4",
    "--set",
    "train.log_every=1",
    "--limit",
    "120",
    "--device",
    "cpu",
)
VALUES = {"train.epochs": 2, "train.max_steps": 4, "train.log_every": 1, "data.limit": 120, "machine.device": "cpu"}


def looked_for(at: Path, *words: str) -> Done:
    return tellapart(at, "search", "digits", *TINY, *words)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Four trials of a rate and a width, as the search `s`."""
    found = looked_for(tmp_path_factory.mktemp("s"), "--try", LR, "--try", WIDTH, "--trials", "4", "--run", "s")
    assert found.code == 0, found.err
    return found


def table(at: Path, name: str) -> list[dict[str, str]]:
    """The table, less the seconds, which are never the same."""
    with (at / "runs" / name / "trials.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


# --- what may be varied -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "low", "high", "kind", "log"),
    [
        ("optim.lr=1e-4..1e-1", 1e-4, 0.1, float, True),
        ("optim.lr=0.01..0.5", 0.01, 0.5, float, False),
        ("optim.weight_decay=0..1", 0.0, 1.0, float, False),
        ("train.batch_size=1..512", 1, 512, int, True),
        ("model.width=8..64", 8, 64, int, False),
    ],
)
def test_a_range_is_of_the_fields_kind_and_by_logarithm_beyond_two_decades(text, low, high, kind, log) -> None:
    assert fields_of([text]) == (Field(path=text.split("=")[0], kind=kind, low=low, high=high, log=log),)


def test_values_are_read_as_the_recipe_reads_them() -> None:
    tries = ["model.width=8,16", "train.shuffle=true,no", "model.name=mlp:64,32;small", "optim.warmup=auto,0.1"]
    every = [field.choices for field in fields_of(tries)]
    assert every == [
        (8, 16),
        (True, False),
        ("mlp:64,32", "small"),
        (None, 0.1),
    ]


def test_a_value_lies_where_it_belongs_across_a_plot() -> None:
    every = fields_of(["optim.lr=1e-3..1", "model.width=8..16", "optim.name=sgd,adam"])
    assert [round(field.share(value), 3) for field, value in zip(every, (0.1, 10, "adam"), strict=True)] == [
        0.667,
        0.25,
        0.75,
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "There is nothing to search: no field is named."),
        (("optim.rl=0.1,0.2",), "Unknown recipe key 'optim.rl'. hint: Did you mean 'optim.lr'?"),
        (("lr",), "--try takes SECTION.KEY=VALUES. Received: 'lr'."),
        (("optim.lr=",), "--try takes SECTION.KEY=VALUES."),
        (("optim.lr=0..1",), "optim.lr: expected a number, above 0, or auto. Received: '0'."),
        (("optim.lr=0.1..0.01",), "--try optim.lr=0.1..0.01 is no range."),
        (("optim.lr=1e-3...1",), "--try optim.lr=1e-3...1 has three dots. hint: Two stand between the numbers"),
        (("optim.lr=0.1..auto",), "--try optim.lr=0.1..auto is no range."),
        (("optim.lr=0.1..x",), "optim.lr: expected a number, above 0, or auto. Received: 'x'."),
        (("model.width=8..9.5",), "model.width: expected a whole number, at least 4, at most 512. Received: '9.5'."),
        (("optim.name=a..b",), "optim.name has no range, and a..b was asked for."),
        (("optim.name=sgd,adm",), "Received: 'adm'. hint: Did you mean 'adam'?"),
        (("model.width=8",), "--try model.width=8 needs two values or more, each once."),
        (("model.width=8,8",), "--try model.width=8,8 needs two values or more, each once."),
        ((LR, LR), "--try names optim.lr twice."),
        (("data.validation=0.1,0.2",), "data.validation cannot be searched: every trial must be judged by the same"),
        (("train.seed=0..9",), "train.seed cannot be searched: the luckiest seed is no better recipe."),
        (("machine.device=cpu,cuda",), "machine.device cannot be searched: it says where to compute, not what."),
        ((LR, "--lr", "0.1"), "optim.lr is given by --lr and by --try."),
        ((WIDTH, "--trials", "3"), "3 trials were asked for. hint: Ask for 1 or more; the combinations are 2."),
        ((LR, "--trials", "0"), "0 trials were asked for. hint: Ask for 1 or more; the combinations are without end."),
        (("model.name=small,smal",), "Trying model.name = smal: Unknown model 'smal'. hint: Did you mean 'small'?"),
        (
            ("optim.name=sgd,adam", "optim.dampening=0.1,0.2"),
            "Trying optim.name = adam, optim.dampening = 0.1: optim.dampening means nothing with optim.name = adam.",
        ),
        ((LR, "--prune", "often"), "'often' is not one of 'median', 'halving'."),
        ((LR, "--storage", "postgresql://me@127.0.0.1/x"), "A search in a shared database needs a name."),
        ((LR, "--storage", "here.db", "--run", "a"), "What --storage was given is not the address of a database."),
        ((LR, "--storage", "mysql://me@h/x", "--run", "a"), "--storage cannot be of the kind 'mysql'."),
        (("--resume", "s", LR), "--resume goes on with what was asked before."),
    ],
)
def test_what_cannot_be_searched_is_refused_before_pictures_are_read(tmp_path: Path, words, said: str) -> None:
    tries = [part for word in words for part in (["--try", word] if "=" in word or word == "lr" else [word])]
    source = [] if "--resume" in words else ["no-such-folder"]
    done = tellapart(tmp_path, "search", *source, *tries)
    assert (done.code, done.out) == (2, "")
    assert said in done.err.replace("\nhint: ", " hint: ")
    assert not (tmp_path / "runs").exists()


def test_the_same_with_nothing_wrong_comes_to_the_pictures(tmp_path: Path) -> None:
    done = tellapart(tmp_path, "search", "no-such-folder", "--try", LR, "--run", "s")
    assert "Unknown data set 'no-such-folder'" in done.err
    assert list((tmp_path / "runs").iterdir()) == []  # nothing was trained: the same name can be used again


# --- what is found ----------------------------------------------------------------------------------------------------


def test_every_trial_is_a_run_of_its_own_that_can_be_used(done: Done) -> None:
    rows = table(done.at, "s")
    assert [row["trial"] for row in rows] == ["0", "1", "2", "3"]
    for row in rows:
        run = done.run(f"s/{row['run']}")
        recipe = Recipe.from_toml((run.folder / "recipe.toml").read_text())
        assert (f"{recipe.optim.lr:g}", str(recipe.model.width)) == (row["optim.lr"], row["model.width"])
        assert 0.001 <= (recipe.optim.lr or 0) <= 0.3
        figure = run.status()["figures"][0]
        assert [float(row[key]) for key in ("accuracy", "low", "high", "n")] == [
            figure[key] for key in ("value", "low", "high", "n")
        ]
        assert row["state"] == run.status()["state"] == "finished"
    assert "  # --try" in (done.at / "runs/s/trial-000/recipe.toml").read_text()
    make_folder(done.at / "pets", per_class=1, size=8)
    predicted = tellapart(done.at, "predict", "s/trial-001", "pets/cat/00.png")
    assert predicted.code == 0, predicted.err


def test_the_table_is_ranked_by_validation_and_says_how_much_the_best_is_worth(done: Done) -> None:
    rows = sorted(table(done.at, "s"), key=lambda row: (-float(row["accuracy"]), float(row["loss"])))
    lines = done.out.splitlines()
    assert lines[0].split()[:3] == ["trial", "optim.lr", "model.width"]
    assert lines[0].endswith("  validation accuracy [95 % interval]  parameters  best epoch  seconds  state")
    assert [line.split()[0] for line in lines[1:5]] == [row["run"] for row in rows]
    n, low = rows[0]["n"], float(rows[0]["low"])
    assert f"best: s/{rows[0]['run']}, validation accuracy {100 * float(rows[0]['accuracy']):.1f} % [" in done.out
    assert f"(n = {n})" in done.out
    assert "It is the best of 4 tried, chosen by the pictures it is judged by: the number flatters it." in done.out
    as_good = sum(float(row["accuracy"]) >= low for row in rows[1:])
    assert f"lie within its interval, perhaps as good: {as_good}." in done.out
    assert f"`tellapart test s/{rows[0]['run']}` opens it with this one." in done.out


def test_the_same_command_again_says_the_same_and_trains_nothing(done: Done) -> None:
    before = {path: path.stat().st_mtime_ns for path in (done.at / "runs/s").rglob("*.safetensors")}
    again = looked_for(done.at, "--try", LR, "--try", WIDTH, "--trials", "4", "--run", "s", "--json")
    assert again.code == 0, again.err
    document = json.loads(again.out)
    assert [one["run"] for one in document["trials"]] == [f"trial-00{n}" for n in range(4)]
    assert document["best"]["accuracy"]["value"] == max(one["accuracy"]["value"] for one in document["trials"])
    assert before == {path: path.stat().st_mtime_ns for path in (done.at / "runs/s").rglob("*.safetensors")}


def test_the_test_part_stays_sealed_in_every_trial(done: Done) -> None:
    assert not list((done.at / "runs").rglob("openings.jsonl"))
    assert not list((done.at / "runs").rglob("predictions/test.*"))


@pytest.mark.parametrize("planted", [False, True])
def test_a_trial_that_opens_the_seal_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: bool) -> None:
    def raises(*_: object) -> None:
        raise AssertionError("the seal was opened")

    def opening(recipe: Recipe, asking: Asking) -> Iterator[Any]:
        return searching_train(recipe, searching.replace(asking, open_test=True))

    searching_train = searching.train
    monkeypatch.setattr(final, "open_test", raises)
    if planted:
        monkeypatch.setattr(searching, "train", opening)
    asking = Asking(runs=tmp_path, name="s")
    events = search(Recipe.from_values(VALUES), asking, tries=["model.width=4,8"], trials=1)
    if planted:
        with pytest.raises(AssertionError, match="opened"):
            list(events)
    else:
        assert isinstance(list(events)[-1], Found)


def test_the_plot_has_the_points_where_they_belong(done: Done) -> None:
    assert (done.at / "runs/s/trials.png").read_bytes().startswith(b"\x89PNG")
    image = panels("", [Panel(label="", points=[(0.0, 0.4, True), (0.5, 0.8, False)], ticks=[])])
    blue = np.argwhere(np.abs(np.asarray(image).astype(int) - POINT).sum(axis=2) < 60)
    assert image.size == (440, 334)
    assert np.abs(blue.mean(axis=0) - (34 + 34 + 226 * (1 - 0.01 / 0.42), 62)).max() < 1
    ring = np.asarray(image)[int(34 + 34 + 226 * 0.01 / 0.42) - 4 :, 62 + 180 - 4 :][:9, :9]
    assert (np.abs(ring.astype(int) - FAINT).sum(axis=2) < 90).sum() > 4
    assert tuple(ring[4, 4]) == (255, 255, 255)
    with pytest.raises(ValueError, match="one panel"):
        panels("", [])


# --- what is proposed: the store alone, with an invented objective ----------------------------------------------------


def score(values: dict[str, Any]) -> float:
    """Best at a rate of 0.05 and a width of 8."""
    return float(1 / (1 + abs(np.log10(values["optim.lr"] / 0.05))) - 0.1 * (values["model.width"] != 8))


def tried(store: Store, claim: Claim) -> None:
    store.ended(claim, "finished", accuracy={"value": score(claim.values)}, loss=0.0)


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Callable[..., Store]]:
    """Processes of one search, each as a Store of its own."""
    with database("sqlite:///:memory:") as storage:

        def made(tries: tuple[str, ...] = (LR, WIDTH), *, name: str = "s", seed: int = 0, prune: str = "") -> Store:
            how = {"seed": seed, "prune": prune, "home": "here", "locks": tmp_path / "locks"}
            return Store(storage=storage, name=name, fields=fields_of(tries), **how)

        yield made


def values_of(store: Store) -> list[dict[str, Any]]:
    return [trial.params for trial in store.trials()]


def test_a_seed_gives_the_same_trials_however_often_it_is_stopped(stores) -> None:
    whole, cut, other = stores(name="whole"), stores(name="cut"), stores(name="other", seed=1)
    for claim in whole.claims(13):
        tried(whole, claim)
    while len([trial for trial in cut.trials() if trial.state.is_finished()]) < 13:
        cut = stores(name="cut")  # a new process after every second trial, which it leaves undone
        with held(cut.locks / cut.me):
            claims = cut.claims(13)
            tried(cut, next(claims))
            next(claims, None)
            claims.close()
    for claim in other.claims(13):
        tried(other, claim)
    assert values_of(cut) == values_of(whole)
    assert values_of(other) != values_of(whole)
    assert np.mean([score(values) for values in values_of(whole)[10:]]) > np.mean(
        [score(values) for values in values_of(whole)[:10]]
    )


def test_every_combination_is_tried_once_and_then_there_is_none(stores) -> None:
    store = stores(("model.width=4..6", "optim.name=sgd,adam"))
    for claim in store.claims(6):
        store.ended(claim, "finished", accuracy={"value": 0.5}, loss=0.0)
    every = [tuple(values.values()) for values in values_of(store)]
    assert sorted(every) == sorted((width, name) for width in (4, 5, 6) for name in ("sgd", "adam"))
    assert len(list(combinations(store.fields) or ())) == 6


def test_two_processes_never_get_the_same_trial(stores) -> None:
    one, two = stores(), stores()
    with held(one.locks / one.me), held(two.locks / two.me):
        ours, theirs = one.claims(8), two.claims(8)
        got = [next(ours), next(theirs), next(ours), next(theirs)]
        assert [claim.number for claim in got] == [0, 1, 2, 3]
        assert len({claim.values["optim.lr"] for claim in got}) == 4
        assert sum(1 for _ in ours) + sum(1 for _ in theirs) == 4


def test_of_two_that_draw_the_same_at_once_the_later_one_draws_again(stores, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = stores(("model.width=4,8",)), stores(("model.width=4,8",))
    drawn, same = two._drawn, iter([{"model.width": 4}])
    monkeypatch.setattr(one, "_drawn", lambda *_: {"model.width": 4})
    monkeypatch.setattr(two, "_drawn", lambda *how: next(same, None) or drawn(*how))
    with held(one.locks / one.me), held(two.locks / two.me):
        first, second = next(one.claims(2)), next(two.claims(2))
    assert (first.values, second.values) == ({"model.width": 4}, {"model.width": 8})
    assert [trial.params["model.width"] for trial in one.trials()] == [4, 8]


def test_a_trial_that_diverged_is_counted_and_one_that_was_lost_is_made_again(stores) -> None:
    store = stores()
    claims = store.claims(2)
    lost = next(claims)
    store.ended(lost, search_store.LOST)
    again = next(claims)
    store.ended(again, "diverged", why="not finite")
    assert (again.number, again.values) == (lost.number + 1, lost.values)
    tried(store, next(claims))
    assert next(claims, None) is None


@pytest.mark.parametrize("prune", ["median", "halving"])
def test_the_worse_half_is_pruned_and_the_better_is_not(stores, prune: str) -> None:
    store = stores(prune=prune)
    for claim in store.claims(7):
        quality = 0.9 if claim.number < 6 else 0.1
        ended = [claim.report(epoch, quality) for epoch in range(1, 5)]
        assert any(ended) == (claim.number == 6)
        assert not any(claim.report(epoch, quality) for epoch in (1,)) or claim.number == 6  # told twice: no warning
        store.ended(claim, "finished", accuracy={"value": quality}, loss=0.0)


def test_nothing_in_the_database_is_a_pickle(stores, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*_: object) -> None:
        raise AssertionError("a pickle was read")

    monkeypatch.setattr(pickle, "loads", raises)
    monkeypatch.setattr(pickle, "load", raises)
    monkeypatch.setattr(pickle, "Unpickler", raises)
    store = stores()
    for claim in store.claims(12):
        tried(store, claim)
    assert len(store.trials()) == 12


# --- going on ---------------------------------------------------------------------------------------------------------


def test_a_stopped_search_goes_on_to_the_very_same_result(done: Done, tmp_path: Path) -> None:
    recipe, asking = Recipe.from_values(VALUES), Asking(runs=tmp_path / "runs", name="s")
    begun = tmp_path / "runs/s/trial-001/recipe.toml"  # the second trial is at its first step
    stopping = replace(asking, asked=lambda: Interrupted("Stopped by Ctrl-C.") if begun.is_file() else None)
    with pytest.raises(Interrupted, match=r"1 of 3 trials are done; `tellapart search --resume .*s` goes on"):
        list(search(recipe, stopping, tries=[LR, WIDTH], trials=3))
    assert Run.find(asking.runs, "s").status()["state"] == "interrupted"
    assert Run.open(asking.runs, "s/trial-001").status()["state"] == "interrupted"
    found = list(search_again(Run.find(asking.runs, "s"), asking, trials=4))[-1]
    assert isinstance(found, Found)
    assert table(tmp_path, "s") == table(done.at, "s")
    for n in range(4):
        part = f"runs/s/trial-00{n}/predictions/validation.safetensors"
        assert (tmp_path / part).read_bytes() == (done.at / part).read_bytes()


def test_a_trial_that_was_trained_but_not_told_is_not_trained_again(tmp_path: Path, monkeypatch) -> None:
    recipe, asking = Recipe.from_values(VALUES), Asking(runs=tmp_path, name="s")
    with monkeypatch.context() as patch:
        patch.setattr(Store, "ended", lambda *_, **__: (_ for _ in ()).throw(StorageError("gone")))
        with pytest.raises(StorageError, match="gone"):
            list(search(recipe, asking, tries=[WIDTH], trials=1))
    model = tmp_path / "s/trial-000/model.safetensors"
    before = model.stat().st_mtime_ns
    found = list(search(recipe, asking, tries=[WIDTH], trials=1))[-1]
    assert isinstance(found, Found)
    assert [one.state for one in found.tried] == ["finished"]
    assert model.stat().st_mtime_ns == before


def test_another_search_under_the_same_name_is_refused(done: Done) -> None:
    other = looked_for(done.at, "--try", "optim.lr=0.001..0.2", "--try", WIDTH, "--run", "s")
    assert other.code == 7
    assert "The fields of this search changed: optim.lr=0.001..0.2 here, optim.lr=0.001..0.3 before." in other.err
    other = looked_for(done.at, "--try", LR, "--try", WIDTH, "--run", "s", "--seed", "5")
    assert other.code == 7
    assert "The recipe of this search changed: seed = 5 here, seed = 0 before." in other.err


def test_other_pictures_under_the_same_name_are_refused(tmp_path: Path) -> None:
    make_folder(tmp_path / "pets", per_class=8)
    words = ("search", "pets", *TINY, "--try", WIDTH, "--run", "s", "--trials")
    assert tellapart(tmp_path, *words, "1").code == 0
    make_folder(tmp_path / "more", per_class=9)
    (tmp_path / "more/cat/08.png").rename(tmp_path / "pets/cat/08.png")
    other = tellapart(tmp_path, *words, "2")
    assert other.code == 7
    assert "The pictures of this search changed: " in other.err
    (tmp_path / "pets/cat/08.png").unlink()
    assert tellapart(tmp_path, *words, "2").code == 0


def test_what_is_no_search_is_named(done: Done, tmp_path: Path) -> None:
    resumed = tellapart(done.at, "resume", "s")
    assert (resumed.code, "s is a search.\nhint: Go on with it: `tellapart search --resume s`" in resumed.err) == (
        2,
        True,
    )
    trial = tellapart(done.at, "search", "--resume", "s/trial-000")
    assert (trial.code, "trial-000 is no search." in trial.err) == (2, True)
    assert "Did you mean" in tellapart(done.at, "search", "--resume", "ss").err
    train(tmp_path, "t", "digits", *TINY, "--no-test")
    other = looked_for(tmp_path, "--try", LR, "--run", "t")
    assert other.code == 2
    assert "exists already" in other.err
    (done.at / "runs/broken").mkdir()
    (done.at / "runs/broken/status.json").write_text('{"id": "x"}')
    (done.at / "runs/broken/members.json").write_text('{"search": {"tries": 3}}')
    assert tellapart(done.at, "search", "--resume", "broken").code == 4


# --- a trial that never returns ---------------------------------------------------------------------------------------

SLOW = """
import sys, time
from tellapart.workflow import search_database, search_store
search_database.BEAT = search_store.BEAT = 0.2
from tellapart.cli import main
from tellapart.training import fit
fit.seed_dropout = lambda *_: time.sleep(3600)
main(sys.argv[1:])
"""


def waited(until: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not until() and time.monotonic() < end:
        time.sleep(0.05)
    assert until()


def test_a_trial_of_a_killed_process_elsewhere_is_named_and_replaced(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(search_database, "SILENCE", 1)
    monkeypatch.setattr(search_store, "SILENCE", 1)
    words = (
        "search",
        "digits",
        *TINY,
        "--try",
        WIDTH,
        "--run",
        "s",
        "--storage",
        f"sqlite:///{tmp_path / 'shared.db'}",
    )
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    command, environment = process(*words)
    command = [command[0], "-c", SLOW, *words]
    with subprocess.Popen(command, env=environment, cwd=tmp_path / "one", stderr=subprocess.DEVNULL) as child:
        try:
            waited((tmp_path / "one/runs/s/trial-000/recipe.toml").is_file)
            time.sleep(2.5)  # the database counts whole seconds
            alive = tellapart(tmp_path / "two", *words)  # it is slow, not dead
        finally:
            child.kill()
    host = socket.gethostname()
    assert alive.code == 0, alive.err
    assert "not heard of" not in alive.err
    assert f"Still running in other processes: trial-000 on {host}.\n" in alive.out
    time.sleep(2.5)
    done = tellapart(tmp_path / "two", *words)
    assert done.code == 0, done.err
    lost = f"note: trial-000 on {host} was not heard of for 1 seconds: it is lost, and another takes its place\n"
    assert done.err.count(lost) == 1
    rows = table(tmp_path / "two", "s")
    assert [(row["run"], row["state"]) for row in rows] == [("trial-001", "finished"), ("trial-002", "finished")]
    assert {row["model.width"] for row in rows} == {"4", "8"}
    assert "Still running" not in done.out


def test_a_trial_that_others_gave_up_does_not_count_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report, given_up = Claim.report, []

    def late(claim: Claim, *words: Any) -> bool:
        if not given_up:
            given_up.append(claim.handle.study.tell(claim.number, state=optuna.trial.TrialState.FAIL))
        return report(claim, *words)

    monkeypatch.setattr(Claim, "report", late)
    done = looked_for(tmp_path, "--try", WIDTH, "--run", "s")
    assert done.code == 0, done.err
    assert "note: trial-000: It was not heard of for 180 seconds, so others count it as lost; nor does it" in done.err
    assert [(row["run"], row["state"]) for row in table(tmp_path, "s")] == [
        ("trial-001", "finished"),
        ("trial-002", "finished"),
    ]


def test_signs_of_life_are_given_until_a_trial_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_store, "BEAT", 0.01)
    with database(f"sqlite:///{tmp_path / 'a.db'}") as storage:
        how = {"fields": fields_of((WIDTH,)), "seed": 0, "prune": "", "home": "here", "locks": tmp_path / "locks"}
        store, beats = Store(storage=storage, name="s", **how), []
        claim = next(store.claims(1))
        assert isinstance(claim, Claim)
        monkeypatch.setattr(storage, "record_heartbeat", lambda number: (beats.append(number), 1 / 0))
        with store.heard(claim):
            waited(lambda: len(beats) > 3)  # a database that fails it is no end of it
        n = len(beats)
        time.sleep(0.05)
        assert len(beats) == n
        store.ended(claim, "finished", accuracy={"value": 0.5}, loss=0.0)
        with pytest.raises(search_store.Taken):
            store.ended(claim, "finished", accuracy={"value": 0.5}, loss=0.0)


# --- trials that end early --------------------------------------------------------------------------------------------


def test_a_pruned_trial_says_so_and_keeps_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Claim, "report", lambda claim, *_: claim.number == 1)
    done = looked_for(tmp_path, "--try", LR, "--trials", "3", "--run", "s", "--prune", "median")
    assert done.code == 0, done.err
    assert "trial-001: pruned, validation accuracy" in done.err
    run = done.run("s/trial-001")
    assert run.status()["state"] == "pruned"
    assert [record["epoch"] for _, record in run.records() if record["kind"] == "epoch"] == [0]
    assert "Pruned after epoch 1 of 2: others were better." in (run.folder / "log.txt").read_text()
    assert [row["state"] for row in table(tmp_path, "s")] == ["finished", "pruned", "finished"]
    assert "s/trial-001," not in done.out


def test_a_trial_that_cannot_be_is_told_with_its_reason_once_another_could(tmp_path: Path) -> None:
    first = looked_for(tmp_path, "--try", "optim.lr=0.1..0.2", "--batch-size", "5000", "--run", "all", "--trials", "2")
    assert first.code == 2
    assert "error: With optim.lr = 0." in first.err
    assert "The batch of 5000 is larger than the" in first.err
    assert not (tmp_path / "runs/all").exists()
    words = ("--try", "train.batch_size=16,5000", "--run", "s", "--seed", "2")  # with this seed, 16 is first
    done = looked_for(tmp_path, *words)
    assert "trial-001: failed, The batch of 5000 is larger than the" in done.err
    assert [row["state"] for row in table(tmp_path, "s")] == ["finished", "failed"]
    assert "It is the best of 2 tried" in done.out


def test_a_trial_that_diverges_is_one_that_was_tried(tmp_path: Path) -> None:
    done = looked_for(tmp_path, "--try", "optim.lr=1e30,1e31", "--trials", "1", "--run", "s", "--set", "optim.clip=0")
    assert done.code == 0, done.err
    assert [row["state"] for row in table(tmp_path, "s")] == ["diverged"]
    assert "No trial was trained to its end." in done.out


def test_a_penalty_is_swept_with_a_figure(tmp_path: Path) -> None:
    done = looked_for(tmp_path, "--try", "optim.weight_decay=0,1,30", "--model", "linear", "--run", "s")
    assert done.code == 0, done.err
    strength = {row["run"]: float(row["optim.weight_decay"]) for row in table(tmp_path, "s")}
    norms = {strength[name]: load_file(done.run(f"s/{name}").bundle)["1.weight"].norm().item() for name in strength}
    assert sorted(norms, key=lambda decay: -norms[decay]) == [0, 1, 30]
    with Image.open(tmp_path / "runs/s/trials.png") as figure:
        assert min(figure.size) > 100


# --- what is missing --------------------------------------------------------------------------------------------------


def test_without_optuna_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    done = looked_for(tmp_path, "--try", LR)
    assert done.code == 2
    assert "`search` needs optuna." in done.err
    assert "python3 -m pip install 'tellapart[search]'" in done.err


def test_without_psycopg_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    done = looked_for(tmp_path, "--try", LR, "--run", "s", "--storage", "postgresql://me@127.0.0.1/x")
    assert done.code == 2
    assert "python3 -m pip install 'tellapart[postgresql]'" in done.err


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.db").write_bytes(b"not a database" * 100)
    done = looked_for(tmp_path, "--try", LR, "--run", "s", "--storage", f"sqlite:///{tmp_path / 'bad.db'}")
    assert done.code == 4
    assert "bad.db cannot be used: file is not a database." in done.err
