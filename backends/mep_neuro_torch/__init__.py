"""The torch substrate: tensors on CPU or CUDA."""

from mep_neuro_torch.backend import CudaBackend as CudaBackend
from mep_neuro_torch.backend import TorchBackend as TorchBackend

__all__ = ["CudaBackend", "TorchBackend"]
