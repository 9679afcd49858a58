"""Extract relations from a data set of any size: python examples/bulk.py DATASET SPLIT OUT.jsonl [MODEL].

DATASET is a Hub id or the folder of a dataset repository, and is read as it goes. Several processes share the work:
torchrun --nproc_per_node 4 examples/bulk.py ... writes OUT.jsonl.0, OUT.jsonl.1, and so on.
"""

from __future__ import annotations

import os
import sys

from datasets import load_dataset
from datasets.distributed import split_dataset_by_node

from modeling_docre.extraction import extract_rows, load_pipeline
from modeling_docre.output_files import open_output, write_lines

if not 4 <= len(sys.argv) <= 5:
    sys.exit(__doc__)
source, split, output, *model = sys.argv[1:]
documents = load_dataset(source, split=split, streaming=True)
if "RANK" in os.environ:
    documents = split_dataset_by_node(documents, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    output = f"{output}.{os.environ['RANK']}"
pipe = load_pipeline(*model)
with open_output(output) as stream:
    write_lines(extract_rows(pipe, documents), stream)
