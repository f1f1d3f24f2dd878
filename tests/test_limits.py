"""docs/limits.md says what the package has; every bound is tripped, here or elsewhere, by lowering it."""

import ast
import csv
import importlib
import io
import lzma
import pickle
import re
import socket
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import xray_captioning
from tests.checkpoints import golden
from tests.data.test_kinds import GREY, saved, tiff
from xray_captioning.checkpoints import arrays, hdf5, onnx, pickles, pytorch, read_arrays, reading
from xray_captioning.cli import main
from xray_captioning.config import TextConfig
from xray_captioning.data import cache_folder, images, levels, opening, table
from xray_captioning.data.sources import folders, mimic
from xray_captioning.data.sources import reading as sources
from xray_captioning.errors import BundleError, ConfigError, DataError, ImageError
from xray_captioning.text.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "xray_captioning"
UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "megapixels": 1e6}
ROW = re.compile(r"^\| (.*?) \| (.*?) \| .* <!-- (.*?); (tests/\S+)::(\w+) -->\s*\|$")
LINES = (ROOT / "docs" / "limits.md").read_text("utf-8").splitlines()
ROWS = [ROW.match(line) for line in LINES if line.startswith("| ") and not line.startswith("| what |")]
NO_BOUNDS = {
    "data.cache_folder.LIMIT_VARIABLE",
    "data.levels.DEPTHS",
    "data.provenance.MOST_STUDIES",  # named by a card
    "findings.MOST_FREQUENT",
    "metrics.ngrams.MAXIMUM_ORDER",
    "phantom.wording._LONGEST",  # sentences that are drawn
    "phantom.dataset.MOST_WORKERS",
    "serving.app.LIMITS",  # of confidence
}


def value_of(where: str) -> object:
    """Return the value of a name of the package, of an option's range, or what a line of code holds."""
    file, _, rest = where.partition(": ")
    if file.endswith(".toml"):
        return tomllib.loads((PACKAGE / file).read_text("utf-8"))[rest.split(".")[0]][rest.split(".")[1]]["range"][1]
    if file.endswith(".py"):
        assert rest in (PACKAGE / file).read_text("utf-8"), where
        return None
    parts = re.findall(r"\w+(?:\(\))?|\['[^']+'\]", where)
    outside = parts[0] in ("csv", "urllib")
    found, path = importlib.import_module(parts[0] if outside else f"xray_captioning.{parts[0]}"), parts[0]
    for part in parts[1:]:
        if part.startswith("["):
            found = found[ast.literal_eval(part)[0]]
            continue
        path = f"{path}.{part}"
        name = part.removesuffix("()")
        if not hasattr(found, name):
            importlib.import_module(path if outside else f"xray_captioning.{path}")
        found = getattr(found, name)
        found = found() if part.endswith("()") else found
    return found() if callable(found) else found


@pytest.mark.parametrize("row", ROWS, ids=[row[1] if row else "no row" for row in ROWS])
def test_a_bound_is_what_the_page_says(row):
    assert row, "a row without its name in the package and its test"
    what, limit, where, file, name = row.groups()
    if where:
        number = re.match(r"[\d,]+", limit)[0].replace(",", "")
        unit = UNITS.get(limit.split()[-1], 1)
        value = value_of(where)
        assert value is None or float(value) in (float(number), float(number) * unit), f"{what}: {where} is {value}"
    assert re.search(rf"^def {name}\(", (ROOT / file).read_text("utf-8"), re.MULTILINE), f"{file} has no {name}"


def test_no_bound_is_missing_from_the_page():
    said = {row[3].removeprefix("serving.settings.Settings.") for row in ROWS if row}
    pattern = re.compile(r"^_?(MAX|MOST|LIMIT|LARGEST|LONGEST|TIMEOUT|RETRIES|CPU_SECONDS|WAIT_SECONDS|DEPTH)\w*$")
    missing = []
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.parse(path.read_text("utf-8")).body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            names = [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]
            missing += [f"{module}.{n}" for n in names if pattern.match(n) and f"{module}.{n}" not in said]
    assert set(missing) <= NO_BOUNDS, set(missing) - NO_BOUNDS


# --- images


