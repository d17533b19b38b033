"""Values that stand more than once, found in little memory."""

import numpy as np
import pandas as pd


def repeated(values: np.ndarray) -> np.ndarray:
    """Tell (bool) of each value of an array (uint64) whether it stands there more than once."""
    ordered = np.sort(values)
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    del ordered
    return pd.Series(values).isin(again).to_numpy()
