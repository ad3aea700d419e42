"""The pages that explain: their Python runs, and what they say is so."""

import ast
import doctest
import heapq
import math
import random
import re
from decimal import Decimal, localcontext
from itertools import count, pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import tellapart, train
from test_docs import blocks
from test_ledger import says
from torch import nn
from torch.nn import functional as F

from tellapart.data.augment import network_input
from tellapart.evaluation.predictions import Predictions
from tellapart.models.layers import KINDS
from tellapart.models.plain import build_linear, build_mlp
from tellapart.models.resnet import BasicBlock, Bottleneck
from tellapart.preprocess import Preprocess
from tellapart.recipe import Loss
from tellapart.training.losses import make_loss

DOCS = Path(__file__).parent.parent / "docs"
SRC = DOCS.parent / "src" / "tellapart"
POINTS = [(0, 0), (0, 1), (1, 0), (1, 1)]
AND, OR, XOR = [0, 0, 0, 1], [0, 1, 1, 1], [0, 1, 1, 0]
PICTURES = torch.tensor(POINTS).double().reshape(4, 2, 1, 1)


@pytest.mark.parametrize(("page", "least"), [("normalisation", 30), ("glossary", 40), ("numbers", 60), ("resnet", 6)])
def test_the_python_of_a_page_gives_what_it_prints(page: str, least: int, capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(blocks(DOCS / f"{page}.md", "pycon"))
    found = doctest.DocTestRunner().run(doctest.DocTestParser().get_doctest(text, {}, page, page, 0))
    assert found.failed == 0, capsys.readouterr().out
    assert found.attempted >= least


def test_the_open_questions_of_the_notes_are_answered() -> None:
    says("docs/numbers.md", "No. The mean squared error is the 2-norm of the *differences*, squared, over n")
    says("docs/numbers.md", "Who uses the code of one distribution q for days that come as p pays Σ p · -log q")
    says("docs/numbers.md", "*Uncertainty*: how much is unknown before looking", "one number, seen from five sides")
    says("docs/numbers.md", "(x - mean) / std: mean 0 and deviation 1", "(x - smallest) / (largest - smallest)")
    says(
        "docs/glossary.md", "the chain rule from the loss back to every weight", "is *gradient descent*, another thing"
    )
    says(
        "docs/resnet.md", "The channels of one group of the 3 x 3 convolution", "Nothing is skipped and nothing chooses"
    )
    says("docs/resnet.md", "The paper calls it *degradation*", "From 50 layers on, 50 included")
    says("docs/glossary.md", "It is the product of a one-hot vector with a matrix", "the layer looks that row up")
    says("docs/normalisation.md", "No, though one of the notes' words for it says so", "which is noise")


# --- glossary ---------------------------------------------------------------------------------------------------------


def test_eight_words_point_to_what_is_there() -> None:
    text = (DOCS / "glossary.md").read_text(encoding="utf-8").split("## A perceptron")[0]
    entries = re.findall(r"^- \*\*([\w-]+)\*\*: (.*?)(?=^- |\Z)", text, re.M | re.S)
    assert [word for word, _ in entries] == [
        *("Perceptron", "Neuron", "Layer", "Weights", "Bias", "Activation", "Loss", "Back-propagation"),
    ]
    for word, said in entries:
        (file,) = set(re.findall(r"`(\w+/\w+\.py)`", said))
        names = set(re.findall(r"`(\w+)`", said)) - {"backward"}
        tree = ast.parse((SRC / file).read_text(encoding="utf-8"))
        there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        there |= {n.target.id for n in tree.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
        assert names, word
        assert names <= there, word
        assert said.count(".") >= 2, word


def test_one_line_makes_and_and_or_and_none_makes_xor() -> None:
    sides = [n / 4 for n in range(-8, 9)]

    def best(answers: list[int]) -> int:
        lines = product(sides, sides, sides)
        return max(
            sum((a * x + b * y + c > 0) == bool(t) for (x, y), t in zip(POINTS, answers, strict=True))
            for a, b, c in lines
        )

    assert (best(AND), best(OR), best(XOR)) == (4, 4, 3)
    model = build_linear(2, 2, 1).double()  # its loss is convex, and flat where all weights are 0: that is the minimum
    for weight in model.parameters():
        nn.init.zeros_(weight)
    for answers, flat in ((XOR, True), (AND, False)):
        model.zero_grad()
        loss = make_loss(Loss(label_smoothing=0.0))(model(PICTURES), torch.tensor(answers))
        loss.backward()
        slopes = [weight.grad.abs().max().item() for weight in model.parameters() if weight.grad is not None]
        assert (loss.item(), max(slopes) < 1e-12) == (pytest.approx(math.log(2)), flat)


def test_two_hidden_neurons_are_enough_for_xor() -> None:
    model = build_mlp(2, 2, 1, hidden=(2,)).double()
    _, first, _, second = model.children()
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    with torch.no_grad():  # relu(x + y) - 2 relu(x + y - 1) is 0, 1, 1, 0
        first.weight.copy_(torch.ones(2, 2))
        first.bias.copy_(torch.tensor([0.0, -1]))
        second.weight.copy_(torch.tensor([[0.0, 0], [2, -4]]))
        second.bias.copy_(torch.tensor([1.0, 0]))
        assert model(PICTURES).argmax(1).tolist() == XOR
        second.weight[1, 1] = 0  # without the second neuron it is no longer so
        assert model(PICTURES).argmax(1).tolist() != XOR


def test_back_propagation_finds_the_slope_of_every_weight_and_changes_none() -> None:
    torch.manual_seed(0)
    model, loss_of = build_mlp(2, 2, 1, hidden=(3,)).double(), make_loss(Loss(label_smoothing=0.0))
    target = torch.tensor(XOR)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    loss_of(model(PICTURES), target).backward()
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    for weight in model.parameters():
        assert weight.grad is not None
        for place in range(weight.numel()):  # as step.md does it: move one number a little, and look
            with torch.no_grad():
                flat = weight.view(-1)
                flat[place] += 1e-6
                higher = loss_of(model(PICTURES), target).item()
                flat[place] -= 2e-6
                lower = loss_of(model(PICTURES), target).item()
                flat[place] += 1e-6
            assert weight.grad.view(-1)[place].item() == pytest.approx((higher - lower) / 2e-6, abs=1e-6)


def test_module_keeps_parameters_and_autograd_goes_back() -> None:
    import torchvision.models

    assert not hasattr(nn.Module, "backward")
    assert list(nn.Module().parameters()) == []
    with pytest.raises(NotImplementedError):
        nn.Module()(torch.zeros(1))
    w = torch.tensor(2.0, requires_grad=True)
    (3 * w).backward()  # no Module anywhere
    assert w.grad == 3
    networks = {name for name in torchvision.models.list_models() if "_" not in name}
    assert {"resnet18", "vgg16", "alexnet"} <= networks
    assert not any(hasattr(nn, name) for name in networks)
    assert issubclass(torchvision.models.ResNet, nn.Module)


# --- residual networks ------------------------------------------------------------------------------------------------


def test_nothing_is_skipped_and_what_is_added_is_learned() -> None:
    torch.manual_seed(0)
    block, x = BasicBlock(4, 4).eval(), torch.randn(3, 4, 6, 6)
    for norm in (block.bn1, block.bn2):
        nn.init.normal_(norm.weight, 1, 5)  # a good F, a bad F: no matter which, both ways are added
    for images in (x, 100 * x, -x):
        learned = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(images)))))
        assert torch.equal(block(images), torch.relu(learned + images))
    block(x).sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in block.parameters())
    worse = F.mse_loss(block(x), x.relu()) > F.mse_loss(x.relu(), x.relu())  # no guarantee: F made it worse
    assert worse


