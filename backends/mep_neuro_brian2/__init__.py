"""Spiking neurons in Brian2: the saturating rate of integrate-and-fire neurons is the activation."""

from mep_neuro_brian2.backend import Brian2Backend as Brian2Backend

__all__ = ["Brian2Backend"]
