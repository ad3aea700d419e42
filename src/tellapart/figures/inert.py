"""Words from elsewhere, such as names of files and classes, as they may stand in a page: nothing in them acts."""

from html import escape

from tellapart.data.sources.listing import shown
from tellapart.figures.letters import cut
from tellapart.recipe import printable

LONGEST, LINE = 160, 80
"""Letters of a name that are shown, on a page and in a line; what is longer has "…" for its middle."""


def inert(text: object) -> str:
    """Any text without markup, without control characters, and without letters that turn the line around."""
    return escape("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in shown(text)))


def short(name: object, most: int = LONGEST) -> str:
    """The beginning and the end of a name that is too long to be read."""
    return cut(str(name), len, most)


def in_line(name: object) -> str:
    """A name as it stands in a line of a terminal."""
    return short(printable(str(name)), LINE)
