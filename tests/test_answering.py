"""Predict at scale: every way to name pictures, answers in files, and going on after a stop."""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from commands import Done, process, tellapart, train
from pictures import make_folder
from PIL import Image

import tellapart as api
from tellapart.errors import UsageError
from tellapart.workflow.answering import asked_for


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Done:
    at = tmp_path_factory.mktemp("pets")
    make_folder(at / "pets", per_class=30)
    with tarfile.open(at / "pets.tar", "w") as archive:
        for path in sorted((at / "pets/dog").iterdir()):
            archive.add(path, f"dog/{path.name}")
        archive.addfile(tarfile.TarInfo("dog/00.cls"))
    (at / "pets/dog/zz.png").write_bytes(b"no picture")
    done = train(at, "a", "pets", "--epochs", "6", "--batch-size", "8", "--no-test", "--on-bad", "skip")
    train(at, "b", "pets", "--epochs", "1", "--no-test", "--seed", "5", "--on-bad", "skip")
    return done


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def test_a_file_of_answers_has_a_line_for_every_file_and_every_probability(pets: Done) -> None:
    done = tellapart(pets.at, "predict", "a", "pets", "--out", "all.csv")
    assert done.code == 3
    found = rows(pets.at / "all.csv")
    files = [str(path.relative_to(pets.at)) for path in sorted((pets.at / "pets").rglob("*.png"))]
    assert [row["path"] for row in found] == files
    kinds = [("unreadable" if row["error"] else row["doubt"].split(":")[0] or "answered") for row in found]
    said = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("answered", "unknown", "unsure", "unreadable"))
    assert done.out == f"all.csv: 91 pictures: {said}\n"
    assert kinds.count("unreadable") == 1
    model = api.load("a", runs=pets.at / "runs")
    for row in found:
        if row["error"]:
            assert (row["path"], row["error"]) == ("pets/dog/zz.png", "The bytes are not a picture that can be read.")
            continue
        guess = model.predict(pets.at / row["path"])
        assert (row["class"], float(row["probability"])) == (guess.top[0][0], pytest.approx(guess.top[0][2], abs=1e-5))
        for name, _, share in guess.top:
            assert float(row[f"p: {name}"]) == pytest.approx(share, abs=1e-5)
    assert "pictures were in the train part of a" in done.err


def test_json_lines_say_the_same_and_top_k_names_fewer(pets: Done) -> None:
    assert tellapart(pets.at, "predict", "a", "pets/cat", "--out", "cat.jsonl", "--top-k", "2").code == 0
    told = json.loads(tellapart(pets.at, "predict", "a", "pets/cat", "--json", "--top-k", "2").out)["predictions"]
    found = [json.loads(line) for line in (pets.at / "cat.jsonl").read_text().splitlines()]
    assert [(one["path"], one["doubt"], one["error"]) for one in found] == [(t["path"], t["doubt"], None) for t in told]
    for one, other in zip(found, told, strict=True):
        assert [t["class"] for t in one["top"]] == [t["class"] for t in other["top"]]
        assert len(one["top"]) == 2


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("kept", [0, 1, 30, 400, 2000, -7, -1, None])
def test_it_goes_on_wherever_it_was_stopped(pets: Done, kind: str, kept: int | None) -> None:
    whole, path = pets.at / f"whole.{kind}", pets.at / f"torn.{kind}"
    for one in (whole, path):
        one.unlink(missing_ok=True)
        assert tellapart(pets.at, "predict", "a", "pets", "--out", one.name).code == 3
    path.write_bytes(whole.read_bytes()[:kept])
    again = tellapart(pets.at, "predict", "a", "pets", "--out", path.name)
    assert (again.code, again.out.replace("torn", "whole")) == (3, f"whole.{kind}: " + again.out.split(": ", 1)[1])
    assert path.read_bytes() == whole.read_bytes()


