"""What the command line does, one file a command; `baiwen.cli` imports the one asked for."""