def test_pages(monkeypatch):
    monkeypatch.setattr(levels, "_MOST_PAGES", 3)
    with pytest.raises(ImageError, match="holds 3 pages"):
        images.decode_image(tiff(GREY, pages=5), "x")


def test_tiles(monkeypatch):
    data = tiff(GREY, t322=16, t323=16, t324=8, t325=40 * 48)
    monkeypatch.setattr(levels, "_MOST_TILE", 256)
    levels._opened(data, "x")
    monkeypatch.setattr(levels, "_MOST_TILE", 255)
    with pytest.raises(ImageError, match="damaged"):
        images.decode_image(data, "x")


def test_a_deflated_header():
    pydicom = pytest.importorskip("pydicom")
    from tests.data.dicom.test_dicom import dicom
    from xray_captioning.data.dicom.reading import _LAST, read_elements

    data = dicom(syntax=pydicom.uid.DeflatedExplicitVRLittleEndian)
    assert "Rows" in read_elements(io.BytesIO(data), ["Rows"], _LAST)
    assert "Rows" not in read_elements(io.BytesIO(data), ["Rows"], _LAST, most=20)
    with pytest.raises(ValueError, match="inflate to too much"):
        read_elements(io.BytesIO(data), ["Rows"], most=20)


def test_the_first_element(monkeypatch):
    from xray_captioning.data.dicom import reading

    start = b"\x08\x00\x05\x00\x0a\x00\x00\x00ISO_IR 100"
    assert reading.is_dicom(start)
    monkeypatch.setattr(reading, "_LONGEST_FIRST", 9)
    assert not reading.is_dicom(start)


def test_pictures_of_sheets(monkeypatch, tmp_path):
    from base64 import b64decode

    from xray_captioning.review import study

    monkeypatch.setattr(study, "LONGEST", 24)
    (tmp_path / "a.png").write_bytes(saved(GREY, "BMP"))
    [[picture]] = study._pictures({"1": [(str(tmp_path / "a.png"), "frontal")]}).values()
    assert max(images.read_image(b64decode(picture["uri"].partition(",")[2]), None).shape) == 24


# --- tables, reports, archives


def captions(folder, text="b"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "captions.csv").write_text(f"image,caption\na.png,{text}\n")
    return folder


def test_fields_of_tables(tmp_path):
    captions(tmp_path, "word " * 21)
    before = csv.field_size_limit(100)
    try:
        with pytest.raises(DataError, match=r"captions\.csv, line 2: is not valid CSV \(field larger"):
            xray_captioning.read_studies(tmp_path)
    finally:
        csv.field_size_limit(before)


def test_members_of_an_archive(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_folder, "usual_cache", lambda: tmp_path / "cache")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in "ab":
            archive.writestr(f"{name}.png", "x")
    monkeypatch.setattr(opening, "MAX_MEMBERS", 1)
    with pytest.raises(DataError, match=r"2 files of .* more than 1 or"):
        opening.unpacked(tmp_path / "a.zip")
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(opening, "MAX_MEMBERS", 2)
    assert len(list(opening.unpacked(tmp_path / "a.zip").iterdir())) == 2


