"""Thesis: the pack of a finished run, from its folder alone, put in place whole or not at all."""

import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from tellapart.errors import StorageError, UsageError
from tellapart.evaluation.several import Spread
from tellapart.files import cannot_write, read_text, write_flushed
from tellapart.reporting.thesis import HEADING, Seeds, notes, pack
from tellapart.run import Run, every_run, json_object
from tellapart.workflow.report import evidence_of, member

FOLDER = "thesis"
UNITS = {"mm": 1.0, "cm": 10.0, "in": 25.4, "pt": 25.4 / 72.27}
"""Millimetres of each; pt are those of LaTeX, of which \\columnwidth is told."""
NARROWEST, WIDEST = 50.0, 400.0


@dataclass(frozen=True)
class Packed:
    """Where the pack is, how many files and bytes it has, and what it lacks, in sentences."""

    folder: Path
    files: int
    size: int
    lacks: tuple[str, ...]


def write_thesis(run: Run, *, width: str = "84mm", out: Path | None = None) -> Packed:
    """Write the pack into the folder `thesis` of the run, or to `out`, in place of an older one.

    Raises UsageError for a width that is none, a run that is not finished or that holds several trainings, and for a
    folder that is no pack; StorageError for what is damaged or cannot be written.
    """
    wide = millimetres(width)
    if run.several:
        names = [f"{run.called}/{one.folder.name}" for one in every_run(run.folder)]
        hint = (
            f"Name one: `tellapart report {names[0]} --thesis`; its tables hold the spread over all." if names else ""
        )
        raise UsageError(f"{run.name} holds {len(names)} trainings, and a thesis pack is of one.", hint)
    folder = (out or run.folder / FOLDER).absolute()
    _refuse_other(folder)
    of = evidence_of(run)
    files = pack(of, width=wide, seeds=_seeds(run))
    _put(folder, files)
    return Packed(folder, len(files), sum(map(len, files.values())), tuple(notes(of)))


def millimetres(width: str) -> float:
    """The width in millimetres. Raises UsageError for what is no length, or none of a column.

    >>> millimetres("84mm"), round(millimetres("3.3in"), 2)
    (84.0, 83.82)
    """
    found = re.fullmatch(r"\s*(\d{1,6}(?:\.\d{1,6})?)\s*(mm|cm|in|pt)\s*", width)
    if not found:
        raise UsageError(f"--width: expected a number with mm, cm, in or pt. Received: {width!r}.", "Such as 84mm.")
    wide = float(found[1]) * UNITS[found[2]]
    if not NARROWEST <= wide <= WIDEST:
        said = f"--width: {width.strip()} is {wide:.0f} mm, and figures are {NARROWEST:.0f} to {WIDEST:.0f} mm wide."
        raise UsageError(said, "Give the width of a column (\\the\\columnwidth in LaTeX), such as 84mm.")
    return round(wide, 3)


def _refuse_other(folder: Path) -> None:
    """Nobody's files are replaced but our own."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    readme = folder / "README.md"
    if (folder.exists() or folder.is_symlink()) and not (
        readme.is_file() and read_text(readme, errors="replace").startswith(HEADING)
    ):
        raise UsageError(f"{folder} exists, and is no thesis pack.", "Give --out a folder that is new.")


def _put(folder: Path, files: dict[str, bytes]) -> None:
    """Write the files beside the folder, and give them its name when all are there."""
    staged, old = (folder.with_name(f".{folder.name[:60]}-{uuid.uuid4().hex[:8]}-{what}") for what in ("new", "old"))
    try:
        for name, raw in files.items():
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            write_flushed(staged / name, raw)
        if folder.exists():
            folder.rename(old)
        staged.rename(folder)
    except OSError as error:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise cannot_write(folder, error, needed=sum(map(len, files.values()))) from error
    finally:
        for left in (staged, old):
            shutil.rmtree(left, ignore_errors=True)


def _seeds(run: Run) -> Seeds | None:
    """The trainings of the folder that a run lies in, where it holds several that are finished."""
    path = run.folder.parent / "summary.json"
    found = json_object(read_text(path)) if path.is_file() else None
    if found is None:
        return None
    try:
        return Seeds([member(one) for one in found["members"]], [Spread(**one) for one in found["spreads"]])
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{path} is damaged: {error}.") from error
