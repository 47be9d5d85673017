"""Sentences that several commands end with."""

from __future__ import annotations

from pathlib import Path

__all__ = ["browse"]


def browse(tracking_uri: str) -> str:
    """Return how to look at what was tracked."""
    if tracking_uri.startswith("http"):
        return f"Browse it: {tracking_uri}"
    if Path("Makefile").exists() and tracking_uri.endswith(f"{Path.cwd()}/.lab/mlflow.db"):
        return "Browse it: make ui"
    return f"Browse it: mlflow server --workers 1 --backend-store-uri {tracking_uri}"
