"""The packaged seeds: their shape, and every answer that code can check."""

import csv
import io
import itertools
import json
import math
import re
import shutil
import sqlite3
import subprocess
import unicodedata
from collections import Counter
from datetime import datetime
from fractions import Fraction
from importlib.resources import files
from statistics import mean

import pytest
import yaml
from rouge_score.rouge_scorer import RougeScorer

KINDS = {
    "open_writing", "classification", "extraction", "editing", "question_answering", "arithmetic",
    "short_code", "commonsense", "summarising", "comparing", "planning", "formatting",
}  # fmt: skip
BLOCKED = r"\b(images?|graphs?|pictures?|files?|maps?|draw|plots?|go to|videos?|audio|music|flowcharts?|diagrams?)\b"

TEXT = (files("psi") / "data/seeds.jsonl").read_text(encoding="utf-8")
SEEDS = [json.loads(line) for line in TEXT.split("\n")[:-1]]
BY_NAME = {seed["name"]: seed for seed in SEEDS}


def ask(name):
    return BY_NAME[name]["instruction"]


def given(name):
    return BY_NAME[name]["instances"][0]["input"]


def out(name):
    return BY_NAME[name]["instances"][0]["output"]


def names(kind):
    return {seed["name"] for seed in SEEDS if seed["kind"] == kind}


def number(text):
    return Fraction(text.replace(",", ""))


def code(name):
    """The fenced code of an output."""
    return re.search(r"```\w+\n(.*?)```", out(name), re.S)[1]


# ------------------------------------------------------------------ structure


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed["name"])
def test_seed_is_well_formed(seed):
    assert list(seed) == ["id", "kind", "name", "instruction", "instances", "is_classification"]
    assert re.fullmatch(r"[a-z][a-z0-9_]*", seed["name"])
    assert seed["is_classification"] is (seed["kind"] == "classification")
    (instance,) = seed["instances"]
    assert list(instance) == ["input", "output"]
    for text in (seed["instruction"], instance["input"], instance["output"]):
        assert text == text.strip()
    assert 4 <= len(seed["instruction"].split()) <= 60
    assert re.match(r"[A-Z]", seed["instruction"])
    assert not seed["instruction"].startswith("Write a program")
    assert not re.search(BLOCKED, seed["instruction"], re.I)
    assert not instance["input"] or 10 <= len(instance["input"].split()) <= 80
    assert instance["output"] and len(instance["output"].split()) <= 100
    assert not re.search(r"\[[A-Z][a-z]+\]|lorem|TODO", instance["input"] + instance["output"])


def test_counts():
    assert [seed["id"] for seed in SEEDS] == [f"seed_{i}" for i in range(120)]
    assert Counter(seed["kind"] for seed in SEEDS) == dict.fromkeys(KINDS, 10)
    assert 54 <= sum(bool(given(name)) for name in BY_NAME) <= 66
    assert 24 <= sum("?" in ask(name) for name in BY_NAME) <= 40
    assert max(Counter(ask(name).split()[0] for name in BY_NAME).values()) <= 8


def test_kinds_are_interleaved():
    for start in range(0, 120, 12):
        assert {seed["kind"] for seed in SEEDS[start : start + 12]} == KINDS


def test_all_differ():
    assert len(BY_NAME) == 120
    assert len({ask(name).lower() for name in BY_NAME}) == 120
    inputs = [given(name) for name in BY_NAME if given(name)]
    assert len(set(inputs)) == len(inputs)


def test_no_near_duplicates():
    scorer = RougeScorer(["rougeL"])
    for a, b in itertools.combinations(map(ask, BY_NAME), 2):
        assert scorer.score(a, b)["rougeL"].fmeasure < 0.6, (a, b)


# ----------------------------------------------------------------- arithmetic


def lina_pay():
    hours = sum(map(int, re.findall(r"\d+", given("lina_pay").split("worked")[1])))
    return sum(Fraction("12.5") if hour < 38 else Fraction("12.5") * 3 / 2 for hour in range(hours))


ARITHMETIC = {
    "bread_rolls": lambda: (14 * 18 - 197) // 5,
    "lina_pay": lina_pay,
    "coach_minutes": lambda: Fraction(315 * 60, 84),
    "coat_price": lambda: 180 * Fraction(75, 100) * Fraction(90, 100),
    "mean_rainfall": lambda: mean(map(int, re.findall(r"\d+", given("mean_rainfall")))),
    "two_buses": lambda: math.lcm(12, 20),
    "fraction_sum": lambda: Fraction(3, 4) + Fraction(5, 6) - Fraction(1, 3),
    "grandmother_age": lambda: next(x for x in range(100) if 63 + x == 4 * (9 + x)),
    "allotment_fence": lambda: 6 * (14 + 14 + Fraction("9.5") * 2 - 2),
    "compound_deposit": lambda: 2000 * Fraction(103, 100) ** 2,
}