def test_heads(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("x" * 99 + "\0")
    with pytest.raises(DataError, match="no text"):
        opening.read_text(tmp_path / "a.csv")
    monkeypatch.setattr(opening, "HEAD_BYTES", 16)
    assert opening.read_text(tmp_path / "a.csv").endswith("\0")


def test_folders_within_folders(tmp_path, monkeypatch):
    captions(tmp_path / "a" / "b")
    assert sources.detect(tmp_path).path == tmp_path / "a" / "b"
    monkeypatch.setattr(sources, "_DEPTH", 1)
    with pytest.raises(DataError, match="no known source"):
        sources.detect(tmp_path)


def test_folders_beside_each_other(tmp_path, monkeypatch):
    captions(tmp_path / "a")
    (tmp_path / "b").mkdir()
    assert sources.detect(tmp_path).path == tmp_path / "a"
    monkeypatch.setattr(sources, "_MOST_FOLDERS", 1)
    with pytest.raises(DataError, match="no known source"):
        sources.detect(tmp_path)


def test_tables_of_mimic(tmp_path, monkeypatch):
    captions(tmp_path / "a" / "b")
    assert mimic.tables_of(tmp_path, "captions.csv") == [tmp_path / "a" / "b" / "captions.csv"]
    monkeypatch.setattr(mimic, "_DEPTH", 1)
    assert mimic.tables_of(tmp_path, "captions.csv") == []


def test_folders_of_texts(tmp_path, monkeypatch):
    for name in ("a.txt", "a.png"):
        (tmp_path / "one").mkdir(exist_ok=True)
        (tmp_path / "one" / name).write_bytes(b"x")
    assert folders.is_folder_of_reports(tmp_path)
    monkeypatch.setattr(folders, "_MOST_FOLDERS", 0)
    assert not folders.is_folder_of_reports(tmp_path)


def test_files_without_a_suffix(tmp_path, monkeypatch):
    (tmp_path / "1").write_bytes(bytes(200))
    (tmp_path / "2").write_bytes(bytes(128) + b"DICM" + bytes(9))
    assert folders.is_dicom_tree(tmp_path)
    monkeypatch.setattr(folders, "_PROBED", 1)
    assert not folders.is_dicom_tree(tmp_path)


def test_columns_of_a_message(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "SHOWN_COLUMNS", 1)
    (tmp_path / "captions.csv").write_text("mine,yours\na,b\n")
    with pytest.raises(DataError, match="mine") as caught:
        xray_captioning.read_studies(tmp_path)
    assert "yours" not in str(caught.value)


# --- files of weights

SIX = np.arange(6, dtype="f4")


def refused(path, words, limit=2**20):
    with pytest.raises(BundleError, match=words):
        read_arrays(path, limit)


def test_names_of_arrays(tmp_path, monkeypatch):
    path = golden.npz(tmp_path / "w.npz", a=SIX, b=SIX)
    assert len(read_arrays(path)) == 2
    monkeypatch.setattr(arrays, "MAXIMUM_NAMES", 1)
    refused(path, "too many names")


def test_parts_of_a_model(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_PARTS", 1)
    for name in "ab":
        golden.safetensors(
            tmp_path / name, {name: {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}}, SIX.tobytes()
        )
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "a"}}')
    assert list(read_arrays(index)) == ["a"]
    index.write_text('{"weight_map": {"a": "a", "b": "b"}}')
    refused(index, "more than 1 files")


def test_headers(tmp_path, monkeypatch):
    path = golden.safetensors(
        tmp_path / "w", {"a": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}}, SIX.tobytes()
    )
    assert list(read_arrays(path)) == ["a"]
    monkeypatch.setattr(reading, "_MAXIMUM_HEADER", 10)
    refused(path, "a header of .* bytes")


def test_pickles_of_pytorch(tmp_path, monkeypatch):
    pickled = golden.ordered(a=golden.tensor(golden.storage("0", 6), (6,), (1,)))
    path = golden.torch_zip(tmp_path / "w.pt", pickled, _0=SIX)
    assert list(read_arrays(path)) == ["a"]
    monkeypatch.setattr(pytorch, "MAXIMUM_PICKLE", 10)
    refused(path, "more than 0 MiB")


def test_fields_of_onnx(tmp_path, monkeypatch):
    path = golden.onnx(tmp_path / "w.onnx", golden.onnx_tensor("a", 1, [6], raw_data=SIX.tobytes()))
    assert list(read_arrays(path)) == ["a"]
    monkeypatch.setattr(onnx, "MAXIMUM_FIELDS", 2)
    refused(path, "more parts than any")


def test_numbers_of_onnx(tmp_path, monkeypatch):
    path = golden.onnx(tmp_path / "w.onnx", golden.onnx_tensor("a", 6, [3], int32_data=b"\1\2\3"))
    assert read_arrays(path)["a"].tolist() == [1, 2, 3]
    monkeypatch.setattr(onnx, "MAXIMUM_TYPED", 2)
    refused(path, "too many numbers written one by one")


def test_memory_of_lzma(tmp_path, monkeypatch):
    (tmp_path / "t.pkl").write_bytes(lzma.compress(pickle.dumps({"a": 1})))
    assert pickles.read_tokenizer_pickle(tmp_path / "t.pkl") == {"a": 1}
    monkeypatch.setattr(pickles, "_LZMA_MEMORY", 1000)
    with pytest.raises(DataError, match="damaged compressed file"):
        pickles.read_tokenizer_pickle(tmp_path / "t.pkl")


