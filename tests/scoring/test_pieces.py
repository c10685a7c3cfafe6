import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agentprm_jax.scoring.pieces import cut_pieces, lay_out

MOST = 8
stems = st.integers(1, 30).flatmap(lambda length: st.tuples(st.just(length), st.integers(0, length - 1)))
actions = st.lists(st.lists(st.integers(100, 120), min_size=1, max_size=12), min_size=1, max_size=6)


def cut(stem, said, first=0):
    length, begin = stem
    return list(cut_pieces(3, np.arange(length, dtype=np.int32), begin, said, first, MOST))


@given(stems, actions)
def test_the_pieces_read_every_new_token_of_the_stem_once_and_in_order(stem, said):
    pieces = cut(stem, said)
    assert np.concatenate([piece.tokens for piece in pieces]).tolist() == list(range(stem[1], stem[0]))
    assert [piece.begin for piece in pieces] == np.cumsum([stem[1], *(len(p.tokens) for p in pieces[:-1])]).tolist()


@given(stems, actions)
def test_every_action_is_read_once_behind_the_whole_stem(stem, said):
    pieces = cut(stem, said, first=5)
    assert [action for piece in pieces for action in piece.actions] == said
    assert [place for piece in pieces for place in piece.places] == list(range(5, 5 + len(said)))
    assert all(piece.begin + len(piece.tokens) == stem[0] for piece in pieces if piece.actions)


@given(stems, actions)
def test_a_piece_is_not_too_long_unless_it_is_one_action(stem, said):
    for piece in cut(stem, said):
        assert piece.columns >= 1
        assert piece.columns <= MOST or (len(piece.actions) == 1 and not len(piece.tokens))


@given(stems, actions)
def test_a_row_holds_its_piece_with_actions_side_by_side(stem, said):
    pieces = cut(stem, said)
    laid = lay_out(pieces, len(pieces) + 1, 16)
    for row, piece in enumerate(pieces):
        follow = piece.begin + len(piece.tokens)
        expected = [(token, piece.begin + index, 0) for index, token in enumerate(piece.tokens.tolist())]
        for branch, action in enumerate(piece.actions, 1):
            expected += [(token, follow + index, branch) for index, token in enumerate(action)]
        columns = (laid.tokens[row], laid.positions[row], laid.branches[row])
        assert list(zip(*(column[: len(expected)].tolist() for column in columns), strict=True)) == expected
    assert laid.places == list(range(len(said)))
    read = laid.tokens[laid.rows, laid.columns].tolist()
    assert read == [action[-1] for action in said]
