"""The scan of `check`: every file read whole by children with bounds; what cannot be read is named and costs itself."""

import hashlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from pictures import make_folder
from PIL import Image
from planted import encoded, mutants, natural

from tellapart.audit.facts import FACT, SIDE, Facts, fingerprint, keep, kept
from tellapart.audit.scan import Bounds, scan
from tellapart.child import read_frame, write_frame
from tellapart.data.decode import decode
from tellapart.data.identity import digest
from tellapart.data.index import NO_PART, ArrayStore, Index, Strings
from tellapart.data.sources import open_source
from tellapart.data.sources.folder import FileStore
from tellapart.errors import DataError, WorkerError

PLANTED = """
import os, sys, time
from tellapart.audit import worker
plain = worker.decode
def decode(raw):
    if raw[:3] == b"DIE":
        os._exit(9)
    if raw[:5] == b"SLEEP":
        time.sleep(60)
    if raw[:3] == b"EAT":
        return plain(bytes(64 << 30))
    return plain(raw)
worker.decode = decode
worker.main(int(sys.argv[1]))
"""


@pytest.fixture(autouse=True)
def own_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))


def index_of(root: Path, files: dict[str, bytes]) -> Index:
    """An index of one class over these files."""
    for name, raw in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(raw)
    return listed(FileStore(str(root), Strings.of(files)), list(files))


def listed(store: FileStore | ArrayStore, keys: list[str]) -> Index:
    zeros = np.zeros(len(keys), np.int64)
    parts = np.full(len(keys), NO_PART, np.uint8)
    return Index(name="x", classes=("a",), keys=Strings.of(keys), labels=zeros, parts=parts, store=store)


def outcome(facts: Facts) -> dict[str, tuple[str, str]]:
    return {
        key: (bytes(fault).decode(), reason)
        for key, fault, reason in zip(facts.index.keys, facts.table["fault"], facts.reasons, strict=True)
    }


def png(seed: int = 0, **size: int) -> bytes:
    return encoded(natural(seed, **size), "PNG")


def test_each_kind_of_bad_file_is_named_as_what_it_is_and_the_whole_ones_are_read(tmp_path):
    still, moving = natural(1, width=20, height=20), tmp_path / "moving.webp"
    still.save(moving, save_all=True, append_images=[natural(2, width=20, height=20)], duration=100)
    bomb = bytearray(png())
    bomb[16:24] = (60000).to_bytes(4, "big") * 2
    bomb[29:33] = __import__("zlib").crc32(bytes(bomb[12:29])).to_bytes(4, "big")
    lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 5\n"
    facts = scan(
        index_of(
            tmp_path / "pictures",
            {
                "good.png": png(),
                "cut.jpg": encoded(natural(3), "JPEG")[:900],
                "half.png": png(4)[:3000],
                "empty.jpg": b"",
                "lfs.jpg": lfs,
                "page.jpg": b"<!DOCTYPE html><html><body>404</body></html>",
                "draw.png": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
                "note.png": b"this picture was removed by its owner",
                "pdf.jpg": b"%PDF-1.4 \x00",
                "phone.jpg": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1",
                "noise.jpg": bytes(range(128, 256)),
                "moving.webp": moving.read_bytes(),
                "bomb.png": bytes(bomb),
            },
        )
    )
    found = {key: (fault, reason) for key, (fault, reason) in outcome(facts).items() if fault}
    assert {key: fault for key, (fault, _) in found.items()} == {
        "cut.jpg": "broken",
        "half.png": "broken",
        "empty.jpg": "empty",
        "lfs.jpg": "pointer",
        "page.jpg": "page",
        "draw.png": "foreign",
        "note.png": "text",
        "pdf.jpg": "foreign",
        "phone.jpg": "foreign",
        "noise.jpg": "unknown",
        "moving.webp": "animated",
        "bomb.png": "bomb",
    }
    assert found["lfs.jpg"][1] == "It is a git-LFS pointer, not the picture itself."
    assert found["moving.webp"][1] == "The file holds 2 pictures; only still pictures are read."
    assert "truncated" in found["cut.jpg"][1]
    assert facts.whole().tolist() == [0]