def test_a_basic_block_is_3_3_and_a_bottleneck_1_3_1() -> None:
    def kernels(block: nn.Module) -> list[tuple[int, ...]]:
        return [one.kernel_size for one in block.modules() if isinstance(one, nn.Conv2d)]

    assert kernels(BasicBlock(64, 64)) == [(3, 3), (3, 3)]
    assert kernels(Bottleneck(256, 64)) == [(1, 1), (3, 3), (1, 1)]


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_the_worked_norms_of_the_notes() -> None:
    rows = [[1, 2, 3, 4], [2, 4, 6, 8], [3, 6, 9, 12]]
    naive = lambda values: math.sqrt(sum(x * x for x in values))  # noqa: E731
    assert [f"{naive(row):.4f}" for row in rows] == ["5.4772", "10.9545", "16.4317"]
    assert [f"{naive(row):.4f}" for row in zip(*rows, strict=True)] == ["3.7417", "7.4833", "11.2250", "14.9666"]
    assert f"{naive(x for row in rows for x in row):.4f}" == "20.4939"
    a = torch.tensor(rows, dtype=torch.float64)
    assert torch.linalg.vector_norm(a, dim=1, keepdim=True).shape == (3, 1)
    assert torch.linalg.vector_norm(a, dim=0).tolist() == pytest.approx([naive(row) for row in zip(*rows, strict=True)])
    chance = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    roots = torch.linalg.eigvalsh(chance.T @ chance).sqrt()  # singular values another way
    assert torch.linalg.matrix_norm(chance, ord="nuc").item() == pytest.approx(roots.sum().item())
    assert torch.linalg.matrix_norm(chance, ord="fro").item() == pytest.approx(naive(chance.flatten().tolist()))


