"""Fetching: from a folder, a file and a server on this machine; proved by md5, never half a file, never twice."""

import hashlib
import http.server
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from serving import serving

from tellapart.data import download
from tellapart.data.download import FILES, fetch, get
from tellapart.data.official import Official
from tellapart.errors import DataError, StorageError, UsageError
from tellapart.names import NAMED_SOURCES

CONTENT = {"images.gz": bytes(range(256)) * 9000, "labels.gz": b"labels"}


def official(*urls: str) -> tuple[Official, ...]:
    return tuple(Official(name, hashlib.md5(raw).hexdigest(), urls) for name, raw in CONTENT.items())


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """Requests to this machine go to this machine."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder that holds the files."""
    home = tmp_path / "mirror"
    home.mkdir()
    for name, raw in CONTENT.items():
        (home / name).write_bytes(raw)
    return home


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT below /sets/, half of it below /half/, and a way to a local file below /away/."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        cast(Server, self.server).asked.append(self.path)
        place, name = self.path.strip("/").split("/")
        if place in ("away", "moved"):
            self.send_response(302)
            self.send_header("Location", f"file:///etc/{name}" if place == "away" else f"/sets/{name}")
            self.end_headers()
            return
        if name not in CONTENT or place not in ("sets", "half", "unsized"):
            self.send_error(404, "Not Found")
            return
        self.send_response(200)
        if place != "unsized":
            self.send_header("Content-Length", str(len(CONTENT[name])))
        self.end_headers()
        self.wfile.write(CONTENT[name][: len(CONTENT[name]) // (2 if place == "half" else 1)])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server()) as made:
        yield made


def check(target: Path) -> None:
    assert names_in(target) == sorted(CONTENT)
    assert all((target / name).read_bytes() == raw for name, raw in CONTENT.items())


def test_download_then_nothing_is_asked_again(tmp_path, server):
    files = official(f"{server.url}/sets/")
    assert fetch(files, tmp_path / "set", title="Set") == [
        "images.gz: downloaded and verified (2.3 MB).",
        "labels.gz: downloaded and verified (6 bytes).",
    ]
    check(tmp_path / "set")
    asked = list(server.asked)
    assert fetch(files, tmp_path / "set", title="Set") == [
        "images.gz: already downloaded and verified.",
        "labels.gz: already downloaded and verified.",
    ]
    assert server.asked == asked == ["/sets/images.gz", "/sets/labels.gz"]


def test_progress_counts_bytes(tmp_path, server):
    seen: list[tuple[int, int | None, str]] = []
    fetch(official(f"{server.url}/sets/"), tmp_path, title="Set", progress=lambda *values: seen.append(values))
    size = len(CONTENT["images.gz"])
    images = [(done, total) for done, total, name in seen if name == "images.gz"]
    assert images[0] == (0, size)
    assert images[-1] == (size, size)
    assert [done for done, _ in images] == sorted(done for done, _ in images)
    seen.clear()
    fetch(official(f"{server.url}/unsized/"), tmp_path / "2", title="Set", progress=lambda *values: seen.append(values))
    assert seen[-1] == (6, None, "labels.gz")


def test_the_second_mirror_is_tried(tmp_path, server):
    said = fetch(official(f"{server.url}/none/", f"{server.url}/moved/"), tmp_path, title="Set")
    assert len(said) == 2
    check(tmp_path)


@pytest.mark.parametrize("spelled", ["{}", "{}/", "file://{}"])
def test_origin_folder_and_file_url(tmp_path, folder, spelled):
    said = fetch(official(), tmp_path / "set", title="Set", origin=spelled.format(folder))
    assert said[0] == "images.gz: copied and verified (2.3 MB)."
    check(tmp_path / "set")


def test_origin_mirror_and_single_file(tmp_path, folder, server):
    fetch(official(), tmp_path / "1", title="Set", origin=f"{server.url}/sets")
    check(tmp_path / "1")
    one = official()[:1]
    fetch(one, tmp_path / "2", title="Set", origin=str(folder / "images.gz"))
    fetch(one, tmp_path / "3", title="Set", origin=f"{server.url}/sets/images.gz")
    fetch(one, tmp_path / "4", title="Set", origin=(folder / "images.gz").as_uri())
    assert all(names_in(tmp_path / n) == ["images.gz"] for n in "234")


def test_origin_that_cannot_be(tmp_path, folder):
    for origin in ("ftp://host/x", "s3://bucket/x", "data://x"):
        with pytest.raises(UsageError, match="is of the kind"):
            fetch(official(), tmp_path / "set", title="Set", origin=origin)
    with pytest.raises(UsageError, match=r"is one file, and labels\.gz is needed as well"):
        fetch(official(), tmp_path / "set", title="Set", origin=str(folder / "images.gz"))
    with pytest.raises(DataError, match=r"nowhere.* cannot be reached: No such file"):
        fetch(official(), tmp_path / "set", title="Set", origin=str(tmp_path / "nowhere"))


def test_wrong_md5_leaves_nothing(tmp_path, folder):
    (folder / "labels.gz").write_bytes(b"other")
    with pytest.raises(DataError, match=r"labels\.gz is not the official file of Set: its md5 is 795f3202b17cb6bc"):
        fetch(official(), tmp_path / "set", title="Set", origin=str(folder))
    assert names_in(tmp_path / "set") == ["images.gz"]


def test_interrupted_download_leaves_no_half_file(tmp_path, server):
    with pytest.raises(DataError, match=r"stopped after 1,152,000 of 2,304,000 bytes|stopped: "):
        fetch(official(f"{server.url}/half/"), tmp_path / "set", title="Set")
    assert names_in(tmp_path / "set") == []


def test_ctrl_c_leaves_no_half_file(tmp_path, folder):
    def stop(done: int, total: int | None, name: str) -> None:
        if done:
            assert [path.suffix for path in (tmp_path / "set").iterdir()] == [".part"]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(official(), tmp_path / "set", title="Set", origin=str(folder), progress=stop)
    assert names_in(tmp_path / "set") == []


def test_no_network_says_what_to_put_where(tmp_path):
    with pytest.raises(DataError) as caught:
        fetch(official("http://127.0.0.1:9/"), tmp_path / "set", title="Set")
    assert "images.gz could not be fetched. http://127.0.0.1:9/images.gz cannot be reached: " in caught.value.message
    assert caught.value.hint.endswith(
        f"Or put images.gz, labels.gz into {tmp_path / 'set'} by hand; they are checked and used from there."
    )


def test_an_answer_of_the_server_is_given(tmp_path, server):
    with pytest.raises(DataError, match=r"/none/images.gz answers 404 Not Found"):
        fetch(official(f"{server.url}/none/"), tmp_path, title="Set")


def test_a_server_cannot_lead_to_a_local_file(tmp_path, server):
    with pytest.raises(DataError, match=r"images.gz (answers 302|cannot be reached)"):
        fetch(official(f"{server.url}/away/"), tmp_path, title="Set")


def test_size_is_bounded(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(download, "MOST", 1000)
    with pytest.raises(DataError, match=r"images\.gz gives more than 1,000 bytes"):
        fetch(official(), tmp_path / "set", title="Set", origin=str(folder))
    assert names_in(tmp_path / "set") == []


def test_a_file_of_yours_is_never_replaced(tmp_path, folder):
    (tmp_path / "images.gz").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"images.gz is not the official file of Set"):
        fetch(official(), tmp_path, title="Set", origin=str(folder))
    assert (tmp_path / "images.gz").read_bytes() == b"mine"


def test_a_place_that_cannot_be_written(tmp_path, folder):
    (tmp_path / "set").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match=r"set/images.gz cannot be written: "):
        fetch(official(), tmp_path / "set", title="Set", origin=str(folder))


def test_get_by_name(tmp_path, folder, monkeypatch):
    assert tuple(FILES) == NAMED_SOURCES
    assert get("digits", tmp_path) == ["digits: comes with tellapart; there is nothing to download."]
    with pytest.raises(UsageError, match=r"Unknown data set 'minst'. Did you mean 'mnist'"):
        get("minst", tmp_path)
    monkeypatch.setitem(FILES, "mnist", official())
    get("mnist", tmp_path, origin=str(folder))
    check(tmp_path / "mnist")
    assert get("mnist", tmp_path)[0] == "images.gz: already downloaded and verified."


@pytest.mark.parametrize("place", ["MNIST/raw", ""])
def test_get_finds_files_in_the_usual_places(tmp_path, monkeypatch, place):
    monkeypatch.setitem(FILES, "mnist", official())
    home = tmp_path / place
    home.mkdir(parents=True, exist_ok=True)
    for name, raw in CONTENT.items():
        (home / name).write_bytes(raw)
    assert [sentence.split(": ")[1] for sentence in get("mnist", tmp_path)] == ["already downloaded and verified."] * 2
