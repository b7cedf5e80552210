"""Train a network on handwritten digits by equilibrium propagation, and say what a training sample costs."""

from __future__ import annotations

import torch
from torch import nn

import mep_neuro as mep
from mep_neuro.data import load


def main() -> None:
    """Train, print accuracy and joules a sample."""
    data = load("digits")  # 1,438 training and 359 test images of 8 x 8 pixels; they come with scikit-learn

    # Any nn.Sequential of Linear, Conv2d, AvgPool2d, Flatten, Dropout and monotone activations.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    network = mep.EnergyNetwork.from_module(model)

    with mep.backend("torch", network, seed=0) as substrate:
        learner = mep.EquilibriumPropagation(substrate, beta=0.5, nudging="centered")

        # One estimate by hand: no loss.backward(). The free phase, the phases nudged towards the labels and away from
        # them, and the contrast of the two, which is put into each p.grad.
        gradient = learner.estimate(data.x_train[:32], data.y_train[:32])
        for name, value in gradient.items():
            print(f"{name:<9} {tuple(value.shape)!s:<10} |gradient| = {float(value.norm()):.4f}")

        # The same for 20 epochs, with any optimizer that reads p.grad.
        history = mep.fit(
            learner,
            (data.x_train, data.y_train),
            (data.x_test, data.y_test),
            optimizer=torch.optim.Adam(model.parameters(), lr=5e-4),
            epochs=20,
            batch_size=32,
        )
        answer = learner.predict(data.x_test[:5]).argmax(1)

    print(f"the first five test images show {answer.tolist()}; their labels are {data.y_test[:5].tolist()}")
    print(f"test accuracy {history.last.test_accuracy:.4f}")

    account = mep.account(history.counts, profile="cmos_45nm")
    low, high = account.interval
    bound = "at least " if account.lower_bound else ""  # something was counted that the profile has no price for
    print(f"a training sample costs {bound}{account.joules_per_sample:.2g} J [{low:.2g}, {high:.2g}], {account.grade}")
    for source in account.sources:
        print(f"  {source}")

    accuracy = history.last.test_accuracy
    assert accuracy is not None
    assert accuracy >= 0.95, accuracy


if __name__ == "__main__":
    main()
