"""The DocRED metric as an `evaluate` module: a thin shell around `scoring.score`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import datasets
import evaluate

# `evaluate` copies the files that are named here, and not those that they import themselves. It takes a comment behind
# an import for an address.
from .measures import (
    Counts,  # noqa: F401
)
from .rows import ScoringError, UnlabelledError, read_document, read_mention, read_pairs, read_prediction, read_text
from .scoring import score

_DESCRIPTION = """\
Scores document-level relation extraction exactly as the official DocRED scorer does (precision, recall, F1, evidence,
Ign F1), and adds what papers on DocRED, Re-DocRED, CDR and GDA report: figures by distance of the entities and by
frequency of the relation, macro averages, inferred facts, pairs of entities, kinds of errors, each relation.
"""

_CITATION = """\
@inproceedings{yao-etal-2019-docred,
    title = "{D}oc{RED}: A Large-Scale Document-Level Relation Extraction Dataset",
    author = "Yao, Yuan and Ye, Deming and Li, Peng and Han, Xu and Lin, Yankai and Liu, Zhenghao and Liu, Zhiyuan and
      Huang, Lixin and Zhou, Jie and Sun, Maosong",
    booktitle = "Proceedings of the 57th Annual Meeting of the Association for Computational Linguistics",
    year = "2019",
}
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (`list[list[dict]]`):
        For each reference document its predicted relations, rows of a DocRED submission: `title`, `h_idx`, `t_idx`,
        `r` and optionally `evidence`. A row belongs to the document that its `title` names, wherever it stands.
    references (`list[dict]`):
        Gold documents: `title`, `vertexSet`, `labels` and optionally `pairs`. Other keys (`sents`) are ignored.
    train_annotated (`list[dict]`, *optional*):
        Human-annotated training documents, for Ign F1 and whatever depends on how frequent a relation is.
    train_distant (`list[dict]`, *optional*):
        Distantly supervised training documents, for `ign_f1_distant`.
    few_facts (`int`, *optional*):
        The number of training facts below which a relation counts for `f1_few_facts`, and not for `f1_many_facts`.
Returns:
    `dict[str, float]`: fractions between 0 and 1, higher is better: `precision`, `recall`, `f1`, `evidence_f1`,
    `evidence_sentence_f1`, `f1_intra`, `f1_inter`, `macro_f1`, `relation/P17/f1` and so on; the metric card lists
    them all.
Examples:
    >>> import evaluate
    >>> docred = evaluate.load("metrics/docred")
    >>> entities = [[{"name": "Mirel", "sent_id": 0}], [{"name": "Ostania", "sent_id": 0}]]
    >>> gold = {"title": "Mirel", "vertexSet": entities, "labels": [{"h": 0, "t": 1, "r": "P17"}]}
    >>> row = {"title": "Mirel", "h_idx": 0, "t_idx": 1, "r": "P17"}
    >>> docred.compute(predictions=[[row]], references=[gold])["f1"]
    1.0