def test_waiting_for_hdf5(tmp_path, monkeypatch):
    (tmp_path / "w.h5").write_bytes(hdf5.SIGNATURE)
    monkeypatch.setattr(hdf5, "_CODE", "import select; select.select([], [], [])")
    monkeypatch.setattr(hdf5, "_WAIT_SECONDS", 0.1)
    refused(tmp_path / "w.h5", "reading it does not end")


def test_memory_of_hdf5(tmp_path, monkeypatch, capfdbinary):
    asked = []
    monkeypatch.setattr(hdf5, "_limit_this_process", lambda *limits: asked.append(limits))
    (tmp_path / "w.h5").write_bytes(hdf5.SIGNATURE)
    hdf5.send_arrays(str(tmp_path / "w.h5"), "7", "1000")
    assert asked == [(7, 4 * 1000 + 2**31)]
    assert b"truncated or damaged HDF5" in capfdbinary.readouterr().out


def test_names_in_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    for length in (500, 501):
        with h5py.File(tmp_path / "w.h5", "w") as file:
            file.attrs["layer_names"] = ["a"]
            file.create_group("a").attrs["weight_names"] = ["b" * length]
            file[f"a/{'b' * length}"] = SIX
        if length == 500:
            assert len(hdf5.read_here(tmp_path / "w.h5")) == 1
            continue
        with pytest.raises(arrays.RefusedError, match="has a name no layer has"):
            hdf5.read_here(tmp_path / "w.h5")


@pytest.mark.parametrize(
    ("field", "most"),
    [
        *[("num_hidden_layers", 200), ("hidden_size", 8192), ("intermediate_size", 65536)],
        *[("patch_size", 256), ("num_register_tokens", 64)],
    ],
)
def test_a_vision_transformer(field, most):
    pytest.importorskip("keras")
    from xray_captioning.encoders.vision_transformers import tower_of

    sizes = {"model_type": "vit", "num_attention_heads": 1}
    assert getattr(tower_of({**sizes, field: most}, "config.json"), field) == most
    with pytest.raises(ConfigError, match=field):
        tower_of({**sizes, field: most + 1}, "config.json")


# --- captions, commands, network


def test_tokens_of_a_caption():
    tokenizer = Tokenizer.fit(["one two three four five six"])
    assert len(tokenizer.encode("one two three four five six", 5)) == 5
    assert TextConfig().maximum_length == 60


@pytest.mark.parametrize(
    "line", ["caption a.png --beam 101", "caption a.png --workers 10001", "demo --seed 4294967296"]
)
def test_options(line, capsys):
    assert main(line.split()) == 2
    assert line.split()[-2] in capsys.readouterr().err


def test_images_that_are_read_first(tmp_path, monkeypatch):
    from xray_captioning.cli import caption
    from xray_captioning.cli.caption import Study

    studies = [Study("1", [str(tmp_path / "absent.png")])]
    monkeypatch.setattr(caption, "CHECKED", 0)
    caption._check_images(studies)
    monkeypatch.setattr(caption, "CHECKED", 1)
    with pytest.raises(ImageError, match="does not exist"):
        caption._check_images(studies)


