"""The arithmetic of the benchmarks; their clocks are not tested."""

from __future__ import annotations

from collections import Counter

import pytest

from intermezzo.processing.errors import InputError
from intermezzo.train.benchmark_ray import Cost, fit_cost, fit_line, table
from intermezzo.train.benchmark_serving import Load, over_time, quantile, report
from intermezzo.train.benchmark_space import main as time_the_page
from intermezzo.train.benchmark_space import report as report_space
from intermezzo.train.benchmark_uploads import malformed_uploads


def test_a_known_cost_is_found_again() -> None:
    known = Cost(start=7.0, page=0.5, serial=0.2, measured=2)
    measured = {(pages, workers): known.seconds(pages, workers) for pages in (8, 24, 40) for workers in (1, 2)}
    found = fit_cost(measured)
    assert (found.start, found.page, found.serial) == pytest.approx((7.0, 0.5, 0.2)) and found.measured == 2
    assert found.seconds(100, 10) == pytest.approx(7 + 100 * 0.5 * (0.2 + 0.8 / 10))


def test_costs_never_leave_what_is_possible() -> None:
    assert fit_line([(4, 2.0)]) == (0.0, 0.5)
    assert fit_line([(4, 3.0), (8, 2.0)]) == (0.0, 2.5 / 6), "more pages were faster by chance"
    faster = {(8, 1): 10.0, (16, 1): 18.0, (8, 2): 3.0, (16, 2): 5.0}  # more than twice as fast
    assert fit_cost(faster).serial == 0.0
    slower = {(8, 1): 10.0, (16, 1): 18.0, (8, 2): 12.0, (16, 2): 30.0}
    assert fit_cost(slower).serial == 1.0
    with pytest.raises(InputError, match="one worker"):
        fit_cost({(8, 2): 1.0})


def test_the_table_says_what_was_measured_and_what_was_not() -> None:
    measured = {(8, 1): 10.0, (16, 1): 18.0, (8, 2): 7.0, (16, 2): 11.0}
    lines = table("read", measured, fit_cost(measured))
    border = next(k for k, line in enumerate(lines) if "PROJECTED" in line)
    assert "nothing below was run" in lines[border]
    assert sum(line.split()[:2] == ["8", "2"] for line in lines[:border]) == 1
    assert not any(line.split()[:2] in (["1,000", "1"], ["1,000", "128"]) for line in lines[:border])


def test_quantiles_and_the_report() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [quantile(values, part) for part in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert quantile([3.0], 0.95) == 3.0 and quantile([], 0.5) == 0.0
    load = Load(seconds=values, statuses=Counter({200: 100, 429: 2, 0: 1}), wrong=1, memory=[1e6, 2e6, 5e6, 4e6])
    name = 'intermezzo_batch_size_{}{{model="score_vlm"}}'.format
    batches = {name("sum"): 90.0, name("count"): 30.0}
    found = report(load, 64, 50.0, batches)
    assert found["answers a second"] == 2.0 and found["pages in one call of the model"] == 3.0
    assert found["not answered (429, 5xx, broken)"] == 3 and found["wrong answers"] == 1
    names = (", second quarter", ", third quarter", ", last quarter", " at most")
    assert [found[f"memory{when}, MB"] for when in names] == [2.0, 5.0, 4.0, 5.0]
    assert over_time([1e6, 2e6, 5e6, 4e6]) == [1, 2, 5, 4] and over_time([k * 1e6 for k in range(48)])[:2] == [0, 2]


def test_malformed_uploads_are_many_and_the_same_again() -> None:
    first, second = list(malformed_uploads(60)), list(malformed_uploads(60))
    assert first == second and len({body for _, body, _ in first}) > 50


def test_the_page_is_timed_by_picture(capsys: pytest.CaptureFixture[str]) -> None:
    found = report_space({"a.png": [5.0, 1.0, 2.0], "b.pdf": [3.0]})
    assert found["a.png"] == {"first": 5.0, "median": 2.0, "slowest": 5.0}
    assert found["b.pdf"] == {"first": 3.0, "median": 3.0, "slowest": 3.0}
    assert time_the_page(["--rounds", "0"]) == 1
    assert capsys.readouterr().err == "rounds is 0; at least 1 is needed\n"
