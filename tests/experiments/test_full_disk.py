"""The whole pipeline on a disk that is really full, and on when there is room again."""

import pathlib
import shutil
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parent.parent.parent / "experiments" / "quickstart.py"
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
FULL_THEN_ROOMY = """
disk=$1
shift
mount -t tmpfs -o size=4m tmpfs "$disk"
"$@" && exit 9
echo "=== room" >&2
mount -o remount,size=500m "$disk"
"$@"
"""


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run([*NAMESPACE, "true"], check=False).returncode != 0,
    reason="needs Linux and the right to mount a small disk in a namespace of its own",
)
def test_a_full_disk_is_answered_in_one_paragraph_and_the_run_goes_on_when_there_is_room(tmp_path):
    run = [sys.executable, str(SCRIPT), "--preset", "smoke", "--output", str(tmp_path / "run"), "--workers", "1"]
    run += ["--methods", "agentprm", "--beams", "1x2", "--train-tasks", "40"]
    run += ["--actor-steps", "10", "--trunk-steps", "10"]
    done = subprocess.run(
        [*NAMESPACE, FULL_THEN_ROOMY, "sh", str(tmp_path), *run], capture_output=True, text=True, check=False
    )
    full, _, roomy = done.stderr.partition("=== room")
    assert done.returncode == 0, roomy[-3000:]
    assert "No space left on device" in full
    assert "Make room" in full
    assert "Traceback" not in full
    assert "AgentPRM" in done.stdout
