"""What TensorBoard has of a whole run, read back through the plugins' own backends; and nothing twice."""

import importlib.util
import io
import json
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Done, tellapart, train
from PIL import Image
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.hparams.get_experiment import Handler as Experiment
from tensorboard.plugins.hparams.list_session_groups import Handler as Groups

from tellapart.errors import Interrupted, StorageError
from tellapart.evaluation.metrics import confusion
from tellapart.evaluation.predictions import Predictions
from tellapart.evaluation.promises import Answering
from tellapart.evaluation.thresholds import curves
from tellapart.figures.confusion import confusion_picture
from tellapart.figures.grid import grid
from tellapart.models.bundle import load_bundle
from tellapart.recipe import Recipe
from tellapart.reporting.tensorboard import Board
from tellapart.run import Run
from tellapart.workflow import board as boarding
from tellapart.workflow import judge, panels
from tellapart.workflow.begin import recipe_of, recipe_text, same_pictures
from tellapart.workflow.events import Epoch, Said, Verdict
from tellapart.workflow.mistakes import worst_first
from tellapart.workflow.panels import draw, story_page
from tellapart.workflow.train import Asking, put_together
from tellapart.workflow.train import train as trained

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of what TensorBoard itself brings along
    from tensorboard.plugins.pr_curve.pr_curves_plugin import PrCurvesPlugin
    from tensorboard.plugins.text.text_plugin import TextPlugin

api_pb2: Any = importlib.import_module("tensorboard.plugins.hparams.api_pb2")  # made at run time
FEW = ("digits", "--limit", "300", "--model", "linear", "--batch-size", "48", "--set", "train.log_every=1")
MIXED = ("--set", "augment.shift=0.2", "--set", "augment.mixup=1.0")
BEST = "best_model/"


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs `open` (test opened, in four epochs) and `mixed` (sealed, one epoch, mixed pictures)."""
    folder = tmp_path_factory.mktemp("panels")
    train(folder, "open", *FEW, "--epochs", "4")
    train(folder, "mixed", *FEW, "--epochs", "1", "--no-test", *MIXED)
    return folder


def run_of(at: Path, name: str) -> Run:
    return Run.open(at / "runs", name)


def events(at: Path, name: str) -> EventAccumulator:
    sizes = {"scalars": 0, "images": 0, "tensors": 0}
    return EventAccumulator(str(at / "runs" / name / "tensorboard"), size_guidance=sizes).Reload()


def served(logdir: Path) -> TBContext:
    """The data of a log folder as TensorBoard's plugins are given it."""
    found = EventMultiplexer()
    found.AddRunsFromDirectory(str(logdir))
    found.Reload()
    return TBContext(data_provider=MultiplexerDataProvider(found, str(logdir)), logdir=str(logdir))


def picture(found: EventAccumulator, tag: str) -> np.ndarray:
    (one,) = found.Images(tag)
    return np.asarray(Image.open(io.BytesIO(one.encoded_image_string)).convert("RGB"))


def page(logdir: Path, run: str, tag: str) -> str:
    """A page of the panel Text, as the panel makes it HTML."""
    plugin = TextPlugin(served(logdir))
    (one,) = plugin.text_impl(RequestContext(), run, tag, "", True)
    return one["text"]


def sessions(logdir: Path) -> tuple[Any, dict[str, Any]]:
    """What the panel HParams shows: the experiment, and the session group of each run."""
    context = Context(served(logdir))
    experiment = Experiment(RequestContext(), context, "", api_pb2.GetExperimentRequest()).run()
    columns = [api_pb2.ColParams(hparam=one.name, include_in_result=True) for one in experiment.hparam_infos]
    every = [api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_SUCCESS, api_pb2.STATUS_RUNNING]
    asked = api_pb2.ListSessionGroupsRequest(allowed_statuses=every, col_params=columns, start_index=0, slice_size=100)
    groups = Groups(RequestContext(), context, "", asked).run().session_groups
    return experiment, {group.sessions[0].name.split("/")[0]: group for group in groups}


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_the_confusion_matrix_is_that_of_the_stored_predictions(at: Path) -> None:
    stored = Predictions.load(run_of(at, "open").predictions("validation"))
    counts = confusion(stored.logits.argmax(axis=1), stored.labels, 10)
    hits, n = int(counts.trace()), len(stored)
    found = picture(events(at, "open"), BEST + "confusion_matrix")
    low, high = (figure for figure in bounds(at, "open", "validation"))
    title = f"validation: accuracy {100 * hits / n:.1f} % [{100 * low:.1f}, {100 * high:.1f}] (n = {n})"
    assert np.array_equal(found, np.asarray(confusion_picture(counts, stored.classes, title=title)))


