from agentprm_jax.training.agreement import Vote, Wish, make_agreement
from agentprm_jax.training.config import MeshConfig
from agentprm_jax.training.mesh import make_mesh


def test_a_process_alone_does_as_it_wishes_at_once():
    agree = make_agreement(make_mesh(MeshConfig()))
    assert [agree(wish) for wish in Wish] == list(Wish)


def test_a_vote_decides_after_the_next_update_and_a_wish_that_lasts_is_heard_once():
    vote = Vote(make_mesh(MeshConfig()))
    wishes = [Wish.GO_ON, Wish.SAVE, Wish.SAVE, Wish.GO_ON, Wish.GO_ON, Wish.STOP, Wish.STOP]
    agreed = [vote(wish) for wish in wishes]
    assert agreed == [Wish.GO_ON, Wish.GO_ON, Wish.SAVE, Wish.GO_ON, Wish.GO_ON, Wish.GO_ON, Wish.STOP]


def test_to_stop_weighs_more_than_to_save():
    assert max(Wish) is Wish.STOP
    assert max(Wish.GO_ON, Wish.SAVE) is Wish.SAVE
