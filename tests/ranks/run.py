#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run tests/ranks programs on 1 to 4 ranks of this machine.
Usage: run.py RANKS_PROGRAM TEST [COMMAND]"""
import os
import subprocess
import sys

ENVIRONMENT = dict(
    os.environ,
    SPARSELAYER_CALIBRATION="off",
    # Open MPI: in containers, as root, and with more ranks than cores.
    OMPI_ALLOW_RUN_AS_ROOT="1",
    OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
    OMPI_MCA_rmaps_base_oversubscribe="1",
    OMPI_MCA_mpi_yield_when_idle="1",
    OMPI_MCA_hwloc_base_binding_policy="none",
    OMPI_MCA_btl="self,vader",
    OMPI_MCA_btl_vader_single_copy_mechanism="none",
    OMPI_MCA_plm_rsh_agent="false",
    OMPI_MCA_ess_singleton_server="0",
)


def start(ranks, *command, **more):
    environment = dict(ENVIRONMENT, **more.pop("environment", {}))
    return subprocess.Popen(["mpirun", "-n", str(ranks), *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, env=environment, **more)


def run(ranks, *command, timeout=120, **more):
    process = start(ranks, *command, **more)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise SystemExit(f"{command} on {ranks} ranks did not end within {timeout} s")
    return process.returncode, out, err


def must(ranks, *command, **more):
    code, out, err = run(ranks, *command, **more)
    if code:
        raise SystemExit(f"{' '.join(command)} on {ranks} ranks ended with {code}:\n{out}{err}")
    return out


def collectives(program):
    for ranks in (1, 2, 3, 4):
        must(ranks, program, "collectives", "60")
    # Not started by mpirun: one rank, and no MPI.
    subprocess.run([program, "collectives", "60"], check=True, env=ENVIRONMENT)


TESTS = {"collectives": collectives}

if __name__ == "__main__":
    TESTS[sys.argv[2]](*sys.argv[1:2], *sys.argv[3:])
    print("1 passed, 0 failed")