def bounds(at: Path, name: str, part: str) -> tuple[float, float]:
    """The interval of the accuracy, as status.json has it."""
    figures = run_of(at, name).status()["figures"]
    return next((f["low"], f["high"]) for f in figures if (f["part"], f["name"]) == (part, "accuracy"))


def test_the_mistakes_are_shown_the_surest_first(at: Path) -> None:
    stored = Predictions.load(run_of(at, "open").predictions("validation"))
    assert stored.thumbnails is not None
    worst = worst_first(stored, Answering.of(stored).temperature)
    assert worst
    tiles = [stored.thumbnails[row] for row, _ in worst[: panels.MISTAKES]]
    captions = [text.replace(" (", "\n(") for _, text in worst[: panels.MISTAKES]]
    assert np.array_equal(picture(events(at, "open"), BEST + "mistakes"), np.asarray(grid(tiles, captions, tile=112)))


def test_a_model_without_mistakes_has_no_picture_of_them(tmp_path: Path) -> None:
    right = made(6, 3)
    assert draw_on(tmp_path / "right", right)[1] == ["0 of 6 validation pictures are answered wrongly."]
    assert BEST + "mistakes" not in draw_on(tmp_path / "again", right)[0].Tags()["images"]
    wrong = replace(right, labels=(right.labels + 1) % 3)
    found, said = draw_on(tmp_path / "wrong", wrong)
    assert said == ["6 of 6 validation pictures are answered wrongly."]
    assert len(found.Images(BEST + "mistakes")) == 1
    assert draw_on(tmp_path / "many", replace(made(90, 3), labels=(made(90, 3).labels + 1) % 3))[1] == [
        "90 of 90 validation pictures are answered wrongly; the 40 surest are shown."
    ]


def made(n: int, classes: int, *, names: tuple[str, ...] = ()) -> Predictions:
    """Predictions that are all right, with thumbnails."""
    labels = np.arange(n) % classes
    return Predictions(
        part="validation",
        classes=names or tuple(f"c{k}" for k in range(classes)),
        keys=tuple(map(str, range(n))),
        logits=5 * np.eye(classes, dtype=np.float32)[labels],
        labels=labels,
        thumbnails=np.zeros((n, 8, 8, 1), np.uint8),
    )


def draw_on(folder: Path, judged: Predictions) -> tuple[EventAccumulator, list[str]]:
    with Board(folder) as board:
        said = draw(board, judged, 3, 1.0)
    return EventAccumulator(str(folder), size_guidance={"tensors": 0, "images": 0}).Reload(), said


def test_the_augmented_batch_is_the_first_one_that_was_trained_on(at: Path) -> None:
    run = run_of(at, "mixed")
    pieces = put_together(same_pictures(run, recipe_of(run)), torch.device("cpu"))
    batch = pieces.plan.augment(next(pieces.train.epoch(0)))
    assert not torch.equal(batch.images, next(pieces.train.epoch(0)).images)
    captions = []
    for shares in batch.labels[:32].tolist():
        assert sum(shares) == pytest.approx(1)
        captions.append("\n".join(f"{share:.0%} {k}" for k, share in enumerate(shares) if share >= 0.005))
    wanted = grid(list(batch.images[:32].numpy()), captions)
    assert np.array_equal(picture(events(at, "mixed"), "data/augmented_batch"), np.asarray(wanted))
    run = run_of(at, "open")
    pieces = put_together(same_pictures(run, recipe_of(run)), torch.device("cpu"))
    batch = next(pieces.train.epoch(0))
    wanted = grid(list(batch.images[:32].numpy()), [str(label) for label in batch.labels[:32].tolist()])
    assert np.array_equal(picture(events(at, "open"), "data/augmented_batch"), np.asarray(wanted))
    assert events(at, "open").Images("data/augmented_batch")[0].step == 1


