"""What somebody meets who has nothing: clone, install, notebook, app, API, hub, table, completion. Makes docs/tour.md.

    pip install playwright                       and chromium on the path; pdflatex and pdftoppm for the table
    python tools/tour.py --work FOLDER           all of it, into a new folder; what is committed is cloned
    python tools/tour.py --work FOLDER app api   these parts anew; of the others what was logged before
    python tools/tour.py --work FOLDER --pytest "-m 'not slow'"

Every command runs as it stands on the page, in a shell that has this machine's programs, an empty home and a virtual
environment of the folder. A command that fails ends the tour. Ports 8931 to 8933 have to be free.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "tour.md"
LONGEST = 1800.0  # seconds of a command or of a wait for an answer
LONG_LINE = 150  # letters of what is shown of one
WIDE = {"width": 1280, "height": 800}
COLOURS, LARGEST = 128, (1280, 1100)  # of a picture; pixels
ABOUT = """# A tour, from nothing

Each command below was run by `python tools/tour.py` in a clone, a new virtual environment and an empty home, one after
the other as they stand here, and what they print is theirs, shortened where it says `…`. Times are of {machine}. They
vary with the machine, with what else it does, and with how fast packages come
([how much](../benchmarks/README.md#how-much-times-vary)). Pictures show phantoms, drawn by a program, and no patient.
"""


class Tour:
    """Runs commands in the folder, and keeps what was run, what it printed and how long it took."""

    def __init__(self, work: Path, tests: str) -> None:
        self.work, self.tests = work.resolve(), tests
        self.file = self.work / "log.json"
        self.log: dict[str, list[dict[str, Any]]] = json.loads(self.file.read_text()) if self.file.is_file() else {}
        self.told: dict[str, str] = {}  # what variables were exported
        self.part = ""

    @property
    def clone(self) -> Path:
        """Return the visitor's clone."""
        return self.work / "xray_captioning"

    def environment(self) -> dict[str, str]:
        """Return what a shell has on a machine with nothing: programs, an empty home, where packages come from."""
        kept = {
            name: value for name, value in os.environ.items() if re.match(r"PIP_|SSL_|REQUESTS_|\w+_(?i:proxy)$", name)
        }
        path = f"{sys.base_prefix}/bin:/usr/local/bin:/usr/bin:/bin"
        home = self.work / "home"
        home.mkdir(parents=True, exist_ok=True)
        kept["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
        return {**kept, "PATH": path, "HOME": str(home), "LANG": "C.UTF-8", "TERM": "dumb", **self.told}

    def shell(self, command: str, folder: Path | None = None) -> list[str]:
        """Return what runs a command in the clone, in the virtual environment where there is one."""
        folder = folder or self.clone
        enter = f"cd '{folder}'; [ -f '{self.clone}/.venv/bin/activate' ] && . '{self.clone}/.venv/bin/activate'"
        return ["bash", "-c", f"{enter}\n{command}"]

    def note(self, text: str) -> None:
        """Put a sentence on the page."""
        self.log[self.part].append({"text": text})

    def run(self, command: str, lines: int = 4, folder: Path | None = None) -> str:
        """Run a command; its last lines go on the page."""
        print(f"{self.part}: {command}", flush=True)
        started, shell = time.monotonic(), self.shell(command, folder)
        done = subprocess.run(
            shell, env=self.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=2 * LONGEST, check=False,
        )  # fmt: skip
        said = self.clean(done.stdout.decode("utf-8", "replace"))
        if done.returncode:
            raise SystemExit(f"{command}\n{said}\nended with status {done.returncode}")
        self.keep(command, said, time.monotonic() - started, lines)
        return said

    def keep(self, command: str, said: str, seconds: float | None = None, lines: int = 4) -> None:
        """Log what was run, what it said, and how long it took."""
        shown = [line[:200] for line in said.splitlines() if line.strip()]
        shown = [*(["…"] if len(shown) > lines > 0 else []), *shown[max(0, len(shown) - lines) :]] if lines else []
        self.log[self.part].append({"command": self.clean(command), "said": shown, "seconds": seconds})

    def clean(self, text: str) -> str:
        """Take out what only this machine has: its folders, colours, and lines that a progress bar wrote over."""
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r\n", "\n")
        text = "\n".join(line.rpartition("\r")[2] for line in text.split("\n"))
        for folder, name in ((self.clone, "."), (self.work / "home", "~"), (self.work, "~"), (ROOT, "ADDRESS")):
            text = text.replace(f"file://{folder}", name).replace(str(folder), name)
        return text

    @contextlib.contextmanager
    def serving(self, command: str, address: str) -> Iterator[None]:
        """Start a command that goes on, wait until its address answers, and stop it afterwards."""
        print(f"{self.part}: {command} &", flush=True)
        started = time.monotonic()
        with (self.work / "serving.log").open("wb") as log:
            process = subprocess.Popen(
                self.shell(f"exec {command}"), env=self.environment(), stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            try:
                while status(address) != 200:
                    if process.poll() is not None or time.monotonic() - started > LONGEST:
                        raise SystemExit(f"{command}: {(self.work / 'serving.log').read_text()}")
                    time.sleep(0.5)
                self.keep(f"{command} &", "", time.monotonic() - started, 0)
                yield
            finally:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(600)

    @contextlib.contextmanager
    def browser(self, address: str) -> Iterator[Any]:
        """Open a page in Chromium without a window."""
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = chromium.new_page(viewport=WIDE)
            page.set_default_timeout(1000 * LONGEST)
            page.goto(address)
            yield page
            chromium.close()

    def picture(self, name: str, about: str, source: Any, **options: Any) -> None:
        """Put a screenshot, or a file of a picture, on the page, in few colours."""
        from PIL import Image

        path = self.work / f"{name}.png"
        path.write_bytes(source.read_bytes() if isinstance(source, Path) else source.screenshot(**options))
        image = Image.open(path).convert("RGB")
        image.thumbnail(LARGEST)
        image = image.quantize(COLOURS, dither=Image.Dither.NONE)
        image.save(PAGE.with_name(f"tour_{name}.png"), optimize=True)
        self.log[self.part].append({"picture": f"tour_{name}.png", "about": about})


def status(address: str) -> int:
    """Return the status that an address answers with; 0 where nothing answers."""
    try:
        return int(urllib.request.urlopen(address, timeout=5).status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def readme_commands() -> list[str]:
    """Return the commands that README gives under "Two commands"."""
    section = (ROOT / "README.md").read_text("utf-8").partition("## Two commands")[2].partition("\n## ")[0]
    return [line for block in re.findall(r"```bash\n(.*?)```", section, re.S) for line in block.strip().splitlines()]


def clone(tour: Tour) -> None:
    """Clone the checkout, and install it as README says first."""
    if tour.clone.exists():
        raise SystemExit(f"{tour.clone} is there already; name a new folder, or the parts that are to be run anew")
    tour.run(f"git clone --quiet file://{ROOT} xray_captioning && cd xray_captioning", 2, tour.work)
    tour.run("python3 -m venv .venv && . .venv/bin/activate && python --version", 1)
    tour.run(readme_commands()[0].partition(" && ")[0], 1)


def demo(tour: Tour) -> None:
    """Run the demonstration."""
    tour.run(readme_commands()[0].partition(" && ")[2], 10)
    tour.picture(
        "demo", "What the demonstration draws: phantoms, references, captions", tour.clone / "demo" / "panel.png"
    )


def tests(tour: Tour) -> None:
    """Install for work on the code, and test."""
    install, _, check = readme_commands()[1].partition(" && ")
    tour.run(install, 1)
    tour.run(f"{check} {tour.tests}".strip(), 1)


def notebook(tour: Tour) -> None:
    """Run the first notebook by JupyterLab's own menu, and save it."""
    tour.run("python -m pip install '.[notebooks]' jupyterlab", 1)
    address, token = "http://127.0.0.1:8931", "tour"
    command = f"jupyter lab --no-browser --port 8931 --IdentityProvider.token={token} notebooks"
    if os.geteuid() == 0:
        command += " --allow-root"
    with (
        tour.serving(command, f"{address}/api"),
        tour.browser(f"{address}/lab/tree/1_explore.ipynb?token={token}") as page,
    ):
        page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        page.wait_for_timeout(5000)
        _answer(page)
        started = time.monotonic()
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        quiet = 0
        while quiet < 5:  # seconds without a cell that runs or waits; between two cells a kernel is idle, too
            page.wait_for_timeout(1000)
            kernels = []
            with contextlib.suppress(urllib.error.HTTPError):  # 500 while a kernel is about to start
                kernels = json.load(urllib.request.urlopen(f"{address}/api/kernels?token={token}"))
            waiting = page.locator(".jp-InputPrompt", has_text="[*]").count()
            quiet = quiet + 1 if kernels and kernels[0]["execution_state"] == "idle" and not waiting else 0
        page.keyboard.press("Control+s")
        page.wait_for_timeout(3000)
        tour.run("git diff --stat notebooks", 1)
        notebook = read_json(tour.clone / "notebooks" / "1_explore.ipynb")
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        wrong = [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
        if wrong or not all(cell["execution_count"] for cell in cells):
            raise SystemExit(f"the notebook did not run to its end: {wrong}")
        tour.note(
            "In the browser `1_explore.ipynb` was opened, *Run All Cells* chosen, and the notebook saved: all "
            f"{len(cells)} cells ran, without an error, in {time.monotonic() - started:.0f} seconds."
        )
        _answer(page)
        page.locator(".jp-RenderedImage img").first.scroll_into_view_if_needed()
        page.wait_for_timeout(1000)
        tour.picture("notebook", "The first notebook in JupyterLab, after all cells ran", page)


def _answer(page: Any) -> None:
    """Answer what JupyterLab may ask: which kernel, and whether to read news."""
    for answer in ("Select", "No"):
        if (button := page.get_by_role("button", name=answer, exact=True)).count():
            button.first.click(force=True)


def app(tour: Tour) -> None:
    """Upload a study to the app."""
    tour.run("python -m pip install '.[serve,dicom]'", 1)
    images, text = study(tour)
    with (
        tour.serving("xray-captioning app --port 8932", "http://127.0.0.1:8932/_stcore/health"),
        tour.browser("http://127.0.0.1:8932") as page,
    ):
        page.locator("input[type=file]").first.wait_for(state="attached")
        started = time.monotonic()
        page.locator("input[type=file]").first.set_input_files(images)
        first = " ".join(text.split(".")[0].split()[:4])
        page.get_by_text(re.compile(re.escape(first), re.I)).first.wait_for()
        tour.note(
            "In the browser the same two images were uploaded; the app wrote the same caption, "
            f"{time.monotonic() - started:.0f} seconds after the upload."
        )
        page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
        page.wait_for_function("[...document.images].some(image => image.complete && image.naturalWidth > 100)")
        page.set_viewport_size({**WIDE, "height": 1100})
        page.wait_for_timeout(3000)  # until what was drawn is shown
        tour.picture("app", "The app, with the caption of two uploaded images", page)


def api(tour: Tour) -> None:
    """Send the same study to the API."""
    address = "http://127.0.0.1:8933"
    _, text = study(tour)
    with tour.serving("xray-captioning serve --port 8933", f"{address}/readyz"):
        command = f"curl --silent -F images=@frontal.png -F images=@lateral.png {address}/v1/captions"
        said = tour.run(f"{command} | python -m json.tool --no-ensure-ascii | head -n 12", 12)
        if text.split()[0].lower() not in said.lower():
            raise SystemExit(f"the API wrote another caption: {said}")
        tour.run(f"curl --silent {address}/v1/model | python -m json.tool | head -n 12", 12)
        place = "/docs" if status(f"{address}/docs") == 200 else "/"
        with tour.browser(f"{address}{place}") as page:
            page.wait_for_timeout(2000)
            tour.picture("api", f"What the server shows a browser at {place}", page)


def hub(tour: Tour) -> None:
    """Push the shipped bundle, pull it, and compare."""
    sys.path.insert(0, str(ROOT))
    from tests.hub.hubs import Hubs

    shutil.rmtree(tour.clone / "pulled", ignore_errors=True)
    tour.run("python -m pip install '.[hub]'", 1)
    with Hubs() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tour.note(
            "`tests/hub/hubs.py` speaks as much of the protocol of Hugging Face's hub as its client needs. "
            "`HF_ENDPOINT` names it in the place of the real one; `HF_TOKEN` is any word."
        )
        tour.told = {"HF_ENDPOINT": server.url, "HF_TOKEN": "tour", "HF_HUB_DISABLE_XET": "1", "no_proxy": "*"}
        tour.run("xray-captioning push phantom_attention hf://visitor/chest-words", 3)
        tour.run("xray-captioning pull hf://visitor/chest-words --out pulled", 3)
        tour.run("cmp weights/phantom_attention/manifest.json pulled/manifest.json && echo the same bundle", 1)
        tour.told = {}
        server.shutdown()


def paper(tour: Tour) -> None:
    """Compare the shipped model with baselines, and compile the tables of it."""
    for made in ("unseen", "results"):  # before
        shutil.rmtree(tour.clone / made, ignore_errors=True)
    tour.run("xray-captioning phantom --out unseen --studies 120 --seed 77", 1)
    command = "xray-captioning evaluate --data unseen --bundle phantom_attention --beam 1 --set 'fractions=[0.4,0,0.6]'"
    tour.run(f"{command} --out results --report results/page.html", 12)
    head = r"\documentclass{article}\usepackage[landscape,margin=1cm]{geometry}\usepackage{booktabs}"
    tour.run(rf"echo '{head}\begin{{document}}\input{{page}}\end{{document}}' > results/paper.tex", 0)
    if shutil.which("pdflatex") is None:
        tour.note("There is no `pdflatex` on this machine, so the table was not compiled.")
        return
    tour.run("(cd results && pdflatex -interaction=nonstopmode -halt-on-error paper.tex) | tail -n 2", 2)
    if shutil.which("pdftoppm"):
        page = tour.clone / "results" / "paper"
        subprocess.run(["pdftoppm", "-png", "-r", "90", "-singlefile", f"{page}.pdf", page], check=True)
        tour.picture("table", "The first page of the PDF", page.with_suffix(".png"))


def completion(tour: Tour) -> None:
    """Press Tab in an interactive bash."""
    line = 'eval "$(_XRAY_CAPTIONING_COMPLETE=bash_source xray-captioning)"'
    tour.run(f"{line} && complete -p xray-captioning", 1)
    for typed, tabs, wanted in (("ca", 2, ["calibrate", "caption"]), ("evaluate --pro", 1, ["--protocol"])):
        typed = f"xray-captioning {typed}"
        found = typing(tour, line, typed + "\t" * tabs, wanted[0]).split()
        if not set(wanted) <= set(found):
            raise SystemExit(f"{typed} is not completed: {found}")
        said = "\n".join(wanted) if tabs == 2 else f"{typed.rpartition(' ')[0]} {wanted[0]}"
        tour.keep(f"{typed}{'<Tab>' * tabs}", said)


def typing(tour: Tour, line: str, keys: str, wanted: str) -> str:
    """Type a line and then keys into an interactive bash, and return what it shows for the keys from a word on."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve("/bin/bash", ["bash", "--norc", "--noprofile", "-i"], {**tour.environment(), "PS1": "READY "})
    try:
        enter = tour.shell("")[2].splitlines()[0]
        for text in (enter, line):
            os.write(terminal, f"{text}; echo 'do''ne'\n".encode())
            read_until(terminal, "done", LONGEST)
        os.write(terminal, keys.encode())
        return tour.clean(read_until(terminal, wanted, LONGEST) + read_until(terminal, None, 2))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def read_until(terminal: int, word: str | None, quiet: float) -> str:
    """Read what a terminal shows until a word is there, or until nothing more comes for some seconds."""
    found = ""
    while select.select([terminal], [], [], quiet)[0]:
        found += os.read(terminal, 65536).decode("utf-8", "replace")
        if word and word in found:
            break
    return found


def study(tour: Tour) -> tuple[list[Path], str]:
    """Draw phantoms, and return the two images of one and its caption by the command line."""
    images = [tour.clone / "frontal.png", tour.clone / "lateral.png"]
    if not images[1].is_file():
        shutil.rmtree(tour.clone / "phantoms", ignore_errors=True)
        tour.run("xray-captioning phantom --out phantoms --studies 10", 1)
        for number, image in zip(("1001", "2001"), images):
            tour.run(f"cp phantoms/images/images_normalized/900005_IM-0001-{number}.dcm.png {image.name}", 0)
    said = tour.run("xray-captioning caption frontal.png,lateral.png", 1)
    return images, said.strip().splitlines()[-1].rpartition("\t")[2]


def read_json(path: Path) -> Any:
    """Return what a JSON file holds."""
    return json.loads(path.read_text("utf-8"))


PARTS: dict[str, tuple[str, Callable[[Tour], None]]] = {
    "clone": ("Clone and install", clone),
    "demo": ("The demonstration", demo),
    "tests": ("The tests", tests),
    "notebook": ("A notebook in JupyterLab", notebook),
    "app": ("The app", app),
    "api": ("The API with curl", api),
    "hub": ("Push and pull, with a hub on this machine", hub),
    "paper": ("A LaTeX table that compiles", paper),
    "completion": ("Completion in bash", completion),
}


def machine() -> str:
    """Name the machine, and how busy it is."""
    names = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = int(re.findall(r"MemTotal: *(\d+)", Path("/proc/meminfo").read_text())[0]) / 2**20
    busy = f"and a load of {os.getloadavg()[0]:.0f} from other work"
    return f"{os.cpu_count()} cores of an {names[0]} with {memory:.0f} GB of memory, {busy}"


def page(log: dict[str, list[dict[str, Any]]], where: str) -> str:
    """Return the page of what was logged."""
    parts = [(title, log[name]) for name, (title, _) in PARTS.items() if name in log]
    times = [(title, sum(entry.get("seconds") or 0 for entry in entries)) for title, entries in parts]
    rows = "\n".join(f"| [{title}](#{anchor(title)}) | {seconds:.0f} s |" for title, seconds in times)
    sections = "\n".join(f"## {title}\n\n{''.join(map(entry_text, entries))}" for title, entries in parts)
    return (
        f"{ABOUT.format(machine=where)}\n| part | commands took |\n| --- | --- |\n{rows}\n\n{sections}".rstrip() + "\n"
    )


def anchor(title: str) -> str:
    """Return what a link to a heading is called."""
    return re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")


def duration(seconds: float) -> str:
    """Return a time as one says it."""
    whole = round(seconds)
    return f"{whole} seconds" if whole > 1 else "1 second" if whole else "Less than a second"


def entry_text(entry: dict[str, Any]) -> str:
    """Return a command with what it printed, a sentence or a picture as Markdown."""
    if "picture" in entry:
        return f"![{entry['about']}]({entry['picture']})\n\n"
    if "text" in entry:
        return f"{entry['text']}\n\n"
    said = "\n".join(line if len(line) <= LONG_LINE else line[:LONG_LINE].rstrip() + " …" for line in entry["said"])
    took = f"{duration(entry['seconds'])}.\n\n" if entry["seconds"] is not None else ""
    label = "bash" if took else ""  # what is only typed is no command
    return f"```{label}\n{entry['command']}\n```\n\n" + (f"```\n{said}\n```\n\n" if said else "") + took


def main() -> None:
    """Walk the parts that are named, or all, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder, new for the whole tour")
    parser.add_argument("--pytest", default="", help="what README's pytest is given besides; all tests otherwise")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help=", ".join(PARTS))
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    tour = Tour(given.work, given.pytest)
    where = tour.log.setdefault("machine", [{"text": machine()}])[0]["text"]
    for name in given.parts or PARTS:
        tour.part, tour.log[name] = name, []
        PARTS[name][1](tour)
        tour.file.write_text(json.dumps(tour.log, indent=1))
    PAGE.write_text(page(tour.log, where), "utf-8")


if __name__ == "__main__":
    main()
