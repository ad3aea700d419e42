"""The recipe: TOML in and out, every rule kept, every refusal in words, and names that are the names of real things."""

import math
import tomllib
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellapart import names
from tellapart.errors import UsageError
from tellapart.recipe import Recipe, rule_of, rules
from tellapart.recipe_values import Rule, to_toml_value

RULES = dict(rules())
TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30)


def legal(rule: Rule) -> st.SearchStrategy:
    """Any value that a rule takes."""
    if rule.choices:
        value = st.sampled_from(rule.choices)
    elif rule.kind is bool:
        value = st.booleans()
    elif rule.kind is str:
        value = TEXT
    elif rule.kind is tuple:
        value = st.lists(TEXT, max_size=3).map(tuple)
    elif rule.kind is int:
        value = st.integers(int(rule.low or 0), int(rule.high) if rule.high is not None else 10**15)
    else:
        low = rule.low if rule.low is not None else rule.above
        value = st.floats(low, rule.high, exclude_min=rule.low is None, allow_nan=False, allow_infinity=False)
    return value | st.none() if rule.auto else value


@settings(deadline=None)  # a busy machine is no fault
@given(st.fixed_dictionaries({}, optional={path: legal(rule) for path, rule in RULES.items()}))
def test_toml_gives_back_an_equal_recipe(values):
    recipe = Recipe.from_values(values)
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    assert {path: recipe.values()[path] for path in values} == values


@given(TEXT, TEXT)
def test_odd_text_and_odd_remarks_survive_toml(value, remark):
    recipe = Recipe.from_values({"data.source": value})
    text = recipe.to_toml(origins={"data.source": remark})
    assert Recipe.from_toml(text) == recipe
    assert len(text.split("\n")) == len(Recipe().to_toml().split("\n"))


@given(st.text(max_size=30) | st.integers(-(10**17), 10**17) | st.floats(allow_nan=False) | st.booleans())
def test_any_value_is_spelled_as_toml_has_it(value):
    if isinstance(value, str):
        value = value.encode("utf-8", "ignore").decode()
    assert tomllib.loads(f"x = {to_toml_value(value)}")["x"] == value


def test_a_part_of_a_recipe_is_enough():
    assert Recipe.from_toml("") == Recipe()
    assert Recipe.from_toml("[train]\nepochs = 3") == Recipe.from_values({"train.epochs": 3})


def test_every_default_keeps_its_own_rule():
    defaults = Recipe().values()
    assert Recipe.from_values(defaults) == Recipe()
    assert list(defaults) == list(RULES)


def refused(values: dict, *parts: str) -> None:
    with pytest.raises(UsageError) as caught:
        Recipe.from_values(values)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("key", "guess"),
    [
        ("train.epoch", "train.epochs"),
        ("optim.learning_rate", "optim.lr"),
        ("optm.lr", "optim.lr"),
        ("model.epochs", "train.epochs"),
        ("data.Source", "data.source"),
        ("nonsense", "Choose one of"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(key, guess):
    refused({key: 1}, f"Unknown recipe key '{key}'.", guess)


OUTSIDE = [
    *((path, rule.low - 1) for path, rule in RULES.items() if rule.low is not None),
    *((path, rule.high + 1) for path, rule in RULES.items() if rule.high is not None),
    *((path, rule.above) for path, rule in RULES.items() if rule.above is not None),
    *((path, "no such word") for path, rule in RULES.items() if rule.choices and rule.kind is str),
    *((path, value) for path, rule in RULES.items() if rule.kind is float for value in (math.nan, math.inf)),
    ("input.channels", 2),
    ("data.source", "a\x00b"),
]


@pytest.mark.parametrize(("path", "value"), OUTSIDE, ids=[f"{path}={value!r}" for path, value in OUTSIDE])
def test_a_value_outside_its_rule_is_refused_in_words(path, value):
    value = int(value) if RULES[path].kind is int else value
    refused({path: value}, f"{path}: expected {RULES[path].wants()}. Received: {value!r}.")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("train.epochs", "a whole number, at least 0, or auto"),
        ("optim.lr", "a number, above 0, or auto"),
        ("data.validation", "a number, at least 0, at most 0.9"),
        ("augment.flip", "true or false, or auto"),
        ("input.channels", "one of 1, 3, or auto"),
        ("optim.name", f"one of {', '.join(names.OPTIMIZERS)}, or auto"),
        ("data.source", "text"),
    ],
)
def test_a_rule_says_what_it_wants(path, words):
    assert rule_of(path).wants() == words


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("train.epochs", True),
        ("train.epochs", 3.0),
        ("train.epochs", "3.0"),
        ("train.epochs", "1_000"),
        ("train.epochs", "٣"),
        ("train.epochs", ""),
        ("optim.lr", True),
        ("optim.lr", "1_0.5"),
        ("optim.lr", "nan"),
        ("optim.nesterov", 1),
        ("optim.nesterov", "perhaps"),
        ("data.source", 3),
        ("train.seed", None),
        ("train.epochs", [3]),
        ("train.epochs", {"a": 1}),
        ("data.source", "\udcff"),
    ],
)
def test_a_value_of_another_kind_is_refused(path, value):
    refused({path: value}, f"{path}: expected", "Received:")


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("train.epochs", "3", 3),
        ("optim.lr", "1e-3", 0.001),
        ("optim.lr", 1, 1.0),
        ("optim.nesterov", "off", False),
        ("optim.nesterov", "Yes", True),
        ("input.channels", "3", 3),
        ("data.source", "3", "3"),
    ],
)
def test_the_text_of_a_flag_becomes_its_kind(path, text, value):
    found = Recipe.from_values({path: text}).values()[path]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("path", [path for path, rule in RULES.items() if rule.auto])
