"""Where every parameter, optimizer slot and pinned activation lies, as recorded for three meshes by make_golden.py."""

import json

import make_golden
import pytest


@pytest.mark.parametrize("mesh_shape", make_golden.MESHES)
def test_every_array_lies_where_it_is_recorded_to_lie(mesh_shape):
    recorded = json.loads(make_golden.path_of(mesh_shape).read_text())
    assert make_golden.table(mesh_shape) == recorded, (
        "The layout has changed. If that is what you want, run `python tests/training/make_golden.py` and look at the "
        "difference of the files."
    )
