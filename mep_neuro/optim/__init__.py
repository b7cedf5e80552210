"""The optimizer family: how a gradient is made, how it becomes an update, what bounds the weights, what is fed back."""
