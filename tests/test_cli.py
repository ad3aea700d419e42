"""The command line: help, mistakes of the hand, flags as a decision, and the verbs that look before training."""

import json
import re
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import numpy as np
import pytest
from commands import golden, tellapart, train
from pictures import make_folder
from PIL import Image

from tellapart import __version__
from tellapart.cli import VERBS
from tellapart.recipe import Recipe, rules
from tellapart.workflow.doctor import REQUIRED, pair


def commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """A verb and, of a group, each of its own verbs, as typed."""
    if isinstance(command, click.Group):
        for inner, made in sorted(command.commands.items()):
            yield from commands(f"{name} {inner}", made)
    else:
        yield name, command


def every_command() -> dict[str, click.Command]:
    verbs = [commands(verb, import_module(f"tellapart.cli.{verb.replace('-', '_')}").command) for verb in VERBS]
    return dict(pair for verb in verbs for pair in verb)


# --- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(tmp_path: Path, verb: str) -> None:
    done = tellapart(tmp_path, verb, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: tellapart {verb} ")
    assert import_module(f"tellapart.cli.{verb.replace('-', '_')}").command.help.strip().endswith(".")


def test_every_command_has_a_description_and_every_flag_a_help_line() -> None:
    for name, command in every_command().items():
        assert command.help, name
        for param in command.params:
            assert not isinstance(param, click.Option) or param.help, f"{name} {param.opts}"


def test_every_example_in_a_help_text_is_a_command_with_known_flags() -> None:
    known = every_command()
    examples = [e for c in known.values() for e in re.findall(r"tellapart ([^·\n\"]+)", c.epilog or "")]
    assert len(examples) >= 8
    for example in examples:
        name = next(name for name in known if f"{example} ".startswith(f"{name} "))
        flags = {opt for param in known[name].params for opt in param.opts}
        assert set(re.findall(r"(?<!\S)--[a-z-]+", example)) <= flags, example


def test_version_is_the_version_of_the_package(tmp_path: Path) -> None:
    assert tellapart(tmp_path, "--version")[:2] == (0, f"tellapart {__version__}\n")


def test_without_a_word_the_help_is_shown_and_it_is_no_error(tmp_path: Path) -> None:
    done = tellapart(tmp_path)
    assert "Start here: tellapart train digits" in done.out + done.err
    assert "error:" not in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("tran", "There is no verb 'tran'. Did you mean 'train'?"),
        ("zzz", "There is no verb 'zzz'."),
        ("--verson", "There is no flag --verson. Did you mean --version?"),
        ("train --epoch 2", "There is no flag --epoch. Did you mean --epochs?"),
        ("data sho", "There is no verb 'sho'. Did you mean 'show'?"),
        ("test", "Missing argument 'MODEL'."),
        ("board --port 70000", "70000 is not in the range 1<=x<=65535"),
    ],
)
def test_a_mistyped_command_is_a_usage_error_with_the_nearest_word(tmp_path: Path, words: str, said: str) -> None:
    done = tellapart(tmp_path, *words.split())
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_the_flags_are_the_frozen_ones() -> None:
    """A new, renamed or lost flag is a decision: renew with OVERWRITE=1."""
    lines = []
    for name, command in sorted(every_command().items()):
        flags = sorted(max(p.opts, key=len) for p in command.params if isinstance(p, click.Option))
        lines.append(f"{name}: {' '.join(flags)}".rstrip(" "))
    golden("flags.txt", "\n".join(lines) + "\n")


def test_the_flags_of_train_are_those_of_the_recipe_with_its_help_and_default() -> None:
    options = {opt: p for p in every_command()["train"].params if isinstance(p, click.Option) for opt in p.opts}
    defaults = Recipe().values()
    flagged = {path: rule for path, rule in rules() if rule.flag}
    assert len(flagged) >= 10
    for path, rule in flagged.items():
        said = options[rule.flag].help or ""
        default = defaults[path]
        words = "auto" if default is None else "none" if default == "" else default
        assert rule.help[1:] in said
        assert said.endswith(f"[{path}; default: {words}]")


# --- config -----------------------------------------------------------------------------------------------------------


def shown(at: Path, *words: str) -> dict[str, str]:
    """`config show WORDS` as {"key = value": origin}; the keys are unique across sections here."""
    done = tellapart(at, "config", "show", *words)
    assert done.code == 0, done.err
    return dict(re.findall(r"^(\w+ = \S+)  # (.*)$", done.out, re.M))


