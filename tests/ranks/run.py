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
# Under sanitizers Open MPI is as it is: it keeps memory, and its threads are not instrumented. What the library itself keeps
# the programs look at by sl_context_memory().
ENVIRONMENT["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
ENVIRONMENT["TSAN_OPTIONS"] = os.environ.get("TSAN_OPTIONS", "") + ":ignore_noninstrumented_modules=1"


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
    # The norm of moments that are spread is summed by shares: equal but for its rounding.
    clipped = ["shards=4", "sharded=1", "clip=30", "tail=1"]
    one = alone(program, *clipped, "divide=1")
    near(one, alone(program, "shards=4", "clip=30", "tail=1", "divide=1"), 1e-5)
    for divide in (1, 2, 4):
        near(must(4, program, "train", "60", *clipped, f"divide={divide}"), one, 1e-5)
    near(must(3, program, "train", "60", "plain=1", "divide=3", "whole=1"), alone(program, "plain=1"), 1e-5)
    code, out, err = run(3, program, "train", "10", "plain=1", "divide=3", "tail=1", "odd=weights", timeout=30)
    if code == 0 or "rank 2" not in err or "which every rank has" not in err:
        raise SystemExit(f"a layer that differs: {code}\n{out}{err}")


def write_svmlight(path, rows, chance, sets=False, features=200):
    """Rows of very different lengths, comments and blank lines between them, a qid here and there."""
    with open(path, "w", encoding="ascii") as file:
        for i in range(rows):
            chosen = sorted(chance.sample(range(1, features + 1), chance.choice((0, 1, 3, 8, 60))))
            values = {c: round(chance.uniform(-1, 1), 3) for c in chosen}
            label = sum(v for c, v in values.items() if c % 2) > sum(v for c, v in values.items() if not c % 2)
            words = [",".join(map(str, sorted(chance.sample(range(7), chance.randrange(1, 4))))) if sets
                     else str(3 * label + (i % 50 == 7) - 1)]
            words += [f"qid:{i // 3}"] if rows > 200 and i > rows * 3 // 4 else []
            file.write(" ".join(words + [f"{c}:{v}" for c, v in values.items()]) + "\n")
            if chance.random() < 0.1:
                file.write("# a comment with a colon: 7:8\n" + "\n" * chance.randrange(3))


def share(program):
    """Files of which each of 1 to 4 ranks reads its share, against the same files read whole."""
    chance = random.Random(11)
    with tempfile.TemporaryDirectory() as folder:
        write_svmlight(f"{folder}/classes.svm", 6001, chance)
        write_svmlight(f"{folder}/sets.svm", 300, chance, True)
        write_svmlight(f"{folder}/few.svm", 3, chance)
        open(f"{folder}/empty.svm", "w", encoding="ascii").close()
        with open(f"{folder}/bad.svm", "w", encoding="ascii") as file:
            file.write("1 1:1\n# between\n" * 200 + "2 1:x\n")
        with open(f"{folder}/ratings.csv", "w", encoding="ascii") as file:
            file.write("user,item,rating\n")
            for _ in range(3000):
                file.write(f"{chance.randrange(-5, 60) * 1000003},{chance.randrange(90)},{chance.randrange(1, 11) / 2}\n")
        write_pictures(folder)
        for ranks in (1, 2, 3, 4):
            must(ranks, program, "share", "60", folder)


def text(program):
    """Training on sparse inputs, whole and by share: 1 to 4 ranks, the same bits by the tree, else near."""
    chance = random.Random(12)
    with tempfile.TemporaryDirectory() as folder:
        write_svmlight(f"{folder}/train.svm", 331, chance)
        write_svmlight(f"{folder}/held.svm", 61, chance)
        files = [f"file={folder}/train.svm", f"held={folder}/held.svm"]

        def one(*arguments):
            return subprocess.run([program, "text", "60", *files, *arguments], check=True, env=ENVIRONMENT,
                                  capture_output=True, text=True).stdout

        cases = [["shards=8"], ["shards=8", "share=1"], ["shards=8", "dense=1", "accumulate=3", "clip=30"],
                 ["shards=4", "parts=4", "share=1", "lazy=1", "method=set"], ["shards=8", "own=1", "optimizer=0"],
                 ["shards=8", "share=1", "own=1", "prefetch=2"], ["shards=6", "parts=6", "share=1", "batch=1000"],
                 ["shards=5", "parts=5", "share=1", "batch=5", "order=1", "optimizer=1"]]
        for i, arguments in enumerate(cases):
            alone_out = one(*arguments)
            for ranks in (2, 3, 4) if i < 2 else (2 + i % 3,):
                many = must(ranks, program, "text", "60", *files, *arguments)
                if many != alone_out:
                    raise SystemExit(f"{arguments}: {ranks} ranks gave\n{many}and not\n{alone_out}")
        plain = one("plain=1")
        for arguments in (["shards=8"], []):
            near(must(3, program, "text", "60", *files, *arguments), plain, 1e-5)
        # The same batches without the tree, whatever the number of ranks: near what the tree gives.
        for ranks in (1, 2, 3):
            near(must(ranks, program, "text", "60", *files, "share=1"), one("shards=8", "share=1"), 1e-5)
        for arguments, message in ((["share=1", "batch=41"], "as 48 is"), (["share=1", "shards=4"], "parts is 8")):
            code, out, err = run(2, program, "text", "60", *files, *arguments)
            if code == 0 or message not in err:
                raise SystemExit(f"{arguments}: {code}\n{out}{err}")


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
            # One rank's file in another version of the format: the rank that reads it is named.
            with open(f"{folder}/{names[4]}", "r+b") as file:
                header = file.read(100000)
                at = header.index(b'"version"')
                file.seek(header.index(b'"1"', at) + 1)
                file.write(b"2")
            code, out, err = run(2, program, "train", "60", "plain=1", "divide=2", "epochs=3", f"resume={path}")
            if code == 0 or "rank 1 of 2: " not in err or 'written in version "2"' not in err:
                raise SystemExit(f"a file of another version: {code}\n{out}{err}")
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


def versions(program, other, module):
    """A rank whose library is of another version is named, and the job ends."""
    with tempfile.TemporaryDirectory() as folder:
        # A program that has the library inside looks for the module beside itself.
        for file in (other, module):
            os.symlink(file, f"{folder}/{os.path.basename(file)}")
        code, out, err = run(2, program, "collectives", "20", ":", "-n", "1", f"{folder}/{os.path.basename(other)}",
                             "collectives", "20", timeout=60)
        if code == 0 or "rank 2 of 3" not in err or "the version of this library" not in err:
            raise SystemExit(f"another version: {code}\n{out}{err}")
        # By itself it runs, so that the version was what was wrong.
        must(2, f"{folder}/{os.path.basename(other)}", "collectives", "20")


def nccl(program, module):
    """The NCCL module on a fake NCCL: every call on 1 to 4 ranks, ids and communicators of the caller's, each call failing
    in turn, a rank that goes."""
    with tempfile.TemporaryDirectory() as folder:
        for file in (program, module):
            os.symlink(file, f"{folder}/{os.path.basename(file)}")
        program = f"{folder}/{os.path.basename(program)}"
        for ranks in (1, 2, 3, 4):
            must(ranks, program, "calls")
            must(ranks, program, "given", folder)
            os.remove(f"{folder}/id")
        must(2, program, "again")
        for test in ("calls", "failing"):  # not started by mpirun
            subprocess.run([program, test], check=True, env=ENVIRONMENT)
        code, out, err = run(3, "--mca", "orte_abort_on_non_zero_status", "1", program, "gone", timeout=60)
        if code == 0 or "noticed" not in err:
            raise SystemExit(f"a rank that goes: {code}\n{out}{err}")


def kills(program):
    """A rank killed, or stopped, at a random moment: the job ends in time, names it, and the checkpoint loads."""
    count, seed = int(os.environ.get("KILLS", "3")), int(os.environ.get("SEED", time.time()))
    print(f"seed {seed}")
    chance = random.Random(seed)
    limit, most, longest = 2, 30, {}
    for turn in range(count):
        signal_sent = (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP)[turn % 3]
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


def share_data(program, folder):
    """--share-data: pictures and svmlight text, held out or not; the bits of one process on 3 ranks."""
    chance = random.Random(13)
    write_svmlight(f"{folder}/train.svm", 333, chance)
    write_svmlight(f"{folder}/test.svm", 50, chance)
    for data in (["--data", folder], ["--data", f"{folder}/train.svm", "--held-out", "0.2"],
                 ["--data", f"{folder}/train.svm", "--test", f"{folder}/test.svm"]):
        train = [program, "train", *data, "--hidden", "32", "--batch", "24", "--shards", "6", "--share-data", "--epochs",
                 "2", "--density", "0.2"]
        one = subprocess.run([*train, "--threads", "1", "--output", f"{folder}/a.safetensors"], check=True, env=ENVIRONMENT,
                             capture_output=True, text=True).stdout
        many = must(3, *train, "--output", f"{folder}/b.safetensors")

        def said(out):
            return [line.rsplit("  ", 1)[0] for line in out.splitlines() if line.startswith("epoch")]

        if said(one) != said(many) or len(said(one)) != 2 or tensors(f"{folder}/a.safetensors") != tensors(
                f"{folder}/b.safetensors"):
            raise SystemExit(f"{data}: 3 ranks gave\n{many}and not\n{one}")


def tensors(path):
    """What is behind the header of a safetensors file."""
    with open(path, "rb") as file:
        header = int.from_bytes(file.read(8), "little")
        file.seek(8 + header)
        return file.read()


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
        if tensors(files[0]) != tensors(files[1]):
            raise SystemExit("3 ranks end with other bits than one process")
        share_data(program, folder)
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


def signals(_, program):
    """SIGUSR1 to mpirun ends all ranks after one step, saved, with one message; SIGTERM to mpirun, which gives the ranks
    a second, ends the job and leaves a whole checkpoint; SIGTERM and SIGKILL of one rank name it."""
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(folder)
        path = f"{folder}/model.safetensors"
        train = [program, "train", "--data", folder, "--hidden", "64,32", "--batch", "25", "--shards", "6"]

        def begin():
            process = start(3, *train, "--epochs", "100000", "--output", path)
            line = process.stdout.readline()
            while "epoch 2/" not in line:
                if not line:
                    raise SystemExit(f"the job ended by itself:\n{process.communicate()[1]}")
                line = process.stdout.readline()
            return process

        def end(process, seconds):
            try:
                out, err = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                raise SystemExit("the job hangs")
            subprocess.run([program, "eval", "--data", folder, path], check=True, env=ENVIRONMENT, capture_output=True)
            return out, err

        process = begin()
        process.send_signal(signal.SIGUSR1)
        out, err = end(process, 60)
        if process.returncode == 0 or err.count("go on with") != 1:
            raise SystemExit(f"SIGUSR1: {process.returncode}\n{out}{err}")
        last = int(err.split("interrupted after ")[1].split()[0])
        out = must(2, *train, "--resume", path, "--epochs", str(last + 2), "--output", path)
        if f"epoch {last + 2}/" not in out:
            raise SystemExit(f"resumed after epoch {last}:\n{out}")
        for sent in (signal.SIGTERM, signal.SIGINT):
            process = begin()
            process.send_signal(sent)
            out, err = end(process, 30)
            if process.returncode == 0:
                raise SystemExit(f"{sent.name}: {process.returncode}\n{out}{err}")
        # A rank that is told to end takes the others along; one that is killed is named.
        process = begin()
        with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii") as file:
            os.kill(int(file.read().split()[1]), signal.SIGKILL)
        out, err = end(process, 60)
        if process.returncode == 0 or "rank 1" not in err:
            raise SystemExit(f"a rank killed: {process.returncode}\n{out}{err}")


TESTS = {"collectives": collectives, "divided": divided, "manifest": manifest, "parallel": parallel, "resume": resume, "disagree": disagree, "kills": kills,
         "command": command, "share": share, "text": text, "signals": signals, "versions": versions, "nccl": nccl}

if __name__ == "__main__":
    TESTS[sys.argv[2]](*filter(None, [sys.argv[1], *sys.argv[3:]]))
    print("1 passed, 0 failed")
