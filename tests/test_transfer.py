"""Standing on pretrained weights: a body from a file, a fitted head, what is frozen, and how a run with them lives."""

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Done, process, tellapart, train
from pictures import draw, make_folder
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

from tellapart.data.augment import network_input
from tellapart.errors import UsageError
from tellapart.models.bundle import load_bundle
from tellapart.models.start import freeze, into_training
from tellapart.models.zoo import build_torchvision
from tellapart.training import probe
from tellapart.training.checkpoint import load_checkpoint
from tellapart.workflow.begin import recipe_of, same_pictures

NET = "mobilenet_v3_small"
SMALL = ("pets", "--set", "input.size=64", "--no-test")


def body_for(drawn: np.ndarray) -> nn.Module:
    """A network for 1,000 classes whose running statistics are those of some pictures (N S S 3)."""
    torch.manual_seed(1)
    body = build_torchvision(NET, 1000)
    pictures = nn.functional.interpolate(torch.from_numpy(drawn).permute(0, 3, 1, 2) / 255 - 0.45, size=64) / 0.22
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean over all calls
    with torch.no_grad():
        for _ in range(3):
            body(pictures)
    return body


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `pets` of 60 pictures, and `body.pth`, weights of a mobilenet for 1,000 classes."""
    folder = tmp_path_factory.mktemp("transfer")
    make_folder(folder / "pets", per_class=20)
    drawn = np.stack([draw(k, 3, (0, k, n), 12) for k in range(3) for n in range(20)])
    torch.save(body_for(drawn).state_dict(), folder / "body.pth")
    return folder


@pytest.fixture(scope="module")
def fitted(at: Path) -> Done:
    return train(at, "fitted", *SMALL, "--weights", "body.pth", "--freeze", "body")


def body_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.startswith("classifier.3.")}


def same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_head_is_fitted_and_the_body_stays_as_it_was_to_the_last_bit(at: Path, fitted: Done) -> None:
    bundle = load_bundle(fitted.run("fitted").bundle)
    file = torch.load(at / "body.pth", weights_only=True)
    assert same_bits(body_of(dict(bundle.state)), body_of(file))
    assert bundle.state["classifier.3.weight"].shape == (3, 1024)
    assert bundle.preprocess.mean == (0.485, 0.456, 0.406)
    said = re.search(
        r"head fitted to 42 pictures in [\d.]+ s, penalty (\S+) by cross-validation: validation", fitted.err
    )
    assert said
    assert float(said[1]) in probe.PENALTIES
    recipe = (at / "runs/fitted/recipe.toml").read_text()
    assert f'name = "{NET}"  # told from the weights' in recipe
    assert "epochs = 0  # auto: the head is fitted at once" in recipe
    assert 'normalize = "imagenet"  # auto: as its weights know it' in recipe


def test_the_verdict_stands_beside_the_nearest_pictures_by_what_the_body_makes_of_them(at: Path, fitted: Done) -> None:
    """Against scikit-learn's neighbours on features that are made here once more."""
    run, seen = fitted.run("fitted"), []
    network = load_bundle(run.bundle).module()
    network.get_submodule("classifier.3").register_forward_pre_hook(lambda _, given: seen.append(given[0].numpy()))
    pictures = same_pictures(run, recipe_of(run)).pictures
    index, told = pictures.index, {}
    for part in ("train", "validation"):
        with torch.no_grad():
            network(network_input(torch.tensor(pictures.pixels.gather(index.rows(part))), pictures.preprocess))
        told[part] = (seen.pop(), index.labels[index.rows(part)])
    said = KNeighborsClassifier(5, metric="cosine").fit(*told["train"]).predict(told["validation"][0])
    share = float((said == told["validation"][1]).mean())
    (found,) = [one for one in run.status()["baselines"] if one["about"] == "the 5 nearest by pretrained features"]
    assert (found["value"], found["n"], found["part"]) == (pytest.approx(share), len(said), "validation")
    assert "the 5 nearest by pretrained features " in fitted.err + fitted.out
    plain = train(at, "plain", *SMALL, "--epochs", "1", "--batch-size", "20")
    assert "pretrained features" not in plain.err + plain.out


def test_steps_change_the_head_alone_where_the_body_is_frozen_its_statistics_included(at: Path, fitted: Done) -> None:
    train(at, "steps", *SMALL, "--weights", "body.pth", "--freeze", "body", "--epochs", "2", "--lr", "0.01")
    last = load_checkpoint(sorted((at / "runs/steps/checkpoints").glob("step-*"))[-1])
    before = load_bundle(fitted.run("fitted").bundle)
    assert same_bits(body_of(dict(last.model)), body_of(dict(before.state)))
    assert not torch.equal(last.model["classifier.3.weight"], before.state["classifier.3.weight"])


