"""Which room may import which, and what an import or a command loads."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import xray_captioning
from xray_captioning.cli import COMMANDS

PACKAGE = Path(xray_captioning.__file__).parent
HEAVY = ("tensorflow", "keras", "pandas", "nltk", "cv2", "sklearn", "matplotlib", "tqdm", "jax", "pydicom", "PIL")

# From top to bottom. A room may import those on lines above its own, and itself.
LAYERS = [
    ["errors"],
    ["findings", "files", "config", "plugins", "presets"],
    ["backend"],
    ["checkpoints", "search", "hub"],
    ["text", "bundles"],
    ["data", "plots"],
    ["phantom", "metrics"],
    ["evaluation"],
    ["review"],
    ["encoders", "decoders"],
    ["captioner"],
    ["runtime"],
    ["web"],
    ["comparison"],
    ["training", "legacy", "batch"],
    ["demo", "serving", "notebook"],
    ["cli"],
    ["__main__"],
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
# These see strings, arrays and files only.
NO_MODEL = ("bundles", "checkpoints", "data", "evaluation", "metrics", "phantom", "plots", "search", "text")
BACKEND_FREE = ("config", "data.dicom", "data.images", "data.sources", "evaluation", "metrics", "phantom", "text")


@cache
def modules() -> list[str]:
    """Dotted names below the package, such as 'data.sources' and, for itself, ''."""
    paths = [path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py")]
    return sorted(".".join(p.parts).removesuffix("__init__").rstrip(".") for p in paths)


def path_of(module: str) -> Path:
    base = PACKAGE.joinpath(*module.split(".")) if module else PACKAGE
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


@cache
def imports(module: str) -> frozenset[str]:
    """Absolute names of everything a module imports, in functions and for types too."""
    return frozenset(_imports(module))


def _imports(module: str) -> Iterator[str]:
    full = f"xray_captioning.{module}".rstrip(".").split(".")
    package = full if path_of(module).name == "__init__.py" else full[:-1]
    for node in ast.walk(ast.parse(path_of(module).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*start, *([node.module] if node.module else [])])
            for name in node.names:
                inner = f"{source}.{name.name}".removeprefix("xray_captioning.")
                yield f"xray_captioning.{inner}" if inner in modules() else source


def own(module: str) -> set[str]:
    """Return the modules of the package that a module imports."""
    names = {name for name in imports(module) if name.startswith("xray_captioning.")}
    return {name.removeprefix("xray_captioning.") for name in names}


def room(module: str) -> str:
    return module if module in LEVEL else module.split(".")[0]


def reachable(module: str) -> set[str]:
    """Return every module of the package that importing one may lead to."""
    found, ahead = {module}, [module]
    while ahead:
        new = own(ahead.pop()) - found
        found |= new
        ahead += new
    return found


def test_rooms_import_from_above_only() -> None:
    # The package itself only names where its public names live.
    pairs = [(module, other) for module in modules() if module for other in own(module)]
    level = {name: LEVEL[room(name)] for pair in pairs for name in pair}
    wrong = [
        f"{module} imports {other}"
        for module, other in pairs
        if room(other) != room(module) and level[other] >= level[module]
    ]
    assert not wrong


def test_what_needs_no_model_knows_none() -> None:
    models = {"captioner", "encoders", "decoders", "training"}
    wrong = [
        f"{module} imports {other}"
        for module in modules()
        if room(module) in NO_MODEL
        for other in own(module)
        if room(other) in models
    ]
    assert not wrong


def test_backend_is_the_only_door_to_keras() -> None:
    frameworks = {"keras", "tensorflow", "jax", "torch"}
    wrong = [m for m in modules() if {n.split(".")[0] for n in imports(m)} & frameworks]
    assert wrong == ["backend"]


def test_some_rooms_never_reach_the_backend() -> None:
    free = [m for m in modules() if m.startswith(BACKEND_FREE)]
    assert not [module for module in free if "backend" in reachable(module)]


def test_every_room_has_a_layer() -> None:
    rooms = {room(module) for module in modules() if module} - {"weights"}
    assert rooms <= set(LEVEL)
    assert {name.split(".")[0] for name in LEVEL} <= rooms | {"presets"}


def test_files_are_short() -> None:
    lengths = {m: len(path_of(m).read_text("utf-8").splitlines()) for m in modules()}
    assert not {module: length for module, length in lengths.items() if length > 400}


def _loaded(code: str) -> set[str]:
    """Run code in a new interpreter and return the heavy packages it has imported."""
    code += "\nimport sys; print('\\n'.join(m.split('.')[0] for m in sys.modules))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return set(done.stdout.split()) & set(HEAVY)


def test_import_is_light() -> None:
    assert _loaded("import xray_captioning; dir(xray_captioning)") == set()


def test_text_scores_load_no_model() -> None:
    code = "import xray_captioning as xc; xc.score(['a b .'], ['a b .']); xc.label_report('clear .')"
    assert _loaded(code) <= {"nltk"}


def test_studies_load_no_model(phantoms: Path) -> None:
    code = f"import xray_captioning as xc; xc.split_studies(xc.read_studies({str(phantoms)!r}))"
    assert _loaded(code) == {"pandas"}


def test_help_is_light() -> None:
    lines = [[], *[[name] for name in COMMANDS]]
    code = (
        "import contextlib, io\nfrom xray_captioning.cli import main\n"
        f"for line in {lines!r}:\n"
        "    with contextlib.redirect_stdout(io.StringIO()):\n"
        "        assert main([*line, '--help']) == 0\n"
    )
    assert _loaded(code) == set()
