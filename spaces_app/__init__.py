"""A Gradio Space that shows the relations of a document."""

from __future__ import annotations
