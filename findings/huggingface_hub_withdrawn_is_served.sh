#!/usr/bin/env bash
# huggingface_hub 2.4.0, snapshot_download of a repository that is no longer given.
#
# Guess: without a network the copy in the cache is returned; a server that answers 404 or 403, because the
# owner has withdrawn the repository, made it private or gated it, is an error.
# What happened: the cached copy is returned as if nothing were; nothing is raised, warned or logged. Only
# an unknown revision of a known repository is an error. hf_hub_download of one file raises.
# Output seen: 404: snapshot_download returned the cached copy, warnings [], log ''; hf_hub_download: RepositoryNotFoundError.
#              403: snapshot_download returned the cached copy, warnings [], log ''; hf_hub_download: LocalEntryNotFoundError.
# Date: 2026-11-29.
#
# Why it matters here: a data set or model that was withdrawn, for faults or for patients' sake, goes on being used on
# every machine that has it. Ask repo_info first and let what it raises with a status below 500 count.
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

COMMIT = "a" * 40
status, code = 200, ""


class Hub(BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.split("?")[0]
        body = b"{}"
        if status == 200 and "/resolve/" not in path:
            tree = [{"type": "file", "path": "a.txt", "size": 2, "oid": "b" * 40}]
            body = json.dumps(tree if "/tree/" in path else {"id": "me/it", "sha": COMMIT, "siblings": []}).encode()
        self.send_response(status)
        for name, value in {"X-Repo-Commit": COMMIT, "ETag": '"b"', "X-Error-Code": code}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
PY
HF_HOME="$work/home" no_proxy='*' env/bin/python - <<'PY'
import io
import logging
import os
import warnings

import server

os.environ["HF_ENDPOINT"] = server.url
import huggingface_hub

print("huggingface_hub", huggingface_hub.__version__)
log = io.StringIO()
logging.getLogger("huggingface_hub").addHandler(logging.StreamHandler(log))
first = huggingface_hub.snapshot_download("me/it")
for server.status, server.code in ((404, "RepoNotFound"), (403, "")):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        again = huggingface_hub.snapshot_download("me/it")
    try:
        huggingface_hub.hf_hub_download("me/it", "other.txt")
        one = "returned"
    except Exception as error:
        one = type(error).__name__
    said = [str(w.message) for w in told]
    print(f"{server.status}: snapshot_download returned the cached copy, warnings {said}, log {log.getvalue()!r}; hf_hub_download: {one}.")
    assert again == first and not said and not log.getvalue(), "it now says so"
    assert one != "returned"
PY
