"""Bundles and data on hubs, which a server on this machine plays."""

import errno
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bundles.test_bundle import writer
from tests.hub.hubs import Files, Hubs, serving
from xray_captioning.bundles.bundle import Identity, find_bundle, identity, read_bundle, rewrite_bundle, write_bundle
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.cli import main
from xray_captioning.config import Config
from xray_captioning.errors import BundleError, ConfigError, MissingExtraError, StoreError
from xray_captioning.files import shipped_folder
from xray_captioning.hub.repositories import pull, push

pytest.importorskip("huggingface_hub")
pytest.importorskip("kagglehub")
HF, KAGGLE = "hf://someone/attention", "kaggle://someone/chest/keras/attention"
PLACES = {HF: "models/someone/attention", KAGGLE: "kaggle/someone/chest/keras/attention"}
both = pytest.mark.parametrize("address", [HF, KAGGLE])
FILES: Files = {"captioner.json": b'{"format": 1}', "variables/variables.index": b"\0"}


@pytest.fixture
def hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hubs]:
    with serving(monkeypatch, tmp_path / "caches") as hubs:
        yield hubs


def with_manifest(files: Files) -> Files:
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    return {**files, "manifest.json": json.dumps(digests).encode()}


def below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@both
def test_what_is_pushed_is_pulled(hubs: Hubs, tmp_path: Path, address: str) -> None:
    write_bundle(bundle := tmp_path / "bundle", writer())
    (bundle / "notes.pkl").write_bytes(b"\x80\x04.")
    pushed = push(bundle, address, "the first")
    assert all(hubs.private.values())  # nobody else sees it before its owner wants that
    (_, sent), *more = hubs.repositories[PLACES[address]]
    manifest = (bundle / "manifest.json").read_bytes()
    assert set(sent) == {*json.loads(manifest), "manifest.json"}
    assert not more  # one revision, so that nobody sees half a bundle
    folder = pull(address)
    assert below(folder) == set(sent)
    read_bundle(folder, "captioner")
    own = identity(folder)
    assert own.name == {HF: "attention", KAGGLE: "chest"}[address]  # it has no name of its own
    assert own.digest == hashlib.sha256(manifest).hexdigest()
    assert own.origin == (pushed if address == HF else f"{KAGGLE}/1")
    assert find_bundle(own.origin) == folder


@both
def test_revisions(hubs: Hubs, address: str) -> None:
    first = hubs.add(PLACES[address], with_manifest({"captioner.json": b"1"}))
    hubs.add(PLACES[address], with_manifest({"captioner.json": b"2"}))
    assert (pull(address) / "captioner.json").read_bytes() == b"2"
    old = f"{address}{'@' if address == HF else '/'}{first}"
    assert (pull(old) / "captioner.json").read_bytes() == b"1"
    assert identity(pull(old), {"about": {}}).origin == old


@both
def test_files_of_the_manifest_travel_and_no_others(hubs: Hubs, address: str) -> None:
    hubs.add(PLACES[address], {**with_manifest(FILES), "model.pkl": b"\x80\x04.", ".gitattributes": b""})
    assert below(pull(address)) == {*FILES, "manifest.json"}
    assert "model.pkl" not in hubs.downloads()


@both
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("model.pkl", b"\x80\x04.", "'model.pkl' is none of a bundle's files"),
        ("pytorch_model.pt", b"PK\x03\x04", "'pytorch_model.pt' is none"),
        ("../elsewhere.json", b"{}", "'../elsewhere.json' is none"),
        ("/elsewhere.json", b"{}", "is none"),
        ("a/../b.json", b"{}", "is none"),
        ("tokenizer.json", b"\x80\x04}.", "tokenizer.json is a pickle or an archive"),
        ("encoder.weights.h5", b"PK\x03\x04 and so on", "encoder.weights.h5 is a pickle or an archive"),
    ],
)
def test_pickles_are_refused(hubs: Hubs, tmp_path: Path, address: str, name: str, content: bytes, said: str) -> None:
    files = with_manifest({**FILES, name: content})
    hubs.add(PLACES[address], files)
    with pytest.raises(BundleError, match=said.replace(".", r"\.")):
        pull(address)
    for path, data in files.items():
        if ".." not in path and not path.startswith("/"):
            (tmp_path / "sent" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "sent" / path).write_bytes(data)
    with pytest.raises(BundleError, match=said.replace(".", r"\.")):
        push(tmp_path / "sent", address, "")
    assert len(hubs.repositories[PLACES[address]]) == 1
    assert not list(tmp_path.rglob("elsewhere.json"))


