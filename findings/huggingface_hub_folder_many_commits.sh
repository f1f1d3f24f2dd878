#!/usr/bin/env bash
# huggingface_hub 2.4.0, upload_folder.
#
# Guess: a folder becomes one commit, as create_commit makes it, so that nobody who fetches the branch meanwhile gets
# files of two versions.
# What happened: 300 small files become two commits on the branch itself. By its source, a commit is also made once a
# batch has waited for five minutes, so that a slow upload of few, large files may be several, too. Where hf_xet, on
# which it depends, is switched off, it is one commit. create_commit makes one.
# Output seen: upload_folder: commits of [250, 50] files; create_commit: commits of [300] files.
# Date: 2026-11-29.
#
# Why it matters here: weights, configuration and manifest of a model belong together; between two commits a reader
# gets the new of one and the old of another. Send them by create_commit.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet huggingface_hub==2.4.0
cat >server.py <<'PY'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

commits = []


class Hub(BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        value = {"id": "me/it", "sha": f"{len(commits):040}", "siblings": []}
        if "/preupload/" in self.path:
            paths = [file["path"] for file in json.loads(body)["files"]]
            value = {"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]}
        elif "/commit/" in self.path:
            commits.append(sum(json.loads(line)["key"] == "file" for line in body.splitlines()))
            value = {"commitUrl": f"{url}/me/it/commit/{len(commits):040}", "commitOid": f"{len(commits):040}"}
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
PY
HF_HOME="$work/home" no_proxy='*' env/bin/python - <<'PY'
import os
from pathlib import Path

import server

os.environ |= {"HF_ENDPOINT": server.url, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
import huggingface_hub

print("huggingface_hub", huggingface_hub.__version__)
folder = Path("folder")
folder.mkdir()
for number in range(300):
    (folder / f"{number}.json").write_text(str(number))
api = huggingface_hub.HfApi(token="secret")
seen = {}
api.upload_folder(repo_id="me/it", folder_path=folder)
seen["upload_folder"] = list(server.commits)
server.commits.clear()
added = [huggingface_hub.CommitOperationAdd(path.name, path) for path in sorted(folder.iterdir())]
api.create_commit("me/it", added, commit_message="all")
seen["create_commit"] = list(server.commits)
print("; ".join(f"{name}: commits of {sizes} files" for name, sizes in seen.items()))
assert len(seen["upload_folder"]) > 1 and sum(seen["upload_folder"]) == 300, "it is one commit again"
assert seen["create_commit"] == [300]
PY
