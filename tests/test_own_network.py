"""Networks from elsewhere: a class in a person's own file, which runs only when its file is named, and timm's."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Done, tellapart
from pictures import make_folder
from safetensors.torch import load_file
from torch import nn

import tellapart as api
from tellapart.errors import StorageError, UsageError
from tellapart.models.allowed import ALLOWED, allow_code, source
from tellapart.models.build import Architecture, build
from tellapart.models.bundle import load_bundle
from tellapart.models.header import read_header
from tellapart.recipe import Recipe
from tellapart.workflow.settle import Settled, with_digest

EIGHT_LINES = """\
from torch import nn
class MyNet(nn.Module):
    def __init__(self, channels, num_classes, size):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, num_classes))
    def forward(self, x):
        return self.layers(x)
# the eighth
"""
MISFIT = """\
from torch import nn
class Lin(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 16, 3), nn.Linear(10240, num_classes)
    def forward(self, x):
        return self.fc(self.conv(x).flatten(1))
class Chan(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Conv2d(32, 8, 3), nn.Flatten(), nn.Linear(8, num_classes))
"""
MARKED = """\
from pathlib import Path
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self, num_classes, channels=3):
        super().__init__()
        Path("ran").touch()
        self.body = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.scale = torch.tensor(2.0)
        self.register_buffer("shift", torch.tensor(0.5), persistent=False)
        self.fc = nn.Linear(4, num_classes)
    def forward(self, x):
        return self.fc((self.body(x) * self.scale + self.shift).mean((2, 3)))
"""
ODD = """\
import torch
from torch import nn
class Fixed(nn.Module):
    outputs = 10
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, self.outputs)
    def forward(self, x):
        return self.fc(x.flatten(1))
class Five(Fixed):
    outputs = 5
class Needs(Fixed):
    def __init__(self, hidden):
        super().__init__()
class NoSuper(nn.Module):
    def __init__(self):
        self.fc = nn.Linear(3, 4)
class Exits(nn.Module):
    def __init__(self): raise SystemExit
class Colour(Fixed):
    def forward(self, x):
        return self.fc(nn.functional.conv2d(x, torch.zeros(1, 3, 1, 1)))
class Pair(Fixed):
    def forward(self, x):
        return (self.fc(x.flatten(1)), x) if self.training else self.fc(x.flatten(1))
class AddsOne(nn.Module):
    def forward(self, x): return x + 1
class NoLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(64, 10))
    def forward(self, x): return x.flatten(1) @ self.weight
class Tied(Fixed):
    def __init__(self):
        super().__init__()
        self.again = self.fc
class Double(Fixed):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3, dtype=torch.float64))
class Extra(Fixed):
    def get_extra_state(self): return "words"
    def set_extra_state(self, state): pass
