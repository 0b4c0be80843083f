"""Detection, where boxes are written as text: mean average precision by pycocotools, a box's score by its tokens' likelihood."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from plait.eval.external import needed
from plait.eval.metrics.bench import Bench, entry, facts, texts
from plait.eval.suites import Outcome
from plait.infer.likelihood import token_log_probabilities
from plait.modalities.image.boxes import boxes_in_text

GRIDS = (1, 2, 3)  # boxes a side, of guesses that are the same for every picture
WHERE = {"AP": 0, "AP50": 1}  # places in COCOeval's statistics
F1 = "F1 of boxes"


def scored_boxes(asked: Outcome, bench: Bench) -> list[list[dict[str, Any]]]:
    """The boxes of every answer with `score`: exp of the mean log-probability of the tokens that write it. Where the question asks
    for one label, all boxes are of that, whatever stands before them."""
    made = []
    told = token_log_probabilities(bench.engine, [s.messages[:-1] for s in asked.samples], asked.answers)
    asked_for = [sample.meta.get("label", "") for sample in asked.samples]
    for text, size, label, tokens in zip(texts(asked.answers), facts(asked, "size"), asked_for, told, strict=True):
        boxes = boxes_in_text(text, size)
        for box in boxes:
            box["label"] = label or box["label"]
            start, end = box["span"]
            inside = [log for log, (first, last) in tokens if first < end and last > start]
            box["score"] = float(np.exp(np.mean(inside))) if inside else 0.0
        made.append(boxes)
    return made


def average_precision(truth: Sequence[Sequence[Any]], found: Sequence[Sequence[Any]], metric: str) -> float:
    """AP (IoU 0.5 to 0.95) or AP50 over pictures; boxes are {label, box: [x1, y1, x2, y2]}, found ones with a score."""
    if not any(truth) or not any(found):
        return 0.0
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        run = _evaluation(truth, found)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return max(0.0, float(run.stats[WHERE[metric]]))


class Matching:
    """Found boxes matched with the true ones, picture by picture, once; scores of any choice of the pictures then need not
    match them again. `counts`: of each picture the boxes matched at an IoU of 0.5, found, and true."""

    def __init__(self, truth: Sequence[Sequence[Any]], found: Sequence[Sequence[Any]]) -> None:
        self.run: Any = None
        self.counts = np.array([[0] * len(truth), [len(one) for one in found], [len(one) for one in truth]])
        if not any(truth) or not any(found):
            return
        with contextlib.redirect_stdout(io.StringIO()):
            self.run = _evaluation(truth, found)
            kept = self.run.params  # of areas and numbers of boxes only what AP and AP50 look at
            kept.areaRng, kept.areaRngLbl, kept.maxDets = kept.areaRng[:1], kept.areaRngLbl[:1], kept.maxDets[-1:]
            self.run.evaluate()
        matches = np.empty(len(self.run.evalImgs), object)
        matches[:] = self.run.evalImgs
        self.matches: np.ndarray = matches.reshape(-1, len(truth))  # by label, by picture
        self.counts[0] = [sum(int((one["dtMatches"][0] > 0).sum()) for one in here if one) for here in self.matches.T]

    def average_precision(self, rows: np.ndarray, metric: str) -> float:
        """Of the pictures with these numbers, which may repeat."""
        if self.run is None:
            return 0.0
        self.run.params.imgIds = list(range(len(rows)))
        self.run._paramsEval = self.run.params
        self.run.evalImgs = list(self.matches[:, rows].ravel())
        with contextlib.redirect_stdout(io.StringIO()):
            self.run.accumulate()
        precision = self.run.eval["precision"][slice(1) if metric == "AP50" else slice(None)]  # from IoU 0.5 on
        there = precision[precision > -1]  # of labels that these pictures have
        return float(there.mean()) if there.size else 0.0

    def f1(self, rows: np.ndarray) -> float:
        """Of the pictures with these numbers, over all their boxes: each must be right and none may be missing."""
        matched, found, true = self.counts[:, rows].sum(axis=1)
        return float(2 * matched / max(1, found + true))


def _evaluation(truth: Sequence[Sequence[Any]], found: Sequence[Sequence[Any]]) -> Any:
    """COCOeval of these boxes, not yet run."""
    coco, evaluation = needed("pycocotools.coco"), needed("pycocotools.cocoeval")
    labels = sorted({box["label"] for boxes in (*truth, *found) for box in boxes})

    def told(boxes: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        for image, here in enumerate(boxes):
            for box in here:
                x1, y1, x2, y2 = box["box"]
                made.append(
                    {
                        "id": len(made) + 1, "image_id": image, "category_id": labels.index(box["label"]), "iscrowd": 0,
                        "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "score": box.get("score", 1.0),
                    }
                )  # fmt: skip
        return made

    real = coco.COCO()
    real.dataset = {
        "info": {}, "images": [{"id": i} for i in range(len(truth))], "annotations": told(truth),
        "categories": [{"id": i, "name": label} for i, label in enumerate(labels)],
    }  # fmt: skip
    real.createIndex()
    return evaluation.COCOeval(real, real.loadRes(told(found)), "bbox")


def boxes(asked: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """AP and AP50, which forgive many guesses, and F1 at an IoU of 0.5, to which every wrong box counts. The baseline sees
    nothing: it answers with the boxes of another row, of the same label if there is one, or with a grid of 1, 4 or 9 boxes
    of a common size, whichever is best."""
    found, truth = scored_boxes(asked, bench), facts(asked, "boxes")
    sizes = facts(asked, "size")
    labels = [str(sample.meta.get("label", "")) for sample in asked.samples]
    blind = [
        [_another(truth, sizes, labels, here) for here in range(len(truth))],
        *(_grids(truth, sizes, labels, side) for side in GRIDS),
    ]
    matching = Matching(truth, found)
    made = []
    for metric in WHERE:
        of = partial(matching.average_precision, metric=metric)
        baseline = max(average_precision(truth, guess, metric) for guess in blind)
        made.append(entry(asked, metric, np.zeros(len(truth)), statistic=of, baseline=baseline))
    everything = np.arange(len(truth))
    baseline = max(Matching(truth, guess).f1(everything) for guess in blind)
    return [*made, entry(asked, F1, np.zeros(len(truth)), statistic=matching.f1, baseline=baseline)]


def _another(
    truth: Sequence[Sequence[Any]], sizes: Sequence[Sequence[float]], labels: Sequence[str], here: int
) -> list[dict[str, Any]]:
    """Boxes of the next row that asks for the same label, or of the next one where there is none, called by this row's label (as
    they are, where none is asked for) and brought to its size."""
    others = [(here + step) % len(truth) for step in range(1, len(truth))]
    there = next((row for row in others if labels[row] == labels[here]), others[0] if others else here)
    if there == here:
        return []
    scale = [sizes[here][axis % 2] / sizes[there][axis % 2] for axis in range(4)]
    return [
        {"label": labels[here] or box["label"], "box": [a * s for a, s in zip(box["box"], scale, strict=True)]}
        for box in truth[there]
    ]


def _grids(
    truth: Sequence[Sequence[Any]], sizes: Sequence[Sequence[float]], labels: Sequence[str], side: int
) -> list[list[dict[str, Any]]]:
    """side x side boxes for every row that names its label, of the median size of all boxes relative to their pictures."""
    sides = [
        [(box["box"][2] - box["box"][0]) / size[0], (box["box"][3] - box["box"][1]) / size[1]]
        for boxes, size in zip(truth, sizes, strict=True)
        for box in boxes
    ]
    wide, high = np.median(sides, axis=0) if sides else (0.0, 0.0)
    centres = [(place + 0.5) / side for place in range(side)]
    grid = np.array([[x - wide / 2, y - high / 2, x + wide / 2, y + high / 2] for y in centres for x in centres])
    return [
        [{"label": label, "box": (one * [*size, *size]).tolist()} for one in grid] if label else []
        for size, label in zip(sizes, labels, strict=True)
    ]


SCORES = {"boxes": boxes}
