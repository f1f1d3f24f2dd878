"""The notebooks as committed: both forms agree, and what one reads is worth reading."""

import ast
import importlib.util
import json
import re
from pathlib import Path

import nbformat
import pytest

from tests.golden import said

HERE = Path(__file__).resolve().parents[2] / "notebooks"
NAMES = sorted(path.stem for path in HERE.glob("[0-9]_*.ipynb"))
LONGEST = 8  # lines of a function in a notebook
TRACES = re.compile(r"/(tmp|root|work|home|Users)/|\.venv|site-packages|ipykernel_")


@pytest.fixture(scope="module")
def run():
    """Return the module notebooks/run.py."""
    spec = importlib.util.spec_from_file_location("notebooks_run", HERE / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def notebooks():
    return {name: nbformat.read(HERE / f"{name}.ipynb", as_version=4) for name in NAMES}


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code(notebook) for output in cell.outputs]


def test_all_nine_are_there():
    assert [name[0] for name in NAMES] == list("123456789")


def test_both_forms_agree(run):
    assert {name: run.difference(name) for name in NAMES} == dict.fromkeys(NAMES)


def test_they_were_run_from_top_to_bottom(notebooks):
    for name, notebook in notebooks.items():
        counts = [cell.execution_count for cell in code(notebook)]
        assert counts == list(range(1, len(counts) + 1)), name


def test_they_are_small_and_have_figures(notebooks):
    for name, notebook in notebooks.items():
        assert (HERE / f"{name}.ipynb").stat().st_size < 2_000_000
        figures = ["image/png" in output.get("data", {}) for output in outputs(notebook)]
        assert sum(figures) >= 2, name


def test_outputs_hold_no_errors_and_no_warnings(notebooks):
    for name, notebook in notebooks.items():
        for output in outputs(notebook):
            assert output.output_type != "error", name
            assert output.get("name") != "stderr", (name, output.get("text"))
            assert "Warning" not in json.dumps(output.get("text", "")), name


def test_outputs_do_not_tell_the_machine(notebooks):
    for name, notebook in notebooks.items():
        for output in outputs(notebook):
            data = output.get("data", {}).items()
            texts = {kind: text for kind, text in data if "image" not in kind}
            found = TRACES.search(json.dumps([texts, output.get("text", "")]))
            assert not found, (name, found)
        assert notebook.metadata.kernelspec.name == "python3"
        assert set(notebook.metadata.language_info) == {"name"}


def test_outputs_come_from_phantoms(notebooks):
    for name, notebook in notebooks.items():
        assert "Synthetic phantoms, not patients" in json.dumps(outputs(notebook)), name


def test_first_cells(run, notebooks):
    assert set(run.EXTRAS) <= set(notebooks)
    for name, notebook in notebooks.items():
        title, install, parameters = notebook.cells[:3]
        assert title.source.startswith(f"# {name[0]}. ")
        for text in (run.badges(name), "two CPU cores", "GPU"):
            assert text in title.source, name
        assert install.source == run.install_cell(name).rstrip().replace("# %pip", "%pip")
        assert parameters.metadata.tags == ["parameters"]
        assert "DATA = None" in parameters.source


@pytest.mark.parametrize(
    "sentence",
    [
        '| **constant report**, by BLEU-4 | {fixed["BLEU-1"]} | {fixed["BLEU-2"]} | {fixed["BLEU-3"]} |'
        ' {fixed["BLEU-4"]} | {fixed["ROUGE-L"]} |',
        '| CvT2DistilGPT2 (README) | {cvt["BLEU-1"]} | {cvt["BLEU-2"]} | {cvt["BLEU-3"]} | {cvt["BLEU-4"]} |'
        ' {cvt["ROUGE-L"]} |',
        "against human coding its macro F1 is {mesh[0]} (",
        'constant caption scores {old["BLEU-1"]}/{old["BLEU-2"]}/{old["BLEU-3"]}/{old["BLEU-4"]} on {old["n"]} studies',
    ],
)
def test_what_is_said_of_real_reports_is_what_the_docs_say(notebooks, sentence):
    text = "\n".join(cell.source for cell in notebooks["7_metrics"].cells if cell.cell_type == "markdown")
    spots = list(said.spots_of_sentence("7_metrics", text, sentence))
    assert [spot.text for spot in spots if not spot.agrees()] == []