def test_redirects(monkeypatch):
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    from xray_captioning.hub import fetch

    class Onward(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", f"{self.path}x")
            self.end_headers()

        def log_message(self, *_):
            pass

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(fetch._Redirects, "max_redirections", 2)
    with HTTPServer(("127.0.0.1", 0), Onward) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        with pytest.raises(fetch.UnreachableError, match="302"):
            fetch._open(f"http://127.0.0.1:{server.server_port}/x", {})
        server.shutdown()


# --- the API and the app


@pytest.fixture
def toy():
    for package in ("flask", "uvicorn", "prometheus_client"):
        pytest.importorskip(package)
    from tests.serving import parts

    return parts


def reads(toy, monkeypatch, sent):
    """Return how much was to be read at once, one after the other, and the status."""
    from xray_captioning.serving import Settings, server

    sizes = []
    monkeypatch.setattr(server._Transport, "limit_reads", lambda self, size: sizes.append(size))
    settings = Settings(batch=1)
    with toy.serving(toy.toy_app(settings), settings) as running:
        head = b"POST /v1/captions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        return sizes, toy.exchange(running.port, head + sent, end=True)[0]


def test_reads_of_bodies(toy, monkeypatch):
    monkeypatch.setattr("xray_captioning.serving.server.READ_BODY", 88)
    assert reads(toy, monkeypatch, b"Content-Length: 5\r\n\r\n") == ([1 << 14, 88], 400)
    assert reads(toy, monkeypatch, b"Content-Length: 5\r\n\r\nwhole") == ([1 << 14, 1 << 14], 415)


def test_reads_of_chunks(toy, monkeypatch):
    monkeypatch.setattr("xray_captioning.serving.server.READ_CHUNKED", 77)
    assert reads(toy, monkeypatch, b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n") == ([1 << 14, 77], 415)


def test_lingering_clients(toy, monkeypatch):
    from xray_captioning.serving import Settings, server

    def go_on():
        while True:
            client.sendall(b"a" * 1000)

    monkeypatch.setattr(server, "LINGER", 0.05)
    settings = Settings(batch=1)
    with (
        toy.serving(toy.toy_app(settings), settings) as running,
        socket.create_connection(("127.0.0.1", running.port), timeout=30) as client,
    ):
        client.sendall(b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\nabc")
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 413")
        with pytest.raises(OSError):  # noqa: PT011  # reset or a broken pipe, as the system has it
            go_on()


def test_forms(toy, monkeypatch):
    from xray_captioning.serving import Settings, requests

    client = toy.toy_app(Settings(batch=1)).test_client()

    def status(**fields):
        return client.post("/v1/captions", **toy.form([toy.encoded()], **fields)).status_code

    assert status(beam_size="1", threshold="0.5") == 422  # of a threshold this model knows nothing
    monkeypatch.setattr(requests.MemoryRequest, "max_form_parts", 2)
    assert status(beam_size="1") == 200
    assert status(beam_size="1", threshold="0.5") == 413
    monkeypatch.setattr(requests.MemoryRequest, "max_form_memory_size", 3)
    assert status(beam_size="0001") == 413


def test_beam_sizes_that_are_compiled(toy, monkeypatch):
    from xray_captioning.serving import Settings, engine

    monkeypatch.setattr(engine, "COMPILED", 2)
    sizes = toy.toy_app(Settings(batch=1, beam=9)).extensions["captions"]._sizes()
    assert {beam for beam, _ in sizes} <= {1, 2, toy.Toy().config.decoding.beam_size}


def test_uploads_of_the_app(monkeypatch):
    cli = pytest.importorskip("streamlit.web.cli")
    from xray_captioning.cli import serve

    lines = []
    monkeypatch.setattr(cli, "main", lambda line, standalone_mode: lines.append(line))
    monkeypatch.setitem(serve.SETTINGS, "server.maxUploadSize", "3")
    assert main(["app", "--port", "0"]) == 2  # a port is asked for
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert main(["app", "--port", str(port)]) == 0
    assert "--server.maxUploadSize=3" in lines[0]


# --- how much is looked at


def test_monitored_studies():
    from xray_captioning.training.caption_score import monitored_studies

    studies = pd.DataFrame({"study_id": list("abcdef")})
    assert len(monitored_studies(studies, 0, 3)) == 3
    assert len(monitored_studies(studies, 0)) == 6


def test_images_that_are_named(tmp_path, monkeypatch):
    from types import SimpleNamespace

    from xray_captioning.cli import data

    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x.png").write_bytes(b"")
    source = SimpleNamespace(images=None, data=tmp_path)
    assert data._images_below(source) == [str(tmp_path / "a" / "b" / "x.png")]
    monkeypatch.setattr(data, "FOLDERS", 2)
    assert data._images_below(source) == []


def test_levels_of_kaggle(tmp_path, monkeypatch):
    from xray_captioning import notebook

    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    for name in notebook.TABLES:
        (below / name).touch()
    assert notebook._kaggle_folder(tmp_path) == below
    monkeypatch.setattr(notebook, "DEPTH", 1)
    assert notebook._kaggle_folder(tmp_path) is None
