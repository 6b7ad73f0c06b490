"""The asynchronous front: many readers, one engine, nobody waits for another."""

import asyncio
import threading
import time
from contextlib import aclosing
from dataclasses import replace

import pytest
import torch

from baiwen.engine.front import Front
from baiwen.engine.sampler import Sampling
from baiwen.engine.submission import Closed, EngineFailed, QueueFull, TooSlow
from baiwen.errors import UserError

NEVER = Sampling(max_tokens=12, stop_ids=())
LONG = replace(NEVER, max_tokens=900)
PROMPTS = ["hello", "hello world, this is a text", "你好", "1 + 1 ="]


async def read(submission):
    """The texts and ids of each sample."""
    texts, ids = {}, {}
    async for delta in submission:
        texts[delta.sample] = texts.get(delta.sample, "") + delta.text
        ids.setdefault(delta.sample, []).extend(token.id for token in delta.tokens)
    return list(texts.values()), list(ids.values())


async def until(holds, seconds=5.0):
    due = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < due, "it never came true"
        await asyncio.sleep(0.002)


def free(engine):
    return engine.pool.available == engine.pool.total and not engine.unfinished


def test_many_readers_get_what_the_engine_alone_gives(build):
    sampling = replace(NEVER, temperature=1.0, seed=4, n=2)
    alone = [[done.ids for done in build().generate([prompt], sampling)] for prompt in PROMPTS]

    async def run():
        async with Front(build()) as front:
            submissions = [await front.submit(prompt, sampling) for prompt in PROMPTS]
            return await asyncio.gather(*map(read, submissions))

    assert [ids for _, ids in asyncio.run(run())] == alone


def test_a_submission_knows_its_prompt_and_what_was_cached(build):
    async def run():
        engine = build()
        async with Front(engine) as front:
            prompt = engine.ids("hello world " * 6)
            await read(await front.submit(prompt, NEVER))
            again = await front.submit(prompt, NEVER)
            await read(again)
            scored = await front.submit(prompt, replace(NEVER, prompt_logprobs=0))
            await read(scored)
            assert again.prompt == prompt
            assert again.cached_tokens == (len(prompt) - 1) // 16 * 16
            assert [token.id for token in scored.prompt_tokens] == prompt
            assert front.stats()["cached_tokens"] == again.cached_tokens

    asyncio.run(run())


def test_a_prompt_that_cannot_be_answered_is_refused_to_its_sender_alone(build):
    async def run():
        async with Front(build()) as front:
            other = await front.submit("hello", NEVER)
            with pytest.raises(UserError, match="too many"):
                await front.submit([5] * 2000, NEVER)
            assert len((await read(other))[1][0]) == 12

    asyncio.run(run())


def test_more_than_may_wait_are_turned_away(build):
    async def run():
        engine = build()
        with hold(engine) as held:
            async with Front(engine, max_waiting=3) as front:
                waiting = [await front.submit("hello", NEVER) for _ in range(3)]
                with pytest.raises(QueueFull):
                    await front.submit("hello", NEVER)
                held.go.set()
                await asyncio.gather(*map(read, waiting))
                await read(await front.submit("hello", NEVER))

    asyncio.run(run())


class hold:
    """No step is made until the event is set; `begun` tells that one would be."""

    def __init__(self, engine):
        self.engine, self.step = engine, engine.step
        self.go, self.begun = threading.Event(), threading.Event()

    def __enter__(self):
        def step():
            self.begun.set()
            assert self.go.wait(10)
            return self.step()

        self.engine.step = step
        return self

    def __exit__(self, *_):
        self.go.set()


def test_a_reader_that_leaves_frees_its_blocks(build):
    async def run():
        engine = build()
        async with Front(engine) as front:
            submission = await front.submit("hello", LONG)
            async with aclosing(submission):
                async for _ in submission:
                    break
            await until(lambda: free(engine))
            assert [delta async for delta in submission] == []
            never_read = await front.submit("hello", LONG)
            never_read.cancel()
            never_read.cancel()
            await until(lambda: free(engine))

    asyncio.run(run())


def test_a_timeout_while_waiting_loses_nothing(build):
    async def run():
        engine = build()
        with hold(engine) as held:
            async with Front(engine) as front:
                submission = await front.submit("hello", NEVER)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(submission), 0.02)
                held.go.set()
                return await read(submission)

    assert len(asyncio.run(run())[1][0]) == 12


def test_the_event_loop_goes_on_while_the_model_computes(build):
    async def run():
        engine = build()
        with hold(engine) as held:
            async with Front(engine) as front:
                submission = await front.submit("hello", NEVER)
                await until(held.begun.is_set)
                begun = time.monotonic()
                for _ in range(20):
                    await asyncio.sleep(0.001)
                assert time.monotonic() - begun < 2  # the step under way would take ten seconds
                held.go.set()
                await read(submission)

    asyncio.run(run())


