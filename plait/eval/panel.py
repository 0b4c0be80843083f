"""The judges of an evaluation with their ceilings, the baselines, and plain features of media."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from plait import registry
from plait.contract import Modality, Part, Sample
from plait.eval.class_means import Features, medium, nearest_class_mean
from plait.eval.judges import Judge, load_or_fit
from plait.eval.suites import Measured, Suite
from plait.modalities import Measures
from plait.runtime.parallel import parallel_map
from plait.tasks.user_data import EXACT, shown_in_words

JUDGE_FORMAT = 2  # of the judges' architecture and training: judges of another one are fitted anew
ROUND_TRIPS = 500  # held-out recordings that the judge also sees as the codec gives them back
MANY_RECORDINGS = 2000
NEIGHBOURS = 3  # that a baseline's classifier asks


def share(hits: Sequence[bool]) -> float:
    return float(np.mean(hits)) if len(hits) else 0.0


class Panel:
    """Judges and baselines for the answers to a suite. `note` gets lines for the report; `features` are those of the frozen
    encoders that the model reads with, if it has any."""

    def __init__(
        self,
        suite: Suite,
        known: Mapping[str, Modality],
        seed: int,
        note: Callable[[str], object],
        features: Features | None = None,
    ) -> None:
        self.suite, self.known, self.seed, self.note, self.reader_features = suite, known, seed, note, features
        self.judges: dict[str, Judge] = {}
        self.ceilings: dict[str, dict[str, float]] = {}
        self.blank: dict[str, Callable[[Part], Part]] = {
            kind: partial(measures.blank, modality)
            for kind, modality in known.items()
            if modality.head == "flow" and (measures := self.measures(kind)) is not None
        }
        self._training_features: dict[str, np.ndarray] = {}
        self._classifiers: dict[tuple[str, str], Callable[[np.ndarray], Sequence[Any]] | None] = {}

    def in_words(self, kind: str) -> bool:
        """Whether answers of a modality are compared as strings."""
        return self.known[kind].head == "categorical"

    @staticmethod
    def measures(kind: str) -> Measures | None:
        """The measures of a modality; None where its folder has none, or for an empty name."""
        return registry.measures(kind) if kind else None

    def plain_features(self, kind: str, parts: Sequence[Part]) -> np.ndarray:
        """[n, features] of parts whose modality has measures."""
        measures = self.measures(kind)
        assert measures is not None, kind
        return np.stack(parallel_map(partial(measures.features, self.known[kind]), parts))

    def prepare(self) -> None:
        """Fits or loads every judge, and measures its ceilings on held-out media, as recorded and after a round trip."""
        for kind, make in self.suite.judges.items():
            tests, truth = self.suite.rows.labelled("test", kind)
            if not tests:
                self.note(f"no {kind} judge: no labelled {kind} is held out to measure it on")
                continue
            judge = make()
            parts, labels = self.suite.rows.labelled("judge", kind)
            version = f"{JUDGE_FORMAT}-{judge.view.epochs}-{self.suite.rows.digest()}"
            weights = self.suite.judges_at / f"{kind}-{version}.safetensors"
            has_round_trip = judge.view.round_trip is not None
            if has_round_trip and not weights.is_file():  # generated media have passed the codec, too
                parts, labels = parts + judge.round_trips(parts[::3]), labels + labels[::3]
            load_or_fit(judge, weights, parts, labels)
            self.judges[kind] = judge
            self.ceilings[kind] = self._accuracies(judge, tests, truth)
            self.note(f"{kind} judge on {len(tests)} held-out items: {self._percent(self.ceilings[kind])}")
            if has_round_trip:
                subset = np.random.default_rng(self.seed).permutation(len(tests))[:ROUND_TRIPS]
                tests, truth = judge.round_trips([tests[i] for i in subset]), [truth[i] for i in subset]
                accuracies = self._percent(self._accuracies(judge, tests, truth))
                self.note(f"{kind} judge on {len(subset)} of them after mel and phase reconstruction: {accuracies}")

    @staticmethod
    def _accuracies(judge: Judge, parts: Sequence[Part], truth: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        pairs = list(zip(judge.says(parts), truth, strict=True))
        return {name: share([labels[name] == true[name] for labels, true in pairs]) for name in judge.classes}

    @staticmethod
    def _percent(table: Mapping[str, float]) -> str:
        return ", ".join(f"{name} {value:.1%}" for name, value in table.items())

    def baseline(self, task: Measured, split_rows: Sequence[Sample], attribute: str) -> float:
        """Accuracy of a baseline for an attribute.

        The input echoed where the answer is of its modality; else the nearest class mean of the features that the model reads
        with, where whole answers are compared; else k-nearest neighbours on the training media where the answer is a label of
        the input; else the commonest answer of these rows.
        """
        split_rows = [sample for sample in split_rows if attribute in sample.meta["expect"]]
        truth = [sample.meta["expect"][attribute] for sample in split_rows]
        if task.answers_in in task.gives and task.answers_in in self.judges:
            echoed = [medium(sample, task.answers_in) for sample in split_rows]
            return share(self.hits(task, echoed, split_rows)[attribute])
        kind = next(iter(task.gives)) if len(task.gives) == 1 else ""
        if attribute == EXACT and self.reader_features is not None and registry.reader_of(self.known[kind]) is not None:
            examples = self.suite.rows.examples(task)
            guesses = nearest_class_mean(examples, split_rows, kind, self.reader_features)
            if guesses is not None:
                return share([guess == t for guess, t in zip(guesses, truth, strict=True)])
        classify = None
        if self.in_words(task.answers_in) and self.measures(kind) is not None:
            classify = self.classifier(kind, attribute)
        if classify is None:
            return Counter(map(str, truth)).most_common(1)[0][1] / len(truth)
        media = [medium(sample, kind) for sample in split_rows]
        labels = classify(self.plain_features(kind, media))
        return share([self.suite.in_words(attribute, label) == t for label, t in zip(labels, truth, strict=True)])

    def classifier(self, kind: str, attribute: str) -> Callable[[np.ndarray], Sequence[Any]] | None:
        """A classifier from plain features to an attribute's values, by the nearest training media; None where none has the
        attribute. It is another kind of judge than `judges`."""
        if (kind, attribute) not in self._classifiers:
            self._classifiers[kind, attribute] = self._fitted(kind, attribute)
        return self._classifiers[kind, attribute]

    def _fitted(self, kind: str, attribute: str) -> Callable[[np.ndarray], Sequence[Any]] | None:
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        parts, labels = self.suite.rows.labelled("train", kind)
        labelled = [index for index, label in enumerate(labels) if attribute in label]
        parts, labels = [parts[index] for index in labelled], [labels[index] for index in labelled]
        if not labels:
            return None
        measures = self.measures(kind)
        assert measures is not None
        scaler = StandardScaler(with_std=not measures.features_are_alike())
        model = make_pipeline(scaler, KNeighborsClassifier(min(NEIGHBOURS, len(labels))))
        model.fit(self.plain_features(kind, parts), [label[attribute] for label in labels])
        return lambda x: model.predict(x).tolist()

    def hits(self, task: Measured, answers: Sequence[Part | None], samples: Sequence[Sample]) -> dict[str, list[bool]]:
        """Whether each answer shows what its row expects, by attribute; a missing answer shows nothing."""
        expected = [sample.meta["expect"] for sample in samples]
        attributes = list(dict.fromkeys(name for e in expected for name in e))
        if self.in_words(task.answers_in):
            shown = [
                shown_in_words(part.value if part else "", list(e)) for part, e in zip(answers, expected, strict=True)
            ]
            pairs = list(zip(shown, expected, strict=True))
            return {name: [s.get(name) == str(e[name]) for s, e in pairs if name in e] for name in attributes}
        if task.answers_in not in self.judges or not attributes:
            return {}
        judge = self.judges[task.answers_in]
        answered = [index for index, part in enumerate(answers) if part is not None]
        labels = dict(zip(answered, judge.says([part for part in answers if part is not None]), strict=True))
        return {
            name: [index in labels and labels[index][name] == e[name] for index, e in enumerate(expected) if name in e]
            for name in attributes
            if name in judge.classes
        }

    def as_made(self, kind: str, parts: Sequence[Part]) -> Sequence[Part]:
        """Real media after the round trip that generated ones pass, so that distances compare like with like."""
        judged = registry.judged(kind)
        round_trip = judged.judge_view(self.known[kind], parts).round_trip if judged is not None else None
        return parallel_map(round_trip, parts) if round_trip else parts

    def has_features(self, kind: str) -> bool:
        """Whether media of a modality have features: a judge's own, or plain ones."""
        return kind in self.judges or self.measures(kind) is not None

    def can_compare(self, kind: str) -> bool:
        """Whether media of a modality can be compared with training media: they have features, and there are some."""
        return self.has_features(kind) and bool(self.suite.rows.media("train", kind))

    def features(self, kind: str, parts: Sequence[Part]) -> np.ndarray:
        """The judge's features of media, or plain ones where there is no judge."""
        if kind in self.judges:
            return self.judges[kind].judge(parts)[0]
        return self.plain_features(kind, parts)

    def training_features(self, kind: str) -> np.ndarray:
        """Features of the training media; of every tenth where round trips of all would take long."""
        if kind not in self._training_features:
            parts = self.suite.rows.media("train", kind)
            judged = registry.judged(kind)
            slow = judged is not None and judged.judge_view(self.known[kind], parts[:1]).round_trip is not None
            media = parts[::10] if slow and len(parts) > MANY_RECORDINGS else parts
            self._training_features[kind] = self.features(kind, self.as_made(kind, media))
        return self._training_features[kind]