def test_a_training_that_does_not_beat_the_fitted_head_gives_the_fitted_head(at: Path, fitted: Done) -> None:
    words = ("--weights", "body.pth", "--freeze", "body", "--epochs", "1", "--lr", "1e-30")
    done = train(at, "idle", *SMALL, *words, "--set", "augment.preset=none")
    status = json.loads((at / "runs/idle/status.json").read_text())
    assert status["best"]["step"] == 0
    assert ", which training has to beat" in done.err


def test_the_whole_network_learns_from_the_fitted_head_on_and_resumes_to_the_same_bits(at: Path) -> None:
    words = (*SMALL[:-1], "--weights", "body.pth", "--epochs", "1", "--batch-size", "8")
    done = tellapart(at, "prove-resume", *words)
    assert done.code == 0, done.out + done.err
    assert len(re.findall(r"  equal ", done.out)) == 5


def test_several_processes_begin_with_the_head_that_the_first_has_fitted(at: Path, fitted: Done) -> None:
    words, environment = process(
        "train", *SMALL, "--weights", "body.pth", "--freeze", "body", "--processes", "2", "--run", "two"
    )
    done = subprocess.run(words, env=environment, cwd=at, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    one, two = (load_bundle(at / "runs" / name / "model.safetensors").state for name in ("fitted", "two"))
    for name in one:
        torch.testing.assert_close(one[name], two[name])


def test_features_are_made_once(at: Path, fitted: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    from tellapart.workflow import embedded

    monkeypatch.setattr(embedded, "_made", lambda *_: pytest.fail("they were made again"))
    again = train(at, "again", *SMALL, "--weights", "body.pth", "--freeze", "body", "--seed", "0")
    one, other = (load_bundle(run.bundle).state for run in (fitted.run("fitted"), again.run("again")))
    assert same_bits(dict(one), dict(other))


def test_features_of_a_network_that_was_changed_are_its_own(at: Path, fitted: Done) -> None:
    words = (*SMALL, "--weights", "body.pth", "--freeze", "body")
    other = train(at, "other", *words, "--set", "model.changes=features.0.2 = tanh")
    assert other.run("other").folder.is_dir()
    bundles = [load_bundle(at / "runs" / name / "model.safetensors") for name in ("fitted", "other")]
    assert not torch.equal(*(bundle.state["classifier.3.weight"] for bundle in bundles))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--weights", "none.pth"), "none.pth"),
        (("--weights", "body.pth", "--model", "small"), "Pretrained weights are for torchvision's classifiers; small"),
        (("--weights", "body.pth", "--model", "resnet18"), "body.pth does not fit resnet18"),
        (("--weights", "body.pth", "--freeze", "nose.*"), "model.freeze: no weight is called nose.*."),
        (("--weights", "body.pth", "--freeze", "*"), "model.freeze: * leaves nothing to train."),
        (("--epochs", "0"), "0 epochs train nothing."),
    ],
)
def test_mistakes_of_the_hand(at: Path, words: tuple[str, ...], said: str) -> None:
    done = tellapart(at, "train", *SMALL, *words, "--run", "wrong")
    assert done.code in (2, 3, 4)
    assert said in done.err
    assert "mistake of tellapart" not in done.err


def test_a_head_that_is_no_linear_layer_is_said(at: Path) -> None:
    torch.save(build_torchvision("squeezenet1_1", 1000).state_dict(), at / "squeeze.pth")
    done = tellapart(at, "train", *SMALL, "--weights", "squeeze.pth", "--freeze", "body")
    assert (done.code, "The head cannot be fitted at once: it is no linear layer but Conv2d" in done.err) == (2, True)


def test_frozen_layers_do_not_even_count_their_batches() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2))
    freeze(model, "0.*, 1.*")
    into_training(model)
    assert [module.training for module in model] == [False, False, True, True]
    before = {name: value.clone() for name, value in model[1].state_dict().items()}
    model(torch.randn(4, 1, 2, 2)).sum().backward()
    assert same_bits(dict(model[1].state_dict()), before)
    with pytest.raises(UsageError, match="leaves nothing to train"):
        freeze(model, "3.*")


