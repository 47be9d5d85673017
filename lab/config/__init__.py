"""Configurations, grid files and the spaces they span; reading them from YAML and text."""

from lab.config.constraint import FACTS, Constraint
from lab.config.file import load_config
from lab.config.grid import Budget, Grid, GridFile, Reported, Selection
from lab.config.grid_file import check_files, load_grid, parse_grid
from lab.config.needs import load_needs, reaches_needs
from lab.config.presets import PRESETS
from lab.config.ranges import Range
from lab.config.search import GRID_SAMPLER, Method, Objective, Search
from lab.config.space import Dimension, Point, Space
from lab.config.text import UNSET, parse_overrides, parse_value, parse_values
from lab.config.trial import (
    METRICS,
    TrialConfig,
    as_text,
    check_value,
    field_kinds,
    parse_config,
    takes_text,
)
from lab.config.yaml import Document, composed, parse_yaml, read_yaml

__all__ = [
    "FACTS",
    "GRID_SAMPLER",
    "METRICS",
    "PRESETS",
    "UNSET",
    "Budget",
    "Constraint",
    "Dimension",
    "Document",
    "Grid",
    "GridFile",
    "Method",
    "Objective",
    "Point",
    "Range",
    "Reported",
    "Search",
    "Selection",
    "Space",
    "TrialConfig",
    "as_text",
    "check_files",
    "check_value",
    "composed",
    "field_kinds",
    "load_config",
    "load_grid",
    "load_needs",
    "parse_config",
    "parse_grid",
    "parse_overrides",
    "parse_value",
    "parse_values",
    "parse_yaml",
    "reaches_needs",
    "read_yaml",
    "takes_text",
]
