"""Recipe: everything that was asked for, as frozen data; each field says itself once, in its one line of help."""

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tellapart import names
from tellapart.errors import UsageError, did_you_mean, nearest
from tellapart.recipe_augment import Augment
from tellapart.recipe_optim import Optim
from tellapart.recipe_values import Rule, checked, to_toml_value
from tellapart.recipe_values import setting as _f

Values = Mapping[str, Any]
MOST = 2**63 - 1
ALIASES = {"learning_rate": "lr", "optimizer": "name", "num_epochs": "epochs", "bs": "batch_size", "arch": "name"}
"""What other programs call a key; used to suggest ours, never accepted."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which pictures, and how they are divided."""

    source: str = _f("digits", "the pictures: a folder of class folders, or the name of a known data set")
    root: str = _f("", "folder that holds the files of a named data set", flag="--root")
    labels: str = _f("auto", f"where labels are: {', '.join(names.LABELS)}", choices=names.LABELS, flag="--labels")
    pattern: str = _f("", "regular expression with a group called label, for labels in file names", flag="--pattern")
    columns: str = _f("", "columns of a table: path=file,label=breed,split=fold,group=patient", flag="--columns")
    several: str = _f("", "sign between the classes in a cell of a table, which may name several", flag="--several")
    label_map: str = _f("", "rename and merge classes: a=x,b=x", flag="--label-map")
    include: str = _f("", "use these classes only: a,b", flag="--include")
    exclude: str = _f("", "leave these classes out: a,b", flag="--exclude")
    validation_from: str = _f("", "a second source, whose pictures are the validation part", flag="--validation-from")
    test_from: str = _f("", "a second source, whose pictures are the test part", flag="--test-from")
    validation: float = _f(0.15, "share of the training pictures kept for validation", low=0.0, high=0.9)
    test: float = _f(0.15, "share sealed for the test, when the data bring no test part", low=0.0, high=0.9)
    split: str = _f(
        "auto",
        "auto: keep the parts the data bring; new: make train, validation and test anew; FILE.csv: as in this file",
        flag="--split",
    )
    split_seed: int = _f(0, "seed of the split; the training seed leaves the split alone", low=0, high=MOST)
    folds: int = _f(0, "deal what is not sealed into this many folds; one of them validates", low=0, high=1000)
    fold: int = _f(0, "the fold that validates, counted from 0", low=0, high=999)
    leaks: str = _f(
        "drop",
        "training pictures with the pixels of a validation or test picture: drop them, or keep them",
        choices=("drop", "keep"),
    )
    group_by: str = _f(
        "",
        "regular expression; pictures whose key gives the same match stay in one part. The word folder: by folder",
        flag="--group-by",
    )
    limit: int = _f(None, "use at most this many pictures of each part", kind=int, flag="--limit", low=1)
    limit_per_class: int = _f(
        None, "use at most this many pictures of each class in each part", kind=int, flag="--limit-per-class", low=1
    )
    on_bad: str = _f(
        "stop", "files that are not pictures: stop, or skip and count them", choices=names.ON_BAD, flag="--on-bad"
    )
    overlay: str = _f("", "reviewed list of doubtful labels, as `check --labels-out` writes it", flag="--overlay")


@dataclass(frozen=True, kw_only=True)
class Input:
    """How a picture becomes the network's input."""

    size: int = _f(None, "side of the square the network sees, in pixels", kind=int, low=4, high=1024)
    channels: int = _f(None, "1 for grey, 3 for colour", kind=int, choices=(1, 3))
    fit: str = _f("crop", "how a picture becomes square: crop its centre, pad it, or squash it", choices=names.FITS)
    filter: str = _f("bilinear", "resize filter", choices=names.FILTERS)
    normalize: str = _f(
        None,
        "mean and deviation: data (of the training pictures), none, half ([0,1] to [-1,1]), imagenet",
        kind=str,
        choices=names.NORMALIZATIONS,
    )