def test_the_squared_error_is_of_differences_and_is_the_squared_norm_over_n() -> None:
    outputs, label = [0.5, -1.0, 2.0], 2
    differences = [x - (k == label) for k, x in enumerate(outputs)]
    ours = make_loss(Loss(name="mse", label_smoothing=0.0))(torch.tensor([outputs]), torch.tensor([label])).item()
    assert ours == pytest.approx(sum(d * d for d in differences) / 3)
    assert ours == pytest.approx(math.hypot(*differences) ** 2 / 3)
    assert ours != pytest.approx(math.hypot(*differences), rel=0.1)
    assert ours != pytest.approx(sum(x * x + (k == label) for k, x in enumerate(outputs)) / 3, rel=0.1)


def test_entropy_is_the_length_of_the_best_code() -> None:
    """The weather's code is made by Huffman's rule, and its mean length is the entropy; nothing beats log2 n."""
    weather = {"fine": 0.5, "cloudy": 0.25, "rainy": 0.125, "snow": 0.125}
    number, depth = count(), dict.fromkeys(weather, 0)
    heap = [(p, next(number), [name]) for name, p in weather.items()]
    heapq.heapify(heap)
    while len(heap) > 1:
        (p, _, one), (q, _, other) = heapq.heappop(heap), heapq.heappop(heap)
        for name in one + other:
            depth[name] += 1
        heapq.heappush(heap, (p + q, next(number), one + other))
    assert depth == {"fine": 1, "cloudy": 2, "rainy": 3, "snow": 3}
    assert all(depth[name] == -math.log2(p) for name, p in weather.items())  # not 1 - p
    entropy = lambda shares: -sum(p * math.log2(p) for p in shares)  # noqa: E731
    assert sum(depth[name] * p for name, p in weather.items()) == entropy(weather.values()) == 1.75
    assert f"{entropy([0.1] * 10):.4f}" == f"{math.log2(10):.4f}" == "3.3219"
    chance = random.Random(0)
    for _ in range(50):
        p, q = ([x / sum(raw) for x in raw] for raw in ([chance.random() for _ in range(10)] for _ in range(2)))
        crossed = -sum(a * math.log2(b) for a, b in zip(p, q, strict=True))
        assert entropy(p) < crossed
        assert entropy(p) < math.log2(10)
    page = (DOCS / "numbers.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| (\w+) \| ([\d.]+) % \| (\d) bits? \| ([01]+) \|$", page, re.M)
    assert {name: float(p) / 100 for name, p, _, _ in table} == weather
    assert all(int(bits) == len(code) == depth[name] for name, _, bits, code in table)
    codes = [code for *_, code in table]
    assert not any(a != b and b.startswith(a) for a, b in product(codes, codes))


def test_cross_entropy_is_of_the_right_class_alone_and_bce_of_each() -> None:
    shares = [0.1, 0.8, 0.4]
    logits = torch.tensor([[math.log(p / (1 - p)) for p in shares]])
    each = 3 * make_loss(Loss(name="bce", label_smoothing=0.0))(logits, torch.tensor([0])).item()
    assert each == pytest.approx(-math.log(0.1) - math.log(0.2) - math.log(0.6))
    assert f"{each:.4f}" == "4.4228"
    scaled = [p / sum(shares) for p in shares]  # what a softmax could give
    one = make_loss(Loss(label_smoothing=0.0))(torch.tensor([scaled]).log(), torch.tensor([0])).item()
    assert one == pytest.approx(-math.log(0.1 / 1.3), rel=1e-6)
    assert one - math.log(1.3) == pytest.approx(2.3026, abs=1e-4)  # -ln 0.1, as the page has it
    for others in ([0.45, 0.45], [0.89, 0.01]):  # how the rest is dealt to the other classes does not matter
        again = make_loss(Loss(label_smoothing=0.0))(torch.tensor([[0.1, *others]]).log(), torch.tensor([0]))
        assert again.item() == pytest.approx(-math.log(0.1), rel=1e-5)


