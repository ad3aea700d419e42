"""machine.compile: code that torch.compile makes, where it pays. In processes of their own: a compiler stays loaded."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from commands import process, train

from tellapart.models.bundle import load_bundle

FEW = ("digits", "--limit", "200", "--model", "linear", "--epochs", "2", "--no-test")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ for a CPU")


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One folder for what was compiled; what makes code fast that runs for moments is left out of its making."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("compiled")))
        patch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
        patch.setenv("TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS", "0")
        patch.setenv("TORCHINDUCTOR_VEC_ISA_OK", "0")
        yield


def apart(at: Path, *words: str, first: str = "pass", **also: str) -> subprocess.CompletedProcess[str]:
    _, environment = process()
    code = f"import sys; {first}; from tellapart.cli import main; main(sys.argv[1:])"
    own = {**environment, "TELLAPART_CACHE": str(at / "cache"), **also}
    run = [sys.executable, "-c", code, *words]
    return subprocess.run(run, cwd=at, env=own, capture_output=True, text=True, timeout=240, check=False)


def test_a_short_training_is_not_compiled_and_says_why(tmp_path: Path) -> None:
    done = train(tmp_path, "a", *FEW, "--set", "machine.compile=auto")
    why = re.search(r"not compiled: (the training takes about \d+ s without it, too little to gain anything)", done.err)
    assert why
    recipe = (tmp_path / "runs/a/recipe.toml").read_text()
    assert f"compile = false  # auto: {why[1]}" in recipe


def test_without_a_compiler_it_is_refused_in_a_sentence(tmp_path: Path) -> None:
    done = apart(tmp_path, "train", *FEW, "--set", "machine.compile=true", CXX="/no/such/compiler")
    assert done.returncode == 2
    assert "error: The network cannot be compiled here: " in done.stderr
    assert "Traceback" not in done.stderr


@needs_compiler
def test_it_is_measured_and_a_resumed_run_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    measured = "from tellapart.workflow import compiling; compiling.LEAST = 0.0"
    done = apart(tmp_path, "train", *FEW, "--set", "machine.compile=auto", "--run", "a", first=measured)
    assert done.returncode == 0, done.stderr
    assert re.search(r"compiled: a step takes .* compiled and .* plain; compiling took \d+ s", done.stderr)
    assert tomllib.loads((tmp_path / "runs/a/recipe.toml").read_text())["machine"]["compile"] in (True, False)
    same = apart(tmp_path, "prove-resume", *FEW[:-1], "--set", "machine.compile=true")
    assert same.returncode == 0, same.stderr
    assert len(re.findall(r"  equal ", same.stdout)) == 5


@needs_compiler
def test_two_processes_that_compile_train_the_weights_of_two_that_do_not(tmp_path: Path) -> None:
    """Equal up to rounding, which training makes larger."""
    few = (*FEW, "--processes", "2", "--set", "train.drop_last=true")
    kept = {}
    for compiled in ("true", "false"):
        done = apart(tmp_path, "train", *few, "--set", f"machine.compile={compiled}", "--run", compiled)
        assert done.returncode == 0, done.stderr
        recipe = tomllib.loads((tmp_path / "runs" / compiled / "recipe.toml").read_text())["machine"]
        assert (recipe["compile"], recipe["processes"]) == (compiled == "true", 2)
        kept[compiled] = load_bundle(tmp_path / "runs" / compiled / "model.safetensors").state
    for name, weights in kept["false"].items():
        assert torch.allclose(kept["true"][name], weights, rtol=1e-3, atol=1e-4), name


@needs_compiler
def test_compiled_weights_are_those_of_the_plain_network_up_to_rounding() -> None:
    code = """
import torch
from torch import nn
from tellapart.training.compiled import Compiled
torch.manual_seed(0)
net, pixels = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(12, 1, 4, 4)
fast, found = Compiled(net, 12), {}
for name, way in (("plain", net), ("fast", fast)):
    net.zero_grad()
    way(pixels).square().sum().backward()
    found[name] = [p.grad.clone() for p in net.parameters()]
for a, b in zip(found["plain"], found["fast"]):
    torch.testing.assert_close(a, b)
assert torch.equal(fast(pixels[:5]), net(pixels[:5]))
assert type(fast(pixels).grad_fn).__name__ == "CompiledFunctionBackward", "it was not compiled"
assert type(fast(pixels[:5]).grad_fn).__name__ != "CompiledFunctionBackward"
"""
    _, environment = process()
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=240)
