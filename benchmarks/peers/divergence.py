"""Mean forward KL of students to the teacher, over the tokens of held-out answers, by plain transformers in float32.

Called with the job, the number of threads, and students' folders. The last line is one JSON object: nats a token of
each folder.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM

from peers.job import Job, Row


def load(folder: str) -> Any:
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def log_probabilities(model: Any, row: Row) -> torch.Tensor:
    """Of every token at each place of the answer, [answer, V]."""
    logits = model(input_ids=torch.tensor([row.ids]), logits_to_keep=row.answer + 1).logits[0, :-1]
    return torch.log_softmax(logits, dim=-1)


@torch.inference_mode()
def divergence(job: Job, folders: list[str]) -> dict[str, float]:
    teacher, students = load(job.teacher), {folder: load(folder) for folder in folders}
    total = dict.fromkeys(folders, 0.0)
    for row in job.held_out:
        right = log_probabilities(teacher, row)
        mass = right.exp()
        for folder, student in students.items():
            terms = (right - log_probabilities(student, row)).mul_(mass)
            total[folder] += float(terms.sum(dtype=torch.float64))
    tokens = sum(row.answer for row in job.held_out)
    return {folder: value / tokens for folder, value in total.items()}


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    print(json.dumps(divergence(Job.load(Path(sys.argv[1])), sys.argv[3:])))
