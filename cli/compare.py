"""compare, align: how two versions differ, and one rotated onto the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from . import options, output
from .progress import bar

if TYPE_CHECKING:
    from embstore import Comparison
    from embstore.compare.result import Distribution
    from embstore.types import Id

# Attributes that are printed unless --show says which.
_COLUMNS = 3


@click.command()
@click.argument("old")
@click.argument("new")
@click.option("-k", "k", type=int, default=10, show_default=True, help="Of how many neighbours.")
@click.option(
    "--sample",
    type=int,
    default=1000,
    show_default=True,
    metavar="N",
    help="For how many ids, drawn at random, neighbours are compared.",
)
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Of that sample.")
@click.option(
    "--top",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    metavar="N",
    help="How many of the ids that moved most to print.",
)
@options.show
@click.option("--html", metavar="FILE", help="Write a page with plots too.")
@options.url
@options.as_json
def compare(
    old: str,
    new: str,
    k: int,
    sample: int,
    seed: int,
    top: int,
    show: tuple[str, ...],
    html: str | None,
    url: str | None,
    as_json: bool,
) -> None:
    """Tell how NEW differs from OLD (items@7 items@8): ids, norms, neighbours, and what moved.

    Neighbours are exact, among the ids that both have, and compared for a sample of them. How far
    each id has moved is measured after the rotation that maps NEW onto OLD best; where dims differ
    or the vectors are bits there is none, and neighbours alone tell.
    """
    with options.open_store(url) as store, bar() as progress:
        found = store.compare(
            old, new, k, sample=sample, seed=seed, top=top, show=show or None, progress=progress
        )
    if html is not None:
        found.to_html(html)
    if as_json:
        output.document(found.as_json())
        return
    _print(found, bool(show))
    if html is not None:
        print(f"\nthe page is {html}")


def _print(found: Comparison, all_columns: bool) -> None:
    print(f"{found.old} and {found.new}, by {found.metric}\n")
    what = "bits set" if found.metric.of_bits else "norm"
    output.rows(
        [
            {
                "version": ref,
                "rows": rows,
                "dims": dim,
                f"{what}, mean": norms.mean,
                "5%": norms.p5,
                "median": norms.median,
                "95%": norms.p95,
            }
            for ref, rows, dim, norms in zip(
                (found.old, found.new), found.rows, found.dims, found.norms, strict=True
            )
        ],
        False,
    )
    ids = found.ids
    print()
    print(
        f"ids: {ids.common:,} in common ({found.coverage:.2%} of the old ones), {ids.removed:,}"
        f" removed{_some(ids.removed_sample)}, {ids.added:,} added{_some(ids.added_sample)}"
    )
    if found.overlap is None:
        print("neighbours: too few ids in common")
    else:
        print(f"neighbours kept, of {found.k}: {_described(found.overlap)}")
    if found.drift is None or found.aligned is None:
        print(f"drift: not measured, {found.unaligned}")
    else:
        print(
            f"aligned: residual {found.aligned.residual:.4g}, {found.aligned.before:.4g} without"
            " the rotation"
        )
        unit = "cosine distance" if found.metric == "cosine" else "in lengths of the old vectors"
        print(f"drift, {unit}: {_described(found.drift)}")
    if not found.moved:
        return
    print("\nmoved most:")
    what = "neighbours kept" if found.drift is None else "drift"
    names = list(found.moved[0].attributes)[: None if all_columns else _COLUMNS]
    output.rows(
        [
            {
                "id": each.id,
                what: each.overlap if found.drift is None else each.drift,
                **{name: each.attributes[name] for name in names},
            }
            for each in found.moved
        ],
        False,
    )


def _described(part: Distribution) -> str:
    from embstore.compare.report import about

    return (
        f"mean {part.mean:.4g}, 5% {part.p5:.4g}, median {part.median:.4g}, 95% {part.p95:.4g}"
        f" ({about(part)})"
    )


def _some(sample: Sequence[Id]) -> str:
    shown = output.text(sample[:3])
    return f" ({shown}{', ...' if len(sample) > 3 else ''})" if sample else ""


@click.command()
@click.argument("refs", nargs=-1, required=True, metavar="REF...")
@click.option("--to", required=True, metavar="REF", help="The version whose axes they get.")
@options.url
@options.as_json
def align(refs: tuple[str, ...], to: str, url: str | None, as_json: bool) -> None:
    """Rotate REF... (items@8 users@8) onto an older version (--to items@7), as new versions.

    The rotation is fitted on the ids in common with the REF of the same table; the other tables of
    the training get the same one. Inner products and cosines inside the training stay as they
    were, and what was trained on the old vectors goes on working. Nothing is promoted.
    """
    with options.open_store(url) as store, bar() as progress:
        done = store.align(refs, to, progress=progress, warn=output.warning)
    if as_json:
        output.document(
            [
                {
                    "ref": each.ref,
                    "rows": each.rows,
                    "dim": each.dim,
                    "space": each.space,
                    "aligned": each.source["aligned"],
                    "checksum": each.checksum,
                }
                for each in done
            ]
        )
        return
    for each in done:
        print(f"{each.ref}: {each.source['aligned']['from']} rotated, {each.rows:,} x {each.dim}")
    fit = done[0].source["aligned"]
    print(
        f"fitted on {fit['ids']:,} ids in common with {to}: residual {fit['residual']:.4g},"
        f" {fit['before']:.4g} without the rotation"
    )
    print(
        f"make live what belongs together: embstore promote {' '.join(each.ref for each in done)}"
    )


COMMANDS = (compare, align)
