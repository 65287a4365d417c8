"""What a text costs in SMS: every boundary of both alphabets."""

import pytest

from hub.domain.segments import count_segments

EURO, SMILE = "€", "😀"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        pytest.param("", 1, id="nothing"),
        pytest.param("a" * 160, 1, id="gsm, the most in one"),
        pytest.param("a" * 161, 2, id="gsm, one more"),
        pytest.param("a" * 306, 2, id="gsm, the most in two"),
        pytest.param("a" * 307, 3, id="gsm, one more than two"),
        pytest.param("a" * 1530, 10, id="gsm, ten"),
        pytest.param("@£\n\r _ÄÖÜßñà" * 10, 1, id="gsm, its own letters"),
        pytest.param(EURO * 80, 1, id="escapes, the most in one"),
        pytest.param(EURO * 80 + "a", 2, id="escapes, one more"),
        pytest.param("^{}\\[~]|€\f" * 8, 1, id="every escape"),
        pytest.param("a" * 158 + EURO, 1, id="an escape at the end of one"),
        pytest.param("a" * 159 + EURO, 2, id="an escape that does not fit into one"),
        pytest.param("a" * 152 + EURO + "a" * 152, 3, id="an escape is never split: 152 + 151 + the rest"),
        pytest.param("a" * 151 + EURO + "a" * 153, 2, id="an escape just fits"),
        pytest.param(EURO * 153, 3, id="76 escapes a part, one septet left"),
        pytest.param(EURO * 152, 2, id="152 escapes are two parts"),
        pytest.param("ы" * 70, 1, id="ucs-2, the most in one"),
        pytest.param("ы" * 71, 2, id="ucs-2, one more"),
        pytest.param("ы" * 134, 2, id="ucs-2, the most in two"),
        pytest.param("ы" * 135, 3, id="ucs-2, one more than two"),
        pytest.param("a" * 69 + "ы", 1, id="one foreign letter among 70"),
        pytest.param("a" * 70 + "ы", 2, id="one foreign letter among 71"),
        pytest.param("a" * 160 + "`", 3, id="a grave accent is not gsm"),
        pytest.param("ç", 1, id="the small cedilla is not gsm"),
        pytest.param(SMILE * 35, 1, id="surrogates, the most in one"),
        pytest.param(SMILE * 36, 2, id="surrogates, one more"),
        pytest.param(SMILE * 66, 2, id="33 pairs a part, one unit left"),
        pytest.param(SMILE * 67, 3, id="a pair is never split"),
        pytest.param("ы" * 66 + SMILE + "ы" * 66, 3, id="a pair moves on whole"),
        pytest.param("ы" * 65 + SMILE + "ы" * 67, 2, id="a pair just fits"),
    ],
)
def test_a_text_is_so_many_sms(text: str, parts: int) -> None:
    assert count_segments(text) == parts
