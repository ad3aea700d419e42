"""Heat maps: they hit what was planted, equal what is computed by hand, and are told from maps that mean nothing."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tellapart.data.square import covered, fitted
from tellapart.evaluation.fields import fields_of, in_fields, without
from tellapart.evaluation.intervals import of_mean
from tellapart.evaluation.metrics import Figure, log_odds
from tellapart.evaluation.neighbours import last_layer, nearest
from tellapart.evaluation.saliency import METHODS, Place, cam, covering, occlusion, place_of, places_of
from tellapart.evaluation.trust import (
    ALL,
    HEAD,
    SHARES,
    Trust,
    areas,
    moved,
    ordered,
    randomised,
    spearman,
    taken,
    trust,
)
from tellapart.models.build import Architecture, build
from tellapart.models.inside import fingerprint
from tellapart.preprocess import Preprocess

SIZE, PATCH = 32, 8
PLANTED = Architecture(name="small", num_classes=3, channels=3, size=SIZE, args={"width": 8})
"""Three classes: noise with a chequered, a striped or a barred patch of 8 x 8 somewhere."""


def planted(count: int, seed: int) -> tuple[Tensor, Tensor, np.ndarray]:
    """Pictures (N 3 S S), their classes (N), and top and left of the patch (N 2)."""
    rng, (down, across) = np.random.default_rng(seed), np.indices((PATCH, PATCH))
    patterns = [4 * (n % 2) - 2 for n in (down + across, down, across)]
    pixels = rng.normal(0, 1, (count, 3, SIZE, SIZE)).astype(np.float32)
    labels, at = rng.integers(0, 3, count), rng.integers(0, SIZE - PATCH + 1, (count, 2))
    for one, label, (top, left) in zip(pixels, labels, at, strict=True):
        one[:, top : top + PATCH, left : left + PATCH] = patterns[label]
    return torch.from_numpy(pixels), torch.from_numpy(labels), at


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A network of ours that has learned to tell the patches apart."""
    torch.manual_seed(0)
    model, (pixels, labels, _) = build(PLANTED), planted(700, 0)
    optim = torch.optim.AdamW(model.train().parameters(), 4e-3)
    for epoch in range(3):
        for rows in torch.randperm(len(pixels), generator=torch.Generator().manual_seed(epoch)).split(35):
            optim.zero_grad()
            nn.functional.cross_entropy(model(pixels[rows]), labels[rows]).backward()
            optim.step()
    return model.eval()


def heat_of(model: nn.Module, pixels: Tensor, number: int, method: str, place: Place | None) -> np.ndarray:
    if method == "occlusion" or place is None:
        return occlusion(model, pixels, number)
    return cam(model, pixels, number, place, method)


def said(model: nn.Module, pixels: Tensor) -> int:
    with torch.no_grad():
        return int(model(pixels).argmax())


# --- what was planted -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_the_hottest_field_hits_the_planted_patch(network: nn.Module, method: str) -> None:
    pixels, labels, at = planted(100, 1)
    right, hits, where = 0, 0, fields_of(SIZE)
    for n, (top, left) in enumerate(at):
        one, number = pixels[n : n + 1], said(network, pixels[n : n + 1])
        right += number == labels[n]
        fields = in_fields(heat_of(network, one, number, method, place_of(places_of(network, one, number))))
        row, column = np.unravel_index(fields.argmax(), fields.shape)
        down, across = np.flatnonzero(where == row), np.flatnonzero(where == column)
        hits += down[-1] >= top and down[0] < top + PATCH and across[-1] >= left and across[0] < left + PATCH
    assert right >= 98
    assert hits >= 95


