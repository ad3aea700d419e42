"""Export: a model in another format, with the proof that it answers as before."""

import contextlib
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tellapart.data.decode import decode
from tellapart.data.pictures import Pictures
from tellapart.errors import DataError, TellapartError, UsageError
from tellapart.files import readable, replace_together, writable
from tellapart.models.bundle import Bundle
from tellapart.models.pretrained import sha256_of
from tellapart.recipe import printable
from tellapart.run import Run
from tellapart.shipping import faults
from tellapart.shipping.foreign import foreign
from tellapart.shipping.onnx_file import LAYOUT, facts, need
from tellapart.shipping.others import ARTEFACTS, NETWORK, THRESHOLDS, opened, write
from tellapart.shipping.parity import BOUNDS, ENOUGH, Answers, Parity, Sample, given, parity
from tellapart.workflow.models import find_model, run_of
from tellapart.workflow.predict import files_of
from tellapart.workflow.robust import judged_with

CERTIFICATE = "parity.json"
COMPARED, JUDGED, SHOWN = 256, 1000, 128
"""Files that both ways are compared on; those by which a smaller file's accuracy is judged; training pictures that show
int8 its ranges."""
SMALLER = ("fp16", "int8")
LOGITS = "its logits, by which a picture is unknown, are others; the probabilities made of them are within the bound"
FEWER = "by so few pictures no more is told: a run whose pictures are there, or --pictures FOLDER, gives more"
TOLD = {
    "classes": "names of the classes, or another order of them,",
    "thresholds": "thresholds",
    "known": "bounds of what it takes for known",
    "promises": "bounds of its promises",
    "preprocess": "words on how pictures are prepared",
}
"""What a file says of its model that has to be so, and how that is called."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written: the artefact, other files beside it, and what the parity check found."""

    file: Path
    others: tuple[str, ...]
    parity: Parity


def export(
    runs: Path, model: str, way: str, *, out: Path, front: str, precision: str, folder: Path | None = None
) -> Exported:
    """Write a model one way out and check it. One that fails is called so: model.failed.onnx. What is in `out` is
    replaced by all that was made and is sound, or it stays. `folder`: pictures to compare on, in place of the run's.

    Raises UsageError where a library is missing or training pictures are needed and not there, DataError where the
    folder holds none, StorageError.
    """
    bundle, name = find_model(runs, model)
    need(way)
    if other := next((file for key, file in ARTEFACTS.items() if key != way and (out / file).exists()), ""):
        raise UsageError(f"{out} holds {other}, whose {CERTIFICATE} is another.", "Choose another --out.")
    pictures, why = _pictures(runs, model)
    samples, about = _material(bundle, folder or pictures, why, precision)
    calibration: tuple[NDArray[np.uint8], ...] = ()
    if precision == "int8":
        shown, samples = _shown(pictures, samples, folder, why)
        calibration = tuple(given(bundle.preprocess, one, front)[None] for one in shown)
    with _whole(out) as made:
        write(way, bundle, name, made, front=front, precision=precision, calibration=calibration)
        answers = opened(way, bundle, made / ARTEFACTS[way])
        found = certified(bundle, answers, samples, about, front=front, arithmetic=precision)
        del answers
        return _kept(made, out, way, name, found)


def check(runs: Path, model: str, file: Path, folder: Path | None = None) -> Parity:
    """Compare an .onnx file of `export onnx` with a model: what it answers, and what it says of the model. `folder`:
    pictures to compare on, in place of the run's. It is judged by the precision it is said to have, or by that of its
    graph where that is finer.

    Raises UsageError for a file of a model that is another, DataError where the folder holds no picture, StorageError.
    """
    bundle, name = find_model(runs, model)
    need("onnx")
    pictures, why = _pictures(runs, model)
    what = printable(str(file))
    with foreign(file, sum(one.nbytes for one in bundle.state.values()), name) as (about, answers):
        if len(about["classes"]) != len(bundle.classes):
            said = f"{what} knows {len(about['classes'])} classes, {name} {len(bundle.classes)}."
            raise UsageError(said, "It was exported from another model.")
        front, arithmetic = about.get("front", "picture"), about.get("precision", "float32")
        if front not in list(LAYOUT) or arithmetic not in ("float32", *SMALLER):
            raise UsageError(f"{what} does not say how it was exported.", "Export the model once more.")
        arithmetic = min(arithmetic, about["graph"], key=lambda one: BOUNDS[one])
        samples, of = _material(bundle, folder or pictures, why, arithmetic)
        found = certified(bundle, answers, samples, of, front=front, arithmetic=arithmetic)
    ours = json.loads(json.dumps(facts(bundle, name, front)))
    odd = next((key for key in TOLD if about.get(key) != ours[key]), "")
    if not odd:
        return found
    told = f"other {TOLD[odd]} in the file than in the model{_apart(about.get(odd), ours[odd])}"
    return replace(found, other=odd, fault="; and ".join(filter(None, [found.fault, told])))


