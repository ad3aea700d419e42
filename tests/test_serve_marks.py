"""`tellapart serve` where a picture may have several classes: the answers of `predict`, and a page that shows each."""

import asyncio
import json
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from commands import Done, tellapart, train
from marked import SHAPES, make_marked
from PIL import Image
from served import inside, needed, serving

from tellapart.models.bundle import Bundle, load_bundle

needed("starlette", "uvicorn", "httpx")

import httpx  # noqa: E402 - only where it is there

from tellapart.workflow.why import pictures_of  # noqa: E402


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The run `a` on pictures of no to three shapes, and a dark picture of none."""
    at = tmp_path_factory.mktemp("shapes")
    make_marked(at / "shapes", 240)
    dark = np.random.default_rng(9).integers(0, 40, (16, 16, 3), np.uint8)
    Image.fromarray(dark).save(at / "dark.png")
    return train(at, "a", "shapes/labels.csv", "--several", ";", "--epochs", "20", "--set", "model.width=8")


@pytest.fixture(scope="module")
def bundle(shapes: Done) -> Bundle:
    return load_bundle(shapes.run("a").bundle)


def test_its_answers_are_those_of_predict(shapes: Done) -> None:
    files = [*sorted((shapes.at / "shapes" / "img").glob("*.png"))[:12], shapes.at / "dark.png"]
    done = tellapart(shapes.at, "predict", "a", *map(str, files), "--json")
    said: dict[str, Any] = {}
    with serving(shapes.at, "a") as served, httpx.Client(base_url=served.url, timeout=60) as client:
        for file, one in zip(files, json.loads(done.out)["predictions"], strict=True):
            said = client.post("/api/predict", content=file.read_bytes()).json()
            assert said["said"] == one["said"]
            assert (said["answer"], said["unknown"], said["promise"]) == (None, False, None)
            assert [each["class"] for each in said["top"]] == [each["class"] for each in one["top"]]
            for each, other in zip(said["top"], one["top"], strict=True):
                assert each["probability"] == pytest.approx(other["probability"], abs=1e-6)
        model, card = client.get("/api/model").json(), client.get("/api/card").text
        described = client.get("/openapi.json").json()["components"]["schemas"]
    assert said["said"] == []  # the dark picture, the last
    bundle = load_bundle(shapes.run("a").bundle)
    assert tuple(model["thresholds"]) == bundle.thresholds
    assert set(said) == set(described["Answer"]["properties"])
    assert set(model) == set(described["Model"]["properties"])
    assert "| micro F1 |" in card


def test_a_class_is_said_from_its_own_threshold_on_also_one_that_is_not_among_the_likeliest(bundle: Bundle) -> None:
    golden = bundle.goldens[0]
    least = min(range(3), key=lambda k: golden.shares[k])

    async def work(share: float) -> dict[str, Any]:
        thresholds = [1.0] * 3
        thresholds[least] = share
        async with inside(replace(bundle, thresholds=tuple(thresholds))) as client:
            return (await client.post("/api/predict?top=1", content=golden.file)).json()

    said = asyncio.run(work(golden.shares[least] - 1e-6))
    assert said["said"] == [bundle.classes[least]]
    assert said["top"][0]["class"] != bundle.classes[least]
    assert asyncio.run(work(golden.shares[least] + 1e-6))["said"] == []


def test_the_heat_map_of_a_class_is_that_of_why_and_the_nearest_have_all_their_classes(shapes: Done) -> None:
    run, file, said = shapes.run("a"), shapes.at / "shapes" / "img" / "000.png", []
    (one,) = json.loads(tellapart(shapes.at, "why", "a", str(file), "--class", SHAPES[1], "--json").out)["pictures"]
    pictures = pictures_of(run, load_bundle(run.bundle).preprocess, lambda *_: None)

    async def work() -> None:
        async with inside(load_bundle(run.bundle), pictures=pictures) as client:
            heat = client.post("/api/heat", params={"class": SHAPES[1]}, content=file.read_bytes())
            said.append((await heat).json())
            said.append((await client.post("/api/nearest", content=file.read_bytes())).json()["nearest"])

    asyncio.run(work())
    (heat,), (found, near) = one["heat"], said
    assert (found["class"], found["verdict"]) == (SHAPES[1], heat["verdict"])
    assert [each["class"] for each in near][:5] == [each["class"] for each in one["nearest"]]


def test_the_page_shows_every_class_with_its_bar_and_says_those_over_their_threshold(shapes: Done) -> None:
    needed("playwright")
    from playwright.sync_api import expect, sync_playwright

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no chromium is installed")
    bundle = load_bundle(shapes.run("a").bundle)
    with serving(shapes.at, "a") as served, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page, wrong = browser.new_page(locale="en-GB", viewport={"width": 360, "height": 740}), []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(served.url)
        expect(page.locator("#lead")).to_contain_text("Finds in a picture any of 3 classes")
        for n, golden in enumerate(bundle.goldens):
            with page.expect_response("**/api/predict?top=100"):
                page.locator("#goldens button").nth(n).click()
            every = zip(golden.shares, bundle.classes, bundle.thresholds, strict=True)
            said = [name for share, name, least in sorted(every, reverse=True) if share >= least]
            expect(page.locator(".headline bdi")).to_have_text(said)
            expect(page.locator(".bars li:not(.faint) bdi")).to_have_text(said)
            expect(page.locator(".bars li")).to_have_count(3)
        place = {name: f"{100 * one:.1f} %" for name, one in zip(bundle.classes, bundle.thresholds, strict=True)}
        for row in page.locator(".bars li").all():
            assert place[row.locator("bdi").inner_text()] in row.locator("small").inner_text().replace("\u00a0", " ")
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        page.set_input_files("#file", shapes.at / "dark.png")
        expect(page.locator(".headline")).to_have_text("None of the classes")
        page.click("[data-language=zh-Hans]")
        expect(page.locator(".headline")).to_have_text("不含任何一类")
        assert wrong == []
        browser.close()
