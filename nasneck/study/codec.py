"""JSON and tensor forms of what a study stores. Nothing here reads a pickle that could run code."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

from nasneck.trial import Outcome, State

if TYPE_CHECKING:
    from nasneck.strategy.base import Snapshot


def outcome_to_json(outcome: Outcome) -> str:
    """Inverse of :func:`outcome_from_json`; floats keep every bit."""
    return json.dumps(
        {
            "values": list(outcome.values),
            "state": outcome.state.value,
            "rung": outcome.rung,
            "text": outcome.text,
        }
    )


def outcome_from_json(text: str) -> Outcome:
    """Inverse of :func:`outcome_to_json`."""
    data = json.loads(text)
    return Outcome(tuple(data["values"]), State(data["state"]), data["rung"], data["text"])


def snapshot_to_row(snapshot: Snapshot) -> tuple[str, bytes | None]:
    """JSON text, and the tensors as ``torch.save`` writes them (None if there are none)."""
    if not snapshot.tensors:
        return json.dumps(snapshot.data), None
    import torch

    buffer = io.BytesIO()
    torch.save(dict(snapshot.tensors), buffer)
    return json.dumps(snapshot.data), buffer.getvalue()


def snapshot_from_row(data: str, tensors: bytes | None) -> Snapshot:
    """Inverse of :func:`snapshot_to_row`; for anything else, torch may raise whatever it likes."""
    from nasneck.strategy.base import Snapshot  # here, as strategies take torch and looking at a study does not

    if tensors is None:
        return Snapshot(json.loads(data))
    import torch

    return Snapshot(json.loads(data), torch.load(io.BytesIO(tensors), map_location="cpu", weights_only=True))
