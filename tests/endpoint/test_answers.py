"""Many requests, through a model that is a function: order, cache, retries and what ends them."""

from baiwen.endpoint import key


def test_a_request_is_named_by_all_of_its_content():
    messages, sampling = [{"role": "user", "content": "Hi"}], {"temperature": 0.0}
    names = {
        key("m", messages, sampling),
        key("n", messages, sampling),
        key("m", messages, {"temperature": 1.0}),
        key("m", messages, {**sampling, "seed": 1}),
        key("m", [*messages, *messages], sampling),
    }
    assert len(names) == 5 and key("m", messages, sampling) in names
