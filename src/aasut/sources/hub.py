"""Models from a Hugging Face hub, through the hub's own client; HF_ENDPOINT and HF_TOKEN are honoured."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from aasut.errors import ModelError, RecipeError
from aasut.progress import Progress

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
KEPT = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt", "README.md", "LICENSE*")
POOLING = "1_Pooling/config.json"  # how a model of sentences makes one vector of a text's
_ADDRESS = re.compile(r"hf:([\w.-]+/[\w.-]+)@([\w./-]+)(?:#(.+\.gguf))?")


def download(address: str, folder: Path, progress: Progress) -> Path | None:
    """Download `hf:ORG/NAME@REVISION[#FILE.gguf]` to `folder`: weights and texts, or one GGUF file and the texts.

    Returns the GGUF file, None where the folder itself is the model. Only safetensors or GGUF
    weights are taken. Raises RecipeError for an address without a revision, ModelError where the
    hub does not give the model.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise RecipeError(
            f"The model address {address!r} cannot be read.",
            "Write hf:ORG/NAME@REVISION or hf:ORG/NAME@REVISION#FILE.gguf; a revision is required.",
        )
    repository, revision, file = match[1], match[2], match[3]
    try:
        _download(address, repository, revision, file, folder, progress)
    finally:
        shutil.rmtree(folder / ".cache", ignore_errors=True)
    return folder / file if file is not None else None


def _download(address: str, repository: str, revision: str, file: str | None, folder: Path, progress: Progress) -> None:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    endpoint = os.environ.get("HF_ENDPOINT")  # the client reads it once, when it is imported
    # The error of the HTTP library, which is another one from version to version.
    unreachable: Any = HfHubHTTPError.__bases__[0]
    disable_progress_bars()
    try:
        about = huggingface_hub.HfApi(endpoint=endpoint).model_info(repository, revision=revision)
        wanted = select([entry.rfilename for entry in about.siblings or []], file, address)
        commit = about.sha or revision
        with progress.steps("fetching the model", len(wanted)) as step:
            for name in wanted:
                huggingface_hub.hf_hub_download(repository, name, revision=commit, local_dir=folder, endpoint=endpoint)
                step.advance(note=name)
    except (HfHubHTTPError, unreachable, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in (13, 28, 30, 122):  # the disk's fault, not the hub's
            raise
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise ModelError(
            f"{address} could not be fetched: {reason}.",
            "Check the name, the revision, the network, and HF_TOKEN for models that ask for one.",
        ) from error


def stated_bytes(address: str) -> int | None:
    """Bytes that `download` would fetch, as the hub states them; None where it cannot be asked."""
    import huggingface_hub

    match = _ADDRESS.fullmatch(address)
    if match is None:
        return None
    try:
        api = huggingface_hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
        about = api.model_info(match[1], revision=match[2], files_metadata=True, timeout=15)
        sizes = {entry.rfilename: entry.size for entry in about.siblings or []}
        found = [sizes[name] for name in select(list(sizes), match[3], address)]
    except Exception:  # the HTTP library's errors are others from version to version; a size is no need
        return None
    return None if None in found else sum(size for size in found if size is not None)


def select(names: Sequence[str], file: str | None, address: str) -> list[str]:
    """Which of a repository's files to download. Raises ModelError where no weights are safe to open."""
    if file is not None:
        if file not in names:
            offered = [name for name in names if name.endswith(".gguf")]
            raise ModelError(f"{address}: there is no such file.", f"GGUF files there: {', '.join(offered) or 'none'}.")
        return [file, *(name for name in names if name == "README.md" or fnmatch(name, "LICENSE*"))]
    wanted = [name for name in names if kept(name)]
    if not any(name.endswith(".safetensors") for name in wanted):
        offered = [name for name in names if name.endswith(".gguf")]
        if offered:
            raise ModelError(f"{address} holds GGUF files.", f"Name one, for example {address}#{offered[0]}")
        raise no_weights(address, names)
    return wanted


def kept(name: str) -> bool:
    """Is it one of the files that make a model?"""
    return name == POOLING or ("/" not in name and any(fnmatch(name, pattern) for pattern in KEPT))


def no_weights(where: str, names: Sequence[str]) -> ModelError:
    """What to say of a model without safetensors weights; pickles are refused."""
    pickles = [name for name in names if name.endswith(PICKLES)]
    why = f"{pickles[0]} is a pickle, which can run code when it is opened" if pickles else "it has none"
    return ModelError(f"{where} has no safetensors weights: {why}.", "Take a model with safetensors or GGUF files.")
