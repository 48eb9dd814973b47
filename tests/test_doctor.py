from __future__ import annotations

import fcntl
import io
import json
import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from aasut.doctor import cache, doctor, environment, machine, software, storage
from aasut.doctor.finding import Examination, Finding
from aasut.sources.models import CONVERTER
from aasut.store import Store

Result = subprocess.CompletedProcess[str]


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "aasut", "doctor", *map(str, words)]


def run(*words: object, **changes: str | None) -> Result:
    """The real command with environment variables changed, or unset where None."""
    given = {k: v for k, v in (os.environ | changes).items() if v is not None}
    ran = subprocess.run(command(*words), capture_output=True, text=True, env=given, timeout=120)
    assert "Traceback" not in ran.stdout + ran.stderr, ran.stderr
    return ran


def faults(found: Iterator[Finding]) -> list[str]:
    return [finding.problem for finding in found if finding.level == "fault"]


def problems(found: Iterator[Finding]) -> list[str]:
    return [finding.problem for finding in found if finding.level != "ok"]


def test_this_machine_works(tmp_path: Path) -> None:
    """The tests run here, so that whatever it names it must not say that a library does not load."""
    ran = run("--root", tmp_path / "runs", XDG_CACHE_HOME=str(tmp_path / "cache"), OPENAI_API_KEY="sk-very-secret")
    assert ran.stderr == ""
    assert max(len(line) for line in ran.stdout.splitlines()) <= 100
    for name in ("torch", "openvino", "the rest"):
        assert any(line.split(maxsplit=1)[0] == name.split()[0] and "loads" in line for line in ran.stdout.splitlines())
    room = shutil.disk_usage(tmp_path).free >= storage.ENOUGH
    if room:
        assert "Everything that aasut needs works." in ran.stdout
    assert ran.returncode == (0 if room else 1)
    assert "OPENAI_API_KEY" in ran.stdout
    assert "very-secret" not in ran.stdout
    assert os.listdir(tmp_path) == []  # looking leaves nothing behind


def test_many_faults_at_once(tmp_path: Path) -> None:
    """Planted: a broken OpenVINO, a file where runs should be, a damaged model, a proxy and a key that are none."""
    (tmp_path / "path" / "openvino").mkdir(parents=True)
    (tmp_path / "path" / "openvino" / "__init__.py").write_text("raise ImportError('libopenvino.so: cannot open')")
    (tmp_path / "runs").write_text("a file")
    model(tmp_path / "cache" / "aasut" / "models" / "abc", {"config.json": "{"})
    ran = run(
        "--root", tmp_path / "runs", "--json",
        PYTHONPATH=f"{tmp_path / 'path'}:{os.environ.get('PYTHONPATH', '')}", XDG_CACHE_HOME=str(tmp_path / "cache"),
        MISTRAL_API_KEY="secret\n", HTTPS_PROXY="http://user:password@proxy.example:3128", https_proxy=None,
        http_proxy="http://[broken", HTTP_PROXY=None,
    )  # fmt: skip
    found = json.loads(ran.stdout)
    assert (ran.returncode, found["works"], len(ran.stdout.splitlines())) == (1, False, 1)
    for says in (
        "openvino does not load: ImportError: libopenvino.so: cannot open.",
        f"{tmp_path}/runs is a file, where runs should have a folder",
        "The cached model pypi:tiny==1 is damaged: config.json is no JSON.",
        "MISTRAL_API_KEY holds white space",
        "http_proxy is no address of a proxy",
    ):
        assert [fault for fault in found["faults"] if says in fault], says
    assert "torch" not in " ".join(found["faults"])
    assert "secret" not in ran.stdout
    assert "password" not in ran.stdout
    assert {"name": "HTTPS_PROXY", "value": "proxy.example:3128", "level": "ok", "problem": ""} in (
        found["sections"]["Environment"]
    )


def test_nonsense_in_the_environment_does_not_stop_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    nonsense = {"PATH": "/nowhere", "HOME": str(tmp_path / "file"), "XDG_CACHE_HOME": None, "OMP_NUM_THREADS": "many"}
    ran = run("--json", "--root", tmp_path, **nonsense)
    found = json.loads(ran.stdout)
    assert ran.returncode == 1
    assert [fault for fault in found["faults"] if f"{tmp_path}/file is a file, where cache should have" in fault]
    assert "OMP_NUM_THREADS is 'many', which is no number of threads" in " ".join(found["notes"])


