"""Made-up but consistent facts of a finished run, built with the functions that a run uses."""

from __future__ import annotations

from typing import Any

import numpy as np
import proof_facts

from aasut.economics import breakeven, case, cost, returns, tornado
from aasut.evaluate import metrics, paired

ANSWERS = ("negative", "positive")
USD_PER_HOUR, UTILISATION = 0.10, 0.5


def answers_of(rng: np.random.Generator, gold: np.ndarray, skill: float) -> np.ndarray:
    """Probability of `positive`, [n]."""
    evidence = (gold * 2 - 1) * skill + rng.normal(0, 1.2, len(gold))
    return 1 / (1 + np.exp(-2.2 * evidence))


def result(name: str, chance: np.ndarray, gold: np.ndarray, groups: list[str], **more: Any) -> dict[str, Any]:
    human = [ANSWERS[int(g)] for g in gold]
    model = [ANSWERS[int(c > 0.5)] for c in chance]
    right = [h == m for h, m in zip(human, model, strict=True)]
    matrix = metrics.confusion(human, model, ANSWERS)
    rate = more.get("requests_per_s")
    return {
        "name": name,
        **metrics.accuracy(right, groups).as_dict(),
        "macro_f1": metrics.macro_f1(matrix),
        "confusion": matrix.tolist(),
        **metrics.calibration(np.maximum(chance, 1 - chance).tolist(), right).as_dict(),
        "requests_per_s_no_prefix_cache": None,
        "tokens_per_request": None,
        "tokens_per_request_computed": None,
        "usd_per_million_requests": cost.usd_per_million_requests(USD_PER_HOUR, rate, UTILISATION) if rate else None,
        **more,
    }


def facts() -> dict[str, Any]:
    rng = np.random.default_rng(4)
    gold = (rng.random(946) < 0.57).astype(float)
    groups = [f"review-{i}" for i in np.sort(rng.integers(0, 96, 946))]
    teacher_chance = answers_of(rng, gold, 1.65)
    student_chance = 1 / (1 + np.exp(-(np.log(teacher_chance / (1 - teacher_chance)) * 0.93 + rng.normal(0, 0.5, 946))))
    linear_chance, untrained_chance = answers_of(rng, gold, 0.95), answers_of(rng, gold, 0.3)
    speeds = {"requests_per_s": 43.2, "requests_per_s_no_prefix_cache": 9.1}
    teacher = result(
        "SmolLM2-135M-Instruct, 6 prompts averaged", teacher_chance, gold, groups,
        **speeds, tokens_per_request=1412.5, tokens_per_request_computed=143.0, parameters_total=134_515_008,
        parameters_active=134_515_008, licence="Apache-2.0",
    )  # fmt: skip
    student = result(
        "SmolLM2-135M-Instruct, 14 of 30 layers", student_chance, gold, groups,
        requests_per_s=271.0, requests_per_s_no_prefix_cache=233.0, tokens_per_request=26.4,
        tokens_per_request_computed=24.1, parameters_total=77_877_504, parameters_active=77_877_504,
        licence="Apache-2.0",
    ) | {
        "file": "student.gguf", "file_sha256": "9f2c" * 16, "engine": "openvino", "format": "gguf, bf16",
        "student_prompt": "Review: {text}\nSentiment:",
    }  # fmt: skip
    linear = result(
        "TF-IDF, logistic regression", linear_chance, gold, groups, requests_per_s=9120.0,
        parameters_total=41_208, parameters_active=41_208, licence="made here",
    )  # fmt: skip
    untrained = result(
        "SmolLM2-135M-Instruct, 14 of 30 layers, untrained", untrained_chance, gold, groups,
        **speeds, tokens_per_request=26.4, tokens_per_request_computed=24.1, parameters_total=77_877_504,
        parameters_active=77_877_504, licence="Apache-2.0",
    )  # fmt: skip
    majority = result(
        "always positive", np.full(946, 0.57), gold, groups, requests_per_s=None, parameters_total=0,
        parameters_active=0, licence="",
    )  # fmt: skip
    right = {k: ((c > 0.5) == (gold > 0.5)).tolist() for k, c in
             {"teacher": teacher_chance, "student": student_chance, "linear": linear_chance}.items()}  # fmt: skip
    verdict = paired.verdict(right["student"], right["teacher"], groups, 0.03)
    against = paired.compare(right["student"], right["linear"], groups)
    disagree = np.flatnonzero((teacher_chance > 0.5) != (student_chance > 0.5))
    texts = [
        "The battery lasted for two weeks & then <b>died</b>; support never answered.",
        "Not bad at all for the price, though I expected the zoom to be quicker than it is.",
        "मैंने इसे दो बार लौटाया, तीसरी बार ठीक निकला।",
        "I wanted to like this player. The sound is fine, the software is what keeps it from being a five-star "
        "product, and every update so far has broken something that worked before.",
    ]
    return {
        "name": "reviews",
        "scale": "full",
        "task": {"kind": "classify", "answers": list(ANSWERS), "prompt": "Positive or negative?\n{text}"},
        "data": {
            "counts": {"pool": 1925, "tune": 114, "calibrate": 112, "test": 946},
            "groups": {"pool": 190, "tune": 12, "calibrate": 12, "test": 96},
            "answers": {"test": {"negative": int((gold == 0).sum()), "positive": int(gold.sum())}},
        },
        "teacher": teacher,
        "student": student,
        "baselines": {"linear": linear, "untrained": untrained, "majority": majority},
        "verdict": verdict.as_dict(),
        "against_linear": against.as_dict(),
        "recommendation": paired.recommend(verdict, against).as_dict(),
        "economics": economics(teacher, student, verdict),
        "training": {
            "steps": 360, "epochs": 3, "seconds": 214.0, "tokens": 151_020, "padding_share": 0.031, "best_step": 300,
            "curve": [
                {"step": s, "train_loss": 0.2 + 0.55 * float(np.exp(-s / 90)) + 0.02 * float(np.sin(s)),
                 "validation_loss": None if s % 60 else 0.27 + 0.45 * float(np.exp(-s / 80)) + 1e-4 * max(0, s - 300)}
                for s in range(10, 361, 10)
            ],
        },
        "conservation": {
            "read: pool": {"in": 2000, "kept": 1990, "dropped": {"empty text": 10}, "failed": {}},
            "dedupe": {"in": 1990, "kept": 1931, "dropped": {"exact copy": 41, "near copy": 18}, "failed": {}},
            "label": {"in": 1931, "kept": 1925, "dropped": {}, "failed": {"too long for the context": 6}},
            "evaluate": {"in": 946, "kept": 946, "dropped": {}, "failed": {}},
        },
        "ledger": {"calls_made": 1925, "calls_reused": 114, "usd_spent": 0.0},
        "test_opened": 1,
        "licences": [
            {"what": "SmolLM2-135M-Instruct", "licence": "Apache-2.0", "note": "teacher, and the student's start"},
            {"what": "vaderSentiment 3.3.2", "licence": "MIT", "note": "reviews and human answers"},
        ],
        "lineage": [
            {"stage": s, "version": 1, "fingerprint": f"{i:x}a41c90bd2e77f30c511", "content": f"{i:x}" * 64,
             "parents": [f"{i - 1:x}a41c90bd2e77f30c511"] if i else []}
            for i, s in enumerate(("read", "split", "label", "train", "export", "evaluate"))
        ],
        "disagreements": [
            {
                "id": f"{groups[i]}_{i}", "text": texts[k % len(texts)], "human": ANSWERS[int(gold[i])],
                "teacher": ANSWERS[int(teacher_chance[i] > 0.5)], "student": ANSWERS[int(student_chance[i] > 0.5)],
                "teacher_confidence": float(max(teacher_chance[i], 1 - teacher_chance[i])),
                "student_confidence": float(max(student_chance[i], 1 - student_chance[i])),
            }
            for k, i in enumerate(disagree[:20])
        ],
        "seconds": {"read": 1.8, "label": 96.4, "train": 214.0, "export": 11.2, "evaluate": 41.9},
        "metrics": proof_facts.metrics(student, teacher),
        "margin_recorded": {"margin": 0.03, "confidence": 0.95, "at": 1_764_400_000.0},
        "judged": proof_facts.judged(),
        "learning_curve": proof_facts.learning_curve(),
        **proof_facts.certified(np.maximum(student_chance, 1 - student_chance), np.array(right["student"])),
    }  # fmt: skip