@dataclass(frozen=True, kw_only=True)
class Model:
    """Which network."""

    name: str = _f("small", "small, quick, linear, layers, mlp:256,128, resnet18, my.py:Net, timm:NAME", flag="--model")
    width: int = _f(16, "channels of the first stage of `small`", low=4, high=512)
    weights: str = _f("", "pretrained weights to begin with: a FILE, or default; the head is new", flag="--weights")
    layers: tuple[str, ...] = _f((), "the network `layers`, a line for each: conv 32 5 padding=2, relu, linear classes")
    changes: tuple[str, ...] = _f((), "what is changed: classifier.6 = linear classes, append linear 10, remove PATH")
    freeze: str = _f(
        "", "what stays: body (all but the head), 12 (so many blocks), or weights by name: features.*", flag="--freeze"
    )
    sha256: str = _f("", "of the file of a class of your own, as it trained; found out, and only that file runs")
    keep_norms: bool = _f(
        None, "norms keep their running statistics, in training too (auto: where they are pretrained)", kind=bool
    )
    small_stem: bool = _f(
        None, "a resnet begins without halving the picture twice (auto: up to 64 pixels, without weights)", kind=bool
    )


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What is made small."""

    name: str = _f("cross-entropy", f"the loss: {', '.join(names.LOSSES)}", choices=names.LOSSES, flag="--loss")
    label_smoothing: float = _f(
        0.1, f"share of each target spread over all classes ({', '.join(names.SMOOTHED)})", low=0.0, high=0.9
    )
    weights: str = _f("none", "how much each class counts: none, balanced (rare ones more), or a=2,b=0.5")
    ignore: str = _f("", "classes whose training pictures do not count: a,b")
    gamma: float = _f(2.0, "how little `focal` counts what is right already", low=0.0, high=10.0)
    delta: float = _f(1.0, "where `huber` turns from squares to a straight line", above=0.0, high=1000.0)
    l1: float = _f(0.0, "factor of the sum of all |weights|, a penalty beside weight decay", low=0.0)


@dataclass(frozen=True, kw_only=True)
class Train:
    """How long, in what order, and what is kept."""

    epochs: int = _f(None, "passes over the pictures; 0: only the head is fitted", kind=int, flag="--epochs", low=0)
    max_steps: int = _f(None, "stop after this many steps, whatever the epochs", kind=int, low=1)
    batch_size: int = _f(
        64, "pictures in one step; 0: all of them; auto: the most that fit", flag="--batch-size", low=0, auto=True
    )
    accumulate: int = _f(
        1, "parts a batch is computed in, to save memory: a step then takes batch_size times this", low=1
    )
    patience: int = _f(
        None, "stop when validation has not improved for this many epochs", kind=int, flag="--patience", low=1
    )
    budget: str = _f(
        "", "time the training may take, such as 90s, 10m or 2h: the steps are chosen by it", flag="--budget"
    )
    target: float = _f(0.0, "end when validation reaches this accuracy (0: never)", low=0.0, high=1.0)
    target_loss: float = _f(0.0, "end when the mean training loss of an epoch is no more than this", low=0.0)
    ema: float = _f(0.0, "judge and keep the weights' moving average of this decay (0: none)", low=0.0, high=0.99999)
    swa: float = _f(0.0, "judge and keep the mean of the epochs in this last share of the training", low=0.0, high=0.9)
    seed: int = _f(0, "seed of the weights, the order and the augmentation", flag="--seed", low=0, high=MOST)
    shuffle: bool = _f(True, "a new order of the training pictures in every epoch")
    drop_last: bool = _f(False, "leave out the last, shorter batch of an epoch")
    log_every: int = _f(100, "steps between two lines of the training loss", low=1)
    board: str = _f("curves", "for TensorBoard: curves; inside too; profile too", choices=names.BOARDS, flag="--board")
    save_every: int = _f(0, "keep every Nth epoch's checkpoint (0: only last and best)", low=0)
    goldens: int = _f(
        4, "validation pictures that travel with the model, to prove it elsewhere (0: none)", low=0, high=8
    )


@dataclass(frozen=True, kw_only=True)
class Machine:
    """On what it runs."""

    device: str = _f("auto", "auto, cpu, cuda, cuda:1 or mps", flag="--device")
    workers: int = _f(
        0, "threads that decode pictures beside the training (the result is the same for any number)", low=0, high=64
    )
    processes: int = _f(
        1,
        "processes that share every batch, each with a GPU or threads of its own",
        flag="--processes",
        low=1,
        high=4096,
    )
    parallel: str = _f("ddp", "per process all weights, or a share (fsdp)", flag="--parallel", choices=names.PARALLELS)
    sync_norm: bool = _f(False, "batch normalisation over the whole batch, not over the share of each process")
    threads: int = _f(None, "CPU threads for the arithmetic", kind=int, low=1, high=1024)
    cache: float = _f(
        20.0, "gigabytes that decoded pictures may take on the disk, where later runs find them (0: none)", low=0.0
    )
    save_seconds: float = _f(
        60.0, "seconds between two checkpoints; saving never takes more than a fiftieth of the time", low=0.0
    )
    precision: str = _f("fp32", "of the forward pass: fp32, bf16, or fp16 with a scaled loss", choices=names.PRECISIONS)
    retry: str = _f(
        "exact",
        "when memory lacks, compute each step in parts: exact (where that gives the same), always, never",
        choices=names.RETRIES,
    )
    deterministic: bool = _f(False, "refuse operations whose result differs from time to time (some need a GPU)")
    compile: bool = _f(False, "train by code that torch.compile makes; auto: where that pays, by measuring", auto=True)
    channels_last: bool = _f(True, "keep pictures in NHWC memory order, which is faster for convolutions")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What was asked. `None` in a field means: found out from the data, and written down when it is.

    >>> Recipe.from_values({"optim.lr": "0.05", "train.epochs": 3}).optim.lr
    0.05
    """

    data: Data = field(default_factory=Data)
    input: Input = field(default_factory=Input)
    augment: Augment = field(default_factory=Augment)
    model: Model = field(default_factory=Model)
    loss: Loss = field(default_factory=Loss)
    optim: Optim = field(default_factory=Optim)
    train: Train = field(default_factory=Train)
    machine: Machine = field(default_factory=Machine)

    @classmethod
    def from_values(cls, values: Values) -> "Recipe":
        """A recipe with `section.key` values laid over the defaults. Raises UsageError naming every bad one."""
        return Recipe().replaced(values)

    @classmethod
    def from_toml(cls, text: str, *, where: str = "recipe") -> "Recipe":
        """Read what `to_toml` wrote, or a part of it. Raises UsageError on a bad file, key or value."""
        return cls.from_values(values_of_toml(text, where=where))

    def replaced(self, values: Values) -> "Recipe":
        """The same recipe with some `section.key` values changed. Raises UsageError naming every bad one."""
        sections: dict[str, dict[str, Any]] = {}
        problems = []
        for path, value in values.items():
            try:
                section, _, key = path.partition(".")
                sections.setdefault(section, {})[key] = checked(path, value, rule_of(path))
            except UsageError as error:
                problems.append(error)
        if problems:
            raise problems[0] if len(problems) == 1 else UsageError("\n".join(str(p) for p in problems))
        return dataclasses.replace(self, **{s: dataclasses.replace(getattr(self, s), **v) for s, v in sections.items()})

    @property
    def optimiser(self) -> str:
        """The optimiser that is asked for, or that suits the network: AdamW where a pretrained one is tuned."""
        tuned = bool(self.model.weights) and self.model.freeze != names.BODY
        return self.optim.name or ("adamw" if tuned else "sgd")

    def values(self) -> dict[str, Any]:
        """All settings as `{"section.key": value}`, in the order of the file."""
        return {path: getattr(getattr(self, path.split(".")[0]), path.split(".")[1]) for path, _ in rules()}

    def to_toml(self, origins: Mapping[str, str] | None = None) -> str:
        """The recipe as TOML; reading it back gives an equal recipe. `origins` become comments."""
        lines: list[str] = []
        for path, value in self.values().items():
            section, key = path.split(".")
            if f"[{section}]" not in lines:
                lines += [""] * bool(lines) + [f"[{section}]"]
            remark = "" if origins is None else f"  # {printable(origins.get(path, 'default'))}"
            lines.append(f"{key} = {to_toml_value(value)}{remark}")
        return "\n".join(lines) + "\n"