@pytest.mark.parametrize("method", METHODS)
def test_a_map_of_a_trained_network_means_something_and_of_a_random_one_nothing(
    network: nn.Module, method: str
) -> None:
    pixels, _, _ = planted(4, 2)
    for seed in (None, 5):
        model = network if seed is None else build(PLANTED, seed=seed).eval()
        others = list(randomised(model, "head", lambda seed: build(PLANTED, seed=seed).eval()))
        for one in pixels[:, None]:
            number = said(model, one)
            place = place_of(places_of(model, one, number))
            fields = in_fields(heat_of(model, one, number, method, place))
            random = {kind: [in_fields(heat_of(o, one, number, method, place)) for k, o in others if k == kind]
                      for kind in (HEAD, ALL)}  # fmt: skip
            known = trust(model, one, number, fields, random=random)
            assert bool(known.why_nothing) == (seed is not None), known.verdict("it")
            assert set(known.like_random) == {HEAD, ALL}


def test_what_is_known_of_a_map_is_what_a_naive_loop_finds(network: nn.Module) -> None:
    (pixels, _, _), number = planted(1, 3), 1
    fields = in_fields(occlusion(network, pixels, number))
    known = trust(network, pixels, number, fields, random={}, temperature=2.0)

    def chance(gone: np.ndarray) -> float:
        with torch.no_grad():
            return (network(without(pixels, gone[None])) / 2).softmax(1)[0, number].item()

    def score(ranks: np.ndarray) -> tuple[float, float]:
        order = [divmod(int(n), 10) for n in np.argsort(ranks.ravel())]
        deleted, inserted = [], []
        for share in (0, *SHARES, 1):
            for found, some in ((deleted, order[: round(100 * share)]), (inserted, order[round(100 * share) :])):
                gone = np.zeros((10, 10), bool)
                for place in some:
                    gone[place] = True
                found.append(chance(gone))
        return tuple(np.trapezoid(ys, (0, *SHARES, 1)) for ys in (deleted, inserted))  # type: ignore[return-value]

    deletion, insertion = score(ordered(fields))
    others = [score(one) for one in moved(ordered(fields))]
    better = [(insertion - deletion - (b - a)) / 2 for a, b in others]
    assert (known.deletion, known.insertion) == pytest.approx((deletion, insertion), abs=1e-5)
    assert known.area.value == pytest.approx(np.mean(better), abs=1e-5)
    without_it = [
        np.log(p / (1 - p)) for p in (chance(taken(one, 0.1)) for one in [ordered(fields), *moved(ordered(fields))])
    ]
    ahead = [odds - without_it[0] for odds in without_it[1:]]
    assert known.margin.value == pytest.approx(np.mean(ahead), abs=1e-4)
    assert (known.margin.low, known.margin.high) == pytest.approx(of_mean(np.array(ahead)), abs=1e-4)
    assert (known.beaten, known.margin.n, len(known.elsewhere)) == (sum(a > 0 for a in ahead), 19, 19)
    assert known.probability == pytest.approx(chance(np.zeros((10, 10), bool)), abs=1e-6)
    assert known.without_hottest == pytest.approx(chance(taken(ordered(fields), 0.1)), abs=1e-6)


def test_a_map_that_is_put_elsewhere_means_nothing(network: nn.Module) -> None:
    pixels, _, _ = planted(1, 4)
    number = said(network, pixels)
    fields = in_fields(occlusion(network, pixels, number))
    assert trust(network, pixels, number, fields, random={}).why_nothing == ""
    lost = trust(network, pixels, number, np.roll(fields, (5, 5), (0, 1)), random={})
    assert lost.why_nothing == f"{19 - lost.beaten} of 19 other places matter as much"
    assert lost.beaten < 19
    flat = trust(network, pixels, number, np.ones((10, 10)), random={})
    assert flat.why_nothing == "it is the same everywhere"
    same = trust(network, pixels, number, fields, random={ALL: [fields, fields]})
    assert same.why_nothing == "networks with random numbers in all layers give the same (correlation 1.00)"
    blind = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    nn.init.zeros_(blind[2].weight)  # type: ignore[arg-type]
    assert trust(blind, pixels, 0, fields, random={}).why_nothing != ""


