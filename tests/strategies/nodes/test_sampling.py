from hypothesis import given
from hypothesis import strategies as st

from coldfusion_fl.strategies.nodes.sampling import sample

NAMES = st.sets(st.text("abcdefgh", min_size=1, max_size=4), min_size=1, max_size=30)


@given(NAMES, st.integers(1, 40), st.integers(0, 2**31), st.integers(1, 1000), st.randoms())
def test_it_depends_on_seed_round_and_names_alone(names, size, seed, server_round, order):
    first = sample(names, size, seed, server_round)
    shuffled = sorted(names)
    order.shuffle(shuffled)
    assert sample(shuffled, size, seed, server_round) == first == sorted(first)
    assert len(first) == len(set(first)) == min(size, len(names))
    assert set(first) <= names


def test_rounds_and_seeds_differ_and_everybody_is_drawn():
    names = [f"task{i}" for i in range(20)]
    rounds = [tuple(sample(names, 5, 7, number)) for number in range(1, 41)]
    assert len(set(rounds)) > 35
    assert {name for drawn in rounds for name in drawn} == set(names)
    assert rounds != [tuple(sample(names, 5, 8, number)) for number in range(1, 41)]
