"""No io_uring."""

buffer = ctypes.create_string_buffer(256)
if call(425, 425, 8, buffer) >= 0:
    escaped("io_uring_setup")
