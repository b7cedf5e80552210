"""The Loihi substrates: `loihi`, integer kernels that train in NumPy."""

from mep_neuro_lava.backend import LoihiBackend as LoihiBackend

__all__ = ["LoihiBackend"]
