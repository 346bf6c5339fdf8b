"""Reproducible Intel TDX measurement attestation.

``mrtd.measure.measure`` derives what a launch measures; ``mrtd.cli`` is the command line.
"""

from typing import Final

__version__: Final = "0.1.0"
