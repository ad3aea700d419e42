"""Which column of a table plays which role: as asked for, else guessed from what such columns are usually called."""

from collections.abc import Mapping, Sequence

from tellapart.data.sources.listing import is_picture, shown
from tellapart.errors import DataError, UsageError, did_you_mean

USUAL = {
    "path": (
        "path file filename filepath file_name file_path image_path img_path image_file",
        "image img picture photo image_id image_name img_name",
        "id name",
    ),
    "label": (
        "label class category breed species target y class_name label_name category_name",
        "labels classes categories tags",
        "folder",
    ),
    "split": ("split part subset set partition", "fold"),
    "group": ("group group_id patient patient_id subject subject_id plant plant_id video video_id person person_id",),
}
"""What the column of each role is usually called, the surest names first."""


def roles_of(
    header: Sequence[str], asked: Mapping[str, str], *, where: str, needed: Sequence[str] = ("path", "label")
) -> dict[str, str]:
    """The column of each role: those asked for ('' leaves a role out), and guesses for the others.

    Raises UsageError for a role or a column that is not there, DataError when a needed one cannot be told.

    >>> roles_of(["id", "Breed"], {}, where="labels.csv")
    {'path': 'id', 'label': 'Breed'}
    """
    for role, name in asked.items():
        if role not in USUAL:
            raise UsageError(f"A table has no role '{role}'.", did_you_mean(role, USUAL))
        if name and name not in header:
            raise UsageError(f"{where} has no column '{shown(name)}' for the {role}.", did_you_mean(name, header))
    roles = {role: name for role, name in asked.items() if name}
    wanted = [role for role in USUAL if role not in asked and (role in needed or role in ("split", "group"))]
    for role in wanted:
        if name := _guessed(role, [name for name in header if name not in roles.values()], where):
            roles[role] = name
    for role in needed:
        if role not in roles:
            above = "Its first line is a picture already: write the names of the columns above it, such as path,label."
            hint = above if any(map(is_picture, header)) else _use()
            raise DataError(f"No column of {where} can be told to be the {role}. {_listed(header)}", hint)
    for name in roles.values():
        if header.count(name) > 1 or list(roles.values()).count(name) > 1:
            raise DataError(f"The column {shown(name)!r} of {where} stands for two things. {_listed(header)}", _use())
    return {role: roles[role] for role in USUAL if role in roles}


def _guessed(role: str, header: Sequence[str], where: str) -> str:
    """The one column that is usually called so, '' when there is none. Raises DataError when there are several."""
    plain = {name: "_".join(name.casefold().replace("-", " ").split()) for name in header}
    for names in USUAL[role]:
        found = [name for name in header if plain[name] in names.split()]
        if len(found) > 1:
            which = " and ".join(repr(shown(name)) for name in found)
            raise DataError(f"The columns {which} of {where} may each be the {role}.", _use(f"{role}={found[0]}"))
        if found:
            return found[0]
    return ""


def _listed(header: Sequence[str]) -> str:
    return f"Its columns are: {', '.join(repr(shown(name)) for name in header[:20]) or 'none'}."


def _use(example: str = "path=…,label=…") -> str:
    return f'Say which with --columns "{example}".'
