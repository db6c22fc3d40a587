"""The kernel still says what tests/data/receiver.jsonl has it say."""

from tests.receiver.kernel import ask
from tests.receiver.trials import Answer, Sent, load


def without_stamps(answer: Answer) -> Answer:
    """Leave out what depends on time."""

    def bare(sent: list[Sent]) -> list[Sent]:
        return [one._replace(stamps=None, ms=0) for one in sent]

    return answer._replace(sent=bare(answer.sent), tail=bare(answer.tail))


def test_the_kernel_answers_every_segment_as_recorded() -> None:
    _, recorded = load()
    _, answers = ask()
    assert len(answers) == len(recorded)
    differing = [
        (one, other)
        for one, other in zip(map(without_stamps, answers), map(without_stamps, recorded), strict=True)
        if one != other
    ]
    assert differing == []
