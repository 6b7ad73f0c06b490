"""Output without end is cut."""

while True:
    print("5" * 2**16)