class Lazy(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.net = nn.Sequential(nn.LazyConv2d(8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(num_classes))
    def forward(self, x): return self.net(x)
class Plain: pass
def make(): pass
"""
COLOUR = """\
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 10)
    def forward(self, x):
        return self.fc(nn.functional.conv2d(x, torch.ones(8, 3, 3, 3)).relu().mean((2, 3)))
"""
ODD_CASES = [
    ("qqqqqq.py:Net", "There is no Python file qqqqqq.py.", "FILE.py:CLASS"),
    ("od.py:Net", "There is no Python file od.py.", "Did you mean odd.py?"),
    ("odd.py", "odd.py is a file, and the network is a class in it.", "odd.py:Fixed"),
    ("odd.py:Fixd", "odd.py has no class Fixd.", "Did you mean 'Fixed'?"),
    ("odd.py:Fi\nx\x1b[", "odd.py has no class Fi x [.", "Choose one of: AddsOne"),
    ("none.py:Net", "none.py has no class Net.", "It has no class that is a torch.nn.Module."),
    ("odd.py:Plain", "Plain in odd.py is another class; expected a torch.nn.Module.", "class Plain(nn.Module)"),
    ("odd.py:make", "make in odd.py is of the type function; expected", "class make(nn.Module)"),
    ("wrong.py:Net", "wrong.py is not Python: line 2: expected ':'.", "says more"),
    ("null.py:Net", "null.py is not Python: ", "says more"),
    ("import.py:Net", "cannot be run: ModuleNotFoundError, line 3: No module named 'nothing_there'.", "one file"),
    ("odd.py:Needs", "Needs() cannot be made: TypeError: ", "channels, num_classes and size"),
    ("odd.py:NoSuper", "NoSuper() cannot be made: AttributeError, line 17: ", "channels, num_classes and size"),
    ("odd.py:Exits", "Exits() cannot be made: SystemExit, line 19: it says no more.", "num_classes"),
    ("odd.py:Colour", "odd.py:Colour cannot take 2 x 1 x 8 x 8: RuntimeError, line 22: ", "--set input.channels=3"),
    ("odd.py:Five", "odd.py:Five gives (2, 5) for two pictures; expected the shape (2, 10).", "num_classes"),
    ("odd.py:Pair", "odd.py:Pair gives a tuple for two pictures in training; expected", "a number for each class"),
    ("odd.py:AddsOne", "gives (2, 1, 8, 8) for two pictures; expected the shape (2, 10).", "num_classes"),
    ("odd.py:NoLayer", "odd.py:NoLayer has no nn.Linear and no nn.Conv2d.", "the head"),
    ("odd.py:Tied", "cannot be saved: fc.weight and again.weight are one tensor.", "use it twice in forward"),
    ("odd.py:Double", "cannot be saved: mean is torch.float64, where float32 and int64 are kept.", ""),
    ("odd.py:Extra", "cannot be saved: _extra_state is a str, not a tensor.", ""),
]


@pytest.fixture(autouse=True)
def nothing_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOWED, "")
    monkeypatch.chdir(tmp_path)


def call(at: Path, *words: str) -> Done:
    """A command as in a process of its own: what was allowed before is not."""
    os.environ[ALLOWED] = ""
    (at / "ran").unlink(missing_ok=True)
    return tellapart(at, *words)


def ok(at: Path, *words: str) -> str:
    done = call(at, *words)
    assert done.code == 0, done.err
    return done.out


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, net.py, and the runs `mine` of two epochs and `sealed`."""
    at = tmp_path_factory.mktemp("own")
    make_folder(at / "pets")
    (at / "net.py").write_text(MARKED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ALLOWED, "")
        for name, epochs in (("mine", "2"), ("sealed", "1")):
            words = ("pets", "--model", "net.py:Net", "--epochs", epochs, "--run", name)
            ok(at, "train", *words, *(["--no-test"] if name == "sealed" else []))
    return at


def test_a_module_of_eight_lines_is_trained(tmp_path: Path) -> None:
    (tmp_path / "my_net.py").write_text(EIGHT_LINES)
    ok(tmp_path, "train", "digits", "--model", "my_net.py:MyNet", "--set", "train.max_steps=1", "--run", "one")
    run = tmp_path / "runs" / "one"
    assert json.loads((run / "status.json").read_text())["step"] == 1
    digest = hashlib.sha256(EIGHT_LINES.encode()).hexdigest()
    assert (run / "network.py").read_text() == EIGHT_LINES
    assert read_header(run / "model.safetensors")["architecture"] == {
        "name": "my_net.py:MyNet", "num_classes": 10, "channels": 1, "size": 8, "args": {}, "sha256": digest,
    }  # fmt: skip
    assert b"import nn" not in (run / "model.safetensors").read_bytes()
    assert f'sha256 = "{digest}"' in (run / "recipe.toml").read_text()


@pytest.mark.parametrize(
    "words",
    [
        "predict mine pets/cat/00.png",
        "test sealed",
        "model show mine",
        "model weights mine",
        "model show runs/mine/recipe.toml",
        "model check runs/mine/recipe.toml",
        "extend mine --epochs 3",
        "branch mine --epochs 1",
        "reproduce mine",
        "train --recipe runs/mine/recipe.toml --set train.max_steps=1",
    ],
)
def test_what_others_wrote_does_not_run_code_until_the_file_is_named(trained: Path, words: str) -> None:
    done = call(trained, *words.split())
    assert (done.code, (trained / "ran").exists()) == (2, False)
    assert "net.py:Net is a class in a Python file, and such a file runs only when you name it yourself" in done.err
    assert "If you trust it: tellapart --code net.py VERB …" in done.err
    code = "runs/mine/network.py" if words.startswith("predict") else "net.py"
    ok(trained, "--code", code, *words.split())
    assert (trained / "ran").exists()


@pytest.mark.parametrize("words", ["show net.py:Net", "check net.py:Net", "kernels net.py:Net --out kernels.png"])
def test_naming_the_class_is_enough_to_look_at_it(trained: Path, words: str) -> None:
    done = call(trained, "model", *words.split())
    assert (done.code, (trained / "ran").exists()) == (0, True), done.err


def test_a_file_that_changed_is_another_and_the_copy_of_the_run_is_not(trained: Path) -> None:
    for name in ("changed", "renamed"):
        (trained / f"{name}.py").write_text(MARKED + "# changed\n" * (name == "changed"))
    done = call(trained, "--code", "changed.py", "model", "show", "mine")
    assert (done.code, (trained / "ran").exists()) == (2, False)
    assert "changed.py is not the file that net.py:Net was trained with, or it changed since: its sha256 is" in done.err
    assert "A run keeps the file as it was: tellapart --code RUN/network.py VERB …" in done.err
    ok(trained, "--code", "renamed.py", "model", "show", "mine")
    ok(trained, "--code", "changed.py", "--code", "net.py", "model", "show", "mine")


def test_code_takes_a_file_that_is_there(tmp_path: Path) -> None:
    for word in ("no.py", "."):
        done = call(tmp_path, "--code", word, "runs")
        assert (done.code, f"There is no Python file {word}." in done.err) == (2, True)


def test_a_child_may_run_what_its_parent_may(trained: Path) -> None:
    work = [sys.executable, "-c", "from tellapart.models.allowed import source; print(source('net.py:Net').sha256)"]
    refused = subprocess.run(work, cwd=trained, capture_output=True, text=True)
    assert "runs only when you name it yourself" in refused.stderr
    allow_code(trained / "net.py")
    done = subprocess.run(work, cwd=trained, capture_output=True, text=True)
    assert done.stdout.strip() == hashlib.sha256(MARKED.encode()).hexdigest()


def test_to_edit_the_file_while_it_trains_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(EIGHT_LINES)
    allow_code(file)
    found = with_digest(Settled(Recipe.from_values({"model.name": f"{file}:MyNet"}), {})).recipe.model
    first = source(found.name, found.sha256)
    file.write_text("raise SystemExit\n")
    assert source(found.name, found.sha256) == first
    allow_code(file)
    with pytest.raises(UsageError, match="SystemExit, line 1"):
        build(Architecture(name=found.name, num_classes=2, channels=1, size=4))


def test_another_class_in_a_branch_is_another_file(trained: Path) -> None:
    (trained / "two.py").write_text(MARKED + "# two\n")
    words = ("branch", "mine", "--set", "model.name=two.py:Net", "--epochs", "1", "--run", "other")
    ok(trained, *words)
    assert (trained / "runs/other/network.py").read_text().endswith("# two\n")
    typed = ("--recipe", "runs/mine/recipe.toml", "--model", "two.py:Net", "--set", "train.max_steps=1")
    ok(trained, "train", *typed, "--run", "typed")
    assert (trained / "runs/typed/network.py").read_text().endswith("# two\n")
    ok(trained, "train", *typed[:2], "--model", "quick", "--set", "train.max_steps=1", "--run", "ours")
    assert 'sha256 = ""' in (trained / "runs/ours/recipe.toml").read_text()
    ok(trained, "model", "show", "ours")


@pytest.mark.parametrize("verb", ["check", "show"])
def test_the_hint_of_a_look_names_flags_that_it_has(tmp_path: Path, verb: str) -> None:
    (tmp_path / "net.py").write_text(COLOUR)
    refused = call(tmp_path, "model", verb, "net.py:Net", "--channels", "1")
    hint = refused.err.partition("hint: ")[2]
    assert (refused.code, "model check and model show have --size and --channels" in hint) == (2, True), refused.err
    assert call(tmp_path, "model", verb, "net.py:Net", "--channels", "3", "--size", "8").code == 0
    lines = call(tmp_path, "model", verb, "layers").err
    assert "or give model check and model show a recipe (.toml) with these two settings." in lines
    (tmp_path / "a.toml").write_text('[model]\nname = "layers"\nlayers = ["flatten", "linear classes"]\n')
    assert call(tmp_path, "model", verb, "a.toml").code == 0


@pytest.mark.parametrize(("name", "said", "hint"), ODD_CASES, ids=[name.encode().hex()[:40] for name, *_ in ODD_CASES])
def test_each_mistake_is_told_in_a_sentence(tmp_path: Path, name: str, said: str, hint: str) -> None:
    (tmp_path / "odd.py").write_text(ODD)
    (tmp_path / "none.py").write_text("from torch.nn import Linear\n")
    (tmp_path / "wrong.py").write_text("from torch import nn\nclass Net(nn.Module)\n    pass\n")
    (tmp_path / "null.py").write_bytes(b"x = 1\0\n")
    (tmp_path / "import.py").write_text("# one\n\nimport nothing_there\n")
    done = call(tmp_path, "train", "digits", "--model", name, "--set", "train.max_steps=1", "--no-test")
    assert done.code == 2
    assert said in done.err
    assert hint in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("name", ["Fixed", "Lazy"])
def test_the_clean_twins_train(tmp_path: Path, name: str) -> None:
    (tmp_path / "odd.py").write_text(ODD)
    ok(tmp_path, "train", "digits", "--model", f"odd.py:{name}", "--set", "train.max_steps=1", "--no-test")


def by_hand(num_classes: int, channels: int, seed: int) -> nn.Module:
    space: dict[str, Any] = {}
    exec(MARKED, space)  # the test's own text
    torch.manual_seed(seed)
    return space["Net"](num_classes=num_classes, channels=channels)


def test_the_weights_are_those_of_the_seed_and_the_proof_leaves_no_trace(trained: Path) -> None:
    allow_code(trained / "net.py")
    network: Any = build(Architecture(name=f"{trained / 'net.py'}:Net", num_classes=3, channels=1, size=9), seed=5)
    own = by_hand(3, 1, 5).state_dict()
    assert network.state_dict().keys() == own.keys()
    assert all(torch.equal(value, own[key]) for key, value in network.state_dict().items())
    assert int(network.body[1].num_batches_tracked) == 0
    assert network.training


def test_a_model_file_gives_what_the_class_gives(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of numbers that no file keeps: a buffer that is not saved, a tensor that is no buffer."""
    monkeypatch.chdir(trained)
    allow_code("net.py")
    file = trained / "runs/mine/model.safetensors"
    own = by_hand(3, 3, 0)
    own.load_state_dict(load_file(file))
    x = torch.randn(4, 3, 12, 12)
    with torch.no_grad():
        assert torch.equal(load_bundle(file).module()(x), own.eval()(x))


def test_a_class_can_be_changed_and_frozen(trained: Path) -> None:
    words = ("train", "pets", "--model", "net.py:Net", "--epochs", "1")
    ok(trained, *words, "--run", "gelu", "--set", "model.changes=body.2 = gelu, append relu, append linear classes")
    assert "fc.add_Linear.weight" in load_file(trained / "runs/gelu/model.safetensors")
    ok(trained, *words, "--run", "frozen", "--freeze", "body")
    kept = by_hand(3, 3, 0).state_dict()
    moved = {k for k, v in load_file(trained / "runs/frozen/model.safetensors").items() if not torch.equal(v, kept[k])}
    assert moved == {"fc.weight", "fc.bias"}
    done = call(trained, *words, "--weights", "runs/mine/model.safetensors")
    assert (done.code, "Pretrained weights are for torchvision's classifiers" in done.err) == (2, True)
    done = call(trained, "export", "script", "mine")
    assert (done.code, "A plain script has no words for net.py:Net." in done.err) == (2, True)


def test_python_allows_a_file_by_a_call(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    recipe = Recipe.from_values({"data.source": "pets", "model.name": "net.py:Net", "train.max_steps": 1})
    with pytest.raises(UsageError, match="runs only when you name it"):
        list(api.train(recipe))
    api.allow_code("net.py")
    assert list(api.train(recipe))


@pytest.mark.parametrize(
    ("name", "sha256"),
    [("net.py:Net", ""), ("net.py:Net", "g" * 64), ("small", "a" * 64), ("timm:resnet18", "a" * 64)],
)
def test_a_model_file_names_the_digest_of_a_class_and_of_nothing_else(name: str, sha256: str) -> None:
    with pytest.raises(StorageError, match="architecture in this file"):
        Architecture.from_json({"name": name, "num_classes": 2, "channels": 1, "size": 8, "sha256": sha256})


@pytest.mark.parametrize("sha256", [5, None, ["a" * 64]])
def test_a_digest_is_a_word(sha256: Any) -> None:
    with pytest.raises(StorageError, match="cannot be read"):
        Architecture.from_json({"name": "a.py:B", "num_classes": 2, "channels": 1, "size": 8, "sha256": sha256})


STAND_IN = """\
from torch import nn
CALLS = []
def is_model(name):
    return name.split(".")[0] in list_models()
def list_models():
    return ["resnet18", "vit_tiny"]
class Sized(nn.Sequential):
    def forward(self, x):
        assert x.shape[-1] == 224, "Input height doesn't match model (224)"
        return super().forward(x)
def create_model(name, pretrained=False, *, num_classes, in_chans):
    CALLS.append((name, pretrained, num_classes, in_chans))
    kind = Sized if name == "vit_tiny" else nn.Sequential
    return kind(nn.Conv2d(in_chans, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))
"""


@pytest.fixture
def timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A package of that name in place of the real one."""
    (tmp_path / "packages/timm").mkdir(parents=True)
    (tmp_path / "packages/timm/__init__.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    import timm  # type: ignore[import-not-found]

    yield timm
    sys.modules.pop("timm")


def test_timm_builds_with_the_classes_and_channels_of_the_pictures(tmp_path: Path, timm: Any) -> None:
    words = ("--set", "train.max_steps=1", "--run", "one")
    ok(tmp_path, "train", "digits", "--model", "timm:resnet18.a1_in1k", *words)
    assert set(timm.CALLS) == {("resnet18.a1_in1k", False, 10, 1)}
    assert read_header(tmp_path / "runs/one/model.safetensors")["architecture"]["size"] == 32
    assert "Linear(in_features=4, out_features=10)" in ok(tmp_path, "model", "show", "one")
    assert call(tmp_path, "export", "script", "one").code == 2


@pytest.mark.parametrize(
    ("name", "said", "hint"),
    [
        ("timm:resnet81", "Unknown network of timm 'resnet81'.", "Did you mean 'resnet18'?"),
        ("timm:hf-hub:someone/resnet18", "Unknown network of timm 'hf-hub:someone/resnet18'.", "vit_tiny"),
        ("timm:", "Unknown network of timm ''.", "vit_tiny"),
        ("timm:vit_tiny", "timm:vit_tiny cannot take 2 x 1 x 32 x 32: AssertionError: ", "--set input.size=N"),
    ],
)
def test_what_timm_has_not_is_told(tmp_path: Path, timm: Any, name: str, said: str, hint: str) -> None:
    done = call(tmp_path, "train", "digits", "--model", name, "--set", "train.max_steps=1")
    assert (done.code, said in done.err, hint in done.err) == (2, True, True), done.err


def test_without_timm_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    done = call(tmp_path, "train", "digits", "--model", "timm:resnet18")
    assert (done.code, "python3 -m pip install 'tellapart[timm]'" in done.err) == (2, True)
    assert "timm:resnet18 needs timm." in done.err


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("Lin", "fc (Linear) expected 10240 numbers a picture, got 576 = 16 x 6 x 6; it was given (2, 576)."),
        ("Chan", "0 (Conv2d) expected 32 channels, got 1; it was given (2, 1, 8, 8)."),
    ],
)
def test_a_layer_that_does_not_fit_is_named_with_its_numbers(tmp_path: Path, word: str, said: str) -> None:
    (tmp_path / "odd.py").write_text(MISFIT)
    done = tellapart(tmp_path, "train", "digits", "--limit", "60", "--model", f"odd.py:{word}")
    assert (done.code, said in done.err) == (2, True), done.err
    assert "would fit" in done.err
