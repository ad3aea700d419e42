"""The split is stratified, seeded and decided by content; the seal holds wherever a test picture might slip through."""

import ast
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pictures import make_folder
from PIL import Image

from tellapart.data import identity
from tellapart.data.augment import augmenter
from tellapart.data.index import NO_PART, ArrayStore, Index, Strings
from tellapart.data.loader import Loader
from tellapart.data.pictures import MemoryPixels, Pictures, first_pass, mean_and_std
from tellapart.data.seal import SEALED_LABEL, SealBroken, open_test, sealed
from tellapart.data.select import limited
from tellapart.data.sources.folder import folder
from tellapart.data.split import divided, grouped
from tellapart.errors import DataError, UsageError
from tellapart.evaluation.predict import predict_part
from tellapart.models.plain import build_linear
from tellapart.preprocess import Preprocess
from tellapart.recipe import Recipe
from tellapart.recipe_augment import Augment
from tellapart.training.average import Average
from tellapart.training.checkpoint import Position
from tellapart.training.fit import Plan, fit
from tellapart.training.losses import make_loss
from tellapart.training.optim import make_optimiser
from tellapart.training.precision import Precision

SRC = Path(__file__).resolve().parents[1] / "src" / "tellapart"
TO = Preprocess(size=12, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
CPU = torch.device("cpu")


def index_of(counts: tuple[int, ...], **columns) -> Index:
    """An index with so many rows of each class, and a digest of its own for each row."""
    n = sum(counts)
    digests = np.random.default_rng(5).integers(0, 256, (n, 16), np.uint8)
    standard = {
        "name": "planted",
        "classes": tuple(f"class{k}" for k in range(len(counts))),
        "keys": Strings.of(f"{row}.png" for row in range(n)),
        "labels": np.repeat(np.arange(len(counts)), counts),
        "parts": np.full(n, NO_PART, np.uint8),
        "store": ArrayStore(np.arange(n, dtype=np.uint8)[:, None, None, None] + np.zeros((1, 4, 4, 1), np.uint8)),
        "digests": digests,
    }
    return Index(**{**standard, **columns})


def split(index: Index, *, validation: float = 0.2, test: float = 0.1, seed: int = 0, anew: bool = False) -> Index:
    return divided(index, validation=validation, test=test, seed=seed, anew=anew)


def decoded(root: Path) -> Pictures:
    return first_pass(folder(root), TO, skip_bad=False, memory=10**9)


@given(st.lists(st.integers(3, 80), min_size=2, max_size=5), st.integers(0, 2**31))
def test_each_part_gets_its_share_of_each_class(counts, seed):
    made = split(index_of(tuple(counts)), seed=seed)
    expected = [[max(1, round(n * 0.2)) for n in counts], [max(1, round(n * 0.1)) for n in counts]]
    assert [made.counts("validation").tolist(), made.counts("test").tolist()] == expected
    assert sum(len(made.rows(part)) for part in ("train", "validation", "test")) == sum(counts)


def test_a_split_is_seeded():
    index = index_of((40, 40))
    assert split(index, seed=1).parts.tolist() == split(index, seed=1).parts.tolist()
    assert split(index, seed=1).parts.tolist() != split(index, seed=2).parts.tolist()


def test_another_order_and_other_keys_give_the_same_split():
    index = index_of((30, 30))
    order = np.random.default_rng(6).permutation(60)
    shuffled = replace(index.take(order), keys=Strings.of(f"other/{n}.bmp" for n in range(60)))
    assert split(shuffled).parts.tolist() == split(index).parts[order].tolist()
    assert identity.split(split(shuffled)) == identity.split(split(index))


def test_other_file_names_in_another_order_give_the_same_split_of_real_pictures(class_folder, tmp_path):
    first = decoded(class_folder).index
    for name in first.classes:
        (tmp_path / "renamed" / name).mkdir(parents=True)
        for n, path in enumerate(sorted((class_folder / name).iterdir())):
            Image.open(path).save(tmp_path / "renamed" / name / f"{(n * 7) % 12}-x.bmp")
    second = decoded(tmp_path / "renamed").index
    assert identity.listing(first) != identity.listing(second)
    assert identity.content(first) == identity.content(second)
    assert identity.split(split(first)) == identity.split(split(second))
    assert identity.test_part(split(first)) == identity.test_part(split(second))


def test_adding_pictures_moves_few_of_the_others():
    many = index_of((200, 200))
    fewer = many.take(np.setdiff1d(np.arange(400), [3, 250]))
    before, after = split(fewer).parts, split(many).parts[np.setdiff1d(np.arange(400), [3, 250])]
    assert (before != after).sum() <= 8


@given(st.integers(0, 2**31))
def test_equal_pictures_never_straddle_parts(seed):
    digests = np.random.default_rng(seed).integers(0, 80, (200, 1), np.uint8) + np.zeros((1, 16), np.uint8)
    made = split(index_of((100, 100), digests=digests), seed=seed)
    assert all(len(set(made.parts[digests[:, 0] == one].tolist())) == 1 for one in np.unique(digests[:, 0]))


def test_planted_copies_of_files_stay_in_one_part(class_folder):
    for copy in range(6):
        shutil.copy(class_folder / "cat" / "03.png", class_folder / "cat" / f"copy{copy}.png")
    index = decoded(class_folder).index
    copies = [row for row, key in enumerate(index.keys) if "copy" in key or key == "cat/03.png"]
    assert len(copies) == 7
    for seed in range(10):
        assert len(set(split(index, seed=seed).parts[copies].tolist())) == 1


def test_groups_never_straddle_parts():
    keys = Strings.of(f"patient{row % 9}/{row}.png" for row in range(90))
    index = grouped(index_of((45, 45), keys=keys), r"(patient\d+)/")
    for seed in range(10):
        made = split(index, seed=seed)
        parts = {(key.split("/")[0], part) for key, part in zip(made.keys, made.parts.tolist(), strict=True)}
        assert len(parts) == 9
        assert len(set(made.parts.tolist())) == 3


def test_the_first_group_of_the_expression_names_the_group():
    index = index_of((2, 2), keys=Strings.of(["a1-x", "a2-x", "b1-x", "b2-y"]))
    groups = {pattern: grouped(index, pattern).groups for pattern in ("(a|b)[0-9]", "[xy]$")}
    assert {pattern: found.tolist() for pattern, found in groups.items() if found is not None} == {
        "(a|b)[0-9]": [0, 0, 1, 1],
        "[xy]$": [0, 0, 0, 1],
    }


def test_a_key_without_a_group_and_a_broken_expression_are_refused():
    with pytest.raises(DataError, match=r"matches nothing in 4 keys, such as 0\.png"):
        grouped(index_of((2, 2)), "patient")
    with pytest.raises(UsageError, match="not a regular expression"):
        grouped(index_of((2, 2)), "(")


def given_parts(*counts: int) -> Index:
    """Two classes of thirty, whose rows lie in train, validation and test as counted, for each class."""
    return index_of((30, 30), parts=np.tile(np.repeat(np.arange(3, dtype=np.uint8), counts), 2))


def test_given_parts_are_kept():
    index = given_parts(20, 6, 4)
    assert split(index, seed=3).parts.tolist() == index.parts.tolist()


def test_given_parts_are_made_anew_when_asked():
    index = given_parts(20, 6, 4)
    assert split(index, anew=True).counts("test").tolist() == [3, 3]
    assert split(index, anew=True).parts.tolist() != index.parts.tolist()


def test_train_and_test_get_a_validation_part_out_of_train_alone():
    index = given_parts(25, 0, 5)
    made = split(index)
    assert made.rows("test").tolist() == index.rows("test").tolist()
    assert made.counts("validation").tolist() == [5, 5]
    assert set(made.rows("validation")) <= set(index.rows("train"))


def test_train_and_validation_get_no_test_part():
    made = split(given_parts(25, 5, 0))
    assert len(made.rows("test")) == 0
    assert identity.test_part(made) == ""


def test_a_class_too_small_for_a_part_is_refused_by_name():
    with pytest.raises(DataError, match=r"Class 'class1' has no picture in the validation part \(2 in all\)"):
        split(index_of((30, 2)))


def test_no_test_when_its_share_is_zero():
    assert not (split(index_of((5, 5)), test=0).parts == 2).any()


def test_a_split_without_validation_is_refused():
    with pytest.raises(DataError, match="There is no validation picture among 10"):
        split(index_of((5, 5)), validation=0, test=0)


def test_content_is_the_same_in_a_folder_and_in_an_array(class_folder):
    pictures = decoded(class_folder)
    assert isinstance(pictures.pixels, MemoryPixels)
    as_array = replace(pictures.index, store=ArrayStore(pictures.pixels.array), digests=None)
    again = first_pass(as_array, TO, skip_bad=False, memory=10**9)
    assert identity.content(again.index) == identity.content(pictures.index)


def test_content_tells_another_pixel_and_another_class_apart():
    index = index_of((3, 3))
    other = replace(index, digests=index.digests ^ np.eye(6, 16, dtype=np.uint8))  # type: ignore[operator]
    found = [index, other, replace(index, labels=index.labels[::-1].copy()), replace(index, classes=("a", "b"))]
    assert len({identity.content(one) for one in found}) == 4


def test_the_test_part_is_the_same_however_train_and_validation_are_divided():
    index = given_parts(25, 0, 5)
    made = [split(index, seed=seed, validation=share) for seed, share in ((0, 0.2), (1, 0.2), (0, 0.4))]
    assert len({identity.split(one) for one in made}) == 3
    assert len({identity.test_part(one) for one in made}) == 1
    assert identity.test_part(split(given_parts(24, 0, 6))) != identity.test_part(made[0])


def test_a_limit_keeps_the_shares_and_is_deterministic():
    index = index_of((60, 30, 10))
    chosen = limited(index, 20, 0)
    assert chosen.counts().tolist() == [12, 6, 2]
    assert chosen.keys[:] == limited(index, 20, 0).keys[:]
    assert chosen.keys[:] != limited(index, 20, 1).keys[:]
    assert limited(index, None, 0) is index


def test_a_limit_counts_for_each_part():
    chosen = limited(given_parts(20, 6, 4), 8, 0)
    assert [chosen.counts(part).tolist() for part in ("train", "validation", "test")] == [[4, 4]] * 3


@pytest.fixture
def closed(tmp_path) -> Pictures:
    """Pictures with given parts, under seal."""
    pictures = decoded(make_folder(tmp_path / "pets", parts=("train", "val", "test")))
    return sealed(replace(pictures, index=split(pictures.index)))


def test_sealed_rows_raise_and_the_others_are_read(closed):
    unsealed = open_test(closed)
    for row, part in enumerate(closed.index.parts.tolist()):
        if part == 2:
            for read in (closed.index.store.read, lambda one: closed.pixels.gather(np.array([0, one]))):
                with pytest.raises(SealBroken):
                    read(row)
        else:
            assert closed.index.store.read(row) == unsealed.index.store.read(row)
            assert (closed.pixels.gather(np.array([row])) == unsealed.pixels.gather(np.array([row]))).all()


def test_sealed_labels_are_blank_until_the_seal_is_opened(closed):
    test = closed.index.rows("test")
    assert (closed.index.labels[test] == SEALED_LABEL).all()
    assert (np.delete(closed.index.labels, test) >= 0).all()
    assert open_test(closed).index.counts("test").tolist() == [12, 12, 12]


def test_only_sealed_pictures_can_be_opened(closed):
    with pytest.raises(SealBroken, match="not sealed"):
        open_test(open_test(closed))


def test_a_sealed_row_among_the_training_rows_stops_the_loop(closed):
    recipe, model = Recipe.from_values({"optim.lr": 0.01}), build_linear(3, 3, 12)
    rows = np.append(closed.index.rows("train"), closed.index.rows("test")[0])
    counts: Any = {"epochs": 5, "max_steps": 5, "patience": 9, "accumulate": 1, "log_every": 9, "seed": 0}
    plan = Plan(**counts, augment=augmenter(Augment(), 2), channels_last=False)
    records = fit(
        model,
        Loader(pictures=closed, rows=rows, batch_size=8, device=CPU),
        loss_function=make_loss(recipe.loss),
        optimiser=make_optimiser(model, recipe.optim),
        precision=Precision("fp32", torch.device("cpu")),
        average=Average(model, decay=0, tail=0),
        rate=lambda step: 0.01,
        judge=lambda judged: (0.0, 0.0, 1),
        plan=plan,
        keep=lambda kind, make: None,
        asked=lambda: None,
        start=Position(),
    )
    with pytest.raises(SealBroken):
        list(records)


def test_a_sealed_row_among_the_validation_rows_stops_the_choice(closed):
    parts = closed.index.parts.copy()
    parts[closed.index.rows("test")[0]] = 1
    tampered = replace(closed, index=replace(closed.index, parts=parts))
    with pytest.raises(SealBroken):
        predict_part(build_linear(3, 3, 12), tampered, "validation", device=CPU)


def test_statistics_over_all_rows_stop_at_the_seal(closed):
    with pytest.raises(SealBroken):
        mean_and_std(closed.pixels, np.arange(len(closed.index)), 3)
    assert mean_and_std(closed.pixels, closed.index.rows("train"), 3)[0][0] > 0


def test_the_seal_is_opened_in_one_place_only():
    calls = []
    for path in SRC.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef):
                found = [n for n in ast.walk(function) if isinstance(n, ast.Call)]
                calls += [(path.name, function.name) for n in found if ast.unparse(n.func).endswith("open_test")]
    assert calls == [("final.py", "opened")]
