"""The page that ``export --format web`` writes, and what it says in headless Chromium: what Python says.

The browser's tests need playwright, Chromium on the path, and a folder with onnxruntime-web, as the command writes it:

    xray-captioning export --format web --out page
    ONNXRUNTIME_WEB=page/runtime python -m pytest tests/web
"""

import functools
import http.server
import io
import json
import os
import re
import shutil
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.captioner.test_export import tiny
from tests.serving.parts import encoded
from tests.web.test_pixels import dicom, pydicom
from xray_captioning.bundles.bundle import find_bundle, read_bundle, rewrite_bundle
from xray_captioning.captioner.calibration import UnfamiliarImageWarning, is_unfamiliar, stated
from xray_captioning.cli import main
from xray_captioning.decoders import DECODERS
from xray_captioning.errors import ConfigError, DataError
from xray_captioning.hub.fetch import UnreachableError
from xray_captioning.phantom.dataset import render
from xray_captioning.phantom.studies import sample_study
from xray_captioning.runtime import load
from xray_captioning.web import page as pages

SHIPPED = find_bundle("phantom_attention")
DIST = os.environ.get("ONNXRUNTIME_WEB")


# --- what is written ---


@pytest.fixture
def dist(tmp_path):
    """Stands for the npm package's dist."""
    folder = tmp_path / "dist"
    folder.mkdir()
    for name in (pages.MODULE, pages.BINARY):
        (folder / name).write_text(name)
    return folder


def test_every_file_is_there_and_has_the_digest_that_the_page_names(tmp_path, dist, capsys):
    out = tmp_path / "page"
    assert main(["export", "--format", "web", "--out", str(out), "--wasm-dir", str(dist)]) == 0
    assert "runtime/" in capsys.readouterr().out
    html, about = (out / "index.html").read_text("utf-8"), json.loads((out / "page.json").read_text("utf-8"))
    for name in re.findall(r'(?:src|href|data-wasm)="([^":]+)"', html):
        assert (out / name).is_file(), name
    for source in out.glob("*.js"):
        for name in re.findall(r'from "\./([^"]+)"', source.read_text("utf-8")):
            assert (out / name).is_file(), (source, name)
    for name in (pages.MODULE, pages.BINARY):
        assert pages.integrity(out / "runtime" / name, "sha384") in html
    assert pages.integrity(out / "page.json", "sha256") in html
    for name, digest in about["files"].items():
        assert pages.integrity(out / "bundle" / name, "sha256") == digest
    assert "effusion" in about["findingWords"]
    assert "the" not in about["findingWords"]
    assert "$" not in html
    assert "https:" not in html
    assert read_bundle(out / "bundle", "captioner", exported=True)["export"]["format"] == "onnx"


def test_a_cdn_is_allowed_where_it_is_asked_for_or_npm_does_not_answer(tmp_path, monkeypatch):
    def unreachable(*_):
        raise UnreachableError("no network")

    monkeypatch.setattr(pages, "download", unreachable)
    for number, wasm in enumerate(("cdn", None)):
        out = tmp_path / f"page{number}"
        where = pages.write_page(SHIPPED, out, wasm)
        html = (out / "index.html").read_text("utf-8")
        assert f"connect-src 'self' {where};" in html
        assert f"'wasm-unsafe-eval' {where};" in html
        assert where.startswith("https://")
        assert html.count("sha384-") == 2
        assert not (out / "runtime").exists()


def test_npms_package_is_checked_and_unpacked(tmp_path, monkeypatch):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as package:
        for name in (pages.MODULE, pages.BINARY):
            entry = tarfile.TarInfo(f"package/dist/{name}")
            entry.size = len(name)
            package.addfile(entry, io.BytesIO(name.encode()))
    monkeypatch.setattr(pages, "download", lambda _, part, __: part.content.write_bytes(packed.getvalue()))
    with pytest.raises(DataError, match="not the package that this version was tested with"):
        pages.write_page(SHIPPED, tmp_path / "page")
    assert not list(tmp_path.iterdir())
    (tmp_path / "package").write_bytes(packed.getvalue())
    known = {"package": "a.tgz", "registry": "", "integrity": pages.integrity(tmp_path / "package", "sha512")}
    pages._download(folder := tmp_path / "runtime", known)
    assert sorted(path.name for path in folder.iterdir()) == sorted((pages.MODULE, pages.BINARY))