def test_a_board_changes_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = ("--set", "augment.steps=random_crop:8,padding=1", "--model", "mlp:8")
    words = ("digits", "--limit", "120", "--epochs", "1", "--no-test", *steps)
    train(tmp_path, "shown", *words)
    monkeypatch.setattr(boarding, "open_board", lambda folder: None)
    train(tmp_path, "not", *words)
    states = [load_bundle(run_of(tmp_path, name).bundle).state for name in ("shown", "not")]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not (run_of(tmp_path, "not").folder / "tensorboard").exists()


# --- curves -----------------------------------------------------------------------------------------------------------


def test_the_plugin_gives_back_the_curve_of_every_class(at: Path) -> None:
    stored = Predictions.load(run_of(at, "open").predictions("validation"))
    plugin, run = PrCurvesPlugin(served(at / "runs")), "open/tensorboard"
    tags = plugin.tags_impl(RequestContext(), "")[run]
    assert sorted(tags) == [f"classes/{k}" for k in range(10)]
    for k, table in curves(stored, most=100).items():
        (one,) = plugin.pr_curves_impl(RequestContext(), "", [run], f"classes/{k}")[run]
        shown = len(one["recall"])
        assert one["step"] == 4
        assert one["thresholds"] == pytest.approx(np.linspace(0, 1, 101)[:shown])
        for row, name in enumerate(("true_positives", "false_positives", "true_negatives", "false_negatives")):
            assert one[name] == table[row, :shown].tolist()
        assert one["precision"] == pytest.approx(table[4, :shown])
        assert one["recall"] == pytest.approx(table[5, :shown])
        assert not table[:2, shown:].any()
        n = int((stored.labels == k).sum())
        assert f"recall {100 * np.mean(stored.logits.argmax(1)[stored.labels == k] == k):.1f} % [" in (
            about := tags[f"classes/{k}"]["description"]
        )
        assert f"(n = {n})" in about


def test_of_many_classes_the_worst_hundred_have_a_curve_and_the_rest_are_counted(tmp_path: Path) -> None:
    many = made(240, 120)
    logits = many.logits.copy()
    logits[many.labels == 119] = logits[many.labels == 0][0]  # the last class is never said
    found, said = draw_on(tmp_path / "many", replace(many, logits=logits))
    tags = [tag for tag in found.Tags()["tensors"] if tag.startswith("classes/")]
    assert len(tags) == 100
    assert {"classes/c119", "classes/c0"} <= set(tags)
    assert said[1] == "100 classes have a curve, those with the lowest F1; 20 others have none."
    assert len(draw_on(tmp_path / "few", made(60, 30))[1]) == 1


def test_more_than_a_thousand_classes_have_no_confusion_matrix_and_it_is_said(tmp_path: Path) -> None:
    for number, drawn in ((1001, False), (1000, True)):
        found, said = draw_on(tmp_path / str(number), made(number, number))
        assert (BEST + "confusion_matrix" in found.Tags()["images"]) == drawn
        assert ("1,001 classes are too many for a confusion matrix" in " ".join(said)) != drawn


def test_names_that_print_alike_have_curves_of_their_own_and_stay_inert(tmp_path: Path) -> None:
    names = ("a\nb", "a b", "<script>alert(1)</script>", "a/b\udc80\x1b[31m")
    found, _ = draw_on(tmp_path / "x" / "tensorboard", made(8, 4, names=names))
    tags = sorted(tag for tag in found.Tags()["tensors"] if tag.startswith("classes/"))
    assert tags == ["classes/<script>alert(1)</script>", "classes/a b (0)", "classes/a b (1)", "classes/a/b  [31m"]


