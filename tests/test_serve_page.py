"""The page of `tellapart serve` in a real browser: a picture in, the answer read, the heat map asked for."""

import base64
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import train
from pictures import make_folder
from served import Served, needed, planted, png

from tellapart.models.bundle import load_bundle, save_bundle

needed("starlette", "uvicorn", "playwright")
from playwright.sync_api import Browser, Page, expect, sync_playwright  # noqa: E402 - only where it is there

HOSTILE = "<script>alert(1)</script>"
TOKEN = "a-token-of-twenty-one"
DROP = """([data, name]) => {
  const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, {type: name.endsWith('.txt') ? 'text/plain' : 'image/png'}));
  document.getElementById('drop').dispatchEvent(new DragEvent('drop', {dataTransfer: transfer, bubbles: true}));
}"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of four classes; the one of its last sample has a hostile name."""
    at = tmp_path_factory.mktemp("pets")
    make_folder(at / "pets", classes=("cat", "dog", "fox", "hen"), size=24)
    path = train(at, "a", "pets", "--epochs", "6", "--batch-size", "8").run("a").bundle
    bundle = load_bundle(path)
    *others, last = bundle.goldens
    classes = tuple(HOSTILE if name == last.name else name for name in bundle.classes)
    save_bundle(replace(bundle, classes=classes, goldens=(*others, replace(last, name=HOSTILE))), path)
    return path