def _apart(theirs: Any, ours: Any) -> str:
    """Which of some words are others, where each has a name."""
    if not (isinstance(theirs, dict) and isinstance(ours, dict)):
        return ""
    odd = [f"{key}: {theirs.get(key)} instead of {ours[key]}" for key in ours if theirs.get(key) != ours[key]]
    return printable(f" ({', '.join(odd)})"[:300]) if odd else ""


def certified(
    bundle: Bundle, answers: Answers, samples: Sequence[Sample], about: str, *, front: str, arithmetic: str
) -> Parity:
    """The parity on samples, with its fault where it fails. A smaller file fails for a known fault too."""
    how = "square" if (front, arithmetic) == ("square", "float32") else arithmetic
    found, theirs = parity(bundle, samples, answers, front=front, arithmetic=how, about=about)
    if not samples or (found.sound and found.largest <= BOUNDS["float32"]):
        return found
    if found.sound:
        return replace(found, fault=faults.named(bundle, samples, theirs, rounded=True))
    rounded = f"rounding to {arithmetic}, for no other known fault gives its answers" if arithmetic in SMALLER else ""
    near = found.near and found.finite
    unnamed = rounded or "; ".join(filter(None, [LOGITS * near, FEWER * (len(samples) < faults.FEW)]))
    fault = faults.named(bundle, samples, theirs, rounded=near and arithmetic in SMALLER)
    return replace(found, fault=fault or unnamed)


def _pictures(runs: Path, model: str) -> tuple[Pictures | None, str]:
    """The run's pictures, sealed; or why there are none."""
    run: Run | None = run_of(runs, model)
    if run is None:
        return None, "a model file comes without its run"
    try:
        return judged_with(run, None)[1], ""
    except TellapartError as error:
        return None, f"the pictures of {run.name} are not there: {error.message.rstrip('.')}"


def _material(bundle: Bundle, pictures: Pictures | Path | None, why: str, arithmetic: str) -> tuple[list[Sample], str]:
    """What to compare on, and which it is: pictures of a run or of a folder, golden samples where there are none."""
    most = JUDGED if arithmetic in SMALLER else COMPARED
    if isinstance(pictures, Path):
        return _found(pictures, most)
    if pictures is not None:
        return _compared(pictures, most)
    names = {} if bundle.thresholds else {name: k for k, name in enumerate(bundle.classes)}
    samples = [Sample(key=one.name, file=one.file, label=names.get(one.name)) for one in bundle.goldens]
    return samples, f"golden samples, because {why}; being small, they hardly show resizing"


def _found(folder: Path, most: int) -> tuple[list[Sample], str]:
    """Up to `most` picture files of a folder, evenly spaced, without classes. Raises UsageError, DataError."""
    files, samples, odd = [one for one in files_of([str(folder)]) if one.is_file()], [], []
    first = _spaced(len(files), most)
    for n in [*first.tolist(), *np.setdiff1d(np.arange(len(files)), first).tolist()]:
        if len(samples) == most:  # what is no picture is made up for by files in between
            break
        try:
            with readable(files[n]):
                samples.append(Sample(key=str(files[n]), file=files[n].read_bytes(), label=None))
            decode(samples[-1].file)
        except DataError:
            odd.append(printable(str(samples.pop().key)))
    where = printable(str(folder))
    if not samples:
        raise DataError(f"None of the files in {where} is a picture.", "Name a folder of pictures.")
    left = f", without {len(odd)} that cannot be read, such as {odd[0]}" if odd else ""
    return samples, f"pictures of {where}{left}"


