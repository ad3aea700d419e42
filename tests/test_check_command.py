"""`tellapart check` as typed, its page and its lists, and the overlay that training reads."""

import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from commands import tellapart
from pictures import make_folder
from PIL import Image
from planted import compressed, natural, save_classes

from tellapart.audit import labels
from tellapart.audit.page import page
from tellapart.data.overlay import overlaid
from tellapart.data.pictures import Pictures, first_pass
from tellapart.data.sources import open_source
from tellapart.data.split import divided
from tellapart.errors import DataError
from tellapart.preprocess import Preprocess
from tellapart.recipe import Recipe
from tellapart.run import Run
from tellapart.workflow.check import CHECKS, check


@pytest.fixture(autouse=True)
def own_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of twelve clean pictures."""
    two = {name: [natural(100 * k + n, width=40, height=40) for n in range(12)] for k, name in enumerate("ab")}
    return save_classes(tmp_path / "photos", two)


def of(root: Path) -> Recipe:
    return Recipe.from_values({"data.source": str(root)})


def spoiled(root: Path) -> Path:
    """The same with a broken file, a copy under the other class and one that was recompressed."""
    (root / "a" / "cut.png").write_bytes((root / "a" / "0000.png").read_bytes()[:2000])
    (root / "b" / "torn.png").write_bytes((root / "a" / "0007.png").read_bytes())
    compressed(Image.open(root / "b" / "0014.png"), 60).save(root / "b" / "again.png")
    return root


def test_clean_pictures_end_with_0_and_spoiled_ones_with_1(tmp_path, photos):
    done = tellapart(tmp_path, "check", "photos")
    assert (done.code, done.err) == (0, "")
    assert re.match(r"photos: 24 files, 24 whole pictures of 2 classes, \d+\.\d s \(every one read whole\)\n", done.out)
    assert "serious" not in done.out + done.err
    assert "warning" not in done.out
    spoiled(photos)
    done = tellapart(tmp_path, "check", "photos")
    assert done.code == 1
    assert done.err == "error: Something serious was found: broken, duplicates-two-labels.\n"
    assert "1 of 27 files truncated or damaged" in done.out
    assert "a/cut.png  " in done.out
    assert "2 of 27 pictures in 1 group: equal pixels under two classes" in done.out
    assert "the same picture changed in two parts, as training would divide them" in done.out


def test_json_has_everything_and_nothing_else_is_on_stdout(tmp_path, photos):
    done = tellapart(tmp_path, "check", str(spoiled(photos)), "--json")
    answer = json.loads(done.out)
    assert (done.code, answer["files"], answer["pictures"], answer["classes"]) == (1, 27, 26, ["a", "b"])
    first = answer["findings"][0]
    assert set(first) == {"kind", "severity", "title", "detail", "files", "fix", "numbers"}
    assert first["numbers"] == {"files": 1, "of": 27}
    assert [name for name, _ in first["files"]] == ["a/cut.png"]


def test_a_second_check_reads_nothing_again_unless_asked_or_changed(tmp_path, photos):
    assert not check(of(photos)).again
    again = check(of(photos))
    assert again.again
    assert [one.kind for one in again.findings] == [one.kind for one in check(of(photos), fresh=True).findings]
    assert not check(of(photos), fresh=True).again
    natural(999, width=40, height=40).save(photos / "a" / "0000.png")
    assert not check(of(photos)).again


def test_only_some_checks(tmp_path, photos):
    done = tellapart(tmp_path, "check", "photos", "--only", "statistics, balance")
    assert "statistics" in done.out
    assert "probes" not in done.out
    done = tellapart(tmp_path, "check", "photos", "--only", "duplicate")
    assert (done.code, done.out) == (2, "")
    assert "Unknown check 'duplicate'. \nhint" not in done.err
    assert "Did you mean 'duplicates'?" in done.err
    assert set(CHECKS) >= {"files", "duplicates", "balance", "shapes", "bursts", "shortcuts", "labels"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["check"], 2, "Missing argument 'SOURCE'."),
        (["check", "nowhere"], 2, "no folder 'nowhere' exists here"),
        (["check", "photos", "--root", "x"], 2, "goes with a named data set"),
        (["check", "photos", "--html", "photos/page.html"], 2, "never written to"),
        (["check", "photos", "--html", "none/page.html"], 4, "cannot be written"),
        (["check", "photos", "--html", ""], 4, "Give the file a name."),
        (["check", "photos", "--html", "x", "--quarantine", "x"], 2, "Two outputs are to be written to x."),
        (["check", "photos", "--htm", "x"], 2, "Did you mean --html?"),
    ],
)
def test_mistakes_of_the_hand(tmp_path, photos, words, code, said):
    done = tellapart(tmp_path, *words)
    assert done.code == code
    assert said in done.err
    assert not list((tmp_path / "photos").glob("*.html"))
    assert code != 2 or not done.out  # refused before minutes of reading


def test_near_copies_that_training_would_tear_are_a_warning_until_they_are_kept_together(tmp_path, photos):
    for path in sorted(photos.glob("*/*.png")):
        compressed(Image.open(path), 60).save(path.with_name(f"again{path.name}"))
    before = tellapart(tmp_path, "split", "photos", "--out", "split.csv")
    assert before.code == 0, before.err
    with (tmp_path / "split.csv").open(newline="") as file:
        part = {row["key"]: row["part"] for row in csv.DictReader(file)}
    torn = sum(part[key] != part[key.replace("again", "")] for key in part)
    assert 0 < torn < 24
    done = tellapart(tmp_path, "check", "photos", "--only", "duplicates", "--json", "--groups-out", "groups.csv")
    warning, info = json.loads(done.out)["findings"]
    assert (done.code, warning["kind"], warning["severity"]) == (0, "near-duplicates-across-parts", "warning")
    assert warning["title"].endswith(
        "changed in two parts, as training would divide them (recompressed, resized, mirrored or grey)"
    )
    assert {note.partition(" · ")[2] for _, note in warning["files"]} > {"train, class a", "test, class b"}
    assert warning["numbers"] == {"pictures": 2 * torn, "groups": torn, "of": 48}
    assert "check with --groups-out groups.csv and train with --split groups.csv" in warning["fix"]
    assert (info["kind"], info["numbers"]["groups"]) == ("near-duplicates", 24 - torn)
    kept = tellapart(tmp_path, "check", "photos", "--only", "duplicates", "--split", "groups.csv")
    assert (kept.code, "near-duplicates-across-parts" in kept.out, "48 of 48 pictures in 24 groups" in kept.out) == (
        0,
        False,
        True,
    )


def test_the_flags_that_choose_pictures_choose_what_is_checked(tmp_path, photos):
    for name in ("a", "b"):
        shutil.copytree(photos / name, tmp_path / "three" / name)
    shutil.copytree(photos / "a", tmp_path / "three" / "c")
    assert tellapart(tmp_path, "check", "three", "--only", "duplicates").code == 1
    done = tellapart(tmp_path, "check", "three", "--only", "duplicates", "--exclude", "c")
    assert (done.code, done.out.splitlines()[-1]) == (0, "nothing was found")
    keys = sorted(path.relative_to(photos).as_posix() for path in photos.glob("*/*.png"))
    shutil.copy(photos / keys[0], photos / "a" / "again.png")
    rows = [f"{key},train" for key in keys] + ["a/again.png,"]
    (tmp_path / "split.csv").write_text("key,part\n" + "\n".join(rows) + "\n")
    assert tellapart(tmp_path, "check", "photos", "--only", "duplicates").code == 0
    done = tellapart(tmp_path, "check", "photos", "--only", "duplicates", "--split", "split.csv")
    assert (done.code, "duplicates-across-parts" in done.out) == (1, True)
    done = tellapart(tmp_path, "check", "photos", "--only", "duplicates", "--split", "splt.csv")
    assert (done.code, "there is no file 'splt.csv'" in done.err) == (2, True)
    assert tellapart(tmp_path, "check", "photos", "--only", "duplicates", "--split", "new").code == 0


def test_from_copies_to_a_split_that_keeps_them_together(tmp_path, photos):
    for path in sorted((photos / "a").iterdir())[:5]:
        compressed(Image.open(path), 60).save(photos / "a" / f"copy-{path.name}")
    done = tellapart(tmp_path, "check", "photos", "--only", "duplicates", "--groups-out", "groups.csv")
    assert f"5 groups to be kept in one part: {tmp_path / 'groups.csv'}" in done.err
    again = tellapart(tmp_path, "check", "photos", "--only", "duplicates", "--groups-out", "groups.csv")
    assert (again.code, "groups.csv exists" in again.err, again.out) == (2, True, "")  # before anything is read
    short = ("--set", "train.max_steps=2", "--no-test", "--run", "one")
    done = tellapart(tmp_path, "train", "photos", "--split", "groups.csv", *short)
    assert done.code == 0, done.err
    with (Run.open(tmp_path / "runs", "one").folder / "split.csv").open(newline="") as file:
        part = {row["key"]: row["part"] for row in csv.DictReader(file)}
    copies = [key for key in part if key.startswith("a/copy-")]
    assert len(copies) == 5
    assert all(part[key] == part[key.replace("copy-", "")] for key in copies)
    assert set(part.values()) == {"train", "validation", "test"}


def test_digits_are_clean(tmp_path):
    done = tellapart(tmp_path, "check", "digits", "--only", "files,duplicates,balance,shapes,bursts")
    assert (done.code, done.out.splitlines()[-1]) == (0, "nothing was found")


def test_the_quarantine_list_names_every_bad_file(tmp_path, photos):
    done = tellapart(tmp_path, "check", str(spoiled(photos)), "--quarantine", "bad.csv", "--only", "files")
    assert "1 files that cannot be read" in done.err
    with (tmp_path / "bad.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["key"] == "a/cut.png"
    assert "truncated" in row["reason"]
    assert (photos / "a" / "cut.png").is_file()


class Reader(HTMLParser):
    """Collects tags and the addresses they name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.names: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.names += [value for name, value in attrs if name in ("src", "href") and value]


