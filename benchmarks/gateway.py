"""What a gateway costs: passing requests through, beside LiteLLM's proxy and a bare pass-through.

All stand in front of the same fake upstream, which answers at once (`peers/upstream.py`), and are asked by wrk with 1,
16 and 64 connections, turn by turn, one process each. Ours checks virtual keys with limits and records every exchange
with its bodies; LiteLLM checks its master key, logs nothing and keeps nothing; `peers/pass_through.py` does nothing but
pass on. Added latency is over the upstream asked directly by as many connections. wrk sends the next request as soon as
it has an answer, so that at 16 connections each server is at the most it can do.

`rss_growth_mb` is how much more our process holds after 200,000 further requests than after the first 20,000;
`recorded` says whether each one of all requests is in the record, once.

    python benchmarks/gateway.py           ends within 20 minutes on 2 cores
    python benchmarks/gateway.py --small   a look: short rounds, 20,000 requests for memory
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from peers import environment

from aasut.gateway import keyring, traffic

HERE = Path(__file__).parent
LITELLM = (["litellm[proxy]==1.106.12"],)
CONNECTIONS = (1, 16, 64)
ROUNDS, SECONDS = 3, 4
WARM_UP, LASTING = 20_000, 200_000  # requests
BODY = json.dumps(
    {
        "model": "fake-model",
        "messages": [
            {
                "role": "system",
                "content": "You are a careful assistant that classifies product reviews by sentiment. Answer with one "
                "word: positive or negative. Do not explain. Think of irony and of comparisons with other products.",
            },
            {"role": "user", "content": "Review: The camera is great, and the battery lasts for days.\nSentiment:"},
        ],
        "temperature": 0,
        "max_tokens": 60,
    }
)
Times = dict[str, float]


class Server:
    """A process that answers at `port`."""

    def __init__(self, name: str, port: int, key: str = "") -> None:
        self.name, self.port, self.key = name, port, key
        self.pid = 0

    @contextmanager
    def running(self, words: list[str], env: dict[str, str] | None = None) -> Iterator[Server]:
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(words, stdout=said, stderr=said, env={**os.environ, **(env or {})})
            self.pid = process.pid
            try:
                self._wait(process, said)
                yield self
            finally:
                process.terminate()
                process.wait(30)

    def _wait(self, process: subprocess.Popen[bytes], said: Any) -> None:
        last = time.monotonic() + 120
        while time.monotonic() < last and process.poll() is None:
            try:
                if self.ask().status == 200:
                    return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.2)
        said.seek(0)
        raise SystemExit(f"{self.name} does not answer: {said.read()[-2000:].decode(errors='replace')}")

    def ask(self) -> Any:
        headers = {"content-type": "application/json", "authorization": f"Bearer {self.key}"}
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        return urllib.request.urlopen(urllib.request.Request(url, BODY.encode(), headers), timeout=10)

    def rss_mb(self) -> float:
        """Memory that the process holds."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def wrk(server: Server, connections: int, seconds: float, script: Path) -> Times:
    """Requests a second and latencies in milliseconds."""
    script.write_text(
        'wrk.method = "POST"\nwrk.headers["content-type"] = "application/json"\n'
        f'wrk.headers["authorization"] = "Bearer {server.key}"\nwrk.body = {lua(BODY)}\n'
        'done = function(s, l, r)\n  io.write(string.format("RESULT %d %d %d %d %d\\n", s.requests, s.duration, '
        "l:percentile(50), l:percentile(99), s.errors.status + s.errors.connect + s.errors.read + s.errors.timeout))\n"
        "end\n"
    )
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "30s", "-s", str(script)]
    url = f"http://127.0.0.1:{server.port}/v1/chat/completions"
    said = subprocess.run([*words, url], capture_output=True, text=True, check=True).stdout
    requests, duration, p50, p99, errors = map(int, re.search(r"RESULT (.*)", said)[1].split())  # type: ignore[index]
    if errors:
        raise SystemExit(f"{server.name}: {errors} of {requests} requests failed")
    return {"requests": requests, "rps": requests / (duration / 1e6), "p50_ms": p50 / 1e3, "p99_ms": p99 / 1e3}


