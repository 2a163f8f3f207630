"""No request leaves the machine: the app and the command line without any route."""

from pathlib import Path

import pytest

from tests.robustness.isolated import Traffic, run_isolated


def test_isolation_records_queries_and_packets(tmp_path: Path) -> None:
    traffic = run_isolated("leave", tmp_path)
    assert set(traffic.queries) == {"www.example.org"}
    assert traffic.n_packets >= 1


def test_the_app_sends_no_query_and_no_packet(tmp_path: Path) -> None:
    assert run_isolated("app", tmp_path) == Traffic((), 0)


@pytest.mark.slow
def test_the_command_line_sends_no_query_and_no_packet(tmp_path: Path) -> None:
    assert run_isolated("command-line", tmp_path) == Traffic((), 0)
