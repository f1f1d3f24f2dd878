"""Use the app and the server's page as a person does, in headless Chromium; take their pictures.

    pip install playwright
    xray-captioning phantom --out phantoms --studies 10
    xray-captioning app --port 8501 [--bundle ANOTHER]
    xray-captioning serve --port 8080
    python tests/serving/drive_app.py --images phantoms/images/images_normalized --out pictures

With `npm pack axe-core`, `--axe package/axe.min.js` looks for faults of accessibility, too. Chromium is looked for on
the path. Each check prints a line; the first that fails ends it.
"""

import argparse
import hashlib
import json
import shutil
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

SIZES = {"phone": (390, 844), "wide": (1400, 900)}
HEIGHTS = {390: 2060, 1400: 1120}  # of pictures of a whole page
SLOW = 180_000  # milliseconds; the first caption compiles the model


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", default="http://127.0.0.1:8501")
    parser.add_argument("--server", default="http://127.0.0.1:8080")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--axe", type=Path, help="axe.min.js of axe-core")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    # The fifth phantom has two views and two findings.
    files = sorted(options.images.glob("900005_*.png"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for size, (width, height) in SIZES.items():
            for scheme in ("light", "dark"):
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                page.goto(options.url)
                upload(page, files)
                check_width(page, f"{size}, {scheme}")
                check_axe(page, options.axe)
                whole(page, width, options.out / f"app_{size}_{scheme}.png")
                page.close()
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(options.url)
        upload(page, files)
        check_words(page)
        check_downloads(page, options.out)
        check_bad_file(page)
        check_sample(page)
        check_earlier(page)
        check_comparison(page, options.out)
        check_axe(page, options.axe)
        check_link(page)
        page.set_viewport_size({"width": 1000, "height": 810})
        check_server(page, options.server, files, options.out)
        for width in (390, 1280):
            page = browser.new_page(viewport={"width": width, "height": 900})
            check_description(page, options.server, options.axe)
        browser.close()


def check_axe(page: Page, script: Path | None) -> None:
    if script is not None:
        page.evaluate(script.read_text("utf-8"))
        found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
        serious = [one for one in found if one["impact"] in ("serious", "critical")]
        assert not serious, [(one["id"], one["nodes"][0]["html"]) for one in serious]
        print("axe:", [f"{one['impact']}: {one['id']}" for one in found] or "nothing")


def settle(page: Page) -> None:
    page.wait_for_timeout(300)  # until Streamlit has noticed
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
    page.wait_for_timeout(700)  # pictures


def upload(page: Page, files: list[Path]) -> None:
    page.set_input_files("input[type=file]", files)
    page.wait_for_selector(".xc-caption", timeout=SLOW)
    settle(page)
    print("uploaded:", page.inner_text(".xc-caption").replace("\n", " "))


def check_width(page: Page, name: str) -> None:
    wide = page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
    assert not wide, f"{name}: scrolls sideways"
    print(f"{name}: nothing beyond the right edge")


def whole(page: Page, width: int, path: Path) -> None:
    page.set_viewport_size({"width": width, "height": HEIGHTS[width]})
    settle(page)
    page.screenshot(path=path)


def pictures(page: Page) -> str:
    urls = page.get_by_test_id("stImage").locator("img").evaluate_all("all => all.map(i => i.src)")
    assert urls
    content = b"".join(page.request.get(url).body() for url in urls)
    return hashlib.sha256(content).hexdigest()


def check_words(page: Page) -> None:
    seen = {pictures(page)}
    words = page.get_by_role("radiogroup").last.get_by_role("radio")
    for i in range(words.count()):
        words.nth(i).click()
        settle(page)
        seen.add(pictures(page))
    assert len(seen) == words.count() + 1 > 2, "two words have the same overlay"
    print(f"a sentence and its {words.count()} words: {len(seen)} different overlays")


def download(page: Page, label: str) -> bytes:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=label, exact=True).click()
    assert waiting.value.suggested_filename.startswith("caption.")
    return Path(waiting.value.path()).read_bytes()


def check_downloads(page: Page, out: Path) -> None:
    sentences = page.locator(".xc-caption mark").evaluate_all(
        "marks => marks.map(mark => mark.firstChild.textContent.trim())"
    )
    text = download(page, "Text").decode()
    assert text.startswith(" ".join(sentences)), text
    assert "Not for clinical use" in text
    values = json.loads(download(page, "JSON"))
    assert [sentence["text"] for sentence in values["sentences"]] == sentences
    picture = download(page, "Picture")
    assert picture.startswith(b"\x89PNG")
    (out / "caption.png").write_bytes(picture)
    print(f"downloads: text {len(text)}, JSON of {', '.join(values)}, PNG {len(picture)} bytes")


def check_bad_file(page: Page) -> None:
    page.reload()
    bad = {"name": "jane_doe.png", "mimeType": "image/png", "buffer": b"\x89PNG\r\n\x1a\nno"}
    page.set_input_files("input[type=file]", bad)
    page.wait_for_selector('[data-testid="stAlertContentError"]', timeout=SLOW)
    message = page.inner_text('[data-testid="stAlertContentError"]')
    assert message.startswith("image 1: is truncated"), message
    assert "Traceback" not in page.content()
    print("a bad file:", message)


def check_sample(page: Page) -> None:
    """Choose a sample and a word by keyboard alone."""
    page.reload()
    page.get_by_role("radio", name="Sample 1").wait_for()
    tab_to(page, "Sample 1")
    page.keyboard.press("Space")
    page.wait_for_selector(".xc-caption", timeout=SLOW)
    settle(page)
    print("sample 1:", page.inner_text(".xc-caption").replace("\n", " "))
    before = pictures(page)
    words = page.get_by_role("radiogroup").last.get_by_role("radio")
    tab_to(page, words.first.inner_text())
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    settle(page)
    assert pictures(page) != before, "the second word was not chosen"
    print("by keyboard:", page.url.partition("?")[2])


def tab_to(page: Page, text: str) -> None:
    for count in range(40):
        if page.evaluate("document.activeElement.innerText") == text:
            print(f"{text}: {count} times Tab")
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {text}")


def check_earlier(page: Page) -> None:
    first = page.inner_text(".xc-caption")
    page.get_by_role("radio", name="Sample 2").click()
    settle(page)
    assert page.inner_text(".xc-caption") != first
    assert "sample=Sample+2" in page.url
    page.get_by_role("combobox", name="Or a study of before").click()
    page.get_by_role("option", name="Study 1").click()
    settle(page)
    assert page.inner_text(".xc-caption") == first
    assert "sample=Sample+1" in page.url
    print("the study of before is back:", page.url.partition("?")[2])


def check_link(page: Page) -> None:
    words = page.get_by_role("radiogroup", name="or of one word").last.get_by_role("radio")
    words.last.click()
    settle(page)
    parts = ".xc-caption, [data-testid=stImageCaption], .xc-beside"
    shown, seen = page.locator(parts).all_inner_texts(), pictures(page)
    assert page.context.browser
    other = page.context.browser.new_page(viewport=page.viewport_size)
    other.goto(page.url)
    other.wait_for_selector(".xc-caption", timeout=SLOW)
    settle(other)
    assert other.locator(parts).all_inner_texts() == shown
    assert pictures(other) == seen
    assert other.url == page.url
    other.close()
    print("the link shows the same:", page.url.partition("?")[2])


def check_comparison(page: Page, out: Path) -> None:
    chooser = page.get_by_role("combobox", name="Compare with")
    if chooser.is_disabled():
        print("one bundle only: nothing to compare")
        return
    chooser.click()
    page.get_by_role("option").first.click()
    page.wait_for_selector(".xc-beside", timeout=SLOW)
    settle(page)
    whole(page, 1400, out / "app_compare.png")
    print("compared:", page.inner_text(".xc-beside").replace("\n", " "))


def check_description(page: Page, url: str, axe: Path | None) -> None:
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.goto(f"{url}/docs")
    check_width(page, "the API's description")
    check_axe(page, axe)
    page.get_by_role("link", name="Answer").first.click()
    assert page.url.endswith("#Answer")
    assert not told, told


def check_server(page: Page, url: str, files: list[Path], out: Path) -> None:
    page.goto(url)
    page.wait_for_selector("#beam option", state="attached")
    page.set_input_files("#files", files)
    for number, view in enumerate(("frontal", "lateral"), 1):
        page.get_by_role("combobox", name=f"Image {number} shows").select_option(view)
    page.get_by_role("combobox", name="Beam size").select_option("3")
    page.get_by_role("combobox", name="Alternatives").select_option("2")
    page.get_by_role("button", name="Write the caption").click()
    page.wait_for_selector("#caption span", timeout=SLOW)
    check_width(page, "the server's page")
    page.screenshot(path=out / "serving_page.png")
    print("the server's page:", page.inner_text("#caption"))


if __name__ == "__main__":
    main()
