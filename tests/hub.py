"""An imitation of huggingface.co on this machine, for huggingface_hub and what builds on it.

A download that breaks is resumed with a Range request within one call of `hf_hub_download`, after a
second. huggingface_hub 2 deletes the incomplete file when a call fails.
"""

import base64
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml

USER = "me"
WRITE, READ = "hf_write", "hf_read"
"""access tokens of the user, who can see and change repositories of the namespace "me" only"""
LARGE = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
"""files stored with Git LFS, like the patterns in the .gitattributes of a new repository"""


class Request(NamedTuple):
    """A request that the server answered; `range` is the Range header, such as "bytes=100-"."""

    method: str
    path: str
    range: str | None
    status: int


@dataclass
class Repository:
    """Content of a repository.

    Args:
        private: only the owner can see it.
        gated: everyone can see it, but only the owner can download files.
        commits: files of each commit, by its sha.
        refs: sha of each branch and tag.
    """

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Mapping[str, bytes], branch: str = "main") -> str:
        """Set all files of a branch and return the sha of the new commit."""
        names = repr((len(self.commits), sorted((name, git_id(files[name])) for name in files)))
        sha = hashlib.sha1(names.encode()).hexdigest()
        self.commits[sha] = dict(files)
        self.refs[branch] = sha
        return sha

    @property
    def files(self) -> dict[str, bytes]:
        """Files of the branch main."""
        return self.commits[self.refs["main"]]


class Hub:
    """State of the server: its address, repositories and answered requests.

    Args:
        url: address of the server.

    Set `break_after` to a number of bytes to close the connection after so many bytes of the next
    file; that happens once. Set `down` to answer everything with 503.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.repositories: dict[str, Repository] = {}
        self.requests: list[Request] = []
        self.break_after: int | None = None
        self.down = False
        self.uploads: dict[str, bytes] = {}  # content of LFS files by their sha256

    def add(
        self, name: str, files: Path | Mapping[str, bytes], *, tag: str = "", **options: bool
    ) -> str:
        """Commit files, or the files of a folder, to main and return the sha of the commit.

        Args:
            name: "owner/name"; a new repository is created.
            files: all files of the commit; others are removed.
            tag: also a tag for the commit.
            options: `private` and `gated` of a new repository.
        """
        repository = self.repositories.setdefault(name, Repository(**options))
        sha = repository.commit(read_files(files) if isinstance(files, Path) else files)
        if tag:
            repository.refs[tag] = sha
        return sha

    def downloads(self) -> list[str]:
        """Return the names of the files of which content was requested, in order."""
        gets = [request.path for request in self.requests if request.method == "GET"]
        return [path.split("/", 5)[-1] for path in gets if "/resolve/" in path]


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the content of all files of a folder by their relative path."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def git_id(content: bytes) -> str:
    """Return git's id of a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content: bytes) -> str:
    """Return the id of a file in Git LFS."""
    return hashlib.sha256(content).hexdigest()


