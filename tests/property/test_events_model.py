"""What is true of the events of any conversation, in any batches: a model follows each flow by what is told of it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomos import App, Budgets, Event, Flow, Half, Hook, Level, Occurrence, Packet, Settings, State
from aiomos.testing.scenario import Conversation, Frame, merge
from tests.events import PLACES, WORDS, play
from tests.scenarios.test_any_segments import SCRIPTS, TIMEOUTS
from tests.scenarios.test_any_segments import play as script_frames

PHASES = [
    {"raw"},
    {"<in", "<start", "<state"},
    {"error"},
    {"rexmit", "error"},
    {"in"},
    {"start"},
    {"state"},
    {"setup"},
    {"out"},
    {"error"},
]
"""Events of one segment of a flow, in their order; those of a line come in any."""


@attrs.define
class Story:
    """What the model knows of a flow."""

    told: Counter[str] = attrs.field(factory=Counter)
    data: dict[str, list[tuple[int, int]]] = attrs.field(factory=lambda: {"client": [], "server": []})
    states: dict[str, State] = attrs.field(factory=lambda: {"client": State.LISTEN, "server": State.LISTEN})
    phase: int = 0
    ended: bool = False
    packets: int = 0


class Model:
    """Follows all flows of a run and checks each event against what came before."""

    def __init__(self) -> None:
        self.app: App[None] = App("model")
        self.log: list[tuple[Any, ...]] = []
        self.stories: list[Story] = []
        for event, hook in PLACES:
            self.app.on(event, hook=hook, midstream=True, level=Level.STREAM)(self._taker(event, hook))

    def _taker(self, event: Event, hook: Hook) -> Any:
        word = WORDS.get(
            (event, hook), "<state" if hook is Hook.SENDER else event.value.removesuffix("_change")
        )

        def take(
            pkt: Packet | None, flow: Flow | None, half: Half | None, side: str, event: Occurrence
        ) -> None:
            self.log.append(
                (
                    *(
                        word,
                        side,
                        event.time,
                        event.kind,
                        event.offset,
                        event.length,
                        event.before,
                        event.after,
                    ),
                    flow.key if flow is not None else None,
                )
            )
            if flow is not None and half is not None:
                if not isinstance(flow.ctx, Story):
                    flow.ctx = Story()
                    self.stories.append(flow.ctx)
                self._follow(flow.ctx, word, pkt, flow, half, event)

        return take

    def _follow(
        self, story: Story, word: str, pkt: Packet | None, flow: Flow, half: Half, event: Occurrence
    ) -> None:
        assert not story.ended, "CONN_TEARDOWN is the last event of a flow"
        story.told[word] += 1
        if word == "<in":
            story.phase = 1
        if (pkt is not None and event.kind is None) or word == "rexmit":
            at = next((n for n in range(story.phase, len(PHASES)) if word in PHASES[n]), None)
            assert at is not None, f"{word} after phase {story.phase}"
            story.phase = at
        match word:
            case "conn_teardown":
                story.ended = True
                story.packets = flow.client.packets + flow.server.packets
                self.check_end(story, flow)
            case "conn_new_data":
                assert event.offset is not None
                assert event.length is not None
                parts = story.data[half.name]
                assert not parts or event.offset >= parts[-1][1]
                parts.append((event.offset, event.offset + event.length))
                assert half.peek(event.offset, 1)
            case "state":
                assert event.before is story.states[half.name]
                assert event.after is half.state
                story.states[half.name] = half.state

    @staticmethod
    def check_end(story: Story, flow: Flow) -> None:
        """Check what is true of a flow once all of it has been told."""
        told = story.told
        assert told["conn_teardown"] == 1
        assert told["start"] <= 1
        assert told["setup"] <= 1
        assert told["setup"] <= flow.established
        assert told["<start"] == told["start"]
        assert told["<in"] == told["in"] == told["out"]
        for half in (flow.client, flow.server):
            assert story.states[half.name] is half.state


def run(frames: list[Frame], *, batch: int | None, settings: Settings) -> Model:
    model = Model()
    play(frames, model.app, batch=batch, settings=settings)
    assert all(story.ended for story in model.stories)
    return model


@settings(max_examples=100)
@given(script=SCRIPTS, handshake=st.booleans(), batch=st.integers(1, 9))
def test_events_of_any_segments_fit_the_model(
    script: list[dict[str, Any]], handshake: bool, batch: int
) -> None:
    """Phases in order, one beginning and one end a flow, data in order, states that join; in batches of any size."""
    frames = script_frames(script, handshake=handshake).frames
    limits = Settings(timeouts=TIMEOUTS, on_error="raise")
    one, some, all_ = (run(frames, batch=size, settings=limits) for size in (1, batch, None))

    def without_data(model: Model) -> list[tuple[Any, ...]]:
        return [entry for entry in model.log if entry[0] != "conn_new_data"]

    def covered(model: Model) -> list[tuple[Any, ...]]:
        return [
            (side, *stretch)
            for story in model.stories
            for side in story.data
            for stretch in joined(story, side)
        ]

    assert without_data(one) == without_data(some) == without_data(all_)
    assert covered(one) == covered(some) == covered(all_)


def joined(story: Story, side: str) -> list[tuple[int, int]]:
    """Stretches of new data, those that adjoin as one."""
    out: list[tuple[int, int]] = []
    for start, end in story.data[side]:
        if out and out[-1][1] == start:
            out[-1] = (out[-1][0], end)
        else:
            out.append((start, end))
    return out


@settings(max_examples=60)
@given(scripts=st.lists(SCRIPTS, min_size=2, max_size=5), flows=st.integers(1, 3))
def test_events_at_the_budget_fit_the_model(scripts: list[list[dict[str, Any]]], flows: int) -> None:
    """Evicted flows have their end, too."""
    c = [
        script_frames(script, handshake=True, client=f"10.0.0.1:{i + 1}") for i, script in enumerate(scripts)
    ]
    limits = Settings(budgets=Budgets(flows=flows, held_bytes_half=8192), timeouts=TIMEOUTS, on_error="raise")
    model = run(merge(*c), batch=3, settings=limits)
    assert sum(story.told["conn_teardown"] for story in model.stories) == len(model.stories)


@settings(max_examples=100)
@given(
    cuts=st.lists(st.tuples(st.booleans(), st.integers(1, 20)), min_size=1, max_size=15),
    batch=st.integers(1, 9),
)
def test_new_data_covers_the_stream(cuts: list[tuple[bool, int]], batch: int) -> None:
    """Contiguous from 0 on, to the last byte."""
    c = Conversation().handshake()
    sent = {"client": 0, "server": 0}
    for client, size in cuts:
        side = "client" if client else "server"
        c.send(side, "PA", bytes(size))
        sent[side] += size
    model = run(c.close().frames, batch=batch, settings=Settings(on_error="raise"))
    (story,) = model.stories
    for side, total in sent.items():
        assert joined(story, side) == ([(0, total)] if total else [])
    assert story.told["in"] == story.packets == len(c.frames)