def test_what_cannot_be_a_page_is_said_and_nothing_is_written(tmp_path, dist, monkeypatch, capsys):
    out = tmp_path / "page"
    with pytest.raises(DataError, match=r"ort\.wasm\.bundle\.min\.mjs: is not there"):
        pages.write_page(SHIPPED, out, str(tmp_path / "nowhere"))
    monkeypatch.setattr(pages, "RESIZES", ("nearest",))
    with pytest.raises(ConfigError, match="resizes images by nearest, not by 'area'"):
        pages.write_page(SHIPPED, out, str(dist))
    assert not out.exists()
    assert main(["export", "--out", str(out), "--wasm-dir", "cdn"]) == 2
    assert "--format web" in capsys.readouterr().err


# --- what it says ---


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, once for all tests."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None or DIST is None:
        pytest.skip("needs Chromium, and ONNXRUNTIME_WEB: see the top of this file")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def opened(browser):
    """Serve a folder on loopback and open it; each visit knows what it asked for."""
    ended = []

    def open_page(folder, routes=()):
        handler = functools.partial(_Quiet, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        visit = browser.new_page(viewport={"width": 1280, "height": 900})
        visit.requests = []
        visit.on("request", lambda request: visit.requests.append(request.url))
        for route in routes:
            visit.route(*route)
        ended.extend((visit.close, server.shutdown, server.server_close))
        visit.goto(f"http://127.0.0.1:{server.server_port}/")
        return visit

    yield open_page
    for end in ended:
        end()


@pytest.fixture(scope="module")
def written(browser, tmp_path_factory):
    """The page of the shipped bundle."""
    out = tmp_path_factory.mktemp("web") / "page"
    pages.write_page(SHIPPED, out, DIST)
    return out


def ready(visit):
    visit.wait_for_selector("body[data-ready]")
    visit.requests.clear()


def answers(visit, files, beam):
    """Give the page files, as a person chooses them, and return the caption and the alternatives."""
    while visit.locator("#views button").count():
        visit.locator("#views button").first.click()
    visit.locator("#beam").select_option(str(beam))
    given = [{"name": f"{i}", "mimeType": "", "buffer": file} for i, file in enumerate(files)]
    before = visit.evaluate("document.body.dataset.answer ?? ''")
    visit.set_input_files("#files", given)
    visit.wait_for_function("before => (document.body.dataset.answer ?? '') !== before", arg=before)
    assert visit.inner_text("#wrong") == ""
    return visit


def text_of(visit):
    return visit.evaluate(
        "[...document.querySelectorAll('.sentence')].map(s => { s = s.cloneNode(true);"
        " s.querySelector('small')?.remove(); return s.textContent; }).join(' ')"
    )


def phantom(number):
    drawn = sample_study(np.random.default_rng([7, number]))
    images = render(drawn, 300)[: 2 if drawn.lateral else 1]
    return [np.asarray(image, np.uint8) for image in images]


def check_same(visit, captioner, files, beam):
    """The page's caption, its figures, its findings and its alternatives are Python's."""
    [caption], [findings] = captioner.caption([files], beam), captioner.findings([files])
    answers(visit, files, beam)
    assert text_of(visit) == ("" if is_unfamiliar(caption) else caption.text)
    about = visit.inner_text("#about")
    if is_unfamiliar(caption):
        assert visit.locator("#findings tr").count() == 0
    else:
        assert float(re.search(r"og-probability (\S+?),", about)[1]) == pytest.approx(
            caption.log_probability, abs=0.0501
        )
        shown = visit.locator(".sentence small").all_inner_texts()
        assert [one.strip() for one in shown] == [f"{round(100 * s.confidence)} %" for s in caption.sentences]
        likely = {name: f"{round(100 * chance)} %" for name, chance in findings.items() if chance >= 0.05}
        rows = [row.split("\t") for row in visit.locator("#findings tr").all_inner_texts()]
        assert {row[0].strip(): row[-1].strip() for row in rows} == likely
        others = visit.evaluate("[...document.querySelectorAll('#others li')].map(li => li.firstChild.textContent)")
        assert others == [other.text for other in caption.alternatives]
    assert float(re.search(r"ovelty (\d+\.\d+)", about)[1]) == pytest.approx(caption.novelty, abs=0.00501)


def test_the_page_says_what_python_says_and_asks_for_nothing(opened, written):
    visit, captioner = opened(written), load(SHIPPED)
    ready(visit)
    for number in range(10):
        images = phantom(number)
        check_same(visit, captioner, [encoded(".png", image) for image in images], 1 + 2 * (number % 2))
    images = phantom(3)
    explicit, implicit = pydicom.uid.ExplicitVRLittleEndian, pydicom.uid.ImplicitVRLittleEndian
    deep = [dicom(image.astype("uint16") << 4, explicit, BitsStored=12, HighBit=11) for image in images]
    check_same(visit, captioner, deep, 3)
    inverted = {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": "128", "WindowWidth": "256"}
    check_same(visit, captioner, [dicom(255 - image, implicit, **inverted) for image in images], 1)
    check_same(visit, captioner, list(map(jpeg_dicom, images)), 1)
    check_same(visit, captioner, [encoded(".jpg", image) for image in images], 1)
    assert visit.requests == []
    assert visit.evaluate("fetch('index.html').then(() => 'sent', () => 'refused')") == "refused"


def jpeg_dicom(image):
    """A DICOM file of baseline JPEG."""
    data = pydicom.dcmread(io.BytesIO(dicom(image, pydicom.uid.ExplicitVRLittleEndian)))
    data.PixelData = pydicom.encaps.encapsulate([encoded(".jpg", image)])
    data["PixelData"].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
    file = io.BytesIO()
    pydicom.dcmwrite(file, data)
    return file.getvalue()


def test_a_word_moves_the_attention_and_finding_words_come_first(opened, written):
    visit = opened(written)
    ready(visit)
    answers(visit, [encoded(".png", image) for image in phantom(3)], 1)
    pressed = visit.locator(".word[aria-pressed=true]")
    assert "finding" in pressed.get_attribute("class")
    pictures = "[...document.querySelectorAll('#views canvas')].map(c => c.toDataURL()).join()"
    seen = set()
    for word in visit.locator(".word").all():
        word.click()
        seen.add(visit.evaluate(pictures))
    assert len(seen) == visit.locator(".word").count() > 2


def graphs(folder, measured):
    """A copy of the shipped graphs with a measure that says that attention points at every finding, or with none."""
    shutil.copytree(SHIPPED / "export", folder)

    def change(aside):
        values = json.loads((aside / "captioner.json").read_text("utf-8"))
        known = {"method": "attention", "words": "finding", "n": 50, "hits": 0.8, "low": 0.7, "chance": 0.2}
        rows = [{**known, "finding": name} for name in ("all", *values["findings"])]
        values["about"]["pointing_game"] = {"rows": rows, "offset": [0.05, 0.05]}
        if not measured:
            del values["about"]["pointing_game"]
        (aside / "captioner.json").write_text(json.dumps(values), "utf-8")

    rewrite_bundle(folder, change)
    return folder


def test_boxes_are_those_of_python_and_only_of_a_bundle_that_was_measured(opened, tmp_path):
    bundles = [graphs(tmp_path / "measured", True), graphs(tmp_path / "not", False)]
    for bundle in bundles:
        pages.write_page(bundle, tmp_path / f"{bundle.name}_page", DIST)
    captioner, visits = load(bundles[0]), [opened(tmp_path / f"{bundle.name}_page") for bundle in bundles]
    for visit in visits:
        ready(visit)
    pictures, seen = "[...document.querySelectorAll('#views canvas')].map(c => c.toDataURL()).join()", 0
    for number in range(4):
        files = [encoded(".png", image) for image in phantom(number)]
        [caption] = captioner.caption([files], 1)
        for visit in visits:
            answers(visit, files, 1)
        shown = set()
        for place in range(visits[0].locator(".word").count()):
            for visit in visits:
                visit.locator(".word").nth(place).click()
            own, other = (visit.locator("#regions li").all_inner_texts() for visit in visits)
            assert not other
            assert (visits[0].evaluate(pictures) != visits[1].evaluate(pictures)) == bool(own)
            shown.update(own)
        regions = stated(caption)[0].regions or ()  # an unfamiliar drawing has none
        expected = {f"“{one.words}” ({one.finding}), by attention" for one in regions}
        assert {re.search(r"“.*attention", text)[0] for text in shown} == expected
        assert all("lies in the finding in 80 % of the measured cases, by chance in 20 %" in text for text in shown)
        seen += len(expected)
    assert seen


def test_unsure_and_unfamiliar_images_are_treated_as_python_treats_them(opened, written):
    visit = opened(written)
    ready(visit)
    noise = np.random.default_rng(0).integers(0, 256, (90, 80)).astype("uint8")
    answers(visit, [encoded(".png", noise)], 1)
    assert text_of(visit) == ""
    assert "nothing is said of them" in visit.inner_text("#unlike")
    visit.locator("#unfamiliar").select_option("shown")
    with pytest.warns(UnfamiliarImageWarning):
        assert text_of(visit) == load(SHIPPED).caption([[noise]])[0].text
    assert visit.locator(".sentence small").count() == visit.locator("#findings tr").count() == 0
    visit.locator("#threshold").select_option("0.5")
    assert set(visit.locator(".sentence").all_inner_texts()) == {"not confident"}


def test_bad_files_are_one_line_on_the_page(opened, written):
    visit = opened(written)
    ready(visit)
    good = encoded(".png", phantom(3)[0])
    for file, said in (
        (b"text", "image 1: is none of PNG, JPEG and DICOM"),
        (good[:200], "image 1: is truncated or damaged PNG"),
    ):
        visit.set_input_files("#files", {"name": "a.png", "mimeType": "", "buffer": file})
        visit.wait_for_selector("#wrong:not([hidden])")
        assert visit.inner_text("#wrong").startswith(said)
        assert visit.locator("#views li").count() == 0
    answers(visit, [good], 1)
    visit.set_input_files("#files", {"name": "a.png", "mimeType": "", "buffer": b""})
    visit.wait_for_selector("#wrong:not([hidden])")
    visit.wait_for_selector("#answer:not([hidden])")  # of the good one, beside what is wrong with the other
    assert visit.inner_text("#wrong") == "image 2: is empty; get it again"


def test_an_altered_page_is_refused_in_one_line(opened, written, tmp_path):
    for number, name in enumerate(("bundle/step.onnx", f"runtime/{pages.BINARY}", f"runtime/{pages.MODULE}")):
        folder = shutil.copytree(written, tmp_path / str(number))
        (folder / name).write_bytes((folder / name).read_bytes()[:-1] + b" ")
        visit = opened(folder)
        visit.wait_for_selector("#wrong:not([hidden])")
        assert visit.inner_text("#wrong").startswith(
            f"{name.split('/')[1]}: is missing, or not the file that was exported"
        )


@pytest.mark.slow
@pytest.mark.parametrize("damage", [b"", b" "])
def test_a_cdn_gives_the_runtime_or_is_refused(damage, opened, tmp_path):
    where = pages.write_page(SHIPPED, tmp_path / "page", "cdn")
    known = json.loads((pages.HERE / "runtime.json").read_text("utf-8"))["files"]

    def answer(route):
        content = (Path(DIST) / route.request.url.rsplit("/", 1)[1]).read_bytes()
        kind = "text/javascript" if route.request.url.endswith(".mjs") else "application/wasm"
        route.fulfill(body=content + damage, headers={"Access-Control-Allow-Origin": "*", "Content-Type": kind})

    if known[pages.MODULE] != pages.integrity(Path(DIST) / pages.MODULE, "sha384"):
        pytest.skip(f"{DIST} is of another version")
    visit = opened(tmp_path / "page", [(f"{where}*", answer)])
    visit.wait_for_selector("#wrong:not([hidden])" if damage else "body[data-ready]")
    assert bool(damage) == ("not the file that was exported" in visit.inner_text("#wrong"))


def test_nothing_is_wider_than_a_phone(opened, written):
    visit = opened(written)
    visit.set_viewport_size({"width": 390, "height": 844})
    ready(visit)
    for files in ([], [encoded(".png", image) for image in phantom(3)]):
        if files:
            answers(visit, files, 3)
        inside = "[...document.querySelectorAll('body *')].every(one => one.getBoundingClientRect().right <= %d)"
        assert visit.evaluate(inside % 390)
        assert visit.evaluate(inside.replace("body *", ".card *") % 373)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder_runs_in_the_page(decoder, opened, tmp_path):
    pytest.importorskip("tf2onnx")
    tiny(decoder).export(graphs := tmp_path / "graphs")
    pages.write_page(graphs, tmp_path / "page", DIST)
    visit, captioner = opened(tmp_path / "page"), load(graphs)
    ready(visit)
    files = [encoded(".png", np.random.default_rng(i).integers(0, 256, (40, 50)).astype("uint8")) for i in range(2)]
    for beam in (1, 3):
        [caption] = captioner.caption([files], beam)
        answers(visit, files, beam)
        assert text_of(visit) == caption.text
        others = visit.evaluate("[...document.querySelectorAll('#others li')].map(li => li.firstChild.textContent)")
        assert others == [other.text for other in caption.alternatives]
