# SPDX-License-Identifier: Apache-2.0
"""TensorFlow's SparseTensor and CSR products; dW is the gradient that its SparseTensor product computes."""
import os

import numpy as np

import peer


def load():
    global tf, csr_ops
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    import tensorflow as tf
    from tensorflow.python.ops.linalg.sparse import sparse_csr_matrix_ops as csr_ops

    tf.config.threading.set_intra_op_parallelism_threads(peer.THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return f"TensorFlow {tf.__version__}"


def product(rows, columns, values, shape, dense, adjoint=False):
    indices = np.stack([rows, columns], 1).astype(np.int64)
    matrix = tf.SparseTensor(indices, values, shape)
    call = tf.function(lambda v, d: tf.sparse.sparse_dense_matmul(tf.SparseTensor(matrix.indices, v, shape), d,
                                                                  adjoint_a=adjoint))
    return lambda: call(matrix.values, dense)


def csr_product(rows, columns, values, shape, dense):
    indices = np.stack([rows, columns], 1).astype(np.int64)
    matrix = csr_ops.sparse_tensor_to_csr_sparse_matrix(indices, values, np.asarray(shape, np.int64))
    return lambda: csr_ops.sparse_matrix_mat_mul(matrix, dense)  # tf.function does not know its shape


def prepare(case):
    x, y = tf.constant(case.x), tf.constant(case.y)
    shape = (case.out, case.in_)
    whole = lambda result: result.numpy()
    if case.op == "forward":
        coo = case.rows, case.columns, case.values, shape
        return [("coo", product(*coo, x), whole), ("csr", csr_product(*coo, x), whole)]
    if case.op == "dx":
        offsets, columns, values = case.turned()
        rows = np.repeat(np.arange(case.in_, dtype=np.int32), np.diff(offsets))
        turned = rows, columns, values, (case.in_, case.out)
        return [("adjoint", product(case.rows, case.columns, case.values, shape, y, True), whole),
                ("turned-coo", product(*turned, y), whole), ("turned-csr", csr_product(*turned, y), whole)]
    if not case.dense_room:  # the gradient gathers [nonzeros, batch] twice
        return []
    rows, columns = tf.constant(case.rows), tf.constant(case.columns)
    call = tf.function(lambda a, b: tf.reduce_sum(tf.gather(a, rows) * tf.gather(b, columns), axis=1))
    return [("gather", lambda: call(y, x), whole)]


peer.serve(load, prepare)
