"""What a training looks like on a screen: a bar on a terminal, plain lines elsewhere, and the verdict as a table."""

import errno
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import click

from tellapart.errors import DivergedError
from tellapart.evaluation.metrics import Figure
from tellapart.figures.inert import in_line
from tellapart.figures.letters import apart
from tellapart.names import SCORES
from tellapart.recipe import printable
from tellapart.training.watch import LOWER_RATE
from tellapart.workflow.events import Begun, Event, Step, Summary, Verdict, line_of
from tellapart.workflow.stopping import Stopping, let_go_of_terminal
from tellapart.workflow.train import Asking


def percent(figure: Figure) -> str:
    """A share with its interval: '98.1 % [95.7, 99.2]'."""
    return f"{100 * figure.value:.1f} % [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"


class Screen:
    """Shows events on stderr; `follow` gives back the verdict."""

    def __init__(self) -> None:
        self.bar, self.task = None, None
        self.files: dict[str, Any] = {}
        self.of = ""
        self.epochs, self.seen, self.began, self.drawn = 0, 0, 0.0, 0.0

    def follow(self, events: Iterable[Any]) -> Any:
        """Show every event as it comes; the last one, the verdict or what else it was all for, is returned instead."""
        last = None
        with self.bar_shown():
            for last in events:
                self.show(last)
        return last

    def show(self, event: Event) -> None:
        """One event as it comes."""
        line = line_of(event)
        if isinstance(event, Step):
            self._advance(event)
        elif isinstance(event, Begun):
            self._start(event)
        if line is not None:
            self.say(line)

    def decoding(self, done: int, total: int) -> None:
        """Progress of the first pass over the pictures."""
        if self.bar is None:
            return
        if self.task is None:
            self.task = self.bar.add_task("reading pictures", total=total, speed="")
        self.bar.update(self.task, completed=done, visible=done < total)

    def counting(self, what: str) -> Callable[[int, int], None]:
        """Progress of anything else that is counted."""

        def told(done: int, total: int) -> None:
            if self.bar is None:
                return
            if what not in self.files:
                self.files[what] = self.bar.add_task(what, total=total, speed="")
            self.bar.update(self.files[what], completed=done, visible=done < total)

        return told

    def fetching(self, done: int, total: int | None, name: str) -> None:
        """Progress of a file of a named data set on its way here."""
        if self.bar is None:
            return
        if name not in self.files:
            self.files[name] = self.bar.add_task(name, total=total, speed="")
        self.bar.update(self.files[name], completed=done, visible=total is None or done < total)

    def say(self, line: str) -> None:
        """One line, above the bar when there is one."""
        try:
            if self.bar is not None:
                self.bar.console.print(line, markup=False, highlight=False)
            else:
                click.echo(line, err=True)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            let_go_of_terminal()

    @contextmanager
    def bar_shown(self) -> Iterator[None]:
        """A bar while something long goes on, on a terminal."""
        if not sys.stderr.isatty():
            yield
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as self.bar:
            yield
        self.bar = None

    def _start(self, begun: Begun) -> None:
        if self.bar is not None:
            if self.task is not None:  # of the training before
                self.bar.update(self.task, visible=False)
            self.of = f"{begun.of}, " * bool(begun.of)
            self.task = self.bar.add_task("training", total=begun.total_steps, completed=begun.first_step, speed="")
        self.began, self.seen, self.epochs = time.monotonic(), 0, begun.epochs

    def _advance(self, step: Step) -> None:
        self.seen += step.pictures
        now = time.monotonic()
        if self.bar is not None and self.task is not None and now - self.drawn > 0.1:
            speed = f"{self.seen / max(now - self.began, 1e-9):,.0f} pictures/s"
            self.bar.update(
                self.task,
                completed=step.step,
                speed=speed,
                description=f"{self.of}epoch {step.epoch + 1}/{self.epochs}",
            )
            self.drawn = now


