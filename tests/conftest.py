"""What all tests share: one thread, so that small networks are fast and every run gives the same bits."""

from __future__ import annotations

import torch

pytest_plugins = ["pytester"]

torch.set_num_threads(1)
