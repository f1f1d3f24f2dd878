"""Build, check and execute the notebooks.

    python notebooks/run.py --sync            after a change of a text form: write its .ipynb anew
    python notebooks/run.py --check           do both forms agree?
    python notebooks/run.py --quick           check, then execute all at tiny sizes; five minutes
    python notebooks/run.py --full            execute all as they stand and store their outputs
    python notebooks/run.py --full 3_attention 7_metrics
    python notebooks/run.py --quick --data indiana/ --keep look/

Each notebook is a text form in jupytext's percent format, which is edited, and an ``.ipynb`` made
of it, which keeps the outputs. An error in a cell, a shell line that fails and a pair that differs
end the run with status 1. With ``--data`` nothing is stored in the ``.ipynb``: committed outputs
show phantoms only.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image  # matplotlib brings it

REPOSITORY = "xray-captioning/xray_captioning"  # on GitHub; badges and install cells are made of it
# The second cell of every notebook. Kaggle's packages are left as they are: some are older than setup.cfg asks for.
INSTALL = '''\
import importlib.util
from pathlib import Path

extras = "EXTRAS"
address = "git+https://github.com/REPOSITORY"
sources = [f'"xray-captioning{extras}"', f'"xray-captioning{extras} @ {address}"']  # PyPI; GitHub until it is there
if Path("../setup.cfg").exists():  # a checkout
    sources = [f'"..{extras}"', *sources]
for wheel in Path("/kaggle/input").rglob("xray_captioning-*.whl"):  # attached on Kaggle: no internet
    names = {path.name.split("-")[0] for path in wheel.parent.glob("*.whl")}  # what Kaggle lacks, too
    sources = [f"--no-index --no-deps --find-links {wheel.parent} {' '.join(sorted(names))}"]
for source in sources:
    if importlib.util.find_spec("xray_captioning") is None:
        # %pip install --quiet {source}
'''
EXTRAS = {
    "6_transformer_and_gpt2": "[hub]",
    "8_your_own_data": "[dicom,serve]",
    "9_published_encoders": "[export]",
}
HERE = Path(__file__).resolve().parent
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
PROGRESS = re.compile(r"training on .+ in \w+$|about .+ batches$|epoch \d+.*/\d+.*: |[\w ]+: +\d+%, \d+/\d+ \[.*|$")
# What quick mode sets, where a notebook has such a parameter.
QUICK: dict[str, Any] = {
    "SIZE": "quick",
    "STUDIES": 48,
    "PRESETS": ["chexnet_attention", "cnn_lstm", "vit_gpt2"],
}
LONGEST = 3600  # seconds of a cell


def names() -> list[str]:
    """Return the notebooks, in the order in which they are read."""
    return sorted(path.stem for path in HERE.glob("[0-9]_*.py"))


def badges(name: str) -> str:
    """Return the line of badges that opens a notebook on Colab and on Kaggle."""
    page = f"{REPOSITORY}/blob/main/notebooks/{name}.ipynb"
    colab = "https://colab.research.google.com"
    return (
        f"[![Open in Colab]({colab}/assets/colab-badge.svg)]({colab}/github/{page}) "
        "[![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)]"
        f"(https://kaggle.com/kernels/welcome?src=https://github.com/{page})"
    )


def install_cell(name: str) -> str:
    """Return the cell that installs the package where it is not there."""
    return INSTALL.replace("EXTRAS", EXTRAS.get(name, "")).replace("REPOSITORY", REPOSITORY)


def addressed(name: str, text: str) -> str:
    """Put the badges and the install cell into a text form."""
    text = re.sub(r"(?m)^# \[!\[Open in Colab\].*$", lambda _: f"# {badges(name)}", text)
    cell = re.compile(r"(?<=# %%\n)import importlib\.util\n.*?(?=\n# %%)", re.S)
    return cell.sub(lambda _: install_cell(name), text, count=1)


def from_text(name: str) -> Any:
    """Return the notebook that a text form describes, without outputs."""
    notebook = jupytext.reads((HERE / f"{name}.py").read_text("utf-8"), "py:percent")
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
    jupyter = {"formats": "ipynb,py:percent"}
    notebook.metadata = {
        "jupytext": jupyter,
        "kernelspec": KERNEL,
        "language_info": {"name": "python"},
    }
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def difference(name: str) -> str | None:
    """Say how the two forms of a notebook, or its addresses, differ; None where they agree."""
    text, stored = (HERE / f"{name}.py").read_text("utf-8"), HERE / f"{name}.ipynb"
    if text != addressed(name, text):
        return "its badges or its install cell are not what run.py makes"
    if not stored.is_file():
        return "there is no .ipynb"
    made, found = from_text(name), nbformat.read(stored, as_version=4)
    for number, (one, other) in enumerate(zip(made.cells, found.cells), 1):
        if _inputs(one) != _inputs(other):
            return f"cell {number} differs"
    if len(made.cells) != len(found.cells):
        return f"{len(made.cells)} cells in the text form, {len(found.cells)} in the .ipynb"
    return None if made.metadata == found.metadata else "the metadata differ"


def sync(name: str) -> None:
    """Write a notebook's .ipynb anew from its text form; unchanged code keeps its outputs."""
    source = HERE / f"{name}.py"
    text = addressed(name, source.read_text("utf-8"))
    source.write_text(text, "utf-8")
    notebook, stored = from_text(name), HERE / f"{name}.ipynb"
    old = nbformat.read(stored, as_version=4).cells if stored.is_file() else []
    outputs = {cell.source: cell for cell in old if cell.cell_type == "code"}
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source in outputs:
            cell.outputs = outputs[cell.source].outputs
            cell.execution_count = outputs[cell.source].execution_count
    nbformat.write(notebook, stored)