def printable(text: str) -> str:
    """The text on one line, without control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def rules() -> Iterator[tuple[str, Rule]]:
    """Every `section.key` with its rule, in order."""
    for section in dataclasses.fields(Recipe):
        for entry in dataclasses.fields(section.default_factory):  # type: ignore[arg-type]
            yield f"{section.name}.{entry.name}", entry.metadata["rule"]


def rule_of(path: str) -> Rule:
    """The rule of one `section.key`. Raises UsageError with the nearest known key."""
    table = dict(rules())
    if path not in table:
        raise UsageError(f"Unknown recipe key '{path}'.", did_you_mean(path, _likely(path, table)))
    return table[path]


def _likely(path: str, table: Values) -> list[str]:
    """The keys to suggest from: those of the named section, else those with the same last word, else all."""
    section, _, key = path.rpartition(".")
    key = ALIASES.get(key, key)
    same = [known for known in table if known.split(".")[1] == key]
    inside = [known for known in table if known.startswith(f"{section}.")]
    close = nearest(key, [known.split(".")[1] for known in inside])
    return same or [known for known in inside if known.split(".")[1] == close] or inside or list(table)


def values_of_toml(text: str, *, where: str) -> dict[str, Any]:
    """The `section.key` values a TOML text sets. Raises UsageError when it is not TOML or not of two levels."""
    try:
        tree = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{where} is not TOML: {error}.", "Compare it with `tellapart config show`.") from error
    values: dict[str, Any] = {}
    for section, entries in tree.items():
        if not isinstance(entries, dict):
            home = next((path.split(".")[0] for path, _ in rules() if path.split(".")[1] == section), "train")
            raise UsageError(
                f"{where}: '{section}' stands outside a section.", f"Put it below a line such as [{home}]."
            )
        values |= {f"{section}.{key}": value for key, value in entries.items()}
    return values
