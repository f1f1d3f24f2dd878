"""As much of Hugging Face's hub and of Kaggle's API as their clients need, on this machine."""

import base64
import hashlib
import io
import json
import re
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]


class Hubs(ThreadingHTTPServer):
    """Repositories by kind and name, each a list of revisions, the newest last."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, list[tuple[str, Files]]] = {}
        self.private: dict[str, bool] = {}
        self.messages: list[str] = []
        self.blobs: dict[str, tuple[str, bytes]] = {}  # of uploads: name and content
        self.asked: list[str] = []  # method and path of each request
        self.fails, self.failing = 0, "/"  # the status of every answer, where it is not 0, at what paths hold

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, name: str, files: Files) -> str:
        """Add a revision to ``models/USER/NAME``, ``datasets/USER/NAME`` or ``kaggle/...``, and return it."""
        revisions = self.repositories.setdefault(name, [])
        content = json.dumps({path: hashlib.sha1(data).hexdigest() for path, data in files.items()})
        commit = hashlib.sha1(f"{len(revisions)} {content}".encode()).hexdigest()
        revisions.append((commit if not name.startswith("kaggle/") else str(len(revisions) + 1), files))
        return revisions[-1][0]

    def at(self, name: str, revision: str | None) -> tuple[str, Files] | None:
        found = self.repositories.get(name, [])
        if revision in (None, "main", "", "0"):
            return found[-1] if found else None
        return next((one for one in found if one[0] == revision), None)

    def downloads(self) -> list[str]:
        """Return the files whose content was sent by Hugging Face's hub."""
        return [line.rpartition("/")[2] for line in self.asked if line.startswith("GET") and "/resolve/" in line]


