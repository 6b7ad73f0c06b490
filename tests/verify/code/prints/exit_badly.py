"""The right words and a bad end are no answer."""

a, b = map(int, input().split())
print(a + b)
raise SystemExit(3)