# --- settings and results ---------------------------------------------------------------------------------------------


def test_hparams_has_the_settings_that_differ_first_and_the_results(at: Path) -> None:
    experiment, groups = sessions(at / "runs")
    differing = [one.name for one in experiment.hparam_infos if one.differs]
    assert {"train.epochs", "train.patience"} >= set(differing) >= {"train.epochs"}
    assert [one.name for one in experiment.hparam_infos][: len(differing)] == differing
    kinds = {one.name: one.type for one in experiment.hparam_infos}
    assert kinds["train.shuffle"] == api_pb2.DATA_TYPE_BOOL
    assert kinds["optim.lr"] == api_pb2.DATA_TYPE_FLOAT64
    assert kinds["model.name"] == api_pb2.DATA_TYPE_STRING
    assert not {"train.board", "data.root", "machine.device", "augment.rotate"} & set(kinds)
    assert groups["mixed"].hparams["augment.mixup"].number_value == 1.0
    for name, epochs in (("open", 4), ("mixed", 1)):
        values = recipe_of(run_of(at, name)).values()
        assert groups[name].hparams["optim.lr"].number_value == pytest.approx(values["optim.lr"])
        assert groups[name].hparams["train.epochs"].number_value == epochs
        assert groups[name].hparams["train.shuffle"].bool_value is True
        assert groups[name].sessions[0].status == api_pb2.STATUS_SUCCESS
        found = {v.name.tag: v.value for v in groups[name].metric_values if v.name.tag.startswith(BEST)}
        parts = ("validation", "test") if name == "open" else ("validation",)
        assert len(found) == 4 * len(parts)
        for figure in run_of(at, name).status()["figures"]:
            if figure["name"] == "top-5 accuracy":
                continue
            tag = f"{BEST}{figure['part']}_{figure['name']}"
            assert found[tag] == pytest.approx(figure["value"])
            if figure["name"] == "accuracy":
                assert (found[f"{tag}_low"], found[f"{tag}_high"]) == pytest.approx((figure["low"], figure["high"]))


def test_several_seeds_are_a_table_of_their_own(tmp_path: Path) -> None:
    done = tellapart(tmp_path, "train", *FEW, "--epochs", "1", "--no-test", "--seeds", "2", "--run", "many")
    assert done.code == 0, done.err
    experiment, groups = sessions(tmp_path / "runs" / "many")
    assert [one.name for one in experiment.hparam_infos if one.differs] == ["train.seed"]
    assert sorted(group.hparams["train.seed"].number_value for group in groups.values()) == [0, 1]
    for group in groups.values():
        assert f"{BEST}validation_accuracy" in {one.name.tag for one in group.metric_values}


def test_settings_are_numbers_words_and_lists_in_one_line() -> None:
    recipe = Recipe.from_values({"model.layers": ["conv 3x3 8", "relu"], "data.include": "a\tb"})
    found = panels.settings_of(recipe.to_toml({}))
    assert found["model.layers"] == "conv 3x3 8, relu"
    assert found["data.include"] == "a b"
    assert found["train.batch_size"] == 64
    assert "optim.lr" not in found  # open as yet


# --- words ------------------------------------------------------------------------------------------------------------


def test_the_recipe_and_how_to_repeat_it_are_there_word_by_word(at: Path) -> None:
    run, found = run_of(at, "open"), events(at, "open")
    (recipe,) = found.Tensors("recipe")
    text = recipe.tensor_proto.string_val[0].decode()
    assert [line[4:] for line in text.splitlines()] == recipe_text(run).splitlines()
    shown = page(at / "runs", "open/tensorboard", "how_to_repeat")
    assert "<code>tellapart train digits --limit 300" in shown
    assert "<code>tellapart reproduce open" in shown
    assert f"torch {torch.__version__}" in shown
    assert ", ".join(f"{n} {part}" for part, n in run.status()["counts"].items()) in shown
    assert run.status()["split"] in shown


