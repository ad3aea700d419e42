"""Networks with layers replaced, removed and added: what is changed, what stays, and how such a network lives."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import tellapart, train
from pictures import make_folder
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tellapart.errors import UsageError
from tellapart.models import build as of_architecture
from tellapart.models.build import Architecture
from tellapart.models.bundle import load_bundle
from tellapart.models.zoo import build_torchvision

NET = "mobilenet_v3_small"


def of(name: str, *changes: str, size: int = 32, classes: int = 10) -> Architecture:
    return Architecture(name=name, num_classes=classes, channels=3, size=size, changes=changes)


def build(architecture: Architecture, *, seed: int = 0) -> Any:
    return of_architecture.build(architecture, seed=seed)


def outline(architecture: Architecture) -> Any:
    return of_architecture.outline(architecture)


def untouched(name: str, *changes: str, size: int = 32, classes: int = 10) -> tuple[Any, set[str], set[str]]:
    """The changed network; which weights and statistics of the unchanged one it has not bit for bit; which are new.

    `classes`: how many the unchanged one has.
    """
    made = build(of(name, *changes, size=size), seed=3)
    before, after = build(of(name, size=size, classes=classes), seed=3).state_dict(), made.state_dict()
    other = {key for key in before if key not in after or not torch.equal(before[key], after[key])}
    return made, other, after.keys() - before.keys()


# --- what is changed, and what stays ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes", "other"),
    [
        ("mobilenet_v2", ["classifier.1 = linear classes"], {"classifier.1.weight", "classifier.1.bias"}),
        ("mobilenet_v2", ["classifier.0 = dropout 0.5", "features.1.conv.0.2=tanh"], set()),
        ("mobilenet_v2", ["features.0.0 = conv 32 5 stride=2 padding=2 bias=false"], {"features.0.0.weight"}),
        ("resnet18", ["layer1.0.conv1 = conv 64 1", "remove maxpool"], {"layer1.0.conv1.weight"}),
        ("quick", ["0 = conv 32 3 padding=1", "5 = conv 64 2 stride=2"], {"0.weight", "0.bias"}),
        ("small", ["stages.0.pool = avgpool 2"], set()),
    ],
)
def test_a_replaced_layer_leaves_every_other_weight_as_it_was(name: str, changes: list[str], other: set[str]) -> None:
    made, found, _ = untouched(name, *changes)
    assert found == other
    assert made(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert all(module.training for module in made.modules())


def test_the_last_layer_of_vgg_is_replaced_to_fit_the_classes() -> None:
    small, other, new = untouched("vgg11", "classifier.6 = linear classes", "features.3 = conv 128 1")
    assert other == {f"{path}.{kind}" for path in ("features.3", "classifier.6") for kind in ("weight", "bias")}
    assert new == set()
    assert small.classifier[6].out_features == 10
    large = outline(of("vgg16", "classifier.6 = linear classes", size=224))
    assert sum(p.numel() for p in large.parameters()) == 134_301_514


def test_a_layer_is_appended_behind_vgg_as_the_notes_do_and_its_head_is_kept(tmp_path: Path) -> None:
    model = outline(of("vgg16", "append linear classes", size=224))
    last = [*model.classifier.named_children()][-2:]
    assert [(name, one.in_features, one.out_features) for name, one in last] == [
        ("6", 4096, 1000),
        ("add_Linear", 1000, 10),
    ]
    assert model(torch.zeros(4, 3, 224, 224, device="meta")).shape == (4, 10)
    words = ("vgg16", "--size", "224", "--change", "append linear classes")
    shown = tellapart(tmp_path, "model", "show", *words)
    assert "classifier.add_Linear  Linear(in_features=1000, out_features=10)" in shown.out
    tree = tellapart(tmp_path, "model", "show", *words, "--tree")
    assert "classifier.add_Linear: Linear(in_features=1000, out_features=10, bias=True)" in tree.out


@pytest.mark.parametrize(
    ("name", "end", "moved"),
    [("mobilenet_v2", "classifier", ""), ("resnet18", "fc", "fc."), ("densenet121", "classifier", "classifier.")],
)
def test_an_appended_layer_leaves_every_weight_as_it_was(name: str, end: str, moved: str) -> None:
    made, other, new = untouched(name, "append relu", "append linear classes", classes=1000)
    assert other == ({f"{moved}weight", f"{moved}bias"} if moved else set())
    extra = {f"{end}.{moved}weight", f"{end}.{moved}bias"} if moved else set()
    assert new == {f"{end}.add_Linear.weight", f"{end}.add_Linear.bias"} | extra
    assert [*dict(made.get_submodule(end).named_children())][-2:] == ["add_ReLU", "add_Linear"]
    whole = build(of(name, classes=1000), seed=3)
    if moved:
        assert torch.equal(made.get_submodule(f"{end}.{end}").weight, whole.get_submodule(end).weight)
    x = torch.randn(2, 3, 32, 32)
    rows = whole.eval()(x)
    added = made.get_submodule(f"{end}.add_Linear")
    assert torch.allclose(made.eval()(x), added(rows.relu()), atol=1e-5)


def test_layers_of_one_kind_are_appended_under_names_of_their_own_and_maps_need_a_flatten() -> None:
    made = build(of("squeezenet1_1", "append flatten", "append linear 20", "append linear classes", size=64))
    names = [name for name, _ in made.classifier.named_children()]
    assert names[-3:] == ["add_Flatten", "add_Linear", "add_Linear_2"]
    assert made(torch.zeros(2, 3, 64, 64)).shape == (2, 10)
    with pytest.raises(UsageError, match="'linear classes' takes a row of numbers, and maps of 1000 x 1 x 1 come"):
        build(of("squeezenet1_1", "append linear classes", size=64))


def test_changes_see_what_those_before_them_made() -> None:
    made = build(of("quick", "4 = conv 16 5 padding=2", "7 = linear 32", "8 = linear classes"))
    assert (made[7].in_features, made[8].in_features) == (16 * 4 * 4, 32)
    tokens = outline(of("vit_b_32", "encoder.layers.encoder_layer_0.mlp.0 = linear 3072", size=224))
    assert tokens.encoder.layers.encoder_layer_0.mlp[0].in_features == 768
    whole = build(of("mobilenet_v2", "classifier = linear classes"))
    assert isinstance(whole.classifier, nn.Linear)
    several = build(of("small", "head = linear 12", "append linear classes"))
    assert several(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_the_top_can_be_removed_for_another_one() -> None:
    made = build(of("mobilenet_v2", "remove classifier.0", "classifier.1 = linear classes"))
    assert isinstance(made.classifier[0], nn.Identity)
    assert made(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


# --- what a wrong change is told --------------------------------------------------------------------------------------

WRONG = {
    ("classifier.7 = linear 2",): "line 1, 'classifier.7 = linear 2': mobilenet_v2 has no module classifier.7. Did you "
    "mean 'classifier.1'? `tellapart model show --tree` prints the paths.",
    ("remove features.99",): "mobilenet_v2 has no module features.99. Did you mean 'features.9'?",
    ("classifier.1 = linear 7",): "The changed mobilenet_v2 gives 7 numbers for 10 classes. The last layer must be",
    ("remove classifier.1",): "The changed mobilenet_v2 gives 1280 numbers for 10 classes.",
    ("remove features", "remove classifier"): "The changed mobilenet_v2 gives 3 numbers for 10 classes.",
    ("features.0.0 = conv 16 3 padding=1",): "The changed network does not fit together: mobilenet_v2 cannot take "
    "(1, 3, 32, 32): features.0.1 (BatchNorm2d) expected 32 channels, got 16; it was given (1, 16, 32, 32).",
    ("features.0.0 = conv 16 99",): "The kernel does not fit: its height is 99 pixels, and the picture has 32.",
    ("classifier.0 = relu", "append linear"): "line 2, 'append linear': That is not how linear is written.",
    ("append conv 3 3",): "'conv 3 3' takes maps, and a row of 1000 numbers comes",
    ("append",): "line 1, 'append': Unknown layer ''.",
    ("remove ",): "That is no change. A change is PATH = LAYER, append LAYER or remove PATH",
    ("classifier.1",): "That is no change.",
    ("classifier.1 =",): "That is no change.",
    ("= relu",): "That is no change.",
    ("a b = relu",): "That is no change.",
    ("classifier.1\x1b[2J = relu",): "mobilenet_v2 has no module classifier.1 [2J",
    ("append relu",) * 31: "model.changes has 31 lines; at most 30 are possible.",
}


@pytest.mark.parametrize(("changes", "told"), WRONG.items())
def test_a_wrong_change_is_named_with_what_would_be_right(changes: tuple[str, ...], told: str) -> None:
    with pytest.raises(UsageError) as refused:
        build(of("mobilenet_v2", *changes))
    assert told in str(refused.value)
    assert "\x1b" not in str(refused.value)


def test_a_module_that_no_picture_comes_to_by_itself_is_not_changed() -> None:
    inside = "encoder.layers.encoder_layer_0.self_attention.out_proj"
    with pytest.raises(UsageError, match=f"No picture comes to {inside} by itself. Change the module around it."):
        outline(of("vit_b_32", f"{inside} = linear 768", size=224))


def test_a_trained_model_is_not_changed_by_showing_it_and_a_plain_script_has_no_words_for_changes(
    tmp_path: Path,
) -> None:
    words = ("digits", "--model", "linear", "--set", "model.changes=append relu, append linear classes")
    done = train(tmp_path, "more", *words, "--set", "train.max_steps=2", "--epochs", "1", "--no-test")
    bundle = load_bundle(done.run("more").bundle)
    assert bundle.architecture.changes == ("append relu", "append linear classes")
    assert "add_Linear.weight" in bundle.state
    assert tellapart(tmp_path, "model", "show", "more").out.count("Linear(") == 2
    shown = tellapart(tmp_path, "model", "show", "more", "--change", "append relu")
    assert (shown.code, shown.err.splitlines()[0]) == (
        2,
        "error: more is a trained model, and --change cannot change it.",
    )
    script = tellapart(tmp_path, "export", "script", "more")
    assert "A plain script has no words for a changed linear." in script.err
    checked = tellapart(tmp_path, "model", "check", NET, "--change", "classifier.3 = linear 7")
    assert "gives 7 numbers for 10 classes" in checked.err


# --- on pretrained shoulders ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `pets` of 24 pictures, `body.safetensors` with weights for 1,000 classes, and `five` for five."""
    folder = tmp_path_factory.mktemp("surgery")
    make_folder(folder / "pets", per_class=8)
    for name, classes in (("body", 1000), ("five", 5)):
        torch.manual_seed(1)
        save_file(build_torchvision(NET, classes).state_dict(), folder / f"{name}.safetensors")
    return folder


