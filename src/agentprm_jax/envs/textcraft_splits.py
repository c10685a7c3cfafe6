"""Which data indices of TextCraft are for training and which for testing."""

from __future__ import annotations

TEST = "0-30 140-180 420-444 533-535"
TRAIN = (
    "31-139 181-183 185-194 196-215 217-222 224-228 230-238 240-242 244-253 255-264 266-286 288-301 303-322 324-361 "
    "363-375 377-380 383-384 386-403 405-419 445-446 448-452 455 459 462-464 466 469-472 475 477 480-482 484 489 "
    "491-492 495-496 501-502 504 506 510-511 513-514 517-518 520 523 528 531-532 537"
)
"""The gaps are tasks for which AgentGym's authors kept no trajectory; they mean nothing else."""

DEVELOPMENT = 74
"""Training tasks that are kept for tuning. Indices rise with depth: these goals are deeper than those before them."""

_SPLITS = {"train": (TRAIN, 0), "test": (TEST, 0), "development": (TRAIN, -DEVELOPMENT)}


def split_indices(split: str) -> list[int]:
    """Returns the 374 `train` or the 100 `test` data indices of AgentTraj and AgentEval, ascending.

    `development` is the last 74 of `train`: who tunes on it trains on the first 300.

    Raises:
        ValueError: There is no such split.
    """
    if split not in _SPLITS:
        raise ValueError(f"TextCraft has no split {split!r}; its splits are {', '.join(_SPLITS)}.")
    runs, first = _SPLITS[split]
    bounds = (run.split("-") for run in runs.split())
    return [index for run in bounds for index in range(int(run[0]), int(run[-1]) + 1)][first:]
