"""The command that starts the app."""

import socket
import tomllib
from pathlib import Path

import pytest

from xray_captioning.cli import main
from xray_captioning.cli.serve import HOST, SETTINGS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def started(monkeypatch):
    """Return the lines that Streamlit's own command line would have got."""
    cli = pytest.importorskip("streamlit.web.cli")
    lines = []
    monkeypatch.setattr(cli, "main", lambda line, standalone_mode: lines.append(line))
    return lines


def free_port():
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def test_it_starts_on_loopback_without_telemetry(started):
    port = free_port()
    assert main(["app", "--port", str(port), "--bundle", "phantom_attention", "--seed", "5"]) == 0
    (line,) = started
    assert Path(line[1]).is_file()
    assert {
        f"--server.port={port}",
        "--server.address=127.0.0.1",
        "--browser.gatherUsageStats=false",
        "--server.enableXsrfProtection=true",
    } <= set(line)
    assert line[line.index("--") + 1 :] == ["--bundle", "phantom_attention", "--seed", "5"]


def test_a_missing_bundle_is_told_before_anything_starts(started, capsys):
    assert main(["app", "--bundle", "absent"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("xray-captioning: absent: no such bundle")
    assert error.count("\n") == 1
    assert not started


def test_a_port_in_use_is_told(started, capsys):
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        assert main(["app", "--port", str(other.getsockname()[1])]) == 2
    assert "cannot listen there" in capsys.readouterr().err
    assert not started


def flat(config, path=""):
    for name, value in config.items():
        if isinstance(value, dict):
            yield from flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def test_hosting_has_the_same_settings():
    config = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text("utf-8"))
    hosted = dict(flat(config))
    assert hosted
    for name, value in hosted.items():
        assert SETTINGS[name] == (str(value).lower() if isinstance(value, bool) else str(value))
    # Where it listens is the host's own business.
    assert set(SETTINGS) - set(hosted) == {"server.address", "server.headless"}
