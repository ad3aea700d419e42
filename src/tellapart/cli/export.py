"""`tellapart export`."""

from pathlib import Path

import click

from tellapart.cli.export_files import add_to
from tellapart.cli.options import PATH, runs_option
from tellapart.cli.verbs import Verbs

TAKES = {
    "FOLDER": "FOLDER holds train/, and val/ and test/ if you have them, each with one folder of pictures per class.",
    "TABLE.csv": "TABLE.csv has a column of paths, one of classes and, where you have parts, one of these.",
}
"""What is said of what a script takes."""


@click.group("export", cls=Verbs)
def command() -> None:
    """A trained model, for use without tellapart."""


add_to(command)


@command.command("script", epilog="Example: tellapart export script RUN --out train.py, then: python train.py FOLDER")
@click.argument("model", metavar="RUN")
@click.option("--out", type=PATH, metavar="FILE.py", help="Where to write it; train-RUN.py if not given.")
@click.option("--force", is_flag=True, help="Write over a file that is there already.")
@runs_option
def script(model: str, out: Path | None, force: bool, runs: Path) -> None:
    """Write a plain PyTorch script that trains the network of RUN with its settings, in nine steps to read."""
    from tellapart.errors import StorageError, UsageError
    from tellapart.files import write_atomically
    from tellapart.recipe import Recipe
    from tellapart.shipping.script import script_of
    from tellapart.workflow.models import find_model

    bundle, name = find_model(runs, model)
    # The prefix keeps a run that is called `torch` from standing in the way of `import torch`.
    file = out or Path(f"train-{name.removesuffix('.safetensors').replace('/', '-')}.py")
    if file.exists() and not force:
        raise UsageError(f"{file} exists already.", "Choose another --out, or give --force to write over it.")
    if not isinstance(bundle.origin.get("recipe"), str):
        raise StorageError(f"The model of {name} does not say how it was trained.", "Export from a run of `train`.")
    recipe = Recipe.from_toml(bundle.origin["recipe"], where=f"the recipe in {name}")
    text = script_of(recipe, bundle.architecture, bundle.preprocess, bundle.classes, run=name)
    write_atomically(file, text)
    takes = "TABLE.csv" if recipe.data.several else "FOLDER"
    click.echo(f"wrote {file}; start it with: python {file} {takes}")
    click.echo(TAKES[takes])
