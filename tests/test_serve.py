"""`tellapart serve`: the same answers as `predict`, over HTTP; what is refused, and how; and its end."""

import asyncio
import contextlib
import json
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Done, tellapart, train
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import make_folder
from PIL import Image
from served import CHILD, Served, bombs, drained, file_of, inside, needed, planted, png, raw, serving, wait_until

from tellapart.errors import UsageError, WorkerError
from tellapart.models.bundle import Bundle, load_bundle

needed("starlette", "uvicorn", "httpx")
import httpx  # noqa: E402 - only where it is there
from starlette.responses import Response  # noqa: E402

from tellapart.web.batches import Batches  # noqa: E402
from tellapart.web.counts import Counts  # noqa: E402
from tellapart.web.guard import Guard  # noqa: E402
from tellapart.web.readers import Bounds  # noqa: E402
from tellapart.web.site import Asked, Door, Limits, Site  # noqa: E402
from tellapart.workflow.serve import FILES, Service, Stopped  # noqa: E402
from tellapart.workflow.why import pictures_of  # noqa: E402

HOSTILE = "<script>alert(1)</script>'\"&"


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The run `a` on four classes, one of them with a hostile name."""
    at = tmp_path_factory.mktemp("pets")
    make_folder(at / "pets", classes=("cat", "dog", "fox", "hen"), size=24)
    return train(at, "a", "pets", "--epochs", "6", "--batch-size", "8", "--label-map", f"hen={HOSTILE}")


@pytest.fixture(scope="module")
def bundle(pets: Done) -> Bundle:
    return load_bundle(pets.run("a").bundle)


@pytest.fixture(scope="module")
def served(pets: Done, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    at = tmp_path_factory.mktemp("served")
    with serving(at, str(pets.run("a").bundle)) as served:
        yield served


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=60) as client:
        yield client


# --- answers ----------------------------------------------------------------------------------------------------------


def test_it_says_where_it_answers_in_one_line(served: Served) -> None:
    assert served.said == f"model.safetensors answers at {served.url}  (Ctrl-C ends it)\n"


def test_its_answers_are_those_of_predict(pets: Done, client: httpx.Client) -> None:
    files = sorted((pets.at / "pets").rglob("*.png"))[::7]
    done = tellapart(pets.at, "predict", "a", *map(str, files), "--json", "--top-k", "3")
    for file, one in zip(files, json.loads(done.out)["predictions"], strict=True):
        said = client.post("/api/predict?top=3", content=file.read_bytes()).json()
        assert (said["width"], said["height"]) == (one["width"], one["height"]) == (24, 24)
        assert [each["class"] for each in said["top"]] == [each["class"] for each in one["top"]]
        for each, other in zip(said["top"], one["top"], strict=True):
            assert each["probability"] == pytest.approx(other["probability"], abs=1e-6)
        assert said["unknown"] == (one["doubt"] or "").startswith("unknown")
        assert said["answer"] == (None if said["unknown"] else said["top"][0]["class"])


def test_the_samples_get_the_answers_that_travel_with_them(bundle: Bundle, client: httpx.Client) -> None:
    assert [one["class"] for one in client.get("/api/model").json()["goldens"]] == [one.name for one in bundle.goldens]
    for n, golden in enumerate(bundle.goldens):
        file = client.get(f"/api/golden?n={n}")
        assert (file.headers["content-type"], file.content) == ("image/png", golden.file)
        said = client.post("/api/predict", content=file.content).json()
        shares = {one["index"]: one["probability"] for one in said["top"]}
        assert [shares[k] for k in range(4)] == pytest.approx(list(golden.shares), abs=1e-6)


def test_what_is_like_no_class_is_unknown_and_what_is_sure_enough_keeps_a_promise(bundle: Bundle) -> None:
    async def said(**bounds: Any) -> tuple[str | None, bool, float | None]:
        async with inside(replace(bundle, **bounds)) as client:
            found = (await client.post("/api/predict", content=bundle.goldens[0].file)).json()
        return found["answer"], found["unknown"], found["promise"]

    name = bundle.goldens[0].name
    assert asyncio.run(said(known=1e6, promises={0.9: 0.0, 0.99: 1.1})) == (None, True, None)
    assert asyncio.run(said(known=-1e6, promises={0.9: 0.0, 0.95: 0.0, 0.99: 1.1})) == (name, False, 0.95)
    assert asyncio.run(said(known=None, promises={})) == (name, False, None)


@pytest.mark.parametrize("turn", [1, 6])
def test_the_size_of_a_large_photograph_is_that_of_its_file(client: httpx.Client, turn: int) -> None:
    """Decoded at a half it is 1,025 on both sides, so that its own sides do not tell how it lies."""
    how = Image.Exif()
    how[0x0112] = turn
    photograph = file_of(Image.new("RGB", (2050, 2049)), "JPEG", exif=how)
    said = client.post("/api/predict", content=photograph).json()
    assert (said["width"], said["height"]) == ((2050, 2049) if turn == 1 else (2049, 2050))


def test_a_class_is_asked_for_by_its_number_too(client: httpx.Client, bundle: Bundle) -> None:
    said = client.post("/api/heat", params={"index": 2}, content=png(1)).json()
    assert said["class"] == bundle.classes[2]
    for query in ({"index": 4}, {"index": -1}, {"index": 1, "class": "dog"}):
        wrong = client.post("/api/heat", params=query, content=png(1))
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "wrong_query")


def test_a_heat_map_comes_with_what_why_says_of_it(pets: Done, client: httpx.Client) -> None:
    file = min((pets.at / "pets").rglob("*.png"))
    (one,) = json.loads(tellapart(pets.at, "why", "a", str(file), "--class", "dog", "--json").out)["pictures"]
    said = client.post("/api/heat", params={"class": "dog"}, content=file.read_bytes()).json()
    (heat,) = one["heat"]
    assert (said["class"], said["informative"], said["verdict"]) == ("dog", heat["informative"], heat["verdict"])
    assert said["without_hottest"] == pytest.approx(heat["without_hottest"], abs=1e-5)
    assert said["picture"].startswith("data:image/png;base64,")
    wrong = client.post("/api/heat", params={"class": "cow"}, content=file.read_bytes())
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (422, "unknown_class")


def test_a_run_shows_its_nearest_training_pictures_when_it_may(pets: Done, client: httpx.Client) -> None:
    file = min((pets.at / "pets").rglob("*.png"))
    (one,) = json.loads(tellapart(pets.at, "why", "a", str(file), "--nearest", "6", "--json").out)["pictures"]
    run, said = pets.run("a"), []
    with contextlib.chdir(pets.at):
        pictures = pictures_of(run, load_bundle(run.bundle).preprocess, lambda *_: None)

    async def work() -> None:
        async with inside(load_bundle(run.bundle), pictures=pictures) as client:
            said.append((await client.get("/api/model")).json()["nearest"])
            said.append((await client.post("/api/nearest", content=file.read_bytes())).json())

    asyncio.run(work())
    offered, found = said
    assert offered
    assert [each["class"] for each in found["nearest"]] == [each["class"] for each in one["nearest"]]
    for each, other in zip(found["nearest"], one["nearest"], strict=True):
        assert each["distance"] == pytest.approx(other["distance"], abs=1e-4)
        assert other["key"] not in json.dumps(found)
    assert client.get("/api/model").json()["nearest"] is False
    refused = client.post("/api/nearest", content=file.read_bytes())
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_offered")
    done = tellapart(pets.at, "serve", str(run.bundle.rename(pets.at / "m.safetensors")), "--nearest", "--port", "0")
    (pets.at / "m.safetensors").rename(run.bundle)
    assert (done.code, done.out) == (2, "")
    assert "Only a run knows its training pictures; this is a model file." in done.err


def test_the_card_the_metrics_and_the_description(client: httpx.Client, pets: Done) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    card = client.get("/api/card")
    assert card.headers["content-type"].startswith("text/markdown")
    assert "# model.safetensors" in card.text
    client.post("/api/predict", content=png(1))
    metrics = client.get("/metrics").text.splitlines()
    values = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in metrics if not line.startswith("#")}
    n = values['tellapart_requests_total{path="/api/predict",status="200"}']
    bins = [v for name, v in values.items() if name.startswith('tellapart_request_seconds_bucket{path="/api/predict"')]
    assert 1 <= n <= bins[-1] == values['tellapart_request_seconds_count{path="/api/predict"}']
    assert bins == sorted(bins)
    described = client.get("/openapi.json").json()
    assert not [path for path in described["paths"] if "{" in path]
    doors = {*described["paths"], *FILES}
    assert {path for path in doors if client.request("PATCH", path).status_code == 405} == doors
    for path, methods in described["paths"].items():
        assert (
            client.request("PATCH", path).headers["allow"] == {"get": "GET, HEAD", "post": "POST"}[next(iter(methods))]
        )


def test_two_hundred_pictures_of_sixteen_clients_are_never_mixed(served: Served, bundle: Bundle) -> None:
    files = [png(n, side=24, grey=False) for n in range(200)]
    with httpx.Client(base_url=served.url, timeout=60, limits=httpx.Limits(max_connections=16)) as client:

        def shares(file: bytes) -> list[float]:
            top = client.post("/api/predict?top=4", content=file).json()["top"]
            return [one["probability"] for one in sorted(top, key=lambda one: one["index"])]

        alone = np.array([shares(file) for file in files])
        with ThreadPoolExecutor(16) as pool:
            together = np.array(list(pool.map(shares, files)))
    apart = np.abs(alone[:, None] - alone[None]).max(-1) + np.eye(len(files))
    assert apart.min() > 1e-5  # each picture has an answer of its own
    assert np.abs(alone - together).max() < 1e-6


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "how", "status", "code"),
    [
        ("GET", "/nothing", {}, 404, "not_found"),
        ("GET", "/static/../../etc/passwd", {}, 404, "not_found"),
        ("GET", "/%2e%2e%2f%2e%2e%2fetc/passwd", {}, 404, "not_found"),
        ("GET", "/api/predict", {}, 405, "wrong_method"),
        ("POST", "/api/model", {}, 405, "wrong_method"),
        ("GET", "/api/golden?n=4", {}, 400, "wrong_query"),
        ("GET", "/api/golden?n=-1", {}, 400, "wrong_query"),
        ("GET", "/api/golden?n=../x", {}, 400, "wrong_query"),
        ("GET", "/api/model?path=/etc/passwd", {}, 400, "wrong_query"),
        ("POST", "/api/predict?top=0", {"content": b"x"}, 400, "wrong_query"),
        ("POST", "/api/predict?top=3&top=4", {"content": b"x"}, 400, "wrong_query"),
        ("POST", "/api/predict?%ff=3", {"content": b"x"}, 400, "wrong_query"),
        ("POST", "/api/predict", {"content": b""}, 422, "not_a_picture"),
        ("POST", "/api/predict", {"content": b"<svg onload=alert(1)>"}, 422, "not_a_picture"),
        ("POST", "/api/predict", {"content": png(1)[:60]}, 422, "not_a_picture"),
        ("POST", "/api/predict", {"content": b"x" * 20_000_001}, 413, "too_many_bytes"),
        ("POST", "/api/predict", {"files": {"file": png(1)}}, 415, "wrong_type"),
        ("POST", "/api/predict", {"data": {"url": "http://localhost"}}, 415, "wrong_type"),
        ("POST", "/api/predict", {"json": {"path": "/etc/passwd"}}, 415, "wrong_type"),
    ],
)
def test_what_is_wrong_is_refused_in_words(client, method, path, how, status, code) -> None:
    answer = client.request(method, path, **how)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert set(error) == {"code", "message", "hint"}
    assert error["message"].endswith(".")
    assert not any(word in answer.text for word in ("Traceback", ".py", "/root", "/tmp", "etc", "starlette", "uvicorn"))
    assert {"x-content-type-options", "content-security-policy"} <= set(answer.headers)
    assert not {"server", "access-control-allow-origin"} & set(answer.headers)


def test_each_bomb_is_refused_by_its_header(client: httpx.Client) -> None:
    found, began = {}, time.monotonic()
    for name, bomb in bombs().items():
        assert len(bomb) < 1_000_000
        answer = client.post("/api/predict", content=bomb)
        found[name] = (answer.status_code, answer.json()["error"]["code"])
    assert found == dict.fromkeys(found, (413, "too_many_pixels"))
    assert time.monotonic() - began < 10  # nobody waits for more of a body that is there


def test_what_is_no_http_is_told_so_and_the_server_goes_on(served: Served) -> None:
    post = b"POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    close = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nX: "
    for request, status, code in (
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "not_http"),
        (post + b"Content-Length: -5\r\n\r\nhello", 400, "not_http"),
        (post + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400, "not_http"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "not_http"),
        (close + b"a" * 20_000 + b"\r\n\r\n", 431, "head_too_long"),
    ):
        head, _, body = raw(served, request).partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} ".encode())
        assert json.loads(body)["error"]["code"] == code
    assert httpx.get(f"{served.url}health").status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:{port}", 200),
        ("localhost:{port}", 200),
        ("LOCALHOST", 200),
        ("[::1]:{port}", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("evil.example:{port}", 421),
        ("localhost.", 421),
        ("127.0.0.1:{port}@evil.example", 421),
        ("0.0.0.0:{port}", 421),
        ("127.1", 421),
        ("2130706433", 421),
        ("192.168.0.1", 421),
        ("", 421),
        ("localhost:99999999", 421),
    ],
)
def test_it_answers_to_its_own_names_only(client: httpx.Client, served: Served, host: str, status: int) -> None:
    assert client.get("/api/model", headers={"host": host.format(port=served.port)}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "{own}"}, 200),
        ({"origin": "{own}", "sec-fetch-site": "same-origin"}, 200),
        ({"origin": "null"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:1"}, 403),
        ({"origin": "{own}.evil.example"}, 403),
        ({"origin": "http://localhost:{port}"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"origin": ""}, 403),
    ],
)
def test_it_takes_pictures_from_its_own_page_and_from_programs(client, served, headers, status) -> None:
    own = {key: value.format(own=served.url.rstrip("/"), port=served.port) for key, value in headers.items()}
    assert client.post("/api/predict", content=png(1), headers=own).status_code == status


# --- who may ask ------------------------------------------------------------------------------------------------------


def test_with_a_token_only_the_page_and_its_health_are_open(bundle: Bundle) -> None:
    token = "a-token-of-twenty-one"

    async def work() -> None:
        async with inside(bundle, token=token) as client:
            opened = [(await client.get(path)).status_code for path in (*FILES, "/health")]
            assert set(opened) == {200}
            closed = [await client.get(path) for path in ("/api/model", "/api/card", "/api/golden", "/metrics")]
            assert {one.status_code for one in closed} == {401}
            wrong = {"authorization": "Bearer a-token-of-twenty-two"}
            assert (await client.post("/api/enter", headers=wrong)).status_code == 401
            assert (await client.get("/api/model", params={"token": token})).status_code == 401
            assert (await client.post("/api/predict", content=png(1))).json()["error"]["code"] == "token_needed"
            bearer = {"authorization": f"Bearer {token}"}
            assert (await client.post("/api/predict", content=png(1), headers=bearer)).status_code == 200
            entered = await client.post("/api/enter", headers=bearer)
            kept = entered.headers["set-cookie"]
            assert (entered.status_code, token in kept) == (204, False)
            assert "HttpOnly; SameSite=Strict" in kept
            assert (await client.post("/api/predict", content=png(1))).status_code == 200  # by the cookie
            client.cookies.clear()
            forged = {"cookie": kept.replace("=", "=0", 1)}
            assert (await client.get("/api/model", headers=forged)).status_code == 401

    asyncio.run(work())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--host", "0.0.0.0"), "Others can reach 0.0.0.0, and this server would answer everyone."),
        (("--token", "short"), "A token has at least 16 letters, digits or signs of ASCII; this one has 5."),
        (("--host", "no.such.host.invalid"), "There is no address called 'no.such.host.invalid' on this machine."),
        (("--host", "192.0.2.1"), "192.0.2.1, port 0, cannot be used: "),
        (("--allow-host", "https://x"), "'https://x' is no name of a host, which looks like box.example"),
    ],
)
def test_what_cannot_be_served_is_said(pets: Done, words: tuple[str, ...], said: str) -> None:
    done = tellapart(pets.at, "serve", "a", "--port", "0", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


@pytest.mark.parametrize(
    "name", ["https://x", "x:80", "x/y", "a b", "", "*", "::1", "m\u00fcnchen.example", "\u212a.example"]
)
def test_a_name_that_no_request_can_have_is_refused(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        Guard(hosts=("box.example", name))
    assert refused.value.message == f"'{name}' is no name of a host, which looks like box.example or 192.0.2.1."
    assert refused.value.exit_code == 2


def test_a_port_that_is_taken_is_said(pets: Done, served: Served) -> None:
    done = tellapart(pets.at, "serve", "a", "--port", str(served.port))
    assert (done.code, done.out) == (2, "")
    assert f"Port {served.port} is taken by another program." in done.err


def test_without_its_libraries_the_error_names_the_extra(pets: Done, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = tellapart(pets.at, "serve", "a")
    assert (done.code, done.out) == (2, "")
    assert "starlette is not installed." in done.err
    assert "pip install 'tellapart[serve]'" in done.err


def test_a_dry_run_serves_nothing(pets: Done) -> None:
    done = tellapart(pets.at, "serve", "a", "--port", "0", "--dry-run")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("a would answer at http://127.0.0.1:")


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_a_picture_that_kills_or_holds_its_decoder_costs_itself_alone(bundle: Bundle) -> None:
    async def work() -> None:
        async with inside(bundle, child=CHILD, seconds=1.0, processes=2) as client:
            hang = asyncio.create_task(client.post("/api/predict", content=png(1) + b"HANG"))
            good = [(await client.post("/api/predict", content=png(n))).status_code for n in range(5)]
            crash = await client.post("/api/predict", content=png(2) + b"CRASH")
            assert good == [200] * 5
            assert crash.json()["error"]["code"] == "cannot_be_decoded"
            assert (await hang).json()["error"]["code"] == "too_slow_to_decode"
            again = [(await client.post("/api/predict", content=png(n))).status_code for n in range(4)]
            assert again == [200] * 4
            assert "tellapart_readers_died_total 2" in (await client.get("/metrics")).text

    asyncio.run(work())


def test_what_needs_too_much_memory_is_refused(bundle: Bundle) -> None:
    large = file_of(Image.new("RGBA", (3900, 3900), (1, 2, 3, 4)), compress_level=1)

    async def work() -> None:
        async with inside(bundle, memory=220 << 20) as client:
            error = (await client.post("/api/predict", content=large)).json()["error"]
            assert error["code"] == "too_much_memory"
            assert (await client.post("/api/predict", content=png(1))).status_code == 200

    asyncio.run(work())


def test_a_child_that_does_not_begin_is_said(bundle: Bundle) -> None:
    async def work() -> None:
        async with inside(bundle, child="raise SystemExit(3)"):
            pass

    with pytest.raises(WorkerError, match=r"The process that decodes pictures ended with 3 before it read one\."):
        asyncio.run(work())


@pytest.fixture(scope="module")
def tight(pets: Done) -> Iterator[Served]:
    limits = {"bytes": 100_000, "all_bytes": 150_000, "body_seconds": 1.5, "requests": 4}
    with planted(pets.run("a").bundle, slow=0.3, **limits) as served:
        yield served


HEAD = b"POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def test_slow_and_endless_and_too_many_bodies_are_given_up(tight: Served) -> None:
    assert raw(tight, HEAD + b"Content-Length: 99\r\n\r\nabc", seconds=5).startswith(b"HTTP/1.1 408 ")
    piece = b"4000\r\n" + bytes(0x4000) + b"\r\n"
    assert raw(tight, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + piece * 20).startswith(b"HTTP/1.1 413 ")
    assert raw(tight, HEAD + b"Content-Length: 99999999999999999999\r\n\r\nabc").startswith(b"HTTP/1.1 413 ")
    with tight.connect() as first, tight.connect() as second:
        for line in (first, second):  # each within its bounds, both too much: the older one goes
            line.sendall(HEAD + b"Content-Length: 95000\r\n\r\n" + bytes(90_000))
        assert first.recv(99).startswith(b"HTTP/1.1 429 ")
    assert httpx.post(f"{tight.url}api/predict", content=png(1)).status_code == 200


def gone(served: Served) -> int:
    """How many clients have gone away."""
    text = httpx.get(f"{served.url}metrics").text
    return int(text.partition("\ntellapart_gone_total ")[2].split()[0])


def test_more_than_it_can_do_is_refused_at_once_and_who_leaves_is_forgotten(tight: Served) -> None:
    with httpx.Client(base_url=tight.url, timeout=30) as client, ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda n: client.post("/api/predict", content=png(n)), range(12)))
    refused = [one for one in answers if one.status_code == 429]
    assert {one.status_code for one in answers} == {200, 429}
    assert {one.headers["retry-after"] for one in refused} == {"1"}
    picture, before = png(5), gone(tight)
    for _ in range(3):
        with tight.connect() as line:
            line.sendall(HEAD + f"Content-Length: {len(picture)}\r\n\r\n".encode() + picture)
    assert wait_until(lambda: gone(tight) == before + 3)
    assert "tellapart_requests_under_way 0" in httpx.get(f"{tight.url}metrics").text


# --- the end ----------------------------------------------------------------------------------------------------------


def stopped_while_looking(served: Served, sent: signal.Signals, **headers: str) -> tuple[int, int]:
    """The status of a heat map that is under way when a signal comes, and how the server ends."""
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=served.url, headers=headers, timeout=60) as client:
        looking = pool.submit(client.post, "/api/heat", content=png(1, side=24))
        wait_until(lambda: "under_way 1" in httpx.get(f"{served.url}metrics", headers=headers).text, seconds=3)
        served.process.send_signal(sent)
        return looking.result().status_code, served.process.wait(60)


def test_others_are_let_in_by_a_token_that_is_shown_once_and_sigterm_lets_answers_out(pets: Done) -> None:
    with serving(pets.at, "a", "--host", "0.0.0.0", "--token", "auto", "--allow-host", "Box.example") as served:
        assert served.process.stdout
        word, _, token = served.process.stdout.readline().strip().partition(" ")
        assert (word, len(token)) == ("token:", 32)
        own = socket.gethostname()
        exposed = f"Others reach it at http://{own}:{served.port}/ and every address of this machine: "
        assert served.process.stdout.readline().startswith(exposed)
        bearer = {"authorization": f"Bearer {token}"}
        for host, status in (("box.example", 200), (own, 200), ("127.0.0.1", 200), ("other.example", 421)):
            assert httpx.get(f"{served.url}api/model", headers={**bearer, "host": host}).status_code == status
        assert httpx.get(f"{served.url}api/model").status_code == 401
        assert stopped_while_looking(served, signal.SIGTERM, **bearer) == (200, 0)
        assert (served.process.stdout.read(), served.process.stderr.read()) == ("", "")  # pyright: ignore[reportOptionalMemberAccess]


def test_who_was_under_way_at_sigterm_is_answered_though_no_new_client_is_taken(pets: Done, tmp_path: Path) -> None:
    assert drained(pets.run("a").bundle, 12, tmp_path) == {"requests": 12, "answered": 12, "exit": 0}


def test_who_cannot_be_answered_before_the_end_is_told_so_and_the_server_ends(pets: Done, tmp_path: Path) -> None:
    with planted(pets.run("a").bundle, gate=tmp_path / "open", drain=(4, 3)) as served, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(httpx.post, f"{served.url}api/predict", content=png(1), timeout=60)
        assert wait_until(lambda: "under_way 1" in httpx.get(f"{served.url}metrics").text)
        served.process.send_signal(signal.SIGTERM)
        answer = waiting.result()
        (tmp_path / "open").touch()  # a network at work cannot be interrupted
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "stopping")
        assert served.process.wait(60) == 0


def test_a_map_that_nobody_waits_for_ends_before_the_next_layer(bundle: Bundle) -> None:
    service = Service(bundle, "a", device=torch.device("cpu"), guard=Guard(), bounds=Bounds(), limits=Limits())
    black = service._subject(np.zeros((8, 8, 3), np.uint8), (8, 8))
    seen = service._looked("", black)
    assert seen["informative"] in (True, False)
    service.close()  # as when it ends
    with pytest.raises(Stopped):
        service._looked("", black)


def test_nothing_that_is_sent_is_kept_and_ctrl_c_lets_answers_out(pets: Done, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    places = {"TMPDIR": str(tmp_path / "tmp"), "HOME": str(tmp_path), "TELLAPART_CACHE": str(tmp_path)}
    with serving(tmp_path, str(pets.run("a").bundle), env=places) as served:
        assert httpx.post(f"{served.url}api/predict", content=png(1, side=24), timeout=60).status_code == 200
        assert httpx.post(f"{served.url}api/predict", content=bombs()["PNG"]).status_code == 413
        assert stopped_while_looking(served, signal.SIGINT) == (200, 130)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


# --- the parts --------------------------------------------------------------------------------------------------------


def test_batches_wait_for_what_is_on_the_way_and_for_nothing_else() -> None:
    async def work() -> tuple[list[int], list[list[int]]]:
        seen: list[list[int]] = []

        def answer(squares: Sequence[np.ndarray]) -> list[int]:
            seen.append([int(one[0]) for one in squares])
            if 99 in seen[-1]:
                raise RuntimeError("planted")
            return [10 * int(one[0]) for one in squares]

        coming = [1]
        batches = Batches(answer, most=3, coming=lambda: coming[0])
        running = asyncio.create_task(batches.run())
        asked = [asyncio.create_task(batches.ask(np.array([n]))) for n in range(5)]
        await asyncio.sleep(0)
        asked[1].cancel()  # its client went away
        found = [await one for n, one in enumerate(asked) if n != 1]
        with pytest.raises(RuntimeError, match="planted"):
            await batches.ask(np.array([99]))
        coming[0] = 0
        found.append(await batches.ask(np.array([7])))
        running.cancel()
        batches.close()
        return found, seen

    found, seen = asyncio.run(work())
    assert found == [0, 20, 30, 40, 70]
    assert seen == [[0, 2], [3, 4], [99], [7]]


@settings(max_examples=150, deadline=None)
@given(
    path=st.lists(
        st.sampled_from(
            ["..", "%2e", "/", "\\", "\0", "etc", "passwd", "api", "page.js", "predict", "~", ":", " ", "é"]
        )
    ).map("".join),
    host=st.one_of(st.just("localhost"), st.text(st.characters(codec="latin-1"), max_size=30)),
    method=st.sampled_from(["GET", "POST", "PUT", "TRACE", "CONNECT", "gEt"]),
    query=st.binary(max_size=30),
)
def test_whatever_is_asked_only_the_table_is_answered(path: str, host: str, method: str, query: bytes) -> None:
    counts, said = Counts(), []

    async def open_door(asked: Asked) -> Response:
        return Response(b"canary")

    doors = {"/canary": Door(method="GET", answer=open_door)}
    site = Site(doors=doors, guard=Guard(), counts=counts, limits=Limits())

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        said.append(message)

    headers = [(b"host", host.encode("latin-1"))]
    scope = {"type": "http", "method": method, "path": f"/{path}", "query_string": query, "headers": headers}
    asyncio.run(site({**scope, "server": ("127.0.0.1", 80)}, receive, send))
    assert said[0]["status"] == (404 if host.lower() == "localhost" else 421)
    assert b"canary" not in said[1]["body"]
    assert {of for of, _ in counts.requests} == {"other"}
    asyncio.run(
        site(
            {**scope, "headers": [(b"host", b"localhost")], "path": "/canary", "method": "GET", "query_string": b""},
            receive,
            send,
        )
    )
    assert said[-1]["body"] == b"canary"


def test_what_should_not_happen_gets_a_number_and_shows_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    async def broken(asked: Asked) -> Response:
        raise RuntimeError("/secret/path\n\x1b[31m")

    site = Site(doors={"/x": Door(method="GET", answer=broken)}, guard=Guard(), counts=Counts(), limits=Limits())

    async def work() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=site), base_url="http://localhost") as client:
            return await client.get("/x")

    answer = asyncio.run(work())
    error, shown = answer.json()["error"], capsys.readouterr().err
    number = error["message"].removeprefix("Something unexpected happened, number ").removesuffix(".")
    assert (answer.status_code, error["code"], len(number)) == (500, "unexpected", 8)
    assert "secret" not in answer.text
    assert shown == f"error {number}: RuntimeError: '/secret/path\\n\\x1b[31m'\n"