def test_the_page_stands_alone(tmp_path, photos):
    done = tellapart(tmp_path, "check", str(spoiled(photos)), "--html", "page.html")
    assert f"page: {tmp_path / 'page.html'}" in done.err
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    seen = Reader(text)
    assert not {"script", "link", "iframe", "object", "form"} & set(seen.tags)
    assert seen.names
    assert all(name.startswith("data:image/") for name in seen.names)
    assert "default-src 'none'" in text
    assert "prefers-color-scheme:dark" in text
    assert "equal pixels under two classes" in text


def test_hostile_names_are_text_on_the_page_and_on_the_screen(tmp_path):
    classes = {"a": [natural(n) for n in range(2)], "b": [natural(n + 9) for n in range(2)]}
    root = save_classes(tmp_path / "photos", classes)
    names = [
        "<img src=x onerror=alert(1)>.png",
        "new\nline\x1b[31m.png",
        b"\xff\xfe.png".decode(errors="surrogateescape"),
    ]
    for name in names:
        (root / "a" / name).write_bytes(b"no picture")
    checked = check(of(root))
    text = page("x</title><script>", [], checked.findings, checked.seen.facts)
    assert "<script" not in text
    assert "<img src=x" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;.png" in text
    assert "\x1b" not in text
    text.encode()
    done = tellapart(tmp_path, "check", "photos", "--quarantine", "bad.csv", "--json")
    assert len(json.loads(done.out)["findings"][0]["files"]) == 3
    done = tellapart(tmp_path, "check", "photos")
    assert "new line" in done.out
    assert "\x1b" not in done.out
    assert b"\xff\xfe.png" in (tmp_path / "bad.csv").read_bytes()


