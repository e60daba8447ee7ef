"""The first pass of exact search on a device of torch, in blocks that fit its memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidQuery
from ..optional import require
from ..types import Metric
from .flat import Numbers
from .scores import Array32, Rows

# Rows of a block by the memory that is free: a quarter of it for the block and its scores.
_SHARE = 4
# Where a device does not tell: 256 MB.
_USUAL = 1 << 28


class TorchScan:
    """A matrix product and a top-k per block; see ``flat.Scan``.

    Raises
    ------
    InvalidQuery
        When torch has no such device.
    MissingPackage
        Without torch.
    """

    def __init__(self, rows: Rows, device: str) -> None:
        self._torch = require("torch", "torch")
        try:
            self._device = self._torch.device(device)
            self._torch.zeros(1, device=self._device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).split("\n")[0].rstrip(".")
            raise InvalidQuery(f"torch has no device {device!r} here: {reason}") from error
        self._rows = rows
        self._norms = self._on_device(rows.norms.astype(np.float32))
        self._all: Any = None
        if rows.vectors.size * 4 <= self._free():
            self._all = self._block(slice(0, len(rows)))  # no row travels twice

    def __call__(
        self, queries: NDArray[Any], wanted: int, among: Numbers | None
    ) -> tuple[Numbers, Array32]:
        """See ``Scan``."""
        torch = self._torch
        if self._rows.metric.of_bits:
            queries = np.unpackbits(queries, axis=1, count=self._rows.dim)
        asked = self._on_device(queries.astype(np.float32))
        count = len(self._rows) if among is None else len(among)
        step = max(wanted, self._free() // (4 * (len(queries) + self._rows.dim)))
        best, places = None, None
        for at in range(0, count, step):
            stop = min(count, at + step)
            scores = self._scores(asked, slice(at, stop) if among is None else among[at:stop])
            top, where = torch.topk(scores, min(wanted, stop - at), dim=1)
            where = where + at
            if best is not None:
                top, kept = torch.topk(torch.cat([best, top], 1), wanted, dim=1)
                where = torch.cat([places, where], 1).gather(1, kept)
            best, places = top, where
        assert best is not None and places is not None
        found = places.cpu().numpy()
        return (found if among is None else among[found]), best.cpu().numpy()

    def _scores(self, queries: Any, part: slice | Numbers) -> Any:
        torch = self._torch
        place = part if isinstance(part, slice) else self._on_device(part)
        block = self._block(part) if self._all is None else self._all[place]
        norms = self._norms[place]
        products = queries @ block.T
        metric = self._rows.metric
        if metric is Metric.COSINE:
            return products / torch.where(norms > 0, norms, torch.inf)
        if metric is Metric.L2:
            return products - norms * norms / 2
        if metric is Metric.IP:
            return products
        own = queries.sum(1, keepdim=True)
        if metric is Metric.HAMMING:
            return 2 * products - own - norms
        return products / torch.clamp(own + norms - products, min=1)

    def _block(self, part: slice | Numbers) -> Any:
        return self._on_device(self._rows.floats(part))

    def _on_device(self, values: NDArray[Any]) -> Any:
        # A copy: torch warns of memory that cannot be written, as mapped memory.
        return self._torch.tensor(values, device=self._device)

    def _free(self) -> int:
        if self._device.type == "cuda":
            return int(self._torch.cuda.mem_get_info(self._device)[0]) // _SHARE
        return _USUAL
