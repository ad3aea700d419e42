"""Model files that attack, or are broken: each is refused in a sentence, none runs anything, none costs much."""

import json
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from commands import GOLDEN, process, tellapart
from hostile_models import EXTENSIONS, Whole, every, giant, odd, sparse, words
from pictures import make_folder
from PIL import Image

from tellapart.errors import StorageError
from tellapart.models.bundle import load_bundle
from tellapart.models.weights import read
from tellapart.workflow.predict import Classifier

ROOM, SECONDS = 512 << 20, 5
VERBS = ("verify", "predict", "card", "show", "script", "test")
CHILDREN = ("zip-eval",)
"""Files that --weights gives to a child, which takes its time. All others are read in this process."""


class Met(NamedTuple):
    """What was made, whether it must be refused, and what each file did to each verb."""

    folder: Path
    files: dict[str, bool]
    every: list[dict[str, Any]]


@pytest.fixture(scope="module")
def met(tmp_path_factory: pytest.TempPathFactory) -> Met:
    folder = tmp_path_factory.mktemp("hostile")
    raw = (GOLDEN / "model-1.safetensors").read_bytes()
    (folder / "good.safetensors").write_bytes(raw)
    make_folder(folder / "pictures", classes=("0", "1", "2"), per_class=2)
    Image.new("RGB", (9, 7)).save(folder / "picture.png")
    plan, must = [], [name for name, _ in every(raw)]
    for number, (name, bad) in enumerate((*every(raw), *odd(Whole(raw)))):
        file = f"{name}{EXTENSIONS[number % len(EXTENSIONS)]}"
        (folder / file).write_bytes(bad)
        verbs = VERBS if number % 12 == 0 else (VERBS * 2)[number % len(VERBS) :][: 1 if number < len(must) else 2]
        plan.append((file, ["load", *verbs]))
        if name in CHILDREN or (bad[8:9] == b"{" and number % 3 == 0):
            plan[-1][1].append("weights")
    heavy = [(file, ["load", *VERBS]) for file in sparse(Whole(raw), folder)]
    if find_spec("timm"):
        (folder / "giant.safetensors").write_bytes(giant(Whole(raw)))
        heavy.append(("giant.safetensors", ["load", "verify", "predict", "show"]))
    (folder / "plan.json").write_text(json.dumps([*plan, *heavy]))
    words, environment = process()
    words = [words[0], str(Path(__file__).with_name("hostile_models.py")), str(folder), str(ROOM)]
    canary = {"CANARY": str(folder / "canary"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=folder, env={**environment, **canary}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    refused = {one[0]: number < len(must) for number, one in enumerate(plan)}
    return Met(folder, {**refused, **dict.fromkeys((file for file, _ in heavy), True)}, found)


def test_the_whole_file_is_taken_by_every_verb(met: Met) -> None:
    good = [one for one in met.every if one["file"] == "good.safetensors"]
    assert {one["verb"] for one in good} == {"load", *VERBS, "weights"}
    assert {one["code"] for one in good} == {0}


def test_each_is_refused_in_a_sentence(met: Met) -> None:
    assert sum(met.files.values()) >= 300
    seen = set()
    for one in met.every:
        if met.files.get(one["file"]) and (one["verb"] != "weights" or one["code"]):  # weights alone may be whole
            seen.add(one["file"])
            assert one["code"] in (2, 3, 4), one
            assert one["said"].startswith("error: "), one
            assert one["long"] < 1500, one
    assert seen == {file for file, refused in met.files.items() if refused}


def test_what_may_be_read_is_harmless(met: Met) -> None:
    some = [one for one in met.every if met.files.get(one["file"]) is False]
    assert len({one["file"] for one in some}) > 60
    assert {one["code"] for one in some} <= {0, 1, 2, 3, 4, 5}
    assert any(one["code"] == 0 for one in some)


def test_none_is_a_mistake_of_ours(met: Met) -> None:
    for one in met.every:
        assert "Something unexpected" not in one["said"], one
        assert "Traceback" not in one["said"], one
        assert "\x1b[2J" not in one["said"], one


def test_none_runs_anything(met: Met) -> None:
    assert not (met.folder / "canary").exists()
    for one in met.every:
        own = {"script": ".out.py.", "weights": "tellapart"}.get(one["verb"], "nothing")
        assert all(own in event for event in one["ran"]), one


def test_none_costs_much(met: Met) -> None:
    """Beyond what the process took before: the memory of one file, and the seconds of processors, children's too."""
    for one in met.every[16:]:
        assert one["above"] <= ROOM, one
        assert one["seconds"] <= SECONDS, one


@pytest.mark.skipif(not find_spec("timm"), reason="timm is not installed")
def test_a_small_file_that_names_a_giant_of_timm_is_refused_by_its_size(met: Met) -> None:
    """Before it is built: that it ends within the memory above is no proof, for so does what finds no more of it."""
    said = {one["verb"]: one["said"] for one in met.every if one["file"] == "giant.safetensors"}
    assert said.keys() == {"load", "verify", "predict", "show"}
    for one in said.values():
        assert "vit_giant_patch14_dinov2 has 1,13" in one, one
        assert " weights, and the file " in one


def test_the_canary_sings_where_a_pickle_is_loaded(tmp_path: Path) -> None:
    """The clean twin: a plain pickle.load of such a file does run it, and the audit sees it."""
    program = (
        "import pickle, sys, os\nfrom hostile_models import WATCHED, pickles\nran = []\n"
        "sys.addaudithook(lambda event, given: ran.append(event) if event in WATCHED else None)\n"
        "pickle.loads(dict(pickles())['pickle-system-2'])\nprint(ran)"
    )
    words, environment = process(before=Path(__file__).parent)
    canary = tmp_path / "canary"
    done = subprocess.run([words[0], "-c", program], env={**environment, "CANARY": str(canary)}, capture_output=True)
    assert canary.exists(), done.stderr
    assert b"os.system" in done.stdout
    assert b"pickle.find_class" in done.stdout


def test_a_header_whose_length_begins_as_a_pickle_is_read(tmp_path: Path) -> None:
    """A header of 1,152 + 65,536 bytes has a length that begins with 80 04: the first bytes of a pickle."""
    whole = Whole((GOLDEN / "model-1.safetensors").read_bytes())
    text = json.dumps(whole.outer).encode()
    raw = whole.with_head(text + b" " * (0x480 + 0x10000 - len(text)))
    assert raw[:2] == b"\x80\x04"
    (tmp_path / "model.safetensors").write_bytes(raw)
    assert len(load_bundle(tmp_path / "model.safetensors").classes) == 10
    assert read(tmp_path / "model.safetensors").keys() == load_bundle(tmp_path / "model.safetensors").state.keys()


@pytest.mark.parametrize("field", ["temperature", "known", "promises", "thresholds"])
def test_what_answers_rest_on_is_refused_by_the_name_of_its_field(field: str, tmp_path: Path) -> None:
    whole = Whole((GOLDEN / "model-1.safetensors").read_bytes())
    path, some = tmp_path / "m.safetensors", [raw for name, raw in words(whole) if name.startswith(f"{field}-")]
    assert len(some) >= 8
    for raw in some:
        path.write_bytes(raw)
        with pytest.raises(StorageError) as refused:
            load_bundle(path)
        assert f"'{field}'" in refused.value.message
        assert len(refused.value.message) < 400


@pytest.mark.parametrize("name", ["model-1", "model-1-bare"])
def test_files_of_the_first_format_are_read_for_ever(name: str, tmp_path: Path) -> None:
    """Never made anew: `bare` is without golden samples, promises and a bound for the unknown, which came later."""
    path = GOLDEN / f"{name}.safetensors"
    assert path.stat().st_size < 20_000
    bundle = load_bundle(path)
    assert (bundle.classes, bundle.architecture.name) == (tuple("0123456789"), "small")
    assert (len(bundle.goldens), bundle.promises == {}, bundle.known is None) == (
        (0, True, True) if "bare" in name else (4, False, False)
    )
    whole = load_bundle(GOLDEN / "model-1.safetensors")
    for one in whole.goldens:
        guess = Classifier(bundle).predict(one.file)
        assert guess.top[0][0] == bundle.classes[int(np.argmax(one.shares))]
        assert guess.top[0][2] == pytest.approx(max(one.shares), abs=1e-4)
    assert tellapart(tmp_path, "verify", str(path)).code == (1 if "bare" in name else 0)