def test_each_verdict_has_its_sentence() -> None:
    margin = Figure(name="margin", value=3.0, n=2, low=2.0, high=4.0, part="heat map")
    area = Figure(name="area", value=0.25, n=2, low=0.2, high=0.3, part="heat map")
    about = {
        "area": area,
        "probability": 0.93,
        "without_hottest": 0.12,
        "elsewhere": (0.8, 0.96),
        "deletion": 0.1,
        "insertion": 0.9,
    }
    good = Trust(**about, margin=margin, beaten=2, like_random={ALL: 0.1, HEAD: -0.2}, flat=False)
    assert good.verdict("ant") == (
        "The map is informative: without its hottest 10 % 'ant' goes from 93.0 % to 12.0 %, without as much elsewhere "
        "to 88.0 % (80.0 % to 96.0 % at 2 places)."
    )
    assert good.numbers == (
        "margin 3.00 [2.00, 4.00] in log-odds over 2 moved maps; deletion 0.10, insertion 0.90, better by 0.25 "
        "[0.20, 0.30]; rank correlation with 3 random networks each: 0.10 (all layers), -0.20 (the last layer)"
    )
    small = Figure(name="margin", value=0.9, n=2, low=0.0, high=1.8, part="heat map")
    poor = Trust(**about, margin=small, beaten=2, like_random={}, flat=False)
    assert poor.numbers.endswith("; not compared with random networks, for no layer with weights ends this one")
    assert poor.verdict("100% wool").startswith(
        "The map means nothing: little more depends on its hottest fields than on others; without its hottest 10 %"
    )
    assert "'100% wool' goes from 93.0 %" in poor.verdict("100% wool")


# --- by hand ----------------------------------------------------------------------------------------------------------


def pooled(channels: int = 5, classes: int = 4) -> nn.Sequential:
    """A convolution, a ReLU in place, the mean over all places, one linear layer."""
    torch.manual_seed(1)
    conv = nn.Conv2d(3, channels, 3, padding=1)
    return nn.Sequential(
        conv, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)
    )


def grown(values: np.ndarray, size: int) -> np.ndarray:
    """Bilinear, from the middle of a place to the middle of the next."""
    at = ((np.arange(size) + 0.5) * len(values) / size - 0.5).clip(0, len(values) - 1)
    low, part = np.floor(at).astype(int), at - np.floor(at)
    high = np.minimum(low + 1, len(values) - 1)
    rows = values[low] * (1 - part)[:, None] + values[high] * part[:, None]
    return rows[:, low] * (1 - part) + rows[:, high] * part


def test_with_a_mean_and_a_linear_layer_both_gradient_maps_are_cam() -> None:
    model, pixels = pooled(), torch.randn(1, 3, 8, 8)
    place = place_of(places_of(model, pixels, 2))
    assert place is not None
    assert place == Place("1", "ReLU", "maps", 8)
    with torch.no_grad():
        maps, weights = model[1](model[0](pixels))[0].double(), model[4].weight[2].double()  # type: ignore[index]
    by_hand = sum(w * one for w, one in zip(weights, maps, strict=True)).numpy()  # type: ignore[union-attr]
    for method in ("gradcam", "hirescam"):
        assert cam(model, pixels, 2, place, method) * 64 == pytest.approx(by_hand, abs=1e-5)


def test_grad_cam_and_hirescam_equal_a_naive_implementation() -> None:
    torch.manual_seed(2)
    body = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Tanh())
    head = nn.Sequential(nn.Flatten(), nn.Linear(4 * 64, 6), nn.ReLU(), nn.Linear(6, 3))
    pixels = torch.randn(1, 3, 16, 16)
    maps = body(pixels).detach().requires_grad_()
    (slopes,) = torch.autograd.grad(head(maps)[0, 1], maps)
    a, g = maps.detach()[0].double().numpy(), slopes[0].double().numpy()
    mean, here = np.zeros((8, 8)), np.zeros((8, 8))
    for c, y, x in product(range(4), range(8), range(8)):
        mean[y, x] += g[c].mean() * a[c, y, x]
        here[y, x] += g[c, y, x] * a[c, y, x]
    model = nn.Sequential(body, head)
    place = place_of(places_of(model, pixels, 1))
    assert place is not None
    assert cam(model, pixels, 1, place, "gradcam") == pytest.approx(grown(mean, 16), abs=1e-6)
    assert cam(model, pixels, 1, place, "hirescam") == pytest.approx(grown(here, 16), abs=1e-6)


