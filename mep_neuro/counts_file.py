"""counts.json: operation counts in a file of their own, for other tools, and from them."""

from __future__ import annotations

import json
import os
from pathlib import Path

from mep_neuro.counts import OperationCounts
from mep_neuro.errors import InputError
from mep_neuro.files import write_json_atomically

SCHEMA, SCHEMA_VERSION = "mep-neuro/counts", 1


def write_counts(path: str | os.PathLike[str], counts: OperationCounts) -> None:
    """Write counts with the name and the version of their schema."""
    write_json_atomically(path, {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **counts.to_json()})


def read_counts(path: str | os.PathLike[str]) -> OperationCounts:
    """Read counts back. Raises `InputError`, naming file and key, for a file of another schema or version."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path} is no JSON: {error}") from error
    found = document.get("schema") if isinstance(document, dict) else None
    if found != SCHEMA:
        raise InputError(
            f"{path}: schema is {found!r}, not {SCHEMA!r}: give a counts.json, such as mep-neuro train writes into a "
            "run's folder"
        )
    if document.get("schema_version") != SCHEMA_VERSION:
        raise InputError(
            f"{path}: schema_version is {document.get('schema_version')!r}, and this version of mep-neuro reads "
            f"{SCHEMA_VERSION}: write the counts anew"
        )
    try:
        return OperationCounts.from_json({k: v for k, v in document.items() if k not in ("schema", "schema_version")})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