def test_softmax_lies_between_0_and_1_ends_excluded() -> None:
    for logits in ((30, 0), (200, -200, 3), (0, 0), (-50, -51, -52)):
        with localcontext(prec=400):
            raw = [Decimal(x).exp() for x in logits]
            assert all(0 < x < sum(raw) for x in raw)  # so 0 < share < 1
        said = torch.tensor([logits], dtype=torch.float64).softmax(1)[0]
        assert said.tolist() == pytest.approx([float(x / sum(raw)) for x in raw])
        assert said.sum().item() == pytest.approx(1)
    assert torch.tensor([30.0, 0]).softmax(0)[0] == 1  # rounding alone
    assert make_loss(Loss(label_smoothing=0.0))(torch.tensor([[200.0, 0]]), torch.tensor([1])).item() == 200


def test_the_pictures_a_model_is_unsure_of_are_those_of_most_entropy(tmp_path, monkeypatch, capsys) -> None:
    train(tmp_path, "first", "digits", "--limit", "300", "--epochs", "1", "--no-test")
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(DOCS / "numbers.md", "python")
    exec(block, {})
    said = Predictions.load(tmp_path / "runs/first/predictions/validation.safetensors")
    entropies = {}
    for key, row in zip(said.keys, said.logits.tolist(), strict=True):
        raw = [math.exp(x - max(row)) for x in row]
        entropies[key] = -sum(x / sum(raw) * math.log2(x / sum(raw)) for x in raw)
    told = re.findall(r"^(\S+)  (\d\.\d\d) bits  (\d), or (\d)\?$", capsys.readouterr().out, re.M)
    assert [key for key, *_ in told] == sorted(entropies, key=entropies.__getitem__, reverse=True)[:5]
    assert all(float(bits) == pytest.approx(entropies[key], abs=0.006) for key, bits, *_ in told)
    assert max(entropies.values()) <= math.log2(10) + 1e-9


def test_partial_derivatives_are_numbers_and_the_gradient_their_vector() -> None:
    f = lambda x, y, z: x * y**2 + torch.sin(z)  # noqa: E731
    at = [2.0, 3.0, 1.0]
    point = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    f(*point).backward()
    assert point.grad is not None
    assert point.grad.shape == (3,)
    assert point.grad.tolist() == pytest.approx([3.0**2, 2 * 2 * 3.0, math.cos(1.0)])
    assert all(part.ndim == 0 for part in point.grad)


def test_descent_ends_where_the_slope_is_0_and_that_depends_on_the_start() -> None:
    def ends(x: float) -> float:
        for _ in range(4000):
            x -= 0.01 * (4 * x * (x**2 - 1) + 0.5)
        return x

    found = {round(ends(start / 10), 6) for start in range(-20, 21)}
    height = {x: (x**2 - 1) ** 2 + x / 2 for x in found}
    assert len(found) == 2
    assert max(height.values()) - min(height.values()) > 0.9
    for x in found:
        assert abs(4 * x * (x**2 - 1) + 0.5) < 1e-5
        assert all((y**2 - 1) ** 2 + y / 2 > height[x] for y in (x - 0.01, x + 0.01))
    x, y = 1.0, 0.0
    for _ in range(500):
        x, y = x - 0.1 * 2 * x, y + 0.1 * 2 * y  # down x^2 - y^2: a saddle, lower ground on both sides
    assert (abs(x) < 1e-9, y) == (True, 0.0)


def test_least_squares_cannot_leave_their_family() -> None:
    """However many points: of all lines through x², none is nearer than 4/45 in the mean of squares on [-1, 1]."""
    for n in (100, 10_000):
        x = np.linspace(-1, 1, n)
        slope, offset = np.polyfit(x, x**2, 1)
        best = np.mean((slope * x + offset - x**2) ** 2)
        assert best == pytest.approx(4 / 45, rel=0.1)
        others = [np.mean((a * x + b - x**2) ** 2) for a, b in product(np.linspace(-1, 1, 21), np.linspace(-1, 1, 21))]
        assert min(others) >= best
        assert np.mean((np.polyval(np.polyfit(x, x**2, 2), x) - x**2) ** 2) < 1e-20


