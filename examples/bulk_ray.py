"""Extract relations on all machines of a Ray cluster: python examples/bulk_ray.py IN.parquet OUT [MODEL].

IN holds a document in each row, as `docre convert` writes them; OUT becomes a folder of Parquet files with the title
of each document and, as JSON, the answer that `docre extract` would write. pip install 'ray[data]' on every machine.
"""

from __future__ import annotations

import json
import sys

import pyarrow
import ray

from modeling_docre.extraction import extract_rows, load_pipeline


class Extract:
    """One worker: it loads the model once, and answers batches of documents."""

    def __init__(self, *model: str) -> None:
        self.pipe = load_pipeline(*model)

    def __call__(self, documents: pyarrow.Table) -> pyarrow.Table:
        """Turn rows of documents into rows of answers."""
        rows = list(extract_rows(self.pipe, documents.to_pylist()))
        return pyarrow.table(
            {
                "title": pyarrow.array([row["title"] for row in rows], pyarrow.string()),
                "answer": pyarrow.array([json.dumps(row, ensure_ascii=False) for row in rows], pyarrow.string()),
            }
        )


if __name__ == "__main__":
    source, output, *model = sys.argv[1:]
    ray.init()
    workers = {key: int(ray.cluster_resources().get(key, 0)) for key in ("GPU", "CPU")}
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    ray.data.read_parquet(source).map_batches(
        Extract,
        fn_constructor_args=model,
        batch_size=64,  # what the pipeline sorts by length at once
        batch_format="pyarrow",
        num_gpus=1 if workers["GPU"] else 0,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers["GPU"] or workers["CPU"]),
    ).write_parquet(output)