@both
def test_another_file_than_the_manifest_names(hubs: Hubs, address: str) -> None:
    right = with_manifest(FILES)
    hubs.add(PLACES[address], {**right, "captioner.json": b"{}"})
    with pytest.raises(
        BundleError, match=r"captioner\.json is not the file of the manifest; remove (\S+) and"
    ) as error:
        pull(address)
    Path(str(error.value).split("remove ")[1].split(" and")[0]).unlink()
    _, files = hubs.repositories[PLACES[address]][0]
    files["captioner.json"] = right["captioner.json"]  # as if it had come damaged
    assert below(pull(address)) == set(right)


@both
@pytest.mark.filterwarnings("error")
def test_without_a_network_the_cached_copy_is_used_and_that_is_said(hubs: Hubs, address: str) -> None:
    hubs.fails = 501
    with pytest.raises(StoreError, match=f"{address}: cannot be reached .* try again with a network"):
        pull(address)
    hubs.fails = 0
    revision = hubs.add(PLACES[address], with_manifest(FILES))
    folder = pull(address)
    hubs.fails = 501
    with pytest.warns(UserWarning, match=f"not reached; the cached copy of revision {revision} is used"):
        assert pull(address) == folder
    with pytest.raises(StoreError, match="cannot be reached"):
        push(folder, address, "")


@both
@pytest.mark.filterwarnings("ignore:.*the cached copy")
def test_a_copy_that_is_not_whole_is_not_used(hubs: Hubs, address: str) -> None:
    hubs.add(PLACES[address], with_manifest(FILES))
    folder = pull(address)
    for path in ((folder / "captioner.json").resolve(), folder / "captioner.json"):
        path.unlink(missing_ok=True)
    hubs.fails = 501
    with pytest.raises(StoreError, match="cannot be reached"):
        pull(address)


