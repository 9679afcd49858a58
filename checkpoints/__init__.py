"""The models that come with the package, as folders that `from_pretrained` reads."""

from __future__ import annotations

from pathlib import Path

DEFAULT_MODEL = Path(__file__).parent / "docre-minilm-redocred"

__all__ = ["DEFAULT_MODEL"]
