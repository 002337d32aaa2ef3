"""Reading and writing beside computing."""

import threading

import pytest

from clipseg_pl.inference.segment_files import work_ahead


def test_results_come_in_order_and_errors_where_they_belong():
    assert list(work_ahead(lambda number: number**2, range(20))) == [n**2 for n in range(20)]
    results = work_ahead(lambda number: 6 // number, [3, 2, 0, 1])
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize(("size", "held"), [(1, 3), (6, 2), (10, 2), (11, 1)])
def test_no_more_is_held_than_there_is_room_for(size, held):
    finished, drawn, most = set(), 0, 0
    lock = threading.Lock()

    def finish(number):
        with lock:
            finished.add(number)
        return number

    def items():
        nonlocal drawn
        for number in range(12):
            drawn += 1
            yield number

    for taken, number in enumerate(work_ahead(finish, items(), lambda _: size, 10)):
        assert number == taken and number in finished
        most = max(most, drawn - taken)
    assert most == held
