"""Makes recorded/tokenizers/pieces.json: a small SentencePiece model, and what the package itself makes of texts.

Command:

    uv run --with sentencepiece tests/data/make_golden_pieces.py
"""

import io
import json
import pathlib

import sentencepiece
from made_tokenizers import CORPUS
from sentencepiece import sentencepiece_model_pb2

TARGET = pathlib.Path(__file__).parent.parent / "recorded" / "tokenizers" / "pieces.json"
TEXTS = [
    *CORPUS,
    "go to the red key",
    " pick  up   the door",
    "naïve 漢字 🙂\t1234",
    "keykey doordoor",
    "thethethe aaa",
    "",
    "\n",
    "Action: go",
]


def main():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for line in CORPUS * 20 for line in line.split("\n") if line.strip()]),
        model_writer=model,
        model_type="bpe",
        vocab_size=320,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        allow_whitespace_only_pieces=True,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    golden = {
        "pieces": [[piece.piece, piece.score, piece.type] for piece in proto.pieces],
        "texts": {text: processor.encode(text) for text in TEXTS},
    }
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(golden, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
