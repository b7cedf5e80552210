"""The reference substrate: float64 NumPy, slow and plain. Other backends are checked against it, and copy it."""

from mep_neuro_reference.backend import ReferenceBackend as ReferenceBackend

__all__ = ["ReferenceBackend"]
