"""The event file as TensorBoard's own reader sees it, and the traced graph: whole, named, and without side effects."""

import importlib.util
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tellapart.reporting import graph as graph_module
from tellapart.reporting.graph import trace_graph
from tellapart.reporting.tensorboard import Board, open_board

EXAMPLE = torch.zeros(1, 3, 32, 32)


def quick() -> nn.Sequential:
    convolutions = [
        layer for c_in, c_out in ((3, 32), (32, 32), (32, 64)) for layer in (conv5(c_in, c_out), nn.MaxPool2d(2))
    ]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(1024, 64), nn.Linear(64, 10))


def conv5(c_in: int, c_out: int) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 5, padding=2)


class Residual(nn.Module):
    """conv → bn → relu → conv, added in place to what came in, and the same relu again."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = conv5(3, 4), nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.body = conv5(4, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        out = self.body(self.relu(self.bn(x)))
        out += x
        return self.head(self.relu(out).mean((2, 3)))


class Hidden(nn.Module):
    """Leaves torch for NumPy: no torch call shows where its output comes from."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(np.maximum(x.numpy(), 0))


class HiddenInside(nn.Module):
    """As Hidden, but the unseen tensor is used before the module returns."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(torch.from_numpy(x.numpy() + 1))


class Failing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("planted")


def by_name(graph: Any) -> dict[str, Any]:
    return {node.name: node for node in graph.node}


def sources(node: Any) -> list[str]:
    return [edge.split(":")[0] for edge in node.input]


def behind(graph: Any, name: str) -> set[str]:
    """Every node from which `name` can be reached."""
    nodes, found, todo = by_name(graph), {name}, [name]
    while todo:
        new = set(sources(nodes[todo.pop()])) - found
        found |= new
        todo += new
    return found


def assert_whole(graph: Any) -> None:
    """Names are unique, every edge comes from an earlier node, and the input reaches the output."""
    seen: set[str] = set()
    for node in graph.node:
        assert node.name not in seen
        assert set(sources(node)) <= seen
        seen.add(node.name)
    assert "input" in behind(graph, "output")


def sizes(node: Any) -> list[list[int]]:
    return [[dim.size for dim in shape.dim] for shape in node.attr["_output_shapes"].list.shape]


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


# --- the event file ---------------------------------------------------------------------------------------------------


def test_scalars_come_back_with_value_and_step_in_their_places(tmp_path: Path) -> None:
    with Board(tmp_path) as board:
        for step in range(100):
            board.scalars(step, {"y=2x": 2 * step, "half": step / 2})
    events = read(tmp_path)
    assert sorted(events.Tags()["scalars"]) == ["half", "y=2x"]
    assert [(e.step, e.value) for e in events.Scalars("y=2x")] == [(i, 2 * i) for i in range(100)]
    assert events.Scalars("y=2x")[99].value == 198
    assert events.Scalars("half")[3].value == 1.5


def test_each_kind_says_which_plugin_shows_it(tmp_path: Path) -> None:
    with Board(tmp_path) as board:
        board.scalars(0, {"loss": 1.0})
        board.image("picture", np.zeros((4, 6, 3), np.uint8), 2)
        board.text("note", "**n** = 5")
    events = read(tmp_path)
    plugins = {tag: events.SummaryMetadata(tag).plugin_data.plugin_name for tag in ("loss", "picture", "note")}
    assert plugins == {"loss": "scalars", "picture": "images", "note": "text"}
    assert events.Tensors("note")[0].tensor_proto.string_val == [b"**n** = 5"]


def test_not_finite_scalars_are_kept(tmp_path: Path) -> None:
    with Board(tmp_path) as board:
        board.scalars(0, {"loss": float("nan")})
        board.scalars(1, {"loss": float("inf")})
    values = [e.value for e in read(tmp_path).Scalars("loss")]
    assert np.isnan(values[0])
    assert values[1] == float("inf")


def test_ten_pictures_are_ten_steps_of_one_tag_enlarged_above_their_names(tmp_path: Path) -> None:
    images = np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1) * 20 + np.zeros((10, 28, 28, 1), np.uint8)
    with Board(tmp_path) as board:
        board.pictures("fashion", images, [f"class {i}" for i in range(10)])
    shown = read(tmp_path).Images("fashion")
    assert [e.step for e in shown] == list(range(10))
    for i, event in enumerate(shown):
        pixels = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
        assert pixels.shape == (event.height, event.width, 3)
        assert np.all(pixels[:84, event.width // 2] == 20 * i)  # 28 × 3 is the first multiple not below 64
        assert pixels[84:].min() < 128 < pixels[84:].max()  # letters on white


def test_enlarging_repeats_pixels_and_leaves_large_pictures_alone(tmp_path: Path) -> None:
    small = np.random.default_rng(0).integers(0, 255, (1, 32, 40, 3)).astype(np.uint8)
    large = np.random.default_rng(1).integers(0, 255, (1, 70, 200, 3)).astype(np.uint8)
    with Board(tmp_path) as board:
        board.pictures("small", small, ["a"], step=5)
        board.pictures("large", large, ["a"])
    events = read(tmp_path)
    assert events.Images("small")[0].step == 5
    for tag, wanted in (("small", small[0].repeat(2, 0).repeat(2, 1)), ("large", large[0])):
        shown = np.asarray(Image.open(io.BytesIO(events.Images(tag)[0].encoded_image_string)))
        assert np.array_equal(shown[: wanted.shape[0], : wanted.shape[1]], wanted)


def test_a_long_or_foreign_or_empty_name_is_drawn_without_failing(tmp_path: Path) -> None:
    with Board(tmp_path) as board:
        board.pictures("names", np.zeros((3, 8, 8, 1), np.uint8), ["x" * 300, "短靴", ""])
    assert len(read(tmp_path).Images("names")) == 3


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_image_is_kept_exactly(tmp_path: Path, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (5, 7, channels)).astype(np.uint8)
    with Board(tmp_path) as board:
        board.image("test1", pixels, 2)
    (event,) = read(tmp_path).Images("test1")
    shown = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
    assert event.step == 2
    assert np.array_equal(shown.reshape(pixels.shape), pixels)


@pytest.mark.parametrize("wrong", [np.zeros((4, 4, 3), np.float32), np.zeros((3, 4, 5), np.uint8), np.zeros((4, 4))])
def test_an_image_of_another_layout_is_refused(tmp_path: Path, wrong: np.ndarray) -> None:
    with Board(tmp_path) as board, pytest.raises(ValueError, match="uint8 H W C"):
        board.image("x", wrong, 0)


def test_pictures_need_a_name_each(tmp_path: Path) -> None:
    with Board(tmp_path) as board, pytest.raises(ValueError, match=r"2, 8, 8, 1.*1 names"):
        board.pictures("x", np.zeros((2, 8, 8, 1), np.uint8), ["one"])


def test_flush_shows_all_and_closing_twice_is_harmless(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.scalars(0, {"loss": 1.0})
    board.flush()
    assert len(read(tmp_path).Scalars("loss")) == 1
    for _ in range(2):
        board.close()
        board.flush()
    with pytest.raises(ValueError, match="closed"):
        board.scalars(1, {"loss": 1.0})


def test_an_interrupted_run_still_closes_its_file(tmp_path: Path) -> None:
    def interrupted() -> None:
        with Board(tmp_path) as board:
            board.scalars(0, {"loss": 1.0})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(read(tmp_path).Scalars("loss")) == 1


def test_without_tensorboard_there_is_no_board_and_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert open_board(tmp_path / "none") is None
    assert not (tmp_path / "none").exists()


def test_a_board_takes_one_graph_and_gives_it_back(tmp_path: Path) -> None:
    graph = trace_graph(quick(), EXAMPLE)
    board = open_board(tmp_path)
    assert board is not None
    with board:
        board.graph(graph)
        with pytest.raises(ValueError, match="has its graph"):
            board.graph(graph)
    events = read(tmp_path)
    assert events.Tags()["graph"]
    assert events.Graph() == graph


# --- the graph --------------------------------------------------------------------------------------------------------


def test_the_quick_network_is_a_chain_under_its_module_paths() -> None:
    graph = trace_graph(quick(), EXAMPLE)
    assert_whole(graph)
    classes = [type(layer).__name__ for layer in quick()]
    layers = [f"{i}_{name}" for i, name in enumerate(classes)]
    assert layers[:2] == ["0_Conv2d", "1_MaxPool2d"]
    calls = [f"{layer}/{name}" for layer, name in zip(layers, classes, strict=True)]
    assert [n.name for n in graph.node if n.op != "Parameter"] == ["input", *calls, "output"]
    nodes = by_name(graph)
    for before, name in zip(["input", *calls], [*calls, "output"], strict=True):
        assert sources(nodes[name])[0] == before
    held = [f"{layer}/{kind}" for layer in layers if "v2" in layer or "Li" in layer for kind in ("weight", "bias")]
    assert [n.name for n in graph.node if n.op == "Parameter"] == held
    assert sources(nodes["0_Conv2d/Conv2d"]) == ["input", "0_Conv2d/weight", "0_Conv2d/bias"]


def test_nodes_carry_the_shapes_of_what_they_make() -> None:
    nodes = by_name(trace_graph(quick(), EXAMPLE))
    wanted = {
        "input": [1, 3, 32, 32],
        "0_Conv2d/weight": [32, 3, 5, 5],
        "0_Conv2d/Conv2d": [1, 32, 32, 32],
        "1_MaxPool2d/MaxPool2d": [1, 32, 16, 16],
        "6_Flatten/Flatten": [1, 1024],
        "output": [1, 10],
    }
    assert {name: sizes(nodes[name]) for name in wanted} == {name: [size] for name, size in wanted.items()}
    assert [dim.size for dim in nodes["7_Linear/weight"].attr["shape"].shape.dim] == [64, 1024]
    assert b"kernel_size=(5, 5)" in nodes["0_Conv2d/Conv2d"].attr["settings"].s


def test_a_residual_sum_joins_both_ways_and_a_second_call_gets_its_own_scope() -> None:
    graph = trace_graph(Residual(), EXAMPLE)
    assert_whole(graph)
    nodes = by_name(graph)
    assert sources(nodes["add"]) == ["body/Conv2d", "stem/Conv2d"]
    assert sources(nodes["body/Conv2d"])[0] == "relu/ReLU"
    assert sources(nodes["relu_1/ReLU"]) == ["add"]
    assert sources(nodes["mean"]) == ["relu_1/ReLU"]
    assert {n.name for n in graph.node if n.op == "Buffer"} == {"bn/running_mean", "bn/running_var"}
    assert behind(graph, "output") == set(nodes)  # nothing hangs loose


def test_each_call_is_drawn_once_and_getters_not_at_all() -> None:
    class Plain(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert x.dim() == 4
            return nn.functional.relu(x).view(x.shape[0], -1)

    assert [n.name for n in trace_graph(Plain(), EXAMPLE).node] == ["input", "relu", "view", "output"]


def test_several_outputs_unpacking_and_writing_into_a_slice_keep_their_edges() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            left, right = x.chunk(2, dim=3)
            (first,) = x
            left = left.clone()
            left[:, 0] = 1
            return {"a": left, "b": [right, first]}  # type: ignore[dict-item]

    graph = trace_graph(Odd(), EXAMPLE)
    assert_whole(graph)
    nodes = by_name(graph)
    assert list(nodes["output"].input) == ["setitem", "chunk:1", "unbind"]
    assert sources(nodes["setitem"]) == ["clone"]


@pytest.mark.parametrize("hidden", [Hidden(), HiddenInside()])
def test_work_that_torch_does_not_show_is_bridged(hidden: nn.Module) -> None:
    graph = trace_graph(nn.Sequential(conv5(3, 4), hidden, conv5(4, 4)), EXAMPLE)
    assert_whole(graph)
    scope = f"1_{type(hidden).__name__}"
    bridge = f"{scope}/Hidden" if isinstance(hidden, Hidden) else f"{scope}/unseen"
    assert sources(by_name(graph)[bridge]) == ["0_Conv2d/Conv2d"]
    assert bridge in behind(graph, "2_Conv2d/Conv2d")


def test_a_tensor_is_not_taken_for_a_dead_one_at_the_same_address() -> None:
    class Reusing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            for _ in range(20):
                x = x.clone()
                x.exp()  # dies here, unless the trace holds it
                x = torch.from_numpy(x.numpy() * 2)
            return x.sum()

    graph = trace_graph(Reusing(), EXAMPLE)
    assert "exp" not in {source.split("_")[0] for node in graph.node for source in sources(node)}
    assert sum(node.op == "unseen" for node in graph.node) == 20


def test_an_op_called_like_a_module_does_not_fall_into_its_scope() -> None:
    class Clash(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu, self.input = nn.ReLU(), nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.relu(self.input(x)))

    names = {n.name for n in trace_graph(Clash(), EXAMPLE).node}
    assert names == {"input_1", "relu/ReLU", "relu_1", "output"}


def test_networks_of_torchvision_are_whole() -> None:
    models = pytest.importorskip("torchvision.models")
    vit = models.VisionTransformer(image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32)
    cases = {"resnet18": models.resnet18(), "mobilenet_v2": models.mobilenet_v2(), "vit": vit}
    graphs = {name: trace_graph(model, EXAMPLE) for name, model in cases.items()}
    for graph in graphs.values():
        assert_whole(graph)
        assert not [n.name for n in graph.node if n.op == "unseen"]
        assert behind(graph, "output") == set(by_name(graph))
    assert "layer1/0_BasicBlock/add" in by_name(graphs["resnet18"])
    attention = "encoder/layers/encoder_layer_0/self_attention/multi_head_attention_forward"
    assert attention in by_name(graphs["vit"])


# --- no side effects --------------------------------------------------------------------------------------------------


def hook_count(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("fails", [False, True])
def test_hooks_go_and_training_flags_return(fails: bool) -> None:
    model = nn.Sequential(Residual(), Failing() if fails else nn.Identity())
    model.train()
    model[0].bn.eval()  # type: ignore[union-attr]
    kept = model[0].register_forward_hook(lambda module, args, output: None)
    flags = [m.training for m in model.modules()]
    if fails:
        with pytest.raises(RuntimeError, match="planted"):
            trace_graph(model, EXAMPLE)
    else:
        trace_graph(model, EXAMPLE)
    assert [m.training for m in model.modules()] == flags
    assert hook_count(model) == 1
    kept.remove()


def test_neither_weights_nor_gradients_nor_chance_are_touched() -> None:
    model = nn.Sequential(Residual(), nn.Dropout())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    chance = torch.get_rng_state()
    trace_graph(model, EXAMPLE)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), chance)
    assert torch.is_grad_enabled()


def test_tracing_and_writing_load_no_compiler(tmp_path: Path) -> None:
    program = """
import sys, torch
from pathlib import Path
from torch import nn
from tellapart.reporting.graph import trace_graph
from tellapart.reporting.tensorboard import open_board
model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
with open_board(Path(sys.argv[1])) as board:
    board.graph(trace_graph(model, torch.zeros(1, 3, 8, 8)))
    board.scalars(0, {"loss": 1.0})
print([name for name in ("torch._dynamo", "sympy", "torchvision", "tensorflow") if name in sys.modules])
"""
    source = Path(graph_module.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    words = [sys.executable, "-W", "error", "-c", program, str(tmp_path)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")
