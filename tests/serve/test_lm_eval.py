"""lm-eval, unmodified, over HTTP: the numbers that the engine gives in the same process."""

import json

import pytest

from baiwen.engine.engine import Engine
from baiwen.engine.sampler import Sampling

lm_eval = pytest.importorskip("lm_eval", reason="needs lm-eval[api]")
pytest.importorskip("aiohttp", reason="needs lm-eval[api]")

from lm_eval.tasks import TaskManager  # noqa: E402

CHOICES = [
    {"question": f"Which city is {word}?", "options": ["Rome", "Oslo", "any time"], "gold": place}
    for place, word in enumerate(["warm", "cold", "now"])
]
QUESTIONS = [{"question": word, "answer": "x"} for word in ("count", "hello", "Rome")]
CHOICE_TASK = """
task: choices
dataset_path: json
dataset_kwargs: {{data_files: {file}}}
test_split: train
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: options
doc_to_target: gold
metric_list: [{{metric: acc}}]
"""
QUESTION_TASK = """
task: questions
dataset_path: json
dataset_kwargs: {{data_files: {file}}}
test_split: train
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: answer
generation_kwargs: {{until: ["7"], max_gen_toks: 24, temperature: 0}}
metric_list: [{{metric: exact_match}}]
"""


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    for name, rows, form in (
        ("choices", CHOICES, CHOICE_TASK),
        ("questions", QUESTIONS, QUESTION_TASK),
    ):
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        (tmp_path / f"{name}.yaml").write_text(form.format(file=file))
    return TaskManager(include_path=str(tmp_path), include_defaults=False)


def samples(tasks, task, kind, url, **more):
    given = {"model": "tiny", "base_url": url, "num_concurrent": 1, "max_retries": 1, **more}
    told = lm_eval.simple_evaluate(
        model=kind,
        model_args=given,
        tasks=[task],
        task_manager=tasks,
        bootstrap_iters=0,
        apply_chat_template=kind == "local-chat-completions",
    )
    return told["samples"][task]


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 4])
def test_likelihoods_are_those_of_the_engine(served, folder, model, tokenizer, tasks, batch_size):
    found = samples(
        tasks,
        "choices",
        "local-completions",
        f"{served.url}/v1/completions",
        tokenizer=str(folder),
        tokenizer_backend="huggingface",
        batch_size=batch_size,
    )
    engine = Engine(model, tokenizer)
    for sample in found:
        question = tokenizer.encode(sample["doc"]["question"])
        for option, (logprob, greedy) in zip(
            sample["doc"]["options"], [pair[0] for pair in sample["resps"]], strict=True
        ):
            ids = tokenizer.encode(f"{sample['doc']['question']} {option}")
            scored = engine.generate([ids], Sampling(max_tokens=0, prompt_logprobs=1))[0].prompt
            tail = scored[len(question) :]
            right = sum(token.logprob for token in tail)
            assert float(logprob) == pytest.approx(right, rel=1e-4, abs=1e-4)
            assert str(greedy) == str(all(token.top[0][0] == token.id for token in tail))


@pytest.mark.slow
def test_texts_are_those_of_the_engine(served, folder, model, tokenizer, tasks):
    engine, sampling = Engine(model, tokenizer), Sampling(max_tokens=24, stop=("7",))
    completions = samples(
        tasks,
        "questions",
        "local-completions",
        f"{served.url}/v1/completions",
        tokenizer=str(folder),
        tokenizer_backend="huggingface",
    )
    prompts = [tokenizer.encode(sample["doc"]["question"]) for sample in completions]
    right = [done.text for done in engine.generate(prompts, sampling)]
    assert [sample["resps"][0][0] for sample in completions] == right
    chats = samples(
        tasks, "questions", "local-chat-completions", f"{served.url}/v1/chat/completions"
    )
    turns = [[{"role": "user", "content": sample["doc"]["question"]}] for sample in chats]
    right = [done.text for done in engine.generate(turns, sampling)]
    assert [sample["resps"][0][0] for sample in chats] == right