def test_what_was_made_by_something_else_is_not_gone_on_with(pets: Done) -> None:
    words = ("predict", "a", "pets/cat", "pets/fox", "--out", "kept.csv")
    assert tellapart(pets.at, *words).code == 0
    before = (pets.at / "kept.csv").read_bytes()
    for other, said in {
        ("predict", "b", *words[2:]): "kept.csv is there already, and is of another model.",
        ("predict", "a", "pets/cat", "--out", "kept.csv"): "and is of another list of pictures.",
        (*words, "--top-k", "1"): "and is of another set of options.",
        (*words, "--views", "mirror"): "and is of another set of options.",
        (*words, "--json"): "--json prints answers, and --out writes them to a file.",
        (*words, "-v"): "--verbose prints answers, and --out writes them to a file.",
        (*words[:-1], "kept.txt"): "kept.txt ends in none of .csv, .jsonl, .parquet.",
    }.items():
        done = tellapart(pets.at, *other)
        assert (done.code, said in done.err) == (2, True), done.err
        assert (pets.at / "kept.csv").read_bytes() == before
    (pets.at / "foreign.csv").write_text("a,b\n1,2\n")
    done = tellapart(pets.at, *words[:-1], "foreign.csv")
    assert (done.code, "foreign.csv is there already, and was not begun by predict." in done.err) == (2, True)
    again = tellapart(pets.at, *words)
    assert (again.code, again.err.splitlines()[0]) == (0, "kept.csv has 60 pictures already")
    assert (pets.at / "kept.csv").read_bytes() == before


def test_pictures_that_changed_meanwhile_are_said(pets: Done, tmp_path: Path) -> None:
    make_folder(tmp_path / "more", classes=("x",), per_class=5)
    words = ("predict", str(pets.run("a").bundle), "more", "--out", "more.csv")
    assert tellapart(tmp_path, *words).code == 0
    (tmp_path / "more/x/02.png").rename(tmp_path / "more/x/99.png")
    done = tellapart(tmp_path, *words)
    assert (done.code, "as its picture 3, and now 'more/x/03.png' is there." in done.err) == (2, True)
    for name in ("03.png", "04.png", "99.png"):
        (tmp_path / "more/x" / name).unlink()
    done = tellapart(tmp_path, *words)
    assert (done.code, "as its picture 3, and now there are fewer." in done.err) == (2, True)


def names(*words: str, stdin: bytes = b"") -> list[str]:
    return [str(one) for one in asked_for(words, io.BytesIO(stdin).read)]


def test_pictures_are_named_in_every_way(pets: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pets.at)
    files = [f"pets/cat/{n:02d}.png" for n in range(30)]
    assert names("pets/cat") == names("pets/cat/*.png") == names(*files) == names("pets/**/cat/*") == files
    assert names("pets.tar") == [f"pets.tar/dog/{n:02d}.png" for n in range(30)]  # and not the label
    for end in ("\n", "\0", "\r\n"):
        assert names("-", stdin=end.join(files).encode()) == files
        assert names("-", stdin=(end.join(files) + end).encode()) == files
    assert names("-", stdin=b"a\nb.png\0c.png\0") == ["a\nb.png", "c.png"]
    assert names("-", stdin=b"\xff.png\n") == [os.fsdecode(b"\xff.png")]
    many = [f"{n}/{'x' * 50}" for n in range(5_000)]  # longer than what is read at once
    assert names("-", stdin="\n".join(many).encode()) == many
    for wrong in ("absent", "absent*", ""):
        with pytest.raises(UsageError, match=f"There is no file or folder '{wrong.replace('*', '.')}"):
            names(wrong)
    with pytest.raises(api.errors.DataError, match="no list of paths"):
        names("-", stdin=b"x" * (3 << 20))


