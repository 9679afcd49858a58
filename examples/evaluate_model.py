"""Score a model on labelled documents.

    python examples/evaluate_model.py dev.json --model my-model --train-annotated train.json

Prints F1, precision and recall; Ign F1, which leaves out facts that the training documents name; and how well the
evidence sentences of correct relations are chosen, where the labels say which they are.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from transformers import pipeline

from modeling_docre.data_files import iter_documents
from modeling_docre.metrics.docred import scoring

FIGURES = ("f1", "precision", "recall", "ign_f1", "evidence_f1", "evidence_sentence_f1", "f1_intra", "f1_inter")

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("gold", metavar="GOLD", help="labelled documents: .json, .jsonl or .parquet")
parser.add_argument("--model", help="folder or Hub id; the embedded model without it")
parser.add_argument("--train-annotated", metavar="FILE", help="the documents it was trained on, for Ign F1")
parser.add_argument("--module", action="store_true", help="compute the figures with the `evaluate` module")
options = parser.parse_args()

documents = list(iter_documents(options.gold))
if any(document.relations is None for document in documents):
    sys.exit(f"{options.gold} holds documents without labels, which cannot be scored.")
# Predictions and gold are matched by title, and two documents may share theirs.
references = [{**document.to_docred(), "title": str(number)} for number, document in enumerate(documents)]
answers = pipeline("docre", model=options.model)(documents)
predictions = [
    [
        {
            "title": str(number),
            "h_idx": relation["head"],
            "t_idx": relation["tail"],
            "r": relation["relation"],
            "evidence": relation["evidence"],
        }
        for relation in answer["relations"]
    ]
    for number, answer in enumerate(answers)
]
train = None
if options.train_annotated is not None:
    train = [document.to_docred() for document in iter_documents(options.train_annotated)]

if options.module:
    import evaluate

    # In a checkout, the folder metrics/docred.
    metric = evaluate.load(str(Path(scoring.__file__).parent))
    figures = metric.compute(predictions=predictions, references=references, train_annotated=train)
else:
    figures = scoring.score([row for rows in predictions for row in rows], references, train_annotated=train)
for name in FIGURES:
    if name in figures:
        print(f"{name:22}{figures[name]:.4f}")
