"""Messages are sent, and their replies awaited."""

import time

import numpy as np
import pytest
from fake_grid import SHAPE, FakeGrid, contribution, node
from flwr.app import Message
from flwr.common.constant import ErrorCode

from coldfusion_fl.strategies.nodes.messaging import FlowerErrorCode, exchange_messages


class CountingGrid(FakeGrid):
    """Notes how many messages come together."""

    def __init__(self, nodes):
        super().__init__(nodes)
        self.posted = []

    def push_messages(self, messages):
        self.posted.append(len(messages))
        return super().push_messages(messages)


class SlowSendingGrid(CountingGrid):
    """As in a deployment, where messages take their time."""

    def push_messages(self, messages):
        time.sleep(0.3)
        return super().push_messages(messages)


def train_messages(count):
    return [
        Message(contribution(np.zeros(SHAPE)), dst_node_id=n, message_type="train") for n in range(100, 100 + count)
    ]


def test_a_simulation_gets_one_message_at_a_time_where_the_order_matters():
    grid = CountingGrid({number: node("x") for number in range(100, 104)})
    assert len(list(exchange_messages(grid, train_messages(4), 1, in_order=True))) == 4
    assert grid.posted == [1, 1, 1, 1]
    assert len(list(exchange_messages(grid, train_messages(4), 1))) == 4
    assert grid.posted[4:] == [4]


def test_all_messages_are_sent_however_long_one_reply_is_processed():
    grid = CountingGrid({number: node("x") for number in range(100, 105)})
    for _ in exchange_messages(grid, train_messages(5), 0.2, in_order=True):
        time.sleep(0.15)
    assert sum(grid.posted) == 5


@pytest.mark.usefixtures("as_in_a_deployment")
def test_the_time_spent_on_sending_is_not_part_of_the_timeout():
    grid = SlowSendingGrid({number: node("x") for number in range(100, 103)})
    assert len(list(exchange_messages(grid, train_messages(3), 0.2, in_order=True))) == 3
    assert grid.posted == [3]


@pytest.mark.parametrize("in_order", [False, True])
def test_no_more_messages_than_asked_for_are_without_an_answer(in_order):
    grid = CountingGrid({number: node("x") for number in range(100, 150)})
    answered = 0
    for _ in exchange_messages(grid, train_messages(50), 5, in_order=in_order, max_waiting=8):
        assert sum(grid.posted) - answered <= 8
        answered += 1
    assert answered == sum(grid.posted) == 50


def test_messages_end_at_the_timeout_also_if_nobody_answers_and_some_are_not_sent():
    answering = {number: node("x") for number in range(100, 104)}
    silent = {number: lambda message: None for number in range(104, 110)}
    grid = CountingGrid(answering | silent)
    assert len(list(exchange_messages(grid, train_messages(10), 0.3, max_waiting=2))) == 4
    assert sum(grid.posted) == 6


def test_the_error_codes_are_those_of_flower():
    assert {code.name: code.value for code in FlowerErrorCode}.items() <= ErrorCode.__dict__.items()