def lua(text: str) -> str:
    """A text as Lua writes it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


def litellm_config(folder: Path, upstream: str) -> Path:
    path = folder / "litellm.yaml"
    path.write_text(
        "model_list:\n  - model_name: fake-model\n    litellm_params:\n      model: openai/fake-model\n"
        f"      api_base: {upstream}\n      api_key: sk-upstream\n"
        "litellm_settings:\n  telemetry: false\n  num_retries: 0\n  request_timeout: 60\n"
        "general_settings:\n  master_key: sk-litellm\n"
    )
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    small = parser.parse_args().small
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: it is a package of most systems, named wrk.")
    rounds, seconds = (2, 2.0) if small else (ROUNDS, float(SECONDS))
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place)
        store = folder / "traffic"
        upstream = Server("upstream", 9801)
        stack.enter_context(upstream.running([sys.executable, str(HERE / "peers" / "upstream.py"), "9801"]))
        address = "http://127.0.0.1:9801/v1"
        bare = Server("bare", 9802)
        stack.enter_context(bare.running([sys.executable, str(HERE / "peers" / "pass_through.py"), address, "9802"]))
        store.mkdir()
        key, _ = keyring.add(store, "bench", time.time(), requests_per_minute=10**9, usd_per_month=1e6)
        ours = Server("ours", 9803, key)
        prices = "upstream.prices={'*': {input: 2, output: 8}}"
        words = [sys.executable, "-m", "aasut", "gateway", "--upstream", address, "--port", "9803", "--set", prices]
        stack.enter_context(ours.running([*words, "--store", str(store)]))
        servers = [upstream, bare, ours]
        why = None
        try:
            binary = environment.python("litellm", *LITELLM).parent / "litellm"
            peer = Server("litellm", 9804, "sk-litellm")
            start = [str(binary), "--config", str(litellm_config(folder, address)), "--port", "9804"]
            offline = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
            stack.enter_context(peer.running([*start, "--num_workers", "1"], offline))
            servers.append(peer)
        except environment.NotInstallable as error:
            why = str(error)
        script, asked = folder / "ask.lua", 1
        found: dict[str, dict[int, list[Times]]] = {s.name: {c: [] for c in CONNECTIONS} for s in servers}
        for server in servers:
            warm = wrk(server, 16, 2, script)
            asked += int(warm["requests"]) if server is ours else 0
        for number in range(rounds):
            for connections in CONNECTIONS:
                for server in servers[number % 2 :] + servers[: number % 2]:
                    seen = wrk(server, connections, seconds, script)
                    found[server.name][connections].append(seen)
                    asked += int(seen["requests"]) if server is ours else 0
                    print(f"{server.name:9} {connections:3} connections: " + shown(seen), file=sys.stderr, flush=True)
        lasting = lasts(ours, script, small)
        asked += lasting.pop("requests")
        print(json.dumps(result(found, why) | lasting | {"recorded": recorded(store, asked)}))


def lasts(ours: Server, script: Path, small: bool) -> dict[str, Any]:
    """Memory over many requests."""
    done, held, sizes = 0, 0.0, []
    for target in (WARM_UP, (WARM_UP if small else LASTING) + WARM_UP):
        while done < target:
            done += int(wrk(ours, 16, 4, script)["requests"])
            sizes.append(round(ours.rss_mb(), 1))
        time.sleep(1)  # what waits is written
        before, held = held, ours.rss_mb()
    print(f"memory: {sizes} MB", file=sys.stderr)
    return {"requests": done, "rss_mb": round(held, 1), "rss_growth_mb": round(held - before, 1)}


def recorded(store: Path, asked: int) -> dict[str, int]:
    """How many requests were asked and recorded; wrk leaves some of its last ones without waiting for them."""
    time.sleep(2)
    ids = [exchange.id for exchange in traffic.exchanges(store)]
    return {"asked": asked, "written": len(ids), "different": len(set(ids))}


def result(found: dict[str, dict[int, list[Times]]], why: str | None) -> dict[str, Any]:
    def mid(name: str, connections: int, what: str) -> float:
        return median(one[what] for one in found[name][connections])

    told: dict[str, Any] = {"rps": round(mid("ours", 16, "rps")), "bare_rps": round(mid("bare", 16, "rps"))}
    told |= {"litellm_rps": round(mid("litellm", 16, "rps")) if "litellm" in found else None}
    told |= {} if why is None else {"litellm_unavailable": why}
    for what in ("p50_ms", "p99_ms"):
        for connections in CONNECTIONS:
            tail = "" if connections == 16 else f"_at_{connections}"
            told[f"added_{what}{tail}"] = round(mid("ours", connections, what) - mid("upstream", connections, what), 2)
    return told | {
        "by_connections": {
            name: {str(c): {w: round(mid(name, c, w), 2) for w in ("rps", "p50_ms", "p99_ms")} for c in CONNECTIONS}
            for name in found
        }
    }


def shown(times: Times) -> str:
    return f"{times['rps']:8.0f} requests/s, p50 {times['p50_ms']:.2f} ms, p99 {times['p99_ms']:.2f} ms"


if __name__ == "__main__":
    main()