def test_the_facts_are_those_of_the_decoded_pixels(tmp_path):
    photo = natural(5, width=40, height=30)
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "turned.jpg", exif=exif)
    deep = np.linspace(0, 65535, 12 * 9).astype(np.uint16).reshape(9, 12)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    photo.convert("CMYK").save(tmp_path / "print.jpg")
    photo.convert("P").save(tmp_path / "palette.png")
    photo.convert("RGBA").save(tmp_path / "alpha.png")
    names = ("turned.jpg", "deep.png", "print.jpg", "palette.png", "alpha.png")
    facts = scan(index_of(tmp_path, {name: (tmp_path / name).read_bytes() for name in names}))
    t = facts.table
    assert set(facts.reasons) == {""}
    assert t["orientation"].tolist() == [6, 1, 1, 1, 1]
    assert t["bits"].tolist() == [8, 16, 8, 8, 8]
    assert [bytes(mode) for mode in t["mode"]] == [b"RGB", b"I;16", b"CMYK", b"P", b"RGBA"]
    assert t["alpha"].tolist() == [False, False, False, False, True]
    for row, name in enumerate(names):
        raw = (tmp_path / name).read_bytes()
        pixels = decode(raw)
        assert (t["height"][row], t["width"][row], t["channels"][row]) == pixels.shape
        assert (t["bytes"][row], t["digest"][row].tobytes()) == (len(raw), digest(pixels))
        share = np.broadcast_to(pixels, (*pixels.shape[:2], 3)) / 255
        assert np.allclose(t["mean"][row], share.mean(axis=(0, 1)), atol=1e-12)
        assert np.allclose(t["square"][row], (share**2).mean(axis=(0, 1)), atol=1e-12)
        assert t["thumb"][row].shape == (SIDE, SIDE, 3)


def test_the_number_of_processes_changes_nothing(tmp_path):
    index = index_of(tmp_path, {f"{n}.png": png(n) if n % 3 else b"x" * n for n in range(13)})
    one, three = (scan(index, bounds=Bounds(processes=n)) for n in (1, 3))
    assert one.table.tobytes() == three.table.tobytes()
    assert list(one.reasons) == list(three.reasons)


def test_pixels_in_arrays_are_checked_as_files_are():
    pixels = np.stack([np.asarray(natural(n, width=16, height=16)) for n in range(3)])
    facts = scan(listed(ArrayStore(pixels), ["0", "1", "2"]))
    assert [row["digest"].tobytes() for row in facts.table] == [digest(one) for one in pixels]
    assert facts.table["bytes"].tolist() == [0, 0, 0]


def test_a_child_that_dies_hangs_or_eats_costs_one_file_each(tmp_path):
    files = {"0.png": png(0), "1.png": b"DIE", "2.png": png(1), "3.png": b"SLEEP", "4.png": b"EAT", "5.png": png(2)}
    bounds = Bounds(seconds=1.5, command=(sys.executable, "-P", "-c", PLANTED))
    found = outcome(scan(index_of(tmp_path, files), bounds=bounds))
    assert found == {
        "0.png": ("", ""),
        "1.png": ("died", "The process that read it ended with 9."),
        "2.png": ("", ""),
        "3.png": ("late", "The process that read it took longer than 1.5 s."),
        "4.png": ("memory", "It needs more memory to be read than a picture may take."),
        "5.png": ("", ""),
    }


def test_a_child_that_cannot_start_is_an_error_of_the_program_not_of_the_pictures(tmp_path):
    index = index_of(tmp_path, {"0.png": png()})
    with pytest.raises(WorkerError, match="ended with 3 before it read one"):
        scan(index, bounds=Bounds(command=(sys.executable, "-c", "raise SystemExit(3)")))
    with pytest.raises(WorkerError, match="cannot be started"):
        scan(index, bounds=Bounds(command=(str(tmp_path / "nothing"),)))


