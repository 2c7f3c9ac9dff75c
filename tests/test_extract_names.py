import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from extract.files.names import LONGEST, decode_name, encode_name

NAMES = st.text(st.characters() | st.sampled_from(string.ascii_letters + "./\\:%= "), max_size=140)
FORBIDDEN = set('<>:"/\\|?*') | {chr(i) for i in range(32)}
RESERVED = {"CON", "PRN", "AUX", "NUL", "COM0", "COM1", "COM9", "LPT1", "LPT9"}


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("income", "income"),
        ("pop/km2", "pop%2Fkm2"),
        ("block5_pool:avg", "block5_pool%3Aavg"),
        ("IMD", "IMD=7"),
        ("imd", "imd"),
        ("/abs", "%2Fabs"),
        ("../../x", "%2E.%2F..%2Fx"),
        ("..", "%2E%2E"),
        ("con", "%63on"),
        ("nul.csv", "%6Eul.csv"),
        ("a.", "a%2E"),
        ("a b", "a b"),
        ("é", "%C3%A9"),
        ("e\u0301", "e%CC%81"),
        ("ridge+groups@area", "ridge+groups@area"),
    ],
)
def test_a_name_has_the_stated_name_on_disk(name, encoded):
    assert encode_name(name) == encoded
    assert decode_name(encoded) == name


@given(NAMES)
@example("CON.a")
@example(" x")
@example("x" * 97)
@example("\ud800")
def test_a_name_on_disk_is_valid_on_windows_and_can_be_read_back(name):
    encoded = encode_name(name)
    assert 0 < len(encoded) <= LONGEST
    assert not FORBIDDEN & set(encoded)
    assert encoded.isascii()
    assert not encoded.startswith((".", " "))
    assert not encoded.endswith((".", " "))
    assert encoded.partition(".")[0].strip().upper() not in RESERVED
    if "=x" in encoded:
        with pytest.raises(ValueError, match="cut to"):
            decode_name(encoded)
    else:
        assert decode_name(encoded) == name


@given(NAMES, NAMES)
@example("Pop", "pop")
@example("x" * 200, "x" * 201)
@example("É", "é")
@example("a/b", "a%2Fb")
def test_two_names_differ_on_a_disk_that_is_blind_to_case(a, b):
    assert (encode_name(a).lower() == encode_name(b).lower()) == (a == b)
