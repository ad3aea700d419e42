"""`tellapart prove-resume`."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tellapart.cli.options import json_option
from tellapart.cli.recipe_flags import asked, recipe_flags
from tellapart.errors import ProblemsFound, UsageError

if TYPE_CHECKING:
    from tellapart.workflow.prove import Proof


@click.command("prove-resume", epilog="Example: tellapart prove-resume digits --steps 30 --at 3,17")
@recipe_flags
@click.option("--steps", type=click.IntRange(2), default=30, show_default=True, help="How many steps to train at most.")
@click.option("--at", "at", default="", metavar="N,N,…", help="Stop after these steps. [default: three random ones]")
@json_option
def command(steps: int, at: str, as_json: bool, **flags: Any) -> None:
    """Show that a training on SOURCE that is stopped and resumed ends with the same bits.

    It is trained a few steps whole, and again in other processes, each of which is stopped and resumed by the next. No
    run is left behind, and no test part is opened. Exit code 1 when a bit differs.
    """
    recipe, origins = asked(flags)
    stops = _numbers(at)
    from tellapart.cli.show import Screen
    from tellapart.workflow.prove import prove_resume

    screen = Screen()
    proof = prove_resume(recipe, origins, steps=steps, stops=stops, follow=screen.follow, say=screen.say)
    click.echo(json.dumps({"format": 1, **asdict(proof)}, indent=1) if as_json else "\n".join(lines(proof)))
    if proof.different:
        raise ProblemsFound(f"Resuming is not exact here: {', '.join(proof.different)} differ.")


def _numbers(at: str) -> list[int]:
    try:
        return [int(word) for word in at.split(",") if word.strip()]
    except ValueError as error:
        raise UsageError(f"--at takes numbers of steps. Received: {at!r}.", "For example --at 3,17.") from error


def lines(proof: "Proof") -> Iterator[str]:
    """The proof as a table, with what it holds for."""
    stops = ", ".join(map(str, proof.stops))
    yield f"{proof.steps} steps, whole and stopped after step {stops}:"
    for name in proof.whole | proof.stopped:
        verdict = "different" if name in proof.different else "equal"
        yield f"  {name:<12}  {verdict:<9}  sha256 {proof.whole.get(name, '–')[:16]}"
    yield f"with the same device, build and threads: {proof.conditions}"
