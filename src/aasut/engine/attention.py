"""Attention in which all rows of a batch share one prefix, or are packed in one row; transformers knows it as `NAME`.

The prefix's keys and values are kept once, not once a row, and all rows' queries meet them in one
matrix product; both parts are joined in one softmax (as in Hydragen, Juravsky et al. 2024).
Grouped-query heads are never repeated in memory.
"""

from __future__ import annotations

from typing import Any

import torch

from aasut.engine.segments import Segments
from aasut.errors import ModelError

NAME = "shared_prefix"
MOST_SCORES = 1 << 26  # scores held at once; beyond, they are computed in blocks
KeyValues = list[tuple[torch.Tensor, torch.Tensor]]  # a layer each: keys and values, [1, heads, P, head size]


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    shared_prefix: KeyValues | None = None,
    segments: Segments | None = None,
    s_aux: torch.Tensor | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """query [B, H, S, D]; key, value [B, G, K, D], G key heads for H query heads; mask [B or 1, 1, S, P + K], additive.

    Gives [B, S, H, D]. Scores and softmax are float32. With `segments`, B is 1 and there is no mask.
    Raises ModelError for models whose attention has sinks (`s_aux`) or caps its scores.
    """
    if s_aux is not None or softcap is not None:
        raise ModelError(
            "This model's attention has sinks or capped scores, which are not known here.",
            "Take a model such as Llama, Qwen, Mistral or Gemma 3.",
        )
    rows, heads, width, size = query.shape
    if segments is not None:
        scale = size**-0.5 if scaling is None else scaling
        return segments.attend(query, key, value, scale, module.layer_idx), None
    assert attention_mask is not None
    groups, seen = key.shape[1], key.shape[2]
    past = None if shared_prefix is None else shared_prefix[module.layer_idx]
    if past is None or rows * heads * width * attention_mask.shape[-1] > MOST_SCORES:
        return _fused(query, key, value, attention_mask, scaling, past), None
    each = heads // groups * width  # queries that share a key head
    query = query * (size**-0.5 if scaling is None else scaling)
    own = query.reshape(rows, groups, each, size) @ key.transpose(2, 3)
    scores = own.reshape(rows, heads, width, seen).float() + attention_mask[..., -seen:].float()
    keys, values = (part[0] for part in past)  # [G, P, D]
    length = keys.shape[1]
    flat = query.reshape(rows, groups, each, size).transpose(0, 1).reshape(groups, rows * each, size)
    met = (flat @ keys.transpose(1, 2)).reshape(groups, rows, each, length).transpose(0, 1)
    before = met.reshape(rows, heads, width, length).float() + attention_mask[..., :length].float()
    weights = torch.softmax(torch.cat([before, scores], dim=-1), dim=-1).to(value.dtype)
    far = weights[..., :length].reshape(rows, groups, each, length).transpose(0, 1)
    mixed = (far.reshape(groups, rows * each, length) @ values).reshape(groups, rows, each, size).transpose(0, 1)
    mixed = mixed + weights[..., length:].reshape(rows, groups, each, seen) @ value
    return mixed.reshape(rows, heads, width, size).transpose(1, 2).contiguous(), None


def _fused(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    scaling: float | None,
    past: tuple[torch.Tensor, torch.Tensor] | None,
) -> torch.Tensor:
    """The same by PyTorch's fused attention, which never holds all scores; a prefix is copied for each row."""
    if past is not None:
        rows = query.shape[0]
        key = torch.cat([past[0].expand(rows, -1, -1, -1), key], dim=2)
        value = torch.cat([past[1].expand(rows, -1, -1, -1), value], dim=2)
    mixed = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
    )
    return mixed.transpose(1, 2).contiguous()


def register() -> None:
    """Make `NAME` known to transformers."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