def trained(at: Path, name: str, changes: list[str]) -> tuple[Architecture, dict[str, Tensor]]:
    """The model of a run whose body stays as it was, with these changes."""
    words = ("pets", "--set", "input.size=32", "--no-test", "--weights", "body.safetensors", "--freeze", "body")
    done = train(at, name, *words, "--model", NET, "--set", f"model.changes={json.dumps(changes)}")
    bundle = load_bundle(done.run(name).bundle)
    return bundle.architecture, dict(bundle.state)


def test_pretrained_weights_go_into_all_that_is_not_changed(at: Path) -> None:
    """An existing network, modified: one layer inside is new, the head fits the classes, the rest is the file's."""
    changes = ["features.1.block.2.0 = conv 16 1 bias=false", "classifier.1 = relu", "classifier.3 = linear classes"]
    architecture, state = trained(at, "inside", changes)
    file = load_file(at / "body.safetensors")
    other = {key for key in file if key not in state or not torch.equal(file[key], state[key])}
    assert other == {"features.1.block.2.0.weight", "classifier.3.weight", "classifier.3.bias"}
    assert architecture.changes == tuple(changes)
    assert state["classifier.3.weight"].shape == (3, 1024)


def test_an_appended_layer_keeps_the_pretrained_head(at: Path) -> None:
    _, state = trained(at, "appended", ["append linear classes"])
    file = load_file(at / "body.safetensors")
    assert [key for key in file if not torch.equal(file[key], state[key])] == []
    assert state["classifier.add_Linear.weight"].shape == (3, 1000)
    looked = tellapart(at, "predict", "appended", "pets")
    assert looked.code == 0, looked.err


