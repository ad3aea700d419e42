"""Weights from files of others: tensors are read, nothing is run, and what is wrong is said in one sentence."""

import os
import pickle
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from commands import tellapart
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tellapart.child import environment
from tellapart.errors import DataError, StorageError
from tellapart.models import weights, weights_child, weights_plain
from tellapart.models.weights import read


def tensors() -> dict[str, Tensor]:
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2, dtype=torch.float16)}


def saved(path: Path, content: object, *, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    assert all(found[name].dtype == wanted[name].dtype for name in wanted)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_the_same_tensors_come_from_every_kind_of_file_and_no_copy_is_left(tmp_path, monkeypatch):
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temp"))
    save_file(tensors(), tmp_path / "a.safetensors")
    wrapped = {f"module.{name}": value for name, value in tensors().items()}
    for file in (tmp_path / "a.safetensors", saved(tmp_path / "a.pth", {"epoch": 3, "state_dict": wrapped})):
        assert_same(read(file), tensors())
    assert list((tmp_path / "temp").iterdir()) == []


def handed(path: Path) -> dict[str, Tensor]:
    """What the child would hand over, in this process; its words as a DataError."""
    out = path.with_suffix(".out")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            weights_child.hand_over(path, out)
    except Exception as error:
        raise DataError(weights_child.why(error)) from error
    return load_file(out)


def test_the_state_dict_of_a_checkpoint_is_found_and_old_files_are_read(tmp_path):
    assert_same(handed(saved(tmp_path / "old.th", tensors(), legacy=True)), tensors())
    checkpoint = {"epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}}
    assert_same(handed(saved(tmp_path / "checkpoint.pt", {**checkpoint, "model": tensors()})), tensors())


def test_tensors_that_share_memory_or_are_views_are_handed_over_whole(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    shared = {"one": base, "two": base, "turned": base.T, "parameter": nn.Parameter(base + 1)}
    assert_same(handed(saved(tmp_path / "a.pth", shared)), {name: value.detach() for name, value in shared.items()})


class Runs:
    """Runs a command when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple:
        return os.system, (f"touch '{self.proof}'",)


def test_a_pickle_that_would_run_something_runs_nothing(tmp_path):
    told = r"holds more than tensors: it asks for \w+.system, and nothing of it was run"
    content = {"a": torch.ones(2), "b": Runs(tmp_path / "proof")}
    with pytest.raises(DataError, match=f"bad.pth {told}. Save the weights alone: ") as caught:
        read(saved(tmp_path / "bad.pth", content))
    assert "Traceback" not in str(caught.value)
    with pytest.raises(DataError, match=told):
        handed(saved(tmp_path / "old.pth", content, legacy=True))
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Runs(tmp_path / "proof")))
    with pytest.raises(DataError, match="holds more than tensors"):
        handed(tmp_path / "bare.pth")
    assert not (tmp_path / "proof").exists()


def spoiled(path: Path) -> None:
    """A file of torch.save's in which one byte of a tensor is another; torch itself reads it without a word."""
    raw = bytearray(saved(path, {"a": torch.full((9,), 3.0)}).read_bytes())
    raw[raw.index(torch.full((9,), 3.0).numpy().tobytes()) + 5] ^= 1
    path.write_bytes(raw)
    assert not torch.equal(torch.load(path, weights_only=True)["a"], torch.full((9,), 3.0))


def bomb(path: Path) -> None:
    """A file of torch.save's with a member that unpacks to 64 MB."""
    saved(path, {"a": torch.ones(2)})
    with zipfile.ZipFile(path) as old:
        members = {info.filename: old.read(info) for info in old.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in members.items():
            new.writestr(name, bytes(1 << 26) if name.endswith("data.pkl") else content)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda p: saved(p, nn.Linear(2, 2)),
            "it asks for torch.nn.modules.linear.Linear, and nothing",
        ),
        (lambda p: p.write_bytes(saved(p, tensors()).read_bytes()[:-300]), "is not a whole file of weights"),
        (lambda p: saved(p, {"a": torch.ones(1).expand(1 << 40)}), "holds tensors that are far larger than the file"),
        (
            lambda p: saved(p, {"a": torch.eye(3).to_sparse()}),
            "holds tensors that are sparse, quantized or ",
        ),
        (bomb, "holds packed members, which torch.save does not write"),
        (spoiled, "holds members that are damaged: their checksums do not agree"),
    ],
    ids=["model", "cut", "expanded", "sparse", "bomb", "spoiled"],
)
def test_the_child_says_in_a_sentence_what_is_no_table_of_tensors(tmp_path, make: Callable[[Path], object], said):
    make(tmp_path / "weights.pth")
    with pytest.raises(DataError, match=said):
        handed(tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not a file of weights: it begins with nothing"),
        (b"GIF89a\1\1\1\1\1", "is not a file of weights: it begins with 47 49 46 38 39 61 01 01"),
        (struct.pack("<Q", 90) + b'{"a": 3', "is not a whole safetensors file"),
        (struct.pack("<Q", 2) + b"{}", "holds no tensors"),
    ],
)
def test_what_is_no_weights_is_a_data_error(tmp_path, content, said):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(DataError, match=f"weights.pth {said}") as caught:
        read(tmp_path / "weights.pth")
    assert caught.value.hint


