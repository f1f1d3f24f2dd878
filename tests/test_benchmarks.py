"""Scripts that no test runs still import what is there."""

import ast
import importlib
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_what_a_benchmark_uses_is_there(script):
    tree, modules, missing = ast.parse(script.read_text("utf-8")), {}, []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("xray_captioning"):
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name) and not _is_module(node.module, alias.name):
                    missing.append(f"{node.module}.{alias.name}")
                found = getattr(module, alias.name, None)
                if isinstance(found, ModuleType):
                    modules[alias.asname or alias.name] = found
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id)
            if module is not None and not hasattr(module, node.attr):
                missing.append(f"{module.__name__}.{node.attr}")
    assert not missing


def _is_module(package, name):
    try:
        importlib.import_module(f"{package}.{name}")
    except ImportError:
        return False
    return True


@pytest.mark.slow
def test_what_a_gpu_is_measured_by_also_runs_tiny(capsys, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS[0].parent)
    importlib.import_module("gpu").main(["--quick"])
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [line[0] for line in lines[1:]].count("| beam-3 search") == 2  # in both precisions
    assert all(float(line[3]) > 0 for line in lines[2:])