def execute(notebook: Any, folder: Path, parameters: dict[str, Any]) -> Any:
    """Run a notebook in a folder and return it with its outputs.

    Raises
    ------
    CellExecutionError
        A cell, or a shell line in it, failed.
    """
    run = nbformat.from_dict(notebook)
    run.cells = list(_with_parameters(run.cells, parameters))
    for cell in run.cells:
        if cell.cell_type == "code":  # behind each shell line, so that what comes last is shown
            check = r"\1\n\2assert not _exit_code, 'the shell line above failed'"
            cell.source = re.sub(r"(?m)^(( *)!.*)$", check, cell.source)
    options: dict[str, Any] = {"timeout": LONGEST, "kernel_name": "python3", "record_timing": False}
    options["extra_arguments"] = ["--log-level=40"]  # no remarks on how the kernel is talked to
    client = NotebookClient(run, resources={"metadata": {"path": str(folder)}}, **options)
    client.execute()
    return run


def store(notebook: Any, run: Any, path: Path) -> None:
    """Write a notebook with the outputs of its run, without traces of this machine."""
    ran = {cell.id: cell for cell in run.cells}
    number = 0
    for cell in notebook.cells:
        if cell.cell_type == "code":
            number += 1
            cell.outputs = [output for output in ran[cell.id].outputs if not is_progress(output)]
            cell.execution_count = number
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = number
                if "image/png" in output.get("data", {}):
                    output.data["image/png"] = smaller(output.data["image/png"])
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


def is_progress(output: Any) -> bool:
    """Whether an output says how far a training is: it holds this machine's times. Warnings stay."""
    return output.get("name") == "stderr" and all(map(PROGRESS.match, output.text.split("\n")))


def smaller(figure: str) -> str:
    """Return a PNG, in base64, with 256 colours: a third of the size, hardly to be told apart."""
    image = Image.open(io.BytesIO(base64.b64decode(figure))).convert("RGB")
    buffer = io.BytesIO()
    image.quantize(256, Image.Quantize.MAXCOVERAGE).save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode() + "\n"


def _inputs(cell: Any) -> tuple[Any, ...]:
    return cell.cell_type, cell.source, cell.metadata, cell.id


def _with_parameters(cells: list[Any], values: dict[str, Any]) -> Iterator[Any]:
    """Yield the cells, and after the parameters a cell that overrides those of them it names."""
    for cell in cells:
        yield cell
        if "parameters" in cell.metadata.get("tags", []):
            given = {k: v for k, v in values.items() if re.search(rf"(?m)^{k} =", cell.source)}
            lines = "\n".join(f"{name} = {value!r}" for name, value in given.items())
            if lines:
                yield nbformat.v4.new_code_cell(lines, id="injected-parameters")


def _run(name: str, given: Any, folder: Path) -> None:
    parameters = dict(QUICK) if given.quick else {}
    if given.data:
        parameters["DATA"] = str(given.data.resolve())
    notebook = from_text(name)
    run = execute(notebook, folder, parameters)
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
        store(from_text(name), run, given.keep / f"{name}.ipynb")
    elif given.full and not given.data:
        store(notebook, run, HERE / f"{name}.ipynb")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    modes = parser.add_mutually_exclusive_group(required=True)
    for mode in ("sync", "check", "quick", "full"):
        modes.add_argument(f"--{mode}", action="store_true")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="notebooks; all where none is named"
    )
    parser.add_argument("--data", type=Path, help="studies to run on instead of phantoms")
    parser.add_argument("--work", type=Path, help="folder to run in: phantoms, caches and bundles")
    parser.add_argument("--keep", type=Path, help="store the executed notebooks here instead")
    return parser.parse_args()


def main() -> int:
    """Do what is asked for; 1 where something failed."""
    given = _arguments()
    # Shell lines of a notebook find the commands of this interpreter.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if given.quick:  # what runs so short is compiled, not optimised: as in the tests
        os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    failed = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.work or (Path(temporary) if given.quick else HERE)
        folder.mkdir(parents=True, exist_ok=True)
        for name in given.names or names():
            if given.sync:
                sync(name)
                continue
            started, problem = time.monotonic(), None if given.full else difference(name)
            if problem is None and not given.check:
                try:
                    _run(name, given, folder)
                except CellExecutionError as error:
                    problem = str(error)
            seconds = time.monotonic() - started
            print(f"{name}: {problem or 'fine'} ({seconds:.0f} s)", flush=True)
            failed += [name] if problem else []
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