def test_a_full_disk_and_a_small_one(tmp_path: Path) -> None:
    """Real file systems of 300 kB and of 30 MB, in a mount namespace of their own."""
    (tmp_path / "small").mkdir()
    looks = "import sys; from pathlib import Path; from aasut.doctor import storage; print([f.problem for f in storage.examine(Path(sys.argv[1]))][0])"  # noqa: E501
    for size, says in (
        ("300k", "cannot be written: No space left on device. Free some space"),
        ("30m", "Only 31.5 MB are free for runs"),
    ):
        script = 'mount -t tmpfs -o size="$1" tmpfs "$2" && "$3" -c "$4" "$2/runs"'
        words = ["sh", "-c", script, "sh", size, str(tmp_path / "small"), sys.executable, looks]
        ran = subprocess.run(["unshare", "--map-root-user", "--mount", *words], capture_output=True, text=True)
        assert says in ran.stdout, ran.stderr


def test_a_disk_that_refuses_large_files(tmp_path: Path) -> None:
    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    looks = "import sys; from pathlib import Path; from aasut.doctor import storage; print([f.problem for f in storage.examine(Path(sys.argv[1]))][0])"  # noqa: E501
    code = [sys.executable, "-c", looks, str(tmp_path)]
    ran = subprocess.run(code, capture_output=True, text=True, preexec_fn=limited)
    assert ran.stdout.startswith(f"{tmp_path} cannot be written: File too large. "), ran.stderr


def test_a_store_in_use_or_damaged(tmp_path: Path) -> None:
    with Store(tmp_path / ".store"):
        (held,) = faults(storage.examine(tmp_path))
    assert f"is in use by process {os.getpid()}" in held
    assert faults(storage.examine(tmp_path)) == []
    (tmp_path / ".store" / "store.db").write_text("this is no database, " * 100)
    (damaged,) = faults(storage.examine(tmp_path))
    assert "store.db cannot be opened: file is not a database" in damaged


def test_a_folder_in_which_no_database_can_be_kept(tmp_path: Path) -> None:
    """A path that is too long for the log beside the database, though not for the database."""
    deep = tmp_path
    while len(str(deep)) < 4000:
        deep /= "x" * min(200, 4040 - len(str(deep)))
    parts = deep.relative_to(tmp_path).parts
    here = os.getcwd()
    try:
        os.chdir(tmp_path)
        for part in parts:
            os.mkdir(part)
            os.chdir(part)
    finally:
        os.chdir(here)
    (fault,) = faults(iter([storage._database(deep, "--root")]))
    assert "A database cannot be kept in" in fault


