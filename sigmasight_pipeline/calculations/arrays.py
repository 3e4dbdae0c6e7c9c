"""Types of arrays as engines take and give them, each under one name.

What belongs here: these types. What does not: what an array means and its shape, which stand where it is used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
AnyArray = npt.NDArray[Any]