@both
def test_a_full_disk_is_not_taken_for_no_network(hubs: Hubs, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hubs.add(PLACES[address], with_manifest(FILES))
    pull(address)
    hubs.add(PLACES[address], with_manifest({"captioner.json": b"2"}))

    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", full)
    monkeypatch.setattr("kagglehub.model_download", full)
    with pytest.raises(OSError, match="No space left") as error:
        pull(address)
    assert not isinstance(error.value, StoreError)


def test_what_is_new_but_cannot_be_had_is_said(hubs: Hubs) -> None:
    old = hubs.add(PLACES[HF], with_manifest(FILES))
    pull(HF)
    hubs.add(PLACES[HF], with_manifest({"captioner.json": b"2"}))
    hubs.fails, hubs.failing = 501, "/resolve/"  # where the client by itself takes the old one and says nothing
    with pytest.warns(UserWarning, match=f"not reached; the cached copy of revision {old} is used"):
        assert pull(HF).name == old


@both
def test_a_hub_that_refuses_is_not_taken_for_no_network(hubs: Hubs, address: str) -> None:
    hubs.add(PLACES[address], with_manifest(FILES))
    pull(address)
    del hubs.repositories[PLACES[address]]  # its owner has withdrawn it
    with pytest.raises(StoreError, match=f"{address}: the hub refuses .* logged in"):
        pull(address)


@pytest.mark.parametrize(
    "address",
    [
        "hf://",
        "hf://name",
        "hf://a/b/c",
        "hf://a/..",
        "hf://a/b@",
        "kaggle://a/b",
        "kaggle://a/b/c/d/e",
        "hf://datasets/a/b",
    ],
)
def test_addresses_of_bundles(address: str) -> None:
    with pytest.raises(
        ConfigError, match=r"is no such address; a bundle's is hf://USER/NAME\[@REVISION\] or kaggle://"
    ):
        find_bundle(address)


def test_kaggle_numbers_versions_itself(hubs: Hubs, tmp_path: Path) -> None:
    for name, data in with_manifest({"captioner.json": b"{}"}).items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(StoreError, match="should not include the version"):
        push(tmp_path, f"{KAGGLE}/3", "")
    assert not hubs.repositories


@pytest.mark.parametrize(("address", "package"), [(HF, "huggingface-hub"), (KAGGLE, "kagglehub")])
def test_without_the_client(monkeypatch: pytest.MonkeyPatch, address: str, package: str) -> None:
    monkeypatch.setitem(sys.modules, package.replace("-", "_"), None)
    with pytest.raises(MissingExtraError, match=rf"{package} is needed .*: pip install 'xray-captioning\[hub\]'"):
        pull(address)


def test_clients_are_imported_when_they_are_used() -> None:
    import subprocess

    code = "import xray_captioning.cli.data, sys; print({'huggingface_hub', 'kagglehub'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@both
def test_commands(hubs: Hubs, tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_bundle(bundle := tmp_path / "run", writer(config=Config().to_dict()))
    rewrite_bundle(bundle, lambda aside: (aside / "calibration.json").write_text('{"about": {}}') and None)
    assert main(["push", str(bundle), address, "--name", "chest-words@1.2", "--licence", "cc-by-nc-4.0"]) == 0
    digest = hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest()
    said = capsys.readouterr()
    assert said.out.startswith(f"sent chest-words 1.2, SHA-256 {digest} to {address}")
    assert "split.json" in said.err
    assert main(["pull", address, "--out", str(tmp_path / "copy")]) == 0
    revision = hubs.repositories[PLACES[address]][0][0]
    said = capsys.readouterr()
    origin = f"{address}{'@' if address == HF else '/'}{revision}"
    assert said.out == f"chest-words 1.2 from {origin}, SHA-256 {digest} is in {tmp_path / 'copy'}\n"
    assert identity(tmp_path / "copy")[:3] == ("chest-words", "1.2", digest)
    card = (tmp_path / "copy" / "README.md").read_text("utf-8")
    assert 'license: "cc-by-nc-4.0"' in card
    assert "## Confidence" in card  # which a new card keeps
    assert "SHA-256" in hubs.messages[-1] or address == KAGGLE  # which takes no note of a first version


def test_commands_refuse(hubs: Hubs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", "phantom_attention", HF, "--name", "mine"]) == 2
    assert "phantom_attention: stays as it is; copy" in capsys.readouterr().err
    assert main(["push", "phantom_attention", HF, "--name", "my model"]) == 2
    assert "'my model': write NAME or NAME@VERSION" in capsys.readouterr().err
    assert main(["pull", HF, "--out", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not hubs.repositories
    assert main(["prepare", "phantom_attention", "--out", "hf://someone/data"]) == 2
    assert "give a path of this machine" in capsys.readouterr().err


DATA = {"hf://datasets/raddar/iu": "datasets/raddar/iu", "kaggle://raddar/iu": "kaggle/raddar/iu"}


@pytest.mark.parametrize("address", list(DATA))
def test_data(hubs: Hubs, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    from xray_captioning.data.provenance import describe_data
    from xray_captioning.data.sources.reading import read_studies

    table = b"image,caption\na.png,no acute disease\nb.png,small effusion\n"
    revision = hubs.add(DATA[address], {"captions.csv": table, "images/a.png": b"", "cached.pkl": b"\x80\x04."})
    studies = read_studies(address)
    assert list(studies["findings"]) == ["no acute disease", "small effusion"]
    assert Path(studies["images"][0][0]).is_file()
    pinned = f"{address}{'@' if address[:2] == 'hf' else '/versions/'}{revision}"
    assert describe_data(address) == {"source": pinned}
    assert "cached.pkl" not in hubs.downloads()
    hubs.fails = 501
    with pytest.warns(UserWarning, match=f"the cached copy of revision {revision} is used"):
        assert list(read_studies(address)["findings"]) == list(studies["findings"])
    assert main(["prepare", address]) == 0
    said = capsys.readouterr()
    assert "studies                        2" in said.out
    assert "not reached; the cached copy" in said.err
    with pytest.raises(StoreError, match="cannot be reached"):
        read_studies(address + "-other")


def test_addresses_of_data() -> None:
    from xray_captioning.data.sources.reading import read_studies

    with pytest.raises(
        ConfigError, match=r"a data set's is hf://datasets/USER/NAME\[@REVISION\] or kaggle://USER/NAME"
    ):
        read_studies("hf://someone/data")


@pytest.mark.slow
@both
def test_a_captioner_is_pushed_and_loaded(hubs: Hubs, address: str) -> None:
    from xray_captioning import runtime

    captioner = Captioner.load("phantom_attention")
    captioner.about["name"] = "words"
    pushed = captioner.push_to_hub(address)
    assert captioner.identity.origin == pushed
    loaded = Captioner.load(address)
    revision = hubs.repositories[PLACES[address]][0][0]
    assert loaded.identity == captioner.identity._replace(origin=f"{address}{'@' if address == HF else '/'}{revision}")
    assert loaded.identity.name == "words"
    for ours, theirs in zip(captioner.model.get_weights(), loaded.model.get_weights(), strict=True):
        assert (ours == theirs).all()
    graphs = shipped_folder() / "phantom_attention" / "export"
    push(graphs, address, "graphs alone")
    assert runtime.load(address).identity.digest == identity(graphs).digest
    with pytest.raises(ConfigError, match="not saved as a bundle"):
        runtime.load(address).push_to_hub(address)


@both
@pytest.mark.parametrize("name", ["..", "../out", "/out", "a/out", ""])
def test_a_name_of_somebody_else_leads_nowhere(hubs: Hubs, address: str, name: str, monkeypatch) -> None:
    captioner = Captioner.__new__(Captioner)
    captioner.about, captioner.identity = {"name": name}, Identity(name)
    monkeypatch.setattr(Captioner, "save", lambda *_: pytest.fail("is written"))
    with pytest.raises(ConfigError, match="cannot be that of a folder; give about"):
        captioner.push_to_hub(address)
