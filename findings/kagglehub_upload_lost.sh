#!/usr/bin/env bash
# kagglehub 1.0.3, model_upload to a storage that breaks off.
#
# Guess: where the storage takes only a part of a file and then fails, the upload is repeated or is an error.
# What happened: after "308, go on" kagglehub asks how much is there, and takes every answer but 308, such as 503 or
# 404, for "all of it". The upload counts as done: model_upload returns, and the version is made of a file that was
# never stored whole. By its source, five broken connections end in the same way; dataset_upload shares the code.
# Output seen: storage answered [308, 503], 0 of 1000 bytes stored; model_upload raised nothing; version of 1 file made.
# Date: 2026-11-29.
#
# Why it matters here: weights may be missing or cut on Kaggle though push ended well. Keep a manifest of digests with a
# model, and fetch it once after it was sent.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet kagglehub==1.0.3 kagglesdk==0.1.38
KAGGLE_API_TOKEN=secret KAGGLEHUB_CACHE="$work/cache" HOME="$work" no_proxy='*' env/bin/python - <<'PY'
import importlib.metadata as md
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import kagglehub
from kagglesdk import kaggle_env

print({name: md.version(name) for name in ("kagglehub", "kagglesdk")})
answers, versions = [], []


class Kaggle(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("StartBlobUpload"):
            return self.answer(200, {"token": "one", "createUrl": f"{url}/storage"})
        if self.path.endswith("CreateModelInstance"):
            versions.append(len(body["body"]["files"]))
        return self.answer(200, {"id": 1})

    def do_PUT(self):
        self.rfile.read(int(self.headers["Content-Length"]))  # and forgotten
        answers.append(308 if not answers else 503)
        self.answer(answers[-1], {})

    def answer(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Kaggle)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.PROD] = url  # there is no public setting
Path("model").mkdir()
Path("model", "weights.h5").write_bytes(bytes(1000))
kagglehub.model_upload("me/it/keras/base", "model")
print(f"storage answered {answers}, 0 of 1000 bytes stored; model_upload raised nothing; version of {versions[0]} file made.")
assert answers == [308, 503] and versions == [1], "it no longer takes 503 for success"
PY
