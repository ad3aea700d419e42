"""Findings about single files: what cannot be read, and what is read in a way that one should know."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from os.path import splitext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.audit.facts import Facts, about
from tellapart.audit.findings import Finding, some
from tellapart.data.index import Ignored
from tellapart.data.select import empty_classes as empty
from tellapart.data.sources.listing import few

FAULTS = {
    b"empty": ("empty", "of zero bytes", "Fetch them again, or remove them."),
    b"pointer": ("lfs-pointers", "git-LFS pointers instead of pictures", "Run `git lfs pull` where they come from."),
    b"page": ("web-pages", "HTML pages named like pictures", "The download failed: fetch them again."),
    b"text": ("text-files", "text named like pictures", "Remove them, or fetch the pictures again."),
    b"foreign": ("other-formats", "of a format that is not read", "Convert them to PNG or JPEG."),
    b"unknown": ("not-pictures", "not pictures that can be read", "Repair or remove them."),
    b"broken": ("broken", "truncated or damaged", "Fetch them again, or remove them."),
    b"bomb": ("bombs", "far too large to be read", "Make them smaller, or remove them."),
    b"animated": ("animated", "holding several pictures; only still ones are read", "Save one frame of each."),
    b"memory": ("too-much-memory", "that need too much memory", "Make them smaller, or remove them."),
    b"late": ("too-slow", "that take too long to read", "Remove them, or save them anew."),
    b"died": ("deadly", "that ended the process which read them", "Remove them, or save them anew."),
    b"unread": ("unreadable", "that the system does not let read", "Check the permissions and the disk."),
}
"""fault: kind of the finding, what the files are, what helps. All are serious: training would stop at them."""

ENDINGS = {
    b"JPEG": (".jpg", ".jpeg"),
    b"MPO": (".jpg", ".jpeg"),
    b"PNG": (".png",),
    b"PPM": (".ppm", ".pgm", ".pbm"),
    b"BMP": (".bmp",),
    b"TIFF": (".tif", ".tiff"),
    b"WEBP": (".webp",),
}

Table = NDArray[np.void]

TRAITS: dict[str, tuple[Callable[[Table], NDArray[np.bool_]], str, str]] = {
    "sixteen-bit": (lambda t: t["bits"] == 16, "have 16 bits a channel", "They are scaled to 8 bits."),
    "cmyk": (lambda t: t["mode"] == b"CMYK", "are CMYK, for printing", "They are converted to RGB without a profile."),
    "palette": (lambda t: np.isin(t["mode"], [b"P", b"PA"]), "have a palette", "They are read as RGB."),
    "alpha": (lambda t: t["alpha"], "have transparency", "They are laid over white."),
    "rotated": (lambda t: t["orientation"] > 1, "are turned by their EXIF data", "They are turned upright, always."),
}
"""kind: which rows, what they are, and the one way in which they are read everywhere."""


def faulty(facts: Facts) -> Iterator[Finding]:
    """One finding for each kind of file that is no whole picture."""
    for fault, (kind, what, fix) in FAULTS.items():
        files = facts.named(np.flatnonzero(facts.table["fault"] == fault), facts.reasons.__getitem__)
        fix = f"{fix} Or train without them, named and counted: --on-bad skip"
        yield from about(facts, files, f" {what}", kind=kind, severity="serious", noun="file", fix=fix)


def empty_classes(facts: Facts, partial: Collection[str]) -> Iterator[Finding]:
    """The classes of which no picture can be read, in all or in one part; parts in `partial` may lack classes."""
    bad, index = np.flatnonzero(facts.table["fault"] != b""), facts.index.take(facts.whole())
    unread = (Ignored(key=key, reason=why) for key, why in facts.named(bad, facts.reasons.__getitem__))
    lacking = empty(replace(index, ignored=(*index.ignored, *unread)), partial)
    if lacking:
        said = [f"{name}{f' in {part}' * bool(part)} ({some(len(of), 'file')} not read)" for name, part, of in lacking]
        names = list(dict.fromkeys(name for name, *_ in lacking))
        yield Finding(
            kind="empty-classes",
            severity="serious",
            title=f"No picture can be read of class {few(said)}",
            detail="Training and split stop at a class without pictures.",
            files=tuple((one.key, one.reason) for *_, files in lacking for one in files),
            fix=f"Convert its files to PNG or JPEG, or leave it out: --exclude '{','.join(names)}'",
            numbers={"classes": names, "of": len(index.classes)},
        )


def traits(facts: Facts) -> Iterator[Finding]:
    """What is unusual about whole pictures, and how it is handled, once and the same everywhere."""
    whole = facts.whole()
    for kind, (which, what, handled) in TRAITS.items():
        files = facts.named(whole[which(facts.table[whole])], lambda row: _stored(facts.table[row]))
        yield from about(facts, files, f" {what}. {handled}", kind=kind)


def _stored(row: Any) -> str:
    turned = f", orientation {row['orientation']}" if row["orientation"] > 1 else ""
    return f"{row['format'].decode()}, {row['mode'].decode()}, {row['width']} x {row['height']}{turned}"


def wrong_endings(facts: Facts) -> Iterator[Finding]:
    """Pictures whose file name promises another format than they have."""
    wrong = []
    for row in facts.whole().tolist():
        kind, key = bytes(facts.table["format"][row]), facts.index.keys[row]
        ending = splitext(key)[1].lower()
        if ending and kind in ENDINGS and ending not in ENDINGS[kind]:
            wrong.append((key, f"is {kind.decode()}"))
    yield from about(
        facts,
        wrong,
        " of another format than the name says",
        kind="wrong-extension",
        severity="warning",
        detail="They are read by what they hold, so nothing is lost here; other programs may stumble.",
        fix="Rename them, or save them anew in the format of their name.",
    )


def left_out(facts: Facts, pictures: Mapping[str, str]) -> Iterator[Finding]:
    """Files among the pictures that are not read at all; `pictures` are what `left_pictures` says of them."""
    lost = [(one.key, pictures[one.key]) for one in facts.index.ignored if pictures.get(one.key)]
    rest = [(one.key, one.reason) for one in facts.index.ignored if not pictures.get(one.key)]
    yield from about(
        facts,
        lost,
        " that count are left out, for the ending of the name or the format",
        kind="left-out-pictures",
        severity="warning",
        detail="Nothing is trained on them and nothing is judged by them.",
        fix="Give each the ending of what it is (.jpg, .png); convert a HEIC photo, an AVIF or a GIF to JPEG.",
        beside=True,
    )
    yield from about(facts, rest, " not looked at", kind="left-out", noun="file", beside=True)