# --- the overlay ------------------------------------------------------------------------------------------------------


@pytest.fixture
def prepared(tmp_path: Path) -> Pictures:
    """36 pictures of three classes, divided."""
    index = open_source(str(make_folder(tmp_path / "pets")))
    decoded = first_pass(index, Preprocess(size=12, channels=3), skip_bad=False, memory=1 << 20)
    placed = divided(decoded.index, validation=0.2, test=0.2, seed=0)
    return Pictures(placed, decoded.preprocess, decoded.pixels)


def row_of(pictures: Pictures, part: str, n: int = 0) -> tuple[int, str, str]:
    index = pictures.index
    row = int(index.rows(part)[n])
    assert index.digests is not None
    return row, index.keys[row], index.digests[row].tobytes().hex()


def written(path: Path, *rows: tuple[str, str, str]) -> str:
    """An overlay of rows of key, digest and decision."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("key", "digest", "given", "suggested", "score", "decision")])
        csv.writer(file).writerows((key, digest, "cat", "dog", "-0.5", decision) for key, digest, decision in rows)
    return str(path)


def test_decisions_change_the_training_part_and_nothing_else(tmp_path, prepared):
    (drop, *dropped), (move, *moved) = row_of(prepared, "train"), row_of(prepared, "train", 1)
    (_, *kept), (_, *test), (_, *held) = (row_of(prepared, part, 2) for part in ("train", "test", "validation"))
    target = "fox" if prepared.index.classes[prepared.index.labels[move]] != "fox" else "cat"
    rows = [
        (*dropped, "drop"),
        (*moved, target),
        (*kept, ""),
        (*test, "drop"),
        (*held, "fox"),
        ("gone.png", "00", "drop"),
    ]
    changed, (said,) = overlaid(prepared, written(tmp_path / "o.csv", *rows))
    before, after = prepared.index, changed.index
    assert len(after) == len(before) - 1
    assert dropped[0] not in set(after.keys)
    assert after.ignored[-1].key == dropped[0]
    assert after.classes[after.labels[list(after.keys).index(moved[0])]] == target
    assert after.counts("test").tolist() == before.counts("test").tolist()
    assert after.counts("validation").tolist() == before.counts("validation").tolist()
    same = [key for key in after.keys if key != moved[0]]
    assert [after.labels[list(after.keys).index(key)] for key in same] == [
        before.labels[list(before.keys).index(key)] for key in same
    ]
    rest = np.setdiff1d(np.arange(len(before)), [drop])
    assert (changed.pixels.gather(np.arange(len(after))) == prepared.pixels.gather(rest)).all()
    assert said.endswith(
        f"1 training pictures dropped, 1 relabelled; left as they are: {test[0]} (test part), "
        f"{held[0]} (validation part), gone.png (no such picture)"
    )


def test_no_overlay_changes_nothing(prepared):
    assert overlaid(prepared, "") == (prepared, [])


def test_a_bad_overlay_is_refused_with_the_line(tmp_path, prepared):
    _, key, digest = row_of(prepared, "train")
    cases = {
        "line 2: 'foxx' is not a decision.": [(key, digest, "foxx")],
        f"line 2: {key} has other pixels": [(key, "0" * 32, "drop")],
        f"line 3: {key} is decided twice": [(key, digest, "drop"), (key, digest, "cat")],
    }
    for part in ("validation", "test"):  # which are left as they are: a word that is no decision is a slip there too
        _, held, pixels = row_of(prepared, part)
        cases[f"line 3: 'foxx' is not a decision. (in {part})"] = [(key, digest, "cat"), (held, pixels, "foxx")]
    for said, rows in cases.items():
        with pytest.raises(DataError, match=re.escape(said.partition(" (in ")[0])):
            overlaid(prepared, written(tmp_path / "o.csv", *rows))
    (tmp_path / "o.csv").write_text("name,choice\n1,2\n")
    with pytest.raises(DataError, match="has no column decision or digest or key"):
        overlaid(prepared, str(tmp_path / "o.csv"))
    (tmp_path / "o.csv").write_text('key,digest,decision\n"a,1,drop\n')
    with pytest.raises(DataError, match="is not CSV"):
        overlaid(prepared, str(tmp_path / "o.csv"))


def test_a_class_may_not_be_dropped_whole(tmp_path, prepared):
    index = prepared.index
    rows = [row for row in index.rows("train").tolist() if index.labels[row] == 1]
    decisions = [(index.keys[row], index.digests[row].tobytes().hex(), "drop") for row in rows]
    assert len(overlaid(prepared, written(tmp_path / "o.csv", *decisions[1:]))[0].index) == len(index) - len(rows) + 1
    with pytest.raises(DataError, match="leaves class 'dog' without a training picture"):
        overlaid(prepared, written(tmp_path / "o.csv", *decisions))


def test_where_not_all_labels_are_looked_at_that_is_said(tmp_path, monkeypatch):
    assert tellapart(tmp_path, "check", "digits", "--limit", "200", "--labels-out", "all.csv").err.count("\n") == 1
    monkeypatch.setattr(labels, "MOST", 100)
    done = tellapart(tmp_path, "check", "digits", "--limit", "199", "--labels-out", "some.csv")
    said = "labels of 100 of 199 pictures were looked at, evenly taken; the others were not\n"
    assert said in done.err
    assert said in done.out
    only = tellapart(tmp_path, "check", "digits", "--limit", "199", "--only", "balance", "--labels-out", "more.csv")
    assert said in only.err


def test_labels_that_could_not_be_judged_are_said_to_be_in_the_report_and_beside_the_list(tmp_path, photos):
    only = ("check", "photos", "--only", "labels,shortcuts")
    done = tellapart(tmp_path, *only, "--labels-out", "doubt.csv", "--html", "page.html")
    said = "abels are not judged: that takes 50 whole pictures, 5 of each class, and at most 1,000 classes; here are 24"
    assert (done.code, done.out.count("not-judged"), done.out.count(said), done.err.count(said)) == (0, 2, 1, 1)
    assert "0 doubtful labels to review" in done.err
    assert said in (tmp_path / "page.html").read_text()
    titles = [one["title"] for one in json.loads(tellapart(tmp_path, *only, "--json").out)["findings"]]
    assert [said in title for title in titles] == [True, False]


def test_from_doubt_to_training(tmp_path):
    rng = np.random.default_rng(0)
    classes: dict[str, list[Image.Image]] = {"low": [], "high": []}
    for n in range(160):
        pixels = rng.integers(0, 60, (24, 24, 3), np.uint8)
        pixels[4 + 10 * (n % 2) : 10 + 10 * (n % 2)] += 120
        wrong = n in (20, 51)
        classes[("low", "high")[n % 2 ^ wrong]].append(Image.fromarray(pixels))
    save_classes(tmp_path / "bars", classes)
    done = tellapart(tmp_path, "check", "bars", "--labels-out", "doubt.csv")
    told = re.search(r"([12]) doubtful labels to review", done.err)
    assert (done.code, told is not None) == (0, True)
    assert f"{told[1] if told else ''} of 160 label" in done.out
    again = tellapart(tmp_path, "check", "bars", "--labels-out", "doubt.csv")
    assert (again.code, "may hold decisions" in again.err, again.out) == (2, True, "")
    with (tmp_path / "doubt.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["decision"] = row["suggested"]
    with (tmp_path / "doubt.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    short = ("--set", "train.max_steps=2", "--no-test", "--run", "one")
    done = tellapart(tmp_path, "train", "bars", "--overlay", "doubt.csv", *short)
    assert done.code == 0, done.err
    said = re.search(r"doubt\.csv: 0 training pictures dropped, (\d) relabelled(.*)", done.err)
    assert said is not None
    assert int(said[1]) + said[2].count(" part)") == len(rows)
    with (Run.open(tmp_path / "runs", "one").folder / "split.csv").open(newline="") as file:
        where = {row["key"]: (row["class"], row["part"]) for row in csv.DictReader(file)}
    for row in rows:
        name, part = where[row["key"]]
        assert name == (row["suggested"] if part == "train" else row["given"])


def test_training_says_what_is_wrong_at_a_first_look(tmp_path, photos):
    for path in sorted((photos / "b").iterdir())[4:]:
        path.unlink()
    for n in range(60):
        natural(5000 + n, width=90, height=30).save(photos / "a" / f"more{n * 3}.png")
    done = tellapart(tmp_path, "train", "photos", "--set", "train.max_steps=2", "--no-test")
    assert done.code == 0, done.err
    assert "Class a has" in done.err
    assert "the centre crop throws away 5" in done.err
    assert "`tellapart check photos` says more" in done.err


def test_pictures_that_are_left_out_for_their_names_are_a_warning(tmp_path, photos):
    lost = {"a/0000": "JPEG", "a/1.jfif": "JPEG", "a/2.heic": "PNG", "b/3.dat": "WEBP", "b/4.raw": "BMP", "b/5": "TIFF"}
    for name, kind in {**lost, "b/6.pic": "PPM", "b/7.gif": "GIF"}.items():
        natural(len(name), width=40, height=40).save(photos / name, kind)
    (photos / "b/8.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    for name, words in (("a/notes.md", "BM is a format"), ("b/paper.pdf", "%PDF-1.4"), ("b/list.txt", "P1 and so on")):
        (photos / name).write_text(words)
    done = tellapart(tmp_path, "check", "photos", "--only", "files", "--most", "20")
    assert done.code == 0
    assert re.match(r"photos: 36 files, 24 whole .* \(every one read whole, but for 12 left out\)\n", done.out)
    warning, info = done.out.split("\n\n")[1:]
    assert warning.startswith("warning  left-out-pictures  9 pictures beside 24 pictures that count are left out")
    assert warning.count(" by its first bytes") == 7
    assert all(name in warning for name in (*lost, "b/6.pic", "b/7.gif  a GIF", "b/8.HEIC  a HEIC photo"))
    assert "→ Give each the ending of what it is (.jpg, .png); convert a HEIC photo" in warning
    assert (info[:4], info.count("is not read")) == ("info", 3)
    for name in ("b/7.gif", "b/8.HEIC"):
        (photos / name).unlink()
    for number, (name, kind) in enumerate({**lost, "b/6.pic": "PPM"}.items()):
        ending = {"JPEG": "jpg", "TIFF": "tif"}.get(kind, kind.lower())
        (photos / name).rename(photos / "a" / f"renamed{number}.{ending}")
    again = tellapart(tmp_path, "check", "photos", "--only", "files").out
    assert ("31 whole pictures" in again, "warning" in again) == (True, False), again


def test_a_class_of_unread_files_is_a_finding_that_exclude_deals_with(tmp_path):
    """Training refuses such a source; `check` opens it, names the files and the flag, and then the flag works."""
    make_folder(tmp_path / "pets", per_class=4)
    assert "empty-classes" not in tellapart(tmp_path, "check", "pets", "--only", "files").out
    (tmp_path / "pets/psd").mkdir()
    for name in ("a.psd", "b.heic", "c.txt"):
        (tmp_path / "pets/psd" / name).write_text("x")
    done = tellapart(tmp_path, "check", "pets", "--only", "files,balance,labels,shortcuts,duplicates", "--json")
    (finding,) = [one for one in json.loads(done.out)["findings"] if one["kind"] == "empty-classes"]
    assert (done.code, finding["severity"]) == (1, "serious")
    assert finding["title"] == "No picture can be read of class psd (3 files not read)"
    assert finding["files"] == [[f"psd/{name}", f".{name[2:]} is not read"] for name in ("a.psd", "b.heic", "c.txt")]
    assert finding["fix"].endswith("--exclude 'psd'")
    for verb in (("train",), ("split",)):
        refused = tellapart(tmp_path, *verb, "pets")
        assert (refused.code, "Class 'psd' has no picture; not read there: psd/a.psd" in refused.err) == (3, True)
    left = tellapart(tmp_path, "check", "pets", "--only", "files,balance", "--exclude", "psd")
    assert (left.code, "empty-classes" in left.out) == (0, False)
    assert tellapart(tmp_path, "split", "pets", "--exclude", "psd").code == 0


def test_a_class_that_lacks_in_one_part_or_whose_pictures_are_all_broken(tmp_path):
    make_folder(tmp_path / "pets", per_class=4, parts=("train", "val"))
    for file in (tmp_path / "pets/val/dog").iterdir():
        file.write_bytes(b"")
    assert tellapart(tmp_path, "check", "pets", "--only", "files", "--split", "new").out.count("of class") == 0
    done = tellapart(tmp_path, "check", "pets", "--only", "files")
    assert "No picture can be read of class dog in validation (4 files not read)" in done.out
    shutil.rmtree(tmp_path / "pets/val/dog")
    done = tellapart(tmp_path, "check", "pets", "--only", "files")
    assert "No picture can be read of class dog in validation (0 files not read)" in done.out
    shutil.move(tmp_path / "pets/val", tmp_path / "other")
    apart = tellapart(tmp_path, "check", "pets", "--only", "files", "--validation-from", "other")
    assert (apart.code, "empty-classes" in apart.out) == (0, False), "what a second source lacks is said, and no fault"