@pytest.fixture(scope="module")
def served(model: Path) -> Iterator[Served]:
    with planted(model, token=TOKEN) as served:
        yield served


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no chromium is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--use-fake-device-for-media-stream"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    """The page, entered; whatever it complains of, opens or asks elsewhere fails the test."""
    context = browser.new_context(locale="en-GB", permissions=["camera"])
    page, wrong = context.new_page(), []
    page.on("dialog", lambda one: wrong.append(one.message))
    page.on("pageerror", lambda one: wrong.append(str(one)))
    page.on("console", lambda one: wrong.append(one.text) if one.type == "error" and "401" not in one.text else None)
    page.on(
        "request", lambda one: None if one.url.startswith((served.url, "blob:", "data:")) else wrong.append(one.url)
    )
    page.goto(served.url)
    page.fill("#token", TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector("#goldens button")
    yield page
    context.close()
    assert wrong == []


def dropped(page: Page, file: bytes, name: str = "picture.png") -> None:
    page.evaluate(DROP, [base64.b64encode(file).decode(), name])


def test_a_wrong_token_is_said_and_the_right_one_never_stands_in_the_address(browser: Any, served: Served) -> None:
    page = browser.new_page()
    page.goto(served.url)
    page.fill("#token", "no")
    page.keyboard.press("Enter")
    expect(page.locator("#trouble")).to_contain_text("That is not the token.")
    page.fill("#token", TOKEN)
    page.click("#enter button")
    expect(page.locator("#main")).to_be_visible()
    expect(page.locator("#trouble")).to_be_hidden()
    assert page.url == served.url
    page.reload()
    expect(page.locator("#main")).to_be_visible()  # by the cookie
    page.close()


def test_a_picture_is_dropped_the_answer_read_and_the_heat_map_asked_for(page: Page, model: Path) -> None:
    golden = load_bundle(model).goldens[0]
    dropped(page, golden.file)
    expect(page.locator(".headline bdi")).to_have_text(golden.name)
    said = page.locator(".bars li span").all_inner_texts()
    assert len(said) == 4
    best = float(re.sub(r"[^\d.]", "", said[0]))
    assert best == pytest.approx(100 * max(golden.shares), abs=0.06)
    other = page.locator("#of option").nth(2).inner_text()
    page.select_option("#of", other)
    page.click("#look")
    expect(page.locator("#heat img")).to_have_attribute(
        "alt", f"Heat map of where the network looks for {other}", timeout=60000
    )
    assert page.evaluate("document.querySelector('#heat img').naturalWidth") == 432
    assert re.match(r"This map means (something|nothing)\.", page.inner_text("#heat figcaption p:last-child"))


def test_samples_by_keyboard_in_chinese_and_a_hostile_name_is_text(page: Page, model: Path) -> None:
    page.click("[data-language=zh-Hans]")
    expect(page.locator("#invite")).to_have_text("把图片拖到这里")
    assert page.evaluate("document.documentElement.lang") == "zh-Hans"
    page.locator("#goldens button").last.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".headline bdi")).to_have_text(HOSTILE)
    assert page.locator("#goldens button").last.get_attribute("aria-label") == f"样例：{HOSTILE}"
    page.reload()
    expect(page.locator("#invite")).to_have_text("把图片拖到这里")  # it remembers the language


def test_what_is_no_picture_is_said_and_the_next_one_is_answered(page: Page) -> None:
    dropped(page, b"words", "words.txt")
    expect(page.locator("#trouble")).to_have_text("That is no picture file.")
    address = "transfer.setData('text/uri-list', 'https://box.example/bee.png')"
    with page.expect_response("**/api/predict"):
        dropped(page, png(1))
    expect(page.locator(".bars li")).to_have_count(4)
    page.evaluate(re.sub(r"transfer\.items\.add\(.*\)", address, DROP), [base64.b64encode(b"").decode(), ""])
    expect(page.locator("#trouble")).to_have_text(re.compile("^Only files are taken, no addresses"))
    expect(page.locator(".bars li")).to_have_count(0)  # the answer to the picture before is gone
    page.evaluate("take(new File([new Uint8Array(20000001)], 'x.png', {type: 'image/png'}))")
    expect(page.locator("#trouble")).to_have_text("The picture has 20.0 MB; at most 20 MB are read.")
    with page.expect_response("**/api/predict"):
        page.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": png(1)})
    expect(page.locator(".bars li")).to_have_count(4)
    expect(page.locator("#trouble")).to_be_hidden()


def test_a_picture_is_pasted_and_one_taken_with_the_camera(page: Page) -> None:
    paste = DROP.replace("dataTransfer: transfer", "clipboardData: transfer").replace(
        "DragEvent('drop'", "ClipboardEvent('paste'"
    )
    page.evaluate(paste, [base64.b64encode(png(3)).decode(), "x.png"])
    expect(page.locator(".bars li")).to_have_count(4)
    page.click("#camera")
    expect(page.locator("#video")).to_be_visible()
    with page.expect_response("**/api/predict") as found:
        page.click("#shoot")
    assert found.value.json()["width"] > 100
    expect(page.locator("#video")).to_be_hidden()


def test_no_picture_is_taken_before_the_camera_shows_one(page: Page) -> None:
    page.evaluate("HTMLMediaElement.prototype.play = () => new Promise((_, fail) => { window.fail = fail; }); 0")
    page.click("#camera")
    expect(page.locator("#shoot")).to_be_disabled()
    page.click("#close")
    page.evaluate("fail(new DOMException('closed', 'AbortError'))")
    expect(page.locator("#camera")).to_be_visible()
    expect(page.locator("#trouble")).to_be_hidden()  # closed by its user: nothing went wrong


def test_every_control_has_a_name_and_nothing_is_wider_than_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    dropped(page, png(2))
    expect(page.locator(".bars li")).to_have_count(4)
    page.click("#about summary")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    controls = page.locator("button:visible, input:visible, select:visible, summary:visible, a:visible")
    for control in controls.all():
        assert control.evaluate(
            "e => (e.getAttribute('aria-label') || e.innerText || e.labels?.[0]?.innerText || '').trim()"
        )
    small = controls.evaluate_all("all => all.map(e => e.getBoundingClientRect().height).filter(h => h && h < 24)")
    assert len(small) <= 2  # the links in running text


def test_an_unknown_picture_is_called_so(browser: Browser, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_bundle(replace(load_bundle(model), known=1e6), path)
    with planted(path) as served:
        page = browser.new_page(locale="zh-CN")
        page.goto(served.url)
        page.locator("#goldens button").first.click()
        expect(page.locator(".headline")).to_have_text("未知")
        page.click("[data-language=en]")
        expect(page.locator(".headline")).to_have_text("Unknown")
        expect(page.locator("#answer")).to_contain_text("The picture is like none of the 4 classes.")
        page.close()


def test_the_keyboard_stays_where_it_was_and_words_are_apart(page: Page) -> None:
    """At 320 px, as at 400 % on a desk: what is pressed and then hidden or waited for gives the keyboard to no one."""
    page.set_viewport_size({"width": 320, "height": 640})
    page.locator("#goldens button").first.press("Enter")
    expect(page.locator(".headline")).to_have_text(re.compile(r"^\w+ [\d.<>\s]+%$"))
    page.locator("#look").press("Enter")
    expect(page.locator("#look")).to_be_focused()
    expect(page.locator("#heat img")).to_be_visible(timeout=60000)
    expect(page.locator("#look")).to_be_focused()
    assert page.locator(".scale").inner_text().split() == ["nothing", "hottest"]
    for button in ("#close", "#shoot"):
        page.locator("#camera").press("Enter")
        expect(page.locator("#shoot")).to_be_focused()
        page.locator(button).press("Enter")
        expect(page.locator("#camera")).to_be_focused()
    assert page.get_by_label("for the class").get_attribute("id") == "of"
    assert page.evaluate("document.documentElement.scrollWidth") == 320


@pytest.mark.parametrize("width", [320, 1280])
def test_names_of_a_hundred_thousand_letters_lose_their_middle(
    browser: Browser, model: Path, tmp_path: Path, width: int
) -> None:
    path, bundle = tmp_path / "model.safetensors", load_bundle(model)
    ends = ("1", "2", "", " ")
    long = {name: f"{'x' * 50_000}{end}{'y' * 50_000}" for name, end in zip(bundle.classes, ends, strict=True)}
    goldens = tuple(replace(one, name=long[one.name]) for one in bundle.goldens)
    save_bundle(replace(bundle, classes=tuple(long.values()), goldens=goldens), path)
    with planted(path) as served:
        page = browser.new_page(viewport={"width": width, "height": 700}, locale="en-GB")
        page.goto(served.url)
        page.locator("#goldens button").first.click()
        expect(page.locator(".bars li")).to_have_count(4)
        names = page.locator(".bars bdi").all_inner_texts()
        assert sorted(names) == [f"{n} {'x' * 40}…{'y' * 39}" for n in range(4)]  # which would look alike
        page.click("#look")
        expect(page.locator("#heat img")).to_be_visible(timeout=60000)
        page.click("#about summary")
        assert page.evaluate("document.documentElement.scrollHeight") < 5_000
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert len(page.locator("body").aria_snapshot()) < 10_000
        page.close()