def test_a_shard_is_answered_as_its_files_are(pets: Done) -> None:
    shard, folder = (
        json.loads(tellapart(pets.at, "predict", "a", name, "--json").out)["predictions"]
        for name in ("pets.tar", "pets/dog")
    )
    assert [one["top"][0]["class"] for one in shard] == [one["top"][0]["class"] for one in folder if "error" not in one]
    raw = (pets.at / "pets.tar").read_bytes()
    (pets.at / "cut.tar").write_bytes(raw[: len(raw) // 2])
    done = tellapart(pets.at, "predict", "a", "cut.tar", "--out", "cut.csv")
    *whole, last = csv.DictReader((pets.at / "cut.csv").read_text(encoding="utf-8").splitlines())
    assert (done.code, last["path"], "cut.tar is" in last["error"]) == (3, "cut.tar", True)
    assert [one["path"] for one in whole] == [f"cut.tar/dog/{n:02d}.png" for n in range(len(whole))]
    assert len(whole) > 10


def test_an_archive_is_read_for_what_it_is_or_named_with_what_packed_it(pets: Done, tmp_path: Path) -> None:
    shard, picture = (pets.at / "pets.tar").read_bytes(), (pets.at / "pets/cat/00.png").read_bytes()
    packed = {"gzip": gzip.compress(shard), "bzip2": bz2.compress(shard), "xz": lzma.compress(shard)}
    for kind, raw in packed.items():
        (tmp_path / f"{kind}.tar").write_bytes(raw)
    files = {"p.tgz": shard, "p.tar.GZ": shard, "p.zip": shard, "g.tgz": packed["gzip"], "picture.tgz": picture}
    for name, raw in files.items():
        (tmp_path / name).write_bytes(raw)
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("a.png", picture)
    every = ["gzip.tar", "bzip2.tar", "xz.tar", "z.zip", *files]
    done = tellapart(tmp_path, "predict", str(pets.run("a").bundle), *every, "--json")
    found = {one["path"]: one.get("error", "") for one in json.loads(done.out)["predictions"]}
    read = [f"{name}/dog/{n:02d}.png" for name in ("p.tgz", "p.tar.GZ", "p.zip") for n in range(30)]
    assert (done.code, [path for path, why in found.items() if not why]) == (3, [*read, "picture.tgz"])
    kinds = {path: why.partition(": unpack it")[0] for path, why in found.items() if why}
    by = {"z.zip": "zip", "g.tgz": "gzip"} | {f"{kind}.tar": kind for kind in packed}
    assert kinds == {path: f"It is packed by {kind}" for path, kind in by.items()}


def test_what_is_a_link_is_named_with_its_reason_and_not_left_out(pets: Done, tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "a.png").write_bytes((pets.at / "pets/cat/00.png").read_bytes())
    (tmp_path / "some" / "hard.png").hardlink_to(tmp_path / "some" / "a.png")
    (tmp_path / "some" / "soft.png").symlink_to("a.png")
    with tarfile.open(tmp_path / "some.tar", "w") as archive:
        archive.add(tmp_path / "some", "some")
    (tmp_path / "some" / "linked").symlink_to(pets.at / "pets" / "cat")
    model = str(pets.run("a").bundle)
    done = tellapart(tmp_path, "predict", model, "some.tar", "some", "--json")
    assert done.code == 3
    found = {one["path"]: one.get("error", "") for one in json.loads(done.out)["predictions"]}
    link = "It is a link in the archive; its picture lies elsewhere."
    stored = {path: why for path, why in found.items() if path.startswith("some.tar/")}
    assert sorted(stored.values()) == ["", link, link]
    assert stored["some.tar/some/soft.png"] == link
    assert {path for path, why in found.items() if why and path not in stored} == {"some/linked"}
    assert len(found) == 7


def test_a_tar_answers_and_names_the_files_that_a_folder_does(pets: Done, tmp_path: Path) -> None:
    every, still = tmp_path / "every", Image.open(pets.at / "pets/cat/00.png").convert("RGB")
    (every / "sub").mkdir(parents=True)
    for name in ("a.png", "b.gif", "d.mpo", "sub/e.WEBP", "sub/.hidden.png"):
        more = {"save_all": True, "append_images": [still]} if name == "d.mpo" else {}
        still.save(every / name, **more)
    for name in ("c.avif", "f.heic", "g", "h.npy"):
        (every / name).write_bytes(b"no picture")
    with tarfile.open(tmp_path / "every.tar", "w") as archive:
        archive.add(every, "./every")
        for name in ("a.cls", "a.json", "sub/e.txt"):
            archive.addfile(tarfile.TarInfo(f"./every/{name}"))
        pipe = tarfile.TarInfo("./every/pipe")
        pipe.type = tarfile.FIFOTYPE
        archive.addfile(pipe)
    done = tellapart(tmp_path, "predict", str(pets.run("a").bundle), "every", "every.tar", "--json")
    found = {one["path"]: one.get("error") or one["top"][0]["class"] for one in json.loads(done.out)["predictions"]}
    assert found.pop("every.tar/./every/pipe") == "It is not a regular file."
    inside = {path.removeprefix("every.tar/./"): said for path, said in found.items() if path.startswith("every.tar")}
    assert inside == {path: said for path, said in found.items() if not path.startswith("every.tar")}
    assert {path for path, said in inside.items() if said in ("cat", "dog", "fox")} == {
        f"every/{name}" for name in ("a.png", "d.mpo", "sub/e.WEBP")
    }
    assert (len(inside), done.code) == (8, 3)


def test_a_folder_that_cannot_be_read_is_named(pets: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "shut").mkdir()
    (tmp_path / "open" / "a.png").touch()
    scan = os.scandir

    def refusing(path: str) -> object:  # who runs these tests may be allowed everything
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert names(str(tmp_path)) == [str(tmp_path / "open" / "a.png"), str(tmp_path / "shut")]


def test_the_size_of_a_large_photograph_is_that_of_its_file(pets: Done, tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    for name, shape, exif in (("a", (2600, 2100), Image.Exif()), ("b", (2600, 2100), turned), ("c", (60, 30), turned)):
        Image.new("RGB", shape, "red").save(tmp_path / f"{name}.jpg", exif=exif)
    done = tellapart(tmp_path, "predict", str(pets.run("a").bundle), "a.jpg", "b.jpg", "c.jpg", "-v", "--json")
    sizes = [(one["width"], one["height"]) for one in json.loads(done.out)["predictions"]]
    assert sizes == [(2600, 2100), (2100, 2600), (30, 60)]


def test_what_holds_nothing_is_named_beside_the_answers(pets: Done, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    tarfile.open(tmp_path / "none.tar", "w").close()
    Image.new("L", (8, 8)).save(tmp_path / "one.png")
    done = tellapart(tmp_path, "predict", str(pets.run("a").bundle), "empty", "none.tar", "one.png", "--json")
    found = json.loads(done.out)["predictions"]
    said = ["The folder holds no files.", "The archive holds no pictures.", None]
    assert [(one["path"], one.get("error")) for one in found] == list(
        zip(("empty", "none.tar", "one.png"), said, strict=True)
    )
    assert done.code == 3


def test_a_tar_cut_short_is_named_behind_what_can_be_read(pets: Done, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "whole.tar", "w") as archive:
        for n in range(3):
            Image.new("L", (80, 80), n).save(tmp_path / f"{n}.png", compress_level=0)
            archive.add(tmp_path / f"{n}.png", f"{n}.png")
    (tmp_path / "cut.tar").write_bytes((tmp_path / "whole.tar").read_bytes()[:20_000])  # in the third
    done = tellapart(tmp_path, "predict", str(pets.run("a").bundle), "cut.tar", "0.png", "--json")
    found = json.loads(done.out)["predictions"]
    assert [one["path"] for one in found] == ["cut.tar/0.png", "cut.tar/1.png", "cut.tar", "0.png"]
    assert [("error" in one) for one in found] == [False, False, True, False]
    assert "cut short" in found[2]["error"]
    assert done.code == 3


def test_hostile_names_stay_inert_and_on_one_line(pets: Done, tmp_path: Path) -> None:
    hostile = [
        "=1+1.png",
        "+a.png",
        "-a.png",
        "@a.png",
        "a\nb.png",
        'a"b,c.png',
        "\x1b[2J.png",
        "a\u2028b.png",
        " .png",
    ]
    for number, name in enumerate([*hostile, os.fsdecode(b"\xff.png")]):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / name)
    model = str(pets.run("a").bundle)
    for kind in ("csv", "jsonl"):
        words = ("predict", model, "--out", f"{kind}/a.{kind}", "--", *hostile)
        (tmp_path / kind).mkdir()
        assert tellapart(tmp_path, *words).code == 0
        again = tellapart(tmp_path, *words)
        assert (again.code, again.err) == (0, f"{kind}/a.{kind} has {len(hostile)} pictures already\n")
    text = (tmp_path / "csv/a.csv").read_text()
    assert len(text.splitlines()) == 1 + len(hostile)
    assert [row["path"] for row in rows(tmp_path / "csv/a.csv")][:4] == [f"'{name}" for name in hostile[:4]]
    assert "\x1b" not in text
    kept = [json.loads(line)["path"] for line in (tmp_path / "jsonl/a.jsonl").read_text().splitlines()]
    assert kept == hostile
    odd = os.fsdecode(b"\xff.png")
    assert tellapart(tmp_path, "predict", model, odd, "--out", "odd.jsonl").code == 0
    assert json.loads((tmp_path / "odd.jsonl").read_text())["path"] == odd


def test_memory_stays_the_same_for_many_files(pets: Done, tmp_path: Path) -> None:
    """1,000 more pictures of 77 kB each, decoded, may not cost 40 MB."""
    Image.new("RGB", (160, 160), (1, 2, 3)).save(tmp_path / "one.png")
    grown = []
    for number in (100, 1_100):
        words, environment = process("predict", str(pets.run("a").bundle), "-", "--out", f"{number}.csv")
        told = "import resource as r; print(r.getrusage(r.RUSAGE_SELF).ru_maxrss)"
        asked = f"import sys, atexit; atexit.register(lambda: exec({told!r})); from tellapart.cli import main; main()"
        words = [words[0], "-c", asked, *words[3:]]
        done = subprocess.run(words, cwd=tmp_path, env=environment, input=b"one.png\n" * number, capture_output=True)
        assert done.returncode == 0, done.stderr
        grown.append(int(done.stdout.split()[-1]) * 1024)
    assert grown[1] - grown[0] < 40 << 20
    assert len(rows(tmp_path / "1100.csv")) == 1_100
