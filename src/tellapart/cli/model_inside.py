"""`tellapart model kernels`, `maps`, `weights` and `activations`: what is inside a network, in numbers and pictures."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tellapart.cli.model_named import architecture_of
from tellapart.cli.model_show import columns
from tellapart.cli.options import PATH, json_option, runs_option, sized
from tellapart.errors import UsageError
from tellapart.recipe import printable

if TYPE_CHECKING:
    from torch import nn

    from tellapart.figures.inside import Sheet

POINTS = (-3.0, -1.0, 0.0, 1.0, 3.0)
seed_option = click.option("--seed", type=click.IntRange(0), help="Seed of a network by name; 0 when absent.")
layer_option = click.option("--layer", default="", metavar="PATH", help="Which layer; the first convolution if absent.")


def _drawable(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    if value is not None and value.suffix.lower() != ".png":
        raise UsageError(f"--out draws a PNG. Received: {printable(str(value))}.", "Give the file the end .png.")
    return value


out_option = click.option("--out", type=PATH, callback=_drawable, help="Draw a picture of it in this file (PNG).")


def _network(model: str, runs: Path, by_name: dict[str, int | None]) -> "tuple[nn.Module, str]":
    """A trained network with its weights, or one by name with the first weights of a training with this seed."""
    from tellapart.models.build import build

    asked = {key.replace("classes", "num_classes"): value for key, value in by_name.items() if value is not None}
    seed = asked.pop("seed", None)
    architecture, called, bundle = architecture_of(model, runs, asked)
    if bundle is None:
        return build(architecture, seed=seed or 0), called
    if seed is not None:
        raise UsageError(f"{called} is a trained model, and --seed cannot change it.", "Leave --seed out.")
    return bundle.module(), called


@click.command("kernels", epilog="Example: tellapart model kernels resnet18 --out kernels.png")
@click.argument("model")
@runs_option
@sized
@seed_option
@layer_option
@out_option
@json_option
def kernels(model: str, runs: Path, layer: str, out: Path | None, as_json: bool, **by_name: int | None) -> None:
    """Show the kernels of a convolution of MODEL: a run, a model file, or a network by name before any training."""
    from tellapart.figures.inside import kernel_sheet
    from tellapart.models import inside

    network, called = _network(model, runs, by_name)
    found = inside.kernels(network, layer)
    values, sheet = found.values.numpy(), kernel_sheet(found.values.numpy())
    number, *each = values.shape
    low, high = float(values.min()), float(values.max())
    facts = {"network": called, "layer": found.path, "shape": [number, *each], "min": low, "max": high}
    words = f"{number} kernels of {' x '.join(map(str, each))}, {low:.3g} to {high:.3g}"
    text = f"{called}: {found.path} ({found.kind}), {words}"
    _said(text, {**facts, "tiles": len(sheet.images), "of": sheet.of}, as_json)
    _drawn(sheet, out)


@click.command("maps", epilog="Example: tellapart model maps first picture.png --layer stages.0 --out maps.png")
@click.argument("model")
@click.argument("picture", type=PATH)
@runs_option
@layer_option
@out_option
@json_option
def maps(model: str, picture: Path, runs: Path, layer: str, out: Path | None, as_json: bool) -> None:
    """Show what PICTURE becomes in a layer of MODEL, a run or a model file: one feature map for each channel."""
    from tellapart.figures.inside import map_sheet
    from tellapart.models import inside
    from tellapart.workflow.sees import input_of

    _, called, bundle = architecture_of(model, runs, {})
    if bundle is None:
        raise UsageError(f"{called} is not trained: how it sees a picture is not settled.", "Give a run or its model.")
    found = inside.maps(bundle.module(), input_of(picture, bundle.preprocess), layer)
    each = [{"min": one.min().item(), "mean": one.mean().item(), "max": one.max().item()} for one in found.values]
    dark, shape = sum(one["max"] <= 0 for one in each), list(found.values.shape)
    again = f"; it runs {found.times} times, this is the first" if found.times > 1 else ""
    lines = [(str(n), *(f"{value:.4g}" for value in one.values())) for n, one in enumerate(each)]
    text = (
        f"{called}: {found.path} ({found.kind}) gives {shape[0]} maps of {shape[1]} x {shape[2]}{again}\n"
        f"{columns([('map', 'min', 'mean', 'max'), *lines], numbers=range(4))}\n"
        f"{dark} of {shape[0]} maps have nothing above 0"
    )
    names = {"network": called, "picture": printable(str(picture)), "layer": found.path, "kind": found.kind}
    facts = {**names, "shape": shape, "tiles": len(each), "times": found.times, "maps": each}
    _said(text, {**facts, "dark": dark, "share_dark": dark / len(each)}, as_json)
    _drawn(map_sheet(found.values.numpy()), out)


@click.command("weights", epilog="Example: tellapart model weights small --seed 3 --out weights.png")
@click.argument("model")
@runs_option
@sized
@seed_option
@out_option
@json_option
def weights(model: str, runs: Path, out: Path | None, as_json: bool, **by_name: int | None) -> None:
    """Show every tensor of weights of MODEL in numbers: a run, a model file, or a network by name before training."""
    from tellapart.figures.inside import weight_sheet
    from tellapart.models import inside

    network, called = _network(model, runs, by_name)
    found, mark = inside.spreads(network), inside.fingerprint(network)
    lines: list[tuple[str, ...]] = [("weights", "shape", "mean", "sd", "min", "max", "zeros")]
    for one in found:
        numbers = (f"{one[key]:.3g}" for key in ("mean", "sd", "min", "max"))
        lines.append((one["name"], " x ".join(map(str, one["shape"])), *numbers, f"{one['zeros']:.1%}"))
    text = f"{columns(lines, numbers=range(2, 7))}\n\nsha256 of all that {called} holds: {mark}"
    _said(text, {"network": called, "sha256": mark, "weights": found}, as_json)
    _drawn(weight_sheet({name: p.detach().numpy() for name, p in network.named_parameters()}), out)


@click.command("activations", epilog="Example: tellapart model activations --out activations.png")
@click.option("--out", type=PATH, help="Draw them in FILE.png, or list values and slopes in FILE.csv.")
def activations(out: Path | None) -> None:
    """Show the usual activations with their slopes, as torch computes them."""
    import torch

    from tellapart.figures.grid import save_picture
    from tellapart.figures.inside import activation_sheet
    from tellapart.files import write_result
    from tellapart.models.activations import activated

    if out is not None and out.suffix.lower() not in (".png", ".csv"):
        raise UsageError(f"--out ends in .png or .csv. Received: {printable(str(out))}.", "Give it one of these ends.")
    at = activated(torch.tensor(POINTS, dtype=torch.float64))
    lines = [(name, *(f"{y:.4f} ({d:.4f})" for y, d in zip(*both, strict=True))) for name, both in at.items()]
    click.echo(columns([("value (slope) at", *(f"{x:g}" for x in POINTS)), *lines], numbers=range(1, 6)))
    if out is None:
        return
    xs = torch.arange(-200, 201, dtype=torch.float64) / 40
    found = {name: (ys.tolist(), slopes.tolist()) for name, (ys, slopes) in activated(xs).items()}
    if out.suffix.lower() == ".png":
        save_picture(activation_sheet(xs.tolist(), found), out)
    else:
        heads = ",".join(["x", *(f"{name},{name}_slope" for name in found)])
        rows = zip(xs.tolist(), *(one for both in found.values() for one in both), strict=True)
        write_result(out, "\n".join([heads, *(",".join(map(repr, row)) for row in rows), ""]))
    click.echo(f"written: {printable(str(out.absolute()))}", err=True)


def _said(text: str, facts: dict[str, Any], as_json: bool) -> None:
    click.echo(json.dumps({"format": 1, **facts}, indent=1) if as_json else text)


def _drawn(sheet: "Sheet", out: Path | None) -> None:
    from tellapart.figures.grid import save_picture

    if out is not None:
        save_picture(sheet.image(), out)
        some = f" of {sheet.of:,}" if sheet.of > len(sheet.images) else ""
        click.echo(f"{len(sheet.images):,}{some} tiles drawn: {printable(str(out.absolute()))}", err=True)


COMMANDS = (kernels, maps, weights, activations)
