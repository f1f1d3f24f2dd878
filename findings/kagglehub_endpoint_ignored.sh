#!/usr/bin/env bash
# kagglehub 1.0.3 with KAGGLE_API_ENDPOINT, which 0.3 read.
#
# Guess: with KAGGLE_API_ENDPOINT=http://mirror, as a hospital or a test sets it, nothing is asked of Kaggle itself.
# What happened: the variable is not read; config.py still has its default, DEFAULT_KAGGLE_API_ENDPOINT, which nothing
# uses. All goes to api.kaggle.com, uploads and the token included. What can be set is KAGGLE_API_ENVIRONMENT, to one of
# Kaggle's own hosts or localhost, port 80 or 7777; TEST prints every request and answer to standard output.
# Output seen: the endpoint was asked 0 times; the proxy was asked for ['api.kaggle.com:443'].
# Date: 2026-11-29.
#
# Why it matters here: what was meant for a house's own server leaves the house. Close the way out, not by this variable.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet kagglehub==1.0.3 kagglesdk==0.1.38
KAGGLEHUB_CACHE="$work/cache" HOME="$work" env/bin/python - <<'PY'
import importlib.metadata as md
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

asked = {"endpoint": [], "proxy": []}


class Here(BaseHTTPRequestHandler):
    def do_GET(self):
        asked["proxy" if self.command == "CONNECT" else "endpoint"].append(self.path)
        self.send_error(502)  # nothing leaves this machine

    do_POST = do_CONNECT = do_GET

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Here)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}"
for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY", "http_proxy", "HTTP_PROXY", "https_proxy"):
    os.environ.pop(name, None)
os.environ |= {"KAGGLE_API_ENDPOINT": url, "HTTPS_PROXY": url}
import kagglehub

print({name: md.version(name) for name in ("kagglehub", "kagglesdk")})
try:
    kagglehub.dataset_download("me/it")
except Exception as error:
    print(type(error).__name__)
hosts = sorted(set(asked["proxy"]))
print(f"the endpoint was asked {len(asked['endpoint'])} times; the proxy was asked for {hosts}.")
assert not asked["endpoint"] and hosts == ["api.kaggle.com:443"], "the variable is read again"
PY
