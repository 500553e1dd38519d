"""The projection whose rows the benchmark waits for."""

from ..projections.projection import Projection

bench_latency = Projection("bench-latency", category="bench")


@bench_latency.when("Ticked")
def ticked(state, event):  # type: ignore[no-untyped-def]
    state["tick"] = event.data["tick"]
