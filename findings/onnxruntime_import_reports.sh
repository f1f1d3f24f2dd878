#!/usr/bin/env bash
# onnxruntime 1.32.0 from PyPI, on Linux: what importing it leaves behind.
#
# Guess: as for years, only Windows builds report their use; on Linux an import writes nothing.
# What happened: the import alone, before any model is loaded, writes a session file `.ses` into the
# temporary folder; the library holds the 1DS telemetry client. The wheel's own Privacy.md says that
# telemetry is on by default, on Linux, too. onnxruntime.disable_telemetry_events() comes after the
# import and so too late for the file; with ORT_DISABLE_TELEMETRY=1 set before it, there is none.
# Output seen: import: ['.ses']; import, then disable: ['.ses']; ORT_DISABLE_TELEMETRY=1: [].
# Date: 2026-11-28.
#
# Why it matters here: captions run where radiographs are, in hospitals' networks, and read-only
# containers. Set the variable before onnxruntime is imported for the first time in the process.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet onnxruntime==1.32.0 numpy==2.4.6
env/bin/python - <<'PY'
import importlib.metadata as md
import os
import subprocess
import sys
import tempfile
from pathlib import Path

print("onnxruntime", md.version("onnxruntime"))
package = Path(md.distribution("onnxruntime").locate_file("onnxruntime"))
assert "Telemetry is turned **ON** by default" in (package / "Privacy.md").read_text("utf-8")


def left_by(code, **more):
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", code], env={**kept, "TMPDIR": folder, **more}, check=True)
        return sorted(os.listdir(folder))


plain = left_by("import onnxruntime")
late = left_by("import onnxruntime; onnxruntime.disable_telemetry_events()")
early = left_by("import onnxruntime", ORT_DISABLE_TELEMETRY="1")
print("import:", plain, "import, then disable:", late, "ORT_DISABLE_TELEMETRY=1:", early)
assert plain == late == [".ses"] and early == []
PY
