"""Who is computed when: decodes first, prompts in turn, nothing lost on the way."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from baiwen.engine.engine import Engine
from baiwen.engine.sampler import Sampling

NEVER = Sampling(max_tokens=8, stop_ids=())


def plan(engine):
    """The next step's chunks by request, without guesses."""
    chunks = engine.scheduler.step()
    for chunk in chunks:
        engine.scheduler.computed(chunk.sample, chunk.count)
        if not chunk.sample.pending:
            chunk.sample.ids.append(7)  # as if it had been chosen
    return [(chunk.sample.request.number, chunk.count) for chunk in chunks]


def test_a_short_prompt_does_not_wait_for_a_long_one(build):
    engine = build(step_tokens=16, prefix_cache=False)
    engine.add([5] * 100, NEVER)
    assert plan(engine) == [(0, 16)]
    engine.add([5] * 6, NEVER)
    assert plan(engine) == [(0, 10), (1, 6)]


def test_a_long_prompt_gets_half_however_many_short_ones_come(build):
    engine = build(step_tokens=16, prefix_cache=False)
    engine.add([5] * 60, NEVER)
    steps = 0
    while engine.scheduler.running == [] or engine.scheduler.running[0].pending > 1:
        for _ in range(3):
            engine.add([6] * 8, replace(NEVER, max_tokens=1))
        given = dict(plan(engine))
        for sample in [one for one in engine.scheduler.running if one.answered]:
            if sample.request.number:
                engine.scheduler.remove(sample)
        steps += 1
        assert given[0] >= 8 or engine.scheduler.running[0].pending == 1
    assert steps <= 60 // 8 + 1


def test_answers_go_on_while_a_prompt_is_read(build):
    engine = build(step_tokens=16, prefix_cache=False)
    engine.add([5] * 4, NEVER)
    plan(engine)
    engine.add([6] * 40, NEVER)
    assert [plan(engine) for _ in range(3)] == [
        [(0, 1), (1, 15)],
        [(0, 1), (1, 15)],
        [(0, 1), (1, 10)],
    ]


def test_no_step_has_more_tokens_than_its_budget(build):
    engine = build(step_tokens=20, sequences=6, lookup=4)
    for length in (3, 50, 17, 9, 33, 2, 40):
        engine.add([5, 6] * length, replace(NEVER, n=2))
    while engine.unfinished:
        run, sizes = engine.runner.run, []

        def counted(chunks, run=run, sizes=sizes):
            sizes.append(sum(len(chunk.tokens) for chunk in chunks))
            return run(chunks)

        engine.runner.run = counted
        engine.step()
        engine.runner.run = run
        assert sizes == [] or 0 < sizes[0] <= 20


def test_who_came_last_is_preempted_and_comes_back_before_who_came_later(build):
    engine = build(cache_tokens=48, prefix_cache=False)
    for token in (5, 6):
        engine.add([token] * 14, replace(NEVER, max_tokens=30))
    plan(engine)
    assert [one.request.number for one in engine.scheduler.running] == [0, 1]
    engine.add([7] * 30, NEVER)
    for _ in range(4):
        plan(engine)
    assert engine.stats()["preemptions"] == 1
    assert [one.request.number for one in engine.scheduler.running] == [0]
    assert [one.request.number for one in engine.scheduler.waiting] == [1, 2]


def test_writing_into_a_shared_block_copies_it(build):
    engine = build()
    request = engine.add([5] * 20, replace(NEVER, n=3, temperature=1.0))
    engine.step()
    tables = [sample.table.tolist() for sample in request.samples]
    assert tables[0] == tables[1] == tables[2]
    engine.step()
    tables = [sample.table.tolist() for sample in request.samples]
    assert len({table[0] for table in tables}) == 1
    assert len({table[1] for table in tables}) == 3


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 60), st.integers(1, 4), st.booleans()),
        st.tuples(st.just("step"), st.integers(1, 6)),
        st.tuples(st.just("cancel"), st.integers(0, 9)),
        st.tuples(st.just("reset")),
    ),
    max_size=14,
)


@pytest.mark.parametrize("knobs", [{}, {"prefix_cache": False}, {"lookup": 3}])
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(events=EVENTS)
def test_whatever_happens_all_blocks_come_back(model, tokenizer, knobs, events):
    engine = Engine(model, tokenizer, cache_tokens=144, step_tokens=24, sequences=4, **knobs)
    sampling = Sampling(max_tokens=9, temperature=1.0, seed=0, top_p=0.9)
    requests = []
    for kind, *values in events:
        if kind == "add":
            length, n, alike = values
            prompt = [5] * length if alike else [(length * 7 + i) % 250 for i in range(length)]
            requests.append(engine.add(prompt, replace(sampling, n=n)))
        elif kind == "step":
            for _ in range(values[0]):
                engine.step()
        elif kind == "cancel" and requests:
            engine.cancel(requests[values[0] % len(requests)])
        elif kind == "reset":
            engine.reset_cache()
        held = [block for one in engine.scheduler.running for block in one.table]
        assert [held.count(block) for block in range(engine.pool.total)] == engine.pool.holders
    steps = 0
    while engine.unfinished:
        engine.step()
        steps += 1
        assert steps < 1000
    assert engine.pool.holders == [0] * engine.pool.total
    assert engine.pool.available == engine.pool.total and not engine.scheduler._due
    assert not engine.scheduler.running and not engine.scheduler.waiting
