#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run tests/ranks programs on 1 to 4 ranks of this machine.
Usage: run.py RANKS_PROGRAM TEST [COMMAND]"""
import os
import random
import signal
import subprocess
import sys
import tempfile
import time

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


def divided(program):
    """Layers divided over ranks: forward, dX and dW near those in double, and of the same bits on 1 to 4 ranks."""
    outs = [must(ranks, program, "divided", "60") for ranks in (1, 2, 3, 4)]
    if len(set(outs)) > 1 or outs[0].count("\n") != 3:
        raise SystemExit(f"other bits on other numbers of ranks: {outs}")
    # Training, by as many ranks as blocks allow; divide=N: over groups of N ranks, the batch over the groups.
    for arguments in (["plain=1"], ["plain=1", "tail=1", "clip=30", "accumulate=2"], ["plain=1", "method=rigl"],
                      ["plain=1", "method=set", "optimizer=1"]):
        one = alone(program, *arguments, "divide=1")
        for ranks in (2, 3, 4) if len(arguments) == 1 else (3,):
            many = must(ranks, program, "train", "60", *arguments, f"divide={ranks}")
            if many != one:
                raise SystemExit(f"{arguments}: {ranks} ranks gave\n{many}and not\n{one}")
    for arguments in (["shards=4"], ["shards=4", "sharded=1", "method=rigl"], ["shards=2", "tail=1", "clip=30"]):
        one = alone(program, *arguments, "divide=1")
        for divide in (1, 2, 4):
            if divide == 1 and "shards=2" in arguments:
                continue
            many = must(4, program, "train", "60", *arguments, f"divide={divide}")
            if many != one:
                raise SystemExit(f"{arguments}, divide={divide}: 4 ranks gave\n{many}and not\n{one}")
    near(must(3, program, "train", "60", "plain=1", "divide=3", "whole=1"), alone(program, "plain=1"), 1e-5)
    code, out, err = run(3, program, "train", "10", "plain=1", "divide=3", "tail=1", "odd=weights", timeout=30)
    if code == 0 or "rank 2" not in err or "which every rank has" not in err:
        raise SystemExit(f"a layer that differs: {code}\n{out}{err}")


def figures(out):
    return [[float.fromhex(word) for word in line.split()[1:]] for line in out.splitlines() if line[0].isdigit()]


def near(out, other, bound):
    for one, two in zip(figures(out), figures(other), strict=True):
        if abs(one[0] - two[0]) > bound * abs(two[0]):
            raise SystemExit(f"loss {one[0]} is not {two[0]} within {bound}")


def alone(program, *arguments):
    return subprocess.run([program, "train", "60", *arguments], check=True, env=ENVIRONMENT, capture_output=True,
                          text=True).stdout


def parallel(program):
    """The loss curve, weights and patterns of 1 to 4 ranks: the same bits by the tree, else near those of one process."""
    cases = [
        ["shards=8"],
        ["shards=8", "sharded=1"],
        ["shards=5", "accumulate=3", "clip=30", "optimizer=1"],
        ["shards=4", "method=set", "sharded=1"],
        ["shards=6", "method=gmp", "end=12", "optimizer=4"],
        # 34 steps an epoch, an edit after each: more than 100.
        ["shards=4", "method=rigl", "batch=10", "interval=1"],
        ["shards=7", "method=rigl", "global=1", "batch=5"],
    ]
    for i, arguments in enumerate(cases):
        one = alone(program, *arguments)
        for ranks in (2, 3, 4) if i == 0 or "interval=1" in arguments else (2 + i % 3,):
            many = must(ranks, program, "train", "60", *arguments)
            if many != one:
                raise SystemExit(f"{arguments}: {ranks} ranks gave\n{many}and not\n{one}")
        if "interval=1" in arguments and int(one.split()[-1]) < 100:
            raise SystemExit(f"only {one.split()[-1]} edits")
    plain = alone(program, "plain=1")
    near(alone(program, "shards=8"), plain, 1e-5)
    for arguments in (["clip=1000"], ["sharded=1", "clip=1000"]):
        near(must(3, program, "train", "60", *arguments), plain, 1e-5)
    # The calls under sl_model_fit(), for loops of one's own; a rank may have no row of the last batch.
    own = ["own=1", "order=1", "batch=3"]
    near(must(4, program, "train", "60", *own), alone(program, "plain=1", "order=1", "batch=3"), 1e-4)


def resume(program):
    """Saved by 4 ranks, gone on with by 2 and by 1, with the bits of a run without a break."""
    with tempfile.TemporaryDirectory() as folder:
        for spread in ("sharded=0", "sharded=1"):
            arguments = ["shards=8", "method=rigl", spread]
            straight = alone(program, *arguments, "epochs=3")
            path = f"{folder}/saved.safetensors"
            must(4, program, "train", "60", *arguments, "epochs=2", f"save={path}")
            rest = [line for line in straight.splitlines() if line[0] not in "01"]
            for ranks in (1, 2):
                out = must(ranks, program, "train", "60", *arguments, "epochs=3", f"resume={path}")
                if out.splitlines() != rest:
                    raise SystemExit(f"resumed on {ranks} ranks:\n{out}and not\n{rest}")


def manifest(program):
    """A divided model, a file a rank: saved by 4 ranks, gone on with by 1 to 4 and in a grid, with the same bits; kills
    leave a manifest whose files are whole; hostile manifests are refused."""
    for arguments in (["plain=1", "tail=1"], ["plain=1", "method=rigl"], ["plain=1", "method=set", "optimizer=1"]):
        straight = alone(program, *arguments, "divide=1", "epochs=3")
        rest = [line for line in straight.splitlines() if line[0] not in "01"]
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/saved"
            must(4, program, "train", "60", *arguments, "divide=4", "epochs=2", f"save={path}")
            names = sorted(os.listdir(folder))
            if names != ["saved"] + [f"saved.2.{r}-of-4" for r in (1, 2, 3, 4)]:
                raise SystemExit(f"files of a save: {names}")
            for ranks in (1, 2, 3):
                out = must(ranks, program, "train", "60", *arguments, f"divide={ranks}", "epochs=3", f"resume={path}")
                if out.splitlines() != rest:
                    raise SystemExit(f"{arguments}: resumed on {ranks} ranks:\n{out}and not\n{rest}")
            code, out, err = run(2, program, "train", "60", "plain=1", "divide=2", f"resume={path}.none")
            if code == 0 or "saved.none" not in err:
                raise SystemExit(f"no manifest: {code}\n{out}{err}")
            for text in ("", "{}", '{"format": "sparselayer.divided", "version": 2}', "[" * 100000,
                         '{"format": "sparselayer.divided", "version": 1, "tag": 2, "ranks": 7, "layers": [{"blocks": 6, "rows": 96}]}',
                         '{"format": "sparselayer.divided", "version": 1, "tag": 2, "ranks": 4, "layers": [{"blocks": 5, "rows": 96}]}',
                         '{"format": "sparselayer.divided", "version": 1, "tag": 9, "ranks": 4, "layers": [{"blocks": 6, "rows": 96}]}'):
                with open(f"{folder}/bad", "w", encoding="ascii") as file:
                    file.write(text)
                for name in names[1:]:
                    if not os.path.exists(f"{folder}/bad{name[5:]}"):
                        os.link(f"{folder}/{name}", f"{folder}/bad{name[5:]}")
                code, out, err = run(2, program, "train", "60", "plain=1", "divide=2", "epochs=3", f"resume={folder}/bad")
                if code == 0 or "bad" not in err:
                    raise SystemExit(f"a bad manifest {text[:80]}: {code}\n{out}{err}")
    # In a grid, moments spread over the ranks that hold the same blocks.
    grid = ["shards=4", "sharded=1", "method=rigl"]
    straight = alone(program, *grid, "divide=1", "epochs=3")
    with tempfile.TemporaryDirectory() as folder:
        must(4, program, "train", "60", *grid, "divide=2", "epochs=2", f"save={folder}/saved")
        out = must(3, program, "train", "60", *grid, "divide=1", "epochs=3", f"resume={folder}/saved")
        if out.splitlines() != [line for line in straight.splitlines() if line[0] not in "01"]:
            raise SystemExit(f"resumed in another grid:\n{out}and not\n{straight}")
    kill_while_saving(program)


def await_save(process, path, seconds):
    """Some time after a job has saved for the first time."""
    while not os.path.exists(path):
        if process.poll() is not None:
            raise SystemExit(f"the job ended by itself:\n{process.stderr.read()}")
        time.sleep(0.01)
    time.sleep(seconds)


def send(folder, rank, signal_number):
    """To a rank that wrote down its number, see SL_PIDS."""
    with open(f"{folder}/{rank}", encoding="ascii") as file:
        os.kill(int(file.read()), signal_number)


def kill_while_saving(program):
    """All ranks killed at random moments, which are mostly spent in saving."""
    count, seed = int(os.environ.get("KILLS", "3")), int(os.environ.get("SEED", time.time()))
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(count):
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/saved"
            process = start(2, program, "train", "10", "plain=1", "divide=2", "batch=331", "epochs=100000", f"save={path}",
                            environment={"SL_PIDS": folder})
            await_save(process, path, chance.random() * 0.3)
            send(folder, chance.randrange(2), signal.SIGKILL)
            process.communicate(timeout=60)
            again = must(3, program, "train", "60", "plain=1", "divide=3", "epochs=1", f"resume={path}")
            if "sum" not in again:
                raise SystemExit(f"the checkpoint gives\n{again}")


def disagree(program):
    """Ranks that are not alike end the job, with the odd one's number and what is wrong."""
    for what, message in {
            "pattern": "the pattern of layer", "shape": "the shapes and dtypes", "rate": "the options of the optimizer",
            "weights": "the weights of layer", "samples": "the number of samples", "label": "label",
            "calls": "rank 2", "leaves": "rank 2"}.items():
        code, out, err = run(3, program, "train", "2", f"odd={what}", timeout=30)
        if code == 0 or message not in err or "rank 2" not in err:
            raise SystemExit(f"odd {what}: {code}\n{out}{err}")


