"""The reviews recipe from an empty run folder, then again: seconds, verdict, costs. The last line is one JSON object.

Models and tables that are fetched already are not fetched again; installation is not counted.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RECIPE = Path(__file__).parents[1] / "examples" / "reviews" / "recipe.yaml"


def run(root: Path) -> tuple[float, dict[str, Any]]:
    """Seconds of a whole process, and what it printed."""
    command = [sys.executable, "-m", "aasut", "run", str(RECIPE), "--root", str(root), "--json"]
    started = time.perf_counter()
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return time.perf_counter() - started, json.loads(finished.stdout)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "runs"
        first_s, first = run(root)
        report = Path(first["folder"]) / "report.json"
        before = hashlib.sha256(report.read_bytes()).hexdigest()
        second_s, second = run(root)
        unchanged = hashlib.sha256(report.read_bytes()).hexdigest() == before
    student, teacher, linear = first["student"], first["teacher"], first["baselines"]["linear"]
    print(
        json.dumps(
            {
                "first_run_s": round(first_s, 1),
                "second_run_s": round(second_s, 1),
                "second_run_calls": second["calls_made_now"],
                "report_unchanged": unchanged,
                "verdict": first["verdict"]["result"],
                "difference": first["verdict"]["difference"],
                "lower_bound": first["verdict"]["lower_bound"],
                "accuracy_teacher": teacher["accuracy"],
                "accuracy_student": student["accuracy"],
                "accuracy_linear": linear["accuracy"],
                "student_minus_linear_ci": first["against_linear"]["ci"],
                "parameters_ratio": student["parameters_total"] / teacher["parameters_total"],
                "cheaper": first["economics"]["cheaper_than_teacher"],
                "cheaper_no_prefix_cache": first["economics"]["cheaper_than_teacher_no_prefix_cache"],
                "test_examples": first["verdict"]["n"],
                "test_groups": first["verdict"]["groups"],
            }
        )
    )


if __name__ == "__main__":
    main()