def test_a_file_that_is_not_there_or_a_folder_is_a_storage_error(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(StorageError, match="cannot be read"):
            read(path)


def test_a_name_with_an_escape_code_is_printable(tmp_path):
    path = tmp_path / "a\x1b[31m.pth"
    path.write_bytes(b"nothing")
    with pytest.raises(DataError) as caught:
        read(path)
    assert "\x1b" not in caught.value.message


def test_a_child_that_hangs_or_dies_costs_the_file_alone(tmp_path, monkeypatch):
    file = saved(tmp_path / "a.pth", tensors())
    monkeypatch.setattr(weights, "command", lambda module: ("sh", "-c", "kill -9 $$"))
    with pytest.raises(DataError, match="could not be read: the process that read it ended with -9"):
        read(file)
    monkeypatch.setattr(weights, "command", lambda module: ("sleep", "9", "#"))
    monkeypatch.setattr(weights, "SECONDS", 0.2)
    monkeypatch.setattr(subprocess, "run", _sleeping(subprocess.run))
    with pytest.raises(DataError, match=r"took longer than 0 s to be read"):
        read(file)
    monkeypatch.setattr(weights, "command", lambda module: (str(tmp_path / "no-such-program"),))
    with pytest.raises(StorageError, match="cannot be started"):
        read(file)


def _sleeping(run: Callable) -> Callable:
    return lambda words, **more: run(words[:2] if words[0] == "sleep" else words, **more)


def test_the_words_for_what_torch_raises():
    assert weights_child.why(MemoryError()) == "needs far more memory than its size"
    assert weights_child.why(RuntimeError("DefaultCPUAllocator: can't allocate memory")).startswith("needs far more")
    assert weights_child.why(pickle.UnpicklingError("odd")) == "holds more than tensors, or is damaged; nothing was run"
    assert weights_child.why(EOFError()) == "is not a whole file of weights (EOFError)"


def test_only_tensors_with_names_count():
    assert weights_child.state_of([torch.ones(3)]) == weights_child.state_of({4: torch.ones(3), "epoch": 3}) == {}


def test_the_usual_file_is_read_without_torch_and_bit_by_bit(tmp_path):
    base = torch.arange(24.0).reshape(4, 6)
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8)
    state = {
        **{str(kind): torch.randn(3, 2).mul(9).to(kind) for kind in (*kinds, torch.uint8)},
        "bool": torch.tensor([True, False]),
        "transposed": base.T,
        "part": base[1:3, 2:5],
        "spread": torch.ones(1).expand(5),
        "empty": torch.zeros(0, 3),
        "one": torch.tensor(7.0),
        "parameter": nn.Parameter(base + 1),
    }
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "a.pth")
    weights_plain.hand_over(tmp_path / "a.pth", tmp_path / "a.safetensors")
    found = load_file(tmp_path / "a.safetensors")
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert torch.equal(found[name], tensor.detach())
    assert {module for module, _ in weights_plain.KNOWN} == {"collections", "torch._utils", "torch"}
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))  # an OrderedDict with attributes of its own
    torch.save(network.state_dict(), tmp_path / "b.pth")
    weights_plain.hand_over(tmp_path / "b.pth", tmp_path / "b.safetensors")
    assert load_file(tmp_path / "b.safetensors").keys() == network.state_dict().keys()
    assert (
        "torch"
        not in subprocess.run(
            [sys.executable, "-c", "import sys, tellapart.models.weights_plain; print(*sys.modules)"],
            capture_output=True,
            text=True,
            check=True,
            env=environment(),
        ).stdout.split()
    )


@pytest.mark.parametrize(("offset", "shape", "strides"), [(0, (5,), (1,)), (4, (1,), (1,)), (-1, (2,), (1,))])
def test_numbers_outside_of_their_storage_are_never_read(offset, shape, strides):
    whole = bytes(16)
    assert weights_plain.Plain(("FloatStorage", "0", 4), 0, (2, 2), (2, 1)).bytes(whole) == whole
    with pytest.raises(ValueError, match="within its storage"):
        weights_plain.Plain(("FloatStorage", "0", 4), offset, shape, strides).bytes(whole)
    with pytest.raises(ValueError, match="within its storage"):
        weights_plain.Plain(("FloatStorage", "0", 4), 3, (2,), (-1,)).bytes(whole)


