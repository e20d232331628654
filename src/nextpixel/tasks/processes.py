"""Which of several processes of one command this is: torchrun, or the trainer's launcher, says so in the environment.

Nothing here talks to another process.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from nextpixel.errors import UserError


class Place(NamedTuple):
    """This process is number `rank` of `world`, started by torchrun (or by what sets the same variables), with `here`
    of them on this machine."""

    rank: int
    world: int
    here: int


def torchrun() -> Place | None:
    """This process's place among those that torchrun started; None if it did not."""
    rank, world = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if rank is None or world is None:
        return None
    here = os.environ.get("LOCAL_WORLD_SIZE", world)
    if not (rank.isdigit() and world.isdigit() and here.isdigit() and int(rank) < int(world)):
        raise UserError(f"RANK={rank} of WORLD_SIZE={world} in the environment is no place of a process: unset both.")
    return Place(int(rank), int(world), int(here))


def first_process() -> bool:
    """Whether this is the process that writes files and speaks. True for a process that is alone."""
    if "RANK" in os.environ:
        return os.environ["RANK"] == "0"
    # The trainer's launcher tells the processes that it starts which of this machine, and which machine, they are.
    if "SLURM_NTASKS" in os.environ:
        return os.environ.get("SLURM_PROCID", "0") == "0"
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"


def machines_and_devices(nodes: int, devices: int) -> tuple[int, int]:
    """How many machines, and how many processes on each. Under torchrun it is torchrun that says: 1 and 1 then mean
    "not said"; UserError for another contradiction."""
    place = torchrun()
    if place is None:
        return nodes, devices
    if place.world % place.here:
        raise UserError("Training needs as many processes on every machine: give each torchrun one --nproc-per-node.")
    found = (place.world // place.here, place.here)
    if (nodes, devices) not in ((1, 1), found):
        raise UserError(
            f"torchrun started {found[0]} x {found[1]} processes (machines x devices), not {nodes} x {devices}: leave "
            "--nodes and --devices to torchrun."
        )
    return found
