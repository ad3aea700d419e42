"""The methods of a thesis in one paragraph, as LaTeX and as Markdown for pandoc, and what it cites as BibTeX."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import resources

from tellapart.names import SMOOTHED, TORCHVISION_MODELS
from tellapart.reporting.evidence import Facts, Training
from tellapart.reporting.thesis_judged import Said, judging
from tellapart.reporting.written import md, tex

PART = re.compile(r"\{(\w+)\}|\[((?:@\w+;? ?)+)\]")
"""A value, or what is cited, in a sentence."""
FAMILIES = {
    **{"wide_resnet": "zagoruyko2016", "resnext": "xie2017", "resnet": "he2016", "alexnet": "krizhevsky2014"},
    **{"vgg": "simonyan2015", "densenet": "huang2017", "efficientnet_v2": "tan2021", "efficientnet": "tan2019"},
    **{"mobilenet_v2": "sandler2018", "mobilenet_v3": "howard2019", "mnasnet": "tan2019mnasnet"},
    **{"regnet": "radosavovic2020", "shufflenet_v2": "ma2018", "squeezenet": "iandola2016", "vit": "dosovitskiy2021"},
    **{"googlenet": "szegedy2015", "inception_v3": "szegedy2016", "convnext": "liu2022", "swin_v2": "liu2022swin"},
    **{"swin": "liu2021", "maxvit": "tu2022"},
}
"""By what the name of a network of torchvision begins with; the first that fits counts. Names of timm and of one's own
files say less of where a network is from.
"""
SOURCES = {
    **{"digits": "alpaydin1998", "mnist": "lecun1998", "fashion-mnist": "xiao2017", "kmnist": "clanuwat2018"},
    **{"cifar10": "krizhevsky2009", "cifar100": "krizhevsky2009"},
}
LAYERS = {"BatchNorm2d": "ioffe2015", "LayerNorm": "ba2016", "LayerNorm2d": "ba2016", "Dropout": "srivastava2014"}
OPTIMISERS = {
    **{"sgd": "sutskever2013", "adam": "kingma2015", "adamw": "loshchilov2019", "muon": "jordan2024"},
    **{"adagrad": "duchi2011", "adadelta": "zeiler2012", "adamax": "kingma2015", "nadam": "dozat2016"},
    **{"radam": "liu2020", "rmsprop": "tieleman2012"},
}
LOSSES = {"focal": "lin2017", "hinge": "weston1999", "huber": "huber1964"}
SCHEDULES = {"one-cycle": "smith2019", "cosine": "loshchilov2017"}
CHANGES = {
    **{"mixup": "zhang2018", "cutmix": "yun2019", "erase": "zhong2020"},
    **{"rand": "cubuk2020", "trivial": "muller2021"},
}


def methods(of: Training) -> dict[str, str]:
    """methods.tex, methods.md and references.bib, by name: every key that is cited is in the last, and no other."""
    said = list(sentences(of))
    keys = [key for text, _ in said for _, cited in PART.findall(text) for key in re.findall(r"@(\w+)", cited)]
    version = _package(of, "tellapart")
    found = {key: entry for key, entry in _references().items() if key in keys and key != "tellapart"}
    made = f"Software{f', version {version}' * bool(version)}"
    own = f"@misc{{tellapart, key = {{tellapart}}, title = {{tellapart}}, howpublished = {{{made}}}}}"
    return {
        "methods.tex": " ".join(_filled(text, values, tex, _cited) for text, values in said) + "\n",
        "methods.md": " ".join(_filled(text, values, md, lambda keys: f"[{keys}]") for text, values in said) + "\n",
        "references.bib": "\n".join([*found.values(), own]) + "\n",
    }


@cache
def _references() -> Mapping[str, str]:
    text = resources.files("tellapart.reporting").joinpath("references.bib").read_text(encoding="utf-8")
    return {line.partition("{")[2].partition(",")[0]: line for line in text.splitlines() if line}


def _cited(keys: str) -> str:
    return "~\\cite{" + ",".join(re.findall(r"@(\w+)", keys)) + "}"


def _filled(text: str, values: Mapping[str, object], write: Callable[..., str], cite: Callable[[str], str]) -> str:
    """A sentence with its values and citations; a space before a citation becomes part of it."""

    def put(found: re.Match[str]) -> str:
        return cite(found[2]) if found[2] else write(values[found[1]], 200)

    if write is tex:
        text = text.replace(" %", r"\,\%").replace(" [@", "[@")
    return PART.sub(put, text)


def _package(of: Facts, name: str) -> str:
    return str(of.environment.get("packages", {}).get(name, ""))


def _at(key: str | None) -> str:
    return f" [@{key}]" if key else ""


def sentences(of: Training) -> Iterator[Said]:
    """What was done, in the order in which it was done; each sentence only where it is true."""
    for chapter in (_data, _pictures, _network, _training):
        yield from chapter(of)
    yield from judging(of)
    yield from _where(of)


def _data(of: Facts) -> Iterator[Said]:
    data, source = of.recipe.data, str(of.status.get("source", ""))
    counts = {part: f"{of.total(part):,}" for part in ("train", "validation", "test")}
    values = {"source": source, "n": f"{sum(map(of.total, counts)):,}", "classes": f"{len(of.shown.classes):,}"}
    marked, several = of.shown.marks is not None, ", of which a picture may have several, or none"
    yield (
        f"The data are {{n}} pictures of {{classes}} classes ({{source}}){several * marked}{_at(SOURCES.get(source))}.",
        values,
    )
    test = f" and {{test}} {_seal(of)}" * bool(of.total("test"))
    yield f"Of them, {{train}} served for training, {{validation}} for validation{test}.", counts
    how = {
        "auto": "Parts that the data bring were kept; what they do not bring was drawn by the content of the pictures",
        "new": "The parts were drawn by the content of the pictures",
    }.get(data.split, "The parts are those of a file")
    rarest = ", the rarest first [@sechidis2011]" * marked
    shares = "" if how.endswith("file") else f", class by class{rarest}, with the split seed {{seed}}"
    yield f"{how}{shares}.", {"seed": data.split_seed}
    if data.folds:
        yield "Fold {fold} of {folds} is the validation part.", {"fold": data.fold, "folds": data.folds}
    if of.groups is not None:
        yield "Pictures that belong together ({groups} groups) stayed in one part.", {"groups": f"{of.groups:,}"}
    if data.leaks == "drop":
        yield "Training pictures with the same pixels as a picture of another part were left out.", {}
    if of.left_out:
        yield "Files that were left out, each for a reason that is logged: {n}.", {"n": f"{len(of.left_out):,}"}


def _seal(of: Facts) -> str:
    """What may be said of the test part: it was sealed only where nobody had opened it before."""
    if of.part != "test":
        return "a test part, which is still under seal"
    unseen = of.opened_before is not None and not of.opened_before and not of.status.get("extended")
    return "a test part" + " that was kept under seal until everything was chosen" * unseen


def _pictures(of: Facts) -> Iterator[Said]:
    recipe, fits = of.recipe.input, {"crop": "cropped to a centre square", "pad": "padded", "squash": "squashed"}
    kinds = {"data": "the mean and deviation of the training pictures", "half": "the mean 0.5 and the deviation 0.5"}
    kinds |= {"imagenet": "the mean and deviation of ImageNet [@deng2009]"}
    by = f" and normalised by {kinds[recipe.normalize]}" if recipe.normalize in kinds else ""
    values = {"size": recipe.size, "filter": recipe.filter}
    colour = "in grey" if recipe.channels == 1 else "in colour"
    yield (
        f"Every picture was {fits[recipe.fit]}, brought to {{size}} x {{size}} pixels {colour} ({{filter}}){by}.",
        values,
    )
    changes, named = of.recipe.augment.changes(), of.recipe.augment.steps
    if named:
        yield "Training pictures were changed at random in every epoch, by the steps {steps}.", {"steps": named}
    elif changes:
        cited = [CHANGES[key] for key in (*changes, of.recipe.augment.policy) if key in CHANGES]
        said = ", ".join(key if value is True else f"{key} {value}" for key, value in changes.items())
        keys = f" [{'; '.join(f'@{key}' for key in cited)}]" if cited else ""
        yield f"Training pictures were changed at random in every epoch ({{changes}}){keys}.", {"changes": said}
    else:
        yield "Training pictures were not changed.", {}


def _network(of: Facts) -> Iterator[Said]:
    model = of.recipe.model
    name = model.name.removeprefix("timm:")
    library = " of the library timm [@wightman2019]" * model.name.startswith("timm:")
    known = name in TORCHVISION_MODELS
    family = next((key for prefix, key in FAMILIES.items() if known and name.startswith(prefix)), None)
    layers = {layer["name"] for layer in of.network.get("layers", ())}
    inside = sorted({key for layer, key in LAYERS.items() if layer in layers})
    kinds = {"ioffe2015": "batch normalisation", "ba2016": "layer normalisation", "srivastava2014": "dropout"}
    has = "".join(f", {kinds[key]} [@{key}]" for key in inside)
    values = {"name": model.name, "parameters": f"{of.status.get('parameters', 0):,}", "weights": ""}
    yield f"The network, {{name}}{library}{_at(family)}, has {{parameters}} parameters{has}.", values
    if model.weights:
        file = model.weights.rsplit("/")[-1]
        published = re.search(r"-[0-9a-f]{8}\.pth$", file) is not None
        cited = f"{', published by torchvision [@torchvision2016]' * published}"
        yield f"It began with the pretrained weights {{weights}}{cited}; its head was new.", {"weights": file}
    if model.freeze:
        yield "Left as they were: {freeze}.", {"freeze": model.freeze}


def _training(of: Facts) -> Iterator[Said]:
    loss, optim, train = of.recipe.loss, of.recipe.optim, of.recipe.train
    if not train.epochs:
        yield (
            "Its body was not trained; its head alone was fitted, at once, to what the body makes of the pictures.",
            {},
        )
        return
    smooth = loss.name in SMOOTHED and loss.label_smoothing
    more = ", with label smoothing {smooth} [@szegedy2016]" * bool(smooth)
    more += ", the classes weighted ({weights})" * (loss.weights != "none")
    more += " (binary cross-entropy), a yes or no for each class" * (of.shown.marks is not None)
    values = {"loss": loss.name, "smooth": f"{loss.label_smoothing:g}", "weights": loss.weights}
    yield f"The loss is {{loss}}{_at(LOSSES.get(loss.name))}{more}.", values
    name = of.recipe.optimiser
    values = {"name": name, "lr": f"{optim.lr:g}", "schedule": optim.schedule, "decay": f"{optim.weight_decay:g}"}
    batch = train.batch_size or of.total("train")
    values |= {"batch": f"{batch * train.accumulate:,}", "warmup": f"{100 * (optim.warmup or 0):g}"}
    warm = ", after a rise over the first {warmup} % of the steps" * bool(optim.warmup)
    yield (
        f"It was made small by {{name}}{_at(OPTIMISERS.get(name))} with batches of {{batch}} pictures, a largest rate "
        f"of {{lr}} (schedule {{schedule}}{_at(SCHEDULES.get(optim.schedule))}{warm}) and a weight decay of {{decay}} "
        "on matrices and filters.",
        values,
    )
    if parent := of.status.get("parent"):
        yield "It went on from step {step} of the run {run}.", {"run": parent["run"], "step": f"{parent['step']:,}"}
    yield from _also(of)
    best = of.status.get("best") or {}
    values = {"epochs": f"{len(of.epochs):,}", "best": f"{best.get('epoch', 0) + 1}", "seed": train.seed}
    score = " by its mean average precision" * (of.shown.marks is not None)
    kept = f"; the model of epoch {{best}}, the best on validation{score}, was kept" * bool(best)
    many = "epochs" if len(of.epochs) != 1 else "epoch"
    yield f"The training took {{epochs}} {many}, with the seed {{seed}}{kept}.", values


def _also(of: Facts) -> Iterator[Said]:
    """What else was set of a training, and whether it has several parts."""
    loss, optim, train = of.recipe.loss, of.recipe.optim, of.recipe.train
    if optim.clip:
        yield "Gradients were shortened to the norm {clip}.", {"clip": f"{optim.clip:g}"}
    if train.ema:
        yield "Judged are moving averages of the weights (decay {ema}) [@polyak1992].", {"ema": f"{train.ema:g}"}
    if train.swa:
        yield "Judged is the mean of the weights of the last epochs [@izmailov2018].", {}
    more = {"loss.ignore": loss.ignore, "optim.rates": optim.rates, "optim.unfreeze_every": optim.unfreeze_every}
    more |= {"optim.layer_decay": optim.layer_decay if optim.layer_decay != 1 else ""}
    if also := ", ".join(f"{path} = {value}" for path, value in more.items() if value):
        yield "Also set: {also}.", {"also": also}
    if parts := of.status.get("extended"):
        values = {"times": f"{len(parts)} time{'s' * (len(parts) > 1)}"}
        yield "The training was extended {times}; rate and schedule are those of its last part.", values


def _where(of: Facts) -> Iterator[Said]:
    ours = _package(of, "tellapart")
    known = [(name, _package(of, name)) for name in ("torch", "torchvision", "numpy")]
    said = ", ".join(f"{name} {version}" for name, version in known if version)
    values = {
        **{"ours": f"tellapart {ours}".strip(), "python": of.environment.get("python", "–"), "versions": said},
        **{"device": of.environment.get("device", "–"), "system": of.environment.get("system", "–")},
    }
    if of.recipe.machine.precision != "fp32":
        yield "The forward pass was computed in {precision}.", {"precision": of.recipe.machine.precision}
    text = "It was done with {ours} [@tellapart], Python {python} and PyTorch [@paszke2019] ({versions}) on {device}, "
    yield text + "under {system}.", values
