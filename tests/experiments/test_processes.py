"""Several processes train one model by the real command, and score with a PRM by the library, as one process does.

They have fake devices, which talk through gloo.
"""

import json
import pathlib
import shutil
import signal
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from safetensors.numpy import load_file
from tiny_runs import (
    SCRIPT,
    command,
    environment,
    free_port,
    make_inputs,
    metrics,
    newest_checkpoint,
    start,
    trajectories,
)

from agentprm_jax.models import load_pretrained
from agentprm_jax.numerics.calibration import auc, brier, fixed_step_auc
from agentprm_jax.scoring import Prm

HERE = pathlib.Path(__file__).parent
SCORING = HERE.parent / "scoring" / "any_mesh_scoring.py"
PLACED_ROWS = HERE.parent / "training" / "placed_rows.py"
ORDERS = ["01010101", "00110011", "00010111"]
"""To which process the devices belong along a mesh: as on a torus, and so that parts are shared by tensor."""
DEADLINE = 400


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def alone(inputs, tmp_path_factory):
    """The folder of a run of one process with eight devices."""
    folder = tmp_path_factory.mktemp("alone")
    process = start(taller(inputs, folder / "run", (2, 2, 2)), folder / "log", environment(8))
    assert process.wait(DEADLINE) == 0, (folder / "log").read_text()
    return folder / "run"


@pytest.fixture(scope="module")
def together(inputs, tmp_path_factory):
    """The folder of a run of two processes, each of which gives half of the rows, and what they said."""
    folder = tmp_path_factory.mktemp("together")
    processes, logs = two_processes(inputs, folder, taller(inputs, folder / "run", (2, 2, 2)))
    assert wait(processes, logs) == [0, 0]
    return folder / "run", [log.read_text() for log in logs]


def on(mesh):
    data, fsdp, tensor = mesh
    return ["--mesh.data", data, "--mesh.fsdp", fsdp, "--mesh.tensor", tensor]


def taller(inputs, output, mesh, *more):
    """The command line that trains one block more than the model has that it begins with."""
    return command(inputs, output, *on(mesh), "--extra-blocks", 1, *more)


def two_processes(inputs, folder, line):
    """Starts a command line as two processes of four devices each; gives them and their logs, in the folder."""
    others = ["--distributed.coordinator", f"127.0.0.1:{free_port()}", "--distributed.processes", "2"]
    logs = [folder / f"log{number}" for number in (0, 1)]
    variables = environment(4) | {"JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo"}
    return [
        start([*line, *others, "--distributed.process", str(number)], log, variables) for number, log in enumerate(logs)
    ], logs


def wait(processes, logs):
    try:
        return [process.wait(DEADLINE) for process in processes]
    finally:
        for process, log in zip(processes, logs, strict=True):
            process.kill()
            print(log.read_text())


def assert_same_run(one, other):
    """Metrics, saved parameters, checkpoints, scores and what they are worth agree in two finished runs of PRMs."""
    assert_same_training(one, other)
    made = trajectories(40)
    scored = [[np.asarray(s.promise) for s in Prm.load(run / "model").score(made)] for run in (one, other)]
    promises = [np.concatenate(rows) for rows in scored]
    assert len(promises[0]) > 40
    np.testing.assert_allclose(promises[1], promises[0], atol=1e-5)
    np.testing.assert_allclose(*(evaluation_of(rows, made) for rows in scored), atol=1e-5)


def evaluation_of(promises, made):
    """Brier score and AUC of the last steps, and the AUC within a task at the first one."""
    outcomes, last = np.array([t.outcome for t in made]), np.array([row[-1] for row in promises])
    first = fixed_step_auc(promises, outcomes, [t.task for t in made])[0].auc
    return [brier(last, outcomes), auc(last, outcomes), first]


def assert_same_training(one, other, atol=1e-5):
    rows, others = metrics(one), metrics(other)
    assert [row["step"] for row in rows] == [row["step"] for row in others] == list(range(1, 21))
    for row, another in zip(rows, others, strict=True):
        assert another == pytest.approx(row, rel=atol, abs=atol)
    assert_close(*(load_pretrained(run / "model")[1] for run in (one, other)), atol)
    assert_close(*(restored(run) for run in (one, other)), atol)