def test_a_reader_that_does_not_read_is_dropped_and_told_so_and_holds_up_nobody(build):
    async def run():
        engine = build()
        async with Front(engine, buffer=20) as front:
            stalled = await front.submit("hello", LONG)
            good = await read(await front.submit("1 + 1 =", replace(NEVER, max_tokens=100)))
            assert len(good[1][0]) == 100
            await until(lambda: free(engine))
            with pytest.raises(TooSlow, match="more than 20"):
                await read(stalled)

    asyncio.run(run())


def test_who_waits_when_it_stops_is_told_so_and_so_is_who_comes_later(build):
    async def run():
        engine = build()
        with hold(engine) as held:
            front = Front(engine)
            await front.start()
            running = await front.submit("hello", LONG)
            stopping = asyncio.create_task(front.stop())
            with pytest.raises(Closed):
                await read(running)
            with pytest.raises(Closed):
                await front.submit("hello", NEVER)
            held.go.set()
            await stopping
            assert free(engine)

    asyncio.run(run())


def test_an_engine_that_fails_tells_everyone(build):
    async def run():
        engine = build()

        def fail(_chunks):
            raise ArithmeticError("out of numbers")

        engine.runner.run = fail
        with hold(engine) as held:
            async with Front(engine) as front:
                waiting = [await front.submit("hello", NEVER) for _ in range(2)]
                await until(held.begun.is_set)
                asked = asyncio.create_task(front.embed(PROMPTS))
                await until(lambda: front._jobs)
                held.go.set()
                for submission in waiting:
                    with pytest.raises(EngineFailed, match="out of numbers") as told:
                        await read(submission)
                    assert isinstance(told.value.__cause__, ArithmeticError)
                for late in (asked, front.submit("hello", NEVER)):
                    with pytest.raises(EngineFailed):
                        await late
                assert isinstance(front.failure, ArithmeticError)

    asyncio.run(run())


def test_embeddings_come_between_steps(build):
    async def run():
        engine = build(step_tokens=16)
        async with Front(engine) as front:
            running = asyncio.create_task(read(await front.submit("hello", NEVER)))
            found = await front.embed(PROMPTS, "last")
            await running
            return found

    torch.testing.assert_close(asyncio.run(run()), build().embed(PROMPTS, "last"))


def test_embeddings_without_end_hold_no_answer_up(build):
    """However many ask for embeddings, a step is made after each batch of one of them."""

    async def run():
        engine = build(step_tokens=16)
        steps, batches = [], []
        step, embed = engine.step, engine.embed
        engine.step = lambda: steps.append(len(batches)) or step()
        engine.embed = lambda *asked: batches.append(len(steps)) or embed(*asked)
        with hold(engine) as held:
            async with Front(engine) as front:
                reading = asyncio.create_task(read(await front.submit("hello", NEVER)))
                await until(held.begun.is_set)
                many = [asyncio.create_task(front.embed(PROMPTS)) for _ in range(5)]
                await until(lambda: len(front._jobs) == 5)
                held.go.set()
                await asyncio.gather(reading, *many)
        assert len(batches) >= 10
        assert max(map(batches.count, range(1, 12))) == 1

    asyncio.run(run())


@pytest.mark.parametrize("fails", [False, True])
def test_an_embedding_whose_worker_has_gone_is_told_so(build, fails):
    async def run():
        front = Front(build())
        await front.start()
        asked = asyncio.create_task(front.embed(PROMPTS))
        await asyncio.sleep(0)  # its prompts are being read
        if fails:
            front._die(ArithmeticError("out of numbers"))
        await front.stop()
        with pytest.raises(EngineFailed if fails else Closed):
            await asyncio.wait_for(asked, 5)

    asyncio.run(run())


def test_an_embedding_that_fails_is_told_to_its_sender_alone(build):
    async def run():
        async with Front(build()) as front:
            with pytest.raises(UserError, match="nothing to embed"):
                await front.embed([])
            assert len((await read(await front.submit("hello", NEVER)))[1][0]) == 12

    asyncio.run(run())


def test_a_thousand_streams_that_break_off_leave_no_block(build):
    async def run():
        engine = build()

        async def leave(front, number):
            submission = await front.submit("hello world " * (number % 5 + 1), LONG)
            async with aclosing(submission):
                for _ in range(number % 3):
                    await anext(submission)

        async with Front(engine, max_waiting=2000) as front:
            await asyncio.gather(*(leave(front, number) for number in range(1000)))
            await until(lambda: free(engine))
            assert len((await read(await front.submit("hello", NEVER)))[1][0]) == 12

    asyncio.run(run())
