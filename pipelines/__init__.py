"""The `docre` pipeline, as code that a model repository on the Hub can carry."""

from __future__ import annotations