def model(folder: Path, files: Mapping[str, str | bytes], sizes: Mapping[str, int] | None = None) -> Path:
    """A cached model as `sources.models` leaves it."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    record = {"address": "pypi:tiny==1#*.gguf", "sha256": "0" * 64, "licence": "", "converter": CONVERTER}
    record["files"] = sizes or {name: (folder / name).stat().st_size for name in files}
    (folder / "source.json").write_text(json.dumps(record))
    return folder


def safetensors(length: int) -> bytes:
    header = json.dumps({"a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(length)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of models."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "aasut" / "models"


WHOLE = {"config.json": "{}", "model.safetensors": safetensors(8)}


def test_models_that_are_whole(models: Path) -> None:
    model(models / "one", WHOLE)
    (models / "one.lock").touch()
    (found,) = cache.examine()
    assert found == Finding("model", f"pypi:tiny==1, {2 + 8 + len(safetensors(8)) - 8 + record_size(models / 'one')} B")


def record_size(folder: Path) -> int:
    return (folder / "source.json").stat().st_size


@pytest.mark.parametrize(
    ("files", "sizes", "says"),
    [
        ({}, {"model.safetensors": 5}, "model.safetensors is missing"),
        (WHOLE, {"config.json": 7}, "config.json has 2 bytes instead of 7"),
        ({"config.json": "{]"}, None, "config.json is no JSON"),
        ({"model.safetensors": safetensors(7)}, None, "model.safetensors is not as long as its header says"),
        ({"model.safetensors": b"\xff" * 64}, None, "model.safetensors has a damaged header"),
    ],
)
def test_damaged_models(models: Path, files: dict[str, str | bytes], sizes: dict[str, int] | None, says: str) -> None:
    folder = model(models / "one", files, sizes)
    (fault,) = faults(cache.examine())
    assert fault == f"The cached model pypi:tiny==1 is damaged: {says}. Delete {folder}; the next run fetches it again."


def test_a_model_without_its_record(models: Path) -> None:
    (models / "f00").mkdir(parents=True)
    (fault,) = faults(cache.examine())
    assert "The cached model f00 is damaged: source.json is missing or cannot be read." in fault


def test_leftovers_are_told_from_downloads_under_way(models: Path) -> None:
    (models / "one.partial").mkdir(parents=True)
    (models / "one.partial" / "part").write_bytes(bytes(2000))
    graphs = models.parent / "openvino"
    (graphs / f"g.{os.getpid()}.partial").mkdir(parents=True)
    with (models / "one.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert problems(cache.examine()) == []
    (note,) = problems(cache.examine())
    assert note == f"Downloads that broke off take 2 kB: delete {models / 'one.partial'}."
    (graphs / "g.999999999.partial").mkdir()
    assert "g.999999999.partial" in problems(cache.examine())[0]


def test_tables_and_graphs_are_examined(models: Path) -> None:
    leaf = models.parent / "tables" / "aa" / "bb"
    leaf.mkdir(parents=True)
    (leaf / "table.csv").write_text("a,b\n")
    (leaf / "sha256").write_text(storage_hash(leaf / "table.csv"))
    version = software.importlib.metadata.version("openvino-genai")
    for name in (f"aa-{version}", "bb-2020.1.0"):
        graph = models.parent / "openvino" / name
        graph.mkdir(parents=True)
        for file in ("openvino_model.xml", "openvino_model.bin"):
            (graph / file).write_text("x" * 500)
    (old,) = problems(cache.examine())
    assert old.startswith("1 graphs in")
    (leaf / "table.csv").write_text("a,c\n")
    (models.parent / "openvino" / f"aa-{version}" / "openvino_model.bin").unlink()
    found = faults(cache.examine())
    assert any(fault.startswith("The cached table table.csv changed.") for fault in found)
    assert any(fault.startswith("A graph of OpenVINO is not whole.") for fault in found)


def storage_hash(path: Path) -> str:
    from aasut.store import file_hash

    return file_hash(path)


def test_a_library_that_crashes_is_a_fault() -> None:
    found = software._loaded("torch", software._start("import os, signal; os.kill(os.getpid(), signal.SIGILL)"))
    assert found.problem == "torch does not load: it was ended by SIGILL. Try pip install --force-reinstall torch."
    found = software._loaded("others", software._start("import nothing_of_this_name"))
    assert "the rest does not load: ModuleNotFoundError: No module named 'nothing_of_this_name'." in found.problem


def test_versions_are_compared_by_number() -> None:
    assert software._number("2.10.0+cpu") > software._number("2.6")
    assert software._number("5.0.0rc1") >= software._number("5.0")
    assert {"torch", "openvino-genai"} <= {name for name, _ in software._needed()}
    assert faults(software.versions()) == []


class Index(BaseHTTPRequestHandler):
    """Answers 404, which is an answer; never at /silent."""

    def do_HEAD(self) -> None:
        if self.path.startswith("/silent"):
            time.sleep(10)
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def index() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_the_package_index_is_asked(index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://user:password@127.0.0.1:{free.getsockname()[1]}/simple"
    for name in ("PIP_EXTRA_INDEX_URL", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"{index}/simple")
    (found,) = environment.network()
    assert found == Finding("package index", "127.0.0.1 answers")
    monkeypatch.setenv("PIP_INDEX_URL", closed)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{index}/silent {tmp_path} {tmp_path}/gone")
    refused, silent, there, gone = environment.network()
    assert "127.0.0.1 cannot be reached ([Errno 111] Connection refused)" in refused.problem
    assert "timed out" in silent.problem
    assert [f.level for f in (refused, silent, there, gone)] == ["fault", "fault", "ok", "fault"]
    assert "password" not in refused.problem + refused.value


def test_no_examination_crashes_or_hangs() -> None:
    def breaks() -> Iterator[Finding]:
        yield Finding("first", "seen")
        raise ZeroDivisionError("what nobody thought of")

    def hangs() -> Iterator[Finding]:
        yield Finding("first", "seen")
        threading.Event().wait()

    broken, hung = Examination("Broken", breaks), Examination("Hung", hangs)
    first, second = broken.result(5)
    assert (first.value, second.level) == ("seen", "note")
    assert second.problem == "Broken was not examined: ZeroDivisionError: what nobody thought of"
    first, second = hung.result(0.2)
    assert (first.value, second.level) == ("seen", "fault")


def test_every_fault_is_a_line_and_decides_the_result() -> None:
    found = {"A": [Finding("a", "1"), Finding("b", "2", "note", "b is slow.")]}
    assert doctor.plain(found)["works"]
    found["B"] = [Finding("c", "3", "fault", "c is gone: fetch it.")]
    said = doctor.plain(found)
    assert (said["works"], said["faults"], said["notes"]) == (False, ["c is gone: fetch it."], ["b is slow."])
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(doctor.render(found))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert lines[-2:] == ["note: b is slow.", "will not work: c is gone: fetch it."]


def system(folder: Path, files: Mapping[str, str]) -> Path:
    """proc and sys of another machine."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_an_older_processor_is_slower_and_works(tmp_path: Path) -> None:
    cpu = "processor : 0\nmodel name : Old One\nflags : fpu avx avx2\n\nprocessor : 1\nmodel name : Old One\n"
    memory = "MemTotal:       16000000 kB\nMemAvailable:    9000000 kB\n"
    old = system(tmp_path, {"proc/cpuinfo": cpu, "proc/meminfo": memory})
    found = {finding.name: finding for finding in machine.examine(old)}
    assert found["processor"].value.startswith("Old One, ")
    assert found["instructions"].value == "AVX2, no AVX-512, no bfloat16, no AMX"
    assert found["instructions"].level == "note"
    assert "float32, about half as fast; nothing is broken" in found["instructions"].problem
    assert found["memory"] == Finding("memory", "16.4 GB, 9.2 GB of it free")


