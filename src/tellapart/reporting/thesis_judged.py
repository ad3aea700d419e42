"""How a training was judged, in the sentences of a methods paragraph; each only where it is true."""

from collections.abc import Iterator, Mapping

from tellapart.evaluation.ranks import FEWEST
from tellapart.reporting.evidence import Evidence, Facts, Marked, Training
from tellapart.reporting.story import percent

Said = tuple[str, Mapping[str, object]]
"""A sentence with places for values and citations, and the values, which may hold anything."""


def judging(of: Training) -> Iterator[Said]:
    """What was found on the part that is judged, and by which methods."""
    yield from _of_marks(of) if isinstance(of, Marked) else _of_one(of)


def _where(of: Facts) -> str:
    return "the test part" if of.part == "test" else "the validation part, by which the model was chosen,"


def _opened(of: Facts) -> Iterator[Said]:
    """How often the test part was opened, where it is what is judged and that is known."""
    times = len(of.opened_before or ())
    if of.part == "test" and times:
        values = {"times": "once" if times == 1 else f"{times} times"}
        yield "The test part had been opened {times} before.", values
    elif of.part == "test" and of.opened_before is not None:
        yield "The test part was opened once.", {}


def _grouped(of: Facts) -> str:
    return ", pictures of one group counting for as many as they are worth" * (of.groups is not None)


def _of_one(of: Evidence) -> Iterator[Said]:
    values = {"accuracy": percent(of.accuracy), "n": f"{of.accuracy.n:,}"}
    yield f"The accuracy on {_where(of)} is {{accuracy}} (95 % interval, n = {{n}}).", values
    yield from _opened(of)
    groups = f"{_grouped(of)} [@rao1992]" if of.groups is not None else ""
    yield (
        f"Intervals are those of Wilson for shares [@wilson1927]{groups}, of Hall for mean losses [@hall1992] such as "
        "the Brier score [@brier1950], after DeLong for areas [@delong1988] (of an area of 1, that of Wilson), and "
        "bootstrap intervals for the other scores [@efron1987], such as Cohen's kappa [@cohen1960] and the correlation "
        "of Matthews [@gorodkin2004].",
        {},
    )
    at = of.judgement.answering.temperature
    if at != 1:
        yield (
            "Probabilities are calibrated by the temperature {at} [@guo2017], found on validation.",
            {"at": f"{at:.2f}"},
        )


def _of_marks(of: Marked) -> Iterator[Said]:
    found, least = {one.name: one for one in of.judgement.figures}, of.judgement.thresholds
    halves = sum(not one.fitted for one in least)
    half = "; 0.5 for the {halves} of {classes} that fewer than {fewest} pictures of it have, or lack" * bool(halves)
    yield (
        "A picture is said to have every class whose probability, the sigmoid of its output, reaches the threshold of "
        f"that class: the one of the highest F1 on validation{half}.",
        {"halves": f"{halves:,}", "classes": f"{len(least):,}", "fewest": FEWEST},
    )
    names = {"map": "mean average precision", "micro": "micro F1", "macro": "macro F1", "exact": "exact match"}
    values = {"n": f"{of.judgement.n:,}", **{key: percent(found[name]) for key, name in names.items()}}
    yield (
        f"The mean average precision of the classes on {_where(of)} is {{map}} (95 % interval, n = {{n}}); at the "
        "thresholds micro F1 is {micro}, macro F1 {macro}, and {exact} of the pictures have every class right.",
        values,
    )
    if of.judgement.fitted_here:
        yield "The thresholds were fitted to these very pictures, which flatters what is judged by them.", {}
    yield from _opened(of)
    yield (
        "Intervals are those of Wilson for shares [@wilson1927], where several decisions of a picture count by whole "
        f"pictures [@rao1992]{_grouped(of)}, of Hall for the mean loss and sample F1 "
        "[@hall1992], after DeLong for areas and average precisions [@delong1988] (of one of 1, that of Wilson), and "
        "bootstrap intervals for macro scores [@efron1987].",
        {},
    )
