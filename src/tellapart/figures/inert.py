"""Words from elsewhere, such as names of files and classes, as they may stand in a page: nothing in them acts."""

from html import escape

from tellapart.data.sources.listing import shown

LONGEST = 160
"""Letters of a name that are shown; what is longer ends in "…"."""


def inert(text: object) -> str:
    """Any text without markup, without control characters, and without letters that turn the line around."""
    return escape("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in shown(text)))


def short(name: object, most: int = LONGEST) -> str:
    """The beginning of a name that is too long to be read."""
    text = str(name)
    return text if len(text) <= most else text[: most - 1] + "…"