def test_occlusion_equals_a_naive_loop(network: nn.Module) -> None:
    pixels, _, _ = planted(1, 6)
    falls, times = np.zeros((10, 10)), np.zeros((10, 10))

    def odds(gone: np.ndarray) -> float:
        with torch.no_grad():
            p = network(without(pixels, gone[None])).double().softmax(1)[0, 2].item()
        return np.log(p / (1 - p))

    whole = odds(np.zeros((10, 10), bool))
    for y, x in product(range(9), range(9)):
        gone = np.zeros((10, 10), bool)
        gone[y : y + 2, x : x + 2] = True
        falls[gone] += whole - odds(gone)
        times[gone] += 1
    assert occlusion(network, pixels, 2) == pytest.approx(grown(falls / times, SIZE), abs=2e-3)
    assert covering(1).tolist() == [[[True]]]


def test_log_odds_are_those_of_the_softmax() -> None:
    logits = np.random.default_rng(0).normal(0, 5, (7, 4))
    p = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True))[:, 2]
    assert log_odds(logits)[:, 2] == pytest.approx(np.log(p / (1 - p)))
    assert np.isfinite(log_odds(np.array([[900.0, -900.0]]))).all()


# --- every kind of network --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size", "path", "order", "side"),
    [
        ("resnet18", 64, "layer2", "maps", 8),
        ("mobilenet_v2", 64, "features.6", "maps", 8),
        ("densenet121", 64, "features.denseblock2", "maps", 8),
        ("squeezenet1_1", 64, "features.7", "maps", 7),
        ("swin_t", 64, "features.3", "last", 8),
        ("vit_b_16", 224, "encoder.layers.encoder_layer_11.ln_1", "tokens", 14),
    ],
)
def test_every_family_has_a_layer_with_places(name: str, size: int, path: str, order: str, side: int) -> None:
    model = build(Architecture(name=name, num_classes=2, channels=3, size=size)).eval()
    for weight in (one for one in model.parameters() if not one.any()):
        nn.init.normal_(weight, std=0.1)  # the head of a ViT begins with zeros
    pixels = torch.randn(1, 3, size, size)
    place = place_of(places_of(model, pixels, 1))
    assert place is not None
    assert (place.path, place.order, place.side) == (path, order, side)
    heat = cam(model, pixels, 1, place, "hirescam")
    assert heat.shape == (size, size)
    assert np.isfinite(heat).all()
    assert np.ptp(heat) > 0


@pytest.mark.parametrize("name", ["linear", "mlp:16"])
def test_a_network_without_places_has_none_and_occlusion_works(name: str) -> None:
    model, pixels = build(Architecture(name=name, num_classes=3, channels=1, size=12)).eval(), torch.randn(1, 1, 12, 12)
    assert place_of(places_of(model, pixels, 0)) is None
    assert occlusion(model, pixels, 0).shape == (12, 12)


def test_the_last_layer_is_taken_or_an_outermost_one_with_places_enough() -> None:
    def at(*layers: tuple[str, int]) -> str:
        place = place_of([Place(path, "Conv2d", "maps", side) for path, side in layers])
        return "" if place is None else place.path

    assert at() == ""
    assert at(("a", 9), ("a.b.c", 5)) == "a.b.c"
    assert at(("a", 9), ("b", 6), ("c.branch", 6), ("d", 2)) == "b"
    assert at(("a.0", 6), ("b.0.0", 6), ("b.0", 6), ("b.1", 4)) == "b.0"
    assert at(("a", 4), ("b", 2)) == "a"