def restored(run):
    """Everything in a run's last checkpoint, moments and counters too, read onto one device."""
    path, here = run / "checkpoints" / "20" / "default", jax.sharding.SingleDeviceSharding(jax.devices()[0])

    def place(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here)

    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(path, jax.tree.map(place, checkpointer.metadata(path).item_metadata.tree))


def assert_close(one, other, atol=1e-5):
    leaves = [dict(jax.tree.leaves_with_path(tree)) for tree in (one, other)]
    assert len(leaves[0]) > 10
    assert leaves[0].keys() == leaves[1].keys()
    for path, leaf in leaves[0].items():
        np.testing.assert_allclose(leaves[1][path], leaf, rtol=0, atol=atol, err_msg=str(path))


@pytest.mark.slow
def test_two_processes_of_four_devices_train_as_one_of_eight_and_only_the_first_speaks(inputs, alone, together):
    run, (first, second) = together
    assert_same_run(alone, run)
    assert load_pretrained(run / "model")[0].layers == 1 + load_pretrained(inputs / "init")[0].layers
    assert "step 20/20" in first
    assert "encoding trajectories.jsonl: 40/40" in first
    assert not any(said in second for said in ("step", "trajectories.jsonl"))
    assert len(list((run / "tensorboard").iterdir())) == 1


