"""What a training looks like on a screen: a bar on a terminal, plain lines elsewhere, and the verdict as a table."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from tellapart.evaluation.metrics import Figure
from tellapart.workflow.events import Begun, Epoch, Event, Said, Step, Verdict, Working


def percent(figure: Figure) -> str:
    """A share with its interval: '98.1 % [95.7, 99.2]'."""
    return f"{100 * figure.value:.1f} % [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"


def epoch_line(epoch: Epoch, of: int) -> str:
    """One epoch on one line."""
    star = "  best so far" if epoch.best else ""
    return (
        f"epoch {epoch.epoch + 1}/{of}  train loss {epoch.train_loss:.4f}  validation loss {epoch.val_loss:.4f}  "
        f"accuracy {100 * epoch.val_accuracy:.1f} % (n = {epoch.val_n:,})  "
        f"{epoch.pictures_per_second:,.0f} pictures/s{star}"
    )


class Screen:
    """Shows events on stderr; `follow` gives back the verdict. `log` gets every line as well."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet, self.lines, self.epochs, self.bar, self.task = quiet, [], 0, None, None
        self.drawn = 0.0

    def follow(self, events: Iterable[Event]) -> Verdict | None:
        """Show every event as it comes; the verdict is returned, not shown."""
        with self._bar():
            for event in events:
                if isinstance(event, Verdict):
                    return event
                self._show(event)
        return None

    def _show(self, event: Event) -> None:
        if isinstance(event, Step):
            self._advance(event)
        elif isinstance(event, Epoch):
            self.say(epoch_line(event, self.epochs))
        elif isinstance(event, Said):
            self.say(
                f"{event.stage}/9 {event.text}"
                if event.stage > 0
                else f"{'note: ' if event.stage < 0 else '    '}{event.text}"
            )
        elif isinstance(event, Begun):
            self.epochs = event.epochs
            self._start(event)

    def say(self, line: str) -> None:
        """One line, above the bar when there is one."""
        self.lines.append(line)
        if self.quiet:
            return
        if self.bar is not None:
            self.bar.console.print(line, markup=False, highlight=False)
        else:
            click.echo(line, err=True)

    @contextmanager
    def _bar(self) -> Iterator[None]:
        if self.quiet or not sys.stderr.isatty():
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
            self.task = self.bar.add_task("training", total=begun.total_steps, completed=begun.first_step, speed="")
        self.began, self.seen = time.monotonic(), 0

    def _advance(self, step: Step) -> None:
        self.seen += step.pictures
        now = time.monotonic()
        if self.bar is not None and now - self.drawn > 0.1:
            speed = f"{self.seen / max(now - self.began, 1e-9):,.0f} pictures/s"
            self.bar.update(
                self.task, completed=step.step, speed=speed, description=f"epoch {step.epoch + 1}/{self.epochs}"
            )
            self.drawn = now


def verdict_lines(verdict: Verdict) -> Iterator[str]:
    """The verdict for a person."""
    headline = [figure for figure in verdict.figures if figure.name == "accuracy"]
    for figure in headline:
        yield f"{figure.part:>10} accuracy  {percent(figure)}  (95 % interval, n = {figure.n:,})"
    if verdict.test == "none":
        yield "            no sealed test: the data bring none, and none was made (--set data.split=new makes one)"
    elif verdict.test == "sealed":
        yield f"            the test part is still sealed; `tellapart test {verdict.run}` opens it"
    elif verdict.opened_before:
        runs = verdict.opened_before
        shown = ", ".join(runs[-3:])
        yield f"            this test part was opened {len(runs)} time(s) before, last by {shown}: choose nothing by it"
    else:
        yield "            this test part had not been opened before"


def class_table(verdict: Verdict, *, most: int = 40) -> Iterator[str]:
    """Recall and precision of each class with n and interval."""
    recalls = [figure for figure in verdict.by_class if figure.name == "recall"]
    precisions = [figure for figure in verdict.by_class if figure.name == "precision"]
    width = max([len("class"), *(len(figure.about) for figure in recalls)])
    yield f"{'class':<{width}}  {'n':>6}  {'recall [95 % interval]':<24}  {'called':>6}  precision [95 % interval]"
    for recall, precision in list(zip(recalls, precisions, strict=True))[:most]:
        called = percent(precision) if precision.n else "– (never called)"
        yield f"{recall.about:<{width}}  {recall.n:>6,}  {percent(recall):<24}  {precision.n:>6,}  {called}"
    if len(recalls) > most:
        yield f"… and {len(recalls) - most} more; --json has them all"


def next_commands(verdict: Verdict) -> Iterator[str]:
    """The three commands a person would want now."""
    yield "next:"
    yield f"  tellapart predict {verdict.run} PICTURE…        what is on other pictures"
    yield f"  tellapart board {verdict.run}                   curves, pictures and the graph in TensorBoard"
    yield f"  tellapart test {verdict.run} --mistakes FILE.png   the mistakes, worst first"


def as_document(verdict: Verdict) -> dict[str, Any]:
    """What --json prints."""
    return {
        "format": 1,
        "run": verdict.run,
        "folder": verdict.folder,
        "model": verdict.model,
        "test": verdict.test,
        "opened_before": verdict.opened_before,
        "seconds": round(verdict.seconds, 3),
        "classes": list(verdict.classes),
        "figures": [figure.to_json() for figure in [*verdict.figures, *verdict.by_class]],
    }


__all__ = ["Screen", "Working", "as_document", "class_table", "next_commands", "verdict_lines"]