def test_a_layer_that_no_one_listens_to_and_shares_are_passed_over() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.body, self.aside = nn.Linear(4, 2), nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
            self.drop = nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            maps = self.drop(self.body(x))
            self.aside(x)
            return self.head(maps.mean((2, 3)))

    place = place_of(places_of(model := Odd().train(), torch.randn(1, 3, 8, 8), 0))
    assert place is not None
    assert (place.path, model.training, model.drop.training) == ("body", True, True)
    assert last_layer(model, torch.randn(1, 3, 8, 8)) == "head"
    twice = nn.Sequential(layer := nn.Linear(4, 4), nn.ReLU(), layer)
    assert last_layer(twice, torch.randn(1, 4)) == last_layer(nn.ReLU(), torch.randn(1, 4)) == ""


def test_looking_changes_nothing(network: nn.Module) -> None:
    (pixels, _, _), before = planted(1, 7), fingerprint(network)
    copy = pixels.clone()
    place = place_of(places_of(network, pixels, 0))
    assert place is not None
    fields = in_fields(cam(network, pixels, 0, place, "gradcam"))
    trust(network, pixels, 0, fields, random={})
    occlusion(network, pixels, 0)
    assert fingerprint(network) == before
    assert torch.equal(pixels, copy)
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in network.modules())
    with pytest.raises(RuntimeError):
        place_of(places_of(network, pixels[:, :2], 0))
    assert not any(one._forward_hooks for one in network.modules())


# --- what is taken away -----------------------------------------------------------------------------------------------


def test_fields_that_are_gone_take_the_colours_around_them() -> None:
    pixels = torch.randn(1, 3, 23, 23)
    gone = np.zeros((3, 10, 10), bool)
    gone[1], gone[2, 4:6, 3:7] = True, True
    found, at = without(pixels, gone), fields_of(23)
    assert torch.equal(found[0], pixels[0])
    assert (found[1] - pixels.mean((2, 3))[0][:, None, None]).abs().max() < 0.05  # the mean of unequal fields
    here = gone[2][np.ix_(at, at)]
    assert torch.equal(found[2][:, ~here], pixels[0][:, ~here])
    plain = torch.full((1, 3, 20, 20), 0.3)
    assert torch.allclose(without(plain, gone), plain.expand(3, -1, -1, -1), atol=1e-6)


def test_a_field_that_is_gone_is_the_mean_of_its_neighbours_and_a_slope_goes_on() -> None:
    pixels = torch.zeros(1, 1, 10, 10)
    pixels[0, 0, 4, 4] = 9.0
    pixels[0, 0, 5, 5] = 1.6
    gone = np.zeros((1, 10, 10), bool)
    gone[0, 4, 4] = True
    assert without(pixels, gone)[0, 0, 4, 4].item() == pytest.approx(1.6 / 8)
    slope = torch.arange(40.0)[None, None, None, :].expand(1, 1, 40, 40)
    gone[0, 3:6, 3:6] = True
    assert (without(slope, gone) - slope).abs().max() < 3
    assert (without(slope, gone) - slope).abs().mean() < 0.1


def test_the_means_of_fields_are_naive_means() -> None:
    heat, at = np.random.default_rng(0).normal(size=(23, 23)), fields_of(23)
    by_hand = [[heat[np.ix_(at == y, at == x)].mean() for x in range(10)] for y in range(10)]
    assert in_fields(heat) == pytest.approx(np.array(by_hand))
    assert fields_of(4).tolist() == [0, 1, 2, 3]


def test_hottest_fields_and_maps_that_are_moved() -> None:
    fields = np.zeros((10, 10))
    fields[2, 3], fields[7, 7] = 5.0, 4.0
    ranks = ordered(fields)
    assert sorted(ranks.ravel()) == list(range(100))
    assert (ranks[2, 3], ranks[7, 7]) == (0, 1)
    assert ranks[0].tolist() != sorted(ranks[0])  # what is equal is in no order of place
    assert [int(taken(ranks, share).sum()) for share in (0, 0.001, 0.1, 1)] == [0, 1, 10, 100]
    places = [np.unravel_index(one.argmin(), one.shape) for one in moved(ranks)]
    assert len(set(places)) == 19
    for y, x in places:
        down, across = (min((a - b) % 10, (b - a) % 10) for a, b in ((y, 2), (x, 3)))
        assert max(down, across) >= 2.5
    assert len(moved(np.arange(4).reshape(2, 2))) == len(moved(np.zeros((1, 1), np.int64))) == 19