def test_a_run_from_python_says_so(tmp_path: Path) -> None:
    values = {"data.source": "digits", "data.limit": 60, "model.name": "linear", "train.epochs": 1}
    verdict = list(trained(Recipe.from_values(values), Asking(runs=tmp_path, name="py", open_test=False)))[-1]
    assert isinstance(verdict, Verdict)
    assert "<code>(from Python)" in page(tmp_path, "py/tensorboard", "how_to_repeat")


def test_the_story_has_every_figure_with_its_interval_and_every_finding(at: Path) -> None:
    run = run_of(at, "open")
    shown = page(at / "runs", "open/tensorboard", "story")
    for figure in run.status()["figures"]:
        assert f"<td>{figure['part']} {figure['name']}</td>" in shown
        assert f"(n = {figure['n']:,})" in shown
    for finding in run.status()["diagnosis"]:
        assert finding["text"] in shown
    assert "of the test part there are figures and, under the tags test_…, its confusion matrix and its" in shown
    assert "opened" not in shown
    assert "The test part is still sealed" in page(at / "runs", "mixed/tensorboard", "story")


def test_the_story_says_how_it_stands_with_the_test_part(at: Path) -> None:
    verdict = Verdict(run="r", called="r", folder="", model="", classes=("a", "b"), figures=[], test="none")
    assert "There is no sealed test part" in story_page(verdict, [])
    opened = replace(verdict, test="opened", opened_before=[])
    assert "before" not in story_page(opened, [])
    assert "It was opened once before" in story_page(replace(opened, opened_before=["x"]), [])
    assert "It was opened 3 times before" in story_page(replace(opened, opened_before=["x", "y", "z"]), [])


def test_what_a_file_is_called_is_shown_and_does_nothing(tmp_path: Path) -> None:
    text = "a *b* [c](javascript:x) <script>x</script> | `d` \\ __e__"
    with Board(tmp_path / "r") as board:
        board.text("story", panels._escaped(text))
        board.text("recipe", panels._verbatim(f"{text}\n```\n<b>\n\x1b[31m"))
    plain = page(tmp_path, "r", "story")
    assert "<script" not in plain
    assert "<a " not in plain
    assert "<em>" not in plain
    assert "a *b* [c](javascript:x) &lt;script&gt;x&lt;/script&gt; | `d` \\ __e__" in plain
    block = page(tmp_path, "r", "recipe")
    assert "<script" not in block
    assert "<b>" not in block
    assert "\x1b" not in block


# --- once, and whatever happens ---------------------------------------------------------------------------------------


def once(at: Path, name: str) -> Counter[str]:
    """How often each tag of the end, and of the beginning, is in the event files of a run."""
    found = events(at, name)
    ends = [tag for tag in found.Tags()["tensors"] if not tag.startswith("_hparams_")]
    count = Counter({tag: len(found.Tensors(tag)) for tag in ends})
    count.update({tag: len(found.Images(tag)) for tag in found.Tags()["images"] if tag != "data/first_pictures"})
    count.update({tag: len(found.Scalars(tag)) for tag in found.Tags()["scalars"] if tag.startswith(BEST)})
    return count


def test_a_run_has_one_event_file_with_everything_once(at: Path) -> None:
    assert len(list((run_of(at, "open").folder / "tensorboard").iterdir())) == 1
    count = once(at, "open")
    assert set(count.values()) == {1}
    assert {"recipe", "how_to_repeat", "story", f"{BEST}confusion_matrix", f"{BEST}mistakes"} <= set(count)