class Named(nn.Module):
    """A network of a user, whose class a pickle names."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)


def test_a_whole_model_is_converted_only_for_those_who_trust_it(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.layer = nn.Linear(2, 3)\n"
    )
    words = "import mine, torch; torch.manual_seed(0); torch.save(mine.Net(), 'whole.pth')"
    subprocess.run([sys.executable, "-c", words], cwd=tmp_path, check=True, env=environment())
    refused = tellapart(tmp_path, "model", "convert", "whole.pth", "out.safetensors")
    assert refused.code == 3
    assert "whole.pth holds more than tensors: it asks for mine.Net, and nothing of it was run." in refused.err
    assert not (tmp_path / "out.safetensors").exists()
    done = tellapart(tmp_path, "model", "convert", "whole.pth", "out.safetensors", "--trust")
    assert done.code == 0, done.err
    assert "2 tensors, 9 numbers" in done.out
    torch.manual_seed(0)
    assert_same(load_file(tmp_path / "out.safetensors"), dict(Named().state_dict()))
    again = tellapart(tmp_path, "model", "convert", "whole.pth", "out.safetensors", "--trust")
    assert (again.code, "exists already" in again.err) == (2, True)
    other = tellapart(tmp_path, "model", "convert", "whole.pth", "out.pth")
    assert "does not end in .safetensors" in other.err
    (tmp_path / "mine.py").unlink()
    lost = tellapart(tmp_path, "model", "convert", "whole.pth", "b.safetensors", "--trust")
    assert lost.code == 3
    assert "could not be unpickled: No module named 'mine'" in lost.err
    saved(tmp_path / "table.pth", {"epoch": 3, "state": tensors()})
    assert tellapart(tmp_path, "model", "convert", "table.pth", "c.safetensors").code == 0
    assert_same(load_file(tmp_path / "c.safetensors"), tensors())
    saved(tmp_path / "none.pth", {"epoch": 3})
    assert "holds no tensors" in tellapart(tmp_path, "model", "convert", "none.pth", "d.safetensors", "--trust").err


def packed(path: Path, members: dict[str, bytes], *, packing: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two members of one name
        for name, raw in members.items():
            archive.writestr(name.rstrip("!"), raw, packing)
    return path


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_what_torch_would_read_otherwise_is_left_to_torch(tmp_path):
    """Each of these gave other numbers than torch, or numbers where torch gives none."""
    x = torch.randn(4, dtype=torch.complex64)
    turned = saved(tmp_path / "neg.pth", {"w": x.conj().imag})
    assert torch.equal(read(turned)["w"], torch.load(turned, weights_only=True)["w"].resolve_neg())
    usual = members_of(saved(tmp_path / "a.pth", {"w": torch.arange(4.0)}))
    top = next(iter(usual)).partition("/")[0]
    wrong = {
        "inner": {**{f"{top}/x/data.pkl": b"?"}, **usual},
        "twice": {**usual, f"{top}/data/0!": bytes(16)},
        "packed": usual,
        "elsewhere": {**usual, "other/data/0": bytes(16)},
        "bare": {name.partition("/")[2]: raw for name, raw in usual.items()},
        "long": {**usual, f"{top}/data/0": bytes(20)},
    }
    for name, members in wrong.items():
        path = packed(tmp_path / f"{name}.pth", members, packing=zipfile.ZIP_DEFLATED if name == "packed" else 0)
        if name == "inner":
            weights_plain.hand_over(path, tmp_path / "out")
            assert load_file(tmp_path / "out")["w"].tolist() == [0, 1, 2, 3]
        else:
            with pytest.raises(ValueError, match=r"packed|folders|not as long"):
                weights_plain.hand_over(path, tmp_path / "out")


def test_a_thousand_views_of_one_storage_are_read_once(tmp_path, monkeypatch):
    flat = torch.arange(4000.0)
    state = {f"w{n}": flat[4 * n : 4 * n + 4] for n in range(1000)}
    seen = []
    real = zipfile.ZipFile.read
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda self, name, pwd=None: seen.append(name) or real(self, name))
    weights_plain.hand_over(saved(tmp_path / "a.pth", state), tmp_path / "out")
    assert sum("data/0" in name for name in seen) == 1
    assert_same(load_file(tmp_path / "out"), state)


def test_a_quick_child_that_takes_too_long_is_followed_by_the_other(tmp_path, monkeypatch):
    asked = weights._asked

    def slow(child, path, to):
        if child == "weights_plain":
            raise DataError("took longer", "")
        return asked(child, path, to)

    monkeypatch.setattr(weights, "_asked", slow)
    assert_same(read(saved(tmp_path / "a.pth", tensors())), tensors())


def test_prefixes_of_two_wrappers_go_in_either_order(tmp_path):
    for first, second in (("module.", "_orig_mod."), ("_orig_mod.", "module.")):
        state = {f"{first}{second}{name}": tensor for name, tensor in tensors().items()}
        assert_same(read(saved(tmp_path / "a.pth", state)), tensors())


def test_a_name_that_safetensors_keeps_for_itself_is_said(tmp_path):
    with pytest.raises(DataError, match="holds a tensor called __metadata__, a name that safetensors keeps"):
        read(saved(tmp_path / "a.pth", {"__metadata__": torch.ones(2)}))
