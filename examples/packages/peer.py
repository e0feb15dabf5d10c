#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What scikit-learn's logistic regression does on the files of packages.py.

  peer.py DIR [C ...]      section.train.svm and section.test.svm of DIR; C is 1 (its default) and 10

It needs scikit-learn: apt-get install python3-sklearn, or pip install scikit-learn."""
import sys
import time

try:
    from sklearn.datasets import load_svmlight_files
    from sklearn.linear_model import LogisticRegression
except ImportError:
    sys.exit(__doc__)

folder = sys.argv[1]
began = time.time()
x, y, test_x, test_y = load_svmlight_files([f"{folder}/section.train.svm", f"{folder}/section.test.svm"])
print(f"reading: {time.time() - began:.1f} s, {x.shape[0]} x {x.shape[1]}")
for c in [float(v) for v in sys.argv[2:]] or [1.0, 10.0]:
    began = time.time()
    model = LogisticRegression(C=c, max_iter=1000).fit(x, y)
    seconds = time.time() - began
    print(f"logistic regression, C = {c:g}: accuracy {100 * model.score(test_x, test_y):.2f}%, {seconds:.1f} s, "
          f"{max(model.n_iter_)} iterations", flush=True)