def test_a_run_that_is_extended_has_the_panels_of_its_new_end_only(tmp_path: Path) -> None:
    train(tmp_path, "a", *FEW, "--epochs", "1", "--no-test")
    before = once(tmp_path, "a")
    done: Done = tellapart(tmp_path, "extend", "a", "--epochs", "3", "--no-test")
    assert done.code == 0, done.err
    assert once(tmp_path, "a") == before
    found = events(tmp_path, "a")
    assert found.Images(BEST + "confusion_matrix")[0].step == 3
    assert [one.step for one in found.Scalars("epoch/val_accuracy")] == [1, 2, 3]
    _, groups = sessions(tmp_path / "runs")
    assert groups["a"].hparams["train.epochs"].number_value == 3
    assert len(groups["a"].sessions) == 1


def test_a_stopped_run_says_how_it_began_and_gets_its_end_when_it_is_resumed(tmp_path: Path) -> None:
    endings: list[Interrupted] = []
    values = {"data.source": "digits", "data.limit": 200, "model.name": "linear", "train.epochs": 3}
    asking = Asking(runs=tmp_path / "runs", name="s", open_test=False, asked=lambda: endings[0] if endings else None)

    def stop() -> None:
        for event in trained(Recipe.from_values(values), asking):
            endings.extend([Interrupted("stopped")] * isinstance(event, Epoch))

    with pytest.raises(Interrupted):
        stop()
    count = once(tmp_path, "s")
    assert {"recipe", "how_to_repeat", "data/augmented_batch"} == set(count)
    steps, went_on = (
        [events(tmp_path, "s").Images("data/augmented_batch")[0].step],
        run_of(tmp_path, "s").status()["step"],
    )
    assert sessions(tmp_path / "runs")[1]["s"].sessions[0].status == api_pb2.STATUS_UNKNOWN
    done = tellapart(tmp_path, "resume", "s", "--no-test")
    assert done.code == 0, done.err
    assert set(once(tmp_path, "s").values()) == {1}
    assert f"{BEST}confusion_matrix" in once(tmp_path, "s")
    steps.append(events(tmp_path, "s").Images("data/augmented_batch")[0].step)
    assert steps == [1, went_on + 1]
    assert went_on >= 3
    assert sessions(tmp_path / "runs")[1]["s"].sessions[0].status == api_pb2.STATUS_SUCCESS


def verdict_through(run: Run) -> list[Any]:
    verdict = Verdict(run="r", called="r", folder="", model="", classes=(), figures=[], test="none")

    def told() -> Iterator[Any]:
        yield Said(text="before")
        yield verdict

    return list(panels.with_panels(run, told()))