def test_a_head_of_other_classes_cannot_be_kept(at: Path) -> None:
    words = ("pets", "--set", "input.size=32", "--weights", "five.safetensors", "--model", NET)
    done = tellapart(at, "train", *words, "--set", "model.changes=append linear classes")
    assert done.code == 3
    assert (
        "five.safetensors has no head classifier.3 of 1000 outputs, to which a layer is appended.\nhint: Replace"
        in done.err
    )
    assert tellapart(at, "train", *words, "--freeze", "body", "--no-test").code == 0


def test_an_extended_run_of_a_changed_network_goes_on(at: Path) -> None:
    words = ("pets", "--set", "input.size=32", "--no-test", "--model", "small", "--epochs", "1")
    done = train(at, "half", *words, "--set", "model.changes=append relu, append linear classes")
    longer = tellapart(at, "extend", "half", "--epochs", "2")
    assert longer.code == 0, longer.err
    bundle = load_bundle(done.run("half").bundle)
    assert bundle.module()(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    assert "head.add_Linear.bias" in bundle.state


def test_a_layer_norm_over_tokens_scales_each_feature() -> None:
    with torch.device("meta"):
        changed = build(
            Architecture(name="vit_b_32", num_classes=3, channels=3, size=224, changes=("encoder.ln = layernorm",))
        )
    norm = changed.get_submodule("encoder.ln")
    assert isinstance(norm, nn.LayerNorm)
    assert norm.normalized_shape == (768,)
