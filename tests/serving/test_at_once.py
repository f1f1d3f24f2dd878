"""Many clients at once, and a bundle that is replaced meanwhile: no wrong answer to a right question, no deadlock."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

import pytest

from tests.fuzz import harnesses, inputs
from xray_captioning.bundles.bundle import find_bundle, identity, read_bundle, rewrite_bundle
from xray_captioning.errors import XrayCaptioningError
from xray_captioning.runtime import load
from xray_captioning.serving import Settings, create_app

from .parts import body, exchange, post, serving

GOOD, BAD = 24, 8  # clients
REQUESTS = int(os.environ.get("LOAD_REQUESTS", "4"))  # of each client in a round
HANG = 300 + 10 * REQUESTS  # seconds after which a server that still works is stopped, and says where each thread is
READY = b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
GROWTH = 1.25  # resident memory after three rounds, of that after the first


def answer(port, request):
    """Return the status and what the caption is, without what differs from request to request."""
    status, text = exchange(port, request)
    return status, json.loads(text.partition(b"\r\n\r\n")[2])["text"] if status == 200 else None


def test_a_server_keeps_what_it_loaded_while_its_bundle_is_replaced(tmp_path, study):
    folder, settings = tmp_path / "bundle", Settings(batch=2, beam=1)
    shutil.copytree(find_bundle("phantom_attention") / "export", folder)
    captioner, states, opened, refused = load(folder), [], set(), []

    def replace():
        for number in range(8):
            rewrite_bundle(folder, lambda aside, number=number: (aside / "README.md").write_text(f"number {number}"))
            states.append(identity(folder, read_bundle(folder, "captioner", exported=True)).digest)

    def open_it():
        try:
            opened.add(load(folder).identity.digest)
        except XrayCaptioningError as error:  # in between two files of a bundle that is moved
            refused.append(str(error))

    app = create_app(captioner, settings)
    assert app.extensions["captions"].warm.wait(HANG)
    with serving(app, settings) as running, ThreadPoolExecutor(6) as pool:
        request = post(body(*study))
        first = answer(running.port, request)
        asked = [pool.submit(answer, running.port, request) for _ in range(40)]
        others = [pool.submit(replace), *[pool.submit(open_it) for _ in range(8)]]
        answers = [one.result(HANG) for one in asked]
        for one in others:
            one.result(HANG)
    assert first[0] == 200
    assert answers == [first] * 40
    assert not any("\n" in told for told in refused), refused
    open_it()
    assert states[-1] in opened
    assert opened <= {captioner.identity.digest, *states}


def damaged(port, content):
    return exchange(port, post(content), end=True)[0]


def cut(port, content):
    return exchange(port, post(content)[: len(content) // 2], end=True)[0]


def left(port, content):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(post(content, length=1 << 20))


def several(port, content):
    return exchange(port, post(content) * 3, end=True)[0]


ATTACKS = (damaged, cut, left, several)


def good(port, questions, known):
    found = [(answer(port, question), right) for question, right in zip(questions, known)]
    return ["right" if got == right else got[0] for got, right in found]


def hostile(port, attack, contents):
    for content in contents:
        with suppress(ConnectionError):  # it was cut off, as it should be
            attack(port, content)
    return ["hostile"] * len(contents)


def resident(process):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text("utf-8"))[1])


@contextmanager
def server(log):
    """Start a server of its own, stopped by a watchdog where it hangs; give its process and port."""
    line = [sys.executable, "-X", "faulthandler", "-m", "xray_captioning", "serve", "--port", "0", "--set", "beam=1"]
    with (
        log.open("w", encoding="utf-8") as errors,
        subprocess.Popen(line, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        watchdog = threading.Timer(HANG, process.send_signal, [signal.SIGABRT])
        watchdog.start()
        try:
            port = int(process.stdout.readline().split()[2].rpartition(":")[2])
            while exchange(port, READY)[0] != 200:
                time.sleep(0.05)
            yield process, port
        finally:
            watchdog.cancel()
            process.send_signal(signal.SIGTERM)
    assert process.returncode == 0, log.read_text("utf-8")[-5000:]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_good_clients_beside_bad_ones(phantoms, tmp_path):
    files = [path.read_bytes() for path in sorted(phantoms.rglob("*.png"))[:4]]
    bad = list(islice(inputs.inputs(harnesses.bodies(), seed=3), BAD * REQUESTS))
    memory, counted = [], Counter()
    with server(tmp_path / "log") as (process, port), ThreadPoolExecutor(GOOD + BAD) as pool:
        asked = [post(body(files[number % 4])) for number in range(REQUESTS)]
        known = [answer(port, question) for question in asked[:4]]
        right = [known[number % 4] for number in range(REQUESTS)]
        for _ in range(3):
            clients = [pool.submit(good, port, asked, right) for _ in range(GOOD)]
            clients += [pool.submit(hostile, port, ATTACKS[n % 4], bad[n::BAD]) for n in range(BAD)]
            counted.update(said for client in clients for said in client.result())
            memory.append(resident(process))
    assert all(status == 200 and text for status, text in known)
    assert set(counted) <= {"right", 503, "hostile"}, counted
    assert counted["hostile"] == 3 * BAD * REQUESTS
    assert counted["right"] > GOOD * REQUESTS
    assert memory[-1] < GROWTH * memory[0], memory
