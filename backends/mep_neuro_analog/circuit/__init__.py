"""The circuit tier: a network of the resistive energy as resistors and diodes, in S, V, A and F."""
