"""Checkpoints: all that a training run needs to go on exactly, in one file that is written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mep_neuro.errors import CheckpointError
from mep_neuro.files import write_atomically
from mep_neuro.network import EnergyNetwork

FORMAT = 1


def save_checkpoint(path: Path, network: EnergyNetwork, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values, with the network's signature, so that `load_checkpoint` can check it."""
    document = {"format": FORMAT, "network": json.dumps(network.signature()), **content}
    document["module"] = network.module.state_dict()
    write_atomically(path, lambda file: torch.save(document, file))


def load_checkpoint(path: Path, network: EnergyNetwork) -> dict[str, Any]:
    """Read a checkpoint of this network back, and put its parameters into the module.

    Nothing in the file is executed. Raises `CheckpointError` as `read_checkpoint` does; the module is then left as it
    was.
    """
    document = read_checkpoint(path, network)
    network.module.load_state_dict(document["module"])
    return document


def read_checkpoint(path: Path, network: EnergyNetwork) -> dict[str, Any]:
    """A checkpoint's content, checked against the network. Nothing in the file is executed.

    Raises `CheckpointError` for a file that is missing, truncated, of another format, or of another network.
    """
    document = _document(path, network.device)
    if document["format"] != FORMAT:
        raise CheckpointError(f"{path} has format {document['format']}, and this version of mep-neuro reads {FORMAT}")
    try:
        theirs = json.loads(document["network"])
        stored = {name: (tuple(value.shape), value.dtype) for name, value in document["module"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is no mep-neuro checkpoint: parts of it are missing") from error
    ours = json.loads(json.dumps(network.signature()))
    if theirs != ours:
        raise CheckpointError(f"{path} is of another network: {_difference(theirs, ours)}")
    held = {name: (tuple(value.shape), value.dtype) for name, value in network.module.state_dict().items()}
    if stored != held:
        raise CheckpointError(f"{path} is of another network: {_difference(stored, held)}")
    return document


def _document(path: Path, device: torch.device) -> dict[str, Any]:
    try:
        document = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint {path}: nothing to resume; start without resuming") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # damaged bytes make the reader raise almost anything; its own advice is to trust them
        raise CheckpointError(
            f"{path} is truncated or no checkpoint ({type(error).__name__}): take another one"
        ) from error
    if not isinstance(document, dict) or "format" not in document:
        raise CheckpointError(f"{path} is no mep-neuro checkpoint")
    return document


def _difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    for key in ours:
        if theirs.get(key) != ours[key]:
            return f"its {key} is {theirs.get(key)}, not {ours[key]}"
    return "it has other parts"
