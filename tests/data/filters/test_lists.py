import json

import pytest

from baiwen.data import filters
from baiwen.data.filters import lists
from baiwen.errors import UserError


def verdict(meta, **settings):
    off = {rule.__name__: False for rule in filters.ALL}
    found = filters.verdict("a text", {**off, **settings}, meta=json.dumps(meta))
    return found and found.rule


@pytest.mark.parametrize(
    ("meta", "goes"),
    [
        ({"url": "https://ads.example.com/a"}, True),
        ({"url": "http://b.ADS.example.com:80/"}, True),
        ({"url": "http://ads.example.com./"}, True),
        ({"url": "https://example.com/ads.example.com"}, False),
        ({"url": "https://bads.example.com/"}, False),
        ({"source": "https://spam.example/x"}, True),
        ({"source": "notes/spam.example"}, False),
        ({"url": "http://[::1"}, False),
        ({}, False),
    ],
)
def test_hosts_of_the_list_go_with_all_below_them(tmp_path, meta, goes):
    path = tmp_path / "hosts.txt"
    path.write_text("# blocked\nspam.example  # and all below\n\n")
    rule = {"hosts": ["ads.example.com"], "files": [str(path)]}
    assert verdict(meta, blocked_hosts=rule) == ("blocked host" if goes else None)


@pytest.mark.parametrize(
    ("url", "goes"),
    [
        ("https://a.example/Casino/x", True),
        ("https://casino.example/", True),
        ("https://a.example/casinos", False),
    ],
)
def test_words_of_the_list_block_addresses_that_have_them_whole(url, goes):
    found = verdict({"url": url}, blocked_words={"words": ["casino"]})
    assert found == ("blocked words in the address" if goes else None)


def test_more_words_may_be_allowed():
    meta = {"url": "https://a.example/casino/bonus"}
    words = ["casino", "bonus", "win"]
    assert verdict(meta, blocked_words={"words": words, "most": 2}) is None
    assert verdict(meta, blocked_words={"words": words, "most": 1})


@pytest.mark.parametrize(
    ("name", "spdx"),
    [
        ("MIT", "mit"),
        ("The MIT License", "mit"),
        ("Apache License, Version 2.0", "apache-2.0"),
        ("apache 2", "apache-2.0"),
        ("BSD 3-Clause License", "bsd-3-clause"),
        ("New BSD", "bsd-3-clause"),
        ("GNU General Public License v3.0 or later", "gpl-3.0"),
        ("GPLv2+", "gpl-2.0"),
        ("LGPL-2.1-only", "lgpl-2.1"),
        ("GNU Affero General Public License v3", "agpl-3.0"),
        ("CC BY-SA 4.0", "cc-by-sa-4.0"),
        ("Creative Commons Attribution-ShareAlike 4.0 International", "cc-by-sa-4.0"),
        ("https://creativecommons.org/licenses/by/3.0/deed.en", "cc-by-3.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "cc0-1.0"),
        ("CC0", "cc0-1.0"),
        ("Mozilla Public License 2.0", "mpl-2.0"),
        ("PSF-2.0", "psf-2.0"),
        ("Public Domain", "public-domain"),
        ("Unlicense", "unlicense"),
    ],
)
def test_names_of_licences_become_those_of_spdx(name, spdx):
    assert lists.spdx(name) == spdx


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-3.0 OR Apache-2.0 AND MIT", True),
        ("MIT/GPL-2.0", True),
        ("GPL-2.0 AND (MIT OR Apache-2.0)", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-2.0-or-later", False),
        ("proprietary", False),
    ],
)
def test_expressions_are_allowed_by_their_parts(expression, allowed):
    rule = {"allow": ["mit", "Apache 2.0"]}
    found = verdict({"license": expression}, licenses=rule)
    assert found == (None if allowed else "licence not allowed")


def test_documents_without_a_licence_stay_where_the_recipe_says_so():
    assert verdict({}, licenses={"allow": ["MIT"]}) == "no licence"
    assert verdict({}, licenses={"allow": ["MIT"], "unknown": True}) is None


def test_a_list_that_cannot_be_read_is_named():
    with pytest.raises(UserError, match=r"the list nowhere\.txt cannot be read"):
        verdict({}, blocked_hosts={"files": ["nowhere.txt"]})


def test_the_files_of_lists_are_what_verdicts_depend_on():
    settings = {"blocked_hosts": {"files": ["a.txt", "b.txt"]}, "licenses": {"allow": ["MIT"]}}
    assert [str(path) for path in filters.files(settings)] == ["a.txt", "b.txt"]


def test_a_byte_order_mark_is_no_part_of_the_first_entry(tmp_path):
    path = tmp_path / "hosts.txt"
    path.write_text("ads.example.com\n", encoding="utf-8-sig")
    assert lists.entries((), (str(path),)) == {"ads.example.com"}