def _shown(
    pictures: Pictures | None, samples: list[Sample], folder: Path | None, why: str
) -> tuple[list[Sample], list[Sample]]:
    """What shows int8 its ranges, and what is left to compare on: training pictures, or one in five of a folder's.
    Raises UsageError where there are neither.
    """
    if pictures is not None:
        return _samples(pictures, "train", SHOWN), samples
    if folder is None:
        raise UsageError(
            f"int8 has to see training pictures, and {why}.",
            "Export from a run whose pictures are there, give --pictures FOLDER, or choose fp16.",
        )
    taken = range(0, len(samples), 5)[:SHOWN]
    return [samples[n] for n in taken], [one for n, one in enumerate(samples) if n not in taken]


def _spaced(count: int, most: int) -> NDArray[np.int64]:
    """Up to `most` of so many numbers, from 0, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64))


def _compared(pictures: Pictures, most: int) -> tuple[list[Sample], str]:
    """Validation pictures; where these are few, training pictures too, without classes: they judge no accuracy."""
    samples = _samples(pictures, "validation", most)
    more = _samples(pictures, "train", max(0, ENOUGH - len(samples)))
    about = "validation and training pictures" if more else "validation pictures"
    return [*samples, *(replace(one, label=None, marks=None) for one in more)], about


def _samples(pictures: Pictures, part: str, most: int) -> list[Sample]:
    """Up to `most` files of one part, evenly spaced. Pictures that came as arrays become PNG files."""
    index = pictures.index
    rows = index.rows(part)
    rows = rows[_spaced(len(rows), most)]
    read, labels, marks = index.store.read, index.labels, index.marked(rows)
    own = [None] * len(rows) if marks is None else marks
    return [
        Sample(key=index.keys[row], file=_bytes(read(row)), label=int(labels[row]), marks=has)
        for row, has in zip(rows.tolist(), own, strict=True)
    ]


def _bytes(read: bytes | NDArray[np.uint8]) -> bytes:
    if not isinstance(read, np.ndarray):
        return bytes(read)
    file = io.BytesIO()
    Image.fromarray(decode(read).squeeze()).save(file, "PNG")
    return file.getvalue()


@contextlib.contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder on the disk of `out`, to make in it what is to go there. What is raised says that `out` is as it was."""
    there = out.is_dir()
    place = out if there else out.absolute().parent
    try:
        with writable(out):
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".tellapart-", dir=place) as folder:
                yield Path(folder)
    except TellapartError as error:
        if there:
            error.hint = f"{error.hint} {printable(str(out))} is as it was.".strip()
        elif out.is_dir():
            out.rmdir()
        raise


def _kept(folder: Path, out: Path, way: str, name: str, found: Parity) -> Exported:
    """What was made goes where it belongs; of what failed only the artefact and its certificate, under names that say
    so, beside what is there.
    """
    main, own = ARTEFACTS[way], {ARTEFACTS[way], "model.bin", CERTIFICATE}  # OpenVINO keeps its numbers in a .bin
    called = main if found.sound else _failed(main)
    said = {"artefact": called, "sha256": sha256_of(folder / main), "model": name, **found.to_json()}
    (folder / CERTIFICATE).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    names = {path.name for path in folder.iterdir()}
    to = {one: one if found.sound else _failed(one) for one in sorted(names) if found.sound or one in own}
    gone = [*map(_failed, own), *({THRESHOLDS, NETWORK} - names if way == "state-dict" else ())] if found.sound else []
    out.mkdir(exist_ok=True)
    (folder / "before").mkdir()
    replace_together(
        {folder / one: out / to[one] for one in to}, gone=[out / one for one in gone], kept=folder / "before"
    )
    others = [to[one] for one in to if one not in (main, CERTIFICATE)]
    return Exported(file=out / called, others=(*others, to[CERTIFICATE]), parity=found)


def _failed(name: str) -> str:
    return name.replace(".", ".failed.", 1)
