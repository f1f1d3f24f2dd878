"""The command caption with a folder for --out: its partitions, their manifest, and what a kill leaves."""

import functools
import json
import random
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from tests.batch.test_run import Killed, killed_writing
from xray_captioning.batch import caption_table, partitions
from xray_captioning.batch import run as batch
from xray_captioning.batch.caption_table import PackedStudies, Study
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.cli import main
from xray_captioning.data.opening import MANIFEST
from xray_captioning.data.sources.captions import CaptionsTable, tables_of
from xray_captioning.data.table import Table
from xray_captioning.errors import DataError

pytest.importorskip("pyarrow")


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(batch, "SIZE", 2)
    monkeypatch.setattr(batch, "SHARE", 1)
    monkeypatch.setattr(partitions, "STUDIES", 4)
    monkeypatch.setattr(Captioner, "load", functools.cache(Captioner.load))


@pytest.fixture
def line(phantoms, tiny_run, tmp_path):
    """The command that captions nine images, up to the value of --out."""
    (tmp_path / "images").mkdir()
    for image in sorted(phantoms.glob("images/*/*.png"))[:9]:
        shutil.copy(image, tmp_path / "images")
    return ["caption", str(tmp_path / "images"), "--bundle", str(tiny_run), "--out"]


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rows(path):
    return [dict(row) for row in Table(path)]


def test_a_folder_holds_the_rows_of_one_table_in_partitions(line, tmp_path, capfd):
    (tmp_path / "images" / "a.png").write_text("no image")
    folder, table = tmp_path / "captions", tmp_path / "captions.parquet"
    folder.mkdir()  # an empty one is as good as none
    assert main([*line, str(folder)]) == main([*line, str(table)]) == 1
    assert f"{folder}: 10 studies, 1 of them with an error" in capfd.readouterr().err
    assert sorted(content(folder)) == [MANIFEST, *(f"part-{n:05}.parquet" for n in range(3))]
    assert rows(folder) == rows(table)
    first, *told = map(json.loads, (folder / MANIFEST).read_text().splitlines())
    assert first["studies of a partition"] == 4
    assert [sum(part["rows"].values()) for part in told] == [4, 4, 2]
    assert sum(part["rows"].get("error", 0) for part in told) == 1


def test_other_readers_find_the_rows(line, tmp_path):
    import pandas as pd

    assert main([*line, str(tmp_path / "captions")]) == 0
    assert len(pd.read_parquet(tmp_path / "captions")) == 9


def test_a_folder_is_evaluated_as_a_table_is(phantoms, tiny_run, tmp_path):
    line = ["caption", "--data", str(phantoms), "--bundle", str(tiny_run), "--out"]
    for name in ("captions", "captions.csv"):
        assert main([*line, str(tmp_path / name)]) == 0
        evaluate = ["evaluate", "--data", str(phantoms), "--captions", str(tmp_path / name)]
        assert main([*evaluate, "--out", str(tmp_path / f"results of {name}")]) == 0
    found = [tmp_path / f"results of {name}" / "metrics.json" for name in ("captions", "captions.csv")]
    assert found[0].read_bytes() == found[1].read_bytes()


def test_kills_change_nothing(phantoms, tiny_run, tmp_path, monkeypatch):
    images = sorted(map(str, phantoms.glob("images/*/*.png")))[:15]
    studies = PackedStudies(Study(image, [image]) for image in images)
    captioner, rng, whole, out = Captioner.load(tiny_run), random.Random(3), tmp_path / "whole", tmp_path / "killed"
    batch.caption_to_file(captioner, "digest", studies, whole)
    kills = 0
    while not (out / MANIFEST).exists():
        with monkeypatch.context() as patch, suppress(Killed):
            killed_writing(patch, rng.randrange(3), rng.random())
            batch.caption_to_file(captioner, "digest", studies, out, resume=True)
            break
        assert (kills := kills + 1) < 100
        with pytest.raises(DataError, match="holds an unfinished run; end it with caption --resume"):
            Table(out)
    assert kills > 10
    assert content(out) == content(whole)


def test_a_kill_between_any_two_steps(line, tmp_path, monkeypatch):
    assert main([*line, str(tmp_path / "whole")]) == 0
    for place, step in ((partitions, "atomic_write"), (Path, "unlink")):
        out = tmp_path / step
        with monkeypatch.context() as patch:
            patch.setattr(place, step, lambda *_, **__: (_ for _ in ()).throw(Killed))
            with pytest.raises(Killed):
                main([*line, str(out)])
        assert main([*line, str(out), "--resume"]) == 0
        assert content(out) == content(tmp_path / "whole")