def test_config_show_says_where_each_value_is_from(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[train]\nepochs = 3\nseed = 4\nbatch_size = 8\n")
    said = shown(tmp_path, "--recipe", "mine.toml", "--seed", "5", "--set", "train.batch_size=16")
    assert said["epochs = 3"] == "recipe mine.toml"
    assert said["seed = 5"] == "--seed"
    assert said["batch_size = 16"] == "--set"
    assert said["save_every = 0"] == "default"


def test_config_show_prints_the_whole_recipe_as_toml_that_reads_back(tmp_path: Path) -> None:
    text = tellapart(tmp_path, "config", "show").out
    assert Recipe.from_toml(text) == Recipe()
    assert {f"{section}.{key}" for section, keys in tomllib.loads(text).items() for key in keys} == set(dict(rules()))
    assert "batch_size = 64  # default" in text


def test_sgd_takes_momentum_nesterov_and_weight_decay(tmp_path: Path) -> None:
    sets = [
        word for name in ("momentum=0.9", "nesterov=true", "weight_decay=5e-4") for word in ("--set", f"optim.{name}")
    ]
    said = shown(tmp_path, "--optimizer", "sgd", *sets)
    assert said['name = "sgd"'] == "--optimizer"
    assert {said[value] for value in ("momentum = 0.9", "nesterov = true", "weight_decay = 0.0005")} == {"--set"}


def test_config_show_explain_says_what_each_setting_means(tmp_path: Path) -> None:
    out = tellapart(tmp_path, "config", "show", "--explain").out
    assert all(f"  # {rule.help} (" in out for _, rule in rules())


def test_config_show_run_prints_the_recipe_as_it_was_used(tmp_path: Path) -> None:
    done = train(tmp_path, "a", "digits", "--model", "linear", "--epochs", "1", "--no-test")
    text = (done.run("a").folder / "recipe.toml").read_text()
    assert tellapart(tmp_path, "config", "show", "--run", "a").out == text
    (tmp_path / "again.toml").write_text(text)
    assert train(tmp_path, "b", "--recipe", "again.toml", "--no-test").run("b").status()["model"] == "linear"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_that_asks_tellapart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    done = tellapart(tmp_path, "completion", shell)
    assert done.code == 0
    assert f"_TELLAPART_COMPLETE={shell}_complete" in done.out
    words = {"COMP_WORDS": "tellapart tra", "COMP_CWORD": "tra" if shell == "fish" else "1"}
    for name, value in {**words, "_TELLAPART_COMPLETE": f"{shell}_complete"}.items():
        monkeypatch.setenv(name, value)
    assert "train" in tellapart(tmp_path).out


# --- data -------------------------------------------------------------------------------------------------------------


def test_data_list_names_what_can_be_had_and_why_not(tmp_path: Path) -> None:
    lines = {line.split()[0]: line for line in tellapart(tmp_path, "data", "list").out.splitlines()}
    assert "50,000   10,000       10  32 x 32 RGB" in lines["cifar10"]
    assert "not classification" in lines["coco"]
    sets = json.loads(tellapart(tmp_path, "data", "list", "--json").out)["sets"]
    assert {"digits", "cifar10", "coco"} <= {entry["name"] for entry in sets}


def test_data_show_counts_every_class(tmp_path: Path) -> None:
    summed = json.loads(tellapart(tmp_path, "data", "show", "digits", "--json").out)
    assert summed["total"] == sum(summed["parts"]["unplaced"]) == 1797
    assert re.search(r"^ +all +1,797$", tellapart(tmp_path, "data", "show", "digits").out, re.M)


def test_data_show_lists_and_describes_pictures(tmp_path: Path) -> None:
    rows = tellapart(tmp_path, "data", "show", "digits", "--list").out.splitlines()
    assert (len(rows), rows[3]) == (1797, "digits/0003\t3")
    said = tellapart(tmp_path, "data", "show", "digits", "--index", "3").out
    assert said == "picture 3: digits/0003, 8 x 8 grey, values 0 to 239, class 3 3\n"
    none = tellapart(tmp_path, "data", "show", "digits", "--index", "1797")
    assert (none.code, "There is no picture 1797; the data has 1797." in none.err) == (2, True)


def test_data_show_draws_exports_and_writes_for_tensorboard(tmp_path: Path) -> None:
    words = ("--out", "grid.png", "--export", "pixels.npy", "--tensorboard", "board", "--most", "10")
    assert tellapart(tmp_path, "data", "show", "digits", *words).code == 0
    with Image.open(tmp_path / "grid.png") as image:
        assert image.format == "PNG"
    assert np.load(tmp_path / "pixels.npy").shape == (10, 8, 8, 1)
    assert len(list((tmp_path / "board").glob("events.out.tfevents.*"))) == 1


def test_data_show_of_a_part_that_is_empty_says_so(tmp_path: Path) -> None:
    make_folder(tmp_path / "pets")
    done = tellapart(tmp_path, "data", "show", "pets", "--part", "test", "--out", "grid.png")
    assert done.code in (2, 3)
    assert "test" in done.err
    assert not (tmp_path / "grid.png").exists()


def test_data_batch_says_shapes_types_and_the_batches_of_an_epoch(tmp_path: Path) -> None:
    out = tellapart(tmp_path, "data", "batch", "digits", "--batch-size", "32").out
    assert "as stored   (32, 8, 8, 1) torch.uint8" in out
    assert "as input    (32, 1, 8, 8) torch.float32" in out
    assert "labels      (32,) torch.int64" in out
    assert "an epoch    40 batches, the last of 11, 1,259 training pictures" in out


def test_data_get_without_a_way_to_the_files_says_what_to_do(tmp_path: Path) -> None:
    done = tellapart(tmp_path, "data", "get", "cifar10", "--root", "files", "--from", "http://127.0.0.1:9/")
    assert done.code == 3
    assert "could not be fetched" in done.err
    assert "--from" in done.err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# --- model, runs, board, doctor ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "weights", "code"), [("quick", 145_578, 1), ("small", 72_954, 0), ("resnet18", 11_181_642, 0)]
)
def test_model_check_counts_the_weights_and_remarks(tmp_path: Path, name: str, weights: int, code: int) -> None:
    done = tellapart(tmp_path, "model", "check", name, "--size", "32", "--channels", "3")
    assert done.code == code
    assert done.out.startswith(f"{name}: (2, 3, 32, 32) -> (2, 10), {weights:,} parameters, ")
    assert ("remark: in quick a layer with weights follows another 4 times" in done.out) == bool(code)