def test_every_arithmetic_seed_is_computed():
    assert set(ARITHMETIC) == names("arithmetic")


@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic_result_comes_last(name):
    last = re.findall(r"\d[\d,]*(?:\.\d+)?", out(name))[-1]
    assert number(last) == ARITHMETIC[name]()


@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic_steps_hold(name):
    steps = re.findall(r"([\d(][\d\s.,()+×÷/-]*[+×÷/-][\d\s.,()+×÷/-]*[\d)]) = ([\d.,/]*\d)", out(name))
    assert steps or name == "grandmother_age"
    for left, right in steps:
        left, right = (
            re.sub(r"\d+(?:\.\d+)?", r"Fraction('\g<0>')", side.replace(",", "").replace("×", "*").replace("÷", "/"))
            for side in (left, right)
        )
        assert eval(left) == eval(right), (left, right)


# ----------------------------------------------------------------- short code


def check_days_between(f):
    assert f("2024-02-28", "2024-03-01") == f("2024-03-01", "2024-02-28") == 2
    assert f("2023-12-31", "2023-12-31") == 0


def check_chunk(f):
    assert f([1, 2, 3, 4, 5], 2) == [[1, 2], [3, 4], [5]]
    assert f([], 3) == [] and f([1], 3) == [[1]]


def check_average(f):
    assert f([1, 2, 6]) == 3 and f([5]) == 5
    broken = {}
    exec(given("fix_average"), broken)
    assert broken["average"]([1, 2, 6]) != 3


def check_mask(f):
    assert f("12345678") == "****5678"
    assert [f("12345"), f("1234"), f("12"), f("")] == ["*2345", "1234", "12", ""]


def check_running_totals(f):
    assert f([2, 3, 5]) == [2, 5, 10] and f([]) == [] and f([1, -1]) == [1, 0]


def check_flatten(f):
    assert f([1, [2, [3, [[4]], []]], "ab"]) == [1, 2, 3, 4, "ab"] and f([]) == []


PYTHON = {
    "days_between": check_days_between,
    "chunk_list": check_chunk,
    "fix_average": check_average,
    "mask_code": check_mask,
    "running_totals": check_running_totals,
    "flatten_lists": check_flatten,
}


@pytest.mark.parametrize("name", PYTHON)
def test_python_code(name):
    scope = {}
    exec(code(name), scope)
    PYTHON[name](scope[re.search(r"def (\w+)", code(name))[1]])


def test_every_code_seed_is_checked():
    assert names("short_code") == {*PYTHON, "books_out_sql", "garden_price_sql", "count_error_lines", "clock_regex"}


def test_books_out_sql():
    db = sqlite3.connect(":memory:")
    db.executescript(
        """CREATE TABLE members (id, name); CREATE TABLE loans (id, member_id, title, returned_on);
        INSERT INTO members VALUES (1, 'Zoe'), (2, 'Ali'), (3, 'Mina');
        INSERT INTO loans VALUES (1, 1, 'A', NULL), (2, 1, 'B', NULL), (3, 1, 'C', '2024-01-02'),
                                 (4, 2, 'D', '2024-01-03');"""
    )
    assert db.execute(code("books_out_sql")).fetchall() == [("Ali", 0), ("Mina", 0), ("Zoe", 2)]


def test_garden_price_sql():
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE products (name, category, price)")
    db.execute("INSERT INTO products VALUES ('rake', 'garden', 20), ('lamp', 'home', 20)")
    db.execute(code("garden_price_sql"))
    assert dict(db.execute("SELECT name, price FROM products")) == {"rake": pytest.approx(21), "lamp": 20}