def economics(teacher: dict[str, Any], student: dict[str, Any], found: paired.Verdict) -> dict[str, Any]:
    each = case.Case(
        requests_per_month=2e6,
        usd_per_machine_hour=USD_PER_HOUR,
        utilisation=UTILISATION,
        student_requests_per_s=student["requests_per_s"],
        teacher_requests_per_s=teacher["requests_per_s"],
        teacher_usd_per_million_requests=teacher["usd_per_million_requests"],
        fixed_usd_per_month=5.0,
        labels_usd=0.01,
        labelling_hours=0.027,
        training_hours=0.06,
        months=12.0,
        usd_per_correct_answer=5e-5,
    )
    difference = returns.Difference(found.paired.difference, found.paired.lower, found.paired.upper, 0.95)
    bars = tornado.tornado(each, difference)
    api = cost.api_usd_per_million_requests(230, 2, 0.15, 0.60)
    return {
        "usd_per_machine_hour": USD_PER_HOUR,
        "utilisation": UTILISATION,
        "machines": "shared",
        "deferred_share": 0.0,
        "cheaper_than_teacher": teacher["usd_per_million_requests"] / student["usd_per_million_requests"],
        "cheaper_than_teacher_no_prefix_cache": 233.0 / 9.1,
        "labelling_usd": each.labelling_usd,
        "human_answers_usd": 0.01,
        "training_usd": each.training_usd,
        "break_even": [
            each.break_even().as_dict(),
            breakeven.break_even("a small hosted model", api, each.owning()).as_dict(),
        ],
        "sentence": cost.cost_sentence(
            student["usd_per_million_requests"], teacher["usd_per_million_requests"], 233.0 / 9.1
        ),
        "return": returns.returns(each, difference).as_dict(),
        **bars,
        "hangs_on": tornado.tornado_sentence(bars),
    }