def kills(program):
    """A rank killed, or stopped, at a random moment: the job ends in time, names it, and the checkpoint loads."""
    count, seed = int(os.environ.get("KILLS", "3")), int(os.environ.get("SEED", time.time()))
    print(f"seed {seed}")
    chance = random.Random(seed)
    limit, most, longest = 2, 30, {}
    for turn in range(count):
        signal_sent = signal.SIGSTOP if turn % 3 == 2 else signal.SIGKILL
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/saved.safetensors"
            process = start(3, program, "train", str(limit), "method=rigl", "epochs=100000", f"save={path}",
                            environment={"SL_PIDS": folder})
            await_save(process, path, chance.random() * 0.5)
            victim = chance.randrange(3)
            send(folder, victim, signal_sent)
            began = time.time()
            try:
                out, err = process.communicate(timeout=most)
            except subprocess.TimeoutExpired:
                process.kill()
                raise SystemExit(f"{signal_sent.name} of rank {victim}: the job hangs")
            took = time.time() - began
            longest[signal_sent.name] = max(longest.get(signal_sent.name, 0), took)
            if process.returncode == 0 or f"rank {victim}" not in err:
                raise SystemExit(f"{signal_sent.name} of rank {victim}: {process.returncode}\n{out}{err}")
            done = figures(out)
            again = alone(program, "plain=1", f"resume={path}", "epochs=1")
            if "sum" not in again:
                raise SystemExit(f"the checkpoint after {len(done)} epochs gives\n{again}")
    print(f"{count} ranks lost; the longest end took", {name: round(t, 1) for name, t in longest.items()}, "s")


