"""Tiles: products of a batch of voltages with arrays of conductances, forward and back through the same devices."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias, final

import torch
from torch import Tensor

from mep_neuro.errors import InputError
from mep_neuro_analog.converters import quantised
from mep_neuro_analog.specs import AnalogSpec
from mep_neuro_analog.wires import closed_form, transfer

BOLTZMANN = 1.380649e-23
"""J/K, exact in SI."""

Noise: TypeAlias = Tensor | Literal["drawn"] | None
"""Of a product: standard normals as `Tiles.draw` gives them, drawn anew by the product itself, or none."""


class _Line(NamedTuple):
    """Tiles that are driven by the same part of a state; their outputs lie side by side."""

    driven: slice
    weight: Tensor
    """(driven, received), in units of weight."""
    spread: Tensor | None
    """(driven, received): variance of the read noise of a weight; None: no read noise."""
    floor: Tensor | None
    """(received,): variance of the noise that does not depend on the state; None: there is no noise at all."""


@final
class Tiles:
    """One weight matrix W (outputs, inputs) on tiles of at most array.rows inputs by array.columns outputs.

        W = u (T+ - T-),    u = k w_max / (g_max - g_min)  (see `specs`),    T conductances as seen through the wires
        y = W s + sqrt(V s^2 + F) xi,    xi standard normal for each sample and output
        V = (u read_noise)^2 (T+^2 + T-^2)                                  both devices of a pair are read
        F = (u / v_unit)^2 4 k T B sum (g+ + g-) + tiles (output_noise w_max)^2    Johnson noise of all devices on a
                                                                            line, and the outputs of all tiles on it

    and the same with W^T and V^T back. This is the exact law of drawing every device anew for every vector, as sums of
    normals are normal (with wires: to first order in their drop), at the cost of one more product where there is read
    noise, and of none where there is not. With converters == "tiles" each state passes a DAC, each tile's output with
    its noise an ADC, and codes are added; adc_range is a current, so in units of (a weight w_max) x (an input of 1).

    spec:       device, arrays and periphery, SI units.
    generator:  draws all noise.
    sampled:    draw every device of every vector, exactly and slowly: the oracle of the law above. Every product then
                draws anew: noise that is given means only that there is some.
    """

    def __init__(
        self, spec: AnalogSpec, outputs: int, inputs: int, generator: torch.Generator, *, sampled: bool = False
    ) -> None:
        self._spec, self._shape, self._generator, self._sampled = spec, (outputs, inputs), generator, sampled
        self._converted = spec.periphery.converters == "tiles"
        self._inputs = _cuts(inputs, spec.array.rows)
        self._outputs = _cuts(outputs, spec.array.columns)
        self._held: tuple[Tensor, Tensor] | None = None

    def hold(self, g_plus: Tensor, g_minus: Tensor, scale: float) -> None:
        """Take the conductances g+ and g- of all pairs, (outputs, inputs), S, and w_max; work out what products need.

        With wires this is the dear part: `wires.transfer` for every tile and polarity. Raises InputError for another
        shape, for a w_max that is not above 0, and as `transfer` and `closed_form` do. The tensors are not copied.
        """
        if g_plus.shape != self._shape or g_minus.shape != self._shape:
            shapes = f"{tuple(g_plus.shape)} and {tuple(g_minus.shape)}"
            raise InputError(f"conductances have shapes {shapes}; these tiles hold (outputs, inputs) = {self._shape}")
        if not 0 < scale < float("inf"):
            raise InputError(f"w_max is {scale:g}; give a number above 0")
        device, periphery = self._spec.device, self._spec.periphery
        self._held, self._scale = (g_plus, g_minus), scale
        self._unit = (2 if self._spec.array.pairs == "offset" else 1) * scale / (device.g_max - device.g_min)
        plus, minus = self._seen(g_plus), self._seen(g_minus)
        self._weight = (plus - minus).mul_(self._unit)
        spread = None
        if device.read_noise:
            spread = plus.square().addcmul_(minus, minus).mul_((device.read_noise * self._unit) ** 2)
        total = g_plus + g_minus
        self._loads = total.sum(0), total.sum(1)
        self._johnson = (
            4 * BOLTZMANN * periphery.temperature * periphery.bandwidth * (self._unit / periphery.v_unit) ** 2
        )
        self._lines = (
            self._cut(self._inputs, self._weight.T, None if spread is None else spread.T, total.T),
            self._cut(self._outputs, self._weight, spread, total),
        )

    @property
    def weight(self) -> Tensor:
        """W as it really is, without noise, (outputs, inputs)."""
        self._given()
        return self._weight

    @property
    def devices(self) -> int:
        """Conductances that the products go through: two for each weight, references included."""
        return 2 * self._shape[0] * self._shape[1]

    def forward(self, s: Tensor, noise: Noise = "drawn") -> Tensor:
        """W s of each sample: (batch, inputs) -> (batch, outputs), in units of weight times state."""
        return self._product(s, noise, back=False)

    def adjoint(self, s: Tensor, noise: Noise = "drawn") -> Tensor:
        """W^T s through the same devices: (batch, outputs) -> (batch, inputs), in units of weight times state."""
        return self._product(s, noise, back=True)

    def draw(self, like: Tensor, *, back: bool = False) -> Tensor:
        """Standard normals for products of `like`'s samples, to be held over several: (lines, batch, received).

        There is one line, except where tiles one below the other each have their own ADC.
        """
        lines = len(self._given()[back])
        return self._normal((lines, len(like), self._shape[1 if back else 0]), like)

    def power(self, s: Tensor, *, back: bool = False) -> Tensor:
        """Watts that the devices turn into heat, (batch,): v_unit^2 sum_ij (g+ + g-)_ij s_j^2, lines at ground.

        With wires this is the most that arrays and wires together can take, since resistance in series only lowers it.

        s: (batch, inputs), or (batch, outputs) with the columns driven and the rows held at ground, `back`.
        """
        self._given()
        return torch.mv(s.square(), self._loads[back]).mul_(self._spec.periphery.v_unit**2)

    def conversions(self, batch: int, *, back: bool = False) -> tuple[int, int]:
        """Conversions by (DACs, ADCs) in products of a batch: every tile's inputs and outputs; none if not "tiles"."""
        if not self._converted:
            return 0, 0
        inputs, outputs = batch * self._shape[1] * len(self._outputs), batch * self._shape[0] * len(self._inputs)
        return (outputs, inputs) if back else (inputs, outputs)

    def _given(self) -> tuple[list[_Line], list[_Line]]:
        if self._held is None:
            raise InputError("these tiles hold no conductances yet: call hold(g_plus, g_minus, scale) first")
        return self._lines

    def _seen(self, g: Tensor) -> Tensor:
        """Conductances (outputs, inputs) as their terminals see them, tile by tile."""
        array = self._spec.array
        if not array.wire_resistance:
            return g
        solve = transfer if array.ir_drop == "nodal" else closed_form
        seen = torch.empty_like(g, memory_format=torch.contiguous_format)
        for o in _cuts(g.shape[0], array.columns):
            for i in _cuts(g.shape[1], array.rows):
                seen[o, i] = solve(g[o, i].T, array.wire_resistance).T
        return seen

    def _cut(self, cuts: list[slice], weight: Tensor, spread: Tensor | None, total: Tensor) -> list[_Line]:
        """The lines of one direction; arrays are (driven, received). Without ADCs between them they act as one."""
        periphery = self._spec.periphery
        split = self._sampled or (self._converted and periphery.adc_bits is not None)
        output = (periphery.output_noise * self._scale) ** 2
        lines = []
        for driven in cuts if split else [slice(None)]:
            floor = None
            if self._johnson or output or spread is not None:
                floor = total[driven].sum(0).mul_(self._johnson).add_(output if split else len(cuts) * output)
            lines.append(_Line(driven, weight[driven], None if spread is None else spread[driven], floor))
        return lines

    def _product(self, s: Tensor, noise: Noise, *, back: bool) -> Tensor:
        lines, periphery = self._given()[back], self._spec.periphery
        normals = self._normals(noise, lines, s, back=back)
        received = self._inputs if back else self._outputs
        if self._converted:
            s = quantised(s, periphery.dac_bits, periphery.dac_range)
        y: Tensor | None = None
        for number, line in enumerate(lines):
            v = s if len(lines) == 1 else s[:, line.driven]
            if self._sampled and noise is not None and line.floor is not None:
                part = self._drawn(v, line, back=back)
            else:
                part = v @ line.weight
            if normals is not None and line.floor is not None:
                variance = line.floor if line.spread is None else torch.addmm(line.floor, v.square(), line.spread)
                part.addcmul_(variance.sqrt(), normals[number])
            if self._converted and periphery.adc_bits is not None:
                limit = None if periphery.adc_range is None else periphery.adc_range * self._scale
                for cut in received if limit is None else [slice(None)]:
                    quantised(part[:, cut], periphery.adc_bits, limit, out=part[:, cut])
            y = part if y is None else y.add_(part)
        assert y is not None
        return y

    def _normals(self, noise: Noise, lines: list[_Line], s: Tensor, *, back: bool) -> Tensor | None:
        """xi of all lines in one draw, (lines, batch, received); None where no law needs it."""
        if noise is None or self._sampled or lines[0].floor is None:
            return None
        if isinstance(noise, str):
            return self.draw(s, back=back)
        held = noise if noise.dim() == 3 else noise[None]
        if len(held) != len(lines):
            raise InputError(
                f"noise of shape {tuple(noise.shape)} is for {len(held)} line(s) of tiles, and here are {len(lines)}, "
                "each with its own noise before its ADC: take it from draw()"
            )
        return held

    def _drawn(self, v: Tensor, line: _Line, *, back: bool) -> Tensor:
        """A line's outputs with every device drawn anew for every vector, one vector at a time."""
        device, periphery = self._spec.device, self._spec.periphery
        assert self._held is not None
        pairs = [g[line.driven] if back else g[:, line.driven] for g in self._held]
        received, rows = (1 if back else 0), []
        for vector in v:
            read = [g * (1 + device.read_noise * self._normal(g.shape, v)) for g in pairs]
            weight = (self._seen(read[0]) - self._seen(read[1])).mul_(self._unit)
            row = (weight.T if back else weight) @ vector
            for g in pairs if self._johnson else []:
                row += (self._johnson * g).sqrt().mul_(self._normal(g.shape, v)).sum(1 - received)
            rows.append(row.add_(self._normal(row.shape, v), alpha=periphery.output_noise * self._scale))
        return torch.stack(rows)

    def _normal(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        drawn = torch.randn(shape, generator=self._generator, dtype=like.dtype, device=self._generator.device)
        return drawn.to(like.device)


def _cuts(length: int, most: int) -> list[slice]:
    """Neighbouring slices of at most `most` that cover a length."""
    return [slice(start, min(start + most, length)) for start in range(0, length, most)]
