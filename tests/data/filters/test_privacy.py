import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baiwen.data.filters import privacy
from baiwen.data.filters.privacy import Privacy, mask, masked

TOKEN = "a1B2" * 10
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----"
PRIVATE = {
    "emails": ["ann@corp.com", "bob.x+y@mail.example.co.uk", "o'neil@uni-a.edu"],
    "ips": ["8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001:82a:0:0:0:200e"],
    "phones": ["+49 30 1234567", "+1 (415) 555-2671", "(415) 555-2671", "415-555-2671"],
    "secrets": [f"ghp_{TOKEN}", "AKIAIOSFODNN7EXAMPLE", f"sk-{TOKEN}", f"hf_{TOKEN}", KEY],
}
HARMLESS = [
    "10.0.0.1 and 127.0.0.1, 192.168.1.1, fe80::1, ::1 and ::",
    "version 1.2.3.4.5, 300.1.2.3, std::vector, 12:30:45, a::b",
    "@decorator, a @ b, user@localhost, git@",
    "on 2024-01-15 ISBN 978-3-16-148410-0, 1234567890, +5 -3, 3-555-2671",
    'password = "correcthorsebatterystaple", token: "xxxxxxxxxxxxxxxxxxxx"',
    "sk-learn, key-value, hf_hub, AKIA",
]


PAIRS = [(kind, one) for kind, some in PRIVATE.items() for one in some]


@pytest.mark.parametrize(("kind", "found"), PAIRS)
def test_what_is_private_is_masked_and_counted(kind, found):
    text, counts = masked(f"Write to {found}, or not.", Privacy())
    assert found not in text
    assert text.startswith("Write to ")
    assert text.endswith(", or not.")
    assert counts == {**dict.fromkeys(counts, 0), kind: 1}


@pytest.mark.parametrize("text", HARMLESS)
def test_what_identifies_nobody_stays(text):
    assert masked(text, Privacy())[0] == text


def test_a_secret_is_known_by_its_name_where_it_looks_random():
    text, counts = masked('{"api_key": "9fA3kd83jd83JD8d93"}', Privacy())
    assert text == '{"api_key": "<SECRET>"}'
    assert counts["secrets"] == 1


def test_masks_are_taken_in_turn_from_the_beginning_of_each_text():
    three = "a@b.com c@d.com e@f.com"
    want = "email@example.com firstname.lastname@example.org email@example.com"
    assert [masked(three, Privacy())[0] for _ in range(2)] == [want, want]


def test_private_addresses_are_masked_where_asked_for():
    assert masked("10.0.0.1", Privacy(public_only=False))[0] == privacy.IPV4[0]


@pytest.mark.parametrize("kind", PRIVATE)
def test_each_kind_can_be_switched_off(kind):
    text = " ".join(PRIVATE[kind])
    assert masked(text, Privacy(**{kind: False}))[0] == text


PIECES = st.sampled_from([*(one for _, one in PAIRS), *HARMLESS])


@given(st.lists(PIECES | st.text(max_size=9)))
def test_masked_text_holds_nothing_to_mask(pieces):
    text, _ = masked("\n".join(pieces), Privacy())
    again, counts = masked(text, Privacy())
    assert again == text
    assert counts.total() == 0
    for _, private in PAIRS:
        assert f"\n{private}\n" not in f"\n{text}\n"


def test_the_step_gives_texts_that_changed_and_counts():
    table = pa.table({"text": pa.array(["a@b.com 8.8.8.8", "nothing"], pa.large_string())})
    found = mask(table, Privacy())
    assert found["text"].to_pylist() == ["email@example.com 22.214.171.124", None]
    assert found.select(privacy.COUNTED).to_pylist() == [
        {"secrets": 0, "emails": 1, "ips": 1, "phones": 0},
        {"secrets": 0, "emails": 0, "ips": 0, "phones": 0},
    ]


KEY = "-----BEGIN RSA PRIVATE KEY-----"


def test_a_word_on_private_keys_does_not_take_the_rest_of_the_text_with_it():
    text = f"Look for {KEY} in the files. " + "Then go on with the article. " * 9
    assert masked(text, Privacy())[0] == text.replace(KEY, "<SECRET>")


@pytest.mark.parametrize("line", ["\n", "\\n", "\r\n  "])
def test_a_private_key_that_is_cut_off_goes_as_far_as_it_is_there(line):
    key = line.join([KEY, "MIIEpAIBAAKCAQEA" * 4, "q83vEjRWeJCrze/8" * 4, "Zm9vYmFyYmF6cXV4cQ=="])
    assert masked(f"{key}\nand so on", Privacy())[0] == "<SECRET>\nand so on"
