"""Write docs/benchmarks.md out of the result files in benchmarks/results.

python benchmarks/write_page.py
"""

from __future__ import annotations

import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks.md"

INTRODUCTION = """# Benchmarks

One training step by equilibrium propagation on the `torch` backend against one of plain backprop: same layers, same
optimizer (Adam, fused), batch 64 of MNIST, on a CPU, in turn in one process. Medians; a ratio of 1.3 means that EP
took 1.3 times as long. EP is centered with beta = 0.5, and runs the sweeps (free, nudged) of least work whose gradient
has a cosine of at least 0.999 with the fully settled one, for every parameter. How many that takes depends on the loop:
on the activation, and on the weights, so both are named. `initial` is as PyTorch draws them, `trained` after 500 steps.
Memory is the peak of what one step allocates, gradients included.

Ratios above 1.3 (one hidden population) or 2.5 (two) for time, and above 1.2 for memory, are more than we aim for.

This page is written by `benchmarks/write_page.py` from `benchmarks/results/`, which
`benchmarks/ep_against_backprop.py --threads N --out FILE` makes.
"""


def page() -> str:
    """The page's text."""
    parts = [INTRODUCTION]
    for path in sorted((HERE / "results").glob("ep_against_backprop_*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        threads = f"{result['threads']} thread" + ("s" if result["threads"] > 1 else "")
        parts.append(f"\n## {threads.capitalize()}, PyTorch {result['torch']}\n\n")
        parts.append("| Layers | Activation | Weights | Sweeps | Least cosine | Time | Memory | Backprop step |\n")
        parts.append("| --- | --- | --- | --- | --- | --- | --- | --- |\n")
        for row in result["rows"]:
            free, nudged = row["sweeps"]
            parts.append(
                f"| {row['layers']} | {row['activation']} | {row['weights']} | ({free}, {nudged}) "
                f"| {row['worst_cosine']:.4f} | {row['time_ratio']:.2f} | {row['memory_ratio']:.2f} "
                f"| {1e3 * row['seconds']['backprop']:.2f} ms |\n"
            )
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
