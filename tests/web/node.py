"""Runs the page's modules in Node, where there is one, as fast as a function call."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import xray_captioning

WEB = Path(xray_captioning.__file__).parent / "web"


def node(tmp_path, code, given):
    """Return what `code`, the body of an async function of `given`, returns; `web` is the modules' folder."""
    if shutil.which("node") is None:
        pytest.skip("Node is not on this machine")
    (tmp_path / "given.json").write_text(json.dumps(given), "utf-8")
    script = f"""
import fs from "fs";
const given = JSON.parse(fs.readFileSync("given.json"));
const load = (name) => import({json.dumps(WEB.as_uri())} + "/" + name);
const run = async () => {{ {code} }};
fs.writeFileSync("found.json", JSON.stringify(await run()));
"""
    (tmp_path / "run.mjs").write_text(script, "utf-8")
    done = subprocess.run(["node", "run.mjs"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((tmp_path / "found.json").read_text("utf-8"))