def test_functions_are_short(notebooks):
    for name, notebook in notebooks.items():
        for cell in code(notebook):
            plain = re.sub(r"(?m)^( *)(!|%|\w+ = !).*$", r"\1pass", cell.source)
            for node in ast.walk(ast.parse(plain)):
                if isinstance(node, (ast.FunctionDef, ast.Lambda)):
                    assert node.end_lineno - node.lineno < LONGEST, (name, ast.unparse(node)[:60])


def tiny(*sources):
    cells = [nbformat.v4.new_code_cell(source, id=f"c{n}") for n, source in enumerate(sources)]
    cells[0].metadata["tags"] = ["parameters"]
    return nbformat.v4.new_notebook(cells=cells)


def test_parameters_are_overridden_and_outputs_stored(run, tmp_path):
    notebook = tiny("STUDIES = 2000\nother = 1", "print(STUDIES, other)", "STUDIES + 1")
    done = run.execute(notebook, tmp_path, {"STUDIES": 3, "other": 4, "ABSENT": 1})
    run.store(notebook, done, tmp_path / "kept.ipynb")
    kept = nbformat.read(tmp_path / "kept.ipynb", as_version=4)
    assert [cell.source for cell in kept.cells] == [cell.source for cell in notebook.cells]
    assert kept.cells[1].outputs[0].text == "3 4\n"
    assert kept.cells[2].outputs[0].data["text/plain"] == "4"
    assert kept.cells[2].outputs[0].execution_count == 3


@pytest.mark.parametrize("failing", ["1 / 0", "!exit 3"])
def test_a_failing_cell_or_shell_line_is_an_error(run, tmp_path, failing):
    with pytest.raises(run.CellExecutionError):
        run.execute(tiny("a = 1", failing), tmp_path, {})


def test_forms_that_differ_are_told(run, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "HERE", tmp_path)
    source = f"# %% [markdown]\n# {run.badges('9_new')}\n\n# %%\na = 1\n"
    (tmp_path / "9_new.py").write_text(source)
    assert run.difference("9_new") == "there is no .ipynb"
    run.sync("9_new")
    assert run.difference("9_new") is None
    (tmp_path / "9_new.py").write_text(source.replace("a = 1", "a = 2"))
    assert run.difference("9_new") == "cell 2 differs"
    (tmp_path / "9_new.py").write_text(source.replace(run.REPOSITORY, "someone/else"))
    assert "its badges" in run.difference("9_new")
    (tmp_path / "9_new.py").write_text(f"{source}\n# %%\nimport importlib.util\n\n# %%\nb = 2\n")
    assert "its install cell" in run.difference("9_new")
    run.sync("9_new")
    assert (tmp_path / "9_new.py").read_text() == f"{source}\n# %%\n{run.install_cell('9_new')}\n# %%\nb = 2\n"


def test_unchanged_cells_keep_their_outputs(run, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "HERE", tmp_path)
    (tmp_path / "9_new.py").write_text("# %%\na = 1\n\n# %%\nprint(2)\n")
    run.sync("9_new")
    path = tmp_path / "9_new.ipynb"
    stored = nbformat.read(path, as_version=4)
    stored.cells[1].outputs = [nbformat.v4.new_output("stream", name="stdout", text="2\n")]
    nbformat.write(stored, path)
    (tmp_path / "9_new.py").write_text("# %%\na = 5\n\n# %%\nprint(2)\n")
    run.sync("9_new")
    assert nbformat.read(path, as_version=4).cells[1].outputs[0].text == "2\n"
