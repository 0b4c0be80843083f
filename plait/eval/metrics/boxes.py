"""Detection with boxes written as text: average precision by pycocotools, F1. A box's score is its tokens' likelihood."""

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


def scored_boxes(outcome: Outcome, bench: Bench) -> list[list[dict[str, Any]]]:
    """The boxes of every answer, with `score`: exp of the mean log-probability of the tokens that write the box.

    Where the question names a label, every box gets that label, whatever the answer writes before it.
    """
    answers = []
    likelihoods = token_log_probabilities(bench.engine, [s.messages[:-1] for s in outcome.samples], outcome.answers)
    asked_for = [sample.meta.get("label", "") for sample in outcome.samples]
    for text, size, label, tokens in zip(
        texts(outcome.answers), facts(outcome, "size"), asked_for, likelihoods, strict=True
    ):
        boxes = boxes_in_text(text, size)
        for box in boxes:
            box["label"] = label or box["label"]
            start, end = box["span"]
            inside = [log for log, (first, last) in tokens if first < end and last > start]
            box["score"] = float(np.exp(np.mean(inside))) if inside else 0.0
        answers.append(boxes)
    return answers


def average_precision(truth: Sequence[Sequence[Any]], predicted: Sequence[Sequence[Any]], metric: str) -> float:
    """AP (IoU 0.5 to 0.95) or AP50 over pictures. Boxes are {label, box: [x1, y1, x2, y2]}; predicted ones have a score."""
    if not any(truth) or not any(predicted):
        return 0.0
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        run = _evaluation(truth, predicted)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return max(0.0, float(run.stats[WHERE[metric]]))


class Matching:
    """Predicted boxes matched with true ones once, picture by picture, so that resamples need not match them again.

    `counts`: [3, pictures] boxes matched at an IoU of 0.5, predicted, and true.
    """

    def __init__(self, truth: Sequence[Sequence[Any]], predicted: Sequence[Sequence[Any]]) -> None:
        self.run: Any = None
        self.counts = np.array([[0] * len(truth), list(map(len, predicted)), list(map(len, truth))])
        if not any(truth) or not any(predicted):
            return
        with contextlib.redirect_stdout(io.StringIO()):
            self.run = _evaluation(truth, predicted)
            settings = self.run.params  # AP and AP50 look at one range of areas and one number of boxes
            settings.areaRng, settings.areaRngLbl = settings.areaRng[:1], settings.areaRngLbl[:1]
            settings.maxDets = settings.maxDets[-1:]
            self.run.evaluate()
        matches = np.empty(len(self.run.evalImgs), object)
        matches[:] = self.run.evalImgs
        self.matches: np.ndarray = matches.reshape(-1, len(truth))  # by label, by picture
        self.counts[0] = [
            sum(int((match["dtMatches"][0] > 0).sum()) for match in matches_of_picture if match)
            for matches_of_picture in self.matches.T
        ]

    def average_precision(self, rows: np.ndarray, metric: str) -> float:
        """AP or AP50 of the pictures with these indices, which may repeat."""
        if self.run is None:
            return 0.0
        self.run.params.imgIds = list(range(len(rows)))
        self.run._paramsEval = self.run.params
        self.run.evalImgs = list(self.matches[:, rows].ravel())
        with contextlib.redirect_stdout(io.StringIO()):
            self.run.accumulate()
        precision = self.run.eval["precision"][slice(1) if metric == "AP50" else slice(None)]  # from IoU 0.5 on
        defined = precision[precision > -1]  # of labels that these pictures have
        return float(defined.mean()) if defined.size else 0.0

    def f1(self, rows: np.ndarray) -> float:
        """F1 at an IoU of 0.5 over all boxes of the pictures with these indices, which may repeat."""
        matched, predicted, true = self.counts[:, rows].sum(axis=1)
        return float(2 * matched / max(1, predicted + true))


