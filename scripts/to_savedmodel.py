"""A folder of `plait export --to onnx` as TensorFlow SavedModels, one a graph, by onnx2tf.

TensorFlow and onnx2tf want other versions of numpy and onnx than plait, so this runs in an environment of its own, and needs
nothing of plait:

    python3.11 -m venv tensorflow
    tensorflow/bin/pip install onnx2tf==1.29.24 tensorflow-cpu==2.19.1 tf_keras==2.19.0 onnx==1.19.1 onnxsim==0.4.36
    tensorflow/bin/python scripts/to_savedmodel.py graphs savedmodels --new 1 --kept 64

Shapes are fixed: `--new` tokens a step, `--kept` places for earlier ones, of which those of expert -1 are seen by none. Each
SavedModel is compared with its graph on random numbers; a difference above 1e-4 fails. onnx2tf tells axes by their lengths: where
layers, heads, `--new` and `--kept` are equal, it may turn the wrong ones, and another number mends that.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

TOLERANCE = 1e-4


def example(session: Any, shapes: dict[str, list[int]], new: int, kept: int, experts: int) -> dict[str, Any]:
    """Arguments of a graph: positions and blocks that follow each other, tokens of all `experts` in turn, half of the kept places
    empty."""
    import numpy as np

    rng = np.random.default_rng(0)
    numbers = {
        "ids": np.arange(new), "position": kept + np.arange(new), "block": np.arange(new), "expert": np.arange(new) % experts,
        "kept_experts": np.where(np.arange(kept) % 2, -1, np.arange(kept) // 2 % experts),
    }  # fmt: skip
    return {
        each.name: numbers[each.name].astype(np.int64)
        if each.name in numbers
        else rng.random(shapes[each.name]).astype(np.uint8 if each.type == "tensor(uint8)" else np.float32)
        for each in session.get_inputs()
    }


def shapes_of(session: Any, new: int, kept: int) -> dict[str, list[int]]:
    """Shapes of a graph's inputs, by name."""
    lengths = {"n": new, "T": kept}
    return {each.name: [lengths.get(size, size) for size in each.shape] for each in session.get_inputs()}


def fix(graph: Path, target: Path, shapes: dict[str, list[int]]) -> None:
    """Write the graph with all sizes as constants. To be called before TensorFlow is imported: onnxsim and it do not bear each other."""
    import onnx
    import onnxsim

    fixed, _ = onnxsim.simplify(onnx.load(graph), overwrite_input_shapes=shapes)
    onnx.save(fixed, target)


def convert(session: Any, fixed: Path, target: Path, shapes: dict[str, list[int]], arguments: dict[str, Any]) -> float:
    """Write one SavedModel; returns the largest difference of its outputs from the graph's."""
    import numpy as np
    import onnx2tf
    import tensorflow as tf

    onnx2tf.convert(
        input_onnx_file_path=str(fixed),
        output_folder_path=str(target),
        output_signaturedefs=True,
        non_verbose=True,
        overwrite_input_shape=[f"{name}:{','.join(map(str, shape))}" for name, shape in shapes.items()],
        keep_shape_absolutely_input_names=[name for name, shape in shapes.items() if len(shape) > 2] or None,
    )
    for lite in target.glob("*.tflite"):
        lite.unlink()
    serve = tf.saved_model.load(str(target)).signatures["serving_default"]
    outputs = serve(**{name: tf.constant(value) for name, value in arguments.items()})
    got = [outputs[name].numpy() for name in sorted(outputs)]
    return max(float(np.abs(a - b).max()) for a, b in zip(got, session.run(None, arguments), strict=True))


def main() -> None:
    """Convert every graph, and say how far each is from it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graphs", type=Path, help="a folder of plait export --to onnx")
    parser.add_argument("target", type=Path, help="the new folder")
    parser.add_argument("--new", type=int, default=1, help="tokens a step")
    parser.add_argument("--kept", type=int, default=64, help="places for earlier tokens")
    parser.add_argument("--only", nargs="*", help="names of graphs, such as step; all if not given")
    arguments = parser.parse_args()
    if arguments.target.exists():
        sys.exit(f"{arguments.target} is there already; expected a new folder")
    found = sorted(
        path for path in arguments.graphs.glob("*.onnx") if arguments.only in (None, []) or path.stem in arguments.only
    )
    if not found:
        sys.exit(f"{arguments.graphs} has no graphs; expected a folder of plait export --to onnx")
    arguments.target.mkdir(parents=True)
    import onnxruntime

    sizes = arguments.new, arguments.kept
    experts = len(json.loads((arguments.graphs / "model.json").read_text(encoding="utf-8"))["experts"])
    sessions = {path: onnxruntime.InferenceSession(path) for path in found}
    shapes = {path: shapes_of(session, *sizes) for path, session in sessions.items()}
    for path in found:
        fix(path, arguments.target / path.name, shapes[path])
    differences = {}
    for path, session in sessions.items():
        fixed, given = arguments.target / path.name, example(session, shapes[path], *sizes, experts)
        differences[path.stem] = convert(session, fixed, arguments.target / path.stem, shapes[path], given)
        fixed.unlink()
    for name, difference in differences.items():
        print(f"{name:24} {difference:.1e}")
    if far := [name for name, difference in differences.items() if not difference <= TOLERANCE]:
        sys.exit(f"{', '.join(far)}: further from the graph than {TOLERANCE}: try other numbers of --new and --kept")


if __name__ == "__main__":
    main()
