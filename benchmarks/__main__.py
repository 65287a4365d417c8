"""`make bench`: the figures of docs/benchmarks.md, each beside what it is compared with, in one run."""

import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import click

from benchmarks import console, deliveries, growth, ingest, isolation, latency, redirect, servers, subscribers
from benchmarks.bench import Bench
from benchmarks.report import Row, table

PARTS: dict[str, Callable[[Bench], list[Row]]] = {
    "ingest": ingest.measure,
    "redirect": redirect.measure,
    "latency": latency.measure,
    "deliveries": deliveries.measure,
    "subscribers": subscribers.measure,
    "isolation": isolation.measure,
    "growth": growth.measure,
    "console": console.measure,
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--scale", default=1.0, type=click.FloatRange(0.001, 1), help="How much of everything; below 1: a trial.")
@click.option("--rounds", default=3, type=click.IntRange(1), show_default=True, help="Interleaved rounds.")
def main(names: tuple[str, ...], scale: float, rounds: int) -> None:
    """Run the parts named, or all, and print the table; exit 1 if one failed."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="partyline-bench-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        with servers.postgres(Path(folder) / "server") as server, servers.sink() as sink:
            rows, failed = run(Bench(Path(folder), server, sink, scale, rounds), names or tuple(PARTS))
    title = f"Partyline, medians of {rounds} interleaved rounds" + ("" if scale == 1 else f", a trial at {scale:g}")
    table(rows, f"{title}; {os.cpu_count()} cores, load before the run {load:.1f}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def run(bench: Bench, names: tuple[str, ...]) -> tuple[list[Row], list[str]]:
    """Every part's rows; one that fails is told, and does not take the others with it."""
    rows: list[Row] = []
    failed = []
    for name in names:
        started = time.monotonic()
        try:
            rows += PARTS[name](bench)
        except Exception as error:
            traceback.print_exc()
            failed.append(name)
            rows.append(Row(name, "FAILED", verdict=f"{type(error).__name__}: {str(error)[:200]}"))
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return rows, failed


if __name__ == "__main__":
    main()
