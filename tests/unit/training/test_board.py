import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch.distributed import TCPStore

from headrace.errors import ConfigError, UnavailableError
from headrace.training import board
from headrace.training.board import Beats, Board, Silence, main
from tests.processes import free_port
from tests.unit.training.together import context


@pytest.fixture
def store() -> TCPStore:
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def on(store: TCPStore, run: str = "run") -> Board:
    return Board(f"127.0.0.1:{store.port}", run)


def test_the_first_proposal_holds_and_other_runs_do_not_see_it(store: TCPStore) -> None:
    one, other = on(store), on(store)
    assert one.read("view") is None
    assert [one.propose("view", [1, 2]), other.propose("view", [2])] == [[1, 2], [1, 2]]
    assert (other.read("view"), on(store, "another").read("view")) == ([1, 2], None)


def test_no_change_is_lost_where_many_change_the_same(store: TCPStore) -> None:
    boards = [on(store) for _ in range(4)]

    def add(number: int) -> None:
        for value in range(10 * number, 10 * number + 10):
            boards[number].change("asking", lambda asking, value=value: [*(asking or []), value])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(add, range(4)))
    assert sorted(boards[0].read("asking")) == list(range(40))


def test_every_byte_left_there_is_counted(store: TCPStore) -> None:
    one = on(store)
    one.leave("key", [1, 22])
    assert one.sent_bytes == len("key") + len("[1, 22]")


def test_who_does_not_beat_is_silent_after_some_time_and_who_says_so_at_once(
    store: TCPStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "BEAT_SECONDS", 0.02)
    beats, silence = [Beats(on(store), number) for number in (1, 2)], Silence(on(store), 0.3)
    looks = []
    beats[1].end()
    began = time.monotonic()
    while time.monotonic() - began < 0.6:
        looks.append((time.monotonic() - began, silence.of(1), silence.of(2)))
        time.sleep(0.01)
    assert not any(one for _, one, _ in looks)
    assert not any(two for at, _, two in looks if at < 0.25)
    assert looks[-1][2]
    on(store).leave("gone/1", True)
    assert silence.of(1)
    beats[0].end()


def test_while_a_worker_stood_still_it_takes_nobody_for_silent(
    store: TCPStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board, "LONGEST_LOOK_SECONDS", 0.1)
    silence = Silence(on(store), 0.15)
    assert not silence.of(1)
    time.sleep(0.3)  # as SIGSTOP does
    assert not silence.of(1)
    time.sleep(0.1)
    assert silence.of(1)


def test_a_store_that_is_not_there_and_what_is_no_address_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "ANSWER_SECONDS", 0.5)
    port = free_port()
    with pytest.raises(UnavailableError, match=rf"The store at 127\.0\.0\.1:{port} does not answer"):
        Board(f"127.0.0.1:{port}", "run")
    with pytest.raises(ConfigError, match=r"HEADRACE_STORE='store' is no address\. Write it like HOST:29400"):
        Board("store", "run")


def test_a_store_is_kept_until_it_is_told_to_end(store: TCPStore, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    keeper = context().Process(target=main, args=([str(port)],))
    keeper.start()
    Board(f"127.0.0.1:{port}", "run").leave("key", 1)
    keeper.terminate()
    keeper.join(10)
    assert keeper.exitcode == 0
    assert [main([]), main([str(store.port)])] == [2, 1]
    assert capsys.readouterr().err.splitlines() == [
        "'' is no port. Give one, such as 29400.",
        f"Port {store.port} cannot be had. Give one that is free.",
    ]
