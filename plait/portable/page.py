"""A model in a static page: any server that gives out files will do, and none is asked afterwards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from importlib.resources import as_file, files
from itertools import islice
from pathlib import Path
from typing import Any

from plait import registry
from plait.contract import WORDS, Sample
from plait.data.rows import read_rows
from plait.errors import CheckpointError, ConfigError
from plait.model.multimodal import MultimodalTransformer
from plait.portable import exporter
from plait.runtime.packages import Package, places, unpacked

MODEL, PROMPTS, VENDOR = "model", "page.json", "vendor"
TRAIN = "train.jsonl"
SHARED = ("style.css", "icon.svg")  # with the pages of the server
SCANNED, MOST = 1_000_000, 24  # rows that are looked at, and questions that are offered
RUNTIME = Package(
    "npm",
    "onnxruntime-web",
    "1.30.0",
    "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71",
    contents="onnxruntime-web (MIT), 30 MB, of which the page takes 14",
)
TOKENIZERS = Package(
    "npm",
    "@huggingface/tokenizers",
    "0.2.0",
    "2800014c83b8186b2e4210c20672f1fb65a12cef85d7e95e0f2003e022611b4a",
    contents="@huggingface/tokenizers (Apache-2.0), 0.1 MB",
)
TAKEN = (
    (RUNTIME, "package/dist/ort.wasm.min.mjs", "ort.mjs"),
    (RUNTIME, "package/dist/ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.mjs"),
    (RUNTIME, "package/dist/ort-wasm-simd-threaded.wasm", "ort-wasm-simd-threaded.wasm"),
    (TOKENIZERS, "package/dist/tokenizers.min.mjs", "tokenizers.mjs"),
    (TOKENIZERS, "package/LICENSE", "tokenizers-LICENSE"),
)  # files of packages, and what the page calls them


def write(network: MultimodalTransformer, folder: Path, sampling: Mapping[str, Any] | None, data: Path | None) -> Path:
    """Write the new folder of a page; returns it. `data`: rows, of which one of each task is offered as a question, if they are there.

    Raises CheckpointError for a model that the page cannot run or something that is there, ConfigError for more steps than the page
    has times of, RowError for damaged rows, MissingError without the packages of ONNX or npm, DataError where the page's libraries
    cannot be fetched."""
    _check(network)
    _check_steps((sampling or {}).get("steps"))
    with exporter.new_folder(folder) as partial:
        offered = json.dumps({"prompts": list(prompts(network, data))}, ensure_ascii=False, indent=1)
        sources = {package: unpacked(package, places()) for package, _, _ in TAKEN}
        exporter.write(network, partial / MODEL, sampling)
        (partial / MODEL / PROMPTS).write_text(offered + "\n", encoding="utf-8")
        with as_file(files("plait") / "web") as pages:
            shutil.copytree(pages / "page", partial, dirs_exist_ok=True)
            for name in SHARED:
                shutil.copy(pages / name, partial)
        (partial / VENDOR).mkdir()
        for package, source, name in TAKEN:
            shutil.copy(sources[package] / source, partial / VENDOR / name)
    return folder


def _check_steps(steps: int | Mapping[str, int] | None) -> None:
    """Raise ConfigError for more steps a block than the page knows times of."""
    most = max(steps.values(), default=0) if isinstance(steps, Mapping) else steps or 0
    if most > exporter.MOST_STEPS:
        raise ConfigError(
            f"the recipe draws by {most} steps a block; expected at most {exporter.MOST_STEPS} for a page: train or finetune with "
            f"sampling.steps={exporter.MOST_STEPS}"
        )


def _check(network: MultimodalTransformer) -> None:
    """Raise CheckpointError for a model that needs more than its graphs."""
    vocabulary = network.vocabulary
    needs = {
        "a chat template": vocabulary.template is not None,
        "readers": bool(vocabulary.readers or vocabulary.finders),
        "a vocoder": bool(network.codecs),
        "headers that tell what is said": any(map(registry.tells, vocabulary.modalities.values())),
    }
    if found := [what for what, is_needed in needs.items() if is_needed]:
        raise CheckpointError(
            f"this model has {', '.join(found)}, which the page does without; expected a small model from scratch, such as "
            "that of plait demo: --to onnx takes the others"
        )


def prompts(network: MultimodalTransformer, data: Path | None) -> Iterator[dict[str, Any]]:
    """One question of each task of a folder of rows: its parts, of media only what they are, and the modality of the answer."""
    modalities = network.vocabulary.modalities
    if data is None or not (data / TRAIN).is_file():
        return
    first: dict[str, Sample] = {}
    for sample in islice(read_rows(data / TRAIN, modalities), SCANNED):
        if [message.role for message in sample.messages] == ["user", "assistant"] and len(
            sample.messages[1].parts
        ) == 1:
            first.setdefault(sample.task, sample)
    for sample in islice(first.values(), MOST):
        asked, answered = sample.messages
        parts = [{"type": part.type} | ({WORDS: part.value} if part.type == WORDS else {}) for part in asked.parts]
        yield {"task": sample.task, "parts": parts, "to": answered.parts[0].type}
