"""The command that serves: what it refuses, and how it ends."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from xray_captioning.cli import main

pytest.importorskip("flask")
pytest.importorskip("uvicorn")
PROGRAM = [sys.executable, "-m", "xray_captioning", "serve", "--port", "0"]
PROGRAM += ["--set", "batch=1", "--set", "beam=1"]  # less to compile
TOKEN = "a-token-of-some-length"
BOUNDARY = "part"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--bundle", "nowhere"], "nowhere: no such bundle"),
        (["--set", "size=3"], "unknown limit 'size'; limits are body_megabytes"),
        (["--set", "queue=none"], "queue is 'none'"),
        (["--host", "no such host"], "cannot listen there"),
        (["--host", "192.0.2.1"], "cannot listen there"),
        (["--port", "70000"], "--port"),
    ],
)
def test_what_is_refused(options, words, capsys):
    assert main(["serve", *options]) == 2
    output, error = capsys.readouterr()
    assert words in error
    assert error.count("\n") == 1
    assert not output


def test_a_bad_token(tmp_path, monkeypatch, capsys):
    (tmp_path / "short").write_text("abc", "utf-8")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in ("short", "binary"):
        assert main(["serve", "--token-file", str(tmp_path / name)]) == 2
    monkeypatch.setenv("XRAY_CAPTIONING_TOKEN", "with a space and more")
    assert main(["serve"]) == 2
    assert "with a space" not in capsys.readouterr().err


def ask(url, data=None):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    if data:
        headers["Content-Type"] = f"multipart/form-data; boundary={BOUNDARY}"
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def form(file: Path) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="x"\r\n\r\n'
    return head.encode() + file.read_bytes() + f"\r\n--{BOUNDARY}--\r\n".encode()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals are another thing there")
def test_a_process_answers_and_ends_at_a_signal(phantoms, tmp_path):
    environment = {**os.environ, "XRAY_CAPTIONING_TOKEN": TOKEN, "TMPDIR": str(tmp_path)}
    with (
        subprocess.Popen(
            PROGRAM, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
        ) as process,
        contextlib.ExitStack() as last,
    ):
        last.callback(process.kill)  # a failure here would wait for it for ever
        url = process.stdout.readline().split()[2]
        while ask(f"{url}/readyz")[0] != 200:
            time.sleep(0.05)
        study = form(min(phantoms.rglob("*.png")))
        status, text = ask(f"{url}/v1/captions", study)
        assert status == 200
        assert json.loads(text)["text"]
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(ask(f"{url}/v1/captions", study)[0])) for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        # Until one is at work, or all are done already.
        while any(t.is_alive() for t in threads) and "in_work 0" in ask(f"{url}/metrics")[1].decode():
            pass
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert 200 in answers
    assert set(answers) <= {200, 503}
    events = [json.loads(line)["event"] for line in errors.splitlines()]
    assert {"ready", "stopping", "request"} == set(events)
    assert not list(tmp_path.iterdir())
