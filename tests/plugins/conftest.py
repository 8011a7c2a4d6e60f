from evaluation.conftest import evaluation, game

__all__ = ["evaluation", "game"]