@pytest.mark.slow
def test_two_processes_that_both_give_all_rows_train_as_one(inputs, alone, tmp_path):
    line = taller(inputs, tmp_path / "run", (1, 1, 8), "--loop.microbatches", 2)
    processes, logs = two_processes(inputs, tmp_path, line)
    assert wait(processes, logs) == [0, 0]
    assert_same_run(alone, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize(("script", "rank"), [("train_prm.py", 2), ("sft.py", 0)])
def test_two_processes_train_adapters_and_actors_as_one_does(inputs, tmp_path, script, rank):
    def line(output):
        return command(inputs, output, *on((2, 2, 2)), "--lora.rank", rank, script=SCRIPT.with_name(script))

    one, other = tmp_path / "one", tmp_path / "other"
    process = start(line(one), tmp_path / "log", environment(8))
    assert process.wait(DEADLINE) == 0, (tmp_path / "log").read_text()
    assert wait(*two_processes(inputs, tmp_path, line(other))) == [0, 0]
    assert_same_training(one, other)
    if rank:
        assert_close(*(load_file(run / "adapter" / "adapter_model.safetensors") for run in (one, other)))


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_where_one_process_is_killed_the_other_ends_and_the_same_command_ends_with_the_same_bits(
    inputs, together, tmp_path, victim
):
    output = tmp_path / "run"
    python, *line = taller(inputs, output, (2, 2, 2), "--distributed.heartbeat-seconds", 20)
    processes, logs = two_processes(inputs, tmp_path, [python, str(HERE / "killed_at.py"), str(victim), *line])
    codes = wait(processes, logs)
    assert codes.pop(victim) == -signal.SIGKILL
    assert codes != [0]
    assert newest_checkpoint(output) == 10
    assert wait(*two_processes(inputs, tmp_path, [python, *line])) == [0, 0]
    assert_same_training(together[0], output, atol=0)


@pytest.mark.slow
def test_every_process_places_its_rows_where_one_process_places_them(inputs, tmp_path):
    shapes = [(2, 4, 1), (2, 4, 1), (1, 4, 2)]
    meshes = [text for order, shape in zip(ORDERS, shapes, strict=True) for text in (order, *map(str, shape))]
    processes, logs = two_processes(inputs, tmp_path, [sys.executable, str(PLACED_ROWS), "--meshes", *meshes])
    assert wait(processes, logs) == [0, 0]
    for first, second, (data, fsdp, _) in zip(*map(printed, logs), shapes, strict=True):
        assert {len(first), len(second)} == {4}
        starts = range(0, 16, 16 // (data * fsdp))
        assert {tuple(part) for part in first + second} == {(at, *range(at, at + starts.step)) for at in starts}


@pytest.mark.slow
@pytest.mark.parametrize(("order", "mesh"), [(ORDERS[0], (2, 4, 1)), (ORDERS[2], (1, 4, 2))])
def test_devices_of_two_processes_in_any_order_train_as_one_process_does(inputs, alone, tmp_path, order, mesh):
    python, *line = taller(inputs, tmp_path / "run", mesh)
    processes, logs = two_processes(inputs, tmp_path, [python, str(HERE / "on_a_torus.py"), order, *line])
    assert wait(processes, logs) == [0, 0]
    assert_same_run(alone, tmp_path / "run")


@pytest.mark.slow
def test_a_signal_to_one_of_two_processes_saves_one_step_and_a_process_alone_goes_on_from_it(inputs, alone, tmp_path):
    output = tmp_path / "run"
    processes, logs = two_processes(inputs, tmp_path, taller(inputs, output, (2, 2, 2)))
    while len(metrics(output)) < 3 and all(process.poll() is None for process in processes):
        pass
    processes[1].terminate()
    assert wait(processes, logs) == [75, 75]
    first, second = (log.read_text() for log in logs)
    assert "Training was stopped by a signal to another process after update" in first
    assert "Training was stopped" not in second
    step = len(metrics(output))
    assert 3 <= step < 20
    assert f"the state is saved in {output / 'checkpoints' / str(step)}" in first
    rest = start(taller(inputs, output, (1, 1, 1)), tmp_path / "rest", environment())
    assert rest.wait(DEADLINE) == 0, (tmp_path / "rest").read_text()
    assert_same_run(alone, output)


@pytest.mark.slow
def test_another_configuration_is_refused_by_every_process(inputs, alone, tmp_path):
    processes, logs = two_processes(inputs, tmp_path, taller(inputs, alone, (2, 2, 2), "--seed", 1))
    assert wait(processes, logs) == [1, 1]
    for log in logs:
        assert "seed was 0 and is now 1" in log.read_text()


@pytest.mark.slow
def test_a_bad_line_ends_every_process_and_is_named_by_the_one_that_read_it(inputs, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes((inputs / "trajectories.jsonl").read_bytes() + b"{}\n")
    line = command(inputs, tmp_path / "run", *on((2, 2, 2)), "--trajectories", bad)
    processes, logs = two_processes(inputs, tmp_path, line)
    assert wait(processes, logs) == [1, 1]
    first, second = (log.read_text() for log in logs)
    assert "bad.jsonl, line 41, field `schema`" in first
    assert f"Process 0 failed while encoding {bad}: its output says why" in second


@pytest.mark.slow
def test_a_model_that_cannot_be_saved_ends_every_process(inputs, alone, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(alone, output)
    (output / "stage.json").unlink()
    shutil.rmtree(output / "model")
    (output / "model").write_text("in the way")
    processes, logs = two_processes(inputs, tmp_path, taller(inputs, output, (2, 2, 2)))
    assert wait(processes, logs) == [1, 1]
    first, second = (log.read_text() for log in logs)
    assert "FileExistsError" in first
    assert f"Process 0 failed while saving {output / 'model'}: its output says why" in second


@pytest.mark.slow
def test_the_library_scores_in_two_processes_of_four_devices_as_in_one_of_eight(inputs, alone, tmp_path):
    meshes = ["2", "2", "2", "1", "1", "8"]
    given = [SCORING, "--prm", alone / "model", "--trajectories", inputs / "trajectories.jsonl", "--meshes", *meshes]
    line = [sys.executable, *map(str, given)]
    process = start(line, tmp_path / "log", environment(8))
    assert process.wait(DEADLINE) == 0, (tmp_path / "log").read_text()
    expected = printed(tmp_path / "log")
    processes, logs = two_processes(inputs, tmp_path, line)
    assert wait(processes, logs) == [0, 0]
    for log in logs:
        for one, other in zip(expected, printed(log), strict=True):
            assert other["tokens"] == one["tokens"]
            assert other["query"] == one["query"]
            np.testing.assert_allclose(np.concatenate(other["scores"]), np.concatenate(one["scores"]), atol=1e-5)


def printed(log):
    """What a process printed about each mesh, between the lines of libraries."""
    (line,) = (line for line in log.read_text().splitlines() if line.startswith("[{") or line.startswith("[["))
    return json.loads(line)
