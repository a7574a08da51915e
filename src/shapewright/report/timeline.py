"""The step as a timeline: what every stage of the pipeline does when, and what it waits for.

Decisions: the bars are those of ``plan.timeline``, laid from the pace that the Design holds. Of a long step only as many
micro-batches are drawn as show the pipeline filling, running and draining, since its middle repeats; the axis says so.
Waiting on the wire stands as a thin bar under the passes, so that colour is not the only difference. Of a long pipeline
only some stages are drawn; the trace holds all of them.
"""

from __future__ import annotations

from dataclasses import replace

from shapewright.designs.document import Design
from shapewright.plan.timeline import STREAMS, Event, Pace, Timeline, lay
from shapewright.report.theme import BLUE, BRICK, GOLD, GREEN, GREY, PURPLE
from shapewright.report.vega import Spec, chart, linear_axis, tooltip

TRACK = 30
"""Height of a stage [px]."""
MOST_BARS = 800
"""Passes that are drawn: of a pipeline with more, some stages are left out, never the first or the last."""
INVISIBLE = 1 / 700
"""Share of the drawn step below which a bar is narrower than a pixel of a wide page."""
MOST_LAID = 60_000
"""Passes that are laid out at all, which takes their number in ten microseconds."""
LEAST = 8
"""Micro-batches that are drawn where there are as many."""
LOOKS = {
    "forward": BLUE,
    "backward": GOLD,
    "weights' gradients": GREEN,
    "both ways": BRICK,
    "wire": PURPLE,
    "optimizer, waiting": GREY,
}


def timeline(design: Design) -> Spec | None:
    """The passes of one step by stage; None without a pace, or with more passes than can be laid out."""
    pace, laid = design.pace, _laid(design)
    if pace is None or laid is None:
        return None
    drawn = shortened(pace)
    passes_of_stage = _passes_of_stage(drawn)
    stages = _shown(drawn.stages, MOST_BARS // passes_of_stage)
    least = INVISIBLE * laid.step_time_s
    rows = [_row(e) for e in laid.events if e.stage in stages and e.end_s - e.start_s > least]
    classes = [name for name in LOOKS if any(row["class"] == name for row in rows)]
    whole = drawn.micro_batches == pace.micro_batches
    part = "" if whole else f", {drawn.micro_batches:,} of {pace.micro_batches:,} micro-batches drawn"
    x = linear_axis("start", f"time{part}", 0.0, laid.step_time_s, unit="s")
    y = {"field": "stage", "type": "nominal", "scale": {"domain": [f"stage {s}" for s in stages]},
         "axis": {"title": None, "domain": False, "ticks": False}}  # fmt: skip
    colour = {
        "field": "class", "type": "nominal",
        "scale": {"domain": classes, "range": [LOOKS[name] for name in classes]},
        "legend": {"symbolType": "square", "columns": 3},
    }  # fmt: skip
    said = tooltip(name="pass", stage="stage", **{"class": "kind"}, takes="takes", begins="begins at")
    texts = [{"calculate": f"format(datum.{of}, '.3s') + 's'", "as": name}
             for name, of in (("takes", "end - datum.start"), ("begins", "start"))]  # fmt: skip

    def bars(of: list[Spec], height: float, offset: float) -> Spec:
        return {
            "data": {"values": of},
            "transform": texts,
            "mark": {
                "type": "bar",
                "height": height,
                "yOffset": offset,
                "style": "segment",
                "strokeWidth": 0.5,
            },
            "encoding": {"x": x, "x2": {"field": "end"}, "y": y, "color": colour, "tooltip": said},
        }

    passes = [row for row in rows if row["class"] != "wire"]
    wires = [row for row in rows if row["class"] == "wire"]
    busy = max(laid.busy_s) / laid.step_time_s if laid.step_time_s else 0.0
    return chart(
        f"Timeline of a step on {drawn.stages} stage{'s' if drawn.stages > 1 else ''} with {drawn.micro_batches} "
        f"micro-batches{'' if whole else f' of {pace.micro_batches}'}: the busiest stage works {busy:.0%} of the time.",
        [bars(passes, 0.6 * TRACK, -3), *([bars(wires, 6, 0.6 * TRACK / 2 + 1)] if wires else [])],
        height=TRACK * max(len(stages), 2),
    )


def _passes_of_stage(pace: Pace) -> int:
    return pace.micro_batches * pace.chunks * 2


def _laid(design: Design) -> Timeline | None:
    if design.pace is None:
        return None
    drawn = shortened(design.pace)
    return None if _passes_of_stage(drawn) * drawn.stages > MOST_LAID else lay(drawn)


def passes(design: Design) -> list[tuple[str, str, int, float, float]]:
    """(stage, kind, passes, seconds in all, share of the step) of what is drawn; empty where nothing is."""
    laid = _laid(design)
    found: dict[tuple[int, str], list[float]] = {}
    for event in laid.events if laid else ():
        found.setdefault((event.stage, _class(event)), []).append(event.end_s - event.start_s)
    return [
        (f"stage {stage}", kind, len(times), sum(times), sum(times) / laid.step_time_s if laid else 0.0)
        for (stage, kind), times in sorted(
            found.items(), key=lambda item: (item[0][0], list(LOOKS).index(item[0][1]))
        )
    ]


def shortened(pace: Pace) -> Pace:
    """The same step with fewer micro-batches where it has many: enough to fill and to drain the pipeline."""
    enough = max(2 * pace.stages, LEAST) if pace.stages <= LEAST else pace.stages
    if pace.micro_batches <= enough:
        return pace
    # Interleaved schedules want as many micro-batches as stages, or a multiple of them.
    return replace(pace, micro_batches=max(enough // pace.stages * pace.stages, pace.stages))


def _shown(stages: int, most: int) -> list[int]:
    """At most ``most`` stages (but two), evenly spread from the first to the last."""
    count = min(stages, max(most, 2))
    return sorted({round(i * (stages - 1) / max(count - 1, 1)) for i in range(count)})


def _row(event: Event) -> Spec:
    return {
        "name": event.name,
        "class": _class(event),
        "stage": f"stage {event.stage}",
        "start": float(f"{event.start_s:.5g}"),
        "end": float(f"{event.end_s:.5g}"),
    }


def _class(event: Event) -> str:
    if event.stream != STREAMS[0]:
        return "wire"
    word = event.name.partition(" ")[0]
    if "+" in event.name:
        return "both ways"
    kinds = {
        "forward": "forward",
        "backward": "backward",
        "input": "backward",
        "weight": "weights' gradients",
    }
    return kinds.get(word, "optimizer, waiting")
