"""The torch substrate: tensors on CPU or CUDA."""

from mep_neuro_torch.substrates import CudaBackend, TorchBackend

__all__ = ["CudaBackend", "TorchBackend"]
