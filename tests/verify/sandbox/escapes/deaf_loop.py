"""A loop that ignores every signal ends all the same."""
# limits: cpu=1, wall=30.0
# ends: cpu|exit

import signal

for number in range(1, 65):
    attempt(signal.signal, number, signal.SIG_IGN)
while True:
    pass
