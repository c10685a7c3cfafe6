"""The trajectory record and its files, under the names that users import."""

from agentprm_jax.data.reading import BadLine, Trajectories, iterate_trajectories, read_trajectories
from agentprm_jax.data.record import ActorInfo, BadTrajectory, Message, RecordedScores, Trajectory
from agentprm_jax.data.writing import TrajectoryWriteError, TrajectoryWriter, write_trajectories

__all__ = [
    "ActorInfo",
    "BadLine",
    "BadTrajectory",
    "Message",
    "RecordedScores",
    "Trajectories",
    "Trajectory",
    "TrajectoryWriteError",
    "TrajectoryWriter",
    "iterate_trajectories",
    "read_trajectories",
    "write_trajectories",
]