class Refusal(Exception):
    """An error answer: status, X-Error-Code, message and further headers."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        known = {"X-Error-Code": code, "X-Error-Message": message}
        self.headers = {name: value for name, value in known.items() if value} | headers


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer()

    do_GET = do_POST = do_PUT = do_HEAD

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def _answer(self) -> None:
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        self.content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        try:
            if self.hub.down:
                raise Refusal(503, "", "Service unavailable")
            self._route(parts)
        except Refusal as refusal:
            body = json.dumps({"error": refusal.message}).encode()
            self._send(refusal.status, body, refusal.headers)

    def _route(self, parts: list[str]) -> None:
        match [self.command, *parts]:
            case ["HEAD" | "GET", owner, name, "resolve", revision, *path]:
                self._file(f"{owner}/{name}", revision, "/".join(path))
            case ["GET", "api", "models", owner, name]:
                self._info(f"{owner}/{name}", "main")
            case ["GET", "api", "models", owner, name, "revision", revision]:
                self._info(f"{owner}/{name}", revision)
            case ["GET", "api", "models", owner, name, "tree", revision]:
                self._tree(f"{owner}/{name}", revision)
            case ["GET", "api", "whoami-v2"]:
                self._whoami()
            case ["POST", "api", "validate-yaml"]:
                self._validate_yaml()
            case ["POST", "api", "repos", "create"]:
                self._create()
            case ["POST", "api", "models", owner, name, "preupload", "main"]:
                self._preupload(f"{owner}/{name}")
            case ["POST", owner, name, "info", "lfs", "objects", "batch"]:
                self._lfs_batch(f"{owner}/{name}".removesuffix(".git"))
            case ["PUT", "lfs", oid]:
                self._lfs_upload(oid)
            case ["POST", "api", "models", owner, name, "commit", "main"]:
                self._commit(f"{owner}/{name}")
            case _:
                raise Refusal(404, "", "Sorry, we can't find the page you are looking for.")

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        if not self.path.startswith("/api/agent-harnesses"):  # telemetry of huggingface_hub
            path = urlsplit(self.path).path
            request = Request(self.command, path, self.headers.get("Range"), status)
            self.hub.requests.append(request)
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | dict(headers)).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send_json(self, content: object, status: int = 200) -> None:
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    # Access

    def _token(self) -> str:
        """Return the valid token of the request, or an empty text without a token."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in ("", READ, WRITE):
            raise Refusal(401, "", "Invalid credentials in Authorization header")
        return token

    def _repository(self, name: str) -> Repository:
        """Return a repository that the user may see."""
        token = self._token()
        found = self.hub.repositories.get(name)
        if found and (not found.private or (token and name.startswith(f"{USER}/"))):
            return found
        if token:
            raise Refusal(404, "RepoNotFound", "Repository not found")
        raise Refusal(401, "RepoNotFound", "Invalid username or password.")

    def _writable(self, owner: str) -> None:
        token = self._token()
        if not token:
            raise Refusal(401, "", "Invalid username or password.")
        if token != WRITE or owner != USER:
            raise Refusal(
                403,
                "",
                f'You don\'t have the rights to create a model under the namespace "{owner}"'
                if token == WRITE
                else "You must use a write token to upload to a repository.",
            )

    def _sha(self, repository: Repository, revision: str) -> str:
        sha = repository.refs.get(revision, revision)
        if sha not in repository.commits:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    # Download

    def _file(self, name: str, revision: str, path: str) -> None:
        repository = self._repository(name)
        if repository.gated and not (self._token() and name.startswith(f"{USER}/")):
            status = 403 if self._token() else 401
            raise Refusal(status, "GatedRepo", f"Access to model {name} is restricted.")
        sha = self._sha(repository, revision)
        commit = {"X-Repo-Commit": sha}
        if path not in repository.commits[sha]:
            raise Refusal(404, "EntryNotFound", "Entry not found", **commit)
        content = repository.commits[sha][path]
        headers = {**commit, "Accept-Ranges": "bytes", "ETag": f'"{git_id(content)}"'}
        if path.endswith(LARGE):
            etag = f'"{sha256(content)}"'
            headers |= {"ETag": etag, "X-Linked-Etag": etag, "X-Linked-Size": str(len(content))}
        wanted = self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
        if wanted and start >= len(content):
            raise Refusal(416, "", "Range", **{"Content-Range": f"bytes */{len(content)}"})
        body = content[start:]
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        broken, self.hub.break_after = self.hub.break_after, None
        if broken is None or self.command == "HEAD":
            self.hub.break_after = broken
        else:
            headers["Content-Length"] = str(len(body))
            body = body[:broken]
            self.close_connection = True
        self._send(206 if wanted else 200, body, headers)

    def _info(self, name: str, revision: str) -> None:
        repository = self._repository(name)
        sha = self._sha(repository, revision)
        siblings = [
            {"rfilename": path, **(_sizes(path, content) if "blobs" in self.query else {})}
            for path, content in repository.commits[sha].items()
        ]
        known = {"id": name, "modelId": name, "author": name.partition("/")[0], "sha": sha}
        access = {"private": repository.private, "gated": "manual" if repository.gated else False}
        self._send_json({**known, **access, "tags": [], "downloads": 0, "siblings": siblings})

    def _tree(self, name: str, revision: str) -> None:
        repository = self._repository(name)
        entries = []
        for path, content in repository.commits[self._sha(repository, revision)].items():
            sizes = _sizes(path, content)
            entry = {"type": "file", "path": path, "oid": sizes["blobId"], "size": sizes["size"]}
            if "lfs" in sizes:
                entry["lfs"] = {**sizes["lfs"], "oid": sizes["lfs"]["sha256"]}
            entries.append(entry)
        self._send_json(entries)

    # Upload

    def _whoami(self) -> None:
        token = self._token()
        if not token:
            raise Refusal(401, "", "Invalid username or password.")
        role = {"accessToken": {"role": "write" if token == WRITE else "read"}}
        self._send_json({"type": "user", "name": USER, "orgs": [], "auth": role})

    def _validate_yaml(self) -> None:
        content = json.loads(self.content)["content"]
        try:
            metadata = yaml.safe_load(content.split("---\n")[1])
        except (IndexError, yaml.YAMLError) as error:
            return self._send_json({"errors": [{"message": str(error)}], "warnings": []}, 400)
        known = isinstance(metadata, dict)
        warnings = [] if known else [{"message": "empty or missing yaml metadata in repo card"}]
        self._send_json({"errors": [], "warnings": warnings})

    def _create(self) -> None:
        request = json.loads(self.content)
        owner = request.get("organization") or USER
        self._writable(owner)
        name = f"{owner}/{request['name']}"
        url = {"url": f"{self.hub.url}/{name}"}
        if name in self.hub.repositories:
            return self._send_json({"error": "You already created this model repo", **url}, 409)
        private = request.get("visibility") == "private" or bool(request.get("private"))
        self.hub.add(name, {".gitattributes": b""}, private=private)
        self._send_json(url)

    def _preupload(self, name: str) -> None:
        repository = self._repository(name)
        self._writable(name.partition("/")[0])
        files = []
        for file in json.loads(self.content)["files"]:
            path = file["path"]
            mode = "lfs" if path.endswith(LARGE) else "regular"
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False})
            if path in repository.files:
                content = repository.files[path]
                files[-1]["oid"] = sha256(content) if mode == "lfs" else git_id(content)
        self._send_json({"files": files})

    def _lfs_batch(self, name: str) -> None:
        self._writable(name.partition("/")[0])
        objects = []
        for item in json.loads(self.content)["objects"]:
            objects.append({"oid": item["oid"], "size": item["size"]})
            if item["oid"] not in self.hub.uploads:
                href = f"{self.hub.url}/lfs/{item['oid']}"
                objects[-1]["actions"] = {"upload": {"href": href}}
        self._send_json({"transfer": "basic", "objects": objects})

    def _lfs_upload(self, oid: str) -> None:
        if sha256(self.content) != oid:
            raise Refusal(400, "", "The content does not match its sha256")
        self.hub.uploads[oid] = self.content
        self._send(200, b"", {})

    def _commit(self, name: str) -> None:
        repository = self._repository(name)
        self._writable(name.partition("/")[0])
        files = dict(repository.files)
        for line in self.content.splitlines():
            match json.loads(line):
                case {"key": "file", "value": file}:
                    files[file["path"]] = base64.b64decode(file["content"])
                case {"key": "lfsFile", "value": file}:
                    files[file["path"]] = self.hub.uploads[file["oid"]]
                case {"key": "deletedFile", "value": file}:
                    del files[file["path"]]
        sha = repository.commit(files)
        self._send_json({"commitUrl": f"{self.hub.url}/{name}/commit/{sha}", "commitOid": sha})


