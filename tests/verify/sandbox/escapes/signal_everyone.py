"""A signal to all processes reaches none outside."""

import signal

signal.signal(signal.SIGTERM, signal.SIG_IGN)
attempt(os.kill, -1, signal.SIGTERM)
attempt(os.kill, -1, signal.SIGKILL)
