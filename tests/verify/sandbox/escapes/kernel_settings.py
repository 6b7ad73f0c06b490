"""Settings of the kernel and the fate of processes stay."""

for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sysrq-trigger",
             "/proc/sys/vm/drop_caches", "/sys/kernel/uevent_helper", "/proc/sys/user/max_user_namespaces",
             "/sys/fs/cgroup/release_agent"):  # fmt: skip
    if attempt(lambda path=path: os.write(os.open(path, os.O_WRONLY), b"1\n")):
        escaped(path)
if attempt(lambda: os.write(os.open("/proc/self/oom_score_adj", os.O_WRONLY), b"-900\n")):
    escaped("spared from the out-of-memory killer")
