"""ANN indexes of versions: chosen, built, rebuilt and dropped without touching the data.

An index is of the vectors as they are stored, or of an expression of them that is smaller and that
pgvector takes more dims of: ``embedding::halfvec(d)``, or ``binary_quantize(embedding)::bit(d)``.
Such a one gives candidates, which a query ranks by the full vectors.
"""

from .build import check, expression
from .choose import Wanted

__all__ = ["Wanted", "check", "expression"]