def test_scaling_saves_steps() -> None:
    """By torch's own gradients, the rate halved until nothing diverges: what is not scaled takes longer."""
    generator = torch.Generator().manual_seed(0)
    metres = torch.rand(100, 2, generator=generator, dtype=torch.float64)
    wanted = metres @ torch.tensor([1.0, -1.0], dtype=torch.float64)

    def steps(inputs: torch.Tensor, rate: float = 4.0, most: int = 3000) -> int:
        weights = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        first = last = None
        for step in range(most):
            loss = ((inputs @ weights[:2] + weights[2] - wanted) ** 2).mean()
            first = first or loss.item()
            if loss < first / 100:
                return step
            if last is not None and loss > last:  # it grows: the rate is too large
                return steps(inputs, rate / 2, most)
            last = loss.item()
            (slope,) = torch.autograd.grad(loss, weights)
            weights.data -= rate * slope
        return most

    standard = lambda x: (x - x.mean(0)) / x.std(0)  # noqa: E731
    found = [steps(how(metres * torch.tensor([1, larger]))) for larger in (1, 5, 20) for how in (standard, lambda x: x)]
    assert max(found[::2]) < 20
    assert all(later > 2 * earlier for earlier, later in pairwise(found[1::2]))
    assert found[1] > found[0]


def test_standardising_and_min_max_move_and_stretch_and_no_more() -> None:
    values = np.random.default_rng(0).gamma(2, 3, 10_000)  # anything but normal
    scaled = {"min-max": (values - values.min()) / np.ptp(values), "standard": (values - values.mean()) / values.std()}
    skew = lambda x: np.mean(((x - x.mean()) / x.std()) ** 3)  # noqa: E731
    assert (scaled["min-max"].min(), scaled["min-max"].max()) == (0, 1)
    assert (scaled["standard"].mean(), scaled["standard"].std()) == (pytest.approx(0, abs=1e-9), pytest.approx(1))
    for one in scaled.values():
        assert skew(one) == pytest.approx(skew(values))
        assert skew(one) > 1
    pixels = np.random.default_rng(1).integers(0, 256, (16, 8, 8, 1), np.uint8)
    mean, std = float(pixels.mean() / 255), float(pixels.std() / 255)
    ours = network_input(torch.from_numpy(pixels), Preprocess(size=8, channels=1, mean=(mean,), std=(std,)))
    assert (ours.mean().item(), ours.std(correction=0).item()) == (
        pytest.approx(0, abs=1e-4),
        pytest.approx(1, abs=1e-4),
    )


# --- scope ------------------------------------------------------------------------------------------------------------


def test_what_the_scope_says_is_there_and_what_is_not_is_refused(tmp_path: Path) -> None:
    text = (DOCS / "scope.md").read_text(encoding="utf-8")
    layers = text.split("## Kinds of layers")[1].split("## Tasks")[0]
    rows = {kind: (here, where) for kind, here, where in re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", layers, re.M)}
    named = {word for here, where in rows.values() if here == "yes" for word in re.findall(r"`(\w+)`", where)}
    assert named == set(KINDS)
    assert {kind.split(" ")[0] for kind, (here, _) in rows.items() if here == "no"} == {
        "recurrent",
        "embedding",
        "distance",
    }
    for word in ("rnn", "lstm", "gru", "embedding", "attention", "distance"):
        done = tellapart(
            tmp_path, "train", "digits", "--model", "layers", "--set", f"model.layers={word} 10, linear 10"
        )
        assert (done.code, f"Unknown layer '{word}'." in done.err) == (2, True), done.err
    done = tellapart(tmp_path, "train", "digits", "--model", "lstm")
    assert (done.code, done.err.splitlines()[0]) == (2, "error: Unknown model 'lstm'.")
    known = tellapart(tmp_path, "model", "list").out
    assert all(re.search(rf"^{name} ", known, re.M) for name in ("vit_b_16", "swin_t", "maxvit_t", "resnet18"))
    assert not re.search(r"detection|rcnn|segment|deeplab|r3d|raft", known)


def test_an_embedding_looks_up_rows_and_equals_a_product_with_one_hot_vectors() -> None:
    torch.manual_seed(0)
    table, words = nn.Embedding(7, 5), torch.tensor([[6, 0, 3], [3, 3, 1]])
    found = table(words)
    assert found.shape == (2, 3, 5)
    for place in product(range(2), range(3)):
        assert torch.equal(found[place], table.weight[words[place]])
    torch.testing.assert_close(found, F.one_hot(words, 7).float() @ table.weight, rtol=0, atol=0)
    found.sum().backward()
    assert table.weight.grad is not None
    assert table.weight.grad[:, 0].tolist() == [1, 1, 0, 3, 0, 0, 1]  # only rows that were looked up learn
