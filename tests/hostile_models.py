"""Model files that attack, or are broken: made by hand and by seeded mutation of a whole one; and the child they meet.

Nothing here harms when it runs: what a file would run touches a canary, whose name is in the variable CANARY.
"""

# ruff: noqa: E501 - tables read better in long lines
import base64
import bz2
import contextlib
import gzip
import importlib
import io
import json
import lzma
import os
import pickle
import random
import resource
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Made = Iterator[tuple[str, bytes]]
"""A name, and the bytes of a file."""
CANARY = os.environ.get("CANARY", "/nonexistent/canary")
WATCHED = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "socket.connect", "socket.bind")
WATCHED += ("pickle.find_class", "ctypes.dlopen", "urllib.Request", "shutil.rmtree", "os.remove", "os.rename", "exec")
HUGE = 10**18


class Runs:
    """What a pickle says is to be called when it is loaded."""

    def __init__(self, call: Callable[..., Any], *words: object) -> None:
        self._called = (call, words)

    def __reduce__(self) -> Any:
        return self._called


def payloads() -> dict[str, object]:
    """Ways to run something from a pickle, as those in the corpus of picklescan."""
    import runpy
    import subprocess
    import webbrowser
    from importlib import import_module

    touch = f"open({CANARY!r}, 'w').close()"
    return {
        "system": Runs(os.system, f"touch {CANARY}"),
        "exec": Runs(exec, touch),
        "eval": Runs(eval, touch),
        "popen": Runs(subprocess.Popen, ["touch", CANARY]),
        "check-output": Runs(subprocess.check_output, ["touch", CANARY]),
        "compile": Runs(eval, Runs(compile, touch, "a", "exec")),
        "open": Runs(open, CANARY, "w"),
        "browser": Runs(webbrowser.open, f"file://{CANARY}"),
        "run-path": Runs(runpy.run_path, CANARY),
        "import": Runs(import_module, "antigravity"),
        "getattr": Runs(getattr, Runs(import_module, "os"), "system"),
        "nested": Runs(pickle.loads, pickle.dumps(Runs(os.system, f"touch {CANARY}"))),
        "in-a-table": {"state_dict": {"head.weight": Runs(os.system, f"touch {CANARY}")}},
    }


def pickles() -> Made:
    """Every payload in every protocol; the extension of a file says nothing."""
    for name, what in payloads().items():
        for protocol in range(6):
            yield f"pickle-{name}-{protocol}", pickle.dumps(what, protocol)
    bad = pickle.dumps(Runs(os.system, f"touch {CANARY}"), 2)
    yield "pickle-handwritten", f"cos\nsystem\n(S'touch {CANARY}'\ntR.".encode()
    yield "pickle-inst", f"(S'touch {CANARY}'\nios\nsystem\n.".encode()
    yield "pickle-obj", f"(cos\nsystem\nS'touch {CANARY}'\no.".encode()
    yield "pickle-stack-global", b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R."
    yield "pickle-broken-at-its-end", bad[:-1] + b"\x99"
    yield "pickle-legacy-torch", pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + bad
    yield "pickle-behind-a-length", struct.pack("<Q", len(bad)) + bad
    yield "pickle-base64", base64.b64encode(bad)
    yield "pickle-memo-bomb", b"\x80\x02" + b"(" * 5_000 + b"l" * 5_000 + b"."
    yield "pickle-of-a-huge-string", b"\x80\x04\x8d" + struct.pack("<Q", HUGE) + b"a."
    for kind, pack in {"gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zlib": zlib.compress}.items():
        yield f"pickle-{kind}", pack(bad)