def write_pictures(folder):
    """200 and 60 pictures of 6 x 6, their class the brightest third."""
    chance = random.Random(5)
    for name, count in ("train", 203), ("t10k", 60):
        pixels, labels = bytearray(), bytearray()
        for _ in range(count):
            one = [chance.randrange(256) for _ in range(36)]
            labels.append(max(range(3), key=lambda c: sum(one[12 * c:12 * c + 12])))
            pixels += bytes(one)
        for kind, shape, data in ("images-idx3", (count, 6, 6), pixels), ("labels-idx1", (count,), labels):
            with open(f"{folder}/{name}-{kind}-ubyte", "wb") as file:
                file.write(bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape) + data)


def command(_, program):
    """mpirun -n 3 sparselayer train: one voice, one file, the bits of one process; interrupted and gone on with."""
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(folder)
        train = [program, "train", "--data", folder, "--hidden", "64,32", "--batch", "25", "--shards", "6",
                 "--sparse-method", "rigl", "--density", "0.2"]
        files = [f"{folder}/{name}.safetensors" for name in ("one", "three", "two")]
        subprocess.run([*train, "--epochs", "3", "--threads", "1", "--output", files[0]], check=True, env=ENVIRONMENT,
                       capture_output=True)
        out = must(3, *train, "--epochs", "3", "--output", files[1], "--log", f"{folder}/log", "--shard-state")
        if out.count("epoch 1/3") != 1 or "3 ranks" not in out:
            raise SystemExit(f"not one voice:\n{out}")
        with open(f"{folder}/log", encoding="utf-8") as file:
            if len(file.readlines()) != 3:
                raise SystemExit("not a line an epoch in the log")
        must(2, program, "train", "--data", folder, "--resume", files[1], "--epochs", "4", "--shards", "6", "--output",
             files[2])
        contents = []
        for path in files[:2]:
            with open(path, "rb") as file:
                header = int.from_bytes(file.read(8), "little")
                file.seek(8 + header)
                contents.append(file.read())
        if contents[0] != contents[1]:
            raise SystemExit("3 ranks end with other bits than one process")
        code, out, err = run(3, *train, "--resume", f"{folder}/none.safetensors")
        if code == 0 or "none.safetensors" not in err:
            raise SystemExit(f"a missing file: {code}\n{out}{err}")
        process = start(2, *train, "--epochs", "100000", "--output", files[1])
        while "epoch 2/" not in process.stdout.readline():
            pass
        # One rank alone is told to end, and tells the other.
        with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as file:
            os.kill(int(file.read().split()[1]), signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        if process.returncode == 0 or err.count("go on with") != 1:
            raise SystemExit(f"interrupted: {process.returncode}\n{out}{err}")


TESTS = {"collectives": collectives, "divided": divided, "manifest": manifest, "parallel": parallel, "resume": resume, "disagree": disagree, "kills": kills,
         "command": command}

if __name__ == "__main__":
    TESTS[sys.argv[2]](*filter(None, [sys.argv[1], *sys.argv[3:]]))
    print("1 passed, 0 failed")