def verdict_lines(verdict: Verdict) -> Iterator[str]:
    """The verdict for a person."""
    headline = [figure for figure in verdict.figures if figure.name in SCORES]
    for figure in headline:
        yield f"{figure.part:>10} {figure.name}  {percent(figure)}  (95 % interval, n = {figure.n:,})"
    own = [one for one in verdict.baselines if one.part == verdict.part]
    simple = [f"{in_line(one.about)} {percent(one)}" for one in own]
    others = [one for one in verdict.baselines if one.about not in {same.about for same in own}]
    simple += [f"{in_line(one.about)} {percent(one)} on {one.part}" for one in others]
    if simple:
        yield printable(f"            to compare with: {', '.join(simple)}")
    if verdict.test == "none":
        yield "            no sealed test: the data bring none, and none was made (--set data.split=new makes one)"
    elif verdict.test == "sealed":
        yield f"            the test part is still sealed; `tellapart test {verdict.called}` opens it"
    elif verdict.opened_before:
        runs = verdict.opened_before
        shown = ", ".join(dict.fromkeys(runs[-3:]))
        times = "once" if len(runs) == 1 else f"{len(runs)} times"
        total = next(figure.n for figure in headline if figure.part == "test")
        part = "" if verdict.seen_before == total else f"{verdict.seen_before:,} of these {total:,} pictures were "
        yield f"            {part}opened {times} before, last by {shown}: the more often, the less it is a test"
    else:
        yield "            this test part was never opened before"
    yield from (printable(finding.line()) for finding in verdict.diagnosis)


def class_table(verdict: Verdict | Summary, *, most: int = 40) -> Iterator[str]:
    """Recall and precision of each class with n and interval; where a picture may have several, average precision."""
    ranked = [figure for figure in verdict.by_class if figure.name == "average precision"]
    if ranked:
        names = apart([one.about for one in ranked], in_line)
        width = max(len("class"), *map(len, names))
        yield f"{'class':<{width}}  {'n':>6}  average precision [95 % interval]"
        rows = list(zip(names, ranked, strict=True))[:most]
        yield from (f"{name:<{width}}  {one.n:>6,}  {percent(one)}" for name, one in rows)
        yield from [f"… and {len(ranked) - most} more; --json has them all"] * (len(ranked) > most)
        return
    recalls = [figure for figure in verdict.by_class if figure.name == "recall"]
    precisions = [figure for figure in verdict.by_class if figure.name == "precision"]
    names = apart([figure.about for figure in recalls], in_line)
    width = max(len("class"), *map(len, names))
    yield f"{'class':<{width}}  {'n':>6}  {'recall [95 % interval]':<24}  {'called':>6}  precision [95 % interval]"
    for name, recall, precision in list(zip(names, recalls, precisions, strict=True))[:most]:
        called = percent(precision) if precision.n else "– (never called)"
        found = percent(recall) if recall.n else "– (no picture)"
        yield f"{name:<{width}}  {recall.n:>6,}  {found:<24}  {precision.n:>6,}  {called}"
    if len(recalls) > most:
        yield f"… and {len(recalls) - most} more; --json has them all"


def next_commands(verdict: Verdict) -> Iterator[str]:
    """The commands a person would want now."""
    yield "next:"
    yield f"  tellapart predict {verdict.called} PICTURE…        what is on other pictures"
    yield f"  tellapart board {verdict.called}                   curves, pictures and the graph in TensorBoard"
    opens = " (this opens the seal)" if verdict.test == "sealed" else ""
    if any(one.name == SCORES[1] for one in verdict.figures):
        yield f"  tellapart test {verdict.called}                    every score and threshold{opens}"
        return
    yield f"  tellapart report {verdict.called}                  what may be said of it, on one page"
    yield f"  tellapart test {verdict.called} --mistakes FILE.png   the mistakes, surest first{opens}"


