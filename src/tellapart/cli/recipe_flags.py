"""Flags made from the recipe's own fields, and the recipe they add up to, with the origin of every value."""

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import click

from tellapart.errors import UsageError, did_you_mean
from tellapart.files import read_text
from tellapart.models.allowed import allow_class
from tellapart.recipe import Recipe, rule_of, rules, values_of_toml

Values = dict[str, Any]
LABELLING = ("data.labels", "data.pattern", "data.columns", "data.several", "data.label_map")
"""How pictures get their labels."""
CHOOSING = tuple(
    path for path, rule in rules() if path.startswith("data.") and rule.flag not in ("", "--root", "--on-bad")
)
"""Everything that says which pictures there are, and in which part."""
FINDING = tuple(path for path in CHOOSING if path not in ("data.split", "data.overlay"))
"""What is honoured before pictures are decoded and divided."""
DIVIDING = ("data.root", *(path for path in CHOOSING if path != "data.overlay"), "data.on_bad")
"""What a split depends on."""


set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Any other setting of the recipe; `tellapart config show` lists them.",
)


def recipe_flags(function: Callable) -> Callable:
    """Add the source, every flag of the recipe, `--recipe` and `--set` to a command."""
    return and_recipe(flags_of(*(path for path, rule in rules() if rule.flag))(function))


def and_recipe(function: Callable) -> Callable:
    """Add the source, `--recipe` and `--set` to a command."""
    function = click.option(
        "--recipe",
        "recipe_name",
        metavar="FILE.toml|NAME",
        help=f"Start from a recipe: a file, or one of {', '.join(shipped())}.",
    )(set_option(function))
    return click.argument("source", required=False)(function)


def flags_of(*paths: str) -> Callable[[Callable], Callable]:
    """Add the flags of some settings to a command; `asked` or `given` reads what it got."""

    def add(function: Callable) -> Callable:
        for path in reversed(paths):
            rule = rule_of(path)
            words = _argument(path), rule.kind.__name__.upper(), _help(path)
            function = click.option(rule.flag, words[0], metavar=words[1], help=words[2])(function)
        return function

    return add


def given(flags: Values, more: Values) -> Recipe:
    """The recipe of a command that has a few flags of the recipe; `more` are settings it has otherwise."""
    return Recipe.from_values({path: value for path, value, _ in _of_flags(flags)} | more)


def _argument(path: str) -> str:
    return "flag__" + path.replace(".", "__")


def _help(path: str) -> str:
    default = {None: "auto", "": "none", (): "none"}.get(Recipe().values()[path], Recipe().values()[path])
    return f"{dict(rules())[path].help}. [{path}; default: {default}]"


def shipped() -> list[str]:
    """The names of the recipes that come with tellapart."""
    folder = resources.files("tellapart") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def asked(flags: Values) -> tuple[Recipe, dict[str, str]]:
    """The recipe that a command's flags ask for, and where each value is from: defaults, then file, then flags."""
    values, origins = values_of(flags)
    return Recipe.from_values(values), origins


def values_of(flags: Values) -> tuple[Values, dict[str, str]]:
    """The settings that a command's flags ask for, and where each is from: file, then flags."""
    values: Values = {}
    origins: dict[str, str] = {}
    layers = [*_of_recipe(flags.get("recipe_name")), *_of_flags(flags), *_of_settings(flags["settings"])]
    for path, value, origin in layers:
        values[path], origins[path] = value, origin
    if origins.get("model.name") in ("--model", "--set"):
        allow_class(values["model.name"])  # who types it wants it run; a recipe file does not type
        if origins.get("model.sha256", "--set") != "--set":  # that of a recipe is of its own network
            values["model.sha256"], origins["model.sha256"] = "", origins["model.name"]
    return values, origins


def _of_recipe(name: str | None) -> list[tuple[str, Any, str]]:
    if not name:
        return []
    path = Path(name)
    if path.is_file():
        text = read_text(path)
    elif name in shipped():
        text = (resources.files("tellapart") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    else:
        raise UsageError(
            f"There is no recipe file '{name}', and none of that name comes with tellapart.",
            did_you_mean(name, shipped()),
        )
    return [(key, value, f"recipe {name}") for key, value in values_of_toml(text, where=name).items()]


def _of_flags(flags: Values) -> list[tuple[str, Any, str]]:
    given = [(path, flags.get(_argument(path)), rule.flag) for path, rule in rules() if rule.flag]
    layers = [(path, value, flag) for path, value, flag in given if value is not None]
    return [("data.source", flags["source"], "the command line"), *layers] if flags.get("source") else layers


def _of_settings(settings: tuple[str, ...]) -> list[tuple[str, Any, str]]:
    layers = []
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(
                f"--set takes SECTION.KEY=VALUE. Received: {setting!r}.", "For example --set optim.momentum=0.8."
            )
        layers.append((path.strip(), value.strip(), "--set"))
    return layers