def test_auto_opens_a_value_again(path):
    assert Recipe.from_values({path: "auto"}).values()[path] is None


def test_auto_is_only_for_what_can_be_found_out():
    refused({"train.seed": "auto"}, "train.seed: expected a whole number, at least 0, at most 9223372036854775807.")


def test_every_bad_value_is_named_at_once():
    refused({"train.epochs": -1, "optim.lr": -1, "no.such": 1}, "train.epochs", "optim.lr", "'no.such'")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("epochs = 3", "Put it below a line such as [train]."),
        ("lr = 3", "Put it below a line such as [optim]."),
        ("this is not toml", "my.toml is not TOML"),
        ("[train.deep]\nx = 1", "Unknown recipe key 'train.deep'."),
        ("[train]\nepochs = [3]", "train.epochs: expected"),
        ("[train]\nepochs = 2026-01-01", "train.epochs: expected"),
        ("[[train]]\nepochs = 3", "'train' stands outside a section."),
        ("[train]\nepochs = 3\nepochs = 4", "my.toml is not TOML"),
        ("x = " + "[" * 5000, "my.toml is not TOML"),
    ],
)
def test_a_wrong_file_is_refused_in_words(text, told):
    with pytest.raises(UsageError) as caught:
        Recipe.from_toml(text, where="my.toml")
    assert told in str(caught.value)


def test_names_of_optimisers_schedules_and_losses_are_the_things_there_are():
    from tellapart.training.losses import LOSSES
    from tellapart.training.optim import OPTIMISERS
    from tellapart.training.schedule import SCHEDULES
    from tellapart.workflow.settle import DEFAULT_RATES

    assert tuple(OPTIMISERS) == names.OPTIMIZERS == tuple(DEFAULT_RATES)
    assert tuple(SCHEDULES) == names.SCHEDULES
    assert tuple(LOSSES) == names.LOSSES


def test_names_of_models_filters_and_sources_are_the_things_there_are():
    from tellapart.data.sources import SOURCES
    from tellapart.data.square import FILTERS
    from tellapart.models.build import BUILDERS

    assert tuple(BUILDERS) == names.OWN_MODELS
    assert tuple(FILTERS) == names.FILTERS
    assert tuple(SOURCES) == names.NAMED_SOURCES


def test_names_of_torchvision_models_are_all_of_its_classifiers():
    from torchvision import models

    assert sorted(names.TORCHVISION_MODELS) == sorted(models.list_models(module=models))


def test_every_normalisation_but_data_has_numbers():
    from tellapart.preprocess import fixed_statistics

    assert [name for name in names.NORMALIZATIONS if fixed_statistics(name, 3) is None] == ["data"]


SHIPPED = sorted(p.name for p in resources.files("tellapart").joinpath("recipes").iterdir() if p.name.endswith(".toml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_loads(name):
    text = resources.files("tellapart").joinpath("recipes", name).read_text(encoding="utf-8")
    assert names.is_model(Recipe.from_toml(text, where=name).model.name)


def test_cifar10_quick_holds_the_constants_of_the_notes():
    text = resources.files("tellapart").joinpath("recipes", "cifar10-quick.toml").read_text(encoding="utf-8")
    recipe = Recipe.from_toml(text)
    assert (recipe.data.source, recipe.model.name, recipe.loss.name) == ("cifar10", "quick", "cross-entropy")
    assert (recipe.optim.name, recipe.optim.lr, recipe.optim.momentum) == ("sgd", 0.01, 0.0)
    assert (recipe.optim.weight_decay, recipe.optim.schedule, recipe.loss.label_smoothing) == (0.0, "constant", 0.0)
    assert (recipe.train.batch_size, recipe.train.epochs, recipe.train.log_every) == (64, 10, 100)
    assert (recipe.input.normalize, recipe.augment.preset) == ("none", "none")