def test_model_check_refuses_a_size_that_does_not_fit(tmp_path: Path) -> None:
    done = tellapart(tmp_path, "model", "check", "quick", "--size", "4")
    assert (done.code, done.out) == (2, "")
    assert "quick cannot be built for 4 pixels: it halves the picture three times and needs at least 8" in done.err


def test_runs_are_listed_by_validation_and_the_unfinished_last(tmp_path: Path) -> None:
    assert "There is no run in" in tellapart(tmp_path, "runs").out
    train(tmp_path, "a-poor", "digits", "--model", "linear", "--epochs", "1", "--no-test")
    train(tmp_path, "b-good", "digits", "--epochs", "1")
    assert tellapart(tmp_path, "train", "digits", "--lr", "1e9", "--run", "0-wild").code == 5
    rows = tellapart(tmp_path, "runs").out.splitlines()[1:]
    assert [row.split()[:2] for row in rows] == [["b-good", "finished"], ["a-poor", "finished"], ["0-wild", "diverged"]]
    listed = json.loads(tellapart(tmp_path, "runs", "--json").out)["runs"]
    assert [row["name"] for row in listed] == ["b-good", "a-poor", "0-wild"]
    assert listed[0]["test"]["n"] == 269
    assert listed[1]["test"] is None


def test_board_dry_run_prints_the_command_with_an_absolute_folder_and_the_port(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    words = tellapart(tmp_path, "board", "--dry-run", "--port", "6123").out.split()
    assert words[words.index("--logdir") + 1] == str(tmp_path / "runs")
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert words[words.index("--port") + 1] == "6123"
    assert tellapart(tmp_path, "board", "--dry-run", "--runs", "none").code == 3


def test_doctor_names_every_package_with_its_version(tmp_path: Path) -> None:
    done = tellapart(tmp_path, "doctor", "--json")
    findings = {finding["name"]: finding for finding in json.loads(done.out)["findings"]}
    assert {"python", "cuda available", "driver", "device used", "data folder", *REQUIRED} <= set(findings)
    assert all(re.match(r"\d+\.\d", findings[name]["value"]) for name in REQUIRED)
    assert done.code == int(any(finding["trouble"] for finding in findings.values()))
    assert [line.split("  ")[0] for line in tellapart(tmp_path, "doctor").out.splitlines()] == list(findings)


def test_the_doctor_sees_a_torch_that_torchvision_was_not_built_for() -> None:
    (found,) = pair("2.15.0+cu132", "==2.11.0")
    assert found.value == "mismatched"
    assert "torch 2.15.0 is installed, this torchvision needs torch ==2.11.0" in found.trouble
    assert [finding.trouble for finding in pair("2.15.0+cpu", "==2.15.0")] == [""]
    assert pair("2.11.0", ">=2.14.0")[0].value == "mismatched"
    assert pair("2.15.0", ">=2.14.0")[0].value == "belong together"
    assert pair("", "==2.15.0") == pair("2.15.0", "") == []
