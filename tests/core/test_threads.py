"""Blocks on several threads: each item once, errors pass through, torch's setting comes back."""

import pytest
import torch

from adbench.core.threads import workers

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("worth", [True, False])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_each_item_is_done_once(threads, count, worth):
    done = torch.zeros(count)
    with workers(CPU, worth) as spread:
        spread(lambda i: done[i].add_(1), range(count))
    assert (done == 1).all()


def test_torch_works_on_one_thread_inside_and_on_as_many_as_before_after(threads):
    inside = []
    with workers(CPU) as spread:
        spread(lambda _: inside.append(torch.get_num_threads()), range(20))
    assert set(inside) == {1}
    assert torch.get_num_threads() == threads


def test_an_error_of_a_call_is_raised(threads):
    with pytest.raises(ZeroDivisionError), workers(CPU) as spread:
        spread(lambda i: 1 // i, range(3))
    assert torch.get_num_threads() == threads
