"""Is a step's gradient the same however the step is cut? On the student's first layers, in float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from aasut.doctor.finding import Finding
from aasut.doctor.subject import Subject

CLOSE = 1e-5  # largest relative difference
WHOLE = 1 << 30  # tokens: everything in one micro-batch


def examine(subject: Subject) -> Iterator[Finding]:
    """One step over all rows, cut in several ways; each against every row by itself."""
    rows = range(len(subject.rows))
    alone = gradient(subject, [rows], micro=1)
    ways = {
        "packed into one micro-batch": gradient(subject, [rows], WHOLE),
        "in micro-batches of some rows": gradient(subject, [rows], sum(len(r.ids) for r in subject.rows) // 3),
        "accumulated over two parts": gradient(subject, [rows[::2], rows[1::2]], WHOLE),
        "in another order": gradient(subject, [rows[::-1]], WHOLE),
    }
    worst, where = 0.0, ""
    for way, found in ways.items():
        off = float((found - alone).norm() / alone.norm())
        worst, where = (off, way) if off > worst else (worst, where)
    text = f"{len(rows)} rows alone, packed, accumulated: within {worst:.1e}"
    if worst <= CLOSE:
        yield Finding("gradient", text)
        return
    problem = (
        f"The gradient of the same {len(rows)} rows, {where}, differs by {worst:.1e} of its size from each row by "
        "itself: the student would depend on batch size, row lengths and machine, and no two trainings could be "
        "compared."
    )
    yield Finding("gradient", text, "fault", problem)


def gradient(subject: Subject, parts: Sequence[Sequence[int]], micro: int) -> torch.Tensor:
    """Of the mean loss over all targets, in all weights that are trained, [weights] float64; the parts add up."""
    model, objective = subject.model, subject.objective
    model.get_input_embeddings().requires_grad_(False)
    model.get_output_embeddings().requires_grad_(False)
    targets = objective.targets(subject.rows)
    for chosen in parts:
        torch.autograd.backward(subject.loss(list(chosen), micro) / targets)
    trained = [p for p in model.parameters() if p.requires_grad]
    whole = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).double().flatten() for p in trained])
    model.zero_grad(set_to_none=True)
    return whole
