"""No file opens by its handle."""

handle = ctypes.create_string_buffer(128)
handle[0] = 100
mount = ctypes.c_int()
if call(303, 264, -100, b"/", handle, ctypes.byref(mount), 0) >= 0:
    escaped("name_to_handle_at")
if call(304, 265, -100, handle, 0) >= 0:
    escaped("open_by_handle_at")
