"""Readers of the published DocRE files, and what writes them as dataset repositories for the Hub."""

from __future__ import annotations
