"""Limits and priorities of the user's other processes stay."""

import resource

victim = facts["victim"]
attempt(resource.prlimit, victim, resource.RLIMIT_NOFILE, (0, 0))
attempt(os.setpriority, os.PRIO_PROCESS, victim, 19)
attempt(os.setpriority, os.PRIO_USER, os.getuid(), 19)
attempt(os.sched_setaffinity, victim, {0})
