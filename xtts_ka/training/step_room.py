"""How large the micro-batches of a run are, and what the start of training says of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from xtts_ka.core.config import PretrainConfig
from xtts_ka.core.console import say
from xtts_ka.model.compact_gpt import CompactGPT
from xtts_ka.training.batch_plan import Batch, Room, padding
from xtts_ka.training.memory_estimate import ROOM_ON_CPU, estimate_memory, room_for

if TYPE_CHECKING:
    from accelerate import Accelerator


def choose_room(
    model: CompactGPT, data: Any, accelerator: Accelerator, config: PretrainConfig, facts: dict[str, Any]
) -> Room:
    """What the smallest GPU of the run takes at once; on a CPU what is fast; with `batch_size`, that many clips.

    data: the DataManager. facts: what `room_for` asks beside the shapes.
    """
    index = data.train.index
    if clips := config.clips_at_once:
        return Room(int(clips * np.median(index.positions)))
    device = accelerator.device
    if device.type == "cpu":
        return ROOM_ON_CPU
    room = room_for(model, data.typical_clip(), torch.cuda.get_device_properties(device).total_memory, **facts)
    smallest = int(accelerator.gather(torch.tensor([room.positions], device=device)).min())
    # More room than a process's share of a step is of no use, and halving it would not help when memory runs out.
    all_positions = int(index.positions.sum()) + room.per_row * len(index)
    share = all_positions / len(data.train_batches(0)) / accelerator.num_processes
    return room._replace(positions=min(smallest, math.ceil(1.5 * share)))


def describe(
    model: CompactGPT, data: Any, steps: Sequence[list[Batch]], room: Room, processes: int, facts: dict[str, Any]
) -> None:
    """Say how steps are divided into micro-batches, `steps` for example, and how much memory the largest needs."""
    positions, clip = data.train.index.positions, data.typical_clip()
    pieces = [piece.clips for step in steps for piece in step]
    rows, each = sum(map(len, pieces)) / len(pieces), len(pieces) / len(steps) / processes
    spread = f" on each of {processes} processes" if processes > 1 else ""
    share = 100 * padding(positions, pieces)
    say(f"at once     about {rows:.0f} clips{spread}, {each:.1f} times in a step; {share:.1f} % padding")
    largest = max(len(piece) * (int(positions[piece].max()) + room.per_row) for piece in pieces)
    typical = float(np.mean(positions)) + room.per_row
    say(f"memory      {estimate_memory(model, clip._replace(rows=largest / typical), **facts)}")
