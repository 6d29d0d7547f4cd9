import json
import math
from pathlib import Path

import pytest

from hasten.app.web.votes import Tally, Vote, cast

Z95 = 1.959963984540054


@pytest.mark.parametrize(("votes", "correct"), [(1, 1), (10, 3), (40, 40), (200, 113)])
def test_the_interval_holds_the_shares_that_the_votes_do_not_contradict(votes: int, correct: int) -> None:
    """Wilson's bounds are the p at which the observed share is exactly z standard errors away, or 0 or 1."""
    tally = Tally(votes, correct)
    for bound in tally.interval:
        distance = abs(correct / votes - bound)
        if bound not in (0.0, 1.0):
            assert distance == pytest.approx(Z95 * math.sqrt(bound * (1 - bound) / votes), rel=1e-6)
        else:
            assert distance == 0.0


def test_no_votes_tell_nothing(tmp_path: Path) -> None:
    assert Tally.of(tmp_path / "none.jsonl") == Tally(0, 0)
    assert Tally(0, 0).interval == (0.0, 1.0)


def test_votes_add_up_and_damaged_lines_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "app" / "votes.jsonl"
    for answer in ("a", "b", "b"):
        cast(Vote(answer, "b", "app/run", "emoji-image", "a cat", 3, {"name": "fast"}), file)
    with file.open("a") as votes:
        votes.write("half a li\n")
    assert Tally.of(file) == Tally(3, 2)
    first = json.loads(file.read_text().splitlines()[0])
    assert (first["prompt"], first["seed"], first["recipe"], first["correct"]) == ("a cat", 3, {"name": "fast"}, False)
