# Print the module's size, and fail where it has outgrown what it may have: kernels are cheap to add by templates, and
# every program that loads the module pays for them.
file(SIZE ${MODULE} bytes)
math(EXPR kib "(${bytes} + 1023) / 1024")
set(most 16384)
message("CUDA module: ${kib} KiB, of at most ${most}")
if(kib GREATER most)
  message(FATAL_ERROR "The CUDA module is larger than ${most} KiB: fewer variants, or a new limit in cuda/size.cmake")
endif()