def test_areas_are_by_trapezoids() -> None:
    between = np.random.default_rng(0).random((3, 5))
    for n, area in enumerate(areas(0.9, between, 0.2)):
        ys = [0.9, *between[:, n], 0.2]
        assert area == pytest.approx(np.trapezoid(ys, (0, *SHARES, 1)))


def test_rank_correlation_equals_a_naive_one_with_ties() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 4, (3, 4)).astype(float), rng.integers(0, 4, (3, 4)).astype(float)

        def ranks(values: np.ndarray) -> list[float]:
            flat = values.ravel().tolist()
            return [sum(o < v for o in flat) + (flat.count(v) + 1) / 2 for v in flat]

        assert spearman(a, b) == pytest.approx(np.corrcoef(ranks(a), ranks(b))[0, 1])
    rising = np.arange(6.0)
    assert spearman(rising, -rising) == pytest.approx(-1)
    assert spearman(rising, np.ones(6)) == 0


def test_random_networks_know_nothing_and_the_own_one_stays() -> None:
    model = build(PLANTED, seed=3)
    mark, found = fingerprint(model), list(randomised(model, "head", lambda seed: build(PLANTED, seed=seed)))
    assert [kind for kind, _ in found] == [HEAD, ALL] * 3
    own = model.get_parameter("head.weight")
    for kind, other in found:
        weight = other.get_parameter("head.weight")
        assert torch.equal(weight.flatten().sort()[0], own.flatten().sort()[0])
        assert not torch.equal(weight, own)
        same = torch.equal(other.get_parameter("stages.0.conv1.weight"), model.get_parameter("stages.0.conv1.weight"))
        assert same == (kind == HEAD)
    assert len({fingerprint(other) for _, other in found}) == 6
    assert fingerprint(model) == mark


# --- back to the picture, and what is near ----------------------------------------------------------------------------


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize(("height", "width"), [(90, 150), (151, 80), (64, 64)])
@pytest.mark.parametrize("short", [0, 40])
def test_a_place_on_the_square_is_that_place_of_the_picture(fit: str, height: int, width: int, short: int) -> None:
    to = Preprocess(size=32, channels=1, fit=fit, short=short)
    top, left, tall, wide = covered(width, height, to)
    y, x = height // 2 + 9, width // 2 - 11
    picture = np.zeros((height, width, 1), np.uint8)
    picture[y - 3 : y + 4, x - 3 : x + 4] = 255
    square = fitted(picture, to)[:, :, 0].astype(float)
    down, across = (np.average(np.arange(32) + 0.5, weights=square.sum(axis)) for axis in (1, 0))
    assert top + down * tall / 32 == pytest.approx(y + 0.5, abs=0.6)
    assert left + across * wide / 32 == pytest.approx(x + 0.5, abs=0.6)


def test_the_nearest_have_the_largest_cosine() -> None:
    rng = np.random.default_rng(0)
    among, query, rows = (
        rng.normal(size=(30, 5)).astype(np.float32),
        rng.normal(size=5).astype(np.float32),
        np.arange(30),
    )
    naive = sorted((1 - float(a @ query) / (np.sqrt(a @ a) * np.sqrt(query @ query)), n) for n, a in enumerate(among))
    found = nearest(query, among, rows * 7, 4)
    assert [one.row for one in found] == [7 * n for _, n in naive[:4]]
    assert [one.distance for one in found] == pytest.approx([d for d, _ in naive[:4]], abs=1e-5)
    assert nearest(among[3] * 2, among, rows, 1)[0].row == 3
    assert nearest(query, among * 0, rows, 1)[0].distance == 1
