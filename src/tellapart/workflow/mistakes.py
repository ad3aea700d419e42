"""Which pictures were answered wrongly, and which cost most: in words, as rows of a table, and drawn."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.data.index import NONE
from tellapart.evaluation.marks import called, wrong_classes, wrong_pictures
from tellapart.evaluation.metrics import binary_entropies, cross_entropies, sigmoid, softmax
from tellapart.evaluation.predictions import Predictions
from tellapart.figures.inert import in_line


def worst_first(predictions: Predictions, at: float) -> list[tuple[int, str]]:
    """The rows that were answered wrongly, the surest mistake at a temperature first, 'true as said (probability)'."""
    shares = softmax(np.asarray(predictions.logits, np.float64) / at)
    said = predictions.logits.argmax(axis=1)
    wrong = np.flatnonzero(said != predictions.labels)
    wrong = wrong[np.argsort(-shares[wrong, said[wrong]], kind="stable")]
    names = [in_line(name) for name in predictions.classes]
    return [
        (int(row), f"{names[predictions.labels[row]]} as {names[said[row]]} ({100 * shares[row, said[row]]:.1f} %)")
        for row in wrong
    ]


def worst_marked(predictions: Predictions, least: Sequence[float]) -> list[tuple[int, str]]:
    """The rows of the pictures with a wrong class at the thresholds (K), the largest loss first; and which, each on a
    line, in the same order: 'missed cat (3.1 %)', or 'false dog (93.1 %)' for one that it is wrongly said to have.
    """
    said = called(predictions.logits, least)
    return [(row, _wrong_words(predictions, said[row], row)) for row in wrong_pictures(predictions, said)]


def _wrong_words(predictions: Predictions, said: NDArray[np.bool_], row: int) -> str:
    shares, names = sigmoid(predictions.logits[row]), predictions.classes
    return "\n".join(
        f"{'false' if said[k] else 'missed'} {in_line(names[k])} ({100 * shares[k]:.1f} %)"
        for k in wrong_classes(predictions, said, row)
    )


def by_loss(predictions: Predictions) -> list[tuple[str, str, str, float, float]]:
    """Every picture with its class, the class said, the probability of its own and its cross entropy, -ln of that; the
    largest first, equal ones in their order.
    """
    losses, names = cross_entropies(predictions.logits, predictions.labels).clip(0), predictions.classes
    said = predictions.logits.argmax(axis=1)
    own = [(names[label], names[guess]) for label, guess in zip(predictions.labels, said, strict=True)]
    order = np.argsort(-losses, kind="stable").tolist()
    return [(predictions.keys[n], *own[n], round(float(np.exp(-losses[n])), 6), float(losses[n])) for n in order]


def by_loss_marked(predictions: Predictions, least: Sequence[float]) -> list[tuple[str, str, str, float]]:
    """Every picture with the classes that it has, those said at the thresholds (K), and its mean binary cross entropy;
    the largest first, equal ones in their order.
    """
    marks = predictions.marks
    if marks is None:
        raise ValueError("each of these pictures has one class")
    losses, said = binary_entropies(predictions.logits, marks), called(predictions.logits, least)
    sets = [
        [" + ".join(predictions.classes[k] for k in np.flatnonzero(row)) or NONE for row in of] for of in (marks, said)
    ]
    order = np.argsort(-losses, kind="stable").tolist()
    return [(predictions.keys[n], sets[0][n], sets[1][n], float(losses[n])) for n in order]


def draw_mistakes(predictions: Predictions, path: Path, mistakes: Sequence[tuple[int, str]], *, most: int = 40) -> int:
    """Write a picture of the first mistakes, each a row with its words; gives how many there are. Without any, nothing
    is written.
    """
    from tellapart.figures.grid import grid, save_picture

    if not mistakes or predictions.thumbnails is None:
        return 0
    shown, tile = mistakes[:most], 96 if predictions.marks is None else 144
    image = grid([predictions.thumbnails[row] for row, _ in shown], [_caption(text) for _, text in shown], tile=tile)
    save_picture(image, path)
    return len(mistakes)


def _caption(text: str, most: int = 4) -> str:
    """So many of its lines, or all."""
    lines = text.splitlines()
    return text if len(lines) <= most else "\n".join([*lines[: most - 1], f"and {len(lines) - most + 1} more"])
