"""The Loihi substrates: `loihi`, integer kernels that train in NumPy, and `lava`, the same program in Lava."""

from mep_neuro_lava.backend import LoihiBackend as LoihiBackend
from mep_neuro_lava.lava_backend import LavaBackend as LavaBackend
from mep_neuro_lava.lava_machine import LavaRunError as LavaRunError

__all__ = ["LavaBackend", "LavaRunError", "LoihiBackend"]
