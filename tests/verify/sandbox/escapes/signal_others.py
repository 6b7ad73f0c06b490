"""The parent and the user's other processes get no signal."""

import signal

for process in (os.getppid(), facts["parent"], facts["victim"], -facts["victim"]):
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP):
        if process not in (0, 1):
            attempt(os.kill, process, number)
pidfd = call(434, 434, facts["victim"], 0)
if pidfd >= 0:
    call(424, 424, pidfd, 9, None, 0)