def as_document(verdict: Verdict) -> dict[str, Any]:
    """What --json prints."""
    return {
        "format": 1,
        "run": verdict.run,
        "folder": verdict.folder,
        "model": verdict.model,
        "test": verdict.test,
        "opened_before": verdict.opened_before,
        "seen_before": verdict.seen_before,
        "seconds": round(verdict.seconds, 3),
        "classes": list(verdict.classes),
        "diagnosis": [asdict(finding) for finding in verdict.diagnosis],
        "baselines": [figure.to_json() for figure in verdict.baselines],
        "figures": [figure.to_json() for figure in [*verdict.figures, *verdict.by_class]],
    }


def summary_lines(summary: Summary) -> Iterator[str]:
    """Several trainings for a person: each with its accuracy, mean and deviation, and what was said out of fold."""
    width = max(len("training"), *(len(one.run) for one in summary.members))
    yield f"{'training':<{width}}  {'seed':>6}  {'validation accuracy [95 % interval]':<35}  {'n':>6}"
    for one in summary.members:
        shown, n = (percent(one.figures[0]), f"{one.figures[0].n:,}") if one.figures else ("– (diverged)", "–")
        yield f"{one.run:<{width}}  {one.seed:>6}  {shown:<35}  {n:>6}"
    for one in summary.spreads:
        if one.name == "accuracy":
            yield f"{100 * one.mean:.2f} ± {100 * one.sd:.2f} %  mean and standard deviation over {one.over}"
    if any("seeds" in one.over for one in summary.spreads):
        yield "Seeds differ by chance in training alone: their pictures are the same."
    if summary.pooled:
        yield "Folds differ by their pictures as well, and share most of those they train on."
    for one in summary.pooled:
        if one.name == "accuracy":
            about = f", {one.about}" * bool(one.about)
            yield f"out of fold accuracy  {percent(one)}  (95 % interval, n = {one.n:,}{about})"
    done = [one for one in summary.members if one.figures]
    if not done:
        return
    yield "The best epoch of each training is chosen by the pictures it is judged by here, which flatters it a little."
    one = f"{summary.called}/{done[0].run}"
    if summary.test == "sealed":
        yield f"The test part is still sealed in all of them; `tellapart test {one}` opens it with this one."
    elif summary.test == "none":
        yield "There is no sealed test: the data bring none, and none was made."


def followed(begin: Callable[[Asking], Iterable[Event]], asking: Asking, stopping: Stopping, *, as_json: bool) -> None:
    """Show a training until it ends, or is told to stop, and print the verdict.

    Raises DivergedError when one of several trainings diverged, after what is said of the others.
    """
    screen = Screen()
    told = {"progress": screen.decoding, "fetching": screen.fetching}
    asking = replace(asking, asked=stopping.asked, save_now=stopping.save_now, **told)
    verdict = screen.follow(_begun(begin, asking))
    if verdict is not None:  # one process of several has nothing to say
        click.echo(ended(verdict, as_json=as_json))
    if isinstance(verdict, Summary) and verdict.diverged:
        which = ", ".join(one.run for one in verdict.diverged)
        many = f"{len(verdict.diverged)} of {len(verdict.members)} trainings diverged: {which}."
        raise DivergedError(f"{many} No number above counts what diverged.", LOWER_RATE)


def _begun(begin: Callable[[Asking], Iterable[Event]], asking: Asking) -> Iterator[Event]:
    """The events, begun when the first is asked for: by then there is a bar for what is fetched."""
    yield from begin(asking)


def ended(verdict: Verdict | Summary, *, as_json: bool) -> str:
    """What a training, or several, print on standard output when they are done."""
    if isinstance(verdict, Summary):
        table = ["", *class_table(verdict)] if verdict.by_class else []
        lines = [*summary_lines(verdict), *table, "", f"folder of the runs: {verdict.folder}"]
        return json.dumps(verdict.to_json(), indent=1) if as_json else "\n".join(lines)
    if as_json:
        return json.dumps(as_document(verdict), indent=1)
    lines = [*verdict_lines(verdict), "", *class_table(verdict), "", f"run folder: {verdict.folder}"]
    return "\n".join([*lines, *next_commands(verdict)])