def test_what_cannot_be_read_is_named(tmp_path):
    index = index_of(tmp_path, {"0.png": png(), "gone.png": png(1)})
    (tmp_path / "gone.png").unlink()
    assert outcome(scan(index))["gone.png"] == ("unread", "It cannot be read: No such file or directory.")

    class Failing:
        def read(self, row: int) -> bytes:
            raise DataError("The shard is damaged.")

    other = listed(ArrayStore(np.zeros((1, 4, 4, 1), np.uint8)), ["0"])
    failing = scan(Index(**{**other.__dict__, "store": Failing()}))
    assert outcome(failing)["0"] == ("unread", "The shard is damaged.")


def test_ctrl_c_stops_the_scan_and_leaves_no_child(tmp_path):
    index = index_of(tmp_path, {f"{n}.png": b"SLEEP" for n in range(4)})

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(index, bounds=Bounds(processes=2, command=(sys.executable, "-P", "-c", PLANTED)), progress=stop)


def test_mutated_pictures_of_six_formats_neither_crash_nor_hang_and_each_bad_one_has_a_reason(tmp_path):
    """The whole of it, 2,000 pictures, is scripts/prove/fuzz_pictures.py."""
    files = dict(mutants(150))
    facts = scan(index_of(tmp_path, files), bounds=Bounds(seconds=20, processes=2))
    bad = facts.table["fault"] != b""
    assert 50 < bad.sum() < 150
    assert [bool(reason) for reason in facts.reasons] == bad.tolist()
    for row, raw in enumerate(files.values()):
        try:
            expected = digest(decode(raw))
        except DataError:
            expected = b""
        assert (facts.table["digest"][row].tobytes() if not bad[row] else b"") == expected
    assert not set(facts.table["fault"].tolist()) & {b"died", b"late", b"memory"}


def test_no_picture_is_written_to(tmp_path):
    index = index_of(tmp_path / "p", {"0.png": png(), "1.jpg": b"bad"})

    def seen() -> list[tuple[str, str, int]]:
        return sorted(
            (entry.name, hashlib.md5(Path(entry.path).read_bytes()).hexdigest(), entry.stat().st_mtime_ns)
            for entry in os.scandir(tmp_path / "p")
        )

    before = seen()
    scan(index)
    assert seen() == before


def test_facts_are_kept_and_are_only_those_of_the_same_files(tmp_path):
    index = open_source(str(make_folder(tmp_path / "pets", per_class=2)))
    name, facts = fingerprint(index), scan(index)
    assert kept(index, name) is None
    keep(facts, name)
    again = kept(index, name)
    assert again is not None
    assert (again.table.tobytes(), list(again.reasons)) == (facts.table.tobytes(), list(facts.reasons))
    for n in range(9):
        keep(facts, f"older-{n}")
    assert len(list((tmp_path / "cache" / "checks").iterdir())) == 8
    keep(facts, name)
    for n in range(1, 9):
        (tmp_path / "cache" / "checks" / f"older-{n}.safetensors").unlink(missing_ok=True)
    os.utime(tmp_path / "pets" / "cat" / "00.png", ns=(1, 1))
    assert fingerprint(index) != name
    (file,) = (tmp_path / "cache" / "checks").iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    assert kept(index, name) is None


def test_arrays_have_a_fingerprint_of_their_pixels():
    pixels = np.zeros((2, 4, 4, 1), np.uint8)
    first = fingerprint(listed(ArrayStore(pixels), ["0", "1"]))
    pixels[1, 2, 3] = 1
    assert first
    assert fingerprint(listed(ArrayStore(pixels), ["0", "1"])) != first


def test_a_row_of_facts_has_no_padding():
    assert FACT.itemsize == sum(FACT[name].itemsize for name in FACT.names or ())


def test_the_worker_loads_no_torch():
    import subprocess

    code = "import sys, tellapart.audit.worker; print(sorted({'torch', 'torchvision', 'rich'} & set(sys.modules)))"
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert done.stdout == "[]\n", done.stderr


def test_a_frame_cut_short_ends_the_conversation(tmp_path):
    out = (tmp_path / "frames").open("w+b")
    write_frame(out, b"ab", b"c")
    out.seek(0)
    assert read_frame(out) == b"abc"
    assert read_frame(out) is None
    out.seek(0)
    out.truncate(9)
    assert read_frame(out) is None
    out.close()
