"""Measures of a classifier."""

from __future__ import annotations

import torch


def macro_f1(truth: torch.Tensor, guess: torch.Tensor, classes: int) -> float:
    """Unweighted mean of the classes' F1 scores, 2·TP / (2·TP + FP + FN); 0 for a class never seen.

    `truth` and `guess` are integer tensors of one shape with values in `0 .. classes-1`.
    """
    pairs = torch.bincount(truth * classes + guess, minlength=classes * classes).reshape(classes, classes)
    hits = pairs.diagonal().double()
    seen = (pairs.sum(0) + pairs.sum(1)).double()
    return float((2 * hits / seen.clamp(min=1)).mean())


def binary_f1(truth: torch.Tensor, guess: torch.Tensor) -> float:
    """F1 score of class 1: 2·TP / (2·TP + FP + FN); 0 if there is neither truth nor guess of it."""
    hits = int(((truth == 1) & (guess == 1)).sum())
    seen = int((truth == 1).sum() + (guess == 1).sum())
    return 2 * hits / seen if seen else 0.0
