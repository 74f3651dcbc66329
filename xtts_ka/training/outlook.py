"""What a dry run says of the training that is due."""

from __future__ import annotations

from xtts_ka.core.config import PretrainConfig
from xtts_ka.training.checkpoint_manager import Checkpoint
from xtts_ka.training.prepare_features import not_encoded

NAMED = 5  # recordings


def outlook(config: PretrainConfig, last: Checkpoint | None, begins_anew: bool) -> list[str]:
    """Sentences: where training would begin, and which recordings would be encoded. last: the newest checkpoint."""
    lines = []
    if last is None:
        lines.append("training would begin at step 0")
    elif begins_anew:
        lines.append(f"training would begin at step 0; the checkpoints up to step {last.step} would be set aside")
    else:
        lines.append(f"training would carry on from step {last.step}")
    if new := not_encoded(config):
        named = ", ".join(new[:NAMED]) + (f" and {len(new) - NAMED} more" if len(new) > NAMED else "")
        lines.append(f"recordings that are new, or changed since they were encoded: {len(new)} ({named})")
    return lines
