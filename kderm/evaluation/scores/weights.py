"""Image weights for one answer or for a batch of answers, in the layout that makes batches fast.

A statistic of the bootstrap takes weights (n,) and answers with floats, or weights (b, n) and
answers with arrays (b,). Inside, a batch is a table with a row an image and a column a resample:
summing images of one kind then adds whole rows.
"""

import numpy as np
from scipy import sparse

# Rows of a block in `running_sum`, and tables for which the plain sum is as fast.
BLOCK = 16
SHORT = 200
NARROW = 8


def weight_columns(weights: np.ndarray) -> np.ndarray:
    """float64 (n, b), contiguous, of weights (n,) or (b, n); no copy for a transposed (n, b)."""
    return np.ascontiguousarray(np.atleast_2d(weights).T, dtype=np.float64)


def like_weights(values: np.ndarray, weights: np.ndarray) -> np.ndarray | float:
    """`values` (b,) as they are for weights (b, n), and as one float for weights (n,)."""
    return values if np.ndim(weights) == 2 else float(values[0])


def summing(row: np.ndarray, rows: int, value: np.ndarray | None = None) -> sparse.csr_array:
    """A matrix (rows, n) that adds up images: `summing(row, rows) @ columns` is (rows, b).

    Args:
        row: int (n,), the row that each image is added to.
        rows: number of rows.
        value: float (n,), what each image counts; one by default.
    """
    value = np.ones(len(row)) if value is None else np.asarray(value, dtype=np.float64)
    return sparse.csr_array((value, (row, np.arange(len(row)))), shape=(rows, len(row)))


def running_sum(columns: np.ndarray) -> np.ndarray:
    """The sum of each row (d, b) and all rows above it.

    `numpy.cumsum` goes down one column after another at several times the cost of an addition;
    here whole rows of many blocks are added at once, then what lies above each block.
    """
    d, b = columns.shape
    if d < SHORT or b < NARROW:
        return np.cumsum(columns, axis=0)
    blocks = -(-d // BLOCK)
    result = np.zeros((blocks, BLOCK, b))
    result.reshape(-1, b)[:d] = columns
    for row in range(1, BLOCK):
        result[:, row] += result[:, row - 1]
    result[1:] += np.cumsum(result[:-1, -1], axis=0)[:, None]
    return result.reshape(-1, b)[:d]


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where `whole` is not positive."""
    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def mean_of_defined(values: np.ndarray) -> np.ndarray | float:
    """Mean over the last axis of what is not NaN; NaN if there is nothing.

    Args:
        values: float (k,) for one mean, (b, k) for an array (b,) of them.
    """
    defined = ~np.isnan(values)
    mean = ratio(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1))
    return float(mean) if np.ndim(values) == 1 else mean


def mean_over(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """float (b,): mean of `values` (b, k) over the columns `chosen`, bool (k,); NaN if one is.

    So a bootstrap draw that misses a class says nothing of the mean, instead of telling the mean of
    the other classes, which is another quantity.
    """
    counted = np.where(chosen, values, 0).sum(axis=-1)
    return ratio(counted, np.full(len(values), chosen.sum()))
