"""Write docs/benchmarks/VALIDATION_RESULTS.md and PERFORMANCE_BASELINES.md out of benchmarks/results/validation.

python benchmarks/write_validation.py
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs" / "benchmarks"

VALIDATION = """# Validation results

Test accuracy after training, three seeds each. EP and its twins by backprop have the same data, layer sizes (ReLU),
initial weights, batches, epochs, cost, and linear decay of the learning rate to 0. Learning rates were chosen
among the candidates shown, on 5,000 held-out training images, seed 0; the test set was looked at once, at the end.

Written by `benchmarks/write_validation.py` from `benchmarks/results/validation/`, which `benchmarks/validation.py`
makes.
"""

BASELINES = """# Performance baselines

Seconds of training, EP over each twin by backprop, from the runs of [Validation results](VALIDATION_RESULTS.md):
medians of three seeds on one thread, with other work on the same machine, so the ratios are rough.
`benchmarks/ep_against_backprop.py` measures one training step with care: [Benchmarks](../benchmarks.md).

Written by `benchmarks/write_validation.py` from `benchmarks/results/validation/`.
"""


def results() -> dict[str, dict[str, Any]]:
    """Result documents by row."""
    paths = sorted((HERE / "results" / "validation").glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def made_with(document: dict[str, Any]) -> str:
    """Versions, commit and machine."""
    versions = document["versions"]
    return (
        f"PyTorch {versions['torch']}, mep-neuro {versions['mep-neuro']} at {document['commit']}; "
        f"{document['machine']}.\n"
    )


def settings(ep: dict[str, Any]) -> str:
    """What smep was given besides its learning rate."""
    given = ", ".join(f"{name}={value!r}" for name, value in ep.items())
    return f"smep with {given}; its twins minimise the same cost.\n\n" if given else ""


def heading(document: dict[str, Any]) -> str:
    """What was trained, on what, with what."""
    row, (train, test) = document["row"], document["samples"]
    return (
        f"\n## {row['data']}, 784-{row['hidden']}-10, {row['epochs']} epochs, batch {row['batch']}\n\n"
        f"{settings(row.get('ep', {}))}"
        f"{train:,} training and {test:,} test images, SHA-256 {document['checksum'][:16]}...; seeds "
        f"{', '.join(map(str, document['seeds']))}; {made_with(document)}\n"
    )


def validation() -> str:
    """The page of accuracies."""
    parts = [VALIDATION]
    for document in results().values():
        parts.append(heading(document))
        parts.append(
            "| Method | learning rate | held out | seeds | median | bar |\n| --- | --- | --- | --- | --- | --- |\n"
        )
        for method, found in document["methods"].items():
            held = ", ".join(f"{c['lr']:g}: {100 * c['accuracy']:.2f}" for c in found["held_out"] if c["accuracy"])
            seeds = ", ".join(f"{100 * a:.2f}" for a in found["accuracy"])
            bar = f"{100 * document['row']['bar']:.1f}" if method == "smep" else ""
            median = f"{100 * found['median']:.2f} %"
            parts.append(f"| {method} | {found['lr']:g} | {held} | {seeds} | {median} | {bar} |\n")
    return "".join([*parts, xor(), depth()])


def xor() -> str:
    """XOR, from each of 20 initial weights."""
    found = json.loads((HERE / "results" / "xor.json").read_text(encoding="utf-8"))
    return (
        f"\n## XOR, 2-8-1 with tanh, {found['steps']} steps of smep\n\n"
        f"{found['solved']} of {found['seeds']} seeds have all four answers right (bar: all). `examples/xor.py`; "
        f"{made_with(found)}"
    )


def depth() -> str:
    """Gradients of deep networks, layer by layer against autograd's."""
    document = json.loads((HERE / "results" / "depth.json").read_text(encoding="utf-8"))
    parts = [
        "\n## Depth\n\nEP's gradient against autograd's, for every layer's weight: dense ReLU layers of width 64 from "
        "He's initial\nweights, 32 random samples, prediction_error, `errors` solver, 8 iterations, centered nudging. "
        "The worst layer of\neach seed; time of one gradient in gradients by backprop. `benchmarks/depth.py`; "
        f"{made_with(document)}\n"
        "| Layers | beta | cosine, worst layer | bar | norm over backprop's, least to largest | time |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
    ]
    for row in document["rows"]:
        runs = row["runs"]
        cosines = ", ".join(f"{run['cosine']:.4f}" for run in runs)
        norms = f"{min(run['least_norm'] for run in runs):.3f} to {max(run['largest_norm'] for run in runs):.3f}"
        times = ", ".join(f"{run['time']:.1f}" for run in runs)
        parts.append(f"| {row['layers']} | {row['beta']:g} | {cosines} | {row['bar']} | {norms} | {times} x |\n")
    return "".join(parts)


def baselines() -> str:
    """The page of times."""
    parts = [BASELINES]
    for document in results().values():
        if "smep" not in document["methods"]:
            continue
        parts.append(heading(document))
        own = statistics.median(document["methods"]["smep"]["seconds"])
        parts.append("| Method | seconds an epoch | smep takes |\n| --- | --- | --- |\n")
        for method, found in document["methods"].items():
            seconds = statistics.median(found["seconds"])
            each = seconds / document["row"]["epochs"]
            parts.append(f"| {method} | {each:.2f} | {own / seconds:.1f} x |\n")
    return "".join(parts)


PAGES = {DOCS / "VALIDATION_RESULTS.md": validation, DOCS / "PERFORMANCE_BASELINES.md": baselines}


if __name__ == "__main__":
    DOCS.mkdir(exist_ok=True)
    for path, text in PAGES.items():
        path.write_text(text(), encoding="utf-8")
