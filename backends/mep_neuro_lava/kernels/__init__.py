"""The integer kernels of one EP program on Loihi: formats, synapses, neuron, learning engine.

NumPy only, Python 3.10 on, no other import: this folder is copied as it is into a deployment bundle, and the Lava
process models call it, so that a Lava run equals the `loihi` backend bit for bit. Integers are held in float64, where
sums and products up to 2^53 and shifts by powers of two are exact, so that BLAS does the products.
"""

from .engine import Encoding as Encoding
from .engine import Factor as Factor
from .engine import Product as Product
from .engine import changed as changed
from .fixed import Format as Format
from .fixed import KernelOverflow as KernelOverflow
from .fixed import check_width as check_width
from .fixed import constant as constant
from .fixed import rounded as rounded
from .fixed import shifted as shifted
from .neuron import Neuron as Neuron
from .synapses import Synapses as Synapses
from .synapses import accumulate as accumulate
from .synapses import finest_exponent as finest_exponent
from .synapses import mantissas as mantissas
from .synapses import sign_mode as sign_mode

__all__ = [
    "Encoding",
    "Factor",
    "Format",
    "KernelOverflow",
    "Neuron",
    "Product",
    "Synapses",
    "accumulate",
    "changed",
    "check_width",
    "constant",
    "finest_exponent",
    "mantissas",
    "rounded",
    "shifted",
    "sign_mode",
]
