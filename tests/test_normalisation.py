"""docs/normalisation.md: batch normalisation in both modes, its running statistics, and what it is not."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from commands import tellapart, train
from safetensors.torch import load_file
from torch import Tensor, nn

from tellapart.models.build import Architecture, build
from tellapart.models.layers import build_layers
from tellapart.models.start import into_training


def of_small(*, size: int = 8) -> nn.Module:
    return build(Architecture(name="small", num_classes=10, channels=3, size=size), seed=1)


def norms_of(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def outputs_of_norms(model: nn.Module, images: Tensor) -> list[Tensor]:
    """What each batch normalisation of the network gives for these pictures."""
    found: list[Tensor] = []
    hooks = [norm.register_forward_hook(lambda _m, _in, out: found.append(out.detach())) for norm in norms_of(model)]
    model(images)
    for hook in hooks:
        hook.remove()
    return found


def test_in_training_each_channel_has_mean_0_and_variance_1() -> None:
    model, images = of_small(), 5 + 3 * torch.randn(64, 3, 8, 8)
    found = outputs_of_norms(model.train(), images)
    assert len(found) == 4
    for maps in found:
        channels = maps.transpose(0, 1).flatten(1).double()  # C, then all values of it
        assert channels.mean(1).abs().max() < 1e-5
        assert (channels.var(1, correction=0) - 1).abs().max() < 1e-2  # eps is in the divisor
    off = outputs_of_norms(model.eval(), images)  # the clean twin: by other statistics it is not so
    assert off[0].mean((0, 2, 3)).abs().max() > 0.1


def test_in_use_a_picture_does_not_feel_its_batch_mates_and_in_training_it_does() -> None:
    model, images = of_small(), torch.randn(32, 3, 8, 8)
    model.train()(images)
    with torch.no_grad():
        for mates in (images[:8], torch.cat([images[:1], 100 * torch.randn(7, 3, 8, 8)])):
            assert torch.allclose(model.eval()(mates)[:1], model(images[:1]), atol=1e-5)
        company = [torch.cat([images[:1], images[first : first + 7]]) for first in (1, 8)]
        one, other = (model.train()(mates)[0] for mates in company)
    assert (one - other).abs().max() > 1e-2


def test_the_formula_and_the_running_statistics_are_those_of_the_page() -> None:
    chance, norm = np.random.default_rng(0), nn.BatchNorm2d(2)
    assert (norm.eps, norm.momentum, norm.affine, norm.track_running_stats) == (1e-5, 0.1, True, True)
    means, variances = [0.0, 0.0], [1.0, 1.0]
    for _ in range(3):
        batch = chance.normal(4, 2, (5, 2, 3, 3)).astype(np.float32)
        made = norm(torch.from_numpy(batch)).detach().numpy()
        for channel in range(2):
            values = [float(x) for x in batch[:, channel].ravel()]
            mean = sum(values) / len(values)
            squares = sum((x - mean) ** 2 for x in values)
            expected = [(x - mean) / (squares / len(values) + 1e-5) ** 0.5 for x in values]
            assert np.allclose(made[:, channel].ravel(), expected, atol=1e-5)
            means[channel] = 0.9 * means[channel] + 0.1 * mean
            variances[channel] = 0.9 * variances[channel] + 0.1 * squares / (len(values) - 1)
    state = norm.state_dict()
    assert np.allclose(state["running_mean"].numpy(), means, atol=1e-6)
    assert np.allclose(state["running_var"].numpy(), variances, atol=1e-5)
    assert state["num_batches_tracked"] == 3
    level = norm.train()(torch.full((4, 2, 3, 3), 7.0))  # eps: a channel that is the same everywhere
    assert torch.isfinite(level).all()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        norm(torch.zeros(1, 2, 1, 1))


def test_without_tracking_there_are_no_statistics_and_no_network_of_ours_is_without() -> None:
    norm = nn.BatchNorm2d(6, track_running_stats=False)
    assert (norm.running_mean, norm.running_var, set(norm.state_dict())) == (None, None, {"weight", "bias"})
    lines = ("conv 4 3", "batchnorm", "gap", "linear classes")
    named = {"small": (), "layers": lines, "resnet18": (), "mobilenet_v2": ()}
    with torch.device("meta"):
        for name, text in named.items():
            model = build(Architecture(name=name, num_classes=2, channels=3, size=32, layers=text))
            assert norms_of(model), name
            assert all(norm.track_running_stats for norm in norms_of(model)), name


def test_statistics_are_stored_and_stay_or_move_as_asked(tmp_path) -> None:
    """In the checkpoint and the model; with keep_norms they are those of before, to the last bit, and weights learn."""
    train(tmp_path, "first", "digits", "--limit", "400", "--epochs", "1", "--no-test")
    words = ("--lr", "0.01", "--epochs", "1", "--no-test")
    for name, keep in (("kept", "true"), ("moving", "false")):
        done = tellapart(tmp_path, "branch", "first", "--set", f"model.keep_norms={keep}", *words, "--run", name)
        assert done.code == 0, done.err
    first, kept, moving = (
        load_file(tmp_path / "runs" / name / "model.safetensors") for name in ("first", "kept", "moving")
    )
    running = [name for name in first if name.endswith(("running_mean", "running_var"))]
    assert len(running) == 8
    assert all(torch.equal(first[name], kept[name]) and not torch.equal(first[name], moving[name]) for name in running)
    assert all(not torch.equal(first[name], kept[name]) for name in first if name.endswith("norm1.weight"))
    checkpoints = [load_file(path) for path in (tmp_path / "runs/moving/checkpoints").glob("*/*.safetensors")]
    assert any(name.endswith(running[0]) for tensors in checkpoints for name in tensors)


def test_fresh_networks_do_not_keep_them_and_those_asked_to_do(tmp_path) -> None:
    told = train(tmp_path, "fresh", "digits", "--limit", "100", "--epochs", "1", "--no-test").run("fresh")
    assert "keep_norms = false  # auto: they are not pretrained" in (told.folder / "recipe.toml").read_text()
    model = of_small()
    for keep in (True, False):
        into_training(model, keep_norms=keep)
        assert {norm.training for norm in norms_of(model)} == {not keep}
        assert model.training


def test_its_noise_is_a_side_effect_that_falls_with_the_batch_and_is_gone_in_use() -> None:
    """Q30: it is no regularisation; what regularises a little is the chance of the batch mates."""
    generator, norm = torch.Generator().manual_seed(0), nn.BatchNorm2d(1, momentum=None)
    pictures = torch.randn(256, 1, 4, 4, generator=generator)

    def spread(batch: int) -> float:
        """How far the answers to picture 0 are apart, with other mates each time."""
        picks = (torch.randperm(255, generator=generator)[: batch - 1] + 1 for _ in range(200))
        answers = [norm(torch.cat([pictures[:1], pictures[pick]]))[0].detach() for pick in picks]
        return torch.stack(answers).std(0).mean().item()

    found = [spread(batch) for batch in (2, 8, 32, 128)]
    assert all(more > 1.5 * less for more, less in pairwise(found))
    norm.eval()
    assert spread(8) < 1e-6


def test_weights_in_front_of_a_norm_have_no_scale_and_need_no_bias() -> None:
    images, conv, norm = torch.randn(16, 3, 8, 8), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
    before = norm(conv(images)).detach()
    with torch.no_grad():
        conv.bias += torch.tensor([1.0, -2, 3, 10])  # pyright: ignore[reportOperatorIssue]
        assert torch.allclose(norm(conv(images)), before, atol=1e-4)
        conv.bias.zero_()  # pyright: ignore[reportOptionalMemberAccess]
        conv.weight *= 2
        assert torch.allclose(norm(conv(images)), before, atol=1e-3)
        assert not torch.allclose(norm.eval()(conv(images)), before, atol=1e-1)  # fixed statistics do not follow


def test_layer_normalisation_knows_no_batch_and_stores_nothing() -> None:
    layer = build_layers(("layernorm", "gap", "linear classes"), 6, 2, 8)[0]
    images = 4 + 2 * torch.randn(5, 6, 8, 8)
    assert torch.equal(layer.train()(images), layer.eval()(images))
    assert torch.allclose(layer(images)[:1], layer(images[:1]), atol=1e-6)
    each = layer(images).flatten(1)
    assert each.mean(1).abs().max() < 1e-5
    assert torch.allclose(each.var(1, correction=0), torch.ones(5), atol=1e-4)
    assert set(layer.state_dict()) == {"weight", "bias"}