"""


class Docred(evaluate.Metric):
    """Metric whose entries are one reference document and the list of prediction rows that go with it.

    Optional keys may be missing (`evidence` of a row or a label, `sent_id` and `name` of a mention, `pairs` of a
    document): they are filled before the rows are stored as Arrow tables. The figures and their definitions are those
    of `scoring.score`.
    """

    def _info(self) -> evaluate.MetricInfo:
        label = {name: datasets.Value("int64") for name in ("h", "t")}
        row = {name: datasets.Value("int64") for name in ("h_idx", "t_idx")}
        text, sentences = datasets.Value("string"), [datasets.Value("int64")]
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {
                    "predictions": [{"title": text, **row, "r": text, "evidence": sentences}],
                    "references": {
                        "title": text,
                        "vertexSet": [[{"name": text, "sent_id": datasets.Value("int64")}]],
                        "labels": [{**label, "r": text, "evidence": sentences}],
                        "pairs": [[datasets.Value("int64")]],
                    },
                }
            ),
            reference_urls=["https://github.com/thunlp/DocRED", "https://github.com/tonytan48/Re-DocRED"],
        )

    def add(self, *, prediction: Any = None, reference: Any = None, **kwargs: Any) -> None:
        """Adds one document.

        Args:
            prediction (`list[dict]`): Prediction rows of the document.
            reference (`dict`): The gold document.
            kwargs: `predictions` and `references`, names that `evaluate` takes too.

        Raises:
            ScoringError: If a row or the document is malformed or has no labels; nothing is added then.
        """
        rows = _rows(kwargs.pop("predictions", prediction), "prediction")
        document = _document(kwargs.pop("references", reference), "reference")
        super().add(prediction=rows, reference=document, **kwargs)

    def add_batch(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> None:
        """Adds several documents; `compute(predictions=..., references=...)` comes through here too.

        Args:
            predictions (`list[list[dict]]`): Prediction rows of each document.
            references (`list[dict]`): The gold documents, as many.
            kwargs: None; others than these two are refused by `evaluate`.

        Raises:
            ScoringError: If a row or a document is malformed, a document has no labels, or the two lists differ in
                length; nothing is added then.
        """
        if predictions is None or references is None:
            raise ScoringError("predictions and references must be given together")
        rows = [_rows(entry, f"predictions[{number}]") for number, entry in enumerate(predictions)]
        documents = [_document(document, f"references[{number}]") for number, document in enumerate(references)]
        if len(rows) != len(documents):
            raise ScoringError(
                f"predictions has {len(rows)} entries, references {len(documents)}: an entry of predictions is the "
                "list of rows of one document; to score the rows of a whole submission file at once, pass "
                "predictions=[rows] + [[]] * (len(references) - 1)"
            )
        super().add_batch(predictions=rows, references=documents, **kwargs)

    def _compute(
        self,
        predictions: list[list[dict[str, Any]]],
        references: list[dict[str, Any]],
        train_annotated: list[dict[str, Any]] | None = None,
        train_distant: list[dict[str, Any]] | None = None,
        few_facts: int | None = None,
    ) -> dict[str, float]:
        rows = [row for entry in predictions for row in entry]
        return score(
            rows, references, train_annotated=train_annotated, train_distant=train_distant, few_facts=few_facts
        )


def _rows(entry: Any, where: str) -> list[dict[str, Any]]:
    if isinstance(entry, (str, bytes, Mapping)) or not hasattr(entry, "__iter__"):
        raise ScoringError(f"{where}: expected the list of rows of one document, got {entry!r:.80}")
    rows = []
    for number, row in enumerate(entry):
        (title, head, tail, relation), evidence = read_prediction(row, f"{where}[{number}]")
        rows.append({"title": title, "h_idx": head, "t_idx": tail, "r": relation, "evidence": list(evidence)})
    return rows


def _document(document: Any, where: str) -> dict[str, Any]:
    if not isinstance(document, Mapping) or not isinstance(document.get("title"), str):
        raise ScoringError(f"{where}: expected a document in DocRED's form with a 'title', got {document!r:.80}")
    where = f"{where} ({document['title']!r})"
    entities, labels = read_document(document, where)
    if labels is None:
        raise UnlabelledError(
            f"{where}: the document has no labels; DocRED's test split is scored on CodaLab "
            'only. A labelled document without relations has "labels": []'
        )
    pairs = read_pairs(document.get("pairs"), len(entities), where)
    return {
        "title": read_text(document["title"], where, "title"),
        "vertexSet": [
            [read_mention(mention, f"{where}: vertexSet[{number}]") for mention in entity]
            for number, entity in enumerate(entities)
        ],
        "labels": [
            {"h": label.head, "t": label.tail, "r": label.relation, "evidence": list(label.evidence)}
            for label in labels
        ],
        "pairs": None if pairs is None else [list(pair) for pair in pairs],
    }
