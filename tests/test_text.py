from __future__ import annotations

import time

import pytest

from modeling_docre.text import split_sentences, split_words


def words(text: str, boundaries: tuple[int, ...] = ()) -> list[str]:
    return [text[start:end] for start, end in split_words(text, boundaries=boundaries)]


def sentences(text: str, protected: tuple[tuple[int, int], ...] = ()) -> list[str]:
    return [text[start:end] for start, end in split_sentences(text, protected)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ada lived, then died.", ["Ada", "lived", ",", "then", "died", "."]),
        ("Anna's book", ["Anna", "'s", "book"]),
        ("Anna’s book", ["Anna", "’s", "book"]),
        ("Anna 's book", ["Anna", "'s", "book"]),
        ("they don't; we'll", ["they", "do", "n't", ";", "we", "'ll"]),
        ("O'Brien 'hello' rock 'n' roll", ["O'Brien", "'", "hello", "'", "rock", "'", "n", "'", "roll"]),
        ("James' horse", ["James", "'", "horse"]),
        ("a well-known (tall) man", ["a", "well", "-", "known", "(", "tall", ")", "man"]),
        ("1,000.5 at 10:30, 1914–18", ["1,000.5", "at", "10:30", ",", "1914", "–", "18"]),
        ("in the U.S. by J.K.Rowling", ["in", "the", "U.S.", "by", "J.K.", "Rowling"]),
        ("A.B,C.D a.b A,B,C.", ["A", ".", "B", ",", "C", ".", "D", "a", ".", "b", "A", ",", "B", ",", "C", "."]),
        ("x_y a*b", ["x", "_", "y", "a", "*", "b"]),
        ("...", [".", ".", "."]),
        ("北京大学iPhone手机。", ["北", "京", "大", "学", "iPhone", "手", "机", "。"]),
        ("東京タワーで会った", ["東", "京", "タワーで", "会", "った"]),
        ("한국어 K팝", ["한국어", "K", "팝"]),
        ("สวัสดี ครับ", ["สวัสดี", "ครับ"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("می‌خواهم بروم؟", ["می‌خواهم", "بروم", "؟"]),
        ("\u200fשלום, עולם", ["\u200fשלום", ",", "עולם"]),
        ("e\u0301te\u0301 m² ½", ["e\u0301te\u0301", "m²", "½"]),
        ("👩‍👩‍👧‍👦🇬🇧🇫🇷👍🏽❤️ 1️⃣ #️⃣", ["👩‍👩‍👧‍👦", "🇬🇧", "🇫🇷", "👍🏽", "❤️", "1️⃣", "#️⃣"]),
        (
            "🙂‍↔️🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
            ["🙂‍↔️", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"],
        ),
        ("\u0301 a", ["\u0301", "a"]),
        (" \t\n", []),
        ("", []),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


def test_words_of_a_stretch_have_offsets_in_the_whole_text():
    assert split_words("Ada's old house", 6, 13) == [(6, 9), (10, 13)]
    assert split_words("say Ada's", 4) == [(4, 7), (7, 9)]


def test_boundaries_break_words_wherever_they_are():
    assert words("Westtown's", (4, 8)) == ["West", "town", "'s"]
    assert words("1,000.5", (1, 2)) == ["1", ",", "000.5"]
    assert words("e\u0301a", (1,)) == ["e", "\u0301a"]
    assert words("👍🏽", (1,)) == ["👍", "🏽"]
    assert words("Ada", (0, 3, 99, -4)) == ["Ada"]


@pytest.mark.parametrize(
    "expected",
    [
        ["Ada lived here.", "She left!", "Did she?", "Yes…", "Maybe...", "Then she came back."],
        ["Dr. Ada met Mr. J. K. Bell and Mrs. St. John at 5 p.m. in the U.S. Senate.", "He left."],
        ["She moved to the U.S.", "The house was big."],
        ["Acme Inc. Limited sold it to Bell Corp.", "The price was 3.14 million, i.e. No. 5 of all, cf. Fig. 2."],
        ["It cost 3.14.", "20 people paid."],
        ['"Stop!" she said.', "“Go.”", "He ran (fast.)", "(So did she.)", "[Note.]", "End"],
        ["The river is long.[1]", "It is wide.[2][13]", "Nobody swims."],
        ["1. Intro is here.", "2. Next comes this."],
        ["The phone was new.", "iPhone sales rose, e.g. in Asia."],
        ["She wrote to A. Osk.", "¿Por qué?", "¡Vamos!", "— Yes."],
        ["Он родился в Твери.", "Его звали А. С. Орлов.", "Всё."],
        ["هل أنت هنا؟", "نعم۔", "ثم ذهب."],
        ["यह है।", "वह था।"],
        ["\u200fהוא הלך.", "\u200fהיא באה."],
        ["He liked vs. Him.", "👍 Good.", "🇵🇹 Too."],
    ],
)
def test_sentences(expected):
    assert sentences(" ".join(expected)) == expected


def test_cjk_sentences_need_no_white_space():
    expected = ["李明出生于北京。", "他很高兴！", "“真的吗？”", "他说（没错。）", "是的……对吗?", "好。"]
    assert sentences("".join(expected)) == expected


def test_text_without_capitals_still_has_sentences():
    assert sentences("ada lived here. she left, e.g. by train! fine") == [
        "ada lived here.",
        "she left, e.g. by train!",
        "fine",
    ]


def test_lower_case_after_a_stop_goes_on():
    assert len(sentences("Yahoo! was founded by approx. two people, etc. and more.")) == 1


def test_line_breaks():
    assert sentences("Ada Osk\nShe was born in Tavenna.\n\nlater on\n \nEnd") == [
        "Ada Osk",
        "She was born in Tavenna.",
        "later on",
        "End",
    ]
    assert sentences("- Tavenna\n- Quill\n- Bell") == ["- Tavenna", "- Quill", "- Bell"]
    assert sentences("One\r\n\r\nTwo\u2029Three") == ["One", "Two", "Three"]


def test_lines_wrapped_at_a_fixed_width_are_one_sentence():
    wrapped = (
        "The old lighthouse keeper walked along the shore with\n"
        "Mirel Osk and talked about the long winter that they\n"
        "spent there. Then they went home."
    )
    assert sentences(wrapped) == [wrapped[: wrapped.index(" Then")], "Then they went home."]
    assert sentences(wrapped.replace("\n", "\r\n"))[1:] == ["Then they went home."]
    chinese = "这座古老的灯塔坐落在遥远的海边已经有一百多年的历史了\n许多人都曾经来过这里看过海上的日出\n好"
    assert sentences(chinese)[0].startswith("这座") and "\n" in sentences(chinese)[0]


def test_protected_spans_are_never_cut():
    text = "He saw Who? What? Where. Then he left.\n\nThe end"
    assert sentences(text)[:3] == ["He saw Who?", "What?", "Where."]
    assert sentences(text, ((7, 24),)) == ["He saw Who? What? Where.", "Then he left.", "The end"]
    assert sentences(text, ((7, 13), (12, 20))) == ["He saw Who? What? Where.", "Then he left.", "The end"]
    assert sentences(text, ((25, 43),))[3] == "Then he left.\n\nThe end"
    # spans that end where a sentence ends protect nothing beyond it
    assert sentences(text, ((7, 11), (12, 17)))[:3] == ["He saw Who?", "What?", "Where."]
    assert sentences("你好。再见。", ((0, 3), (3, 5))) == ["你好。", "再见。"]
    assert sentences("你好。再见。", ((2, 4),)) == ["你好。再见。"]


@pytest.mark.parametrize("text", ["", " \n\t "])
def test_nothing_has_no_sentences(text):
    assert sentences(text) == []


@pytest.mark.parametrize(
    "piece",
    ["a. ", "A. ", "1. ", ".", "!) ", "\n", "a\n", "“", "\u0301", "A.", "1,", "'", "👍\u200d", " ", "。", "No. 5 "],
)
def test_no_input_is_slow(piece):
    text = piece * (300_000 // len(piece))
    begin = time.process_time()
    split_sentences(text, [(0, 10)])
    split_words(text)
    assert time.process_time() - begin < 5