class _Handler(BaseHTTPRequestHandler):
    server: Hubs
    protocol_version = "HTTP/1.1"

    def _do(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.asked.append(f"{self.command} {path}")
        if self.server.fails and self.server.failing in path:
            return self._json({"error": "out of order"}, self.server.fails)
        if path.startswith("/v1/"):
            return self._kaggle(path.split("/")[-1], json.loads(body))
        if self.command == "PUT":
            self.server.blobs[path] = (self.server.blobs.get(path, ("", b""))[0], body)
            return self._json({})
        return self._api(path.removeprefix("/api/"), body) if "/resolve/" not in path else self._resolve(path)

    def do_GET(self) -> None:
        self._do()

    def do_HEAD(self) -> None:
        self._do()

    def do_POST(self) -> None:
        self._do()

    def do_PUT(self) -> None:
        self._do()

    def _send(self, data: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _json(self, value: Any, status: int = 200, **headers: str) -> None:
        self._send(json.dumps(value).encode(), status, Content_Type="application/json", **headers)

    def _absent(self, what: str) -> None:
        self._json({"error": f"{what} not found"}, 404, X_Error_Code=f"{what}NotFound")

    # --- Hugging Face ---

    def _resolve(self, path: str) -> None:
        repository, _, rest = path.strip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        found = self.server.at(repository if repository.startswith("datasets/") else f"models/{repository}", revision)
        if found is None:
            return self._absent("Revision" if repository in self.server.repositories else "Repo")
        if name not in found[1]:
            return self._absent("Entry")
        data = found[1][name]
        return self._send(data, ETag=f'"{hashlib.sha256(data).hexdigest()}"', X_Repo_Commit=found[0])

    def _api(self, path: str, body: bytes) -> None:
        given = json.loads(body) if body[:1] == b"{" and b"\n" not in body.strip() else {}
        if path == "validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if path == "repos/create":
            name = f"models/{given['organization']}/{given['name']}"
            there = name in self.server.repositories
            self.server.repositories.setdefault(name, [])
            self.server.private.setdefault(name, given.get("visibility") == "private")
            return self._json({"url": f"{self.server.url}/{name.removeprefix('models/')}"}, 409 if there else 200)
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._json({"transfer": "basic", "objects": [self._upload(one) for one in given["objects"]]})
        if path.count("/") < 2:  # such as what a client asks to know itself
            return self._absent("Entry")
        kind, user, name, *rest = path.split("/")
        return self._repository(f"{kind}/{user}/{name}", rest, body, given)

    def _upload(self, one: dict[str, Any]) -> dict[str, Any]:
        return {**one, "actions": {"upload": {"href": f"{self.server.url}/lfs/{one['oid']}"}}}

    def _repository(self, name: str, rest: list[str], body: bytes, given: dict[str, Any]) -> None:
        if name not in self.server.repositories:
            return self._absent("Repo")
        if rest[:1] == ["preupload"]:
            modes = {True: "lfs", False: "regular"}
            files = [{"path": f["path"], "shouldIgnore": False} for f in given["files"]]
            return self._json({"files": [{**f, "uploadMode": modes[f["path"].endswith(".h5")]} for f in files]})
        if rest[:1] == ["commit"]:
            return self._commit(name, [json.loads(line) for line in body.splitlines()])
        found = self.server.at(name, rest[1] if len(rest) > 1 else None)
        if found is None:
            return self._absent("Revision")
        if rest[:1] == ["tree"]:
            sizes = [(path, len(data), hashlib.sha1(data).hexdigest()) for path, data in found[1].items()]
            return self._json([{"type": "file", "path": p, "size": s, "oid": o} for p, s, o in sizes])
        return self._json({"id": name.partition("/")[2], "sha": found[0], "siblings": [], "tags": []})

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        before = self.server.at(name, None)
        files = dict(before[1]) if before else {}
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.server.messages.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                files[value["path"]] = self.server.blobs[f"/lfs/{value['oid']}"][1]
        commit = self.server.add(name, files)
        self._json({"commitUrl": f"{self.server.url}/{name}/commit/{commit}", "commitOid": commit, "success": True})

    # --- Kaggle ---

    def _kaggle(self, method: str, given: dict[str, Any]) -> None:
        if not self.headers["Authorization"]:
            return self._json({"code": 401, "message": "no token"}, 401)
        return getattr(self, re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", method))(given, self._name(given))

    @staticmethod
    def _name(given: dict[str, Any]) -> str:
        body = given.get("body") or {}
        owner, framework = given.get("ownerSlug"), given.get("framework") or body.get("framework", "")
        parts = owner, given.get("modelSlug"), framework.rpartition("_")[2].lower()
        variation = given.get("instanceSlug") or body.get("instanceSlug", "")
        return "kaggle/" + "/".join(part for part in (*parts, variation, given.get("datasetSlug")) if part)

    def _get_model(self, given: dict[str, Any], name: str) -> None:
        there = any(one.startswith(f"{name}/") for one in self.server.repositories)
        self._json({"id": 1} if there else {"code": 404, "message": "no such model"}, 200 if there else 404)

    def _create_model(self, given: dict[str, Any], name: str) -> None:
        self.server.private[f"kaggle/{given['ownerSlug']}/{given['slug']}"] = given["isPrivate"]
        self._json({"id": 1})

    def _start_blob_upload(self, given: dict[str, Any], name: str) -> None:
        token = f"/blob/{len(self.server.blobs)}-{threading.get_ident()}"
        self.server.blobs[token] = (given["name"], b"")
        self._json({"token": token, "createUrl": self.server.url + token})

    def _create_model_instance(self, given: dict[str, Any], name: str) -> None:
        if name in self.server.repositories:
            return self._json({"error": "is there", "errorCode": 409})
        return self._create_model_instance_version(given, name)

    def _create_model_instance_version(self, given: dict[str, Any], name: str) -> None:
        self.server.messages.append(given["body"].get("versionNotes", ""))
        self.server.add(name, dict(self._uploaded(given["body"], "")))
        self._json({"id": 1})

    def _uploaded(self, folder: dict[str, Any], start: str) -> Iterator[tuple[str, bytes]]:
        for file in folder.get("files", []):
            name, data = self.server.blobs[file["token"]]
            yield start + name, data
        for inner in folder.get("directories", []):
            yield from self._uploaded(inner, f"{start}{inner['name']}/")

    def _get_model_instance(self, given: dict[str, Any], name: str) -> None:
        found = self.server.at(name, None)
        self._json(
            {"versionNumber": int(found[0])} if found else {"code": 404, "message": "none"}, 200 if found else 404
        )

    def _get_dataset(self, given: dict[str, Any], name: str) -> None:
        found = self.server.at(name, None)
        answer = {"currentVersionNumber": int(found[0])} if found else {"code": 404, "message": "none"}
        self._json(answer, 200 if found else 404)

    def _download_model_instance_version(self, given: dict[str, Any], name: str) -> None:
        found = self.server.at(name, str(given["versionNumber"]))
        if found is None or given["path"] not in found[1]:
            return self._json({"code": 404, "message": "no such file"}, 404)
        return self._send(found[1][given["path"]])

    def _download_dataset(self, given: dict[str, Any], name: str) -> None:
        found = self.server.at(name, str(given["datasetVersionNumber"]))
        assert found
        with zipfile.ZipFile(packed := io.BytesIO(), "w") as archive:
            for path, data in found[1].items():
                archive.writestr(path, data)
        self._send(packed.getvalue())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(monkeypatch: Any, cache: Path) -> Iterator[Hubs]:
    """Serve both hubs to their clients, which keep what they fetch below `cache`."""
    import huggingface_hub
    from huggingface_hub import constants
    from kagglesdk import kaggle_env

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "secret")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(cache / "kaggle"))
    monkeypatch.setattr("kagglehub.clients.get_user_agent", lambda: "tests")  # it reads the whole stack
    with Hubs() as hubs:
        thread = threading.Thread(target=hubs.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(constants, "ENDPOINT", hubs.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hubs.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hf"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, hubs.url)
        huggingface_hub.close_session()
        yield hubs
        huggingface_hub.close_session()
        hubs.shutdown()
        thread.join()
