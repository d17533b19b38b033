"""Memory-efficient search for duplicated values."""

import numpy as np
import pandas as pd


def repeated(values: np.ndarray) -> np.ndarray:
    """Return a mask of the values that occur more than once.

    Args:
        values: uint64 [n].

    Returns:
        bool [n].
    """
    ordered = np.sort(values)
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    del ordered
    return pd.Series(values).isin(again).to_numpy()
