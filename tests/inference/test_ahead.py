"""Background threads that read photos and write results."""

import threading

import pytest

from clipseg_pl.inference.work_ahead import work_ahead


def test_work_ahead_yields_results_in_order_and_raises_errors_in_place():
    assert list(work_ahead(lambda number: number**2, range(20))) == [n**2 for n in range(20)]
    results = work_ahead(lambda number: 6 // number, [3, 2, 0, 1])
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize(("size", "pending"), [(1, 3), (6, 2), (10, 2), (11, 1)])
def test_work_ahead_limits_pending_items(size, pending):
    finished, produced, most = set(), 0, 0
    lock = threading.Lock()

    def finish(number):
        with lock:
            finished.add(number)
        return number

    def items():
        nonlocal produced
        for number in range(12):
            produced += 1
            yield number

    for taken, number in enumerate(work_ahead(finish, items(), size=lambda _: size, max_size=10)):
        assert number == taken and number in finished
        most = max(most, produced - taken)
    assert most == pending
