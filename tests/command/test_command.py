#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The command from outside: a small data set is made, a network trained, interrupted, resumed, evaluated,
and every exit status met. Usage: test_command.py COMMAND TEST_DATA"""
import gzip
import json
import pathlib
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import unittest

COMMAND, DATA = sys.argv[1], pathlib.Path(sys.argv[2])
SIDE, CLASSES = 6, 4


def write_idx(path, shape, values, packed):
    content = struct.pack(f">BBBB{len(shape)}i", 0, 0, 8, len(shape), *shape) + bytes(values)
    path.write_bytes(gzip.compress(content) if packed else content)


def make_data(folder, train=600, test=200):
    """Pictures whose class is the quarter that is bright."""
    draw = random.Random(1)
    for name, count, packed in (("train", train, True), ("t10k", test, False)):
        labels, pixels = [], []
        for _ in range(count):
            label = draw.randrange(CLASSES)
            labels.append(label)
            for i in range(SIDE * SIDE):
                quarter = (i // SIDE >= SIDE // 2) * 2 + (i % SIDE >= SIDE // 2)
                pixels.append(draw.randrange(60, 256) if quarter == label else draw.randrange(0, 160))
        end = ".gz" if packed else ""
        write_idx(folder / f"{name}-images-idx3-ubyte{end}", (count, SIDE, SIDE), pixels, packed)
        write_idx(folder / f"{name}-labels-idx1-ubyte{end}", (count,), labels, packed)
    return labels


def run(*arguments, code=0):
    result = subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=240)
    if result.returncode != code:
        raise AssertionError(f"{arguments} ended with {result.returncode}, not {code}:\n{result.stdout}{result.stderr}")
    return result


class Command(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.scratch.name)
        self.labels = make_data(self.folder)
        self.train = ["train", "--data", self.folder, "--hidden", "32,32", "--density", "0.3", "--batch", "32", "--threads", "1", "--learning-rate", "0.01"]

    def tearDown(self):
        self.scratch.cleanup()

    def test_help(self):
        self.assertIn("Exit status", run("--help").stdout)
        self.assertRegex(run("--version").stdout, r"sparselayer \d+\.\d+\.\d+")
        for name in ("train", "eval", "predict", "info", "convert", "devices", "calibrate"):
            self.assertIn(f"sparselayer {name}", run(name, "--help").stdout)

    def test_wrong_command_lines(self):
        for arguments in ((), ("fly",), ("train", "--flight"), ("train", "--density", "1.5"), ("train", "--density", "x"),
                          ("train", "--hidden", "3,,4"), ("train", "--optimizer", "best"), ("train", "extra"), ("eval",),
                          ("info",), ("info", "a", "b"), ("convert", "a"), ("predict", "a"), ("train", "--epochs", "0"),
                          ("convert", "a", "b", "--dtype", "i32")):
            result = run(*arguments, code=2)
            self.assertEqual(result.stdout, "")
            self.assertNotEqual(result.stderr, "")

    def test_missing_and_bad_files(self):
        self.assertIn("dataset-fashion-mnist", run("train", "--data", "/nowhere", code=3).stderr)
        run("info", "/nowhere.npz", code=3)
        run("eval", DATA / "matrix.safetensors", code=3)
        run("train", "--resume", DATA / "matrix.safetensors", code=3)
        (self.folder / "short.mtx").write_text("%%MatrixMarket matrix coordinate real general\n3 3 1\n")
        self.assertIn("line 3", run("info", self.folder / "short.mtx", code=3).stderr)
        run(*self.train, "--log", "/nowhere/log", code=1)
        self.assertIn("folder", run(*self.train, "--epochs", "1", "-o", "/nowhere/m.safetensors", code=3).stderr)

    def test_no_gpu(self):
        if "not usable" in run("devices").stdout:
            self.assertIn("cuda", run(*self.train, "--device", "cuda", code=4).stderr.lower())

    def test_calibrate(self):
        costs = self.folder / "deep" / "costs"
        self.assertIn(str(costs), run("calibrate", "--file", costs).stdout)
        self.assertEqual(costs.stat().st_mode & 0o777, 0o600)
        self.assertIn("off", run("calibrate", "--file", "off", code=1).stderr)
        run("calibrate", "extra", code=2)

    def test_train_eval_predict_info(self):
        model, log = self.folder / "m.safetensors", self.folder / "log"
        out = run(*self.train, "--epochs", "12", "-o", model, "--log", log).stdout
        self.assertEqual(len(re.findall(r"^epoch ", out, re.M)), 12)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        self.assertEqual([line["epoch"] for line in lines], list(range(1, 13)))
        self.assertGreater(lines[-1]["validation_accuracy"], 0.9)
        self.assertLess(lines[-1]["loss"], lines[0]["loss"])
        evaluated = run("eval", model, "--data", self.folder).stdout
        accuracy = float(re.search(r"accuracy ([\d.]+)%", evaluated)[1])
        self.assertAlmostEqual(accuracy / 100, lines[-1]["validation_accuracy"], places=4)
        images = self.folder / "t10k-images-idx3-ubyte"
        classes = [int(line) for line in run("predict", model, images).stdout.split()]
        right = sum(a == b for a, b in zip(classes, self.labels)) / len(self.labels)
        self.assertEqual(len(classes), len(self.labels))
        self.assertAlmostEqual(100 * right, accuracy, places=1)
        scores = [list(map(float, line.split("\t"))) for line in run("predict", "--scores", model, images).stdout.splitlines()]
        self.assertEqual([row.index(max(row)) for row in scores], classes)
        info = run("info", model).stdout
        self.assertIn("linear0", info)
        self.assertGreater(float(re.search(r"RESULT memory.bytes_per_nonzero ([\d.]+)", info)[1]), 16)
        self.assertEqual(run(*self.train, "--epochs", "1", "-q", "-o", model).stdout, "")

    def test_interrupted_and_resumed_is_the_same(self):
        whole, half = self.folder / "whole.safetensors", self.folder / "half.safetensors"
        options = [*self.train, "--epochs", "60", "--accumulate", "2"]
        run(*options, "-o", whole)
        process = subprocess.Popen([COMMAND, *map(str, options), "-o", str(half)], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        for _ in range(4): # the heading and three epochs
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 130, errors)
        self.assertIn("--resume", errors)
        run("train", "--data", self.folder, "--resume", half, "--epochs", "60", "-o", half)
        self.assertEqual(whole.read_bytes(), half.read_bytes())

    def test_memory_budget(self):
        data = self.folder / "wide"
        data.mkdir()
        make_data(data, train=200)
        train = ["train", "--data", data, "--hidden", "512,512", "--density", "0.3", "--batch", "32", "--threads", "1"]
        whole, parts, half = (self.folder / f"{name}.safetensors" for name in ("whole", "parts", "half"))
        budget = ["--memory-budget", "3MB"]
        run(*train, "--epochs", "3", "-o", whole)
        out = run(*train, *budget, "--epochs", "3", "-o", parts).stdout
        self.assertIn("weights on disk", out)
        self.assertIn("epoch 3/3", out)
        loss = lambda path: float(re.search(r"loss +([\d.]+)", run("eval", path, "--data", data).stdout)[1])
        self.assertAlmostEqual(loss(whole), loss(parts), delta=2e-3)
        self.assertEqual(run("eval", parts, "--data", data, *budget).stdout.split("\n")[0],
                         run("eval", parts, "--data", data).stdout.split("\n")[0])
        # Interrupted, and gone on from the folder: the same file.
        process = subprocess.Popen([COMMAND, *map(str, train), *budget, "--durability", "step", "--epochs", "3", "-o",
                                    str(half)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while not process.stdout.readline().startswith("epoch"):
            pass
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        if process.returncode:
            self.assertEqual(process.returncode, 130, errors)
            resume = re.search(r"--resume (\S+)", errors)[1]
            run("train", "--data", data, *budget, "--resume", resume, "--epochs", "3", "-o", half)
        self.assertEqual(parts.read_bytes(), half.read_bytes())
        self.assertIn("raise memory_budget", run(*train, "--memory-budget", "800kB", "-o", half, code=1).stderr)
        run(*train, "--memory-budget", "lots", code=2)

    def test_svmlight(self):
        draw = random.Random(2)
        for name, count in (("train.svm", 300), ("test.svm", 90)):
            with open(self.folder / name, "w") as f:
                for i in range(count):
                    words = sorted(w for w in range(1, 61) if draw.random() < (0.3 if w % 3 == i % 3 else 0.06))
                    f.write(f"{i % 3 * 5 - 1} " + " ".join(f"{w}:{draw.random():.3f}" for w in words) + "\n")
        train, test, model = self.folder / "train.svm", self.folder / "test.svm", self.folder / "svm.safetensors"
        options = ["train", "--data", train, "--hidden", "16", "--batch", "16", "--threads", "1", "--learning-rate", "0.02",
                   "--density", "0.8"]
        out = run(*options, "--test", test, "--epochs", "12", "-o", model).stdout
        self.assertIn("300 samples", out)
        accuracy = float(re.findall(r"test accuracy ([\d.]+)%", out)[-1])
        self.assertGreater(accuracy, 80)
        # What is predicted is what was counted.
        classes = [int(line) for line in run("predict", model, test).stdout.split()]
        right = sum(c == i % 3 for i, c in enumerate(classes)) / 90
        self.assertAlmostEqual(100 * right, accuracy, places=1)
        for like in ([], ["--like", train]):
            evaluated = run("eval", model, "--data", test, *like).stdout
            self.assertAlmostEqual(float(re.search(r"accuracy ([\d.]+)%", evaluated)[1]), accuracy, places=1)
        run("eval", model, "--like", train, code=2)
        # A part is held out, the same one when a run goes on.
        self.assertIn("240 samples", run(*options, "--held-out", "0.2", "--epochs", "4", "-o", model).stdout)
        half = self.folder / "half.safetensors"
        process = subprocess.Popen([COMMAND, *map(str, options), "--epochs", "400", "-o", str(half)],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 130, errors)
        run("train", "--data", train, "--resume", half, "--epochs", "400", "-o", half)
        run(*options, "--epochs", "400", "-o", model)
        self.assertEqual(model.read_bytes(), half.read_bytes())
        # Mistakes.
        (self.folder / "bad.svm").write_text("1 1:1\n1 2;1\n")
        self.assertIn("line 2, column 3", run("train", "--data", self.folder / "bad.svm", code=3).stderr)
        run(*options[:1], "--test", test, code=2)

    def test_stops_early_and_weighs_classes(self):
        log, model = self.folder / "log", self.folder / "m.safetensors"
        out = run(*self.train, "--epochs", "200", "--validation", "0.2", "--patience", "3", "-o", model, "--log", log,
                  "--report", self.folder / "r.html").stdout
        self.assertIn("480 samples", out)
        self.assertIn("validation loss", (self.folder / "r.html").read_text())
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        losses, end = [line["validation_loss"] for line in lines[:-1]], lines[-1]
        self.assertLess(len(losses), 200)
        self.assertEqual(losses.index(min(losses)), len(losses) - 1 - 3)
        # The file holds the best epoch's parameters, and the test samples were not looked at before.
        evaluated = run("eval", model, "--data", self.folder).stdout
        self.assertAlmostEqual(float(re.search(r"loss ([\d.]+)", evaluated)[1]), end["test_loss"], places=5)
        self.assertRegex(out, r"in the end  test loss [\d.]+  test accuracy [\d.]+%")
        self.assertNotIn("test loss", out.split("in the end")[0])
        run(*self.train, "--epochs", "30", "--patience", "2", "--sparse-method", "rigl", "--edit-interval", "5", "-o", model)
        # A rare class: weighed, it is found more often.
        draw = random.Random(5)
        with open(self.folder / "rare.svm", "w") as f:
            for i in range(600):
                label = i % 12 == 0
                f.write(f"{int(label)} " + " ".join(f"{w}:{draw.gauss(0.35 if label else 0, 1):.3f}" for w in range(1, 9)) + "\n")
        found = {}
        for name in "none", "balanced":
            run("train", "--data", self.folder / "rare.svm", "--hidden", "4", "--density", "1", "--epochs", "20", "--threads", "1",
                "--class-weights", name, "-o", model)
            found[name] = run("predict", model, self.folder / "rare.svm").stdout.split().count("1")
        self.assertGreater(found["balanced"], found["none"])
        self.assertGreater(found["balanced"], 100)
        for wrong in (["--class-weights", "heavy"], ["--patience", "0"], ["--validation", "1"], ["--labels", "sets"],
                      ["--implicit"], ["--data", "x.svm", "--labels", "sets", "--class-weights", "balanced"]):
            run(*self.train, *wrong, code=2)

    def test_labels_of_text(self):
        draw, model = random.Random(6), self.folder / "m.safetensors"
        with open(self.folder / "sets.svm", "w") as s, open(self.folder / "numbers.svm", "w") as n:
            for i in range(400):
                words = sorted(draw.sample(range(1, 31), 6))
                features = " ".join(f"{w}:1" for w in words) + "\n"
                s.write(",".join(str(k) for k in range(5) if any(w % 5 == k for w in words)) + " " + features)
                n.write(f"{sum(w % 5 for w in words) / 10} " + features)
        options = ["--hidden", "32", "--density", "1", "--epochs", "30", "--batch", "20", "--threads", "1", "-o", model]
        options += ["--validation", "0.2"]
        train = ["train", "--data", self.folder / "sets.svm", "--labels", "sets", *options]
        out = run(*train, "--learning-rate", "0.01").stdout
        self.assertGreater(float(re.search(r"test accuracy ([\d.]+)%", out)[1]), 93)
        out = run("train", "--data", self.folder / "sets.svm", "--resume", model, "--epochs", "31", "-o", model,
                  "--validation", "0.2").stdout  # what the labels are is in the file
        self.assertIn("epoch 31/31", out)
        out = run("train", "--data", self.folder / "numbers.svm", "--labels", "numbers", *options, "--learning-rate", "0.01").stdout
        self.assertNotIn("nan", out)
        self.assertLess(float(re.search(r"RMSE ([\d.]+)", out)[1]), 0.2)  # of numbers whose deviation is 0.33

    def test_ratings(self):
        draw, model, log = random.Random(7), self.folder / "m.safetensors", self.folder / "log"
        with open(self.folder / "ratings.csv", "w") as f:
            f.write("userId,movieId,rating,timestamp\n")
            for user in range(200):  # of two kinds, who like other items
                for item in draw.sample(range(40), 12):
                    likes = item % 2 == user % 2
                    f.write(f"{user},{item * 10},{(4.5 if likes else 1.5) + draw.choice((-0.5, 0, 0.5))},0\n")
        options = ["train", "--data", self.folder / "ratings.csv", "--hidden", "8", "--density", "1", "--batch", "20", "--threads",
                   "1", "--learning-rate", "0.01", "-o", model, "--log", log]
        out = run(*options, "--epochs", "40", "--held-out", "0.2").stdout
        self.assertIn("200 samples", out)
        self.assertLess(float(re.search(r"RMSE ([\d.]+)", out)[1]), 1.0)  # of ratings whose deviation is 1.55
        with open(self.folder / "u.data", "w") as f:
            for user in range(200):
                for item in draw.sample(range(user % 2, 60, 2), 10):
                    f.write(f"{user}\t{item}\t1\t0\n")
        options[2] = self.folder / "u.data"
        run(*options, "--implicit", "--epochs", "40", "--held-out", "0.2", "--validation", "0.1", "--patience", "10")
        end = json.loads(log.read_text().splitlines()[-1])
        # Of 50 items that a user does not have yet 20 are right; by chance 40 in 100 of the hidden would be found.
        self.assertGreater(end["recall_at_20"], 0.8)
        self.assertGreater(end["ndcg_at_20"], 0.2)
        (self.folder / "bad.data").write_text("1\t2\t3\n1\tx\t3\n")
        self.assertIn("line 2, column 3", run("train", "--data", self.folder / "bad.data", code=3).stderr)

    def test_sparse_methods_and_report(self):
        import html.parser

        for method in ("static", "set", "rigl", "gmp", "l1"):
            model, name = self.folder / "m.safetensors", self.folder / "<script>alert(1)<script>&.html"
            run(*self.train, "--epochs", "4", "--sparse-method", method, "--edit-interval", "5", "--l1-proximal", "0.1",
                "-o", model, "--report", name)
            out = run("info", model).stdout
            self.assertRegex(out, r"\b0\.3" if method != "l1" else r"linear1")
            page = name.read_text()
            name.unlink()

            class Reader(html.parser.HTMLParser):
                tags = []

                def handle_starttag(self, tag, attributes):
                    self.tags.append((tag, dict(attributes)))

            reader = Reader()
            reader.tags = []
            reader.feed(page)
            tags = [tag for tag, _ in reader.tags]
            self.assertNotIn("script", tags)
            self.assertEqual(tags.count("img"), 6)  # before and after of three layers
            self.assertEqual(tags.count("svg"), 3)
            self.assertEqual(tags.count("polyline"), 2 + 2 + 3)
            for tag, attributes in reader.tags:
                for value in attributes.values():
                    self.assertNotIn("//", (value or "").split("base64,")[0])
                if tag == "img":
                    self.assertTrue(attributes["src"].startswith("data:image/bmp;base64,"))
            for op in ("gemm", "update", *(("edit",) if method != "static" else ())):
                self.assertIn(f"<td>{op}</td>", page)
            self.assertIn("alert(1)", page)  # shown, as text
        run(*self.train, "--epochs", "1", "--report", "/nowhere/r.html", "-o", model, code=1)
        run(*self.train, "--sparse-method", "best", code=2)
        run(*self.train, "--n-m", "4:2", code=2)
        for method in "set", "rigl", "gmp":
            run(*self.train, "--epochs", "1", "--n-m", "1:4", "--sparse-method", method, "-o", model)
        run(*self.train, "--epochs", "1", "--n-m", "1:4", "-o", model)

    def test_convert(self):
        first, second = self.folder / "a.npz", self.folder / "b.mtx"
        run("convert", DATA / "general.mtx", first)
        run("convert", "--transpose", "--dtype", "f32", first, second)
        self.assertEqual(second.read_text().splitlines()[1].split()[:2], ["11", "17"])
        self.assertIn("matrix 11 x 17", run("info", second).stdout)
        run("convert", "--transpose", second, self.folder / "c.mtx")
        back = [line.split() for line in (self.folder / "c.mtx").read_text().splitlines()[2:]]
        given = [line.split() for line in (DATA / "general.mtx").read_text().splitlines() if not line.startswith("%")][1:]
        key = lambda e: (int(e[0]), int(e[1]), float(e[2]))
        self.assertEqual(sorted(map(key, back)), sorted(map(key, given)))
        self.assertIn("bf16", run("convert", "--dtype", "bf16", first, self.folder / "d.npz", code=1).stderr)
        self.assertIn("rows without nonzeros 1", run("info", DATA / "csr.npz").stdout)

    def test_convert_larger_than_memory(self):
        """Columns before rows, so that entries have to be sorted."""
        source, target = self.folder / "large.mtx", self.folder / "large.safetensors"
        entries = [(r, c) for c in range(300) for r in range((7 * c) % 11, 900, 11)]
        source.write_text(f"%%MatrixMarket matrix coordinate real general\n900 300 {len(entries)}\n" +
                          "".join(f"{r + 1} {c + 1} {(r - c) / 8}\n" for r, c in entries))
        run("convert", "--memory-budget", "4MB", "--dtype", "f32", source, target)
        self.assertIn("matrix 900 x 300", run("info", target).stdout)
        run("convert", target, self.folder / "back.mtx")
        back = [line.split() for line in (self.folder / "back.mtx").read_text().splitlines()[2:]]
        self.assertEqual([(int(r) - 1, int(c) - 1, float(v)) for r, c, v in back],
                         [(r, c, (r - c) / 8) for r, c in sorted(entries)])
        run("convert", "--memory-budget", "4MB", "--store", "adam", source, self.folder / "store")
        self.assertEqual(sorted(f.name for f in (self.folder / "store").iterdir()), ["header", "pattern", "values.0", "values.1"])
        self.assertFalse(list(self.folder.glob("*.matrix.safetensors")))
        run("convert", "--store", "adam", "--transpose", source, target, code=2)


class Gpu(unittest.TestCase):
    """Trained on a GPU (in the tests a fake one), evaluated on the CPU."""
    setUp, tearDown = Command.setUp, Command.tearDown

    def test_train_resume_eval(self):
        if "not usable" in run("devices").stdout:
            self.skipTest("no GPU")
        on_gpu, on_cpu = self.folder / "gpu.safetensors", self.folder / "cpu.safetensors"
        options = [*self.train, "--batch", "64", "--sparse-method", "rigl", "--edit-interval", "5", "--epochs"]
        for device, model in (("cuda", on_gpu), ("cpu", on_cpu)):
            run(*options, "1", "--device", device, "-o", model)
            run("train", "--data", self.folder, "--device", device, "--resume", model, "--epochs", "2", "-o", model)
        loss = lambda model, device: float(re.search(
            r"loss ([\d.]+)", run("eval", model, "--data", self.folder, "--device", device).stdout)[1])
        self.assertAlmostEqual(loss(on_gpu, "cpu"), loss(on_cpu, "cpu"), places=2)
        self.assertAlmostEqual(loss(on_gpu, "cuda"), loss(on_gpu, "cpu"), places=4)
        images = self.folder / "t10k-images-idx3-ubyte"
        self.assertEqual(run("predict", on_gpu, images, "--device", "cuda").stdout, run("predict", on_gpu, images).stdout)


unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