def test_the_fitted_head_is_that_of_scikit_learn() -> None:
    chance = np.random.default_rng(0)
    features = chance.normal(size=(90, 7)) * [1, 5, 1, 0.1, 1, 1, 1]
    labels = (features[:, 0] + chance.normal(size=90) > 0).astype(np.int64) + (features[:, 4] > 0.8)
    standard = (features - features.mean(0)) / features.std(0)
    given = torch.from_numpy(features), torch.from_numpy(labels), torch.arange(90) % probe.FOLDS
    found = probe.probed(*given, classes=3)
    oracle = LogisticRegression(C=1 / (found.penalty * 90), tol=1e-10, max_iter=10_000).fit(standard, labels)
    logits = torch.from_numpy(features).float() @ found.weight.T + found.bias
    assert np.abs(logits.softmax(1).numpy() - oracle.predict_proba(standard)).max() < 1e-4


# Of two classes scikit-learn penalises one row of weights, we two of half its size: hence its C is twice as large.


def test_the_penalty_is_the_one_with_the_least_loss_out_of_fold() -> None:
    chance = np.random.default_rng(1)
    features = chance.normal(size=(60, 30))
    labels = (features[:, 0] + features[:, 1] > 0).astype(np.int64)
    folds = np.arange(60) % probe.FOLDS
    found = probe.probed(*map(torch.from_numpy, (features, labels, folds)), classes=2)
    standard, losses = (features - features.mean(0)) / features.std(0), []
    for penalty in probe.PENALTIES:
        loss = 0.0
        for fold in range(probe.FOLDS):
            out = folds == fold
            fit = LogisticRegression(C=2 / (penalty * (~out).sum()), tol=1e-10, max_iter=10_000)
            shares = fit.fit(standard[~out], labels[~out]).predict_proba(standard[out])
            loss -= np.log(shares[np.arange(out.sum()), labels[out]]).sum()
        losses.append(loss)
    assert found.penalty == probe.PENALTIES[int(np.argmin(losses))]


def test_more_features_than_pictures_change_nothing_but_the_time() -> None:
    features, labels = torch.randn(20, 50, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2
    standard = (features.double() - features.double().mean(0)) / features.double().std(0, correction=0)
    turned, back = probe._turned(standard)
    assert turned.shape == (20, 20)
    torch.testing.assert_close(turned @ back, standard)
    found = probe.probed(features, labels, torch.arange(20) // 2 % probe.FOLDS, classes=2)
    plain = LogisticRegression(C=2 / (found.penalty * 20), tol=1e-10, max_iter=10_000).fit(standard.numpy(), labels)
    chances = (features @ found.weight.T + found.bias).softmax(1).numpy()
    assert np.abs(chances - plain.predict_proba(standard.numpy())).max() < 1e-4


def test_two_stages_the_head_first_and_then_everything_at_a_rate_of_its_own(at: Path, fitted: Done) -> None:
    before = load_bundle(fitted.run("fitted").bundle).state
    words = ("--set", "model.freeze=", "--epochs", "1", "--set", "optim.lr=1e-5", "--set", "model.keep_norms=true")
    done = tellapart(at, "branch", "fitted", "--run", "whole", "--no-test", *words)
    assert done.code == 0, done.err
    assert "optimiser: adamw, rate 1e-05" in done.err
    after = load_checkpoint(sorted((at / "runs/whole/checkpoints").glob("step-*"))[-1]).model
    trained = [name for name in after if name.endswith(("weight", "bias"))]
    assert not [name for name in trained if torch.equal(after[name], before[name])]
    kept = [name for name in after if name.endswith(("running_mean", "running_var"))]
    assert kept
    assert all(torch.equal(after[name], before[name]) for name in kept)


def test_too_few_pictures_for_a_choice_of_the_penalty_are_said(at: Path) -> None:
    words = (*SMALL, "--weights", "body.pth", "--freeze", "body", "--limit-per-class", "3")
    assert "penalty 0.03 (too few to choose one): validation" in train(at, "few", *words).err


def test_a_branch_needs_no_file_of_weights_and_names_that_of_its_parent(at: Path, fitted: Done) -> None:
    file = at / "body.pth"
    file.rename(at / "away.pth")
    try:
        done = tellapart(at, "branch", "fitted", "--run", "later", "--no-test", "--epochs", "1", "--lr", "1e-4")
        again = tellapart(at, "reproduce", "later", "--run", "once-more")
    finally:
        (at / "away.pth").rename(file)
    assert (done.code, again.code) == (0, 0), done.err + again.err
    assert "others" not in again.out
    names = ("fitted", "later", "once-more")
    one, *more = (json.loads((at / "runs" / name / "status.json").read_text())["weights"] for name in names)
    assert more == [one, one]


def test_the_small_stem_is_not_for_pretrained_weights(at: Path) -> None:
    words = ("--weights", "body.pth", "--model", "resnet18", "--set", "model.small_stem=true")
    done = tellapart(at, "train", "pets", *words)
    assert done.code == 2
    assert "Pretrained weights are for the usual stem" in done.err
