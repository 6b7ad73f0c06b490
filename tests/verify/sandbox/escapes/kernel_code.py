"""No BPF, no module, no kexec, no perf, no userfaultfd."""

buffer = ctypes.create_string_buffer(256)
for name, x86, arm in (("bpf", 321, 280), ("init_module", 175, 105), ("kexec_load", 246, 104),
                       ("perf_event_open", 298, 241), ("userfaultfd", 323, 282),
                       ("syslog", 103, 116), ("quotactl", 179, 60)):  # fmt: skip
    if call(x86, arm, 0, buffer, 128, -1, 0) >= 0:
        escaped(name)
