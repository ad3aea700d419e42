"""What a run writes before it trains: recipe, split, environment, command; and where a model is from."""

import json
from typing import Any

from tellapart.run import Run, environment
from tellapart.workflow.prepare import Prepared


def written(run: Run, prepared: Prepared, *, command: str, device: str) -> None:
    """Write recipe.toml, split.csv, environment.json and command.txt, and the identities into status.json."""
    run.write("recipe.toml", prepared.recipe.to_toml(prepared.settled.origins))
    run.write("split.csv", prepared.split_csv)
    run.write("command.txt", command + "\n")
    run.write("environment.json", json.dumps({**environment(), "device": device}, indent=1) + "\n")
    run.set_status(
        source=prepared.recipe.data.source,
        model=prepared.recipe.model.name,
        content=prepared.content,
        split=prepared.split,
        test_part=prepared.test_part,
        counts=prepared.counts,
    )


def origin_of(run: Run, prepared: Prepared) -> dict[str, Any]:
    """Where a model comes from: run, versions, data and split identities, and the recipe."""
    where = environment()
    return {
        "run": run.name,
        "time": where["time"],
        "packages": where["packages"],
        "source": prepared.pictures.index.name,
        "content": prepared.content,
        "split": prepared.split,
        "test_part": prepared.test_part,
        "counts": prepared.counts,
        "recipe": prepared.recipe.to_toml(),
    }
