"""Addresses of stores: tables and images of a local S3 server, what is sent there, and what goes wrong."""

import csv
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from xray_captioning.cli import main
from xray_captioning.data import stores
from xray_captioning.data.features import ArrayCache
from xray_captioning.data.images import read_image
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.stores import is_address, put, staged, those_there, versions
from xray_captioning.data.table import Table
from xray_captioning.errors import ConfigError, DataError, StoreError

pytestmark = pytest.mark.usefixtures("eagerly")
fsspec = pytest.importorskip("fsspec.core", reason="fsspec is of the extra scale")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Run an S3 server here, and let everybody know it."""
    pytest.importorskip("s3fs", reason="s3fs is of the extra scale")
    moto = pytest.importorskip("moto.moto_server.threaded_moto_server", reason="moto is of the extra test")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
        patch.setenv("AWS_ACCESS_KEY_ID", "someone")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        store, _ = fsspec.url_to_fs("s3://bucket")
        store.mkdir("bucket")
        yield store
    server.stop()
    type(store).clear_instance_cache()


@pytest.fixture
def kaggle(server, phantoms):
    """Return the address of the phantoms."""
    if not server.exists("bucket/phantoms"):
        server.put(f"{phantoms}/", "bucket/phantoms/", recursive=True)
    return "s3://bucket/phantoms"


def test_what_is_an_address():
    assert all(map(is_address, ("s3://a/b.csv", "gs://a", "hdfs://h:8020/a", "memory://a")))
    assert not any(
        map(is_address, ("s3:/a", "a/b.csv", "C:\\a", "c:/a", "/s3://a", Path("s3://a"), None, b"s3://a", "http://a/b"))
    )


def test_a_folder_of_the_kaggle_layout(kaggle, phantoms):
    here, there = read_studies(phantoms), read_studies(kaggle)
    assert there.drop(columns="images").equals(here.drop(columns="images"))
    named = [[kaggle + path.removeprefix(str(phantoms)) for path in row] for row in here["images"]]
    assert there["images"].to_list() == named
    assert those_there(named[0]) == set(named[0])
    np.testing.assert_array_equal(read_image(named[0][0]), read_image(here["images"][0][0]))


def test_a_table_whose_images_are_beside_it_elsewhere_or_addresses(server, kaggle, phantoms, tmp_path):
    images = sorted(phantoms.glob("images/*/*.png"))[:3]
    folder = f"{kaggle}/images/{images[0].parent.name}"
    named = [f"{folder}/{path.name}" for path in images]
    for header, names in (("bare", [path.name for path in images]), ("whole", named)):
        (tmp_path / f"{header}.csv").write_text("image,caption\n" + "".join(f"{name},clear.\n" for name in names))
    server.put(str(tmp_path / "bare.csv"), f"bucket/phantoms/images/{images[0].parent.name}/bare.csv")
    for path, image_dir in (
        (tmp_path / "whole.csv", None),
        (tmp_path / "bare.csv", folder),
        (tmp_path / "bare.csv", kaggle),
        (f"{folder}/bare.csv", None),
    ):
        assert list(chain.from_iterable(read_studies(path, image_dir)["images"])) == named, path
    server.rm(f"bucket/phantoms/images/{images[0].parent.name}/bare.csv")


def test_a_changed_folder_is_fetched_anew(server, tmp_path):
    for caption in ("clear.", "effusion."):
        server.pipe("bucket/changed/captions.csv", f"image,caption\na.png,{caption}\n".encode())
        server.pipe("bucket/changed/a.png", b"")
        assert read_studies("s3://bucket/changed")["findings"].to_list() == [caption]
    server.rm("bucket/changed/a.png")
    server.pipe("bucket/changed/b.png", b"")
    (path,) = read_studies("s3://bucket/changed")["images"][0]
    assert not those_there([path])


def test_keys_that_lead_out_of_a_folder_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("xray_captioning.data.cache_folder.usual_cache", lambda: tmp_path)
    store, _ = fsspec.url_to_fs("memory://odd")
    for name in ("captions.csv", "../escaped.csv", "a//b.csv", "./c.csv"):
        store.store[f"/odd/{name}"] = store.store.get(f"/odd/{name}") or memory_file(store, f"/odd/{name}")
    copy = stores.local("memory://odd", {})
    assert [path.name for path in copy.iterdir()] == ["captions.csv"]
    assert [path.name for path in tmp_path.rglob("*.csv")] == ["captions.csv"]


def memory_file(store, name):
    from fsspec.implementations.memory import MemoryFile

    return MemoryFile(store, name, b"image,caption\na.png,clear.\n")


def test_errors_name_the_address_and_the_line(server):
    server.pipe("bucket/bad/captions.csv", b"image,caption\na.png,clear.\n,clear.\n")
    with pytest.raises(DataError, match=r"^s3://bucket/bad/captions\.csv, line 3: "):
        read_studies("s3://bucket/bad")
    for path in ("s3://bucket/none.csv", "s3://nowhere/none"):
        with pytest.raises(DataError, match=rf"^{path}: is not there"):
            read_studies(path)
    with pytest.raises(DataError, match=r"^s3://bucket/none\.png: is not there"):
        read_image("s3://bucket/none.png")


def test_a_store_that_does_not_answer_or_refuses_is_one_line(server, monkeypatch, capsys):
    def refused(*_, **__):
        raise PermissionError("Forbidden")

    store = type(server)
    with monkeypatch.context() as patch:
        patch.setattr(server, "info", refused)
        assert main(["prepare", "s3://bucket/a.csv"]) == 2
        error = capsys.readouterr().err
        assert "s3://bucket/a.csv: the store cannot be used (Forbidden); check the address, the credentials" in error
        assert error.count("\n") == 1
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(store, "retries", 1)
    store.clear_instance_cache()
    with pytest.raises(StoreError, match=r"^s3://bucket/a\.png: the store cannot be used .*127\.0\.0\.1:9"):
        read_image("s3://bucket/a.png")
    for ask in (lambda: those_there(["s3://bucket/a.png"]), lambda: staged("s3://bucket/a.csv", False)):
        with pytest.raises(StoreError):
            ask()
    with pytest.raises(StoreError, match=r"hdfs://nowhere\.invalid:1/x: the store cannot be used"):
        read_image("hdfs://nowhere.invalid:1/x")
    store.clear_instance_cache()


def test_features_of_images_of_a_store_are_kept_by_what_the_store_says_of_them(server, tmp_path):
    def compute(paths):
        computed.extend(paths)
        return np.array([[float(stores.read(path).decode())] for path in paths])

    paths = ["s3://bucket/rows/1.png", "s3://bucket/rows/2.png"]
    for content, expected in (("12", paths), ("12", []), ("13", paths[1:])):
        computed = []
        for path, number in zip(paths, content):
            server.pipe(path, number.encode())
        cache = ArrayCache(tmp_path / "cache", {})
        cache.fill(paths, compute)
        assert (computed, [cache[path][0] for path in paths]) == (expected, [float(number) for number in content])


def test_captions_of_a_store_are_sent_there(server, kaggle, phantoms, tiny_run, tmp_path, capsys):
    out = "s3://bucket/results/captions.csv"
    line = ["caption", "--bundle", str(tiny_run), "--data"]
    assert main([*line, str(phantoms), "--out", str(tmp_path / "captions.csv")]) == 0
    assert main([*line, kaggle, "--out", out]) == 0
    text = server.cat_file("bucket/results/captions.csv").decode()
    assert text.replace(kaggle, str(phantoms)) == (tmp_path / "captions.csv").read_text()
    assert server.ls("bucket/results") == ["bucket/results/captions.csv"]
    assert not list(Path.home().rglob("captions.csv.part"))
    capsys.readouterr()
    assert main([*line, kaggle, "--out", out]) == 2
    assert f"{out}: is there already; choose another" in capsys.readouterr().err
    assert main([*line, kaggle, "--out", out, "--resume"]) == 0
    assert f"{out}: 24 studies, 0 of them with an error" in capsys.readouterr().err
    assert server.cat_file("bucket/results/captions.csv").decode() == text
    rows = list(csv.DictReader(text.splitlines()))
    server.pipe(
        "bucket/results/system.csv", ("study_id,mine\n" + "".join(f"{r['study']},clear\n" for r in rows)).encode()
    )
    evaluate = ["evaluate", "--captions", "s3://bucket/results/system.csv", "--out", str(tmp_path / "results")]
    assert main([*evaluate, "--data", str(phantoms)]) == 0
    assert "mine" in (tmp_path / "results" / "metrics.json").read_text()


@pytest.mark.parametrize("protocol", ["s3", "memory"])
def test_a_folder_of_partitions_is_sent_and_its_manifest_says_so_last(
    server, kaggle, tiny_run, tmp_path, monkeypatch, capsys, protocol
):
    import fsspec

    monkeypatch.setattr("xray_captioning.batch.partitions.STUDIES", 10)
    out, store = f"{protocol}://bucket/parts/", fsspec.filesystem(protocol)
    line = ["caption", "--bundle", str(tiny_run), "--data", kaggle, "--out"]
    assert main([*line, str(tmp_path / "parts")]) == 0
    sent, original = [], store.put_file
    monkeypatch.setattr(store, "put_file", lambda file, name, **how: (sent.append(name), original(file, name, **how)))
    assert main([*line, out]) == 0
    parts = [f"part-{n:05}.parquet" for n in range(3)]
    assert [name.rpartition("/")[2] for name in sent] == ["_manifest.jsonl.part", *parts, "_manifest.jsonl"]
    found = {name.rpartition("/")[2]: store.cat_file(name) for name in store.ls("bucket/parts", detail=False)}
    assert found == {path.name: path.read_bytes() for path in (tmp_path / "parts").iterdir()}
    capsys.readouterr()
    assert main([*line, out]) == 2
    assert "bucket/parts/: is there already" in capsys.readouterr().err
    assert main([*line, out, "--resume"]) == 0
    assert "24 studies, 0 of them with an error" in capsys.readouterr().err
    assert len(sent) == 5  # nothing again
    server.pipe("bucket/images/a.png", b"") if protocol == "s3" else store.pipe("bucket/images/a.png", b"")
    assert main([*line, f"{protocol}://bucket/images", "--resume"]) == 2
    assert "bucket/images: is there already, and no folder of captions" in capsys.readouterr().err
    store.pipe_file("bucket/parts/part-00001.parquet", b"damaged")
    assert main([*line, out, "--resume"]) == 2
    [copy] = Path.home().rglob("outgoing/*/parts/part-00001.parquet")
    copy.unlink()
    assert main([*line, out, "--resume"]) == 0
    assert store.cat_file("bucket/parts/part-00001.parquet") == found["part-00001.parquet"]
    assert len(list(Table(stores.local(out)))) == 24


@pytest.mark.parametrize("protocol", ["s3", "memory"])
def test_a_folder_that_was_sent_in_part_is_sent_to_its_end(server, kaggle, tiny_run, monkeypatch, capsys, protocol):
    import fsspec

    def cut(file, name, **how):
        if name.endswith("part-00001.parquet"):
            raise ConnectionError("cut")
        return original(file, name, **how)

    monkeypatch.setattr("xray_captioning.batch.partitions.STUDIES", 10)
    out, store = f"{protocol}://bucket/Caps[1]", fsspec.filesystem(protocol)  # sorts before "_"
    line = ["caption", "--bundle", str(tiny_run), "--data", kaggle, "--out", out]
    original = store.put_file
    with monkeypatch.context() as patch:
        patch.setattr(store, "put_file", cut)
        assert main(line) == 2
    assert "the store cannot be used (cut)" in capsys.readouterr().err
    with pytest.raises(DataError, match="holds an unfinished run"):
        Table(stores.local(out))
    assert main([*line, "--resume"]) == 0
    names = {name.rpartition("/")[2] for name in store.ls("bucket/Caps[1]", detail=False)}
    assert names == {"_manifest.jsonl", *(f"part-{n:05}.parquet" for n in range(3))}
    assert len(list(Table(stores.local(out)))) == 24


def test_a_name_that_looks_like_a_pattern_is_a_name(server, kaggle, tiny_run, capsys):
    server.pipe("bucket/results/caps[1].csv", b"mine\n")
    line = ["caption", "--bundle", str(tiny_run), "--data", kaggle, "--out", "s3://bucket/results/caps[1].csv"]
    assert main([*line, "--resume"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert server.cat_file("bucket/results/caps[1].csv") == b"mine\n"
    for nowhere in ("memory://", "s3:///"):
        assert main([*line[:-1], nowhere]) == 2
        assert "names no file or folder of the store" in capsys.readouterr().err


def test_a_run_that_was_stopped_is_resumed_and_then_sent(server, kaggle, tiny_run, monkeypatch, capsys):
    from xray_captioning.batch import run

    def stopped(*_):
        raise KeyboardInterrupt

    line = ["caption", "--bundle", str(tiny_run), "--data", kaggle, "--out", "s3://bucket/stopped/c.jsonl"]
    monkeypatch.setattr(run, "SIZE", 8)
    with monkeypatch.context() as patch:
        patch.setattr(run.table, "write_rows", stopped)
        assert main(line) == 130
    assert not server.exists("bucket/stopped/c.jsonl")
    assert main(line) == 2
    assert "holds an unfinished run; go on with --resume" in capsys.readouterr().err
    assert main([*line, "--resume"]) == 0
    assert server.cat_file("bucket/stopped/c.jsonl").count(b"\n") == 24


def test_a_store_that_goes_away_stops_the_run_and_fills_no_rows_with_it(server, kaggle, tiny_run, monkeypatch, capsys):
    def gone(path, most=None):
        if path.endswith("900003_IM-0001-1001.dcm.png"):
            raise StoreError(f"{path}: gone")
        return original(path, most)

    original = stores.read
    monkeypatch.setattr("xray_captioning.data.images.read", gone)
    line = ["caption", "--bundle", str(tiny_run), "--data", kaggle, "--out", "s3://bucket/gone/c.csv"]
    assert main(line) == 2
    assert "900003_IM-0001-1001.dcm.png: gone" in capsys.readouterr().err
    monkeypatch.setattr("xray_captioning.data.images.read", original)
    assert main([*line, "--resume"]) == 0


def test_a_file_is_sent_whole_where_a_store_shows_parts_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    store, _ = fsspec.url_to_fs("memory://out/a.csv")
    file = staged("memory://out/a.csv", False)
    file.parent.mkdir(parents=True)
    file.write_text("whole")
    with monkeypatch.context() as patch:
        patch.setattr(store, "mv", lambda *_: 1 / 0)
        with pytest.raises(StoreError):
            put(file, "memory://out/a.csv")
    assert not store.exists("/out/a.csv")
    put(file, "memory://out/a.csv")
    assert store.cat_file("/out/a.csv") == b"whole"
    assert not file.parent.exists()
    with pytest.raises(ConfigError, match="is there already"):
        staged("memory://out/a.csv", False)
    assert staged(tmp_path, False) is tmp_path


@pytest.mark.parametrize(
    "line",
    [["evaluate", "--data", ".", "--out", "s3://b/r"], ["phantom", "--out", "s3://b/r"], ["export", "--out", "gs://b"]],
)
def test_what_is_written_here_alone_takes_no_address(line, capsys):
    assert main(line) == 2
    assert "is the address of a store; give a path of this machine" in capsys.readouterr().err


def test_versions_list_each_folder_once(server, monkeypatch):
    listed = []
    monkeypatch.setattr(stores, "_list", lambda folder: listed.append(folder) or iter([(f"{folder}/a", "1")]))
    paths = [f"s3://b/{folder}/{name}" for folder in "xy" for name in "abc"]
    assert versions([*paths, "local"]) == {"s3://b/x/a": "1", "s3://b/y/a": "1"}
    assert sorted(listed) == ["s3://b/x", "s3://b/y"]