@pytest.mark.parametrize(
    "files",
    [
        {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "50000 100000\n"},
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"},
        {
            "proc/self/cgroup": "3:cpu,cpuacct:/docker/x\n",
            "sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us": "50000",
            "sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us": "100000",
        },
    ],
)
def test_a_container_that_gives_half_a_core(tmp_path: Path, files: dict[str, str]) -> None:
    found = {finding.name: finding for finding in machine.examine(system(tmp_path, files))}
    assert "A limit of this container leaves 0.5 of" in found["limit of cores"].problem


def test_containers_without_limits(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "max 100000\n"}
    files |= {"sys/fs/cgroup/a/memory.max": "max\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1"}
    assert "limit of cores" not in {finding.name for finding in machine.examine(system(tmp_path, files))}


def test_too_little_memory(tmp_path: Path) -> None:
    memory = "MemTotal:       16000000 kB\nMemAvailable:   15000000 kB\n"
    files = {"proc/meminfo": memory, "proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "1000000000\n"}
    (fault,) = faults(machine.examine(system(tmp_path, files)))
    assert fault.startswith("1.0 GB of memory are too few to train a student")
    (tmp_path / "sys/fs/cgroup/a/memory.max").write_text("3000000000")
    assert faults(machine.examine(tmp_path)) == []
    assert any("takes about 3 GB of memory" in problem for problem in problems(machine.examine(tmp_path)))


def test_a_machine_that_says_nothing(tmp_path: Path) -> None:
    found = {finding.name: finding.value for finding in machine.examine(tmp_path)}
    assert (found["instructions"], found["memory"]) == ("unknown", "unknown")


def test_threads_that_are_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = machine.usable_cores()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert "OMP_NUM_THREADS" not in {finding.name for finding in machine.examine()}
    monkeypatch.setenv("OMP_NUM_THREADS", str(cores))
    assert not [f for f in machine.examine() if f.name == "OMP_NUM_THREADS" and f.problem]
    monkeypatch.setenv("OMP_NUM_THREADS", "0")
    assert "is no number of threads" in " ".join(problems(machine.examine()))


def test_a_process_that_may_use_one_core_says_so() -> None:
    code = "from aasut.doctor import machine; print([f.value for f in machine.examine() if f.name == 'cores'])"
    core = min(os.sched_getaffinity(0))
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, preexec_fn=lambda: os.sched_setaffinity(0, {core})
    )
    assert ran.stdout == "['1']\n", ran.stderr


def test_sqlite_is_really_tried(tmp_path: Path) -> None:
    found = {finding.name: finding for finding in storage.examine(tmp_path)}
    assert found["database"].value == f"SQLite {sqlite3.sqlite_version}, write-ahead log and locks work"
    assert os.listdir(tmp_path) == []