def test_finished_partitions_are_neither_written_again_nor_believed_blindly(line, tmp_path, monkeypatch, capsys):
    out, second = tmp_path / "captions", tmp_path / "captions" / "part-00001.parquet"
    assert main([*line, str(out)]) == 0
    whole, written = content(out), []
    kept = caption_table.write_rows
    monkeypatch.setattr(caption_table, "write_rows", lambda *given: (written.append(given[1]), kept(*given)))
    assert main([*line, str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main([*line, str(out), "--resume"]) == 0
    assert f"{out}: 9 studies, 0 of them with an error" in capsys.readouterr().err
    assert (content(out), written) == (whole, [])

    second.write_bytes(whole["part-00000.parquet"])
    assert main([*line, str(out), "--resume"]) == 2
    assert f"{second}: is not what its manifest says; remove it, and --resume" in capsys.readouterr().err
    second.unlink()
    with pytest.raises(DataError, match=r"part-00001\.parquet: is not both there and named in _manifest\.jsonl; go on"):
        Table(out)
    assert main([*line, str(out), "--resume"]) == 0
    assert written == [second]
    assert content(out) == whole  # its line is not there twice
    assert rows(out)
    assert main(["score", "--references", str(out), "--hypotheses", str(out), "--reference", "caption"]) == 0

    (out / MANIFEST).rename(caption_table.part_of(out))  # as a kill before the last step leaves it
    assert main([*line, str(out)]) == 2
    assert "holds an unfinished run; go on with --resume, or remove its folder" in capsys.readouterr().err
    assert main([*line, str(out), "--resume"]) == 0
    assert written == [second]
    assert rows(out)


def test_what_is_not_the_folder_that_the_manifest_names_is_refused(line, tmp_path):
    out = tmp_path / "captions"
    assert main([*line, str(out)]) == 0
    text = (out / MANIFEST).read_text()
    (out / ".part-00002.elsewhere-1-abcdefgh.parquet").write_text("what a killed run of another machine left")
    assert len(rows(out)) == 9
    shutil.copy(out / "part-00000.parquet", out / "part-00007.parquet")
    with pytest.raises(DataError, match=r"part-00007\.parquet: is not both there and named in _manifest\.jsonl"):
        Table(out)
    (out / "part-00007.parquet").unlink()
    for cut in ("", text.partition("\n")[0] + "\n", text.partition("\n")[0] + '\n{"partition": []}\n'):
        (out / MANIFEST).write_text(cut)
        with pytest.raises(DataError, match="is not both there and named"):
            Table(out)
    (out / MANIFEST).unlink()
    (out / "part-00003.parquet.part").write_text("{}\n")
    with pytest.raises(DataError, match="holds an unfinished run"):
        Table(out)


def test_a_folder_is_data_too_once_it_is_whole(line, tmp_path):
    out = tmp_path / "captions"
    assert main([*line, str(out)]) == 0
    assert tables_of(out) == [CaptionsTable(out)]
    (out / MANIFEST).rename(caption_table.part_of(out))
    for name in ("part-00001.parquet", "part-00002.parquet"):
        (out / name).unlink()
    with pytest.raises(DataError, match="holds an unfinished run"):
        [Table(table.path) for table in tables_of(out)]


NAMED = '{"partition": "part-00000.parquet"'
WRONG = [
    "{}",
    "[]",
    f"{NAMED}}}",
    f'{NAMED}, "sha256": "", "rows": 5}}',
    f'{NAMED}, "sha256": "", "rows": {{"a": ""}}}}',
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_damaged_manifest_is_one_error(line, tmp_path, capsys, wrong):
    out = tmp_path / "captions"
    assert main([*line, str(out)]) == 0
    text = (out / MANIFEST).read_text().splitlines()
    (out / MANIFEST).unlink()
    caption_table.part_of(out).write_text("\n".join([text[0], wrong, *text[1:], ""]))
    capsys.readouterr()
    assert main([*line, str(out), "--resume"]) == 2
    error = capsys.readouterr().err
    assert "_manifest.jsonl.part: is damaged (" in error
    assert error.count("\n") == 1


def test_other_studies_or_another_bundle_do_not_go_on(line, tmp_path, capsys):
    out = tmp_path / "captions"
    assert main([*line, str(out)]) == 0
    (out / MANIFEST).rename(caption_table.part_of(out))
    before = content(out)
    max((tmp_path / "images").iterdir()).unlink()
    assert main([*line, str(out), "--resume"]) == 2
    assert "was begun with another set of studies or images" in capsys.readouterr().err
    assert content(out) == before


def test_a_folder_called_like_a_file_is_refused_first(line, tmp_path, capsys):
    (tmp_path / "captions.csv").mkdir()
    assert main([*line, str(tmp_path / "captions.csv")]) == 2
    assert "captions.csv: is there already" in capsys.readouterr().err


def test_a_stray_partition_is_named_and_no_report_is_of_another_study(line, tmp_path, capsys):
    out = tmp_path / "captions"
    line[3] = "phantom_attention"
    assert main([*line, str(out)]) == 0
    whole = (out / MANIFEST).read_bytes()
    shutil.copy(out / "part-00001.parquet", out / "a.parquet")
    assert main([*line, str(out), "--resume", "--fhir", str(tmp_path / "fhir")]) == 2
    assert "a.parquet: is no partition of this run; move it" in capsys.readouterr().err
    assert not (tmp_path / "fhir").exists()
    (out / "a.parquet").unlink()
    caption_table.part_of(out).write_bytes(whole.splitlines(keepends=True)[0])  # of another run, from elsewhere
    assert main([*line, str(out), "--resume"]) == 0
    assert (out / MANIFEST).read_bytes() == whole
    assert len(rows(out)) == 9


@pytest.mark.parametrize("there", ["file", "folder"])
def test_what_is_no_folder_of_captions_is_kept(line, tmp_path, capsys, there):
    out = tmp_path / "mine"
    if there == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "notes.txt").write_text("mine")
    for options in ([], ["--resume"]):
        assert main([*line, str(out), *options]) == 2
        assert "is there already" in capsys.readouterr().err
    assert (out if there == "file" else out / "notes.txt").read_text() == "mine"


def test_reports_of_all_partitions_are_written(line, tmp_path):
    line[3] = "phantom_attention"  # which says something of each
    assert main([*line, str(tmp_path / "captions"), "--fhir", str(tmp_path / "fhir")]) == 0
    assert len(list((tmp_path / "fhir").iterdir())) == 9
    assert main([*line, str(tmp_path / "captions"), "--resume", "--fhir", str(tmp_path / "later")]) == 0
    assert content(tmp_path / "later").keys() == content(tmp_path / "fhir").keys()
