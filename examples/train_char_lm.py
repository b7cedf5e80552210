"""A character model by equilibrium propagation: the next character, from the last eight.

The energy is `prediction_error`, whose free phase is the module's own forward pass. Backpropagation runs beside it with
the same initial weights, batches and update, so that the gradient is all that differs. Without `--text FILE` it learns
two sonnets by heart, which is quick and shows that learning works; with a long text, a last tenth is held out:

    python train_char_lm.py --text tinyshakespeare/input.txt --steps 3000 --hidden 256

Mind what 30 settling steps give here: with a large read-out (singular values up to 17, as backprop's run ends with), EP
finds backprop's direction for the hidden weights (cosine above 0.99 on 64 samples) but a tenth of its length. Muon
looks at the direction alone, so it trains on; an update that follows the length would move those weights less.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import mep_neuro as mep

SONNETS = """\
Shall I compare thee to a summer's day?
Thou art more lovely and more temperate:
Rough winds do shake the darling buds of May,
And summer's lease hath all too short a date;
Sometime too hot the eye of heaven shines,
And often is his gold complexion dimm'd;
And every fair from fair sometime declines,
By chance or nature's changing course untrimm'd;
But thy eternal summer shall not fade,
Nor lose possession of that fair thou ow'st;
Nor shall death brag thou wander'st in his shade,
When in eternal lines to time thou grow'st:
So long as men can breathe or eyes can see,
So long lives this, and this gives life to thee.

Let me not to the marriage of true minds
Admit impediments. Love is not love
Which alters when it alteration finds,
Or bends with the remover to remove.
O no! it is an ever-fixed mark
That looks on tempests and is never shaken;
It is the star to every wandering bark,
Whose worth's unknown, although his height be taken.
"""
"""Shakespeare's sonnet 18, and the first two quatrains of 116 (1609; public domain)."""

CONTEXT = 8


class Text:
    """A text as (the last CONTEXT characters, the next one)."""

    def __init__(self, text: str, characters: str) -> None:
        self.characters = characters
        codes = torch.tensor([characters.index(c) for c in text])
        self.windows = codes.unfold(0, CONTEXT + 1, 1)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """One-hot contexts (batch, CONTEXT * characters), and labels (batch,)."""
        window = self.windows[rows]
        return one_hot(window[:, :-1], len(self.characters)), window[:, -1]

    def loss(self, model: nn.Module, most: int = 20_000) -> float:
        """Mean cross-entropy of the first so many characters, nats a character."""
        x, y = self.batch(torch.arange(min(most, len(self.windows))))
        with torch.no_grad():
            return float(F.cross_entropy(model(x), y))


def one_hot(codes: Tensor, count: int) -> Tensor:
    """(batch, CONTEXT) codes as (batch, CONTEXT * count) inputs."""
    return F.one_hot(codes, count).float().flatten(1)


def build(characters: int, hidden: int) -> nn.Sequential:
    """The model, with the same initial weights each time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(CONTEXT * characters, hidden), nn.ReLU(), nn.Linear(hidden, characters))


def train(mode: str, model: nn.Sequential, text: Text, steps: int) -> float:
    """Train by "ep" or "backprop", on the same batches; returns the seconds it took."""
    if mode == "ep":
        # gamma=None: a read-out held to 0.95 gives flat probabilities (2.8 nats here, by either gradient).
        optimizer = mep.smep(
            model.parameters(), model, gamma=None, energy="prediction_error", loss_type="cross_entropy", beta=0.1
        )
    else:
        optimizer = mep.smep(model.parameters(), model, gamma=None, mode="backprop")
    order = torch.Generator().manual_seed(0)
    started = time.perf_counter()
    for _ in range(steps):
        x, y = text.batch(torch.randint(len(text.windows), (64,), generator=order))
        if mode == "ep":
            optimizer.step(x=x, target=y)
        else:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    return time.perf_counter() - started


def sample(model: nn.Module, characters: str, start: str, length: int) -> str:
    """Text that goes on from a start of CONTEXT characters or more, drawn from the model's probabilities."""
    generator = torch.Generator().manual_seed(0)
    codes = [characters.index(c) for c in start]
    with torch.no_grad():
        for _ in range(length):
            logits = model(one_hot(torch.tensor([codes[-CONTEXT:]]), len(characters)))[0]
            codes.append(int(torch.multinomial(logits.softmax(0), 1, generator=generator)))
    return "".join(characters[c] for c in codes)


def main() -> None:
    """Train both, print their losses and what EP's model writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, help="a text file to learn from")
    parser.add_argument("--steps", type=int, default=300, help="batches of 64")
    parser.add_argument("--hidden", type=int, default=128)
    given = parser.parse_args()
    whole = SONNETS if given.text is None else given.text.read_text(encoding="utf-8")
    characters = "".join(sorted(set(whole)))
    split = len(whole) if given.text is None else len(whole) * 9 // 10
    text = Text(whole[:split], characters)
    judged = text if given.text is None else Text(whole[split:], characters)

    start, losses, written = judged.loss(build(len(characters), given.hidden)), {}, ""
    what = "the text itself" if given.text is None else "the last tenth, held out"
    print(f"{len(whole):,} characters, {len(characters)} different ones; nats a character on {what}")
    print(f"{'at the start':<14} {start:.3f}")
    for mode in ("backprop", "ep"):
        model = build(len(characters), given.hidden)
        seconds = train(mode, model, text, given.steps)
        losses[mode] = judged.loss(model)
        print(f"{mode:<14} {losses[mode]:.3f} after {given.steps} steps, {seconds:.1f} s")
        written = sample(model, characters, whole[:CONTEXT], 300)
    print(f"\nEP's model goes on from {whole[:CONTEXT]!r}:\n{written}")
    assert losses["ep"] < start / 2, losses
    assert losses["ep"] < 1.25 * losses["backprop"], losses


if __name__ == "__main__":
    main()
