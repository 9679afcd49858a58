"""Space of the metric: upload a submission and the gold file, read the figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import evaluate
import gradio as gr

# A page of its own, because that of `evaluate.utils.launch_gradio_widget` needs a Gradio older than version 4.
metric = evaluate.load(str(Path(__file__).with_name("docred.py")))


def score_files(
    submission: str | None, gold: str | None, train_annotated: str | None = None
) -> dict[str, float] | None:
    """Scores uploaded files.

    Args:
        submission (`str`): Path of the rows, a `result.json`.
        gold (`str`): Path of the labelled documents.
        train_annotated (`str`, *optional*): Path of the training documents, for Ign F1 and frequencies.

    Returns:
        `dict[str, float]`: the figures.

    Raises:
        gradio.Error: If a file is missing, not JSON or cannot be scored.
    """
    try:
        documents = read(gold)
        # Rows carry their own titles, so that all of them can stand in the entry of the first document.
        entries = [read(submission), *([] for _ in documents[1:])]
        train = read(train_annotated) if train_annotated else None
        return metric.compute(predictions=entries, references=documents, train_annotated=train)
    except ValueError as error:
        raise gr.Error(str(error)) from error


def read(path: str | None) -> list[dict[str, Any]]:
    """Reads an uploaded list.

    Args:
        path (`str`, *optional*): Path of a JSON file.

    Returns:
        `list[dict]`: its rows or documents.

    Raises:
        ValueError: If there is no file, or it does not hold a JSON list.
    """
    if path is None:
        raise ValueError("Upload a submission and the gold documents that it belongs to.")
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    if not isinstance(content, list):
        raise ValueError(f"{Path(path).name} must hold a JSON list, it holds a {type(content).__name__}.")
    return content


demo = gr.Interface(
    score_files,
    [
        gr.File(label=name, type="filepath")
        for name in ("Submission", "Gold documents", "Training documents (optional)")
    ],
    gr.JSON(label="Figures"),
    title="DocRED metric",
    description=metric.info.description,
    flagging_mode="never",
    analytics_enabled=False,
)

if __name__ == "__main__":
    demo.launch()
