"""Every sentence and word of the report in English and Chinese, from words.toml beside this file."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources

LANGUAGES = ("en", "zh-Hans")
"""The languages in the order of the table, as HTML names them."""
Value = str | tuple[str, str]
"""What is put into a sentence: the same in both languages, or (English, Chinese)."""


@cache
def table() -> Mapping[str, Mapping[str, tuple[str, str]]]:
    """The two tables, `sentences` and `words`: by name, English and Chinese."""
    text = resources.files("tellapart.reporting").joinpath("words.toml").read_text(encoding="utf-8")
    return {name: {key: tuple(pair) for key, pair in one.items()} for name, one in tomllib.loads(text).items()}


def said(key: str, values: Mapping[str, Value]) -> tuple[str, str]:
    """A sentence of the table with its values, in both languages; not escaped."""
    return filled(table()["sentences"][key], values)


def word(name: str) -> tuple[str, str]:
    """A word of ours in both languages; a word that is not ours is the same in both."""
    return table()["words"].get(name, (name, name))


def filled(pair: tuple[str, str], values: Mapping[str, Value]) -> tuple[str, str]:
    """Both languages of a template with their values."""
    english, chinese = (
        pair[n].format(**{name: value if isinstance(value, str) else value[n] for name, value in values.items()})
        for n in range(2)
    )
    return english, chinese
