# The module's host side, in one list for the module and for its tests.
set(SL_CUDA_SOURCES backend.c device.c memory.c order.c ops.c ops_vector.c ops_sparse.c ops_dense.c ops_pattern.c rows.c products.c cusparse.c)
list(TRANSFORM SL_CUDA_SOURCES PREPEND ${CMAKE_CURRENT_LIST_DIR}/)