@pytest.mark.skipif(not shutil.which("grep"), reason="needs grep")
def test_count_error_lines(tmp_path):
    (tmp_path / "app.log").write_text("an ERROR and an error\nterrors\nError: full\nfine\n")
    done = subprocess.run(code("count_error_lines"), shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "2\n"


def test_clock_regex():
    pattern = re.compile(code("clock_regex").strip())
    for hour, minute in itertools.product(range(100), range(100)):
        assert bool(pattern.search(f"{hour:02}:{minute:02}")) == (hour < 24 and minute < 60)
    for wrong in ("7:30", "07:3", "07.30", "07:30 ", "x07:30", "107:30", "07:300"):
        assert not pattern.search(wrong)


# ----------------------------------------------------------------- extraction


def items(name):
    """What an extraction seed extracts: its output without labels, split at its separators."""
    text = re.sub(r"^[A-Z][A-Za-z ]*: ", "", out(name), flags=re.M)
    return re.split(r"\n|, | - ", text)


@pytest.mark.parametrize("name", sorted(names("extraction")))
def test_extracted_strings_occur_in_the_input(name):
    for item in items(name):
        assert re.search(rf"(?<!\w){re.escape(item)}(?!\w)", given(name)), item
    assert len(set(items(name))) == len(items(name))


COMPLETE = {  # all there is, found in another way
    "pool_dates": r"\d+ (?:January|February|March|April|May|June)",
    "hall_emails": r"[\w.]+@[\w.]+\w",
    "hall_prices": r"£\d+(?:\.\d\d)?",
    "letter_countries": r"\b(?!We|Next|Lake|Baikal)[A-Z]\w+",
    "meeting_attendance": r"\b(?!The)[A-Z]\w+",
}


@pytest.mark.parametrize("name", COMPLETE)
def test_extraction_is_complete(name):
    found = list(dict.fromkeys(re.findall(COMPLETE[name], given(name))))
    if name == "meeting_attendance":  # asked for in two groups
        assert sorted(items(name)) == sorted(found)
    else:
        assert items(name) == found


def test_extraction_order_and_lines():
    assert items("steel_elements") == sorted(items("steel_elements"))
    assert [line.count(" - ") for line in out("event_tasks").split("\n")] == [2, 2, 2]
    assert [line.split(": ")[0] for line in out("meeting_attendance").split("\n")] == ["Present", "Apologies"]


# -------------------------------------------------------------------- editing

REPLACED = {  # word for word edits
    "farm_third_person": {
        "I have": "She has", "I was": "she was", "I do": "she does", "My": "Her", "my": "her", "me": "her",
    },
    "ferry_past_tense": {
        "leaves": "left", "follow": "followed", "are": "were", "drink": "drank", "watch": "watched",
    },
    "british_spelling": {
        "neighbor": "neighbour", "theater": "theatre", "gray": "grey", "labeled": "labelled", "color": "colour",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", REPLACED)
def test_edit_changes_only_what_it_should(name):
    text = given(name) or re.search(r"'(.*)'$", ask(name))[1]
    for old, new in REPLACED[name].items():
        assert re.search(rf"\b{old}\b", text)
        text = re.sub(rf"\b{old}\b", new, text)
    assert out(name) == text


def test_punctuation_leaves_the_words_alone():
    assert re.findall(r"\w+", out("lisbon_punctuation").lower()) == given("lisbon_punctuation").split()


# ----------------------------------------------------------------- formatting


def rows(name):
    return list(csv.reader(io.StringIO(out(name))))


def test_json():
    assert json.loads(out("novel_json")) == {"title": "Salt Road", "author": "Marisol", "year": 1987}
    planets = json.loads(out("planets_json"))
    distance = dict(Earth=1, Jupiter=5.2, Mars=1.52, Mercury=0.39, Neptune=30.1, Saturn=9.54, Uranus=19.2, Venus=0.72)
    assert planets == sorted(distance, key=distance.get)


def test_csv():
    header, *people = rows("people_csv")
    assert header == "name,town,age".split(",")
    assert people == sorted(people, key=lambda row: int(row[2]))
    assert {tuple(row) for row in people} == {
        ("Ingrid", "Tromsø", "41"), ("Tariq", "Lahore", "29"), ("Abena", "Kumasi", "35"),
    }  # fmt: skip
    header, *points = rows("water_points_csv")
    assert header == "point,celsius,fahrenheit,kelvin".split(",")
    assert [row[:2] for row in points] == [["freezing", "0"], ["boiling", "100"]]
    for _, celsius, fahrenheit, kelvin in points:
        assert number(fahrenheit) == number(celsius) * 9 / 5 + 32
        assert number(kelvin) == number(celsius) + Fraction("273.15")


def test_markdown_table():
    table = [line.strip("|").split("|") for line in out("dough_table").split("\n")]
    header, rule, *body = [[cell.strip() for cell in line] for line in table]
    assert header == ["Ingredient", "Amount"] and rule == ["---", "---"]
    assert [(b, a) for a, b in body] == re.findall(r"(\d+ m?[gl]) of (\w+(?: yeast)?)", given("dough_table"))


def test_iso_dates():
    dates = re.findall(r"\d+ [A-Z]\w+ \d{4}", given("lease_dates"))
    assert out("lease_dates").split("\n") == [datetime.strptime(d, "%d %B %Y").date().isoformat() for d in dates]


def test_html_list():
    flat = re.sub(r"\s+", "", out("weekdays_html"))
    week = [datetime(2024, 1, day).strftime("%A") for day in range(1, 6)]  # 1 January 2024 was a Monday
    assert flat == "<ul>" + "".join(f"<li>{day}</li>" for day in week) + "</ul>"


def test_sorted_titles():
    titles = sorted(given("book_titles_sorted").split("; "), key=lambda title: title.removeprefix("The "))
    assert out("book_titles_sorted") == "\n".join(f"{i}. {title}" for i, title in enumerate(titles, 1))


def test_yaml():
    assert yaml.safe_load(out("server_yaml")) == {"host": "orchid.example", "port": 8443, "secure": True, "retries": 3}
    assert [line.split(":")[0] for line in out("server_yaml").split("\n")] == ["host", "port", "secure", "retries"]


def test_snake_case():
    assert out("snake_case_headings") == given("snake_case_headings").lower().replace(" ", "_")


# ---------------------------------------------------------- limits and the rest


def test_labels_are_among_those_offered():
    for name in names("classification"):
        assert re.search(rf"\b{out(name)}\b", ask(name)), name


@pytest.mark.parametrize(
    "name, most", [("trim_fair", 15), ("mangrove_gist", 12), ("garage_message", 20), ("bus_driver_toast", 55)]
)
def test_word_limits(name, most):
    assert len(out(name).split()) <= most


@pytest.mark.parametrize(
    "name, lines",
    [("frost_haiku", 3), ("goat_limerick", 5), ("choir_minutes", 2), ("kettle_review", 2), ("walnut_dispute", 2)],
)
def test_line_counts(name, lines):
    assert len(out(name).split("\n")) == lines


@pytest.mark.parametrize(
    "name, sentences",
    [("speaker_introduction", 2), ("shy_lighthouse", 2), ("stopped_clocks", 3), ("lift_notice", 1),
     ("mill_lane_letter", 1), ("crab_and_snail", 2), ("dns_lookup", 2)],
)  # fmt: skip
def test_sentence_counts(name, sentences):
    assert len(re.findall(r"[.!?]\"?\.?(?=\s|$)", out(name))) == sentences


def test_summaries_bring_in_no_numbers():
    for name in names("summarising"):
        assert set(re.findall(r"\d+", out(name))) <= set(re.findall(r"\d+", given(name))), name


def test_tea_steps_are_reordered_only():
    steps = [line.split(". ", 1)[1] for line in out("tea_order").split("\n")]
    assert sorted(steps) == sorted(re.findall(r"[^.]+\.", given("tea_order").replace(". ", ".")))


def test_phone_plans():
    a, b = 12 + 2 * (9 - 5), 17
    assert b < a and f"{a} euros in all" in out("phone_plans") and f"saves {a - b} euros" in out("phone_plans")


def test_monthly_budget():
    lines = dict(re.findall(r"^(.+): (\d+) euros$", out("monthly_budget"), re.M))
    assert sum(map(int, lines.values())) == 2400 and lines["Rent"] == "800"
    assert f"{int(lines['Savings']) / 24} percent" in out("monthly_budget") and int(lines["Savings"]) >= 240


def test_three_jobs_fit():
    def minutes(clock):
        return int(clock.split(":")[0]) * 60 + int(clock.split(":")[1])

    jobs = {job: (minutes(a), minutes(b)) for a, b, job in re.findall(r"([\d:]+)-([\d:]+) (.+)", out("three_jobs"))}
    asked = {"Bake bread": (90, "13:00"), "Write the report": (120, "12:00"), "Phone the plumber": (15, "10:00")}
    assert set(jobs) == set(asked)
    for job, (start, end) in jobs.items():
        assert start >= minutes("9:00") and end - start == asked[job][0] and end <= minutes(asked[job][1])
    spans = sorted(jobs.values())
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def test_greek_letters():
    alphabet = [unicodedata.name(chr(c)).split()[-1].lower() for c in range(0x3B1, 0x3CA) if c != 0x3C2]
    days = re.findall(r"^Day \d: (\w+) to (\w+)", out("greek_letters"), re.M)
    assert days == [(alphabet[i], alphabet[i + 5]) for i in range(0, 24, 6)]