def _sizes(path: str, content: bytes) -> dict[str, Any]:
    sizes: dict[str, Any] = {"size": len(content), "blobId": git_id(content)}
    if path.endswith(LARGE):
        sizes["lfs"] = {"size": len(content), "sha256": sha256(content), "pointerSize": 134}
    return sizes


@contextmanager
def serve() -> Iterator[Hub]:
    """Run the server on a free port of 127.0.0.1."""
    handler = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        handler.hub = Hub(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield handler.hub
        server.shutdown()


@contextmanager
def connected(hub: Hub, home: Path) -> Iterator[pytest.MonkeyPatch]:
    """Make huggingface_hub and child processes use a hub, with a new cache and without a token.

    Args:
        hub: server.
        home: folder for the cache and the token, in place of ~/.cache/huggingface.
    """
    import huggingface_hub
    from huggingface_hub import constants

    variables = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
            patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "ENDPOINT", hub.url)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HOME", str(home))
        patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        patch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        # a broken download is resumed after the last whole chunk, of 10 MB by default
        patch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)
        # the functions of huggingface_hub are methods of one HfApi, made at import
        patch.setattr(huggingface_hub.hf_api.api, "endpoint", hub.url)
        yield patch


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A server without repositories, with huggingface_hub connected to it.

    The cache is `tmp_path / "huggingface" / "hub"`.
    """
    with serve() as server, connected(server, tmp_path / "huggingface"):
        yield server


CONFIG = {
    "text_config": {
        "vocab_size": 49408,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 77,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    },
    "vision_config": {
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 3,
        "image_size": 48,
        "patch_size": 16,
    },
    "projection_dim": 20,
    "extract_layers": [0, 1, 3],
    "reduce_dim": 8,
    "decoder_num_attention_heads": 4,
    "decoder_intermediate_size": 12,
    "use_complex_transposed_convolution": True,
}
"""a reduced CLIPSeg with random weights, in the settings of transformers"""


def write_clipseg(folder: Path, image_size: int = 64) -> None:
    """Write a reduced CLIPSeg with the files of the repository CIDAS/clipseg-rd64-refined.

    Its config.json is of 2022: a second dictionary for each tower overrides the first.

    Args:
        folder: existing folder.
        image_size: side in pixels of the square to which the processor resizes photos.
    """
    import torch
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation, CLIPTokenizer

    from clipseg_pl.convert.clip_vocabulary import END, START, write_vocabulary
    from clipseg_pl.weights.clip import build_tokenizer

    model = CLIPSegForImageSegmentation(CLIPSegConfig(**CONFIG)).eval()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    model.save_pretrained(folder)
    towers = ("text_config", "vision_config")
    legacy = {
        **{name: {"model_type": f"clipseg_{name[:-7]}_model"} for name in towers},
        **{f"{name}_dict": CONFIG[name] for name in towers},
        **{name: value for name, value in CONFIG.items() if name not in towers},
        "architectures": ["CLIPSegForImageSegmentation"],
        "model_type": "clipseg",
        "conditional_layer": 0,
        "torch_dtype": "float32",
        "transformers_version": None,
    }
    processor = {
        "do_normalize": True,
        "do_resize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_processor_type": "ViTImageProcessor",
        "image_std": [0.229, 0.224, 0.225],
        "processor_class": "CLIPSegProcessor",
        "resample": 2,
        "size": {"height": image_size, "width": image_size},
    }
    write_vocabulary(folder, SimpleNamespace(tokenizer=build_tokenizer("clip", 77)))
    CLIPTokenizer.from_pretrained(folder, local_files_only=True).save_pretrained(folder)
    special = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    tokenizer = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **special}
    for name, content in (
        ("config", legacy),
        ("preprocessor_config", processor),
        ("tokenizer_config", tokenizer),
        ("special_tokens_map", special),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# CLIPSeg\n")


@pytest.fixture(scope="session")
def hub_clipseg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the files of `write_clipseg`, for `hub.add("owner/name", hub_clipseg)`."""
    folder = tmp_path_factory.mktemp("hub_clipseg")
    write_clipseg(folder)
    return folder
