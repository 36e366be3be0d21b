"""Training, evaluation and what they leave on disk; nothing in here knows a stage, a network or a loss."""

from codes.engine.evaluate import Pair, evaluate
from codes.engine.fit import constant, cosine, fit
from codes.engine.journal import Journal

__all__ = ["Journal", "Pair", "constant", "cosine", "evaluate", "fit"]
