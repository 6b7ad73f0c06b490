"""What is read out of a reply, and what makes it no document."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from baiwen.data.generate.drafts import Draft
from baiwen.data.generate.forms import PARTS, Format, formed, read
from baiwen.data.generate.prompts import Prompt, Seed
from baiwen.endpoint import Reply

PROSE = (
    "A prism parts white light into its colours, because glass bends blue light more than red. "
    "Newton showed in 1666 that a second prism joins the colours to white again, so that they "
    "had been in the light from the start. Rain does the same to the light of the sun."
)
CHINESE = (
    "三棱镜把白光分成各种颜色，因为玻璃使蓝光比红光偏折得更多。"
    "牛顿证明第二块棱镜能把颜色重新合成白光。"
)
ASKED = f"问：为什么？\n答：{CHINESE}\n问题2：谁？\n答案2：{CHINESE}"
QUESTIONS = f"Question: What does a prism do?\nAnswer: {PROSE}\n\nQuestion: Who?\nAnswer: Newton."
PROBLEM = {
    "problem": "Three prisms cost 12 pounds. What do five cost? " * 2,
    "solution": "One costs 12 / 3 = 4 pounds, so five cost 5 * 4 = 20 pounds. " * 2 + "\\boxed{20}",
}
EXERCISE = {
    "exercise": "Write `double`, which gives twice a number, be it whole, negative or a fraction.",
    "program": "def double(number):\n    return 2 * number",
    "tests": "assert double(1) == 2\nassert double(-3) == -6\nassert double(0.5) == 1.0\n" * 2,
}


def marked(parts):
    return "\n".join(f"<{name}>\n{part}\n</{name}>" for name, part in parts.items())


def draft(form="text", text=PROSE, cut=False, language="en", **parts):
    prompt = Prompt(name="mine", form=form, language=language, text="{document}")
    return Draft(
        prompt, Seed("id"), [], {}, Reply(text, cut=cut), "m", parts=parts or {"text": text}
    )


def rule(*made, **knobs):
    [found] = formed(made, Format(**knobs))
    return found.verdict and found.verdict.rule


def test_parts_stand_between_their_marks_whatever_is_around_them():
    reply = f"Sure!\n{marked(PROBLEM)}\nLet me know if it helps."
    assert read("problem", reply) == {name: part.strip() for name, part in PROBLEM.items()}
    fenced = {**EXERCISE, "program": f"```python\n{EXERCISE['program']}\n```"}
    found = read("exercise", marked(fenced))
    assert found == {name: part.strip() for name, part in EXERCISE.items()}


def test_a_text_without_marks_is_all_of_the_reply_and_other_forms_are_unreadable():
    assert read("text", f" {PROSE}\n") == {"text": PROSE}
    assert read("problem", "<problem>2 + 2?</problem> It is 4.") is None
    assert read("exercise", marked({**EXERCISE, "tests": ""})) is None
    assert read("text", "<text> </text>") is None is read("questions", "\n")


@given(some.sampled_from(sorted(PARTS)), some.text())
def test_no_reply_makes_the_reader_raise(form, text):
    found = read(form, text)
    assert found is None or (list(found) == list(PARTS[form]) and all(found.values()))


@pytest.mark.parametrize(
    "good",
    [
        draft(),
        draft(text=CHINESE * 4 + PROSE[:9], language="zh"),
        draft("questions", QUESTIONS),
        draft("questions", ASKED, language="zh"),
        draft("problem", **PROBLEM),
        draft("exercise", **EXERCISE),
    ],
)
def test_what_keeps_to_its_form_is_a_document(good):
    assert rule(good, least_characters=50, least_distinct=0.2) is None


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (draft(cut=True), "cut off"),
        (draft(text="A prism."), "too short"),
        (draft(text=f"I'm sorry, but I can't help with that. {PROSE}"), "a refusal"),
        (draft(text=f"{PROSE} As an AI language model, I have no eyes."), "a refusal"),
        (draft(text=f"作为一个人工智能，我不能这样做。{CHINESE * 4}", language="zh"), "a refusal"),
        (draft(text=f"Sure, {PROSE}"), "speaks to who asked"),
        (draft(text=f"Here is the rewritten text:\n{PROSE}"), "speaks to who asked"),
        (draft(text=f"{PROSE} Let me know if you want more."), "speaks to who asked"),
        (draft(text=f"好的，{CHINESE * 4}", language="zh"), "speaks to who asked"),
        (draft(text=f"{PROSE} [insert example]"), "a place left open"),
        (draft(text=f"{PROSE} {{document}}"), "a place left open"),
        (draft(text=f"<text>{PROSE}"), "a place left open"),
        (draft(text=f"{PROSE} " * 4), "repeats itself"),
        (draft(text=CHINESE * 4), "another language"),
        (draft(text=PROSE, language="zh"), "another language"),
        (draft("questions", f"Question: Who?\nAnswer: Newton. {PROSE}"), "too few questions"),
        (draft("problem", **{**PROBLEM, "solution": "It is 20. " * 9}), "no final answer"),
        (draft("exercise", **{**EXERCISE, "program": "def double(number) return"}), "no program"),
        (draft("exercise", **{**EXERCISE, "tests": "assert double(1) == 2"}), "too few tests"),
        (
            draft("exercise", **{**EXERCISE, "tests": "assert double(1 ==" + 99 * "="}),
            "too few tests",
        ),
    ],
)
def test_what_does_not_is_refused_with_the_reason(bad, why):
    least = {"repeats itself": 0.6}.get(why, 0.2)
    assert rule(bad, least_characters=150, least_distinct=least) == why


def test_names_in_brackets_of_a_program_or_a_link_are_no_places_left_open():
    program = "def double(number):\n    d = {'x': [name for name in 'ab']}\n    return number * 2"
    assert rule(draft("exercise", **{**EXERCISE, "program": program}), least_distinct=0.2) is None
    assert (
        rule(draft(text=f"{PROSE} See [your guide](guide.html); ages[name] is a number.")) is None
    )


def test_prose_that_speaks_of_its_subject_is_no_aside():
    text = f"The office was closed. {PROSE} Of course the light of the sun is white. " * 1
    assert rule(draft(text=text)) is None


def test_what_was_measured_stands_beside_the_reason():
    [found] = formed([draft(text="A prism.")], Format())
    assert found.verdict == ("format", "too short", 8, 200)


def test_an_exercise_is_written_as_a_program_that_python_reads():
    [found] = formed([draft("exercise", **EXERCISE)], Format(least_distinct=0))
    assert found.text.startswith("# Write `double`")
    compile(found.text, "exercise", "exec")
