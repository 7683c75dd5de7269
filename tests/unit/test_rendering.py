"""Message templates: fields, fallbacks, spintax, and everything that only looks like one."""

import contextlib
import subprocess
import sys
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siaran.errors import Invalid
from siaran.rendering import check_template, render


def say(text: str, *, name: str = "Aminah", phone: str = "60123456789", niche: str = "EXSTART", seed: int = 1) -> str:
    return render(text, name=name, phone=phone, niche=niche, seed=seed)


def test_fields_are_filled_in_whatever_their_case_and_spacing():
    assert say("Hi {{name}} ({{ Phone }}), {{NICHE}}!") == "Hi Aminah (60123456789), EXSTART!"


def test_a_fallback_stands_in_for_an_empty_field_only():
    assert say("Hi {{name|friend}}", name="  ") == "Hi friend"
    assert say("Hi {{name|dear friend}}") == "Hi Aminah"
    assert say("Hi {{name}}!", name="") == "Hi !"


def test_a_choice_is_stable_for_a_seed_and_uses_every_option_evenly():
    assert len({say("{Hi|Hello|Salam} {{name}}", seed=7) for _ in range(20)}) == 1
    picked = Counter(say("{Hi|Hello|Salam}", seed=seed) for seed in range(3_000))
    assert set(picked) == {"Hi", "Hello", "Salam"}
    assert min(picked.values()) > 900


def test_two_choices_of_one_message_are_independent():
    pairs = Counter(say("{a|b}{c|d}", seed=seed) for seed in range(4_000))
    assert set(pairs) == {"ac", "ad", "bc", "bd"}
    assert min(pairs.values()) > 850


def test_choices_nest_and_hold_fields():
    said = {say("{Hi {{name|friend}}|{Good {morning|evening}|Salam}}!", seed=seed) for seed in range(200)}
    assert said == {"Hi Aminah!", "Good morning!", "Good evening!", "Salam!"}


def test_a_choice_may_leave_a_word_out():
    assert {say("{|very }good", seed=seed) for seed in range(50)} == {"good", "very good"}


def test_braces_directly_inside_braces_are_choices_unless_they_name_a_field():
    assert {say("{{a|b}|c}", seed=seed) for seed in range(100)} == {"a", "b", "c"}
    assert {say("{c|{a|b}}", seed=seed) for seed in range(100)} == {"a", "b", "c"}
    assert {say("{{{name}}|you}", seed=seed) for seed in range(100)} == {"Aminah", "you"}


@pytest.mark.parametrize(
    "text",
    ["{", "}", "}{", "a { b | c", "a | b", "{}", "{{}}", "{{ }}", "{name}", '{"price": 10}', "{{{", "}}", "x} y {z", "{a{b}c}"],
)
def test_a_brace_that_is_no_template_stays_as_it_is(text):
    check_template(text)
    assert say(text) == text


def test_a_choice_beside_a_stray_brace_still_works():
    assert say("{ {a|a}") == "{ a"
    assert say("{a|a} }") == "a }"


def test_what_a_recipient_is_called_is_never_read_as_template():
    assert say("Hi {{name}}", name="{x|y} {{phone}}") == "Hi {x|y} {{phone}}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Hi {{nama}}", "{{nama}}"),
        ("{Hi|Hello {{first name|you}}}", "{{first name|you}}"),
        ("{{name.first}}", "{{name.first}}"),
    ],
)
def test_an_unknown_field_is_refused_by_name(text, shown):
    with pytest.raises(Invalid) as caught:
        check_template(text)
    assert [error.field for error in caught.value.errors] == ["message"]
    assert shown in caught.value.detail
    assert "{{name}}, {{phone}}, {{niche}}" in caught.value.detail


def test_choices_nested_too_deep_are_refused():
    with pytest.raises(Invalid, match="50 deep"):
        check_template("{a|" * 51 + "b" + "}" * 51)
    check_template("{a|" * 50 + "b" + "}" * 50)


@given(st.text(alphabet="{}|ab \n", max_size=60), st.integers(min_value=0, max_value=2**63))
def test_any_text_renders_the_same_again_also_one_that_a_save_refuses(text, seed):
    assert render(text, name="n", phone="1", niche="", seed=seed) == render(text, name="n", phone="1", niche="", seed=seed)


@pytest.mark.parametrize("deep", [51, 1_000, 10_000])
def test_choices_that_were_stored_too_deep_end_as_text_at_the_claim(deep):
    said = say("{a|" * deep + "b" + "}" * deep, seed=3)
    assert said.strip("{a|b}") == ""
    assert say("Hi {{nama|friend}}") == "Hi {{nama|friend}}"


@given(st.text(max_size=80).filter(lambda text: "{" not in text))
def test_a_text_without_an_opening_brace_is_left_alone(text):
    assert say(text) == text


@pytest.mark.parametrize(
    "text", ["{" * 60_000, "{a" * 30_000 + "}" * 30_000, "{a|b}" * 12_000, "{{" + " " * 60_000, "{{x|" * 15_000]
)
def test_a_hostile_template_costs_no_more_than_its_length(text):
    started = time.perf_counter()
    with contextlib.suppress(Invalid):
        check_template(text)
    assert time.perf_counter() - started < 2


def test_the_same_words_are_picked_in_another_process():
    code = "from siaran.rendering import render; print(render('{a|b|c}{d|e|f}', name='', phone='', niche='', seed=123456789))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert other == say("{a|b|c}{d|e|f}", seed=123456789)


def test_rendering_is_fast_enough_to_be_done_per_message():
    text = "{Hi|Hello|Salam} {{name|friend}}, {{niche}}: {great|good {news|deals}} for you. " * 3
    say(text)
    started = time.perf_counter()
    for seed in range(2_000):
        say(text, seed=seed)
    assert time.perf_counter() - started < 1
