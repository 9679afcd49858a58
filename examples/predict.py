"""Show the relations of documents, each with the sentences that are its evidence.

    python examples/predict.py examples/documents/harbour.txt --top-k 5
    python examples/predict.py documents.jsonl --model my-model --json > answers.jsonl

A document is a .txt file with [inline](:TYPE) markup, or an entry of a .json, .jsonl or .parquet file.
"""

from __future__ import annotations

import argparse
import json

from transformers import pipeline

from modeling_docre.data_files import iter_documents

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("documents", metavar="FILE", help="the documents, with their entities")
parser.add_argument("--model", help="folder or Hub id; the embedded model without it")
parser.add_argument("--threshold", type=float, help="probability above which a relation is shown")
parser.add_argument("--top-k", type=int, help="show at most this many relations of a document")
parser.add_argument("--json", action="store_true", help="print the answers as JSON Lines")
options = parser.parse_args()

filters = {"threshold": options.threshold, "top_k": options.top_k}
extract = pipeline("docre", model=options.model)
documents = list(iter_documents(options.documents))
for document, answer in zip(documents, extract(documents, **filters), strict=True):
    if options.json:
        print(json.dumps({"title": document.title, "text": document.text, **answer}, ensure_ascii=False))
        continue
    print(document.title)
    for found in answer["relations"]:
        print(f"  {found['score']:.2f}  {found['head_name']} | {found['label']} | {found['tail_name']}")
        for number in found["evidence"]:
            start, end = answer["sentences"][number]
            print(f"        [{number}] {document.text[start:end]}")