def zips() -> Made:
    """Archives as torch.save writes them, with what a pickle runs, and with the tricks of archives."""

    def made(members: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", how) as archive:
            for name, raw in members.items():
                archive.writestr(name, raw)
        return out.getvalue()

    for name, what in payloads().items():
        yield f"zip-{name}", made({"archive/data.pkl": pickle.dumps(what, 2), "archive/version": b"3\n"})
    bad = pickle.dumps(Runs(os.system, f"touch {CANARY}"), 2)
    plain = made({"a/data.pkl": bad})
    yield "zip-in-a-zip", made({"inner.pt": plain})
    yield "zip-outside", made({"../../data.pkl": bad, "/etc/data.pkl": bad})
    yield "zip-bomb", made({"a/data.pkl": bad, "a/data/0": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    yield "zip-lzma", made({"a/data.pkl": bad}, zipfile.ZIP_LZMA)
    yield "zip-torchscript", made({"a/data.pkl": bad, "a/code/__torch__.py": b"import os", "a/constants.pkl": bad})
    yield "zip-behind-other-bytes", b"#!/bin/sh\n" + plain
    yield "zip-behind-a-length", struct.pack("<Q", 2) + b"{}" + plain
    yield "zip-encrypted", plain.replace(b"PK\3\4\x14\0\0", b"PK\3\4\x14\0\1").replace(b"PK\1\2", b"PK\1\2", 1)
    yield "zip-other-size", plain[:18] + struct.pack("<II", 1, HUGE % 2**31) + plain[26:]
    yield "zip-without-end", plain[:-22]
    yield "zip-bad-checksum", plain[:14] + b"\0\0\0\0" + plain[18:]
    yield "zip-two-of-a-name", plain[:-22] + plain
    yield (
        "zip-numpy",
        made({"arr_0.npy": b"\x93NUMPY\1\0v\0{'descr': '|O', 'fortran_order': False, 'shape': ()}\n" + bad}),
    )
    yield "zip-keras", made({"config.json": b'{"class_name": "Lambda"}', "model.weights.h5": b"\x89HDF"})
    yield "zip-empty", b"PK\5\6" + bytes(18)


def others() -> Made:
    """Files of other kinds."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        link = tarfile.TarInfo("model.safetensors")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    yield "tar-with-a-link", tar.getvalue()
    yield "numpy-of-objects", b"\x93NUMPY\1\0v\0{'descr': '|O', 'fortran_order': False, 'shape': (1,), }" + b" " * 60
    yield "hdf5", b"\x89HDF\r\n\x1a\n" + bytes(500)
    yield "gguf", b"GGUF\3\0\0\0" + struct.pack("<QQ", HUGE, HUGE)
    yield "onnx", b"\x08\x07\x12\x07pytorch" + bytes(100)
    yield "7z", b"7z\xbc\xaf\x27\x1c\0\4" + bytes(100)
    yield "python", b"import os; os.system('true')\n"
    yield "elf", b"\x7fELF\2\1\1" + bytes(100)
    yield "html", b"<html><script>alert(1)</script></html>"
    yield "toml", b'format = 1\n[architecture]\nname = "small"\n'
    yield "empty", b""
    yield "zeros", bytes(100_000)
    yield "ones", b"\xff" * 100_000
    yield "git-lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"


class Whole:
    """A model file, taken apart."""

    def __init__(self, raw: bytes) -> None:
        length = struct.unpack("<Q", raw[:8])[0]
        self.raw, self.head, self.data = raw, raw[8 : 8 + length], raw[8 + length :]
        self.outer: dict[str, Any] = json.loads(self.head)
        self.inner: dict[str, Any] = json.loads(self.outer["__metadata__"]["tellapart"])

    def with_head(self, head: bytes, data: bytes | None = None) -> bytes:
        return struct.pack("<Q", len(head)) + head + (self.data if data is None else data)

    def with_outer(self, **changes: Any) -> bytes:
        outer = {key: value for key, value in {**self.outer, **changes}.items() if value is not ...}
        return self.with_head(json.dumps(outer).encode())

    def with_inner(self, **changes: Any) -> bytes:
        inner = {key: value for key, value in {**self.inner, **changes}.items() if value is not ...}
        return self.with_text(json.dumps(inner))

    def with_text(self, text: str) -> bytes:
        outer = {**self.outer, "__metadata__": {"tellapart": text}}
        return self.with_head(json.dumps(outer, ensure_ascii=False).encode())


def headers(whole: Whole) -> Made:
    """Attacks on the header of safetensors itself."""
    for length in (
        0,
        1,
        2,
        len(whole.head) - 1,
        len(whole.head) + 1,
        len(whole.raw),
        2**25 + 1,
        2**31,
        2**63,
        2**64 - 1,
    ):
        yield f"length-{length}", struct.pack("<Q", length) + whole.raw[8:]
    texts = {
        "empty-object": b"{}",
        "list": b"[]",
        "word": b'"word"',
        "null": b"null",
        "number": b"1",
        "deep-lists": b"[" * 200_000,
        "deep-objects": b'{"a":' * 100_000,
        "deep-and-closed": b"[" * 100_000 + b"]" * 100_000,
        "deep-and-whole": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
        "not-utf-8": whole.head.replace(b"stages", b"st\xff\xfees", 1),
        "utf-16": whole.head.decode().encode("utf-16"),
        "zero-byte": whole.head.replace(b"{", b"{\0", 1),
        "bom": b"\xef\xbb\xbf" + whole.head,
        "two-objects": whole.head + b"{}",
        "a-trailing-comma": whole.head.rstrip()[:-1] + b",}",
        "single-quotes": whole.head.replace(b'"', b"'"),
        "a-tensor-twice": b'{"head.bias":{"dtype":"F32","shape":[],"data_offsets":[0,0]},' + whole.head[1:],
        "metadata-twice": b'{"__metadata__":{"tellapart":"{}"},' + whole.head[1:],
        "many-lists": b'{"a":[' + b"[]," * 5_000_000 + b"[]]}",
        "many-tensors": b"{%s}" % b",".join(b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % n for n in range(400_000)),
        "large-letters": '{"a":"\U0001f98a'.encode() + b"a" * 33_000_000 + b'"}',
        "a-number-of-many-digits": b'{"a":' + b"9" * 1_000_000 + b"}",
        "not-a-number": whole.head.replace(b"[0,", b"[NaN,", 1),
        "infinity": whole.head.replace(b"[0,", b"[-Infinity,", 1),
    }  # fmt: skip
    for name, text in texts.items():
        yield f"head-{name}", whole.with_head(text)
    for name, words in {
        "a-list": [],
        "a-word": "tellapart",
        "null": None,
        "empty": {},
        "numbers": {"tellapart": 1},
    }.items():
        yield f"metadata-{name}", whole.with_outer(__metadata__=words)
    for name, text in {
        "pickle": repr(pickle.dumps(Runs(os.system, f"touch {CANARY}"))),
        "pickle-base64": base64.b64encode(pickle.dumps(Runs(os.system, f"touch {CANARY}"))).decode(),
        "python": "__import__('os').system('true')",
        "yaml": "!!python/object/apply:os.system ['true']",
        "list": "[]",
        "nothing": "",
        "deep": '{"a":' * 100_000,
        "many": '{"format": 1, "a": [' + "{}," * 3_000_000 + "{}]}",
        "twice": '{"format": 2, "format": 1}',
    }.items():
        yield f"metadata-is-{name}", whole.with_text(text)


def tensors(whole: Whole) -> Made:
    """Attacks on the places, shapes and kinds of the tensors, and tensors that are not those of the network."""
    name = "head.weight"
    one = whole.outer[name]
    begin, end = one["data_offsets"]
    rows = one["shape"]
    for number, wrong in enumerate(
        (
            *(
                [0, end],
                [begin, begin],
                [end, begin],
                [-1, end],
                [begin, end + 4],
                [begin - 4, end - 4],
                [begin + 4, end],
            ),
            *([begin, HUGE], [HUGE, HUGE + end - begin], [2**64, 2**64], [begin], [begin, end, end], [], None, "0"),
            *([float(begin), float(end)], [str(begin), str(end)], [True, end], [[], []], {"begin": begin, "end": end}),
        )
    ):
        yield f"offsets-{number}", whole.with_outer(**{name: {**one, "data_offsets": wrong}})
    for number, wrong in enumerate(
        (
            *([HUGE, HUGE], [2**32, 2**32], [2**63], [-1, -rows[1]], [-rows[0], -rows[1]], [0], [rows[1], rows[0]]),
            *([rows[0] * rows[1]], [*rows, 1], [1] * 100_000, [], None, "10", [float(rows[0]), rows[1]], {"0": 1}),
            *([str(rows[0]), rows[1]], [True, rows[0] * rows[1]], [[*rows]], [2**31, 0], [0, 2**62], [None, None]),
        )
    ):
        yield f"shape-{number}", whole.with_outer(**{name: {**one, "shape": wrong}})
    for kind in ("F64", "F16", "BF16", "I64", "I32", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "C64", "f32", "", None, 1, []):
        yield f"kind-{kind}", whole.with_outer(**{name: {**one, "dtype": kind}})
    for key in one:
        yield f"without-{key}", whole.with_outer(**{name: {k: v for k, v in one.items() if k != key}})
    for entry in (None, [], "F32", 0, {}):
        yield f"tensor-is-{entry!r}", whole.with_outer(**{name: entry})
    yield "tensor-missing", whole.with_outer(**{name: ...})
    yield "tensor-renamed", whole.with_outer(**{name: ..., "head.wait": one})
    yield "tensor-more", whole.with_outer(more={"dtype": "F32", "shape": [0], "data_offsets": [begin, begin]})
    hostile = "\x1b[31m\n../../etc/passwd" * 1000
    yield (
        "tensor-hostile",
        whole.with_outer(**{hostile: {"dtype": "F32", "shape": [0], "data_offsets": [begin, begin]}}),
    )
    for word, odd in {"nan": float("nan"), "inf": float("inf"), "minus-inf": float("-inf")}.items():
        data = whole.data[:begin] + struct.pack("<f", odd) + whole.data[begin + 4 :]
        yield f"weight-{word}", whole.with_head(whole.head, data)
    counter = next(key for key in whole.outer if key.endswith("num_batches_tracked"))
    first = whole.outer[counter]
    yield "counter-is-a-weight", whole.with_outer(**{counter: {**first, "dtype": "F32", "shape": [2]}})


def words(whole: Whole) -> Made:
    """Attacks on what a model says of itself."""
    network = whole.inner["architecture"]
    small = {key: network[key] for key in ("num_classes", "channels", "size")}
    odd: dict[str, list[Any]] = {
        "format": [..., 0, 2, "1", None, [], HUGE],
        "classes": [
            *(..., None, "0123456789", [], {}, 10, [*"012345678"], [*"0123456789a"], [*"0123456788"], [*range(10)]),
            *([[name] for name in "0123456789"], [None] * 10, [*"012345678", "\ud800"], [str(n) for n in range(700_000)]),
        ],
        "architecture": [
            *(..., None, [], "small", {}, {"name": "small"}, {**network, "more": 1}, {**network, "name": None}),
            *({**network, "name": name} for name in ("", "smal", "SMALL", "layers", "resnet18", "vit_h_14", "linear")),
            *({**network, "name": name} for name in ("regnet_y_128gf", "mlp:99999,99999,99999", "mlp:" + "1," * 300_000)),
            *({**network, "name": name} for name in ("net.py:Net", "/etc/passwd", "../net.py:Net", "hub:a:b", "os:system")),
            {**network, "sha256": "a" * 64},
            *({**network, "args": {"width": n}} for n in (0, -1, 10**9, 100_000, "16", 1.5, True, None, 10**400, [4])),
            *({**network, "args": args} for args in (None, [], "width", {"depth": 4}, {"self": 1}, {"width": 4, "x": 1})),
            *({**network, "num_classes": n} for n in (0, -10, 9, 10**9, HUGE, "10", 10.0, None)),
            *({**network, "channels": n} for n in (0, 2, 3, 10**9, 1.0, True, "1", None)),
            *({**network, "size": n} for n in (0, 4096, 100_000, 10**9, -8, 8.0, "8", None)),
            *({**small, "name": "linear", "size": n} for n in (4096, 10**6)),
            *({**network, "layers": lines} for lines in (["linear 10"], "linear", 1, [1], [None])),
            *({**network, "changes": lines} for lines in ("remove head", [1], ["head"], ["nothing = relu"], ["x" * 10**6])),
            {**network, "changes": ["append relu"] * 501},
            {**network, "changes": ["append linear 100000"] * 30},
            *({**small, "name": "layers", "layers": lines} for lines in (
                [], ["flatten"], ["flatten", "linear 100000", "linear 100000", "linear classes"], ["conv 100000 100000"],
                ["conv 100000 3"] * 400, ["relu"] * 501, ["relu"] * 200_000, ["upsample 100000", "gap", "linear classes"],
                ["linear " + "9" * 190], ["exec os.system"], ["flatten", "linear classes; import os"], [["flatten"]],
                ["conv 100000 1", "conv 100000 99999 padding=50000", "conv 100000 99999 padding=50000", "gap", "linear classes"],
            )),
        ],
        "preprocess": [
            *(..., None, [], {}, {**whole.inner["preprocess"], "more": 1}),
            *({**whole.inner["preprocess"], "size": n} for n in (0, -1, 9, 4097, HUGE, 8.0, "8", None, True)),
            *({**whole.inner["preprocess"], "channels": n} for n in (0, 2, 3, 1.0, True, "1", None)),
            *({**whole.inner["preprocess"], "fit": n} for n in ("stretch", "", None, [], 1)),
            *({**whole.inner["preprocess"], "filter": n} for n in ("lanczos", None, {})),
            *({**whole.inner["preprocess"], "short": n} for n in (-1, HUGE, 8.0, None)),
            *({**whole.inner["preprocess"], "mean": n} for n in ([], [0, 0], ["0"], None, [float("nan")], [1e300], 0)),
            *({**whole.inner["preprocess"], "std": n} for n in ([0], [-1], [float("inf")], [None], [1, 1], "1")),
        ],
        "temperature": [..., 0, -1, 1e-300, float("nan"), float("inf"), "one", None, 10**400, [1], {}, 1e300, "1.5", True],
        "known": [float("nan"), float("-inf"), "much", [1], {"a": 1}, 10**400, "9", True, 1e300],
        "promises": [
            *([[0.9]], [[0.9, float("nan")]], [[1, 2, 3]], "word", 7, [["a", "b"]], {"a": 1}, [[0.9, 10**400]]),
            *(None, ["12"], {"0.9": 0.5}, [["0.9", "0.5"]], [[0.9, 5]], [[-1, 0.5]], [[0.9, 0.5], [0.9, 0.6]], [[[], 1]]),
        ],
        "thresholds": [0.5, "0.5", [0.5] * 9, ["0.5"] * 10, [2] * 10, [None] * 10, {"0": 1}, [[0.5] * 10]],
        "scores": [
            *(..., None, 3, [1], ["word"], [{}], [[]], [{"name": "accuracy"}], {"name": "accuracy"}),
            *([{**whole.inner["scores"][0], key: None}] for key in ("name", "n", "part", "about")),
            *([{**whole.inner["scores"][0], key: "1"}] for key in ("value", "low", "high", "n")),
            [{**whole.inner["scores"][0], "value": float("nan")}],
        ],
        "origin": [
            *(..., None, [], "here", 5, [[1, 2]], {**whole.inner["origin"], "packages": [1]}),
        ],
        "goldens": [*_goldens(whole)],
    }  # fmt: skip
    for key, values in odd.items():
        for number, value in enumerate(values):
            yield f"{key}-{number}", whole.with_inner(**{key: value})


def _goldens(whole: Whole) -> Iterator[Any]:
    one = whole.inner["goldens"][0]
    yield from (
        None,
        5,
        "word",
        [1],
        [None],
        [{}],
        [one] * 9,
        [{**one, "shares": [1.0]}],
        [{**one, "shares": "0123456789"}],
    )
    yield from ([{**one, "file": file}] for file in (None, 5, "!!", "", "é", [0], base64.b64encode(b"GIF89a").decode()))
    yield [{**one, "shares": [float("nan")] * 10}]
    yield [{**one, "shares": [10**400] * 10}]
    yield [{**one, "file": "A" * (6 << 20)}]
    yield [{key: value for key, value in one.items() if key != "shares"}]
    for side in (2_000, 9_000, 60_000, 2**31 - 1):  # a few bytes that say they are a large picture
        yield [{**one, "file": base64.b64encode(png(side, side)).decode()}]
    yield [{**one, "file": base64.b64encode(png(9_000, 9_000, rows=9_000)).decode()}]
    yield [{**one, "file": base64.b64encode(pickle.dumps(Runs(os.system, f"touch {CANARY}"))).decode()}]


def png(width: int, height: int, rows: int = 1) -> bytes:
    """A grey picture of black rows."""

    def chunk(kind: bytes, raw: bytes) -> bytes:
        return struct.pack(">I", len(raw)) + kind + raw + struct.pack(">I", zlib.crc32(kind + raw))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes((min(width, 10_000) + 1) * rows), 9))
    return b"\x89PNG\r\n\x1a\n" + head + pixels + chunk(b"IEND", b"")


def cut(whole: Whole) -> Made:
    """The file ends too soon, at every kind of boundary, or too late."""
    behind = len(whole.head) + 8
    ends = sorted(one["data_offsets"][1] + behind for name, one in whole.outer.items() if name != "__metadata__")
    places = [1, 4, 7, 8, 9, 10, behind // 2, behind - 1, behind, behind + 1, *ends[:-1], len(whole.raw) - 1]
    for end in dict.fromkeys(places):
        yield f"cut-at-{end}", whole.raw[:end]
    yield "one-byte-more", whole.raw + b"\0"
    yield "a-zip-behind-it", whole.raw + b"PK\5\6" + bytes(18)
    yield "twice", whole.raw * 2


def mutated(whole: Whole, *, count: int = 80) -> Made:
    """Seeded mutations of the structure of the header: what they hit is no text, which may be any."""
    seen = [at for at, byte in enumerate(whole.head) if byte in b"{}[]:" and b"\\" not in whole.head[at - 2 : at + 3]]
    outside = [at for at in seen if at > whole.head.rindex(b'}"') or at < 10]
    for seed in range(count):
        chance = random.Random(seed)
        at = chance.choice(outside)
        bad = chance.choice((b"", b"\0", b"}", b"{", b"\xff", b"[[", b'"', b"\x80\x04", b"9"))
        bad = b"\1" if bad == whole.head[at : at + 1] else bad
        yield f"mutated-{seed}", whole.with_head(whole.head[:at] + bad + whole.head[at + 1 :])


def odd(whole: Whole) -> Made:
    """What may be read, because nothing that is needed for an answer is wrong: it has to stay harmless all the same."""
    network, origin = whole.inner["architecture"], whole.inner["origin"]
    for name in ("net.py:Net", "/etc/passwd.py:Net", "hub:../x:y", "net.py", "timm:hf-hub:a/b"):
        sha256 = {} if name.startswith("timm") else {"sha256": "a" * 64}
        yield f"own-{name.replace('/', '_')}", whole.with_inner(architecture={**network, "name": name, **sha256})
    texts = (
        "[" * 100_000,
        "a=" + "{a=" * 50_000,
        "x = \0",
        "[model]\nname=1",
        "a = [" + "[" * 100_000,
        "[data]\nsource='x'",
    )
    for number, text in enumerate(texts):
        yield f"recipe-{number}", whole.with_inner(origin={**origin, "recipe": text})
    for key in ("recipe", "source", "run", "time", "weights", "content", "split"):
        for number, wrong in enumerate(([7], {"file": [1], "licence": {}, "sha256": None})):
            yield f"origin-{key}-{number}", whole.with_inner(origin={**origin, key: wrong})
    names = [
        "\x1b[2J",
        "a\nb",
        "=cmd|' /C calc'!A0",
        "<script>",
        '");import os#',
        "\u202e",
        "\0",
        "a" * 10_000,
        " ",
        "\\input",
    ]
    yield "hostile-classes", whole.with_inner(classes=names)
    yield (
        "more-metadata",
        whole.with_outer(__metadata__={**whole.outer["__metadata__"], "p": repr(pickle.dumps(Runs(eval, "1")))}),
    )
    one = whole.inner["goldens"][0]
    cut_short = base64.b64encode(base64.b64decode(one["file"])[:50]).decode()
    for number, golden in enumerate(
        ({**one, "file": cut_short}, {**one, "name": None}, {**one, "pixels": 5, "square": []})
    ):
        yield f"golden-{number}", whole.with_inner(goldens=[golden])
    yield "golden-of-one-row", whole.with_inner(goldens=[{**one, "file": base64.b64encode(png(1024, 1024)).decode()}])
    for value in (3e38, -3e38, 1e-45, -1.0):
        begin, end = whole.outer["stages.0.norm1.running_var"]["data_offsets"]
        many = struct.pack("<f", value) * ((end - begin) // 4)
        yield f"variance-{value}", whole.with_head(whole.head, whole.data[:begin] + many + whole.data[end:])
    for seed in range(10):
        chance = random.Random(seed)
        data = bytearray(whole.data)
        for _ in range(8):
            data[chance.randrange(len(data))] = chance.randrange(256)
        yield f"numbers-{seed}", whole.with_head(whole.head, bytes(data))
    inner = json.dumps(whole.inner)
    for seed in range(30):
        chance = random.Random(seed)
        at = chance.randrange(len(inner))
        yield f"words-{seed}", whole.with_text(inner[:at] + chance.choice('{}[]",:0e-\\ ') + inner[at + 1 :])


def sparse(whole: Whole, folder: Path) -> list[str]:
    """Files of 10 GB that take no room on the disk, and would fill the memory when they are read."""
    size = 10 << 30
    big = {"dtype": "F32", "shape": [size >> 2], "data_offsets": [len(whole.data), len(whole.data) + size]}
    own = {**whole.inner["architecture"], "name": "net.py:Net", "sha256": "a" * 64}
    wide = {**whole.inner["architecture"], "name": "linear", "num_classes": 100_000, "size": 160}
    texts = {
        "more": whole.inner,
        "own": {**whole.inner, "architecture": own},
        "wide": {**whole.inner, "architecture": wide},
    }
    made = {"behind": whole.raw}
    for name, inner in texts.items():
        outer = {**whole.outer, "__metadata__": {"tellapart": json.dumps(inner)}, "more": big}
        made[name] = whole.with_head(json.dumps(outer).encode())
    for name, raw in made.items():
        with (folder / f"sparse-{name}.safetensors").open("wb") as file:
            file.write(raw)
            file.truncate(len(raw) + size)
    return [f"sparse-{name}.safetensors" for name in made]


def giant(whole: Whole) -> bytes:
    """A small file that names a network of timm with 1,136,482,306 weights, which takes 4.5 GB."""
    own = {"name": "timm:vit_giant_patch14_dinov2", "args": {}}
    return whole.with_inner(architecture={**whole.inner["architecture"], **own})


def every(raw: bytes) -> Made:
    """All of them, made of the bytes of a whole model file."""
    whole = Whole(raw)
    yield from pickles()
    yield from zips()
    yield from others()
    for family in (headers, tensors, words, cut, mutated):
        yield from family(whole)


EXTENSIONS = (".safetensors", ".pkl", ".pt", ".pth", ".bin", ".ckpt", ".onnx", "", ".SAFETENSORS", ".png")


def meet(folder: Path, room: int) -> None:
    """In this process: every verb on each file. Writes results.jsonl: file, verb, exit code, words, seconds, and the
    memory above idle, in bytes; what was audited and not expected is in `ran`.
    """
    from tellapart.cli import main
    from tellapart.models.bundle import load_bundle
    from tellapart.models.weights import read

    def loaded(path: str) -> None:
        load_bundle(Path(path)).module()

    def weights(path: str) -> None:
        raise SystemExit(0 if read(Path(path)) else 3)

    verbs: dict[str, Callable[[str], object]] = {
        "load": lambda file: _exits(lambda: loaded(file)),
        "verify": lambda file: main(["verify", file]),
        "predict": lambda file: main(["predict", file, "picture.png"]),
        "card": lambda file: main(["model", "card", file]),
        "show": lambda file: main(["model", "show", file]),
        "script": lambda file: main(["export", "script", file, "--out", "out.py", "--force"]),
        "test": lambda file: main(["test", file, "pictures"]),
        "weights": lambda file: _exits(lambda: weights(file)),
    }
    with contextlib.suppress(ImportError):  # where it is installed, a name of its networks may import it
        importlib.import_module("timm.models")
    ran: list[str] = []
    good = next(folder.glob("good*"))
    told = [_met(verb, work, str(good), ran) for verb, work in verbs.items()]  # all that is imported late is there now
    told += [_met(verb, work, str(good), ran) for verb, work in verbs.items()]  # and what is read once is read
    watching = [True]
    sys.addaudithook(
        lambda event, given: ran.append(f"{event} {given!r:.600}") if watching and event in WATCHED else None
    )
    bound = _status("VmSize") + room
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    plan = json.loads((folder / "plan.json").read_text())
    with (folder / "results.jsonl").open("w") as out:
        for one in told:
            out.write(json.dumps(one) + "\n")
        for file, names in plan:
            for verb in names:
                out.write(json.dumps(_met(verb, verbs[verb], file, ran)) + "\n")
                out.flush()
    watching.clear()


def _exits(work: Callable[[], object]) -> None:
    from tellapart.cli import guarded

    def quiet() -> int:
        work()
        return 0

    sys.exit(guarded(quiet, debug=False))


def _met(verb: str, work: Callable[[str], object], file: str, ran: list[str]) -> dict[str, Any]:
    Path("/proc/self/clear_refs").write_text("5")
    idle, started, code = _status("VmRSS"), sum(os.times()[:4]), -1
    del ran[:]
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        try:
            work(file)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else -1
        except BaseException as error:
            streams[1].write(f"{type(error).__name__}: {error}")
    seconds = sum(os.times()[:4]) - started  # of processors, in children too: others work on this machine
    said = streams[1].buffer.getvalue().decode("utf-8", "replace")
    found = {"file": Path(file).name, "verb": verb, "code": code, "said": said[:2000], "long": len(said)}
    return {**found, "seconds": seconds, "above": _status("VmHWM") - idle, "ran": list(ran)}


def _status(key: str) -> int:
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith(key))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    meet(Path(sys.argv[1]), int(sys.argv[2]))
