from __future__ import annotations

from pathlib import Path

from aasut.agents import listing
from aasut.agents.trace import Trace


def test_a_run_that_was_killed_is_unfinished(tmp_path: Path) -> None:
    kept = Trace(tmp_path, "post", "m", [], {})
    kept.add("message", role="user", content="Read\nit.")
    kept.add("request", input_tokens=10, output_tokens=2, usd=0.5, seconds=1.0, finish="stop")
    (one,) = listing.gather(tmp_path)
    assert (one["reason"], one["task"], one["steps"], one["calls"], one["tokens"], one["usd"]) == (
        "unfinished", "Read\nit.", 1, 0, 12, 0.5,
    )  # fmt: skip
    assert listing.render([one]).endswith("unfinished     1 steps   0 calls       12 tokens  $0.5000  Read it.")
    assert "10 + 2 tokens, 1.00 s" in listing.render_show(listing.show(tmp_path, kept.id))


def test_a_run_without_a_task_is_shown(tmp_path: Path) -> None:
    kept = Trace(tmp_path, "post", "m", [], {})
    kept.end("interrupted", text="It was interrupted.")
    assert listing.render_show(listing.show(tmp_path, kept.id)).endswith("end: interrupted: It was interrupted.")
