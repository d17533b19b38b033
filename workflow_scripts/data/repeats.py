"""Finds duplicated values in little memory."""

import numpy as np
import pandas as pd


def repeated(values: np.ndarray) -> np.ndarray:
    """Return which values of a uint64 array occur more than once: bool, in its shape."""
    ordered = np.sort(values)
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    del ordered
    return pd.Series(values).isin(again).to_numpy()
