"""Answers to a file: Parquet, one writer at a time, and the same bytes after any stop."""

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import Done, process, tellapart, train
from pictures import make_folder

from tellapart.errors import Terminated
from tellapart.workflow.stopping import Stopping

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals and locks of POSIX")
KINDS = ("csv", "jsonl", "parquet")


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A trained model, pictures of which one is broken and one has an odd name, and a list of 4,600 paths."""
    at = tmp_path_factory.mktemp("pets")
    make_folder(at / "pets", per_class=30)
    done = train(at, "a", "pets", "--epochs", "2", "--batch-size", "8", "--no-test")
    (at / "pets/dog/zz.png").write_bytes(b"no picture")
    (at / "pets/fox/00.png").rename(at / "pets/fox/=1+1, ü.png")
    files = sorted(path.relative_to(at) for path in (at / "pets").rglob("*.png"))
    (at / "list.txt").write_text("".join(f"{path}\n" for path in files) * (4_600 // len(files)), encoding="utf-8")
    return done


@pytest.fixture(scope="module")
def whole(pets: Done) -> dict[str, bytes]:
    """The files of answers to the list that nobody stopped."""
    found = {}
    for kind in KINDS:
        assert ended(asking(pets.at, f"whole.{kind}"), (pets.at / "list.txt").read_bytes())[0] == 3
        found[kind] = (pets.at / f"whole.{kind}").read_bytes()
    return found


def asking(at: Path, out: str) -> subprocess.Popen[bytes]:
    """`tellapart predict a - --out OUT` as a process of its own, which waits for a list."""
    words, environment = process("predict", "a", "-", "--out", out)
    pipe = subprocess.PIPE
    return subprocess.Popen(words, cwd=at, env=environment, stdin=pipe, stdout=pipe, stderr=pipe)


def ended(asked: subprocess.Popen[bytes], rest: bytes | None = None) -> tuple[int, str]:
    """Its exit code, and all that it said."""
    said = b"".join(asked.communicate(rest, timeout=120))
    return asked.returncode, said.decode()


def lines_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.part") if path.suffix == ".parquet" else path


def begun(asked: subprocess.Popen[bytes], path: Path, list_: bytes, *, least: int) -> None:
    """Give it the list without an end, and wait until it has written so many bytes: it cannot end by itself."""
    assert asked.stdin is not None
    asked.stdin.write(list_)
    asked.stdin.flush()
    while not (lines_of(path).exists() and lines_of(path).stat().st_size > least):
        assert asked.poll() is None, ended(asked)
        time.sleep(0.002)


@POSIX
@pytest.mark.parametrize(
    ("kind", "sent", "code", "least"),
    [("csv", signal.SIGINT, 130, 1_000), ("jsonl", signal.SIGTERM, 143, 0), ("parquet", signal.SIGHUP, 143, 200_000)],
)
def test_a_signal_ends_it_after_a_whole_batch_and_the_same_command_goes_on(
    pets: Done, whole: dict[str, bytes], kind: str, sent: signal.Signals, code: int, least: int
) -> None:
    path = pets.at / f"stopped.{kind}"
    asked = asking(pets.at, path.name)
    begun(asked, path, (pets.at / "list.txt").read_bytes(), least=least)
    asked.send_signal(sent)
    name = "Ctrl-C" if code == 130 else sent.name
    went = f"error: Stopped by {name}.\nhint: The same command goes on with {path.name}.\n"
    assert ended(asked) == (code, went)
    number = lines_of(path).read_bytes().count(b"\n") - (kind == "csv")
    assert (number % 64, number > 0) == (0, True)
    assert not list(pets.at.glob(".*"))
    code, said = ended(asking(pets.at, path.name), (pets.at / "list.txt").read_bytes())
    assert (code, f"{path.name} has {number:,} pictures already\n" in said) == (3, True)
    assert path.read_bytes() == whole[kind]
    assert not list(pets.at.glob("*.part")) + list(pets.at.glob(".*"))


@POSIX
@pytest.mark.parametrize(("kind", "moments"), [("csv", (0,)), ("parquet", (0, 200_000))])
def test_killed_it_still_ends_with_the_same_bytes(
    pets: Done, whole: dict[str, bytes], kind: str, moments: tuple[int, ...]
) -> None:
    path = pets.at / f"killed.{kind}"
    for least in moments:
        asked = asking(pets.at, path.name)
        begun(asked, path, (pets.at / "list.txt").read_bytes(), least=least)
        asked.kill()
        ended(asked)
    assert ended(asking(pets.at, path.name), (pets.at / "list.txt").read_bytes())[0] == 3
    assert path.read_bytes() == whole[kind]
    assert not list(pets.at.glob("*.part")) + list(pets.at.glob(".killed*"))


@POSIX
def test_a_second_writer_is_refused(pets: Done, whole: dict[str, bytes]) -> None:
    path, list_ = pets.at / "two.csv", (pets.at / "list.txt").read_bytes()
    asked = asking(pets.at, path.name)
    begun(asked, path, list_, least=0)
    (pets.at / "other").symlink_to(pets.at)
    (pets.at / "other.csv").symlink_to(path.name)
    for out in (path.name, f"other/{path.name}", "other.csv"):
        done = tellapart(pets.at, "predict", "a", "pets", "--out", out)
        assert (done.code, f"error: {out} is being written by process {asked.pid} on " in done.err) == (6, True)
        assert "hint: Wait for it, or stop it.\n" in done.err
    assert ended(asked)[0] == 3
    assert path.read_bytes() == whole["csv"]


def test_parquet_says_what_csv_says_with_numbers_as_numbers(pets: Done) -> None:
    arrow = pytest.importorskip("pyarrow.parquet", reason="pip install 'tellapart[parquet]'")
    for words in ((), ("--top-k", "2"), ("--views", "mirror")):
        for kind in ("csv", "parquet"):
            (pets.at / f"same.{kind}").unlink(missing_ok=True)
            assert tellapart(pets.at, "predict", "a", "pets", "--out", f"same.{kind}", *words).code == 3
        table = arrow.read_table(pets.at / "same.parquet")
        with (pets.at / "same.csv").open(encoding="utf-8", newline="") as file:
            first, *rows = csv.reader(file)
        assert table.column_names == first
        numbers = {"probability", *(name for name in first if name.startswith("p: "))}
        assert {one.name for one in table.schema if str(one.type) == "double"} == numbers
        assert {str(one.type) for one in table.schema} == {"double", "string"}
        found = [["" if one is None else str(one) for one in row.values()] for row in table.to_pylist()]
        assert found == rows


def test_a_whole_parquet_file_is_left_as_it_is(pets: Done) -> None:
    make_folder(pets.at / "more", classes=("x",), per_class=3)
    words = ("predict", "a", "more", "--out", "more.parquet")
    assert tellapart(pets.at, *words).code == 0
    before = (pets.at / "more.parquet").read_bytes()
    (pets.at / "more.parquet.part").write_text("killed before it could be removed")
    again = tellapart(pets.at, *words)
    assert (again.code, again.err.splitlines()[0]) == (0, "more.parquet has 3 pictures already")
    assert again.out == "more.parquet: 3 pictures: " + again.out.split(": ", 2)[2]
    assert not (pets.at / "more.parquet.part").exists()
    (pets.at / "more/x/99.png").write_bytes((pets.at / "more/x/00.png").read_bytes())
    done = tellapart(pets.at, *words)
    assert (done.code, "more.parquet is whole, and there are more pictures now." in done.err) == (2, True)
    done = tellapart(pets.at, *words, "--top-k", "1")
    assert (done.code, "more.parquet is there already, and is of another set of options." in done.err) == (2, True)
    assert (pets.at / "more.parquet").read_bytes() == before
    (pets.at / "more.parquet").write_bytes(before[:100])
    done = tellapart(pets.at, *words)
    assert (done.code, "more.parquet is there already, and is damaged." in done.err) == (2, True)


def test_without_pyarrow_the_extra_is_named(pets: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    done = tellapart(pets.at, "predict", "a", "pets", "--out", "none.parquet")
    assert (done.code, "pyarrow is not installed" in done.err, "tellapart[parquet]" in done.err) == (2, True, True)
    assert not list(pets.at.glob("none*"))


def test_a_folder_that_is_not_there_is_named(pets: Done) -> None:
    done = tellapart(pets.at, "predict", "a", "pets", "--out", "absent/a.csv")
    assert (done.code, "There is no folder '" in done.err, "absent'." in done.err) == (2, True, True)


@POSIX
def test_waiting_ends_at_once_and_work_does_not() -> None:
    with Stopping("Go on.") as stopping:
        work = stopping.waiting(lambda most: signal.raise_signal(signal.SIGTERM) or b"x")
        with pytest.raises(Terminated, match="Stopped by SIGTERM"):
            work(1)
        assert stopping.asked().hint == "Go on."  # type: ignore[union-attr]
        with pytest.raises(Terminated, match="Stopped by SIGTERM"):
            stopping.waiting(lambda most: b"x")(1)
