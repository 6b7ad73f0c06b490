"""The words of verdicts are not the expected words."""

print("right PASS")