def _evaluation(truth: Sequence[Sequence[Any]], predicted: Sequence[Sequence[Any]]) -> Any:
    """A COCOeval of these boxes that has not run yet."""
    coco, evaluation = needed("pycocotools.coco"), needed("pycocotools.cocoeval")
    labels = sorted({box["label"] for boxes in (*truth, *predicted) for box in boxes})

    def annotations(boxes: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = []
        for image, boxes_of_image in enumerate(boxes):
            for box in boxes_of_image:
                x1, y1, x2, y2 = box["box"]
                entries.append(
                    {
                        "id": len(entries) + 1, "image_id": image, "category_id": labels.index(box["label"]), "iscrowd": 0,
                        "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "score": box.get("score", 1.0),
                    }
                )  # fmt: skip
        return entries

    real = coco.COCO()
    real.dataset = {
        "info": {}, "images": [{"id": i} for i in range(len(truth))], "annotations": annotations(truth),
        "categories": [{"id": i, "name": label} for i, label in enumerate(labels)],
    }  # fmt: skip
    real.createIndex()
    return evaluation.COCOeval(real, real.loadRes(annotations(predicted)), "bbox")


def boxes(outcome: Outcome, bench: Bench) -> list[dict[str, Any]]:
    """AP and AP50, which tolerate many guesses, and F1 at an IoU of 0.5, where every false box counts.

    Baseline, without looking at the picture: the best of another row's boxes (of the same label if there is one) and grids
    of 1, 4 or 9 boxes of a common size.
    """
    predicted, truth = scored_boxes(outcome, bench), facts(outcome, "boxes")
    sizes = facts(outcome, "size")
    labels = [str(sample.meta.get("label", "")) for sample in outcome.samples]
    blind = [
        [_another(truth, sizes, labels, row) for row in range(len(truth))],
        *(_grids(truth, sizes, labels, side) for side in GRIDS),
    ]
    matching = Matching(truth, predicted)
    entries = []
    for metric in WHERE:
        statistic = partial(matching.average_precision, metric=metric)
        baseline = max(average_precision(truth, guess, metric) for guess in blind)
        entries.append(entry(outcome, metric, np.zeros(len(truth)), statistic=statistic, baseline=baseline))
    everything = np.arange(len(truth))
    baseline = max(Matching(truth, guess).f1(everything) for guess in blind)
    return [*entries, entry(outcome, F1, np.zeros(len(truth)), statistic=matching.f1, baseline=baseline)]


def _another(
    truth: Sequence[Sequence[Any]], sizes: Sequence[Sequence[float]], labels: Sequence[str], row: int
) -> list[dict[str, Any]]:
    """The boxes of the next row with the same label, or of the next row, scaled to this row's picture.

    They get this row's label where it has one.
    """
    candidates = [(row + step) % len(truth) for step in range(1, len(truth))]
    other = next((other for other in candidates if labels[other] == labels[row]), candidates[0] if candidates else row)
    if other == row:
        return []
    scale = [sizes[row][axis % 2] / sizes[other][axis % 2] for axis in range(4)]
    return [
        {"label": labels[row] or box["label"], "box": [a * s for a, s in zip(box["box"], scale, strict=True)]}
        for box in truth[other]
    ]


def _grids(
    truth: Sequence[Sequence[Any]], sizes: Sequence[Sequence[float]], labels: Sequence[str], side: int
) -> list[list[dict[str, Any]]]:
    """side x side boxes for every row that names a label, of the median size of all boxes relative to their pictures."""
    sides = [
        [(box["box"][2] - box["box"][0]) / size[0], (box["box"][3] - box["box"][1]) / size[1]]
        for boxes, size in zip(truth, sizes, strict=True)
        for box in boxes
    ]
    wide, high = np.median(sides, axis=0) if sides else (0.0, 0.0)
    centres = [(step + 0.5) / side for step in range(side)]
    grid = np.array([[x - wide / 2, y - high / 2, x + wide / 2, y + high / 2] for y in centres for x in centres])
    return [
        [{"label": label, "box": (cell * [*size, *size]).tolist()} for cell in grid] if label else []
        for size, label in zip(sizes, labels, strict=True)
    ]


SCORES = {"boxes": boxes}
