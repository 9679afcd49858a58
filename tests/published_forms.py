"""Small invented documents in every form that data sets are published in, and ways to spoil a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modeling_docre.documents import DocumentError

TITLE = "Velorin causes slow gait."
ABSTRACT = "Rats took velorin or tamox. Ear and nose pain was seen. The gait stayed slow."
TEXT = f"{TITLE} {ABSTRACT}"


def message(function, *args, **kwargs) -> str:
    with pytest.raises(ValueError) as caught:
        function(*args, **kwargs)
    assert type(caught.value) is DocumentError
    return str(caught.value)


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    path.write_bytes(text.encode())
    return path


def mention(pmid: str, words: str, kind: str, concepts: str, after: int = 0, text: str = TEXT) -> str:
    start = text.index(words, after)
    return "\t".join((pmid, str(start), str(start + len(words)), words, kind, concepts))


def pubtator_block(pmid: str = "11") -> list[str]:
    """Chemicals D000001, D000002; diseases D000011 (slow gait), D000012 and D000013 (ear and nose pain)."""
    return [
        f"{pmid}|t|{TITLE}",
        f"{pmid}|a|{ABSTRACT}",
        mention(pmid, "Velorin", "Chemical", "D000001"),
        mention(pmid, "slow gait", "Disease", "D000011"),
        mention(pmid, "velorin", "Chemical", "D000001"),
        mention(pmid, "tamox", "Chemical", "D000002"),
        mention(pmid, "Ear and nose pain", "Disease", "D000012|D000013|-1") + "\tear pain|nose pain|pain",
        mention(pmid, "Rats", "Chemical", "-1"),
        f"{pmid}\tCID\tD000001\tD000011",
    ]


def pubtator(*pmids: str) -> str:
    return "".join("\n".join(pubtator_block(pmid)) + "\n\n" for pmid in pmids)


def edge_oriented_line(pmid: str = "11") -> str:
    """
    Tokens: 0 Velorin 1 causes 2 slow 3 gait 4 . | 5 Rats 6 took 7 velorin 8 and 9 had 10 ear 11 pain 12 . The second
    pair stands from right to left, the third is left out.
    """
    velorin = ["C1", "Velorin|velorin", "Chemical", "0:7", "1:8", "0:1"]
    rats = ["C2", "Rats", "Chemical", "5", "6", "1"]
    gait = ["D1", "slow gait", "Disease", "2", "4", "0"]
    pain = ["D2", "ear pain", "Disease", "10", "12", "1"]
    pairs = [
        ["1:CID:2", "L2R", "NON-CROSS", "1", "2", *velorin, *gait],
        ["1:NR:2", "R2L", "NON-CROSS", "1", "2", *pain, *velorin],
        ["not_include", "L2R", "CROSS", "1", "2", *rats, *gait],
    ]
    text = "Velorin causes slow gait .|Rats took velorin and had ear pain ."
    return "\t".join([pmid, text, *(column for pair in pairs for column in pair)])


def renet(folder: Path, *pmids: str) -> Path:
    """Genes 7 (velorin) and 8 (tamox), diseases as in PubTator; one fact, one negative row, the rest without a row."""
    blocks, rows, labels = [], [], ["pmid,geneId,diseaseId,label"]
    for pmid in pmids:
        blocks.append(f"{pmid}\n{TITLE}\n{ABSTRACT}\n\n")
        rows += [
            mention(pmid, "Velorin", "Gene", "7"),
            mention(pmid, "slow gait", "Disease", "D000011"),
            mention(pmid, "tamox", "Gene", "8"),
            "",
        ]
        labels.append(f"{pmid},7,D000011,1")
    write(folder / "abstracts.txt", "".join(blocks))
    write(folder / "anns.txt", "\n".join(rows) + "\n")
    write(folder / "labels.csv", "\n".join(labels) + "\n")
    return folder


def dwie_article(name: str = "DW_1", tag: str = "train") -> dict:
    content = "Mara Voss leads Ostania.\n\nShe was born in Quil, an Ostanian port."

    def at(words: str, concept: int | None) -> dict:
        begin = content.index(words)
        return {"begin": begin, "end": begin + len(words), "text": words, "concept": concept}

    return {
        "id": name,
        "content": content,
        "tags": ["all", tag],
        "mentions": [at("Mara Voss", 4), at("Ostania", 0), at("Quil", 1), at("Ostanian", 2), at("port", None)],
        "concepts": [
            {"concept": 0, "text": "Ostania", "tags": ["type::entity", "type::gpe", "type::location"]},
            {"concept": 1, "text": "Quil", "tags": ["topic::none", "type::gpe2", "type::entity", "type::location"]},
            {"concept": 2, "text": "Ostanian", "tags": ["type::gpe0-x", "type::other"]},
            {"concept": 3, "text": "Nowhere", "tags": ["type::entity", "type::location"]},
            {"concept": 4, "text": "Mara Voss", "tags": ["type::entity", "type::head_of_gov", "type::person"]},
        ],
        "relations": [
            {"s": 4, "p": "head_of_gov", "o": 0},
            {"s": 4, "p": "agent_of", "o": 0},
            {"s": 1, "p": "in0", "o": 3},
        ],
    }


def hacred_row(name: str = "1", labelled: bool = True) -> dict:
    chars = [list("甲生于乙。"), list("甲爱丙。")]
    words = [["甲", "生于", "乙", "。"], ["甲", "爱", "丙", "。"]]

    def vertex(sents: list[list[str]], word: str) -> list[dict]:
        return [
            {"name": word, "pos": [row.index(word), row.index(word) + 1], "sent_id": number, "type": "T"}
            for number, row in enumerate(sents)
            if word in row
        ]

    row: dict = {"id": name, "text": "甲生于乙。甲爱丙。"}
    for view, sents in (("char", chars), ("word", words)):
        row[f"sents_{view}"] = sents
        row[f"vertex_{view}"] = [vertex(sents, word) for word in "甲乙丙"]
        if labelled:
            row[f"labels_{view}"] = [{"h": 0, "t": 1, "r": "birthplace", "evidence": [0]}]
    return row


def json_lines(*rows: dict) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