def test_a_full_disk_at_the_end_is_said_and_the_verdict_comes(at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StorageError("There is no room left.", "Make some.")

    monkeypatch.setattr(panels, "judged", full)
    said, note, verdict = verdict_through(run_of(at, "open"))
    assert (said.text, type(verdict)) == ("before", Verdict)
    assert note == Said(stage=-1, text="the last panels of TensorBoard could not be written: There is no room left.")
    monkeypatch.setattr(panels, "judged", lambda *_: None)
    assert [type(event) for event in verdict_through(run_of(at, "open"))] == [Said, Verdict]


def test_a_run_without_a_board_ends_without_one(at: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(verdict_through(Run(tmp_path))) == 2
    assert list(tmp_path.iterdir()) == []
    (file,) = (run_of(at, "open").folder / "tensorboard").iterdir()
    before = file.stat().st_size
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert len(verdict_through(run_of(at, "open"))) == 2
    assert file.stat().st_size == before


def test_a_test_part_that_is_opened_later_has_the_panels_that_it_would_have_had_at_the_end(tmp_path: Path) -> None:
    for name, more in (("early", ()), ("late", ("--no-test",))):
        train(tmp_path, name, *FEW, "--epochs", "2", *more)
    before = once(tmp_path, "late")
    assert not [tag for tag in before if "test" in tag]
    assert tellapart(tmp_path, "test", "late").code == 0
    early, late = (events(tmp_path, name) for name in ("early", "late"))
    scalars = [tag for tag in early.Tags()["scalars"] if tag.startswith(f"{BEST}test_")]
    assert sorted(scalars) == [f"{BEST}test_{what}" for what in ("accuracy", "accuracy_high", "accuracy_low", "loss")]
    for tag in scalars:
        (one,), (other,) = late.Scalars(tag), early.Scalars(tag)
        assert (one.step, one.value) == (2, other.value) == (other.step, other.value)
    for tag in ("test_confusion_matrix", "test_mistakes"):
        assert np.array_equal(picture(late, BEST + tag), picture(early, BEST + tag))
    stored = Predictions.load(run_of(tmp_path, "late").predictions("test"))
    counts, n = confusion(stored.logits.argmax(axis=1), stored.labels, 10), len(stored)
    low, high = bounds(tmp_path, "late", "test")
    title = f"test: accuracy {100 * counts.trace() / n:.1f} % [{100 * low:.1f}, {100 * high:.1f}] (n = {n})"
    wanted = confusion_picture(counts, stored.classes, title=title)
    assert np.array_equal(picture(late, f"{BEST}test_confusion_matrix"), np.asarray(wanted))
    assert {tag: count for tag, count in once(tmp_path, "late").items() if tag in before} == {**before, "story": 2}
    stories = [one.tensor_proto.string_val[0].decode() for one in late.Tensors("story")]
    assert "still sealed" in stories[0]
    assert "still sealed" not in stories[1]
    assert len(list((run_of(tmp_path, "late").folder / "tensorboard").iterdir())) == 1
    _, groups = sessions(tmp_path / "runs")
    assert f"{BEST}test_accuracy" in {one.name.tag for one in groups["late"].metric_values}
    tellapart(tmp_path, "test", "late")  # judged again, not opened again
    assert len(events(tmp_path, "late").Scalars(f"{BEST}test_loss")) == 1


def test_a_full_disk_at_a_later_test_is_said_and_the_verdict_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        train(tmp_path, name, *FEW, "--epochs", "1", "--no-test")
    assert "note: the last panels" not in tellapart(tmp_path, "test", "b").err

    def full(*_: object) -> None:
        raise StorageError("There is no room left.", "Make some.")

    monkeypatch.setattr(judge, "opened_later", full)
    done = tellapart(tmp_path, "test", "a")
    assert (done.code, "test accuracy" in done.out) == (0, True)
    assert "note: the last panels of TensorBoard could not be written: There is no room left." in done.err


# --- the script that looks at it --------------------------------------------------------------------------------------


def look(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "scripts"))
    return importlib.import_module("look_board")


@pytest.mark.parametrize("panel", ["scalars", "images", "pr_curves", "hparams", "projector", "graphs", "timeseries"])
def test_a_panel_without_data_is_found(panel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: dict[str, Any] = {
        "tags": {"run": {}} if panel != "timeseries" else {"scalars": {"runTagInfo": {}}},
        "info": {},
        "runs": [],
        "experiment": {"hparamInfos": [{"name": "a"}]},
        "session_groups": {"sessionGroups": [{"hparams": {"a": 1}, "metricValues": []}]},
    }
    assert not look(monkeypatch).PANELS[panel](lambda route, **_: nothing[route])


def test_a_panel_with_data_is_believed_and_one_with_empty_series_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    panels_of = look(monkeypatch).PANELS
    full: dict[str, Any] = {"tags": {"run": ["a", "b"]}, "scalars": [[0, 1, 2]], "text": [{"text": "x"}]}
    assert panels_of["scalars"](lambda route, **_: full[route]) == "2 tags, each with values"
    with pytest.raises(ValueError, match="no values for a of run"):
        panels_of["text"](lambda route, **_: {**full, "text": []}[route])
    curve = {"recall": [1.0, 0.5], "precision": [0.1, 1.0]}
    given = {"tags": {"run": ["a"]}, "pr_curves": {"run": [curve]}}
    assert panels_of["pr_curves"](lambda route, **_: json.loads(json.dumps(given))[route]) == "1 curves"
    curve["recall"][0] = 0.9
    with pytest.raises(ValueError, match="a of run is no curve"):
        panels_of["pr_curves"](lambda route, **_: given[route])
