import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from coldfusion_fl.aggregation.compression import EncodedContribution, decode, encode
from coldfusion_fl.config.settings import COMPRESSIONS
from coldfusion_fl.errors import CompressionError

LOSSY = COMPRESSIONS[1:]
ANY = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def pairs(draw, elements=ANY):
    """A base's array and a contribution's, of any shape, 0-d and empty ones too."""
    shape = draw(array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5))
    return tuple(draw(arrays(np.float32, shape, elements=elements)) for _ in range(2))


def there_and_back(base, encoder, compression, lost=None):
    encoded, lost = encode({"w": encoder}, {"w": base}, compression, None if lost is None else {"w": lost})
    return decode(encoded, {"w": base})["w"], encoded, lost.get("w")


def steps(change, compression):
    """How far a decoded difference may be from the difference, element by element."""
    if compression == "int8":
        rows = change.reshape(-1, change.shape[-1]) if change.ndim > 1 and change.size else change.reshape(1, -1)
        largest = np.abs(rows).max(axis=1, initial=0, keepdims=True)
        # Half a step; a step that is subnormal is itself rounded.
        return (largest / 254 * 1.00001 + 127 * 2.0**-149) * np.ones_like(rows)
    eps, least, most = {"bfloat16": (2.0**-8, 2.0**-133, 3.39e38), "float16": (2.0**-11, 2.0**-25, 65504)}[compression]
    rows = change.reshape(1, -1)
    return np.abs(rows) * eps + least + np.maximum(np.abs(rows) - most, 0)


@given(pairs(), st.sampled_from(COMPRESSIONS))
def test_shapes_and_dtypes_come_back_and_float32_is_exact(pair, compression):
    base, encoder = pair
    back, encoded, _ = there_and_back(base, encoder, compression)
    assert (back.shape, back.dtype) == (encoder.shape, encoder.dtype)
    assert encoded.arrays["w"].shape == encoder.shape
    if compression == "float32":
        assert back.tobytes() == encoder.tobytes()


@given(pairs(), st.sampled_from(LOSSY))
def test_what_is_lost_is_within_half_a_step(pair, compression):
    base, encoder = pair
    change = encoder.astype(np.float64) - base
    _, _, lost = there_and_back(base, encoder, compression)
    assert lost.shape == encoder.shape
    assert (np.abs(lost.reshape(steps(change, compression).shape)) <= steps(change, compression) * 1.001).all()


@given(pairs(st.floats(-1, 1, width=32)), st.sampled_from(LOSSY))
def test_what_arrives_and_what_is_lost_make_the_whole(pair, compression):
    base, encoder = pair
    back, _, lost = there_and_back(base, encoder, compression)
    assert np.allclose(back.astype(np.float64) + lost, encoder, rtol=0, atol=3e-7)


@pytest.mark.parametrize("compression", LOSSY)
def test_with_feedback_many_contributions_lose_no_more_than_one(compression):
    base = np.zeros((20, 30), np.float32)
    change = np.full((20, 30), 1e-3, np.float32)
    change[:, 0] = 1  # with int8 a step is 1/127 of it, and the others are far below half a step
    lost, total = None, np.zeros((20, 30))
    without = sum(there_and_back(base, change, compression)[0].astype(float) for _ in range(50))
    for _ in range(50):
        back, _, lost = there_and_back(base, change, compression, lost)
        total += back
    error = np.abs(total - 50 * change.astype(float)).max()
    assert error <= steps(change, compression).max() * 1.01
    assert np.abs(without - 50 * change).max() > 3 * error


@pytest.mark.parametrize("compression", LOSSY)
def test_an_unchanged_encoder_comes_back_to_the_byte(compression):
    base = np.random.default_rng(1).normal(size=(7, 9)).astype(np.float32)
    assert there_and_back(base, base.copy(), compression)[0].tobytes() == base.tobytes()


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("compression", LOSSY)
def test_other_floats_keep_their_type_and_integers_their_bits(dtype, compression):
    base = {"w": np.ones((3, 4), dtype), "count": np.array(7)}
    encoder = {"w": base["w"] + dtype(0.125), "count": np.array(2**60 + 1)}
    encoded, _ = encode(encoder, base, compression)
    back = decode(encoded, base)
    assert back["w"].dtype == dtype
    assert np.allclose(back["w"], 1.125, rtol=1e-2)
    assert back["count"] == 2**60 + 1


@pytest.mark.parametrize(("compression", "most"), [("int8", 0.27), ("bfloat16", 0.5), ("float16", 0.5)])
def test_it_is_small(compression, most):
    base = {"w": np.zeros((1000, 384), np.float32), "bias": np.zeros(384, np.float32)}
    encoded, _ = encode(base, base, compression)
    size = sum(array.nbytes for array in [*encoded.arrays.values(), *encoded.scales.values()])
    assert size <= most * sum(array.nbytes for array in base.values())


def test_bfloat16_is_what_torch_makes_of_it():
    torch = pytest.importorskip("torch")
    values = (
        np.random.default_rng(2).normal(size=1000).astype(np.float32)
        * np.float32(10) ** np.arange(-30, 30).repeat(17)[:1000]
    )
    encoded, _ = encode({"w": values}, {"w": np.zeros_like(values)}, "bfloat16")
    expected = torch.from_numpy(values).to(torch.bfloat16).view(torch.uint16).numpy()
    assert encoded.arrays["w"].tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: EncodedContribution("int4", p.arrays), "its compression 'int4' is unknown"),
        (lambda p: EncodedContribution("int8", p.arrays), "'w' needs 2 float32 scales, one for each row"),
        (lambda p: EncodedContribution("int8", p.arrays, {"w": np.ones(3, np.float32)}), "'w' needs 2 float32 scales"),
        (lambda p: EncodedContribution("int8", p.arrays, {"w": np.ones(2, np.float64)}), "'w' needs 2 float32 scales"),
        (lambda p: EncodedContribution("float16", p.arrays), "'w' is int8 of shape (2, 3), but float16 needs float16"),
        (
            lambda p: EncodedContribution("int8", {"w": p.arrays["w"][:1]}, p.scales),
            "of shape (1, 3), but int8 needs int8 of the base's shape (2, 3)",
        ),
    ],
)
def test_what_is_not_as_it_says_is_rejected(change, words):
    base = {"w": np.zeros((2, 3), np.float32)}
    encoded, _ = encode({"w": np.ones((2, 3), np.float32)}, base, "int8")
    with pytest.raises(CompressionError) as caught:
        decode(change(encoded), base)
    assert words in str(caught.value)


def test_names_that_the_base_has_not_are_left_for_screening():
    encoded = EncodedContribution("int8", {"head": np.ones(3, np.float32)})
    assert decode(encoded, {})["head"].tolist() == [1, 1, 1]
