"""How good a world is and how well it obeys: measured on held-out video, beside baselines."""

from genie.evaluation.comparison import compare
from genie.evaluation.report import evaluate, format_summary

__all__ = ["compare", "evaluate", "format_summary"]
